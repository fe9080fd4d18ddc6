//! Logistic matrix factorization.
//!
//! Objective, over users u and their positives i, each with N negatives j that u did not take, drawn with equal chances:
//!
//! ```text
//! sum over (u, i) of log(1 + exp(-s_ui)) + negative_weight / N * sum over j of log(1 + exp(s_uj)), with s_ui = b_u + b_i + <p_u, q_i>
//! ```
//!
//! and the ridge (Johnson: Logistic matrix factorization for implicit feedback data, NIPS workshop 2014, where every
//! cell that is not taken is a negative; here a sample of them is, in proportion to the positives).
//! Cost: 6 k flops a pair, of which each positive has 1 + N. Reads: by-user ratings once, and a row of an item for each pair.

use super::{POSITIVES, Sampling, USERS, boxed, by_positives};
use crate::error::Result;
use crate::solver::minibatch::{Contrast, Pairs, Scored};
use crate::solver::{Method, Options, Solver};

/// Logistic matrix factorization in the table of solvers.
pub const METHOD: Method = by_positives(
    "logistic-mf",
    "implicit feedback: the chance that an item was taken, against a sample of what was not (logistic factorization)",
    0.01,
    build,
);

fn build(options: &Options) -> Result<Box<dyn Solver>> {
    let negatives = options.negatives.unwrap_or(8);
    let sampling = Sampling {
        contrast: Logistic {
            negatives,
            weight: options.negative_weight.unwrap_or(negatives as f32) / negatives as f32,
        },
        users: USERS,
        positives: POSITIVES,
        pairs: 1 + negatives,
        rate: 0.1,
        unit: false,
    };
    boxed("logistic-mf", options, sampling)
}

/// The contrast of what was taken and what was not.
pub struct Logistic {
    /// Negatives for each positive.
    pub negatives: usize,
    /// Of each negative.
    pub weight: f32,
}

impl Contrast for Logistic {
    fn shared(&self) -> usize {
        0
    }

    fn pairs(&self, visit: &mut Scored<'_>, pairs: &mut Pairs) -> f64 {
        let mut loss = 0.0;
        for (&item, &score) in visit.positives.iter().zip(visit.scores) {
            pairs.push(item, -1.0 / (1.0 + libm::expf(score)));
            loss += f64::from(libm::log1pf(libm::expf(-score)));
        }
        for (item, score) in visit.draw(visit.positives.len() * self.negatives) {
            pairs.push(item, self.weight / (1.0 + libm::expf(-score)));
            loss += f64::from(self.weight * libm::log1pf(libm::expf(score)));
        }
        loss
    }
}
