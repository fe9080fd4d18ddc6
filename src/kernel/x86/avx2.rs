//! AVX2 with FMA.

use std::arch::x86_64::*;

use super::Avx2Fma;
use crate::kernel::unpack;
use crate::kernel::vector::{LANES, Vector};

impl Vector for Avx2Fma {
    type Lanes = [__m256; 2];

    const REGISTERS: usize = 8;

    #[inline(always)]
    fn splat(self, x: f32) -> [__m256; 2] {
        // SAFETY: `self` proves AVX2.
        unsafe { [_mm256_set1_ps(x); 2] }
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> [__m256; 2] {
        // SAFETY: `self` proves AVX2; both halves lie within the sixteen floats.
        unsafe {
            [
                _mm256_loadu_ps(from.as_ptr()),
                _mm256_loadu_ps(from.as_ptr().add(8)),
            ]
        }
    }

    #[inline(always)]
    fn store(self, x: [__m256; 2], to: &mut [f32; LANES]) {
        // SAFETY: `self` proves AVX2; both halves lie within the sixteen floats.
        unsafe {
            _mm256_storeu_ps(to.as_mut_ptr(), x[0]);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), x[1]);
        }
    }

    #[inline(always)]
    fn mul(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        // SAFETY: `self` proves AVX2.
        unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn add(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        // SAFETY: `self` proves AVX2.
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn mul_add(self, a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
        // SAFETY: `self` proves FMA.
        unsafe {
            [
                _mm256_fmadd_ps(a[0], b[0], c[0]),
                _mm256_fmadd_ps(a[1], b[1], c[1]),
            ]
        }
    }

    #[inline(always)]
    fn neg_mul_add(self, a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
        // SAFETY: `self` proves FMA.
        unsafe {
            [
                _mm256_fnmadd_ps(a[0], b[0], c[0]),
                _mm256_fnmadd_ps(a[1], b[1], c[1]),
            ]
        }
    }

    #[inline(always)]
    fn div(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        // SAFETY: `self` proves AVX2.
        unsafe { [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn sqrt(self, x: [__m256; 2]) -> [__m256; 2] {
        // SAFETY: `self` proves AVX2.
        unsafe { [_mm256_sqrt_ps(x[0]), _mm256_sqrt_ps(x[1])] }
    }

    #[inline(always)]
    fn not_negative(self, x: [__m256; 2]) -> [__m256; 2] {
        // SAFETY: `self` proves AVX2.
        unsafe {
            [
                _mm256_max_ps(x[0], _mm256_setzero_ps()),
                _mm256_max_ps(x[1], _mm256_setzero_ps()),
            ]
        }
    }

    #[inline(always)]
    fn halves(self, low: [__m256; 2], high: [__m256; 2]) -> [__m256; 2] {
        [low[0], high[1]]
    }

    #[inline(always)]
    fn quarters(self, a: [f32; 4], b: [f32; 4]) -> [__m256; 2] {
        // SAFETY: `self` proves AVX2.
        unsafe { [eight(a, b); 2] }
    }

    #[inline(always)]
    fn low_twice(self, x: [__m256; 2]) -> [__m256; 2] {
        [x[0]; 2]
    }

    #[inline(always)]
    fn high_twice(self, x: [__m256; 2]) -> [__m256; 2] {
        [x[1]; 2]
    }

    #[inline(always)]
    fn swap_quarters(self, x: [__m256; 2]) -> [__m256; 2] {
        // SAFETY: `self` proves AVX2.
        unsafe {
            [
                _mm256_permute2f128_ps::<1>(x[0], x[0]),
                _mm256_permute2f128_ps::<1>(x[1], x[1]),
            ]
        }
    }

    #[inline(always)]
    fn columns(self, records: [[f32; 4]; 8]) -> [[__m256; 2]; 2] {
        // SAFETY: `self` proves AVX2.
        unsafe { columns_of_four(records) }
    }

    #[inline(always)]
    fn records(self, columns: [[__m256; 2]; 2]) -> [[f32; 4]; 8] {
        // SAFETY: `self` proves AVX2.
        unsafe { records_of_four(columns) }
    }

    #[inline(always)]
    fn broadcast(self, x: [__m256; 2], lane: usize) -> [__m256; 2] {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let index = _mm256_set1_epi32((lane % 8) as i32);
            [_mm256_permutevar8x32_ps(x[lane / 8], index); 2]
        }
    }

    #[inline(always)]
    fn extract(self, x: [__m256; 2], lane: usize) -> f32 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_cvtss_f32(self.broadcast(x, lane)[0]) }
    }

    #[inline(always)]
    fn keep_below(self, x: [__m256; 2], lane: usize) -> [__m256; 2] {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let lane = _mm256_set1_epi32(lane as i32);
            let low = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            let high = _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15);
            let keep = [
                _mm256_cmpgt_epi32(lane, low),
                _mm256_cmpgt_epi32(lane, high),
            ];
            [
                _mm256_and_ps(x[0], _mm256_castsi256_ps(keep[0])),
                _mm256_and_ps(x[1], _mm256_castsi256_ps(keep[1])),
            ]
        }
    }

    #[inline(always)]
    fn sum(self, x: [__m256; 2]) -> f32 {
        // SAFETY: `self` proves AVX2.
        unsafe { sum_of_eight(_mm256_add_ps(x[0], x[1])) }
    }

    #[inline(always)]
    fn sums(self, rows: [[__m256; 2]; LANES]) -> [__m256; 2] {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let mut eights = [rows[0][0]; LANES];
            for i in 0..LANES {
                eights[i] = _mm256_add_ps(rows[i][0], rows[i][1]);
            }
            let [low, high] = [&eights[..8], &eights[8..]];
            [sums_of_eights(low), sums_of_eights(high)]
        }
    }

    #[inline(always)]
    fn sum_four(self, x: [[__m256; 2]; 4]) -> [f32; 4] {
        // SAFETY: `self` proves AVX2.
        unsafe { sums_of_four(x) }
    }

    #[inline(always)]
    fn transpose(self, rows: [[__m256; 2]; LANES]) -> [[__m256; 2]; LANES] {
        let mut out = rows;
        for i in 0..2 {
            for j in 0..2 {
                let mut square = [rows[0][0]; 8];
                for r in 0..8 {
                    square[r] = rows[8 * i + r][j];
                }
                // SAFETY: `self` proves AVX2.
                let square = unsafe { transpose_eight(square) };
                for c in 0..8 {
                    out[8 * j + c][i] = square[c];
                }
            }
        }
        out
    }

    #[inline(always)]
    fn at_least(self, x: [__m256; 2], floor: [__m256; 2]) -> u16 {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let low = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(x[0], floor[0]));
            let high = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(x[1], floor[1]));
            (low | high << 8) as u16
        }
    }

    #[inline(always)]
    fn prefetch(self, lines: &[[f32; LANES]], at: usize) {
        let line = lines.as_ptr().wrapping_add(at);
        // SAFETY: a prefetch changes nothing and cannot fail, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
    }

    #[inline(always)]
    fn unpack(self, packed: &[u8], width: usize, last: u32, ids: &mut [[u32; 8]]) -> u32 {
        // SAFETY: `self` proves AVX2.
        unsafe { unpack_eights(packed, width, last, ids) }
    }

    #[inline(always)]
    fn look_up(self, codes: &[[u8; 4]], codebook: &[f32; 16], values: &mut [[f32; 8]]) {
        // SAFETY: `self` proves AVX2.
        unsafe { look_up_eights(codes, codebook, values) }
    }
}

/// `a`, then `b`. From numbers, not by way of memory: a load of what several stores have written waits for all of them.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn eight(a: [f32; 4], b: [f32; 4]) -> __m256 {
    let four = |x: [f32; 4]| _mm_setr_ps(x[0], x[1], x[2], x[3]);
    _mm256_setr_m128(four(a), four(b))
}

/// The sum of eight lanes, upper half to lower half three times.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn sum_of_eight(x: __m256) -> f32 {
    let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
}

/// The sums of eight registers in order, each upper half to lower half three times.
#[inline]
#[target_feature(enable = "avx2")]
fn sums_of_eights(r: &[__m256]) -> __m256 {
    // A register for two rows, then for four, then for all: rows i and i + 4 lie in the two halves throughout.
    let mut fours = [r[0]; 4];
    for i in 0..4 {
        let low = _mm256_permute2f128_ps::<0x20>(r[i], r[i + 4]);
        let high = _mm256_permute2f128_ps::<0x31>(r[i], r[i + 4]);
        fours[i] = _mm256_add_ps(low, high);
    }
    let mut twos = [r[0]; 2];
    for i in 0..2 {
        let low = _mm256_shuffle_ps::<0b01_00_01_00>(fours[2 * i], fours[2 * i + 1]);
        let high = _mm256_shuffle_ps::<0b11_10_11_10>(fours[2 * i], fours[2 * i + 1]);
        twos[i] = _mm256_add_ps(low, high);
    }
    let even = _mm256_shuffle_ps::<0b10_00_10_00>(twos[0], twos[1]);
    let odd = _mm256_shuffle_ps::<0b11_01_11_01>(twos[0], twos[1]);
    _mm256_add_ps(even, odd)
}

/// The sums of the lanes of four vectors, upper half to lower half four times.
#[inline]
#[target_feature(enable = "avx2")]
fn sums_of_four(x: [[__m256; 2]; 4]) -> [f32; 4] {
    // Four lanes each of 0 and 1, of 2 and 3; then two lanes each of 0 and 2, of 1 and 3.
    let fold = |a: [__m256; 2], b: [__m256; 2]| {
        let (a, b) = (_mm256_add_ps(a[0], a[1]), _mm256_add_ps(b[0], b[1]));
        let low = _mm256_permute2f128_ps::<0x20>(a, b);
        _mm256_castps_pd(_mm256_add_ps(low, _mm256_permute2f128_ps::<0x31>(a, b)))
    };
    let (a, b) = (fold(x[0], x[1]), fold(x[2], x[3]));
    let low = _mm256_castpd_ps(_mm256_unpacklo_pd(a, b));
    let x = _mm256_add_ps(low, _mm256_castpd_ps(_mm256_unpackhi_pd(a, b)));
    let x = _mm256_add_ps(x, _mm256_movehdup_ps(x));
    let even = _mm256_castps256_ps128(x);
    let odd = _mm_moveldup_ps(_mm256_extractf128_ps::<1>(x));
    let mut sums = [0.0; 4];
    // SAFETY: there is room for four floats.
    unsafe { _mm_storeu_ps(sums.as_mut_ptr(), _mm_blend_ps::<0b1010>(even, odd)) };
    sums
}

/// Lane j of register i becomes lane i of register j.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose_eight(r: [__m256; 8]) -> [__m256; 8] {
    // Pairs of rows, then fours, then eights.
    let mut pairs = r;
    for i in [0, 2, 4, 6] {
        pairs[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        pairs[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    let mut fours = pairs;
    for i in [0, 4] {
        fours[i] = _mm256_shuffle_ps::<0b01_00_01_00>(pairs[i], pairs[i + 2]);
        fours[i + 1] = _mm256_shuffle_ps::<0b11_10_11_10>(pairs[i], pairs[i + 2]);
        fours[i + 2] = _mm256_shuffle_ps::<0b01_00_01_00>(pairs[i + 1], pairs[i + 3]);
        fours[i + 3] = _mm256_shuffle_ps::<0b11_10_11_10>(pairs[i + 1], pairs[i + 3]);
    }
    let mut eights = fours;
    for i in 0..4 {
        eights[i] = _mm256_permute2f128_ps::<0x20>(fours[i], fours[i + 4]);
        eights[i + 4] = _mm256_permute2f128_ps::<0x31>(fours[i], fours[i + 4]);
    }
    eights
}

/// The square of four rows in either half of four registers, mirrored.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose_halves(x: [__m256; 4]) -> [__m256; 4] {
    let low = [
        _mm256_unpacklo_ps(x[0], x[1]),
        _mm256_unpacklo_ps(x[2], x[3]),
    ];
    let high = [
        _mm256_unpackhi_ps(x[0], x[1]),
        _mm256_unpackhi_ps(x[2], x[3]),
    ];
    [
        _mm256_shuffle_ps::<0b01_00_01_00>(low[0], low[1]),
        _mm256_shuffle_ps::<0b11_10_11_10>(low[0], low[1]),
        _mm256_shuffle_ps::<0b01_00_01_00>(high[0], high[1]),
        _mm256_shuffle_ps::<0b11_10_11_10>(high[0], high[1]),
    ]
}

/// `Vector::columns` by squares of four.
#[inline]
#[target_feature(enable = "avx2")]
fn columns_of_four(records: [[f32; 4]; 8]) -> [[__m256; 2]; 2] {
    let mut x = [_mm256_setzero_ps(); 4];
    for j in 0..4 {
        x[j] = eight(records[j], records[j + 4]);
    }
    let [a, b, c, d] = transpose_halves(x);
    [[a, b], [c, d]]
}

/// `Vector::records` by squares of four.
#[inline]
#[target_feature(enable = "avx2")]
fn records_of_four([[a, b], [c, d]]: [[__m256; 2]; 2]) -> [[f32; 4]; 8] {
    let x = transpose_halves([a, b, c, d]);
    let mut records = [[0.0; 4]; 8];
    let (low, high) = records.split_at_mut(4);
    for j in 0..4 {
        // SAFETY: records are four floats.
        unsafe { _mm256_storeu2_m128(high[j].as_mut_ptr(), low[j].as_mut_ptr(), x[j]) };
    }
    records
}

/// Widths whose gaps lie each within four bytes, wherever in a byte they start.
const NARROW: usize = 25;

/// Where eight gaps of a width lie, four in each half of a register: which four bytes make a lane, and at which of their
/// bits the gap starts. The upper half is loaded `width / 2` bytes behind the lower one, which is half a byte early for an
/// odd width.
const PLACES: [([u8; 32], [u32; 8]); NARROW + 1] = {
    let mut places = [([0; 32], [0; 8]); NARROW + 1];
    let mut width = 0;
    while width <= NARROW {
        let mut lane = 0;
        while lane < 8 {
            let bit = lane * width - lane / 4 * (width / 2 * 8);
            let mut byte = 0;
            while byte < 4 {
                places[width].0[4 * lane + byte] = (bit / 8 + byte) as u8;
                byte += 1;
            }
            places[width].1[lane] = (bit % 8) as u32;
            lane += 1;
        }
        width += 1;
    }
    places
};

/// As `unpack::unpack`, eight ids at a time: the gaps are shifted into place, and their running sums taken in a register.
#[target_feature(enable = "avx2")]
pub(super) fn unpack_eights(packed: &[u8], width: usize, last: u32, ids: &mut [[u32; 8]]) -> u32 {
    if width > NARROW {
        return unpack::unpack(packed, width, last, ids);
    }
    assert!(packed.len() >= ids.len() * width + unpack::SLACK, "slack");
    let (order, shift) = &PLACES[width];
    // SAFETY: each is 32 bytes long.
    let (order, shift) = unsafe {
        (
            _mm256_loadu_si256(order.as_ptr().cast()),
            _mm256_loadu_si256(shift.as_ptr().cast()),
        )
    };
    let mask = _mm256_set1_epi32((1 << width) - 1);
    let one = _mm256_set1_epi32(1);
    let seventh = _mm256_set1_epi32(7);
    let mut before = _mm256_set1_epi32(last as i32);
    for (i, eight) in ids.iter_mut().enumerate() {
        // SAFETY: both halves end within `width` and 16 bytes of the group's start, and the assertion covers the last group.
        let bytes = unsafe {
            let low = packed.as_ptr().add(i * width);
            _mm256_loadu2_m128i(low.add(width / 2).cast(), low.cast())
        };
        let gaps = _mm256_srlv_epi32(_mm256_shuffle_epi8(bytes, order), shift);
        let x = _mm256_add_epi32(_mm256_and_si256(gaps, mask), one);
        // Sums within either half, then the sum of the lower half to all lanes of the upper one.
        let x = _mm256_add_epi32(x, _mm256_slli_si256::<4>(x));
        let x = _mm256_add_epi32(x, _mm256_slli_si256::<8>(x));
        let lower = _mm256_permute2x128_si256::<0x08>(x, x);
        let x = _mm256_add_epi32(x, _mm256_shuffle_epi32::<0xff>(lower));
        // SAFETY: eight ids are 32 bytes.
        unsafe { _mm256_storeu_si256(eight.as_mut_ptr().cast(), _mm256_add_epi32(x, before)) };
        before = _mm256_add_epi32(before, _mm256_permutevar8x32_epi32(x, seventh));
    }
    _mm256_cvtsi256_si32(before) as u32
}

/// As `unpack::look_up_eights`, eight values at a time: a code's lower three bits choose within either half of the
/// codebook, and its fourth bit between the halves.
#[target_feature(enable = "avx2")]
pub(super) fn look_up_eights(codes: &[[u8; 4]], codebook: &[f32; 16], values: &mut [[f32; 8]]) {
    // SAFETY: either half of the codebook has eight entries.
    let (low, high) = unsafe {
        (
            _mm256_loadu_ps(codebook.as_ptr()),
            _mm256_loadu_ps(codebook.as_ptr().add(8)),
        )
    };
    let shift = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
    for (&codes, values) in codes.iter().zip(values) {
        let codes = _mm256_set1_epi32(i32::from_le_bytes(codes));
        let codes = _mm256_srlv_epi32(codes, shift);
        let upper = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(codes));
        let low = _mm256_permutevar8x32_ps(low, codes);
        let high = _mm256_permutevar8x32_ps(high, codes);
        // SAFETY: there is room for eight values.
        unsafe { _mm256_storeu_ps(values.as_mut_ptr(), _mm256_blendv_ps(low, high, upper)) };
    }
}
