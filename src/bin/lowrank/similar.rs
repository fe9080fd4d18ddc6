//! `lowrank similar`

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use lowrank::Result;
use lowrank::matrix::Side;
use lowrank::model::Model;
use lowrank::recommend::{Similar, similar};
use serde::Serialize;

use crate::session::Session;
use crate::table::{Lean, Table};

/// The items most like an item, or the users most like a user.
///
/// Likeness is the cosine of the angle between their factors: 1 for the same direction, 0 for nothing in common, -1 for
/// opposites. Biases do not count.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("whose").args(["item", "user"]).required(true))]
pub struct SimilarArgs {
    /// The model to look in
    model: PathBuf,
    /// The item to compare with: its id, or its title or a part of it
    #[arg(long, value_name = "ID-OR-TITLE")]
    item: Option<String>,
    /// The user to compare with
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// How many to list
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
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

/// Runs the command.
pub fn run(args: SimilarArgs, session: &Session) -> Result<()> {
    let mut plan = session.plan();
    plan.hold("the model", Model::memory(&args.model)?);
    let shape = lowrank::model::Record::read(&args.model)?.shape;
    let rows = shape.users.max(shape.items);
    plan.hold("cosines", (rows * size_of::<Similar>()) as u64);
    plan.rest(0)?;
    let model = Model::open(&args.model)?;
    let (side, row) = match (&args.item, &args.user) {
        (Some(item), _) => (Side::Items, model.find_item(item)?),
        (None, user) => (
            Side::Users,
            model.row(Side::Users, user.as_deref().unwrap_or_default())?,
        ),
    };
    let top = session
        .threads
        .run(|| similar(&model, side, row, args.top as usize));
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
