//! Every step that changes the disk on the way to a store, a model or an output.
//!
//! Whoever writes goes through here, so that a test can let any one of the steps fail, stop half-way or be the last (see
//! `faults.rs`). Outside of tests the steps are the system's own, and nothing stands between.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::num::NonZeroU64;
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
    /// disk before more is.
    #[must_use]
    pub fn cached_within(self, bytes: u64) -> DiskFile {
        DiskFile {
            cached: Some(bytes),
            ..self
        }
    }

    /// Lets the page cache forget the file up to this offset.
    pub(super) fn forget(&self, end: u64) -> io::Result<()> {
        drop_from_cache(&self.file, end)
    }

    fn wrote(&self, bytes: usize) -> io::Result<()> {
        let Some(most) = self.cached else {
            return Ok(());
        };
        let dirty = self.dirty.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        if dirty >= most {
            self.dirty.store(0, Ordering::Relaxed);
            self.file.sync_data()?;
            self.forget(u64::MAX)?;
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
pub fn free_space(folder: &Path) -> Result<u64> {
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
