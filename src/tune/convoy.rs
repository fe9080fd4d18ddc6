//! Trials that go over the same ratings side by side: a block that does not stay in memory is read once for all of them.
//!
//! Trials of one solver visit the same blocks in the same order, and nobody is more than one visit ahead of the slowest: the
//! fast ones wait, the slowest never does, so there is always somebody who can go on, whatever the others' order and whenever
//! one leaves. A block is given back when everybody is through with the visit that it was asked for in. Trials that visited
//! blocks in other orders would each read their own, and come to an end all the same.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard};

use crate::error::{Error, ErrorKind, Result};
use crate::matrix::{Block, Ratings, Shape, Side, Tiles};

/// Trials that go together, and the ratings that they all go over.
pub(super) struct Convoy<'a> {
    ratings: &'a [&'a dyn Ratings],
    state: Mutex<State>,
    /// Somebody has gone on, left, or stopped all.
    moved: Condvar,
}

/// Which of the ratings, and which block of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    ratings: usize,
    side: Side,
    index: usize,
}

/// A block that was asked for, as the how manieth, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Visit {
    number: u64,
    place: Place,
}

/// Where a trial is.
#[derive(Debug, Clone, Default)]
struct Member {
    /// Visits so far.
    visits: u64,
    /// Those of them that are not over.
    open: Vec<Visit>,
}

impl Member {
    /// The last visit before which, itself included, all are over.
    fn through(&self) -> u64 {
        let open = self.open.iter().map(|visit| visit.number - 1);
        open.min().unwrap_or(self.visits)
    }

    fn is_at(&self, place: Place) -> bool {
        self.open.iter().any(|visit| visit.place == place)
    }
}

#[derive(Debug)]
struct State {
    /// Nothing in the place of one who has left.
    members: Vec<Option<Member>>,
    /// Visits that some are through with, and not all.
    over: Vec<Visit>,
    /// Blocks that were asked for or announced, and not given back since.
    near: Vec<Place>,
    stopped: bool,
}

impl State {
    fn present(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().flatten()
    }

    fn member(&mut self, number: usize) -> &mut Member {
        let member = self.members[number].as_mut();
        member.expect("a seat is taken until it is dropped")
    }

    fn is_ahead(&self, number: usize) -> bool {
        let visits = |member: &Member| member.visits;
        let slowest = self.present().map(visits).min();
        self.members[number].as_ref().map(visits) > slowest
    }

    fn approach(&mut self, place: Place) -> bool {
        let new = !self.near.contains(&place);
        if new {
            self.near.push(place);
        }
        new
    }

    fn enter(&mut self, number: usize, place: Place) {
        self.approach(place);
        let member = self.member(number);
        member.visits += 1;
        let number = member.visits;
        member.open.push(Visit { number, place });
    }

    /// Puts a visit that is over to the others, until all are through with it.
    fn put_over(&mut self, visit: Visit) {
        if !self.over.contains(&visit) {
            self.over.push(visit);
        }
    }

    /// Takes the blocks that nobody is at any more, nor has before him.
    fn passed(&mut self) -> Vec<Place> {
        let through = self.present().map(Member::through).min();
        let through = through.unwrap_or(u64::MAX);
        let over = std::mem::take(&mut self.over).into_iter();
        let (passed, over): (Vec<_>, _) = over.partition(|visit| visit.number <= through);
        self.over = over;
        let mut places: Vec<Place> = passed.iter().map(|visit| visit.place).collect();
        places.retain(|&place| {
            let comes = self.over.iter().any(|visit| visit.place == place);
            !comes && !self.present().any(|member| member.is_at(place))
        });
        self.near.retain(|place| !places.contains(place));
        places
    }
}

impl<'a> Convoy<'a> {
    /// A convoy of so many over these ratings, each of which has its [`seat`](Convoy::seat).
    pub fn new(ratings: &'a [&'a dyn Ratings], members: usize) -> Convoy<'a> {
        Convoy {
            ratings,
            state: Mutex::new(State {
                members: vec![Some(Member::default()); members],
                over: Vec::new(),
                near: Vec::new(),
                stopped: false,
            }),
            moved: Condvar::new(),
        }
    }

    /// The seat of a member, which leaves when it is dropped. The others wait for it from the beginning.
    pub fn seat(&self, number: usize) -> Seat<'_> {
        Seat {
            convoy: self,
            number,
        }
    }

    /// Lets nobody have another block: whoever asks for one fails.
    pub fn stop(&self) {
        self.state().stopped = true;
        self.moved.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// Waits until a member may have a block.
    fn enter(&self, number: usize, place: Place) -> Result<()> {
        let ahead = |state: &mut State| !state.stopped && state.is_ahead(number);
        let mut state = self.state();
        if state.member(number).is_at(place) {
            return Ok(());
        }
        state = self
            .moved
            .wait_while(state, ahead)
            .expect("no holder panics");
        if state.stopped {
            return Err(Error::new(ErrorKind::Io, "another trial could not go on"));
        }
        state.enter(number, place);
        self.moved.notify_all();
        Ok(())
    }

    fn leave_block(&self, number: usize, place: Place) {
        let mut state = self.state();
        let open = &mut state.member(number).open;
        if let Some(at) = open.iter().position(|visit| visit.place == place) {
            let visit = open.remove(at);
            state.put_over(visit);
            self.give_back(&mut state);
        }
    }

    fn leave(&self, number: usize) {
        let mut state = self.state();
        if let Some(member) = state.members[number].take() {
            member.open.iter().for_each(|&visit| state.put_over(visit));
        }
        self.give_back(&mut state);
        self.moved.notify_all();
    }

    /// Under the lock, so that nobody asks for a block while it is given back.
    fn give_back(&self, state: &mut State) {
        for place in state.passed() {
            self.ratings[place.ratings].done_with(place.side, place.index);
        }
    }
}

/// A member of a convoy, until it is dropped.
pub(super) struct Seat<'a> {
    convoy: &'a Convoy<'a>,
    number: usize,
}

impl Seat<'_> {
    /// The ratings of the convoy with this index, as this member goes over them.
    pub fn ratings(&self, index: usize) -> Shared<'_> {
        Shared {
            seat: self,
            inner: self.convoy.ratings[index],
            index,
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.convoy.leave(self.number);
    }
}

/// Ratings that a member of a convoy goes over. To ask for a block may have to wait, so it is for a thread that keeps no other
/// member waiting: one in a pool of its own.
pub(super) struct Shared<'a> {
    seat: &'a Seat<'a>,
    inner: &'a dyn Ratings,
    index: usize,
}

impl Shared<'_> {
    fn place(&self, side: Side, index: usize) -> Place {
        Place {
            ratings: self.index,
            side,
            index,
        }
    }
}

impl Ratings for Shared<'_> {
    fn shape(&self) -> Shape {
        self.inner.shape()
    }

    fn blocks(&self, side: Side) -> usize {
        self.inner.blocks(side)
    }

    fn block(&self, side: Side, index: usize) -> Result<Block<'_>> {
        let Seat { convoy, number } = self.seat;
        convoy.enter(*number, self.place(side, index))?;
        self.inner.block(side, index)
    }

    fn least_rating(&self) -> Option<f32> {
        self.inner.least_rating()
    }

    /// Only the slowest announce: for the others, what was announced is still to come.
    fn will_need(&self, side: Side, index: usize) {
        let Seat { convoy, number } = self.seat;
        let announces = {
            let mut state = convoy.state();
            !state.is_ahead(*number) && state.approach(self.place(side, index))
        };
        if announces {
            self.inner.will_need(side, index);
        }
    }

    fn done_with(&self, side: Side, index: usize) {
        let Seat { convoy, number } = self.seat;
        convoy.leave_block(*number, self.place(side, index));
    }

    /// Of all members.
    fn bytes_read(&self) -> u64 {
        self.inner.bytes_read()
    }

    fn will_need_ids(&self, side: Side, rows: Range<usize>) {
        self.inner.will_need_ids(side, rows);
    }

    fn done_with_ids(&self, side: Side) {
        self.inner.done_with_ids(side);
    }

    fn tiles(&self) -> Result<Box<dyn Tiles>> {
        self.inner.tiles()
    }

    fn id(&self, side: Side, row: usize) -> Cow<'_, str> {
        self.inner.id(side, row)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::thread;

    use proptest::prelude::*;

    use super::*;
    use crate::matrix::InMemory;

    /// Ratings of so many users, each a block, that count what is brought in and given back as shards do.
    struct Counted {
        ratings: InMemory,
        state: Mutex<Counts>,
    }

    #[derive(Default)]
    struct Counts {
        in_use: HashSet<usize>,
        most: usize,
        announced: usize,
        read: usize,
    }

    impl Counted {
        fn new(users: u32) -> Counted {
            let triplets: Vec<_> = (0..users).map(|user| (user, 0, 1.0)).collect();
            let ratings = InMemory::from_triplets(users as usize, 1, &triplets).unwrap();
            Counted {
                ratings: ratings.with_rows_per_block(1),
                state: Mutex::default(),
            }
        }
    }

    impl Ratings for Counted {
        fn shape(&self) -> Shape {
            self.ratings.shape()
        }

        fn blocks(&self, side: Side) -> usize {
            self.ratings.blocks(side)
        }

        fn block(&self, side: Side, index: usize) -> Result<Block<'_>> {
            let mut counts = self.state.lock().unwrap();
            counts.read += usize::from(counts.in_use.insert(index));
            counts.most = counts.most.max(counts.in_use.len());
            self.ratings.block(side, index)
        }

        fn will_need(&self, _side: Side, _index: usize) {
            self.state.lock().unwrap().announced += 1;
        }

        fn done_with(&self, _side: Side, index: usize) {
            self.state.lock().unwrap().in_use.remove(&index);
        }
    }

    /// Lets members visit blocks in these orders, the next one announced; gives what was counted. Who `forgets` leaves without
    /// being done with the last block.
    fn go(blocks: u32, orders: &[Vec<usize>], forgets: bool) -> Counts {
        let counted = Counted::new(blocks);
        let ratings: [&dyn Ratings; 1] = [&counted];
        let convoy = Convoy::new(&ratings, orders.len());
        thread::scope(|scope| {
            let seats: Vec<_> = (0..orders.len())
                .map(|number| convoy.seat(number))
                .collect();
            for (order, seat) in orders.iter().zip(seats) {
                scope.spawn(move || {
                    let ratings = seat.ratings(0);
                    for (at, &index) in order.iter().enumerate() {
                        if let Some(&next) = order.get(at + 1) {
                            ratings.will_need(Side::Users, next);
                        }
                        let block = ratings.block(Side::Users, index).unwrap();
                        assert_eq!(block.first_row(), index);
                        if !forgets || at + 1 < order.len() {
                            ratings.done_with(Side::Users, index);
                        }
                    }
                });
            }
        });
        counted.state.into_inner().unwrap()
    }

    #[test]
    fn a_block_is_read_once_for_all_who_visit_it_in_the_same_order() {
        for lengths in [&[12, 12, 12][..], &[12, 5, 9, 1], &[12], &[3, 0, 12]] {
            let scan = |&length: &usize| (0..length).map(|at| at % 4).collect();
            let orders: Vec<Vec<usize>> = lengths.iter().map(scan).collect();
            for forgets in [false, true] {
                let counts = go(4, &orders, forgets);
                assert_eq!(counts.read, 12, "{lengths:?}");
                assert!(counts.announced <= 11, "{lengths:?}");
                // What the slowest is at, and what the others are.
                assert!(counts.most <= 2, "{lengths:?}");
                assert!(counts.in_use.is_empty(), "{lengths:?}");
            }
        }
    }

    #[test]
    fn a_convoy_that_is_stopped_gives_no_block_to_anybody() {
        let counted = Counted::new(3);
        let ratings: [&dyn Ratings; 1] = [&counted];
        let convoy = Convoy::new(&ratings, 2);
        let (fast, _slow) = (convoy.seat(0), convoy.seat(1));
        assert!(fast.ratings(0).block(Side::Users, 0).is_ok());
        thread::scope(|scope| {
            let waits = scope.spawn(|| {
                // One visit ahead, and so it waits for the other, who never comes.
                fast.ratings(0).block(Side::Users, 1).is_err()
            });
            convoy.stop();
            assert!(waits.join().unwrap());
        });
    }

    proptest! {
        #[test]
        fn whatever_the_orders_all_come_to_their_end_and_give_everything_back(
            orders in prop::collection::vec(prop::collection::vec(0_usize..5, 0..9), 1..5),
            forgets: bool,
        ) {
            let counts = go(5, &orders, forgets);
            prop_assert!(counts.in_use.is_empty());
            let visits = orders.iter().map(Vec::len);
            prop_assert!(counts.read <= visits.clone().sum());
            let all: HashSet<&usize> = orders.iter().flatten().collect();
            prop_assert!(counts.read >= all.len());
        }
    }
}
