//! The numbers that losses are written in.

use std::ops::{Add, Div, Mul, Neg, Sub};

/// Arithmetic and the elementary functions, whatever stands behind it: floats, lanes of floats, dual numbers of either.
///
/// All functions of floats come from `libm`: the same bits on every machine.
pub trait Real:
    Copy
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// A constant.
    fn constant(value: f64) -> Self;

    /// `e^x`.
    fn exp(self) -> Self;

    /// The natural logarithm.
    fn ln(self) -> Self;

    /// `ln(1 + x)`, exact for small x.
    fn ln_1p(self) -> Self;

    /// The square root.
    fn sqrt(self) -> Self;

    /// The hyperbolic tangent.
    fn tanh(self) -> Self;

    /// `self` to a power.
    fn pow(self, exponent: Self) -> Self;

    /// `self` where `condition` is above zero, `other` elsewhere.
    fn where_positive(self, condition: Self, other: Self) -> Self;

    /// The absolute value; its slope at zero counts as minus one.
    fn abs(self) -> Self {
        self.where_positive(self, -self)
    }

    /// The larger of two.
    fn max(self, other: Self) -> Self {
        self.where_positive(self - other, other)
    }

    /// The smaller of two.
    fn min(self, other: Self) -> Self {
        self.where_positive(other - self, other)
    }

    /// To a small whole power, by multiplication.
    fn powi(self, exponent: u32) -> Self {
        (0..exponent).fold(Self::constant(1.0), |product, _| product * self)
    }
}

impl Real for f64 {
    fn constant(value: f64) -> f64 {
        value
    }
    fn exp(self) -> f64 {
        libm::exp(self)
    }
    fn ln(self) -> f64 {
        libm::log(self)
    }
    fn ln_1p(self) -> f64 {
        libm::log1p(self)
    }
    fn sqrt(self) -> f64 {
        libm::sqrt(self)
    }
    fn tanh(self) -> f64 {
        libm::tanh(self)
    }
    fn pow(self, exponent: f64) -> f64 {
        libm::pow(self, exponent)
    }
    fn where_positive(self, condition: f64, other: f64) -> f64 {
        if condition > 0.0 { self } else { other }
    }
}

/// Sixteen floats that go through a formula together: what an operation costs beside its arithmetic is paid once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lanes(pub [f32; Lanes::COUNT]);

impl Lanes {
    /// How many floats.
    pub const COUNT: usize = 16;

    #[inline(always)]
    fn map(self, f: impl Fn(f32) -> f32) -> Lanes {
        Lanes(self.0.map(f))
    }

    #[inline(always)]
    fn zip(self, other: Lanes, f: impl Fn(f32, f32) -> f32) -> Lanes {
        Lanes(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

macro_rules! lanewise {
    ($trait:ident, $method:ident, $op:tt) => {
        impl $trait for Lanes {
            type Output = Lanes;
            #[inline(always)]
            fn $method(self, other: Lanes) -> Lanes {
                self.zip(other, |a, b| a $op b)
            }
        }
    };
}

lanewise!(Add, add, +);
lanewise!(Sub, sub, -);
lanewise!(Mul, mul, *);
lanewise!(Div, div, /);

impl Neg for Lanes {
    type Output = Lanes;
    #[inline(always)]
    fn neg(self) -> Lanes {
        self.map(|x| -x)
    }
}

impl Real for Lanes {
    #[inline(always)]
    fn constant(value: f64) -> Lanes {
        Lanes([value as f32; Lanes::COUNT])
    }
    fn exp(self) -> Lanes {
        self.map(libm::expf)
    }
    fn ln(self) -> Lanes {
        self.map(libm::logf)
    }
    fn ln_1p(self) -> Lanes {
        self.map(libm::log1pf)
    }
    #[inline(always)]
    fn sqrt(self) -> Lanes {
        // Rounded correctly by every machine.
        self.map(f32::sqrt)
    }
    fn tanh(self) -> Lanes {
        self.map(libm::tanhf)
    }
    fn pow(self, exponent: Lanes) -> Lanes {
        self.zip(exponent, libm::powf)
    }
    #[inline(always)]
    fn where_positive(self, condition: Lanes, other: Lanes) -> Lanes {
        let pick = |i: usize| match condition.0[i] > 0.0 {
            true => self.0[i],
            false => other.0[i],
        };
        Lanes(std::array::from_fn(pick))
    }
}
