//! Every row solved exactly: weighted alternating least squares over all cells.
//!
//! A row's equations are `(unobserved_weight G + sum w q q^T + ridge) p = sum w q`, with the Gram matrix G of the fixed side; they are
//! solved by Cholesky.
//! Cost: n (k^2 + k) flop a side, k^3 / 3 a row, and m k^2 for the Gram matrix of m rows. Reads: by-item and by-user ratings
//! once each, and one row of the fixed side for each rating.

use super::{AllCells, Implicit, Preferences, REGULARIZATION, SEARCHED};
use crate::error::Result;
use crate::kernel::{self, NormalEquations, Segment};
use crate::matrix::{Row, Shape};
use crate::solver::alternating::PART;
use crate::solver::block_rows::SUMS_AT_ONCE;
use crate::solver::row_step::{Cost, Fixed, Own, OwnMut, RowStep};
use crate::solver::sweep::{self, Sweep};
use crate::solver::{Learns, Method, Missing, Options, Solver};

/// iALS in the table of solvers.
pub const METHOD: Method = Method {
    name: "ials",
    summary: "implicit feedback: weighted alternating least squares over all cells, every row solved exactly",
    regularization: REGULARIZATION,
    missing: &[Missing::Zero],
    monotone: true,
    any_regularizer: false,
    biases: false,
    factors: true,
    spills: false,
    learns: Learns::Preferences,
    searched: SEARCHED,
    suited: |options| Options {
        positive_at: Some(4.0),
        biases: false,
        unobserved_weight: 0.3,
        ..options
    },
    build,
};

fn build(options: &Options) -> Result<Box<dyn Solver>> {
    Implicit::boxed("iALS", options, Ials::new)
}

/// The step that solves a row.
pub struct Ials {
    cost: Preferences,
    equations: NormalEquations,
    rank: usize,
}

impl Ials {
    /// Of this cost.
    pub fn new(options: &Options, cost: Preferences) -> Ials {
        Ials {
            cost,
            equations: NormalEquations::new(options.rank, false),
            rank: options.rank,
        }
    }
}

impl Sweep for Ials {
    fn memory(&self, _shape: Shape, threads: usize) -> u64 {
        let floats = self.equations.sums_len()
            + self.equations.panel_len()
            + kernel::solve_scratch_len(self.rank)
            + 2 * PART;
        (SUMS_AT_ONCE * threads) as u64 * (floats as u64 * 4)
    }
}

/// The normal equations of a row, and room to build and solve them.
pub struct Sums {
    equations: Vec<f32>,
    panel: Vec<f32>,
    scratch: Vec<f32>,
    weights: Vec<f32>,
}

impl RowStep for Ials {
    type Shared = AllCells;
    type Sums = Sums;

    fn sums(&self) -> Sums {
        Sums {
            equations: vec![0.0; self.equations.sums_len()],
            panel: vec![0.0; self.equations.panel_len()],
            scratch: vec![0.0; kernel::solve_scratch_len(self.rank)],
            weights: Vec::new(),
        }
    }

    fn shared(&self, fixed: &Fixed<'_>) -> AllCells {
        AllCells::new(fixed, self.cost.unobserved)
    }

    fn begin(&self, sums: &mut Sums) {
        sums.equations.fill(0.0);
    }

    fn accumulate(&self, _own: Own<'_>, segment: Row<'_>, fixed: &Fixed<'_>, sums: &mut Sums) {
        let Sums {
            equations,
            panel,
            weights,
            ..
        } = sums;
        weights.clear();
        weights.extend(
            segment
                .values
                .iter()
                .map(|&rating| self.cost.weight(rating)),
        );
        let segment = Segment {
            cols: segment.cols,
            targets: weights,
            // Without alpha every weight is 1.
            weights: self.cost.alpha.is_some().then_some(weights),
        };
        let flat = fixed.factors.flat();
        self.equations
            .accumulate(fixed.isa, flat, segment, equations, panel);
    }

    fn merge(&self, next: &Sums, sums: &mut Sums) {
        for (x, y) in sums.equations.iter_mut().zip(&next.equations) {
            *x += y;
        }
    }

    fn finish(
        &self,
        own: OwnMut<'_>,
        ratings: usize,
        fixed: &Fixed<'_>,
        all_cells: &AllCells,
        sums: &mut Sums,
    ) -> Result<()> {
        if ratings == 0 {
            own.clear();
            return Ok(());
        }
        let rank = self.rank;
        let equations = &mut sums.equations;
        for i in 0..rank {
            let at = self.equations.diagonal(i);
            let of_cells = &all_cells.row(i)[i..rank];
            for (x, y) in equations[at..].iter_mut().zip(of_cells) {
                *x += y;
            }
            equations[at] += self.cost.ridge(ratings);
        }
        let solution = kernel::solve(fixed.isa, rank, equations, &mut sums.scratch)
            .map_err(|_| sweep::undetermined(ratings, rank))?;
        own.factors[..rank].copy_from_slice(&solution[..rank]);
        Ok(())
    }

    fn is_exact(&self) -> bool {
        true
    }

    fn cost(&self) -> &impl Cost {
        &self.cost
    }
}
