//! `lowrank import`

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use lowrank::Result;
use lowrank::ingest::{
    Columns, Delimiter, Duplicates, FORMATS, HoldOut, Import, Input, ReadOptions, Report,
    bundled_titles, format, read_titles,
};
use lowrank::memory::Bytes;
use lowrank::store::Encoding;
use lowrank::store::Part;
use serde::Serialize;

use crate::args::choices;
use crate::held_out::{HeldOutArgs, held_out};
use crate::session::{Session, aligned, counted, grouped};

/// Read ratings into a store.
///
/// Text is read once, sorted both ways inside the memory budget, and written as memory-mapped shards by user and by item.
/// Inputs may be plain, .gz, .zst, or a MovieLens .zip as it is downloaded; `-` is standard input.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Files with ratings, read in this order
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    /// The store to make
    #[arg(long, short, value_name = "STORE")]
    out: PathBuf,
    /// What the text looks like
    #[arg(help_heading = "Text", long, default_value = "auto", value_parser = format_names(), hide_possible_values = true, help = format_help())]
    format: String,
    /// What the columns of delimited text are, in file order: user, item, rating, time, or _ to skip one
    #[arg(help_heading = "Text", long, value_name = "LIST")]
    columns: Option<Columns>,
    /// What separates the columns of delimited text [default: recognised]
    #[arg(help_heading = "Text", long, value_name = "TEXT")]
    delimiter: Option<Delimiter>,
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
    /// Hold out the latest N ratings of every user for testing
    #[arg(
        help_heading = "Held-out ratings",
        long,
        value_name = "N",
        group = "drawn"
    )]
    test_last: Option<usize>,
    #[command(flatten)]
    held_out: HeldOutArgs,
    /// Which of several ratings of one item by one user counts: last and first go by time, then by line
    #[arg(help_heading = "Text", long, value_enum, default_value_t = DuplicatesArg::Last)]
    duplicates: DuplicatesArg,
    /// How ratings are written
    #[arg(help_heading = "Store", long, value_enum, default_value_t = EncodingArg::Packed)]
    encoding: EncodingArg,
    /// The largest size of a shard
    #[arg(
        help_heading = "Store",
        long,
        value_name = "SIZE",
        default_value = "8MiB"
    )]
    shard_size: Bytes,
    /// Count lines that cannot be read, rather than stop at the first
    #[arg(help_heading = "Text", long)]
    skip_bad_lines: bool,
    /// Replace the store if it exists
    #[arg(long)]
    force: bool,
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

fn format_names() -> Vec<&'static str> {
    let names = FORMATS.iter().map(|format| format.name());
    std::iter::once("auto").chain(names).collect()
}

fn format_help() -> String {
    let all = FORMATS.iter().map(|f| (f.name(), f.summary()));
    let auto = std::iter::once(("auto", "recognised by its name and its first lines"));
    choices("What the text looks like", auto.chain(all))
}

#[derive(Serialize)]
struct Outcome {
    store: PathBuf,
    users: u64,
    items: u64,
    ratings: u64,
    validation: u64,
    test: u64,
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
        read: ReadOptions {
            format: match args.format.as_str() {
                "auto" => None,
                name => Some(format(name)?),
            },
            columns: args.columns,
            delimiter: args.delimiter,
            skip_bad_lines: args.skip_bad_lines,
            ..ReadOptions::default()
        },
        inputs,
        test: args.test.as_ref().map(Input::from),
        split: args.held_out.split(args.test_last.map(HoldOut::Last)),
        duplicates: match args.duplicates {
            DuplicatesArg::Last => Duplicates::Last,
            DuplicatesArg::First => Duplicates::First,
            DuplicatesArg::Mean => Duplicates::Mean,
            DuplicatesArg::Error => Duplicates::Error,
        },
        titles,
        encoding: match args.encoding {
            EncodingArg::Packed => Encoding::Packed,
            EncodingArg::Plain => Encoding::Plain,
        },
        shard_bytes: args.shard_size.0,
        memory: session.memory,
        force: args.force,
    };
    let report = import.run(&args.out, &session.threads, &session.bars)?;
    let seconds = began.elapsed().as_secs_f64();
    warn(&report, session);
    let manifest = &report.manifest;
    let outcome = Outcome {
        store: args.out.clone(),
        users: manifest.users,
        items: manifest.items,
        ratings: manifest.ratings,
        validation: manifest.ratings_of(Part::Validation),
        test: manifest.ratings_of(Part::Test),
        lines: manifest.input.lines,
        bad_lines: manifest.input.bad_lines,
        duplicates: manifest.input.duplicates,
        titles: report.titled,
        spilled_bytes: report.spilled,
        seconds,
    };
    let mut lines = vec![
        ("store", args.out.display().to_string()),
        ("users", grouped(outcome.users)),
        ("items", grouped(outcome.items)),
        ("ratings", grouped(outcome.ratings)),
    ];
    lines.extend(held_out(manifest).map(|text| ("held out", text)));
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
    for input in report
        .read
        .inputs
        .iter()
        .chain(report.test.iter().flat_map(|r| &r.inputs))
    {
        let name = input.path.display();
        session.say(format!(
            "{name}: {} ({})",
            counted(input.ratings, "rating"),
            input.format
        ));
        if input.bad_lines > 0 {
            session.say(format!(
                "warning: {name}: {} could not be read, among them",
                counted(input.bad_lines, "line")
            ));
            for reason in &input.reasons {
                session.say(format!("  {reason}"));
            }
        }
    }
    if report.overlap > 0 {
        session.say(format!(
            "warning: {} of the test file are also trained on",
            counted(report.overlap, "pair")
        ));
    }
}
