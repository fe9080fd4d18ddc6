//! Matrix Market coordinate files (Boisvert, Pozo, Remington: The Matrix Market Exchange Formats, 1996): a banner,
//! comments, a line with rows, columns and entries, then `row column value` with both counted from 1.

use super::fields::{AtBlanks, fields};
use super::{Format, Parser, RawRating, Sink, number};
use crate::error::{Error, ErrorKind, Result};

/// Rows are users, columns are items.
pub(super) struct MatrixMarket;

const BANNER: &[u8] = b"%%MatrixMarket";

impl Format for MatrixMarket {
    fn name(&self) -> &'static str {
        "matrix-market"
    }

    fn summary(&self) -> &'static str {
        "Matrix Market, coordinate, general: rows are users, columns are items"
    }

    fn detect(&self, sample: &[u8]) -> bool {
        sample
            .get(..BANNER.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(BANNER))
    }

    fn parser(&self, sample: &[u8]) -> Result<Box<dyn Parser>> {
        let mut lines = (1..).zip(sample.split(|&byte| byte == b'\n'));
        let pattern = lines
            .next()
            .map_or_else(|| banner(b""), |(_, line)| banner(line))
            .map_err(|e| e.line(1))?;
        let size = lines.find(|(_, line)| !matches!(line.trim_ascii(), [] | [b'%', ..]));
        let Some((header_lines, size)) = size else {
            return Err(bad(
                "no line with rows, columns and entries follows the banner",
            ));
        };
        let numbers: Option<Vec<u64>> = fields(size, AtBlanks).map(whole).collect();
        let Some(&[rows, columns, entries]) = numbers.as_deref() else {
            return Err(bad("this line should have rows, columns and entries").line(header_lines));
        };
        Ok(Box::new(Coordinates {
            pattern,
            rows,
            columns,
            entries,
            header_lines,
        }))
    }
}

/// Whether the banner announces a pattern, without values.
fn banner(line: &[u8]) -> Result<bool> {
    let line = String::from_utf8_lossy(line).to_ascii_lowercase();
    let words: Vec<_> = line.split_ascii_whitespace().collect();
    let &["%%matrixmarket", "matrix", layout, field, symmetry] = words.as_slice() else {
        return Err(bad("this is no Matrix Market banner"));
    };
    if layout != "coordinate" {
        return Err(bad(format!("a matrix stored as {layout}"))
            .remedy("only the coordinate layout can be read"));
    }
    if symmetry != "general" {
        // Its users would be its items.
        return Err(bad(format!("a {symmetry} matrix")).remedy("write it out as general"));
    }
    match field {
        "pattern" => Ok(true),
        "real" | "double" | "integer" => Ok(false),
        _ => Err(bad(format!("values that are {field}"))
            .remedy("only real, integer and pattern can be read")),
    }
}

/// The entries of one file.
struct Coordinates {
    pattern: bool,
    rows: u64,
    columns: u64,
    entries: u64,
    header_lines: u64,
}

impl Parser for Coordinates {
    fn header_lines(&self) -> u64 {
        self.header_lines
    }

    fn parse<'a>(&self, chunk: &'a [u8], sink: &mut Sink<'a, '_>) {
        sink.lines(chunk, |line, sink| {
            let mut fields = fields(line, AtBlanks);
            let user = index("row", fields.next(), self.rows)?;
            let item = index("column", fields.next(), self.columns)?;
            let rating = match (self.pattern, fields.next()) {
                (true, None) => 1.0,
                (false, Some(value)) => number::rating(value)?,
                (true, Some(_)) => return Err(bad("a value in a matrix without values")),
                (false, None) => return Err(bad("the value is missing")),
            };
            if fields.next().is_some() {
                return Err(bad("more than row, column and value"));
            }
            sink.push(RawRating {
                user,
                item,
                rating,
                time: None,
            });
            Ok(())
        });
    }

    fn finish(&self, ratings: u64) -> Result<()> {
        if ratings == self.entries {
            return Ok(());
        }
        Err(bad(format!(
            "{ratings} entries where the header promises {}",
            self.entries
        ))
        .remedy("the file may be cut short: fetch or write it again"))
    }
}

/// An index as written, after a check that it lies in `1..=limit`.
#[inline(always)]
fn index<'a>(noun: &str, text: Option<&'a [u8]>, limit: u64) -> Result<&'a [u8]> {
    let text = text.unwrap_or_default();
    match whole(text) {
        Some(index) if (1..=limit).contains(&index) => Ok(text),
        _ => Err(bad_index(noun, text, limit)),
    }
}

#[cold]
fn bad_index(noun: &str, text: &[u8], limit: u64) -> Error {
    if text.is_empty() {
        return bad(format!("the {noun} is missing"));
    }
    let shown = String::from_utf8_lossy(text);
    bad(format!("the {noun} \"{shown}\" is not in 1 to {limit}"))
}

/// A whole number in digits.
#[inline(always)]
fn whole(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 19 {
        return None;
    }
    text.iter().try_fold(0_u64, |value, &byte| {
        byte.is_ascii_digit()
            .then(|| 10 * value + u64::from(byte - b'0'))
    })
}

fn bad(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::BadInput, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses a whole text: its ratings, or the first error.
    fn read(text: &str) -> Result<Vec<(String, String, f32)>> {
        let parser = MatrixMarket.parser(text.as_bytes())?;
        let header: usize = text
            .split_inclusive('\n')
            .take(parser.header_lines() as usize)
            .map(str::len)
            .sum();
        let mut ratings = Vec::new();
        let mut deliver = |batch: &[RawRating<'_>]| {
            let text = |id: &[u8]| String::from_utf8(id.to_vec()).unwrap();
            ratings.extend(batch.iter().map(|r| (text(r.user), text(r.item), r.rating)));
        };
        let mut sink = Sink::new(parser.header_lines() + 1, false, &mut deliver);
        parser.parse(&text.as_bytes()[header..], &mut sink);
        let tally = sink.finish();
        if let Some(error) = tally.reasons.into_iter().next() {
            return Err(error);
        }
        parser.finish(tally.ratings)?;
        Ok(ratings)
    }

    #[test]
    fn real_integer_and_pattern_are_read() {
        let entry = |rating| vec![("2".to_owned(), "3".to_owned(), rating)];
        for (text, rating) in [
            (
                "%%MatrixMarket matrix coordinate real general\n%\n\n4 4 1\n2 3 0.5\n",
                0.5,
            ),
            (
                "%%matrixmarket MATRIX Coordinate Integer General\n4 4 1\n 2  3 5",
                5.0,
            ),
            (
                "%%MatrixMarket matrix coordinate pattern general\r\n4 4 1\r\n2 3\r\n",
                1.0,
            ),
        ] {
            assert_eq!(read(text).unwrap(), entry(rating));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let general = "%%MatrixMarket matrix coordinate real general\n";
        for (text, message) in [
            (
                "%%MatrixMarket vector\n".to_owned(),
                "line 1: this is no Matrix Market banner",
            ),
            (
                general.replace("coordinate", "array"),
                "line 1: a matrix stored as array",
            ),
            (
                general.replace("general", "symmetric"),
                "line 1: a symmetric matrix",
            ),
            (
                general.replace("real", "complex"),
                "line 1: values that are complex",
            ),
            (format!("{general}% only a comment\n"), "no line with rows"),
            (format!("{general}4 4\n"), "line 2: this line should have"),
            (
                format!("{general}4 4 2\n1 1 5\n"),
                "1 entries where the header promises 2",
            ),
            (
                format!("{general}4 4 1\n1 1 5\n2 2 5\n"),
                "2 entries where the header promises 1",
            ),
            (
                format!("{general}4 4 1\n5 1 5\n"),
                "line 3: the row \"5\" is not in 1 to 4",
            ),
            (
                format!("{general}4 4 1\n1 0 5\n"),
                "line 3: the column \"0\" is not in 1 to 4",
            ),
            (
                format!("{general}4 4 1\n1 -1 5\n"),
                "line 3: the column \"-1\" is not in 1 to 4",
            ),
            (
                format!("{general}4 4 1\n1\n"),
                "line 3: the column is missing",
            ),
            (
                format!("{general}4 4 1\n1 1\n"),
                "line 3: the value is missing",
            ),
            (
                format!("{general}4 4 1\n1 1 x\n"),
                "line 3: the rating \"x\" is not a number",
            ),
            (
                format!("{general}4 4 1\n1 1 5 5\n"),
                "line 3: more than row",
            ),
            (
                format!("{}4 4 1\n1 1 5\n", general.replace("real", "pattern")),
                "line 3: a value in a matrix without values",
            ),
        ] {
            let error = read(&text).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
