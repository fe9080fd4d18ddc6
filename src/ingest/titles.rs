//! Titles of items, by the items' own ids.

use std::collections::HashMap;
use std::io::Read;

use super::Input;
use crate::error::{AtPath, Error, ErrorKind, Result};
use crate::memory::Bytes;

/// Titles by external id.
pub type Titles = HashMap<Box<str>, Box<str>>;

/// The members of a zip archive that hold titles; the first that occurs is read.
const TITLES: &[&str] = &["movies.csv", "movies.dat", "u.item"];

/// Bytes that a title takes beside its text and its id: two allocations and a place in a table.
const TITLE_BYTES: u64 = 96;

/// Memory that titles take until they are written, in bytes.
pub(super) fn memory(titles: &Titles) -> u64 {
    let text = titles.iter().map(|(id, title)| id.len() + title.len());
    text.sum::<usize>() as u64 + titles.len() as u64 * TITLE_BYTES
}

/// Reads titles: `movies.csv`, `movies.dat` or `u.item` of MovieLens, or any text whose first columns are id and title, or
/// whose header says where they are.
///
/// The delimiter is the one that occurs first, of `,` `;` `|` `::` and tab. Text that is not UTF-8 is taken for Latin-1.
/// The first title of an id counts. Input and archives may be compressed as ratings may. A small archive may hold a lot
/// of text: neither that nor the titles may take more than `most` bytes.
///
/// # Errors
/// [`ErrorKind::OverBudget`] if they take more; [`ErrorKind::BadInput`] if there are none, or a line has none.
pub fn read_titles(input: &Input, most: Bytes) -> Result<Titles> {
    let too_many = || {
        Error::new(ErrorKind::OverBudget, format!("more than {most} of titles"))
            .remedy("give more --memory, or leave out the titles of what nobody rates")
    };
    if input.memory()? > most.0 {
        return Err(too_many().path(input.name()));
    }
    input.with_text(TITLES, |path, source| {
        let mut bytes = Vec::new();
        let mut bounded = source.take(most.0.saturating_add(1));
        bounded.read_to_end(&mut bytes).at(path)?;
        if bytes.len() as u64 > most.0 {
            return Err(too_many().path(path));
        }
        let text = String::from_utf8(bytes).unwrap_or_else(|e| {
            e.into_bytes()
                .iter()
                .map(|&byte| char::from(byte))
                .collect()
        });
        let titles = parse(text.trim_start_matches('\u{feff}'), most.0);
        titles
            .and_then(|titles| titles.ok_or_else(too_many))
            .map_err(|e| e.path(path))
    })
}

/// The titles in the archive that also holds the ratings, if `ratings` is a zip archive with titles.
///
/// # Errors
/// As [`read_titles`].
pub fn bundled_titles(ratings: &Input, most: Bytes) -> Result<Option<Titles>> {
    if ratings.has_member(TITLES)? {
        read_titles(ratings, most).map(Some)
    } else {
        Ok(None)
    }
}

/// The titles of a text, unless they take more than `most` bytes.
fn parse(text: &str, most: u64) -> Result<Option<Titles>> {
    let (mut titles, mut held) = (Titles::new(), 0);
    let mut add = |id: &str, title: &str| {
        let (id, title) = (id.trim(), title.trim());
        if held <= most && !id.is_empty() && !title.is_empty() {
            titles.entry(id.into()).or_insert_with(|| {
                held += (id.len() + title.len()) as u64 + TITLE_BYTES;
                title.into()
            });
        }
    };
    let first = text.lines().find(|line| !line.trim().is_empty());
    let first = first.unwrap_or_default();
    let separator = first.find([',', ';', '|', '\t']);
    let double_colon = first.find("::");
    if double_colon.is_some_and(|at| separator.is_none_or(|other| at < other)) {
        for (line, text) in (1..).zip(text.lines()) {
            if text.trim().is_empty() {
                continue;
            }
            let mut fields = text.split("::");
            match (fields.next(), fields.next()) {
                (Some(id), Some(title)) => add(id, title),
                _ => return Err(no_title().line(line)),
            }
        }
    } else {
        let Some(separator) = separator else {
            return Err(Error::new(ErrorKind::BadInput, "no titles in it")
                .remedy("give a file with an item's id and its title on each line"));
        };
        let delimiter = first.as_bytes()[separator];
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            // A bar is no delimiter of RFC 4180: quotes in u.item are part of the title.
            .quoting(delimiter != b'|')
            .has_headers(false)
            .flexible(true)
            .from_reader(text.as_bytes());
        let (mut id, mut title) = (0, 1);
        for (row, record) in reader.records().enumerate() {
            let record = record.map_err(std::io::Error::from)?;
            let named = |names: &[&str]| {
                record
                    .iter()
                    .position(|name| names.contains(&name.trim().to_lowercase().as_str()))
            };
            if row == 0
                && let (Some(id_column), Some(title_column)) = (named(ID_NAMES), named(TITLE_NAMES))
            {
                (id, title) = (id_column, title_column);
                continue;
            }
            match (record.get(id), record.get(title)) {
                (Some(id), Some(title)) => add(id, title),
                _ => return Err(no_title().line(record.position().map_or(0, csv::Position::line))),
            }
        }
    }
    Ok((held <= most).then_some(titles))
}

const ID_NAMES: &[&str] = &[
    "movieid", "movie_id", "itemid", "item_id", "item", "id", "isbn", "asin",
];
const TITLE_NAMES: &[&str] = &["title", "movie_title", "name", "book-title"];

fn no_title() -> Error {
    Error::new(ErrorKind::BadInput, "no title beside the item's id")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_three_kinds_of_file_give_the_same_titles() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
        for name in TITLES {
            let titles = read_titles(&Input::from(folder.join(name)), Bytes(1000)).unwrap();
            assert_eq!(titles.len(), 4, "{name}");
            assert_eq!(&*titles["1"], "Quiet Harbour, The (1931)");
            assert_eq!(&*titles["3"], "Paper Lanterns (1954)");
            assert_eq!(&*titles["12"], "The \"Last\" Train (1960)");
            assert_eq!(&*titles["5"], "Café Sous la Pluie (1972)");
        }
    }

    #[test]
    fn headers_may_put_the_columns_anywhere() {
        let text = "year\tname\titem_id\n1931\tQuiet\ta\n1954\tPaper\tb\n1960\tOther\ta\n";
        let titles = parse(text, 1000).unwrap().unwrap();
        assert_eq!((&*titles["a"], &*titles["b"]), ("Quiet", "Paper"));
    }

    #[test]
    fn what_has_no_titles_is_refused() {
        for (text, what) in [
            ("", "no titles in it"),
            ("just words\n", "no titles in it"),
            ("1,Quiet\n2\n", "line 2: no title beside"),
            ("1::Quiet\n\n2\n", "line 3: no title beside"),
        ] {
            let error = parse(text, 1000).unwrap_err().to_string();
            assert!(error.starts_with(what), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ratings.csv");
        fs::write(&path, "1,2,3\n").unwrap();
        assert_eq!(bundled_titles(&Input::from(path), Bytes(0)).unwrap(), None);
    }

    #[test]
    fn no_more_is_read_or_held_than_may_be() {
        let folder = tempfile::tempdir().unwrap();
        let input = Input::from(folder.path().join("titles.csv"));
        // The first is too much as text, the second with what a title takes beside its text.
        for (text, enough) in [("1,A very long title\n", 114), ("1,A\n2,B\n3,C\n", 294)] {
            fs::write(input.name(), text).unwrap();
            let titles = read_titles(&input, Bytes(enough)).unwrap();
            assert_eq!(memory(&titles), enough, "{text}");
            for most in [0, 10, enough - 1] {
                let error = read_titles(&input, Bytes(most)).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::OverBudget);
                assert!(
                    error.to_string().contains("titles.csv: more than"),
                    "{error}"
                );
            }
        }
        // What would take a window of 8 MiB to unpack is not begun with.
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(23).unwrap();
        encoder.write_all(b"1,A\n").unwrap();
        fs::write(input.name(), encoder.finish().unwrap()).unwrap();
        let error = read_titles(&input, Bytes(8 << 20)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OverBudget);
    }
}
