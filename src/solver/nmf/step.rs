//! How one row of a non-negative factorization moves.

use super::super::alternating;
use super::super::row_step::{Cost, Fixed, Own, OwnMut, RowStep};
use super::{Divergence, FLOOR, Missing, Nmf, Rule};
use crate::error::Result;
use crate::kernel::{self, Isa, LANES, Segment};
use crate::matrix::Row;

/// What a row has gathered over its ratings.
pub struct Sums {
    /// The part of the gradient that lets factors grow: `sum of m q`, or `sum of m / p q`.
    numerator: Vec<f32>,
    /// The part that lets them shrink, where only ratings count: `sum of p q`, or `sum of q`.
    denominator: Vec<f32>,
    /// The normal equations, for HALS where only ratings count.
    equations: Vec<f32>,
    panel: Vec<f32>,
    weights: Vec<f32>,
    /// The row as it stood.
    before: Vec<f64>,
    /// What each of its factors is divided by.
    divisors: Vec<f64>,
}

impl Nmf {
    fn solves_equations(&self) -> bool {
        self.rule == Rule::Hals && self.missing == Missing::Skip
    }

    /// Memory of one row's sums, in bytes.
    pub(super) fn sums_bytes(&self) -> u64 {
        let equations = match self.solves_equations() {
            true => self.equations.sums_len() + self.equations.panel_len(),
            false => 0,
        };
        // Two rows of f32, and two of f64.
        let vectors = 2 * self.rank.next_multiple_of(LANES) + 4 * self.rank;
        ((equations + vectors + 2 * alternating::PART) * size_of::<f32>()) as u64
    }

    /// Fills in what each factor is divided by, for its row as it stood: what the whole of the other side adds, or the
    /// ratings.
    fn denominators(&self, isa: Isa, whole: &[f64], sums: &mut Sums) {
        let into = &mut sums.divisors;
        match (self.missing, self.divergence) {
            (Missing::Skip, _) => {
                for (into, &x) in into.iter_mut().zip(&sums.denominator) {
                    *into = x.into();
                }
            }
            (Missing::Zero, Divergence::Squared) => {
                kernel::symmetric_product(isa, whole, &sums.before, into);
            }
            (Missing::Zero, Divergence::KullbackLeibler) => into.copy_from_slice(whole),
        }
    }

    fn multiply(&self, isa: Isa, own: &mut [f32], whole: &[f64], sums: &mut Sums) {
        self.denominators(isa, whole, sums);
        for (at, x) in own.iter_mut().enumerate() {
            // Starting factors of zero may leave nothing to divide by.
            let divisor = sums.divisors[at].max(f64::MIN_POSITIVE);
            let ratio = f64::from(sums.numerator[at]) / divisor;
            *x = at_floor(sums.before[at] * ratio);
        }
    }

    /// Minimises over one factor after another, each seeing those before it.
    fn descend(&self, own: &mut [f32], whole: &[f64], sums: &mut Sums) {
        let (rank, pitch) = (self.rank, self.equations.pitch());
        let equations = self.solves_equations().then_some(&sums.equations);
        let entry = |i: usize, j: usize| match equations {
            // Only the upper triangle of normal equations counts.
            Some(sums) => f64::from(sums[i.min(j) * pitch + i.max(j)]),
            None => whole[i * rank + j],
        };
        for at in 0..rank {
            let target = match equations {
                Some(sums) => sums[self.equations.right(at)],
                None => sums.numerator[at],
            };
            let product: f64 = (0..rank).map(|j| entry(at, j) * sums.before[j]).sum();
            // A factor that the other side has given up is left alone: its step would be without measure, and users or
            // items may take it up again from where it is.
            let step = match entry(at, at) > GIVEN_UP {
                true => (f64::from(target) - product) / entry(at, at),
                false => 0.0,
            };
            own[at] = at_floor(sums.before[at] + step);
            sums.before[at] = own[at].into();
        }
    }
}

/// The squared length of a column of factors that are all about at the floor.
const GIVEN_UP: f64 = FLOOR as f64;

fn at_floor(x: f64) -> f32 {
    (x as f32).max(FLOOR)
}

/// The step of one side, with what the whole of the other adds.
pub(super) struct Half<'a> {
    pub nmf: &'a Nmf,
    pub whole: Vec<f64>,
}

impl RowStep for Half<'_> {
    type Shared = ();
    type Sums = Sums;

    fn sums(&self) -> Sums {
        let vector = vec![0.0; self.nmf.rank.next_multiple_of(LANES)];
        let room = |len: usize| vec![0.0; if self.nmf.solves_equations() { len } else { 0 }];
        Sums {
            numerator: vector.clone(),
            denominator: vector,
            equations: room(self.nmf.equations.sums_len()),
            panel: room(self.nmf.equations.panel_len()),
            weights: Vec::new(),
            before: vec![0.0; self.nmf.rank],
            divisors: vec![0.0; self.nmf.rank],
        }
    }

    fn shared(&self, _fixed: &Fixed<'_>) {}

    fn begin(&self, sums: &mut Sums) {
        sums.numerator.fill(0.0);
        sums.denominator.fill(0.0);
        sums.equations.fill(0.0);
    }

    fn accumulate(&self, own: Own<'_>, segment: Row<'_>, fixed: &Fixed<'_>, sums: &mut Sums) {
        let Sums {
            numerator,
            denominator,
            equations,
            panel,
            weights,
            ..
        } = sums;
        let (flat, cols) = (fixed.factors.flat(), segment.cols);
        if self.nmf.solves_equations() {
            let segment = Segment {
                cols,
                targets: segment.values,
                weights: None,
            };
            self.nmf
                .equations
                .accumulate(fixed.isa, flat, segment, equations, panel);
            return;
        }
        let add = |weights: &[f32], sum: &mut [f32]| {
            kernel::add_scaled_rows(fixed.isa, weights, flat, cols, sum);
        };
        weights.resize(segment.len(), 0.0);
        match self.nmf.divergence {
            Divergence::Squared => {
                add(segment.values, numerator);
                if self.nmf.missing == Missing::Skip {
                    fixed.predict(own, segment, weights);
                    add(weights, denominator);
                }
            }
            Divergence::KullbackLeibler => {
                fixed.predict(own, segment, weights);
                for (p, rating) in weights.iter_mut().zip(segment.values) {
                    *p = rating / p.max(FLOOR * FLOOR);
                }
                add(weights, numerator);
                if self.nmf.missing == Missing::Skip {
                    weights.fill(1.0);
                    add(weights, denominator);
                }
            }
        }
    }

    fn merge(&self, next: &Sums, sums: &mut Sums) {
        let vectors = [
            (&mut sums.numerator, &next.numerator),
            (&mut sums.denominator, &next.denominator),
            (&mut sums.equations, &next.equations),
        ];
        for (sum, next) in vectors {
            for (x, y) in sum.iter_mut().zip(next) {
                *x += y;
            }
        }
    }

    fn finish(
        &self,
        own: OwnMut<'_>,
        ratings: usize,
        fixed: &Fixed<'_>,
        _shared: &(),
        sums: &mut Sums,
    ) -> Result<()> {
        let own = &mut own.factors[..self.nmf.rank];
        for (before, &x) in sums.before.iter_mut().zip(&*own) {
            *before = x.into();
        }
        match self.nmf.rule {
            // Nothing speaks for this row.
            _ if ratings == 0 => own.fill(FLOOR),
            Rule::Multiplicative => self.nmf.multiply(fixed.isa, own, &self.whole, sums),
            Rule::Hals => self.nmf.descend(own, &self.whole, sums),
        }
        Ok(())
    }

    fn cost(&self) -> &impl Cost {
        self.nmf
    }
}

impl Cost for Nmf {
    #[inline(always)]
    fn loss(&self, prediction: f32, target: f32) -> f64 {
        self.divergence
            .of(self.missing, prediction.into(), target.into())
    }

    #[inline(always)]
    fn add_losses<const N: usize>(
        &self,
        predictions: &[f32; N],
        targets: &[f32; N],
        sums: &mut [f64; N],
    ) {
        // Constants, so that each is a loop without choices.
        const ALL_CELLS: (Divergence, Missing) = (Divergence::Squared, Missing::Zero);
        const RATINGS: (Divergence, Missing) = (Divergence::Squared, Missing::Skip);
        match (self.divergence, self.missing) {
            ALL_CELLS => add(ALL_CELLS, predictions, targets, sums),
            RATINGS => add(RATINGS, predictions, targets, sums),
            other => add(other, predictions, targets, sums),
        }
    }

    fn penalty(&self, _own: Own<'_>, _ratings: usize) -> f64 {
        0.0
    }
}

#[inline(always)]
fn add<const N: usize>(
    (divergence, missing): (Divergence, Missing),
    predictions: &[f32; N],
    targets: &[f32; N],
    sums: &mut [f64; N],
) {
    for c in 0..N {
        sums[c] += divergence.of(missing, predictions[c].into(), targets[c].into());
    }
}
