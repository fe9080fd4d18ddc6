//! From text to a store: read once, number, sort both ways, hold out, write.
//!
//! The text is parsed in parallel into records with provisional numbers, which are kept in memory or spilled. When all of
//! it has been read, popularity and so the final numbers are known; records are renumbered and scattered by ranges of
//! users. Each range is sorted, its duplicates are settled and its held-out ratings split off; its users are written, and
//! what is trained on is scattered by ranges of items, where it arrives sorted by user and needs only a counting sort. So
//! ratings are written to disk at most three times on the way, and no more is held than the budget allows.

use std::path::Path;

use rayon::prelude::*;

use super::collect::{Collector, Raw};
use super::dictionary::Numbering;
use super::rows::{Duplicates, Histogram, Settle, Settled, Twice};
use super::sort::{Ranges, Record, Scatter, Spill, Stamp, by_row};
use super::split::Split;
use super::{Input, ReadOptions, ReadReport, Titles, read_ratings};
use crate::error::{Error, ErrorKind, Result};
use crate::matrix::Side;
use crate::memory::{Bytes, Plan};
use crate::progress::{Progress, Unit};
use crate::rng::key;
use crate::store::{
    Encoding, Fingerprint, InputCounts, Layout, Manifest, Part, Seal, ShardEntry, ShardsWriter,
    StoreWriter,
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

/// How the budget is shared out. Only some of it is in use at any one time.
struct Shares {
    /// Ids while text is read.
    ids: u64,
    /// Records as read; later, records by item.
    raw: u64,
    /// Records by user.
    by_user: u64,
    /// What one thread sorts at a time.
    sort: u64,
    /// A shard being written.
    shard: u64,
}

impl Shares {
    /// Less than this is no budget.
    const LEAST: u64 = 16 << 20;

    fn of(budget: u64, shard_bytes: u64, threads: usize) -> Shares {
        Shares {
            ids: budget / 5,
            raw: budget / 4,
            by_user: budget / 4,
            sort: budget / 8 / threads as u64,
            shard: shard_bytes.min(budget / 16),
        }
    }
}

/// Bytes that sorting takes for each record: the records, their counting sort, keys, and what comes out.
const SORT_BYTES: u64 = 96;

/// Records that are sorted at a time, even where more would fit: a range should stay in the caches.
const MAX_SORTED: u64 = 1 << 18;

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
        if self.test.is_some() && (self.split.test_fraction > 0.0 || self.split.test_last > 0) {
            return Err(Error::new(
                ErrorKind::BadOption,
                "ratings to test on come from a file or from a split, not from both",
            ));
        }
        let mut plan = Plan::within(self.memory);
        // Two batches of chunks, and the records of one.
        let text = 8 * threads.count() * self.read.chunk_bytes;
        plan.hold("text being read", text as u64);
        if let Some(titles) = &self.titles {
            // Two allocations and a place in a table for each.
            let text = titles.iter().map(|(id, title)| id.len() + title.len());
            let held = text.sum::<usize>() + titles.len() * 96;
            plan.hold("titles", held as u64);
        }
        plan.rest(Shares::LEAST)?;
        let store = StoreWriter::create(out, self.force)?;
        threads.run(|| {
            // Times are carried along only where something asks for them.
            if self.split.test_last > 0 || self.duplicates.needs_times() {
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
        let mut collector = Collector::<T>::new(shares.ids, shares.raw, store.path(), progress);
        progress.begin("reading", self.input_bytes(), Unit::Bytes);
        let read = read_ratings(&self.inputs, &self.read, &mut collector)?;
        if self.split.test_last > 0 && collector.without_time {
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
                Some(read_ratings(inputs, &self.read, &mut collector)?)
            }
            None => None,
        };
        progress.end();
        if read.ratings() == 0 {
            return Err(Error::new(ErrorKind::BadInput, "no ratings could be read")
                .path(&read.inputs[0].path));
        }
        let Collector {
            users, items, raw, ..
        } = collector;
        let numbered = Numbered {
            users: users.finish(store.path())?,
            items: items.finish(store.path())?,
        };
        numbered.check(plan)?;
        let (dictionaries, keys, titled) = self.write_dictionaries(&store, &numbered)?;
        let mut build = Build {
            import: self,
            store: &store,
            shares: &shares,
            keys: &keys,
            progress,
            spilled: raw.spill.written(),
        };
        let (mut by_users, ranges) = build.scatter(raw, &numbered)?;
        let (parts, by_item) = build.by_user(&mut by_users, &ranges, &numbered)?;
        build.spilled += by_users.iter().map(Spill::written).sum::<u64>();
        drop(by_users);
        let by_item = build.by_item(by_item, &numbered)?;
        let spilled = build.spilled;
        let lines = |report: &ReadReport| report.inputs.iter().map(|i| i.lines).sum::<u64>();
        let both = |of: &dyn Fn(&ReadReport) -> u64| of(&read) + test.as_ref().map_or(0, of);
        let ratings = parts.train.iter().map(|entry| entry.ratings).sum();
        let manifest = Manifest {
            options: self.options(),
            users: numbered.users.len() as u64,
            items: numbered.items.len() as u64,
            ratings,
            encoding: self.encoding,
            scale: parts.histogram.range().unwrap_or_default(),
            mean: parts.sum / (ratings as f64).max(1.0),
            fingerprint: parts.fingerprint,
            histogram: parts.histogram.finish(),
            input: InputCounts {
                lines: both(&lines),
                bad_lines: both(&ReadReport::bad_lines),
                duplicates: parts.duplicates,
            },
            users_dictionary: dictionaries[0],
            items_dictionary: dictionaries[1],
            by_user: parts.train,
            by_item,
            validation: parts.validation,
            test: parts.test,
        };
        if ratings == 0 {
            return Err(Error::new(ErrorKind::BadInput, "all ratings are held out")
                .remedy("leave some to train on"));
        }
        store.commit(&manifest)?;
        Ok(Report {
            read,
            test,
            manifest,
            overlap: parts.overlap,
            titled,
            spilled,
        })
    }

    /// The size of all inputs, if it can be told before they are read.
    fn input_bytes(&self) -> Option<u64> {
        let inputs = self.inputs.iter().chain(&self.test);
        inputs.map(Input::text_bytes).sum()
    }

    /// What the store remembers of how it was made.
    fn options(&self) -> Vec<(String, String)> {
        let split = &self.split;
        let mut options = vec![("duplicates".to_owned(), self.duplicates.to_string())];
        if self.test.is_some() {
            options.push(("test".into(), "file".into()));
        }
        if split.test_fraction > 0.0 {
            options.push(("test-fraction".into(), split.test_fraction.to_string()));
        }
        if split.test_last > 0 {
            options.push(("test-last".into(), split.test_last.to_string()));
        }
        if split.validation_fraction > 0.0 {
            let share = split.validation_fraction.to_string();
            options.push(("validation-fraction".into(), share));
        }
        options.push(("seed".into(), split.seed.to_string()));
        options
    }

    /// Writes both dictionaries; gives their seals, the keys of all ids, and how many items have a title.
    fn write_dictionaries(
        &self,
        store: &StoreWriter,
        numbered: &Numbered,
    ) -> Result<([Seal; 2], Keys, usize)> {
        let keys = |side: &Numbering| -> Vec<u64> {
            (0..side.len() as u32)
                .map(|row| key(side.id(row).as_bytes()))
                .collect()
        };
        let (users, items) = (&numbered.users, &numbered.items);
        let title = |row: u32| {
            let titles = self.titles.as_ref();
            titles.and_then(|titles| titles.get(items.id(row)).map(|title| &**title))
        };
        let titled = (0..items.len() as u32)
            .filter(|&row| title(row).is_some())
            .count();
        let no_titles = None::<fn(u32) -> &'static str>;
        let seals = [
            store.dictionary(
                Side::Users,
                users.len() as u32,
                |row| users.id(row),
                no_titles,
            )?,
            store.dictionary(
                Side::Items,
                items.len() as u32,
                |row| items.id(row),
                (titled > 0).then_some(|row| title(row).unwrap_or("")),
            )?,
        ];
        let keys = Keys {
            users: keys(users),
            items: keys(items),
        };
        Ok((seals, keys, titled))
    }
}

/// Keys of the ids of both sides, by number.
struct Keys {
    users: Vec<u64>,
    items: Vec<u64>,
}

/// The final numbers of both sides.
struct Numbered {
    users: Numbering,
    items: Numbering,
}

impl Numbered {
    /// Whether what is kept for each id leaves a third of what is shared out to sort in.
    fn check(&self, plan: &Plan) -> Result<()> {
        let sides = [
            ("numbers of users", self.users.memory()),
            ("numbers of items", self.items.memory()),
            (
                "keys of ids",
                (self.users.len() + self.items.len()) as u64 * 8,
            ),
        ];
        let mut plan = plan.clone();
        for (what, bytes) in sides {
            plan.hold(what, bytes);
        }
        let held: u64 = sides.iter().map(|(_, bytes)| bytes).sum();
        plan.rest(held / 2).map(drop)
    }
}

/// What was written by user.
struct Parts {
    train: Vec<ShardEntry>,
    validation: Vec<ShardEntry>,
    test: Vec<ShardEntry>,
    histogram: Histogram,
    sum: f64,
    fingerprint: Fingerprint,
    duplicates: u64,
    overlap: u64,
}

/// The stages after all text has been read.
struct Build<'a> {
    import: &'a Import,
    store: &'a StoreWriter,
    shares: &'a Shares,
    keys: &'a Keys,
    progress: &'a dyn Progress,
    spilled: u64,
}

impl Build<'_> {
    /// Cuts rows into ranges that one thread can sort within its share.
    fn ranges(&self, numbering: &Numbering) -> Result<Ranges> {
        let total: u64 = numbering.counts().iter().sum();
        let capacity = (self.shares.sort / SORT_BYTES).clamp(1, MAX_SORTED);
        let ranges = Ranges::new(numbering.counts(), capacity.max(total / 10_000));
        // A single row may be longer than a range should be, and must be sorted all the same.
        let longest = numbering.counts().first().copied().unwrap_or(0);
        let mut plan = Plan::within(self.import.memory);
        plan.hold("the longest row", longest * SORT_BYTES);
        plan.rest(0)?;
        Ok(ranges)
    }

    /// Renumbers all records and scatters them by user: those of the inputs, and those of a test file.
    fn scatter<T: Stamp>(
        &mut self,
        mut raw: Raw<T>,
        numbered: &Numbered,
    ) -> Result<([Spill<T>; 2], Ranges)> {
        let ranges = self.ranges(&numbered.users)?;
        let scatter = Scatter::new(&ranges);
        let spill = |share| Spill::new(ranges.len(), share, self.store.path());
        let mut out = match self.import.test {
            None => [spill(self.shares.by_user), spill(0)],
            Some(_) => [
                spill(self.shares.by_user / 4 * 3),
                spill(self.shares.by_user / 4),
            ],
        };
        for (index, stream) in raw.streams.iter().enumerate() {
            let users = numbered.users.map(stream.users);
            let items = numbered.items.map(stream.items);
            let renumber = |record: Record<T>| Record {
                row: users[record.row as usize],
                col: items[record.col as usize],
                ..record
            };
            let out = &mut out[usize::from(stream.test_file)];
            raw.spill.drain(index, Scatter::AT_ONCE, |records| {
                scatter.scatter(records, renumber, out)
            })?;
        }
        Ok((out, ranges))
    }

    /// Sorts, settles and writes all users; scatters what is trained on by item.
    fn by_user<T: Stamp>(
        &mut self,
        records: &mut [Spill<T>; 2],
        ranges: &Ranges,
        numbered: &Numbered,
    ) -> Result<(Parts, (Spill<()>, Ranges))> {
        let Import { split, .. } = self.import;
        let width = numbered.items.len() as u32;
        let writer = |part: Part, wanted: bool| -> Result<Option<ShardsWriter>> {
            let layout = Layout {
                side: Side::Users,
                part,
                encoding: self.import.encoding,
                width,
            };
            let shards = || self.store.shards(layout, self.shares.shard);
            wanted.then(shards).transpose()
        };
        let tested = self.import.test.is_some() || split.test_fraction > 0.0 || split.test_last > 0;
        let mut train = writer(Part::Train, true)?;
        let mut validation = writer(Part::Validation, split.validation_fraction > 0.0)?;
        let mut test = writer(Part::Test, tested)?;
        let item_ranges = self.ranges(&numbered.items)?;
        let scatter = Scatter::new(&item_ranges);
        let mut by_item = Spill::new(item_ranges.len(), self.shares.raw, self.store.path());
        let settle = Settle {
            duplicates: self.import.duplicates,
            split: *split,
            user_keys: &self.keys.users,
            item_keys: &self.keys.items,
        };
        let mut parts = Parts {
            train: Vec::new(),
            validation: Vec::new(),
            test: Vec::new(),
            histogram: Histogram::new(),
            sum: 0.0,
            fingerprint: Fingerprint::default(),
            duplicates: 0,
            overlap: 0,
        };
        let total = numbered.users.counts().iter().sum();
        self.progress
            .begin("sorting by user", Some(total), Unit::Ratings);
        let all: Vec<usize> = (0..ranges.len()).collect();
        for wave in all.chunks(rayon::current_num_threads()) {
            let loaded = wave
                .iter()
                .map(|&range| Ok((range, records[0].take(range)?, records[1].take(range)?)))
                .collect::<Result<Vec<_>>>()?;
            let settled: Vec<Result<Settled, Twice>> = loaded
                .into_par_iter()
                .map(|(range, records, test)| settle.settle(ranges.rows(range), &records, &test))
                .collect();
            for (&range, settled) in wave.iter().zip(settled) {
                let settled = settled.map_err(|twice| {
                    twice.error(numbered.users.id(twice.user), numbered.items.id(twice.item))
                })?;
                for (writer, rows) in [
                    (&mut train, &settled.train),
                    (&mut validation, &settled.validation),
                    (&mut test, &settled.test),
                ] {
                    if let Some(writer) = writer {
                        rows.iter()
                            .try_for_each(|row| writer.push_row(row.cols, row.values))?;
                    }
                }
                let first = ranges.rows(range).start;
                scatter.scatter(&settled.train.by_item(first), |record| record, &mut by_item)?;
                parts.add(&settled);
                let done: u64 = numbered.users.counts()[ranges.rows(range)].iter().sum();
                self.progress.advance(done);
            }
        }
        self.progress.end();
        let finish =
            |writer: Option<ShardsWriter>| writer.map_or(Ok(Vec::new()), ShardsWriter::finish);
        parts.train = finish(train)?;
        parts.validation = finish(validation)?;
        parts.test = finish(test)?;
        Ok((parts, (by_item, item_ranges)))
    }

    /// Sorts and writes all items.
    fn by_item(
        &mut self,
        (mut records, ranges): (Spill<()>, Ranges),
        numbered: &Numbered,
    ) -> Result<Vec<ShardEntry>> {
        let layout = Layout {
            side: Side::Items,
            part: Part::Train,
            encoding: self.import.encoding,
            width: numbered.users.len() as u32,
        };
        let mut writer = self.store.shards(layout, self.shares.shard)?;
        let total = numbered.items.counts().iter().sum();
        self.progress
            .begin("sorting by item", Some(total), Unit::Ratings);
        let all: Vec<usize> = (0..ranges.len()).collect();
        for wave in all.chunks(rayon::current_num_threads()) {
            let loaded = wave
                .iter()
                .map(|&range| Ok((range, records.take(range)?)))
                .collect::<Result<Vec<_>>>()?;
            let sorted: Vec<_> = loaded
                .into_par_iter()
                .map(|(range, records)| {
                    let (records, ends) = by_row(&records, ranges.rows(range));
                    let cols: Vec<u32> = records.iter().map(|r| r.col).collect();
                    let values: Vec<f32> = records.iter().map(|r| r.value).collect();
                    (cols, values, ends)
                })
                .collect();
            for (&range, (cols, values, ends)) in wave.iter().zip(sorted) {
                let mut start = 0;
                for end in ends {
                    writer.push_row(&cols[start..end], &values[start..end])?;
                    start = end;
                }
                let done: u64 = numbered.items.counts()[ranges.rows(range)].iter().sum();
                self.progress.advance(done);
            }
        }
        self.progress.end();
        self.spilled += records.written();
        writer.finish()
    }
}

impl Parts {
    fn add(&mut self, settled: &Settled) {
        self.histogram.add(settled.train.values());
        // User by user: how users are cut into ranges must not show in the last bit.
        for row in settled.train.iter() {
            self.sum += row.values.iter().map(|&r| f64::from(r)).sum::<f64>();
        }
        self.histogram.widen(settled.validation.values());
        self.histogram.widen(settled.test.values());
        self.fingerprint.merge(settled.fingerprint);
        self.duplicates += settled.duplicates;
        self.overlap += settled.overlap;
    }
}
