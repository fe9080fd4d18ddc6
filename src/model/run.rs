//! `run.json`: what a run took, apart from all that changes the model.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{AtPath, Error, ErrorKind, Result};
use crate::train::Pace;

/// What a run took: everything about it that does not change the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The pace of each line of the history.
    pub epochs: Vec<Pace>,
    /// Seconds from the first line to the last.
    pub seconds: f64,
    /// Threads that it ran on.
    pub threads: usize,
    /// Bytes that it was allowed.
    pub memory: u64,
    /// Where the ratings were.
    pub store: String,
}

/// What comes before the checksum in `run.json`, the last member of its object.
const RUN_CRC: &str = ",\n  \"crc32\": ";

impl Run {
    /// As JSON, with a checksum of all that comes before it.
    pub(super) fn text(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self).map_err(std::io::Error::from)?;
        let body = text.trim_end_matches("\n}");
        let crc = crc32fast::hash(body.as_bytes());
        Ok(format!("{body}{RUN_CRC}{crc}\n}}"))
    }
}

/// Reads what a run took.
///
/// # Errors
/// [`ErrorKind::Damaged`] if it cannot be read, or has a checksum and is altered.
pub fn read_run(path: &Path) -> Result<Run> {
    let path = path.join("run.json");
    let text = std::fs::read(&path).at(&path)?;
    let text = String::from_utf8_lossy(&text);
    let damaged = |what: String| Error::new(ErrorKind::Damaged, what).path(&path);
    let text = match text.rsplit_once(RUN_CRC) {
        Some((body, crc)) => {
            if crc.strip_suffix("\n}") != Some(&*crc32fast::hash(body.as_bytes()).to_string()) {
                return Err(damaged("it fails its checksum".into()));
            }
            format!("{body}\n}}")
        }
        None => text.into_owned(),
    };
    serde_json::from_str(&text).map_err(|e| damaged(e.to_string()))
}
