//! Room on disk: what a piece of work will write, held against what is free before it starts.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::disk::free_space;
use crate::error::{AtPath, Error, ErrorKind, Result};
use crate::memory::Bytes;

/// What a piece of work will write, by the file systems that it goes to: the counterpart on disk of
/// [`Plan`](crate::memory::Plan). What is replaced counts as there until the new one is whole.
#[derive(Debug, Clone)]
pub struct DiskPlan {
    work: String,
    remedy: &'static str,
    parts: Vec<(&'static str, PathBuf, u64)>,
}

impl DiskPlan {
    /// An empty plan of some work, and what to do if there is too little room for it.
    pub fn new(work: impl Into<String>, remedy: &'static str) -> DiskPlan {
        DiskPlan {
            work: work.into(),
            remedy,
            parts: Vec::new(),
        }
    }

    /// Adds so many bytes that are written at, or in the folder of, a path.
    pub fn write(&mut self, what: &'static str, path: &Path, bytes: u64) {
        if bytes > 0 {
            self.parts.push((what, path.to_owned(), bytes));
        }
    }

    /// Looks whether every file system has room for what goes to it.
    ///
    /// # Errors
    /// [`ErrorKind::OverBudget`] if one has not, with what it takes and what is free; and if the system does not tell.
    pub fn check(&self) -> Result<()> {
        let mut disks: Vec<(u64, &Path, u64, Vec<String>)> = Vec::new();
        for (what, path, bytes) in &self.parts {
            let folder = existing(path);
            let device = device(folder)?;
            let what = format!("{what} {}", Bytes(*bytes));
            match disks.iter_mut().find(|disk| disk.0 == device) {
                Some((_, _, total, parts)) => {
                    *total = total.saturating_add(*bytes);
                    parts.push(what);
                }
                None => disks.push((device, folder, *bytes, vec![what])),
            }
        }
        for (_, folder, needed, parts) in disks {
            let free = free_space(folder)?;
            if needed > free {
                let what = format!(
                    "{} takes {} of disk ({}), and {} are free",
                    self.work,
                    Bytes(needed),
                    parts.join(", "),
                    Bytes(free)
                );
                return Err(Error::new(ErrorKind::OverBudget, what)
                    .path(folder)
                    .remedy(self.remedy));
            }
        }
        Ok(())
    }
}

/// Whether what is at one path may have another name at the other: they are on one file system.
///
/// # Errors
/// If either cannot be looked at.
pub fn share_disk(one: &Path, other: &Path) -> Result<bool> {
    Ok(device(existing(one))? == device(existing(other))?)
}

fn device(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).at(path)?.dev())
}

/// The path, or the nearest folder on the way to it that is there.
fn existing(path: &Path) -> &Path {
    let on_the_way = path.ancestors().filter(|path| !path.as_os_str().is_empty());
    let mut found = on_the_way.filter(|path| path.exists());
    found.next().unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_one_disk_are_added_up() {
        let folder = tempfile::tempdir().unwrap();
        let free = free_space(folder.path()).unwrap();
        let mut plan = DiskPlan::new("a test", "make room there");
        plan.write("one", &folder.path().join("not/there/yet"), free / 4);
        plan.check().unwrap();
        plan.write("other", folder.path(), free);
        let error = plan.check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OverBudget);
        let said = error.to_string();
        for words in [
            "a test takes",
            "one ",
            "other ",
            "are free",
            "make room there",
        ] {
            assert!(said.contains(words), "{said}");
        }
    }
}
