//! Rows of few ratings: a ridge regression with an unknown for each rating in place of one for each factor.
//!
//! With Q the rows of factors that a row rated, n x k, t its targets and f the ridge on factors, the equations of the factors
//! are `(Q^T Q + f I) x = Q^T t`. The same x is `Q^T z` with `(Q Q^T + f I) z = t` (Saunders, Gammerman and Vovk: Ridge
//! regression learning algorithm in dual variables, ICML 1998). A bias with the ridge b adds `f / b` to each entry of the
//! matrix, and is `f / b` times the sum of z. Cost: n^2 k + n^3 / 3 flop, where the equations of the factors take
//! n k^2 + k^3 / 3: much less as long as n is well below k.
//!
//! Order of sums. An entry of `Q Q^T` starts as `f / b`, to which products are added factor by factor; the ridge comes last.
//! The system is solved as others are, and the rows of Q times z are added one by one.

use super::options::Ridge;
use crate::kernel::{
    self, Isa, LANES, NormalEquations, NotPositiveDefinite, Segment, solve_scratch_len,
};

/// At most so many times the ridge on the bias may be that on factors: it is the weight of the bias in the matrix, beside which
/// what the factors tell should not vanish.
const LARGEST_SHARE: f32 = 4.0;

/// Below so many factors the equations of the factors take no longer, solved side by side as they are.
const LEAST_RANK: usize = 32;

/// How many ratings count as few.
#[derive(Debug, Clone, Copy)]
pub struct Few {
    rank: usize,
    most: usize,
}

impl Few {
    /// As many as wait in no more room than these equations take when they are set aside, which is about half as many as there
    /// are factors: that is where both ways still differ enough. Zero, if the factors are too few to begin with, or the ridge is
    /// zero or too uneven.
    pub fn of(equations: NormalEquations, rank: usize, intercept: bool, ridge: Ridge) -> Few {
        let room = equations.triangle_len() - 1;
        let most = room / (rank.next_multiple_of(LANES) + 1);
        // Both ridges are straight lines of the number of ratings, so that their quotient has its extremes at the ends.
        let suits = |ratings| {
            let (of_factors, of_bias) = (ridge.on_factors(ratings), ridge.on_bias(ratings));
            of_factors > 0.0 && (!intercept || of_factors <= LARGEST_SHARE * of_bias)
        };
        let suits = rank >= LEAST_RANK && suits(1) && suits(most);
        Few {
            rank,
            most: if suits { most } else { 0 },
        }
    }

    /// Whether a row of so many ratings has few.
    pub fn are(self, ratings: usize) -> bool {
        ratings <= self.most
    }

    fn stride(self) -> usize {
        self.rank.next_multiple_of(LANES)
    }

    /// The equations of so many ratings.
    fn equations(ratings: usize) -> NormalEquations {
        NormalEquations::new(ratings, false)
    }

    /// Memory of [`Gathered`], in floats.
    pub fn floats(self) -> usize {
        let equations = Few::equations(self.most);
        self.most * (self.stride() + 1)
            + kernel::turned_len(self.most, self.stride())
            + equations.sums_len()
            + equations.panel_len()
            + solve_scratch_len(self.most)
            + 2 * self.rank
            + self.stride()
            + 1
    }
}

/// The ratings of a row, as long as they are few.
pub struct Gathered {
    few: Few,
    /// A row of factors for each rating.
    rows: Vec<f32>,
    targets: Vec<f32>,
    turned: Vec<f32>,
    equations: Vec<f32>,
    panel: Vec<f32>,
    scratch: Vec<f32>,
    /// 0, 1, 2, ...
    numbers: Vec<u32>,
    zeros: Vec<f32>,
    solution: Vec<f32>,
}

impl Gathered {
    /// None yet.
    pub fn new(few: Few) -> Gathered {
        let equations = Few::equations(few.most);
        Gathered {
            few,
            rows: Vec::with_capacity(few.most * few.stride()),
            targets: Vec::with_capacity(few.most),
            turned: vec![0.0; kernel::turned_len(few.most, few.stride())],
            equations: vec![0.0; equations.sums_len()],
            panel: vec![0.0; equations.panel_len()],
            scratch: vec![0.0; solve_scratch_len(few.most)],
            numbers: (0..few.rank as u32).collect(),
            zeros: vec![0.0; few.rank],
            solution: vec![0.0; few.stride() + 1],
        }
    }

    pub fn clear(&mut self) {
        self.rows.clear();
        self.targets.clear();
    }

    /// Whether with so many more they are still few.
    pub fn has_room(&self, more: usize) -> bool {
        self.few.are(self.targets.len() + more)
    }

    /// Adds ratings by their rows of `flat` and their targets, for which there is room.
    pub fn add(&mut self, isa: Isa, flat: &[f32], cols: &[u32], targets: &[f32]) {
        let stride = self.few.stride();
        let held = self.rows.len();
        self.rows.resize(held + cols.len() * stride, 0.0);
        kernel::copy_rows(isa, flat, stride, cols, &mut self.rows[held..]);
        self.targets.extend_from_slice(targets);
    }

    /// The ratings as a segment of a row, and the factors that it is of.
    pub fn segment(&self) -> (&[f32], Segment<'_>) {
        let segment = Segment {
            cols: &self.numbers[..self.targets.len()],
            targets: &self.targets,
            weights: None,
        };
        (&self.rows, segment)
    }

    /// The factors that solve the row, followed by its bias, if there is one, by the ridges on both.
    ///
    /// # Errors
    /// If the ratings do not determine it, as far as f32 can tell.
    pub fn solve(
        &mut self,
        isa: Isa,
        on_factors: f32,
        on_bias: Option<f32>,
    ) -> Result<&[f32], NotPositiveDefinite> {
        let Few { rank, .. } = self.few;
        let stride = self.few.stride();
        let ratings = self.targets.len();
        let turned = &mut self.turned[..kernel::turned_len(ratings, stride)];
        kernel::turn_rows(isa, &self.rows, stride, turned);
        let layout = Few::equations(ratings);
        let share = on_bias.map_or(0.0, |on_bias| on_factors / on_bias);
        let equations = &mut self.equations[..layout.sums_len()];
        equations.fill(share);
        for (i, &target) in self.targets.iter().enumerate() {
            equations[layout.right(i)] = target;
        }
        let by_factor = Segment {
            cols: &self.numbers[..rank],
            targets: &self.zeros,
            weights: None,
        };
        layout.accumulate(isa, turned, by_factor, equations, &mut self.panel);
        for i in 0..ratings {
            equations[layout.diagonal(i)] += on_factors;
        }
        let z = kernel::solve(isa, ratings, equations, &mut self.scratch)?;
        self.solution.fill(0.0);
        let cols = &self.numbers[..ratings];
        kernel::add_scaled_rows(isa, z, &self.rows, cols, &mut self.solution[..stride]);
        if on_bias.is_some() {
            self.solution[rank] = share * z.iter().sum::<f32>();
        }
        Ok(&self.solution)
    }

    /// Copies the ratings, of which there is one at least, to `aside`: how many, as a number below zero, which the first entry of
    /// normal equations never is.
    pub fn set_aside(&self, aside: &mut [f32]) {
        let (targets, rows) = aside[1..].split_at_mut(self.targets.len());
        targets.copy_from_slice(&self.targets);
        rows[..self.rows.len()].copy_from_slice(&self.rows);
        aside[0] = -(self.targets.len() as f32);
    }

    /// Goes on from ratings that were set aside, if it was ratings.
    pub fn take_up(&mut self, aside: &[f32]) -> bool {
        self.clear();
        let are_ratings = aside[0] < 0.0;
        if are_ratings {
            let (targets, rows) = aside[1..].split_at(-aside[0] as usize);
            self.targets.extend_from_slice(targets);
            self.rows
                .extend_from_slice(&rows[..targets.len() * self.few.stride()]);
        }
        are_ratings
    }
}

#[cfg(test)]
mod tests {
    use super::super::Options;
    use super::*;
    use proptest::prelude::*;

    fn ridge(per_row: f32, of_biases: f32) -> Ridge {
        let options = Options {
            regularization: Some(0.01),
            regularization_row: per_row,
            bias_regularization: Some(0.0),
            bias_regularization_row: Some(of_biases),
            ..Options::default()
        };
        options.ridge()
    }

    /// So many numbers from -1 to 1.
    fn noise(seed: &mut u64, len: usize) -> Vec<f32> {
        let mut draw = || {
            *seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            (*seed >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..len).map(|_| draw()).collect()
    }

    /// Rows of factors, and a target for each.
    fn ratings(rank: usize, count: usize, mut seed: u64) -> (Vec<f32>, Vec<f32>) {
        let stride = rank.next_multiple_of(LANES);
        let mut flat = noise(&mut seed, count * stride);
        for row in flat.chunks_exact_mut(stride) {
            row[rank..].fill(0.0);
        }
        (flat, noise(&mut seed, count))
    }

    fn bits(x: &[f32]) -> Vec<u32> {
        x.iter().map(|x| x.to_bits()).collect()
    }

    fn length(x: impl Iterator<Item = f64>) -> f64 {
        x.map(|x| x * x).sum::<f64>().sqrt()
    }

    proptest! {
        #[test]
        fn the_slope_is_zero_at_the_solution(
            rank in LEAST_RANK..140,
            intercept: bool,
            share in 0.0..1.0,
            per_row in 0.5_f32..8.0,
            of_biases in 2.0_f32..8.0,
            seed: u64,
        ) {
            let layout = NormalEquations::new(rank, intercept);
            let few = Few::of(layout, rank, intercept, ridge(per_row, of_biases));
            prop_assert!(few.most >= 4);
            let count = 1 + (share * (few.most - 1) as f64) as usize;
            let (flat, targets) = ratings(rank, count, seed);
            let cols: Vec<u32> = (0..count as u32).collect();
            let (on_factors, on_bias) = (per_row, intercept.then_some(of_biases));
            let mut solutions = Vec::new();
            for isa in Isa::available() {
                let mut gathered = Gathered::new(few);
                gathered.add(isa, &flat, &cols, &targets);
                let solution = gathered.solve(isa, on_factors, on_bias).unwrap().to_vec();
                prop_assert!(solution[rank + usize::from(intercept)..].iter().all(|&x| x == 0.0));
                solutions.push(bits(&solution));
                let x: Vec<f64> = solution[..rank].iter().map(|&x| x.into()).collect();
                let bias = if intercept { f64::from(solution[rank]) } else { 0.0 };
                let row = |i: usize| flat[i * rank.next_multiple_of(LANES)..][..rank].iter().map(|&q| f64::from(q));
                let errors: Vec<f64> = (0..count)
                    .map(|i| row(i).zip(&x).map(|(q, x)| q * x).sum::<f64>() + bias - f64::from(targets[i]))
                    .collect();
                let mut slope: Vec<f64> = x.iter().map(|x| f64::from(on_factors) * x).collect();
                for (i, error) in errors.iter().enumerate() {
                    for (slope, q) in slope.iter_mut().zip(row(i)) {
                        *slope += error * q;
                    }
                }
                slope.extend(on_bias.map(|on_bias| errors.iter().sum::<f64>() + f64::from(on_bias) * bias));
                // The slope is `Q^T` times what is left of the equations of z, which are solved backward stably
                // (Higham, Accuracy and stability of numerical algorithms, theorem 10.4); and z is no longer than t / f.
                let size = length(flat.iter().map(|&q| q.into())).max((count as f64).sqrt());
                let ridge = f64::from(on_factors);
                let matrix = 5.0 * size * size + ridge;
                let target = length(targets.iter().map(|&t| t.into()));
                let bound = (rank + count) as f64 * 2_f64.powi(-24) * size * matrix * target / ridge;
                let slope = length(slope.into_iter());
                prop_assert!(slope <= bound, "{slope} > {bound}");
                prop_assert!(bound < 0.5 * size * target || ridge < 1.0, "a bound that tells something");
            }
            prop_assert!(solutions.iter().all(|x| x == &solutions[0]));
        }

        #[test]
        fn ratings_come_in_any_pieces_and_may_be_set_aside(rank in LEAST_RANK..80, cut in 0_usize..9, seed: u64) {
            let layout = NormalEquations::new(rank, true);
            let few = Few::of(layout, rank, true, ridge(1.0, 1.0));
            let (flat, targets) = ratings(rank, few.most, seed);
            let cols: Vec<u32> = (0..few.most as u32).rev().collect();
            let isa = Isa::best();
            let mut whole = Gathered::new(few);
            whole.add(isa, &flat, &cols, &targets);
            prop_assert!(!whole.has_room(1));
            let mut pieces = Gathered::new(few);
            let mut aside = vec![f32::NAN; layout.triangle_len()];
            pieces.add(isa, &flat, &cols[..cut], &targets[..cut]);
            if cut > 0 {
                pieces.set_aside(&mut aside);
                prop_assert!(pieces.take_up(&aside));
            }
            pieces.add(isa, &flat, &cols[cut..], &targets[cut..]);
            pieces.set_aside(&mut aside);
            prop_assert!(pieces.take_up(&aside));
            let expected = whole.solve(isa, 1.0, Some(1.0)).unwrap();
            prop_assert_eq!(bits(expected), bits(pieces.solve(isa, 1.0, Some(1.0)).unwrap()));
            // Equations that were set aside are none.
            let mut sums = vec![0.0; layout.sums_len()];
            let mut panel = vec![0.0; layout.panel_len()];
            let (rows, segment) = whole.segment();
            layout.accumulate(isa, rows, segment, &mut sums, &mut panel);
            layout.set_aside(&sums, &mut aside);
            prop_assert!(!pieces.take_up(&aside));
        }
    }

    #[test]
    fn few_are_none_without_a_ridge_that_suits() {
        let most = |per_row, of_biases| {
            let few = Few::of(
                NormalEquations::new(64, true),
                64,
                true,
                ridge(per_row, of_biases),
            );
            few.most
        };
        assert_eq!(most(1.0, 1.0), 33);
        assert_eq!(most(1.0, 0.1), 0);
        let short = NormalEquations::new(LEAST_RANK - 1, false);
        let few = Few::of(short, LEAST_RANK - 1, false, ridge(1.0, 1.0));
        assert!(!few.are(1));
        let zero = Options {
            regularization: Some(0.0),
            ..Options::default()
        };
        let few = Few::of(NormalEquations::new(64, true), 64, true, zero.ridge());
        assert!(!few.are(1));
    }
}
