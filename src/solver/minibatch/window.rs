//! Rows of consecutive users, decoded, and how they are dealt into mini-batches.
//!
//! Batches mix active users with others, and so need rows from all over the store, which is read in order. A window holds
//! as many whole rows as fit [`RATINGS`], and its batches take visits from all of it. Where a window ends depends on the
//! lengths of the rows alone.

use std::ops::Range;

use crate::error::Result;
use crate::matrix::{Ratings, RowScratch, Shape, Side};

/// Ratings of a window, unless a single row has more.
const RATINGS: usize = 1 << 22;

/// The items of consecutive users.
#[derive(Debug, Default)]
pub struct Window {
    number: usize,
    first_user: usize,
    items: Vec<u32>,
    values: Vec<f32>,
    /// Where each user's items end.
    ends: Vec<usize>,
}

/// A user with some of the user's positives: every `parts`th of them, from the `part`th on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visit {
    /// The user's row.
    pub user: usize,
    /// Which part of the positives.
    pub part: usize,
    /// How many parts there are.
    pub parts: usize,
}

impl Visit {
    /// Its positives, of all items of the user; or what goes with them, of what goes with all.
    pub fn positives<'a, T>(&self, items: &'a [T]) -> impl ExactSizeIterator<Item = &'a T> {
        items.iter().skip(self.part).step_by(self.parts)
    }
}

impl Window {
    /// Its number among the windows, from 0.
    pub fn number(&self) -> usize {
        self.number
    }

    /// The number of one of its batches among all.
    pub fn batch(&self, number: usize) -> u64 {
        (self.number as u64) << 32 | number as u64
    }

    /// Its users.
    pub fn users(&self) -> Range<usize> {
        self.first_user..self.first_user + self.ends.len()
    }

    /// All items of a user, ascending.
    pub fn items(&self, user: usize) -> &[u32] {
        &self.items[self.row(user)]
    }

    /// How a user rated each of them.
    pub fn values(&self, user: usize) -> &[f32] {
        &self.values[self.row(user)]
    }

    fn row(&self, user: usize) -> Range<usize> {
        let at = user - self.first_user;
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        start..self.ends[at]
    }

    /// The items of all its users, one user after the other.
    pub fn all_items(&self) -> &[u32] {
        &self.items
    }

    /// Batches of about `users` visits of at most `positives` each, of which none has a user twice. Visits go to the batches in
    /// turn, and so those of a batch come in order of users and are alike in activity from batch to batch.
    pub fn batches(&self, users: usize, positives: usize) -> Vec<Vec<Visit>> {
        let rows = self.users();
        let parts = |user: usize| self.items(user).len().div_ceil(positives);
        let count = rows.clone().map(parts).sum::<usize>().div_ceil(users);
        let mut batches = vec![Vec::with_capacity(users); count];
        let mut next = 0;
        for user in rows {
            let parts = parts(user).min(count);
            for part in 0..parts {
                batches[next].push(Visit { user, part, parts });
                next = (next + 1) % count;
            }
        }
        batches
    }

    /// The visits of all its users by their number among the user's own: the first ones, the second ones, and so on. A user has
    /// one for each so many `positives`, and no more than `most`.
    pub fn turns(&self, positives: usize, most: usize) -> impl Iterator<Item = Vec<Visit>> {
        let parts = move |user: usize| self.items(user).len().div_ceil(positives).min(most);
        let turns = self.users().map(parts).max().unwrap_or(0);
        (0..turns).map(move |part| {
            let visit = |user| {
                let parts = parts(user);
                (part < parts).then_some(Visit { user, part, parts })
            };
            self.users().filter_map(visit).collect()
        })
    }

    /// Memory that a window and its batches take, in bytes.
    pub fn bytes(shape: Shape) -> u64 {
        let ratings = RATINGS.max(shape.items).min(shape.ratings as usize);
        let users = shape.users.min(ratings);
        // Vectors may have grown to twice their length; there are no more visits than ratings.
        2 * (ratings * (size_of::<(u32, f32)>() + size_of::<Visit>()) + users * size_of::<usize>())
            as u64
    }
}

/// Shows all ratings window by window.
///
/// # Errors
/// If ratings cannot be read, or `see` says so.
pub fn for_each_window(
    ratings: &dyn Ratings,
    mut see: impl FnMut(&Window) -> Result<()>,
) -> Result<()> {
    let mut window = Window::default();
    let mut scratch = RowScratch::default();
    let blocks = ratings.blocks(Side::Users);
    for index in 0..blocks {
        if index + 1 < blocks {
            ratings.will_need(Side::Users, index + 1);
        }
        let block = ratings.block(Side::Users, index)?;
        for i in 0..block.rows() {
            let row = block.row(i, &mut scratch);
            if !window.items.is_empty() && window.items.len() + row.len() > RATINGS {
                see(&window)?;
                window.number += 1;
                window.first_user += window.ends.len();
                window.items.clear();
                window.values.clear();
                window.ends.clear();
            }
            window.items.extend_from_slice(row.cols);
            window.values.extend_from_slice(row.values);
            window.ends.push(window.items.len());
        }
        ratings.done_with(Side::Users, index);
    }
    match window.ends.is_empty() {
        true => Ok(()),
        false => see(&window),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::InMemory;

    #[test]
    fn batches_have_every_positive_once_and_no_user_twice() {
        let triplets: Vec<_> = (0..40_u32)
            .flat_map(|user| (0..user * user % 23).map(move |item| (user, item, 1.0)))
            .collect();
        let ratings = InMemory::from_triplets(40, 23, &triplets).unwrap();
        for rows in [1, 7, 40] {
            let ratings = ratings.clone().with_rows_per_block(rows);
            let mut seen = Vec::new();
            for_each_window(&ratings, |window| {
                for batch in window.batches(9, 4) {
                    assert!(batch.windows(2).all(|pair| pair[0].user < pair[1].user));
                    assert!(batch.len() <= 9);
                    for visit in batch {
                        let positives = visit.positives(window.items(visit.user));
                        seen.extend(positives.map(|&item| (visit.user as u32, item, 1.0)));
                    }
                }
                Ok(())
            })
            .unwrap();
            seen.sort_by_key(|x| (x.0, x.1));
            assert_eq!(seen, triplets);
        }
    }
}
