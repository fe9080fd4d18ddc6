//! `lowrank evaluate`

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use lowrank::Result;
use lowrank::evaluate::{METRICS, Metric, metric, rating_errors};
use lowrank::model::Model;
use lowrank::store::{Part, Store};
use serde_json::{Map, json};

use crate::session::{Session, aligned, counted, grouped};

/// Measure the predictions of a model.
///
/// Ids are what counts: the store may be another than the model was trained on. A user or item that the model does not
/// know gets what is known: the mean and the other side's bias.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// The model to measure
    model: PathBuf,
    /// The store with the ratings to compare with
    store: PathBuf,
    /// The part of the store to measure on
    #[arg(long, value_enum, default_value_t = PartArg::Test)]
    on: PartArg,
    /// What to measure
    #[arg(long, value_delimiter = ',', default_value = "rmse,mae", value_parser = metric_names(), value_name = "LIST")]
    metrics: Vec<String>,
    /// Take predictions as they are, rather than clipped to the scale of the ratings
    #[arg(long)]
    no_clip: bool,
}

/// A part of a store, as options name it.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum PartArg {
    Train,
    Validation,
    Test,
}

fn metric_names() -> Vec<&'static str> {
    METRICS.iter().map(|metric| metric.name).collect()
}

/// Runs the command.
pub fn run(args: EvaluateArgs, session: &Session) -> Result<()> {
    let metrics: Vec<&Metric> = args
        .metrics
        .iter()
        .map(|name| metric(name))
        .collect::<Result<_>>()?;
    let mut plan = session.plan();
    plan.hold("the model", Model::memory(&args.model)?);
    plan.rest(0)?;
    let model = Model::open(&args.model)?;
    let store = Store::open_within(&args.store, 0)?;
    let part = match args.on {
        PartArg::Train => Part::Train,
        PartArg::Validation => Part::Validation,
        PartArg::Test => Part::Test,
    };
    let errors = session
        .threads
        .run(|| rating_errors(&model, &store, part, !args.no_clip))?;
    let mut result = Map::new();
    let mut lines = Vec::new();
    for metric in metrics {
        let value = (metric.value)(&errors);
        result.insert(metric.name.to_owned(), json!(value));
        lines.push((metric.name, format!("{value:.6}")));
    }
    result.insert("ratings".into(), json!(errors.ratings));
    result.insert("unknown".into(), json!(errors.unknown));
    let of = format!("{} of the {part} part", counted(errors.ratings, "rating"));
    lines.push(("over", of));
    if errors.unknown > 0 {
        let unknown = format!(
            "{} of a user or item that the model does not know",
            grouped(errors.unknown)
        );
        lines.push(("unknown", unknown));
    }
    session.print(&result, aligned(&lines))
}
