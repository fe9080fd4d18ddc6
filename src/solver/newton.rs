//! Newton's method, row by row: ALS for any loss.
//!
//! Objective: `sum loss + 1/2 sum (regularization * n_row + regularization_row) |row|^2`. With one side fixed, a row's cost
//! has the slope `g = sum loss' q + ridge p` and the curvature `A = sum loss'' q q^T + ridge`; the row moves by
//! `-A^-1 g`, and half of it, a quarter ... until its cost does not rise (Boyd and Vandenberghe: Convex optimization, section
//! 9.5), so the objective never rises, whatever the loss. For squares one step is exact: that is ALS.
//! A rating whose loss has little or no curvature (the straight parts of absolute, hinge and Huber, the hollows of what is
//! not convex) counts with a small share of the row's largest curvature: A stays positive definite, the step a descent,
//! and the halving finds its length.
//! Items move first, then users. Cost: that of ALS and a pass over the row's predictions for each trial, once a side for
//! squares and twice for other losses. Reads: as ALS, with the fixed side's rows again for each pass.

use super::row_step::{Cost, Fixed, Own, OwnMut};
use super::whole::{Room, Whole, WholeRow};
use super::{Learns, Method, Missing, Options, Ridge, Solver, sweep};
use crate::error::Result;
use crate::kernel::{self, LANES, NormalEquations, Segment};
use crate::loss::{self, Derived};
use crate::matrix::Row;

/// Newton's method in the table of solvers.
pub const METHOD: Method = Method {
    name: "newton",
    summary: "Newton steps, any loss: every row moves by its slope and curvature, damped; ALS for squares",
    regularization: 0.05,
    missing: &[Missing::Skip],
    monotone: true,
    any_regularizer: false,
    biases: true,
    factors: true,
    spills: false,
    learns: Learns::Ratings,
    searched: &[],
    suited: |options| options,
    build,
};

/// Steps that a row takes while its ratings are at hand, for losses that one step does not solve.
const STEPS: usize = 2;

/// How often a step is halved before the row is left where it is.
const HALVINGS: usize = 24;

/// The least curvature of a rating, as a share of the largest in its row; itself if the whole row has none.
const LEAST_CURVATURE: f32 = 1e-3;

fn build(options: &Options) -> Result<Box<dyn Solver>> {
    sweep::refuse_steps("Newton's method", options)?;
    let loss = loss::named_or_formula(&options.loss)?;
    let steps = match loss::quadratic(&*loss) {
        Some(_) => 1,
        None => STEPS,
    };
    Ok(Box::new(Whole(Newton {
        loss,
        steps,
        ridge: options.ridge(),
        equations: NormalEquations::new(options.rank, options.biases),
        rank: options.rank,
    })))
}

struct Newton {
    loss: Box<dyn Derived>,
    steps: usize,
    ridge: Ridge,
    equations: NormalEquations,
    rank: usize,
}

impl Newton {
    /// What a row costs, by its predictions, for which there is `room`.
    fn cost(&self, own: Own<'_>, targets: Row<'_>, fixed: &Fixed<'_>, room: &mut [f32]) -> f64 {
        fixed.predict(own, targets, room);
        let losses = room.iter().zip(targets.values);
        let sum: f64 = losses.map(|(&p, &t)| self.loss(p, t)).sum();
        sum + self.penalty(own, targets.len())
    }
}

impl WholeRow for Newton {
    type Shared = ();

    fn cost(&self) -> &impl Cost {
        self
    }

    fn room(&self) -> [usize; 2] {
        let size = self.equations.size();
        let equations = self.equations.sums_len() + self.equations.panel_len();
        let trial = self.rank.next_multiple_of(LANES);
        [2, equations + kernel::solve_scratch_len(size) + trial]
    }

    fn shared(&self, _fixed: &Fixed<'_>) {}

    fn solve(
        &self,
        mut own: OwnMut<'_>,
        targets: Row<'_>,
        fixed: &Fixed<'_>,
        _shared: &(),
        room: Room<'_>,
    ) -> Result<()> {
        let ratings = targets.len();
        if ratings == 0 {
            own.clear();
            return Ok(());
        }
        let (slopes, curvatures) = room.by_rating.split_at_mut(room.by_rating.len() / 2);
        let (slopes, curvatures) = (&mut slopes[..ratings], &mut curvatures[..ratings]);
        let (equations, rest) = room.beside.split_at_mut(self.equations.sums_len());
        let (panel, rest) = rest.split_at_mut(self.equations.panel_len());
        let (trial, scratch) = rest.split_at_mut(own.factors.len());
        let size = self.equations.size();
        let ridge = |i: usize| match i < self.rank {
            true => self.ridge.on_factors(ratings),
            false => self.ridge.on_bias(ratings),
        };

        let mut cost = self.cost(own.as_ref(), targets, fixed, slopes);
        for step in 0..self.steps {
            if step > 0 {
                fixed.predict(own.as_ref(), targets, slopes);
            }
            self.loss
                .slopes_and_curvatures(slopes, targets.values, curvatures);
            let largest = curvatures.iter().copied().fold(0.0, f32::max);
            let least = LEAST_CURVATURE * if largest > 0.0 { largest } else { 1.0 };
            curvatures.iter_mut().for_each(|x| *x = x.max(least));
            equations.fill(0.0);
            let segment = Segment {
                cols: targets.cols,
                targets: slopes,
                weights: Some(curvatures),
            };
            let flat = fixed.factors.flat();
            self.equations
                .accumulate(fixed.isa, flat, segment, equations, panel);
            for i in 0..size {
                let x = if i < self.rank {
                    own.factors[i]
                } else {
                    own.as_ref().bias
                };
                equations[self.equations.diagonal(i)] += ridge(i);
                equations[self.equations.right(i)] += ridge(i) * x;
            }
            let newton = kernel::solve(fixed.isa, size, equations, scratch)
                .map_err(|_| sweep::undetermined(ratings, size))?;
            let moved = halvings().find_map(|share| {
                trial.copy_from_slice(own.factors);
                for (x, d) in trial.iter_mut().zip(&newton[..self.rank]) {
                    *x -= share * d;
                }
                let by = newton.get(self.rank).map_or(0.0, |d| share * d);
                let bias = own.as_ref().bias - by;
                let row = Own {
                    factors: trial,
                    bias,
                };
                let now = self.cost(row, targets, fixed, slopes);
                (now <= cost).then_some((now, bias))
            });
            let Some((now, bias)) = moved else {
                break;
            };
            cost = now;
            own.factors.copy_from_slice(trial);
            if let Some(own) = own.bias.as_deref_mut() {
                *own = bias;
            }
        }
        Ok(())
    }
}

/// The whole step, half of it, a quarter, and so on.
fn halvings() -> impl Iterator<Item = f32> {
    std::iter::successors(Some(1.0), |share| Some(0.5 * share)).take(HALVINGS)
}

impl Cost for Newton {
    fn loss(&self, prediction: f32, target: f32) -> f64 {
        self.loss.value(prediction.into(), target.into())
    }

    fn penalty(&self, own: Own<'_>, ratings: usize) -> f64 {
        self.ridge.penalty(own.factors, own.bias, ratings)
    }
}
