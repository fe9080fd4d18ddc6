//! Symmetric positive definite systems, solved where they stand by the square-root-free Cholesky factorisation.
//!
//! `A = L D L^T` with a unit lower triangle L and the pivots D. Stored is `W = L D`, which overwrites A, and the
//! reciprocals of the pivots. The right-hand side is one more row of A, so that factorising is also the forward
//! substitution. Compared with `A = L L^T` (Golub and Van Loan, Matrix Computations, section 4.1) the bound on the error
//! is the same, and a pivot waits for one division instead of a root and a division.
//!
//! Order of sums. `W[i][j]` starts as `A[i][j]`; for p = 0, 1, ... below j, `W[i][p] * L[j][p]` is subtracted by a fused
//! multiply-add, with `L[j][p] = W[j][p] * (1 / D[p])` rounded. Backwards,
//! `x[i]` starts as the right-hand side's `W[n][i]`; for j = n - 1, n - 2, ... above i, `W[j][i] * x[j]` is subtracted in
//! the same way; then it is multiplied by `1 / D[i]`.
//!
//! The matrix is worked on in columns of sixteen, each once (left-looking): subtract what the columns before it
//! contribute, factorise the square on the diagonal, solve the rows below it. The cost is `n^3 / 3` flop.

use std::fmt;

use super::vector::{LANES, Vector, lanes, lanes_mut};
use super::{Isa, Kernel};

/// A pivot is refused below this share of the diagonal entry that it comes from.
///
/// A pivot is a diagonal entry minus terms that nearly cancel it; each step rounds by up to 2^-24 of the entry, so what
/// is left below about 2^-23 of it is made of rounding errors.
const LEAST_PIVOT: f32 = 1e-7;

/// The matrix is not positive definite, as far as f32 can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotPositiveDefinite {
    /// The first unknown that those before it already determine, or whose pivot is negative or NaN.
    pub index: usize,
}

impl fmt::Display for NotPositiveDefinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the equations do not determine unknown {}", self.index)
    }
}

impl std::error::Error for NotPositiveDefinite {}

/// Floats of scratch that [`solve`] needs for `n` unknowns. Its contents need not be kept.
pub fn solve_scratch_len(n: usize) -> usize {
    // The transposed rows of L in front of one square, and the reciprocal pivots.
    (LANES + 1) * n.next_multiple_of(LANES)
}

/// Solves the `n x n` system in the layout of [`NormalEquations`](super::NormalEquations): rows of the lower triangle,
/// `n` padded to a multiple of [`LANES`] floats apart, then the right-hand side as row `n`. The solution replaces the
/// right-hand side; the matrix is destroyed. What is above the diagonal is not used.
///
/// # Errors
/// If a pivot is not at least a ten-millionth of the diagonal entry that it comes from, or NaN.
///
/// # Panics
/// If `system` or `scratch` is too short.
pub fn solve(
    isa: Isa,
    n: usize,
    system: &mut [f32],
    scratch: &mut [f32],
) -> Result<(), NotPositiveDefinite> {
    let pitch = n.next_multiple_of(LANES);
    let (columns, inverses) = scratch[..solve_scratch_len(n)].split_at_mut(LANES * pitch);
    isa.run(Solve {
        n,
        pitch,
        w: &mut system[..(n + 1) * pitch],
        columns,
        inverses,
    })
}

/// Writes the block once for each lane, with the lane as a constant: a loop that the compiler does not unroll would keep
/// its vectors in memory.
macro_rules! for_lanes {
    ($lane:ident in [$($number:literal)*] $block:block) => {
        $({
            const $lane: usize = $number;
            $block
        })*
    };
}
struct Solve<'a> {
    n: usize,
    pitch: usize,
    /// A, turned into W from left to right; row `n` is the right-hand side.
    w: &'a mut [f32],
    /// `L^T` in front of the square on the diagonal: for each p below `j`, a vector of L[j..j + 16][p].
    columns: &'a mut [f32],
    /// `1 / D`
    inverses: &'a mut [f32],
}

impl Kernel for Solve<'_> {
    type Output = Result<(), NotPositiveDefinite>;

    #[inline(always)]
    fn run<V: Vector>(mut self, v: V) -> Self::Output {
        let n = self.n;
        let mut j = 0;
        while j < n {
            self.transpose_rows(v, j);
            let square = self.factorise_square(v, j)?;
            let mut i = (j + LANES).min(n);
            while V::REGISTERS >= 32 && n + 1 - i >= 8 {
                self.solve_rows::<V, 8>(v, &square, i, j);
                i += 8;
            }
            while n + 1 - i >= 4 {
                self.solve_rows::<V, 4>(v, &square, i, j);
                i += 4;
            }
            while i <= n {
                self.solve_rows::<V, 1>(v, &square, i, j);
                i += 1;
            }
            j += LANES;
        }
        self.substitute_back(v);
        Ok(())
    }
}

impl Solve<'_> {
    /// Fills `columns` from rows `j..j + 16` of W, whose first `j` columns are final.
    #[inline(always)]
    fn transpose_rows<V: Vector>(&mut self, v: V, j: usize) {
        let rows = LANES.min(self.n - j);
        let mut p = 0;
        while p < j {
            let mut block = [v.splat(0.0); LANES];
            for r in 0..rows {
                block[r] = v.load(lanes(self.w, (j + r) * self.pitch + p));
            }
            let block = v.transpose(block);
            for c in 0..LANES {
                let l = v.mul(block[c], v.splat(self.inverses[p + c]));
                v.store(l, lanes_mut(self.columns, (p + c) * LANES));
            }
            p += LANES;
        }
    }

    /// Rows `i .. i + R` of columns `j .. j + 16`, less what the columns before `j` contribute.
    #[inline(always)]
    fn reduced<V: Vector, const R: usize>(&self, v: V, i: usize, j: usize) -> [V::Lanes; R] {
        let mut acc = [v.splat(0.0); R];
        for r in 0..R {
            acc[r] = v.load(lanes(self.w, (i + r) * self.pitch + j));
        }
        let rows: [&[f32]; R] = std::array::from_fn(|r| &self.w[(i + r) * self.pitch..][..j]);
        for (p, column) in self.columns.as_chunks().0.iter().take(j).enumerate() {
            let column = v.load(column);
            for r in 0..R {
                acc[r] = v.neg_mul_add(v.splat(rows[r][p]), column, acc[r]);
            }
        }
        acc
    }

    /// Factorises the square on the diagonal at `j`. Returns its `L^T` without the diagonal: vector p holds
    /// `L[j..j + 16][j + p]`, zero up to and with lane p.
    #[inline(always)]
    fn factorise_square<V: Vector>(
        &mut self,
        v: V,
        j: usize,
    ) -> Result<[V::Lanes; LANES], NotPositiveDefinite> {
        let rows = LANES.min(self.n - j);
        let mut square = [v.splat(0.0); LANES];
        let mut least = [0.0; LANES];
        for r in 0..rows {
            least[r] = LEAST_PIVOT * self.w[(j + r) * (self.pitch + 1)];
        }
        if V::REGISTERS >= 32 && rows == LANES {
            square = self.reduced::<V, LANES>(v, j, j);
        } else {
            for r in 0..rows {
                square[r] = self.reduced::<V, 1>(v, j + r, j)[0];
            }
        }
        // From here on vector p is column p: the triangle that counts becomes the upper one, lanes p and above.
        let mut square = v.transpose(square);
        let mut unit = [v.splat(0.0); LANES];
        for_lanes!(P in [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15] {
            if P < rows {
                let pivot = v.extract(square[P], P);
                if pivot <= least[P] || pivot.is_nan() {
                    return Err(NotPositiveDefinite { index: j + P });
                }
                let inverse = 1.0 / pivot;
                self.inverses[j + P] = inverse;
                unit[P] = v.keep_from(v.mul(square[P], v.splat(inverse)), P + 1);
                for q in 0..LANES {
                    if q > P {
                        square[q] = v.neg_mul_add(square[P], v.broadcast(unit[P], q), square[q]);
                    }
                }
            }
        });
        let square = v.transpose(square);
        for r in 0..rows {
            v.store(square[r], lanes_mut(self.w, (j + r) * self.pitch + j));
        }
        Ok(unit)
    }

    /// Columns `j .. j + 16` of rows `i .. i + R`, all below the square whose `L^T` is `unit`.
    #[inline(always)]
    fn solve_rows<V: Vector, const R: usize>(
        &mut self,
        v: V,
        unit: &[V::Lanes; LANES],
        i: usize,
        j: usize,
    ) {
        let mut acc = self.reduced::<V, R>(v, i, j);
        let columns = LANES.min(self.n - j);
        // Floats from the size on may hold anything, even NaN: none is broadcast.
        for p in 0..columns {
            for r in 0..R {
                acc[r] = v.neg_mul_add(v.broadcast(acc[r], p), unit[p], acc[r]);
            }
        }
        for r in 0..R {
            v.store(acc[r], lanes_mut(self.w, (i + r) * self.pitch + j));
        }
    }

    /// Turns the right-hand side, by now `W[n]`, into the solution, from the last sixteen unknowns to the first.
    #[inline(always)]
    fn substitute_back<V: Vector>(&mut self, v: V) {
        let (pitch, inverses) = (self.pitch, &*self.inverses);
        let (w, right) = self.w.split_at_mut(self.n * pitch);
        for j in (0..self.n).step_by(LANES).rev() {
            let unknowns = LANES.min(self.n - j);
            let w = &w[j * pitch..][..unknowns * pitch];
            let inverses = &inverses[j..][..unknowns];
            // Lane p of the rest is final when p is reached; what happens to it afterwards does not matter.
            let mut rest = v.load(lanes(right, j));
            let mut x = [0.0; LANES];
            for_lanes!(P in [15 14 13 12 11 10 9 8 7 6 5 4 3 2 1 0] {
                if P < unknowns {
                    let all = v.mul(v.broadcast(rest, P), v.splat(inverses[P]));
                    x[P] = v.extract(all, 0);
                    rest = v.neg_mul_add(all, v.load(lanes(w, P * pitch + j)), rest);
                }
            });
            right[j..j + unknowns].copy_from_slice(&x[..unknowns]);
            for k in (0..j).step_by(LANES) {
                let mut rest = v.load(lanes(right, k));
                for p in (0..unknowns).rev() {
                    rest = v.neg_mul_add(v.splat(x[p]), v.load(lanes(w, p * pitch + k)), rest);
                }
                v.store(rest, lanes_mut(right, k));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bits, noise};
    use super::*;
    use proptest::prelude::*;

    /// `G G^T + ridge I` and a right-hand side, in the solver's layout, NaN above the diagonal.
    fn system(seed: u64, n: usize, ridge: f32) -> Vec<f32> {
        let pitch = n.next_multiple_of(LANES);
        let g = noise(seed, n * n);
        let mut system = vec![f32::NAN; (n + 1) * pitch];
        for i in 0..n {
            for j in 0..=i {
                let dot: f32 = (0..n).map(|k| g[i * n + k] * g[j * n + k]).sum();
                system[i * pitch + j] = dot + if i == j { ridge } else { 0.0 };
            }
        }
        system[n * pitch..][..n].copy_from_slice(&noise(seed ^ 1, n));
        system
    }

    /// The order of sums, entry by entry.
    fn twin(n: usize, system: &[f32]) -> Result<Vec<f32>, NotPositiveDefinite> {
        let pitch = n.next_multiple_of(LANES);
        let mut w = system.to_vec();
        let mut inverse = vec![0.0; n];
        for j in 0..n {
            for i in j..=n {
                for p in 0..j {
                    let l = w[j * pitch + p] * inverse[p];
                    w[i * pitch + j] = (-w[i * pitch + p]).mul_add(l, w[i * pitch + j]);
                }
                if i == j {
                    if w[j * pitch + j] <= LEAST_PIVOT * system[j * pitch + j] {
                        return Err(NotPositiveDefinite { index: j });
                    }
                    inverse[j] = 1.0 / w[j * pitch + j];
                }
            }
        }
        let mut x = w[n * pitch..][..n].to_vec();
        for j in (0..n).rev() {
            x[j] *= inverse[j];
            for i in 0..j {
                x[i] = (-x[j]).mul_add(w[j * pitch + i], x[i]);
            }
        }
        Ok(x)
    }

    fn solved(isa: Isa, n: usize, system: &[f32]) -> Result<Vec<f32>, NotPositiveDefinite> {
        let mut system = system.to_vec();
        let mut scratch = vec![f32::NAN; solve_scratch_len(n)];
        solve(isa, n, &mut system, &mut scratch)?;
        Ok(system[n * n.next_multiple_of(LANES)..][..n].to_vec())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn solutions_follow_the_order_and_solve(n in 1_usize..100, seed: u64) {
            let system = system(seed, n, 1.0);
            let x = twin(n, &system).unwrap();
            for isa in Isa::available() {
                prop_assert_eq!(bits(&solved(isa, n, &system).unwrap()), bits(&x), "{:?}", isa);
            }
            // Backward stability: the residual is small against |A| |x|, entry by entry (Higham, Accuracy and Stability
            // of Numerical Algorithms, theorem 10.4, with |L| |D| |L^T| <= trace bound of a positive definite A).
            let pitch = n.next_multiple_of(LANES);
            let at = |i: usize, j: usize| f64::from(system[i.max(j) * pitch + i.min(j)]);
            let trace: f64 = (0..n).map(|i| at(i, i)).sum();
            let length = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            for i in 0..n {
                let sum: f64 = (0..n).map(|j| at(i, j) * f64::from(x[j])).sum();
                let residual = (sum - f64::from(system[n * pitch + i])).abs();
                prop_assert!(residual <= 4.0 * n as f64 * 2_f64.powi(-24) * trace * length);
            }
        }
    }

    #[test]
    fn what_is_not_positive_definite_is_refused_at_its_index() {
        for n in [1_usize, 5, 16, 17, 40, 65] {
            for index in [0, n / 2, n - 1] {
                let pitch = n.next_multiple_of(LANES);
                let good = system(3, n, 1.0);
                for bad in [-1.0, 0.0, f32::NAN] {
                    let mut system = good.clone();
                    system[index * pitch + index] = bad;
                    for isa in Isa::available() {
                        let error = solved(isa, n, &system).unwrap_err();
                        assert_eq!(error, NotPositiveDefinite { index }, "{n} {bad} {isa:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_repeated_unknown_is_refused() {
        // Two equal columns of ones: the second has nothing left.
        let n = 2;
        let mut system = vec![0.0; 3 * LANES];
        (system[0], system[LANES], system[LANES + 1]) = (3.0, 3.0, 3.0);
        for isa in Isa::available() {
            let error = solved(isa, n, &system).unwrap_err();
            assert_eq!(
                error.to_string(),
                "the equations do not determine unknown 1"
            );
        }
    }

    #[test]
    fn nothing_to_solve_is_fine() {
        assert_eq!(solved(Isa::best(), 0, &[]), Ok(vec![]));
    }
}
