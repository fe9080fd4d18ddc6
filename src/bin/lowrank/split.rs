//! `lowrank split`

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use lowrank::Result;
use lowrank::ingest::{HoldOut, Resplit};
use lowrank::memory::Bytes;
use lowrank::store::{Part, Store};
use serde::Serialize;

use crate::held_out::{HeldOutArgs, held_out};
use crate::session::{Session, aligned, grouped};

/// Hold out other ratings of a store, without the text that it was imported from.
///
/// The new store has all ratings of the old one, held out or not, and holds out those that the options say: without any,
/// none. Ids are what is drawn by, so the store is the same as if the text were imported with these options.
#[derive(Debug, Args)]
pub struct SplitArgs {
    /// The store to split
    store: PathBuf,
    /// The store to make
    #[arg(long, short, value_name = "STORE")]
    out: PathBuf,
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
    /// The largest size of a shard
    #[arg(long, value_name = "SIZE", default_value = "8MiB")]
    shard_size: Bytes,
    /// Replace the outputs if they exist
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct Outcome {
    store: PathBuf,
    users: u64,
    items: u64,
    ratings: u64,
    validation: u64,
    test: u64,
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
        shard_bytes: args.shard_size.0,
        memory: session.memory,
        force: args.force,
    };
    let manifest = split.run(&args.out, &session.threads, &session.bars)?;
    let outcome = Outcome {
        store: args.out.clone(),
        users: manifest.users,
        items: manifest.items,
        ratings: manifest.ratings,
        validation: manifest.ratings_of(Part::Validation),
        test: manifest.ratings_of(Part::Test),
        seconds: began.elapsed().as_secs_f64(),
    };
    let mut lines = vec![
        ("store", args.out.display().to_string()),
        ("ratings", grouped(outcome.ratings)),
    ];
    lines.extend(held_out(&manifest).map(|text| ("held out", text)));
    if let Some(path) = &args.fold_in {
        lines.push(("to fold in by", path.display().to_string()));
    }
    lines.push(("time", format!("{:.2} s", outcome.seconds)));
    session.print(&outcome, aligned(&lines))
}
