//! Cyclic coordinate descent, row by row.
//!
//! The objective is that of ALS. With all else fixed, one coordinate has its lowest point at
//! `p_f = sum (e + p_f q_f) q_f / (sum q_f^2 + ridge)`, where e are the errors of the row's ratings; the bias is one more
//! coordinate with q = 1. All coordinates of a row take their turn while its ratings are at hand (Pilaszy, Zibriczky, Tikk:
//! Fast ALS-based matrix factorization, RecSys 2010, rather than factor by factor over all rows as in CCD++: Yu, Hsieh, Si,
//! Dhillon, ICDM 2012, which reads the ratings twice for each factor). Errors are computed anew as a row is loaded and
//! followed from coordinate to coordinate; they are never written. The objective never rises, and there is no learning rate.
//! Cost: 6 n k flop a side. Reads: by-item and by-user ratings once each, and one row of the fixed side twice for each
//! rating.

use super::least_squares::LeastSquares;
use super::row_step::{Cost, Fixed, OwnMut};
use super::whole::{Room, Whole, WholeRow, padded, transpose};
use super::{Learns, Method, Missing, Options, Solver};
use crate::error::Result;
use crate::kernel::{self, LANES};
use crate::matrix::Row;

/// Coordinate descent in the table of solvers.
pub const METHOD: Method = Method {
    name: "coordinate",
    summary: "coordinate descent: every factor of a row solved exactly in turn; cheap at high rank",
    regularization: 0.05,
    missing: &[Missing::Skip],
    monotone: true,
    any_regularizer: false,
    biases: true,
    factors: true,
    spills: false,
    learns: Learns::Ratings,
    searched: &[],
    suited: |options| options,
    build,
};

fn build(options: &Options) -> Result<Box<dyn Solver>> {
    Ok(Box::new(Whole(Coordinate {
        cost: LeastSquares::of("coordinate descent", options)?,
        rank: options.rank,
    })))
}

struct Coordinate {
    cost: LeastSquares,
    rank: usize,
}

impl WholeRow for Coordinate {
    type Shared = ();

    fn cost(&self) -> &impl Cost {
        &self.cost
    }

    fn room(&self) -> [usize; 2] {
        [1 + LANES, 0]
    }

    fn shared(&self, _fixed: &Fixed<'_>) {}

    fn solve(
        &self,
        own: OwnMut<'_>,
        targets: Row<'_>,
        fixed: &Fixed<'_>,
        _shared: &(),
        room: Room<'_>,
    ) -> Result<()> {
        let ratings = targets.len();
        if ratings == 0 {
            own.clear();
            return Ok(());
        }
        let (errors, factors) = room.by_rating.split_at_mut(padded(ratings));
        errors[ratings..].fill(0.0);
        fixed.predict(own.as_ref(), targets, &mut errors[..ratings]);
        for (e, t) in errors.iter_mut().zip(targets.values) {
            *e = t - *e;
        }
        let ridge = self.cost.ridge.on_factors(ratings);
        for first in (0..self.rank).step_by(LANES) {
            transpose(fixed, targets.cols, first, factors);
            let coordinates = own.factors[..self.rank][first..].iter_mut();
            for (p, q) in coordinates.zip(factors.chunks_exact(errors.len())) {
                let curvature = kernel::dot(fixed.isa, q, q);
                let pull = kernel::dot(fixed.isa, errors, q) + *p * curvature;
                let delta = lowest(pull, curvature + ridge) - *p;
                *p += delta;
                for (e, q) in errors.iter_mut().zip(q) {
                    *e -= delta * q;
                }
            }
        }
        if let Some(bias) = own.bias {
            let sum: f64 = errors.iter().copied().map(f64::from).sum();
            let pull = sum as f32 + *bias * ratings as f32;
            *bias = lowest(pull, ratings as f32 + self.cost.ridge.on_bias(ratings));
        }
        Ok(())
    }
}

/// Where a parabola with this slope at zero, downwards, and this curvature is lowest; zero if it is flat.
fn lowest(pull: f32, curvature: f32) -> f32 {
    if curvature > 0.0 {
        pull / curvature
    } else {
        0.0
    }
}
