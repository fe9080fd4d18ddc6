//! Alternating least squares by conjugate gradient.
//!
//! The objective is that of ALS. A row's normal equations `A p = b` are not formed: `A d = sum q <q, d> + ridge d` is one
//! pass over the row's ratings, and a few steps of conjugate gradient from where the row stands bring most of what the
//! exact solution would (Takacs, Pilaszy, Tikk: Applications of the conjugate gradient method for implicit feedback
//! collaborative filtering, RecSys 2011). The bias is one more unknown, with q = 1. Each step goes to the lowest point along
//! its direction, so the objective never rises.
//! Cost: 4 n k flop a step and side, beside ALS's n k^2. Reads: by-item and by-user ratings once each, and one row of the
//! fixed side twice a step for each rating.

use super::least_squares::LeastSquares;
use super::row_step::{Cost, Fixed, OwnMut};
use super::whole::{Room, Whole, WholeRow};
use super::{Learns, Method, Missing, Options, Solver};
use crate::error::Result;
use crate::kernel::{self, LANES};
use crate::matrix::Row;

/// Conjugate gradient in the table of solvers.
pub const METHOD: Method = Method {
    name: "cg",
    summary: "alternating least squares by a few steps of conjugate gradient a row; cheap at high rank",
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
    Ok(Box::new(Whole(ConjugateGradient {
        cost: LeastSquares::of("conjugate gradient", options)?,
        rank: options.rank,
        steps: options.cg_steps,
    })))
}

/// A residual this much shorter than the first, squared, is rounding error.
const SOLVED: f64 = f32::EPSILON as f64 * f32::EPSILON as f64;

struct ConjugateGradient {
    cost: LeastSquares,
    rank: usize,
    steps: usize,
}

/// Factors and bias.
pub struct Unknowns<'a> {
    /// The factors, padded.
    pub factors: &'a mut [f32],
    /// The bias, zero where there is none.
    pub bias: f32,
}

impl Unknowns<'_> {
    fn dot(&self, other: &Unknowns<'_>) -> f64 {
        let pairs = self.factors.iter().zip(&*other.factors);
        let product: f64 = pairs.map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
        product + f64::from(self.bias) * f64::from(other.bias)
    }

    /// `scale * self + other`.
    fn scale_and_add(&mut self, scale: f32, other: &Unknowns<'_>) {
        for (x, y) in self.factors.iter_mut().zip(&*other.factors) {
            *x = scale * *x + y;
        }
        self.bias = scale * self.bias + other.bias;
    }

    fn add_scaled(&mut self, scale: f32, other: &Unknowns<'_>) {
        for (x, y) in self.factors.iter_mut().zip(&*other.factors) {
            *x += scale * y;
        }
        self.bias += scale * other.bias;
    }

    /// The sum of the other side's rows, each times its scale.
    pub fn sum_rows(&mut self, fixed: &Fixed<'_>, scales: &[f32], cols: &[u32]) {
        self.factors.fill(0.0);
        kernel::add_scaled_rows(fixed.isa, scales, fixed.factors.flat(), cols, self.factors);
        self.bias = 0.0;
        if fixed.factors.has_biases() {
            self.bias = scales.iter().copied().map(f64::from).sum::<f64>() as f32;
        }
    }

    /// Adds `sign` times what the ridge adds to `A`, times `x`.
    pub fn add_ridge(&mut self, sign: f32, ridge: (f32, f32), x: &Unknowns<'_>) {
        for (sum, x) in self.factors.iter_mut().zip(&*x.factors) {
            *sum += sign * ridge.0 * x;
        }
        self.bias += sign * ridge.1 * x.bias;
    }
}

/// So many steps from p towards the solution of `A x = b`, given the residual `b - A p`, room for a direction and its image,
/// and how to write `A d` into the image.
pub fn conjugate_gradient<'a>(
    steps: usize,
    mut p: Unknowns<'a>,
    [mut residual, mut direction, mut image]: [Unknowns<'_>; 3],
    mut apply: impl FnMut(&Unknowns<'_>, &mut Unknowns<'_>),
) -> Unknowns<'a> {
    direction.factors.copy_from_slice(residual.factors);
    direction.bias = residual.bias;
    let mut length = residual.dot(&residual);
    let solved = SOLVED * length;
    for _ in 0..steps {
        apply(&direction, &mut image);
        let curvature = direction.dot(&image);
        // Flat only where the direction is zero, or no rating depends on it.
        if length <= solved || curvature <= 0.0 {
            break;
        }
        let step = (length / curvature) as f32;
        p.add_scaled(step, &direction);
        residual.add_scaled(-step, &image);
        let before = length;
        length = residual.dot(&residual);
        direction.scale_and_add((length / before) as f32, &residual);
    }
    p
}

impl WholeRow for ConjugateGradient {
    type Shared = ();

    fn cost(&self) -> &impl Cost {
        &self.cost
    }

    fn room(&self) -> [usize; 2] {
        [1, 3 * self.rank.next_multiple_of(LANES)]
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
        let scales = &mut room.by_rating[..ratings];
        let mut vectors = room
            .beside
            .chunks_exact_mut(own.factors.len())
            .map(|factors| Unknowns { factors, bias: 0.0 });
        let mut next = || vectors.next().expect("three vectors");
        let (mut residual, direction, image) = (next(), next(), next());
        let ridge = (
            self.cost.ridge.on_factors(ratings),
            self.cost.ridge.on_bias(ratings),
        );

        fixed.predict(own.as_ref(), targets, scales);
        for (x, t) in scales.iter_mut().zip(targets.values) {
            *x = t - *x;
        }
        let p = Unknowns {
            bias: own.as_ref().bias,
            factors: own.factors,
        };
        residual.sum_rows(fixed, scales, targets.cols);
        residual.add_ridge(-1.0, ridge, &p);
        let p = conjugate_gradient(self.steps, p, [residual, direction, image], |d, image| {
            let flat = fixed.factors.flat();
            kernel::dot_rows(fixed.isa, d.factors, flat, targets.cols, scales);
            for x in &mut *scales {
                *x += d.bias;
            }
            image.sum_rows(fixed, scales, targets.cols);
            image.add_ridge(1.0, ridge, d);
        });
        if let Some(bias) = own.bias {
            *bias = p.bias;
        }
        Ok(())
    }
}
