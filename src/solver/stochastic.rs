//! The driver of rating-wise methods: both rows of a rating move, rating after rating.
//!
//! Ratings lie in [`Tiles`]. An epoch goes over the waves of the grid in an order drawn from the seed and the epoch; the
//! tiles of a wave share neither a user nor an item, so that they run in parallel, each on two bands of rows that nobody
//! else holds: no locks, no races, and the result cannot depend on threads. The next wave is asked for while this one is
//! computed, and the one behind is released.

use rayon::prelude::*;

use super::Tick;
use super::sums::RowSums;
use crate::error::Result;
use crate::matrix::{Factors, Grid, Side, Tile, Tiles};
use crate::rng::{Purpose, Stream};

/// The rows of a band, in order of their numbers there.
#[derive(Debug, Clone)]
pub struct Band<R> {
    /// Their factors; biases are kept with what goes with the rows.
    pub factors: Factors,
    /// What goes with each row.
    pub rows: Vec<R>,
}

/// All rows of one side, dealt into bands.
#[derive(Debug, Clone)]
pub struct Bands<R> {
    grid: Grid,
    side: Side,
    bands: Vec<Band<R>>,
}

impl<R> Bands<R> {
    /// Deals out factors, and for each row what goes with it.
    pub fn deal(
        grid: Grid,
        side: Side,
        factors: &Factors,
        of_row: impl Fn(usize) -> R + Sync,
    ) -> Bands<R>
    where
        R: Send,
    {
        let band = |index| {
            let rows = grid.rows(side, index);
            let mut band = Band {
                factors: Factors::zeros(rows.len(), factors.rank(), false),
                rows: Vec::with_capacity(rows.len()),
            };
            for (at, row) in rows.enumerate() {
                band.factors.row_mut(at).copy_from_slice(factors.row(row));
                band.rows.push(of_row(row));
            }
            band
        };
        Bands {
            grid,
            side,
            bands: (0..grid.bands()).into_par_iter().map(band).collect(),
        }
    }

    /// Puts the factors back.
    pub fn collect(&self, factors: &mut Factors)
    where
        R: Sync,
    {
        let stride = factors.stride();
        let rows = factors.flat_mut().par_chunks_exact_mut(stride);
        rows.enumerate()
            .with_min_len(1 << 10)
            .for_each(|(row, out)| {
                let (band, number) = self.grid.place(row);
                let band = &self.bands[band];
                out.copy_from_slice(band.factors.padded_row(number.into()));
            });
    }

    /// What goes with each row.
    pub fn rows(&self) -> impl Iterator<Item = &R> {
        let rows = 0..self.grid.shape().rows(self.side);
        rows.map(|row| {
            let (band, number) = self.grid.place(row);
            &self.bands[band].rows[usize::from(number)]
        })
    }
}

/// What the ratings of a tile do to their rows.
pub trait Update: Sync {
    /// What goes with a row beside its factors: the bias, what has gathered so far.
    type Row: Send;

    /// Moves the rows of both bands by the ratings of a tile, in order, and tells losses and squared errors as they were
    /// met: each rating's before its own step.
    fn update(
        &self,
        tile: Tile<'_>,
        users: &mut Band<Self::Row>,
        items: &mut Band<Self::Row>,
    ) -> RowSums;
}

/// Goes over all ratings once, on both sides' rows. Sums are added in order of waves, in a wave in order of user bands.
///
/// # Errors
/// If tiles cannot be read.
pub fn epoch<U: Update>(
    (seed, epoch): (u64, usize),
    tiles: &dyn Tiles,
    update: &U,
    users: &mut Bands<U::Row>,
    items: &mut Bands<U::Row>,
    tick: Tick<'_>,
) -> Result<RowSums> {
    let grid = tiles.grid();
    let mut total = RowSums::default();
    let mut stream = Stream::new(seed, Purpose::Waves, epoch as u64, 0);
    let order = stream.permutation(grid.bands());
    for (at, &number) in order.iter().enumerate() {
        if let Some(&next) = order.get(at + 1) {
            tiles.will_need(next);
        }
        let wave = tiles.wave(number)?;
        // Item bands in the order of the user bands that they meet.
        items.bands.rotate_left(number);
        debug_assert_eq!(grid.item_band(number, 0), number);
        let pairs = users.bands.par_iter_mut().zip(&mut items.bands);
        let sums: Vec<RowSums> = pairs
            .enumerate()
            .with_max_len(1)
            .map(|(user_band, (users, items))| {
                let tile = wave.tile(user_band);
                let sums = update.update(tile, users, items);
                tick(tile.values.len() as u64);
                sums
            })
            .collect();
        sums.into_iter().for_each(|sums| total.add(sums));
        items.bands.rotate_right(number);
        tiles.done_with(number);
    }
    Ok(total)
}
