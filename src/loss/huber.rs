//! Squared for small residuals, absolute for large ones (Huber 1964).

use super::{Loss, Real};

/// `1/2 e^2` where `|e| <= delta`, else `delta (|e| - delta / 2)`.
#[derive(Debug, Clone, Copy)]
pub struct Huber {
    /// From where on a residual counts linearly.
    pub delta: f64,
}

impl Loss for Huber {
    #[inline(always)]
    fn loss<R: Real>(&self, p: R, r: R) -> R {
        let (e, delta) = (p - r, R::constant(self.delta));
        let half = R::constant(0.5);
        let linear = delta * (e.abs() - half * delta);
        linear.where_positive(e.abs() - delta, half * e * e)
    }
}
