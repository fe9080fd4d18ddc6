//! Streams of records, in memory up to a share of the budget, beyond it in one anonymous file, of which the page cache keeps
//! little, and which shrinks as records are taken out.

use std::io::{Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::sort::{Record, Stamp};
use crate::error::{AtPath, Result};
use crate::store::DiskFile;

/// Bytes that are written or read at once.
const BUFFER: usize = 1 << 20;

/// Memory for records. It holds words, whatever they are of, and so goes from one spill to the next: memory that has been
/// used already is had at once, that of the system page by page.
type Block = Box<[u32]>;

/// Streams of records, in memory or in a file.
///
/// What is in memory lies in blocks, which streams take and give back: however streams grow, no more is held than the share.
/// Once all is in, streams are taken in their order, each once.
#[derive(Debug)]
pub struct Spill<T> {
    disk: Disk,
    /// Words of a block: a power of two, which words of records never come to.
    size: usize,
    /// The most blocks.
    room: usize,
    /// Blocks that streams have, and those that wait.
    blocks: usize,
    waiting: Vec<Block>,
    stretches: Vec<Stretch>,
    tails: Vec<Tail>,
    /// The stream that is taken next.
    next: usize,
    records: PhantomData<T>,
}

/// What of a stream has not been written: so many records in these blocks, of which the last may not be full.
#[derive(Debug, Default)]
struct Tail {
    blocks: Vec<Block>,
    records: usize,
}

/// A stretch of the file, which the tails of all streams were written to, one after the other.
#[derive(Debug)]
struct Stretch {
    /// Where the next stream that is taken begins.
    offset: u64,
    /// Records of each stream: there may be many streams and many stretches, so four bytes each.
    counts: Vec<u32>,
}

/// The file, if one was needed.
#[derive(Debug)]
struct Disk {
    folder: PathBuf,
    file: Option<DiskFile>,
    /// Bytes that were written to it.
    end: u64,
    /// What has been read of it and not yet been given back: ranges, and how many bytes.
    read: Vec<Range<u64>>,
    read_bytes: u64,
    /// Bytes that the page cache may have of it.
    cached: u64,
}

/// Some records of a stream, in order.
#[derive(Debug, Default)]
pub struct Piece<T> {
    /// Blocks, and how many records each holds.
    blocks: Vec<(Block, usize)>,
    records: PhantomData<T>,
}

impl<T: Stamp> Piece<T> {
    /// The records.
    pub fn records(&self) -> Vec<Record<T>> {
        self.map(|record| record)
    }

    /// The records, each put through `change`.
    pub fn map(&self, change: impl Fn(Record<T>) -> Record<T>) -> Vec<Record<T>> {
        let count = self.blocks.iter().map(|(_, records)| records).sum();
        let mut all = Vec::with_capacity(count);
        for (block, count) in &self.blocks {
            let records = block.chunks_exact(Record::<T>::WORDS).take(*count);
            all.extend(records.map(|words| change(Record::read(words))));
        }
        all
    }

    fn of_words(words: Vec<u32>) -> Piece<T> {
        let count = words.len() / Record::<T>::WORDS;
        Piece {
            blocks: vec![(words.into(), count)],
            records: PhantomData,
        }
    }
}

impl<T: Stamp> FromIterator<Record<T>> for Piece<T> {
    fn from_iter<I: IntoIterator<Item = Record<T>>>(records: I) -> Piece<T> {
        let mut words = Vec::new();
        for record in records {
            let start = words.len();
            words.resize(start + Record::<T>::WORDS, 0);
            record.write(&mut words[start..]);
        }
        Piece::of_words(words)
    }
}

impl<T: Stamp> Spill<T> {
    /// The most words of a block: 16 KiB.
    const LARGEST: usize = 1 << 12;

    /// So many empty streams that may hold `memory` bytes; what is beyond goes to an anonymous file in `folder`.
    pub fn new(streams: usize, memory: u64, folder: &Path) -> Spill<T> {
        let words = memory as usize / size_of::<u32>();
        // Every stream leaves half a block empty: a sixteenth of the room, where there are few enough streams.
        let size = (words / (8 * streams.max(1))).clamp(1 << 6, Self::LARGEST);
        let size = 1 << size.ilog2();
        Spill {
            disk: Disk {
                folder: folder.to_owned(),
                file: None,
                end: 0,
                read: Vec::new(),
                read_bytes: 0,
                cached: (memory / 16).clamp(BUFFER as u64, 8 * BUFFER as u64),
            },
            size,
            room: (words / size).max(1),
            blocks: 0,
            waiting: Vec::new(),
            stretches: Vec::new(),
            tails: (0..streams).map(|_| Tail::default()).collect(),
            next: 0,
            records: PhantomData,
        }
    }

    /// Adds an empty stream and gives its number.
    pub fn add_stream(&mut self) -> usize {
        self.tails.push(Tail::default());
        self.tails.len() - 1
    }

    /// Records of a block.
    fn of_block(&self) -> usize {
        self.size / Record::<T>::WORDS
    }

    /// Appends records to a stream.
    pub fn append(&mut self, stream: usize, mut records: &[Record<T>]) -> Result<()> {
        let of_block = self.of_block();
        while !records.is_empty() {
            if self.tails[stream].records.is_multiple_of(of_block) {
                let block = self.empty_block()?;
                self.tails[stream].blocks.push(block);
            }
            let tail = &mut self.tails[stream];
            let filled = tail.records % of_block;
            let block = tail.blocks.last_mut().expect("has room");
            let (now, later) = records.split_at(records.len().min(of_block - filled));
            let empty = &mut block[filled * Record::<T>::WORDS..];
            for (words, record) in empty.chunks_exact_mut(Record::<T>::WORDS).zip(now) {
                record.write(words);
            }
            tail.records += now.len();
            records = later;
        }
        Ok(())
    }

    fn empty_block(&mut self) -> Result<Block> {
        if self.waiting.is_empty() && self.blocks >= self.room {
            self.write_tails()?;
        }
        Ok(self.waiting.pop().unwrap_or_else(|| {
            self.blocks += 1;
            vec![0; self.size].into()
        }))
    }

    /// Takes over the memory of records that are no longer needed, as far as it may hold so much and it is of the same kind.
    pub fn reuse<U>(&mut self, piece: Piece<U>) {
        for (block, _) in piece.blocks {
            if block.len() == self.size && self.blocks < self.room {
                self.waiting.push(block);
                self.blocks += 1;
            }
        }
    }

    /// Records appended so far.
    pub fn records(&self) -> u64 {
        let held: usize = self.tails.iter().map(|tail| tail.records).sum();
        self.disk.end / Self::BYTES + held as u64
    }

    /// Bytes of a record in the file.
    const BYTES: u64 = (Record::<T>::WORDS * size_of::<u32>()) as u64;

    /// Bytes written to disk so far.
    pub fn written(&self) -> u64 {
        self.disk.end
    }

    fn write_tails(&mut self) -> Result<()> {
        let offset = self.disk.end;
        let of_block = self.of_block();
        let filled = self.tails.iter().flat_map(|tail| {
            let left = (0..tail.records)
                .step_by(of_block)
                .map(|at| tail.records - at);
            let filled = left.map(|left| left.min(of_block) * Record::<T>::WORDS);
            tail.blocks
                .iter()
                .zip(filled)
                .map(|(block, filled)| &block[..filled])
        });
        self.disk.write(filled)?;
        let mut counts = Vec::with_capacity(self.tails.len());
        for tail in &mut self.tails {
            counts.push(tail.records.try_into().expect("a share of memory"));
            self.waiting.append(&mut tail.blocks);
            tail.records = 0;
        }
        self.stretches.push(Stretch { offset, counts });
        Ok(())
    }

    /// Where the next stream lies in the file, offset and records of each part, and what of it is in memory; which are
    /// forgotten.
    fn take_next(&mut self) -> (Vec<(u64, usize)>, Piece<T>) {
        let stream = self.next;
        self.next += 1;
        let written = self.stretches.iter_mut().filter_map(|stretch| {
            // A stream may have been added later.
            let count = *stretch.counts.get(stream)? as usize;
            let offset = stretch.offset;
            stretch.offset += count as u64 * Self::BYTES;
            (count > 0).then_some((offset, count))
        });
        let written = written.collect();
        let of_block = self.of_block();
        let Tail { blocks, records } = std::mem::take(&mut self.tails[stream]);
        self.blocks -= blocks.len();
        let filled = (0..records)
            .step_by(of_block)
            .map(|at| (records - at).min(of_block));
        let held = Piece {
            blocks: blocks.into_iter().zip(filled).collect(),
            records: PhantomData,
        };
        (written, held)
    }

    /// All records of the first stream that has not been taken, in order, at most `at_once` at a time.
    pub fn next_pieces(&mut self, at_once: usize) -> impl Iterator<Item = Result<Piece<T>>> {
        let at_once_held = (at_once / self.of_block()).max(1);
        let (written, held) = self.take_next();
        let parts = written.into_iter().flat_map(move |(offset, count)| {
            (0..count).step_by(at_once).map(move |done| {
                let offset = offset + done as u64 * Self::BYTES;
                (offset, (count - done).min(at_once))
            })
        });
        let read = parts.map(|(offset, count)| {
            let mut words = vec![0; count * Record::<T>::WORDS];
            self.disk.read(offset, &mut words)?;
            Ok(Piece::of_words(words))
        });
        let mut held = held.blocks.into_iter();
        read.chain(std::iter::from_fn(move || {
            let blocks: Vec<_> = held.by_ref().take(at_once_held).collect();
            let records = PhantomData;
            (!blocks.is_empty()).then_some(Ok(Piece { blocks, records }))
        }))
    }

    /// All records of the first stream that has not been taken, in order.
    pub fn next_stream(&mut self) -> Result<Piece<T>> {
        let (written, held) = self.take_next();
        let count: usize = written.iter().map(|(_, count)| count).sum();
        let mut words = vec![0; count * Record::<T>::WORDS];
        let mut rest = &mut words[..];
        for (offset, count) in written {
            let (part, later) = rest.split_at_mut(count * Record::<T>::WORDS);
            self.disk.read(offset, part)?;
            rest = later;
        }
        let mut piece = Piece::of_words(words);
        piece.blocks.extend(held.blocks);
        Ok(piece)
    }
}

impl Disk {
    /// Appends words.
    fn write<'a>(&mut self, parts: impl Iterator<Item = &'a [u32]>) -> Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let file = DiskFile::unnamed(&self.folder).at(&self.folder)?;
                none.insert(file.cached_within(self.cached))
            }
        };
        file.seek(SeekFrom::Start(self.end)).at(&self.folder)?;
        let mut bytes = Vec::with_capacity(BUFFER);
        for part in parts {
            if bytes.len() + size_of_val(part) > BUFFER {
                file.write_all(&bytes).at(&self.folder)?;
                self.end += bytes.len() as u64;
                bytes.clear();
            }
            bytes.extend(part.iter().flat_map(|word| word.to_le_bytes()));
        }
        file.write_all(&bytes).at(&self.folder)?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Reads words that begin at an offset; their space is given back.
    fn read(&mut self, offset: u64, words: &mut [u32]) -> Result<()> {
        let mut file = self.file.as_ref().expect("extents lie in a file");
        file.seek(SeekFrom::Start(offset)).at(&self.folder)?;
        let mut bytes = vec![0; size_of_val(words).min(BUFFER)];
        for part in words.chunks_mut(BUFFER / size_of::<u32>()) {
            let bytes = &mut bytes[..size_of_val(part)];
            file.read_exact(bytes).at(&self.folder)?;
            for (word, bytes) in part.iter_mut().zip(bytes.chunks_exact(size_of::<u32>())) {
                *word = u32::from_le_bytes(bytes.try_into().expect("four bytes"));
            }
        }
        let range = offset..offset + size_of_val(words) as u64;
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

    const RECORD: u64 = Spill::<i64>::BYTES;

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
            let mut came = Vec::new();
            for piece in spill.next_pieces(70) {
                let piece = piece.unwrap().records();
                assert!(piece.len() <= 70);
                came.extend(piece);
            }
            assert_eq!(came, records[..1000]);
            let second = spill.next_stream().unwrap();
            assert_eq!(second.records(), records[1000..]);
        }
    }

    #[test]
    fn memory_goes_to_the_next_within_its_share_if_it_is_of_the_same_kind() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = Spill::new(1, 1 << 20, folder.path());
        first
            .append(0, &[Record::<i64>::default(); 10_000])
            .unwrap();
        let held = first.blocks;
        let piece = first.next_stream().unwrap();
        assert_eq!(
            (first.blocks, held),
            (0, 10_000_usize.div_ceil(first.of_block()))
        );
        let mut same = Spill::<()>::new(1, 1 << 19, folder.path());
        let mut other = Spill::<()>::new(100, 1 << 19, folder.path());
        assert!(same.size == first.size && other.size < first.size);
        same.reuse(piece);
        assert_eq!(same.blocks, same.room.min(held));
        // What is taken is used first.
        same.append(0, &[Record::default(); 10_000]).unwrap();
        assert_eq!(same.blocks, same.room.min(held));
        other.reuse(same.next_stream().unwrap());
        assert_eq!(other.blocks, 0);
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
                assert!(spill.blocks * spill.size <= 1000 * Record::<i64>::WORDS);
            }
            assert_eq!(spill.records(), 60_000);
        }
    }
}
