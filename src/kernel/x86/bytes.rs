//! Products of bytes on x86-64: beside AVX2, and beside AVX-512.

use std::arch::x86_64::*;

use super::{Avx2Fma, Avx512};
use crate::kernel::ByteKernel;
use crate::kernel::bytes::ByteDot;
use crate::kernel::vector::LANES;

/// Products of bytes beside AVX2: a vector is two registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kernel) struct AvxVnni(Avx2Fma);

/// Products of bytes beside AVX-512: a vector is one register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kernel) struct Avx512Vnni(Avx512);

impl AvxVnni {
    /// The unit, if this machine has it.
    pub(in crate::kernel) fn detect() -> Option<AvxVnni> {
        let beside = Avx2Fma::detect()?;
        is_x86_feature_detected!("avxvnni").then_some(AvxVnni(beside))
    }

    /// Runs a kernel on this unit.
    pub(in crate::kernel) fn run<K: ByteKernel>(self, kernel: K) -> K::Output {
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
    pub(in crate::kernel) fn detect() -> Option<Avx512Vnni> {
        let beside = Avx512::detect()?;
        is_x86_feature_detected!("avx512vnni").then_some(Avx512Vnni(beside))
    }

    /// Runs a kernel on this unit.
    pub(in crate::kernel) fn run<K: ByteKernel>(self, kernel: K) -> K::Output {
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
    fn splat(self, x: i32) -> [__m256i; 2] {
        // SAFETY: `self` proves AVX2.
        unsafe { [_mm256_set1_epi32(x); 2] }
    }

    #[inline(always)]
    fn store(self, from: [__m256i; 2], to: &mut [i32; LANES]) {
        // SAFETY: `self` proves AVX2; both halves lie within the lanes.
        unsafe {
            _mm256_storeu_si256(to.as_mut_ptr().cast(), from[0]);
            _mm256_storeu_si256(to.as_mut_ptr().add(8).cast(), from[1]);
        }
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
    fn add(self, a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
        // SAFETY: `self` proves AVX2.
        unsafe { [_mm256_add_epi32(a[0], b[0]), _mm256_add_epi32(a[1], b[1])] }
    }

    #[inline(always)]
    fn max(self, a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
        // SAFETY: `self` proves AVX2.
        unsafe { [_mm256_max_epi32(a[0], b[0]), _mm256_max_epi32(a[1], b[1])] }
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
    fn splat(self, x: i32) -> __m512i {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_set1_epi32(x) }
    }

    #[inline(always)]
    fn store(self, from: __m512i, to: &mut [i32; LANES]) {
        // SAFETY: `self` proves AVX-512; the lanes fill one register.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), from) }
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
    fn add(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_add_epi32(a, b) }
    }

    #[inline(always)]
    fn max(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_max_epi32(a, b) }
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
