//! Bounds of a block of users for tile after tile of items.

use super::dot::ByteDot;
use super::{BYTE_USERS, ByteBlock, ByteStep, ByteTile, ByteTiles, HELD};
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
        let mut found = 0;
        for (at, tile) in items.tiles.iter().enumerate() {
            let steps = &items.steps[at * pitch..][..pitch];
            for (first, block) in (0..).step_by(BYTE_USERS).zip(users) {
                let Some((unit, room)) = terms(d, block, tile) else {
                    continue;
                };
                let one = Tile {
                    words: &block.words,
                    steps,
                    starts: &tile.starts,
                    unit: &unit,
                    room: &room,
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

/// For each user of a block, the unit of a tile's biases and what is added to them; nothing if no user can take any item.
#[inline(always)]
fn terms<D: ByteDot>(
    d: D,
    users: &ByteBlock,
    tile: &ByteTile,
) -> Option<([f32; LANES], [f32; LANES])> {
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
    let mut terms = ([0.0; LANES], [0.0; LANES]);
    v.store(unit, &mut terms.0);
    v.store(room, &mut terms.1);
    Some(terms)
}

/// One tile, and what sums start from.
struct Tile<'a> {
    words: &'a [[i32; BYTE_USERS]],
    steps: &'a [ByteStep],
    starts: &'a [f32; TILE],
    unit: &'a [f32; LANES],
    room: &'a [f32; LANES],
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
        for r in 0..R {
            let unit = v.splat(self.unit[user + r]);
            let room = v.splat(self.room[user + r]);
            for c in 0..C {
                let start = v.load(lanes(self.starts, (half + c) * LANES));
                sums[r][c] = d.to_integers(v.mul_add(start, unit, room));
            }
        }
        for (step, words) in self.steps.iter().zip(self.words) {
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
        // The sign of the conjunction is set if all are negative.
        let mut all = sums[0][0];
        for r in 0..R {
            for c in 0..C {
                all = d.and(all, sums[r][c]);
            }
        }
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
}
