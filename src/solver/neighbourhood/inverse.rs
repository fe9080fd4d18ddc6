//! The inverse of a symmetric positive definite matrix, in place, by blocks.
//!
//! Gauss-Jordan elimination without pivoting, which such a matrix does not need: a block of rows after the other is solved for
//! its own unknowns, and these are eliminated from all other rows, rows in parallel. 2 n^3 flops, nearly all of them in
//! products of a block with the coefficients of each row. Products are subtracted from an entry one by one, in order of rows.

use rayon::prelude::*;

use crate::error::{Error, ErrorKind, Result};
use crate::kernel::{self, Isa};

/// Rows that are solved for at a time.
const BLOCK: usize = 64;

/// Rows of a task: a matter of balance only.
const TASK: usize = 32;

/// Inverts a matrix of n x n, row by row.
///
/// # Errors
/// If it is not positive definite.
pub fn invert(isa: Isa, matrix: &mut [f64], n: usize) -> Result<()> {
    let mut solved = Vec::new();
    for first in (0..n).step_by(BLOCK) {
        let block = BLOCK.min(n - first);
        let rows = &mut matrix[first * n..][..block * n];
        let mut corner = corner(rows, n, first, block);
        invert_corner(&mut corner, block)?;
        corner.iter_mut().for_each(|x| *x = -*x);
        solved.clear();
        solved.resize(block * n, 0.0);
        solved
            .par_chunks_mut(n)
            .zip(corner.par_chunks(block))
            .for_each(|(out, own)| kernel::subtract_products(isa, n, out, own, rows));
        rows.copy_from_slice(&solved);
        let eliminate = |part: &mut [f64]| {
            let mut own = Vec::with_capacity(TASK * block);
            for row in part.chunks_exact_mut(n) {
                let coefficients = &mut row[first..first + block];
                own.extend_from_slice(coefficients);
                coefficients.fill(0.0);
            }
            kernel::subtract_products(isa, n, part, &own, &solved);
        };
        let (before, behind) = matrix.split_at_mut(first * n);
        let behind = &mut behind[block * n..];
        before
            .par_chunks_mut(TASK * n)
            .chain(behind.par_chunks_mut(TASK * n))
            .for_each(eliminate);
    }
    Ok(())
}

/// The unknowns of a block of rows in itself, and the identity in their place.
fn corner(rows: &mut [f64], n: usize, first: usize, block: usize) -> Vec<f64> {
    let mut corner = Vec::with_capacity(block * block);
    for (at, row) in rows.chunks_exact_mut(n).enumerate() {
        let own = &mut row[first..first + block];
        corner.extend_from_slice(own);
        own.fill(0.0);
        own[at] = 1.0;
    }
    corner
}

/// Inverts a small matrix, unknown by unknown.
fn invert_corner(matrix: &mut [f64], n: usize) -> Result<()> {
    for at in 0..n {
        let pivot = matrix[at * n + at];
        if !(pivot > 0.0 && pivot.is_finite()) {
            let what = "the items' equations have no single solution";
            return Err(Error::new(ErrorKind::Singular, what)
                .remedy("give a higher --regularization or --regularization-row"));
        }
        let row = &mut matrix[at * n..][..n];
        row[at] = 1.0;
        row.iter_mut().for_each(|x| *x /= pivot);
        let solved = row.to_vec();
        for (other, row) in matrix.chunks_exact_mut(n).enumerate() {
            if other != at {
                let coefficient = std::mem::take(&mut row[at]);
                for (x, &y) in row.iter_mut().zip(&solved) {
                    *x -= coefficient * y;
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// The product with the matrix is the identity, and every instruction set gives the same bits.
        #[test]
        fn the_inverse_inverts(n in 1_usize..150, entries in proptest::collection::vec(-1.0..1.0_f64, 150)) {
            let entry = |i: usize, j: usize| {
                let noise = entries[i.max(j)] * entries[i.min(j)];
                if i == j { noise + n as f64 / 4.0 + 1.0 } else { noise }
            };
            let matrix: Vec<f64> = (0..n * n).map(|at| entry(at / n, at % n)).collect();
            let mut all = Isa::available().map(|isa| {
                let mut inverse = matrix.clone();
                invert(isa, &mut inverse, n).unwrap();
                inverse
            });
            let inverse = all.next().unwrap();
            prop_assert!(all.all(|other| other == inverse));
            for i in 0..n {
                for j in 0..n {
                    let product: f64 = (0..n).map(|k| matrix[i * n + k] * inverse[k * n + j]).sum();
                    let identity = f64::from(u8::from(i == j));
                    prop_assert!((product - identity).abs() < 1e-10, "{i} {j}: {product}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_positive_definite_is_refused() {
        for matrix in [
            [1.0, 2.0, 2.0, 1.0],
            [0.0, 0.0, 0.0, 1.0],
            [1.0, 1.0, 1.0, 1.0],
        ] {
            let error = invert(Isa::best(), &mut matrix.to_vec(), 2).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Singular);
        }
    }
}
