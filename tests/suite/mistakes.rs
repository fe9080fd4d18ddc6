//! Mistakes of people who recommend: each is one clear line, and where there is something to do all the same, a note.

use lowrank::solver::{Learns, SOLVERS};

use crate::program::Program;
use crate::refused::{refused, said, trained};

#[test]
fn mistakes_of_people_who_recommend_are_told() {
    let program = trained();
    program.write("negative.csv", "user,item,rating\na,x,-1\na,y,2\nb,x,3\n");
    program.done("import negative.csv --out negative");
    program.write("empty", "\n");
    program.write("header.csv", "user,item\n");
    program.write(
        "held.csv",
        "user,item,rating\nu1,i1,4\nu1,i2,3\nonly,i3,5\n",
    );
    program.write("test.csv", "user,item,rating\nquiet,i1,4\n");
    program.done("import held.csv --test test.csv --out quiet");
    for (arguments, status, words) in [
        (
            "train negative --out n --solver ials --alpha 1",
            1,
            "below zero",
        ),
        (
            "recommend m s --out r.csv --items empty",
            1,
            "there is no id in it",
        ),
        (
            "recommend m s --out r.csv --top 13",
            2,
            "give a lower --top",
        ),
        (
            "evaluate m s --metrics ndcg --at 13",
            2,
            "no list of 13 items",
        ),
        ("split s --out t --leave-one-out", 2, "keeps no times"),
        ("recommend m s --users empty", 1, "one user's id a line"),
        (
            "recommend m s --out r.csv --users empty",
            1,
            "one user's id a line",
        ),
        (
            "recommend m s --out r.csv --exclude-pairs header.csv",
            1,
            "there is no pair in it",
        ),
        ("split s --out t --test-each 0", 2, "which is nothing"),
        ("split s --out t --test-fraction 0", 2, "which is nothing"),
        (
            "split s --out t --test-users 0 --fold-in f.csv",
            2,
            "which is nothing",
        ),
        (
            "import held.csv --out t --test-last 0",
            2,
            "which is nothing",
        ),
        (
            "explain m quiet --user quiet --item i1",
            2,
            "no training ratings",
        ),
        (
            "evaluate m s --metrics ndcg --sampled 3 --at 5",
            2,
            "no list of 5 items",
        ),
    ] {
        refused(&program, arguments, status, &[words]);
    }
    program.write(
        "stranger.csv",
        "user,item,rating\nknown,i1,4\nstranger,unheard,5\n",
    );
    let told = said(&program.run("recommend m --fold-in stranger.csv --top 2"));
    assert!(
        told.contains("1 user with no item that the model knows and learns from"),
        "{told}"
    );
}

/// A budget that would hold any list would not help: the length of lists is looked at first.
#[test]
fn lists_longer_than_the_catalogue_are_refused_whatever_the_budget() {
    let program = trained();
    for (arguments, words) in [
        (
            "recommend m s --out r.csv --top 99999999",
            "give a lower --top",
        ),
        ("recommend m s --users u1 --top 13", "there are 12 items"),
        ("evaluate m s --metrics ndcg --at 99999999", "there are 12"),
        (
            "tune s --out t.json --metric ndcg@99999999 --trials 2",
            "there are 12",
        ),
        (
            "cross-validate s --metrics ndcg --at 99999999",
            "there are 12",
        ),
        (
            "train s --out t --early-stop 2 --early-stop-metric ndcg@99999999",
            "there are 12",
        ),
        ("similar m --item i1 --top 12", "each item has 11 others"),
        ("similar m --user u1 --top 30", "each user has 29 others"),
        ("similar m --all --out r.csv --top 12", "11 others"),
    ] {
        refused(&program, arguments, 2, &[words]);
        let small = format!("{arguments} --memory 1KiB");
        refused(&program, &small, 2, &[words]);
    }
    let all = program.done("similar m --item i1");
    assert_eq!(all["similar"].as_array().unwrap().len(), 10);
    let all = program.done("similar m --item i1 --top 11");
    assert_eq!(all["similar"].as_array().unwrap().len(), 11);
}

#[test]
fn what_is_rated_below_zero_is_no_preference() {
    let program = Program::new();
    let positive = "user,item,rating\na,x,1\na,y,2\nb,x,3\nb,z,1\n";
    program.write("r.csv", format!("{positive}c,y,-1\nc,z,2\n"));
    program.write("positive.csv", positive);
    program.write("new.csv", "user,item,rating\nd,x,-2\n");
    program.done("import r.csv --out s");
    program.done("import positive.csv --out p");
    for method in SOLVERS.iter().filter(|m| m.learns != Learns::Ratings) {
        let biases = if method.biases { "" } else { "--no-biases" };
        let train = |store: &str| {
            let name = method.name;
            format!("train {store} --out m --force --rank 2 --epochs 2 --solver {name} {biases}")
        };
        let words = ["user c rates item y with -1", "--positive-at"];
        refused(&program, &train("s"), 1, &words);
        program.done(&(train("s") + " --positive-at 1"));
        program.done(&train("p"));
        let fold_in = "recommend m p --fold-in new.csv --top 1";
        refused(&program, fold_in, 1, &["user 0 rates item", "below zero"]);
    }
    let update = "update p new.csv --out q --model m --model-out n";
    program.done("train p --out m --rank 2 --solver ials --force");
    refused(&program, update, 1, &["user d rates item x with -2"]);
}

#[test]
fn a_part_that_turns_out_empty_is_told_of() {
    let program = Program::new();
    program.write("r.csv", "user,item,rating\na,x,1\nb,y,2\n");
    let told = said(&program.run("import r.csv --out s --test-each 1"));
    assert!(told.contains("warning: the test part is empty"), "{told}");
    let told = said(&program.run("split s --out t --validation-fraction 0.0001"));
    assert!(told.contains("warning: the validation part"), "{told}");
}
