//! From text to a store: read once, number, sort both ways, hold out, write.
//!
//! The text is parsed in parallel into records with provisional numbers, which are kept in memory or spilled. When all of
//! it has been read, popularity and so the final numbers are known; records are renumbered and scattered by ranges of
//! users, from which [`Build`] makes the store. So ratings are written to disk at most three times on the way, and no more
//! is held than the budget allows.

use std::ops::Range;
use std::path::Path;

use super::build::{Build, Loaded, Shares};
use super::collect::{Collector, Raw};
use super::keys::KeyTable;
use super::numbering::{Maps, NumberedIds, Numbering};
use super::rows::{Duplicates, Settle};
use super::sort::{Ranges, Record, Scatter, Stamp};
use super::spill::Spill;
use super::split::{HoldOut, Split};
use super::titles;
use super::{Input, ReadOptions, ReadReport, Titles, read_ratings};
use crate::error::{Error, ErrorKind, Result};
use crate::matrix::Side;
use crate::memory::{Bytes, Plan};
use crate::progress::{Progress, Unit};
use crate::store::{
    Encoding, IdSource, InputCounts, Manifest, Seal, StoreWriter, keep_freed, trim_heap,
};
use crate::threads::Threads;

/// What to import, and how.
pub struct Import {
    /// Texts and archives with ratings, read in this order.
    pub inputs: Vec<Input>,
    /// How to read them.
    pub read: ReadOptions,
    /// Held-out ratings in a file of their own.
    pub test: Option<Input>,
    /// Which of the ratings are held out.
    pub split: Split,
    /// What to do with a pair that is rated more than once.
    pub duplicates: Duplicates,
    /// Whether the store keeps the time of each rating.
    pub times: bool,
    /// Titles of items.
    pub titles: Option<Titles>,
    /// How ratings are written: nothing but bytes and speed depends on it.
    pub encoding: Encoding,
    /// The most bytes of a shard; less where the budget is small.
    pub shard_bytes: u64,
    /// The budget; half of what is available if none.
    pub memory: Option<Bytes>,
    /// Whether what is at the output may be replaced.
    pub force: bool,
}

/// What an import did.
#[derive(Debug)]
pub struct Report {
    /// What was read.
    pub read: ReadReport,
    /// What was read of the test file.
    pub test: Option<ReadReport>,
    /// The manifest of the new store.
    pub manifest: Manifest,
    /// Pairs of the test file that are also trained on or validated with.
    pub overlap: u64,
    /// Items that got a title.
    pub titled: usize,
    /// Bytes that did not fit the budget and went to disk on the way.
    pub spilled: u64,
}

impl Import {
    /// Imports into a new store at `out`.
    ///
    /// # Errors
    /// If the budget is too small, the text cannot be read, or the store cannot be written. Nothing is left behind then.
    pub fn run(&self, out: &Path, threads: &Threads, progress: &dyn Progress) -> Result<Report> {
        self.split.check()?;
        if self.inputs.is_empty() {
            return Err(Error::new(ErrorKind::BadOption, "there is no input"));
        }
        if let HoldOut::Users { .. } = self.split.test {
            let what = "users are held out whole when a store is split";
            return Err(Error::new(ErrorKind::BadOption, what)
                .remedy("import without, then use lowrank split"));
        }
        if self.test.is_some() && self.split.tests() {
            return Err(Error::new(
                ErrorKind::BadOption,
                "ratings to test on come from a file or from a split, not from both",
            ));
        }
        let mut plan = Plan::within(self.memory);
        // Two batches of chunks, and the records of one.
        let text = 8 * threads.count() * self.read.chunk_bytes;
        plan.hold("text being read", text as u64);
        self.hold_titles(&mut plan);
        let mut window = 0;
        for input in self.inputs.iter().chain(&self.test) {
            window = window.max(input.memory()?);
        }
        plan.hold("the window of zstd", window);
        plan.rest(Shares::LEAST)?;
        let store = StoreWriter::create(out, self.force)?;
        threads.run(|| {
            // Times are carried along only where something asks for them.
            if self.times || self.split.needs_times() || self.duplicates.needs_times() {
                self.import::<i64>(store, &plan, progress)
            } else {
                self.import::<()>(store, &plan, progress)
            }
        })
    }

    fn import<T: Stamp>(
        &self,
        store: StoreWriter,
        plan: &Plan,
        progress: &dyn Progress,
    ) -> Result<Report> {
        let shares = Shares::of(
            plan.rest(0)?,
            self.shard_bytes,
            rayon::current_num_threads(),
        );
        keep_freed(shares.sort);
        let bytes = self.input_bytes();
        let folder = store.path();
        let mut collector = Collector::<T>::new(shares.ids, shares.raw, bytes, folder, progress)?;
        progress.begin("reading", bytes, Unit::Bytes);
        let options = self.read.clone().within(plan.budget());
        let read = read_ratings(&self.inputs, &options, &mut collector)?;
        if self.split.needs_times() && collector.without_time {
            return Err(Error::new(
                ErrorKind::BadInput,
                "the latest ratings cannot be held out: there are ratings without a time",
            )
            .remedy("name the column with --columns, or use --test-fraction"));
        }
        let test = match &self.test {
            Some(input) => {
                collector.begin_test_file();
                let inputs = std::slice::from_ref(input);
                Some(read_ratings(inputs, &options, &mut collector)?)
            }
            None => None,
        };
        progress.end();
        if self.times && collector.without_time {
            return Err(Error::new(
                ErrorKind::BadInput,
                "times cannot be kept: there are ratings without a time",
            )
            .remedy("name the column with --columns, or leave out --times"));
        }
        if read.ratings() == 0 {
            return Err(Error::new(ErrorKind::BadInput, "no ratings could be read")
                .path(&read.inputs[0].path));
        }
        let Collector {
            users, items, raw, ..
        } = collector;
        let (users, items) = (users.into_runs()?, items.into_runs()?);
        // What a stage held is not where the next one looks for memory: here, and where the later ones begin.
        trim_heap();
        let numbering = |runs| Numbering::new(runs, shares.ids, folder);
        let mut numbered = [numbering(users)?, numbering(items)?];
        let (dictionaries, titled) = self.write_dictionaries(&store, &mut numbered)?;
        trim_heap();
        let [users, items] = numbered.each_ref().map(|side| &side.ids);
        let item_keys = KeyTable::new(items, shares.keys, folder)?;
        let ids = |side| store.open_dictionary(side);
        let id = |side, row: u32| Ok(ids(side)?.id(row as usize)?.to_owned());
        let mut build = Build {
            store: &store,
            encoding: self.encoding,
            memory: self.memory,
            shares: &shares,
            settle: Settle {
                duplicates: self.duplicates,
                split: self.split,
                item_keys: item_keys.get()?,
                times: self.times,
            },
            test_file: self.test.is_some(),
            ranges: [ranges(users, &shares)?, ranges(items, &shares)?],
            id: &id,
            progress,
            spilled: raw.spill.written(),
        };
        build.check_longest()?;
        let maps = numbered.each_mut().map(|side| &mut side.maps);
        let by_user = self.scatter(raw, maps, &build.ranges[0], &shares, folder)?;
        let [mut records, mut test_file] = by_user;
        let Numbering { ids: users, .. } = &numbered[0];
        let mut user_keys = users.keys();
        let load = |rows: Range<usize>| {
            item_keys.release();
            Ok(Loaded {
                keys: user_keys.next_keys(rows.len())?,
                records: records.next_stream()?,
                test_file: test_file.next_stream()?,
            })
        };
        trim_heap();
        let built = build.run(load, |_, _| Ok(()))?;
        let spilled = build.spilled + records.written() + test_file.written();
        let lines = |report: &ReadReport| report.inputs.iter().map(|i| i.lines).sum::<u64>();
        let both = |of: &dyn Fn(&ReadReport) -> u64| of(&read) + test.as_ref().map_or(0, of);
        let overlap = built.overlap;
        let counts = |duplicates| InputCounts {
            lines: both(&lines),
            bad_lines: both(&ReadReport::bad_lines),
            duplicates,
        };
        let manifest = build.manifest(built, self.options(), counts, dictionaries)?;
        item_keys.remove()?;
        store.commit(&manifest)?;
        Ok(Report {
            read,
            test,
            manifest,
            overlap,
            titled,
            spilled,
        })
    }

    fn hold_titles(&self, plan: &mut Plan) {
        plan.hold("titles", self.titles.as_ref().map_or(0, titles::memory));
    }

    /// The size of all inputs, if it can be told before they are read.
    fn input_bytes(&self) -> Option<u64> {
        let inputs = self.inputs.iter().chain(&self.test);
        inputs.map(Input::text_bytes).sum()
    }

    /// What the store remembers of how it was made.
    fn options(&self) -> Vec<(String, String)> {
        let mut options = vec![("duplicates".to_owned(), self.duplicates.to_string())];
        if self.test.is_some() {
            options.push(("test".into(), "file".into()));
        }
        options.extend(self.split.options());
        options
    }

    /// Renumbers all records and scatters them by user: those of the inputs, and those of a test file.
    fn scatter<T: Stamp>(
        &self,
        mut raw: Raw<T>,
        [users, items]: [&mut Maps; 2],
        ranges: &Ranges,
        shares: &Shares,
        folder: &Path,
    ) -> Result<[Spill<T>; 2]> {
        let scatter = Scatter::new(ranges);
        let at_once = Scatter::task::<T>(shares.scatter);
        let spill = |share| Spill::new(ranges.len(), share, folder);
        let mut out = match self.test {
            None => [spill(shares.by_user), spill(0)],
            Some(_) => [spill(shares.by_user / 4 * 3), spill(shares.by_user / 4)],
        };
        for stream in &raw.streams {
            let users = users.of(stream.users)?;
            let items = items.of(stream.items)?;
            let renumber = |record: Record<T>| Record {
                row: users[record.row as usize],
                col: items[record.col as usize],
                ..record
            };
            let out = &mut out[usize::from(stream.test_file)];
            scatter.scatter(raw.spill.next_pieces(at_once), renumber, out)?;
        }
        Ok(out)
    }

    /// Writes both dictionaries; gives their seals, and how many items have a title.
    fn write_dictionaries(
        &self,
        store: &StoreWriter,
        numbered: &mut [Numbering; 2],
    ) -> Result<([Seal; 2], usize)> {
        let [users, items] = numbered;
        let mut titled = 0;
        if let Some(titles) = &self.titles {
            items.ids.visit(|id, _| {
                titled += usize::from(titles.contains_key(id));
                Ok(())
            })?;
        }
        let users = NumberedSide {
            side: Side::Users,
            numbering: users,
            titles: None,
        };
        let items = NumberedSide {
            side: Side::Items,
            numbering: items,
            titles: self.titles.as_ref().filter(|_| titled > 0),
        };
        let seals = [store.dictionary(users)?, store.dictionary(items)?];
        Ok((seals, titled))
    }
}

/// Cuts the rows of one side into ranges.
fn ranges(ids: &NumberedIds, shares: &Shares) -> Result<Ranges> {
    let mut ranges = shares.ranges(ids.ratings());
    ids.visit(|_, count| {
        ranges.push(count);
        Ok(())
    })?;
    Ok(ranges)
}

/// What the dictionary of one side is written from.
struct NumberedSide<'a> {
    side: Side,
    numbering: &'a mut Numbering,
    /// Titles by id, if any id has one.
    titles: Option<&'a Titles>,
}

impl IdSource for NumberedSide<'_> {
    fn side(&self) -> Side {
        self.side
    }

    fn rows(&self) -> u32 {
        self.numbering.ids.len()
    }

    fn ids(&self, visit: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
        self.numbering.ids.visit(|id, _| visit(id))
    }

    fn has_titles(&self) -> bool {
        self.titles.is_some()
    }

    fn titles(&self, visit: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
        self.numbering.ids.visit(|id, _| {
            let title = self.titles.and_then(|titles| titles.get(id));
            visit(title.map_or("", |title| title))
        })
    }

    fn sorted(&mut self, visit: &mut dyn FnMut(u32) -> Result<()>) -> Result<()> {
        self.numbering.sorted.visit(visit)
    }
}
