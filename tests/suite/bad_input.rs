//! What the program does with input and options that it cannot use: status, message, and nothing left half-written.

use std::fs;
use std::io::Write;

use crate::program::Program;
use crate::refused::{ratings, refused, said, trained};
use crate::tree::tree;
use lowrank::store::Store;
use serde_json::Value;

#[test]
fn what_is_missing_is_named() {
    let program = trained();
    for arguments in [
        "import none.csv --out t",
        "import good.csv none.csv --out t",
        "import good.csv --titles none.csv --out t",
        "import good.csv --test none.csv --out t",
        "import good.csv --out none/t",
        "train none --out t",
        "train s --out none/t",
        "train s --out t --init-users none.csv --init-items none.csv",
        "evaluate none s",
        "evaluate m none",
        "recommend none s --out t.csv",
        "recommend m none --out t.csv",
        "recommend m s --out none/t.csv",
        "similar none --item i1",
        "predict none --user u1 --item i1",
        "predict m --pairs none.csv --out t.csv",
        "export none --users t.csv",
        "inspect none",
        "verify none",
    ] {
        refused(
            &program,
            arguments,
            1,
            &["none", "no such file or directory"],
        );
    }
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

#[test]
fn a_budget_too_small_names_the_one_that_would_do() {
    let program = trained();
    program.write("pairs.csv", "u1,i1\nu2,i2\n");
    for (command, out) in [
        ("import good.csv --out t", "t"),
        ("train s --out t --epochs 1 --rank 64", "t"),
        ("recommend m s --out t.csv", "t.csv"),
        ("export m --users t.csv", "t.csv"),
        ("predict m --pairs pairs.csv --out t.csv", "t.csv"),
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

/// How many ids there are is known only when all text has been read: then it is too late for a guess, not for an answer.
#[test]
fn the_smallest_budget_does_for_any_number_of_ids() {
    let program = Program::new();
    let line = |user: u32| format!("user{user},item{},3\n", user % 1000);
    program.write("ids.csv", (0..400_000).map(line).collect::<String>());
    let command = "import ids.csv --out t --threads 1";
    let said = refused(
        &program,
        &format!("{command} --memory 1MiB"),
        1,
        &["would do"],
    );
    let (_, enough) = said.split_once("; --memory ").unwrap();
    let (enough, _) = enough.split_once(' ').unwrap();
    let imported = program.done(&format!("{command} --memory {enough}"));
    assert_eq!(imported["users"], 400_000);
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
        (
            "train s --out t --solver gradient --learning-rates 0.1,0.2",
            "too few",
        ),
        (
            "train s --out t --solver gradient --direction conjugate --momentum 0.5",
            "exact steps",
        ),
        ("train s --out t --missing zero", "cell-gradient"),
        ("train s --out t --missing half", "--missing"),
        ("train s --out t --solver cell-gradient", "--learning-rate"),
        (
            "train s --out t --solver cell-gradient --learning-rate 0.1 --missing zero",
            "--no-biases",
        ),
        ("train s --out t --solver cg --cg-steps 0", "--cg-steps"),
        ("train s --out t --solver cg --loss huber", "newton"),
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
    for arguments in ["similar m --item nobody", "similar m --user nobody"] {
        refused(
            &program,
            arguments,
            1,
            &["the model knows no", "\"nobody\""],
        );
    }
    // A prediction falls back on what is known, and says so.
    let known = program.done("predict m --user u1 --item i1");
    let unknown = program.done("predict m --user nobody --item nothing");
    let flags = |prediction: &Value| {
        (
            prediction["user_known"].clone(),
            prediction["item_known"].clone(),
        )
    };
    assert_eq!(flags(&known), (true.into(), true.into()));
    assert_eq!(flags(&unknown), (false.into(), false.into()));
    let mean = Store::open(program.path("s")).unwrap().manifest().mean;
    assert!((unknown["prediction"].as_f64().unwrap() - mean).abs() < 1e-6);
    let output = program.run("predict m --user nobody --item i1");
    assert!(said(&output).contains("the model knows no user \"nobody\""));
    program.write("pairs.csv", "user,item\nu1,i1\n,i1\n");
    refused(
        &program,
        "predict m --pairs pairs.csv --out t.csv",
        1,
        &["pairs.csv:3: the user is empty"],
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
        "nothing can be recommended to user u0\n"
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
