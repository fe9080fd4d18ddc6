//! Import of a million lines of CSV into a store on disk, in bytes and in ratings a second: all of it, and the reading
//! and parsing of the text alone.

use std::fs::File;
use std::io::BufWriter;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lowrank::Result;
use lowrank::ingest::{
    Consumer, Duplicates, Import, Input, RawRating, ReadOptions, Split, read_ratings,
};
use lowrank::store::Encoding;
use lowrank::synthetic::{Preset, Synthetic};
use lowrank::threads::Threads;

/// Takes in nothing: what remains is reading and parsing.
struct Forget;

impl Consumer for Forget {
    type Chunk = ();

    fn begin(&self) {}

    fn ratings(&self, _chunk: &mut (), _ratings: &[RawRating<'_>]) {}

    fn commit(&mut self, _chunk: ()) -> Result<()> {
        Ok(())
    }
}

fn import(criterion: &mut Criterion) {
    let threads = Threads::new(None).expect("threads start");
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let text = folder.path().join("ratings.csv");
    let file = BufWriter::new(File::create(&text).expect("a file can be made"));
    let summary = Preset::named("movielens-1m")
        .and_then(|preset| Synthetic::new(preset.recipe))
        .and_then(|synthetic| synthetic.write(file))
        .expect("the preset is sound");

    let mut group = criterion.benchmark_group("import");
    group.throughput(Throughput::ElementsAndBytes {
        elements: summary.ratings,
        bytes: text.metadata().expect("the file is there").len(),
    });
    let import = Import {
        inputs: vec![Input::from(&text)],
        read: ReadOptions::default(),
        test: None,
        split: Split::default(),
        duplicates: Duplicates::default(),
        times: false,
        titles: None,
        encoding: Encoding::default(),
        shard_bytes: 64 << 20,
        memory: None,
        force: true,
    };
    group.bench_function("parse", |bencher| {
        bencher.iter(|| {
            threads
                .run(|| read_ratings(&import.inputs, &import.read, &mut Forget))
                .expect("the text is sound")
        });
    });
    let store = folder.path().join("ratings.store");
    group.bench_function("whole", |bencher| {
        bencher.iter(|| {
            import
                .run(&store, &threads, &())
                .expect("the text is sound")
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = import
}
criterion_main!(benches);
