//! Every step that changes the disk on the way to a store, a model or an output.
//!
//! Whoever writes goes through here, so that a test can let any one of the steps fail, stop half-way or be the last (see
//! `faults.rs`). Outside of tests the steps are the system's own, and nothing stands between.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};

#[cfg(test)]
use super::faults::{granted, step};
use super::writer::Sink;
use crate::error::{AtPath, Result};

/// What a step does to the path that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Create,
    Write,
    Sync,
    Rename,
    Remove,
}

#[cfg(not(test))]
#[inline(always)]
fn step<T>(_op: Op, _path: &Path, run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    run()
}

/// How many of so many bytes may be written at once.
#[cfg(not(test))]
#[inline(always)]
fn granted(_path: &Path, bytes: usize) -> usize {
    bytes
}

/// A file that is being written.
#[derive(Debug)]
pub struct DiskFile {
    file: File,
    path: PathBuf,
    /// Bytes that the page cache may have of what was written, if not any number.
    cached: Option<u64>,
    /// Bytes written since it last had none.
    dirty: AtomicU64,
}

impl DiskFile {
    /// A new file, for writing.
    ///
    /// # Errors
    /// If something is there already, or a file cannot be made.
    pub fn create(path: &Path) -> io::Result<DiskFile> {
        DiskFile::open(path, OpenOptions::new().write(true).create_new(true))
    }

    /// Opens a file, which may make it.
    pub(super) fn open(path: &Path, options: &OpenOptions) -> io::Result<DiskFile> {
        let file = step(Op::Create, path, || options.open(path))?;
        Ok(DiskFile::of(file, path))
    }

    /// A file without a name, for reading and writing, which is gone when it is dropped.
    ///
    /// # Errors
    /// If no file can be made in `folder`.
    pub fn unnamed(folder: &Path) -> io::Result<DiskFile> {
        let file = step(Op::Create, folder, || tempfile::tempfile_in(folder))?;
        Ok(DiskFile::of(file, folder))
    }

    fn of(file: File, path: &Path) -> DiskFile {
        DiskFile {
            file,
            path: path.to_owned(),
            cached: None,
            dirty: AtomicU64::new(0),
        }
    }

    /// The same file, of which the page cache has no more than so many bytes: beyond them, what was written has to be on
    /// disk before more is, and nothing is read ahead of what is asked for.
    #[must_use]
    pub fn cached_within(self, bytes: u64) -> DiskFile {
        if let Err(error) = expect_sparse(&self.file) {
            log::debug!("{}: advice not taken: {error}", self.path.display());
        }
        DiskFile {
            cached: Some(bytes),
            ..self
        }
    }

    /// Fills `into` with the bytes from `at` on, wherever the file stands; what is on disk leaves the page cache.
    ///
    /// # Errors
    /// If they cannot be read, or the file ends before.
    pub fn read_in_passing(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(into, at)?;
        self.forget(at + into.len() as u64)
    }

    /// Puts what was written on disk, and lets the page cache forget it.
    ///
    /// # Errors
    /// If it cannot be put there.
    pub fn leave_cache(&self) -> io::Result<()> {
        self.file.sync_data()?;
        self.forget(u64::MAX)
    }

    /// Lets the page cache forget the file up to this offset.
    pub(super) fn forget(&self, end: u64) -> io::Result<()> {
        drop_from_cache(&self.file, end)
    }

    /// Gives back the disk space of a range, and what the page cache has of it; both read as zeros from then on. Blocks that
    /// the range has a part of stay. Where the file system cannot do that, all of it stays.
    pub fn give_back(&self, range: Range<u64>) {
        let (start, end) = (
            range.start.next_multiple_of(BLOCK),
            range.end / BLOCK * BLOCK,
        );
        if start < end
            && let Err(error) = punch(&self.file, start..end)
        {
            log::debug!("{}: no space given back: {error}", self.path.display());
        }
    }

    fn wrote(&self, bytes: usize) -> io::Result<()> {
        let Some(most) = self.cached else {
            return Ok(());
        };
        let dirty = self.dirty.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        if dirty >= most {
            self.dirty.store(0, Ordering::Relaxed);
            self.leave_cache()?;
        }
        Ok(())
    }

    /// Takes the file's name away; its bytes go when it is neither open nor mapped any more.
    ///
    /// # Errors
    /// If it has no name, or that cannot be taken away.
    pub fn remove(self) -> io::Result<()> {
        remove(&self.path)
    }

    /// Writes all bytes from this offset on, wherever the file stands.
    pub(super) fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            let length = granted(&self.path, bytes.len());
            let written = step(Op::Write, &self.path, || {
                self.file.write_at(&bytes[..length], offset)
            })?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = &bytes[written..];
            offset += written as u64;
            self.wrote(written)?;
        }
        Ok(())
    }

    /// The open file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

impl Write for DiskFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = granted(&self.path, bytes.len());
        let written = step(Op::Write, &self.path, || self.file.write(&bytes[..length]))?;
        self.wrote(written)?;
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Read for DiskFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Read for &DiskFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer)
    }
}

impl Seek for DiskFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl Seek for &DiskFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        (&self.file).seek(to)
    }
}

impl Sink for DiskFile {
    fn sync(&mut self) -> io::Result<()> {
        step(Op::Sync, &self.path, || self.file.sync_all())?;
        match self.cached {
            Some(_) => self.forget(u64::MAX),
            None => Ok(()),
        }
    }
}

/// File systems' blocks are no larger, as a rule.
const BLOCK: u64 = 4096;

#[cfg(any(target_os = "linux", target_os = "android"))]
fn punch(file: &File, range: Range<u64>) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(fallocate(
        file,
        flags,
        range.start,
        range.end - range.start,
    )?)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn punch(_file: &File, _range: Range<u64>) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Says that nothing is to be read ahead of what is asked for.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn expect_sparse(file: &File) -> io::Result<()> {
    let advice = rustix::fs::Advice::Random;
    Ok(rustix::fs::fadvise(file, 0, None, advice)?)
}

/// Elsewhere the system decides.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn expect_sparse(_file: &File) -> io::Result<()> {
    Ok(())
}

/// Drops what the page cache has of a file up to an offset and what is on disk. From the start on, because it holds pieces
/// that are no multiple of what is read or written at once, and drops only those that end before the offset.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn drop_from_cache(file: &File, end: u64) -> io::Result<()> {
    // No length is all there is.
    let length = (end < u64::MAX).then_some(end).and_then(NonZeroU64::new);
    let advice = rustix::fs::Advice::DontNeed;
    Ok(rustix::fs::fadvise(file, 0, length, advice)?)
}

/// Elsewhere the system decides what its cache keeps.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn drop_from_cache(_file: &File, _end: u64) -> io::Result<()> {
    Ok(())
}

/// Bytes that this process may still write to the disk that `folder` is on.
///
/// # Errors
/// If the system does not tell.
pub(super) fn free_space(folder: &Path) -> Result<u64> {
    let disk = rustix::fs::statvfs(folder).map_err(io::Error::from);
    let disk = disk.at(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Makes a directory, which must not be there.
pub(super) fn create_dir(path: &Path) -> io::Result<()> {
    step(Op::Create, path, || fs::create_dir(path))
}

/// Gives a file, which never changes, a second name; a copy of it has that name where the file system cannot.
pub(super) fn link(from: &Path, to: &Path) -> io::Result<()> {
    if step(Op::Create, to, || fs::hard_link(from, to)).is_ok() {
        return Ok(());
    }
    let mut copy = DiskFile::create(to)?;
    io::copy(&mut File::open(from)?, &mut copy)?;
    copy.sync()
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    step(Op::Sync, path, || {
        File::open(path).and_then(|dir| dir.sync_all())
    })
}

/// Renames, replacing what has the new name.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    step(Op::Rename, from, || fs::rename(from, to))
}

/// Renames to a name that must be free, or lets two names change places.
pub(super) fn rename_with(from: &Path, to: &Path, flags: RenameFlags) -> io::Result<()> {
    step(Op::Rename, from, || {
        Ok(renameat_with(CWD, from, CWD, to, flags)?)
    })
}

/// Removes a file, or a directory with all that is in it.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    step(Op::Remove, path, || {
        match fs::symlink_metadata(path)?.is_dir() {
            true => fs::remove_dir_all(path),
            false => fs::remove_file(path),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn what_is_given_back_takes_no_space_and_its_neighbours_stay() {
        let folder = tempfile::tempdir().unwrap();
        let file = DiskFile::unnamed(folder.path())
            .unwrap()
            .cached_within(1 << 16);
        let bytes: Vec<u8> = (0..1 << 20).map(|i: u32| (i % 251) as u8 + 1).collect();
        file.write_all_at(&bytes, 0).unwrap();
        let space = || file.file().metadata().unwrap().blocks() * 512;
        let before = space();
        file.give_back(4095..4097);
        assert_eq!(space(), before);
        file.give_back(10_000..1_000_000);
        assert!(space() < before / 10, "{} of {before}", space());
        let mut read = vec![0; bytes.len()];
        file.file().read_exact_at(&mut read, 0).unwrap();
        assert!(read[..10_000] == bytes[..10_000] && read[1_000_000..] == bytes[1_000_000..]);
        assert!(read[3 * 4096..244 * 4096].iter().all(|&byte| byte == 0));
    }
}
