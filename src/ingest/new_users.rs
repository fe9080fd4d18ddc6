//! Ratings of users whom a model may not know, beside its items: read from text, and held in memory.

use std::collections::HashMap;

use super::{Consumer, Input, RawRating, ReadOptions, read_ratings};
use crate::error::{Error, ErrorKind, Result};
use crate::matrix::InMemory;
use crate::memory::{Bytes, Plan};
use crate::store::Dictionary;

/// Users by their ids, and their ratings.
#[derive(Debug)]
pub struct NewUsers {
    /// The users' ids, in the order in which they first occur.
    pub ids: Vec<String>,
    /// Their ratings of known items: users by their place in `ids`, items by their rows in the dictionary.
    pub ratings: InMemory,
    /// Ratings of items that are not known, which are left out.
    pub unknown: u64,
    /// Bytes that all this takes, as far as it goes by the number of ratings, users and items, and what else is to be held for
    /// each user.
    pub bytes: u64,
}

/// Bytes that a rating takes while it is read and sorted.
const RATING_BYTES: u64 = 48;

/// Bytes that a user takes beside the two copies of the id: their allocations, and places in a list and a table.
const USER_BYTES: u64 = 128;

impl NewUsers {
    /// Reads ratings in any input format. Of a pair that is rated more than once the last line counts. For each user,
    /// `of_user` bytes more are to be held later.
    ///
    /// # Errors
    /// If the text cannot be read, none of its items is known, or its users and ratings take more than the plan leaves. What
    /// would do is told where at least the users' ids fit: ratings are counted then.
    pub fn read(
        input: Input,
        options: &ReadOptions,
        items: &Dictionary,
        plan: &Plan,
        of_user: u64,
    ) -> Result<NewUsers> {
        let path = input.name().to_owned();
        let held = input.memory()?;
        let mut collector = Collector {
            items,
            most: plan.rest(held)?,
            of_user,
            held,
            of_ids: held,
            users: HashMap::new(),
            ids: Vec::new(),
            ratings: Vec::new(),
            unknown: 0,
        };
        read_ratings(&[input], options, &mut collector)?;
        let Collector {
            ids,
            mut ratings,
            unknown,
            held,
            most,
            ..
        } = collector;
        if held > most {
            let mut plan = plan.clone();
            plan.hold("new users and their ratings", held);
            plan.rest(0)?;
        }
        // Stable, so that the last line of a pair comes last.
        ratings.sort_by_key(|&(user, item, _)| (user, item));
        ratings.reverse();
        ratings.dedup_by_key(|&mut (user, item, _)| (user, item));
        if ratings.is_empty() {
            let what = "none of these ratings is of an item that the model knows";
            return Err(Error::new(ErrorKind::BadInput, what)
                .path(path)
                .remedy("use the ids of the ratings that it was trained on"));
        }
        Ok(NewUsers {
            ratings: InMemory::from_triplets(ids.len(), items.len(), &ratings)?,
            ids,
            unknown,
            bytes: held,
        })
    }
}

struct Collector<'a> {
    items: &'a Dictionary,
    most: u64,
    /// Bytes that are to be held for each user in the end.
    of_user: u64,
    /// Bytes of what was read so far, were all of it held.
    held: u64,
    /// Of those, bytes of users' ids, and of reading itself.
    of_ids: u64,
    users: HashMap<String, u32>,
    ids: Vec<String>,
    ratings: Vec<(u32, u32, f32)>,
    unknown: u64,
}

impl Consumer for Collector<'_> {
    /// Users as written, and the item's row if it is known.
    type Chunk = Vec<(String, Result<Option<u32>>, f32)>;

    fn begin(&self) -> Self::Chunk {
        Vec::new()
    }

    fn ratings(&self, chunk: &mut Self::Chunk, ratings: &[RawRating<'_>]) {
        let text = |id: &[u8]| String::from_utf8_lossy(id).into_owned();
        chunk.extend(ratings.iter().map(|rating| {
            let item = self.items.lookup(&text(rating.item));
            (text(rating.user), item, rating.rating)
        }));
    }

    fn commit(&mut self, chunk: Self::Chunk) -> Result<()> {
        for (id, item, rating) in chunk {
            let next = self.users.len() as u32;
            let user = match self.users.get(&id) {
                Some(&user) => user,
                None => {
                    let bytes = 2 * id.len() as u64 + USER_BYTES;
                    self.of_ids += bytes;
                    self.held += bytes + self.of_user;
                    self.ids.push(id.clone());
                    self.users.insert(id, next);
                    next
                }
            };
            match item? {
                Some(item) => {
                    self.held += RATING_BYTES;
                    match self.held <= self.most {
                        true => self.ratings.push((user, item, rating)),
                        // From here on they are counted, so that the budget that would do can be named.
                        false => self.ratings = Vec::new(),
                    }
                }
                None => self.unknown += 1,
            }
            if self.of_ids > self.most {
                let most = Bytes(self.most);
                let what = format!("the ids of these users take more than {most} of memory");
                return Err(Error::new(ErrorKind::OverBudget, what)
                    .remedy("raise --memory, or fold these users in part by part"));
            }
        }
        Ok(())
    }
}
