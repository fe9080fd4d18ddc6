//! Whole imports against a plain twin that holds everything in memory, whatever the text, the options and the budget.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use lowrank::ingest::{Duplicates, HoldOut, Import, Input, ReadOptions, Report, Split};
use lowrank::matrix::{Ratings, RowScratch, Side};
use lowrank::memory::Bytes;
use lowrank::rng::{Purpose, fraction, key, mix};
use lowrank::store::{Encoding, Fingerprint, Part, Store};
use lowrank::threads::Threads;
use lowrank::{ErrorKind, Result};
use proptest::prelude::*;
use tempfile::TempDir;

/// A line of the text.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    user: String,
    item: String,
    rating: f32,
    time: i64,
}

/// How a text is imported.
#[derive(Debug, Clone)]
struct Case {
    lines: Vec<Line>,
    test_file: Option<Vec<Line>>,
    times: bool,
    duplicates: Duplicates,
    split: Split,
    encoding: Encoding,
    shard_bytes: u64,
    chunk_bytes: usize,
    threads: usize,
    /// MiB beyond the smallest budget, if one is given.
    spare: Option<u64>,
    style: Style,
}

/// How a text is written, which nothing depends on.
#[derive(Debug, Clone, Copy, Default)]
struct Style {
    /// Ids are quoted even where they need not be.
    quotes: bool,
    /// A blank line comes after every third.
    blanks: bool,
    /// Lines end as on Windows.
    returns: bool,
    /// The last line has no end.
    open_end: bool,
}

/// A pair by its ids, and its rating to the bit.
type Triples = BTreeSet<(String, String, u32)>;

/// What should come of a case.
#[derive(Debug, Default, PartialEq)]
struct Twin {
    train: Triples,
    validation: Triples,
    test: Triples,
    users: Vec<String>,
    items: Vec<String>,
    duplicates: u64,
    overlap: u64,
}

fn text(lines: &[Line], times: bool, style: Style) -> String {
    let field = |id: &str| match style.quotes || id.contains([',', '"']) {
        true => format!("\"{}\"", id.replace('"', "\"\"")),
        false => id.to_owned(),
    };
    let end = if style.returns { "\r\n" } else { "\n" };
    let mut text = "user,item,rating".to_owned();
    text += if times { ",time" } else { "" };
    for (number, line) in lines.iter().enumerate() {
        text += end;
        if style.blanks && number % 3 == 0 {
            text += end;
        }
        let Line { rating, time, .. } = line;
        text += &format!("{},{},{rating}", field(&line.user), field(&line.item));
        if times {
            text += &format!(",{time}");
        }
    }
    text += if style.open_end { "" } else { end };
    text
}

/// Ids by how many lines have them, then by themselves.
fn by_popularity<'a>(ids: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut counts = BTreeMap::new();
    ids.for_each(|id| *counts.entry(id.clone()).or_insert(0) += 1);
    let mut ids: Vec<(i32, String)> = counts.into_iter().map(|(id, n)| (-n, id)).collect();
    ids.sort();
    ids.into_iter().map(|(_, id)| id).collect()
}

/// Each pair once, as the policy has it: rating and time. None where a pair occurs twice and must not.
fn unique(lines: &[Line], case: &Case) -> Option<BTreeMap<(String, String), (f32, i64)>> {
    let mut by_pair: BTreeMap<_, Vec<&Line>> = BTreeMap::new();
    for line in lines {
        let pair = (line.user.clone(), line.item.clone());
        by_pair.entry(pair).or_default().push(line);
    }
    let settle = |mut same: Vec<&Line>| -> Option<(f32, i64)> {
        if case.times {
            same.sort_by_key(|line| line.time);
        }
        let (first, last) = (same[0], same[same.len() - 1]);
        Some(match case.duplicates {
            _ if same.len() == 1 => (first.rating, first.time),
            Duplicates::First => (first.rating, first.time),
            Duplicates::Last => (last.rating, last.time),
            Duplicates::Mean => {
                let mut ratings: Vec<f64> = same.iter().map(|l| f64::from(l.rating)).collect();
                ratings.sort_by(f64::total_cmp);
                let mean = ratings.iter().sum::<f64>() / ratings.len() as f64;
                (mean as f32, last.time)
            }
            Duplicates::Error => return None,
        })
    };
    by_pair
        .into_iter()
        .map(|(pair, same)| Some((pair, settle(same)?)))
        .collect()
}

fn is_drawn(split: &Split, purpose: Purpose, share: f64, user: &str, item: &str) -> bool {
    let stream = mix(split.seed, purpose as u64);
    let drawn = mix(mix(stream, key(user.as_bytes())), key(item.as_bytes()));
    fraction(drawn) < share
}

/// None where a pair occurs twice and must not.
fn twin(case: &Case) -> Option<Twin> {
    let Case { lines, split, .. } = case;
    let held_out = case.test_file.as_deref().unwrap_or_default();
    let all = || lines.iter().chain(held_out);
    let ratings = unique(lines, case)?;
    let of_file = unique(held_out, case)?;
    let mut twin = Twin {
        users: by_popularity(all().map(|line| &line.user)),
        items: by_popularity(all().map(|line| &line.item)),
        duplicates: (lines.len() - ratings.len() + held_out.len() - of_file.len()) as u64,
        overlap: of_file
            .keys()
            .filter(|pair| ratings.contains_key(pair))
            .count() as u64,
        ..Twin::default()
    };
    let number: BTreeMap<&String, usize> = twin.items.iter().zip(0..).collect();
    let mut latest = BTreeSet::new();
    for user in &twin.users {
        let mut own: Vec<_> = ratings.iter().filter(|((u, _), _)| u == user).collect();
        own.sort_by_key(|((_, item), (_, time))| (*time, number[item]));
        let last = match split.test {
            HoldOut::Last(count) => count,
            _ => 0,
        };
        let count = last.min(own.len().saturating_sub(1));
        latest.extend(
            own[own.len() - count..]
                .iter()
                .map(|(pair, _)| (*pair).clone()),
        );
    }
    for ((user, item), (rating, _)) in ratings {
        let triple = (user.clone(), item.clone(), rating.to_bits());
        let drawn = |purpose, share| is_drawn(split, purpose, share, &user, &item);
        let part = if latest.contains(&(user.clone(), item.clone()))
            || matches!(split.test, HoldOut::Fraction(share) if drawn(Purpose::TestSplit, share))
        {
            &mut twin.test
        } else if drawn(Purpose::ValidationSplit, split.validation_fraction) {
            &mut twin.validation
        } else {
            &mut twin.train
        };
        part.insert(triple);
    }
    let of_file = of_file.into_iter();
    twin.test
        .extend(of_file.map(|((user, item), (rating, _))| (user, item, rating.to_bits())));
    Some(twin)
}

/// Imports a case into a new folder.
fn import(case: &Case, out: &Path) -> Result<Report> {
    let folder = out.parent().unwrap();
    let input = |name: &str, lines: &[Line]| {
        let path = folder.join(name);
        std::fs::write(&path, text(lines, case.times, case.style)).unwrap();
        Input::from(path)
    };
    let threads = Threads::new(Some(case.threads))?;
    let mut import = Import {
        inputs: vec![input("ratings", &case.lines)],
        test: case.test_file.as_ref().map(|lines| input("test", lines)),
        read: ReadOptions {
            chunk_bytes: case.chunk_bytes,
            ..ReadOptions::default()
        },
        split: case.split,
        duplicates: case.duplicates,
        times: case.times,
        titles: None,
        encoding: case.encoding,
        shard_bytes: case.shard_bytes,
        memory: case.spare.map(|_| Bytes(1)),
        force: false,
    };
    if let Some(spare) = case.spare {
        let refused = import.run(out, &threads, &()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::OverBudget);
        let refused = refused.to_string();
        let (_, enough) = refused.split_once("--memory ").unwrap();
        let enough: Bytes = enough.split_once(' ').unwrap().0.parse().unwrap();
        import.memory = Some(Bytes(enough.0 + (spare << 20)));
    }
    import.run(out, &threads, &())
}

/// The ratings of one part by user, or of the training part by item, by ids.
fn triples(store: &Store, ratings: &dyn Ratings, side: Side) -> Triples {
    let mut triples = Triples::new();
    let mut scratch = RowScratch::default();
    for index in 0..ratings.blocks(side) {
        let block = ratings.block(side, index).unwrap();
        block.check().unwrap();
        for i in 0..block.rows() {
            let own = store.dictionary(side).id(block.first_row() + i).unwrap();
            let row = block.row(i, &mut scratch);
            for (&col, &value) in row.cols.iter().zip(row.values) {
                let other = store.dictionary(side.other()).id(col as usize).unwrap();
                let (user, item) = match side {
                    Side::Users => (own, other),
                    Side::Items => (other, own),
                };
                triples.insert((user.to_owned(), item.to_owned(), value.to_bits()));
            }
        }
    }
    triples
}

/// Compares a store with the twin.
fn compare(path: &Path, report: &Report, twin: &Twin, case: &Case) {
    let store = Store::open(path).unwrap();
    store.verify(&mut |_| {}).unwrap();
    let ids = |side: Side| -> Vec<String> {
        let dictionary = store.dictionary(side);
        (0..dictionary.len())
            .map(|row| dictionary.id(row).unwrap().to_owned())
            .collect()
    };
    let part = |part: Part| {
        store
            .part(part)
            .map_or_else(Triples::new, |rows| triples(&store, &rows, Side::Users))
    };
    let found = Twin {
        train: part(Part::Train),
        validation: part(Part::Validation),
        test: part(Part::Test),
        users: ids(Side::Users),
        items: ids(Side::Items),
        duplicates: report.manifest.input.duplicates,
        overlap: report.overlap,
    };
    assert_eq!(&found, twin);
    assert_eq!(triples(&store, &store, Side::Items), twin.train);

    let manifest = store.manifest();
    let lines = |lines: &Vec<Line>| text(lines, case.times, case.style).lines().count();
    let lines = lines(&case.lines) + case.test_file.as_ref().map_or(0, lines);
    assert_eq!(
        (manifest.input.lines, manifest.input.bad_lines),
        (lines as u64, 0)
    );
    assert_eq!(manifest.ratings, twin.train.len() as u64);
    let mut fingerprint = Fingerprint::default();
    for (user, item, value) in &twin.train {
        fingerprint.add(
            key(user.as_bytes()),
            key(item.as_bytes()),
            f32::from_bits(*value),
        );
    }
    assert_eq!(manifest.fingerprint, fingerprint);
    let values = |triples: &Triples| -> Vec<f32> {
        triples
            .iter()
            .map(|(_, _, value)| f32::from_bits(*value))
            .collect()
    };
    let all = [&twin.train, &twin.validation, &twin.test]
        .map(values)
        .concat();
    let low = all.iter().copied().fold(f32::INFINITY, f32::min);
    let high = all.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    assert_eq!(manifest.scale, (low, high));
    let train = values(&twin.train);
    let mean = train.iter().map(|&x| f64::from(x)).sum::<f64>() / train.len() as f64;
    assert!((manifest.mean - mean).abs() <= 1e-12 * high.abs().max(low.abs()) as f64 + 1e-12);
    let mut histogram: Vec<(f32, u64)> = Vec::new();
    let mut sorted = train;
    sorted.sort_by(f32::total_cmp);
    for value in sorted {
        match histogram.last_mut() {
            Some((last, count)) if *last == value => *count += 1,
            _ => histogram.push((value, 1)),
        }
    }
    let histogram = (histogram.len() <= 256).then_some(histogram);
    assert_eq!(manifest.histogram, histogram);
}

fn check(case: &Case) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("s");
    let imported = import(case, &out);
    match (twin(case), imported) {
        (None, imported) => {
            let error = imported.unwrap_err();
            assert!(error.to_string().contains("more than once"), "{error}");
            assert!(!out.exists());
        }
        (Some(twin), imported) if twin.train.is_empty() => {
            let error = imported.unwrap_err();
            assert!(
                error.to_string().contains("all ratings are held out"),
                "{error}"
            );
            assert!(!out.exists());
        }
        (Some(twin), imported) => compare(&out, &imported.unwrap(), &twin, case),
    }
}

fn an_id() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (0..15_u32).prop_map(|n| n.to_string()),
        1 => (0..3_u32).prop_map(|n| format!("00{n}")),
        2 => "[a-c]{1,2}",
        1 => "[ab],\"[ü–]",
        1 => Just("a b".to_owned()),
    ]
}

fn a_rating() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => (1..=10_u8).prop_map(|half| f32::from(half) / 2.0),
        1 => -1e6_f32..1e6,
    ]
}

fn a_text(most: usize) -> impl Strategy<Value = Vec<Line>> {
    let line = (an_id(), an_id(), a_rating(), 0..40_i64);
    let line = line.prop_map(|(user, item, rating, time)| Line {
        user,
        item,
        rating,
        time,
    });
    proptest::collection::vec(line, 1..most)
}

fn a_split() -> impl Strategy<Value = Split> {
    let share = || prop_oneof![Just(0.0), 0.0..0.9_f64];
    // Of nothing a test part is refused.
    (0..3_u8, 0.01..0.9_f64, 1..4_usize, share(), 0..5_u64).prop_map(
        |(kind, share, last, validation_fraction, seed)| Split {
            test: match kind {
                1 => HoldOut::Fraction(share),
                2 => HoldOut::Last(last),
                _ => HoldOut::Nothing,
            },
            validation_fraction,
            seed,
        },
    )
}

prop_compose! {
    fn a_case()(
        lines in a_text(250),
        test_file in proptest::option::weighted(0.3, a_text(40)),
        mut split in a_split(),
        times in proptest::bool::weighted(0.7),
        duplicates in prop_oneof![
            3 => Just(Duplicates::Last),
            3 => Just(Duplicates::First),
            3 => Just(Duplicates::Mean),
            1 => Just(Duplicates::Error),
        ],
        encoding in prop_oneof![Just(Encoding::Packed), Just(Encoding::Plain)],
        shard_bytes in prop_oneof![1 => Just(0_u64), 4 => 200..2000_u64, 4 => Just(1 << 20)],
        chunk_bytes in 1..2000_usize,
        threads in 1..4_usize,
        spare in proptest::option::of(prop_oneof![Just(0), 0..64_u64]),
        (quotes, blanks, returns, open_end) in any::<(bool, bool, bool, bool)>(),
    ) -> Case {
        if test_file.is_some() {
            split.test = HoldOut::Nothing;
        }
        let times = times || split.needs_times();
        let style = Style { quotes, blanks, returns, open_end };
        Case { lines, test_file, times, duplicates, split, encoding, shard_bytes, chunk_bytes, threads, spare, style }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_import_does_what_its_twin_does(case in a_case()) {
        check(&case);
    }

    /// Where times tell duplicates apart, a store is the same to the byte for any order of lines.
    #[test]
    fn the_order_of_lines_leaves_no_trace(
        (case, order) in a_case().prop_flat_map(|case| {
            let order = Just((0..case.lines.len()).collect::<Vec<_>>()).prop_shuffle();
            (Just(case), order)
        })
    ) {
        let mut case = Case { times: true, test_file: None, ..case };
        for (line, time) in case.lines.iter_mut().zip(1000..) {
            line.time = (time * 7919) % 100_003;
        }
        let stores = || -> Option<(TempDir, _)> {
            let folder = tempfile::tempdir().unwrap();
            let out = folder.path().join("s");
            import(&case, &out).ok()?;
            let files = crate::tree::tree(&out);
            Some((folder, files))
        };
        let first = stores().map(|(_, files)| files);
        let lines = order.iter().map(|&at| case.lines[at].clone()).collect();
        case.lines = lines;
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("s");
        let second = import(&case, &out).ok().map(|_| crate::tree::tree(&out));
        prop_assert!(first == second);
    }
}

/// Imports in the smallest budget, on one thread and on three, and compares every byte with an import in memory.
fn leaves_no_trace(lines: Vec<Line>, times: bool, split: Split) {
    let folder = tempfile::tempdir().unwrap();
    let mut case = Case {
        lines,
        test_file: None,
        times,
        duplicates: Duplicates::Last,
        split,
        encoding: Encoding::Packed,
        shard_bytes: 256 << 10,
        chunk_bytes: 64 << 10,
        threads: 2,
        spare: None,
        style: Style::default(),
    };
    let roomy = folder.path().join("roomy");
    let report = import(&case, &roomy).unwrap();
    assert_eq!(report.spilled, 0);
    let (files, roomy_manifest) = (crate::tree::tree(&roomy), report.manifest);
    for threads in [1, 3] {
        (case.spare, case.threads) = (Some(0), threads);
        let tight = folder.path().join(format!("tight{threads}"));
        let report = import(&case, &tight).unwrap();
        assert!(report.spilled > 0);
        assert_eq!(report.manifest, roomy_manifest);
        assert!(crate::tree::tree(&tight) == files, "{threads}");
    }
}

/// Many long ids in the smallest budget: ids are closed in generations, records spill, and no trace of it is left.
#[test]
fn ids_and_records_that_spill_leave_no_trace() {
    let count = 220_000;
    let line = |at: u64| {
        // A user comes back after a long while, when the generation that knew them is closed.
        let draw = mix(1, at);
        let (user, item) = (draw % 40_000, (draw >> 20) % 3_000);
        Line {
            user: format!("a user with a name that is rather long, number {user}"),
            item: format!("an item of the same kind, {item}"),
            rating: (draw % 1000) as f32 / 7.0,
            time: (at * 7919 % count) as i64,
        }
    };
    let split = Split {
        test: HoldOut::Last(1),
        validation_fraction: 0.1,
        ..Split::default()
    };
    leaves_no_trace((0..count).map(line).collect(), true, split);
}

/// About as many ids as ratings, on both sides: what the smallest budget holds of them is a fraction, and the keys of
/// items, 8 bytes each, are more than their share. An array of 16 bytes for each id would be half of all the room.
#[test]
fn as_many_ids_as_ratings_leave_no_trace() {
    let count = 320_000;
    let line = |at: u64| Line {
        user: format!("u{}", at * 7919 % count % 290_000),
        item: format!("product {}", at * 104_729 % count % 270_000),
        rating: (mix(2, at) % 5) as f32,
        time: 0,
    };
    let split = Split {
        test: HoldOut::Fraction(0.1),
        ..Split::default()
    };
    leaves_no_trace((0..count).map(line).collect(), false, split);
}
