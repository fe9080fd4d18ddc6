//! `lowrank inspect`

use std::path::{Path, PathBuf};

use clap::Args;
use lowrank::matrix::{Side, Tiles};
use lowrank::memory::Bytes;
use lowrank::model::{Record, Run, Updated, read_run};
use lowrank::store::{
    InputCounts, Kind, MANIFEST_FILE, MODEL_FILE, Part, ShardEntry, Store, kind_of,
};
use lowrank::{Error, ErrorKind, Result};
use serde::Serialize;
use serde_json::Value;

use crate::session::{Session, aligned, counted, grouped};
use crate::table::{Lean, Table, bar};
use crate::train::names;

/// Tell what a store or a model holds.
///
/// Of a store: its shape, its ratings, how they are spread over users and items, and its files. Of a model: its options,
/// where its ratings came from, and how well it fits them. With --json in full, each shard included.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The store or model to look at
    path: PathBuf,
}

/// What lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A store, though it may be damaged.
    Store,
    /// A model or a checkpoint, though it may be damaged.
    Model,
}

impl Subject {
    /// Tells what lies at a path.
    ///
    /// # Errors
    /// If there is nothing, or something else.
    pub fn of(path: &Path) -> Result<Subject> {
        std::fs::metadata(path).map_err(|e| Error::io(e, path))?;
        let what = match kind_of(path) {
            _ if path.join(MANIFEST_FILE).is_file() => return Ok(Subject::Store),
            _ if path.join(MODEL_FILE).is_file() => return Ok(Subject::Model),
            Some(Kind::Manifest | Kind::Model) => "this is one file of a store or model".to_owned(),
            Some(kind) => format!("this is {}, one file of a store or model", kind.noun()),
            None => "this is neither a store nor a model".to_owned(),
        };
        Err(Error::new(ErrorKind::Incompatible, what)
            .path(path)
            .remedy("name a directory that lowrank import or lowrank train wrote"))
    }
}

/// Runs the command.
pub fn run(args: InspectArgs, session: &Session) -> Result<()> {
    match Subject::of(&args.path)? {
        Subject::Store => {
            let store = Store::open_within(&args.path, 0)?;
            let mut plan = session.plan();
            let shape = store.manifest().shape();
            plan.hold("counts of ratings", 4 * (shape.users + shape.items) as u64);
            plan.rest(0)?;
            let store = StoreReport::of(&store)?;
            session.print(&store, store.text(&args.path))
        }
        Subject::Model => {
            let model = ModelReport::of(&args.path)?;
            session.print(&model, model.text(&args.path))
        }
    }
}

#[derive(Serialize)]
struct StoreReport {
    kind: &'static str,
    users: u64,
    items: u64,
    ratings: u64,
    validation: u64,
    test: u64,
    density: f64,
    mean: f64,
    scale: (f32, f32),
    titles: bool,
    times: bool,
    histogram: Option<Vec<Bin>>,
    ratings_per_user: Spread,
    ratings_per_item: Spread,
    bytes: u64,
    bytes_per_rating: f64,
    by_user: ShardsReport,
    by_item: ShardsReport,
    tiles: Option<TilesReport>,
    fingerprint: String,
    options: serde_json::Map<String, Value>,
    input: InputCounts,
}

#[derive(Serialize)]
struct Bin {
    rating: f32,
    count: u64,
}

/// How training ratings are spread over the rows of one side.
#[derive(Serialize)]
struct Spread {
    least: u32,
    tenth: u32,
    median: u32,
    nine_tenths: u32,
    most: u32,
}

#[derive(Serialize)]
struct ShardsReport {
    bytes: u64,
    bytes_per_rating: f64,
    encoding: String,
    shards: Vec<ShardEntry>,
}

/// The training ratings as tiles, for stochastic methods.
#[derive(Serialize)]
struct TilesReport {
    bytes: u64,
    bytes_per_rating: f64,
    bands: usize,
    coded: bool,
}

impl StoreReport {
    fn of(store: &Store) -> Result<StoreReport> {
        let manifest = store.manifest();
        let per_rating = |bytes: u64| bytes as f64 / manifest.ratings.max(1) as f64;
        let shards = |side: Side| {
            let shards = manifest.train(side).to_vec();
            let bytes = shards.iter().map(|shard| shard.seal.bytes).sum();
            ShardsReport {
                bytes,
                bytes_per_rating: per_rating(bytes),
                encoding: manifest.encoding.to_string(),
                shards,
            }
        };
        let (by_user, by_item) = (shards(Side::Users), shards(Side::Items));
        let tiles = store.stored_tiles()?.map(|tiles| TilesReport {
            bytes: tiles.bytes(),
            bytes_per_rating: per_rating(tiles.bytes()),
            bands: tiles.grid().bands(),
            coded: tiles.is_coded(),
        });
        let histogram = manifest.histogram.as_ref().map(|bins| {
            let bin = |&(rating, count): &(f32, u64)| Bin { rating, count };
            bins.iter().map(bin).collect()
        });
        Ok(StoreReport {
            kind: "store",
            users: manifest.users,
            items: manifest.items,
            ratings: manifest.ratings,
            validation: manifest.ratings_of(Part::Validation),
            test: manifest.ratings_of(Part::Test),
            density: manifest.shape().density(),
            mean: manifest.mean,
            scale: manifest.scale,
            titles: store.items().has_titles(),
            times: manifest.times.is_some(),
            histogram,
            ratings_per_user: Spread::of(store.rating_counts(Side::Users)?),
            ratings_per_item: Spread::of(store.rating_counts(Side::Items)?),
            bytes: store.bytes(),
            bytes_per_rating: per_rating(by_user.bytes + by_item.bytes),
            by_user,
            by_item,
            tiles,
            fingerprint: manifest.fingerprint.to_string(),
            options: manifest
                .options
                .iter()
                .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
                .collect(),
            input: manifest.input,
        })
    }

    fn text(&self, path: &Path) -> String {
        let held_out = |count: u64| match count {
            0 => "none".to_owned(),
            count => grouped(count),
        };
        let titles = if self.titles { ", with titles" } else { "" };
        let times = if self.times { ", with times" } else { "" };
        let text = aligned(&[
            ("store", path.display().to_string()),
            ("users", grouped(self.users)),
            ("items", grouped(self.items) + titles),
            (
                "ratings",
                format!("{} to train on{times}", grouped(self.ratings)),
            ),
            ("validation", held_out(self.validation)),
            ("test", held_out(self.test)),
            ("density", format!("{:.3} %", 100.0 * self.density)),
            ("mean", format!("{:.4}", self.mean)),
            ("scale", format!("{} to {}", self.scale.0, self.scale.1)),
        ]);
        [
            text,
            self.histogram_text(),
            self.spread_text(),
            self.files_text(),
        ]
        .join("\n")
    }

    /// A bar for each rating; for each range of ratings if there are many.
    fn histogram_text(&self) -> String {
        const MOST_BARS: usize = 20;
        const BAR: usize = 40;
        let Some(bins) = &self.histogram else {
            return "ratings have more than 256 different values\n".to_owned();
        };
        let lines: Vec<(String, u64)> = if bins.len() <= MOST_BARS {
            bins.iter()
                .map(|bin| (bin.rating.to_string(), bin.count))
                .collect()
        } else {
            let (low, high) = (bins[0].rating, bins[bins.len() - 1].rating);
            let step = (high - low) / MOST_BARS as f32;
            let mut counts = [0; MOST_BARS];
            for bin in bins {
                let at = ((bin.rating - low) / step) as usize;
                counts[at.min(MOST_BARS - 1)] += bin.count;
            }
            let from = |at: usize| format!("from {:.3}", low + step * at as f32);
            counts
                .into_iter()
                .enumerate()
                .map(|(at, count)| (from(at), count))
                .collect()
        };
        let most = lines.iter().map(|(_, count)| *count).max().unwrap_or(0);
        let mut table = Table::new([
            ("rating", Lean::Right),
            ("count", Lean::Right),
            ("share", Lean::Right),
            ("", Lean::Left),
        ]);
        for (rating, count) in lines {
            let share = 100.0 * count as f64 / self.ratings as f64;
            let bar = bar(count as f64 / most.max(1) as f64, BAR);
            table.push([rating, grouped(count), format!("{share:.1} %"), bar]);
        }
        table.text()
    }

    fn spread_text(&self) -> String {
        let mut table = Table::new([
            ("ratings of a", Lean::Left),
            ("least", Lean::Right),
            ("10 %", Lean::Right),
            ("median", Lean::Right),
            ("90 %", Lean::Right),
            ("most", Lean::Right),
        ]);
        for (noun, spread) in [
            ("user", &self.ratings_per_user),
            ("item", &self.ratings_per_item),
        ] {
            let count = |n: u32| grouped(u64::from(n));
            table.push([
                noun.to_owned(),
                count(spread.least),
                count(spread.tenth),
                count(spread.median),
                count(spread.nine_tenths),
                count(spread.most),
            ]);
        }
        table.text()
    }

    fn files_text(&self) -> String {
        let options: Vec<String> = self
            .options
            .iter()
            .map(|(name, value)| format!("--{name} {}", value.as_str().unwrap_or_default()))
            .collect();
        let mut input = vec![counted(self.input.lines, "line")];
        for (count, what) in [
            (self.input.bad_lines, "could not be read"),
            (self.input.duplicates, "repeated a pair"),
        ] {
            if count > 0 {
                input.push(format!("{} {what}", grouped(count)));
            }
        }
        let tiles = match &self.tiles {
            Some(tiles) => tiles.text(),
            None => "none yet".to_owned(),
        };
        aligned(&[
            ("files", Bytes(self.bytes).to_string()),
            ("by user", self.by_user.text()),
            ("by item", self.by_item.text()),
            (
                "both",
                format!("{:.2} bytes a rating", self.bytes_per_rating),
            ),
            ("tiles", tiles),
            ("imported", options.join(" ")),
            ("from", input.join(", ")),
            ("fingerprint", self.fingerprint.clone()),
        ])
    }
}

impl ShardsReport {
    fn text(&self) -> String {
        let sizes = || self.shards.iter().map(|shard| shard.seal.bytes);
        let size = match (sizes().min(), sizes().max()) {
            (Some(least), Some(most)) if least < most => {
                format!(" of {} to {}", Bytes(least), Bytes(most))
            }
            (Some(size), _) => format!(" of {}", Bytes(size)),
            _ => String::new(),
        };
        format!(
            "{}{size}, {}, {:.2} bytes a rating",
            counted(self.shards.len() as u64, "shard"),
            self.encoding,
            self.bytes_per_rating
        )
    }
}

impl TilesReport {
    fn text(&self) -> String {
        let values = if self.coded { "coded" } else { "plain" };
        let TilesReport {
            bands,
            bytes_per_rating,
            ..
        } = self;
        format!("{bands} x {bands}, {values}, {bytes_per_rating:.2} bytes a rating")
    }
}

impl Spread {
    fn of(mut counts: Vec<u32>) -> Spread {
        counts.sort_unstable();
        let at = |tenths: usize| {
            let last = counts.len().saturating_sub(1);
            counts.get(last * tenths / 10).copied().unwrap_or(0)
        };
        Spread {
            least: at(0),
            tenth: at(1),
            median: at(5),
            nine_tenths: at(9),
            most: at(10),
        }
    }
}

#[derive(Serialize)]
struct ModelReport {
    kind: &'static str,
    bytes: u64,
    #[serde(flatten)]
    record: Record,
    fingerprint_hex: String,
    updates: Vec<Updated>,
    run: Option<Run>,
}

impl ModelReport {
    fn of(path: &Path) -> Result<ModelReport> {
        let record = Record::read(path)?;
        Ok(ModelReport {
            kind: if record.finished {
                "model"
            } else {
                "checkpoint"
            },
            bytes: record.file_bytes(),
            fingerprint_hex: record.fingerprint.to_string(),
            updates: record.updates.clone(),
            record,
            // What a run took changes nothing about the model: it may be lost.
            run: read_run(path).ok(),
        })
    }

    fn text(&self, path: &Path) -> String {
        let record = &self.record;
        let biases = match record.options.biases {
            true => "with biases",
            false => "without biases",
        };
        let mut lines = vec![
            (self.kind, path.display().to_string()),
            ("solver", record.options.solver.clone()),
            ("factors", format!("{}, {biases}", record.options.rank)),
            ("users", grouped(record.shape.users as u64)),
            ("items", grouped(record.shape.items as u64)),
            ("trained on", counted(record.shape.ratings, "rating")),
            ("scale", format!("{} to {}", record.scale.0, record.scale.1)),
            ("mean", format!("{:.4}", record.mean)),
        ];
        if record.options.normalize {
            lines.push(("deviation", format!("{:.4}", record.std)));
        }
        if let Some(last) = self.updates.last() {
            let times = counted(self.updates.len() as u64, "time");
            let (users, items) = (counted(last.users, "user"), counted(last.items, "item"));
            let what = format!("{times} since it was trained, at last {users} and {items}");
            lines.push(("updated", what));
        }
        lines.push(("files", Bytes(self.bytes).to_string()));
        lines.push(("version", record.version.clone()));
        lines.push(("fingerprint", self.fingerprint_hex.clone()));
        if let Some(run) = &self.run {
            lines.push(("store", run.store.clone()));
            let threads = counted(run.threads as u64, "thread");
            lines.push((
                "time",
                format!(
                    "{:.2} s on {threads}, within {}",
                    run.seconds,
                    Bytes(run.memory)
                ),
            ));
        }
        [aligned(&lines), self.options_text(), self.history_text()].join("\n")
    }

    /// Every option that changes the result, as one would type it.
    fn options_text(&self) -> String {
        let mut text = String::from("options\n");
        for (name, value) in names(&self.record.options) {
            text += &format!("  {name} {value}\n");
        }
        text
    }

    /// The first epoch, the one whose factors these are, and the last.
    fn history_text(&self) -> String {
        let history = &self.record.history;
        let mut table = Table::new([
            ("epoch", Lean::Right),
            ("loss", Lean::Right),
            ("train rmse", Lean::Right),
            ("validation rmse", Lean::Right),
            ("test rmse", Lean::Right),
            ("", Lean::Left),
        ]);
        let shown = |rmse: Option<f64>| rmse.map_or(String::new(), |rmse| format!("{rmse:.6}"));
        for (at, epoch) in history.iter().enumerate() {
            let kept = epoch.epoch == self.record.epoch;
            if at > 0 && !kept && at + 1 < history.len() {
                continue;
            }
            table.push([
                epoch.epoch.to_string(),
                format!("{:.6e}", epoch.loss),
                format!("{:.6}", epoch.train_rmse),
                shown(epoch.validation_rmse),
                shown(epoch.test_rmse),
                if kept { "these factors" } else { "" }.to_owned(),
            ]);
        }
        table.text()
    }
}
