//! What exists is kept, or replaced in one step; what cannot be finished, on a full disk or killed, leaves no trace.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::program::Program;
use crate::refused::{ratings, refused, said, trained};
use crate::tree::tree;
use lowrank::matrix::Ratings;
use lowrank::store::{AtomicDir, AtomicFile, Store};

#[test]
fn what_exists_is_kept_without_force_and_replaced_in_one_step_with_it() {
    let program = trained();
    let everything = "recommend m s --top 3 --out t.csv";
    program.done(everything);
    program.done("train s --out m2 --rank 3 --epochs 3 --history h.csv");
    for arguments in [
        "import good.csv --out s",
        "import good.csv --out good.csv",
        "train s --out m",
        "train s --out m3 --history h.csv",
        "export m --users t.csv",
        "predict m --pairs h.csv --out t.csv",
        "generate --out good.csv",
        everything,
    ] {
        refused(&program, arguments, 1, &["exists", "--force"]);
    }
    // What is not ours is not replaced even so.
    fs::create_dir(program.path("theirs")).unwrap();
    program.write("theirs/letter", "dear");
    for arguments in [
        "import good.csv --out theirs --force",
        "train s --out theirs --force",
    ] {
        refused(&program, arguments, 1, &["theirs"]);
    }
    program.write("other.csv", ratings(40, 15));
    program.done("import other.csv --out fresh");
    program.done("import other.csv --out s --force");
    assert!(tree(&program.path("s")) == tree(&program.path("fresh")));
    program.done("train fresh --out fresh-m --rank 2 --epochs 2");
    program.done("train s --out m --rank 2 --epochs 2 --force");
    let model = |name: &str| {
        let mut files = tree(&program.path(name));
        files.remove("run.json");
        files
    };
    assert!(model("m") == model("fresh-m"));
    program.done("recommend m s --top 3 --out t.csv --force");
    program.done("recommend m s --top 3 --out fresh.csv");
    assert_eq!(
        fs::read(program.path("t.csv")).unwrap(),
        fs::read(program.path("fresh.csv")).unwrap()
    );
    let temporary = tree(&program.path(""))
        .into_keys()
        .find(|name| name.contains("tmp"));
    assert_eq!(temporary, None);
}

#[test]
fn an_output_that_is_read_is_refused_even_with_force() {
    let program = trained();
    program.done("export m --users u.csv --items i.csv");
    program.done("train s --out m2 --rank 3 --epochs 2 --history h.csv");
    program.write("pairs.csv", "user,item\nu1,i1\n");
    program.write("users.csv", "u1\n");
    for (link, to) in [("same", "s"), ("h.svg", "h.csv")] {
        std::os::unix::fs::symlink(to, program.path(link)).unwrap();
    }
    for arguments in [
        "train s --out s --force",
        "train same --out s --rank 2 --force",
        "train s --out m3 --init-users u.csv --init-items i.csv --history i.csv --force",
        "predict m --pairs pairs.csv --out ./pairs.csv --force",
        "recommend m s --users users.csv --out users.csv --force",
        "plot h.csv --out h.svg --force",
        "update s good.csv --out m --model m --model-out m3 --force",
        "update s good.csv --out n --model m --model-out s --force",
        "update s good.csv --out n --touched good.csv --force",
    ] {
        refused(
            &program,
            arguments,
            2,
            &["which is read", "name another output"],
        );
    }
}

/// This process is the first, and does not hurry.
#[test]
fn a_second_writer_is_told_of_the_first_and_readers_do_not_mind() {
    let program = trained();
    program.done("recommend m s --top 3 --out t.csv");
    program.done("export m --users u.csv");
    let first = format!("process {} is writing to it", std::process::id());
    for (target, arguments) in [
        ("s", "import good.csv --out s --force"),
        ("s", "split s --out s --test-fraction 0.1 --force"),
        ("n", "import good.csv --out n"),
        ("n", "split s --out n --test-fraction 0.1"),
        ("m", "train s --out m --rank 2 --epochs 1 --force"),
        ("m", "train s --out m --rank 2 --epochs 1 --force --resume"),
        ("n", "train s --out n --rank 2 --epochs 1"),
        ("t.csv", "recommend m s --top 3 --out t.csv --force"),
        ("n.csv", "recommend m s --top 3 --out n.csv"),
        ("n.csv", "similar m --all --out n.csv"),
        ("u.csv", "export m --users u.csv --force"),
        ("n.csv", "predict m --pairs good.csv --out n.csv"),
        (
            "n.csv",
            "generate --users 9 --items 9 --ratings 40 --out n.csv",
        ),
        ("n.json", "tune s --out n.json --trials 1"),
    ] {
        let path = program.path(target);
        let claim = match path.is_dir() || path.extension().is_none() {
            true => Err(AtomicDir::create(&path, true).unwrap()),
            false => Ok(AtomicFile::create(&path, true).unwrap()),
        };
        refused(&program, arguments, 1, &[target, &first, "wait"]);
        for reader in [
            "verify s",
            "verify m",
            "inspect s",
            "evaluate m s",
            "recommend m s --users u1",
        ] {
            program.done(reader);
        }
        drop(claim);
    }
    let left = tree(&program.path("")).into_keys();
    assert_eq!(left.filter(|name| name.starts_with('.')).count(), 0);
    program.done("recommend m s --top 3 --out t.csv --force");
}

#[test]
fn a_reader_sees_the_old_store_or_the_new() {
    let program = Program::new();
    program.write("a.csv", ratings(20, 9));
    program.write("b.csv", ratings(50, 12));
    program.done("import a.csv --out s");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut old, mut new) = (0, 0);
            while !over.load(Ordering::Relaxed) {
                let store = Store::open(program.path("s")).expect("a whole store");
                store.verify(&mut |_| {}).expect("a store all of one piece");
                match store.shape().users {
                    20 => old += 1,
                    50 => new += 1,
                    other => panic!("{other} users"),
                }
            }
            (old, new)
        });
        for _ in 0..10 {
            program.done("import b.csv --out s --force");
            program.done("import a.csv --out s --force");
        }
        over.store(true, Ordering::Relaxed);
        let (old, new) = reader.join().unwrap();
        assert!(old > 0 && new > 0, "{old} {new}");
    });
}

/// Files may not grow beyond a limit: every write beyond it fails, as on a full disk.
#[test]
fn a_disk_that_is_full_leaves_what_was_there() {
    let program = Program::new();
    program.write("big.csv", ratings(600, 200));
    program.done("import big.csv --out s");
    program.done("train s --out m --rank 16 --epochs 1");
    program.done("recommend m s --out t.csv");
    for arguments in [
        "import big.csv --out n",
        "import big.csv --out s --force",
        "train s --out n --rank 16 --epochs 1",
        "train s --out m --rank 16 --epochs 1 --force",
        "recommend m s --out n.csv",
        "export m --users n.csv",
        "export m --users n.csv --items n.npy",
        "predict m --pairs big.csv --out n.csv",
        "generate --out n.csv",
        "recommend m s --out t.csv --force",
    ] {
        let before = tree(&program.path(""));
        // Sixteen blocks of 512 or 1024 bytes. A signal that is ignored stays so in the program that follows.
        let script = format!("trap '' XFSZ; ulimit -f 16; exec \"$0\" {arguments} --quiet");
        let output = Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_lowrank")])
            .current_dir(program.path(""))
            .output()
            .unwrap();
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments}: {said}");
        assert!(
            said.contains("too large") && said.lines().count() == 1,
            "{arguments}: {said}"
        );
        assert!(
            tree(&program.path("")) == before,
            "{arguments} left something behind"
        );
    }
}

/// A process that is killed leaves what was there, and the next one clears away what it had begun.
#[test]
fn a_killed_import_leaves_the_old_store() {
    let program = Program::new();
    program.write("a.csv", ratings(20, 9));
    program.write("b.csv", ratings(3_000, 400));
    program.done("import a.csv --out s");
    let before = tree(&program.path("s"));
    let begun = || {
        tree(&program.path(""))
            .into_keys()
            .any(|name| name.contains(".tmp"))
    };
    let mut child = program
        .command("import b.csv --out s --force --quiet")
        .spawn()
        .unwrap();
    let started = Instant::now();
    while !begun() {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "nothing was begun"
        );
        assert!(
            child.try_wait().unwrap().is_none(),
            "over before it was killed"
        );
        sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    assert!(tree(&program.path("s")) == before && begun());
    program.done("import a.csv --out s --force");
    assert!(tree(&program.path("s")) == before && !begun());
}
