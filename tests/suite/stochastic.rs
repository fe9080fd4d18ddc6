//! Stochastic gradient descent against a plain f64 program that visits ratings in the same order.

use lowrank::loss::named_or_formula;
use lowrank::matrix::{Factors, HeldTiles, InMemory, Ratings, Tiles};
use lowrank::rng::{Purpose, Stream};
use lowrank::solver::{Options, Step};
use lowrank::threads::Threads;
use lowrank::train::{State, Trainer};
use proptest::prelude::*;

/// Bands of either side that ratings as few as these are dealt into.
const BANDS: usize = 8;

const USERS: usize = 21;
const ITEMS: usize = 17;

type Triplets = Vec<(u32, u32, f32)>;

fn train(ratings: &dyn Ratings, options: &Options, threads: usize) -> State {
    let threads = Threads::new(Some(threads)).unwrap();
    Trainer::new(ratings, options.clone())
        .run(&threads)
        .unwrap()
}

/// A row in f64: the bias comes last, and has sums and ridges of its own.
struct Row {
    numbers: Vec<f64>,
    squares: [f64; 2],
    ridges: [f64; 2],
}

impl Row {
    fn step(&mut self, other: &[f64], slope: f64, options: &Options, rate: f64) {
        let k = options.rank;
        let by = self.squares.map(|squares| match options.step {
            Step::Plain => rate,
            Step::Adagrad => rate / squares.sqrt(),
        });
        let mut squares = [0.0; 2];
        for x in 0..=k {
            let (part, other) = if x < k { (0, other[x]) } else { (1, 1.0) };
            let gradient = slope * other + self.ridges[part] * self.numbers[x];
            squares[part] += gradient * gradient;
            if x < k || options.biases {
                self.numbers[x] -= by[part] * gradient;
            }
        }
        self.squares[0] += squares[0] / k as f64;
        self.squares[1] += squares[1];
    }
}

fn rows(factors: &Factors, counts: impl Fn(usize) -> usize, options: &Options) -> Vec<Row> {
    let row = |at: usize| {
        let numbers = factors
            .row(at)
            .iter()
            .chain([&factors.biases().get(at).copied().unwrap_or(0.0)])
            .map(|&x| x.into())
            .collect();
        let n = counts(at).max(1) as f64;
        let ridge = |by_rating: f32, by_row: f32| f64::from(by_rating) + f64::from(by_row) / n;
        Row {
            numbers,
            squares: [1.0; 2],
            ridges: [
                ridge(options.regularization.unwrap(), options.regularization_row),
                ridge(
                    options
                        .bias_regularization
                        .unwrap_or(options.regularization.unwrap()),
                    options
                        .bias_regularization_row
                        .unwrap_or(options.regularization_row),
                ),
            ],
        }
    };
    (0..factors.rows()).map(row).collect()
}

/// Which pairs of bands meet, wave after wave.
fn waves(seed: u64, epoch: usize) -> Vec<usize> {
    let mut stream = Stream::new(seed, Purpose::Waves, epoch as u64, 0);
    let mut order: Vec<usize> = (0..BANDS).collect();
    for last in (1..BANDS).rev() {
        order.swap(last, stream.below(last as u64 + 1) as usize);
    }
    order
}

/// The ratings of a wave in the order in which they are taken: tile by tile, in order of user bands.
fn taken(tiles: &HeldTiles, triplets: &Triplets, wave: usize) -> Triplets {
    let mut taken = Triplets::new();
    let of_wave = tiles.wave(wave).unwrap();
    of_wave.for_each_rating(tiles.grid(), wave, |u, i, r| taken.push((u, i, r)));
    let mut rest = &taken[..];
    for band in 0..BANDS {
        let in_tile = |t: &&(u32, u32, f32)| {
            let (u, i) = (t.0 as usize, t.1 as usize);
            u % BANDS == band && (u + wave) % BANDS == i % BANDS
        };
        let expected: Triplets = triplets.iter().filter(in_tile).copied().collect();
        let (tile, behind) = rest.split_at(expected.len());
        let mut tile = tile.to_vec();
        tile.sort_by_key(|t| (t.0, t.1));
        assert_eq!(tile, expected);
        rest = behind;
    }
    assert!(rest.is_empty());
    taken
}

/// Both sides' rows after so many epochs.
fn twin(ratings: &InMemory, triplets: &Triplets, options: &Options) -> [Vec<Row>; 2] {
    let start = train(
        ratings,
        &Options {
            epochs: 0,
            ..options.clone()
        },
        1,
    );
    let start = start.parameters();
    let rated = |own: &dyn Fn(&(u32, u32, f32)) -> bool| triplets.iter().filter(|t| own(t)).count();
    let mut users = rows(&start.users, |u| rated(&|t| t.0 as usize == u), options);
    let mut items = rows(&start.items, |i| rated(&|t| t.1 as usize == i), options);
    let loss = named_or_formula(&options.loss).unwrap();
    let k = options.rank;
    let tiles = HeldTiles::new(ratings).unwrap();
    for epoch in 1..=options.epochs {
        let rate = f64::from(options.learning_rates[0])
            / (1.0 + f64::from(options.learning_rate_decay) * (epoch - 1) as f64);
        for wave in waves(options.seed, epoch) {
            for (u, i, r) in taken(&tiles, triplets, wave) {
                let (u, i) = (u as usize, i as usize);
                let (p, q) = (&mut users[u], &mut items[i]);
                let product: f64 = p.numbers[..k]
                    .iter()
                    .zip(&q.numbers)
                    .map(|(a, b)| a * b)
                    .sum();
                let prediction = product + p.numbers[k] + q.numbers[k];
                let target = (f64::from(r) - f64::from(start.mean)) / f64::from(start.std);
                let slope = loss.taylor(prediction, target)[1];
                let before = p.numbers.clone();
                p.step(&q.numbers, slope, options, rate);
                q.step(&before, slope, options, rate);
            }
        }
    }
    [users, items]
}

/// Ratings in half stars; some rows and columns are empty.
fn ratings() -> impl Strategy<Value = Triplets> {
    let cell = prop_oneof![Just(None), (1..=10_u8).prop_map(Some)];
    proptest::collection::vec(cell, USERS * ITEMS).prop_filter_map("no ratings", |cells| {
        let rated = |(at, half): (usize, Option<u8>)| {
            let (u, i) = (at / ITEMS, at % ITEMS);
            half.filter(|_| u != 3 && i != 4)
                .map(|h| (u as u32, i as u32, f32::from(h) / 2.0))
        };
        let triplets: Triplets = cells.into_iter().enumerate().filter_map(rated).collect();
        (triplets.len() > 20).then_some(triplets)
    })
}

fn options() -> impl Strategy<Value = Options> {
    let ridges = (
        0.0..0.2_f32,
        0.0..2.0_f32,
        proptest::option::of(0.0..0.2_f32),
    );
    let step = prop_oneof![Just(Step::Plain), Just(Step::Adagrad)];
    let loss = prop_oneof![Just("squared"), Just("(p-r)^2"), Just("log(1+exp(p-r))")];
    (
        1..40_usize,
        ridges,
        step,
        loss,
        any::<[bool; 2]>(),
        any::<u64>(),
    )
        .prop_map(
            |(rank, ridges, step, loss, [biases, normalize], seed)| Options {
                solver: "sgd".into(),
                loss: loss.into(),
                rank,
                epochs: 2,
                seed,
                regularization: Some(ridges.0),
                regularization_row: ridges.1,
                bias_regularization: ridges.2,
                biases,
                normalize,
                step,
                learning_rates: vec![0.02],
                learning_rate_decay: 0.5,
                ..Options::default()
            },
        )
}

fn close(ours: &Factors, twin: &[Row]) -> bool {
    let pairs = (0..ours.rows()).flat_map(|at| {
        let ours = ours.row(at).iter().copied().chain([ours.bias(at)]);
        ours.zip(&twin[at].numbers)
    });
    pairs
        .into_iter()
        .all(|(a, b)| (f64::from(a) - b).abs() <= 1e-4 * b.abs().max(1.0))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn it_is_its_plain_twin(triplets in ratings(), options in options()) {
        let ratings = InMemory::from_triplets(USERS, ITEMS, &triplets).unwrap().with_rows_per_block(4);
        let state = train(&ratings, &options, 2);
        let [users, items] = twin(&ratings, &triplets, &options);
        prop_assert!(close(&state.parameters().users, &users));
        prop_assert!(close(&state.parameters().items, &items));
    }

    #[test]
    fn bits_depend_on_neither_threads_nor_blocks(triplets in ratings(), options in options()) {
        let ratings = InMemory::from_triplets(USERS, ITEMS, &triplets).unwrap();
        let one = train(&ratings, &options, 1);
        for (threads, rows) in [(2, 3), (4, 100)] {
            let other = train(&ratings.clone().with_rows_per_block(rows), &options, threads);
            prop_assert_eq!(&one.moving, &other.moving);
            prop_assert_eq!(&one.history, &other.history);
        }
    }
}

/// A product of three factors, seen at two cells of three, is found at the third.
#[test]
fn a_planted_matrix_is_learned() {
    let (users, items) = (120, 90);
    let mut stream = Stream::new(1, Purpose::SyntheticUsers, 0, 0);
    let mut draw = |rows: usize| -> Vec<[f64; 3]> {
        (0..rows)
            .map(|_| [(); 3].map(|()| stream.normal()))
            .collect()
    };
    let (p, q) = (draw(users), draw(items));
    let cells = (0..users).flat_map(|u| (0..items).map(move |i| (u, i)));
    let (hidden, seen): (Vec<_>, Vec<_>) = cells
        .map(|(u, i)| {
            let product: f64 = p[u].iter().zip(&q[i]).map(|(a, b)| a * b).sum();
            (u as u32, i as u32, product as f32)
        })
        .partition(|&(u, i, _)| (u * 7 + i * 5).is_multiple_of(3));
    let seen = InMemory::from_triplets(users, items, &seen).unwrap();
    let hidden = InMemory::from_triplets(users, items, &hidden).unwrap();
    for (step, rate) in [(Step::Plain, 0.02), (Step::Adagrad, 0.3)] {
        let options = Options {
            solver: "sgd".into(),
            rank: 3,
            epochs: 100,
            regularization: Some(1e-4),
            step,
            learning_rates: vec![rate],
            ..Options::default()
        };
        let state = Trainer::new(&seen, options)
            .test(Some(&hidden))
            .run(&Threads::new(Some(2)).unwrap())
            .unwrap();
        let first = state.history[0].test_rmse.unwrap();
        let last = state.history.last().unwrap().test_rmse.unwrap();
        assert!(first > 1.5 && last < 0.02, "{step:?}: {first} to {last}");
    }
}

#[test]
fn what_does_not_fit_is_refused_and_what_diverges_stops() {
    let triplets: Triplets = (0..20)
        .flat_map(|u| (0..20).map(move |i| (u, i, 5.0)))
        .collect();
    let ratings = InMemory::from_triplets(20, 20, &triplets).unwrap();
    let sgd = |options: Options| Options {
        solver: "sgd".into(),
        biases: false,
        ..options
    };
    for (options, said) in [
        (
            Options {
                learning_rates: vec![2.0],
                step: Step::Plain,
                ..Options::default()
            },
            "try a lower --learning-rate, such as 0.5",
        ),
        (
            Options {
                momentum: 0.5,
                ..Options::default()
            },
            "leave out --momentum",
        ),
        (
            Options {
                reduce: lowrank::solver::Reduce::Mean,
                ..Options::default()
            },
            "leave out --reduce",
        ),
        (
            Options {
                learning_rates: vec![0.1, 0.1],
                ..Options::default()
            },
            "too few for 15 epochs",
        ),
    ] {
        let error = Trainer::new(&ratings, sgd(options))
            .run(&Threads::new(Some(1)).unwrap())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(said) && !error.contains("--update"),
            "{error}"
        );
    }
}
