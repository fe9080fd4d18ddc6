//! How good options are, over K folds: each is held out once, and a model of the others is measured on it.

use std::path::Path;
use std::time::Instant;

use crate::error::Result;
use crate::evaluate::{Measure, Metric, Protocol, errors_of_parameters, ranking_of_parameters};
use crate::ingest::{HoldOut, Resplit, Split};
use crate::matrix::Ratings;
use crate::memory::{Bytes, Plan};
use crate::progress::Progress;
use crate::solver::Options;
use crate::store::{AtomicDir, Part, Store};
use crate::threads::Threads;
use crate::train::Trainer;

/// A cross-validation of some options.
#[derive(Debug)]
pub struct CrossValidation<'a> {
    /// All ratings of this store, held out or not, are dealt into folds.
    pub store: &'a Store,
    /// What each model is trained with.
    pub options: Options,
    /// How many folds, two at least.
    pub folds: usize,
    /// Seed of the hash that deals.
    pub seed: u64,
    /// What is measured, in this order.
    pub metrics: &'a [&'static Metric],
    /// How many recommendations count, ascending, for metrics of lists.
    pub cut_offs: &'a [usize],
    /// The budget; half of what is available if none.
    pub memory: Option<Bytes>,
}

/// What one fold came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Fold {
    /// Each metric by its name, with its cut-off if it has one.
    pub figures: Vec<(String, f64)>,
    /// Ratings that were held out.
    pub held_out: u64,
    /// Seconds to split, train and measure.
    pub seconds: f64,
}

/// The largest size of a shard of a fold's store.
const SHARD_BYTES: u64 = 8 << 20;

impl CrossValidation<'_> {
    /// Measures all folds; `after` is shown each. Each fold's store is made in a new directory at `scratch`, which goes away
    /// again.
    ///
    /// # Errors
    /// If the options do not fit together, the budget is too small, or files cannot be read or written.
    pub fn run(
        &self,
        scratch: &Path,
        threads: &Threads,
        progress: &dyn Progress,
        mut after: impl FnMut(usize, &Fold) -> Result<()>,
    ) -> Result<Vec<Fold>> {
        let shape = self.store.shape();
        let protocol = Protocol {
            metrics: self.metrics,
            cut_offs: self.cut_offs,
            part: Part::Test,
            positive_at: self.options.positive_at,
            sample: None,
        };
        let of_ratings = |metric: &&'static Metric| matches!(metric.measure, Measure::Ratings(_));
        let ranks = !self.metrics.iter().all(of_ratings);
        if ranks {
            protocol.check(shape.items)?;
        }
        let folds = self.folds;
        let split_of = |fold| Resplit {
            store: self.store,
            split: Split {
                test: HoldOut::Fold { fold, folds },
                validation_fraction: 0.0,
                seed: self.seed,
            },
            fold_in: None,
            shard_bytes: SHARD_BYTES,
            memory: self.memory,
            force: true,
        };
        let mut plan = Plan::within(self.memory);
        let training = Trainer::memory(shape, &self.options, threads.count())?;
        plan.hold("factors and scratch", training);
        if ranks {
            let rank = self.options.rank;
            let lists = protocol.memory(shape, shape.items, rank, threads.count());
            plan.hold("packed items and lists", lists);
        }
        let rows = threads.count() as u64 * self.store.row_memory()?;
        plan.hold("rows decoded", rows);
        let largest = self.store.bytes_without_tiles().min(SHARD_BYTES);
        plan.hold("shards in use", 2 * largest);
        let splitting = split_of(0).planned(threads.count())?;
        // Whichever takes more says so.
        if plan.total().0 < splitting.total().0 {
            splitting.rest(0)?;
        }
        plan.rest(0)?;
        splitting.rest(0)?;
        let scratch = AtomicDir::create(scratch, false)?;
        let path = scratch.path().join("fold");
        let mut done = Vec::new();
        for fold in 0..self.folds {
            let began = Instant::now();
            split_of(fold).run(&path, threads, progress)?;
            let mut store = Store::open(&path)?;
            store.keep_within(plan.rest(0)?);
            let state = Trainer::new(&store, self.options.clone())
                .progress(progress)
                .run(threads)?;
            let parameters = state.into_parameters();
            let mut figures = Vec::new();
            threads.run(|| -> Result<()> {
                let errors = errors_of_parameters(&parameters, &store, Part::Test)?;
                for metric in self.metrics {
                    if let Measure::Ratings(value) = metric.measure {
                        figures.push((metric.name.to_owned(), value(&errors)));
                    }
                }
                if ranks {
                    let ranking = ranking_of_parameters(&parameters, &store, &protocol)?;
                    figures.extend(ranking.figures.iter().map(|f| (f.name(), f.value)));
                }
                Ok(())
            })?;
            let fold_done = Fold {
                figures,
                held_out: store.manifest().ratings_of(Part::Test),
                seconds: began.elapsed().as_secs_f64(),
            };
            after(fold, &fold_done)?;
            done.push(fold_done);
        }
        Ok(done)
    }
}
