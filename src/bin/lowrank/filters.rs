//! What may be recommended, and in which order: options of `recommend`.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use clap::Args;
use lowrank::ingest::{Input, read_categories, read_ids, read_pairs};
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

/// What filters are made of, and the bytes of memory that are left for them.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    pub model: &'a Model,
    pub store: Option<&'a Store>,
    pub room: u64,
}

/// Some of a model's items.
struct Listed {
    /// Whether each of them is listed.
    rows: Vec<bool>,
    /// Ids that are listed, too, and that the model does not know.
    unknown: u64,
}

impl Listed {
    fn nothing(model: &Model) -> Listed {
        Listed {
            rows: vec![false; model.dictionary(Side::Items).len()],
            unknown: 0,
        }
    }

    /// The items of a file of ids, one a line.
    fn read(path: &Path, model: &Model, session: &Session) -> Result<Listed> {
        let (mut listed, mut ids) = (Listed::nothing(model), 0_u64);
        let items = model.dictionary(Side::Items);
        read_ids(&Input::from(path), session.plan().budget(), |_, id| {
            ids += 1;
            match items.lookup(id)? {
                Some(row) => listed.rows[row as usize] = true,
                None => listed.unknown += 1,
            }
            Ok(())
        })?;
        match ids {
            0 => Err(no_id(path, "item")),
            _ => Ok(listed),
        }
    }
}

impl FilterArgs {
    /// The files that are read.
    pub fn files(&self) -> [Option<&Path>; 4] {
        let FilterArgs {
            items,
            categories,
            deny,
            exclude_pairs,
            ..
        } = self;
        [items, categories, deny, exclude_pairs].map(|file| file.as_deref())
    }

    /// How many items have to be found for lists of so many.
    pub fn found(&self, top: usize) -> usize {
        match self.diversity > 0.0 {
            true => 10 * top,
            false => top,
        }
    }

    /// The items of the categories that are asked for, among `only` if that is given. Those that the model does not know are
    /// not the user's, but the file's, and count for nothing.
    fn of_category(&self, path: &Path, known: Known<'_>, only: Option<Listed>) -> Result<Listed> {
        let categories = read_categories(&Input::from(path), Bytes(known.room / 2))?;
        let there_are: BTreeSet<String> = categories
            .values()
            .flatten()
            .map(|name| name.to_lowercase())
            .collect();
        let asked: Vec<String> = self
            .category
            .iter()
            .map(|name| name.to_lowercase())
            .collect();
        if let Some(at) = asked.iter().position(|name| !there_are.contains(name)) {
            let what = format!("no item is of the category {:?}", self.category[at]);
            let few: Vec<&str> = there_are.iter().take(LISTED).map(String::as_str).collect();
            return Err(Error::new(ErrorKind::BadOption, what)
                .path(path)
                .remedy(format!("there are {}", few.join(", "))));
        }
        let mut of_category = Listed::nothing(known.model);
        for (id, names) in &categories {
            let mut names = names.iter().map(|name| name.to_lowercase());
            if names.any(|name| asked.contains(&name))
                && let Some(row) = known.model.dictionary(Side::Items).lookup(id)?
            {
                let row = row as usize;
                of_category.rows[row] = only.as_ref().is_none_or(|only| only.rows[row]);
            }
        }
        Ok(of_category)
    }

    /// A recommender that keeps to these options; `asked` is the length of lists that was asked for, and `user` finds who is
    /// meant by an id.
    pub fn apply<'a>(
        &self,
        recommender: Recommender<'a>,
        known: Known<'_>,
        asked: Option<usize>,
        user: impl Fn(&str) -> Result<Option<u32>>,
        session: &Session,
    ) -> Result<Recommender<'a>> {
        let read = |path: &Option<PathBuf>| {
            let path = path.as_deref();
            path.map(|path| Listed::read(path, known.model, session))
                .transpose()
        };
        let (only, deny) = (read(&self.items)?, read(&self.deny)?);
        let only = match &self.categories {
            Some(path) => Some(self.of_category(path, known, only)?),
            None => only,
        };
        let lists = [&only, &deny].into_iter().flatten();
        let unknown: u64 = lists.map(|list| list.unknown).sum();
        let rows = |list: Option<Listed>| list.map(|list| list.rows);
        let mut catalogue = Catalogue::of(known.model, rows(only), rows(deny))?;
        if unknown > 0 {
            let unknown = counted(unknown, "item");
            session.say(format!(
                "note: {unknown} of these lists are not known to the model"
            ));
        }
        if let Some(top) = asked.filter(|&top| top > catalogue.items()) {
            return Err(too_long(top, catalogue.items()));
        }
        if let (Some(weight), Some(store)) = (self.popularity_discount, known.store) {
            catalogue = catalogue.discount(known.model, store, weight)?;
        }
        if self.min_score.is_some_and(f32::is_nan) {
            let what = "the lowest score is not a number";
            return Err(Error::new(ErrorKind::BadOption, what));
        }
        let withheld = match &self.exclude_pairs {
            Some(path) => withheld(path, known, user, session)?,
            None => HashMap::new(),
        };
        recommender
            .from_catalogue(catalogue)
            .withhold(withheld)
            .at_least(self.min_score)
            .diverse(self.diversity)
    }
}

/// Lists of so many items cannot be had.
pub fn too_long(top: usize, items: usize) -> Error {
    let items = counted(items as u64, "item");
    let what = format!("lists of {top} are asked for, and there are {items} to recommend");
    Error::new(ErrorKind::BadOption, what).remedy("give a lower --top")
}

/// A file of ids has none.
pub fn no_id(path: &Path, noun: &str) -> Error {
    Error::new(ErrorKind::BadInput, "there is no id in it")
        .path(path)
        .remedy(format!("write one {noun}'s id a line"))
}

/// Bytes that a user takes in a table of lists, and that another item takes in one.
const USER_BYTES: u64 = 128;
const ITEM_BYTES: u64 = 8;

/// The items that single users do not get.
fn withheld(
    path: &Path,
    known: Known<'_>,
    user: impl Fn(&str) -> Result<Option<u32>>,
    session: &Session,
) -> Result<HashMap<u32, Vec<u32>>> {
    let mut withheld: HashMap<u32, Vec<u32>> = HashMap::new();
    let (mut pairs, mut unknown, mut held) = (0_u64, 0, 0);
    let (items, budget) = (known.model.dictionary(Side::Items), session.plan().budget());
    read_pairs(&Input::from(path), budget, |user_id, item_id| {
        pairs += 1;
        match (user(user_id)?, items.lookup(item_id)?) {
            (Some(user), Some(item)) => {
                let of_user = withheld.entry(user).or_insert_with(|| {
                    held += USER_BYTES;
                    Vec::new()
                });
                of_user.push(item);
                held += ITEM_BYTES;
            }
            _ => unknown += 1,
        }
        if held > known.room / 2 {
            let what = format!(
                "these pairs take more than {} of memory",
                Bytes(known.room / 2)
            );
            return Err(Error::new(ErrorKind::OverBudget, what)
                .path(path)
                .remedy("raise --memory, or recommend part by part with --users"));
        }
        Ok(())
    })?;
    if pairs == 0 {
        return Err(Error::new(ErrorKind::BadInput, "there is no pair in it")
            .path(path)
            .remedy("write a user and an item with a comma between them"));
    }
    if unknown > 0 {
        let unknown = counted(unknown, "pair");
        session.say(format!(
            "note: {unknown} of a user or an item that is not known"
        ));
    }
    Ok(withheld)
}
