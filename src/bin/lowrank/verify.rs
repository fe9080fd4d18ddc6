//! `lowrank verify`

use std::path::PathBuf;

use clap::Args;
use lowrank::Result;
use lowrank::memory::Bytes;
use lowrank::model::{Model, Record};
use lowrank::progress::{Progress, Unit};
use lowrank::store::Store;
use serde::Serialize;

use crate::inspect::Subject;
use crate::session::{Session, aligned, grouped};

/// Check every byte of a store or a model.
///
/// Of a store: all checksums, every index, that both orientations hold the same ratings, and that they are those which
/// the import saw. Of a model: all checksums, ids, and that every factor is finite. Damage is named with file and offset,
/// and the exit status is 1.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The store or model to check
    path: PathBuf,
}

#[derive(Serialize)]
struct Outcome {
    kind: &'static str,
    files: usize,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratings: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    factors: Option<u64>,
}

/// Runs the command.
pub fn run(args: VerifyArgs, session: &Session) -> Result<()> {
    let bars = &session.bars;
    let mut before = 0;
    let mut advance = |done: u64| {
        bars.advance(done - before);
        before = done;
    };
    let outcome = match Subject::of(&args.path)? {
        Subject::Store => {
            let store = Store::open_within(&args.path, 0)?;
            let mut plan = session.plan();
            plan.hold("hashes of items", 8 * store.manifest().items);
            if store.stored_tiles()?.is_some() {
                let rows = store.manifest().users + store.manifest().items;
                plan.hold("counts of ratings", 8 * rows);
            }
            plan.rest(0)?;
            bars.begin("verifying", Some(store.bytes()), Unit::Bytes);
            let verified = store.verify(&mut advance)?;
            Outcome {
                kind: "store",
                files: verified.files,
                bytes: verified.bytes,
                ratings: Some(verified.ratings),
                factors: None,
            }
        }
        Subject::Model => {
            let total = Record::read(&args.path)?.file_bytes();
            bars.begin("verifying", Some(total), Unit::Bytes);
            let verified = Model::verify(&args.path, &mut advance)?;
            Outcome {
                kind: "model",
                files: verified.files,
                bytes: verified.bytes,
                ratings: None,
                factors: Some(verified.numbers),
            }
        }
    };
    bars.end();
    let mut lines = vec![
        (outcome.kind, format!("{} is whole", args.path.display())),
        ("files", grouped(outcome.files as u64)),
        ("bytes", Bytes(outcome.bytes).to_string()),
    ];
    for (name, count) in [("ratings", outcome.ratings), ("factors", outcome.factors)] {
        lines.extend(count.map(|count| (name, grouped(count))));
    }
    session.print(&outcome, aligned(&lines))
}
