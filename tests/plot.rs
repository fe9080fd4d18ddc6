//! Curves: what `train` writes, `plot` draws.

mod program;
mod refused;
mod tree;

use refused::{refused, trained};

#[test]
fn histories_and_studies_become_pictures() {
    let program = trained();
    program.done("train s --out a --rank 3 --epochs 4 --history als.csv");
    program.done(
        "train s --out n --solver nmf --rank 3 --epochs 5 --history nmf.csv --study study.csv",
    );
    let study = std::fs::read_to_string(program.path("study.csv")).unwrap();
    let lines: Vec<&str> = study.lines().collect();
    assert!(lines[0].starts_with("iteration,objective,descent_v,theta_v,theta_u,"));
    assert_eq!(lines.len(), 6);

    let drawn = program.done("plot als.csv nmf.csv --out runs.svg --x seconds --log");
    assert_eq!((&drawn["runs"], &drawn["panels"]), (&2.into(), &2.into()));
    let svg = std::fs::read_to_string(program.path("runs.svg")).unwrap();
    for word in ["als train", "nmf test", "seconds", "RMSE"] {
        assert!(svg.contains(word), "{word}");
    }
    program.done("plot study.csv --out study.svg");
    let svg = std::fs::read_to_string(program.path("study.svg")).unwrap();
    assert!(svg.contains("theta, users") && svg.contains("iteration"));

    refused(&program, "plot als.csv --out runs.svg", 1, &["--force"]);
    refused(&program, "plot als.csv --out runs.png", 2, &[".svg"]);
    refused(
        &program,
        "plot als.csv study.csv --out x.svg",
        2,
        &["study.csv"],
    );
    refused(
        &program,
        "plot good.csv --out x.svg",
        1,
        &["good.csv:2", "not a number"],
    );
    program.write("empty.csv", "epoch,loss\n");
    refused(&program, "plot empty.csv --out x.svg", 1, &["no epoch"]);
    refused(
        &program,
        "train s --out x --study x.csv",
        2,
        &["--solver nmf"],
    );
}
