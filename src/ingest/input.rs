//! Opening an input: a file or standard input, plain, gzip, zstd, or a zip archive as MovieLens comes in.
//!
//! Compression is recognised by the first bytes, never by the name. Archives are read member by member, as streams.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::archive::Archive;
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
    /// Text that is referred back to may lie so many bytes behind.
    Zstd {
        window: u64,
    },
    Zip,
}

/// What is looked at of an input to tell: the longest header of a zstd frame.
const HEAD_BYTES: usize = 18;

impl Packing {
    /// By the magic numbers of RFC 1952, RFC 8878 and the zip format (the second is of an empty archive).
    fn of(head: &[u8]) -> Packing {
        match head {
            [0x1f, 0x8b, ..] => Packing::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, header @ ..] => Packing::Zstd {
                window: zstd_window(header).unwrap_or(0),
            },
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Packing::Zip,
            _ => Packing::Plain,
        }
    }
}

/// The window of the frame with this header (RFC 8878, 3.1.1.1, after the magic number), if all of the header is there.
fn zstd_window(header: &[u8]) -> Option<u64> {
    let (&descriptor, rest) = header.split_first()?;
    if descriptor & 0x20 == 0 {
        let window = *rest.first()?;
        let base = 1_u64 << (10 + (window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    // A frame of a single segment is its own window, and says how long it is, after the number of its dictionary.
    let size = rest.get([0, 1, 2, 4][usize::from(descriptor & 3)]..)?;
    let [width, least] = [[1, 0], [2, 256], [4, 0], [8, 0]][usize::from(descriptor >> 6)];
    let bytes = size.get(..width)?.iter().rev();
    let size = bytes.fold(0, |size, &byte| size << 8 | u64::from(byte));
    size.checked_add(least as u64)
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

    /// Memory that undoing the compression takes, in bytes, as far as that is not the same for all inputs: the window that
    /// zstd's first frame asks for. Those after it may not ask for more.
    ///
    /// # Errors
    /// If the input cannot be opened.
    pub fn memory(&self) -> Result<u64> {
        let packing = match self {
            // A pipe is looked at without taking anything from it.
            Input::Stdin => Packing::of(io::stdin().lock().fill_buf().at(self.name())?),
            Input::File(_) => self.open()?.0,
        };
        Ok(match packing {
            // The window's size is rounded up to a power of two for the decoder, and it has a block beside it.
            Packing::Zstd { window } => (1 << window_log(window)) + (1 << 20),
            _ => 0,
        })
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
            Packing::Zstd { window } => {
                let mut decoder = zstd::Decoder::new(source).at(name)?;
                decoder.window_log_max(window_log(window)).at(name)?;
                read(name, &mut Decompressed(decoder))
            }
            Packing::Zip => {
                drop(source);
                let mut archive = Archive::open(name)?;
                let (member_name, member) = archive.member(members)?;
                read(&member_name, &mut Decompressed(member))
            }
        }
    }

    /// Whether this is a zip archive that has a member of one of these file names. Standard input is not looked at.
    pub(super) fn has_member(&self, members: &[&str]) -> Result<bool> {
        if *self == Input::Stdin || self.open()?.0 != Packing::Zip {
            return Ok(false);
        }
        Archive::open(self.name())?.has(members)
    }

    fn open(&self) -> Result<(Packing, impl Read + Send + use<>)> {
        let name = self.name();
        let mut source: Box<dyn Read + Send> = match self {
            Input::Stdin => Box::new(io::stdin()),
            Input::File(path) => Box::new(File::open(path).at(path)?),
        };
        let mut head = Vec::with_capacity(HEAD_BYTES);
        let mut start = source.by_ref().take(HEAD_BYTES as u64);
        start.read_to_end(&mut head).at(name)?;
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
}

/// The logarithm of the least power of two that a window fits, within what zstd has at all: from 1 KiB to 2 GiB.
fn window_log(window: u64) -> u32 {
    let log = u64::BITS - window.saturating_sub(1).leading_zeros();
    log.clamp(10, 31)
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Text compressed with a window of so many bytes (a power of two), its length not told in advance.
    fn compressed(text: &[u8], log: u32) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(log).unwrap();
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn the_window_of_a_frame_is_what_its_header_asks_for() {
        for log in [10, 17, 20, 27] {
            assert_eq!(
                Packing::of(&compressed(b"1,2,3\n", log)),
                Packing::Zstd { window: 1 << log }
            );
        }
        // Compressed at once, a frame is a single segment of a known length, told in one, two or four bytes.
        for length in [5, 255, 256, 300, 70_000] {
            let text: Vec<u8> = (0..length).map(|i: u32| i.wrapping_mul(i) as u8).collect();
            let bytes = zstd::bulk::compress(&text, 1).unwrap();
            let window = Packing::of(&bytes);
            assert_eq!(
                window,
                Packing::Zstd {
                    window: length.into()
                },
                "{length}"
            );
        }
        // RFC 8878: an exponent of five bits and a mantissa of three; eight bytes of a length.
        assert_eq!(zstd_window(&[0x00, 0x0b]), Some((1 << 11) + 3 * (1 << 8)));
        assert_eq!(zstd_window(&[0x00, 0xff]), Some((1 << 41) / 8 * 15));
        let mut long = [0xff; 13];
        long[0] = 0xe3;
        assert_eq!(zstd_window(&long), Some(u64::MAX));
        for short in [&long[..12], &[0x00], &[]] {
            assert_eq!(zstd_window(short), None);
        }
        assert_eq!(
            [0, 1, 1 << 10, (1 << 20) + 1, u64::MAX].map(window_log),
            [10, 10, 10, 21, 31]
        );
    }

    #[test]
    fn a_later_frame_may_not_ask_for_more_than_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let text = "1,2,3\n".repeat(1000);
        let read = |logs: [u32; 2]| {
            let path = folder.path().join("in.zst");
            let frames = logs.map(|log| compressed(text.as_bytes(), log));
            std::fs::write(&path, frames.concat()).unwrap();
            let input = Input::from(path);
            assert_eq!(input.memory().unwrap(), (1 << logs[0]) + (1 << 20));
            input.with_text(&[], |name, from| {
                let mut all = String::new();
                from.read_to_string(&mut all).at(name)?;
                Ok(all)
            })
        };
        assert_eq!(read([20, 20]).unwrap(), text.repeat(2));
        assert_eq!(read([21, 12]).unwrap(), text.repeat(2));
        let error = read([12, 21]).unwrap_err();
        assert!(error.to_string().contains("in.zst"), "{error}");
    }
}
