//! Pure arithmetic on slices: no threads, files, randomness or allocation.
