//! The order of a tile: which ratings are taken side by side.

use crate::kernel::SIDE_BY_SIDE;

/// How many users are at hand.
const PLACES: usize = 16;

/// How many ratings of a user are looked at: the first ones are of popular items, and so many users begin with the same.
const CHOICE: usize = 8;

/// A user at hand: where the ratings lie that it has not yet given, and the last turn that it gave to.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    next: usize,
    end: usize,
    turn: u32,
}

/// Orders the ratings of a tile, which lie by user, between any users and so many items. Gives where they lie in the order in
/// which they are to be taken, and how many of them, from the first on, come in turns.
///
/// Sixteen users are at hand, each in a place of its own, and a place whose user has no more takes the next user. For a turn the
/// places are asked one after the other, from the one on that is behind the last that gave. A place whose user was not in the
/// turn before gives the first of its next eight ratings whose item is neither in this turn nor in the one before; the first
/// of the eight takes its place. A turn that finds too few is none: what it found comes last, one by one, and so does the next
/// rating of the first place that has one.
pub(super) fn in_turns(users: &[u16], items: &[u16], rows: usize) -> (Vec<u32>, usize) {
    // A tile has no more than 65,536 rows of either side, and so places of 32 bits.
    let mut left: Vec<u32> = (0..items.len() as u32).collect();
    let runs = users.chunk_by(|a, b| a == b);
    let mut runs = runs.scan(0, |end, run| {
        let next = *end;
        *end += run.len();
        let (end, turn) = (*end, 0);
        Some(Place { next, end, turn })
    });
    let mut places = [Place::default(); PLACES];
    places.fill_with(|| runs.next().unwrap_or_default());
    let mut turn_of = vec![0; rows];
    let (mut order, mut rest) = (Vec::with_capacity(items.len()), Vec::new());
    // The first turn has none before it, which is not to be taken for that of rows that have been in none.
    let (mut turn, mut first) = (2, 0);
    while order.len() + rest.len() < items.len() {
        let full = order.len() + SIDE_BY_SIDE;
        for at in (first..first + PLACES).map(|at| at % PLACES) {
            let place = &mut places[at];
            if place.turn + 1 == turn {
                continue;
            }
            let own = &mut left[place.next..place.end.min(place.next + CHOICE)];
            let last = |at: &u32| turn_of[usize::from(items[*at as usize])];
            let Some(chosen) = own.iter().position(|at| last(at) + 1 < turn) else {
                continue;
            };
            own.swap(0, chosen);
            turn_of[usize::from(items[own[0] as usize])] = turn;
            place.turn = turn;
            order.push(own[0]);
            place.pass(&mut runs);
            if order.len() == full {
                first = at + 1;
                break;
            }
        }
        if order.len() == full {
            turn += 1;
            continue;
        }
        rest.extend(order.drain(full - SIDE_BY_SIDE..));
        if let Some(place) = places.iter_mut().find(|place| place.next < place.end) {
            rest.push(left[place.next]);
            place.pass(&mut runs);
        }
    }
    let in_turns = order.len();
    order.append(&mut rest);
    (order, in_turns)
}

impl Place {
    /// Has given a rating. The next user comes after the last one.
    fn pass(&mut self, users: &mut impl Iterator<Item = Place>) {
        self.next += 1;
        if self.next == self.end
            && let Some(user) = users.next()
        {
            let turn = self.turn;
            *self = Place { turn, ..user };
        }
    }
}

/// Whether no turn of these rows, of which there are so many, has one twice or has one of the turn before.
pub(super) fn neighbours_are_apart(numbers: &[u16], rows: usize) -> bool {
    let mut turn_of = vec![0_u32; rows];
    let turns = (2..).zip(numbers.chunks_exact(SIDE_BY_SIDE));
    turns.into_iter().all(|(turn, numbers)| {
        numbers.iter().all(|&number| {
            let last = std::mem::replace(&mut turn_of[usize::from(number)], turn);
            last + 1 < turn
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_rating_is_taken_once_and_neighbours_have_no_row_in_common(
            cells in prop::collection::btree_set((0_u16..40, 0_u16..30), 0..400),
        ) {
            let (users, items): (Vec<u16>, Vec<u16>) = cells.into_iter().unzip();
            let (order, in_turns) = in_turns(&users, &items, 30);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            prop_assert!(sorted.into_iter().eq(0..items.len() as u32));
            prop_assert!(in_turns.is_multiple_of(SIDE_BY_SIDE));
            let taken = |of: &[u16]| -> Vec<u16> {
                order[..in_turns].iter().map(|&at| of[at as usize]).collect()
            };
            prop_assert!(neighbours_are_apart(&taken(&users), 40));
            prop_assert!(neighbours_are_apart(&taken(&items), 30));
        }
    }

    #[test]
    fn nearly_all_ratings_come_in_turns() {
        // Users with runs of one to sixteen, items of which a few are in many.
        let users: Vec<u16> = (0..200)
            .flat_map(|user| vec![user; 1 + user as usize % 16])
            .collect();
        let items: Vec<u16> = (0..users.len())
            .map(|at| (at * at % 97 * at % 41) as u16)
            .collect();
        let (_, in_turns) = in_turns(&users, &items, 41);
        assert!(
            in_turns * 10 > users.len() * 9,
            "{in_turns} of {}",
            users.len()
        );
    }
}
