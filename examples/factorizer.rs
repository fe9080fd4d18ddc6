//! From a file of ratings to a model, its error on ratings held out, and a check of its gradient.
//!
//! Half the sum of squared errors and of squared factors, by gradient descent. As commands:
//!
//!     lowrank import ratings.csv --out STORE --test-fraction 0.2
//!     lowrank check-gradients STORE --loss '0.5*(p-r)^2'
//!     lowrank train STORE --out MODEL --solver gradient --loss '0.5*(p-r)^2' --no-biases \
//!         --regularization 0 --regularization-row 0.1 --history history.csv

use lowrank::check_gradients::check_gradients;
use lowrank::ingest::{Duplicates, HoldOut, Import, Input, ReadOptions, Split};
use lowrank::store::Encoding;
use lowrank::{Options, Part, Ratings, Result, Store, Threads, Trainer};

fn main() -> Result<()> {
    let folder = tempfile::tempdir().expect("there is a folder for temporary files");
    let (text, store) = (
        folder.path().join("ratings.csv"),
        folder.path().join("ratings.store"),
    );
    std::fs::write(&text, ratings()).expect("the folder can be written to");
    let threads = Threads::new(None)?;

    // A hash of user and item decides what is held out: the order of the lines does not matter.
    let import = Import {
        inputs: vec![Input::File(text)],
        read: ReadOptions::default(),
        test: None,
        split: Split {
            test: HoldOut::Fraction(0.2),
            ..Split::default()
        },
        duplicates: Duplicates::Last,
        times: false,
        titles: None,
        encoding: Encoding::default(),
        shard_bytes: 64 << 20,
        memory: None,
        force: false,
    };
    import.run(&store, &threads, &())?;
    let store = Store::open(&store)?;

    let options = Options {
        solver: "gradient".into(),
        loss: "0.5*(p-r)^2".into(),
        regularization: Some(0.0),
        regularization_row: 0.1,
        biases: false,
        rank: 4,
        epochs: 60,
        ..Options::default()
    };
    let worst = check_gradients(&store, &options, 100, &threads)?;
    println!(
        "gradient off by {:.1e} at most, at {}",
        worst.error, worst.at
    );
    assert!(worst.passes());

    // Without a learning rate, steps are exact: on squares, the best point of a line is a root of a cubic.
    let test = store.part(Part::Test);
    let state = Trainer::new(&store, options)
        .test(test.as_ref().map(|part| part as &dyn Ratings))
        .run(&threads)?;
    for line in state.history.iter().step_by(10) {
        let rmse = line.test_rmse.expect("ratings are held out");
        println!(
            "step {:2}  cost {:9.3}  test rmse {rmse:.4}",
            line.epoch, line.loss
        );
    }
    Ok(())
}

/// The text of some thousand ratings.
fn ratings() -> String {
    let cells = (1..=80).flat_map(|user| (1..=60).map(move |item| (user, item)));
    let rated = cells.filter(|(user, item)| (user * item) % 3 != 0);
    let line = |(user, item)| format!("{user},{item},{}\n", 1 + (user % 4 + item % 5) % 5);
    format!(
        "userId,movieId,rating\n{}",
        rated.map(line).collect::<String>()
    )
}
