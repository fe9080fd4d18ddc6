//! Recommendations as text: CSV, or one JSON object a line.

use std::io::Write;
use std::path::Path;

use super::UserTop;
use crate::error::Result;
use crate::matrix::Side;
use crate::model::Model;
use crate::store::Dictionary;

/// How recommendations are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecommendationFormat {
    /// `user,item,score,rank` and `title` where there are titles; of likeness, `item,similar,cosine,rank` and `title`.
    Csv,
    /// The same names in one JSON object a line.
    JsonLines,
}

impl RecommendationFormat {
    /// By the extension: `.jsonl`, `.ndjson` or `.json` for JSON lines, else CSV.
    pub fn of(path: &Path) -> RecommendationFormat {
        match path.extension().and_then(|e| e.to_str()) {
            Some("jsonl" | "ndjson" | "json") => RecommendationFormat::JsonLines,
            _ => RecommendationFormat::Csv,
        }
    }
}

/// Turns recommendations into text. Any number of threads may do so at once.
#[derive(Clone, Copy)]
pub struct RecommendationText<'a> {
    format: RecommendationFormat,
    users: Ids<'a>,
    items: &'a Dictionary,
    /// What users, items and scores are called.
    names: [&'static str; 3],
}

/// Ids of those who are recommended to, by their numbers.
#[derive(Clone, Copy)]
pub enum Ids<'a> {
    /// A store's or a model's.
    Dictionary(&'a Dictionary),
    /// In the order in which they came.
    List(&'a [String]),
}

impl<'a> Ids<'a> {
    /// The id of a number.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn id(&self, number: u32) -> Result<&'a str> {
        match *self {
            Ids::Dictionary(dictionary) => dictionary.id(number as usize),
            Ids::List(list) => Ok(&list[number as usize]),
        }
    }

    /// Gives back the memory that ids take until they are next looked at.
    pub fn release(&self) {
        if let Ids::Dictionary(dictionary) = self {
            dictionary.release();
        }
    }

    /// The number of an id, if it is known.
    ///
    /// # Errors
    /// If ids cannot be read.
    pub fn find(&self, id: &str) -> Result<Option<u32>> {
        match *self {
            Ids::Dictionary(dictionary) => dictionary.lookup(id),
            Ids::List(list) => Ok((0..).zip(list).find(|(_, known)| *known == id).map(|x| x.0)),
        }
    }
}

impl<'a> RecommendationText<'a> {
    /// Text of recommendations from `model`, whose users are those of `users`.
    pub fn new(
        format: RecommendationFormat,
        users: Ids<'a>,
        model: &'a Model,
    ) -> RecommendationText<'a> {
        RecommendationText {
            format,
            users,
            items: model.dictionary(Side::Items),
            names: ["user", "item", "score"],
        }
    }

    /// Text of what is like what, among the rows of one side.
    pub fn of_likeness(
        format: RecommendationFormat,
        model: &'a Model,
        side: Side,
    ) -> RecommendationText<'a> {
        let rows = model.dictionary(side);
        RecommendationText {
            format,
            users: Ids::Dictionary(rows),
            items: rows,
            names: [side.noun(), "similar", "cosine"],
        }
    }

    /// What comes before all recommendations: the names of a CSV's columns.
    pub fn header(&self) -> String {
        let title = if self.items.has_titles() {
            ",title"
        } else {
            ""
        };
        match self.format {
            RecommendationFormat::JsonLines => String::new(),
            RecommendationFormat::Csv => format!("{},rank{title}\n", self.names.join(",")),
        }
    }

    /// Some users' recommendations, line by line.
    ///
    /// # Errors
    /// If an id cannot be read.
    pub fn lines(&self, users: &[UserTop]) -> Result<Vec<u8>> {
        // About as long as lines are without titles.
        let lines: usize = users.iter().map(|top| top.items.len()).sum();
        let mut text = Vec::with_capacity(32 * lines);
        for top in users {
            let user = self.users.id(top.user)?;
            for (rank, candidate) in (1..).zip(&top.items) {
                let item = candidate.item as usize;
                let (id, title) = (self.items.id(item)?, self.items.title(item)?);
                self.line(&mut text, user, id, candidate.score, rank, title)?;
            }
        }
        Ok(text)
    }

    fn line(
        &self,
        text: &mut Vec<u8>,
        user: &str,
        item: &str,
        score: f32,
        rank: usize,
        title: Option<&str>,
    ) -> Result<()> {
        let has_titles = self.items.has_titles();
        match self.format {
            RecommendationFormat::Csv => {
                csv_field(text, user);
                text.push(b',');
                csv_field(text, item);
                write!(text, ",{score},{rank}")?;
                if has_titles {
                    text.push(b',');
                    csv_field(text, title.unwrap_or(""));
                }
            }
            RecommendationFormat::JsonLines => {
                let json = |text: &str| serde_json::to_string(text).map_err(std::io::Error::from);
                let (user, item) = (json(user)?, json(item)?);
                let [of, to, by] = self.names;
                write!(
                    text,
                    "{{\"{of}\":{user},\"{to}\":{item},\"{by}\":{score},\"rank\":{rank}"
                )?;
                if let Some(title) = title {
                    write!(text, ",\"title\":{}", json(title)?)?;
                }
                text.push(b'}');
            }
        }
        text.push(b'\n');
        Ok(())
    }
}

/// A field, quoted where it has to be (RFC 4180).
fn csv_field(out: &mut Vec<u8>, text: &str) {
    if !text.contains(['"', ',', '\n', '\r']) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    out.push(b'"');
    out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
    out.push(b'"');
}
