//! `lowrank update`

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use lowrank::ingest::{Grown, Input, Merge, Merged, read_titles};
use lowrank::matrix::Side;
use lowrank::memory::{Bytes, Plan};
use lowrank::model::{Model, Refresh, Run, Updated, read_run};
use lowrank::store::{AtomicDir, AtomicFile, DiskPlan, Store};
use lowrank::train::Pace;
use lowrank::{Error, ErrorKind, Result};
use serde::Serialize;

use crate::new_store::{Holds, NewStoreArgs};
use crate::outputs::expect_apart;
use crate::session::{Session, aligned, counted, grouped};
use crate::text::{TextArgs, tell};

/// Add new ratings to a store, and refresh a model by them.
///
/// Makes a store with the new ratings among the others; shards without any are shared with the old one. Users and items keep
/// their numbers, new ones come after them. Of a model, the rows of the users with new ratings are solved anew, and those of
/// the items that have grown enough, each from all of its ratings; all others stay as they are. Nothing is trained from
/// scratch. What is held out stays held out.
#[derive(Debug, Args)]
pub struct UpdateArgs {
    /// The store that the ratings are added to
    store: PathBuf,
    /// Files with new ratings, read in this order
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    #[command(flatten)]
    new: NewStoreArgs,
    #[command(flatten)]
    text: TextArgs,
    /// Titles of new items: movies.csv, movies.dat or u.item
    #[arg(help_heading = "Text", long, value_name = "FILE")]
    titles: Option<PathBuf>,
    /// The model of the store that is to be refreshed
    #[arg(
        help_heading = "Model",
        long,
        value_name = "MODEL",
        requires = "model_out"
    )]
    model: Option<PathBuf>,
    /// The refreshed model to make
    #[arg(help_heading = "Model", long, value_name = "MODEL", requires = "model")]
    model_out: Option<PathBuf>,
    /// Solve an item anew when its ratings have become more by more than this share
    #[arg(
        help_heading = "Model",
        long,
        value_name = "F",
        default_value_t = 0.05,
        requires = "model"
    )]
    grown: f64,
    /// Write the ids of the users with new ratings, one a line: those whose recommendations are to be renewed
    #[arg(long, value_name = "FILE")]
    touched: Option<PathBuf>,
}

#[derive(Serialize)]
struct Outcome {
    #[serde(flatten)]
    holds: Holds,
    added: u64,
    replaced: u64,
    left_alone: u64,
    touched_users: u64,
    touched_items: u64,
    solved_users: u64,
    solved_items: u64,
    merge_seconds: f64,
    seconds: f64,
}

/// Runs the command.
pub fn run(args: UpdateArgs, session: &Session) -> Result<()> {
    let began = Instant::now();
    if !(args.grown >= 0.0 && args.grown.is_finite()) {
        let what = format!("the share that an item grows by is {}", args.grown);
        return Err(Error::new(ErrorKind::BadOption, what).remedy("give a share from 0 up"));
    }
    // A store and a model may be replaced by what they become.
    let force = args.new.force;
    let (model_out, touched) = (args.model_out.as_deref(), args.touched.as_deref());
    let model = args.model.as_deref();
    let texts = args.inputs.iter().chain(&args.titles);
    let texts: Vec<_> = texts.map(|path| Some(&**path)).collect();
    expect_apart(force, &[Some(&args.new.out)], &[model])?;
    expect_apart(force, &[model_out], &[Some(&args.store)])?;
    expect_apart(force, &[touched], &texts)?;
    let store = Store::open_within(&args.store, 0)?;
    let mut disk = DiskPlan::new("the refreshed model", "make room there");
    if let (Some(model), Some(out)) = (model, model_out) {
        disk.write("the model", out, bytes_of(model)?);
        disk.check()?;
    }
    let mut plan = session.plan();
    if let Some(path) = &args.model {
        plan.hold("the model, before and after", 2 * Model::memory(path)?);
    }
    // Titles stay until they are written; most of the budget is for what comes after.
    let most = Bytes(plan.budget().0 / 4);
    let merge = Merge {
        store: &store,
        inputs: args.inputs.iter().map(Input::from).collect(),
        read: args.text.options()?,
        titles: match &args.titles {
            Some(path) => Some(read_titles(&Input::from(path), most)?),
            None => None,
        },
        shard_bytes: args.new.shard_size.0,
        plan,
        force: args.new.force,
    };
    merge.planned(&session.threads)?;
    let model = match &args.model {
        Some(path) => Some(Model::open(path)?),
        None => None,
    };
    let refresh = match &model {
        Some(model) if !model.is_update_of(&store) => Some(Refresh::new(model, &store)?),
        _ => None,
    };
    // All outputs are claimed before any work is done.
    let model_out = match &args.model_out {
        Some(out) => Some(AtomicDir::create(out, args.new.force)?),
        None => None,
    };
    let touched = match &args.touched {
        Some(out) => Some(AtomicFile::create(out, args.new.force)?),
        None => None,
    };
    let merged = merge.run(&args.new.out, &session.threads, &session.bars)?;
    let merge_seconds = began.elapsed().as_secs_f64();
    tell(merged.read.inputs.iter(), session);
    if merged.held_out > 0 {
        let held_out = counted(merged.held_out, "new rating");
        session.say(format!(
            "note: {held_out} of pairs that are held out, left alone"
        ));
    }
    let items = grown(&merged, store.manifest().items, args.grown);
    let merged_store = merged.open()?;
    let (mut solved_users, mut solved_items) = (0, 0);
    if let (Some(model), None) = (&model, &refresh) {
        // An update in place puts the model there before the store; the one before this ended in between.
        Refresh::expect_same(model, &merged_store)?;
        session.say("note: the model has been updated with these ratings already");
    }
    if let (Some(model), Some(refresh), Some(out)) = (&model, &refresh, model_out) {
        let mut plan = session.plan();
        plan.hold(
            "the model",
            Model::memory(args.model.as_ref().expect("opened"))?,
        );
        let rows = |side| merged_store.dictionary(side).len();
        let solved = merged.users.len().max(items.len());
        let rows = refresh.memory(rows(Side::Users), rows(Side::Items), solved);
        plan.hold("the refreshed model", rows);
        let room = plan.rest(ROOM)?;
        let solve = || refresh.run(&merged_store, &merged.users, &items, room / 2);
        let parameters = session.threads.run(solve)?;
        (solved_users, solved_items) = (merged.users.len() as u64, items.len() as u64);
        let updated = Updated {
            before: store.manifest().fingerprint,
            users: solved_users,
            items: solved_items,
        };
        // What the training took is told on, where it is still known.
        let lines = model.record().history.len();
        let trained = args.model.as_deref().and_then(|path| read_run(path).ok());
        let epochs = trained.map_or_else(|| vec![Pace::default(); lines], |run| run.epochs);
        let run = Run {
            epochs,
            seconds: began.elapsed().as_secs_f64(),
            threads: session.threads.count(),
            memory: Plan::within(session.memory).budget().0,
            store: args.new.out.display().to_string(),
        };
        model.save_updated(out, &parameters, updated, &merged_store, &run)?;
    }
    if let Some(file) = touched {
        write_ids(file, &merged.users, &merged_store).map_err(|e| match &args.touched {
            Some(path) => e.path(path),
            None => e,
        })?;
    }
    let outcome = Outcome {
        holds: Holds::of(&args.new.out, &merged.manifest),
        added: merged.added,
        replaced: merged.replaced,
        left_alone: merged.held_out,
        touched_users: merged.users.len() as u64,
        touched_items: merged.items.len() as u64,
        solved_users,
        solved_items,
        merge_seconds,
        seconds: began.elapsed().as_secs_f64(),
    };
    merged.put_in_place()?;
    session.print(&outcome, text(&outcome, args.model_out.as_deref()))
}

/// Bytes of the files of a model.
fn bytes_of(model: &Path) -> Result<u64> {
    let files = || -> io::Result<u64> {
        let mut bytes = 0;
        for file in fs::read_dir(model)? {
            bytes += file?.metadata()?.len();
        }
        Ok(bytes)
    };
    files().map_err(|e| Error::io(e, model))
}

/// Room to gather rows in.
const ROOM: u64 = 1 << 20;

/// The items whose ratings have become more by more than this share, and all that are new.
fn grown(merged: &Merged, known: u64, share: f64) -> Vec<u32> {
    let enough = |grown: &&Grown| {
        u64::from(grown.item) >= known || f64::from(grown.added) > share * f64::from(grown.before)
    };
    merged.items.iter().filter(enough).map(|g| g.item).collect()
}

fn write_ids(mut file: AtomicFile, users: &[u32], store: &Store) -> Result<()> {
    let mut text = String::new();
    for &user in users {
        text += store.users().id(user as usize)?;
        text.push('\n');
    }
    file.write_all(text.as_bytes())?;
    file.commit()
}

fn text(outcome: &Outcome, model: Option<&Path>) -> String {
    let mut lines = outcome.holds.lines();
    let replaced = match outcome.replaced {
        0 => String::new(),
        count => format!(", {} replaced", grouped(count)),
    };
    lines.push(("added", grouped(outcome.added) + &replaced));
    lines.push((
        "touched",
        format!(
            "{}, {}",
            counted(outcome.touched_users, "user"),
            counted(outcome.touched_items, "item")
        ),
    ));
    if let Some(model) = model {
        lines.push(("model", model.display().to_string()));
        lines.push((
            "solved anew",
            format!(
                "{}, {}",
                counted(outcome.solved_users, "user"),
                counted(outcome.solved_items, "item")
            ),
        ));
    }
    lines.push((
        "time",
        format!(
            "{:.2} s, of which {:.2} s to merge",
            outcome.seconds, outcome.merge_seconds
        ),
    ));
    aligned(&lines)
}
