//! Axes along which items have most of their length first, so that a few factors tell most of a score.
//!
//! The rows p and q of a user and an item keep their product when both are turned by the same orthogonal matrix R:
//! `<R^T p, R^T q> = <p, q>`. Where the columns of R are the principal axes of the items, in descending order, what is left
//! of either row after the first few is short, and so is the product of what is left (Teflioudi, Gemulla and Mykytiuk:
//! LEMP, SIGMOD 2015; Li, Chan, Yiu and Mamoulis: FEXIPRO, SIGMOD 2017). R need not be exact for that, but orthogonal: it is
//! the Q of a QR decomposition of the fourth power of the items' Gram matrix, as four rounds of subspace iteration from the
//! unit matrix would find it. Some `8 rank^3` flops once, and `2 rank^2` for each row.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use crate::kernel::{self, ByteScale, Isa, PackedItems, TILE, UserRows};
use crate::matrix::Factors;

/// Ranks at which turning is worth it, and exact enough.
const RANKS: RangeInclusive<usize> = 32..=512;

/// Rows that the Gram matrix is summed over, for each factor: a sample is enough.
const SAMPLE: usize = 32;

/// An orthogonal matrix; the unit matrix where turning does not pay.
pub(super) struct Axes {
    isa: Isa,
    rank: usize,
    /// Its columns, packed as items to be scored.
    columns: Option<Vec<f32>>,
}

impl Axes {
    /// The axes of these items.
    pub(super) fn of(items: &Factors) -> Axes {
        let (isa, rank) = (Isa::best(), items.rank());
        let gram = RANKS.contains(&rank).then(|| gram(isa, items));
        let columns = gram.flatten().map(|gram| {
            let square = product(&gram, &gram, rank);
            let axes = orthonormal(product(&square, &square, rank), rank);
            let mut columns = Factors::zeros(rank, rank, false);
            for axis in 0..rank {
                for (i, x) in columns.row_mut(axis).iter_mut().enumerate() {
                    *x = axes[i * rank + axis] as f32;
                }
            }
            let (flat, stride) = (columns.flat(), columns.stride());
            let mut packed = vec![0.0; kernel::packed_len(rank, rank)];
            kernel::pack_items(isa, flat, stride, rank, 0..rank, &mut packed);
            packed
        });
        Axes { isa, rank, columns }
    }

    /// Bytes of the matrix, and of a row that has been turned.
    pub(super) fn memory(rank: usize) -> (usize, usize) {
        if !RANKS.contains(&rank) {
            return (0, 0);
        }
        let stride = rank.next_multiple_of(TILE);
        (4 * rank * stride, 4 * stride)
    }

    /// The scale of items with these biases, once they are turned, and with no factors yet but zeros.
    pub(super) fn scale(&self, biases: &[f32]) -> ByteScale {
        let scale = ByteScale::new(self.rank, biases);
        match self.columns {
            Some(_) => scale.turned(self.rank),
            None => scale,
        }
    }

    /// Turns rows that are padded to `stride`.
    pub(super) fn turn<'a>(&self, flat: &'a [f32], stride: usize) -> Turned<'a> {
        let rank = self.rank;
        let Some(columns) = &self.columns else {
            let flat = Cow::Borrowed(flat);
            return Turned { flat, stride, rank };
        };
        let (rows, turned) = (flat.len() / stride, rank.next_multiple_of(TILE));
        let starts = vec![0.0; rows.max(turned)];
        let rows = UserRows {
            flat,
            stride,
            starts: &starts[..rows],
        };
        let columns = PackedItems {
            packed: columns,
            rank,
            starts: &starts[..turned],
        };
        let mut flat = vec![0.0; rows.starts.len() * turned];
        kernel::score(self.isa, rows, columns, &mut flat);
        Turned {
            flat: flat.into(),
            stride: turned,
            rank,
        }
    }
}

/// Rows that have been turned.
pub(super) struct Turned<'a> {
    /// All of them, each filled up with zeros.
    pub(super) flat: Cow<'a, [f32]>,
    stride: usize,
    rank: usize,
}

impl Turned<'_> {
    /// One of them.
    pub(super) fn row(&self, row: usize) -> &[f32] {
        &self.flat[row * self.stride..][..self.rank]
    }
}

/// The Gram matrix of a sample of the items, over its trace; nothing if they are all zeros.
fn gram(isa: Isa, items: &Factors) -> Option<Vec<f64>> {
    let rank = items.rank();
    let mut gram = vec![0.0; rank * rank];
    for row in (0..items.rows()).step_by((items.rows() / (SAMPLE * rank)).max(1)) {
        let row = items.padded_row(row);
        // A row that is no row of numbers would spoil it.
        if kernel::dot(isa, row, row).is_finite() {
            kernel::add_squares(isa, row, row.len(), rank, &mut gram);
        }
    }
    let trace: f64 = (0..rank).map(|i| gram[i * (rank + 1)]).sum();
    for i in 0..rank {
        for j in 0..=i {
            gram[i * rank + j] /= trace;
            gram[j * rank + i] = gram[i * rank + j];
        }
    }
    (trace > 0.0).then_some(gram)
}

/// The product of two square matrices.
fn product(a: &[f64], b: &[f64], size: usize) -> Vec<f64> {
    let mut product = vec![0.0; size * size];
    for (row, a) in product.chunks_exact_mut(size).zip(a.chunks_exact(size)) {
        for (&x, b) in a.iter().zip(b.chunks_exact(size)) {
            for (sum, y) in row.iter_mut().zip(b) {
                *sum += x * y;
            }
        }
    }
    product
}

/// The orthogonal factor of a square matrix, by Householder's reflections (Golub and Van Loan: Matrix computations, section
/// 5.2): orthogonal to rounding, whatever the matrix.
fn orthonormal(mut matrix: Vec<f64>, size: usize) -> Vec<f64> {
    let mut reflections = Vec::with_capacity(size);
    for pivot in 0..size {
        let mut mirror: Vec<f64> = (pivot..size).map(|i| matrix[i * size + pivot]).collect();
        let largest = mirror
            .iter()
            .fold(0.0, |largest: f64, x| largest.max(x.abs()));
        if largest > 0.0 {
            // Squares must not vanish.
            mirror.iter_mut().for_each(|x| *x /= largest);
            let length = mirror.iter().map(|x| x * x).sum::<f64>().sqrt();
            mirror[0] += length.copysign(mirror[0]);
        }
        reflect(&mut matrix, size, pivot, &mirror);
        reflections.push(mirror);
    }
    let mut axes = vec![0.0; size * size];
    (0..size).for_each(|i| axes[i * (size + 1)] = 1.0);
    for (pivot, mirror) in reflections.iter().enumerate().rev() {
        reflect(&mut axes, size, pivot, mirror);
    }
    axes
}

/// Reflects the columns of a matrix, from row `first` on, in the plane that `mirror` stands upright on.
fn reflect(matrix: &mut [f64], size: usize, first: usize, mirror: &[f64]) {
    let squares: f64 = mirror.iter().map(|x| x * x).sum();
    if squares == 0.0 {
        return;
    }
    let mut overlaps = vec![0.0; size];
    for (row, x) in matrix[first * size..].chunks_exact(size).zip(mirror) {
        for (overlap, y) in overlaps.iter_mut().zip(row) {
            *overlap += x * y;
        }
    }
    for (row, x) in matrix[first * size..].chunks_exact_mut(size).zip(mirror) {
        let scale = 2.0 * x / squares;
        for (y, overlap) in row.iter_mut().zip(&overlaps) {
            *y -= scale * overlap;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Products of all pairs of columns, which are those of the unit matrix.
    fn assert_orthogonal(axes: &[f64], size: usize) {
        for i in 0..size {
            for j in 0..=i {
                let products = (0..size).map(|k| axes[k * size + i] * axes[k * size + j]);
                let off = products.sum::<f64>() - f64::from(i == j);
                assert!(off.abs() < 1e-13, "columns {i} and {j}: {off}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn whatever_the_matrix_its_factor_is_orthogonal(
            size in 1_usize..20,
            entries in proptest::collection::vec(-1.0_f64..1.0, 400),
            equal in 0_usize..20,
            shrink in 0_i32..300,
        ) {
            let mut matrix = entries[..size * size].to_vec();
            // Equal columns, and some that all but vanish.
            for row in matrix.chunks_exact_mut(size) {
                row[size / 2] = row[equal % size];
                row[size - 1] *= 10_f64.powi(-shrink);
            }
            assert_orthogonal(&orthonormal(matrix, size), size);
            assert_orthogonal(&orthonormal(vec![0.0; size * size], size), size);
        }
    }

    /// Items along a few directions that no factor has for itself.
    fn items(rank: usize, directions: usize) -> Factors {
        let mut items = Factors::zeros(500, rank, false);
        for item in 0..items.rows() {
            for (k, x) in items.row_mut(item).iter_mut().enumerate() {
                let waves = (0..directions).map(|d| ((item * (d + 2) + k * (d + 1)) as f32).sin());
                *x = waves.sum();
            }
        }
        items
    }

    #[test]
    fn products_stay_and_the_first_factors_have_the_length() {
        for rank in [32, 50, 64, 100] {
            let items = items(rank, 3);
            let axes = Axes::of(&items);
            let turned = axes.turn(items.flat(), items.stride());
            let product = |a: &[f32], b: &[f32]| -> f64 {
                a.iter()
                    .zip(b)
                    .map(|(&x, &y)| f64::from(x) * f64::from(y))
                    .sum()
            };
            let whole = |row: usize| product(items.row(row), items.row(row));
            for (a, b) in [(0, 1), (7, 7), (33, 499)] {
                let off =
                    product(turned.row(a), turned.row(b)) - product(items.row(a), items.row(b));
                assert!(
                    off.abs() < 1e-5 * (whole(a) * whole(b)).sqrt(),
                    "{rank}: {off}"
                );
            }
            // A wave of the item's number and the factor's is a sum of two products.
            for row in 0..items.rows() {
                let rest = &turned.row(row)[2 * 3..];
                assert!(product(rest, rest) < 1e-9 * whole(row), "{rank}: {row}");
            }
        }
    }

    #[test]
    fn where_there_is_nothing_to_turn_nothing_is_turned() {
        assert!(Axes::of(&Factors::zeros(100, 64, true)).columns.is_none());
        assert!(Axes::of(&items(16, 3)).columns.is_none());
        let mut wild = items(32, 3);
        wild.row_mut(5)[0] = f32::NAN;
        assert!(Axes::of(&wild).columns.is_some());
    }
}
