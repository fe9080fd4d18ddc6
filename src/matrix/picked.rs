//! Some rows of one side, gathered: what single rows are solved from.

use super::{Block, Ratings, RowScratch, Shape, Side};
use crate::error::Result;

/// Rows of one side of other ratings, as the users of their own: the k-th row that was picked is user k, and the rows of
/// the other side are the items. As [`Ratings`] it has rows of users only.
#[derive(Debug)]
pub struct Picked {
    width: usize,
    offsets: Vec<u64>,
    cols: Vec<u32>,
    values: Vec<f32>,
}

impl Picked {
    /// Gathers these rows, which ascend; of their ratings those that are at least so high, if that is given.
    ///
    /// # Errors
    /// If the ratings cannot be read.
    ///
    /// # Panics
    /// If a row is not there, or rows do not ascend.
    pub fn new(
        ratings: &dyn Ratings,
        side: Side,
        rows: &[u32],
        least: Option<f32>,
    ) -> Result<Picked> {
        let mut picked = Picked {
            width: ratings.shape().rows(side.other()),
            offsets: vec![0],
            cols: Vec::new(),
            values: Vec::new(),
        };
        let mut left = rows;
        let mut scratch = RowScratch::default();
        for index in 0..ratings.blocks(side) {
            if left.is_empty() {
                break;
            }
            let block = ratings.block(side, index)?;
            let end = block.first_row() + block.rows();
            let (here, rest) = left.split_at(left.partition_point(|&row| (row as usize) < end));
            left = rest;
            for &row in here {
                let row = block.row(row as usize - block.first_row(), &mut scratch);
                for (&col, &value) in row.cols.iter().zip(row.values) {
                    if least.is_none_or(|least| value >= least) {
                        picked.cols.push(col);
                        picked.values.push(value);
                    }
                }
                picked.offsets.push(picked.cols.len() as u64);
            }
            ratings.done_with(side, index);
        }
        assert!(left.is_empty(), "rows are there, and ascend");
        Ok(picked)
    }

    /// Bytes that a rating takes.
    pub const RATING_BYTES: u64 = 8;
}

impl Ratings for Picked {
    fn shape(&self) -> Shape {
        Shape {
            users: self.offsets.len() - 1,
            items: self.width,
            ratings: self.cols.len() as u64,
        }
    }

    fn blocks(&self, side: Side) -> usize {
        usize::from(side == Side::Users)
    }

    fn block(&self, _side: Side, _index: usize) -> Result<Block<'_>> {
        Block::plain(0, self.width, &self.offsets, &self.cols, &self.values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::InMemory;

    #[test]
    fn rows_are_gathered_from_either_side_in_order() {
        let triplets = [
            (0, 1, 4.0),
            (1, 0, 2.0),
            (1, 1, 5.0),
            (3, 0, 3.0),
            (3, 2, 1.0),
        ];
        let ratings = InMemory::from_triplets(4, 3, &triplets).unwrap();
        let ratings = ratings.with_rows_per_block(2);
        let rows = |side, rows: &[u32], least| {
            let picked = Picked::new(&ratings, side, rows, least).unwrap();
            let block = picked.block(Side::Users, 0).unwrap();
            let mut scratch = RowScratch::default();
            let rows = (0..block.rows()).map(|i| {
                let row = block.row(i, &mut scratch);
                (row.cols.to_vec(), row.values.to_vec())
            });
            rows.collect::<Vec<_>>()
        };
        assert_eq!(
            rows(Side::Users, &[1, 2, 3], None),
            [
                (vec![0, 1], vec![2.0, 5.0]),
                (vec![], vec![]),
                (vec![0, 2], vec![3.0, 1.0])
            ]
        );
        assert_eq!(rows(Side::Items, &[0], Some(2.5)), [(vec![3], vec![3.0])]);
    }
}
