//! Moving the rows of one block, in parallel, while the other side is fixed.
//!
//! Short rows are tasks of many. Long ones are cut into parts, whose sums are gathered in parallel and added in order; of a method
//! that looks at rows as wholes it is a task by itself. Where the method can, rows wait until there are as many as are faster to move together; it is the same to the bit.

use std::ops::Range;

use rayon::prelude::*;

use super::Tick;
use super::alternating::{MeasureScratch, PART, Pool, tasks};
use super::losses::{self, Losses};
use super::row_step::{Cost, Fixed, Measure, Own, OwnMut, RowStep};
use super::sums::RowSums;
use crate::error::{Error, Result};
use crate::kernel::LANES;
use crate::matrix::{Block, Row, RowScratch};

/// Sums of rows and of parts that are there at a time, for each thread: two parts of long rows, one long row's own, and one
/// short row's.
pub const SUMS_AT_ONCE: usize = 4;

/// Rows of a block that one task moves, with where it writes.
struct Task<'a> {
    range: Range<usize>,
    rows: &'a mut [f32],
    biases: &'a mut [f32],
    sums: &'a mut [RowSums],
}

impl Task<'_> {
    /// The rows of these numbers of the block, which ascend.
    fn own(
        &mut self,
        numbers: impl Iterator<Item = usize>,
        stride: usize,
    ) -> impl Iterator<Item = OwnMut<'_>> {
        let mut rows = self.rows.chunks_exact_mut(stride);
        let mut biases = self.biases.iter_mut();
        let mut next = self.range.start;
        numbers.map(move |i| {
            let skipped = i - std::mem::replace(&mut next, i + 1);
            OwnMut {
                factors: rows.nth(skipped).expect("a row of the task"),
                bias: biases.nth(skipped),
            }
        })
    }

    fn own_of(&mut self, i: usize, stride: usize) -> OwnMut<'_> {
        let mut only = self.own(std::iter::once(i), stride);
        only.next().expect("one row")
    }

    fn measured(&mut self, i: usize, sums: RowSums) {
        self.sums[i - self.range.start] = sums;
    }
}

/// What all tasks of a block share.
pub(super) struct Work<'a, S: RowStep, F> {
    pub block: &'a Block<'a>,
    pub step: &'a S,
    pub shared: &'a S::Shared,
    pub fixed: &'a Fixed<'a>,
    pub measure: Measure,
    pub stride: usize,
    pub scratch: &'a Pool<Scratch<S::Sums>, F>,
    /// Room for long rows: apart, so that no more of it grows to their length than there are threads.
    pub long_rows: &'a Pool<RowScratch, fn() -> RowScratch>,
    pub tick: Tick<'a>,
}

/// What fails, with the number of its row.
type RowResult<T = ()> = Result<T, (usize, Error)>;

impl<S: RowStep, F: Fn() -> Scratch<S::Sums> + Sync> Work<'_, S, F> {
    /// Moves these rows of the block, of which `factors` and `biases` hold no others.
    pub fn move_rows(
        &self,
        range: Range<usize>,
        mut factors: &mut [f32],
        mut biases: &mut [f32],
    ) -> RowResult<Vec<RowSums>> {
        let mut sums = vec![RowSums::default(); range.len()];
        let mut long = Vec::new();
        let mut short = Vec::new();
        let mut left = sums.as_mut_slice();
        for range in tasks(self.block, range) {
            let count = range.len();
            let task = Task {
                rows: split_off(&mut factors, count * self.stride),
                biases: split_off(&mut biases, count),
                sums: split_off(&mut left, count),
                range,
            };
            if self.block.row_len(task.range.start) > PART && !self.step.needs_whole_rows() {
                long.push(task);
            } else {
                short.push(task);
            }
        }
        // Threads that long rows leave idle move short ones.
        let (of_long, of_short) = rayon::join(
            || self.long_rows(long),
            || {
                short
                    .into_par_iter()
                    .with_max_len(1)
                    .try_for_each(|task| self.short_rows(task))
            },
        );
        of_long.and(of_short)?;
        Ok(sums)
    }

    fn short_rows(&self, mut task: Task<'_>) -> RowResult {
        let mut scratch = self.scratch.take();
        let mut done = 0;
        for i in task.range.clone() {
            done += self.short_row(i, &mut task, &mut scratch)?;
        }
        self.finish_waiting(&mut task, &mut scratch)?;
        self.scratch.give(scratch);
        (self.tick)(done as u64);
        Ok(())
    }

    /// Gathers the sums of a row, and moves it, or lets it wait until there are as many as are moved together. Returns how
    /// many ratings it has.
    fn short_row(
        &self,
        i: usize,
        task: &mut Task<'_>,
        scratch: &mut Scratch<S::Sums>,
    ) -> RowResult<usize> {
        let Scratch {
            sums,
            measure,
            waiting,
        } = scratch;
        let mut own = task.own_of(i, self.stride);
        let row = self.block.row(i, &mut measure.row);
        self.step.begin(sums);
        self.step.accumulate(own.as_ref(), row, self.fixed, sums);
        let ratings = row.len();
        let before = self.before(own.as_ref(), row, sums, &mut measure.predictions);
        if let Some(together) = self.step.together(ratings) {
            let row = Waiting {
                row: i,
                ratings,
                before,
            };
            waiting.push(row, self.step, sums, together);
            if waiting.is_full() {
                self.finish_waiting(task, scratch)?;
            }
            return Ok(ratings);
        }
        self.finish(&mut own, ratings, sums)
            .map_err(|e| self.at(i, e))?;
        let after = || self.after(own.as_ref(), ratings, || row, &mut measure.predictions);
        let sums = before.unwrap_or_else(after);
        task.measured(i, sums);
        Ok(ratings)
    }

    /// Moves the rows that wait: together if they are as many as that, or else one after another.
    fn finish_waiting(&self, task: &mut Task<'_>, scratch: &mut Scratch<S::Sums>) -> RowResult {
        let Scratch {
            sums,
            measure: MeasureScratch { row, predictions },
            waiting,
        } = scratch;
        if waiting.is_full() {
            let own = task.own(waiting.rows.iter().map(|waiting| waiting.row), self.stride);
            let ratings = waiting.rows.iter().map(|waiting| waiting.ratings);
            let mut rows: Vec<_> = own.zip(ratings).collect();
            self.step
                .finish_together(&mut rows, &mut waiting.aside, self.fixed, sums)
                .map_err(|(failed, e)| self.at(waiting.rows[failed].row, e))?;
        } else {
            for (at, waits) in waiting.rows.iter().enumerate() {
                self.step
                    .take_up(&waiting.aside[at * waiting.floats..], sums);
                let mut own = task.own_of(waits.row, self.stride);
                self.finish(&mut own, waits.ratings, sums)
                    .map_err(|e| self.at(waits.row, e))?;
            }
        }
        for Waiting {
            row: i,
            ratings,
            before,
        } in waiting.rows.drain(..)
        {
            let own = task.own_of(i, self.stride);
            let sums = match before {
                Some(sums) => sums,
                None => self.after(
                    own.as_ref(),
                    ratings,
                    || self.block.row(i, row),
                    predictions,
                ),
            };
            task.measured(i, sums);
        }
        Ok(())
    }

    /// What failed at row `i` of the block, with the row's number.
    fn at(&self, i: usize, error: Error) -> (usize, Error) {
        (self.block.first_row() + i, error)
    }

    /// Rows longer than [`PART`], as many at a time as there are threads, and twice as many of their parts, so that sums stay
    /// small beside the factors.
    fn long_rows(&self, tasks: Vec<Task<'_>>) -> RowResult {
        let threads = rayon::current_num_threads();
        let mut tasks = tasks.into_iter();
        loop {
            let some: Vec<_> = tasks.by_ref().take(threads).collect();
            if some.is_empty() {
                return Ok(());
            }
            let of_each = 2 * threads / some.len();
            some.into_par_iter()
                .with_max_len(1)
                .try_for_each(|task| self.long_row(task, of_each))?;
        }
    }

    /// A row longer than [`PART`]: its parts in parallel, so many at a time, added in order.
    fn long_row(&self, task: Task<'_>, at_once: usize) -> RowResult {
        let i = task.range.start;
        let (mut total, mut decoded) = (self.scratch.take(), self.long_rows.take());
        let row = self.block.row(i, &mut decoded);
        let mut own = OwnMut {
            factors: task.rows,
            bias: task.biases.first_mut(),
        };
        let parts: Vec<_> = parts(row).collect();
        self.step.begin(&mut total.sums);
        for wave in parts.chunks(at_once) {
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
        let predictions = &mut total.measure.predictions;
        let before = self.before(own.as_ref(), row, &total.sums, predictions);
        self.finish(&mut own, row.len(), &mut total.sums)
            .map_err(|e| self.at(i, e))?;
        task.sums[0] =
            before.unwrap_or_else(|| self.after(own.as_ref(), row.len(), || row, predictions));
        (self.tick)(row.len() as u64);
        self.scratch.give(total);
        self.long_rows.give(decoded);
        Ok(())
    }

    fn finish(&self, own: &mut OwnMut<'_>, ratings: usize, sums: &mut S::Sums) -> Result<()> {
        self.step
            .finish(own.reborrow(), ratings, self.fixed, self.shared, sums)
    }

    /// What is measured of a row that has gathered its sums, before it moves.
    fn before(
        &self,
        own: Own<'_>,
        row: Row<'_>,
        gathered: &S::Sums,
        predictions: &mut Vec<f32>,
    ) -> Option<RowSums> {
        if self.measure != Measure::Before {
            return None;
        }
        let on_the_way = self.step.losses(own, row.len(), gathered);
        Some(on_the_way.unwrap_or_else(|| {
            let losses = Losses(self.step.cost());
            losses::of_row(&losses, own, row, self.fixed, predictions)
        }))
    }

    /// What is measured of a row that has moved.
    fn after<'r>(
        &self,
        own: Own<'_>,
        ratings: usize,
        row: impl FnOnce() -> Row<'r>,
        predictions: &mut Vec<f32>,
    ) -> RowSums {
        match self.measure {
            Measure::Nothing | Measure::Before => RowSums::default(),
            Measure::Penalty => RowSums {
                penalty: self.step.cost().penalty(own, ratings),
                ..RowSums::default()
            },
            Measure::All => {
                let losses = Losses(self.step.cost());
                losses::of_row(&losses, own, row(), self.fixed, predictions)
            }
        }
    }
}

/// Takes the first `count` elements off a slice, or none from an empty one.
fn split_off<'a, T>(slice: &mut &'a mut [T], count: usize) -> &'a mut [T] {
    let whole = std::mem::take(slice);
    let (head, tail) = whole.split_at_mut(count.min(whole.len()));
    *slice = tail;
    head
}

/// The parts of a row that are summed on their own.
fn parts(row: Row<'_>) -> impl Iterator<Item = Row<'_>> {
    (0..row.len())
        .step_by(PART)
        .map(move |start| row.part(start..(start + PART).min(row.len())))
}

/// What one task needs for itself.
pub(super) struct Scratch<T> {
    pub sums: T,
    pub measure: MeasureScratch,
    waiting: Queue,
}

impl<T> Scratch<T> {
    pub fn new(sums: T) -> Scratch<T> {
        Scratch {
            sums,
            measure: MeasureScratch::default(),
            waiting: Queue::default(),
        }
    }
}

/// A row that has gathered its sums.
struct Waiting {
    /// Its number in the block.
    row: usize,
    ratings: usize,
    /// What was measured before it moves.
    before: Option<RowSums>,
}

/// Rows of a task that wait until they are so many as are moved together.
#[derive(Default)]
struct Queue {
    rows: Vec<Waiting>,
    /// What each has gathered.
    aside: Vec<f32>,
    /// Floats from one to the next.
    floats: usize,
    /// How many are moved together; zero before the first waits.
    most: usize,
}

impl Queue {
    fn is_full(&self) -> bool {
        self.most > 0 && self.rows.len() == self.most
    }

    /// Lets one more row wait, of at most `most`.
    fn push<S: RowStep>(&mut self, row: Waiting, step: &S, sums: &S::Sums, most: usize) {
        if self.aside.is_empty() {
            self.floats = step.carried().expect("sums that can be set aside");
            self.aside = vec![0.0; most * self.floats + LANES];
            self.most = most;
        }
        let at = self.rows.len() * self.floats;
        step.set_aside(sums, &mut self.aside[at..]);
        self.rows.push(row);
    }
}
