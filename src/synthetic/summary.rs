//! What was generated, in figures.

use serde::Serialize;

/// What was generated.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// Number of users.
    pub users: u32,
    /// Number of items, rated or not.
    pub items: u32,
    /// Number of ratings.
    pub ratings: u64,
    /// Mean rating.
    pub mean: f64,
    /// Standard deviation of the ratings: the RMSE of predicting their mean.
    pub standard_deviation: f64,
    /// RMSE of the truth without its noise, clipped to the scale: the best that any prediction can reach.
    pub oracle_rmse: f64,
    /// RMSE of the true biases and the best constant: about the best without factors.
    pub biases_rmse: f64,
    /// Ratings of the least active user.
    pub least_per_user: u32,
    /// Ratings of the median user, the upper of two.
    pub median_per_user: u32,
    /// Ratings of the most active user.
    pub most_per_user: u32,
    /// Items without a rating.
    pub unrated_items: u32,
    /// Ratings of the median item, the upper of two.
    pub median_per_item: u32,
    /// Ratings of the most popular item.
    pub most_per_item: u32,
}

/// Sums over ratings, in f64. The order of addition is fixed: within a user, then users, then blocks in their order.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    ratings: u64,
    /// Of ratings, and of their squares.
    rating: [f64; 2],
    /// Of rating less truth, squared.
    oracle: f64,
    /// Of rating less biases, and of its squares.
    biases: [f64; 2],
}

impl Sums {
    /// Counts a rating, with the predictions of the oracle and of the biases alone.
    pub(super) fn add(&mut self, rating: f64, oracle: f64, biases: f64) {
        self.ratings += 1;
        self.rating[0] += rating;
        self.rating[1] += rating * rating;
        self.oracle += (rating - oracle) * (rating - oracle);
        self.biases[0] += rating - biases;
        self.biases[1] += (rating - biases) * (rating - biases);
    }

    /// Adds sums that come later in order.
    pub(super) fn append(&mut self, later: &Sums) {
        self.ratings += later.ratings;
        for k in 0..2 {
            self.rating[k] += later.rating[k];
            self.biases[k] += later.biases[k];
        }
        self.oracle += later.oracle;
    }

    /// The figures, from the numbers of ratings of all users and items in any order.
    pub(super) fn summary(&self, users: &[u32], items: &[u32]) -> Summary {
        let n = self.ratings.max(1) as f64;
        let deviation = |[sum, squares]: [f64; 2]| {
            let mean = sum / n;
            libm::sqrt((squares / n - mean * mean).max(0.0))
        };
        let ordered = |counts: &[u32]| {
            let mut counts = counts.to_vec();
            let middle = counts.len() / 2;
            let (below, &mut median, above) = counts.select_nth_unstable(middle);
            let least = below.iter().min().map_or(median, |&n| n);
            let most = above.iter().max().map_or(median, |&n| n);
            (least, median, most)
        };
        let (least_per_user, median_per_user, most_per_user) = ordered(users);
        let (_, median_per_item, most_per_item) = ordered(items);
        Summary {
            users: users.len() as u32,
            items: items.len() as u32,
            ratings: self.ratings,
            mean: self.rating[0] / n,
            standard_deviation: deviation(self.rating),
            oracle_rmse: libm::sqrt(self.oracle / n),
            biases_rmse: deviation(self.biases),
            least_per_user,
            median_per_user,
            most_per_user,
            unrated_items: items.iter().filter(|&&n| n == 0).count() as u32,
            median_per_item,
            most_per_item,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_three_ratings() {
        let (mut sums, mut later) = (Sums::default(), Sums::default());
        sums.add(1.0, 2.0, 2.0);
        later.add(2.0, 2.0, 3.0);
        later.add(6.0, 4.0, 4.0);
        sums.append(&later);
        let summary = sums.summary(&[2, 1], &[0, 3, 0]);
        assert_eq!((summary.users, summary.items, summary.ratings), (2, 3, 3));
        assert_eq!(summary.mean, 3.0);
        assert!((summary.standard_deviation - (14.0_f64 / 3.0).sqrt()).abs() < 1e-12);
        assert!((summary.oracle_rmse - (5.0_f64 / 3.0).sqrt()).abs() < 1e-12);
        // Residuals -1, -1, 2 have mean 0.
        assert!((summary.biases_rmse - 2.0_f64.sqrt()).abs() < 1e-12);
        assert_eq!(
            (
                summary.least_per_user,
                summary.median_per_user,
                summary.most_per_user
            ),
            (1, 2, 2)
        );
        assert_eq!(
            (
                summary.unrated_items,
                summary.median_per_item,
                summary.most_per_item
            ),
            (2, 0, 3)
        );
    }
}
