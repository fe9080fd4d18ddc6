//! Batch gradient descent, per user and per item.
//!
//! Objective: `reduce(loss) + sum (regularization * n_row + regularization_row) penalty(row)`, any loss and any penalty by
//! coordinate; the default is `1/2 |row|^2`.
//! The direction of a row is `-(weight * sum of slope * q + (regularization * n_row + regularization_row) * penalty'(row))`,
//! where the weight is 1, or 1 / n for the mean; that of the bias likewise with q = 1. A step goes along it by the learning
//! rate. Without a rate, for a loss of the form `c (p - r)^2` and the default penalty, the rate is exact: along a line the cost is a polynomial
//! of degree four, whose coefficients one pass gathers; and steps go along conjugate directions (`conjugate.rs`), which come
//! to the same RMSE in a small part of the epochs.
//! Cost: O(n d) flops for each side and epoch. Reads: by-user and by-item ratings once each (each row's direction is
//! gathered by the one task that owns the row: no buffers for item gradients, no races); by-user once more for the line
//! search. With a given rate the pass that measures the loss gathers the users' next directions from the same predictions.

use super::alternating::{self, half_epoch};
use super::conjugate::{self, Curvature};
use super::line_search::{Line, line_search};
use super::losses::{self, Chains, Errors, Losses};
use super::rates::Rates;
use super::row_step::{Cost, Fixed, Measure, Own, OwnMut, RowStep};
use super::sums::RowSums;
use super::sweep::sweep;
use super::{
    Direction, Learns, Measured, Method, Missing, Moving, Options, Parameters, Passes, Reduce,
    Ridge, Solver, Tick, Update,
};
use crate::error::{Error, ErrorKind, Result};
use crate::kernel;
use crate::loss::{self, Derived, Penalty};
use crate::matrix::{Factors, Ratings, Row, Shape, Side};

/// Gradient descent in the table of solvers.
pub const METHOD: Method = Method {
    name: "gradient",
    summary: "gradient descent, any loss: every row steps along its own gradient, all rows in parallel",
    regularization: 0.05,
    missing: &[Missing::Skip],
    monotone: false,
    any_regularizer: true,
    biases: true,
    factors: true,
    spills: false,
    learns: Learns::Ratings,
    searched: &[],
    suited: |options| Options {
        learning_rates: vec![0.02],
        epochs: 200,
        ..options
    },
    build: |options| {
        let loss = loss::named_or_formula(&options.loss)?;
        Ok(Box::new(Gradient::new(options, loss)?))
    },
};

/// Gradient descent on a loss.
pub struct Gradient {
    loss: Box<dyn Derived>,
    quadratic: Option<f64>,
    penalty: Penalty,
    ridge: Ridge,
    rates: Rates,
    momentum: f32,
    conjugate: bool,
    update: Update,
    reduce: Reduce,
    rank: usize,
    biases: bool,
}

/// Checks that there is a rate where the exact one is not known.
fn check_steps(
    options: &Options,
    rates: &Rates,
    quadratic: Option<f64>,
    penalty: &Penalty,
) -> Result<()> {
    let bad = |what: &str, remedy: &str| {
        Err(Error::new(ErrorKind::BadOption, what).remedy(remedy.to_owned()))
    };
    if rates.is_empty() {
        if quadratic.is_none() {
            return bad(
                "gradient descent on this loss needs a learning rate: only squares have an exact one",
                "give --learning-rate, such as 0.001, or --learning-rates, one for each epoch",
            );
        }
        if !penalty.is_l2() {
            return bad(
                "gradient descent with this regularizer needs a learning rate: only l2 has an exact one",
                "give --learning-rate, such as 0.001, or leave out --regularizer",
            );
        }
        if options.update == Update::Alternating {
            return bad(
                "alternating gradient descent needs a learning rate",
                "give --learning-rate, such as 0.001, or let both sides step at once",
            );
        }
    }
    if options.direction == Some(Direction::Conjugate)
        && !(rates.is_empty() && options.momentum == 0.0)
    {
        return bad(
            "conjugate directions go with exact steps",
            "leave out --learning-rate and --momentum, or --direction conjugate",
        );
    }
    if options.momentum > 0.0 && options.update == Update::Alternating {
        return bad(
            "momentum goes with simultaneous updates",
            "leave out --momentum, or --update alternating",
        );
    }
    Ok(())
}

impl Gradient {
    /// Gradient descent with these options on this loss, whatever loss the options name.
    ///
    /// # Errors
    /// If an option is out of range, or a learning rate is missing.
    pub fn new(options: &Options, loss: Box<dyn Derived>) -> Result<Gradient> {
        options.check()?;
        let quadratic = loss::quadratic(&*loss);
        let penalty = options.penalty()?;
        let rates = Rates::given(options)?;
        check_steps(options, &rates, quadratic, &penalty)?;
        let conjugate = rates.is_empty() && options.momentum == 0.0;
        Ok(Gradient {
            loss,
            quadratic,
            penalty,
            ridge: options.ridge(),
            rates,
            momentum: options.momentum,
            conjugate: conjugate && options.direction != Some(Direction::Steepest),
            update: options.update,
            reduce: options.reduce,
            rank: options.rank,
            biases: options.biases,
        })
    }

    /// What a loss counts in the cost.
    fn weight(&self, ratings: &dyn Ratings) -> f64 {
        match self.reduce {
            Reduce::Sum => 1.0,
            Reduce::Mean => 1.0 / ratings.shape().ratings as f64,
        }
    }

    fn curvature(&self, ratings: &dyn Ratings) -> Curvature {
        let factor = self.quadratic.expect("checked when the solver was built");
        Curvature {
            of_loss: (2.0 * factor * self.weight(ratings)) as f32,
            ridge: self.ridge,
        }
    }

    fn step(&self, goal: Goal, ratings: &dyn Ratings) -> Step<'_> {
        Step {
            method: self,
            goal,
            weight: self.weight(ratings) as f32,
        }
    }

    fn measured(&self, sums: RowSums, ratings: &dyn Ratings, std: f32) -> Measured {
        Measured {
            cost: sums.loss * self.weight(ratings) + sums.penalty,
            rmse: f64::from(std) * (sums.squared_error / ratings.shape().ratings as f64).sqrt(),
        }
    }

    /// The steepest descent of one side, and what is measured on the way.
    fn descent(
        &self,
        side: Side,
        goal: Goal,
        epoch: usize,
        ratings: &dyn Ratings,
        parameters: &Parameters,
        tick: Tick<'_>,
    ) -> Result<(Factors, RowSums)> {
        // A row's direction is gathered in the place of a copy of the row.
        let mut direction = parameters.side(side).clone();
        let fixed = Fixed::new(
            parameters.side(side.other()),
            parameters.mean,
            parameters.std,
        );
        let measure = match goal {
            Goal::MeasuredDirection => Measure::Before,
            Goal::Direction | Goal::Step(_) => Measure::Nothing,
        };
        let sums = half_epoch(
            ratings,
            side,
            epoch % 2 == 1,
            &self.step(goal, ratings),
            &mut direction,
            &fixed,
            measure,
            tick,
        )?;
        Ok((direction, sums))
    }

    /// Both sides step from the same point.
    fn step_at_once(
        &self,
        epoch: usize,
        ratings: &dyn Ratings,
        moving: &mut Moving,
        tick: Tick<'_>,
    ) -> Result<Measured> {
        let pairs = match (self.conjugate, self.momentum > 0.0) {
            (true, _) => 4,
            (false, true) => 2,
            (false, false) => 0,
        };
        let before = moving.take_carried(&[pairs, pairs + 1], self.rank, self.biases)?;
        let before = Before::of(before);
        let Moving {
            parameters,
            carried,
        } = moving;
        let descent = |side| {
            let goal = Goal::Direction;
            let descent = self.descent(side, goal, epoch, ratings, parameters, tick);
            descent.map(|(direction, _)| direction)
        };
        let mut line = Line {
            users: before.ahead.map_or_else(|| descent(Side::Users), Ok)?,
            items: descent(Side::Items)?,
        };
        let mut steepest = None;
        if self.conjugate {
            let curvature = self.curvature(ratings);
            let next = curvature.direction(ratings, parameters, &line, before.last)?;
            steepest = Some(std::mem::replace(&mut line, next));
        } else if let Ok([users, items]) = <[Factors; 2]>::try_from(before.last) {
            line.users.add_scaled(self.momentum, &users);
            line.items.add_scaled(self.momentum, &items);
        }
        let keep = |line: Line| match steepest {
            Some(steepest) => conjugate::carried(line, steepest),
            None if self.momentum > 0.0 => vec![line.users, line.items],
            None => Vec::new(),
        };
        let Some(rate) = self.rates.at(epoch) else {
            let measured = self.step_exactly(ratings, parameters, &line)?;
            *carried = keep(line);
            return Ok(measured);
        };
        parameters.users.add_scaled(rate, &line.users);
        parameters.items.add_scaled(rate, &line.items);
        *carried = keep(line);
        // What is predicted to measure the loss is what the users' next directions need.
        let goal = Goal::MeasuredDirection;
        let (ahead, mut sums) =
            self.descent(Side::Users, goal, epoch + 1, ratings, parameters, tick)?;
        let step = self.step(goal, ratings);
        sums.penalty += losses::penalty(ratings, &step, Side::Items, &parameters.items)?;
        carried.push(ahead);
        Ok(self.measured(sums, ratings, parameters.std))
    }

    /// Steps to the lowest point of a line.
    fn step_exactly(
        &self,
        ratings: &dyn Ratings,
        parameters: &mut Parameters,
        line: &Line,
    ) -> Result<Measured> {
        let factor = self.quadratic.expect("checked when the solver was built");
        let weight = self.weight(ratings) * factor;
        let found = line_search(ratings, parameters, line, self.ridge, weight)?;
        parameters.users.add_scaled(found.rate, &line.users);
        parameters.items.add_scaled(found.rate, &line.items);
        let sums = RowSums {
            loss: factor * found.squared_error,
            squared_error: found.squared_error,
            penalty: found.penalty,
        };
        Ok(self.measured(sums, ratings, parameters.std))
    }
}

/// What the epoch before has left.
struct Before {
    /// Users' directions of steepest descent where the parameters stand now, if they were gathered already.
    ahead: Option<Factors>,
    /// Its step, if there is momentum; what conjugate directions need of it.
    last: Vec<Factors>,
}

impl Before {
    /// Pairs of sides, and, last, the users' directions.
    fn of(mut carried: Vec<Factors>) -> Before {
        let ahead = match carried.len() % 2 {
            1 => carried.pop(),
            _ => None,
        };
        Before {
            ahead,
            last: carried,
        }
    }
}

impl Solver for Gradient {
    fn epoch(
        &self,
        epoch: usize,
        ratings: &dyn Ratings,
        moving: &mut Moving,
        tick: Tick<'_>,
    ) -> Result<Measured> {
        match (self.update, self.rates.at(epoch)) {
            (Update::Alternating, Some(rate)) => {
                let step = self.step(Goal::Step(rate), ratings);
                let parameters = &mut moving.parameters;
                let sums = sweep(&step, Side::Users, epoch, ratings, parameters, tick)?;
                Ok(self.measured(sums, ratings, parameters.std))
            }
            _ => self.step_at_once(epoch, ratings, moving, tick),
        }
    }

    fn measure(&self, ratings: &dyn Ratings, parameters: &Parameters) -> Result<Measured> {
        let step = self.step(Goal::Direction, ratings);
        let items = parameters.fixed_items();
        let sums = losses::measure(ratings, &step, &parameters.users, &items)?;
        Ok(self.measured(sums, ratings, parameters.std))
    }

    fn steadier(&self) -> Option<&'static str> {
        (self.update == Update::Simultaneous).then_some("--update alternating")
    }

    fn may_centre(&self) -> bool {
        loss::of_residual(&*self.loss)
    }

    /// Beside the gradients of both sides: at a given rate, the losses with the users' next gradient, and the penalty of items.
    /// An exact step searches its line, and asks for the lengths of all rows; so do conjugate directions, twice from the
    /// second epoch on.
    fn passes(&self, epoch: usize) -> Passes {
        if self.update == Update::Alternating {
            return Passes::of(1, 1);
        }
        let is_first = u64::from(epoch == 1);
        if !self.rates.is_empty() {
            return Passes::of(1 + is_first, 2);
        }
        let of_lengths = match self.conjugate {
            true => 2 - is_first,
            false => 0,
        };
        Passes::of(3 + of_lengths, 2 + of_lengths)
    }

    fn memory(&self, shape: Shape, threads: usize) -> u64 {
        let copies = match self.update {
            Update::Simultaneous if self.conjugate => 3,
            Update::Simultaneous if self.momentum > 0.0 => 2,
            Update::Simultaneous => 1,
            Update::Alternating => 0,
        };
        let sums = (3 * alternating::PART * 4 + self.rank * 4) as u64;
        copies * Parameters::bytes(shape, self.rank, self.biases) + sums * 3 * threads as u64
    }
}

/// What a row is replaced by.
#[derive(Debug, Clone, Copy)]
enum Goal {
    /// The row after a step at this rate.
    Step(f32),
    /// The direction of steepest descent.
    Direction,
    /// The same, and the losses on the way.
    MeasuredDirection,
}

struct Step<'a> {
    method: &'a Gradient,
    goal: Goal,
    weight: f32,
}

/// The gradient of a row's losses, not yet weighted.
struct Sums {
    factors: Vec<f32>,
    bias: f32,
    slopes: Vec<f32>,
    targets: Vec<f32>,
    losses: RowSums,
}

impl Step<'_> {
    fn measures(&self) -> bool {
        matches!(self.goal, Goal::MeasuredDirection)
    }
}

impl RowStep for Step<'_> {
    type Shared = ();
    type Sums = Sums;

    fn sums(&self) -> Sums {
        let stride = Factors::zeros(1, self.method.rank, false).stride();
        Sums {
            factors: vec![0.0; stride],
            bias: 0.0,
            slopes: Vec::new(),
            targets: Vec::new(),
            losses: RowSums::default(),
        }
    }

    fn shared(&self, _fixed: &Fixed<'_>) {}

    fn begin(&self, sums: &mut Sums) {
        sums.factors.fill(0.0);
        sums.bias = 0.0;
        sums.losses = RowSums::default();
    }

    fn accumulate(&self, own: Own<'_>, segment: Row<'_>, fixed: &Fixed<'_>, sums: &mut Sums) {
        let slopes = &mut sums.slopes;
        slopes.resize(segment.len(), 0.0);
        // Squares are common, and a row's residuals and their sum take one visit.
        if let Some(factor) = self.method.quadratic {
            fixed.targets(own, segment, slopes);
            let twice = 2.0 * factor as f32;
            let other = fixed.factors.flat();
            let sum = &mut sums.factors;
            kernel::add_residual_rows(
                fixed.isa,
                own.factors,
                other,
                segment.cols,
                twice,
                slopes,
                sum,
            );
            if fixed.factors.has_biases() {
                sums.bias += twice * slopes.iter().sum::<f32>();
            }
            if self.measures() {
                let squared_error = losses::sum_of_squares(slopes);
                sums.losses.add(RowSums {
                    loss: factor * squared_error,
                    squared_error,
                    penalty: 0.0,
                });
            }
            return;
        }
        fixed.predict(own, segment, slopes);
        if self.measures() {
            let mut chains = Chains::default();
            Losses(self).add(fixed, slopes, segment.values, &mut chains);
            sums.losses.add(chains.sum());
        }
        let targets = &mut sums.targets;
        targets.clear();
        targets.extend(segment.values.iter().map(|&rating| fixed.target(rating)));
        self.method.loss.slopes(slopes, targets);
        sums.bias += slopes.iter().sum::<f32>();
        kernel::add_scaled_rows(
            fixed.isa,
            slopes,
            fixed.factors.flat(),
            segment.cols,
            &mut sums.factors,
        );
    }

    fn merge(&self, next: &Sums, sums: &mut Sums) {
        for (x, y) in sums.factors.iter_mut().zip(&next.factors) {
            *x += y;
        }
        sums.bias += next.bias;
        sums.losses.add(next.losses);
    }

    fn losses(&self, own: Own<'_>, ratings: usize, sums: &Sums) -> Option<RowSums> {
        self.measures().then(|| RowSums {
            penalty: self.penalty(own, ratings),
            ..sums.losses
        })
    }

    fn finish(
        &self,
        own: OwnMut<'_>,
        ratings: usize,
        _fixed: &Fixed<'_>,
        _shared: &(),
        sums: &mut Sums,
    ) -> Result<()> {
        let rank = self.method.rank;
        let slopes = &mut sums.slopes;
        slopes.clear();
        slopes.extend_from_slice(&own.factors[..rank]);
        slopes.extend(own.bias.as_deref());
        self.method.penalty.slopes(slopes);
        let place = |x: &mut f32, gradient: f32, ridge: f32, slope: f32| {
            let direction = -(self.weight * gradient + ridge * slope);
            *x = match self.goal {
                Goal::Step(rate) => *x + rate * direction,
                Goal::Direction | Goal::MeasuredDirection => direction,
            };
        };
        let ridge = self.method.ridge.on_factors(ratings);
        let factors = own.factors[..rank].iter_mut().zip(&sums.factors);
        for ((x, gradient), slope) in factors.zip(&*slopes) {
            place(x, *gradient, ridge, *slope);
        }
        if let Some(bias) = own.bias {
            place(
                bias,
                sums.bias,
                self.method.ridge.on_bias(ratings),
                slopes[rank],
            );
        }
        Ok(())
    }

    fn cost(&self) -> &impl Cost {
        self
    }
}

impl Cost for Step<'_> {
    #[inline(always)]
    fn loss(&self, prediction: f32, target: f32) -> f64 {
        match self.method.quadratic {
            Some(factor) => factor * (f64::from(prediction) - f64::from(target)).powi(2),
            None => self.method.loss.value(prediction.into(), target.into()),
        }
    }

    fn penalty(&self, own: Own<'_>, ratings: usize) -> f64 {
        let Gradient {
            ridge,
            penalty,
            rank,
            biases,
            ..
        } = self.method;
        if penalty.is_l2() {
            return ridge.penalty(own.factors, own.bias, ratings);
        }
        let mut cost = f64::from(ridge.on_factors(ratings)) * penalty.sum(&own.factors[..*rank]);
        if *biases {
            cost += f64::from(ridge.on_bias(ratings)) * penalty.value(own.bias.into());
        }
        cost
    }
}
