//! The pool of threads that the drivers run on: our own, so that a library user's pool is left alone.

use crate::error::{Error, ErrorKind, Result};

/// A pool of threads. How many never changes a result, only how soon it is there.
#[derive(Debug)]
pub struct Threads(rayon::ThreadPool);

impl Threads {
    /// A pool of `count` threads, or as many as the machine has cores for `None`.
    pub fn new(count: Option<usize>) -> Result<Threads> {
        rayon::ThreadPoolBuilder::new()
            .num_threads(count.unwrap_or(0))
            .thread_name(|i| format!("lowrank-{i}"))
            .build()
            .map(Threads)
            .map_err(|e| Error::new(ErrorKind::Io, format!("cannot start threads: {e}")))
    }

    /// How many threads.
    pub fn count(&self) -> usize {
        self.0.current_num_threads()
    }

    /// Runs `work` in the pool: what it does in parallel is done here.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.0.install(work)
    }
}
