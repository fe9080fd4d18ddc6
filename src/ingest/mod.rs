//! Text and archives into ratings.
//!
//! Reading goes through four stations: [`Input`] opens a file or standard input and undoes its compression, the text is
//! cut into chunks of complete lines, a [`Parser`] turns each chunk into [`RawRating`]s on a thread of its own, and a
//! [`Consumer`] takes them in. A new format is one file with an implementation of [`Format`] and one line in [`FORMATS`].

mod adjacency;
mod chunks;
mod columns;
mod delimited;
mod input;
mod libmf;
mod matrix_market;
mod movielens;
mod number;
mod quoted;
mod read;
mod sink;
mod titles;

pub use columns::{Columns, Role};
pub use delimited::Delimiter;
pub use input::Input;
pub use read::{Consumer, InputReport, ReadOptions, ReadReport, read_ratings};
pub use sink::Sink;
pub use titles::{Titles, bundled_titles, read_titles};

use crate::error::{Error, ErrorKind, Result};

/// One rating as the text has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RawRating<'a> {
    /// The user's id as written, without the blanks around it: UTF-8, never empty.
    pub user: &'a [u8],
    /// The item's id, likewise.
    pub item: &'a [u8],
    /// The rating, always finite; 1 where the text gives none.
    pub rating: f32,
    /// When it was given, in seconds, if the text says so.
    pub time: Option<i64>,
}

/// A way to write ratings as text.
pub trait Format: Sync {
    /// The name on the command line.
    fn name(&self) -> &'static str;

    /// What it looks like, in half a line, for help texts.
    fn summary(&self) -> &'static str;

    /// Whether `sample`, the first complete lines of a text, looks like this format.
    fn detect(&self, sample: &[u8]) -> bool;

    /// A parser for the text that begins with `sample`: this is where headers and delimiters are recognised.
    fn parser(&self, sample: &[u8]) -> Result<Box<dyn Parser>>;
}

/// Parses one text of a format. Called once for each chunk, from any thread, in any order.
pub trait Parser: Send + Sync {
    /// How many lines at the start of the text are a header: they are never passed to [`Parser::parse`].
    fn header_lines(&self) -> u64 {
        0
    }

    /// Parses complete lines, usually through [`Sink::lines`].
    fn parse<'a>(&self, chunk: &'a [u8], sink: &mut Sink<'a, '_>);

    /// Checks the number of ratings in the whole text (bad lines count as one each) against what its header promised.
    fn finish(&self, _ratings: u64) -> Result<()> {
        Ok(())
    }
}

/// All formats, in the order in which they are tried on a text of unknown format.
pub const FORMATS: &[&dyn Format] = &[
    &matrix_market::MatrixMarket,
    &movielens::DOUBLE_COLON,
    &movielens::TAB,
    &delimited::Csv,
    &libmf::Libmf,
    &adjacency::Adjacency,
];

/// The format of that name.
pub fn format(name: &str) -> Result<&'static dyn Format> {
    FORMATS
        .iter()
        .copied()
        .find(|format| format.name() == name)
        .ok_or_else(|| {
            let names: Vec<_> = FORMATS.iter().map(|format| format.name()).collect();
            Error::new(ErrorKind::BadOption, format!("no format named \"{name}\""))
                .remedy(format!("choose among auto, {}", names.join(", ")))
        })
}

/// The first format that recognises `sample`.
fn detect(sample: &[u8]) -> Result<&'static dyn Format> {
    FORMATS
        .iter()
        .copied()
        .find(|format| format.detect(sample))
        .ok_or_else(|| {
            Error::new(
                ErrorKind::BadInput,
                "cannot tell the format of these ratings",
            )
            .remedy("name it with --format, or its columns with --columns user,item,rating,time")
        })
}
