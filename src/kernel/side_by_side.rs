//! Small systems, sixteen at a time: each lane solves one of them.
//!
//! Where a single small system is solved, every pivot waits for the one before it and most lanes idle. Here the entries of
//! sixteen systems lie side by side, and all that is done to one is done to all. The order of operations on each is that of
//! [`solve`](super::solve()), so that a system has the same solution, to the bit, in whichever company it is solved.
//!
//! The cost is `n^3 / 3` flop a system, and a transposition of the triangle.

use super::cholesky::{LEAST_PIVOT, NotPositiveDefinite, solve, solve_scratch_len};
use super::vector::{LANES, Vector, lanes};
use super::{Isa, Kernel, NormalEquations};

/// Systems that are solved side by side.
pub const SYSTEMS: usize = LANES;

/// Beyond so many unknowns, systems are solved one after another: sixteen would outgrow the second cache.
pub const SMALL: usize = 80;

/// Rows that are finished together: what is read of those above is used for each of them.
const ROWS: usize = 4;

impl NormalEquations {
    /// Floats of sixteen systems that are [set aside](NormalEquations::set_aside) one after another, and of a vector behind
    /// them.
    pub fn sixteen_len(self) -> usize {
        SYSTEMS * self.triangle_len() + LANES
    }

    /// Floats of scratch that [`solve_sixteen`] needs. Its contents need not be kept.
    pub fn sixteen_scratch_len(self) -> usize {
        let n = self.size();
        // The triangles, some columns of U, reciprocal pivots, and the solution by unknown and by system.
        let vectors = self.triangle_len().next_multiple_of(LANES) + (ROWS + 1) * n;
        (vectors + 2 * n.next_multiple_of(LANES)) * LANES
    }
}

/// Solves sixteen systems that are [set aside](NormalEquations::set_aside) one after another, each as
/// [`solve`](super::solve()) does. Returns the solutions, one after another, each padded to a multiple of [`LANES`]; they lie
/// in `scratch`.
///
/// # Errors
/// The first system that is not positive definite, and as [`solve`](super::solve()).
///
/// # Panics
/// If `systems` or `scratch` is too short.
pub fn solve_sixteen<'s>(
    isa: Isa,
    layout: NormalEquations,
    systems: &[f32],
    scratch: &'s mut [f32],
) -> Result<&'s [f32], (usize, NotPositiveDefinite)> {
    let n = layout.size();
    let padded = n.next_multiple_of(LANES);
    let each = layout.triangle_len();
    let systems = &systems[..layout.sixteen_len()];
    let room = scratch[..layout.sixteen_scratch_len()].as_chunks_mut().0;
    let (solutions, room) = room.split_at_mut(padded);
    let (unknowns, room) = room.split_at_mut(padded);
    let (inverses, room) = room.split_at_mut(n);
    let (units, triangle) = room.split_at_mut(ROWS * n);
    let solved = isa.run(Sixteen {
        n,
        each,
        systems,
        triangle,
        units,
        inverses,
        unknowns,
        solutions,
    });
    if solved {
        return Ok(solutions.as_flattened());
    }
    // Which one it was, and where, is found by solving one after another.
    let mut sums = vec![0.0; layout.sums_len()];
    let mut alone = vec![0.0; solve_scratch_len(n)];
    for (number, system) in systems.chunks_exact(each).take(SYSTEMS).enumerate() {
        layout.take_up(system, &mut sums);
        solve(isa, n, &mut sums, &mut alone).map_err(|e| (number, e))?;
    }
    unreachable!("a system that is refused in company is refused alone")
}

struct Sixteen<'a> {
    n: usize,
    /// Floats from one system to the next.
    each: usize,
    systems: &'a [f32],
    /// Rows of the upper triangle, right-hand side included: a vector for each entry, turned from A into W; and padding.
    triangle: &'a mut [[f32; LANES]],
    /// `U[p][i .. i + R]` for the R rows from i on that are being worked on, and all p above each.
    units: &'a mut [[f32; LANES]],
    /// `1 / D`
    inverses: &'a mut [[f32; LANES]],
    /// By unknown, a lane for each system.
    unknowns: &'a mut [[f32; LANES]],
    /// By system.
    solutions: &'a mut [[f32; LANES]],
}

impl Kernel for Sixteen<'_> {
    /// Whether all were positive definite.
    type Output = bool;

    #[inline(always)]
    fn run<V: Vector>(mut self, v: V) -> bool {
        self.take(v);
        let mut i = 0;
        while i + ROWS <= self.n {
            if !self.rows::<V, ROWS>(v, i) {
                return false;
            }
            i += ROWS;
        }
        while i < self.n {
            if !self.rows::<V, 1>(v, i) {
                return false;
            }
            i += 1;
        }
        self.substitute_back(v);
        self.put(v);
        true
    }
}

impl Sixteen<'_> {
    /// Where entry j of row i lies, for j from i to n.
    #[inline(always)]
    fn at(&self, i: usize, j: usize) -> usize {
        i * (2 * self.n + 1 - i) / 2 + j
    }

    /// Lays the systems side by side.
    #[inline(always)]
    fn take<V: Vector>(&mut self, v: V) {
        for (number, entries) in self.triangle.as_chunks_mut().0.iter_mut().enumerate() {
            let mut square = [v.splat(0.0); LANES];
            for s in 0..SYSTEMS {
                square[s] = v.load(lanes(self.systems, s * self.each + number * LANES));
            }
            let square = v.transpose(square);
            let entries: &mut [[f32; LANES]; LANES] = entries;
            for l in 0..LANES {
                v.store(square[l], &mut entries[l]);
            }
        }
    }

    /// Finishes rows `i .. i + R`: all rows above are final. False if a pivot is refused.
    #[inline(always)]
    fn rows<V: Vector, const R: usize>(&mut self, v: V, i: usize) -> bool {
        for p in 0..i {
            let inverse = v.load(&self.inverses[p]);
            let above: &[[f32; LANES]; R] = block(self.triangle, self.at(p, i));
            for r in 0..R {
                v.store(
                    v.mul(v.load(&above[r]), inverse),
                    &mut self.units[p * R + r],
                );
            }
        }
        if !self.diagonal::<V, R>(v, i) {
            return false;
        }
        let mut j = i + R;
        while V::REGISTERS >= 32 && j + 6 <= self.n + 1 {
            self.tile::<V, R, 6>(v, i, j);
            j += 6;
        }
        while j + 2 <= self.n + 1 {
            self.tile::<V, R, 2>(v, i, j);
            j += 2;
        }
        if j <= self.n {
            self.tile::<V, R, 1>(v, i, j);
        }
        true
    }

    /// Factorises the square on the diagonal of rows `i .. i + R`. False if a pivot is refused.
    #[inline(always)]
    fn diagonal<V: Vector, const R: usize>(&mut self, v: V, i: usize) -> bool {
        let mut acc = [[v.splat(0.0); R]; R];
        let mut least = [v.splat(0.0); R];
        for r in 0..R {
            for c in r..R {
                acc[r][c] = v.load(&self.triangle[self.at(i + r, i + c)]);
            }
            least[r] = v.mul(v.splat(LEAST_PIVOT), acc[r][r]);
        }
        for p in 0..i {
            let units: &[[f32; LANES]; R] = block(self.units, p * R);
            let above: &[[f32; LANES]; R] = block(self.triangle, self.at(p, i));
            for r in 0..R {
                let unit = v.load(&units[r]);
                for c in r..R {
                    acc[r][c] = v.neg_mul_add(unit, v.load(&above[c]), acc[r][c]);
                }
            }
        }
        for p in 0..R {
            let pivot = acc[p][p];
            // Those at the least are refused as well, and NaN is at least nothing.
            if v.at_least(pivot, least[p]) != u16::MAX || v.at_least(least[p], pivot) != 0 {
                return false;
            }
            let inverse = v.div(v.splat(1.0), pivot);
            v.store(inverse, &mut self.inverses[i + p]);
            for r in p + 1..R {
                let unit = v.mul(acc[p][r], inverse);
                v.store(unit, &mut self.units[(i + p) * R + r]);
                for c in r..R {
                    acc[r][c] = v.neg_mul_add(unit, acc[p][c], acc[r][c]);
                }
            }
        }
        for r in 0..R {
            for c in r..R {
                let at = self.at(i + r, i + c);
                v.store(acc[r][c], &mut self.triangle[at]);
            }
        }
        true
    }

    /// Finishes entries `j .. j + C` of rows `i .. i + R`, which are right of the rows' square on the diagonal.
    #[inline(always)]
    fn tile<V: Vector, const R: usize, const C: usize>(&mut self, v: V, i: usize, j: usize) {
        let mut acc = [[v.splat(0.0); C]; R];
        for r in 0..R {
            for c in 0..C {
                acc[r][c] = v.load(&self.triangle[self.at(i + r, j + c)]);
            }
        }
        for p in 0..i {
            let units: &[[f32; LANES]; R] = block(self.units, p * R);
            let above: &[[f32; LANES]; C] = block(self.triangle, self.at(p, j));
            for c in 0..C {
                let above = v.load(&above[c]);
                for r in 0..R {
                    acc[r][c] = v.neg_mul_add(v.load(&units[r]), above, acc[r][c]);
                }
            }
        }
        for p in 0..R {
            let units: &[[f32; LANES]; R] = block(self.units, (i + p) * R);
            for r in p + 1..R {
                let unit = v.load(&units[r]);
                for c in 0..C {
                    acc[r][c] = v.neg_mul_add(unit, acc[p][c], acc[r][c]);
                }
            }
        }
        for r in 0..R {
            for c in 0..C {
                let at = self.at(i + r, j + c);
                v.store(acc[r][c], &mut self.triangle[at]);
            }
        }
    }

    /// Finds the unknowns, from the last sixteen to the first.
    #[inline(always)]
    fn substitute_back<V: Vector>(&mut self, v: V) {
        let n = self.n;
        for j in (0..n).step_by(LANES).rev() {
            let end = n.min(j + LANES);
            for i in j..end {
                let rest = v.neg_mul_add(
                    v.splat(1.0),
                    self.later(v, i, j + LANES),
                    v.load(&self.triangle[self.at(i, n)]),
                );
                v.store(
                    v.mul(rest, v.load(&self.inverses[i])),
                    &mut self.unknowns[i],
                );
            }
            for p in (j + 1..end).rev() {
                let x = v.load(&self.unknowns[p]);
                for i in j..end {
                    // Also what is not below p, as `solve` does: a zero may change its sign by that.
                    let mut unit = v.splat(0.0);
                    if i < p {
                        unit = v.mul(
                            v.load(&self.triangle[self.at(i, p)]),
                            v.load(&self.inverses[i]),
                        );
                    }
                    let rest = v.neg_mul_add(x, unit, v.load(&self.unknowns[i]));
                    v.store(rest, &mut self.unknowns[i]);
                }
            }
        }
    }

    /// What unknowns from `first` on, a multiple of sixteen, contribute to equation i: sixteen sums, folded by halves.
    #[inline(always)]
    fn later<V: Vector>(&self, v: V, i: usize, first: usize) -> V::Lanes {
        let n = self.n;
        let mut sums = [v.splat(0.0); LANES];
        for k in (first..n).step_by(LANES) {
            let most = LANES.min(n - k);
            let row = &self.triangle[self.at(i, k)..][..most];
            let x = &self.unknowns[k..][..most];
            for l in 0..LANES {
                if l < most {
                    sums[l] = v.mul_add(v.load(&row[l]), v.load(&x[l]), sums[l]);
                }
            }
        }
        for half in [8, 4, 2, 1] {
            for l in 0..half {
                sums[l] = v.add(sums[l], sums[l + half]);
            }
        }
        sums[0]
    }

    /// Lays the solutions one after another.
    #[inline(always)]
    fn put<V: Vector>(&mut self, v: V) {
        let n = self.n;
        let vectors = n.div_ceil(LANES);
        for c in 0..vectors {
            let mut square = [v.splat(0.0); LANES];
            for l in 0..LANES {
                if c * LANES + l < n {
                    square[l] = v.load(&self.unknowns[c * LANES + l]);
                }
            }
            let square = v.transpose(square);
            for s in 0..SYSTEMS {
                v.store(square[s], &mut self.solutions[s * vectors + c]);
            }
        }
    }
}

/// The `N` vectors from `at` on.
#[inline(always)]
fn block<const N: usize>(vectors: &[[f32; LANES]], at: usize) -> &[[f32; LANES]; N] {
    vectors[at..].first_chunk().expect("N vectors")
}

#[cfg(test)]
mod tests {
    use super::super::Segment;
    use super::super::tests::{bits, noise, noise_cols, noise_rows};
    use super::*;
    use proptest::prelude::*;

    /// Sixteen systems of so many ratings each and a few more, with a ridge.
    fn systems(layout: NormalEquations, rank: usize, ratings: usize, seed: u64) -> Vec<Vec<f32>> {
        let flat = noise_rows(seed, 50, rank);
        let mut panel = vec![0.0; layout.panel_len()];
        let of = |number: usize| {
            let mut sums = vec![0.0; layout.sums_len()];
            let seed = seed ^ (number as u64 + 1) << 8;
            let segment = Segment {
                cols: &noise_cols(seed, ratings + number, 50),
                targets: &noise(seed ^ 1, ratings + number),
                weights: None,
            };
            layout.accumulate(Isa::PORTABLE, &flat, segment, &mut sums, &mut panel);
            for i in 0..layout.size() {
                sums[layout.diagonal(i)] += 0.5;
            }
            sums
        };
        (0..SYSTEMS).map(of).collect()
    }

    fn set_aside(layout: NormalEquations, systems: &[Vec<f32>]) -> Vec<f32> {
        let mut aside = vec![f32::NAN; layout.sixteen_len()];
        let rooms = aside.chunks_exact_mut(layout.triangle_len());
        for (system, room) in systems.iter().zip(rooms) {
            layout.set_aside(system, room);
        }
        aside
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn company_changes_no_bit(rank in 1_usize..=SMALL, intercept: bool, ratings in 0_usize..90, seed: u64) {
            let layout = NormalEquations::new(rank, intercept);
            let n = layout.size();
            let systems = systems(layout, rank, ratings, seed);
            let aside = set_aside(layout, &systems);
            for isa in Isa::available() {
                let mut alone = vec![f32::NAN; solve_scratch_len(n)];
                let mut scratch = vec![f32::NAN; layout.sixteen_scratch_len()];
                let solutions = solve_sixteen(isa, layout, &aside, &mut scratch).unwrap();
                let solutions = solutions.chunks_exact(n.next_multiple_of(LANES));
                for (system, solution) in systems.iter().zip(solutions) {
                    let expected = solve(isa, n, &mut system.clone(), &mut alone).unwrap();
                    prop_assert_eq!(bits(&solution[..n]), bits(expected), "{:?}", isa);
                }
            }
        }

        #[test]
        fn the_first_that_is_refused_is_named(which in 0..SYSTEMS, unknown in 0_usize..20, seed: u64) {
            let layout = NormalEquations::new(20, false);
            let mut systems = systems(layout, 20, 60, seed);
            for system in &mut systems[which..] {
                system[layout.diagonal(unknown)] = -1.0;
            }
            let aside = set_aside(layout, &systems);
            for isa in Isa::available() {
                let mut scratch = vec![0.0; layout.sixteen_scratch_len()];
                let refused = solve_sixteen(isa, layout, &aside, &mut scratch).unwrap_err();
                prop_assert_eq!(refused.0, which);
                prop_assert!(refused.1.index <= unknown);
            }
        }
    }
}
