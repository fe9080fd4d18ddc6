//! What a row-wise method is: a step that moves one row while the other side is fixed, and the cost that it lowers.

use std::ops::Range;

use super::contributions::RowProblem;
use super::sums::RowSums;
use crate::error::{Error, Result};
use crate::kernel::{self, Isa};
use crate::matrix::{Factors, Row};

/// The side that does not move, or the band of it that is in memory.
#[derive(Debug, Clone, Copy)]
pub struct Fixed<'a> {
    /// Its factors and biases.
    pub factors: &'a Factors,
    /// What predictions start from.
    pub mean: f32,
    /// The unit of biases and products.
    pub std: f32,
    /// The instruction set that kernels run on.
    pub isa: Isa,
}

impl<'a> Fixed<'a> {
    /// These factors as the fixed side.
    pub fn new(factors: &'a Factors, mean: f32, std: f32) -> Fixed<'a> {
        Fixed {
            factors,
            mean,
            std,
            isa: Isa::best(),
        }
    }

    /// These rows as the fixed side, read into `band`; columns are then numbered from the first of them.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn band<'b>(&self, rows: Range<usize>, band: &'b mut Factors) -> Result<Fixed<'b>>
    where
        'a: 'b,
    {
        Ok(Fixed {
            factors: self.factors.load(rows, band)?.0,
            ..*self
        })
    }

    /// A rating as what the product and the biases should give.
    #[inline(always)]
    pub fn target(&self, rating: f32) -> f32 {
        (rating - self.mean) / self.std
    }

    /// Writes what the product alone should give for every rating of the segment: the target, less both biases.
    pub fn targets(&self, own: Own<'_>, segment: Row<'_>, out: &mut [f32]) {
        let other = self.factors;
        for (x, &rating) in out.iter_mut().zip(segment.values) {
            *x = self.target(rating);
        }
        if other.has_biases() {
            let biases = other.biases();
            for (x, &col) in out.iter_mut().zip(segment.cols) {
                *x -= biases[col as usize] + own.bias;
            }
        }
    }

    /// Writes `<own, q> + b_q + own bias` for every rating of the segment.
    pub fn predict(&self, own: Own<'_>, segment: Row<'_>, out: &mut [f32]) {
        let other = self.factors;
        kernel::dot_rows(self.isa, own.factors, other.flat(), segment.cols, out);
        if other.has_biases() {
            let biases = other.biases();
            for (x, &col) in out.iter_mut().zip(segment.cols) {
                *x += biases[col as usize] + own.bias;
            }
        }
    }
}

/// The moving row as it stands.
#[derive(Debug, Clone, Copy)]
pub struct Own<'a> {
    /// Its factors, padded.
    pub factors: &'a [f32],
    /// Its bias, zero if the model has none.
    pub bias: f32,
}

impl<'a> Own<'a> {
    /// A row of factors.
    pub fn of(factors: &'a Factors, row: usize) -> Own<'a> {
        Own {
            factors: factors.padded_row(row),
            bias: factors.bias(row),
        }
    }
}

/// The moving row, to be written.
#[derive(Debug)]
pub struct OwnMut<'a> {
    /// Its factors, padded; the padding must stay zero.
    pub factors: &'a mut [f32],
    /// Its bias, if the model has biases.
    pub bias: Option<&'a mut f32>,
}

impl OwnMut<'_> {
    /// The row as it stands.
    pub fn as_ref(&self) -> Own<'_> {
        Own {
            factors: self.factors,
            bias: self.bias.as_deref().copied().unwrap_or(0.0),
        }
    }

    /// The same row, for a shorter time.
    pub fn reborrow(&mut self) -> OwnMut<'_> {
        OwnMut {
            factors: self.factors,
            bias: self.bias.as_deref_mut(),
        }
    }

    /// Makes the row predict what the other side does: the answer where nothing is known of it.
    pub fn clear(self) {
        self.factors.fill(0.0);
        if let Some(bias) = self.bias {
            *bias = 0.0;
        }
    }
}

/// One row of the moving side, the other side fixed.
pub trait RowStep: Sync {
    /// What all rows of a half-epoch share, such as the Gram matrix of the fixed side.
    type Shared: Sync;
    /// What a row has gathered so far: normal equations, a gradient.
    type Sums: Send;

    /// Room for the sums of one row: allocated once for each thread.
    fn sums(&self) -> Self::Sums;

    /// Computes what all rows share.
    fn shared(&self, fixed: &Fixed<'_>) -> Self::Shared;

    /// Empties the sums.
    fn begin(&self, sums: &mut Self::Sums);

    /// Adds a part of the row's ratings, in order.
    fn accumulate(&self, own: Own<'_>, segment: Row<'_>, fixed: &Fixed<'_>, sums: &mut Self::Sums);

    /// Adds the sums of the next part of the same row.
    fn merge(&self, next: &Self::Sums, sums: &mut Self::Sums);

    /// How many numbers are all that a row has gathered: they are set aside while other rows gather, so that the fixed side
    /// may pass by in bands. None, the default, where a row needs more than that, or the fixed side as a whole.
    fn carried(&self) -> Option<usize> {
        None
    }

    /// Copies what was gathered to so many numbers.
    fn set_aside(&self, _sums: &Self::Sums, _aside: &mut [f32]) {}

    /// Goes on from what was set aside.
    fn take_up(&self, _aside: &[f32], _sums: &mut Self::Sums) {}

    /// The losses and the penalty of a row as it stands, if they were gathered with its sums. None, the default, where they
    /// were not.
    fn losses(&self, _own: Own<'_>, _ratings: usize, _sums: &Self::Sums) -> Option<RowSums> {
        None
    }

    /// Writes the row from what was gathered over its `ratings`. Of a fixed side in bands it is given the last one.
    fn finish(
        &self,
        own: OwnMut<'_>,
        ratings: usize,
        fixed: &Fixed<'_>,
        shared: &Self::Shared,
        sums: &mut Self::Sums,
    ) -> Result<()>;

    /// Whether all but the copying of ratings is done when a row is finished: its parts in parallel would save nothing, so that
    /// several long rows go side by side instead.
    fn needs_whole_rows(&self) -> bool {
        false
    }

    /// How many rows are finished together from what they have [set aside](RowStep::set_aside), where that is faster than one
    /// after another. None, the default, where it is not, and for a row that is better finished at once, by its number of ratings.
    fn together(&self, _ratings: usize) -> Option<usize> {
        None
    }

    /// Writes as many rows as are finished together, each as [`finish`](RowStep::finish) would, from what they have set
    /// aside one after another; some numbers behind that, as many as there are lanes, may be read. Their ratings are counted
    /// beside them.
    ///
    /// # Errors
    /// That of the first row that cannot be finished, and which it is.
    fn finish_together(
        &self,
        _rows: &mut [(OwnMut<'_>, usize)],
        _aside: &mut [f32],
        _fixed: &Fixed<'_>,
        _sums: &mut Self::Sums,
    ) -> Result<(), (usize, Error)> {
        unreachable!("a method that finishes rows together says how")
    }

    /// Whether a row that was solved for stands still, wherever it started from.
    fn is_exact(&self) -> bool {
        false
    }

    /// What the driver measures on the way.
    fn cost(&self) -> &impl Cost;
}

/// The cost of what a model predicts, as the driver measures it.
pub trait Cost: Sync {
    /// The loss of one prediction, both in units of the model.
    fn loss(&self, prediction: f32, target: f32) -> f64;

    /// Adds the losses of several predictions, each to a sum of its own. A cost that is one of several says here which one it
    /// is, once for all.
    #[inline(always)]
    fn add_losses<const N: usize>(
        &self,
        predictions: &[f32; N],
        targets: &[f32; N],
        sums: &mut [f64; N],
    ) {
        for c in 0..N {
            sums[c] += self.loss(predictions[c], targets[c]);
        }
    }

    /// What the length of a row costs.
    fn penalty(&self, own: Own<'_>, ratings: usize) -> f64;

    /// The problem that a row solves, where it is one of least squares.
    fn problem(&self, _row: Row<'_>, _fixed: &Fixed<'_>) -> Option<RowProblem> {
        None
    }
}

/// What a half-epoch measures as it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Nothing: what is written in the rows' place is not the rows.
    Nothing,
    /// Losses and penalty, with every row as it is before it moves.
    Before,
    /// The penalty of the rows that moved.
    Penalty,
    /// Also the losses, with every row as it is after it moved: right when this is the last side to move.
    All,
}
