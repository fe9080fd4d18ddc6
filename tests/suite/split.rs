//! Hold-outs that are made of a store are those that an import of its text makes, byte for byte.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::program::Program;
use crate::refused::refused;
use crate::tree::tree;

/// Ratings of users who are more or less active.
fn ratings() -> String {
    let mut text = String::from("user,item,rating\n");
    for user in 0..60_u32 {
        for item in 0..40_u32 {
            let hash = (user * 7919 + item * 104_729) % 97;
            if hash % 60 > user / 2 {
                text += &format!("u{user},i{item},{}\n", 1 + hash % 5);
            }
        }
    }
    text
}

fn imported() -> Program {
    let program = Program::new();
    program.write("r.csv", ratings());
    program.done("import r.csv --out s --test-fraction 0.3 --validation-fraction 0.2 --seed 9");
    program
}

#[test]
fn a_store_split_anew_is_the_store_that_an_import_makes() {
    let program = imported();
    for (at, held_out) in [
        "",
        "--test-fraction 0.1 --validation-fraction 0.1 --seed 4",
        "--test-each 1",
        "--test-each 3 --seed 2",
        "--fold 2 --folds 5 --validation-fraction 0.3",
    ]
    .iter()
    .enumerate()
    {
        program.done(&format!("import r.csv --out direct{at} {held_out}"));
        for threads in [1, 3] {
            let out = format!("split{at}.{threads}");
            program.done(&format!(
                "split s --out {out} {held_out} --threads {threads} --memory 40MiB"
            ));
            assert!(
                tree(&program.path(&out)) == tree(&program.path(&format!("direct{at}"))),
                "{held_out}"
            );
        }
    }
}

/// Ratings with times, some of them equal, in no order of time.
fn timed() -> String {
    let lines = ratings().replace("rating", "rating,time");
    let mut text = String::new();
    for (at, line) in (0..).zip(lines.lines()) {
        text += line;
        if at > 0 {
            text += &format!(",{}", 1_000_000_000_i64 - 300 + (at * 7919) % 601);
        }
        text += "\n";
    }
    text
}

#[test]
fn the_latest_are_held_out_of_a_store_that_keeps_times() {
    let program = Program::new();
    program.write("r.csv", timed());
    let held_out = "--times --test-fraction 0.3 --validation-fraction 0.2";
    program.done(&format!(
        "import r.csv --out s --shard-size 1KiB {held_out}"
    ));
    assert_eq!(program.done("inspect s")["times"], true);
    program.done("verify s");
    for (at, held_out) in ["--test-last 3", "--leave-one-out --validation-fraction 0.1"]
        .iter()
        .enumerate()
    {
        let (direct, split) = (format!("direct{at}"), format!("split{at}"));
        program.done(&format!("import r.csv --out {direct} --times {held_out}"));
        program.done(&format!("split s --out {split} {held_out}"));
        program.done(&format!("split {split} --out again{at} {held_out}"));
        program.done(&format!("verify {split}"));
        let expected = tree(&program.path(&direct));
        assert!(tree(&program.path(&split)) == expected, "{held_out}");
        assert!(tree(&program.path(&format!("again{at}"))) == expected);
    }
    // But for the files of times and the manifest, a store is what it is without times.
    program.done("import r.csv --out plain --test-last 3");
    let shards = |name: &str| -> BTreeMap<_, _> {
        let files = tree(&program.path(name)).into_iter();
        let of_times = |path: &str| path.ends_with(".times") || path == "manifest";
        files.filter(|(path, _)| !of_times(path)).collect()
    };
    assert!(shards("plain") == shards("direct0"));
}

#[test]
fn folds_share_no_rating_and_have_all_of_them() {
    let program = imported();
    let whole = ratings().lines().count() as u64 - 1;
    let held_out = (0..3).map(|fold| {
        let split = program.done(&format!("split s --out f{fold} --fold {fold} --folds 3"));
        assert_eq!(
            split["ratings"].as_u64().unwrap() + split["test"].as_u64().unwrap(),
            whole
        );
        split["test"].as_u64().unwrap()
    });
    assert_eq!(held_out.sum::<u64>(), whole);
}

#[test]
fn users_are_held_out_whole() {
    let program = imported();
    let split = program.done("split s --out h --test-users 0.3 --given 0.7 --fold-in new.csv");
    let mut given: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let text = fs::read_to_string(program.path("new.csv")).unwrap();
    let all = ratings();
    for line in text.lines().skip(1) {
        assert!(all.contains(&format!("{line}\n")), "{line}");
        let [user, item, _] = line.split(',').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        given.entry(user.into()).or_default().insert(item.into());
    }
    assert!((5..30).contains(&given.len()), "{}", given.len());
    let rated = |user: &str| {
        all.lines()
            .filter(|l| l.starts_with(&format!("{user},")))
            .count()
    };
    let (mut of_all, mut found) = (0, 0);
    for (user, items) in &given {
        let count = rated(user);
        assert_eq!(items.len(), count - (0.3 * count as f64).round() as usize);
        of_all += count;
        found += count - items.len();
    }
    assert_eq!(split["test"], found as u64);
    let trained = split["ratings"].as_u64().unwrap() as usize;
    assert_eq!(trained, all.lines().count() - 1 - of_all);
}

#[test]
fn what_cannot_be_split_is_refused() {
    let program = imported();
    program.write("mine.csv", "precious");
    for (arguments, status, message) in [
        (
            "split s --out t --test-fraction 1",
            2,
            "up to, not including, 1",
        ),
        (
            "split s --out t --fold 3 --folds 3",
            2,
            "numbered from 0 to 2",
        ),
        ("split s --out t --fold 0 --folds 1", 2, "at least 2 folds"),
        ("split s --out t --fold 0", 2, "--folds"),
        (
            "split s --out t --test-users 0.1",
            2,
            "give --fold-in FILE.csv",
        ),
        (
            "split s --out t --test-users 0.1 --fold-in mine.csv",
            1,
            "--force",
        ),
        (
            "split s --out t --test-each 1 --test-fraction 0.1",
            2,
            "cannot be used with",
        ),
        (
            "split s --out t --test-last 1",
            2,
            "this store keeps no times; import the text with --times",
        ),
        ("split s --out t --leave-one-out", 2, "keeps no times"),
        (
            "import r.csv --out t --times",
            1,
            "there are ratings without a time; name the column with --columns, or leave out --times",
        ),
        ("split r.csv --out t", 1, "not a store"),
        ("split s --out s", 1, "--force"),
        ("split s --out t --memory 2MiB --test-each 1", 1, "--memory"),
    ] {
        refused(&program, arguments, status, &[message]);
        assert!(!program.path("t").exists(), "{arguments}");
    }
    assert_eq!(fs::read(program.path("mine.csv")).unwrap(), b"precious");
}
