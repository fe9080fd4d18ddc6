//! The softmax over the whole catalogue, of cosines and popularity.
//!
//! Objective, over users u and their positives i, with s_uj = (b_j + cos(p_u, q_j)) / temperature:
//!
//! ```text
//! sum over (u, i) of log(sum over all items j of exp(s_uj)) - s_ui
//! ```
//!
//! which is the chance of what was taken among all there is (Wu et al.: On the effectiveness of sampled softmax loss for item
//! recommendation, TOIS 2023; the biases are ours: cosines leave little room for popularity, which they learn). Rows are kept at length 1, so that
//! cosines are plain products. A user's own bias would change no order, and stays zero. The sum over the catalogue is that over N items drawn
//! for each batch by the roots of their popularity, each weighted by the reciprocal of its chance; it is one sum for all positives
//! of a visit. A catalogue of no more than N items is summed whole.
//! Cost: 6 N k flops and N exponentials a visit, of at most 32 positives, and 6 k flops for each positive. Reads: by-user
//! ratings once.

use super::{Sampling, boxed, by_positives};
use crate::error::{Error, ErrorKind, Result};
use crate::kernel;
use crate::solver::minibatch::{Contrast, Pairs, Scored};
use crate::solver::{Method, Options, Solver};

/// The softmax over the catalogue in the table of solvers.
pub const METHOD: Method = Method {
    searched: &[("temperature", 0.07, 0.3), ("learning-rate", 0.03, 0.3)],
    suited: |options| Options {
        positive_at: Some(4.0),
        // Of few items each would be told apart from the others of its kind.
        temperature: 0.2,
        regularization: None,
        epochs: 60,
        ..options
    },
    ..by_positives(
        "softmax",
        "implicit feedback: what was taken against the whole catalogue, by a softmax of cosines and popularity over a sample of it",
        0.0,
        build,
    )
};

fn build(options: &Options) -> Result<Box<dyn Solver>> {
    if options.regularization.is_some_and(|ridge| ridge > 0.0) {
        let what = "cosines do not depend on lengths: softmax has no ridge on factors";
        let remedy = "leave out --regularization, or give --bias-regularization";
        return Err(Error::new(ErrorKind::BadOption, what).remedy(remedy));
    }
    let sampling = Sampling {
        contrast: Softmax {
            negatives: options.negatives.unwrap_or(2048),
            temperature: options.temperature,
        },
        users: 256,
        // Scores of the sample cost the same for one positive as for all.
        positives: 32,
        pairs: 1,
        rate: 0.1,
        unit: true,
    };
    boxed("softmax", options, sampling)
}

/// The contrast of what was taken with a sample of everything.
pub struct Softmax {
    /// Items of the sample that a batch shares.
    pub negatives: usize,
    /// What cosines are divided by: the lower, the more the nearest items count.
    pub temperature: f32,
}

impl Contrast for Softmax {
    fn shared(&self) -> usize {
        self.negatives
    }

    fn samples_catalogue(&self) -> bool {
        true
    }

    fn pairs(&self, visit: &mut Scored<'_>, pairs: &mut Pairs) -> f64 {
        let scale = 1.0 / self.temperature;
        let slopes = pairs.shared();
        let first = slopes.len();
        slopes.resize(first + visit.shared_scores.len(), 0.0);
        let (largest, sum) = kernel::softmax(
            visit.isa,
            visit.shared_scores,
            visit.shared_weights,
            scale,
            &mut slopes[first..],
        );
        let each = (visit.positives.len() as f64 * f64::from(scale) / sum) as f32;
        slopes[first..].iter_mut().for_each(|slope| *slope *= each);
        let log_sum = libm::log(sum) + f64::from(largest * scale);
        let mut loss = 0.0;
        for (&item, &score) in visit.positives.iter().zip(visit.scores) {
            pairs.push(item, -scale);
            loss += log_sum - f64::from(score * scale);
        }
        loss
    }
}
