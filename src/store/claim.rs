//! The right to write to a target, which one process has at a time, and the name beside it under which it writes.
//!
//! The right is a lock on a file beside the target. The system releases it when its holder ends, however that happens, so
//! none is ever stale; the file itself says who holds it, and goes when it is released. Whoever gets the lock knows that
//! all other files under temporary names are of the dead, and clears them away. Readers need no right: what they have
//! opened stays as it is.

use std::ffi::OsString;
use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::disk::{self, DiskFile};
use crate::error::{AtPath, Error, ErrorKind, Result};

/// A target, the lock on it, and the temporary name beside it, which is removed on drop unless it was renamed.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) temporary: PathBuf,
    pub(super) target: PathBuf,
    pub(super) force: bool,
    /// Whether the temporary name has become the target.
    pub(super) done: bool,
    /// Released after all else.
    _lock: Lock,
}

impl Claim {
    /// Claims a target, and a temporary name for what `create` makes under it.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if the target exists and `force` is false; [`ErrorKind::Busy`] if another writer has
    /// claimed it.
    pub(super) fn new<T>(
        target: PathBuf,
        force: bool,
        create: impl Fn(&Path) -> io::Result<T>,
    ) -> Result<(Claim, T)> {
        expect_name(&target)?;
        if !force && target.symlink_metadata().is_ok() {
            return Err(already_exists(&target));
        }
        let lock = Lock::on(&target)?;
        let prefix = beside(&target, ".tmp-");
        for attempt in 0_u32.. {
            let mut name = prefix.clone();
            name.push(format!("{}-{attempt}", std::process::id()));
            let temporary = parent(&target).join(name);
            let made = match create(&temporary) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made.at(parent(&target))?,
            };
            let claim = Claim {
                temporary,
                target,
                force,
                done: false,
                _lock: lock,
            };
            return Ok((claim, made));
        }
        unreachable!("a directory has room for fewer names")
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.done {
            remove(&self.temporary);
        }
    }
}

/// A lock on a target. Dropped, it is released, and leaves no file.
#[derive(Debug)]
pub(super) struct Lock {
    _file: DiskFile,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock, clears away what dead writers have left, and puts back what one was replacing.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] if another writer has it; [`ErrorKind::BadOption`] if the target has no name.
    pub(super) fn on(target: &Path) -> Result<Lock> {
        expect_name(target)?;
        let parent = parent(target);
        let path = parent.join(beside(target, ".lock"));
        loop {
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).create(true).truncate(false);
            let mut file = DiskFile::open(&path, options).at(parent)?;
            match file.file().try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(busy(target, &mut file)),
                // A file system without locks: then writers are not kept apart, and nothing is known to be of the dead.
                Err(TryLockError::Error(error)) => {
                    log::debug!("{}: not locked: {error}", path.display());
                    return Ok(Lock { _file: file, path });
                }
            }
            // Whoever had the lock before may have removed the file between its opening and its locking here.
            let locked = file.file().metadata().at(&path)?;
            if fs::metadata(&path).is_ok_and(|named| named.ino() == locked.ino()) {
                file.file().set_len(0).at(&path)?;
                write!(file, "{}", std::process::id()).at(parent)?;
                clear_leftovers(target);
                return Ok(Lock { _file: file, path });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while it is still locked: nobody can take a lock on a file that is about to lose its name.
        remove(&self.path);
    }
}

/// Removes what dead writers of a target have left. Failing to is no failure.
fn clear_leftovers(target: &Path) {
    let aside = aside(target);
    if aside.exists() && !target.exists() {
        // Its replacement was interrupted between two renames.
        if let Err(error) = disk::rename(&aside, target) {
            log::warn!("{}: cannot be put back: {error}", aside.display());
        }
    } else if aside.exists() {
        remove(&aside);
    }
    let prefix = beside(target, ".tmp-");
    let Ok(entries) = fs::read_dir(parent(target)) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let rest = name
            .as_encoded_bytes()
            .strip_prefix(prefix.as_encoded_bytes());
        // A process and an attempt; anything else is of another target, whose name begins like this one's.
        let numbers = |rest: &[u8]| {
            rest.iter()
                .all(|&byte| byte.is_ascii_digit() || byte == b'-')
        };
        if rest.is_some_and(numbers) {
            remove(&entry.path());
        }
    }
}

/// Removes a file or directory that is of no use any more.
pub(super) fn remove(path: &Path) {
    if let Err(error) = disk::remove(path) {
        log::debug!("{}: cannot be removed: {error}", path.display());
    }
}

/// Where a directory waits while another takes its place, on file systems that cannot exchange them in one step.
pub(super) fn aside(target: &Path) -> PathBuf {
    parent(target).join(beside(target, ".replaced"))
}

/// The folder that a path lies in.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// The error for a target that may not be replaced.
pub(super) fn already_exists(target: &Path) -> Error {
    Error::new(ErrorKind::AlreadyExists, "exists already")
        .path(target)
        .remedy("use --force to replace it, or write elsewhere")
}

/// `..` and the like have no name that a temporary one could be made of.
fn expect_name(target: &Path) -> Result<()> {
    match target.file_name() {
        Some(_) => Ok(()),
        None => Err(
            Error::new(ErrorKind::BadOption, "not a name that can be written to")
                .path(target)
                .remedy("name a new file or directory"),
        ),
    }
}

/// A hidden name beside a target.
fn beside(target: &Path, suffix: &str) -> OsString {
    let mut name = OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(suffix);
    name
}

fn busy(target: &Path, lock: &mut impl Read) -> Error {
    let mut holder = String::new();
    let holder = match lock.take(20).read_to_string(&mut holder) {
        Ok(1..) => format!("process {holder}"),
        _ => "another process".to_owned(),
    };
    Error::new(ErrorKind::Busy, format!("{holder} is writing to it"))
        .path(target)
        .remedy("wait until it is done, or write elsewhere")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<OsString> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_second_writer_is_told_who_is_first() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("s");
        let lock = Lock::on(&target).unwrap();
        let error = Lock::on(&target).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        let process = format!("s: process {} is writing", std::process::id());
        assert!(error.to_string().contains(&process), "{error}");
        let other = Lock::on(&root.path().join("s2")).unwrap();
        drop((lock, other));
        assert_eq!(names(root.path()), [""; 0]);
        drop(Lock::on(&target).unwrap());
    }

    /// Many at once: one at a time has it, and nobody waits for a file that is gone.
    #[test]
    fn a_lock_is_held_by_one_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("s");
        let (inside, entered) = (
            std::sync::atomic::AtomicU32::new(0),
            std::sync::atomic::AtomicU32::new(0),
        );
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let Ok(lock) = Lock::on(&target) else {
                            continue;
                        };
                        assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        entered.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
        assert!(entered.into_inner() > 0);
        assert_eq!(names(root.path()), [""; 0]);
    }

    #[test]
    fn what_the_dead_left_is_cleared_and_what_is_of_others_stays() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join(".s.tmp-1-0")).unwrap();
        for name in [".s.tmp-2-0", ".s.lock", ".s.tmp-x.tmp-3-0", ".t.tmp-1-0"] {
            fs::write(root.path().join(name), "7").unwrap();
        }
        drop(Lock::on(&root.path().join("s")).unwrap());
        assert_eq!(names(root.path()), [".s.tmp-x.tmp-3-0", ".t.tmp-1-0"]);
    }

    #[test]
    fn a_directory_that_was_being_replaced_is_put_back() {
        let root = tempfile::tempdir().unwrap();
        let (target, aside) = (root.path().join("s"), aside(&root.path().join("s")));
        fs::create_dir(&aside).unwrap();
        drop(Lock::on(&target).unwrap());
        assert_eq!(names(root.path()), ["s"]);
        fs::create_dir(&aside).unwrap();
        drop(Lock::on(&target).unwrap());
        assert_eq!(names(root.path()), ["s"]);
    }
}
