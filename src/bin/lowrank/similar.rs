//! `lowrank similar`

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use lowrank::matrix::Side;
use lowrank::model::{GATHERED, Held, Model, Record};
use lowrank::progress::{Progress, Unit};
use lowrank::recommend::{
    Neighbours, RecommendationFormat, RecommendationText, Recommender, Search, Similar, UserTop,
    similar,
};
use lowrank::store::AtomicFile;
use lowrank::{Error, ErrorKind, Result};
use serde::Serialize;

use crate::session::{Session, aligned, counted, grouped};
use crate::table::{Lean, Table};

/// The items most like an item, or the users most like a user.
///
/// Likeness is the cosine of the angle between their factors: 1 for the same direction, 0 for nothing in common, -1 for
/// opposites. Biases do not count.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("whose").args(["item", "user", "all"]).required(true))]
pub struct SimilarArgs {
    /// The model to look in
    model: PathBuf,
    /// The item to compare with: its id, or its title or a part of it
    #[arg(long, value_name = "ID-OR-TITLE")]
    item: Option<String>,
    /// The user to compare with
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// List those most like every item, into a file
    #[arg(long, requires = "out")]
    all: bool,
    /// With --all, where to: .csv, or .jsonl for one JSON object a line
    #[arg(long, short, value_name = "FILE", requires = "all")]
    out: Option<PathBuf>,
    /// Replace the output if it exists
    #[arg(long, requires = "all")]
    force: bool,
    /// How many to list [default: 10, or all others]
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    top: Option<u32>,
}

#[derive(Serialize)]
struct Outcome<'a> {
    of: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    similar: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    rank: usize,
    cosine: f32,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
}

impl SimilarArgs {
    /// How many to list, of a side with so many rows.
    fn top(&self, side: Side, rows: usize) -> Result<usize> {
        let others = rows.saturating_sub(1);
        match self.top.map(|top| top as usize) {
            Some(top) if top > others => {
                let noun = side.noun();
                let what =
                    format!("lists of {top} are asked for, and each {noun} has {others} others");
                Err(Error::new(ErrorKind::BadOption, what).remedy("give a lower --top"))
            }
            Some(top) => Ok(top),
            None => Ok(others.min(10)),
        }
    }
}

/// Runs the command.
pub fn run(args: SimilarArgs, session: &Session) -> Result<()> {
    if let Some(out) = &args.out {
        return all(&args, out, session);
    }
    let mut plan = session.plan();
    let side = match args.item {
        Some(_) => Side::Items,
        None => Side::Users,
    };
    let top = args.top(side, Record::read(&args.model)?.shape.rows(side))?;
    plan.hold(
        "cosines",
        2 * ((top + GATHERED) * size_of::<Similar>()) as u64,
    );
    let held = Held::plan(&mut plan, &args.model, &[Held::Nothing])?;
    let model = Model::open_with(&args.model, held)?;
    let row = match (&args.item, &args.user) {
        (Some(item), _) => model.find_item(item)?,
        (None, user) => model.row(side, user.as_deref().unwrap_or_default())?,
    };
    let top = session.threads.run(|| similar(&model, side, row, top))?;
    let ids = model.dictionary(side);
    let of_rank = |(rank, other): (usize, &Similar)| {
        Ok(Line {
            rank,
            cosine: other.cosine,
            id: ids.id(other.row as usize)?,
            title: ids.title(other.row as usize)?,
        })
    };
    let outcome = Outcome {
        of: side.noun(),
        id: ids.id(row as usize)?,
        title: ids.title(row as usize)?,
        similar: (1..).zip(&top).map(of_rank).collect::<Result<_>>()?,
    };
    let mut table = Table::new([
        ("rank", Lean::Right),
        ("cosine", Lean::Right),
        (side.noun(), Lean::Left),
        ("title", Lean::Left),
    ]);
    for line in &outcome.similar {
        table.push([
            line.rank.to_string(),
            format!("{:.4}", line.cosine),
            line.id.to_owned(),
            line.title.unwrap_or_default().to_owned(),
        ]);
    }
    let title = outcome
        .title
        .map_or(String::new(), |title| format!(", {title}"));
    let like = format!("like {} {}{title}\n", outcome.of, outcome.id);
    session.print(&outcome, like + &table.text())
}

#[derive(Serialize)]
struct Written<'a> {
    items: u64,
    out: &'a Path,
}

/// The items most like every item, to a file.
fn all(args: &SimilarArgs, out: &Path, session: &Session) -> Result<()> {
    let record = Record::read(&args.model)?;
    let (items, rank) = (record.shape.items, record.options.rank);
    let (top, threads) = (args.top(Side::Items, items)?, session.threads.count());
    let mut plan = session.plan();
    plan.hold("factors of length 1", Neighbours::memory(items, rank));
    let searching = Recommender::memory(items, rank, top, Search::default(), threads);
    plan.hold("items made ready to search, and lists", searching);
    let held = Held::plan(&mut plan, &args.model, &[Held::Nothing])?;
    let mut file = AtomicFile::create(out, args.force)?;
    let model = Model::open_with(&args.model, held)?;
    let neighbours = Neighbours::new(&model, Side::Items)?;
    let format = RecommendationFormat::of(out);
    let text = RecommendationText::of_likeness(format, &model, Side::Items);
    let failed = |e: std::io::Error| Error::io(e, out);
    file.write_all(text.header().as_bytes()).map_err(failed)?;
    let bars = &session.bars;
    bars.begin("comparing", Some(items as u64), Unit::Users);
    let mut nothing_learnt = 0;
    session.threads.run(|| {
        let lines = |tops: Vec<UserTop>| {
            let without = tops.iter().filter(|top| !top.own).count() as u64;
            Ok((tops.len() as u64, without, text.lines(&tops)?))
        };
        neighbours
            .finder(top)
            .recommend(0..items as u32, lines, |(count, without, lines)| {
                nothing_learnt += without;
                bars.advance(count);
                file.write_all(&lines).map_err(failed)
            })
    })?;
    bars.end();
    file.commit()?;
    if nothing_learnt > 0 {
        session.say(format!(
            "note: {} of which the model learnt nothing, whose lists say nothing",
            counted(nothing_learnt, "item")
        ));
    }
    let written = Written {
        items: items as u64,
        out,
    };
    let lists = format!("{} in {}", grouped(written.items), out.display());
    session.print(&written, aligned(&[("lists", lists)]))
}
