//! The study of a non-negative factorization as CSV: a line for each iteration.

use std::io::Write;
use std::path::{Path, PathBuf};

use lowrank::matrix::Ratings;
use lowrank::solver::{Options, Study, StudyLine};
use lowrank::store::AtomicFile;
use lowrank::{Error, Parameters, Result};

/// The first column, by which a study is told from a history.
pub const FIRST_COLUMN: &str = "iteration";

/// A study and where it is written.
pub struct StudyFile {
    path: PathBuf,
    study: Study,
    before: Option<Parameters>,
}

impl StudyFile {
    /// A study of training with these options.
    pub fn new(path: &Path, options: &Options) -> Result<StudyFile> {
        Ok(StudyFile {
            path: path.to_owned(),
            study: Study::new(options)?,
            before: None,
        })
    }

    /// Memory that it takes beside the parameters, in bytes: those before an iteration, and how they changed.
    pub fn memory(parameters: u64) -> u64 {
        2 * parameters
    }

    /// Takes note of where training stands: before the first iteration, and after each.
    pub fn observe(&mut self, ratings: &dyn Ratings, now: &Parameters) -> Result<()> {
        if let Some(before) = &self.before {
            self.study.observe(ratings, before, now)?;
        }
        self.before = Some(now.clone());
        self.write()
    }

    /// Writes the whole study anew, so that there is never half a line.
    fn write(&self) -> Result<()> {
        let mut text = format!(
            "{FIRST_COLUMN},objective,descent_v,theta_v,theta_u,objective_drop_v,inner_product,inner_product_pairs,\
             singular_users_min,singular_users_max,singular_items_min,singular_items_max\n"
        );
        for line in self.study.lines() {
            text += &csv_line(line);
        }
        let mut file = AtomicFile::create(&self.path, true)?;
        file.write_all(text.as_bytes())
            .map_err(|e| Error::io(e, &self.path))?;
        file.commit()
    }
}

fn csv_line(line: &StudyLine) -> String {
    let values = [
        Some(line.objective),
        Some(line.descent_v),
        line.theta_v,
        line.theta_u,
        Some(line.objective_drop_v),
        Some(line.inner_product),
        Some(line.inner_product_pairs),
        Some(line.singular_users_min),
        Some(line.singular_users_max),
        Some(line.singular_items_min),
        Some(line.singular_items_max),
    ];
    let cells = values.map(|value| value.map_or(String::new(), |value| value.to_string()));
    format!("{},{}\n", line.iteration, cells.join(","))
}
