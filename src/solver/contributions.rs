//! What each rating of a row adds to one of its predictions, where a row is a least-squares problem.
//!
//! The row is `x = A^-1 sum w_j t_j z_j` over its ratings j, with `A = sum w_j z_j z_j^T + cells G + ridge`, where z is the other
//! side's row, with a one for the bias behind it if there are biases, and G the Gram matrix of the other side. So a
//! prediction `<z, x>` is a sum over the ratings, of `w_j t_j <z, A^-1 z_j>` each (Hu, Koren, Volinsky: Collaborative filtering for
//! implicit feedback datasets, ICDM 2008, section 5). Everything is in f64: it is done for one row at a time.
//! Cost: n (k^2 + k) + k^3 / 3 flop, and m k^2 for the Gram matrix of m rows where cells count.

use super::gram::gram;
use super::row_step::Fixed;
use crate::matrix::Row;

/// A row's least-squares problem.
pub struct RowProblem {
    /// The weight of each rating, and what the row is to give for it.
    pub ratings: Vec<(f64, f64)>,
    /// The weight of each cell, in which the row is to give nothing.
    pub cells: f64,
    /// The ridge on factors, and on the bias.
    pub ridge: [f64; 2],
}

impl RowProblem {
    /// What each rating adds to the prediction for `other`, a row of the fixed side, without that row's own bias.
    pub fn contributions(&self, row: Row<'_>, fixed: &Fixed<'_>, other: usize) -> Vec<f64> {
        let factors = fixed.factors;
        let rank = factors.rank();
        let size = rank + usize::from(factors.has_biases());
        let z = |row: usize| {
            let mut z: Vec<f64> = factors.row(row).iter().map(|&x| x.into()).collect();
            z.resize(size, 1.0);
            z
        };
        let mut matrix = vec![0.0; size * size];
        if self.cells > 0.0 {
            for (line, gram) in gram(factors).chunks_exact(rank).enumerate() {
                for (entry, gram) in matrix[line * size..].iter_mut().zip(gram) {
                    *entry = self.cells * gram;
                }
            }
        }
        for i in 0..size {
            matrix[i * size + i] += self.ridge[usize::from(i >= rank)];
        }
        for (&col, (weight, _)) in row.cols.iter().zip(&self.ratings) {
            let z = z(col as usize);
            for (line, x) in matrix.chunks_exact_mut(size).zip(&z) {
                for (entry, y) in line.iter_mut().zip(&z) {
                    *entry += weight * x * y;
                }
            }
        }
        let answer = solve(matrix, z(other));
        let of_rating = |(&col, (weight, target)): (&u32, &(f64, f64))| {
            let product: f64 = answer.iter().zip(z(col as usize)).map(|(x, y)| x * y).sum();
            weight * target * product
        };
        row.cols.iter().zip(&self.ratings).map(of_rating).collect()
    }
}

/// The solution of a symmetric positive definite system, by Cholesky without square roots. An unknown that nothing
/// determines is zero.
fn solve(mut matrix: Vec<f64>, mut right: Vec<f64>) -> Vec<f64> {
    let size = right.len();
    let at = |i: usize, j: usize| i * size + j;
    for pivot in 0..size {
        let diagonal = matrix[at(pivot, pivot)];
        if diagonal <= 0.0 {
            right[pivot] = 0.0;
            continue;
        }
        for i in pivot + 1..size {
            let factor = matrix[at(pivot, i)] / diagonal;
            for j in i..size {
                matrix[at(i, j)] -= factor * matrix[at(pivot, j)];
            }
            right[i] -= factor * right[pivot];
        }
    }
    for pivot in (0..size).rev() {
        let diagonal = matrix[at(pivot, pivot)];
        let known: f64 = (pivot + 1..size)
            .map(|j| matrix[at(pivot, j)] * right[j])
            .sum();
        right[pivot] = match diagonal > 0.0 {
            true => (right[pivot] - known) / diagonal,
            false => 0.0,
        };
    }
    right
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_is_solved() {
        let matrix = vec![4.0, 2.0, 0.0, 2.0, 3.0, 1.0, 0.0, 1.0, 5.0];
        let solution = solve(matrix, vec![8.0, 11.0, 17.0]);
        for (x, expected) in solution.iter().zip([1.0, 2.0, 3.0]) {
            assert!((x - expected).abs() < 1e-12, "{solution:?}");
        }
    }
}
