//! Popularity: the baseline that recommends the same to everybody.
//!
//! Objective: `1/2 sum over all cells of (b_i - y)^2`, with y = 1 where there is a rating and 0 elsewhere. Its lowest point is the share
//! of the users who have the item, whatever their ratings say. Factors count for nothing and are set to zero, as are the
//! biases of users. One epoch is enough.
//! Cost and reads: the lengths of the rows by item; measuring reads all ratings once.

use super::alternating::sum_rows;
use super::least_squares::LeastSquares;
use super::row_step::Fixed;
use super::sums::RowSums;
use super::{Learns, Measured, Method, Missing, Moving, Options, Parameters, Passes, Solver, Tick};
use crate::error::{Error, ErrorKind, Result};
use crate::matrix::{Factors, Ratings, RowScratch, Shape, Side};

/// Popularity in the table of solvers.
pub const METHOD: Method = Method {
    name: "popularity",
    summary: "a baseline: every item by the share of users who have it, the same for everybody",
    regularization: 0.0,
    missing: &[Missing::Zero],
    monotone: true,
    any_regularizer: false,
    biases: true,
    factors: true,
    spills: false,
    learns: Learns::Popularity,
    searched: &[],
    suited: |options| Options {
        positive_at: Some(4.0),
        regularization: None,
        ..options
    },
    build,
};

fn build(options: &Options) -> Result<Box<dyn Solver>> {
    LeastSquares::of("popularity", options)?;
    let bad = |what: &str, remedy: &str| {
        Err(Error::new(ErrorKind::BadOption, what).remedy(remedy.to_owned()))
    };
    if !options.biases {
        return bad(
            "popularity is a bias of items and nothing else",
            "leave out --no-biases",
        );
    }
    if options.normalize {
        return bad(
            "popularity counts ratings, whatever they say",
            "leave out --normalize",
        );
    }
    if options.regularization.is_some_and(|ridge| ridge > 0.0) || options.regularization_row > 0.0 {
        return bad(
            "popularity has no ridge",
            "leave out --regularization and --regularization-row",
        );
    }
    Ok(Box::new(Popularity))
}

struct Popularity;

impl Solver for Popularity {
    fn check(&self, _options: &Options, _ratings: &dyn Ratings, _start: &Parameters) -> Result<()> {
        Ok(())
    }

    fn epoch(
        &self,
        _epoch: usize,
        ratings: &dyn Ratings,
        moving: &mut Moving,
        tick: Tick<'_>,
    ) -> Result<Measured> {
        let Parameters { users, items, .. } = &mut moving.parameters;
        users.clear();
        items.clear();
        let all = users.rows() as f32;
        let mut scratch = RowScratch::default();
        for index in 0..ratings.blocks(Side::Items) {
            let block = ratings.block(Side::Items, index)?;
            for i in 0..block.rows() {
                let count = block.row(i, &mut scratch).len();
                items.biases_mut()[block.first_row() + i] = count as f32 / all;
            }
            tick(block.ratings() as u64);
            ratings.done_with(Side::Items, index);
        }
        self.measure(ratings, &moving.parameters)
    }

    fn measure(&self, ratings: &dyn Ratings, parameters: &Parameters) -> Result<Measured> {
        let shape = ratings.shape();
        let users = shape.users as f64;
        let sums = sum_rows(ratings, Side::Items, |at, row, _| {
            let share = f64::from(parameters.items.bias(at));
            let errors = row.values.iter().map(|&r| (share - f64::from(r)).powi(2));
            RowSums {
                loss: 0.5 * (users * share * share + row.len() as f64 * (1.0 - 2.0 * share)),
                squared_error: errors.sum(),
                penalty: 0.0,
            }
        })?;
        Ok(Measured {
            cost: sums.loss,
            rmse: (sums.squared_error / shape.ratings as f64).sqrt(),
        })
    }

    /// Users are all alike: their rows are zeros.
    fn fold_in(
        &self,
        _ratings: &dyn Ratings,
        _trained: Option<&dyn Ratings>,
        _items: &Fixed<'_>,
        _users: &mut Factors,
    ) -> Result<()> {
        Ok(())
    }

    fn memory(&self, _shape: Shape, _threads: usize) -> u64 {
        0
    }

    fn may_centre(&self) -> bool {
        false
    }

    fn passes(&self, _epoch: usize) -> Passes {
        Passes::of(0, 2)
    }

    fn passes_before(&self) -> Passes {
        Passes::of(0, 1)
    }

    fn ticks(&self) -> u64 {
        1
    }
}
