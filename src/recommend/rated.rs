//! What users have rated, whoever says so, and where their rows are.

use std::ops::Range;

use crate::error::Result;
use crate::matrix::{InMemory, Ratings, RowScratch, Side};
use crate::model::Model;
use crate::store::{IdMap, Part, Store, UserRows};

/// Who says what users have rated. It numbers the users.
pub(super) enum Rated<'a> {
    /// Nobody: users are the model's.
    Nothing,
    /// A store, some parts of it.
    Stored {
        parts: Vec<UserRows<'a>>,
        /// From its numbers to the model's.
        users: IdMap,
        items: IdMap,
    },
    /// Ratings in memory, whose items are the model's.
    Given(&'a InMemory),
    /// Users are items: each has itself.
    Itself,
}

impl<'a> Rated<'a> {
    /// These parts of a store, beside a model, or one that numbers rows as the store does.
    pub(super) fn stored(
        store: &'a Store,
        parts: &[Part],
        model: Option<&Model>,
    ) -> Result<Rated<'a>> {
        let map = |side: Side| match model {
            Some(model) => IdMap::new(store.dictionary(side), model.dictionary(side)),
            None => Ok(IdMap::Same),
        };
        Ok(Rated::Stored {
            parts: parts.iter().filter_map(|&part| store.part(part)).collect(),
            users: map(Side::Users)?,
            items: map(Side::Items)?,
        })
    }

    /// How many users there are, if that is not the model's number.
    pub(super) fn users(&self) -> Option<usize> {
        match self {
            Rated::Stored {
                users: IdMap::Rows(rows),
                ..
            } => Some(rows.len()),
            _ => None,
        }
    }

    /// The row of a user's factors, if there is one.
    pub(super) fn row(&self, user: u32) -> Option<u32> {
        match self {
            Rated::Stored { users, .. } => users.get(user),
            Rated::Nothing | Rated::Given(_) | Rated::Itself => Some(user),
        }
    }

    /// What each of these users has rated: rows of the model, ascending within each part.
    pub(super) fn of(&self, users: &[u32]) -> Result<Vec<Vec<u32>>> {
        let mut rated = vec![Vec::new(); users.len()];
        match self {
            Rated::Nothing => {}
            Rated::Itself => rated = users.iter().map(|&user| vec![user]).collect(),
            Rated::Stored { parts, items, .. } => {
                for part in parts {
                    part.visit(users, |at, row| {
                        rated[at].extend(row.cols.iter().filter_map(|&item| items.get(item)));
                    })?;
                }
            }
            Rated::Given(ratings) => {
                // One block holds all rows.
                let block = ratings.block(Side::Users, 0)?;
                let mut scratch = RowScratch::default();
                for (rated, &user) in rated.iter_mut().zip(users) {
                    rated.extend_from_slice(block.row(user as usize, &mut scratch).cols);
                }
            }
        }
        Ok(rated)
    }

    /// Gives back the memory of the rows of these users.
    pub(super) fn release(&self, users: Range<usize>) {
        if let Rated::Stored { parts, .. } = self {
            for part in parts {
                part.release(users.clone());
            }
        }
    }
}
