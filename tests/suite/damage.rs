//! Stores and models that are cut short, altered, of a later version or of the other kind: refused by name, never half-read.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::refused::{refused, trained};
use crate::tree::tree;
use lowrank::model::{Checkpoint, Model, Run};
use lowrank::recommend::{Exclude, Recommender, Search, UserTop};
use lowrank::store::Store;
use lowrank::{ErrorKind, Options, Parameters, Result, Threads, Trainer};

/// Runs `test` with one bit of each byte of each file below a folder changed, and with its number. Which bit goes by the
/// place; all eight in turn where `LOWRANK_TORTURE` is set.
fn each_flip(root: &Path, mut test: impl FnMut(usize, &Path)) -> usize {
    let bits = match std::env::var_os("LOWRANK_TORTURE") {
        Some(_) => 8,
        None => 1,
    };
    let mut flips = 0;
    for (name, mut bytes) in tree(root) {
        let path = root.join(name);
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        for at in 0..bytes.len() {
            for bit in at..at + bits {
                bytes[at] ^= 1 << (bit % 8);
                file.write_all_at(&bytes[at..=at], at as u64).unwrap();
                test(flips, &path);
                bytes[at] ^= 1 << (bit % 8);
                flips += 1;
            }
            file.write_all_at(&bytes[at..=at], at as u64).unwrap();
        }
    }
    println!("{}: {flips} bits flipped", root.display());
    flips
}

/// What is made of a store and a model.
fn made(store: &Path, model: &Path, threads: &Threads) -> Result<(Parameters, Vec<UserTop>)> {
    let store = Store::open(store)?;
    let options = Options {
        solver: "sgd".into(),
        rank: 2,
        epochs: 1,
        ..Options::default()
    };
    let trained = Trainer::new(&store, options.resolved()).run(threads)?;
    let model = Model::open(model)?;
    let recommender = Recommender::new(&model, Some(&store), 3, Exclude::All, Search::default())?;
    let mut tops = Vec::new();
    threads.run(|| {
        recommender.recommend(0..recommender.users() as u32, Ok, |some| {
            tops.extend(some);
            Ok(())
        })
    })?;
    Ok((trained.into_parameters(), tops))
}

/// Every one is found by a check, and by use unless it changes nothing there.
#[test]
fn a_flipped_bit_is_found_and_never_used() {
    let program = trained();
    let (store, model, checkpoint) = (program.path("s"), program.path("m"), program.path("c"));
    let plain = program.path("p");
    program.done("import good.csv --out p --encoding plain --times --test-fraction 0.2");
    // Tiles are made when they are first needed.
    for store in ["s", "p"] {
        program.done(&format!(
            "train {store} --solver sgd --epochs 1 --out t --force"
        ));
        assert!(program.path(store).join("tiles").exists());
    }
    checkpoint_of(&store, &checkpoint);
    let threads = Threads::new(Some(1)).unwrap();
    let whole = [&store, &plain].map(|store| made(store, &model, &threads).unwrap());
    let whole_state = Checkpoint::open(&checkpoint).unwrap().state;
    let damaged = |checked: Result<()>, file: &Path| {
        let error = checked.expect_err("a flipped bit");
        assert_eq!(error.kind(), ErrorKind::Damaged, "{file:?}: {error}");
        assert_eq!(error.file(), Some(file), "{error}");
    };
    let unused = |number: usize, store: &Path, file: &Path| {
        // Using is slower than checking: a part of the bytes will do.
        if number.is_multiple_of(7)
            && let Ok(made) = made(store, &model, &threads)
        {
            assert!(whole.contains(&made), "{file:?}: damage was taken for data");
        }
    };
    let of_stores = [&store, &plain].map(|store| {
        each_flip(store, |number, file| {
            damaged(
                Store::open(store).and_then(|store| store.verify(&mut |_| {}).map(drop)),
                file,
            );
            unused(number, store, file);
        })
    });
    let of_model = each_flip(&model, |number, file| {
        damaged(Model::verify(&model, &mut |_| {}).map(drop), file);
        unused(number, &store, file);
    });
    // Weights between items, in place of factors.
    for solver in ["item-knn", "ease"] {
        program.done(&format!("train s --solver {solver} --out w --force"));
        let model = program.path("w");
        let flips = each_flip(&model, |_, file| {
            damaged(Model::verify(&model, &mut |_| {}).map(drop), file);
        });
        assert!(flips > 500, "{solver}");
    }
    let of_checkpoint = each_flip(&checkpoint, |_, file| {
        damaged(Model::verify(&checkpoint, &mut |_| {}).map(drop), file);
        if let Ok(opened) = Checkpoint::open(&checkpoint) {
            assert!(
                opened.state == whole_state,
                "{file:?}: damage was taken for data"
            );
        }
    });
    assert!(of_stores.iter().all(|&flips| flips > 5_000));
    assert!(of_model > 3_000 && of_checkpoint > 3_000);
}

/// A checkpoint with all that one may have: carried factors, and those of a better epoch.
fn checkpoint_of(store: &Path, path: &Path) {
    let store = Store::open(store).unwrap();
    let options = Options {
        solver: "sgd".into(),
        rank: 2,
        epochs: 2,
        ..Options::default()
    }
    .resolved();
    let mut state = Trainer::new(&store, options.clone())
        .run(&Threads::new(Some(1)).unwrap())
        .unwrap();
    state.best = Some(state.moving.parameters.clone());
    let run = Run {
        epochs: state.paces.clone(),
        seconds: 0.5,
        threads: 1,
        memory: 1 << 30,
        store: "s".into(),
    };
    Checkpoint::save(path, &state, &options, None, &store, &run).unwrap();
    for name in ["carried_1.factors", "best_users.factors"] {
        assert!(path.join(name).exists());
    }
}

#[test]
fn a_truncated_file_is_refused_by_name() {
    let program = trained();
    for (folder, command) in [("s", "train s --out t"), ("m", "recommend m s --out t.csv")] {
        for (name, bytes) in tree(&program.path(folder)) {
            if name == "run.json" {
                continue;
            }
            let file = format!("{folder}/{name}");
            for length in [bytes.len() - 1, bytes.len() / 2, 0] {
                program.write(&file, &bytes[..length]);
                refused(&program, command, 1, &[&file]);
            }
            fs::remove_file(program.path(&file)).unwrap();
            refused(&program, command, 1, &[folder]);
            program.write(&file, &bytes);
        }
    }
}

#[test]
fn a_file_of_a_later_version_is_told_from_a_damaged_one() {
    let program = trained();
    for (file, command) in [
        ("s/manifest", "train s --out t"),
        ("s/by_item/00000.shard", "train s --out t"),
        ("s/items.dict", "recommend m s --out t.csv"),
        ("m/model", "recommend m s --out t.csv"),
        ("m/users.factors", "evaluate m s"),
        ("m/items.factors", "verify m"),
        ("s/by_user/00000.shard", "verify s"),
    ] {
        let bytes = fs::read(program.path(file)).unwrap();
        let mut later = bytes.clone();
        later[8] += 1;
        let crc = crc32fast::hash(&later[..60]);
        later[60..64].copy_from_slice(&crc.to_le_bytes());
        program.write(file, &later);
        refused(
            &program,
            command,
            1,
            &[file, "later version of lowrank", "upgrade"],
        );
        program.write(file, &bytes);
    }
}

#[test]
fn a_store_is_no_model_and_a_model_no_store() {
    let program = trained();
    refused(
        &program,
        "train m --out t",
        1,
        &["m: this is a model, not a store", "lowrank import"],
    );
    for arguments in [
        "similar s --item i1",
        "predict s --user u1 --item i1",
        "export s --users t.csv",
    ] {
        refused(&program, arguments, 1, &["s: this is a store, not a model"]);
    }
    for arguments in ["inspect good.csv", "verify good.csv"] {
        refused(
            &program,
            arguments,
            1,
            &["good.csv: this is neither a store nor a model"],
        );
    }
    refused(
        &program,
        "evaluate s s",
        1,
        &["s: this is a store, not a model", "lowrank train"],
    );
    refused(
        &program,
        "evaluate m m",
        1,
        &["m: this is a model, not a store"],
    );
    refused(
        &program,
        "recommend s s --out t.csv",
        1,
        &["s: this is a store, not a model"],
    );
    refused(
        &program,
        "recommend m m --out t.csv",
        1,
        &["m: this is a model, not a store"],
    );
    refused(
        &program,
        "train good.csv --out t",
        1,
        &["good.csv: this is not a store"],
    );
    refused(
        &program,
        "recommend good.csv s --out t.csv",
        1,
        &["good.csv: this is not a model"],
    );
    refused(&program, "import s --out t", 1, &["s: ", "irectory"]);
    refused(
        &program,
        "import s/manifest --out t",
        1,
        &["s/manifest: ", "not text"],
    );
}
