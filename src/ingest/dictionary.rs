//! External ids to dense numbers, in bounded memory.
//!
//! While the text is read, an [`Interner`] gives every id a provisional number in order of appearance. When it outgrows
//! its share of the budget it is closed: its ids go to disk as a run sorted by id, and an empty table begins the next
//! generation. One id may thus have a provisional number in each of several generations. At the end the runs are merged,
//! and [`Numbering`] gives every distinct id its final number, by descending popularity, ties by the bytes of the id, and
//! every provisional number its final one.
//!
//! Memory: a table takes about 30 bytes and the length of the id for each id; a numbering takes 20 bytes for each distinct
//! id and 4 for each provisional number.

use std::hash::BuildHasher;
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::error::{AtPath, Error, ErrorKind, Result};
use crate::store::{DiskFile, Mapping};

/// Ids and their numbers of ratings, numbered in order of appearance.
#[derive(Debug, Default)]
pub struct Interner {
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
        let hash = self.hasher.hash_one(id);
        self.table.find(hash, |&n| self.id(n) == id).copied()
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
        (self.bytes.capacity() + per_id + self.table.capacity() * 6) as u64
    }

    fn clear(&mut self) {
        *self = Interner {
            hasher: self.hasher.clone(),
            ..Interner::default()
        };
    }

    /// Numbers in order of their ids' bytes.
    fn sorted(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.ends.len() as u32).collect();
        order.sort_unstable_by(|&a, &b| self.id(a).cmp(self.id(b)));
        order
    }
}

fn slice<'a>(bytes: &'a [u8], ends: &[usize], number: u32) -> &'a [u8] {
    let number = number as usize;
    let start = if number == 0 { 0 } else { ends[number - 1] };
    &bytes[start..ends[number]]
}

/// All generations of one side: the open table and the runs of those before it.
#[derive(Debug, Default)]
pub struct Generations {
    /// The open generation.
    pub open: Interner,
    runs: Vec<Run>,
}

/// A closed generation on disk: by id, its bytes, its count and its provisional number.
#[derive(Debug)]
struct Run {
    file: DiskFile,
    len: usize,
}

impl Generations {
    /// The number of the open generation, from 0.
    pub fn current(&self) -> usize {
        self.runs.len()
    }

    /// Closes the open generation, to an anonymous file in `folder`, and begins the next.
    pub fn close(&mut self, folder: &Path) -> Result<()> {
        let file = DiskFile::unnamed(folder).at(folder)?;
        let mut out = BufWriter::new(file);
        for number in self.open.sorted() {
            let id = self.open.id(number);
            out.write_all(&(id.len() as u32).to_le_bytes())?;
            out.write_all(id)?;
            out.write_all(&self.open.counts[number as usize].to_le_bytes())?;
            out.write_all(&number.to_le_bytes())?;
        }
        let mut file = out.into_inner().map_err(|e| Error::from(e.into_error()))?;
        file.rewind().at(folder)?;
        self.runs.push(Run {
            file,
            len: self.open.len(),
        });
        self.open.clear();
        Ok(())
    }

    /// Merges all generations into the final numbers.
    ///
    /// # Errors
    /// If there are more than 2^32 ids, or they cannot be spilled.
    pub fn finish(mut self, folder: &Path) -> Result<Numbering> {
        if self.runs.is_empty() {
            return Ok(Numbering::in_memory(self.open));
        }
        self.close(folder)?;
        Numbering::merged(self.runs, folder)
    }
}

/// The final numbers of one side.
#[derive(Debug)]
pub struct Numbering {
    ids: Ids,
    /// Where the id of a final number stands in `ids`.
    order: Vec<u32>,
    /// Final numbers by provisional ones, for each generation.
    maps: Vec<Vec<u32>>,
    /// Ratings of each id, by final number.
    counts: Vec<u64>,
}

/// Ids in an order of their own.
#[derive(Debug)]
enum Ids {
    Memory(Interner),
    /// Ids in order of their bytes, mapped from a file, with where each ends.
    File {
        map: Mapping,
        ends: Vec<u64>,
    },
}

impl Numbering {
    fn in_memory(table: Interner) -> Numbering {
        let sorted = table.sorted();
        let by_id: Vec<u64> = sorted.iter().map(|&n| table.counts[n as usize]).collect();
        let popular = by_popularity(&by_id);
        let order: Vec<u32> = popular.iter().map(|&at| sorted[at as usize]).collect();
        let counts = popular.iter().map(|&at| by_id[at as usize]).collect();
        let mut map = vec![0; order.len()];
        for (number, &at) in order.iter().enumerate() {
            map[at as usize] = number as u32;
        }
        Numbering {
            ids: Ids::Memory(table),
            order,
            maps: vec![map],
            counts,
        }
    }

    fn merged(runs: Vec<Run>, folder: &Path) -> Result<Numbering> {
        let mut maps: Vec<Vec<u32>> = runs.iter().map(|run| vec![0; run.len]).collect();
        let mut heads = Vec::new();
        for run in runs {
            let mut reader = RunReader {
                input: BufReader::new(run.file),
                left: run.len,
                id: Vec::new(),
                count: 0,
                number: 0,
            };
            let alive = reader.advance()?;
            heads.push(alive.then_some(reader));
        }
        let path = folder.join("ids");
        let mut out = BufWriter::new(DiskFile::create(&path).at(&path)?);
        let (mut by_id, mut ends, mut end) = (Vec::new(), Vec::new(), 0);
        // Generations are few (a table is a large share of the budget), so a linear look at the heads will do.
        while let Some(least) = heads.iter().flatten().map(|head| &head.id).min() {
            let id = least.clone();
            let mut count = 0;
            for (head, map) in heads.iter_mut().zip(&mut maps) {
                if let Some(reader) = head.as_mut().filter(|reader| reader.id == id) {
                    count += reader.count;
                    map[reader.number as usize] = by_id.len() as u32;
                    if !reader.advance()? {
                        *head = None;
                    }
                }
            }
            out.write_all(&id)?;
            end += id.len() as u64;
            ends.push(end);
            by_id.push(count);
            if by_id.len() > u32::MAX as usize {
                return Err(Error::new(ErrorKind::BadInput, "more than 2^32 ids"));
            }
        }
        let order = by_popularity(&by_id);
        let mut number_of = vec![0; order.len()];
        for (number, &at) in order.iter().enumerate() {
            number_of[at as usize] = number as u32;
        }
        for at in maps.iter_mut().flatten() {
            *at = number_of[*at as usize];
        }
        let file = out.into_inner().map_err(|e| Error::from(e.into_error()))?;
        // The map keeps the file's bytes after its name is gone.
        let map = Mapping::open(&path)?;
        file.remove().at(&path)?;
        Ok(Numbering {
            ids: Ids::File { map, ends },
            counts: order.iter().map(|&at| by_id[at as usize]).collect(),
            order,
            maps,
        })
    }

    /// How many distinct ids.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Final numbers by the provisional ones of a generation.
    pub fn map(&self, generation: usize) -> &[u32] {
        &self.maps[generation]
    }

    /// Ratings read of each id, by final number: never ascending.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// The id of a final number.
    pub fn id(&self, number: u32) -> &str {
        let at = self.order[number as usize] as usize;
        let id = match &self.ids {
            Ids::Memory(table) => table.id(at as u32),
            Ids::File { map, ends } => {
                let start = if at == 0 { 0 } else { ends[at - 1] };
                &map.bytes()[start as usize..ends[at] as usize]
            }
        };
        std::str::from_utf8(id).expect("ids are checked when they are read")
    }

    /// Memory that the numbering takes, in bytes, beyond its ids.
    pub fn memory(&self) -> u64 {
        let provisional: usize = self.maps.iter().map(Vec::len).sum();
        let ids = match &self.ids {
            Ids::Memory(table) => table.memory(),
            Ids::File { ends, .. } => ends.len() as u64 * 8,
        };
        (provisional * 4 + self.order.len() * 12) as u64 + ids
    }
}

/// Positions by descending count, ties in the order they stand in.
fn by_popularity(counts: &[u64]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..counts.len() as u32).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(counts[at as usize]));
    order
}

/// Reads a run, one id after the other.
struct RunReader {
    input: BufReader<DiskFile>,
    left: usize,
    id: Vec<u8>,
    count: u64,
    number: u32,
}

impl RunReader {
    /// Reads the next id; false at the end.
    fn advance(&mut self) -> Result<bool> {
        if self.left == 0 {
            return Ok(false);
        }
        self.left -= 1;
        let (mut four, mut eight) = ([0; 4], [0; 8]);
        self.input.read_exact(&mut four)?;
        self.id.resize(u32::from_le_bytes(four) as usize, 0);
        self.input.read_exact(&mut self.id)?;
        self.input.read_exact(&mut eight)?;
        self.count = u64::from_le_bytes(eight);
        self.input.read_exact(&mut four)?;
        self.number = u32::from_le_bytes(four);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers ids, closing a generation after every `per_generation` ids; the final number of every occurrence.
    fn number(ids: &[String], per_generation: usize) -> (Vec<u32>, Vec<u64>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let mut generations = Generations::default();
        let mut seen = Vec::new();
        for id in ids {
            let number = generations.open.intern(id.as_bytes());
            generations.open.count(number);
            seen.push((generations.current(), number));
            if generations.open.len() == per_generation {
                generations.close(folder.path()).unwrap();
            }
        }
        let numbering = generations.finish(folder.path()).unwrap();
        let numbers = seen
            .iter()
            .map(|&(generation, n)| numbering.map(generation)[n as usize])
            .collect();
        let counts = numbering.counts().to_vec();
        let name = |n| numbering.id(n).to_owned();
        let names = (0..numbering.len() as u32).map(name).collect();
        (numbers, counts, names)
    }

    #[test]
    fn spilled_generations_number_as_one_table_does() {
        let ids: Vec<String> = (0_u32..5000)
            .map(|i| format!("id{}", (i.wrapping_mul(2_654_435_761) >> 20) % 700))
            .collect();
        let (numbers, counts, names) = number(&ids, usize::MAX);
        assert!(counts.is_sorted_by(|a, b| a >= b));
        assert_eq!(counts.iter().sum::<u64>(), 5000);
        for (id, &n) in ids.iter().zip(&numbers) {
            assert_eq!(&names[n as usize], id);
        }
        let ties = |w: &[usize]| counts[w[0]] != counts[w[1]] || names[w[0]] < names[w[1]];
        assert!((1..names.len()).all(|i| ties(&[i - 1, i])));
        for per_generation in [1, 2, 99, 650] {
            assert_eq!(
                number(&ids, per_generation),
                (numbers.clone(), counts.clone(), names.clone())
            );
        }
    }
}
