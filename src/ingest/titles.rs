//! Titles and categories of items, by the items' own ids.

use std::collections::HashMap;
use std::io::Read;

use super::Input;
use crate::error::{AtPath, Error, ErrorKind, Result};
use crate::memory::Bytes;

/// Titles by external id.
pub type Titles = HashMap<Box<str>, Box<str>>;

/// Categories by external id.
pub type Categories = HashMap<Box<str>, Vec<Box<str>>>;

/// The members of a zip archive that hold titles; the first that occurs is read.
const TITLES: &[&str] = &["movies.csv", "movies.dat", "u.item"];

/// Bytes that a title or a category takes beside its text and its id: two allocations and a place in a table.
const ENTRY_BYTES: u64 = 96;

/// Memory that titles take until they are written, in bytes.
pub(super) fn memory(titles: &Titles) -> u64 {
    let text = titles.iter().map(|(id, title)| id.len() + title.len());
    text.sum::<usize>() as u64 + titles.len() as u64 * ENTRY_BYTES
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
    read(input, most, titles)
}

/// Reads categories: the genres of `movies.csv`, `movies.dat` or `u.item` of MovieLens, or any text whose first columns are
/// id, title and categories, or whose header says where id and categories are. Several categories of an item have `|`
/// between them. Otherwise as [`read_titles`].
///
/// # Errors
/// As [`read_titles`], and if the text has no third column.
pub fn read_categories(input: &Input, most: Bytes) -> Result<Categories> {
    read(input, most, categories)
}

/// Reads a bounded text, and what is in it, which `parse` bounds by the same bytes.
fn read<T>(input: &Input, most: Bytes, parse: impl Fn(&str, Bytes) -> Result<T>) -> Result<T> {
    if input.memory()? > most.0 {
        return Err(too_many(most).path(input.name()));
    }
    input.with_text(TITLES, |path, source| {
        let mut bytes = Vec::new();
        let mut bounded = source.take(most.0.saturating_add(1));
        bounded.read_to_end(&mut bytes).at(path)?;
        if bytes.len() as u64 > most.0 {
            return Err(too_many(most).path(path));
        }
        let text = String::from_utf8(bytes).unwrap_or_else(|e| {
            e.into_bytes()
                .iter()
                .map(|&byte| char::from(byte))
                .collect()
        });
        parse(text.trim_start_matches('\u{feff}'), most).map_err(|e| e.path(path))
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

fn titles(text: &str, most: Bytes) -> Result<Titles> {
    let (mut titles, mut held) = (Titles::new(), 0);
    each_line(text, 1, TITLE_NAMES, |id, fields, column| {
        let title = fields.get(column).ok_or_else(|| missing("title"))?.trim();
        if held <= most.0 && !id.is_empty() && !title.is_empty() {
            titles.entry(id.into()).or_insert_with(|| {
                held += (id.len() + title.len()) as u64 + ENTRY_BYTES;
                title.into()
            });
        }
        Ok(())
    })?;
    within(held, most).map(|()| titles)
}

fn categories(text: &str, most: Bytes) -> Result<Categories> {
    let (mut categories, mut held) = (Categories::new(), 0);
    each_line(text, 2, CATEGORY_NAMES, |id, fields, column| {
        let of_item: Vec<Box<str>> = match fields.get(FLAGS..) {
            // u.item has a column for each genre, 1 if a film is of it.
            Some(flags) if flags.len() == GENRES.len() => {
                let of = GENRES.iter().zip(flags).filter(|(_, flag)| **flag == "1");
                of.map(|(genre, _)| (*genre).into()).collect()
            }
            _ => {
                let field = fields.get(column).ok_or_else(|| missing("category"))?;
                let names = field.split('|').map(str::trim);
                names
                    .filter(|name| !name.is_empty())
                    .map(Into::into)
                    .collect()
            }
        };
        if held <= most.0 && !id.is_empty() {
            categories.entry(id.into()).or_insert_with(|| {
                let names = of_item.iter().map(|name| name.len() as u64 + ENTRY_BYTES);
                held += id.len() as u64 + ENTRY_BYTES + names.sum::<u64>();
                of_item
            });
        }
        Ok(())
    })?;
    within(held, most).map(|()| categories)
}

/// Shows each line with an item to `visit`: its id, its fields, and which of them it is about: the one that a header calls
/// by one of `names`, or else this.
fn each_line(
    text: &str,
    otherwise: usize,
    names: &[&str],
    mut visit: impl FnMut(&str, &[&str], usize) -> Result<()>,
) -> Result<()> {
    let first = text.lines().find(|line| !line.trim().is_empty());
    let first = first.unwrap_or_default();
    let separator = first.find([',', ';', '|', '\t']);
    let double_colon = first.find("::");
    let (mut id, mut column) = (0, otherwise);
    let mut take = |at: usize, line: u64, fields: &[&str]| {
        let named = |names: &[&str]| {
            let is_named = |field: &&str| names.contains(&field.trim().to_lowercase().as_str());
            fields.iter().position(is_named)
        };
        if at == 0
            && let (Some(id_column), Some(named_column)) = (named(ID_NAMES), named(names))
        {
            (id, column) = (id_column, named_column);
            return Ok(());
        }
        let own = fields.get(id).copied().unwrap_or_default();
        visit(own.trim(), fields, column).map_err(|e| e.line(line))
    };
    if double_colon.is_some_and(|at| separator.is_none_or(|other| at < other)) {
        let lines = (1..).zip(text.lines());
        let lines = lines.filter(|(_, text)| !text.trim().is_empty());
        for (at, (line, text)) in lines.enumerate() {
            take(at, line, &text.split("::").collect::<Vec<_>>())?;
        }
        return Ok(());
    }
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
    for (at, record) in reader.records().enumerate() {
        let record = record.map_err(std::io::Error::from)?;
        let line = record.position().map_or(0, csv::Position::line);
        take(at, line, &record.iter().collect::<Vec<_>>())?;
    }
    Ok(())
}

fn within(held: u64, most: Bytes) -> Result<()> {
    match held > most.0 {
        true => Err(too_many(most)),
        false => Ok(()),
    }
}

fn too_many(most: Bytes) -> Error {
    Error::new(ErrorKind::OverBudget, format!("more than {most} of titles"))
        .remedy("give more --memory, or leave out what is said of items that nobody rates")
}

fn missing(what: &str) -> Error {
    Error::new(
        ErrorKind::BadInput,
        format!("no {what} beside the item's id"),
    )
}

const ID_NAMES: &[&str] = &[
    "movieid", "movie_id", "itemid", "item_id", "item", "id", "isbn", "asin",
];
const TITLE_NAMES: &[&str] = &["title", "movie_title", "name", "book-title"];

const CATEGORY_NAMES: &[&str] = &["genres", "genre", "categories", "category"];

/// The columns of u.item before those of genres, ...
const FLAGS: usize = 5;
/// ... and those, as its README lists them.
const GENRES: [&str; 19] = [
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
];

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::path::Path;

    use super::*;

    const MOST: Bytes = Bytes(1000);

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
    fn the_three_kinds_of_file_give_categories() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
        for name in &TITLES[..2] {
            let categories = read_categories(&Input::from(folder.join(name)), Bytes(4000)).unwrap();
            let of = |id: &str| categories[id].iter().map(|x| &**x).collect::<Vec<_>>();
            assert_eq!(
                (of("1"), of("3")),
                (vec!["Drama"], vec!["Drama", "Romance"]),
                "{name}"
            );
        }
        // Documentary, the eighth, and Western, the last.
        let flags = "0|0|0|0|0|0|0|1|0|0|0|0|0|0|0|0|0|0|1";
        let of_flags = categories(&format!("7|Rain|01-Jan-1960|||{flags}\n"), MOST).unwrap();
        assert_eq!(of_flags["7"], ["Documentary".into(), "Western".into()]);
        let own = categories("kind,category,item\nx,a| b |,1\ny,,2\n", MOST).unwrap();
        assert_eq!(own["1"], ["a".into(), "b".into()]);
        assert!(own["2"].is_empty());
        let error = categories("1,Quiet\n", MOST).unwrap_err().to_string();
        assert!(error.starts_with("line 1: no category beside"), "{error}");
    }

    #[test]
    fn headers_may_put_the_columns_anywhere() {
        let titles = titles(
            "year\tname\titem_id\n1931\tQuiet\ta\n1954\tPaper\tb\n1960\tOther\ta\n",
            MOST,
        );
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
            let error = titles(text, MOST).unwrap_err().to_string();
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
