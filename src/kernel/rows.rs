//! Rows of factors by number, of a length that the compiler knows where it is a common one: it then unrolls the loops over
//! a row, keeps the row that meets all others in registers, and looks once whether there is a row of that number.

use super::vector::{LANES, Vector};

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

    /// Asks for the lines of a row.
    fn prefetch<V: Vector>(self, v: V, col: u32);

    /// How many rows ahead of their use lines are asked for: far enough to cover a read from memory, near enough that they are
    /// still in the first cache when they are used.
    fn ahead(self) -> usize;
}

/// Rows of `N` vectors each.
#[derive(Clone, Copy)]
pub(super) struct Short<'a, const N: usize>(&'a [[[f32; LANES]; N]]);

impl<'a, const N: usize> Short<'a, N> {
    #[inline(always)]
    pub(super) fn new(flat: &'a [f32]) -> Short<'a, N> {
        Short(flat.as_chunks().0.as_chunks().0)
    }
}

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
        &self.0[col as usize]
    }

    #[inline(always)]
    fn prefetch<V: Vector>(self, v: V, col: u32) {
        for line in 0..N {
            v.prefetch(self.0.as_flattened(), col as usize * N + line);
        }
    }

    #[inline(always)]
    fn ahead(self) -> usize {
        ahead(N)
    }
}

/// Rows of any length.
#[derive(Clone, Copy)]
pub(super) struct Long<'a> {
    lines: &'a [[f32; LANES]],
    /// Vectors of a row.
    vectors: usize,
}

impl<'a> Long<'a> {
    #[inline(always)]
    pub(super) fn new(flat: &'a [f32], vectors: usize) -> Long<'a> {
        Long {
            lines: flat.as_chunks().0,
            vectors,
        }
    }
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
        &self.lines[col as usize * self.vectors..][..self.vectors]
    }

    #[inline(always)]
    fn prefetch<V: Vector>(self, v: V, col: u32) {
        for line in 0..self.vectors {
            v.prefetch(self.lines, col as usize * self.vectors + line);
        }
    }

    #[inline(always)]
    fn ahead(self) -> usize {
        ahead(self.vectors)
    }
}

const fn ahead(vectors: usize) -> usize {
    match vectors {
        0 | 1 => 32,
        2 | 3 => 16,
        _ => 8,
    }
}
