//! Conjugate directions with exact steps.

use super::*;
use lowrank::solver::Direction;

/// All numbers of both sides in one vector.
fn all(dense: &Dense) -> Vec<f64> {
    let rows = dense.users.iter().chain(&dense.items);
    rows.flatten().copied().collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

impl Dense {
    /// The steepest descent, and the same over curvatures.
    fn descents(&self, ratings: &Triplets, options: &Options) -> [Vec<f64>; 2] {
        let mut descents = [Vec::new(), Vec::new()];
        for (side, other) in [(0, &self.items), (1, &self.users)] {
            let k = options.rank;
            let squares = other.iter().flat_map(|row| &row[..k]).map(|x| x * x);
            let mean = squares.sum::<f64>() / (other.len() * k) as f64;
            for (at, row) in self.gradient(side, ratings, options).iter().enumerate() {
                let n = count(ratings, side, at);
                for (x, slope) in row.iter().enumerate() {
                    let of_losses = n as f64 * if x == k { 1.0 } else { mean };
                    let curvature = of_losses + ridge(options, n, x == k);
                    descents[0].push(-slope);
                    descents[1].push(if curvature > 0.0 {
                        -slope / curvature
                    } else {
                        0.0
                    });
                }
            }
        }
        descents
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The first step goes along the descent over curvatures, the second along what Polak and Ribière add to it; at the end
    /// of each the gradient is square to the step, and the cost is never higher than before.
    #[test]
    fn conjugate_steps_go_where_the_dense_twin_points(triplets in ratings(), options in options()) {
        let options = Options { solver: "gradient".into(), regularizer: "l2".into(), ..options };
        let ratings = InMemory::from_triplets(USERS, ITEMS, &triplets).unwrap().with_rows_per_block(4);
        let after = |epochs| {
            let state = train(&ratings, Options { epochs, ..options.clone() }, 2);
            let losses: Vec<f64> = state.history.iter().map(|epoch| epoch.loss).collect();
            let parameters = state.parameters();
            let (users, items) = (widened(&parameters.users), widened(&parameters.items));
            (Dense { users, items, ..start(&ratings, &options) }, losses)
        };
        let points = [start(&ratings, &options), after(1).0, after(2).0];
        let (_, losses) = after(8);
        prop_assert!(losses.windows(2).all(|pair| pair[1] <= pair[0] * (1.0 + 1e-6)), "{losses:?}");

        let mut direction = Vec::new();
        let mut last = Vec::new();
        for pair in points.windows(2) {
            let [descent, scaled] = pair[0].descents(&triplets, &options);
            let mut next = scaled.clone();
            if !last.is_empty() {
                let beta = (dot(&scaled, &descent) - dot(&scaled, &last)) / dot(&direction, &last);
                let beta = beta.max(0.0);
                next.iter_mut().zip(&direction).for_each(|(x, d)| *x += beta * d);
                if dot(&next, &descent) <= 0.0 {
                    next = scaled;
                }
            }
            let step: Vec<f64> = all(&pair[1]).iter().zip(all(&pair[0])).map(|(x, y)| x - y).collect();
            let size = dot(&step, &step).sqrt();
            // Where there is next to nothing to do, steps are rounding.
            if size < 1e-3 {
                return Ok(());
            }
            let cosine = dot(&step, &next) / (size * dot(&next, &next).sqrt());
            prop_assert!(cosine > 1.0 - 1e-5, "{cosine}");
            let [slope, _] = pair[1].descents(&triplets, &options);
            let cosine = dot(&step, &slope) / (size * dot(&descent, &descent).sqrt());
            prop_assert!(cosine.abs() < 1e-3, "{cosine}");
            (direction, last) = (next, descent);
        }
    }
}

/// What the directions are for: rows of very different lengths.
#[test]
fn conjugate_directions_get_far_below_steepest_descent() {
    let users = 400;
    let triplets: Triplets = (0..users)
        .flat_map(|u| (0..=u % 40).map(move |i| (u, i, ((u * i + u % 7) % 5) as f32)))
        .collect();
    let ratings = InMemory::from_triplets(users as usize, 40, &triplets).unwrap();
    let cost = |direction| {
        let options = Options {
            solver: "gradient".into(),
            rank: 6,
            epochs: 40,
            regularization: Some(0.01),
            direction: Some(direction),
            ..Options::default()
        };
        train(&ratings, options, 2).history[40].loss
    };
    let (conjugate, steepest) = (cost(Direction::Conjugate), cost(Direction::Steepest));
    assert!(conjugate < 0.8 * steepest, "{conjugate} and {steepest}");
}
