//! `lowrank demo`

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, Parser};
use lowrank::evaluate::rating_errors;
use lowrank::matrix::{RowScratch, Side};
use lowrank::model::Model;
use lowrank::store::{Part, Store};
use lowrank::synthetic::{PRESETS, Preset, Summary, Synthetic};
use lowrank::{Error, Result};
use serde::Serialize;

use crate::args::Cli;
use crate::session::{Session, aligned, grouped};

/// Show every step on generated ratings, within seconds.
///
/// Generates ratings of the shape of MovieLens 100k in a temporary folder, and imports them, trains on them, evaluates,
/// recommends to everybody, and asks for single answers: each command is printed before it runs.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Do it in this new folder, and leave it there
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// The ratings that are generated: as many as MovieLens 100k has.
const PRESET: &Preset = &PRESETS[0];

const STORE: &str = "ratings.store";
const MODEL: &str = "als.model";

/// What each command shows, and the command; `{user}` and `{item}` stand for ids that the store has.
const STEPS: &[(&str, &str)] = &[
    (
        "Ratings whose best possible prediction is known:",
        "generate --preset movielens-100k --out ratings.csv",
    ),
    (
        "Read them into a store, 10 % held out to test on and 10 % to decide when to stop:",
        "import ratings.csv --out ratings.store --test-fraction 0.1 --validation-fraction 0.1",
    ),
    ("What is in the store:", "inspect ratings.store"),
    (
        "Factorize, with alternating least squares:",
        "train ratings.store --out als.model --solver als --rank 16 --regularization 0.06 \
         --regularization-row 8 --bias-regularization 0 --bias-regularization-row 5 --epochs 30 --early-stop 3",
    ),
    (
        "How good are its predictions of ratings that it has never seen?",
        "evaluate als.model ratings.store --on test",
    ),
    (
        "Ten new items for everybody, in a file:",
        "recommend als.model ratings.store --top 10 --out recommendations.csv",
    ),
    (
        "The same for one user, on the screen:",
        "recommend als.model ratings.store --users {user} --top 5",
    ),
    (
        "Items like the most popular one:",
        "similar als.model --item {item} --top 5",
    ),
    (
        "What one user would give one item:",
        "predict als.model --user {user} --item {unseen}",
    ),
];

#[derive(Serialize)]
struct Outcome {
    #[serde(skip_serializing_if = "Option::is_none")]
    folder: Option<PathBuf>,
    test_rmse: f64,
    rmse_by_mean: f64,
    rmse_by_biases: f64,
    best_reachable_rmse: f64,
    seconds: f64,
}

/// Runs the command.
pub fn run(args: DemoArgs, session: &mut Session) -> Result<()> {
    let began = Instant::now();
    let temporary;
    let folder = match &args.keep {
        Some(folder) => {
            std::fs::create_dir(folder).map_err(|e| match e.kind() {
                io::ErrorKind::AlreadyExists => Error::io(e, folder).remedy("name a new folder"),
                _ => Error::io(e, folder),
            })?;
            folder.canonicalize().map_err(|e| Error::io(e, folder))?
        }
        None => {
            temporary = tempfile::tempdir()?;
            temporary.path().to_owned()
        }
    };
    // So that each command works as it is printed.
    let home = std::env::current_dir()?;
    std::env::set_current_dir(&folder).map_err(|e| Error::io(e, &folder))?;
    let done = match session.is_json() {
        true => session.silently(|session| steps(session, None)),
        false => steps(session, Some(&folder)),
    };
    std::env::set_current_dir(&home).map_err(|e| Error::io(e, &home))?;
    let (test_rmse, summary) = done?;
    let outcome = Outcome {
        folder: args.keep,
        test_rmse,
        rmse_by_mean: summary.standard_deviation,
        rmse_by_biases: summary.biases_rmse,
        best_reachable_rmse: summary.oracle_rmse,
        seconds: began.elapsed().as_secs_f64(),
    };
    session.print(&outcome, outcome.text())
}

/// Runs every step, printed if there is a `folder` to print; gives the test RMSE, and what is known of the ratings.
fn steps(session: &Session, folder: Option<&Path>) -> Result<(f64, Summary)> {
    let print = |text: String| match folder {
        None => Ok(()),
        Some(_) => io::stdout()
            .write_all(text.as_bytes())
            .map_err(|e| Error::io(e, "<stdout>")),
    };
    if let Some(folder) = folder {
        print(format!("$ cd {}\n", folder.display()))?;
    }
    for (what, command) in STEPS {
        let mut command = (*command).to_owned();
        if command.contains('{') {
            let ids = Ids::of(&Store::open(STORE)?)?;
            command = command
                .replace("{user}", &ids.user)
                .replace("{item}", &ids.item)
                .replace("{unseen}", &ids.unseen);
        }
        print(format!("\n# {what}\n$ lowrank {command}\n"))?;
        let words = std::iter::once("lowrank").chain(command.split_whitespace());
        let parsed = Cli::try_parse_from(words).expect("the demo's commands are valid");
        crate::run(parsed.command, session)?;
    }
    let model = Model::open(Path::new(MODEL))?;
    let store = Store::open(STORE)?;
    let errors = session
        .threads
        .run(|| rating_errors(&model, &store, Part::Test, true))?;
    let summary = session
        .threads
        .run(|| Synthetic::new(PRESET.recipe)?.write(io::sink()))?;
    Ok((errors.rmse(), summary))
}

/// Ids to ask about.
struct Ids {
    /// A user with a usual number of ratings.
    user: String,
    /// The most popular item.
    item: String,
    /// The most popular item that the user has not rated.
    unseen: String,
}

impl Ids {
    fn of(store: &Store) -> Result<Ids> {
        let user = store.users().len() / 2;
        let mut seen = Vec::new();
        for part in [Part::Train, Part::Validation, Part::Test] {
            if let Some(rows) = store.part(part) {
                let (block, row) = rows.find(user)?;
                seen.extend_from_slice(block.row(row, &mut RowScratch::default()).cols);
            }
        }
        let unseen = (0..).find(|item| !seen.contains(item)).unwrap_or(0);
        let id = |side, row| store.dictionary(side).id(row).map(str::to_owned);
        Ok(Ids {
            user: id(Side::Users, user)?,
            item: id(Side::Items, 0)?,
            unseen: id(Side::Items, unseen as usize)?,
        })
    }
}

impl Outcome {
    fn text(&self) -> String {
        let rmse = |rmse: f64| format!("{rmse:.4}");
        let table = aligned(&[
            ("the mean for every pair", rmse(self.rmse_by_mean)),
            (
                "the true biases, without factors",
                rmse(self.rmse_by_biases),
            ),
            ("this model, on the test part", rmse(self.test_rmse)),
            (
                "the truth, without its noise",
                rmse(self.best_reachable_rmse),
            ),
        ]);
        let folder = match &self.folder {
            Some(folder) => format!("Everything is in {}.", folder.display()),
            None => "The folder is gone now; with --keep DIR it stays.".to_owned(),
        };
        format!(
            "\n# The error that is left (RMSE; the last line is the best that any model can reach):\n{table}\n\
             All {} ratings took {:.1} s. {folder}\n\
             Next, with ratings of your own, or a MovieLens archive as it is downloaded:\n\n  \
             lowrank import ml-25m.zip --out ml-25m.store --test-fraction 0.1\n  \
             lowrank train ml-25m.store --out ml-25m.model\n  \
             lowrank help\n",
            grouped(PRESET.recipe.ratings),
            self.seconds,
        )
    }
}
