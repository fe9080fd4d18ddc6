//! What may be recommended, and in which order: options of `recommend`.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use clap::Args;
use lowrank::ingest::{Input, read_pairs};
use lowrank::matrix::Side;
use lowrank::model::Model;
use lowrank::recommend::{Catalogue, Recommender};
use lowrank::store::Store;
use lowrank::{Error, ErrorKind, Result};

use crate::session::{Session, counted};

/// What may be recommended, and in which order.
#[derive(Debug, Args)]
#[command(next_help_heading = "What is recommended")]
pub struct FilterArgs {
    /// Recommend only these items: a file with one id a line
    #[arg(long, value_name = "FILE")]
    items: Option<PathBuf>,
    /// Never recommend these items: a file with one id a line
    #[arg(long, value_name = "FILE")]
    deny: Option<PathBuf>,
    /// Do not recommend these items to these users: CSV lines of a user and an item
    #[arg(long, value_name = "FILE")]
    exclude_pairs: Option<PathBuf>,
    /// Recommend only what scores so much or more
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    min_score: Option<f32>,
    /// Re-rank each list from ten times as many of the best: from 0, by the score alone, to 1, by how little items are like
    /// those above them
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    diversity: f32,
    /// Take X * log2(1 + n) off the score of an item that n users have in the training part of the store
    #[arg(long, value_name = "X", requires = "store")]
    popularity_discount: Option<f32>,
}

impl FilterArgs {
    /// How many items have to be found for lists of so many.
    pub fn found(&self, top: usize) -> usize {
        match self.diversity > 0.0 {
            true => 10 * top,
            false => top,
        }
    }

    /// A recommender that keeps to these options; `asked` is the length of lists that was asked for, and `user` finds who is
    /// meant by an id.
    pub fn apply<'a>(
        &self,
        recommender: Recommender<'a>,
        model: &Model,
        store: Option<&Store>,
        asked: Option<usize>,
        user: impl Fn(&str) -> Result<Option<u32>>,
        session: &Session,
    ) -> Result<Recommender<'a>> {
        let only = self.items.as_deref().map(ids).transpose()?;
        let deny = self.deny.as_deref().map(ids).transpose()?;
        let (mut catalogue, unknown) = Catalogue::of(model, only.as_ref(), deny.as_ref())?;
        if unknown > 0 {
            let unknown = counted(unknown as u64, "item");
            session.say(format!(
                "note: {unknown} of these lists are not known to the model"
            ));
        }
        if let Some(top) = asked.filter(|&top| top > catalogue.items()) {
            let what = format!(
                "lists of {top} are asked for, and there are {} to recommend",
                counted(catalogue.items() as u64, "item")
            );
            return Err(Error::new(ErrorKind::BadOption, what).remedy("give a lower --top"));
        }
        if let (Some(weight), Some(store)) = (self.popularity_discount, store) {
            catalogue = catalogue.discount(model, store, weight)?;
        }
        if self.min_score.is_some_and(f32::is_nan) {
            let what = "the lowest score is not a number";
            return Err(Error::new(ErrorKind::BadOption, what));
        }
        let withheld = match &self.exclude_pairs {
            Some(path) => withheld(path, model, user, session)?,
            None => HashMap::new(),
        };
        recommender
            .from_catalogue(catalogue)
            .withhold(withheld)
            .at_least(self.min_score)
            .diverse(self.diversity)
    }
}

/// The ids of a file, one a line.
fn ids(path: &Path) -> Result<HashSet<String>> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(e, path))?;
    let ids: HashSet<String> = text
        .lines()
        .map(str::trim)
        .filter(|id| !id.is_empty())
        .map(str::to_owned)
        .collect();
    match ids.is_empty() {
        false => Ok(ids),
        true => Err(Error::new(ErrorKind::BadInput, "there is no id in it")
            .path(path)
            .remedy("write one item's id a line")),
    }
}

/// The items that single users do not get.
fn withheld(
    path: &Path,
    model: &Model,
    user: impl Fn(&str) -> Result<Option<u32>>,
    session: &Session,
) -> Result<HashMap<u32, Vec<u32>>> {
    let mut withheld: HashMap<u32, Vec<u32>> = HashMap::new();
    let mut unknown = 0;
    read_pairs(&Input::from(path), |user_id, item_id| {
        let item = model.dictionary(Side::Items).lookup(item_id)?;
        match (user(user_id)?, item) {
            (Some(user), Some(item)) => withheld.entry(user).or_default().push(item),
            _ => unknown += 1,
        }
        Ok(())
    })?;
    if unknown > 0 {
        let unknown = counted(unknown, "pair");
        session.say(format!(
            "note: {unknown} of a user or an item that is not known"
        ));
    }
    Ok(withheld)
}
