//! Sums over rows in an order that depends on the rows' numbers alone.

use std::collections::BTreeMap;

/// Rows whose sums are folded together: it fixes the order of sums.
pub const GROUP: usize = 256;

/// What can be summed over rows.
pub trait Summed: Copy + Send {
    /// The sum of nothing.
    const ZERO: Self;

    /// Adds to each sum.
    fn add(&mut self, other: Self);
}

impl<const N: usize> Summed for [f64; N] {
    const ZERO: Self = [0.0; N];

    fn add(&mut self, other: Self) {
        for (x, y) in self.iter_mut().zip(other) {
            *x += y;
        }
    }
}

impl Summed for RowSums {
    const ZERO: Self = RowSums {
        loss: 0.0,
        squared_error: 0.0,
        penalty: 0.0,
    };

    fn add(&mut self, other: Self) {
        RowSums::add(self, other);
    }
}

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
pub struct Fold<T> {
    /// Groups that one block held whole.
    groups: BTreeMap<usize, T>,
    /// Rows of groups that a border of blocks or chunks cuts, until all of a group are there.
    edges: BTreeMap<usize, T>,
}

impl<T> Default for Fold<T> {
    fn default() -> Fold<T> {
        Fold {
            groups: BTreeMap::new(),
            edges: BTreeMap::new(),
        }
    }
}

impl<T: Summed> Fold<T> {
    /// Counts in the values of consecutive rows.
    pub fn add(&mut self, first_row: usize, rows: &[T]) {
        let end = first_row + rows.len();
        let mut row = first_row;
        while row < end {
            let group = row / GROUP;
            let group_end = ((group + 1) * GROUP).min(end);
            let of_group = &rows[row - first_row..group_end - first_row];
            if of_group.len() == GROUP {
                let mut sum = T::ZERO;
                of_group.iter().for_each(|&x| sum.add(x));
                self.groups.insert(group, sum);
            } else {
                self.edges.extend((row..).zip(of_group.iter().copied()));
                self.join(group);
            }
            row = group_end;
        }
    }

    /// Sums a group that came in pieces, if it is whole.
    fn join(&mut self, group: usize) {
        let rows = group * GROUP..(group + 1) * GROUP;
        if self.edges.range(rows.clone()).count() == GROUP {
            let mut sum = T::ZERO;
            rows.filter_map(|row| self.edges.remove(&row))
                .for_each(|x| sum.add(x));
            self.groups.insert(group, sum);
        }
    }

    /// The sum over all rows.
    pub fn finish(mut self) -> T {
        for (row, sums) in self.edges {
            self.groups.entry(row / GROUP).or_insert(T::ZERO).add(sums);
        }
        let mut total = T::ZERO;
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
