//! Making tiles: one scan that counts, then as many that cut as memory asks for.
//!
//! Rows come by user, so every tile is filled front to back, and then put into the order of its turns. Scans are repeated rather than
//! ratings spilled: reading packed rows again costs a tenth of writing and reading them in a form that can be sorted.

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
        let mut counts = [vec![0_u32; shape.users], vec![0_u32; shape.items]];
        let mut starts = vec![vec![0_u64; bands + 1]; bands];
        let mut codebook = Some(Codebook::default());
        let mut of_row = vec![0_u64; bands];
        visit(ratings, |user, row| {
            if row.cols.iter().any(|&item| item as usize >= shape.items) {
                let what = format!("row {user} holds an unknown item");
                return Err(Error::new(ErrorKind::Damaged, what));
            }
            counts[0][user] = row.len() as u32;
            for &item in row.cols {
                counts[1][item as usize] += 1;
                of_row[grid.place(item as usize).0] += 1;
            }
            let (user_band, _) = grid.place(user);
            for (item_band, count) in of_row
                .iter_mut()
                .enumerate()
                .filter(|(_, count)| **count > 0)
            {
                let starts = &mut starts[grid.wave(user_band, item_band)];
                starts[user_band + 1] += std::mem::take(count);
            }
            if let Some(book) = &mut codebook
                && !row.values.iter().all(|&value| book.code(value).is_some())
            {
                codebook = None;
            }
            Ok(())
        })?;
        for starts in &mut starts {
            for i in 1..starts.len() {
                starts[i] += starts[i - 1];
            }
        }
        Ok(Census {
            grid,
            counts,
            starts,
            codebook: codebook.map(|book| book.sorted()),
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
        let starts = (3 * bands + 2) * 8 * bands;
        let wave = shape.ratings.div_ceil(bands) * MOST_BYTES_PER_RATING;
        let ordered =
            shape.ratings.div_ceil(bands * bands) * ORDER_BYTES_PER_RATING * threads as u64;
        (shape.users + shape.items) as u64 * 4 + starts + wave + wave / 4 + ordered
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

    /// Cuts some waves out of the ratings that were counted, in a scan of the users' side.
    ///
    /// # Errors
    /// If ratings cannot be read.
    ///
    /// # Panics
    /// If they are others than those that were counted.
    pub fn cut<R: Ratings + ?Sized>(
        &self,
        ratings: &R,
        waves: Range<usize>,
    ) -> Result<Vec<HeldWave>> {
        match &self.codebook {
            Some(book) => {
                let code = |value| book.find(value).expect("a rating that was counted");
                self.cut_as(ratings, waves, code, HeldValues::Coded)
            }
            None => self.cut_as(ratings, waves, |value| value, HeldValues::Plain),
        }
    }

    fn cut_as<R: Ratings + ?Sized, V: Copy + Default + Send + Sync>(
        &self,
        ratings: &R,
        waves: Range<usize>,
        encode: impl Fn(f32) -> V,
        held: impl Fn(Vec<V>) -> HeldValues,
    ) -> Result<Vec<HeldWave>> {
        let grid = self.grid;
        let mut cuts: Vec<Cut<V>> = self.starts[waves.clone()]
            .iter()
            .map(|starts| Cut::new(starts))
            .collect();
        visit(ratings, |user, row| {
            let (user_band, user) = grid.place(user);
            for (&item, &value) in row.cols.iter().zip(row.values) {
                let (item_band, item) = grid.place(item as usize);
                let wave = grid.wave(user_band, item_band);
                if let Some(cut) = wave
                    .checked_sub(waves.start)
                    .and_then(|wave| cuts.get_mut(wave))
                {
                    cut.push(user_band, user, item, encode(value));
                }
            }
            Ok(())
        })?;
        let finish = |(wave, mut cut): (usize, Cut<V>)| {
            let starts = cut.order(&self.starts[wave], |user_band| {
                let item_band = grid.item_band(wave, user_band);
                grid.rows(Side::Items, item_band).len()
            });
            HeldWave {
                starts,
                users: cut.users,
                items: cut.items,
                values: held(cut.values),
            }
        };
        Ok(waves.zip(cuts).map(finish).collect())
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
    /// Where the next rating of each tile goes.
    next: Vec<usize>,
    users: Vec<u16>,
    items: Vec<u16>,
    values: Vec<V>,
}

impl<V: Copy + Default + Send + Sync> Cut<V> {
    fn new(starts: &[u64]) -> Cut<V> {
        let ratings = starts.last().map_or(0, |&end| end as usize);
        Cut {
            next: starts.iter().map(|&start| start as usize).collect(),
            users: vec![0; ratings],
            items: vec![0; ratings],
            values: vec![V::default(); ratings],
        }
    }

    fn push(&mut self, user_band: usize, user: u16, item: u16, value: V) {
        let at = self.next[user_band];
        (self.users[at], self.items[at], self.values[at]) = (user, item, value);
        self.next[user_band] += 1;
    }

    /// Puts tiles that start there, with so many items by user band, into the order of their turns, and gives [`Wave::starts`].
    fn order(&mut self, starts: &[u64], items_of: impl Fn(usize) -> usize + Sync) -> Vec<u64> {
        let mut users = &mut self.users[..];
        let mut items = &mut self.items[..];
        let mut values = &mut self.values[..];
        let mut tiles = Vec::new();
        for pair in starts.windows(2) {
            let ratings = (pair[1] - pair[0]) as usize;
            tiles.push((
                users.split_off_mut(..ratings).expect("as counted"),
                items.split_off_mut(..ratings).expect("as counted"),
                values.split_off_mut(..ratings).expect("as counted"),
            ));
        }
        let tiles = tiles.into_par_iter().enumerate();
        let in_turns = tiles.map(|(user_band, (users, items, values))| {
            let (order, in_turns) = in_turns(users, items, items_of(user_band));
            permute(users, &order);
            permute(items, &order);
            permute(values, &order);
            in_turns as u64
        });
        let in_turns: Vec<u64> = in_turns.collect();
        let of_tiles = starts.iter().zip(in_turns);
        let starts_of = of_tiles.flat_map(|(&start, in_turns)| [start, start + in_turns]);
        starts_of.chain(starts.last().copied()).collect()
    }
}

/// Puts there what lies at each of these places.
fn permute<T: Copy>(slice: &mut [T], places: &[u32]) {
    let permuted: Vec<T> = places.iter().map(|&at| slice[at as usize]).collect();
    slice.copy_from_slice(&permuted);
}

/// Shows every user's row in order.
fn visit<R: Ratings + ?Sized>(
    ratings: &R,
    mut see: impl FnMut(usize, Row<'_>) -> Result<()>,
) -> Result<()> {
    let mut scratch = RowScratch::default();
    let blocks = ratings.blocks(Side::Users);
    for index in 0..blocks {
        if index + 1 < blocks {
            ratings.will_need(Side::Users, index + 1);
        }
        let block = ratings.block(Side::Users, index)?;
        for i in 0..block.rows() {
            see(block.first_row() + i, block.row(i, &mut scratch))?;
        }
        ratings.done_with(Side::Users, index);
    }
    Ok(())
}
