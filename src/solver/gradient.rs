//! Batch gradient descent, per user and per item.
//!
//! Objective: `reduce(loss) + 1/2 sum (regularization * n_row + regularization_row) |row|^2`, any loss.
//! Step: `row -= rate * (weight * sum of slope * q + (regularization * n_row + regularization_row) * row)`, where the
//! weight is 1, or 1 / n for the mean; the bias steps likewise with q = 1.
//! Cost: O(n d) flops for each side and epoch. Reads: by-user and by-item ratings once each (each row's gradient is
//! gathered by the one task that owns the row: no buffers for item gradients, no races), and by-user once more for the
//! loss where both sides step at once.

use super::alternating::{self, Cost, Fixed, Measure, Own, OwnMut, RowStep, half_epoch};
use super::sums::RowSums;
use super::{Measured, Method, Options, Parameters, Reduce, Ridge, Solver, Tick, Update};
use crate::error::{Error, ErrorKind, Result};
use crate::kernel;
use crate::loss::{Loss, Squared};
use crate::matrix::{Factors, Ratings, Row, Shape, Side};

/// Gradient descent in the table of solvers.
pub const METHOD: Method = Method {
    name: "gradient",
    summary: "gradient descent: every row steps along its own gradient, all rows in parallel",
    build,
};

fn build(options: &Options) -> Result<Box<dyn Solver>> {
    if options.learning_rates.is_empty() {
        return Err(Error::new(
            ErrorKind::BadOption,
            "gradient descent needs a learning rate",
        )
        .remedy("give --learning-rate, such as 0.001, or --learning-rates, one for each epoch"));
    }
    if options.learning_rates.len() > 1 && options.learning_rates.len() < options.epochs {
        return Err(Error::new(
            ErrorKind::BadOption,
            format!(
                "{} learning rates are too few for {} epochs",
                options.learning_rates.len(),
                options.epochs
            ),
        )
        .remedy("give one for each epoch, or a single one for all"));
    }
    Ok(Box::new(Gradient {
        loss: Squared,
        ridge: options.ridge(),
        rates: options.learning_rates.clone(),
        update: options.update,
        reduce: options.reduce,
        rank: options.rank,
        biases: options.biases,
    }))
}

struct Gradient<L> {
    loss: L,
    ridge: Ridge,
    rates: Vec<f32>,
    update: Update,
    reduce: Reduce,
    rank: usize,
    biases: bool,
}

impl<L: Loss> Gradient<L> {
    /// What a loss counts in the cost.
    fn weight(&self, ratings: &dyn Ratings) -> f64 {
        match self.reduce {
            Reduce::Sum => 1.0,
            Reduce::Mean => 1.0 / ratings.shape().ratings as f64,
        }
    }

    fn step(&self, rate: f32, ratings: &dyn Ratings) -> Step<'_, L> {
        Step {
            method: self,
            rate,
            weight: self.weight(ratings) as f32,
        }
    }

    fn measured(&self, sums: RowSums, ratings: &dyn Ratings, std: f32) -> Measured {
        Measured {
            cost: sums.loss * self.weight(ratings) + sums.penalty,
            rmse: f64::from(std) * (sums.squared_error / ratings.shape().ratings as f64).sqrt(),
        }
    }
}

impl<L: Loss> Solver for Gradient<L> {
    fn epoch(
        &mut self,
        epoch: usize,
        ratings: &dyn Ratings,
        parameters: &mut Parameters,
        tick: Tick<'_>,
    ) -> Result<Measured> {
        let rate = *self
            .rates
            .get(epoch - 1)
            .unwrap_or(&self.rates[self.rates.len() - 1]);
        let backwards = epoch % 2 == 1;
        let step = self.step(rate, ratings);
        let (mean, std) = (parameters.mean, parameters.std);
        let Parameters { users, items, .. } = parameters;
        let go = |side, moving: &mut Factors, factors: &Factors, measure| {
            let fixed = Fixed::new(factors, mean, std);
            half_epoch(
                ratings, side, backwards, &step, moving, &fixed, measure, tick,
            )
        };
        match self.update {
            Update::Alternating => {
                let of_users = go(Side::Users, users, items, Measure::Penalty)?;
                let mut sums = go(Side::Items, items, users, Measure::All)?;
                sums.penalty += of_users.penalty;
                Ok(self.measured(sums, ratings, std))
            }
            Update::Simultaneous => {
                let mut stepped = users.clone();
                go(Side::Users, &mut stepped, items, Measure::Penalty)?;
                go(Side::Items, items, users, Measure::Penalty)?;
                *users = stepped;
                self.measure(ratings, parameters)
            }
        }
    }

    fn measure(&self, ratings: &dyn Ratings, parameters: &Parameters) -> Result<Measured> {
        let step = self.step(0.0, ratings);
        let sums =
            alternating::measure(ratings, &step, &parameters.users, &parameters.fixed_items())?;
        Ok(self.measured(sums, ratings, parameters.std))
    }

    fn memory(&self, shape: Shape, threads: usize) -> u64 {
        let copy = match self.update {
            Update::Simultaneous => Factors::bytes(shape.users, self.rank, self.biases),
            Update::Alternating => 0,
        };
        let sums = (alternating::PART * 8 + self.rank * 4) as u64;
        copy + sums * 3 * threads as u64
    }
}

/// One step at one rate.
struct Step<'a, L> {
    method: &'a Gradient<L>,
    rate: f32,
    weight: f32,
}

/// The gradient of a row's losses, not yet weighted.
struct Sums {
    factors: Vec<f32>,
    bias: f32,
    slopes: Vec<f32>,
}

impl<L: Loss> RowStep for Step<'_, L> {
    type Shared = ();
    type Sums = Sums;

    fn sums(&self) -> Sums {
        let stride = Factors::zeros(1, self.method.rank, false).stride();
        Sums {
            factors: vec![0.0; stride],
            bias: 0.0,
            slopes: Vec::new(),
        }
    }

    fn shared(&self, _fixed: &Fixed<'_>) {}

    fn begin(&self, sums: &mut Sums) {
        sums.factors.fill(0.0);
        sums.bias = 0.0;
    }

    fn accumulate(&self, own: Own<'_>, segment: Row<'_>, fixed: &Fixed<'_>, sums: &mut Sums) {
        sums.slopes.resize(segment.len(), 0.0);
        fixed.predict(own, segment, &mut sums.slopes);
        for (x, &rating) in sums.slopes.iter_mut().zip(segment.values) {
            *x = self.method.loss.slope(*x, fixed.target(rating));
            sums.bias += *x;
        }
        let other = fixed.factors;
        kernel::add_scaled_rows(
            fixed.isa,
            &sums.slopes,
            other.flat(),
            segment.cols,
            &mut sums.factors,
        );
    }

    fn merge(&self, next: &Sums, sums: &mut Sums) {
        for (x, y) in sums.factors.iter_mut().zip(&next.factors) {
            *x += y;
        }
        sums.bias += next.bias;
    }

    fn finish(
        &self,
        own: OwnMut<'_>,
        ratings: usize,
        _fixed: &Fixed<'_>,
        _shared: &(),
        sums: &mut Sums,
    ) -> Result<()> {
        let ridge = self.method.ridge.on_factors(ratings);
        for (x, gradient) in own.factors.iter_mut().zip(&sums.factors) {
            *x -= self.rate * (self.weight * gradient + ridge * *x);
        }
        if let Some(bias) = own.bias {
            let ridge = self.method.ridge.on_bias(ratings);
            *bias -= self.rate * (self.weight * sums.bias + ridge * *bias);
        }
        Ok(())
    }
}

impl<L: Loss> Cost for Step<'_, L> {
    fn loss(&self, prediction: f32, target: f32) -> f64 {
        self.method
            .loss
            .loss(f64::from(prediction), f64::from(target))
    }

    fn penalty(&self, own: Own<'_>, ratings: usize) -> f64 {
        self.method.ridge.penalty(own.factors, own.bias, ratings)
    }
}
