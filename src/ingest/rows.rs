//! A range of users in memory: sorted, duplicates settled, held-out ratings split off.

use std::ops::Range;

use super::sort::{Record, Stamp, by_row};
use super::split::{Goes, Split};
use crate::error::{Error, ErrorKind, Result};
use crate::matrix::{Codebook, Row};
use crate::store::{Fingerprint, Part};
use std::fmt;

/// What to do with a pair that is rated more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Duplicates {
    /// Keep the latest by time, by line where times are equal or missing.
    #[default]
    Last,
    /// Keep the earliest by time, by line where times are equal or missing.
    First,
    /// Keep the mean of the ratings, at the latest time.
    Mean,
    /// Refuse them.
    Error,
}

impl Duplicates {
    /// Whether times decide.
    pub fn needs_times(self) -> bool {
        matches!(self, Duplicates::Last | Duplicates::First)
    }
}

/// Lower case, as the command line says it.
impl fmt::Display for Duplicates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Duplicates::Last => "last",
            Duplicates::First => "first",
            Duplicates::Mean => "mean",
            Duplicates::Error => "error",
        })
    }
}

/// How users' rows are settled.
#[derive(Debug, Clone, Copy)]
pub struct Settle<'a> {
    /// What to do with a pair that is rated more than once.
    pub duplicates: Duplicates,
    /// Which ratings are held out.
    pub split: Split,
    /// Keys of the items' ids, by number.
    pub item_keys: &'a [u64],
    /// Whether rows keep the times of their ratings.
    pub times: bool,
}

/// Consecutive rows.
#[derive(Debug, Default, PartialEq)]
pub struct Rows {
    ends: Vec<usize>,
    cols: Vec<u32>,
    values: Vec<f32>,
    /// The time of each rating, or none at all.
    times: Vec<i64>,
}

impl Rows {
    fn with_capacity(rows: usize, ratings: usize) -> Rows {
        Rows {
            ends: Vec::with_capacity(rows),
            cols: Vec::with_capacity(ratings),
            values: Vec::with_capacity(ratings),
            times: Vec::new(),
        }
    }

    fn push(&mut self, col: u32, value: f32, time: Option<i64>) {
        self.cols.push(col);
        self.values.push(value);
        self.times.extend(time);
    }

    fn end_row(&mut self) {
        self.ends.push(self.cols.len());
    }

    /// The rows in order.
    pub fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        self.timed().map(|(row, _)| row)
    }

    /// The rows in order, each with the times of its ratings if they are kept.
    pub fn timed(&self) -> impl Iterator<Item = (Row<'_>, &[i64])> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| {
            let row = Row {
                cols: &self.cols[start..end],
                values: &self.values[start..end],
            };
            (row, self.times.get(start..end).unwrap_or_default())
        })
    }

    /// The values of all rows.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// All ratings as records of their items.
    pub fn by_item(&self, first_row: usize) -> Vec<Record<()>> {
        let mut records = Vec::with_capacity(self.cols.len());
        for (row, ratings) in (first_row as u32..).zip(self.iter()) {
            let ratings = ratings.cols.iter().zip(ratings.values);
            records.extend(ratings.map(|(&col, &value)| Record {
                row: col,
                col: row,
                value,
                time: (),
            }));
        }
        records
    }
}

/// A range of users, settled.
#[derive(Debug, Default)]
pub struct Settled {
    /// What is trained on.
    pub train: Rows,
    /// What early stopping watches.
    pub validation: Rows,
    /// What is only measured.
    pub test: Rows,
    /// What users who are held out whole are folded in by.
    pub fold_in: Rows,
    /// Ratings that gave way to another of the same pair.
    pub duplicates: u64,
    /// Pairs of a test file that are also trained on or validated with.
    pub overlap: u64,
    /// The fingerprint of the training part.
    pub fingerprint: Fingerprint,
    /// How often each rating of the training part occurs, and the range of all parts.
    pub histogram: Histogram,
    /// The sum of each user's training ratings.
    pub sums: Vec<f64>,
}

/// One rating of a row that has been settled.
#[derive(Clone, Copy)]
struct Rated<T> {
    col: u32,
    /// The key of its item.
    key: u64,
    value: f32,
    time: T,
    goes: Goes,
}

impl Settle<'_> {
    /// Settles the users of `rows`, whose ids have these keys: their records from the inputs, and those of a test file.
    ///
    /// # Errors
    /// If a pair is rated twice and that is an error; its numbers are in the error's `(user, item)`.
    pub fn settle<T: Stamp>(
        &self,
        rows: Range<usize>,
        user_keys: &[u64],
        records: &[Record<T>],
        test_file: &[Record<T>],
    ) -> Result<Settled, Twice> {
        let (mut order, ends) = by_row(records, rows.clone());
        let (mut held_out, held_out_ends) = by_row(test_file, rows.clone());
        let mut settled = Settled {
            train: Rows::with_capacity(rows.len(), records.len()),
            ..Settled::default()
        };
        let (mut start, mut held_out_start) = (0, 0);
        let (mut row, mut of_test_file) = (Vec::new(), Vec::new());
        for (i, &user_key) in user_keys.iter().enumerate() {
            self.unique(records, &mut order[start..ends[i]], &mut row)?;
            let held_out = &mut held_out[held_out_start..held_out_ends[i]];
            self.unique(test_file, held_out, &mut of_test_file)?;
            let read = ends[i] - start + held_out_ends[i] - held_out_start;
            settled.duplicates += (read - row.len() - of_test_file.len()) as u64;
            settled.overlap += of_test_file
                .iter()
                .filter(|x| row.binary_search_by_key(&x.col, |y| y.col).is_ok())
                .count() as u64;
            (start, held_out_start) = (ends[i], held_out_ends[i]);
            self.split(user_key, &mut row);
            for rated in &row {
                let rows = match rated.goes {
                    Goes::Into(Part::Train) => {
                        let fingerprint = &mut settled.fingerprint;
                        fingerprint.add(user_key, rated.key, rated.value);
                        &mut settled.train
                    }
                    Goes::Into(Part::Validation) => &mut settled.validation,
                    Goes::FoldIn => &mut settled.fold_in,
                    Goes::Into(Part::Test) => {
                        of_test_file.push(*rated);
                        continue;
                    }
                };
                rows.push(rated.col, rated.value, self.kept(rated.time));
            }
            // A pair that the file holds out and the split as well is held out once, as the file has it.
            of_test_file.sort_by_key(|x| x.col);
            of_test_file.dedup_by_key(|x| x.col);
            for rated in &of_test_file {
                let time = self.kept(rated.time);
                settled.test.push(rated.col, rated.value, time);
            }
            settled.train.end_row();
            settled.validation.end_row();
            settled.test.end_row();
            settled.fold_in.end_row();
        }
        settled.histogram.add(settled.train.values());
        settled.histogram.widen(settled.validation.values());
        settled.histogram.widen(settled.test.values());
        let sum = |row: Row<'_>| row.values.iter().map(|&r| f64::from(r)).sum();
        settled.sums = settled.train.iter().map(sum).collect();
        Ok(settled)
    }

    fn kept<T: Stamp>(&self, time: T) -> Option<i64> {
        time.get().filter(|_| self.times)
    }

    /// One user's ratings by item, each pair once, from where [`by_row`] says that they are.
    fn unique<T: Stamp>(
        &self,
        records: &[Record<T>],
        order: &mut [u64],
        row: &mut Vec<Rated<T>>,
    ) -> Result<(), Twice> {
        row.clear();
        order.sort_unstable();
        let record = |key: u64| &records[(key & 0xffff_ffff) as usize];
        for same in order.chunk_by(|a, b| a >> 32 == b >> 32) {
            let mut kept = *record(same[0]);
            if same.len() > 1 {
                kept = self.one_of(same.iter().map(|&key| *record(key)))?;
            }
            row.push(Rated {
                col: kept.col,
                key: self.item_keys[kept.col as usize],
                value: kept.value,
                time: kept.time,
                goes: Goes::Into(Part::Train),
            });
        }
        Ok(())
    }

    /// Settles several ratings of one pair, in order of their lines.
    fn one_of<T: Stamp>(
        &self,
        same: impl Iterator<Item = Record<T>> + Clone,
    ) -> Result<Record<T>, Twice> {
        // Of equal times `max_by_key` gives the last and `min_by_key` the first.
        let last = same.clone().max_by_key(|r| r.time).expect("not empty");
        match self.duplicates {
            Duplicates::Last => Ok(last),
            Duplicates::First => Ok(same.min_by_key(|r| r.time).expect("not empty")),
            Duplicates::Mean => {
                // Added by size, so that the order of lines does not matter.
                let mut values: Vec<f32> = same.map(|r| r.value).collect();
                values.sort_unstable_by(f32::total_cmp);
                let sum: f64 = values.iter().map(|&x| f64::from(x)).sum();
                Ok(Record {
                    value: (sum / values.len() as f64) as f32,
                    ..last
                })
            }
            Duplicates::Error => Err(Twice {
                user: last.row,
                item: last.col,
            }),
        }
    }

    /// Decides where each of a user's ratings goes.
    fn split<T: Stamp>(&self, user_key: u64, row: &mut [Rated<T>]) {
        let key_and_time = |rated: &Rated<T>| (rated.key, rated.time);
        let rated: Vec<_> = row.iter().map(key_and_time).collect();
        for (rated, goes) in row.iter_mut().zip(self.split.of_user(user_key, &rated)) {
            rated.goes = goes;
        }
    }
}

/// A pair that is rated twice where that is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Twice {
    /// Number of the user.
    pub user: u32,
    /// Number of the item.
    pub item: u32,
}

impl Twice {
    /// The error, with the ids as they were written.
    pub fn error(self, user: &str, item: &str) -> Error {
        let what = format!("user {user} has rated item {item} more than once");
        Error::new(ErrorKind::BadInput, what)
            .remedy("choose what counts with --duplicates last, first or mean")
    }
}

/// How often each rating occurs, while there are few different ones.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    ratings: Codebook,
    /// How often each occurs, by its code.
    counts: Vec<u64>,
    overflown: bool,
    /// The smallest and the largest rating.
    range: Option<(f32, f32)>,
}

impl Histogram {
    /// Counts ratings.
    pub fn add(&mut self, values: &[f32]) {
        self.widen(values);
        for &value in values {
            if self.overflown {
                return;
            }
            self.count(value, 1);
        }
    }

    /// Counts in all that another histogram has counted.
    pub fn merge(&mut self, other: &Histogram) {
        if let Some((low, high)) = other.range {
            self.widen(&[low, high]);
        }
        self.overflown |= other.overflown;
        for (&value, &count) in other.ratings.values().iter().zip(&other.counts) {
            self.count(value, count);
        }
    }

    fn count(&mut self, value: f32, count: u64) {
        // There are two zeros, which are one rating.
        match self.ratings.code(value + 0.0) {
            Some(code) => {
                let code = usize::from(code);
                self.counts.resize(self.counts.len().max(code + 1), 0);
                self.counts[code] += count;
            }
            None => self.overflown = true,
        }
    }

    /// Lets ratings into the range without counting them.
    pub fn widen(&mut self, values: &[f32]) {
        if let Some(&first) = values.first() {
            let range = self.range.unwrap_or((first, first));
            let wider = |(low, high): (f32, f32), &value: &f32| (low.min(value), high.max(value));
            self.range = Some(values.iter().fold(range, wider));
        }
    }

    /// The smallest and the largest rating, if there is any.
    pub fn range(&self) -> Option<(f32, f32)> {
        self.range
    }

    /// Ratings and how often each occurs, ascending; none if there are more than 256 different ones.
    pub fn finish(self) -> Option<Vec<(f32, u64)>> {
        let ratings = self.ratings.values().iter().copied();
        let mut counts: Vec<_> = ratings.zip(self.counts).collect();
        counts.sort_by(|a, b| a.0.total_cmp(&b.0));
        (!self.overflown).then_some(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::super::split::HoldOut;
    use super::*;

    fn record(row: u32, col: u32, value: f32, time: i64) -> Record<i64> {
        Record {
            row,
            col,
            value,
            time,
        }
    }

    fn settle(duplicates: Duplicates, split: Split, records: &[Record<i64>]) -> Settled {
        let keys = [11, 12, 13, 14, 15, 16, 17, 18];
        let settle = Settle {
            duplicates,
            split,
            item_keys: &keys,
            times: false,
        };
        settle.settle(3..6, &keys[3..6], records, &[]).unwrap()
    }

    fn values(rows: &Rows) -> Vec<Vec<(u32, f32)>> {
        let pairs = |row: Row<'_>| {
            row.cols
                .iter()
                .copied()
                .zip(row.values.iter().copied())
                .collect()
        };
        rows.iter().map(pairs).collect()
    }

    #[test]
    fn duplicates_are_settled_by_time_then_by_line() {
        let records = [
            record(5, 7, 1.0, 30),
            record(3, 2, 4.0, 0),
            record(5, 7, 2.0, 10),
            record(5, 7, 4.5, 30),
            record(5, 1, 3.0, 20),
        ];
        for (duplicates, kept) in [
            (Duplicates::Last, 4.5),
            (Duplicates::First, 2.0),
            (Duplicates::Mean, 2.5),
        ] {
            let settled = settle(duplicates, Split::default(), &records);
            let expected = [vec![(2, 4.0)], vec![], vec![(1, 3.0), (7, kept)]];
            assert_eq!(values(&settled.train), expected);
            assert_eq!(settled.duplicates, 2);
            assert_eq!(values(&settled.test), [vec![], vec![], vec![]]);
        }
        let refuse = Settle {
            duplicates: Duplicates::Error,
            split: Split::default(),
            item_keys: &[1; 8],
            times: false,
        };
        let twice = refuse.settle(3..6, &[1; 3], &records, &[]).unwrap_err();
        assert_eq!(twice, Twice { user: 5, item: 7 });
    }

    #[test]
    fn the_latest_are_held_out() {
        let split = Split {
            test: HoldOut::Last(2),
            ..Split::default()
        };
        let records = [
            record(4, 0, 1.0, 9),
            record(4, 1, 2.0, 7),
            record(4, 2, 3.0, 8),
            record(4, 3, 4.0, 7),
            record(3, 3, 5.0, 1),
        ];
        let settled = settle(Duplicates::Last, split, &records);
        assert_eq!(
            values(&settled.test),
            [vec![], vec![(0, 1.0), (2, 3.0)], vec![]]
        );
        assert_eq!(values(&settled.train)[1], [(1, 2.0), (3, 4.0)]);
        assert_eq!(values(&settled.train)[0], [(3, 5.0)]);
        let back = settled.train.by_item(3);
        assert_eq!((back[1].row, back[1].col, back[1].value), (1, 4, 2.0));
    }

    #[test]
    fn a_test_file_is_held_out_and_overlap_is_counted() {
        let settle = Settle {
            duplicates: Duplicates::Last,
            split: Split::default(),
            item_keys: &[1, 2, 3],
            times: false,
        };
        let records = [record(0, 1, 1.0, 0), record(1, 2, 2.0, 0)];
        let test = [
            record(0, 2, 3.0, 0),
            record(1, 2, 4.0, 0),
            record(0, 0, 5.0, 0),
        ];
        let settled = settle.settle(0..2, &[1, 2], &records, &test).unwrap();
        assert_eq!(values(&settled.train), [vec![(1, 1.0)], vec![(2, 2.0)]]);
        assert_eq!(
            values(&settled.test),
            [vec![(0, 5.0), (2, 3.0)], vec![(2, 4.0)]]
        );
        assert_eq!(settled.overlap, 1);
    }

    #[test]
    fn a_histogram_gives_up_when_ratings_are_continuous() {
        let mut few = Histogram::default();
        few.add(&[3.0, 1.0, 3.0, 4.5]);
        assert_eq!(few.range(), Some((1.0, 4.5)));
        let counted = few.clone().finish();
        assert_eq!(counted, Some(vec![(1.0, 1), (3.0, 2), (4.5, 1)]));
        let mut many = Histogram::default();
        many.add(&(0..300).map(|i| i as f32 / 7.0).collect::<Vec<_>>());
        assert_eq!(many.range(), Some((0.0, 299.0 / 7.0)));
        let mut both = Histogram::default();
        both.add(&[4.5, -1.0]);
        both.merge(&few);
        assert_eq!(both.range(), Some((-1.0, 4.5)));
        assert_eq!(
            both.clone().finish(),
            Some(vec![(-1.0, 1), (1.0, 1), (3.0, 2), (4.5, 2)])
        );
        both.merge(&many);
        assert_eq!(both.finish(), None);
        assert_eq!(many.clone().finish(), None);
    }
}
