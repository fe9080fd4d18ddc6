//! The final numbers of ids: by descending popularity, ties by the bytes of the id.
//!
//! Nothing here grows with the number of ids. The runs of all generations are merged by id, which gives each distinct id its
//! count, its place in the order of ids, and where it is used: its provisional number in each generation that has it. Sorted
//! once more, by popularity, these come in the order of their final numbers. A number then goes three ways: with the id to a
//! file in that order; to the band of the id's place, for a dictionary's order of ids; and to each generation that uses it.

use std::path::Path;

use super::runs::{RecordFile, RecordReader, Runs, Sorter};
use super::sort::Record;
use super::spill::Spill;
use crate::error::{Error, ErrorKind, Result};
use crate::rng::key;

/// Bytes of ids that are read at once.
const PIECE: usize = 64 << 10;

/// The final numbers of one side, in three forms.
#[derive(Debug)]
pub struct Numbering {
    /// The ids by number.
    pub ids: NumberedIds,
    /// The numbers by id.
    pub sorted: SortedNumbers,
    /// The numbers by provisional ones.
    pub maps: Maps,
}

/// What a generation says of an id: how many ratings, and where it is used.
pub(super) fn use_of(count: u64, generation: usize, number: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&count.to_le_bytes());
    bytes[8..12].copy_from_slice(&(generation as u32).to_le_bytes());
    bytes[12..].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// A count as bytes of which those of a larger count come first.
fn descending(count: u64) -> [u8; 8] {
    (!count).swap_bytes().to_le_bytes()
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("four bytes"))
}

impl Numbering {
    /// Numbers the ids of all generations, a run of `generations` each, within twice `memory` bytes, of which three quarters
    /// stay in use.
    ///
    /// # Errors
    /// If there are more than 2^32 ids, or they cannot be spilled.
    pub fn new(generations: Runs, memory: u64, folder: &Path) -> Result<Numbering> {
        let mut maps = Maps::new(generations.len(), memory / 4, folder);
        let mut by_id = generations.merged()?;
        let mut by_popularity = Sorter::new(folder, memory / 2)?;
        // The id at hand with its length before it, and behind it its place and uses. Equal counts stay in the order of ids.
        let (mut at_hand, mut length) = (Vec::new(), 0);
        let (mut count, mut places) = (0_u64, 0_u64);
        while let Some((id, of_generation)) = by_id.next_record()? {
            let (more, used) = of_generation.split_at(8);
            if places == 0 || at_hand[4..4 + length] != *id {
                if places > 0 {
                    by_popularity.push(&descending(count), &at_hand)?;
                }
                let Ok(place) = u32::try_from(places) else {
                    return Err(Error::new(ErrorKind::BadInput, "more than 2^32 ids"));
                };
                length = id.len();
                at_hand.clear();
                at_hand.extend_from_slice(&(length as u32).to_le_bytes());
                at_hand.extend_from_slice(id);
                at_hand.extend_from_slice(&place.to_le_bytes());
                (count, places) = (0, places + 1);
            }
            count += u64::from_le_bytes(more.try_into().expect("eight bytes"));
            at_hand.extend_from_slice(used);
        }
        if places > 0 {
            by_popularity.push(&descending(count), &at_hand)?;
        }
        drop(by_id);
        let mut sorted = SortedNumbers::new(places as usize, memory / 4, folder);
        let mut ids = NumberedIds::new(folder, memory)?;
        let mut by_popularity = by_popularity.finish()?;
        for number in 0.. {
            let Some((count, used)) = by_popularity.next_record()? else {
                break;
            };
            let count = !u64::from_le_bytes(count.try_into().expect("eight bytes")).swap_bytes();
            let (length, used) = used.split_at(4);
            let (id, used) = used.split_at(word(length) as usize);
            let (place, uses) = used.split_at(4);
            ids.push(id, count)?;
            sorted.insert(word(place), number)?;
            for used in uses.chunks_exact(8) {
                maps.insert(word(&used[..4]), word(&used[4..]), number)?;
            }
        }
        ids.file.flush()?;
        Ok(Numbering { ids, sorted, maps })
    }
}

/// Ids in order of their final numbers, with their numbers of ratings, in a file.
#[derive(Debug)]
pub struct NumberedIds {
    file: RecordFile,
    len: u32,
    ratings: u64,
}

impl NumberedIds {
    fn new(folder: &Path, memory: u64) -> Result<NumberedIds> {
        Ok(NumberedIds {
            file: RecordFile::new(folder, memory)?,
            len: 0,
            ratings: 0,
        })
    }

    fn push(&mut self, id: &[u8], count: u64) -> Result<()> {
        self.len += 1;
        self.ratings += count;
        self.file.append(id, &count.to_le_bytes())
    }

    /// How many distinct ids.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Ratings of all ids.
    pub fn ratings(&self) -> u64 {
        self.ratings
    }

    /// Visits each id with its number of ratings, which never ascends, in order of numbers.
    ///
    /// # Errors
    /// If the file cannot be read, and what `visit` gives.
    pub fn visit(&self, mut visit: impl FnMut(&str, u64) -> Result<()>) -> Result<()> {
        let mut reader = self.file.reader(PIECE);
        while reader.advance(&self.file)? {
            let id = std::str::from_utf8(reader.key()).expect("checked when it was read");
            let count = reader.value().try_into().expect("eight bytes");
            visit(id, u64::from_le_bytes(count))?;
        }
        Ok(())
    }

    /// The keys of the ids, in order of numbers.
    pub fn keys(&self) -> Keys<'_> {
        let reader = self.file.reader(PIECE);
        Keys { ids: self, reader }
    }
}

/// Keys of ids, which are read front to back.
#[derive(Debug)]
pub struct Keys<'a> {
    ids: &'a NumberedIds,
    reader: RecordReader,
}

impl Keys<'_> {
    /// The keys of the next so many ids, as many as there are.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn next_keys(&mut self, ids: usize) -> Result<Vec<u64>> {
        let mut keys = Vec::with_capacity(ids);
        while keys.len() < ids && self.reader.advance(&self.ids.file)? {
            keys.push(key(self.reader.key()));
        }
        Ok(keys)
    }
}

/// The numbers in order of their ids: a permutation that is turned round band by band.
#[derive(Debug)]
pub struct SortedNumbers {
    /// A record's row is the place, its column the number.
    bands: Spill<()>,
    /// Places of a band.
    band: usize,
    places: usize,
}

impl SortedNumbers {
    fn new(places: usize, memory: u64, folder: &Path) -> SortedNumbers {
        // Half of it for what waits, half for a band that is turned round.
        let of_place = (size_of::<Record<()>>() + size_of::<u32>()) as u64;
        let band = (memory / 2 / of_place).clamp(1, u64::from(u32::MAX)) as usize;
        SortedNumbers {
            bands: Spill::new(places.div_ceil(band), memory / 2, folder),
            band,
            places,
        }
    }

    fn insert(&mut self, place: u32, number: u32) -> Result<()> {
        let band = place as usize / self.band;
        self.bands.append(band, &[pair(place, number)])
    }

    /// Visits the numbers in order of their ids' bytes.
    ///
    /// # Errors
    /// If they cannot be read, and what `visit` gives.
    pub fn visit(&mut self, mut visit: impl FnMut(u32) -> Result<()>) -> Result<()> {
        for first in (0..self.places).step_by(self.band) {
            let pairs = self.bands.next_stream()?.records();
            let mut numbers = vec![0; pairs.len()];
            for Record { row, col, .. } in pairs {
                numbers[row as usize - first] = col;
            }
            numbers.into_iter().try_for_each(&mut visit)?;
        }
        Ok(())
    }
}

/// Final numbers by provisional ones, for each generation.
#[derive(Debug)]
pub struct Maps {
    /// A stream for each generation; a record's row is the provisional number, its column the final one.
    waiting: Spill<()>,
    /// Generations that were taken out, and the map of the last of them.
    taken: usize,
    map: Vec<u32>,
}

impl Maps {
    fn new(generations: usize, memory: u64, folder: &Path) -> Maps {
        Maps {
            waiting: Spill::new(generations, memory, folder),
            taken: 0,
            map: Vec::new(),
        }
    }

    fn insert(&mut self, generation: u32, provisional: u32, number: u32) -> Result<()> {
        let generation = generation as usize;
        self.waiting
            .append(generation, &[pair(provisional, number)])
    }

    /// Final numbers by the provisional ones of a generation, which is not before the one that was asked for last.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn of(&mut self, generation: usize) -> Result<&[u32]> {
        while self.taken <= generation {
            self.map = Vec::new();
            let pairs = self.waiting.next_stream()?.records();
            self.map.resize(pairs.len(), 0);
            for Record { row, col, .. } in pairs {
                self.map[row as usize] = col;
            }
            self.taken += 1;
        }
        Ok(&self.map)
    }
}

/// A pair of numbers as a record.
fn pair(row: u32, col: u32) -> Record<()> {
    Record {
        row,
        col,
        ..Record::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::dictionary::Generations;
    use super::*;

    /// What is known of all ids: the final number of every occurrence, counts, ids, and numbers by id.
    type Numbered = (Vec<u32>, Vec<u64>, Vec<String>, Vec<u32>);

    /// Numbers ids, closing a generation after every `per_generation` ids.
    fn number(ids: &[String], per_generation: usize, memory: u64) -> Numbered {
        let folder = tempfile::tempdir().unwrap();
        let mut generations = Generations::new(folder.path(), memory).unwrap();
        let mut seen = Vec::new();
        for id in ids {
            let number = generations.open.intern(id.as_bytes());
            generations.open.count(number);
            seen.push((generations.current(), number));
            if generations.open.len() == per_generation {
                generations.close().unwrap();
            }
        }
        let runs = generations.into_runs().unwrap();
        let mut numbering = Numbering::new(runs, memory, folder.path()).unwrap();
        let numbers = seen
            .iter()
            .map(|&(generation, n)| numbering.maps.of(generation).unwrap()[n as usize])
            .collect();
        let (mut counts, mut names, mut sorted) = (Vec::new(), Vec::new(), Vec::new());
        let visit = |id: &str, count| {
            names.push(id.to_owned());
            counts.push(count);
            Ok(())
        };
        numbering.ids.visit(visit).unwrap();
        assert_eq!(numbering.ids.len() as usize, names.len());
        assert_eq!(numbering.ids.ratings(), ids.len() as u64);
        let mut keys = numbering.ids.keys();
        let keys = [keys.next_keys(100), keys.next_keys(10_000)].map(Result::unwrap);
        assert!(
            keys.concat()
                .into_iter()
                .eq(names.iter().map(|id| key(id.as_bytes())))
        );
        let visit = |number| {
            sorted.push(number);
            Ok(())
        };
        numbering.sorted.visit(visit).unwrap();
        (numbers, counts, names, sorted)
    }

    #[test]
    fn generations_number_as_one_table_does_within_any_memory() {
        let ids: Vec<String> = (0_u32..5000)
            .map(|i| format!("id{}", (i.wrapping_mul(2_654_435_761) >> 20) % 700))
            .collect();
        let expected = number(&ids, usize::MAX, 1 << 24);
        let (numbers, counts, names, sorted) = &expected;
        assert!(counts.is_sorted_by(|a, b| a >= b));
        for (id, &n) in ids.iter().zip(numbers) {
            assert_eq!(names[n as usize], *id);
        }
        let ties = |i: usize| counts[i - 1] != counts[i] || names[i - 1] < names[i];
        assert!((1..names.len()).all(ties));
        assert!(sorted.is_sorted_by_key(|&n| &names[n as usize]));
        assert_eq!(sorted.len(), names.len());
        for (per_generation, memory) in [(1, 1 << 20), (2, 2000), (99, 0), (650, 10_000)] {
            assert_eq!(number(&ids, per_generation, memory), expected, "{memory}");
        }
    }
}
