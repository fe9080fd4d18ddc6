//! The driver of rating-wise methods: both rows of a rating move, rating after rating.
//!
//! Ratings lie in [`Tiles`]. An epoch goes over the waves of the grid in an order drawn from the seed and the epoch; the
//! tiles of a wave share neither a user nor an item, so that they run in parallel, each on two bands of rows that nobody
//! else holds: no locks, no races, and the result cannot depend on threads. The next wave is asked for while this one is
//! computed, and the one behind is released.

use rayon::prelude::*;

use super::Tick;
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
        of_row: impl Fn(usize) -> R,
    ) -> Bands<R> {
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
            bands: (0..grid.bands()).map(band).collect(),
        }
    }

    /// Puts the factors back, and shows with each row what goes with it.
    pub fn collect(&self, factors: &mut Factors, mut see: impl FnMut(&mut Factors, usize, &R)) {
        for (index, band) in self.bands.iter().enumerate() {
            for (at, row) in self.grid.rows(self.side, index).enumerate() {
                factors.row_mut(row).copy_from_slice(band.factors.row(at));
                see(factors, row, &band.rows[at]);
            }
        }
    }
}

/// What the ratings of a tile do to their rows.
pub trait Update: Sync {
    /// What goes with a row beside its factors: the bias, what has gathered so far.
    type Row: Send;

    /// Moves the rows of both bands by the ratings of a tile, in order.
    fn update(&self, tile: Tile<'_>, users: &mut Band<Self::Row>, items: &mut Band<Self::Row>);
}

/// Goes over all ratings once, on both sides' rows.
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
) -> Result<()> {
    let grid = tiles.grid();
    let order = order(seed, epoch, grid.bands());
    for (at, &number) in order.iter().enumerate() {
        if let Some(&next) = order.get(at + 1) {
            tiles.will_need(next);
        }
        let wave = tiles.wave(number)?;
        // Item bands in the order of the user bands that they meet.
        items.bands.rotate_left(number);
        debug_assert_eq!(grid.item_band(number, 0), number);
        let pairs = users.bands.par_iter_mut().zip(&mut items.bands);
        pairs.enumerate().for_each(|(user_band, (users, items))| {
            let tile = wave.tile(user_band);
            update.update(tile, users, items);
            tick(tile.values.len() as u64);
        });
        items.bands.rotate_right(number);
        tiles.done_with(number);
    }
    Ok(())
}

/// The order of the waves of an epoch (Fisher and Yates).
fn order(seed: u64, epoch: usize, waves: usize) -> Vec<usize> {
    let mut stream = Stream::new(seed, Purpose::Waves, epoch as u64, 0);
    let mut order: Vec<_> = (0..waves).collect();
    for last in (1..waves).rev() {
        order.swap(last, stream.below(last as u64 + 1) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_has_every_wave_in_an_order_of_its_own() {
        let first = order(1, 1, 32);
        assert_eq!(first, order(1, 1, 32));
        assert_ne!(first, order(1, 2, 32));
        assert_ne!(first, order(2, 1, 32));
        let mut sorted = first;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..32).collect::<Vec<_>>());
    }
}
