//! What may be recommended and in which order: against lists that are filtered afterwards, for both searches.

use std::collections::BTreeMap;
use std::fs;

use crate::program::Program;
use crate::refused::{ratings, refused};
use serde_json::Value;

fn trained(solver: &str) -> Program {
    let program = Program::new();
    program.write("r.csv", ratings(70, 60));
    program.done("import r.csv --out s --test-fraction 0.2");
    program.done(&format!("train s --out m --rank 5 --solver {solver}"));
    program
}

type Lists = BTreeMap<String, Vec<(String, f32)>>;

/// The lists that a recommendation gives, which must be the same for both searches.
fn lists(program: &Program, options: &str) -> Lists {
    let text = ["", "--exhaustive"].map(|search| {
        let out = format!("recommend m s {options} {search} --out l.csv --force");
        program.done(&out);
        fs::read_to_string(program.path("l.csv")).unwrap()
    });
    assert!(text[0] == text[1], "{options}");
    let mut lists = Lists::new();
    for line in text[0].lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        let list = lists.entry(cells[0].to_owned()).or_default();
        list.push((cells[1].to_owned(), cells[2].parse().unwrap()));
        assert_eq!(cells[3], list.len().to_string());
    }
    lists
}

/// All lists, filtered and cut afterwards.
fn filtered(all: &Lists, top: usize, keep: impl Fn(&str, &str, f32) -> bool) -> Lists {
    let of_user = |(user, list): (&String, &Vec<(String, f32)>)| {
        let kept = list.iter().filter(|(item, score)| keep(user, item, *score));
        (user.clone(), kept.take(top).cloned().collect::<Vec<_>>())
    };
    let lists = all.iter().map(of_user);
    lists.filter(|(_, list)| !list.is_empty()).collect()
}

#[test]
fn filtered_lists_are_the_best_of_what_is_left() {
    for solver in ["als", "ials"] {
        let program = trained(solver);
        let all = lists(&program, "--top 60");
        let number = |item: &str| item[1..].parse::<u32>().unwrap();
        let text: String = (0..60)
            .filter(|i| i % 3 != 0)
            .map(|i| format!("i{i}\n"))
            .collect();
        program.write("allowed", text + "unheard\n");
        program.write("denied", "i1\ni4\n\ni7\n");
        program.write("pairs.csv", "user,item\nu0,i2\nu0,i5\nu3,i8\nnobody,i1\n");
        let withheld =
            |user: &str, item: &str| matches!((user, item), ("u0", "i2" | "i5") | ("u3", "i8"));
        assert_eq!(
            lists(&program, "--top 3 --items allowed --deny denied"),
            filtered(&all, 3, |_, item, _| {
                number(item) % 3 != 0 && !["i1", "i4", "i7"].contains(&item)
            })
        );
        assert_eq!(
            lists(&program, "--top 3 --exclude-pairs pairs.csv"),
            filtered(&all, 3, |user, item, _| !withheld(user, item))
        );
        let least = all.values().map(|list| list[1].1).fold(f32::MIN, f32::max);
        assert_eq!(
            lists(&program, &format!("--top 3 --min-score {least}")),
            filtered(&all, 3, |_, _, score| score >= least)
        );
        assert_eq!(
            lists(&program, "--top 3 --diversity 0 --popularity-discount 0"),
            filtered(&all, 3, |_, _, _| true)
        );
    }
}

#[test]
fn a_discount_is_taken_off_and_diversity_chooses_among_the_best() {
    let program = trained("als");
    let all = lists(&program, "--top 60");
    let discounted = lists(&program, "--top 60 --popularity-discount 0.05");
    let mut taken: BTreeMap<&str, f32> = BTreeMap::new();
    for (user, list) in &discounted {
        for (item, score) in list {
            let before = all[user].iter().find(|(other, _)| other == item).unwrap().1;
            let off = before - score;
            assert!(off > 0.0);
            let known = taken.entry(item).or_insert(off);
            assert!((*known - off).abs() < 1e-4, "{item}: {known} and {off}");
        }
        assert!(list.is_sorted_by(|a, b| a.1 >= b.1));
    }
    let diverse = lists(&program, "--top 5 --diversity 0.7");
    let mut moved = 0;
    for (user, list) in &diverse {
        assert_eq!(list[0], all[user][0]);
        moved += usize::from(list[..] != all[user][..list.len()]);
        for entry in list {
            assert!(all[user][..50.min(all[user].len())].contains(entry));
        }
    }
    assert!(moved > 10, "{moved}");
}

#[test]
fn all_neighbours_are_those_of_each_item() {
    let program = trained("als");
    program.done("similar m --all --top 4 --out near.jsonl");
    let text = fs::read_to_string(program.path("near.jsonl")).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(lines.len(), 60 * 4);
    for item in ["i0", "i17", "i59"] {
        let one = program.done(&format!("similar m --item {item} --top 4"));
        let all = lines.iter().filter(|line| line["item"] == item);
        for (line, alone) in all.zip(one["similar"].as_array().unwrap()) {
            assert_eq!(line["rank"], alone["rank"]);
            let cosine = |value: &Value| value["cosine"].as_f64().unwrap();
            assert!(
                (cosine(line) - cosine(alone)).abs() < 1e-5,
                "{line}, {alone}"
            );
        }
    }
}

#[test]
fn contributions_add_up_to_the_score() {
    for (solver, adds) in [
        ("als --regularization-row 2", true),
        ("als --normalize", true),
        ("als --no-biases", true),
        ("ials --unobserved-weight 0.3", true),
        ("ials --alpha 2 --positive-at 2", true),
        ("sgd", false),
    ] {
        let program = trained(solver);
        for (user, item) in [("u0", "i3"), ("u20", "i41")] {
            let why = program.done(&format!(
                "explain m s --user {user} --item {item} --top 100"
            ));
            let value = |value: &Value| value.as_f64().unwrap();
            let predicted =
                program.done(&format!("predict m --user {user} --item {item} --no-clip"));
            let (score, predicted) = (value(&why["score"]), value(&predicted["prediction"]));
            assert!(
                (score - predicted).abs() < 1e-3,
                "{solver}: {score}, {predicted}"
            );
            let because = why["because"].as_array().unwrap();
            assert!(!because.is_empty());
            assert_eq!(why["by"], if adds { "contribution" } else { "cosine" });
            if adds {
                let sum: f64 = because.iter().map(|line| value(&line["value"])).sum();
                let rest = value(&why["without_ratings"]);
                assert!(
                    (sum + rest - score).abs() < 1e-4,
                    "{solver}: {sum} + {rest}, {score}"
                );
            }
        }
    }
}

#[test]
fn what_cannot_be_recommended_is_refused() {
    let program = trained("als");
    program.write("empty", "\n\n");
    program.write("strangers", "unheard\n");
    let all: String = (0..60).map(|i| format!("i{i}\n")).collect();
    program.write("all", all);
    program.write("half.csv", "u1\n");
    for (arguments, status, message) in [
        ("recommend m s --users u1 --items empty", 1, "no id in it"),
        (
            "recommend m s --users u1 --items strangers",
            1,
            "no item of the model",
        ),
        (
            "recommend m s --users u1 --deny all",
            1,
            "no item of the model",
        ),
        ("recommend m s --users u1 --items gone", 1, "no such file"),
        ("recommend m s --users u1 --top 61", 2, "give a lower --top"),
        (
            "recommend m s --users u1 --exclude-pairs half.csv",
            1,
            "half.csv:1",
        ),
        ("recommend m s --users u1 --diversity 2", 2, "from 0 to 1"),
        (
            "recommend m s --users u1 --min-score NaN",
            2,
            "not a number",
        ),
        (
            "recommend m s --users u1 --popularity-discount=-1",
            2,
            "from 0 up",
        ),
        ("similar m --all", 2, "--out"),
        (
            "similar m --all --top 60 --out t.csv",
            2,
            "give a lower --top",
        ),
        ("explain m s --user nobody --item i1", 1, "no user"),
        ("explain m s --user u1 --item unheard", 1, "unheard"),
    ] {
        refused(&program, arguments, status, &[message]);
    }
}

#[test]
fn a_category_is_a_list_of_its_items() {
    let program = trained("als");
    let mut categories = "item,title,genres\n".to_owned();
    for item in 0..60 {
        let of = match item % 4 {
            0 => "Drama",
            1 => "drama|War",
            2 => "War",
            _ => "",
        };
        categories += &format!("i{item},Film {item},{of}\n");
    }
    program.write("movies.csv", categories + "unheard,Of,War\n");
    let all = lists(&program, "--top 60");
    let number = |item: &str| item[1..].parse::<u32>().unwrap();
    let of = "--top 4 --categories movies.csv --category";
    assert_eq!(
        lists(&program, &format!("{of} war")),
        filtered(&all, 4, |_, item, _| matches!(number(item) % 4, 1 | 2))
    );
    program.write("allowed", "i0\ni1\ni2\ni3\ni8\n");
    assert_eq!(
        lists(
            &program,
            &format!("{of} Drama --items allowed").replace("--top 4", "--top 2")
        ),
        filtered(&all, 2, |_, item, _| ["i0", "i1", "i8"].contains(&item))
    );
    assert_eq!(
        lists(&program, &format!("{of} Drama,War")),
        filtered(&all, 4, |_, item, _| number(item) % 4 != 3)
    );
    for (options, status, words) in [
        (
            "--categories movies.csv --category Western",
            2,
            "no item is of the category \"Western\"; there are drama, war",
        ),
        ("--category Drama", 2, "--categories"),
        ("--categories movies.csv", 2, "--category"),
        (
            "--categories r.csv --category 5",
            1,
            "no item of the model may be recommended",
        ),
    ] {
        let options = format!("recommend m s --out l2.csv {options}");
        refused(&program, &options, status, &[words]);
    }
}
