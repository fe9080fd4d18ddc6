//! The margin of a sign (support vector machines).

use super::{Loss, Real};

/// `max(0, 1 - r p)`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hinge;

impl Loss for Hinge {
    #[inline(always)]
    fn loss<R: Real>(&self, p: R, r: R) -> R {
        (R::constant(1.0) - r * p).max(R::constant(0.0))
    }
}
