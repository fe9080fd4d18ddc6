//! Derived gradients against differences of the cost.
//!
//! A coordinate is one number of the model: a factor or a bias of a user or an item. The gradient of the total cost by
//! it, from the derived slopes of loss and regularizer, is compared with central differences of the cost itself, all in
//! f64. Of the total cost only the part of the coordinate's own row changes with it, so that is what is summed.

use std::fmt;

use crate::error::Result;
use crate::loss::{self, Derived, Penalty};
use crate::matrix::{InMemory, Ratings, Row, RowScratch, Side};
use crate::rng::{Purpose, Stream};
use crate::solver::{Options, Parameters, Reduce, Ridge};
use crate::threads::Threads;
use crate::train::Trainer;

/// The largest relative error that passes.
pub const LARGEST_ERROR: f64 = 1e-5;

/// Distances of the differences. A large one has the smaller rounding error; a kink that lies within one is left out by
/// the next.
const DISTANCES: [f64; 4] = [1e-4, 1e-5, 1e-6, 1e-7];

/// A number of the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Coordinate {
    /// Whose it is.
    pub side: Side,
    /// The dense number of the user or item.
    pub row: usize,
    /// Its id.
    pub id: String,
    /// Which factor, from 0; none for the bias.
    pub factor: Option<usize>,
}

impl fmt::Display for Coordinate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.factor {
            Some(factor) => write!(f, "factor {factor} of ")?,
            None => write!(f, "the bias of ")?,
        }
        write!(f, "{} {}", self.side.noun(), self.id)
    }
}

/// Where the gradient is furthest from the differences.
#[derive(Debug, Clone, PartialEq)]
pub struct Worst {
    /// How far, in parts of the sum of the sizes of the gradient's terms.
    pub error: f64,
    /// The coordinate.
    pub at: Coordinate,
    /// The derived gradient.
    pub derived: f64,
    /// The differences.
    pub numeric: f64,
}

impl Worst {
    /// Whether it is near enough.
    pub fn passes(&self) -> bool {
        self.error <= LARGEST_ERROR
    }
}

/// A small set of ratings in half stars, to check on where there are no others. Two in five cells are rated.
pub fn small_ratings() -> InMemory {
    const USERS: u32 = 40;
    const ITEMS: u32 = 30;
    let mut triplets = Vec::new();
    for user in 0..USERS {
        let mut stream = Stream::new(0, Purpose::SyntheticUsers, 0, user.into());
        for item in 0..ITEMS {
            if stream.uniform() < 0.4 {
                triplets.push((user, item, 0.5 * (1 + stream.below(10)) as f32));
            }
        }
    }
    InMemory::from_triplets(USERS as usize, ITEMS as usize, &triplets)
        .expect("each cell is drawn once")
}

/// Checks the gradient of the cost that these options state by so many random coordinates, at random parameters.
///
/// # Errors
/// If the options do not fit together, the cost has no value there, or ratings cannot be read.
pub fn check_gradients(
    ratings: &dyn Ratings,
    options: &Options,
    coordinates: usize,
    threads: &Threads,
) -> Result<Worst> {
    let cost = Cost::new(ratings, options, threads)?;
    let mut worst: Option<Worst> = None;
    let mut scratch = RowScratch::default();
    for side in [Side::Users, Side::Items] {
        let mut picked = picked(ratings, options, side, coordinates.div_ceil(2)).into_iter();
        let mut next = picked.next();
        for block in 0..ratings.blocks(side) {
            let rows = ratings.block(side, block)?;
            while let Some((at, coordinate)) = next
                && at < rows.first_row() + rows.rows()
            {
                let row = rows.row(at - rows.first_row(), &mut scratch);
                let found = cost.compare(side, at, coordinate, row);
                if worst.as_ref().is_none_or(|w| found.error > w.error) {
                    worst = Some(Worst {
                        error: found.error,
                        at: Coordinate {
                            side,
                            row: at,
                            id: ratings.id(side, at).into_owned(),
                            factor: (coordinate < options.rank).then_some(coordinate),
                        },
                        derived: found.derived,
                        numeric: found.numeric,
                    });
                }
                next = picked.next();
            }
            ratings.done_with(side, block);
        }
    }
    Ok(worst.expect("a trainer has refused ratings without rows"))
}

/// Rows and coordinates to look at, by ascending row. The coordinate behind the factors is the bias.
fn picked(
    ratings: &dyn Ratings,
    options: &Options,
    side: Side,
    count: usize,
) -> Vec<(usize, usize)> {
    let rows = ratings.shape().rows(side) as u64;
    let wide = (options.rank + usize::from(options.biases)) as u64;
    let mut stream = Stream::new(options.seed, purpose(side), DRAWS, 0);
    let mut picked: Vec<_> = (0..count.max(1))
        .map(|_| (stream.below(rows) as usize, stream.below(wide) as usize))
        .collect();
    picked.sort_unstable();
    picked
}

/// What stands in the place of an epoch in the streams that are drawn here: far behind any.
const DRAWS: u64 = u64::MAX;

fn purpose(side: Side) -> Purpose {
    match side {
        Side::Users => Purpose::UserFactors,
        Side::Items => Purpose::ItemFactors,
    }
}

/// The total cost around one point.
struct Cost {
    loss: Box<dyn Derived>,
    weight: f64,
    penalty: Penalty,
    ridge: Ridge,
    rank: usize,
    parameters: Parameters,
}

/// Both gradients by one coordinate.
struct Compared {
    derived: f64,
    numeric: f64,
    error: f64,
}

impl Cost {
    fn new(ratings: &dyn Ratings, options: &Options, threads: &Threads) -> Result<Cost> {
        // A training of no epochs checks the options and the loss on the scale of the ratings, and starts the factors.
        let start = Options {
            solver: "gradient".into(),
            learning_rates: vec![1.0],
            epochs: 0,
            early_stop: None,
            positive_at: None,
            ..options.clone()
        };
        let state = Trainer::new(ratings, start).run(threads)?;
        let mut parameters = state.into_parameters();
        // Biases start at zero, where penalties may have a kink.
        for (side, factors) in [
            (Side::Users, &mut parameters.users),
            (Side::Items, &mut parameters.items),
        ] {
            let mut stream = Stream::new(options.seed, purpose(side), DRAWS, 1);
            let (_, biases) = factors.parts_mut();
            biases.fill_with(|| (0.1 * stream.normal()) as f32);
        }
        let weight = match options.reduce {
            Reduce::Sum => 1.0,
            Reduce::Mean => 1.0 / ratings.shape().ratings as f64,
        };
        Ok(Cost {
            loss: loss::named_or_formula(&options.loss)?,
            weight,
            penalty: options.penalty()?,
            ridge: options.ridge(),
            rank: options.rank,
            parameters,
        })
    }

    fn compare(&self, side: Side, at: usize, coordinate: usize, row: Row<'_>) -> Compared {
        let own = self.parameters.side(side);
        let mut numbers: Vec<f64> = own.row(at).iter().map(|&x| x.into()).collect();
        numbers.push(own.bias(at).into());
        let (derived, size) = self.gradient(side, &numbers, coordinate, row);
        let mut best = Compared {
            derived,
            numeric: f64::NAN,
            error: f64::INFINITY,
        };
        for distance in DISTANCES {
            let mut cost_at = |step: f64| {
                let before = numbers[coordinate];
                numbers[coordinate] = before + step;
                let cost = self.cost(side, &numbers, row);
                numbers[coordinate] = before;
                cost
            };
            let numeric = (cost_at(distance) - cost_at(-distance)) / (2.0 * distance);
            // Where nothing is rated or weighed, both are zero.
            let error = (numeric - derived).abs() / size.max(f64::MIN_POSITIVE);
            if error < best.error {
                (best.numeric, best.error) = (numeric, error);
            }
            if error <= LARGEST_ERROR {
                break;
            }
        }
        best
    }

    /// The part of the total cost that changes with a row.
    fn cost(&self, side: Side, numbers: &[f64], row: Row<'_>) -> f64 {
        let losses = self.predictions(side, numbers, row);
        let losses: f64 = losses.map(|(p, r, _)| self.loss.value(p, r)).sum();
        let penalties = numbers.iter().enumerate();
        let penalties =
            penalties.map(|(at, &x)| self.ridge_on(at, row.len()) * self.penalty.value(x));
        self.weight * losses + penalties.sum::<f64>()
    }

    /// The derived gradient by a coordinate, and the sum of the sizes of its terms.
    fn gradient(&self, side: Side, numbers: &[f64], at: usize, row: Row<'_>) -> (f64, f64) {
        let other = self.parameters.side(side.other());
        let of_penalty = self.ridge_on(at, row.len()) * self.penalty.slope(numbers[at]);
        let losses = self.predictions(side, numbers, row).map(|(p, r, col)| {
            let factor = if at < self.rank {
                other.row(col)[at].into()
            } else {
                1.0
            };
            self.weight * self.loss.taylor(p, r)[1] * factor
        });
        losses.fold((of_penalty, of_penalty.abs()), |(sum, size), term| {
            (sum + term, size + term.abs())
        })
    }

    /// Predictions of a row in units of the model, with ratings and columns.
    fn predictions(
        &self,
        side: Side,
        numbers: &[f64],
        row: Row<'_>,
    ) -> impl Iterator<Item = (f64, f64, usize)> {
        let other = self.parameters.side(side.other());
        let Parameters { mean, std, .. } = &self.parameters;
        let (mean, std) = (f64::from(*mean), f64::from(*std));
        row.cols.iter().zip(row.values).map(move |(&col, &rating)| {
            let col = col as usize;
            let pairs = numbers.iter().zip(other.row(col));
            let product: f64 = pairs.map(|(x, &y)| x * f64::from(y)).sum();
            let biases = numbers[self.rank] + f64::from(other.bias(col));
            (product + biases, (f64::from(rating) - mean) / std, col)
        })
    }

    fn ridge_on(&self, at: usize, ratings: usize) -> f64 {
        let biases = self.parameters.users.has_biases();
        match at < self.rank {
            true => self.ridge.on_factors(ratings).into(),
            false if biases => self.ridge.on_bias(ratings).into(),
            false => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::{LOSSES, PENALTIES};

    fn worst(options: Options) -> Worst {
        let threads = Threads::new(Some(1)).unwrap();
        check_gradients(&small_ratings(), &options, 200, &threads).unwrap()
    }

    #[test]
    fn every_loss_and_every_penalty_passes() {
        let losses = LOSSES.iter().map(|named| named.name);
        for loss in losses.chain(["(p-r)^2", "log(1+exp(-r*p))"]) {
            for (reduce, biases, normalize) in [
                (Reduce::Sum, true, false),
                (Reduce::Mean, false, true),
                (Reduce::Mean, true, false),
            ] {
                let penalties = PENALTIES.iter().map(|named| named.name);
                for regularizer in penalties.chain(["0.5*x^2 + 0.1*abs(x)"]) {
                    let worst = worst(Options {
                        loss: loss.into(),
                        regularizer: regularizer.into(),
                        rank: 5,
                        reduce,
                        biases,
                        normalize,
                        ..Options::default()
                    });
                    assert!(worst.passes(), "{loss}, {regularizer}: {worst:?}");
                }
            }
        }
    }

    /// A slope that is off by one in twenty thousand is seen.
    #[test]
    fn a_wrong_slope_fails() {
        let options = Options {
            loss: "(p-r)^2".into(),
            rank: 3,
            ..Options::default()
        };
        let threads = Threads::new(Some(1)).unwrap();
        let mut cost = Cost::new(&small_ratings(), &options, &threads).unwrap();
        struct Wrong;
        impl Derived for Wrong {
            fn value(&self, p: f64, r: f64) -> f64 {
                (p - r) * (p - r)
            }
            fn taylor(&self, p: f64, r: f64) -> [f64; 3] {
                [self.value(p, r), 2.0001 * (p - r), 2.0]
            }
            fn slope(&self, p: f64, r: f64) -> f64 {
                self.taylor(p, r)[1]
            }
            fn not_finite(&self, _: f64, _: f64) -> crate::error::Error {
                unreachable!("it is")
            }
            fn slopes(&self, _: &mut [f32], _: &[f32]) {}
            fn slopes_and_curvatures(&self, _: &mut [f32], _: &[f32], _: &mut [f32]) {}
        }
        cost.loss = Box::new(Wrong);
        let ratings = small_ratings();
        let mut scratch = RowScratch::default();
        let block = ratings.block(Side::Users, 0).unwrap();
        let row = block.row(0, &mut scratch);
        let error = cost.compare(Side::Users, 0, 0, row).error;
        assert!((1e-5..1e-4).contains(&error), "{error}");
    }
}
