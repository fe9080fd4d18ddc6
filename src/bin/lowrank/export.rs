//! `lowrank export`

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use lowrank::matrix::Side;
use lowrank::model::{Held, Model, export_factors};
use lowrank::store::AtomicFile;
use lowrank::{Error, ErrorKind, Result};
use serde::Serialize;

use crate::session::{Session, aligned, grouped};

/// Write the factors of a model for other programs.
///
/// CSV has the header id,f0,f1,...,bias, and numbers that read back to the same bits: `lowrank train --init-users FILE
/// --init-items FILE` starts from such files. A .npy file is a NumPy array of records with the fields id, factors and bias.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("sides").args(["users", "items"]).required(true).multiple(true))]
pub struct ExportArgs {
    /// The model whose factors are written
    model: PathBuf,
    /// Where the users' factors go: .csv or .npy
    #[arg(long, value_name = "FILE")]
    users: Option<PathBuf>,
    /// Where the items' factors go: .csv or .npy
    #[arg(long, value_name = "FILE")]
    items: Option<PathBuf>,
    /// Replace the files if they exist
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct Outcome {
    users: Option<PathBuf>,
    items: Option<PathBuf>,
    rank: usize,
    biases: bool,
}

/// Runs the command.
pub fn run(args: ExportArgs, session: &Session) -> Result<()> {
    let targets = [(Side::Users, &args.users), (Side::Items, &args.items)];
    if args.users == args.items {
        return Err(Error::new(
            ErrorKind::BadOption,
            "users and items need files of their own",
        )
        .remedy("give --users and --items different names"));
    }
    // Neither file is written if one of them cannot be.
    for path in targets.iter().filter_map(|(_, path)| path.as_deref()) {
        AtomicFile::create(path, args.force).map(drop)?;
    }
    let mut plan = session.plan();
    let held = Held::plan(&mut plan, &args.model, &[Held::Nothing])?;
    let model = Model::open_with(&args.model, held)?;
    let mut lines = Vec::new();
    for (side, path) in targets {
        let Some(path) = path else { continue };
        export_factors(&model, side, path, args.force)?;
        let factors = model.parameters().side(side);
        let what = format!(
            "{} rows of {} factors{} in {}",
            grouped(factors.rows() as u64),
            factors.rank(),
            if factors.has_biases() {
                " and a bias"
            } else {
                ""
            },
            path.display()
        );
        lines.push((
            if side == Side::Users {
                "users"
            } else {
                "items"
            },
            what,
        ));
    }
    let options = &model.record().options;
    let outcome = Outcome {
        rank: options.rank,
        biases: options.biases,
        users: args.users,
        items: args.items,
    };
    session.print(&outcome, aligned(&lines))
}
