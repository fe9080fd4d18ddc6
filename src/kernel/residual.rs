//! Residuals of a row's ratings, and the sum of the other side's rows scaled by them: the gradient of squares.
//!
//! Both want the same rows, sixteen of which stay in the first cache from the one to the other.
//! Order of sums: that of `dot.rs`, for the dot products and for the sum of rows.

use super::dot::products;
use super::rows::{Long, Rows, Short};
use super::vector::{LANES, Vector};
use super::{Isa, Kernel};

/// Replaces the targets by the residuals `<own, row> - target`, where `own` is one padded row and the others are `cols` of
/// `flat`, and adds `scale` times the residual times the row to `sum`, one padded row.
///
/// # Panics
/// If `own` is no multiple of [`LANES`] long, `sum` is not as long as `own`, there is not one target for each column, or a
/// column lies outside `flat`.
pub fn add_residual_rows(
    isa: Isa,
    own: &[f32],
    flat: &[f32],
    cols: &[u32],
    scale: f32,
    targets: &mut [f32],
    sum: &mut [f32],
) {
    assert_eq!(own.len() % LANES, 0, "a row that is not padded");
    assert_eq!(own.len(), sum.len(), "a sum of another length");
    assert_eq!(cols.len(), targets.len(), "one target for each column");
    isa.run(ResidualRows {
        own,
        flat,
        cols,
        scale,
        targets,
        sum,
    });
}

struct ResidualRows<'a> {
    own: &'a [f32],
    flat: &'a [f32],
    cols: &'a [u32],
    scale: f32,
    targets: &'a mut [f32],
    sum: &'a mut [f32],
}

impl Kernel for ResidualRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, v: V) {
        let ResidualRows {
            own,
            flat,
            cols,
            scale,
            targets,
            sum,
        } = self;
        let targets = Targets {
            targets,
            cols,
            scale,
        };
        let (own, sum) = (own.as_chunks().0, sum.as_chunks_mut().0);
        match own.len() {
            1 => targets.run(v, own, Short::<1>::new(flat), sum),
            2 => targets.run(v, own, Short::<2>::new(flat), sum),
            4 => targets.run(v, own, Short::<4>::new(flat), sum),
            vectors => targets.run(v, own, Long::new(flat, vectors), sum),
        }
    }
}

struct Targets<'a> {
    targets: &'a mut [f32],
    cols: &'a [u32],
    scale: f32,
}

impl Targets<'_> {
    #[inline(always)]
    fn run<'a, V: Vector, R: Rows<'a>>(
        self,
        v: V,
        own: &[[f32; LANES]],
        others: R,
        sum: &mut [[f32; LANES]],
    ) {
        let (own, sum) = (R::alone(own).as_ref(), R::alone_mut(sum).as_mut());
        let (blocks, last) = self.targets.as_chunks_mut::<LANES>();
        let (cols, last_cols) = self.cols.as_chunks::<LANES>();
        for (b, (block, cols_of)) in blocks.iter_mut().zip(cols).enumerate() {
            if let Some(next) = cols.get(b + 1) {
                for &col in next {
                    others.prefetch(v, col);
                }
            }
            let rows = rows(others, cols_of);
            let mut lanes = [v.splat(0.0); LANES];
            for j in 0..LANES {
                lanes[j] = products(v, own, rows[j].as_ref());
            }
            let residuals = v.neg_mul_add(v.splat(1.0), v.load(block), v.sums(lanes));
            v.store(residuals, block);
            let mut scales = [0.0; LANES];
            v.store(v.mul(v.splat(self.scale), residuals), &mut scales);
            add(v, &scales, &rows, sum);
        }
        let mut lanes = [v.splat(0.0); LANES];
        for (lanes, &col) in lanes.iter_mut().zip(last_cols) {
            *lanes = products(v, own, others.row(col).as_ref());
        }
        let mut dots = [0.0; LANES];
        v.store(v.sums(lanes), &mut dots);
        for ((residual, dot), &col) in last.iter_mut().zip(dots).zip(last_cols) {
            *residual = dot - *residual;
            add(v, &[self.scale * *residual], &[others.row(col)], sum);
        }
    }
}

/// The rows of these columns.
#[inline(always)]
fn rows<'a, R: Rows<'a>, const N: usize>(others: R, cols: &[u32; N]) -> [&'a R::Row; N] {
    let mut rows = [others.row(cols[0]); N];
    for j in 1..N {
        rows[j] = others.row(cols[j]);
    }
    rows
}

/// Adds rows, scaled, one by one.
#[inline(always)]
fn add<V: Vector, R: AsRef<[[f32; LANES]]> + ?Sized, const N: usize>(
    v: V,
    scales: &[f32; N],
    rows: &[&R; N],
    sum: &mut [[f32; LANES]],
) {
    for (c, sum) in sum.iter_mut().enumerate() {
        let mut acc = v.load(sum);
        for j in 0..N {
            acc = v.mul_add(v.splat(scales[j]), v.load(&rows[j].as_ref()[c]), acc);
        }
        v.store(acc, sum);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bits, noise_cols, noise_rows};
    use super::super::{add_scaled_rows, dot_rows};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_is_dot_products_and_then_a_sum_of_rows(
            rank in 1_usize..200, len in 0_usize..70, seed: u64, scale in -2.0_f32..2.0,
        ) {
            let flat = noise_rows(seed, 50, rank);
            let own = noise_rows(seed ^ 1, 1, rank);
            let start = noise_rows(seed ^ 4, 1, rank);
            let cols = noise_cols(seed ^ 2, len, 50);
            let targets = &noise_rows(seed ^ 3, 1, len.max(1))[..len];
            let portable = Isa::available().next().unwrap();
            let mut residuals = vec![f32::NAN; len];
            dot_rows(portable, &own, &flat, &cols, &mut residuals);
            residuals.iter_mut().zip(targets).for_each(|(x, target)| *x -= target);
            let scales: Vec<f32> = residuals.iter().map(|x| scale * x).collect();
            let mut sum = start.clone();
            add_scaled_rows(portable, &scales, &flat, &cols, &mut sum);
            for isa in Isa::available() {
                let (mut found, mut found_sum) = (targets.to_vec(), start.clone());
                add_residual_rows(isa, &own, &flat, &cols, scale, &mut found, &mut found_sum);
                prop_assert_eq!(bits(&found), bits(&residuals), "{:?}", isa);
                prop_assert_eq!(bits(&found_sum), bits(&sum), "{:?}", isa);
            }
        }
    }
}
