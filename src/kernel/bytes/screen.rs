//! Bounds of a block of users for tile after tile of items.

use std::ops::Range;

use super::dot::ByteDot;
use super::{BYTE_USERS, ByteBlock, ByteStep, ByteTile, ByteTiles, CHECKS, HELD, checks};
use crate::kernel::score::TILE;
use crate::kernel::vector::{LANES, Vector, lanes};
use crate::kernel::{ByteIsa, ByteKernel};

/// Items of a tile that may be good enough for a user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hit {
    /// The user: eight a block.
    pub user: u32,
    /// The tile.
    pub tile: u32,
    /// Bit i is set if item i of the tile passes.
    pub items: u32,
}

/// Finds the items whose scores may reach the floors of the users. Writes a hit for each user and tile with at least one,
/// tile by tile, and returns how many. A tile stays in the first cache while all blocks meet it.
///
/// # Panics
/// If a slice is too short, or `hits` has not room for one for each user and tile.
pub fn screen(isa: ByteIsa, users: &[ByteBlock], items: ByteTiles<'_>, hits: &mut [Hit]) -> usize {
    assert!(
        hits.len() >= users.len() * BYTE_USERS * items.tiles.len(),
        "no room for all hits"
    );
    isa.run(Screen { users, items, hits })
}

struct Screen<'a> {
    users: &'a [ByteBlock],
    items: ByteTiles<'a>,
    hits: &'a mut [Hit],
}

impl ByteKernel for Screen<'_> {
    type Output = usize;

    #[inline(always)]
    fn run<D: ByteDot>(self, d: D) -> usize {
        let Screen { users, items, hits } = self;
        let pitch = items.steps.len() / items.tiles.len().max(1);
        let checks = checks(pitch);
        let mut found = 0;
        for (at, tile) in items.tiles.iter().enumerate() {
            let steps = &items.steps[at * pitch..][..pitch];
            for (first, block) in (0..).step_by(BYTE_USERS).zip(users) {
                let Some(terms) = terms(d, block, tile) else {
                    continue;
                };
                let one = Tile {
                    words: &block.words,
                    steps,
                    checks,
                    starts: &tile.starts,
                    terms: &terms,
                };
                let mut passed = [0; BYTE_USERS];
                if <D::Vector as Vector>::REGISTERS >= 32 {
                    one.block::<D, BYTE_USERS, 2>(d, 0, 0, &mut passed);
                } else {
                    for (user, half) in [(0, 0), (0, 1), (4, 0), (4, 1)] {
                        one.block::<D, 4, 1>(d, user, half, &mut passed);
                    }
                }
                if passed == [0; BYTE_USERS] {
                    continue;
                }
                for (user, &items) in (first..).zip(&passed) {
                    if items != 0 {
                        let tile = at as u32;
                        hits[found] = Hit { user, tile, items };
                        found += 1;
                    }
                }
            }
        }
        found
    }
}

/// What there is to a tile and each user of a block.
struct Terms {
    /// The unit of the items' biases.
    unit: [f32; LANES],
    /// What is added to them.
    room: [f32; LANES],
    /// What is added at each check, for the products from there on: at the first, for the items' biases, too.
    rests: [[i32; LANES]; CHECKS],
}

/// The terms of a block and a tile; nothing if no user can take any item.
#[inline(always)]
fn terms<D: ByteDot>(d: D, users: &ByteBlock, tile: &ByteTile) -> Option<Terms> {
    let v = d.vector();
    let room = v.add(v.load(&users.reach), v.splat(tile.slack));
    let room = v.mul_add(v.load(&users.length), v.splat(tile.error), room);
    let whole = v.splat(tile.length);
    let room = v.mul_add(v.load(&users.error), whole, room);
    let best = v.mul_add(v.load(&users.rounded), whole, v.splat(tile.bias));
    if v.at_least(v.add(best, room), v.splat(0.0)) == 0 {
        return None;
    }
    let unit = v.mul(v.load(&users.per_scale), v.splat(tile.per_scale));
    let room = d.hold(v.mul_add(unit, room, v.load(&users.constant)), HELD);
    let mut terms = Terms {
        unit: [0.0; LANES],
        room: [0.0; LANES],
        rests: [[0; LANES]; CHECKS],
    };
    v.store(unit, &mut terms.unit);
    v.store(room, &mut terms.room);
    for check in 0..CHECKS {
        let (tail, offset) = (v.load(&users.tails[check]), v.load(&users.offsets[check]));
        let tail = v.mul_add(tail, v.splat(tile.tails[check]), offset);
        let mut rest = d.to_integers(tail);
        if check == 0 {
            // Rounded like what sums start from, so never less than that.
            rest = d.add(
                rest,
                d.to_integers(v.mul_add(v.splat(tile.bias), unit, room)),
            );
        }
        d.store(rest, &mut terms.rests[check]);
    }
    Some(terms)
}

/// One tile, and what sums start from.
struct Tile<'a> {
    words: &'a [[i32; BYTE_USERS]],
    steps: &'a [ByteStep],
    checks: [usize; CHECKS],
    starts: &'a [f32; TILE],
    terms: &'a Terms,
}

impl Tile<'_> {
    /// Bounds of `R` users from `user` on for `C` vectors of items from the `half`th on. Sets bits of what passes.
    #[inline(always)]
    fn block<D: ByteDot, const R: usize, const C: usize>(
        &self,
        d: D,
        user: usize,
        half: usize,
        passed: &mut [u32; BYTE_USERS],
    ) {
        let v = d.vector();
        let mut sums = [[d.zero(); C]; R];
        let [first, second] = self.checks;
        if first > 0 {
            self.add(d, user, half, 0..first, &mut sums);
            if !self.any(d, user, 0, &sums) {
                return;
            }
        }
        for r in 0..R {
            let unit = v.splat(self.terms.unit[user + r]);
            let room = v.splat(self.terms.room[user + r]);
            for c in 0..C {
                let start = v.load(lanes(self.starts, (half + c) * LANES));
                let start = d.to_integers(v.mul_add(start, unit, room));
                sums[r][c] = d.add(sums[r][c], start);
            }
        }
        if second > first {
            self.add(d, user, half, first..second, &mut sums);
            if !self.any(d, user, 1, &sums) {
                return;
            }
        }
        self.add(
            d,
            user,
            half,
            first.max(second)..self.steps.len(),
            &mut sums,
        );
        let all = sums.as_flattened().iter().copied();
        let all = all.reduce(|all, sum| d.and(all, sum)).expect("some sums");
        if d.not_negative(all) == 0 {
            return;
        }
        for r in 0..R {
            for c in 0..C {
                let bits = u32::from(d.not_negative(sums[r][c]));
                passed[user + r] |= bits << ((half + c) * LANES);
            }
        }
    }

    /// Whether any item may still pass at a check.
    #[inline(always)]
    fn any<D: ByteDot, const R: usize, const C: usize>(
        &self,
        d: D,
        user: usize,
        check: usize,
        sums: &[[D::Integers; C]; R],
    ) -> bool {
        let most = |r: usize| {
            let most = (1..C).fold(sums[r][0], |most, c| d.max(most, sums[r][c]));
            d.add(most, d.splat(self.terms.rests[check][user + r]))
        };
        // The sign of the conjunction is set if all are negative.
        let all = (1..R).fold(most(0), |all, r| d.and(all, most(r)));
        d.not_negative(all) != 0
    }

    /// Adds the products of some steps.
    #[inline(always)]
    fn add<D: ByteDot, const R: usize, const C: usize>(
        &self,
        d: D,
        user: usize,
        half: usize,
        steps: Range<usize>,
        sums: &mut [[D::Integers; C]; R],
    ) {
        for (step, words) in self.steps[steps.clone()].iter().zip(&self.words[steps]) {
            let mut items = [d.zero(); C];
            for c in 0..C {
                items[c] = d.load(&step.0.as_chunks().0[half + c]);
            }
            for r in 0..R {
                for c in 0..C {
                    sums[r][c] = d.dot4(items[c], words[user + r], sums[r][c]);
                }
            }
        }
    }
}
