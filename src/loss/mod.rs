//! What is minimised: one line states a loss, its derivatives follow.
//!
//! A [`Loss`] is a method generic over [`Real`]. Called with floats it gives the value; called with [`Dual`] numbers it
//! gives value and slope, and with dual numbers of dual numbers the curvature, exact to rounding (forward-mode
//! differentiation, Griewank and Walther 2008). A prediction is one scalar, so the gradient of any factor is the slope
//! times the other side's factor. Whatever implements [`Loss`] is a [`Derived`] loss, which drivers use: one dynamic call
//! for a whole row, sixteen ratings at a time inside.
//!
//! On the command line a loss is a name of [`LOSSES`] or a formula in `p` and `r` ([`Formula`]); what factors cost by their
//! size is a [`Penalty`], likewise a name or a formula in `x`.

mod absolute;
mod check;
mod dual;
mod epsilon_insensitive;
mod formula;
mod hinge;
mod huber;
mod logistic;
mod penalty;
mod poisson;
mod quantile;
mod real;
mod squared;
mod squared_hinge;

pub use absolute::Absolute;
pub use check::{Report, check, of_residual, quadratic};
pub use dual::Dual;
pub use epsilon_insensitive::EpsilonInsensitive;
pub use formula::Formula;
pub use hinge::Hinge;
pub use huber::Huber;
pub use logistic::Logistic;
pub use penalty::{NamedPenalty, PENALTIES, Penalty};
pub use poisson::Poisson;
pub use quantile::Quantile;
pub use real::{Lanes, Real};
pub use squared::Squared;
pub use squared_hinge::SquaredHinge;

use crate::error::{Error, ErrorKind, Result};

/// The cost of predicting `prediction` where the rating is `rating`.
pub trait Loss: Sync + Send {
    /// One line.
    fn loss<R: Real>(&self, prediction: R, rating: R) -> R;

    /// The error that says that the loss has no value here.
    fn not_finite(&self, prediction: f64, rating: f64) -> Error {
        not_finite(prediction, rating)
    }
}

fn not_finite(prediction: f64, rating: f64) -> Error {
    let what = format!("the loss is not finite where p is {prediction:.3} and r is {rating:.3}");
    Error::new(ErrorKind::BadOption, what)
}

/// A loss with its derivatives, for a row of ratings at a time. Every [`Loss`] is one.
pub trait Derived: Sync + Send {
    /// The loss of one rating.
    fn value(&self, prediction: f64, rating: f64) -> f64;

    /// Value, slope and curvature of one rating.
    fn taylor(&self, prediction: f64, rating: f64) -> [f64; 3];

    /// The slope at one rating, where they come one by one.
    fn slope(&self, prediction: f64, rating: f64) -> f64;

    /// The error that says that the loss has no value here.
    fn not_finite(&self, prediction: f64, rating: f64) -> Error;

    /// Replaces predictions by the slopes of the loss there.
    fn slopes(&self, predictions: &mut [f32], ratings: &[f32]);

    /// Replaces predictions by the slopes of the loss there, and sets the curvatures.
    fn slopes_and_curvatures(
        &self,
        predictions: &mut [f32],
        ratings: &[f32],
        curvatures: &mut [f32],
    );
}

impl<L: Loss> Derived for L {
    fn value(&self, prediction: f64, rating: f64) -> f64 {
        self.loss(prediction, rating)
    }

    fn taylor(&self, prediction: f64, rating: f64) -> [f64; 3] {
        let p = Dual::variable(Dual::variable(prediction));
        let r = Dual::fixed(Dual::fixed(rating));
        let loss = self.loss(p, r);
        [loss.value.value, loss.slope.value, loss.slope.slope]
    }

    fn slope(&self, prediction: f64, rating: f64) -> f64 {
        self.loss(Dual::variable(prediction), Dual::fixed(rating))
            .slope
    }

    fn not_finite(&self, prediction: f64, rating: f64) -> Error {
        Loss::not_finite(self, prediction, rating)
    }

    fn slopes(&self, predictions: &mut [f32], ratings: &[f32]) {
        in_lanes(
            predictions,
            ratings,
            |p, r| {
                let loss = self.loss(Dual::variable(p), Dual::fixed(r));
                (loss.slope, ())
            },
            |_, ()| {},
        );
    }

    fn slopes_and_curvatures(
        &self,
        predictions: &mut [f32],
        ratings: &[f32],
        curvatures: &mut [f32],
    ) {
        in_lanes(
            predictions,
            ratings,
            |p, r| {
                let p = Dual::variable(Dual::variable(p));
                let loss = self.loss(p, Dual::fixed(Dual::fixed(r)));
                (loss.slope.value, loss.slope.slope)
            },
            |at, curvature| {
                let out = &mut curvatures[at..];
                let count = out.len().min(Lanes::COUNT);
                out[..count].copy_from_slice(&curvature.0[..count]);
            },
        );
    }
}

/// Replaces predictions by what `f` makes of sixteen of them and of their ratings; the rest of what it makes goes to
/// `also`, with the position of the first of the sixteen.
#[inline(always)]
fn in_lanes<X>(
    predictions: &mut [f32],
    ratings: &[f32],
    f: impl Fn(Lanes, Lanes) -> (Lanes, X),
    mut also: impl FnMut(usize, X),
) {
    let chunks = predictions
        .chunks_mut(Lanes::COUNT)
        .zip(ratings.chunks(Lanes::COUNT));
    for (chunk, (p, r)) in chunks.enumerate() {
        let count = p.len();
        let (mut lanes, mut rated) = ([0.0; Lanes::COUNT], [0.0; Lanes::COUNT]);
        lanes[..count].copy_from_slice(p);
        rated[..count].copy_from_slice(r);
        let (out, rest) = f(Lanes(lanes), Lanes(rated));
        p.copy_from_slice(&out.0[..count]);
        also(chunk * Lanes::COUNT, rest);
    }
}

/// A line of the table of losses.
#[derive(Debug)]
pub struct Named {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is, as a formula.
    pub summary: &'static str,
    /// What it is when no parameter is given, as in `huber` for `huber(1)`; none if it takes none.
    pub parameter: Option<f64>,
    /// Ratings that it is meant for, the smallest and the largest: stars, signs, counts.
    pub scale: (f32, f32),
    /// Makes it with its parameter.
    pub make: fn(f64) -> Box<dyn Derived>,
}

impl Named {
    const fn new(
        name: &'static str,
        summary: &'static str,
        make: fn(f64) -> Box<dyn Derived>,
    ) -> Named {
        Named {
            name,
            summary,
            parameter: None,
            scale: (1.0, 5.0),
            make,
        }
    }

    const fn on(self, smallest: f32, largest: f32) -> Named {
        Named {
            scale: (smallest, largest),
            ..self
        }
    }

    const fn with(self, parameter: f64) -> Named {
        Named {
            parameter: Some(parameter),
            ..self
        }
    }
}

/// Every loss that has a name.
pub const LOSSES: &[Named] = &[
    Named::new("squared", "1/2 (p - r)^2", |_| Box::new(Squared)),
    Named::new("absolute", "|p - r|", |_| Box::new(Absolute)),
    Named::new(
        "huber",
        "squared within delta = 1, linear beyond",
        |delta| Box::new(Huber { delta }),
    )
    .with(1.0),
    Named::new(
        "epsilon-insensitive",
        "max(0, |p - r| - epsilon) with epsilon = 0.5",
        |epsilon| Box::new(EpsilonInsensitive { epsilon }),
    )
    .with(0.5),
    Named::new(
        "quantile",
        "pinball loss of the quantile tau = 0.5",
        |tau| Box::new(Quantile { tau }),
    )
    .with(0.5),
    Named::new("logistic", "log(1 + exp(-r p))", |_| Box::new(Logistic)).on(-1.0, 1.0),
    Named::new("hinge", "max(0, 1 - r p)", |_| Box::new(Hinge)).on(-1.0, 1.0),
    Named::new("squared-hinge", "1/2 max(0, 1 - r p)^2", |_| {
        Box::new(SquaredHinge)
    })
    .on(-1.0, 1.0),
    Named::new("poisson", "exp(p) - r p", |_| Box::new(Poisson)).on(0.0, 1.0),
];

/// A loss by its name, with its parameter in parentheses if it shall not be the default, or by a formula in `p` and `r`.
///
/// # Errors
/// If the formula cannot be read (the place is marked), or a parameter is out of range.
pub fn named_or_formula(text: &str) -> Result<Box<dyn Derived>> {
    let text = text.trim();
    let (name, argument) = match text.strip_suffix(')').and_then(|t| t.split_once('(')) {
        Some((name, argument)) => (name.trim(), argument.trim().parse::<f64>().ok()),
        None => (text, None),
    };
    let Some(named) = LOSSES.iter().find(|named| named.name == name) else {
        return Ok(Box::new(Formula::parse(text, &["p", "r"])?));
    };
    match (named.parameter, argument) {
        (Some(_), Some(value)) if value > 0.0 && value.is_finite() => Ok((named.make)(value)),
        (default, None) if name == text => Ok((named.make)(default.unwrap_or_default())),
        (None, _) => Err(Error::new(
            ErrorKind::BadOption,
            format!("the loss {name} takes no parameter"),
        )),
        (Some(default), _) => Err(Error::new(
            ErrorKind::BadOption,
            format!("the loss {name} takes one number above 0"),
        )
        .remedy(format!("write it like {name}({default})"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every loss by name, and some formulas.
    fn all() -> Vec<(String, Box<dyn Derived>)> {
        let formulas = [
            "(p-r)^2",
            "log(1+exp(-r*p))",
            "where(p-r, p-r, 2*(r-p))",
            "p^2/(1+r^2)-tanh(p)",
        ];
        let names = LOSSES.iter().map(|named| named.name);
        names
            .chain(formulas)
            .map(|text| (text.to_owned(), named_or_formula(text).unwrap()))
            .collect()
    }

    #[test]
    fn derivatives_agree_with_differences() {
        for (name, loss) in all() {
            for r in [-1.0, 0.5, 1.0, 4.0] {
                for step in -20..=20 {
                    // Off the kinks, which lie at multiples of a quarter.
                    let p = 0.23 * f64::from(step) + 0.013;
                    let h = 1e-5;
                    let [value, slope, curvature] = loss.taylor(p, r);
                    assert_eq!(value, loss.value(p, r), "{name}");
                    assert_eq!(slope, loss.slope(p, r), "{name}");
                    let numeric = (loss.value(p + h, r) - loss.value(p - h, r)) / (2.0 * h);
                    let error = (numeric - slope).abs() / slope.abs().max(1.0);
                    assert!(error < 1e-8, "{name} at {p}, {r}: {numeric} is not {slope}");
                    let slopes = [p - h, p + h].map(|p| loss.taylor(p, r)[1]);
                    let numeric = (slopes[1] - slopes[0]) / (2.0 * h);
                    let error = (numeric - curvature).abs() / curvature.abs().max(1.0);
                    assert!(
                        error < 1e-8,
                        "{name} at {p}, {r}: {numeric} is not {curvature}"
                    );
                }
            }
        }
    }

    #[test]
    fn rows_of_any_length_agree_with_single_ratings() {
        for (name, loss) in all() {
            for length in [0, 1, 15, 16, 17, 50] {
                let p: Vec<f32> = (0..length).map(|i| i as f32 * 0.13 - 2.0).collect();
                let r: Vec<f32> = (0..length).map(|i| (i % 5) as f32 - 1.0).collect();
                let (mut slopes, mut both) = (p.clone(), p.clone());
                let mut curvatures = vec![0.0; length];
                loss.slopes(&mut slopes, &r);
                loss.slopes_and_curvatures(&mut both, &r, &mut curvatures);
                assert_eq!(slopes, both, "{name}");
                for i in 0..length {
                    let [_, slope, curvature] = loss.taylor(p[i].into(), r[i].into());
                    let close =
                        |a: f32, b: f64| (f64::from(a) - b).abs() <= 1e-5 * b.abs().max(1.0);
                    assert!(
                        close(slopes[i], slope),
                        "{name}: {} is not {slope}",
                        slopes[i]
                    );
                    assert!(close(curvatures[i], curvature), "{name}");
                }
            }
        }
    }

    #[test]
    fn parameters_are_read() {
        let at = |text: &str| named_or_formula(text).unwrap().value(3.0, 0.0);
        assert_eq!(at("huber"), 2.5);
        assert_eq!(at("huber(2)"), 4.0);
        assert_eq!(at(" quantile( 0.25 ) "), 2.25);
        for bad in ["huber()", "huber(x)", "huber(-1)", "squared(2)"] {
            assert!(named_or_formula(bad).is_err(), "{bad}");
        }
    }
}
