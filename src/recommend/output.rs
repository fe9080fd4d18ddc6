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
    /// `user,item,score,rank` and `title` where there are titles.
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

/// Writes recommendations as they come.
pub struct RecommendationWriter<'a, W: Write> {
    out: W,
    format: RecommendationFormat,
    users: &'a Dictionary,
    items: &'a Dictionary,
    text: Vec<u8>,
}

impl<'a, W: Write> RecommendationWriter<'a, W> {
    /// A writer of recommendations from `model`, whose users are those of `users`. Writes the header of a CSV.
    pub fn new(
        out: W,
        format: RecommendationFormat,
        users: &'a Dictionary,
        model: &'a Model,
    ) -> Result<RecommendationWriter<'a, W>> {
        let mut writer = RecommendationWriter {
            out,
            format,
            users,
            items: model.dictionary(Side::Items),
            text: Vec::new(),
        };
        if format == RecommendationFormat::Csv {
            let title = if writer.items.has_titles() {
                ",title"
            } else {
                ""
            };
            writeln!(writer.out, "user,item,score,rank{title}")?;
        }
        Ok(writer)
    }

    /// Writes some users' recommendations.
    pub fn write(&mut self, users: &[UserTop]) -> Result<()> {
        self.text.clear();
        for top in users {
            let user = self.users.id(top.user as usize)?;
            for (rank, candidate) in (1..).zip(&top.items) {
                let item = candidate.item as usize;
                let (id, title) = (self.items.id(item)?, self.items.title(item)?);
                self.line(user, id, candidate.score, rank, title)?;
            }
        }
        self.out.write_all(&self.text)?;
        Ok(())
    }

    fn line(
        &mut self,
        user: &str,
        item: &str,
        score: f32,
        rank: usize,
        title: Option<&str>,
    ) -> Result<()> {
        let has_titles = self.items.has_titles();
        let text = &mut self.text;
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
                write!(
                    text,
                    "{{\"user\":{user},\"item\":{item},\"score\":{score},\"rank\":{rank}"
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

    /// Writes out what is buffered and gives back where it went.
    pub fn finish(mut self) -> Result<W> {
        self.out.flush()?;
        Ok(self.out)
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
