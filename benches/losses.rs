//! The gradient of rows by the losses that have a name and by the same losses as formulas, at rank 32, on one thread.
//!
//! `cargo bench --bench losses`; throughput is in ratings. A formula should cost no more than five times its twin: what a
//! rating costs beside its loss, two passes over a row of factors, is paid by both.

mod generated;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lowrank::loss::named_or_formula;
use lowrank::matrix::Ratings;
use lowrank::solver::{Options, Update};
use lowrank::threads::Threads;

/// Losses by name, and as a user would write them.
const TWINS: [(&str, &str); 5] = [
    ("squared", "0.5*(p-r)^2"),
    ("absolute", "abs(p-r)"),
    ("huber", "where(abs(p-r)-1, abs(p-r)-0.5, 0.5*(p-r)^2)"),
    ("logistic", "max(-r*p, 0) + log1p(exp(-abs(r*p)))"),
    ("poisson", "exp(p) - r*p"),
];

/// The slopes alone, of rows of a few hundred ratings.
fn slopes(criterion: &mut Criterion) {
    const ROW: usize = 256;
    let mut group = criterion.benchmark_group("slopes");
    group.throughput(Throughput::Elements(ROW as u64));
    let ratings: Vec<f32> = (0..ROW).map(|i| (1 + i % 5) as f32).collect();
    let predictions: Vec<f32> = (0..ROW).map(|i| 0.01 * i as f32).collect();
    for (name, formula) in TWINS {
        for (kind, text) in [("name", name), ("formula", formula)] {
            let loss = named_or_formula(text).expect("it can be read");
            let mut slopes = predictions.clone();
            group.bench_function(BenchmarkId::new(kind, name), |bencher| {
                bencher.iter(|| {
                    slopes.copy_from_slice(&predictions);
                    loss.slopes(&mut slopes, &ratings);
                });
            });
        }
    }
}

/// An epoch of gradient descent, loss and all.
fn epoch(criterion: &mut Criterion) {
    let ratings = generated::in_memory().expect("the preset is sound");
    let threads = Threads::new(Some(1)).expect("threads start");
    let mut group = criterion.benchmark_group("gradient epoch by loss");
    group.throughput(Throughput::Elements(ratings.shape().ratings));
    for (name, formula) in TWINS {
        for (kind, text) in [("name", name), ("formula", formula)] {
            // So low a rate that no number of epochs diverges.
            let options = Options {
                solver: "gradient".into(),
                loss: text.into(),
                rank: 32,
                update: Update::Alternating,
                learning_rates: vec![1e-6],
                ..Options::default()
            };
            let (solver, mut moving) =
                generated::start(&ratings, &options, &threads).expect("the options are sound");
            let mut epochs = 0;
            group.bench_function(BenchmarkId::new(kind, name), |bencher| {
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
    targets = slopes, epoch
}
criterion_main!(benches);
