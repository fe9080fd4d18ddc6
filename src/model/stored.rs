//! Where the factors of a model are read to: memory, scratch files, or nowhere, while rows are read as they are asked for.

use std::path::Path;

use super::files::{self, BIASES, FACTORS};
use super::{Record, sparse};
use crate::error::Result;
use crate::matrix::{Factors, Room, Scratch, Shape, Side, Traffic};
use crate::memory::Plan;
use crate::solver::{Neighbourhood, Options, Parameters, method};
use crate::store::{Container, Seal, SparseFile, Store};
use crate::train::Placement;

/// Which factors of a model are in memory while it is open. The others stay in their files, for those who go over all rows
/// in [bands](Factors::bands), or [gather](Factors::gather) some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Held {
    /// Those of both sides.
    #[default]
    Everything,
    /// Those of items.
    Items,
    /// None.
    Nothing,
}

/// Rows that are gathered at a time, for those who may choose.
pub const GATHERED: usize = 1 << 12;

impl Held {
    /// The first of some ways to hold a model that fits beside what the plan has; adds what an open model then takes.
    ///
    /// # Errors
    /// If there is no model, or it fits in none of the ways; the error names the smallest budget that would do.
    pub fn plan(plan: &mut Plan, path: &Path, ways: &[Held]) -> Result<Held> {
        let record = Record::read(path)?;
        let planned = ways.iter().map(|held| {
            let mut plan = plan.clone();
            held.hold(&record, &mut plan);
            (*held, plan)
        });
        let planned: Vec<_> = planned.collect();
        let fits = planned.iter().find(|(_, plan)| plan.rest(0).is_ok());
        // If none does, the one that takes least tells what would.
        let least = || planned.iter().min_by_key(|(_, plan)| plan.total());
        let (held, enough) = fits.or_else(least).expect("a way to hold a model");
        enough.rest(0)?;
        *plan = enough.clone();
        Ok(*held)
    }

    fn hold(self, record: &Record, plan: &mut Plan) {
        let Record { shape, options, .. } = record;
        if !has_factors(options) {
            return plan.hold("the model", record.parameters_bytes());
        }
        let (what, users, items) = match self {
            Held::Everything => ("the model", shape.users, shape.items),
            Held::Items => ("the model's items", 0, shape.items),
            Held::Nothing => ("the model's factors", 0, 0),
        };
        let held = Shape {
            users,
            items,
            ..*shape
        };
        plan.hold(what, Parameters::bytes(held, options.rank, options.biases));
        if self != Held::Everything {
            let rows = Factors::bytes(GATHERED, options.rank, options.biases);
            plan.hold("rows at hand", 2 * rows + 2 * Container::PIECE);
        }
    }
}

/// Whether a model with these options is made of factors, rather than of weights between items.
pub(super) fn has_factors(options: &Options) -> bool {
    method(&options.solver).map_or(true, |method| method.factors)
}

impl Record {
    /// Memory that finding a store's users and items among the model's takes, in bytes.
    pub fn matching(&self, store: &Store) -> u64 {
        let sides = [
            (&self.files[2], store.users()),
            (&self.files[3], store.items()),
        ];
        let others = sides.iter().filter(|(seal, ids)| **seal != ids.seal());
        others.map(|(_, ids)| 4 * ids.len() as u64).sum()
    }

    pub(super) fn parameters(
        &self,
        path: &Path,
        seals: &[Seal],
        names: [&str; 2],
        placement: &Placement,
        held: Held,
    ) -> Result<Parameters> {
        let Shape { users, items, .. } = self.shape;
        let (users, items, neighbourhood) = if has_factors(&self.options) {
            let read = |at: usize, side, in_memory| {
                let (file, seal) = (path.join(names[at]), seals[at]);
                match in_memory {
                    true => self.factors(&file, seal, side, placement),
                    false => self.stored(&file, seal, side),
                }
            };
            let users = read(0, Side::Users, held == Held::Everything)?;
            (users, read(1, Side::Items, held != Held::Nothing)?, None)
        } else {
            let sparse =
                |at: usize, rows| sparse::read(&path.join(names[at]), seals[at], [rows, items]);
            let neighbourhood = Neighbourhood {
                histories: sparse(0, users)?,
                weights: sparse(1, items)?,
            };
            let Options { rank, biases, .. } = self.options;
            let zeros = |rows| Factors::zeros(rows, rank, biases);
            (zeros(users), zeros(items), Some(neighbourhood))
        };
        Ok(Parameters {
            users,
            items,
            mean: self.mean,
            std: self.std,
            neighbourhood,
        })
    }

    fn factors(
        &self,
        file: &Path,
        seal: Seal,
        side: Side,
        placement: &Placement,
    ) -> Result<Factors> {
        let Options { rank, biases, .. } = self.options;
        let rows = self.shape.rows(side);
        let new = || placement.factors(side, rows, rank, biases);
        files::read(file, seal, [rows, rank], biases, new)
    }

    /// Opens a side's factors in their file. Every byte is checked on the way.
    fn stored(&self, file: &Path, seal: Seal, side: Side) -> Result<Factors> {
        let Options { rank, biases, .. } = self.options;
        open(file, seal, [self.shape.rows(side), rank], biases)
    }
}

/// Opens factors that stay in their file, which must be those of the seal and of this size.
fn open(path: &Path, seal: Seal, [rows, rank]: [usize; 2], biases: bool) -> Result<Factors> {
    let container = files::open(path, seal, [rows, rank], biases)?;
    container.verify_in_passing()?;
    let start = |section| container.range(section).map_or(0, |range| range.start);
    let file = StoredFactors {
        file: SparseFile::open(path)?,
        rank,
        stride: Factors::zeros(0, rank, biases).stride(),
        rows,
        factors: start(FACTORS),
        biases: start(BIASES),
    };
    let room = Room {
        band: Factors::bytes(GATHERED, rank, biases),
        sums: 0,
    };
    Ok(Factors::spilled(rows, rank, biases, Box::new(file), room))
}

/// A file of factors in the place of a scratch file: read alone.
#[derive(Debug)]
struct StoredFactors {
    file: SparseFile,
    rank: usize,
    /// Floats from row to row for those who read; in the file there is no padding.
    stride: usize,
    rows: usize,
    /// Where the sections start in the file.
    factors: u64,
    biases: u64,
}

impl Scratch for StoredFactors {
    fn read(&self, at: u64, into: &mut [f32]) -> Result<()> {
        let size = size_of::<f32>() as u64;
        let padded = (self.rows * self.stride) as u64;
        if let Some(row) = at.checked_sub(padded) {
            let start = self.biases + size * row;
            return self.file.read(start, bytemuck::cast_slice_mut(into));
        }
        let (row, rank) = (at / self.stride as u64, self.rank);
        let start = self.factors + size * row * rank as u64;
        let rows = into.len() / self.stride;
        // To the front, then each row to its place, the last first.
        let front = bytemuck::cast_slice_mut(&mut into[..rows * rank]);
        self.file.read(start, front)?;
        for row in (0..rows).rev() {
            into.copy_within(row * rank..(row + 1) * rank, row * self.stride);
            into[row * self.stride + rank..(row + 1) * self.stride].fill(0.0);
        }
        Ok(())
    }

    fn write(&self, _at: u64, _floats: &[f32]) -> Result<()> {
        unreachable!("the file of a model is read alone")
    }

    fn copy(&self) -> Result<Box<dyn Scratch>> {
        unreachable!("the file of a model is read alone")
    }

    fn traffic(&self) -> Traffic {
        Traffic::default()
    }
}
