//! Non-negative factors by multiplicative updates on all cells, and how they converge.
//!
//! Every quantity comes from Gram matrices: the matrix of all cells is never formed. As a command:
//!
//!     lowrank train STORE --out MODEL --solver nmf --study study.csv

use lowrank::solver::{Missing, Study};
use lowrank::{InMemory, Options, Result, Threads, Trainer};

fn main() -> Result<()> {
    let triplets: Vec<_> = (0..30)
        .flat_map(|user| (0..20).map(move |item| (user, item, (1 + (user + item) % 2 * 4) as f32)))
        .filter(|(user, item, _)| (user * 7 + item * 3) % 5 != 0)
        .collect();
    let ratings = InMemory::from_triplets(30, 20, &triplets)?;
    let options = Options {
        solver: "nmf".into(),
        missing: Some(Missing::Zero),
        biases: false,
        rank: 4,
        epochs: 40,
        ..Options::default()
    };

    // Each line is made from the factors before and after an iteration; two identities are tested as it goes.
    let mut study = Study::new(&options)?;
    let mut before = None;
    Trainer::new(&ratings, options)
        .after_epoch(|state| {
            let now = state.parameters().clone();
            if let Some(before) = &before {
                study.observe(&ratings, before, &now)?;
            }
            before = Some(now);
            Ok(())
        })
        .run(&Threads::new(None)?)?;

    for line in study.lines().iter().step_by(8) {
        println!(
            "iteration {:2}  objective {:9.3}  drop {:.3e}  inner product {:.3e}",
            line.iteration, line.objective, line.objective_drop_v, line.inner_product
        );
    }
    assert_eq!(study.lines().len(), 40);
    assert!(study.lines()[39].objective < study.lines()[0].objective);
    Ok(())
}
