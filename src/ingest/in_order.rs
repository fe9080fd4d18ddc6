//! Work that is prepared in parallel and taken in in order.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};

use crate::error::Result;

/// Prepares what `loads` gives, in parallel, and takes it in, in order. Every thread of the pool takes in what comes next if
/// nobody else does, and else loads and prepares, so that none waits while there is something to do. At most four for each
/// thread are held at a time.
///
/// # Errors
/// The first that loading or taking in gives, in order.
pub fn in_order<L, P: Send>(
    loads: impl Iterator<Item = Result<L>> + Send,
    prepare: impl Fn(L) -> P + Sync,
    take: impl FnMut(P) -> Result<()> + Send,
) -> Result<()> {
    let line = Line {
        state: Mutex::default(),
        changed: Condvar::new(),
        loads: Mutex::new(loads),
        take: Mutex::new(take),
        room: 4 * rayon::current_num_threads(),
    };
    rayon::broadcast(|_| line.work(&prepare));
    line.state.into_inner().expect("nobody has panicked").result
}

/// What stands in line, and what it goes through.
struct Line<I, T, P> {
    state: Mutex<State<P>>,
    changed: Condvar,
    loads: Mutex<I>,
    take: Mutex<T>,
    /// How many may be held.
    room: usize,
}

struct State<P> {
    /// Those that were loaded and not taken in, in order: none while it is prepared.
    held: VecDeque<Option<Result<P>>>,
    /// The number of the first of these.
    taken: usize,
    loading: bool,
    taking: bool,
    /// Whether nothing more is to be loaded.
    ended: bool,
    result: Result<()>,
}

impl<P> Default for State<P> {
    fn default() -> State<P> {
        State {
            held: VecDeque::new(),
            taken: 0,
            loading: false,
            taking: false,
            ended: false,
            result: Ok(()),
        }
    }
}

impl<I, T, L, P> Line<I, T, P>
where
    I: Iterator<Item = Result<L>>,
    T: FnMut(P) -> Result<()>,
{
    /// What each thread does until all is taken in.
    fn work(&self, prepare: &impl Fn(L) -> P) {
        let _end = End(self);
        let mut state = self.state();
        loop {
            if !state.taking && matches!(state.held.front(), Some(Some(_))) {
                state.taking = true;
                let first = state.held.pop_front().flatten().expect("looked at");
                state.taken += 1;
                drop(state);
                let mut take = self.take.lock().expect("one at a time");
                let result = first.and_then(&mut *take);
                drop(take);
                state = self.state();
                state.taking = false;
                if result.is_err() {
                    state.result = result;
                    state.give_up();
                }
            } else if !state.loading
                && !state.ended
                && state.held.len() + usize::from(state.taking) < self.room
            {
                state.loading = true;
                drop(state);
                let loaded = self.loads.lock().expect("one at a time").next();
                state = self.state();
                state.loading = false;
                let Some(loaded) = loaded.filter(|_| !state.ended) else {
                    state.ended = true;
                    self.changed.notify_all();
                    continue;
                };
                let number = state.taken + state.held.len();
                state.held.push_back(None);
                state.ended = loaded.is_err();
                drop(state);
                self.changed.notify_all();
                let prepared = loaded.map(prepare);
                state = self.state();
                let place = number - state.taken;
                if let Some(place) = state.held.get_mut(place) {
                    *place = Some(prepared);
                }
            } else if state.ended && state.held.is_empty() {
                return;
            } else {
                state = self.changed.wait(state).expect("nobody panics here");
                continue;
            }
            self.changed.notify_all();
        }
    }
}

impl<I, T, P> Line<I, T, P> {
    fn state(&self) -> MutexGuard<'_, State<P>> {
        self.state.lock().expect("nobody panics here")
    }
}

impl<P> State<P> {
    fn give_up(&mut self) {
        self.ended = true;
        self.held.clear();
    }
}

/// The end of a thread's work: one that panics does not leave the others waiting for it.
struct End<'a, I, T, P>(&'a Line<I, T, P>);

impl<I, T, P> Drop for End<'_, I, T, P> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.state().give_up();
            self.0.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::error::{Error, ErrorKind};
    use crate::threads::Threads;

    #[test]
    fn all_are_taken_in_order_up_to_the_first_failure() {
        let error = |at: u32| Error::new(ErrorKind::BadInput, at.to_string());
        for threads in [1, 3] {
            let threads = Threads::new(Some(threads)).unwrap();
            for (count, bad_load, bad_take) in
                [(0, 99, 99), (50, 99, 99), (50, 31, 99), (50, 40, 7)]
            {
                let mut taken = Vec::new();
                let result = threads.run(|| {
                    in_order(
                        (0..count).map(|i| if i == bad_load { Err(error(i)) } else { Ok(i) }),
                        |i| 2 * i,
                        |doubled| {
                            if doubled == 2 * bad_take {
                                return Err(error(bad_take));
                            }
                            taken.push(doubled / 2);
                            Ok(())
                        },
                    )
                });
                assert!(taken.iter().copied().eq(0..taken.len() as u32));
                match result {
                    Ok(()) => assert_eq!(taken.len(), count as usize),
                    Err(error) => assert_eq!(error.to_string(), bad_load.min(bad_take).to_string()),
                }
            }
        }
    }

    #[test]
    fn a_panic_is_passed_on() {
        let threads = Threads::new(Some(3)).unwrap();
        for (prepared, taken) in [(20, 99), (99, 20)] {
            let work = || {
                let take = |i| {
                    assert_ne!(i, taken);
                    Ok(())
                };
                let prepare = |i| {
                    assert_ne!(i, prepared);
                    i
                };
                in_order((0..50).map(Ok), prepare, take)
            };
            let caught = catch_unwind(AssertUnwindSafe(|| threads.run(work)));
            assert!(caught.is_err());
        }
    }

    #[test]
    fn no_more_is_held_than_there_is_room_for() {
        for threads in [1, 2, 3] {
            let (held, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let loads = (0..200).map(|i| {
                most.fetch_max(held.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                Ok(i)
            });
            let take = |_: u32| {
                std::thread::yield_now();
                held.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            };
            let pool = Threads::new(Some(threads)).unwrap();
            pool.run(|| in_order(loads, |i| i, take)).unwrap();
            assert!(most.into_inner() <= 4 * threads);
        }
    }
}
