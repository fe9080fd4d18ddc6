//! Whether what is on disk survives: every step of import, update, split, tiles, checkpoint, model and output fails in turn, in
//! four ways.
//!
//! After each, the target is the old state or the new to the byte, never a mixture, and the next writer leaves nothing of
//! what was begun.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::{AtPath, Result};
use crate::ingest::{Duplicates, HoldOut, Import, Input, Merge, ReadOptions, Resplit, Split};
use crate::matrix::Ratings;
use crate::memory::Plan;
use crate::model::{Checkpoint, Model, Run};
use crate::solver::Options;
use crate::store::faults::{Fault, with};
use crate::store::{AtomicDir, AtomicFile, Encoding, Store};
use crate::threads::Threads;
use crate::train::{Pace, State, Trainer};

/// Every file below a folder, or the file itself, by its path with its bytes.
fn tree(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        match fs::read_dir(&path) {
            Ok(entries) => left.extend(entries.map(|entry| entry.unwrap().path())),
            Err(_) => drop(files.insert(path.clone(), fs::read(&path).unwrap_or_default())),
        }
    }
    files
}

/// A folder in memory where there is one: these tests wait for the disk thousands of times.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// Writes `old`, then `new` in its place, with every fault at every step. Both name what they write `target`, in `root`.
fn survives(root: &Path, target: &str, old: impl Fn() -> Result<()>, new: impl Fn() -> Result<()>) {
    let target = root.join(target);
    let begin = || {
        old().expect("nothing is in its way");
        tree(root)
    };
    let (all, before) = (begin(), tree(&target));
    let (done, seen) = with(root, Fault::None, 0, &new);
    done.unwrap();
    assert!(seen.unsynced.is_empty(), "not on disk: {:?}", seen.unsynced);
    let after = tree(&target);
    assert!(before != after && seen.steps > 5, "{} steps", seen.steps);
    for fault in [Fault::Full, Fault::Short, Fault::Killed, Fault::Torn] {
        for at in 0..seen.steps {
            assert!(begin() == all, "{fault:?} at {}: left behind", at - 1);
            let (done, _) = with(root, fault, at, &new);
            let found = tree(&target);
            assert!(
                found == before || found == after,
                "{fault:?} at {at}: a mixture"
            );
            match (fault, done) {
                (Fault::Short, done) => done.unwrap(),
                // Cleaning up may have failed; what was asked for is there.
                (_, Ok(())) => assert!(found == after, "{fault:?} at {at}: not done, and silent"),
                (_, Err(error)) => assert!(error.to_string().contains("no space left"), "{error}"),
            }
        }
    }
    assert!(begin() == all, "left behind");
    println!("{}: {} faults", target.display(), 4 * seen.steps);
}

fn ratings(users: u32, items: u32) -> String {
    let mut text = String::new();
    for user in 0..users {
        for item in 0..items {
            let hash = (user * 7919 + item * 104_729) % 97;
            if user == 0 || hash % 3 == 0 {
                text += &format!("u{user},i{item},{}\n", 1 + hash % 5);
            }
        }
    }
    text
}

fn import(text: &Path, store: &Path) -> Result<()> {
    let import = Import {
        inputs: vec![Input::from(text)],
        read: ReadOptions::default(),
        test: None,
        split: Split {
            test: HoldOut::Fraction(0.2),
            validation_fraction: 0.1,
            ..Split::default()
        },
        duplicates: Duplicates::Last,
        times: false,
        titles: None,
        encoding: Encoding::Packed,
        shard_bytes: 2048,
        memory: None,
        force: true,
    };
    import.run(store, &Threads::new(Some(1))?, &())?;
    Ok(())
}

#[test]
fn an_import_leaves_the_old_store_or_the_new() {
    let root = folder();
    let at = |name: &str| root.path().join(name);
    fs::write(at("old.csv"), ratings(12, 7)).unwrap();
    fs::write(at("new.csv"), ratings(25, 9)).unwrap();
    survives(
        root.path(),
        "s",
        || import(&at("old.csv"), &at("s")),
        || import(&at("new.csv"), &at("s")),
    );
    let store = Store::open(at("s")).unwrap();
    store.verify(&mut |_| {}).unwrap();
}

/// A store, and states of two trainings on it that differ.
fn trained(root: &Path) -> (Store, Options, [State; 2]) {
    fs::write(root.join("in.csv"), ratings(20, 8)).unwrap();
    import(&root.join("in.csv"), &root.join("s")).unwrap();
    let store = Store::open(root.join("s")).unwrap();
    let options = Options {
        solver: "gradient".into(),
        rank: 3,
        epochs: 2,
        momentum: 0.5,
        ..Options::default()
    }
    .resolved();
    let state = |epochs| {
        let options = Options {
            epochs,
            ..options.clone()
        };
        let threads = Threads::new(Some(1)).unwrap();
        Trainer::new(&store, options).run(&threads).unwrap()
    };
    let states = [state(1), state(2)];
    (store, options, states)
}

fn run_of(state: &State) -> Run {
    let pace = Pace {
        seconds: 1.0,
        ratings_per_second: 1.0,
        ..Pace::default()
    };
    Run {
        epochs: vec![pace; state.history.len()],
        seconds: 1.0,
        threads: 1,
        memory: 1,
        store: "s".into(),
    }
}

#[test]
fn an_update_leaves_the_old_store_or_the_new() {
    let root = folder();
    let at = |name: &str| root.path().join(name);
    fs::write(at("old.csv"), ratings(12, 7)).unwrap();
    fs::write(at("new.csv"), "u3,i1,5\nu30,i20,2\n").unwrap();
    let update = || {
        let before = Store::open(at("s"))?;
        let merge = Merge {
            store: &before,
            inputs: vec![Input::from(at("new.csv"))],
            read: ReadOptions::default(),
            titles: None,
            shard_bytes: 2048,
            plan: Plan::within(None),
            force: true,
        };
        let merged = merge.run(&at("s"), &Threads::new(Some(1))?, &())?;
        merged.put_in_place()
    };
    survives(
        root.path(),
        "s",
        || import(&at("old.csv"), &at("s")),
        update,
    );
    let store = Store::open(at("s")).unwrap();
    store.verify(&mut |_| {}).unwrap();
}

#[test]
fn a_split_leaves_the_old_store_or_the_new() {
    let root = folder();
    let at = |name: &str| root.path().join(name);
    fs::write(at("old.csv"), ratings(12, 7)).unwrap();
    fs::write(at("new.csv"), ratings(25, 9)).unwrap();
    import(&at("new.csv"), &at("source")).unwrap();
    let source = Store::open(at("source")).unwrap();
    let split = || {
        let resplit = Resplit {
            store: &source,
            split: Split {
                test: HoldOut::Fraction(0.4),
                ..Split::default()
            },
            fold_in: None,
            shard_bytes: 2048,
            memory: None,
            force: true,
        };
        resplit.run(&at("s"), &Threads::new(Some(1))?, &())?;
        Ok(())
    };
    survives(root.path(), "s", || import(&at("old.csv"), &at("s")), split);
    let store = Store::open(at("s")).unwrap();
    store.verify(&mut |_| {}).unwrap();
}

/// Tiles are only ever made where there are none. Where they cannot be kept in the store, training may have them all the same. As
/// nobody writes them again, a lock of theirs may stay, until the store is replaced.
#[test]
fn tiles_are_in_a_store_whole_or_not_at_all() {
    let root = folder();
    let (text, path) = (root.path().join("in.csv"), root.path().join("s"));
    fs::write(&text, ratings(25, 9)).unwrap();
    let without = || {
        import(&text, &path).unwrap();
        tree(&path)
    };
    let make = || Store::open(&path)?.tiles().map(drop);
    let before = without();
    let (done, seen) = with(root.path(), Fault::None, 0, make);
    done.unwrap();
    assert!(seen.unsynced.is_empty(), "not on disk: {:?}", seen.unsynced);
    let after = tree(&path);
    assert!(before != after && seen.steps > 5, "{} steps", seen.steps);
    let of_tiles = |all: &BTreeMap<PathBuf, Vec<u8>>| {
        let mut all = all.clone();
        all.retain(|file, _| file.starts_with(path.join("tiles")));
        all
    };
    for fault in [Fault::Full, Fault::Short, Fault::Killed, Fault::Torn] {
        for at in 0..seen.steps {
            assert!(without() == before, "{fault:?} at {at}: left behind");
            let (done, _) = with(root.path(), fault, at, make);
            let found = of_tiles(&tree(&path));
            let whole = found == of_tiles(&after);
            assert!(whole || found.is_empty(), "{fault:?} at {at}: a part");
            match done {
                Ok(()) => assert!(whole || fault != Fault::Short, "{fault:?} at {at}"),
                Err(error) => assert!(error.to_string().contains("no space left"), "{error}"),
            }
            make().unwrap();
            assert!(
                of_tiles(&tree(&path)) == of_tiles(&after),
                "{fault:?} at {at}"
            );
            Store::open(&path).unwrap().verify(&mut |_| {}).unwrap();
        }
    }
    println!(
        "{}: {} faults",
        path.join("tiles").display(),
        4 * seen.steps
    );
}

#[test]
fn a_checkpoint_and_a_model_are_the_old_or_the_new() {
    let root = folder();
    let at = |name: &str| root.path().join(name);
    let (store, options, [old, new]) = trained(root.path());
    let checkpoint =
        |state: &State| Checkpoint::save(&at("c"), state, &options, None, &store, &run_of(state));
    survives(root.path(), "c", || checkpoint(&old), || checkpoint(&new));
    Model::verify(&at("c"), &mut |_| {}).unwrap();
    assert_eq!(Checkpoint::open(&at("c")).unwrap().state.moving, old.moving);

    let model = |state: &State| {
        let dir = AtomicDir::create(at("m"), true)?;
        Model::save(dir, state.clone(), &options, None, &store, &run_of(state))
    };
    survives(root.path(), "m", || model(&old), || model(&new));
    Model::verify(&at("m"), &mut |_| {}).unwrap();

    // What a resumed training removes in the end is there whole, or not at all.
    let (_, seen) = with(root.path(), Fault::None, 0, || AtomicDir::remove(at("c")));
    for step in 0..seen.steps {
        checkpoint(&old).unwrap();
        let before = tree(&at("c"));
        let _ = with(root.path(), Fault::Killed, step, || {
            AtomicDir::remove(at("c"))
        });
        assert!(!at("c").exists() || tree(&at("c")) == before);
    }
}

#[test]
fn an_output_is_the_old_or_the_new() {
    let root = folder();
    let out = root.path().join("t.csv");
    let write = |line: &str| {
        let mut file = AtomicFile::create(&out, true)?;
        (0..5)
            .try_for_each(|_| file.write_all(line.as_bytes()))
            .at(&out)?;
        file.commit()
    };
    survives(
        root.path(),
        "t.csv",
        || write("a,b,1\n"),
        || write("c,d,2\n"),
    );
}
