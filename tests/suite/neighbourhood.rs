//! Models of weights between items, from training to lists, against sums over what users took.

use lowrank::matrix::Side;
use lowrank::model::Model;

use crate::program::Program;
use crate::refused::{ratings, refused};

const SOLVERS: [&str; 2] = [
    "item-knn --neighbours 7 --shrinkage 2",
    "ease --regularization 0.4",
];

fn stored() -> Program {
    let program = Program::new();
    program.write("r.csv", ratings(60, 40));
    program.done("import r.csv --out s --test-fraction 0.2 --validation-fraction 0.1");
    program
}

fn train(program: &Program, solver: &str) -> Model {
    program.done(&format!(
        "train s --out m --force --positive-at 2 --solver {solver}"
    ));
    Model::open(&program.path("m")).unwrap()
}

/// The lines of a file of recommendations: user, item, score.
fn lists(program: &Program, arguments: &str) -> Vec<(String, String, f32)> {
    program.done(&format!("recommend m {arguments} --out l.csv --force"));
    let text = std::fs::read_to_string(program.path("l.csv")).unwrap();
    let line = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let score = fields[2].parse().unwrap();
        (fields[0].to_owned(), fields[1].to_owned(), score)
    };
    text.lines().skip(1).map(line).collect()
}

#[test]
fn lists_are_the_largest_sums_of_weights() {
    let program = stored();
    for solver in SOLVERS {
        let model = train(&program, solver);
        let known = model.parameters().neighbourhood.as_ref().unwrap();
        let every = lists(&program, "--top 40 --exclude none");
        assert_eq!(every.len(), 60 * 40, "{solver}");
        for (user, item, score) in &every {
            let user = model.row(Side::Users, user).unwrap();
            let item = model.row(Side::Items, item).unwrap();
            let taken = known.histories.row(user as usize).cols;
            let weights = taken
                .iter()
                .map(|&i| f64::from(known.weights.get(i as usize, item)));
            let sum: f64 = weights.sum();
            assert!(
                (sum - f64::from(*score)).abs() < 1e-5,
                "{solver}: {sum} {score}"
            );
            let predicted = model.predict(Some(user), Some(item)).unwrap();
            assert_eq!(predicted, *score, "{solver}");
        }
        let descends = every
            .windows(2)
            .all(|w| w[0].0 != w[1].0 || w[0].2 >= w[1].2);
        assert!(descends, "{solver}");
        // What was rated is left out; a filter leaves the rest as it is.
        let unseen = lists(&program, "s --top 40");
        assert!(unseen.len() < every.len() && unseen.iter().all(|line| every.contains(line)));
        program.write("deny", "i0\ni1\n");
        let allowed = lists(&program, "s --top 38 --deny deny");
        let kept = unseen
            .iter()
            .filter(|line| line.1 != "i0" && line.1 != "i1");
        assert!(allowed.iter().eq(kept), "{solver}");
    }
}

#[test]
fn what_other_models_can_do_they_can() {
    let program = stored();
    for solver in SOLVERS {
        train(&program, solver);
        program.done("verify m");
        let found = program.done("evaluate m s --metrics recall,ndcg --at 10");
        assert!(found["recall@10"].as_f64().unwrap() > 0.0, "{solver}");
        let best = lists(&program, "s --top 1 --users u5");
        let explained = program.done(&format!("explain m s --user u5 --item {}", best[0].1));
        assert!(
            explained.to_string().contains("contribution"),
            "{explained}"
        );
        // A new user with the items of a known one gets the same scores.
        let text = std::fs::read_to_string(program.path("r.csv")).unwrap();
        let own: String = text
            .lines()
            .filter(|l| l.starts_with("u5,"))
            .map(|l| format!("{l}\n"))
            .collect();
        program.write("all.csv", &text);
        program.write("new.csv", format!("user,item,rating,time\n{own}"));
        program.done("import all.csv --out whole --force");
        program.done(&format!(
            "train whole --out m --force --positive-at 2 --solver {solver}"
        ));
        let old = lists(&program, "whole --top 5 --users u5");
        assert_eq!(
            lists(&program, "--fold-in new.csv --top 5"),
            old,
            "{solver}"
        );
    }
}

#[test]
fn what_needs_factors_is_refused() {
    let program = stored();
    train(&program, SOLVERS[0]);
    for command in [
        "export m --items f.csv",
        "similar m --item i1",
        "similar m --all --out f.csv",
    ] {
        refused(&program, command, 2, &["no factors"]);
    }
    refused(
        &program,
        "recommend m s --users u1 --diversity 0.5",
        2,
        &["--diversity"],
    );
    refused(
        &program,
        "train s --out n --solver ease --memory 10KiB",
        1,
        &["factors and scratch"],
    );
    refused(
        &program,
        "train s --out n --solver item-knn --regularization 1",
        2,
        &["--shrinkage"],
    );
}
