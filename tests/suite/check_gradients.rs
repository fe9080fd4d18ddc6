//! `lowrank check-gradients`, and regularizers on the command line.

use crate::program::Program;

fn errors(output: &std::process::Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn every_named_loss_passes_on_the_built_in_ratings() {
    let outcome = Program::new().done("check-gradients");
    let losses = outcome["losses"].as_array().unwrap();
    assert_eq!(losses.len(), lowrank::loss::LOSSES.len());
    for line in losses {
        assert!(
            line["worst_relative_error"].as_f64().unwrap() <= 1e-5,
            "{line}"
        );
        assert_eq!(line["passes"], true);
    }
}

#[test]
fn formulas_pass_on_the_ratings_of_a_store() {
    let program = Program::new();
    let cells = (0..40).flat_map(|user| (0..30).map(move |item| (user, item)));
    let rated = cells.filter(|(user, item)| (user + item) % 3 != 0);
    let line = |(user, item)| format!("{user},{item},{}\n", 1 + (user * item) % 5);
    let lines: String = rated.map(line).collect();
    program.write("ratings.csv", format!("user,item,rating\n{lines}"));
    program.done("import ratings.csv --out s");
    let line = "check-gradients s --loss sqrt(1+(p-r)^2) --regularizer x^4+abs(x) --rank 3";
    let one = program.done(&format!("{line} --threads 1"));
    assert_eq!(one["losses"][0]["passes"], true, "{one}");
    assert_eq!(one, program.done(&format!("{line} --threads 4")));
    assert_ne!(one, program.done(&format!("{line} --seed 1")));
}

/// In f64 nothing is left of the square of a number beside 10^16: the derived slope is right, the differences are not.
#[test]
fn a_gradient_that_differs_ends_with_exit_status_1() {
    let program = Program::new();
    let output = program.run("check-gradients --loss squared --regularizer (1e16+x^2)-1e16");
    assert_eq!(output.status.code(), Some(1));
    let errors = errors(&output);
    assert!(
        errors.contains("the gradient of squared is off by"),
        "{errors}"
    );
    assert!(errors.contains("more than 1e-5"), "{errors}");
}

#[test]
fn regularizers_are_refused_where_they_cannot_be() {
    let program = Program::new();
    program.done("generate --users 120 --items 200 --ratings 6000 --out ratings.csv");
    program.done("import ratings.csv --out s");
    for (options, what) in [
        ("--regularizer l1", "use --solver gradient"),
        (
            "--solver gradient --regularizer l1",
            "needs a learning rate",
        ),
        ("--solver gradient --regularizer log(x)", "not finite"),
        ("--solver gradient --regularizer x^", "should be here"),
        ("--solver gradient --regularizer p^2", "no variable named"),
    ] {
        let output = program.run(&format!("train s --out m {options}"));
        let errors = errors(&output);
        assert_eq!(output.status.code(), Some(2), "{options}: {errors}");
        assert!(errors.contains(what), "{options}: {errors}");
        assert!(!program.path("m").exists());
    }
    let outcome = program.done(
        "train s --out m --solver gradient --regularizer l1 --learning-rate 0.002 --epochs 20 --rank 4",
    );
    let history = outcome["history"].as_array().unwrap();
    let loss = |at: usize| history[at]["loss"].as_f64().unwrap();
    assert!(loss(20) < loss(0));
    let inspected = program.done("inspect m").to_string();
    assert!(inspected.contains("l1"), "{inspected}");
}
