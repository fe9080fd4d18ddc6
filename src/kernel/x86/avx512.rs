//! AVX-512.

use std::arch::x86_64::*;

use super::Avx512;
use super::avx2::{eight, look_up_eights, sum_of_eight, unpack_eights};
use crate::kernel::vector::{LANES, Vector};

impl Vector for Avx512 {
    type Lanes = __m512;

    const REGISTERS: usize = 32;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> __m512 {
        // SAFETY: `self` proves AVX-512; the sixteen floats are there.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, x: __m512, to: &mut [f32; LANES]) {
        // SAFETY: `self` proves AVX-512; the sixteen floats are there.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), x) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn neg_mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_fnmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn sqrt(self, x: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_sqrt_ps(x) }
    }

    #[inline(always)]
    fn not_negative(self, x: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_max_ps(x, _mm512_setzero_ps()) }
    }

    #[inline(always)]
    fn halves(self, low: __m512, high: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_shuffle_f32x4::<0b11_10_01_00>(low, high) }
    }

    #[inline(always)]
    fn quarters(self, a: [f32; 4], b: [f32; 4]) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_broadcast_f32x8(eight(a, b)) }
    }

    #[inline(always)]
    fn low_twice(self, x: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_shuffle_f32x4::<0b01_00_01_00>(x, x) }
    }

    #[inline(always)]
    fn high_twice(self, x: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_shuffle_f32x4::<0b11_10_11_10>(x, x) }
    }

    #[inline(always)]
    fn swap_quarters(self, x: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_shuffle_f32x4::<0b10_11_00_01>(x, x) }
    }

    #[inline(always)]
    fn columns(self, records: [[f32; 4]; 8]) -> [__m512; 2] {
        // SAFETY: `self` proves AVX-512.
        unsafe { columns_of_registers(records) }
    }

    #[inline(always)]
    fn records(self, columns: [__m512; 2]) -> [[f32; 4]; 8] {
        // SAFETY: `self` proves AVX-512.
        unsafe { records_of_registers(columns) }
    }

    #[inline(always)]
    fn broadcast(self, x: __m512, lane: usize) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_permutexvar_ps(_mm512_set1_epi32(lane as i32), x) }
    }

    #[inline(always)]
    fn extract(self, x: __m512, lane: usize) -> f32 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_cvtss_f32(self.broadcast(x, lane)) }
    }

    #[inline(always)]
    fn keep_below(self, x: __m512, lane: usize) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_maskz_mov_ps(((1_u32 << lane) - 1) as __mmask16, x) }
    }

    #[inline(always)]
    fn sum(self, x: __m512) -> f32 {
        // SAFETY: `self` proves AVX-512.
        unsafe {
            let low = _mm512_castps512_ps256(x);
            let high = _mm512_extractf32x8_ps::<1>(x);
            sum_of_eight(_mm256_add_ps(low, high))
        }
    }

    #[inline(always)]
    fn sums(self, rows: [__m512; LANES]) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { sums_of_sixteen(rows) }
    }

    #[inline(always)]
    fn sum_four(self, x: [__m512; 4]) -> [f32; 4] {
        // SAFETY: `self` proves AVX-512.
        unsafe { sums_of_four(x) }
    }

    #[inline(always)]
    fn transpose(self, rows: [__m512; LANES]) -> [__m512; LANES] {
        // SAFETY: `self` proves AVX-512.
        unsafe { transpose_sixteen(rows) }
    }

    #[inline(always)]
    fn at_least(self, x: __m512, floor: __m512) -> u16 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_cmp_ps_mask::<_CMP_GE_OQ>(x, floor) }
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

/// The sums of sixteen registers in order, each upper half to lower half four times.
#[inline]
#[target_feature(enable = "avx512f")]
fn sums_of_sixteen(r: [__m512; LANES]) -> __m512 {
    // A register for two rows, then for four, in whose quarters lie rows 4 q + i; then for all.
    let mut quarters = [r[0]; 4];
    for i in 0..4 {
        let mut halves = [r[0]; 2];
        for h in 0..2 {
            let (a, b) = (r[8 * h + i], r[8 * h + 4 + i]);
            let low = _mm512_shuffle_f32x4::<0b01_00_01_00>(a, b);
            let high = _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b);
            halves[h] = _mm512_add_ps(low, high);
        }
        let low = _mm512_shuffle_f32x4::<0b10_00_10_00>(halves[0], halves[1]);
        let high = _mm512_shuffle_f32x4::<0b11_01_11_01>(halves[0], halves[1]);
        quarters[i] = _mm512_add_ps(low, high);
    }
    let mut twos = [r[0]; 2];
    for i in 0..2 {
        let low = _mm512_shuffle_ps::<0b01_00_01_00>(quarters[2 * i], quarters[2 * i + 1]);
        let high = _mm512_shuffle_ps::<0b11_10_11_10>(quarters[2 * i], quarters[2 * i + 1]);
        twos[i] = _mm512_add_ps(low, high);
    }
    let even = _mm512_shuffle_ps::<0b10_00_10_00>(twos[0], twos[1]);
    let odd = _mm512_shuffle_ps::<0b11_01_11_01>(twos[0], twos[1]);
    _mm512_add_ps(even, odd)
}

/// Lane j of register i becomes lane i of register j.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose_sixteen(r: [__m512; LANES]) -> [__m512; LANES] {
    // Pairs of rows and fours of rows within each quarter of a register, then quarters among fours of rows.
    let mut pairs = r;
    for i in [0, 2, 4, 6, 8, 10, 12, 14] {
        pairs[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    let mut fours = pairs;
    for i in [0, 4, 8, 12] {
        fours[i] = _mm512_shuffle_ps::<0b01_00_01_00>(pairs[i], pairs[i + 2]);
        fours[i + 1] = _mm512_shuffle_ps::<0b11_10_11_10>(pairs[i], pairs[i + 2]);
        fours[i + 2] = _mm512_shuffle_ps::<0b01_00_01_00>(pairs[i + 1], pairs[i + 3]);
        fours[i + 3] = _mm512_shuffle_ps::<0b11_10_11_10>(pairs[i + 1], pairs[i + 3]);
    }
    // Quarter c of fours[4 g + i] is column 4 c + i of rows 4 g .. 4 g + 4.
    let mut out = fours;
    for i in 0..4 {
        let even = _mm512_shuffle_f32x4::<0b10_00_10_00>(fours[i], fours[i + 4]);
        let odd = _mm512_shuffle_f32x4::<0b11_01_11_01>(fours[i], fours[i + 4]);
        let even_high = _mm512_shuffle_f32x4::<0b10_00_10_00>(fours[i + 8], fours[i + 12]);
        let odd_high = _mm512_shuffle_f32x4::<0b11_01_11_01>(fours[i + 8], fours[i + 12]);
        out[i] = _mm512_shuffle_f32x4::<0b10_00_10_00>(even, even_high);
        out[i + 8] = _mm512_shuffle_f32x4::<0b11_01_11_01>(even, even_high);
        out[i + 4] = _mm512_shuffle_f32x4::<0b10_00_10_00>(odd, odd_high);
        out[i + 12] = _mm512_shuffle_f32x4::<0b11_01_11_01>(odd, odd_high);
    }
    out
}

/// The sums of the lanes of four registers, upper half to lower half four times.
#[inline]
#[target_feature(enable = "avx512f")]
fn sums_of_four(x: [__m512; 4]) -> [f32; 4] {
    // Eight lanes each of 0 and 1, of 2 and 3; then a quarter for each.
    let fold = |a, b| {
        let low = _mm512_shuffle_f32x4::<0b01_00_01_00>(a, b);
        _mm512_add_ps(low, _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b))
    };
    let (a, b) = (fold(x[0], x[1]), fold(x[2], x[3]));
    let low = _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b);
    let x = _mm512_add_ps(low, _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b));
    let x = _mm512_add_ps(x, _mm512_permute_ps::<0b01_00_11_10>(x));
    let x = _mm512_add_ps(x, _mm512_movehdup_ps(x));
    let first = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    let x = _mm512_castps512_ps128(_mm512_permutexvar_ps(first, x));
    let mut sums = [0.0; 4];
    // SAFETY: there is room for four floats.
    unsafe { _mm_storeu_ps(sums.as_mut_ptr(), x) };
    sums
}

/// `Vector::columns` by picking from two registers of four records each.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn columns_of_registers(records: [[f32; 4]; 8]) -> [__m512; 2] {
    let four = |a, b, c, d| {
        let (low, high) = (_mm512_castps256_ps512(eight(a, b)), eight(c, d));
        _mm512_insertf32x8::<1>(low, high)
    };
    let [a, b, c, d, e, f, g, h] = records;
    let (low, high) = (four(a, b, c, d), four(e, f, g, h));
    let first = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29);
    let third = _mm512_add_epi32(first, _mm512_set1_epi32(2));
    [
        _mm512_permutex2var_ps(low, first, high),
        _mm512_permutex2var_ps(low, third, high),
    ]
}

/// `Vector::records` by picking from both columns.
#[inline]
#[target_feature(enable = "avx512f")]
fn records_of_registers([a, b]: [__m512; 2]) -> [[f32; 4]; 8] {
    let low = _mm512_setr_epi32(0, 8, 16, 24, 1, 9, 17, 25, 2, 10, 18, 26, 3, 11, 19, 27);
    let high = _mm512_add_epi32(low, _mm512_set1_epi32(4));
    let mut records = [[0.0; 4]; 8];
    let [e, f, g, h, i, j, k, l] = &mut records;
    for (x, [e, f, g, h]) in [
        (_mm512_permutex2var_ps(a, low, b), [e, f, g, h]),
        (_mm512_permutex2var_ps(a, high, b), [i, j, k, l]),
    ] {
        // SAFETY: records are four floats.
        unsafe {
            _mm_storeu_ps(e.as_mut_ptr(), _mm512_castps512_ps128(x));
            _mm_storeu_ps(f.as_mut_ptr(), _mm512_extractf32x4_ps::<1>(x));
            _mm_storeu_ps(g.as_mut_ptr(), _mm512_extractf32x4_ps::<2>(x));
            _mm_storeu_ps(h.as_mut_ptr(), _mm512_extractf32x4_ps::<3>(x));
        }
    }
    records
}
