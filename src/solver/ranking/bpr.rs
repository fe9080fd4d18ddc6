//! Bayesian personalized ranking.
//!
//! Objective, over users u and their positives i, each held against items j that u did not take, drawn with equal chances:
//!
//! ```text
//! sum over (u, i) of the mean over j of log(1 + exp(s_uj - s_ui)), with s_ui = b_i + <p_u, q_i>
//! ```
//!
//! and the ridge (Rendle, Freudenthaler, Gantner, Schmidt-Thieme: BPR: Bayesian personalized ranking from implicit feedback,
//! UAI 2009). A user's own bias would change no order, and stays zero.
//! Cost: 8 k flops a pair, of which there are two for each negative. Reads: by-user ratings once, and a row of an item for each
//! pair.

use super::{POSITIVES, Sampling, USERS, boxed, by_positives};
use crate::error::Result;
use crate::solver::minibatch::{Contrast, Pairs, Scored};
use crate::solver::{Method, Options, Solver};

/// Bayesian personalized ranking in the table of solvers.
pub const METHOD: Method = by_positives(
    "bpr",
    "implicit feedback: what was taken before what was not, pair by pair (Bayesian personalized ranking)",
    0.01,
    build,
);

fn build(options: &Options) -> Result<Box<dyn Solver>> {
    let negatives = options.negatives.unwrap_or(1);
    let sampling = Sampling {
        contrast: Bpr { negatives },
        users: USERS,
        positives: POSITIVES,
        pairs: 2 * negatives,
        rate: 0.1,
        unit: false,
    };
    boxed("bpr", options, sampling)
}

/// The contrast of pairs, one by one.
pub struct Bpr {
    /// Negatives for each positive.
    pub negatives: usize,
}

impl Contrast for Bpr {
    fn shared(&self) -> usize {
        0
    }

    fn pairs(&self, visit: &mut Scored<'_>, pairs: &mut Pairs) -> f64 {
        let share = 1.0 / self.negatives as f32;
        let (positives, scores) = (visit.positives, visit.scores);
        let drawn = visit.draw(positives.len() * self.negatives);
        let mut loss = 0.0;
        for ((negative, score), at) in drawn.zip(0..) {
            let at = at / self.negatives;
            let ahead = scores[at] - score;
            let odds_against = libm::expf(-ahead);
            let slope = share / (1.0 + 1.0 / odds_against);
            // Next to each other: the two take nothing from a user's bias, to the bit.
            pairs.push(positives[at], -slope);
            pairs.push(negative, slope);
            loss += f64::from(share * libm::log1pf(odds_against));
        }
        loss
    }
}
