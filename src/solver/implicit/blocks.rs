//! iALS++: rows by Newton steps on one block of factors after another.
//!
//! With all other factors of a row fixed, those of a block B have the equations
//! `(unobserved_weight G_BB + sum w q_B q_B^T + ridge) step = sum w (1 - y) q_B - unobserved_weight (G p)_B - ridge p_B` (Rendle, Krichene, Zhang,
//! Koren: iALS++, speeding up matrix factorization with subspace optimization, 2021). The published order goes over all rows for
//! each block; here all blocks of a row take their turn while its ratings are at hand, so that these are read once, and the
//! predictions y are followed from block to block and never written. With one block the step is the exact solution.
//! Cost: n (k b + 3 k) flop a side and k^2 + k b^2 / 3 a row, for blocks of b factors. Reads: by-item and by-user ratings once
//! each, and one row of the fixed side up to three times for each rating.

use super::{AllCells, Implicit, Preferences, REGULARIZATION, SEARCHED};
use crate::error::Result;
use crate::kernel::{self, LANES, NormalEquations, Segment};
use crate::matrix::Row;
use crate::solver::row_step::{Cost, Fixed, OwnMut};
use crate::solver::whole::{Room, Whole, WholeRow, padded};
use crate::solver::{Learns, Method, Missing, Options, Solver, sweep};

/// iALS++ in the table of solvers.
pub const METHOD: Method = Method {
    name: "ials++",
    summary: "the same by blocks of factors: about as good a step as the exact one, and much cheaper at high rank",
    regularization: REGULARIZATION,
    missing: &[Missing::Zero],
    monotone: true,
    any_regularizer: false,
    biases: false,
    factors: true,
    spills: false,
    learns: Learns::Preferences,
    searched: SEARCHED,
    suited: |options| Options {
        biases: false,
        positive_at: Some(4.0),
        unobserved_weight: 0.3,
        block: 2,
        ..options
    },
    build,
};

fn build(options: &Options) -> Result<Box<dyn Solver>> {
    Implicit::boxed("iALS++", options, |options, cost| {
        let block = options.block.min(options.rank);
        Whole(Blocks {
            cost,
            rank: options.rank,
            block,
            numbers: (0..CHUNK.max(options.rank) as u32).collect(),
        })
    })
}

/// Ratings whose factors of a block are gathered at a time.
const CHUNK: usize = 256;

struct Blocks {
    cost: Preferences,
    rank: usize,
    block: usize,
    /// 0, 1, 2 ...
    numbers: Vec<u32>,
}

/// Room for one block of one row.
struct Workspace<'a> {
    /// The block's factors of the ratings of a chunk.
    gathered: &'a mut [f32],
    targets: &'a mut [f32],
    equations: &'a mut [f32],
    panel: &'a mut [f32],
    scratch: &'a mut [f32],
    step: &'a mut [f32],
}

impl Blocks {
    /// The lengths of the parts of the workspace, in their order.
    fn lengths(&self) -> [usize; 6] {
        let layout = NormalEquations::new(self.block, false);
        let stride = self.block.next_multiple_of(LANES);
        [
            CHUNK * stride,
            CHUNK,
            layout.sums_len(),
            layout.panel_len(),
            kernel::solve_scratch_len(self.block),
            stride,
        ]
    }

    fn workspace<'a>(&self, mut room: &'a mut [f32]) -> Workspace<'a> {
        let parts = self.lengths().map(|length| {
            let (part, rest) = std::mem::take(&mut room).split_at_mut(length);
            room = rest;
            part
        });
        let [gathered, targets, equations, panel, scratch, step] = parts;
        Workspace {
            gathered,
            targets,
            equations,
            panel,
            scratch,
            step,
        }
    }
}

/// Copies the `width` factors from `first` on of all `cols`, each row padded with zeros.
fn gather(fixed: &Fixed<'_>, cols: &[u32], first: usize, width: usize, out: &mut [f32]) {
    let (flat, stride) = (fixed.factors.flat(), fixed.factors.stride());
    let floats = padded(width);
    let in_vectors = first + floats <= stride;
    for (&col, row) in cols.iter().zip(out.chunks_exact_mut(floats)) {
        let factors = &flat[col as usize * stride + first..];
        if in_vectors {
            // Copies of a fixed length are moves, and no calls.
            let (to, from) = (row.as_chunks_mut::<LANES>().0, factors.as_chunks().0);
            for (to, from) in to.iter_mut().zip(from) {
                *to = *from;
            }
        } else {
            row[..width].copy_from_slice(&factors[..width]);
        }
        row[width..].fill(0.0);
    }
}

impl WholeRow for Blocks {
    type Shared = AllCells;

    fn cost(&self) -> &impl Cost {
        &self.cost
    }

    fn room(&self) -> [usize; 2] {
        [2, self.lengths().iter().sum()]
    }

    fn shared(&self, fixed: &Fixed<'_>) -> AllCells {
        AllCells::new(fixed, self.cost.unobserved)
    }

    fn solve(
        &self,
        own: OwnMut<'_>,
        targets: Row<'_>,
        fixed: &Fixed<'_>,
        all_cells: &AllCells,
        room: Room<'_>,
    ) -> Result<()> {
        let ratings = targets.len();
        if ratings == 0 {
            own.clear();
            return Ok(());
        }
        let (predictions, weights) = room.by_rating.split_at_mut(padded(ratings));
        let (predictions, weights) = (&mut predictions[..ratings], &mut weights[..ratings]);
        for (weight, &rating) in weights.iter_mut().zip(targets.values) {
            *weight = self.cost.weight(rating);
        }
        let work = self.workspace(room.beside);
        let ridge = self.cost.ridge(ratings);
        fixed.predict(own.as_ref(), targets, predictions);
        let p = own.factors;
        for first in (0..self.rank).step_by(self.block) {
            let width = self.block.min(self.rank - first);
            let layout = NormalEquations::new(width, false);
            let equations = &mut work.equations[..layout.sums_len()];
            equations.fill(0.0);
            for start in (0..ratings).step_by(CHUNK) {
                let part = start..ratings.min(start + CHUNK);
                gather(
                    fixed,
                    &targets.cols[part.clone()],
                    first,
                    width,
                    work.gathered,
                );
                let short = &mut work.targets[..part.len()];
                let weights = &weights[part.clone()];
                for ((short, &weight), &y) in short
                    .iter_mut()
                    .zip(weights)
                    .zip(&predictions[part.clone()])
                {
                    *short = weight * (1.0 - y);
                }
                let segment = Segment {
                    cols: &self.numbers[..part.len()],
                    targets: short,
                    // Without alpha every weight is 1.
                    weights: self.cost.alpha.is_some().then_some(weights),
                };
                layout.accumulate(fixed.isa, work.gathered, segment, equations, work.panel);
            }
            let rows = &self.numbers[first..first + width];
            let of_all = &mut work.step[..width];
            kernel::dot_rows(fixed.isa, p, &all_cells.rows, rows, of_all);
            for i in 0..width {
                let at = layout.diagonal(i);
                let of_cells = &all_cells.row(first + i)[first + i..first + width];
                for (x, y) in equations[at..].iter_mut().zip(of_cells) {
                    *x += y;
                }
                equations[at] += ridge;
                equations[layout.right(i)] -= of_all[i] + ridge * p[first + i];
            }
            let solution = kernel::solve(fixed.isa, width, equations, work.scratch)
                .map_err(|_| sweep::undetermined(ratings, width))?;
            let step = &mut work.step[..width.next_multiple_of(LANES)];
            step.fill(0.0);
            step[..width].copy_from_slice(&solution[..width]);
            for (x, step) in p[first..].iter_mut().zip(&step[..width]) {
                *x += step;
            }
            if first + width == self.rank {
                break;
            }
            for start in (0..ratings).step_by(CHUNK) {
                let cols = &targets.cols[start..ratings.min(start + CHUNK)];
                // A row of one chunk is still there.
                if ratings > CHUNK {
                    gather(fixed, cols, first, width, work.gathered);
                }
                let changes = &mut work.targets[..cols.len()];
                let rows = &self.numbers[..cols.len()];
                kernel::dot_rows(fixed.isa, step, work.gathered, rows, changes);
                for (y, change) in predictions[start..].iter_mut().zip(changes) {
                    *y += *change;
                }
            }
        }
        Ok(())
    }
}
