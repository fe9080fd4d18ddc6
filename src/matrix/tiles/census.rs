//! Making tiles: one scan that counts, then as many that cut as memory asks for.
//!
//! Rows come by user, and items ascend within a row, so every tile is filled front to back. Scans are repeated rather than
//! ratings spilled: reading packed rows again costs a tenth of writing and reading them in a form that can be sorted.

use std::ops::Range;

use super::grid::Grid;
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
    /// [`Wave::starts`] of each wave.
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
        let mut starts = vec![vec![0_u64; 2 * bands + 2]; bands];
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
                starts[2 * user_band + 2] += 1;
                starts[2 * user_band + 3] += std::mem::take(count);
            }
            if let Some(book) = &mut codebook
                && !row.values.iter().all(|&value| book.code(value).is_some())
            {
                codebook = None;
            }
            Ok(())
        })?;
        for starts in &mut starts {
            for i in 2..starts.len() {
                starts[i] += starts[i - 2];
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
    /// wave has its share of the ratings; a quarter is added for those that are not quite.
    pub fn bytes(shape: Shape) -> u64 {
        let bands = Grid::new(shape).bands() as u64;
        let starts = (2 * bands + 2) * 8 * bands;
        let wave = shape.ratings.div_ceil(bands) * MOST_BYTES_PER_RATING;
        (shape.users + shape.items) as u64 * 4 + starts + wave + wave / 4
    }

    /// All waves in groups of which each fits into so many bytes, or is one wave.
    pub fn groups(&self, room: u64) -> Vec<Range<usize>> {
        let value = if self.codebook.is_some() { 1 } else { 4 };
        let bytes = |starts: &[u64]| match starts {
            [.., users, ratings] => users * 4 + ratings * (2 + value),
            _ => 0,
        };
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

    fn cut_as<R: Ratings + ?Sized, V: Copy + Default>(
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
        let finish = |(cut, starts): (Cut<V>, &Vec<u64>)| HeldWave {
            starts: starts.clone(),
            users: cut.users,
            lengths: cut.lengths,
            items: cut.items,
            values: held(cut.values),
        };
        Ok(cuts
            .into_iter()
            .zip(&self.starts[waves])
            .map(finish)
            .collect())
    }
}

/// Two for the item, four for the value, four for a user who has a single rating in a tile.
const MOST_BYTES_PER_RATING: u64 = 10;

/// A wave in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldWave {
    starts: Vec<u64>,
    users: Vec<u16>,
    lengths: Vec<u16>,
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
            lengths: &self.lengths,
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
    /// Where the next user and the next rating of each tile go.
    next: Vec<[usize; 2]>,
    /// Where the users of each tile start.
    first: Vec<usize>,
    users: Vec<u16>,
    lengths: Vec<u16>,
    items: Vec<u16>,
    values: Vec<V>,
}

impl<V: Copy + Default> Cut<V> {
    fn new(starts: &[u64]) -> Cut<V> {
        let pairs = || {
            starts
                .chunks_exact(2)
                .map(|pair| [pair[0] as usize, pair[1] as usize])
        };
        let [users, ratings] = pairs().next_back().unwrap_or_default();
        Cut {
            next: pairs().collect(),
            first: pairs().map(|[users, _]| users).collect(),
            users: vec![0; users],
            lengths: vec![0; users],
            items: vec![0; ratings],
            values: vec![V::default(); ratings],
        }
    }

    fn push(&mut self, user_band: usize, user: u16, item: u16, value: V) {
        let [next_user, at] = &mut self.next[user_band];
        if *next_user > self.first[user_band] && self.users[*next_user - 1] == user {
            self.lengths[*next_user - 1] += 1;
        } else {
            self.users[*next_user] = user;
            *next_user += 1;
        }
        (self.items[*at], self.values[*at]) = (item, value);
        *at += 1;
    }
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
