//! What the methods have in common that minimise squares: `1/2 sum (p - r)^2` and the ridge, and no learning rate.

use super::contributions::RowProblem;
use super::row_step::{Cost, Fixed, Own};
use super::{Options, Ridge, sweep};
use crate::error::{Error, ErrorKind, Result};
use crate::loss::{Loss, Squared};
use crate::matrix::Row;

/// The squared loss with a ridge on every row.
pub struct LeastSquares {
    /// The weights of the ridge.
    pub ridge: Ridge,
}

impl LeastSquares {
    /// What the method of this name minimises.
    ///
    /// # Errors
    /// If the options ask for another loss, for a mean, or for a learning rate.
    pub fn of(name: &str, options: &Options) -> Result<LeastSquares> {
        sweep::refuse_steps(name, options)?;
        if options.loss != "squared" {
            return Err(Error::new(
                ErrorKind::BadOption,
                format!("{name} minimises the squared loss, not {:?}", options.loss),
            )
            .remedy("leave out --loss, or use --solver newton or gradient"));
        }
        Ok(LeastSquares {
            ridge: options.ridge(),
        })
    }
}

impl Cost for LeastSquares {
    #[inline(always)]
    fn loss(&self, prediction: f32, target: f32) -> f64 {
        Squared.loss(f64::from(prediction), f64::from(target))
    }

    fn penalty(&self, own: Own<'_>, ratings: usize) -> f64 {
        self.ridge.penalty(own.factors, own.bias, ratings)
    }

    fn problem(&self, row: Row<'_>, fixed: &Fixed<'_>) -> Option<RowProblem> {
        let target = |(&col, &rating): (&u32, &f32)| {
            let bias = fixed.factors.bias(col as usize);
            (1.0, f64::from(fixed.target(rating) - bias))
        };
        let ratings = row.len();
        Some(RowProblem {
            ratings: row.cols.iter().zip(row.values).map(target).collect(),
            cells: 0.0,
            ridge: [
                self.ridge.on_factors(ratings).into(),
                self.ridge.on_bias(ratings).into(),
            ],
        })
    }
}
