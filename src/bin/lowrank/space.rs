//! Options of training that may have several values: what a search tries, and what a cross-validation takes one of.

use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;
use lowrank::solver::{Options, SOLVERS};
use lowrank::tune::{Space, Values};
use lowrank::{Error, ErrorKind, Result};
use serde_json::Value;

use crate::train::read_options;

/// What is trained with. Each option may be a list, `32,64`, or a range, `0.01..0.3`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of training: one value, a list 32,64 or a range 0.01..0.3")]
pub struct SpaceArgs {
    /// How the cost is minimised, as for train
    #[arg(long, value_parser = PossibleValuesParser::new(SOLVERS.iter().map(|m| m.name)))]
    solver: Option<String>,
    /// Take options from this file, JSON by the names that train has for them; those on the command line win
    #[arg(long, value_name = "FILE.json")]
    options: Option<PathBuf>,
    /// Passes over both sides, at most [default: 15]
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Seed of the random start, and of what is drawn
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Number of factors
    #[arg(long, value_name = "VALUES")]
    rank: Option<Values>,
    /// Ridge on factors, times the row's number of ratings
    #[arg(long, value_name = "VALUES")]
    regularization: Option<Values>,
    /// Ridge on factors, once a row
    #[arg(long, value_name = "VALUES")]
    regularization_row: Option<Values>,
    /// Ridge on biases, times the row's number of ratings
    #[arg(long, value_name = "VALUES")]
    bias_regularization: Option<Values>,
    /// Ridge on biases, once a row
    #[arg(long, value_name = "VALUES")]
    bias_regularization_row: Option<Values>,
    /// Only ratings that are so or higher tell of a preference
    #[arg(long, value_name = "VALUES", allow_negative_numbers = true)]
    positive_at: Option<Values>,
    /// For implicit feedback: what a rating is multiplied by to be a weight
    #[arg(long, value_name = "VALUES")]
    alpha: Option<Values>,
    /// For implicit feedback: the weight of each cell
    #[arg(long, value_name = "VALUES")]
    unobserved_weight: Option<Values>,
    /// For implicit feedback: the power of a row's weight that its ridge is multiplied by
    #[arg(long, value_name = "VALUES")]
    regularization_exponent: Option<Values>,
    /// For gradient descent: the step along the gradient
    #[arg(long, value_name = "VALUES")]
    learning_rate: Option<Values>,
    /// For gradient descent: divide the rate of epoch t by 1 + X (t - 1)
    #[arg(long, value_name = "VALUES")]
    learning_rate_decay: Option<Values>,
    /// For gradient descent: the share of the last step that is added to the next
    #[arg(long, value_name = "VALUES")]
    momentum: Option<Values>,
}

impl SpaceArgs {
    /// What all trainings have in common: what the file says, and what has one value only.
    ///
    /// # Errors
    /// If the file cannot be read, or says what there is not.
    pub fn base(&self) -> Result<Options> {
        let mut options = Options::default();
        if let Some(file) = &self.options {
            options = options
                .overlaid(&read_options(file)?)
                .map_err(|e| e.path(file))?;
        }
        if let Some(solver) = &self.solver {
            options.solver.clone_from(solver);
        }
        options.epochs = self.epochs.unwrap_or(options.epochs);
        options.seed = self.seed.unwrap_or(options.seed);
        if options.epochs == 0 {
            let what = "a training of no epochs tells nothing";
            return Err(Error::new(ErrorKind::BadOption, what).remedy("give --epochs 1 or more"));
        }
        Ok(options)
    }

    /// Adds what is said on the command line to a space.
    pub fn add_to(&self, space: &mut Space) {
        for (name, values) in [
            ("rank", &self.rank),
            ("regularization", &self.regularization),
            ("regularization-row", &self.regularization_row),
            ("bias-regularization", &self.bias_regularization),
            ("bias-regularization-row", &self.bias_regularization_row),
            ("positive-at", &self.positive_at),
            ("alpha", &self.alpha),
            ("unobserved-weight", &self.unobserved_weight),
            ("regularization-exponent", &self.regularization_exponent),
            ("learning-rate", &self.learning_rate),
            ("learning-rate-decay", &self.learning_rate_decay),
            ("momentum", &self.momentum),
        ] {
            if let Some(values) = values {
                space.set(name, values.clone());
            }
        }
    }
}

/// Options as people read them: `rank 32, regularization 0.05`.
pub fn described(options: &serde_json::Map<String, Value>) -> String {
    let one = |(name, value): (&String, &Value)| match value {
        Value::String(text) => format!("{name} {text}"),
        value => format!("{name} {value}"),
    };
    options.iter().map(one).collect::<Vec<_>>().join(", ")
}
