//! The fields of a line: what separates them, where they end, and what makes an id.

use std::fmt;
use std::str::{FromStr, from_utf8};

use super::quoted::Fields;
use crate::error::{Error, ErrorKind, Result};

/// What separates the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delimiter {
    /// One byte of ASCII: comma, tab, semicolon, bar. Fields may be quoted.
    Byte(u8),
    /// Two colons, as in older MovieLens files. Quotes are text.
    DoubleColon,
    /// Any number of spaces and tabs. Quotes are text.
    Blanks,
}

impl FromStr for Delimiter {
    type Err = Error;

    /// Reads `,` `;` `|` `::`, or `tab` or `space`.
    fn from_str(name: &str) -> Result<Delimiter> {
        match name {
            "," | ";" | "|" => Ok(Delimiter::Byte(name.as_bytes()[0])),
            "\t" | "\\t" | "tab" => Ok(Delimiter::Byte(b'\t')),
            "::" => Ok(Delimiter::DoubleColon),
            " " | "space" => Ok(Delimiter::Blanks),
            _ => Err(Error::new(
                ErrorKind::BadOption,
                format!("\"{name}\" cannot separate columns"),
            )
            .remedy("choose among , ; | :: tab and space")),
        }
    }
}

impl fmt::Display for Delimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Delimiter::Byte(b'\t') => f.write_str("tab"),
            Delimiter::Byte(byte) => write!(f, "{}", char::from(*byte)),
            Delimiter::DoubleColon => f.write_str("::"),
            Delimiter::Blanks => f.write_str("space"),
        }
    }
}

impl Delimiter {
    /// Splits a line; a quote that does not close makes one field of the whole line.
    pub(super) fn split(self, line: &[u8]) -> Vec<Vec<u8>> {
        let owned = |field: &[u8]| field.to_vec();
        match self {
            Delimiter::Byte(byte) => {
                let mut fields = Fields::default();
                match fields.split(line, byte) {
                    Ok(()) => fields.iter().map(owned).collect(),
                    Err(_) => vec![line.to_vec()],
                }
            }
            Delimiter::DoubleColon => fields(line, AtDoubleColon).map(owned).collect(),
            Delimiter::Blanks => fields(line, AtBlanks).map(owned).collect(),
        }
    }
}

/// The fields of a line.
#[inline(always)]
pub(super) fn fields<S: Split>(line: &[u8], split: S) -> FieldIter<'_, S> {
    FieldIter {
        rest: Some(line),
        split,
    }
}

/// See [`fields`].
pub(super) struct FieldIter<'a, S> {
    rest: Option<&'a [u8]>,
    split: S,
}

impl<'a, S: Split> Iterator for FieldIter<'a, S> {
    type Item = &'a [u8];

    #[inline(always)]
    fn next(&mut self) -> Option<&'a [u8]> {
        let (field, rest) = self.split.cut(self.rest?);
        self.rest = rest;
        Some(field)
    }
}

/// Where fields end.
pub(super) trait Split: Copy {
    /// The first field of `text`, and what comes after its delimiter, if one follows.
    fn cut(self, text: &[u8]) -> (&[u8], Option<&[u8]>);

    /// How many bytes of one delimiter `text` begins with, if it does.
    fn delimiter(self, text: &[u8]) -> Option<usize>;
}

#[derive(Clone, Copy)]
pub(super) struct AtByte(pub(super) u8);

#[derive(Clone, Copy)]
pub(super) struct AtDoubleColon;

#[derive(Clone, Copy)]
pub(super) struct AtBlanks;

/// The position of the first `byte`. Fields are a few bytes long: eight bytes at a time in a plain register find their
/// ends sooner than a vectorised search sets out, and without a branch that depends on the length.
#[inline(always)]
fn find(text: &[u8], byte: u8) -> Option<usize> {
    const LOW: u64 = u64::from_le_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_le_bytes([0x80; 8]);
    let wanted = LOW * u64::from(byte);
    let (words, rest) = text.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        // The lowest zero byte of `other` has its high bit set in `zeros` (Mycroft's test).
        let other = u64::from_le_bytes(*word) ^ wanted;
        let zeros = other.wrapping_sub(LOW) & !other & HIGH;
        if zeros != 0 {
            return Some(8 * index + zeros.trailing_zeros() as usize / 8);
        }
    }
    let at = rest.iter().position(|&other| other == byte)?;
    Some(8 * words.len() + at)
}

impl Split for AtByte {
    #[inline(always)]
    fn cut(self, text: &[u8]) -> (&[u8], Option<&[u8]>) {
        match find(text, self.0) {
            Some(end) => (text[..end].trim_ascii(), Some(&text[end + 1..])),
            None => (text.trim_ascii(), None),
        }
    }

    #[inline(always)]
    fn delimiter(self, text: &[u8]) -> Option<usize> {
        (text.first() == Some(&self.0)).then_some(1)
    }
}

impl Split for AtDoubleColon {
    #[inline(always)]
    fn cut(self, text: &[u8]) -> (&[u8], Option<&[u8]>) {
        let mut from = 0;
        while let Some(colon) = find(&text[from..], b':') {
            let end = from + colon;
            from = end + 1;
            if text.get(from) == Some(&b':') {
                return (text[..end].trim_ascii(), Some(&text[from + 1..]));
            }
        }
        (text.trim_ascii(), None)
    }

    #[inline(always)]
    fn delimiter(self, text: &[u8]) -> Option<usize> {
        text.starts_with(b"::").then_some(2)
    }
}

impl Split for AtBlanks {
    #[inline(always)]
    fn cut(self, text: &[u8]) -> (&[u8], Option<&[u8]>) {
        let text = text.trim_ascii_start();
        match text.iter().position(u8::is_ascii_whitespace) {
            Some(end) => {
                let rest = text[end..].trim_ascii_start();
                (&text[..end], (!rest.is_empty()).then_some(rest))
            }
            None => (text, None),
        }
    }

    #[inline(always)]
    fn delimiter(self, text: &[u8]) -> Option<usize> {
        matches!(text, [b' ' | b'\t', ..]).then_some(1)
    }
}

/// Checks an id that is taken as written.
#[inline(always)]
pub(super) fn check_id(noun: &str, id: &[u8], utf8: bool) -> Result<()> {
    if !id.is_empty() && (utf8 || from_utf8(id).is_ok()) {
        return Ok(());
    }
    Err(bad_id(noun, id))
}

#[cold]
fn bad_id(noun: &str, id: &[u8]) -> Error {
    if id.is_empty() {
        return Error::new(ErrorKind::BadInput, format!("the {noun}'s id is empty"));
    }
    let shown = String::from_utf8_lossy(id);
    Error::new(
        ErrorKind::BadInput,
        format!("the {noun}'s id \"{shown}\" is not UTF-8"),
    )
    .remedy("convert the text to UTF-8, with iconv for one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_delimiters_read_back() {
        for name in [",", ";", "|", "tab", "::", "space"] {
            assert_eq!(name.parse::<Delimiter>().unwrap().to_string(), name);
        }
        assert!("ab".parse::<Delimiter>().is_err());
    }

    #[test]
    fn a_byte_is_found_wherever_it_is() {
        for len in 0..40 {
            // Neighbours in value: a borrow between bytes must not be taken for a match.
            let mut text = vec![b'-'; len];
            assert_eq!(find(&text, b','), None);
            for at in (0..len).rev() {
                text[at] = b',';
                assert_eq!(find(&text, b','), Some(at));
            }
        }
    }

    #[test]
    fn blanks_around_fields_are_no_part_of_them() {
        let text = |line, delimiter: Delimiter| -> Vec<String> {
            let text = |field| String::from_utf8(field).unwrap();
            delimiter.split(line).into_iter().map(text).collect()
        };
        let comma = Delimiter::Byte(b',');
        assert_eq!(text(b" a ,b c,\t,d\r", comma), ["a", "b c", "", "d"]);
        let colons = Delimiter::DoubleColon;
        assert_eq!(text(b"a::b:c:: d", colons), ["a", "b:c", "d"]);
        assert_eq!(text(b"  a\t b  \r", Delimiter::Blanks), ["a", "b"]);
    }
}
