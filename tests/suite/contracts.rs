//! What every solver and every loss of the tables has to keep. A new member is tested by being in its table.

use std::fs;

use lowrank::check_gradients::{check_gradients, small_ratings};
use lowrank::ingest::{Duplicates, Input, ReadOptions, Split};
use lowrank::loss::LOSSES;
use lowrank::matrix::{AtLeast, Factors, InMemory, Ratings, RowScratch, Side};
use lowrank::solver::{Init, Learns, Method, Options, SOLVERS};
use lowrank::store::Encoding;
use lowrank::{ErrorKind, Import, Result, State, Store, Threads, Trainer};

const ROWS: u32 = 20;

/// Whether the user's rating of the item is kept from training: the diagonal, and as much of what is not liked.
fn hidden(user: u32, item: u32) -> bool {
    user == item || (user + 1) % ROWS == item
}

/// A checkerboard: users like the items of their own parity. Users and items behind it have no ratings.
fn checkerboard(like: f32, dislike: f32, empty: usize) -> InMemory {
    let cells = (0..ROWS).flat_map(|user| (0..ROWS).map(move |item| (user, item)));
    let rated = cells.filter(|&(user, item)| !hidden(user, item));
    let rate = |(user, item)| match (user + item) % 2 {
        0 => (user, item, like),
        _ => (user, item, dislike),
    };
    let triplets: Vec<_> = rated.map(rate).collect();
    let rows = ROWS as usize + empty;
    InMemory::from_triplets(rows, rows, &triplets).unwrap()
}

fn stars() -> InMemory {
    checkerboard(5.0, 1.0, 0)
}

/// The options that suit a method, on a small model.
fn suited(method: &Method, loss: &str) -> Options {
    (method.suited)(Options {
        solver: method.name.into(),
        loss: loss.into(),
        rank: 3,
        seed: 5,
        regularization: Some(0.01),
        ..Options::default()
    })
}

fn train(ratings: &dyn Ratings, options: &Options, threads: usize) -> Result<State> {
    Trainer::new(ratings, options.clone()).run(&Threads::new(Some(threads))?)
}

/// Every method with a training on stars.
fn for_each_method(check: impl Fn(&Method, Options)) {
    for method in SOLVERS {
        check(method, suited(method, "squared"));
    }
}

/// Each user's hidden like comes before everything that the user does not like, unless the method treats all users alike.
fn assert_learned(method: &Method, state: &State, what: &str) {
    if method.learns == Learns::Popularity {
        return;
    }
    let predict = |user, item| {
        let parameters = state.parameters();
        parameters.predict(Some(user as usize), Some(item as usize))
    };
    for user in 0..ROWS {
        let disliked = (0..ROWS).filter(|item| (user + item) % 2 == 1);
        let best = disliked
            .map(|item| predict(user, item))
            .fold(f32::MIN, f32::max);
        let like = predict(user, user);
        assert!(like > best, "{what}: user {user} likes {like}, not {best}");
    }
}

#[test]
fn every_solver_learns_a_checkerboard_with_a_hidden_diagonal() {
    for_each_method(|method, options| {
        let state = train(&stars(), &options, 2).unwrap();
        assert_learned(method, &state, method.name);
        for user in 0..ROWS as usize {
            let [like, dislike] = [user, (user + 1) % ROWS as usize]
                .map(|item| state.parameters().predict(Some(user), Some(item)));
            assert!(
                method.learns != Learns::Ratings || like > 4.0 && dislike < 2.0,
                "{}: {like}, {dislike}",
                method.name
            );
        }
    });
}

#[test]
fn every_solver_folds_users_in_or_says_that_it_cannot() {
    for_each_method(|method, options| {
        let ratings = stars();
        let mut state = train(&ratings, &options, 1).unwrap();
        let positive = AtLeast::new(&ratings, options.positive_at.unwrap_or(f32::MIN)).unwrap();
        let solver = method.solver(&options.clone().resolved()).unwrap();
        let parameters = &mut state.moving.parameters;
        let mut users = Factors::zeros(ROWS as usize, options.rank, parameters.users.has_biases());
        let items = parameters.fixed_items();
        match solver.fold_in(&positive, Some(&positive), &items, &mut users) {
            Ok(()) => {
                parameters.users = users;
                assert_learned(method, &state, method.name);
            }
            Err(e) => assert_eq!(e.kind(), ErrorKind::BadOption, "{}: {e}", method.name),
        }
    });
}

#[test]
fn every_solver_starts_as_it_is_told() {
    for_each_method(|method, options| {
        for init in [Init::Gaussian, Init::UnitRows, Init::Uniform] {
            let options = Options {
                init: Some(init),
                epochs: 0,
                ..options.clone()
            };
            let start = train(&stars(), &options, 1);
            let name = format!("{} {init:?}", method.name);
            let start = match start {
                // Gaussian factors are below zero, too, which some methods refuse.
                Err(e) if init != Init::Uniform => {
                    assert!(e.to_string().contains("below zero"), "{name}: {e}");
                    continue;
                }
                start => start.unwrap(),
            };
            let users = &start.parameters().users;
            let lengths = (0..users.rows()).map(|row| {
                let squares = users.row(row).iter().map(|&x| f64::from(x).powi(2));
                squares.sum::<f64>().sqrt()
            });
            let lengths: Vec<f64> = lengths.collect();
            let unit = lengths.iter().all(|length| (length - 1.0).abs() < 1e-6);
            assert_eq!(unit, init == Init::UnitRows, "{name}: {lengths:?}");
            let all = (0..users.rows()).flat_map(|row| users.row(row));
            let within = all.into_iter().all(|x| (0.1..=0.9).contains(x));
            assert_eq!(within, init == Init::Uniform, "{name}");
        }
    });
}

#[test]
fn no_cost_rises_where_that_is_promised_and_all_end_lower() {
    for_each_method(|method, options| {
        let history = train(&stars(), &options, 1).unwrap().history;
        let (first, last) = (history[0].loss, history.last().unwrap().loss);
        let share = match method.learns {
            Learns::Ratings | Learns::Preferences => 0.5,
            // The same constant for all users leaves what makes them different.
            Learns::Popularity => 0.9,
        };
        assert!(last < share * first, "{}: {first} to {last}", method.name);
        for pair in history.windows(2).filter(|_| method.monotone) {
            let (before, after) = (pair[0].loss, pair[1].loss);
            // The cost is a sum of some hundred terms in f32.
            assert!(
                after <= before * (1.0 + 1e-6),
                "{}: {before} to {after}",
                method.name
            );
        }
    });
}

#[test]
fn every_solver_gives_the_same_bits_on_any_threads_and_blocks() {
    for_each_method(|method, options| {
        let options = Options {
            epochs: 4,
            ..options
        };
        let ratings = checkerboard(5.0, 1.0, 3);
        let one = train(&ratings, &options, 1).unwrap();
        for (threads, rows) in [(2, 100), (4, 100), (1, 1), (2, 3), (4, 7)] {
            let blocks = ratings.clone().with_rows_per_block(rows);
            let other = train(&blocks, &options, threads).unwrap();
            assert_eq!(one.moving, other.moving, "{}", method.name);
            assert_eq!(one.history, other.history, "{}", method.name);
        }
    });
}

#[test]
fn every_solver_survives_rows_and_columns_without_ratings() {
    for_each_method(|method, options| {
        let state = train(&checkerboard(5.0, 1.0, 3), &options, 2).unwrap();
        assert!(state.parameters().is_finite().unwrap(), "{}", method.name);
        assert_learned(method, &state, method.name);
    });
}

#[test]
fn every_solver_ends_alike_on_a_store_and_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let ratings = stars();
    let text: String = triplets(&ratings)
        .iter()
        .map(|(user, item, rating)| format!("u{user},i{item},{rating}\n"))
        .collect();
    fs::write(at("ratings.csv"), format!("user,item,rating\n{text}")).unwrap();
    let threads = Threads::new(Some(2)).unwrap();
    let import = Import {
        inputs: vec![Input::File(at("ratings.csv"))],
        read: ReadOptions::default(),
        test: None,
        split: Split::default(),
        duplicates: Duplicates::Error,
        times: false,
        titles: None,
        encoding: Encoding::default(),
        // The least that there can be: several shards a side.
        shard_bytes: 1,
        memory: None,
        force: false,
    };
    import.run(&at("store"), &threads, &()).unwrap();
    let store = Store::open(at("store")).unwrap();
    let shape = store.shape();
    // The store numbers users and items in an order of its own.
    let copy = InMemory::from_triplets(shape.users, shape.items, &triplets(&store)).unwrap();
    for_each_method(|method, options| {
        let start = |side| start(&store, &options, side);
        let run = |ratings: &dyn Ratings| {
            Trainer::new(
                ratings,
                Options {
                    epochs: 4,
                    ..options.clone()
                },
            )
            .start_from(start(Side::Users), start(Side::Items))
            .run(&threads)
            .unwrap()
        };
        let (stored, held) = (run(&store), run(&copy));
        assert_eq!(stored.moving, held.moving, "{}", method.name);
        assert_eq!(stored.history, held.history, "{}", method.name);
    });
}

/// Where training on the ratings would start.
fn start(ratings: &dyn Ratings, options: &Options, side: Side) -> Factors {
    let options = Options {
        epochs: 0,
        ..options.clone()
    };
    let state = train(ratings, &options, 1).unwrap();
    state.parameters().side(side).clone()
}

fn triplets(ratings: &dyn Ratings) -> Vec<(u32, u32, f32)> {
    let mut triplets = Vec::new();
    let mut scratch = RowScratch::default();
    for index in 0..ratings.blocks(Side::Users) {
        let block = ratings.block(Side::Users, index).unwrap();
        for i in 0..block.rows() {
            let row = block.row(i, &mut scratch);
            let user = (block.first_row() + i) as u32;
            triplets.extend(
                row.cols
                    .iter()
                    .zip(row.values)
                    .map(|(&col, &r)| (user, col, r)),
            );
        }
    }
    triplets
}

/// A method that cannot minimise a loss says so; each loss has a method that can.
#[test]
fn every_loss_is_learned_and_falls() {
    for loss in LOSSES {
        let mut learned = 0;
        for method in SOLVERS {
            let (dislike, like) = loss.scale;
            let options = suited(method, loss.name);
            let state = match train(&checkerboard(like, dislike, 1), &options, 2) {
                Ok(state) => state,
                Err(error) => {
                    let refused =
                        matches!(error.kind(), ErrorKind::BadOption | ErrorKind::BadInput);
                    assert!(refused, "{} with {}: {error}", method.name, loss.name);
                    continue;
                }
            };
            let what = format!("{} with {}", method.name, loss.name);
            assert_learned(method, &state, &what);
            let history = &state.history;
            assert!(history.last().unwrap().loss < history[0].loss, "{what}");
            learned += 1;
        }
        assert!(learned > 0, "nothing minimises {}", loss.name);
    }
}

#[test]
fn every_loss_passes_the_check_of_gradients_with_the_options_of_every_solver() {
    let threads = Threads::new(Some(2)).unwrap();
    for loss in LOSSES {
        for method in SOLVERS {
            let options = suited(method, loss.name);
            let worst = check_gradients(&small_ratings(), &options, 100, &threads).unwrap();
            assert!(worst.passes(), "{}, {}: {worst:?}", method.name, loss.name);
        }
    }
}

/// A regularizer that a method does not take is refused, with one that does.
#[test]
fn every_solver_takes_any_regularizer_or_refuses_all_but_one() {
    for_each_method(|method, options| {
        for regularizer in ["l1", "0.5*x^2"] {
            let options = Options {
                regularizer: regularizer.into(),
                ..options.clone()
            };
            match train(&stars(), &options, 1) {
                Ok(state) => {
                    assert!(method.any_regularizer, "{}", method.name);
                    assert_learned(method, &state, method.name);
                }
                Err(error) => {
                    assert!(!method.any_regularizer, "{}: {error}", method.name);
                    assert_eq!(error.kind(), ErrorKind::BadOption);
                    assert!(
                        error.to_string().contains("leave out --regularizer"),
                        "{error}"
                    );
                }
            }
        }
    });
}

/// No solver meets a rating that is no number.
#[test]
fn ratings_that_are_not_finite_are_refused() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let error = InMemory::from_triplets(2, 2, &[(0, 0, 1.0), (1, 1, bad)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadInput);
        assert!(error.to_string().contains("(1, 1)"), "{error}");
    }
}

#[test]
fn names_are_unique_and_summaries_short() {
    let solvers = SOLVERS.iter().map(|method| (method.name, method.summary));
    let losses = LOSSES.iter().map(|named| (named.name, named.summary));
    for table in [solvers.collect::<Vec<_>>(), losses.collect()] {
        for (at, (name, summary)) in table.iter().enumerate() {
            assert!(
                table[..at].iter().all(|(other, _)| other != name),
                "{name} twice"
            );
            assert!(
                !summary.is_empty() && !summary.ends_with('.'),
                "{name}: {summary}"
            );
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-+".contains(c);
            assert!(name.chars().all(plain), "{name}");
        }
    }
}
