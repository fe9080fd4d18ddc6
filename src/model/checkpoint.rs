//! An unfinished training on disk: a model directory that has the state of the solver, too.

use std::path::Path;

use super::{
    BEST_FILES, Draft, FACTOR_FILES, FactorsFile, Held, Record, Run, Unfinished, carried_name,
    files, read_run,
};
use crate::error::{Error, ErrorKind, Result};
use crate::matrix::Factors;
use crate::solver::{Moving, Options};
use crate::store::{AtomicDir, Fingerprint, Store, retry_if_replaced};
use crate::train::{Placement, State};

/// An unfinished training, to be gone on with.
#[derive(Debug)]
pub struct Checkpoint {
    /// Where training stood.
    pub state: State,
    /// What it was asked for.
    pub options: Options,
    /// Fingerprint of the start, if the caller gave one.
    pub start: Option<u64>,
    /// Fingerprint of the training ratings.
    pub fingerprint: Fingerprint,
}

impl Checkpoint {
    /// Writes where training stands, in place of the checkpoint before.
    pub fn save(
        path: &Path,
        state: &State,
        options: &Options,
        start: Option<u64>,
        store: &Store,
        run: &Run,
    ) -> Result<()> {
        let history = state.history.clone();
        let epoch = state.epochs();
        let draft = Draft {
            options,
            start,
            store,
            run,
            history,
            epoch,
            updates: Vec::new(),
        };
        let unfinished = Unfinished {
            best: state.best.as_ref(),
            carried: &state.moving.carried,
        };
        draft.write(
            AtomicDir::create(path, true)?,
            &state.moving.parameters,
            Some(unfinished),
        )
    }

    /// Opens a checkpoint with its factors in memory; every byte of them is checked.
    ///
    /// # Errors
    /// If there is none, or it is damaged or of a later version.
    pub fn open(path: &Path) -> Result<Checkpoint> {
        Checkpoint::open_placed(path, &Placement::default())
    }

    /// Opens a checkpoint, whose factors go where `placement` says.
    ///
    /// # Errors
    /// As [`open`](Checkpoint::open), and if there is no room on disk.
    pub fn open_placed(path: &Path, placement: &Placement) -> Result<Checkpoint> {
        retry_if_replaced(path, || Checkpoint::open_all(path, placement))
    }

    fn open_all(path: &Path, placement: &Placement) -> Result<Checkpoint> {
        let record = Record::read(path)?;
        let parameters = record.parameters(
            path,
            &record.files,
            FACTOR_FILES,
            placement,
            Held::Everything,
        )?;
        let best = match &record.best_files {
            None => None,
            Some(seals) => {
                Some(record.parameters(path, seals, BEST_FILES, placement, Held::Everything)?)
            }
        };
        let of_file = |(index, file): (usize, &FactorsFile)| {
            let path = path.join(carried_name(index));
            let &FactorsFile {
                rows,
                rank,
                biases,
                seal,
            } = file;
            let zeros = || Ok(Factors::zeros(rows, rank, biases));
            files::read(&path, seal, [rows, rank], biases, zeros)
        };
        let carried = record.carried.iter().enumerate().map(of_file);
        let carried = carried.collect::<Result<Vec<_>>>()?;
        let run = read_run(path)?;
        if run.epochs.len() != record.history.len() {
            return Err(
                Error::new(ErrorKind::Damaged, "run.json does not match the model")
                    .path(path)
                    .remedy("train again without --resume"),
            );
        }
        Ok(Checkpoint {
            state: State {
                moving: Moving {
                    parameters,
                    carried,
                },
                best,
                history: record.history,
                paces: run.epochs,
            },
            options: record.options,
            start: record.start,
            fingerprint: record.fingerprint,
        })
    }
}
