//! What the columns of delimited text mean: as the user says, as a header says, or by their number.

use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// What one column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The user's id.
    User,
    /// The item's id.
    Item,
    /// The rating.
    Rating,
    /// When it was given, in seconds.
    Time,
    /// Something else, passed over.
    Skip,
}

/// Names by which headers call the columns, in small letters and without blanks, hyphens and underscores.
const HEADER_NAMES: &[(Role, &[&str])] = &[
    (
        Role::User,
        &["user", "userid", "uid", "reviewerid", "customerid"],
    ),
    (
        Role::Item,
        &[
            "item",
            "itemid",
            "iid",
            "movie",
            "movieid",
            "productid",
            "product",
            "isbn",
            "asin",
            "bookid",
        ],
    ),
    (
        Role::Rating,
        &["rating", "score", "stars", "bookrating", "overall", "value"],
    ),
    (
        Role::Time,
        &["time", "timestamp", "ts", "unixtime", "unixreviewtime"],
    ),
];

/// The roles of the columns, in file order: one user, one item, at most one rating and one time. Columns beyond the last
/// are passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns(Vec<Role>);

impl Columns {
    /// Checks that there is one user and one item, and no role twice.
    pub fn new(roles: Vec<Role>) -> Result<Columns> {
        let bad = |what: String| {
            Err(Error::new(ErrorKind::BadOption, what)
                .remedy("give the columns in file order, such as user,item,rating,time"))
        };
        for (role, noun) in [
            (Role::User, "user"),
            (Role::Item, "item"),
            (Role::Rating, "rating"),
            (Role::Time, "time"),
        ] {
            match roles.iter().filter(|&&given| given == role).count() {
                0 if matches!(role, Role::User | Role::Item) => {
                    return bad(format!("no column for the {noun}"));
                }
                0 | 1 => {}
                _ => return bad(format!("two columns for the {noun}")),
            }
        }
        Ok(Columns(roles))
    }

    /// The roles, in file order.
    pub fn roles(&self) -> &[Role] {
        &self.0
    }

    /// Text without a header: user, item, rating, time, as many as there are; none if there are others.
    pub(super) fn by_count(count: usize) -> Option<Columns> {
        const ORDER: [Role; 4] = [Role::User, Role::Item, Role::Rating, Role::Time];
        (2..=4)
            .contains(&count)
            .then(|| Columns(ORDER[..count].to_vec()))
    }

    /// What a header says; none if these are not the names of a user's and an item's column.
    pub(super) fn by_names(names: &[&[u8]]) -> Result<Option<Columns>> {
        let mut roles = Vec::with_capacity(names.len());
        let mut unknown = None;
        for name in names {
            let role = known_name(name).filter(|role| !roles.contains(role));
            if role.is_none() {
                unknown.get_or_insert(name);
            }
            roles.push(role.unwrap_or(Role::Skip));
        }
        if !roles.contains(&Role::User) || !roles.contains(&Role::Item) {
            return Ok(None);
        }
        if let Some(unknown) = unknown
            && !roles.contains(&Role::Rating)
        {
            // Whether that is the rating must not be guessed.
            let message = format!(
                "no column is known as the rating, and \"{}\" may be it",
                String::from_utf8_lossy(unknown)
            );
            return Err(Error::new(ErrorKind::BadInput, message).remedy(
                "say what the columns are, such as --columns user,item,rating, with _ for one to pass over",
            ));
        }
        let used = roles.iter().rposition(|&role| role != Role::Skip);
        roles.truncate(used.map_or(0, |last| last + 1));
        Ok(Some(Columns(roles)))
    }

    /// Whether the first line, with these fields, is a header over these columns: its names are known, or there is no
    /// number in it, not even where the rating or the time belongs.
    pub(super) fn headed_by(&self, fields: &[&[u8]]) -> bool {
        let number = |field: &[u8]| {
            std::str::from_utf8(field).is_ok_and(|text| text.trim().parse::<f64>().is_ok())
        };
        let numeric = self
            .0
            .iter()
            .zip(fields)
            .any(|(role, _)| matches!(role, Role::Rating | Role::Time));
        !matches!(Columns::by_names(fields), Ok(None))
            || (numeric && !fields.iter().any(|field| number(field)))
    }
}

impl FromStr for Columns {
    type Err = Error;

    /// Reads a list such as `user,item,rating,time`; `_` or `skip` passes a column over.
    fn from_str(list: &str) -> Result<Columns> {
        let roles = list.split(',').map(|name| match name.trim() {
            "user" => Ok(Role::User),
            "item" => Ok(Role::Item),
            "rating" => Ok(Role::Rating),
            "time" => Ok(Role::Time),
            "_" | "skip" => Ok(Role::Skip),
            other => Err(
                Error::new(ErrorKind::BadOption, format!("no column \"{other}\""))
                    .remedy("choose among user, item, rating, time and _ (to pass one over)"),
            ),
        });
        Columns::new(roles.collect::<Result<_>>()?)
    }
}

pub(super) fn known_name(name: &[u8]) -> Option<Role> {
    let plain: String = String::from_utf8_lossy(name)
        .chars()
        .filter(|c| !matches!(c, ' ' | '-' | '_'))
        .flat_map(char::to_lowercase)
        .collect();
    HEADER_NAMES
        .iter()
        .find(|(_, names)| names.contains(&plain.as_str()))
        .map(|(role, _)| *role)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(header: &str) -> Result<Option<Columns>> {
        Columns::by_names(&header.split(',').map(str::as_bytes).collect::<Vec<_>>())
    }

    #[test]
    fn headers_say_what_the_columns_are() {
        use Role::{Item, Rating, Skip, Time, User};
        let roles = |header| names(header).unwrap().map(|columns| columns.0);
        assert_eq!(
            roles("userId,movieId,rating,timestamp"),
            Some(vec![User, Item, Rating, Time])
        );
        assert_eq!(
            roles("Review,ITEM_ID,User-ID,stars,text"),
            Some(vec![Skip, Item, User, Rating])
        );
        assert_eq!(roles("user,item,time"), Some(vec![User, Item, Time]));
        assert_eq!(roles("movieId,title,genres"), None);
        assert_eq!(roles("1,2,3"), None);
        let error = names("userId,movieId,tag,timestamp").unwrap_err();
        assert!(error.to_string().contains("\"tag\" may be it"), "{error}");
    }

    #[test]
    fn a_first_line_without_any_number_is_a_header() {
        let columns: Columns = "user,item,rating".parse().unwrap();
        assert!(columns.headed_by(&[b"who", b"what", b"how much"]));
        assert!(!columns.headed_by(&[b"1", b"2", b"bad"]));
        assert!(!columns.headed_by(&[b"ann", b"tea", b"4"]));
        let pairs: Columns = "user,item".parse().unwrap();
        assert!(!pairs.headed_by(&[b"ann", b"tea"]));
        assert!(pairs.headed_by(&[b"user", b"item"]));
    }

    #[test]
    fn lists_that_make_no_sense_are_refused() {
        for (list, what) in [
            ("user,rating", "no column for the item"),
            ("user,item,user", "two columns for the user"),
            ("user,item,genre", "no column \"genre\""),
        ] {
            let error = list.parse::<Columns>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadOption);
            assert!(error.to_string().starts_with(what), "{error}");
        }
    }
}
