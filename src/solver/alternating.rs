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

use super::Tick;
use super::contributions::RowProblem;
use super::sums::{Fold, GROUP, RowSums, Summed};
use crate::error::{Error, Result};
use crate::kernel::{self, Isa};
use crate::matrix::{Block, Factors, Ratings, Row, RowScratch, Side};

/// Ratings of a long row that are summed on their own: it fixes the order of sums.
pub const PART: usize = 1 << 14;

/// Ratings that a task of short rows takes: a matter of balance only.
const TASK: usize = 1 << 14;

/// The side that does not move, or the band of it that is in memory.
#[derive(Debug, Clone, Copy)]
pub struct Fixed<'a> {
    /// Its factors and biases.
    pub factors: &'a Factors,
    /// What predictions start from.
    pub mean: f32,
    /// The unit of biases and products.
    pub std: f32,
    /// The instruction set that kernels run on.
    pub isa: Isa,
}

impl<'a> Fixed<'a> {
    /// These factors as the fixed side.
    pub fn new(factors: &'a Factors, mean: f32, std: f32) -> Fixed<'a> {
        Fixed {
            factors,
            mean,
            std,
            isa: Isa::best(),
        }
    }

    /// A rating as what the product and the biases should give.
    pub fn target(&self, rating: f32) -> f32 {
        (rating - self.mean) / self.std
    }

    /// Writes `<own, q> + b_q + own bias` for every rating of the segment.
    pub fn predict(&self, own: Own<'_>, segment: Row<'_>, out: &mut [f32]) {
        let other = self.factors;
        kernel::dot_rows(self.isa, own.factors, other.flat(), segment.cols, out);
        if other.has_biases() {
            let biases = other.biases();
            for (x, &col) in out.iter_mut().zip(segment.cols) {
                *x += biases[col as usize] + own.bias;
            }
        }
    }
}

/// The moving row as it stands.
#[derive(Debug, Clone, Copy)]
pub struct Own<'a> {
    /// Its factors, padded.
    pub factors: &'a [f32],
    /// Its bias, zero if the model has none.
    pub bias: f32,
}

impl<'a> Own<'a> {
    /// A row of factors.
    pub fn of(factors: &'a Factors, row: usize) -> Own<'a> {
        Own {
            factors: factors.padded_row(row),
            bias: factors.bias(row),
        }
    }
}

/// The moving row, to be written.
#[derive(Debug)]
pub struct OwnMut<'a> {
    /// Its factors, padded; the padding must stay zero.
    pub factors: &'a mut [f32],
    /// Its bias, if the model has biases.
    pub bias: Option<&'a mut f32>,
}

impl OwnMut<'_> {
    /// The row as it stands.
    pub fn as_ref(&self) -> Own<'_> {
        Own {
            factors: self.factors,
            bias: self.bias.as_deref().copied().unwrap_or(0.0),
        }
    }

    /// Makes the row predict what the other side does: the answer where nothing is known of it.
    pub fn clear(self) {
        self.factors.fill(0.0);
        if let Some(bias) = self.bias {
            *bias = 0.0;
        }
    }
}

/// One row of the moving side, the other side fixed.
pub trait RowStep: Sync {
    /// What all rows of a half-epoch share, such as the Gram matrix of the fixed side.
    type Shared: Sync;
    /// What a row has gathered so far: normal equations, a gradient.
    type Sums: Send;

    /// Room for the sums of one row: allocated once for each thread.
    fn sums(&self) -> Self::Sums;

    /// Computes what all rows share.
    fn shared(&self, fixed: &Fixed<'_>) -> Self::Shared;

    /// Empties the sums.
    fn begin(&self, sums: &mut Self::Sums);

    /// Adds a part of the row's ratings, in order.
    fn accumulate(&self, own: Own<'_>, segment: Row<'_>, fixed: &Fixed<'_>, sums: &mut Self::Sums);

    /// Adds the sums of the next part of the same row.
    fn merge(&self, next: &Self::Sums, sums: &mut Self::Sums);

    /// Writes the row from what was gathered over its `ratings`.
    fn finish(
        &self,
        own: OwnMut<'_>,
        ratings: usize,
        fixed: &Fixed<'_>,
        shared: &Self::Shared,
        sums: &mut Self::Sums,
    ) -> Result<()>;

    /// What the driver measures on the way.
    fn cost(&self) -> &impl Cost;
}

/// The cost of what a model predicts, as the driver measures it.
pub trait Cost: Sync {
    /// The loss of one prediction, both in units of the model.
    fn loss(&self, prediction: f32, target: f32) -> f64;

    /// What the length of a row costs.
    fn penalty(&self, own: Own<'_>, ratings: usize) -> f64;

    /// The problem that a row solves, where it is one of least squares.
    fn problem(&self, _row: Row<'_>, _fixed: &Fixed<'_>) -> Option<RowProblem> {
        None
    }
}

/// What a half-epoch measures as it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Nothing: what is written in the rows' place is not the rows.
    Nothing,
    /// The penalty of the rows that moved.
    Penalty,
    /// Also the losses, with every row as it is after it moved: right when this is the last side to move.
    All,
}

/// Moves every row of `side` once.
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
    let shared = step.shared(fixed);
    let stride = moving.stride();
    let scratch = Pool::new(|| Scratch::new(step.sums()));
    let mut fold = Fold::default();
    scan(ratings, side, backwards, |block| {
        let mut sums = vec![RowSums::default(); block.rows()];
        let (mut rows, mut biases) = moving.parts_mut();
        rows = &mut rows[block.first_row() * stride..][..block.rows() * stride];
        if !biases.is_empty() {
            biases = &mut biases[block.first_row()..][..block.rows()];
        }
        let mut long = Vec::new();
        let mut short = Vec::new();
        let mut left = sums.as_mut_slice();
        for range in tasks(block) {
            let count = range.len();
            let task = Task {
                rows: split_off(&mut rows, count * stride),
                biases: split_off(&mut biases, count),
                sums: split_off(&mut left, count),
                range,
            };
            if block.row_len(task.range.start) > PART {
                long.push(task);
            } else {
                short.push(task);
            }
        }
        let work = Work {
            block,
            step,
            shared: &shared,
            fixed,
            measure,
            stride,
            scratch: &scratch,
        };
        let move_long = |task: Task<'_>| {
            let done = block.row_len(task.range.start);
            work.long_row(task)
                .map_err(|(row, e)| name_row(e, ratings, side, row))?;
            tick(done as u64);
            Ok(())
        };
        let move_short = |task: Task<'_>| {
            let done: usize = task.range.clone().map(|i| block.row_len(i)).sum();
            work.short_rows(task)
                .map_err(|(row, e)| name_row(e, ratings, side, row))?;
            tick(done as u64);
            Ok(())
        };
        // One long row at a time; threads that its parts leave idle move short rows.
        let (of_long, of_short): (Result<()>, Result<()>) = rayon::join(
            || long.into_iter().try_for_each(move_long),
            || short.into_par_iter().try_for_each(move_short),
        );
        of_long.and(of_short)?;
        fold.add(block.first_row(), &sums);
        Ok(())
    })?;
    Ok(fold.finish())
}

/// Measures losses and the penalty of users, and the penalty of items, where the parameters stand.
pub fn measure<C: Cost>(
    ratings: &dyn Ratings,
    cost: &C,
    users: &Factors,
    items: &Fixed<'_>,
) -> Result<RowSums> {
    let mut sums = sum_rows(ratings, Side::Users, |at, row, predictions| {
        measure_row(cost, Own::of(users, at), row, items, predictions)
    })?;
    sums.add(sum_rows(ratings, Side::Items, |at, row, _| RowSums {
        penalty: cost.penalty(Own::of(items.factors, at), row.len()),
        ..RowSums::default()
    })?);
    Ok(sums)
}

/// Computes one value for each row of a side in parallel, and folds them in the fixed order. `value` is given the row's
/// number, its ratings and room for predictions.
pub fn sum_rows<T: Summed>(
    ratings: &dyn Ratings,
    side: Side,
    value: impl Fn(usize, Row<'_>, &mut Vec<f32>) -> T + Sync,
) -> Result<T> {
    let scratch = Pool::new(MeasureScratch::default);
    let mut fold = Fold::default();
    scan(ratings, side, false, |block| {
        let of_task = |range: Range<usize>| -> Vec<T> {
            scratch.with(|s| {
                range
                    .map(|i| {
                        let row = block.row(i, &mut s.row);
                        value(block.first_row() + i, row, &mut s.predictions)
                    })
                    .collect()
            })
        };
        let rows: Vec<Vec<T>> = tasks(block).into_par_iter().map(of_task).collect();
        fold.add(block.first_row(), &rows.concat());
        Ok(())
    })?;
    Ok(fold.finish())
}

/// Visits the blocks of one side in order or backwards, asking for the next while one is worked on.
fn scan(
    ratings: &dyn Ratings,
    side: Side,
    backwards: bool,
    mut visit: impl FnMut(&Block<'_>) -> Result<()>,
) -> Result<()> {
    let count = ratings.blocks(side);
    let at = |i: usize| if backwards { count - 1 - i } else { i };
    for i in 0..count {
        if i + 1 < count {
            ratings.will_need(side, at(i + 1));
        }
        visit(&ratings.block(side, at(i))?)?;
        ratings.done_with(side, at(i));
    }
    Ok(())
}

/// Cuts a block's rows into tasks of about [`TASK`] ratings; a row longer than [`PART`] is a task of its own.
fn tasks(block: &Block<'_>) -> Vec<Range<usize>> {
    let mut tasks = Vec::new();
    let (mut start, mut held) = (0, 0);
    for i in 0..block.rows() {
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
    if start < block.rows() {
        tasks.push(start..block.rows());
    }
    tasks
}

/// Takes the first `count` elements off a slice, or none from an empty one.
fn split_off<'a, T>(slice: &mut &'a mut [T], count: usize) -> &'a mut [T] {
    let whole = std::mem::take(slice);
    let (head, tail) = whole.split_at_mut(count.min(whole.len()));
    *slice = tail;
    head
}

fn name_row(error: Error, ratings: &dyn Ratings, side: Side, row: usize) -> Error {
    let name = format!("{} {}: {error}", side.noun(), ratings.id(side, row));
    Error::new(error.kind(), name)
}

/// Rows of a block that one task moves, with where it writes.
struct Task<'a> {
    range: Range<usize>,
    rows: &'a mut [f32],
    biases: &'a mut [f32],
    sums: &'a mut [RowSums],
}

/// What all tasks of a block share.
struct Work<'a, S: RowStep, F> {
    block: &'a Block<'a>,
    step: &'a S,
    shared: &'a S::Shared,
    fixed: &'a Fixed<'a>,
    measure: Measure,
    stride: usize,
    scratch: &'a Pool<Scratch<S::Sums>, F>,
}

type RowResult = Result<(), (usize, Error)>;

impl<S: RowStep, F: Fn() -> Scratch<S::Sums> + Sync> Work<'_, S, F> {
    fn short_rows(&self, task: Task<'_>) -> RowResult {
        let mut biases = task.biases.iter_mut();
        self.scratch.with(|scratch| {
            let rows = task.rows.chunks_exact_mut(self.stride);
            for ((i, factors), sums) in task.range.zip(rows).zip(task.sums) {
                let mut own = OwnMut {
                    factors,
                    bias: biases.next(),
                };
                let row = self.block.row(i, &mut scratch.measure.row);
                self.step.begin(&mut scratch.sums);
                let gathered = &mut scratch.sums;
                self.step
                    .accumulate(own.as_ref(), row, self.fixed, gathered);
                self.finish(&mut own, row.len(), gathered)
                    .map_err(|e| (self.block.first_row() + i, e))?;
                *sums = self.measured(own.as_ref(), row, &mut scratch.measure.predictions);
            }
            Ok(())
        })
    }

    /// A row longer than [`PART`]: its parts in parallel, added in order.
    fn long_row(&self, task: Task<'_>) -> RowResult {
        let i = task.range.start;
        let mut total = self.scratch.take();
        let row = self.block.row(i, &mut total.measure.row);
        let mut own = OwnMut {
            factors: task.rows,
            bias: task.biases.first_mut(),
        };
        let parts: Vec<_> = parts(row).collect();
        self.step.begin(&mut total.sums);
        // A few parts at a time, so that their sums stay small beside the factors.
        for wave in parts.chunks(2 * rayon::current_num_threads()) {
            let gathered: Vec<_> = wave
                .par_iter()
                .map(|part| {
                    let mut scratch = self.scratch.take();
                    let sums = &mut scratch.sums;
                    self.step.begin(sums);
                    self.step.accumulate(own.as_ref(), *part, self.fixed, sums);
                    scratch
                })
                .collect();
            for scratch in gathered {
                self.step.merge(&scratch.sums, &mut total.sums);
                self.scratch.give(scratch);
            }
        }
        self.finish(&mut own, row.len(), &mut total.sums)
            .map_err(|e| (self.block.first_row() + i, e))?;
        task.sums[0] = self.measured(own.as_ref(), row, &mut total.measure.predictions);
        self.scratch.give(total);
        Ok(())
    }

    fn finish(&self, own: &mut OwnMut<'_>, ratings: usize, sums: &mut S::Sums) -> Result<()> {
        let own = OwnMut {
            factors: own.factors,
            bias: own.bias.as_deref_mut(),
        };
        self.step
            .finish(own, ratings, self.fixed, self.shared, sums)
    }

    fn measured(&self, own: Own<'_>, row: Row<'_>, predictions: &mut Vec<f32>) -> RowSums {
        match self.measure {
            Measure::Nothing => RowSums::default(),
            Measure::Penalty => RowSums {
                penalty: self.step.cost().penalty(own, row.len()),
                ..RowSums::default()
            },
            Measure::All => measure_row(self.step.cost(), own, row, self.fixed, predictions),
        }
    }
}

/// The parts of a row that are summed on their own.
fn parts(row: Row<'_>) -> impl Iterator<Item = Row<'_>> {
    (0..row.len())
        .step_by(PART)
        .map(move |start| row.part(start..(start + PART).min(row.len())))
}

/// Loss, squared error and penalty of one row.
fn measure_row<C: Cost>(
    cost: &C,
    own: Own<'_>,
    row: Row<'_>,
    fixed: &Fixed<'_>,
    predictions: &mut Vec<f32>,
) -> RowSums {
    let mut sums = RowSums {
        penalty: cost.penalty(own, row.len()),
        ..RowSums::default()
    };
    for part in parts(row) {
        predictions.resize(part.len(), 0.0);
        fixed.predict(own, part, predictions);
        let mut of_part = [RowSums::default(); CHAINS];
        let mut add = |predictions: &[f32], ratings: &[f32]| {
            for ((sums, &p), &rating) in of_part.iter_mut().zip(predictions).zip(ratings) {
                let target = fixed.target(rating);
                let error = f64::from(p - target);
                sums.loss += cost.loss(p, target);
                sums.squared_error += error * error;
            }
        };
        let (predictions, last_predictions) = predictions.as_chunks::<CHAINS>();
        let (ratings, last_ratings) = part.values.as_chunks::<CHAINS>();
        for (predictions, ratings) in predictions.iter().zip(ratings) {
            add(predictions, ratings);
        }
        add(last_predictions, last_ratings);
        of_part.iter().for_each(|&chain| sums.add(chain));
    }
    sums
}

/// Sums of a row's losses that are kept side by side, so that an addition need not wait for the one before it: chain c
/// adds ratings c, c + 8, c + 16, ... of a part, and the chains are added in order.
const CHAINS: usize = 8;

/// What one task needs for itself.
struct Scratch<T> {
    sums: T,
    measure: MeasureScratch,
}

impl<T> Scratch<T> {
    fn new(sums: T) -> Scratch<T> {
        Scratch {
            sums,
            measure: MeasureScratch::default(),
        }
    }
}

#[derive(Default)]
struct MeasureScratch {
    row: RowScratch,
    predictions: Vec<f32>,
}

/// Scratch that tasks take and give back: as many as ever ran at once.
struct Pool<T, F> {
    idle: Mutex<Vec<T>>,
    make: F,
}

impl<T: Send, F: Fn() -> T + Sync> Pool<T, F> {
    fn new(make: F) -> Pool<T, F> {
        Pool {
            idle: Mutex::new(Vec::new()),
            make,
        }
    }

    fn take(&self) -> T {
        let idle = self.idle.lock().expect("no holder panics").pop();
        idle.unwrap_or_else(&self.make)
    }

    fn give(&self, scratch: T) {
        self.idle.lock().expect("no holder panics").push(scratch);
    }

    fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
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
        let tasks = tasks(&block);
        let rows: Vec<usize> = tasks.iter().cloned().flatten().collect();
        assert_eq!(rows, (0..lengths.len()).collect::<Vec<_>>());
        for task in tasks {
            if task.clone().any(|i| lengths[i] > PART) {
                assert_eq!(task.len(), 1);
            }
        }
    }
}
