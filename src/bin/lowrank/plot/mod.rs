//! `lowrank plot`

mod chart;
mod curves;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use lowrank::store::AtomicFile;
use lowrank::{Error, ErrorKind, Result};
use serde::Serialize;

use crate::outputs::expect_apart;
use crate::session::{Session, counted};
use crate::study;
pub use chart::{Chart, Line, Series, draw};
use curves::Curves;

/// Draw how training went: loss and RMSE by epoch or by second, or the study of a non-negative factorization.
///
/// Takes what `lowrank train --history` wrote, of one run or of several in one picture, or what `--study` wrote of one.
#[derive(Debug, Args)]
pub struct PlotArgs {
    /// Histories of training, or one study
    #[arg(required = true, value_name = "HISTORY")]
    histories: Vec<PathBuf>,
    /// The picture to make, as SVG; - is standard output
    #[arg(long, short, value_name = "FILE.svg")]
    out: PathBuf,
    /// What runs to the right
    #[arg(long, value_enum, default_value_t = Across::Epoch)]
    x: Across,
    /// What runs up: one panel for each, with commas between them [default: loss,rmse]
    #[arg(long, value_enum, value_delimiter = ',')]
    y: Vec<Up>,
    /// Draw what runs up on a logarithmic scale; a study always is
    #[arg(long)]
    log: bool,
    /// Draw what runs to the right on a logarithmic scale
    #[arg(long)]
    log_x: bool,
    /// Leave out the epochs before this one, which may dwarf all others
    #[arg(long, value_name = "N", default_value_t = 0)]
    from: u32,
    /// Replace the picture if it exists
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Across {
    Epoch,
    Seconds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Up {
    /// The total cost
    Loss,
    /// The RMSE of every part
    Rmse,
    TrainRmse,
    ValidationRmse,
    TestRmse,
}

impl Up {
    fn title(self) -> &'static str {
        match self {
            Up::Loss => "loss",
            Up::Rmse => "RMSE",
            Up::TrainRmse => "training RMSE",
            Up::ValidationRmse => "validation RMSE",
            Up::TestRmse => "test RMSE",
        }
    }

    /// The columns of a history that it shows, each with its name beside others and the way it is drawn.
    fn columns(self) -> &'static [(&'static str, &'static str, Line)] {
        const TRAIN: (&str, &str, Line) = ("train_rmse", "train", Line::Dashed);
        const VALIDATION: (&str, &str, Line) = ("validation_rmse", "validation", Line::Dotted);
        const TEST: (&str, &str, Line) = ("test_rmse", "test", Line::Solid);
        match self {
            Up::Loss => &[("loss", "", Line::Solid)],
            Up::Rmse => &[TRAIN, VALIDATION, TEST],
            Up::TrainRmse => &[TRAIN],
            Up::ValidationRmse => &[VALIDATION],
            Up::TestRmse => &[TEST],
        }
    }
}

#[derive(Serialize)]
struct Outcome<'a> {
    out: &'a Path,
    runs: usize,
    panels: usize,
}

/// Runs the command.
pub fn run(args: PlotArgs, session: &Session) -> Result<()> {
    let histories: Vec<_> = args.histories.iter().map(|path| Some(&**path)).collect();
    expect_apart(args.force, &[Some(&args.out)], &histories)?;
    let to_stdout = args.out.as_os_str() == "-";
    if to_stdout {
        session.give_stdout_to_data()?;
    } else if args.out.extension().is_none_or(|e| e != "svg") {
        let what = "the picture is drawn as SVG, and its name should say so";
        return Err(Error::new(ErrorKind::BadOption, what)
            .path(&args.out)
            .remedy("give it a name that ends in .svg"));
    } else if !args.force {
        AtomicFile::create(&args.out, false).map(drop)?;
    }
    let runs = args.histories.iter().map(|path| Curves::read(path));
    let runs: Vec<Curves> = runs.collect::<Result<_>>()?;
    let charts = match runs.iter().find(|run| run.has(study::FIRST_COLUMN)) {
        Some(study) if runs.len() > 1 => {
            let what = "this is a study, which has a picture of its own";
            return Err(Error::new(ErrorKind::BadOption, what)
                .path(study.path())
                .remedy("draw it alone"));
        }
        Some(study) => vec![study_chart(&args, study)?],
        None => history_charts(&args, &runs)?,
    };
    let svg = draw(&charts)?;
    if to_stdout {
        let written = io::stdout().lock().write_all(svg.as_bytes());
        return written.map_err(|e| Error::io(e, "<stdout>"));
    }
    let mut file = AtomicFile::create(&args.out, args.force)?;
    file.write_all(svg.as_bytes())
        .map_err(|e| Error::io(e, &args.out))?;
    file.commit()?;
    let outcome = Outcome {
        out: &args.out,
        runs: runs.len(),
        panels: charts.len(),
    };
    let text = format!(
        "{}: {} of {}\n",
        args.out.display(),
        counted(charts.len() as u64, "panel"),
        counted(runs.len() as u64, "run")
    );
    session.print(&outcome, text)
}

/// One panel for each quantity, with every run in it.
fn history_charts(args: &PlotArgs, runs: &[Curves]) -> Result<Vec<Chart>> {
    let wanted = match args.y.is_empty() {
        true => &[Up::Loss, Up::Rmse][..],
        false => &args.y,
    };
    let names = names(runs);
    let mut charts = Vec::new();
    for &up in wanted {
        let mut series = Vec::new();
        for (at, (run, name)) in runs.iter().zip(&names).enumerate() {
            let across = match args.x {
                Across::Epoch => run.column("epoch")?,
                Across::Seconds => running_sum(run.column("seconds")?),
            };
            let across = from(args.from, &run.column("epoch")?, across);
            for &(column, part, line) in up.columns() {
                // What the title says already is not said again beside each curve.
                let part = if up.columns().len() == 1 { "" } else { part };
                let points = points(&across, &run.column(column)?);
                if points.is_empty() {
                    continue;
                }
                series.push(Series {
                    name: format!("{name} {part}").trim_end().to_owned(),
                    // One colour a run; the parts of a run differ by their lines.
                    colour: at,
                    line,
                    points,
                });
            }
        }
        charts.push(Chart {
            title: up.title().to_owned(),
            across: match args.x {
                Across::Epoch => "epoch".to_owned(),
                Across::Seconds => "seconds".to_owned(),
            },
            log: args.log,
            log_across: args.log_x,
            series,
        });
    }
    Ok(charts)
}

/// All quantities of a study by iteration, on a logarithmic scale.
fn study_chart(args: &PlotArgs, study: &Curves) -> Result<Chart> {
    const QUANTITIES: &[(&str, &str, usize, Line)] = &[
        ("objective", "objective", 0, Line::Solid),
        ("objective_drop_v", "objective drop (items)", 1, Line::Solid),
        ("descent_v", "descent term (items)", 2, Line::Solid),
        ("inner_product", "inner product", 3, Line::Solid),
        (
            "inner_product_pairs",
            "inner product by pairs",
            4,
            Line::Dotted,
        ),
        ("theta_v", "theta, items", 5, Line::Solid),
        ("theta_u", "theta, users", 6, Line::Solid),
        (
            "singular_users_max",
            "largest singular value, users",
            7,
            Line::Solid,
        ),
        ("singular_users_min", "smallest, users", 7, Line::Dashed),
        (
            "singular_items_max",
            "largest singular value, items",
            8,
            Line::Solid,
        ),
        ("singular_items_min", "smallest, items", 8, Line::Dashed),
    ];
    let iterations = study.column(study::FIRST_COLUMN)?;
    let across = from(args.from, &iterations, iterations.clone());
    let series = QUANTITIES.iter().map(|&(column, name, colour, line)| {
        Ok(Series {
            name: name.to_owned(),
            colour,
            line,
            points: points(&across, &study.column(column)?),
        })
    });
    Ok(Chart {
        title: "non-negative factorization: every quantity of the study".to_owned(),
        across: "iteration".to_owned(),
        log: true,
        log_across: args.log_x,
        series: series.collect::<Result<_>>()?,
    })
}

/// Runs by the names of their files; with their folders, where files are named alike.
fn names(runs: &[Curves]) -> Vec<String> {
    let stem = |run: &Curves| -> String {
        let stem = run.path().file_stem().unwrap_or(run.path().as_os_str());
        stem.to_string_lossy().into_owned()
    };
    let stems: Vec<String> = runs.iter().map(stem).collect();
    let name = |(run, stem): (&Curves, &String)| match stems.iter().filter(|s| *s == stem).count() {
        1 => stem.clone(),
        _ => run.path().display().to_string(),
    };
    runs.iter().zip(&stems).map(name).collect()
}

/// Without what comes before an epoch.
fn from(first: u32, epochs: &[Option<f64>], across: Vec<Option<f64>>) -> Vec<Option<f64>> {
    let late = |epoch: &Option<f64>| epoch.is_some_and(|epoch| epoch >= f64::from(first));
    let pairs = across.into_iter().zip(epochs);
    pairs.map(|(x, epoch)| x.filter(|_| late(epoch))).collect()
}

/// The points at which both are known.
fn points(across: &[Option<f64>], up: &[Option<f64>]) -> Vec<(f64, f64)> {
    let pairs = across.iter().zip(up);
    pairs.filter_map(|(x, y)| Some(((*x)?, (*y)?))).collect()
}

fn running_sum(values: Vec<Option<f64>>) -> Vec<Option<f64>> {
    let mut sum = 0.0;
    let add = |value: Option<f64>| {
        sum += value?;
        Some(sum)
    };
    values.into_iter().map(add).collect()
}
