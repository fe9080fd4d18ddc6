//! The directions of nonlinear conjugate gradient.
//!
//! `d = z + beta d'`: z is the steepest descent g, every coordinate divided by its own curvature, and primes mark the epoch
//! before. `beta = max(0, <z, g - g'> / <d', g'>)` (Polak and Ribière 1969; after an exact step `<d', g'>` is `<z', g'>`),
//! and 0 where d would not descend.
//!
//! Curvatures are the diagonal of the Hessian, in the mean over the other side: `n c m + ridge` for a factor of a row with n
//! ratings, where c is the curvature of the loss and m the mean square of the other side's factors, and `n c + ridge` for
//! its bias. Without them, a step that is short enough for a row of ten thousand ratings does not move one of ten.
//! Cost: O((users + items) d) an epoch. Reads: how long the rows are, but none of their ratings.

use super::alternating::sum_lengths;
use super::line_search::Line;
use super::sums::Summed;
use super::{Parameters, Ridge};
use crate::error::Result;
use crate::matrix::{Factors, Ratings, Side};

/// What a coordinate's curvature is made of.
#[derive(Debug, Clone, Copy)]
pub struct Curvature {
    /// The second derivative of a rating's loss, as it counts in the cost.
    pub of_loss: f32,
    /// The ridge on rows.
    pub ridge: Ridge,
}

/// What one row is divided by: its factors, and its bias.
#[derive(Debug, Clone, Copy)]
struct Divisors {
    factors: f32,
    bias: f32,
}

impl Divisors {
    /// `x` over `by`; nothing where the cost is flat.
    fn apply(x: f32, by: f32) -> f32 {
        if by > 0.0 { x / by } else { 0.0 }
    }
}

impl Curvature {
    /// The divisors of a row with so many ratings, against the mean square of the other side's factors.
    fn divisors(&self, ratings: usize, mean_square: f32) -> Divisors {
        let of_losses = ratings as f32 * self.of_loss;
        Divisors {
            factors: of_losses * mean_square + self.ridge.on_factors(ratings),
            bias: of_losses + self.ridge.on_bias(ratings),
        }
    }

    /// The next direction from the steepest descent at the parameters, and what [`carried`] kept of the epoch before.
    ///
    /// # Errors
    /// If ratings cannot be read.
    pub fn direction(
        &self,
        ratings: &dyn Ratings,
        parameters: &Parameters,
        descent: &Line,
        before: Vec<Factors>,
    ) -> Result<Line> {
        // What a row of either side is multiplied with.
        let sides = [Side::Users, Side::Items]
            .map(|side| (side, mean_square(parameters.side(side.other()))));
        let mut beta = 0.0;
        let mut line = match <[Factors; 4]>::try_from(before) {
            Ok([users, items, last_users, last_items]) => {
                let line = Line { users, items };
                let last = Line {
                    users: last_users,
                    items: last_items,
                };
                beta = self.beta(ratings, sides, descent, &line, &last)?;
                line
            }
            Err(_) => descent.clone(),
        };
        for (side, mean_square) in sides {
            let g = descent.side(side);
            let d = line.side_mut(side);
            let (rank, stride) = (g.rank(), g.stride());
            let (factors, biases) = d.parts_mut();
            each_length(ratings, side, |row, length| {
                let by = self.divisors(length, mean_square);
                let place = |d: &mut f32, g: f32, by: f32| *d = beta * *d + Divisors::apply(g, by);
                let out = factors[row * stride..][..rank].iter_mut();
                out.zip(g.row(row))
                    .for_each(|(d, &g)| place(d, g, by.factors));
                if let Some(d) = biases.get_mut(row) {
                    place(d, g.bias(row), by.bias);
                }
            })?;
        }
        Ok(line)
    }

    /// How much of the last direction goes into the next.
    fn beta(
        &self,
        ratings: &dyn Ratings,
        sides: [(Side, f32); 2],
        descent: &Line,
        line: &Line,
        last: &Line,
    ) -> Result<f32> {
        // <z, g>, <z, g'>, <d', g> and <d', g'>.
        let mut total = [0.0_f64; 4];
        for (side, mean_square) in sides {
            let (g, d, g_last) = (descent.side(side), line.side(side), last.side(side));
            total.add(sum_lengths(ratings, side, |row, length| {
                let by = self.divisors(length, mean_square);
                let mut sums = [0.0; 4];
                let mut add = |g: f32, d: f32, g_last: f32, by: f32| {
                    let z = f64::from(Divisors::apply(g, by));
                    let (g, d, g_last) = (f64::from(g), f64::from(d), f64::from(g_last));
                    let terms = [z * g, z * g_last, d * g, d * g_last];
                    sums.iter_mut().zip(terms).for_each(|(sum, x)| *sum += x);
                };
                let rows = g.row(row).iter().zip(d.row(row)).zip(g_last.row(row));
                rows.for_each(|((&g, &d), &g_last)| add(g, d, g_last, by.factors));
                add(g.bias(row), d.bias(row), g_last.bias(row), by.bias);
                sums
            })?);
        }
        let [zg, z_last, dg, d_last] = total;
        let beta = ((zg - z_last) / d_last).max(0.0);
        let descends = beta.is_finite() && zg + beta * dg > 0.0;
        Ok(if descends { beta as f32 } else { 0.0 })
    }
}

/// What the next epoch needs of this one: its direction, and the steepest descent that it began with.
pub fn carried(line: Line, descent: Line) -> Vec<Factors> {
    vec![line.users, line.items, descent.users, descent.items]
}

fn mean_square(factors: &Factors) -> f32 {
    let squares = factors.flat().iter().map(|&x| f64::from(x) * f64::from(x));
    (squares.sum::<f64>() / (factors.rows() * factors.rank()).max(1) as f64) as f32
}

/// Visits every row of a side with its number of ratings.
fn each_length(
    ratings: &dyn Ratings,
    side: Side,
    mut visit: impl FnMut(usize, usize),
) -> Result<()> {
    for index in 0..ratings.blocks(side) {
        let block = ratings.block(side, index)?;
        (0..block.rows()).for_each(|i| visit(block.first_row() + i, block.row_len(i)));
        ratings.done_with(side, index);
    }
    Ok(())
}
