//! Which items may be among a user's best, told from factors rounded to bytes: an upper bound of each score that costs a
//! quarter of the score itself.
//!
//! Items come in tiles of [`TILE`], users in blocks of [`BYTE_USERS`]. A user's factors are p = s p8 + e and an item's are
//! q = t q8 + f, where p8 and q8 are integers from -127 to 127, t is one scale for a whole tile, and e and f are what
//! rounding leaves. By the inequality of Cauchy and Schwarz
//!
//! ```text
//! |<p, q> - s t <p8, q8>| = |<p, f> + <e, t q8>| <= |p| |f| + |e| |t q8|
//! ```
//!
//! so a score b + c + <p, q> (item's and user's bias) that reaches `floor` has, in units of s t,
//!
//! ```text
//! <p8, q8> + b / (s t) + (c - floor + |p| |f| + |e| |t q8|) / (s t) >= 0
//! ```
//!
//! Of |f| and |t q8| the largest of the tile stand for all its items, so the last term is one number for a user and a tile.
//! Sums of integers start from the other two terms, rounded, and an item passes if its sum is not negative: no more is
//! done with it. A tile is left out altogether where |s p8| |t q8| in place of the product would not do for any user, and
//! its sums end early, after a quarter and half of the factors ([`checks`]), where the same for the factors that are left
//! does not do for any of its items and any user of the block; after the quarter with the tile's largest b for all its
//! items, whose own are not added before. So it pays to turn factors such that the first are the longest, which changes no
//! product.
//!
//! **Rounding.** What f32 makes of it errs on the side of passing. Let G = |b| + |c| + |floor| + |p| |q| + |e| |t q8|. The
//! score itself, a chain of rank + 1 roundings, is off by at most (rank + 2) 2^-24 G. Each of the roundings on the way to
//! the bound, fewer than 32, is off by 2^-24 of something not above 2 G. Therefore `slack` G is added, with
//! slack = (rank + 64) 2^-23, and [`TINY`] for what is lost below the least normal number. Lengths are summed in f64 and
//! rounded up. In units of s t, there are also the rounding to an integer, and that of the term that undoes the offset
//! (items are stored as q8 + 128, because the instruction multiplies unsigned by signed bytes): less than
//! 2 + rank / 128 together, which is added, too; and as much again to what factors that are left come to at most, for its
//! own rounding: it is not above 255 * 127 for each of them.
//!
//! **Turned rows.** Where p and q are what an orthogonal matrix makes of the factors that are scored ([`ByteScale::turned`]),
//! each of their entries is a chain of as many roundings as the rank, and the matrix has been rounded, too. By Cauchy and
//! Schwarz an entry is off by at most (rank + 8) 2^-24 of the row's length, a row by the root of the rank times that, a product
//! by twice that and |p| |q|, which joins the slack of |p| |q|.
//!
//! **Range.** No integer overflows: the tile's term is held within 2^30, b / (s t) stays within 2^28 because scales have a
//! floor ([`ByteScale`]), and a dot product within 2^29 for ranks up to [`LARGEST_RANK`]. What is held back at 2^30 passes,
//! or fails, whatever the other two are. Factors or biases that are not finite, or beyond [`WILD`], pass always.

mod dot;
mod screen;
#[cfg(test)]
mod tests;

pub(super) use dot::ByteDot;
pub use screen::{Hit, screen};

use super::score::TILE;
use super::vector::LANES;

/// Users in a block.
pub const BYTE_USERS: usize = 8;

/// The largest rank that bytes are summed at.
pub const LARGEST_RANK: usize = 1 << 14;

/// Factors and biases that are larger, or no numbers, are not bounded but passed on.
const WILD: f32 = (1_u64 << 50) as f32;

/// More than all that underflow loses, and far below what matters.
const TINY: f32 = f32::MIN_POSITIVE * (1 << 26) as f32;

/// Where a tile's term is held.
const HELD: f32 = (1 << 30) as f32;

/// The largest magnitude that a factor is rounded to.
const STEPS: f32 = 127.0;

/// Added to an item's byte, so that it has no sign.
const OFFSET: i32 = 128;

/// How often it is looked whether anything of a tile may still pass.
const CHECKS: usize = 2;

/// The steps after which it is looked, of so many; 0 is never. A look costs about as much as a step.
fn checks(steps: usize) -> [usize; CHECKS] {
    match steps {
        0..8 => [0; CHECKS],
        _ => [(steps / 4).max(4), steps / 2],
    }
}

/// Bytes that one step of the kernel takes from a tile: four factors of each item.
const STEP: usize = 4 * TILE;

/// Four factors of each item of a tile, item by item: two cache lines.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct ByteStep([u8; STEP]);

impl ByteStep {
    /// All zeros.
    pub const ZERO: ByteStep = ByteStep([0; STEP]);

    /// How many make a tile at this rank.
    pub fn of_rank(rank: usize) -> usize {
        rank.div_ceil(4)
    }
}

/// What the scales of single users and tiles are held above.
///
/// The scale of a tile is at least 2^-8 of the largest one, and that of a user large enough for the biases of items to stay
/// within 2^28 units. What this costs in precision is far less than a step.
#[derive(Debug, Clone, Copy)]
pub struct ByteScale {
    slack: f32,
    /// Slack of products of factors.
    of_products: f32,
    /// The largest factor and bias, of those that are tame.
    factor: f32,
    bias: f32,
}

impl ByteScale {
    /// For items of this rank, with these biases, and no factors yet but zeros.
    pub fn new(rank: usize, biases: &[f32]) -> ByteScale {
        let slack = (rank + 64) as f32 * 2_f32.powi(-23);
        ByteScale {
            slack,
            of_products: slack,
            factor: 0.0,
            bias: largest(biases),
        }
    }

    /// For rows of this rank that have been turned: f32 products with an orthogonal matrix, whose entries were rounded, too.
    pub fn turned(self, rank: usize) -> ByteScale {
        let turned = (rank as f32).sqrt() * (rank + 8) as f32 * 2_f32.powi(-23);
        ByteScale {
            of_products: self.slack + turned,
            ..self
        }
    }

    /// For items with these factors, too.
    pub fn and(self, factors: &[f32]) -> ByteScale {
        ByteScale {
            factor: self.factor.max(largest(factors)),
            ..self
        }
    }

    /// The scale of a row that has a factor as large as this.
    fn of(factor: f32) -> f32 {
        (factor / STEPS).max(2_f32.powi(-60))
    }

    fn least_of_users(self) -> f32 {
        (self.bias * 2_f32.powi(-20) / Self::of(self.factor)).max(2_f32.powi(-50))
    }

    fn least_of_tiles(self) -> f32 {
        Self::of(self.factor) * 2_f32.powi(-8)
    }
}

/// The largest magnitude of the numbers that are tame.
fn largest(all: &[f32]) -> f32 {
    let tame = all.iter().map(|x| x.abs()).filter(|&x| x <= WILD);
    tame.fold(0.0, f32::max)
}

/// What there is to a tile of items beside their bytes.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct ByteTile {
    /// Each item's bias.
    starts: [f32; TILE],
    /// 1 / t
    per_scale: f32,
    /// The largest |f|, and slack for the largest |q|.
    error: f32,
    /// The largest |t q8|.
    length: f32,
    /// The largest b.
    bias: f32,
    /// Slack for the largest |b|.
    slack: f32,
    /// The largest |q8| of what is left after each check.
    tails: [f32; CHECKS],
}

impl ByteTile {
    /// Rounds up to [`TILE`] items, given by their factors and biases, into `steps`, as many as their rank takes
    /// ([`ByteStep::of_rank`]). Lanes without an item never pass.
    ///
    /// # Panics
    /// If there are too few steps, or too many items.
    pub fn pack<'a>(
        scale: ByteScale,
        items: impl Iterator<Item = (&'a [f32], f32)> + Clone,
        steps: &mut [ByteStep],
    ) -> ByteTile {
        let wild = |(row, bias): (&[f32], f32)| is_wild(row) || is_wild(&[bias]);
        let tame = items.clone().filter(|&item| !wild(item));
        let largest = tame.map(|(row, _)| magnitude(row)).fold(0.0, f32::max);
        let t = (largest / STEPS).max(scale.least_of_tiles());
        let mut tile = ByteTile {
            starts: [f32::NEG_INFINITY; TILE],
            per_scale: 1.0 / t,
            error: 0.0,
            length: 0.0,
            bias: f32::MIN,
            slack: TINY,
            tails: [0.0; CHECKS],
        };
        let checks = checks(steps.len());
        steps.fill(ByteStep::ZERO);
        for (lane, item) in items.enumerate() {
            if wild(item) {
                tile.starts[lane] = 0.0;
                tile.bias = tile.bias.max(0.0);
                tile.slack = f32::INFINITY;
                continue;
            }
            let (row, bias) = item;
            let (mut sums, mut tails) = (Lengths::default(), [0.0; CHECKS]);
            for (at, &x) in row.iter().enumerate() {
                let x8 = sums.round(x, t);
                steps[at / 4].0[4 * lane + at % 4] = (x8 + OFFSET) as u8;
                for (tail, &check) in tails.iter_mut().zip(&checks) {
                    *tail += if at / 4 < check {
                        0.0
                    } else {
                        f64::from(x8 * x8)
                    };
                }
            }
            for (largest, tail) in tile.tails.iter_mut().zip(tails) {
                *largest = largest.max(up(tail));
            }
            tile.starts[lane] = bias;
            let (whole, rest) = (up(sums.rounded), up(sums.rest));
            tile.error = tile.error.max(rest + scale.of_products * (whole + rest));
            tile.length = tile.length.max(whole);
            tile.bias = tile.bias.max(bias);
            tile.slack = tile.slack.max(scale.slack * bias.abs() + TINY);
        }
        tile
    }
}

/// Consecutive tiles of items.
#[derive(Debug, Clone, Copy)]
pub struct ByteTiles<'a> {
    /// Their factors, as [`ByteTile::pack`] left them.
    pub steps: &'a [ByteStep],
    /// What it returned of each tile.
    pub tiles: &'a [ByteTile],
}

/// A block of users: their factors in bytes, and the least score that each of them still takes.
#[derive(Debug, Clone)]
pub struct ByteBlock {
    scale: ByteScale,
    /// Four factors of each user, for each [`ByteStep`].
    words: Vec<[i32; BYTE_USERS]>,
    biases: [f32; BYTE_USERS],
    // Lanes beyond the block are there to fill up a vector.
    per_scale: [f32; LANES],
    length: [f32; LANES],
    error: [f32; LANES],
    rounded: [f32; LANES],
    constant: [f32; LANES],
    /// |p8| of what is left after each check, and what undoes the offset there.
    tails: [[f32; LANES]; CHECKS],
    offsets: [[f32; LANES]; CHECKS],
    reach: [f32; LANES],
}

impl ByteBlock {
    /// A block of nobody, for whom nothing passes.
    ///
    /// # Panics
    /// If the rank is beyond [`LARGEST_RANK`].
    pub fn new(scale: ByteScale, rank: usize) -> ByteBlock {
        assert!(rank <= LARGEST_RANK, "a rank whose sums may overflow");
        ByteBlock {
            scale,
            words: vec![[0; BYTE_USERS]; ByteStep::of_rank(rank)],
            biases: [0.0; BYTE_USERS],
            per_scale: [1.0 / scale.least_of_users(); LANES],
            length: [0.0; LANES],
            error: [0.0; LANES],
            rounded: [0.0; LANES],
            constant: [0.0; LANES],
            tails: [[0.0; LANES]; CHECKS],
            offsets: [[0.0; LANES]; CHECKS],
            reach: [f32::NEG_INFINITY; LANES],
        }
    }

    /// Puts a user at `at`, who takes any score.
    pub fn set(&mut self, at: usize, row: &[f32], bias: f32) {
        for word in &mut self.words {
            word[at] = 0;
        }
        self.biases[at] = bias;
        self.per_scale[at] = 1.0 / self.scale.least_of_users();
        self.length[at] = 0.0;
        self.error[at] = 0.0;
        self.rounded[at] = 0.0;
        for check in 0..CHECKS {
            self.tails[check][at] = 0.0;
            self.offsets[check][at] = 0.0;
        }
        if is_wild(row) || is_wild(&[bias]) {
            self.biases[at] = f32::INFINITY;
        } else {
            let s = (magnitude(row) / STEPS).max(self.scale.least_of_users());
            let (mut sums, mut total) = (Lengths::default(), 0);
            // Squares, and sums, of what is left after each check.
            let checks = checks(self.words.len());
            let mut tails = [(0.0, 0); CHECKS];
            for (step, factors) in row.chunks(4).enumerate() {
                let mut four = [0_u8; 4];
                for (byte, &x) in four.iter_mut().zip(factors) {
                    let x8 = sums.round(x, s);
                    total += x8;
                    *byte = x8 as i8 as u8;
                    for (tail, _) in tails
                        .iter_mut()
                        .zip(&checks)
                        .filter(|&(_, &check)| step >= check)
                    {
                        tail.0 += f64::from(x8 * x8);
                        tail.1 += x8;
                    }
                }
                self.words[step][at] = i32::from_le_bytes(four);
            }
            let rounded = 2 + row.len().div_ceil(128) as i32;
            for (check, (squares, total)) in tails.into_iter().enumerate() {
                self.tails[check][at] = up(squares);
                self.offsets[check][at] = (rounded + OFFSET * total) as f32;
            }
            self.per_scale[at] = 1.0 / s;
            self.length[at] = up(sums.whole);
            self.error[at] = up(sums.rest) * (1.0 + self.scale.slack);
            self.rounded[at] = up(sums.rounded);
            self.constant[at] = (rounded - OFFSET * total) as f32;
        }
        self.set_floor(at, f32::MIN);
    }

    /// From now on, the user at `at` takes scores of at least `floor`.
    pub fn set_floor(&mut self, at: usize, floor: f32) {
        // What is wild may still reach an infinite floor, and needs a difference that is a number.
        let (bias, floor) = (self.biases[at], floor.min(f32::MAX));
        self.reach[at] = bias - floor + self.scale.slack * (bias.abs() + floor.abs());
    }
}

/// Sums of squares of a row: as it is, rounded, and what rounding leaves.
#[derive(Default)]
struct Lengths {
    whole: f64,
    rounded: f64,
    rest: f64,
}

impl Lengths {
    /// The multiple of `scale` next to `x`, noted.
    #[inline(always)]
    fn round(&mut self, x: f32, scale: f32) -> i32 {
        // Added to a small number, its last bits are the nearest integer.
        const MAGIC: f32 = 1.5 * (1 << 23) as f32;
        let steps = (x / scale + MAGIC) - MAGIC;
        let (x, rounded) = (f64::from(x), f64::from(steps) * f64::from(scale));
        self.whole += x * x;
        self.rounded += rounded * rounded;
        self.rest += (x - rounded) * (x - rounded);
        steps as i32
    }
}

/// The root of a sum of squares, rounded up.
fn up(squares: f64) -> f32 {
    (squares.sqrt() * (1.0 + f64::from(f32::EPSILON))) as f32 * (1.0 + f32::EPSILON) + TINY
}

/// The largest magnitude.
fn magnitude(row: &[f32]) -> f32 {
    row.iter().fold(0.0, |largest, x| x.abs().max(largest))
}

/// Whether there is anything that is beyond bounding.
fn is_wild(row: &[f32]) -> bool {
    !row.iter().all(|x| x.abs() <= WILD)
}
