//! The older MovieLens files. (The newer `ratings.csv` is delimited text with a header.)

use super::delimited::Delimited;
use super::fields::Delimiter;
use super::sink::most_lines_parse;
use super::{Format, Parser};
use crate::error::Result;

/// Four columns, user, item, rating and time, without a header.
pub(super) struct MovieLens {
    name: &'static str,
    summary: &'static str,
    delimiter: Delimiter,
}

/// `ratings.dat` of MovieLens 1M and 10M.
pub(super) const DOUBLE_COLON: MovieLens = MovieLens {
    name: "movielens-dat",
    summary: "user::item::rating::time, as in ratings.dat of MovieLens 1M and 10M",
    delimiter: Delimiter::DoubleColon,
};

/// `u.data` of MovieLens 100K.
pub(super) const TAB: MovieLens = MovieLens {
    name: "movielens-100k",
    summary: "user, item, rating and time separated by tabs, as in u.data of MovieLens 100K",
    delimiter: Delimiter::Byte(b'\t'),
};

impl Format for MovieLens {
    fn name(&self) -> &'static str {
        self.name
    }

    fn summary(&self) -> &'static str {
        self.summary
    }

    fn detect(&self, sample: &[u8]) -> bool {
        let first = sample.split(|&byte| byte == b'\n').next();
        // A first line without digits is a header, and this format has none.
        first.is_some_and(|line| line.iter().any(u8::is_ascii_digit))
            && most_lines_parse(&Delimited::fixed(self.delimiter, 4), sample)
    }

    fn parser(&self, _sample: &[u8]) -> Result<Box<dyn Parser>> {
        Ok(Box::new(Delimited::fixed(self.delimiter, 4)))
    }
}
