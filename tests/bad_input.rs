//! What the program does with input that it cannot use: status, message, and nothing left half-written.

mod program;
mod tree;

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};

use lowrank::ErrorKind;
use lowrank::matrix::Ratings;
use lowrank::model::Model;
use lowrank::store::Store;
use program::Program;
use serde_json::Value;
use tree::tree;

/// Some ratings with a header, by `users` users of `items` items; about a third of all pairs, and user 0 has all.
fn ratings(users: usize, items: usize) -> String {
    let mut text = "user,item,rating,time\n".to_owned();
    for user in 0..users {
        for item in 0..items {
            let hash = (user * 7919 + item * 104_729) % 97;
            if user == 0 || hash % 3 == 0 {
                let stars = 0.5 * (1 + hash % 10) as f64;
                text += &format!("u{user},i{item},{stars},{}\n", 1_000_000 + hash * 1000);
            }
        }
    }
    text
}

/// A folder with ratings, a store of them and a model.
fn trained() -> Program {
    let program = Program::new();
    program.write("good.csv", ratings(30, 12));
    program.done("import good.csv --out s --test-fraction 0.2 --validation-fraction 0.1");
    program.done("train s --out m --rank 3 --epochs 3");
    program
}

/// What a run said on standard error.
fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Expects that a run fails with this status and one line that has all these words, and that it changes no file.
fn refused(program: &Program, arguments: &str, status: i32, words: &[&str]) -> String {
    let before = tree(&program.path(""));
    let output = program.run(&format!("{arguments} --quiet"));
    let said = said(&output);
    assert_eq!(
        output.status.code(),
        Some(status),
        "lowrank {arguments}: {said}"
    );
    assert!(output.stdout.is_empty(), "lowrank {arguments}");
    for word in words {
        assert!(
            said.contains(word),
            "lowrank {arguments}: {said:?} without {word:?}"
        );
    }
    // A line of ours; what the parser of arguments says is its own.
    if said.lines().count() == 1 {
        assert!(
            said.starts_with("error: ") && !said.trim_end().ends_with('.'),
            "{said}"
        );
    } else {
        assert!(
            status == 2 && said.contains("For more information, try '--help'"),
            "{said}"
        );
    }
    assert!(
        tree(&program.path("")) == before,
        "lowrank {arguments} left something behind"
    );
    said
}

#[test]
fn what_is_missing_is_named() {
    let program = trained();
    let missing = "no such file or directory";
    refused(
        &program,
        "import none.csv --out t",
        1,
        &["none.csv", missing],
    );
    refused(
        &program,
        "import good.csv none.csv --out t",
        1,
        &["none.csv", missing],
    );
    refused(
        &program,
        "import good.csv --titles none.csv --out t",
        1,
        &["none.csv", missing],
    );
    refused(
        &program,
        "import good.csv --test none.csv --out t",
        1,
        &["none.csv", missing],
    );
    refused(
        &program,
        "import good.csv --out none/t",
        1,
        &["none", missing],
    );
    refused(&program, "train none --out t", 1, &["none", missing]);
    refused(&program, "train s --out none/t", 1, &["none", missing]);
    refused(&program, "evaluate none s", 1, &["none", missing]);
    refused(&program, "evaluate m none", 1, &["none", missing]);
    refused(
        &program,
        "recommend none s --out t.csv",
        1,
        &["none", missing],
    );
    refused(
        &program,
        "recommend m none --out t.csv",
        1,
        &["none", missing],
    );
    refused(
        &program,
        "recommend m s --out none/t.csv",
        1,
        &["none", missing],
    );
}

#[test]
fn input_without_ratings_is_refused() {
    let program = Program::new();
    for (name, text) in [
        ("empty.csv", ""),
        ("blank.csv", " \n\n\t\n"),
        ("mark.csv", "\u{feff}"),
        ("header.csv", "user,item,rating\n"),
    ] {
        program.write(name, text);
        refused(
            &program,
            &format!("import {name} --out s"),
            1,
            &[name, "no ratings in it"],
        );
    }
    program.write("binary.csv", b"user,item\n\0,\x01\n");
    refused(
        &program,
        "import binary.csv --out s",
        1,
        &["binary.csv", "not text"],
    );
    program.write(
        "prose.txt",
        "It was a dark and stormy night.\nThe rain fell.\n",
    );
    refused(
        &program,
        "import prose.txt --out s",
        1,
        &["prose.txt", "--format"],
    );
    program.write("one.csv", "user,item,rating\nu,i,3\n");
    refused(
        &program,
        "import one.csv --out s --test one.csv --validation-fraction 2",
        2,
        &["validation fraction"],
    );
}

#[test]
fn a_bad_line_is_named_with_its_reason() {
    let program = Program::new();
    for (line, reason) in [
        ("u1,i2", "only 2 columns of 3"),
        ("u1", "only 1 column of 3"),
        ("u1,i2,good", "the rating \"good\" is not a number"),
        ("u1,i2,", "the rating is empty"),
        ("u1,i2,NaN", "the rating \"NaN\" is not finite"),
        ("u1,i2,inf", "the rating \"inf\" is not finite"),
        ("u1,i2,-Infinity", "the rating \"-Infinity\" is not finite"),
        ("u1,i2,1e39", "the rating \"1e39\" is not finite"),
        (",i2,3", "the user's id is empty"),
        ("u1, ,3", "the item's id is empty"),
        ("\"u1,i2,3", "quote"),
    ] {
        program.write(
            "bad.csv",
            format!("user,item,rating\nu1,i1,3\n{line}\nu2,i1,4\n"),
        );
        let place = format!("bad.csv:3: {reason}");
        let place = if reason == "quote" {
            "bad.csv:3: "
        } else {
            &place
        };
        refused(&program, "import bad.csv --out s", 1, &[place, reason]);
        let counted = program.done("import bad.csv --out s --skip-bad-lines --force");
        assert_eq!(
            (&counted["ratings"], &counted["bad_lines"]),
            (&2.into(), &1.into()),
            "{line}"
        );
        fs::remove_dir_all(program.path("s")).unwrap();
    }
    program.write("late.csv", "u1\ti1\t3\tnoon\n");
    refused(
        &program,
        "import late.csv --columns user,item,rating,time --out s",
        1,
        &["late.csv:1: ", "\"noon\""],
    );
    program.write("twice.csv", "user,item,rating\na,b,3\nc,b,3\na,b,4\n");
    refused(
        &program,
        "import twice.csv --out s --duplicates error",
        1,
        &["user a has rated item b more than once"],
    );
}

/// Text as other programs write it gives the same store as our own.
#[test]
fn harmless_differences_of_text_make_none_in_the_store() {
    let program = Program::new();
    let plain = ratings(20, 9);
    program.write("plain.csv", &plain);
    program.done("import plain.csv --out s");
    let expected = tree(&program.path("s"));
    let quoted: String = plain
        .lines()
        .map(|line| format!("\"{}\"\n", line.replace(',', "\",\"")))
        .collect();
    for (what, text) in [
        ("crlf", plain.replace('\n', "\r\n")),
        ("no-last-newline", plain.trim_end().to_owned()),
        ("byte-order-mark", format!("\u{feff}{plain}")),
        (
            "all-three",
            format!("\u{feff}{}", plain.replace('\n', "\r\n").trim_end()),
        ),
        ("quoted", quoted),
    ] {
        program.write(what, text);
        program.done(&format!("import {what} --out of-{what}"));
        assert!(
            tree(&program.path(&format!("of-{what}"))) == expected,
            "{what}"
        );
    }
    let (_, headless) = plain.split_once('\n').unwrap();
    program.write("headless", headless);
    program.done("import headless --out of-headless");
    // The manifest counts lines.
    let mut found = tree(&program.path("of-headless"));
    assert_ne!(
        found.insert("manifest".into(), expected["manifest"].clone()),
        None
    );
    assert!(found == expected);
}

#[test]
fn a_quoted_comma_belongs_to_the_id() {
    let program = Program::new();
    program.write(
        "q.csv",
        "user,item,rating\n\"Doe, Jane\",\"a \"\"b\"\"\",3\n\"Doe, Jane\",c,4\n",
    );
    program.done("import q.csv --out s");
    let store = Store::open(program.path("s")).unwrap();
    assert_eq!(store.users().id(0).unwrap(), "Doe, Jane");
    assert!(store.items().lookup("a \"b\"").unwrap().is_some());
}

#[test]
fn an_archive_without_ratings_or_cut_short_is_refused() {
    let program = Program::new();
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("ml/movies.csv", zip::write::SimpleFileOptions::default())
        .unwrap();
    zip.write_all(b"movieId,title\n1,Heat\n").unwrap();
    program.write("titles.zip", zip.finish().unwrap().into_inner());
    refused(
        &program,
        "import titles.zip --out s",
        1,
        &["titles.zip", "ratings.csv"],
    );

    let text = ratings(20, 9);
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("ml/ratings.csv", zip::write::SimpleFileOptions::default())
        .unwrap();
    zip.write_all(text.as_bytes()).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    for (name, whole) in [
        ("ratings.zip", zip.finish().unwrap().into_inner()),
        ("ratings.gz", gzip.finish().unwrap()),
        ("ratings.zst", zstd::encode_all(text.as_bytes(), 1).unwrap()),
    ] {
        program.write(name, &whole);
        program.done(&format!("import {name} --out of-{name}"));
        for length in [whole.len() - 1, whole.len() / 2, 20] {
            program.write(name, &whole[..length]);
            refused(&program, &format!("import {name} --out s"), 1, &[name]);
        }
    }
}

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
        let file = program.path("s").join(name);
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
                if name.ends_with(".factors") || name == "model" {
                    let error = Model::open(&program.path("m")).unwrap_err();
                    assert_eq!(
                        error.kind(),
                        ErrorKind::Damaged,
                        "{file:?} at {at}: {error}"
                    );
                }
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

#[test]
fn a_budget_too_small_names_the_one_that_would_do() {
    let program = trained();
    for (command, out) in [
        ("import good.csv --out t", "t"),
        ("train s --out t --epochs 1 --rank 64", "t"),
        ("recommend m s --out t.csv", "t.csv"),
    ] {
        let said = refused(
            &program,
            &format!("{command} --memory 1MiB"),
            1,
            &["the budget is 1 MiB"],
        );
        let (_, enough) = said.split_once("--memory ").unwrap();
        let (enough, rest) = enough.split_once("MiB").unwrap();
        assert_eq!(rest.trim(), "would do");
        let enough: u32 = enough.parse().unwrap();
        refused(
            &program,
            &format!("{command} --memory {}MiB", enough - 1),
            1,
            &["--memory"],
        );
        program.done(&format!("{command} --memory {enough}MiB"));
        let made = program.path(out);
        if made.is_dir() {
            fs::remove_dir_all(made).unwrap();
        } else {
            fs::remove_file(made).unwrap();
        }
    }
}

#[test]
fn options_that_make_no_sense_are_usage_errors() {
    let program = trained();
    for (arguments, words) in [
        ("train s --out t --rank 0", "--rank"),
        ("train s --out t --rank 4097", "--rank"),
        ("train s --out t --rank x", "--rank"),
        ("train s --out t --regularization=-1", "regularization"),
        ("train s --out t --regularization nan", "regularization"),
        ("train s --out t --solver magic", "--solver"),
        (
            "train s --out t --solver gradient --learning-rate 0",
            "learning rate",
        ),
        ("train s --out t --learning-rate 0.1", "learning"),
        ("train s --out t --threads 0", "--threads"),
        ("train s --out t --memory 0", "--memory"),
        ("train s --out t --early-stop 0", "--early-stop"),
        ("train s", "--out"),
        ("import --out t", "INPUT"),
        ("import good.csv --out t --test-fraction 1", "test fraction"),
        (
            "import good.csv --out t --test-fraction 0.1 --test-last 1",
            "--test-last",
        ),
        ("import good.csv --out t --columns user,rating", "item"),
        ("import good.csv --out t --format magic", "--format"),
        ("recommend m s --top 0 --out t.csv", "--top"),
        ("recommend m s", "--out"),
        ("recommend m --out t.csv", "--exclude none"),
        ("evaluate m s --metrics magic", "--metrics"),
        ("magic", "magic"),
    ] {
        refused(&program, arguments, 2, &[words]);
    }
    // The store has no third part: which is a matter of its import.
    program.done("import good.csv --out plain");
    refused(
        &program,
        "train plain --out t --early-stop 2",
        2,
        &["--validation-fraction"],
    );
    refused(
        &program,
        "evaluate m plain",
        2,
        &["plain: the store has no test part", "--on"],
    );
}

#[test]
fn an_unknown_id_is_named() {
    let program = trained();
    refused(
        &program,
        "recommend m s --users u1,nobody",
        1,
        &["no user \"nobody\""],
    );
    program.write("list", "u1\n\nnobody\n");
    refused(
        &program,
        "recommend m s --users list --out t.csv",
        1,
        &["list:3: ", "no user \"nobody\""],
    );
}

#[test]
fn a_user_who_has_seen_everything_is_counted_and_gets_nothing() {
    let program = trained();
    let outcome = program.done("recommend m s --out t.csv");
    assert_eq!(outcome["users_without"], 1);
    let text = fs::read_to_string(program.path("t.csv")).unwrap();
    assert!(text.contains("\nu1,") && !text.contains("\nu0,"));
    let alone = program.done("recommend m s --users u0");
    assert_eq!(alone[0]["items"], Value::Array(Vec::new()));
    let output = program.run("recommend m s --users u0");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "user u0 has rated every item\n"
    );
}

#[test]
fn a_training_that_runs_away_leaves_nothing() {
    let program = trained();
    let away = "train s --out t --solver gradient --learning-rate 10 --history h.csv";
    let output = program.run(&format!("{away} --quiet"));
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("diverged in epoch") && said(&output).contains("--learning-rate")
    );
    assert!(!program.path("t").exists());
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

/// The same on a file system that is really full, where this may mount one.
#[test]
fn a_full_file_system_is_called_by_its_name() {
    let program = Program::new();
    program.write("big.csv", ratings(600, 200));
    fs::create_dir(program.path("full")).unwrap();
    let script = "mount -t tmpfs -o size=256k none full || exit 77
        \"$0\" import big.csv --out full/s --quiet
        echo $? $(ls -A full)";
    let output = Command::new("unshare")
        .args([
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            script,
            env!("CARGO_BIN_EXE_lowrank"),
        ])
        .current_dir(program.path(""))
        .output();
    match output {
        Ok(output) if output.status.success() => {
            assert_eq!(String::from_utf8_lossy(&output.stdout), "1\n");
            assert!(
                said(&output).contains("no space left on the device; free some space"),
                "{}",
                said(&output)
            );
        }
        _ => eprintln!("skipped: a file system cannot be mounted here"),
    }
}
