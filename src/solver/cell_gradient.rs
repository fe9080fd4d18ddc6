//! Gradient descent by cells: gradients averaged over a row, factor by factor.
//!
//! Objective: the sum of losses, over what is rated or over all cells, and the ridge (none by default). A factor moves
//! by the learning rate against the mean over the row's cells of `loss' q_f`, and the row's next factor sees the change;
//! the bias is one more factor with q = 1. Users move first, then items on the users' new values. The ridge's slope is
//! averaged with the rest, so that a step goes down the objective.
//! Where missing cells count as zero, the loss is `c (p - r)^2`, and what all cells of a row contribute is
//! `2 c (G p - sum r q)` with the other side's Gram matrix `G = sum q q^T`: nothing dense is formed. The cost of all cells
//! is `c (<G_users, G_items> + sum over ratings of r (r - 2 p))`.
//! Cost: about 6 n k flop a side and a call of the loss for each rating and factor, or 2 n k flop and k^2 for each row where
//! missing cells count. Reads: by-user and by-item ratings once each, and one row of the fixed side once or twice for
//! each rating.

use super::gram::{self, gram};
use super::rates::Rates;
use super::row_step::{Cost, Fixed, Own, OwnMut};
use super::whole::{Room, Whole, WholeRow, padded, transpose};
use super::{
    Learns, Measured, Method, Missing, Moving, Options, Parameters, Reduce, Ridge, Solver, Tick,
    sweep,
};
use crate::error::{Error, ErrorKind, Result};
use crate::kernel::{self, LANES};
use crate::loss::{self, Derived};
use crate::matrix::{Ratings, Row, Shape, Side};

/// Gradient descent by cells in the table of solvers.
pub const METHOD: Method = Method {
    name: "cell-gradient",
    summary: "gradients averaged over each row, factor by factor, users first; missing cells may count as zero",
    regularization: 0.0,
    missing: &[Missing::Skip, Missing::Zero],
    monotone: false,
    any_regularizer: false,
    biases: true,
    factors: true,
    spills: false,
    learns: Learns::Ratings,
    searched: &[],
    suited: |options| Options {
        learning_rates: vec![0.2],
        epochs: 200,
        ..options
    },
    build,
};

fn build(options: &Options) -> Result<Box<dyn Solver>> {
    let bad = |what: &str, remedy: &str| {
        Err(Error::new(ErrorKind::BadOption, what).remedy(remedy.to_owned()))
    };
    let rates = Rates::given(options)?;
    if rates.is_empty() {
        return bad(
            "gradient descent by cells needs a learning rate",
            "give --learning-rate, such as 0.1, or --learning-rates, one for each epoch",
        );
    }
    if options.reduce == Reduce::Mean {
        return bad(
            "gradient descent by cells averages over each row by itself",
            "leave out --reduce, or use --solver gradient",
        );
    }
    if options.momentum > 0.0 {
        return bad(
            "gradient descent by cells has no momentum",
            "leave out --momentum, or use --solver gradient",
        );
    }
    let loss = loss::named_or_formula(&options.loss)?;
    let zeros = match (options.missing, loss::quadratic(&*loss)) {
        (None | Some(Missing::Skip), _) => None,
        (Some(Missing::Zero), None) => {
            return bad(
                "missing cells can count as zero only for the squared loss or a multiple of it",
                "give --loss squared or --loss '(p-r)^2', or leave out --missing",
            );
        }
        (Some(Missing::Zero), Some(_)) if options.biases || options.normalize => {
            return bad(
                "where missing cells count as zero, a mean of what is rated means nothing",
                "give --no-biases, and no --normalize",
            );
        }
        (Some(Missing::Zero), factor) => factor,
    };
    Ok(Box::new(CellGradient {
        loss,
        zeros,
        ridge: options.ridge(),
        rates,
        rank: options.rank,
    }))
}

struct CellGradient {
    loss: Box<dyn Derived>,
    /// The factor c of the loss where missing cells count as zero.
    zeros: Option<f64>,
    ridge: Ridge,
    rates: Rates,
    rank: usize,
}

impl CellGradient {
    fn step(&self, rate: f32) -> Whole<Step<'_>> {
        Whole(Step { method: self, rate })
    }

    /// Adds what all cells would cost if every rating were zero.
    fn with_zeros(&self, measured: Measured, parameters: &Parameters) -> Measured {
        let zeros = self.zeros.map_or(0.0, |factor| {
            factor * gram::inner(&gram(&parameters.users), &gram(&parameters.items))
        });
        Measured {
            cost: measured.cost + zeros,
            ..measured
        }
    }
}

impl Solver for CellGradient {
    fn epoch(
        &self,
        epoch: usize,
        ratings: &dyn Ratings,
        moving: &mut Moving,
        tick: Tick<'_>,
    ) -> Result<Measured> {
        let rate = self.rates.at(epoch);
        let step = self.step(rate.expect("checked when the solver was built"));
        let parameters = &mut moving.parameters;
        let sums = sweep::sweep(&step, Side::Users, epoch, ratings, parameters, tick)?;
        let measured = sweep::measured(sums, ratings, parameters.std);
        Ok(self.with_zeros(measured, parameters))
    }

    fn measure(&self, ratings: &dyn Ratings, parameters: &Parameters) -> Result<Measured> {
        let measured = sweep::measure(&self.step(0.0).0, ratings, parameters)?;
        Ok(self.with_zeros(measured, parameters))
    }

    fn memory(&self, shape: Shape, threads: usize) -> u64 {
        let grams = self.zeros.map_or(0, |_| {
            gram::memory(self.rank, threads) + gram::memory(self.rank, 0)
        });
        self.step(0.0).memory(shape, threads) + grams
    }
}

/// The step of one epoch.
struct Step<'a> {
    method: &'a CellGradient,
    rate: f32,
}

impl Step<'_> {
    /// Steps by what is rated.
    fn skip(&self, own: OwnMut<'_>, targets: Row<'_>, fixed: &Fixed<'_>, room: &mut [f32]) {
        let CellGradient {
            loss, ridge, rank, ..
        } = self.method;
        let ratings = targets.len();
        let cells = ratings.max(1) as f32;
        let (predictions, rest) = room.split_at_mut(padded(ratings));
        let (slopes, factors) = rest.split_at_mut(padded(ratings));
        predictions[ratings..].fill(0.0);
        fixed.predict(own.as_ref(), targets, &mut predictions[..ratings]);
        let mut slopes_at = |predictions: &[f32], q: Option<&[f32]>| -> f32 {
            slopes.copy_from_slice(predictions);
            loss.slopes(&mut slopes[..ratings], targets.values);
            match q {
                Some(q) => kernel::dot(fixed.isa, slopes, q),
                None => slopes.iter().copied().map(f64::from).sum::<f64>() as f32,
            }
        };
        let on_factors = ridge.on_factors(ratings);
        for first in (0..*rank).step_by(LANES) {
            transpose(fixed, targets.cols, first, factors);
            let mut qs = factors.chunks_exact(predictions.len().max(1));
            for p in own.factors[..*rank][first..].iter_mut().take(LANES) {
                let q = qs.next().unwrap_or_default();
                let gradient = slopes_at(predictions, Some(q)) + on_factors * *p;
                let delta = -self.rate * gradient / cells;
                *p += delta;
                for (x, q) in predictions.iter_mut().zip(q) {
                    *x += delta * q;
                }
            }
        }
        if let Some(bias) = own.bias {
            let gradient = slopes_at(predictions, None) + ridge.on_bias(ratings) * *bias;
            *bias -= self.rate * gradient / cells;
        }
    }

    /// Steps by all cells, given the other side's Gram matrix and the factor of the loss.
    fn zero(
        &self,
        own: OwnMut<'_>,
        targets: Row<'_>,
        fixed: &Fixed<'_>,
        (gram, factor): (&[f64], f64),
        rated: &mut [f32],
    ) {
        let rank = self.method.rank;
        let cells = fixed.factors.rows() as f64;
        let ridge = f64::from(self.method.ridge.on_factors(targets.len()));
        let flat = fixed.factors.flat();
        rated.fill(0.0);
        kernel::add_scaled_rows(fixed.isa, targets.values, flat, targets.cols, rated);
        for (f, of_factor) in gram.chunks_exact(rank).enumerate() {
            let products = of_factor.iter().zip(&*own.factors);
            let all: f64 = products.map(|(g, &p)| g * f64::from(p)).sum();
            let p = f64::from(own.factors[f]);
            let gradient = 2.0 * factor * (all - f64::from(rated[f])) + ridge * p;
            own.factors[f] = (p - f64::from(self.rate) * gradient / cells) as f32;
        }
    }
}

impl WholeRow for Step<'_> {
    /// The other side's Gram matrix, where missing cells count.
    type Shared = Option<Vec<f64>>;

    fn cost(&self) -> &impl Cost {
        self
    }

    fn room(&self) -> [usize; 2] {
        match self.method.zeros {
            Some(_) => [0, self.method.rank.next_multiple_of(LANES)],
            None => [2 + LANES, 0],
        }
    }

    fn shared(&self, fixed: &Fixed<'_>) -> Option<Vec<f64>> {
        self.method.zeros.map(|_| gram(fixed.factors))
    }

    fn solve(
        &self,
        own: OwnMut<'_>,
        targets: Row<'_>,
        fixed: &Fixed<'_>,
        gram: &Option<Vec<f64>>,
        room: Room<'_>,
    ) -> Result<()> {
        match (gram, self.method.zeros) {
            (Some(gram), Some(factor)) => {
                self.zero(own, targets, fixed, (gram, factor), room.beside);
            }
            _ => self.skip(own, targets, fixed, room.by_rating),
        }
        Ok(())
    }
}

impl Cost for Step<'_> {
    #[inline(always)]
    fn loss(&self, prediction: f32, target: f32) -> f64 {
        let (p, r) = (f64::from(prediction), f64::from(target));
        match self.method.zeros {
            // What a rating costs beyond a zero in its place.
            Some(factor) => factor * r * (r - 2.0 * p),
            None => self.method.loss.value(p, r),
        }
    }

    fn penalty(&self, own: Own<'_>, ratings: usize) -> f64 {
        let ridge = &self.method.ridge;
        ridge.penalty(own.factors, own.bias, ratings)
    }
}
