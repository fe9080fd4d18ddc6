//! The command line of lowrank: flags and glue; whatever it can do, the library can.

mod args;
mod bars;
mod evaluate;
mod import;
mod recommend;
mod session;
mod train;

use std::process::ExitCode;

use clap::Parser;
use lowrank::ErrorKind;

use args::{Cli, Command};
use session::Session;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = Session::new(&cli.common).and_then(|session| match cli.command {
        Command::Import(args) => import::run(args, &session),
        Command::Train(args) => train::run(*args, &session),
        Command::Evaluate(args) => evaluate::run(args, &session),
        Command::Recommend(args) => recommend::run(args, &session),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            // What a usage error is to clap, a bad option is to the library.
            ExitCode::from(if error.kind() == ErrorKind::BadOption {
                2
            } else {
                1
            })
        }
    }
}
