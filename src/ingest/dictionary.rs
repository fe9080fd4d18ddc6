//! External ids to provisional numbers, in bounded memory.
//!
//! While the text is read, an [`Interner`] gives every id a provisional number in order of appearance. When it outgrows
//! its share of the budget it is closed: its ids go to disk as a run sorted by id, and an empty table begins the next
//! generation. One id may thus have a provisional number in each of several generations. At the end the runs are merged into
//! the final numbers ([`Numbering`](super::numbering::Numbering)).
//!
//! Memory: a table takes about 30 bytes and the length of the id for each id, up to 16 more where ids are small numbers.

use std::hash::BuildHasher;
use std::path::Path;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::numbering::use_of;
use super::runs::Runs;
use crate::error::Result;
use crate::store::sorted_ids;

/// Ids and their numbers of ratings, numbered in order of appearance.
#[derive(Debug, Default)]
pub struct Interner {
    small: SmallNumbers,
    hasher: DefaultHashBuilder,
    table: HashTable<u32>,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    counts: Vec<u64>,
}

impl Interner {
    /// How many ids.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The number of an id, if it has one.
    #[inline]
    pub fn get(&self, id: &[u8]) -> Option<u32> {
        if let Some(number) = self.small.get(id) {
            return Some(number);
        }
        let hash = self.hasher.hash_one(id);
        self.table.find(hash, |&n| self.id(n) == id).copied()
    }

    /// As [`intern`](Interner::intern), for an id that will be looked up often: whole numbers are found without a hash
    /// from then on.
    pub fn adopt(&mut self, id: &[u8]) -> u32 {
        let number = self.intern(id);
        self.small.insert(id, number, self.len());
        number
    }

    /// The number of an id; it gets one if it has none.
    pub fn intern(&mut self, id: &[u8]) -> u32 {
        let hash = self.hasher.hash_one(id);
        if let Some(&number) = self.table.find(hash, |&n| self.id(n) == id) {
            return number;
        }
        let number = self.ends.len() as u32;
        self.bytes.extend_from_slice(id);
        self.ends.push(self.bytes.len());
        self.counts.push(0);
        let Interner {
            hasher,
            table,
            bytes,
            ends,
            ..
        } = self;
        table.insert_unique(hash, number, |&n| hasher.hash_one(slice(bytes, ends, n)));
        number
    }

    /// The id of a number.
    pub fn id(&self, number: u32) -> &[u8] {
        slice(&self.bytes, &self.ends, number)
    }

    /// Counts one rating.
    #[inline]
    pub fn count(&mut self, number: u32) {
        self.counts[number as usize] += 1;
    }

    /// Memory that the table takes, in bytes.
    pub fn memory(&self) -> u64 {
        let per_id = (self.ends.capacity() + self.counts.capacity()) * 8;
        let table = self.table.capacity() * 6 + self.small.numbers.capacity() * 4;
        (self.bytes.capacity() + per_id + table) as u64
    }

    fn clear(&mut self) {
        *self = Interner {
            hasher: self.hasher.clone(),
            ..Interner::default()
        };
    }
}

fn slice<'a>(bytes: &'a [u8], ends: &[usize], number: u32) -> &'a [u8] {
    let number = number as usize;
    let start = if number == 0 { 0 } else { ends[number - 1] };
    &bytes[start..ends[number]]
}

/// Ids that are whole numbers and not large for how many there are, as most are: looked up by what they say.
#[derive(Debug, Default)]
struct SmallNumbers {
    /// The number of the id that says each, or [`NONE`](SmallNumbers::NONE).
    numbers: Vec<u32>,
}

impl SmallNumbers {
    const NONE: u32 = u32::MAX;

    /// Numbers below this are small however few ids there are.
    const ALWAYS: usize = 1 << 17;

    #[inline]
    fn get(&self, id: &[u8]) -> Option<u32> {
        let number = *self.numbers.get(whole_number(id)?)?;
        (number != Self::NONE).then_some(number)
    }

    /// Remembers an id, one of so many, if it is a small number.
    fn insert(&mut self, id: &[u8], number: u32, ids: usize) {
        let Some(at) = whole_number(id).filter(|&at| at < Self::ALWAYS + 4 * ids) else {
            return;
        };
        if at >= self.numbers.len() {
            self.numbers.resize(at + 1, Self::NONE);
        }
        self.numbers[at] = number;
    }
}

/// What an id says, if it is a whole number of at most eight digits without leading zeros: no two ids say the same.
#[inline]
fn whole_number(id: &[u8]) -> Option<usize> {
    if id.len() > 8 || id.is_empty() || (id[0] == b'0' && id.len() > 1) {
        return None;
    }
    let mut number = 0;
    for byte in id {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = 10 * number + usize::from(digit);
    }
    Some(number)
}

/// All generations of one side: the open table and the runs of those before it.
#[derive(Debug)]
pub struct Generations {
    /// The open generation.
    pub open: Interner,
    runs: Runs,
}

impl Generations {
    /// The first, whose run will go to `folder`; for the merger of all there will be `memory` bytes.
    ///
    /// # Errors
    /// If no file can be made there.
    pub fn new(folder: &Path, memory: u64) -> Result<Generations> {
        Ok(Generations {
            open: Interner::default(),
            runs: Runs::new(folder, memory)?,
        })
    }

    /// The number of the open generation, from 0.
    pub fn current(&self) -> usize {
        self.runs.len()
    }

    /// Closes the open generation, and begins the next.
    ///
    /// # Errors
    /// If its run cannot be written.
    pub fn close(&mut self) -> Result<()> {
        // No id is looked up any more: that gives back what their order takes.
        (self.open.table, self.open.small) = Default::default();
        let (open, generation) = (&self.open, self.current());
        self.runs.add(|run| {
            let sorted = sorted_ids(open.len() as u32, |number| open.id(number));
            sorted.into_iter().try_for_each(|(_, number)| {
                let count = open.counts[number as usize];
                run.append(open.id(number), &use_of(count, generation, number))
            })
        })?;
        self.open.clear();
        Ok(())
    }

    /// Closes the last generation, and gives the runs of all.
    ///
    /// # Errors
    /// If its run cannot be written.
    pub fn into_runs(mut self) -> Result<Runs> {
        self.close()?;
        Ok(self.runs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_found_as_any_other_id_is() {
        let ids = [
            "7",
            "07",
            "0",
            "00",
            "",
            "12a",
            "131071",
            "131072",
            "99999999",
            "100000000",
            "+7",
        ];
        let mut interner = Interner::default();
        for (number, id) in ids.iter().enumerate() {
            assert_eq!(interner.get(id.as_bytes()), None);
            assert_eq!(interner.adopt(id.as_bytes()), number as u32);
        }
        for (number, id) in ids.iter().enumerate() {
            assert_eq!(interner.get(id.as_bytes()), Some(number as u32));
            assert_eq!(interner.adopt(id.as_bytes()), number as u32);
        }
        assert_eq!(interner.get(b"8"), None);
        assert_eq!(interner.small.get(b"131071"), Some(6));
        assert_eq!(interner.small.get(b"99999999"), None);
    }
}
