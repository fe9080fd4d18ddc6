//! What is minimised: one line states a loss, its derivatives follow.
//!
//! A [`Loss`] is a method generic over [`Real`]. Called with plain floats it gives the value; called with a [`Dual`]
//! number it gives value and slope, exact to rounding (forward-mode differentiation). A prediction is one scalar, so the
//! slope costs about twice the value and the gradient of any factor is the slope times the other side's factor.

mod dual;
mod squared;

use std::ops::{Add, Mul, Neg, Sub};

pub use dual::Dual;
pub use squared::Squared;

/// The numbers that a loss is written in.
pub trait Real:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Neg<Output = Self>
{
    /// A constant.
    fn constant(value: f64) -> Self;
}

impl Real for f32 {
    fn constant(value: f64) -> f32 {
        value as f32
    }
}

impl Real for f64 {
    fn constant(value: f64) -> f64 {
        value
    }
}

/// The cost of predicting `prediction` where the rating is `rating`.
pub trait Loss: Sync + Send {
    /// One line.
    fn loss<R: Real>(&self, prediction: R, rating: R) -> R;

    /// The derivative by the prediction.
    fn slope(&self, prediction: f32, rating: f32) -> f32 {
        self.loss(Dual::variable(prediction), Dual::fixed(rating))
            .slope
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every loss: its slope against central differences in f64.
    fn check_slope<L: Loss>(loss: &L) {
        for rating in [-1.0, 0.5, 3.0, 5.0] {
            for step in -20..=20 {
                let (p, h) = (0.37 * f64::from(step), 1e-6);
                let value = |p: f64| loss.loss(p, rating);
                let numeric = (value(p + h) - value(p - h)) / (2.0 * h);
                let exact = loss.loss(Dual::variable(p), Dual::fixed(rating)).slope;
                let error = (numeric - exact).abs() / exact.abs().max(1.0);
                assert!(error < 1e-7, "at {p}, {rating}: {numeric} is not {exact}");
            }
        }
    }

    #[test]
    fn slopes_are_exact() {
        check_slope(&Squared);
    }
}
