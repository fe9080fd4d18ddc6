//! EASE: the linear model of every item by all others, in closed form.
//!
//! Objective, for the matrix X of what was taken, users x items, over weights B between items that have a zero diagonal:
//!
//! ```text
//! 1/2 |X - X B|^2 + 1/2 sum over items i of (regularization * n_i + regularization_row) * |B_i|^2
//! ```
//!
//! Its lowest point is `B_ij = -P_ij / P_jj` off the diagonal, with P the inverse of `X^T X` plus the ridges (Steck:
//! Embarrassingly shallow autoencoders for sparse data, WWW 2019; the ridge by the item's n_i ratings is what dropout of inputs
//! comes to, Steck: Autoencoders that don't overfit towards the identity, NeurIPS 2020).
//! Cost: 2 m^3 flops for m items, and an addition for each pair of items of each user. Reads: by-user ratings twice. Memory: m^2
//! numbers of 8 bytes, and as much for the weights with their columns.

use super::inverse::invert;
use super::{Neighbours, Weights, check};
use crate::error::Result;
use crate::kernel::Isa;
use crate::matrix::{Ratings, Shape, Side, SparseRows};
use crate::solver::alternating::sum_rows;
use crate::solver::{Learns, Method, Missing, Options, Ridge, Solver, Tick};

/// EASE in the table of solvers.
pub const METHOD: Method = Method {
    name: "ease",
    summary: "a baseline without factors: every item by a linear model of all others, for catalogues whose square fits in memory (EASE)",
    regularization: 0.0,
    missing: &[Missing::Zero],
    monotone: true,
    any_regularizer: false,
    biases: false,
    factors: false,
    spills: false,
    learns: Learns::Preferences,
    searched: &[("regularization-row", 10.0, 1000.0)],
    suited: |options| Options {
        positive_at: Some(4.0),
        biases: false,
        ..options
    },
    build,
};

fn build(options: &Options) -> Result<Box<dyn Solver>> {
    check("ease", options)?;
    let given = options.regularization.is_some_and(|ridge| ridge > 0.0);
    let row = match given || options.regularization_row > 0.0 {
        true => options.regularization_row,
        false => ROW,
    };
    let options = Options {
        regularization_row: row,
        ..options.clone()
    };
    Ok(Box::new(Neighbours(Linear {
        ridge: options.ridge(),
    })))
}

/// The ridge of an item where none is given: without any, the equations have no single solution.
const ROW: f32 = 300.0;

struct Linear {
    ridge: Ridge,
}

impl Linear {
    /// The ridge of an item with so many ratings. What nobody took is alone in its equation: any ridge does.
    fn ridge(&self, ratings: usize) -> f64 {
        match ratings {
            0 => 1.0,
            _ => self.ridge.on_factors(ratings).into(),
        }
    }
}

impl Weights for Linear {
    fn weights(
        &self,
        ratings: &dyn Ratings,
        histories: &SparseRows,
        tick: Tick<'_>,
    ) -> Result<SparseRows> {
        let items = ratings.shape().items;
        let mut matrix = vec![0.0; items * items];
        for user in 0..histories.rows() {
            let taken = histories.row(user).cols;
            for &i in taken {
                let row = &mut matrix[i as usize * items..][..items];
                // Whole numbers: their sums are exact.
                taken.iter().for_each(|&j| row[j as usize] += 1.0);
            }
            tick(taken.len() as u64);
        }
        for item in 0..items {
            let diagonal = &mut matrix[item * items + item];
            *diagonal += self.ridge(*diagonal as usize);
        }
        invert(Isa::best(), &mut matrix, items)?;
        let diagonal: Vec<f64> = (0..items).map(|i| matrix[i * items + i]).collect();
        let mut weights = SparseRows::with_room(items, items * items);
        for (i, row) in matrix.chunks_exact(items).enumerate() {
            let entries = row.iter().zip(&diagonal).enumerate();
            weights.push(
                entries
                    .filter(|&(j, (&x, _))| j != i && x != 0.0)
                    .map(|(j, (&entry, &diagonal))| (j as u32, (-entry / diagonal) as f32)),
            );
        }
        Ok(weights)
    }

    fn cost(&self, scores: &[f32], taken: &[u32]) -> f64 {
        let squares = scores.iter().map(|&s| f64::from(s) * f64::from(s));
        let of_taken = taken
            .iter()
            .map(|&i| 1.0 - 2.0 * f64::from(scores[i as usize]));
        0.5 * (squares.sum::<f64>() + of_taken.sum::<f64>())
    }

    fn penalty(&self, ratings: &dyn Ratings, weights: &SparseRows) -> Result<f64> {
        let sums = sum_rows(ratings, Side::Items, |item, row, _| {
            let squares = weights
                .row(item)
                .values
                .iter()
                .map(|&x| f64::from(x) * f64::from(x));
            [0.5 * self.ridge(row.len()) * squares.sum::<f64>()]
        })?;
        Ok(sums[0])
    }

    fn passes(&self) -> [u64; 2] {
        [0, 1]
    }

    fn memory(&self, shape: Shape, _threads: usize) -> u64 {
        let square = shape.items as u64 * shape.items as u64;
        size_of::<f64>() as u64 * square + SparseRows::bytes(shape.items, square)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::matrix::InMemory;
    use crate::solver::neighbourhood::histories;

    /// The solution of dense equations by elimination with pivots.
    fn solve(mut rows: Vec<Vec<f64>>) -> Vec<f64> {
        let n = rows.len();
        for at in 0..n {
            let largest = |a: &usize, b: &usize| rows[*a][at].abs().total_cmp(&rows[*b][at].abs());
            let pivot = (at..n).max_by(largest).unwrap();
            rows.swap(at, pivot);
            let own = rows[at].clone();
            for (_, row) in rows.iter_mut().enumerate().filter(|&(i, _)| i != at) {
                let share = row[at] / own[at];
                row.iter_mut().zip(&own).for_each(|(x, y)| *x -= share * y);
            }
        }
        rows.iter()
            .enumerate()
            .map(|(i, row)| row[n] / row[i])
            .collect()
    }

    proptest! {
        /// Each item's weights are the ridge regression of its column on all others.
        #[test]
        fn columns_are_ridge_regressions(
            cells in proptest::collection::btree_set((0_u32..9, 0_u32..7), 1..50),
            regularization in 0.05_f32..2.0,
            row in 0.0_f32..3.0,
        ) {
            let triplets: Vec<_> = cells.iter().map(|&(u, i)| (u, i, 2.0)).collect();
            let ratings = InMemory::from_triplets(9, 7, &triplets).unwrap();
            let options = Options {
                regularization: Some(regularization),
                regularization_row: row,
                ..Options::default()
            };
            let method = Linear { ridge: options.ridge() };
            let weights = method.weights(&ratings, &histories(&ratings).unwrap(), &|_| {}).unwrap();
            let has = |user: u32, item: u32| f64::from(u8::from(cells.contains(&(user, item))));
            let product = |a: u32, b: u32| (0..9).map(|user| has(user, a) * has(user, b)).sum::<f64>();
            for item in 0..7_u32 {
                let others: Vec<u32> = (0..7).filter(|&other| other != item).collect();
                let equation = |&a: &u32| {
                    let count = product(a, a);
                    let ridge = match count > 0.0 {
                        true => f64::from(regularization) * count + f64::from(row),
                        false => 1.0,
                    };
                    let entry = |&b: &u32| product(a, b) + if a == b { ridge } else { 0.0 };
                    others.iter().map(entry).chain([product(a, item)]).collect()
                };
                let twin = solve(others.iter().map(equation).collect());
                prop_assert_eq!(weights.get(item as usize, item), 0.0);
                for (&other, expected) in others.iter().zip(twin) {
                    let weight = f64::from(weights.get(other as usize, item));
                    prop_assert!((weight - expected).abs() < 1e-6, "{item} {other}: {weight} {expected}");
                }
            }
        }
    }
}
