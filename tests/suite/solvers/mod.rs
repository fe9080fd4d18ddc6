//! Every solver against a plain dense f64 twin on small ratings with empty rows and columns.

mod by_rows;
mod conjugate;

use lowrank::matrix::{Factors, InMemory, Ratings, Side};
use lowrank::solver::{Missing, Options, Update};
use lowrank::threads::Threads;
use lowrank::train::{State, Trainer};
use proptest::prelude::*;

/// Dense matrices of f64, rows of factors with the bias last.
#[derive(Clone)]
struct Dense {
    mean: f64,
    users: Vec<Vec<f64>>,
    items: Vec<Vec<f64>>,
}

type Triplets = Vec<(u32, u32, f32)>;

fn widened(factors: &Factors) -> Vec<Vec<f64>> {
    let row = |i| {
        let bias = f64::from(factors.bias(i));
        factors
            .row(i)
            .iter()
            .map(|&x| x.into())
            .chain([bias])
            .collect()
    };
    (0..factors.rows()).map(row).collect()
}

impl Dense {
    fn predict(&self, u: usize, i: usize) -> f64 {
        let (p, q) = (&self.users[u], &self.items[i]);
        let k = p.len() - 1;
        let product: f64 = p[..k].iter().zip(&q[..k]).map(|(a, b)| a * b).sum();
        self.mean + p[k] + q[k] + product
    }

    fn cost(&self, ratings: &Triplets, options: &Options) -> f64 {
        let mut cost = 0.0;
        for &(u, i, r) in ratings {
            cost += 0.5 * (self.predict(u as usize, i as usize) - f64::from(r)).powi(2);
        }
        for (side, rows) in [&self.users, &self.items].into_iter().enumerate() {
            for (at, row) in rows.iter().enumerate() {
                let n = count(ratings, side, at);
                let k = row.len() - 1;
                for (x, value) in row.iter().enumerate() {
                    // Without biases the last place is none.
                    if x < k || options.biases {
                        cost += ridge(options, n, x == k) * penalty(options, *value).0;
                    }
                }
            }
        }
        cost
    }

    /// Solves one row exactly, by Gaussian elimination.
    fn solve(&mut self, side: usize, at: usize, ratings: &Triplets, options: &Options) {
        let other = if side == 0 { &self.items } else { &self.users };
        let k = options.rank;
        let size = if options.biases { k + 1 } else { k };
        let mut a = vec![vec![0.0; size + 1]; size];
        let n = count(ratings, side, at);
        for &(u, i, r) in ratings {
            let (own, col) = if side == 0 { (u, i) } else { (i, u) };
            if own as usize != at {
                continue;
            }
            let q = &other[col as usize];
            let mut features = q[..k].to_vec();
            features.push(1.0);
            let target = f64::from(r) - self.mean - q[k];
            for x in 0..size {
                for y in 0..size {
                    a[x][y] += features[x] * features[y];
                }
                a[x][size] += features[x] * target;
            }
        }
        for (x, row) in a.iter_mut().enumerate() {
            row[x] += ridge(options, n, x == k);
        }
        let solution = if n == 0 {
            vec![0.0; size]
        } else {
            eliminate(a)
        };
        let rows = if side == 0 {
            &mut self.users
        } else {
            &mut self.items
        };
        rows[at][..size].copy_from_slice(&solution);
    }

    /// The gradient of the cost by every number of one side.
    fn gradient(&self, side: usize, ratings: &Triplets, options: &Options) -> Vec<Vec<f64>> {
        let (own, other) = if side == 0 {
            (&self.users, &self.items)
        } else {
            (&self.items, &self.users)
        };
        let k = options.rank;
        let mut gradient = own.clone();
        for (at, row) in gradient.iter_mut().enumerate() {
            let n = count(ratings, side, at);
            // Without biases the last place is none.
            let coordinates = if options.biases { k + 1 } else { k };
            row[coordinates..].fill(0.0);
            for (x, value) in row[..coordinates].iter_mut().enumerate() {
                *value = ridge(options, n, x == k) * penalty(options, *value).1;
            }
        }
        for &(u, i, r) in ratings {
            let error = self.predict(u as usize, i as usize) - f64::from(r);
            let (at, col) = if side == 0 { (u, i) } else { (i, u) };
            for x in 0..k {
                gradient[at as usize][x] += error * other[col as usize][x];
            }
            if options.biases {
                gradient[at as usize][k] += error;
            }
        }
        gradient
    }

    fn step(&mut self, side: usize, gradient: &[Vec<f64>], rate: f64) {
        let rows = if side == 0 {
            &mut self.users
        } else {
            &mut self.items
        };
        for (row, by) in rows.iter_mut().zip(gradient) {
            for (x, g) in row.iter_mut().zip(by) {
                *x -= rate * g;
            }
        }
    }
}

fn count(ratings: &Triplets, side: usize, at: usize) -> usize {
    let own = |t: &&(u32, u32, f32)| if side == 0 { t.0 } else { t.1 } as usize == at;
    ratings.iter().filter(own).count()
}

fn ridge(options: &Options, n: usize, bias: bool) -> f64 {
    let regularization = options.regularization.unwrap();
    let (by_rating, by_row) = if bias {
        (
            options.bias_regularization.unwrap_or(regularization),
            options
                .bias_regularization_row
                .unwrap_or(options.regularization_row),
        )
    } else {
        (regularization, options.regularization_row)
    };
    f64::from(by_rating) * n as f64 + f64::from(by_row)
}

/// Value and slope of the penalty on a coordinate.
fn penalty(options: &Options, x: f64) -> (f64, f64) {
    let sign = if x == 0.0 { 0.0 } else { x.signum() };
    match options.regularizer.as_str() {
        "l2" => (0.5 * x * x, x),
        "l1" => (x.abs(), sign),
        "0.5*x^2 + 0.1*abs(x)" => (0.5 * x * x + 0.1 * x.abs(), x + 0.1 * sign),
        "exp(x) + x^4" => (x.exp() + x.powi(4), x.exp() + 4.0 * x.powi(3)),
        other => panic!("{other} has no twin"),
    }
}

fn eliminate(mut a: Vec<Vec<f64>>) -> Vec<f64> {
    let n = a.len();
    for pivot in 0..n {
        let best = (pivot..n).max_by(|&x, &y| a[x][pivot].abs().total_cmp(&a[y][pivot].abs()));
        a.swap(pivot, best.unwrap());
        let top = a[pivot].clone();
        for (x, row) in a.iter_mut().enumerate() {
            if x != pivot {
                let factor = row[pivot] / top[pivot];
                row.iter_mut().zip(&top).for_each(|(v, t)| *v -= factor * t);
            }
        }
    }
    (0..n).map(|x| a[x][n] / a[x][x]).collect()
}

/// The methods that go row by row, with what missing cells count as if that is not the default.
const BY_ROWS: &[(&str, Option<Missing>)] = &[
    ("als", None),
    ("gradient", None),
    ("cell-gradient", None),
    ("cell-gradient", Some(Missing::Zero)),
    ("coordinate", None),
    ("cg", None),
    ("newton", None),
];

fn with_solver((solver, missing): (&str, Option<Missing>), options: Options) -> Options {
    Options {
        solver: solver.into(),
        missing,
        learning_rates: match solver.ends_with("gradient") {
            true => vec![0.0001],
            false => Vec::new(),
        },
        biases: options.biases && missing.is_none(),
        ..options
    }
}

const USERS: usize = 12;
const ITEMS: usize = 9;

/// Ratings in half stars; about half of the cells, some rows and columns empty.
fn ratings() -> impl Strategy<Value = Triplets> {
    let cell = prop_oneof![Just(None), (1..=10_u8).prop_map(Some)];
    proptest::collection::vec(cell, USERS * ITEMS).prop_filter_map("no ratings", |cells| {
        let rated = |(at, half): (usize, Option<u8>)| {
            let (u, i) = (at / ITEMS, at % ITEMS);
            let emptied = u == 3 || i == 4;
            half.filter(|_| !emptied)
                .map(|h| (u as u32, i as u32, f32::from(h) / 2.0))
        };
        let triplets: Triplets = cells.into_iter().enumerate().filter_map(rated).collect();
        (triplets.len() > 5).then_some(triplets)
    })
}

fn options() -> impl Strategy<Value = Options> {
    let ridges = (0.01..0.3_f32, 0.0..2.0_f32);
    let biases = (
        any::<bool>(),
        proptest::option::of(0.0..0.2_f32),
        proptest::option::of(0.1..1.0_f32),
    );
    // From 32 factors on, ALS solves rows of few ratings by those.
    let ranks = prop_oneof![4 => 1..20_usize, 1 => 32..40_usize];
    (ranks, ridges, biases, any::<u64>()).prop_map(|(rank, ridges, biases, seed)| Options {
        rank,
        seed,
        epochs: 0,
        regularization: Some(ridges.0),
        regularization_row: ridges.1,
        biases: biases.0,
        bias_regularization: biases.1,
        bias_regularization_row: biases.2,
        ..Options::default()
    })
}

fn train(ratings: &dyn Ratings, options: Options, threads: usize) -> State {
    let threads = Threads::new(Some(threads)).unwrap();
    Trainer::new(ratings, options).run(&threads).unwrap()
}

fn start(ratings: &dyn Ratings, options: &Options) -> Dense {
    let state = train(
        ratings,
        Options {
            epochs: 0,
            ..options.clone()
        },
        1,
    );
    Dense {
        mean: f64::from(state.parameters().mean),
        users: widened(&state.parameters().users),
        items: widened(&state.parameters().items),
    }
}

/// The largest difference over the largest entry.
fn difference(ours: &Factors, twin: &[Vec<f64>]) -> f64 {
    let ours = widened(ours);
    let pairs = || ours.iter().flatten().zip(twin.iter().flatten());
    let worst = pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    worst / pairs().map(|(_, b)| b.abs()).fold(1e-30, f64::max)
}

fn assert_same(state: &State, twin: &Dense, triplets: &Triplets, options: &Options) {
    assert!(difference(&state.parameters().items, &twin.items) < 2e-3);
    assert!(difference(&state.parameters().users, &twin.users) < 2e-3);
    let (ours, cost) = (
        state.history.last().unwrap().loss,
        twin.cost(triplets, options),
    );
    assert!((ours - cost).abs() < 1e-4 * cost, "{ours} is not {cost}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn als_is_its_dense_twin(triplets in ratings(), options in options()) {
        let ratings = InMemory::from_triplets(USERS, ITEMS, &triplets).unwrap().with_rows_per_block(5);
        let mut twin = start(&ratings, &options);
        for _ in 0..2 {
            for item in 0..ITEMS {
                twin.solve(1, item, &triplets, &options);
            }
            for user in 0..USERS {
                twin.solve(0, user, &triplets, &options);
            }
        }
        let state = train(&ratings, Options { epochs: 2, ..options.clone() }, 2);
        assert_same(&state, &twin, &triplets, &options);
    }

    #[test]
    fn the_cost_of_als_never_rises(triplets in ratings(), options in options()) {
        let ratings = InMemory::from_triplets(USERS, ITEMS, &triplets).unwrap();
        let state = train(&ratings, Options { epochs: 8, ..options }, 1);
        for pair in state.history.windows(2) {
            prop_assert!(pair[1].loss <= pair[0].loss * (1.0 + 1e-6));
        }
    }

    #[test]
    fn gradient_descent_is_its_dense_twin(
        triplets in ratings(),
        options in options(),
        simultaneous in any::<bool>(),
        regularizer in prop::sample::select(vec!["l2", "l1", "0.5*x^2 + 0.1*abs(x)", "exp(x) + x^4"]),
    ) {
        let update = if simultaneous { Update::Simultaneous } else { Update::Alternating };
        // Small enough that steps along the steepest penalty do not diverge from any start that is drawn.
        let rates = vec![0.004, 0.002, 0.001];
        let options = Options { solver: "gradient".into(), update, learning_rates: rates.clone(), regularizer: regularizer.into(), ..options };
        let ratings = InMemory::from_triplets(USERS, ITEMS, &triplets).unwrap().with_rows_per_block(4);
        let mut twin = start(&ratings, &options);
        for rate in rates {
            let users = twin.gradient(0, &triplets, &options);
            let items = twin.gradient(1, &triplets, &options);
            twin.step(0, &users, f64::from(rate));
            let items = if simultaneous { items } else { twin.gradient(1, &triplets, &options) };
            twin.step(1, &items, f64::from(rate));
        }
        let state = train(&ratings, Options { epochs: 3, ..options.clone() }, 2);
        assert_same(&state, &twin, &triplets, &options);
    }

    #[test]
    fn bits_depend_on_neither_threads_nor_blocks(
        triplets in ratings(),
        options in options(),
        by_rows in proptest::sample::select(BY_ROWS),
    ) {
        let options = with_solver(by_rows, Options { epochs: 3, ..options });
        let ratings = InMemory::from_triplets(USERS, ITEMS, &triplets).unwrap();
        let one = train(&ratings, options.clone(), 1);
        for (threads, rows) in [(1, 1), (2, 3), (4, 100)] {
            let other = train(&ratings.clone().with_rows_per_block(rows), options.clone(), threads);
            prop_assert_eq!(one.parameters(), other.parameters());
            prop_assert_eq!(&one.history, &other.history);
        }
    }
}

/// Rows longer than a part are cut on a grid that does not depend on threads or blocks.
#[test]
fn long_rows_are_summed_alike_on_any_number_of_threads() {
    let users = 40_000;
    let triplets: Triplets = (0..users)
        .flat_map(|u| [(u, 0, (u % 9) as f32), (u, 1 + u % 7, (u % 5) as f32)])
        .collect();
    let ratings = InMemory::from_triplets(users as usize, 8, &triplets).unwrap();
    let cut = ratings.clone().with_rows_per_block(1000);
    for by_rows in BY_ROWS {
        let options = Options {
            rank: 5,
            epochs: 2,
            biases: by_rows.1.is_none(),
            ..Options::default()
        };
        let options = with_solver(*by_rows, options);
        let one = train(&ratings, options.clone(), 1);
        let three = train(&cut, options, 3);
        assert_eq!(one.parameters(), three.parameters(), "{by_rows:?}");
    }
}

#[test]
fn an_early_stop_keeps_the_best_epoch() {
    let cell = |u: u32, i: u32| ((u * 7 + i * 13) % 10) as f32 / 2.0;
    let pick = |want: bool| -> Triplets {
        let all = (0..40).flat_map(|u| (0..30).map(move |i| (u, i)));
        all.filter(|&(u, i)| ((u * 31 + i * 17) % 10 == 0) == want)
            .map(|(u, i)| (u, i, cell(u, i)))
            .collect()
    };
    let ratings = InMemory::from_triplets(40, 30, &pick(false)).unwrap();
    let validation = InMemory::from_triplets(40, 30, &pick(true)).unwrap();
    let options = Options {
        rank: 12,
        epochs: 60,
        regularization: Some(0.001),
        early_stop: Some(3),
        ..Options::default()
    };
    let threads = Threads::new(Some(1)).unwrap();
    let run = |options: Options| {
        Trainer::new(&ratings, options)
            .validation(Some(&validation as &dyn Ratings))
            .run(&threads)
            .unwrap()
    };
    let state = run(options.clone());
    let best = state.best_epoch().unwrap();
    assert!(state.epochs() < 60, "it should overfit");
    assert_eq!(state.epochs(), best + 3);
    let straight = run(Options {
        epochs: best,
        early_stop: None,
        ..options
    });
    assert_eq!(state.into_parameters(), straight.into_parameters());
    assert_eq!(ratings.blocks(Side::Users), 1);
}

#[test]
fn a_diverging_gradient_stops_with_a_message() {
    let triplets: Triplets = (0..20)
        .flat_map(|u| (0..20).map(move |i| (u, i, 5.0)))
        .collect();
    let ratings = InMemory::from_triplets(20, 20, &triplets).unwrap();
    let options = Options {
        solver: "gradient".into(),
        learning_rates: vec![50.0],
        biases: false,
        ..Options::default()
    };
    let error = Trainer::new(&ratings, options)
        .run(&Threads::new(Some(1)).unwrap())
        .unwrap_err();
    assert_eq!(error.kind(), lowrank::ErrorKind::Diverged);
    assert!(
        error.to_string().contains("try a lower --learning-rate"),
        "{error}"
    );
}
