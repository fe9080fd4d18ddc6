//! The kernels on one thread, against the fused multiply-adds that a core can do at all.
//!
//! `cargo bench --bench kernels`; throughput is in useful flop: what lies outside the triangle or in padding counts
//! as nothing.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lowrank::kernel::{
    self, ByteIsa, ByteStep, Isa, NormalEquations, PackedItems, Segment, TILE, UserRows,
};
use lowrank::matrix::{Factors, pack_ids};
use lowrank::rng::{Purpose, Stream};

const RANKS: [usize; 4] = [16, 32, 64, 128];
const ROWS: usize = 20_000;
const RATINGS: usize = 32_768;

fn stream() -> Stream {
    Stream::new(1, Purpose::ItemFactors, 0, 0)
}

fn factors(rows: usize, rank: usize) -> Factors {
    let mut stream = stream();
    let mut factors = Factors::zeros(rows, rank, false);
    for row in 0..rows {
        factors
            .row_mut(row)
            .fill_with(|| stream.uniform() as f32 - 0.5);
    }
    factors
}

/// So many zeros, starting on a cache line.
fn aligned(len: usize) -> Factors {
    Factors::zeros(1, len, false)
}

/// Rows in no order, as the ratings of many short rows meet them.
fn cols() -> Vec<u32> {
    let mut stream = stream();
    (0..RATINGS)
        .map(|_| stream.below(ROWS as u64) as u32)
        .collect()
}

fn fastest_sets() -> impl Iterator<Item = Isa> {
    Isa::available().filter(|&isa| isa != Isa::PORTABLE)
}

fn gram(c: &mut Criterion) {
    let mut group = c.benchmark_group("gram");
    let cols = cols();
    let targets = vec![1.0; RATINGS];
    for rank in RANKS {
        let fixed = factors(ROWS, rank);
        let layout = NormalEquations::new(rank, true);
        let (n, mut sums) = (layout.size(), aligned(layout.sums_len()));
        let mut panel = aligned(layout.panel_len());
        let (sums, panel) = (sums.flat_mut(), panel.flat_mut());
        group.throughput(Throughput::Elements((RATINGS * (n + 1) * (n + 2)) as u64));
        for isa in fastest_sets() {
            for (name, weights) in [("plain", None), ("weighted", Some(&targets[..]))] {
                let id = BenchmarkId::new(format!("{}/{name}", isa.name()), rank);
                group.bench_function(id, |b| {
                    b.iter(|| {
                        let segment = Segment {
                            cols: &cols,
                            targets: &targets,
                            weights,
                        };
                        layout.accumulate(isa, fixed.flat(), segment, sums, panel);
                    });
                });
            }
        }
    }
}

fn cholesky(c: &mut Criterion) {
    let mut group = c.benchmark_group("cholesky");
    for n in RANKS.into_iter().flat_map(|rank| [rank, rank + 1]) {
        // What a row with a hundred ratings has to solve.
        let layout = NormalEquations::new(n, false);
        let fixed = factors(100, n);
        let cols: Vec<u32> = (0..100).collect();
        let segment = Segment {
            cols: &cols,
            targets: &[1.0; 100],
            weights: None,
        };
        let mut equations = vec![0.0; layout.sums_len()];
        let mut panel = vec![0.0; layout.panel_len()];
        layout.accumulate(
            Isa::best(),
            fixed.flat(),
            segment,
            &mut equations,
            &mut panel,
        );
        for i in 0..n {
            equations[layout.diagonal(i)] += 5.0;
        }
        let mut work = aligned(equations.len());
        let work = &mut work.flat_mut()[..equations.len()];
        let mut scratch = aligned(kernel::solve_scratch_len(n));
        let scratch = scratch.flat_mut();
        let mut aside = vec![0.0; layout.sixteen_len()];
        let mut scratch_of_sixteen = aligned(layout.sixteen_scratch_len());
        let scratch_of_sixteen = scratch_of_sixteen.flat_mut();
        let flop = (n * n * n / 3 + 2 * n * n) as u64;
        for isa in fastest_sets() {
            group.throughput(Throughput::Elements(flop));
            group.bench_function(BenchmarkId::new(isa.name(), n), |b| {
                b.iter(|| {
                    work.copy_from_slice(&equations);
                    kernel::solve(isa, n, work, scratch).expect("positive definite");
                });
            });
            if n > kernel::SMALL {
                continue;
            }
            group.throughput(Throughput::Elements(kernel::SYSTEMS as u64 * flop));
            let name = format!("{}/{} side by side", isa.name(), kernel::SYSTEMS);
            group.bench_function(BenchmarkId::new(name, n), |b| {
                b.iter(|| {
                    for system in aside
                        .chunks_exact_mut(layout.triangle_len())
                        .take(kernel::SYSTEMS)
                    {
                        layout.set_aside(&equations, system);
                    }
                    let solved = kernel::solve_sixteen(isa, layout, &aside, scratch_of_sixteen);
                    solved.expect("positive definite");
                });
            });
        }
    }
}

fn score(c: &mut Criterion) {
    let mut group = c.benchmark_group("score");
    const USERS: usize = 64;
    const ITEMS: usize = 32 * TILE;
    for rank in RANKS {
        let (users, items) = (factors(USERS, rank), factors(ITEMS, rank));
        let mut packed = aligned(kernel::packed_len(ITEMS, rank));
        let packed = packed.flat_mut();
        let (user_starts, item_starts) = (vec![3.5; USERS], vec![0.1; ITEMS]);
        let mut out = aligned(USERS * ITEMS);
        let out = out.flat_mut();
        group.throughput(Throughput::Elements((2 * USERS * ITEMS * rank) as u64));
        for isa in fastest_sets() {
            kernel::pack_items(isa, items.flat(), items.stride(), rank, 0..ITEMS, packed);
            group.bench_function(BenchmarkId::new(isa.name(), rank), |b| {
                b.iter(|| {
                    let users = UserRows {
                        flat: users.flat(),
                        stride: users.stride(),
                        starts: &user_starts,
                    };
                    let items = PackedItems {
                        packed,
                        rank,
                        starts: &item_starts,
                    };
                    kernel::score(isa, users, items, out);
                });
            });
        }
    }
}

/// Bounds in bytes of the scores above, none of which is good enough.
fn screen(c: &mut Criterion) {
    let mut group = c.benchmark_group("screen");
    const USERS: usize = 64;
    const ITEMS: usize = 32 * TILE;
    for rank in RANKS {
        let (users, items) = (factors(USERS, rank), factors(ITEMS, rank));
        let scale = kernel::ByteScale::new(rank, &[0.1]).and(items.flat());
        let pitch = ByteStep::of_rank(rank);
        let mut steps = vec![ByteStep::ZERO; ITEMS / TILE * pitch];
        let tiles: Vec<_> = (steps.chunks_exact_mut(pitch).enumerate())
            .map(|(tile, steps)| {
                let rows = (tile * TILE..(tile + 1) * TILE).map(|row| (items.row(row), 0.1));
                kernel::ByteTile::pack(scale, rows, steps)
            })
            .collect();
        let mut blocks = vec![kernel::ByteBlock::new(scale, rank); USERS / kernel::BYTE_USERS];
        for user in 0..USERS {
            let (block, at) = (
                &mut blocks[user / kernel::BYTE_USERS],
                user % kernel::BYTE_USERS,
            );
            let length = |row: &[f32]| row.iter().map(|x| x * x).sum::<f32>().sqrt();
            let longest = (0..ITEMS).map(|row| length(items.row(row)));
            let longest = longest.fold(0.0, f32::max);
            block.set(at, users.row(user), 3.5);
            // Out of reach for products as they are, but not for what their lengths allow.
            block.set_floor(at, 3.6 + 0.9 * longest * length(users.row(user)));
        }
        let mut hits = vec![kernel::Hit::default(); USERS * ITEMS / TILE];
        let band = kernel::ByteTiles {
            steps: &steps,
            tiles: &tiles,
        };
        group.throughput(Throughput::Elements((2 * USERS * ITEMS * rank) as u64));
        for isa in ByteIsa::available().skip(1) {
            group.bench_function(BenchmarkId::new(isa.name(), rank), |b| {
                b.iter(|| kernel::screen(isa, &blocks, band, &mut hits));
            });
        }
    }
}

fn dot(c: &mut Criterion) {
    let mut group = c.benchmark_group("dot");
    let cols = cols();
    let mut out = vec![0.0; RATINGS];
    for rank in RANKS {
        let (own, fixed) = (factors(1, rank), factors(ROWS, rank));
        group.throughput(Throughput::Elements((2 * RATINGS * rank) as u64));
        for isa in fastest_sets() {
            group.bench_function(
                BenchmarkId::new(format!("{}/dots", isa.name()), rank),
                |b| {
                    b.iter(|| kernel::dot_rows(isa, own.flat(), fixed.flat(), &cols, &mut out));
                },
            );
            let mut sum = vec![0.0; fixed.stride()];
            group.bench_function(
                BenchmarkId::new(format!("{}/sums", isa.name()), rank),
                |b| {
                    b.iter(|| kernel::add_scaled_rows(isa, &out, fixed.flat(), &cols, &mut sum));
                },
            );
        }
    }
}

/// Dot products with rows that lie anywhere in a table as large as that of the users of MovieLens 25M, on one thread: what is
/// more than in the group before is what memory takes to bring a row.
fn gather(c: &mut Criterion) {
    let mut group = c.benchmark_group("gather");
    const USERS: usize = 162_541;
    const READS: usize = 100_000;
    let mut stream = stream();
    let cols: Vec<u32> = (0..READS)
        .map(|_| stream.below(USERS as u64) as u32)
        .collect();
    let mut out = vec![0.0; READS];
    group.throughput(Throughput::Elements(READS as u64));
    for rank in RANKS {
        let (own, fixed) = (factors(1, rank), factors(USERS, rank));
        let isa = Isa::best();
        group.bench_function(BenchmarkId::new(isa.name(), rank), |b| {
            b.iter(|| kernel::dot_rows(isa, own.flat(), fixed.flat(), &cols, &mut out));
        });
    }
}

/// Offers of scores of which almost none is good enough, in bytes: this should keep up with the first cache.
fn select(c: &mut Criterion) {
    let mut group = c.benchmark_group("select");
    let mut stream = stream();
    let scores: Vec<f32> = (0..8192).map(|_| stream.normal() as f32).collect();
    group.throughput(Throughput::Bytes(size_of_val(&scores[..]) as u64));
    for isa in fastest_sets() {
        group.bench_function(isa.name(), |b| {
            let mut top = kernel::TopN::new(10);
            b.iter(|| top.offer(isa, &scores, 0));
        });
    }
}

/// Packed columns and codes to columns and values, of a row in a hundred and one in ten of all columns.
fn unpack(c: &mut Criterion) {
    let mut group = c.benchmark_group("unpack");
    let mut stream = stream();
    group.throughput(Throughput::Elements(RATINGS as u64));
    let (mut ids, mut values) = (vec![0; RATINGS], vec![0.0; RATINGS]);
    for gap in [10, 100] {
        let mut col = 0;
        let next = |_| {
            col += 1 + stream.below(2 * gap) as u32;
            col
        };
        let mut packed = Vec::new();
        pack_ids(&(0..RATINGS).map(next).collect::<Vec<u32>>(), &mut packed);
        for isa in Isa::available() {
            group.bench_function(BenchmarkId::new(isa.name(), gap), |b| {
                b.iter(|| kernel::unpack_ids(isa, black_box(&packed), &mut ids));
            });
        }
    }
    let codes = vec![0x5a; RATINGS / 2];
    for isa in Isa::available() {
        group.bench_function(BenchmarkId::new(isa.name(), "codes"), |b| {
            b.iter(|| kernel::look_up(isa, black_box(&codes), &[0.5; 16], &mut values));
        });
    }
}

/// Independent chains of multiply-adds that never leave the registers, on one thread and on all: what the other groups are
/// measured against.
fn peak(c: &mut Criterion) {
    let mut group = c.benchmark_group("peak");
    const STEPS: usize = 100_000;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for isa in fastest_sets() {
        for threads in [1, cores] {
            group.throughput(Throughput::Elements(
                (threads * STEPS * kernel::PEAK_STEP_FLOP) as u64,
            ));
            let name = format!("threads/{threads}");
            group.bench_function(BenchmarkId::new(isa.name(), name), |b| {
                let chains =
                    || kernel::multiply_adds(isa, STEPS, black_box(0.999), black_box(0.001));
                b.iter(|| {
                    std::thread::scope(|scope| {
                        (1..threads).for_each(|_| drop(scope.spawn(chains)));
                        chains()
                    })
                });
            });
        }
    }
}

criterion_group! {
    name = kernels;
    config = Criterion::default().sample_size(20);
    targets = peak, gram, cholesky, score, screen, dot, gather, select, unpack
}
criterion_main!(kernels);
