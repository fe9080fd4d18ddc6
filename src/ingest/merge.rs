//! A store with ratings added: shards without a new rating are taken over as they are, the others are written anew.
//!
//! Ids keep their numbers, and new ones are appended, so that the rows of a model are still the rows of the store. The new
//! store is one like any other, but that rows are no longer numbered by popularity. What is held out stays held out.

use std::path::Path;

use super::additions::Additions;
use super::in_order::in_order;
use super::sort::Record;
use super::{Input, ReadOptions, ReadReport, Titles, titles};
use crate::error::{Error, ErrorKind, Result};
use crate::matrix::{Ratings, Row, RowScratch, Side};
use crate::memory::Plan;
use crate::progress::{Progress, Unit};
use crate::rng::key;
use crate::store::{
    Dictionary, DiskPlan, HeldIds, InputCounts, Layout, Manifest, Part, Seal, ShardEntry,
    ShardsWriter, Store, StoreWriter, TimesSeals, share_disk,
};
use crate::threads::Threads;

/// Which ratings are added to which store, and how.
pub struct Merge<'a> {
    /// The store that they are added to, which stays as it is.
    pub store: &'a Store,
    /// Texts and archives with new ratings. A pair that is trained on already gets its new rating; one that is held out is
    /// left alone.
    pub inputs: Vec<Input>,
    /// How to read them.
    pub read: ReadOptions,
    /// Titles of new items.
    pub titles: Option<Titles>,
    /// The most bytes of a shard that is written; less where the budget is small.
    pub shard_bytes: u64,
    /// The budget, and what the caller holds of it all along.
    pub plan: Plan,
    /// Whether what is at the output may be replaced.
    pub force: bool,
}

/// A store with ratings added, complete but not in its place.
#[derive(Debug)]
pub struct Merged {
    writer: StoreWriter,
    /// What was read.
    pub read: ReadReport,
    /// The manifest of the new store.
    pub manifest: Manifest,
    /// The users with new ratings, ascending.
    pub users: Vec<u32>,
    /// The items with new ratings, ascending.
    pub items: Vec<Grown>,
    /// Ratings of pairs that had none.
    pub added: u64,
    /// Ratings of pairs that had one, which is replaced.
    pub replaced: u64,
    /// New ratings of pairs that are held out, which are left alone.
    pub held_out: u64,
}

/// How much an item has grown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grown {
    /// The item's number.
    pub item: u32,
    /// How many training ratings it had.
    pub before: u32,
    /// How many have come.
    pub added: u32,
}

impl Merged {
    /// Opens the new store where it lies until it is [put in its place](Merged::put_in_place).
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open(&self) -> Result<Store> {
        Store::open_within(self.writer.path(), 0)
    }

    /// Puts the new store in its place.
    ///
    /// # Errors
    /// As [`StoreWriter::put_in_place`].
    pub fn put_in_place(self) -> Result<()> {
        self.writer.put_in_place()
    }
}

impl Merge<'_> {
    /// Less than this is no room for new ratings.
    const LEAST: u64 = 4 << 20;

    /// What it will hold at least, which fits the budget.
    ///
    /// # Errors
    /// If it does not.
    pub fn planned(&self, threads: &Threads) -> Result<Plan> {
        let mut plan = self.plan.clone();
        let shape = self.store.shape();
        plan.hold("titles", self.titles.as_ref().map_or(0, titles::memory));
        plan.hold("ids in order", 32 * (shape.users + shape.items) as u64);
        plan.hold("rows decoded", 2 * self.store.row_memory()?);
        let text = 8 * threads.count() * self.read.chunk_bytes;
        plan.hold("text being read", text as u64);
        plan.rest(Merge::LEAST)?;
        Ok(plan)
    }

    /// Makes the store that will be at `out`.
    ///
    /// # Errors
    /// If the budget is too small, the text cannot be read, or a store cannot be read or written. Nothing is left behind
    /// then.
    pub fn run(&self, out: &Path, threads: &Threads, progress: &dyn Progress) -> Result<Merged> {
        let mut plan = self.planned(threads)?;
        // A quarter of what is left is for shards being written, so that what would do does not grow with the budget.
        let shard_bytes = self.shard_bytes.min(plan.rest(Merge::LEAST)? / 16);
        plan.hold("shards being written", 4 * shard_bytes);
        let room = plan.rest(0)?;
        let writer = StoreWriter::create(out, self.force)?;
        let read = self.read.clone().within(plan.budget());
        threads.run(|| self.merge(writer, &read, shard_bytes, room, progress))
    }

    fn merge(
        &self,
        writer: StoreWriter,
        read: &ReadOptions,
        shard_bytes: u64,
        room: u64,
        progress: &dyn Progress,
    ) -> Result<Merged> {
        let store = self.store;
        progress.begin("reading", None, Unit::Bytes);
        let mut new = Additions::read(store, &self.inputs, read, room)?;
        progress.end();
        if store.manifest().times.is_some() && new.without_time {
            let what = "the store keeps times, and there are new ratings without one";
            return Err(
                Error::new(ErrorKind::BadInput, what).remedy("name the column with --columns")
            );
        }
        let held_out = self.leave_held_out_alone(&mut new.records)?;
        if new.records.is_empty() {
            let what = "the pairs of all these ratings are held out, and stay so";
            return Err(Error::new(ErrorKind::BadInput, what).remedy("add others, too"));
        }
        let rows = [
            store.shape().users + new.users.len(),
            store.shape().items + new.items.len(),
        ];
        let layout = |side: Side, part| Layout {
            side,
            part,
            encoding: store.manifest().encoding,
            width: rows[side.other() as usize] as u32,
        };
        let shards = |side, part| {
            let times = side == Side::Users && store.manifest().times.is_some();
            let shards = writer.shards(layout(side, part), shard_bytes)?;
            Ok::<_, Error>(shards.with_times(times))
        };
        let by_item = transposed(&new.records);
        let mut disk = DiskPlan::new("the store with these ratings", "make room there");
        let sides = [(Side::Users, &new.records), (Side::Items, &by_item)];
        let rewritten = match share_disk(store.path(), writer.path())? {
            true => {
                let bytes = sides.map(|(side, records)| self.rewritten_bytes(side, records));
                bytes.iter().sum()
            }
            // What cannot have a second name is copied.
            false => store.bytes_without_tiles(),
        };
        disk.write("what is not shared", writer.path(), rewritten);
        disk.check()?;
        let written = 2 * store.shape().ratings;
        progress.begin("merging", Some(written), Unit::Ratings);
        let mut merged = Vec::new();
        in_order(
            sides.into_iter().map(Ok),
            |(side, records)| {
                let writer = shards(side, Part::Train)?;
                self.rewrite(side, writer, records, rows[side as usize], progress)
            },
            |side: Result<Rewritten>| {
                merged.push(side?);
                Ok(())
            },
        )?;
        progress.end();
        let [by_user, by_item] = &mut merged[..] else {
            unreachable!("both sides were rewritten")
        };
        let mut times = TimesSeals {
            train: std::mem::take(&mut by_user.times),
            ..TimesSeals::default()
        };
        let held_out_part = |part| match store.part(part) {
            Some(_) => self.extend(part, shards(Side::Users, part)?, rows[0]),
            None => Ok(Default::default()),
        };
        let (validation, of_validation) = held_out_part(Part::Validation)?;
        let (test, of_test) = held_out_part(Part::Test)?;
        (times.validation, times.test) = (of_validation, of_test);
        let dictionaries = [
            self.dictionary(&writer, store.users(), &new.users)?,
            self.dictionary(&writer, store.items(), &new.items)?,
        ];
        let replaced = std::mem::take(&mut by_user.replaced);
        let manifest = Manifest {
            users: rows[0] as u64,
            items: rows[1] as u64,
            users_dictionary: dictionaries[0],
            items_dictionary: dictionaries[1],
            by_user: std::mem::take(&mut by_user.shards),
            by_item: std::mem::take(&mut by_item.shards),
            validation,
            test,
            times: store.manifest().times.as_ref().map(|_| times),
            ..self.summary(&new, &replaced)?
        };
        writer.write_manifest(&manifest)?;
        let mut users: Vec<u32> = new.records.iter().map(|r| r.row).collect();
        users.dedup();
        Ok(Merged {
            users,
            items: self.grown(&new.records, &replaced)?,
            added: (new.records.len() - replaced.len()) as u64,
            replaced: replaced.len() as u64,
            held_out,
            read: new.read,
            manifest,
            writer,
        })
    }

    /// Strikes out the ratings of pairs that are held out, and says how many they are.
    fn leave_held_out_alone(&self, records: &mut Vec<Record<i64>>) -> Result<u64> {
        let all = records.len();
        let mut scratch = RowScratch::default();
        for part in [Part::Validation, Part::Test] {
            let Some(rows) = self.store.part(part) else {
                continue;
            };
            let mut kept = Vec::with_capacity(records.len());
            for of_user in records.chunk_by(|a, b| a.row == b.row) {
                let user = of_user[0].row as usize;
                if user >= self.store.shape().users {
                    kept.extend(of_user);
                    continue;
                }
                let (block, at) = rows.find(user)?;
                let row = block.row(at, &mut scratch);
                let free = |r: &&Record<i64>| row.cols.binary_search(&r.col).is_err();
                kept.extend(of_user.iter().filter(free));
            }
            *records = kept;
        }
        Ok((all - records.len()) as u64)
    }

    /// Bytes of the shards of a side that any of these ratings, which come in order, goes into.
    fn rewritten_bytes(&self, side: Side, records: &[Record<i64>]) -> u64 {
        let before = |row: u64| records.partition_point(|r| u64::from(r.row) < row);
        let entries = self.store.shards(side).iter().map(|shard| shard.entry());
        let grown = entries.filter(|e| before(e.first_row) < before(e.first_row + e.rows));
        grown.map(|entry| entry.seal.bytes).sum()
    }

    /// Writes one side of the training part with the new ratings, which come in order.
    fn rewrite(
        &self,
        side: Side,
        mut writer: ShardsWriter,
        mut records: &[Record<i64>],
        rows: usize,
        progress: &dyn Progress,
    ) -> Result<Rewritten> {
        let times = match (side, self.store.part(Part::Train)) {
            (Side::Users, Some(rows)) => rows.times(),
            _ => &[],
        };
        let timed = !times.is_empty();
        let (mut scratch, mut row_times) = (RowScratch::default(), Vec::new());
        let mut merged = MergedRow::default();
        for (index, shard) in self.store.shards(side).iter().enumerate() {
            let ShardEntry {
                first_row,
                rows,
                ratings,
                ..
            } = shard.entry();
            let of_shard = records.partition_point(|r| u64::from(r.row) < first_row + rows);
            let (mut new, rest) = records.split_at(of_shard);
            records = rest;
            let times = times.get(index);
            if new.is_empty() && writer.link(shard, times)? {
                progress.advance(ratings);
                continue;
            }
            let block = shard.block()?;
            for i in 0..block.rows() {
                let row = block.row(i, &mut scratch);
                row_times.clear();
                if let Some(times) = times {
                    times.of_row(i, row.len(), &mut row_times)?;
                }
                let number = (block.first_row() + i) as u32;
                let of_row = new.partition_point(|r| r.row == number);
                if of_row == 0 {
                    writer.push_timed_row(row.cols, row.values, &row_times)?;
                    continue;
                }
                let (of_row, rest) = new.split_at(of_row);
                new = rest;
                merged.set(row, &row_times, of_row, timed);
                merged.push_to(&mut writer)?;
            }
            shard.done_with();
            if let Some(times) = times {
                times.done_with();
            }
            progress.advance(ratings);
        }
        // What is left is of new rows.
        let nothing = Row {
            cols: &[],
            values: &[],
        };
        for number in self.store.shape().rows(side)..rows {
            let of_row = records.partition_point(|r| r.row as usize == number);
            let (of_row, rest) = records.split_at(of_row);
            records = rest;
            merged.set(nothing, &[], of_row, timed);
            merged.push_to(&mut writer)?;
        }
        let (shards, times) = writer.finish_timed()?;
        Ok(Rewritten {
            shards,
            times,
            replaced: merged.replaced,
        })
    }

    /// Takes over a held-out part, with empty rows for new users.
    fn extend(
        &self,
        part: Part,
        mut writer: ShardsWriter,
        users: usize,
    ) -> Result<(Vec<ShardEntry>, Vec<Seal>)> {
        let rows = self.store.part(part).into_iter();
        for rows in rows {
            for (index, shard) in rows.shards().iter().enumerate() {
                let linked = writer.link(shard, rows.times().get(index))?;
                assert!(linked, "nothing has come before it");
            }
        }
        for _ in self.store.shape().users..users {
            writer.push_row(&[], &[])?;
        }
        writer.finish_timed()
    }

    /// Writes the dictionary of one side, with new ids appended.
    fn dictionary(
        &self,
        writer: &StoreWriter,
        known: &Dictionary,
        new: &[Box<str>],
    ) -> Result<Seal> {
        let titles = self.titles.as_ref().filter(|_| known.side() == Side::Items);
        if new.is_empty() && titles.is_none() {
            return writer.copy_dictionary(known);
        }
        let known_rows = 0..known.len();
        let mut ids = known_rows
            .clone()
            .map(|row| known.id(row))
            .collect::<Result<Vec<&str>>>()?;
        ids.extend(new.iter().map(|id| &**id));
        let mut of_known = known_rows
            .map(|row| known.title(row))
            .collect::<Result<Vec<Option<&str>>>>()?;
        of_known.resize(ids.len(), None);
        let title = |row: u32| {
            let new = || titles.and_then(|titles| titles.get(ids[row as usize]));
            of_known[row as usize]
                .or_else(|| new().map(|title| &**title))
                .unwrap_or("")
        };
        let rows = ids.len() as u32;
        let titled = (0..rows).any(|row| !title(row).is_empty());
        let ids = HeldIds {
            side: known.side(),
            rows,
            id: |row: u32| ids[row as usize],
            title: titled.then_some(title),
        };
        writer.dictionary(ids)
    }

    /// What the manifest says of all ratings, from what it said before and what has changed.
    fn summary(&self, new: &Additions, replaced: &[(Record<i64>, f32)]) -> Result<Manifest> {
        let before = self.store.manifest();
        let mut manifest = before.clone();
        let id_key = |known: &Dictionary, new: &[Box<str>], row: u32| {
            let row = row as usize;
            Ok::<_, Error>(match row.checked_sub(known.len()) {
                Some(row) => key(new[row].as_bytes()),
                None => key(known.id(row)?.as_bytes()),
            })
        };
        let keys = |record: &Record<i64>| {
            Ok::<_, Error>((
                id_key(self.store.users(), &new.users, record.row)?,
                id_key(self.store.items(), &new.items, record.col)?,
            ))
        };
        let mut sum = before.mean * before.ratings as f64;
        for (record, old) in replaced {
            let (user, item) = keys(record)?;
            manifest.fingerprint.remove(user, item, *old);
            sum -= f64::from(*old);
            manifest.count(*old, false);
        }
        for record in &new.records {
            let (user, item) = keys(record)?;
            manifest.fingerprint.add(user, item, record.value);
            sum += f64::from(record.value);
            manifest.count(record.value, true);
            let (low, high) = &mut manifest.scale;
            (*low, *high) = (low.min(record.value), high.max(record.value));
        }
        manifest.ratings = before.ratings + (new.records.len() - replaced.len()) as u64;
        manifest.mean = sum / manifest.ratings as f64;
        let lines = new.read.inputs.iter().map(|input| input.lines);
        manifest.input = InputCounts {
            lines: before.input.lines + lines.sum::<u64>(),
            bad_lines: before.input.bad_lines + new.read.bad_lines(),
            duplicates: before.input.duplicates + new.repeated + replaced.len() as u64,
        };
        Ok(manifest)
    }

    /// How much each item has grown.
    fn grown(
        &self,
        records: &[Record<i64>],
        replaced: &[(Record<i64>, f32)],
    ) -> Result<Vec<Grown>> {
        let before = self.store.rating_counts(Side::Items)?;
        let mut items: Vec<u32> = records.iter().map(|r| r.col).collect();
        items.sort_unstable();
        let mut again: Vec<u32> = replaced.iter().map(|(r, _)| r.col).collect();
        again.sort_unstable();
        let grown = items.chunk_by(|a, b| a == b).map(|same| {
            let item = same[0];
            let again =
                again.partition_point(|&x| x <= item) - again.partition_point(|&x| x < item);
            Grown {
                item,
                before: before.get(item as usize).copied().unwrap_or(0),
                added: (same.len() - again) as u32,
            }
        });
        Ok(grown.collect())
    }
}

/// One side of the training part, written.
struct Rewritten {
    shards: Vec<ShardEntry>,
    times: Vec<Seal>,
    /// The new ratings that replace another, with that one.
    replaced: Vec<(Record<i64>, f32)>,
}

/// A row with its new ratings among the others.
#[derive(Default)]
struct MergedRow {
    cols: Vec<u32>,
    values: Vec<f32>,
    times: Vec<i64>,
    replaced: Vec<(Record<i64>, f32)>,
}

impl MergedRow {
    fn set(&mut self, row: Row<'_>, times: &[i64], new: &[Record<i64>], timed: bool) {
        self.cols.clear();
        self.values.clear();
        self.times.clear();
        let mut at = 0;
        for record in new {
            let before = at + row.cols[at..].partition_point(|&col| col < record.col);
            self.take(row, times, at..before);
            at = before;
            if row.cols.get(at) == Some(&record.col) {
                self.replaced.push((*record, row.values[at]));
                at += 1;
            }
            self.cols.push(record.col);
            self.values.push(record.value);
            self.times.extend(timed.then_some(record.time));
        }
        self.take(row, times, at..row.len());
    }

    fn take(&mut self, row: Row<'_>, times: &[i64], range: std::ops::Range<usize>) {
        self.cols.extend_from_slice(&row.cols[range.clone()]);
        self.values.extend_from_slice(&row.values[range.clone()]);
        self.times
            .extend_from_slice(times.get(range).unwrap_or_default());
    }

    fn push_to(&self, writer: &mut ShardsWriter) -> Result<()> {
        writer.push_timed_row(&self.cols, &self.values, &self.times)
    }
}

/// The ratings by item, then by user.
fn transposed(records: &[Record<i64>]) -> Vec<Record<i64>> {
    let swap = |r: &Record<i64>| Record {
        row: r.col,
        col: r.row,
        ..*r
    };
    let mut swapped: Vec<Record<i64>> = records.iter().map(swap).collect();
    swapped.sort_unstable_by_key(|r| (r.row, r.col));
    swapped
}
