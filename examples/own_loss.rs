//! A loss of your own: one line, generic over the numbers it is written in.
//!
//! Called with dual numbers, the same line gives the slope and the curvature. Nobody derives by hand.

use lowrank::loss::check;
use lowrank::solver::Gradient;
use lowrank::{InMemory, Loss, Options, Real, Result, Threads, Trainer};

/// The logarithm of the hyperbolic cosine of the residual, where too high a prediction counts twice: squared near zero,
/// linear far off.
struct LogCosh;

impl Loss for LogCosh {
    fn loss<R: Real>(&self, prediction: R, rating: R) -> R {
        let e = prediction - rating;
        let twice = (e + e).where_positive(e, e);
        // ln cosh e = |e| + ln(1 + exp(-2 |e|)) - ln 2, which does not overflow.
        let size = twice.abs();
        size + (-(size + size)).exp().ln_1p() - R::constant(std::f64::consts::LN_2)
    }
}

fn main() -> Result<()> {
    // Its slope is compared with differences over the scale of the ratings, and its shape is looked at.
    let report = check(&LogCosh, (1.0, 5.0))?;
    println!(
        "slope off by {:.1e} at most; convex: {}",
        report.slope_error, report.convex
    );

    let triplets: Vec<_> = (0..40)
        .flat_map(|user| (0..25).map(move |item| (user, item, (1 + (user + item) % 5) as f32)))
        .filter(|(user, item, _)| (user + 2 * item) % 4 != 0)
        .collect();
    let ratings = InMemory::from_triplets(40, 25, &triplets)?;
    let options = Options {
        rank: 4,
        epochs: 100,
        learning_rates: vec![0.02],
        ..Options::default()
    };
    let solver = Gradient::new(&options, Box::new(LogCosh))?;
    let state = Trainer::new(&ratings, options)
        .solver(Box::new(solver))
        .run(&Threads::new(None)?)?;
    for line in state.history.iter().step_by(20) {
        println!(
            "epoch {:3}  cost {:9.3}  rmse {:.4}",
            line.epoch, line.loss, line.train_rmse
        );
    }
    assert!(state.history[100].loss < 0.5 * state.history[0].loss);
    Ok(())
}
