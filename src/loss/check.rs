//! What is checked of a loss before it is minimised.

use super::Derived;
use crate::error::{Error, ErrorKind, Result};

/// What a loss turned out to be, on a grid of predictions and ratings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Report {
    /// The largest difference between the derived slope and central differences, relative to the slope where it is
    /// above 1.
    pub slope_error: f64,
    /// Whether the slope never falls as the prediction rises: then every row has one minimum.
    pub convex: bool,
    /// The factor c if the loss is `c (p - r)^2`, up to a constant: then steps along a line are exact, and rows can be
    /// solved.
    pub quadratic: Option<f64>,
}

/// Ratings and predictions that a loss is tried on, besides the scale of the data: `range` is the smallest and the
/// largest rating.
const STEPS: i32 = 64;

/// Checks a loss over a scale of ratings and over predictions that reach beyond it by as much again.
///
/// # Errors
/// If a value or a slope is not finite, or the slope does not agree with differences.
pub fn check(loss: &dyn Derived, range: (f32, f32)) -> Result<Report> {
    let (low, high) = (f64::from(range.0), f64::from(range.1));
    let width = (high - low).max(1.0);
    let grid = |from: f64, to: f64, steps: i32| {
        (0..=steps).map(move |i| from + (to - from) * f64::from(i) / f64::from(steps))
    };
    let mut report = Report {
        slope_error: 0.0,
        convex: true,
        quadratic: None,
    };
    let mut quadratic = true;
    let mut factor = None;
    for r in grid(low, high, 8) {
        let mut before = f64::NEG_INFINITY;
        // Not the grid's own multiples, where kinks like to be.
        for p in grid(low - width, high + width, STEPS).map(|p| p + 1e-3 * width) {
            let [value, slope, curvature] = loss.taylor(p, r);
            if !(value.is_finite() && slope.is_finite()) {
                return Err(Error::new(
                    ErrorKind::BadOption,
                    format!(
                        "the loss is not finite for the prediction {p:.3} of the rating {r:.3}"
                    ),
                ));
            }
            let h = 1e-6 * width;
            let numeric = (loss.value(p + h, r) - loss.value(p - h, r)) / (2.0 * h);
            let error = (numeric - slope).abs() / slope.abs().max(1.0);
            report.slope_error = report.slope_error.max(error);
            report.convex &= slope >= before - 1e-9 * before.abs().max(1.0);
            before = slope;
            let factor = *factor.get_or_insert(curvature / 2.0);
            let exact = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b.abs().max(1.0);
            quadratic &= exact(curvature, 2.0 * factor) && exact(slope, 2.0 * factor * (p - r));
        }
    }
    if report.slope_error > 1e-4 {
        return Err(Error::new(
            ErrorKind::BadOption,
            format!("the slope of the loss is off by {:.1e}", report.slope_error),
        ));
    }
    report.quadratic = factor.filter(|&factor| quadratic && factor > 0.0);
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::super::{LOSSES, named_or_formula};
    use super::*;

    fn of(text: &str) -> Result<Report> {
        check(&*named_or_formula(text)?, (1.0, 5.0))
    }

    #[test]
    fn losses_are_told_apart() {
        for named in LOSSES {
            let report = of(named.name).unwrap();
            assert!(report.convex, "{}", named.name);
            assert_eq!(
                report.quadratic.is_some(),
                named.name == "squared",
                "{}",
                named.name
            );
        }
        assert_eq!(of("(p-r)^2").unwrap().quadratic, Some(1.0));
        assert_eq!(of("p^2 - 2*p*r").unwrap().quadratic, Some(1.0));
        assert_eq!(of("(p-2*r)^2").unwrap().quadratic, None);
        assert_eq!(of("p*p").unwrap().quadratic, None);
        assert!(!of("-(p-r)^2").unwrap().convex);
        assert!(!of("log(1+(p-r)^2)").unwrap().convex);
    }

    #[test]
    fn a_loss_that_is_not_finite_is_refused() {
        for text in ["p - r*log(p)", "1/(p-p)", "sqrt(p-r)", "exp(exp(exp(p)))"] {
            assert!(
                of(text).unwrap_err().to_string().contains("not finite"),
                "{text}"
            );
        }
    }
}
