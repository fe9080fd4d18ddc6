//! Stochastic gradient descent.
//!
//! Objective: `sum (loss(prediction, rating) + 1/2 ridge_u |p_u|^2 + 1/2 ridge_i |q_i|^2)`, any loss, where the ridge of a
//! row is `regularization + regularization_row / n_row` for each of its ratings: the same cost as that of the other
//! methods. Each rating moves its two rows along its own part of the gradient, from where both stood.
//! Losses and errors of an epoch are those of the ratings as they were met, each before its own step, so that no second
//! pass has to measure them; the penalty is that of the rows after the epoch.
//! Steps are plain, or adapt (AdaGrad of Duchi, Hazan, Singer, JMLR 2011) with one sum of squared gradients a row, as in
//! Chin, Zhuang, Juan, Lin: A learning-rate schedule for stochastic gradient methods to matrix factorization, PAKDD 2015.
//! Ratings come in waves of disjoint tiles (Gemulla, Nijkamp, Haas, Sismanis, KDD 2011).
//! Cost: 8 n k flops an epoch. Reads: 5 bytes and two rows a rating.

use std::sync::OnceLock;

use super::alternating;
use super::losses;
use super::rates::Rates;
use super::row_step::{Cost, Own};
use super::stochastic::{self, Band, Bands, Update};
use super::{
    Learns, Measured, Method, Missing, Moving, Options, Parameters, Passes, Reduce, Ridge, RowSums,
    Solver, Step, Tick,
};
use crate::error::{Error, ErrorKind, Result};
use crate::kernel::{self, Isa, SgdRatings, SgdRow, SgdRows, SgdSlope, SgdStep};
use crate::loss::{self, Derived};
use crate::matrix::{Census, Factors, Ratings, Shape, Side, Tile, Tiles};

/// Stochastic gradient descent in the table of solvers.
pub const METHOD: Method = Method {
    name: "sgd",
    summary: "stochastic gradient descent, any loss: both rows of a rating step, tiles of ratings in parallel",
    regularization: 0.05,
    missing: &[Missing::Skip],
    monotone: false,
    any_regularizer: false,
    biases: true,
    factors: true,
    spills: false,
    learns: Learns::Ratings,
    searched: &[("learning-rate", 0.05, 0.5)],
    suited: |options| Options {
        epochs: 60,
        ..options
    },
    build,
};

/// Learning rates that need no choice on ratings of one to five stars.
const ADAGRAD_RATE: f32 = 0.2;
const PLAIN_RATE: f32 = 0.02;

/// What the sums of squared gradients start from, so that the first steps are no longer than the rate.
const FIRST_SQUARES: f32 = 1.0;

fn build(options: &Options) -> Result<Box<dyn Solver>> {
    let bad = |what: &str, remedy: &str| {
        Err(Error::new(ErrorKind::BadOption, what).remedy(remedy.to_owned()))
    };
    if options.reduce == Reduce::Mean {
        return bad(
            "stochastic gradient descent minimises the sum of the losses, not their mean",
            "leave out --reduce, or use --solver gradient",
        );
    }
    if options.momentum > 0.0 {
        return bad(
            "stochastic gradient descent has no momentum",
            "leave out --momentum, or use --solver gradient",
        );
    }
    let loss = loss::named_or_formula(&options.loss)?;
    Ok(Box::new(Sgd {
        quadratic: loss::quadratic(&*loss),
        loss,
        ridge: options.ridge(),
        rates: Rates::given(options)?,
        step: options.step,
        seed: options.seed,
        rank: options.rank,
        biases: options.biases,
        tiles: OnceLock::new(),
    }))
}

struct Sgd {
    loss: Box<dyn Derived>,
    quadratic: Option<f64>,
    ridge: Ridge,
    rates: Rates,
    step: Step,
    seed: u64,
    rank: usize,
    biases: bool,
    /// The training ratings in another layout, made when first needed.
    tiles: OnceLock<Box<dyn Tiles>>,
}

impl Sgd {
    fn tiles(&self, ratings: &dyn Ratings) -> Result<&dyn Tiles> {
        if let Some(tiles) = self.tiles.get() {
            return Ok(&**tiles);
        }
        let tiles = ratings.tiles()?;
        Ok(&**self.tiles.get_or_init(|| tiles))
    }

    fn rate(&self, epoch: usize) -> f32 {
        let default = match self.step {
            Step::Adagrad => ADAGRAD_RATE,
            Step::Plain => PLAIN_RATE,
        };
        let given = self.rates.at(epoch);
        given.unwrap_or_else(|| self.rates.decayed(default, epoch))
    }

    /// The rows of one side in bands. `carried` holds the squared gradients of the epochs before, if there were any.
    fn deal(
        &self,
        tiles: &dyn Tiles,
        side: Side,
        factors: &Factors,
        carried: Option<Factors>,
    ) -> Bands<SgdRow> {
        let counts = tiles.counts(side);
        Bands::deal(tiles.grid(), side, factors, |row| {
            let squares = carried.as_ref().map_or([FIRST_SQUARES; 2], |carried| {
                [carried.row(row)[0], carried.bias(row)]
            });
            let own = factors.padded_row(row);
            let length = kernel::dot(Isa::best(), own, own);
            SgdRow::new(counts[row], factors.bias(row), squares, length)
        })
    }

    /// Puts rows back, and gives the squared gradients to be carried over.
    fn collect(&self, bands: &Bands<SgdRow>, factors: &mut Factors) -> Factors {
        bands.collect(factors);
        for (bias, row) in factors.biases_mut().iter_mut().zip(bands.rows()) {
            *bias = row.bias();
        }
        let mut carried = Factors::zeros(factors.rows(), 1, true);
        for (at, row) in bands.rows().enumerate() {
            let [squares, bias_squares] = row.squares();
            carried.row_mut(at)[0] = squares;
            carried.biases_mut()[at] = bias_squares;
        }
        carried
    }

    fn measured(&self, sums: RowSums, parameters: &Parameters, ratings: u64) -> Measured {
        let mean_square = sums.squared_error / ratings as f64;
        Measured {
            cost: sums.loss + sums.penalty,
            rmse: f64::from(parameters.std) * mean_square.sqrt(),
        }
    }
}

impl Solver for Sgd {
    fn epoch(
        &self,
        epoch: usize,
        ratings: &dyn Ratings,
        moving: &mut Moving,
        tick: Tick<'_>,
    ) -> Result<Measured> {
        let mut carried = moving.take_carried(&[2], 1, true)?.into_iter();
        let (of_users, of_items) = (carried.next(), carried.next());
        let tiles = self.tiles(ratings)?;
        let parameters = &mut moving.parameters;
        let mut users = self.deal(tiles, Side::Users, &parameters.users, of_users);
        let mut items = self.deal(tiles, Side::Items, &parameters.items, of_items);
        let update = Rating {
            method: self,
            isa: Isa::best(),
            rate: self.rate(epoch),
            mean: parameters.mean,
            scale: 1.0 / parameters.std,
        };
        let mut sums = stochastic::epoch(
            (self.seed, epoch),
            tiles,
            &update,
            &mut users,
            &mut items,
            tick,
        )?;
        let carried = [
            self.collect(&users, &mut parameters.users),
            self.collect(&items, &mut parameters.items),
        ];
        if self.step == Step::Adagrad {
            moving.carried = carried.into();
        }
        drop((users, items));
        for side in [Side::Users, Side::Items] {
            let (factors, counts) = (parameters.side(side), tiles.counts(side));
            sums.add(alternating::sum_over(factors.rows(), |row| RowSums {
                penalty: self.penalty(Own::of(factors, row), counts[row] as usize),
                ..RowSums::default()
            }));
        }
        Ok(self.measured(sums, parameters, ratings.shape().ratings))
    }

    fn measure(&self, ratings: &dyn Ratings, parameters: &Parameters) -> Result<Measured> {
        let items = parameters.fixed_items();
        let sums = losses::measure(ratings, self, &parameters.users, &items)?;
        Ok(self.measured(sums, parameters, ratings.shape().ratings))
    }

    fn passes(&self, _epoch: usize) -> Passes {
        Passes {
            tiles: 1,
            ..Passes::default()
        }
    }

    fn ticks(&self) -> u64 {
        1
    }

    fn memory(&self, shape: Shape, threads: usize) -> u64 {
        let rows = (shape.users + shape.items) as u64;
        let bands = Parameters::bytes(shape, self.rank, false) + rows * size_of::<SgdRow>() as u64;
        let carried = Parameters::bytes(shape, 1, true);
        let predictions = (threads * shape.items.max(alternating::PART) * 4) as u64;
        Census::bytes(shape, threads) + bands + carried + predictions
    }
}

impl Cost for Sgd {
    #[inline(always)]
    fn loss(&self, prediction: f32, target: f32) -> f64 {
        self.loss.value(prediction.into(), target.into())
    }

    fn penalty(&self, own: Own<'_>, ratings: usize) -> f64 {
        self.ridge.penalty(own.factors, own.bias, ratings)
    }
}

/// What one rating does in an epoch.
struct Rating<'a> {
    method: &'a Sgd,
    isa: Isa,
    rate: f32,
    mean: f32,
    scale: f32,
}

impl Update for Rating<'_> {
    type Row = SgdRow;

    fn update(
        &self,
        tile: Tile<'_>,
        users: &mut Band<SgdRow>,
        items: &mut Band<SgdRow>,
    ) -> RowSums {
        let mut targets = Vec::with_capacity(tile.values.len());
        let target = |rating| (rating - self.mean) * self.scale;
        tile.values.map_into(target, &mut targets);
        let ratings = SgdRatings {
            users: tile.users,
            items: tile.items,
            targets: &targets,
            in_turns: tile.in_turns,
        };
        let method = self.method;
        let [ridge, bias_ridge] = method.ridge.parts();
        let step = SgdStep {
            rate: self.rate,
            adaptive: method.step == Step::Adagrad,
            biases: method.biases,
            ridge,
            bias_ridge,
            rank: method.rank,
        };
        let (users, items) = (rows(users), rows(items));
        let run = |slope| kernel::sgd(self.isa, ratings, users, items, step, slope);
        let (mut loss, squared_error);
        match method.quadratic {
            Some(factor) => {
                squared_error = run(SgdSlope::Squares(2.0 * factor as f32));
                loss = factor * squared_error;
            }
            None => {
                loss = 0.0;
                squared_error = run(SgdSlope::Any(&mut |prediction, target| {
                    let [value, slope, _] = method.loss.taylor(prediction.into(), target.into());
                    loss += value;
                    slope as f32
                }));
            }
        }
        RowSums {
            loss,
            squared_error,
            penalty: 0.0,
        }
    }
}

fn rows(band: &mut Band<SgdRow>) -> SgdRows<'_> {
    SgdRows {
        flat: band.factors.flat_mut(),
        rows: &mut band.rows,
    }
}
