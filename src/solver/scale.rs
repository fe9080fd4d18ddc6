//! The scale of the ratings: whether a loss is finite there, and whether none is below zero.

use std::sync::Mutex;

use super::alternating::sum_rows;
use super::{Options, Parameters, RowSums};
use crate::error::{Error, ErrorKind, Result};
use crate::loss;
use crate::matrix::{Ratings, Side};

/// Checks the loss on the scale of the ratings, in units of the model.
pub fn check_loss(options: &Options, ratings: &dyn Ratings, start: &Parameters) -> Result<()> {
    let loss = loss::named_or_formula(&options.loss)?;
    let wider = |(low, high): (f32, f32), r: f32| (low.min(r), high.max(r));
    let scale = Mutex::new((f32::INFINITY, f32::NEG_INFINITY));
    sum_rows(ratings, Side::Users, |_, row, _| {
        let values = row.values.iter().copied();
        let of_row = values.fold((f32::INFINITY, f32::NEG_INFINITY), wider);
        let mut scale = scale.lock().expect("no holder panics");
        *scale = (scale.0.min(of_row.0), scale.1.max(of_row.1));
        RowSums::default()
    })?;
    let (low, high) = scale.into_inner().expect("no holder panics");
    let in_units = |rating: f32| (rating - start.mean) / start.std;
    loss::check(&*loss, (in_units(low), in_units(high))).map(drop)
}

/// Refuses ratings below zero, and names the first one by user. `why` says what is wrong with them.
pub fn refuse_negative(ratings: &dyn Ratings, why: &str, remedy: &str) -> Result<()> {
    if ratings.least_rating().is_some_and(|least| least >= 0.0) {
        return Ok(());
    }
    let first = Mutex::new(None::<(usize, u32, f32)>);
    sum_rows(ratings, Side::Users, |user, row, _| {
        if let Some(at) = row.values.iter().position(|&rating| rating < 0.0) {
            let mut first = first.lock().expect("no holder panics");
            if first.is_none_or(|(other, ..)| user < other) {
                *first = Some((user, row.cols[at], row.values[at]));
            }
        }
        RowSums::default()
    })?;
    let Some((user, item, rating)) = first.into_inner().expect("no holder panics") else {
        return Ok(());
    };
    let what = format!(
        "user {} rates item {} with {rating}, and {why}",
        ratings.id(Side::Users, user),
        ratings.id(Side::Items, item as usize),
    );
    Err(Error::new(ErrorKind::BadInput, what).remedy(remedy.to_owned()))
}
