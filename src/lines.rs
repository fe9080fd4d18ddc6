//! How long a line of text may be, and CSV of which no record is longer.

use std::io::{self, Read};

use crate::error::{Error, ErrorKind, Result};
use crate::memory::Bytes;

/// No line may be longer: text without newlines is no text.
pub(crate) const LONGEST_LINE: usize = 16 << 20;

/// What part of a budget a line may be. While it is parsed there are the line, what was read ahead of it and after it, and
/// its records, which take more than the text of a user's many ratings.
pub(crate) const LINE_SHARE: usize = 64;

/// The longest line that text within a budget may have.
pub(crate) fn longest_line(budget: Bytes) -> usize {
    usize::try_from(budget.0).map_or(LONGEST_LINE, |bytes| LONGEST_LINE.min(bytes / LINE_SHARE))
}

/// CSV without a header, record by record. A record may have several lines, between quotes, and is no longer than a line may
/// be within a budget.
pub(crate) struct Records<R> {
    reader: csv::Reader<Bounded<R>>,
    record: csv::StringRecord,
}

impl<R: Read> Records<R> {
    /// The records of a text that is read within a budget.
    pub(crate) fn new(source: R, budget: Bytes) -> Records<R> {
        let bounded = Bounded {
            source,
            longest: longest_line(budget) as u64,
            read: 0,
            begin: 0,
        };
        Records {
            reader: csv::ReaderBuilder::new()
                .has_headers(false)
                .flexible(true)
                .trim(csv::Trim::All)
                .from_reader(bounded),
            record: csv::StringRecord::new(),
        }
    }

    /// The next record, if there is one, and the number of its first line; blank lines before it are a part of it.
    ///
    /// # Errors
    /// If it is too long or not UTF-8, with the line; or if the text cannot be read.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, &csv::StringRecord)>> {
        let begin = self.reader.position();
        let (byte, line) = (begin.byte(), begin.line());
        self.reader.get_mut().begin = byte;
        match self.reader.read_record(&mut self.record) {
            Ok(true) => Ok(Some((line, &self.record))),
            Ok(false) => Ok(None),
            Err(error) if error.is_io_error() => {
                let too_long = self.reader.get_ref().is_exceeded();
                let error = Error::from(error);
                Err(if too_long { error.line(line) } else { error })
            }
            // The one thing that CSV cannot be is text of another encoding.
            Err(_) => Err(Error::new(ErrorKind::BadInput, "the line is not UTF-8").line(line)),
        }
    }
}

/// A text that is read on only as long as the current record may be.
struct Bounded<R> {
    source: R,
    longest: u64,
    /// Bytes read so far.
    read: u64,
    /// Where the current record begins.
    begin: u64,
}

impl<R> Bounded<R> {
    /// Whether all that was read since the record began, which is part of it when more is asked for, is too much.
    fn is_exceeded(&self) -> bool {
        self.read - self.begin > self.longest
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_exceeded() {
            let what = format!("a line longer than {} bytes", self.longest);
            let error = Error::new(ErrorKind::BadInput, what);
            return Err(io::Error::other(error.remedy(
                "check that this is CSV with its quotes in pairs, or give more --memory",
            )));
        }
        let read = self.source.read(buffer)?;
        self.read += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Position;

    fn read(text: &str, budget: usize) -> Result<Vec<(u64, usize)>> {
        let mut records = Records::new(text.as_bytes(), Bytes(budget as u64));
        let mut found = Vec::new();
        while let Some((line, record)) = records.next()? {
            found.push((line, record.len()));
        }
        Ok(found)
    }

    #[test]
    fn records_are_numbered_by_their_first_line() {
        let text = "a,b\n\n\"c\nd\",e,f\ng\n";
        assert_eq!(read(text, 1 << 20).unwrap(), [(1, 2), (2, 3), (5, 1)]);
        assert_eq!(read("", 1 << 20).unwrap(), []);
    }

    #[test]
    fn a_record_without_an_end_is_refused_where_it_begins() {
        // More than is read at once: what lies ahead of a record does not count.
        let short = "u,i\n".repeat(5000);
        assert_eq!(read(&short, 64 * 100).unwrap().len(), 5000);
        let (long, open) = ("x".repeat(30_000), format!("\"{}", "u\n".repeat(20_000)));
        for text in [format!("{short}{long},i\n"), format!("{short}{open}")] {
            let error = read(&text, 64 * 10_000).unwrap_err();
            assert!(
                error.to_string().contains("longer than 10000 bytes"),
                "{error}"
            );
            assert_eq!(error.position(), Some(Position::Line(5001)));
            assert_eq!(read(&text, 64 * 50_000).unwrap().len(), 5001);
        }
    }
}
