//! The command line as a user meets it: every command on small generated ratings, exit statuses, and what goes where.

use std::path::Path;
use std::sync::LazyLock;

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

/// A folder with ratings, titles, a store and a model, made once.
static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let run = |line: &str| succeed(folder.path(), line);
    run("generate --users 120 --items 200 --ratings 6000 --out ratings.csv");
    let titles: String = (1..=200)
        .map(|id| format!("{id},\"Movie {id}, The\",Drama\n"))
        .collect();
    let titles = format!("movieId,title,genres\n{titles}");
    std::fs::write(folder.path().join("movies.csv"), titles).unwrap();
    run(
        "import ratings.csv --titles movies.csv --out s --test-fraction 0.1 --validation-fraction 0.1",
    );
    run("train s --out m --rank 4 --epochs 4");
    folder
});

struct Output {
    code: i32,
    stdout: String,
    stderr: String,
}

/// Runs a line of blank-separated words in a folder.
fn lowrank(folder: &Path, line: &str, stdin: &str) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_lowrank"))
        .args(line.split_whitespace())
        .current_dir(folder)
        .write_stdin(stdin)
        .output()
        .unwrap();
    Output {
        code: output.status.code().expect("no signal ends it"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn succeed(folder: &Path, line: &str) -> Output {
    let output = lowrank(folder, line, "");
    assert_eq!(output.code, 0, "lowrank {line}: {}", output.stderr);
    output
}

fn stdout(line: &str) -> String {
    succeed(FOLDER.path(), line).stdout
}

fn json(line: &str) -> Value {
    serde_json::from_str(&stdout(&format!("{line} --json"))).unwrap()
}

/// Fails with this status, one line on standard error that holds each of `parts`, and nothing on standard output.
fn fail(code: i32, line: &str, parts: &[&str]) {
    let output = lowrank(FOLDER.path(), line, "");
    assert_eq!(output.code, code, "lowrank {line}: {}", output.stderr);
    assert_eq!(output.stdout, "", "lowrank {line}");
    assert!(output.stderr.starts_with("error: "), "{}", output.stderr);
    for part in parts {
        assert!(output.stderr.contains(part), "{part}: {}", output.stderr);
    }
    if code == 1 {
        assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
    }
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn without_arguments_help_is_shown_and_every_command_has_its_own() {
    let nothing = lowrank(FOLDER.path(), "", "");
    assert_eq!((nothing.code, nothing.stdout.as_str()), (2, ""));
    let commands = [
        "import",
        "train",
        "evaluate",
        "recommend",
        "similar",
        "predict",
        "export",
        "inspect",
        "verify",
        "generate",
        "demo",
    ];
    let all = stdout("--help");
    for command in commands {
        assert!(
            nothing.stderr.contains(&format!("\n  {command} ")),
            "{command}"
        );
        assert!(all.contains(&format!("\n  {command} ")), "{command}");
        let (short, long) = (
            stdout(&format!("{command} -h")),
            stdout(&format!("{command} --help")),
        );
        for help in [&short, &long] {
            assert!(
                help.contains(&format!("Usage: lowrank {command} ")),
                "{help}"
            );
            assert!(help.contains("--memory <SIZE>"), "{help}");
            assert!(
                help.lines().all(|line| line.chars().count() <= 100),
                "{help}"
            );
        }
        let first = long.lines().next().unwrap();
        assert!(first.len() <= 80, "{first}");
        assert_ne!(long, short, "{command}");
    }
    assert!(stdout("--version").starts_with("lowrank "));
}

#[test]
fn usage_errors_have_status_2() {
    for line in [
        "frobnicate",
        "train",
        "train s",
        "train s --out x --rank 0",
        "train s --out x --solver magic",
        "similar m",
        "similar m --item 1 --user 2",
        "predict m",
        "predict m --user 1",
        "predict m --user 1 --item 2 --pairs p.csv",
        "predict m --pairs p.csv --json",
        "export m",
        "export m --users f.csv --items f.csv",
        "generate --preset netflix --out x.csv",
        "generate --users 5 --items 5 --ratings 5000 --out x.csv",
        "generate --out - --json",
        "recommend m s",
        "recommend m s --out - --json",
        "recommend m --users 1",
        "inspect s --threads 0",
        "inspect s --memory lots",
    ] {
        fail(2, line, &[]);
    }
    assert!(!FOLDER.path().join("x.csv").exists() && !FOLDER.path().join("x").exists());
}

#[test]
fn what_cannot_be_done_has_status_1_and_says_why() {
    for (line, parts) in [
        ("train nowhere --out x", &["nowhere: ", "no such file"][..]),
        ("train m --out x", &["m: this is a model, not a store"]),
        ("evaluate s s", &["s: this is a store, not a model"]),
        (
            "inspect ratings.csv",
            &["neither a store nor a model", "lowrank import"],
        ),
        ("inspect s/manifest", &["one file of a store or model"]),
        ("inspect .", &["neither a store nor a model"]),
        ("verify s/users.dict", &["a dictionary of ids"]),
        ("similar m --item 4711", &["no item", "4711"]),
        ("similar m --user nobody", &["no user", "nobody"]),
        ("recommend m s --users nobody", &["no user", "nobody"]),
        (
            "generate --out ratings.csv",
            &["ratings.csv: exists already", "--force"],
        ),
        (
            "import ratings.csv --out s",
            &["s: exists already", "--force"],
        ),
        ("train s --out m", &["m: exists already", "--force"]),
        (
            "export m --users new.csv --items ratings.csv",
            &["ratings.csv: exists already"],
        ),
        (
            "predict m --pairs ratings.csv --out movies.csv",
            &["movies.csv: exists already"],
        ),
        ("inspect s --memory 1MiB", &["--memory 13MiB would do"]),
        ("similar m --item 1 --memory 1MiB", &["MiB would do"]),
        ("generate --out x.csv --memory 1MiB", &["MiB would do"]),
    ] {
        fail(1, line, parts);
    }
    assert!(!FOLDER.path().join("new.csv").exists());
}

#[test]
fn results_go_to_standard_output_and_messages_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let ratings = FOLDER.path().join("ratings.csv");
    let line = format!("import {} --out s", ratings.display());
    let import = succeed(folder.path(), &line);
    assert!(
        import.stdout.contains("ratings  6,000"),
        "{}",
        import.stdout
    );
    assert!(
        import.stderr.contains("6,000 ratings (csv)"),
        "{}",
        import.stderr
    );
    let train = succeed(folder.path(), "train s --out m --epochs 1");
    assert!(train.stdout.contains("train rmse"), "{}", train.stdout);
    // The plan, a header, and a line before and after the epoch.
    assert_eq!(train.stderr.lines().count(), 4, "{}", train.stderr);
    for line in [
        "train s --out m --epochs 1 --force --quiet",
        "predict m --user nobody --item 1 -q",
        "generate --out g.csv -q",
    ] {
        let quiet = succeed(folder.path(), line);
        assert_eq!(quiet.stderr, "", "{line}");
        assert_ne!(quiet.stdout, "", "{line}");
    }
}

#[test]
fn json_is_one_object_that_says_what_the_text_says() {
    assert_eq!(json("inspect s")["users"], 120);
    let evaluated = json("evaluate m s --metrics rmse");
    let rmse = format!("rmse  {:.6}\n", number(&evaluated["rmse"]));
    assert!(stdout("evaluate m s").starts_with(&rmse));
    let recommended = json("recommend m s --users 1,2 --top 3");
    assert_eq!(recommended.as_array().unwrap().len(), 2);
    assert_eq!(recommended[1]["items"][2]["rank"], 3);
    let imported = json("import ratings.csv --out other --force");
    assert_eq!(imported["ratings"], 6000);
    assert_eq!(json("train other --out n --epochs 1 --force")["epochs"], 1);
    assert!(json("train other --out n --plan")["budget_bytes"].is_u64());
}

#[test]
fn similar_finds_items_by_id_and_by_title() {
    let by_id = json("similar m --item 7 --top 5");
    assert_eq!((&by_id["of"], &by_id["id"]), (&"item".into(), &"7".into()));
    assert_eq!(by_id["title"], "Movie 7, The");
    let similar = by_id["similar"].as_array().unwrap();
    assert_eq!(similar.len(), 5);
    for pair in similar.windows(2) {
        assert!(number(&pair[0]["cosine"]) >= number(&pair[1]["cosine"]));
    }
    assert!(similar.iter().all(|line| line["id"] != "7"));
    // Titles have blanks, so not as a line of words.
    let by_title = |title: &str| {
        let args = ["similar", "m", "--item", title, "--top", "5", "--json"];
        let output = Command::new(env!("CARGO_BIN_EXE_lowrank"))
            .args(args)
            .current_dir(FOLDER.path())
            .output()
            .unwrap();
        (output.status.code(), output.stdout, output.stderr)
    };
    let (code, text, _) = by_title("movie 7, the");
    assert_eq!(code, Some(0));
    assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), by_id);
    let (code, text, error) = by_title("Movie 1");
    assert_eq!((code, text.len()), (Some(1), 0));
    let error = String::from_utf8(error).unwrap();
    assert!(
        error.contains("several items") && error.contains("more; name one by its id"),
        "{error}"
    );
    let text = stdout("similar m --user 3 --top 2");
    assert!(
        text.starts_with("like user 3\nrank  cosine  user\n   1  "),
        "{text}"
    );
}

#[test]
fn predictions_of_a_pair_of_a_file_and_of_a_stream_agree() {
    let pairs = "movieId,userId,note\n5,1,x\n5,nobody,x\nnothing,nobody,x\n";
    std::fs::write(FOLDER.path().join("pairs.csv"), pairs).unwrap();
    let streamed = lowrank(FOLDER.path(), "predict m --pairs -", pairs);
    assert_eq!(streamed.code, 0, "{}", streamed.stderr);
    assert!(streamed.stderr.contains("2 predictions of a user or item"));
    let done = json("predict m --pairs pairs.csv --out predicted.csv --force");
    assert_eq!(
        (&done["predictions"], &done["unknown"]),
        (&3.into(), &2.into())
    );
    let written = std::fs::read_to_string(FOLDER.path().join("predicted.csv")).unwrap();
    assert_eq!(written, streamed.stdout);
    let lines: Vec<Vec<&str>> = written
        .lines()
        .map(|line| line.split(',').collect())
        .collect();
    assert_eq!(lines[0], ["user", "item", "prediction"]);
    for line in &lines[1..] {
        let one = json(&format!("predict m --user {} --item {}", line[0], line[1]));
        assert_eq!(
            one["prediction"].to_string().parse::<f32>(),
            line[2].parse::<f32>()
        );
        assert_eq!(one["user_known"], line[0] == "1");
    }
    // Of nothing known, the mean of the training ratings.
    let mean = number(&json("inspect m")["mean"]);
    assert!((lines[3][2].parse::<f64>().unwrap() - mean).abs() < 1e-6);
    let note = lowrank(FOLDER.path(), "predict m --user nobody --item 5", "").stderr;
    assert!(note.contains("no user \"nobody\""), "{note}");

    let bad = lowrank(
        FOLDER.path(),
        "predict m --pairs - --out bad.csv",
        "1,5\n1\n",
    );
    assert_eq!(bad.code, 1);
    assert!(
        bad.stderr.starts_with("error: <stdin>:2: "),
        "{}",
        bad.stderr
    );
    assert!(!FOLDER.path().join("bad.csv").exists());
}

#[test]
fn predictions_are_clipped_to_the_scale_unless_told_not_to() {
    let beyond = |no_clip: &str| {
        let text = stdout(&format!("predict m --pairs ratings.csv {no_clip}"));
        let outside = |line: &&str| {
            let prediction: f32 = line.rsplit(',').next().unwrap().parse().unwrap();
            !(1.0..=5.0).contains(&prediction)
        };
        assert_eq!(text.lines().count(), 6001);
        text.lines().skip(1).filter(outside).count()
    };
    assert_eq!(beyond(""), 0);
    assert!(beyond("--no-clip") > 0);
}

#[test]
fn exported_factors_start_a_training_at_the_same_model() {
    stdout("export m --users u.csv --items i.csv --force");
    stdout("train s --out again --epochs 0 --init-users u.csv --init-items i.csv --force");
    stdout("export again --users u2.csv --items i2.csv --force");
    let read = |name: &str| std::fs::read(FOLDER.path().join(name)).unwrap();
    assert_eq!(read("u.csv"), read("u2.csv"));
    assert_eq!(read("i.csv"), read("i2.csv"));
    assert_eq!(read("m/users.factors"), read("again/users.factors"));
    assert!(read("u.csv").starts_with(b"id,f0,f1,f2,f3,bias\n"));
    stdout("export m --items i.npy --force");
    assert!(read("i.npy").starts_with(b"\x93NUMPY\x01\x00"));
}

#[test]
fn inspect_tells_of_stores_and_models() {
    let store = json("inspect s");
    let histogram = store["histogram"].as_array().unwrap();
    let counted: f64 = histogram.iter().map(|bin| number(&bin["count"])).sum();
    assert_eq!(counted, number(&store["ratings"]));
    let parts = ["ratings", "validation", "test"].map(|part| number(&store[part]));
    assert_eq!(parts.iter().sum::<f64>(), 6000.0);
    assert_eq!(store["titles"], true);
    assert_eq!(store["by_user"]["encoding"], "packed");
    let shard = &store["by_item"]["shards"][0];
    assert_eq!(number(&shard["ratings"]), counted);
    assert!(number(&store["bytes_per_rating"]) < 4.0);
    let spread = &store["ratings_per_user"];
    assert!(number(&spread["least"]) <= number(&spread["median"]));
    assert!(stdout("inspect s").contains("████"));

    stdout("import ratings.csv --out whole --force --encoding plain");
    let mut counts = std::collections::HashMap::new();
    for line in std::fs::read_to_string(FOLDER.path().join("ratings.csv"))
        .unwrap()
        .lines()
        .skip(1)
    {
        *counts
            .entry(line.split(',').nth(1).unwrap().to_owned())
            .or_insert(0_u32) += 1;
    }
    let mut counts: Vec<u32> = counts.into_values().collect();
    counts.sort_unstable();
    let whole = json("inspect whole");
    assert_eq!(whole["by_user"]["encoding"], "plain");
    assert!(number(&whole["bytes_per_rating"]) > 16.0);
    let spread =
        ["least", "median", "most"].map(|at| number(&whole["ratings_per_item"][at]) as u32);
    let last = counts.len() - 1;
    assert_eq!(spread, [counts[0], counts[last / 2], counts[last]]);

    let model = json("inspect m");
    assert_eq!(
        (&model["kind"], &model["epoch"]),
        (&"model".into(), &4.into())
    );
    assert_eq!(model["options"]["regularization"].to_string(), "0.05");
    assert_eq!(model["run"]["store"], "s");
    let text = stdout("inspect m");
    assert!(text.contains("\n  regularization 0.05\n"), "{text}");
    assert!(text.trim_end().ends_with("these factors"), "{text}");
}

#[test]
fn verify_passes_what_is_whole_and_names_what_is_damaged() {
    assert_eq!(json("verify s")["ratings"], 6000);
    assert_eq!(
        json("verify m")["factors"],
        120 * 5 + number(&json("inspect m")["shape"]["items"]) as u64 * 5
    );
    let copy = tempfile::tempdir().unwrap();
    for (of, file) in [
        ("s", "by_user/00000.shard"),
        ("s", "by_item/00000.shard"),
        ("s", "test/00000.shard"),
        ("s", "items.dict"),
        ("s", "manifest"),
        ("m", "users.factors"),
        ("m", "items.factors"),
        ("m", "users.dict"),
        ("m", "model"),
    ] {
        let to = copy.path().join(file.replace('/', "-"));
        copy_all(&FOLDER.path().join(of), &to);
        let path = to.join(file);
        let whole = std::fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        for bytes in [&flipped[..], &whole[..whole.len() - 1], &[]] {
            std::fs::write(&path, bytes).unwrap();
            let output = lowrank(copy.path(), &format!("verify {}", to.display()), "");
            assert_eq!((output.code, output.stdout.as_str()), (1, ""), "{file}");
            assert!(
                output.stderr.contains(&path.display().to_string()),
                "{}",
                output.stderr
            );
            assert!(output.stderr.contains(" at byte "), "{}", output.stderr);
        }
        std::fs::write(&path, whole).unwrap();
        succeed(copy.path(), &format!("verify {}", to.display()));
    }
    let model = copy.path().join("model");
    std::fs::write(model.join("run.json"), "{").unwrap();
    let output = lowrank(copy.path(), "verify model", "");
    assert_eq!(output.code, 1);
    assert!(
        output.stderr.contains("model/run.json"),
        "{}",
        output.stderr
    );
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_all(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn generated_ratings_are_the_same_in_a_file_and_in_a_stream() {
    let line = "generate --users 120 --items 200 --ratings 6000";
    let streamed = succeed(FOLDER.path(), &format!("{line} --out - --threads 1"));
    let file = std::fs::read_to_string(FOLDER.path().join("ratings.csv")).unwrap();
    assert!(streamed.stdout == file);
    assert!(streamed.stderr.contains("at best"), "{}", streamed.stderr);
    let other = stdout(&format!("{line} --out - --seed 2"));
    assert_eq!(other.lines().count(), 6001);
    assert_ne!(other, file);
    let summary = json(&format!("{line} --out g.csv --force"));
    assert!(number(&summary["oracle_rmse"]) < number(&summary["biases_rmse"]));
    for preset in lowrank::synthetic::PRESETS {
        let help = stdout("generate --help");
        assert!(
            help.contains(preset.name) && help.contains(preset.summary),
            "{help}"
        );
    }
}

#[test]
fn recommendations_for_everybody_agree_with_those_for_one() {
    stdout("recommend m s --top 3 --out top.csv --force");
    let everybody = std::fs::read_to_string(FOLDER.path().join("top.csv")).unwrap();
    assert_eq!(everybody.lines().count(), 1 + 120 * 3);
    assert_eq!(everybody.lines().next(), Some("user,item,score,rank,title"));
    let one = json("recommend m s --top 3 --users 17");
    let items: Vec<&str> = everybody
        .lines()
        .filter_map(|line| line.strip_prefix("17,")?.split(',').next())
        .collect();
    let expected = one[0]["items"].as_array().unwrap();
    assert_eq!(
        items,
        expected
            .iter()
            .map(|item| item["item"].as_str().unwrap())
            .collect::<Vec<_>>()
    );
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    for line in [
        "generate --out -",
        "predict m --pairs ratings.csv",
        "recommend m s --out -",
        "inspect s",
        "--help",
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let child = std::process::Command::new(env!("CARGO_BIN_EXE_lowrank"))
            .args(line.split_whitespace())
            .current_dir(FOLDER.path())
            .stdout(writer)
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{line}: {stderr}");
        assert!(!stderr.contains("error"), "{line}: {stderr}");
    }
}

#[test]
fn the_demo_runs_everything_and_leaves_nothing_unless_asked_to() {
    let folder = tempfile::tempdir().unwrap();
    let shown = succeed(folder.path(), "demo").stdout;
    for command in [
        "generate",
        "import",
        "inspect",
        "train",
        "evaluate",
        "recommend",
        "similar",
        "predict",
    ] {
        assert!(
            shown.contains(&format!("\n$ lowrank {command} ")),
            "{command}"
        );
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let output = succeed(folder.path(), "demo --keep kept --json --quiet");
    let outcome: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(output.stderr, "");
    // Better than biases can be, and not better than the truth.
    let rmse = number(&outcome["test_rmse"]);
    assert!(rmse < number(&outcome["rmse_by_biases"]), "{outcome}");
    assert!(rmse > number(&outcome["best_reachable_rmse"]), "{outcome}");
    let users = std::fs::read_to_string(folder.path().join("kept/recommendations.csv")).unwrap();
    assert_eq!(users.lines().count(), 1 + 943 * 10);
    let again = lowrank(folder.path(), "demo --keep kept", "");
    assert_eq!(again.code, 1);
    assert!(
        again.stderr.contains("name a new folder"),
        "{}",
        again.stderr
    );
}
