//! Ratings that come to those of a store: read from text, and held in memory, with the numbers that the store's ids have.
//! Ids that are new to it are numbered after them, by descending number of new ratings, ties by the id.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::sort::{Record, Stamp};
use super::{Consumer, Input, RawRating, ReadOptions, ReadReport, read_ratings};
use crate::error::{Error, ErrorKind, Result};
use crate::matrix::Side;
use crate::store::{Dictionary, Store};

/// Bytes that a rating takes while it is read and sorted.
const RATING_BYTES: u64 = 96;

/// Ratings that come to those of a store.
#[derive(Debug)]
pub struct Additions {
    /// What was read.
    pub read: ReadReport,
    /// The ratings by user, then by item, each pair once.
    pub records: Vec<Record<i64>>,
    /// The ids of new users, whose numbers follow on those of the store.
    pub users: Vec<Box<str>>,
    /// The ids of new items.
    pub items: Vec<Box<str>>,
    /// Whether any rating came without a time.
    pub without_time: bool,
    /// Ratings that gave way to a later one of the same pair.
    pub repeated: u64,
}

impl Additions {
    /// Reads ratings in any input format, in so much room. Of a pair that is rated more than once the latest counts, the last
    /// by line where times are equal or missing.
    ///
    /// # Errors
    /// If the text cannot be read, or its ratings do not fit.
    pub fn read(
        store: &Store,
        inputs: &[Input],
        options: &ReadOptions,
        room: u64,
    ) -> Result<Additions> {
        let mut collector = Collector {
            users: Ids::after(store.users()),
            items: Ids::after(store.items()),
            records: Vec::new(),
            without_time: false,
            room,
        };
        let read = read_ratings(inputs, options, &mut collector)?;
        let Collector {
            users,
            items,
            mut records,
            without_time,
            ..
        } = collector;
        if records.is_empty() {
            let error = Error::new(ErrorKind::BadInput, "no ratings could be read");
            return Err(error.path(&read.inputs[0].path));
        }
        let (users, user_rows) = users.numbered(records.iter().map(|r| r.row));
        let (items, item_rows) = items.numbered(records.iter().map(|r| r.col));
        for record in &mut records {
            record.row = user_rows.of(record.row);
            record.col = item_rows.of(record.col);
        }
        let all = records.len();
        // Stable: of equal times, the last line comes last.
        records.sort_by_key(|r| (r.row, r.col, r.time));
        records.reverse();
        records.dedup_by_key(|r| (r.row, r.col));
        records.reverse();
        Ok(Additions {
            read,
            repeated: (all - records.len()) as u64,
            records,
            users,
            items,
            without_time,
        })
    }
}

/// The ids of one side: those of the store, and those that are new.
struct Ids<'a> {
    known: &'a Dictionary,
    new: HashMap<Box<str>, u32>,
    /// Bytes of the text of those that are new.
    bytes: u64,
}

/// An id that was looked up.
enum Id {
    Known(u32),
    New(Box<str>),
}

impl<'a> Ids<'a> {
    fn after(known: &'a Dictionary) -> Ids<'a> {
        Ids {
            known,
            new: HashMap::new(),
            bytes: 0,
        }
    }

    fn look_up(&self, id: &[u8]) -> Result<Id> {
        let id = String::from_utf8_lossy(id);
        let known = self.known.lookup(&id)?;
        Ok(known.map_or_else(|| Id::New(id.into()), Id::Known))
    }

    /// The number of an id; of a new one for the time being, in the order in which they come.
    fn number(&mut self, id: Id) -> u32 {
        match id {
            Id::Known(row) => row,
            Id::New(id) => {
                let next = self.known.len() + self.new.len();
                *self.new.entry(id).or_insert_with_key(|id| {
                    self.bytes += id.len() as u64;
                    next as u32
                })
            }
        }
    }

    /// The new ids in order of their final numbers, and how to get from the numbers for the time being to these.
    fn numbered(self, occurs: impl Iterator<Item = u32>) -> (Vec<Box<str>>, Renumbered) {
        let first = self.known.len() as u32;
        let mut counts = vec![0_u64; self.new.len()];
        for number in occurs.filter(|&number| number >= first) {
            counts[(number - first) as usize] += 1;
        }
        let mut new: Vec<(Box<str>, u32)> = self.new.into_iter().collect();
        let count = |number: u32| counts[(number - first) as usize];
        new.sort_unstable_by(|a, b| {
            let by_count = Reverse(count(a.1)).cmp(&Reverse(count(b.1)));
            by_count.then_with(|| a.0.cmp(&b.0))
        });
        let mut rows = vec![0; new.len()];
        for (row, (_, number)) in (first..).zip(&new) {
            rows[(number - first) as usize] = row;
        }
        let ids = new.into_iter().map(|(id, _)| id).collect();
        (ids, Renumbered { first, rows })
    }
}

/// The final numbers of new ids, by their numbers for the time being.
struct Renumbered {
    first: u32,
    rows: Vec<u32>,
}

impl Renumbered {
    fn of(&self, number: u32) -> u32 {
        match number.checked_sub(self.first) {
            Some(new) => self.rows[new as usize],
            None => number,
        }
    }
}

struct Collector<'a> {
    users: Ids<'a>,
    items: Ids<'a>,
    records: Vec<Record<i64>>,
    without_time: bool,
    /// Bytes that all this may take.
    room: u64,
}

/// The ratings of a chunk, with their ids looked up.
type Chunk = Vec<(Result<Id>, Result<Id>, f32, Option<i64>)>;

impl Consumer for Collector<'_> {
    type Chunk = Chunk;

    fn begin(&self) -> Chunk {
        Vec::new()
    }

    fn ratings(&self, chunk: &mut Chunk, ratings: &[RawRating<'_>]) {
        chunk.extend(ratings.iter().map(|rating| {
            let user = self.users.look_up(rating.user);
            let item = self.items.look_up(rating.item);
            (user, item, rating.rating, rating.time)
        }));
    }

    fn commit(&mut self, chunk: Chunk) -> Result<()> {
        for (user, item, value, time) in chunk {
            self.without_time |= time.is_none();
            self.records.push(Record {
                row: self.users.number(user?),
                col: self.items.number(item?),
                value,
                time: i64::new(time),
            });
        }
        for (side, ids) in [(Side::Users, &self.users), (Side::Items, &self.items)] {
            if ids.known.len() + ids.new.len() >= u32::MAX as usize {
                let what = format!("too many {}s: rows are numbered in 32 bits", side.noun());
                return Err(Error::new(ErrorKind::BadInput, what));
            }
        }
        for ids in [&self.users, &self.items] {
            // What was looked up in a dictionary would stay in memory.
            ids.known.release();
        }
        let ratings = self.records.len() as u64;
        let held = RATING_BYTES * ratings + self.users.bytes + self.items.bytes;
        if held > self.room {
            let what = format!("more than {ratings} new ratings do not fit in memory");
            return Err(Error::new(ErrorKind::OverBudget, what)
                .remedy("raise --memory, add them part by part, or import everything anew"));
        }
        Ok(())
    }
}
