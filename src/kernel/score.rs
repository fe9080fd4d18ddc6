//! Scores of a few users for a band of items: a small matrix product with biases.
//!
//! Items are packed into tiles of [`TILE`]: factor by factor, each factor of all the tile's items side by side, so that
//! items are the lanes of a vector. A tile fits the first cache and is used for all users before the next.
//!
//! Order of sums. A score starts as the item's start plus the user's, rounded once; then the products of factors 0, 1, 2,
//! ... are added by one chain of fused multiply-adds.

use std::ops::Range;

use super::vector::{LANES, Vector, lanes, lanes_mut};
use super::{Isa, Kernel};

/// Items in a tile.
pub const TILE: usize = 2 * LANES;

/// Floats that so many packed items take at this rank.
pub fn packed_len(items: usize, rank: usize) -> usize {
    items.next_multiple_of(TILE) * rank
}

/// Packs the first `rank` factors of `rows` of `flat`, whose rows are `stride` apart, into `out`. The last tile is filled
/// up with zeros.
///
/// # Panics
/// If `stride` is no multiple of [`LANES`] or less than `rank`, a row lies outside `flat`, or `out` is shorter than
/// [`packed_len`].
pub fn pack_items(
    isa: Isa,
    flat: &[f32],
    stride: usize,
    rank: usize,
    rows: Range<usize>,
    out: &mut [f32],
) {
    assert!(
        stride.is_multiple_of(LANES) && stride >= rank,
        "rows that are not padded"
    );
    isa.run(Pack {
        flat: &flat[rows.start * stride..rows.end * stride],
        stride,
        rank,
        out: &mut out[..packed_len(rows.len(), rank)],
    });
}

struct Pack<'a> {
    flat: &'a [f32],
    stride: usize,
    rank: usize,
    out: &'a mut [f32],
}

impl Kernel for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, v: V) {
        if self.rank == 0 {
            return;
        }
        let tiles = self.out.chunks_exact_mut(TILE * self.rank);
        for (rows, tile) in self.flat.chunks(TILE * self.stride).zip(tiles) {
            for half in [0, LANES] {
                let mut k = 0;
                while k < self.rank {
                    let mut block = [v.splat(0.0); LANES];
                    let rows = rows.chunks_exact(self.stride).skip(half);
                    for (lane, row) in block.iter_mut().zip(rows) {
                        *lane = v.load(lanes(row, k));
                    }
                    let block = v.transpose(block);
                    for (factor, &lane) in (k..self.rank).zip(&block) {
                        v.store(lane, lanes_mut(tile, factor * TILE + half));
                    }
                    k += LANES;
                }
            }
        }
    }
}

/// Rows of users to be scored.
#[derive(Debug, Clone, Copy)]
pub struct UserRows<'a> {
    /// Their factors.
    pub flat: &'a [f32],
    /// Floats from one user to the next.
    pub stride: usize,
    /// What each user's scores start from: the bias, and the mean. One for each user.
    pub starts: &'a [f32],
}

/// A band of items to be scored.
#[derive(Debug, Clone, Copy)]
pub struct PackedItems<'a> {
    /// Their factors, packed by [`pack_items`].
    pub packed: &'a [f32],
    /// How many factors of each are packed.
    pub rank: usize,
    /// What each item's scores start from: the bias. One for each item, those that fill up the last tile included.
    pub starts: &'a [f32],
}

/// Scores all of these users for all of these items. Row u of `out`, as long as `items.starts`, is set to the scores of
/// user u.
///
/// # Panics
/// If the number of item starts is no multiple of [`TILE`], or a slice is too short.
pub fn score(isa: Isa, users: UserRows<'_>, items: PackedItems<'_>, out: &mut [f32]) {
    let (count, width) = (users.starts.len(), items.starts.len());
    assert!(width.is_multiple_of(TILE), "items that are not padded");
    assert!(items.rank <= users.stride, "a rank beyond the rows");
    isa.run(Score {
        users: UserRows {
            flat: &users.flat[..count * users.stride],
            ..users
        },
        items: PackedItems {
            packed: &items.packed[..packed_len(width, items.rank)],
            ..items
        },
        out: &mut out[..count * width],
    });
}

struct Score<'a> {
    users: UserRows<'a>,
    items: PackedItems<'a>,
    out: &'a mut [f32],
}

impl Kernel for Score<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(mut self, v: V) {
        let users = self.users.starts.len();
        let mut first = 0;
        while first < self.items.starts.len() {
            let mut u = 0;
            while V::REGISTERS >= 32 && users - u >= 8 {
                self.tile::<V, 8, 2>(v, u, first);
                u += 8;
            }
            while users - u >= 4 {
                if V::REGISTERS >= 32 {
                    self.tile::<V, 4, 2>(v, u, first);
                } else {
                    self.tile::<V, 4, 1>(v, u, first);
                    self.tile::<V, 4, 1>(v, u, first + LANES);
                }
                u += 4;
            }
            while u < users {
                self.tile::<V, 1, 2>(v, u, first);
                u += 1;
            }
            first += TILE;
        }
    }
}

impl Score<'_> {
    /// Scores `R` users from `u` on for `C` vectors of items from `first` on, all of one tile.
    #[inline(always)]
    fn tile<V: Vector, const R: usize, const C: usize>(&mut self, v: V, u: usize, first: usize) {
        let (users, items) = (self.users, self.items);
        let mut acc = [[v.splat(0.0); C]; R];
        for r in 0..R {
            let start = v.splat(users.starts[u + r]);
            for c in 0..C {
                acc[r][c] = v.add(v.load(lanes(items.starts, first + c * LANES)), start);
            }
        }
        let rank = items.rank;
        let rows: [&[f32]; R] =
            std::array::from_fn(|r| &users.flat[(u + r) * users.stride..][..rank]);
        let tile = &items.packed[first / TILE * TILE * rank..][..TILE * rank];
        for (k, factors) in tile.as_chunks::<TILE>().0.iter().enumerate() {
            let mut q = [v.splat(0.0); C];
            for c in 0..C {
                q[c] = v.load(lanes(factors, first % TILE + c * LANES));
            }
            for r in 0..R {
                let p = v.splat(rows[r][k]);
                for c in 0..C {
                    acc[r][c] = v.mul_add(p, q[c], acc[r][c]);
                }
            }
        }
        let width = items.starts.len();
        for r in 0..R {
            for c in 0..C {
                v.store(
                    acc[r][c],
                    lanes_mut(self.out, (u + r) * width + first + c * LANES),
                );
            }
        }
    }
}

/// Rows of items, wherever they lie.
#[derive(Debug, Clone, Copy)]
pub struct ItemRows<'a> {
    /// The factors of all items.
    pub flat: &'a [f32],
    /// Floats from one item to the next.
    pub stride: usize,
    /// How many factors of each count.
    pub rank: usize,
    /// What each item's scores start from: the bias. One for each item, or nothing where all start from zero.
    pub starts: &'a [f32],
}

/// Scores one user, by factors and start, for the items of up to [`LANES`] rows: the same bits as [`score`].
///
/// # Panics
/// If there are no rows or too many, one of them does not exist, or the user's factors are fewer than the rank.
pub fn score_rows(
    isa: Isa,
    user: &[f32],
    start: f32,
    items: ItemRows<'_>,
    rows: &[u32],
) -> [f32; LANES] {
    isa.run(ScoreRows {
        user: &user[..items.rank],
        start,
        items,
        rows,
    })
}

struct ScoreRows<'a> {
    user: &'a [f32],
    start: f32,
    items: ItemRows<'a>,
    rows: &'a [u32],
}

impl Kernel for ScoreRows<'_> {
    type Output = [f32; LANES];

    #[inline(always)]
    fn run<V: Vector>(self, v: V) -> [f32; LANES] {
        let ItemRows { flat, stride, .. } = self.items;
        // Lanes that are left over repeat the first row.
        let mut rows = [&flat[..0]; LANES];
        let mut starts = [0.0; LANES];
        for lane in 0..LANES {
            let item = *self.rows.get(lane).unwrap_or(&self.rows[0]) as usize;
            rows[lane] = &flat[item * stride..][..stride];
            if let Some(&start) = self.items.starts.get(item) {
                starts[lane] = start;
            }
        }
        assert!(self.rows.len() <= LANES, "more rows than lanes");
        let mut sum = v.add(v.load(&starts), v.splat(self.start));
        for (line, factors) in self.user.chunks(LANES).enumerate() {
            let mut block = [v.splat(0.0); LANES];
            for lane in 0..LANES {
                block[lane] = v.load(lanes(rows[lane], line * LANES));
            }
            let block = v.transpose(block);
            for (&p, &q) in factors.iter().zip(&block) {
                sum = v.mul_add(v.splat(p), q, sum);
            }
        }
        let mut out = [0.0; LANES];
        v.store(sum, &mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bits, noise, noise_rows};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn scores_are_one_chain_and_close_to_exact(
            rank in 0_usize..90,
            users in 0_usize..20,
            first in 0_usize..10,
            items in 0_usize..100,
            seed: u64,
        ) {
            let stride = rank.next_multiple_of(LANES).max(LANES);
            let user_rows = noise_rows(seed, users, stride);
            let item_rows = noise_rows(seed ^ 1, first + items, stride);
            let user_starts = noise(seed ^ 2, users);
            let mut item_starts = noise(seed ^ 3, items);
            item_starts.resize(items.next_multiple_of(TILE), 0.0);
            for isa in Isa::available() {
                let mut packed = vec![f32::NAN; packed_len(items, rank)];
                pack_items(isa, &item_rows, stride, rank, first..first + items, &mut packed);
                let mut out = vec![f32::NAN; users * item_starts.len()];
                let pitch = item_starts.len();
                let rows = UserRows {
                    flat: &user_rows,
                    stride,
                    starts: &user_starts,
                };
                let band = PackedItems {
                    packed: &packed,
                    rank,
                    starts: &item_starts,
                };
                score(isa, rows, band, &mut out);
                for u in 0..users {
                    let p = &user_rows[u * stride..][..rank];
                    let mut twin = Vec::new();
                    for i in 0..items {
                        let q = &item_rows[(first + i) * stride..][..rank];
                        let start = item_starts[i] + user_starts[u];
                        let terms = || p.iter().zip(q);
                        let sum = terms().fold(start, |sum, (&p, &q)| p.mul_add(q, sum));
                        twin.push(sum);
                        let start = f64::from(item_starts[i]) + f64::from(user_starts[u]);
                        let exact = terms().fold(start, |sum, (&p, &q)| sum + f64::from(p) * f64::from(q));
                        let size = terms().fold(2.0, |sum, (p, q)| sum + f64::from((p * q).abs()));
                        let bound = (rank + 1) as f64 * 2_f64.powi(-24) * size;
                        prop_assert!((f64::from(sum) - exact).abs() <= bound);
                    }
                    prop_assert_eq!(bits(&out[u * pitch..][..items]), bits(&twin), "{:?}", isa);
                    for group in (0..items as u32).collect::<Vec<_>>().chunks(LANES - 3) {
                        let rows = ItemRows {
                            flat: &item_rows[first * stride..],
                            stride,
                            rank,
                            starts: &item_starts,
                        };
                        let found = score_rows(isa, p, user_starts[u], rows, group);
                        let expected = &twin[group[0] as usize..][..group.len()];
                        prop_assert_eq!(bits(&found[..group.len()]), bits(expected), "{:?}", isa);
                    }
                    // What fills up the last tile scores its start alone.
                    for &score in &out[u * pitch + items..(u + 1) * pitch] {
                        prop_assert_eq!(score, user_starts[u]);
                    }
                }
            }
        }
    }
}
