//! Out-of-core sparse recommender engine.

pub mod error;
pub mod evaluate;
pub mod ingest;
pub mod kernel;
pub mod loss;
pub mod matrix;
pub mod memory;
pub mod model;
pub mod progress;
pub mod recommend;
pub mod rng;
pub mod solver;
pub mod store;
pub mod synthetic;
pub mod threads;
pub mod train;

pub use error::{Error, ErrorKind, Result};
