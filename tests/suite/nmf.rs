//! Non-negative matrix factorization against a dense f64 twin, for each rule, loss and meaning of missing cells.

use lowrank::matrix::{Factors, InMemory, Ratings};
use lowrank::solver::{Missing, Options, Rule, Study};
use lowrank::{ErrorKind, State, Threads, Trainer};
use proptest::prelude::*;

const USERS: usize = 11;
const ITEMS: usize = 8;
const FLOOR: f64 = 1e-9;

type Triplets = Vec<(u32, u32, f32)>;
type Rows = Vec<Vec<f64>>;

/// Every cell: whether it counts, and its rating or zero.
struct Dense {
    cells: Vec<Vec<Option<f64>>>,
    rated: Vec<(usize, usize)>,
    users: Rows,
    items: Rows,
    kl: bool,
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

impl Dense {
    fn new(triplets: &Triplets, options: &Options, start: &State) -> Dense {
        let missing = match options.missing {
            Some(Missing::Skip) => None,
            _ => Some(0.0),
        };
        let mut cells = vec![vec![missing; ITEMS]; USERS];
        for &(u, i, r) in triplets {
            cells[u as usize][i as usize] = Some(r.into());
        }
        Dense {
            cells,
            rated: triplets
                .iter()
                .map(|t| (t.0 as usize, t.1 as usize))
                .collect(),
            users: widened(&start.parameters().users),
            items: widened(&start.parameters().items),
            kl: options.loss == "kl",
        }
    }

    /// The cells of one row that count, each with the row of the other side.
    fn row(&self, of_users: bool, at: usize) -> Vec<(f64, &Vec<f64>)> {
        let cell = |u: usize, i: usize| self.cells[u][i];
        if of_users {
            let cells = (0..ITEMS).filter_map(|i| Some((cell(at, i)?, &self.items[i])));
            cells.collect()
        } else {
            let cells = (0..USERS).filter_map(|u| Some((cell(u, at)?, &self.users[u])));
            cells.collect()
        }
    }

    fn unrated(&self, of_users: bool, at: usize) -> bool {
        self.rated
            .iter()
            .all(|&(u, i)| if of_users { u != at } else { i != at })
    }

    fn multiplied(&self, own: &[f64], row: &[(f64, &Vec<f64>)]) -> Vec<f64> {
        let factor = |k: usize| {
            let (mut up, mut down) = (0.0, 0.0);
            for (m, q) in row {
                let p = dot(own, q);
                up += q[k] * if self.kl { m / p } else { *m };
                down += q[k] * if self.kl { 1.0 } else { p };
            }
            let ratio = if down > 0.0 { up / down } else { 0.0 };
            (own[k] * ratio).max(FLOOR)
        };
        (0..own.len()).map(factor).collect()
    }

    fn descended(&self, own: &[f64], row: &[(f64, &Vec<f64>)]) -> Vec<f64> {
        let mut own = own.to_vec();
        for k in 0..own.len() {
            let slope: f64 = row.iter().map(|(m, q)| q[k] * (dot(&own, q) - m)).sum();
            let curvature: f64 = row.iter().map(|(_, q)| q[k] * q[k]).sum();
            // A factor that the other side has given up is left alone.
            if curvature > FLOOR {
                own[k] = (own[k] - slope / curvature).max(FLOOR);
            }
        }
        own
    }

    fn epoch(&mut self, rule: Rule) {
        for of_users in [false, true] {
            let rows = if of_users { &self.users } else { &self.items };
            let moved = rows.iter().enumerate().map(|(at, own)| {
                let row = self.row(of_users, at);
                match rule {
                    _ if self.unrated(of_users, at) => vec![FLOOR; own.len()],
                    Rule::Multiplicative => self.multiplied(own, &row),
                    Rule::Hals => self.descended(own, &row),
                }
            });
            let moved = moved.collect();
            *(if of_users {
                &mut self.users
            } else {
                &mut self.items
            }) = moved;
        }
    }

    fn cost(&self) -> f64 {
        let mut cost = 0.0;
        for (u, row) in self.cells.iter().enumerate() {
            for (i, cell) in row.iter().enumerate() {
                let p = dot(&self.users[u], &self.items[i]);
                cost += match cell {
                    None => 0.0,
                    Some(m) if self.kl && *m > 0.0 => m * (m / p).ln() - m + p,
                    Some(_) if self.kl => p,
                    Some(m) => 0.5 * (m - p) * (m - p),
                };
            }
        }
        cost
    }
}

fn widened(factors: &Factors) -> Rows {
    let row = |at| factors.row(at).iter().map(|&x| x.into()).collect();
    (0..factors.rows()).map(row).collect()
}

/// Ratings in half stars from zero up, some rows and columns empty.
fn ratings() -> impl Strategy<Value = Triplets> {
    let cell = prop_oneof![Just(None), (0..=10_u8).prop_map(Some)];
    proptest::collection::vec(cell, USERS * ITEMS).prop_filter_map("no ratings", |cells| {
        let rated = |(at, half): (usize, Option<u8>)| {
            let (u, i) = (at / ITEMS, at % ITEMS);
            let emptied = u == 3 || i == 4;
            half.filter(|_| !emptied)
                .map(|h| (u as u32, i as u32, f32::from(h) / 2.0))
        };
        let triplets: Triplets = cells.into_iter().enumerate().filter_map(rated).collect();
        let rated = triplets.iter().filter(|t| t.2 > 0.0).count();
        (rated > 5).then_some(triplets)
    })
}

fn options() -> impl Strategy<Value = Options> {
    let kinds = prop_oneof![
        Just((Rule::Multiplicative, "squared")),
        Just((Rule::Multiplicative, "kl")),
        Just((Rule::Hals, "squared")),
    ];
    let missing = prop_oneof![
        Just(None),
        Just(Some(Missing::Skip)),
        Just(Some(Missing::Zero))
    ];
    (1..18_usize, kinds, missing, any::<u64>()).prop_map(|(rank, (rule, loss), missing, seed)| {
        Options {
            rank,
            seed,
            rule,
            missing,
            loss: loss.into(),
            ..nmf()
        }
    })
}

fn nmf() -> Options {
    Options {
        solver: "nmf".into(),
        biases: false,
        ..Options::default()
    }
}

fn train(ratings: &dyn Ratings, options: &Options, epochs: usize, threads: usize) -> State {
    let options = Options {
        epochs,
        ..options.clone()
    };
    let threads = Threads::new(Some(threads)).unwrap();
    Trainer::new(ratings, options).run(&threads).unwrap()
}

/// The largest difference over the largest entry.
fn difference(ours: &Factors, twin: &Rows) -> f64 {
    let ours = widened(ours);
    let pairs = || ours.iter().flatten().zip(twin.iter().flatten());
    let worst = pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    worst / pairs().map(|(_, b)| b.abs()).fold(1e-30, f64::max)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn it_is_its_dense_twin(triplets in ratings(), options in options()) {
        let ratings = InMemory::from_triplets(USERS, ITEMS, &triplets).unwrap().with_rows_per_block(3);
        let mut twin = Dense::new(&triplets, &options, &train(&ratings, &options, 0, 1));
        let scale = triplets.iter().map(|t| f64::from(t.2).powi(2)).sum::<f64>();
        for epochs in 1..=3 {
            twin.epoch(options.rule);
            let state = train(&ratings, &options, epochs, 2);
            let ours = state.history.last().unwrap().loss;
            // The factors of HALS at a high rank are ill-determined; what they predict is not.
            if options.rule == Rule::Multiplicative {
                prop_assert!(difference(&state.parameters().items, &twin.items) < 1e-4);
                prop_assert!(difference(&state.parameters().users, &twin.users) < 1e-4);
            } else if epochs == 1 {
                prop_assert!(difference(&state.parameters().items, &twin.items) < 2e-3);
            }
            prop_assert!((ours - twin.cost()).abs() < 1e-3 * twin.cost() + 1e-5 * scale, "{} is not {}", ours, twin.cost());
        }
    }

    #[test]
    fn the_objective_never_rises(triplets in ratings(), options in options()) {
        let ratings = InMemory::from_triplets(USERS, ITEMS, &triplets).unwrap();
        let scale = triplets.iter().map(|t| f64::from(t.2).powi(2)).sum::<f64>();
        let state = train(&ratings, &options, 40, 1);
        for pair in state.history.windows(2) {
            prop_assert!(pair[1].loss <= pair[0].loss + 1e-6 * scale, "{:?}", pair);
        }
        for factors in [&state.parameters().users, &state.parameters().items] {
            prop_assert!(widened(factors).iter().flatten().all(|&x| x > 0.0));
        }
    }

    #[test]
    fn bits_depend_on_neither_threads_nor_blocks(triplets in ratings(), options in options()) {
        let ratings = InMemory::from_triplets(USERS, ITEMS, &triplets).unwrap();
        let one = train(&ratings, &options, 3, 1);
        for (threads, rows) in [(1, 1), (2, 3), (4, 100)] {
            let other = train(&ratings.clone().with_rows_per_block(rows), &options, 3, threads);
            prop_assert_eq!(one.parameters(), other.parameters());
            prop_assert_eq!(&one.history, &other.history);
        }
    }

    /// Both self tests of the study hold on any ratings.
    #[test]
    fn the_study_holds(triplets in ratings(), rank in 1..18_usize, seed: u64) {
        let ratings = InMemory::from_triplets(USERS, ITEMS, &triplets).unwrap();
        let options = Options { rank, seed, epochs: 30, ..nmf() };
        let mut study = Study::new(&options).unwrap();
        let mut before = None;
        let state = Trainer::new(&ratings, options)
            .after_epoch(|state| {
                let now = state.parameters().clone();
                if let Some(before) = before.replace(now.clone()) {
                    study.observe(&ratings, &before, &now)?;
                }
                Ok(())
            })
            .run(&Threads::new(Some(2)).unwrap())
            .unwrap();
        let scale = triplets.iter().map(|t| f64::from(t.2).powi(2)).sum::<f64>();
        for (line, epoch) in study.lines().iter().zip(&state.history) {
            prop_assert!((line.objective - epoch.loss).abs() <= 1e-6 * scale.max(epoch.loss));
        }
    }
}

/// More rows than one group of the Gram matrix, and a row of more ratings than one part.
#[test]
fn long_sides_are_summed_alike_on_any_number_of_threads() {
    let users = 40_000;
    let triplets: Triplets = (0..users)
        .flat_map(|u| [(u, 0, (u % 9) as f32), (u, 1 + u % 7, (u % 5) as f32)])
        .collect();
    let ratings = InMemory::from_triplets(users as usize, 8, &triplets).unwrap();
    for (rule, missing, loss) in [
        (Rule::Multiplicative, Missing::Zero, "squared"),
        (Rule::Multiplicative, Missing::Skip, "kl"),
        (Rule::Hals, Missing::Skip, "squared"),
    ] {
        let options = Options {
            rank: 5,
            rule,
            missing: Some(missing),
            loss: loss.into(),
            ..nmf()
        };
        let one = train(&ratings, &options, 2, 1);
        let other = train(&ratings.clone().with_rows_per_block(301), &options, 2, 3);
        assert_eq!(one.parameters(), other.parameters());
        assert_eq!(one.history, other.history);
    }
}

/// A factor that starts at zero can grow.
#[test]
fn zeros_do_not_lock() {
    let triplets: Triplets = (0..6)
        .flat_map(|u| (0..6).map(move |i| (u, i, if (u < 3) == (i < 3) { 4.0 } else { 0.0 })))
        .collect();
    let ratings = InMemory::from_triplets(6, 6, &triplets).unwrap();
    let mut start = Factors::zeros(6, 2, false);
    for row in 0..6 {
        // The second factor knows nobody.
        start.row_mut(row).copy_from_slice(&[0.5 + row as f32, 0.0]);
    }
    let state = Trainer::new(
        &ratings,
        Options {
            epochs: 400,
            ..nmf()
        },
    )
    .start_from(start.clone(), start)
    .run(&Threads::new(Some(1)).unwrap())
    .unwrap();
    assert!(state.history.last().unwrap().train_rmse < 1e-3);
}

#[test]
fn what_is_below_zero_is_refused_by_name() {
    let refused = |triplets: &Triplets, options: Options| {
        let ratings = InMemory::from_triplets(3, 3, triplets).unwrap();
        Trainer::new(&ratings, options)
            .run(&Threads::new(Some(1)).unwrap())
            .unwrap_err()
    };
    let negative = vec![(0, 0, 1.0), (1, 2, -0.5), (2, 1, -3.0)];
    let error = refused(&negative, nmf());
    assert_eq!(error.kind(), ErrorKind::BadInput);
    assert!(
        error
            .to_string()
            .starts_with("user 1 rates item 2 with -0.5"),
        "{error}"
    );
    let fine = vec![(0, 0, 1.0), (1, 2, 0.5)];
    for (options, word) in [
        (
            Options {
                biases: true,
                ..nmf()
            },
            "--no-biases",
        ),
        (
            Options {
                normalize: true,
                ..nmf()
            },
            "--normalize",
        ),
        (
            Options {
                regularization: Some(0.1),
                ..nmf()
            },
            "--regularization",
        ),
        (
            Options {
                loss: "huber".into(),
                ..nmf()
            },
            "--loss kl",
        ),
        (
            Options {
                loss: "kl".into(),
                rule: Rule::Hals,
                ..nmf()
            },
            "--rule multiplicative",
        ),
    ] {
        let error = refused(&fine, options);
        assert_eq!(error.kind(), ErrorKind::BadOption);
        assert!(error.to_string().contains(word), "{error}");
    }
    let skip = Options {
        missing: Some(Missing::Skip),
        ..nmf()
    };
    assert!(Study::new(&skip).is_err());
}
