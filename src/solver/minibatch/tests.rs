//! One batch against a plain program in f64, and what is drawn.

use super::super::Options;
use super::*;
use crate::matrix::InMemory;

/// Squares: positives shall score 1, and what the batch shares, or a visit draws, 0.
struct Squares;

impl Contrast for Squares {
    fn shared(&self) -> usize {
        5
    }

    fn pairs(&self, visit: &mut Scored<'_>, pairs: &mut Pairs) -> f64 {
        let mut loss = 0.0;
        for (&item, &score) in visit.positives.iter().zip(visit.scores) {
            // All scores of these rows are below 1.
            pairs.push(item, score - 1.0);
            loss += 0.5 * f64::from(score - 1.0).powi(2);
        }
        let shared = visit.shared.iter().zip(visit.shared_scores);
        let shared: Vec<_> = shared.map(|(&item, &score)| (item, score)).collect();
        for (item, score) in shared.into_iter().chain(visit.draw(3)) {
            pairs.push(item, score.abs());
            loss += 0.5 * f64::from(score).powi(2);
        }
        loss
    }
}

const USERS: usize = 9;
const CATALOGUE: usize = 13;
const RANK: usize = 5;

fn ratings() -> InMemory {
    let cells = (0..USERS as u32).flat_map(|u| (0..CATALOGUE as u32).map(move |i| (u, i)));
    let rated = cells.filter(|(u, i)| (u * 7 + i * 5) % 4 == 0);
    let triplets: Vec<_> = rated.map(|(u, i)| (u, i, 1.0)).collect();
    InMemory::from_triplets(USERS, CATALOGUE, &triplets).unwrap()
}

fn side(seed: u64, rows: usize) -> Factors {
    let mut factors = Factors::zeros(rows, RANK, true);
    let mut stream = Stream::new(seed, Purpose::UserFactors, 0, 0);
    for row in 0..rows {
        let drawn = factors.row_mut(row);
        drawn.fill_with(|| (0.3 * stream.normal()) as f32);
        factors.biases_mut()[row] = (0.1 * stream.normal()) as f32;
    }
    factors
}

fn ridge(factors: f32, biases: f32) -> Ridge {
    let options = Options {
        regularization: Some(factors),
        bias_regularization: Some(biases),
        ..Options::default()
    };
    options.ridge()
}

fn driver(contrast: &Squares, isa: Isa) -> MiniBatches<'_, Squares> {
    MiniBatches {
        contrast,
        batching: Batching {
            users: 100,
            positives: 100,
            pairs: 4,
        },
        dropout: 0.0,
        draws: Draws {
            seed: 3,
            epoch: 1,
            alone: false,
        },
        isa,
    }
}

/// One batch that has all users, against the same gradients summed in f64 from the pairs of every visit.
#[test]
fn a_batch_is_a_step_of_both_sides_from_where_they_stood() {
    let steps = Steps {
        rate: 0.1,
        ridge: ridge(0.02, 0.01),
        unit: false,
        biases: true,
    };
    let ratings = ratings();
    let (users, items) = (side(1, USERS), side(2, CATALOGUE));
    let contrast = Squares;
    let mut slopes = [[0.0_f64; CATALOGUE]; USERS];
    let mut positives = [[0.0_f64; CATALOGUE]; USERS];
    for_each_window(&ratings, |window| {
        let driver = driver(&contrast, Isa::best());
        let batches = driver.batches(window);
        assert_eq!(batches.len(), 1);
        let chances = Chances::Even(CATALOGUE);
        let shared = driver.shared(window.batch(0), &chances, &items);
        let seen = driver.look(window, &batches[0], &shared, &users, &items);
        let task = &seen.tasks[0];
        let mut start = 0;
        for (visit, &end) in batches[0].iter().zip(&task.ends) {
            for pair in start..end {
                let item = task.pairs.items[pair] as usize;
                slopes[visit.user][item] += f64::from(task.pairs.slopes[pair]);
                positives[visit.user][item] +=
                    f64::from(u8::from(task.pairs.slopes[pair].is_sign_negative()));
            }
            start = end;
        }
        Ok(())
    })
    .unwrap();
    // What a row and its bias come to, by its slopes, positives and the other side's rows.
    let twin = |own: &Factors, row: usize, other: &Factors, at: &dyn Fn(usize) -> [f64; 2]| {
        let cells: Vec<[f64; 2]> = (0..other.rows()).map(at).collect();
        let count: f64 = cells.iter().map(|cell| cell[1]).sum();
        let along = |ridge: f32, x: f32| f64::from(ridge) * count * f64::from(x);
        let gradient: Vec<f64> = (0..RANK)
            .map(|k| {
                let terms = (0..other.rows()).map(|r| cells[r][0] * f64::from(other.row(r)[k]));
                terms.sum::<f64>() + along(0.02, own.row(row)[k])
            })
            .collect();
        let root = (gradient.iter().map(|g| g * g).sum::<f64>() / RANK as f64).sqrt();
        let moved = gradient.iter().zip(own.row(row));
        let mut moved: Vec<f64> = moved.map(|(g, &x)| f64::from(x) - 0.1 * g / root).collect();
        let slope = cells.iter().map(|cell| cell[0]).sum::<f64>() + along(0.01, own.bias(row));
        moved.push(f64::from(own.bias(row)) - 0.1 * slope.signum());
        moved
    };
    for isa in Isa::available() {
        let (mut p, mut q) = (users.clone(), items.clone());
        let mut squares = [USERS, CATALOGUE].map(|rows| Factors::zeros(rows, 1, true));
        let [of_users, of_items] = &mut squares;
        let moving = (
            Moving {
                factors: &mut p,
                squares: of_users,
            },
            Moving {
                factors: &mut q,
                squares: of_items,
            },
        );
        driver(&contrast, isa)
            .epoch(&ratings, steps, moving.0, moving.1, &|_| {})
            .unwrap();
        let check = |found: &Factors, row: usize, expected: Vec<f64>| {
            let all = found.row(row).iter().chain([&found.biases()[row]]);
            for (&a, b) in all.zip(expected) {
                assert!(
                    (f64::from(a) - b).abs() < 1e-5,
                    "{isa:?}, row {row}: {a} {b}"
                );
            }
        };
        for u in 0..USERS {
            check(
                &p,
                u,
                twin(&users, u, &items, &|i| [slopes[u][i], positives[u][i]]),
            );
        }
        for i in 0..CATALOGUE {
            check(
                &q,
                i,
                twin(&items, i, &users, &|u| [slopes[u][i], positives[u][i]]),
            );
        }
    }
}

/// What an epoch of one batch met is what is measured where it started, and its penalty that of where it went.
#[test]
fn an_epoch_tells_what_it_met() {
    let ratings = ratings();
    let steps = Steps {
        rate: 0.1,
        ridge: ridge(0.02, 0.01),
        unit: false,
        biases: true,
    };
    let (mut users, mut items) = (side(1, USERS), side(2, CATALOGUE));
    let [mut of_users, mut of_items] = [USERS, CATALOGUE].map(|rows| Factors::zeros(rows, 1, true));
    let contrast = Squares;
    let driver = driver(&contrast, Isa::best());
    let loss = driver.loss(&ratings, &users, &items).unwrap();
    let (before, rated) = ([users.clone(), items.clone()], |u: usize, i: usize| {
        (u * 7 + i * 5).is_multiple_of(4)
    });
    let moving = |factors, squares| Moving { factors, squares };
    let (users_move, items_move) = (
        moving(&mut users, &mut of_users),
        moving(&mut items, &mut of_items),
    );
    let met = driver
        .epoch(&ratings, steps, users_move, items_move, &|_| {})
        .unwrap();
    let (mut squared_error, mut penalty) = (0.0, 0.0);
    for u in 0..USERS {
        for i in (0..CATALOGUE).filter(|&i| rated(u, i)) {
            let dot = |k: usize| f64::from(before[0].row(u)[k]) * f64::from(before[1].row(i)[k]);
            let biases = f64::from(before[0].bias(u)) + f64::from(before[1].bias(i));
            let score: f64 = biases + (0..RANK).map(dot).sum::<f64>();
            squared_error += (score - 1.0).powi(2);
            for (row, bias) in [(users.row(u), users.bias(u)), (items.row(i), items.bias(i))] {
                let squares: f64 = row.iter().map(|&x| f64::from(x).powi(2)).sum();
                penalty += 0.5 * (0.02 * squares + 0.01 * f64::from(bias).powi(2));
            }
        }
    }
    assert_eq!(met.loss, loss);
    assert!((met.squared_error / squared_error - 1.0).abs() < 1e-5);
    assert!((met.penalty / penalty - 1.0).abs() < 1e-5);
}

#[test]
fn what_is_drawn_was_not_taken() {
    let contrast = Squares;
    let (users, items) = (side(1, USERS), side(2, CATALOGUE));
    for_each_window(&ratings(), |window| {
        let driver = driver(&contrast, Isa::best());
        let batches = driver.batches(window);
        let chances = Chances::Even(CATALOGUE);
        let shared = driver.shared(window.batch(0), &chances, &items);
        let seen = driver.look(window, &batches[0], &shared, &users, &items);
        let tasks = &seen.tasks;
        let mut start = 0;
        for (visit, &end) in batches[0].iter().zip(&tasks[0].ends) {
            let taken = window.items(visit.user);
            let pairs = &tasks[0].pairs.items[start..end];
            assert_eq!(pairs.len(), taken.len() + 5 + 3);
            assert_eq!(&pairs[..taken.len()], taken);
            assert!(pairs[taken.len() + 5..].iter().all(|i| !taken.contains(i)));
            start = end;
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn nothing_is_drawn_for_a_user_who_took_everything() {
    struct Draw;
    impl Contrast for Draw {
        fn shared(&self) -> usize {
            0
        }

        fn pairs(&self, visit: &mut Scored<'_>, _pairs: &mut Pairs) -> f64 {
            visit.draw(4).count() as f64
        }
    }
    let triplets = [(0, 0, 1.0), (0, 1, 1.0), (1, 0, 1.0)];
    let ratings = InMemory::from_triplets(2, 2, &triplets).unwrap();
    let driver = MiniBatches {
        contrast: &Draw,
        batching: Batching {
            users: 1,
            positives: 1,
            pairs: 1,
        },
        dropout: 0.0,
        draws: Draws {
            seed: 0,
            epoch: 0,
            alone: false,
        },
        isa: Isa::best(),
    };
    let drawn = driver.loss(&ratings, &side(1, 2), &side(2, 2)).unwrap();
    assert_eq!(drawn, 4.0);
}

#[test]
fn what_is_left_out_of_a_row_is_zero_and_the_row_keeps_its_length() {
    let mut stream = Stream::new(1, Purpose::Dropout, 1, 0);
    let row: Vec<f32> = (0..400).map(|_| 1.0 + stream.uniform() as f32).collect();
    let mut left = row.clone();
    drop_out(&mut left, 0.25, &mut stream);
    let zeros = left.iter().filter(|&&x| x == 0.0).count();
    assert!((70..130).contains(&zeros), "{zeros} of 400");
    let length = |row: &[f32]| row.iter().map(|x| x * x).sum::<f32>().sqrt();
    assert!((length(&left) / length(&row) - 1.0).abs() < 1e-5);
    let kept = left.iter().zip(&row).filter(|(x, _)| **x != 0.0);
    let scales: Vec<f32> = kept.map(|(x, y)| x / y).collect();
    assert!(
        scales
            .iter()
            .all(|scale| (scale / scales[0] - 1.0).abs() < 1e-5 && *scale > 1.0)
    );
    drop_out(&mut left, 1.0, &mut stream);
    assert!(left.iter().all(|&x| x == 0.0));
}

/// A factor that every visit of an epoch leaves out stays where it was; without dropout all of them move.
#[test]
fn factors_that_are_left_out_do_not_move() {
    let ratings = ratings();
    let contrast = Squares;
    let moved = |dropout: f32| {
        let (mut users, mut items) = (side(1, USERS), side(2, CATALOGUE));
        let [mut of_users, mut of_items] =
            [USERS, CATALOGUE].map(|rows| Factors::zeros(rows, 1, true));
        let before = users.clone();
        let steps = Steps {
            rate: 0.1,
            ridge: ridge(0.0, 0.0),
            unit: false,
            biases: true,
        };
        let driver = MiniBatches {
            dropout,
            ..driver(&contrast, Isa::best())
        };
        let moving = |factors, squares| Moving { factors, squares };
        let (users_move, items_move) = (
            moving(&mut users, &mut of_users),
            moving(&mut items, &mut of_items),
        );
        driver
            .epoch(&ratings, steps, users_move, items_move, &|_| {})
            .unwrap();
        let pairs = users.flat().iter().zip(before.flat());
        pairs.filter(|(x, y)| x != y).count()
    };
    let (all, some) = (moved(0.0), moved(0.6));
    assert!(some > 0 && some < all * 3 / 4, "{some} of {all} moved");
}
