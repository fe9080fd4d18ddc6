//! Writes the well-formed cases of every target, for cargo-fuzz to begin with: `cargo run --bin seeds -- FOLDER`, then
//! `cargo +nightly fuzz run shard --features libfuzzer fuzz/corpus/shard FOLDER/shard`.

use std::path::PathBuf;
use std::{env, fs, io, process};

use lowrank_fuzz::{TARGETS, cases};

fn main() -> io::Result<()> {
    let Some(folder) = env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: seeds FOLDER");
        process::exit(2);
    };
    for target in TARGETS {
        let folder = folder.join(target.name);
        fs::create_dir_all(&folder)?;
        for (number, case) in cases(target).iter().enumerate() {
            fs::write(folder.join(number.to_string()), case)?;
        }
    }
    Ok(())
}
