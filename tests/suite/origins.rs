//! The five programs that the engine grew from: each of their reference runs, in f64, is reproduced.
//!
//! A file of `tests/data/origins` holds the inputs, the starting factors and the results of one run. Factors and losses must
//! agree to 1e-4, the largest difference over the largest entry.

use lowrank::matrix::{Factors, InMemory, Ratings};
use lowrank::solver::{Missing, Options, Reduce, Study};
use lowrank::{State, Threads, Trainer};
use serde_json::Value;

/// A reference run.
struct Golden(Value);

impl Golden {
    fn open(name: &str) -> Golden {
        let path = format!(
            "{}/tests/data/origins/{name}.json",
            env!("CARGO_MANIFEST_DIR")
        );
        Golden(serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
    }

    fn number(&self, name: &str) -> f64 {
        self.0[name].as_f64().unwrap()
    }

    /// A list of rows of numbers.
    fn rows(&self, name: &str) -> Vec<Vec<f64>> {
        let row = |row: &Value| match row.as_array() {
            Some(row) => row.iter().map(|x| x.as_f64().unwrap()).collect(),
            None => vec![row.as_f64().unwrap()],
        };
        self.0[name].as_array().unwrap().iter().map(row).collect()
    }

    fn factors(&self, name: &str) -> Factors {
        let rows = self.rows(name);
        let mut factors = Factors::zeros(rows.len(), rows[0].len(), false);
        for (i, row) in rows.iter().enumerate() {
            for (x, &y) in factors.row_mut(i).iter_mut().zip(row) {
                *x = y as f32;
            }
        }
        factors
    }

    fn ratings(&self, name: &str) -> InMemory {
        let triplet = |row: &Vec<f64>| (row[0] as u32, row[1] as u32, row[2] as f32);
        let triplets: Vec<_> = self.rows(name).iter().map(triplet).collect();
        let (users, items) = (self.number("users") as usize, self.number("items") as usize);
        InMemory::from_triplets(users, items, &triplets).unwrap()
    }

    /// Trains from the given start, without biases.
    fn train(&self, options: Options) -> State {
        let ratings = self.ratings("ratings");
        let test = self.0.get("test").map(|_| self.ratings("test"));
        Trainer::new(
            &ratings,
            Options {
                biases: false,
                ..options
            },
        )
        .start_from(self.factors("init_users"), self.factors("init_items"))
        .test(test.as_ref().map(|test| test as &dyn Ratings))
        .run(&Threads::new(Some(2)).unwrap())
        .unwrap()
    }

    fn assert_factors(&self, state: &State) {
        for (name, factors) in [
            ("users_final", &state.parameters().users),
            ("items_final", &state.parameters().items),
        ] {
            let expected = self.rows(name).concat();
            let ours: Vec<f64> = (0..factors.rows())
                .flat_map(|row| factors.row(row).iter().map(|&x| f64::from(x)))
                .collect();
            assert_close(name, &ours, &expected);
        }
    }
}

/// The largest difference over the largest entry is at most 1e-4.
fn assert_close(name: &str, ours: &[f64], expected: &[f64]) {
    assert_eq!(ours.len(), expected.len(), "{name}");
    let pairs = ours.iter().zip(expected);
    let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let largest = expected.iter().map(|x| x.abs()).fold(0.0, f64::max);
    assert!(
        worst <= 1e-4 * largest,
        "{name}: off by {:.1e}",
        worst / largest
    );
}

fn losses(state: &State) -> Vec<f64> {
    state.history.iter().map(|line| line.loss).collect()
}

fn gradient(loss: &str) -> Options {
    Options {
        solver: "gradient".into(),
        loss: loss.into(),
        regularization: Some(0.0),
        ..Options::default()
    }
}

/// Origin 1: the mean of squares on normalised ratings, a learning rate for each epoch.
#[test]
fn batch_gradient_on_normalised_ratings() {
    let golden = Golden::open("batch_gradient_normalized");
    let rates: Vec<f32> = golden
        .rows("learning_rates")
        .concat()
        .iter()
        .map(|&x| x as f32)
        .collect();
    let state = golden.train(Options {
        reduce: Reduce::Mean,
        normalize: true,
        epochs: rates.len(),
        learning_rates: rates,
        ..gradient("(p-r)^2")
    });
    let units = [state.parameters().mean, state.parameters().std].map(f64::from);
    assert_close(
        "mean and std",
        &units,
        &[golden.number("mean"), golden.number("std")],
    );
    assert_close("losses", &losses(&state), &golden.rows("losses").concat());
    golden.assert_factors(&state);
}

/// Origin 3: the caller writes the cost, error and regularization, and the gradient is derived.
#[test]
fn masked_sum_of_squares() {
    let golden = Golden::open("masked_sum_of_squares");
    for regularizer in ["l2", "0.5*x^2"] {
        let state = golden.train(Options {
            regularizer: regularizer.into(),
            regularization_row: golden.number("regularization") as f32,
            learning_rates: vec![golden.number("learning_rate") as f32],
            epochs: golden.number("epochs") as usize,
            ..gradient("(p-r)^2")
        });
        assert_close("losses", &losses(&state), &golden.rows("losses").concat());
        golden.assert_factors(&state);
    }
}

/// Origin 4: half the sum of squares, and the RMSE of a test part after every step.
#[test]
fn lowrank_factorizer() {
    let golden = Golden::open("lowrank_factorizer");
    let state = golden.train(Options {
        regularization_row: golden.number("regularization") as f32,
        learning_rates: vec![golden.number("learning_rate") as f32],
        epochs: golden.number("epochs") as usize,
        ..gradient("0.5*(p-r)^2")
    });
    let history = golden.rows("history_step_loss_test_rmse");
    let column = |at: usize| -> Vec<f64> { history.iter().map(|row| row[at]).collect() };
    assert_close("losses", &losses(&state), &column(1));
    let rmse: Vec<f64> = state
        .history
        .iter()
        .map(|line| line.test_rmse.unwrap())
        .collect();
    assert_close("test RMSE", &rmse, &column(2));
    golden.assert_factors(&state);
}

/// Origin 5: multiplicative updates on all cells, and every quantity of the convergence study.
fn nmf(name: &str) {
    let golden = Golden::open(name);
    let options = Options {
        solver: "nmf".into(),
        epochs: golden.number("iterations") as usize,
        biases: false,
        ..Options::default()
    };
    let lines = golden.0["study"].as_array().unwrap();
    let ratings = golden.ratings("ratings").with_rows_per_block(2);
    let mut study = Study::new(&options).unwrap();
    let mut before = None;
    let trainer = Trainer::new(&ratings, options)
        .start_from(golden.factors("init_users"), golden.factors("init_items"))
        .after_epoch(|state| {
            let now = state.parameters().clone();
            if let Some(before) = &before {
                study.observe(&ratings, before, &now)?;
            }
            before = Some(now);
            Ok(())
        });
    let state = trainer.run(&Threads::new(Some(4)).unwrap()).unwrap();
    golden.assert_factors(&state);
    let objectives: Vec<f64> = lines
        .iter()
        .map(|line| line["objective"].as_f64().unwrap())
        .collect();
    assert_close("losses", &losses(&state)[..lines.len()], &objectives);
    assert_eq!(study.lines().len(), lines.len());
    for ((ours, expected), objective) in study.lines().iter().zip(lines).zip(objectives) {
        let ours = serde_json::to_value(ours).unwrap();
        let expected = expected.as_object().unwrap();
        assert_eq!(ours.as_object().unwrap().len(), expected.len());
        for (name, expected) in expected {
            let (ours, expected) = (ours[name].as_f64().unwrap(), expected.as_f64().unwrap());
            if expected.abs() > 1e-6 * objective {
                assert!(
                    (ours - expected).abs() <= 1e-3 * expected.abs(),
                    "{name}: {ours} is not {expected}"
                );
            }
        }
    }
}

#[test]
fn nmf_by_multiplicative_updates() {
    nmf("nmf_multiplicative");
}

#[test]
fn nmf_where_zeros_count() {
    nmf("nmf_multiplicative_zeros");
}
/// Origin 2: gradients averaged over each row's cells; all cells are rated, or those that are not left out, or zeros.
#[test]
fn per_cell_mean_gradient() {
    for (name, missing) in [
        ("per_cell_mean_gradient", Missing::Skip),
        ("per_cell_mean_gradient", Missing::Zero),
        ("per_cell_mean_gradient_skip", Missing::Skip),
        ("per_cell_mean_gradient_zeros", Missing::Zero),
    ] {
        let golden = Golden::open(name);
        let state = golden.train(Options {
            solver: "cell-gradient".into(),
            loss: "(p-r)^2".into(),
            missing: Some(missing),
            learning_rates: vec![golden.number("learning_rate") as f32],
            epochs: golden.number("epochs") as usize,
            ..Options::default()
        });
        assert_close(name, &losses(&state), &golden.rows("losses").concat());
        golden.assert_factors(&state);
    }
}
