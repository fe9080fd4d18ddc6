//! Files and directories that appear whole or not at all.
//!
//! Both are written under another name beside their target and renamed when they are complete and on disk. Whoever looks
//! at the target sees the old or the new, never a mixture, and a crash leaves the old. What a killed process left behind
//! is cleared away by the next one that writes to the same target: the living hold a lock on what they write.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::container::kind_of;
use super::header::Kind;
use super::writer::Sink;
use crate::error::{AtPath, Error, ErrorKind, Result};

/// A file that replaces its target, or comes into being, on [`commit`](AtomicFile::commit). Dropped before, it is removed.
#[derive(Debug)]
pub struct AtomicFile {
    file: File,
    place: Place,
}

impl AtomicFile {
    /// Starts a file that will become `target`.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if the target exists and `force` is false; [`ErrorKind::BadOption`] if it is
    /// something else than a regular file.
    pub fn create(target: impl AsRef<Path>, force: bool) -> Result<AtomicFile> {
        let target = target.as_ref();
        if fs::metadata(target).is_ok_and(|target| !target.is_file()) {
            // Renaming onto a device or a directory would replace it, or fail only after all the work.
            return Err(Error::new(ErrorKind::BadOption, "not a regular file")
                .path(target)
                .remedy("name a file, or - for standard output"));
        }
        let (place, file) = Place::claim(resolve(target)?, force, |path| {
            OpenOptions::new().write(true).create_new(true).open(path)
        })?;
        Ok(AtomicFile { file, place })
    }

    /// Makes the file durable and visible under its own name.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if the target has come into being meanwhile and may not be replaced.
    pub fn commit(mut self) -> Result<()> {
        self.file.sync_all().at(&self.place.temporary)?;
        let Place {
            temporary, target, ..
        } = &self.place;
        if self.place.force {
            fs::rename(temporary, target).at(target)?;
        } else {
            rename_new(temporary, target)?;
        }
        self.place.done = true;
        sync_parent(&self.place.target)
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
        self.file.sync_all()
    }
}

/// A directory that replaces its target, or comes into being, on [`commit`](AtomicDir::commit). Dropped before, it is
/// removed with all that is in it.
#[derive(Debug)]
pub struct AtomicDir {
    /// Held open for its lock.
    _lock: File,
    place: Place,
}

impl AtomicDir {
    /// Starts a directory that will become `target`.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if the target exists and `force` is false, or `force` is true and the target is
    /// neither a store, nor a model, nor an empty directory: what is not ours is never deleted.
    pub fn create(target: impl AsRef<Path>, force: bool) -> Result<AtomicDir> {
        let target = resolve(target.as_ref())?;
        if force {
            may_replace(&target)?;
        }
        let (place, lock) = Place::claim(target, force, |path| {
            fs::create_dir(path)?;
            File::open(path)
        })?;
        Ok(AtomicDir { _lock: lock, place })
    }

    /// Whether [`create`](AtomicDir::create) would go ahead: to be asked before long work whose result is to be written.
    ///
    /// # Errors
    /// As [`create`](AtomicDir::create).
    pub fn check(target: impl AsRef<Path>, force: bool) -> Result<()> {
        AtomicDir::create(target, force).map(drop)
    }

    /// Removes a directory of ours, if it is there, and what killed writers of it have left beside it.
    ///
    /// # Errors
    /// If what is there is not ours, or cannot be removed.
    pub fn remove(target: impl AsRef<Path>) -> Result<()> {
        let target = resolve(target.as_ref())?;
        may_replace(&target)?;
        clear_leftovers(parent(&target), &temporary_prefix(&target));
        match fs::remove_dir_all(&target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.at(&target),
        }
    }

    /// Where the files are to be written before the commit.
    pub fn path(&self) -> &Path {
        &self.place.temporary
    }

    /// Makes a directory within this one.
    pub fn create_dir(&self, name: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        fs::create_dir(&path).at(&path)?;
        Ok(path)
    }

    /// Makes the directory visible under its own name; files in it must have been synced by their writers.
    ///
    /// # Errors
    /// As [`create`](AtomicDir::create), should the target have changed meanwhile.
    pub fn commit(mut self) -> Result<()> {
        sync_directories(self.path())?;
        let target = &self.place.target;
        if self.place.force && target.symlink_metadata().is_ok() {
            may_replace(target)?;
            // The old directory gets the temporary name, and is removed under it like one that was never committed.
            exchange(self.path(), target).at(target)?;
        } else {
            rename_new(self.path(), target)?;
            self.place.done = true;
        }
        sync_parent(&self.place.target)
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

/// A target and the temporary name beside it, removed on drop unless it was renamed.
#[derive(Debug)]
struct Place {
    temporary: PathBuf,
    target: PathBuf,
    force: bool,
    done: bool,
}

impl Place {
    /// Claims a temporary name beside the target, clearing away what the dead have left under such names.
    fn claim(
        target: PathBuf,
        force: bool,
        create: impl Fn(&Path) -> io::Result<File>,
    ) -> Result<(Place, File)> {
        if target.file_name().is_none() {
            return Err(
                Error::new(ErrorKind::BadOption, "not a name that can be written to")
                    .path(&target)
                    .remedy("name a new file or directory"),
            );
        }
        if !force && target.symlink_metadata().is_ok() {
            return Err(already_exists(&target));
        }
        let parent = parent(&target);
        let prefix = temporary_prefix(&target);
        clear_leftovers(parent, &prefix);
        for attempt in 0_u32.. {
            let mut name = prefix.clone();
            name.push(format!("{}-{attempt}", std::process::id()));
            let temporary = parent.join(name);
            let file = match create(&temporary) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                created => created.at(parent)?,
            };
            // Between its creation and its locking, another process may have taken it for a leftover.
            let taken = matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock));
            if taken || !temporary.exists() {
                continue;
            }
            let place = Place {
                temporary,
                target,
                force,
                done: false,
            };
            return Ok((place, file));
        }
        unreachable!("a directory has room for fewer names")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.done {
            remove(&self.temporary);
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

/// What the temporary names beside a target begin with.
fn temporary_prefix(target: &Path) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(target.file_name().unwrap_or_default());
    prefix.push(".tmp-");
    prefix
}

/// Removes temporary files and directories that nobody holds a lock on. Failing to is no failure.
fn clear_leftovers(parent: &Path, prefix: &OsStr) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name
            .as_encoded_bytes()
            .starts_with(prefix.as_encoded_bytes())
            && File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok())
        {
            remove(&entry.path());
        }
    }
}

fn remove(path: &Path) {
    let removed = match path.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
    if let Err(error) = removed {
        log::debug!("{}: cannot be removed: {error}", path.display());
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

fn already_exists(target: &Path) -> Error {
    Error::new(ErrorKind::AlreadyExists, "exists already")
        .path(target)
        .remedy("use --force to replace it, or write elsewhere")
}

/// Renames to a name that must be free.
fn rename_new(from: &Path, to: &Path) -> Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST | Errno::NOTEMPTY) => Err(already_exists(to)),
        Err(error) if unsupported(error) => {
            if to.symlink_metadata().is_ok() {
                return Err(already_exists(to));
            }
            fs::rename(from, to).at(to)
        }
        Err(error) => Err(Error::io(error.into(), to)),
    }
}

/// Puts the new directory in the old one's place and the old one in the new one's, in one step where the file system can.
fn exchange(new: &Path, old: &Path) -> io::Result<()> {
    match renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE) {
        Err(error) if unsupported(error) => exchange_in_steps(new, old),
        done => Ok(done?),
    }
}

/// Between its steps a crash leaves the old directory under a name that is never cleared away.
fn exchange_in_steps(new: &Path, old: &Path) -> io::Result<()> {
    let mut aside = OsStr::new(".").to_owned();
    aside.push(old.file_name().unwrap_or_default());
    aside.push(format!(".replaced-{}", std::process::id()));
    let aside = parent(old).join(aside);
    fs::rename(old, &aside)?;
    if let Err(error) = fs::rename(new, old) {
        fs::rename(&aside, old)?;
        return Err(error);
    }
    fs::rename(&aside, new)
}

fn unsupported(error: Errno) -> bool {
    [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP, Errno::NOTSUP].contains(&error)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Makes a rename durable.
fn sync_parent(path: &Path) -> Result<()> {
    sync_directory(parent(path))
}

fn sync_directory(path: &Path) -> Result<()> {
    File::open(path).and_then(|dir| dir.sync_all()).at(path)
}

/// Makes the names in a directory and all below it durable.
fn sync_directories(path: &Path) -> Result<()> {
    for entry in fs::read_dir(path).at(path)? {
        let entry = entry.at(path)?;
        if entry.file_type().at(entry.path())?.is_dir() {
            sync_directories(&entry.path())?;
        }
    }
    sync_directory(path)
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
            File::create_new(&manifest).unwrap(),
            &manifest,
            Kind::Manifest,
            &1_u8,
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
    fn leftovers_of_the_dead_are_cleared_and_the_living_are_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("s");
        fs::create_dir(root.path().join(".s.tmp-1-0")).unwrap();
        fs::write(root.path().join(".s.tmp-2-0"), "").unwrap();
        let living = AtomicDir::create(&target, false).unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
        let other = AtomicDir::create(&target, false).unwrap();
        assert!(living.path().exists() && other.path().exists());
        other.commit().unwrap();
        assert!(living.commit().is_err());
        assert_eq!(names(root.path()), ["s"]);
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
