//! The N best items of one user, kept while scores come in.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::vector::{LANES, Vector};
use super::{Isa, Kernel};

/// An item and its score. The smaller of two is the better one: the higher score, and of equal scores the lower item.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// The dense number of the item.
    pub item: u32,
    /// Its score, neither NaN nor negative infinity.
    pub score: f32,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Candidate) -> Ordering {
        // Zeros of either sign are equal; NaN never gets here.
        let by_score = other.score.partial_cmp(&self.score);
        by_score
            .unwrap_or(Ordering::Equal)
            .then(self.item.cmp(&other.item))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Candidate) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Candidate) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

/// Takes items out of the competition: sets to negative infinity the scores of those in `excluded`, which ascends and
/// may start before `first_item` and go on after the last. Returns the rest of `excluded`, after the last item scored.
pub fn exclude<'a>(scores: &mut [f32], first_item: u32, excluded: &'a [u32]) -> &'a [u32] {
    for (i, &item) in excluded.iter().enumerate() {
        let Some(at) = item.checked_sub(first_item) else {
            continue;
        };
        match scores.get_mut(at as usize) {
            Some(score) => *score = f32::NEG_INFINITY,
            None => return &excluded[i..],
        }
    }
    &[]
}

/// The best items seen so far, at most N. The result depends on the items and scores offered, not on their order.
///
/// Allocates once, when made; [`TopN::clear`] makes it ready for the next user.
#[derive(Debug, Clone)]
pub struct TopN {
    limit: usize,
    /// The worst of those kept on top.
    kept: BinaryHeap<Candidate>,
}

impl TopN {
    /// Room for the `limit` best.
    pub fn new(limit: usize) -> TopN {
        TopN {
            limit,
            kept: BinaryHeap::with_capacity(limit),
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.kept.clear();
    }

    /// Offers the items `first_item`, `first_item + 1`, ... with these scores. NaN and negative infinity never enter.
    ///
    /// Costs one comparison for sixteen scores where none is good enough.
    pub fn offer(&mut self, isa: Isa, scores: &[f32], first_item: u32) {
        if self.limit > 0 {
            isa.run(Offer {
                top: self,
                scores,
                first_item,
            });
        }
    }

    /// Offers one item. NaN and negative infinity never enter.
    pub fn offer_one(&mut self, item: u32, score: f32) {
        if self.limit > 0 && score >= self.floor() {
            self.push(Candidate { item, score });
        }
    }

    /// The least score that may still enter. An item with this very score must also be the lower one.
    pub fn floor(&self) -> f32 {
        match self.kept.peek() {
            Some(worst) if self.kept.len() == self.limit => worst.score,
            _ => f32::MIN,
        }
    }

    /// Those kept, the best first.
    pub fn into_sorted(self) -> Vec<Candidate> {
        self.kept.into_sorted_vec()
    }

    /// Moves those kept to the end of `out`, the best first.
    pub fn drain_sorted(&mut self, out: &mut Vec<Candidate>) {
        let start = out.len();
        out.extend(self.kept.drain());
        out[start..].sort_unstable();
    }

    fn push(&mut self, candidate: Candidate) {
        if self.kept.len() < self.limit {
            self.kept.push(candidate);
        } else if let Some(mut worst) = self.kept.peek_mut()
            && candidate < *worst
        {
            // Sifted into its place when `worst` is dropped.
            *worst = candidate;
        }
    }
}

struct Offer<'a> {
    top: &'a mut TopN,
    scores: &'a [f32],
    first_item: u32,
}

impl Kernel for Offer<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, v: V) {
        let mut floor = v.splat(self.top.floor());
        let mut first = self.first_item;
        let (vectors, rest) = self.scores.as_chunks::<LANES>();
        for scores in vectors {
            let mut passed = v.at_least(v.load(scores), floor);
            if passed != 0 {
                while passed != 0 {
                    let lane = passed.trailing_zeros();
                    self.top.push(Candidate {
                        item: first + lane,
                        score: scores[lane as usize],
                    });
                    passed &= passed - 1;
                }
                floor = v.splat(self.top.floor());
            }
            first += LANES as u32;
        }
        for &score in rest {
            if score >= self.top.floor() {
                self.top.push(Candidate { item: first, score });
            }
            first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn best(isa: Isa, limit: usize, tiles: &[(u32, &[f32])]) -> Vec<(u32, f32)> {
        let mut top = TopN::new(limit);
        for (first, scores) in tiles {
            top.offer(isa, scores, *first);
        }
        top.into_sorted()
            .iter()
            .map(|c| (c.item, c.score))
            .collect()
    }

    /// Few values, so that many are equal.
    fn a_score() -> impl Strategy<Value = f32> {
        prop_oneof![
            8 => (-4_i8..4).prop_map(f32::from),
            1 => Just(f32::NAN),
            1 => Just(f32::NEG_INFINITY),
            1 => Just(f32::INFINITY),
        ]
    }

    proptest! {
        #[test]
        fn the_best_are_those_of_a_full_sort(
            scores in prop::collection::vec(a_score(), 0..200),
            limit in 0_usize..60,
            cut in 0.0..1.0_f64,
        ) {
            let mut sorted: Vec<(u32, f32)> = (0..).zip(scores.iter().copied()).collect();
            sorted.retain(|(_, score)| *score > f32::NEG_INFINITY);
            // Stable, so that the lower item stays first among equals.
            sorted.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap());
            sorted.truncate(limit);
            let (low, high) = scores.split_at((cut * scores.len() as f64) as usize);
            let (low, high) = ((0, low), (low.len() as u32, high));
            for isa in Isa::available() {
                prop_assert_eq!(&best(isa, limit, &[low, high]), &sorted);
                prop_assert_eq!(&best(isa, limit, &[high, low]), &sorted);
            }
        }
    }

    #[test]
    fn excluded_items_never_enter() {
        let mut scores = [5.0; 20];
        let rest = exclude(&mut scores, 100, &[3, 99, 100, 107, 119, 120, 500]);
        assert_eq!(rest, [120, 500]);
        for isa in Isa::available() {
            let items: Vec<u32> = best(isa, 30, &[(100, &scores)])
                .iter()
                .map(|x| x.0)
                .collect();
            let expected: Vec<u32> = (101..119).filter(|&item| item != 107).collect();
            assert_eq!(items, expected);
        }
    }

    #[test]
    fn a_cleared_selection_starts_anew() {
        let mut top = TopN::new(2);
        let mut out = Vec::new();
        top.offer(Isa::best(), &[3.0, 1.0, 2.0], 0);
        top.drain_sorted(&mut out);
        top.offer(Isa::best(), &[0.5], 9);
        assert_eq!(top.floor(), f32::MIN);
        top.drain_sorted(&mut out);
        let items: Vec<u32> = out.iter().map(|c| c.item).collect();
        assert_eq!(items, [0, 2, 9]);
    }
}
