//! Files that are cut short while they are mapped: an error with file and offset, never a death by signal.

use std::fs::File;
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::program::Program;
use crate::refused::{said, trained};
use lowrank::ErrorKind;
use lowrank::matrix::{Ratings, Side};
use lowrank::store::{Mapping, Store, exit_on_lost_pages};

/// Tells this test, started again, that it is the one to be hit.
const VICTIM: &str = "LOWRANK_TEST_VICTIM";

fn cut(path: &std::path::Path, length: u64) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(length).unwrap();
}

#[test]
fn a_shard_that_was_cut_short_is_an_error_when_it_is_next_used() {
    let program = trained();
    let store = Store::open(program.path("s")).unwrap();
    store.block(Side::Users, 0).unwrap();
    let path = store.shards(Side::Users)[0].path().to_owned();
    cut(&path, 64);
    let error = store.block(Side::Users, 0).unwrap_err();
    assert_eq!(
        (error.kind(), error.file()),
        (ErrorKind::Damaged, Some(&*path))
    );
    assert!(
        error
            .to_string()
            .contains("at byte 64: the file was cut short"),
        "{error}"
    );
    assert_eq!(
        store.verify(&mut |_| {}).unwrap_err().kind(),
        ErrorKind::Damaged
    );
}

/// Reads a page that is gone, in a process of its own.
#[test]
fn a_page_that_is_gone_ends_a_program_with_a_line() {
    if let Some(path) = std::env::var_os(VICTIM) {
        exit_on_lost_pages();
        let mapping = Mapping::open(&path).unwrap();
        cut(path.as_ref(), 8192);
        let sum: u64 = mapping.bytes().iter().map(|&byte| u64::from(byte)).sum();
        unreachable!("{sum} of a file that is gone");
    }
    let program = Program::new();
    program.write("long", vec![1; 100_000]);
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "truncated::a_page_that_is_gone_ends_a_program_with_a_line",
            "--nocapture",
        ])
        .env(VICTIM, program.path("long"))
        .output()
        .unwrap();
    ended_with_a_line(
        &output,
        "long at byte 8192: the file was cut short while it was in use",
    );
}

fn ended_with_a_line(output: &Output, what: &str) {
    let said = said(output);
    assert_eq!(output.status.code(), Some(1), "{:?} {said}", output.status);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("error: ") && said.contains(what), "{said}");
}

#[test]
fn a_training_whose_store_is_cut_short_says_so() {
    let program = trained();
    let mut training = program
        .command("train s --out t --rank 2 --epochs 100000000 --quiet")
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let began = Instant::now();
    let claimed = || program.path(".t.lock").exists();
    while !claimed() && began.elapsed() < Duration::from_secs(60) {
        sleep(Duration::from_millis(5));
    }
    // Somebody else may not train to the same place meanwhile, and is told who does.
    let second = program.run("train s --out t --epochs 1 --quiet");
    let process = format!("t: process {} is writing to it", training.id());
    ended_with_a_line(&second, &process);
    assert!(said(&second).contains("wait"), "{}", said(&second));
    cut(&program.path("s/by_user/00000.shard"), 100);
    let output = {
        while training.try_wait().unwrap().is_none() {
            if began.elapsed() > Duration::from_secs(120) {
                training.kill().unwrap();
            }
            sleep(Duration::from_millis(5));
        }
        training.wait_with_output().unwrap()
    };
    ended_with_a_line(&output, "s/by_user/00000.shard at byte");
    assert!(!program.path("t").exists());
}
