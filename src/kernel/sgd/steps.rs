//! The steps of a tile: four ratings side by side, and the next four looked at before these have moved.

use super::{SIDE_BY_SIDE, SgdRatings, SgdRow, SgdRows, SgdStep};
use crate::kernel::vector::{LANES, Vector};

/// How many turns ahead rows are asked for.
const AHEAD: usize = 4;

/// Ratings that have no row in common.
#[derive(Clone, Copy)]
struct Turn {
    users: [u16; SIDE_BY_SIDE],
    items: [u16; SIDE_BY_SIDE],
    targets: [f32; SIDE_BY_SIDE],
}

/// What moves.
pub(super) struct Steps<'a> {
    pub(super) users: Band<'a>,
    pub(super) items: Band<'a>,
    pub(super) step: SgdStep,
    /// Squared errors so far.
    pub(super) error: f64,
}

/// How far the rows of a turn will move: of each user, then of each item, what it keeps of itself and how much of its partner is
/// added; and what goes with the rows afterwards.
#[derive(Clone, Copy)]
struct Move {
    keep: [f32; LANES],
    by: [f32; LANES],
    lengths: [f32; LANES],
    records: [[f32; 4]; 8],
}

impl Move {
    /// What goes with a row afterwards.
    #[inline(always)]
    fn row(&self, at: usize) -> SgdRow {
        SgdRow {
            numbers: self.records[at],
            length: self.lengths[at],
        }
    }
}

impl Steps<'_> {
    /// Rows have `K` vectors, or `vectors` if that is 0.
    #[inline(always)]
    pub(super) fn all<V: Vector, const K: usize, const ADAPTIVE: bool>(
        mut self,
        v: V,
        vectors: usize,
        ratings: SgdRatings<'_>,
        mut slope: impl Slopes,
    ) -> f64 {
        let rates = Rates::new(v, self.step);
        let SgdRatings {
            users,
            items,
            targets,
            in_turns,
        } = ratings;
        let (of_users, _) = users[..in_turns].as_chunks();
        let (of_items, _) = items[..in_turns].as_chunks();
        let (of_targets, _) = targets[..in_turns].as_chunks();
        // Neighbours have no row in common, so that the next turn can be looked at before this one has moved: what takes long in
        // the one overlaps with what is much work in the other.
        let mut looked: Option<(Turn, Move)> = None;
        for (at, ((&users, &items), &targets)) in
            of_users.iter().zip(of_items).zip(of_targets).enumerate()
        {
            if let (Some(users), Some(items)) = (of_users.get(at + AHEAD), of_items.get(at + AHEAD))
            {
                for j in 0..SIDE_BY_SIDE {
                    self.users.prefetch::<V, K>(v, vectors, users[j]);
                    self.items.prefetch::<V, K>(v, vectors, items[j]);
                }
            }
            let turn = Turn {
                users,
                items,
                targets,
            };
            let next =
                self.look::<V, _, SIDE_BY_SIDE, K, ADAPTIVE>((v, vectors, rates), turn, &mut slope);
            if let Some((turn, way)) = looked.replace((turn, next)) {
                self.walk::<V, SIDE_BY_SIDE, K>(v, vectors, turn, way);
            }
        }
        if let Some((turn, way)) = looked {
            self.walk::<V, SIDE_BY_SIDE, K>(v, vectors, turn, way);
        }
        for at in in_turns..targets.len() {
            let turn = Turn {
                users: [users[at]; SIDE_BY_SIDE],
                items: [items[at]; SIDE_BY_SIDE],
                targets: [targets[at]; SIDE_BY_SIDE],
            };
            let way = self.look::<V, _, 1, K, ADAPTIVE>((v, vectors, rates), turn, &mut slope);
            self.walk::<V, 1, K>(v, vectors, turn, way);
        }
        self.error
    }

    /// Looks at the first `N` ratings of a turn, which have no row in common.
    #[inline(always)]
    fn look<V: Vector, S: Slopes, const N: usize, const K: usize, const ADAPTIVE: bool>(
        &mut self,
        (v, vectors, rates): (V, usize, Rates<V::Lanes>),
        turn: Turn,
        slope: &mut S,
    ) -> Move {
        let mut product = [v.splat(0.0); SIDE_BY_SIDE];
        for j in 0..N {
            let p = self.users.row::<K>(vectors, turn.users[j]);
            let q = self.items.row::<K>(vectors, turn.items[j]);
            for (a, b) in p.iter().zip(q.iter()) {
                product[j] = v.mul_add(v.load(a), v.load(b), product[j]);
            }
        }
        let product = v.sum_four(product);

        // A bias is one more factor, whose partner is 1. In each vector of sixteen lanes the first eight are of factors, the
        // others of biases; of either, four are of users and four of items.
        let of = |rows: &[SgdRow], turn: [u16; 4]| -> [SgdRow; SIDE_BY_SIDE] {
            std::array::from_fn(|j| rows[usize::from(turn[j.min(N - 1)])])
        };
        let of_users = of(self.users.rows, turn.users);
        let of_items = of(self.items.rows, turn.items);
        let mut records = [[0.0; 4]; 8];
        for j in 0..SIDE_BY_SIDE {
            records[j] = of_users[j].numbers;
            records[j + 4] = of_items[j].numbers;
        }
        let [mut squares, biases_and_shares] = v.columns(records);
        let (bias, share) = (
            v.low_twice(biases_and_shares),
            v.high_twice(biases_and_shares),
        );
        let product = v.quarters(product, product);
        let prediction = v.add(product, v.add(bias, v.swap_quarters(bias)));
        let target = v.quarters(turn.targets, turn.targets);
        let slope = slope.at::<V, N>(v, prediction, target);
        let mut errors = [0.0; LANES];
        v.store(v.neg_mul_add(target, v.splat(1.0), prediction), &mut errors);
        for &error in &errors[..N] {
            self.error += f64::from(error) * f64::from(error);
        }
        let of_row = v.mul_add(share, rates.row_ridge, rates.ridge);
        let rate = match ADAPTIVE {
            true => v.div(rates.rate, v.sqrt(squares)),
            false => rates.rate,
        };
        let (keep, by) = (
            v.neg_mul_add(rate, of_row, v.splat(1.0)),
            v.mul(rate, slope),
        );
        let mut lengths = [0.0; LANES];
        if ADAPTIVE {
            let (pp, qq) = (
                of_users.map(|row| row.length),
                of_items.map(|row| row.length),
            );
            let own = v.halves(v.quarters(pp, qq), v.mul(bias, bias));
            let other = v.halves(v.quarters(qq, pp), v.splat(1.0));
            let product = v.halves(product, bias);
            // The squared lengths of slope q + ridge p, and of what p becomes; rounding may take them below zero.
            let length = |own_part, other_part| {
                let cross = v.mul(v.add(own_part, own_part), product);
                let length = v.mul(v.mul(own_part, own_part), own);
                v.not_negative(v.mul_add(other_part, v.mul_add(other_part, other, cross), length))
            };
            squares = v.mul_add(length(of_row, slope), rates.share, squares);
            v.store(
                length(keep, v.neg_mul_add(by, v.splat(1.0), v.splat(0.0))),
                &mut lengths,
            );
        }
        let bias = v.neg_mul_add(by, v.splat(1.0), v.mul(keep, bias));
        let bias = v.high_twice(bias);
        let records = v.records([squares, v.halves(bias, share)]);
        let (mut keeps, mut bys) = ([0.0; LANES], [0.0; LANES]);
        v.store(keep, &mut keeps);
        v.store(by, &mut bys);
        Move {
            keep: keeps,
            by: bys,
            lengths,
            records,
        }
    }

    /// Moves the rows of the first `N` ratings of a turn.
    #[inline(always)]
    fn walk<V: Vector, const N: usize, const K: usize>(
        &mut self,
        v: V,
        vectors: usize,
        turn: Turn,
        way: Move,
    ) {
        for j in 0..N {
            let p = self.users.row::<K>(vectors, turn.users[j]);
            let q = self.items.row::<K>(vectors, turn.items[j]);
            let keep = [v.splat(way.keep[j]), v.splat(way.keep[j + 4])];
            let by = [v.splat(way.by[j]), v.splat(way.by[j + 4])];
            for (p, q) in p.iter_mut().zip(q.iter_mut()) {
                let (a, b) = (v.load(p), v.load(q));
                v.store(v.neg_mul_add(by[0], b, v.mul(keep[0], a)), p);
                v.store(v.neg_mul_add(by[1], a, v.mul(keep[1], b)), q);
            }
            self.users.rows[usize::from(turn.users[j])] = way.row(j);
            self.items.rows[usize::from(turn.items[j])] = way.row(j + 4);
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
    fn row<const K: usize>(&mut self, vectors: usize, row: u16) -> &mut [[f32; LANES]] {
        let row = usize::from(row);
        match K {
            1 => &mut self.lines.as_chunks_mut::<1>().0[row],
            2 => &mut self.lines.as_chunks_mut::<2>().0[row],
            4 => &mut self.lines.as_chunks_mut::<4>().0[row],
            8 => &mut self.lines.as_chunks_mut::<8>().0[row],
            _ => &mut self.lines[row * vectors..][..vectors],
        }
    }

    #[inline(always)]
    fn prefetch<V: Vector, const K: usize>(&mut self, v: V, vectors: usize, row: u16) {
        let row = self.row::<K>(vectors, row);
        for line in 0..row.len() {
            v.prefetch(row, line);
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
