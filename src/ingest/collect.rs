//! The first stage of an import: ids become provisional numbers, and ratings records that are kept or spilled.

use std::path::Path;

use super::dictionary::{Generations, Interner};
use super::sort::{Record, Stamp};
use super::spill::Spill;
use super::{Consumer, RawRating};
use crate::error::Result;
use crate::progress::Progress;
use crate::store::DiskPlan;

/// Records as they are read, and which generations their numbers are of.
pub struct Raw<T> {
    /// The records, a stream for each pair of generations.
    pub spill: Spill<T>,
    /// What each stream holds.
    pub streams: Vec<RawStream>,
}

/// What a stream of records as read holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawStream {
    /// The generation that numbers of users are of.
    pub users: usize,
    /// The generation that numbers of items are of.
    pub items: usize,
    /// Whether the records are those of a test file.
    pub test_file: bool,
}

/// Takes in parsed ratings: looks ids up in parallel, gives new ones their numbers in order.
pub struct Collector<'a, T> {
    /// The ids of users.
    pub users: Generations,
    /// The ids of items.
    pub items: Generations,
    ids_share: u64,
    /// The records.
    pub raw: Raw<T>,
    test_file: bool,
    /// Whether any rating came without a time.
    pub without_time: bool,
    progress: &'a dyn Progress,
    bytes_done: u64,
    /// Bytes of all text, if that is known.
    bytes: Option<u64>,
    folder: &'a Path,
}

/// Bytes of disk that each rating takes on the way from text to a store, once ratings are spilled: what has been read, while
/// it is given back, and what it becomes. No encoding takes more than 8 bytes a rating and side.
const DISK_BYTES: u64 = 28;

/// The records of one chunk of text. Numbers of ids that the shared tables do not know have the top bit set, and count
/// into the chunk's own tables.
pub struct ChunkRecords<T> {
    records: Vec<Record<T>>,
    new_users: Interner,
    new_items: Interner,
    last_user: (Vec<u8>, u32),
    without_time: bool,
}

const NEW: u32 = 1 << 31;

fn look_up(id: &[u8], known: &Interner, new: &mut Interner) -> u32 {
    known.get(id).unwrap_or_else(|| NEW | new.intern(id))
}

fn settled_number(number: u32, new: &[u32]) -> u32 {
    match number & NEW {
        0 => number,
        _ => new[(number ^ NEW) as usize],
    }
}

impl<'a, T: Stamp> Collector<'a, T> {
    /// An empty one that may hold so many bytes of ids, and so many of records; the rest goes to `folder`.
    ///
    /// `bytes` are those of all text, if that is known.
    ///
    /// # Errors
    /// If no file can be made in `folder`.
    pub fn new(
        ids_share: u64,
        records_share: u64,
        bytes: Option<u64>,
        folder: &'a Path,
        progress: &'a dyn Progress,
    ) -> Result<Collector<'a, T>> {
        Ok(Collector {
            users: Generations::new(folder, ids_share / 4)?,
            items: Generations::new(folder, ids_share / 4)?,
            ids_share,
            raw: Raw {
                spill: Spill::new(0, records_share, folder),
                streams: Vec::new(),
            },
            test_file: false,
            without_time: false,
            progress,
            bytes_done: 0,
            bytes,
            folder,
        })
    }

    /// What is read from now on is from the test file.
    pub fn begin_test_file(&mut self) {
        self.test_file = true;
        self.bytes_done = 0;
    }

    /// Stops in time if the disk has no room for what is still to come: for all ratings, by how many there were so far, or
    /// for those so far where nobody knows how long the text is.
    fn refuse_little_disk(&self) -> Result<()> {
        let spilled = self.raw.spill.written();
        if spilled == 0 {
            return Ok(());
        }
        let read = self.raw.spill.records();
        let (ratings, about) = match self.bytes {
            Some(bytes) if self.bytes_done > 0 && !self.test_file => {
                let rest = bytes.max(self.bytes_done) as f64 / self.bytes_done as f64;
                ((read as f64 * rest) as u64, "about")
            }
            _ => (read, "more than"),
        };
        let needed = (DISK_BYTES * ratings).saturating_sub(spilled);
        let remedy = "make room there, or give a higher --memory, within which less is written";
        let mut plan = DiskPlan::new(format!("importing {about} {ratings} ratings"), remedy);
        plan.write("on the way, beyond what is there now,", self.folder, needed);
        plan.check()
    }

    fn stream(&mut self) -> usize {
        let stream = RawStream {
            users: self.users.current(),
            items: self.items.current(),
            test_file: self.test_file,
        };
        if self.raw.streams.last() != Some(&stream) {
            self.raw.streams.push(stream);
            self.raw.spill.add_stream();
        }
        self.raw.streams.len() - 1
    }
}

impl<T: Stamp> Consumer for Collector<'_, T> {
    type Chunk = ChunkRecords<T>;

    fn begin(&self) -> ChunkRecords<T> {
        ChunkRecords {
            records: Vec::new(),
            new_users: Interner::default(),
            new_items: Interner::default(),
            last_user: (Vec::new(), 0),
            without_time: false,
        }
    }

    fn ratings(&self, chunk: &mut ChunkRecords<T>, ratings: &[RawRating<'_>]) {
        for rating in ratings {
            // Files are often sorted by user.
            if chunk.last_user.0 != rating.user {
                let number = look_up(rating.user, &self.users.open, &mut chunk.new_users);
                chunk.last_user.0.clear();
                chunk.last_user.0.extend_from_slice(rating.user);
                chunk.last_user.1 = number;
            }
            chunk.without_time |= rating.time.is_none();
            chunk.records.push(Record {
                row: chunk.last_user.1,
                col: look_up(rating.item, &self.items.open, &mut chunk.new_items),
                value: rating.rating,
                time: T::new(rating.time),
            });
        }
    }

    fn commit(&mut self, mut chunk: ChunkRecords<T>) -> Result<()> {
        let stream = self.stream();
        let adopt = |known: &mut Interner, new: &Interner| -> Vec<u32> {
            let ids = 0..new.len() as u32;
            ids.map(|n| known.adopt(new.id(n))).collect()
        };
        let new_users = adopt(&mut self.users.open, &chunk.new_users);
        let new_items = adopt(&mut self.items.open, &chunk.new_items);
        for record in &mut chunk.records {
            record.row = settled_number(record.row, &new_users);
            record.col = settled_number(record.col, &new_items);
            self.users.open.count(record.row);
            self.items.open.count(record.col);
        }
        self.without_time |= chunk.without_time;
        self.raw.spill.append(stream, &chunk.records)?;
        Ok(())
    }

    /// Only now may a generation be closed: chunks that were parsed side by side hold numbers of the same one.
    fn batch_done(&mut self, bytes: u64) -> Result<()> {
        self.progress.advance(bytes - self.bytes_done);
        self.bytes_done = bytes;
        self.refuse_little_disk()?;
        let (users, items) = (self.users.open.memory(), self.items.open.memory());
        if users + items > self.ids_share
            || self.users.open.len().max(self.items.open.len()) >= NEW as usize / 2
        {
            let larger = if users > items {
                &mut self.users
            } else {
                &mut self.items
            };
            larger.close()?;
        }
        Ok(())
    }
}
