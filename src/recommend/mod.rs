//! The N best items for every user, exactly, in one stream.
//!
//! Users are taken in the store's order, in small groups; a group is scored against one band of items
//! after the other, so that a band stays in the second cache while all users of the group meet it, and every score is
//! offered to the user's running N best at once: the scores of a user never exist all together. Groups run in parallel
//! and are handed on in order. Cost: 2 d flops for each user and item. Memory: the model, a packed copy of the items'
//! factors, and some scores for each thread, whatever the number of users.
//!
//! A score is one chain of fused multiply-adds over the factors, then the unit, the biases and the mean: the same bits on
//! every machine and for any number of threads. Equal scores go to the item with more ratings.

mod output;
mod similar;

use rayon::prelude::*;

pub use output::{RecommendationFormat, RecommendationWriter};
pub use similar::{Similar, similar};

use crate::error::{Error, ErrorKind, Result};
use crate::kernel::{self, Candidate, Isa, PackedItems, TopN};
use crate::matrix::{Factors, RowScratch, Side};
use crate::model::Model;
use crate::store::{IdMap, Part, Store, UserRows};

/// Users that are scored together.
const GROUP: usize = 32;

/// Items that are scored together: a multiple of the kernel's tile.
const BAND: usize = 1024;

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
    isa: Isa,
    packed: Vec<f32>,
    item_starts: Vec<f32>,
    top: usize,
    seen: Option<Seen<'a>>,
}

/// What users have rated, in numbers of the model.
struct Seen<'a> {
    parts: Vec<UserRows<'a>>,
    users: IdMap,
    items: IdMap,
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
        let padded = items.rows().next_multiple_of(kernel::TILE);
        let mut packed = vec![0.0; kernel::packed_len(items.rows(), items.rank())];
        let rows = 0..items.rows();
        let (flat, stride, rank) = (items.flat(), items.stride(), items.rank());
        kernel::pack_items(Isa::best(), flat, stride, rank, rows, &mut packed);
        // Items that only fill the last tile start so low that they are never offered.
        let mut item_starts = vec![f32::NEG_INFINITY; padded];
        for (row, start) in item_starts.iter_mut().enumerate().take(items.rows()) {
            *start = items.bias(row);
        }
        Ok(Recommender {
            model,
            isa: Isa::best(),
            packed,
            item_starts,
            top,
            seen,
        })
    }

    /// Memory that recommending takes beside the model, in bytes.
    pub fn memory(items: usize, rank: usize, top: usize, threads: usize) -> u64 {
        let packed = kernel::packed_len(items, rank) + items.next_multiple_of(kernel::TILE);
        let of_user = BAND * 4 + top * 64 + rank.next_multiple_of(Factors::LANES) * 4;
        (packed * 4 + 4 * threads * GROUP * of_user) as u64
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

    /// Recommends to these users, and hands on groups of them in their order. Runs on the thread pool it is called in.
    ///
    /// # Errors
    /// If the ratings cannot be read, or `hand_on` says so.
    pub fn recommend(
        &self,
        users: impl Iterator<Item = u32>,
        mut hand_on: impl FnMut(&[UserTop]) -> Result<()>,
    ) -> Result<()> {
        let mut users = users.peekable();
        while users.peek().is_some() {
            let wave = 4 * rayon::current_num_threads() * GROUP;
            let wave: Vec<u32> = users.by_ref().take(wave).collect();
            let groups: Vec<Result<Vec<UserTop>>> = wave
                .par_chunks(GROUP)
                .map(|group| self.group(group))
                .collect();
            for group in groups {
                hand_on(&group?)?;
            }
            if let (Some(seen), Some(&last)) = (&self.seen, wave.last()) {
                seen.release_before(last);
            }
        }
        Ok(())
    }

    fn group(&self, users: &[u32]) -> Result<Vec<UserTop>> {
        let parameters = self.model.parameters();
        let stride = parameters.users.stride();
        let mut own = Factors::zeros(users.len(), parameters.users.rank(), true);
        let mut excluded = Vec::with_capacity(users.len());
        for (at, &user) in users.iter().enumerate() {
            let row = match &self.seen {
                Some(seen) => seen.users.get(user),
                None => Some(user),
            };
            // A user whom the model does not know gets what is best for nobody in particular.
            if let Some(row) = row {
                own.row_mut(at)
                    .copy_from_slice(parameters.users.row(row as usize));
                own.biases_mut()[at] = parameters.users.bias(row as usize);
            }
            excluded.push(
                self.seen
                    .as_ref()
                    .map_or(Ok(Vec::new()), |seen| seen.of(user))?,
            );
        }
        let mut left: Vec<&[u32]> = excluded.iter().map(Vec::as_slice).collect();
        let mut tops: Vec<TopN> = users.iter().map(|_| TopN::new(self.top)).collect();
        let mut scores = vec![0.0; users.len() * BAND];
        let rank = parameters.items.rank();
        let users_of_group = kernel::UserRows {
            flat: own.flat(),
            stride,
            starts: own.biases(),
        };
        for (band, item_starts) in self.item_starts.chunks(BAND).enumerate() {
            let first = band * BAND;
            let packed = &self.packed[kernel::packed_len(first, rank)..];
            let scores = &mut scores[..users.len() * item_starts.len()];
            let items = PackedItems {
                packed,
                rank,
                starts: item_starts,
            };
            kernel::score(self.isa, users_of_group, items, scores);
            let rows = scores.chunks_exact_mut(item_starts.len());
            for ((scores, top), left) in rows.zip(&mut tops).zip(&mut left) {
                *left = kernel::exclude(scores, first as u32, left);
                top.offer(self.isa, scores, first as u32);
            }
        }
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
    /// What a user has rated: rows of the model, ascending.
    fn of(&self, user: u32) -> Result<Vec<u32>> {
        let mut rated = Vec::new();
        let mut scratch = RowScratch::default();
        for part in &self.parts {
            let (block, row) = part.find(user as usize)?;
            let row = block.row(row, &mut scratch);
            rated.extend(row.cols.iter().filter_map(|&item| self.items.get(item)));
        }
        rated.sort_unstable();
        rated.dedup();
        Ok(rated)
    }

    /// Gives back the memory of all rows before this user's.
    fn release_before(&self, user: u32) {
        for part in &self.parts {
            part.release_before(user as usize);
        }
    }
}
