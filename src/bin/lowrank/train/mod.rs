//! `lowrank train`

mod options;
mod planned;

use std::path::{Path, PathBuf};
use std::time::Instant;

use lowrank::evaluate::{Target, Watch};
use lowrank::ingest::{Resplit, Split};
use lowrank::matrix::{Ratings, Side};
use lowrank::memory::{Bytes, Plan};
use lowrank::model::{Checkpoint, Model, Record, Run, read_start};
use lowrank::rng::mix;
use lowrank::solver::Options;
use lowrank::store::{AtomicDir, AtomicFile, DiskPlan, Part, Store};
use lowrank::train::{Epoch, Forecast, Pace, Placement, State, Trainer};
use lowrank::{Error, ErrorKind, Parameters, Result};
use serde::Serialize;

use crate::history;
use crate::outputs::expect_apart;
use crate::session::{Session, aligned};
use crate::study::StudyFile;
use options::{On, options};
use planned::Planned;

pub use options::{TrainArgs, names, read_options};

/// Runs the command.
pub fn run(args: TrainArgs, session: &Session) -> Result<()> {
    let began = Instant::now();
    expect_apart(
        args.force || args.resume,
        &[
            Some(&args.out),
            args.history.as_deref(),
            args.study.as_deref(),
        ],
        &[
            Some(&args.store),
            args.init_users.as_deref(),
            args.init_items.as_deref(),
            args.options.as_deref(),
        ],
    )?;
    let whole = match args.on {
        On::Train => None,
        On::All => Some(whole(&args, session)?),
    };
    let path = whole.as_ref().map_or(args.store.clone(), whole_store);
    // Planning looks at all shards, and must not fill the memory with them.
    let mut store = Store::open_within(path, session.plan().budget().0 / 2)?;
    let start = Start::read(&args, &store, session.plan().budget())?;
    let options = options(&args, start.as_ref().map(|start| start.users.rank()))?;
    let (plan, placement) = plan(&args, &options, &store, session)?;
    store.keep_within(plan.rest(0)?);
    let forecast = placement.forecast(&store, &options)?;
    disk(&args, &options, &store, &forecast).check()?;
    let planned = Planned::new(&plan, &placement, &forecast, &store)?;
    if args.plan {
        return planned.print(session);
    }
    // Claimed before the work: what may not be written is refused at once, and nobody else may begin it.
    let out = AtomicDir::create(&args.out, args.force)?;
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
    let checkpoint = beside(&args.out, ".checkpoint");
    let fingerprint = start.as_ref().map(|start| start.fingerprint);
    let resumed = match args.resume {
        true => resume(
            &checkpoint,
            &options,
            fingerprint,
            &placement,
            &store,
            session,
        )?,
        false => None,
    };
    session.say(planned.text());

    let validation = store.part(Part::Validation);
    let test = store.part(Part::Test);
    let watch = Watch::new(&store, &options)?;
    let mut trainer = Trainer::new(&store, options.clone())
        .watch(watch.as_ref())
        .placement(placement)
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
    Model::save(out, state, &options, fingerprint, &store, &run)?;
    if args.checkpoint_every.is_some() || args.resume {
        AtomicDir::remove(&checkpoint)?;
    }
    session.print(&outcome, outcome.text())
}

/// All ratings of the store as ratings to train on, in a directory beside the model that goes away with what is given.
///
/// What is wrong with the options, or does not fit, is told before that is made.
fn whole(args: &TrainArgs, session: &Session) -> Result<AtomicDir> {
    if args.plan {
        let what = "a plan is of the ratings that are trained on, and those of --on all have to be put together first";
        return Err(Error::new(ErrorKind::BadOption, what)
            .remedy("do so with lowrank split STORE --out ALL, and plan for that"));
    }
    AtomicDir::create(&args.out, args.force).map(drop)?;
    let store = Store::open_within(&args.store, 0)?;
    let start = Start::read(args, &store, session.plan().budget())?;
    let options = options(args, start.map(|start| start.users.rank()))?;
    plan(args, &options, &store, session)?;
    let scratch = AtomicDir::create(beside(&args.out, ".ratings"), false)?;
    let split = Resplit {
        store: &store,
        split: Split::default(),
        fold_in: None,
        shard_bytes: SHARD_BYTES,
        memory: session.memory,
        force: false,
    };
    split.run(&whole_store(&scratch), &session.threads, &session.bars)?;
    Ok(scratch)
}

/// Where the store of all ratings lies.
fn whole_store(scratch: &AtomicDir) -> PathBuf {
    scratch.path().join("store")
}

/// The largest size of a shard of all ratings.
const SHARD_BYTES: u64 = 8 << 20;

/// The caller's own starting factors.
struct Start {
    users: lowrank::matrix::Factors,
    items: lowrank::matrix::Factors,
    fingerprint: u64,
}

impl Start {
    fn read(args: &TrainArgs, store: &Store, budget: Bytes) -> Result<Option<Start>> {
        let (Some(users), Some(items)) = (&args.init_users, &args.init_items) else {
            return Ok(None);
        };
        let read =
            |path: &Path, side| read_start(path, store.dictionary(side), !args.no_biases, budget);
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

/// What training will hold, and where its factors will lie.
fn plan(
    args: &TrainArgs,
    options: &Options,
    store: &Store,
    session: &Session,
) -> Result<(Plan, Placement)> {
    let mut plan = session.plan();
    let threads = session.threads.count();
    plan.hold("rows decoded", threads as u64 * store.row_memory()?);
    if options.early_stop.is_some() {
        let target = Target::parse(&options.early_stop_metric)?;
        target.check(store.shape().items)?;
        let watching = target.memory(store.shape(), options.rank, threads);
        plan.hold("lists to watch", watching);
    }
    if args.checkpoint_every.is_some() || args.init_users.is_some() {
        plan.hold("buffers of files", 4 << 20);
    }
    if args.study.is_some() {
        let parameters = Parameters::bytes(store.shape(), options.rank, options.biases);
        plan.hold("the study", StudyFile::memory(parameters));
    }
    let folder = match args.out.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // A given start is in memory already, and lists are made from memory.
    let watches = options.early_stop.is_some() && options.early_stop_metric != "rmse";
    let may_spill = args.init_users.is_none() && !watches;
    let placement = Placement::plan(
        &mut plan,
        store,
        options,
        threads,
        may_spill.then_some(folder),
    )?;
    Ok((plan, placement))
}

/// What training will write. Of what a solver carries from epoch to epoch beside the factors, a checkpoint has more.
fn disk(args: &TrainArgs, options: &Options, store: &Store, forecast: &Forecast) -> DiskPlan {
    let mut plan = DiskPlan::new(
        "training",
        "make room there, or spill less with a higher --memory",
    );
    let model = Model::file_bytes(store, options);
    plan.write("the model", &args.out, model);
    if args.checkpoint_every.is_some() {
        plan.write("a checkpoint", &args.out, model);
    }
    plan.write("spilled factors", &args.out, forecast.spilled);
    plan.write("tiles", &store.tiles_folder(), forecast.tiles_written);
    plan
}

/// A name beside the model's.
fn beside(out: &Path, extension: &str) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(extension);
    name.into()
}

/// Where an interrupted training with the same options on the same ratings stood, if there was one.
fn resume(
    path: &Path,
    options: &Options,
    start: Option<u64>,
    placement: &Placement,
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
    // The record alone is believed until it is known to be of this training, whose factors there is room for.
    let checkpoint = Record::read(path)?;
    let differ = |what: &str| {
        let message = format!("the checkpoint was made with {what}");
        Err(Error::new(ErrorKind::BadOption, message)
            .path(path)
            .remedy("resume with the same, or train without --resume"))
    };
    let ratings = (checkpoint.fingerprint, checkpoint.shape);
    if ratings != (store.manifest().fingerprint, store.shape()) {
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
    let most = Trainer::memory(store.shape(), options, session.threads.count())?;
    if checkpoint.state_memory() > most {
        let what = "the checkpoint has more factors than such a training";
        return Err(Error::new(ErrorKind::Damaged, what)
            .path(path)
            .remedy("train without --resume"));
    }
    Ok(Some(Checkpoint::open_placed(path, placement)?.state))
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
    paces: Vec<Pace>,
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
            paces: state.paces.clone(),
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
