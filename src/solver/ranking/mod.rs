//! Rankings from what was taken: sampled objectives, which hold a user's positives against items drawn from the whole catalogue.
//!
//! What a rating says counts for nothing: it is a positive. How positives and negatives are weighed is what the files beside this one differ
//! in; batches and steps are the driver's, [`minibatch`](super::minibatch). Every row steps by AdaGrad with one sum of squared
//! gradients a row, which lies in `Moving::carried` from epoch to epoch. The cost of an epoch
//! is what its batches met, each before its own step, as it is of stochastic steps: no second pass is needed to measure. To it comes
//! `1/2 regularization * n_row |row|^2` for each row of n positives. Measured apart, where nothing moves, it is that of one fixed draw.

mod bpr;
mod ccl;
mod logistic;
mod softmax;
mod warp;

use super::alternating::PART;
use super::losses;
use super::minibatch::{self, Batching, Contrast, Draws, MiniBatches, Moving as Rows, Steps};
use super::rates::Rates;
use super::row_step::{Cost, Fixed, Own};
use super::{
    Init, Learns, Measured, Method, Missing, Moving, Options, Parameters, Passes, Reduce, Ridge,
    RowSums, Solver, Tick,
};
use crate::error::{Error, ErrorKind, Result};
use crate::kernel::Isa;
use crate::matrix::{Factors, Ratings, Shape};

pub use bpr::METHOD as BPR;
pub use ccl::METHOD as CCL;
pub use logistic::METHOD as LOGISTIC;
pub use softmax::METHOD as SOFTMAX;
pub use warp::METHOD as WARP;

/// Users of a batch, where neither the method nor an option gives another number.
const USERS: usize = 512;

/// The most positives of a visit, where it costs little: a user with more is met, and steps, several times in an epoch.
const POSITIVES: usize = 8;

/// A solver, from its contrast.
struct Sampled<C> {
    contrast: C,
    batching: Batching,
    rates: Rates,
    default_rate: f32,
    ridge: Ridge,
    unit: bool,
    dropout: f32,
    seed: u64,
    rank: usize,
    epochs: usize,
}

/// A line of the table of solvers, for a method with a ridge for each positive.
const fn by_positives(
    name: &'static str,
    summary: &'static str,
    regularization: f32,
    build: fn(&Options) -> Result<Box<dyn Solver>>,
) -> Method {
    Method {
        name,
        summary,
        regularization,
        missing: &[Missing::Zero],
        monotone: false,
        any_regularizer: false,
        biases: true,
        factors: true,
        spills: false,
        learns: Learns::Preferences,
        searched: &[("learning-rate", 0.03, 0.3)],
        suited: |options| Options {
            positive_at: Some(4.0),
            epochs: 60,
            ..options
        },
        build,
    }
}

/// What a method says of itself.
struct Sampling<C> {
    contrast: C,
    /// Users of a batch, where no other number is given.
    users: usize,
    /// The most positives of a visit.
    positives: usize,
    /// The most pairs that a positive leads to, those with shared negatives apart.
    pairs: usize,
    /// The learning rate, where none is given.
    rate: f32,
    /// Whether rows are kept at length 1.
    unit: bool,
}

/// Checks the options that all these methods have in common, and makes a solver.
fn boxed<C: Contrast + Send + 'static>(
    name: &str,
    options: &Options,
    sampling: Sampling<C>,
) -> Result<Box<dyn Solver>> {
    let bad = |what: &str, remedy: &str| {
        Err(Error::new(ErrorKind::BadOption, format!("{name} {what}")).remedy(remedy.to_owned()))
    };
    if options.loss != "squared" {
        return bad("has a loss of its own", "leave out --loss");
    }
    if options.normalize {
        return bad(
            "learns who takes what, not how it is rated",
            "leave out --normalize",
        );
    }
    if options.momentum > 0.0 {
        return bad("has no momentum", "leave out --momentum");
    }
    if options.reduce == Reduce::Mean {
        return bad(
            "minimises the sum of the losses, not their mean",
            "leave out --reduce",
        );
    }
    if options.regularization_row > 0.0 || options.bias_regularization_row.is_some_and(|x| x > 0.0)
    {
        return bad(
            "has a ridge for each positive, and none for each row",
            "leave out --regularization-row and --bias-regularization-row",
        );
    }
    let users = options.batch_size.unwrap_or(sampling.users);
    Ok(Box::new(Sampled {
        contrast: sampling.contrast,
        batching: Batching {
            users,
            positives: sampling.positives,
            pairs: sampling.pairs,
        },
        rates: Rates::given(options)?,
        default_rate: sampling.rate,
        ridge: options.ridge(),
        unit: sampling.unit,
        dropout: options.dropout,
        seed: options.seed,
        rank: options.rank,
        epochs: options.epochs,
    }))
}

impl<C: Contrast> Sampled<C> {
    fn minibatches(&self, epoch: usize, alone: bool) -> MiniBatches<'_, C> {
        MiniBatches {
            contrast: &self.contrast,
            batching: self.batching,
            // What is measured is measured of whole rows.
            dropout: if epoch > 0 { self.dropout } else { 0.0 },
            draws: Draws {
                seed: self.seed,
                epoch,
                alone,
            },
            isa: Isa::best(),
        }
    }

    fn steps(&self, epoch: usize) -> Steps {
        Steps {
            rate: self
                .rates
                .at(epoch)
                .unwrap_or_else(|| self.rates.decayed(self.default_rate, epoch)),
            ridge: self.ridge,
            unit: self.unit,
            biases: true,
        }
    }
}

impl<C: Contrast + Send> Solver for Sampled<C> {
    fn check(&self, _options: &Options, _ratings: &dyn Ratings, _start: &Parameters) -> Result<()> {
        Ok(())
    }

    fn init(&self) -> Init {
        match self.unit {
            true => Init::UnitRows,
            false => Init::Gaussian,
        }
    }

    fn epoch(
        &self,
        epoch: usize,
        ratings: &dyn Ratings,
        moving: &mut Moving,
        tick: Tick<'_>,
    ) -> Result<Measured> {
        let biases = moving.parameters.items.has_biases();
        let carried = <[Factors; 2]>::try_from(moving.take_carried(&[2], 1, biases)?);
        let Parameters { users, items, .. } = &mut moving.parameters;
        let [mut of_users, mut of_items] = carried.unwrap_or_else(|_| {
            if self.unit {
                normalize(users);
                normalize(items);
            }
            [&*users, &*items].map(|side| Factors::zeros(side.rows(), 1, side.has_biases()))
        });
        let users = Rows {
            factors: users,
            squares: &mut of_users,
        };
        let items = Rows {
            factors: items,
            squares: &mut of_items,
        };
        let steps = self.steps(epoch);
        let minibatches = self.minibatches(epoch, false);
        let sums = minibatches.epoch(ratings, steps, users, items, tick)?;
        moving.carried = vec![of_users, of_items];
        Ok(measured(sums, ratings))
    }

    fn measure(&self, ratings: &dyn Ratings, parameters: &Parameters) -> Result<Measured> {
        let Parameters { users, items, .. } = parameters;
        let mut sums = losses::measure(ratings, self, users, &parameters.fixed_items())?;
        sums.loss += self.minibatches(0, false).loss(ratings, users, items)?;
        Ok(measured(sums, ratings))
    }

    /// As many steps of the user's row as in training, each epoch over all positives.
    fn fold_in(
        &self,
        ratings: &dyn Ratings,
        _trained: Option<&dyn Ratings>,
        items: &Fixed<'_>,
        users: &mut Factors,
    ) -> Result<()> {
        let mut squares = Factors::zeros(users.rows(), 1, users.has_biases());
        for epoch in 1..=self.epochs {
            let mut minibatches = self.minibatches(epoch, true);
            if epoch == 1 {
                // Of a row of zeros nothing would be left.
                minibatches.dropout = 0.0;
            }
            let users = Rows {
                factors: users,
                squares: &mut squares,
            };
            minibatches.fold_in(ratings, self.steps(epoch), users, items.factors)?;
        }
        Ok(())
    }

    fn fold_in_memory(&self, shape: Shape, threads: usize) -> u64 {
        let batching = minibatch::fold_in_batching(self.batching, shape);
        Factors::bytes(shape.users, 1, true)
            + minibatch::memory(&self.contrast, shape, self.rank, batching, threads)
    }

    fn memory(&self, shape: Shape, threads: usize) -> u64 {
        let predictions = (threads * shape.items.max(PART) * 4) as u64;
        Parameters::bytes(shape, 1, true)
            + minibatch::memory(&self.contrast, shape, self.rank, self.batching, threads)
            + predictions
    }

    fn may_centre(&self) -> bool {
        false
    }

    fn passes(&self, _epoch: usize) -> Passes {
        Passes::of(1, 0)
    }

    /// Measuring takes the draws of the loss, and the errors and penalties apart from them.
    fn passes_before(&self) -> Passes {
        Passes::of(2, 1)
    }

    fn ticks(&self) -> u64 {
        1
    }
}

fn measured(sums: RowSums, ratings: &dyn Ratings) -> Measured {
    Measured {
        cost: sums.loss + sums.penalty,
        rmse: (sums.squared_error / ratings.shape().ratings as f64).sqrt(),
    }
}

impl<C: Contrast> Cost for Sampled<C> {
    /// Losses need pairs, and are the driver's.
    fn loss(&self, _prediction: f32, _target: f32) -> f64 {
        0.0
    }

    fn penalty(&self, own: Own<'_>, ratings: usize) -> f64 {
        self.ridge.penalty(own.factors, own.bias, ratings)
    }
}

/// Scales every row to length 1, but for those that are zero.
fn normalize(factors: &mut Factors) {
    for row in 0..factors.rows() {
        let row = factors.row_mut(row);
        let length = row
            .iter()
            .map(|&x| f64::from(x) * f64::from(x))
            .sum::<f64>()
            .sqrt();
        if length > 0.0 {
            row.iter_mut()
                .for_each(|x| *x = (f64::from(*x) / length) as f32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::bpr::Bpr;
    use super::ccl::Cosine;
    use super::logistic::Logistic;
    use super::softmax::Softmax;
    use super::warp::Warp;
    use super::*;
    use crate::matrix::InMemory;
    use crate::rng::{Purpose, Stream};

    const ROWS: usize = 12;

    fn side(seed: u64) -> Factors {
        let mut factors = Factors::zeros(ROWS, 6, true);
        let mut stream = Stream::new(seed, Purpose::UserFactors, 0, 0);
        for row in 0..ROWS {
            factors
                .row_mut(row)
                .fill_with(|| (0.4 * stream.normal()) as f32);
            factors.biases_mut()[row] = (0.1 * stream.normal()) as f32;
        }
        factors
    }

    fn ratings() -> InMemory {
        let cells = (0..ROWS as u32).flat_map(|u| (0..ROWS as u32).map(move |i| (u, i)));
        let rated = cells.filter(|(u, i)| (u * 7 + i * 5) % 4 == 0);
        let triplets: Vec<_> = rated.map(|(u, i)| (u, i, 1.0)).collect();
        InMemory::from_triplets(ROWS, ROWS, &triplets).unwrap()
    }

    /// All users in one batch.
    fn one_batch<C: Contrast>(contrast: &C) -> MiniBatches<'_, C> {
        MiniBatches {
            contrast,
            batching: Batching {
                users: ROWS,
                positives: ROWS,
                pairs: 1,
            },
            dropout: 0.0,
            draws: Draws {
                seed: 7,
                epoch: 1,
                alone: false,
            },
            isa: Isa::best(),
        }
    }

    /// The slope of the loss by a bias is the sum of the slopes of its pairs, which a first step shows: its square, and the way.
    /// Compared with central differences of the loss on the same draws.
    fn check_slopes(contrast: &impl Contrast) {
        const STEP: f32 = 1e-3;
        let ratings = ratings();
        let batches = one_batch(contrast);
        let without = Options {
            regularization: Some(0.0),
            ..Options::default()
        };
        let steps = Steps {
            rate: 0.1,
            ridge: without.ridge(),
            unit: false,
            biases: true,
        };
        let start = [side(1), side(2)];
        let [mut users, mut items] = start.clone();
        let [mut of_users, mut of_items] = [1, 2].map(|_| Factors::zeros(ROWS, 1, true));
        let moving = (
            Rows {
                factors: &mut users,
                squares: &mut of_users,
            },
            Rows {
                factors: &mut items,
                squares: &mut of_items,
            },
        );
        batches
            .epoch(&ratings, steps, moving.0, moving.1, &|_| {})
            .unwrap();
        let moved = [(users, of_users), (items, of_items)];
        let mut met = 0;
        for (side, (after, squares)) in moved.iter().enumerate() {
            for row in 0..ROWS {
                let way = f64::from(start[side].bias(row) - after.bias(row));
                let slope = f64::from(squares.bias(row)).sqrt() * way.signum();
                let loss = |by: f32| {
                    let mut at = start.clone();
                    at[side].biases_mut()[row] += by;
                    batches.loss(&ratings, &at[0], &at[1]).unwrap()
                };
                let difference = (loss(STEP) - loss(-STEP)) / (2.0 * f64::from(STEP));
                met += usize::from(slope.abs() > 0.1);
                let near = (slope - difference).abs() <= 5e-3 * slope.abs().max(1.0);
                assert!(near, "side {side}, row {row}: {slope} {difference}");
            }
        }
        assert!(met >= ROWS / 2, "{met} slopes");
    }

    #[test]
    fn slopes_are_those_of_the_losses() {
        check_slopes(&Cosine {
            negatives: 6,
            margin: 0.1,
            weight: Some(3.0),
        });
        check_slopes(&Bpr { negatives: 2 });
        check_slopes(&Logistic {
            negatives: 3,
            weight: 0.5,
        });
        for negatives in [ROWS / 2, ROWS] {
            check_slopes(&Softmax {
                negatives,
                temperature: 0.5,
            });
        }
        check_slopes(&Warp {
            negatives: 5,
            margin: 1.0,
        });
    }

    /// A catalogue no larger than the sample is not sampled: the loss is the plain sum, in f64.
    #[test]
    fn a_softmax_over_few_items_is_exact() {
        let (users, items) = (side(1), side(2));
        let contrast = Softmax {
            negatives: ROWS,
            temperature: 0.5,
        };
        let found = one_batch(&contrast).loss(&ratings(), &users, &items);
        let score = |u: usize, i: usize| {
            let products = users.row(u).iter().zip(items.row(i));
            let products = products.map(|(&p, &q)| f64::from(p) * f64::from(q));
            (products.sum::<f64>() + f64::from(items.bias(i))) / 0.5
        };
        let mut expected = 0.0;
        for u in 0..ROWS {
            let all: f64 = (0..ROWS).map(|i| score(u, i).exp()).sum();
            let taken = (0..ROWS).filter(|i| (u * 7 + i * 5) % 4 == 0);
            expected += taken.map(|i| all.ln() - score(u, i)).sum::<f64>();
        }
        let found = found.unwrap();
        assert!((found / expected - 1.0).abs() < 1e-6, "{found} {expected}");
    }
}
