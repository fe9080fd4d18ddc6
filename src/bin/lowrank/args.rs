//! The commands, and what they share.

use clap::builder::Styles;
use clap::builder::styling::AnsiColor;
use clap::{Args, Parser, Subcommand};
use lowrank::memory::Bytes;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// An out-of-core recommender: factorizes ratings that do not fit in memory.
///
/// import -> train -> evaluate -> recommend. `lowrank demo` shows each step on generated ratings.
#[derive(Debug, Parser)]
#[command(name = "lowrank", version, styles = STYLES, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Import(crate::import::ImportArgs),
    Split(crate::split::SplitArgs),
    Update(crate::update::UpdateArgs),
    Train(Box<crate::train::TrainArgs>),
    Tune(Box<crate::tune::TuneArgs>),
    CrossValidate(Box<crate::cross_validate::CrossValidateArgs>),
    Evaluate(crate::evaluate::EvaluateArgs),
    Recommend(crate::recommend::RecommendArgs),
    Explain(crate::explain::ExplainArgs),
    Similar(crate::similar::SimilarArgs),
    Predict(crate::predict::PredictArgs),
    Export(crate::export::ExportArgs),
    Inspect(crate::inspect::InspectArgs),
    Verify(crate::verify::VerifyArgs),
    CheckGradients(crate::check_gradients::CheckGradientsArgs),
    Plot(crate::plot::PlotArgs),
    Generate(crate::generate::GenerateArgs),
    Demo(crate::demo::DemoArgs),
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Common {
    /// Memory to stay within, such as 512MiB [default: half of what is available]
    #[arg(long, global = true, value_name = "SIZE")]
    pub memory: Option<Bytes>,
    /// Threads to use; results do not depend on it [default: one for each core]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// Print the result as one JSON object on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// Print no messages and no progress
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

/// The help of an option that names a line of a table: what it is, then every name with what that is.
pub fn choices<'a>(what: &str, all: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let lines: String = all
        .map(|(name, summary)| format!("\n- {name}: {summary}"))
        .collect();
    format!("{what}:{lines}\n")
}
