//! The rows of a packed shard while they come in, and the shard's sections.

use std::ops::Range;
use std::path::Path;

use super::container::{Container, Seal};
use super::header::{ALIGNMENT, HEADER_BYTES, Kind, table_bytes};
use super::writer::ContainerWriter;
use crate::error::{Error, Result};
use crate::matrix::Codebook;
use crate::matrix::{PackedRows, PackedValues, pack_ids, pack_starts};

const GROUPS: &str = "groups";
const STARTS: &str = "starts";
const IDS: &str = "ids";
const CODES: &str = "codes";
const CODEBOOK: &str = "codebook";
const VALUES: &str = "values";

/// Entries of a codebook for codes of four bits, and of eight.
const SMALL: usize = 16;
const LARGE: usize = 256;

/// Rows that are packed as they come.
#[derive(Debug)]
pub struct Packing {
    /// Ratings and bytes of each row.
    rows: Vec<(u32, u32)>,
    ids: Vec<u8>,
    codebook: Codebook,
    /// A code for each rating, as long as the codebook has room.
    codes: Vec<u8>,
    /// The values, if it has not.
    values: Vec<f32>,
}

impl Packing {
    /// No rows.
    pub fn new() -> Packing {
        Packing {
            rows: Vec::new(),
            ids: Vec::new(),
            codebook: Codebook::default(),
            codes: Vec::new(),
            values: Vec::new(),
        }
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// How many ratings.
    pub fn ratings(&self) -> usize {
        self.codes.len() + self.values.len()
    }

    /// Appends a row of ascending columns, unless that makes a shard of more than `most` bytes of the rows that are here
    /// already, or one that cannot count its ratings or bytes in 32 bits. Says whether it did.
    pub fn push_row(&mut self, cols: &[u32], values: &[f32], most: u64) -> bool {
        let (bytes, known) = (self.ids.len(), self.codebook.values().len());
        pack_ids(cols, &mut self.ids);
        let coded = self.codes.len();
        if self.values.is_empty() {
            self.codes
                .extend(values.iter().map_while(|&value| self.codebook.code(value)));
        }
        let fits_codes = self.codes.len() == coded + values.len();
        let ratings = coded + self.values.len() + values.len();
        let counted = ratings.max(self.ids.len()) < u32::MAX as usize;
        let size = file_bytes(
            self.rows.len() + 1,
            ratings,
            self.ids.len(),
            fits_codes.then_some(self.codebook.values().len()),
        );
        if !self.rows.is_empty() && (size > most || !counted) {
            self.ids.truncate(bytes);
            self.codes.truncate(coded);
            self.codebook.truncate(known);
            return false;
        }
        if !fits_codes {
            self.codes.truncate(coded);
            let decoded = self.codes.drain(..);
            let book = self.codebook.values();
            self.values
                .extend(decoded.map(|code| book[usize::from(code)]));
            self.values.extend_from_slice(values);
        }
        self.rows
            .push((values.len() as u32, (self.ids.len() - bytes) as u32));
        true
    }

    /// Writes a shard of these rows, and forgets them.
    pub fn write(&mut self, path: &Path, first_row: u64, codes: [u32; 2]) -> Result<Seal> {
        let coded = self.values.is_empty();
        let mut file = ContainerWriter::create(path, Kind::Shard, if coded { 5 } else { 4 })?;
        let (groups, starts) = pack_starts(&self.rows);
        file.section(GROUPS)?;
        file.write_numbers(&groups)?;
        file.section(STARTS)?;
        file.write_numbers(&starts)?;
        file.section(IDS)?;
        file.write(&self.ids)?;
        if coded {
            let sorted = self.codebook.sorted();
            let values = self.codebook.values().iter();
            let places = values.map(|&value| sorted.find(value).expect("the same values"));
            let places: Vec<u8> = places.collect();
            let place = |code: u8| places[usize::from(code)];
            let mut sorted = sorted.values().to_vec();
            file.section(CODES)?;
            if sorted.len() <= SMALL {
                let pairs = self.codes.chunks(2);
                let byte =
                    |pair: &[u8]| place(pair[0]) | pair.get(1).map_or(0, |&high| place(high) << 4);
                let bytes: Vec<u8> = pairs.map(byte).collect();
                file.write(&bytes)?;
            } else {
                self.codes.iter_mut().for_each(|code| *code = place(*code));
                file.write(&self.codes)?;
            }
            // Every code stands for a value of the shard, whatever happens to its bits.
            let last = sorted.last().copied().unwrap_or(0.0);
            sorted.resize(codebook_len(sorted.len()), last);
            file.section(CODEBOOK)?;
            file.write_numbers(&sorted)?;
        } else {
            file.section(VALUES)?;
            file.write_numbers(&self.values)?;
        }
        let counts = [first_row, self.rows() as u64, self.ratings() as u64];
        let seal = file.finish(counts, codes)?;
        self.rows.clear();
        self.ids.clear();
        self.codebook.truncate(0);
        self.codes.clear();
        self.values.clear();
        Ok(seal)
    }
}

/// Where the packed columns lie: behind all that tells where rows start.
pub fn columns(container: &Container) -> Option<Range<u64>> {
    container.range(IDS)
}

/// The rows of a packed shard.
pub fn view(container: &Container) -> Result<PackedRows<'_>> {
    let values = if container.has(VALUES) {
        PackedValues::Plain(container.slice(VALUES)?)
    } else {
        let codebook: &[f32] = container.slice(CODEBOOK)?;
        let codes = container.slice(CODES)?;
        if let Ok(codebook) = codebook.try_into() {
            PackedValues::Nibbles(codes, codebook)
        } else if let Ok(codebook) = codebook.try_into() {
            PackedValues::Bytes(codes, codebook)
        } else {
            let at = container.range(CODEBOOK).map_or(0, |range| range.start);
            let message = format!("a codebook of {} values", codebook.len());
            return Err(Error::damaged(container.path(), at, message));
        }
    };
    PackedRows::new(
        container.header().counts[1] as usize,
        container.slice(GROUPS)?,
        container.slice(STARTS)?,
        container.slice(IDS)?,
        values,
    )
    .map_err(|e| {
        let groups = container.range(GROUPS);
        e.path(container.path())
            .offset(groups.map_or(0, |range| range.start))
    })
}

/// Entries of the codebook for so many different values.
fn codebook_len(values: usize) -> usize {
    if values <= SMALL { SMALL } else { LARGE }
}

/// The most bytes of a shard's file with so many rows and ratings, bytes of packed columns and different values.
pub fn file_bytes(rows: usize, ratings: usize, id_bytes: usize, different: Option<usize>) -> u64 {
    let section = |bytes: usize| (bytes as u64).next_multiple_of(ALIGNMENT);
    let values = match different {
        Some(n) if n <= SMALL => section(ratings.div_ceil(2)) + section(4 * SMALL),
        Some(_) => section(ratings) + section(4 * LARGE),
        None => section(4 * ratings),
    };
    // Sixteen bytes for each group of 64 rows and the end, at most eight for the start of a row.
    HEADER_BYTES as u64
        + table_bytes(5)
        + section(16 * (rows.div_ceil(64) + 1))
        + section(8 * rows)
        + section(id_bytes)
        + values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::RowScratch;
    use crate::store::container::sparse::{self, Hollow};

    /// Nearly as many ratings, and bytes of columns, as a shard can count; only the last two rows have content.
    #[test]
    fn rows_are_found_behind_four_billion_ratings() {
        const RATINGS: u64 = u32::MAX as u64 - 5;
        const ID_BYTES: u64 = u32::MAX as u64 - 100;
        let (mut ids, mut rows) = (Vec::new(), vec![(0, 0); 62]);
        pack_ids(&[1, 8, 900], &mut ids);
        let first = ids.len();
        pack_ids(&[0, 7], &mut ids);
        rows.push((RATINGS as u32 - 5, ID_BYTES as u32 - ids.len() as u32));
        rows.push((3, first as u32));
        rows.push((2, (ids.len() - first) as u32));
        let (groups, starts) = pack_starts(&rows);
        let groups: Vec<u8> = groups.iter().flat_map(|x| x.to_le_bytes()).collect();
        let starts: Vec<u8> = starts.iter().flat_map(|x| x.to_le_bytes()).collect();
        let codebook: Vec<u8> = (0..16_u8)
            .flat_map(|x| f32::from(x).to_le_bytes())
            .collect();
        // The last five of an even number of ratings: one is the upper half of a byte.
        let codes = [0x50, 0x76, 0x98];
        let section = |name, length, end| Hollow { name, length, end };
        let whole = |name, bytes| section(name, Vec::len(bytes) as u64, bytes);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0");
        sparse::write(
            &path,
            Kind::Shard,
            [0, rows.len() as u64, RATINGS],
            &[
                whole(GROUPS, &groups),
                whole(STARTS, &starts),
                section(IDS, ID_BYTES, &ids),
                section(CODES, RATINGS / 2, &codes),
                whole(CODEBOOK, &codebook),
            ],
        );
        let container = Container::open(&path, Kind::Shard).unwrap();
        let view = view(&container).unwrap();
        assert_eq!(view.ratings() as u64, RATINGS);
        assert_eq!(view.row_len(62) as u64, RATINGS - 5);
        let scratch = &mut RowScratch::default();
        let row = view.decode(63, scratch);
        assert_eq!(
            (row.cols, row.values),
            (&[1, 8, 900][..], &[5.0, 6.0, 7.0][..])
        );
        let row = view.decode(64, scratch);
        assert_eq!((row.cols, row.values), (&[0, 7][..], &[8.0, 9.0][..]));
    }
}
