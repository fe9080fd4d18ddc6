//! External sort of records of any length: runs that are sorted in memory, one anonymous file of them, and their merger.
//!
//! A record is a key and a value. Keys are compared byte by byte; equal keys come out in the order in which they went in.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::error::{AtPath, Result};
use crate::store::{DiskFile, prefix};

/// Bytes that are written at once.
const BUFFER: usize = 64 << 10;

/// Bytes of a run that are read at once: at least, and at most.
const PIECE: Range<usize> = 16 << 10..1 << 20;

/// Bytes before a record: the lengths of key and value.
const LENGTHS: usize = 8;

/// An anonymous file of records, one after the other, of which the page cache keeps little.
#[derive(Debug)]
pub struct RecordFile {
    file: DiskFile,
    folder: PathBuf,
    /// What has not been written yet.
    buffer: Vec<u8>,
    /// Bytes of all records.
    end: u64,
    /// Bytes of the longest record.
    longest: usize,
}

impl RecordFile {
    /// An empty file in `folder`; the page cache may have a sixteenth of `memory` bytes of it, from 1 to 8 MiB.
    ///
    /// # Errors
    /// If no file can be made there.
    pub fn new(folder: &Path, memory: u64) -> Result<RecordFile> {
        let file = DiskFile::unnamed(folder).at(folder)?;
        Ok(RecordFile {
            file: file.cached_within((memory / 16).clamp(1 << 20, 8 << 20)),
            folder: folder.to_owned(),
            buffer: Vec::new(),
            end: 0,
            longest: 0,
        })
    }

    /// Appends a record, which is not in the file before the next [`flush`](RecordFile::flush).
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn append(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let length = LENGTHS + key.len() + value.len();
        if !self.buffer.is_empty() && self.buffer.len() + length > BUFFER {
            self.flush()?;
        }
        push_record(&mut self.buffer, key, value);
        self.end += length as u64;
        self.longest = self.longest.max(length);
        Ok(())
    }

    /// Writes what has been appended.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn flush(&mut self) -> Result<()> {
        self.file.write_all(&self.buffer).at(&self.folder)?;
        self.buffer.clear();
        Ok(())
    }

    /// Reads all records, so many bytes at once.
    pub fn reader(&self, piece: usize) -> RecordReader {
        RecordReader::new(0..self.end, piece)
    }
}

fn push_record(bytes: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    for part in [key, value] {
        let length = u32::try_from(part.len()).expect("a part of a line of text");
        bytes.extend_from_slice(&length.to_le_bytes());
    }
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(value);
}

/// The lengths of key and value of the record that begins here.
fn lengths(bytes: &[u8]) -> (usize, usize) {
    let length = |at: usize| bytes[at..at + 4].try_into().expect("four bytes");
    let [key, value] = [0, 4].map(|at| u32::from_le_bytes(length(at)) as usize);
    (key, value)
}

/// Reads records of a file, one after the other.
#[derive(Debug)]
pub struct RecordReader {
    /// What has not been read of the file.
    rest: Range<u64>,
    piece: usize,
    bytes: Vec<u8>,
    /// Where the record at hand begins among them, and the one behind it.
    at: usize,
    next: usize,
}

impl RecordReader {
    fn new(rest: Range<u64>, piece: usize) -> RecordReader {
        RecordReader {
            rest,
            piece,
            bytes: Vec::new(),
            at: 0,
            next: 0,
        }
    }

    /// Goes on to the next record of the file; false if there is none.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn advance(&mut self, file: &RecordFile) -> Result<bool> {
        self.at = self.next;
        if !self.fill(LENGTHS, file)? {
            return Ok(false);
        }
        let (key, value) = lengths(&self.bytes[self.at..]);
        let length = LENGTHS + key + value;
        let whole = self.fill(length, file)?;
        self.next = self.at + length;
        Ok(whole)
    }

    /// Sees to it that so many bytes of the record at hand are there; false if the file has ended.
    fn fill(&mut self, length: usize, file: &RecordFile) -> Result<bool> {
        let held = self.bytes.len() - self.at;
        if held >= length {
            return Ok(true);
        }
        let left = usize::try_from(self.rest.end - self.rest.start).unwrap_or(usize::MAX);
        let more = (self.piece.max(length) - held).min(left);
        if held + more < length {
            return Ok(false);
        }
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.reserve_exact(more);
        self.bytes.resize(held + more, 0);
        file.file
            .read_in_passing(&mut self.bytes[held..], self.rest.start)
            .at(&file.folder)?;
        self.rest.start += more as u64;
        Ok(true)
    }

    /// The key of the record at hand.
    pub fn key(&self) -> &[u8] {
        let (key, _) = lengths(&self.bytes[self.at..]);
        &self.bytes[self.at + LENGTHS..][..key]
    }

    /// The value of the record at hand.
    pub fn value(&self) -> &[u8] {
        let (key, value) = lengths(&self.bytes[self.at..]);
        &self.bytes[self.at + LENGTHS + key..][..value]
    }
}

/// Runs of records, each in order of its keys.
#[derive(Debug)]
pub struct Runs {
    file: RecordFile,
    /// Where each run ends.
    ends: Vec<u64>,
    memory: u64,
}

impl Runs {
    /// No runs yet, in a file in `folder`, for whose merger there will be `memory` bytes.
    ///
    /// # Errors
    /// If no file can be made there.
    pub fn new(folder: &Path, memory: u64) -> Result<Runs> {
        Ok(Runs {
            file: RecordFile::new(folder, memory)?,
            ends: Vec::new(),
            memory,
        })
    }

    /// How many runs.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Adds a run of the records that `append` appends, which come in order of their keys.
    ///
    /// # Errors
    /// What `append` gives, or if they cannot be written.
    pub fn add(&mut self, append: impl FnOnce(&mut RecordFile) -> Result<()>) -> Result<()> {
        append(&mut self.file)?;
        self.file.flush()?;
        self.ends.push(self.file.end);
        Ok(())
    }

    /// All records in order of their keys. Where there are too many runs to look at within the memory, groups of them become
    /// one run each first.
    ///
    /// # Errors
    /// If they cannot be read, or written anew.
    pub fn merged(mut self) -> Result<Merged> {
        let least = PIECE.start.max(self.file.longest);
        let most = (self.memory as usize / least).max(2);
        while self.len() > most {
            let mut fewer = Runs::new(&self.file.folder, self.memory)?;
            for group in self.ranges().chunks(most) {
                let mut heads = Heads::new(&self.file, group, self.memory)?;
                fewer.add(|out| {
                    while let Some((key, value)) = heads.next_record(&self.file)? {
                        out.append(key, value)?;
                    }
                    Ok(())
                })?;
            }
            self = fewer;
        }
        let heads = Heads::new(&self.file, &self.ranges(), self.memory)?;
        Ok(Merged {
            file: self.file,
            heads,
        })
    }

    fn ranges(&self) -> Vec<Range<u64>> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, &end)| start..end)
            .collect()
    }
}

/// The records of all runs, in order of their keys.
#[derive(Debug)]
pub struct Merged {
    file: RecordFile,
    heads: Heads,
}

impl Merged {
    /// Key and value of the next record, if there is one.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn next_record(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        self.heads.next_record(&self.file)
    }
}

/// The next records of some runs of a file.
#[derive(Debug)]
struct Heads {
    heads: BinaryHeap<Reverse<Head>>,
    /// Whether the least of them has been handed out.
    taken: bool,
}

impl Heads {
    fn new(file: &RecordFile, runs: &[Range<u64>], memory: u64) -> Result<Heads> {
        let piece = memory as usize / runs.len().max(1);
        let piece = piece.clamp(PIECE.start, PIECE.end);
        let mut heads = BinaryHeap::with_capacity(runs.len());
        for (run, range) in runs.iter().enumerate() {
            let mut reader = RecordReader::new(range.clone(), piece);
            if reader.advance(file)? {
                heads.push(Reverse(Head { reader, run }));
            }
        }
        let taken = false;
        Ok(Heads { heads, taken })
    }

    fn next_record(&mut self, file: &RecordFile) -> Result<Option<(&[u8], &[u8])>> {
        if self.taken
            && let Some(mut least) = self.heads.peek_mut()
            && !least.0.reader.advance(file)?
        {
            PeekMut::pop(least);
        }
        self.taken = true;
        let least = self.heads.peek();
        Ok(least.map(|Reverse(head)| (head.reader.key(), head.reader.value())))
    }
}

/// The next record of a run, in order of keys, then of runs.
#[derive(Debug)]
struct Head {
    reader: RecordReader,
    run: usize,
}

impl Ord for Head {
    fn cmp(&self, other: &Head) -> Ordering {
        let by_key = self.reader.key().cmp(other.reader.key());
        by_key.then(self.run.cmp(&other.run))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Head) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Head) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head {}

/// Takes records in any order.
#[derive(Debug)]
pub struct Sorter {
    /// Records that are not in a run yet, within so many bytes.
    records: Vec<u8>,
    most_bytes: usize,
    /// The first bytes of each one's key, and where it begins; so many at most.
    order: Vec<(u64, u32)>,
    most_records: usize,
    /// Whether those are all of each key: all have eight.
    eight: bool,
    runs: Runs,
}

impl Sorter {
    /// Sorts within `memory` bytes; what is beyond waits in a file in `folder`.
    ///
    /// # Errors
    /// If no file can be made there.
    pub fn new(folder: &Path, memory: u64) -> Result<Sorter> {
        let memory_bytes = (memory as usize).min(u32::MAX as usize);
        let most_bytes = memory_bytes / 3 * 2;
        let most_records = memory_bytes / 3 / size_of::<(u64, u32)>();
        let (mut records, mut order) = (Vec::new(), Vec::new());
        // Pages that nobody touches take no memory. Without them in a row they grow by copies.
        if records.try_reserve_exact(most_bytes).is_err()
            || order.try_reserve_exact(most_records).is_err()
        {
            log::debug!("{memory} bytes are not to be had in one piece");
        }
        Ok(Sorter {
            records,
            most_bytes,
            order,
            most_records,
            eight: true,
            runs: Runs::new(folder, memory)?,
        })
    }

    /// Takes a record.
    ///
    /// # Errors
    /// If those before it cannot be written.
    pub fn push(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let length = LENGTHS + key.len() + value.len();
        let full =
            self.order.len() >= self.most_records || self.records.len() + length > self.most_bytes;
        if full && !self.order.is_empty() {
            self.write_run()?;
        }
        let at = self.records.len() as u32;
        self.eight &= key.len() == 8;
        self.order.push((prefix(key), at));
        push_record(&mut self.records, key, value);
        Ok(())
    }

    fn write_run(&mut self) -> Result<()> {
        let Sorter { records, order, .. } = self;
        let record = |at: u32| {
            let bytes = &records[at as usize..];
            let (key, value) = lengths(bytes);
            bytes[LENGTHS..LENGTHS + key + value].split_at(key)
        };
        // Where keys are equal, by which came first.
        match self.eight {
            true => order.sort_unstable(),
            false => order.sort_unstable_by(|a, b| {
                let by_key = || record(a.1).0.cmp(record(b.1).0);
                a.0.cmp(&b.0).then_with(by_key).then(a.1.cmp(&b.1))
            }),
        }
        self.runs.add(|run| {
            order.iter().try_for_each(|&(_, at)| {
                let (key, value) = record(at);
                run.append(key, value)
            })
        })?;
        records.clear();
        order.clear();
        Ok(())
    }

    /// All records in order of their keys.
    ///
    /// # Errors
    /// If they cannot be written or read.
    pub fn finish(mut self) -> Result<Merged> {
        self.write_run()?;
        let Sorter { runs, .. } = self;
        runs.merged()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn records_come_out_as_a_stable_sort_has_them(
            keys in prop_oneof![
                proptest::collection::vec(proptest::collection::vec(0..3_u8, 0..12), 0..300),
                proptest::collection::vec(proptest::collection::vec(0..3_u8, 8), 0..300),
            ],
            memory in 0..20_000_u64,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let mut sorter = Sorter::new(folder.path(), memory).unwrap();
            let mut twin: Vec<(&[u8], Vec<u8>)> = Vec::new();
            for (at, key) in keys.iter().enumerate() {
                let value = at.to_string().repeat(at % 7).into_bytes();
                sorter.push(key, &value).unwrap();
                twin.push((key, value));
            }
            twin.sort_by_key(|(key, _)| *key);
            let mut merged = sorter.finish().unwrap();
            for (key, value) in &twin {
                prop_assert_eq!(merged.next_record().unwrap(), Some((*key, &value[..])));
            }
            prop_assert_eq!(merged.next_record().unwrap(), None);
        }
    }

    #[test]
    fn records_longer_than_all_buffers_pass_and_runs_are_few_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        // Room for no more than two runs at a time, of one or two records each.
        let mut sorter = Sorter::new(folder.path(), 100_000).unwrap();
        let key = |i: u32| {
            let length = if i.is_multiple_of(3) { 90_000 } else { 30_000 };
            [
                i.wrapping_mul(2_654_435_761).to_le_bytes().to_vec(),
                vec![7; length],
            ]
            .concat()
        };
        let mut keys: Vec<Vec<u8>> = (0..40).map(key).collect();
        for key in &keys {
            sorter.push(key, b"v").unwrap();
        }
        assert!(sorter.runs.len() > 20);
        keys.sort();
        let mut merged = sorter.finish().unwrap();
        for key in &keys {
            assert_eq!(merged.next_record().unwrap(), Some((&key[..], &b"v"[..])));
        }
        assert_eq!(merged.next_record().unwrap(), None);
    }
}
