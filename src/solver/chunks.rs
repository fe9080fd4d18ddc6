//! How the rows of a side are cut into chunks, for each of which the bands of the other side pass by.
//!
//! A chunk has as many rows as there is room for their sums, and the fixed side is read once for each chunk. Blocks whose rows
//! leave room go together where that reads less: the fixed side is then read once for all of them, but their ratings once
//! for every band, since there is room for one block of ratings at a time.

use std::ops::Range;

use super::alternating::PART;
use super::bands::GATHERED_BYTES;
use super::sums::RowSums;
use crate::error::Result;
use crate::matrix::{Factors, Ratings, Room, Side};

/// Bytes that a rating is taken to have in a shard: a matter of speed only, and the same for the forecast and the work.
const RATING_BYTES: u64 = 2;

/// What a row has in memory on account of a chunk.
#[derive(Debug, Clone, Copy)]
pub struct Chunking {
    row: u64,
    /// What a row longer than [`PART`] takes besides.
    long: u64,
}

/// The rows of a block, as far as chunks ask.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    /// How many there are.
    pub rows: usize,
    /// How many of them are summed in parts.
    pub long: usize,
    /// How many ratings they have.
    pub ratings: u64,
}

/// The side that passes by.
#[derive(Debug, Clone, Copy)]
pub struct Passing {
    /// How many bands it is cut into.
    pub bands: u64,
    /// Bytes of them all.
    pub bytes: u64,
}

impl Passing {
    /// So many rows in bands of this room.
    pub fn new(room: Room, rows: usize, rank: usize, biases: bool) -> Passing {
        Passing {
            bands: rows.div_ceil(room.rows_of_band(rank, biases)).max(1) as u64,
            bytes: Factors::bytes(rows, rank, biases),
        }
    }
}

impl Extent {
    /// Of every block of a side.
    ///
    /// # Errors
    /// If a block is damaged in what is looked at here.
    pub fn of_blocks(ratings: &dyn Ratings, side: Side) -> Result<Vec<Extent>> {
        let of_block = |index| {
            let mut extent = Extent::default();
            ratings.row_lengths(side, index, &mut |length| extent.count(length))?;
            Ok(extent)
        };
        (0..ratings.blocks(side)).map(of_block).collect()
    }

    fn count(&mut self, length: usize) {
        self.rows += 1;
        self.long += usize::from(length > PART);
        self.ratings += length as u64;
    }
}

impl Chunking {
    /// Rows that carry so many bytes from band to band, and `own` bytes of their own.
    pub fn of_sums(carried: u64, own: u64) -> Chunking {
        Chunking {
            row: carried + GATHERED_BYTES + size_of::<RowSums>() as u64 + own,
            long: carried,
        }
    }

    /// Rows whose errors are summed in so many bytes, and `own` bytes of their own.
    pub fn of_errors(bytes: usize, own: u64) -> Chunking {
        Chunking {
            row: (bytes + size_of::<usize>() + size_of::<RowSums>()) as u64 + own,
            long: 0,
        }
    }

    /// Which consecutive blocks go together as one chunk. One that is by itself may take several.
    pub fn groups(self, blocks: &[Extent], room: u64, passing: Passing) -> Vec<Range<usize>> {
        let bytes = |block: &Extent| block.rows as u64 * self.row + block.long as u64 * self.long;
        let mut groups = Vec::new();
        let mut first = 0;
        while first < blocks.len() {
            let mut held = 0;
            let fits = blocks[first..].iter().take_while(|block| {
                held += bytes(block);
                held <= room
            });
            let mut group = first..first + fits.count().max(1);
            let ratings: u64 = blocks[group.clone()].iter().map(|b| b.ratings).sum();
            let again = (passing.bands - 1) * ratings * RATING_BYTES;
            if again >= (group.len() as u64 - 1) * passing.bytes {
                group.end = first + 1;
            }
            first = group.end;
            groups.push(group);
        }
        groups
    }

    /// Cuts the rows of one block, of these lengths, into chunks of so many bytes, or of one row.
    pub fn chunks(self, lengths: impl Iterator<Item = usize>, room: u64) -> Vec<Range<usize>> {
        let mut chunks = Vec::new();
        let (mut start, mut end, mut held) = (0, 0, 0);
        for length in lengths {
            let bytes = self.row + if length > PART { self.long } else { 0 };
            if start < end && held + bytes > room {
                chunks.push(start..end);
                (start, held) = (end, 0);
            }
            held += bytes;
            end += 1;
        }
        if start < end {
            chunks.push(start..end);
        }
        chunks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_go_together_where_there_is_room_and_that_reads_less() {
        let chunking = Chunking { row: 10, long: 5 };
        let block = |rows, long, ratings| Extent {
            rows,
            long,
            ratings,
        };
        let blocks = [
            block(3, 0, 100),
            block(2, 2, 100),
            block(9, 0, 100),
            block(1, 0, 100),
            block(1, 0, 100),
        ];
        let groups = |room, bands, bytes| chunking.groups(&blocks, room, Passing { bands, bytes });
        // 30, 30, 90, 10 and 10 bytes.
        assert_eq!(groups(60, 2, 10_000), [0..2, 2..3, 3..5]);
        assert_eq!(groups(59, 2, 10_000), [0..1, 1..2, 2..3, 3..5]);
        assert_eq!(groups(1_000, 2, 10_000), std::slice::from_ref(&(0..5)));
        // Two blocks together are read 400 bytes more, and spare one pass of the other side.
        assert_eq!(groups(60, 2, 401), [0..2, 2..3, 3..5]);
        assert_eq!(groups(60, 2, 400), [0..1, 1..2, 2..3, 3..4, 4..5]);
        // A single band is there all the time.
        assert_eq!(groups(60, 1, 1), [0..2, 2..3, 3..5]);
        assert_eq!(groups(0, 2, 10_000), [0..1, 1..2, 2..3, 3..4, 4..5]);
    }
}
