//! Options of the commands that make stores, and what they tell of one.

use std::path::{Path, PathBuf};

use clap::Args;
use lowrank::ingest::Split;
use lowrank::memory::Bytes;
use lowrank::store::{Manifest, Part};
use serde::Serialize;

use crate::session::{Session, grouped};

/// Where a store is made, and of which files.
#[derive(Debug, Args)]
pub struct NewStoreArgs {
    /// The store to make
    #[arg(long, short, value_name = "STORE")]
    pub out: PathBuf,
    /// The largest size of a shard
    #[arg(long, value_name = "SIZE", default_value = "8MiB")]
    pub shard_size: Bytes,
    /// Replace the outputs if they exist
    #[arg(long)]
    pub force: bool,
}

/// What a new store holds.
#[derive(Serialize)]
pub struct Holds {
    store: PathBuf,
    users: u64,
    items: u64,
    ratings: u64,
    validation: u64,
    test: u64,
}

impl Holds {
    /// As its manifest says.
    pub fn of(store: &Path, manifest: &Manifest) -> Holds {
        Holds {
            store: store.to_owned(),
            users: manifest.users,
            items: manifest.items,
            ratings: manifest.ratings,
            validation: manifest.ratings_of(Part::Validation),
            test: manifest.ratings_of(Part::Test),
        }
    }

    /// Says of a part that was asked for that it is empty: what is drawn of few ratings may be none.
    pub fn tell_empty(&self, split: &Split, session: &Session) {
        let asked = [
            (split.tests(), self.test, Part::Test),
            (
                split.validation_fraction > 0.0,
                self.validation,
                Part::Validation,
            ),
        ];
        for (_, _, part) in asked.iter().filter(|(asked, held, _)| *asked && *held == 0) {
            session.say(format!(
                "warning: the {part} part is empty: of so few ratings none was drawn, or no user has one to spare"
            ));
        }
    }

    /// In lines.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![
            ("store", self.store.display().to_string()),
            ("users", grouped(self.users)),
            ("items", grouped(self.items)),
            ("ratings", grouped(self.ratings)),
        ];
        let parts = [(self.validation, Part::Validation), (self.test, Part::Test)];
        let parts = parts.iter().filter(|(count, _)| *count > 0);
        let held_out: Vec<_> = parts
            .map(|(count, part)| format!("{} for {part}", grouped(*count)))
            .collect();
        if !held_out.is_empty() {
            lines.push(("held out", held_out.join(", ")));
        }
        lines
    }
}
