//! Options of training that may have several values: what a search tries, and what a cross-validation takes one of.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
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
    #[command(flatten)]
    varied: Varied,
}

/// Options that may vary, and what they are.
const VARIED: &[(&str, &str)] = &[
    ("rank", "Number of factors"),
    (
        "regularization",
        "Ridge on factors, times the row's number of ratings",
    ),
    ("regularization-row", "Ridge on factors, once a row"),
    (
        "bias-regularization",
        "Ridge on biases, times the row's number of ratings",
    ),
    ("bias-regularization-row", "Ridge on biases, once a row"),
    (
        "positive-at",
        "Only ratings that are so or higher tell of a preference",
    ),
    (
        "alpha",
        "For implicit feedback: what a rating is multiplied by to be a weight",
    ),
    (
        "unobserved-weight",
        "For implicit feedback: the weight of each cell",
    ),
    (
        "regularization-exponent",
        "For implicit feedback: the power of a row's weight that its ridge is multiplied by",
    ),
    (
        "negatives",
        "For softmax, ccl, warp, bpr and logistic-mf: items drawn for each batch, or each positive",
    ),
    (
        "margin",
        "For ccl: the cosine beyond which a negative is pushed away; for warp: by how much a positive shall outdo one",
    ),
    (
        "negative-weight",
        "For ccl and logistic-mf: the weight of all negatives together, for each positive",
    ),
    ("temperature", "For softmax: what cosines are divided by"),
    (
        "dropout",
        "For softmax, ccl, bpr, warp and logistic-mf: the share of a user's factors that are left out",
    ),
    (
        "batch-size",
        "For softmax, ccl, bpr, warp and logistic-mf: users of a mini-batch",
    ),
    (
        "neighbours",
        "For item-knn: how many of each item's nearest neighbours are kept",
    ),
    (
        "shrinkage",
        "For item-knn: added to the length that a similarity is divided by",
    ),
    (
        "learning-rate",
        "For gradient descent: the step along the gradient",
    ),
    (
        "learning-rate-decay",
        "For gradient descent: divide the rate of epoch t by 1 + X (t - 1)",
    ),
    (
        "momentum",
        "For gradient descent: the share of the last step that is added to the next",
    ),
];

/// Those of [`VARIED`] that are given.
#[derive(Debug, Clone)]
struct Varied(Vec<(&'static str, Values)>);

impl Args for Varied {
    fn augment_args(command: Command) -> Command {
        VARIED.iter().fold(command, |command, &(name, help)| {
            let arg = Arg::new(name).long(name).help(help).value_name("VALUES");
            let values = clap::value_parser!(Values);
            command.arg(arg.value_parser(values).allow_negative_numbers(true))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Varied::augment_args(command)
    }
}

impl FromArgMatches for Varied {
    fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<Varied, clap::Error> {
        let given = |&(name, _): &(&'static str, _)| Some((name, matches.get_one(name).cloned()?));
        Ok(Varied(VARIED.iter().filter_map(given).collect()))
    }

    fn update_from_arg_matches(
        &mut self,
        matches: &ArgMatches,
    ) -> std::result::Result<(), clap::Error> {
        *self = Varied::from_arg_matches(matches)?;
        Ok(())
    }
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
        for (name, values) in &self.varied.0 {
            space.set(name, values.clone());
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
