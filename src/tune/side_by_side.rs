//! How many trials go side by side, and a group of them on its way.
//!
//! A training that waits for a block must not hold up another, and a thread of a pool that waits for work takes up any of the
//! pool's. So each trial of a group has a pool of its own, as large as the given one: the processors are as busy while one of
//! the trials is computed as while all are.

use std::sync::{Mutex, mpsc};
use std::thread;

use super::convoy::Convoy;
use super::{Over, Task, Trial, Tuner};
use crate::error::{Error, ErrorKind, Result};
use crate::matrix::Ratings;
use crate::memory::Plan;
use crate::progress::Progress;
use crate::solver::{Options, method};
use crate::store::{Part, Streamed};
use crate::threads::Threads;
use crate::train::Trainer;

/// What the stack of a thread has come to hold.
const STACK_BYTES: u64 = 128 << 10;

/// A number of trials side by side.
struct Sharing {
    count: usize,
    plan: Plan,
    /// Bytes of ratings that the first round reads for each epoch of its trials.
    read: u64,
}

impl Tuner<'_> {
    /// How many trials should go side by side, so that the fewest bytes are read: more of them share what they read, and leave
    /// less room for shards to stay in memory. One, if all shards stay there, or if trials do not go over the same blocks.
    /// Adds what these trials hold to the plan; the store may keep the rest.
    ///
    /// # Errors
    /// As [`check`](Tuner::check), if the options of a trial do not fit together, if not even one trial fits the budget, or if
    /// the store is damaged.
    pub fn plan(&self, plan: &mut Plan, threads: usize) -> Result<usize> {
        self.check()?;
        let all = self.first()?;
        let all = all
            .iter()
            .map(|choice| self.options(choice, self.base.epochs));
        let all: Vec<Options> = all.collect::<Result<_>>()?;
        let shape = self.store.shape();
        let memory = |options: &Options| -> Result<u64> {
            let watching = self.target.memory(shape, options.rank, threads);
            Ok(Trainer::memory(shape, options, threads)? + watching)
        };
        let mut memory: Vec<u64> = all.iter().map(memory).collect::<Result<_>>()?;
        memory.sort_unstable_by_key(|&bytes| std::cmp::Reverse(bytes));
        let rows = threads as u64 * self.store.row_memory()?;
        let sharing = |count: usize| -> Result<Sharing> {
            let mut plan = plan.clone();
            let what = match count {
                1 => "the largest trial",
                _ => "the largest trials",
            };
            plan.hold(what, memory[..count].iter().sum());
            plan.hold("rows decoded", count as u64 * rows);
            plan.hold(
                "shards in use",
                self.in_use(count) * self.store.largest_shard(),
            );
            let pools = match count {
                1 => 0,
                _ => (count * threads) as u64,
            };
            plan.hold("stacks of threads", pools * STACK_BYTES);
            let streamed = self.store.streamed_within(plan.rest(0)?);
            let groups = all.len().div_ceil(count) as u64;
            let [shared, own] = self.read(&all[0], streamed)?;
            Ok(Sharing {
                count,
                plan,
                read: groups * shared + all.len() as u64 * own,
            })
        };
        let most = match self.are_alike(&all)? {
            true => all.len(),
            false => 1,
        };
        let mut best = sharing(1)?;
        for count in 2..=most {
            if best.read == 0 {
                break;
            }
            match sharing(count) {
                Ok(next) if next.read < best.read => best = next,
                Ok(_) => {}
                Err(refused) if refused.kind() == ErrorKind::OverBudget => break,
                Err(error) => return Err(error),
            }
        }
        *plan = best.plan;
        Ok(best.count)
    }

    /// Shards that are in memory at a time, kept ones apart: the one that is worked on, and the next; for several trials, what
    /// the slowest has before it, too. Lists are measured by one trial at a time, on two shards of either part.
    fn in_use(&self, count: usize) -> u64 {
        match (count, self.target.rises()) {
            (1, _) => 2,
            (_, false) => 3,
            (_, true) => 7,
        }
    }

    /// Bytes of an epoch, tiles apart, that trials share if they go side by side, and those that each reads by itself: lists are measured
    /// on the training ratings by user, and twice on what is to be found.
    fn read(&self, options: &Options, of: Streamed) -> Result<[u64; 2]> {
        let passes = method(&options.solver)?.solver(options)?.passes(2);
        let shared = passes.users * of.by_user + passes.items * of.by_item + of.validation;
        let lists = match self.target.rises() {
            true => of.by_user + 2 * of.validation,
            false => 0,
        };
        Ok([shared, lists])
    }

    /// Whether all trials go over the same blocks, and not over tiles, which are not shared.
    fn are_alike(&self, all: &[Options]) -> Result<bool> {
        let passes = |options: &Options| {
            let solver = method(&options.solver)?.solver(options)?;
            Ok([solver.passes_before(), solver.passes(1), solver.passes(2)])
        };
        let all: Vec<_> = all.iter().map(passes).collect::<Result<_>>()?;
        let first = all[0];
        Ok(all.iter().all(|passes| *passes == first) && first.iter().all(|p| p.tiles == 0))
    }

    /// Runs these trials side by side; `after` is shown each as it is done, with its place among them.
    ///
    /// # Errors
    /// As [`run`](Tuner::run). Then no other trial goes on.
    pub(super) fn run_group(
        &self,
        group: &[Task<'_>],
        threads: &Threads,
        progress: &dyn Progress,
        mut after: impl FnMut(usize, Trial) -> Result<()>,
    ) -> Result<()> {
        let Some(validation) = self.store.part(Part::Validation) else {
            unreachable!("the search was checked")
        };
        let measuring = Mutex::new(());
        if let [task] = group {
            let over = Over {
                ratings: self.store,
                validation: &validation,
                measuring: &measuring,
            };
            return after(0, self.trial(task, over, threads, progress)?);
        }
        let pool = |_: &Task<'_>| Threads::new(Some(threads.count()));
        let pools: Vec<Threads> = group.iter().map(pool).collect::<Result<_>>()?;
        let ratings: [&dyn Ratings; 2] = [self.store, &validation];
        let convoy = Convoy::new(&ratings, group.len());
        let (tell, told) = mpsc::channel();
        thread::scope(|scope| {
            let mut outcome = Ok(());
            // All seats are taken before the first trial begins.
            let seats: Vec<_> = (0..group.len()).map(|number| convoy.seat(number)).collect();
            for (((number, task), pool), seat) in group.iter().enumerate().zip(&pools).zip(seats) {
                let (tell, measuring) = (tell.clone(), &measuring);
                // The trials are as far as each other.
                let progress = if number == 0 { progress } else { &() };
                let run = move || {
                    let over = Over {
                        ratings: &seat.ratings(0),
                        validation: &seat.ratings(1),
                        measuring,
                    };
                    let trial = self.trial(task, over, pool, progress);
                    // Nobody listens any more where the group has failed.
                    let _ = tell.send((number, trial));
                };
                if let Err(e) = thread::Builder::new().spawn_scoped(scope, run) {
                    let what = format!("cannot start a thread: {e}");
                    outcome = Err(Error::new(ErrorKind::Io, what));
                    convoy.stop();
                    break;
                }
            }
            drop(tell);
            for (number, trial) in told {
                let shown = trial.and_then(|trial| after(number, trial));
                if shown.is_err() && outcome.is_ok() {
                    convoy.stop();
                    outcome = shown;
                }
            }
            outcome
        })
    }
}
