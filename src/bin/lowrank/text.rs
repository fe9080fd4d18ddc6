//! Options that say how ratings are written, of the commands that read text.

use clap::Args;
use lowrank::Result;
use lowrank::ingest::{Columns, Delimiter, FORMATS, InputReport, ReadOptions, format};

use crate::args::choices;
use crate::session::{Session, counted};

/// What the text looks like.
#[derive(Debug, Args)]
#[command(next_help_heading = "Text")]
pub struct TextArgs {
    /// What the text looks like
    #[arg(long, default_value = "auto", value_parser = format_names(), hide_possible_values = true, help = format_help())]
    format: String,
    /// What the columns of delimited text are, in file order: user, item, rating, time, or _ to skip one
    #[arg(long, value_name = "LIST")]
    columns: Option<Columns>,
    /// What separates the columns of delimited text [default: recognised]
    #[arg(long, value_name = "TEXT")]
    delimiter: Option<Delimiter>,
    /// Count lines that cannot be read, rather than stop at the first
    #[arg(long)]
    skip_bad_lines: bool,
}

fn format_names() -> Vec<&'static str> {
    let names = FORMATS.iter().map(|format| format.name());
    std::iter::once("auto").chain(names).collect()
}

fn format_help() -> String {
    let all = FORMATS.iter().map(|f| (f.name(), f.summary()));
    let auto = std::iter::once(("auto", "recognised by its name and its first lines"));
    choices("What the text looks like", auto.chain(all))
}

impl TextArgs {
    /// How to read it.
    pub fn options(&self) -> Result<ReadOptions> {
        Ok(ReadOptions {
            format: match self.format.as_str() {
                "auto" => None,
                name => Some(format(name)?),
            },
            columns: self.columns.clone(),
            delimiter: self.delimiter,
            skip_bad_lines: self.skip_bad_lines,
            ..ReadOptions::default()
        })
    }
}

/// Says what a user should know of what was read.
pub fn tell<'a>(inputs: impl Iterator<Item = &'a InputReport>, session: &Session) {
    for input in inputs {
        let name = input.path.display();
        session.say(format!(
            "{name}: {} ({})",
            counted(input.ratings, "rating"),
            input.format
        ));
        if input.empty_users > 0 {
            session.say(format!(
                "note: {name}: {} without an item, left out",
                counted(input.empty_users, "user")
            ));
        }
        if input.bad_lines > 0 {
            session.say(format!(
                "warning: {name}: {} could not be read, among them",
                counted(input.bad_lines, "line")
            ));
            for reason in &input.reasons {
                session.say(format!("  {reason}"));
            }
        }
    }
}
