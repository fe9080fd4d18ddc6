//! `lowrank tune`

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueEnum};
use lowrank::evaluate::Target;
use lowrank::matrix::Ratings;
use lowrank::memory::Bytes;
use lowrank::solver::method;
use lowrank::store::{AtomicFile, Part, Store};
use lowrank::tune::{Choice, Search, Space, Trial, Tuner};
use lowrank::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::plot::{Chart, Line, Series, draw};
use crate::session::{Session, aligned, counted};
use crate::short_text;
use crate::space::{SpaceArgs, described};
use crate::table::{Lean, Table};

/// Search for the options that do best on the validation part of a store.
///
/// Every trial is a training, which stops early on the metric; what it tries is a function of the seed and its number. Without
/// options, what is usual for the solver is searched. `lowrank train --options FILE` takes what is found. Where the ratings do not
/// stay in memory, trials go side by side and share what is read of them.
#[derive(Debug, Args)]
pub struct TuneArgs {
    /// The store to train on
    store: PathBuf,
    /// Where the best options go, as JSON
    #[arg(long, short, value_name = "FILE.json")]
    out: PathBuf,
    /// Where each trial is kept as it is done, as JSON [default: the name of --out with .trials behind it]
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Draw how the search went, as SVG
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// In which order what is tried
    #[arg(long, value_enum, default_value_t = SearchArg::Random)]
    search: SearchArg,
    /// How many trials are drawn
    #[arg(long, value_name = "N", default_value_t = 20)]
    trials: usize,
    /// For halving: one trial in N goes on to N times the epochs
    #[arg(long, value_name = "N", default_value_t = 3)]
    keep_one_in: usize,
    /// What decides: rmse, or a metric of recommendations with its cut-off, such as ndcg@20 [default: rmse, or ndcg@10 of a
    /// solver that does not learn ratings]
    #[arg(long, value_name = "METRIC")]
    metric: Option<String>,
    /// A trial stops when the metric has not become better for N epochs
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    early_stop: u16,
    #[command(flatten)]
    space: SpaceArgs,
    /// Go on with the trials that the record has not
    #[arg(long)]
    resume: bool,
    /// Replace what exists
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SearchArg {
    /// Options are drawn
    Random,
    /// Every combination, five points of a range
    Grid,
    /// Options are drawn, tried for a few epochs, and the better ones for more
    Halving,
}

/// What is kept of a search. Whatever is not the same in another search makes its trials others.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// Fingerprint of the training ratings.
    ratings: String,
    /// How many ratings the validation part has.
    validation: u64,
    metric: String,
    early_stop: usize,
    /// What all trials have in common, but for the epochs.
    options: Choice,
    trials: Vec<Trial>,
}

#[derive(Serialize)]
struct Outcome<'a> {
    metric: String,
    best: Option<&'a Trial>,
    options: Option<&'a Choice>,
    trials: &'a [Trial],
    /// Bytes of ratings that did not stay in memory and were read again.
    ratings_read: u64,
    seconds: f64,
}

/// Runs the command.
pub fn run(args: TuneArgs, session: &Session) -> Result<()> {
    let began = Instant::now();
    let mut store = Store::open(&args.store)?;
    let base = args.space.base()?;
    let target = match &args.metric {
        Some(metric) => Target::parse(metric)?,
        None => Target::usual(method(&base.solver)?.learns),
    };
    let mut plan = session.plan();
    let side_by_side = tuner(&args, &store, target)?.plan(&mut plan, session.threads.count())?;
    store.keep_within(plan.rest(0)?);
    let tuner = Tuner {
        side_by_side,
        ..tuner(&args, &store, target)?
    };
    let path = args
        .record
        .clone()
        .unwrap_or_else(|| trials_path(&args.out));
    let replaces = args.resume || args.force;
    // Claimed for the whole search: another would not know of these trials.
    let out = AtomicFile::create(&args.out, replaces)?;
    for output in [Some(&path), args.plot.as_ref()].into_iter().flatten() {
        AtomicFile::create(output, replaces).map(drop)?;
    }
    let mut record = Record {
        ratings: store.manifest().fingerprint.to_string(),
        validation: store.manifest().ratings_of(Part::Validation),
        metric: target.name(),
        early_stop: tuner.patience,
        options: without_epochs(base.named()),
        trials: Vec::new(),
    };
    let done = match args.resume && path.exists() {
        true => read(&path, &record)?,
        false => Vec::new(),
    };
    if !done.is_empty() {
        session.say(format!(
            "{} are done already",
            counted(done.len() as u64, "trial")
        ));
    }
    if side_by_side > 1 {
        session.say(format!(
            "up to {side_by_side} trials go side by side, and share what is read of the ratings"
        ));
    }
    let trials = tuner.run(&done, &session.threads, &session.bars, |trials, last| {
        session.say(line(last, &target));
        // What an earlier search did and this one has not come to yet stays.
        let others = done.iter().filter(|trial| !trials.contains(trial));
        record.trials = trials.iter().chain(others).cloned().collect();
        write_json(AtomicFile::create(&path, true)?, &path, &record)
    })?;
    let best = tuner.best(&trials);
    let found = match best {
        Some(trial) => Some(tuner.found(trial)?),
        None => None,
    };
    let Some(found) = &found else {
        let what = "no trial came to an end";
        return Err(Error::new(ErrorKind::Diverged, what)
            .path(&path)
            .remedy("search among other options; the record says why each failed"));
    };
    write_json(out, &args.out, found)?;
    if let Some(plot) = &args.plot {
        let svg = draw(&[chart(&tuner, &trials)])?;
        write(AtomicFile::create(plot, true)?, plot, svg.as_bytes())?;
    }
    let validation = store.part(Part::Validation);
    let outcome = Outcome {
        metric: target.name(),
        best,
        options: Some(found),
        trials: &trials,
        ratings_read: store.bytes_read() + validation.map_or(0, |part| part.bytes_read()),
        seconds: began.elapsed().as_secs_f64(),
    };
    let mut text = table(&tuner, &trials);
    text += &aligned(&[
        ("best options", described(found)),
        ("in", args.out.display().to_string()),
        ("ratings read", Bytes(outcome.ratings_read).to_string()),
        ("time", format!("{:.2} s", outcome.seconds)),
    ]);
    session.print(&outcome, text)
}

/// The search that was asked for.
fn tuner<'a>(args: &TuneArgs, store: &'a Store, target: Target) -> Result<Tuner<'a>> {
    let base = args.space.base()?;
    let mut space = Space::usual(method(&base.solver)?, base.rank);
    args.space.add_to(&mut space);
    let search = match args.search {
        SearchArg::Random => Search::Random(args.trials),
        SearchArg::Grid => Search::Grid,
        SearchArg::Halving => Search::Halving {
            trials: args.trials,
            keep: args.keep_one_in,
        },
    };
    Ok(Tuner {
        store,
        base,
        space,
        search,
        target,
        patience: usize::from(args.early_stop),
        side_by_side: 1,
    })
}

fn trials_path(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".trials");
    name.into()
}

fn without_epochs(mut options: Choice) -> Choice {
    options.remove("epochs");
    options
}

/// The trials of a record, which must be of a search like this one.
fn read(path: &Path, now: &Record) -> Result<Vec<Trial>> {
    let text = short_text::read(path)?;
    let record: Record = serde_json::from_str(&text).map_err(|e| {
        Error::new(ErrorKind::Damaged, format!("no record of trials: {e}"))
            .path(path)
            .remedy("begin anew with --force")
    })?;
    let differs = [
        ("other ratings", record.ratings != now.ratings),
        (
            "another validation part",
            record.validation != now.validation,
        ),
        ("another --metric", record.metric != now.metric),
        ("another --early-stop", record.early_stop != now.early_stop),
        ("other options in common", record.options != now.options),
    ];
    match differs.iter().find(|(_, differs)| *differs) {
        Some((what, _)) => {
            let what = format!("these trials were made with {what}");
            Err(Error::new(ErrorKind::BadOption, what)
                .path(path)
                .remedy("resume with the same, or begin anew with --force"))
        }
        None => Ok(record.trials),
    }
}

fn write_json(file: AtomicFile, path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(std::io::Error::from)?;
    write(file, path, (text + "\n").as_bytes())
}

fn write(mut file: AtomicFile, path: &Path, bytes: &[u8]) -> Result<()> {
    file.write_all(bytes).map_err(|e| Error::io(e, path))?;
    file.commit()
}

fn value(trial: &Trial) -> String {
    trial
        .value
        .map_or("failed".to_owned(), |value| format!("{value:.6}"))
}

/// A trial as a line for people.
fn line(trial: &Trial, target: &Target) -> String {
    format!(
        "trial {:>3}  {} {}  epoch {:>3}  {:>8.2} s  {}",
        trial.trial,
        target.name(),
        value(trial),
        trial.epoch,
        trial.seconds,
        trial
            .failure
            .clone()
            .unwrap_or_else(|| described(&trial.options)),
    )
}

/// All trials, the best first.
fn table(tuner: &Tuner<'_>, trials: &[Trial]) -> String {
    let mut table = Table::new([
        ("trial", Lean::Right),
        ("value", Lean::Right),
        ("epoch", Lean::Right),
        ("of", Lean::Right),
        ("seconds", Lean::Right),
        ("options", Lean::Left),
    ]);
    for trial in tuner.ranked(trials) {
        table.push([
            trial.trial.to_string(),
            value(trial),
            trial.epoch.to_string(),
            trial.epochs.to_string(),
            format!("{:.2}", trial.seconds),
            described(&trial.options),
        ]);
    }
    table.text()
}

/// The value of each trial in their order, and the best so far.
fn chart(tuner: &Tuner<'_>, trials: &[Trial]) -> Chart {
    let valued: Vec<(f64, f64)> = (0_u32..)
        .zip(trials)
        .filter_map(|(at, trial)| Some((f64::from(at), trial.value?)))
        .collect();
    let mut best = valued.clone();
    for at in 1..best.len() {
        let (before, now) = (best[at - 1].1, best[at].1);
        best[at].1 = match tuner.target.rises() {
            true => now.max(before),
            false => now.min(before),
        };
    }
    let series = |name: &str, colour, line, points| Series {
        name: name.to_owned(),
        colour,
        line,
        points,
    };
    Chart {
        title: format!("{} on the validation part", tuner.target.name()),
        across: "trial".to_owned(),
        log: false,
        log_across: false,
        series: vec![
            series("each trial", 0, Line::Dotted, valued),
            series("best so far", 1, Line::Solid, best),
        ],
    }
}
