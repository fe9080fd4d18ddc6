//! What is summed over the ratings of a row from what is predicted for them: losses and errors, in their fixed order.

use super::alternating::{PART, sum_own_lengths, sum_own_rows};
use super::bands;
use super::row_step::{Cost, Fixed, Own};
use super::sums::RowSums;
use crate::error::Result;
use crate::kernel::Plain;
use crate::matrix::{Factors, Ratings, Row, Side};

/// Sums over the ratings of one row, which come in segments: the order of its additions depends on the row alone.
pub trait Errors: Sync {
    /// What has been summed so far: by default, nothing.
    type Sums: Default + Send;

    /// Counts in the next ratings of the row, and what is predicted for them, in units of the model.
    fn add(&self, fixed: &Fixed<'_>, predictions: &[f32], ratings: &[f32], sums: &mut Self::Sums);

    /// The row's sums, when all its ratings have been counted in.
    fn finish(&self, own: Own<'_>, ratings: usize, sums: Self::Sums) -> RowSums;
}

/// Sums errors over all rows of a side, either side spilled or not.
///
/// # Errors
/// If ratings or factors cannot be read.
pub fn sum_errors<E: Errors>(
    ratings: &dyn Ratings,
    side: Side,
    own: &Factors,
    fixed: &Fixed<'_>,
    errors: &E,
) -> Result<RowSums> {
    if let Some(room) = fixed.factors.room() {
        return bands::sum_errors(ratings, side, own, fixed, room, errors);
    }
    sum_own_rows(ratings, side, own, |own, row, predictions| {
        of_row(errors, own, row, fixed, predictions)
    })
}

/// Measures losses and the penalty of users, and the penalty of items, where the parameters stand.
///
/// # Errors
/// If ratings or factors cannot be read.
pub fn measure<C: Cost>(
    ratings: &dyn Ratings,
    cost: &C,
    users: &Factors,
    items: &Fixed<'_>,
) -> Result<RowSums> {
    let mut sums = sum_errors(ratings, Side::Users, users, items, &Losses(cost))?;
    sums.penalty += penalty(ratings, cost, Side::Items, items.factors)?;
    Ok(sums)
}

/// Sums the penalty of a side's rows, which may be spilled.
///
/// # Errors
/// If ratings or factors cannot be read.
pub fn penalty<C: Cost>(
    ratings: &dyn Ratings,
    cost: &C,
    side: Side,
    factors: &Factors,
) -> Result<f64> {
    let penalty = |own: Own<'_>, rated: usize| [cost.penalty(own, rated)];
    let [sum] = sum_own_lengths(ratings, side, factors, penalty)?;
    Ok(sum)
}

/// Sums over one row that is at hand as a whole.
pub fn of_row<E: Errors>(
    errors: &E,
    own: Own<'_>,
    row: Row<'_>,
    fixed: &Fixed<'_>,
    predictions: &mut Vec<f32>,
) -> RowSums {
    let mut sums = E::Sums::default();
    add(errors, own, row, fixed, predictions, &mut sums);
    errors.finish(own, row.len(), sums)
}

/// Predicts the ratings of a segment, and counts them in.
pub fn add<E: Errors>(
    errors: &E,
    own: Own<'_>,
    segment: Row<'_>,
    fixed: &Fixed<'_>,
    predictions: &mut Vec<f32>,
    sums: &mut E::Sums,
) {
    for start in (0..segment.len()).step_by(PART) {
        let piece = segment.part(start..segment.len().min(start + PART));
        predictions.resize(piece.len(), 0.0);
        fixed.predict(own, piece, predictions);
        errors.add(fixed, predictions, piece.values, sums);
    }
}

/// Loss, squared error and penalty, as a method's cost has them.
pub struct Losses<'a, C>(pub &'a C);

/// Sums of a row's losses that are kept side by side, so that an addition need not wait for the one before it: chain c
/// adds ratings c, c + 8, c + 16, ... of a part, and the chains are added in order.
const CHAINS: usize = 8;

/// A row's losses so far: of whole parts, and the chains of the part that it is in.
#[derive(Default)]
pub struct Chains {
    parts: RowSums,
    losses: [f64; CHAINS],
    squared_errors: [f64; CHAINS],
    /// Ratings in the chains.
    held: usize,
}

/// Bytes that a row's losses take while the fixed side passes by in bands.
pub const LOSS_BYTES: usize = size_of::<Chains>();

impl Chains {
    /// Sums of the losses.
    pub fn sum(mut self) -> RowSums {
        self.end_part();
        self.parts
    }

    /// Ends the part.
    fn end_part(&mut self) {
        for (&loss, &squared_error) in self.losses.iter().zip(&self.squared_errors) {
            self.parts.loss += loss;
            self.parts.squared_error += squared_error;
        }
        *self = Chains {
            parts: self.parts,
            ..Chains::default()
        };
    }
}

impl<C: Cost> Losses<'_, C> {
    fn add_one(
        &self,
        fixed: &Fixed<'_>,
        sums: &mut Chains,
        chain: usize,
        prediction: f32,
        rating: f32,
    ) {
        let target = fixed.target(rating);
        let error = f64::from(prediction - target);
        sums.losses[chain] += self.0.loss(prediction, target);
        sums.squared_errors[chain] += error * error;
    }
}

/// Ratings that are counted in eight at a time, one in each chain.
struct Eights<'a, C> {
    cost: &'a C,
    fixed: &'a Fixed<'a>,
    predictions: &'a [[f32; CHAINS]],
    ratings: &'a [[f32; CHAINS]],
    sums: &'a mut Chains,
}

impl<C: Cost> Plain for Eights<'_, C> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let fixed = *self.fixed;
        let (mut losses, mut squared_errors) = (self.sums.losses, self.sums.squared_errors);
        for (predictions, ratings) in self.predictions.iter().zip(self.ratings) {
            let mut targets = [0.0; CHAINS];
            for c in 0..CHAINS {
                targets[c] = fixed.target(ratings[c]);
            }
            self.cost.add_losses(predictions, &targets, &mut losses);
            for c in 0..CHAINS {
                let error = f64::from(predictions[c] - targets[c]);
                squared_errors[c] += error * error;
            }
        }
        (self.sums.losses, self.sums.squared_errors) = (losses, squared_errors);
    }
}

impl<C: Cost> Errors for Losses<'_, C> {
    type Sums = Chains;

    fn add(
        &self,
        fixed: &Fixed<'_>,
        mut predictions: &[f32],
        mut ratings: &[f32],
        sums: &mut Chains,
    ) {
        while !ratings.is_empty() {
            // Up to the end of the part; a segment may begin at any chain.
            let count = ratings.len().min(PART - sums.held);
            let first = sums.held % CHAINS;
            let head = count.min((CHAINS - first) % CHAINS);
            for c in 0..head {
                self.add_one(fixed, sums, first + c, predictions[c], ratings[c]);
            }
            let (of_part, of_ratings) = (&predictions[head..count], &ratings[head..count]);
            let (eights, last) = of_part.as_chunks::<CHAINS>();
            let (rated, last_rated) = of_ratings.as_chunks::<CHAINS>();
            fixed.isa.run_plain(Eights {
                cost: self.0,
                fixed,
                predictions: eights,
                ratings: rated,
                sums,
            });
            for (c, (&prediction, &rating)) in last.iter().zip(last_rated).enumerate() {
                self.add_one(fixed, sums, c, prediction, rating);
            }
            sums.held += count;
            if sums.held == PART {
                sums.end_part();
            }
            (predictions, ratings) = (&predictions[count..], &ratings[count..]);
        }
    }

    fn finish(&self, own: Own<'_>, ratings: usize, sums: Chains) -> RowSums {
        RowSums {
            penalty: self.0.penalty(own, ratings),
            ..sums.sum()
        }
    }
}

/// The sum of squares in f64, in as many chains.
pub fn sum_of_squares(x: &[f32]) -> f64 {
    let mut chains = [0.0; CHAINS];
    let (eights, last) = x.as_chunks::<CHAINS>();
    let mut add = |x: &[f32]| {
        for (sum, &x) in chains.iter_mut().zip(x) {
            *sum += f64::from(x) * f64::from(x);
        }
    };
    eights.iter().for_each(|x| add(x));
    add(last);
    chains.iter().sum()
}
