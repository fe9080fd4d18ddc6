//! Making tiles: one scan that counts, then as many that cut as memory asks for.
//!
//! Rows come by user, so every tile is filled front to back, and then put into the order of its turns. Each thread has bands of users of
//! its own, and so tiles that nobody else writes. Scans are repeated rather than ratings spilled: reading packed rows again costs a
//! tenth of writing and reading them in a form that can be sorted.

use std::collections::VecDeque;
use std::ops::Range;

use rayon::prelude::*;

use super::grid::Grid;
use super::turns::in_turns;
use super::{Values, Wave};
use crate::error::{Error, ErrorKind, Result};
use crate::matrix::Codebook;
use crate::matrix::{Ratings, Row, RowScratch, Shape, Side};

/// What a first scan tells of tiles to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Census {
    grid: Grid,
    /// Ratings of each user and each item.
    counts: [Vec<u32>; 2],
    /// For each wave, where the ratings of its tiles start, and where those of the last end.
    starts: Vec<Vec<u64>>,
    /// The different ratings, if they are few enough.
    codebook: Option<Codebook>,
}

impl Census {
    /// Counts, in a scan of the users' side.
    ///
    /// # Errors
    /// If ratings cannot be read, or an item lies outside their shape.
    pub fn of<R: Ratings + ?Sized>(ratings: &R) -> Result<Census> {
        let shape = ratings.shape();
        let grid = Grid::new(shape);
        let bands = grid.bands();
        let mut counted: Vec<Counted> = (0..shares(grid)).map(|_| Counted::new(grid)).collect();
        visit(ratings, grid, &mut counted, |counted, user, row| {
            if row.cols.iter().any(|&item| item as usize >= shape.items) {
                let what = format!("row {user} holds an unknown item");
                return Err(Error::new(ErrorKind::Damaged, what));
            }
            counted.add(grid, user, row);
            Ok(())
        })?;
        let users = (0..shape.users).map(|user| {
            let (band, _) = grid.place(user);
            let share = band % counted.len();
            let own = &mut counted[share].users;
            own.pop_front().expect("every user was shown")
        });
        let users = users.collect();
        let mut all = Counted::new(grid);
        counted.iter().for_each(|counted| all.join(counted));
        for starts in &mut all.starts {
            for band in 0..bands {
                starts[band + 1] += starts[band];
            }
        }
        Ok(Census {
            grid,
            counts: [users, all.items],
            starts: all.starts,
            codebook: all.codebook.map(|book| book.sorted()),
        })
    }

    /// How rows are dealt into bands.
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// How many ratings each row of a side has.
    pub fn counts(&self, side: Side) -> &[u32] {
        match side {
            Side::Users => &self.counts[0],
            Side::Items => &self.counts[1],
        }
    }

    /// The different ratings, ascending, if they are at most 256.
    pub fn codebook(&self) -> Option<&[f32]> {
        self.codebook.as_ref().map(Codebook::values)
    }

    /// Bytes that a census of ratings of this shape and the smallest group of waves take: bands are alike, so that a
    /// wave has its share of the ratings; a quarter is added for those that are not quite. Each thread orders a tile at a time.
    pub fn bytes(shape: Shape, threads: usize) -> u64 {
        let bands = Grid::new(shape).bands() as u64;
        let starts = (2 + threads as u64) * (bands + 1) * 8 * bands;
        let counts = (2 * shape.users + (1 + threads) * shape.items) as u64 * 4;
        let wave = shape.ratings.div_ceil(bands) * MOST_BYTES_PER_RATING;
        let ordered =
            shape.ratings.div_ceil(bands * bands) * ORDER_BYTES_PER_RATING * threads as u64;
        counts + starts + wave + wave / 4 + ordered
    }

    /// All waves in groups of which each fits into so many bytes, or is one wave.
    pub fn groups(&self, room: u64) -> Vec<Range<usize>> {
        let value = if self.codebook.is_some() { 1 } else { 4 };
        let bytes = |starts: &[u64]| starts.last().map_or(0, |ratings| ratings * (4 + value));
        let mut groups: Vec<Range<usize>> = Vec::new();
        let mut held = 0;
        for (wave, starts) in self.starts.iter().enumerate() {
            let bytes = bytes(starts);
            match groups.last_mut() {
                Some(group) if held + bytes <= room => group.end = wave + 1,
                _ => {
                    groups.push(wave..wave + 1);
                    held = 0;
                }
            }
            held += bytes;
        }
        groups
    }

    /// Cuts some waves out of the ratings that were counted, in a scan of the users' side. What `done` makes of each, and of its
    /// number, comes in their order; it is called for several at a time.
    ///
    /// # Errors
    /// If ratings cannot be read, and what `done` gives.
    ///
    /// # Panics
    /// If they are others than those that were counted.
    pub fn cut<R: Ratings + ?Sized, D: Send>(
        &self,
        ratings: &R,
        waves: Range<usize>,
        done: impl Fn(usize, HeldWave) -> Result<D> + Sync,
    ) -> Result<Vec<D>> {
        match &self.codebook {
            Some(book) => {
                let code = |value| book.find(value).expect("a rating that was counted");
                self.cut_as(ratings, waves, code, HeldValues::Coded, done)
            }
            None => self.cut_as(ratings, waves, |value| value, HeldValues::Plain, done),
        }
    }

    fn cut_as<R: Ratings + ?Sized, V: Copy + Default + Send + Sync, D: Send>(
        &self,
        ratings: &R,
        waves: Range<usize>,
        encode: impl Fn(f32) -> V + Sync,
        held: impl Fn(Vec<V>) -> HeldValues + Sync,
        done: impl Fn(usize, HeldWave) -> Result<D> + Sync,
    ) -> Result<Vec<D>> {
        let grid = self.grid;
        let starts = &self.starts[waves.clone()];
        let mut cuts: Vec<Cut<V>> = starts.iter().map(|starts| Cut::new(starts)).collect();
        let mut tiles: Vec<Vec<Tile<'_, V>>> = (0..shares(grid)).map(|_| Vec::new()).collect();
        let share = tiles.len();
        for (cut, starts) in cuts.iter_mut().zip(starts) {
            for (user_band, tile) in cut.tiles(starts).into_iter().enumerate() {
                tiles[user_band % share].push(tile);
            }
        }
        visit(ratings, grid, &mut tiles, |tiles, user, row| {
            let (user_band, user) = grid.place(user);
            let bands = tiles.len() / waves.len();
            for (&item, &value) in row.cols.iter().zip(row.values) {
                let (item_band, item) = grid.place(item as usize);
                let wave = grid.wave(user_band, item_band);
                if waves.contains(&wave) {
                    let tile = (wave - waves.start) * bands + user_band / share;
                    tiles[tile].push(user, item, encode(value));
                }
            }
            Ok(())
        })?;
        let finish = |((wave, mut cut), starts): ((usize, Cut<V>), &Vec<u64>)| {
            let tiles = cut
                .tiles(starts)
                .into_par_iter()
                .enumerate()
                .with_max_len(1);
            let in_turns = tiles.map(|(user_band, mut tile)| {
                let item_band = grid.item_band(wave, user_band);
                tile.order(grid.rows(Side::Items, item_band).len()) as u64
            });
            let in_turns: Vec<u64> = in_turns.collect();
            let of_tiles = starts.iter().zip(in_turns);
            let of_tiles = of_tiles.flat_map(|(&start, in_turns)| [start, start + in_turns]);
            let wave_held = HeldWave {
                starts: of_tiles.chain(starts.last().copied()).collect(),
                users: cut.users,
                items: cut.items,
                values: held(cut.values),
            };
            done(wave, wave_held)
        };
        // One is written while others are put in order.
        let cuts: Vec<_> = waves.clone().zip(cuts).zip(starts).collect();
        let finished: Vec<Result<D>> = cuts.into_par_iter().with_max_len(1).map(finish).collect();
        finished.into_iter().collect()
    }
}

/// How many tasks share the bands of users.
fn shares(grid: Grid) -> usize {
    rayon::current_num_threads().min(grid.bands())
}

/// What one task counts in the rows of its bands.
struct Counted {
    /// The length of each row, in order.
    users: VecDeque<u32>,
    /// Ratings of each item.
    items: Vec<u32>,
    /// Ratings of each tile, by wave and behind the number of its user band.
    starts: Vec<Vec<u64>>,
    codebook: Option<Codebook>,
    /// Ratings of a row by item band.
    of_row: Vec<u64>,
}

impl Counted {
    fn new(grid: Grid) -> Counted {
        let bands = grid.bands();
        Counted {
            users: VecDeque::new(),
            items: vec![0; grid.shape().items],
            starts: vec![vec![0; bands + 1]; bands],
            codebook: Some(Codebook::default()),
            of_row: vec![0; bands],
        }
    }

    fn add(&mut self, grid: Grid, user: usize, row: Row<'_>) {
        self.users.push_back(row.len() as u32);
        for &item in row.cols {
            self.items[item as usize] += 1;
            self.of_row[grid.place(item as usize).0] += 1;
        }
        let (user_band, _) = grid.place(user);
        for (item_band, count) in self.of_row.iter_mut().enumerate() {
            self.starts[grid.wave(user_band, item_band)][user_band + 1] += std::mem::take(count);
        }
        self.add_values(row.values);
    }

    fn add_values(&mut self, values: &[f32]) {
        if let Some(book) = &mut self.codebook
            && !values.iter().all(|&value| book.code(value).is_some())
        {
            self.codebook = None;
        }
    }

    /// Adds what another task counted, but for the lengths of rows.
    fn join(&mut self, other: &Counted) {
        let pairs = self.items.iter_mut().zip(&other.items);
        pairs.for_each(|(count, more)| *count += more);
        for (starts, more) in self.starts.iter_mut().zip(&other.starts) {
            let pairs = starts.iter_mut().zip(more);
            pairs.for_each(|(count, more)| *count += more);
        }
        match &other.codebook {
            Some(book) => self.add_values(book.values()),
            None => self.codebook = None,
        }
    }
}

/// Two for the user, two for the item, four for the value.
const MOST_BYTES_PER_RATING: u64 = 8;

/// Two lists of places, and a copy of what is put in order.
const ORDER_BYTES_PER_RATING: u64 = 12;

/// A wave in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldWave {
    starts: Vec<u64>,
    users: Vec<u16>,
    items: Vec<u16>,
    values: HeldValues,
}

#[derive(Debug, Clone, PartialEq)]
enum HeldValues {
    Plain(Vec<f32>),
    Coded(Vec<u8>),
}

impl HeldWave {
    /// The wave, given the codebook of the census that cut it.
    pub fn view<'a>(&'a self, codebook: Option<&'a [f32]>) -> Wave<'a> {
        Wave {
            starts: &self.starts,
            users: &self.users,
            items: &self.items,
            values: match &self.values {
                HeldValues::Plain(values) => Values::Plain(values),
                HeldValues::Coded(codes) => Values::Coded {
                    codes,
                    codebook: codebook.unwrap_or_default(),
                },
            },
        }
    }
}

/// A wave that is being filled.
struct Cut<V> {
    users: Vec<u16>,
    items: Vec<u16>,
    values: Vec<V>,
}

/// A tile that is being filled.
struct Tile<'a, V> {
    filled: usize,
    users: &'a mut [u16],
    items: &'a mut [u16],
    values: &'a mut [V],
}

impl<V: Copy + Default> Cut<V> {
    fn new(starts: &[u64]) -> Cut<V> {
        let ratings = starts.last().map_or(0, |&end| end as usize);
        Cut {
            users: vec![0; ratings],
            items: vec![0; ratings],
            values: vec![V::default(); ratings],
        }
    }

    /// The tiles that start there.
    fn tiles(&mut self, starts: &[u64]) -> Vec<Tile<'_, V>> {
        let mut users = &mut self.users[..];
        let mut items = &mut self.items[..];
        let mut values = &mut self.values[..];
        let tile = |pair: &[u64]| {
            let ratings = (pair[1] - pair[0]) as usize;
            Tile {
                filled: 0,
                users: users.split_off_mut(..ratings).expect("as counted"),
                items: items.split_off_mut(..ratings).expect("as counted"),
                values: values.split_off_mut(..ratings).expect("as counted"),
            }
        };
        starts.windows(2).map(tile).collect()
    }
}

impl<V: Copy> Tile<'_, V> {
    fn push(&mut self, user: u16, item: u16, value: V) {
        let at = self.filled;
        (self.users[at], self.items[at], self.values[at]) = (user, item, value);
        self.filled += 1;
    }

    /// Puts it into the order of its turns, between any users and so many items, and gives how many ratings come in turns.
    fn order(&mut self, rows: usize) -> usize {
        let (order, in_turns) = in_turns(self.users, self.items, rows);
        permute(self.users, &order);
        permute(self.items, &order);
        permute(self.values, &order);
        in_turns
    }
}

/// Puts there what lies at each of these places.
fn permute<T: Copy>(slice: &mut [T], places: &[u32]) {
    let permuted: Vec<T> = places.iter().map(|&at| slice[at as usize]).collect();
    slice.copy_from_slice(&permuted);
}

/// Shows every user's row, to each of some tasks in parallel those of its own bands, in order.
fn visit<R: Ratings + ?Sized, T: Send>(
    ratings: &R,
    grid: Grid,
    tasks: &mut [T],
    see: impl Fn(&mut T, usize, Row<'_>) -> Result<()> + Sync,
) -> Result<()> {
    let share = tasks.len();
    let blocks = ratings.blocks(Side::Users);
    for index in 0..blocks {
        if index + 1 < blocks {
            ratings.will_need(Side::Users, index + 1);
        }
        let block = ratings.block(Side::Users, index)?;
        let of_task = |(number, task): (usize, &mut T)| {
            let mut scratch = RowScratch::default();
            for i in 0..block.rows() {
                let user = block.first_row() + i;
                if grid.place(user).0 % share == number {
                    see(task, user, block.row(i, &mut scratch)).map_err(|error| (user, error))?;
                }
            }
            Ok(())
        };
        let seen = tasks.par_iter_mut().enumerate().map(of_task);
        let failures = seen.filter_map(|seen: std::result::Result<(), (usize, Error)>| seen.err());
        // The first row that failed, whichever task it was shown to.
        if let Some((_, error)) = failures.min_by_key(|(user, _)| *user) {
            return Err(error);
        }
        ratings.done_with(Side::Users, index);
    }
    Ok(())
}
