//! The steps of a tile: who comes next, and four ratings side by side.

use super::{SgdRatings, SgdRow, SgdRows, SgdStep};
use crate::kernel::vector::{LANES, Vector};

/// How many users are at hand.
const PLACES: usize = 4;

/// A user at hand, and where the ratings lie that it has not yet given.
#[derive(Clone, Copy, Default)]
struct Place {
    user: usize,
    next: usize,
    end: usize,
}

/// What moves.
pub(super) struct Steps<'a> {
    pub(super) users: Band<'a>,
    pub(super) items: Band<'a>,
    pub(super) step: SgdStep,
    /// Squared errors so far.
    pub(super) error: f64,
}

impl Steps<'_> {
    #[inline(always)]
    pub(super) fn all<V: Vector, const ADAPTIVE: bool>(
        mut self,
        v: V,
        vectors: usize,
        ratings: SgdRatings<'_>,
        mut slope: impl Slopes,
    ) -> f64 {
        let rates = Rates::new(v, self.step);
        let SgdRatings {
            users,
            lengths,
            items,
            targets,
        } = ratings;
        let mut end = 0;
        let mut runs = users.iter().zip(lengths).map(|(&user, &less)| {
            let next = end;
            end += usize::from(less) + 1;
            Place {
                user: usize::from(user),
                next,
                end,
            }
        });
        let mut places = [Place::default(); PLACES];
        let mut taken = 0;
        for place in &mut places {
            if let Some(run) = runs.next() {
                *place = run;
                taken += 1;
            }
        }
        while taken > 0 {
            // A place that is done with stands at its end for good, once there are no more users.
            let to = places.map(|place| targets.get(place.next).copied().unwrap_or_default());
            let cols = places.map(|place| items.get(place.next).copied().unwrap_or_default());
            let rows = places.map(|place| place.user);
            let [a, b, c, d] = cols;
            let cols = cols.map(usize::from);
            let apart = (a != b) & (a != c) & (a != d) & (b != c) & (b != d) & (c != d);
            if apart & (taken == PLACES) {
                self.turn::<V, _, PLACES, ADAPTIVE>(
                    (v, vectors, rates),
                    rows,
                    cols,
                    to,
                    &mut slope,
                );
            } else {
                for j in 0..PLACES {
                    if places[j].next < places[j].end {
                        self.turn::<V, _, 1, ADAPTIVE>(
                            (v, vectors, rates),
                            [rows[j]],
                            [cols[j]],
                            [to[j]; PLACES],
                            &mut slope,
                        );
                    }
                }
            }
            for place in places.iter_mut().filter(|place| place.next < place.end) {
                place.next += 1;
                if let Some(&item) = items.get(place.next + 1) {
                    self.items.prefetch(v, vectors, item.into());
                }
                if place.next == place.end {
                    match runs.next() {
                        Some(run) => {
                            *place = run;
                            self.users.prefetch(v, vectors, run.user + 4);
                        }
                        None => taken -= 1,
                    }
                }
            }
        }
        self.error
    }

    /// Steps for ratings that have no row in common, side by side.
    #[inline(always)]
    fn turn<V: Vector, S: Slopes, const N: usize, const ADAPTIVE: bool>(
        &mut self,
        (v, vectors, rates): (V, usize, Rates<V::Lanes>),
        users: [usize; N],
        items: [usize; N],
        targets: [f32; PLACES],
        slope: &mut S,
    ) {
        let mut product = [v.splat(0.0); PLACES];
        let mut lengths = [[v.splat(0.0); PLACES]; 2];
        for j in 0..N {
            let p = self.users.row(vectors, users[j]);
            let q = self.items.row(vectors, items[j]);
            for (a, b) in p.iter().zip(q.iter()) {
                let (a, b) = (v.load(a), v.load(b));
                product[j] = v.mul_add(a, b, product[j]);
                if ADAPTIVE {
                    lengths[0][j] = v.mul_add(a, a, lengths[0][j]);
                    lengths[1][j] = v.mul_add(b, b, lengths[1][j]);
                }
            }
        }
        let product = v.sum_four(product);

        // A bias is one more factor, whose partner is 1. In each vector of sixteen lanes the first eight are of factors, the
        // others of biases; of either, four are of users and four of items.
        let mut records = [[0.0; 4]; 8];
        for j in 0..PLACES {
            records[j] = self.users.rows[users[j.min(N - 1)]].0;
            records[j + 4] = self.items.rows[items[j.min(N - 1)]].0;
        }
        let [mut squares, biases_and_shares] = v.columns(records);
        let (bias, share) = (
            v.low_twice(biases_and_shares),
            v.high_twice(biases_and_shares),
        );
        let product = v.quarters(product, product);
        let prediction = v.add(product, v.add(bias, v.swap_quarters(bias)));
        let target = v.quarters(targets, targets);
        let slope = slope.at::<V, N>(v, prediction, target);
        let mut errors = [0.0; LANES];
        v.store(v.neg_mul_add(target, v.splat(1.0), prediction), &mut errors);
        for &error in &errors[..N] {
            self.error += f64::from(error) * f64::from(error);
        }
        let of_row = v.mul_add(share, rates.row_ridge, rates.ridge);
        let mut rate = rates.rate;
        if ADAPTIVE {
            rate = v.div(rate, v.sqrt(squares));
            // The length of slope q + ridge p, which rounding may take below zero.
            let (pp, qq) = (v.sum_four(lengths[0]), v.sum_four(lengths[1]));
            let own = v.halves(v.quarters(pp, qq), v.mul(bias, bias));
            let other = v.halves(v.quarters(qq, pp), v.splat(1.0));
            let product = v.halves(product, bias);
            let cross = v.mul(v.add(of_row, of_row), product);
            let length = v.mul(v.mul(of_row, of_row), own);
            let length = v.mul_add(slope, v.mul_add(slope, other, cross), length);
            squares = v.mul_add(v.not_negative(length), rates.share, squares);
        }
        let (keep, by) = (
            v.neg_mul_add(rate, of_row, v.splat(1.0)),
            v.mul(rate, slope),
        );
        let bias = v.neg_mul_add(by, v.splat(1.0), v.mul(keep, bias));
        let bias = v.high_twice(bias);
        let records = v.records([squares, v.halves(bias, share)]);
        let (mut keeps, mut bys) = ([0.0; LANES], [0.0; LANES]);
        v.store(keep, &mut keeps);
        v.store(by, &mut bys);

        for j in 0..N {
            let p = self.users.row(vectors, users[j]);
            let q = self.items.row(vectors, items[j]);
            let keep = [v.splat(keeps[j]), v.splat(keeps[j + 4])];
            let by = [v.splat(bys[j]), v.splat(bys[j + 4])];
            for (p, q) in p.iter_mut().zip(q.iter_mut()) {
                let (a, b) = (v.load(p), v.load(q));
                v.store(v.neg_mul_add(by[0], b, v.mul(keep[0], a)), p);
                v.store(v.neg_mul_add(by[1], a, v.mul(keep[1], b)), q);
            }
            self.users.rows[users[j]] = SgdRow(records[j]);
            self.items.rows[items[j]] = SgdRow(records[j + 4]);
        }
    }
}

/// The rows of a band, by vectors.
pub(super) struct Band<'a> {
    lines: &'a mut [[f32; LANES]],
    rows: &'a mut [SgdRow],
}

impl<'a> Band<'a> {
    pub(super) fn new(side: SgdRows<'a>, vectors: usize) -> Band<'a> {
        let (lines, rest) = side.flat.as_chunks_mut();
        let padded = rest.is_empty() && lines.len() == side.rows.len() * vectors;
        assert!(padded, "padded rows");
        Band {
            lines,
            rows: side.rows,
        }
    }

    #[inline(always)]
    fn row(&mut self, vectors: usize, row: usize) -> &mut [[f32; LANES]] {
        &mut self.lines[row * vectors..][..vectors]
    }

    #[inline(always)]
    fn prefetch<V: Vector>(&self, v: V, vectors: usize, row: usize) {
        for line in self.lines.iter().skip(row * vectors).take(vectors) {
            v.prefetch(line);
        }
    }
}

/// Slopes of the loss for the ratings of a turn, whose predictions and targets fill each quarter.
pub(super) trait Slopes {
    fn at<V: Vector, const N: usize>(
        &mut self,
        v: V,
        predictions: V::Lanes,
        targets: V::Lanes,
    ) -> V::Lanes;
}

/// So many times the difference.
pub(super) struct Squares(pub(super) f32);

impl Slopes for Squares {
    #[inline(always)]
    fn at<V: Vector, const N: usize>(
        &mut self,
        v: V,
        predictions: V::Lanes,
        targets: V::Lanes,
    ) -> V::Lanes {
        v.mul(
            v.splat(self.0),
            v.neg_mul_add(targets, v.splat(1.0), predictions),
        )
    }
}

/// As this says.
pub(super) struct Any<'a>(pub(super) &'a mut dyn FnMut(f32, f32) -> f32);

impl Slopes for Any<'_> {
    #[inline(always)]
    fn at<V: Vector, const N: usize>(
        &mut self,
        v: V,
        predictions: V::Lanes,
        targets: V::Lanes,
    ) -> V::Lanes {
        let (mut p, mut r, mut slopes) = ([0.0; LANES], [0.0; LANES], [0.0; 4]);
        v.store(predictions, &mut p);
        v.store(targets, &mut r);
        for j in 0..N {
            slopes[j] = (self.0)(p[j], r[j]);
        }
        v.quarters(slopes, slopes)
    }
}

/// What all steps have in common, in lanes as they are laid out in a turn.
#[derive(Clone, Copy)]
struct Rates<L> {
    /// Learning rates.
    rate: L,
    /// Ridges of a rating.
    ridge: L,
    /// Ridges of a row.
    row_ridge: L,
    /// What a gradient's squared length counts for.
    share: L,
}

impl<L> Rates<L> {
    #[inline(always)]
    fn new<V: Vector<Lanes = L>>(v: V, step: SgdStep) -> Rates<L> {
        let bias_rate = if step.biases { step.rate } else { 0.0 };
        Rates {
            rate: v.halves(v.splat(step.rate), v.splat(bias_rate)),
            ridge: v.halves(v.splat(step.ridge[0]), v.splat(step.bias_ridge[0])),
            row_ridge: v.halves(v.splat(step.ridge[1]), v.splat(step.bias_ridge[1])),
            share: v.halves(v.splat(1.0 / step.rank as f32), v.splat(1.0)),
        }
    }
}
