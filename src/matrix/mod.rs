//! Shapes and views of ratings. Owns no file, knows no solver.

mod at_least;
mod codebook;
mod factors;
mod in_memory;
mod packed;
mod picked;
mod sparse;
mod spilled;
mod tiles;

use std::borrow::Cow;
use std::ops::Range;

use rayon::prelude::*;

pub use at_least::AtLeast;
pub use codebook::Codebook;
pub use factors::Factors;
pub use in_memory::InMemory;
pub use packed::{PackedRows, PackedValues, pack_ids, pack_starts};
pub use picked::Picked;
pub use sparse::SparseRows;
pub use spilled::{Room, Scratch, Traffic};
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
    pub fn part(&self, range: Range<usize>) -> Row<'a> {
        Row {
            cols: &self.cols[range.clone()],
            values: &self.values[range],
        }
    }
}

/// Room for one decoded row, as large as the longest yet. A plain block of which every rating counts never touches it.
#[derive(Debug, Default)]
pub struct RowScratch {
    cols: Vec<u32>,
    values: Vec<f32>,
    /// The ratings of the row that are high enough, where not all count.
    kept: (Vec<u32>, Vec<f32>),
}

impl RowScratch {
    /// Bytes for each rating of the longest row.
    pub const BYTES: usize = 8;

    /// Room for so many columns, and one value more.
    fn room(&mut self, ratings: usize) -> (&mut [u32], &mut [f32]) {
        if self.cols.len() < ratings {
            self.cols.resize(ratings, 0);
        }
        if self.values.len() < ratings + 1 {
            self.values.resize(ratings + 1, 0.0);
        }
        (&mut self.cols, &mut self.values)
    }
}

/// Consecutive rows of one side.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a> {
    first_row: usize,
    width: usize,
    rows: Rows<'a>,
    /// The least rating that counts, if not all do.
    least: Option<f32>,
}

/// How a block's rows lie in memory.
#[derive(Debug, Clone, Copy)]
enum Rows<'a> {
    Plain {
        offsets: &'a [u64],
        cols: &'a [u32],
        values: &'a [f32],
    },
    Packed(PackedRows<'a>),
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
            rows: Rows::Plain {
                offsets,
                cols,
                values,
            },
            least: None,
        })
    }

    /// A block of packed rows of `width` columns.
    pub fn packed(first_row: usize, width: usize, rows: PackedRows<'a>) -> Block<'a> {
        Block {
            first_row,
            width,
            rows: Rows::Packed(rows),
            least: None,
        }
    }

    /// The same block, whose rows have those ratings alone that are at least so high.
    #[must_use]
    pub fn at_least(self, least: f32) -> Block<'a> {
        Block {
            least: Some(least),
            ..self
        }
    }

    /// The number of the first row.
    pub fn first_row(&self) -> usize {
        self.first_row
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        match self.rows {
            Rows::Plain { offsets, .. } => offsets.len() - 1,
            Rows::Packed(rows) => rows.rows(),
        }
    }

    /// How many ratings, high enough or not.
    pub fn ratings(&self) -> usize {
        match self.rows {
            Rows::Plain { cols, .. } => cols.len(),
            Rows::Packed(rows) => rows.ratings(),
        }
    }

    /// How many ratings row `i` of this block has, high enough or not.
    pub fn row_len(&self, i: usize) -> usize {
        // A block that was damaged after its check has wrong lengths, never an out-of-bounds read: `row` slices.
        match self.rows {
            Rows::Plain { offsets, .. } => offsets[i + 1].wrapping_sub(offsets[i]) as usize,
            Rows::Packed(rows) => rows.row_len(i),
        }
    }

    /// Row `i` of this block (the matrix's row `first_row + i`).
    ///
    /// # Panics
    /// If `i` is out of range.
    pub fn row<'s>(&'s self, i: usize, scratch: &'s mut RowScratch) -> Row<'s> {
        let Some(least) = self.least else {
            return self.whole_row(i, scratch);
        };
        let (mut cols, mut values) = std::mem::take(&mut scratch.kept);
        cols.clear();
        values.clear();
        let row = self.whole_row(i, scratch);
        for (&col, &value) in row.cols.iter().zip(row.values) {
            if value >= least {
                cols.push(col);
                values.push(value);
            }
        }
        scratch.kept = (cols, values);
        Row {
            cols: &scratch.kept.0,
            values: &scratch.kept.1,
        }
    }

    fn whole_row<'s>(&'s self, i: usize, scratch: &'s mut RowScratch) -> Row<'s> {
        match &self.rows {
            Rows::Plain {
                offsets,
                cols,
                values,
            } => {
                let base = offsets[0];
                let start = (offsets[i] - base) as usize;
                let end = (offsets[i + 1] - base) as usize;
                Row {
                    cols: &cols[start..end],
                    values: &values[start..end],
                }
            }
            Rows::Packed(rows) => rows.decode(i, scratch),
        }
    }

    /// A plain block as a zero-copy sprs matrix of `rows` x `width`; checks order and range of its indices.
    ///
    /// # Errors
    /// [`ErrorKind::Incompatible`] if the block is packed: there is nothing that could be viewed, but
    /// [`to_sprs`](Block::to_sprs) gives a copy.
    pub fn as_sprs(&self) -> Result<sprs::CsMatViewI<'a, f32, u32, u64>> {
        let Rows::Plain {
            offsets,
            cols,
            values,
        } = self.rows
        else {
            return Err(Error::new(
                ErrorKind::Incompatible,
                "packed ratings cannot be viewed as a sparse matrix",
            )
            .remedy("copy them with Block::to_sprs, or import with --encoding plain"));
        };
        sprs::CsMatViewI::try_new((self.rows(), self.width), offsets, cols, values)
            .map_err(|(.., why)| Error::new(ErrorKind::Damaged, why.to_string()))
    }

    /// A copy of the block as a sprs matrix of `rows` x `width`, whatever its encoding.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] if a row's columns do not ascend or lie out of range.
    pub fn to_sprs(&self) -> Result<sprs::CsMatI<f32, u32, u64>> {
        let mut offsets = Vec::with_capacity(self.rows() + 1);
        let (mut cols, mut values) = (Vec::new(), Vec::new());
        let scratch = &mut RowScratch::default();
        offsets.push(0);
        for i in 0..self.rows() {
            let row = self.row(i, scratch);
            cols.extend_from_slice(row.cols);
            values.extend_from_slice(row.values);
            offsets.push(cols.len() as u64);
        }
        sprs::CsMatI::try_new((self.rows(), self.width), offsets, cols, values)
            .map_err(|(.., why)| Error::new(ErrorKind::Damaged, why.to_string()))
    }

    /// Checks that every row can be read, the columns ascend within each row and lie in range, and the values are finite.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`], naming the first row that is.
    pub fn check(&self) -> Result<()> {
        /// Rows that a task checks.
        const TASK: usize = 1 << 12;
        let damaged = |(row, what): (usize, &str)| {
            let row = self.first_row + row;
            Error::new(ErrorKind::Damaged, format!("row {row}: {what}"))
        };
        match &self.rows {
            Rows::Plain { offsets, .. } => {
                if offsets.windows(2).any(|pair| pair[0] > pair[1]) {
                    return Err(Error::new(ErrorKind::Damaged, "offsets out of order"));
                }
            }
            Rows::Packed(rows) => rows.check_groups().map_err(damaged)?,
        }
        let tasks = (0..self.rows().div_ceil(TASK))
            .into_par_iter()
            .with_max_len(1);
        let first = tasks.find_map_first(|task| {
            let scratch = &mut RowScratch::default();
            let mut rows = task * TASK..self.rows().min((task + 1) * TASK);
            rows.find_map(|row| self.check_row(row, scratch).err().map(|what| (row, what)))
        });
        first.map_or(Ok(()), |first| Err(damaged(first)))
    }

    fn check_row(
        &self,
        i: usize,
        scratch: &mut RowScratch,
    ) -> std::result::Result<(), &'static str> {
        if let Rows::Packed(rows) = &self.rows {
            rows.check_row(i)?;
        }
        let Row { cols, values } = self.row(i, scratch);
        // All of them, without a way out on the way: so they are compared many at a time.
        let in_order = |before: &[u32], after: &[u32]| {
            let pairs = before.iter().zip(after);
            pairs.fold(true, |all, (before, after)| all & (before < after))
        };
        if !in_order(cols, cols.get(1..).unwrap_or_default()) {
            return Err("columns out of order");
        }
        if cols.last().is_some_and(|&col| col as usize >= self.width) {
            return Err("a column out of range");
        }
        match values
            .iter()
            .fold(true, |all, value| all & value.is_finite())
        {
            true => Ok(()),
            false => Err("a value that is not finite"),
        }
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

    /// Tells the number of ratings of each row of a block. They need not be read for that.
    fn row_lengths(&self, side: Side, index: usize, tell: &mut dyn FnMut(usize)) -> Result<()> {
        let block = self.block(side, index)?;
        (0..block.rows()).for_each(|row| tell(block.row_len(row)));
        Ok(())
    }

    /// A bound that no rating is below, where one is known without looking at them.
    fn least_rating(&self) -> Option<f32> {
        None
    }

    /// This block will be asked for soon.
    fn will_need(&self, _side: Side, _index: usize) {}

    /// This block will not be asked for again for a while.
    fn done_with(&self, _side: Side, _index: usize) {}

    /// Bytes that looking at blocks had to bring into memory so far, where they do not stay there.
    fn bytes_read(&self) -> u64 {
        0
    }

    /// The ids of these rows will be asked for soon.
    fn will_need_ids(&self, _side: Side, _rows: Range<usize>) {}

    /// No ids of this side will be asked for for a while.
    fn done_with_ids(&self, _side: Side) {}

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
