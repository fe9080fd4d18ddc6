//! The exact step along a line, for squares.
//!
//! Along `(P + t D, Q + t E)` a prediction is `<p, q> + t (<d, q> + <p, e>) + t^2 <d, e>`, so that the sum of squared
//! residuals is a polynomial of degree four in t, and the ridge one of degree two. One pass over the ratings gathers the
//! coefficients, in f64; the lowest point is a root of a cubic. No trial steps.

use super::alternating::{sum_lengths, sum_rows};
use super::row_step::Own;
use super::{Parameters, Ridge};
use crate::error::Result;
use crate::kernel::{self, Isa};
use crate::matrix::{Factors, Ratings, Side};

/// A direction of both sides.
#[derive(Debug, Clone)]
pub struct Line {
    /// D: the direction of users.
    pub users: Factors,
    /// E: the direction of items.
    pub items: Factors,
}

impl Line {
    /// One side's direction.
    pub fn side(&self, side: Side) -> &Factors {
        match side {
            Side::Users => &self.users,
            Side::Items => &self.items,
        }
    }

    /// One side's direction.
    pub fn side_mut(&mut self, side: Side) -> &mut Factors {
        match side {
            Side::Users => &mut self.users,
            Side::Items => &mut self.items,
        }
    }
}

/// The lowest point of a line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lowest {
    /// How far along the line it is.
    pub rate: f32,
    /// The sum of squared residuals there, in units of the model.
    pub squared_error: f64,
    /// The penalty there.
    pub penalty: f64,
}

/// Finds the lowest point of `weight * sum of (prediction - rating)^2 + penalty` along a line that descends at first.
pub fn line_search(
    ratings: &dyn Ratings,
    parameters: &Parameters,
    line: &Line,
    ridge: Ridge,
    weight: f64,
) -> Result<Lowest> {
    let isa = Isa::best();
    let fixed = parameters.fixed_items();
    let (users, items) = (&parameters.users, &parameters.items);
    let squares = sum_rows(ratings, Side::Users, |user, row, predictions| {
        predictions.resize(4 * row.len(), 0.0);
        let mut parts = predictions.chunks_exact_mut(row.len().max(1));
        let mut sums = [0.0; 5];
        let [Some(residual), Some(of_item), Some(of_user), Some(both)] =
            [parts.next(), parts.next(), parts.next(), parts.next()]
        else {
            return sums;
        };
        let (own, step) = (Own::of(users, user), Own::of(&line.users, user));
        fixed.predict(own, row, residual);
        kernel::dot_rows(isa, own.factors, line.items.flat(), row.cols, of_item);
        kernel::dot_rows(isa, step.factors, items.flat(), row.cols, of_user);
        kernel::dot_rows(isa, step.factors, line.items.flat(), row.cols, both);
        for (j, (&col, &rating)) in row.cols.iter().zip(row.values).enumerate() {
            let e = f64::from(residual[j] - fixed.target(rating));
            let bias = step.bias + line.items.bias(col as usize);
            let a = f64::from(of_item[j]) + f64::from(of_user[j]) + f64::from(bias);
            let c = f64::from(both[j]);
            for (sum, term) in
                sums.iter_mut()
                    .zip([e * e, 2.0 * e * a, a * a + 2.0 * e * c, 2.0 * a * c, c * c])
            {
                *sum += term;
            }
        }
        sums
    })?;
    let penalty = |side: Side, at: &Factors, along: &Factors| {
        sum_lengths(ratings, side, |row, n| {
            let (own, step) = (Own::of(at, row), Own::of(along, row));
            let cross = |a: &[f32], b: &[f32]| -> f64 {
                a.iter()
                    .zip(b)
                    .map(|(&x, &y)| f64::from(x) * f64::from(y))
                    .sum()
            };
            [
                ridge.penalty(own.factors, own.bias, n),
                f64::from(ridge.on_factors(n)) * cross(own.factors, step.factors)
                    + f64::from(ridge.on_bias(n)) * f64::from(own.bias) * f64::from(step.bias),
                ridge.penalty(step.factors, step.bias, n),
            ]
        })
    };
    let of_users = penalty(Side::Users, users, &line.users)?;
    let of_items = penalty(Side::Items, items, &line.items)?;
    let ridges: [f64; 3] = std::array::from_fn(|i| of_users[i] + of_items[i]);
    let mut cost = squares.map(|x| weight * x);
    cost.iter_mut().zip(ridges).for_each(|(c, r)| *c += r);
    let rate = lowest(cost) as f32;
    let t = f64::from(rate);
    Ok(Lowest {
        rate,
        squared_error: polynomial(&squares, t).max(0.0),
        penalty: polynomial(&ridges, t),
    })
}

fn polynomial(coefficients: &[f64], t: f64) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, c| sum * t + c)
}

/// Where above zero a polynomial of degree four is lowest, given that it falls at zero: the best of the stationary points,
/// which are bracketed by those of the derivative and found by bisection. Zero if it does not fall.
fn lowest(cost: [f64; 5]) -> f64 {
    let slope = [cost[1], 2.0 * cost[2], 3.0 * cost[3], 4.0 * cost[4]];
    let curvature = [slope[1], 2.0 * slope[2], 3.0 * slope[3]];
    if slope[0] >= 0.0 || !cost.iter().all(|c| c.is_finite()) {
        return 0.0;
    }
    // The slope ends above zero: look for where.
    let mut far = 1e-12;
    while polynomial(&slope, far) < 0.0 && far < 1e12 {
        far *= 2.0;
    }
    let discriminant = curvature[1] * curvature[1] - 4.0 * curvature[2] * curvature[0];
    let mut turns = vec![0.0];
    if discriminant > 0.0 && curvature[2] != 0.0 {
        let root = libm::sqrt(discriminant);
        let ends = [-root, root].map(|root| (root - curvature[1]) / (2.0 * curvature[2]));
        turns.extend(ends.into_iter().filter(|t| *t > 0.0));
    }
    let end = turns.iter().fold(far, |end, t| end.max(2.0 * t));
    turns.push(end);
    turns.sort_by(f64::total_cmp);
    let crossing = |pair: &[f64]| {
        let (mut low, mut high) = (pair[0], pair[1]);
        if polynomial(&slope, low) >= 0.0 || polynomial(&slope, high) < 0.0 {
            return None;
        }
        for _ in 0..200 {
            let middle = 0.5 * (low + high);
            if polynomial(&slope, middle) < 0.0 {
                low = middle;
            } else {
                high = middle;
            }
        }
        Some(0.5 * (low + high))
    };
    let at = |t: &f64| polynomial(&cost, *t);
    let minima = turns.windows(2).filter_map(crossing);
    minima.min_by(|a, b| at(a).total_cmp(&at(b))).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// No point of a fine grid lies lower.
        #[test]
        fn the_lowest_point_is_found(roots in proptest::array::uniform4(-3.0..3.0_f64), lift in 0.0..2.0_f64) {
            // (t - a)(t - b) squared-ish: a sum of squares of quadratics, as residuals give.
            let [a, b, c, d] = roots;
            let square = |x: [f64; 3]| {
                [x[0] * x[0], 2.0 * x[0] * x[1], x[1] * x[1] + 2.0 * x[0] * x[2], 2.0 * x[1] * x[2], x[2] * x[2]]
            };
            let (one, two) = (square([a, b, 1.0]), square([c, d, lift]));
            let mut cost: [f64; 5] = std::array::from_fn(|i| one[i] + two[i]);
            if cost[1] > 0.0 {
                // Turn the line around, so that it descends.
                cost[1] = -cost[1];
                cost[3] = -cost[3];
            }
            let t = lowest(cost);
            for i in 0..4000 {
                let other = f64::from(i) * 0.005;
                prop_assert!(polynomial(&cost, t) <= polynomial(&cost, other) + 1e-9);
            }
        }
    }
}
