//! Cutting a stream of text into chunks of complete lines.

use std::io::Read;
use std::mem;

use memchr::{memchr, memchr_iter, memrchr};

use crate::error::{Error, ErrorKind, Result};
use crate::lines::{LINE_SHARE, LONGEST_LINE};
use crate::memory::would_do;

/// How much of a text is looked at to recognise its format.
const SAMPLE: usize = 64 << 10;

/// Consecutive complete lines (the last line of a text may lack its newline).
#[derive(Debug, Default)]
pub(super) struct Chunk {
    /// The number of its first line, from 1.
    pub(super) first_line: u64,
    pub(super) text: Vec<u8>,
}

/// Some chunks in a row, and the failure that ended the text, if one did.
#[derive(Debug, Default)]
pub(super) struct Batch {
    chunks: Vec<Chunk>,
    len: usize,
    failure: Option<Error>,
    bytes: u64,
}

impl Batch {
    pub(super) fn chunks(&self) -> &[Chunk] {
        &self.chunks[..self.len]
    }

    pub(super) fn take_failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    /// The number of bytes of text that were read up to its end.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0 && self.failure.is_none()
    }
}

/// A stream of text, read in chunks.
pub(super) struct Chunks<R> {
    source: R,
    chunk_bytes: usize,
    longest_line: usize,
    /// Read but not yet handed out: the start of the next chunk.
    ahead: Vec<u8>,
    /// Whether the source is at its end, or failed.
    ended: bool,
    next_line: u64,
    bytes: u64,
}

impl<R: Read> Chunks<R> {
    pub(super) fn new(source: R, chunk_bytes: usize, longest_line: usize) -> Chunks<R> {
        Chunks {
            source,
            chunk_bytes: chunk_bytes.max(1),
            longest_line,
            ahead: Vec::new(),
            ended: false,
            next_line: 1,
            bytes: 0,
        }
    }

    /// The number of bytes of text read so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The first lines of the text, complete: about 64 KiB, without a byte order mark. To be called before any chunk is
    /// read.
    pub(super) fn sample(&mut self) -> Result<&[u8]> {
        let mut ahead = mem::take(&mut self.ahead);
        self.read_to(&mut ahead, SAMPLE)?;
        if ahead.starts_with(b"\xef\xbb\xbf") {
            ahead.drain(..3);
        }
        let mut end = complete_lines(&ahead, SAMPLE);
        while end.is_none() && !self.ended {
            self.check_line(ahead.len())?;
            let more = 2 * ahead.len();
            self.read_to(&mut ahead, more)?;
            end = memchr(b'\n', &ahead).map(|at| at + 1);
        }
        self.ahead = ahead;
        Ok(&self.ahead[..end.unwrap_or(self.ahead.len())])
    }

    /// Leaves out lines of the sample.
    pub(super) fn skip_lines(&mut self, lines: u64) {
        for _ in 0..lines {
            let end = memchr(b'\n', &self.ahead).map_or(self.ahead.len(), |at| at + 1);
            self.ahead.drain(..end);
        }
        self.next_line += lines;
    }

    /// Reads up to `count` chunks into the memory that `batch` has already, fewer where lines are long: then no more text
    /// than so many chunks of the usual size and one line. An empty batch is the end of the text. What was read before a
    /// failure is handed out, and the failure after it.
    pub(super) fn fill(&mut self, batch: &mut Batch, count: usize) {
        batch.len = 0;
        self.fill_some(batch, count);
        batch.bytes = self.bytes;
    }

    fn fill_some(&mut self, batch: &mut Batch, count: usize) {
        let mut bytes = 0;
        while batch.len < count && bytes < count * self.chunk_bytes {
            if batch.len == batch.chunks.len() {
                batch.chunks.push(Chunk::default());
            }
            match self.next(&mut batch.chunks[batch.len]) {
                Ok(true) => {
                    bytes += batch.chunks[batch.len].text.len();
                    batch.len += 1;
                }
                Ok(false) => return,
                Err(error) => {
                    batch.failure = Some(error);
                    self.ended = true;
                    self.ahead.clear();
                    return;
                }
            }
        }
    }

    /// Reads one chunk; false at the end.
    fn next(&mut self, chunk: &mut Chunk) -> Result<bool> {
        let mut text = mem::take(&mut chunk.text);
        text.clear();
        // Room that a long line has taken is not kept for those after it.
        text.shrink_to(2 * self.chunk_bytes);
        self.ahead.shrink_to(2 * self.chunk_bytes);
        text.append(&mut self.ahead);
        let mut wanted = self.chunk_bytes;
        let end = loop {
            self.read_to(&mut text, wanted)?;
            match complete_lines(&text, wanted) {
                Some(end) => break end,
                None if self.ended && text.len() <= wanted => break text.len(),
                None => {
                    self.check_line(wanted)?;
                    wanted += self.chunk_bytes;
                }
            }
        };
        self.ahead.extend_from_slice(&text[end..]);
        text.truncate(end);
        chunk.first_line = self.next_line;
        self.next_line += memchr_iter(b'\n', &text).count() as u64;
        chunk.text = text;
        Ok(end > 0)
    }

    /// Reads on until `text` has `wanted` bytes or the source ends.
    fn read_to(&mut self, text: &mut Vec<u8>, wanted: usize) -> Result<()> {
        let missing = wanted.saturating_sub(text.len());
        if missing > 0 && !self.ended {
            text.reserve(missing);
            let read = self
                .source
                .by_ref()
                .take(missing as u64)
                .read_to_end(text)?;
            self.bytes += read as u64;
            self.ended = read < missing;
        }
        Ok(())
    }

    /// Refuses a line of which so many bytes were read, if it is too long. Of one that only the budget is too small for, the
    /// rest is passed over, to tell what would be enough.
    fn check_line(&mut self, bytes: usize) -> Result<()> {
        if bytes < self.longest_line {
            return Ok(());
        }
        let (mut length, mut passed) = (bytes, Vec::new());
        while length < LONGEST_LINE && !self.ended {
            passed.clear();
            self.read_to(&mut passed, SAMPLE)?;
            let end = memchr(b'\n', &passed);
            length += end.unwrap_or(passed.len());
            self.ended |= end.is_some();
        }
        let refused = |kind, longest: usize, remedy: String| {
            Err(
                Error::new(kind, format!("a line longer than {longest} bytes"))
                    .line(self.next_line)
                    .remedy(remedy),
            )
        };
        if length >= LONGEST_LINE {
            let remedy = "check that this is text with one rating, or one user, a line";
            return refused(ErrorKind::BadInput, LONGEST_LINE, remedy.to_owned());
        }
        let enough = would_do((length + 1) as u64 * LINE_SHARE as u64);
        refused(ErrorKind::OverBudget, self.longest_line, enough)
    }
}

/// The length of the complete lines within the first `limit` bytes of `text`; none if there is no complete line.
fn complete_lines(text: &[u8], limit: usize) -> Option<usize> {
    memrchr(b'\n', &text[..text.len().min(limit)]).map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(text: &[u8], chunk_bytes: usize) -> Vec<(u64, String)> {
        let mut chunks = Chunks::new(text, chunk_bytes, LONGEST_LINE);
        let mut batch = Batch::default();
        let mut all = Vec::new();
        loop {
            chunks.fill(&mut batch, 2);
            if batch.is_empty() {
                return all;
            }
            assert!(batch.take_failure().is_none());
            for chunk in batch.chunks() {
                all.push((
                    chunk.first_line,
                    String::from_utf8(chunk.text.clone()).unwrap(),
                ));
            }
        }
    }

    #[test]
    fn chunks_end_at_newlines_and_know_their_first_line() {
        let expected = |list: &[(u64, &str)]| -> Vec<(u64, String)> {
            list.iter()
                .map(|&(line, text)| (line, text.to_owned()))
                .collect()
        };
        let text = b"a\nbb\n\nccccc\nd";
        assert_eq!(
            chunks(text, 5),
            expected(&[(1, "a\nbb\n"), (3, "\n"), (4, "ccccc\n"), (5, "d")])
        );
        assert_eq!(
            chunks(text, 100),
            expected(&[(1, "a\nbb\n\nccccc\n"), (5, "d")])
        );
        assert_eq!(chunks(b"", 5), []);
        for chunk_bytes in 1..20 {
            let all = chunks(text, chunk_bytes);
            assert_eq!(
                all.iter()
                    .map(|(_, text)| text.as_bytes())
                    .collect::<Vec<_>>()
                    .concat(),
                text
            );
        }
    }

    #[test]
    fn the_sample_is_complete_lines_and_is_read_again() {
        let text = "\u{feff}# heading\n".to_owned() + &"line\n".repeat(SAMPLE);
        let mut chunks = Chunks::new(text.as_bytes(), 7, LONGEST_LINE);
        let sample = chunks.sample().unwrap();
        assert!(sample.len() > SAMPLE - 10 && sample.len() <= SAMPLE);
        assert!(sample.starts_with(b"# heading\nline\n") && sample.ends_with(b"line\n"));
        chunks.skip_lines(1);
        let mut batch = Batch::default();
        chunks.fill(&mut batch, 1);
        assert_eq!(batch.chunks()[0].text, b"line\n");
        assert_eq!(batch.chunks()[0].first_line, 2);

        let long = vec![b'x'; 3 * SAMPLE];
        assert_eq!(
            Chunks::new(&long[..], 1, LONGEST_LINE).sample().unwrap(),
            long
        );
    }

    #[test]
    fn a_line_that_is_too_long_is_an_error_after_the_lines_before_it() {
        let long = "x".repeat(200);
        let text = "short\nshort\n".to_owned() + &long + "\nshort\n";
        let mut chunks = Chunks::new(text.as_bytes(), 16, 100);
        let mut batch = Batch::default();
        chunks.fill(&mut batch, 10);
        assert_eq!(batch.chunks().len(), 1);
        let error = batch.take_failure().unwrap().to_string();
        // 64 times its length: less than a MiB.
        assert_eq!(
            error,
            "line 3: a line longer than 100 bytes; --memory 1MiB would do"
        );
        chunks.fill(&mut batch, 10);
        assert!(batch.is_empty());

        let text = vec![b'x'; LONGEST_LINE + 1];
        let mut chunks = Chunks::new(&text[..], 1 << 20, 5 << 20);
        chunks.fill(&mut batch, 10);
        let error = batch.take_failure().unwrap();
        assert_eq!(error.kind(), ErrorKind::BadInput);
        assert!(
            error
                .to_string()
                .contains("16777216 bytes; check that this is text"),
            "{error}"
        );
    }

    #[test]
    fn a_batch_of_long_lines_has_fewer_of_them() {
        let text = "x".repeat(99) + "\n";
        let text = text.repeat(50);
        let mut chunks = Chunks::new(text.as_bytes(), 10, 200);
        let (mut batch, mut lines) = (Batch::default(), 0);
        loop {
            chunks.fill(&mut batch, 20);
            if batch.is_empty() {
                break;
            }
            assert!(batch.chunks().len() <= 2);
            lines += batch.chunks().len();
        }
        assert_eq!(lines, 50);
    }

    #[test]
    fn what_was_read_before_a_failure_is_handed_out() {
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
                Err(std::io::Error::other("unplugged"))
            }
        }
        let mut chunks = Chunks::new(b"a\nb\nc".chain(Failing), 4, LONGEST_LINE);
        let mut batch = Batch::default();
        chunks.fill(&mut batch, 10);
        assert_eq!(batch.chunks().len(), 1);
        assert_eq!(batch.chunks()[0].text, b"a\nb\n");
        assert!(
            batch
                .take_failure()
                .unwrap()
                .to_string()
                .contains("unplugged")
        );
    }
}
