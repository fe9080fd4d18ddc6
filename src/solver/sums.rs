//! Sums over rows in an order that depends on the rows' numbers alone.

use std::collections::BTreeMap;

/// Rows whose sums are folded together: it fixes the order of sums.
pub const GROUP: usize = 256;

/// Sums over rows.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RowSums {
    /// Losses of the row's ratings.
    pub loss: f64,
    /// Squared errors of the row's ratings, in units of the model.
    pub squared_error: f64,
    /// Penalty on the row's length.
    pub penalty: f64,
}

impl RowSums {
    /// Adds to each sum.
    pub fn add(&mut self, other: RowSums) {
        self.loss += other.loss;
        self.squared_error += other.squared_error;
        self.penalty += other.penalty;
    }
}

/// Folds one value a row in groups of [`GROUP`] rows, in row order, whatever the order of the blocks.
#[derive(Default)]
pub struct Fold {
    /// Groups that one block held whole.
    groups: BTreeMap<usize, RowSums>,
    /// Rows of groups that a block's border cuts.
    edges: BTreeMap<usize, RowSums>,
}

impl Fold {
    /// Counts in the values of consecutive rows.
    pub fn add(&mut self, first_row: usize, rows: &[RowSums]) {
        let end = first_row + rows.len();
        let mut row = first_row;
        while row < end {
            let group = row / GROUP;
            let group_end = ((group + 1) * GROUP).min(end);
            let of_group = &rows[row - first_row..group_end - first_row];
            if of_group.len() == GROUP {
                let mut sum = RowSums::default();
                of_group.iter().for_each(|&x| sum.add(x));
                self.groups.insert(group, sum);
            } else {
                self.edges.extend((row..).zip(of_group.iter().copied()));
            }
            row = group_end;
        }
    }

    /// The sum over all rows.
    pub fn finish(mut self) -> RowSums {
        for (row, sums) in self.edges {
            self.groups.entry(row / GROUP).or_default().add(sums);
        }
        let mut total = RowSums::default();
        self.groups.values().for_each(|&x| total.add(x));
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fold_does_not_see_blocks_or_direction() {
        let value = |i: usize| RowSums {
            loss: (i as f64 + 0.1).sqrt(),
            ..RowSums::default()
        };
        let rows: Vec<_> = (0..1000).map(value).collect();
        let mut whole = Fold::default();
        whole.add(0, &rows);
        let whole = whole.finish();
        for size in [1, 7, 256, 300, 999] {
            let mut blocks: Vec<_> = (0..1000).step_by(size).collect();
            for _ in 0..2 {
                let mut fold = Fold::default();
                for &first in &blocks {
                    fold.add(first, &rows[first..(first + size).min(1000)]);
                }
                assert_eq!(fold.finish(), whole, "blocks of {size}");
                blocks.reverse();
            }
        }
    }
}
