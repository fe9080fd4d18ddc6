//! Weighted approximate-rank pairwise loss.
//!
//! Objective, over users u and their positives i, with s_ui = b_i + <p_u, q_i>: items j that u did not take are looked at one by one,
//! until the nth comes nearer to i than the margin. It is a sample of those that do, and n tells how many they are:
//!
//! ```text
//! sum over (u, i) of H(items / n) max(0, margin - s_ui + s_uj), with H(r) = 1 + 1/2 + ... + 1/r
//! ```
//!
//! and the ridge, so that what stands wrong near the top weighs most (Weston, Bengio, Usunier: WSABIE: Scaling up to large vocabulary image
//! annotation, IJCAI 2011). The items come from those that a batch draws for all its users, in turn from a random one on: no more
//! are looked at than there are. A user's own bias would change no order, and stays zero.
//! Cost: 2 N k flops a visit for scores of N negatives, by a matrix product, and 12 k for each positive. Reads: by-user ratings once.

use super::{POSITIVES, Sampling, USERS, boxed, by_positives};
use crate::error::Result;
use crate::solver::minibatch::{Contrast, Pairs, Scored};
use crate::solver::{Method, Options, Solver};

/// The weighted approximate-rank pairwise loss in the table of solvers.
pub const METHOD: Method = by_positives(
    "warp",
    "implicit feedback: what was taken before what was not, the more the nearer to the top (WARP)",
    2.0,
    build,
);

fn build(options: &Options) -> Result<Box<dyn Solver>> {
    let sampling = Sampling {
        contrast: Warp {
            negatives: options.negatives.unwrap_or(512),
            margin: options.margin.unwrap_or(1.0),
        },
        users: USERS,
        positives: POSITIVES,
        pairs: 2,
        rate: 0.1,
        unit: false,
    };
    boxed("warp", options, sampling)
}

/// The contrast of a positive with the first negative that comes too near.
pub struct Warp {
    /// Negatives that a batch shares.
    pub negatives: usize,
    /// By how much a positive shall outdo negatives.
    pub margin: f32,
}

impl Contrast for Warp {
    fn shared(&self) -> usize {
        self.negatives
    }

    fn pairs(&self, visit: &mut Scored<'_>, pairs: &mut Pairs) -> f64 {
        let mut loss = 0.0;
        for (&positive, &score) in visit.positives.iter().zip(visit.scores) {
            let near = score - self.margin;
            let first = visit.stream.below(self.negatives as u64) as usize;
            let turn = (first..self.negatives).chain(0..first);
            let found = turn
                .zip(1..)
                .find(|&(at, _)| visit.shared_scores[at] > near && !visit.took(visit.shared[at]));
            let Some((at, looked_at)) = found else {
                continue;
            };
            let weight = harmonic((visit.items() - 1) / looked_at);
            pairs.push(positive, -weight);
            pairs.push(visit.shared[at], weight);
            loss += f64::from(weight * (visit.shared_scores[at] - near));
        }
        loss
    }
}

/// `1 + 1/2 + ... + 1/n`, beyond the first few terms by its expansion for large n.
fn harmonic(n: usize) -> f32 {
    const EULER: f64 = 0.577_215_664_901_532_9;
    if n < 16 {
        return (1..=n).map(|r| 1.0 / r as f64).sum::<f64>() as f32;
    }
    let n = n as f64;
    (libm::log(n) + EULER + 1.0 / (2.0 * n) - 1.0 / (12.0 * n * n)) as f32
}

#[cfg(test)]
mod tests {
    use super::harmonic;

    #[test]
    fn harmonic_numbers_are_sums() {
        let mut sum = 0.0;
        for n in 1..2000 {
            sum += 1.0 / n as f64;
            assert!((f64::from(harmonic(n)) - sum).abs() < 1e-6, "{n}");
        }
        assert_eq!(harmonic(0), 0.0);
    }
}
