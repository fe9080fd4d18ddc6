//! Rows of factors brought together from where they lie, and turned.
//!
//! Nothing is added up here, so there is no order of sums.

use super::rows::{Long, Rows, Short};
use super::vector::{LANES, Vector, lanes_mut};
use super::{Isa, Kernel};

/// Copies the rows `cols` of `flat`, each `stride` floats long, to `out`, one after another.
///
/// # Panics
/// If `stride` is no multiple of [`LANES`], `out` is not as long as the rows together, or a column lies outside `flat`.
pub fn copy_rows(isa: Isa, flat: &[f32], stride: usize, cols: &[u32], out: &mut [f32]) {
    assert_eq!(stride % LANES, 0, "rows that are not padded");
    assert_eq!(out.len(), stride * cols.len(), "room for each row");
    isa.run(CopyRows {
        flat,
        vectors: stride / LANES,
        cols,
        out: out.as_chunks_mut().0,
    });
}

struct CopyRows<'a> {
    flat: &'a [f32],
    vectors: usize,
    cols: &'a [u32],
    out: &'a mut [[f32; LANES]],
}

impl Kernel for CopyRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, v: V) {
        let flat = self.flat;
        match self.vectors {
            0 => (),
            1 => self.with_rows(v, Short::<1>::new(flat)),
            2 => self.with_rows(v, Short::<2>::new(flat)),
            4 => self.with_rows(v, Short::<4>::new(flat)),
            vectors => self.with_rows(v, Long::new(flat, vectors)),
        }
    }
}

impl CopyRows<'_> {
    #[inline(always)]
    fn with_rows<'a, V: Vector, R: Rows<'a>>(self, v: V, rows: R) {
        let out = self.out.chunks_exact_mut(self.vectors);
        for (i, (&col, out)) in self.cols.iter().zip(out).enumerate() {
            if let Some(&far) = self.cols.get(i + rows.ahead()) {
                rows.prefetch(v, far);
            }
            let to = R::alone_mut(out).as_mut();
            for (from, to) in rows.row(col).as_ref().iter().zip(to) {
                v.store(v.load(from), to);
            }
        }
    }
}

/// Floats that [`turn_rows`] writes for so many rows.
pub fn turned_len(rows: usize, stride: usize) -> usize {
    rows.next_multiple_of(LANES) * stride
}

/// Turns `rows`, each `stride` floats long and one after another, into as many rows as a row has floats: row j of `out` has
/// number j of each, and is padded with zeros to whole vectors.
///
/// # Panics
/// If `stride` is no multiple of [`LANES`], `rows` is not made of such rows, or `out` has another length than [`turned_len`].
pub fn turn_rows(isa: Isa, rows: &[f32], stride: usize, out: &mut [f32]) {
    assert_eq!(stride % LANES, 0, "rows that are not padded");
    if stride == 0 {
        return;
    }
    assert_eq!(rows.len() % stride, 0, "whole rows");
    let count = rows.len() / stride;
    assert_eq!(
        out.len(),
        turned_len(count, stride),
        "room for all that is turned"
    );
    isa.run(TurnRows {
        rows: rows.as_chunks().0,
        vectors: stride / LANES,
        count,
        out,
    });
}

struct TurnRows<'a> {
    rows: &'a [[f32; LANES]],
    vectors: usize,
    count: usize,
    out: &'a mut [f32],
}

impl Kernel for TurnRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, v: V) {
        let width = self.count.next_multiple_of(LANES);
        for first in (0..self.count).step_by(LANES) {
            for c in 0..self.vectors {
                let mut square = [v.splat(0.0); LANES];
                for r in 0..LANES {
                    if first + r < self.count {
                        square[r] = v.load(&self.rows[(first + r) * self.vectors + c]);
                    }
                }
                let square = v.transpose(square);
                for j in 0..LANES {
                    let at = (c * LANES + j) * width + first;
                    v.store(square[j], lanes_mut(self.out, at));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bits, noise_cols, noise_rows};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_are_copied_and_turned(rank in 1_usize..150, count in 0_usize..70, seed: u64) {
            let stride = rank.next_multiple_of(LANES);
            let flat = noise_rows(seed, 40, rank);
            let cols = noise_cols(seed ^ 1, count, 40);
            for isa in Isa::available() {
                let mut rows = vec![f32::NAN; count * stride];
                copy_rows(isa, &flat, stride, &cols, &mut rows);
                let mut turned = vec![f32::NAN; turned_len(count, stride)];
                turn_rows(isa, &rows, stride, &mut turned);
                let width = count.next_multiple_of(LANES);
                let mut expected = vec![0.0; turned.len()];
                for (i, &col) in cols.iter().enumerate() {
                    let row = &flat[col as usize * stride..][..stride];
                    prop_assert_eq!(bits(&rows[i * stride..][..stride]), bits(row));
                    for (j, &x) in row.iter().enumerate() {
                        expected[j * width + i] = x;
                    }
                }
                prop_assert_eq!(bits(&turned), bits(&expected), "{:?}", isa);
            }
        }
    }
}
