//! Shapes and views of ratings. Owns no file, knows no solver.

mod factors;
mod in_memory;
mod tiles;

use std::borrow::Cow;

pub use factors::Factors;
pub use in_memory::InMemory;
pub use tiles::{Census, Grid, HeldTiles, HeldWave, Tile, Tiles, Values, Wave};

use crate::error::{Error, ErrorKind, Result};

/// Which of the two sides of a ratings matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// Rows by user: CSR.
    Users,
    /// Rows by item: CSC.
    Items,
}

impl Side {
    /// Users for items, items for users.
    #[must_use]
    pub fn other(self) -> Side {
        match self {
            Side::Users => Side::Items,
            Side::Items => Side::Users,
        }
    }

    /// `user` or `item`, as messages say it.
    pub fn noun(self) -> &'static str {
        match self {
            Side::Users => "user",
            Side::Items => "item",
        }
    }
}

/// How many users, items and ratings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Shape {
    /// Number of users.
    pub users: usize,
    /// Number of items.
    pub items: usize,
    /// Number of ratings.
    pub ratings: u64,
}

impl Shape {
    /// The number of rows of one side.
    pub fn rows(&self, side: Side) -> usize {
        match side {
            Side::Users => self.users,
            Side::Items => self.items,
        }
    }

    /// The share of cells that are rated.
    pub fn density(&self) -> f64 {
        let cells = self.users as f64 * self.items as f64;
        if cells > 0.0 {
            self.ratings as f64 / cells
        } else {
            0.0
        }
    }
}

/// One row of ratings, by ascending column: all that a method ever sees.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Dense numbers of the other side, ascending.
    pub cols: &'a [u32],
    /// Ratings, one for each column.
    pub values: &'a [f32],
}

impl<'a> Row<'a> {
    /// Number of ratings in this row.
    pub fn len(&self) -> usize {
        self.cols.len()
    }

    /// Whether the row has no rating.
    pub fn is_empty(&self) -> bool {
        self.cols.is_empty()
    }

    /// The ratings at these positions of the row.
    #[must_use]
    pub fn part(&self, range: std::ops::Range<usize>) -> Row<'a> {
        Row {
            cols: &self.cols[range.clone()],
            values: &self.values[range],
        }
    }
}

/// Room for one decoded row. A plain block never touches it; one that packs its rows decodes into it.
#[derive(Debug, Default)]
pub struct RowScratch {
    _private: (),
}

/// Consecutive rows of one side.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a> {
    first_row: usize,
    width: usize,
    offsets: &'a [u64],
    cols: &'a [u32],
    values: &'a [f32],
}

impl<'a> Block<'a> {
    /// A block over plain arrays: `offsets` has one entry more than there are rows, and may start anywhere (a block is a
    /// window of a larger matrix); `width` is the number of columns.
    ///
    /// Checks lengths, order of the offsets and the range of the columns' ends only through them; the columns themselves
    /// are checked when a shard is written and by [`Block::check`].
    pub fn plain(
        first_row: usize,
        width: usize,
        offsets: &'a [u64],
        cols: &'a [u32],
        values: &'a [f32],
    ) -> Result<Block<'a>> {
        let damaged = |what: &str| Error::new(ErrorKind::Damaged, what);
        let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else {
            return Err(damaged("a block without offsets"));
        };
        if last.checked_sub(*first) != Some(cols.len() as u64) || cols.len() != values.len() {
            return Err(damaged("offsets do not span the ratings"));
        }
        Ok(Block {
            first_row,
            width,
            offsets,
            cols,
            values,
        })
    }

    /// The number of the first row.
    pub fn first_row(&self) -> usize {
        self.first_row
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    /// How many ratings.
    pub fn ratings(&self) -> usize {
        self.cols.len()
    }

    /// How many ratings row `i` of this block has.
    pub fn row_len(&self, i: usize) -> usize {
        // A block that was damaged after its check has wrong lengths, never an out-of-bounds read: `row` slices.
        self.offsets[i + 1].wrapping_sub(self.offsets[i]) as usize
    }

    /// Row `i` of this block (the matrix's row `first_row + i`).
    ///
    /// # Panics
    /// If `i` is out of range.
    pub fn row<'s>(&'s self, i: usize, _scratch: &'s mut RowScratch) -> Row<'s> {
        let base = self.offsets[0];
        let start = (self.offsets[i] - base) as usize;
        let end = (self.offsets[i + 1] - base) as usize;
        Row {
            cols: &self.cols[start..end],
            values: &self.values[start..end],
        }
    }

    /// The block as a zero-copy sprs matrix of `rows` x `width`; checks order and range of its indices.
    pub fn as_sprs(&self) -> Result<sprs::CsMatViewI<'a, f32, u32, u64>> {
        sprs::CsMatViewI::try_new(
            (self.rows(), self.width),
            self.offsets,
            self.cols,
            self.values,
        )
        .map_err(|(.., why)| Error::new(ErrorKind::Damaged, why.to_string()))
    }

    /// Checks that the offsets ascend, the columns ascend within each row and lie in range, and the values are finite.
    pub fn check(&self) -> Result<()> {
        let damaged = |what: String| Err(Error::new(ErrorKind::Damaged, what));
        if self.offsets.windows(2).any(|pair| pair[0] > pair[1]) {
            return damaged("offsets out of order".into());
        }
        for i in 0..self.rows() {
            let row = self.first_row + i;
            let scratch = &mut RowScratch::default();
            let Row { cols, values } = self.row(i, scratch);
            if cols.windows(2).any(|pair| pair[0] >= pair[1]) {
                return damaged(format!("row {row}: columns out of order"));
            }
            if cols.last().is_some_and(|&col| col as usize >= self.width) {
                return damaged(format!("row {row}: a column beyond {}", self.width));
            }
            if values.iter().any(|value| !value.is_finite()) {
                return damaged(format!("row {row}: a value that is not finite"));
            }
        }
        Ok(())
    }
}

/// Ratings that can be read in blocks of rows from either side: in memory, or mapped shards.
pub trait Ratings: Sync {
    /// How many users, items and ratings.
    fn shape(&self) -> Shape;

    /// How many blocks one side is cut into.
    fn blocks(&self, side: Side) -> usize;

    /// Block `index` of one side. Blocks follow each other: together they are all rows, each once, in order.
    fn block(&self, side: Side, index: usize) -> Result<Block<'_>>;

    /// This block will be asked for soon.
    fn will_need(&self, _side: Side, _index: usize) {}

    /// This block will not be asked for again for a while.
    fn done_with(&self, _side: Side, _index: usize) {}

    /// The same ratings as tiles, for methods that go rating by rating: by default cut anew and held in memory.
    ///
    /// # Errors
    /// If ratings cannot be read, or tiles cannot be kept where they should be.
    fn tiles(&self) -> Result<Box<dyn Tiles>> {
        Ok(Box::new(HeldTiles::new(self)?))
    }

    /// The user's own name of a row: random starts are keyed by it, and messages name it.
    fn id(&self, _side: Side, row: usize) -> Cow<'_, str> {
        Cow::Owned(row.to_string())
    }
}
