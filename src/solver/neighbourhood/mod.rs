//! Models of weights between items: what an item says of others, added up over what a user took.
//!
//! A user's score of item j is `sum over the user's items i of B_ij`. There are no factors: the model is the sparse matrix B of
//! items x items, and of every user the items that were taken. What ratings say counts for nothing. How B comes about is what
//! [`knn`] and [`ease`] differ in; either is done after one epoch. Weights of an item are added in ascending order of the
//! user's items.

mod ease;
mod inverse;
mod knn;

use super::alternating::sum_rows;
use super::least_squares::LeastSquares;
use super::row_step::Fixed;
use super::{Measured, Moving, Options, Parameters, Passes, Solver, Tick};
use crate::error::{Error, ErrorKind, Result};
use crate::matrix::{Factors, Ratings, Row, RowScratch, Shape, Side, SparseRows};

pub use ease::METHOD as EASE;
pub use knn::METHOD as KNN;

/// What a model of weights between items predicts with.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbourhood {
    /// What each user took: rows of users over items, every entry 1.
    pub histories: SparseRows,
    /// What each item, a row, says of others, its columns.
    pub weights: SparseRows,
}

impl Neighbourhood {
    /// Nothing known of anybody.
    pub fn empty(shape: Shape) -> Neighbourhood {
        Neighbourhood {
            histories: SparseRows::empty(shape.users, shape.items),
            weights: SparseRows::empty(shape.items, shape.items),
        }
    }

    /// The score of an item for a user.
    pub fn score(&self, user: usize, item: usize) -> f32 {
        let taken = self.histories.row(user).cols;
        let said = taken
            .iter()
            .map(|&i| self.weights.get(i as usize, item as u32));
        said.fold(0.0, |sum, weight| sum + weight)
    }

    /// Adds to `scores`, one for each item, what items that were taken say of them.
    pub fn add_scores(weights: &SparseRows, taken: &[u32], scores: &mut [f32]) {
        for &item in taken {
            let Row { cols, values } = weights.row(item as usize);
            for (&col, &weight) in cols.iter().zip(values) {
                scores[col as usize] += weight;
            }
        }
    }
}

/// What each user took, as rows.
///
/// # Errors
/// If ratings cannot be read.
pub fn histories(ratings: &dyn Ratings) -> Result<SparseRows> {
    let Shape {
        items,
        ratings: entries,
        ..
    } = ratings.shape();
    let mut histories = SparseRows::with_room(items, entries as usize);
    let mut scratch = RowScratch::default();
    for index in 0..ratings.blocks(Side::Users) {
        let block = ratings.block(Side::Users, index)?;
        for i in 0..block.rows() {
            let row = block.row(i, &mut scratch);
            histories.push(row.cols.iter().map(|&item| (item, 1.0)));
        }
        ratings.done_with(Side::Users, index);
    }
    Ok(histories)
}

/// How weights come about, and what is told of them.
trait Weights: Send + Sync {
    /// The weights between items. `tick` is told of ratings done.
    fn weights(
        &self,
        ratings: &dyn Ratings,
        histories: &SparseRows,
        tick: Tick<'_>,
    ) -> Result<SparseRows>;

    /// What a user adds to the cost, by all scores and by what was taken.
    fn cost(&self, scores: &[f32], taken: &[u32]) -> f64;

    /// What the weights themselves add to the cost.
    fn penalty(&self, ratings: &dyn Ratings, weights: &SparseRows) -> Result<f64>;

    /// How often [`weights`](Weights::weights) and [`penalty`](Weights::penalty) read all ratings by item.
    fn passes(&self) -> [u64; 2];

    /// Memory that the weights and their making take, in bytes.
    fn memory(&self, shape: Shape, threads: usize) -> u64;
}

/// A solver, by how weights come about.
struct Neighbours<W>(W);

/// Checks what these methods have in common.
fn check(name: &str, options: &Options) -> Result<()> {
    LeastSquares::of(name, options)?;
    if options.normalize {
        let what = format!("{name} learns who takes what, not how it is rated");
        return Err(Error::new(ErrorKind::BadOption, what).remedy("leave out --normalize"));
    }
    Ok(())
}

impl<W: Weights> Solver for Neighbours<W> {
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
        let histories = histories(ratings)?;
        let weights = self.0.weights(ratings, &histories, tick)?;
        moving.parameters.neighbourhood = Some(Neighbourhood { histories, weights });
        self.measure(ratings, &moving.parameters)
    }

    fn measure(&self, ratings: &dyn Ratings, parameters: &Parameters) -> Result<Measured> {
        let shape = ratings.shape();
        let nothing = Neighbourhood::empty(shape);
        let weights = &parameters
            .neighbourhood
            .as_ref()
            .unwrap_or(&nothing)
            .weights;
        let sums = sum_rows(ratings, Side::Users, |_, row, scores| {
            scores.clear();
            scores.resize(shape.items, 0.0);
            Neighbourhood::add_scores(weights, row.cols, scores);
            let rated = row.cols.iter().zip(row.values);
            let error = |(&item, &r): (&u32, &f32)| f64::from(scores[item as usize] - r).powi(2);
            [self.0.cost(scores, row.cols), rated.map(error).sum()]
        })?;
        Ok(Measured {
            cost: sums[0] + self.0.penalty(ratings, weights)?,
            rmse: (sums[1] / shape.ratings as f64).sqrt(),
        })
    }

    /// The model has no rows to be solved for: what a new user took is all there is to know.
    fn fold_in(
        &self,
        _ratings: &dyn Ratings,
        _trained: Option<&dyn Ratings>,
        _items: &Fixed<'_>,
        _users: &mut Factors,
    ) -> Result<()> {
        Ok(())
    }

    /// What they took is kept.
    fn fold_in_memory(&self, shape: Shape, _threads: usize) -> u64 {
        SparseRows::bytes(shape.users, shape.ratings)
    }

    fn memory(&self, shape: Shape, threads: usize) -> u64 {
        let scores = (threads * shape.items * size_of::<f32>()) as u64;
        SparseRows::bytes(shape.users, shape.ratings) + self.0.memory(shape, threads) + scores
    }

    fn may_centre(&self) -> bool {
        false
    }

    fn most_epochs(&self) -> usize {
        1
    }

    fn passes(&self, _epoch: usize) -> Passes {
        Passes::of(2, self.0.passes().iter().sum())
    }

    fn passes_before(&self) -> Passes {
        let [_, penalty] = self.0.passes();
        Passes::of(1, penalty)
    }

    fn ticks(&self) -> u64 {
        1
    }
}
