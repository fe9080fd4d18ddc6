//! What hostile bytes are given to, each a function of bytes that must neither panic nor accept what contradicts itself.
//!
//! `cargo fuzz run TARGET --features libfuzzer` explores them by coverage; `tests/suite/fuzz.rs` needs no nightly compiler
//! and changes a corpus by its own rules. Both take a case apart in the same way: bytes of files are sealed with the right
//! checksums half of the time, since otherwise hardly any would get past the first look.

mod mutation;
pub mod sealing;

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use lowrank::ingest::{
    Consumer, FORMATS, Import, Input, RawRating, ReadOptions, Split, bundled_titles, read_pairs,
    read_ratings, read_titles,
};
use lowrank::loss::Formula;
use lowrank::matrix::{Ratings, RowScratch, Side, Tiles};
use lowrank::memory::Bytes;
use lowrank::model::{Checkpoint, Model, Record, Run};
use lowrank::solver::Options;
use lowrank::store::{
    AtomicDir, Dictionary, Encoding, Kind, Manifest, Part, Shard, Store, kind_of,
};
use lowrank::train::Trainer;
use lowrank::{Result, Threads};

pub use mutation::{Random, mutated};
use sealing::{relinked, seal};

/// A target: its name, what it does with a case, and cases to begin with.
pub struct Target {
    /// The name, also of its corpus.
    pub name: &'static str,
    run: fn(&Bench, &[u8]),
    /// Well-formed cases.
    seeds: fn() -> Vec<Vec<u8>>,
    /// How many of a hundred cases are its own: the longer they take, the fewer.
    pub share: u64,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target {
        name: "delimited",
        run: delimited,
        seeds: texts,
        share: 18,
    },
    Target {
        name: "zip",
        run: zip,
        seeds: archives,
        share: 14,
    },
    Target {
        name: "shard",
        run: shard,
        seeds: || {
            files(&[
                "s/by_user/00000.shard",
                "s/by_item/00000.shard",
                "plain/by_user/00000.shard",
            ])
        },
        share: 16,
    },
    Target {
        name: "dictionary",
        run: dictionary,
        seeds: || files(&["s/items.dict"]),
        share: 14,
    },
    Target {
        name: "manifest",
        run: manifest,
        seeds: || files(&["s/manifest"]),
        share: 8,
    },
    Target {
        name: "tiles",
        run: tiles,
        seeds: || {
            files(&[
                "s/tiles/index",
                "s/tiles/00000.tiles",
                "plain/tiles/00000.tiles",
            ])
        },
        share: 6,
    },
    Target {
        name: "times",
        run: times,
        seeds: || files(&["timed/by_user/00000.times"]),
        share: 6,
    },
    Target {
        name: "model",
        run: model,
        seeds: || {
            files(&[
                "m/model",
                "m.checkpoint/model",
                "m/users.factors",
                "m/run.json",
            ])
        },
        share: 4,
    },
    Target {
        name: "formula",
        run: formula,
        seeds: formulas,
        share: 14,
    },
];

/// Runs a case of the target of this name.
///
/// # Panics
/// If there is no such target, or lowrank does what it must not.
pub fn run(name: &str, case: &[u8]) {
    thread_local! {
        static BENCH: RefCell<Option<Bench>> = const { RefCell::new(None) };
    }
    let target = TARGETS.iter().find(|target| target.name == name);
    let target = target.expect("a target of this name");
    BENCH.with_borrow_mut(|bench| (target.run)(bench.get_or_insert_with(Bench::new), case));
}

/// Cases to begin with: well-formed ones, and those kept in `fuzz/corpus`, which explorers have found worth keeping.
pub fn cases(target: &Target) -> Vec<Vec<u8>> {
    let mut cases = (target.seeds)();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let corpus = corpus.map(|root| root.join("fuzz/corpus").join(target.name));
    if let Some(entries) = corpus.filter_map(|folder| fs::read_dir(folder).ok()).next() {
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.sort();
        cases.extend(files.iter().map(|file| fs::read(file).expect("a case")));
    }
    cases
}

/// A folder in memory with a store, a model and a checkpoint, for cases to be put into.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let bench = Bench {
            folder: folder.expect("a temporary folder"),
        };
        bench.build().expect("a store and a model");
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts a case in a file's place; half of the cases with right checksums. The last byte decides.
    fn put(&self, name: &str, case: &[u8]) -> PathBuf {
        let path = self.path(name);
        let mut case = case.to_vec();
        if case.pop().is_some_and(|last| last.is_multiple_of(2)) {
            seal(&mut case);
        }
        fs::write(&path, case).expect("room for a case");
        path
    }

    /// Looks at the folder with a case in a file's place, and puts the file back: before the next case, should it panic.
    /// The record that speaks of the file speaks of the case meanwhile.
    fn swapped(&self, name: &str, record: &str, case: &[u8], look: impl FnOnce()) {
        let kept = |name: &str| {
            let kept = self.path(&name.replace('/', "-"));
            if !kept.exists() {
                fs::copy(self.path(name), &kept).expect("it was built");
            }
            kept
        };
        let (file, of_record) = (kept(name), kept(record));
        self.put(name, case);
        let read = |path: &Path| fs::read(path).expect("it was written");
        if name != record {
            let changed = relinked(&read(&of_record), &read(&file), &read(&self.path(name)));
            fs::write(self.path(record), changed).expect("room for a record");
        }
        look();
        // Not by a copy, which gives up when the timer of libFuzzer goes off.
        for (name, kept) in [(name, file), (record, of_record)] {
            fs::write(self.path(name), read(&kept)).expect("room for what was there");
        }
    }

    fn build(&self) -> Result<()> {
        let threads = Threads::new(Some(1))?;
        fs::write(self.path("in.csv"), ratings()).expect("room for ratings");
        let titles = [("i1", "One"), ("i2", "Two, three")];
        let import = Import {
            inputs: vec![Input::from(self.path("in.csv"))],
            read: ReadOptions::default(),
            test: None,
            split: Split {
                test: lowrank::ingest::HoldOut::Fraction(0.2),
                ..Split::default()
            },
            duplicates: lowrank::ingest::Duplicates::Last,
            times: false,
            titles: Some(titles.map(|(id, title)| (id.into(), title.into())).into()),
            encoding: Encoding::Packed,
            shard_bytes: 1 << 20,
            memory: None,
            force: true,
        };
        import.run(&self.path("s"), &threads, &())?;
        let import = Import {
            encoding: Encoding::Plain,
            ..import
        };
        import.run(&self.path("plain"), &threads, &())?;
        let import = Import {
            times: true,
            ..import
        };
        import.run(&self.path("timed"), &threads, &())?;
        let store = Store::open(self.path("s"))?;
        let options = Options {
            solver: "sgd".into(),
            rank: 3,
            epochs: 2,
            ..Options::default()
        }
        .resolved();
        let state = Trainer::new(&store, options.clone()).run(&threads)?;
        Store::open(self.path("plain"))?.tiles()?;
        let run = Run {
            epochs: state.paces.clone(),
            seconds: 1.0,
            threads: 1,
            memory: 1,
            store: "s".into(),
        };
        let checkpoint = self.path("m.checkpoint");
        Checkpoint::save(&checkpoint, &state, &options, None, &store, &run)?;
        let dir = AtomicDir::create(self.path("m"), true)?;
        Model::save(dir, state, &options, None, &store, &run)
    }
}

/// Bytes of files of a fresh store and model, each with a byte that asks for checksums.
fn files(names: &[&str]) -> Vec<Vec<u8>> {
    let bench = Bench::new();
    let read = |name: &&str| {
        let mut bytes = fs::read(bench.path(name)).expect("it was built");
        bytes.push(0);
        bytes
    };
    names.iter().map(read).collect()
}

fn ratings() -> String {
    let mut text = "user,item,rating,time\n".to_owned();
    for user in 0..9 {
        for item in (0..7).filter(|item| (user * 5 + item * 3) % 4 != 1) {
            text += &format!("u{user},i{item},{},{}\n", 1 + (user + item) % 5, 100 + item);
        }
    }
    text
}

/// Takes ratings in, and looks at what every consumer relies on.
struct Checking;

impl Consumer for Checking {
    type Chunk = u64;
    fn begin(&self) -> u64 {
        0
    }
    fn ratings(&self, seen: &mut u64, ratings: &[RawRating<'_>]) {
        for rating in ratings {
            assert!(!rating.user.is_empty() && !rating.item.is_empty());
            assert!(std::str::from_utf8(rating.user).is_ok());
            assert!(std::str::from_utf8(rating.item).is_ok());
            assert!(rating.rating.is_finite());
        }
        *seen += ratings.len() as u64;
    }
    fn commit(&mut self, _seen: u64) -> Result<()> {
        Ok(())
    }
}

/// Text of any format: the first byte chooses among them, and the size of chunks.
fn delimited(bench: &Bench, case: &[u8]) {
    let Some((&first, text)) = case.split_first() else {
        return;
    };
    let input = bench.path("case");
    fs::write(&input, text).expect("room for a case");
    let options = ReadOptions {
        format: FORMATS
            .get(usize::from(first >> 1) % (2 * FORMATS.len()))
            .copied(),
        skip_bad_lines: first % 2 == 1,
        chunk_bytes: 16 + usize::from(first),
        ..ReadOptions::default()
    };
    let input = Input::from(input);
    let _ = read_pairs(&input, Bytes(1 << 20), |user, item| {
        assert!(!user.is_empty() && !item.is_empty());
        Ok(())
    });
    let _ = read_titles(&input, Bytes(1000));
    let _ = read_ratings(&[input], &options, &mut Checking);
}

fn zip(bench: &Bench, case: &[u8]) {
    let input = bench.path("case.zip");
    fs::write(&input, case).expect("room for a case");
    let input = Input::from(input);
    let _ = bundled_titles(&input, Bytes(1 << 20));
    let _ = read_ratings(&[input], &ReadOptions::default(), &mut Checking);
}

/// What is not refused has rows in order, within their bounds.
fn shard(bench: &Bench, case: &[u8]) {
    let path = bench.put("case.shard", case);
    let Ok(shard) = Shard::open(path) else {
        return;
    };
    let width = shard.layout().width;
    let Ok(block) = shard.block() else {
        return;
    };
    let (scratch, mut ratings) = (&mut RowScratch::default(), 0);
    for i in 0..block.rows() {
        let row = block.row(i, scratch);
        assert_eq!(row.cols.len(), row.values.len());
        assert!(row.cols.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(row.cols.iter().all(|&col| col < width));
        assert!(row.values.iter().all(|value| value.is_finite()));
        ratings += row.cols.len() as u64;
    }
    assert_eq!(ratings, shard.entry().ratings);
}

fn dictionary(bench: &Bench, case: &[u8]) {
    let path = bench.put("case.dict", case);
    let Ok(dictionary) = Dictionary::open(path) else {
        return;
    };
    let _ = dictionary.lookup("i3");
    let _ = dictionary.find_title("three");
    if dictionary.verify().is_ok() {
        for row in 0..dictionary.len() {
            let id = dictionary.id(row).expect("verified");
            assert_eq!(dictionary.lookup(id).expect("verified"), Some(row as u32));
        }
    }
}

fn manifest(bench: &Bench, case: &[u8]) {
    bench.swapped("s/manifest", "s/manifest", case, || {
        if Manifest::read(&bench.path("s")).is_ok()
            && let Ok(store) = Store::open(bench.path("s"))
        {
            let _ = store.rating_counts(Side::Users);
            let _ = store.part(Part::Test).map(|rows| rows.find(3).map(drop));
            let _ = store.verify(&mut |_| {});
        }
    });
}

/// The index, or a wave, in the place of that of either store.
fn tiles(bench: &Bench, case: &[u8]) {
    let name = match kind_of(&bench.put("case.tiles", case)) {
        Some(Kind::TilesIndex) => "index",
        _ => "00000.tiles",
    };
    for store in ["s", "plain"] {
        let at = |name: &str| format!("{store}/tiles/{name}");
        bench.swapped(&at(name), &at("index"), case, || {
            let store = Store::open(bench.path(store)).expect("it was built");
            let _ = store.verify(&mut |_| {});
            let Ok(Some(tiles)) = store.stored_tiles() else {
                return;
            };
            let (grid, shape) = (tiles.grid(), store.shape());
            for number in 0..grid.bands() {
                let Ok(wave) = tiles.wave(number) else {
                    continue;
                };
                wave.for_each_rating(grid, number, |user, item, value| {
                    assert!((user as usize) < shape.users && (item as usize) < shape.items);
                    assert!(value.is_finite());
                });
            }
        });
    }
}

/// What is not refused has a time for each rating.
fn times(bench: &Bench, case: &[u8]) {
    bench.swapped("timed/by_user/00000.times", "timed/manifest", case, || {
        let Ok(store) = Store::open(bench.path("timed")) else {
            return;
        };
        let verified = store.verify(&mut |_| {}).is_ok();
        let rows = store.part(Part::Train).expect("it was built");
        for (user, count) in (0..).zip(store.rating_counts(Side::Users).expect("it was built")) {
            let mut times = Vec::new();
            match rows.times_of(user, count as usize, &mut times) {
                Ok(()) => assert_eq!(times.len(), count as usize),
                Err(_) => assert!(!verified),
            }
        }
    });
}

/// A record, a file of factors or what a run took, in the place of the model's and of the checkpoint's.
fn model(bench: &Bench, case: &[u8]) {
    let name = match kind_of(&bench.put("case.record", case)) {
        Some(Kind::Factors) => "users.factors",
        _ if case.starts_with(b"{") => "run.json",
        _ => "model",
    };
    for folder in ["m", "m.checkpoint"] {
        let path = bench.path(folder);
        let at = |name: &str| format!("{folder}/{name}");
        bench.swapped(&at(name), &at("model"), case, || {
            let _ = Checkpoint::open(&path);
            let Ok(record) = Record::read(&path) else {
                return;
            };
            let _ = record.state_memory();
            let _ = Model::verify(&path, &mut |_| {});
            if let Ok(model) = Model::open(&path) {
                let _ = model.predict(Some(0), Some(1));
                let _ = model.find_item("three");
            }
        });
    }
}

fn formula(_bench: &Bench, case: &[u8]) {
    let Ok(text) = std::str::from_utf8(case) else {
        return;
    };
    if let Ok(formula) = Formula::parse(text, &["p", "r"]) {
        for point in [[0.0, 0.0], [1.5, -2.0], [f64::MAX, f64::MIN_POSITIVE]] {
            let _ = formula.evaluate(&point);
        }
    }
}

fn texts() -> Vec<Vec<u8>> {
    let texts = [
        "user,item,rating,time\nu1,i1,4.5,100\nu2,i2,1,200\n",
        "1::2::3.5::978300760\n2::3::4::978300761\n",
        "7\t3\t5\t881250949\n8\t4\t1\t881250950\n",
        "%%MatrixMarket matrix coordinate real general\n% c\n3 3 2\n1 2 3.5\n3 3 1e-2\n",
        "0 1 3.5\n2 0 1\n",
        "0 1:3 2:4.5\n1 0:1\n",
        "\"a,b\",\"c \"\"d\"\"\",5\r\n\u{e9},x,0.5\r\n",
        "a;b;3\nb;c;-1.25e2\n",
    ];
    let case = |(number, text): (usize, &&str)| {
        let mut case = vec![(number * 5) as u8];
        case.extend_from_slice(text.as_bytes());
        case
    };
    texts.iter().enumerate().map(case).collect()
}

fn formulas() -> Vec<Vec<u8>> {
    let texts = [
        "0.5*(p-r)^2",
        "log(1+exp(-r*p))",
        "where(abs(p-r)-1, abs(p-r)-0.5, 0.5*(p-r)^2)",
        "max(0, 1-r*p)^2 + min(p, sqrt(r)) / tanh(2e-1)",
        "2^-p^r - log1p(.5)",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Archives as small as they can be, stored rather than deflated: mutations meet the structure, not noise.
fn archives() -> Vec<Vec<u8>> {
    let ratings = "userId,movieId,rating,timestamp\n1,2,3.5,4\n2,2,1,5\n";
    let titles = "movieId,title\n2,\"Two, three\"\n";
    let members: [&[(&str, &str)]; 3] = [
        &[("ml/ratings.csv", ratings)],
        &[("ml/ratings.csv", ratings), ("ml/movies.csv", titles)],
        &[("../../ratings.dat", "1::2::3::4\n"), ("u.item", "2|Two\n")],
    ];
    members.map(sealing::archive).into()
}
