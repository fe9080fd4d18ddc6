//! `lowrank check-gradients`

use std::path::PathBuf;

use clap::Args;
use lowrank::check_gradients::{LARGEST_ERROR, Worst, check_gradients, small_ratings};
use lowrank::loss::{LOSSES, PENALTIES};
use lowrank::matrix::Ratings;
use lowrank::solver::{Options, Parameters};
use lowrank::store::Store;
use lowrank::{Error, ErrorKind, Result};
use serde::Serialize;

use crate::session::Session;

/// Check derived gradients against differences of the cost.
///
/// The gradient of the total cost by random factors and biases is compared with central differences, both in f64. The exit
/// status is 1 where they differ by more than 0.00001 of the gradient's terms.
#[derive(Debug, Args)]
pub struct CheckGradientsArgs {
    /// The store whose ratings to check on [default: a small built-in set]
    store: Option<PathBuf>,
    /// The loss to check, by name or as a formula in p and r [default: every loss that has a name]
    #[arg(long, value_name = "NAME-OR-FORMULA")]
    loss: Option<String>,
    /// What factors and biases cost by their size, by name or as a formula in x
    #[arg(long, value_name = "NAME-OR-FORMULA", default_value = PENALTIES[0].name)]
    regularizer: String,
    /// Number of factors
    #[arg(long, value_name = "K", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=Options::MAX_RANK as i64))]
    rank: u16,
    /// How many factors and biases to check for each loss
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    coordinates: u32,
    /// Seed of parameters and coordinates
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

#[derive(Serialize)]
struct Outcome {
    largest_error: f64,
    losses: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    loss: String,
    worst_relative_error: f64,
    at: String,
    derived: f64,
    numeric: f64,
    passes: bool,
}

/// Runs the command.
pub fn run(args: CheckGradientsArgs, session: &Session) -> Result<()> {
    let losses = match args.loss {
        Some(loss) => vec![loss],
        None => LOSSES.iter().map(|named| named.name.to_owned()).collect(),
    };
    let mut store = args.store.map(Store::open).transpose()?;
    let small = small_ratings();
    let rank = usize::from(args.rank);
    let mut plan = session.plan();
    let shape = store.as_ref().map_or(small.shape(), Ratings::shape);
    plan.hold("factors", Parameters::bytes(shape, rank, true));
    let rest = plan.rest(0)?;
    if let Some(store) = &mut store {
        store.keep_within(rest);
    }
    let ratings = store.as_ref().map_or(&small as &dyn Ratings, |store| store);
    let mut lines = Vec::new();
    for loss in losses {
        let options = Options {
            loss,
            regularizer: args.regularizer.clone(),
            rank,
            seed: args.seed,
            ..Options::default()
        };
        let coordinates = args.coordinates as usize;
        let worst = check_gradients(ratings, &options, coordinates, &session.threads)?;
        lines.push(Line::new(options.loss, &worst));
    }
    let width = lines.iter().map(|line| line.loss.len()).max().unwrap_or(0);
    let text: String = lines.iter().map(|line| line.text(width)).collect();
    let outcome = Outcome {
        largest_error: LARGEST_ERROR,
        losses: lines,
    };
    session.print(&outcome, text)?;
    match outcome.losses.iter().find(|line| !line.passes) {
        None => Ok(()),
        Some(Line {
            loss,
            worst_relative_error: error,
            at,
            ..
        }) => {
            let what = format!(
                "the gradient of {loss} is off by {error:.1e} of its terms at {at}, more than {LARGEST_ERROR:e}"
            );
            Err(Error::new(ErrorKind::BadInput, what)
                .remedy("write the formula so that no large numbers cancel, and so that it has no jump there"))
        }
    }
}

impl Line {
    fn new(loss: String, worst: &Worst) -> Line {
        Line {
            loss,
            worst_relative_error: worst.error,
            at: worst.at.to_string(),
            derived: worst.derived,
            numeric: worst.numeric,
            passes: worst.passes(),
        }
    }

    fn text(&self, width: usize) -> String {
        format!(
            "{:width$}  worst relative error {:.1e}, at {}: {:.9e} derived, {:.9e} by differences\n",
            self.loss, self.worst_relative_error, self.at, self.derived, self.numeric
        )
    }
}
