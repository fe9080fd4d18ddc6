//! Mutates well-formed cases by rules of its own and runs them: `mutate [--count N] [--seconds S] [--seed N] [TARGET...]`.
//!
//! A case is a function of seed, target and number, so that what is found can be had again. Cases that panic are written
//! to `fuzz/artifacts/`, and make the exit status 1. Without coverage to go by, what steers it is structure: whole
//! numbers are overwritten by those that break things, and files get right checksums again half of the time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use lowrank::Threads;
use lowrank_fuzz::{TARGETS, Target, run};

/// Numbers that code forgets.
const NUMBERS: [u64; 12] = [
    0,
    1,
    2,
    63,
    64,
    255,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 32,
    1 << 63,
    u64::MAX - 63,
    u64::MAX,
];

/// Pieces of text that parsers trip over.
const PIECES: [&str; 20] = [
    ",",
    "::",
    "\t",
    "\n",
    "\r\n",
    "\"",
    "\"\"",
    "nan",
    "inf",
    "-",
    "1e999",
    "1e-999",
    "(",
    ")",
    "^",
    "99999999999999999999",
    "\u{feff}",
    "\u{0}",
    "where(",
    "--",
];

/// Random numbers by counting: splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

fn mutated(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut case = seeds[random.below(seeds.len())].clone();
    for _ in 0..1 + random.below(4) {
        let at = random.below(case.len());
        match random.below(9) {
            0 | 1 if !case.is_empty() => case[at] ^= 1 << random.below(8),
            2 if !case.is_empty() => case[at] = random.next() as u8,
            // A field of a record lies at a multiple of four bytes.
            3 | 4 if case.len() >= 8 => {
                let at = random.below(case.len() / 4 - 1) * 4;
                let width = [2, 4, 8][random.below(3)].min(case.len() - at);
                let number = NUMBERS[random.below(NUMBERS.len())].to_le_bytes();
                case[at..at + width].copy_from_slice(&number[..width]);
            }
            5 => {
                let end = (at + 1 + random.below(64)).min(case.len());
                case.drain(at.min(end)..end);
            }
            6 => {
                let piece = PIECES[random.below(PIECES.len())].repeat(1 + random.below(3));
                case.splice(at..at, piece.bytes());
            }
            7 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len());
                let to = (from + random.below(128)).min(other.len());
                case.splice(at..at, other[from..to].iter().copied());
            }
            _ if !case.is_empty() => {
                let end = (at + random.below(32)).min(case.len());
                let copy = case[at..end].to_vec();
                let to = random.below(case.len());
                case.splice(to..to, copy);
            }
            _ => case.push(random.next() as u8),
        }
    }
    case
}

/// Runs so many cases of a target; gives how many were run, and how many panicked.
fn explore(target: &Target, seed: u64, count: u64, until: Instant) -> (u64, u64) {
    let seeds = (target.seeds)();
    seeds.iter().for_each(|case| run(target.name, case));
    let (mut done, mut found) = (0, 0);
    for number in 0..count {
        if number.is_multiple_of(256) && Instant::now() > until {
            break;
        }
        let start = seed ^ number.wrapping_mul(0xd134_2543_de82_ef95);
        let mut random = Random(
            target
                .name
                .bytes()
                .fold(start, |hash, byte| hash.rotate_left(8) ^ u64::from(byte)),
        );
        let case = mutated(&seeds, &mut random);
        if catch_unwind(AssertUnwindSafe(|| run(target.name, &case))).is_err() {
            found += 1;
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("artifacts");
            let file = folder.join(format!("{}-{seed}-{number}", target.name));
            let written =
                std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&file, case));
            eprintln!("{}: {written:?}", file.display());
        }
        done += 1;
    }
    (done, found)
}

fn main() -> ExitCode {
    let (mut count, mut seconds, mut seed, mut names) = (20_000, 600, 0, Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|text| text.parse().ok());
        let into = match argument.as_str() {
            "--count" => &mut count,
            "--seconds" => &mut seconds,
            "--seed" => &mut seed,
            _ => {
                names.push(argument);
                continue;
            }
        };
        match number() {
            Some(given) => *into = given,
            None => {
                eprintln!("mutate [--count N] [--seconds S] [--seed N] [TARGET...]");
                return ExitCode::from(2);
            }
        }
    }
    let wanted =
        |target: &&Target| names.is_empty() || names.iter().any(|name| name == target.name);
    let threads = Threads::new(Some(1)).expect("a thread");
    let (mut all, mut panics) = (0, 0);
    for target in TARGETS.iter().filter(wanted) {
        let began = Instant::now();
        let until = began + Duration::from_secs(seconds);
        let (done, found) = threads.run(|| explore(target, seed, count, until));
        println!(
            "{} {done} {found} {:.1}",
            target.name,
            began.elapsed().as_secs_f64()
        );
        all += done;
        panics += found;
    }
    println!("all {all} {panics}");
    ExitCode::from(u8::from(panics > 0))
}
