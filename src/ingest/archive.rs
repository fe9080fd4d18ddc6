//! Zip archives, walked through member by member.
//!
//! Their directory is not held, however many members it has or claims to have, and no path in it is ever made.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use zip::ZipReadOptions;
use zip::read::{Config, ZipFileEntry};
use zip::result::ZipError;
use zip::unstable::read::ZipIterable;

use crate::error::{AtPath, Error, ErrorKind, Result};

/// Members that a message lists.
const SHOWN: usize = 20;

/// An open archive.
pub(super) struct Archive {
    members: ZipIterable<BufReader<File>>,
    path: PathBuf,
}

/// A member that was looked for.
struct Found {
    /// The place of its file name among those that were looked for.
    place: usize,
    name: String,
    entry: ZipFileEntry<'static>,
    /// Another one with the same file name.
    again: Option<String>,
}

impl Archive {
    pub(super) fn open(path: &Path) -> Result<Archive> {
        let file = BufReader::new(File::open(path).at(path)?);
        Ok(Archive {
            members: ZipIterable::try_new(file, Config::default())
                .map_err(|e| zip_error(e, path))?,
            path: path.to_owned(),
        })
    }

    /// Whether there is a member of one of these file names, in any folder.
    pub(super) fn has(&mut self, names: &[&str]) -> Result<bool> {
        Ok(self.find(names)?.0.is_some())
    }

    /// A reader of the member with the first of these file names that occurs, in any folder, and its name.
    pub(super) fn member(&mut self, names: &[&str]) -> Result<(PathBuf, impl Read + Send)> {
        let (found, mut others) = self.find(names)?;
        let Some(found) = found else {
            if others.is_empty() {
                others.push("nothing".to_owned());
            }
            let what = format!(
                "the archive has no {}: it has {}",
                names.join(", "),
                others.join(", ")
            );
            return Err(self.ambiguous(what));
        };
        let failed = |e| zip_error(e, &self.path);
        let members = self.members.files().map_err(failed)?;
        let reader = found
            .entry
            .with_reader(members.reader_mut(), ZipReadOptions::default());
        Ok((self.path.join(found.name), reader.map_err(failed)?))
    }

    /// The member with the first of these file names that occurs, and the names of the first members that have none of
    /// them. An error if it occurs in two folders.
    fn find(&mut self, names: &[&str]) -> Result<(Option<Found>, Vec<String>)> {
        let (mut found, mut others): (Option<Found>, _) = (None, Vec::new());
        for entry in self.members.files().map_err(|e| zip_error(e, &self.path))? {
            let entry = entry.map_err(|e| zip_error(e, &self.path))?;
            // A name that cannot be read is none that is looked for.
            let Ok(name) = entry.name().map(|name| name.into_owned()) else {
                continue;
            };
            let file = name.rsplit('/').next();
            match names.iter().position(|wanted| file == Some(wanted)) {
                None if others.len() < SHOWN => others.push(name),
                None if others.len() == SHOWN => others.push("...".to_owned()),
                None => {}
                Some(place) => match &mut found {
                    Some(first) if first.place == place => first.again = Some(name),
                    Some(first) if first.place < place => {}
                    _ => {
                        found = Some(Found {
                            place,
                            name,
                            entry,
                            again: None,
                        });
                    }
                },
            }
        }
        if let Some(Found {
            name,
            again: Some(again),
            ..
        }) = &found
        {
            return Err(self.ambiguous(format!("the archive has both {name} and {again}")));
        }
        Ok((found, others))
    }

    fn ambiguous(&self, what: String) -> Error {
        Error::new(ErrorKind::BadInput, what)
            .path(&self.path)
            .remedy("unpack it and give the file you mean")
    }
}

fn zip_error(error: ZipError, path: &Path) -> Error {
    match error {
        ZipError::Io(source) => Error::io(source, path),
        other => Error::new(ErrorKind::BadInput, other.to_string())
            .path(path)
            .remedy("it may be cut short or damaged: fetch or write it again"),
    }
}
