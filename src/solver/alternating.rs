//! The driver of row-wise methods: one side moves, row by row in parallel, while the other is fixed.
//!
//! Every row is written by one task only, so there are no locks, and the result cannot depend on threads. The order of
//! sums is part of the definition: within a row ratings are added in order of their columns; rows longer than [`PART`]
//! are cut every [`PART`] ratings and the parts are added in order; across rows there is one f64 a row, folded by
//! [`Fold`] in row order, whatever the blocks or the direction of the scan.
//!
//! The scan goes forth in even epochs and back in odd ones, so that what the page cache still holds is used first; the
//! next block is asked for while this one is computed, and the one behind is released.

use std::ops::Range;
use std::sync::Mutex;

use rayon::prelude::*;

use super::block_rows::{Scratch, Work};
use super::row_step::{Fixed, Measure, Own, RowStep};
use super::sums::{Fold, GROUP, RowSums, Summed};
use super::{Tick, bands};
use crate::error::{Error, Result};
use crate::matrix::{Block, Factors, Ratings, Row, RowScratch, Side};

/// Ratings of a long row that are summed on their own: it fixes the order of sums.
pub const PART: usize = 1 << 14;

/// Ratings that a task of short rows takes: a matter of balance only.
const TASK: usize = 1 << 14;

/// Rows whose values are computed before they are folded.
const SUMMED: usize = 1 << 14;

/// Bytes that their sums take on the way.
pub const SUMMED_BYTES: u64 = (2 * SUMMED * size_of::<RowSums>()) as u64;

/// Moves every row of `side` once. Either side may be spilled, if the method can gather a row's sums band by band.
///
/// # Errors
/// If ratings or factors cannot be read or written, or a row cannot be solved.
#[allow(clippy::too_many_arguments)] // One call site for each solver; a struct would only rename the list.
pub fn half_epoch<S: RowStep>(
    ratings: &dyn Ratings,
    side: Side,
    backwards: bool,
    step: &S,
    moving: &mut Factors,
    fixed: &Fixed<'_>,
    measure: Measure,
    tick: Tick<'_>,
) -> Result<RowSums> {
    if let Some(room) = fixed.factors.room() {
        return bands::half_epoch(
            ratings, side, backwards, step, moving, fixed, room, measure, tick,
        );
    }
    let shared = step.shared(fixed);
    let stride = moving.stride();
    let scratch = Pool::new(|| Scratch::new(step.sums()));
    let long_rows = Pool::new(RowScratch::default as fn() -> RowScratch);
    let mut fold = Fold::default();
    let mut band = moving.empty_band();
    let ahead = !moving.is_spilled();
    scan(ratings, side, backwards, ahead, |block| {
        let work = Work {
            block,
            step,
            shared: &shared,
            fixed,
            measure,
            stride,
            scratch: &scratch,
            long_rows: &long_rows,
            tick,
        };
        let first = block.first_row();
        for rows in moving.bands(first..first + block.rows()) {
            let in_block = rows.start - first..rows.end - first;
            let sums = moving.edit(rows.clone(), &mut band, |factors, biases| {
                let moved = work.move_rows(in_block, factors, biases);
                moved.map_err(|(row, e)| name_row(e, ratings, side, row))
            })?;
            fold.add(rows.start, &sums);
        }
        Ok(())
    })?;
    Ok(fold.finish())
}

/// Computes one value for each row of a side in parallel, and folds them in the fixed order. `value` is given the row's
/// number, its ratings and room for predictions.
///
/// # Errors
/// If ratings cannot be read.
pub fn sum_rows<T: Summed>(
    ratings: &dyn Ratings,
    side: Side,
    value: impl Fn(usize, Row<'_>, &mut Vec<f32>) -> T + Sync,
) -> Result<T> {
    sum(ratings, side, |block, i, scratch| {
        let row = block.row(i, &mut scratch.row);
        value(block.first_row() + i, row, &mut scratch.predictions)
    })
}

/// As [`sum_rows`], where the row's number of ratings is enough: they are not decoded.
///
/// # Errors
/// If ratings cannot be read.
pub fn sum_lengths<T: Summed>(
    ratings: &dyn Ratings,
    side: Side,
    value: impl Fn(usize, usize) -> T + Sync,
) -> Result<T> {
    sum(ratings, side, |block, i, _| {
        value(block.first_row() + i, block.row_len(i))
    })
}

/// As [`sum_rows`], of each row's own factors, which may be spilled, and its ratings.
///
/// # Errors
/// If ratings or factors cannot be read.
pub fn sum_own_rows<T: Summed>(
    ratings: &dyn Ratings,
    side: Side,
    own: &Factors,
    value: impl Fn(Own<'_>, Row<'_>, &mut Vec<f32>) -> T + Sync,
) -> Result<T> {
    sum_own(ratings, side, own, |own, block, i, scratch| {
        let row = block.row(i, &mut scratch.row);
        value(own, row, &mut scratch.predictions)
    })
}

/// As [`sum_lengths`], of each row's own factors, which may be spilled, and its number of ratings.
///
/// # Errors
/// If ratings or factors cannot be read.
pub fn sum_own_lengths<T: Summed>(
    ratings: &dyn Ratings,
    side: Side,
    own: &Factors,
    value: impl Fn(Own<'_>, usize) -> T + Sync,
) -> Result<T> {
    sum_own(ratings, side, own, |own, block, i, _| {
        value(own, block.row_len(i))
    })
}

/// Folds one value for each row, of its block and its place there.
fn sum<T: Summed>(
    ratings: &dyn Ratings,
    side: Side,
    value: impl Fn(&Block<'_>, usize, &mut MeasureScratch) -> T + Sync,
) -> Result<T> {
    let scratch = Pool::new(MeasureScratch::default);
    let mut fold = Fold::default();
    scan(ratings, side, false, true, |block| {
        for start in (0..block.rows()).step_by(SUMMED) {
            let rows = start..block.rows().min(start + SUMMED);
            sum_block(block, rows, &scratch, &mut fold, |i, scratch| {
                value(block, i, scratch)
            });
        }
        Ok(())
    })?;
    Ok(fold.finish())
}

/// Folds one value for each row, of its own factors, its block and its place there.
fn sum_own<T: Summed>(
    ratings: &dyn Ratings,
    side: Side,
    own: &Factors,
    value: impl Fn(Own<'_>, &Block<'_>, usize, &mut MeasureScratch) -> T + Sync,
) -> Result<T> {
    let scratch = Pool::new(MeasureScratch::default);
    let mut fold = Fold::default();
    let mut band = own.empty_band();
    let ahead = !own.is_spilled();
    scan(ratings, side, false, ahead, |block| {
        let first = block.first_row();
        for rows in own.bands(first..first + block.rows()) {
            let (factors, start) = own.load(rows.clone(), &mut band)?;
            let in_block = rows.start - first..rows.end - first;
            sum_block(block, in_block, &scratch, &mut fold, |i, scratch| {
                value(Own::of(factors, first + i - start), block, i, scratch)
            });
        }
        Ok(())
    })?;
    Ok(fold.finish())
}

/// As [`sum_rows`], with a row of factors for each row: `gather` brings together those of so many rows at a time, as many
/// as `at_once`.
///
/// # Errors
/// If ratings cannot be read, or rows be gathered.
pub fn sum_gathered_rows<T: Summed>(
    ratings: &dyn Ratings,
    side: Side,
    at_once: usize,
    gather: impl Fn(Range<usize>) -> Result<Factors>,
    value: impl Fn(usize, Own<'_>, Row<'_>) -> T + Sync,
) -> Result<T> {
    let scratch = Pool::new(MeasureScratch::default);
    let mut fold = Fold::default();
    scan(ratings, side, false, true, |block| {
        for start in (0..block.rows()).step_by(at_once) {
            let rows = start..block.rows().min(start + at_once);
            let first = block.first_row() + start;
            let gathered = gather(first..first + rows.len())?;
            sum_block(block, rows, &scratch, &mut fold, |i, scratch| {
                let own = Own::of(&gathered, i - start);
                value(block.first_row() + i, own, block.row(i, &mut scratch.row))
            });
        }
        Ok(())
    })?;
    Ok(fold.finish())
}

/// Folds one value for each of these rows of a block.
fn sum_block<T: Summed>(
    block: &Block<'_>,
    rows: Range<usize>,
    scratch: &Pool<MeasureScratch, impl Fn() -> MeasureScratch + Sync>,
    fold: &mut Fold<T>,
    value: impl Fn(usize, &mut MeasureScratch) -> T + Sync,
) {
    let of_task = |range: Range<usize>| -> Vec<T> {
        scratch.with(|scratch| range.map(|i| value(i, scratch)).collect())
    };
    let first = block.first_row() + rows.start;
    let tasks = tasks(block, rows).into_par_iter().with_max_len(1);
    let values: Vec<Vec<T>> = tasks.map(of_task).collect();
    fold.add(first, &values.concat());
}

/// Computes one value for each of so many rows in parallel, by number alone, and folds them in the same fixed order.
pub fn sum_over<T: Summed>(rows: usize, value: impl Fn(usize) -> T + Sync) -> T {
    let rows = (0..rows).into_par_iter().with_min_len(GROUP);
    let values: Vec<T> = rows.map(&value).collect();
    let mut fold = Fold::default();
    fold.add(0, &values);
    fold.finish()
}

/// Visits the blocks of one side in order or backwards, asking for the next while one is worked on if `ahead`: that is, if
/// there is room for two.
pub(super) fn scan(
    ratings: &dyn Ratings,
    side: Side,
    backwards: bool,
    ahead: bool,
    mut visit: impl FnMut(&Block<'_>) -> Result<()>,
) -> Result<()> {
    let count = ratings.blocks(side);
    let at = |i: usize| if backwards { count - 1 - i } else { i };
    for i in 0..count {
        if ahead && i + 1 < count {
            ratings.will_need(side, at(i + 1));
        }
        visit(&ratings.block(side, at(i))?)?;
        ratings.done_with(side, at(i));
    }
    Ok(())
}

/// Cuts rows of a block into tasks of about [`TASK`] ratings; a row longer than [`PART`] is a task of its own.
pub(super) fn tasks(block: &Block<'_>, rows: Range<usize>) -> Vec<Range<usize>> {
    let mut tasks = Vec::new();
    let (mut start, mut held) = (rows.start, 0);
    for i in rows.clone() {
        let len = block.row_len(i);
        let long = len > PART;
        if start < i && (long || held + len > TASK || i - start == GROUP) {
            tasks.push(start..i);
            (start, held) = (i, 0);
        }
        held += len;
        if long {
            tasks.push(i..i + 1);
            (start, held) = (i + 1, 0);
        }
    }
    if start < rows.end {
        tasks.push(start..rows.end);
    }
    tasks
}

pub(super) fn name_row(error: Error, ratings: &dyn Ratings, side: Side, row: usize) -> Error {
    let name = format!("{} {}: {error}", side.noun(), ratings.id(side, row));
    Error::new(error.kind(), name)
}

/// Room to decode a row, and for its predictions.
#[derive(Default)]
pub(super) struct MeasureScratch {
    pub row: RowScratch,
    pub predictions: Vec<f32>,
}

/// Scratch that tasks take and give back: as many as ever ran at once.
pub(super) struct Pool<T, F> {
    idle: Mutex<Vec<T>>,
    make: F,
}

impl<T: Send, F: Fn() -> T + Sync> Pool<T, F> {
    pub fn new(make: F) -> Pool<T, F> {
        Pool {
            idle: Mutex::new(Vec::new()),
            make,
        }
    }

    pub fn take(&self) -> T {
        let idle = self.idle.lock().expect("no holder panics").pop();
        idle.unwrap_or_else(&self.make)
    }

    pub fn give(&self, scratch: T) {
        self.idle.lock().expect("no holder panics").push(scratch);
    }

    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        let mut scratch = self.take();
        let result = work(&mut scratch);
        self.give(scratch);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_all_rows_once_in_order_with_long_rows_alone() {
        let lengths = [5, 0, PART + 1, 3, PART, PART, 0, 2 * PART + 5, 1];
        let mut offsets = vec![0_u64];
        for len in lengths {
            offsets.push(offsets.last().unwrap() + len as u64);
        }
        let total = *offsets.last().unwrap() as usize;
        let (cols, values) = (vec![0; total], vec![0.0; total]);
        let block = Block::plain(0, 1, &offsets, &cols, &values).unwrap();
        let tasks = tasks(&block, 0..block.rows());
        let rows: Vec<usize> = tasks.iter().cloned().flatten().collect();
        assert_eq!(rows, (0..lengths.len()).collect::<Vec<_>>());
        for task in tasks {
            if task.clone().any(|i| lengths[i] > PART) {
                assert_eq!(task.len(), 1);
            }
        }
    }
}
