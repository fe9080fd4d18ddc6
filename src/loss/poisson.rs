//! The negative log-likelihood of counts, with the prediction as the logarithm of the rate.

use super::{Loss, Real};

/// `exp(p) - r p`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Poisson;

impl Loss for Poisson {
    #[inline(always)]
    fn loss<R: Real>(&self, p: R, r: R) -> R {
        p.exp() - r * p
    }
}
