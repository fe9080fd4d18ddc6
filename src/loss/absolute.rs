//! The absolute residual: the median instead of the mean.

use super::{Loss, Real};

/// `|p - r|`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Absolute;

impl Loss for Absolute {
    #[inline(always)]
    fn loss<R: Real>(&self, p: R, r: R) -> R {
        (p - r).abs()
    }
}
