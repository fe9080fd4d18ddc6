//! File systems that are too small: refused before the work where that can be told, by their name where it cannot; and left
//! as they were.

use std::fs;
use std::process::Command;

use crate::program::Program;
use crate::refused::{ratings, said};

/// Runs a command that writes to `small/`, a file system of so many KiB, and gives what it said: it must fail, and leave
/// nothing there. Nothing where none can be mounted.
fn failed(program: &Program, arguments: &str, kib: u32) -> Option<String> {
    let script = format!(
        "mount -t tmpfs -o size={kib}k none small || exit 77
        \"$0\" {arguments} --quiet
        echo $? $(ls -A small)"
    );
    fs::create_dir_all(program.path("small")).unwrap();
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", &script])
        .arg(env!("CARGO_BIN_EXE_lowrank"))
        .current_dir(program.path(""))
        .output();
    match output {
        Ok(output) if output.status.success() => {
            let said = said(&output);
            assert_eq!(
                String::from_utf8_lossy(&output.stdout),
                "1\n",
                "{arguments}: {said}"
            );
            assert_eq!(said.lines().count(), 1, "{arguments}: {said}");
            Some(said)
        }
        _ => {
            eprintln!("skipped: a file system cannot be mounted here");
            None
        }
    }
}

#[test]
fn a_full_file_system_is_called_by_its_name() {
    let program = Program::new();
    program.write("big.csv", ratings(600, 200));
    if let Some(said) = failed(&program, "import big.csv --out small/s", 64) {
        let expected = "no space left on the device; free some space";
        assert!(said.contains(expected), "{said}");
    }
}

/// Ratings that a small budget has no room for are spilled beside the store, which a disk may have no room for, either.
#[test]
fn an_import_is_refused_when_it_is_clear_that_the_disk_is_too_small() {
    let program = Program::new();
    program.write("big.csv", ratings(3_000, 400));
    let import = "import big.csv --out small/s --threads 1";
    let refused = program.run(&format!("{import} --memory 1MiB"));
    let advice = said(&refused);
    let (_, least) = advice.trim_end().split_once("--memory ").unwrap();
    let least = least.strip_suffix(" would do").unwrap();
    for (text, about) in [
        ("big.csv", "importing about "),
        ("- < big.csv", "importing more than "),
    ] {
        let import = import.replace("big.csv", text);
        if let Some(said) = failed(&program, &format!("{import} --memory {least}"), 7000) {
            for words in [about, "of disk (on the way", "are free", "make room there"] {
                assert!(said.contains(words), "{said}");
            }
        }
    }
}

/// What a command will write is known before it works, and so is whether there is room for it.
#[test]
fn what_the_disk_has_no_room_for_is_refused_before_the_work() {
    let program = Program::new();
    program.write("big.csv", ratings(600, 200));
    program.write("new.csv", "u0,i0,1\n");
    program.done("import big.csv --out s");
    let train = "train s --out small/m --rank 64 --epochs 500000";
    for (arguments, kib, words) in [
        (train.to_owned(), 100, "training takes"),
        (
            format!("{train} --on all"),
            40,
            "another store of these ratings",
        ),
        (
            format!("{train} --checkpoint-every 1"),
            300,
            "a checkpoint ",
        ),
        (
            "split s --out small/t --test-fraction 0.1".to_owned(),
            40,
            "another store",
        ),
        (
            "update s new.csv --columns user,item,rating --out small/t".to_owned(),
            40,
            "what is not shared",
        ),
    ] {
        if let Some(said) = failed(&program, &arguments, kib) {
            for words in [words, "are free", "make room there"] {
                assert!(said.contains(words), "{arguments}: {said}");
            }
        }
    }
}

/// Factors that do not fit into the budget lie beside the model, in files that are as large as they will be from the start.
#[test]
fn a_training_is_refused_before_it_starts_if_its_factors_fit_nowhere() {
    let program = Program::new();
    let row = |user: u32| format!("{user},{},3\n", user * 7 % 30_000);
    let text: String = (0..40_000).map(row).collect();
    program.write("wide.csv", text);
    program.done("import wide.csv --out s --shard-size 64KiB");
    let train = "train s --out small/m --rank 64 --epochs 1 --threads 1";
    let refused = program.run(&format!("{train} --memory 1MiB"));
    let advice = said(&refused);
    let (_, least) = advice.split_once("--memory ").unwrap();
    let (least, _) = least.split_once(' ').unwrap();
    if let Some(said) = failed(&program, &format!("{train} --memory {least}"), 1000) {
        for words in [
            "of disk (",
            "spilled factors",
            "are free",
            "make room there",
        ] {
            assert!(said.contains(words), "{said}");
        }
    }
}
