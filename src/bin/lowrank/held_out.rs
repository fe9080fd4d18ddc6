//! Options that say which ratings are held out, of the commands that make stores.

use clap::Args;
use lowrank::ingest::{HoldOut, Split};

/// What is held out.
#[derive(Debug, Args)]
#[command(next_help_heading = "Held-out ratings")]
pub struct HeldOutArgs {
    /// Hold out this share of the ratings for testing, decided by a hash of seed, user and item
    #[arg(long, value_name = "F", group = "drawn")]
    test_fraction: Option<f64>,
    /// Hold out the latest N ratings of every user for testing, by time
    #[arg(long, value_name = "N", group = "drawn")]
    test_last: Option<usize>,
    /// Hold out the latest rating of every user for testing, as --test-last 1
    #[arg(long, group = "drawn")]
    leave_one_out: bool,
    /// Hold out N ratings of every user for testing, drawn by that hash
    #[arg(long, value_name = "N", group = "drawn")]
    test_each: Option<usize>,
    /// Hold out this one of --folds parts for testing, from 0 up: they are drawn by that hash, and share no rating
    #[arg(long, value_name = "I", group = "drawn", requires = "folds")]
    fold: Option<usize>,
    /// Into how many parts the ratings are dealt
    #[arg(long, value_name = "K", requires = "fold")]
    folds: Option<usize>,
    /// Hold out this share of what is left for validation, which early stopping and tuning look at
    #[arg(long, value_name = "F", default_value_t = 0.0)]
    validation_fraction: f64,
    /// Seed of the hash that holds out
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

impl HeldOutArgs {
    /// What these options say, unless the command has another way and it is asked for.
    pub fn split(&self, other: Option<HoldOut>) -> Split {
        let fold = self.fold.zip(self.folds);
        let test = other
            .or(self.test_fraction.map(HoldOut::Fraction))
            .or(self.test_last.map(HoldOut::Last))
            .or(self.leave_one_out.then_some(HoldOut::Last(1)))
            .or(self.test_each.map(HoldOut::Each))
            .or(fold.map(|(fold, folds)| HoldOut::Fold { fold, folds }));
        Split {
            test: test.unwrap_or_default(),
            validation_fraction: self.validation_fraction,
            seed: self.seed,
        }
    }
}
