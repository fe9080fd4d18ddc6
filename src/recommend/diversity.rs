//! Lists whose items are less alike: maximal marginal relevance (Carbonell and Goldstein: The use of MMR, diversity-based
//! reranking for reordering documents and producing summaries, SIGIR 1998).
//!
//! Of ten times as many of the best as are wanted, one is taken after another: that which is highest in
//! `(1 - share) * relevance - share * likeness`. Relevance is the score, from 0 for the lowest of these best to 1 for the
//! highest; likeness is the largest cosine between its factors and those of an item that was taken before, and not below 0:
//! opposites are no less alike than strangers.
//! Cost: 20 n^2 d flops for a list of n.

use crate::error::{Error, ErrorKind, Result};
use crate::kernel::{self, Candidate, Isa};
use crate::matrix::Factors;

/// How lists are re-ranked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Diversity {
    share: f32,
    isa: Isa,
}

impl Diversity {
    /// With this share for the difference; nothing to be done if it is 0.
    pub(super) fn new(share: f32) -> Result<Option<Diversity>> {
        if !(0.0..=1.0).contains(&share) {
            let what = format!("the diversity is {share}; it must be from 0 to 1");
            return Err(Error::new(ErrorKind::BadOption, what));
        }
        let isa = Isa::best();
        Ok((share > 0.0).then_some(Diversity { share, isa }))
    }

    /// How many of the best a list of so many is chosen from.
    pub(super) fn pool(top: usize) -> usize {
        10 * top
    }

    /// Chooses `top` of the best, which come in order. Equal ones are taken in the order in which they come.
    pub(super) fn choose(
        &self,
        best: Vec<Candidate>,
        items: &Factors,
        top: usize,
    ) -> Vec<Candidate> {
        let (Some(first), Some(last)) = (best.first(), best.last()) else {
            return best;
        };
        let (low, range) = (
            last.score,
            (first.score - last.score).max(f32::MIN_POSITIVE),
        );
        let row = |candidate: &Candidate| items.padded_row(candidate.item as usize);
        let length = |candidate| kernel::dot(self.isa, row(candidate), row(candidate)).sqrt();
        let lengths: Vec<f32> = best.iter().map(length).collect();
        let mut likeness = vec![0.0_f32; best.len()];
        let mut left: Vec<usize> = (0..best.len()).collect();
        let mut chosen = Vec::with_capacity(top);
        while chosen.len() < top && !left.is_empty() {
            let marginal = |&at: &usize| {
                let relevance = (best[at].score - low) / range;
                (1.0 - self.share) * relevance - self.share * likeness[at]
            };
            let (mut place, mut highest) = (0, f32::NEG_INFINITY);
            for (at, value) in left.iter().map(marginal).enumerate() {
                if value > highest {
                    (place, highest) = (at, value);
                }
            }
            let taken = left.remove(place);
            for &other in &left {
                let lengths = lengths[taken] * lengths[other];
                let cosine = match lengths > 0.0 {
                    true => kernel::dot(self.isa, row(&best[taken]), row(&best[other])) / lengths,
                    false => 0.0,
                };
                likeness[other] = likeness[other].max(cosine);
            }
            chosen.push(best[taken]);
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(share: f32) -> Vec<u32> {
        // Two twins, one at a right angle to them, one opposite.
        let mut items = Factors::zeros(4, 2, false);
        for (row, factors) in [[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]
            .iter()
            .enumerate()
        {
            items.row_mut(row).copy_from_slice(factors);
        }
        let best = [4.0, 3.9, 2.0, 1.0].iter().zip(0..);
        let best = best.map(|(&score, item)| Candidate { item, score });
        let diversity = Diversity::new(share).unwrap().unwrap();
        let chosen = diversity.choose(best.collect(), &items, 3);
        chosen.iter().map(|candidate| candidate.item).collect()
    }

    #[test]
    fn what_is_like_what_was_taken_comes_later() {
        assert_eq!(chosen(0.01), [0, 1, 2]);
        assert_eq!(chosen(0.5), [0, 2, 3]);
        assert_eq!(chosen(1.0), [0, 2, 3]);
        assert!(Diversity::new(0.0).unwrap().is_none());
        assert!(Diversity::new(1.5).is_err());
        assert!(Diversity::new(f32::NAN).is_err());
    }
}
