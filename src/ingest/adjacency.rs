//! Adjacency lists: a user and the items that it took, on one line, as the splits of LightGCN come in.

use std::str::from_utf8;

use super::fields::{AtBlanks, check_id, fields};
use super::{Format, Parser, RawRating, Sink};
use crate::error::Result;

/// `user item item ...`, every rating 1.
pub(super) struct Adjacency;

impl Format for Adjacency {
    fn name(&self) -> &'static str {
        "adjacency"
    }

    fn summary(&self) -> &'static str {
        "user item item ..., separated by blanks, every rating 1"
    }

    /// Nothing but whole numbers, and not every line of the same length, unless all are pairs: lines of four numbers may
    /// well be a rating and a time, and must not be guessed at. Other ids than numbers need the format to be named.
    fn detect(&self, sample: &[u8]) -> bool {
        let mut lengths = sample
            .split(|&byte| byte == b'\n')
            .map(|line| {
                fields(line, AtBlanks)
                    .filter(|field| !field.is_empty())
                    .count()
            })
            .filter(|&length| length > 0);
        let Some(first) = lengths.next() else {
            return false;
        };
        sample
            .iter()
            .all(|byte| byte.is_ascii_digit() || byte.is_ascii_whitespace())
            && (first == 2 || lengths.any(|length| length != first))
    }

    fn parser(&self, _sample: &[u8]) -> Result<Box<dyn Parser>> {
        Ok(Box::new(Adjacency))
    }
}

impl Parser for Adjacency {
    fn parse<'a>(&self, chunk: &'a [u8], sink: &mut Sink<'a, '_>) {
        let utf8 = from_utf8(chunk).is_ok();
        sink.lines(chunk, |line, sink| {
            if !utf8 {
                // All of the line before its first rating is handed on.
                fields(line, AtBlanks).try_for_each(|id| check_id("item", id, false))?;
            }
            let mut ids = fields(line, AtBlanks);
            let user = ids.next().unwrap_or_default();
            let mut ids = ids.peekable();
            if ids.peek().is_none() {
                sink.empty_user();
            }
            for item in ids {
                sink.push(RawRating {
                    user,
                    item,
                    rating: 1.0,
                    time: None,
                });
            }
            Ok(())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_any_length_are_recognised_but_nothing_else() {
        for (text, is) in [
            ("0 1 2 3\n1 4\n2\n", true),
            ("0 1\n0 2\n", true),
            ("0 1 2 3\n1 2 3 4\n", false),
            ("0 1 4.5\n1 2\n", false),
            ("a list of words\nand more\n", false),
            ("\n", false),
        ] {
            assert_eq!(Adjacency.detect(text.as_bytes()), is, "{text}");
        }
    }

    #[test]
    fn a_bad_line_gives_no_rating_at_all() {
        let mut count = 0;
        let mut deliver = |batch: &[RawRating<'_>]| count += batch.len();
        let mut sink = Sink::new(1, true, &mut deliver);
        Adjacency.parse(b"1 2 3\n4 5 \xff\n6\n 7  8 \n", &mut sink);
        let tally = sink.finish();
        assert_eq!((tally.lines, tally.ratings, tally.bad_lines), (4, 3, 1));
        assert!(
            tally.reasons[0]
                .to_string()
                .starts_with("line 2: the item's id")
        );
        assert_eq!((count, tally.empty_users), (3, 1));
    }
}
