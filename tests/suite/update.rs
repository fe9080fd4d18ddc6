//! A store with ratings added has what an import of all of them has, and a refreshed model has the rows that its solver gives.

use std::collections::BTreeMap;
use std::fs;

use lowrank::Threads;
use lowrank::matrix::{Factors, InMemory, Ratings, RowScratch, Side};
use lowrank::model::Model;
use lowrank::solver::{Fixed, method};
use lowrank::store::{Part, Store};

use crate::program::Program;
use crate::refused::{ratings, refused};
use crate::tree::tree;

/// Later ratings: of known users and items, of new ones, and of pairs that are rated already.
const NEW: &str = "user,item,rating,time
u3,i1,4.5,2000001
u3,new,2,2000002
u0,i5,1,2000003
fresh,i1,5,2000004
fresh,i2,3,2000005
fresh,new,1.5,2000006
alone,i2,2.5,2000007
u29,i11,3.5,2000008
u3,i1,1.5,2000009
";

fn folder() -> Program {
    let program = Program::new();
    program.write("r.csv", ratings(30, 12));
    program.write("new.csv", NEW);
    let all = ratings(30, 12) + NEW.split_once('\n').unwrap().1;
    program.write("all.csv", all);
    program
}

/// All training ratings by ids, in order of one side, with their times where they are kept.
fn rated(store: &Store, side: Side) -> BTreeMap<(String, String), (f32, Option<i64>)> {
    let mut rated = BTreeMap::new();
    let (mut scratch, mut times) = (RowScratch::default(), Vec::new());
    for index in 0..store.blocks(side) {
        let block = store.block(side, index).unwrap();
        for i in 0..block.rows() {
            let own = block.first_row() + i;
            let row = block.row(i, &mut scratch);
            times.clear();
            if side == Side::Users {
                let rows = store.part(Part::Train).unwrap();
                rows.times_of(own, row.len(), &mut times).unwrap();
            }
            for (at, (&col, &value)) in row.cols.iter().zip(row.values).enumerate() {
                let own = store.dictionary(side).id(own).unwrap().to_owned();
                let other = store.dictionary(side.other()).id(col as usize).unwrap();
                let pair = match side {
                    Side::Users => (own, other.to_owned()),
                    Side::Items => (other.to_owned(), own),
                };
                rated.insert(pair, (value, times.get(at).copied()));
            }
        }
    }
    rated
}

#[test]
fn a_store_with_ratings_added_has_what_an_import_of_all_has() {
    let program = folder();
    let mut lines: Vec<&str> = NEW.lines().skip(1).collect();
    lines.reverse();
    program.write("turned.csv", lines.join("\n"));
    for (at, how) in [
        "--encoding plain --shard-size 600",
        "--encoding packed --shard-size 700 --times",
        "--encoding plain --times",
        "--shard-size 1KiB",
    ]
    .iter()
    .enumerate()
    {
        program.done(&format!("import r.csv --out s{at} {how}"));
        program.done(&format!("import all.csv --out all{at} {how}"));
        let before = tree(&program.path(&format!("s{at}")));
        let done = program.done(&format!(
            "update s{at} new.csv --out t{at} --shard-size 600 --touched touched{at}"
        ));
        let numbers = [
            "added",
            "replaced",
            "left_alone",
            "touched_users",
            "users",
            "items",
        ];
        let numbers = numbers.map(|name| done[name].as_u64().unwrap());
        let (merged, all) = (
            Store::open(program.path(&format!("t{at}"))).unwrap(),
            Store::open(program.path(&format!("all{at}"))).unwrap(),
        );
        let of_all = rated(&all, Side::Users);
        let had = rated(
            &Store::open(program.path(&format!("s{at}"))).unwrap(),
            Side::Users,
        );
        let added = of_all.len() - had.len();
        assert_eq!(numbers, [added as u64, 8 - added as u64, 0, 5, 32, 13]);
        assert_eq!(rated(&merged, Side::Users), of_all, "{how}");
        assert_eq!(rated(&merged, Side::Items).len(), of_all.len());
        let (now, imported) = (merged.manifest(), all.manifest());
        assert_eq!(now.fingerprint, imported.fingerprint);
        assert_eq!(now.histogram, imported.histogram);
        assert_eq!(now.scale, imported.scale);
        assert!((now.mean - imported.mean).abs() < 1e-12);
        program.done(&format!("verify t{at}"));
        // Known ids keep their numbers; the old store is as it was.
        for row in 0..30 {
            let old = Store::open(program.path(&format!("s{at}"))).unwrap();
            assert_eq!(
                old.users().id(row).unwrap(),
                merged.users().id(row).unwrap()
            );
        }
        assert!(tree(&program.path(&format!("s{at}"))) == before);
        let touched = fs::read_to_string(program.path(&format!("touched{at}"))).unwrap();
        let mut touched: Vec<&str> = touched.lines().collect();
        touched.sort_unstable();
        assert_eq!(touched, ["alone", "fresh", "u0", "u29", "u3"]);
        // The order of lines does not matter where times tell them apart, nor does the number of threads.
        program.done(&format!(
            "update s{at} turned.csv --columns user,item,rating,time --out turned{at} --shard-size 600 --threads 1"
        ));
        let of = |name: &str| {
            let mut files = tree(&program.path(&format!("{name}{at}")));
            // It counts lines, and a header is one.
            files.remove("manifest");
            files
        };
        assert!(of("turned") == of("t"), "{how}");
        // A second update shares what the first has left alone, and the first may be replaced.
        program.done(&format!("update t{at} new.csv --out t{at} --force"));
        program.done(&format!("verify t{at}"));
        let again = Store::open(program.path(&format!("t{at}"))).unwrap();
        assert_eq!(rated(&again, Side::Users), of_all);
    }
}

#[test]
fn what_is_held_out_stays_held_out() {
    let program = folder();
    program.done("import r.csv --out s --test-fraction 0.3 --validation-fraction 0.2 --times");
    let store = Store::open(program.path("s")).unwrap();
    let test = store.part(Part::Test).unwrap();
    let (user, mut scratch) = (
        store.users().lookup("u0").unwrap().unwrap(),
        RowScratch::default(),
    );
    let (block, row) = test.find(user as usize).unwrap();
    let item = block.row(row, &mut scratch).cols[0];
    let item = store.items().id(item as usize).unwrap();
    program.write("held.csv", format!("u0,{item},5,1\n"));
    refused(
        &program,
        "update s held.csv --out t",
        1,
        &["held out, and stay so"],
    );
    program.write("both.csv", format!("u0,{item},5,1\nnobody,{item},4,2\n"));
    let done = program.done("update s both.csv --out t");
    assert_eq!(
        (&done["left_alone"], &done["added"]),
        (&1.into(), &1.into())
    );
    for part in ["test", "validation"] {
        assert_eq!(done[part], program.done("inspect s")[part]);
    }
    program.done("verify t");
    program.done("train t --out m --rank 2 --epochs 1");
    program.done("evaluate m t");
    program.done("split t --out latest --leave-one-out");
}

/// The ratings of a store with the sides in each other's place.
fn of_side(store: &Store, side: Side) -> InMemory {
    let mut triplets = Vec::new();
    let mut scratch = RowScratch::default();
    for index in 0..store.blocks(side) {
        let block = store.block(side, index).unwrap();
        for i in 0..block.rows() {
            let own = (block.first_row() + i) as u32;
            let row = block.row(i, &mut scratch);
            triplets.extend(row.cols.iter().zip(row.values).map(|(&c, &v)| (own, c, v)));
        }
    }
    let shape = store.shape();
    InMemory::from_triplets(shape.rows(side), shape.rows(side.other()), &triplets).unwrap()
}

#[test]
fn rows_are_those_that_the_solver_gives() {
    let program = folder();
    program.done("import r.csv --out s");
    let store = Store::open(program.path("s")).unwrap();
    for (solver, tolerance) in [
        ("als --regularization-row 1", 0.0),
        ("als --no-biases", 0.0),
        ("ials --alpha 2", 0.0),
        ("ials-cg --unobserved-weight 0.3", 0.0),
        ("ials++ --block 2", 0.0),
        ("newton --epochs 40", 1e-4),
    ] {
        program.done(&format!(
            "train s --out m --rank 4 --force --solver {solver}"
        ));
        let done =
            program.done("update s new.csv --out t --model m --model-out n --force --grown 0.3");
        program.done("verify n");
        let merged = Store::open(program.path("t")).unwrap();
        let open = |name: &str| Model::open(&program.path(name)).unwrap();
        let (before, after) = (open("m"), open("n"));
        assert_eq!(after.record().updates.len(), 1);
        assert_eq!(after.record().fingerprint, merged.manifest().fingerprint);
        let touched: Vec<u32> = ["u0", "u3", "u29", "fresh", "alone"]
            .map(|id| merged.users().lookup(id).unwrap().unwrap())
            .to_vec();
        let counts = [&store, &merged].map(|store| store.rating_counts(Side::Items).unwrap());
        let had = |item: usize| f64::from(counts[0].get(item).copied().unwrap_or(0));
        let grown: Vec<u32> = (0..counts[1].len())
            .filter(|&item| f64::from(counts[1][item]) > 1.3 * had(item))
            .map(|item| item as u32)
            .collect();
        assert_eq!(done["solved_items"], grown.len());
        let options = &before.record().options;
        let solver_of = method(&options.solver).unwrap().solver(options).unwrap();
        // Users to the old items, items to these users, and users to these items.
        let mut expected = [Side::Users, Side::Items].map(|side| {
            let (old, rows) = (before.parameters().side(side), merged.shape().rows(side));
            let mut all = Factors::zeros(rows, old.rank(), old.has_biases());
            for row in 0..old.rows() {
                all.row_mut(row).copy_from_slice(old.row(row));
                if old.has_biases() {
                    all.biases_mut()[row] = old.bias(row);
                }
            }
            all
        });
        let threads = Threads::new(Some(2)).unwrap();
        for (side, rows) in [
            (Side::Users, &touched),
            (Side::Items, &grown),
            (Side::Users, &touched),
        ] {
            let fixed = &expected[side.other() as usize];
            let fixed = Fixed::new(fixed, before.record().mean, before.record().std);
            let all = &expected[side as usize];
            let mut solved = Factors::zeros(all.rows(), all.rank(), all.has_biases());
            threads
                .run(|| solver_of.fold_in(&of_side(&merged, side), None, &fixed, &mut solved))
                .unwrap();
            for &row in rows {
                let row = row as usize;
                let all = &mut expected[side as usize];
                all.row_mut(row).copy_from_slice(solved.row(row));
                if all.has_biases() {
                    all.biases_mut()[row] = solved.bias(row);
                }
            }
        }
        for side in [Side::Users, Side::Items] {
            let (found, expected) = (after.parameters().side(side), &expected[side as usize]);
            let largest = expected.flat().iter().fold(0.0, |m: f32, x| m.max(x.abs()));
            for row in 0..expected.rows() {
                let pairs = found.row(row).iter().zip(expected.row(row));
                for (x, y) in pairs.chain([(&found.bias(row), &expected.bias(row))]) {
                    let far = (x - y).abs();
                    assert!(far <= tolerance * largest, "{solver}: {x}, not {y}");
                }
            }
        }
        // One more, in place.
        program.done("update t new.csv --out t --model n --model-out n --force");
        assert_eq!(open("n").record().updates.len(), 2);
        let told = program.done("inspect n");
        assert_eq!(told["updates"][0]["items"], grown.len());
    }
}

/// A model is put in its place before the store that it belongs to. The same command does the rest, if it was ended in between.
#[test]
fn an_update_in_place_that_was_ended_half_way_is_gone_on_with() {
    let program = folder();
    program.done("import r.csv --out s");
    program.done("train s --out m --rank 2 --epochs 2");
    program.done("update s new.csv --out t --model m --model-out m --touched renew --force");
    let [store, model] = ["t", "m"].map(|name| tree(&program.path(name)));
    let renew = fs::read(program.path("renew")).unwrap();
    // As a kill would leave it: the new model, and the store of before.
    let again = "update s new.csv --out s --model m --model-out m --touched renew --force";
    program.done(again);
    assert!(tree(&program.path("s")) == store && tree(&program.path("m")) == model);
    assert_eq!(fs::read(program.path("renew")).unwrap(), renew);
    // Other ratings are not those that the model was updated with.
    program.done("import r.csv --out s --force");
    program.write("other.csv", "user,item,rating\nu1,i1,3\n");
    let other = "update s other.csv --out s --model m --model-out m --force";
    refused(&program, other, 2, &["trained on other ratings"]);
}

#[test]
fn what_cannot_be_updated_is_refused() {
    let program = folder();
    program.done("import r.csv --out s");
    program.done("import r.csv --out timed --times");
    program.done("import all.csv --out other");
    program.done("train s --out m --rank 2 --epochs 1");
    program.done("train s --out sgd --solver sgd --rank 2 --epochs 1");
    program.write("untimed.csv", "user,item,rating\nu1,i1,3\n");
    program.write("empty.csv", "user,item,rating\n");
    for (arguments, status, words) in [
        ("update s new.csv --out s", 1, "--force"),
        ("update s none.csv --out t", 1, "none.csv"),
        ("update s empty.csv --out t", 1, "no ratings in it"),
        (
            "update timed untimed.csv --out t",
            1,
            "new ratings without one; name the column with --columns",
        ),
        ("update s new.csv --out t --model m", 2, "--model-out"),
        ("update s new.csv --out t --grown 0.1", 2, "--model"),
        (
            "update s new.csv --out t --model m --model-out n --grown=-1",
            2,
            "give a share from 0 up",
        ),
        (
            "update s new.csv --out t --model m --model-out m",
            1,
            "--force",
        ),
        (
            "update other new.csv --out t --model m --model-out n",
            2,
            "trained on other ratings",
        ),
        (
            "update s new.csv --out t --model sgd --model-out n",
            2,
            "cannot be updated",
        ),
        ("update s new.csv --out t --memory 3MiB", 1, "--memory"),
    ] {
        refused(&program, arguments, status, &[words]);
    }
}
