//! Dot products of one row with many, and sums of many rows.
//!
//! Order of sums. A dot product has sixteen accumulators: lane l adds elements l, l + 16, l + 32, ... in that order, one
//! fused multiply-add each; then the upper half of the lanes is added to the lower half, four times. A sum of rows has
//! one accumulator for each entry, to which rows are added one by one in order.

use super::rows::{Long, Rows, Short};
use super::vector::{LANES, Vector, vectors, vectors_mut};
use super::{Isa, Kernel};

/// The dot product of two padded rows.
///
/// # Panics
/// If the lengths differ or are no multiple of [`LANES`].
pub fn dot(isa: Isa, a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "rows of different lengths");
    let mut out = [0.0];
    dot_rows(isa, a, b, &[0], &mut out);
    out[0]
}

/// The dot product of `own`, one padded row, with each of the rows `cols` of `flat`: a user's predictions without the
/// biases, into `out`, which is as long as `cols`.
///
/// # Panics
/// If `own` is no multiple of [`LANES`] long, `out` is not as long as `cols`, or a column lies outside `flat`.
pub fn dot_rows(isa: Isa, own: &[f32], flat: &[f32], cols: &[u32], out: &mut [f32]) {
    assert_eq!(own.len() % LANES, 0, "a row that is not padded");
    assert_eq!(cols.len(), out.len(), "one result for each column");
    isa.run(DotRows {
        own,
        flat,
        cols,
        out,
    });
}

struct DotRows<'a> {
    own: &'a [f32],
    flat: &'a [f32],
    cols: &'a [u32],
    out: &'a mut [f32],
}

impl Kernel for DotRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, v: V) {
        let flat = self.flat;
        match self.own.len() / LANES {
            1 => self.with_rows(v, Short::<1>::new(flat)),
            2 => self.with_rows(v, Short::<2>::new(flat)),
            4 => self.with_rows(v, Short::<4>::new(flat)),
            stride => self.with_rows(v, Long::new(flat, stride)),
        }
    }
}

impl DotRows<'_> {
    #[inline(always)]
    fn with_rows<'a, V: Vector, R: Rows<'a>>(self, v: V, rows: R) {
        let own = R::alone(self.own.as_chunks().0).as_ref();
        // Sixteen at a time, because their lanes are then folded together.
        let (blocks, rest) = self.out.as_chunks_mut::<LANES>();
        let (cols, last) = self.cols.as_chunks::<LANES>();
        let ahead = rows.ahead().div_ceil(LANES);
        for (b, (out, cols_of)) in blocks.iter_mut().zip(cols).enumerate() {
            if let Some(far) = cols.get(b + ahead) {
                for j in 0..LANES {
                    rows.prefetch(v, far[j]);
                }
            }
            let mut lanes = [v.splat(0.0); LANES];
            for j in 0..LANES {
                lanes[j] = products(v, own, rows.row(cols_of[j]).as_ref());
            }
            v.store(v.sums(lanes), out);
        }
        let mut lanes = [v.splat(0.0); LANES];
        for (lanes, &col) in lanes.iter_mut().zip(last) {
            *lanes = products(v, own, rows.row(col).as_ref());
        }
        let mut dots = [0.0; LANES];
        v.store(v.sums(lanes), &mut dots);
        rest.copy_from_slice(&dots[..rest.len()]);
    }
}

/// The products of two rows, summed by lane.
#[inline(always)]
pub(super) fn products<V: Vector>(v: V, own: &[[f32; LANES]], other: &[[f32; LANES]]) -> V::Lanes {
    let mut acc = v.splat(0.0);
    for (a, b) in own.iter().zip(other) {
        acc = v.mul_add(v.load(a), v.load(b), acc);
    }
    acc
}

/// Adds `scales[j]` times row `cols[j]` of `flat` to `sum`, one padded row: the gradient of a row, given the slope of the
/// loss at each of its ratings.
///
/// # Panics
/// If `sum` is no multiple of [`LANES`] long, there is not one scale for each column, or a column lies outside `flat`.
pub fn add_scaled_rows(isa: Isa, scales: &[f32], flat: &[f32], cols: &[u32], sum: &mut [f32]) {
    assert_eq!(sum.len() % LANES, 0, "a row that is not padded");
    assert_eq!(cols.len(), scales.len(), "one scale for each column");
    isa.run(AddScaledRows {
        scales,
        flat,
        cols,
        sum,
    });
}

struct AddScaledRows<'a> {
    scales: &'a [f32],
    flat: &'a [f32],
    cols: &'a [u32],
    sum: &'a mut [f32],
}

impl Kernel for AddScaledRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(mut self, v: V) {
        // Up to four vectors of accumulators stay in registers over all rows; common lengths are known to the compiler.
        let flat = self.flat;
        match self.sum.len() / LANES {
            1 => self.part::<V, _, 1>(v, Short::<1>::new(flat), 0),
            2 => self.part::<V, _, 2>(v, Short::<2>::new(flat), 0),
            4 => self.part::<V, _, 4>(v, Short::<4>::new(flat), 0),
            stride => {
                let rows = Long::new(flat, stride);
                for first in (0..stride / 4).map(|i| 4 * i) {
                    self.part::<V, _, 4>(v, rows, first);
                }
                for first in stride / 4 * 4..stride {
                    self.part::<V, _, 1>(v, rows, first);
                }
            }
        }
    }
}

impl AddScaledRows<'_> {
    /// The `N` vectors of the sum from the `first` on.
    #[inline(always)]
    fn part<'a, V: Vector, R: Rows<'a>, const N: usize>(&mut self, v: V, rows: R, first: usize) {
        let sum: &mut [[f32; LANES]; N] = vectors_mut(self.sum.as_chunks_mut().0, first);
        let mut acc = [v.splat(0.0); N];
        for c in 0..N {
            acc[c] = v.load(&sum[c]);
        }
        for (i, (&col, &scale)) in self.cols.iter().zip(self.scales).enumerate() {
            if first == 0
                && let Some(&far) = self.cols.get(i + rows.ahead())
            {
                rows.prefetch(v, far);
            }
            let other: &[[f32; LANES]; N] = vectors(rows.row(col).as_ref(), first);
            let scale = v.splat(scale);
            for c in 0..N {
                acc[c] = v.mul_add(scale, v.load(&other[c]), acc[c]);
            }
        }
        for c in 0..N {
            v.store(acc[c], &mut sum[c]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bits, noise_cols, noise_rows};
    use super::*;
    use proptest::prelude::*;

    /// The order of sums, in words of one lane.
    fn dot_twin(a: &[f32], b: &[f32]) -> f32 {
        let mut lane = [0.0_f32; LANES];
        for (i, (a, b)) in a.iter().zip(b).enumerate() {
            lane[i % LANES] = a.mul_add(*b, lane[i % LANES]);
        }
        let lane: Vec<f32> = (0..8).map(|i| lane[i] + lane[i + 8]).collect();
        let lane: Vec<f32> = (0..4).map(|i| lane[i] + lane[i + 4]).collect();
        (lane[0] + lane[2]) + (lane[1] + lane[3])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn dots_follow_the_order_and_the_theory(
            rank in 1_usize..300, len in 0_usize..40, seed: u64,
        ) {
            let flat = noise_rows(seed, 50, rank);
            let stride = rank.next_multiple_of(LANES);
            let own = noise_rows(seed ^ 1, 1, rank);
            let cols = noise_cols(seed ^ 2, len, 50);
            let row = |col: u32| &flat[col as usize * stride..][..stride];
            let twin: Vec<f32> = cols.iter().map(|&col| dot_twin(&own, row(col))).collect();
            for isa in Isa::available() {
                let mut out = vec![f32::NAN; len];
                dot_rows(isa, &own, &flat, &cols, &mut out);
                prop_assert_eq!(bits(&out), bits(&twin), "{:?}", isa);
            }
            for (&col, &dot) in cols.iter().zip(&twin) {
                let terms = own.iter().zip(row(col)).map(|(&a, &b)| f64::from(a) * f64::from(b));
                let (exact, size) = terms.fold((0.0, 0.0), |(s, m), x| (s + x, m + x.abs()));
                // Each term goes through at most stride / 16 additions in its lane and four in the tree.
                let steps = (stride / LANES + 4) as f64;
                prop_assert!((f64::from(dot) - exact).abs() <= steps * 2_f64.powi(-24) * size);
            }
        }

        #[test]
        fn scaled_rows_are_added_one_by_one(
            rank in 1_usize..300, len in 0_usize..40, seed: u64,
        ) {
            let flat = noise_rows(seed, 50, rank);
            let stride = rank.next_multiple_of(LANES);
            let start = noise_rows(seed ^ 1, 1, rank);
            let cols = noise_cols(seed ^ 2, len, 50);
            let scales = noise_rows(seed ^ 3, 1, len.max(1));
            let scales = &scales[..len];
            let mut twin = start.clone();
            for (&col, &scale) in cols.iter().zip(scales) {
                for (k, sum) in twin.iter_mut().enumerate() {
                    *sum = scale.mul_add(flat[col as usize * stride + k], *sum);
                }
            }
            for isa in Isa::available() {
                let mut sum = start.clone();
                add_scaled_rows(isa, scales, &flat, &cols, &mut sum);
                prop_assert_eq!(bits(&sum), bits(&twin), "{:?}", isa);
            }
        }
    }

    #[test]
    fn a_single_dot_is_the_same() {
        let rows = noise_rows(7, 2, 50);
        let (a, b) = rows.split_at(64);
        for isa in Isa::available() {
            assert_eq!(dot(isa, a, b).to_bits(), dot_twin(a, b).to_bits());
        }
    }

    #[test]
    #[should_panic]
    fn a_column_outside_is_a_panic() {
        add_scaled_rows(Isa::best(), &[1.0], &[0.0; 32], &[2], &mut [0.0; 16]);
    }
}
