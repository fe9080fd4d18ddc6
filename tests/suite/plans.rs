//! What a training reads, against what it was planned to read: for every solver of the table, and each way of its own.

use lowrank::evaluate::Watch;
use lowrank::solver::{Direction, Method, Options, SOLVERS, Step, Update};
use lowrank::store::Part;
use lowrank::train::{Placement, State};
use lowrank::{Store, Threads, Trainer};

use crate::program::Program;
use crate::refused::said;
use crate::tiers::least;

/// A store in many small shards, with something held out.
fn stored(users: u32, encoding: &str) -> Program {
    let program = Program::new();
    let mut text = String::from("user,item,rating\n");
    for user in 0..users {
        for number in 0..20 + user % 37 {
            let item = (user * 31 + number * number * 7 + number) % 400;
            text += &format!("{user},{item},{}\n", 1 + (user + 3 * item) % 5);
        }
    }
    program.write("r", text);
    program.done(&format!(
        "import r --out s --test-fraction 0.1 --validation-fraction 0.1 --shard-size 2KiB --duplicates first --encoding {encoding}"
    ));
    program
}

/// Options that suit a method, and what else makes it read more or less.
fn variants(method: &Method) -> Vec<Options> {
    let usual = (method.suited)(Options {
        solver: method.name.into(),
        rank: 3,
        ..Options::default()
    });
    let usual = Options { epochs: 2, ..usual };
    let mut all = vec![usual.clone()];
    let mut add = |change: &dyn Fn(&mut Options)| {
        let mut options = usual.clone();
        change(&mut options);
        if method.solver(&options).is_ok() {
            all.push(options);
        }
    };
    add(&|options| options.update = Update::Alternating);
    add(&|options| options.learning_rates = Vec::new());
    add(&|options| {
        options.learning_rates = Vec::new();
        options.direction = Some(Direction::Steepest);
    });
    add(&|options| options.momentum = 0.5);
    add(&|options| options.step = Step::Plain);
    add(&|options| options.normalize = true);
    add(&|options| options.biases = false);
    add(&|options| options.alpha = Some(2.0));
    add(&|options| {
        options.early_stop = Some(9);
        options.early_stop_metric = "ndcg@5".into();
    });
    all
}

fn train(store: &Store, options: &Options) -> State {
    let [validation, test] = [Part::Validation, Part::Test].map(|part| store.part(part).unwrap());
    let watch = Watch::new(store, options).unwrap();
    Trainer::new(store, options.clone())
        .watch(watch.as_ref())
        .validation(Some(&validation))
        .test(Some(&test))
        .run(&Threads::new(Some(2)).unwrap())
        .unwrap()
}

/// Within 5 %.
fn is_near(measured: u64, planned: u64) -> bool {
    let ratio = measured as f64 / planned as f64;
    measured == planned || (0.95..1.05).contains(&ratio)
}

#[test]
fn every_solver_reads_what_it_says_before_the_first_epoch_and_in_each() {
    let program = stored(400, "packed");
    let mut wrong = Vec::new();
    for method in SOLVERS {
        // What is planned like an option before it is not trained again.
        let mut seen = Vec::new();
        for (variant, options) in variants(method).iter().enumerate() {
            // Nothing stays in memory, or some of all; tiles are made first, and there then.
            for room in [0, 20_000] {
                let store = Store::open_within(program.path("s"), room).unwrap();
                let planned = Placement::default().forecast(&store, options).unwrap();
                if seen.contains(&planned) || room > 0 && variant > 0 {
                    continue;
                }
                seen.push(planned);
                let state = train(&store, options);
                let read: Vec<u64> = state.paces.iter().map(|pace| pace.ratings_read).collect();
                let (each, once) = (planned.epoch.ratings_read, planned.once.ratings_read);
                let all_near = read[2..].iter().all(|&read| is_near(read, each));
                if !all_near || !is_near(read[0] + read[1], once + each) {
                    let name = method.name;
                    wrong.push(format!(
                        "{name}, {variant}, {room}: read {read:?}, planned {once} and {each}\n"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.concat());
}

#[test]
fn the_plan_is_told_before_work_with_the_seconds_of_all_that_is_read() {
    let program = stored(4000, "plain");
    for options in ["", "--solver gradient"] {
        let command = format!("train s --out m --rank 3 --epochs 3 --force {options}");
        let least = least(&program, &command);
        let within = format!("{command} --memory {least}MiB");
        let plan = program.done(&format!("{within} --plan"));
        let planned = |name: &str| plan["forecast"][name].as_u64().unwrap();
        assert!(plan["disk_seconds"].as_f64().unwrap() > 0.0, "{plan}");
        assert!(plan["disk_seconds_once"].as_f64().unwrap() > 0.0, "{plan}");
        let told = program.done(&within);
        for pace in &told["paces"].as_array().unwrap()[2..] {
            let read = pace["ratings_read"].as_u64().unwrap();
            assert!(
                is_near(read, planned("ratings_read")),
                "{options}: {read}, {plan}"
            );
        }
        let said = |command: &str| said(&program.run(command));
        let streams = said(&within);
        for words in [
            "passes an epoch",
            "ratings read",
            "transferred once",
            " s an epoch and ",
        ] {
            assert!(streams.contains(words), "{streams}");
        }
        assert!(said(&command).starts_with("all in memory: "));
        assert_eq!(said(&format!("{within} --quiet")), "");
    }
}
