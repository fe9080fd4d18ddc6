//! Item-kNN: the nearest neighbours of every item, by the users whom they share.
//!
//! For items i and j with n_i and n_j users, of whom c_ij took both, the similarity is
//!
//! ```text
//! c_ij / (sqrt(n_i n_j) + shrinkage)
//! ```
//!
//! which is the cosine of their columns, shrunk where few users stand behind it (Deshpande, Karypis: Item-based top-N
//! recommendation algorithms, TOIS 2004; Bell, Koren, KDD 2007 for the shrinkage). Of each item's similarities the largest are
//! kept; of equal ones, those to items with lower numbers. Nothing is minimised: the cost that is told is minus the sum of the
//! scores of what was taken.
//! Cost: an addition for each pair of items of each user. Reads: by-user ratings once, by-item ratings once. Memory: what users
//! took, the neighbours, and a number for each item and thread.

use rayon::prelude::*;

use super::{Neighbours, Weights, check};
use crate::error::{Error, ErrorKind, Result};
use crate::matrix::{Ratings, RowScratch, Shape, Side, SparseRows};
use crate::solver::{Learns, Method, Missing, Options, Solver, Tick};

/// The nearest neighbours in the table of solvers.
pub const METHOD: Method = Method {
    name: "item-knn",
    summary: "a baseline without factors: items by the cosines of their columns with those of what was taken",
    regularization: 0.0,
    missing: &[Missing::Zero],
    monotone: true,
    any_regularizer: false,
    biases: false,
    factors: false,
    spills: false,
    learns: Learns::Preferences,
    searched: &[("shrinkage", 1.0, 100.0)],
    suited: |options| Options {
        positive_at: Some(4.0),
        regularization: None,
        biases: false,
        ..options
    },
    build,
};

fn build(options: &Options) -> Result<Box<dyn Solver>> {
    check("item-knn", options)?;
    if options.regularization.is_some_and(|ridge| ridge > 0.0) || options.regularization_row > 0.0 {
        return Err(Error::new(ErrorKind::BadOption, "item-knn has no ridge")
            .remedy("give --shrinkage instead"));
    }
    Ok(Box::new(Neighbours(Nearest {
        neighbours: options.neighbours,
        shrinkage: options.shrinkage.into(),
    })))
}

struct Nearest {
    neighbours: usize,
    shrinkage: f64,
}

/// Another item, and what it has in common with one.
#[derive(Clone, Copy)]
struct Neighbour {
    item: u32,
    similarity: f32,
}

impl Nearest {
    /// The nearest of an item, ascending by number. `shared` is all zeros, one for each item, before and after.
    fn nearest(
        &self,
        item: u32,
        users: &[u32],
        histories: &SparseRows,
        counts: &[u32],
        shared: &mut [u32],
    ) -> Vec<Neighbour> {
        let mut met = Vec::new();
        for &user in users {
            for &other in histories.row(user as usize).cols {
                let shared = &mut shared[other as usize];
                if *shared == 0 {
                    met.push(other);
                }
                *shared += 1;
            }
        }
        let of = |item: u32| f64::from(counts[item as usize]);
        let mut all: Vec<Neighbour> = Vec::with_capacity(met.len());
        for other in met {
            let shared = std::mem::take(&mut shared[other as usize]);
            if other != item {
                let length = (of(item) * of(other)).sqrt() + self.shrinkage;
                let similarity = (f64::from(shared) / length) as f32;
                all.push(Neighbour {
                    item: other,
                    similarity,
                });
            }
        }
        if all.len() > self.neighbours {
            all.select_nth_unstable_by(self.neighbours, |a, b| {
                let nearer = b.similarity.total_cmp(&a.similarity);
                nearer.then(a.item.cmp(&b.item))
            });
        }
        // All that were met are many times what is kept, and rows wait for the others of their block.
        let mut nearest = all[..all.len().min(self.neighbours)].to_vec();
        nearest.sort_unstable_by_key(|neighbour| neighbour.item);
        nearest
    }
}

impl Weights for Nearest {
    fn weights(
        &self,
        ratings: &dyn Ratings,
        histories: &SparseRows,
        tick: Tick<'_>,
    ) -> Result<SparseRows> {
        let items = ratings.shape().items;
        let mut counts = vec![0; items];
        for &item in histories.cols() {
            counts[item as usize] += 1;
        }
        let room = items * self.neighbours.min(items);
        let mut weights = SparseRows::with_room(items, room);
        for index in 0..ratings.blocks(Side::Items) {
            let block = ratings.block(Side::Items, index)?;
            let first = block.first_row();
            let nearest = (0..block.rows()).into_par_iter().with_max_len(16).map_init(
                || (RowScratch::default(), vec![0; items]),
                |(scratch, shared), i| {
                    let users = block.row(i, scratch).cols;
                    self.nearest((first + i) as u32, users, histories, &counts, shared)
                },
            );
            for row in nearest.collect::<Vec<_>>() {
                weights.push(row.iter().map(|n| (n.item, n.similarity)));
            }
            tick(block.ratings() as u64);
            ratings.done_with(Side::Items, index);
        }
        Ok(weights)
    }

    fn cost(&self, scores: &[f32], taken: &[u32]) -> f64 {
        let scores = taken.iter().map(|&item| f64::from(scores[item as usize]));
        -scores.sum::<f64>()
    }

    fn penalty(&self, _ratings: &dyn Ratings, _weights: &SparseRows) -> Result<f64> {
        Ok(0.0)
    }

    fn passes(&self) -> [u64; 2] {
        [1, 0]
    }

    fn memory(&self, shape: Shape, threads: usize) -> u64 {
        let neighbours = self.neighbours.min(shape.items);
        let weights = SparseRows::bytes(shape.items, (shape.items * neighbours) as u64);
        // All that an item meets, and the rows of a block before they are joined.
        let of_thread = shape.items * (2 * size_of::<u32>() + size_of::<Neighbour>());
        2 * weights + (threads * of_thread) as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::matrix::InMemory;
    use crate::solver::neighbourhood::histories;

    proptest! {
        /// Against dense columns: every kept similarity is the theory's, and none that is left out is larger.
        #[test]
        fn similarities_are_the_largest_of_all(
            cells in proptest::collection::btree_set((0_u32..9, 0_u32..7), 1..50),
            neighbours in 1_usize..7,
            shrinkage in 0_u8..4,
            rows in 1_usize..9,
        ) {
            let triplets: Vec<_> = cells.iter().map(|&(u, i)| (u, i, 2.0)).collect();
            let ratings = InMemory::from_triplets(9, 7, &triplets).unwrap().with_rows_per_block(rows);
            let method = Nearest { neighbours, shrinkage: shrinkage.into() };
            let taken = histories(&ratings).unwrap();
            let weights = method.weights(&ratings, &taken, &|_| {}).unwrap();
            let has = |user: u32, item: u32| f64::from(u8::from(cells.contains(&(user, item))));
            let product = |a: u32, b: u32| (0..9).map(|user| has(user, a) * has(user, b)).sum::<f64>();
            for item in 0..7_u32 {
                let similarity = |other: u32| {
                    let length = (product(item, item) * product(other, other)).sqrt();
                    (product(item, other) / (length + f64::from(shrinkage))) as f32
                };
                let row = weights.row(item as usize);
                for (&col, &value) in row.cols.iter().zip(row.values) {
                    prop_assert!(col != item && value == similarity(col), "{item} {col} {value}");
                }
                let others = (0..7).filter(|&other| other != item && product(item, other) > 0.0);
                let mut others: Vec<u32> = others.collect();
                others.sort_by(|&a, &b| similarity(b).total_cmp(&similarity(a)).then(a.cmp(&b)));
                others.truncate(neighbours);
                others.sort_unstable();
                prop_assert_eq!(row.cols, &others);
            }
        }
    }
}
