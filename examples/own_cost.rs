//! The caller writes the cost and brings the first factors; the gradient is derived.
//!
//! Error and regularization are formulas: change either, and no new mathematics is needed. As a command:
//!
//!     lowrank train STORE --out MODEL --solver gradient --loss '(p-r)^2' --regularizer '0.5*x^2' --no-biases \
//!         --regularization 0 --regularization-row 0.02 --learning-rate 0.01 --init-users P.csv --init-items Q.csv

use lowrank::{Factors, InMemory, Options, Result, Threads, Trainer};

fn main() -> Result<()> {
    // What is not rated is not there: no zeros, no mask.
    let rated = [
        (0, 0, 5.0),
        (0, 1, 3.0),
        (0, 3, 1.0),
        (1, 0, 4.0),
        (1, 3, 1.0),
    ];
    let more = [
        (2, 0, 1.0),
        (2, 1, 1.0),
        (2, 3, 5.0),
        (3, 0, 1.0),
        (3, 3, 4.0),
        (4, 1, 1.0),
        (4, 2, 5.0),
    ];
    let ratings = InMemory::from_triplets(5, 4, &[rated.as_slice(), &more].concat())?;
    let threads = Threads::new(None)?;

    // The factors' shape sets the rank.
    let (p, q) = (factors(5, 0.3), factors(4, 0.7));
    for (loss, regularizer) in [
        ("(p-r)^2", "0.5*x^2"),
        ("(p-r)^2", "abs(x)"),
        ("sqrt(1 + (p-r)^2)", "0.5*x^2 + 0.1*x^4"),
    ] {
        let options = Options {
            solver: "gradient".into(),
            loss: loss.into(),
            regularizer: regularizer.into(),
            regularization: Some(0.0),
            regularization_row: 0.02,
            biases: false,
            learning_rates: vec![0.01],
            epochs: 2000,
            ..Options::default()
        };
        let state = Trainer::new(&ratings, options)
            .start_from(p.clone(), q.clone())
            .run(&threads)?;
        let (first, last) = (state.history[0], state.history[2000]);
        println!(
            "{loss} and {regularizer}: cost {:.4} to {:.4}",
            first.loss, last.loss
        );
        let parameters = state.into_parameters();
        for user in 0..5 {
            let row =
                (0..4).map(|item| format!("{:7.3}", parameters.predict(Some(user), Some(item))));
            println!("  {}", row.collect::<String>());
        }
        assert!(last.train_rmse < 0.5, "{loss} and {regularizer}");
    }
    Ok(())
}

/// Two numbers a row, in no particular order.
fn factors(rows: usize, seed: f32) -> Factors {
    let mut factors = Factors::zeros(rows, 2, false);
    for row in 0..rows {
        for (at, x) in factors.row_mut(row).iter_mut().enumerate() {
            *x = (seed + 0.37 * row as f32 + 0.61 * at as f32).fract();
        }
    }
    factors
}
