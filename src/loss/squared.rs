//! Half the squared residual, so that the slope is the residual.

use super::{Loss, Real};

/// `1/2 (p - r)^2`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Squared;

impl Loss for Squared {
    #[inline(always)]
    fn loss<R: Real>(&self, p: R, r: R) -> R {
        R::constant(0.5) * (p - r) * (p - r)
    }
}
