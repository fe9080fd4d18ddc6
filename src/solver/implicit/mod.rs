//! Implicit feedback: what was taken is liked, what was not is liked less, and every cell counts.
//!
//! Objective, over users u and items i, with y = <p_u, q_i>:
//!
//! ```text
//! 1/2 sum over ratings of w (1 - y)^2 + 1/2 unobserved_weight * sum over all cells of y^2 + 1/2 sum over rows of ridge |row|^2
//! ```
//!
//! where w is 1, or alpha times the rating, and the ridge of a row with n ratings is
//! `regularization * (n + unobserved_weight * m)^exponent + regularization_row`, for m rows on the other side: with the exponent 1 a
//! row is held back by as much as its cells weigh (Hu, Koren, Volinsky: Collaborative filtering for implicit feedback datasets,
//! ICDM 2008; in this form, with the exponent, Rendle, Krichene, Zhang, Koren: Revisiting the performance of iALS, RecSys 2022).
//! There are no biases and no mean.
//!
//! With one side fixed every row of the other is a least-squares problem of its own. The cells that are not rated are never
//! visited: all of them together add the Gram matrix of the fixed side, times their weight, to the row's equations, and the
//! inner product of both sides' Gram matrices to the objective. How a row is solved is what the files beside this one
//! differ in; none ever raises the objective. Items move first, then users.

mod blocks;
mod exact;
mod steps;

use super::alternating::sum_rows;
use super::contributions::RowProblem;
use super::gram::{self, gram};
use super::row_step::{Cost, Fixed, Own};
use super::sums::RowSums;
use super::sweep::{Sweep, settle, sweep_by};
use super::{Measured, Moving, Options, Parameters, Passes, Solver, Tick, scale};
use crate::error::{Error, ErrorKind, Result};
use crate::matrix::{Factors, Ratings, Row, Shape, Side};

use exact::Ials;

pub use blocks::METHOD as BLOCKS;
pub use exact::METHOD as EXACT;
pub use steps::METHOD as STEPS;

/// The objective, seen from one side.
#[derive(Debug, Clone, Copy)]
struct Preferences {
    /// What a rating is multiplied by to be a weight; without it, every weight is 1.
    alpha: Option<f32>,
    unobserved: f32,
    regularization: f32,
    regularization_row: f32,
    exponent: f32,
    /// Rows on the other side.
    others: usize,
}

impl Preferences {
    fn new(options: &Options, others: usize) -> Preferences {
        Preferences {
            alpha: options.alpha,
            unobserved: options.unobserved_weight,
            regularization: options.regularization.unwrap_or(REGULARIZATION),
            regularization_row: options.regularization_row,
            exponent: options.regularization_exponent,
            others,
        }
    }

    /// The weight of a rating.
    #[inline(always)]
    fn weight(&self, rating: f32) -> f32 {
        self.alpha.map_or(1.0, |alpha| alpha * rating)
    }

    /// The weight on the squared length of a row with so many ratings.
    fn ridge(&self, ratings: usize) -> f32 {
        let count = ratings as f64 + f64::from(self.unobserved) * self.others as f64;
        let scaled = libm::pow(count, self.exponent.into());
        (f64::from(self.regularization) * scaled) as f32 + self.regularization_row
    }
}

impl Cost for Preferences {
    #[inline(always)]
    fn loss(&self, prediction: f32, target: f32) -> f64 {
        let short = 1.0 - f64::from(prediction);
        0.5 * f64::from(self.weight(target)) * short * short
    }

    fn penalty(&self, own: Own<'_>, ratings: usize) -> f64 {
        let squares = own.factors.iter().map(|&x| f64::from(x) * f64::from(x));
        0.5 * f64::from(self.ridge(ratings)) * squares.sum::<f64>()
    }

    fn problem(&self, row: Row<'_>, _fixed: &Fixed<'_>) -> Option<RowProblem> {
        let weight = |&rating: &f32| (f64::from(self.weight(rating)), 1.0);
        Some(RowProblem {
            ratings: row.values.iter().map(weight).collect(),
            cells: self.unobserved.into(),
            ridge: [self.ridge(row.len()).into(), 0.0],
        })
    }
}

/// The ridge where none is given.
const REGULARIZATION: f32 = 0.003;

/// What else is worth searching.
const SEARCHED: &[(&str, f64, f64)] = &[("unobserved-weight", 0.003, 1.0)];

/// A solver of this objective, from the way to solve a row.
struct Implicit<S> {
    options: Options,
    step: fn(&Options, Preferences) -> S,
}

impl<S: Sweep + 'static> Implicit<S> {
    /// Checks the options that all solvers of this objective have in common.
    fn boxed(
        name: &str,
        options: &Options,
        step: fn(&Options, Preferences) -> S,
    ) -> Result<Box<dyn Solver>> {
        super::least_squares::LeastSquares::of(name, options)?;
        let bad = |what: String, remedy: &str| {
            Err(Error::new(ErrorKind::BadOption, what).remedy(remedy.to_owned()))
        };
        if options.biases {
            return bad(
                format!("{name} predicts by the product of factors alone, and has no biases"),
                "give --no-biases",
            );
        }
        if options.normalize {
            return bad(
                format!("{name} learns who takes what, not how it is rated"),
                "leave out --normalize",
            );
        }
        Ok(Box::new(Implicit {
            options: options.clone(),
            step,
        }))
    }

    fn cost(&self, others: usize) -> Preferences {
        Preferences::new(&self.options, others)
    }

    /// Whether no rating would weigh less than nothing.
    fn check_weights(&self, ratings: &dyn Ratings) -> Result<()> {
        if self.options.alpha.is_none() {
            return Ok(());
        }
        let what = "a weight cannot be below zero";
        let remedy = "train with --positive-at 0 or more, or leave out such ratings";
        scale::refuse_negative(ratings, what, remedy)
    }

    fn measured(
        &self,
        sums: RowSums,
        ratings: &dyn Ratings,
        users: &Factors,
        items: &Factors,
    ) -> Measured {
        let all_cells = gram::inner(&gram(users), &gram(items));
        let unobserved = f64::from(self.options.unobserved_weight);
        Measured {
            cost: sums.loss + sums.penalty + 0.5 * unobserved * all_cells,
            rmse: (sums.squared_error / ratings.shape().ratings as f64).sqrt(),
        }
    }
}

impl<S: Sweep + 'static> Solver for Implicit<S> {
    fn check(&self, _options: &Options, ratings: &dyn Ratings, _start: &Parameters) -> Result<()> {
        self.check_weights(ratings)
    }

    fn epoch(
        &self,
        epoch: usize,
        ratings: &dyn Ratings,
        moving: &mut Moving,
        tick: Tick<'_>,
    ) -> Result<Measured> {
        let parameters = &mut moving.parameters;
        let step = |fixed: &Factors| (self.step)(&self.options, self.cost(fixed.rows()));
        let sums = sweep_by::<S, S>(step, Side::Items, epoch, ratings, parameters, tick)?;
        Ok(self.measured(sums, ratings, &parameters.users, &parameters.items))
    }

    fn measure(&self, ratings: &dyn Ratings, parameters: &Parameters) -> Result<Measured> {
        let Parameters { users, items, .. } = parameters;
        let fixed = parameters.fixed_items();
        let cost = self.cost(items.rows());
        let mut sums = sum_rows(ratings, Side::Users, |at, row, predictions| {
            let own = Own::of(users, at);
            predictions.resize(row.len(), 0.0);
            fixed.predict(own, row, predictions);
            let mut sums = RowSums {
                penalty: cost.penalty(own, row.len()),
                ..RowSums::default()
            };
            for (&p, &rating) in predictions.iter().zip(row.values) {
                sums.loss += cost.loss(p, rating);
                sums.squared_error += f64::from(p - rating).powi(2);
            }
            sums
        })?;
        let cost = self.cost(users.rows());
        sums.add(sum_rows(ratings, Side::Items, |at, row, _| RowSums {
            penalty: cost.penalty(Own::of(items, at), row.len()),
            ..RowSums::default()
        })?);
        Ok(self.measured(sums, ratings, users, items))
    }

    fn solves_either_side(&self) -> bool {
        true
    }

    fn fold_in(
        &self,
        ratings: &dyn Ratings,
        _trained: Option<&dyn Ratings>,
        items: &Fixed<'_>,
        users: &mut Factors,
    ) -> Result<()> {
        self.check_weights(ratings)?;
        // Where steps towards a row's solution lead in the end, whatever the steps of training are.
        let step = Ials::new(&self.options, self.cost(items.factors.rows()));
        settle(&step, ratings, items, users)
    }

    fn fold_in_memory(&self, shape: Shape, threads: usize) -> u64 {
        let exact = Ials::new(&self.options, self.cost(shape.items));
        Sweep::memory(&exact, shape, threads) + 2 * gram::memory(self.options.rank, threads)
    }

    fn contributions(&self, row: Row<'_>, items: &Fixed<'_>, item: usize) -> Option<Vec<f64>> {
        let problem = self.cost(items.factors.rows()).problem(row, items)?;
        Some(problem.contributions(row, items, item))
    }

    fn memory(&self, shape: Shape, threads: usize) -> u64 {
        let step = (self.step)(&self.options, self.cost(shape.items));
        step.memory(shape, threads) + 2 * gram::memory(self.options.rank, threads)
    }

    fn may_centre(&self) -> bool {
        false
    }

    /// Measuring alone: that no weight is below zero is known of ratings without looking at them.
    fn passes_before(&self) -> Passes {
        Passes::of(1, 1)
    }
}

/// What the cells of a whole row add to its equations: the Gram matrix of the fixed side, times the weight of a cell.
pub struct AllCells {
    /// As rows of factors are: padded with zeros.
    rows: Vec<f32>,
    /// Floats from one row to the next.
    stride: usize,
}

impl AllCells {
    fn new(fixed: &Fixed<'_>, weight: f32) -> AllCells {
        let (rank, stride) = (fixed.factors.rank(), fixed.factors.stride());
        let gram = gram(fixed.factors);
        let mut rows = vec![0.0; rank * stride];
        for (row, gram) in rows.chunks_exact_mut(stride).zip(gram.chunks_exact(rank)) {
            for (x, &y) in row.iter_mut().zip(gram) {
                *x = (f64::from(weight) * y) as f32;
            }
        }
        AllCells { rows, stride }
    }

    /// A row of the matrix, padded.
    fn row(&self, at: usize) -> &[f32] {
        &self.rows[at * self.stride..][..self.stride]
    }
}
