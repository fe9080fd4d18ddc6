//! What a factor or a bias costs by its own size.

use super::{Derived, Formula};
use crate::error::{Error, ErrorKind, Result};

/// A penalty that has a name.
#[derive(Debug)]
pub struct NamedPenalty {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is short for.
    pub formula: &'static str,
}

/// Every penalty that has a name. The first is the default, for which solvers have exact steps.
pub const PENALTIES: &[NamedPenalty] = &[
    NamedPenalty {
        name: "l2",
        formula: "0.5*x^2",
    },
    NamedPenalty {
        name: "l1",
        formula: "abs(x)",
    },
];

/// The penalty on each coordinate of a row, with its slope: a [`Formula`] in one variable, differentiated as losses are.
#[derive(Debug, Clone, PartialEq)]
pub struct Penalty {
    formula: Formula,
    is_l2: bool,
    lowest_at_zero: bool,
}

/// Coordinates that a penalty is tried on.
const LARGEST: f64 = 4.0;
const STEPS: i32 = 64;

impl Penalty {
    /// A penalty by its name, or by a formula in `x`.
    ///
    /// # Errors
    /// If the formula cannot be read (the place is marked), or it is not finite around zero.
    pub fn named_or_formula(text: &str) -> Result<Penalty> {
        let text = text.trim();
        let named = PENALTIES.iter().find(|named| named.name == text);
        let mut penalty = Penalty {
            formula: Formula::parse(named.map_or(text, |named| named.formula), &["x"])?,
            is_l2: text == PENALTIES[0].name,
            lowest_at_zero: false,
        };
        // A little off the round numbers, where kinks like to be.
        let grid = || (-STEPS..STEPS).map(|i| (f64::from(i) + 0.13) * LARGEST / f64::from(STEPS));
        for x in [0.0].into_iter().chain(grid()) {
            penalty.check(x)?;
        }
        let least = penalty.value(0.0);
        penalty.lowest_at_zero = grid().all(|x| penalty.value(x) >= least);
        Ok(penalty)
    }

    fn check(&self, x: f64) -> Result<()> {
        let (value, slope) = (self.value(x), self.slope(x));
        if !(value.is_finite() && slope.is_finite()) {
            let what = format!("the regularizer is not finite where x is {x:.3}");
            return Err(Error::new(ErrorKind::BadOption, what)
                .remedy("give one that is finite for every x, such as 0.5*x^2 + 0.1*abs(x)"));
        }
        Ok(())
    }

    /// Whether it is `l2` by name: half the square, whose slope is the coordinate itself.
    pub fn is_l2(&self) -> bool {
        self.is_l2
    }

    /// The penalty of a coordinate.
    pub fn value(&self, x: f64) -> f64 {
        self.formula.evaluate(&[x])
    }

    /// Its slope there.
    pub fn slope(&self, x: f64) -> f64 {
        if x == 0.0 && self.lowest_at_zero {
            return 0.0;
        }
        // To the formula, x is a prediction; it names no rating.
        self.formula.taylor(x, 0.0)[1]
    }

    /// The sum over a row of coordinates.
    pub fn sum(&self, row: &[f32]) -> f64 {
        row.iter().map(|&x| self.value(x.into())).sum()
    }

    /// Replaces coordinates by the slopes of the penalty there.
    ///
    /// Where zero is the lowest point, the slope at zero is zero, also if there is a kink: what is zero stays zero unless
    /// a rating moves it.
    pub fn slopes(&self, row: &mut [f32]) {
        if self.is_l2 {
            return;
        }
        // A formula names no rating, so that any numbers will do for them.
        let coordinates = row.to_vec();
        self.formula.slopes(row, &coordinates);
        if self.lowest_at_zero {
            let at_zero = row.iter_mut().zip(&coordinates).filter(|(_, x)| **x == 0.0);
            at_zero.for_each(|(slope, _)| *slope = 0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_are_those_of_the_formula() {
        type Slope = fn(f64) -> f64;
        let cases: [(&str, Slope); 4] = [
            ("l2", |x| x),
            ("l1", |x| if x == 0.0 { 0.0 } else { x.signum() }),
            ("x^4 + exp(-x)", |x| 4.0 * x.powi(3) - (-x).exp()),
            ("(x-1)^2", |x| 2.0 * (x - 1.0)),
        ];
        let row: Vec<f32> = (-20..=20).map(|i| i as f32 * 0.125).collect();
        for (text, expected) in cases {
            let penalty = Penalty::named_or_formula(text).unwrap();
            let mut slopes = row.clone();
            penalty.slopes(&mut slopes);
            for (&x, slope) in row.iter().zip(slopes) {
                let expected = expected(x.into());
                let error = |slope: f64| (slope - expected).abs() / expected.abs().max(1.0);
                assert!(error(penalty.slope(x.into())) < 1e-12, "{text} at {x}");
                assert!(error(slope.into()) < 1e-5, "{text} at {x}: {slope}");
            }
        }
    }

    #[test]
    fn what_is_no_penalty_is_refused() {
        for (text, what) in [
            ("log(x)", "not finite"),
            ("1/x", "not finite"),
            ("sqrt(x)", "not finite"),
            ("p^2", "no variable named \"p\""),
            ("l3", "no variable named \"l3\""),
        ] {
            let error = Penalty::named_or_formula(text).unwrap_err();
            assert!(error.to_string().contains(what), "{text}: {error}");
        }
    }
}
