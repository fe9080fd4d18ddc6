//! `lowrank cross-validate`

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use lowrank::Result;
use lowrank::evaluate::{METRICS, Metric};
use lowrank::solver::Options;
use lowrank::store::Store;
use lowrank::tune::{CrossValidation, Fold, Space};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::evaluate::{chosen, cut_offs};
use crate::session::{Session, aligned};
use crate::space::SpaceArgs;
use crate::table::{Lean, Table};

/// Measure options over K folds: each is held out once, and a model of the others is measured on it.
///
/// All ratings of the store are dealt into the folds, held out or not. One fold at a time lies in a directory beside the store.
#[derive(Debug, Args)]
pub struct CrossValidateArgs {
    /// The store whose ratings are dealt
    store: PathBuf,
    /// How many folds
    #[arg(long, value_name = "K", default_value_t = 5)]
    folds: usize,
    /// What to measure [default: rmse,mae, or recall,ndcg of a solver that does not learn ratings]
    #[arg(long, value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(METRICS.iter().map(|m| m.name)), hide_possible_values = true, value_name = "LIST")]
    metrics: Vec<String>,
    /// How many recommendations count: one number or several, with commas between them
    #[arg(long, value_delimiter = ',', default_value = "10", value_parser = clap::value_parser!(u32).range(1..), value_name = "LIST")]
    at: Vec<u32>,
    /// Seed of the hash that deals
    #[arg(long, value_name = "N", default_value_t = 0)]
    split_seed: u64,
    #[command(flatten)]
    space: SpaceArgs,
}

#[derive(Serialize)]
struct Outcome {
    options: Map<String, Value>,
    folds: Vec<Map<String, Value>>,
    mean: Map<String, Value>,
    standard_deviation: Map<String, Value>,
    seconds: f64,
}

/// Runs the command.
pub fn run(args: CrossValidateArgs, session: &Session) -> Result<()> {
    let began = Instant::now();
    let store = Store::open_within(&args.store, 0)?;
    let mut space = Space::default();
    args.space.add_to(&mut space);
    let options = args.space.base()?.overlaid(&space.only()?)?;
    let options = Options {
        early_stop: None,
        ..options.resolved()
    };
    let metrics: Vec<&'static Metric> = chosen(&args.metrics, &options.solver)?;
    let cross_validation = CrossValidation {
        store: &store,
        options: options.clone(),
        folds: args.folds,
        seed: args.split_seed,
        metrics: &metrics,
        cut_offs: &cut_offs(&args.at),
        memory: session.memory,
    };
    let mut scratch = args.store.clone().into_os_string();
    scratch.push(".folds");
    let folds = cross_validation.run(
        scratch.as_ref(),
        &session.threads,
        &session.bars,
        |number, fold| {
            let figures = fold.figures.iter();
            let figures = figures.map(|(name, value)| format!("  {name} {value:.6}"));
            session.say(format!("fold {number}{}", figures.collect::<String>()));
            Ok(())
        },
    )?;
    let of_fold = |fold: &Fold| {
        let figures = fold.figures.iter();
        figures
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect()
    };
    let mut table = Table::new([
        ("metric", Lean::Left),
        ("mean", Lean::Right),
        ("standard deviation", Lean::Right),
    ]);
    let (mut means, mut deviations) = (Map::new(), Map::new());
    for (at, (name, _)) in folds[0].figures.iter().enumerate() {
        let values: Vec<f64> = folds.iter().map(|fold| fold.figures[at].1).collect();
        let (mean, deviation) = mean_and_deviation(&values);
        means.insert(name.clone(), json!(mean));
        deviations.insert(name.clone(), json!(deviation));
        table.push([
            name.clone(),
            format!("{mean:.6}"),
            format!("{deviation:.6}"),
        ]);
    }
    let outcome = Outcome {
        options: options.named(),
        folds: folds.iter().map(of_fold).collect(),
        mean: means,
        standard_deviation: deviations,
        seconds: began.elapsed().as_secs_f64(),
    };
    let time = [("time", format!("{:.2} s", outcome.seconds))];
    session.print(&outcome, table.text() + &aligned(&time))
}

/// The mean, and the standard deviation of a sample.
fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares = values.iter().map(|x| (x - mean) * (x - mean));
    (mean, (squares.sum::<f64>() / (count - 1.0)).sqrt())
}
