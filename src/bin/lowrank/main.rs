//! The command line of lowrank: flags and glue; whatever it can do, the library can.

mod args;
mod bars;
mod check_gradients;
mod cross_validate;
mod demo;
mod evaluate;
mod explain;
mod export;
mod filters;
mod generate;
mod held_out;
mod history;
mod import;
mod inspect;
mod new_store;
mod new_users;
mod outputs;
mod plot;
mod predict;
mod recommend;
mod session;
mod short_text;
mod similar;
mod space;
mod split;
mod study;
mod table;
mod text;
mod train;
mod tune;
mod update;
mod verify;

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use lowrank::{Error, ErrorKind, Result};

use args::{Cli, Command};
use session::Session;

fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let mut cli = Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
    if let (Command::Train(args), Some((_, given))) = (&mut cli.command, matches.subcommand()) {
        args.note_given(given);
    }
    lowrank::store::exit_on_lost_pages();
    let done = Session::new(&cli.common).and_then(|mut session| match cli.command {
        Command::Demo(args) => demo::run(args, &mut session),
        command => run(command, &session),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output has seen enough of it.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            bars::complain(&format!("error: {error}"));
            // What a usage error is to clap, a bad option is to the library.
            ExitCode::from(match error.kind() {
                ErrorKind::BadOption => 2,
                _ => 1,
            })
        }
    }
}

/// Runs any command but the demo, which runs others itself.
fn run(command: Command, session: &Session) -> Result<()> {
    match command {
        Command::Import(args) => import::run(args, session),
        Command::Split(args) => split::run(args, session),
        Command::Update(args) => update::run(args, session),
        Command::Train(args) => train::run(*args, session),
        Command::Tune(args) => tune::run(*args, session),
        Command::CrossValidate(args) => cross_validate::run(*args, session),
        Command::Evaluate(args) => evaluate::run(args, session),
        Command::Recommend(args) => recommend::run(args, session),
        Command::Explain(args) => explain::run(args, session),
        Command::Similar(args) => similar::run(args, session),
        Command::Predict(args) => predict::run(args, session),
        Command::Export(args) => export::run(args, session),
        Command::Inspect(args) => inspect::run(args, session),
        Command::Plot(args) => plot::run(args, session),
        Command::Verify(args) => verify::run(args, session),
        Command::CheckGradients(args) => check_gradients::run(args, session),
        Command::Generate(args) => generate::run(args, session),
        Command::Demo(_) => unreachable!("a demo runs no demo"),
    }
}

fn is_broken_pipe(error: &Error) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<io::Error>())
        .is_some_and(|source| source.kind() == io::ErrorKind::BrokenPipe)
}
