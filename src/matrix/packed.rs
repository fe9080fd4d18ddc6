//! Rows in few bytes: columns as bit-packed gaps, values as codes of four or eight bits.
//!
//! Four arrays hold consecutive rows; `docs/format.md` draws them as sections of a shard.
//!
//! * `ids`: the columns of each row as [`unpack_ids`] takes them, the rows end to end.
//! * `groups` and `starts`: where each row starts, counted in ratings and in bytes of `ids`. A group of 64 rows has its
//!   two starts in full, and for each of its rows two differences to them, of as many bits as the largest takes.
//! * the values: codes into a codebook of 16 or 256 entries, or numbers where there are more different ones. The values
//!   of all rows follow each other without gaps.
//!
//! A row is found by two looks at the starts, and decoded into a scratch, all of it at once.

use super::{Row, RowScratch};
use crate::error::{Error, ErrorKind, Result};
use crate::kernel::{BLOCK, Isa, look_up, packed_ids_len, unpack_ids};

/// Rows that share a group.
const GROUP: usize = 64;

/// Numbers in a group: first rating, first byte, first word of its starts, and the bits of a start in ratings and in
/// bytes (the lowest two bytes of the fourth).
const GROUP_WORDS: usize = 4;

/// The ratings of packed rows.
#[derive(Debug, Clone, Copy)]
pub enum PackedValues<'a> {
    /// Two codes a byte, the lower four bits first, and what they stand for.
    Nibbles(&'a [u8], &'a [f32; 16]),
    /// One code a byte.
    Bytes(&'a [u8], &'a [f32; 256]),
    /// The values themselves.
    Plain(&'a [f32]),
}

/// Consecutive rows, packed.
#[derive(Debug, Clone, Copy)]
pub struct PackedRows<'a> {
    rows: usize,
    ratings: usize,
    groups: &'a [u32],
    starts: &'a [u64],
    ids: &'a [u8],
    values: PackedValues<'a>,
    isa: Isa,
}

impl<'a> PackedRows<'a> {
    /// Rows over arrays as described above. Checks their lengths; what is in them is looked at by
    /// [`check_groups`](PackedRows::check_groups) and [`check_row`](PackedRows::check_row).
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] if the arrays do not fit each other.
    pub fn new(
        rows: usize,
        groups: &'a [u32],
        starts: &'a [u64],
        ids: &'a [u8],
        values: PackedValues<'a>,
    ) -> Result<PackedRows<'a>> {
        let damaged = |what: &str| Err(Error::new(ErrorKind::Damaged, what));
        if groups.len() != (rows.div_ceil(GROUP) + 1) * GROUP_WORDS {
            return damaged("there are not as many groups as rows need");
        }
        let end = &groups[groups.len() - GROUP_WORDS..];
        let [ratings, id_bytes, words] = [end[0], end[1], end[2]].map(|x| x as usize);
        if id_bytes != ids.len() || words != starts.len() {
            return damaged("the groups do not span the packed columns");
        }
        let coded = match values {
            PackedValues::Nibbles(codes, _) => codes.len() == ratings.div_ceil(2),
            PackedValues::Bytes(codes, _) => codes.len() == ratings,
            PackedValues::Plain(values) => values.len() == ratings,
        };
        if !coded {
            return damaged("there are not as many values as columns");
        }
        Ok(PackedRows {
            rows,
            ratings,
            groups,
            starts,
            ids,
            values,
            isa: Isa::best(),
        })
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many ratings.
    pub fn ratings(&self) -> usize {
        self.ratings
    }

    /// Where row `i`, or the end for the number of rows, starts: in ratings and in bytes of `ids`. Never a panic for a row
    /// that exists: what is damaged gives a wrong place.
    #[inline]
    fn start(&self, i: usize) -> (usize, usize) {
        let group = &self.groups[i / GROUP * GROUP_WORDS..][..GROUP_WORDS];
        let (rating, byte) = (group[0] as usize, group[1] as usize);
        if i.is_multiple_of(GROUP) {
            return (rating, byte);
        }
        let (rating_bits, byte_bits) = (group[3] & 0x3f, group[3] >> 8 & 0x3f);
        let bit = i % GROUP * (rating_bits + byte_bits) as usize;
        let word = |at: usize| self.starts.get(at).copied().unwrap_or(0);
        let at = group[2] as usize + bit / 64;
        let both = (u128::from(word(at + 1)) << 64 | u128::from(word(at))) >> (bit % 64);
        let field = |shift: u32, bits: u32| (both >> shift) as usize & ((1 << bits) - 1);
        (
            rating + field(0, rating_bits),
            byte + field(rating_bits, byte_bits),
        )
    }

    /// Where row `i` ends.
    #[inline]
    fn end(&self, i: usize) -> (usize, usize) {
        match i + 1 {
            // The last group's rows may be fewer than a group: what follows them is the last entry.
            next if next == self.rows => self.start(self.rows.next_multiple_of(GROUP)),
            next => self.start(next),
        }
    }

    /// How many ratings row `i` has.
    pub fn row_len(&self, i: usize) -> usize {
        self.end(i).0.wrapping_sub(self.start(i).0)
    }

    /// Decodes row `i` into the scratch.
    ///
    /// # Panics
    /// If `i` is out of range, or [`check_row`](PackedRows::check_row) would have failed.
    pub fn decode<'s>(&self, i: usize, scratch: &'s mut RowScratch) -> Row<'s> {
        let ((first, byte), (end, byte_end)) = (self.start(i), self.end(i));
        let count = end - first;
        let (cols, values) = scratch.room(count);
        let cols = &mut cols[..count];
        // Bytes of later rows may be read along, and are not used.
        assert!(
            byte <= byte_end && byte_end <= self.ids.len(),
            "a row lies within its block"
        );
        unpack_ids(self.isa, &self.ids[byte..], cols);
        let values = match self.values {
            PackedValues::Nibbles(codes, codebook) => {
                // A row may start in the upper half of a byte: then the lower half comes along, and is left out.
                let odd = first % 2;
                let values = &mut values[..odd + count];
                look_up(
                    self.isa,
                    &codes[first / 2..end.div_ceil(2)],
                    codebook,
                    values,
                );
                &values[odd..]
            }
            PackedValues::Bytes(codes, codebook) => {
                let values = &mut values[..count];
                for (value, &code) in values.iter_mut().zip(&codes[first..end]) {
                    *value = codebook[usize::from(code)];
                }
                values
            }
            PackedValues::Plain(plain) => {
                let values = &mut values[..count];
                values.copy_from_slice(&plain[first..end]);
                values
            }
        };
        Row { cols, values }
    }

    /// Checks that the groups add up, so that every row has a start.
    ///
    /// # Errors
    /// The first row (of these) that is wrong, and what is wrong with it.
    pub fn check_groups(&self) -> std::result::Result<(), (usize, &'static str)> {
        let mut words = 0;
        for (g, group) in self.groups.chunks_exact(GROUP_WORDS).enumerate() {
            let first = (g * GROUP).min(self.rows);
            let (rating_bits, byte_bits) = (group[3] & 0xff, group[3] >> 8);
            if rating_bits > 32 || byte_bits > 32 || group[2] as usize != words {
                return Err((first, "its group is damaged"));
            }
            words += words_of(
                self.rows.saturating_sub(first).min(GROUP),
                rating_bits + byte_bits,
            );
        }
        match self.start(0) {
            (0, 0) => Ok(()),
            _ => Err((0, "it does not start at the beginning")),
        }
    }

    /// Checks that starts and blocks of columns add up, so that row `i` can be decoded, in groups that have been checked.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check_row(&self, i: usize) -> std::result::Result<(), &'static str> {
        let ((first, byte), (end, byte_end)) = (self.start(i), self.end(i));
        let len = end.checked_sub(first).filter(|_| end <= self.ratings);
        let packed = self.ids.get(byte..byte_end);
        let (Some(len), Some(packed)) = (len, packed) else {
            return Err("its start is out of order");
        };
        match packed_ids_len(packed, len) == Some(packed.len()) {
            true => Ok(()),
            false => Err("its packed columns do not end where they should"),
        }
    }
}

/// Words that so many starts of so many bits take.
fn words_of(rows: usize, bits: u32) -> usize {
    (rows * bits as usize).div_ceil(64)
}

/// Appends a row of ascending columns to `ids`, in the form that [`unpack_ids`] takes.
pub fn pack_ids(cols: &[u32], ids: &mut Vec<u8>) {
    let mut before = u32::MAX;
    for block in cols.chunks(BLOCK) {
        let gaps = |mut before: u32| {
            block.iter().map(move |&col| {
                let gap = col.wrapping_sub(before).wrapping_sub(1);
                before = col;
                gap
            })
        };
        let width = 32 - gaps(before).fold(0, |all, gap| all | gap).leading_zeros();
        ids.push(width as u8);
        let (mut bits, mut filled) = (0_u64, 0);
        for gap in gaps(before) {
            bits |= u64::from(gap) << filled;
            filled += width;
            if filled >= 32 {
                ids.extend_from_slice(&(bits as u32).to_le_bytes());
                bits >>= 32;
                filled -= 32;
            }
        }
        ids.extend_from_slice(&bits.to_le_bytes()[..filled.div_ceil(8) as usize]);
        before = block[block.len() - 1];
    }
}

/// The arrays `groups` and `starts` for rows with these numbers of ratings and of bytes in `ids`.
///
/// # Panics
/// If ratings or bytes are 2^32 together, or more.
pub fn pack_starts(rows: &[(u32, u32)]) -> (Vec<u32>, Vec<u64>) {
    let mut groups = Vec::with_capacity((rows.len().div_ceil(GROUP) + 1) * GROUP_WORDS);
    let mut starts = Vec::new();
    let (mut rating, mut byte) = (0_u32, 0_u32);
    for group in rows.chunks(GROUP) {
        let mut entries = Vec::with_capacity(GROUP);
        let (mut ratings, mut bytes) = (0, 0);
        for &(more_ratings, more_bytes) in group {
            entries.push((ratings, bytes));
            ratings += more_ratings;
            bytes += more_bytes;
        }
        let bits = |largest: Option<u32>| 32 - largest.unwrap_or(0).leading_zeros();
        let rating_bits = bits(entries.iter().map(|entry| entry.0).max());
        let byte_bits = bits(entries.iter().map(|entry| entry.1).max());
        groups.extend([
            rating,
            byte,
            starts.len() as u32,
            rating_bits | byte_bits << 8,
        ]);
        let (mut word, mut filled) = (0_u128, 0);
        for (ratings, bytes) in entries {
            word |= (u128::from(bytes) << rating_bits | u128::from(ratings)) << filled;
            filled += rating_bits + byte_bits;
            if filled >= 64 {
                starts.push(word as u64);
                word >>= 64;
                filled -= 64;
            }
        }
        if filled > 0 {
            starts.push(word as u64);
        }
        rating = rating.checked_add(ratings).expect("less than 2^32 ratings");
        byte = byte.checked_add(bytes).expect("less than 2^32 bytes");
    }
    groups.extend([rating, byte, starts.len() as u32, 0]);
    (groups, starts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Block;
    use proptest::prelude::*;

    type Rows = Vec<(Vec<u32>, Vec<f32>)>;

    /// The arrays of some rows, with values as codes of so many bits.
    struct Arrays {
        rows: usize,
        groups: Vec<u32>,
        starts: Vec<u64>,
        ids: Vec<u8>,
        values: Vec<f32>,
        codes: Vec<u8>,
        codebook: [f32; 256],
    }

    /// Values are whole numbers below 256, so that each is its own code.
    fn pack(rows: &Rows, bits: usize) -> Arrays {
        let mut ids = Vec::new();
        let mut lengths = Vec::new();
        let mut values = Vec::new();
        for (cols, of_row) in rows {
            let before = ids.len();
            pack_ids(cols, &mut ids);
            lengths.push((cols.len() as u32, (ids.len() - before) as u32));
            values.extend_from_slice(of_row);
        }
        let (groups, starts) = pack_starts(&lengths);
        let codes: Vec<u8> = values.iter().map(|&x: &f32| x as u8).collect();
        let nibbles = |pair: &[u8]| pair[0] | pair.get(1).map_or(0, |high| high << 4);
        Arrays {
            rows: rows.len(),
            groups,
            starts,
            ids,
            codes: if bits == 4 {
                codes.chunks(2).map(nibbles).collect()
            } else {
                codes
            },
            values,
            codebook: std::array::from_fn(|i| i as f32),
        }
    }

    impl Arrays {
        fn view(&self, bits: usize) -> PackedRows<'_> {
            let values = match bits {
                4 => PackedValues::Nibbles(&self.codes, self.codebook.first_chunk().unwrap()),
                8 => PackedValues::Bytes(&self.codes, &self.codebook),
                _ => PackedValues::Plain(&self.values),
            };
            PackedRows::new(self.rows, &self.groups, &self.starts, &self.ids, values).unwrap()
        }
    }

    fn any_rows(most: u32) -> impl Strategy<Value = Rows> {
        let row = proptest::collection::btree_map(0..most, 0_u8..16, 0..200);
        let split = |row: std::collections::BTreeMap<u32, u8>| {
            row.into_iter()
                .map(|(col, value)| (col, f32::from(value)))
                .unzip()
        };
        proptest::collection::vec(row.prop_map(split), 0..150)
    }

    fn matches(rows: &Rows, packed: PackedRows<'_>) {
        packed.check_groups().unwrap();
        let scratch = &mut RowScratch::default();
        for (i, (cols, values)) in rows.iter().enumerate() {
            packed.check_row(i).unwrap();
            assert_eq!(packed.row_len(i), cols.len());
            let row = packed.decode(i, scratch);
            assert_eq!((row.cols, row.values), (&cols[..], &values[..]));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30))]

        #[test]
        fn rows_come_back_with_codes_of_any_size(rows in any_rows(1000), bits in prop_oneof![Just(4_usize), Just(8), Just(32)]) {
            matches(&rows, pack(&rows, bits).view(bits));
        }

        #[test]
        fn wide_gaps_come_back(rows in any_rows(u32::MAX)) {
            matches(&rows, pack(&rows, 4).view(4));
        }

        /// Whatever a flipped bit does, a block that passes its check can be read.
        #[test]
        fn a_flipped_bit_is_an_error_or_does_no_harm(rows in any_rows(300), at: prop::sample::Index, bit in 0_usize..8) {
            let mut arrays = pack(&rows, 8);
            let sizes = [arrays.groups.len() * 4, arrays.starts.len() * 8, arrays.ids.len()];
            let mut at = at.index(sizes.iter().sum::<usize>());
            if at < sizes[0] {
                arrays.groups[at / 4] ^= 1 << (at % 4 * 8 + bit);
            } else if at - sizes[0] < sizes[1] {
                at -= sizes[0];
                arrays.starts[at / 8] ^= 1 << (at % 8 * 8 + bit);
            } else {
                arrays.ids[at - sizes[0] - sizes[1]] ^= 1 << bit;
            }
            let values = PackedValues::Bytes(&arrays.codes, &arrays.codebook);
            let packed = PackedRows::new(arrays.rows, &arrays.groups, &arrays.starts, &arrays.ids, values);
            if let Ok(packed) = packed {
                let lengths: Vec<usize> = (0..rows.len()).map(|i| packed.row_len(i)).collect();
                prop_assert_eq!(lengths.len(), rows.len());
                let block = Block::packed(0, 300, packed);
                if block.check().is_ok() {
                    block.to_sprs().unwrap();
                }
            }
        }
    }

    #[test]
    fn a_row_of_all_columns_takes_a_byte_a_block() {
        let row = (0..1000).collect::<Vec<u32>>();
        let mut ids = Vec::new();
        pack_ids(&row, &mut ids);
        assert_eq!(ids, [0; 8]);
    }

    #[test]
    fn arrays_that_do_not_fit_are_refused() {
        let rows: Rows = vec![(vec![3, 70_000], vec![1.0, 2.0]); 70];
        let arrays = pack(&rows, 8);
        let Arrays {
            groups,
            starts,
            ids,
            codes,
            codebook,
            ..
        } = &arrays;
        let new = |rows, groups, starts, ids, codes| {
            PackedRows::new(
                rows,
                groups,
                starts,
                ids,
                PackedValues::Bytes(codes, codebook),
            )
            .is_ok()
        };
        assert!(new(70, groups, starts, ids, codes));
        assert!(!new(300, groups, starts, ids, codes));
        assert!(!new(70, &groups[..4], starts, ids, codes));
        assert!(!new(70, groups, &starts[1..], ids, codes));
        assert!(!new(70, groups, starts, &ids[1..], codes));
        assert!(!new(70, groups, starts, ids, &codes[1..]));
    }

    #[test]
    fn a_packed_block_is_a_sparse_matrix_by_copy_alone() {
        let rows: Rows = vec![
            (vec![1, 3], vec![1.0, 2.0]),
            (vec![], vec![]),
            (vec![0], vec![3.0]),
        ];
        let arrays = pack(&rows, 4);
        let block = Block::packed(0, 5, arrays.view(4));
        let error = block.as_sprs().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incompatible);
        let matrix = block.to_sprs().unwrap();
        assert_eq!((matrix.rows(), matrix.cols(), matrix.nnz()), (3, 5, 3));
        assert_eq!(matrix.get(0, 3), Some(&2.0));
    }
}
