//! The driver of row-wise methods whose fixed side is not in memory, but passes by in bands.
//!
//! Rows of the moving side are taken in chunks, as many as there is room for their sums; for every chunk all bands of the
//! fixed side are read in order, and of each row's ratings, which are sorted, those that lie in the band are gathered.
//! What a row has gathered is carried from band to band as it stands, without gaps. So its ratings are added in the order of
//! `alternating.rs`, parts of long rows included, and the bits are the same.
//!
//! The fixed side is read once for each chunk. A row's sums are many more numbers than the row, so that losses are not
//! measured on the way: they have a pass of their own, in larger chunks.

use std::ops::Range;

use rayon::prelude::*;

use super::Tick;
use super::alternating::{MeasureScratch, PART, Pool, name_row, scan};
use super::block_rows::Scratch;
use super::losses::{self, Errors, Losses};
use super::row_step::{Cost, Fixed, Measure, Own, OwnMut, RowStep};
use super::sums::{Fold, RowSums};
use crate::error::{Error, Result};
use crate::matrix::{Block, Factors, Ratings, Room, Row, RowScratch, Side};

/// Moves every row of `side` once.
#[allow(clippy::too_many_arguments)] // As its caller, with the room.
pub fn half_epoch<S: RowStep>(
    ratings: &dyn Ratings,
    side: Side,
    backwards: bool,
    step: &S,
    moving: &mut Factors,
    fixed: &Fixed<'_>,
    room: Room,
    measure: Measure,
    tick: Tick<'_>,
) -> Result<RowSums> {
    let floats = carried(step);
    let chunking = Chunking::of_sums(4 * floats as u64, of_own(moving));
    let scratch = Pool::new(|| Scratch::new(step.sums()));
    let mut fold = Fold::default();
    let (mut own, mut band) = (moving.empty_band(), fixed.factors.empty_band());
    let mut gathered = Vec::new();
    let losses = Losses(step.cost());
    let before = match measure {
        Measure::Before => Some(sum_errors(ratings, side, moving, fixed, room, &losses)?),
        _ => None,
    };
    scan(ratings, side, backwards, false, |block| {
        let lengths = (0..block.rows()).map(|i| block.row_len(i));
        for chunk in chunking.chunks(lengths, room.sums) {
            let first = block.first_row() + chunk.start;
            let work = Work {
                block,
                chunk,
                step,
                floats,
                stride: moving.stride(),
                scratch: &scratch,
            };
            let rows = first..first + work.chunk.len();
            let sums = moving.edit(rows, &mut own, |factors, biases| {
                gathered.resize_with(work.chunk.len(), Gathered::default);
                gathered.iter_mut().for_each(Gathered::clear);
                for cols in fixed.factors.bands(0..fixed.factors.rows()) {
                    let fixed = fixed.band(cols.clone(), &mut band)?;
                    work.gather(&fixed, &cols, factors, biases, &mut gathered);
                }
                let fixed = Fixed {
                    factors: &band,
                    ..*fixed
                };
                let moved = work.finish(&fixed, factors, biases, &mut gathered);
                moved.map_err(|(row, e)| name_row(e, ratings, side, row))
            })?;
            fold.add(first, &sums);
            tick(gathered.iter().map(|row| row.seen as u64).sum());
        }
        Ok(())
    })?;
    match measure {
        Measure::Nothing => Ok(RowSums::default()),
        Measure::Penalty => Ok(fold.finish()),
        Measure::Before => Ok(before.unwrap_or_default()),
        Measure::All => sum_errors(ratings, side, moving, fixed, room, &losses),
    }
}

/// Sums errors over all rows of a side.
pub fn sum_errors<E: Errors>(
    ratings: &dyn Ratings,
    side: Side,
    own: &Factors,
    fixed: &Fixed<'_>,
    room: Room,
    errors: &E,
) -> Result<RowSums> {
    let chunking = Chunking::of_errors(size_of::<E::Sums>(), of_own(own));
    let scratch = Pool::new(|| (MeasureScratch::default(), Vec::new()));
    let mut fold = Fold::default();
    let (mut own_band, mut band) = (own.empty_band(), fixed.factors.empty_band());
    scan(ratings, side, false, false, |block| {
        let lengths = (0..block.rows()).map(|i| block.row_len(i));
        for chunk in chunking.chunks(lengths, room.sums) {
            let first = block.first_row() + chunk.start;
            let rows = first..first + chunk.len();
            let (factors, start) = own.load(rows, &mut own_band)?;
            let own_of = |i: usize| Own::of(factors, first + i - start);
            let mut sums: Vec<(usize, E::Sums)> = Vec::new();
            sums.resize_with(chunk.len(), Default::default);
            for cols in fixed.factors.bands(0..fixed.factors.rows()) {
                let fixed = fixed.band(cols.clone(), &mut band)?;
                let rows = sums.par_iter_mut().enumerate();
                rows.for_each(|(i, (seen, sums))| {
                    scratch.with(|(scratch, in_band)| {
                        let MeasureScratch { row, predictions } = scratch;
                        let Some((row, range)) =
                            segment(block, chunk.start + i, *seen, &cols, row, in_band)
                        else {
                            return;
                        };
                        *seen = range.end;
                        losses::add(errors, own_of(i), row, &fixed, predictions, sums);
                    });
                });
            }
            let finish = |(i, (seen, sums))| errors.finish(own_of(i), seen, sums);
            let of_rows: Vec<RowSums> = sums.into_iter().enumerate().map(finish).collect();
            fold.add(first, &of_rows);
        }
        Ok(())
    })?;
    Ok(fold.finish())
}

/// Floats that a row of this method carries from band to band.
///
/// # Panics
/// If it needs the fixed side as a whole: whoever spills factors asks before.
fn carried<S: RowStep>(step: &S) -> usize {
    step.carried()
        .expect("a method whose rows gather band by band")
}

/// How rows are cut into chunks, by what is held for each of them.
#[derive(Debug, Clone, Copy)]
pub struct Chunking {
    row: u64,
    /// What a row longer than [`PART`] takes besides.
    long: u64,
}

impl Chunking {
    /// Rows that carry so many bytes from band to band, and `own` bytes of their own.
    pub fn of_sums(carried: u64, own: u64) -> Chunking {
        Chunking {
            row: carried + (size_of::<Gathered>() + size_of::<RowSums>()) as u64 + own,
            long: carried,
        }
    }

    /// Rows whose errors are summed in so many bytes, and `own` bytes of their own.
    pub fn of_errors(bytes: usize, own: u64) -> Chunking {
        Chunking {
            row: (bytes + size_of::<usize>() + size_of::<RowSums>()) as u64 + own,
            long: 0,
        }
    }

    /// Cuts consecutive rows of these lengths into chunks of so many bytes, or of one row.
    pub fn chunks(self, lengths: impl Iterator<Item = usize>, room: u64) -> Vec<Range<usize>> {
        let mut chunks = Vec::new();
        let (mut start, mut end, mut held) = (0, 0, 0);
        for length in lengths {
            let bytes = self.row + if length > PART { self.long } else { 0 };
            if start < end && held + bytes > room {
                chunks.push(start..end);
                (start, held) = (end, 0);
            }
            held += bytes;
            end += 1;
        }
        if start < end {
            chunks.push(start..end);
        }
        chunks
    }
}

/// Bytes of a row of factors in memory on account of a chunk.
fn of_own(own: &Factors) -> u64 {
    match own.is_spilled() {
        true => Factors::bytes(1, own.rank(), own.has_biases()),
        false => 0,
    }
}

/// The ratings of row `i` of a block that lie in a band of columns, numbered from its start, and where in the row they are.
/// Those before number `seen` lie before the band. Nothing, if there are none.
fn segment<'s>(
    block: &'s Block<'_>,
    i: usize,
    seen: usize,
    band: &Range<usize>,
    scratch: &'s mut RowScratch,
    in_band: &'s mut Vec<u32>,
) -> Option<(Row<'s>, Range<usize>)> {
    if seen == block.row_len(i) {
        return None;
    }
    let row = block.row(i, scratch);
    let end = seen + row.cols[seen..].partition_point(|&col| (col as usize) < band.end);
    if end == seen {
        return None;
    }
    let first = band.start as u32;
    in_band.clear();
    in_band.extend(row.cols[seen..end].iter().map(|col| col - first));
    let values = &row.values[seen..end];
    Some((
        Row {
            cols: in_band,
            values,
        },
        seen..end,
    ))
}

/// What a row has gathered from the bands so far.
#[derive(Debug, Default)]
struct Gathered {
    /// Of the part that it is in.
    part: Vec<f32>,
    /// Of the parts before, if it is longer than one.
    total: Vec<f32>,
    /// How many of its ratings.
    seen: usize,
}

impl Gathered {
    /// Nothing yet; room for a part is kept.
    fn clear(&mut self) {
        (self.total, self.seen) = (Vec::new(), 0);
    }
}

/// A chunk of rows, and what gathering their sums takes.
struct Work<'a, S: RowStep, F> {
    block: &'a Block<'a>,
    /// The rows, numbered within the block.
    chunk: Range<usize>,
    step: &'a S,
    /// Numbers that a row carries.
    floats: usize,
    stride: usize,
    scratch: &'a Pool<Scratch<S::Sums>, F>,
}

impl<S: RowStep, F: Fn() -> Scratch<S::Sums> + Sync> Work<'_, S, F> {
    /// Gathers what the rows have in a band of columns. `factors` and `biases` are those of the chunk.
    fn gather(
        &self,
        fixed: &Fixed<'_>,
        band: &Range<usize>,
        factors: &[f32],
        biases: &[f32],
        gathered: &mut [Gathered],
    ) {
        let rows = gathered.par_iter_mut().enumerate();
        rows.for_each_init(Vec::new, |in_band, (i, row)| {
            let own = Own {
                factors: &factors[i * self.stride..][..self.stride],
                bias: biases.get(i).copied().unwrap_or(0.0),
            };
            self.scratch.with(|scratch| {
                let Scratch { sums, measure, .. } = scratch;
                let at = self.chunk.start + i;
                let Some((segment, range)) =
                    segment(self.block, at, row.seen, band, &mut measure.row, in_band)
                else {
                    return;
                };
                self.take_up(row, sums);
                while row.seen < range.end {
                    let mut end = range.end;
                    if self.is_long(i) {
                        end = end.min((row.seen / PART + 1) * PART);
                        if row.seen > 0 && row.seen.is_multiple_of(PART) {
                            self.end_part(sums, &mut row.total);
                            self.step.begin(sums);
                        }
                    }
                    let piece = segment.part(row.seen - range.start..end - range.start);
                    self.step.accumulate(own, piece, fixed, sums);
                    row.seen = end;
                }
                row.part.resize(self.floats, 0.0);
                self.step.set_aside(sums, &mut row.part);
            });
        });
    }

    /// Writes the rows, whose sums are complete, and gives their penalties.
    fn finish(
        &self,
        fixed: &Fixed<'_>,
        factors: &mut [f32],
        biases: &mut [f32],
        gathered: &mut [Gathered],
    ) -> Result<Vec<RowSums>, (usize, Error)> {
        let shared = self.step.shared(fixed);
        let mut biases = biases.iter_mut();
        let own = |factors| OwnMut {
            factors,
            bias: biases.next(),
        };
        let own: Vec<OwnMut<'_>> = factors.chunks_exact_mut(self.stride).map(own).collect();
        let rows = gathered.par_iter_mut().zip(own).enumerate();
        rows.map(|(i, (row, mut own))| {
            let finished = self.scratch.with(|Scratch { sums, .. }| {
                self.take_up(row, sums);
                if self.is_long(i) {
                    self.end_part(sums, &mut row.total);
                    self.step.take_up(&row.total, sums);
                }
                self.step
                    .finish(own.reborrow(), row.seen, fixed, &shared, sums)
            });
            finished.map_err(|e| (self.block.first_row() + self.chunk.start + i, e))?;
            Ok(RowSums {
                penalty: self.step.cost().penalty(own.as_ref(), row.seen),
                ..RowSums::default()
            })
        })
        .collect()
    }

    /// Whether row `i` of the chunk is summed in parts.
    fn is_long(&self, i: usize) -> bool {
        self.block.row_len(self.chunk.start + i) > PART
    }

    /// Goes on from what a row has gathered of the part that it is in.
    fn take_up(&self, row: &Gathered, sums: &mut S::Sums) {
        match row.seen {
            0 => self.step.begin(sums),
            _ => self.step.take_up(&row.part, sums),
        }
    }

    /// Adds the sums of a part to those of the parts before it.
    fn end_part(&self, part: &S::Sums, total: &mut Vec<f32>) {
        let mut scratch = self.scratch.take();
        match total.is_empty() {
            true => self.step.begin(&mut scratch.sums),
            false => self.step.take_up(total, &mut scratch.sums),
        }
        self.step.merge(part, &mut scratch.sums);
        total.resize(self.floats, 0.0);
        self.step.set_aside(&scratch.sums, total);
        self.scratch.give(scratch);
    }
}
