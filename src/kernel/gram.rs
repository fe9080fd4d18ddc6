//! Normal equations of one row: the sum of `q q^T` over the rows that it is fitted to.
//!
//! A row of factors x is fitted to targets t by minimising the sum of `w (t - <q, x>)^2` over its ratings, so it solves
//! `A x = b` with `A = sum w q q^T` and `b = sum t q` (the caller multiplies the weight into t where it belongs there).
//! A model with biases has one unknown more, the intercept, whose q is 1.
//!
//! Order of sums. Every entry has one accumulator, to which ratings are added one by one in order by fused multiply-adds:
//! `A[i][j] += (w q_i) q_j` for j <= i, `b[j] += t q_j`. So a row may be handed over in any number of segments.
//!
//! Ratings are gathered into panels of [`PANEL`] rows, because factors lie scattered in memory; each register tile of the
//! matrix is then loaded and stored once for a whole panel. The cost is `size^2` flop a rating.

use super::vector::{LANES, Vector, lanes, lanes_mut};
use super::{Isa, Kernel, prefetch_ahead, row};

/// Ratings that are gathered before they are added: the panel should fit the first cache at common ranks.
pub const PANEL: usize = 64;

/// The layout of one row's normal equations, and the sums over its ratings.
///
/// The equations are a slice of [`NormalEquations::sums_len`] floats: the rows of the matrix, [`NormalEquations::pitch`] floats
/// apart, of which only the lower triangle counts (what is above the diagonal is unspecified), then one more row that is
/// the right-hand side. It starts as zeros, and [`solve`](super::solve) takes it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NormalEquations {
    rank: usize,
    intercept: bool,
}

/// Ratings of one row, or of a part of it.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// Which rows of the fixed side.
    pub cols: &'a [u32],
    /// One target for each column: what multiplies q in the right-hand side.
    pub targets: &'a [f32],
    /// One weight for each column: what multiplies `q q^T`. Without it, every weight is 1.
    pub weights: Option<&'a [f32]>,
}

impl NormalEquations {
    /// The layout for so many factors, and for the bias as one more unknown after them if `intercept`.
    pub fn new(rank: usize, intercept: bool) -> NormalEquations {
        NormalEquations { rank, intercept }
    }

    /// The number of unknowns.
    pub fn size(self) -> usize {
        self.rank + usize::from(self.intercept)
    }

    /// Floats from one row of the matrix to the next: the size, padded.
    pub fn pitch(self) -> usize {
        self.size().next_multiple_of(LANES)
    }

    /// Floats of the whole: matrix and right-hand side.
    pub fn sums_len(self) -> usize {
        (self.size() + 1) * self.pitch()
    }

    /// Floats of scratch that [`NormalEquations::accumulate`] needs. Its contents need not be kept.
    pub fn panel_len(self) -> usize {
        PANEL * (self.pitch() + self.left_width())
    }

    /// A panel row holds what multiplies: the factors, with their weight, and the target as one more.
    fn left_width(self) -> usize {
        (self.size() + 1).next_multiple_of(LANES)
    }

    /// Adds the ratings of `segment` to `sums`, in their order. `flat` holds the factors of the fixed side.
    ///
    /// # Panics
    /// If `sums` or `panel` is shorter than this layout's, the parts of the segment differ in length, or a column lies
    /// outside `flat`.
    pub fn accumulate(
        self,
        isa: Isa,
        flat: &[f32],
        segment: Segment<'_>,
        sums: &mut [f32],
        panel: &mut [f32],
    ) {
        let ratings = segment.cols.len();
        assert_eq!(segment.targets.len(), ratings, "one target for each column");
        assert!(
            segment
                .weights
                .is_none_or(|weights| weights.len() == ratings),
            "one weight for each column"
        );
        isa.run(Accumulate {
            layout: self,
            flat,
            segment,
            sums: &mut sums[..self.sums_len()],
            panel: &mut panel[..self.panel_len()],
        });
    }
}

struct Accumulate<'a> {
    layout: NormalEquations,
    flat: &'a [f32],
    segment: Segment<'a>,
    sums: &'a mut [f32],
    panel: &'a mut [f32],
}

impl Kernel for Accumulate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(mut self, v: V) {
        let size = self.layout.size();
        let ratings = self.segment.cols.len();
        let mut first = 0;
        while first < ratings {
            let end = ratings.min(first + PANEL);
            match self.segment.weights {
                None => self.gather(v, first, end),
                Some(weights) => self.gather_weighted(v, weights, first, end),
            }
            let mut i = 0;
            if V::REGISTERS >= 32 && size >= LANES {
                self.tile::<V, LANES, 1>(v, end - first, 0, 0);
                i = LANES;
            }
            while V::REGISTERS >= 32 && size + 1 - i >= 8 {
                self.strip::<V, 8>(v, end - first, i);
                i += 8;
            }
            while size + 1 - i >= 4 {
                self.strip::<V, 4>(v, end - first, i);
                i += 4;
            }
            while size + 1 - i >= 2 {
                self.strip::<V, 2>(v, end - first, i);
                i += 2;
            }
            if i <= size {
                self.strip::<V, 1>(v, end - first, i);
            }
            first = end;
        }
    }
}

impl Accumulate<'_> {
    /// Floats of a panel row, and where in it the part starts that is broadcast.
    #[inline(always)]
    fn panel_row(&self) -> (usize, usize) {
        let pitch = self.layout.pitch();
        match self.segment.weights {
            None => (self.layout.left_width(), 0),
            Some(_) => (pitch + self.layout.left_width(), pitch),
        }
    }

    /// Without weights, a panel row serves on both sides of the product: `q, 1, t, 0 ...`, the 1 only with an intercept.
    #[inline(always)]
    fn gather<V: Vector>(&mut self, v: V, first: usize, end: usize) {
        let NormalEquations { rank, intercept } = self.layout;
        let stride = rank.next_multiple_of(LANES);
        let (width, _) = self.panel_row();
        let Segment { cols, targets, .. } = self.segment;
        for (i, out) in (first..end).zip(self.panel.chunks_exact_mut(width)) {
            prefetch_ahead(v, self.flat, stride, cols, i);
            let q = row(self.flat, stride, cols[i] as usize).as_chunks().0;
            let (factors, rest) = out.split_at_mut(stride);
            for (out, q) in factors.as_chunks_mut().0.iter_mut().zip(q) {
                v.store(v.load(q), out);
            }
            clear(v, rest);
            if intercept {
                out[rank] = 1.0;
            }
            out[self.layout.size()] = targets[i];
        }
    }

    /// With weights, a panel row is `q, 1, 0 ...`, then `w q, w, t, 0 ...`.
    #[inline(always)]
    fn gather_weighted<V: Vector>(&mut self, v: V, weights: &[f32], first: usize, end: usize) {
        let NormalEquations { rank, intercept } = self.layout;
        let stride = rank.next_multiple_of(LANES);
        let (width, left) = self.panel_row();
        let Segment { cols, targets, .. } = self.segment;
        for (i, out) in (first..end).zip(self.panel.chunks_exact_mut(width)) {
            prefetch_ahead(v, self.flat, stride, cols, i);
            let q = row(self.flat, stride, cols[i] as usize).as_chunks().0;
            let (plain, weighted) = out.split_at_mut(left);
            clear(v, &mut plain[stride..]);
            clear(v, &mut weighted[stride..]);
            let w = v.splat(weights[i]);
            let lines = plain.as_chunks_mut().0.iter_mut();
            for ((plain, weighted), q) in lines.zip(weighted.as_chunks_mut().0).zip(q) {
                v.store(v.load(q), plain);
                v.store(v.mul(w, v.load(q)), weighted);
            }
            if intercept {
                plain[rank] = 1.0;
                weighted[rank] = weights[i];
            }
            weighted[self.layout.size()] = targets[i];
        }
    }

    /// Adds the first `ratings` rows of the panel to rows `i .. i + R` of the sums, up to their diagonal.
    #[inline(always)]
    fn strip<V: Vector, const R: usize>(&mut self, v: V, ratings: usize, i: usize) {
        let end = (i + R).min(self.layout.size()).next_multiple_of(LANES);
        let mut j = 0;
        while j < end {
            let vectors = (end - j) / LANES;
            if V::REGISTERS < 32 || vectors == 1 {
                self.tile::<V, R, 1>(v, ratings, i, j);
                j += LANES;
            } else if vectors == 2 || vectors == 4 {
                self.tile::<V, R, 2>(v, ratings, i, j);
                j += 2 * LANES;
            } else {
                self.tile::<V, R, 3>(v, ratings, i, j);
                j += 3 * LANES;
            }
        }
    }

    /// Adds to the register tile of `R` rows from `i` on and `C` vectors of columns from `j` on.
    #[inline(always)]
    fn tile<V: Vector, const R: usize, const C: usize>(
        &mut self,
        v: V,
        ratings: usize,
        i: usize,
        j: usize,
    ) {
        let pitch = self.layout.pitch();
        let (width, left) = self.panel_row();
        let mut acc = [[v.splat(0.0); C]; R];
        for r in 0..R {
            for c in 0..C {
                acc[r][c] = v.load(lanes(self.sums, (i + r) * pitch + j + c * LANES));
            }
        }
        for row in self.panel.chunks_exact(width).take(ratings) {
            let x: &[f32; R] = row[left + i..].first_chunk().expect("R rows");
            let mut q = [v.splat(0.0); C];
            for c in 0..C {
                q[c] = v.load(lanes(row, j + c * LANES));
            }
            for r in 0..R {
                let x = v.splat(x[r]);
                for c in 0..C {
                    acc[r][c] = v.mul_add(x, q[c], acc[r][c]);
                }
            }
        }
        for r in 0..R {
            for c in 0..C {
                v.store(
                    acc[r][c],
                    lanes_mut(self.sums, (i + r) * pitch + j + c * LANES),
                );
            }
        }
    }
}

/// Zeros, without a call for a line or two.
#[inline(always)]
fn clear<V: Vector>(v: V, out: &mut [f32]) {
    for line in out.as_chunks_mut().0 {
        v.store(v.splat(0.0), line);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bits, noise, noise_cols, noise_rows};
    use super::*;
    use proptest::prelude::*;

    const ROWS: usize = 50;

    /// Matrix (lower triangle, row by row) and right-hand side, by the order of sums; and the same in f64, with the sum
    /// of the terms' sizes.
    fn twin(
        layout: NormalEquations,
        flat: &[f32],
        segment: Segment<'_>,
    ) -> (Vec<f32>, Vec<(f64, f64)>) {
        let (n, stride) = (layout.size(), layout.rank.next_multiple_of(LANES));
        let entries = n * (n + 1) / 2 + n;
        let (mut sums, mut exact) = (vec![0.0_f32; entries], vec![(0.0, 0.0); entries]);
        for (r, &col) in segment.cols.iter().enumerate() {
            let mut q = flat[col as usize * stride..][..layout.rank].to_vec();
            q.extend(layout.intercept.then_some(1.0));
            let w = segment.weights.map_or(1.0, |weights| weights[r]);
            let mut entry = 0;
            for i in 0..=n {
                for j in 0..(i + 1).min(n) {
                    let left = if i < n { w * q[i] } else { segment.targets[r] };
                    sums[entry] = left.mul_add(q[j], sums[entry]);
                    let left = if i < n {
                        f64::from(w) * f64::from(q[i])
                    } else {
                        left.into()
                    };
                    let term = left * f64::from(q[j]);
                    exact[entry].0 += term;
                    exact[entry].1 += term.abs();
                    entry += 1;
                }
            }
        }
        (sums, exact)
    }

    /// The entries that count, in the twin's order.
    fn entries(layout: NormalEquations, sums: &[f32]) -> Vec<f32> {
        let (n, pitch) = (layout.size(), layout.pitch());
        (0..=n)
            .flat_map(|i| &sums[i * pitch..][..(i + 1).min(n)])
            .copied()
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn sums_follow_the_order_and_the_theory(
            rank in prop_oneof![1_usize..70, Just(128), Just(144)],
            intercept: bool,
            weighted: bool,
            ratings in 0_usize..150,
            cut in 0.0..1.0_f64,
            seed: u64,
        ) {
            let layout = NormalEquations::new(rank, intercept);
            let flat = noise_rows(seed, ROWS, rank);
            let cols = noise_cols(seed ^ 1, ratings, ROWS);
            let targets = noise(seed ^ 2, ratings);
            let weights = noise(seed ^ 3, ratings);
            let segment = |from: usize, to: usize| Segment {
                cols: &cols[from..to],
                targets: &targets[from..to],
                weights: weighted.then_some(&weights[from..to]),
            };
            let (sums, exact) = twin(layout, &flat, segment(0, ratings));
            let cut = (cut * ratings as f64) as usize;
            for isa in Isa::available() {
                // Handed over in two parts, with scratch that holds rubbish.
                let mut got = vec![0.0; layout.sums_len()];
                let mut panel = vec![f32::NAN; layout.panel_len()];
                layout.accumulate(isa, &flat, segment(0, cut), &mut got, &mut panel);
                layout.accumulate(isa, &flat, segment(cut, ratings), &mut got, &mut panel);
                prop_assert_eq!(bits(&entries(layout, &got)), bits(&sums), "{:?}", isa);
            }
            for (&sum, &(exact, size)) in sums.iter().zip(&exact) {
                // One rounding a term, and one of the weight.
                let bound = (ratings + 1) as f64 * 2_f64.powi(-24) * size;
                prop_assert!((f64::from(sum) - exact).abs() <= bound);
            }
        }
    }

    #[test]
    fn the_widest_rank_works() {
        let layout = NormalEquations::new(512, true);
        let flat = noise_rows(1, ROWS, 512);
        let segment = Segment {
            cols: &[3, 49, 0],
            targets: &[1.0, 2.0, 3.0],
            weights: None,
        };
        let (sums, _) = twin(layout, &flat, segment);
        let mut got = vec![0.0; layout.sums_len()];
        let mut panel = vec![0.0; layout.panel_len()];
        layout.accumulate(Isa::best(), &flat, segment, &mut got, &mut panel);
        assert_eq!(bits(&entries(layout, &got)), bits(&sums));
    }
}
