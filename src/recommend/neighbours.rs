//! The best items by weights between items: every score is a sum over what the user took.

use super::Group;
use crate::kernel::{self, Isa, TILE, TopN};
use crate::matrix::SparseRows;
use crate::solver::Neighbourhood;

/// What a model of weights between items predicts with.
#[derive(Clone, Copy)]
pub(super) struct Neighbours<'a> {
    /// What each user took.
    pub(super) histories: &'a SparseRows,
    /// What each item says of others.
    pub(super) weights: &'a SparseRows,
}

/// A search over scores that are sums of weights.
pub(super) struct WeightedSums<'a> {
    isa: Isa,
    neighbours: Neighbours<'a>,
    /// What scores start from; those that must never be found start at negative infinity.
    starts: Vec<f32>,
}

/// Bytes that the search takes for its items, and for each thread.
pub(super) fn memory(items: usize) -> usize {
    items.next_multiple_of(TILE) * size_of::<f32>()
}

impl<'a> WeightedSums<'a> {
    /// `starts` are what scores start from. Only items that are allowed are found.
    pub(super) fn new(
        neighbours: Neighbours<'a>,
        starts: &[f32],
        allowed: Option<&[bool]>,
    ) -> WeightedSums<'a> {
        let mut starts = starts.to_vec();
        for (item, start) in starts.iter_mut().enumerate() {
            if allowed.is_some_and(|allowed| !allowed[item]) {
                *start = f32::NEG_INFINITY;
            }
        }
        starts.resize(starts.len().next_multiple_of(TILE), f32::NEG_INFINITY);
        WeightedSums {
            isa: Isa::best(),
            neighbours,
            starts,
        }
    }

    /// The best items of each user.
    pub(super) fn find(&self, group: &mut Group) -> Vec<TopN> {
        let mut scores = Vec::with_capacity(self.starts.len());
        let users = group.rows.iter().zip(&mut group.seen);
        let of_user = |(row, seen): (&Option<u32>, &mut Vec<u32>)| {
            scores.clear();
            scores.extend_from_slice(&self.starts);
            if let Some(row) = row {
                let taken = self.neighbours.histories.row(*row as usize).cols;
                Neighbourhood::add_scores(self.neighbours.weights, taken, &mut scores);
            }
            seen.sort_unstable();
            kernel::exclude(&mut scores, 0, seen);
            let mut top = TopN::new(group.top);
            top.offer(self.isa, &scores, 0);
            top
        };
        users.map(of_user).collect()
    }
}
