//! Which of a user's own items carry a recommendation.

use crate::error::{Error, ErrorKind, Result};
use crate::kernel::{self, Isa};
use crate::matrix::{Row, RowScratch, Side};
use crate::model::Model;
use crate::solver::{Neighbourhood, method};
use crate::store::{IdMap, Part, Store};

/// What the numbers of an explanation are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// What each item adds to the score: the user's row is linear in the ratings.
    Contribution,
    /// How like each item is to the recommended one, as a cosine: for solvers whose rows are not linear in the ratings.
    Likeness,
}

/// Why an item scores as it does for a user.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// What the numbers are.
    pub because: Because,
    /// The score.
    pub score: f32,
    /// What of the score is not by the user's items: the mean and the item's bias.
    pub rest: f32,
    /// The user's items by their rows in the model, with their numbers, the largest first.
    pub items: Vec<(u32, f32)>,
}

/// Explains the score of an item, by its row in the model, to a user of a store, by what the user has in the training
/// part. Runs on the thread pool it is called in.
///
/// # Errors
/// If the user has no training ratings that the model knows, or they cannot be read.
pub fn explain(model: &Model, store: &Store, user: u32, item: u32) -> Result<Explanation> {
    let options = &model.record().options;
    let least = options.positive_at.unwrap_or(f32::NEG_INFINITY);
    let map = IdMap::new(store.items(), model.dictionary(Side::Items))?;
    let rows = store
        .part(Part::Train)
        .expect("a store has a training part");
    let (block, row) = rows.find(user as usize)?;
    let scratch = &mut RowScratch::default();
    let row = block.row(row, scratch);
    let rated = row.cols.iter().zip(row.values);
    let known = rated.filter(|&(_, &rating)| rating >= least);
    let mut known: Vec<(u32, f32)> = known
        .filter_map(|(&col, &rating)| Some((map.get(col)?, rating)))
        .collect();
    known.sort_unstable_by_key(|&(item, _)| item);
    if known.is_empty() {
        let id = store.users().id(user as usize)?;
        let what = format!("user {id} has no training ratings that could explain anything");
        return Err(Error::new(ErrorKind::BadOption, what));
    }
    let (cols, values): (Vec<u32>, Vec<f32>) = known.into_iter().unzip();
    let row = Row {
        cols: &cols,
        values: &values,
    };
    let parameters = model.parameters();
    let items = parameters.fixed_items();
    let rest = parameters.predict(None, Some(item as usize));
    let solver = method(&options.solver)?.solver(options)?;
    let contributions = match &parameters.neighbourhood {
        Some(Neighbourhood { weights, .. }) => {
            let weight = |&i: &u32| f64::from(weights.get(i as usize, item));
            Some(cols.iter().map(weight).collect())
        }
        None => solver.contributions(row, &items, item as usize),
    };
    let (because, score, numbers) = match contributions {
        Some(contributions) => {
            let contributions: Vec<f64> = contributions;
            let unit = f64::from(parameters.std);
            let sum: f64 = contributions.iter().sum();
            let score = f64::from(rest) + unit * sum;
            let numbers = contributions.iter().map(|x| (unit * x) as f32).collect();
            (Because::Contribution, score as f32, numbers)
        }
        None => {
            let own = IdMap::new(store.users(), model.dictionary(Side::Users))?.get(user);
            let score = model.predict(own, Some(item))?;
            let likeness = |&other: &u32| likeness(model, item, other);
            let numbers: Vec<f32> = cols.iter().map(likeness).collect();
            (Because::Likeness, score, numbers)
        }
    };
    let mut items: Vec<(u32, f32)> = cols.into_iter().zip(numbers).collect();
    items.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    Ok(Explanation {
        because,
        score,
        rest,
        items,
    })
}

/// The cosine of two items; 0 where one has no length.
fn likeness(model: &Model, a: u32, b: u32) -> f32 {
    let isa = Isa::best();
    let items = &model.parameters().items;
    let (a, b) = (items.padded_row(a as usize), items.padded_row(b as usize));
    let lengths = (kernel::dot(isa, a, a) * kernel::dot(isa, b, b)).sqrt();
    match lengths > 0.0 {
        true => (kernel::dot(isa, a, b) / lengths).clamp(-1.0, 1.0),
        false => 0.0,
    }
}
