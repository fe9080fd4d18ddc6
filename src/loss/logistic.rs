//! The negative log-likelihood of a sign: ratings above zero are likes, those below dislikes.

use super::{Loss, Real};

/// `log(1 + exp(-r p))`, without overflow.
#[derive(Debug, Clone, Copy, Default)]
pub struct Logistic;

impl Loss for Logistic {
    #[inline(always)]
    fn loss<R: Real>(&self, p: R, r: R) -> R {
        let z = -(r * p);
        z.max(R::constant(0.0)) + (-z.abs()).exp().ln_1p()
    }
}
