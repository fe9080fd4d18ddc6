//! The built program, run in a folder of its own.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// A folder that goes away, and the program in it.
pub struct Program {
    dir: TempDir,
}

impl Program {
    /// In an empty folder.
    pub fn new() -> Program {
        Program {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file in the folder.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    /// The program with these arguments, blanks between them, ready to be started in the folder.
    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lowrank"));
        command
            .args(arguments.split_whitespace())
            .current_dir(self.dir.path());
        command
    }

    /// Runs it to its end.
    pub fn run(&self, arguments: &str) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs it, expects that it succeeds, and gives the object that it printed.
    pub fn done(&self, arguments: &str) -> Value {
        let output = self.run(&format!("{arguments} --json --quiet"));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "lowrank {arguments}: {errors}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}
