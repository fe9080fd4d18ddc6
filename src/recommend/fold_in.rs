//! Users who were not in training, or have rated more since: their rows solved from their ratings, the items fixed.

use crate::error::{Error, ErrorKind, Result};
use crate::matrix::{AtLeast, Factors, InMemory, Ratings, Shape, Side, SparseRows};
use crate::model::Model;
use crate::solver::{Options, histories, method};
use crate::store::Store;

/// Users with rows of their own, beside a model's items.
#[derive(Debug)]
pub struct FoldedIn {
    users: Factors,
    /// What they took, where the model is made of weights between items.
    histories: Option<SparseRows>,
    ratings: InMemory,
}

impl FoldedIn {
    /// Solves the row of each user of `ratings`, whose items are the model's, as the model's solver does: the row of a user
    /// who was in training with the same ratings is that user's row. Some solvers need the ratings that the model was
    /// `trained` on, too. Runs on the thread pool it is called in.
    ///
    /// # Errors
    /// If the solver does not solve rows, needs what is not given, or cannot use these ratings.
    pub fn new(model: &Model, ratings: InMemory, trained: Option<&Store>) -> Result<FoldedIn> {
        let options = &model.record().options;
        let method = method(&options.solver)?;
        let solver = method.solver(options)?;
        method.check_ratings(options, &ratings)?;
        let shape = ratings.shape();
        let items = &model.parameters().items;
        let mut users = Factors::zeros(shape.users, items.rank(), items.has_biases());
        if let Some(store) = trained
            && !FoldedIn::is_of(store, model)
        {
            return Err(Error::new(
                ErrorKind::BadOption,
                "the model was trained on other ratings than those of this store",
            )
            .path(store.path())
            .remedy("name the store that it was trained on"));
        }
        let fixed = model.parameters().fixed_items();
        let took = |ratings: &dyn Ratings| match model.parameters().neighbourhood {
            Some(_) => histories(ratings).map(Some),
            None => Ok(None),
        };
        let histories = match options.positive_at {
            None => {
                let trained = trained.map(|store| store as &dyn Ratings);
                solver.fold_in(&ratings, trained, &fixed, &mut users)?;
                took(&ratings)?
            }
            Some(least) => {
                let positive = AtLeast::new(&ratings, least)?;
                let trained = match trained {
                    Some(store) => Some(AtLeast::new(store, least)?),
                    None => None,
                };
                let trained = trained.as_ref().map(|ratings| ratings as &dyn Ratings);
                solver.fold_in(&positive, trained, &fixed, &mut users)?;
                took(&positive)?
            }
        };
        Ok(FoldedIn {
            users,
            histories,
            ratings,
        })
    }

    /// Whether a model was trained on what a store has to train on, and numbers items as it does.
    pub fn is_of(store: &Store, model: &Model) -> bool {
        store.manifest().fingerprint == model.record().fingerprint
            && store.items().seal() == model.dictionary(Side::Items).seal()
    }

    /// Memory that folding users of this shape into a model of these options takes, in bytes, beside their ratings.
    ///
    /// # Errors
    /// If the options do not fit together.
    pub fn memory(options: &Options, shape: Shape, threads: usize) -> Result<u64> {
        let solver = method(&options.solver)?.solver(options)?;
        let rows = 2 * Factors::bytes(shape.users, options.rank, true);
        Ok(rows + solver.fold_in_memory(shape, threads))
    }

    /// Their factors and biases.
    pub fn users(&self) -> &Factors {
        &self.users
    }

    /// What they took, where the model is made of weights between items.
    pub(super) fn histories(&self) -> Option<&SparseRows> {
        self.histories.as_ref()
    }

    /// What they are folded in by.
    pub fn ratings(&self) -> &InMemory {
        &self.ratings
    }
}
