//! Steps that fail when a test says so.
//!
//! A test plans faults for all that happens below a folder of its own, so that tests beside it go undisturbed. Steps are
//! counted in the order in which they are taken. The plan also watches that nothing is renamed before it is on disk: a
//! test cannot cut the power, but it can see what would be lost.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::disk::Op;

/// What happens at the step that a plan is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing: steps are only counted.
    None,
    /// It fails as on a full disk, and those after it do not.
    Full,
    /// A write takes half of its bytes and says so; it is on the writer to go on.
    Short,
    /// It is not taken, nor is any after it: the process was killed.
    Killed,
    /// A write takes half of its bytes, and is the last.
    Torn,
}

#[derive(Debug)]
struct Plan {
    root: PathBuf,
    fault: Fault,
    /// The step that it happens at, from 0.
    at: usize,
    taken: usize,
    /// Files and directories changed since they were last synced.
    unsynced: BTreeSet<PathBuf>,
    /// What was renamed too early.
    broken: Vec<String>,
}

static PLANS: Mutex<Vec<Plan>> = Mutex::new(Vec::new());

fn plans() -> MutexGuard<'static, Vec<Plan>> {
    // A test that failed has said what there is to say.
    PLANS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a plan has seen.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Steps that were asked for.
    pub(crate) steps: usize,
    /// Files and directories that a loss of power could still undo.
    pub(crate) unsynced: BTreeSet<PathBuf>,
}

/// Runs `work` with a fault at one step of those below `root`.
///
/// # Panics
/// If something is renamed that is not on disk.
pub(crate) fn with<T>(root: &Path, fault: Fault, at: usize, work: impl FnOnce() -> T) -> (T, Seen) {
    plans().push(Plan {
        root: root.to_owned(),
        fault,
        at,
        taken: 0,
        unsynced: BTreeSet::new(),
        broken: Vec::new(),
    });
    let done = work();
    let mut plans = plans();
    let index = plans.iter().position(|plan| plan.root == root);
    let plan = plans.swap_remove(index.expect("it was planned above"));
    drop(plans);
    assert!(
        plan.broken.is_empty(),
        "{fault:?} at {at}: {:?}",
        plan.broken
    );
    let seen = Seen {
        steps: plan.taken,
        unsynced: plan.unsynced,
    };
    (done, seen)
}

/// Takes a step, or fails in its stead.
pub(super) fn step<T>(op: Op, path: &Path, run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    if let Some(plan) = plan_of(&mut plans(), path) {
        plan.allow(op, path)?;
    }
    let done = run()?;
    if let Some(plan) = plan_of(&mut plans(), path) {
        plan.remember(op, path);
    }
    Ok(done)
}

/// How many of so many bytes the next write may take.
pub(super) fn granted(path: &Path, bytes: usize) -> usize {
    let mut plans = plans();
    match plan_of(&mut plans, path) {
        Some(plan)
            if plan.taken == plan.at && [Fault::Short, Fault::Torn].contains(&plan.fault) =>
        {
            bytes.div_ceil(2)
        }
        _ => bytes,
    }
}

fn plan_of<'a>(plans: &'a mut [Plan], path: &Path) -> Option<&'a mut Plan> {
    plans.iter_mut().find(|plan| path.starts_with(&plan.root))
}

impl Plan {
    fn allow(&mut self, op: Op, path: &Path) -> io::Result<()> {
        let (step, at) = (self.taken, self.at);
        self.taken += 1;
        let refused = match self.fault {
            Fault::None | Fault::Short => false,
            Fault::Full => step == at,
            Fault::Killed => step >= at,
            // Whatever is no write cannot be taken by half.
            Fault::Torn => step > at || (step == at && op != Op::Write),
        };
        if refused {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let early = |changed: &&PathBuf| changed.starts_with(path);
        if op == Op::Rename
            && let Some(changed) = self.unsynced.iter().find(early)
        {
            self.broken
                .push(format!("{path:?} is renamed, {changed:?} not on disk"));
        }
        Ok(())
    }

    fn remember(&mut self, op: Op, path: &Path) {
        let parent = path.parent().expect("it lies below a root");
        match op {
            Op::Sync => {
                self.unsynced.remove(path);
            }
            Op::Write => {
                self.unsynced.insert(path.to_owned());
            }
            Op::Create | Op::Rename => {
                self.unsynced.insert(parent.to_owned());
            }
            Op::Remove => self.unsynced.retain(|changed| !changed.starts_with(path)),
        }
    }
}
