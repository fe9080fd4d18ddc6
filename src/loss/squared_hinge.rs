//! The squared margin of a sign: smooth where the hinge is not.

use super::{Loss, Real};

/// `1/2 max(0, 1 - r p)^2`.
#[derive(Debug, Clone, Copy, Default)]
pub struct SquaredHinge;

impl Loss for SquaredHinge {
    #[inline(always)]
    fn loss<R: Real>(&self, p: R, r: R) -> R {
        let margin = (R::constant(1.0) - r * p).max(R::constant(0.0));
        R::constant(0.5) * margin * margin
    }
}
