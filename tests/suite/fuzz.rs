//! The targets of `fuzz/` without its explorer: cases that are kept, and mutations of them.
//!
//! A case is a function of seed, target and number, so that what is found can be had again. It is written to
//! `fuzz/artifacts/`. Without coverage to go by, what steers mutations is structure: whole numbers are overwritten by those
//! that break things, and files get right checksums again half of the time.

#[path = "../../fuzz/src/lib.rs"]
pub mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use lowrank::Threads;
use targets::{Random, TARGETS, Target, cases, mutated, run};

/// Cases of all targets together, unless `LOWRANK_FUZZ` says how many.
const TOTAL: u64 = 8_000;

#[test]
fn mutated_bytes_are_refused_or_make_sense() {
    let number = |name: &str| std::env::var(name).ok()?.parse().ok();
    let total = number("LOWRANK_FUZZ").unwrap_or(TOTAL);
    let seed = number("LOWRANK_FUZZ_SEED").unwrap_or(1);
    // Two targets at a time.
    let found = std::thread::scope(|scope| {
        let halves = [0, 1].map(|half| {
            scope.spawn(move || {
                let targets = TARGETS.iter().skip(half).step_by(2);
                let found = targets.map(|target| explore(target, seed, total * target.share / 100));
                found.flatten().collect::<Vec<_>>()
            })
        });
        halves.map(|half| half.join().unwrap()).concat()
    });
    assert!(found.is_empty(), "{found:?}");
}

/// Runs so many cases of a target, after those that are kept; gives the names of those that panicked.
fn explore(target: &Target, seed: u64, count: u64) -> Vec<String> {
    let kept = cases(target);
    let mutations = (0..count).map(|number| {
        let mut random = Random::of_case(target.name, seed, number);
        (format!("{seed}-{number}"), mutated(&kept, &mut random))
    });
    let own = kept.iter().cloned().enumerate();
    let own = own.map(|(number, case)| (format!("kept-{number}"), case));
    let threads = Threads::new(Some(1)).unwrap();
    let mut found = Vec::new();
    threads.run(|| {
        for (name, case) in own.chain(mutations) {
            if catch_unwind(AssertUnwindSafe(|| run(target.name, &case))).is_err() {
                let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/artifacts");
                let name = format!("{}-{name}", target.name);
                fs::create_dir_all(&folder).unwrap();
                fs::write(folder.join(&name), case).unwrap();
                found.push(name);
            }
        }
    });
    println!("{}: {count} mutated cases", target.name);
    found
}
