//! Every step that changes the disk on the way to a store, a model or an output.
//!
//! Whoever writes goes through here, so that a test can let any one of the steps fail, stop half-way or be the last (see
//! `faults.rs`). Outside of tests the steps are the system's own, and nothing stands between.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

#[cfg(test)]
use super::faults::{granted, step};
use super::writer::Sink;

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
        Ok(DiskFile {
            file,
            path: path.to_owned(),
        })
    }

    /// A file without a name, for reading and writing, which is gone when it is dropped.
    ///
    /// # Errors
    /// If no file can be made in `folder`.
    pub fn unnamed(folder: &Path) -> io::Result<DiskFile> {
        let file = step(Op::Create, folder, || tempfile::tempfile_in(folder))?;
        Ok(DiskFile {
            file,
            path: folder.to_owned(),
        })
    }

    /// Takes the file's name away; its bytes go when it is neither open nor mapped any more.
    ///
    /// # Errors
    /// If it has no name, or that cannot be taken away.
    pub fn remove(self) -> io::Result<()> {
        remove(&self.path)
    }

    /// The open file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

impl Write for DiskFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = granted(&self.path, bytes.len());
        step(Op::Write, &self.path, || self.file.write(&bytes[..length]))
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
        step(Op::Sync, &self.path, || self.file.sync_all())
    }
}

/// Makes a directory, which must not be there.
pub(super) fn create_dir(path: &Path) -> io::Result<()> {
    step(Op::Create, path, || fs::create_dir(path))
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
