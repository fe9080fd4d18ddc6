//! What may be recommended at all, and what popular items are held back by.

use std::borrow::Cow;

use crate::error::{Error, ErrorKind, Result};
use crate::matrix::{Factors, Side};
use crate::model::Model;
use crate::store::{IdMap, Store};

/// Which of a model's items may be recommended, and with which discount.
///
/// A discount is part of an item's score from the start, so lists stay exact: they are the best by discounted scores.
#[derive(Debug, Clone)]
pub struct Catalogue {
    /// Whether each item may be recommended; all may without it.
    allowed: Option<Vec<bool>>,
    items: usize,
    /// What is taken off each item's score, in units of the model.
    discounts: Option<Vec<f32>>,
}

impl Catalogue {
    /// All of so many items.
    pub fn whole(items: usize) -> Catalogue {
        Catalogue {
            allowed: None,
            items,
            discounts: None,
        }
    }

    /// The items of a model that are among `only`, if that is given, and not among `deny`: both say for each item whether it
    /// is.
    ///
    /// # Errors
    /// If nothing is left.
    ///
    /// # Panics
    /// If there are not as many as the model has items.
    pub fn of(
        model: &Model,
        only: Option<Vec<bool>>,
        deny: Option<Vec<bool>>,
    ) -> Result<Catalogue> {
        let all = model.dictionary(Side::Items).len();
        let mut allowed = only.unwrap_or_else(|| vec![true; all]);
        assert_eq!(allowed.len(), all, "a word for each item");
        if let Some(deny) = deny {
            assert_eq!(deny.len(), all, "a word for each item");
            let denied = allowed.iter_mut().zip(deny);
            denied.for_each(|(allowed, denied)| *allowed &= !denied);
        }
        let items = allowed.iter().filter(|&&allowed| allowed).count();
        if items == 0 {
            let what = "no item of the model may be recommended";
            return Err(Error::new(ErrorKind::BadInput, what)
                .remedy("allow some that it knows, by their ids, or deny fewer"));
        }
        Ok(Catalogue {
            allowed: (items < all).then_some(allowed),
            items,
            discounts: None,
        })
    }

    /// Takes `weight * log2(1 + n)` off the score of an item that `n` users of the store have in the training part.
    ///
    /// # Errors
    /// If the weight is below zero, or the store cannot be read.
    pub fn discount(mut self, model: &Model, store: &Store, weight: f32) -> Result<Catalogue> {
        if !(weight.is_finite() && weight >= 0.0) {
            let what = format!("the discount is {weight}; it must be a number from 0 up");
            return Err(Error::new(ErrorKind::BadOption, what));
        }
        let ids = model.dictionary(Side::Items);
        let rows = IdMap::new(store.items(), ids)?;
        let std = model.parameters().std;
        let mut discounts = vec![0.0; ids.len()];
        for (item, count) in (0..).zip(store.rating_counts(Side::Items)?) {
            if let Some(row) = rows.get(item) {
                let doublings = libm::log2(1.0 + f64::from(count));
                discounts[row as usize] = (f64::from(weight / std) * doublings) as f32;
            }
        }
        self.discounts = Some(discounts);
        Ok(self)
    }

    /// How many items may be recommended.
    pub fn items(&self) -> usize {
        self.items
    }

    /// Whether each item may be recommended; all may without it.
    pub(super) fn allowed(&self) -> Option<&[bool]> {
        self.allowed.as_deref()
    }

    /// What each item's score starts from: its bias, less its discount.
    pub(super) fn starts<'a>(&self, items: &'a Factors) -> Cow<'a, [f32]> {
        match &self.discounts {
            None if items.has_biases() => Cow::Borrowed(items.biases()),
            None => Cow::Owned(vec![0.0; items.rows()]),
            Some(discounts) => {
                let started = |(row, discount): (usize, &f32)| items.bias(row) - discount;
                Cow::Owned(discounts.iter().enumerate().map(started).collect())
            }
        }
    }
}
