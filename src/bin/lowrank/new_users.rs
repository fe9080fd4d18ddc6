//! Users who are folded in: their ratings from a file, their rows solved for.

use std::path::Path;

use lowrank::Result;
use lowrank::ingest::{Input, NewUsers as Read, ReadOptions};
use lowrank::matrix::{Ratings, RowScratch, Shape, Side};
use lowrank::memory::Plan;
use lowrank::model::{Model, Record};
use lowrank::recommend::FoldedIn;
use lowrank::store::{Dictionary, Store};

use crate::session::{Session, counted};

/// The fewest users and ratings that there can be.
const ONE: (usize, u64) = (1, 1);

/// Users with their ids.
pub struct NewUsers {
    /// Their ids, by their rows.
    pub ids: Vec<String>,
    /// Their rows.
    pub folded_in: FoldedIn,
}

impl NewUsers {
    /// Plans what is held however many they are.
    pub fn plan(plan: &mut Plan, record: &Record, session: &Session) -> Result<()> {
        plan.hold("solving for rows", NewUsers::memory(record, ONE, session)?);
        Ok(())
    }

    /// Bytes that so many users and ratings take beside their ids and ratings.
    fn memory(record: &Record, (users, ratings): (usize, u64), session: &Session) -> Result<u64> {
        let shape = Shape {
            users,
            items: record.shape.items,
            ratings,
        };
        FoldedIn::memory(&record.options, shape, session.threads.count())
    }

    /// Reads their ratings and solves for their rows, which have to fit beside what the plan has. Of a model whose solver
    /// asks for the ratings that it was trained on, the store is needed.
    pub fn fold_in(
        path: &Path,
        model: &Model,
        store: Option<&Store>,
        plan: &mut Plan,
        session: &Session,
    ) -> Result<NewUsers> {
        let items = model.dictionary(Side::Items);
        let options = ReadOptions::default().within(plan.budget());
        let record = model.record();
        let one = NewUsers::memory(record, ONE, session)?;
        let of_user = NewUsers::memory(record, (2, 1), session)?.saturating_sub(one);
        let read = Read::read(Input::from(path), &options, items, plan, of_user)?;
        if read.unknown > 0 {
            let unknown = counted(read.unknown, "rating");
            session.say(format!(
                "note: {unknown} of items that the model does not know"
            ));
        }
        let rows = read.ratings.block(Side::Users, 0)?;
        let least = model.record().options.positive_at;
        let rows = rows.at_least(least.unwrap_or(f32::NEG_INFINITY));
        let mut scratch = RowScratch::default();
        let mut learnt = |row| !rows.row(row, &mut scratch).is_empty();
        let without = (0..rows.rows()).filter(|&row| !learnt(row)).count() as u64;
        if without > 0 {
            let users = counted(without, "user");
            session.say(format!(
                "note: {users} with no item that the model knows and learns from, who get what anybody would"
            ));
        }
        plan.hold("new users and their ratings", read.bytes);
        let Shape { users, ratings, .. } = read.ratings.shape();
        let all = NewUsers::memory(record, (users, ratings), session)?;
        let planned = one + of_user * users as u64;
        plan.hold("rows of new users", all.saturating_sub(planned));
        plan.rest(0)?;
        let trained = store.filter(|store| FoldedIn::is_of(store, model));
        let fold_in = || FoldedIn::new(model, read.ratings, trained);
        Ok(NewUsers {
            folded_in: session.threads.run(fold_in)?,
            ids: read.ids,
        })
    }

    /// The row of each user of a dictionary, if that one is among them.
    pub fn rows(&self, users: &Dictionary) -> Result<Vec<Option<u32>>> {
        let mut rows = vec![None; users.len()];
        for (row, id) in (0..).zip(&self.ids) {
            if let Some(user) = users.lookup(id)? {
                rows[user as usize] = Some(row);
            }
        }
        Ok(rows)
    }
}
