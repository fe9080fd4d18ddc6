//! Errors of predicted ratings, in one parallel pass.

use std::ops::Range;

use super::held_out;
use crate::error::Result;
use crate::matrix::{Factors, Ratings, Side};
use crate::model::{GATHERED, Model};
use crate::recommend::FoldedIn;
use crate::solver::{
    self, Fixed, Own, Parameters, RowSums, sum_errors, sum_gathered_rows, sum_rows,
};
use crate::store::{IdMap, Part, Store};

/// Sums of the errors of predicted ratings, in the ratings' own units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Errors {
    /// Of absolute errors.
    pub absolute: f64,
    /// Of squared errors.
    pub squared: f64,
    /// How many ratings.
    pub ratings: u64,
    /// How many of them are of a user or an item that the model does not know.
    pub unknown: u64,
}

impl Errors {
    /// The root mean squared error.
    pub fn rmse(&self) -> f64 {
        (self.squared / self.ratings as f64).sqrt()
    }

    /// The mean absolute error.
    pub fn mae(&self) -> f64 {
        self.absolute / self.ratings as f64
    }
}

/// Measures a model on one part of a store, which may be another than it was trained on: ids are what counts. Predictions
/// are put on the scale of the ratings if `clip`. Runs on the thread pool it is called in.
///
/// # Errors
/// If the store has no ratings in this part, or they cannot be read.
pub fn rating_errors(model: &Model, store: &Store, part: Part, clip: bool) -> Result<Errors> {
    let users = IdMap::new(store.users(), model.dictionary(Side::Users))?;
    let items = IdMap::new(store.items(), model.dictionary(Side::Items))?;
    let scale = clip.then_some(model.record().scale);
    let parameters = model.parameters();
    let row = |user| users.get(user);
    errors(
        store,
        part,
        &items,
        scale,
        parameters,
        &parameters.users,
        row,
    )
}

/// As [`rating_errors`], of parameters that number rows as the store does, on the scale of its ratings.
pub(crate) fn errors_of_parameters(
    parameters: &Parameters,
    store: &Store,
    part: Part,
) -> Result<Errors> {
    let scale = Some(store.manifest().scale);
    let users = &parameters.users;
    errors(store, part, &IdMap::Same, scale, parameters, users, Some)
}

/// As [`rating_errors`], of users who were folded in: `row` gives the row of a user of the store, if that one was.
///
/// # Errors
/// As [`rating_errors`].
pub fn folded_in_errors(
    model: &Model,
    store: &Store,
    part: Part,
    clip: bool,
    folded_in: &FoldedIn,
    row: impl Fn(u32) -> Option<u32> + Sync,
) -> Result<Errors> {
    // Who is folded in has a row of factors.
    model.factors(Side::Items)?;
    let items = IdMap::new(store.items(), model.dictionary(Side::Items))?;
    let scale = clip.then_some(model.record().scale);
    let (parameters, users) = (model.parameters(), folded_in.users());
    errors(store, part, &items, scale, parameters, users, row)
}

/// The errors of predictions for users of the store, each of whom has a row of `users` or is not known, clipped to a scale if
/// there is one. Users may be spilled.
fn errors(
    store: &Store,
    part: Part,
    items: &IdMap,
    scale: Option<(f32, f32)>,
    parameters: &Parameters,
    users: &Factors,
    row: impl Fn(u32) -> Option<u32> + Sync,
) -> Result<Errors> {
    let rows = held_out(store, part)?;
    let gather = |rows: Range<usize>| {
        let rows: Vec<_> = rows.map(|user| row(user as u32)).collect();
        users.gather(&rows)
    };
    let sums = sum_gathered_rows(&rows, Side::Users, GATHERED, gather, |user, own, rated| {
        let row = row(user as u32);
        let user = row.map(|_| own);
        let mut sums = RowSums::default();
        for (&col, &rating) in rated.cols.iter().zip(rated.values) {
            let item = items.get(col);
            let at = item.map(|item| item as usize);
            let mut prediction = match parameters.neighbourhood {
                Some(_) => parameters.predict(row.map(|row| row as usize), at),
                None => parameters.predict_of(user, at),
            };
            if let Some((low, high)) = scale {
                prediction = prediction.clamp(low, high);
            }
            let error = f64::from(prediction - rating);
            sums.loss += error.abs();
            sums.squared_error += error * error;
            // Sums of whole numbers below 2^53 are exact.
            sums.penalty += f64::from(u8::from(user.is_none() || item.is_none()));
        }
        sums
    })?;
    Ok(Errors {
        absolute: sums.loss,
        squared: sums.squared_error,
        ratings: rows.ratings(),
        unknown: sums.penalty as u64,
    })
}

/// The sum of squared errors of parameters on ratings over the same numbers, not clipped. Either side may be spilled.
pub(crate) fn squared_errors(ratings: &dyn Ratings, parameters: &Parameters) -> Result<f64> {
    if let Some(neighbourhood) = &parameters.neighbourhood {
        let sums = sum_rows(ratings, Side::Users, |user, row, _| {
            let rated = row.cols.iter().zip(row.values);
            let error = |(&item, &rating): (&u32, &f32)| {
                f64::from(neighbourhood.score(user, item as usize) - rating).powi(2)
            };
            [rated.map(error).sum()]
        })?;
        return Ok(sums[0]);
    }
    let (users, items) = (&parameters.users, parameters.fixed_items());
    Ok(sum_errors(ratings, Side::Users, users, &items, &Squares)?.squared_error)
}

/// Squared errors in the ratings' own units, added one by one.
struct Squares;

impl solver::Errors for Squares {
    type Sums = f64;

    fn add(&self, fixed: &Fixed<'_>, predictions: &[f32], ratings: &[f32], sums: &mut f64) {
        for (&p, &rating) in predictions.iter().zip(ratings) {
            let error = f64::from(fixed.mean + fixed.std * p - rating);
            *sums += error * error;
        }
    }

    fn finish(&self, _own: Own<'_>, _ratings: usize, sums: f64) -> RowSums {
        RowSums {
            squared_error: sums,
            ..RowSums::default()
        }
    }
}
