//! What a method says of one visit: the slopes of its loss at the user's positives, and at what they are held against.

use crate::kernel::{self, Isa};
use crate::matrix::Factors;
use crate::rng::Stream;

/// What a user's positives are held against, and how.
pub trait Contrast: Sync {
    /// How many negatives a batch shares, drawn with replacement from all items.
    fn shared(&self) -> usize;

    /// Whether what a batch shares stands for the whole catalogue: drawn the more often the more popular, weighted by how many items
    /// it stands for, with a slope at each.
    fn samples_catalogue(&self) -> bool {
        false
    }

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
    /// How many items of the catalogue each stands for, if they are a sample of it; else nothing.
    pub shared_weights: &'a [f32],
    /// For draws of the visit's own.
    pub stream: &'a mut Stream,
    /// The instruction set of kernels.
    pub isa: Isa,
    pub(super) user: User<'a>,
    pub(super) items: &'a Factors,
    pub(super) drawn: &'a mut (Vec<u32>, Vec<f32>),
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
pub(super) struct User<'a> {
    pub factors: &'a [f32],
    pub bias: f32,
}

pub(super) fn score(isa: Isa, user: User<'_>, items: &Factors, rows: &[u32], out: &mut Vec<f32>) {
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
    pub(super) items: Vec<u32>,
    pub(super) slopes: Vec<f32>,
    pub(super) shared: Vec<f32>,
}

impl Pairs {
    /// One pair more.
    pub fn push(&mut self, item: u32, slope: f32) {
        self.items.push(item);
        self.slopes.push(slope);
    }

    /// The slopes at the scores of what the batch shares, visit by visit, to which a contrast that samples the catalogue
    /// adds one for each, none below zero.
    pub fn shared(&mut self) -> &mut Vec<f32> {
        &mut self.shared
    }
}
