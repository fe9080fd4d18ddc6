//! Delimited text: `user,item,rating,time` with or without a header, and anything like it.

use std::cell::LazyCell;
use std::str::from_utf8;

use memchr::memchr;

use super::columns::{Columns, Role};
use super::fields::{AtBlanks, AtByte, AtDoubleColon, Delimiter, Split, check_id, fields};
use super::quoted::Fields;
use super::sink::most_lines_parse;
use super::{Format, Parser, RawRating, Sink, number, plain};
use crate::error::{Error, ErrorKind, Result};

/// The delimiters that are tried, in this order, where none is given. Blanks occur in too many texts to be tried
/// before the columns are known.
const CANDIDATES: [Delimiter; 5] = [
    Delimiter::Byte(b','),
    Delimiter::Byte(b'\t'),
    Delimiter::DoubleColon,
    Delimiter::Byte(b';'),
    Delimiter::Byte(b'|'),
];

/// `user,item,rating,time`, with or without a header.
pub(super) struct Csv;

impl Format for Csv {
    fn name(&self) -> &'static str {
        "csv"
    }

    fn summary(&self) -> &'static str {
        "user,item[,rating[,time]], separated by , tab :: ; or |, with or without a header"
    }

    fn detect(&self, sample: &[u8]) -> bool {
        CANDIDATES.iter().any(|&delimiter| {
            has_known_header(sample, delimiter)
                || Delimited::begin(sample, None, delimiter).is_ok_and(|parser| {
                    // Prose has commas too, but not between words without blanks.
                    let telling = parser.header_lines > 0 || parser.columns.roles().len() > 2;
                    (telling || !sample.contains(&b' ')) && most_lines_parse(&parser, sample)
                })
        })
    }

    fn parser(&self, sample: &[u8]) -> Result<Box<dyn Parser>> {
        Csv::open(sample, None, None)
    }
}

impl Csv {
    /// A parser where columns or delimiter may be known already.
    pub(super) fn open(
        sample: &[u8],
        columns: Option<&Columns>,
        delimiter: Option<Delimiter>,
    ) -> Result<Box<dyn Parser>> {
        if let Some(delimiter) = delimiter {
            return Ok(Box::new(Delimited::begin(sample, columns, delimiter)?));
        }
        let blanks = columns.map(|_| Delimiter::Blanks);
        let mut candidates = CANDIDATES.into_iter().chain(blanks);
        if let Some(delimiter) = candidates.clone().find(|&d| has_known_header(sample, d)) {
            return Ok(Box::new(Delimited::begin(sample, columns, delimiter)?));
        }
        for delimiter in candidates.clone() {
            if let Ok(parser) = Delimited::begin(sample, columns, delimiter)
                && most_lines_parse(&parser, sample)
            {
                return Ok(Box::new(parser));
            }
        }
        // Nothing fits: let the first delimiter that occurs say what is wrong, and where.
        let first = lines(sample).next().unwrap_or_default();
        let Some(delimiter) = candidates.find(|delimiter| delimiter.split(first).len() > 1) else {
            return Err(Error::new(
                ErrorKind::BadInput,
                "nothing in the first line separates columns",
            )
            .remedy("choose another --format, or say what the --columns are"));
        };
        Ok(Box::new(Delimited::begin(sample, columns, delimiter)?))
    }
}

/// Whether the first line names a user's and an item's column.
fn has_known_header(sample: &[u8], delimiter: Delimiter) -> bool {
    let first = delimiter.split(lines(sample).next().unwrap_or_default());
    let names: Vec<&[u8]> = first.iter().map(Vec::as_slice).collect();
    !matches!(Columns::by_names(&names), Ok(None))
}

/// A parser of delimited text.
pub(super) struct Delimited {
    delimiter: Delimiter,
    columns: Columns,
    /// Whether more columns than these are an error, rather than passed over.
    exact: bool,
    header_lines: u64,
}

impl Delimited {
    /// Text without a header, with these columns and no others.
    pub(super) fn fixed(delimiter: Delimiter, columns: usize) -> Delimited {
        Delimited {
            delimiter,
            columns: Columns::by_count(columns).expect("at least two columns"),
            exact: true,
            header_lines: 0,
        }
    }

    /// Text that begins with `sample`, where a header may say what the columns are.
    fn begin(sample: &[u8], columns: Option<&Columns>, delimiter: Delimiter) -> Result<Delimited> {
        let blank = sample.split(|&byte| byte == b'\n');
        let blank = blank
            .take_while(|line| line.trim_ascii().is_empty())
            .count() as u64;
        let mut rows = lines(sample).map(|line| delimiter.split(line));
        let first = rows.next().unwrap_or_default();
        let first: Vec<&[u8]> = first.iter().map(Vec::as_slice).collect();
        let parser = |columns: Columns, headed: bool| Delimited {
            delimiter,
            columns,
            exact: false,
            header_lines: if headed { blank + 1 } else { 0 },
        };
        if let Some(columns) = columns {
            return Ok(parser(columns.clone(), columns.headed_by(&first)));
        }
        if let Some(columns) = Columns::by_names(&first).map_err(|e| e.line(blank + 1))? {
            return Ok(parser(columns, true));
        }
        // The usual number of columns: the first line may be the one that is broken.
        let mut counts = [0_usize; 6];
        for row in rows {
            counts[row.len().min(5)] += 1;
        }
        counts[first.len().min(5)] += 1;
        let usual = (0..counts.len()).max_by_key(|&count| counts[count]);
        let columns = usual.and_then(Columns::by_count).ok_or_else(|| {
            let message = format!("it has not 2 to 4 columns separated by {delimiter}");
            Error::new(ErrorKind::BadInput, message)
                .remedy("say what they are with --columns, with _ for one to pass over")
        })?;
        let headed = columns.headed_by(&first);
        Ok(parser(columns, headed))
    }

    #[inline(always)]
    fn parse_lines<'a>(&self, chunk: &'a [u8], split: impl Split, sink: &mut Sink<'a, '_>) {
        let utf8 = LazyCell::new(|| from_utf8(chunk).is_ok());
        let usual = |text| plain::line(text, split, self.columns.roles());
        sink.lines_or(chunk, usual, |line, sink| {
            sink.push(self.record(fields(line, split), *utf8)?);
            Ok(())
        });
    }

    /// The slower way, for a chunk that has quotes.
    fn parse_quoted<'a>(&self, chunk: &'a [u8], delimiter: u8, sink: &mut Sink<'a, '_>) {
        let mut quoted = Fields::default();
        let usual = |text| plain::line(text, AtByte(delimiter), self.columns.roles());
        sink.lines_or(chunk, usual, |line, sink| {
            if memchr(b'"', line).is_none() {
                sink.push(self.record(fields(line, AtByte(delimiter)), false)?);
            } else {
                quoted.split(line, delimiter)?;
                sink.push_copy(self.record(quoted.iter(), false)?);
            }
            Ok(())
        });
    }

    /// One line's rating. `utf8` says that the fields are known to be UTF-8.
    #[inline(always)]
    fn record<'f>(
        &self,
        mut fields: impl Iterator<Item = &'f [u8]>,
        utf8: bool,
    ) -> Result<RawRating<'f>> {
        let roles = self.columns.roles();
        let mut record = RawRating {
            user: &[],
            item: &[],
            rating: 1.0,
            time: None,
        };
        for (before, role) in roles.iter().enumerate() {
            let Some(field) = fields.next() else {
                return Err(too_few_columns(before, roles.len()));
            };
            match role {
                Role::User => record.user = field,
                Role::Item => record.item = field,
                Role::Rating => record.rating = number::rating(field)?,
                Role::Time => record.time = Some(number::time(field)?),
                Role::Skip => {}
            }
        }
        if self.exact && fields.next().is_some() {
            return Err(Error::new(
                ErrorKind::BadInput,
                format!("more than {} columns", roles.len()),
            ));
        }
        check_id("user", record.user, utf8)?;
        check_id("item", record.item, utf8)?;
        Ok(record)
    }
}

impl Parser for Delimited {
    fn header_lines(&self) -> u64 {
        self.header_lines
    }

    fn parse<'a>(&self, chunk: &'a [u8], sink: &mut Sink<'a, '_>) {
        match self.delimiter {
            Delimiter::Byte(byte) if memchr(b'"', chunk).is_some() => {
                self.parse_quoted(chunk, byte, sink);
            }
            Delimiter::Byte(byte) => self.parse_lines(chunk, AtByte(byte), sink),
            Delimiter::DoubleColon => self.parse_lines(chunk, AtDoubleColon, sink),
            Delimiter::Blanks => self.parse_lines(chunk, AtBlanks, sink),
        }
    }
}

#[cold]
fn too_few_columns(found: usize, wanted: usize) -> Error {
    let noun = if found == 1 { "column" } else { "columns" };
    Error::new(
        ErrorKind::BadInput,
        format!("only {found} {noun} of {wanted}"),
    )
}

/// The lines of a sample that are not blank.
fn lines(sample: &[u8]) -> impl Iterator<Item = &[u8]> {
    sample
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.trim_ascii().is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Record = (String, String, f32, Option<i64>);

    /// Parses a whole text with given columns.
    fn read(text: &[u8], columns: &str, delimiter: Delimiter) -> Result<Vec<Record>> {
        let columns: Columns = columns.parse()?;
        let parser = Delimited::begin(text, Some(&columns), delimiter)?;
        assert_eq!(parser.header_lines, 0);
        let mut records = Vec::new();
        let mut deliver = |batch: &[RawRating<'_>]| {
            let text = |id: &[u8]| String::from_utf8(id.to_vec()).unwrap();
            records.extend(
                batch
                    .iter()
                    .map(|r| (text(r.user), text(r.item), r.rating, r.time)),
            );
        };
        let mut sink = Sink::new(1, false, &mut deliver);
        parser.parse(text, &mut sink);
        let tally = sink.finish();
        tally.reasons.into_iter().next().map_or(Ok(records), Err)
    }

    /// The same by the csv crate, slowly.
    fn read_with_csv(text: &[u8], delimiter: u8) -> Vec<Record> {
        csv::ReaderBuilder::new()
            .has_headers(false)
            .delimiter(delimiter)
            .flexible(true)
            .from_reader(text)
            .records()
            .map(|record| {
                let record = record.unwrap();
                (
                    record[0].trim().to_owned(),
                    record[1].trim().to_owned(),
                    record[2].trim().parse().unwrap(),
                    record[3].trim().parse().ok(),
                )
            })
            .collect()
    }

    /// An id as a field: plain, with blanks around it, or in quotes.
    fn id() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z0-9éß]{1,8}",
            " {0,2}[a-z0-9][a-z \"'.-]{0,6}[a-z0-9] {0,2}",
            "\"[a-z,;|:](\"\"|[a-zü,;|\t: ]){0,8}[0-9]\"",
        ]
    }

    proptest! {
        #[test]
        fn reads_what_the_csv_crate_reads(
            rows in prop::collection::vec((id(), id(), "-?[0-9]{1,5}(\\.[0-9]{1,5})?", any::<i64>(), "\r?\n|\n\n"), 1..40),
            delimiter in prop::sample::select(&b",\t;|"[..]),
            last_newline in any::<bool>(),
        ) {
            let d = char::from(delimiter);
            let mut text = String::new();
            for (user, item, rating, time, end) in &rows {
                // Outside of quotes the delimiter would be one.
                let field = |id: &str| if id.starts_with('"') { id.to_owned() } else { id.replace(d, "") };
                text += &format!("{}{d}{}{d}{rating}{d}{time}{end}", field(user), field(item));
            }
            if !last_newline {
                text.truncate(text.trim_end().len());
            }
            let records = read(text.as_bytes(), "user,item,rating,time", Delimiter::Byte(delimiter)).unwrap();
            prop_assert_eq!(records, read_with_csv(text.as_bytes(), delimiter));
        }

        #[test]
        fn what_is_read_in_one_go_is_what_the_fields_say(
            text in prop::collection::vec(prop::sample::select(&b"0123456789012345678901234567890,,,,,.:\n\n\r "[..]), 0..60),
            columns in prop::sample::select(&["user,item,rating,time", "user,item,rating", "time,_,item,rating,user"][..]),
        ) {
            // Lines that may be usual ones, among all that are not.
            let mut text = [&b"17,4,3.5,1000000000\n4,5,6,7,8\r\n"[..], &text[..]].concat();
            let parser = Delimited::begin(&text, Some(&columns.parse().unwrap()), Delimiter::Byte(b',')).unwrap();
            text.push(b'\n');
            let mut rest = &text[..];
            while let Some(end) = memchr(b'\n', rest) {
                if let Some((rating, bytes)) = plain::line(rest, AtByte(b','), parser.columns.roles()) {
                    prop_assert_eq!(bytes, end + 1);
                    prop_assert_eq!(rating, parser.record(fields(&rest[..end], AtByte(b',')), true).unwrap());
                }
                rest = &rest[end + 1..];
            }
        }

        #[test]
        fn no_bytes_make_it_panic(text in prop::collection::vec(prop::sample::select(&b"1a,;:\"\n\r \xff.-|\t%"[..]), 0..200)) {
            for format in crate::ingest::FORMATS {
                format.detect(&text);
                if let Ok(parser) = format.parser(&text) {
                    most_lines_parse(&*parser, &text);
                }
            }
        }
    }

    #[test]
    fn usual_lines_are_read_in_one_go() {
        let roles = [Role::User, Role::Item, Role::Rating, Role::Time];
        for (text, usual) in [
            (&b"17,4,3.5,1000000000\n1,2"[..], true),
            (b"123456789,4,5,1\r\n1,2,3,4\n", true),
            (b"17,4,3.5,1000000000\n", true),
            (b"17,4,3.5,1\n", false),
            (b"a,4,3.5,1000000000\n", false),
            (b"17,4,-3.5,1000000000\n", false),
            (b"17,4,3.,1000000000\n", false),
            (b"17,4,3.5,1000000000,5\n", false),
            (b"17, 4,3.5,1000000000\n", false),
        ] {
            let found = plain::line(text, AtByte(b','), &roles);
            assert_eq!(found.is_some(), usual, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn a_first_line_that_is_short_does_not_decide_about_the_columns() {
        let text = b"1,2\n1,2,3\n4,5,6\n";
        let parser = Delimited::begin(text, None, Delimiter::Byte(b',')).unwrap();
        assert_eq!(parser.columns, "user,item,rating".parse().unwrap());
        assert_eq!(parser.header_lines, 0);
    }

    #[test]
    fn single_colons_are_part_of_an_id() {
        let text = b"1::2::3\na:1::b:::4\n";
        let error = read(text, "user,item,rating", Delimiter::DoubleColon).unwrap_err();
        assert!(
            error.to_string().starts_with("line 2: the rating \":4\""),
            "{error}"
        );
        let records = read(b"a:1::b:c::4\n", "user,item,rating", Delimiter::DoubleColon).unwrap();
        assert_eq!(records, [("a:1".to_owned(), "b:c".to_owned(), 4.0, None)]);
    }
}
