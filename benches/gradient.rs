//! An epoch of gradient descent over a million ratings in memory, in ratings a second.

mod generated;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lowrank::matrix::Ratings;
use lowrank::solver::{Options, Update};
use lowrank::threads::Threads;

fn epoch(criterion: &mut Criterion) {
    let ratings = generated::in_memory().expect("the preset is sound");
    let threads = Threads::new(None).expect("threads start");
    let mut group = criterion.benchmark_group("gradient epoch");
    group.throughput(Throughput::Elements(ratings.shape().ratings));
    for (name, update) in [
        ("simultaneous", Update::Simultaneous),
        ("alternating", Update::Alternating),
    ] {
        for rank in [16, 64] {
            // So low a rate that no number of epochs diverges.
            let options = Options {
                solver: "gradient".into(),
                rank,
                update,
                learning_rates: vec![1e-5],
                ..Options::default()
            };
            let (solver, mut moving) =
                generated::start(&ratings, &options, &threads).expect("the options are sound");
            let mut epochs = 0;
            group.bench_function(BenchmarkId::new(name, rank), |bencher| {
                bencher.iter(|| {
                    epochs += 1;
                    threads
                        .run(|| solver.epoch(epochs, &ratings, &mut moving, &|_| ()))
                        .expect("an epoch goes through")
                });
            });
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = epoch
}
criterion_main!(benches);
