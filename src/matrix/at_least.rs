//! Explicit ratings as implicit ones: those that are high enough, and no others.

use std::borrow::Cow;
use std::ops::Range;

use super::{Block, Ratings, RowScratch, Shape, Side};
use crate::error::Result;

/// The ratings that are at least so high. The others are passed over as rows are read; nothing is copied.
pub struct AtLeast<'a> {
    ratings: &'a dyn Ratings,
    least: f32,
    shape: Shape,
}

impl<'a> AtLeast<'a> {
    /// Reads the ratings once by user, to count those that are high enough.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn new(ratings: &'a dyn Ratings, least: f32) -> Result<AtLeast<'a>> {
        let mut count = 0;
        let mut scratch = RowScratch::default();
        for index in 0..ratings.blocks(Side::Users) {
            let block = ratings.block(Side::Users, index)?.at_least(least);
            for i in 0..block.rows() {
                count += block.row(i, &mut scratch).len() as u64;
            }
            ratings.done_with(Side::Users, index);
        }
        let shape = Shape {
            ratings: count,
            ..ratings.shape()
        };
        Ok(AtLeast {
            ratings,
            least,
            shape,
        })
    }
}

impl Ratings for AtLeast<'_> {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn blocks(&self, side: Side) -> usize {
        self.ratings.blocks(side)
    }

    fn block(&self, side: Side, index: usize) -> Result<Block<'_>> {
        Ok(self.ratings.block(side, index)?.at_least(self.least))
    }

    fn least_rating(&self) -> Option<f32> {
        Some(self.least)
    }

    fn will_need(&self, side: Side, index: usize) {
        self.ratings.will_need(side, index);
    }

    fn done_with(&self, side: Side, index: usize) {
        self.ratings.done_with(side, index);
    }

    fn bytes_read(&self) -> u64 {
        self.ratings.bytes_read()
    }

    fn will_need_ids(&self, side: Side, rows: Range<usize>) {
        self.ratings.will_need_ids(side, rows);
    }

    fn done_with_ids(&self, side: Side) {
        self.ratings.done_with_ids(side);
    }

    fn id(&self, side: Side, row: usize) -> Cow<'_, str> {
        self.ratings.id(side, row)
    }
}
