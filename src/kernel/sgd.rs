//! Stochastic gradient steps: rating by rating, both rows of a rating move.
//!
//! Order. Ratings are taken one by one as they come. A dot product adds as [`dot_rows`](super::dot_rows) does, and so does
//! the sum of a gradient's squares; every other number of a row has a chain of its own.

use super::vector::{LANES, Vector, lanes, lanes_mut};
use super::{AHEAD, Isa, Kernel};

/// What a row has beside its factors.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SgdRow {
    /// The bias; it stays zero in a model without biases.
    pub bias: f32,
    /// Squared gradients of the factors so far: for each rating the mean over the rank.
    pub squares: f32,
    /// Squared gradients of the bias so far.
    pub bias_squares: f32,
    /// The ridge on factors, for each rating.
    pub ridge: f32,
    /// The ridge on the bias, for each rating.
    pub bias_ridge: f32,
}

/// The rows of one band: factors, each row padded to `stride` floats, and what goes with them.
#[derive(Debug)]
pub struct SgdRows<'a> {
    /// Padded factors.
    pub flat: &'a mut [f32],
    /// One for each row.
    pub rows: &'a mut [SgdRow],
}

/// Ratings between two bands, by user.
#[derive(Debug, Clone, Copy)]
pub struct SgdRatings<'a> {
    /// Rows of the first band that have ratings.
    pub users: &'a [u16],
    /// For each of them, the number of ratings less one.
    pub lengths: &'a [u16],
    /// Rows of the second band, one for each rating.
    pub items: &'a [u16],
    /// What products and biases should add up to, one for each rating.
    pub targets: &'a [f32],
}

/// How far a step goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdStep {
    /// The learning rate.
    pub rate: f32,
    /// Whether the rate of a row is divided by the root of its squared gradients so far (Duchi, Hazan, Singer 2011, with
    /// one sum for each row as in libmf).
    pub adaptive: bool,
    /// Whether biases move.
    pub biases: bool,
    /// The number of factors, padding left out.
    pub rank: usize,
}

/// Takes one step for each rating: `p -= eta (slope q + ridge p)`, `q -= eta (slope p + ridge q)`, both from where the rows
/// stood, and the biases likewise with 1 for the other factor. `slope` is that of the loss at a prediction and a rating.
///
/// # Panics
/// If lengths do not add up to one item and one target for each rating, the rank does not fit the length of the factors, or a row lies
/// outside its band.
pub fn sgd(
    isa: Isa,
    ratings: SgdRatings<'_>,
    users: SgdRows<'_>,
    items: SgdRows<'_>,
    step: SgdStep,
    slope: impl Fn(f32, f32) -> f32,
) {
    let len = ratings.targets.len();
    assert_eq!(ratings.items.len(), len, "one item for each rating");
    assert_eq!(
        ratings.lengths.len(),
        ratings.users.len(),
        "one length for each user"
    );
    let lengths = ratings.lengths.iter();
    let sum: usize = lengths.map(|&length| usize::from(length) + 1).sum();
    assert_eq!(sum, len, "every rating is a user's");
    let stride = step.rank.next_multiple_of(LANES);
    for side in [&users, &items] {
        assert_eq!(side.flat.len(), side.rows.len() * stride, "padded rows");
    }
    isa.run(Sgd {
        ratings,
        users,
        items,
        step,
        slope,
    });
}

struct Sgd<'a, S> {
    ratings: SgdRatings<'a>,
    users: SgdRows<'a>,
    items: SgdRows<'a>,
    step: SgdStep,
    slope: S,
}

impl<S: Fn(f32, f32) -> f32> Kernel for Sgd<'_, S> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, v: V) {
        // Rows of one, two and four vectors are common, and then loops over them are unrolled.
        match (self.step.adaptive, self.step.rank.div_ceil(LANES)) {
            (false, 1) => self.all::<V, false>(v, 1),
            (false, 2) => self.all::<V, false>(v, 2),
            (false, 4) => self.all::<V, false>(v, 4),
            (false, vectors) => self.all::<V, false>(v, vectors),
            (true, 1) => self.all::<V, true>(v, 1),
            (true, 2) => self.all::<V, true>(v, 2),
            (true, 4) => self.all::<V, true>(v, 4),
            (true, vectors) => self.all::<V, true>(v, vectors),
        }
    }
}

impl<S: Fn(f32, f32) -> f32> Sgd<'_, S> {
    #[inline(always)]
    fn all<V: Vector, const ADAPTIVE: bool>(self, v: V, vectors: usize) {
        let stride = vectors * LANES;
        let Sgd {
            ratings,
            users,
            items,
            step,
            slope,
        } = self;
        let one_over_rank = 1.0 / step.rank as f32;
        let bias_rate = if step.biases { step.rate } else { 0.0 };
        let runs = ratings.users.iter().zip(ratings.lengths);
        let users_of_ratings = runs.flat_map(|(&user, &length)| (0..=length).map(move |_| user));
        let pairs = users_of_ratings.zip(ratings.items);
        for (at, ((user, &item), &target)) in pairs.zip(ratings.targets).enumerate() {
            // Users come in order and are near already; items jump.
            if let Some(&next) = ratings.items.get(at + AHEAD)
                && let Some(row) = items.flat.get(usize::from(next) * stride..)
            {
                for line in row.as_chunks().0.iter().take(vectors) {
                    v.prefetch(line);
                }
            }
            let (user, item) = (usize::from(user), usize::from(item));
            let p = &mut users.flat[user * stride..][..stride];
            let q = &mut items.flat[item * stride..][..stride];
            let (own, other) = (&mut users.rows[user], &mut items.rows[item]);

            let mut acc = v.splat(0.0);
            for k in 0..vectors {
                acc = v.mul_add(
                    v.load(lanes(p, k * LANES)),
                    v.load(lanes(q, k * LANES)),
                    acc,
                );
            }
            let prediction = v.sum(acc) + other.bias + own.bias;
            let slope = slope(prediction, target);

            let rate = |squares: f32| match ADAPTIVE {
                true => step.rate / squares.sqrt(),
                false => step.rate,
            };
            let (own_rate, other_rate) = (v.splat(rate(own.squares)), v.splat(rate(other.squares)));
            let (own_ridge, other_ridge) = (v.splat(own.ridge), v.splat(other.ridge));
            let by = v.splat(slope);
            let (mut own_squares, mut other_squares) = (v.splat(0.0), v.splat(0.0));
            for k in 0..vectors {
                let (a, b) = (v.load(lanes(p, k * LANES)), v.load(lanes(q, k * LANES)));
                let of_own = v.mul_add(by, b, v.mul(own_ridge, a));
                let of_other = v.mul_add(by, a, v.mul(other_ridge, b));
                if ADAPTIVE {
                    own_squares = v.mul_add(of_own, of_own, own_squares);
                    other_squares = v.mul_add(of_other, of_other, other_squares);
                }
                v.store(v.neg_mul_add(own_rate, of_own, a), lanes_mut(p, k * LANES));
                v.store(
                    v.neg_mul_add(other_rate, of_other, b),
                    lanes_mut(q, k * LANES),
                );
            }
            for (row, squares) in [(own, own_squares), (other, other_squares)] {
                let gradient = slope + row.bias_ridge * row.bias;
                if ADAPTIVE {
                    row.squares += v.sum(squares) * one_over_rank;
                    row.bias -= bias_rate / row.bias_squares.sqrt() * gradient;
                    row.bias_squares += gradient * gradient;
                } else {
                    row.bias -= bias_rate * gradient;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bits, noise, noise_cols, noise_rows};
    use super::*;
    use proptest::prelude::*;

    /// The rows of one band in f64: factors, then what goes with them.
    struct Twin {
        factors: Vec<f64>,
        bias: f64,
        squares: [f64; 2],
        ridges: [f64; 2],
    }

    fn band(seed: u64, rows: usize, rank: usize) -> (Vec<f32>, Vec<SgdRow>, Vec<Twin>) {
        let flat = noise_rows(seed, rows, rank);
        let scalars = noise(seed ^ 9, rows * 5);
        let of_row = |x: &[f32]| SgdRow {
            bias: x[0],
            squares: 1.0 + x[1] * x[1],
            bias_squares: 1.0 + x[2] * x[2],
            ridge: 0.1 * x[3].abs(),
            bias_ridge: 0.1 * x[4].abs(),
        };
        let rows: Vec<SgdRow> = scalars.chunks_exact(5).map(of_row).collect();
        let twins = flat.chunks_exact(rank.next_multiple_of(LANES)).zip(&rows);
        let twins = twins.map(|(factors, row)| Twin {
            factors: factors[..rank].iter().map(|&x| x.into()).collect(),
            bias: row.bias.into(),
            squares: [row.squares.into(), row.bias_squares.into()],
            ridges: [row.ridge.into(), row.bias_ridge.into()],
        });
        let twins = twins.collect();
        (flat, rows, twins)
    }

    fn move_twin(twin: &mut Twin, other: &[f64], slope: f64, step: SgdStep) {
        let rate = |squares: f64| match step.adaptive {
            true => f64::from(step.rate) / squares.sqrt(),
            false => f64::from(step.rate),
        };
        let by = [rate(twin.squares[0]), rate(twin.squares[1])];
        for (x, y) in twin.factors.iter_mut().zip(other) {
            let gradient = slope * y + twin.ridges[0] * *x;
            twin.squares[0] += gradient * gradient / step.rank as f64;
            *x -= by[0] * gradient;
        }
        let gradient = slope + twin.ridges[1] * twin.bias;
        twin.squares[1] += gradient * gradient;
        if step.biases {
            twin.bias -= by[1] * gradient;
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn steps_are_those_of_a_plain_program(
            rank in 1_usize..100, len in 0_usize..60, seed: u64, adaptive: bool, biases: bool,
        ) {
            // Short enough for any of these rows, or rounding would grow from step to step.
            let step = SgdStep { rate: 0.2 / rank as f32, adaptive, biases, rank };
            let numbers = |seed, rows| noise_cols(seed, len, rows).into_iter().map(|x| x as u16);
            let mut users_of_ratings: Vec<u16> = numbers(seed ^ 2, 7).collect();
            users_of_ratings.sort_unstable();
            let runs = || users_of_ratings.chunk_by(|a, b| a == b);
            let users: Vec<u16> = runs().map(|run| run[0]).collect();
            let lengths: Vec<u16> = runs().map(|run| run.len() as u16 - 1).collect();
            let items: Vec<u16> = numbers(seed ^ 3, 5).collect();
            let targets = noise(seed ^ 4, len);
            let ratings = SgdRatings { users: &users, lengths: &lengths, items: &items, targets: &targets };
            let (own, other) = (band(seed, 7, rank), band(seed ^ 1, 5, rank));
            let slope = |p: f32, r: f32| 2.0 * (p - r);

            let (mut own_twin, mut other_twin) = (own.2, other.2);
            for i in 0..len {
                let (p, q) = (&mut own_twin[usize::from(users_of_ratings[i])], &mut other_twin[usize::from(items[i])]);
                let product: f64 = p.factors.iter().zip(&q.factors).map(|(a, b)| a * b).sum();
                let slope = 2.0 * (product + p.bias + q.bias - f64::from(targets[i]));
                let before = p.factors.clone();
                move_twin(p, &q.factors, slope, step);
                move_twin(q, &before, slope, step);
            }

            let run = |isa| {
                let (mut p, mut q, mut own, mut other) = (own.0.clone(), other.0.clone(), own.1.clone(), other.1.clone());
                let users = SgdRows { flat: &mut p, rows: &mut own };
                let items = SgdRows { flat: &mut q, rows: &mut other };
                sgd(isa, ratings, users, items, step, slope);
                own.extend(other);
                let scalars: Vec<f32> = own.iter().flat_map(|r| [r.bias, r.squares, r.bias_squares]).collect();
                (p, q, scalars)
            };
            let (p, q, scalars) = run(Isa::PORTABLE);
            for isa in Isa::available() {
                let other = run(isa);
                prop_assert_eq!(bits(&p), bits(&other.0), "{:?}", isa);
                prop_assert_eq!(bits(&q), bits(&other.1), "{:?}", isa);
                prop_assert_eq!(bits(&scalars), bits(&other.2), "{:?}", isa);
            }
            let stride = rank.next_multiple_of(LANES);
            let close = |a: f32, b: f64| (f64::from(a) - b).abs() <= 2e-4 * b.abs().max(1.0);
            let rows = p.chunks_exact(stride).chain(q.chunks_exact(stride));
            let twins = own_twin.iter().chain(&other_twin);
            for ((row, twin), scalars) in rows.zip(twins).zip(scalars.chunks_exact(3)) {
                prop_assert!(row.iter().zip(&twin.factors).all(|(&a, &b)| close(a, b)));
                prop_assert!(row[rank..].iter().all(|&x| x == 0.0));
                prop_assert!(close(scalars[0], twin.bias));
                if adaptive {
                    prop_assert!(close(scalars[1], twin.squares[0]) && close(scalars[2], twin.squares[1]));
                }
            }
        }
    }

    #[test]
    #[should_panic]
    fn a_row_outside_is_a_panic() {
        let step = SgdStep {
            rate: 0.1,
            adaptive: false,
            biases: true,
            rank: 16,
        };
        let ratings = SgdRatings {
            users: &[1],
            lengths: &[0],
            items: &[0],
            targets: &[1.0],
        };
        let (mut p, mut q) = ([0.0; 16], [0.0; 16]);
        let (mut own, mut other) = ([SgdRow::default()], [SgdRow::default()]);
        let users = SgdRows {
            flat: &mut p,
            rows: &mut own,
        };
        let items = SgdRows {
            flat: &mut q,
            rows: &mut other,
        };
        sgd(Isa::best(), ratings, users, items, step, |p, r| p - r);
    }
}
