//! What the benches of training run on: generated ratings of the shape of MovieLens 1M, and a solver about to start.

use lowrank::Result;
use lowrank::matrix::{InMemory, Ratings};
use lowrank::solver::{self, Moving, Options, Solver};
use lowrank::synthetic::{Preset, Synthetic};
use lowrank::threads::Threads;
use lowrank::train::Trainer;

/// A million ratings of 6,040 users in memory, in both orientations.
pub fn in_memory() -> Result<InMemory> {
    let synthetic = Synthetic::new(Preset::named("movielens-1m")?.recipe)?;
    let shape = synthetic.shape();
    let mut triplets = Vec::with_capacity(shape.ratings as usize);
    synthetic.for_each_user(|user, ratings| {
        triplets.extend(ratings.iter().map(|r| (user, r.item, r.value)));
        Ok(())
    })?;
    InMemory::from_triplets(shape.users, shape.items, &triplets)
}

/// A solver, and the random start that it moves.
pub fn start(
    ratings: &dyn Ratings,
    options: &Options,
    threads: &Threads,
) -> Result<(Box<dyn Solver>, Moving)> {
    let no_epoch = Options {
        epochs: 0,
        ..options.clone()
    };
    let state = Trainer::new(ratings, no_epoch).run(threads)?;
    let solver = solver::method(&options.solver)?.solver(options)?;
    Ok((solver, state.moving))
}
