//! Sums over all rows of one side, in f64: its Gram matrix and its column sums.
//!
//! They stand in for the cells that nobody rated: a sum over all users of what an item predicts for them needs the users'
//! Gram matrix alone. Rows are added one by one in groups of [`GROUP`], groups in parallel, and the groups in order: the
//! bits depend on the number of rows alone.

use rayon::prelude::*;

use super::sums::GROUP;
use crate::kernel::{self, Isa};
use crate::matrix::Factors;

/// The sum of `x x^T` over all rows x: a symmetric matrix of rank x rank.
pub fn gram(factors: &Factors) -> Vec<f64> {
    let rank = factors.rank();
    let isa = Isa::best();
    let mut gram = sum_groups(factors, rank * rank, |rows, sum| {
        kernel::add_squares(isa, rows, factors.stride(), rank, sum);
    });
    for i in 0..rank {
        for j in 0..i {
            gram[j * rank + i] = gram[i * rank + j];
        }
    }
    gram
}

/// The sum of all rows.
pub fn column_sums(factors: &Factors) -> Vec<f64> {
    sum_groups(factors, factors.rank(), |rows, sum| {
        for row in rows.chunks_exact(factors.stride()) {
            for (entry, &x) in sum.iter_mut().zip(row) {
                *entry += f64::from(x);
            }
        }
    })
}

/// The sum of the products of corresponding entries.
pub fn inner(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Memory that a Gram matrix and the groups in flight take, in bytes.
pub fn memory(rank: usize, threads: usize) -> u64 {
    ((WAVE * threads + 2) * rank * rank * size_of::<f64>()) as u64
}

/// Groups in flight for each thread.
const WAVE: usize = 2;

/// Adds up the groups of rows, each of which `add` adds to zeros.
fn sum_groups(factors: &Factors, len: usize, add: impl Fn(&[f32], &mut [f64]) + Sync) -> Vec<f64> {
    let mut total = vec![0.0; len];
    let groups = factors.rows().div_ceil(GROUP);
    let wave = WAVE * rayon::current_num_threads();
    for first in (0..groups).step_by(wave) {
        let of_group = |group: usize| {
            let mut sum = vec![0.0; len];
            let end = ((group + 1) * GROUP).min(factors.rows());
            let rows = group * GROUP * factors.stride()..end * factors.stride();
            add(&factors.flat()[rows], &mut sum);
            sum
        };
        let sums: Vec<Vec<f64>> = (first..groups.min(first + wave))
            .into_par_iter()
            .map(of_group)
            .collect();
        for sum in sums {
            for (total, x) in total.iter_mut().zip(sum) {
                *total += x;
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_plain_loops() {
        // Small whole numbers, whose sums are exact in any order.
        let mut factors = Factors::zeros(2 * GROUP + 17, 3, false);
        for row in 0..factors.rows() {
            for (k, x) in factors.row_mut(row).iter_mut().enumerate() {
                *x = ((row * 7 + k * 5) % 11) as f32 - 5.0;
            }
        }
        let (gram, sums) = (gram(&factors), column_sums(&factors));
        let column =
            |k: usize| (0..factors.rows()).map(move |row| ((row * 7 + k * 5) % 11) as f64 - 5.0);
        for i in 0..3 {
            assert_eq!(sums[i], column(i).sum::<f64>());
            for j in 0..3 {
                let expected: f64 = column(i).zip(column(j)).map(|(x, y)| x * y).sum();
                assert_eq!(gram[i * 3 + j], expected, "({i}, {j})");
            }
        }
    }
}
