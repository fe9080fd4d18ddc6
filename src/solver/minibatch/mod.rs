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
//! Negatives that a whole batch shares are scored for all its users by a matrix product, as recommendations are.

mod rows;
mod window;

use std::cell::RefCell;

use rayon::prelude::*;

use super::Tick;
use crate::error::Result;
use crate::kernel::{self, Isa, PackedItems, TILE, UserRows};
use crate::matrix::{Factors, Ratings, Shape};
use crate::rng::{Purpose, Stream};

pub use rows::Moving;
use rows::Others;
use window::{Visit, Window, for_each_window};

/// Visits of a task, scored together: a matter of balance only.
const TASK: usize = 16;

/// Items of a task: likewise.
const ITEMS: usize = 64;

/// What a user's positives are held against, and how.
pub trait Contrast: Sync {
    /// How many negatives a batch shares, drawn with replacement from all items.
    fn shared(&self) -> usize;

    /// Gives the pairs of a visit with the slopes of the loss at their scores, and returns the loss. Every positive has one pair
    /// or more, with a slope below zero or -0, and no other pair has such a slope.
    fn pairs(&self, visit: &mut Scored<'_>, pairs: &mut Pairs) -> f64;
}

/// A user with positives and what may be held against them.
pub struct Scored<'a> {
    /// All items of the user, ascending.
    pub taken: &'a [u32],
    /// The positives of this visit, ascending.
    pub positives: &'a [u32],
    /// Their scores.
    pub scores: &'a [f32],
    /// The negatives that the batch shares, which may be among the user's items.
    pub shared: &'a [u32],
    /// Their scores.
    pub shared_scores: &'a [f32],
    /// For draws of the visit's own.
    pub stream: &'a mut Stream,
    user: User<'a>,
    items: &'a Factors,
    drawn: &'a mut (Vec<u32>, Vec<f32>),
    isa: Isa,
}

impl Scored<'_> {
    /// How many items there are.
    pub fn items(&self) -> usize {
        self.items.rows()
    }

    /// Whether the user took an item.
    pub fn took(&self, item: u32) -> bool {
        self.taken.binary_search(&item).is_ok()
    }

    /// Draws so many items that the user did not take, each with equal chances and with replacement, and scores them. There
    /// are none for a user who took everything.
    pub fn draw(&mut self, count: usize) -> impl Iterator<Item = (u32, f32)> {
        let (drawn, scores) = &mut *self.drawn;
        drawn.clear();
        let items = self.items.rows() as u64;
        if self.taken.len() as u64 != items {
            drawn.extend((0..count).map(|_| {
                loop {
                    let item = self.stream.below(items) as u32;
                    if self.taken.binary_search(&item).is_err() {
                        return item;
                    }
                }
            }));
        }
        score(self.isa, self.user, self.items, drawn, scores);
        drawn.iter().copied().zip(scores.iter().copied())
    }
}

/// A user's row as it stands.
#[derive(Debug, Clone, Copy)]
struct User<'a> {
    factors: &'a [f32],
    bias: f32,
}

fn score(isa: Isa, user: User<'_>, items: &Factors, rows: &[u32], out: &mut Vec<f32>) {
    out.resize(rows.len(), 0.0);
    kernel::dot_rows(isa, user.factors, items.flat(), rows, out);
    if items.has_biases() {
        for (score, &row) in out.iter_mut().zip(rows) {
            *score += items.biases()[row as usize] + user.bias;
        }
    }
}

/// Pairs of a user and an item, with the slope of the loss at their score.
#[derive(Debug, Default)]
pub struct Pairs {
    items: Vec<u32>,
    slopes: Vec<f32>,
}

impl Pairs {
    /// One pair more.
    pub fn push(&mut self, item: u32, slope: f32) {
        self.items.push(item);
        self.slopes.push(slope);
    }
}

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
    /// The ridge on factors, for each positive.
    pub ridge: f32,
    /// The ridge on biases, for each positive.
    pub bias_ridge: f32,
    /// Whether rows stay on the unit sphere.
    pub unit: bool,
}

/// What draws depend on.
#[derive(Debug, Clone, Copy)]
pub struct Draws {
    /// The seed of the training.
    pub seed: u64,
    /// The epoch; 0 for measuring.
    pub epoch: usize,
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
}

/// The negatives that a batch shares.
struct Shared {
    items: Vec<u32>,
    packed: Vec<f32>,
    /// What their scores start from, filled up to whole tiles.
    starts: Vec<f32>,
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
    /// Goes over all ratings once and moves both sides.
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
    ) -> Result<()> {
        for_each_window(ratings, |window| {
            let batches = self.batches(window);
            let mut stream = self.stream(Purpose::Batches, window.number() as u64);
            for number in stream.permutation(batches.len()) {
                let batch = &batches[number];
                self.step(window, number, batch, steps, &mut users, &mut items);
                let positives = |visit: &Visit| visit.positives(window.items(visit.user)).len();
                tick(batch.iter().map(positives).sum::<usize>() as u64);
            }
            Ok(())
        })
    }

    /// The sum of the losses where the rows stand.
    ///
    /// # Errors
    /// If ratings cannot be read.
    pub fn loss(&self, ratings: &dyn Ratings, users: &Factors, items: &Factors) -> Result<f64> {
        let mut loss = 0.0;
        for_each_window(ratings, |window| {
            for (number, batch) in self.batches(window).iter().enumerate() {
                let (_, tasks) = self.look(window, number, batch, users, items);
                loss += tasks.iter().map(|task| task.loss).sum::<f64>();
            }
            Ok(())
        })?;
        Ok(loss)
    }

    fn batches(&self, window: &Window) -> Vec<Vec<Visit>> {
        window.batches(self.batching.users, self.batching.positives)
    }

    fn stream(&self, purpose: Purpose, row: u64) -> Stream {
        Stream::new(self.draws.seed, purpose, self.draws.epoch as u64, row)
    }

    /// Copies of the users' rows of a batch, and what its visits lead to.
    fn look(
        &self,
        window: &Window,
        number: usize,
        batch: &[Visit],
        users: &Factors,
        items: &Factors,
    ) -> (Factors, Vec<Task>) {
        let mut rows = Factors::zeros(batch.len(), users.rank(), true);
        for (at, visit) in batch.iter().enumerate() {
            rows.row_mut(at).copy_from_slice(users.row(visit.user));
            rows.biases_mut()[at] = users.bias(visit.user);
            if self.dropout > 0.0 {
                let mut stream = self.stream(Purpose::Dropout, visit.stream());
                drop_out(rows.row_mut(at), self.dropout, &mut stream);
            }
        }
        let shared = self.share(window, number, items);
        let stride = rows.stride();
        let of_tasks = rows
            .flat()
            .par_chunks(TASK * stride)
            .zip(rows.biases().par_chunks(TASK));
        let tasks = batch
            .par_chunks(TASK)
            .zip(of_tasks)
            .map(|(visits, (flat, starts))| {
                let users = UserRows {
                    flat,
                    stride,
                    starts,
                };
                SCRATCH.with_borrow_mut(|scratch| {
                    self.visit(window, visits, users, items, &shared, scratch)
                })
            });
        let tasks = tasks.collect();
        (rows, tasks)
    }

    /// Draws and packs what the batch shares.
    fn share(&self, window: &Window, number: usize, items: &Factors) -> Shared {
        let row = (window.number() as u64) << 32 | number as u64;
        let mut stream = self.stream(Purpose::SharedNegatives, row);
        let count = items.rows() as u64;
        let drawn: Vec<u32> = (0..self.contrast.shared())
            .map(|_| stream.below(count) as u32)
            .collect();
        let (rank, stride) = (items.rank(), items.stride());
        let mut packed = vec![0.0; kernel::packed_len(drawn.len(), rank)];
        let tiles = packed
            .par_chunks_mut(ITEMS * rank)
            .zip(drawn.par_chunks(ITEMS));
        tiles.for_each(|(packed, drawn)| {
            let mut rows = vec![0.0; drawn.len() * stride];
            for (row, &item) in rows.chunks_exact_mut(stride).zip(drawn) {
                row.copy_from_slice(items.padded_row(item as usize));
            }
            kernel::pack_items(self.isa, &rows, stride, rank, 0..drawn.len(), packed);
        });
        let mut starts: Vec<f32> = drawn
            .iter()
            .map(|&item| items.bias(item as usize))
            .collect();
        starts.resize(drawn.len().next_multiple_of(TILE), 0.0);
        Shared {
            items: drawn,
            packed,
            starts,
        }
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
        let width = shared.starts.len();
        scratch.shared_scores.resize(TASK * width, 0.0);
        let packed = PackedItems {
            packed: &shared.packed,
            rank: items.rank(),
            starts: &shared.starts,
        };
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
                stream: &mut self.stream(Purpose::Negatives, visit.stream()),
                user,
                items,
                drawn: &mut scratch.drawn,
                isa: self.isa,
            };
            task.loss += self.contrast.pairs(&mut scored, &mut task.pairs);
            task.ends.push(task.pairs.items.len());
        }
        task
    }

    /// Moves the rows of a batch.
    fn step(
        &self,
        window: &Window,
        number: usize,
        batch: &[Visit],
        steps: Steps,
        users: &mut Moving<'_>,
        items: &mut Moving<'_>,
    ) {
        let (rows, tasks) = self.look(window, number, batch, users.factors, items.factors);
        let flat = items.factors.flat();
        let spans = users.spans(
            batch
                .chunks(TASK)
                .map(|visits| (visits[0].user, visits[visits.len() - 1].user)),
        );
        let work = spans
            .into_par_iter()
            .zip(batch.par_chunks(TASK))
            .zip(&tasks)
            .enumerate();
        work.for_each(|(number, ((mut span, visits), task))| {
            let visits = (number * TASK..).zip(visits);
            SCRATCH.with_borrow_mut(|scratch| {
                scratch.gradient.resize(rows.stride(), 0.0);
                let mut start = 0;
                for ((at, visit), &end) in visits.zip(&task.ends) {
                    let slopes = &task.pairs.slopes[start..end];
                    let others = Others {
                        flat,
                        rows: &task.pairs.items[start..end],
                        through: (self.dropout > 0.0).then(|| rows.padded_row(at)),
                    };
                    span.step(
                        self.isa,
                        visit.user,
                        slopes,
                        others,
                        &mut scratch.gradient,
                        steps,
                    );
                    start = end;
                }
            });
        });
        let met = Met::new(&tasks);
        let groups: Vec<_> = met.groups().collect();
        let spans = items.spans(
            groups
                .chunks(ITEMS)
                .map(|groups| (groups[0].0, groups[groups.len() - 1].0)),
        );
        spans
            .into_par_iter()
            .zip(groups.par_chunks(ITEMS))
            .for_each(|(mut span, groups)| {
                SCRATCH.with_borrow_mut(|scratch| {
                    scratch.gradient.resize(rows.stride(), 0.0);
                    for (item, range) in groups {
                        let slopes = &met.slopes[range.clone()];
                        let others = Others {
                            flat: rows.flat(),
                            rows: &met.visits[range.clone()],
                            through: None,
                        };
                        span.step(
                            self.isa,
                            *item,
                            slopes,
                            others,
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

/// The pairs of a batch by item, and by visit within an item.
struct Met {
    items: Vec<u32>,
    visits: Vec<u32>,
    slopes: Vec<f32>,
}

impl Met {
    fn new(tasks: &[Task]) -> Met {
        let mut keys = Vec::new();
        let mut pairs = Vec::new();
        for (number, task) in tasks.iter().enumerate() {
            let mut start = 0;
            for (at, &end) in task.ends.iter().enumerate() {
                for pair in start..end {
                    keys.push(u64::from(task.pairs.items[pair]) << 32 | pairs.len() as u64);
                    pairs.push(((number * TASK + at) as u32, task.pairs.slopes[pair]));
                }
                start = end;
            }
        }
        keys.par_sort_unstable();
        let of = |&key: &u64| pairs[key as u32 as usize];
        Met {
            items: keys.iter().map(|key| (key >> 32) as u32).collect(),
            visits: keys.iter().map(|key| of(key).0).collect(),
            slopes: keys.iter().map(|key| of(key).1).collect(),
        }
    }

    /// Each item with the range of its pairs.
    fn groups(&self) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> {
        let mut start = 0;
        self.items.chunk_by(|a, b| a == b).map(move |group| {
            let range = start..start + group.len();
            start = range.end;
            (group[0] as usize, range)
        })
    }
}

/// Memory that batches of this size take, in bytes.
pub fn memory(shape: Shape, rank: usize, batching: Batching, shared: usize, threads: usize) -> u64 {
    let stride = rank.next_multiple_of(kernel::LANES);
    let positives = batching.positives.min(shape.items) * batching.users;
    let pairs = positives.min(shape.ratings as usize) * batching.pairs + batching.users * shared;
    // Each pair in its task, as a key with its slope, and by item.
    let of_pair = 8 + 8 + 8 + 12;
    let of_batch = batching.users * stride * 4 + 2 * shared * (stride + 2) * 4;
    let of_thread = TASK * shared * 4 + 8 * shape.items + stride * 4;
    Window::bytes(shape) + (2 * pairs * of_pair + of_batch + threads * of_thread) as u64
}

#[cfg(test)]
mod tests;
