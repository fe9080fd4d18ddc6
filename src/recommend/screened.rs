//! The best items by bounds: of every item a bound in bytes, of those few that pass the score itself.
//!
//! Items come in descending order of bias and length, so that the scores of the first are high and little passes later.
//! Until that is so, bands are short: floors rise between them. What passes waits until a vector is full of it.

use std::ops::Range;

use super::{BAND, Group};
use crate::kernel::{
    self, BYTE_USERS, ByteBlock, ByteIsa, ByteScale, ByteStep, ByteTile, ByteTiles, Hit, Isa,
    ItemRows, LANES, TILE, TopN,
};
use crate::matrix::Factors;

/// Items in bytes.
pub(super) struct Screened {
    isa: ByteIsa,
    floats: Isa,
    scale: ByteScale,
    /// The item at each place in line.
    order: Vec<u32>,
    /// The place of each item, if it stands in line.
    places: Vec<u32>,
    steps: Vec<ByteStep>,
    tiles: Vec<ByteTile>,
}

/// The place of an item that does not stand in line.
const NOWHERE: u32 = u32::MAX;

/// Whether there is anything to screen at this rank.
pub(super) fn can(rank: usize) -> bool {
    (1..=kernel::LARGEST_RANK).contains(&rank)
}

/// Bytes that the search takes for its items, and for a user of a group.
pub(super) fn memory(items: usize, rank: usize) -> (usize, usize) {
    let tiles = items.div_ceil(TILE);
    let tile = ByteStep::of_rank(rank) * size_of::<ByteStep>() + size_of::<ByteTile>();
    let user = 4 * tiles
        + BAND * 4
        + size_of::<Hit>() * BAND / TILE
        + rank.next_multiple_of(Factors::LANES) * 5;
    (tiles * tile + items * 12, user)
}

impl Screened {
    /// Rounds the items to bytes; `starts` are what their scores start from. Only those that are allowed stand in line.
    pub(super) fn new(
        isa: ByteIsa,
        items: &Factors,
        starts: &[f32],
        allowed: Option<&[bool]>,
    ) -> Screened {
        let length = |row: &[f32]| kernel::dot(Isa::best(), row, row).sqrt();
        let promise = |row: usize| starts[row] + length(items.padded_row(row));
        let promises: Vec<f32> = (0..items.rows()).map(promise).collect();
        let mut order: Vec<u32> = (0..items.rows() as u32).collect();
        order.retain(|&item| allowed.is_none_or(|allowed| allowed[item as usize]));
        order.sort_unstable_by(|&a, &b| promises[b as usize].total_cmp(&promises[a as usize]));
        let mut places = vec![NOWHERE; items.rows()];
        for (place, &item) in (0..).zip(&order) {
            places[item as usize] = place;
        }
        let scale = ByteScale::new(items.rank(), items.flat(), starts);
        let count = order.len().div_ceil(TILE);
        let pitch = ByteStep::of_rank(items.rank());
        let mut steps = vec![ByteStep::ZERO; count * pitch];
        let of_item = |&item: &u32| (items.row(item as usize), starts[item as usize]);
        let tiles = order
            .chunks(TILE)
            .zip(steps.chunks_exact_mut(pitch))
            .map(|(tile, steps)| ByteTile::pack(scale, tile.iter().map(of_item), steps))
            .collect();
        Screened {
            isa,
            floats: Isa::best(),
            scale,
            order,
            places,
            steps,
            tiles,
        }
    }

    /// The best of these items for each user.
    pub(super) fn find(&self, items: &Factors, starts: &[f32], group: &Group) -> Vec<TopN> {
        let users = group.users.rows();
        let mut blocks = vec![ByteBlock::new(self.scale, items.rank()); users.div_ceil(BYTE_USERS)];
        for user in 0..users {
            let (row, bias) = (group.users.row(user), group.users.bias(user));
            blocks[user / BYTE_USERS].set(user % BYTE_USERS, row, bias);
        }
        let seen = self.seen(group);
        let mut tops = vec![TopN::new(group.top); users];
        let mut waiting: Vec<Vec<u32>> = vec![Vec::new(); users];
        let mut hits = vec![Hit::default(); blocks.len() * BYTE_USERS * BAND / TILE];
        let rows = ItemRows {
            flat: items.flat(),
            stride: items.stride(),
            rank: items.rank(),
            starts,
        };
        let settle = |user: usize, waiting: &[u32], top: &mut TopN| {
            let (row, bias) = (group.users.row(user), group.users.bias(user));
            let scores = kernel::score_rows(self.floats, row, bias, rows, waiting);
            for (&item, score) in waiting.iter().zip(scores) {
                top.offer_one(item, score);
            }
        };
        for band in self.bands() {
            let found = kernel::screen(self.isa, &blocks, self.tiles(band.clone()), &mut hits);
            for hit in &hits[..found] {
                let (user, tile) = (hit.user as usize, band.start + hit.tile as usize);
                let mut left = hit.items & !seen[user * self.tiles.len() + tile];
                while left != 0 {
                    let lane = left.trailing_zeros() as usize;
                    waiting[user].push(self.order[tile * TILE + lane]);
                    left &= left - 1;
                }
            }
            for (user, waiting) in waiting.iter_mut().enumerate() {
                if waiting.len() < LANES {
                    continue;
                }
                while let Some(rest) = waiting.len().checked_sub(LANES) {
                    settle(user, &waiting[rest..], &mut tops[user]);
                    waiting.truncate(rest);
                }
                blocks[user / BYTE_USERS].set_floor(user % BYTE_USERS, tops[user].floor());
            }
        }
        for (user, waiting) in waiting.iter().enumerate() {
            if !waiting.is_empty() {
                settle(user, waiting, &mut tops[user]);
            }
        }
        tops
    }

    /// Which items each user has seen: a word for each tile, a bit for each item.
    fn seen(&self, group: &Group) -> Vec<u32> {
        let mut words = vec![0; group.seen.len() * self.tiles.len()];
        for (seen, words) in group
            .seen
            .iter()
            .zip(words.chunks_exact_mut(self.tiles.len()))
        {
            for &item in seen {
                let place = self.places[item as usize];
                if place == NOWHERE {
                    continue;
                }
                let place = place as usize;
                words[place / TILE] |= 1 << (place % TILE);
            }
        }
        words
    }

    /// Ranges of tiles: one, one more, two, four and so on.
    fn bands(&self) -> impl Iterator<Item = Range<usize>> {
        let mut start = 0;
        std::iter::from_fn(move || {
            let end = (start + start.clamp(1, BAND / TILE)).min(self.tiles.len());
            let band = start..end;
            start = end;
            (!band.is_empty()).then_some(band)
        })
    }

    fn tiles(&self, band: Range<usize>) -> ByteTiles<'_> {
        let pitch = self.steps.len() / self.tiles.len();
        ByteTiles {
            steps: &self.steps[band.start * pitch..band.end * pitch],
            tiles: &self.tiles[band],
        }
    }
}
