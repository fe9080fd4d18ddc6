//! What can be asked for of training.

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Id, ValueEnum};
use lowrank::evaluate::Target;
use lowrank::loss::{Formula, LOSSES, PENALTIES};
use lowrank::solver::{Direction, Init, Missing, Options, Reduce, Rule, SOLVERS, Step, Update};
use lowrank::{Error, ErrorKind, Result};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::args::choices;
use crate::short_text;

/// Factorize the ratings of a store.
///
/// Minimises the sum of losses + 1/2 sum over rows of (regularization x n + regularization-row) x |row|^2, where n is the
/// row's number of ratings. The model is the same to the bit for any number of threads and any memory budget.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// The store to train on
    pub store: PathBuf,
    /// The model to make
    #[arg(long, short, value_name = "MODEL")]
    pub out: PathBuf,
    /// How the cost is minimised
    #[arg(long, default_value = "als", value_parser = solver_names(), hide_possible_values = true, help = solver_help())]
    pub solver: String,
    /// What is minimised, by name or as a formula in p (the prediction) and r (the rating)
    #[arg(long, value_name = "NAME-OR-FORMULA", default_value = "squared", long_help = loss_help())]
    pub loss: String,
    /// What factors and biases cost by their size, by name or as a formula in x
    #[arg(help_heading = "Regularization", long, value_name = "NAME-OR-FORMULA", default_value = PENALTIES[0].name, long_help = regularizer_help())]
    pub regularizer: String,
    /// Number of factors [default: 32, or that of the given start]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u16).range(1..=Options::MAX_RANK as i64))]
    pub rank: Option<u16>,
    /// Which ratings of the store to train on: the training part, or all, those held out too, for a model that nobody measures
    #[arg(long, value_enum, default_value_t = On::Train)]
    pub on: On,
    /// Take options from this file, JSON by the names that they have here; those on the command line win
    #[arg(long, value_name = "FILE.json")]
    pub options: Option<PathBuf>,
    /// The options that were given on the command line.
    #[arg(skip)]
    given: Vec<String>,
    /// Passes over both sides
    #[arg(long, value_name = "N", default_value_t = Options::default().epochs)]
    pub epochs: usize,
    /// Seed of the random start
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Ridge on factors, times the row's number of ratings
    #[arg(help_heading = "Regularization", long, value_name = "X", help = regularization_help())]
    pub regularization: Option<f32>,
    /// Ridge on factors, once a row; both may be used at once [for ease, 300 where neither is given]
    #[arg(
        help_heading = "Regularization",
        long,
        value_name = "X",
        default_value_t = 0.0
    )]
    pub regularization_row: f32,
    /// Ridge on biases, times the row's number of ratings [default: as the factors']
    #[arg(help_heading = "Regularization", long, value_name = "X")]
    pub bias_regularization: Option<f32>,
    /// Ridge on biases, once a row [default: as the factors']
    #[arg(help_heading = "Regularization", long, value_name = "X")]
    pub bias_regularization_row: Option<f32>,
    /// Predict by the product of factors alone, without mean and biases, as nmf, svd, ccl, ials and its kin and models without
    /// factors always do
    #[arg(help_heading = "Prediction", long)]
    pub no_biases: bool,
    /// Bring the ratings to mean 0 and variance 1 first
    #[arg(help_heading = "Prediction", long)]
    pub normalize: bool,
    /// Whether cells without a rating are left out or count as zeros [default: as the solver has it]
    #[arg(help_heading = "Other solvers", long, value_parser = choice::<Missing>(&["skip", "zero"]))]
    pub missing: Option<Missing>,
    /// For nmf: how a row moves
    #[arg(help_heading = "Other solvers", long, default_value = "multiplicative", value_parser = choice::<Rule>(&["multiplicative", "hals"]))]
    pub rule: Rule,
    /// For cg and ials-cg: steps for each row
    #[arg(help_heading = "Other solvers", long, value_name = "N", default_value_t = Options::default().cg_steps as u16, value_parser = clap::value_parser!(u16).range(1..))]
    pub cg_steps: u16,
    /// Only ratings that are so or higher tell of a preference [default: all]
    #[arg(
        help_heading = "Implicit feedback",
        long,
        value_name = "RATING",
        allow_negative_numbers = true
    )]
    pub positive_at: Option<f32>,
    /// Multiply a rating by this to be a weight [default: every rating has the weight 1]
    #[arg(help_heading = "Implicit feedback", long, value_name = "X")]
    pub alpha: Option<f32>,
    /// The weight of each cell, rated or not, in which nothing is to be predicted
    #[arg(help_heading = "Implicit feedback", long, value_name = "X", default_value_t = Options::default().unobserved_weight)]
    pub unobserved_weight: f32,
    /// The power of a row's weight, of its ratings and cells together, that its ridge is multiplied by
    #[arg(help_heading = "Implicit feedback", long, value_name = "X", default_value_t = Options::default().regularization_exponent)]
    pub regularization_exponent: f32,
    /// For softmax, ccl and warp: items drawn for each batch, shared by its users; for bpr and logistic-mf: items drawn for each positive
    /// [default: 2048 for softmax, 1024 for ccl, 512 for warp, 1 for bpr, 8 for logistic-mf]
    #[arg(help_heading = "Implicit feedback", long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub negatives: Option<u32>,
    /// For ccl: the cosine beyond which a negative is pushed away; for warp: by how much a positive shall outdo a negative
    /// [default: 0.6 for ccl, 1 for warp]
    #[arg(help_heading = "Implicit feedback", long, value_name = "X")]
    pub margin: Option<f32>,
    /// For ccl and logistic-mf: the weight of all negatives together, for each positive [default: the 256th part of the items for ccl, and 1 for each
    /// negative for logistic-mf]
    #[arg(help_heading = "Implicit feedback", long, value_name = "X")]
    pub negative_weight: Option<f32>,
    /// For softmax: what cosines are divided by; the lower, the more the nearest items count
    #[arg(help_heading = "Implicit feedback", long, value_name = "X", default_value_t = Options::default().temperature)]
    pub temperature: f32,
    /// For softmax, ccl, bpr, warp and logistic-mf: the share of a user's factors that are left out, drawn anew each time that the user is met
    #[arg(help_heading = "Implicit feedback", long, value_name = "SHARE", default_value_t = Options::default().dropout)]
    pub dropout: f32,
    /// For softmax, ccl, bpr, warp and logistic-mf: users of a mini-batch [default: 256 for softmax, 512 for the others]
    #[arg(help_heading = "Implicit feedback", long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub batch_size: Option<u32>,
    /// For item-knn: how many of each item's nearest neighbours are kept
    #[arg(help_heading = "Implicit feedback", long, value_name = "N", default_value_t = Options::default().neighbours as u32, value_parser = clap::value_parser!(u32).range(1..))]
    pub neighbours: u32,
    /// For item-knn: added to the length that a similarity is divided by, which holds back items with few users
    #[arg(help_heading = "Implicit feedback", long, value_name = "X", default_value_t = Options::default().shrinkage)]
    pub shrinkage: f32,
    /// For ials++: factors of a row that are solved for at a time
    #[arg(help_heading = "Implicit feedback", long, value_name = "K", default_value_t = Options::default().block as u16, value_parser = clap::value_parser!(u16).range(1..))]
    pub block: u16,
    /// Whether losses are summed or averaged
    #[arg(help_heading = "Gradient descent", long, default_value = "sum", value_parser = choice::<Reduce>(&["sum", "mean"]))]
    pub reduce: Reduce,
    /// Whether both sides step from the same point, or the second sees the first one's step
    #[arg(help_heading = "Gradient descent", long, default_value = "simultaneous", value_parser = choice::<Update>(&["simultaneous", "alternating"]))]
    pub update: Update,
    /// Whether a step goes along the gradient, or along conjugate directions: the gradient over curvatures, and a share of the
    /// last direction [default: conjugate for exact steps, steepest with a learning rate or --momentum]
    #[arg(help_heading = "Gradient descent", long, value_parser = choice::<Direction>(&["steepest", "conjugate"]))]
    pub direction: Option<Direction>,
    /// For sgd: whether a step goes by the learning rate alone, or adapts to the gradients that the row has seen
    #[arg(help_heading = "Gradient descent", long, default_value = "adagrad", value_parser = choice::<Step>(&["plain", "adagrad"]))]
    pub step: Step,
    /// The step along the gradient [default: the exact one, for squares; for sgd 0.2, or 0.02 with --step plain; for
    /// softmax, ccl, bpr, warp and logistic-mf 0.1; cell-gradient has none]
    #[arg(
        help_heading = "Gradient descent",
        long,
        value_name = "X",
        conflicts_with = "learning_rates"
    )]
    pub learning_rate: Option<f32>,
    /// A rate for each epoch: numbers with commas between them, or a file of them
    #[arg(help_heading = "Gradient descent", long, value_name = "LIST-OR-FILE")]
    pub learning_rates: Option<String>,
    /// Divide the rate of epoch t by 1 + X (t - 1)
    #[arg(
        help_heading = "Gradient descent",
        long,
        value_name = "X",
        default_value_t = 0.0
    )]
    pub learning_rate_decay: f32,
    /// Add this share of the last step to the next direction
    #[arg(
        help_heading = "Gradient descent",
        long,
        value_name = "X",
        default_value_t = 0.0
    )]
    pub momentum: f32,
    /// How starting factors are drawn: gaussian with rows about of length 1, gaussian with rows scaled to length 1, or uniform
    /// from 0.1 to 0.9 [default: gaussian; uniform for nmf]
    #[arg(
        help_heading = "Starting factors",
        long,
        value_name = "NAME",
        conflicts_with = "init_users",
        value_parser = choice::<Init>(&["gaussian", "unit-rows", "uniform"])
    )]
    pub init: Option<Init>,
    /// Start from these factors of users: CSV lines of an id and its factors
    #[arg(
        help_heading = "Starting factors",
        long,
        value_name = "FILE",
        requires = "init_items"
    )]
    pub init_users: Option<PathBuf>,
    /// Start from these factors of items
    #[arg(
        help_heading = "Starting factors",
        long,
        value_name = "FILE",
        requires = "init_users"
    )]
    pub init_items: Option<PathBuf>,
    /// Stop when the validation part has not been predicted better for N epochs, and keep the best
    #[arg(help_heading = "While it runs", long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub early_stop: Option<u16>,
    /// What tells whether it is: rmse, or a metric of recommendations with its cut-off, such as ndcg@20
    #[arg(
        help_heading = "While it runs",
        long,
        value_name = "METRIC",
        default_value = "rmse"
    )]
    pub early_stop_metric: String,
    /// Keep what is needed to go on, every N epochs, in MODEL.checkpoint
    #[arg(help_heading = "While it runs", long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub checkpoint_every: Option<u16>,
    /// Go on from MODEL.checkpoint, if there is one, to the same model as without interruption
    #[arg(help_heading = "While it runs", long)]
    pub resume: bool,
    /// Write a line for each epoch to this CSV file
    #[arg(help_heading = "While it runs", long, value_name = "FILE")]
    pub history: Option<PathBuf>,
    /// Write how multiplicative updates converge to this CSV file: objective, descent, singular values and more by iteration
    #[arg(
        help_heading = "While it runs",
        long,
        value_name = "FILE",
        conflicts_with = "resume"
    )]
    pub study: Option<PathBuf>,
    /// Print what training would hold in memory, read in every epoch and keep on disk, and stop
    #[arg(long)]
    pub plan: bool,
    /// Replace the model, the history and the study if they exist
    #[arg(long)]
    pub force: bool,
}

/// What to train on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum On {
    Train,
    All,
}

/// Reads one of a few names as the option that has this name wherever options are written down.
fn choice<T>(names: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: DeserializeOwned + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).map(|name| {
        serde_json::from_value(Value::String(name)).expect("every choice is a name of the option")
    })
}

fn solver_names() -> Vec<&'static str> {
    SOLVERS.iter().map(|method| method.name).collect()
}

fn solver_help() -> String {
    let all = SOLVERS.iter().map(|m| (m.name, m.summary));
    choices("How the cost is minimised", all)
}

fn regularization_help() -> String {
    let usual = SOLVERS[0].regularization;
    let others = SOLVERS.iter().filter(|m| m.regularization != usual);
    let others = others.map(|m| format!(", {} for {}", m.regularization, m.name));
    format!(
        "Ridge on factors, times the row's number of ratings [default: {usual}{}]",
        others.collect::<String>()
    )
}

fn loss_help() -> String {
    let all = LOSSES
        .iter()
        .map(|loss| format!("  {:20} {}\n", loss.name, loss.summary));
    format!(
        "What is minimised: a name, with its parameter in parentheses if it shall be another, such as huber(0.5):\n{}\
         or a formula in p (the prediction) and r (the rating), such as '(p-r)^2' or 'log(1+exp(-r*p))', with the functions \
         {}. Its derivatives are derived. The solver nmf minimises squared or kl, the Kullback-Leibler divergence.",
        all.collect::<String>(),
        Formula::functions().collect::<Vec<_>>().join(", "),
    )
}

fn regularizer_help() -> String {
    let all = PENALTIES
        .iter()
        .map(|penalty| format!("{} for {}", penalty.name, penalty.formula));
    format!(
        "What each factor and bias costs by its size, weighed as the ridges are: {}, or another formula in x, such as \
         '0.5*x^2 + 0.1*abs(x)', with the functions of losses. Its slope is derived.",
        all.collect::<Vec<_>>().join(", "),
    )
}

/// What was asked for; the rank is that of the given start, if there is one.
pub fn options(args: &TrainArgs, start: Option<usize>) -> Result<Options> {
    let rank = args.rank.map_or(Options::default().rank, usize::from);
    let rank = start.unwrap_or(rank);
    let learning_rates = match (args.learning_rate, &args.learning_rates) {
        (Some(rate), _) => vec![rate],
        (None, Some(list)) => rates(list)?,
        (None, None) => Vec::new(),
    };
    let options = Options {
        solver: args.solver.clone(),
        loss: args.loss.clone(),
        regularizer: args.regularizer.clone(),
        rank,
        epochs: args.epochs,
        seed: args.seed,
        regularization: args.regularization,
        regularization_row: args.regularization_row,
        bias_regularization: args.bias_regularization,
        bias_regularization_row: args.bias_regularization_row,
        biases: !args.no_biases,
        normalize: args.normalize,
        reduce: args.reduce,
        update: args.update,
        direction: args.direction,
        missing: args.missing,
        init: args.init,
        rule: args.rule,
        step: args.step,
        learning_rates,
        learning_rate_decay: args.learning_rate_decay,
        momentum: args.momentum,
        cg_steps: usize::from(args.cg_steps),
        positive_at: args.positive_at,
        alpha: args.alpha,
        unobserved_weight: args.unobserved_weight,
        regularization_exponent: args.regularization_exponent,
        negatives: args.negatives.map(|n| n as usize),
        margin: args.margin,
        negative_weight: args.negative_weight,
        temperature: args.temperature,
        dropout: args.dropout,
        batch_size: args.batch_size.map(|n| n as usize),
        neighbours: args.neighbours as usize,
        shrinkage: args.shrinkage,
        block: usize::from(args.block),
        early_stop: args.early_stop.map(usize::from),
        early_stop_metric: Target::parse(&args.early_stop_metric)?.name(),
    };
    match &args.options {
        None => Ok(options.resolved()),
        Some(file) => {
            let mut named = read_options(file)?;
            named.retain(|name, _| !args.is_given(name));
            let options = options.overlaid(&named).map_err(|e| e.path(file))?;
            Ok(Options {
                rank: start.unwrap_or(options.rank),
                ..options
            }
            .resolved())
        }
    }
}

impl TrainArgs {
    /// Takes note of which options were given on the command line.
    pub fn note_given(&mut self, matches: &ArgMatches) {
        let given = |id: &&Id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine);
        self.given = matches.ids().filter(given).map(Id::to_string).collect();
    }

    /// Whether the option of this name in a file was given on the command line, too.
    fn is_given(&self, name: &str) -> bool {
        let ids = match name {
            "biases" => vec!["no_biases".to_owned()],
            "learning-rate" | "learning-rates" => {
                vec!["learning_rate".to_owned(), "learning_rates".to_owned()]
            }
            name => vec![name.replace('-', "_")],
        };
        ids.iter().any(|id| self.given.contains(id))
    }
}

/// Options by their names, from a JSON file.
///
/// # Errors
/// If it cannot be read, or is no JSON object.
pub fn read_options(path: &Path) -> Result<Map<String, Value>> {
    let text = short_text::read(path)?;
    serde_json::from_str(&text).map_err(|e| {
        Error::new(ErrorKind::BadInput, format!("no options in JSON: {e}"))
            .path(path)
            .line(e.line() as u64)
            .remedy("write them as in {\"rank\": 64, \"regularization\": 0.1}")
    })
}

/// Learning rates from a list, or from a file with commas, blanks or newlines between them.
fn rates(list: &str) -> Result<Vec<f32>> {
    let parse = |text: &str| -> std::result::Result<Vec<f32>, String> {
        text.split(|c: char| c == ',' || c.is_whitespace())
            .filter(|word| !word.is_empty())
            .map(|word| word.parse().map_err(|_| word.to_owned()))
            .collect()
    };
    if let Ok(rates) = parse(list) {
        return Ok(rates);
    }
    let text = short_text::read(Path::new(list))?;
    parse(&text).map_err(|word| {
        Error::new(
            ErrorKind::BadInput,
            format!("{word:?} is not a learning rate"),
        )
        .path(list)
    })
}

/// Options by the names that they have here, as text; those that are not set are left out.
pub fn names(options: &Options) -> Vec<(String, String)> {
    let mut names = Vec::new();
    for (name, value) in options.named() {
        let value = match value {
            Value::String(text) => text,
            Value::Array(values) => {
                let values: Vec<String> = values.iter().map(Value::to_string).collect();
                values.join(",")
            }
            other => other.to_string(),
        };
        if !value.is_empty() {
            names.push((name, value));
        }
    }
    names
}
