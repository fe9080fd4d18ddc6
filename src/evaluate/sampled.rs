//! Ranking among a sample: a user's held-out items against some that the user has not rated, instead of all.
//!
//! The protocol of many papers (He et al.: Neural collaborative filtering, WWW 2017: the latest item of each user against 100
//! others). Its figures are another thing than those of full rankings: they are far higher, and may order two models the
//! other way round (Krichene and Rendle: On sampled metrics for item recommendation, KDD 2020).

use super::ranking::Relevant;
use crate::error::Result;
use crate::kernel::Candidate;
use crate::matrix::{RowScratch, Side};
use crate::model::Model;
use crate::recommend::{UserTop, is_known};
use crate::rng::{Purpose, Stream, key};
use crate::solver::{Own, Parameters};
use crate::store::{IdMap, Part, Store};

/// The items that a user's held-out ones are ranked among.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// How many are drawn, evenly among those that the user has rated in no part of the store; all of them where they are
    /// no more.
    pub items: usize,
    /// The seed of the draws, which hang on it and on the user's id alone.
    pub seed: u64,
}

/// Lists of a sample.
pub(super) struct Sampled<'a> {
    sample: Sample,
    store: &'a Store,
    parameters: &'a Parameters,
    tells_apart: bool,
    users: IdMap,
    items: IdMap,
    top: usize,
    scratch: RowScratch,
    /// For each of the model's items, whether it may no longer be drawn.
    taken: Vec<bool>,
}

impl<'a> Sampled<'a> {
    /// Lists of `top` items of a model, for users of a store.
    pub fn new(
        sample: Sample,
        model: &'a Model,
        store: &'a Store,
        top: usize,
    ) -> Result<Sampled<'a>> {
        let map = |side| IdMap::new(store.dictionary(side), model.dictionary(side));
        let parameters = model.parameters();
        Ok(Sampled {
            sample,
            store,
            users: map(Side::Users)?,
            items: map(Side::Items)?,
            top,
            scratch: RowScratch::default(),
            taken: vec![false; parameters.items.rows()],
            tells_apart: parameters.tells_users_apart(),
            parameters,
        })
    }

    /// How many items the model has.
    pub fn catalogue(&self) -> usize {
        self.taken.len()
    }

    /// The best of what is to be found by a user and of what is drawn. Equal scores go to the item with the lower row.
    pub fn list(&mut self, user: u32, relevant: &Relevant<'_>) -> Result<UserTop> {
        let mut rated = Vec::new();
        for part in [Part::Train, Part::Validation, Part::Test] {
            if let Some(rows) = self.store.part(part) {
                let (block, row) = rows.find(user as usize)?;
                let row = block.row(row, &mut self.scratch);
                rated.extend(row.cols.iter().filter_map(|&item| self.items.get(item)));
            }
        }
        rated
            .iter()
            .for_each(|&item| self.taken[item as usize] = true);
        rated.sort_unstable();
        rated.dedup();
        let mut listed: Vec<u32> = relevant.known().collect();
        self.draw(user, rated.len(), &mut listed)?;
        rated
            .iter()
            .chain(&listed)
            .for_each(|&item| self.taken[item as usize] = false);
        let (parameters, row) = (self.parameters, self.users.get(user));
        let gathered = parameters.users.gather(&[row])?;
        let own = row.map(|_| Own::of(&gathered, 0));
        let score = |item: u32| {
            let (row, at) = (row.map(|row| row as usize), Some(item as usize));
            let score = match parameters.neighbourhood {
                Some(_) => parameters.predict(row, at),
                None => parameters.predict_of(own, at),
            };
            Candidate { score, item }
        };
        let mut items: Vec<Candidate> = listed.into_iter().map(score).collect();
        items.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.item.cmp(&b.item)));
        items.truncate(self.top);
        let histories = parameters.neighbourhood.as_ref().map(|n| &n.histories);
        let own = !self.tells_apart || is_known(row, gathered.row(0), histories);
        Ok(UserTop { user, items, own })
    }

    /// Appends the drawn items, and marks them as taken, as those that are rated are already.
    fn draw(&mut self, user: u32, rated: usize, listed: &mut Vec<u32>) -> Result<()> {
        let catalogue = self.taken.len();
        if catalogue - rated <= self.sample.items {
            let free = (0..).zip(&self.taken).filter(|(_, taken)| !**taken);
            listed.extend(free.map(|(item, _): (u32, _)| item));
            return Ok(());
        }
        let id = key(self.store.users().id(user as usize)?.as_bytes());
        let mut stream = Stream::new(self.sample.seed, Purpose::SampledRanking, 0, id);
        for _ in 0..self.sample.items {
            let item = loop {
                let item = stream.below(catalogue as u64) as usize;
                if !self.taken[item] {
                    break item;
                }
            };
            self.taken[item] = true;
            listed.push(item as u32);
        }
        Ok(())
    }
}
