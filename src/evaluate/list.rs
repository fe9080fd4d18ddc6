//! What one user's list of recommendations is worth.
//!
//! The measures are those of information retrieval (Jaervelin and Kekaelaeinen: Cumulated gain-based evaluation of IR
//! techniques, TOIS 2002, for NDCG; Vargas and Castells: Rank and relevance in novelty and diversity metrics, RecSys 2011, for
//! novelty). An item that was held out is relevant, any other is not.

/// One user's list of recommendations, down to a cut-off, against what was held out of the user's ratings.
#[derive(Debug, Clone, Copy)]
pub struct List<'a> {
    /// The ranks, from 1 and ascending, at which the list has a held-out item.
    pub hits: &'a [usize],
    /// How many items were held out: at least one.
    pub relevant: usize,
    /// How many items the list may have: at least one.
    pub cut_off: usize,
    /// The surprise of each item that it has, in bits.
    pub surprise: &'a [f64],
}

impl List<'_> {
    /// Hits by the length that the list may have.
    pub fn precision(&self) -> f64 {
        self.hits.len() as f64 / self.cut_off as f64
    }

    /// Hits by all that there is to find, which may be more than fits in the list.
    pub fn recall(&self) -> f64 {
        self.hits.len() as f64 / self.relevant as f64
    }

    /// Hits by as many as a perfect list would have.
    pub fn capped_recall(&self) -> f64 {
        self.hits.len() as f64 / self.most() as f64
    }

    /// The discounted gain of the hits by that of a perfect list.
    pub fn ndcg(&self) -> f64 {
        let gain = |rank: usize| 1.0 / libm::log2((rank + 1) as f64);
        let got: f64 = self.hits.iter().copied().map(gain).sum();
        let perfect: f64 = (1..=self.most()).map(gain).sum();
        got / perfect
    }

    /// The mean of the precision at each rank that a perfect list would have filled, zero for those not found.
    pub fn average_precision(&self) -> f64 {
        let found = (1..).zip(self.hits);
        let sum: f64 = found.map(|(n, &rank)| f64::from(n) / rank as f64).sum();
        sum / self.most() as f64
    }

    /// One by the rank of the first hit, zero without any.
    pub fn reciprocal_rank(&self) -> f64 {
        self.hits.first().map_or(0.0, |&rank| 1.0 / rank as f64)
    }

    /// One if there is a hit, else zero.
    pub fn hit(&self) -> f64 {
        f64::from(u8::from(!self.hits.is_empty()))
    }

    /// The mean surprise of the items in the list, zero if it is empty.
    pub fn novelty(&self) -> f64 {
        let sum: f64 = self.surprise.iter().sum();
        sum / self.surprise.len().max(1) as f64
    }

    /// Hits of a perfect list.
    fn most(&self) -> usize {
        self.relevant.min(self.cut_off)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Whether each recommended item is relevant, and the length of the whole list of relevant ones.
    fn list() -> impl Strategy<Value = (Vec<bool>, usize, usize)> {
        (
            prop::collection::vec(any::<bool>(), 0..12),
            0_usize..6,
            1_usize..15,
        )
    }

    proptest! {
        #[test]
        fn measures_are_their_definitions((found, missed, cut_off) in list()) {
            let found = &found[..found.len().min(cut_off)];
            let hits: Vec<usize> = (1..=found.len()).filter(|&rank| found[rank - 1]).collect();
            let relevant = hits.len() + missed;
            prop_assume!(relevant > 0);
            let surprise: Vec<f64> = (0..found.len()).map(|at| at as f64).collect();
            let list = List { hits: &hits, relevant, cut_off, surprise: &surprise };

            let flags = |rank: usize| found.get(rank - 1).copied().unwrap_or(false);
            let count = |k: usize| (1..=k).filter(|&rank| flags(rank)).count() as f64;
            let close = |x: f64, y: f64| (x - y).abs() < 1e-12;
            let (k, n) = (cut_off as f64, relevant as f64);
            prop_assert!(close(list.precision(), count(cut_off) / k));
            prop_assert!(close(list.recall(), count(cut_off) / n));
            prop_assert!(close(list.capped_recall(), (count(cut_off) / n).max(count(cut_off) / k)));
            let discount = |rank: usize| 2_f64.ln() / ((rank + 1) as f64).ln();
            let gain = |flags: &dyn Fn(usize) -> bool| -> f64 {
                (1..=cut_off).filter(|&rank| flags(rank)).map(discount).sum()
            };
            prop_assert!(close(list.ndcg(), gain(&flags) / gain(&|rank| rank <= relevant)));
            let precisions: f64 = (1..=cut_off)
                .filter(|&rank| flags(rank))
                .map(|rank| count(rank) / rank as f64)
                .sum();
            prop_assert!(close(list.average_precision(), precisions / k.min(n)));
            let first = (1..=cut_off).find(|&rank| flags(rank));
            prop_assert!(close(list.reciprocal_rank(), first.map_or(0.0, |rank| 1.0 / rank as f64)));
            prop_assert!(close(list.hit(), first.map_or(0.0, |_| 1.0)));
            let mean = (found.len() as f64 - 1.0) / 2.0;
            prop_assert!(close(list.novelty(), mean.max(0.0)));
        }
    }

    #[test]
    fn a_worked_example() {
        // Ranks 2 and 5 of 5 hit, one of three missed: (1/log2 3 + 1/log2 6) / (1 + 1/log2 3 + 1/2).
        let list = List {
            hits: &[2, 5],
            relevant: 3,
            cut_off: 5,
            surprise: &[1.0, 2.0],
        };
        assert!((list.ndcg() - 0.477_623_7).abs() < 1e-6, "{}", list.ndcg());
        assert_eq!(list.average_precision(), (1.0 / 2.0 + 2.0 / 5.0) / 3.0);
        assert_eq!(list.precision(), 0.4);
        assert_eq!(list.reciprocal_rank(), 0.5);
        assert_eq!(list.novelty(), 1.5);
    }
}
