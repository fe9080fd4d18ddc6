//! `lowrank split`

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use lowrank::Result;
use lowrank::ingest::{HoldOut, Resplit};
use lowrank::store::Store;
use serde::Serialize;

use crate::held_out::HeldOutArgs;
use crate::new_store::{Holds, NewStoreArgs};
use crate::session::{Session, aligned};

/// Hold out other ratings of a store, without the text that it was imported from.
///
/// The new store has all ratings of the old one, held out or not, and holds out those that the options say: without any,
/// none. Ids are what is drawn by, so the store is the same as if the text were imported with these options.
#[derive(Debug, Args)]
pub struct SplitArgs {
    /// The store to split
    store: PathBuf,
    #[command(flatten)]
    new: NewStoreArgs,
    #[command(flatten)]
    held_out: HeldOutArgs,
    /// Hold out this share of the users whole: some of their ratings are written to --fold-in, the rest are for testing
    #[arg(
        help_heading = "Held-out users",
        long,
        value_name = "F",
        group = "drawn"
    )]
    test_users: Option<f64>,
    /// The share of such a user's ratings that is written to --fold-in
    #[arg(
        help_heading = "Held-out users",
        long,
        value_name = "F",
        default_value_t = 0.8,
        requires = "test_users"
    )]
    given: f64,
    /// Where those ratings go, as CSV: what recommend and evaluate take by their own --fold-in
    #[arg(
        help_heading = "Held-out users",
        long,
        value_name = "FILE",
        requires = "test_users"
    )]
    fold_in: Option<PathBuf>,
}

#[derive(Serialize)]
struct Outcome {
    #[serde(flatten)]
    holds: Holds,
    seconds: f64,
}

/// Runs the command.
pub fn run(args: SplitArgs, session: &Session) -> Result<()> {
    let began = Instant::now();
    let users = args.test_users.map(|share| HoldOut::Users {
        share,
        given: args.given,
    });
    let store = Store::open_within(&args.store, 0)?;
    let split = Resplit {
        store: &store,
        split: args.held_out.split(users),
        fold_in: args.fold_in.clone(),
        shard_bytes: args.new.shard_size.0,
        memory: session.memory,
        force: args.new.force,
    };
    let manifest = split.run(&args.new.out, &session.threads, &session.bars)?;
    let outcome = Outcome {
        holds: Holds::of(&args.new.out, &manifest),
        seconds: began.elapsed().as_secs_f64(),
    };
    outcome.holds.tell_empty(&split.split, session);
    let mut lines = outcome.holds.lines();
    if let Some(path) = &args.fold_in {
        lines.push(("to fold in by", path.display().to_string()));
    }
    lines.push(("time", format!("{:.2} s", outcome.seconds)));
    session.print(&outcome, aligned(&lines))
}
