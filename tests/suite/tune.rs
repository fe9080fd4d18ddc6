//! Searches for options: repeatable, resumable, and what they find is what a training takes.

use std::fs;

use lowrank::evaluate::Target;
use lowrank::matrix::Ratings;
use lowrank::solver::Options;
use lowrank::store::Part;
use lowrank::tune::{Search, Space, Trial, Tuner};
use lowrank::{Error, ErrorKind, Store, Threads};
use serde_json::Value;

use crate::program::Program;
use crate::refused::{ratings, refused};
use crate::tiers::least;

fn imported() -> Program {
    let program = Program::new();
    program.write("r.csv", ratings(50, 25));
    program.done("import r.csv --out s --test-fraction 0.1 --validation-fraction 0.2");
    program
}

/// Trials without what differs from run to run.
fn trials(outcome: &Value) -> Vec<Value> {
    let without_seconds = |trial: &Value| {
        let mut trial = trial.clone();
        trial["seconds"] = Value::Null;
        trial
    };
    let trials = outcome["trials"].as_array().unwrap();
    trials.iter().map(without_seconds).collect()
}

#[test]
fn a_search_goes_on_where_it_was_interrupted() {
    let program = imported();
    let options = "--rank 2,4 --regularization 0.01..1 --epochs 6 --seed 3";
    let whole = program.done(&format!(
        "tune s --out whole.json --trials 6 {options} --threads 1"
    ));
    // A search for half as many trials is a search that was interrupted.
    program.done(&format!(
        "tune s --out half.json --trials 3 {options} --threads 2"
    ));
    let record = fs::read(program.path("half.json.trials")).unwrap();
    let again = program.done(&format!(
        "tune s --out half.json --trials 3 {options} --resume"
    ));
    assert_eq!(trials(&again).len(), 3);
    assert!(fs::read(program.path("half.json.trials")).unwrap() == record);
    let resumed = program.done(&format!(
        "tune s --out half.json --trials 6 {options} --resume --plot p.svg"
    ));
    assert_eq!(trials(&resumed), trials(&whole));
    assert_eq!(
        resumed["trials"][1]["seconds"],
        again["trials"][1]["seconds"]
    );
    assert_eq!(
        fs::read(program.path("half.json")).unwrap(),
        fs::read(program.path("whole.json")).unwrap()
    );
    assert!(
        fs::read_to_string(program.path("p.svg"))
            .unwrap()
            .contains("<svg")
    );
}

#[test]
fn what_is_found_is_what_a_training_takes() {
    let program = imported();
    let search = "tune s --out best.json --trials 4 --epochs 8 --solver ials --rank 3,5 \
                  --metric recall@5 --positive-at 3";
    let outcome = program.done(search);
    let best = &outcome["best"];
    let value = |trial: &Value| trial["value"].as_f64().unwrap();
    for trial in outcome["trials"].as_array().unwrap() {
        assert!(value(trial) <= value(best));
    }
    program.done("train s --out m --options best.json");
    let measured =
        program.done("evaluate m s --on validation --metrics recall --at 5 --positive-at 3");
    assert_eq!(measured["recall@5"], best["value"]);
    let record = program.done("inspect m");
    assert_eq!(record["options"]["solver"], "ials");
    assert_eq!(record["options"]["rank"], best["options"]["rank"]);
    // What is said on the command line wins.
    program.done("train s --out m --options best.json --rank 2 --force");
    assert_eq!(program.done("inspect m")["options"]["rank"], 2);
}

#[test]
fn halving_gives_the_better_trials_more_epochs() {
    let program = imported();
    let outcome = program.done(
        "tune s --out b.json --search halving --trials 9 --keep-one-in 3 --epochs 9 \
         --regularization 0.001..3 --rank 3",
    );
    let trials = outcome["trials"].as_array().unwrap();
    let of = |epochs: u64| {
        let all = trials.iter().filter(move |trial| trial["epochs"] == epochs);
        all.map(|trial| {
            (
                trial["value"].as_f64().unwrap(),
                trial["trial"].as_u64().unwrap(),
            )
        })
        .collect::<Vec<_>>()
    };
    assert_eq!([1, 3, 9].map(|epochs| of(epochs).len()), [9, 3, 1]);
    let mut first = of(1);
    first.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (_, trial) in of(3) {
        assert!(first[..3].iter().any(|(_, better)| *better == trial));
    }
    let grid = program
        .done("tune s --out g.json --search grid --rank 2,3 --regularization 0.1,0.2 --epochs 2");
    assert_eq!(grid["trials"].as_array().unwrap().len(), 4);
}

/// A store of small shards, in which a third of all cells is rated.
fn sharded(users: usize, items: usize, shard: &str) -> Program {
    let program = Program::new();
    program.write("r.csv", ratings(users, items));
    program.done(&format!(
        "import r.csv --out s --validation-fraction 0.1 --encoding plain --shard-size {shard}"
    ));
    program
}

/// Trials of options that are set to these values, so many side by side, with no room for shards to stay in memory; and the
/// bytes of ratings that were read.
fn side_by_side(
    program: &Program,
    count: usize,
    base: &Options,
    metric: &str,
    values: &[(&str, &str)],
) -> (Vec<Trial>, u64) {
    let store = Store::open_within(program.path("s"), 0).unwrap();
    let mut space = Space::default();
    for (name, values) in values {
        space.set(name, values.parse().unwrap());
    }
    let tuner = Tuner {
        store: &store,
        base: base.clone(),
        space,
        search: Search::Grid,
        target: Target::parse(metric).unwrap(),
        patience: 1,
        side_by_side: count,
    };
    let threads = Threads::new(Some(2)).unwrap();
    let mut done = Vec::new();
    let mut trials = tuner
        .run(&[], &threads, &(), |trials, last| {
            assert!(trials.contains(last));
            assert!(trials.is_sorted_by_key(|trial| trial.trial));
            done.push(last.trial);
            assert_eq!(trials.len(), done.len());
            Ok(())
        })
        .unwrap();
    done.sort_unstable();
    assert!(done.into_iter().eq(0..trials.len()));
    trials.iter_mut().for_each(|trial| trial.seconds = 0.0);
    let validation = store.part(Part::Validation).unwrap();
    (trials, store.bytes_read() + validation.bytes_read())
}

#[test]
fn trials_side_by_side_read_the_ratings_once() {
    let program = sharded(300, 400, "8KiB");
    let base = Options {
        epochs: 2,
        ..Options::default()
    };
    let values = [("rank", "1,2"), ("regularization", "0.02,0.2")];
    let (apart, each) = side_by_side(&program, 1, &base, "rmse", &values);
    let (together, once) = side_by_side(&program, 4, &base, "rmse", &values);
    assert_eq!(together, apart);
    let (pairs, twice) = side_by_side(&program, 2, &base, "rmse", &values);
    assert_eq!(pairs, apart);
    // Where a scan turns, one trial may come to the block that another has not left yet.
    let is_about = |read: u64, expected: u64| read <= expected && 10 * read >= 9 * expected;
    assert!(is_about(4 * once, each), "{once} of {each}");
    assert!(is_about(2 * twice, each), "{twice} of {each}");
}

#[test]
fn trials_side_by_side_measure_lists_in_turn() {
    let program = sharded(300, 400, "8KiB");
    let base = Options {
        solver: "ials".into(),
        rank: 2,
        epochs: 2,
        ..Options::default()
    };
    let values = [("regularization", "0.001,0.01,0.1")];
    let (apart, each) = side_by_side(&program, 1, &base, "ndcg@5", &values);
    let (together, shared) = side_by_side(&program, 3, &base, "ndcg@5", &values);
    assert_eq!(together, apart);
    assert!(shared < each, "{shared} of {each}");
}

#[test]
fn trials_side_by_side_end_when_one_cannot_be_recorded() {
    let program = imported();
    let store = Store::open(program.path("s")).unwrap();
    let tuner = Tuner {
        store: &store,
        base: Options::default(),
        space: Space::default(),
        search: Search::Random(4),
        target: Target::parse("rmse").unwrap(),
        patience: 3,
        side_by_side: 4,
    };
    let refusal = || Error::new(ErrorKind::Io, "no space left");
    let outcome = tuner.run(&[], &Threads::new(Some(2)).unwrap(), &(), |_, _| {
        Err(refusal())
    });
    assert_eq!(outcome.unwrap_err().to_string(), refusal().to_string());
}

#[test]
fn trials_side_by_side_may_stop_at_different_epochs_or_fail() {
    let program = sharded(300, 400, "8KiB");
    let base = Options {
        solver: "gradient".into(),
        rank: 2,
        epochs: 6,
        ..Options::default()
    };
    let values = [
        ("learning-rate", "1e-9,0.0001,0.001,10"),
        ("momentum", "0,0.9"),
    ];
    let (apart, _) = side_by_side(&program, 1, &base, "rmse", &values);
    let (together, _) = side_by_side(&program, 8, &base, "rmse", &values);
    assert_eq!(together, apart);
    let epochs: Vec<usize> = apart.iter().map(|trial| trial.epoch).collect();
    assert!(
        apart.iter().any(|trial| trial.failure.is_some()),
        "{apart:?}"
    );
    assert!(epochs.iter().any(|&epoch| epoch != epochs[0]), "{apart:?}");
}

#[test]
fn a_search_in_a_small_budget_leaves_the_same_record() {
    // More than the budget has room for beside one trial.
    let program = sharded(1000, 1000, "64KiB");
    let search = "--search halving --trials 4 --keep-one-in 2 --epochs 4 --early-stop 1 --rank 1,2 \
                  --regularization 0.01..3 --threads 1";
    let whole = program.done(&format!("tune s --out whole.json {search} --memory 1GiB"));
    assert_eq!(whole["ratings_read"], 0);
    let small = format!("tune s --out small.json {search}");
    let budget = least(&program, &small) + 2;
    let output = program.run(&format!("{small} --memory {budget}MiB --json"));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("trials go side by side"), "{said}");
    let shared: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(shared["ratings_read"].as_u64().unwrap() > 0);
    assert_eq!(trials(&shared), trials(&whole));
    let read = |name: &str| {
        let text = fs::read_to_string(program.path(name)).unwrap();
        let seconds = |line: &&str| !line.contains("\"seconds\"");
        text.lines().filter(seconds).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(read("small.json.trials"), read("whole.json.trials"));
    assert_eq!(read("small.json"), read("whole.json"));
    let again = program.done(&format!("{small} --memory {budget}MiB --resume"));
    assert_eq!(again["ratings_read"], 0);
    assert_eq!(trials(&again), trials(&whole));
}

#[test]
fn early_stopping_watches_what_it_is_told_to() {
    let program = imported();
    let trained = program.done(
        "train s --out m --solver ials --rank 4 --epochs 30 --early-stop 4 --early-stop-metric ndcg@5",
    );
    let history = trained["history"].as_array().unwrap();
    let watched = |at: usize| history[at]["watched"].as_f64().unwrap();
    let kept = trained["epoch"].as_u64().unwrap() as usize;
    for at in 0..history.len() {
        assert!(watched(at) <= watched(kept));
    }
    assert!(history.len() <= kept + 5);
    let measured = program.done("evaluate m s --on validation --metrics ndcg --at 5");
    assert_eq!(measured["ndcg@5"].as_f64().unwrap(), watched(kept));
}

#[test]
fn every_fold_is_measured_once() {
    let program = imported();
    let options = "--rank 3 --epochs 4 --regularization 0.2";
    let outcome = program.done(&format!(
        "cross-validate s --folds 3 {options} --metrics rmse,recall --at 4"
    ));
    let mut sum = 0.0;
    for fold in 0..3 {
        program.done(&format!("split s --out f --fold {fold} --folds 3 --force"));
        program.done(&format!("train f --out m {options} --force"));
        let direct = program.done("evaluate m f --metrics rmse,recall --at 4");
        let of_fold = &outcome["folds"][fold];
        assert_eq!(of_fold["recall@4"], direct["recall@4"]);
        let difference = of_fold["rmse"].as_f64().unwrap() - direct["rmse"].as_f64().unwrap();
        assert!(difference.abs() < 1e-9, "{difference}");
        sum += direct["rmse"].as_f64().unwrap();
    }
    let mean = outcome["mean"]["rmse"].as_f64().unwrap();
    assert!((mean - sum / 3.0).abs() < 1e-9);
    assert!(outcome["standard_deviation"]["rmse"].as_f64().unwrap() > 0.0);
    assert!(!program.path("s.folds").exists());
}

#[test]
fn what_cannot_be_searched_is_refused() {
    let program = imported();
    program.done("import r.csv --out bare");
    program.write("list.json", "[1]");
    program.write("bad.json", "{\"rnak\": 3}");
    program.write("text.json", "{\"rank\": \"many\"}");
    program.write("done.json", "precious");
    program.done("tune s --out known.json --trials 1 --epochs 1 --rank 2");
    for (arguments, status, message) in [
        ("tune bare --out b.json", 2, "--validation-fraction"),
        ("tune s --out b.json --trials 0", 2, "--trials"),
        (
            "tune s --out b.json --rank 3..2",
            2,
            "the lower end comes first",
        ),
        ("tune s --out b.json --rank many", 2, "not a number"),
        (
            "tune s --out b.json --rank 0 --trials 1",
            2,
            "the rank is 0",
        ),
        ("tune s --out b.json --regularization=-1,-2", 2, "from 0 up"),
        ("tune s --out b.json --metric coverage", 2, "coverage"),
        ("tune s --out b.json --metric ndcg@0", 2, "ndcg@20"),
        (
            "tune s --out b.json --metric ndcg@26 --trials 1",
            2,
            "no list of 26 items",
        ),
        ("tune s --out b.json --metric luck", 2, "no metric named"),
        ("tune s --out b.json --epochs 0", 2, "--epochs 1"),
        (
            "tune s --out b.json --search halving --keep-one-in 1",
            2,
            "--keep-one-in",
        ),
        ("tune s --out b.json --options bad.json", 2, "rnak"),
        ("tune s --out b.json --memory 1KiB", 1, "--memory"),
        ("tune s --out done.json", 1, "--force"),
        (
            "tune s --out known.json --resume --metric ndcg@5",
            2,
            "another --metric",
        ),
        ("train s --out t --options list.json", 1, "list.json"),
        ("train s --out t --options bad.json", 2, "rnak"),
        ("train s --out t --options text.json", 2, "rank cannot be"),
        ("train s --out t --options gone.json", 1, "no such file"),
        (
            "train s --out t --early-stop 2 --early-stop-metric mae",
            2,
            "ndcg@20",
        ),
        ("cross-validate s --folds 1", 2, "at least 2 folds"),
        ("cross-validate s --rank 2,3", 2, "more than one value"),
    ] {
        refused(&program, arguments, status, &[message]);
    }
}
