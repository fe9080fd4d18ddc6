//! The N best items for every user, exactly, in one stream.
//!
//! Users are taken in the store's order, in small groups; a group meets one band of items after the other, so that a band
//! stays in the second cache while all users of the group meet it. Groups run in parallel and are handed on in order.
//! There are two ways to find the same lists: by the scores of all items ([`Search::Exhaustive`], 2 d flops for each user
//! and item), and by the scores of those few that a bound in bytes does not rule out ([`Search::Screened`]). Memory: the
//! model, whose users may stay in their file, a copy of the items' factors made for the search, and what a group needs for each thread, whatever the number
//! of users.
//!
//! A score is one chain of fused multiply-adds over the factors, then the unit, the biases and the mean: the same bits on
//! every machine, for any number of threads and either search. Equal scores go to the item with more ratings.

mod axes;
mod catalogue;
mod diversity;
mod exhaustive;
mod explain;
mod fold_in;
mod neighbours;
mod output;
mod rated;
mod screened;
mod similar;

use std::collections::HashMap;

use rayon::prelude::*;

pub use catalogue::Catalogue;
pub use explain::{Because, Explanation, explain};
pub use fold_in::FoldedIn;
pub use output::{Ids, RecommendationFormat, RecommendationText};
pub use similar::{Neighbours, Similar, similar};

use crate::error::{Error, ErrorKind, Result};
use crate::kernel::{ByteIsa, Candidate, TopN};
use crate::matrix::{Factors, SparseRows};
use crate::model::Model;
use crate::solver::Parameters;
use crate::store::{Part, Store};

use diversity::Diversity;
use exhaustive::Exhaustive;
use neighbours::{Neighbours as Weighted, WeightedSums};
use rated::Rated;
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

impl Exclude {
    /// The parts of a store that are left out.
    pub(crate) fn parts(self) -> &'static [Part] {
        match self {
            Exclude::All => &[Part::Train, Part::Validation, Part::Test],
            Exclude::Train => &[Part::Train],
            Exclude::Nothing => &[],
        }
    }

    /// Memory that looking at what users of a store have rated takes, in bytes, where they come in its order.
    pub fn memory(self, store: &Store) -> u64 {
        let parts = self.parts().iter().filter_map(|&part| store.part(part));
        parts.map(|rows| rows.memory()).sum()
    }
}

/// One user's recommendations, the best first.
#[derive(Debug, Clone, PartialEq)]
pub struct UserTop {
    /// The user's row in the store, or in the model where there is no store.
    pub user: u32,
    /// Items by their rows in the model, with their scores.
    pub items: Vec<Candidate>,
    /// Whether the list is the user's own. It is not where the model learnt from no item of the user, who then gets what
    /// anybody would.
    pub own: bool,
}

/// Whether a model has learnt anything of a user whose row in it, if there is one, has these factors.
pub(crate) fn is_known(row: Option<u32>, factors: &[f32], histories: Option<&SparseRows>) -> bool {
    match (row, histories) {
        (None, _) => false,
        (Some(row), Some(histories)) => !histories.row(row as usize).is_empty(),
        (Some(_), None) => factors.iter().any(|&x| x != 0.0),
    }
}

/// Recommends from a model, leaving out what was rated.
pub struct Recommender<'a> {
    users: &'a Factors,
    items: &'a Factors,
    weighted: Option<Weighted<'a>>,
    tells_apart: bool,
    mean: f32,
    std: f32,
    rated: Rated<'a>,
    top: usize,
    search: Search,
    catalogue: Catalogue,
    /// What single users do not get: items by their rows in the model, by the user's number.
    withheld: HashMap<u32, Vec<u32>>,
    least: Option<f32>,
    diversity: Option<Diversity>,
}

/// A search, made ready for the items of a model.
enum Finder<'a> {
    Screened(Screened),
    Exhaustive(Exhaustive),
    Weighted(WeightedSums<'a>),
}

/// Some users who meet the items together: their factors and biases, and the items that are left out of each one's list.
struct Group {
    users: Factors,
    /// Their rows in the model, where it knows them.
    rows: Vec<Option<u32>>,
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
        let parts = exclude.parts();
        if store.is_none() && !parts.is_empty() {
            return Err(Error::new(
                ErrorKind::BadOption,
                "what users have rated is in the store, and none is named",
            )
            .remedy("name it after the model, or give --exclude none"));
        }
        let rated = match store {
            None => Rated::Nothing,
            Some(store) => Rated::stored(store, parts, Some(model))?,
        };
        Ok(Recommender::of(model.parameters(), rated, top, search))
    }

    /// Prepares to recommend to the users of a store from parameters that number rows as it does, leaving out these parts.
    pub(crate) fn of_store(
        parameters: &'a Parameters,
        store: &'a Store,
        top: usize,
        exclude: &[Part],
    ) -> Result<Recommender<'a>> {
        let rated = Rated::stored(store, exclude, None)?;
        Ok(Recommender::of(parameters, rated, top, Search::default()))
    }

    /// Prepares to recommend to users who were folded in, by their numbers there, leaving out what they are folded in by.
    pub fn to_folded_in(
        model: &'a Model,
        folded_in: &'a FoldedIn,
        top: usize,
        exclude: Exclude,
        search: Search,
    ) -> Recommender<'a> {
        let rated = match exclude {
            Exclude::Nothing => Rated::Nothing,
            Exclude::All | Exclude::Train => Rated::Given(folded_in.ratings()),
        };
        let trained = Recommender::of(model.parameters(), rated, top, search);
        let took = |weighted: Weighted<'a>| {
            let histories = folded_in.histories()?;
            Some(Weighted {
                histories,
                ..weighted
            })
        };
        Recommender {
            users: folded_in.users(),
            weighted: trained.weighted.and_then(took),
            ..trained
        }
    }

    fn of(
        parameters: &'a Parameters,
        rated: Rated<'a>,
        top: usize,
        search: Search,
    ) -> Recommender<'a> {
        let Parameters {
            users,
            items,
            mean,
            std,
            neighbourhood,
        } = parameters;
        let weighted = neighbourhood.as_ref().map(|known| Weighted {
            histories: &known.histories,
            weights: &known.weights,
        });
        Recommender {
            users,
            items,
            weighted,
            tells_apart: parameters.tells_users_apart(),
            mean: *mean,
            std: *std,
            rated,
            top,
            search,
            catalogue: Catalogue::whole(items.rows()),
            withheld: HashMap::new(),
            least: None,
            diversity: None,
        }
    }

    /// Prepares to find, for each of these rows, others that have the largest products with it.
    fn among(rows: &'a Factors, top: usize, search: Search) -> Recommender<'a> {
        Recommender {
            users: rows,
            items: rows,
            weighted: None,
            tells_apart: true,
            mean: 0.0,
            std: 1.0,
            rated: Rated::Itself,
            top,
            search,
            catalogue: Catalogue::whole(rows.rows()),
            withheld: HashMap::new(),
            least: None,
            diversity: None,
        }
    }

    /// Recommends from this part of the catalogue alone, with its discounts.
    #[must_use]
    pub fn from_catalogue(mut self, catalogue: Catalogue) -> Recommender<'a> {
        self.catalogue = catalogue;
        self
    }

    /// Leaves out, for each of these users, these items of the model.
    #[must_use]
    pub fn withhold(mut self, withheld: HashMap<u32, Vec<u32>>) -> Recommender<'a> {
        self.withheld = withheld;
        self
    }

    /// Recommends only what scores so much or more.
    #[must_use]
    pub fn at_least(mut self, score: Option<f32>) -> Recommender<'a> {
        self.least = score;
        self
    }

    /// Re-ranks the best by how little they are like each other (maximal marginal relevance): 0 leaves them as they are, at 1
    /// nothing but the difference counts.
    ///
    /// # Errors
    /// If the share is not from 0 to 1, or the model has no factors to compare items by.
    pub fn diverse(mut self, share: f32) -> Result<Recommender<'a>> {
        if share > 0.0 && self.weighted.is_some() {
            let what = "items are compared by their factors, and the model has none";
            return Err(Error::new(ErrorKind::BadOption, what).remedy("leave out --diversity"));
        }
        self.diversity = Diversity::new(share)?;
        Ok(self)
    }

    /// How many of the best are found before any is chosen.
    fn found(&self) -> usize {
        match self.diversity {
            Some(_) => Diversity::pool(self.top).min(self.items.rows()),
            None => self.top,
        }
    }

    /// Memory that recommending takes beside the model, in bytes, where no list is re-ranked.
    pub fn memory(items: usize, rank: usize, top: usize, search: Search, threads: usize) -> u64 {
        let (items_take, user_takes) = match search.resolved(items, rank, top) {
            Some(_) => screened::memory(items, rank),
            None => exhaustive::memory(items, rank),
        };
        // Where scores are sums of weights, all of a user's exist together.
        let (items_take, user_takes) = (
            items_take.max(neighbours::memory(items)),
            user_takes.max(neighbours::memory(items) / GROUP),
        );
        // Users' rows, and lists that wait to be handed on, as numbers and as text.
        let row = Factors::bytes(1, rank, true) as usize;
        let rows = (Factors::NEAR as usize + 2) * row;
        let waiting = WAVE * GROUP * (rows + top * 64 + 64);
        (items_take + threads * (GROUP * user_takes + waiting)) as u64
    }

    /// How many items the model knows.
    pub fn items(&self) -> usize {
        self.items.rows()
    }

    /// How many users there are.
    pub fn users(&self) -> usize {
        self.rated.users().unwrap_or(self.users.rows())
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
        let (starts, allowed) = (self.catalogue.starts(self.items), self.catalogue.allowed());
        let found = self.found();
        let (items, rank) = (self.items.rows(), self.items.rank());
        let finder = match (self.weighted, self.search.resolved(items, rank, found)) {
            (Some(weighted), _) => Finder::Weighted(WeightedSums::new(weighted, &starts, allowed)),
            (None, Some(isa)) => Finder::Screened(Screened::new(isa, self.items, &starts, allowed)),
            (None, None) => Finder::Exhaustive(Exhaustive::new(self.items, &starts, allowed)),
        };
        let mut users = users.peekable();
        let mut done = 0;
        while users.peek().is_some() {
            let wave = WAVE * rayon::current_num_threads() * GROUP;
            let wave: Vec<u32> = users.by_ref().take(wave).collect();
            // A user whom the model does not know gets what is best for nobody in particular.
            let rows: Vec<_> = wave.iter().map(|&user| self.rated.row(user)).collect();
            let factors = self.users.gather(&rows)?;
            let groups: Vec<Result<T>> = wave
                .par_chunks(GROUP)
                .enumerate()
                .with_max_len(1)
                .map(|(at, group)| {
                    prepare(self.group(&finder, &starts, group, (&factors, at * GROUP))?)
                })
                .collect();
            for group in groups {
                hand_on(group?)?;
            }
            if let Some(&last) = wave.last() {
                // Users may come in any order; in the store's, each shard is given back once.
                let from = if last < done { 0 } else { done };
                self.rated.release(from as usize..last as usize);
                done = last;
            }
        }
        self.rated.release(done as usize..usize::MAX);
        Ok(())
    }

    /// Finds the lists of these users, whose rows are those of `factors` from a number on.
    fn group(
        &self,
        finder: &Finder<'_>,
        starts: &[f32],
        users: &[u32],
        (factors, first): (&Factors, usize),
    ) -> Result<Vec<UserTop>> {
        let mut group = Group {
            users: Factors::zeros(users.len(), self.users.rank(), true),
            rows: users.iter().map(|&user| self.rated.row(user)).collect(),
            seen: self.rated.of(users)?,
            top: self.found(),
        };
        for (at, &user) in users.iter().enumerate() {
            let own = group.users.row_mut(at);
            own.copy_from_slice(factors.row(first + at));
            group.users.biases_mut()[at] = factors.bias(first + at);
            let withheld = self.withheld.get(&user).into_iter().flatten();
            group.seen[at].extend(withheld);
        }
        let tops: Vec<TopN> = match finder {
            Finder::Screened(screened) => screened.find(self.items, starts, &group),
            Finder::Exhaustive(exhaustive) => exhaustive.find(&mut group),
            Finder::Weighted(sums) => sums.find(&mut group),
        };
        let histories = self.weighted.map(|weighted| weighted.histories);
        let known = |at: usize| is_known(group.rows[at], group.users.row(at), histories);
        let tops = (0..).zip(users).zip(tops);
        Ok(tops
            .map(|((at, &user), top)| UserTop {
                user,
                items: self.chosen(top.into_sorted()),
                own: !self.tells_apart || known(at),
            })
            .collect())
    }

    /// What a user gets of the best, which come with scores in units of the model.
    fn chosen(&self, best: Vec<Candidate>) -> Vec<Candidate> {
        let mut best: Vec<Candidate> = best
            .into_iter()
            .map(|candidate| Candidate {
                score: self.mean + self.std * candidate.score,
                ..candidate
            })
            .filter(|candidate| self.least.is_none_or(|least| candidate.score >= least))
            .collect();
        if let Some(diversity) = &self.diversity {
            best = diversity.choose(best, self.items, self.top);
        }
        best
    }
}
