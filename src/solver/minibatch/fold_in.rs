//! Users who are folded in: their rows step as in training, from zero, and no item moves.
//!
//! A user's row must not depend on who else is folded in, nor on the store. So what a visit draws, and what it shares with other
//! users, hangs on the seed, the epoch and the number of the visit among the user's own; users of as many visits meet
//! the same negatives, each as if alone. Items that stand for the catalogue are drawn by their numbers, which go by
//! popularity where a store numbers them; each weighs what it stands for, and so the slopes are right on average for any numbering.

use super::rows::Moving;
use super::shared::Chances;
use super::window::for_each_window;
use super::{Batching, Contrast, MiniBatches, Steps};
use crate::error::Result;
use crate::matrix::{Factors, Ratings, Shape};

/// The most visits of a user in an epoch. In a training visits alternate with steps of the items; here more of them only cost time.
const VISITS: usize = 64;

impl<C: Contrast> MiniBatches<'_, C> {
    /// Goes over all ratings once and moves users alone.
    ///
    /// # Errors
    /// If ratings cannot be read.
    pub fn fold_in(
        &self,
        ratings: &dyn Ratings,
        steps: Steps,
        mut users: Moving<'_>,
        items: &Factors,
    ) -> Result<()> {
        let chances = match self.contrast.samples_catalogue() {
            true => Chances::by_number(items.rows()),
            false => Chances::Even(items.rows()),
        };
        for_each_window(ratings, |window| {
            for (number, turn) in window.turns(self.batching.positives, VISITS).enumerate() {
                let shared = self.shared(number as u64, &chances, items);
                for batch in turn.chunks(self.batching.users) {
                    let seen = self.look(window, batch, &shared, users.factors, items);
                    self.step_users(&seen, &shared, batch, steps, &mut users, items);
                }
            }
            Ok(())
        })
    }
}

/// How large batches are, at most, when users of these ratings are folded in.
pub fn batching(batching: Batching, shape: Shape) -> Batching {
    Batching {
        positives: batching.positives.max(shape.items.div_ceil(VISITS)),
        ..batching
    }
}
