//! Dual numbers: a value and its derivative, carried through arithmetic together.

use std::ops::{Add, Mul, Neg, Sub};

use super::Real;

/// `value + slope * epsilon` with `epsilon^2 = 0`: arithmetic on it is the chain rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dual<T> {
    /// The value.
    pub value: T,
    /// The derivative by the variable.
    pub slope: T,
}

impl<T: Real> Dual<T> {
    /// The variable that is differentiated by.
    pub fn variable(value: T) -> Dual<T> {
        Dual {
            value,
            slope: T::constant(1.0),
        }
    }

    /// A number that does not depend on the variable.
    pub fn fixed(value: T) -> Dual<T> {
        Dual {
            value,
            slope: T::constant(0.0),
        }
    }
}

impl<T: Real> Real for Dual<T> {
    fn constant(value: f64) -> Dual<T> {
        Dual::fixed(T::constant(value))
    }
}

impl<T: Real> Add for Dual<T> {
    type Output = Dual<T>;
    fn add(self, other: Dual<T>) -> Dual<T> {
        Dual {
            value: self.value + other.value,
            slope: self.slope + other.slope,
        }
    }
}

impl<T: Real> Sub for Dual<T> {
    type Output = Dual<T>;
    fn sub(self, other: Dual<T>) -> Dual<T> {
        Dual {
            value: self.value - other.value,
            slope: self.slope - other.slope,
        }
    }
}

impl<T: Real> Mul for Dual<T> {
    type Output = Dual<T>;
    fn mul(self, other: Dual<T>) -> Dual<T> {
        Dual {
            value: self.value * other.value,
            slope: self.slope * other.value + self.value * other.slope,
        }
    }
}

impl<T: Real> Neg for Dual<T> {
    type Output = Dual<T>;
    fn neg(self) -> Dual<T> {
        Dual {
            value: -self.value,
            slope: -self.slope,
        }
    }
}
