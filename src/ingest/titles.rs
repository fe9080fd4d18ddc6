//! Titles of items, by the items' own ids.

use std::collections::HashMap;
use std::io::Read;

use super::Input;
use crate::error::{AtPath, Error, ErrorKind, Result};

/// Titles by external id.
pub type Titles = HashMap<Box<str>, Box<str>>;

/// The members of a zip archive that hold titles; the first that occurs is read.
const TITLES: &[&str] = &["movies.csv", "movies.dat", "u.item"];

/// Titles are held in memory until they are written, and a small archive may hold a lot of them.
const MOST_BYTES: u64 = 128 << 20;

/// Reads titles: `movies.csv`, `movies.dat` or `u.item` of MovieLens, or any text whose first columns are id and title, or
/// whose header says where they are.
///
/// The delimiter is the one that occurs first, of `,` `;` `|` `::` and tab. Text that is not UTF-8 is taken for Latin-1.
/// The first title of an id counts. Input and archives may be compressed as ratings may.
pub fn read_titles(input: &Input) -> Result<Titles> {
    input.with_text(TITLES, |path, source| {
        let mut bytes = Vec::new();
        let mut bounded = source.take(MOST_BYTES + 1);
        bounded.read_to_end(&mut bytes).at(path)?;
        if bytes.len() as u64 > MOST_BYTES {
            let what = format!("more than {MOST_BYTES} bytes of titles");
            return Err(Error::new(ErrorKind::BadInput, what)
                .path(path)
                .remedy("leave out the titles of what nobody rates"));
        }
        let text = String::from_utf8(bytes).unwrap_or_else(|e| {
            e.into_bytes()
                .iter()
                .map(|&byte| char::from(byte))
                .collect()
        });
        parse(text.trim_start_matches('\u{feff}')).map_err(|e| e.path(path))
    })
}

/// The titles in the archive that also holds the ratings, if `ratings` is a zip archive with titles.
pub fn bundled_titles(ratings: &Input) -> Result<Option<Titles>> {
    if ratings.has_member(TITLES)? {
        read_titles(ratings).map(Some)
    } else {
        Ok(None)
    }
}

fn parse(text: &str) -> Result<Titles> {
    let mut titles = Titles::new();
    let mut add = |id: &str, title: &str| {
        let (id, title) = (id.trim(), title.trim());
        if !id.is_empty() && !title.is_empty() {
            titles.entry(id.into()).or_insert_with(|| title.into());
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
    Ok(titles)
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
    use std::path::Path;

    use super::*;

    #[test]
    fn the_three_kinds_of_file_give_the_same_titles() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
        for name in TITLES {
            let titles = read_titles(&Input::from(folder.join(name))).unwrap();
            assert_eq!(titles.len(), 4, "{name}");
            assert_eq!(&*titles["1"], "Quiet Harbour, The (1931)");
            assert_eq!(&*titles["3"], "Paper Lanterns (1954)");
            assert_eq!(&*titles["12"], "The \"Last\" Train (1960)");
            assert_eq!(&*titles["5"], "Café Sous la Pluie (1972)");
        }
    }

    #[test]
    fn headers_may_put_the_columns_anywhere() {
        let titles = parse("year\tname\titem_id\n1931\tQuiet\ta\n1954\tPaper\tb\n1960\tOther\ta\n");
        let titles = titles.unwrap();
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
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(what), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ratings.csv");
        fs::write(&path, "1,2,3\n").unwrap();
        assert_eq!(bundled_titles(&Input::from(path)).unwrap(), None);
    }
}
