//! What a kernel needs of a vector unit, and the plain Rust form of it.

use super::unpack;

/// Floats in a vector, whatever the width of the machine's own registers: one cache line.
pub const LANES: usize = 16;

/// A vector unit of [`LANES`] lanes of f32. A value of an implementing type is the proof that the machine has the unit.
///
/// Each operation gives the same bits on every unit: one IEEE rounding for each lane, NaN payloads apart.
pub(super) trait Vector: Copy {
    /// One vector.
    type Lanes: Copy;

    /// How many vectors the register file holds: it decides the size of register tiles.
    const REGISTERS: usize;

    /// Whether this is a unit of the machine: worth a loop of its own for common sizes, as the fallback is not.
    const NATIVE: bool = true;

    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::Lanes;

    /// Sixteen consecutive floats.
    fn load(self, from: &[f32; LANES]) -> Self::Lanes;

    /// Writes sixteen consecutive floats.
    fn store(self, x: Self::Lanes, to: &mut [f32; LANES]);

    /// `a * b`
    fn mul(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;

    /// `a + b`
    fn add(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;

    /// `a * b + c`, rounded once.
    fn mul_add(self, a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes;

    /// `c - a * b`, rounded once.
    fn neg_mul_add(self, a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes;

    /// `a / b`
    fn div(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;

    /// The square root.
    fn sqrt(self, x: Self::Lanes) -> Self::Lanes;

    /// The larger of `x` and zero; zero for NaN.
    fn not_negative(self, x: Self::Lanes) -> Self::Lanes;

    /// Lanes 0 to 7 of `low`, then lanes 8 to 15 of `high`.
    fn halves(self, low: Self::Lanes, high: Self::Lanes) -> Self::Lanes;

    /// `a`, `b`, `a`, `b`.
    fn quarters(self, a: [f32; 4], b: [f32; 4]) -> Self::Lanes;

    /// Lanes 0 to 7, twice.
    fn low_twice(self, x: Self::Lanes) -> Self::Lanes;

    /// Lanes 8 to 15, twice.
    fn high_twice(self, x: Self::Lanes) -> Self::Lanes;

    /// Lanes 4 to 7, 0 to 3, 12 to 15, 8 to 11.
    fn swap_quarters(self, x: Self::Lanes) -> Self::Lanes;

    /// Eight records of four numbers as two vectors: the first numbers of all, then the second ones; the third, then the
    /// fourth.
    fn columns(self, records: [[f32; 4]; 8]) -> [Self::Lanes; 2];

    /// What [`columns`](Vector::columns) was given.
    fn records(self, columns: [Self::Lanes; 2]) -> [[f32; 4]; 8];

    /// Lane `lane` in every lane.
    fn broadcast(self, x: Self::Lanes, lane: usize) -> Self::Lanes;

    /// Lane `lane`.
    fn extract(self, x: Self::Lanes, lane: usize) -> f32;

    /// `x` in lanes `0..lane`, zero in the others.
    fn keep_below(self, x: Self::Lanes, lane: usize) -> Self::Lanes;

    /// The sum of all lanes: upper half to lower half, four times (8, 4, 2, 1).
    fn sum(self, x: Self::Lanes) -> f32;

    /// The sum of vector i in lane i, each in the order of [`Vector::sum`].
    fn sums(self, rows: [Self::Lanes; LANES]) -> Self::Lanes;

    /// [`sum`](Vector::sum) of each of four vectors, for less than four times the work.
    fn sum_four(self, x: [Self::Lanes; 4]) -> [f32; 4];

    /// Lane j of vector i becomes lane i of vector j.
    fn transpose(self, rows: [Self::Lanes; LANES]) -> [Self::Lanes; LANES];

    /// Bit i is set if lane i of `x` is at least lane i of `floor`; never for NaN.
    fn at_least(self, x: Self::Lanes, floor: Self::Lanes) -> u16;

    /// Asks for line `at`, which will be read soon. That there is such a line is not looked at.
    fn prefetch(self, lines: &[[f32; LANES]], at: usize);

    /// Ids from gaps of `width` bits, `width` bytes for eight of them: each id is the one before, plus the gap, plus one,
    /// in 32 bits; `last` is the one before the first. Returns the last id. Up to [`SLACK`](super::unpack::SLACK) bytes
    /// behind the gaps are read, and must be there.
    fn unpack(self, packed: &[u8], width: usize, last: u32, ids: &mut [[u32; 8]]) -> u32;

    /// The entry of the codebook for each of eight codes of four bits in four bytes.
    fn look_up(self, codes: &[[u8; 4]], codebook: &[f32; 16], values: &mut [[f32; 8]]);
}

/// Plain arrays: the specification, and the fallback.
#[derive(Clone, Copy)]
pub(super) struct Portable;

impl Vector for Portable {
    type Lanes = [f32; LANES];

    // As on a machine with 32 registers of four floats.
    const REGISTERS: usize = 8;

    const NATIVE: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> [f32; LANES] {
        [x; LANES]
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> [f32; LANES] {
        *from
    }

    #[inline(always)]
    fn store(self, x: [f32; LANES], to: &mut [f32; LANES]) {
        *to = x;
    }

    #[inline(always)]
    fn mul(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        std::array::from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn add(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        std::array::from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn mul_add(self, a: [f32; LANES], b: [f32; LANES], c: [f32; LANES]) -> [f32; LANES] {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }

    #[inline(always)]
    fn neg_mul_add(self, a: [f32; LANES], b: [f32; LANES], c: [f32; LANES]) -> [f32; LANES] {
        std::array::from_fn(|i| (-a[i]).mul_add(b[i], c[i]))
    }

    #[inline(always)]
    fn div(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        std::array::from_fn(|i| a[i] / b[i])
    }

    #[inline(always)]
    fn sqrt(self, x: [f32; LANES]) -> [f32; LANES] {
        x.map(f32::sqrt)
    }

    #[inline(always)]
    fn not_negative(self, x: [f32; LANES]) -> [f32; LANES] {
        x.map(|x| if x > 0.0 { x } else { 0.0 })
    }

    #[inline(always)]
    fn halves(self, low: [f32; LANES], high: [f32; LANES]) -> [f32; LANES] {
        std::array::from_fn(|i| if i < LANES / 2 { low[i] } else { high[i] })
    }

    #[inline(always)]
    fn quarters(self, a: [f32; 4], b: [f32; 4]) -> [f32; LANES] {
        std::array::from_fn(|i| [a, b][i / 4 % 2][i % 4])
    }

    #[inline(always)]
    fn low_twice(self, x: [f32; LANES]) -> [f32; LANES] {
        std::array::from_fn(|i| x[i % (LANES / 2)])
    }

    #[inline(always)]
    fn high_twice(self, x: [f32; LANES]) -> [f32; LANES] {
        std::array::from_fn(|i| x[i % (LANES / 2) + LANES / 2])
    }

    #[inline(always)]
    fn swap_quarters(self, x: [f32; LANES]) -> [f32; LANES] {
        std::array::from_fn(|i| x[i ^ 4])
    }

    #[inline(always)]
    fn columns(self, records: [[f32; 4]; 8]) -> [[f32; LANES]; 2] {
        std::array::from_fn(|c| std::array::from_fn(|i| records[i % 8][2 * c + i / 8]))
    }

    #[inline(always)]
    fn records(self, columns: [[f32; LANES]; 2]) -> [[f32; 4]; 8] {
        std::array::from_fn(|r| std::array::from_fn(|n| columns[n / 2][8 * (n % 2) + r]))
    }

    #[inline(always)]
    fn broadcast(self, x: [f32; LANES], lane: usize) -> [f32; LANES] {
        [x[lane]; LANES]
    }

    #[inline(always)]
    fn extract(self, x: [f32; LANES], lane: usize) -> f32 {
        x[lane]
    }

    #[inline(always)]
    fn keep_below(self, x: [f32; LANES], lane: usize) -> [f32; LANES] {
        std::array::from_fn(|i| if i < lane { x[i] } else { 0.0 })
    }

    #[inline(always)]
    fn sum(self, mut x: [f32; LANES]) -> f32 {
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                x[i] += x[i + half];
            }
        }
        x[0]
    }

    #[inline(always)]
    fn sums(self, rows: [[f32; LANES]; LANES]) -> [f32; LANES] {
        rows.map(|x| self.sum(x))
    }

    #[inline(always)]
    fn sum_four(self, x: [[f32; LANES]; 4]) -> [f32; 4] {
        x.map(|x| self.sum(x))
    }

    #[inline(always)]
    fn transpose(self, rows: [[f32; LANES]; LANES]) -> [[f32; LANES]; LANES] {
        std::array::from_fn(|i| std::array::from_fn(|j| rows[j][i]))
    }

    #[inline(always)]
    fn at_least(self, x: [f32; LANES], floor: [f32; LANES]) -> u16 {
        (0..LANES).fold(0, |mask, i| mask | (u16::from(x[i] >= floor[i]) << i))
    }

    #[inline(always)]
    fn prefetch(self, _lines: &[[f32; LANES]], _at: usize) {}

    #[inline(always)]
    fn unpack(self, packed: &[u8], width: usize, last: u32, ids: &mut [[u32; 8]]) -> u32 {
        unpack::unpack(packed, width, last, ids)
    }

    #[inline(always)]
    fn look_up(self, codes: &[[u8; 4]], codebook: &[f32; 16], values: &mut [[f32; 8]]) {
        unpack::look_up_eights(codes, codebook, values);
    }
}

/// The sixteen floats from `at` on.
#[inline(always)]
pub(super) fn lanes(slice: &[f32], at: usize) -> &[f32; LANES] {
    slice[at..].first_chunk().expect("a whole vector")
}

/// The sixteen floats from `at` on, to be written.
#[inline(always)]
pub(super) fn lanes_mut(slice: &mut [f32], at: usize) -> &mut [f32; LANES] {
    slice[at..].first_chunk_mut().expect("a whole vector")
}

/// The `N` vectors from `at` on.
#[inline(always)]
pub(super) fn vectors<const N: usize>(lines: &[[f32; LANES]], at: usize) -> &[[f32; LANES]; N] {
    lines[at..].first_chunk().expect("whole vectors")
}

/// The `N` vectors from `at` on, to be written.
#[inline(always)]
pub(super) fn vectors_mut<const N: usize>(
    lines: &mut [[f32; LANES]],
    at: usize,
) -> &mut [[f32; LANES]; N] {
    lines[at..].first_chunk_mut().expect("whole vectors")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bits, noise};
    use super::super::{Isa, Kernel};
    use super::*;

    /// Every operation once, on a square of numbers.
    struct AllOperations<'a>(&'a [f32]);

    impl Kernel for AllOperations<'_> {
        type Output = (Vec<f32>, Vec<u16>);

        fn run<V: Vector>(self, v: V) -> Self::Output {
            let mut rows = [v.splat(0.0); LANES];
            for (i, row) in rows.iter_mut().enumerate() {
                *row = v.load(lanes(self.0, i * LANES));
            }
            let (mut scalars, mut masks, mut vectors) = (Vec::new(), Vec::new(), Vec::new());
            for i in 0..LANES {
                let (a, b, c) = (rows[i], rows[(i + 1) % LANES], rows[(i + 2) % LANES]);
                scalars.extend([v.sum(a), v.extract(a, i)]);
                scalars.extend(v.sum_four([a, b, c, rows[(i + 3) % LANES]]));
                masks.push(v.at_least(a, b));
                vectors.extend([
                    v.mul(a, b),
                    v.add(a, b),
                    v.mul_add(a, b, c),
                    v.neg_mul_add(a, b, c),
                    v.broadcast(a, i),
                    v.keep_below(a, i),
                    v.splat(self.0[i]),
                    v.div(a, b),
                    v.sqrt(v.mul(a, a)),
                    v.not_negative(a),
                    v.halves(a, b),
                    v.low_twice(a),
                    v.high_twice(a),
                    v.swap_quarters(a),
                ]);
                let records = |at: usize| -> [[f32; 4]; 8] {
                    let of = |r: usize| *self.0[at + 4 * r..].first_chunk().expect("four");
                    [of(0), of(1), of(2), of(3), of(4), of(5), of(6), of(7)]
                };
                let eight = records(LANES * i.min(LANES - 2));
                let columns = v.columns(eight);
                vectors.extend(columns);
                vectors.push(v.quarters(eight[0], eight[1]));
                scalars.extend(v.records(columns).as_flattened());
                assert_eq!(
                    bits(v.records(columns).as_flattened()),
                    bits(eight.as_flattened())
                );
            }
            vectors.extend([v.keep_below(rows[0], LANES), v.sums(rows)]);
            vectors.extend(v.transpose(rows));
            let mut out = vec![0.0; vectors.len() * LANES];
            for (i, &x) in vectors.iter().enumerate() {
                v.store(x, lanes_mut(&mut out, i * LANES));
            }
            scalars.extend(out);
            (scalars, masks)
        }
    }

    #[test]
    fn all_units_give_the_same_bits() {
        let mut square = noise(1, LANES * LANES);
        square[3] = square[19];
        square[40] = -0.0;
        square[56] = 0.0;
        let (numbers, masks) = Isa::PORTABLE.run(AllOperations(&square));
        for isa in Isa::available() {
            let (a, b) = isa.run(AllOperations(&square));
            assert_eq!(bits(&a), bits(&numbers), "{isa:?}");
            assert_eq!(b, masks, "{isa:?}");
        }
    }

    #[test]
    fn nan_is_never_at_least_anything() {
        struct AtLeast;
        impl Kernel for AtLeast {
            type Output = u16;

            fn run<V: Vector>(self, v: V) -> u16 {
                let mut x = [f32::NAN; LANES];
                x[2] = -1.0;
                x[9] = f32::INFINITY;
                x[15] = f32::NEG_INFINITY;
                v.at_least(v.load(&x), v.splat(-1.0))
            }
        }
        for isa in Isa::available() {
            assert_eq!(isa.run(AtLeast), 1 << 2 | 1 << 9, "{isa:?}");
        }
    }
}
