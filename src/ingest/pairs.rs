//! Pairs of a user and an item, to be predicted: CSV, one pair a line.

use super::columns::{Role, known_name};
use super::input::Input;
use crate::error::{Error, ErrorKind, Result};

/// Hands on the user and the item of each line of a CSV, in order, and holds one line at a time.
///
/// A first line with known names for both is a header and says which columns they are; without one they are the first
/// two. Other columns are passed over. The text may be compressed, as that of ratings.
///
/// # Errors
/// [`ErrorKind::BadInput`] with file and line where there is no user or no item; what `visit` returns.
pub fn read_pairs(input: &Input, mut visit: impl FnMut(&str, &str) -> Result<()>) -> Result<()> {
    input.with_text(&[], |name, text| {
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .trim(csv::Trim::All)
            .from_reader(text);
        let mut record = csv::StringRecord::new();
        let mut columns = None;
        loop {
            let more = reader.read_record(&mut record);
            let line = record.position().map_or(1, csv::Position::line);
            let bad = |what: String| {
                Error::new(ErrorKind::BadInput, what)
                    .path(name)
                    .line(line)
                    .remedy("write a user and an item with a comma between them")
            };
            match more {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                // A damaged archive says so itself; the one thing that CSV cannot be is text of another encoding.
                Err(error) if error.is_io_error() => return Err(Error::from(error).path(name)),
                Err(_) => return Err(bad("the line is not UTF-8".to_owned())),
            }
            let (user, item) = match columns {
                Some(columns) => columns,
                None => match header(&record) {
                    Some(named) => {
                        columns = Some(named);
                        continue;
                    }
                    None => *columns.insert((0, 1)),
                },
            };
            let field = |column, noun| match record.get(column) {
                Some("") => Err(bad(format!("the {noun} is empty"))),
                Some(id) => Ok(id),
                None => Err(bad(format!("there is no column for the {noun}"))),
            };
            visit(field(user, "user")?, field(item, "item")?)?;
        }
    })
}

/// The columns of the user and the item, if this line names both.
fn header(record: &csv::StringRecord) -> Option<(usize, usize)> {
    let column = |role| {
        record
            .iter()
            .position(|name| known_name(name.as_bytes()) == Some(role))
    };
    Some((column(Role::User)?, column(Role::Item)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Result<Vec<(String, String)>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mut pairs = Vec::new();
        read_pairs(&Input::from(file.path()), |user, item| {
            pairs.push((user.to_owned(), item.to_owned()));
            Ok(())
        })?;
        Ok(pairs)
    }

    #[test]
    fn a_header_names_the_columns_and_without_one_they_are_the_first_two() {
        for text in [
            "ann,\"a,b\"\nbob,c\n",
            "user,item\r\nann,\"a,b\"\r\nbob,c",
            "\u{feff}userId,movieId,rating,timestamp\nann,\"a,b\",3,1\nbob,c,4,2\n",
            "rating,item_id,user_id\n3,\"a,b\",ann\n4, c , bob\n",
            "ann,\"a,b\",5\n\nbob,c,user,item\n",
        ] {
            let pair = |user: &str, item: &str| (user.to_owned(), item.to_owned());
            let expected = [pair("ann", "a,b"), pair("bob", "c")];
            assert_eq!(pairs(text).unwrap(), expected, "{text:?}");
        }
        assert_eq!(pairs("").unwrap(), []);
    }

    #[test]
    fn a_line_without_a_pair_is_named() {
        for (text, line, what) in [
            ("user,item\n1,2\n3\n", ":3: ", "no column for the item"),
            ("1,2\n,2\n", ":2: ", "the user is empty"),
        ] {
            let error = pairs(text).unwrap_err().to_string();
            assert!(error.contains(line) && error.contains(what), "{error}");
        }
    }

    #[test]
    fn the_first_error_of_a_visit_ends_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "1,2\n3,4\n").unwrap();
        let mut visits = 0;
        let stopped = read_pairs(&Input::from(file.path()), |_, _| {
            visits += 1;
            Err(Error::new(ErrorKind::Io, "enough"))
        });
        assert_eq!((stopped.unwrap_err().kind(), visits), (ErrorKind::Io, 1));
    }
}
