//! External sort of ratings, inside the budget.
//!
//! A [`Spill`] holds many streams of records: in memory up to its share of the budget, beyond it in one anonymous file, of
//! which the page cache keeps little, and which shrinks as records are taken out.
//! Records are scattered into streams by row range ([`Ranges`]), each small enough to be sorted in memory, and come out in
//! the order in which they went in, so that equal rows keep the order of the input's lines.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::waves::in_waves;
use crate::error::{AtPath, Result};
use crate::store::DiskFile;

/// When a rating was given, or nothing where nobody asks.
pub trait Stamp: Copy + Default + Ord + Send + Sync {
    /// Bytes on disk.
    const BYTES: usize;
    /// From what the text says; no time is the earliest.
    fn new(time: Option<i64>) -> Self;
    /// The time, where somebody asks.
    fn get(self) -> Option<i64>;
    /// Appends its bytes.
    fn write(self, out: &mut Vec<u8>);
    /// From its bytes.
    fn read(bytes: &[u8]) -> Self;
}

impl Stamp for () {
    const BYTES: usize = 0;
    fn new(_time: Option<i64>) {}
    fn get(self) -> Option<i64> {
        None
    }
    fn write(self, _out: &mut Vec<u8>) {}
    fn read(_bytes: &[u8]) {}
}

impl Stamp for i64 {
    const BYTES: usize = 8;
    fn new(time: Option<i64>) -> i64 {
        time.unwrap_or(i64::MIN)
    }
    fn get(self) -> Option<i64> {
        Some(self)
    }
    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }
    fn read(bytes: &[u8]) -> i64 {
        i64::from_le_bytes(bytes.try_into().expect("eight bytes"))
    }
}

/// A rating on its way into the store.
#[derive(Debug, Clone, Copy, PartialEq)]
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
    const BYTES: usize = 12 + T::BYTES;

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.row.to_le_bytes());
        out.extend_from_slice(&self.col.to_le_bytes());
        out.extend_from_slice(&self.value.to_le_bytes());
        self.time.write(out);
    }

    fn read(bytes: &[u8]) -> Record<T> {
        let word = |at: usize| bytes[at..at + 4].try_into().expect("four bytes");
        Record {
            row: u32::from_le_bytes(word(0)),
            col: u32::from_le_bytes(word(4)),
            value: f32::from_le_bytes(word(8)),
            time: T::read(&bytes[12..]),
        }
    }
}

/// Streams of records, in memory or in a file.
#[derive(Debug)]
pub struct Spill<T> {
    folder: PathBuf,
    file: Option<DiskFile>,
    end: u64,
    written: u64,
    room: usize,
    /// Bytes that the page cache may have of the file.
    cached: u64,
    held: usize,
    streams: Vec<Stream<T>>,
}

#[derive(Debug)]
struct Stream<T> {
    /// Where the stream lies in the file: offset and number of records.
    extents: Vec<(u64, usize)>,
    /// What has not been written.
    tail: Vec<Record<T>>,
}

impl<T: Stamp> Spill<T> {
    /// So many empty streams that may hold `memory` bytes; what is beyond goes to an anonymous file in `folder`.
    pub fn new(streams: usize, memory: u64, folder: &Path) -> Spill<T> {
        let mut spill = Spill {
            folder: folder.to_owned(),
            file: None,
            end: 0,
            written: 0,
            room: (memory as usize / size_of::<Record<T>>()).max(1),
            cached: (memory / 16).clamp(BUFFER as u64, 8 * BUFFER as u64),
            held: 0,
            streams: Vec::new(),
        };
        (0..streams).for_each(|_| {
            spill.add_stream();
        });
        spill
    }

    /// Adds an empty stream and gives its number.
    pub fn add_stream(&mut self) -> usize {
        self.streams.push(Stream {
            extents: Vec::new(),
            tail: Vec::new(),
        });
        self.streams.len() - 1
    }

    /// Appends records to a stream.
    pub fn append(&mut self, stream: usize, records: &[Record<T>]) -> Result<()> {
        if self.held + records.len() > self.room {
            self.write_tails()?;
        }
        self.held += records.len();
        self.streams[stream].tail.extend_from_slice(records);
        Ok(())
    }

    /// Records appended so far.
    pub fn records(&self) -> u64 {
        self.written / Record::<T>::BYTES as u64 + self.held as u64
    }

    /// Bytes written to disk so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    fn write_tails(&mut self) -> Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let file = DiskFile::unnamed(&self.folder).at(&self.folder)?;
                none.insert(file.cached_within(self.cached))
            }
        };
        file.seek(SeekFrom::Start(self.end)).at(&self.folder)?;
        let mut bytes = Vec::with_capacity(BUFFER);
        for stream in &mut self.streams {
            if stream.tail.is_empty() {
                continue;
            }
            stream.extents.push((self.end, stream.tail.len()));
            for record in &stream.tail {
                record.write(&mut bytes);
                if bytes.len() + Record::<T>::BYTES > BUFFER {
                    file.write_all(&bytes).at(&self.folder)?;
                    bytes.clear();
                }
            }
            self.end += (stream.tail.len() * Record::<T>::BYTES) as u64;
            // A stream's tail is refilled at once: keep a little, give back what only a burst needed.
            stream.tail.clear();
            stream.tail.shrink_to(self.room / 1024);
        }
        file.write_all(&bytes).at(&self.folder)?;
        self.written = self.end;
        self.held = 0;
        Ok(())
    }

    /// Calls `visit` with all records of a stream, in order, at most `at_once` at a time, and forgets them.
    pub fn drain(
        &mut self,
        stream: usize,
        at_once: usize,
        mut visit: impl FnMut(&[Record<T>]) -> Result<()>,
    ) -> Result<()> {
        let tail = std::mem::take(&mut self.streams[stream].tail);
        self.held -= tail.len();
        let mut records = Vec::new();
        for (offset, count) in std::mem::take(&mut self.streams[stream].extents) {
            let mut done = 0;
            while done < count {
                let now = (count - done).min(at_once);
                records.clear();
                self.read(
                    offset + (done * Record::<T>::BYTES) as u64,
                    now,
                    &mut records,
                )?;
                self.give_back(offset + (done * Record::<T>::BYTES) as u64, now);
                visit(&records)?;
                done += now;
            }
        }
        drop(records);
        tail.chunks(at_once).try_for_each(visit)
    }

    /// All records of a stream, in order, which are forgotten.
    pub fn take(&mut self, stream: usize) -> Result<Vec<Record<T>>> {
        let stream = &mut self.streams[stream];
        let tail = std::mem::take(&mut stream.tail);
        self.held -= tail.len();
        let extents = std::mem::take(&mut stream.extents);
        if extents.is_empty() {
            return Ok(tail);
        }
        let count: usize = extents.iter().map(|(_, count)| count).sum();
        let mut records = Vec::with_capacity(count + tail.len());
        for (offset, count) in extents {
            self.read(offset, count, &mut records)?;
            self.give_back(offset, count);
        }
        records.extend(tail);
        Ok(records)
    }

    /// Gives back the disk space of so many records that have been read: what they become needs it.
    fn give_back(&self, offset: u64, count: usize) {
        if let Some(file) = &self.file {
            file.give_back(offset..offset + (count * Record::<T>::BYTES) as u64);
        }
    }

    fn read(&self, offset: u64, count: usize, records: &mut Vec<Record<T>>) -> Result<()> {
        let mut file = self.file.as_ref().expect("extents lie in a file");
        file.seek(SeekFrom::Start(offset)).at(&self.folder)?;
        let mut left = count * Record::<T>::BYTES;
        let mut bytes = vec![0; left.min(BUFFER / Record::<T>::BYTES * Record::<T>::BYTES)];
        while left > 0 {
            let now = left.min(bytes.len());
            file.read_exact(&mut bytes[..now]).at(&self.folder)?;
            records.extend(
                bytes[..now]
                    .chunks_exact(Record::<T>::BYTES)
                    .map(Record::read),
            );
            left -= now;
        }
        Ok(())
    }
}

/// Bytes that are written or read at once.
const BUFFER: usize = 1 << 20;

/// Rows cut into consecutive ranges of a bounded number of records.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranges {
    /// The first row of each range, and after the last one the number of rows.
    bounds: Vec<u32>,
}

impl Ranges {
    /// Cuts rows with these numbers of records so that a range has at most `capacity`, or is one row.
    pub fn new(counts: &[u64], capacity: u64) -> Ranges {
        let mut bounds = vec![0];
        let mut held = 0;
        for (row, &count) in counts.iter().enumerate() {
            if held > 0 && held + count > capacity {
                bounds.push(row as u32);
                held = 0;
            }
            held += count;
        }
        bounds.push(counts.len() as u32);
        Ranges { bounds }
    }

    /// How many ranges.
    pub fn len(&self) -> usize {
        self.bounds.len() - 1
    }

    /// The rows of a range.
    pub fn rows(&self, range: usize) -> std::ops::Range<usize> {
        self.bounds[range] as usize..self.bounds[range + 1] as usize
    }

    /// The range that a row lies in.
    fn of(&self, row: u32) -> usize {
        self.bounds.partition_point(|&first| first <= row) - 1
    }

    /// For each row of all ranges, the range it lies in, if there are few enough ranges for a byte or two each.
    fn table(&self) -> Vec<u16> {
        let rows = self.bounds[self.len()] as usize;
        (0..rows).map(|row| self.of(row as u32) as u16).collect()
    }
}

/// Scatters records into one stream for each range, keeping their order within a stream.
#[derive(Debug)]
pub struct Scatter {
    ranges: usize,
    of_row: Vec<u16>,
}

impl Scatter {
    /// The most ranges that rows can be cut into.
    pub const MAX_RANGES: usize = u16::MAX as usize;

    /// Records that one task scatters.
    const TASK: usize = 1 << 16;

    /// Records that are best scattered in one call.
    pub const AT_ONCE: usize = 1 << 20;

    /// Prepares to scatter by these ranges.
    pub fn new(ranges: &Ranges) -> Scatter {
        assert!(ranges.len() <= Self::MAX_RANGES, "too many ranges");
        Scatter {
            ranges: ranges.len(),
            of_row: ranges.table(),
        }
    }

    /// Scatters `records`, each first put through `change`, in parallel.
    pub fn scatter<A: Copy + Sync, T: Stamp>(
        &self,
        records: &[A],
        change: impl Fn(A) -> Record<T> + Sync,
        out: &mut Spill<T>,
    ) -> Result<()> {
        in_waves(
            records.chunks(Self::TASK).map(Ok),
            |task| self.sort(task, &change),
            |(sorted, ends)| {
                let mut start = 0;
                for (range, end) in ends.into_iter().enumerate() {
                    if start < end {
                        out.append(range, &sorted[start..end])?;
                    }
                    start = end;
                }
                Ok(())
            },
        )
    }

    /// The records in order of their ranges (a stable counting sort), and where each range ends.
    fn sort<A: Copy, T: Stamp>(
        &self,
        records: &[A],
        change: impl Fn(A) -> Record<T>,
    ) -> (Vec<Record<T>>, Vec<usize>) {
        let changed: Vec<Record<T>> = records.iter().map(|&record| change(record)).collect();
        if self.ranges == 1 {
            let ends = vec![changed.len()];
            return (changed, ends);
        }
        let mut starts = vec![0; self.ranges];
        for record in &changed {
            starts[self.of_row[record.row as usize] as usize] += 1;
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += std::mem::replace(start, sum);
        }
        let mut sorted = changed.clone();
        for record in &changed {
            let at = &mut starts[self.of_row[record.row as usize] as usize];
            sorted[*at] = *record;
            *at += 1;
        }
        (sorted, starts)
    }
}

/// Records of one range, by row: a stable counting sort. Gives the records and where each row ends.
pub fn by_row<T: Stamp>(
    records: &[Record<T>],
    rows: std::ops::Range<usize>,
) -> (Vec<Record<T>>, Vec<usize>) {
    let mut starts = starts(records, rows.clone());
    let mut sorted = records.to_vec();
    for record in records {
        let at = &mut starts[record.row as usize - rows.start];
        sorted[*at] = *record;
        *at += 1;
    }
    (sorted, starts)
}

/// As [`by_row`], columns and values apart.
pub fn columns_by_row(
    records: &[Record<()>],
    rows: std::ops::Range<usize>,
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
fn starts<T: Stamp>(records: &[Record<T>], rows: std::ops::Range<usize>) -> Vec<usize> {
    let mut starts = vec![0; rows.len()];
    for record in records {
        starts[record.row as usize - rows.start] += 1;
    }
    let mut sum = 0;
    for start in &mut starts {
        sum += std::mem::replace(start, sum);
    }
    starts
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
            let ranges = Ranges::new(&counts, capacity);
            let mut spill = Spill::new(ranges.len(), memory, folder.path());
            Scatter::new(&ranges)
                .scatter(&records, |r| r, &mut spill)
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
                let came = spill.take(range).unwrap();
                assert_eq!(came, expected);
                let (sorted, ends) = by_row(&came, rows.clone());
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

    #[test]
    fn draining_goes_through_file_and_memory() {
        let folder = tempfile::tempdir().unwrap();
        let records = records(1000);
        let mut spill = Spill::new(1, 300 * size_of::<Record<i64>>() as u64, folder.path());
        for part in records.chunks(90) {
            spill.append(0, part).unwrap();
        }
        let mut came = Vec::new();
        spill
            .drain(0, 70, |part| {
                assert!(part.len() <= 70);
                came.extend_from_slice(part);
                Ok(())
            })
            .unwrap();
        assert_eq!(came, records);
    }
}
