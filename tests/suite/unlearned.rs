//! Users and items that are known, and of which a model could learn nothing: they are told of, wherever they matter.

use crate::program::Program;
use crate::refused::{ratings, refused, said};

/// A store with a user and an item that are in the test part alone, and two users whom models of what is rated 3 or higher learn
/// nothing of.
fn stored() -> Program {
    let program = Program::new();
    program.write("r.csv", ratings(30, 12) + "low,i1,0.5,1000000\n");
    let test = "user,item,rating\nquiet,i1,4\nquiet,i2,3\nlow,i3,4\nu1,i9,5\nu2,unheard,5\n";
    program.write("test.csv", test);
    program.done("import r.csv --test test.csv --out s");
    program
}

/// The warning of each command, for models of ratings, of preferences, of weights between items.
#[test]
fn who_gets_what_anybody_would_is_counted() {
    let program = stored();
    for (solver, users) in [
        ("als", 1),
        ("als --no-biases", 1),
        ("ials", 1),
        ("ials --positive-at 3", 2),
        ("softmax --positive-at 3", 2),
        ("bpr --positive-at 3", 2),
        ("svd", 1),
        ("item-knn --positive-at 3", 2),
        ("popularity", 0),
    ] {
        program.done(&format!(
            "train s --out m --rank 3 --epochs 3 --force --solver {solver}"
        ));
        let told = match users {
            0 => None,
            1 => Some("note: 1 user of whom the model learnt no item, who get"),
            _ => Some("note: 2 users of whom the model learnt no item, who get"),
        };
        for command in [
            "recommend m s --users quiet,low,u1",
            "recommend m s --out lists.csv --force",
            "evaluate m s --metrics recall --at 5",
            "evaluate m s --metrics recall --at 5 --sampled 7",
        ] {
            let said = said(&program.run(command));
            match told {
                Some(told) => assert!(said.contains(told), "{solver}, {command}: {said}"),
                None => assert!(!said.contains("learnt no item"), "{command}: {said}"),
            }
        }
        let written = program.done("recommend m s --out lists.csv --force");
        assert_eq!(written["users_without_own"], users, "{solver}");
        let measured = program.done("evaluate m s --metrics recall --at 5");
        assert_eq!(measured["users_without_own"], users, "{solver}");
        // They count all the same: whoever has something to be found does.
        assert_eq!(measured["users"], 4, "{solver}");
    }
}

#[test]
fn nothing_is_like_what_nothing_was_learnt_of() {
    let program = stored();
    for solver in ["als", "bpr", "popularity"] {
        program.done(&format!(
            "train s --out m --rank 3 --epochs 3 --force --solver {solver}"
        ));
        refused(
            &program,
            "similar m --user quiet",
            1,
            &["learnt nothing of the user \"quiet\""],
        );
    }
    program.done("train s --out m --rank 3 --force");
    refused(
        &program,
        "similar m --item unheard",
        1,
        &["learnt nothing of the item \"unheard\""],
    );
    let told = said(&program.run("similar m --all --out likes.csv"));
    assert!(
        told.contains("note: 1 item of which the model learnt nothing"),
        "{told}"
    );
}

#[test]
fn lines_of_a_user_alone_are_counted() {
    let program = Program::new();
    program.write("lists", "1 2 3\n2\n3 2\n4 \n");
    let told = said(&program.run("import lists --format adjacency --out s"));
    assert!(told.contains("2 users without an item, left out"), "{told}");
}
