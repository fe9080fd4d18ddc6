//! A history or a study, read back from its CSV file.

use std::path::{Path, PathBuf};

use lowrank::{Error, ErrorKind, Result};

use crate::short_text;

/// Columns of numbers, by name. A cell may be empty.
pub struct Curves {
    path: PathBuf,
    names: Vec<String>,
    rows: Vec<Vec<Option<f64>>>,
}

impl Curves {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, has no line, or a cell is not a number.
    pub fn read(path: &Path) -> Result<Curves> {
        let bad = |what: String| Error::new(ErrorKind::BadInput, what).path(path);
        let text = short_text::read(path)?;
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let of_csv = |e: csv::Error| Error::from(e).path(path);
        let names: Vec<String> = reader
            .headers()
            .map_err(of_csv)?
            .iter()
            .map(str::to_owned)
            .collect();
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(of_csv)?;
            let line = record.position().map_or(0, csv::Position::line);
            let number = |cell: &str| match cell {
                "" => Ok(None),
                text => match text.parse::<f64>() {
                    Ok(x) if x.is_finite() => Ok(Some(x)),
                    _ => Err(bad(format!("{text:?} is not a number")).line(line)),
                },
            };
            rows.push(record.iter().map(number).collect::<Result<_>>()?);
        }
        if rows.is_empty() {
            return Err(bad("there is no epoch in this file".to_owned())
                .remedy("give what lowrank train --history or --study wrote"));
        }
        Ok(Curves {
            path: path.to_owned(),
            names,
            rows,
        })
    }

    /// Where it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is a column of this name.
    pub fn has(&self, name: &str) -> bool {
        self.names.iter().any(|n| n == name)
    }

    /// A column.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn column(&self, name: &str) -> Result<Vec<Option<f64>>> {
        let Some(at) = self.names.iter().position(|n| n == name) else {
            let what = format!("there is no column {name}");
            return Err(Error::new(ErrorKind::BadInput, what)
                .path(&self.path)
                .remedy("give what lowrank train --history or --study wrote"));
        };
        Ok(self.rows.iter().map(|row| row[at]).collect())
    }
}
