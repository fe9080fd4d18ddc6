//! Methods that look at a row's ratings several times: each against its own words in f64, and what theory promises.

use lowrank::loss::LOSSES;
use lowrank::matrix::InMemory;
use lowrank::solver::{Missing, Options, Reduce};
use proptest::prelude::*;

use super::{
    BY_ROWS, Dense, ITEMS, Triplets, USERS, assert_same, count, difference, options, ratings,
    ridge, start, train, with_solver,
};

/// The value and the slope of a loss, in plain words.
type Words = (fn(f64, f64) -> f64, fn(f64, f64) -> f64);

const SQUARED: Words = (|p, r| 0.5 * (p - r).powi(2), |p, r| p - r);

const HUBER: Words = (
    |p, r| match (p - r).abs() {
        far if far > 1.0 => far - 0.5,
        near => 0.5 * near * near,
    },
    |p, r| (p - r).clamp(-1.0, 1.0),
);

impl Dense {
    fn row_mut(&mut self, side: usize, at: usize) -> &mut Vec<f64> {
        match side {
            0 => &mut self.users[at],
            _ => &mut self.items[at],
        }
    }

    /// What multiplies unknown `x` of a row on this side in the prediction of a cell; the last unknown is the bias.
    fn feature(&self, side: usize, col: usize, x: usize) -> f64 {
        let q = if side == 0 {
            &self.items[col]
        } else {
            &self.users[col]
        };
        if x + 1 == q.len() { 1.0 } else { q[x] }
    }

    /// The cells of a row: the other side's number and the rating.
    fn cells(side: usize, at: usize, ratings: &Triplets) -> Vec<(usize, f64)> {
        let own = ratings.iter().map(|&(u, i, r)| match side {
            0 => (u as usize, i as usize, f64::from(r)),
            _ => (i as usize, u as usize, f64::from(r)),
        });
        own.filter(|cell| cell.0 == at)
            .map(|(_, col, r)| (col, r))
            .collect()
    }

    fn predict_cell(&self, side: usize, at: usize, col: usize) -> f64 {
        match side {
            0 => self.predict(at, col),
            _ => self.predict(col, at),
        }
    }

    /// The slope of the row's losses by unknown `x`.
    fn slope(&self, loss: Words, side: usize, at: usize, x: usize, cells: &[(usize, f64)]) -> f64 {
        let of_cell = |&(col, r): &(usize, f64)| {
            loss.1(self.predict_cell(side, at, col), r) * self.feature(side, col, x)
        };
        cells.iter().map(of_cell).sum()
    }

    fn unknowns(options: &Options) -> usize {
        options.rank + usize::from(options.biases)
    }

    /// Brings every unknown of a row to its lowest point in turn.
    fn coordinates(&mut self, side: usize, at: usize, ratings: &Triplets, options: &Options) {
        let cells = Dense::cells(side, at, ratings);
        for x in 0..Dense::unknowns(options) {
            let weight = ridge(options, cells.len(), x == options.rank);
            let slope = self.slope(SQUARED, side, at, x, &cells);
            let squares = cells
                .iter()
                .map(|cell| self.feature(side, cell.0, x).powi(2));
            let curvature: f64 = squares.sum::<f64>() + weight;
            let value = &mut self.row_mut(side, at)[x];
            *value = match cells.is_empty() {
                true => 0.0,
                false => *value - (slope + weight * *value) / curvature,
            };
        }
    }

    /// Textbook conjugate gradient on the normal equations, formed.
    fn conjugate(&mut self, side: usize, at: usize, ratings: &Triplets, options: &Options) {
        let cells = Dense::cells(side, at, ratings);
        let size = Dense::unknowns(options);
        let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(x, y)| x * y).sum() };
        let weight = |x| ridge(options, cells.len(), x == options.rank);
        let entry = |x: usize, y: usize| {
            let product =
                |&(col, _): &(usize, f64)| self.feature(side, col, x) * self.feature(side, col, y);
            cells.iter().map(product).sum::<f64>() + if x == y { weight(x) } else { 0.0 }
        };
        let matrix: Vec<Vec<f64>> = (0..size)
            .map(|x| (0..size).map(|y| entry(x, y)).collect())
            .collect();
        let mut p = self.row_mut(side, at)[..size].to_vec();
        let mut r: Vec<f64> = (0..size)
            .map(|x| -self.slope(SQUARED, side, at, x, &cells) - weight(x) * p[x])
            .collect();
        let (mut d, mut length) = (r.clone(), dot(&r, &r));
        let first = length;
        for _ in 0..options.cg_steps {
            let image: Vec<f64> = matrix.iter().map(|row| dot(row, &d)).collect();
            if length <= 1e-14 * first {
                break;
            }
            let step = length / dot(&d, &image);
            for x in 0..size {
                p[x] += step * d[x];
                r[x] -= step * image[x];
            }
            let before = length;
            length = dot(&r, &r);
            for x in 0..size {
                d[x] = r[x] + length / before * d[x];
            }
        }
        if cells.is_empty() {
            p.fill(0.0);
        }
        self.row_mut(side, at)[..size].copy_from_slice(&p);
    }

    /// One factor after the other against the mean slope over the row's cells.
    fn averaged(
        &mut self,
        loss: Words,
        (side, at): (usize, usize),
        cells: &[(usize, f64)],
        rated: usize,
        options: &Options,
    ) {
        for x in 0..Dense::unknowns(options) {
            let slope = self.slope(loss, side, at, x, cells);
            let weight = ridge(options, rated, x == options.rank);
            let value = &mut self.row_mut(side, at)[x];
            let rate = f64::from(options.learning_rates[0]);
            *value -= rate * (slope + weight * *value) / cells.len().max(1) as f64;
        }
    }

    /// The cost with another loss in the place of the squared one, over these cells.
    fn cost_of(&self, loss: Words, cells: &Triplets, ratings: &Triplets, options: &Options) -> f64 {
        let sum = |loss: Words, cells: &Triplets| -> f64 {
            let at = |&(u, i, r): &(u32, u32, f32)| {
                loss.0(self.predict(u as usize, i as usize), f64::from(r))
            };
            cells.iter().map(at).sum()
        };
        self.cost(ratings, options) - sum(SQUARED, ratings) + sum(loss, cells)
    }

    fn sweep(&mut self, sides: [usize; 2], mut step: impl FnMut(&mut Dense, usize, usize)) {
        for side in sides {
            for at in 0..[USERS, ITEMS][side] {
                step(self, side, at);
            }
        }
    }
}

/// Every cell, those that are not rated as zeros.
fn with_zeros(ratings: &Triplets) -> Triplets {
    let rating = |u: usize, i: usize| {
        let same = |t: &&(u32, u32, f32)| (t.0 as usize, t.1 as usize) == (u, i);
        ratings.iter().find(same).map_or(0.0, |t| t.2)
    };
    (0..USERS)
        .flat_map(|u| (0..ITEMS).map(move |i| (u, i)))
        .map(|(u, i)| (u as u32, i as u32, rating(u, i)))
        .collect()
}

/// Compares two epochs, items first, with those of a twin that moves a row by `step`.
fn is_its_twin(
    ratings: &InMemory,
    triplets: &Triplets,
    options: &Options,
    step: fn(&mut Dense, usize, usize, &Triplets, &Options),
) {
    let mut twin = start(ratings, options);
    for _ in 0..2 {
        twin.sweep([1, 0], |twin, side, at| {
            step(twin, side, at, triplets, options)
        });
    }
    let epochs = 2;
    let state = train(
        ratings,
        Options {
            epochs,
            ..options.clone()
        },
        2,
    );
    assert_same(&state, &twin, triplets, options);
}

fn never_rises(options: Options, ratings: &InMemory) {
    let state = train(ratings, options.clone(), 1);
    for pair in state.history.windows(2) {
        let slack = 1e-6 * pair[0].loss.abs().max(1.0);
        assert!(
            pair[1].loss <= pair[0].loss + slack,
            "{} on {}: from {} to {}",
            options.solver,
            options.loss,
            pair[0].loss,
            pair[1].loss
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn coordinate_descent_is_its_dense_twin(triplets in ratings(), options in options()) {
        let options = Options { solver: "coordinate".into(), ..options };
        let ratings = InMemory::from_triplets(USERS, ITEMS, &triplets).unwrap().with_rows_per_block(5);
        is_its_twin(&ratings, &triplets, &options, Dense::coordinates);
    }

    // Step by step the same only where rows are well conditioned: of others, rounding delays the last direction by a step or
    // more (Greenbaum: Behavior of slightly perturbed Lanczos and conjugate-gradient recurrences, 1989).
    #[test]
    fn conjugate_gradient_is_its_dense_twin(
        triplets in ratings(),
        options in options(),
        cg_steps in 1..5_usize,
    ) {
        let options = Options {
            solver: "cg".into(),
            cg_steps,
            regularization_row: options.regularization_row + 1.0,
            bias_regularization_row: options.bias_regularization_row.map(|ridge| ridge + 1.0),
            ..options
        };
        let ratings = InMemory::from_triplets(USERS, ITEMS, &triplets).unwrap().with_rows_per_block(5);
        is_its_twin(&ratings, &triplets, &options, Dense::conjugate);
    }

    #[test]
    fn conjugate_gradient_to_the_end_is_als(triplets in ratings(), options in options()) {
        // As many as there are unknowns at most, and as many again for what rounding delays.
        let options = Options { solver: "cg".into(), cg_steps: 40, ..options };
        let ratings = InMemory::from_triplets(USERS, ITEMS, &triplets).unwrap();
        is_its_twin(&ratings, &triplets, &options, Dense::solve);
    }

    #[test]
    fn newton_on_squares_is_als(triplets in ratings(), options in options(), scaled in any::<bool>()) {
        let loss = if scaled { "0.5*(p-r)^2" } else { "squared" };
        let options = Options { solver: "newton".into(), loss: loss.into(), ..options };
        let ratings = InMemory::from_triplets(USERS, ITEMS, &triplets).unwrap();
        is_its_twin(&ratings, &triplets, &options, Dense::solve);
    }

    #[test]
    fn averaged_gradients_are_their_dense_twin(
        triplets in ratings(),
        options in options(),
        zeros in any::<bool>(),
    ) {
        let options = Options {
            solver: "cell-gradient".into(),
            loss: if zeros { "squared" } else { "huber" }.into(),
            missing: zeros.then_some(Missing::Zero),
            biases: options.biases && !zeros,
            learning_rates: vec![0.03],
            ..options
        };
        let loss = if zeros { SQUARED } else { HUBER };
        let cells = if zeros { with_zeros(&triplets) } else { triplets.clone() };
        let ratings = InMemory::from_triplets(USERS, ITEMS, &triplets).unwrap().with_rows_per_block(4);
        let mut twin = start(&ratings, &options);
        for _ in 0..3 {
            twin.sweep([0, 1], |twin, side, at| {
                let of_row = Dense::cells(side, at, &cells);
                let rated = count(&triplets, side, at);
                twin.averaged(loss, (side, at), &of_row, rated, &options);
            });
        }
        let state = train(&ratings, Options { epochs: 3, ..options.clone() }, 2);
        let ours = state.history.last().unwrap().loss;
        let cost = twin.cost_of(loss, &cells, &triplets, &options);
        prop_assert!((ours - cost).abs() < 1e-4 * cost, "{ours} is not {cost}");
        prop_assert!(difference(&state.parameters().items, &twin.items) < 1e-3);
        prop_assert!(difference(&state.parameters().users, &twin.users) < 1e-3);
    }

    #[test]
    fn the_cost_never_rises(triplets in ratings(), options in options()) {
        let ratings = InMemory::from_triplets(USERS, ITEMS, &triplets).unwrap();
        for solver in ["coordinate", "cg"] {
            never_rises(Options { solver: solver.into(), epochs: 8, ..options.clone() }, &ratings);
        }
        for loss in LOSSES.iter().map(|loss| loss.name).chain(["log(1+(p-r)^2)"]) {
            let (solver, loss) = ("newton".into(), loss.into());
            never_rises(Options { solver, loss, epochs: 5, ..options.clone() }, &ratings);
        }
    }
}

/// Two thirds of the cells.
fn some_ratings() -> InMemory {
    let cells = (0..USERS as u32).flat_map(|u| (0..ITEMS as u32).map(move |i| (u, i)));
    let triplets: Triplets = cells
        .filter(|&(u, i)| (u * 5 + i * 7) % 3 > 0)
        .map(|(u, i)| (u, i, ((u * 7 + i * i * 3) % 10) as f32 / 2.0))
        .collect();
    InMemory::from_triplets(USERS, ITEMS, &triplets).unwrap()
}

fn last_loss(options: Options) -> f64 {
    let state = train(&some_ratings(), options, 1);
    state.history.last().unwrap().loss
}

/// With as many factors as items the cost is that of a convex problem in the product (the trace norm), so all methods
/// must find the same.
#[test]
fn methods_for_squares_meet_where_als_does() {
    let of = |solver: &str| {
        last_loss(Options {
            solver: solver.into(),
            rank: ITEMS,
            epochs: 300,
            biases: false,
            regularization: Some(0.1),
            regularization_row: 0.5,
            ..Options::default()
        })
    };
    let als = of("als");
    for solver in ["coordinate", "cg", "newton"] {
        let other = of(solver);
        assert!(
            (other - als).abs() < 1e-4 * als,
            "{solver}: {other} is not {als}"
        );
    }
}

#[test]
fn newton_gets_below_gradient_descent() {
    for (loss, rate) in [
        ("huber", 0.02),
        ("logistic", 0.02),
        ("poisson", 0.002),
        ("absolute", 0.01),
        ("hinge", 0.01),
    ] {
        let options = |solver: &str, epochs, learning_rates| Options {
            solver: solver.into(),
            loss: loss.into(),
            rank: 3,
            epochs,
            biases: false,
            learning_rates,
            ..Options::default()
        };
        let newton = last_loss(options("newton", 15, Vec::new()));
        let gradient = last_loss(options("gradient", 60, vec![rate]));
        let first = last_loss(options("newton", 0, Vec::new()));
        assert!(newton < gradient, "{loss}: {newton} after {gradient}");
        assert!(gradient < first, "{loss}: {gradient} after {first}");
    }
}

#[test]
fn what_a_method_cannot_do_is_refused() {
    let refused = |options: Options| {
        let threads = lowrank::Threads::new(Some(1)).unwrap();
        let error = lowrank::Trainer::new(&some_ratings(), options)
            .run(&threads)
            .unwrap_err();
        assert_eq!(error.kind(), lowrank::ErrorKind::BadOption, "{error}");
        error.to_string()
    };
    let with = |solver: &str, missing| with_solver((solver, missing), Options::default());
    for solver in ["als", "gradient", "coordinate", "cg", "newton"] {
        let error = refused(with(solver, Some(Missing::Zero)));
        assert!(error.contains("missing cells cannot count"), "{error}");
    }
    for solver in ["coordinate", "cg"] {
        let loss = "huber".into();
        assert!(
            refused(Options {
                loss,
                ..with(solver, None)
            })
            .contains("huber")
        );
    }
    for (solver, missing) in BY_ROWS.iter().filter(|(name, _)| *name != "gradient") {
        let options = with(solver, *missing);
        let reduce = Reduce::Mean;
        refused(Options {
            reduce,
            ..options.clone()
        });
        let mut learning_rates = options.learning_rates.clone();
        if learning_rates.pop().is_none() {
            learning_rates.push(0.1);
        }
        refused(Options {
            learning_rates,
            ..options
        });
    }
    let zeros = with("cell-gradient", Some(Missing::Zero));
    let loss = "huber".into();
    assert!(
        refused(Options {
            loss,
            ..zeros.clone()
        })
        .contains("squared")
    );
    let (biases, normalize) = (true, true);
    refused(Options {
        biases,
        ..zeros.clone()
    });
    refused(Options { normalize, ..zeros });
}
