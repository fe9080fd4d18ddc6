//! What methods have in common whose epoch is one sweep: one side moves, then the other on the first one's new values.

use std::borrow::Borrow;

use super::alternating::half_epoch;
use super::losses;
use super::row_step::{Cost, Fixed, Measure, RowStep};
use super::sums::RowSums;
use super::{Measured, Moving, Options, Parameters, Reduce, Solver, Tick};
use crate::error::{Error, ErrorKind, Result};
use crate::matrix::{Factors, Ratings, Row, Shape, Side};

/// A row step that is a whole method: its epoch is a sweep, items first. A user's row is then the answer to the final items.
pub trait Sweep: RowStep + Send {
    /// Memory that training takes beyond the parameters themselves, in bytes.
    fn memory(&self, shape: Shape, threads: usize) -> u64;

    /// Of that, what is left where both sides pass by in bands: by default, as much.
    fn memory_in_bands(&self, shape: Shape, threads: usize) -> u64 {
        self.memory(shape, threads)
    }
}

impl<S: Sweep> Solver for S {
    fn epoch(
        &self,
        epoch: usize,
        ratings: &dyn Ratings,
        moving: &mut Moving,
        tick: Tick<'_>,
    ) -> Result<Measured> {
        let parameters = &mut moving.parameters;
        let sums = sweep(self, Side::Items, epoch, ratings, parameters, tick)?;
        Ok(measured(sums, ratings, parameters.std))
    }

    fn measure(&self, ratings: &dyn Ratings, parameters: &Parameters) -> Result<Measured> {
        measure(self.cost(), ratings, parameters)
    }

    fn solves_either_side(&self) -> bool {
        true
    }

    fn fold_in(
        &self,
        ratings: &dyn Ratings,
        _trained: Option<&dyn Ratings>,
        items: &Fixed<'_>,
        users: &mut Factors,
    ) -> Result<()> {
        settle(self, ratings, items, users)
    }

    fn contributions(&self, row: Row<'_>, items: &Fixed<'_>, item: usize) -> Option<Vec<f64>> {
        let problem = self.cost().problem(row, items)?;
        Some(problem.contributions(row, items, item))
    }

    fn memory(&self, shape: Shape, threads: usize) -> u64 {
        Sweep::memory(self, shape, threads)
    }

    fn memory_in_bands(&self, shape: Shape, threads: usize) -> u64 {
        Sweep::memory_in_bands(self, shape, threads)
    }

    fn row_sums(&self) -> Option<u64> {
        Some((self.carried()? * size_of::<f32>()) as u64)
    }
}

/// Moves users until they stand still, the items fixed: at once where a row is solved exactly.
pub fn settle<S: RowStep>(
    step: &S,
    ratings: &dyn Ratings,
    items: &Fixed<'_>,
    users: &mut Factors,
) -> Result<()> {
    const MOST: usize = 200;
    const STILL: f32 = 1e-6;
    fn all(factors: &Factors) -> impl Iterator<Item = &f32> {
        factors.flat().iter().chain(factors.biases())
    }
    for _ in 0..MOST {
        let before = (!step.is_exact()).then(|| users.clone());
        let measure = Measure::Nothing;
        half_epoch(
            ratings,
            Side::Users,
            false,
            step,
            users,
            items,
            measure,
            &|_| (),
        )?;
        let Some(before) = before else {
            break;
        };
        let largest = all(users).fold(0.0, |most: f32, x| most.max(x.abs()));
        let still = |(x, y): (&f32, &f32)| (x - y).abs() <= STILL * largest;
        if all(users).zip(all(&before)).all(still) {
            break;
        }
    }
    Ok(())
}

/// Moves the first side, then the other, and sums losses and both penalties after it.
pub fn sweep<S: RowStep>(
    step: &S,
    first: Side,
    epoch: usize,
    ratings: &dyn Ratings,
    parameters: &mut Parameters,
    tick: Tick<'_>,
) -> Result<RowSums> {
    sweep_by::<S, &S>(|_| step, first, epoch, ratings, parameters, tick)
}

/// As [`sweep`], each side by the step that `step` makes for the other.
pub fn sweep_by<S: RowStep, B: Borrow<S>>(
    mut step: impl FnMut(&Factors) -> B,
    first: Side,
    epoch: usize,
    ratings: &dyn Ratings,
    parameters: &mut Parameters,
    tick: Tick<'_>,
) -> Result<RowSums> {
    let backwards = epoch % 2 == 1;
    let Parameters {
        users,
        items,
        mean,
        std,
        ..
    } = parameters;
    let mut go = |side, measure| {
        let (moving, other): (&mut Factors, &Factors) = match side {
            Side::Users => (users, items),
            Side::Items => (items, users),
        };
        let (step, fixed) = (step(other), Fixed::new(other, *mean, *std));
        let step = step.borrow();
        half_epoch(
            ratings, side, backwards, step, moving, &fixed, measure, tick,
        )
    };
    let of_first = go(first, Measure::Penalty)?;
    let mut sums = go(first.other(), Measure::All)?;
    sums.penalty += of_first.penalty;
    Ok(sums)
}

/// Tells the cost where the parameters stand.
pub fn measure<C: Cost>(
    cost: &C,
    ratings: &dyn Ratings,
    parameters: &Parameters,
) -> Result<Measured> {
    let items = parameters.fixed_items();
    let sums = losses::measure(ratings, cost, &parameters.users, &items)?;
    Ok(measured(sums, ratings, parameters.std))
}

/// The cost of a sum of losses.
pub fn measured(sums: RowSums, ratings: &dyn Ratings, std: f32) -> Measured {
    Measured {
        cost: sums.loss + sums.penalty,
        rmse: f64::from(std) * (sums.squared_error / ratings.shape().ratings as f64).sqrt(),
    }
}

/// Refuses a mean of losses and a learning rate, for methods that find the lowest point of a row by themselves.
pub fn refuse_steps(name: &str, options: &Options) -> Result<()> {
    if options.reduce == Reduce::Mean {
        return Err(Error::new(
            ErrorKind::BadOption,
            format!("{name} minimises the sum of the losses, not their mean"),
        )
        .remedy("leave out --reduce, or use --solver gradient"));
    }
    if !options.learning_rates.is_empty() {
        return Err(Error::new(
            ErrorKind::BadOption,
            format!("{name} solves its rows by itself and has no learning rate"),
        )
        .remedy("leave out --learning-rate, or use --solver gradient"));
    }
    Ok(())
}

/// The error of a row whose equations have no single solution.
pub fn undetermined(ratings: usize, unknowns: usize) -> Error {
    Error::new(
        ErrorKind::Singular,
        format!("{ratings} ratings do not determine {unknowns} unknowns"),
    )
    .remedy("give a higher --regularization or --regularization-row")
}
