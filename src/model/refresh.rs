//! A model after ratings were added: the rows that they touch, and no others, solved anew from all of their ratings.
//!
//! Users are solved first, so that new ones have rows; then the items that have grown, to these users; then the users once
//! more, so that each of their rows is the exact answer to the final items, as after an epoch. A row that is not solved stays
//! as it was, the mean and the scale of normalisation, too.

use serde::{Deserialize, Serialize};

use super::Model;
use crate::error::{Error, ErrorKind, Result};
use crate::matrix::{Factors, Picked, Ratings, Side};
use crate::solver::{Fixed, Parameters, Solver, method};
use crate::store::{Fingerprint, Store};

/// What an update has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Updated {
    /// Fingerprint of the training ratings before it.
    pub before: Fingerprint,
    /// How many users were solved.
    pub users: u64,
    /// How many items were solved.
    pub items: u64,
}

/// A model that is to be refreshed.
pub struct Refresh<'a> {
    model: &'a Model,
    solver: Box<dyn Solver>,
}

impl<'a> Refresh<'a> {
    /// Checks that the model was trained on, or updated with, the ratings of `store`, and that its solver solves for rows.
    ///
    /// # Errors
    /// If that is not so.
    pub fn new(model: &'a Model, store: &Store) -> Result<Refresh<'a>> {
        let options = &model.record().options;
        let solver = method(&options.solver)?.solver(options)?;
        if !solver.solves_either_side() {
            let what = format!(
                "a model of {} cannot be updated: its solver does not solve for single rows",
                options.solver
            );
            return Err(Error::new(ErrorKind::BadOption, what)
                .remedy("train again, or train with --solver als, or ials for implicit feedback"));
        }
        Refresh::expect_same(model, store)?;
        Ok(Refresh { model, solver })
    }

    /// Checks that the model was trained on, or updated with, the ratings of `store`.
    ///
    /// # Errors
    /// If that is not so.
    pub fn expect_same(model: &Model, store: &Store) -> Result<()> {
        let same_ids = |side| store.dictionary(side).seal() == model.dictionary(side).seal();
        if store.manifest().fingerprint == model.record().fingerprint
            && same_ids(Side::Users)
            && same_ids(Side::Items)
        {
            return Ok(());
        }
        let what = "the model was trained on other ratings than those of this store";
        let error = Error::new(ErrorKind::BadOption, what);
        Err(error.remedy("name the store that it was trained on, or train again"))
    }

    /// The parameters with these rows solved from the ratings of `store`, which is the model's own with ratings and rows
    /// added; rows ascend, and have all new ones among them. Rows are gathered in so many bytes at a time. Runs on the thread
    /// pool it is called in.
    ///
    /// # Errors
    /// If ratings cannot be read, or a row cannot be solved.
    pub fn run(
        &self,
        store: &Store,
        users: &[u32],
        items: &[u32],
        room: u64,
    ) -> Result<Parameters> {
        let options = &self.model.record().options;
        method(&options.solver)?.check_ratings(options, store)?;
        let before = self.model.parameters();
        let shape = store.shape();
        let mut parameters = Parameters {
            users: extended(&before.users, shape.users),
            items: extended(&before.items, shape.items),
            mean: before.mean,
            std: before.std,
            neighbourhood: None,
        };
        self.solve(store, Side::Users, users, &mut parameters, room)?;
        self.solve(store, Side::Items, items, &mut parameters, room)?;
        if !items.is_empty() {
            self.solve(store, Side::Users, users, &mut parameters, room)?;
        }
        Ok(parameters)
    }

    /// Memory that it takes beside an open model to refresh it to these numbers of rows, in bytes, but for the ratings that
    /// are gathered.
    pub fn memory(&self, users: usize, items: usize, solved: usize) -> u64 {
        let options = &self.model.record().options;
        let (rank, biases) = (options.rank, options.biases);
        let rows = |rows| Factors::bytes(rows, rank, biases);
        let counts = 4 * users.max(items) as u64;
        rows(users) + rows(items) + 3 * rows(solved) + counts
    }

    fn solve(
        &self,
        store: &Store,
        side: Side,
        mut rows: &[u32],
        parameters: &mut Parameters,
        room: u64,
    ) -> Result<()> {
        let counts = store.rating_counts(side)?;
        let most = room / Picked::RATING_BYTES;
        let least = self.model.record().options.positive_at;
        while !rows.is_empty() {
            let mut held = 0;
            let fits = rows.iter().take_while(|&&row| {
                held += u64::from(counts[row as usize]);
                held <= most
            });
            // One row at least: it is as long as a row of the store that was decoded before.
            let (now, rest) = rows.split_at(fits.count().max(1));
            rows = rest;
            let picked = Picked::new(store, side, now, least)?;
            let (moving, fixed) = match side {
                Side::Users => (&mut parameters.users, &parameters.items),
                Side::Items => (&mut parameters.items, &parameters.users),
            };
            let mut solved = Factors::zeros(now.len(), moving.rank(), moving.has_biases());
            let fixed = Fixed::new(fixed, parameters.mean, parameters.std);
            self.solver.fold_in(&picked, None, &fixed, &mut solved)?;
            for (at, &row) in now.iter().enumerate() {
                moving.row_mut(row as usize).copy_from_slice(solved.row(at));
                if moving.has_biases() {
                    moving.biases_mut()[row as usize] = solved.bias(at);
                }
            }
        }
        Ok(())
    }
}

/// The same factors with rows of zeros after them.
fn extended(factors: &Factors, rows: usize) -> Factors {
    let mut extended = Factors::zeros(rows, factors.rank(), factors.has_biases());
    let (flat, biases) = extended.parts_mut();
    flat[..factors.flat().len()].copy_from_slice(factors.flat());
    biases[..factors.biases().len()].copy_from_slice(factors.biases());
    extended
}
