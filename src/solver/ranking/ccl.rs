//! The cosine contrastive loss.
//!
//! Objective, over users u with n_u positives, and N negatives drawn from the whole catalogue for each batch:
//!
//! ```text
//! sum over positives i of (1 - cos(p_u, q_i)) + n_u negative_weight / N * sum over negatives j of max(0, cos(p_u, q_j) - margin)
//! ```
//!
//! (Mao et al.: SimpleX: A simple and strong baseline for collaborative filtering, CIKM 2021, with the negatives shared by all users of a
//! batch, and by all positives of a user). Rows are kept at length 1, so that cosines are plain products.
//! Cost: 2 N k flops a visit, of at most eight positives, for scores of negatives, by a matrix product, and 6 k for each positive and
//! for the few negatives beyond the margin. Reads: by-user ratings once.

use super::{POSITIVES, Sampling, USERS, boxed};
use crate::error::{Error, ErrorKind, Result};
use crate::solver::minibatch::{Contrast, Pairs, Scored};
use crate::solver::{Learns, Method, Missing, Options, Solver};

/// The cosine contrastive loss in the table of solvers.
pub const METHOD: Method = Method {
    name: "ccl",
    summary: "implicit feedback: cosines of what was taken against many items drawn from the whole catalogue (SimpleX)",
    regularization: 0.0,
    missing: &[Missing::Zero],
    monotone: false,
    any_regularizer: false,
    biases: false,
    factors: true,
    spills: false,
    learns: Learns::Preferences,
    searched: &[("margin", 0.3, 0.9), ("learning-rate", 0.03, 0.3)],
    suited: |options| Options {
        biases: false,
        positive_at: Some(4.0),
        regularization: None,
        epochs: 60,
        ..options
    },
    build,
};

fn build(options: &Options) -> Result<Box<dyn Solver>> {
    if options.regularization.is_some_and(|ridge| ridge > 0.0) {
        let what = "cosines do not depend on lengths: ccl has no ridge";
        return Err(Error::new(ErrorKind::BadOption, what).remedy("leave out --regularization"));
    }
    let sampling = Sampling {
        contrast: Cosine {
            negatives: options.negatives.unwrap_or(1024),
            margin: options.margin.unwrap_or(0.6),
            weight: options.negative_weight,
        },
        users: USERS,
        positives: POSITIVES,
        pairs: 1,
        rate: 0.1,
        unit: true,
    };
    boxed("ccl", options, sampling)
}

/// What negatives weigh in a catalogue of so many items, where nothing is said: as much as published options for three catalogues
/// of tens of thousands, 150 to 300, in proportion. Of few items each is drawn all the time, those that the user would take, too.
fn usual_weight(items: usize) -> f32 {
    (items as f32 / 256.0).max(1.0)
}

/// The contrast of cosines.
pub struct Cosine {
    /// Negatives that a batch shares.
    pub negatives: usize,
    /// The cosine up to which negatives are let be.
    pub margin: f32,
    /// Of all negatives together, for each positive; by the size of the catalogue if none.
    pub weight: Option<f32>,
}

impl Contrast for Cosine {
    fn shared(&self) -> usize {
        self.negatives
    }

    fn pairs(&self, visit: &mut Scored<'_>, pairs: &mut Pairs) -> f64 {
        let mut loss = 0.0;
        for (&item, &cosine) in visit.positives.iter().zip(visit.scores) {
            pairs.push(item, -1.0);
            loss += 1.0 - f64::from(cosine);
        }
        let weight = self.weight.unwrap_or_else(|| usual_weight(visit.items()));
        let weight = weight * visit.positives.len() as f32 / self.negatives as f32;
        let mut beyond = 0.0;
        for (items, cosines) in visit.shared.chunks(16).zip(visit.shared_scores.chunks(16)) {
            // Few are, and so most are passed over sixteen at a time.
            if !cosines
                .iter()
                .fold(false, |any, &cosine| any | (cosine > self.margin))
            {
                continue;
            }
            for (&item, &cosine) in items.iter().zip(cosines) {
                if cosine > self.margin && !visit.took(item) {
                    pairs.push(item, weight);
                    beyond += f64::from(cosine - self.margin);
                }
            }
        }
        loss + f64::from(weight) * beyond
    }
}
