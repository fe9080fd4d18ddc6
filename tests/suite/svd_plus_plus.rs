//! SVD++ against its objective, spelled out in f64.

use lowrank::matrix::{Factors, InMemory};
use lowrank::solver::Options;
use lowrank::{State, Threads, Trainer};
use proptest::prelude::*;

const USERS: usize = 9;
const ITEMS: usize = 8;

type Triplets = Vec<(u32, u32, f32)>;

/// Stars from 1 to 5; a row and a column are empty.
fn ratings() -> impl Strategy<Value = Triplets> {
    let cell = prop_oneof![1 => Just(None), 1 => (1..=5_u8).prop_map(Some)];
    prop::collection::vec(cell, USERS * ITEMS).prop_filter_map("too few", |cells| {
        let rated = |(at, stars): (usize, Option<u8>)| {
            let (user, item) = (at / ITEMS, at % ITEMS);
            let stars = stars.filter(|_| user != 2 && item != 5)?;
            Some((user as u32, item as u32, f32::from(stars)))
        };
        let triplets: Triplets = cells.into_iter().enumerate().filter_map(rated).collect();
        (triplets.len() > 12).then_some(triplets)
    })
}

fn trained(triplets: &Triplets, options: &Options, epochs: usize) -> State {
    let ratings = InMemory::from_triplets(USERS, ITEMS, triplets)
        .unwrap()
        .with_rows_per_block(4);
    let options = Options {
        epochs,
        ..options.clone()
    };
    Trainer::new(&ratings, options)
        .run(&Threads::new(Some(2)).unwrap())
        .unwrap()
}

/// The objective, and its gradient by every factor of y and p.
struct Dense {
    cost: f64,
    by_y: Vec<Vec<f64>>,
    by_p: Vec<Vec<f64>>,
}

fn dense(triplets: &Triplets, options: &Options, state: &State) -> Dense {
    let parameters = state.parameters();
    let [z, y] = &state.moving.carried[..] else {
        panic!("z and y are carried")
    };
    let rank = options.rank;
    let wide =
        |x: &Factors, row: usize| -> Vec<f64> { x.row(row).iter().map(|&x| x.into()).collect() };
    let count =
        |of: &dyn Fn(&(u32, u32, f32)) -> bool| triplets.iter().filter(|t| of(t)).count() as f64;
    let ridge = |n: f64| {
        f64::from(options.regularization.unwrap()) * n + f64::from(options.regularization_row)
    };
    let mut dense = Dense {
        cost: 0.0,
        by_y: vec![vec![0.0; rank]; ITEMS],
        by_p: vec![vec![0.0; rank]; USERS],
    };
    let squares = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>();
    for item in 0..ITEMS {
        let n = count(&|t| t.1 as usize == item);
        let (q, y, bias) = (
            wide(&parameters.items, item),
            wide(y, item),
            parameters.items.bias(item),
        );
        dense.cost += 0.5 * ridge(n) * (squares(&q) + squares(&y) + f64::from(bias).powi(2));
        dense.by_y[item] = y.iter().map(|y| ridge(n) * y).collect();
    }
    for user in 0..USERS {
        let own: Vec<_> = triplets.iter().filter(|t| t.0 as usize == user).collect();
        let n = own.len() as f64;
        let x = wide(&parameters.users, user);
        let bias = f64::from(parameters.users.bias(user));
        let part = |k: usize| {
            own.iter()
                .map(|t| f64::from(y.row(t.1 as usize)[k]))
                .sum::<f64>()
                / n.max(1.0).sqrt()
        };
        let of_items: Vec<f64> = (0..rank).map(part).collect();
        for (a, b) in of_items.iter().zip(wide(z, user)) {
            assert!((a - b).abs() < 1e-4 * (1.0 + a.abs()), "z is {b}, not {a}");
        }
        let p: Vec<f64> = x.iter().zip(&of_items).map(|(x, z)| x - z).collect();
        dense.cost += 0.5 * ridge(n) * (squares(&p) + bias * bias);
        let mut slopes = vec![0.0; rank];
        for &&(_, item, rating) in &own {
            let q = wide(&parameters.items, item as usize);
            let product: f64 = x.iter().zip(&q).map(|(x, q)| x * q).sum();
            let start =
                f64::from(parameters.mean) + bias + f64::from(parameters.items.bias(item as usize));
            let error = start + product - f64::from(rating);
            dense.cost += 0.5 * error * error;
            slopes.iter_mut().zip(&q).for_each(|(s, q)| *s += error * q);
        }
        for &&(_, item, _) in &own {
            let by_y = &mut dense.by_y[item as usize];
            by_y.iter_mut()
                .zip(&slopes)
                .for_each(|(g, s)| *g += s / n.sqrt());
        }
        dense.by_p[user] = p
            .iter()
            .zip(&slopes)
            .map(|(p, s)| ridge(n) * p + s)
            .collect();
    }
    dense
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// The cost that is told is the objective; users' own parts are at its lowest point after every epoch, and y is when many
    /// have passed.
    #[test]
    fn it_lowers_its_objective_to_a_lowest_point(
        triplets in ratings(),
        rank in 1_usize..5,
        regularization in 0.05_f32..0.3,
        row in 0.5_f32..2.0,
        seed: u64,
    ) {
        let options = Options {
            solver: "svd++".into(),
            rank,
            seed,
            regularization: Some(regularization),
            regularization_row: row,
            ..Options::default()
        };
        for epochs in [1, 2, 200] {
            let state = trained(&triplets, &options, epochs);
            let told = state.history[epochs].loss;
            let Dense { cost, by_y, by_p } = dense(&triplets, &options, &state);
            prop_assert!((told - cost).abs() <= 1e-4 * cost, "{epochs}: {told} {cost}");
            let largest = |rows: &[Vec<f64>]| rows.iter().flatten().fold(0.0, |most: f64, x| most.max(x.abs()));
            prop_assert!(largest(&by_p) < 2e-3, "{epochs}: {by_p:?}");
            prop_assert!(epochs < 200 || largest(&by_y) < 0.02, "{by_y:?}");
        }
    }
}
