//! An out-of-core sparse recommender engine.
//!
//! lowrank factorizes a ratings matrix that never exists as a matrix. Ratings live on disk as memory-mapped shards, by user
//! and by item; users are updated in parallel, then items, in parallel; recommendations for everybody are computed in one
//! stream. Memory is what the budget allows, whatever the size of the data, and a model has the same bytes for any number
//! of threads, any shard size and any budget.
//!
//! The way from a file to recommendations is [`ingest::Import`] -> [`Store`] -> [`Trainer`] -> [`Model`] ->
//! [`Recommender`]. Ratings that fit in memory need no store:
//!
//! ```
//! use lowrank::{InMemory, Options, Threads, Trainer};
//!
//! // (user, item, rating): two users like the same films, a third likes others.
//! let ratings = [
//!     (0, 0, 5.0), (0, 1, 4.5), (0, 2, 1.0),
//!     (1, 0, 4.5), (1, 1, 5.0), (1, 3, 1.5),
//!     (2, 2, 5.0), (2, 3, 4.5), (2, 0, 1.0),
//! ];
//! let ratings = InMemory::from_triplets(3, 4, &ratings)?;
//! let options = Options { rank: 2, regularization: Some(0.02), ..Options::default() };
//! let model = Trainer::new(&ratings, options).run(&Threads::new(None)?)?.into_parameters();
//!
//! // User 1 has rated neither item 2 nor, like user 0, would care for it.
//! assert!(model.predict(Some(1), Some(2)) < model.predict(Some(2), Some(2)));
//! # Ok::<(), lowrank::Error>(())
//! ```
//!
//! What each module is about, and how to add a solver, a loss or a format, is told in ARCHITECTURE.md.

pub mod check_gradients;
pub mod error;
pub mod evaluate;
pub mod ingest;
pub mod kernel;
mod lines;
pub mod loss;
pub mod matrix;
pub mod memory;
pub mod model;
pub mod progress;
pub mod recommend;
pub mod rng;
pub mod solver;
pub mod store;
#[cfg(test)]
mod survival;
pub mod synthetic;
pub mod threads;
pub mod train;
pub mod tune;
pub mod usage;

pub use error::{Error, ErrorKind, Result};
pub use ingest::Import;
pub use loss::{Loss, Real};
pub use matrix::{Block, Factors, InMemory, Ratings, Row, Shape, Side};
pub use memory::Bytes;
pub use model::Model;
pub use progress::Progress;
pub use recommend::Recommender;
pub use solver::{Options, Parameters};
pub use store::{Part, Store};
pub use threads::Threads;
pub use train::{State, Trainer};
