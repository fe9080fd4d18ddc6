//! Files of which pieces are read here and there, and none is kept in the page cache.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::disk::{drop_from_cache, expect_sparse};
use crate::error::{AtPath, Result};

/// An open file, read by position. Unlike a mapped one, it takes no memory but the reader's, and one that is cut short is an
/// error.
#[derive(Debug)]
pub struct SparseFile {
    file: File,
    path: PathBuf,
}

impl SparseFile {
    /// Opens a file.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: &Path) -> Result<SparseFile> {
        let file = File::open(path).at(path)?;
        expect_sparse(&file).at(path)?;
        Ok(SparseFile {
            file,
            path: path.to_owned(),
        })
    }

    /// Fills `into` with the bytes from `at` on.
    ///
    /// # Errors
    /// If they cannot be read, or the file ends before.
    pub fn read(&self, at: u64, into: &mut [u8]) -> Result<()> {
        let end = at + into.len() as u64;
        let read = self.file.read_exact_at(into, at);
        read.and_then(|()| drop_from_cache(&self.file, end))
            .at(&self.path)
    }
}
