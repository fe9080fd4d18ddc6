//! Row steps that look at a row's ratings more than once.
//!
//! The driver hands a row over in segments. What needs all of them together implements [`WholeRow`] instead; [`Whole`]
//! gathers columns and targets, 8 bytes a rating, and solves at the end.

use super::alternating::PART;
use super::row_step::{Cost, Fixed, Own, OwnMut, RowStep};
use super::sweep::Sweep;
use crate::error::Result;
use crate::kernel::LANES;
use crate::matrix::{Row, Shape};

/// One row of the moving side, with all its ratings at hand, the other side fixed.
pub trait WholeRow: Sync {
    /// What all rows of a half-epoch share.
    type Shared: Sync;

    /// What the driver measures on the way.
    fn cost(&self) -> &impl Cost;

    /// Floats to work in: for each rating, and beside those.
    fn room(&self) -> [usize; 2];

    /// Computes what all rows share.
    fn shared(&self, fixed: &Fixed<'_>) -> Self::Shared;

    /// Writes the row. Its values are targets: what the product and the biases should give.
    fn solve(
        &self,
        own: OwnMut<'_>,
        targets: Row<'_>,
        fixed: &Fixed<'_>,
        shared: &Self::Shared,
        room: Room<'_>,
    ) -> Result<()>;
}

/// Floats to work in, with whatever the last row has left there.
pub struct Room<'a> {
    /// For each float that was asked for by rating: the number of ratings, padded to whole lines.
    pub by_rating: &'a mut [f32],
    /// As many as were asked for.
    pub beside: &'a mut [f32],
}

/// The length of a slice with one float for each rating that kernels run over.
pub fn padded(ratings: usize) -> usize {
    ratings.next_multiple_of(LANES)
}

/// Copies the [`LANES`] factors from `first` on of all `cols`: factor after factor, each in as many floats as there are
/// ratings, padded with zeros. Each cache line of the fixed side is then read once for sixteen factors.
pub fn transpose(fixed: &Fixed<'_>, cols: &[u32], first: usize, out: &mut [f32]) {
    let (flat, stride) = (fixed.factors.flat(), fixed.factors.stride());
    let pitch = padded(cols.len());
    for (j, &col) in cols.iter().enumerate() {
        let q = &flat[col as usize * stride + first..][..LANES];
        for (x, factor) in q.iter().zip(out.chunks_exact_mut(pitch)) {
            factor[j] = *x;
        }
    }
    for factor in out.chunks_exact_mut(pitch.max(1)) {
        factor[cols.len()..].fill(0.0);
    }
}

/// A whole-row method as a row step.
pub struct Whole<M>(pub M);

impl<M: WholeRow + Send> Sweep for Whole<M> {
    fn memory(&self, shape: Shape, threads: usize) -> u64 {
        let [by_rating, beside] = self.0.room();
        let longest = shape.users.max(shape.items);
        // Every thread may be at a long row, and keeps room for short ones.
        let rows = threads;
        let ratings = rows * longest;
        // Columns and targets are in vectors that grow, and so may be twice as long as they need to be.
        4 * (ratings * (by_rating + 4) + rows * beside) as u64
    }
}

/// A row's ratings, and room to work in.
pub struct Gathered {
    cols: Vec<u32>,
    targets: Vec<f32>,
    by_rating: Vec<f32>,
    beside: Vec<f32>,
}

impl<M: WholeRow> RowStep for Whole<M> {
    type Shared = M::Shared;
    type Sums = Gathered;

    fn sums(&self) -> Gathered {
        Gathered {
            cols: Vec::new(),
            targets: Vec::new(),
            by_rating: Vec::new(),
            beside: vec![0.0; self.0.room()[1]],
        }
    }

    fn shared(&self, fixed: &Fixed<'_>) -> M::Shared {
        self.0.shared(fixed)
    }

    fn begin(&self, sums: &mut Gathered) {
        sums.cols.clear();
        sums.targets.clear();
    }

    fn accumulate(&self, _own: Own<'_>, segment: Row<'_>, fixed: &Fixed<'_>, sums: &mut Gathered) {
        let targets = segment.values.iter().map(|&rating| fixed.target(rating));
        sums.cols.extend_from_slice(segment.cols);
        sums.targets.extend(targets);
    }

    fn merge(&self, next: &Gathered, sums: &mut Gathered) {
        sums.cols.extend_from_slice(&next.cols);
        sums.targets.extend_from_slice(&next.targets);
    }

    fn finish(
        &self,
        own: OwnMut<'_>,
        ratings: usize,
        fixed: &Fixed<'_>,
        shared: &M::Shared,
        sums: &mut Gathered,
    ) -> Result<()> {
        let row = Row {
            cols: &sums.cols,
            values: &sums.targets,
        };
        let floats = self.0.room()[0] * padded(ratings);
        if sums.by_rating.len() < floats {
            let more = floats - sums.by_rating.len();
            sums.by_rating.reserve_exact(more);
            sums.by_rating.resize(floats, 0.0);
        }
        let room = Room {
            by_rating: &mut sums.by_rating[..floats],
            beside: &mut sums.beside,
        };
        self.0.solve(own, row, fixed, shared, room)?;
        if ratings > PART {
            // The next row is seldom as long.
            sums.cols = Vec::new();
            sums.targets = Vec::new();
            sums.by_rating = Vec::new();
        }
        Ok(())
    }

    fn needs_whole_rows(&self) -> bool {
        true
    }

    fn cost(&self) -> &impl Cost {
        self.0.cost()
    }
}
