//! Normal equations of one row: the sum of `q q^T` over the rows that it is fitted to.
//!
//! A row of factors x is fitted to targets t by minimising the sum of `w (t - <q, x>)^2` over its ratings, so it solves
//! `A x = b` with `A = sum w q q^T` and `b = sum t q` (the caller multiplies the weight into t where it belongs there).
//! A model with biases has one unknown more, the intercept, whose q is 1.
//!
//! Order of sums. Every entry has one accumulator, to which ratings are added one by one in order by fused multiply-adds:
//! `A[i][j] += (w q_i) q_j` for j >= i, `b[i] += t q_i`. So a row may be handed over in any number of segments.
//!
//! Ratings are gathered into panels of [`PANEL`] rows, because factors lie scattered in memory; each register tile of the
//! matrix is then loaded and stored once for a whole panel. What multiplies a one or a target is summed while gathering.
//! The tiles ask for the rows of the next panel, so that reads from memory overlap with arithmetic. Up to sixteen factors
//! need no panel where the registers hold all their sums. The cost is `size^2` flop a rating.

use std::ops::Range;

use super::rows::{Long, Rows, Short};
use super::vector::{LANES, Vector, lanes, lanes_mut, vectors, vectors_mut};
use super::{Isa, Kernel};

/// Ratings that are gathered before they are added: the panel should fit the first cache at common ranks.
pub const PANEL: usize = 64;

/// The layout of one row's normal equations, and the sums over its ratings.
///
/// The equations are a slice of [`NormalEquations::sums_len`] floats: the rows of the upper triangle of the matrix,
/// [`NormalEquations::pitch`] floats apart, with the right-hand side as one more column. What is below the diagonal is
/// unspecified. It starts as zeros, and [`solve`](super::solve) takes it as it is.
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

    /// Floats from one row of the matrix to the next: the unknowns and the right-hand side, padded.
    pub fn pitch(self) -> usize {
        (self.size() + 1).next_multiple_of(LANES)
    }

    /// Where the diagonal entry of an unknown lies.
    pub fn diagonal(self, unknown: usize) -> usize {
        unknown * (self.pitch() + 1)
    }

    /// Where the right-hand side of an unknown lies.
    pub fn right(self, unknown: usize) -> usize {
        unknown * self.pitch() + self.size()
    }

    /// Floats of the whole: matrix and right-hand side.
    pub fn sums_len(self) -> usize {
        self.size() * self.pitch()
    }

    /// Floats of scratch that [`NormalEquations::accumulate`] needs. Its contents need not be kept.
    pub fn panel_len(self) -> usize {
        // Factors with and without their weights, and the two columns beside the matrix of factors.
        2 * (PANEL + 1) * self.stride()
    }

    /// Floats of a row of factors, padded.
    fn stride(self) -> usize {
        self.rank.next_multiple_of(LANES)
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
        let (edges, panel) = panel[..self.panel_len()].split_at_mut(2 * self.stride());
        let (ones, rights) = edges.split_at_mut(self.stride());
        isa.run(Accumulate {
            layout: self,
            flat,
            segment,
            sums: &mut sums[..self.sums_len()],
            ones,
            rights,
            total: 0.0,
            panel,
        });
    }
}

struct Accumulate<'a> {
    layout: NormalEquations,
    flat: &'a [f32],
    segment: Segment<'a>,
    sums: &'a mut [f32],
    /// The intercept's column and the right-hand side, for the factors: as rows while ratings are added.
    ones: &'a mut [f32],
    rights: &'a mut [f32],
    /// The right-hand side of the intercept: the sum of the targets.
    total: f32,
    /// Gathered rows of factors, each followed by itself times its weight if there are weights.
    panel: &'a mut [f32],
}

impl Kernel for Accumulate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(mut self, v: V) {
        let ratings = self.segment.cols.len();
        self.take_columns();
        let mut first = 0;
        if V::REGISTERS >= 32 && self.layout.stride() == LANES && self.segment.weights.is_none() {
            self.add_in_registers(v);
            first = ratings;
        }
        while first < ratings {
            let end = ratings.min(first + PANEL);
            match self.segment.weights {
                None => self.gather::<V, false>(v, first, end),
                Some(_) => self.gather::<V, true>(v, first, end),
            }
            self.add_panel(v, first, end);
            first = end;
        }
        self.put_columns();
        self.add_corner();
    }
}

impl Accumulate<'_> {
    /// Floats of a panel row, and where in it the part starts that is broadcast.
    #[inline(always)]
    fn panel_row(&self) -> (usize, usize) {
        let stride = self.layout.stride();
        match self.segment.weights {
            None => (stride, 0),
            Some(_) => (2 * stride, stride),
        }
    }

    #[inline(always)]
    fn take_columns(&mut self) {
        let NormalEquations { rank, intercept } = self.layout;
        let (pitch, right) = (self.layout.pitch(), self.layout.size());
        let rows = self.sums.chunks_exact(pitch).take(rank);
        for ((row, one), t) in rows.zip(&mut *self.ones).zip(&mut *self.rights) {
            *one = if intercept { row[rank] } else { 0.0 };
            *t = row[right];
        }
        self.ones[rank..].fill(0.0);
        self.rights[rank..].fill(0.0);
        if intercept {
            self.total = self.sums[self.layout.right(rank)];
        }
    }

    #[inline(always)]
    fn put_columns(&mut self) {
        let NormalEquations { rank, intercept } = self.layout;
        let (pitch, right) = (self.layout.pitch(), self.layout.size());
        let rows = self.sums.chunks_exact_mut(pitch).take(rank);
        for ((row, one), t) in rows.zip(&*self.ones).zip(&*self.rights) {
            if intercept {
                row[rank] = *one;
            }
            row[right] = *t;
        }
        if intercept {
            self.sums[self.layout.right(rank)] = self.total;
        }
    }

    /// The intercept's own diagonal entry.
    #[inline(always)]
    fn add_corner(&mut self) {
        let NormalEquations { rank, intercept } = self.layout;
        if !intercept {
            return;
        }
        let Segment { cols, weights, .. } = self.segment;
        let corner = &mut self.sums[self.layout.diagonal(rank)];
        match weights {
            // Counts up to 2^24 are exact, however they are added.
            None => *corner += cols.len() as f32,
            Some(weights) => weights.iter().for_each(|w| *corner += w),
        }
    }

    /// Adds all ratings, where one vector holds a row of factors and the registers hold all sums: no panel is needed.
    #[inline(always)]
    fn add_in_registers<V: Vector>(&mut self, v: V) {
        let (rank, pitch) = (self.layout.rank, self.layout.pitch());
        let Segment { cols, targets, .. } = self.segment;
        let mut acc = [v.splat(0.0); LANES];
        // With a fixed number of rounds, or the sums would be kept in memory.
        for r in 0..LANES {
            if r < rank {
                acc[r] = v.load(lanes(self.sums, r * pitch));
            }
        }
        let rows = Short::<1>::new(self.flat);
        let mut ones = v.load(lanes(self.ones, 0));
        let mut rights = v.load(lanes(self.rights, 0));
        let mut total = self.total;
        for (i, (&col, &t)) in cols.iter().zip(targets).enumerate() {
            if let Some(&far) = cols.get(i + rows.ahead()) {
                rows.prefetch(v, far);
            }
            let [x] = rows.row(col);
            let q = v.load(x);
            total += t;
            ones = v.add(ones, q);
            rights = v.mul_add(v.splat(t), q, rights);
            for r in 0..LANES {
                acc[r] = v.mul_add(v.splat(x[r]), q, acc[r]);
            }
        }
        for r in 0..LANES {
            if r < rank {
                v.store(acc[r], lanes_mut(self.sums, r * pitch));
            }
        }
        v.store(ones, lanes_mut(self.ones, 0));
        v.store(rights, lanes_mut(self.rights, 0));
        self.total = total;
    }

    /// Copies the factors of ratings `first .. end` into the panel, and adds what multiplies a one or a target.
    #[inline(always)]
    fn gather<V: Vector, const WEIGHTED: bool>(&mut self, v: V, first: usize, end: usize) {
        // Up to four vectors of each sum stay in registers over the whole panel; common lengths are known to the compiler.
        let flat = self.flat;
        let stride = self.layout.stride() / LANES;
        match stride {
            1 => self.gather_part::<V, _, 1, WEIGHTED>(v, Short::<1>::new(flat), first..end, 0),
            2 => self.gather_part::<V, _, 2, WEIGHTED>(v, Short::<2>::new(flat), first..end, 0),
            4 if V::REGISTERS >= 32 => {
                self.gather_part::<V, _, 4, WEIGHTED>(v, Short::<4>::new(flat), first..end, 0);
            }
            _ => {
                let rows = Long::new(flat, stride);
                let mut at = 0;
                while V::REGISTERS >= 32 && stride - at >= 4 {
                    self.gather_part::<V, _, 4, WEIGHTED>(v, rows, first..end, at);
                    at += 4;
                }
                while stride - at >= 2 {
                    self.gather_part::<V, _, 2, WEIGHTED>(v, rows, first..end, at);
                    at += 2;
                }
                if at < stride {
                    self.gather_part::<V, _, 1, WEIGHTED>(v, rows, first..end, at);
                }
            }
        }
    }

    /// The `N` vectors of each row from vector `at` on.
    #[inline(always)]
    fn gather_part<'r, V: Vector, R: Rows<'r>, const N: usize, const WEIGHTED: bool>(
        &mut self,
        v: V,
        rows: R,
        ratings: Range<usize>,
        at: usize,
    ) {
        let (width, left) = self.panel_row();
        let Segment {
            cols,
            targets,
            weights,
        } = self.segment;
        let mut ones = [v.splat(0.0); N];
        let mut rights = [v.splat(0.0); N];
        let mut total = self.total;
        for c in 0..N {
            ones[c] = v.load(lanes(self.ones, (at + c) * LANES));
            rights[c] = v.load(lanes(self.rights, (at + c) * LANES));
        }
        let (cols, targets) = (&cols[..ratings.end], &targets[..ratings.end]);
        let asks = ratings.start == 0 && at == 0;
        let (panel, _) = self.panel.as_chunks_mut::<LANES>();
        for (i, out) in ratings.zip(panel.chunks_exact_mut(width / LANES)) {
            if asks && let Some(&far) = cols.get(i + rows.ahead()) {
                rows.prefetch(v, far);
            }
            let row: &[[f32; LANES]; N] = vectors(rows.row(cols[i]).as_ref(), at);
            if at == 0 {
                total += targets[i];
            }
            let t = v.splat(targets[i]);
            let copy: &mut [[f32; LANES]; N] = vectors_mut(out, at);
            for c in 0..N {
                let q = v.load(&row[c]);
                v.store(q, &mut copy[c]);
                rights[c] = v.mul_add(t, q, rights[c]);
                if !WEIGHTED {
                    ones[c] = v.add(ones[c], q);
                }
            }
            if WEIGHTED && let Some(weights) = weights {
                let weight = v.splat(weights[i]);
                let copy: &mut [[f32; LANES]; N] = vectors_mut(out, left / LANES + at);
                for c in 0..N {
                    let weighted = v.mul(weight, v.load(&row[c]));
                    v.store(weighted, &mut copy[c]);
                    ones[c] = v.add(ones[c], weighted);
                }
            }
        }
        for c in 0..N {
            v.store(ones[c], lanes_mut(self.ones, (at + c) * LANES));
            v.store(rights[c], lanes_mut(self.rights, (at + c) * LANES));
        }
        self.total = total;
    }

    /// Adds the panel, which holds ratings `first .. end`, to the matrix of the factors.
    #[inline(always)]
    fn add_panel<V: Vector>(&mut self, v: V, first: usize, end: usize) {
        let (rank, stride) = (self.layout.rank, self.layout.stride());
        // Each tile asks for one line of each row that the next panel will hold.
        let ratings = self.segment.cols.len();
        let panel = Panel {
            ratings: end - first,
            next: end..ratings.min(end + PANEL),
        };
        let mut line = 0;
        let mut i = 0;
        while i < rank {
            let left = rank - i;
            if V::REGISTERS >= 32 && left == LANES && stride - i == LANES {
                self.tile::<V, LANES, 1>(v, &panel, &mut line, i, i);
                i += LANES;
            } else if V::REGISTERS >= 32 && left >= 8 {
                self.strip::<V, 8>(v, &panel, &mut line, i);
                i += 8;
            } else if left >= 4 {
                self.strip::<V, 4>(v, &panel, &mut line, i);
                i += 4;
            } else {
                self.strip::<V, 1>(v, &panel, &mut line, i);
                i += 1;
            }
        }
    }

    /// Adds the panel to rows `i .. i + R` of the matrix, from their diagonal on.
    #[inline(always)]
    fn strip<V: Vector, const R: usize>(
        &mut self,
        v: V,
        panel: &Panel,
        line: &mut usize,
        i: usize,
    ) {
        let end = self.layout.stride();
        let mut j = i / LANES * LANES;
        while j < end {
            let vectors = (end - j) / LANES;
            if V::REGISTERS < 32 || vectors == 1 {
                self.tile::<V, R, 1>(v, panel, line, i, j);
                j += LANES;
            } else if vectors == 2 || vectors == 4 {
                self.tile::<V, R, 2>(v, panel, line, i, j);
                j += 2 * LANES;
            } else {
                self.tile::<V, R, 3>(v, panel, line, i, j);
                j += 3 * LANES;
            }
        }
    }

    /// Adds to the register tile of `R` rows from `i` on and `C` vectors of columns from `j` on.
    #[inline(always)]
    fn tile<V: Vector, const R: usize, const C: usize>(
        &mut self,
        v: V,
        panel: &Panel,
        line: &mut usize,
        i: usize,
        j: usize,
    ) {
        let (pitch, stride) = (self.layout.pitch(), self.layout.stride());
        let (width, left) = self.panel_row();
        let mut acc = [[v.splat(0.0); C]; R];
        for r in 0..R {
            for c in 0..C {
                acc[r][c] = v.load(lanes(self.sums, (i + r) * pitch + j + c * LANES));
            }
        }
        let lines = self.flat.as_chunks().0;
        let mut next = match *line * LANES < stride {
            true => self.segment.cols[panel.next.clone()].iter(),
            false => [].iter(),
        };
        for row in self.panel.chunks_exact(width).take(panel.ratings) {
            if let Some(&col) = next.next() {
                v.prefetch(lines, col as usize * (stride / LANES) + *line);
            }
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
        *line += 1;
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

/// Which ratings lie in the panel.
struct Panel {
    ratings: usize,
    /// Those that the next panel will hold.
    next: Range<usize>,
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bits, noise, noise_cols, noise_rows};
    use super::*;
    use proptest::prelude::*;

    const ROWS: usize = 50;

    /// Matrix (upper triangle, row by row, each with its right-hand side), by the order of sums; and the same in f64,
    /// with the sum of the terms' sizes.
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
            for i in 0..n {
                for j in i..=n {
                    let (left, right, exactly) = match j < n {
                        true => (w * q[i], q[j], f64::from(w) * f64::from(q[i])),
                        false => (segment.targets[r], q[i], segment.targets[r].into()),
                    };
                    sums[entry] = left.mul_add(right, sums[entry]);
                    let term = exactly * f64::from(right);
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
        (0..n)
            .flat_map(|i| &sums[i * pitch..][i..=n])
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
