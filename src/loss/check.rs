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
}

/// Predictions that a loss is tried on for each rating.
const PREDICTIONS: usize = 64;

/// Ratings that a loss is tried on.
const RATINGS: usize = 8;

/// Checks a loss over a scale of ratings, from the smallest to the largest, and over predictions that reach beyond it by
/// as much again.
///
/// # Errors
/// If a value or a slope is not finite, or the slope does not agree with differences.
pub fn check(loss: &dyn Derived, scale: (f32, f32)) -> Result<Report> {
    let mut report = Report {
        slope_error: 0.0,
        convex: true,
    };
    let mut before = (f64::NAN, f64::NEG_INFINITY);
    for (p, r, width) in grid(scale) {
        let [value, slope, _] = loss.taylor(p, r);
        if !(value.is_finite() && slope.is_finite()) {
            return Err(loss.not_finite(p, r));
        }
        let h = 1e-6 * width;
        let numeric = (loss.value(p + h, r) - loss.value(p - h, r)) / (2.0 * h);
        let error = (numeric - slope).abs() / slope.abs().max(1.0);
        report.slope_error = report.slope_error.max(error);
        let rises = slope >= before.1 - 1e-9 * before.1.abs().max(1.0);
        report.convex &= rises || r != before.0;
        before = (r, slope);
    }
    if report.slope_error > 1e-4 {
        let what = format!("the slope of the loss is off by {:.1e}", report.slope_error);
        return Err(Error::new(ErrorKind::BadOption, what)
            .remedy("a loss must be continuous in the prediction"));
    }
    Ok(report)
}

/// The factor c of a loss that is `c (p - r)^2`, up to a constant: along a line its cost has an exact lowest point, and its
/// rows can be solved.
pub fn quadratic(loss: &dyn Derived) -> Option<f64> {
    let factor = loss.taylor(0.0, 0.0)[2] / 2.0;
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b.abs().max(1.0);
    let is = grid((-2.0, 3.0)).all(|(p, r, _)| {
        let [_, slope, curvature] = loss.taylor(p, r);
        close(curvature, 2.0 * factor) && close(slope, 2.0 * factor * (p - r))
    });
    (is && factor > 0.0).then_some(factor)
}

/// Whether a loss depends on the residual alone, so that predictions and ratings may be counted from any point, such as
/// the mean. That of a sign or of a count does not.
pub fn of_residual(loss: &dyn Derived) -> bool {
    grid((-2.0, 3.0)).all(|(p, r, _)| {
        let (here, there) = (loss.value(p, r), loss.value(p + 0.75, r + 0.75));
        (here - there).abs() <= 1e-9 * here.abs().max(1.0)
    })
}

/// Predictions, ratings, and the width of the scale.
fn grid(scale: (f32, f32)) -> impl Iterator<Item = (f64, f64, f64)> {
    let (low, high) = (f64::from(scale.0), f64::from(scale.1));
    let width = (high - low).max(1.0);
    let steps = |from: f64, to: f64, steps: usize| {
        (0..=steps).map(move |i| from + (to - from) * i as f64 / steps as f64)
    };
    steps(low, high, RATINGS).flat_map(move |r| {
        // A little off the round numbers, where kinks like to be.
        let predictions = steps(low - width, high + width, PREDICTIONS);
        predictions.map(move |p| (p + 1e-3 * width, r, width))
    })
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
        }
        let factor = |text: &str| quadratic(&*named_or_formula(text).unwrap());
        assert_eq!(factor("squared"), Some(0.5));
        assert_eq!(factor("(p-r)^2"), Some(1.0));
        assert_eq!(factor("p^2 - 2*p*r"), Some(1.0));
        for text in [
            "(p-2*r)^2",
            "p*p",
            "huber",
            "abs(p-r)",
            "-(p-r)^2",
            "exp(p)-r*p",
        ] {
            assert_eq!(factor(text), None, "{text}");
        }
        assert!(!of("-(p-r)^2").unwrap().convex);
        let residual = |text: &str| of_residual(&*named_or_formula(text).unwrap());
        for text in ["squared", "huber", "quantile", "abs(p-r)", "(p-r)^4"] {
            assert!(residual(text), "{text}");
        }
        for text in ["logistic", "hinge", "poisson", "(p-2*r)^2"] {
            assert!(!residual(text), "{text}");
        }
        assert!(!of("log(1+(p-r)^2)").unwrap().convex);
    }

    #[test]
    fn a_loss_that_is_not_finite_is_refused() {
        for (text, place) in [
            ("p - r*log(p)", 6),
            ("1/(p-p)", 1),
            ("sqrt(p-r)", 0),
            ("1 + exp(exp(exp(p)))", 4),
        ] {
            let error = of(text).unwrap_err().to_string();
            assert!(error.contains("not finite"), "{text}: {error}");
            let marked = error.lines().last().unwrap();
            assert_eq!(marked.find('^'), Some(place + 2), "{error}");
        }
    }
}
