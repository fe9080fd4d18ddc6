//! Ascending ids from bit-packed gaps, and values from four-bit codes.
//!
//! A row's ids lie in blocks of at most [`BLOCK`]. A block is one byte with a width w from 0 to 32, then w bits for each
//! of its ids, the lowest bits first, end to end: the gap to the id before, less one. Eight gaps are w whole bytes, so
//! that every group of eight starts on a byte, and where in those bytes a gap lies depends on w alone.

use super::vector::Vector;
use super::{Isa, Kernel};

/// The most ids in a block.
pub const BLOCK: usize = 128;

/// Bytes beyond the last gap that a vector unit may read.
pub(super) const SLACK: usize = 16;

/// How many bytes `count` packed ids take at the start of `packed`; `None` if they do not fit or a width is above 32.
pub fn packed_ids_len(packed: &[u8], count: usize) -> Option<usize> {
    let mut at = 0;
    for done in (0..count).step_by(BLOCK) {
        let width = usize::from(*packed.get(at)?);
        if width > 32 {
            return None;
        }
        at += 1 + ((count - done).min(BLOCK) * width).div_ceil(8);
    }
    (at <= packed.len()).then_some(at)
}

/// Decodes `ids.len()` ids from the start of `packed`, which may go on behind them. They ascend unless a gap leads
/// beyond 32 bits.
///
/// # Panics
/// If [`packed_ids_len`] is `None`.
pub fn unpack_ids(isa: Isa, packed: &[u8], ids: &mut [u32]) {
    isa.run(UnpackIds { packed, ids });
}

struct UnpackIds<'a> {
    packed: &'a [u8],
    ids: &'a mut [u32],
}

impl Kernel for UnpackIds<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, v: V) {
        let mut packed = self.packed;
        // One before the first id.
        let mut last = u32::MAX;
        let mut near_the_end = [0; BLOCK * 4 + SLACK];
        for block in self.ids.chunks_mut(BLOCK) {
            let (&width, rest) = packed.split_first().expect("a block has a width");
            let width = usize::from(width);
            assert!(width <= 32, "a gap has at most 32 bits");
            let (gaps, behind) = rest.split_at((block.len() * width).div_ceil(8));
            let readable = if rest.len() >= BLOCK * width / 8 + SLACK {
                rest
            } else {
                near_the_end[..gaps.len()].copy_from_slice(gaps);
                &near_the_end
            };
            let (eights, few) = block.as_chunks_mut();
            last = v.unpack(readable, width, last, eights);
            if !few.is_empty() {
                let mut eight = [[0; 8]];
                v.unpack(&readable[eights.len() * width..], width, last, &mut eight);
                few.copy_from_slice(&eight[0][..few.len()]);
            }
            packed = behind;
        }
    }
}

/// [`Vector::unpack`] in plain Rust.
#[inline(always)]
pub(super) fn unpack(packed: &[u8], width: usize, mut last: u32, ids: &mut [[u32; 8]]) -> u32 {
    let mask = ((1_u64 << width) - 1) as u32;
    for (i, eight) in ids.iter_mut().enumerate() {
        let bytes = &packed[i * width..];
        for (j, id) in eight.iter_mut().enumerate() {
            let (byte, bit) = (j * width / 8, j * width % 8);
            let word = u64::from_le_bytes(*bytes[byte..].first_chunk().expect("slack"));
            let gap = (word >> bit) as u32 & mask;
            last = last.wrapping_add(gap).wrapping_add(1);
            *id = last;
        }
    }
    last
}

/// Writes `codebook[code]` for the first `values.len()` four-bit codes, of which a byte has two, the lower bits first.
///
/// # Panics
/// If there are fewer codes than values.
pub fn look_up(isa: Isa, codes: &[u8], codebook: &[f32; 16], values: &mut [f32]) {
    isa.run(LookUp {
        codes,
        codebook,
        values,
    });
}

struct LookUp<'a> {
    codes: &'a [u8],
    codebook: &'a [f32; 16],
    values: &'a mut [f32],
}

impl Kernel for LookUp<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, v: V) {
        let (eights, few) = self.values.as_chunks_mut();
        let (fours, rest) = self.codes.as_chunks();
        v.look_up(&fours[..eights.len()], self.codebook, eights);
        // What is left may lie in a whole group of four bytes or in less.
        let rest = fours.get(eights.len()).map_or(rest, |four| &four[..]);
        for (i, value) in few.iter_mut().enumerate() {
            *value = self.codebook[usize::from(rest[i / 2] >> (4 * (i % 2)) & 15)];
        }
    }
}

/// [`Vector::look_up`] in plain Rust.
#[inline(always)]
pub(super) fn look_up_eights(codes: &[[u8; 4]], codebook: &[f32; 16], values: &mut [[f32; 8]]) {
    for (codes, values) in codes.iter().zip(values) {
        for (code, pair) in codes.iter().zip(values.as_chunks_mut::<2>().0) {
            *pair = [code & 15, code >> 4].map(|code| codebook[usize::from(code)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bits, noise};
    use super::*;
    use proptest::prelude::*;

    /// The definition, bit by bit.
    fn twin(packed: &[u8], count: usize) -> Vec<u32> {
        let mut ids: Vec<u32> = Vec::new();
        let mut at = 0;
        while ids.len() < count {
            let width = usize::from(packed[at]);
            at += 1;
            let block = (count - ids.len()).min(BLOCK);
            for i in 0..block {
                let bit = |bit: usize| u32::from(packed[at + bit / 8] >> (bit % 8) & 1);
                let gap = (0..width).fold(0, |gap, b| gap | bit(i * width + b) << b);
                let before = ids.last().map_or(u32::MAX, |&id| id);
                ids.push(before.wrapping_add(gap).wrapping_add(1));
            }
            at += (block * width).div_ceil(8);
        }
        assert_eq!(packed_ids_len(packed, count), Some(at));
        ids
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn any_bytes_give_the_same_ids_on_every_unit(
            widths in proptest::collection::vec(0_u8..=32, 4),
            count in 0..=4 * BLOCK,
            behind in 0_usize..40,
            seed: u64,
        ) {
            let mut packed: Vec<u8> = Vec::new();
            let mut draw = noise(seed, 4 * (BLOCK * 4 + 1) + 40).into_iter().map(|x| (x * 1e6) as i32 as u8);
            for (block, width) in (0..count).step_by(BLOCK).zip(widths) {
                packed.push(width);
                let bytes = ((count - block).min(BLOCK) * usize::from(width)).div_ceil(8);
                packed.extend(draw.by_ref().take(bytes));
            }
            let len = packed.len();
            packed.extend(draw.take(behind));
            let expected = twin(&packed, count);
            prop_assert_eq!(packed_ids_len(&packed, count), Some(len));
            prop_assert!(len == 0 || packed_ids_len(&packed[..len - 1], count).is_none());
            for isa in Isa::available() {
                for packed in [&packed[..], &packed[..len]] {
                    let mut ids = vec![0; count];
                    unpack_ids(isa, packed, &mut ids);
                    prop_assert_eq!(&ids, &expected, "{:?}", isa);
                }
            }
        }

        #[test]
        fn codes_are_looked_up(codes in proptest::collection::vec(any::<u8>(), 0..40), odd: bool) {
            let codebook: [f32; 16] = std::array::from_fn(|i| i as f32 * 0.5 - 2.0);
            let count = (2 * codes.len()).saturating_sub(usize::from(odd));
            let expected: Vec<f32> = (0..count)
                .map(|i| codebook[usize::from(codes[i / 2] >> (4 * (i % 2)) & 15)])
                .collect();
            for isa in Isa::available() {
                let mut values = vec![f32::NAN; count];
                look_up(isa, &codes, &codebook, &mut values);
                prop_assert_eq!(bits(&values), bits(&expected), "{:?}", isa);
            }
        }
    }

    #[test]
    fn a_width_above_32_has_no_length() {
        assert_eq!(packed_ids_len(&[33; 600], 1), None);
        assert_eq!(packed_ids_len(&[], 0), Some(0));
        assert_eq!(packed_ids_len(&[], 1), None);
        assert_eq!(packed_ids_len(&[0, 0], 129), Some(2));
    }

    #[test]
    #[should_panic]
    fn a_width_above_32_is_a_panic() {
        unpack_ids(Isa::best(), &[200; 9000], &mut [0; 128]);
    }

    #[test]
    #[should_panic]
    fn too_few_bytes_are_a_panic() {
        unpack_ids(Isa::best(), &[8; 20], &mut [0; 20]);
    }
}
