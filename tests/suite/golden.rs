//! A small store and a small model of each version of the format, which open forever.
//!
//! The stores in [`GOLDEN`] are what [`IMPORT`] made of the sample in `tests/data`. Should the same text ever give other
//! bytes, that is a new format: it gets a version and a golden store of its own, and these stay. The model is what
//! `train golden-v1.store --rank 3 --epochs 5 --seed 1` made of the first of them when models became a promise. A later
//! training may give another; what this one predicts stays.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::program::Program;
use crate::tree::tree;
use lowrank::matrix::{Ratings, RowScratch, Side};
use lowrank::model::Model;
use lowrank::store::{Part, Store};

const IMPORT: &str = "import ratings.csv --titles movies.csv --test-fraction 0.2 \
    --validation-fraction 0.2 --seed 1";

/// In `tests/data`, and how they were made besides.
const GOLDEN: [(&str, &str); 2] = [
    ("golden-v1.store", "--encoding plain --shard-size 384"),
    (
        "golden-v1-packed.store",
        "--encoding packed --shard-size 576",
    ),
];

type Rated<'a> = (&'a str, &'a str, f32);

const TRAIN: [Rated<'_>; 15] = [
    ("11", "1", 0.5),
    ("11", "2", 1.5),
    ("11", "5", 0.5),
    ("11", "6", 3.0),
    ("31", "12", 5.0),
    ("31", "3", 0.5),
    ("31", "4", 2.0),
    ("31", "9", 4.5),
    ("7", "1", 5.0),
    ("7", "12", 3.0),
    ("7", "3", 5.0),
    ("9", "2", 3.0),
    ("9", "7", 0.5),
    ("2", "1", 5.0),
    ("4", "1", 2.0),
];
const VALIDATION: [Rated<'_>; 3] = [("11", "8", 0.5), ("9", "12", 3.5), ("6", "10", 4.0)];
const TEST: [Rated<'_>; 2] = [("2", "5", 2.0), ("6", "3", 3.0)];

const USERS: [&str; 7] = ["11", "31", "7", "9", "2", "6", "4"];
const ITEMS: [&str; 11] = ["1", "12", "3", "2", "5", "10", "4", "6", "7", "8", "9"];

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

/// All ratings of a part, in the order of one side.
fn rated<'a>(store: &'a Store, ratings: &dyn Ratings, side: Side) -> Vec<Rated<'a>> {
    let mut rated = Vec::new();
    for index in 0..ratings.blocks(side) {
        let block = ratings.block(side, index).unwrap();
        for i in 0..block.rows() {
            let own = store.dictionary(side).id(block.first_row() + i).unwrap();
            let mut scratch = RowScratch::default();
            let row = block.row(i, &mut scratch);
            for (&col, &value) in row.cols.iter().zip(row.values) {
                let other = store.dictionary(side.other()).id(col as usize).unwrap();
                rated.push(match side {
                    Side::Users => (own, other, value),
                    Side::Items => (other, own, value),
                });
            }
        }
    }
    rated
}

#[test]
fn the_stores_open_and_hold_what_they_held() {
    GOLDEN.iter().for_each(|(name, _)| holds_what_it_held(name));
}

fn holds_what_it_held(name: &str) {
    let store = Store::open(data(name)).unwrap();
    let verified = store.verify(&mut |_| {}).unwrap();
    assert_eq!((verified.files, verified.ratings), (8, 20));
    let ids = |side: Side| -> Vec<&str> {
        let dictionary = store.dictionary(side);
        (0..dictionary.len())
            .map(|row| dictionary.id(row).unwrap())
            .collect()
    };
    assert_eq!(ids(Side::Users), USERS);
    assert_eq!(ids(Side::Items), ITEMS);
    for (part, expected) in [
        (Part::Train, &TRAIN[..]),
        (Part::Validation, &VALIDATION),
        (Part::Test, &TEST),
    ] {
        let rows = store.part(part).unwrap();
        assert_eq!(rated(&store, &rows, Side::Users), expected, "{part}");
    }
    // The same by item, where users stand in the order of their numbers.
    let mut by_item = TRAIN;
    by_item.sort_by_key(|(_, item, _)| ITEMS.iter().position(|id| id == item));
    assert_eq!(rated(&store, &store, Side::Items), by_item);
    assert_eq!(store.blocks(Side::Items), 2);

    let titles = BTreeMap::from([
        ("1", "Quiet Harbour, The (1931)"),
        ("3", "Paper Lanterns (1954)"),
        ("12", "The \"Last\" Train (1960)"),
        ("5", "Café Sous la Pluie (1972)"),
    ]);
    for (row, id) in ITEMS.iter().enumerate() {
        assert_eq!(store.items().title(row).unwrap(), titles.get(id).copied());
        assert_eq!(store.items().lookup(id).unwrap(), Some(row as u32));
    }
}

#[test]
fn the_same_text_gives_the_same_bytes() {
    let program = Program::new();
    for name in ["ratings.csv", "movies.csv"] {
        program.write(name, fs::read(data(name)).unwrap());
    }
    for (store, options) in GOLDEN {
        program.done(&format!("{IMPORT} {options} --out {store}"));
        let (made, golden) = (tree(&program.path(store)), tree(&data(store)));
        assert_eq!(
            made.keys().collect::<Vec<_>>(),
            golden.keys().collect::<Vec<_>>()
        );
        for (name, bytes) in golden {
            assert!(made[&name] == bytes, "{store}/{name} has other bytes");
        }
    }
}

/// The manifest as `docs/format.md` describes it, for another crate than the one that wrote it.
mod described {
    use wincode::SchemaRead;

    #[derive(Debug, PartialEq, SchemaRead)]
    pub struct Manifest {
        pub options: Vec<(String, String)>,
        pub users: u64,
        pub items: u64,
        pub ratings: u64,
        pub encoding: u32,
        pub scale: (f32, f32),
        pub mean: f64,
        pub fingerprint: (u64, u64),
        pub histogram: Option<Vec<(f32, u64)>>,
        pub input: [u64; 3],
        pub dictionaries: [Seal; 2],
        pub shards: [Vec<Shard>; 4],
    }

    #[derive(Debug, PartialEq, SchemaRead)]
    pub struct Model {
        pub version: String,
        pub options: String,
        pub start: Option<u64>,
        pub shape: [u64; 3],
        pub fingerprint: (u64, u64),
        pub scale: (f32, f32),
        pub mean_and_std: (f32, f32),
        pub history: Vec<Epoch>,
        pub epoch: u64,
        pub finished: bool,
        pub files: [Seal; 4],
        pub best_files: Option<[Seal; 2]>,
        pub carried: Vec<Carried>,
    }

    #[derive(Debug, PartialEq, SchemaRead)]
    pub struct Epoch {
        pub epoch: u64,
        pub loss: f64,
        pub train_rmse: f64,
        pub others: [Option<f64>; 3],
    }

    #[derive(Debug, PartialEq, SchemaRead)]
    pub struct Carried {
        pub rows: u64,
        pub rank: u64,
        pub biases: bool,
        pub seal: Seal,
    }

    #[derive(Debug, PartialEq, SchemaRead)]
    pub struct Seal {
        pub bytes: u64,
        pub crc: u32,
    }

    #[derive(Debug, PartialEq, SchemaRead)]
    pub struct Shard {
        pub first_row: u64,
        pub rows: u64,
        pub ratings: u64,
        pub seal: Seal,
    }
}

/// The only section of a file that holds a record.
fn record_of(path: &str) -> Vec<u8> {
    let bytes = fs::read(data(path)).unwrap();
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    // The only entry of the section table: name, offset, length.
    assert_eq!(&bytes[64..72], b"record\0\0");
    bytes[word(72)..word(72) + word(80)].to_vec()
}

/// The length of a file, and the checksum of its header.
fn seal_of(path: &str) -> described::Seal {
    let file = fs::read(data(path)).unwrap();
    described::Seal {
        bytes: file.len() as u64,
        crc: u32::from_le_bytes(file[60..64].try_into().unwrap()),
    }
}

#[test]
fn another_crate_reads_the_manifest_by_its_description() {
    let record = record_of("golden-v1.store/manifest");
    let found: described::Manifest = wincode::deserialize_exact(&record).unwrap();

    let store = Store::open(data("golden-v1.store")).unwrap();
    let manifest = store.manifest();
    let seal = |path: String| seal_of(&format!("golden-v1.store/{path}"));
    let shards = |folder: &str, sizes: &[(u64, u64)]| -> Vec<described::Shard> {
        let mut first_row = 0;
        let of_size = |(index, &(rows, ratings)): (usize, &(u64, u64))| {
            first_row += rows;
            described::Shard {
                first_row: first_row - rows,
                rows,
                ratings,
                seal: seal(format!("{folder}/{index:05}.shard")),
            }
        };
        sizes.iter().enumerate().map(of_size).collect()
    };
    let (low, high) = {
        let hex = manifest.fingerprint.to_string();
        let half = |digits: &str| u64::from_str_radix(digits, 16).unwrap();
        (half(&hex[16..]), half(&hex[..16]))
    };
    let option = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let expected = described::Manifest {
        options: vec![
            option("duplicates", "last"),
            option("test-fraction", "0.2"),
            option("validation-fraction", "0.2"),
            option("seed", "1"),
        ],
        users: 7,
        items: 11,
        ratings: 15,
        encoding: 0,
        scale: (0.5, 5.0),
        mean: 41.0 / 15.0,
        fingerprint: (low, high),
        histogram: Some(vec![
            (0.5, 4),
            (1.5, 1),
            (2.0, 2),
            (3.0, 3),
            (4.5, 1),
            (5.0, 4),
        ]),
        input: [21, 0, 0],
        dictionaries: [seal("users.dict".into()), seal("items.dict".into())],
        shards: [
            shards("by_user", &[(7, 15)]),
            shards("by_item", &[(7, 12), (4, 3)]),
            shards("validation", &[(7, 3)]),
            shards("test", &[(7, 2)]),
        ],
    };
    assert_eq!(found, expected);
}

#[test]
fn another_crate_reads_a_model_by_its_description() {
    let record = record_of("golden-v1.model/model");
    let found: described::Model = wincode::deserialize_exact(&record).unwrap();
    let options: serde_json::Value = serde_json::from_str(&found.options).unwrap();
    assert_eq!(
        (&options["solver"], &options["rank"]),
        (&"als".into(), &3.into())
    );
    assert_eq!(found.version, "0.1.0");
    assert_eq!((found.shape, found.scale), ([7, 11, 15], (0.5, 5.0)));
    assert_eq!(found.mean_and_std, (41.0 / 15.0, 1.0));
    assert_eq!(
        (found.start, found.finished, found.best_files),
        (None, true, None)
    );
    let epochs: Vec<u64> = found.history.iter().map(|line| line.epoch).collect();
    assert_eq!((epochs, found.epoch), (vec![0, 1, 2, 3, 4, 5], 5));
    let last = &found.history[5];
    assert_eq!(format!("{:.6}", last.train_rmse), "0.043613");
    let others = last
        .others
        .map(|rmse| rmse.map(|rmse| format!("{rmse:.6}")));
    assert_eq!(
        others,
        [Some("1.420744".into()), Some("0.774866".into()), None]
    );
    assert!(last.loss < found.history[0].loss && found.carried.is_empty());
    let files = ["users.factors", "items.factors", "users.dict", "items.dict"];
    assert_eq!(
        found.files,
        files.map(|name| seal_of(&format!("golden-v1.model/{name}")))
    );
    // Rows one after the other without padding, then biases.
    let factors = fs::read(data("golden-v1.model/users.factors")).unwrap();
    let number = |at: usize| f32::from_le_bytes(factors[at..at + 4].try_into().unwrap());
    let model = Model::open(&data("golden-v1.model")).unwrap();
    let users = &model.parameters().users;
    for row in 0..7 {
        let own = [0, 1, 2].map(|k| number(128 + 4 * (3 * row + k)));
        assert_eq!(
            (users.row(row), users.bias(row)),
            (&own[..], number(256 + 4 * row))
        );
    }
}

#[test]
fn the_model_says_what_it_said() {
    let program = Program::new();
    let (model, store) = (data("golden-v1.model"), data("golden-v1.store"));
    let (model, store) = (model.display(), store.display());
    program.done(&format!("verify {model}"));
    let evaluated = program.done(&format!("evaluate {model} {store} --metrics rmse,mae"));
    for (metric, value) in [
        ("rmse", 0.774_866_374_253_230_2),
        ("mae", 0.713_075_041_770_935_1),
    ] {
        assert_eq!(evaluated[metric], value, "{metric}");
    }
    let predicted = program.done(&format!("predict {model} --user 11 --item 12"));
    assert_eq!(predicted["prediction"], 4.045_888);
    program.done(&format!("recommend {model} {store} --top 2 --out t.csv"));
    let recommended = fs::read_to_string(program.path("t.csv")).unwrap();
    assert_eq!(recommended, RECOMMENDED);
}

/// All that is done with stores and models can be done with those.
#[test]
fn the_stores_are_trained_on_and_the_model_is_updated() {
    for (store, _) in GOLDEN {
        let program = Program::new();
        for (from, to) in [(store, "s"), ("golden-v1.model", "m")] {
            for (name, bytes) in tree(&data(from)) {
                let path = program.path(to).join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, bytes).unwrap();
            }
        }
        program.write("new.csv", "userId,movieId,rating\n11,3,4\n77,1,5\n");
        for command in [
            "train s --out als --rank 2 --epochs 2",
            "train s --out sgd --solver sgd --rank 2 --epochs 2",
            "recommend m s --fold-in new.csv --top 3 --out t.csv",
            "explain m s --user 11 --item 12",
            "split s --out whole",
            "update s new.csv --out s --model m --model-out m --force",
            "verify s",
            "verify m",
            "evaluate m s",
        ] {
            program.done(command);
        }
    }
}

const RECOMMENDED: &str = "user,item,score,rank,title
11,12,4.045888,1,\"The \"\"Last\"\" Train (1960)\"
11,9,3.7018173,2,
31,6,3.2826612,1,
31,10,2.9279318,2,
7,2,3.7366817,1,
7,9,3.219346,2,
9,1,3.7858188,1,\"Quiet Harbour, The (1931)\"
9,3,3.4546103,2,Paper Lanterns (1954)
2,3,4.629075,1,Paper Lanterns (1954)
2,2,3.833694,2,
6,12,3.59062,1,\"The \"\"Last\"\" Train (1960)\"
6,9,3.4875836,2,
4,12,3.6427453,1,\"The \"\"Last\"\" Train (1960)\"
4,9,3.468116,2,
";
