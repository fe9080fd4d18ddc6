//! External sort of ratings, inside the budget.
//!
//! Records are scattered into streams by row range ([`Ranges`]), each small enough to be sorted in memory, and come out in
//! the order in which they went in, so that equal rows keep the order of the input's lines. The streams are a
//! [`Spill`]'s.

use std::ops::Range;

use super::in_order::in_order;
use super::spill::{Piece, Spill};
use crate::error::Result;

/// When a rating was given, or nothing where nobody asks.
pub trait Stamp: Copy + Default + Ord + Send + Sync {
    /// Words of 32 bits that it takes in a [`Spill`].
    const WORDS: usize;
    /// From what the text says; no time is the earliest.
    fn new(time: Option<i64>) -> Self;
    /// The time, where somebody asks.
    fn get(self) -> Option<i64>;
    /// Writes its words.
    fn write(self, words: &mut [u32]);
    /// From its words.
    fn read(words: &[u32]) -> Self;
}

impl Stamp for () {
    const WORDS: usize = 0;
    fn new(_time: Option<i64>) {}
    fn get(self) -> Option<i64> {
        None
    }
    fn write(self, _words: &mut [u32]) {}
    fn read(_words: &[u32]) {}
}

impl Stamp for i64 {
    const WORDS: usize = 2;
    fn new(time: Option<i64>) -> i64 {
        time.unwrap_or(i64::MIN)
    }
    fn get(self) -> Option<i64> {
        Some(self)
    }
    fn write(self, words: &mut [u32]) {
        (words[0], words[1]) = (self as u32, (self >> 32) as u32);
    }
    fn read(words: &[u32]) -> i64 {
        i64::from(words[1] as i32) << 32 | i64::from(words[0])
    }
}

/// A rating on its way into the store.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Record<T> {
    /// The row that it is sorted by.
    pub row: u32,
    /// The column.
    pub col: u32,
    /// The rating.
    pub value: f32,
    /// When it was given.
    pub time: T,
}

impl<T: Stamp> Record<T> {
    /// Words of 32 bits that it takes in a [`Spill`].
    pub(super) const WORDS: usize = 3 + T::WORDS;

    /// Writes its words.
    #[inline(always)]
    pub(super) fn write(&self, words: &mut [u32]) {
        (words[0], words[1], words[2]) = (self.row, self.col, self.value.to_bits());
        self.time.write(&mut words[3..]);
    }

    /// From its words.
    #[inline(always)]
    pub(super) fn read(words: &[u32]) -> Record<T> {
        Record {
            row: words[0],
            col: words[1],
            value: f32::from_bits(words[2]),
            time: T::read(&words[3..]),
        }
    }
}

/// Rows cut into consecutive ranges of a bounded number of records.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranges {
    capacity: u64,
    /// The first row of each range, and after the last one the number of rows.
    bounds: Vec<u32>,
    /// Records of each range.
    records: Vec<u64>,
    /// Records of the longest row.
    longest: u64,
}

impl Ranges {
    /// No rows yet. A range will have at most `capacity` records, or be one row.
    pub fn new(capacity: u64) -> Ranges {
        Ranges {
            capacity,
            bounds: vec![0],
            records: Vec::new(),
            longest: 0,
        }
    }

    /// Adds a row with so many records.
    pub fn push(&mut self, count: u64) {
        let rows = self.all_rows() as u32 + 1;
        self.longest = self.longest.max(count);
        match (self.records.last_mut(), self.bounds.last_mut()) {
            (Some(held), Some(end)) if *held == 0 || *held + count <= self.capacity => {
                *held += count;
                *end = rows;
            }
            _ => {
                self.records.push(count);
                self.bounds.push(rows);
            }
        }
    }

    /// How many ranges.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// How many rows all ranges have.
    pub fn all_rows(&self) -> usize {
        self.bounds[self.len()] as usize
    }

    /// Records of all ranges.
    pub fn all_records(&self) -> u64 {
        self.records.iter().sum()
    }

    /// Records of a range.
    pub fn records(&self, range: usize) -> u64 {
        self.records[range]
    }

    /// Records of the longest row.
    pub fn longest(&self) -> u64 {
        self.longest
    }

    /// The rows of a range.
    pub fn rows(&self, range: usize) -> Range<usize> {
        self.bounds[range] as usize..self.bounds[range + 1] as usize
    }

    /// The range that a row lies in.
    fn of(&self, row: u32) -> usize {
        self.bounds.partition_point(|&first| first <= row) - 1
    }
}

/// Scatters records into one stream for each range, keeping their order within a stream.
#[derive(Debug)]
pub struct Scatter {
    /// The first row of each range.
    firsts: Vec<u32>,
    /// Rows are looked up in groups of two to this power, of which there are not too many.
    group: u32,
    /// The range that each group begins in, and after the last group the last range.
    of_group: Vec<u16>,
}

impl Scatter {
    /// The most ranges that rows can be cut into.
    pub const MAX_RANGES: usize = u16::MAX as usize;

    /// The most groups of rows: a table of them stays in the second cache.
    const MAX_GROUPS: usize = 1 << 16;

    /// The most records of a task.
    const TASK: usize = 1 << 16;

    /// How many records a task may have, for all tasks to take no more than so many bytes. A thread has two tasks that wait,
    /// and two that are sorted or appended, of which each is there twice while it is sorted.
    pub fn task<T>(memory: u64) -> usize {
        let tasks = 6 * rayon::current_num_threads();
        (memory as usize / size_of::<Record<T>>() / tasks).clamp(1 << 10, Self::TASK)
    }

    /// Prepares to scatter by these ranges.
    pub fn new(ranges: &Ranges) -> Scatter {
        assert!(ranges.len() <= Self::MAX_RANGES, "too many ranges");
        let rows = ranges.all_rows();
        let group = rows.div_ceil(Self::MAX_GROUPS).next_power_of_two();
        let starts = (0..rows).step_by(group);
        let mut of_group: Vec<u16> = starts.map(|row| ranges.of(row as u32) as u16).collect();
        of_group.push(ranges.len().saturating_sub(1) as u16);
        Scatter {
            firsts: ranges.bounds[..ranges.len()].to_vec(),
            group: group.trailing_zeros(),
            of_group,
        }
    }

    /// The range that a row lies in.
    #[inline]
    fn range(&self, row: u32) -> usize {
        let group = (row >> self.group) as usize;
        let (low, high) = (self.of_group[group], self.of_group[group + 1]);
        let (low, high) = (usize::from(low), usize::from(high));
        low + self.firsts[low + 1..=high].partition_point(|&first| first <= row)
    }

    /// Scatters the records of all pieces, each put through `change`, in parallel. What memory they lay in is used for where
    /// they go.
    pub fn scatter<T: Stamp>(
        &self,
        pieces: impl Iterator<Item = Result<Piece<T>>> + Send,
        change: impl Fn(Record<T>) -> Record<T> + Sync,
        out: &mut Spill<T>,
    ) -> Result<()> {
        in_order(
            pieces,
            |piece| (self.sort(&piece.map(&change)), piece),
            |(sorted, piece)| {
                out.reuse(piece);
                sorted.append_to(out)
            },
        )
    }

    /// The records in order of their ranges: a stable counting sort.
    pub fn sort<T: Stamp>(&self, records: &[Record<T>]) -> Scattered<T> {
        let mut starts = vec![0; self.firsts.len()];
        let count = |record: &Record<T>| {
            let range = self.range(record.row);
            starts[range] += 1;
            range as u16
        };
        let ranges: Vec<u16> = records.iter().map(count).collect();
        ends_before(&mut starts);
        let mut sorted = records.to_vec();
        for (record, &range) in records.iter().zip(&ranges) {
            let at = &mut starts[usize::from(range)];
            sorted[*at] = *record;
            *at += 1;
        }
        Scattered {
            records: sorted,
            ends: starts,
        }
    }
}

/// Records in order of their ranges.
pub struct Scattered<T> {
    records: Vec<Record<T>>,
    /// Where the records of each range end.
    ends: Vec<usize>,
}

impl<T: Stamp> Scattered<T> {
    /// Appends the records of each range to the stream of its number.
    pub fn append_to(&self, out: &mut Spill<T>) -> Result<()> {
        let mut start = 0;
        for (range, &end) in self.ends.iter().enumerate() {
            out.append(range, &self.records[start..end])?;
            start = end;
        }
        Ok(())
    }
}

/// Records of one range, by row: a stable counting sort. Gives for each the column, and below it in the last 32 bits its
/// place among the records; and where each row ends.
pub fn by_row<T: Stamp>(records: &[Record<T>], rows: Range<usize>) -> (Vec<u64>, Vec<usize>) {
    let mut starts = starts(records, rows.clone());
    let mut sorted = vec![0; records.len()];
    for (place, record) in (0..).zip(records) {
        let at = &mut starts[record.row as usize - rows.start];
        sorted[*at] = u64::from(record.col) << 32 | place;
        *at += 1;
    }
    (sorted, starts)
}

/// Records of one range, by row in the same way, columns and values apart.
pub fn columns_by_row(
    records: &[Record<()>],
    rows: Range<usize>,
) -> (Vec<u32>, Vec<f32>, Vec<usize>) {
    let mut starts = starts(records, rows.clone());
    let (mut cols, mut values) = (vec![0; records.len()], vec![0.0; records.len()]);
    for record in records {
        let at = &mut starts[record.row as usize - rows.start];
        (cols[*at], values[*at]) = (record.col, record.value);
        *at += 1;
    }
    (cols, values, starts)
}

/// Where each row's records start, once they are sorted.
fn starts<T: Stamp>(records: &[Record<T>], rows: Range<usize>) -> Vec<usize> {
    let mut starts = vec![0; rows.len()];
    for record in records {
        starts[record.row as usize - rows.start] += 1;
    }
    ends_before(&mut starts);
    starts
}

/// Turns counts into where each begins: the sum of those before it.
fn ends_before(counts: &mut [usize]) {
    let mut sum = 0;
    for count in counts {
        sum += std::mem::replace(count, sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(n: u32) -> Vec<Record<i64>> {
        (0..n)
            .map(|i| Record {
                row: i.wrapping_mul(2_654_435_761) % 97,
                col: i,
                value: i as f32 / 2.0,
                time: i64::from(i) - 50,
            })
            .collect()
    }

    #[test]
    fn every_row_finds_its_range_however_many_there_are() {
        for (rows, capacity) in [(1, 1), (70_000, 1000), (300_000, 40), (200_000, 1 << 40)] {
            let mut ranges = Ranges::new(capacity);
            (0..rows).for_each(|row| ranges.push(row % 5));
            let scatter = Scatter::new(&ranges);
            for range in 0..ranges.len() {
                let rows = ranges.rows(range);
                assert!(rows.end == rows.start + 1 || ranges.records(range) <= capacity);
                for row in [rows.start, rows.end - 1] {
                    assert_eq!(scatter.range(row as u32), range);
                }
            }
            assert_eq!(ranges.all_rows(), rows as usize);
        }
    }

    #[test]
    fn what_spills_comes_back_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let records = records(5000);
        let mut counts = vec![0; 97];
        records.iter().for_each(|r| counts[r.row as usize] += 1);
        for (capacity, memory) in [
            (u64::MAX, u64::MAX >> 8),
            (300, 1 << 30),
            (300, 2000),
            (1, 1),
        ] {
            let mut ranges = Ranges::new(capacity);
            counts.iter().for_each(|&count| ranges.push(count));
            assert_eq!((ranges.all_rows(), ranges.all_records()), (97, 5000));
            let mut spill = Spill::new(ranges.len(), memory, folder.path());
            Scatter::new(&ranges)
                .scatter(
                    records
                        .chunks(1000)
                        .map(|part| Ok(part.iter().copied().collect())),
                    |record| record,
                    &mut spill,
                )
                .unwrap();
            assert_eq!(spill.written() > 0, memory < 1 << 20);
            for range in 0..ranges.len() {
                let rows = ranges.rows(range);
                let expected: Vec<_> = records
                    .iter()
                    .filter(|r| rows.contains(&(r.row as usize)))
                    .copied()
                    .collect();
                assert!(expected.len() as u64 <= capacity || rows.len() == 1);
                assert_eq!(expected.len() as u64, ranges.records(range));
                let came = spill.next_stream().unwrap().records();
                assert_eq!(came, expected);
                let (order, ends) = by_row(&came, rows.clone());
                let record = |&key: &u64| came[(key & 0xffff_ffff) as usize];
                let sorted: Vec<_> = order.iter().map(record).collect();
                assert!(
                    order
                        .iter()
                        .zip(&sorted)
                        .all(|(key, r)| key >> 32 == u64::from(r.col))
                );
                assert!(sorted.is_sorted_by_key(|r| (r.row, r.col)));
                assert_eq!(ends.last(), Some(&came.len()));
                let strip = |r: &Record<i64>| Record {
                    row: r.row,
                    col: r.col,
                    value: r.value,
                    time: (),
                };
                let stripped: Vec<Record<()>> = came.iter().map(strip).collect();
                let (cols, values, same_ends) = columns_by_row(&stripped, rows);
                assert_eq!(same_ends, ends);
                let pairs = cols.into_iter().zip(values);
                assert!(pairs.eq(sorted.iter().map(|r| (r.col, r.value))));
            }
        }
    }
}
