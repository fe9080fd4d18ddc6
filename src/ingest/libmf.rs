//! The text of LIBMF: user, item and rating, separated by blanks.

use super::delimited::Delimited;
use super::fields::Delimiter;
use super::sink::most_lines_parse;
use super::{Format, Parser};
use crate::error::Result;

/// `user item rating`.
pub(super) struct Libmf;

impl Format for Libmf {
    fn name(&self) -> &'static str {
        "libmf"
    }

    fn summary(&self) -> &'static str {
        "user item rating, separated by blanks"
    }

    /// Three fields a line, the third a number. (Adjacency lists where every user has exactly two items look the same.)
    fn detect(&self, sample: &[u8]) -> bool {
        most_lines_parse(&Delimited::fixed(Delimiter::Blanks, 3), sample)
    }

    fn parser(&self, _sample: &[u8]) -> Result<Box<dyn Parser>> {
        Ok(Box::new(Delimited::fixed(Delimiter::Blanks, 3)))
    }
}
