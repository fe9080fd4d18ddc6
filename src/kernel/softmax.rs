//! The parts of a softmax: weighted exponentials of scores, and their sum.
//!
//! An exponential is `2^n` times that of what is left, no more than `ln(2) / 2` in size, by its series up to the seventh
//! power: the error of a part is below four units in the last place, and nothing is looked up. Plain Rust on sixteen lanes, which the
//! compiler turns into vectors of the instruction set: each lane has the same roundings in all of them.
//!
//! Order of the sum: lane l adds parts l, l + 16, l + 32, ... in f64, then the upper half of the lanes is added to the lower
//! half, four times.

use super::vector::{LANES, Vector};
use super::{Isa, Kernel};

/// Sets `parts[i]` to `weights[i] * exp((scores[i] - largest) * scale)`, and returns the largest score and the sum of the
/// parts. What would be below `exp(-86)` counts as that.
///
/// # Panics
/// If the slices differ in length.
pub fn softmax(
    isa: Isa,
    scores: &[f32],
    weights: &[f32],
    scale: f32,
    parts: &mut [f32],
) -> (f32, f64) {
    assert_eq!(scores.len(), weights.len(), "one weight for each score");
    assert_eq!(scores.len(), parts.len(), "one part for each score");
    isa.run(Softmax {
        scores,
        weights,
        scale,
        parts,
    })
}

struct Softmax<'a> {
    scores: &'a [f32],
    weights: &'a [f32],
    scale: f32,
    parts: &'a mut [f32],
}

impl Kernel for Softmax<'_> {
    type Output = (f32, f64);

    #[inline(always)]
    fn run<V: Vector>(self, _v: V) -> (f32, f64) {
        let largest = largest(self.scores);
        let (scores, last_scores) = self.scores.as_chunks::<LANES>();
        let (weights, last_weights) = self.weights.as_chunks::<LANES>();
        let (parts, last_parts) = self.parts.as_chunks_mut::<LANES>();
        let mut sums = [0.0_f64; LANES];
        for ((scores, weights), parts) in scores.iter().zip(weights).zip(parts) {
            *parts = weighted(scores, weights, largest, self.scale);
            add(&mut sums, parts);
        }
        // The lanes behind the end weigh nothing.
        let last = last_parts.len();
        let (mut scores, mut weights) = ([largest; LANES], [0.0; LANES]);
        scores[..last].copy_from_slice(last_scores);
        weights[..last].copy_from_slice(last_weights);
        let parts = weighted(&scores, &weights, largest, self.scale);
        add(&mut sums, &parts);
        last_parts.copy_from_slice(&parts[..last]);
        for half in [8, 4, 2, 1] {
            for lane in 0..half {
                sums[lane] += sums[lane + half];
            }
        }
        (largest, sums[0])
    }
}

#[inline(always)]
fn largest(scores: &[f32]) -> f32 {
    let (chunks, rest) = scores.as_chunks::<LANES>();
    let mut lanes = [f32::MIN; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = lanes[lane].max(chunk[lane]);
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::MIN, f32::max)
}

#[inline(always)]
fn add(sums: &mut [f64; LANES], parts: &[f32; LANES]) {
    for lane in 0..LANES {
        sums[lane] += f64::from(parts[lane]);
    }
}

#[inline(always)]
fn weighted(
    scores: &[f32; LANES],
    weights: &[f32; LANES],
    largest: f32,
    scale: f32,
) -> [f32; LANES] {
    let mut parts = [0.0; LANES];
    for lane in 0..LANES {
        parts[lane] = weights[lane] * exp((scores[lane] - largest) * scale);
    }
    parts
}

/// `exp(x)` for x from -86 to 0: a normal number throughout. What is below counts as -86.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// Of the series of the exponential, the highest power first.
    const SERIES: [f32; 8] = [
        1.0 / 5040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ];
    /// A number whose last bit counts ones: adding it rounds to whole numbers, and leaves them in the lowest bits.
    const ROUNDER: f32 = 1.5 * (1 << 23) as f32;
    /// ln(2) in two parts: the first is 355 / 512, so that a small whole number times it is exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    let x = x.max(-86.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUNDER);
    let n = shifted - ROUNDER;
    let rest = (-n).mul_add(LN_2[1], (-n).mul_add(LN_2[0], x));
    let mut sum = SERIES[0];
    for power in 1..SERIES.len() {
        sum = sum.mul_add(rest, SERIES[power]);
    }
    // Times 2^n, by adding n to the exponent: bits that are shifted out are the rounder's.
    f32::from_bits(sum.to_bits().wrapping_add(shifted.to_bits() << 23))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bits, noise};
    use super::*;

    #[test]
    fn exponentials_are_near_the_exact_ones() {
        for step in 0..=860_000 {
            let x = step as f32 / -10_000.0;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error <= 4.0 * 2_f64.powi(-24), "{x}: {error}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-1e9), exp(-86.0));
        assert_eq!(exp(f32::NEG_INFINITY), exp(-86.0));
    }

    #[test]
    fn all_sets_give_the_same_parts_and_sums() {
        for length in [0, 1, 15, 16, 17, 100, 2048] {
            let scores = noise(1, length);
            let weights: Vec<f32> = noise(2, length).iter().map(|w| w + 1.5).collect();
            let scale = 7.0;
            let largest = scores.iter().copied().fold(f32::MIN, f32::max);
            let exact: Vec<f64> = scores
                .iter()
                .zip(&weights)
                .map(|(s, w)| f64::from(*w) * f64::from((s - largest) * scale).exp())
                .collect();
            let mut told = None;
            for isa in Isa::available() {
                let mut parts = vec![f32::NAN; length];
                let (found, sum) = softmax(isa, &scores, &weights, scale, &mut parts);
                assert_eq!(found, largest);
                for (&part, exact) in parts.iter().zip(&exact) {
                    assert!((f64::from(part) - exact).abs() <= 5.0 * 2_f64.powi(-24) * exact);
                }
                let all: f64 = exact.iter().sum();
                assert!((sum - all).abs() <= 5.0 * 2_f64.powi(-24) * all);
                let told = told.get_or_insert((bits(&parts), sum.to_bits()));
                assert_eq!(*told, (bits(&parts), sum.to_bits()), "{isa:?} {length}");
            }
        }
    }
}
