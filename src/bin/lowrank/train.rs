//! `lowrank train`

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueEnum};
use lowrank::loss::{Formula, LOSSES, PENALTIES};
use lowrank::matrix::{Ratings, Side};
use lowrank::memory::Plan;
use lowrank::model::{Checkpoint, Model, Run, read_start};
use lowrank::rng::mix;
use lowrank::solver::{Missing, Options, Reduce, Rule, SOLVERS, Step, Update};
use lowrank::store::{AtomicDir, AtomicFile, Part, Store};
use lowrank::train::{Epoch, Pace, State, Trainer};
use lowrank::{Error, ErrorKind, Parameters, Result};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::args::choices;
use crate::history;
use crate::session::{Session, aligned};
use crate::study::StudyFile;

/// Factorize the ratings of a store.
///
/// Minimises the sum of losses + 1/2 sum over rows of (regularization x n + regularization-row) x |row|^2, where n is the
/// row's number of ratings. The model is the same to the bit for any number of threads and any memory budget.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// The store to train on
    store: PathBuf,
    /// The model to make
    #[arg(long, short, value_name = "MODEL")]
    out: PathBuf,
    /// How the cost is minimised
    #[arg(long, default_value = "als", value_parser = solver_names(), hide_possible_values = true, help = solver_help())]
    solver: String,
    /// What is minimised, by name or as a formula in p (the prediction) and r (the rating)
    #[arg(long, value_name = "NAME-OR-FORMULA", default_value = "squared", long_help = loss_help())]
    loss: String,
    /// What factors and biases cost by their size, by name or as a formula in x
    #[arg(help_heading = "Regularization", long, value_name = "NAME-OR-FORMULA", default_value = PENALTIES[0].name, long_help = regularizer_help())]
    regularizer: String,
    /// Number of factors [default: 32, or that of the given start]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u16).range(1..=Options::MAX_RANK as i64))]
    rank: Option<u16>,
    /// Passes over both sides
    #[arg(long, value_name = "N", default_value_t = Options::default().epochs)]
    epochs: usize,
    /// Seed of the random start
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Ridge on factors, times the row's number of ratings
    #[arg(help_heading = "Regularization", long, value_name = "X", help = regularization_help())]
    regularization: Option<f32>,
    /// Ridge on factors, once a row; both may be used at once
    #[arg(
        help_heading = "Regularization",
        long,
        value_name = "X",
        default_value_t = 0.0
    )]
    regularization_row: f32,
    /// Ridge on biases, times the row's number of ratings [default: as the factors']
    #[arg(help_heading = "Regularization", long, value_name = "X")]
    bias_regularization: Option<f32>,
    /// Ridge on biases, once a row [default: as the factors']
    #[arg(help_heading = "Regularization", long, value_name = "X")]
    bias_regularization_row: Option<f32>,
    /// Predict by the product of factors alone, without mean and biases
    #[arg(help_heading = "Prediction", long)]
    no_biases: bool,
    /// Bring the ratings to mean 0 and variance 1 first
    #[arg(help_heading = "Prediction", long)]
    normalize: bool,
    /// Whether cells without a rating are left out or count as zeros [default: as the solver has it]
    #[arg(help_heading = "Other solvers", long, value_enum)]
    missing: Option<MissingArg>,
    /// For nmf: how a row moves
    #[arg(help_heading = "Other solvers", long, value_enum, default_value_t = RuleArg::Multiplicative)]
    rule: RuleArg,
    /// For cg: steps for each row
    #[arg(help_heading = "Other solvers", long, value_name = "N", default_value_t = Options::default().cg_steps as u16, value_parser = clap::value_parser!(u16).range(1..))]
    cg_steps: u16,
    /// Whether losses are summed or averaged
    #[arg(help_heading = "Gradient descent", long, value_enum, default_value_t = ReduceArg::Sum)]
    reduce: ReduceArg,
    /// Whether both sides step from the same point, or the second sees the first one's step
    #[arg(help_heading = "Gradient descent", long, value_enum, default_value_t = UpdateArg::Simultaneous)]
    update: UpdateArg,
    /// For sgd: whether a step goes by the learning rate alone, or adapts to the gradients that the row has seen
    #[arg(help_heading = "Gradient descent", long, value_enum, default_value_t = StepArg::Adagrad)]
    step: StepArg,
    /// The step along the gradient [default: the exact one, for squares; for sgd 0.2, or 0.02 with --step plain]
    #[arg(
        help_heading = "Gradient descent",
        long,
        value_name = "X",
        conflicts_with = "learning_rates"
    )]
    learning_rate: Option<f32>,
    /// A rate for each epoch: numbers with commas between them, or a file of them
    #[arg(help_heading = "Gradient descent", long, value_name = "LIST-OR-FILE")]
    learning_rates: Option<String>,
    /// Divide the rate of epoch t by 1 + X (t - 1)
    #[arg(
        help_heading = "Gradient descent",
        long,
        value_name = "X",
        default_value_t = 0.0
    )]
    learning_rate_decay: f32,
    /// Add this share of the last step to the next direction
    #[arg(
        help_heading = "Gradient descent",
        long,
        value_name = "X",
        default_value_t = 0.0
    )]
    momentum: f32,
    /// Start from these factors of users: CSV lines of an id and its factors
    #[arg(
        help_heading = "Starting factors",
        long,
        value_name = "FILE",
        requires = "init_items"
    )]
    init_users: Option<PathBuf>,
    /// Start from these factors of items
    #[arg(
        help_heading = "Starting factors",
        long,
        value_name = "FILE",
        requires = "init_users"
    )]
    init_items: Option<PathBuf>,
    /// Stop when the RMSE of the validation part has not fallen for N epochs, and keep the best
    #[arg(help_heading = "While it runs", long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    early_stop: Option<u16>,
    /// Keep what is needed to go on, every N epochs, in MODEL.checkpoint
    #[arg(help_heading = "While it runs", long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    checkpoint_every: Option<u16>,
    /// Go on from MODEL.checkpoint, if there is one, to the same model as without interruption
    #[arg(help_heading = "While it runs", long)]
    resume: bool,
    /// Write a line for each epoch to this CSV file
    #[arg(help_heading = "While it runs", long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Write how multiplicative updates converge to this CSV file: objective, descent, singular values and more by iteration
    #[arg(
        help_heading = "While it runs",
        long,
        value_name = "FILE",
        conflicts_with = "resume"
    )]
    study: Option<PathBuf>,
    /// Print what training would hold in memory, and stop
    #[arg(long)]
    plan: bool,
    /// Replace the model, the history and the study if they exist
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ReduceArg {
    Sum,
    Mean,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum MissingArg {
    Skip,
    Zero,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RuleArg {
    Multiplicative,
    Hals,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum UpdateArg {
    Simultaneous,
    Alternating,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum StepArg {
    Plain,
    Adagrad,
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

/// Runs the command.
pub fn run(args: TrainArgs, session: &Session) -> Result<()> {
    let began = Instant::now();
    let mut store = Store::open(&args.store)?;
    let start = Start::read(&args, &store)?;
    let options = options(&args, start.as_ref())?;
    let plan = plan(&args, &options, &store, session)?;
    if args.plan {
        return session.print_plan(&plan);
    }
    store.keep_within(plan.rest(0)?);
    AtomicDir::check(&args.out, args.force)?;
    let logs = [&args.history, &args.study];
    for log in logs.into_iter().flatten() {
        if !args.force && !args.resume {
            AtomicFile::create(log, false).map(drop)?;
        }
    }
    let mut study = match &args.study {
        Some(path) => Some(StudyFile::new(path, &options)?),
        None => None,
    };
    let checkpoint = checkpoint_path(&args.out);
    let fingerprint = start.as_ref().map(|start| start.fingerprint);
    let resumed = match args.resume {
        true => resume(&checkpoint, &options, fingerprint, &store, session)?,
        false => None,
    };

    let validation = store.part(Part::Validation);
    let test = store.part(Part::Test);
    let mut trainer = Trainer::new(&store, options.clone())
        .validation(validation.as_ref().map(|part| part as &dyn Ratings))
        .test(test.as_ref().map(|part| part as &dyn Ratings));
    if let Some(Start { users, items, .. }) = start {
        trainer = trainer.start_from(users, items);
    }
    let run = |paces: &[Pace]| Run {
        epochs: paces.to_vec(),
        seconds: began.elapsed().as_secs_f64(),
        threads: session.threads.count(),
        memory: plan.budget().0,
        store: args.store.display().to_string(),
    };
    session.say(history::header(&store));
    if let Some(state) = &resumed {
        for (epoch, pace) in state.history.iter().zip(&state.paces) {
            session.say(history::line(epoch, pace));
        }
    }
    let after_epoch = |state: &State| {
        let (Some(epoch), Some(pace)) = (state.history.last(), state.paces.last()) else {
            return Ok(());
        };
        session.say(history::line(epoch, pace));
        if let Some(path) = &args.history {
            history::write(path, state)?;
        }
        if let Some(study) = &mut study {
            study.observe(&store, state.parameters())?;
        }
        let due = |every: u16| epoch.epoch > 0 && epoch.epoch.is_multiple_of(usize::from(every));
        if args.checkpoint_every.is_some_and(due) {
            let run = run(&state.paces);
            Checkpoint::save(&checkpoint, state, &options, fingerprint, &store, &run)?;
        }
        Ok(())
    };
    let state = trainer
        .resume(resumed)
        .progress(&session.bars)
        .after_epoch(after_epoch)
        .run(&session.threads)?;
    let outcome = Outcome::new(&args, &state, &options, began);
    let run = run(&state.paces);
    Model::save(
        &args.out,
        args.force,
        state,
        &options,
        fingerprint,
        &store,
        &run,
    )?;
    if args.checkpoint_every.is_some() || args.resume {
        AtomicDir::remove(&checkpoint)?;
    }
    session.print(&outcome, outcome.text())
}

/// The caller's own starting factors.
struct Start {
    users: lowrank::matrix::Factors,
    items: lowrank::matrix::Factors,
    fingerprint: u64,
}

impl Start {
    fn read(args: &TrainArgs, store: &Store) -> Result<Option<Start>> {
        let (Some(users), Some(items)) = (&args.init_users, &args.init_items) else {
            return Ok(None);
        };
        let read = |path: &Path, side| read_start(path, store.dictionary(side), !args.no_biases);
        let (users, of_users) = read(users, Side::Users)?;
        let (items, of_items) = read(items, Side::Items)?;
        if users.rank() != items.rank() {
            let what = format!(
                "users start with {} factors and items with {}",
                users.rank(),
                items.rank()
            );
            return Err(Error::new(ErrorKind::BadInput, what));
        }
        if args
            .rank
            .is_some_and(|rank| usize::from(rank) != users.rank())
        {
            let what = format!(
                "--rank contradicts the given start of rank {}",
                users.rank()
            );
            return Err(Error::new(ErrorKind::BadOption, what).remedy("leave out --rank"));
        }
        Ok(Some(Start {
            users,
            items,
            fingerprint: mix(of_users, of_items),
        }))
    }
}

fn options(args: &TrainArgs, start: Option<&Start>) -> Result<Options> {
    let rank = args.rank.map_or(Options::default().rank, usize::from);
    let learning_rates = match (args.learning_rate, &args.learning_rates) {
        (Some(rate), _) => vec![rate],
        (None, Some(list)) => rates(list)?,
        (None, None) => Vec::new(),
    };
    Ok(Options {
        solver: args.solver.clone(),
        loss: args.loss.clone(),
        regularizer: args.regularizer.clone(),
        rank: start.map_or(rank, |start| start.users.rank()),
        epochs: args.epochs,
        seed: args.seed,
        regularization: args.regularization,
        regularization_row: args.regularization_row,
        bias_regularization: args.bias_regularization,
        bias_regularization_row: args.bias_regularization_row,
        biases: !args.no_biases,
        normalize: args.normalize,
        reduce: match args.reduce {
            ReduceArg::Sum => Reduce::Sum,
            ReduceArg::Mean => Reduce::Mean,
        },
        update: match args.update {
            UpdateArg::Simultaneous => Update::Simultaneous,
            UpdateArg::Alternating => Update::Alternating,
        },
        missing: args.missing.map(|missing| match missing {
            MissingArg::Skip => Missing::Skip,
            MissingArg::Zero => Missing::Zero,
        }),
        rule: match args.rule {
            RuleArg::Multiplicative => Rule::Multiplicative,
            RuleArg::Hals => Rule::Hals,
        },
        step: match args.step {
            StepArg::Plain => Step::Plain,
            StepArg::Adagrad => Step::Adagrad,
        },
        learning_rates,
        learning_rate_decay: args.learning_rate_decay,
        momentum: args.momentum,
        cg_steps: usize::from(args.cg_steps),
        early_stop: args.early_stop.map(usize::from),
    }
    .resolved())
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
    let text = std::fs::read_to_string(list).map_err(|e| Error::io(e, list))?;
    parse(&text).map_err(|word| {
        Error::new(
            ErrorKind::BadInput,
            format!("{word:?} is not a learning rate"),
        )
        .path(list)
    })
}

fn plan(args: &TrainArgs, options: &Options, store: &Store, session: &Session) -> Result<Plan> {
    let mut plan = session.plan();
    let threads = session.threads.count();
    let training = Trainer::memory(store.shape(), options, threads)?;
    plan.hold("factors and scratch", training);
    plan.hold("rows decoded", threads as u64 * store.row_memory()?);
    if args.checkpoint_every.is_some() || args.init_users.is_some() {
        plan.hold("buffers of files", 4 << 20);
    }
    if args.study.is_some() {
        let parameters = Parameters::bytes(store.shape(), options.rank, options.biases);
        plan.hold("the study", StudyFile::memory(parameters));
    }
    plan.rest(0)?;
    Ok(plan)
}

fn checkpoint_path(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".checkpoint");
    name.into()
}

/// Where an interrupted training with the same options on the same ratings stood, if there was one.
fn resume(
    path: &Path,
    options: &Options,
    start: Option<u64>,
    store: &Store,
    session: &Session,
) -> Result<Option<State>> {
    if !path.exists() {
        session.say(format!(
            "no checkpoint at {}: starting afresh",
            path.display()
        ));
        return Ok(None);
    }
    let checkpoint = Checkpoint::open(path)?;
    let differ = |what: &str| {
        let message = format!("the checkpoint was made with {what}");
        Err(Error::new(ErrorKind::BadOption, message)
            .path(path)
            .remedy("resume with the same, or train without --resume"))
    };
    if checkpoint.fingerprint != store.manifest().fingerprint {
        return differ("other ratings");
    }
    if checkpoint.start != start {
        return differ("another start");
    }
    let (now, then) = (names(options), names(&checkpoint.options));
    // More epochs than were asked for at first lead to the same model as if they had been asked for then.
    if let Some((name, value)) = then.iter().find(|x| x.0 != "epochs" && !now.contains(x)) {
        return differ(&format!("--{name} {value}"));
    }
    if let Some((name, _)) = now
        .iter()
        .find(|(name, _)| then.iter().all(|x| x.0 != *name))
    {
        return differ(&format!("no --{name}"));
    }
    Ok(Some(checkpoint.state))
}

/// Options by the names that they have here, as text; those that are not set are left out.
pub fn names(options: &Options) -> Vec<(String, String)> {
    // By way of text, in which an f32 keeps its few digits.
    let text = serde_json::to_string(options).expect("options are JSON");
    let map: Map<String, Value> = serde_json::from_str(&text).expect("a struct is an object");
    let mut names = Vec::new();
    for (name, value) in map {
        let value = match value {
            Value::Null => continue,
            Value::String(text) => text.to_lowercase(),
            Value::Array(values) => {
                let values: Vec<String> = values.iter().map(Value::to_string).collect();
                values.join(",")
            }
            other => other.to_string(),
        };
        if !value.is_empty() {
            names.push((name.replace('_', "-"), value));
        }
    }
    names
}

#[derive(Serialize)]
struct Outcome {
    model: PathBuf,
    solver: String,
    rank: usize,
    epochs: usize,
    epoch: usize,
    loss: f64,
    train_rmse: f64,
    validation_rmse: Option<f64>,
    test_rmse: Option<f64>,
    seconds: f64,
    history: Vec<Epoch>,
}

impl Outcome {
    fn new(args: &TrainArgs, state: &State, options: &Options, began: Instant) -> Outcome {
        let kept = match state.best {
            Some(_) => state.best_epoch().unwrap_or(state.epochs()),
            None => state.epochs(),
        };
        let epoch = state.history[kept];
        Outcome {
            model: args.out.clone(),
            solver: options.solver.clone(),
            rank: options.rank,
            epochs: state.epochs(),
            epoch: kept,
            loss: epoch.loss,
            train_rmse: epoch.train_rmse,
            validation_rmse: epoch.validation_rmse,
            test_rmse: epoch.test_rmse,
            seconds: began.elapsed().as_secs_f64(),
            history: state.history.clone(),
        }
    }

    fn text(&self) -> String {
        let mut lines = vec![("model", self.model.display().to_string())];
        if self.epoch < self.epochs {
            lines.push((
                "stopped early",
                format!("the factors are those of epoch {}", self.epoch),
            ));
        }
        lines.push(("train rmse", format!("{:.6}", self.train_rmse)));
        if let Some(rmse) = self.validation_rmse {
            lines.push(("validation rmse", format!("{rmse:.6}")));
        }
        if let Some(rmse) = self.test_rmse {
            lines.push(("test rmse", format!("{rmse:.6}")));
        }
        lines.push(("time", format!("{:.2} s", self.seconds)));
        aligned(&lines)
    }
}
