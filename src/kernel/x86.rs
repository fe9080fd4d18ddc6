//! The vector unit on x86-64: AVX2 with FMA, and AVX-512.
//!
//! A value of one of the two unit types is made only by asking the machine, so having one proves that the instructions
//! exist. The operations are inlined into `run`'s shells, which enable the instruction set.
#![allow(unsafe_code)]

mod bytes;

pub(super) use bytes::{Avx512Vnni, AvxVnni};

use std::arch::x86_64::*;

use super::vector::{LANES, Vector};
use super::{Kernel, unpack};

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

/// The sum of eight lanes, upper half to lower half three times.
#[inline]
#[target_feature(enable = "avx2")]
fn sum_of_eight(x: __m256) -> f32 {
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
fn unpack_eights(packed: &[u8], width: usize, last: u32, ids: &mut [[u32; 8]]) -> u32 {
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
fn look_up_eights(codes: &[[u8; 4]], codebook: &[f32; 16], values: &mut [[f32; 8]]) {
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
