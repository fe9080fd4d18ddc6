//! The rules of the source tree, as far as a search can see them: who may name what, and how long a file may be.

use std::fs;
use std::path::Path;

/// Words and the only files, or folders, of `src/` that may have them. Each listed place has its word, too.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("memmap2", &["store/map.rs"]),
    ("bincode", &["store/codec.rs"]),
    (
        "bytemuck",
        &[
            "matrix/factors.rs",
            "model/files.rs",
            "model/stored.rs",
            "store/map.rs",
            "store/scratch.rs",
            "store/writer.rs",
        ],
    ),
    ("libc", &["kernel/x86/pages.rs", "store/map.rs"]),
    ("rand", &["rng.rs"]),
    ("rand_chacha", &["rng.rs"]),
    ("clap", &["bin/"]),
    ("indicatif", &["bin/"]),
    ("plotters", &["bin/lowrank/plot/"]),
    (
        "rayon",
        &[
            "ingest/import.rs",
            "ingest/parsed.rs",
            "ingest/read.rs",
            "ingest/sort.rs",
            "ingest/in_order.rs",
            "matrix/mod.rs",
            "matrix/tiles/census.rs",
            "matrix/tiles/mod.rs",
            "recommend/mod.rs",
            "recommend/screened.rs",
            "recommend/similar.rs",
            "solver/alternating.rs",
            "solver/bands.rs",
            "solver/block_rows.rs",
            "solver/gram.rs",
            "solver/minibatch/met.rs",
            "solver/minibatch/mod.rs",
            "solver/minibatch/shared.rs",
            "solver/neighbourhood/inverse.rs",
            "solver/neighbourhood/knn.rs",
            "solver/stochastic.rs",
            "synthetic/generator.rs",
            "synthetic/spread.rs",
            "threads.rs",
            "train/mod.rs",
        ],
    ),
    ("unsafe", &["kernel/x86/", "store/map.rs"]),
    ("unsafe_code", &["kernel/x86/", "store/map.rs"]),
];

/// What each module may name of the others. Whoever names something higher up needs a better place for it.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("kernel", &[]),
    ("progress", &[]),
    ("rng", &[]),
    ("loss", &["error"]),
    ("matrix", &["error", "kernel"]),
    ("lines", &["error", "memory"]),
    ("memory", &["error"]),
    ("threads", &["error"]),
    ("usage", &[]),
    ("solver", &["error", "kernel", "loss", "matrix", "rng"]),
    ("store", &["error", "matrix", "memory", "rng"]),
    ("synthetic", &["error", "matrix", "rng", "threads"]),
    (
        "ingest",
        &[
            "error", "lines", "matrix", "memory", "progress", "rng", "store", "threads",
        ],
    ),
    (
        "survival",
        &[
            "error", "ingest", "matrix", "memory", "model", "solver", "store", "threads", "train",
        ],
    ),
    (
        "train",
        &[
            "error", "evaluate", "loss", "matrix", "memory", "progress", "rng", "solver", "store",
            "threads", "usage",
        ],
    ),
    (
        "check_gradients",
        &[
            "error", "loss", "matrix", "rng", "solver", "threads", "train",
        ],
    ),
    (
        "model",
        &[
            "error", "kernel", "lines", "matrix", "memory", "rng", "solver", "store", "train",
        ],
    ),
    (
        "evaluate",
        &[
            "error",
            "kernel",
            "matrix",
            "model",
            "recommend",
            "rng",
            "solver",
            "store",
        ],
    ),
    (
        "recommend",
        &["error", "kernel", "matrix", "model", "solver", "store"],
    ),
    (
        "tune",
        &[
            "error", "evaluate", "ingest", "matrix", "memory", "progress", "rng", "solver",
            "store", "threads", "train",
        ],
    ),
];

const LONGEST_FILE: usize = 600;

/// A file of the source tree.
struct Source {
    /// Its path within `src/`, with forward slashes.
    path: String,
    /// Its lines without their comments.
    code: Vec<String>,
}

impl Source {
    /// The module right below the crate that the file belongs to; none for the facade and the command line.
    fn module(&self) -> Option<&str> {
        match self.path.split_once('/') {
            Some(("bin", _)) => None,
            Some((module, _)) => Some(module),
            None => self.path.strip_suffix(".rs").filter(|&name| name != "lib"),
        }
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let within = path.strip_prefix(&root).unwrap().to_str().unwrap();
                sources.push(Source {
                    path: within.replace('\\', "/"),
                    code: text.lines().map(without_comment).collect(),
                });
            }
        }
    }
    assert!(sources.len() > 50, "the source tree was not found");
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

fn without_comment(line: &str) -> String {
    line.split("//").next().unwrap_or_default().to_owned()
}

/// The words of a line of code: names and keywords.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
}

/// The modules of the crate that a file names, each with the number of its line.
fn modules_named(source: &Source) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    let text = source.code.join("\n");
    for (at, prefix) in text.match_indices("crate::") {
        let line = text[..at].matches('\n').count() + 1;
        let rest = &text[at + prefix.len()..];
        match rest.strip_prefix('{') {
            None => named.extend(words(rest).next().map(|word| (line, word.to_owned()))),
            Some(group) => {
                // In `use crate::{a::x, b::{y, z}}` it is what stands first between the outer commas.
                let mut depth = 0;
                let mut start = true;
                for (at, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        c if start && c.is_alphanumeric() => {
                            named.extend(words(&group[at..]).next().map(|w| (line, w.to_owned())));
                            start = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    named
}

fn check(broken: Vec<String>) {
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn each_dependency_and_all_that_is_unsafe_has_its_place() {
    let sources = sources();
    let mut broken = Vec::new();
    for (word, places) in ONLY_IN {
        let mut found = vec![false; places.len()];
        for source in &sources {
            let place = places
                .iter()
                .position(|place| source.path.starts_with(place));
            for (number, line) in (1..).zip(&source.code) {
                if words(line).any(|w| w == *word) {
                    match place {
                        Some(place) => found[place] = true,
                        None => broken.push(format!(
                            "src/{}:{number}: {word} belongs into {} only",
                            source.path,
                            places.join(", ")
                        )),
                    }
                }
            }
        }
        for (place, _) in places.iter().zip(found).filter(|(_, found)| !found) {
            broken.push(format!(
                "src/{place} no longer names {word}: strike it off the list"
            ));
        }
    }
    check(broken);
}

#[test]
fn dependencies_point_one_way() {
    let mut broken = Vec::new();
    for source in sources() {
        let Some(module) = source.module() else {
            continue;
        };
        let Some((_, may)) = MAY_NAME.iter().find(|(name, _)| *name == module) else {
            broken.push(format!("src/{}: {module} is not in the list", source.path));
            continue;
        };
        for (line, named) in modules_named(&source) {
            if named != module && !may.contains(&named.as_str()) {
                broken.push(format!(
                    "src/{}:{line}: {module} may not name {named}",
                    source.path
                ));
            }
        }
    }
    check(broken);
}

#[test]
fn files_are_short_and_named_for_their_subject() {
    let mut broken = Vec::new();
    for source in sources() {
        let lines = source.code.len();
        if lines > LONGEST_FILE {
            broken.push(format!("src/{} has {lines} lines", source.path));
        }
        for (number, line) in (1..).zip(&source.code) {
            let words: Vec<&str> = words(line).collect();
            let bag = |pair: &[&str]| {
                pair[0] == "mod" && matches!(pair[1], "utils" | "common" | "helpers")
            };
            if words.windows(2).any(bag) {
                broken.push(format!(
                    "src/{}:{number}: a module is named for what it is about",
                    source.path
                ));
            }
        }
    }
    check(broken);
}

/// The search itself: a rule that finds nothing must not be one that cannot find anything.
#[test]
fn the_search_sees_what_it_looks_for() {
    let source = |text: &str| Source {
        path: "solver/x.rs".into(),
        code: text.lines().map(without_comment).collect(),
    };
    let named = |text: &str| -> Vec<(usize, String)> { modules_named(&source(text)) };
    let owned = |pairs: &[(usize, &str)]| -> Vec<(usize, String)> {
        pairs
            .iter()
            .map(|&(line, word)| (line, word.to_owned()))
            .collect()
    };
    assert_eq!(
        named("// crate::store\nuse crate::store::Store;"),
        owned(&[(2, "store")])
    );
    assert_eq!(
        named("use crate::{error::{Error, Result},\n    train};"),
        owned(&[(1, "error"), (1, "train")])
    );
    assert_eq!(source("").module(), Some("solver"));
    assert_eq!(
        words("use rand_chacha::ChaCha8Rng;").nth(1),
        Some("rand_chacha")
    );
}
