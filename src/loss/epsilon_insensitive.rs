//! The absolute residual beyond a tolerance (support vector regression).

use super::{Loss, Real};

/// `max(0, |p - r| - epsilon)`.
#[derive(Debug, Clone, Copy)]
pub struct EpsilonInsensitive {
    /// The residual that costs nothing.
    pub epsilon: f64,
}

impl Loss for EpsilonInsensitive {
    #[inline(always)]
    fn loss<R: Real>(&self, p: R, r: R) -> R {
        ((p - r).abs() - R::constant(self.epsilon)).max(R::constant(0.0))
    }
}
