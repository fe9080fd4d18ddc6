//! Bands of rows, and the waves in which they meet.

use crate::matrix::{Shape, Side};

/// Ratings that a tile should hold, on average, before there are more bands.
const RATINGS_PER_TILE: u64 = 1 << 14;

/// The fewest bands, and the most that balance asks for: 16-bit numbers may ask for more. Every wave reads and writes the rows
/// of both sides, so that twice the bands are twice the bytes.
const BANDS: (usize, usize) = (8, 16);

/// The largest number of rows in a band: what 16 bits can tell apart.
const ROWS_PER_BAND: usize = 1 << 16;

/// How the rows of both sides are dealt into bands. It depends on the shape of the ratings alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    shape: Shape,
    /// A power of two.
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

    /// The number of bands of either side, and of waves.
    pub fn bands(self) -> usize {
        self.bands
    }

    /// How many users, items and ratings there are in all.
    pub fn shape(self) -> Shape {
        self.shape
    }

    /// The rows of a band.
    pub fn rows(self, side: Side, band: usize) -> impl ExactSizeIterator<Item = usize> {
        (band..self.shape.rows(side).max(band)).step_by(self.bands)
    }

    /// The band that a row belongs to, and its number there.
    pub fn place(self, row: usize) -> (usize, u16) {
        let band = row & (self.bands - 1);
        (band, (row >> self.bands.trailing_zeros()) as u16)
    }

    /// The row of this number in a band.
    pub fn row(self, band: usize, number: u16) -> usize {
        usize::from(number) * self.bands + band
    }

    /// The item band that a wave pairs with a band of users.
    pub fn item_band(self, wave: usize, user_band: usize) -> usize {
        (user_band + wave) & (self.bands - 1)
    }

    /// The wave that pairs these bands.
    pub(super) fn wave(self, user_band: usize, item_band: usize) -> usize {
        item_band.wrapping_sub(user_band) & (self.bands - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(bands(162_541, 59_047, 25_000_095), 16);
        assert_eq!(bands(5_000_000, 200_000, 1_000_000_000), 128);
        assert_eq!(bands(65_536 * 64, 10, 100), 64);
        assert_eq!(bands(65_536 * 64 + 1, 10, 100), 128);
    }

    #[test]
    fn every_row_has_one_place_and_every_pair_of_bands_one_wave() {
        let grid = Grid::new(Shape {
            users: 61,
            items: 5,
            ratings: 9,
        });
        for side in [Side::Users, Side::Items] {
            let mut found = Vec::new();
            for band in 0..grid.bands() {
                for (number, row) in grid.rows(side, band).enumerate() {
                    assert_eq!(grid.place(row), (band, number as u16));
                    assert_eq!(grid.row(band, number as u16), row);
                    found.push(row);
                }
            }
            found.sort_unstable();
            assert!(found.into_iter().eq(0..grid.shape().rows(side)));
        }
        for wave in 0..grid.bands() {
            for user_band in 0..grid.bands() {
                let item_band = grid.item_band(wave, user_band);
                assert_eq!(grid.wave(user_band, item_band), wave);
            }
        }
    }
}
