//! Streams of records, in memory up to a share of the budget, beyond it in one anonymous file, of which the page cache keeps
//! little, and which shrinks as records are taken out.

use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::sort::{Record, Stamp};
use crate::error::{AtPath, Result};
use crate::memory::Bytes;
use crate::store::DiskFile;

/// Bytes that are written or read at once.
const BUFFER: usize = 1 << 20;

/// Streams of records, in memory or in a file.
///
/// What is in memory lies in one pool, in blocks that streams take and give back: however streams grow, no more is held than
/// the share, and none of it in pieces that nobody else can use. Once all is in, streams are taken in their order, each once.
#[derive(Debug)]
pub struct Spill<T> {
    folder: PathBuf,
    file: Option<DiskFile>,
    /// Bytes that were written to the file.
    end: u64,
    /// What has been read of it and not yet been given back: ranges, and how many bytes.
    read: Vec<Range<u64>>,
    read_bytes: u64,
    /// Bytes that the page cache may have of the file.
    cached: u64,
    /// Records of a block.
    block: usize,
    /// The most records of the pool.
    room: usize,
    pool: Vec<Record<T>>,
    /// Blocks that no stream has.
    waiting: Vec<u32>,
    stretches: Vec<Stretch>,
    tails: Vec<Tail>,
    /// The stream that is taken next.
    next: usize,
}

/// What of a stream has not been written: so many records in these blocks, of which the last may not be full.
#[derive(Debug, Default)]
struct Tail {
    blocks: Vec<u32>,
    records: usize,
}

impl Tail {
    /// The records of one of the blocks, each of `size` records of the pool.
    fn block<'a, T>(
        &self,
        at: usize,
        pool: &'a [Record<T>],
        size: usize,
    ) -> Option<&'a [Record<T>]> {
        let start = *self.blocks.get(at)? as usize * size;
        let length = (self.records - at * size).min(size);
        Some(&pool[start..start + length])
    }

    /// All records, block by block.
    fn blocks<'a, T>(
        &'a self,
        pool: &'a [Record<T>],
        size: usize,
    ) -> impl Iterator<Item = &'a [Record<T>]> {
        (0..).map_while(move |at| self.block(at, pool, size))
    }
}

/// A stretch of the file, which the tails of all streams were written to, one after the other.
#[derive(Debug)]
struct Stretch {
    /// Where the next stream that is taken begins.
    offset: u64,
    /// Records of each stream: there may be many streams and many stretches, so four bytes each.
    counts: Vec<u32>,
}

impl<T: Stamp> Spill<T> {
    /// So many empty streams that may hold `memory` bytes; what is beyond goes to an anonymous file in `folder`.
    pub fn new(streams: usize, memory: u64, folder: &Path) -> Spill<T> {
        let records = memory as usize / size_of::<Record<T>>();
        // Every stream leaves half a block empty: a sixteenth of the room, where there are few enough streams.
        let block = (records / (8 * streams.max(1))).clamp(16, 4096);
        let room = (records / block).max(1) * block;
        let mut pool = Vec::new();
        // Pages that nobody touches take no memory. Without them in a row the pool grows by copies.
        if pool.try_reserve_exact(room).is_err() {
            log::debug!("{} are not to be had in one piece", Bytes(memory));
        }
        Spill {
            folder: folder.to_owned(),
            file: None,
            end: 0,
            read: Vec::new(),
            read_bytes: 0,
            cached: (memory / 16).clamp(BUFFER as u64, 8 * BUFFER as u64),
            block,
            room,
            pool,
            waiting: Vec::new(),
            stretches: Vec::new(),
            tails: (0..streams).map(|_| Tail::default()).collect(),
            next: 0,
        }
    }

    /// Adds an empty stream and gives its number.
    pub fn add_stream(&mut self) -> usize {
        self.tails.push(Tail::default());
        self.tails.len() - 1
    }

    /// Appends records to a stream.
    pub fn append(&mut self, stream: usize, mut records: &[Record<T>]) -> Result<()> {
        while !records.is_empty() {
            if self.tails[stream].records.is_multiple_of(self.block) {
                let block = self.empty_block()?;
                self.tails[stream].blocks.push(block);
            }
            let tail = &mut self.tails[stream];
            let filled = tail.records % self.block;
            let block = *tail.blocks.last().expect("has room") as usize;
            let (now, later) = records.split_at(records.len().min(self.block - filled));
            let at = block * self.block + filled;
            self.pool[at..at + now.len()].copy_from_slice(now);
            tail.records += now.len();
            records = later;
        }
        Ok(())
    }

    fn empty_block(&mut self) -> Result<u32> {
        if self.waiting.is_empty() && self.pool.len() >= self.room {
            self.write_tails()?;
        }
        Ok(self.waiting.pop().unwrap_or_else(|| {
            let number = self.pool.len() / self.block;
            self.pool
                .resize(self.pool.len() + self.block, Record::default());
            number as u32
        }))
    }

    /// Records appended so far.
    pub fn records(&self) -> u64 {
        let held: usize = self.tails.iter().map(|tail| tail.records).sum();
        self.end / Record::<T>::BYTES as u64 + held as u64
    }

    /// Bytes written to disk so far.
    pub fn written(&self) -> u64 {
        self.end
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
        let mut stretch = Stretch {
            offset: self.end,
            counts: Vec::with_capacity(self.tails.len()),
        };
        for tail in &mut self.tails {
            let count = tail.records.try_into().expect("a share of memory");
            stretch.counts.push(count);
            for record in tail.blocks(&self.pool, self.block).flatten() {
                record.write(&mut bytes);
                if bytes.len() + Record::<T>::BYTES > BUFFER {
                    file.write_all(&bytes).at(&self.folder)?;
                    bytes.clear();
                }
            }
            self.end += (tail.records * Record::<T>::BYTES) as u64;
            self.waiting.append(&mut tail.blocks);
            tail.records = 0;
        }
        self.stretches.push(stretch);
        file.write_all(&bytes).at(&self.folder)
    }

    /// Where the next stream lies in the file, offset and records of each part, and its tail; which are forgotten.
    fn take_next(&mut self) -> (Vec<(u64, usize)>, Tail) {
        let stream = self.next;
        self.next += 1;
        let written = self.stretches.iter_mut().filter_map(|stretch| {
            // A stream may have been added later.
            let count = *stretch.counts.get(stream)? as usize;
            let offset = stretch.offset;
            stretch.offset += (count * Record::<T>::BYTES) as u64;
            (count > 0).then_some((offset, count))
        });
        let written = written.collect();
        (written, std::mem::take(&mut self.tails[stream]))
    }

    /// All records of the first stream that has not been taken, in order, at most `at_once` at a time.
    pub fn next_pieces(&mut self, at_once: usize) -> impl Iterator<Item = Result<Vec<Record<T>>>> {
        let (written, tail) = self.take_next();
        let pieces = written.into_iter().flat_map(move |(offset, count)| {
            (0..count).step_by(at_once).map(move |done| {
                let offset = offset + (done * Record::<T>::BYTES) as u64;
                (offset, (count - done).min(at_once))
            })
        });
        let mut pieces = pieces.collect::<Vec<_>>().into_iter();
        let at_once = (at_once / self.block).max(1);
        let mut held = (0..tail.blocks.len()).step_by(at_once);
        std::iter::from_fn(move || {
            if let Some((offset, count)) = pieces.next() {
                let mut records = Vec::with_capacity(count);
                return Some(self.read(offset, count, &mut records).map(|()| records));
            }
            let first = held.next()?;
            let blocks =
                (first..first + at_once).map_while(|at| tail.block(at, &self.pool, self.block));
            Some(Ok(blocks.flatten().copied().collect()))
        })
    }

    /// All records of the first stream that has not been taken, in order.
    pub fn next_stream(&mut self) -> Result<Vec<Record<T>>> {
        let (written, tail) = self.take_next();
        let count: usize = written.iter().map(|(_, count)| count).sum();
        let mut records = Vec::with_capacity(count + tail.records);
        for (offset, count) in written {
            self.read(offset, count, &mut records)?;
        }
        for block in tail.blocks(&self.pool, self.block) {
            records.extend_from_slice(block);
        }
        Ok(records)
    }

    /// Appends so many records that begin at an offset; their space is given back.
    fn read(&mut self, offset: u64, count: usize, records: &mut Vec<Record<T>>) -> Result<()> {
        let mut file = self.file.as_ref().expect("extents lie in a file");
        file.seek(SeekFrom::Start(offset)).at(&self.folder)?;
        let mut left = count * Record::<T>::BYTES;
        let range = offset..offset + left as u64;
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
        self.read_bytes += range.end - range.start;
        self.read.push(range);
        if self.read_bytes >= self.end / 32 {
            self.give_back();
        }
        Ok(())
    }

    /// Gives back the disk space of what has been read: what it becomes needs it. Streams that follow each other lie side
    /// by side, and a few large holes are made in a fraction of the time of many small ones.
    fn give_back(&mut self) {
        self.read.sort_unstable_by_key(|range| range.start);
        let file = self.file.as_ref().expect("has been read");
        for side_by_side in self.read.chunk_by(|a, b| a.end == b.start) {
            let last = &side_by_side[side_by_side.len() - 1];
            file.give_back(side_by_side[0].start..last.end);
        }
        self.read.clear();
        self.read_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: u64 = size_of::<Record<i64>>() as u64;

    #[test]
    fn streams_come_back_in_order_from_file_and_memory() {
        let folder = tempfile::tempdir().unwrap();
        let record = |col: u32| Record {
            col,
            time: i64::from(col) - 50,
            ..Record::default()
        };
        let records: Vec<_> = (0..2000).map(record).collect();
        for held in [30, 300, 559] {
            let mut spill = Spill::new(1, held * RECORD, folder.path());
            for part in records[..1000].chunks(90) {
                spill.append(0, part).unwrap();
            }
            // One that begins when some of the first has been written.
            let second = spill.add_stream();
            for part in records[1000..].chunks(7) {
                spill.append(second, part).unwrap();
            }
            assert_eq!(spill.records(), 2000);
            let pieces: Vec<_> = spill.next_pieces(70).collect::<Result<_>>().unwrap();
            assert!(pieces.iter().all(|piece| piece.len() <= 70));
            assert_eq!(pieces.concat(), records[..1000]);
            assert_eq!(spill.next_stream().unwrap(), records[1000..]);
        }
    }

    #[test]
    fn no_more_is_held_than_the_share() {
        let folder = tempfile::tempdir().unwrap();
        for streams in [1, 40, 4000] {
            let mut spill = Spill::<i64>::new(streams, 1000 * RECORD, folder.path());
            for at in 0..20_000 {
                spill
                    .append(at * 7 % streams, &[Record::default(); 3])
                    .unwrap();
                assert!(spill.pool.len() <= 1000);
            }
            assert_eq!(spill.records(), 60_000);
        }
    }
}
