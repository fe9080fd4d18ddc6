//! Ratings cut into a grid of tiles, for methods that go rating by rating.
//!
//! A [`Grid`] deals the rows of either side into the same number of bands: row r belongs to band r mod B, as row r div B of
//! it. Rows are numbered by popularity, so that bands are alike in ratings and in popularity. A [`Tile`] holds the ratings
//! between a band of users and a band of items, with 16-bit numbers. [`Wave`] s pairs user band b with item band
//! (b + s) mod B: the tiles of a wave share neither a user nor an item, and B waves hold every rating once.
//!
//! Within a tile, ratings lie in the order in which they are taken. All but a few come in turns of [`SIDE_BY_SIDE`], of which
//! no two neighbours have a row in common: so the ratings of a turn can be taken at once, and the next turn be looked at
//! meanwhile.
//!
//! [`Tiles`] are all waves, wherever they lie. They are made by [`Census`], which counts, and cuts as many waves in one
//! scan as there is room for.

mod census;
mod grid;
mod turns;

pub use census::{Census, HeldWave};
pub use grid::Grid;
use turns::neighbours_are_apart;

use rayon::prelude::*;

use super::{Ratings, Side};
use crate::error::{Error, ErrorKind, Result};
use crate::kernel::SIDE_BY_SIDE;

/// The ratings between a band of users and a band of items, in the order in which they are taken.
#[derive(Debug, Clone, Copy)]
pub struct Tile<'a> {
    /// The number of each rating's user within the band.
    pub users: &'a [u16],
    /// The number of each rating's item within the band.
    pub items: &'a [u16],
    /// Ratings, one for each item.
    pub values: Values<'a>,
    /// How many of the ratings come in turns: so many from the first one on. The others are taken one by one.
    pub in_turns: usize,
}

/// Ratings as they lie.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// As numbers.
    Plain(&'a [f32]),
    /// As places in a list of numbers.
    Coded {
        /// One for each rating.
        codes: &'a [u8],
        /// At most 256 numbers.
        codebook: &'a [f32],
    },
}

impl<'a> Values<'a> {
    /// How many ratings.
    pub fn len(self) -> usize {
        match self {
            Values::Plain(values) => values.len(),
            Values::Coded { codes, .. } => codes.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The ratings at these positions.
    ///
    /// # Panics
    /// If there are not so many.
    #[must_use]
    pub fn part(self, range: std::ops::Range<usize>) -> Values<'a> {
        match self {
            Values::Plain(values) => Values::Plain(&values[range]),
            Values::Coded { codes, codebook } => Values::Coded {
                codes: &codes[range],
                codebook,
            },
        }
    }

    /// Writes `of` each rating into `out`, in order.
    ///
    /// # Panics
    /// If a code has no number.
    pub fn map_into(self, of: impl Fn(f32) -> f32, out: &mut Vec<f32>) {
        out.clear();
        match self {
            Values::Plain(values) => out.extend(values.iter().map(|&value| of(value))),
            Values::Coded { codes, codebook } => {
                let codebook: Vec<f32> = codebook.iter().map(|&value| of(value)).collect();
                out.extend(codes.iter().map(|&code| codebook[usize::from(code)]));
            }
        }
    }
}

/// Tiles that share neither a user nor an item, by user band.
#[derive(Debug, Clone, Copy)]
pub struct Wave<'a> {
    /// For each tile, where its ratings start, and where those that come in turns end; at last where all end.
    pub starts: &'a [u64],
    /// [`Tile::users`], end to end.
    pub users: &'a [u16],
    /// [`Tile::items`], end to end.
    pub items: &'a [u16],
    /// [`Tile::values`], end to end.
    pub values: Values<'a>,
}

impl<'a> Wave<'a> {
    /// The tile of a band of users.
    ///
    /// # Panics
    /// If there is no such band, or the wave does not pass its [`check`](Wave::check).
    pub fn tile(&self, user_band: usize) -> Tile<'a> {
        let at = |i: usize| self.starts[i] as usize;
        let ratings = at(2 * user_band)..at(2 * user_band + 2);
        Tile {
            users: &self.users[ratings.clone()],
            items: &self.items[ratings.clone()],
            values: self.values.part(ratings.clone()),
            in_turns: at(2 * user_band + 1) - ratings.start,
        }
    }

    /// All ratings with the dense numbers of their users and items, tile by tile.
    pub fn for_each_rating(&self, grid: Grid, wave: usize, mut see: impl FnMut(u32, u32, f32)) {
        let mut values = Vec::new();
        for user_band in 0..grid.bands() {
            let tile = self.tile(user_band);
            let item_band = grid.item_band(wave, user_band);
            tile.values.map_into(|value| value, &mut values);
            let rows = tile.users.iter().zip(tile.items);
            for ((&user, &item), &value) in rows.zip(&values) {
                let user = grid.row(user_band, user);
                see(user as u32, grid.row(item_band, item) as u32, value);
            }
        }
    }

    /// Checks that this can be wave `wave` of the grid: lengths, turns and the range of all numbers.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] with what is wrong.
    pub fn check(&self, grid: Grid, wave: usize) -> Result<()> {
        let damaged = |what: &str| Err(Error::new(ErrorKind::Damaged, what));
        let whole = self.starts.len() == 2 * grid.bands() + 1
            && self.starts.is_sorted()
            && self.starts.first() == Some(&0)
            && self.starts.last() == Some(&(self.items.len() as u64))
            && self.users.len() == self.items.len()
            && self.values.len() == self.items.len();
        if !whole {
            return damaged("tiles that do not add up");
        }
        let check = |user_band| {
            let tile = self.tile(user_band);
            let most = |side, band| grid.rows(side, band).len();
            let users = most(Side::Users, user_band);
            let items = most(Side::Items, grid.item_band(wave, user_band));
            let beyond = |numbers: &[u16], rows| numbers.iter().any(|&n| usize::from(n) >= rows);
            if beyond(tile.users, users) || beyond(tile.items, items) {
                return damaged("a row outside its band");
            }
            if !tile.in_turns.is_multiple_of(SIDE_BY_SIDE) {
                return damaged("a turn that is not full");
            }
            let in_turns =
                |numbers: &'a [u16], rows| neighbours_are_apart(&numbers[..tile.in_turns], rows);
            if !in_turns(tile.users, users) || !in_turns(tile.items, items) {
                return damaged("turns with a row in common");
            }
            Ok(())
        };
        let tiles = (0..grid.bands()).into_par_iter().with_max_len(1);
        if let Some(damage) = tiles.find_map_first(|user_band| check(user_band).err()) {
            return Err(damage);
        }
        let sound = match self.values {
            Values::Plain(values) => values.iter().all(|value| value.is_finite()),
            Values::Coded { codes, codebook } => {
                codes.iter().all(|&code| usize::from(code) < codebook.len())
                    && codebook.iter().all(|value| value.is_finite())
            }
        };
        match sound {
            true => Ok(()),
            false => damaged("a rating that is none"),
        }
    }
}

/// All ratings as tiles: in memory, or mapped.
pub trait Tiles: Send + Sync {
    /// How rows are dealt into bands.
    fn grid(&self) -> Grid;

    /// How many ratings each row of a side has.
    fn counts(&self, side: Side) -> &[u32];

    /// The tiles of a wave.
    ///
    /// # Errors
    /// If they cannot be read.
    fn wave(&self, wave: usize) -> Result<Wave<'_>>;

    /// This wave will be asked for soon.
    fn will_need(&self, _wave: usize) {}

    /// This wave will not be asked for again for a while.
    fn done_with(&self, _wave: usize) {}
}

/// Tiles in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldTiles {
    census: Census,
    waves: Vec<HeldWave>,
}

impl HeldTiles {
    /// Cuts ratings into tiles, in two scans of the users' side.
    ///
    /// # Errors
    /// If ratings cannot be read, or an item lies outside their shape.
    pub fn new<R: Ratings + ?Sized>(ratings: &R) -> Result<HeldTiles> {
        let census = Census::of(ratings)?;
        let waves = census.cut(ratings, 0..census.grid().bands(), |_, wave| Ok(wave))?;
        Ok(HeldTiles { census, waves })
    }
}

impl Tiles for HeldTiles {
    fn grid(&self) -> Grid {
        self.census.grid()
    }

    fn counts(&self, side: Side) -> &[u32] {
        self.census.counts(side)
    }

    fn wave(&self, wave: usize) -> Result<Wave<'_>> {
        Ok(self.waves[wave].view(self.census.codebook()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::InMemory;

    type Triplets = Vec<(u32, u32, f32)>;

    fn ratings(value: impl Fn(u32, u32) -> f32) -> (Triplets, InMemory) {
        let cell = |u: u32, i: u32| (u * 7 + i * 3).is_multiple_of(5) && u != 9;
        let triplets: Vec<_> = (0..201)
            .flat_map(|u| (0..165).map(move |i| (u, i)))
            .filter(|&(u, i)| cell(u, i))
            .map(|(u, i)| (u, i, value(u, i)))
            .collect();
        let ratings = InMemory::from_triplets(201, 165, &triplets).unwrap();
        (triplets, ratings)
    }

    #[test]
    fn waves_hold_every_rating_once_and_share_no_row() {
        let many = |u, i| (u * 165 + i) as f32;
        let few = |u, i| ((u + i) % 90) as f32 / 2.0;
        for (coded, (triplets, ratings)) in [(false, ratings(many)), (true, ratings(few))] {
            let tiles = HeldTiles::new(&ratings).unwrap();
            let grid = tiles.grid();
            let mut found = Vec::new();
            for number in 0..grid.bands() {
                let wave = tiles.wave(number).unwrap();
                wave.check(grid, number).unwrap();
                assert_eq!(matches!(wave.values, Values::Coded { .. }), coded);
                let mut taken = vec![false; grid.bands()];
                for user_band in 0..grid.bands() {
                    let item_band = grid.item_band(number, user_band);
                    assert!(!std::mem::replace(&mut taken[item_band], true));
                }
                wave.for_each_rating(grid, number, |u, i, value| {
                    assert_eq!(grid.item_band(number, u as usize % 8), i as usize % 8);
                    found.push((u, i, value));
                });
            }
            found.sort_by_key(|t| (t.0, t.1));
            assert_eq!(found, triplets);
            let rated = |u: u32| triplets.iter().filter(|t| t.0 == u).count() as u32;
            let counts: Vec<u32> = (0..201).map(rated).collect();
            assert_eq!(tiles.counts(Side::Users), counts);
            assert_eq!(
                tiles,
                HeldTiles::new(&ratings.with_rows_per_block(4)).unwrap()
            );
        }
    }

    #[test]
    fn waves_are_the_same_however_many_are_cut_at_once() {
        let (_, ratings) = ratings(|u, i| ((u + i) % 90) as f32);
        let census = Census::of(&ratings).unwrap();
        let cut = |waves| census.cut(&ratings, waves, |_, wave| Ok(wave)).unwrap();
        let all = cut(0..8);
        for room in [0, 9_000, 30_000, u64::MAX] {
            let groups = census.groups(room);
            assert!(groups.len() > 1 || room > 30_000);
            let cut = groups.into_iter().flat_map(cut);
            assert!(cut.eq(all.iter().cloned()));
        }
    }

    #[test]
    fn what_does_not_fit_the_grid_is_found() {
        let (_, ratings) = ratings(|u, i| ((u + i) % 90) as f32);
        let tiles = HeldTiles::new(&ratings).unwrap();
        let grid = tiles.grid();
        let wave = tiles.wave(1).unwrap();
        let Values::Coded { codes, codebook } = wave.values else {
            panic!("few values")
        };
        let with = |slice: &[u16], at: usize, value: u16| {
            let mut slice = slice.to_vec();
            slice[at] = value;
            slice
        };
        let more = [wave.starts, &[9]].concat();
        let mut late = wave.starts.to_vec();
        late[2] += 1_000_000;
        let mut short = wave.starts.to_vec();
        short[1] -= 1;
        // Of the second turn of the first tile.
        let turn = SIDE_BY_SIDE + 1;
        let no_items = &wave.items[1..];
        for (bad, said) in [
            (
                Wave {
                    starts: &more,
                    ..wave
                },
                "add up",
            ),
            (
                Wave {
                    starts: &late,
                    ..wave
                },
                "add up",
            ),
            (
                Wave {
                    items: no_items,
                    ..wave
                },
                "add up",
            ),
            (
                Wave {
                    users: &with(wave.users, 0, 26),
                    ..wave
                },
                "outside",
            ),
            (
                Wave {
                    items: &with(wave.items, 0, 21),
                    ..wave
                },
                "outside",
            ),
            (
                Wave {
                    starts: &short,
                    ..wave
                },
                "not full",
            ),
            (
                Wave {
                    users: &with(wave.users, turn, wave.users[turn + 5]),
                    ..wave
                },
                "in common",
            ),
            (
                Wave {
                    items: &with(wave.items, turn, wave.items[turn + 3]),
                    ..wave
                },
                "in common",
            ),
            (
                Wave {
                    values: Values::Coded {
                        codes,
                        codebook: &codebook[..1],
                    },
                    ..wave
                },
                "none",
            ),
        ] {
            let error = bad.check(grid, 1).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Damaged);
            assert!(error.to_string().contains(said), "{error} for {said}");
        }
    }
}
