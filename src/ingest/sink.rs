//! Where a parser puts what it finds: ratings in small batches, bad lines with their numbers.

use memchr::memchr;

use super::{Parser, RawRating};
use crate::error::{Error, Result};

/// Ratings are handed on in batches of so many: they stay in the core's own cache.
const BATCH: usize = 512;

/// How many bad lines of a chunk keep their reason; the others are only counted.
pub(super) const REASONS: usize = 5;

/// Takes the ratings and the bad lines of one chunk.
pub struct Sink<'a, 's> {
    deliver: &'s mut dyn FnMut(&[RawRating<'_>]),
    batch: Vec<RawRating<'a>>,
    first_line: u64,
    skip_bad_lines: bool,
    tally: Tally,
}

/// What one chunk came to.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) lines: u64,
    pub(super) ratings: u64,
    pub(super) bad_lines: u64,
    /// Users who are named and have no item.
    pub(super) empty_users: u64,
    /// The first few bad lines. Where bad lines are not skipped, the one that ended the chunk.
    pub(super) reasons: Vec<Error>,
}

impl<'a, 's> Sink<'a, 's> {
    /// A sink for the chunk that begins with line `first_line` of its text. Without `skip_bad_lines` the first bad line
    /// ends the chunk.
    pub(super) fn new(
        first_line: u64,
        skip_bad_lines: bool,
        deliver: &'s mut dyn FnMut(&[RawRating<'_>]),
    ) -> Sink<'a, 's> {
        Sink {
            deliver,
            batch: Vec::with_capacity(BATCH),
            first_line,
            skip_bad_lines,
            tally: Tally::default(),
        }
    }

    /// Takes one rating that lives as long as the chunk.
    #[inline(always)]
    pub fn push(&mut self, rating: RawRating<'a>) {
        if self.batch.len() == BATCH {
            self.flush();
        }
        self.batch.push(rating);
    }

    /// Takes one rating whose ids live elsewhere, such as a quoted field without its quotes.
    pub fn push_copy(&mut self, rating: RawRating<'_>) {
        self.flush();
        self.tally.ratings += 1;
        (self.deliver)(&[rating]);
    }

    /// Counts a user who is named and has no item.
    pub fn empty_user(&mut self) {
        self.tally.empty_users += 1;
    }

    /// Calls `parse` with every line of `chunk` that is not blank, without its newline (a carriage return stays), until a
    /// bad line that is not to be skipped. A line for which `parse` gives an error must not have pushed any rating.
    #[inline(always)]
    pub fn lines(&mut self, chunk: &'a [u8], parse: impl FnMut(&'a [u8], &mut Self) -> Result<()>) {
        self.lines_or(chunk, |_| None, parse);
    }

    /// As [`lines`](Sink::lines), where `usual` may know the line that a text begins with: its rating, and its bytes with
    /// the newline.
    #[inline(always)]
    pub(super) fn lines_or(
        &mut self,
        chunk: &'a [u8],
        usual: impl Fn(&'a [u8]) -> Option<(RawRating<'a>, usize)>,
        mut parse: impl FnMut(&'a [u8], &mut Self) -> Result<()>,
    ) {
        let mut rest = chunk;
        while !rest.is_empty() {
            if let Some((rating, bytes)) = usual(rest) {
                self.tally.lines += 1;
                self.push(rating);
                rest = &rest[bytes..];
                continue;
            }
            let end = memchr(b'\n', rest).unwrap_or(rest.len());
            if !self.line(&rest[..end], &mut parse) {
                return;
            }
            rest = rest.get(end + 1..).unwrap_or_default();
        }
    }

    /// Parses one line; false if that was the end.
    #[inline(always)]
    fn line(
        &mut self,
        line: &'a [u8],
        parse: &mut impl FnMut(&'a [u8], &mut Self) -> Result<()>,
    ) -> bool {
        self.tally.lines += 1;
        if line.trim_ascii_start().is_empty() {
            return true;
        }
        match parse(line, self) {
            Ok(()) => true,
            Err(error) => self.bad_line(error),
        }
    }

    #[cold]
    fn bad_line(&mut self, error: Error) -> bool {
        self.tally.bad_lines += 1;
        if self.tally.reasons.len() < REASONS {
            let line = self.first_line + self.tally.lines - 1;
            self.tally.reasons.push(error.line(line));
        }
        self.skip_bad_lines
    }

    fn flush(&mut self) {
        if !self.batch.is_empty() {
            self.tally.ratings += self.batch.len() as u64;
            (self.deliver)(&self.batch);
            self.batch.clear();
        }
    }

    /// Hands on what is left.
    pub(super) fn finish(mut self) -> Tally {
        self.flush();
        self.tally
    }
}

/// Whether `parser` makes ratings of more than half of the sample it was made for.
pub(super) fn most_lines_parse(parser: &dyn Parser, sample: &[u8]) -> bool {
    let mut body = sample;
    for _ in 0..parser.header_lines() {
        let end = memchr(b'\n', body).map_or(body.len(), |at| at + 1);
        body = &body[end..];
    }
    let mut deliver = |_: &[RawRating<'_>]| {};
    let mut sink = Sink::new(1, true, &mut deliver);
    parser.parse(body, &mut sink);
    let tally = sink.finish();
    tally.ratings > tally.bad_lines
}
