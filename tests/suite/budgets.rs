//! A budget that is too small is refused before any work, with the smallest that would do; and that one does.

use crate::program::Program;
use crate::refused::{ratings, refused};
use lowrank::matrix::Ratings;
use lowrank::memory::{Bytes, Plan};
use lowrank::solver::{Options, SOLVERS};
use lowrank::store::Store;
use lowrank::train::{Placement, Trainer};
use lowrank::{Error, Result, Threads};

const MIB: u64 = 1 << 20;

/// The budget that a refusal names, in MiB.
fn named(error: &str) -> u64 {
    let (_, advice) = error
        .split_once("--memory ")
        .expect("a budget that would do");
    let (number, rest) = advice.split_once("MiB would do").expect("whole MiB");
    assert!(
        rest.trim().is_empty() || rest.starts_with(", or "),
        "{error}"
    );
    number.parse().unwrap()
}

/// The smallest budget that is enough, in MiB, by bisection; and what less than that is told.
fn smallest(enough: impl Fn(Bytes) -> Result<()>) -> (u64, Error) {
    let (mut low, mut high) = (1, 4096);
    let mut refusal = enough(Bytes(low * MIB)).expect_err("a budget for nothing");
    enough(Bytes(high * MIB)).expect("a budget for all");
    while high - low > 1 {
        let middle = low.midpoint(high);
        match enough(Bytes(middle * MIB)) {
            Ok(()) => high = middle,
            Err(error) => (low, refusal) = (middle, error),
        }
    }
    (high, refusal)
}

#[test]
fn every_solver_names_the_smallest_budget_and_trains_in_it() {
    let program = Program::new();
    program.write("in.csv", ratings(900, 60));
    program.done("import in.csv --out s --validation-fraction 0.1");
    let folder = program.path("");
    for method in SOLVERS {
        // Of a rank as large as it may be, factors and scratch are more than rounding to MiB can hide.
        for (rank, threads) in [(4, 1), (Options::MAX_RANK, 2)] {
            let options = Options {
                solver: method.name.into(),
                rank,
                epochs: 1,
                ..Options::default()
            };
            let options = (method.suited)(options).resolved();
            let store = Store::open(program.path("s")).unwrap();
            let plan = |budget: Bytes| {
                let mut plan = Plan::new(budget);
                let planned = Placement::plan(&mut plan, &store, &options, threads, Some(&folder))?;
                assert!(plan.total() <= budget, "{}", method.name);
                Ok(planned)
            };
            let (enough, refusal) = smallest(|budget| plan(budget).map(drop));
            let what = format!("{} of rank {rank}: {refusal}", method.name);
            assert_eq!(named(&refusal.to_string()), enough, "{what}");
            let first = plan(Bytes(MIB)).unwrap_err().to_string();
            assert_eq!(named(&first), enough, "{what}: at first {first}");
            if rank == 4 {
                let trainer = Trainer::new(
                    &store,
                    Options {
                        epochs: 1,
                        ..options.clone()
                    },
                )
                .placement(plan(Bytes(enough * MIB)).unwrap());
                let state = trainer.run(&Threads::new(Some(threads)).unwrap()).unwrap();
                assert_eq!(
                    state.parameters().users.rows(),
                    store.shape().users,
                    "{what}"
                );
            }
        }
    }
}

#[test]
fn every_command_names_the_smallest_budget_and_runs_in_it() {
    let program = crate::refused::trained();
    program.write("more.csv", "user,item,rating\nu1,new,3\n");
    program.done(
        "train s --out softmax --solver softmax --positive-at 3 --rank 3 --epochs 2 --batch-size 8",
    );
    for arguments in [
        "import good.csv --out n",
        "import good.csv --out n --encoding plain --test-last 1 --threads 3",
        "split s --out n --test-fraction 0.3",
        "train s --out n --rank 2 --epochs 1",
        "train s --out n --solver sgd --rank 200 --epochs 1 --early-stop 2 --checkpoint-every 1",
        "recommend m s --out n",
        "recommend m s --out n --exhaustive --top 12",
        "evaluate m s",
        "evaluate m s --metrics rmse,ndcg --at 3",
        "recommend m s --out n --fold-in good.csv",
        "recommend softmax s --out n --fold-in good.csv",
        "evaluate m s --fold-in good.csv",
        "similar m --item i1",
        "similar m --user u1",
        "similar m --all --top 3 --out n",
        "predict m --user u1 --item i1",
        "predict m --pairs good.csv --out n",
        "explain m s --user u1 --item i1",
        "export m --users n",
        "update s more.csv --out n",
        "update s more.csv --out n --model m --model-out k",
        "cross-validate s --folds 2 --rank 2 --epochs 1",
        "tune s --out n --rank 2,3 --epochs 1",
    ] {
        let with = |mib: u64| format!("{arguments} --memory {mib}MiB");
        let enough = named(&refused(&program, &with(1), 1, &["budget is 1 MiB"]));
        let again = named(&refused(&program, &with(enough - 1), 1, &[]));
        assert_eq!(again, enough, "{arguments}");
        program.done(&with(enough));
        for made in ["n", "n.trials", "k"].map(|name| program.path(name)) {
            if made.is_dir() {
                std::fs::remove_dir_all(made).unwrap();
            } else if made.exists() {
                std::fs::remove_file(made).unwrap();
            }
        }
    }
}

/// What many new users take is known when their file has been read, and told all at once.
#[test]
fn new_users_beyond_the_budget_are_counted_and_the_budget_named() {
    let program = crate::refused::trained();
    let mut text = "user,item,rating\n".to_owned();
    for user in 0..20_000 {
        for item in 0..6 {
            text += &format!("new{user},i{item},{}\n", 1 + (user + item) % 5);
        }
    }
    program.write("many.csv", text);
    for arguments in [
        "recommend m s --out n --fold-in many.csv",
        "evaluate m s --fold-in many.csv",
    ] {
        let with = |mib: u64| format!("{arguments} --memory {mib}MiB");
        let before = named(&refused(&program, &with(1), 1, &["solving for rows"]));
        let what = ["new users and their ratings"];
        let enough = named(&refused(&program, &with(before + 4), 1, &what));
        let again = named(&refused(&program, &with(enough - 1), 1, &what));
        assert!(enough > before + 4 && again == enough, "{arguments}");
        program.done(&with(enough));
    }
}

/// Of a model that is larger than the budget, rows are read as they are asked for; what comes of it is the same.
#[test]
fn commands_that_look_at_rows_hold_no_more_than_some_of_them() {
    let program = Program::new();
    let mut text = String::from("user,item,rating\n");
    for user in 0..40_000 {
        text += &format!(
            "{user},{},{}\n{user},{},3\n",
            user % 30,
            1 + user % 5,
            30 + user % 7
        );
    }
    program.write("in.csv", text);
    program.done("import in.csv --out s");
    program.done("train s --out m --solver coordinate --rank 128 --epochs 0");
    program.write(
        "some.csv",
        "user,item,rating\n17,3,4\n39999,2,1\n5,31,2\nnobody,0,3\n0,0,5\n",
    );
    let users = Store::open(program.path("s")).unwrap().shape().users as u64;
    let held = users * 129 * 4 / MIB;
    for (command, out) in [
        ("export m --users n.npy", "n.npy"),
        ("export m --items n.csv", "n.csv"),
        ("predict m --pairs some.csv --out n", "n"),
        ("recommend m s --fold-in some.csv --out n", "n"),
        ("recommend m s --users 17,39999 --out n", "n"),
        (
            "evaluate m s --on train --sampled 5 --metrics recall,rmse --at 3",
            "",
        ),
        ("similar m --all --out n", "n"),
        ("similar m --user 17", ""),
        ("predict m --user 39999 --item 2", ""),
        ("explain m s --user 17 --item 2", ""),
    ] {
        let run = |memory: &str| {
            let told = program.done(&format!("{command} {memory}"));
            match out {
                "" => told.to_string().into_bytes(),
                name => {
                    let made = std::fs::read(program.path(name)).unwrap();
                    std::fs::remove_file(program.path(name)).unwrap();
                    made
                }
            }
        };
        let least = named(&refused(
            &program,
            &format!("{command} --memory 1MiB"),
            1,
            &[],
        ));
        assert!(least < 12 + held, "{command}: {least} MiB");
        assert!(run(&format!("--memory {least}MiB")) == run(""), "{command}");
    }
}
