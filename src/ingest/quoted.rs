//! Splitting a line in which fields are quoted, after RFC 4180.

use crate::error::{Error, ErrorKind, Result};

/// The fields of one line, without quotes; its memory serves one line after the other.
#[derive(Debug, Default)]
pub(super) struct Fields {
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Fields {
    /// The fields, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let field = &self.text[start..end];
            start = end;
            field
        })
    }

    /// Splits `line`. Within quotes a delimiter is text and two quotes are one; quotes inside a field that does not begin
    /// with one are text. Blanks around fields are left out, blanks within quotes kept. A quoted field must end on its
    /// own line, because chunks of text are cut at newlines.
    pub(super) fn split(&mut self, line: &[u8], delimiter: u8) -> Result<()> {
        self.text.clear();
        self.ends.clear();
        let mut rest = line;
        loop {
            while let [b' ' | b'\t', more @ ..] = rest
                && rest[0] != delimiter
            {
                rest = more;
            }
            let mut quoted = false;
            if let [b'"', inside @ ..] = rest {
                rest = self.unquote(inside)?;
                quoted = true;
            }
            let end = memchr::memchr(delimiter, rest).unwrap_or(rest.len());
            let unquoted = rest[..end].trim_ascii();
            if quoted && !unquoted.is_empty() {
                return Err(
                    Error::new(ErrorKind::BadInput, "text after a closing quote")
                        .remedy("double the quotes within a quoted field"),
                );
            }
            self.text.extend_from_slice(unquoted);
            self.ends.push(self.text.len());
            match rest.get(end + 1..) {
                Some(more) => rest = more,
                None => return Ok(()),
            }
        }
    }

    /// Takes a field from behind its opening quote; gives what follows the closing one.
    fn unquote<'a>(&mut self, mut rest: &'a [u8]) -> Result<&'a [u8]> {
        loop {
            let Some(quote) = memchr::memchr(b'"', rest) else {
                return Err(Error::new(
                    ErrorKind::BadInput,
                    "a quoted field does not end on its line",
                )
                .remedy("close the quote; line breaks within quotes cannot be read"));
            };
            self.text.extend_from_slice(&rest[..quote]);
            rest = &rest[quote + 1..];
            match rest {
                [b'"', more @ ..] => {
                    self.text.push(b'"');
                    rest = more;
                }
                _ => return Ok(rest),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Result<Vec<String>> {
        let mut fields = Fields::default();
        fields.split(line.as_bytes(), b',')?;
        let text = |field: &[u8]| String::from_utf8(field.to_vec()).unwrap();
        Ok(fields.iter().map(text).collect())
    }

    #[test]
    fn quotes_come_off_and_delimiters_within_stay() {
        assert_eq!(split(r#""a,b",c"#).unwrap(), ["a,b", "c"]);
        assert_eq!(
            split("\"say \"\"hi\"\"\" , \" x \",\"\"\r").unwrap(),
            ["say \"hi\"", " x ", ""]
        );
        assert_eq!(
            split(r#" 5" disk , a b ,"#).unwrap(),
            ["5\" disk", "a b", ""]
        );
    }

    #[test]
    fn a_quote_must_close_and_a_delimiter_follow() {
        for line in [r#"1,"open"#, r#"1,"open"",2"#] {
            let error = split(line).unwrap_err().to_string();
            assert!(error.starts_with("a quoted field does not end"), "{error}");
        }
        let error = split(r#"1,"shut"case,2"#).unwrap_err().to_string();
        assert!(error.starts_with("text after a closing quote"), "{error}");
    }
}
