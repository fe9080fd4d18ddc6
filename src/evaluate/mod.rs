//! How good predictions are: errors of ratings, in one parallel pass.

use crate::error::{Error, ErrorKind, Result};
use crate::matrix::{Ratings, Row, Side};
use crate::model::Model;
use crate::solver::{Own, Parameters, RowSums, sum_rows};
use crate::store::{Dictionary, Part, Store};

/// A measure of the errors of predicted ratings.
#[derive(Debug)]
pub struct Metric {
    /// Its name on the command line and in JSON.
    pub name: &'static str,
    /// One line for the help.
    pub summary: &'static str,
    /// Its value, from the sums of all errors.
    pub value: fn(&Errors) -> f64,
}

/// Every metric of ratings by its name.
pub const METRICS: &[Metric] = &[
    Metric {
        name: "rmse",
        summary: "root mean squared error",
        value: |errors| (errors.squared / errors.ratings as f64).sqrt(),
    },
    Metric {
        name: "mae",
        summary: "mean absolute error",
        value: |errors| errors.absolute / errors.ratings as f64,
    },
];

/// Finds a metric by name.
///
/// # Errors
/// If there is none of this name; the message lists those that there are.
pub fn metric(name: &str) -> Result<&'static Metric> {
    METRICS.iter().find(|m| m.name == name).ok_or_else(|| {
        let known: Vec<_> = METRICS.iter().map(|m| m.name).collect();
        Error::new(ErrorKind::BadOption, format!("no metric named {name:?}"))
            .remedy(format!("there are {}", known.join(", ")))
    })
}

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

/// Measures a model on one part of a store, which may be another than it was trained on: ids are what counts. Predictions
/// are put on the scale of the ratings if `clip`. Runs on the thread pool it is called in.
///
/// # Errors
/// If the store has no ratings in this part, or they cannot be read.
pub fn rating_errors(model: &Model, store: &Store, part: Part, clip: bool) -> Result<Errors> {
    let missing = || {
        Error::new(
            ErrorKind::BadOption,
            format!("the store has no {part} part"),
        )
        .path(store.path())
        .remedy(
            "import with --test, --test-fraction or --test-last, or choose another part with --on",
        )
    };
    let rows = store
        .part(part)
        .filter(|rows| rows.ratings() > 0)
        .ok_or_else(missing)?;
    let users = IdMap::new(store.users(), model.dictionary(Side::Users))?;
    let items = IdMap::new(store.items(), model.dictionary(Side::Items))?;
    let sums = sum_rows(&rows, Side::Users, |user, row, _| {
        let user = users.get(user as u32);
        let mut sums = RowSums::default();
        for (&col, &rating) in row.cols.iter().zip(row.values) {
            let item = items.get(col);
            let mut prediction = model.predict(user, item);
            if clip {
                prediction = model.clip(prediction);
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

/// The sum of squared errors of parameters on ratings over the same numbers, not clipped.
pub(crate) fn squared_errors(ratings: &dyn Ratings, parameters: &Parameters) -> Result<f64> {
    let items = parameters.fixed_items();
    let sums = sum_rows(ratings, Side::Users, |user, row: Row<'_>, predictions| {
        predictions.resize(row.len(), 0.0);
        items.predict(Own::of(&parameters.users, user), row, predictions);
        let mut sums = RowSums::default();
        for (&p, &rating) in predictions.iter().zip(row.values) {
            let error = f64::from(items.mean + items.std * p - rating);
            sums.squared_error += error * error;
        }
        sums
    })?;
    Ok(sums.squared_error)
}

/// From the rows of one dictionary to those of another that have the same ids.
#[derive(Debug)]
pub(crate) enum IdMap {
    /// The dictionaries are the same.
    Same,
    /// The row of each row, or one beyond all where the id is not known.
    Rows(Vec<u32>),
}

impl IdMap {
    const UNKNOWN: u32 = u32::MAX;

    pub(crate) fn new(from: &Dictionary, to: &Dictionary) -> Result<IdMap> {
        if from.seal() == to.seal() {
            return Ok(IdMap::Same);
        }
        let row = |row| Ok(to.lookup(from.id(row)?)?.unwrap_or(Self::UNKNOWN));
        (0..from.len())
            .map(row)
            .collect::<Result<_>>()
            .map(IdMap::Rows)
    }

    /// The row that corresponds to a row, if there is one.
    pub(crate) fn get(&self, row: u32) -> Option<u32> {
        match self {
            IdMap::Same => Some(row),
            IdMap::Rows(rows) => Some(rows[row as usize]).filter(|&row| row != Self::UNKNOWN),
        }
    }
}
