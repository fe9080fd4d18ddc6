//! Checking a model whole: every byte, every number, and that its files belong together.

use std::path::Path;

use super::{
    BEST_FILES, FACTOR_FILES, Model, Record, carried_name, files, has_factors, read_run, sparse,
};
use crate::error::{AtPath, Error, ErrorKind, Result};
use crate::matrix::Side;
use crate::solver::Options;
use crate::store::MODEL_FILE;

/// What a verification has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verified {
    /// Number of files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Factors and biases, each a finite number.
    pub numbers: u64,
}

impl Model {
    /// Checks every byte of a model or a checkpoint: that each file is the one that the record speaks of, all checksums,
    /// that ids are text and all different, that factors are finite, and that `run.json` can be read.
    ///
    /// `progress` is told after each file how many bytes are done. Files are mapped one by one.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`], naming the first file that is wrong, and as [`Model::open`].
    pub fn verify(path: &Path, progress: &mut dyn FnMut(u64)) -> Result<Verified> {
        let mut verified = Verified::default();
        let mut done = |bytes: u64| {
            verified.files += 1;
            verified.bytes += bytes;
            progress(verified.bytes);
        };
        // Reading the record has checked every byte of it.
        let record = Record::read(path)?;
        done(length(&path.join(MODEL_FILE))?);
        let run = read_run(path)?;
        if run.epochs.len() != record.history.len() {
            let what = "as many epochs as in the model's history are not here";
            return Err(Error::new(ErrorKind::Damaged, what).path(path.join("run.json")));
        }
        done(length(&path.join("run.json"))?);
        for side in [Side::Users, Side::Items] {
            let dictionary = record.dictionary(path, side)?;
            dictionary.verify()?;
            done(dictionary.seal().bytes);
        }
        let Options { rank, biases, .. } = record.options;
        let factors = FACTOR_FILES.iter().zip(&record.files);
        let best = BEST_FILES.iter().zip(record.best_files.iter().flatten());
        let sides = [Side::Users, Side::Items].into_iter().cycle();
        let mut numbers = 0;
        for ((name, seal), side) in factors.chain(best).zip(sides) {
            let (rows, path) = (record.shape.rows(side), path.join(name));
            numbers += match has_factors(&record.options) {
                true => files::verify(&path, *seal, rows, rank, biases)?,
                false => {
                    let sparse = sparse::read(&path, *seal, [rows, record.shape.items])?;
                    sparse.values().len() as u64
                }
            };
            done(seal.bytes);
        }
        for (index, file) in record.carried.iter().enumerate() {
            let path = path.join(carried_name(index));
            numbers += files::verify(&path, file.seal, file.rows, file.rank, file.biases)?;
            done(file.seal.bytes);
        }
        verified.numbers = numbers;
        Ok(verified)
    }
}

fn length(path: &Path) -> Result<u64> {
    std::fs::metadata(path).map(|file| file.len()).at(path)
}
