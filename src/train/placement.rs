//! Where factors lie while they are trained: in memory, or in files that the budget has bands of.

use std::path::{Path, PathBuf};

use super::Trainer;
use crate::error::Result;
use crate::matrix::{Factors, Ratings, Room, Side};
use crate::memory::{Bytes, Plan};
use crate::solver::{self, Options, SOLVERS, SUMMED_BYTES};
use crate::store::{ScratchFile, Store};

/// Rows of either side that there has to be room for at a time: with fewer, the other side would be read too often.
const LEAST_ROWS: u64 = 64;

/// Bytes that there has to be room for at least, for the same reason, where rows are short.
const LEAST_BYTES: u64 = 1 << 20;

/// Where the factors of each side lie. The model has the same bits wherever they do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placement {
    /// What may be in memory of the users' factors, if they lie in a file.
    pub users: Option<Room>,
    /// The same of the items'.
    pub items: Option<Room>,
    /// Where files without a name are made.
    pub folder: PathBuf,
}

impl Placement {
    /// The room of a side's factors that lie in a file.
    pub fn room(&self, side: Side) -> Option<Room> {
        match side {
            Side::Users => self.users,
            Side::Items => self.items,
        }
    }

    /// Whether all factors are in memory.
    pub fn is_in_memory(&self) -> bool {
        self.users.is_none() && self.items.is_none()
    }

    /// Factors of a side, all zero, where they belong.
    ///
    /// # Errors
    /// If there is no room on disk.
    pub fn factors(&self, side: Side, rows: usize, rank: usize, biases: bool) -> Result<Factors> {
        let Some(room) = self.room(side) else {
            return Ok(Factors::zeros(rows, rank, biases));
        };
        let bytes = Factors::bytes(rows, rank, biases);
        let file = Box::new(ScratchFile::new(&self.folder, bytes)?);
        Ok(Factors::spilled(rows, rank, biases, file, room))
    }

    /// Finds the first of three tiers that fits beside what the plan has, and adds it: all factors in memory; those of the
    /// larger side in a file; those of both. Where the fixed side lies in a file, what is left is shared by a band of it
    /// and the sums of the rows that move. Without a `folder` for files, all factors have to be in memory.
    ///
    /// # Errors
    /// If none fits, or the method needs the fixed side as a whole and all factors do not fit; the error names the smallest
    /// budget that would do. If the store is damaged.
    pub fn plan(
        plan: &mut Plan,
        store: &Store,
        options: &Options,
        threads: usize,
        folder: Option<&Path>,
    ) -> Result<Placement> {
        let solver = solver::method(&options.solver)?.solver(options)?;
        let shape = store.shape();
        let largest = store.largest_shard();
        let mut all = plan.clone();
        all.hold(
            "factors and scratch",
            Trainer::memory(shape, options, threads)?,
        );
        // The one that is worked on, and the next.
        all.hold("shards in use", 2 * largest);
        let refused = match all.rest(0) {
            Ok(_) => {
                *plan = all;
                return Ok(Placement::default());
            }
            Err(refused) => refused,
        };
        let Some(folder) = folder else {
            return Err(refused);
        };
        let Some(carried) = solver.row_sums() else {
            let able = SOLVERS.iter().filter(|method| method.spills);
            let able: Vec<_> = able.map(|method| method.name).collect();
            return Err(
                refused.or_remedy(&format!("--solver {} may do with less", able.join(" or ")))
            );
        };
        let of_row = Factors::bytes(1, options.rank, options.biases);
        let bytes = |side| shape.rows(side) as u64 * of_row;
        let larger = match shape.users < shape.items {
            true => Side::Items,
            false => Side::Users,
        };
        // A row may be long, and then has sums of two kinds.
        let least = (LEAST_ROWS * (2 * carried + 2 * of_row)).max(LEAST_BYTES);
        // Of small models, all factors may take less than what reading them in bands does.
        let mut cheapest = (all.total(), refused);
        for sides in [&[larger][..], &[larger, larger.other()]] {
            let mut tier = plan.clone();
            if sides.len() == 1 {
                let name = match larger {
                    Side::Users => "factors of items",
                    Side::Items => "factors of users",
                };
                tier.hold(name, bytes(larger.other()) * copies(options));
                tier.hold("scratch", solver.memory(shape, threads));
            } else {
                tier.hold("scratch", solver.memory_in_bands(shape, threads));
            }
            tier.hold("sums by row", SUMMED_BYTES);
            tier.hold("a shard in use", largest);
            let files = sides.len() as u64 * copies(options);
            tier.hold("pages of files", files * ScratchFile::CACHED);
            let rest = match tier.rest(least) {
                Ok(rest) => rest,
                Err(refused) => {
                    let needed = Bytes(tier.total().0 + least);
                    if needed < cheapest.0 {
                        cheapest = (needed, refused);
                    }
                    continue;
                }
            };
            let mut placement = Placement {
                folder: folder.to_owned(),
                ..Placement::default()
            };
            let mut taken = 0;
            for &side in sides {
                // Sums take the most: the larger the chunk, the less often all bands are read.
                let band = (rest / 4).min(bytes(side)).max(of_row);
                // Each of its ratings counted as a long row, no more sums than these can be carried.
                let most = shape.rows(side.other()) as u64 * 2 * (carried + of_row);
                let sums = (rest - band).min(most);
                taken = taken.max(band + sums);
                match side {
                    Side::Users => placement.users = Some(Room { band, sums }),
                    Side::Items => placement.items = Some(Room { band, sums }),
                }
            }
            tier.hold("bands and sums", taken);
            *plan = tier;
            return Ok(placement);
        }
        Err(cheapest.1)
    }
}

/// How many of all factors there are: one more where early stopping keeps the best.
pub(super) fn copies(options: &Options) -> u64 {
    1 + u64::from(options.early_stop.is_some())
}
