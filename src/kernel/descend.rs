//! A step of one row along its gradient, as far as its gradients so far allow.
//!
//! Order of sums. Products and squares are summed as [`dot_rows`](super::dot_rows) does; every factor has a chain of its own.

use super::vector::{LANES, Vector, lanes, lanes_mut};
use super::{Isa, Kernel};

/// How a row steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Descent {
    /// The learning rate.
    pub rate: f32,
    /// What the row itself is multiplied by in its gradient.
    pub ridge: f32,
    /// The number of factors, padding left out.
    pub rank: usize,
    /// Whether the row stays on the unit sphere: only the part of the gradient along the sphere counts, and the row is scaled
    /// back to length 1.
    pub unit: bool,
}

/// Moves a padded row against `gradient`, with the rate divided by the root of its squared gradients so far, this one included
/// (AdaGrad of Duchi, Hazan, Singer, JMLR 2011, with one sum a row: for each step the mean over the rank). Adds to `squares`.
/// `gradient` is left as scratch. Nothing moves while all gradients are zero.
///
/// # Panics
/// If the lengths differ or are no multiple of [`LANES`].
pub fn descend(
    isa: Isa,
    row: &mut [f32],
    gradient: &mut [f32],
    squares: &mut f32,
    descent: Descent,
) {
    assert_eq!(row.len(), gradient.len(), "rows of different lengths");
    assert_eq!(row.len() % LANES, 0, "a row that is not padded");
    isa.run(Descend {
        row,
        gradient,
        squares,
        descent,
    });
}

struct Descend<'a> {
    row: &'a mut [f32],
    gradient: &'a mut [f32],
    squares: &'a mut f32,
    descent: Descent,
}

impl Kernel for Descend<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self, v: V) {
        let Descend {
            row,
            gradient,
            squares,
            descent,
        } = self;
        let every = (0..row.len()).step_by(LANES);
        // On the sphere the gradient loses its part along the row, elsewhere it gains a part.
        let along = match descent.unit {
            true => {
                let mut acc = v.splat(0.0);
                for k in every.clone() {
                    acc = v.mul_add(v.load(lanes(row, k)), v.load(lanes(gradient, k)), acc);
                }
                -v.sum(acc)
            }
            false => descent.ridge,
        };
        let along = v.splat(along);
        let mut acc = v.splat(0.0);
        for k in every.clone() {
            let g = v.mul_add(along, v.load(lanes(row, k)), v.load(lanes(gradient, k)));
            acc = v.mul_add(g, g, acc);
            v.store(g, lanes_mut(gradient, k));
        }
        *squares += v.sum(acc) / descent.rank as f32;
        if *squares == 0.0 {
            return;
        }
        let rate = v.splat(descent.rate / squares.sqrt());
        let mut acc = v.splat(0.0);
        for k in every.clone() {
            let x = v.neg_mul_add(rate, v.load(lanes(gradient, k)), v.load(lanes(row, k)));
            acc = v.mul_add(x, x, acc);
            v.store(x, lanes_mut(row, k));
        }
        if descent.unit {
            let scale = v.splat(1.0 / v.sum(acc).sqrt());
            for k in every {
                v.store(v.mul(scale, v.load(lanes(row, k))), lanes_mut(row, k));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bits, noise_rows};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn steps_are_those_of_a_plain_program(rank in 1_usize..100, seed: u64, unit: bool) {
            let descent = Descent { rate: 0.1, ridge: 0.3, rank, unit };
            let (row, gradient) = (noise_rows(seed, 1, rank), noise_rows(seed ^ 1, 1, rank));
            let run = |isa| {
                let (mut x, mut g, mut squares) = (row.clone(), gradient.clone(), 0.25);
                descend(isa, &mut x, &mut g, &mut squares, descent);
                (x, squares)
            };
            let (x, squares) = run(Isa::PORTABLE);
            for isa in Isa::available() {
                let other = run(isa);
                prop_assert_eq!(bits(&x), bits(&other.0), "{:?}", isa);
                prop_assert_eq!(squares.to_bits(), other.1.to_bits(), "{:?}", isa);
            }

            let exact = |x: &[f32]| -> Vec<f64> { x.iter().map(|&x| x.into()).collect() };
            let (mut twin, g) = (exact(&row), exact(&gradient));
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
            let along = if unit { -dot(&twin, &g) } else { f64::from(descent.ridge) };
            let g: Vec<f64> = g.iter().zip(&twin).map(|(g, x)| g + along * x).collect();
            let sum = 0.25 + dot(&g, &g) / rank as f64;
            for (x, g) in twin.iter_mut().zip(&g) {
                *x -= f64::from(descent.rate) / sum.sqrt() * g;
            }
            let length = if unit { dot(&twin, &twin).sqrt() } else { 1.0 };
            prop_assert!((f64::from(squares) - sum).abs() <= 1e-5 * sum);
            for (&a, b) in x.iter().zip(&twin) {
                prop_assert!((f64::from(a) - b / length).abs() <= 1e-5, "{a} {}", b / length);
            }
        }
    }

    #[test]
    fn a_row_without_a_gradient_stays() {
        let (mut x, mut g, mut squares) = ([0.5; 16], [0.0; 16], 0.0);
        let descent = Descent {
            rate: 0.1,
            ridge: 0.0,
            rank: 16,
            unit: false,
        };
        descend(Isa::best(), &mut x, &mut g, &mut squares, descent);
        assert_eq!((x, squares), ([0.5; 16], 0.0));
    }
}
