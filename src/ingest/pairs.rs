//! Pairs of a user and an item, to be predicted: CSV, one pair a line.

use super::columns::{Role, known_name};
use super::input::Input;
use crate::error::{Error, ErrorKind, Result};
use crate::lines::Records;
use crate::memory::Bytes;

/// Hands on the user and the item of each line of a CSV, in order, and holds one line at a time.
///
/// A first line with known names for both is a header and says which columns they are; without one they are the first
/// two. Other columns are passed over. The text may be compressed, as that of ratings. No line may be longer than those of
/// ratings within the same budget.
///
/// # Errors
/// [`ErrorKind::BadInput`] with file and line where there is no user or no item, or a line is too long; what `visit`
/// returns.
pub fn read_pairs(
    input: &Input,
    budget: Bytes,
    mut visit: impl FnMut(&str, &str) -> Result<()>,
) -> Result<()> {
    input.with_text(&[], |name, text| {
        let mut records = Records::new(text, budget);
        let mut columns = None;
        while let Some((line, record)) = records.next().map_err(|e| e.path(name))? {
            let bad = |what: String| {
                Error::new(ErrorKind::BadInput, what)
                    .path(name)
                    .line(line)
                    .remedy("write a user and an item with a comma between them")
            };
            let (user, item) = match columns {
                Some(columns) => columns,
                None => match header(record) {
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
        Ok(())
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

    const BUDGET: Bytes = Bytes(64 << 20);

    fn pairs(text: &str) -> Result<Vec<(String, String)>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mut pairs = Vec::new();
        read_pairs(&Input::from(file.path()), BUDGET, |user, item| {
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
        let long = format!("1,2\n3,{}\n", "x".repeat(2 << 20));
        for (text, line, what) in [
            ("user,item\n1,2\n3\n", ":3: ", "no column for the item"),
            ("1,2\n,2\n", ":2: ", "the user is empty"),
            (&long, ":2: ", "a line longer than 1048576 bytes"),
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
        let stopped = read_pairs(&Input::from(file.path()), BUDGET, |_, _| {
            visits += 1;
            Err(Error::new(ErrorKind::Io, "enough"))
        });
        assert_eq!((stopped.unwrap_err().kind(), visits), (ErrorKind::Io, 1));
    }
}
