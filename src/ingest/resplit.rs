//! Another hold-out of a store, without the text that it was imported from.
//!
//! The ratings of all parts are read by ranges of users, and put through the second half of an import ([`Build`]). Ids and
//! their numbers stay as they are, and what is drawn hangs on ids alone: the new store has the bytes that an import of
//! the text with the same hold-out would have.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::build::{Build, Loaded, Shares};
use super::rows::{Duplicates, Rows, Settle};
use super::sort::{Record, Stamp};
use super::spill::Piece;
use super::split::{HoldOut, Split};
use crate::error::{AtPath, Error, ErrorKind, Result};
use crate::matrix::{Ratings, RowScratch, Side};
use crate::memory::{Bytes, Plan};
use crate::progress::Progress;
use crate::rng::key;
use crate::store::{
    AtomicFile, Dictionary, DiskPlan, InputCounts, Manifest, Part, Store, StoreWriter, UserRows,
};
use crate::threads::Threads;

/// Which store to split, and how.
#[derive(Debug)]
pub struct Resplit<'a> {
    /// The store, of which all parts are read. A pair that is in several of them counts once, as it is held out.
    pub store: &'a Store,
    /// Which of the ratings are held out.
    pub split: Split,
    /// Where what users who are held out whole are folded in by is written, as CSV with the columns user, item and rating.
    pub fold_in: Option<PathBuf>,
    /// The most bytes of a shard; less where the budget is small.
    pub shard_bytes: u64,
    /// The budget; half of what is available if none.
    pub memory: Option<Bytes>,
    /// Whether what is at the outputs may be replaced.
    pub force: bool,
}

impl Resplit<'_> {
    /// Splits into a new store at `out`.
    ///
    /// # Errors
    /// If the budget is too small, or the disk for a store as large as the one there is; if the split asks for what the store does not have, or a store cannot be read or written.
    /// Nothing is left behind then.
    pub fn run(&self, out: &Path, threads: &Threads, progress: &dyn Progress) -> Result<Manifest> {
        self.check()?;
        let mut disk = DiskPlan::new("another store of these ratings", "make room there");
        disk.write(
            "as large as this one:",
            out,
            self.store.bytes_without_tiles(),
        );
        disk.check()?;
        let store = StoreWriter::create(out, self.force)?;
        let fold_in = match &self.fold_in {
            Some(path) => Some(FoldInText::create(path, self)?),
            None => None,
        };
        threads.run(|| match self.store.manifest().times {
            Some(_) => self.write::<i64>(store, fold_in, threads.count(), progress),
            None => self.write::<()>(store, fold_in, threads.count(), progress),
        })
    }

    /// What it will hold at least.
    ///
    /// # Errors
    /// If the store is damaged.
    pub fn planned(&self, threads: usize) -> Result<Plan> {
        let shape = self.store.shape();
        let mut plan = Plan::within(self.memory);
        let rows = (shape.users + shape.items) as u64;
        plan.hold("keys of ids and numbers of ratings", rows * 16);
        let decoded = threads as u64 * self.store.row_memory()?;
        plan.hold("rows decoded", decoded);
        plan.hold("ratings being sorted", Shares::LEAST);
        Ok(plan)
    }

    fn check(&self) -> Result<()> {
        self.split.check()?;
        let bad = |what: &str, remedy: &str| {
            Err(Error::new(ErrorKind::BadOption, what).remedy(remedy.to_owned()))
        };
        if self.split.needs_times() && self.store.manifest().times.is_none() {
            return Err(Error::new(
                ErrorKind::BadOption,
                "the latest ratings cannot be told: this store keeps no times",
            )
            .path(self.store.path())
            .remedy("import the text with --times, or hold out by --test-each"));
        }
        let by_user = matches!(self.split.test, HoldOut::Users { .. });
        match (by_user, &self.fold_in) {
            (true, None) => bad(
                "users who are held out whole are folded in by some of their ratings, which need a place",
                "give --fold-in FILE.csv",
            ),
            (false, Some(_)) => bad(
                "nobody is folded in unless users are held out whole",
                "leave out --fold-in, or give --test-users",
            ),
            _ => Ok(()),
        }
    }

    fn write<T: Stamp>(
        &self,
        out: StoreWriter,
        mut fold_in: Option<FoldInText<'_>>,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Manifest> {
        let source = self.store;
        let shape = source.shape();
        let room = self.planned(threads)?.rest(0)? + Shares::LEAST;
        let shares = Shares::of(room, self.shard_bytes, threads);
        let dictionaries = [source.users(), source.items()];
        let seals = [
            out.copy_dictionary(dictionaries[0])?,
            out.copy_dictionary(dictionaries[1])?,
        ];
        let item_keys = keys(dictionaries[1], 0..shape.items)?;
        let parts = [Part::Train, Part::Validation, Part::Test];
        let parts: Vec<UserRows<'_>> = parts.into_iter().filter_map(|p| source.part(p)).collect();
        let id = |side: Side, row| Ok(source.id(side, row as usize).into_owned());
        let mut build = Build {
            store: &out,
            encoding: source.manifest().encoding,
            memory: self.memory,
            shares: &shares,
            settle: Settle {
                duplicates: Duplicates::Last,
                split: self.split,
                item_keys: &item_keys,
                times: source.manifest().times.is_some(),
            },
            test_file: false,
            ranges: [users(&parts)?, items(source, &parts)?].map(|counts| shares.cut(&counts)),
            id: &id,
            progress,
            spilled: 0,
        };
        build.check_longest()?;
        let load = |rows: Range<usize>| {
            Ok(Loaded {
                keys: keys(dictionaries[0], rows.clone())?,
                records: load::<T>(&parts, rows)?.into_iter().collect(),
                test_file: Piece::default(),
            })
        };
        let built = build.run(load, |first, rows| match &mut fold_in {
            Some(text) => text.write(first, rows),
            None => Ok(()),
        })?;
        let before = source.manifest();
        let kept = before
            .options
            .iter()
            .filter(|(name, _)| name == "duplicates");
        let options = kept.cloned().chain(self.split.options()).collect();
        let input = |_| InputCounts { ..before.input };
        let manifest = build.manifest(built, options, input, seals)?;
        if let Some(text) = fold_in {
            text.commit()?;
        }
        out.commit(&manifest)?;
        Ok(manifest)
    }
}

/// The records of a range of users, from all parts.
fn load<T: Stamp>(parts: &[UserRows<'_>], users: Range<usize>) -> Result<Vec<Record<T>>> {
    let mut records = Vec::new();
    let (mut scratch, mut times) = (RowScratch::default(), Vec::new());
    for part in parts {
        for user in users.clone() {
            let (block, row) = part.find(user)?;
            let row = block.row(row, &mut scratch);
            times.clear();
            part.times_of(user, row.len(), &mut times)?;
            let rated = row.cols.iter().zip(row.values).enumerate();
            records.extend(rated.map(|(at, (&col, &value))| Record {
                row: user as u32,
                col,
                value,
                time: T::new(times.get(at).copied()),
            }));
        }
        part.release(users.clone());
    }
    Ok(records)
}

/// How many ratings each user has, over all parts.
fn users(parts: &[UserRows<'_>]) -> Result<Vec<u64>> {
    let mut counts = Vec::new();
    for part in parts {
        let of_part = part.rating_counts()?;
        counts.resize(of_part.len(), 0);
        for (count, of_part) in counts.iter_mut().zip(of_part) {
            *count += u64::from(of_part);
        }
    }
    Ok(counts)
}

/// How many ratings each item has, over all parts.
fn items(store: &Store, parts: &[UserRows<'_>]) -> Result<Vec<u64>> {
    let trained = store.rating_counts(Side::Items)?;
    let mut counts: Vec<u64> = trained.into_iter().map(u64::from).collect();
    let mut scratch = RowScratch::default();
    // The first part is that which is trained on.
    for part in &parts[1..] {
        for index in 0..part.blocks(Side::Users) {
            let block = part.block(Side::Users, index)?;
            for row in 0..block.rows() {
                for &item in block.row(row, &mut scratch).cols {
                    counts[item as usize] += 1;
                }
            }
            part.done_with(Side::Users, index);
        }
    }
    Ok(counts)
}

/// Keys of the ids of some rows.
fn keys(dictionary: &Dictionary, rows: Range<usize>) -> Result<Vec<u64>> {
    let key = |row| Ok(key(dictionary.id(row)?.as_bytes()));
    let keys = rows.map(key).collect();
    dictionary.release();
    keys
}

/// What users are folded in by, on its way to a file.
struct FoldInText<'a> {
    path: &'a Path,
    store: &'a Store,
    text: csv::Writer<AtomicFile>,
}

impl<'a> FoldInText<'a> {
    fn create(path: &'a Path, resplit: &Resplit<'a>) -> Result<FoldInText<'a>> {
        let mut text = csv::Writer::from_writer(AtomicFile::create(path, resplit.force)?);
        text.write_record(["user", "item", "rating"])
            .map_err(std::io::Error::from)
            .at(path)?;
        let store = resplit.store;
        Ok(FoldInText { path, store, text })
    }

    fn write(&mut self, first: usize, rows: &Rows) -> Result<()> {
        for (user, row) in (first..).zip(rows.iter()) {
            for (&item, value) in row.cols.iter().zip(row.values) {
                let user = self.store.users().id(user)?;
                let item = self.store.items().id(item as usize)?;
                self.text
                    .write_record([user, item, &value.to_string()])
                    .map_err(std::io::Error::from)
                    .at(self.path)?;
            }
        }
        Ok(())
    }

    fn commit(self) -> Result<()> {
        let file = self.text.into_inner().map_err(|e| e.into_error());
        file.at(self.path)?.commit()
    }
}
