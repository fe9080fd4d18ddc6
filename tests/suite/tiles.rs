//! Tiles in a store: made when a stochastic method first asks for them, checked, and of no influence on the model.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::program::Program;
use crate::refused::{ratings, refused};
use crate::tree::tree;
use lowrank::Store;
use lowrank::matrix::{Census, HeldTiles, InMemory, Ratings, RowScratch, Side, Tiles};

const SGD: &str = "--solver sgd --rank 3 --epochs 3";

/// A store of some ratings.
fn imported() -> Program {
    let program = Program::new();
    program.write("good.csv", ratings(30, 12));
    program.done("import good.csv --out s --test-fraction 0.2");
    program
}

/// All files of a model but the one that tells what changes nothing.
fn model(program: &Program, name: &str) -> BTreeMap<String, Vec<u8>> {
    let mut files = tree(&program.path(name));
    files.remove("run.json");
    files
}

#[test]
fn they_are_made_once_and_the_model_is_the_same() {
    let program = imported();
    let before = tree(&program.path("s"));
    let inspected = program.done("inspect s");
    assert!(inspected["tiles"].is_null());
    program.done(&format!("train s --out first {SGD}"));
    let made = tree(&program.path("s"));
    let tiles: Vec<&String> = made
        .keys()
        .filter(|name| !before.contains_key(*name))
        .collect();
    assert_eq!(tiles.len(), 1 + 8, "{tiles:?}");
    assert!(tiles.iter().all(|name| name.starts_with("tiles/")));
    assert!(before.iter().all(|(name, bytes)| made[name] == *bytes));

    program.done(&format!("train s --out second {SGD} --threads 1"));
    assert!(model(&program, "first") == model(&program, "second"));
    assert!(made == tree(&program.path("s")));
    let inspected = program.done("inspect s");
    assert_eq!(inspected["tiles"]["bands"], 8);
    assert_eq!(inspected["tiles"]["coded"], true);
    let verified = program.done("verify s");
    assert_eq!(verified["files"], made.len());
    let bytes: usize = made.values().map(Vec::len).sum();
    assert_eq!(verified["bytes"], bytes);
}

#[test]
fn a_store_that_cannot_be_written_to_trains_to_the_same_model() {
    let program = imported();
    program.done(&format!("train s --out writable {SGD}"));
    fs::remove_dir_all(program.path("s/tiles")).unwrap();
    let store = program.path("s");
    let before = tree(&store);
    fs::set_permissions(&store, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::File::create(store.join("probe")).is_ok() {
        fs::remove_file(store.join("probe")).unwrap();
        println!("skipped: permissions do not bind this user");
    } else {
        program.done(&format!("train s --out refused {SGD}"));
        assert!(model(&program, "writable") == model(&program, "refused"));
        assert!(before == tree(&store));
    }
    fs::set_permissions(&store, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn they_hold_what_memory_would_hold() {
    let program = imported();
    let store = Store::open_within(program.path("s"), 0).unwrap();
    let mut triplets = Vec::new();
    let mut scratch = RowScratch::default();
    for index in 0..store.blocks(Side::Users) {
        let block = store.block(Side::Users, index).unwrap();
        for i in 0..block.rows() {
            let (user, row) = ((block.first_row() + i) as u32, block.row(i, &mut scratch));
            let pairs = row.cols.iter().zip(row.values);
            triplets.extend(pairs.map(|(&item, &value)| (user, item, value)));
        }
    }
    let shape = store.shape();
    let memory = InMemory::from_triplets(shape.users, shape.items, &triplets).unwrap();
    let held = HeldTiles::new(&memory).unwrap();
    let stored = store.tiles().unwrap();
    assert_eq!(held.grid(), stored.grid());
    for number in 0..held.grid().bands() {
        let ratings = |tiles: &dyn Tiles| {
            let mut ratings = Vec::new();
            let wave = tiles.wave(number).unwrap();
            wave.for_each_rating(tiles.grid(), number, |u, i, r| ratings.push((u, i, r)));
            ratings
        };
        stored.will_need(number);
        assert_eq!(ratings(&held), ratings(&*stored));
        stored.done_with(number);
    }
    for side in [Side::Users, Side::Items] {
        assert_eq!(held.counts(side), stored.counts(side));
        assert_eq!(held.counts(side), Census::of(&store).unwrap().counts(side));
    }
}

#[test]
fn those_of_another_store_are_refused_and_what_to_do_is_said() {
    let program = imported();
    program.done(&format!("train s --out m {SGD}"));
    program.write("other.csv", ratings(31, 12));
    program.done("import other.csv --out other --test-fraction 0.2");
    fs::rename(program.path("s/tiles"), program.path("other/tiles")).unwrap();
    let train = format!("train other --out n {SGD}");
    for command in [&train, "verify other", "inspect other"] {
        let said = ["tiles of another store", "remove the directory of tiles"];
        refused(&program, command, 1, &said);
    }
    // Whoever needs no tiles does not mind them.
    program.done("train other --out n --rank 3 --epochs 1");
    fs::remove_dir_all(program.path("other/tiles")).unwrap();
    program.done(&format!("train other --out n {SGD} --force"));
    program.done("verify other");
}

#[test]
fn a_flipped_byte_is_found_and_never_learned_from() {
    let program = imported();
    program.done(&format!("train s --out m {SGD}"));
    let whole = model(&program, "m");
    let mut flips = 0;
    for (name, bytes) in tree(&program.path("s/tiles")) {
        let file = program.path("s/tiles").join(&name);
        for at in (0..bytes.len()).step_by(61) {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&file, bytes).unwrap();
            let verified = Store::open(program.path("s")).and_then(|s| s.verify(&mut |_| {}));
            let error = verified.unwrap_err();
            assert_eq!(error.file(), Some(file.as_path()), "{error}");
            if flips % 9 == 0 {
                refused(
                    &program,
                    &format!("train s --out n {SGD}"),
                    1,
                    &[name.as_str()],
                );
            }
            flips += 1;
        }
        fs::write(&file, bytes).unwrap();
    }
    assert!(flips > 50);
    program.done(&format!("train s --out n {SGD}"));
    assert!(model(&program, "n") == whole);
}
