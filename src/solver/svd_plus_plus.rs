//! SVD++: a user's row has a part that tells of what the user rated at all, whatever the ratings say.
//!
//! A prediction is `mean + b_u + b_i + <x_u, q_i>` with `x_u = p_u + z_u` and `z_u = n_u^-1/2 sum of y_j over the user's items j`. Objective:
//! half the squared errors, and half the squared length of every p_u, q_i and y_j by its row's ridge (Koren: Factorization
//! meets the neighborhood, KDD 2008). Here it is lowered by alternating least squares. Items are solved as in ALS, for users'
//! rows x_u. With the x_u fixed, what is left of the objective by y is a linear least-squares problem, which tells where each
//! x_u would be drawn to: a few steps of conjugate gradient lower it, each factor by itself, preconditioned by the diagonal. A
//! user's row is then solved exactly around its z_u. No part ever raises the objective.
//! Cost: that of ALS, and 4 n k flop for each step. Reads: as ALS, and by-item and by-user columns once more for each step.
//! Users' factors of the model are the x_u: it predicts and recommends as any other. `Moving::carried` has z and y.

use super::als::Als;
use super::alternating::half_epoch;
use super::least_squares::LeastSquares;
use super::row_step::{Cost, Fixed, Measure, Own, OwnMut, RowStep};
use super::sweep::{self, Sweep};
use super::{
    Learns, Measured, Method, Missing, Moving, Options, Parameters, Passes, Ridge, Solver, Tick,
};
use crate::error::{Error, Result};
use crate::kernel::{self, LANES};
use crate::matrix::{Factors, Ratings, Row, RowScratch, Shape, Side};

/// SVD++ in the table of solvers.
pub const METHOD: Method = Method {
    name: "svd++",
    summary: "ALS whose users start from what they rated at all, whatever their ratings say (SVD++)",
    monotone: true,
    any_regularizer: false,
    biases: true,
    factors: true,
    spills: false,
    learns: Learns::Ratings,
    searched: &[],
    suited: |options| options,
    regularization: 0.05,
    missing: &[Missing::Skip],
    build,
};

/// Steps of conjugate gradient in an epoch.
const STEPS: usize = 3;

fn build(options: &Options) -> Result<Box<dyn Solver>> {
    let cost = LeastSquares::of("SVD++", options)?;
    let ridge = cost.ridge;
    Ok(Box::new(SvdPlusPlus {
        items: Als::new(options, cost),
        users: Als::around(options, ridge),
        ridge,
        rank: options.rank,
    }))
}

struct SvdPlusPlus {
    items: Als,
    users: Als,
    ridge: Ridge,
    rank: usize,
}

/// What is known of the shape of the ratings.
struct Counts {
    users: Vec<usize>,
    items: Vec<usize>,
    /// Of each item the sum of the ridges of its users, each over the user's number of ratings.
    pulls: Vec<f64>,
}

impl Counts {
    fn new(ratings: &dyn Ratings, ridge: Ridge) -> Result<Counts> {
        let users = lengths(ratings, Side::Users, |_| 0.0)?;
        let of_user = |user: &u32| {
            let count = users[*user as usize].0;
            f64::from(ridge.on_factors(count)) / count as f64
        };
        let items = lengths(ratings, Side::Items, |row| {
            row.cols.iter().map(of_user).sum()
        })?;
        let (items, pulls) = items.into_iter().unzip();
        Ok(Counts {
            users: users.into_iter().map(|(count, _)| count).collect(),
            items,
            pulls,
        })
    }
}

/// The number of ratings of every row, and what is asked of it.
fn lengths(
    ratings: &dyn Ratings,
    side: Side,
    sum: impl Fn(Row<'_>) -> f64,
) -> Result<Vec<(usize, f64)>> {
    let mut lengths = Vec::with_capacity(ratings.shape().rows(side));
    let mut scratch = RowScratch::default();
    for index in 0..ratings.blocks(side) {
        let block = ratings.block(side, index)?;
        for i in 0..block.rows() {
            let row = block.row(i, &mut scratch);
            lengths.push((row.len(), sum(row)));
        }
        ratings.done_with(side, index);
    }
    Ok(lengths)
}

impl SvdPlusPlus {
    /// Moves y, and z with it, towards where it explains the users' rows best.
    fn explain(
        &self,
        ratings: &dyn Ratings,
        counts: &Counts,
        users: &Factors,
        [z, y]: &mut [Factors; 2],
    ) -> Result<()> {
        let sum = |side, of: &Factors| {
            let mut sums = Factors::zeros(ratings.shape().rows(side), self.rank, false);
            let (fixed, nothing) = (Fixed::new(of, 0.0, 1.0), Measure::Nothing);
            let step = Sum { rank: self.rank };
            half_epoch(
                ratings,
                side,
                false,
                &step,
                &mut sums,
                &fixed,
                nothing,
                &|_| (),
            )?;
            Ok::<_, Error>(sums)
        };
        let mut direction = Factors::zeros(y.rows(), self.rank, false);
        let mut before = vec![f64::INFINITY; self.rank];
        for _ in 0..STEPS {
            let mut short = Factors::zeros(z.rows(), self.rank, false);
            for (user, &count) in counts.users.iter().enumerate().filter(|x| *x.1 > 0) {
                let scale = self.ridge.on_factors(count) / (count as f32).sqrt();
                let pairs = users.row(user).iter().zip(z.row(user));
                for (short, (x, z)) in short.row_mut(user).iter_mut().zip(pairs) {
                    *short = scale * (x - z);
                }
            }
            // Down the gradient, and the same over the diagonal of the equations.
            let down = sum(Side::Items, &short)?;
            let mut squares = vec![0.0; self.rank];
            let mut steps = Factors::zeros(y.rows(), self.rank, false);
            for (item, &count) in counts.items.iter().enumerate().filter(|x| *x.1 > 0) {
                let ridge = self.ridge.on_factors(count);
                let diagonal = (counts.pulls[item] + f64::from(ridge)).max(f64::MIN_POSITIVE);
                let pairs = down.row(item).iter().zip(y.row(item));
                for (k, (&down, &y)) in pairs.enumerate() {
                    let down = f64::from(down - ridge * y);
                    squares[k] += down * down / diagonal;
                    steps.row_mut(item)[k] = (down / diagonal) as f32;
                }
            }
            for item in 0..y.rows() {
                let pairs = direction.row_mut(item).iter_mut().zip(steps.row(item));
                for (k, (direction, &step)) in pairs.enumerate() {
                    *direction = step + (squares[k] / before[k]) as f32 * *direction;
                }
            }
            let mut of_users = sum(Side::Users, &direction)?;
            let mut curvatures = vec![0.0; self.rank];
            for (user, &count) in counts.users.iter().enumerate().filter(|x| *x.1 > 0) {
                let (ridge, root) = (self.ridge.on_factors(count), (count as f32).sqrt());
                for (k, x) in of_users.row_mut(user).iter_mut().enumerate() {
                    *x /= root;
                    curvatures[k] += f64::from(ridge) * f64::from(*x).powi(2);
                }
            }
            for (item, &count) in counts.items.iter().enumerate() {
                let ridge = f64::from(self.ridge.on_factors(count));
                for (k, &x) in direction.row(item).iter().enumerate() {
                    curvatures[k] += ridge * f64::from(x).powi(2);
                }
            }
            let exact = |(&square, &curvature): (&f64, &f64)| match curvature > 0.0 {
                true => (square / curvature) as f32,
                false => 0.0,
            };
            let rates: Vec<f32> = squares.iter().zip(&curvatures).map(exact).collect();
            add(y, &direction, &rates);
            add(z, &of_users, &rates);
            before = squares.iter().map(|x| x.max(f64::MIN_POSITIVE)).collect();
        }
        Ok(())
    }

    /// The penalty of the parts that rows are made of: of each p_u, and of each y_j.
    fn penalty(&self, counts: &Counts, users: &Factors, [z, y]: &[Factors; 2]) -> f64 {
        let ridge = |count: usize| f64::from(self.ridge.on_factors(count));
        let of_users = counts.users.iter().enumerate().map(|(user, &count)| {
            let pairs = users.row(user).iter().zip(z.row(user));
            ridge(count) * pairs.map(|(x, z)| f64::from(x - z).powi(2)).sum::<f64>()
        });
        let of_items = counts.items.iter().enumerate().map(|(item, &count)| {
            let squares = y.row(item).iter().map(|&y| f64::from(y).powi(2));
            ridge(count) * squares.sum::<f64>()
        });
        0.5 * (of_users.sum::<f64>() + of_items.sum::<f64>())
    }
}

/// Adds a multiple of every row, with a factor for each column.
fn add(to: &mut Factors, rows: &Factors, factors: &[f32]) {
    for row in 0..rows.rows() {
        let pairs = rows.row(row).iter().zip(factors);
        for (x, (y, factor)) in to.row_mut(row).iter_mut().zip(pairs) {
            *x += factor * y;
        }
    }
}

impl Solver for SvdPlusPlus {
    fn epoch(
        &self,
        epoch: usize,
        ratings: &dyn Ratings,
        moving: &mut Moving,
        tick: Tick<'_>,
    ) -> Result<Measured> {
        let backwards = epoch % 2 == 1;
        let Parameters {
            users,
            items,
            mean,
            std,
            ..
        } = &mut moving.parameters;
        let carried = std::mem::take(&mut moving.carried);
        let mut parts: [Factors; 2] = carried.try_into().unwrap_or_else(|_| {
            [users.rows(), items.rows()].map(|rows| Factors::zeros(rows, self.rank, false))
        });
        let counts = Counts::new(ratings, self.ridge)?;
        let go = |side, step: &Als, moving: &mut Factors, fixed: &Factors, measure| {
            let fixed = Fixed::new(fixed, *mean, *std);
            half_epoch(
                ratings, side, backwards, step, moving, &fixed, measure, tick,
            )
        };
        let of_items = go(Side::Items, &self.items, items, users, Measure::Penalty)?;
        self.explain(ratings, &counts, users, &mut parts)?;
        users.clear();
        for user in 0..users.rows() {
            users.row_mut(user).copy_from_slice(parts[0].row(user));
        }
        let mut sums = go(Side::Users, &self.users, users, items, Measure::All)?;
        sums.penalty += of_items.penalty + self.penalty(&counts, users, &parts);
        moving.carried = parts.into();
        Ok(sweep::measured(sums, ratings, *std))
    }

    /// Where nothing is told of yet but the rows: before the first epoch y is zero.
    fn measure(&self, ratings: &dyn Ratings, parameters: &Parameters) -> Result<Measured> {
        sweep::measure(self.items.cost(), ratings, parameters)
    }

    /// Rows are counted, moved, and summed in each step of conjugate gradient.
    fn passes(&self, _epoch: usize) -> Passes {
        let passes = 2 + STEPS as u64;
        Passes::of(passes, passes)
    }

    fn memory(&self, shape: Shape, threads: usize) -> u64 {
        // z and y; a direction, its step and the slope, of items, and what is summed by users.
        let parts = 4 * Parameters::bytes(shape, self.rank, false);
        let counts = (shape.users + shape.items) * (2 * size_of::<usize>() + size_of::<f64>());
        let sums = 4 * threads * self.rank.next_multiple_of(LANES) * size_of::<f32>();
        Sweep::memory(&self.items, shape, threads) + parts + (counts + sums) as u64
    }
}

/// Sums the rows of the other side.
struct Sum {
    rank: usize,
}

impl RowStep for Sum {
    type Shared = ();
    type Sums = (Vec<f32>, Vec<f32>);

    fn sums(&self) -> Self::Sums {
        (vec![0.0; self.rank.next_multiple_of(LANES)], Vec::new())
    }

    fn shared(&self, _fixed: &Fixed<'_>) {}

    fn begin(&self, (sum, _): &mut Self::Sums) {
        sum.fill(0.0);
    }

    fn accumulate(
        &self,
        _own: Own<'_>,
        segment: Row<'_>,
        fixed: &Fixed<'_>,
        (sum, ones): &mut Self::Sums,
    ) {
        ones.clear();
        ones.resize(segment.len(), 1.0);
        let flat = fixed.factors.flat();
        kernel::add_scaled_rows(fixed.isa, ones, flat, segment.cols, sum);
    }

    fn merge(&self, (next, _): &Self::Sums, (sum, _): &mut Self::Sums) {
        for (x, y) in sum.iter_mut().zip(next) {
            *x += y;
        }
    }

    fn finish(
        &self,
        own: OwnMut<'_>,
        _ratings: usize,
        _fixed: &Fixed<'_>,
        _shared: &(),
        (sum, _): &mut Self::Sums,
    ) -> Result<()> {
        own.factors.copy_from_slice(sum);
        Ok(())
    }

    fn cost(&self) -> &impl Cost {
        &Unmeasured
    }
}

/// Sums are no predictions, and cost nothing.
struct Unmeasured;

impl Cost for Unmeasured {
    fn loss(&self, _prediction: f32, _target: f32) -> f64 {
        0.0
    }

    fn penalty(&self, _own: Own<'_>, _ratings: usize) -> f64 {
        0.0
    }
}
