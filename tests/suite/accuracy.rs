//! Errors on published folds, against what plain double-precision programs reach with the same options.

use std::fs;

use crate::program::Program;
use crate::real_data::real_data;

/// MovieLens 100K as its publisher cut it into five: each fifth is predicted from the others. Plain programs reach a mean
/// of 0.918 and 0.920.
#[test]
fn movielens_100k_in_five_folds() {
    five_folds(
        "--rank 10 --epochs 15 --regularization 0 --regularization-row 8 --bias-regularization-row 4",
        0.922,
    );
}

/// What users rated at all says something, too: published figures of SVD++ are from 0.90 to 0.92.
#[test]
fn movielens_100k_by_svd_plus_plus() {
    five_folds(
        "--solver svd++ --rank 10 --epochs 15 --regularization 0 --regularization-row 12 --bias-regularization-row 4",
        0.91,
    );
}

/// Expects that the mean RMSE over the published folds is so low.
fn five_folds(options: &str, most: f64) {
    let Some(folder) = real_data("ml-100k/orig") else {
        return;
    };
    let program = Program::new();
    let rmse = (1..=5).map(|fold| {
        for part in ["base", "test"] {
            let text = fs::read(folder.join(format!("u{fold}.{part}"))).unwrap();
            program.write(part, text);
        }
        let imported = program.done("import base --test test --out s --force");
        assert_eq!(
            (&imported["ratings"], &imported["test"]),
            (&80_000.into(), &20_000.into())
        );
        program.done(&format!("train s --out m --force {options}"));
        let errors = program.done("evaluate m s");
        assert_eq!(errors["ratings"], 20_000);
        errors["rmse"].as_f64().unwrap()
    });
    let rmse: Vec<f64> = rmse.collect();
    let mean = rmse.iter().sum::<f64>() / 5.0;
    println!("rmse {rmse:.4?}, mean {mean:.4}");
    assert!(mean <= most, "{options}: {rmse:?}");
}

/// Stochastic gradient descent without any choice of options comes close to ALS without any, or is better.
#[test]
fn sgd_keeps_up_with_als_by_its_defaults() {
    for (file, most) in [("ml-100k/orig/u.data", 0.95), ("ml-1m/ratings.csv", 0.86)] {
        let Some(path) = real_data(file) else {
            return;
        };
        let program = Program::new();
        program.write("r", fs::read(path).unwrap());

        program.done("import r --out s --test-fraction 0.1");
        let rmse = |solver: &str| {
            let trained = program.done(&format!("train s --out m --force --solver {solver}"));
            trained["test_rmse"].as_f64().unwrap()
        };
        let (als, sgd) = (rmse("als"), rmse("sgd"));
        println!("{file}: als {als:.4}, sgd {sgd:.4}");
        assert!(
            sgd < als + 0.005 && sgd < most,
            "{file}: als {als}, sgd {sgd}"
        );
    }
}
