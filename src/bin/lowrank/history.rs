//! The course of a training: a line for each epoch, on the screen and as CSV.

use std::io::Write;
use std::path::Path;

use lowrank::store::{AtomicFile, Part, Store};
use lowrank::train::{Epoch, Pace, State};
use lowrank::{Error, Result};

/// The names of the columns that [`line`] fills.
pub fn header(store: &Store) -> String {
    let mut header = format!("{:>5}  {:>14}  {:>10}", "epoch", "loss", "train rmse");
    for (part, name) in [(Part::Validation, "valid. rmse"), (Part::Test, "test rmse")] {
        if store.part(part).is_some_and(|part| part.ratings() > 0) {
            header += &format!("  {name:>11}");
        }
    }
    header + &format!("  {:>8}  {:>11}", "seconds", "ratings/s")
}

/// An epoch as a line for people.
pub fn line(epoch: &Epoch, pace: &Pace) -> String {
    let mut line = format!(
        "{:>5}  {:>14.6e}  {:>10.6}",
        epoch.epoch, epoch.loss, epoch.train_rmse
    );
    for rmse in [epoch.validation_rmse, epoch.test_rmse]
        .into_iter()
        .flatten()
    {
        line += &format!("  {rmse:>11.6}");
    }
    let rate = pace.ratings_per_second / 1e6;
    line + &format!("  {:>8.3}  {rate:>9.2} M", pace.seconds)
}

/// Writes the whole history anew, so that there is never half a line.
pub fn write(path: &Path, state: &State) -> Result<()> {
    let mut file = AtomicFile::create(path, true)?;
    let mut text = concat!(
        "epoch,loss,train_rmse,validation_rmse,test_rmse,seconds,ratings_per_second,",
        "ratings_read,factors_read,factors_reread,factors_written,waited,disk_read,page_faults\n"
    )
    .to_owned();
    let optional = |x: Option<f64>| x.map_or(String::new(), |x| x.to_string());
    for (epoch, pace) in state.history.iter().zip(&state.paces) {
        text += &format!(
            "{},{},{},{},{},{},{},{},{},{},{},{},{},{}\n",
            epoch.epoch,
            epoch.loss,
            epoch.train_rmse,
            optional(epoch.validation_rmse),
            optional(epoch.test_rmse),
            pace.seconds,
            pace.ratings_per_second,
            pace.ratings_read,
            pace.factors_read,
            pace.factors_reread,
            pace.factors_written,
            pace.waited,
            pace.disk_read,
            pace.page_faults,
        );
    }
    file.write_all(text.as_bytes())
        .map_err(|e| Error::io(e, path))?;
    file.commit()
}
