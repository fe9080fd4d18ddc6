//! Users who are folded in get the rows that training gives them, and are served and measured as others are.

use std::collections::BTreeSet;
use std::fs;

use lowrank::matrix::{InMemory, Ratings, RowScratch, Side};
use lowrank::model::Model;
use lowrank::recommend::{Exclude, FoldedIn, Recommender, Search};
use lowrank::rng::{Purpose, Stream};
use lowrank::store::{Part, Store};
use lowrank::{ErrorKind, Threads};

use crate::program::Program;
use crate::refused::{ratings, refused};
use crate::tree::tree;

/// Ratings of a store as new ones, user by user.
fn copied(store: &Store) -> InMemory {
    let mut triplets = Vec::new();
    for index in 0..store.blocks(Side::Users) {
        let block = store.block(Side::Users, index).unwrap();
        for i in 0..block.rows() {
            let scratch = &mut RowScratch::default();
            let row = block.row(i, scratch);
            let user = (block.first_row() + i) as u32;
            triplets.extend(row.cols.iter().zip(row.values).map(|(&c, &v)| (user, c, v)));
        }
    }
    let shape = store.shape();
    InMemory::from_triplets(shape.users, shape.items, &triplets).unwrap()
}

#[test]
fn who_was_in_training_gets_the_same_row_again() {
    let program = Program::new();
    program.write("r.csv", ratings(60, 30));
    program.done("import r.csv --out s");
    let store = Store::open(program.path("s")).unwrap();
    // The relative tolerance: exact solvers end where they were, the others where their epochs lead.
    for (solver, tolerance) in [
        ("als --regularization-row 1", 1e-5),
        ("als --normalize", 1e-5),
        ("als --no-biases", 1e-5),
        ("ials --positive-at 3 --unobserved-weight 0.2", 1e-5),
        ("ials --alpha 2", 1e-5),
        ("ials-cg --epochs 100 --unobserved-weight 0.3", 1e-3),
        ("ials++ --block 4", 1e-5),
        (
            "ials++ --block 2 --epochs 200 --unobserved-weight 0.3",
            1e-3,
        ),
        ("cg --epochs 60", 1e-2),
        ("coordinate --epochs 200", 1e-2),
        ("newton --epochs 40", 1e-3),
        ("nmf --rule hals --missing skip --epochs 400", 2e-2),
        ("svd", 1e-5),
        ("popularity", 0.0),
    ] {
        program.done(&format!(
            "train s --out m --rank 4 --force --solver {solver}"
        ));
        let model = Model::open(&program.path("m")).unwrap();
        let threads = Threads::new(Some(2)).unwrap();
        let folded_in = threads
            .run(|| FoldedIn::new(&model, copied(&store), Some(&store)))
            .unwrap();
        let (own, again) = (&model.parameters().users, folded_in.users());
        let largest = own
            .flat()
            .iter()
            .fold(1e-9_f32, |most, x| most.max(x.abs()));
        for user in 0..own.rows() {
            let pairs = own.row(user).iter().zip(again.row(user));
            let biases = (&own.bias(user), &again.bias(user));
            for (x, y) in pairs.chain([biases]) {
                assert!(
                    (x - y).abs() <= tolerance * largest,
                    "{solver}: {x}, not {y}"
                );
            }
        }
    }
    program.done("train s --out m --rank 4 --force --solver svd");
    let model = Model::open(&program.path("m")).unwrap();
    let error = FoldedIn::new(&model, copied(&store), None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadOption);
}

#[test]
fn new_users_are_served_and_measured() {
    let program = Program::new();
    program.write("r.csv", ratings(80, 30));
    program.done("import r.csv --out s");
    program.done("split s --out h --test-users 0.25 --given 0.6 --fold-in new.csv");
    program.done("train h --out m --rank 4 --regularization 0.1");
    let figures = program.done("evaluate m h --fold-in new.csv --metrics rmse,recall --at 5");
    let text = fs::read_to_string(program.path("new.csv")).unwrap();
    let users: BTreeSet<&str> = text
        .lines()
        .skip(1)
        .filter_map(|l| l.split(',').next())
        .collect();
    assert!(figures["users"].as_u64().unwrap() as usize <= users.len());
    assert!(figures["unknown"] == 0 && figures["rmse"].as_f64().unwrap() > 0.0);
    let unknown = program.done("evaluate m h --metrics rmse");
    assert_ne!(
        unknown["rmse"], figures["rmse"],
        "the rows are those of training"
    );
    for out in ["--exhaustive --out a.csv", "--threads 1 --out b.csv"] {
        program.done(&format!("recommend m --fold-in new.csv --top 4 {out}"));
    }
    let recommended = fs::read_to_string(program.path("a.csv")).unwrap();
    assert_eq!(
        recommended,
        fs::read_to_string(program.path("b.csv")).unwrap()
    );
    let given: BTreeSet<(&str, &str)> = text
        .lines()
        .filter_map(|l| l.split_once(','))
        .map(|(user, rest)| (user, rest.split(',').next().unwrap()))
        .collect();
    for line in recommended.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        assert!(users.contains(cells[0]) && !given.contains(&(cells[0], cells[1])));
    }
    let tables = program.done("recommend m --fold-in new.csv --top 2");
    assert_eq!(tables.as_array().unwrap().len(), users.len());
}

#[test]
fn a_final_model_is_trained_on_every_rating() {
    let program = Program::new();
    program.write("r.csv", ratings(40, 20));
    program.done("import r.csv --out whole");
    program.done("import r.csv --out s --test-fraction 0.3 --validation-fraction 0.2");
    program.done("train whole --out a --rank 3");
    program.done("train s --out b --rank 3 --on all");
    let files = |model: &str| {
        let mut files = tree(&program.path(model));
        files.remove("run.json");
        files
    };
    assert!(files("a") == files("b"));
    assert!(!program.path("b.ratings").exists());
}

#[test]
fn what_cannot_be_folded_in_is_refused() {
    let program = Program::new();
    program.write("r.csv", ratings(30, 12));
    program.done("import r.csv --out s");
    program.done("train s --out m --rank 2");
    program.done("train s --out sgd --rank 2 --solver sgd");
    program.done("train s --out weighted --rank 2 --solver ials --alpha 1");
    program.write("none.csv", "user,item,rating\nnew,unheard,3\n");
    program.write("new.csv", "user,item,rating\nnew,i1,3\nnew,i2,4\n");
    program.write("negative.csv", "user,item,rating\nnew,i1,-3\nnew,i2,4\n");
    program.write("empty.csv", "");
    for (arguments, status, message) in [
        (
            "recommend m --fold-in none.csv",
            1,
            "item that the model knows",
        ),
        ("recommend m --fold-in empty.csv", 1, "no ratings in it"),
        ("recommend m --fold-in gone.csv", 1, "no such file"),
        (
            "recommend m --fold-in new.csv --users u1",
            2,
            "cannot be used with",
        ),
        ("recommend sgd --fold-in new.csv", 2, "--solver als"),
        ("recommend weighted --fold-in negative.csv", 1, "below zero"),
        ("evaluate m s --fold-in new.csv", 2, "no test part"),
    ] {
        refused(&program, arguments, status, &[message]);
    }
}

/// Users with tastes: of each kind of items a taste takes every second one, and any item now and then.
fn tastes(users: usize, items: usize) -> String {
    const KINDS: usize = 6;
    let mut text = "user,item,rating\n".to_owned();
    for user in 0..users {
        let mut stream = Stream::new(9, Purpose::SyntheticUsers, 0, user as u64);
        for item in 0..items {
            let chance = if item % KINDS == user % KINDS {
                0.5
            } else {
                0.04
            };
            if stream.uniform() < chance {
                text += &format!("u{user},i{item},1\n");
            }
        }
    }
    text
}

/// The share of each user's held-out items in the list of ten.
fn recalls(store: &Store, recommender: &Recommender<'_>) -> Vec<f64> {
    let test = store.part(Part::Test).unwrap();
    let mut recalls = Vec::new();
    let users = 0..store.shape().users as u32;
    recommender
        .recommend(users, Ok, |tops| {
            for top in tops {
                let (block, row) = test.find(top.user as usize)?;
                let row = block.row(row, &mut RowScratch::default()).cols.to_vec();
                let hits = top.items.iter().filter(|c| row.contains(&c.item)).count();
                recalls.push(hits as f64 / row.len() as f64);
            }
            Ok(())
        })
        .unwrap();
    recalls
}

/// Methods of mini-batches have no exact row: what is folded in serves a user as well as the trained row does, by the 95 % interval
/// of the differences between the two, user by user.
#[test]
fn rows_that_step_serve_as_well_as_trained_ones() {
    let program = Program::new();
    program.write("r.csv", tastes(240, 96));
    program.done("import r.csv --out s --test-each 3");
    let store = Store::open(program.path("s")).unwrap();
    let threads = |count| Threads::new(Some(count)).unwrap();
    for solver in [
        "softmax --negatives 40 --temperature 0.2 --dropout 0.1",
        "ccl",
        "bpr",
        "warp",
        "logistic-mf",
    ] {
        let name = solver.split(' ').next().unwrap();
        program.done(&format!(
            "train s --out m --rank 8 --epochs 20 --force --batch-size 64 --solver {solver}"
        ));
        let model = Model::open(&program.path("m")).unwrap();
        let fold_in = |count, ratings| {
            let folded_in = || FoldedIn::new(&model, ratings, None).unwrap();
            threads(count).run(folded_in)
        };
        let folded_in = fold_in(2, copied(&store));
        assert_eq!(folded_in.users(), fold_in(1, copied(&store)).users());
        // Alone as among others.
        let one = 77;
        let block = store.block(Side::Users, 0).unwrap();
        let scratch = &mut RowScratch::default();
        let row = block.row(one, scratch);
        let triplets: Vec<_> = row.cols.iter().map(|&item| (0, item, 1.0)).collect();
        let ratings = InMemory::from_triplets(1, store.shape().items, &triplets).unwrap();
        let alone = fold_in(2, ratings);
        assert_eq!(alone.users().row(0), folded_in.users().row(one), "{name}");
        assert_eq!(alone.users().bias(0), folded_in.users().bias(one), "{name}");

        let search = Search::default();
        let trained = Recommender::new(&model, Some(&store), 10, Exclude::Train, search).unwrap();
        let again = Recommender::to_folded_in(&model, &folded_in, 10, Exclude::Train, search);
        let (trained, again) = (recalls(&store, &trained), recalls(&store, &again));
        let users = trained.len() as f64;
        let mean = |x: &[f64]| x.iter().sum::<f64>() / users;
        let less: Vec<f64> = trained.iter().zip(&again).map(|(a, b)| a - b).collect();
        let squares: f64 = less.iter().map(|x| (x - mean(&less)).powi(2)).sum();
        let margin = 1.96 * (squares / (users - 1.0) / users).sqrt();
        let (before, after) = (mean(&trained), mean(&again));
        assert!(mean(&less) <= margin, "{solver}: {after}, not {before}");
        // By chance it would be a tenth.
        assert!(after > 0.25, "{solver}: {after}");
    }
}
