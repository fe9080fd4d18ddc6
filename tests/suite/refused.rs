//! What the program refuses, and what it must leave alone then.

use std::process::Output;

use crate::program::Program;
use crate::tree::tree;

/// Some ratings with a header, by `users` users of `items` items; about a third of all pairs, and user 0 has all.
pub fn ratings(users: usize, items: usize) -> String {
    let mut text = "user,item,rating,time\n".to_owned();
    for user in 0..users {
        for item in 0..items {
            let hash = (user * 7919 + item * 104_729) % 97;
            if user == 0 || hash % 3 == 0 {
                let stars = 0.5 * (1 + hash % 10) as f64;
                text += &format!("u{user},i{item},{stars},{}\n", 1_000_000 + hash * 1000);
            }
        }
    }
    text
}

/// A folder with ratings, a store of them and a model.
pub fn trained() -> Program {
    let program = Program::new();
    program.write("good.csv", ratings(30, 12));
    program.done("import good.csv --out s --test-fraction 0.2 --validation-fraction 0.1");
    program.done("train s --out m --rank 3 --epochs 3");
    program
}

/// What a run said on standard error.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Expects that a run fails with this status and one line that has all these words, and that it changes no file.
pub fn refused(program: &Program, arguments: &str, status: i32, words: &[&str]) -> String {
    let before = tree(&program.path(""));
    let output = program.run(&format!("{arguments} --quiet"));
    let said = said(&output);
    assert_eq!(
        output.status.code(),
        Some(status),
        "lowrank {arguments}: {said}"
    );
    assert!(output.stdout.is_empty(), "lowrank {arguments}");
    for word in words {
        assert!(
            said.contains(word),
            "lowrank {arguments}: {said:?} without {word:?}"
        );
    }
    // A line of ours; what the parser of arguments says is its own.
    if said.lines().count() == 1 {
        assert!(
            said.starts_with("error: ") && !said.trim_end().ends_with('.'),
            "{said}"
        );
    } else {
        assert!(
            status == 2 && said.contains("For more information, try '--help'"),
            "{said}"
        );
    }
    assert!(
        tree(&program.path("")) == before,
        "lowrank {arguments} left something behind"
    );
    said
}
