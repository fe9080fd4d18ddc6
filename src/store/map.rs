//! The only memory map: open, view, advise, release.
//!
//! # When a mapped file shrinks
//!
//! Reading a mapped page that its file no longer has ends the process with SIGBUS, and no portable code can prevent that.
//! So files of ours are immutable: they are written under another name, never rewritten in place, replaced only by
//! renaming (a mapping keeps the old file alive), and their length is compared with the header when they are opened.
//! Cutting or rewriting a store's files with other tools while lowrank runs is outside what it can survive.
//!
//! # Byte order
//!
//! Files are little-endian and arrays are used where they lie, so the host has to be little-endian too.
#![allow(unsafe_code)]

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::{Advice, Mmap, UncheckedAdvice};

use crate::error::{AtPath, Error, Result};

#[cfg(target_endian = "big")]
compile_error!("mapped files are little-endian: lowrank needs a little-endian machine");

/// Numbers that may be viewed in a mapped file: any bits are a value of theirs.
pub trait Element: bytemuck::Pod {}
impl Element for u8 {}
impl Element for u16 {}
impl Element for u32 {}
impl Element for u64 {}
impl Element for f32 {}

/// How a mapping will be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Here and there, a little at a time: read no more than what is asked for.
    Sparse,
    /// From start to end: read well ahead.
    Scan,
    /// In any way.
    Mixed,
}

/// A file mapped for reading.
///
/// It keeps no file open, since a store may have more shards than a process may have open files.
#[derive(Debug)]
pub struct Mapping {
    map: Mmap,
    path: PathBuf,
}

impl Mapping {
    /// Maps a whole file, for [`Access::Sparse`] at first: looking at a header must not read half a shard ahead.
    ///
    /// # Errors
    /// If the file cannot be opened or mapped; [`Damaged`](crate::ErrorKind::Damaged) if it is empty.
    pub fn open(path: impl Into<PathBuf>) -> Result<Mapping> {
        let path = path.into();
        let file = File::open(&path).at(&path)?;
        let metadata = file.metadata().at(&path)?;
        if metadata.is_file() && metadata.len() == 0 {
            return Err(Error::damaged(&path, 0, "the file is empty"));
        }
        // SAFETY: the mapping is read-only, and files of ours are never written in place (see the module's documentation).
        let map = unsafe { Mmap::map(&file) }.at(&path)?;
        let mapping = Mapping { map, path };
        mapping.expect(Access::Sparse);
        Ok(mapping)
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// A range of bytes as numbers.
    ///
    /// # Errors
    /// [`Damaged`](crate::ErrorKind::Damaged) if the range leaves the file, is not aligned for such numbers or does not
    /// hold a whole number of them.
    pub fn slice<T: Element>(&self, range: Range<u64>) -> Result<&[T]> {
        let damaged = |what| Error::damaged(&self.path, range.start, what);
        let (Ok(start), Ok(end)) = (usize::try_from(range.start), usize::try_from(range.end))
        else {
            return Err(damaged("a range beyond what this machine can address"));
        };
        let bytes = self
            .map
            .get(start..end)
            .ok_or_else(|| damaged("a range beyond the end of the file"))?;
        bytemuck::try_cast_slice(bytes)
            .map_err(|_| damaged("a range that does not hold whole, aligned numbers"))
    }

    /// Says how the file will be read from now on.
    pub fn expect(&self, access: Access) {
        self.advise(match access {
            Access::Sparse => Advice::Random,
            Access::Scan => Advice::Sequential,
            Access::Mixed => Advice::Normal,
        });
    }

    /// Starts reading the whole file into memory, without waiting for it.
    pub fn will_need(&self) {
        self.advise(Advice::WillNeed);
    }

    /// Gives back the memory that the file takes, both in this process and in the page cache. Its bytes stay readable;
    /// the next look at them reads them from disk again.
    pub fn release(&self) {
        // SAFETY: the pages of a read-only mapping of a file hold nothing that the file does not: after this call they are
        // filled from it again, so that borrowed slices stay valid and keep their contents.
        let dropped = unsafe { self.map.unchecked_advise(UncheckedAdvice::DontNeed) };
        // Pages that are mapped anywhere stay in the cache, which is why this comes second.
        if let Err(error) = dropped.and_then(|()| self.drop_from_cache()) {
            log::debug!(
                "{}: memory was not given back: {error}",
                self.path.display()
            );
        }
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn drop_from_cache(&self) -> std::io::Result<()> {
        let file = File::open(&self.path)?;
        Ok(rustix::fs::fadvise(
            &file,
            0,
            None,
            rustix::fs::Advice::DontNeed,
        )?)
    }

    /// Elsewhere the system decides what its cache keeps.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn drop_from_cache(&self) -> std::io::Result<()> {
        Ok(())
    }

    /// Advice changes speed only, so that its failure is worth no more than a line in the log.
    fn advise(&self, advice: Advice) {
        if let Err(error) = self.map.advise(advice) {
            log::debug!("{}: advice not taken: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn mapped(bytes: &[u8]) -> (tempfile::TempDir, Mapping) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, bytes).unwrap();
        let mapping = Mapping::open(path).unwrap();
        (dir, mapping)
    }

    #[test]
    fn slices_check_range_and_alignment() {
        let bytes: Vec<u8> = (0..64).collect();
        let (_dir, mapping) = mapped(&bytes);
        assert_eq!(
            mapping.slice::<u32>(4..12).unwrap(),
            [0x0706_0504, 0x0b0a_0908]
        );
        assert_eq!(
            mapping.slice::<u64>(8..16).unwrap(),
            [0x0f0e_0d0c_0b0a_0908]
        );
        assert!(mapping.slice::<f32>(64..64).unwrap().is_empty());
        let reversed = Range { start: 8, end: 4 };
        for range in [0..65, 2..6, 0..6, 65..65, u64::MAX..u64::MAX, reversed] {
            let error = mapping.slice::<u32>(range).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Damaged);
        }
    }

    #[test]
    fn released_pages_come_back_from_the_file() {
        let bytes: Vec<u8> = (0..1 << 20).map(|i: u32| (i % 251) as u8).collect();
        let (_dir, mapping) = mapped(&bytes);
        let view = mapping.bytes();
        mapping.expect(Access::Scan);
        for _ in 0..3 {
            mapping.will_need();
            assert!(view == bytes);
            mapping.release();
        }
        mapping.expect(Access::Mixed);
        assert!(view == bytes);
    }

    #[test]
    fn empty_and_missing_files_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        assert_eq!(Mapping::open(&path).unwrap_err().kind(), ErrorKind::Io);
        std::fs::write(&path, b"").unwrap();
        assert_eq!(Mapping::open(&path).unwrap_err().kind(), ErrorKind::Damaged);
        assert_eq!(Mapping::open(dir.path()).unwrap_err().kind(), ErrorKind::Io);
    }
}
