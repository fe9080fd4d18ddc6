//! The vector unit on x86-64: AVX2 with FMA, and AVX-512.
//!
//! A value of one of the two unit types is made only by asking the machine, so having one proves that the instructions
//! exist. The operations are inlined into `run`'s shells, which enable the instruction set.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::bytes::ByteDot;
use super::vector::{LANES, Vector};
use super::{ByteKernel, Kernel};

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

/// The sum of eight lanes, upper half to lower half three times.
#[inline]
#[target_feature(enable = "avx2")]
fn sum_of_eight(x: __m256) -> f32 {
    let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
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

/// Products of bytes beside AVX2: a vector is two registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AvxVnni(Avx2Fma);

/// Products of bytes beside AVX-512: a vector is one register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Avx512Vnni(Avx512);

impl AvxVnni {
    /// The unit, if this machine has it.
    pub(super) fn detect() -> Option<AvxVnni> {
        let beside = Avx2Fma::detect()?;
        is_x86_feature_detected!("avxvnni").then_some(AvxVnni(beside))
    }

    /// Runs a kernel on this unit.
    pub(super) fn run<K: ByteKernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma,avxvnni")]
        fn shell<K: ByteKernel>(unit: AvxVnni, kernel: K) -> K::Output {
            kernel.run(unit)
        }
        // SAFETY: `self` proves that the machine has AVX2, FMA and AVX-VNNI.
        unsafe { shell(self, kernel) }
    }
}

impl Avx512Vnni {
    /// The unit, if this machine has it.
    pub(super) fn detect() -> Option<Avx512Vnni> {
        let beside = Avx512::detect()?;
        is_x86_feature_detected!("avx512vnni").then_some(Avx512Vnni(beside))
    }

    /// Runs a kernel on this unit.
    pub(super) fn run<K: ByteKernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
        fn shell<K: ByteKernel>(unit: Avx512Vnni, kernel: K) -> K::Output {
            kernel.run(unit)
        }
        // SAFETY: `self` proves that the machine has these parts of AVX-512.
        unsafe { shell(self, kernel) }
    }
}

impl ByteDot for AvxVnni {
    type Vector = Avx2Fma;
    type Integers = [__m256i; 2];

    #[inline(always)]
    fn vector(self) -> Avx2Fma {
        self.0
    }

    #[inline(always)]
    fn zero(self) -> [__m256i; 2] {
        // SAFETY: `self` proves AVX2.
        unsafe { [_mm256_setzero_si256(); 2] }
    }

    #[inline(always)]
    fn load(self, from: &[u8; 4 * LANES]) -> [__m256i; 2] {
        // SAFETY: `self` proves AVX2; both halves lie within the bytes.
        unsafe {
            [
                _mm256_loadu_si256(from.as_ptr().cast()),
                _mm256_loadu_si256(from.as_ptr().add(32).cast()),
            ]
        }
    }

    #[inline(always)]
    fn hold(self, x: [__m256; 2], limit: f32) -> [__m256; 2] {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let (low, high) = (_mm256_set1_ps(-limit), _mm256_set1_ps(limit));
            x.map(|x| _mm256_min_ps(_mm256_max_ps(x, low), high))
        }
    }

    #[inline(always)]
    fn to_integers(self, x: [__m256; 2]) -> [__m256i; 2] {
        // SAFETY: `self` proves AVX2.
        unsafe { [_mm256_cvtps_epi32(x[0]), _mm256_cvtps_epi32(x[1])] }
    }

    #[inline(always)]
    fn dot4(self, items: [__m256i; 2], word: i32, sum: [__m256i; 2]) -> [__m256i; 2] {
        // SAFETY: `self` proves AVX-VNNI.
        unsafe {
            let word = _mm256_set1_epi32(word);
            [
                _mm256_dpbusd_avx_epi32(sum[0], items[0], word),
                _mm256_dpbusd_avx_epi32(sum[1], items[1], word),
            ]
        }
    }

    #[inline(always)]
    fn and(self, a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
        // SAFETY: `self` proves AVX2.
        unsafe { [_mm256_and_si256(a[0], b[0]), _mm256_and_si256(a[1], b[1])] }
    }

    #[inline(always)]
    fn not_negative(self, x: [__m256i; 2]) -> u16 {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let low = _mm256_movemask_ps(_mm256_castsi256_ps(x[0]));
            let high = _mm256_movemask_ps(_mm256_castsi256_ps(x[1]));
            !(low | high << 8) as u16
        }
    }
}

impl ByteDot for Avx512Vnni {
    type Vector = Avx512;
    type Integers = __m512i;

    #[inline(always)]
    fn vector(self) -> Avx512 {
        self.0
    }

    #[inline(always)]
    fn zero(self) -> __m512i {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    fn load(self, from: &[u8; 4 * LANES]) -> __m512i {
        // SAFETY: `self` proves AVX-512; the bytes fill one register.
        unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
    }

    #[inline(always)]
    fn hold(self, x: __m512, limit: f32) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe {
            let (low, high) = (_mm512_set1_ps(-limit), _mm512_set1_ps(limit));
            _mm512_min_ps(_mm512_max_ps(x, low), high)
        }
    }

    #[inline(always)]
    fn to_integers(self, x: __m512) -> __m512i {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_cvtps_epi32(x) }
    }

    #[inline(always)]
    fn dot4(self, items: __m512i, word: i32, sum: __m512i) -> __m512i {
        // SAFETY: `self` proves the products of bytes.
        unsafe { _mm512_dpbusd_epi32(sum, items, _mm512_set1_epi32(word)) }
    }

    #[inline(always)]
    fn and(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_and_si512(a, b) }
    }

    #[inline(always)]
    fn not_negative(self, x: __m512i) -> u16 {
        // SAFETY: `self` proves AVX-512.
        unsafe { !_mm512_movepi32_mask(x) }
    }
}
