//! Ratings held in vectors: tests, small data, and library users who bring their own matrix.

use super::{Block, Ratings, Shape, Side};
use crate::error::{Error, ErrorKind, Result};

/// Compressed rows of one side.
#[derive(Debug, Clone, PartialEq)]
struct Compressed {
    offsets: Vec<u64>,
    cols: Vec<u32>,
    values: Vec<f32>,
}

/// Ratings in memory, in both orientations.
#[derive(Debug, Clone, PartialEq)]
pub struct InMemory {
    users: usize,
    items: usize,
    rows_per_block: usize,
    by_user: Compressed,
    by_item: Compressed,
}

impl InMemory {
    /// Ratings from `(user, item, rating)` in any order, with dense numbers below `users` and `items`.
    ///
    /// # Errors
    /// If a number is out of range, a rating is not finite, or a pair is rated twice.
    pub fn from_triplets(
        users: usize,
        items: usize,
        triplets: &[(u32, u32, f32)],
    ) -> Result<InMemory> {
        let bad = |message: String| Err(Error::new(ErrorKind::BadInput, message));
        for &(user, item, rating) in triplets {
            if user as usize >= users || item as usize >= items {
                return bad(format!("({user}, {item}) is outside {users} x {items}"));
            }
            if !rating.is_finite() {
                return bad(format!("the rating of ({user}, {item}) is {rating}"));
            }
        }
        let mut sorted = triplets.to_vec();
        sorted.sort_unstable_by_key(|&(user, item, _)| (user, item));
        if let Some(twice) = sorted
            .windows(2)
            .find(|w| (w[0].0, w[0].1) == (w[1].0, w[1].1))
        {
            return bad(format!("({}, {}) is rated twice", twice[0].0, twice[0].1));
        }
        let by_user = Compressed {
            offsets: offsets(users, sorted.iter().map(|t| t.0)),
            cols: sorted.iter().map(|t| t.1).collect(),
            values: sorted.iter().map(|t| t.2).collect(),
        };
        // Stable, so that users stay in order within an item.
        sorted.sort_by_key(|t| t.1);
        let by_item = Compressed {
            offsets: offsets(items, sorted.iter().map(|t| t.1)),
            cols: sorted.iter().map(|t| t.0).collect(),
            values: sorted.iter().map(|t| t.2).collect(),
        };
        Ok(InMemory {
            users,
            items,
            rows_per_block: users.max(items).max(1),
            by_user,
            by_item,
        })
    }

    /// Ratings from a sprs matrix of users x items, CSR or CSC. Every stored entry is a rating, zeros included.
    ///
    /// # Errors
    /// If a value is not finite.
    pub fn from_sprs(matrix: sprs::CsMatViewI<'_, f32, u32, u64>) -> Result<InMemory> {
        let triplets: Vec<_> = matrix.iter().map(|(&v, (u, i))| (u, i, v)).collect();
        InMemory::from_triplets(matrix.rows(), matrix.cols(), &triplets)
    }

    /// Cuts both sides into blocks of so many rows, as a store cuts them into shards.
    #[must_use]
    pub fn with_rows_per_block(mut self, rows: usize) -> InMemory {
        self.rows_per_block = rows.max(1);
        self
    }

    fn side(&self, side: Side) -> &Compressed {
        match side {
            Side::Users => &self.by_user,
            Side::Items => &self.by_item,
        }
    }
}

fn offsets(rows: usize, sorted: impl Iterator<Item = u32>) -> Vec<u64> {
    let mut offsets = vec![0; rows + 1];
    for row in sorted {
        offsets[row as usize + 1] += 1;
    }
    for i in 0..rows {
        offsets[i + 1] += offsets[i];
    }
    offsets
}

impl Ratings for InMemory {
    fn shape(&self) -> Shape {
        Shape {
            users: self.users,
            items: self.items,
            ratings: self.by_user.cols.len() as u64,
        }
    }

    fn blocks(&self, side: Side) -> usize {
        self.shape().rows(side).div_ceil(self.rows_per_block)
    }

    fn block(&self, side: Side, index: usize) -> Result<Block<'_>> {
        let shape = self.shape();
        let first = index * self.rows_per_block;
        let end = (first + self.rows_per_block).min(shape.rows(side));
        let Compressed {
            offsets,
            cols,
            values,
        } = self.side(side);
        let window = &offsets[first..=end];
        let span = offsets[first] as usize..offsets[end] as usize;
        Block::plain(
            first,
            shape.rows(side.other()),
            window,
            &cols[span.clone()],
            &values[span],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::RowScratch;

    #[test]
    fn both_orientations_hold_the_same_ratings() {
        let ratings =
            InMemory::from_triplets(3, 4, &[(2, 0, 1.0), (0, 3, 2.0), (0, 1, 3.0), (2, 3, 4.0)])
                .unwrap()
                .with_rows_per_block(2);
        assert_eq!(ratings.blocks(Side::Users), 2);
        let block = ratings.block(Side::Users, 1).unwrap();
        assert_eq!((block.first_row(), block.rows()), (2, 1));
        let scratch = &mut RowScratch::default();
        let row = block.row(0, scratch);
        assert_eq!((row.cols, row.values), (&[0, 3][..], &[1.0, 4.0][..]));
        let block = ratings.block(Side::Items, 1).unwrap();
        let row = block.row(1, scratch);
        assert_eq!((row.cols, row.values), (&[0, 2][..], &[2.0, 4.0][..]));
        block.check().unwrap();
        assert_eq!(block.as_sprs().unwrap().nnz(), 2);
    }

    #[test]
    fn a_sprs_matrix_goes_in_and_comes_out() {
        let ratings = InMemory::from_triplets(2, 3, &[(0, 2, 5.0), (1, 0, 0.0)]).unwrap();
        let view = ratings.block(Side::Users, 0).unwrap().as_sprs().unwrap();
        assert_eq!(InMemory::from_sprs(view).unwrap(), ratings);
        let by_column = view.to_csc();
        assert_eq!(InMemory::from_sprs(by_column.view()).unwrap(), ratings);
    }

    #[test]
    fn bad_triplets_are_refused() {
        for (triplets, what) in [
            (vec![(2, 0, 1.0)], "outside"),
            (vec![(0, 0, f32::NAN)], "NaN"),
            (vec![(0, 0, 1.0), (0, 0, 2.0)], "twice"),
        ] {
            let error = InMemory::from_triplets(2, 2, &triplets).unwrap_err();
            assert!(error.to_string().contains(what), "{error}");
        }
    }
}
