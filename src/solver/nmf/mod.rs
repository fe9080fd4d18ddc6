//! Non-negative matrix factorization.
//!
//! Objective: `1/2 sum (m - <u, v>)^2`, or the Kullback-Leibler divergence `sum m log(m / <u, v>) - m + <u, v>`, over all cells,
//! of which those without a rating are zeros (`missing = zero`, the default), or over the ratings alone (`missing = skip`).
//! All factors stay at or above [`FLOOR`]; there are no biases and there is no ridge.
//!
//! Multiplicative updates (Lee and Seung: Algorithms for non-negative matrix factorization, NIPS 2000) multiply every factor
//! by the ratio of the negative and the positive part of its gradient. HALS (Cichocki, Zdunek, Amari: Hierarchical ALS
//! algorithms, ICA 2007) minimises the squared objective over one factor of a row after another. Neither ever raises the
//! objective. Items move first, then users.
//!
//! The zeros are never visited: what they add to a gradient is the Gram matrix of the other side, for squares, or its
//! column sums, for the divergence, and what they add to the objective is the inner product of both sides'.
//! Cost: n d flops a side for the ratings, and d^2 a row where zeros count; HALS on ratings alone n d^2, as ALS. All rows of
//! a side move in parallel. Reads: by-item and by-user ratings once each.

mod eigen;
mod step;
mod study;

use super::block_rows::SUMS_AT_ONCE;
use super::gram::{self, column_sums, gram};
use super::losses;
use super::row_step::Fixed;
use super::sums::RowSums;
use super::sweep::{settle, sweep_by};
use super::{
    Init, Learns, Measured, Method, Missing, Moving, Options, Parameters, Passes, Reduce, Rule,
    Solver, Tick, scale,
};
use crate::error::{Error, ErrorKind, Result};
use crate::kernel::NormalEquations;
use crate::matrix::{Factors, Ratings, Shape, Side};
use step::Half;

pub use study::{Study, StudyLine};

/// The lowest value of a factor. A factor of zero would stay zero under multiplicative updates; from here it can grow
/// again. It is far below what a rating can tell of: a prediction is off by no more than this times the length of a row.
pub const FLOOR: f32 = 1e-9;

/// NMF in the table of solvers.
pub const METHOD: Method = Method {
    name: "nmf",
    summary: "non-negative factors, by multiplicative updates or HALS; what is not rated counts as zero unless skipped",
    regularization: 0.0,
    missing: &[Missing::Zero, Missing::Skip],
    monotone: true,
    any_regularizer: false,
    biases: false,
    factors: true,
    spills: false,
    learns: Learns::Ratings,
    searched: &[],
    suited: |options| Options {
        missing: Some(Missing::Skip),
        biases: false,
        regularization: None,
        epochs: 100,
        ..options
    },
    build,
};

fn build(options: &Options) -> Result<Box<dyn Solver>> {
    Ok(Box::new(Nmf::new(options)?))
}

struct Nmf {
    divergence: Divergence,
    rule: Rule,
    missing: Missing,
    rank: usize,
    equations: NormalEquations,
}

/// How far a product is from the ratings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Divergence {
    Squared,
    KullbackLeibler,
}

impl Divergence {
    /// What a rating costs; where zeros count, beyond what the cell would cost without it.
    #[inline(always)]
    fn of(self, missing: Missing, prediction: f64, rating: f64) -> f64 {
        match (self, missing) {
            (Divergence::Squared, Missing::Skip) => 0.5 * (prediction - rating).powi(2),
            (Divergence::Squared, Missing::Zero) => rating * (0.5 * rating - prediction),
            (Divergence::KullbackLeibler, _) => {
                // A given start may predict zero, where the divergence has no bound.
                let prediction = prediction.max(f64::from(FLOOR * FLOOR));
                let log = match rating > 0.0 {
                    true => rating * libm::log(rating / prediction),
                    false => 0.0,
                };
                let visited = match missing {
                    Missing::Skip => prediction,
                    Missing::Zero => 0.0,
                };
                log - rating + visited
            }
        }
    }
}

impl Nmf {
    /// Checks the options: all that says what this method can and cannot do is here.
    fn new(options: &Options) -> Result<Nmf> {
        let bad = |what: &str, remedy: &str| {
            Err(Error::new(ErrorKind::BadOption, what).remedy(remedy.to_owned()))
        };
        let divergence = match options.loss.as_str() {
            "squared" => Divergence::Squared,
            "kl" => Divergence::KullbackLeibler,
            other => {
                return bad(
                    &format!(
                        "non-negative factors minimise the squared loss or the divergence kl, not {other:?}"
                    ),
                    "give --loss squared or --loss kl, or use another solver",
                );
            }
        };
        if options.biases {
            return bad(
                "a non-negative factorization is the product of its factors alone, and has no biases",
                "give --no-biases",
            );
        }
        if options.normalize {
            return bad(
                "normalised ratings are negative below their mean, and non-negative factors cannot predict them",
                "leave out --normalize",
            );
        }
        let ridges = [options.regularization, Some(options.regularization_row)];
        if ridges.iter().flatten().any(|&ridge| ridge > 0.0) {
            return bad(
                "a non-negative factorization has no ridge",
                "leave out --regularization and --regularization-row",
            );
        }
        if options.reduce == Reduce::Mean {
            return bad(
                "a non-negative factorization minimises the sum of the losses, not their mean",
                "leave out --reduce",
            );
        }
        if !options.learning_rates.is_empty() {
            return bad(
                "a non-negative factorization has no learning rate",
                "leave out --learning-rate",
            );
        }
        if options.rule == Rule::Hals && divergence == Divergence::KullbackLeibler {
            return bad(
                "HALS minimises squares alone",
                "give --rule multiplicative, or --loss squared",
            );
        }
        Ok(Nmf {
            divergence,
            rule: options.rule,
            missing: options.missing.unwrap_or(Missing::Zero),
            rank: options.rank,
            equations: NormalEquations::new(options.rank, false),
        })
    }

    /// What the whole of a side adds to gradients of the other, where zeros count.
    fn whole(&self, factors: &Factors) -> Vec<f64> {
        match (self.missing, self.divergence) {
            (Missing::Skip, _) => Vec::new(),
            (Missing::Zero, Divergence::Squared) => gram(factors),
            (Missing::Zero, Divergence::KullbackLeibler) => column_sums(factors),
        }
    }

    /// With what the whole of either side adds.
    fn measured(&self, sums: RowSums, ratings: &dyn Ratings, wholes: [&[f64]; 2]) -> Measured {
        let all_cells = gram::inner(wholes[0], wholes[1]);
        let cells = match self.divergence {
            Divergence::Squared => 0.5 * all_cells,
            Divergence::KullbackLeibler => all_cells,
        };
        Measured {
            cost: sums.loss + cells,
            rmse: (sums.squared_error / ratings.shape().ratings as f64).sqrt(),
        }
    }
}

fn refuse_negative(ratings: &dyn Ratings) -> Result<()> {
    let what = "non-negative factors cannot predict what is below zero";
    let remedy = "shift the ratings to zero and above, or use --solver als";
    scale::refuse_negative(ratings, what, remedy)
}

impl Solver for Nmf {
    fn check(&self, _options: &Options, ratings: &dyn Ratings, start: &Parameters) -> Result<()> {
        refuse_negative(ratings)?;
        for side in [Side::Users, Side::Items] {
            let factors = start.side(side);
            let below = |&row: &usize| factors.row(row).iter().any(|&x| x < 0.0);
            if let Some(row) = (0..factors.rows()).find(below) {
                let what = format!(
                    "{} {} starts from a factor below zero",
                    side.noun(),
                    ratings.id(side, row)
                );
                return Err(Error::new(ErrorKind::BadInput, what)
                    .remedy("start from factors that are zero or above"));
            }
        }
        Ok(())
    }

    fn init(&self) -> Init {
        Init::Uniform
    }

    fn epoch(
        &self,
        epoch: usize,
        ratings: &dyn Ratings,
        moving: &mut Moving,
        tick: Tick<'_>,
    ) -> Result<Measured> {
        let parameters = &mut moving.parameters;
        let mut whole = Vec::new();
        let step = |fixed: &Factors| {
            whole = self.whole(fixed);
            Half {
                nmf: self,
                whole: whole.clone(),
            }
        };
        let sums = sweep_by::<Half<'_>, _>(step, Side::Items, epoch, ratings, parameters, tick)?;
        // The last was that of the items, as they are now.
        let wholes = [&self.whole(&parameters.users), &whole];
        Ok(self.measured(sums, ratings, wholes.map(Vec::as_slice)))
    }

    fn measure(&self, ratings: &dyn Ratings, parameters: &Parameters) -> Result<Measured> {
        let items = parameters.fixed_items();
        let sums = losses::measure(ratings, self, &parameters.users, &items)?;
        let wholes = [&parameters.users, &parameters.items].map(|factors| self.whole(factors));
        Ok(self.measured(sums, ratings, [&wholes[0], &wholes[1]]))
    }

    /// Measuring alone: that no rating is below zero is known without looking at them.
    fn passes_before(&self) -> Passes {
        Passes::of(1, 1)
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
        refuse_negative(ratings)?;
        // A factor of zero would stay there.
        for user in 0..users.rows() {
            users.row_mut(user).fill(0.5);
        }
        let whole = self.whole(items.factors);
        settle(&Half { nmf: self, whole }, ratings, items, users)
    }

    fn memory(&self, _shape: Shape, threads: usize) -> u64 {
        (SUMS_AT_ONCE * threads) as u64 * self.sums_bytes() + 2 * gram::memory(self.rank, threads)
    }
}
