//! What may be recommended, and in which order: options of `recommend`.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use clap::Args;
use lowrank::ingest::{Input, read_categories, read_pairs};
use lowrank::matrix::Side;
use lowrank::memory::Bytes;
use lowrank::model::Model;
use lowrank::recommend::{Catalogue, Recommender};
use lowrank::store::Store;
use lowrank::{Error, ErrorKind, Result};

use crate::session::{Session, counted};

/// Categories that a message lists.
const LISTED: usize = 30;

/// What may be recommended, and in which order.
#[derive(Debug, Args)]
#[command(next_help_heading = "What is recommended")]
pub struct FilterArgs {
    /// Recommend only these items: a file with one id a line
    #[arg(long, value_name = "FILE")]
    items: Option<PathBuf>,
    /// Recommend only items of one of these categories, with commas between them
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "LIST",
        requires = "categories"
    )]
    category: Vec<String>,
    /// Which categories items are of: the movies.csv, movies.dat or u.item of MovieLens, or CSV with the columns id, title and
    /// categories, `|` between these
    #[arg(long, value_name = "FILE", requires = "category")]
    categories: Option<PathBuf>,
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

    /// The items of the categories that are asked for, among `only` if that is given. Those that the model does not know are
    /// not the user's, but the file's, and count for nothing.
    fn of_category(
        &self,
        path: &Path,
        model: &Model,
        only: Option<HashSet<String>>,
        session: &Session,
    ) -> Result<HashSet<String>> {
        // Most of the budget is for what comes after.
        let most = Bytes(session.plan().budget().0 / 4);
        let categories = read_categories(&Input::from(path), most)?;
        let known: BTreeSet<String> = categories
            .values()
            .flatten()
            .map(|name| name.to_lowercase())
            .collect();
        let asked: Vec<String> = self
            .category
            .iter()
            .map(|name| name.to_lowercase())
            .collect();
        if let Some(at) = asked.iter().position(|name| !known.contains(name)) {
            let what = format!("no item is of the category {:?}", self.category[at]);
            let few: Vec<&str> = known.iter().take(LISTED).map(String::as_str).collect();
            return Err(Error::new(ErrorKind::BadOption, what)
                .path(path)
                .remedy(format!("there are {}", few.join(", "))));
        }
        let mut of_category = HashSet::new();
        for (id, names) in &categories {
            let mut names = names.iter().map(|name| name.to_lowercase());
            if names.any(|name| asked.contains(&name))
                && only.as_ref().is_none_or(|only| only.contains(&**id))
                && model.dictionary(Side::Items).lookup(id)?.is_some()
            {
                of_category.insert(id.to_string());
            }
        }
        Ok(of_category)
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
        let only = match &self.categories {
            Some(path) => Some(self.of_category(path, model, only, session)?),
            None => only,
        };
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
