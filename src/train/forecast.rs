//! What a training will read and write, told before it starts.

use serde::Serialize;

use super::placement::copies;
use super::{Placement, Trainer};
use crate::error::Result;
use crate::matrix::{Factors, Ratings, Room, Side};
use crate::solver::{self, Chunking, Extent, LOSS_BYTES, Options, Passes, Passing, Solver};
use crate::store::{Part, Shard, Store, Streamed, TilesAhead};

/// Bytes that go from the disk and to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Transfer {
    /// Ratings that do not stay in memory, tiles among them.
    pub ratings_read: u64,
    /// Factors read from their files.
    pub factors_read: u64,
    /// Factors written to them.
    pub factors_written: u64,
}

impl Transfer {
    /// Bytes of factors, either way.
    pub fn factors(&self) -> u64 {
        self.factors_read + self.factors_written
    }

    /// All bytes.
    pub fn total(&self) -> u64 {
        self.ratings_read + self.factors()
    }
}

/// What a training reads and writes, and what it takes of the disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Forecast {
    /// Passes over the training ratings in an epoch.
    pub passes: u64,
    /// What every epoch transfers.
    #[serde(flatten)]
    pub epoch: Transfer,
    /// What comes once, before the first epoch and in it, beyond what every epoch transfers.
    pub once: Transfer,
    /// Files of tiles that are made in the first epoch; about, if they are.
    pub tiles_written: u64,
    /// Files of factors, copies included.
    pub spilled: u64,
}

impl Forecast {
    /// What comes once, with the tiles that are written counted like ratings that are read.
    pub fn all_once(&self) -> Transfer {
        Transfer {
            ratings_read: self.once.ratings_read + self.tiles_written,
            ..self.once
        }
    }

    /// Whether anything goes from the disk or to it.
    pub fn streams(&self) -> bool {
        self.epoch.total() + self.all_once().total() > 0
    }

    /// Whether any ratings do.
    pub fn streams_ratings(&self) -> bool {
        self.epoch.ratings_read + self.all_once().ratings_read > 0
    }
}

/// What the forecasts of epochs have in common.
struct Sources<'a> {
    placement: &'a Placement,
    store: &'a Store,
    options: &'a Options,
}

impl Placement {
    /// Tells what an epoch will read and write, and what comes before, of a store that keeps in memory what it may.
    ///
    /// # Errors
    /// If a shard is damaged, or the options do not fit together.
    pub fn forecast(&self, store: &Store, options: &Options) -> Result<Forecast> {
        let solver = solver::method(&options.solver)?.solver(options)?;
        let sources = Sources {
            placement: self,
            store,
            options,
        };
        let (first, next) = (solver.passes(1), solver.passes(2));
        let before = store.streamed();
        let tiles = match next.tiles {
            0 => TilesAhead {
                streamed: before,
                ..TilesAhead::default()
            },
            _ => store.tiles_ahead()?,
        };
        let held_out = sources.held_out()?;
        let read = |passes: Passes, of: Streamed| {
            passes.users * of.by_user
                + passes.items * of.by_item
                + passes.tiles * of.tiles
                + held_out.ratings_read(of)
        };
        // Where the fixed side passes by in bands, losses have a pass of their own.
        let apart = u64::from(self.items.is_some());
        let of_losses = Passes::of(apart, 0);
        let moved = sources.moved(&*solver)?;
        let measured = sources.measured(Part::Train, LOSS_BYTES)?;
        let mut epoch = Transfer {
            ratings_read: read(next + of_losses, tiles.streamed) + moved.ratings_read,
            factors_read: moved.factors_read + held_out.read.factors_read,
            factors_written: moved.factors_written,
        };
        if apart > 0 {
            epoch.factors_read += measured.factors_read;
            epoch.ratings_read += measured.ratings_read;
        }
        let normalising = Passes::of(Trainer::passes_to_normalise(options, &*solver), 0);
        let drawn = moved.factors_written;
        let once = Transfer {
            ratings_read: read(normalising + solver.passes_before(), before)
                + tiles.read
                + measured.ratings_read
                + read(first, tiles.streamed)
                - read(next, tiles.streamed),
            // Drawn, measured by user, and the items' penalty, for which rows of items alone are read.
            factors_read: drawn
                + measured.factors_read
                + self.items.map_or(0, |_| sources.bytes(Side::Items))
                + held_out.read.factors_read,
            factors_written: drawn,
        };
        Ok(Forecast {
            passes: (next + of_losses).total(),
            epoch,
            once,
            tiles_written: tiles.written,
            spilled: drawn * copies(options),
        })
    }
}

/// What measuring what is held out reads, after every epoch and before the first.
struct HeldOut {
    /// Whether lists are watched: then training ratings are read once more, and validation ratings twice, first to know who
    /// has any.
    watched: bool,
    /// Factors, and what is read of ratings more than once.
    read: Transfer,
}

impl HeldOut {
    fn ratings_read(&self, of: Streamed) -> u64 {
        let lists = match self.watched {
            true => of.by_user + 2 * of.validation,
            false => 0,
        };
        of.validation + of.test + lists + self.read.ratings_read
    }
}

impl Sources<'_> {
    fn of_row(&self) -> u64 {
        Factors::bytes(1, self.options.rank, self.options.biases)
    }

    fn bytes(&self, side: Side) -> u64 {
        self.store.manifest().shape().rows(side) as u64 * self.of_row()
    }

    /// Bytes of a row that lies in a file.
    fn own(&self, side: Side) -> u64 {
        self.placement.room(side).map_or(0, |_| self.of_row())
    }

    /// A sweep: each row that lies in a file is read and written, and the fixed side read for every chunk. Of ratings, what is
    /// read more than once.
    fn moved(&self, solver: &dyn Solver) -> Result<Transfer> {
        let mut moved = Transfer::default();
        for side in [Side::Items, Side::Users] {
            let rows = self.store.manifest().shape().rows(side) as u64;
            moved.factors_read += rows * self.own(side);
            moved.factors_written += rows * self.own(side);
            let Some(room) = self.placement.room(side.other()) else {
                continue;
            };
            let carried = solver.row_sums().unwrap_or(0);
            let chunking = Chunking::of_sums(carried, self.own(side));
            let passed = self.passed(self.store, self.store.shards(side), side, chunking, room)?;
            moved.factors_read += passed.factors_read;
            moved.ratings_read += passed.ratings_read;
        }
        Ok(moved)
    }

    /// What is read to sum errors of a part, by so many bytes a row: of ratings, what is read more than once.
    fn measured(&self, part: Part, of_sums: usize) -> Result<Transfer> {
        let mut measured = Transfer::default();
        let Some(rows) = self.store.part(part).filter(|rows| rows.ratings() > 0) else {
            return Ok(measured);
        };
        let own = self.own(Side::Users);
        if let Some(room) = self.placement.items {
            let chunking = Chunking::of_errors(of_sums, own);
            measured = self.passed(&rows, rows.shards(), Side::Users, chunking, room)?;
        }
        let users = rows.shards().iter().map(|shard| shard.entry().rows);
        measured.factors_read += users.sum::<u64>() * own;
        Ok(measured)
    }

    /// What of the fixed side passes by the rows of these ratings' shards, and what of their ratings is read again for it.
    fn passed(
        &self,
        ratings: &dyn Ratings,
        shards: &[Shard],
        side: Side,
        chunking: Chunking,
        room: Room,
    ) -> Result<Transfer> {
        let rows = self.store.manifest().shape().rows(side.other());
        let passing = Passing::new(room, rows, self.options.rank, self.options.biases);
        let extents = Extent::of_blocks(ratings, side)?;
        let mut passed = Transfer::default();
        for group in chunking.groups(&extents, room.sums, passing) {
            let mut chunks = 1;
            if group.len() > 1 {
                let streamed = shards[group].iter().filter(|shard| !shard.is_kept());
                let bytes: u64 = streamed.map(|shard| shard.entry().seal.bytes).sum();
                passed.ratings_read += (passing.bands - 1) * bytes;
            } else {
                let shard = &shards[group.start];
                chunks = chunking.chunks(shard.row_lengths()?, room.sums).len() as u64;
                shard.done_with();
            }
            passed.factors_read += chunks * passing.bytes;
        }
        Ok(passed)
    }

    fn held_out(&self) -> Result<HeldOut> {
        let mut read = Transfer::default();
        for part in [Part::Validation, Part::Test] {
            let of_part = self.measured(part, size_of::<f64>())?;
            read.factors_read += of_part.factors_read;
            read.ratings_read += of_part.ratings_read;
        }
        Ok(HeldOut {
            watched: self.options.early_stop.is_some() && self.options.early_stop_metric != "rmse",
            read,
        })
    }
}
