//! Files and directories that appear whole or not at all.
//!
//! Both are written under another name beside their target and renamed when they are complete and on disk. Whoever looks
//! at the target sees the old or the new, never a mixture, and a crash leaves the old. One process at a time may write to
//! a target; what a killed one left behind is cleared away by the next (see `claim.rs`).

use std::fs;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::RenameFlags;
use rustix::io::Errno;

use super::claim::{Claim, Lock, already_exists, aside, parent};
use super::container::kind_of;
use super::disk::{self, DiskFile};
use super::header::Kind;
use super::writer::{CACHED, Sink};
use crate::error::{AtPath, Error, ErrorKind, Result};

/// A file that replaces its target, or comes into being, on [`commit`](AtomicFile::commit). Dropped before, it is removed.
#[derive(Debug)]
pub struct AtomicFile {
    file: DiskFile,
    claim: Claim,
}

impl AtomicFile {
    /// Starts a file that will become `target`.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if the target exists and `force` is false; [`ErrorKind::BadOption`] if it is
    /// something else than a regular file; [`ErrorKind::Busy`] if somebody else is writing to it.
    pub fn create(target: impl AsRef<Path>, force: bool) -> Result<AtomicFile> {
        let target = target.as_ref();
        if fs::metadata(target).is_ok_and(|target| !target.is_file()) {
            // Renaming onto a device or a directory would replace it, or fail only after all the work.
            return Err(Error::new(ErrorKind::BadOption, "not a regular file")
                .path(target)
                .remedy("name a file, or - for standard output"));
        }
        let create = |path: &Path| DiskFile::create(path).map(|file| file.cached_within(CACHED));
        let (claim, file) = Claim::new(resolve(target)?, force, create)?;
        Ok(AtomicFile { file, claim })
    }

    /// Makes the file durable and visible under its own name.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if the target has come into being meanwhile and may not be replaced.
    pub fn commit(mut self) -> Result<()> {
        let Claim {
            temporary, target, ..
        } = &self.claim;
        self.file.sync().at(temporary)?;
        if self.claim.force {
            disk::rename(temporary, target).at(target)?;
        } else {
            rename_new(temporary, target)?;
        }
        self.claim.done = true;
        sync_parent(&self.claim.target)
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl Sink for AtomicFile {
    fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }
}

/// A directory that replaces its target, or comes into being, on [`commit`](AtomicDir::commit). Dropped before, it is
/// removed with all that is in it. Nobody else may write to the target as long as it lives.
#[derive(Debug)]
pub struct AtomicDir {
    claim: Claim,
}

impl AtomicDir {
    /// Starts a directory that will become `target`.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if the target exists and `force` is false, or `force` is true and the target is
    /// neither a store, nor a model, nor an empty directory: what is not ours is never deleted; [`ErrorKind::Busy`] if
    /// somebody else is writing to it.
    pub fn create(target: impl AsRef<Path>, force: bool) -> Result<AtomicDir> {
        let target = resolve(target.as_ref())?;
        if force {
            may_replace(&target)?;
        }
        let (claim, ()) = Claim::new(target, force, disk::create_dir)?;
        Ok(AtomicDir { claim })
    }

    /// Removes a directory of ours, if it is there, and what killed writers of it have left beside it.
    ///
    /// # Errors
    /// If what is there is not ours, or cannot be removed; [`ErrorKind::Busy`] if somebody is writing to it.
    pub fn remove(target: impl AsRef<Path>) -> Result<()> {
        let target = resolve(target.as_ref())?;
        may_replace(&target)?;
        if target.symlink_metadata().is_err() {
            return Lock::on(&target).map(drop);
        }
        // First it loses its name, since one that is removed file by file would for a while be half there.
        let away = |temporary: &Path| disk::rename(&target, temporary);
        let (claim, ()) = Claim::new(target.clone(), true, away)?;
        drop(claim);
        sync_parent(&target)
    }

    /// Where the files are to be written before the commit.
    pub fn path(&self) -> &Path {
        &self.claim.temporary
    }

    /// Makes a directory within this one.
    pub fn create_dir(&self, name: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        disk::create_dir(&path).at(&path)?;
        Ok(path)
    }

    /// Makes the directory visible under its own name; files in it must have been synced by their writers.
    ///
    /// # Errors
    /// As [`create`](AtomicDir::create), should the target have changed meanwhile.
    pub fn commit(mut self) -> Result<()> {
        sync_directories(self.path())?;
        let target = &self.claim.target;
        if self.claim.force && target.symlink_metadata().is_ok() {
            may_replace(target)?;
            // The old directory gets the temporary name, and is removed under it like one that was never committed.
            exchange(self.path(), target).at(target)?;
        } else {
            rename_new(self.path(), target)?;
            self.claim.done = true;
        }
        sync_parent(&self.claim.target)
    }
}

/// Opens what lies in several files of a directory; again, should that fail because the directory was replaced meanwhile.
///
/// # Errors
/// As `open`, where it fails on one and the same directory.
pub fn retry_if_replaced<T>(path: &Path, open: impl Fn() -> Result<T>) -> Result<T> {
    let identity = || fs::metadata(path).map(|dir| (dir.dev(), dir.ino())).ok();
    loop {
        let before = identity();
        let opened = open();
        if opened.is_ok() || identity() == before {
            return opened;
        }
    }
}

/// The target itself, or what it points to: a symbolic link stays, and what it leads to is replaced.
fn resolve(target: &Path) -> Result<PathBuf> {
    match target.is_symlink() {
        true => fs::canonicalize(target).at(target),
        false => Ok(target.to_owned()),
    }
}

/// Whether a directory may take the place of what is there now, if anything is.
fn may_replace(target: &Path) -> Result<()> {
    let ours = matches!(kind_of(target), Some(Kind::Manifest | Kind::Model));
    let absent = target.symlink_metadata().is_err();
    let empty = || fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_none());
    if absent || (target.is_dir() && (ours || empty())) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::AlreadyExists,
        "exists already and is neither a store nor a model",
    )
    .path(target)
    .remedy("name another directory, or remove this one yourself"))
}

/// Renames to a name that must be free.
fn rename_new(from: &Path, to: &Path) -> Result<()> {
    match disk::rename_with(from, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::EXIST | Errno::NOTEMPTY) => Err(already_exists(to)),
            Some(code) if unsupported(code) => {
                if to.symlink_metadata().is_ok() {
                    return Err(already_exists(to));
                }
                disk::rename(from, to).at(to)
            }
            _ => Err(Error::io(error, to)),
        },
    }
}

/// Puts the new directory in the old one's place and the old one in the new one's, in one step where the file system can.
fn exchange(new: &Path, old: &Path) -> io::Result<()> {
    match disk::rename_with(new, old, RenameFlags::EXCHANGE) {
        Err(error) if Errno::from_io_error(&error).is_some_and(unsupported) => {
            exchange_in_steps(new, old)
        }
        done => done,
    }
}

/// Between its first two steps there is nothing in the old one's place; the next writer puts it back after a crash.
fn exchange_in_steps(new: &Path, old: &Path) -> io::Result<()> {
    let aside = aside(old);
    disk::rename(old, &aside)?;
    if let Err(error) = disk::rename(new, old) {
        disk::rename(&aside, old)?;
        return Err(error);
    }
    disk::rename(&aside, new)
}

fn unsupported(error: Errno) -> bool {
    [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP, Errno::NOTSUP].contains(&error)
}

/// Makes a rename durable.
fn sync_parent(path: &Path) -> Result<()> {
    let parent = parent(path);
    disk::sync_dir(parent).at(parent)
}

/// Makes the names in a directory and all below it durable.
fn sync_directories(path: &Path) -> Result<()> {
    for entry in fs::read_dir(path).at(path)? {
        let entry = entry.at(path)?;
        if entry.file_type().at(entry.path())?.is_dir() {
            sync_directories(&entry.path())?;
        }
    }
    disk::sync_dir(path).at(path)
}

#[cfg(test)]
mod tests {
    use super::super::container::MANIFEST_FILE;
    use super::super::record::write_record;
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// A directory that counts as a store, holding `content` besides.
    fn store(target: &Path, force: bool, content: &str) -> Result<()> {
        let dir = AtomicDir::create(target, force)?;
        let manifest = dir.path().join(MANIFEST_FILE);
        write_record(
            DiskFile::create(&manifest).unwrap(),
            &manifest,
            Kind::Manifest,
            &1_u8,
            None::<(&str, &())>,
        )?;
        fs::write(dir.create_dir("sub")?.join("content"), content).unwrap();
        dir.commit()
    }

    fn content(target: &Path) -> String {
        fs::read_to_string(target.join("sub/content")).unwrap()
    }

    #[test]
    fn a_file_appears_on_commit_and_never_otherwise() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("out.csv");
        let mut file = AtomicFile::create(&target, false).unwrap();
        file.write_all(b"one").unwrap();
        assert!(!target.exists());
        drop(file);
        assert_eq!(names(root.path()), [""; 0]);

        let mut file = AtomicFile::create(&target, false).unwrap();
        file.write_all(b"two").unwrap();
        file.commit().unwrap();
        let error = AtomicFile::create(&target, false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert!(error.to_string().contains("--force"));
        let mut file = AtomicFile::create(&target, true).unwrap();
        file.write_all(b"three").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"two");
        file.commit().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"three");
        assert_eq!(names(root.path()), ["out.csv"]);
    }

    #[test]
    fn a_target_that_appears_meanwhile_is_not_replaced() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("out");
        let file = AtomicFile::create(&target, false).unwrap();
        fs::write(&target, "theirs").unwrap();
        let error = file.commit().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&target).unwrap(), b"theirs");

        let target = root.path().join("dir");
        let dir = AtomicDir::create(&target, false).unwrap();
        fs::create_dir(&target).unwrap();
        let error = dir.commit().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(names(root.path()), ["dir", "out"]);
    }

    #[test]
    fn only_what_is_ours_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("ratings.store");
        store(&target, false, "old").unwrap();
        let error = store(&target, false, "new").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(content(&target), "old");
        store(&target, true, "new").unwrap();
        assert_eq!(content(&target), "new");

        let home = root.path().join("home");
        fs::create_dir(&home).unwrap();
        store(&home, true, "into an empty one").unwrap();
        fs::remove_file(home.join(MANIFEST_FILE)).unwrap();
        for theirs in [&home, &home.join("sub/content")] {
            let error = store(theirs, true, "new").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
            assert!(error.to_string().contains("neither"), "{error}");
        }
        assert_eq!(content(&home), "into an empty one");
        assert_eq!(names(root.path()), ["home", "ratings.store"]);
    }

    #[test]
    fn devices_directories_and_nameless_targets_are_refused() {
        let root = tempfile::tempdir().unwrap();
        for target in [Path::new("/dev/null"), root.path()] {
            let error = AtomicFile::create(target, true).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadOption);
        }
        let error = AtomicDir::create("..", false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadOption);
    }

    #[test]
    fn a_link_stays_and_what_it_leads_to_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        let (real, link) = (root.path().join("real"), root.path().join("link"));
        store(&real, false, "old").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        store(&link, true, "new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(content(&real), "new");
    }

    #[test]
    fn one_writer_at_a_time_may_write_to_a_target() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("s");
        let first = AtomicDir::create(&target, false).unwrap();
        for refused in [
            AtomicDir::create(&target, true).map(drop),
            AtomicFile::create(&target, false).map(drop),
            AtomicDir::remove(&target),
        ] {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Busy);
        }
        first.commit().unwrap();
        assert_eq!(names(root.path()), ["s"]);
        AtomicDir::create(&target, true).unwrap().commit().unwrap();
        AtomicDir::remove(&target).unwrap();
        assert_eq!(names(root.path()), [""; 0]);
    }

    #[test]
    fn exchange_in_steps_swaps_too() {
        let root = tempfile::tempdir().unwrap();
        let (new, old) = (root.path().join("new"), root.path().join("old"));
        store(&new, false, "new").unwrap();
        store(&old, false, "old").unwrap();
        exchange_in_steps(&new, &old).unwrap();
        assert_eq!((content(&new), content(&old)), ("old".into(), "new".into()));
    }
}
