//! Batch gradient descent on normalised ratings, with a learning rate for each step.
//!
//! The cost is the mean of the squared errors; ratings are brought to mean 0 and variance 1 first. As a command:
//!
//!     lowrank train STORE --out MODEL --solver gradient --loss '(p-r)^2' --reduce mean --normalize --no-biases \
//!         --regularization 0 --learning-rates 0.5,0.5,0.25

use lowrank::solver::Reduce;
use lowrank::{InMemory, Options, Result, Threads, Trainer};

fn main() -> Result<()> {
    // What 30 users think of 20 items: a taste each, and the item's character.
    let triplets: Vec<_> = (0..30)
        .flat_map(|user| (0..20).map(move |item| (user, item)))
        .filter(|(user, item)| (user * 7 + item * 3) % 5 != 0)
        .map(|(user, item)| (user, item, 1.0 + ((user % 3 + item % 3) % 3) as f32 * 2.0))
        .collect();
    let ratings = InMemory::from_triplets(30, 20, &triplets)?;

    // Large steps first, small ones at the end.
    let rates: Vec<f32> = (0..60)
        .map(|step| 8.0 / (1.0 + 0.05 * step as f32))
        .collect();
    let options = Options {
        solver: "gradient".into(),
        loss: "(p-r)^2".into(),
        reduce: Reduce::Mean,
        normalize: true,
        biases: false,
        regularization: Some(0.0),
        rank: 4,
        epochs: rates.len(),
        learning_rates: rates,
        ..Options::default()
    };
    let state = Trainer::new(&ratings, options).run(&Threads::new(None)?)?;

    // The cost is in normalised units, the error in stars.
    for line in state.history.iter().step_by(10) {
        println!(
            "step {:2}  cost {:.6}  rmse {:.6}",
            line.epoch, line.loss, line.train_rmse
        );
    }
    let last = state.history.last().expect("a history has its start");
    assert!(last.loss < 0.5 * state.history[0].loss);
    Ok(())
}
