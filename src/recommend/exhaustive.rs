//! The best items by the scores of all: every score is offered to the user's running N best as it comes, and the scores of a
//! user never exist all together.

use super::{BAND, Group};
use crate::kernel::{self, Isa, PackedItems, TopN, UserRows};
use crate::matrix::Factors;

/// Items packed for scoring.
pub(super) struct Exhaustive {
    isa: Isa,
    rank: usize,
    /// Nothing but numbers side by side, on cache lines.
    packed: Factors,
    starts: Vec<f32>,
}

/// Bytes that the search takes for its items, and for a user of a group.
pub(super) fn memory(items: usize, rank: usize) -> (usize, usize) {
    let packed = kernel::packed_len(items, rank) + items.next_multiple_of(kernel::TILE);
    let user = BAND + rank.next_multiple_of(Factors::LANES);
    (4 * packed, 4 * user)
}

impl Exhaustive {
    /// Packs the items; `starts` are what their scores start from. Only those that are allowed are found.
    pub(super) fn new(items: &Factors, starts: &[f32], allowed: Option<&[bool]>) -> Exhaustive {
        let isa = Isa::best();
        let (flat, stride, rank) = (items.flat(), items.stride(), items.rank());
        let lines = kernel::packed_len(items.rows(), rank) / Factors::LANES;
        let mut packed = Factors::zeros(lines, Factors::LANES, false);
        kernel::pack_items(isa, flat, stride, rank, 0..items.rows(), packed.flat_mut());
        // Items that only fill the last tile, or are not allowed, start so low that they are never offered.
        let padded = items.rows().next_multiple_of(kernel::TILE);
        let mut packed_starts = vec![f32::NEG_INFINITY; padded];
        for (row, start) in starts.iter().enumerate() {
            if allowed.is_none_or(|allowed| allowed[row]) {
                packed_starts[row] = *start;
            }
        }
        Exhaustive {
            isa,
            rank,
            packed,
            starts: packed_starts,
        }
    }

    /// The best items of each user.
    pub(super) fn find(&self, group: &mut Group) -> Vec<TopN> {
        for seen in &mut group.seen {
            seen.sort_unstable();
        }
        let mut left: Vec<&[u32]> = group.seen.iter().map(Vec::as_slice).collect();
        let mut tops = vec![TopN::new(group.top); group.users.rows()];
        let mut scores = vec![0.0; group.users.rows() * BAND];
        let users = UserRows {
            flat: group.users.flat(),
            stride: group.users.stride(),
            starts: group.users.biases(),
        };
        for (band, starts) in self.starts.chunks(BAND).enumerate() {
            let first = band * BAND;
            let scores = &mut scores[..group.users.rows() * starts.len()];
            let items = PackedItems {
                packed: &self.packed.flat()[kernel::packed_len(first, self.rank)..],
                rank: self.rank,
                starts,
            };
            kernel::score(self.isa, users, items, scores);
            let rows = scores.chunks_exact_mut(starts.len());
            for ((scores, top), left) in rows.zip(&mut tops).zip(&mut left) {
                *left = kernel::exclude(scores, first as u32, left);
                top.offer(self.isa, scores, first as u32);
            }
        }
        tops
    }
}
