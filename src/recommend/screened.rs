//! The best items by bounds: of every item a bound in bytes, of those few that pass the score itself.
//!
//! Items come in descending order of bias and length, so that the scores of the first are high and little passes later.
//! Until that is so, bands are short: floors rise between them. Bounds are of rows turned to the items' axes, of which a
//! quarter or half of the factors often says enough. What passes waits until a vector is full of it.

use std::ops::Range;

use rayon::prelude::*;

use super::axes::Axes;
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
    /// What rows are turned to before they are rounded.
    axes: Axes,
    /// The item at each place in line.
    order: Vec<u32>,
    /// The place of each item, if it stands in line.
    places: Vec<u32>,
    steps: Vec<ByteStep>,
    tiles: Vec<ByteTile>,
}

/// The place of an item that does not stand in line.
const NOWHERE: u32 = u32::MAX;

/// Items that come in order of their biases, among those that promise about as much.
const ALIKE: usize = 512;

/// Whether there is anything to screen at this rank.
pub(super) fn can(rank: usize) -> bool {
    (1..=kernel::LARGEST_RANK).contains(&rank)
}

/// Bytes that the search takes for its items, and for a user of a group.
pub(super) fn memory(items: usize, rank: usize) -> (usize, usize) {
    let tiles = items.div_ceil(TILE);
    let tile = ByteStep::of_rank(rank) * size_of::<ByteStep>() + size_of::<ByteTile>();
    let (axes, turned) = Axes::memory(rank);
    let user = 4 * tiles
        + BAND * 4
        + size_of::<Hit>() * BAND / TILE
        + rank.next_multiple_of(Factors::LANES) * 5
        + turned;
    (tiles * tile + items * 12 + axes, user)
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
        // Items of one tile share a bound of their biases and lengths.
        for alike in order.chunks_mut(ALIKE) {
            alike.sort_unstable_by(|&a, &b| starts[b as usize].total_cmp(&starts[a as usize]));
        }
        let mut places = vec![NOWHERE; items.rows()];
        for (place, &item) in (0..).zip(&order) {
            places[item as usize] = place;
        }
        let (axes, stride) = (Axes::of(items), items.stride());
        let some = items.flat().chunks(TILE * stride);
        let scale = some.fold(axes.scale(starts), |scale, rows| {
            scale.and(&axes.turn(rows, stride).flat)
        });
        let pitch = ByteStep::of_rank(items.rank());
        let mut steps = vec![ByteStep::ZERO; order.len().div_ceil(TILE) * pitch];
        let tiles = order
            .par_chunks(TILE)
            .zip(steps.par_chunks_exact_mut(pitch))
            .map(|(tile, steps)| {
                let rows = tile.iter().map(|&item| items.padded_row(item as usize));
                let rows: Vec<f32> = rows.flatten().copied().collect();
                let turned = axes.turn(&rows, stride);
                let starts = tile.iter().map(|&item| starts[item as usize]);
                let rows = (0..tile.len()).map(|at| turned.row(at));
                ByteTile::pack(scale, rows.zip(starts), steps)
            })
            .collect();
        Screened {
            isa,
            floats: Isa::best(),
            scale,
            axes,
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
        let (flat, stride) = (group.users.flat(), group.users.stride());
        let turned = self.axes.turn(flat, stride);
        for user in 0..users {
            let (row, bias) = (turned.row(user), group.users.bias(user));
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

#[cfg(test)]
mod tests {
    use super::super::exhaustive::Exhaustive;
    use super::*;
    use proptest::prelude::*;

    /// A number from -1 to 1: two rounds of multiply and fold are random enough here.
    fn draw(seed: u64, at: u64) -> f32 {
        let fold = |x: u64| (x ^ x >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (fold(fold(at ^ seed) ^ seed.rotate_left(17)) >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Rows near a few directions, some of them large, tiny, equal, zero or no numbers.
    fn rows(seed: u64, rows: usize, rank: usize, size: f32) -> Factors {
        let mut factors = Factors::zeros(rows, rank, true);
        for row in 0..rows {
            let of = |at: usize| draw(seed, (row * (rank + 4) + at) as u64);
            let along = [of(rank), of(rank + 1), of(rank + 2)];
            let scale = match (20.0 * of(rank + 3)) as i32 {
                7 => 1e14,
                8 => 1e-20,
                9 => 1e-39,
                10 => 0.0,
                11 => f32::INFINITY,
                12..15 => 1.0,
                _ => size,
            };
            for (k, x) in factors.row_mut(row).iter_mut().enumerate() {
                // The directions are the same for both sides.
                let wave = |(d, along): (usize, f32)| along * draw(7, (k * 3 + d) as u64);
                let along: f32 = along.into_iter().enumerate().map(wave).sum();
                *x = scale * (along + 0.05 * of(k));
            }
            factors.biases_mut()[row] = size * of(rank + 1);
        }
        factors
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Turned or not, and where bounds end after a part of the factors: the lists are those of all scores.
        #[test]
        fn the_lists_are_those_of_all_scores(
            rank in prop_oneof![1_usize..32, 32_usize..40, 60_usize..130],
            users in 1_usize..20,
            count in 1_usize..1500,
            top in 1_usize..20,
            size in prop_oneof![Just(1.0_f32), Just(1e-12), Just(1e6)],
            seed: u64,
        ) {
            let items = rows(seed, count, rank, size);
            let allowed: Vec<bool> = (0..count).map(|item| item % 11 != 3).collect();
            let mut group = Group {
                users: rows(!seed, users, rank, 1.0),
                rows: vec![None; users],
                seen: (0..users).map(|user| (0..count as u32).skip(user).step_by(5).collect()).collect(),
                top,
            };
            let starts = items.biases();
            let sorted = |tops: Vec<TopN>| -> Vec<Vec<(u32, u32)>> {
                let bits = |top: TopN| {
                    let best = top.into_sorted().into_iter();
                    best.map(|best| (best.item, best.score.to_bits())).collect()
                };
                tops.into_iter().map(bits).collect()
            };
            let expected = sorted(Exhaustive::new(&items, starts, Some(&allowed)).find(&mut group));
            for isa in ByteIsa::available() {
                let screened = Screened::new(isa, &items, starts, Some(&allowed));
                prop_assert_eq!(&sorted(screened.find(&items, starts, &group)), &expected, "{:?}", isa);
            }
        }
    }
}
