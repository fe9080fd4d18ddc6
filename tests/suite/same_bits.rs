//! A model is a function of ratings, options and seed: the same bytes whatever the threads, shards, budget, order of lines
//! or interruptions.

use std::collections::BTreeMap;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::program::Program;
use crate::real_data::real_data;
use crate::tree::tree;
use lowrank::rng::{Purpose, Stream};
use lowrank::synthetic::{Recipe, Synthetic};

/// Options that train each solver on anything, a little.
const SOLVERS: [&str; 23] = [
    "--solver als --rank 8 --epochs 3",
    "--solver als --rank 48 --epochs 1",
    "--solver coordinate --rank 18 --epochs 2",
    "--solver cg --rank 18 --epochs 2 --no-biases",
    "--solver newton --loss huber --rank 6 --epochs 2",
    "--solver cell-gradient --loss huber --rank 6 --epochs 3 --learning-rate 0.1",
    "--solver cell-gradient --missing zero --no-biases --rank 6 --epochs 3 --learning-rate 0.1",
    "--solver gradient --rank 8 --epochs 4 --learning-rate 0.001 --normalize --regularization 0.01",
    "--solver gradient --rank 8 --epochs 4",
    "--solver sgd --rank 8 --epochs 3",
    "--solver ccl --rank 8 --epochs 2 --batch-size 16 --negatives 40",
    "--solver softmax --rank 8 --epochs 2 --batch-size 16 --negatives 40",
    "--solver bpr --rank 8 --epochs 2 --batch-size 16",
    "--solver nmf --no-biases --rank 6 --epochs 3",
    "--solver svd++ --rank 6 --epochs 1",
    "--solver ials --rank 6 --epochs 1",
    "--solver ials-cg --rank 6 --epochs 1",
    "--solver ials++ --rank 6 --block 4 --epochs 1",
    "--solver svd --rank 4 --epochs 1",
    "--solver warp --rank 6 --epochs 1 --batch-size 16",
    "--solver logistic-mf --rank 6 --epochs 1 --batch-size 16",
    "--solver item-knn --neighbours 5",
    "--solver ease --regularization-row 100",
];

const IMPORT: &str = "--test-fraction 0.1 --validation-fraction 0.05 --seed 3";

type Files = BTreeMap<String, Vec<u8>>;

/// The files of a model but `run.json`, which tells what changes nothing.
fn model(program: &Program, name: &str) -> Files {
    let mut files = tree(&program.path(name));
    assert!(files.remove("run.json").is_some());
    files
}

/// Trains with each solver on a store.
fn models(program: &Program, store: &str, options: &str) -> [Files; SOLVERS.len()] {
    SOLVERS.map(|solver| {
        program.done(&format!("train {store} --out m --force {solver} {options}"));
        model(program, "m")
    })
}

/// The lines of a text in another order.
fn shuffled(text: &str, header: bool) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    let first = usize::from(header);
    let mut stream = Stream::new(1, Purpose::SyntheticUsers, 0, 0);
    for end in (first + 1..lines.len()).rev() {
        let other = first as u64 + stream.below((end - first + 1) as u64);
        lines.swap(end, other as usize);
    }
    lines.iter().flat_map(|line| [line, "\n"]).collect()
}

/// Imports and trains in many ways. What a store's bytes may depend on, encoding and size of shards, is trained on; what they
/// may not depend on gives the same store.
fn the_same_model_every_way(text: &str, header: bool) {
    let program = Program::new();
    program.write("r", text);
    program.write("shuffled", shuffled(text, header));
    let import = |input: &str, options: &str| {
        let line = format!("import {input} --out s --force {IMPORT} {options}");
        let imported = program.done(&line);
        assert_eq!(imported["spilled_bytes"], 0, "{line}");
        tree(&program.path("s"))
    };
    let whole = import("r", "");
    let expected = models(&program, "s", "--threads 1");
    for options in [
        "--threads 2",
        "--threads 4",
        "--memory 64MiB",
        "--memory 60MiB --threads 4",
    ] {
        assert!(
            models(&program, "s", options) == expected,
            "train {options}"
        );
    }
    for layout in [
        "--shard-size 64KiB",
        "--encoding plain",
        "--encoding plain --shard-size 64KiB",
    ] {
        let cut = import("r", &format!("{layout} --threads 1"));
        assert!(cut != whole);
        assert!(
            models(&program, "s", "--threads 2") == expected,
            "import {layout}"
        );
        for (input, options) in [("r", "--threads 4"), ("shuffled", "--threads 2")] {
            let again = import(input, &format!("{layout} {options}"));
            assert!(again == cut, "import {input} {layout} {options}");
        }
    }
    assert!(import("r", "--threads 4 --shard-size 64MiB --memory 512MiB") == whole);
    assert!(import("shuffled", "--threads 1") == whole);
}

/// The smallest budget that an import on one thread takes, as its refusal names it.
fn least_budget(program: &Program) -> String {
    let output = program.run("import r --out t --threads 1 --memory 1MiB");
    let said = String::from_utf8(output.stderr).unwrap();
    let (_, enough) = said.split_once("--memory ").unwrap();
    enough.split_once(' ').unwrap().0.to_owned()
}

#[test]
fn real_ratings_give_the_same_model_every_way() {
    if let Some(path) = real_data("ml-100k/orig/u.data") {
        the_same_model_every_way(&fs::read_to_string(path).unwrap(), false);
    }
}

/// So many ratings by the generator, as text.
fn generated(users: u32, items: u32, ratings: u64) -> String {
    let recipe = Recipe {
        users,
        items,
        ratings,
        ..Recipe::default()
    };
    let mut text = Vec::new();
    Synthetic::new(recipe).unwrap().write(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn generated_ratings_give_the_same_model_every_way() {
    the_same_model_every_way(&generated(1_200, 900, 70_000), true);
}

/// What does not fit the smallest budget goes through files on the way, to the same store.
#[test]
fn generated_ratings_spill_without_a_trace() {
    let program = Program::new();
    let text = generated(2_000, 1_500, 300_000);
    program.write("shuffled", shuffled(&text, true));
    program.write("r", text);
    program.done(&format!("import r --out s {IMPORT}"));
    let stores = tree(&program.path("s"));
    let least = least_budget(&program);
    for input in ["r", "shuffled"] {
        let tight = format!("import {input} --out s --force {IMPORT} --threads 1 --memory {least}");
        let imported = program.done(&tight);
        assert!(imported["spilled_bytes"].as_u64().unwrap() > 0);
        assert!(tree(&program.path("s")) == stores, "{input}");
    }
}

/// A million real ratings do not fit the smallest budget: they go through files on the way, in order and shuffled.
#[test]
fn a_million_real_ratings_spill_without_a_trace() {
    let Some(path) = real_data("ml-1m/ratings.csv") else {
        return;
    };
    let program = Program::new();
    let text = fs::read_to_string(path).unwrap();
    program.write("shuffled", shuffled(&text, true));
    program.write("r", text);
    program.done(&format!("import r --out s {IMPORT} --shard-size 1MiB"));
    let stores = tree(&program.path("s"));
    program.done("train s --out m --rank 8 --epochs 1");
    let expected = model(&program, "m");
    let least = least_budget(&program);
    for input in ["r", "shuffled"] {
        let tight = format!("import {input} --out s --force {IMPORT} --threads 1 --memory {least}");
        let imported = program.done(&format!("{tight} --shard-size 1MiB"));
        assert!(
            imported["spilled_bytes"].as_u64().unwrap() > 10 << 20,
            "{imported}"
        );
        assert!(tree(&program.path("s")) == stores, "{input}");
        program.done("train s --out m --rank 8 --epochs 1 --force --memory 32MiB");
        assert!(model(&program, "m") == expected, "{input}");
    }
}

/// A run is killed once it has written a checkpoint, and gone on with.
#[test]
fn a_training_that_was_killed_ends_with_the_same_bytes() {
    let program = Program::new();
    let mut text = Vec::new();
    Synthetic::new(Recipe::default())
        .unwrap()
        .write(&mut text)
        .unwrap();
    program.write("r", text);
    program.done(&format!("import r --out s {IMPORT}"));
    for solver in [
        "--solver als --rank 12 --epochs 40",
        "--solver als --rank 12 --epochs 40 --early-stop 15",
        "--solver gradient --rank 8 --epochs 40 --learning-rate 0.0005",
        "--solver gradient --rank 8 --epochs 40",
        "--solver sgd --rank 8 --epochs 40",
        "--solver sgd --step plain --rank 8 --epochs 40",
    ] {
        program.done(&format!("train s --out whole --force {solver} --threads 1"));
        let killed = format!("train s --out killed --force {solver} --checkpoint-every 1 --quiet");
        let mut child = program.command(&killed).spawn().unwrap();
        let checkpoint = program.path("killed.checkpoint/model");
        let began = Instant::now();
        while !checkpoint.exists() {
            assert!(began.elapsed() < Duration::from_secs(60), "no checkpoint");
            assert!(
                child.try_wait().unwrap().is_none(),
                "over before it was killed"
            );
            sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success());
        assert!(!program.path("killed").exists(), "{solver}");

        let resume = format!("train s --out killed {solver} --resume --threads 2");
        let resumed = program.run(&resume);
        assert!(
            resumed.status.success(),
            "{}",
            String::from_utf8_lossy(&resumed.stderr)
        );
        assert!(
            model(&program, "killed") == model(&program, "whole"),
            "{solver}"
        );
        assert!(!program.path("killed.checkpoint").exists());
        fs::remove_dir_all(program.path("killed")).unwrap();
        let left = tree(&program.path("")).into_keys();
        let left: Vec<_> = left.filter(|name| name.contains("killed")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// Epochs added later lead where they would have led at once, and other options are not mixed in.
#[test]
fn a_checkpoint_is_gone_on_with_by_the_same_options_only() {
    let program = Program::new();
    let mut text = Vec::new();
    Synthetic::new(Recipe::default())
        .unwrap()
        .write(&mut text)
        .unwrap();
    program.write("r", text);
    program.done("import r --out s");
    let mut child = program
        .command("train s --out m --epochs 500 --rank 8 --checkpoint-every 2 --quiet")
        .spawn()
        .unwrap();
    while !program.path("m.checkpoint/model").exists() {
        sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let output = program.run("train s --out m --epochs 500 --rank 9 --resume");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("the checkpoint was made with --rank 8; resume with the same"),
        "{said}"
    );
    let output = program.run("train s --out m --epochs 500 --rank 8 --seed 1 --resume");
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("--seed 0")
    );
    assert!(program.path("m.checkpoint").exists() && !program.path("m").exists());
}
