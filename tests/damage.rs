//! Stores and models that are cut short, altered, of a later version or of the other kind: refused by name, never half-read.

mod program;
mod refused;
mod tree;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use lowrank::ErrorKind;
use lowrank::model::Model;
use lowrank::store::Store;
use program::Program;
use refused::{refused, said, trained};
use tree::tree;

/// Runs `test` with one byte of a file changed, in place.
fn with_byte(file: &Path, at: u64, test: impl FnOnce()) {
    let open = fs::OpenOptions::new().read(true).write(true).open(file);
    let (file, mut kept) = (open.unwrap(), [0]);
    file.read_exact_at(&mut kept, at).unwrap();
    file.write_all_at(&[kept[0] ^ (1 << (at % 8))], at).unwrap();
    test();
    file.write_all_at(&kept, at).unwrap();
}

/// Runs a command that reads damaged files. It fails with one line that names one of them, or does what it did before.
fn fails_or_does_the_same(program: &Program, arguments: &str, out: &str, whole: &[u8]) {
    let output = program.run(&format!("{arguments} --quiet"));
    let made = program.path(out);
    match output.status.code() {
        Some(0) => {
            let bytes = fs::read(&made)
                .or_else(|_| fs::read(made.join("users.factors")))
                .unwrap();
            assert!(bytes == whole, "lowrank {arguments} took damage for data");
            if made.is_dir() {
                fs::remove_dir_all(made).unwrap();
            } else {
                fs::remove_file(made).unwrap();
            }
        }
        Some(1) => {
            let said = said(&output);
            assert_eq!(said.lines().count(), 1, "lowrank {arguments}: {said}");
            assert!(!made.exists(), "lowrank {arguments} left something behind");
        }
        _ => panic!("lowrank {arguments}: {:?} {}", output.status, said(&output)),
    }
}

#[test]
fn a_flipped_byte_is_found_and_never_used() {
    let program = trained();
    program.done("recommend m s --top 3 --out t.csv");
    let recommended = fs::read(program.path("t.csv")).unwrap();
    fs::remove_file(program.path("t.csv")).unwrap();
    let factors = fs::read(program.path("m/users.factors")).unwrap();
    let (mut store_flips, mut model_flips) = (0, 0);
    for (name, bytes) in tree(&program.path("s")) {
        let file = program.path("s").join(&name);
        for at in (0..bytes.len() as u64).step_by(97) {
            with_byte(&file, at, || {
                let verified = Store::open(program.path("s")).and_then(|s| s.verify(&mut |_| {}));
                let error = verified.unwrap_err();
                assert_eq!(
                    error.kind(),
                    ErrorKind::Damaged,
                    "{file:?} at {at}: {error}"
                );
                assert_eq!(error.file(), Some(file.as_path()));
                if store_flips % 3 == 0 {
                    refused(&program, "verify s", 1, &[name.as_str()]);
                    fails_or_does_the_same(
                        &program,
                        "train s --out t --rank 3 --epochs 3",
                        "t",
                        &factors,
                    );
                    fails_or_does_the_same(
                        &program,
                        "recommend m s --top 3 --out t.csv",
                        "t.csv",
                        &recommended,
                    );
                }
            });
            store_flips += 1;
        }
    }
    for (name, bytes) in tree(&program.path("m")) {
        if name == "run.json" {
            continue;
        }
        let file = program.path("m").join(&name);
        for at in (0..bytes.len() as u64).step_by(97) {
            with_byte(&file, at, || {
                let error = Model::verify(&program.path("m"), &mut |_| {}).unwrap_err();
                assert_eq!(
                    error.kind(),
                    ErrorKind::Damaged,
                    "{file:?} at {at}: {error}"
                );
                fails_or_does_the_same(
                    &program,
                    "recommend m s --top 3 --out t.csv",
                    "t.csv",
                    &recommended,
                );
            });
            model_flips += 1;
        }
    }
    assert!(
        store_flips > 60 && model_flips > 20,
        "{store_flips} {model_flips}"
    );
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
