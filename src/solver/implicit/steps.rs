//! Rows by a few steps of conjugate gradient from where they stand.
//!
//! A row's equations are those of the exact solver, and are not formed: `A d = unobserved_weight G d + sum w q <q, d> + ridge d` is a pass
//! over the row's ratings and a product with the Gram matrix (Takacs, Pilaszy, Tikk: Applications of the conjugate gradient
//! method for implicit feedback collaborative filtering, RecSys 2011). Each step goes to the lowest point along its direction.
//! Cost: 4 n k flop a step and side, and 2 k^2 a step and row. Reads: by-item and by-user ratings once each, and one row of
//! the fixed side twice a step for each rating.

use super::{AllCells, Implicit, Preferences, REGULARIZATION, SEARCHED};
use crate::error::Result;
use crate::kernel::{self, LANES};
use crate::matrix::Row;
use crate::solver::cg::{Unknowns, conjugate_gradient};
use crate::solver::row_step::{Cost, Fixed, OwnMut};
use crate::solver::whole::{Room, Whole, WholeRow};
use crate::solver::{Learns, Method, Missing, Options, Solver};

/// iALS by conjugate gradient in the table of solvers.
pub const METHOD: Method = Method {
    name: "ials-cg",
    summary: "the same by a few steps of conjugate gradient a row",
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
    Implicit::boxed("iALS by conjugate gradient", options, |options, cost| {
        Whole(Steps {
            cost,
            rank: options.rank,
            steps: options.cg_steps,
            factors: (0..options.rank as u32).collect(),
        })
    })
}

struct Steps {
    cost: Preferences,
    rank: usize,
    steps: usize,
    /// 0, 1, 2 ...: all rows of the Gram matrix.
    factors: Vec<u32>,
}

/// What a row's equations have beside its ratings.
struct Rest<'a> {
    fixed: &'a Fixed<'a>,
    all_cells: &'a AllCells,
    ridge: f32,
    /// 0, 1, 2 ...: all rows of the Gram matrix.
    factors: &'a [u32],
}

impl Rest<'_> {
    /// Adds `sign` times what all cells and the ridge add to `A`, times `x`.
    fn add(&self, sign: f32, x: &Unknowns<'_>, sum: &mut Unknowns<'_>, scales: &mut [f32]) {
        for (scale, x) in scales.iter_mut().zip(&*x.factors) {
            *scale = sign * x;
        }
        let scales = &scales[..self.factors.len()];
        let gram = &self.all_cells.rows;
        kernel::add_scaled_rows(self.fixed.isa, scales, gram, self.factors, sum.factors);
        sum.add_ridge(sign, (self.ridge, 0.0), x);
    }
}

impl WholeRow for Steps {
    type Shared = AllCells;

    fn cost(&self) -> &impl Cost {
        &self.cost
    }

    fn room(&self) -> [usize; 2] {
        [1, 4 * self.rank.next_multiple_of(LANES)]
    }

    fn shared(&self, fixed: &Fixed<'_>) -> AllCells {
        AllCells::new(fixed, self.cost.unobserved)
    }

    fn solve(
        &self,
        own: OwnMut<'_>,
        targets: Row<'_>,
        fixed: &Fixed<'_>,
        all_cells: &AllCells,
        room: Room<'_>,
    ) -> Result<()> {
        let ratings = targets.len();
        if ratings == 0 {
            own.clear();
            return Ok(());
        }
        let scales = &mut room.by_rating[..ratings];
        let (vectors, of_gram) = room.beside.split_at_mut(3 * own.factors.len());
        let mut vectors = vectors
            .chunks_exact_mut(own.factors.len())
            .map(|factors| Unknowns { factors, bias: 0.0 });
        let mut next = || vectors.next().expect("three vectors");
        let (mut residual, direction, image) = (next(), next(), next());
        let rest = Rest {
            fixed,
            all_cells,
            ridge: self.cost.ridge(ratings),
            factors: &self.factors,
        };
        fixed.predict(own.as_ref(), targets, scales);
        for (x, &rating) in scales.iter_mut().zip(targets.values) {
            *x = self.cost.weight(rating) * (1.0 - *x);
        }
        let p = Unknowns {
            factors: own.factors,
            bias: 0.0,
        };
        residual.sum_rows(fixed, scales, targets.cols);
        rest.add(-1.0, &p, &mut residual, of_gram);
        conjugate_gradient(self.steps, p, [residual, direction, image], |d, image| {
            let flat = fixed.factors.flat();
            kernel::dot_rows(fixed.isa, d.factors, flat, targets.cols, scales);
            for (x, &rating) in scales.iter_mut().zip(targets.values) {
                *x *= self.cost.weight(rating);
            }
            image.sum_rows(fixed, scales, targets.cols);
            rest.add(1.0, d, image, of_gram);
        });
        Ok(())
    }
}
