//! The pinball loss: a quantile instead of the mean (Koenker and Bassett 1978).

use super::{Loss, Real};

/// `tau (r - p)` where the prediction is too low, `(1 - tau) (p - r)` where it is too high.
#[derive(Debug, Clone, Copy)]
pub struct Quantile {
    /// The quantile, between 0 and 1.
    pub tau: f64,
}

impl Loss for Quantile {
    #[inline(always)]
    fn loss<R: Real>(&self, p: R, r: R) -> R {
        let low = R::constant(self.tau) * (r - p);
        let high = R::constant(1.0 - self.tau) * (p - r);
        low.max(high)
    }
}
