//! The vector unit on x86-64: AVX2 with FMA, and AVX-512.
//!
//! A value of one of the two unit types is made only by asking the machine, so having one proves that the instructions
//! exist. The operations are inlined into `run`'s shells, which enable the instruction set.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::Kernel;
use super::vector::{LANES, Vector};

/// AVX2 and FMA: a vector is two registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Avx2Fma(());

/// The AVX-512 of server processors since 2017: a vector is one register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Avx512(());

impl Avx2Fma {
    /// The unit, if this machine has it.
    pub(super) fn detect() -> Option<Avx2Fma> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Avx2Fma(()))
    }

    /// Runs a kernel on this unit.
    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma")]
        fn shell<K: Kernel>(unit: Avx2Fma, kernel: K) -> K::Output {
            kernel.run(unit)
        }
        // SAFETY: `self` proves that the machine has AVX2 and FMA.
        unsafe { shell(self, kernel) }
    }
}

impl Avx512 {
    /// The unit, if this machine has it.
    pub(super) fn detect() -> Option<Avx512> {
        Avx2Fma::detect()?;
        (is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl"))
        .then_some(Avx512(()))
    }

    /// Runs a kernel on this unit.
    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
        fn shell<K: Kernel>(unit: Avx512, kernel: K) -> K::Output {
            kernel.run(unit)
        }
        // SAFETY: `self` proves that the machine has these parts of AVX-512.
        unsafe { shell(self, kernel) }
    }
}

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
    fn keep_from(self, x: [__m256; 2], lane: usize) -> [__m256; 2] {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let below = _mm256_set1_epi32(lane as i32 - 1);
            let low = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            let high = _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15);
            let keep = [
                _mm256_cmpgt_epi32(low, below),
                _mm256_cmpgt_epi32(high, below),
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
    fn sum_four(self, x: [[__m256; 2]; 4]) -> [f32; 4] {
        // SAFETY: `self` proves AVX2.
        unsafe { sums_of_sixteen(x) }
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
    fn prefetch(self, line: &[f32; LANES]) {
        // SAFETY: a prefetch changes nothing and cannot fail.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
    }
}

/// `a`, then `b`. From numbers, not by way of memory: a load of what several stores have written waits for all of them.
#[inline]
#[target_feature(enable = "avx2")]
fn eight(a: [f32; 4], b: [f32; 4]) -> __m256 {
    let four = |x: [f32; 4]| _mm_setr_ps(x[0], x[1], x[2], x[3]);
    _mm256_setr_m128(four(a), four(b))
}

/// The sum of eight lanes, upper half to lower half three times.
#[inline]
#[target_feature(enable = "avx2")]
fn sum_of_eight(x: __m256) -> f32 {
    let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
}

/// The sums of the lanes of four vectors, upper half to lower half four times.
#[inline]
#[target_feature(enable = "avx2")]
fn sums_of_sixteen(x: [[__m256; 2]; 4]) -> [f32; 4] {
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
    fn keep_from(self, x: __m512, lane: usize) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_maskz_mov_ps((u32::from(u16::MAX) << lane) as __mmask16, x) }
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
    fn sum_four(self, x: [__m512; 4]) -> [f32; 4] {
        // SAFETY: `self` proves AVX-512.
        unsafe { sums_of_four_registers(x) }
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
    fn prefetch(self, line: &[f32; LANES]) {
        // SAFETY: a prefetch changes nothing and cannot fail.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
    }
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
fn sums_of_four_registers(x: [__m512; 4]) -> [f32; 4] {
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
