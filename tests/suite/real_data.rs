//! Real ratings, which are not ours to hand on: they are found beside the repository, or where `LOWRANK_DATA` says.

use std::env;
use std::path::{Path, PathBuf};

/// A file or folder of the real data; without it, says that the test is skipped.
pub fn real_data(name: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let folder = env::var_os("LOWRANK_DATA").map_or_else(beside, PathBuf::from);
    let path = folder.join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: there is no {}", path.display());
    None
}
