//! What every command has at hand: budget, threads, and where to say things.

use std::io::{self, Write};

use lowrank::memory::{Bytes, Plan};
use lowrank::threads::Threads;
use lowrank::{Error, ErrorKind, Result};
use serde::Serialize;

use crate::args::Common;
use crate::bars::Bars;

/// The state of one run of the program.
pub struct Session {
    /// The threads that drivers run on.
    pub threads: Threads,
    /// The budget, if one was named.
    pub memory: Option<Bytes>,
    /// Progress bars on standard error.
    pub bars: Bars,
    results: Results,
    quiet: bool,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Results {
    Text,
    Json,
    Hidden,
}

impl Session {
    /// Sets up what the options ask for.
    pub fn new(common: &Common) -> Result<Session> {
        Ok(Session {
            threads: Threads::new(common.threads.map(usize::from))?,
            memory: common.memory,
            bars: Bars::new(common.quiet),
            results: match common.json {
                true => Results::Json,
                false => Results::Text,
            },
            quiet: common.quiet,
        })
    }

    /// An empty plan against the budget.
    pub fn plan(&self) -> Plan {
        Plan::within(self.memory)
    }

    /// Says something on standard error, unless it was asked to be quiet.
    pub fn say(&self, message: impl AsRef<str>) {
        if !self.quiet {
            self.bars.println(message.as_ref());
        }
    }

    /// Prints the result on standard output: as JSON if that is wanted, else as text.
    ///
    /// # Errors
    /// If standard output cannot be written to.
    pub fn print(&self, result: &impl Serialize, text: impl AsRef<str>) -> Result<()> {
        let mut out = io::stdout().lock();
        let written = match self.results {
            Results::Text => out.write_all(text.as_ref().as_bytes()),
            Results::Json => serde_json::to_writer_pretty(&mut out, result)
                .map_err(io::Error::from)
                .and_then(|()| writeln!(out)),
            Results::Hidden => Ok(()),
        };
        written
            .and_then(|()| out.flush())
            .map_err(|e| Error::io(e, "<stdout>"))
    }

    /// Whether results are one JSON object.
    pub fn is_json(&self) -> bool {
        self.results == Results::Json
    }

    /// Prints no results and says nothing until `work` is done.
    pub fn silently<T>(&mut self, work: impl FnOnce(&Session) -> T) -> T {
        let before = (self.results, self.quiet);
        (self.results, self.quiet) = (Results::Hidden, true);
        let done = work(self);
        (self.results, self.quiet) = before;
        done
    }

    /// Says that standard output is taken by lines of data.
    ///
    /// # Errors
    /// If it was promised to one JSON object.
    pub fn give_stdout_to_data(&self) -> Result<()> {
        match self.is_json() {
            false => Ok(()),
            true => Err(Error::new(
                ErrorKind::BadOption,
                "standard output cannot take both the data and --json",
            )
            .remedy("write the data to a file with --out FILE")),
        }
    }
}

/// A number with its thousands apart, as people read it.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 user`, `2 users`.
pub fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(number))
}

/// Lines of a name and a value, aligned.
pub fn aligned(lines: &[(&str, String)]) -> String {
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let line = |(name, value): &(&str, String)| format!("{name:width$}  {value}\n");
    lines.iter().map(line).collect()
}
