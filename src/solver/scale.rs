//! The scale of the ratings, and whether a loss is finite there.

use std::sync::Mutex;

use super::alternating::sum_rows;
use super::{Options, Parameters, RowSums};
use crate::error::Result;
use crate::loss;
use crate::matrix::{Ratings, Side};

/// Checks the loss on the scale of the ratings, in units of the model.
pub fn check_loss(options: &Options, ratings: &dyn Ratings, start: &Parameters) -> Result<()> {
    let loss = loss::named_or_formula(&options.loss)?;
    let largest = |sign: f32| -> Result<f32> {
        let largest = Mutex::new(f32::NEG_INFINITY);
        sum_rows(ratings, Side::Users, |_, row, _| {
            let values = row.values.iter().map(|r| sign * r);
            let of_row = values.fold(f32::NEG_INFINITY, f32::max);
            let mut largest = largest.lock().expect("no holder panics");
            *largest = largest.max(of_row);
            RowSums::default()
        })?;
        Ok(sign * largest.into_inner().expect("no holder panics"))
    };
    let in_units = |rating: f32| (rating - start.mean) / start.std;
    let scale = (in_units(largest(-1.0)?), in_units(largest(1.0)?));
    loss::check(&*loss, scale).map(drop)
}
