//! Alternating least squares, exact.
//!
//! Objective: `1/2 sum (mean + b_u + b_i + <p_u, q_i> - r)^2 + 1/2 sum (regularization * n_row + regularization_row) |row|^2`
//! (Zhou, Wilkinson, Schreiber, Pan: Large-scale parallel collaborative filtering for the Netflix prize, AAIM 2008, for
//! the weight by n; the ridge per row may be added to it). With one side fixed, every row of the other is a ridge
//! regression of its own, whose bias is one more unknown with a column of ones; it is solved by Cholesky, so that the
//! objective never rises. Items move first, then users: a user's row is then the exact answer to the final items.
//! Cost: n (k^2 + k) flop a side and k^3 / 3 a row, for k = rank + 1 with biases; less for rows of up to about k / 2 ratings,
//! which are solved by those (`few_ratings.rs`). Reads: by-item and by-user ratings once each, and one row of the fixed side
//! for each rating.

use super::few_ratings::{Few, Gathered};
use super::least_squares::LeastSquares;
use super::row_step::{Cost, Fixed, Own, OwnMut, RowStep};
use super::sweep::{self, Sweep};
use super::{Learns, Method, Missing, Options, Ridge, Solver};
use super::{alternating, bands, block_rows};
use crate::error::{Error, Result};
use crate::kernel::{self, Isa, LANES, NormalEquations, Segment};
use crate::matrix::{Row, Shape};

/// ALS in the table of solvers.
pub const METHOD: Method = Method {
    name: "als",
    summary: "alternating least squares: every row solved exactly in turn, items first (the default)",
    monotone: true,
    any_regularizer: false,
    biases: true,
    factors: true,
    spills: true,
    learns: Learns::Ratings,
    searched: &[],
    suited: |options| options,
    regularization: 0.05,
    missing: &[Missing::Skip],
    build,
};

fn build(options: &Options) -> Result<Box<dyn Solver>> {
    let cost = LeastSquares::of("ALS", options)?;
    Ok(Box::new(Als::new(options, cost)))
}

/// The step that solves a row.
pub struct Als {
    cost: LeastSquares,
    ridge: Ridge,
    /// Whether a row is solved around where it stands: it is the way from there that the ridge holds back.
    around: bool,
    equations: NormalEquations,
    few: Few,
    rank: usize,
}

impl Als {
    /// Of this cost.
    pub fn new(options: &Options, cost: LeastSquares) -> Als {
        let equations = NormalEquations::new(options.rank, options.biases);
        Als {
            ridge: cost.ridge,
            few: Few::of(equations, options.rank, options.biases, cost.ridge),
            cost,
            around: false,
            equations,
            rank: options.rank,
        }
    }

    /// Around where each row stands, with a bias of zero. Of the penalty it measures the biases' part alone: where rows came from is
    /// forgotten by then.
    pub fn around(options: &Options, ridge: Ridge) -> Als {
        let of_biases = LeastSquares {
            ridge: ridge.of_biases(),
        };
        Als {
            cost: of_biases,
            around: true,
            ..Als::new(options, LeastSquares { ridge })
        }
    }

    /// What [`Sums`] take without systems that are solved together.
    fn sums_bytes(&self) -> u64 {
        let floats = self.equations.sums_len()
            + self.equations.panel_len()
            + kernel::solve_scratch_len(self.equations.size())
            + self.few.floats()
            + 3 * alternating::PART;
        4 * floats as u64
    }

    /// Whether equations wait until there are as many as are solved side by side.
    fn are_solved_together(&self) -> bool {
        self.equations.size() <= kernel::SMALL
    }

    /// Begins the equations with the ratings that were few so far, unless they have been begun.
    fn begin_equations(&self, isa: Isa, sums: &mut Sums) {
        if !sums.many {
            sums.many = true;
            sums.equations.fill(0.0);
            self.add_few(isa, &sums.few, &mut sums.equations, &mut sums.panel);
            sums.few.clear();
        }
    }

    fn add_few(&self, isa: Isa, few: &Gathered, equations: &mut [f32], panel: &mut [f32]) {
        let (rows, segment) = few.segment();
        self.equations
            .accumulate(isa, rows, segment, equations, panel);
    }

    /// Moves a row to its solution.
    fn write(&self, solution: &[f32], own: OwnMut<'_>) {
        for (x, &solved) in own.factors.iter_mut().zip(&solution[..self.rank]) {
            *x = if self.around { *x + solved } else { solved };
        }
        if let Some(bias) = own.bias {
            *bias = solution[self.rank];
        }
    }
}

impl Sweep for Als {
    fn memory(&self, _shape: Shape, threads: usize) -> u64 {
        let together = match self.are_solved_together() {
            true => self.equations.sixteen_len() + self.equations.sixteen_scratch_len(),
            false => 0,
        };
        (block_rows::SUMS_AT_ONCE * threads) as u64 * (self.sums_bytes() + 4 * together as u64)
    }

    fn memory_in_bands(&self, _shape: Shape, threads: usize) -> u64 {
        (bands::SUMS_AT_ONCE * threads) as u64 * self.sums_bytes()
    }
}

/// The normal equations of a row, and room to build and solve them.
pub struct Sums {
    /// Its ratings, as long as they are few; there are none otherwise.
    few: Gathered,
    /// Whether they are not.
    many: bool,
    equations: Vec<f32>,
    panel: Vec<f32>,
    scratch: Vec<f32>,
    /// For many systems at once, as soon as there were so many.
    sixteen: Vec<f32>,
    targets: Vec<f32>,
    predictions: Vec<f32>,
}

impl RowStep for Als {
    type Shared = ();
    type Sums = Sums;

    fn sums(&self) -> Sums {
        Sums {
            few: Gathered::new(self.few),
            many: false,
            equations: vec![0.0; self.equations.sums_len()],
            panel: vec![0.0; self.equations.panel_len()],
            scratch: vec![0.0; kernel::solve_scratch_len(self.equations.size())],
            sixteen: Vec::new(),
            targets: Vec::new(),
            predictions: Vec::new(),
        }
    }

    fn shared(&self, _fixed: &Fixed<'_>) {}

    fn begin(&self, sums: &mut Sums) {
        sums.few.clear();
        sums.many = false;
    }

    fn accumulate(&self, own: Own<'_>, segment: Row<'_>, fixed: &Fixed<'_>, sums: &mut Sums) {
        let other = fixed.factors;
        sums.targets.clear();
        let targets = segment.values.iter().map(|&rating| fixed.target(rating));
        sums.targets.extend(targets);
        if self.around {
            sums.predictions.resize(segment.len(), 0.0);
            fixed.predict(own, segment, &mut sums.predictions);
            for (target, prediction) in sums.targets.iter_mut().zip(&sums.predictions) {
                *target -= prediction;
            }
        } else if other.has_biases() {
            let biases = other.biases();
            for (target, &col) in sums.targets.iter_mut().zip(segment.cols) {
                *target -= biases[col as usize];
            }
        }
        if !sums.many && sums.few.has_room(segment.len()) {
            sums.few
                .add(fixed.isa, other.flat(), segment.cols, &sums.targets);
            return;
        }
        self.begin_equations(fixed.isa, sums);
        let segment = Segment {
            cols: segment.cols,
            targets: &sums.targets,
            weights: None,
        };
        let Sums {
            equations, panel, ..
        } = sums;
        self.equations
            .accumulate(fixed.isa, other.flat(), segment, equations, panel);
    }

    fn merge(&self, next: &Sums, sums: &mut Sums) {
        let isa = Isa::best();
        self.begin_equations(isa, sums);
        if !next.many {
            self.add_few(isa, &next.few, &mut sums.equations, &mut sums.panel);
            return;
        }
        for (x, y) in sums.equations.iter_mut().zip(&next.equations) {
            *x += y;
        }
    }

    fn carried(&self) -> Option<usize> {
        Some(self.equations.triangle_len())
    }

    fn set_aside(&self, sums: &Sums, aside: &mut [f32]) {
        match sums.many {
            true => self.equations.set_aside(&sums.equations, aside),
            false => sums.few.set_aside(aside),
        }
    }

    fn take_up(&self, aside: &[f32], sums: &mut Sums) {
        sums.many = !sums.few.take_up(aside);
        if sums.many {
            self.equations.take_up(aside, &mut sums.equations);
        }
    }

    fn finish(
        &self,
        own: OwnMut<'_>,
        ratings: usize,
        fixed: &Fixed<'_>,
        _shared: &(),
        sums: &mut Sums,
    ) -> Result<()> {
        if ratings == 0 {
            if !self.around {
                own.clear();
            }
            return Ok(());
        }
        let on_factors = self.ridge.on_factors(ratings);
        let on_bias = own.bias.is_some().then(|| self.ridge.on_bias(ratings));
        if !sums.many {
            let solution = sums.few.solve(fixed.isa, on_factors, on_bias);
            let solution =
                solution.map_err(|_| sweep::undetermined(ratings, self.equations.size()))?;
            self.write(solution, own);
            return Ok(());
        }
        let equations = &mut sums.equations;
        for i in 0..self.rank {
            equations[self.equations.diagonal(i)] += on_factors;
        }
        if let Some(on_bias) = on_bias {
            equations[self.equations.diagonal(self.rank)] += on_bias;
        }
        let size = self.equations.size();
        let solution = kernel::solve(fixed.isa, size, equations, &mut sums.scratch)
            .map_err(|_| sweep::undetermined(ratings, size))?;
        self.write(solution, own);
        Ok(())
    }

    fn together(&self, ratings: usize) -> Option<usize> {
        let waits = self.are_solved_together() && ratings > 0 && !self.few.are(ratings);
        waits.then_some(kernel::SYSTEMS)
    }

    fn finish_together(
        &self,
        rows: &mut [(OwnMut<'_>, usize)],
        aside: &mut [f32],
        fixed: &Fixed<'_>,
        sums: &mut Sums,
    ) -> Result<(), (usize, Error)> {
        let size = self.equations.size();
        let systems = aside.chunks_exact_mut(self.equations.triangle_len());
        for (system, (own, ratings)) in systems.zip(&*rows) {
            for i in 0..self.rank {
                system[self.equations.diagonal_aside(i)] += self.ridge.on_factors(*ratings);
            }
            if own.bias.is_some() {
                system[self.equations.diagonal_aside(self.rank)] += self.ridge.on_bias(*ratings);
            }
        }
        sums.sixteen
            .resize(self.equations.sixteen_scratch_len(), 0.0);
        let solved = kernel::solve_sixteen(fixed.isa, self.equations, aside, &mut sums.sixteen);
        let solutions = solved.map_err(|(i, _)| (i, sweep::undetermined(rows[i].1, size)))?;
        let solutions = solutions.chunks_exact(size.next_multiple_of(LANES));
        for ((own, _), solution) in rows.iter_mut().zip(solutions) {
            self.write(solution, own.reborrow());
        }
        Ok(())
    }

    fn is_exact(&self) -> bool {
        true
    }

    fn cost(&self) -> &impl Cost {
        &self.cost
    }
}
