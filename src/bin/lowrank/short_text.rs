//! Files that are read whole, because they are short: options, learning rates, trials, histories.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use lowrank::memory::Bytes;
use lowrank::{Error, ErrorKind, Result};

/// None of them is longer.
const MOST: u64 = 16 << 20;

/// Reads such a file.
///
/// # Errors
/// If it cannot be read, is longer than any such file, or is not UTF-8.
pub fn read(path: &Path) -> Result<String> {
    let failed = |e| Error::io(e, path);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MOST + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MOST {
        let what = format!(
            "more than {} of text, where a few lines are expected",
            Bytes(MOST)
        );
        return Err(Error::new(ErrorKind::BadInput, what)
            .path(path)
            .remedy("check that this is the file that was meant"));
    }
    String::from_utf8(bytes)
        .map_err(|_| Error::new(ErrorKind::BadInput, "the text is not UTF-8").path(path))
}
