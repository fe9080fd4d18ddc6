//! The driver of row-wise methods whose fixed side is not in memory, but passes by in bands.
//!
//! Rows of the moving side are taken in chunks (`chunks.rs`), as many as there is room for their sums; for every chunk all bands of the
//! fixed side are read in order, and of each row's ratings, which are sorted, those that lie in the band are gathered.
//! What a row has gathered is carried from band to band as it stands, without gaps. So its ratings are added in the order of
//! `alternating.rs`, parts of long rows included, and the bits are the same.
//!
//! The fixed side is read once for each chunk. A row's sums are many more numbers than the row, so that losses are not
//! measured on the way: they have a pass of their own, in larger chunks.

use std::ops::Range;

use rayon::prelude::*;

use super::Tick;
use super::alternating::{PART, Pool, name_row};
use super::chunks::{Chunking, Extent, Passing};
use super::losses::{self, Errors, Losses};
use super::row_step::{Cost, Fixed, Measure, Own, OwnMut, RowStep};
use super::sums::{Fold, RowSums};
use crate::error::{Error, Result};
use crate::matrix::{Block, Factors, Ratings, Room, Row, RowScratch, Side};

/// Sums that are there at a time, for each thread: of a part of a row, and of the parts before it.
pub const SUMS_AT_ONCE: usize = 2;

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
    let work = Work {
        step,
        floats: carried(step),
        stride: moving.stride(),
        sums: &Pool::new(|| step.sums()),
        decoded: &Pool::new(Default::default),
    };
    let chunking = Chunking::of_sums(4 * work.floats as u64, of_own(moving));
    let mut fold = Fold::default();
    let (mut own, mut band) = (moving.empty_band(), fixed.factors.empty_band());
    let mut gathered = Vec::new();
    let losses = Losses(step.cost());
    let before = match measure {
        Measure::Before => Some(sum_errors(ratings, side, moving, fixed, room, &losses)?),
        _ => None,
    };
    let passing = passing(fixed, room);
    scan_chunks(ratings, side, backwards, chunking, room, passing, |chunk| {
        let rows = chunk.rows.clone();
        let sums = moving.edit(rows.clone(), &mut own, |factors, biases| {
            gathered.resize_with(rows.len(), Gathered::default);
            gathered.iter_mut().for_each(Gathered::clear);
            let of_row = |row: usize| Own {
                factors: &factors[row * work.stride..][..work.stride],
                bias: biases.get(row).copied().unwrap_or(0.0),
            };
            for cols in fixed.factors.bands(0..fixed.factors.rows()) {
                let fixed = fixed.band(cols.clone(), &mut band)?;
                chunk.visit(|block, in_block, at| {
                    let gathered = &mut gathered[at..at + in_block.len()];
                    let own = |i| of_row(at + i);
                    work.gather(block, in_block.start, &fixed, &cols, own, gathered);
                })?;
            }
            let fixed = Fixed {
                factors: &band,
                ..*fixed
            };
            let moved = work.finish(&fixed, factors, biases, &mut gathered);
            moved.map_err(|(row, e)| name_row(e, ratings, side, rows.start + row))
        })?;
        fold.add(chunk.rows.start, &sums);
        tick(gathered.iter().map(|row| row.seen as u64).sum());
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
    let scratch: Pool<(Decoded, Vec<f32>), _> = Pool::new(Default::default);
    let mut fold = Fold::default();
    let (mut own_band, mut band) = (own.empty_band(), fixed.factors.empty_band());
    let passing = passing(fixed, room);
    scan_chunks(ratings, side, false, chunking, room, passing, |chunk| {
        let rows = chunk.rows.clone();
        let (factors, start) = own.load(rows.clone(), &mut own_band)?;
        let own_of = |i: usize| Own::of(factors, rows.start + i - start);
        let mut sums: Vec<(usize, E::Sums)> = Vec::new();
        sums.resize_with(rows.len(), Default::default);
        for cols in fixed.factors.bands(0..fixed.factors.rows()) {
            let fixed = fixed.band(cols.clone(), &mut band)?;
            chunk.visit(|block, in_block, at| {
                let rows = sums[at..at + in_block.len()].par_iter_mut().enumerate();
                rows.for_each(|(i, (seen, sums))| {
                    scratch.with(|(decoded, predictions)| {
                        let Some((row, range)) =
                            segment(block, in_block.start + i, *seen, &cols, decoded)
                        else {
                            return;
                        };
                        *seen = range.end;
                        losses::add(errors, own_of(at + i), row, &fixed, predictions, sums);
                    });
                });
            })?;
        }
        let finish = |(i, (seen, sums))| errors.finish(own_of(i), seen, sums);
        let of_rows: Vec<RowSums> = sums.into_iter().enumerate().map(finish).collect();
        fold.add(rows.start, &of_rows);
        Ok(())
    })?;
    Ok(fold.finish())
}

/// Rows that the bands of the fixed side pass by, and where their ratings are.
struct Chunk<'a> {
    ratings: &'a dyn Ratings,
    side: Side,
    rows: Range<usize>,
    of: Of<'a>,
}

/// What the rows of a chunk are.
enum Of<'a> {
    /// A part of a block that is at hand.
    Block(&'a Block<'a>),
    /// All rows of these blocks.
    Blocks(Range<usize>),
}

impl Chunk<'_> {
    /// Shows each block, with the rows in it, and how many rows of the chunk come before them.
    fn visit(&self, mut show: impl FnMut(&Block<'_>, Range<usize>, usize)) -> Result<()> {
        let blocks = match &self.of {
            Of::Block(block) => {
                let first = block.first_row();
                show(block, self.rows.start - first..self.rows.end - first, 0);
                return Ok(());
            }
            Of::Blocks(blocks) => blocks.clone(),
        };
        for index in blocks {
            let block = self.ratings.block(self.side, index)?;
            let before = block.first_row() - self.rows.start;
            show(&block, 0..block.rows(), before);
            self.ratings.done_with(self.side, index);
        }
        Ok(())
    }
}

/// Visits all rows of a side in chunks, those of the last blocks first if `backwards`.
fn scan_chunks(
    ratings: &dyn Ratings,
    side: Side,
    backwards: bool,
    chunking: Chunking,
    room: Room,
    passing: Passing,
    mut visit: impl FnMut(&Chunk<'_>) -> Result<()>,
) -> Result<()> {
    let extents = Extent::of_blocks(ratings, side)?;
    let mut groups = chunking.groups(&extents, room.sums, passing);
    if backwards {
        groups.reverse();
    }
    for group in groups {
        if group.len() > 1 {
            let rows = |blocks: &[Extent]| blocks.iter().map(|block| block.rows).sum::<usize>();
            let first = rows(&extents[..group.start]);
            visit(&Chunk {
                ratings,
                side,
                rows: first..first + rows(&extents[group.clone()]),
                of: Of::Blocks(group),
            })?;
            continue;
        }
        let block = ratings.block(side, group.start)?;
        let first = block.first_row();
        let lengths = (0..block.rows()).map(|i| block.row_len(i));
        for rows in chunking.chunks(lengths, room.sums) {
            visit(&Chunk {
                ratings,
                side,
                rows: first + rows.start..first + rows.end,
                of: Of::Block(&block),
            })?;
        }
        ratings.done_with(side, group.start);
    }
    Ok(())
}

/// The fixed side, as chunks see it.
fn passing(fixed: &Fixed<'_>, room: Room) -> Passing {
    let factors = fixed.factors;
    Passing::new(room, factors.rows(), factors.rank(), factors.has_biases())
}

/// Floats that a row of this method carries from band to band.
///
/// # Panics
/// If it needs the fixed side as a whole: whoever spills factors asks before.
fn carried<S: RowStep>(step: &S) -> usize {
    step.carried()
        .expect("a method whose rows gather band by band")
}

/// Bytes of a row of factors in memory on account of a chunk.
fn of_own(own: &Factors) -> u64 {
    match own.is_spilled() {
        true => Factors::bytes(1, own.rank(), own.has_biases()),
        false => 0,
    }
}

/// Room for a row's ratings, and for the columns of those in a band.
#[derive(Default)]
struct Decoded {
    row: RowScratch,
    in_band: Vec<u32>,
}

/// The ratings of row `i` of a block that lie in a band of columns, numbered from its start, and where in the row they are.
/// Those before number `seen` lie before the band. Nothing, if there are none.
fn segment<'s>(
    block: &'s Block<'_>,
    i: usize,
    seen: usize,
    band: &Range<usize>,
    decoded: &'s mut Decoded,
) -> Option<(Row<'s>, Range<usize>)> {
    if seen == block.row_len(i) {
        return None;
    }
    let Decoded { row, in_band } = decoded;
    let row = block.row(i, row);
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

/// Bytes of [`Gathered`] itself.
pub const GATHERED_BYTES: u64 = size_of::<Gathered>() as u64;

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

/// What gathering the sums of rows takes.
struct Work<'a, S: RowStep, F, D> {
    step: &'a S,
    /// Numbers that a row carries.
    floats: usize,
    stride: usize,
    sums: &'a Pool<S::Sums, F>,
    /// Apart, so that no more of it grows to the longest row than there are threads.
    decoded: &'a Pool<Decoded, D>,
}

impl<S: RowStep, F: Fn() -> S::Sums + Sync, D: Fn() -> Decoded + Sync> Work<'_, S, F, D> {
    /// Gathers what the rows of a block from `first` on have in a band of columns.
    fn gather<'o>(
        &self,
        block: &Block<'_>,
        first: usize,
        fixed: &Fixed<'_>,
        band: &Range<usize>,
        own: impl Fn(usize) -> Own<'o> + Sync,
        gathered: &mut [Gathered],
    ) {
        let rows = gathered.par_iter_mut().enumerate();
        rows.for_each(|(i, row)| {
            self.decoded.with(|decoded| {
                let at = first + i;
                if let Some((segment, range)) = segment(block, at, row.seen, band, decoded) {
                    let long = block.row_len(at) > PART;
                    self.gather_row(own(i), segment, range, long, fixed, row);
                }
            });
        });
    }

    /// Gathers what a row has in a band: those of its ratings whose numbers in it are `range`.
    fn gather_row(
        &self,
        own: Own<'_>,
        segment: Row<'_>,
        range: Range<usize>,
        long: bool,
        fixed: &Fixed<'_>,
        row: &mut Gathered,
    ) {
        self.sums.with(|sums| {
            self.take_up(row, sums);
            while row.seen < range.end {
                let mut end = range.end;
                if long {
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
    }

    /// Writes the rows, whose sums are complete, and gives their penalties; or the first that fails, by its number among them.
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
            let finished = self.sums.with(|sums| {
                self.take_up(row, sums);
                if row.seen > PART {
                    self.end_part(sums, &mut row.total);
                    self.step.take_up(&row.total, sums);
                }
                self.step
                    .finish(own.reborrow(), row.seen, fixed, &shared, sums)
            });
            finished.map_err(|e| (i, e))?;
            Ok(RowSums {
                penalty: self.step.cost().penalty(own.as_ref(), row.seen),
                ..RowSums::default()
            })
        })
        .collect()
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
        self.sums.with(|sums| {
            match total.is_empty() {
                true => self.step.begin(sums),
                false => self.step.take_up(total, sums),
            }
            self.step.merge(part, sums);
            total.resize(self.floats, 0.0);
            self.step.set_aside(sums, total);
        });
    }
}
