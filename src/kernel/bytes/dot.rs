//! What screening needs of a vector unit beside floats: products of bytes, and the plain Rust form of them.

use crate::kernel::vector::{LANES, Portable, Vector};

/// A unit that multiplies bytes: sixteen lanes of i32, or of four bytes each. A value of an implementing type is the proof
/// that the machine has the unit.
pub(in crate::kernel) trait ByteDot: Copy {
    /// The unit for floats beside it.
    type Vector: Vector;

    /// Sixteen lanes.
    type Integers: Copy;

    /// The unit for floats.
    fn vector(self) -> Self::Vector;

    /// Zero in every lane.
    fn zero(self) -> Self::Integers;

    /// `x` in every lane.
    fn splat(self, x: i32) -> Self::Integers;

    /// Writes sixteen lanes.
    fn store(self, from: Self::Integers, to: &mut [i32; LANES]);

    /// Sixteen lanes of four bytes.
    fn load(self, from: &[u8; 4 * LANES]) -> Self::Integers;

    /// `x` where it lies between `-limit` and `limit`, else the one that is nearer; `-limit` for NaN.
    fn hold(self, x: Floats<Self>, limit: f32) -> Floats<Self>;

    /// The nearest integers, to even from halfway; negative infinity becomes the least.
    fn to_integers(self, x: Floats<Self>) -> Self::Integers;

    /// To each lane of `sum`, adds the products of the lane's four unsigned bytes with the four signed ones of `word`.
    fn dot4(self, items: Self::Integers, word: i32, sum: Self::Integers) -> Self::Integers;

    /// `a + b`
    fn add(self, a: Self::Integers, b: Self::Integers) -> Self::Integers;

    /// The larger of both, lane by lane.
    fn max(self, a: Self::Integers, b: Self::Integers) -> Self::Integers;

    /// `a & b`
    fn and(self, a: Self::Integers, b: Self::Integers) -> Self::Integers;

    /// Bit i is set if lane i is zero or more.
    fn not_negative(self, x: Self::Integers) -> u16;
}

/// Lanes of the unit for floats beside a unit for bytes.
pub(in crate::kernel) type Floats<D> = <<D as ByteDot>::Vector as Vector>::Lanes;

impl ByteDot for Portable {
    type Vector = Portable;
    type Integers = [i32; LANES];

    fn vector(self) -> Portable {
        self
    }

    fn zero(self) -> [i32; LANES] {
        [0; LANES]
    }

    fn splat(self, x: i32) -> [i32; LANES] {
        [x; LANES]
    }

    fn store(self, from: [i32; LANES], to: &mut [i32; LANES]) {
        *to = from;
    }

    fn load(self, from: &[u8; 4 * LANES]) -> [i32; LANES] {
        let words = from.as_chunks().0;
        std::array::from_fn(|i| i32::from_le_bytes(words[i]))
    }

    fn hold(self, x: [f32; LANES], limit: f32) -> [f32; LANES] {
        x.map(|x| x.max(-limit).min(limit))
    }

    fn to_integers(self, x: [f32; LANES]) -> [i32; LANES] {
        x.map(|x| x.round_ties_even() as i32)
    }

    fn dot4(self, items: [i32; LANES], word: i32, sum: [i32; LANES]) -> [i32; LANES] {
        let user = word.to_le_bytes().map(|byte| i32::from(byte as i8));
        std::array::from_fn(|i| {
            let bytes = items[i].to_le_bytes();
            let products = bytes.iter().zip(user).map(|(&x, y)| i32::from(x) * y);
            sum[i].wrapping_add(products.sum())
        })
    }

    fn add(self, a: [i32; LANES], b: [i32; LANES]) -> [i32; LANES] {
        std::array::from_fn(|i| a[i].wrapping_add(b[i]))
    }

    fn max(self, a: [i32; LANES], b: [i32; LANES]) -> [i32; LANES] {
        std::array::from_fn(|i| a[i].max(b[i]))
    }

    fn and(self, a: [i32; LANES], b: [i32; LANES]) -> [i32; LANES] {
        std::array::from_fn(|i| a[i] & b[i])
    }

    fn not_negative(self, x: [i32; LANES]) -> u16 {
        (0..LANES).fold(0, |mask, i| mask | (u16::from(x[i] >= 0) << i))
    }
}
