//! Opening an input: a file or standard input, plain, gzip, zstd, or a zip archive as MovieLens comes in.
//!
//! Compression is recognised by the first bytes, never by the name. Archives are read member by member, as streams: no
//! path inside an archive is ever created.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use zip::ZipArchive;
use zip::result::ZipError;

use crate::error::{AtPath, Error, ErrorKind, Result};

/// Where text comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Standard input, plain or compressed by gzip or zstd.
    Stdin,
    /// A file: plain, gzip, zstd, or a zip archive.
    File(PathBuf),
}

impl<P: Into<PathBuf>> From<P> for Input {
    /// `-` is standard input.
    fn from(path: P) -> Input {
        let path = path.into();
        if path == Path::new("-") {
            Input::Stdin
        } else {
            Input::File(path)
        }
    }
}

/// What the first bytes of an input say about the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Plain,
    Gzip,
    Zstd,
    Zip,
}

impl Packing {
    /// By the magic numbers of RFC 1952, RFC 8878 and the zip format (the second is of an empty archive).
    fn of(head: &[u8]) -> Packing {
        match head {
            [0x1f, 0x8b, ..] => Packing::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Packing::Zstd,
            [b'P', b'K', 3, 4] | [b'P', b'K', 5, 6] => Packing::Zip,
            _ => Packing::Plain,
        }
    }
}

impl Input {
    /// The name that messages give it.
    pub fn name(&self) -> &Path {
        match self {
            Input::Stdin => Path::new("<stdin>"),
            Input::File(path) => path,
        }
    }

    /// How many bytes of text there are, where that can be told without reading them.
    pub(super) fn text_bytes(&self) -> Option<u64> {
        match self {
            Input::File(path) if self.open().ok()?.0 == Packing::Plain => {
                Some(path.metadata().ok()?.len())
            }
            _ => None,
        }
    }

    /// Calls `read` with the name and the decompressed text. In a zip archive that is the member with the first of the
    /// file names in `members` that occurs, in any folder.
    pub(super) fn with_text<T>(
        &self,
        members: &[&str],
        read: impl FnOnce(&Path, &mut (dyn Read + Send)) -> Result<T>,
    ) -> Result<T> {
        let name = self.name();
        let (packing, mut source) = self.open()?;
        match packing {
            Packing::Plain => read(name, &mut source),
            Packing::Gzip => {
                // A large buffer: each refill is a system call.
                let source = BufReader::with_capacity(1 << 18, source);
                read(name, &mut Decompressed(MultiGzDecoder::new(source)))
            }
            Packing::Zstd => {
                let decoder = zstd::Decoder::new(source).at(name)?;
                read(name, &mut Decompressed(decoder))
            }
            Packing::Zip => {
                drop(source);
                let mut archive = self.archive()?;
                let index = find_member(&archive, members)
                    .and_then(|found| found.ok_or_else(|| missing_member(&archive, members)))
                    .map_err(|e| e.path(name))?;
                let member = archive.by_index(index).map_err(|e| zip_error(e, name))?;
                let member_name = name.join(&*member.name().map_err(|e| zip_error(e, name))?);
                read(&member_name, &mut Decompressed(member))
            }
        }
    }

    /// Whether this is a zip archive that has a member of one of these file names. Standard input is not looked at.
    pub(super) fn has_member(&self, members: &[&str]) -> Result<bool> {
        if *self == Input::Stdin || self.open()?.0 != Packing::Zip {
            return Ok(false);
        }
        let found = find_member(&self.archive()?, members).map_err(|e| e.path(self.name()))?;
        Ok(found.is_some())
    }

    fn open(&self) -> Result<(Packing, impl Read + Send + use<>)> {
        let name = self.name();
        let mut source: Box<dyn Read + Send> = match self {
            Input::Stdin => Box::new(io::stdin()),
            Input::File(path) => Box::new(File::open(path).at(path)?),
        };
        let mut head = Vec::with_capacity(4);
        source.by_ref().take(4).read_to_end(&mut head).at(name)?;
        let packing = Packing::of(&head);
        if packing == Packing::Zip && *self == Input::Stdin {
            return Err(Error::new(
                ErrorKind::BadInput,
                "a zip archive cannot be read from standard input",
            )
            .path(name)
            .remedy("give its path, or pipe one member through `unzip -p`"));
        }
        Ok((packing, Cursor::new(head).chain(source)))
    }

    fn archive(&self) -> Result<Archive> {
        let path = self.name();
        ZipArchive::new(BufReader::new(File::open(path).at(path)?)).map_err(|e| zip_error(e, path))
    }
}

/// A decompressor, with errors that say so.
struct Decompressed<R>(R);

impl<R: Read> Read for Decompressed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|source| {
            let message = format!("cannot be decompressed: {source}");
            let error = Error::new(ErrorKind::BadInput, message)
                .remedy("it may be cut short or damaged: fetch or write it again");
            match source.kind() {
                io::ErrorKind::Interrupted => source,
                _ => io::Error::other(error),
            }
        })
    }
}

type Archive = ZipArchive<BufReader<File>>;

/// The index of the member with the first of these file names that occurs; an error if it occurs in two folders.
fn find_member(archive: &Archive, members: &[&str]) -> Result<Option<usize>> {
    let names = member_names(archive);
    for wanted in members {
        let mut found = names
            .iter()
            .filter(|path| path.rsplit('/').next() == Some(wanted));
        if let Some(first) = found.next() {
            if let Some(second) = found.next() {
                return Err(Error::new(
                    ErrorKind::BadInput,
                    format!("the archive has both {first} and {second}"),
                )
                .remedy("unpack it and give the file you mean"));
            }
            return Ok(archive.index_for_name(first));
        }
    }
    Ok(None)
}

/// The paths of the members, as far as they can be read.
fn member_names(archive: &Archive) -> Vec<Cow<'_, str>> {
    archive.file_names().filter_map(|name| name.ok()).collect()
}

fn missing_member(archive: &Archive, members: &[&str]) -> Error {
    const SHOWN: usize = 20;
    let mut names = member_names(archive);
    if names.is_empty() {
        names.push("nothing".into());
    } else if names.len() > SHOWN {
        names.truncate(SHOWN);
        names.push("...".into());
    }
    Error::new(
        ErrorKind::BadInput,
        format!(
            "the archive has no {}: it has {}",
            members.join(", "),
            names.join(", ")
        ),
    )
    .remedy("unpack it and give the file you mean")
}

fn zip_error(error: ZipError, path: &Path) -> Error {
    match error {
        ZipError::Io(source) => Error::io(source, path),
        other => Error::new(ErrorKind::BadInput, other.to_string())
            .path(path)
            .remedy("it may be cut short or damaged: fetch or write it again"),
    }
}
