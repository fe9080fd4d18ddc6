//! Ratings cut into a grid of tiles, for methods that go rating by rating.
//!
//! A [`Grid`] deals the rows of either side into the same number of bands: row r belongs to band r mod B, as row r div B of
//! it. Rows are numbered by popularity, so that bands are alike in ratings and in popularity. A tile holds the ratings
//! between a band of users and a band of items, with 16-bit numbers. Wave s pairs user band b with item band
//! (b + s) mod B: the tiles of a wave share neither a user nor an item, and B waves hold every rating once.

use super::{Ratings, RowScratch, Shape, Side};
use crate::error::{Error, ErrorKind, Result};

/// Ratings that a tile should hold, on average, before there are more bands.
const RATINGS_PER_TILE: u64 = 1 << 14;

/// The fewest bands, and the most that balance asks for: 16-bit numbers may ask for more.
const BANDS: (usize, usize) = (8, 32);

/// The largest number of rows in a band: what 16 bits can tell apart.
const ROWS_PER_BAND: usize = 1 << 16;

/// How the rows of both sides are dealt into bands. It depends on the shape of the ratings alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    shape: Shape,
    bands: usize,
}

impl Grid {
    /// The grid for ratings of this shape.
    pub fn new(shape: Shape) -> Grid {
        let for_balance = ((shape.ratings / RATINGS_PER_TILE) as f64).sqrt() as usize;
        let for_numbers = shape.users.max(shape.items).div_ceil(ROWS_PER_BAND);
        let bands = for_balance.next_power_of_two().clamp(BANDS.0, BANDS.1);
        Grid {
            shape,
            bands: bands.max(for_numbers.next_power_of_two()),
        }
    }

    /// The number of bands of either side.
    pub fn bands(self) -> usize {
        self.bands
    }

    /// The rows of a band.
    pub fn rows(self, side: Side, band: usize) -> impl ExactSizeIterator<Item = usize> {
        (band..self.shape.rows(side).max(band)).step_by(self.bands)
    }

    /// The band that a row belongs to, and its number there.
    fn place(self, row: usize) -> (usize, u16) {
        ((row % self.bands), (row / self.bands) as u16)
    }

    /// The item band that a wave pairs with a band of users.
    pub fn item_band(self, wave: usize, user_band: usize) -> usize {
        (user_band + wave) % self.bands
    }

    /// The wave that pairs these bands.
    fn wave(self, user_band: usize, item_band: usize) -> usize {
        (item_band + self.bands - user_band) % self.bands
    }
}

/// The ratings between a band of users and a band of items, by user, then by item.
#[derive(Debug, Clone, Copy)]
pub struct Tile<'a> {
    /// Numbers of users within their band.
    pub users: &'a [u16],
    /// Numbers of items within their band.
    pub items: &'a [u16],
    /// Ratings, one for each pair.
    pub values: &'a [f32],
}

/// All ratings as tiles, in the order of waves and, within a wave, of user bands.
#[derive(Debug, Clone, PartialEq)]
pub struct Tiles {
    grid: Grid,
    /// Where each tile starts, and the end.
    offsets: Vec<usize>,
    users: Vec<u16>,
    items: Vec<u16>,
    values: Vec<f32>,
    /// How many ratings each user and each item has.
    counts: [Vec<u32>; 2],
}

impl Tiles {
    /// Cuts ratings into tiles, in two scans of the users' side.
    ///
    /// # Errors
    /// If ratings cannot be read, or an item lies outside their shape.
    pub fn new(ratings: &dyn Ratings) -> Result<Tiles> {
        let shape = ratings.shape();
        let grid = Grid::new(shape);
        let bands = grid.bands;
        let mut counts = [vec![0_u32; shape.users], vec![0_u32; shape.items]];
        let mut offsets = vec![0_usize; bands * bands + 1];
        visit(ratings, |user, items, _| {
            let (user_band, _) = grid.place(user);
            counts[0][user] += items.len() as u32;
            for &item in items {
                counts[1][item as usize] += 1;
                let (item_band, _) = grid.place(item as usize);
                offsets[grid.wave(user_band, item_band) * bands + user_band + 1] += 1;
            }
        })?;
        for i in 0..bands * bands {
            offsets[i + 1] += offsets[i];
        }
        let total = offsets[bands * bands];
        let (mut users, mut items) = (vec![0; total], vec![0; total]);
        let mut values = vec![0.0; total];
        let mut next = offsets.clone();
        visit(ratings, |user, cols, rated| {
            let (user_band, own) = grid.place(user);
            for (&item, &value) in cols.iter().zip(rated) {
                let (item_band, other) = grid.place(item as usize);
                let at = &mut next[grid.wave(user_band, item_band) * bands + user_band];
                (users[*at], items[*at], values[*at]) = (own, other, value);
                *at += 1;
            }
        })?;
        Ok(Tiles {
            grid,
            offsets,
            users,
            items,
            values,
            counts,
        })
    }

    /// Memory that tiles of ratings of this shape take, in bytes.
    pub fn bytes(shape: Shape) -> u64 {
        let bands = Grid::new(shape).bands as u64;
        // Offsets twice, while the tiles are filled.
        shape.ratings * 8 + (shape.users + shape.items) as u64 * 4 + (bands * bands + 1) * 16
    }

    /// How rows are dealt into bands.
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// The tiles of a wave, by user band.
    pub fn wave(&self, wave: usize) -> impl Iterator<Item = Tile<'_>> {
        let first = wave * self.grid.bands;
        let ends = &self.offsets[first..=first + self.grid.bands];
        ends.windows(2).map(|ends| Tile {
            users: &self.users[ends[0]..ends[1]],
            items: &self.items[ends[0]..ends[1]],
            values: &self.values[ends[0]..ends[1]],
        })
    }

    /// How many ratings each row of a side has.
    pub fn counts(&self, side: Side) -> &[u32] {
        match side {
            Side::Users => &self.counts[0],
            Side::Items => &self.counts[1],
        }
    }
}

/// Shows every user's row in order.
fn visit(ratings: &dyn Ratings, mut see: impl FnMut(usize, &[u32], &[f32])) -> Result<()> {
    let mut scratch = RowScratch::default();
    let items = ratings.shape().items;
    let blocks = ratings.blocks(Side::Users);
    for index in 0..blocks {
        if index + 1 < blocks {
            ratings.will_need(Side::Users, index + 1);
        }
        let block = ratings.block(Side::Users, index)?;
        for i in 0..block.rows() {
            let row = block.row(i, &mut scratch);
            if row.cols.iter().any(|&item| item as usize >= items) {
                let what = format!("row {} holds an unknown item", block.first_row() + i);
                return Err(Error::new(ErrorKind::Damaged, what));
            }
            see(block.first_row() + i, row.cols, row.values);
        }
        ratings.done_with(Side::Users, index);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::InMemory;

    #[test]
    fn waves_hold_every_rating_once_and_share_no_row() {
        let cell = |u: u32, i: u32| (u * 7 + i * 3).is_multiple_of(5);
        let triplets: Vec<_> = (0..61)
            .flat_map(|u| (0..45).map(move |i| (u, i)))
            .filter(|&(u, i)| cell(u, i))
            .map(|(u, i)| (u, i, (u * 100 + i) as f32))
            .collect();
        let ratings = InMemory::from_triplets(61, 45, &triplets).unwrap();
        let tiles = Tiles::new(&ratings).unwrap();
        let grid = tiles.grid();
        let mut found = Vec::new();
        for wave in 0..grid.bands() {
            let mut taken = vec![false; grid.bands()];
            for (user_band, tile) in tiles.wave(wave).enumerate() {
                let item_band = grid.item_band(wave, user_band);
                assert!(!std::mem::replace(&mut taken[item_band], true));
                let users: Vec<_> = grid.rows(Side::Users, user_band).collect();
                let items: Vec<_> = grid.rows(Side::Items, item_band).collect();
                let pairs: Vec<_> = tile.users.iter().zip(tile.items).collect();
                assert!(pairs.is_sorted());
                for ((u, i), &value) in pairs.into_iter().zip(tile.values) {
                    let (u, i) = (users[usize::from(*u)] as u32, items[usize::from(*i)] as u32);
                    found.push((u, i, value));
                }
            }
        }
        found.sort_by_key(|t| (t.0, t.1));
        assert_eq!(found, triplets);
        let rated = |u: u32| triplets.iter().filter(|t| t.0 == u).count() as u32;
        assert_eq!(
            tiles.counts(Side::Users),
            (0..61).map(rated).collect::<Vec<_>>()
        );
        assert_eq!(tiles, Tiles::new(&ratings.with_rows_per_block(4)).unwrap());
    }

    #[test]
    fn bands_grow_with_the_ratings_and_fit_sixteen_bits() {
        let bands = |users, items, ratings| {
            let shape = Shape {
                users,
                items,
                ratings,
            };
            Grid::new(shape).bands()
        };
        assert_eq!(bands(1, 1, 1), 8);
        assert_eq!(bands(162_541, 59_047, 25_000_095), 32);
        assert_eq!(bands(5_000_000, 200_000, 1_000_000_000), 128);
        assert_eq!(bands(65_536 * 64, 10, 100), 64);
        assert_eq!(bands(65_536 * 64 + 1, 10, 100), 128);
    }
}
