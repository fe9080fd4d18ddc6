//! Ratings on disk as memory-mapped shards; knows nothing of solvers.
