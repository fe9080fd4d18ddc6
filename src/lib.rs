//! Out-of-core sparse recommender engine.

pub mod error;
pub mod kernel;
pub mod loss;
pub mod matrix;
pub mod memory;
pub mod progress;
pub mod rng;
pub mod solver;
pub mod threads;
pub mod train;

pub use error::{Error, ErrorKind, Result};
