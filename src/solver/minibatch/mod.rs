//! The driver of mini-batches: what users took is held against items that are drawn from the whole catalogue.
//!
//! An epoch goes over the users in windows, and in each window over batches of users in an order drawn from the seed and the
//! epoch. A batch first looks at all of its users where they stand, in parallel: a [`Contrast`] draws what their positives are held
//! against, and gives the slope of the loss at each score. The rows of its users step along their gradients, users
//! in parallel; then the rows of the items that were met, items in parallel, each by the slopes of the batch's users in
//! their order. No row is written by two tasks and every sum has an order of its own, so that the result cannot depend on
//! threads. What is drawn depends on the seed, the epoch and the number of the batch or user.
//!
//! With dropout a visit sees its user without some factors, drawn anew each time: what is left tells more, and the others stay.
//!
//! Negatives that a whole batch shares are scored for all its users by a matrix product, as recommendations are. Most contrasts have
//! slopes at a few of them, which are pairs like others; one that samples the whole catalogue has a slope at each.

mod contrast;
mod fold_in;
mod met;
mod rows;
mod shared;
mod window;

use std::cell::RefCell;

use rayon::prelude::*;

use super::alternating::sum_over;
use super::row_step::Own;
use super::{Ridge, RowSums, Tick};
use crate::error::Result;
use crate::kernel::{self, Isa, PackedItems, UserRows};
use crate::matrix::{Factors, Ratings, Shape};
use crate::rng::{Purpose, Stream};

pub use contrast::{Contrast, Pairs, Scored};
use contrast::{User, score};
pub use fold_in::batching as fold_in_batching;
use met::Met;
pub use rows::Moving;
use rows::Terms;
use shared::{Chances, Shared};
use window::{Visit, Window, for_each_window};

/// Visits of a task, scored together: a matter of balance only.
const TASK: usize = 16;

/// Items of a task: likewise.
const ITEMS: usize = 64;

/// The size of batches.
#[derive(Debug, Clone, Copy)]
pub struct Batching {
    /// Visits of a batch.
    pub users: usize,
    /// The most positives of a visit: more are parts of other batches.
    pub positives: usize,
    /// The most pairs that a positive can lead to.
    pub pairs: usize,
}

/// How rows step.
#[derive(Debug, Clone, Copy)]
pub struct Steps {
    /// The learning rate.
    pub rate: f32,
    /// The ridge, for each positive.
    pub ridge: Ridge,
    /// Whether rows stay on the unit sphere.
    pub unit: bool,
    /// Whether biases move, too.
    pub biases: bool,
}

/// What draws depend on.
#[derive(Debug, Clone, Copy)]
pub struct Draws {
    /// The seed of the training.
    pub seed: u64,
    /// The epoch; 0 for measuring.
    pub epoch: usize,
    /// Whether users are folded in: each draws as if there were no others.
    pub alone: bool,
}

/// The driver, with what it needs to know of a method.
pub struct MiniBatches<'a, C> {
    /// The method.
    pub contrast: &'a C,
    /// The size of batches.
    pub batching: Batching,
    /// The share of a user's factors that are left out of a visit, drawn anew for each.
    pub dropout: f32,
    /// What draws depend on.
    pub draws: Draws,
    /// The instruction set of kernels.
    pub isa: Isa,
}

/// What the visits of a task lead to.
#[derive(Default)]
struct Task {
    pairs: Pairs,
    /// Where each visit's pairs end.
    ends: Vec<usize>,
    loss: f64,
    squared_error: f64,
}

/// What a batch looks like from where the rows stand.
struct Look {
    /// Copies of the users' rows.
    rows: Factors,
    tasks: Vec<Task>,
}

thread_local! {
    /// Room for scores and gradients, which a thread keeps from task to task.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

#[derive(Default)]
struct Scratch {
    shared_scores: Vec<f32>,
    positives: Vec<u32>,
    scores: Vec<f32>,
    drawn: (Vec<u32>, Vec<f32>),
    gradient: Vec<f32>,
}

impl<C: Contrast> MiniBatches<'_, C> {
    /// Goes over all ratings once and moves both sides. Gives the losses and errors that batches met on their way, each before its
    /// own step, and the penalty of the rows as they were left.
    ///
    /// # Errors
    /// If ratings cannot be read.
    pub fn epoch(
        &self,
        ratings: &dyn Ratings,
        steps: Steps,
        mut users: Moving<'_>,
        mut items: Moving<'_>,
        tick: Tick<'_>,
    ) -> Result<RowSums> {
        let mut sums = RowSums::default();
        let mut positives_of = vec![0_u32; items.factors.rows()];
        let penalty = |own: Own<'_>, positives: usize| RowSums {
            penalty: steps.ridge.penalty(own.factors, own.bias, positives),
            ..RowSums::default()
        };
        for_each_window(ratings, |window| {
            let without = |user: &usize| window.items(*user).is_empty();
            for user in window.users().filter(without) {
                // Nothing would ever move where such a row starts, which would be taken for a taste.
                users.factors.row_mut(user).fill(0.0);
            }
            let batches = self.batches(window);
            let chances = self.chances(window, items.factors.rows());
            let mut stream = self.stream(Purpose::Batches, window.number() as u64);
            for number in stream.permutation(batches.len()) {
                let batch = &batches[number];
                let shared = self.shared(window.batch(number), &chances, items.factors);
                let seen = self.look(window, batch, &shared, users.factors, items.factors);
                self.step_users(&seen, &shared, batch, steps, &mut users, items.factors);
                self.step_items(&seen, &shared, batch, steps, &mut items);
                for task in &seen.tasks {
                    sums.loss += task.loss;
                    sums.squared_error += task.squared_error;
                }
                let positives = |visit: &Visit| visit.positives(window.items(visit.user)).len();
                tick(batch.iter().map(positives).sum::<usize>() as u64);
            }
            // No other window has these users.
            let (first, factors) = (window.users().start, &*users.factors);
            sums.add(sum_over(window.users().len(), |at| {
                penalty(Own::of(factors, first + at), window.items(first + at).len())
            }));
            for &item in window.all_items() {
                positives_of[item as usize] += 1;
            }
            Ok(())
        })?;
        let factors = &*items.factors;
        sums.add(sum_over(factors.rows(), |item| {
            penalty(Own::of(factors, item), positives_of[item] as usize)
        }));
        Ok(sums)
    }

    /// The sum of the losses where the rows stand.
    ///
    /// # Errors
    /// If ratings cannot be read.
    pub fn loss(&self, ratings: &dyn Ratings, users: &Factors, items: &Factors) -> Result<f64> {
        let mut loss = 0.0;
        for_each_window(ratings, |window| {
            let chances = self.chances(window, items.rows());
            for (number, batch) in self.batches(window).iter().enumerate() {
                let shared = self.shared(window.batch(number), &chances, items);
                let seen = self.look(window, batch, &shared, users, items);
                loss += seen.tasks.iter().map(|task| task.loss).sum::<f64>();
            }
            Ok(())
        })?;
        Ok(loss)
    }

    fn batches(&self, window: &Window) -> Vec<Vec<Visit>> {
        window.batches(self.batching.users, self.batching.positives)
    }

    /// The chances by which the batches of a window draw what they share.
    fn chances(&self, window: &Window, items: usize) -> Chances {
        match self.contrast.samples_catalogue() {
            true => Chances::by_popularity(window, items),
            false => Chances::Even(items),
        }
    }

    fn stream(&self, purpose: Purpose, row: u64) -> Stream {
        Stream::new(self.draws.seed, purpose, self.draws.epoch as u64, row)
    }

    /// The stream that a visit draws from.
    fn stream_of(&self, purpose: Purpose, visit: &Visit) -> Stream {
        let user = if self.draws.alone { 0 } else { visit.user };
        self.stream(purpose, (visit.part as u64) << 32 | user as u64)
    }

    /// Draws what a batch is held against.
    fn shared(&self, number: u64, chances: &Chances, items: &Factors) -> Shared {
        let mut stream = self.stream(Purpose::SharedNegatives, number);
        let count = self.contrast.shared();
        Shared::draw(count, chances, &mut stream, items, self.isa)
    }

    /// Sees what the visits of a batch lead to.
    fn look(
        &self,
        window: &Window,
        batch: &[Visit],
        shared: &Shared,
        users: &Factors,
        items: &Factors,
    ) -> Look {
        let mut rows = Factors::zeros(batch.len(), users.rank(), true);
        let stride = rows.stride();
        let (flat, biases) = rows.parts_mut();
        let rows_of_tasks = flat
            .par_chunks_mut(TASK * stride)
            .zip(biases.par_chunks_mut(TASK));
        let tasks = batch
            .par_chunks(TASK)
            .zip(rows_of_tasks)
            .map(|(visits, (flat, starts))| {
                for (at, visit) in visits.iter().enumerate() {
                    let row = &mut flat[at * stride..][..users.rank()];
                    row.copy_from_slice(users.row(visit.user));
                    starts[at] = users.bias(visit.user);
                    if self.dropout > 0.0 {
                        let mut stream = self.stream_of(Purpose::Dropout, visit);
                        drop_out(row, self.dropout, &mut stream);
                    }
                }
                let users = UserRows {
                    flat,
                    stride,
                    starts,
                };
                SCRATCH.with_borrow_mut(|scratch| {
                    self.visit(window, visits, users, items, shared, scratch)
                })
            });
        let tasks = tasks.collect();
        Look { rows, tasks }
    }

    fn visit(
        &self,
        window: &Window,
        visits: &[Visit],
        users: UserRows<'_>,
        items: &Factors,
        shared: &Shared,
        scratch: &mut Scratch,
    ) -> Task {
        let stride = items.stride();
        let packed: PackedItems<'_> = shared.packed(items.rank());
        let width = packed.starts.len();
        scratch.shared_scores.resize(TASK * width, 0.0);
        kernel::score(self.isa, users, packed, &mut scratch.shared_scores);
        let mut task = Task::default();
        for (at, visit) in visits.iter().enumerate() {
            let taken = window.items(visit.user);
            scratch.positives.clear();
            scratch.positives.extend(visit.positives(taken));
            let user = User {
                factors: &users.flat[at * stride..][..stride],
                bias: users.starts[at],
            };
            score(
                self.isa,
                user,
                items,
                &scratch.positives,
                &mut scratch.scores,
            );
            let mut scored = Scored {
                taken,
                positives: &scratch.positives,
                scores: &scratch.scores,
                shared: &shared.items,
                shared_scores: &scratch.shared_scores[at * width..][..shared.items.len()],
                shared_weights: &shared.weights,
                stream: &mut self.stream_of(Purpose::Negatives, visit),
                user,
                items,
                drawn: &mut scratch.drawn,
                isa: self.isa,
            };
            task.loss += self.contrast.pairs(&mut scored, &mut task.pairs);
            let values = visit.positives(window.values(visit.user));
            for (&score, &value) in scratch.scores.iter().zip(values) {
                task.squared_error += f64::from(score - value) * f64::from(score - value);
            }
            task.ends.push(task.pairs.items.len());
        }
        task
    }

    /// The items that stand for the catalogue, if the contrast samples it.
    fn sampled<'s>(&self, shared: &'s Shared) -> &'s [u32] {
        match self.contrast.samples_catalogue() {
            true => &shared.items,
            false => &[],
        }
    }

    /// Moves the users of a batch.
    fn step_users(
        &self,
        seen: &Look,
        shared: &Shared,
        batch: &[Visit],
        steps: Steps,
        users: &mut Moving<'_>,
        items: &Factors,
    ) {
        let Look { rows, tasks } = seen;
        let sampled = self.sampled(shared);
        // The slopes of a softmax add up to nothing but rounding: a user's bias changes no order.
        let of_users = Steps {
            biases: steps.biases && !self.contrast.samples_catalogue(),
            ..steps
        };
        let flat = items.flat();
        let spans = users.spans(
            batch
                .chunks(TASK)
                .map(|visits| (visits[0].user, visits[visits.len() - 1].user)),
        );
        let work = spans
            .into_par_iter()
            .zip(batch.par_chunks(TASK))
            .zip(tasks)
            .enumerate();
        work.for_each(|(number, ((mut span, visits), task))| {
            SCRATCH.with_borrow_mut(|scratch| {
                scratch.gradient.resize(rows.stride(), 0.0);
                let mut start = 0;
                for (at, (visit, &end)) in visits.iter().zip(&task.ends).enumerate() {
                    let of_pairs = Terms {
                        slopes: &task.pairs.slopes[start..end],
                        flat,
                        rows: &task.pairs.items[start..end],
                    };
                    let of_shared = Terms {
                        slopes: &task.pairs.shared[at * sampled.len()..][..sampled.len()],
                        flat,
                        rows: sampled,
                    };
                    let through = rows.padded_row(number * TASK + at);
                    span.step(
                        self.isa,
                        visit.user,
                        [of_pairs, of_shared],
                        (self.dropout > 0.0).then_some(through),
                        &mut scratch.gradient,
                        of_users,
                    );
                    start = end;
                }
            });
        });
    }

    /// Moves the items that a batch met.
    fn step_items(
        &self,
        seen: &Look,
        shared: &Shared,
        batch: &[Visit],
        steps: Steps,
        items: &mut Moving<'_>,
    ) {
        let Look { rows, tasks } = seen;
        let met = Met::new(tasks, self.sampled(shared), batch.len());
        let spans = items.spans(
            met.groups
                .chunks(ITEMS)
                .map(|groups| (groups[0].item, groups[groups.len() - 1].item)),
        );
        spans
            .into_par_iter()
            .zip(met.groups.par_chunks(ITEMS))
            .for_each(|(mut span, groups)| {
                SCRATCH.with_borrow_mut(|scratch| {
                    scratch.gradient.resize(rows.stride(), 0.0);
                    for group in groups {
                        span.step(
                            self.isa,
                            group.item,
                            met.terms(group, rows.flat()),
                            None,
                            &mut scratch.gradient,
                            steps,
                        );
                    }
                });
            });
    }
}

/// Sets factors of a row to zero, each with this chance, and scales the others so that the row keeps its length.
fn drop_out(row: &mut [f32], chance: f32, stream: &mut Stream) {
    let squares = |row: &[f32]| row.iter().map(|x| f64::from(x * x)).sum::<f64>();
    let before = squares(row);
    for x in row.iter_mut() {
        if stream.uniform() < f64::from(chance) {
            *x = 0.0;
        }
    }
    let left = squares(row);
    if left > 0.0 {
        let scale = (before / left).sqrt() as f32;
        row.iter_mut().for_each(|x| *x *= scale);
    }
}

/// Memory that batches of this size take, in bytes.
pub fn memory(
    contrast: &impl Contrast,
    shape: Shape,
    rank: usize,
    batching: Batching,
    threads: usize,
) -> u64 {
    let stride = rank.next_multiple_of(kernel::LANES);
    let shared = contrast.shared();
    let positives = batching.positives.min(shape.items) * batching.users;
    let mut pairs = positives.min(shape.ratings as usize) * batching.pairs;
    let mut of_batch =
        batching.users * stride * 4 + 2 * shared * (stride + 4) * 4 + 4 * shape.items;
    if contrast.samples_catalogue() {
        // Slopes by visit, in vectors that may have grown to twice their length, and by item; chances and counts of items.
        of_batch += 3 * batching.users * shared * 4 + shape.items * (8 + 4);
    } else {
        pairs += batching.users * shared;
    }
    // Each pair in its task, as a key with its slope, and by item.
    let of_pair = 8 + 8 + 8 + 12;
    let of_thread = TASK * shared * 4 + 8 * shape.items + stride * 4;
    Window::bytes(shape) + (2 * pairs * of_pair + of_batch + threads * of_thread) as u64
}

#[cfg(test)]
mod tests;
