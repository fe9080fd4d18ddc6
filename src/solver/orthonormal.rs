//! Orthonormal columns.

use super::gram::gram;
use crate::matrix::Factors;

/// A column that is this much shorter, squared, without what the columns before it have of it than with it, is rounding error.
const DEPENDENT: f64 = 1e-12;

/// Replaces the columns by orthonormal ones that span the same, by way of the Cholesky factor L of their Gram matrix, in f64:
/// `Z L^-T` (Golub and Van Loan: Matrix computations, section 5.2). A column that depends on those before it becomes zero.
pub fn orthonormalize(factors: &mut Factors) {
    let rank = factors.rank();
    let inverse = inverse_factor(&gram(factors), rank);
    let mut sum = vec![0.0; rank];
    for row in 0..factors.rows() {
        let row = factors.row_mut(row);
        sum.fill(0.0);
        for (i, &x) in row.iter().enumerate() {
            for (sum, y) in sum[i..].iter_mut().zip(&inverse[i * rank + i..]) {
                *sum += f64::from(x) * y;
            }
        }
        for (x, &sum) in row.iter_mut().zip(&sum) {
            *x = sum as f32;
        }
    }
}

/// `L^-T`, an upper triangle, for a positive semidefinite matrix `L L^T`.
fn inverse_factor(matrix: &[f64], size: usize) -> Vec<f64> {
    let at = |i: usize, j: usize| i * size + j;
    let mut inverse = vec![0.0; size * size];
    // Column j of L^-T makes the unit vector j orthogonal, in the metric of the matrix, to those before it.
    for j in 0..size {
        let mut column = vec![0.0; size];
        column[j] = 1.0;
        // Twice is enough (Kahan, in Parlett: The symmetric eigenvalue problem, section 6.9).
        for _ in 0..2 {
            let image: Vec<f64> = (0..=j)
                .map(|r| (0..=j).map(|c| matrix[at(r, c)] * column[c]).sum())
                .collect();
            for k in 0..j {
                let overlap: f64 = (0..=k).map(|r| inverse[at(r, k)] * image[r]).sum();
                for r in 0..=k {
                    column[r] -= overlap * inverse[at(r, k)];
                }
            }
        }
        let image = |r: usize| (0..=j).map(|c| matrix[at(r, c)] * column[c]).sum::<f64>();
        let squares: f64 = (0..=j).map(|r| column[r] * image(r)).sum();
        if squares > DEPENDENT * matrix[at(j, j)] {
            for r in 0..=j {
                inverse[at(r, j)] = column[r] / squares.sqrt();
            }
        }
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_become_orthonormal_and_dependent_ones_zero() {
        let (rows, rank) = (50, 5);
        let mut factors = Factors::zeros(rows, rank, false);
        for at in 0..rows {
            let row = factors.row_mut(at);
            for (k, x) in row.iter_mut().enumerate() {
                *x = ((at * 37 + k * k * 11 + at * at * k) % 23) as f32 - 11.0;
            }
            row[3] = 2.0 * row[0] - row[1];
        }
        let before = factors.clone();
        orthonormalize(&mut factors);
        let gram = gram(&factors);
        for i in 0..rank {
            for j in 0..rank {
                let expected = f64::from(u8::from(i == j && i != 3));
                assert!((gram[i * rank + j] - expected).abs() < 1e-5, "({i}, {j})");
            }
        }
        // What they spanned they still span: every column is the sum of its shadows.
        for k in 0..rank {
            let shadow = |j: usize| -> f64 {
                let pairs = (0..rows).map(|at| (before.row(at)[k], factors.row(at)[j]));
                pairs.map(|(x, y)| f64::from(x) * f64::from(y)).sum()
            };
            let shadows: Vec<f64> = (0..rank).map(shadow).collect();
            for at in 0..rows {
                let sum: f64 = (0..rank)
                    .map(|j| shadows[j] * f64::from(factors.row(at)[j]))
                    .sum();
                assert!(
                    (sum - f64::from(before.row(at)[k])).abs() < 1e-3,
                    "{at}, {k}"
                );
            }
        }
    }
}
