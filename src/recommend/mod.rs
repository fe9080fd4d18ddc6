//! The N best items for every user, exactly, in one stream.
//!
//! Users are taken in the store's order, in small groups; a group meets one band of items after the other, so that a band
//! stays in the second cache while all users of the group meet it. Groups run in parallel and are handed on in order.
//! There are two ways to find the same lists: by the scores of all items ([`Search::Exhaustive`], 2 d flops for each user
//! and item), and by the scores of those few that a bound in bytes does not rule out ([`Search::Screened`]). Memory: the
//! model, a copy of the items' factors made for the search, and what a group needs for each thread, whatever the number
//! of users.
//!
//! A score is one chain of fused multiply-adds over the factors, then the unit, the biases and the mean: the same bits on
//! every machine, for any number of threads and either search. Equal scores go to the item with more ratings.

mod exhaustive;
mod output;
mod screened;
mod similar;

use std::ops::Range;

use rayon::prelude::*;

pub use output::{RecommendationFormat, RecommendationText};
pub use similar::{Similar, similar};

use crate::error::{Error, ErrorKind, Result};
use crate::kernel::{ByteIsa, Candidate, TopN};
use crate::matrix::{Factors, RowScratch, Side};
use crate::model::Model;
use crate::store::{IdMap, Part, Store, UserRows};

use exhaustive::Exhaustive;
use screened::Screened;

/// Users that meet a band of items together.
const GROUP: usize = 64;

/// Items in a band: a multiple of the kernels' tile.
const BAND: usize = 1024;

/// Groups for each thread that are handed on together: enough for all threads to end at about the same time.
const WAVE: usize = 16;

/// How the best items are found. The lists are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Search {
    /// By a bound for every item, and the scores of those that it does not rule out; exhaustive where the machine has no
    /// instruction for products of bytes, or the lists are so long that little would be ruled out.
    #[default]
    Screened,
    /// By the scores of all items.
    Exhaustive,
}

impl Search {
    /// The search that is done if this one is asked for, and how it multiplies bytes.
    fn resolved(self, items: usize, rank: usize, top: usize) -> Option<ByteIsa> {
        // A score that is asked for by itself costs as much as a dozen in a row.
        let worth_it = self == Search::Screened && items / 16 >= top.max(1);
        ByteIsa::best().filter(|_| worth_it && screened::can(rank))
    }
}

/// Which of the items that a user has rated are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Exclude {
    /// All, held out or not.
    #[default]
    All,
    /// Those of the training part.
    Train,
    /// None.
    Nothing,
}

/// One user's recommendations, the best first.
#[derive(Debug, Clone, PartialEq)]
pub struct UserTop {
    /// The user's row in the store, or in the model where there is no store.
    pub user: u32,
    /// Items by their rows in the model, with their scores.
    pub items: Vec<Candidate>,
}

/// Recommends from a model, leaving out what a store says was rated.
pub struct Recommender<'a> {
    model: &'a Model,
    finder: Finder,
    top: usize,
    seen: Option<Seen<'a>>,
}

/// A search, made ready for the items of a model.
enum Finder {
    Screened(Screened),
    Exhaustive(Exhaustive),
}

/// What users have rated, in numbers of the model.
struct Seen<'a> {
    parts: Vec<UserRows<'a>>,
    users: IdMap,
    items: IdMap,
}

/// Some users who meet the items together: their factors and biases, and the items that are left out of each one's list.
struct Group {
    users: Factors,
    seen: Vec<Vec<u32>>,
    top: usize,
}

impl<'a> Recommender<'a> {
    /// Prepares to recommend `top` items to each user of the store, or of the model where there is none.
    ///
    /// # Errors
    /// If something is to be left out and there is no store to tell what.
    pub fn new(
        model: &'a Model,
        store: Option<&'a Store>,
        top: usize,
        exclude: Exclude,
        search: Search,
    ) -> Result<Recommender<'a>> {
        let parts = match exclude {
            Exclude::All => &[Part::Train, Part::Validation, Part::Test][..],
            Exclude::Train => &[Part::Train],
            Exclude::Nothing => &[],
        };
        if store.is_none() && !parts.is_empty() {
            return Err(Error::new(
                ErrorKind::BadOption,
                "what users have rated is in the store, and none is named",
            )
            .remedy("name it after the model, or give --exclude none"));
        }
        let seen = match store {
            None => None,
            Some(store) => Some(Seen {
                parts: parts.iter().filter_map(|&part| store.part(part)).collect(),
                users: IdMap::new(store.users(), model.dictionary(Side::Users))?,
                items: IdMap::new(store.items(), model.dictionary(Side::Items))?,
            }),
        };
        let items = &model.parameters().items;
        let finder = match search.resolved(items.rows(), items.rank(), top) {
            Some(isa) => Finder::Screened(Screened::new(isa, items)),
            None => Finder::Exhaustive(Exhaustive::new(items)),
        };
        Ok(Recommender {
            model,
            finder,
            top,
            seen,
        })
    }

    /// Memory that recommending takes beside the model, in bytes.
    pub fn memory(items: usize, rank: usize, top: usize, search: Search, threads: usize) -> u64 {
        let (items_take, user_takes) = match search.resolved(items, rank, top) {
            Some(_) => screened::memory(items, rank),
            None => exhaustive::memory(items, rank),
        };
        // Lists that wait to be handed on, as numbers and as text.
        let waiting = WAVE * GROUP * (top * 64 + 64);
        (items_take + threads * (GROUP * user_takes + waiting)) as u64
    }

    /// How many users there are.
    pub fn users(&self) -> usize {
        match &self.seen {
            Some(Seen {
                users: IdMap::Rows(rows),
                ..
            }) => rows.len(),
            _ => self.model.parameters().users.rows(),
        }
    }

    /// Recommends to these users. What `prepare` makes of a group of them, on the thread that found it, is handed on in
    /// their order. Runs on the thread pool it is called in.
    ///
    /// # Errors
    /// If the ratings cannot be read, or `prepare` or `hand_on` says so.
    pub fn recommend<T: Send>(
        &self,
        users: impl Iterator<Item = u32>,
        prepare: impl Fn(Vec<UserTop>) -> Result<T> + Sync,
        mut hand_on: impl FnMut(T) -> Result<()>,
    ) -> Result<()> {
        let mut users = users.peekable();
        let mut done = 0;
        while users.peek().is_some() {
            let wave = WAVE * rayon::current_num_threads() * GROUP;
            let wave: Vec<u32> = users.by_ref().take(wave).collect();
            let groups: Vec<Result<T>> = wave
                .par_chunks(GROUP)
                .with_max_len(1)
                .map(|group| prepare(self.group(group)?))
                .collect();
            for group in groups {
                hand_on(group?)?;
            }
            if let (Some(seen), Some(&last)) = (&self.seen, wave.last()) {
                // Users may come in any order; in the store's, each shard is given back once.
                let from = if last < done { 0 } else { done };
                seen.release(from as usize..last as usize);
                done = last;
            }
        }
        Ok(())
    }

    fn group(&self, users: &[u32]) -> Result<Vec<UserTop>> {
        let parameters = self.model.parameters();
        let mut group = Group {
            users: Factors::zeros(users.len(), parameters.users.rank(), true),
            seen: Vec::with_capacity(users.len()),
            top: self.top,
        };
        for (at, &user) in users.iter().enumerate() {
            let row = match &self.seen {
                Some(seen) => seen.users.get(user),
                None => Some(user),
            };
            // A user whom the model does not know gets what is best for nobody in particular.
            if let Some(row) = row {
                let row = row as usize;
                let own = group.users.row_mut(at);
                own.copy_from_slice(parameters.users.row(row));
                group.users.biases_mut()[at] = parameters.users.bias(row);
            }
            let seen = self.seen.as_ref();
            group
                .seen
                .push(seen.map_or(Ok(Vec::new()), |seen| seen.of(user))?);
        }
        let tops: Vec<TopN> = match &self.finder {
            Finder::Screened(screened) => screened.find(&parameters.items, &group),
            Finder::Exhaustive(exhaustive) => exhaustive.find(&mut group),
        };
        let to_ratings = |mut candidate: Candidate| {
            candidate.score = parameters.mean + parameters.std * candidate.score;
            candidate
        };
        let tops = users.iter().zip(tops);
        Ok(tops
            .map(|(&user, top)| UserTop {
                user,
                items: top.into_sorted().into_iter().map(to_ratings).collect(),
            })
            .collect())
    }
}

impl Seen<'_> {
    /// What a user has rated: rows of the model, ascending within each part.
    fn of(&self, user: u32) -> Result<Vec<u32>> {
        let mut rated = Vec::new();
        let mut scratch = RowScratch::default();
        for part in &self.parts {
            let (block, row) = part.find(user as usize)?;
            let row = block.row(row, &mut scratch);
            rated.extend(row.cols.iter().filter_map(|&item| self.items.get(item)));
        }
        Ok(rated)
    }

    /// Gives back the memory of the rows of these users.
    fn release(&self, users: Range<usize>) {
        for part in &self.parts {
            part.release(users.clone());
        }
    }
}
