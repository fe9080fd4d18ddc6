//! The second half of making a store: ratings by ranges of users in, shards by user and by item and a manifest out.
//!
//! Each range is sorted, its duplicates are settled and its held-out ratings split off; its users are written, and what is
//! trained on is scattered by ranges of items, where it arrives sorted by user and needs only a counting sort. Where the
//! ranges come from, the text of an import or a store that is split anew, is the caller's business.

use std::ops::Range;

use super::in_order::in_order;
use super::rows::{Histogram, Rows, Settle, Settled, Twice};
use super::sort::{Ranges, Scatter, Scattered, Stamp, columns_by_row};
use super::spill::{Piece, Spill};
use crate::error::{Error, ErrorKind, Result};
use crate::matrix::Side;
use crate::memory::{Bytes, Plan};
use crate::progress::{Progress, Unit};
use crate::store::{
    Encoding, Fingerprint, InputCounts, Layout, Manifest, Part, Seal, ShardEntry, ShardsWriter,
    StoreWriter, TimesSeals,
};

/// How the budget is shared out. Only some of it is in use at any one time.
pub struct Shares {
    /// Ids while text is read.
    pub ids: u64,
    /// Records as read; later, records by item.
    pub raw: u64,
    /// Records by user.
    pub by_user: u64,
    /// Records on their way from the first to the second.
    pub scatter: u64,
    /// What one thread sorts at a time.
    pub sort: u64,
    /// A shard being written.
    shard: u64,
    /// Keys of items, while rows are settled.
    pub keys: u64,
}

impl Shares {
    /// Less than this is no budget.
    pub const LEAST: u64 = 16 << 20;

    /// Shares of so many bytes.
    pub fn of(budget: u64, shard_bytes: u64, threads: usize) -> Shares {
        Shares {
            ids: budget / 5,
            raw: budget / 5,
            by_user: budget / 5,
            scatter: budget / 8,
            sort: budget / 8 / threads as u64,
            shard: shard_bytes.min(budget / 16),
            keys: budget / 16,
        }
    }

    /// Cuts rows with these numbers of records into ranges that one thread can sort within its share.
    pub fn cut(&self, counts: &[u64]) -> Ranges {
        let mut ranges = self.ranges(counts.iter().sum());
        counts.iter().for_each(|&count| ranges.push(count));
        ranges
    }

    /// No rows yet, of so many records in all, to be cut so.
    pub fn ranges(&self, records: u64) -> Ranges {
        let capacity = (self.sort / SORT_BYTES).clamp(1, MAX_SORTED);
        Ranges::new(capacity.max(records / 10_000))
    }
}

/// Bytes that sorting takes for each record of a thread's ranges: the records, their counting sort, keys, and what comes
/// out by user and by item, of two ranges that wait, one that is sorted and two that are written.
const SORT_BYTES: u64 = 200;

/// Records that are sorted at a time, even where more would fit: a range should stay in the caches.
const MAX_SORTED: u64 = 1 << 18;

/// The last stages of making a store.
pub struct Build<'a> {
    /// Where the store is made.
    pub store: &'a StoreWriter,
    /// How ratings are written.
    pub encoding: Encoding,
    /// The whole budget.
    pub memory: Option<Bytes>,
    /// How it is shared out.
    pub shares: &'a Shares,
    /// How rows are settled.
    pub settle: Settle<'a>,
    /// Whether there are records of a test file.
    pub test_file: bool,
    /// How users and items are cut, by how many ratings each has at most, in all parts.
    pub ranges: [Ranges; 2],
    /// The id of a row, for messages.
    pub id: &'a (dyn Fn(Side, u32) -> Result<String> + Sync),
    /// Is told of what is sorted.
    pub progress: &'a dyn Progress,
    /// Bytes that did not fit the budget and went to disk.
    pub spilled: u64,
}

/// A range of users.
pub struct Loaded<T> {
    /// Keys of their ids.
    pub keys: Vec<u64>,
    /// Their records, in any order.
    pub records: Piece<T>,
    /// Those of a test file.
    pub test_file: Piece<T>,
}

/// What was written.
pub struct Built {
    parts: Parts,
    by_item: Vec<ShardEntry>,
    /// Pairs of a test file that are also trained on or validated with.
    pub overlap: u64,
}

/// What was written by user.
#[derive(Default)]
struct Parts {
    train: Vec<ShardEntry>,
    validation: Vec<ShardEntry>,
    test: Vec<ShardEntry>,
    times: TimesSeals,
    histogram: Histogram,
    sum: f64,
    fingerprint: Fingerprint,
    duplicates: u64,
    overlap: u64,
}

impl Build<'_> {
    /// Checks that there is memory for the longest row, which must be sorted however long it is.
    ///
    /// # Errors
    /// If there is not, naming the smallest budget that has it.
    pub fn check_longest(&self) -> Result<()> {
        let longest = self.ranges.iter().map(Ranges::longest).max();
        let mut plan = Plan::within(self.memory);
        plan.hold("the longest row", longest.unwrap_or(0) * SORT_BYTES);
        plan.rest(0).map(drop)
    }

    /// Writes both orientations from what is loaded of each range of users. `fold_in` is handed, in order, the number of
    /// each range's first user and what its users are folded in by.
    pub fn run<T: Stamp>(
        &mut self,
        load: impl FnMut(Range<usize>) -> Result<Loaded<T>> + Send,
        fold_in: impl FnMut(usize, &Rows) -> Result<()> + Send,
    ) -> Result<Built> {
        let (parts, by_item) = self.by_user(load, fold_in)?;
        let by_item = self.by_item(by_item)?;
        Ok(Built {
            overlap: parts.overlap,
            parts,
            by_item,
        })
    }

    /// Sorts, settles and writes all users; scatters what is trained on by item.
    fn by_user<T: Stamp>(
        &self,
        mut load: impl FnMut(Range<usize>) -> Result<Loaded<T>> + Send,
        mut fold_in: impl FnMut(usize, &Rows) -> Result<()> + Send,
    ) -> Result<(Parts, Spill<()>)> {
        let Settle { split, times, .. } = self.settle;
        let [ranges, item_ranges] = &self.ranges;
        let width = item_ranges.all_rows() as u32;
        let writer = |part: Part, wanted: bool| -> Result<Option<ShardsWriter>> {
            let layout = Layout {
                side: Side::Users,
                part,
                encoding: self.encoding,
                width,
            };
            let shards = || self.store.shards(layout, self.shares.shard);
            let shards = wanted.then(shards).transpose()?;
            Ok(shards.map(|shards| shards.with_times(times)))
        };
        let mut train = writer(Part::Train, true)?;
        let mut validation = writer(Part::Validation, split.validation_fraction > 0.0)?;
        let mut test = writer(Part::Test, self.test_file || split.tests())?;
        let scatter = Scatter::new(item_ranges);
        let mut by_item = Spill::new(item_ranges.len(), self.shares.raw, self.store.path());
        let mut parts = Parts::default();
        let all = Some(ranges.all_records());
        self.progress.begin("sorting by user", all, Unit::Ratings);
        in_order(
            (0..ranges.len()).map(|range| Ok((range, load(ranges.rows(range))?))),
            |(range, loaded)| {
                let rows = ranges.rows(range);
                let Loaded {
                    keys,
                    records,
                    test_file,
                } = loaded;
                let settled = self.settle.settle(
                    rows.clone(),
                    &keys,
                    &records.records(),
                    &test_file.records(),
                )?;
                let by_item = scatter.sort(&settled.train.by_item(rows.start));
                Ok((range, settled, by_item, records))
            },
            |prepared: Result<(usize, Settled, Scattered<()>, Piece<T>), Twice>| {
                let (range, settled, sorted, done_with) = match prepared {
                    Ok(prepared) => prepared,
                    Err(twice) => return Err(self.twice(twice)?),
                };
                for (writer, rows) in [
                    (&mut train, &settled.train),
                    (&mut validation, &settled.validation),
                    (&mut test, &settled.test),
                ] {
                    if let Some(writer) = writer {
                        rows.timed().try_for_each(|(row, times)| {
                            writer.push_timed_row(row.cols, row.values, times)
                        })?;
                    }
                }
                fold_in(ranges.rows(range).start, &settled.fold_in)?;
                by_item.reuse(done_with);
                sorted.append_to(&mut by_item)?;
                parts.add(&settled);
                self.progress.advance(ranges.records(range));
                Ok(())
            },
        )?;
        self.progress.end();
        let finish = |writer: Option<ShardsWriter>| {
            writer.map_or(Ok(Default::default()), ShardsWriter::finish_timed)
        };
        (parts.train, parts.times.train) = finish(train)?;
        (parts.validation, parts.times.validation) = finish(validation)?;
        (parts.test, parts.times.test) = finish(test)?;
        Ok((parts, by_item))
    }

    /// The error about a pair that is rated twice.
    fn twice(&self, twice: Twice) -> Result<Error> {
        let user = (self.id)(Side::Users, twice.user)?;
        let item = (self.id)(Side::Items, twice.item)?;
        Ok(twice.error(&user, &item))
    }

    /// Sorts and writes all items.
    fn by_item(&mut self, mut records: Spill<()>) -> Result<Vec<ShardEntry>> {
        let [users, ranges] = &self.ranges;
        let layout = Layout {
            side: Side::Items,
            part: Part::Train,
            encoding: self.encoding,
            width: users.all_rows() as u32,
        };
        let mut writer = self.store.shards(layout, self.shares.shard)?;
        let all = Some(ranges.all_records());
        self.progress.begin("sorting by item", all, Unit::Ratings);
        in_order(
            (0..ranges.len()).map(|range| Ok((range, records.next_stream()?))),
            |(range, piece)| {
                let rows = ranges.rows(range);
                (range, columns_by_row(&piece.records(), rows))
            },
            |(range, (cols, values, ends))| {
                let mut start = 0;
                for end in ends {
                    writer.push_row(&cols[start..end], &values[start..end])?;
                    start = end;
                }
                self.progress.advance(ranges.records(range));
                Ok(())
            },
        )?;
        self.progress.end();
        self.spilled += records.written();
        writer.finish()
    }

    /// The manifest of what was written.
    ///
    /// # Errors
    /// If nothing is left to train on.
    pub fn manifest(
        &self,
        built: Built,
        options: Vec<(String, String)>,
        input: impl FnOnce(u64) -> InputCounts,
        dictionaries: [Seal; 2],
    ) -> Result<Manifest> {
        let Built { parts, by_item, .. } = built;
        let ratings = parts.train.iter().map(|entry| entry.ratings).sum();
        if ratings == 0 {
            return Err(Error::new(ErrorKind::BadInput, "all ratings are held out")
                .remedy("leave some to train on"));
        }
        Ok(Manifest {
            options,
            users: self.ranges[0].all_rows() as u64,
            items: self.ranges[1].all_rows() as u64,
            ratings,
            encoding: self.encoding,
            scale: parts.histogram.range().unwrap_or_default(),
            mean: parts.sum / (ratings as f64).max(1.0),
            fingerprint: parts.fingerprint,
            histogram: parts.histogram.finish(),
            input: input(parts.duplicates),
            users_dictionary: dictionaries[0],
            items_dictionary: dictionaries[1],
            by_user: parts.train,
            by_item,
            validation: parts.validation,
            test: parts.test,
            times: self.settle.times.then_some(parts.times),
        })
    }
}

impl Parts {
    fn add(&mut self, settled: &Settled) {
        self.histogram.merge(&settled.histogram);
        // User by user: how users are cut into ranges must not show in the last bit.
        self.sum = settled
            .sums
            .iter()
            .fold(self.sum, |sum, of_user| sum + of_user);
        self.fingerprint.merge(settled.fingerprint);
        self.duplicates += settled.duplicates;
        self.overlap += settled.overlap;
    }
}
