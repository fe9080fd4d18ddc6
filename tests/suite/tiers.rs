//! Factors that lie in files, of one side or of both: the same model, within the budget, with as many bytes as planned.

use lowrank::matrix::{Factors, InMemory, Ratings, Room, Side};
use lowrank::model::{Checkpoint, Run};
use lowrank::solver::{Options, SOLVERS};
use lowrank::train::{Placement, State};
use lowrank::{Store, Threads, Trainer};
use serde_json::Value;

use crate::program::Program;
use crate::tree::tree;

/// Two items that everybody rates, in three parts each, of which the last has few, and a few that some do; nobody rates the last.
fn long_rows() -> InMemory {
    const USERS: u32 = 2 * (1 << 14) + 5;
    let rate = |user: u32, item: u32| (user, item, ((user * 7 + item * 3) % 9) as f32 / 2.0);
    let popular = (0..USERS).flat_map(|user| [rate(user, 0), rate(user, 3)]);
    let others = (0..USERS).step_by(7).map(|user| rate(user, 1 + user % 2));
    let triplets: Vec<_> = popular.chain(others).collect();
    InMemory::from_triplets(USERS as usize, 5, &triplets)
        .unwrap()
        .with_rows_per_block(11_111)
}

fn train(ratings: &dyn Ratings, options: &Options, placement: &Placement) -> State {
    Trainer::new(ratings, options.clone())
        .test(Some(ratings))
        .placement(placement.clone())
        .run(&Threads::new(Some(3)).unwrap())
        .unwrap()
}

/// All numbers of a side as bits, wherever they are.
fn bits(factors: &Factors) -> Vec<u32> {
    let (mut rows, mut biases) = (Vec::new(), Vec::new());
    let mut band = factors.empty_band();
    for range in factors.bands(0..factors.rows()) {
        let (factors, _) = factors.load(range, &mut band).unwrap();
        rows.extend(factors.flat().iter().map(|x| x.to_bits()));
        biases.extend(factors.biases().iter().map(|x| x.to_bits()));
    }
    rows.extend(biases);
    rows
}

#[test]
fn rows_longer_than_a_part_meet_bands_of_any_size_with_the_same_bits() {
    let ratings = long_rows();
    let folder = tempfile::tempdir().unwrap();
    // From 32 factors on, ALS solves rows of few ratings by those: all users here.
    for (rank, biases) in [(3, true), (3, false), (40, true)] {
        let options = Options {
            rank,
            epochs: 2,
            biases,
            ..Options::default()
        };
        let held = train(&ratings, &options, &Placement::default());
        let of_row = Factors::bytes(1, rank, biases);
        // Bands of a few rows, of more than a part, and of all; chunks of one row and of many.
        for (users, items) in [
            (Some([9_001, 1]), None),
            (Some([17_000, 1_000_000]), Some([2, 100_000])),
            (Some([1_000_000, 3_000]), Some([1, 1_000_000])),
            (None, Some([3, 50_000])),
        ] {
            let room = |[rows, sums]: [u64; 2]| Room {
                band: rows * of_row,
                sums,
            };
            let placement = Placement {
                users: users.map(room),
                items: items.map(room),
                folder: folder.path().to_owned(),
            };
            let spilled = train(&ratings, &options, &placement);
            let what = format!("{users:?}, {items:?}");
            assert_eq!(spilled.history, held.history, "{what}");
            for side in [Side::Users, Side::Items] {
                let [one, other] = [&spilled, &held].map(|state| state.parameters().side(side));
                assert_eq!(one.is_spilled(), placement.room(side).is_some());
                assert!(bits(one) == bits(other), "{what}: {side:?}");
            }
        }
    }
}

/// A store of many users and items with few ratings, whose factors are more than the rest of what training takes.
fn wide() -> Program {
    const ITEMS: u32 = 60_000;
    let program = Program::new();
    let mut text = String::from("user,item,rating\n");
    for user in 0..75_000 {
        for item in [user * 7 % ITEMS, (user * 13 + 5) % ITEMS, user % 50] {
            text += &format!("{user},{item},{}\n", 1 + (user + item) % 5);
        }
    }
    program.write("r", text);
    program.done(
        "import r --out s --test-fraction 0.1 --validation-fraction 0.1 --shard-size 64KiB --duplicates first",
    );
    program
}

const TRAIN: &str = "train s --out m --rank 8 --force --threads 2";

/// The smallest budget for these options, in MiB, as the refusal of a smaller one names it.
pub fn least(program: &Program, command: &str) -> u64 {
    let output = program.run(&format!("{command} --memory 1MiB"));
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    let (_, enough) = said.split_once("--memory ").unwrap();
    enough.split_once("MiB").unwrap().0.parse().unwrap()
}

/// The smallest budget that this can be done within, which must be what refusals name.
fn smallest(program: &Program, command: &str) -> u64 {
    let named = least(program, command);
    // What fits is told by plans alone, and then done once.
    let fits = |budget: u64| {
        let output = program.run(&format!("{command} --memory {budget}MiB --plan"));
        output.status.success()
    };
    let (mut refused, mut enough) = (1, 2 * named);
    while refused + 1 < enough {
        let middle = refused.midpoint(enough);
        match fits(middle) {
            true => enough = middle,
            false => refused = middle,
        }
    }
    assert_eq!(enough, named, "{command}");
    program.done(&format!("{command} --memory {enough}MiB"));
    enough
}

/// Which sides are in files with so many MiB.
fn streamed(program: &Program, command: &str, budget: u64) -> (Value, Value) {
    let planned = program.done(&format!("{command} --memory {budget}MiB --plan"));
    assert!(planned["total_bytes"].as_u64().unwrap() <= budget << 20);
    (planned["streamed"].clone(), planned["forecast"].clone())
}

#[test]
fn each_tier_leaves_the_same_model_and_reads_what_was_planned() {
    let program = wide();
    for options in ["--epochs 1", "--epochs 1 --early-stop 1"] {
        let command = format!("{TRAIN} {options}");
        program.done(&command);
        let mut expected = tree(&program.path("m"));
        expected.remove("run.json");
        let least = least(&program, &command);
        let mut seen = Vec::new();
        for budget in least + 1..least + 40 {
            let (sides, forecast) = streamed(&program, &command, budget);
            if seen.contains(&sides) {
                continue;
            }
            let told = program.done(&format!("{command} --memory {budget}MiB"));
            let mut model = tree(&program.path("m"));
            model.remove("run.json");
            assert!(model == expected, "{options} {sides} in {budget} MiB");
            for pace in told["paces"].as_array().unwrap().iter().skip(1) {
                for what in ["ratings_read", "factors_read", "factors_written"] {
                    let [planned, measured] =
                        [&forecast, pace].map(|counts| counts[what].as_f64().unwrap());
                    let copied = if !options.contains("early-stop") || what == "ratings_read" {
                        0.0
                    } else {
                        forecast["spilled"].as_f64().unwrap()
                    };
                    assert!(
                        measured >= planned && measured <= 1.05 * planned + copied,
                        "{what}: {measured}, not {planned}"
                    );
                }
            }
            seen.push(sides);
        }
        let both = serde_json::json!(["users", "items"]);
        assert_eq!(
            seen,
            [both, serde_json::json!(["users"]), serde_json::json!([])]
        );
    }
}

#[test]
fn the_smallest_budget_is_the_smallest_and_methods_that_cannot_spill_say_who_can() {
    let program = wide();
    let train = format!("{TRAIN} --epochs 1");
    let least_als = smallest(&program, &train);
    smallest(&program, &format!("{train} --no-biases"));
    program.done(&format!("{train} --memory {least_als}MiB"));

    let cg = format!("{train} --solver cg");
    let least_cg = least(&program, &cg);
    assert!(least_cg > least_als);
    program.done(&format!("{cg} --memory {least_cg}MiB"));
    let refused = program.run(&format!("{cg} --memory {}MiB", least_cg - 1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("or --solver als may do with less"), "{said}");
}

#[test]
fn users_stay_in_their_file_where_a_model_does_not_fit() {
    let program = wide();
    let users: String = (0..75_000)
        .step_by(251)
        .map(|id| format!("{id}\n"))
        .collect();
    program.write("users", users);
    // A row without padding, and one with it.
    for options in ["--rank 16", "--rank 5 --no-biases"] {
        program.done(&format!("train s --out m --epochs 1 --force {options}"));
        let told = |command: &str| {
            let mut told = program.done(command);
            told.as_object_mut().unwrap().remove("seconds");
            let lists = std::fs::read(program.path("top.csv")).unwrap_or_default();
            (told, lists)
        };
        for command in [
            "recommend m s --users users --out top.csv --force --threads 2",
            "evaluate m s --threads 2",
        ] {
            let expected = told(command);
            let least = least(&program, command);
            let refused = program.run(&format!("{command} --memory {}MiB", least - 1));
            assert_eq!(refused.status.code(), Some(1));
            assert!(told(&format!("{command} --memory {least}MiB")) == expected);
        }
    }
}

#[test]
fn a_checkpoint_is_gone_on_with_in_another_tier() {
    let program = wide();
    let store = Store::open(program.path("s")).unwrap();
    let options = |epochs| Options {
        rank: 8,
        epochs,
        ..Options::default()
    };
    let whole = train(&store, &options(3), &Placement::default());
    let room = Some(Room {
        band: 300_000,
        sums: 3_000_000,
    });
    let placement = Placement {
        users: room,
        items: room,
        folder: program.path(""),
    };
    let half = train(&store, &options(1), &placement);
    let run = Run {
        epochs: half.paces.clone(),
        seconds: 0.0,
        threads: 1,
        memory: 0,
        store: String::new(),
    };
    let path = program.path("c");
    Checkpoint::save(&path, &half, &options(1), None, &store, &run).unwrap();
    for placement in [&placement, &Placement::default()] {
        let opened = Checkpoint::open_placed(&path, placement).unwrap();
        assert_eq!(
            opened.state.parameters().users.is_spilled(),
            !placement.is_in_memory()
        );
        let state = Trainer::new(&store, options(3))
            .test(Some(&store))
            .resume(Some(opened.state))
            .run(&Threads::new(Some(2)).unwrap())
            .unwrap();
        assert_eq!(state.history, whole.history);
        for side in [Side::Users, Side::Items] {
            assert!(bits(state.parameters().side(side)) == bits(whole.parameters().side(side)));
        }
    }
}

#[test]
fn the_table_says_which_methods_can_spill() {
    for method in SOLVERS {
        let options = (method.suited)(Options {
            solver: method.name.into(),
            ..Options::default()
        });
        let solver = method.solver(&options).unwrap();
        assert_eq!(
            solver.row_sums().is_some(),
            method.spills,
            "{}",
            method.name
        );
    }
}
