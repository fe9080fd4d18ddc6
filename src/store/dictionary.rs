//! Dictionaries: the external ids of one side by dense number, and back, straight off the map.
//!
//! Sections: `offsets` (u64, one more than there are ids) into `ids` (UTF-8, end to end), and `sorted` (u32), the dense
//! numbers in the order of their ids' bytes, for binary search. With titles also `toffsets` and `titles`, an empty title
//! standing for none.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::container::{Container, Seal};
use super::header::Kind;
use super::writer::{ContainerWriter, Sink};
use crate::error::{AtPath, Error, ErrorKind, Result};
use crate::matrix::Side;

const OFFSETS: &str = "offsets";
const IDS: &str = "ids";
const SORTED: &str = "sorted";
const TITLE_OFFSETS: &str = "toffsets";
const TITLES: &str = "titles";

/// What a dictionary is written from.
pub trait IdSource {
    /// Whose ids they are.
    fn side(&self) -> Side;

    /// How many ids.
    fn rows(&self) -> u32;

    /// Hands on all ids, in order of their numbers; asked for twice.
    ///
    /// # Errors
    /// If they cannot be had, and what `visit` gives.
    fn ids(&self, visit: &mut dyn FnMut(&str) -> Result<()>) -> Result<()>;

    /// Whether any id has a title.
    fn has_titles(&self) -> bool;

    /// Hands on all titles, in order of numbers, an empty one where there is none; asked for twice, if there are any at all.
    ///
    /// # Errors
    /// If they cannot be had, and what `visit` gives.
    fn titles(&self, visit: &mut dyn FnMut(&str) -> Result<()>) -> Result<()>;

    /// Hands on all numbers, in order of their ids' bytes.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] if two of them have the same id; if they cannot be had, and what `visit` gives.
    fn sorted(&mut self, visit: &mut dyn FnMut(u32) -> Result<()>) -> Result<()>;
}

/// Ids and titles that are at hand by number. Sorting takes 16 bytes of memory an id.
pub struct HeldIds<'a, I: Fn(u32) -> &'a str, T: Fn(u32) -> &'a str> {
    /// Whose they are.
    pub side: Side,
    /// How many.
    pub rows: u32,
    /// The id of a number.
    pub id: I,
    /// The title of a number, if any has one.
    pub title: Option<T>,
}

impl<'a, I: Fn(u32) -> &'a str, T: Fn(u32) -> &'a str> IdSource for HeldIds<'a, I, T> {
    fn side(&self) -> Side {
        self.side
    }

    fn rows(&self) -> u32 {
        self.rows
    }

    fn ids(&self, visit: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
        (0..self.rows).try_for_each(|row| visit((self.id)(row)))
    }

    fn has_titles(&self) -> bool {
        self.title.is_some()
    }

    fn titles(&self, visit: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
        let titles = self.title.iter();
        titles
            .flat_map(|title| (0..self.rows).map(title))
            .try_for_each(visit)
    }

    fn sorted(&mut self, visit: &mut dyn FnMut(u32) -> Result<()>) -> Result<()> {
        let id = &self.id;
        let sorted = sorted_ids(self.rows, |row| id(row).as_bytes());
        let twice = |pair: &&[(u64, u32)]| pair[0].0 == pair[1].0 && id(pair[0].1) == id(pair[1].1);
        if let Some(twice) = sorted.windows(2).find(twice) {
            let id = id(twice[0].1);
            let message = format!("the {} id \"{id}\" occurs twice", self.side.noun());
            return Err(Error::new(ErrorKind::BadInput, message));
        }
        sorted.into_iter().try_for_each(|(_, row)| visit(row))
    }
}

/// Writes a dictionary into an empty sink; `path` is what errors name.
///
/// # Errors
/// What the source gives, or if the sink fails.
pub fn write_dictionary(sink: impl Sink, path: &Path, mut ids: impl IdSource) -> Result<Seal> {
    let (side, rows, titles) = (ids.side(), ids.rows(), ids.has_titles());
    let sections = if titles { 5 } else { 3 };
    let mut file = ContainerWriter::new(sink, path, Kind::Dictionary, sections)?;
    write_strings(&mut file, OFFSETS, IDS, |visit| ids.ids(visit))?;
    file.section(SORTED)?;
    ids.sorted(&mut |row| file.write_numbers(&[row]))?;
    if titles {
        write_strings(&mut file, TITLE_OFFSETS, TITLES, |visit| ids.titles(visit))?;
    }
    file.finish([u64::from(rows), 0, 0], [side as u32, 0])
}

/// The first bytes of each of so many ids, and its number, in order of the ids' bytes.
pub fn sorted_ids<'a>(ids: u32, id: impl Fn(u32) -> &'a [u8]) -> Vec<(u64, u32)> {
    // Few ids agree in their first eight bytes, so that hardly any comparison has to look for them.
    let mut sorted: Vec<(u64, u32)> = (0..ids).map(|row| (prefix(id(row)), row)).collect();
    sorted.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| id(a.1).cmp(id(b.1))));
    sorted
}

/// The first eight bytes of a key as a number, of the same order.
pub fn prefix(key: &[u8]) -> u64 {
    let mut first = [0; 8];
    let length = key.len().min(8);
    first[..length].copy_from_slice(&key[..length]);
    u64::from_le_bytes(first).swap_bytes()
}

/// Writes strings that `pass` hands on, each time the same ones.
fn write_strings<S: Sink>(
    file: &mut ContainerWriter<S>,
    offsets: &str,
    strings: &str,
    pass: impl Fn(&mut dyn FnMut(&str) -> Result<()>) -> Result<()>,
) -> Result<()> {
    file.section(offsets)?;
    let mut end = 0_u64;
    file.write_numbers(&[end])?;
    pass(&mut |string| {
        end += string.len() as u64;
        file.write_numbers(&[end])
    })?;
    file.section(strings)?;
    pass(&mut |string| file.write(string.as_bytes()))
}

/// The external ids of one side, and their titles if there are any.
#[derive(Debug)]
pub struct Dictionary {
    container: Container,
    side: Side,
    rows: usize,
}

impl Dictionary {
    /// Opens a dictionary and checks its checksums: it is small beside the ratings, and whoever opens it goes on to read
    /// most of it. Random starts hang on ids, so that a wrong one would quietly make another model.
    ///
    /// # Errors
    /// As [`Container::open`], and [`ErrorKind::Damaged`] if a byte is altered.
    pub fn open(path: impl Into<PathBuf>) -> Result<Dictionary> {
        let container = Container::open(path, Kind::Dictionary)?;
        container.verify_in_passing()?;
        let header = container.header();
        let damaged = |what: &str| Error::damaged(container.path(), 0, what);
        let rows = u32::try_from(header.counts[0])
            .map_err(|_| damaged("more rows than can be numbered"))? as usize;
        let side = *[Side::Users, Side::Items]
            .get(header.codes[0] as usize)
            .ok_or_else(|| damaged("neither of users nor of items"))?;
        let dictionary = Dictionary {
            side,
            rows,
            container,
        };
        dictionary.strings(OFFSETS, IDS)?;
        if dictionary.sorted()?.len() != rows {
            return Err(dictionary.damaged(SORTED, "not one number for each id"));
        }
        if dictionary.has_titles() {
            dictionary.strings(TITLE_OFFSETS, TITLES)?;
        }
        Ok(dictionary)
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        self.container.path()
    }

    /// Length and checksum of the file.
    pub fn seal(&self) -> Seal {
        self.container.seal()
    }

    /// Whose ids these are.
    pub fn side(&self) -> Side {
        self.side
    }

    /// How many ids.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are no ids at all.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Whether there are titles.
    pub fn has_titles(&self) -> bool {
        self.container.has(TITLES)
    }

    /// Starts reading the ids of these rows into memory, without waiting for them.
    pub fn will_need(&self, rows: Range<usize>) {
        let (Some(ends), Some(ids)) = (self.container.range(OFFSETS), self.container.range(IDS))
        else {
            return;
        };
        let mapping = self.container.mapping();
        let end_of = |row: usize| ends.start + size_of::<u64>() as u64 * row as u64;
        mapping.will_need_range(end_of(rows.start)..end_of(rows.end + 1));
        if let Ok(strings) = self.strings(OFFSETS, IDS)
            && let Some(ends) = strings.ends.get(rows.start..=rows.end)
        {
            let id = |end: u64| ids.start.saturating_add(end);
            mapping.will_need_range(id(ends[0])..id(ends[rows.len()]));
        }
    }

    /// Gives back the memory that the dictionary takes. It is read from disk again when it is next looked at.
    pub fn release(&self) {
        self.container.mapping().release();
    }

    /// The id of a row.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] if there is no such row or its bytes are not text.
    pub fn id(&self, row: usize) -> Result<&str> {
        self.text(self.strings(OFFSETS, IDS)?, row, IDS)
    }

    /// The title of a row, if it has one.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] if there is no such row or its bytes are not text.
    pub fn title(&self, row: usize) -> Result<Option<&str>> {
        if !self.has_titles() {
            return Ok(None);
        }
        let title = self.text(self.strings(TITLE_OFFSETS, TITLES)?, row, TITLES)?;
        Ok(Some(title).filter(|title| !title.is_empty()))
    }

    /// The row of an id, if the dictionary has it.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] if the search leads nowhere.
    pub fn lookup(&self, id: &str) -> Result<Option<u32>> {
        let ids = self.strings(OFFSETS, IDS)?;
        let sorted = self.sorted()?;
        let (mut low, mut high) = (0, sorted.len());
        while low < high {
            let middle = low.midpoint(high);
            let row = sorted[middle];
            match self.bytes(ids, row as usize, IDS)?.cmp(id.as_bytes()) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok(Some(row)),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Ok(None)
    }

    /// The rows whose title is this text; if there are none, those where it is but for upper and lower case; else those
    /// that contain it, whatever the case.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] if a title is not text.
    pub fn find_title(&self, text: &str) -> Result<Vec<u32>> {
        let lower = text.to_lowercase();
        let (mut equal, mut alike, mut containing) = (Vec::new(), Vec::new(), Vec::new());
        for row in 0..self.rows {
            let Some(title) = self.title(row)? else {
                continue;
            };
            let folded = title.to_lowercase();
            if title == text {
                equal.push(row as u32);
            } else if folded == lower {
                alike.push(row as u32);
            } else if folded.contains(&lower) {
                containing.push(row as u32);
            }
        }
        Ok([equal, alike, containing]
            .into_iter()
            .find(|rows| !rows.is_empty())
            .unwrap_or_default())
    }

    /// Writes the same bytes into an empty sink: a model keeps the dictionaries of its store. `path` is what errors name.
    pub fn copy_to(&self, mut sink: impl Sink, path: &Path) -> Result<Seal> {
        self.container.verify_in_passing()?;
        let whole = 0..self.seal().bytes;
        let copy = |bytes: &[u8]| sink.write_all(bytes).at(path);
        self.container
            .mapping()
            .stream(whole, Container::PIECE, copy)?;
        sink.sync().at(path)?;
        self.release();
        Ok(self.seal())
    }

    /// Checks every byte, that all text is UTF-8, and that the order is right and free of duplicates.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`], naming the section.
    pub fn verify(&self) -> Result<()> {
        self.container.verify_in_passing()?;
        let ids = self.strings(OFFSETS, IDS)?;
        for row in 0..self.rows {
            self.text(ids, row, IDS)?;
            self.title(row)?;
        }
        // Ids that ascend strictly are all different, and so are their rows: n of them below n are a permutation.
        let mut last = None;
        for &row in self.sorted()? {
            let id = Some(self.bytes(ids, row as usize, IDS)?);
            if last >= id {
                return Err(self.damaged(SORTED, "ids out of order"));
            }
            last = id;
        }
        Ok(())
    }

    fn sorted(&self) -> Result<&[u32]> {
        self.container.slice(SORTED)
    }

    /// Offsets and bytes of all strings of one sort.
    fn strings(&self, offsets: &str, strings: &str) -> Result<Strings<'_>> {
        let ends: &[u64] = self.container.slice(offsets)?;
        let bytes: &[u8] = self.container.slice(strings)?;
        if ends.len() != self.rows + 1
            || ends.first() != Some(&0)
            || ends.last() != Some(&(bytes.len() as u64))
        {
            return Err(self.damaged(offsets, "offsets do not span the text"));
        }
        Ok(Strings { ends, bytes })
    }

    fn bytes<'a>(&self, strings: Strings<'a>, row: usize, section: &str) -> Result<&'a [u8]> {
        strings
            .get(row)
            .ok_or_else(|| self.damaged(section, format!("row {row} is not there")))
    }

    fn text<'a>(&self, strings: Strings<'a>, row: usize, section: &str) -> Result<&'a str> {
        std::str::from_utf8(self.bytes(strings, row, section)?)
            .map_err(|_| self.damaged(section, format!("row {row} is not UTF-8")))
    }

    fn damaged(&self, section: &str, what: impl Into<String>) -> Error {
        let start = self.container.range(section).map_or(0, |range| range.start);
        Error::damaged(self.path(), start, what)
    }
}

/// Strings end to end; string `i` lies between the offsets `i` and `i + 1`.
#[derive(Debug, Clone, Copy)]
struct Strings<'a> {
    ends: &'a [u64],
    bytes: &'a [u8],
}

impl<'a> Strings<'a> {
    fn get(self, row: usize) -> Option<&'a [u8]> {
        let start = usize::try_from(*self.ends.get(row)?).ok()?;
        let end = usize::try_from(*self.ends.get(row + 1)?).ok()?;
        self.bytes.get(start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::super::disk::DiskFile;
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn dictionary(ids: &[&str], titles: Option<&[&str]>) -> (tempfile::TempDir, Dictionary) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("items.dict");
        let sink = DiskFile::create(&path).unwrap();
        let seal = write_dictionary(
            sink,
            &path,
            HeldIds {
                side: Side::Items,
                rows: ids.len() as u32,
                id: |row| ids[row as usize],
                title: titles.map(|titles| |row: u32| titles[row as usize]),
            },
        )
        .unwrap();
        let dictionary = Dictionary::open(path).unwrap();
        assert_eq!(dictionary.seal(), seal);
        (dir, dictionary)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn lookup_agrees_with_a_hash_map(
            ids in proptest::collection::hash_set("\\PC{0,6}", 0..40),
            others in proptest::collection::vec("\\PC{0,6}", 0..40),
        ) {
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            let twin: HashMap<&str, u32> = ids.iter().copied().zip(0..).collect();
            let (_dir, dictionary) = dictionary(&ids, None);
            dictionary.verify().unwrap();
            prop_assert_eq!(dictionary.len(), ids.len());
            for (row, &id) in ids.iter().enumerate() {
                prop_assert_eq!(dictionary.id(row).unwrap(), id);
                prop_assert_eq!(dictionary.title(row).unwrap(), None);
            }
            for id in ids.iter().copied().chain(others.iter().map(String::as_str)) {
                prop_assert_eq!(dictionary.lookup(id).unwrap(), twin.get(id).copied());
            }
        }
    }

    #[test]
    fn titles_are_found_by_the_closest_match() {
        let titles = ["Heat", "HEAT", "heat", "", "Heathers", "Été"];
        let (_dir, dictionary) =
            dictionary(&["10", "9", "x", "y", "z", "Ω"], Some(titles.as_slice()));
        dictionary.verify().unwrap();
        assert_eq!(dictionary.side(), Side::Items);
        assert!(dictionary.has_titles());
        assert_eq!(dictionary.title(0).unwrap(), Some("Heat"));
        assert_eq!(dictionary.title(3).unwrap(), None);
        let find = |text| dictionary.find_title(text).unwrap();
        assert_eq!(find("heat"), [2]);
        assert_eq!(find("hEAt"), [0, 1, 2]);
        assert_eq!(find("eath"), [4]);
        assert_eq!(find("été"), [5]);
        assert_eq!(find("nothing"), [0; 0]);
    }

    #[test]
    fn the_same_id_twice_is_refused() {
        let error = write_dictionary(
            DiskFile::create(&tempfile::tempdir().unwrap().path().join("d")).unwrap(),
            Path::new("d"),
            HeldIds {
                side: Side::Users,
                rows: 2,
                id: |_| "ann",
                title: None::<fn(u32) -> &'static str>,
            },
        )
        .unwrap_err();
        assert_eq!(error.to_string(), "the user id \"ann\" occurs twice");
    }

    #[test]
    fn a_row_that_is_not_there_is_an_error() {
        let (_dir, dictionary) = dictionary(&["a"], None);
        let error = dictionary.id(1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        assert!(dictionary.id(usize::MAX).is_err());
    }

    #[test]
    fn a_copy_is_the_same_file() {
        let (dir, dictionary) = dictionary(&["a", "b"], Some(&["A", "B"]));
        let path = dir.path().join("copy");
        let seal = dictionary
            .copy_to(DiskFile::create(&path).unwrap(), &path)
            .unwrap();
        assert_eq!(Dictionary::open(&path).unwrap().seal(), seal);
        assert_eq!(
            std::fs::read(path).unwrap(),
            std::fs::read(dictionary.path()).unwrap()
        );
    }
}
