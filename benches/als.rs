//! An epoch of ALS over a million ratings in memory, in ratings a second.

mod generated;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lowrank::matrix::Ratings;
use lowrank::solver::Options;
use lowrank::threads::Threads;

fn epoch(criterion: &mut Criterion) {
    let ratings = generated::in_memory().expect("the preset is sound");
    let threads = Threads::new(None).expect("threads start");
    let mut group = criterion.benchmark_group("als epoch");
    group.throughput(Throughput::Elements(ratings.shape().ratings));
    for rank in [16, 64] {
        let options = Options {
            rank,
            ..Options::default()
        };
        let (solver, mut moving) =
            generated::start(&ratings, &options, &threads).expect("the options are sound");
        let mut epochs = 0;
        group.bench_function(BenchmarkId::new("rank", rank), |bencher| {
            bencher.iter(|| {
                epochs += 1;
                threads
                    .run(|| solver.epoch(epochs, &ratings, &mut moving, &|_| ()))
                    .expect("an epoch goes through")
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = epoch
}
criterion_main!(benches);
