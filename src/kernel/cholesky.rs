//! Symmetric positive definite systems, solved where they stand by the square-root-free Cholesky factorisation.
//!
//! `A = U^T D U` with a unit upper triangle U and the pivots D. Stored is `W = D U`, which overwrites the upper triangle of
//! A, and the reciprocals of the pivots. The right-hand side is one more column of A, so that factorising is also the
//! forward substitution. Compared with `A = L L^T` (Golub and Van Loan, Matrix Computations, section 4.1) the bound on the
//! error is the same, and a pivot waits for one division instead of a root and a division.
//!
//! Order of sums. `W[i][j]` starts as `A[i][j]`; for p = 0, 1, ... below i, `U[p][i] * W[p][j]` is subtracted by a fused
//! multiply-add, with `U[p][i] = W[p][i] * (1 / D[p])` rounded. Backwards, unknowns are found sixteen at a time. What
//! those after the sixteen contribute to equation i, the sum of `W[i][j] * x[j]`, is summed as dot products are (see
//! `dot.rs`), lane l taking the j that are l more than a multiple of sixteen; it is subtracted from the right-hand side
//! `W[i][n]`, and the rest multiplied by `1 / D[i]`. Then for j from the last of the sixteen down, `U[i][j] * x[j]` is
//! subtracted by a fused multiply-add.
//!
//! Rows are worked on in blocks, each once, by register tiles of a block's rows and sixteen columns: subtract what the rows
//! above contribute, then what the block's own rows do. A lane is a column, so a tile multiplies its vectors by numbers
//! that it broadcasts from memory, and never moves anything between lanes; only pivots do. The cost is `n^3 / 3` flop.

use std::fmt;

use super::vector::{LANES, Vector, lanes, lanes_mut};
use super::{Isa, Kernel};

/// A pivot is refused below this share of the diagonal entry that it comes from.
///
/// A pivot is a diagonal entry minus terms that nearly cancel it; each step rounds by up to 2^-24 of the entry, so what
/// is left below about 2^-23 of it is made of rounding errors.
pub(super) const LEAST_PIVOT: f32 = 1e-7;

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
    // Sixteen columns of U, the solution, and the reciprocal pivots.
    (LANES + 2) * n.next_multiple_of(LANES)
}

/// Solves the `n x n` system in the layout of [`NormalEquations`](super::NormalEquations): rows of the upper triangle,
/// `n + 1` padded to a multiple of [`LANES`] floats apart, with the right-hand side as column `n`. The matrix is destroyed;
/// what is below the diagonal is not used. Returns the solution, which lies in `scratch`.
///
/// # Errors
/// If a pivot is not at least a ten-millionth of the diagonal entry that it comes from, or NaN.
///
/// # Panics
/// If `system` or `scratch` is too short.
pub fn solve<'s>(
    isa: Isa,
    n: usize,
    system: &mut [f32],
    scratch: &'s mut [f32],
) -> Result<&'s [f32], NotPositiveDefinite> {
    let padded = n.next_multiple_of(LANES);
    let (columns, rest) = scratch[..solve_scratch_len(n)].split_at_mut(LANES * padded);
    let (solution, inverses) = rest.split_at_mut(padded);
    let pitch = (n + 1).next_multiple_of(LANES);
    isa.run(Solve {
        n,
        pitch,
        w: &mut system[..n * pitch],
        columns: columns.as_chunks_mut().0,
        inverses,
        solution,
    })?;
    Ok(&solution[..n])
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
    /// A, turned into W from top to bottom; column `n` is the right-hand side.
    w: &'a mut [f32],
    /// The sixteen columns of U that hold the block's diagonal: for each row p, `U[p][j .. j + 16]`.
    columns: &'a mut [[f32; LANES]],
    /// `1 / D`
    inverses: &'a mut [f32],
    /// The unknowns, and zeros after them.
    solution: &'a mut [f32],
}

impl Kernel for Solve<'_> {
    type Output = Result<(), NotPositiveDefinite>;

    #[inline(always)]
    fn run<V: Vector>(mut self, v: V) -> Self::Output {
        for j in (0..self.n).step_by(LANES) {
            self.scale_columns(v, j);
            let end = self.n.min(j + LANES);
            let mut i = j;
            if V::REGISTERS >= 32 && end - i == LANES {
                self.block::<V, LANES>(v, i)?;
                i += LANES;
            }
            while end - i >= 4 {
                self.block::<V, 4>(v, i)?;
                i += 4;
            }
            while i < end {
                self.block::<V, 1>(v, i)?;
                i += 1;
            }
        }
        self.substitute_back(v);
        Ok(())
    }
}

impl Solve<'_> {
    /// Fills `columns` with what the rows above `j` hold of U.
    #[inline(always)]
    fn scale_columns<V: Vector>(&mut self, v: V, j: usize) {
        let rows = self.w.chunks_exact(self.pitch).take(j);
        for ((row, column), &inverse) in rows.zip(&mut *self.columns).zip(&*self.inverses) {
            v.store(v.mul(v.load(lanes(row, j)), v.splat(inverse)), column);
        }
    }

    /// Finishes rows `i .. i + R`, all in the same sixteen: every row above is final.
    #[inline(always)]
    fn block<V: Vector, const R: usize>(
        &mut self,
        v: V,
        i: usize,
    ) -> Result<(), NotPositiveDefinite> {
        self.diagonal::<V, R>(v, i)?;
        let lane = lane::<R>(i);
        let first = (i / LANES + 1) * LANES;
        for j in (first..=self.n).step_by(LANES) {
            let mut acc = self.reduced::<V, R>(v, i, j);
            for_lanes!(P in [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14] {
                if P < R {
                    let column: &[f32; R] = self.columns[i + P][lane..].first_chunk().expect("R columns");
                    for r in P + 1..R {
                        acc[r] = v.neg_mul_add(v.splat(column[r]), acc[P], acc[r]);
                    }
                }
            });
            for r in 0..R {
                v.store(acc[r], lanes_mut(self.w, (i + r) * self.pitch + j));
            }
        }
        Ok(())
    }

    /// Columns `j .. j + 16` of rows `i .. i + R`, less what the rows above `i` contribute.
    #[inline(always)]
    fn reduced<V: Vector, const R: usize>(&self, v: V, i: usize, j: usize) -> [V::Lanes; R] {
        let mut acc = [v.splat(0.0); R];
        for r in 0..R {
            acc[r] = v.load(lanes(self.w, (i + r) * self.pitch + j));
        }
        let lane = lane::<R>(i);
        let rows = self.w.chunks_exact(self.pitch).take(i);
        for (row, column) in rows.zip(&*self.columns) {
            let row = v.load(lanes(row, j));
            let column: &[f32; R] = column[lane..].first_chunk().expect("R columns");
            for r in 0..R {
                acc[r] = v.neg_mul_add(v.splat(column[r]), row, acc[r]);
            }
        }
        acc
    }

    /// Factorises the square on the diagonal of rows `i .. i + R`, in the sixteen columns around it. Lanes before a row's
    /// diagonal hold what nobody reads.
    #[inline(always)]
    fn diagonal<V: Vector, const R: usize>(
        &mut self,
        v: V,
        i: usize,
    ) -> Result<(), NotPositiveDefinite> {
        let lane = lane::<R>(i);
        let j = i - lane;
        let mut least = [0.0; R];
        for r in 0..R {
            least[r] = LEAST_PIVOT * self.w[(i + r) * (self.pitch + 1)];
        }
        let mut acc = self.reduced::<V, R>(v, i, j);
        for_lanes!(P in [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15] {
            if P < R {
                let pivot = v.extract(acc[P], lane + P);
                if pivot <= least[P] || pivot.is_nan() {
                    return Err(NotPositiveDefinite { index: i + P });
                }
                let inverse = 1.0 / pivot;
                self.inverses[i + P] = inverse;
                let unit = v.mul(acc[P], v.splat(inverse));
                v.store(unit, &mut self.columns[i + P]);
                for r in P + 1..R {
                    acc[r] = v.neg_mul_add(v.broadcast(unit, lane + r), acc[P], acc[r]);
                }
            }
        });
        for r in 0..R {
            v.store(acc[r], lanes_mut(self.w, (i + r) * self.pitch + j));
        }
        Ok(())
    }

    /// Finds the unknowns, from the last sixteen to the first.
    #[inline(always)]
    fn substitute_back<V: Vector>(&mut self, v: V) {
        let (n, pitch) = (self.n, self.pitch);
        for j in (0..n).step_by(LANES).rev() {
            let unknowns = LANES.min(n - j);
            // Of each of the sixteen equations: what later unknowns contribute, the right-hand side, and the square.
            let mut later = [v.splat(0.0); LANES];
            let mut square = [v.splat(0.0); LANES];
            let mut right = [0.0; LANES];
            let mut inverses = [0.0; LANES];
            for r in 0..unknowns {
                let row = &self.w[(j + r) * pitch..][..pitch];
                let mut sum = v.splat(0.0);
                for k in (j + LANES..n).step_by(LANES) {
                    let x = v.load(lanes(self.solution, k));
                    sum = v.mul_add(v.load(lanes(row, k)), x, sum);
                }
                later[r] = sum;
                right[r] = row[n];
                inverses[r] = self.inverses[j + r];
                square[r] = v.mul(v.load(lanes(row, j)), v.splat(inverses[r]));
            }
            let rest = v.neg_mul_add(v.splat(1.0), v.sums(later), v.load(&right));
            let mut x = v.mul(rest, v.load(&inverses));
            // From here on vector p is column p of U.
            let square = v.transpose(square);
            for_lanes!(P in [15 14 13 12 11 10 9 8 7 6 5 4 3 2 1] {
                if P < unknowns {
                    let others = v.keep_below(square[P], P);
                    x = v.neg_mul_add(v.broadcast(x, P), others, x);
                }
            });
            v.store(x, lanes_mut(self.solution, j));
        }
    }
}

/// Which lane holds the diagonal of row `i`, the first of `R`.
#[inline(always)]
fn lane<const R: usize>(i: usize) -> usize {
    if R == LANES { 0 } else { i % LANES }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bits, noise};
    use super::*;
    use proptest::prelude::*;

    fn pitch(n: usize) -> usize {
        (n + 1).next_multiple_of(LANES)
    }

    /// `G G^T + ridge I` and a right-hand side, in the solver's layout, NaN below the diagonal.
    fn system(seed: u64, n: usize, ridge: f32) -> Vec<f32> {
        let pitch = pitch(n);
        let (g, right) = (noise(seed, n * n), noise(seed ^ 1, n));
        let mut system = vec![0.0; n * pitch];
        for i in 0..n {
            system[i * pitch..][..i].fill(f32::NAN);
            for j in i..n {
                let dot: f32 = (0..n).map(|k| g[i * n + k] * g[j * n + k]).sum();
                system[i * pitch + j] = dot + if i == j { ridge } else { 0.0 };
            }
            system[i * pitch + n] = right[i];
        }
        system
    }

    /// The order of sums, entry by entry.
    fn twin(n: usize, system: &[f32]) -> Result<Vec<f32>, NotPositiveDefinite> {
        let pitch = pitch(n);
        let mut w = system.to_vec();
        let mut inverse = vec![0.0; n];
        for i in 0..n {
            for j in i..=n {
                for p in 0..i {
                    let u = w[p * pitch + i] * inverse[p];
                    w[i * pitch + j] = (-u).mul_add(w[p * pitch + j], w[i * pitch + j]);
                }
            }
            if w[i * pitch + i] <= LEAST_PIVOT * system[i * pitch + i] {
                return Err(NotPositiveDefinite { index: i });
            }
            inverse[i] = 1.0 / w[i * pitch + i];
        }
        let mut x = vec![0.0_f32; n];
        for first in (0..n).step_by(LANES).rev() {
            let end = n.min(first + LANES);
            for i in first..end {
                let mut lane = [0.0_f32; LANES];
                for j in end..n {
                    lane[j % LANES] = w[i * pitch + j].mul_add(x[j], lane[j % LANES]);
                }
                for half in [8, 4, 2, 1] {
                    for l in 0..half {
                        lane[l] += lane[l + half];
                    }
                }
                x[i] = (w[i * pitch + n] - lane[0]) * inverse[i];
            }
            for j in (first..end).rev() {
                for i in first..j {
                    x[i] = (-(w[i * pitch + j] * inverse[i])).mul_add(x[j], x[i]);
                }
            }
        }
        Ok(x)
    }

    fn solved(isa: Isa, n: usize, system: &[f32]) -> Result<Vec<f32>, NotPositiveDefinite> {
        let mut system = system.to_vec();
        let mut scratch = vec![f32::NAN; solve_scratch_len(n)];
        solve(isa, n, &mut system, &mut scratch).map(<[f32]>::to_vec)
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
            let pitch = pitch(n);
            let at = |i: usize, j: usize| f64::from(system[i.min(j) * pitch + i.max(j)]);
            let trace: f64 = (0..n).map(|i| at(i, i)).sum();
            let length = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            for i in 0..n {
                let sum: f64 = (0..n).map(|j| at(i, j) * f64::from(x[j])).sum();
                let residual = (sum - f64::from(system[i * pitch + n])).abs();
                prop_assert!(residual <= 4.0 * n as f64 * 2_f64.powi(-24) * trace * length);
            }
        }
    }

    #[test]
    fn what_is_not_positive_definite_is_refused_at_its_index() {
        for n in [1_usize, 5, 16, 17, 40, 65] {
            for index in [0, n / 2, n - 1] {
                let pitch = pitch(n);
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
        let mut system = vec![0.0; 2 * LANES];
        (system[0], system[1], system[LANES + 1]) = (3.0, 3.0, 3.0);
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
