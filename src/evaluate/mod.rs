//! How good a model is: errors of predicted ratings, and what its recommendations find of what was held out.

mod errors;
mod list;
mod ranking;
mod sampled;
mod watch;

pub(crate) use errors::errors_of_parameters;
pub(crate) use errors::squared_errors;
pub use errors::{Errors, folded_in_errors, rating_errors};
pub use list::List;
pub(crate) use ranking::of_parameters as ranking_of_parameters;
pub use ranking::{Activity, Figure, Protocol, Ranking, folded_in_ranking, ranking};
pub use sampled::Sample;
pub use watch::{Target, Watch};

use crate::error::{Error, ErrorKind, Result};
use crate::store::{Part, Store, UserRows};

/// A measure of how good a model is.
#[derive(Debug)]
pub struct Metric {
    /// Its name on the command line and in JSON.
    pub name: &'static str,
    /// One line for the help.
    pub summary: &'static str,
    /// How it is computed.
    pub measure: Measure,
}

/// How a metric is computed.
#[derive(Debug, Clone, Copy)]
pub enum Measure {
    /// From the sums of all errors of predicted ratings.
    Ratings(fn(&Errors) -> f64),
    /// From each user's list of recommendations; the metric is the mean over users.
    Lists(fn(&List<'_>) -> f64),
    /// As the share of all items that are in somebody's list.
    Coverage,
}

/// Every metric by its name.
pub const METRICS: &[Metric] = &[
    Metric {
        name: "rmse",
        summary: "root mean squared error of predicted ratings",
        measure: Measure::Ratings(Errors::rmse),
    },
    Metric {
        name: "mae",
        summary: "mean absolute error of predicted ratings",
        measure: Measure::Ratings(Errors::mae),
    },
    Metric {
        name: "precision",
        summary: "share of the K recommended items that were held out",
        measure: Measure::Lists(|list| list.precision()),
    },
    Metric {
        name: "recall",
        summary: "share of the held-out items that are among the K recommended",
        measure: Measure::Lists(|list| list.recall()),
    },
    Metric {
        name: "capped-recall",
        summary: "the same, of as many held-out items as fit in K",
        measure: Measure::Lists(|list| list.capped_recall()),
    },
    Metric {
        name: "ndcg",
        summary: "normalised discounted cumulative gain: a hit at rank r counts 1 / log2(r + 1)",
        measure: Measure::Lists(|list| list.ndcg()),
    },
    Metric {
        name: "map",
        summary: "mean over users of average precision at the ranks of hits",
        measure: Measure::Lists(|list| list.average_precision()),
    },
    Metric {
        name: "mrr",
        summary: "mean reciprocal rank of the first hit",
        measure: Measure::Lists(|list| list.reciprocal_rank()),
    },
    Metric {
        name: "hit-rate",
        summary: "share of users with a hit",
        measure: Measure::Lists(|list| list.hit()),
    },
    Metric {
        name: "coverage",
        summary: "share of all items that are recommended to somebody",
        measure: Measure::Coverage,
    },
    Metric {
        name: "novelty",
        summary: "bits of surprise in a recommended item: -log2 of the share of users who had it",
        measure: Measure::Lists(|list| list.novelty()),
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

/// The ratings of one part, of which there must be some.
fn held_out(store: &Store, part: Part) -> Result<UserRows<'_>> {
    let missing = || {
        Error::new(
            ErrorKind::BadOption,
            format!("the store has no {part} part"),
        )
        .path(store.path())
        .remedy(
            "hold some out with lowrank import or lowrank split, or choose another part with --on",
        )
    };
    store
        .part(part)
        .filter(|rows| rows.ratings() > 0)
        .ok_or_else(missing)
}
