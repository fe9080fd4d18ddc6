//! `lowrank predict`

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use lowrank::ingest::{Input, read_pairs};
use lowrank::matrix::Side;
use lowrank::memory::Bytes;
use lowrank::model::{Held, Model};
use lowrank::store::AtomicFile;
use lowrank::{Error, Result};
use serde::Serialize;

use crate::outputs::expect_apart;
use crate::session::{Session, aligned, counted, grouped};

/// Predict what a user would rate an item, or many pairs of them.
///
/// A user or item that the model does not know gets what is known: the mean and the other side's bias, or the mean alone.
/// That is said on standard error, and never a failure.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").args(["user", "pairs"]).required(true))]
pub struct PredictArgs {
    /// The model to predict with
    model: PathBuf,
    /// The user of the pair
    #[arg(long, value_name = "ID", requires = "item")]
    user: Option<String>,
    /// The item of the pair
    #[arg(long, value_name = "ID", requires = "user")]
    item: Option<String>,
    /// CSV with a user and an item a line, with or without a header; - is standard input
    #[arg(long, value_name = "FILE")]
    pairs: Option<PathBuf>,
    /// Where the predictions of --pairs go, as CSV; - is standard output
    #[arg(
        long,
        short,
        value_name = "FILE",
        default_value = "-",
        conflicts_with = "user"
    )]
    out: PathBuf,
    /// Take predictions as they are, rather than clipped to the scale of the ratings
    #[arg(long)]
    no_clip: bool,
    /// Replace the output if it exists
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub fn run(args: PredictArgs, session: &Session) -> Result<()> {
    expect_apart(args.force, &[Some(&args.out)], &[args.pairs.as_deref()])?;
    let to_stdout = args.out == Path::new("-");
    if args.pairs.is_some() && to_stdout {
        session.give_stdout_to_data()?;
    }
    let mut plan = session.plan();
    // Of a single pair two rows are asked for.
    let ways = match args.pairs {
        Some(_) => &[Held::Everything, Held::Nothing][..],
        None => &[Held::Nothing],
    };
    let held = Held::plan(&mut plan, &args.model, ways)?;
    let predictor = Predictor {
        model: Model::open_with(&args.model, held)?,
        budget: plan.budget(),
        clip: !args.no_clip,
    };
    match (&args.pairs, &args.user, &args.item) {
        (None, Some(user), Some(item)) => one(&predictor, user, item, session),
        (pairs, ..) => {
            let pairs = Input::from(pairs.as_deref().unwrap_or(Path::new("-")));
            if to_stdout {
                let stdout = &mut io::stdout().lock();
                let outcome = predictor.write(&pairs, stdout, Path::new("<stdout>"))?;
                note(&outcome, session);
                return Ok(());
            }
            let mut file = AtomicFile::create(&args.out, args.force)?;
            let outcome = predictor.write(&pairs, &mut file, &args.out)?;
            file.commit()?;
            note(&outcome, session);
            let written = format!("{} in {}", grouped(outcome.predictions), args.out.display());
            session.print(&outcome, aligned(&[("predictions", written)]))
        }
    }
}

/// Pairs whose ids are in memory before those of the next ones are looked up.
const IDS: u64 = 1 << 16;

struct Predictor {
    model: Model,
    budget: Bytes,
    clip: bool,
}

#[derive(Default, Serialize)]
struct Outcome {
    predictions: u64,
    unknown: u64,
}

impl Predictor {
    /// The prediction of a pair, and which of the two the model knows.
    fn predict(&self, user: &str, item: &str) -> Result<(f32, bool, bool)> {
        let user = self.model.dictionary(Side::Users).lookup(user)?;
        let item = self.model.dictionary(Side::Items).lookup(item)?;
        let prediction = self.model.predict(user, item)?;
        let prediction = match self.clip {
            true => self.model.clip(prediction),
            false => prediction,
        };
        Ok((prediction, user.is_some(), item.is_some()))
    }

    /// Predicts pair after pair, as they are read.
    fn write(&self, pairs: &Input, out: &mut dyn Write, path: &Path) -> Result<Outcome> {
        let mut out = csv::Writer::from_writer(BufWriter::with_capacity(1 << 16, out));
        let failed = |e: csv::Error| Error::from(e).path(path);
        out.write_record(["user", "item", "prediction"])
            .map_err(failed)?;
        let mut outcome = Outcome::default();
        let sides = [Side::Users, Side::Items].map(|side| self.model.dictionary(side));
        read_pairs(pairs, self.budget, |user, item| {
            let (prediction, user_known, item_known) = self.predict(user, item)?;
            outcome.predictions += 1;
            if outcome.predictions.is_multiple_of(IDS) {
                sides.iter().for_each(|ids| ids.release());
            }
            outcome.unknown += u64::from(!user_known || !item_known);
            out.write_record([user, item, &prediction.to_string()])
                .map_err(failed)
        })?;
        out.flush().map_err(|e| Error::io(e, path))?;
        Ok(outcome)
    }
}

fn one(predictor: &Predictor, user: &str, item: &str, session: &Session) -> Result<()> {
    #[derive(Serialize)]
    struct Prediction<'a> {
        user: &'a str,
        item: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a str>,
        prediction: f32,
        user_known: bool,
        item_known: bool,
    }
    let (prediction, user_known, item_known) = predictor.predict(user, item)?;
    for (known, noun, id) in [(user_known, "user", user), (item_known, "item", item)] {
        if !known {
            session.say(format!(
                "note: the model knows no {noun} {id:?}; predicting from what is known"
            ));
        }
    }
    let items = predictor.model.dictionary(Side::Items);
    let title = match items.lookup(item)? {
        Some(row) => items.title(row as usize)?,
        None => None,
    };
    let result = Prediction {
        user,
        item,
        title,
        prediction,
        user_known,
        item_known,
    };
    let item = title.map_or(item.to_owned(), |title| format!("{item}, {title}"));
    let lines = [
        ("user", user.to_owned()),
        ("item", item),
        ("prediction", format!("{prediction:.4}")),
    ];
    session.print(&result, aligned(&lines))
}

fn note(outcome: &Outcome, session: &Session) {
    if outcome.unknown > 0 {
        session.say(format!(
            "note: {} of a user or item that the model does not know",
            counted(outcome.unknown, "prediction")
        ));
    }
}
