//! `lowrank import`

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use lowrank::Result;
use lowrank::ingest::{Duplicates, Import, Input, Report, bundled_titles, read_titles};
use lowrank::memory::Bytes;
use lowrank::store::Encoding;
use serde::Serialize;

use crate::held_out::HeldOutArgs;
use crate::new_store::{Holds, NewStoreArgs};
use crate::session::{Session, aligned, counted, grouped};
use crate::text::{TextArgs, tell};

/// Read ratings into a store.
///
/// Text is read once, sorted both ways inside the memory budget, and written as memory-mapped shards by user and by item.
/// Inputs may be plain, .gz, .zst, or a MovieLens .zip as it is downloaded; `-` is standard input.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Files with ratings, read in this order
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    #[command(flatten)]
    new: NewStoreArgs,
    #[command(flatten)]
    text: TextArgs,
    /// Titles of items: movies.csv, movies.dat or u.item [default: those in the zip]
    #[arg(help_heading = "Text", long, value_name = "FILE")]
    titles: Option<PathBuf>,
    /// Hold out the ratings of this file for testing
    #[arg(
        help_heading = "Held-out ratings",
        long,
        value_name = "FILE",
        conflicts_with = "drawn"
    )]
    test: Option<PathBuf>,
    #[command(flatten)]
    held_out: HeldOutArgs,
    /// Which of several ratings of one item by one user counts: last and first go by time, then by line
    #[arg(help_heading = "Text", long, value_enum, default_value_t = DuplicatesArg::Last)]
    duplicates: DuplicatesArg,
    /// How ratings are written
    #[arg(help_heading = "Store", long, value_enum, default_value_t = EncodingArg::Packed)]
    encoding: EncodingArg,
    /// Keep the time of each rating beside the ratings, for later splits by time
    #[arg(help_heading = "Store", long)]
    times: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DuplicatesArg {
    Last,
    First,
    Mean,
    Error,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum EncodingArg {
    /// Bit-packed columns and coded values: about 1.5 bytes a rating and side
    Packed,
    /// Columns and values as they are, 8 bytes a rating and side: can be viewed as sparse matrices
    Plain,
}

#[derive(Serialize)]
struct Outcome {
    #[serde(flatten)]
    holds: Holds,
    lines: u64,
    bad_lines: u64,
    duplicates: u64,
    titles: usize,
    spilled_bytes: u64,
    seconds: f64,
}

/// Runs the command.
pub fn run(args: ImportArgs, session: &Session) -> Result<()> {
    let began = Instant::now();
    let inputs: Vec<Input> = args.inputs.iter().map(Input::from).collect();
    // Titles are read before all else, and stay until they are written; most of the budget is for what comes after.
    let most = Bytes(session.plan().budget().0 / 4);
    let titles = match &args.titles {
        Some(path) => Some(read_titles(&Input::from(path), most)?),
        None => {
            let mut bundled = None;
            for input in &inputs {
                if bundled.is_none() {
                    bundled = bundled_titles(input, most)?;
                }
            }
            bundled
        }
    };
    let import = Import {
        read: args.text.options()?,
        inputs,
        test: args.test.as_ref().map(Input::from),
        split: args.held_out.split(None),
        duplicates: match args.duplicates {
            DuplicatesArg::Last => Duplicates::Last,
            DuplicatesArg::First => Duplicates::First,
            DuplicatesArg::Mean => Duplicates::Mean,
            DuplicatesArg::Error => Duplicates::Error,
        },
        times: args.times,
        titles,
        encoding: match args.encoding {
            EncodingArg::Packed => Encoding::Packed,
            EncodingArg::Plain => Encoding::Plain,
        },
        shard_bytes: args.new.shard_size.0,
        memory: session.memory,
        force: args.new.force,
    };
    let report = import.run(&args.new.out, &session.threads, &session.bars)?;
    let seconds = began.elapsed().as_secs_f64();
    warn(&report, session);
    let manifest = &report.manifest;
    let outcome = Outcome {
        holds: Holds::of(&args.new.out, manifest),
        lines: manifest.input.lines,
        bad_lines: manifest.input.bad_lines,
        duplicates: manifest.input.duplicates,
        titles: report.titled,
        spilled_bytes: report.spilled,
        seconds,
    };
    outcome.holds.tell_empty(&import.split, session);
    let mut lines = outcome.holds.lines();
    if outcome.titles > 0 {
        lines.push(("titles", grouped(outcome.titles as u64)));
    }
    if outcome.duplicates > 0 {
        let kept = import.duplicates;
        lines.push((
            "duplicates",
            format!("{}, kept: {kept}", grouped(outcome.duplicates)),
        ));
    }
    if outcome.spilled_bytes > 0 {
        lines.push(("spilled", Bytes(outcome.spilled_bytes).to_string()));
    }
    let rate = manifest.input.lines as f64 / seconds / 1e6;
    lines.push(("time", format!("{seconds:.2} s, {rate:.1} M lines/s")));
    session.print(&outcome, aligned(&lines))
}

/// Says what a user should know of what was read.
fn warn(report: &Report, session: &Session) {
    let test = report.test.iter().flat_map(|report| &report.inputs);
    tell(report.read.inputs.iter().chain(test), session);
    if report.overlap > 0 {
        session.say(format!(
            "warning: {} of the test file are also trained on",
            counted(report.overlap, "pair")
        ));
    }
}
