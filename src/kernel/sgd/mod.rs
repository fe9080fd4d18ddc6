//! Stochastic gradient steps: rating by rating, both rows of a rating move.
//!
//! Order. Ratings are taken one by one as they are given: each sees the rows as those before it have left them. Those of a turn
//! of [`SIDE_BY_SIDE`] have no row in common, with each other and with the turns beside theirs, so that they are computed side by
//! side, and the next turn is looked at before this one has moved.
//! A dot product adds as [`dot_rows`](super::dot_rows) does; every other number of a row has a chain of its own. The squared length
//! of a row, which tells that of a gradient, is not summed anew for each rating: what it becomes follows from the lengths of both
//! rows and their product.

mod steps;

use super::vector::{LANES, Vector};
use super::{Isa, Kernel};
use steps::{Any, Band, Squares, Steps};

/// What a row has beside its factors.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SgdRow {
    /// The squared gradients so far, of the factors and of the bias, the bias, and one over the number of ratings.
    numbers: [f32; 4],
    /// The squared length of the factors.
    length: f32,
}

impl SgdRow {
    /// A row of so many ratings with this bias, which is zero in a model without biases, and the squared gradients so far
    /// of its factors (for each rating the mean over the rank) and of its bias. `length` is the squared length of its factors.
    pub fn new(ratings: u32, bias: f32, squares: [f32; 2], length: f32) -> SgdRow {
        SgdRow {
            numbers: [squares[0], squares[1], bias, 1.0 / ratings.max(1) as f32],
            length,
        }
    }

    /// The bias.
    pub fn bias(&self) -> f32 {
        self.numbers[2]
    }

    /// The squared gradients so far, of the factors and of the bias.
    pub fn squares(&self) -> [f32; 2] {
        [self.numbers[0], self.numbers[1]]
    }
}

/// The rows of one band: factors, each row padded to `stride` floats, and what goes with them.
#[derive(Debug)]
pub struct SgdRows<'a> {
    /// Padded factors.
    pub flat: &'a mut [f32],
    /// One for each row.
    pub rows: &'a mut [SgdRow],
}

/// Ratings that are taken side by side.
pub const SIDE_BY_SIDE: usize = 4;

/// Ratings between two bands, in the order in which they are taken.
#[derive(Debug, Clone, Copy)]
pub struct SgdRatings<'a> {
    /// Rows of the first band, one for each rating.
    pub users: &'a [u16],
    /// Rows of the second band, one for each rating.
    pub items: &'a [u16],
    /// What products and biases should add up to, one for each rating.
    pub targets: &'a [f32],
    /// How many ratings, from the first on, come in turns of [`SIDE_BY_SIDE`]: the two turns beside each other have no row in
    /// common.
    pub in_turns: usize,
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
    /// The ridge on factors: for each rating, and for each row, of which a rating has its share.
    pub ridge: [f32; 2],
    /// The ridge on biases, likewise.
    pub bias_ridge: [f32; 2],
    /// The number of factors, padding left out.
    pub rank: usize,
}

/// The slope of the loss at a prediction and a target.
pub enum SgdSlope<'a> {
    /// So many times their difference.
    Squares(f32),
    /// As this says. It is asked once for each rating, in their order.
    Any(&'a mut dyn FnMut(f32, f32) -> f32),
}

/// Takes one step for each rating: `p -= eta (slope q + ridge p)`, `q -= eta (slope p + ridge q)`, both from where the rows
/// stood, and the biases likewise with 1 for the other factor. Gives the sum of the squared differences between
/// predictions and targets, each from before its own step.
///
/// # Panics
/// If there is not one user, one item and one target for each rating, turns are not full, the rank does not fit the length of the
/// factors, or a row lies outside its band.
pub fn sgd<'a>(
    isa: Isa,
    ratings: SgdRatings<'a>,
    users: SgdRows<'a>,
    items: SgdRows<'a>,
    step: SgdStep,
    slope: SgdSlope<'a>,
) -> f64 {
    let len = ratings.targets.len();
    assert_eq!(ratings.users.len(), len, "one user for each rating");
    assert_eq!(ratings.items.len(), len, "one item for each rating");
    let full = ratings.in_turns.is_multiple_of(SIDE_BY_SIDE);
    assert!(full && ratings.in_turns <= len, "turns are full");
    let vectors = step.rank.div_ceil(LANES);
    isa.run(Sgd {
        users: Band::new(users, vectors),
        items: Band::new(items, vectors),
        ratings,
        step,
        slope,
    })
}

struct Sgd<'a> {
    ratings: SgdRatings<'a>,
    users: Band<'a>,
    items: Band<'a>,
    step: SgdStep,
    slope: SgdSlope<'a>,
}

impl Kernel for Sgd<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<V: Vector>(self, v: V) -> f64 {
        let vectors = self.step.rank.div_ceil(LANES);
        let Sgd {
            ratings,
            users,
            items,
            step,
            slope,
        } = self;
        let steps = Steps {
            users,
            items,
            step,
            error: 0.0,
        };
        match slope {
            // Squares are common: their slope is worth compiling into the loop, and so are the usual lengths of rows where
            // a vector unit gains by it.
            SgdSlope::Squares(twice) => {
                let slope = Squares(twice);
                match (step.adaptive, vectors) {
                    (true, 1) if V::NATIVE => steps.all::<V, 1, true>(v, 1, ratings, slope),
                    (true, 2) if V::NATIVE => steps.all::<V, 2, true>(v, 2, ratings, slope),
                    (true, 4) if V::NATIVE => steps.all::<V, 4, true>(v, 4, ratings, slope),
                    (true, 8) if V::NATIVE => steps.all::<V, 8, true>(v, 8, ratings, slope),
                    (true, _) => steps.all::<V, 0, true>(v, vectors, ratings, slope),
                    (false, _) => steps.all::<V, 0, false>(v, vectors, ratings, slope),
                }
            }
            SgdSlope::Any(of) => match step.adaptive {
                false => steps.all::<V, 0, false>(v, vectors, ratings, Any(of)),
                true => steps.all::<V, 0, true>(v, vectors, ratings, Any(of)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bits, noise, noise_cols, noise_rows};
    use super::*;
    use proptest::prelude::*;

    /// A row in f64: factors, then the bias, with the squares and the ridges of both.
    struct Twin {
        numbers: Vec<f64>,
        squares: [f64; 2],
        ridges: [f64; 2],
    }

    fn band(seed: u64, rows: usize, step: SgdStep) -> (Vec<f32>, Vec<SgdRow>, Vec<Twin>) {
        let flat = noise_rows(seed, rows, step.rank);
        let scalars = noise(seed ^ 9, rows * 3);
        let counts = noise_cols(seed ^ 8, rows, 5);
        let stride = step.rank.next_multiple_of(LANES);
        let of_row = |((x, &count), factors): ((&[f32], &u32), &[f32])| {
            let squares = [1.0 + x[1] * x[1], 1.0 + x[2] * x[2]];
            SgdRow::new(count, x[0], squares, factors.iter().map(|x| x * x).sum())
        };
        let of_rows = scalars
            .chunks_exact(3)
            .zip(&counts)
            .zip(flat.chunks_exact(stride));
        let rows: Vec<SgdRow> = of_rows.map(of_row).collect();
        let twin = |((factors, row), &count): ((&[f32], &SgdRow), &u32)| {
            let ridge = |[rating, of_row]: [f32; 2]| {
                f64::from(rating) + f64::from(of_row) / f64::from(count.max(1))
            };
            let bias = row.bias();
            let numbers = factors[..step.rank].iter().copied().chain([bias]);
            Twin {
                numbers: numbers.map(f64::from).collect(),
                squares: row.squares().map(f64::from),
                ridges: [ridge(step.ridge), ridge(step.bias_ridge)],
            }
        };
        let padded = flat.chunks_exact(stride);
        let twins = padded.zip(&rows).zip(&counts).map(twin).collect();
        (flat, rows, twins)
    }

    fn move_twin(twin: &mut Twin, other: &[f64], slope: f64, step: SgdStep) {
        let rates = twin.squares.map(|squares| match step.adaptive {
            true => f64::from(step.rate) / squares.sqrt(),
            false => f64::from(step.rate),
        });
        for (k, x) in twin.numbers.iter_mut().enumerate() {
            let factor = k < step.rank;
            let (part, share) = if factor {
                (0, step.rank as f64)
            } else {
                (1, 1.0)
            };
            let partner = if factor { other[k] } else { 1.0 };
            let gradient = slope * partner + twin.ridges[part] * *x;
            twin.squares[part] += gradient * gradient / share;
            if factor || step.biases {
                *x -= rates[part] * gradient;
            }
        }
    }

    /// Pairs of a user and an item, those that make turns first, and how many these are.
    fn in_turns(pairs: Vec<(u16, u16)>) -> (Vec<(u16, u16)>, usize) {
        let (mut order, mut rest): (Vec<(u16, u16)>, Vec<_>) = Default::default();
        for (user, item) in pairs {
            let turn = order.len() / SIDE_BY_SIDE;
            let near = &order[turn.saturating_sub(1) * SIDE_BY_SIDE..];
            let apart = near.iter().all(|&(u, i)| u != user && i != item);
            if apart { &mut order } else { &mut rest }.push((user, item));
        }
        let in_turns = order.len() / SIDE_BY_SIDE * SIDE_BY_SIDE;
        order.append(&mut rest);
        (order, in_turns)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn steps_are_those_of_a_plain_program(
            rank in 1_usize..150, len in 0_usize..100, seed: u64, adaptive: bool, biases: bool,
        ) {
            // Short enough for any of these rows, or rounding would grow from step to step.
            let step = SgdStep {
                rate: 0.2 / rank as f32, adaptive, biases, rank, ridge: [0.1, 0.3], bias_ridge: [0.05, 0.2],
            };
            let numbers = |seed| noise_cols(seed, len, 20).into_iter().map(|x| x as u16);
            let (order, in_turns) = in_turns(numbers(seed ^ 2).zip(numbers(seed ^ 3)).collect());
            let (users, items): (Vec<u16>, Vec<u16>) = order.into_iter().unzip();
            let targets = noise(seed ^ 4, len);
            let ratings = SgdRatings { users: &users, items: &items, targets: &targets, in_turns };
            let (own, other) = (band(seed, 20, step), band(seed ^ 1, 20, step));

            let (mut own_twin, mut other_twin) = (own.2, other.2);
            let mut error = 0.0;
            for i in 0..len {
                let (p, q) = (&mut own_twin[usize::from(users[i])], &mut other_twin[usize::from(items[i])]);
                let factors = p.numbers[..rank].iter().zip(&q.numbers);
                let product: f64 = factors.map(|(a, b)| a * b).sum();
                let difference = product + p.numbers[rank] + q.numbers[rank] - f64::from(targets[i]);
                error += difference * difference;
                let before = p.numbers.clone();
                move_twin(p, &q.numbers, 2.0 * difference, step);
                move_twin(q, &before, 2.0 * difference, step);
            }

            let run = |isa, any: bool| {
                let (mut p, mut q, mut own, mut other) = (own.0.clone(), other.0.clone(), own.1.clone(), other.1.clone());
                let users = SgdRows { flat: &mut p, rows: &mut own };
                let items = SgdRows { flat: &mut q, rows: &mut other };
                let mut slope = |p: f32, r: f32| 2.0 * (p - r);
                let slope = if any { SgdSlope::Any(&mut slope) } else { SgdSlope::Squares(2.0) };
                let error = sgd(isa, ratings, users, items, step, slope);
                own.extend(other);
                let scalars: Vec<f32> = own.iter().flat_map(|r| [r.bias(), r.squares()[0], r.squares()[1]]).collect();
                (p, q, scalars, error)
            };
            let (p, q, scalars, found) = run(Isa::PORTABLE, false);
            for (isa, any) in Isa::available().flat_map(|isa| [(isa, false), (isa, true)]) {
                let other = run(isa, any);
                prop_assert_eq!(bits(&p), bits(&other.0), "{:?}", isa);
                prop_assert_eq!(bits(&q), bits(&other.1), "{:?}", isa);
                prop_assert_eq!(bits(&scalars), bits(&other.2), "{:?}", isa);
                prop_assert_eq!(found.to_bits(), other.3.to_bits(), "{:?}", isa);
            }
            let stride = rank.next_multiple_of(LANES);
            let close = |a: f64, b: f64| (a - b).abs() <= 2e-4 * b.abs().max(1.0);
            prop_assert!(close(found, error));
            let rows = p.chunks_exact(stride).chain(q.chunks_exact(stride));
            let twins = own_twin.iter().chain(&other_twin);
            for ((row, twin), scalars) in rows.zip(twins).zip(scalars.chunks_exact(3)) {
                let mut numbers = row[..rank].iter().chain(&scalars[..1]).zip(&twin.numbers);
                prop_assert!(numbers.all(|(&a, &b)| close(a.into(), b)));
                prop_assert!(row[rank..].iter().all(|&x| x == 0.0));
                if adaptive {
                    let mut squares = scalars[1..].iter().zip(twin.squares);
                    prop_assert!(squares.all(|(&a, b)| close(a.into(), b)));
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
            ridge: [0.0; 2],
            bias_ridge: [0.0; 2],
            rank: 16,
        };
        let ratings = SgdRatings {
            users: &[1],
            items: &[0],
            targets: &[1.0],
            in_turns: 0,
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
        let slope = SgdSlope::Squares(1.0);
        sgd(Isa::best(), ratings, users, items, step, slope);
    }
}
