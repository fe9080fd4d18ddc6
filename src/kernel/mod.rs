//! Pure arithmetic on slices: no threads, files, randomness or allocation.
//!
//! Every kernel is written once, over a vector of sixteen lanes (`vector::Vector`), and compiled three times: with
//! plain arrays, with AVX2 and with AVX-512. Each file says in which order its kernel adds; since all three compilations
//! add in that order, with one rounding for each multiply-add, they give the same bits. The choice is made once for a
//! whole row, panel or tile, never for a single dot product.
//!
//! Factors come as flat slices: row-major, each row padded with zeros to a multiple of [`LANES`] floats. Slices may start
//! anywhere, but are read fastest if they start on a cache line.

// A register tile is indexed by its row and column, as in the formulas.
#![allow(clippy::needless_range_loop)]

mod bytes;
mod cholesky;
mod descend;
mod dot;
mod gather;
mod gram;
mod peak;
mod residual;
mod rows;
mod score;
mod select;
mod sgd;
mod side_by_side;
mod softmax;
mod triangle;
mod unpack;
mod vector;
mod wide;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use bytes::{
    BYTE_USERS, ByteBlock, ByteScale, ByteStep, ByteTile, ByteTiles, Hit, LARGEST_RANK, screen,
};
pub use cholesky::{NotPositiveDefinite, solve, solve_scratch_len};
pub use descend::{Descent, descend};
pub use dot::{add_scaled_rows, dot, dot_rows};
pub use gather::{copy_rows, turn_rows, turned_len};
pub use gram::{NormalEquations, PANEL, Segment};
pub use peak::{PEAK_STEP_FLOP, multiply_adds};
pub use residual::add_residual_rows;
pub use score::{ItemRows, PackedItems, TILE, UserRows, pack_items, packed_len, score, score_rows};
pub use select::{Candidate, TopN, exclude};
pub use sgd::{SIDE_BY_SIDE, SgdRatings, SgdRow, SgdRows, SgdSlope, SgdStep, sgd};
pub use side_by_side::{SMALL, SYSTEMS, solve_sixteen};
pub use softmax::softmax;
pub use unpack::{BLOCK, look_up, packed_ids_len, unpack_ids};
pub use vector::LANES;
pub use wide::{add_squares, subtract_products, symmetric_product};

use bytes::ByteDot;
use vector::{Portable, Vector};

/// An instruction set that this machine has. Owning one is the proof: there is no other way to make it than to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa(Set);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2Fma(x86::Avx2Fma),
    #[cfg(target_arch = "x86_64")]
    Avx512(x86::Avx512),
}

impl Isa {
    /// Plain Rust, on every machine. Slow where the target has no fused multiply-add, because each then is a call.
    pub const PORTABLE: Isa = Isa(Set::Portable);

    /// The fastest set of this machine.
    pub fn best() -> Isa {
        Isa::available().last().unwrap_or(Isa::PORTABLE)
    }

    /// All sets of this machine, the slowest first.
    pub fn available() -> impl Iterator<Item = Isa> {
        [
            Some(Isa::PORTABLE),
            #[cfg(target_arch = "x86_64")]
            x86::Avx2Fma::detect().map(|unit| Isa(Set::Avx2Fma(unit))),
            #[cfg(target_arch = "x86_64")]
            x86::Avx512::detect().map(|unit| Isa(Set::Avx512(unit))),
        ]
        .into_iter()
        .flatten()
    }

    /// The name of the set, as reports show it.
    pub fn name(self) -> &'static str {
        match self.0 {
            Set::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2Fma(_) => "avx2+fma",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(_) => "avx512",
        }
    }

    /// Runs a loop as compiled for this set.
    pub fn run_plain<P: Plain>(self, plain: P) -> P::Output {
        self.run(OfPlain(plain))
    }

    /// Runs a kernel as compiled for this set.
    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            Set::Portable => kernel.run(Portable),
            #[cfg(target_arch = "x86_64")]
            Set::Avx2Fma(unit) => unit.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Set::Avx512(unit) => unit.run(kernel),
        }
    }
}

/// An instruction set that multiplies bytes. Owning one is the proof that this machine has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteIsa(ByteSet);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ByteSet {
    Portable,
    #[cfg(target_arch = "x86_64")]
    AvxVnni(x86::AvxVnni),
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(x86::Avx512Vnni),
}

impl ByteIsa {
    /// Plain Rust, on every machine: slower than the products of floats that bytes are to save.
    pub const PORTABLE: ByteIsa = ByteIsa(ByteSet::Portable);

    /// The fastest set of this machine, if it has any by which bytes are faster than floats.
    pub fn best() -> Option<ByteIsa> {
        ByteIsa::available().skip(1).last()
    }

    /// All sets of this machine, the slowest first.
    pub fn available() -> impl Iterator<Item = ByteIsa> {
        [
            Some(ByteIsa::PORTABLE),
            #[cfg(target_arch = "x86_64")]
            x86::AvxVnni::detect().map(|unit| ByteIsa(ByteSet::AvxVnni(unit))),
            #[cfg(target_arch = "x86_64")]
            x86::Avx512Vnni::detect().map(|unit| ByteIsa(ByteSet::Avx512Vnni(unit))),
        ]
        .into_iter()
        .flatten()
    }

    /// The name of the set, as reports show it.
    pub fn name(self) -> &'static str {
        match self.0 {
            ByteSet::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            ByteSet::AvxVnni(_) => "avx-vnni",
            #[cfg(target_arch = "x86_64")]
            ByteSet::Avx512Vnni(_) => "avx512-vnni",
        }
    }

    /// Runs a kernel as compiled for this set.
    fn run<K: ByteKernel>(self, kernel: K) -> K::Output {
        match self.0 {
            ByteSet::Portable => kernel.run(Portable),
            #[cfg(target_arch = "x86_64")]
            ByteSet::AvxVnni(unit) => unit.run(kernel),
            #[cfg(target_arch = "x86_64")]
            ByteSet::Avx512Vnni(unit) => unit.run(kernel),
        }
    }
}

/// As [`Kernel`], on a unit that multiplies bytes.
trait ByteKernel {
    type Output;

    fn run<D: ByteDot>(self, d: D) -> Self::Output;
}

/// The arguments of one call, and what to do with them on a vector unit.
///
/// `run` and all that it calls with lanes in hand are `#[inline(always)]`: only what ends up inside the function that
/// enables the instruction set is compiled for it. Closures may end up elsewhere, and so hold no lanes.
trait Kernel {
    type Output;

    fn run<V: Vector>(self, v: V) -> Self::Output;
}

/// A loop in plain Rust whose turns do not depend on each other: the compiler makes vectors of it by itself, as wide as the set
/// has them, and rounds each number as if it stood alone, so that no bit depends on the set.
///
/// `run` and all that should become vectors with it are `#[inline(always)]`, as in kernels.
pub trait Plain {
    /// What comes of it.
    type Output;

    /// Runs the loop.
    fn run(self) -> Self::Output;
}

/// A loop as a kernel that has no use for lanes.
struct OfPlain<P>(P);

impl<P: Plain> Kernel for OfPlain<P> {
    type Output = P::Output;

    #[inline(always)]
    fn run<V: Vector>(self, _v: V) -> P::Output {
        self.0.run()
    }
}

/// Asks for memory in pages as large as there are, for numbers that will be read here and there: reads then seldom wait for
/// the table of addresses. `room` must not have been touched yet; where there are no such pages, nothing is done.
pub fn prefer_huge_pages<T>(room: &mut [std::mem::MaybeUninit<T>]) {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    x86::prefer_huge_pages(room);
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    let _ = room;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many numbers from -1 to 1, a function of the seed.
    pub(super) fn noise(seed: u64, len: usize) -> Vec<f32> {
        let mut state = seed;
        let mut draw = || {
            // Steele, Lea and Flood's splitmix64.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..len).map(|_| draw()).collect()
    }

    /// Rows of `rank` such numbers, padded.
    pub(super) fn noise_rows(seed: u64, rows: usize, rank: usize) -> Vec<f32> {
        let stride = rank.next_multiple_of(LANES);
        let mut flat = noise(seed, rows * stride);
        for row in flat.chunks_exact_mut(stride) {
            row[rank..].fill(0.0);
        }
        flat
    }

    /// So many row numbers below `rows`.
    pub(super) fn noise_cols(seed: u64, len: usize, rows: usize) -> Vec<u32> {
        let draws = noise(seed, len);
        let col = |x: f32| ((x + 1.0) / 2.0 * rows as f32) as u32;
        draws
            .into_iter()
            .map(|x| col(x).min(rows as u32 - 1))
            .collect()
    }

    pub(super) fn bits(x: &[f32]) -> Vec<u32> {
        x.iter().map(|x| x.to_bits()).collect()
    }

    #[test]
    fn portable_comes_first_and_the_best_comes_last() {
        let all: Vec<Isa> = Isa::available().collect();
        assert_eq!(all[0], Isa::PORTABLE);
        assert_eq!(all.last(), Some(&Isa::best()));
    }
}
