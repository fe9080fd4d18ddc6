//! Sparse rows of numbers: what a neighbourhood model is made of.

use super::Row;

/// Rows of columns and their numbers, one behind the other.
#[derive(Debug, Clone, PartialEq)]
pub struct SparseRows {
    columns: usize,
    /// Where each row begins, and where the last one ends.
    offsets: Vec<u64>,
    cols: Vec<u32>,
    values: Vec<f32>,
}

impl SparseRows {
    /// No rows yet, over so many columns.
    pub fn new(columns: usize) -> SparseRows {
        SparseRows {
            columns,
            offsets: vec![0],
            cols: Vec::new(),
            values: Vec::new(),
        }
    }

    /// No rows yet, over so many columns, with room for so many entries.
    pub fn with_room(columns: usize, entries: usize) -> SparseRows {
        SparseRows {
            cols: Vec::with_capacity(entries),
            values: Vec::with_capacity(entries),
            ..SparseRows::new(columns)
        }
    }

    /// So many rows without any entry.
    pub fn empty(rows: usize, columns: usize) -> SparseRows {
        SparseRows {
            offsets: vec![0; rows + 1],
            ..SparseRows::new(columns)
        }
    }

    /// Rows of these parts; nothing if they do not fit together: offsets that ascend from 0 to the number of entries, and
    /// columns that exist and ascend within each row.
    pub fn from_parts(
        columns: usize,
        offsets: Vec<u64>,
        cols: Vec<u32>,
        values: Vec<f32>,
    ) -> Option<SparseRows> {
        let whole = offsets.first() == Some(&0)
            && offsets.last() == Some(&(cols.len() as u64))
            && offsets.is_sorted()
            && cols.len() == values.len();
        let ascending = |row: &[u64]| {
            let cols = &cols[row[0] as usize..row[1] as usize];
            cols.is_sorted_by(|a, b| a < b) && cols.last().is_none_or(|&c| (c as usize) < columns)
        };
        let sound = whole && offsets.windows(2).all(ascending);
        sound.then_some(SparseRows {
            columns,
            offsets,
            cols,
            values,
        })
    }

    /// Appends a row, whose columns ascend.
    ///
    /// # Panics
    /// If a column does not exist, or columns do not ascend.
    pub fn push(&mut self, entries: impl IntoIterator<Item = (u32, f32)>) {
        let start = self.cols.len();
        for (col, value) in entries {
            self.cols.push(col);
            self.values.push(value);
        }
        let row = &self.cols[start..];
        assert!(row.is_sorted_by(|a, b| a < b), "columns that ascend");
        assert!(row.last().is_none_or(|&col| (col as usize) < self.columns));
        self.offsets.push(self.cols.len() as u64);
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// One row.
    pub fn row(&self, row: usize) -> Row<'_> {
        let range = self.offsets[row] as usize..self.offsets[row + 1] as usize;
        Row {
            cols: &self.cols[range.clone()],
            values: &self.values[range],
        }
    }

    /// The number in a cell; zero where there is none.
    pub fn get(&self, row: usize, col: u32) -> f32 {
        let row = self.row(row);
        let found = row.cols.binary_search(&col);
        found.map_or(0.0, |at| row.values[at])
    }

    /// Where each row begins, and where the last one ends.
    pub fn offsets(&self) -> &[u64] {
        &self.offsets
    }

    /// The columns of all rows.
    pub fn cols(&self) -> &[u32] {
        &self.cols
    }

    /// The numbers of all rows.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Memory that so many rows with so many entries take, in bytes.
    pub fn bytes(rows: usize, entries: u64) -> u64 {
        (rows as u64 + 1) * size_of::<u64>() as u64 + entries * 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_those_that_were_pushed() {
        let mut rows = SparseRows::new(5);
        rows.push([(1, 0.5), (4, -2.0)]);
        rows.push([]);
        rows.push([(0, 1.0)]);
        assert_eq!(rows.rows(), 3);
        assert_eq!(rows.row(0).cols, [1, 4]);
        assert!(rows.row(1).is_empty());
        assert_eq!(
            [rows.get(0, 4), rows.get(0, 3), rows.get(2, 0)],
            [-2.0, 0.0, 1.0]
        );
        let parts = |offsets: &[u64], cols: &[u32]| {
            let values = rows.values().to_vec();
            SparseRows::from_parts(5, offsets.to_vec(), cols.to_vec(), values)
        };
        assert_eq!(parts(rows.offsets(), rows.cols()), Some(rows.clone()));
        assert_eq!(parts(&[0, 2, 2, 4], rows.cols()), None);
        assert_eq!(parts(&[0, 2, 1, 3], rows.cols()), None);
        assert_eq!(parts(&[0, 2, 2, 3], &[1, 5, 0]), None);
        assert_eq!(parts(&[0, 2, 2, 3], &[4, 4, 0]), None);
    }
}
