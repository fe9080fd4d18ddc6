//! The ten best items for every user at rank 64, in users a second, by either search: 6,040 users, 3,706 items, what was
//! rated left out.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lowrank::Result;
use lowrank::ingest::{Duplicates, Import, Input, ReadOptions, Split};
use lowrank::model::{Model, Run};
use lowrank::recommend::{Exclude, Recommender, Search, UserTop};
use lowrank::solver::Options;
use lowrank::store::{AtomicDir, Encoding, Store};
use lowrank::synthetic::{Preset, Synthetic};
use lowrank::threads::Threads;
use lowrank::train::Trainer;

/// A store of generated ratings, and a model of one epoch: scores cost the same whatever they are.
fn prepare(folder: &Path, threads: &Threads) -> Result<(Store, Model)> {
    let text = folder.join("ratings.csv");
    let file = BufWriter::new(File::create(&text)?);
    Synthetic::new(Preset::named("movielens-1m")?.recipe)?.write(file)?;
    let path = folder.join("ratings.store");
    let import = Import {
        inputs: vec![Input::from(text)],
        read: ReadOptions::default(),
        test: None,
        split: Split::default(),
        duplicates: Duplicates::default(),
        times: false,
        titles: None,
        encoding: Encoding::default(),
        shard_bytes: 64 << 20,
        memory: None,
        force: false,
    };
    import.run(&path, threads, &())?;
    let store = Store::open(&path)?;
    let options = Options {
        rank: 64,
        epochs: 1,
        ..Options::default()
    };
    let state = Trainer::new(&store, options.clone()).run(threads)?;
    let path = folder.join("ratings.model");
    let run = Run {
        epochs: state.paces.clone(),
        seconds: 0.0,
        threads: threads.count(),
        memory: 0,
        store: store.path().display().to_string(),
    };
    Model::save(
        AtomicDir::create(&path, false)?,
        state,
        &options,
        None,
        &store,
        &run,
    )?;
    Ok((store, Model::open(&path)?))
}

fn recommend(criterion: &mut Criterion) {
    let threads = Threads::new(None).expect("threads start");
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let (store, model) = prepare(folder.path(), &threads).expect("the preset is sound");
    let users = store.manifest().users as u32;

    let mut group = criterion.benchmark_group("recommend");
    group.throughput(Throughput::Elements(users.into()));
    for (name, search) in [
        ("screened", Search::Screened),
        ("exhaustive", Search::Exhaustive),
    ] {
        let recommender = Recommender::new(&model, Some(&store), 10, Exclude::All, search)
            .expect("there is a store");
        group.bench_function(format!("top 10 at rank 64/{name}"), |bencher| {
            bencher.iter(|| {
                let mut items = 0;
                let count = |group: Vec<UserTop>| {
                    items += group.iter().map(|user| user.items.len()).sum::<usize>();
                    Ok(())
                };
                threads
                    .run(|| recommender.recommend(0..users, Ok, count))
                    .expect("the store is sound");
                items
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = recommend
}
criterion_main!(benches);
