//! A trained model: factors, biases, ids, and where it comes from.
//!
//! A model directory is enough to predict and to recommend without the store. Every file of it is a function of data,
//! options and seed, except `run.json`, which holds what changes nothing: seconds, threads, budget, paths. A checkpoint is
//! a model directory, too: of an unfinished training, with the best factors so far where early stopping watches.

mod checkpoint;
mod exchange;
mod files;
mod refresh;
mod run;
mod sparse;
mod stored;
mod verify;

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use checkpoint::Checkpoint;
pub use exchange::{FactorTable, export_factors, read_start};
pub use refresh::{Refresh, Updated};
pub use run::{Run, read_run};
pub use stored::{GATHERED, Held};
pub use verify::Verified;

use stored::has_factors;

use crate::error::{AtPath, Error, ErrorKind, Result};
use crate::matrix::{Factors, Ratings, Shape, Side};
use crate::solver::{Neighbourhood, Options, Parameters};
use crate::store::{
    AtomicDir, CACHED, Dictionary, DiskFile, Fingerprint, Kind, MODEL_FILE, Seal, Sink, Store,
    kind_of, read_record, retry_if_replaced, write_record,
};
use crate::train::{Epoch, Placement, State};

/// Names of the files of users' and items' factors, ...
const FACTOR_FILES: [&str; 2] = ["users.factors", "items.factors"];
/// ... and of those of the best epoch so far, in a checkpoint.
const BEST_FILES: [&str; 2] = ["best_users.factors", "best_items.factors"];

/// Most factors that a solver carries to the next epoch: no caller's own may carry more.
const MOST_CARRIED: usize = 16;

/// What a model's record says: all that changes its numbers, and what they came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Version of the program that trained it.
    pub version: String,
    /// Every option that changes the result.
    #[serde(with = "by_name")]
    pub options: Options,
    /// Fingerprint of the start, if the caller gave one.
    pub start: Option<u64>,
    /// Number of users, items and training ratings.
    pub shape: Shape,
    /// Fingerprint of the training ratings.
    pub fingerprint: Fingerprint,
    /// Smallest and largest rating.
    pub scale: (f32, f32),
    /// What a prediction starts from.
    pub mean: f32,
    /// The unit of biases and products.
    pub std: f32,
    /// Losses by epoch.
    pub history: Vec<Epoch>,
    /// The epoch that the factors are of.
    pub epoch: usize,
    /// Whether training is over.
    pub finished: bool,
    /// The updates since, in order; a section of its own, which models that were never updated have not.
    #[serde(skip)]
    pub updates: Vec<Updated>,
    files: [Seal; 4],
    best_files: Option<[Seal; 2]>,
    carried: Vec<FactorsFile>,
}

/// Factors that a solver carries to the next epoch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct FactorsFile {
    rows: usize,
    rank: usize,
    biases: bool,
    seal: Seal,
}

/// Options as text that names them, so that a later version, which has more of them, still reads these.
mod by_name {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::solver::Options;

    pub fn serialize<S: Serializer>(options: &Options, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() {
            return options.serialize(to);
        }
        let text = serde_json::to_string(options).map_err(serde::ser::Error::custom)?;
        text.serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Options, D::Error> {
        if from.is_human_readable() {
            return Options::deserialize(from);
        }
        let text = String::deserialize(from)?;
        serde_json::from_str(&text).map_err(serde::de::Error::custom)
    }
}

/// The section of a record that tells of updates.
const UPDATES: &str = "updates";

fn carried_name(index: usize) -> String {
    format!("carried_{index}.factors")
}

/// A trained model, opened.
#[derive(Debug)]
pub struct Model {
    record: Record,
    parameters: Parameters,
    users: Dictionary,
    items: Dictionary,
}

impl Model {
    /// Writes the model of a finished training into a directory and puts it in its place. Whoever made the directory
    /// before training began has kept other writers away since.
    ///
    /// # Errors
    /// If it cannot be written, or something has come into its place meanwhile. Nothing is left behind then.
    pub fn save(
        dir: AtomicDir,
        state: State,
        options: &Options,
        start: Option<u64>,
        store: &Store,
        run: &Run,
    ) -> Result<()> {
        let epoch = match state.best {
            Some(_) => state.best_epoch().unwrap_or(state.epochs()),
            None => state.epochs(),
        };
        let history = state.history.clone();
        let parameters = state.into_parameters();
        let draft = Draft {
            options,
            start,
            store,
            run,
            history,
            epoch,
            updates: Vec::new(),
        };
        draft.write(dir, &parameters, None)
    }

    /// Writes the model as it stands after an update, and puts it in its place; `store` holds the ratings with the new ones.
    ///
    /// # Errors
    /// As [`save`](Model::save).
    pub fn save_updated(
        &self,
        dir: AtomicDir,
        parameters: &Parameters,
        updated: Updated,
        store: &Store,
        run: &Run,
    ) -> Result<()> {
        let mut updates = self.record.updates.clone();
        updates.push(updated);
        let draft = Draft {
            options: &self.record.options,
            start: self.record.start,
            store,
            run,
            history: self.record.history.clone(),
            epoch: self.record.epoch,
            updates,
        };
        draft.write(dir, parameters, None)
    }

    /// Whether the last update of the model began with the ratings of `store`, and left it with others.
    pub fn is_update_of(&self, store: &Store) -> bool {
        let before = store.manifest().fingerprint;
        let last = self.record.updates.last();
        before != self.record.fingerprint && last.is_some_and(|last| last.before == before)
    }

    /// Opens a model and reads its factors, every byte of which is checked.
    ///
    /// # Errors
    /// If there is no model, or it is damaged or of a later version.
    pub fn open(path: &Path) -> Result<Model> {
        Model::open_with(path, Held::Everything)
    }

    /// Opens a model whose factors may stay in their files. Every byte is checked.
    ///
    /// # Errors
    /// As [`open`](Model::open).
    pub fn open_with(path: &Path, held: Held) -> Result<Model> {
        retry_if_replaced(path, || Model::open_all(path, held))
    }

    fn open_all(path: &Path, held: Held) -> Result<Model> {
        let record = Record::read(path)?;
        let nowhere_else = Placement::default();
        let parameters =
            record.parameters(path, &record.files, FACTOR_FILES, &nowhere_else, held)?;
        let dictionary = |side: Side| record.dictionary(path, side);
        Ok(Model {
            users: dictionary(Side::Users)?,
            items: dictionary(Side::Items)?,
            parameters,
            record,
        })
    }

    /// Memory that an open model takes, in bytes, told by its record alone.
    pub fn memory(path: &Path) -> Result<u64> {
        Ok(Record::read(path)?.parameters_bytes())
    }

    /// Bytes of the largest files that the model of a training on this store will have. Of weights between items, which are
    /// not known before, only what users took counts, and that only where all ratings do.
    pub fn file_bytes(store: &Store, options: &Options) -> u64 {
        let Shape {
            users,
            items,
            ratings,
        } = store.manifest().shape();
        let of_row = options.rank + usize::from(options.biases);
        let numbers = match (has_factors(options), options.positive_at) {
            (true, _) => ((users + items) * of_row * size_of::<f32>()) as u64,
            (false, None) => 8 * ratings,
            (false, Some(_)) => 0,
        };
        numbers + store.users().seal().bytes + store.items().seal().bytes
    }

    /// The factors of one side, in memory or in their file, as the model was opened.
    ///
    /// # Errors
    /// If the model has none.
    pub fn factors(&self, side: Side) -> Result<&Factors> {
        match has_factors(&self.record.options) {
            true => Ok(self.parameters.side(side)),
            false => {
                let solver = &self.record.options.solver;
                let what = format!("a model of {solver} has weights between items, and no factors");
                Err(Error::new(ErrorKind::BadOption, what)
                    .remedy("name a model of another solver, such as als or ials"))
            }
        }
    }

    /// What the model's record says.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Factors and biases.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The ids of one side.
    pub fn dictionary(&self, side: Side) -> &Dictionary {
        match side {
            Side::Users => &self.users,
            Side::Items => &self.items,
        }
    }

    /// The row of an id.
    ///
    /// # Errors
    /// If the model does not know it.
    pub fn row(&self, side: Side, id: &str) -> Result<u32> {
        self.dictionary(side).lookup(id)?.ok_or_else(|| {
            Error::new(
                ErrorKind::UnknownId,
                format!("the model knows no {} {id:?}", side.noun()),
            )
        })
    }

    /// The row of an item by its id, or else by its title or a part of it.
    ///
    /// # Errors
    /// If there is none, or more than one has such a title; the message lists the first few.
    pub fn find_item(&self, text: &str) -> Result<u32> {
        const LISTED: usize = 5;
        if let Some(row) = self.items.lookup(text)? {
            return Ok(row);
        }
        let error = |what: String| Err(Error::new(ErrorKind::UnknownId, what));
        match self.items.find_title(text)?.as_slice() {
            [row] => Ok(*row),
            [] => error(format!(
                "the model knows no item with the id {text:?}, nor with that in its title"
            )),
            rows => {
                let named = |&row: &u32| {
                    let title = self.items.title(row as usize)?.unwrap_or_default();
                    Ok(format!("{} {title:?}", self.items.id(row as usize)?))
                };
                let mut listed: Vec<String> =
                    rows.iter().take(LISTED).map(named).collect::<Result<_>>()?;
                if rows.len() > LISTED {
                    listed.push(format!("and {} more", rows.len() - LISTED));
                }
                let what = format!(
                    "{text:?} is the title of several items: {}",
                    listed.join(", ")
                );
                error(what).map_err(|e| e.remedy("name one by its id"))
            }
        }
    }

    /// The prediction for a user and an item by their rows, as [`Parameters::predict`].
    ///
    /// # Errors
    /// If factors that lie in their file cannot be read.
    pub fn predict(&self, user: Option<u32>, item: Option<u32>) -> Result<f32> {
        let parameters = &self.parameters;
        let (users, items) = (&parameters.users, &parameters.items);
        let row = |row: Option<u32>| row.map(|row| row as usize);
        if !users.is_spilled() && !items.is_spilled() {
            return Ok(parameters.predict(row(user), row(item)));
        }
        let pair = Parameters {
            users: users.gather(&[user])?,
            items: items.gather(&[item])?,
            neighbourhood: None,
            ..*parameters
        };
        Ok(pair.predict(user.map(|_| 0), item.map(|_| 0)))
    }

    /// A prediction on the scale of the ratings.
    pub fn clip(&self, prediction: f32) -> f32 {
        let (low, high) = self.record.scale;
        prediction.clamp(low, high)
    }
}

/// What a checkpoint keeps beside the factors.
struct Unfinished<'a> {
    best: Option<&'a Parameters>,
    carried: &'a [Factors],
}

/// A model or a checkpoint about to be written.
struct Draft<'a> {
    options: &'a Options,
    start: Option<u64>,
    store: &'a Store,
    run: &'a Run,
    history: Vec<Epoch>,
    epoch: usize,
    updates: Vec<Updated>,
}

impl Draft<'_> {
    /// Writes all files of the directory.
    fn write(
        self,
        dir: AtomicDir,
        parameters: &Parameters,
        unfinished: Option<Unfinished<'_>>,
    ) -> Result<()> {
        if !parameters.is_finite()? {
            return Err(
                Error::new(ErrorKind::Diverged, "the factors are not finite")
                    .remedy("nothing was written; train with a higher regularization"),
            );
        }
        let at = |name: &str| dir.path().join(name);
        let create = |path: &Path| DiskFile::create(path).at(path);
        let has_factors = has_factors(self.options);
        let both = |parameters: &Parameters, names: [&str; 2]| -> Result<[Seal; 2]> {
            let [users, items] = names.map(at);
            if has_factors {
                return Ok([
                    files::write(&users, &parameters.users)?,
                    files::write(&items, &parameters.items)?,
                ]);
            }
            let unknown = || Neighbourhood::empty(self.store.shape());
            let known = parameters.neighbourhood.clone().unwrap_or_else(unknown);
            Ok([
                sparse::write(&users, &known.histories)?,
                sparse::write(&items, &known.weights)?,
            ])
        };
        let factors = both(parameters, FACTOR_FILES)?;
        let (best, carried) = match &unfinished {
            Some(unfinished) => (unfinished.best, unfinished.carried),
            None => (None, &[][..]),
        };
        let best_files = match best {
            Some(best) => Some(both(best, BEST_FILES)?),
            None => None,
        };
        let of_factors = |(index, factors): (usize, &Factors)| {
            Ok(FactorsFile {
                rows: factors.rows(),
                rank: factors.rank(),
                biases: factors.has_biases(),
                seal: files::write(&at(&carried_name(index)), factors)?,
            })
        };
        let carried = carried.iter().enumerate().map(of_factors);
        let carried = carried.collect::<Result<Vec<_>>>()?;
        let copy = |side: Side, name: &str| -> Result<Seal> {
            let dictionary = self.store.dictionary(side);
            let file = create(&at(name))?.cached_within(CACHED);
            dictionary.copy_to(file, &at(name))
        };
        let dictionaries = [
            copy(Side::Users, "users.dict")?,
            copy(Side::Items, "items.dict")?,
        ];
        let mut run = create(&at("run.json"))?;
        run.write_all(self.run.text()?.as_bytes())
            .and_then(|()| run.sync())
            .at(at("run.json"))?;
        let manifest = self.store.manifest();
        let record = Record {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            options: self.options.clone(),
            start: self.start,
            shape: self.store.shape(),
            fingerprint: manifest.fingerprint,
            scale: manifest.scale,
            mean: parameters.mean,
            std: parameters.std,
            history: self.history,
            epoch: self.epoch,
            finished: unfinished.is_none(),
            updates: self.updates,
            files: [factors[0], factors[1], dictionaries[0], dictionaries[1]],
            best_files,
            carried,
        };
        // The record comes last: it is what makes the directory a model.
        let updates = Some((UPDATES, &record.updates)).filter(|_| !record.updates.is_empty());
        write_record(
            create(&at(MODEL_FILE))?,
            &at(MODEL_FILE),
            Kind::Model,
            &record,
            updates,
        )?;
        dir.commit()
    }
}

impl Record {
    /// Reads a model's record.
    pub fn read(path: &Path) -> Result<Record> {
        let wrong = |what: String| {
            Error::new(ErrorKind::Incompatible, what)
                .path(path)
                .remedy("name the directory that lowrank train wrote")
        };
        std::fs::metadata(path).map_err(|e| Error::io(e, path))?;
        match kind_of(path) {
            Some(Kind::Model) if path.is_dir() => {}
            Some(kind) if kind != Kind::Model => {
                return Err(wrong(format!("this is {}, not a model", kind.noun())));
            }
            _ if path.join(MODEL_FILE).is_file() => {}
            _ => return Err(wrong("this is not a model".to_owned())),
        }
        let file = path.join(MODEL_FILE);
        let (mut record, updates, _) =
            read_record::<Record, Vec<Updated>>(&file, Kind::Model, UPDATES)?;
        record.updates = updates.unwrap_or_default();
        record.check().map_err(|e| e.path(file))?;
        Ok(record)
    }

    /// Whether what the record says can be: it is believed from here on, and memory is planned by it.
    fn check(&self) -> Result<()> {
        let Shape { users, items, .. } = self.shape;
        let numbered = |rows: usize| u32::try_from(rows).is_ok();
        let ranked = |rank: usize| (1..=Options::MAX_RANK).contains(&rank);
        let (low, high) = self.scale;
        let finite = [low, high, self.mean, self.std]
            .iter()
            .all(|x| x.is_finite());
        let carried: Vec<usize> = self.carried.iter().map(|file| file.rows).collect();
        let sound = finite
            && low <= high
            && self.std > 0.0
            && self.epoch < self.history.len()
            && numbered(users)
            && numbered(items)
            && ranked(self.options.rank)
            && carried.len() <= MOST_CARRIED
            && carried
                .chunks(2)
                .all(|sides| sides == [users, items] || sides == [users])
            && self.carried.iter().all(|file| ranked(file.rank));
        match sound {
            true => Ok(()),
            false => Err(
                Error::new(ErrorKind::Damaged, "the model's record contradicts itself")
                    .remedy("train again"),
            ),
        }
    }

    fn parameters_bytes(&self) -> u64 {
        let factors = Parameters::bytes(self.shape, self.options.rank, self.options.biases);
        // A record may say anything of its files' sizes, until they are opened.
        match has_factors(&self.options) {
            true => factors,
            false => total([factors, self.files[0].bytes, self.files[1].bytes]),
        }
    }

    /// Memory that a [`Checkpoint`] with this record takes when it is opened, in bytes.
    pub fn state_memory(&self) -> u64 {
        let copies = 1 + u64::from(self.best_files.is_some());
        let carried = self.carried.iter();
        let carried = carried.map(|file| Factors::bytes(file.rows, file.rank, file.biases));
        let parameters = copies.saturating_mul(self.parameters_bytes());
        total(carried.chain([parameters]))
    }

    /// Bytes of factors, biases and ids on disk.
    pub fn file_bytes(&self) -> u64 {
        let best = self.best_files.iter().flatten();
        let carried = self.carried.iter().map(|file| &file.seal);
        let seals = self.files.iter().chain(best).chain(carried);
        total(seals.map(|seal| seal.bytes))
    }

    fn dictionary(&self, path: &Path, side: Side) -> Result<Dictionary> {
        let (name, at) = match side {
            Side::Users => ("users.dict", 2),
            Side::Items => ("items.dict", 3),
        };
        let dictionary = Dictionary::open(path.join(name))?;
        let whole = dictionary.side() == side && dictionary.len() == self.shape.rows(side);
        if !whole || dictionary.seal() != self.files[at] {
            return Err(files::foreign(&path.join(name)));
        }
        Ok(dictionary)
    }
}

/// The sum, or the most that there can be.
fn total(bytes: impl IntoIterator<Item = u64>) -> u64 {
    bytes.into_iter().fold(0, u64::saturating_add)
}
