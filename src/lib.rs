//! Out-of-core sparse recommender engine.

pub mod error;
pub mod ingest;
pub mod kernel;
pub mod matrix;
pub mod rng;
pub mod store;
pub mod synthetic;
pub mod threads;

pub use error::{Error, ErrorKind, Result};
