//! Solvers of implicit feedback against plain dense twins in f64, and what theory promises of them.

use std::collections::{HashMap, HashSet};
use std::fs;

use crate::program::Program;
use crate::real_data::real_data;
use lowrank::matrix::{Factors, InMemory, Ratings};
use lowrank::solver::Options;
use lowrank::store::Store;
use lowrank::{ErrorKind, Result, State, Threads, Trainer};
use proptest::prelude::*;

const USERS: usize = 13;
const ITEMS: usize = 11;
/// Those that minimise the same objective.
const WEIGHTED: [&str; 3] = ["ials", "ials-cg", "ials++"];

type Triplets = Vec<(u32, u32, f32)>;
type Rows = Vec<Vec<f64>>;

/// Stars from 1 to 5; some rows and columns are empty.
fn ratings() -> impl Strategy<Value = Triplets> {
    let cell = prop_oneof![2 => Just(None), 1 => (1..=5_u8).prop_map(Some)];
    prop::collection::vec(cell, USERS * ITEMS).prop_filter_map("too few", |cells| {
        let rated = |(at, stars): (usize, Option<u8>)| {
            let (user, item) = (at / ITEMS, at % ITEMS);
            let stars = stars.filter(|_| user != 2 && item != 5)?;
            Some((user as u32, item as u32, f32::from(stars)))
        };
        let triplets: Triplets = cells.into_iter().enumerate().filter_map(rated).collect();
        let high = triplets.iter().filter(|t| t.2 >= 3.0).count();
        (high > 5).then_some(triplets)
    })
}

fn options() -> impl Strategy<Value = Options> {
    let weights = (
        prop::option::of(0.1..3.0_f32),
        0.01..0.8_f32,
        0.0..1.2_f32,
        prop::option::of(Just(3.0_f32)),
    );
    let ridges = (0.01..0.3_f32, 0.0..1.0_f32);
    (1..20_usize, weights, ridges, any::<u64>()).prop_map(|(rank, weights, ridges, seed)| Options {
        rank,
        seed,
        biases: false,
        alpha: weights.0,
        unobserved_weight: weights.1,
        regularization_exponent: weights.2,
        positive_at: weights.3,
        regularization: Some(ridges.0),
        regularization_row: ridges.1,
        ..Options::default()
    })
}

fn trained(triplets: &Triplets, options: &Options, solver: &str, epochs: usize) -> Result<State> {
    let ratings = InMemory::from_triplets(USERS, ITEMS, triplets)?.with_rows_per_block(4);
    let options = Options {
        solver: solver.into(),
        epochs,
        ..options.clone()
    };
    Trainer::new(&ratings, options).run(&Threads::new(Some(2))?)
}

fn widened(factors: &Factors) -> Rows {
    let row = |at| factors.row(at).iter().map(|&x| f64::from(x)).collect();
    (0..factors.rows()).map(row).collect()
}

/// The problem, cell by cell.
struct Dense<'a> {
    options: &'a Options,
    /// The weight of each cell's rating, zero where there is none.
    weights: Rows,
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

impl<'a> Dense<'a> {
    fn new(triplets: &Triplets, options: &'a Options) -> Dense<'a> {
        let mut weights = vec![vec![0.0; ITEMS]; USERS];
        for &(user, item, rating) in triplets {
            if options.positive_at.is_none_or(|least| rating >= least) {
                let weight = options.alpha.map_or(1.0, |alpha| alpha * rating);
                weights[user as usize][item as usize] = weight.into();
            }
        }
        Dense { options, weights }
    }

    /// A row of the matrix, or a column of it.
    fn row(&self, side: usize, at: usize) -> Vec<f64> {
        match side {
            0 => self.weights[at].clone(),
            _ => self.weights.iter().map(|row| row[at]).collect(),
        }
    }

    fn ridge(&self, row: &[f64]) -> f64 {
        let count = row.iter().filter(|&&w| w > 0.0).count() as f64;
        let cells = f64::from(self.options.unobserved_weight) * row.len() as f64;
        let scaled = (count + cells).powf(self.options.regularization_exponent.into());
        f64::from(self.options.regularization.unwrap()) * scaled
            + f64::from(self.options.regularization_row)
    }

    fn objective(&self, sides: &[Rows; 2]) -> f64 {
        let mut sum = 0.0;
        for (p, weights) in sides[0].iter().zip(&self.weights) {
            for (q, w) in sides[1].iter().zip(weights) {
                let y = dot(p, q);
                let unobserved = f64::from(self.options.unobserved_weight);
                sum += 0.5 * (w * (1.0 - y).powi(2) + unobserved * y * y);
            }
        }
        for (side, rows) in sides.iter().enumerate() {
            for (at, row) in rows.iter().enumerate() {
                sum += 0.5 * self.ridge(&self.row(side, at)) * dot(row, row);
            }
        }
        sum
    }

    /// Moves every row of a side to its lowest point.
    fn solve(&self, sides: &mut [Rows; 2], side: usize) {
        let rank = self.options.rank;
        let other = sides[1 - side].clone();
        for (at, out) in sides[side].iter_mut().enumerate() {
            let weights = self.row(side, at);
            let mut a = vec![vec![0.0; rank + 1]; rank];
            for (x, row) in a.iter_mut().enumerate() {
                for (q, w) in other.iter().zip(&weights) {
                    for (y, entry) in row[..rank].iter_mut().enumerate() {
                        *entry += (w + f64::from(self.options.unobserved_weight)) * q[x] * q[y];
                    }
                    row[rank] += w * q[x];
                }
                row[x] += self.ridge(&weights);
            }
            *out = eliminate(a);
        }
    }
}

fn eliminate(mut a: Rows) -> Vec<f64> {
    let n = a.len();
    for pivot in 0..n {
        let top = a[pivot].clone();
        for (_, row) in a.iter_mut().enumerate().filter(|(at, _)| *at != pivot) {
            let factor = row[pivot] / top[pivot];
            row.iter_mut().zip(&top).for_each(|(x, t)| *x -= factor * t);
        }
    }
    (0..n).map(|at| a[at][n] / a[at][at]).collect()
}

fn difference(a: &Rows, b: &Rows) -> f64 {
    let pairs = || a.iter().flatten().zip(b.iter().flatten());
    let worst = pairs().map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
    worst / pairs().map(|(_, y)| y.abs()).fold(1e-30, f64::max)
}

fn sides(state: &State) -> [Rows; 2] {
    let parameters = state.parameters();
    [widened(&parameters.users), widened(&parameters.items)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn exact_rows_are_those_of_the_dense_twin(triplets in ratings(), options in options()) {
        let dense = Dense::new(&triplets, &options);
        let start = trained(&triplets, &options, "ials", 0).unwrap();
        let mut twin = sides(&start);
        let cost = dense.objective(&twin);
        prop_assert!((start.history[0].loss - cost).abs() < 1e-5 * cost);
        for _ in 0..2 {
            dense.solve(&mut twin, 1);
            dense.solve(&mut twin, 0);
        }
        let cost = dense.objective(&twin);
        // One block of all factors, and as many steps as there are unknowns, solve a row as well.
        let whole = Options { block: 32, cg_steps: 30, ..options.clone() };
        for solver in WEIGHTED {
            let state = trained(&triplets, &whole, solver, 2).unwrap();
            for (ours, twin) in sides(&state).iter().zip(&twin) {
                prop_assert!(difference(ours, twin) < 2e-3, "{solver}");
            }
            let loss = state.history[2].loss;
            prop_assert!((loss - cost).abs() < 1e-4 * cost, "{solver}: {loss}, not {cost}");
        }
    }

    /// A block of all factors is the whole row's equations, solved for the way to go instead of for where it leads. With a ridge
    /// of 1 the equations are far from singular, so that only roundings are between the two.
    #[test]
    fn one_block_of_subspaces_is_the_exact_solver(triplets in ratings(), options in options()) {
        let block = options.rank;
        let options = Options { block, regularization_row: 1.0, ..options };
        let [exact, blocks] = ["ials", "ials++"].map(|solver| trained(&triplets, &options, solver, 3).unwrap());
        for (exact, blocks) in sides(&exact).iter().zip(&sides(&blocks)) {
            prop_assert!(difference(blocks, exact) < 1e-4);
        }
    }

    #[test]
    fn the_objective_is_the_whole_one_and_never_rises(
        triplets in ratings(),
        options in options(),
        block in 1_usize..8,
    ) {
        let options = Options { block, cg_steps: 2, ..options };
        for solver in WEIGHTED {
            let state = trained(&triplets, &options, solver, 8).unwrap();
            for pair in state.history.windows(2) {
                prop_assert!(pair[1].loss <= pair[0].loss * (1.0 + 1e-5), "{solver}: {pair:?}");
            }
            let cost = Dense::new(&triplets, &options).objective(&sides(&state));
            let loss = state.history[8].loss;
            prop_assert!((loss - cost).abs() < 1e-4 * cost, "{solver}: {loss}, not {cost}");
        }
    }

    /// Users' factors are the projection on orthonormal items', the cost is what the projection leaves, and from any start
    /// it comes to the same: the least that can be left.
    #[test]
    fn the_decomposition_is_a_projection_on_the_best_subspace(
        triplets in ratings(),
        rank in 1_usize..4,
        positive_at in prop::option::of(Just(3.0_f32)),
    ) {
        let options = Options { rank, positive_at, biases: false, ..Options::default() };
        let counted = Options { alpha: None, ..options.clone() };
        let cells = Dense::new(&triplets, &counted);
        let count = |side, at| cells.row(side, at).iter().sum::<f64>().max(1.0);
        let normal: Rows = (0..USERS)
            .map(|u| (0..ITEMS).map(|i| cells.weights[u][i] / (count(0, u) * count(1, i)).sqrt()).collect())
            .collect();
        let mut costs = Vec::new();
        for seed in [1, 2] {
            let state = trained(&triplets, &Options { seed, ..options.clone() }, "svd", 1000).unwrap();
            let [users, items] = sides(&state);
            let v: Rows = (0..ITEMS)
                .map(|i| items[i].iter().map(|x| x / count(1, i).sqrt()).collect())
                .collect();
            for a in 0..rank {
                for b in 0..rank {
                    let product: f64 = v.iter().map(|row| row[a] * row[b]).sum();
                    let expected = f64::from(u8::from(a == b));
                    // A column beyond the rank of the matrix is zero.
                    prop_assert!((product - expected).abs() < 1e-4 || a == b && product.abs() < 1e-9);
                }
            }
            let mut left = 0.0;
            for u in 0..USERS {
                let shadow: Vec<f64> = (0..rank).map(|k| (0..ITEMS).map(|i| normal[u][i] * v[i][k]).sum()).collect();
                for (k, x) in shadow.iter().enumerate() {
                    prop_assert!((x - users[u][k] * count(0, u).sqrt()).abs() < 1e-4);
                }
                for i in 0..ITEMS {
                    left += 0.5 * (normal[u][i] - dot(&shadow, &v[i])).powi(2);
                }
            }
            let loss = state.history.last().unwrap().loss;
            prop_assert!((loss - left).abs() < 1e-4, "{loss}, not {left}");
            for pair in state.history.windows(2) {
                prop_assert!(pair[1].loss <= pair[0].loss + 1e-6);
            }
            costs.push(left);
        }
        // After q steps, of singular values with squares s and r s beside the cut, (1 - r) r^2q s tan^2 / 2 may be missing of the
        // cost, by the angle of the start: at most tan^2 / 11 q, where 1 - r is 1 / 2q.
        prop_assert!((costs[0] - costs[1]).abs() < 2e-3, "{costs:?}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let triplets = vec![(0, 0, 5.0), (1, 1, -1.0), (1, 0, 4.0)];
    let refused = |solver: &str, options: Options, word: &str| {
        let error = trained(&triplets, &options, solver, 1).unwrap_err();
        let kinds = [ErrorKind::BadOption, ErrorKind::BadInput];
        assert!(kinds.contains(&error.kind()), "{error}");
        assert!(error.to_string().contains(word), "{solver}: {error}");
    };
    let plain = || Options {
        biases: false,
        rank: 2,
        ..Options::default()
    };
    for solver in WEIGHTED {
        let alpha = Some(2.0);
        refused(solver, Options { alpha, ..plain() }, "user 1 rates item 1");
        let positive_at = Some(9.0);
        refused(
            solver,
            Options {
                positive_at,
                ..plain()
            },
            "--positive-at",
        );
        let biases = true;
        refused(solver, Options { biases, ..plain() }, "--no-biases");
        let unobserved_weight = -1.0;
        refused(
            solver,
            Options {
                unobserved_weight,
                ..plain()
            },
            "weight of a cell",
        );
    }
    refused(
        "ials++",
        Options {
            block: 0,
            ..plain()
        },
        "block",
    );
    refused("popularity", plain(), "--no-biases");
    let regularization = Some(0.1);
    refused(
        "svd",
        Options {
            regularization,
            ..plain()
        },
        "ridge",
    );
    let positive_at = Some(4.0);
    refused(
        "als",
        Options {
            positive_at,
            ..plain()
        },
        "--positive-at",
    );
}

/// Every figure of popularity on the published split, counted from the text by other means.
#[test]
fn popularity_on_gowalla_is_an_independent_count() {
    let Some(folder) = real_data("gowalla-lightgcn") else {
        return;
    };
    let program = Program::new();
    let file = |name: &str| folder.join(name).display().to_string();
    let [train, test] = ["train.txt", "test.txt"].map(file);
    program.done(&format!(
        "import {train} --format adjacency --test {test} --out s"
    ));
    program.done("train s --out m --solver popularity --epochs 1 --rank 1");
    let all = "recall,capped-recall,precision,ndcg,map,mrr,hit-rate,novelty,coverage";
    let got = program.done(&format!("evaluate m s --metrics {all} --at 20"));

    type Lists = HashMap<String, HashSet<String>>;
    let read = |path: &str| -> Lists {
        let text = fs::read_to_string(path).unwrap();
        let line = |line: &str| {
            let mut words = line.split_whitespace().map(str::to_owned);
            Some((words.next()?, words.collect()))
        };
        text.lines().filter_map(line).collect()
    };
    let [train, test] = [read(&train), read(&test)];
    let mut count: HashMap<&String, usize> = HashMap::new();
    for item in train.values().flatten() {
        *count.entry(item).or_default() += 1;
    }
    // Of items that are as popular, the store's first comes first.
    let store = Store::open(program.path("s")).unwrap();
    let row = |item: &str| store.items().lookup(item).unwrap().unwrap();
    let mut order: Vec<&String> = count.keys().copied().collect();
    order.sort_by_key(|item| (usize::MAX - count[item], row(item)));
    let (mut sums, mut users) = ([0.0; 8], 0.0);
    let mut listed = HashSet::new();
    let none = HashSet::new();
    for (user, wanted) in test.iter().filter(|(_, wanted)| !wanted.is_empty()) {
        let seen = train.get(user).unwrap_or(&none);
        let list = order.iter().filter(|item| !seen.contains(**item)).take(20);
        let list: Vec<&String> = list.copied().collect();
        let hits: Vec<usize> = list
            .iter()
            .enumerate()
            .filter(|(_, item)| wanted.contains(**item))
            .map(|(at, _)| at)
            .collect();
        let gain = |at: usize| 1.0 / (at as f64 + 2.0).log2();
        let most = wanted.len().min(20);
        let perfect: f64 = (0..most).map(gain).sum();
        let precision_at = |(nth, at): (usize, &usize)| (nth + 1) as f64 / (at + 1) as f64;
        let precisions: f64 = hits.iter().enumerate().map(precision_at).sum();
        let surprise = |item: &&String| (train.len() as f64 / count[*item] as f64).log2();
        let of_user = [
            hits.len() as f64 / wanted.len() as f64,
            hits.len() as f64 / most as f64,
            hits.len() as f64 / 20.0,
            hits.iter().copied().map(gain).sum::<f64>() / perfect,
            precisions / most as f64,
            hits.first().map_or(0.0, |&at| 1.0 / (at + 1) as f64),
            f64::from(!hits.is_empty()),
            list.iter().map(surprise).sum::<f64>() / list.len() as f64,
        ];
        for (sum, value) in sums.iter_mut().zip(of_user) {
            *sum += value;
        }
        listed.extend(list);
        users += 1.0;
    }
    assert_eq!(got["users"].as_f64(), Some(users));
    let means = sums.map(|sum| sum / users).into_iter();
    let items = store.shape().items as f64;
    for (name, expected) in all
        .split(',')
        .zip(means.chain([listed.len() as f64 / items]))
    {
        let value = got[format!("{name}@20")].as_f64().unwrap();
        assert!(
            (value - expected).abs() < 1e-12 * expected.max(1.0),
            "{name}: {value}, not {expected}"
        );
    }
}

/// The command line's way from stars to lists, whatever the encoding of the store.
#[test]
fn stars_become_preferences_and_lists_are_measured() {
    let program = Program::new();
    let rating = |user: u32, item: u32| format!("{user},{item},{}\n", 1 + (user * item) % 5);
    let cells = (0..40).flat_map(|user| (0..30).map(move |item| (user, item)));
    let rated = cells.filter(|(user, item)| (user * 7 + item * 3) % 4 > 0);
    let lines: String = rated.map(|(user, item)| rating(user, item)).collect();
    program.write("stars.csv", format!("user,item,rating\n{lines}"));
    let mut found = Vec::new();
    for encoding in ["plain", "packed"] {
        let import = "import stars.csv --test-fraction 0.2 --force --out s --encoding";
        program.done(&format!("{import} {encoding}"));
        let train = "train s --out m --force --solver ials++ --rank 4 --positive-at 4";
        let history = program.done(train)["history"].clone();
        let lists = program.done("evaluate m s --positive-at 4 --at 5");
        assert!(lists["recall@5"].as_f64().unwrap() > 0.0, "{lists}");
        assert!(lists.get("rmse").is_none(), "{lists}");
        found.push((history, lists));
    }
    assert_eq!(found[0], found[1]);
}
