//! Dual numbers: a value and its derivative, carried through arithmetic together.

use std::ops::{Add, Div, Mul, Neg, Sub};

use super::Real;

/// `value + slope * epsilon` with `epsilon^2 = 0`: arithmetic on it is the chain rule, exact to rounding.
///
/// A dual number of dual numbers carries the second derivative as `slope.slope`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dual<T> {
    /// The value.
    pub value: T,
    /// The derivative by the variable.
    pub slope: T,
}

impl<T: Real> Dual<T> {
    /// The variable that is differentiated by.
    #[inline(always)]
    pub fn variable(value: T) -> Dual<T> {
        Dual {
            value,
            slope: T::constant(1.0),
        }
    }

    /// A number that does not depend on the variable.
    #[inline(always)]
    pub fn fixed(value: T) -> Dual<T> {
        Dual {
            value,
            slope: T::constant(0.0),
        }
    }

    /// `f(self)`, given `f` and its derivative at the value.
    #[inline(always)]
    fn chain(self, value: T, derivative: T) -> Dual<T> {
        Dual {
            value,
            slope: derivative * self.slope,
        }
    }
}

impl<T: Real> Add for Dual<T> {
    type Output = Dual<T>;
    #[inline(always)]
    fn add(self, other: Dual<T>) -> Dual<T> {
        Dual {
            value: self.value + other.value,
            slope: self.slope + other.slope,
        }
    }
}

impl<T: Real> Sub for Dual<T> {
    type Output = Dual<T>;
    #[inline(always)]
    fn sub(self, other: Dual<T>) -> Dual<T> {
        Dual {
            value: self.value - other.value,
            slope: self.slope - other.slope,
        }
    }
}

impl<T: Real> Mul for Dual<T> {
    type Output = Dual<T>;
    #[inline(always)]
    fn mul(self, other: Dual<T>) -> Dual<T> {
        Dual {
            value: self.value * other.value,
            slope: self.slope * other.value + self.value * other.slope,
        }
    }
}

impl<T: Real> Div for Dual<T> {
    type Output = Dual<T>;
    #[inline(always)]
    fn div(self, other: Dual<T>) -> Dual<T> {
        let value = self.value / other.value;
        Dual {
            value,
            slope: (self.slope - value * other.slope) / other.value,
        }
    }
}

impl<T: Real> Neg for Dual<T> {
    type Output = Dual<T>;
    #[inline(always)]
    fn neg(self) -> Dual<T> {
        Dual {
            value: -self.value,
            slope: -self.slope,
        }
    }
}

impl<T: Real> Real for Dual<T> {
    #[inline(always)]
    fn constant(value: f64) -> Dual<T> {
        Dual::fixed(T::constant(value))
    }

    fn exp(self) -> Dual<T> {
        let value = self.value.exp();
        self.chain(value, value)
    }

    fn ln(self) -> Dual<T> {
        self.chain(self.value.ln(), T::constant(1.0) / self.value)
    }

    fn ln_1p(self) -> Dual<T> {
        let one = T::constant(1.0);
        self.chain(self.value.ln_1p(), one / (one + self.value))
    }

    fn sqrt(self) -> Dual<T> {
        let value = self.value.sqrt();
        self.chain(value, T::constant(0.5) / value)
    }

    fn tanh(self) -> Dual<T> {
        let value = self.value.tanh();
        self.chain(value, T::constant(1.0) - value * value)
    }

    fn pow(self, exponent: Dual<T>) -> Dual<T> {
        let value = self.value.pow(exponent.value);
        let one = T::constant(1.0);
        let by_base = exponent.value * self.value.pow(exponent.value - one) * self.slope;
        let by_exponent = value * self.value.ln() * exponent.slope;
        // A constant exponent must not meet the logarithm of a base that is zero or negative.
        let zero = T::constant(0.0);
        let varies = exponent.slope * exponent.slope;
        Dual {
            value,
            slope: by_base + by_exponent.where_positive(varies, zero),
        }
    }

    #[inline(always)]
    fn where_positive(self, condition: Dual<T>, other: Dual<T>) -> Dual<T> {
        Dual {
            value: self.value.where_positive(condition.value, other.value),
            slope: self.slope.where_positive(condition.value, other.slope),
        }
    }
}
