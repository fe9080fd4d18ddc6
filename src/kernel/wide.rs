//! Sums in f64: the Gram matrix of many rows and its product with one row, which stand in for cells without a rating, and the
//! elimination of some rows from others.
//!
//! Order. Every entry has one accumulator, to which products are added one by one, in order of rows; a product is rounded
//! before it is added. These are plain loops, compiled for each instruction set: with an accumulator of its own for every
//! entry, nothing depends on how many of them fill a register.

use super::vector::Vector;
use super::{Isa, Kernel};

/// Rows and columns of entries that are summed at a time: as many as there are registers for. Strides are a multiple of it.
const TILE: usize = 8;

/// Adds `x x^T` for each row x of `flat` to `sum`, a matrix of rank x rank, on and below its diagonal.
///
/// # Panics
/// If the rank does not fit the stride, the stride is none of factors, `flat` is not made of such rows, or `sum` has another
/// size.
pub fn add_squares(isa: Isa, flat: &[f32], stride: usize, rank: usize, sum: &mut [f64]) {
    assert!(rank <= stride && flat.len().is_multiple_of(stride), "rows");
    assert!(stride.is_multiple_of(TILE), "padded rows");
    assert_eq!(sum.len(), rank * rank, "a square of the rank");
    isa.run(AddSquares {
        flat,
        stride,
        rank,
        sum,
    });
}

struct AddSquares<'a> {
    flat: &'a [f32],
    stride: usize,
    rank: usize,
    sum: &'a mut [f64],
}

impl Kernel for AddSquares<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(mut self, _: V) {
        for i in (0..self.rank).step_by(TILE) {
            for j in (0..=i).step_by(TILE) {
                self.add_tile(i, j);
            }
        }
    }
}

impl AddSquares<'_> {
    /// Adds to the entries from (i, j) on, which stay in registers for all rows. Above the diagonal it is work for nothing.
    #[inline(always)]
    fn add_tile(&mut self, i: usize, j: usize) {
        let (rows, columns) = (TILE.min(self.rank - i), TILE.min(self.rank - j));
        let mut tile = [[0.0; TILE]; TILE];
        for (r, tile) in tile[..rows].iter_mut().enumerate() {
            let entries = &self.sum[(i + r) * self.rank + j..];
            tile[..columns].copy_from_slice(&entries[..columns]);
        }
        for row in self.flat.chunks_exact(self.stride) {
            let part = |at: usize| -> [f32; TILE] { row[at..][..TILE].try_into().expect("padded") };
            let (own, other) = (part(i), part(j).map(f64::from));
            for (tile, own) in tile.iter_mut().zip(own) {
                let own = f64::from(own);
                for (entry, other) in tile.iter_mut().zip(other) {
                    *entry += own * other;
                }
            }
        }
        for (r, tile) in tile[..rows].iter().enumerate() {
            let columns = columns.min(i + r + 1 - j);
            let entries = &mut self.sum[(i + r) * self.rank + j..];
            entries[..columns].copy_from_slice(&tile[..columns]);
        }
    }
}

/// The product of a symmetric matrix with a vector: the sum of its rows times the vector's entries, in `out`.
///
/// # Panics
/// If the matrix is no square of the vector's length, or `out` has another length.
pub fn symmetric_product(isa: Isa, matrix: &[f64], vector: &[f64], out: &mut [f64]) {
    assert_eq!(matrix.len(), vector.len() * vector.len(), "a square");
    assert_eq!(out.len(), vector.len(), "one entry for each row");
    isa.run(SymmetricProduct {
        matrix,
        vector,
        out,
    });
}

struct SymmetricProduct<'a> {
    matrix: &'a [f64],
    vector: &'a [f64],
    out: &'a mut [f64],
}

impl Kernel for SymmetricProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(mut self, _: V) {
        // As many entries at a time as stay in registers over all rows.
        let at = self.part::<32>(0);
        let at = self.part::<8>(at);
        self.part::<1>(at);
    }
}

impl SymmetricProduct<'_> {
    /// The entries from `at` on, `N` by `N`; where the rest of them begins.
    #[inline(always)]
    fn part<const N: usize>(&mut self, mut at: usize) -> usize {
        let rank = self.vector.len();
        while rank - at >= N {
            let mut sum = [0.0; N];
            for (row, &x) in self.matrix.chunks_exact(rank).zip(self.vector) {
                let row: &[f64; N] = row[at..].first_chunk().expect("N entries");
                for j in 0..N {
                    sum[j] += row[j] * x;
                }
            }
            self.out[at..at + N].copy_from_slice(&sum);
            at += N;
        }
        at
    }
}

/// Rows that a product is subtracted from together, and their entries: as many as fit the registers.
const TILE_ROWS: usize = 4;
const TILE_COLUMNS: usize = 16;

/// Subtracts from each row of `rows` those of `others`, each times a coefficient: every row has as many of these as there are
/// others. All rows have `width` entries.
///
/// # Panics
/// If `rows`, `coefficients` and `others` do not fit together.
pub fn subtract_products(
    isa: Isa,
    width: usize,
    rows: &mut [f64],
    coefficients: &[f64],
    others: &[f64],
) {
    assert!(rows.len().is_multiple_of(width) && others.len().is_multiple_of(width));
    let pairs = rows.len() / width * (others.len() / width);
    assert_eq!(
        coefficients.len(),
        pairs,
        "a coefficient for each pair of rows"
    );
    isa.run(SubtractProducts {
        rows,
        coefficients,
        others,
        width,
    });
}

struct SubtractProducts<'a> {
    rows: &'a mut [f64],
    coefficients: &'a [f64],
    others: &'a [f64],
    width: usize,
}

impl Kernel for SubtractProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(mut self, _: V) {
        let whole = self.width / TILE_COLUMNS * TILE_COLUMNS;
        for column in (0..whole).step_by(TILE_COLUMNS) {
            self.column::<TILE_COLUMNS>(column);
        }
        for column in whole..self.width {
            self.column::<1>(column);
        }
    }
}

impl SubtractProducts<'_> {
    /// Some columns of all rows.
    #[inline(always)]
    fn column<const C: usize>(&mut self, column: usize) {
        let rows = self.rows.len() / self.width;
        let whole = rows / TILE_ROWS * TILE_ROWS;
        for row in (0..whole).step_by(TILE_ROWS) {
            self.tile::<TILE_ROWS, C>(row, column);
        }
        for row in whole..rows {
            self.tile::<1, C>(row, column);
        }
    }

    #[inline(always)]
    fn tile<const R: usize, const C: usize>(&mut self, row: usize, column: usize) {
        let width = self.width;
        let others = self.others.len() / width;
        let mut sums = [[0.0; C]; R];
        for (r, sums) in sums.iter_mut().enumerate() {
            sums.copy_from_slice(&self.rows[(row + r) * width + column..][..C]);
        }
        let mut own = [&[] as &[f64]; R];
        for (own, at) in own.iter_mut().zip(row..) {
            *own = &self.coefficients[at * others..][..others];
        }
        for k in 0..others {
            let other = &self.others[k * width + column..][..C];
            for r in 0..R {
                for c in 0..C {
                    sums[r][c] -= own[r][k] * other[c];
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            self.rows[(row + r) * width + column..][..C].copy_from_slice(sums);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{noise, noise_rows};
    use super::super::vector::LANES;
    use super::*;

    #[test]
    fn sums_follow_the_order_on_every_unit() {
        for (rank, rows) in [(1, 3), (5, 4), (16, 9), (37, 6), (64, 256)] {
            let stride = usize::next_multiple_of(rank, LANES);
            let flat = noise_rows(rank as u64, rows, rank);
            let start: Vec<f64> = noise(7, rank * rank).into_iter().map(f64::from).collect();
            let mut twin = start.clone();
            for row in flat.chunks_exact(stride) {
                for i in 0..rank {
                    for j in 0..=i {
                        twin[i * rank + j] += f64::from(row[i]) * f64::from(row[j]);
                    }
                }
            }
            let vector: Vec<f64> = noise(8, rank).into_iter().map(f64::from).collect();
            let entry = |j: usize| {
                let products = (0..rank).map(|i| start[i * rank + j] * vector[i]);
                products.fold(0.0, |sum: f64, product| sum + product)
            };
            let product: Vec<f64> = (0..rank).map(entry).collect();
            for isa in Isa::available() {
                let mut sum = start.clone();
                add_squares(isa, &flat, stride, rank, &mut sum);
                assert_eq!(sum, twin, "{isa:?}");
                let mut out = vec![f64::NAN; rank];
                symmetric_product(isa, &start, &vector, &mut out);
                assert_eq!(out, product, "{isa:?}");
            }
        }
    }
}
