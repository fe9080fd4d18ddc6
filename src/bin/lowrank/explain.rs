//! `lowrank explain`

use std::path::PathBuf;

use clap::Args;
use lowrank::matrix::Side;
use lowrank::model::{Held, Model, Record};
use lowrank::recommend::{Because, Exclude, explain};
use lowrank::store::Store;
use lowrank::{Error, ErrorKind, Result};
use serde::Serialize;

use crate::session::{Session, aligned};
use crate::table::{Lean, Table};

/// Tell which of a user's own items carry the score of another item.
///
/// Where a user's row is solved as least squares (als, cg, coordinate, ials and its kin), the score is a sum over the user's
/// training ratings, and each item's part of it is told. For other models it is told how like the items are, as a cosine.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The model whose score is explained
    model: PathBuf,
    /// The store that tells what the user has rated
    store: PathBuf,
    /// The user to explain it to
    #[arg(long, value_name = "ID")]
    user: String,
    /// The item to explain: its id, or its title or a part of it
    #[arg(long, value_name = "ID-OR-TITLE")]
    item: String,
    /// How many of the user's items to list
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
}

#[derive(Serialize)]
struct Outcome<'a> {
    user: &'a str,
    item: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    score: f32,
    /// What the mean and the item's own bias give.
    #[serde(skip_serializing_if = "Option::is_none")]
    without_ratings: Option<f32>,
    by: &'static str,
    because: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    item: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    value: f32,
}

/// Runs the command.
pub fn run(args: ExplainArgs, session: &Session) -> Result<()> {
    let mut plan = session.plan();
    let store = Store::open_within(&args.store, 0)?;
    plan.hold("shards in use", Exclude::Train.memory(&store));
    let matching = Record::read(&args.model)?.matching(&store);
    plan.hold("numbers of users and items", matching);
    let held = Held::plan(&mut plan, &args.model, &[Held::Items])?;
    let model = Model::open_with(&args.model, held)?;
    let user = store.users().lookup(&args.user)?.ok_or_else(|| {
        let what = format!("there is no user {:?}", args.user);
        Error::new(ErrorKind::UnknownId, what).path(store.path())
    })?;
    let item = model.find_item(&args.item)?;
    let explained = session
        .threads
        .run(|| explain(&model, &store, user, item))?;
    let items = model.dictionary(Side::Items);
    let line = |&(item, value): &(u32, f32)| {
        Ok(Line {
            item: items.id(item as usize)?,
            title: items.title(item as usize)?,
            value,
        })
    };
    let listed = explained.items.iter().take(args.top as usize);
    let (by, adds) = match explained.because {
        Because::Contribution => ("contribution", true),
        Because::Likeness => ("cosine", false),
    };
    let outcome = Outcome {
        user: &args.user,
        item: items.id(item as usize)?,
        title: items.title(item as usize)?,
        score: explained.score,
        without_ratings: adds.then_some(explained.rest),
        by,
        because: listed.map(line).collect::<Result<_>>()?,
    };
    let title = outcome
        .title
        .map_or(String::new(), |title| format!(", {title}"));
    let mut lines = vec![
        ("item", format!("{}{title}", outcome.item)),
        ("score", format!("{:.4}", outcome.score)),
    ];
    if let Some(rest) = outcome.without_ratings {
        lines.push(("of it, without the user's ratings", format!("{rest:.4}")));
    }
    let mut table = Table::new([
        (by, Lean::Right),
        ("item", Lean::Left),
        ("title", Lean::Left),
    ]);
    for line in &outcome.because {
        table.push([
            format!("{:+.4}", line.value),
            line.item.to_owned(),
            line.title.unwrap_or_default().to_owned(),
        ]);
    }
    session.print(&outcome, aligned(&lines) + &table.text())
}
