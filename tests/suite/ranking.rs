//! Ranking metrics of the program against their definitions, spelled out over whole lists.

use std::collections::BTreeSet;

use crate::program::Program;
use crate::refused::{ratings, refused, trained};
use lowrank::evaluate::{METRICS, Measure, Metric};
use lowrank::matrix::{Ratings, RowScratch, Side};
use lowrank::model::Model;
use lowrank::recommend::{Exclude, Recommender, Search};
use lowrank::rng::{Purpose, Stream, key};
use lowrank::store::{Part, Store};
use serde_json::{Value, json};

/// One user's list to its end, and what is to be found of it.
struct List {
    activity: usize,
    items: Vec<u32>,
    relevant: BTreeSet<u32>,
}

/// Items of a user in a part of the store that are rated so or higher. Store and model number them alike here.
fn items(store: &Store, part: Part, user: usize, least: f32) -> BTreeSet<u32> {
    let Some(rows) = store.part(part) else {
        return BTreeSet::new();
    };
    let mut scratch = RowScratch::default();
    let (block, row) = rows.find(user).unwrap();
    let row = block.row(row, &mut scratch);
    let rated = row.cols.iter().zip(row.values);
    rated.filter(|x| *x.1 >= least).map(|x| *x.0).collect()
}

fn lists(program: &Program, least: f32) -> (Vec<List>, Vec<usize>) {
    let store = Store::open(program.path("s")).unwrap();
    let model = Model::open(&program.path("m")).unwrap();
    let every = store.shape().items;
    let search = Search::Exhaustive;
    let recommender =
        Recommender::new(&model, Some(&store), every, Exclude::Train, search).unwrap();
    let mut lists = Vec::new();
    recommender
        .recommend(0..store.shape().users as u32, Ok, |tops| {
            for top in &tops {
                let user = top.user as usize;
                lists.push(List {
                    activity: items(&store, Part::Train, user, f32::MIN).len(),
                    items: top.items.iter().map(|c| c.item).collect(),
                    relevant: items(&store, Part::Test, user, least),
                });
            }
            Ok(())
        })
        .unwrap();
    lists.retain(|list| !list.relevant.is_empty());
    let counts = store.rating_counts(Side::Items).unwrap();
    (lists, counts.into_iter().map(|n| n as usize).collect())
}

/// A metric of one list by its definition: a loop over ranks.
fn by_definition(metric: &str, list: &List, k: usize, surprise: &dyn Fn(u32) -> f64) -> f64 {
    let hit = |rank: usize| {
        let item = list.items.get(rank - 1);
        f64::from(u8::from(item.is_some_and(|i| list.relevant.contains(i))))
    };
    let hits = |k: usize| (1..=k).map(hit).sum::<f64>();
    let all = list.relevant.len();
    let most = all.min(k);
    let gain = |rank: usize| 1.0 / (rank as f64 + 1.0).log2();
    match metric {
        "precision" => hits(k) / k as f64,
        "recall" => hits(k) / all as f64,
        "capped-recall" => hits(k) / most as f64,
        "ndcg" => {
            let got: f64 = (1..=k).map(|rank| hit(rank) * gain(rank)).sum();
            got / (1..=most).map(gain).sum::<f64>()
        }
        "map" => {
            let at = |rank: usize| hit(rank) * hits(rank) / rank as f64;
            (1..=k).map(at).sum::<f64>() / most as f64
        }
        "mrr" => (1..=k).map(|r| hit(r) / r as f64).fold(0.0, f64::max),
        "hit-rate" => f64::from(u8::from(hits(k) > 0.0)),
        "novelty" => {
            let listed = &list.items[..k.min(list.items.len())];
            listed.iter().map(|&i| surprise(i)).sum::<f64>() / listed.len().max(1) as f64
        }
        other => panic!("{other} has no definition here"),
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn measures_lists(metric: &Metric) -> bool {
    matches!(metric.measure, Measure::Lists(_))
}

/// The 95 % interval of the mean of these numbers.
fn assert_interval(interval: &Value, x: Vec<f64>) {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let squares: f64 = x.iter().map(|x| (x - mean).powi(2)).sum();
    let margin = 1.96 * (squares / (n - 1.0) / n).sqrt();
    assert!((number(&interval[0]) - (mean - margin)).abs() < 1e-12);
    assert!((number(&interval[1]) - (mean + margin)).abs() < 1e-12);
}

#[test]
fn every_metric_is_its_definition() {
    let program = Program::new();
    program.write("r.csv", ratings(60, 40));
    program.done("import r.csv --out s --test-fraction 0.3 --validation-fraction 0.1");
    program.done("train s --out m --rank 4 --epochs 4");
    let names: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
    for (least, option) in [(f32::MIN, ""), (3.0, "--positive-at 3")] {
        let got = program.done(&format!(
            "evaluate m s --metrics {} --at 20,1,5,40 {option}",
            names.join(",")
        ));
        let (lists, counts) = lists(&program, least);
        let users = 60.0_f64;
        let surprise = |item: u32| -(counts[item as usize].max(1) as f64 / users).log2();
        assert_eq!(number(&got["users"]), lists.len() as f64);
        let relevant: usize = lists.iter().map(|list| list.relevant.len()).sum();
        assert_eq!(number(&got["relevant"]), relevant as f64);
        for metric in METRICS {
            for k in [1, 5, 20, 40] {
                let name = format!("{}@{k}", metric.name);
                let listed = |lists: &[&List]| {
                    let some = lists.iter().flat_map(|list| list.items.iter().take(k));
                    some.collect::<BTreeSet<_>>().len() as f64 / 40.0
                };
                let mean = |lists: &[&List]| match metric.measure {
                    Measure::Coverage => listed(lists),
                    _ => {
                        let of = |list: &&List| by_definition(metric.name, list, k, &surprise);
                        lists.iter().map(of).sum::<f64>() / lists.len() as f64
                    }
                };
                if matches!(metric.measure, Measure::Ratings(_)) {
                    assert!(got.get(&name).is_none());
                    continue;
                }
                let all: Vec<&List> = lists.iter().collect();
                let expected = mean(&all);
                let value = number(&got[&name]);
                assert!(
                    (value - expected).abs() < 1e-12,
                    "{name}: {value} {expected}"
                );
                for group in got["by_activity"].as_array().unwrap() {
                    let of = |at: usize| number(&group["training_ratings"][at]) as usize;
                    let within = |list: &&List| (of(0)..=of(1)).contains(&list.activity);
                    let some: Vec<&List> = lists.iter().filter(within).collect();
                    assert_eq!(number(&group["users"]), some.len() as f64);
                    assert!(
                        (number(&group[&name]) - mean(&some)).abs() < 1e-12,
                        "{name}"
                    );
                    if measures_lists(metric) && some.len() > 1 {
                        let x = some
                            .iter()
                            .map(|list| by_definition(metric.name, list, k, &surprise));
                        assert_interval(&group["intervals"][&name], x.collect());
                    }
                }
                if measures_lists(metric) {
                    let x = all
                        .iter()
                        .map(|list| by_definition(metric.name, list, k, &surprise));
                    assert_interval(&got["intervals"][&name], x.collect());
                }
            }
        }
        let groups = got["by_activity"].as_array().unwrap();
        let users: f64 = groups.iter().map(|group| number(&group["users"])).sum();
        assert_eq!(users, lists.len() as f64);
    }
    let one = program.done("evaluate m s --metrics ndcg,coverage --threads 1");
    assert_eq!(
        one,
        program.done("evaluate m s --metrics ndcg,coverage --threads 4")
    );
}

/// A store that numbers its users and items otherwise, and has some that the model does not know.
#[test]
fn ids_are_what_counts() {
    let program = trained();
    let names = "recall,ndcg,novelty";
    let own = program.done(&format!("evaluate m s --metrics {names}"));
    let store = Store::open(program.path("s")).unwrap();
    let pairs = |part| -> Vec<(String, u32, u32)> {
        let name = |user, item| {
            let (user, item): (usize, usize) = (user, item);
            let id = store.items().id(item).unwrap();
            format!("{},{id}", store.users().id(user).unwrap())
        };
        (0..store.shape().users)
            .flat_map(|user| {
                let items = items(&store, part, user, f32::MIN);
                items.into_iter().map(move |item| (user as u32, item))
            })
            .map(|(user, item)| (name(user as usize, item as usize), user, item))
            .collect()
    };
    let text = |part, more: &str| {
        let lines: String = pairs(part).iter().map(|x| format!("{},1\n", x.0)).collect();
        format!("user,item,rating\n{lines}{more}")
    };
    // Strangers with many ratings come first in a store.
    let strangers: String = (0..50).map(|i| format!("stranger,new{i},1\n")).collect();
    program.write("train.csv", text(Part::Train, &strangers));
    program.write("test.csv", text(Part::Test, "u0,new1,1\n"));
    program.done("import train.csv --test test.csv --out other");
    let other = program.done(&format!("evaluate m other --metrics {names}"));
    assert_eq!(other["users"], own["users"]);
    assert_eq!(number(&other["relevant"]), number(&own["relevant"]) + 1.0);
    assert_eq!(other["unknown_relevant"], 1);
    let users = number(&own["users"]);
    // One user has an item more that cannot be found.
    let lost = number(&own["recall@10"]) - number(&other["recall@10"]);
    assert!(lost >= 0.0 && lost <= 1.0 / users, "{lost}");
}

#[test]
fn what_cannot_be_measured_is_refused_in_a_line() {
    let program = trained();
    let metrics = "evaluate m s --metrics recall";
    for (more, status, words) in [
        ("--at 13", 2, ["13 items", "--at"]),
        ("--at 0", 2, ["--at", "0"]),
        ("--positive-at 99", 2, ["highly enough", "--positive-at"]),
    ] {
        refused(&program, &format!("{metrics} {more}"), status, &words);
    }
    program.write("plain.csv", ratings(9, 9));
    program.done("import plain.csv --out plain");
    refused(
        &program,
        "evaluate m plain --metrics recall",
        2,
        &["no test part"],
    );
    let budget = format!("{metrics} --memory 1KiB");
    refused(&program, &budget, 1, &["packed items and lists"]);
    // Recommending what was trained on leaves nothing out.
    let found = program.done(&format!("{metrics} --at 12 --on train"));
    assert_eq!(number(&found["recall@12"]), 1.0);
}

/// Among all items that a user has not rated, a sample is no sample: the figures are those of full rankings. Among fewer,
/// they flatter.
#[test]
fn a_sample_of_everything_is_the_full_ranking() {
    let program = Program::new();
    program.write("r.csv", ratings(60, 40));
    program.done("import r.csv --out s --test-each 2");
    program.done("train s --out m --rank 4 --epochs 4");
    let evaluate = "evaluate m s --metrics recall,ndcg,mrr,hit-rate,novelty --at 1,5,20";
    let full = program.done(evaluate);
    let mut all = program.done(&format!("{evaluate} --sampled 40"));
    assert_eq!(
        (&all["sampled"], &full["sampled"]),
        (&json!(40), &Value::Null)
    );
    all["sampled"] = Value::Null;
    assert_eq!(all, full);
    let sampled = |options: &str| program.done(&format!("{evaluate} --sampled 20 {options}"));
    let drawn = sampled("");
    assert_eq!(sampled("--threads 1"), drawn);
    assert!(sampled("--sample-seed 1") != drawn);
    for name in ["recall@5", "ndcg@5", "mrr@20", "hit-rate@5"] {
        assert!(number(&drawn[name]) > number(&full[name]), "{name}");
    }
    let warned = crate::refused::said(&program.run("evaluate m s --metrics ndcg --sampled 20"));
    assert!(
        warned.contains("warning: ranked among 20 sampled items"),
        "{warned}"
    );
    for (options, words) in [
        ("--sampled 0 --at 1", "leave out --sampled"),
        ("--sampled 10 --at 12", "no list of 12 items: there are 11"),
        ("--sampled 10 --fold-in r.csv", "cannot be used with"),
    ] {
        let options = format!("evaluate m s --metrics ndcg {options}");
        refused(&program, &options, 2, &[words]);
    }
}

/// A true sample, with its draws made here: one by one from the user's stream, until so many are new and not rated in any part.
#[test]
fn a_sample_is_ranked_as_it_is_drawn() {
    const DRAWN: usize = 15;
    let program = Program::new();
    program.write("r.csv", ratings(60, 40));
    program.done("import r.csv --out s --test-each 2 --validation-fraction 0.1");
    program.done("train s --out m --rank 4 --epochs 4");
    let (store, model) = (
        Store::open(program.path("s")).unwrap(),
        Model::open(&program.path("m")).unwrap(),
    );
    let mut lists = Vec::new();
    for user in 0..60 {
        let relevant = items(&store, Part::Test, user, f32::MIN);
        if relevant.is_empty() {
            continue;
        }
        let parts = [Part::Train, Part::Validation, Part::Test];
        let rated = parts.map(|part| items(&store, part, user, f32::MIN));
        let mut drawn: BTreeSet<u32> = rated.into_iter().flatten().collect();
        let rated = drawn.len();
        let id = key(store.users().id(user).unwrap().as_bytes());
        let mut stream = Stream::new(5, Purpose::SampledRanking, 0, id);
        let mut among: Vec<u32> = relevant.iter().copied().collect();
        while rated + DRAWN < 40 && drawn.len() < rated + DRAWN {
            let item = stream.below(40) as u32;
            if drawn.insert(item) {
                among.push(item);
            }
        }
        if rated + DRAWN >= 40 {
            among.extend((0..40).filter(|item| !drawn.contains(item)));
        }
        let score = |item: &u32| model.predict(Some(user as u32), Some(*item)).unwrap();
        among.sort_by(|a, b| score(b).total_cmp(&score(a)).then(a.cmp(b)));
        lists.push(List {
            activity: 0,
            items: among,
            relevant,
        });
    }
    assert!(
        lists
            .iter()
            .filter(|list| list.items.len() == DRAWN + 2)
            .count()
            > 40
    );
    let got = program.done(&format!(
        "evaluate m s --metrics recall,ndcg,mrr --at 1,5,10 --sampled {DRAWN} --sample-seed 5"
    ));
    for metric in ["recall", "ndcg", "mrr"] {
        for k in [1, 5, 10] {
            let of = |list: &List| by_definition(metric, list, k, &|_| 0.0);
            let mean = lists.iter().map(of).sum::<f64>() / lists.len() as f64;
            let value = number(&got[&format!("{metric}@{k}")]);
            assert!((value - mean).abs() < 1e-12, "{metric}@{k}: {value} {mean}");
        }
    }
}
