//! Errors for people: what went wrong, where, and what to do next.

use std::fmt;
use std::path::{Path, PathBuf};

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused: a missing file, a full disk, no permission.
    Io,
    /// The user's input cannot be read as what it should be.
    BadInput,
    /// A file of ours is truncated or altered.
    Damaged,
    /// A file of ours is of a later version or of another kind than asked for.
    Incompatible,
    /// The work does not fit the memory budget.
    OverBudget,
    /// The output exists, and may not be replaced.
    AlreadyExists,
    /// Somebody else is writing to the output.
    Busy,
    /// An id that the model or store does not know.
    UnknownId,
    /// Options that contradict each other or the data.
    BadOption,
    /// Training left the finite numbers or ran away from them.
    Diverged,
    /// A row's equations have no unique solution.
    Singular,
}

/// A place within the file that an error names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// A line of text, counted from 1.
    Line(u64),
    /// A byte of a binary file, counted from 0.
    Offset(u64),
}

/// What went wrong, where, and what to do about it.
///
/// The text reads `path:line: what; what to do next`, each part only where it is known.
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    path: Option<PathBuf>,
    at: Option<Position>,
    remedy: Option<String>,
    source: Option<std::io::Error>,
}

impl Error {
    /// An error with its message: lower case, no full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error(Box::new(Inner {
            kind,
            message: message.into(),
            path: None,
            at: None,
            remedy: None,
            source: None,
        }))
    }

    /// A failure of the operating system at `path`.
    pub fn io(source: std::io::Error, path: impl AsRef<Path>) -> Error {
        let mut error = Error::from(source);
        error.0.path = Some(path.as_ref().to_owned());
        error
    }

    /// A damaged file of ours.
    pub(crate) fn damaged(path: &Path, offset: u64, message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Damaged, message)
            .path(path)
            .offset(offset)
    }

    /// Names the file, unless one is named already.
    #[must_use]
    pub fn path(mut self, path: impl AsRef<Path>) -> Error {
        self.0.path.get_or_insert_with(|| path.as_ref().to_owned());
        self
    }

    /// Names the line, counted from 1.
    #[must_use]
    pub fn line(mut self, line: u64) -> Error {
        self.0.at = Some(Position::Line(line));
        self
    }

    /// Names the byte, counted from 0.
    #[must_use]
    pub fn offset(mut self, offset: u64) -> Error {
        self.0.at = Some(Position::Offset(offset));
        self
    }

    /// Says what to do next.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Error {
        self.0.remedy = Some(remedy.into());
        self
    }

    /// Says what else to do.
    #[must_use]
    pub(crate) fn or_remedy(mut self, other: &str) -> Error {
        self.0.remedy = Some(match self.0.remedy.take() {
            Some(remedy) => format!("{remedy}, or {other}"),
            None => other.to_owned(),
        });
        self
    }

    /// What kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Where in the file it happened, if that is known.
    pub fn position(&self) -> Option<Position> {
        self.0.at
    }

    /// The file it happened in, if there is one.
    pub fn file(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }
}

impl From<std::io::Error> for Error {
    fn from(source: std::io::Error) -> Error {
        // An error of ours may have travelled through a `Read` or `Write`: give it back whole.
        let source = match source.downcast::<Error>() {
            Ok(ours) => return ours,
            Err(source) => source,
        };
        let (message, remedy) = match source.kind() {
            std::io::ErrorKind::NotFound => ("no such file or directory".to_owned(), None),
            std::io::ErrorKind::PermissionDenied => ("permission denied".to_owned(), None),
            std::io::ErrorKind::StorageFull => (
                "no space left on the device".to_owned(),
                Some("free some space or write elsewhere".to_owned()),
            ),
            _ => (source.to_string(), None),
        };
        let mut error = Error::new(ErrorKind::Io, message);
        error.0.remedy = remedy;
        error.0.source = Some(source);
        error
    }
}

/// A failure of the operating system stays one; anything else is bad input.
impl From<csv::Error> for Error {
    fn from(source: csv::Error) -> Error {
        match source.into_kind() {
            csv::ErrorKind::Io(source) => source.into(),
            csv::ErrorKind::Utf8 { err, .. } => Error::new(ErrorKind::BadInput, err.to_string()),
            other => Error::new(ErrorKind::BadInput, format!("{other:?}")),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0.path, self.0.at) {
            (Some(path), Some(Position::Line(line))) => write!(f, "{}:{line}: ", path.display())?,
            (Some(path), Some(Position::Offset(at))) => {
                write!(f, "{} at byte {at}: ", path.display())?;
            }
            (Some(path), None) => write!(f, "{}: ", path.display())?,
            (None, Some(Position::Line(line))) => write!(f, "line {line}: ")?,
            (None, Some(Position::Offset(at))) => write!(f, "at byte {at}: ")?,
            (None, None) => {}
        }
        f.write_str(&self.0.message)?;
        if let Some(remedy) = &self.0.remedy {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|e| e as _)
    }
}

/// Gives a bare I/O result the path that it happened at.
pub(crate) trait AtPath<T> {
    fn at(self, path: impl AsRef<Path>) -> Result<T>;
}

impl<T> AtPath<T> for std::io::Result<T> {
    fn at(self, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|e| Error::from(e).path(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_says_where_what_and_what_next() {
        let error = Error::new(ErrorKind::BadInput, "the rating \"x\" is not a number")
            .path("ratings.csv")
            .line(17)
            .remedy("use --skip-bad-lines");
        assert_eq!(
            error.to_string(),
            "ratings.csv:17: the rating \"x\" is not a number; use --skip-bad-lines"
        );
        assert_eq!(error.position(), Some(Position::Line(17)));
    }

    #[test]
    fn what_csv_says_of_the_system_is_still_known() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let error = Error::from(csv::Error::from(full)).path("a.csv");
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("no space left"), "{error}");
    }

    #[test]
    fn an_error_survives_a_trip_through_io() {
        let ours = Error::new(ErrorKind::Damaged, "bad checksum")
            .path("a.gz")
            .offset(4);
        let back = Error::from(std::io::Error::other(ours)).path("elsewhere");
        assert_eq!(back.kind(), ErrorKind::Damaged);
        assert_eq!(back.to_string(), "a.gz at byte 4: bad checksum");
    }
}
