//! Gradients averaged over each row, factor by factor, users before items; missing cells left out or counted as zeros.
//!
//! Zeros are never stored: what they add follows from the Gram matrix of the other side. As a command:
//!
//!     lowrank train STORE --out MODEL --solver cell-gradient --loss '(p-r)^2' --missing zero --no-biases --learning-rate 0.1

use lowrank::solver::Missing;
use lowrank::{InMemory, Options, Result, Threads, Trainer};

fn main() -> Result<()> {
    let triplets: Vec<_> = (0..30)
        .flat_map(|user| (0..20).map(move |item| (user, item, (1 + (user + item) % 2 * 4) as f32)))
        .filter(|(user, item, _)| (user * 7 + item * 3) % 5 != 0)
        .collect();
    let ratings = InMemory::from_triplets(30, 20, &triplets)?;

    for missing in [Missing::Skip, Missing::Zero] {
        let options = Options {
            solver: "cell-gradient".into(),
            loss: "(p-r)^2".into(),
            missing: Some(missing),
            biases: false,
            rank: 4,
            epochs: 100,
            learning_rates: vec![0.1],
            ..Options::default()
        };
        let state = Trainer::new(&ratings, options).run(&Threads::new(None)?)?;
        let (first, last) = (state.history[0].loss, state.history[100].loss);
        // User 0 and item 0 are not rated.
        let guess = state.parameters().predict(Some(0), Some(0));
        println!("{missing:?}: cost {first:.4} to {last:.4}, the missing cell is {guess:.2}");
        assert!(last < first);
    }
    Ok(())
}
