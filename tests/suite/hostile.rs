//! Files made to do harm, with checksums that are right: refused, without a panic and without more memory than they need.

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use crate::fuzz::targets::sealing;
use crate::program::Program;
use crate::refused::{refused, said, trained};
use lowrank::Threads;
use lowrank::matrix::{Factors, Ratings};
use lowrank::model::{Checkpoint, Model, Record, Run};
use lowrank::store::Store;
use lowrank::train::{State, Trainer};

/// Where a section of a file of ours lies, by its number.
fn section(bytes: &[u8], number: usize) -> std::ops::Range<usize> {
    let at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let entry = 64 + 32 * number;
    at(entry + 8)..at(entry + 8) + at(entry + 16)
}

/// Changes a file, makes its checksums right, expects that a command refuses it, and puts it back.
fn forged(program: &Program, file: &str, command: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let whole = fs::read(program.path(file)).unwrap();
    let mut bytes = whole.clone();
    change(&mut bytes);
    sealing::seal(&mut bytes);
    assert!(bytes != whole);
    program.write(file, &bytes);
    refused(program, command, 1, &[]);
    program.write(file, &whole);
}

#[test]
fn counts_and_lengths_beyond_all_bounds_are_refused() {
    let program = trained();
    program.done("import good.csv --out p --encoding plain");
    for (file, command) in [
        ("s/by_user/00000.shard", "verify s"),
        ("p/by_user/00000.shard", "verify p"),
        ("s/by_item/00000.shard", "train s --out t"),
        ("s/users.dict", "verify s"),
        ("s/manifest", "inspect s"),
        ("m/users.factors", "recommend m s --out t.csv"),
        ("m/model", "verify m"),
    ] {
        for number in [u64::MAX, 1 << 63, u64::MAX - 63, 1 << 32] {
            // The length of the file, a section's offset, a section's length.
            for at in [16, 64 + 8, 64 + 16] {
                forged(&program, file, command, |bytes| {
                    bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
                });
            }
            // The counts, which mean nothing in a record.
            if !file.ends_with("manifest") && !file.ends_with("model") {
                for at in [24, 32, 40]
                    .into_iter()
                    .filter(|at| !file.ends_with("dict") || *at == 24)
                {
                    forged(&program, file, command, |bytes| {
                        bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
                    });
                }
            }
        }
        forged(&program, file, command, |bytes| bytes[12..16].fill(0xff));
    }
}

#[test]
fn offsets_out_of_order_and_ids_out_of_range_are_refused() {
    let program = trained();
    program.done("import good.csv --out p --encoding plain");
    for file in ["p/by_user/00000.shard", "p/by_item/00000.shard"] {
        for command in ["verify p", "train p --out t"] {
            forged(&program, file, command, |bytes| {
                let offsets = section(bytes, 0);
                bytes[offsets.start + 8..offsets.start + 16].fill(0x7f);
            });
            forged(&program, file, command, |bytes| {
                let cols = section(bytes, 1);
                bytes[cols.start..cols.start + 4].fill(0xfe);
            });
        }
    }
    for file in ["s/users.dict", "s/items.dict"] {
        forged(&program, file, "verify s", |bytes| {
            let sorted = section(bytes, 2);
            bytes[sorted.start..sorted.start + 4].fill(0xfe);
        });
        forged(&program, file, "verify s", |bytes| {
            let offsets = section(bytes, 0);
            bytes[offsets.start + 8..offsets.start + 16].fill(0xff);
        });
    }
}

/// Every eight bytes of a record may be the length of a list or of a text. Some are numbers that nothing depends on, such
/// as lines read; what matters is that none is believed.
#[test]
fn a_hostile_length_in_a_record_is_not_believed() {
    let program = trained();
    let check_store = |path: &Path| Store::open(path)?.verify(&mut |_| {}).map(drop);
    let check_model = |path: &Path| Model::verify(path, &mut |_| {}).map(drop);
    type Check = fn(&Path) -> lowrank::Result<()>;
    let checks: [(&str, &str, Check); 2] = [
        ("s", "s/manifest", check_store),
        ("m", "m/model", check_model),
    ];
    for (folder, file, check) in checks {
        let whole = fs::read(program.path(file)).unwrap();
        let mut refused = 0;
        for at in section(&whole, 0) {
            for number in [1_u64 << 63, u64::MAX, 1 << 32] {
                let mut bytes = whole.clone();
                let end = (at + 8).min(bytes.len());
                bytes[at..end].copy_from_slice(&number.to_le_bytes()[..end - at]);
                sealing::seal(&mut bytes);
                program.write(file, &bytes);
                refused += u32::from(check(&program.path(folder)).is_err());
            }
        }
        assert!(refused > 500, "{file}: {refused}");
        program.write(file, &whole);
        check(&program.path(folder)).unwrap();
    }
}

/// Runs in so many KiB of address space: what is allocated by a declared size, or gathered without bound, ends it.
fn confined(program: &Program, arguments: &str) -> std::process::Output {
    let script = format!("ulimit -v 700000; exec \"$0\" {arguments} --threads 1 --quiet");
    Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_lowrank")])
        .current_dir(program.path(""))
        .output()
        .unwrap()
}

/// A piece of text so many times, each compressed by itself: what follows one another is one text.
fn gzipped(piece: &[u8], times: usize) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(piece).unwrap();
    gzip.finish().unwrap().repeat(times)
}

#[test]
fn a_little_that_unpacks_to_a_lot_is_read_as_a_stream() {
    let program = Program::new();
    program.write("line.gz", gzipped(&[b'x'; 1 << 20], 1024));
    let output = confined(&program, "import line.gz --memory 256MiB --out s");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("a line longer than"),
        "{}",
        said(&output)
    );

    program.write("good.csv", "1,2,3\n");
    program.write("titles.gz", gzipped(&[b'x'; 1 << 20], 1024));
    let output = confined(
        &program,
        "import good.csv --titles titles.gz --memory 256MiB --out s",
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("titles.gz: more than"),
        "{}",
        said(&output)
    );
}

#[test]
fn an_archive_may_lie_about_sizes_and_name_any_path() {
    let program = Program::new();
    let ratings = "1,2,3\n2,3,4\n";
    let archive = sealing::archive(&[
        ("../../../ratings.csv", ratings),
        ("/etc/u.item", "2|Two\n"),
    ]);
    fs::create_dir(program.path("in")).unwrap();
    program.write("in/paths.zip", &archive);
    program.done("import in/paths.zip --out in/s");
    let files: Vec<String> = crate::tree::tree(&program.path("")).into_keys().collect();
    assert!(
        files.iter().all(|name| name.starts_with("in/")),
        "{files:?}"
    );

    // Both sizes of the first member, in its own header and in the directory, are said to be 4 GiB.
    let mut lying = archive.clone();
    for (at, size) in [(18, 4), (22, 4)] {
        lying[at..at + size].fill(0xfe);
    }
    let directory = lying
        .windows(4)
        .position(|four| four == b"PK\x01\x02")
        .unwrap();
    lying[directory + 20..directory + 28].fill(0xfe);
    program.write("lying.zip", &lying);
    let output = confined(&program, "import lying.zip --memory 256MiB --out s");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert_eq!(said(&output).lines().count(), 1, "{}", said(&output));
}

/// The budget that a refusal names.
fn named(output: &std::process::Output) -> String {
    let said = said(output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let (_, advice) = said.trim_end().split_once("--memory ").expect("a budget");
    advice.strip_suffix(" would do").unwrap().to_owned()
}

#[test]
fn what_a_text_asks_of_memory_is_refused_or_planned_for() {
    let program = Program::new();
    // A window of 256 MiB for a line or two: the byte after the magic number and the descriptor says so.
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.write_all(b"1,2,3\n2,3,4\n").unwrap();
    let mut frame = encoder.finish().unwrap();
    frame[5] = (28 - 10) << 3;
    program.write("wide.zst", &frame);
    // A user of many items in one line of nearly 3 MiB.
    let rated: String = (0..400_000).map(|item| format!(" {item}")).collect();
    program.write("long.txt", format!("0{rated}\n1 0\n"));
    for (text, memory, what) in [
        (
            "wide.zst --format csv",
            "64MiB",
            "the window of zstd 257 MiB",
        ),
        (
            "long.txt --format adjacency",
            "50MiB",
            "a line longer than 819200 bytes",
        ),
    ] {
        let import = |memory: &str| {
            confined(
                &program,
                &format!("import {text} --memory {memory} --out s --force"),
            )
        };
        let output = import(memory);
        assert!(said(&output).contains(what), "{}", said(&output));
        let output = import(&named(&output));
        assert!(output.status.success(), "{text}: {}", said(&output));
    }
    // Two frames, of which the second asks for more than the first let expect.
    frame[5] = 0;
    frame.extend_from_within(..);
    let second = frame.len() / 2;
    frame[second + 5] = (28 - 10) << 3;
    program.write("later.zst", &frame);
    let output = confined(&program, "import later.zst --memory 64MiB --out s --force");
    let refused = "later.zst: cannot be decompressed";
    assert!(said(&output).contains(refused), "{}", said(&output));
}

/// Lines without an end, in every text that is read line by line or whole.
#[test]
fn lines_of_any_length_are_refused_by_file_and_line() {
    let program = trained();
    let endless = gzipped(&[b'x'; 1 << 20], 1024);
    for (name, first) in [("long.gz", "u1,i1\n"), ("ids.gz", "u1\n")] {
        let good = gzipped(first.as_bytes(), 1);
        program.write(name, [good.as_slice(), endless.as_slice()].concat());
    }
    for (command, file) in [
        ("recommend m s --out t --items", "ids.gz"),
        ("recommend m s --out t --deny", "ids.gz"),
        ("recommend m s --out t --users", "ids.gz"),
        ("recommend m s --out t --exclude-pairs", "long.gz"),
        ("recommend m s --out t --fold-in", "long.gz"),
        ("predict m --out t --pairs", "long.gz"),
        ("update s --out t", "long.gz"),
    ] {
        let command = format!("{command} {file}");
        let output = confined(&program, &format!("{command} --memory 64MiB"));
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{command}: {said}");
        assert!(
            said.contains(&format!("{file}:2: a line longer than")),
            "{command}: {said}"
        );
        assert_eq!(said.lines().count(), 1, "{command}: {said}");
    }
    // These are not compressed: a line that is a hole of a file.
    let hole = fs::File::create(program.path("hole")).unwrap();
    hole.set_len(1 << 30).unwrap();
    for (command, what) in [
        (
            "train s --out t --init-users hole --init-items hole",
            "hole:1: a line longer than",
        ),
        ("train s --out t --options hole", "hole: more than 16 MiB"),
        (
            "train s --out t --solver gradient --learning-rates hole",
            "hole: more than 16 MiB",
        ),
        ("plot hole --out t.svg", "hole: more than 16 MiB"),
    ] {
        let output = confined(&program, &format!("{command} --memory 64MiB"));
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{command}: {said}");
        assert!(said.contains(what), "{command}: {said}");
    }
    // Twelve characters an item, and more pairs than a budget has room for.
    let pairs: String = (0..1_000_000)
        .map(|at| format!("u{},i{}\n", at % 30, at % 12))
        .collect();
    program.write("pairs.csv", pairs);
    let command = "recommend m s --out t --exclude-pairs pairs.csv";
    let least = named(&confined(&program, &format!("{command} --memory 1MiB")));
    refused(
        &program,
        &format!("{command} --threads 1 --memory {least}"),
        1,
        &["pairs.csv: these pairs take more than", "--memory"],
    );
}

/// An archive whose directory has, or claims to have, millions of members: it is never held.
#[test]
fn the_directory_of_an_archive_is_walked_through() {
    let program = Program::new();
    let archive = sealing::archive(&[("ratings.csv", "1,2,3\n2,3,4\n")]);
    let end = archive.len() - 22;
    // In a hole of 2 GiB, as many members as that has room for: the numbers are those of the record of 64 bits.
    let members = (2_u64 << 30) / 64;
    let mut record = b"PK\x06\x06".to_vec();
    record.extend(44_u64.to_le_bytes());
    record.extend([45, 0, 45, 0]);
    record.extend([0; 8]);
    for number in [members, members, 2 << 30, 1000] {
        record.extend(number.to_le_bytes());
    }
    let mut locator = b"PK\x06\x07\0\0\0\0".to_vec();
    locator.extend((2_u64 << 30).to_le_bytes());
    locator.extend(1_u32.to_le_bytes());
    let mut last = b"PK\x05\x06\0\0\0\0".to_vec();
    last.extend([0xff; 12]);
    last.extend([0; 2]);
    let file = fs::File::create(program.path("forged.zip")).unwrap();
    file.write_all_at(&archive[..end], 0).unwrap();
    file.write_all_at(&[record, locator, last].concat(), 2 << 30)
        .unwrap();
    let output = confined(&program, "import forged.zip --memory 256MiB --out s");
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("forged.zip") && said.lines().count() == 1,
        "{said}"
    );
}

/// A checkpoint of the right options and ratings, all checksums right, whose solver carries what it does not carry.
#[test]
fn a_checkpoint_that_carries_something_else_is_refused() {
    let program = trained();
    let store = Store::open(program.path("s")).unwrap();
    let threads = Threads::new(Some(1)).unwrap();
    let (users, items) = (store.shape().users, store.shape().items);
    let sides = |rank, biases| {
        vec![
            Factors::zeros(users, rank, biases),
            Factors::zeros(items, rank, biases),
        ]
    };
    let forgeries = [
        sides(5, true),
        sides(1, false),
        sides(1, true)[..1].to_vec(),
        [sides(1, true), sides(1, true)].concat(),
        vec![sides(3, true); 8].concat(),
    ];
    for (solver, more) in [
        ("sgd", ""),
        ("gradient", ""),
        ("gradient", "--momentum 0.5"),
    ] {
        let train = format!("train s --solver {solver} --rank 3 {more}");
        program.done(&format!("{train} --out once --epochs 1 --force"));
        let options = Record::read(&program.path("once")).unwrap().options;
        let state = Trainer::new(&store, options.clone()).run(&threads).unwrap();
        let save = |state: &State| {
            let run = Run {
                epochs: state.paces.clone(),
                seconds: 1.0,
                threads: 1,
                memory: 1,
                store: "s".into(),
            };
            Checkpoint::save(
                &program.path("t.checkpoint"),
                state,
                &options,
                None,
                &store,
                &run,
            )
        };
        let resume = format!("{train} --out t --epochs 2 --resume");
        for carried in &forgeries {
            let mut forged = state.clone();
            forged.moving.carried = carried.clone();
            save(&forged).unwrap();
            refused(&program, &resume, 1, &["; train "]);
        }
        save(&state).unwrap();
        program.done(&resume);
        fs::remove_dir_all(program.path("t")).unwrap();
    }
}
