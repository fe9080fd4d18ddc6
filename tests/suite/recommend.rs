//! Everybody's recommendations: whole, sorted, none seen, and those that a plain search over all pairs finds.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::Path;

use crate::program::Program;
use crate::real_data::real_data;
use lowrank::matrix::{Ratings, RowScratch, Side};
use lowrank::model::Model;
use lowrank::store::{Part, Store};
use lowrank::synthetic::{Recipe, Synthetic};
use serde::Deserialize;
use serde_json::Value;

/// A line of the output.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Line {
    user: String,
    item: String,
    score: f32,
    rank: usize,
    title: Option<String>,
}

fn csv(path: &Path) -> Vec<Line> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    let mut lines: Vec<Line> = reader.deserialize().map(Result::unwrap).collect();
    // An item without a title has an empty one here and none in JSON.
    for line in &mut lines {
        line.title.take_if(|title| title.is_empty());
    }
    lines
}

fn json_lines(path: &Path) -> Vec<Line> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Pairs that a part of a store has, by ids.
fn pairs(store: &Store, parts: &[Part]) -> BTreeSet<(String, String)> {
    let mut pairs = BTreeSet::new();
    for rows in parts.iter().filter_map(|&part| store.part(part)) {
        for user in 0..rows.shape().users {
            let (block, row) = rows.find(user).unwrap();
            for &item in block.row(row, &mut RowScratch::default()).cols {
                let user = store.users().id(user).unwrap().to_owned();
                pairs.insert((user, store.items().id(item as usize).unwrap().to_owned()));
            }
        }
    }
    pairs
}

/// Every prediction of a model in double precision, unknown users and items left out.
struct BruteForce {
    items: Vec<String>,
    scores: BTreeMap<String, Vec<f64>>,
    /// What a user whom the model does not know is offered.
    for_nobody: Vec<f64>,
}

impl BruteForce {
    fn new(model: &Model) -> BruteForce {
        let parameters = model.parameters();
        let (users, items) = (&parameters.users, &parameters.items);
        let ids = |side: Side, count: usize| -> Vec<String> {
            (0..count)
                .map(|row| model.dictionary(side).id(row).unwrap().to_owned())
                .collect()
        };
        let (mean, std) = (f64::from(parameters.mean), f64::from(parameters.std));
        let score = |user: Option<usize>| -> Vec<f64> {
            let of_item = |item| {
                let bias = f64::from(items.bias(item));
                let own = user.map_or(0.0, |user| {
                    let rows = users.row(user).iter().zip(items.row(item));
                    let product: f64 = rows.map(|(&p, &q)| f64::from(p) * f64::from(q)).sum();
                    f64::from(users.bias(user)) + product
                });
                mean + std * (bias + own)
            };
            (0..items.rows()).map(of_item).collect()
        };
        BruteForce {
            items: ids(Side::Items, items.rows()),
            scores: ids(Side::Users, users.rows())
                .into_iter()
                .zip((0..).map(|u| score(Some(u))))
                .collect(),
            for_nobody: score(None),
        }
    }

    /// Compares one user's recommendations: the same items, but for swaps between scores that rounding cannot tell apart.
    fn compare(&self, user: &str, seen: &BTreeSet<(String, String)>, found: &[Line], top: usize) {
        const ROUNDING: f64 = 1e-5;
        let scores = self.scores.get(user).unwrap_or(&self.for_nobody);
        let own = seen.range((user.to_owned(), String::new())..);
        let own = own.take_while(|(other, _)| other == user);
        let own: HashSet<&str> = own.map(|(_, item)| item.as_str()).collect();
        let unseen = |item: &String| !own.contains(item.as_str());
        let mut best: Vec<(f64, &String)> = scores
            .iter()
            .copied()
            .zip(&self.items)
            .filter(|(_, item)| unseen(item))
            .collect();
        best.sort_by(|a, b| b.0.total_cmp(&a.0));
        assert_eq!(found.len(), top.min(best.len()), "{user}");
        let all: BTreeMap<&String, f64> = best.iter().map(|&(score, item)| (item, score)).collect();
        let mut twice = BTreeSet::new();
        for (at, (line, (expected, _))) in found.iter().zip(&best).enumerate() {
            assert_eq!(line.rank, at + 1, "{line:?}");
            let exact = *all
                .get(&line.item)
                .unwrap_or_else(|| panic!("seen: {line:?}"));
            assert!(
                (f64::from(line.score) - exact).abs() < ROUNDING,
                "{line:?}: {exact}"
            );
            assert!(
                (exact - expected).abs() < ROUNDING,
                "{line:?}: {exact}, not {expected}"
            );
            assert!(at == 0 || found[at - 1].score >= line.score, "{line:?}");
            assert!(twice.insert(&line.item), "{line:?}");
        }
    }
}

/// Checks everybody's recommendations. `parts` are those that are left out.
fn check(program: &Program, options: &str, parts: &[Part], top: usize) -> Vec<Line> {
    let outcome = program.done(&format!(
        "recommend m s --top {top} --out all.csv --force {options}"
    ));
    let store = Store::open(program.path("s")).unwrap();
    let brute_force = BruteForce::new(&Model::open(&program.path("m")).unwrap());
    let seen = pairs(&store, parts);
    let lines = csv(&program.path("all.csv"));
    assert_eq!(outcome["recommendations"], lines.len());
    let mut by_user: BTreeMap<&str, Vec<Line>> = BTreeMap::new();
    for line in &lines {
        by_user.entry(&line.user).or_default().push(line.clone());
    }
    let users = store.users();
    for user in 0..users.len() {
        let id = users.id(user).unwrap();
        let found = by_user.get(id).map_or(&[][..], Vec::as_slice);
        brute_force.compare(id, &seen, found, top);
    }
    // Users follow each other as the store has them.
    let mut order: Vec<&str> = lines.iter().map(|line| &*line.user).collect();
    order.dedup();
    let in_store = (0..users.len()).map(|user| users.id(user).unwrap());
    let in_store: Vec<&str> = in_store.filter(|user| by_user.contains_key(user)).collect();
    assert_eq!(order, in_store);
    lines
}

/// The lists in `all.csv` are those of a search over all scores, to the bit.
fn by_either_search(program: &Program, options: &str) {
    program.done(&format!(
        "recommend m s --exhaustive --out either.csv --force {options}"
    ));
    let either = fs::read(program.path("either.csv")).unwrap();
    assert!(
        either == fs::read(program.path("all.csv")).unwrap(),
        "{options}"
    );
}

const ALL: [Part; 3] = [Part::Train, Part::Validation, Part::Test];

#[test]
fn everybody_gets_the_best_that_they_have_not_seen() {
    let program = Program::new();
    // More items than are scored at a time.
    let recipe = Recipe {
        users: 300,
        items: 2_500,
        ratings: 20_000,
        ..Recipe::default()
    };
    let mut text = Vec::new();
    Synthetic::new(recipe).unwrap().write(&mut text).unwrap();
    program.write("r.csv", text);
    program.done("import r.csv --out s --test-fraction 0.2 --validation-fraction 0.1");
    for training in ["--rank 5", "--rank 16 --normalize", "--rank 3 --no-biases"] {
        program.done(&format!("train s --out m --epochs 3 --force {training}"));
        for (exclude, parts) in [("all", &ALL[..]), ("train", &[Part::Train]), ("none", &[])] {
            let options = format!("--exclude {exclude}");
            let lines = check(&program, &options, parts, 7);
            assert_eq!(lines.len(), 300 * 7);
            by_either_search(&program, &format!("--top 7 {options}"));
        }
    }
    // As many as there are.
    check(&program, "", &ALL, 2_229);
}

#[test]
fn everybody_gets_the_best_of_real_films() {
    let Some(data) = real_data("ml-100k/orig/u.data") else {
        return;
    };
    let program = Program::new();
    program.write("u.data", fs::read(&data).unwrap());
    program.write("u.item", fs::read(data.with_file_name("u.item")).unwrap());
    program.done("import u.data --titles u.item --out s --test-fraction 0.1");
    program.done("train s --out m --rank 10 --epochs 5 --regularization-row 8 --regularization 0");
    let lines = check(&program, "", &ALL, 10);
    assert_eq!(lines.len(), 943 * 10);
    assert!(lines.iter().all(|line| line.title.is_some()));

    let bytes = fs::read(program.path("all.csv")).unwrap();
    for options in [
        "--threads 1",
        "--threads 2",
        "--threads 4",
        "--threads 3 --memory 64MiB",
    ] {
        program.done(&format!("recommend m s --out again.csv --force {options}"));
        assert!(
            fs::read(program.path("again.csv")).unwrap() == bytes,
            "{options}"
        );
    }
    by_either_search(&program, "");
    let output = program.run("recommend m s --out - --quiet");
    assert!(output.stdout == bytes);
    program.done("recommend m s --out all.jsonl");
    assert_eq!(json_lines(&program.path("all.jsonl")), lines);

    // One user alone gets the same, as a table and as an object.
    let alone = program.done("recommend m s --users 405");
    let of_405: Vec<&Line> = lines.iter().filter(|line| line.user == "405").collect();
    assert_eq!(alone[0]["items"].as_array().unwrap().len(), of_405.len());
    for (found, line) in alone[0]["items"].as_array().unwrap().iter().zip(&of_405) {
        assert_eq!(
            (&found["item"], &found["rank"]),
            (&line.item.clone().into(), &line.rank.into())
        );
        assert_eq!(found["title"], Value::from(line.title.clone()));
    }
    let table = program.run("recommend m s --users 405").stdout;
    let table = String::from_utf8(table).unwrap();
    assert_eq!(table.lines().count(), 12);
    assert!(
        table.starts_with("for user 405\n") && table.contains(of_405[9].title.as_ref().unwrap())
    );
}

/// Ids and titles with all that CSV and JSON have to escape.
#[test]
fn odd_ids_and_titles_come_back() {
    let program = Program::new();
    let odd = |name: &str| format!("{name}, \"the {name}\" \\ ü");
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let (mut ratings, mut titles) = ("user,item,rating\n".to_owned(), "id,title\n".to_owned());
    for user in 0..12 {
        for item in 0..8 {
            if (user * 5 + item * 3) % 7 < 4 {
                let (user, item) = (quoted(&odd(&format!("u{user}"))), odd(&format!("i{item}")));
                ratings += &format!(
                    "{user},{},{}\n",
                    quoted(&item),
                    1 + (item.len() + user.len()) % 5
                );
            }
        }
    }
    for item in 0..7 {
        titles += &format!(
            "{},{}\n",
            quoted(&odd(&format!("i{item}"))),
            quoted(&odd(&format!("Title {item}")))
        );
    }
    program.write("r.csv", ratings);
    program.write("t.csv", titles);
    let imported = program.done("import r.csv --titles t.csv --out s");
    assert_eq!(
        (&imported["users"], &imported["items"], &imported["titles"]),
        (&12.into(), &8.into(), &7.into())
    );
    program.done("train s --out m --rank 2 --epochs 2");
    let lines = check(&program, "", &[Part::Train], 8);
    program.done("recommend m s --top 8 --out all.jsonl");
    assert_eq!(json_lines(&program.path("all.jsonl")), lines);
    for line in lines {
        assert!(
            line.user.ends_with("\" \\ ü") && line.item.ends_with("\" \\ ü"),
            "{line:?}"
        );
        let title = line
            .item
            .replacen('i', "Title ", 1)
            .replace("the i", "the Title ");
        let expected = (!line.item.starts_with("i7")).then_some(title);
        assert_eq!(line.title, expected);
    }
}

/// The store that tells what was rated may be a later one, with users and items that the model has never met, and so with
/// other numbers.
#[test]
fn ids_are_what_counts_not_their_numbers() {
    let program = Program::new();
    let mut text = Vec::new();
    let recipe = Recipe {
        users: 120,
        items: 400,
        ratings: 6_000,
        ..Recipe::default()
    };
    Synthetic::new(recipe).unwrap().write(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    program.write("then.csv", &text);
    program.done("import then.csv --out then");
    program.done("train then --out m --rank 6 --epochs 3");
    let mut later = text;
    // A crowd that makes rare items popular, a new user, and new items for old users.
    for user in 0..200 {
        later += &format!(
            "crowd{user},{},4,0\ncrowd{user},new{},3,0\n",
            1 + user % 50,
            user % 9
        );
    }
    for user in 1..=120 {
        later += &format!("{user},new{},5,0\n", user % 7);
    }
    program.write("now.csv", later);
    program.done("import now.csv --out s --test-fraction 0.1");
    let (then, now) = (
        Store::open(program.path("then")).unwrap(),
        Store::open(program.path("s")).unwrap(),
    );
    assert_ne!(then.users().id(0).unwrap(), now.users().id(150).unwrap());
    assert_ne!(
        (0..50)
            .map(|row| then.items().id(row).unwrap().to_owned())
            .collect::<Vec<_>>(),
        (0..50)
            .map(|row| now.items().id(row).unwrap().to_owned())
            .collect::<Vec<_>>()
    );
    let lines = check(&program, "", &ALL, 5);
    assert_eq!(lines.len(), (120 + 200) * 5);
    by_either_search(&program, "--top 5");
    assert!(lines.iter().any(|line| line.user == "crowd3"));
    assert!(lines.iter().all(|line| !line.item.starts_with("new")));
}
