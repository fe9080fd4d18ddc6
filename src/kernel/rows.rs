//! Rows of factors by number, of a length that the compiler knows where it is a common one: it then unrolls the loops over
//! a row, and keeps the row that meets all others in registers.

use super::vector::{LANES, Vector};
use super::{prefetch_ahead, row};

/// Rows of factors by number.
pub(super) trait Rows<'a>: Copy {
    /// The vectors of a row.
    type Row: AsRef<[[f32; LANES]]> + AsMut<[[f32; LANES]]> + ?Sized + 'a;

    /// One row of the same length that lies elsewhere.
    fn alone(row: &[[f32; LANES]]) -> &Self::Row;

    /// The same, to be written.
    fn alone_mut(row: &mut [[f32; LANES]]) -> &mut Self::Row;

    /// A row.
    ///
    /// # Panics
    /// If there is no such row.
    fn row(self, col: u32) -> &'a Self::Row;

    /// Asks for the row that follows the `i`th of `cols` by some.
    fn prefetch_ahead<V: Vector>(self, v: V, cols: &[u32], i: usize);
}

/// Rows of `N` vectors each.
#[derive(Clone, Copy)]
pub(super) struct Short<'a, const N: usize>(pub &'a [f32]);

impl<'a, const N: usize> Rows<'a> for Short<'a, N> {
    type Row = [[f32; LANES]; N];

    #[inline(always)]
    fn alone(row: &[[f32; LANES]]) -> &Self::Row {
        row.try_into().expect("a row of this length")
    }

    #[inline(always)]
    fn alone_mut(row: &mut [[f32; LANES]]) -> &mut Self::Row {
        row.try_into().expect("a row of this length")
    }

    #[inline(always)]
    fn row(self, col: u32) -> &'a Self::Row {
        Self::alone(row(self.0, N * LANES, col as usize).as_chunks().0)
    }

    #[inline(always)]
    fn prefetch_ahead<V: Vector>(self, v: V, cols: &[u32], i: usize) {
        prefetch_ahead(v, self.0, N * LANES, cols, i);
    }
}

/// Rows of any length.
#[derive(Clone, Copy)]
pub(super) struct Long<'a> {
    pub flat: &'a [f32],
    /// Vectors of a row.
    pub vectors: usize,
}

impl<'a> Rows<'a> for Long<'a> {
    type Row = [[f32; LANES]];

    #[inline(always)]
    fn alone(row: &[[f32; LANES]]) -> &Self::Row {
        row
    }

    #[inline(always)]
    fn alone_mut(row: &mut [[f32; LANES]]) -> &mut Self::Row {
        row
    }

    #[inline(always)]
    fn row(self, col: u32) -> &'a Self::Row {
        row(self.flat, self.vectors * LANES, col as usize)
            .as_chunks()
            .0
    }

    #[inline(always)]
    fn prefetch_ahead<V: Vector>(self, v: V, cols: &[u32], i: usize) {
        prefetch_ahead(v, self.flat, self.vectors * LANES, cols, i);
    }
}
