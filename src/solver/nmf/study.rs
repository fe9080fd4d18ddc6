//! How a factorization by multiplicative updates converges, one line for each iteration.
//!
//! With U the factors of users before an iteration, V and V' those of items before and after it, `G = U^T U`, `B = U^T M` and
//! `D = V - V'`, every quantity is a sum over items of products of vectors of the rank's length:
//!
//! ```text
//! objective g(V)         1/2 |M - U V|^2 = 1/2 (|M|^2 - 2 <B, V> + <G V, V>)
//! descent term           1/2 |U D|^2 = 1/2 <G D, D>
//! theta                  |U D|^2 / |D|^2
//! inner product          <gradient of g at V', V - V'> = <G V' - B, D>
//! the same, by pairs     1/2 sum over pairs of factors z, j of G_zj (sqrt(V_z / V_j) D_j - sqrt(V_j / V_z) D_z)^2
//!                        = <D D / V, G V> - <G D, D>
//! ```
//!
//! so that one pass over the ratings is enough and no product U V is ever formed. Two identities are checked in every
//! line: g(V) - g(V') is the inner product plus the descent term, for any V', and the two inner products agree where V' is the
//! multiplicative update of V.

use super::super::alternating::sum_rows;
use super::super::gram::{gram, inner};
use super::super::{Options, Parameters};
use super::eigen::extreme_eigenvalues;
use super::{Divergence, FLOOR, Missing, Nmf, Rule};
use crate::error::{Error, ErrorKind, Result};
use crate::matrix::{Factors, Ratings, Side};

/// What one iteration did.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct StudyLine {
    /// Which iteration, from 0.
    pub iteration: usize,
    /// Half the squared distance of the product from the ratings before the iteration, all cells counted.
    pub objective: f64,
    /// Half the squared length of what the items' step changes in the product.
    pub descent_v: f64,
    /// The squared length of what the items' step changes in the product over that of the step; of the last step that moved
    /// anything, if this one did not.
    pub theta_v: Option<f64>,
    /// The same for the users' step.
    pub theta_u: Option<f64>,
    /// By how much the items' step lowers the objective.
    pub objective_drop_v: f64,
    /// The gradient after the items' step, times the step back.
    pub inner_product: f64,
    /// The same by pairs of factors.
    pub inner_product_pairs: f64,
    /// The smallest singular value of the users' Gram matrix before the iteration.
    pub singular_users_min: f64,
    /// The largest.
    pub singular_users_max: f64,
    /// The smallest singular value of the items' Gram matrix before the iteration.
    pub singular_items_min: f64,
    /// The largest.
    pub singular_items_max: f64,
}

/// The lines of a study so far.
#[derive(Debug, Clone, Default)]
pub struct Study {
    lines: Vec<StudyLine>,
}

impl Study {
    /// A study of training with these options.
    ///
    /// # Errors
    /// If they are not those of multiplicative updates for squares on all cells, which the quantities are about.
    pub fn new(options: &Options) -> Result<Study> {
        let studied = options.solver == super::METHOD.name && {
            let method = Nmf::new(options)?;
            method.rule == Rule::Multiplicative
                && method.missing == Missing::Zero
                && method.divergence == Divergence::Squared
        };
        match studied {
            true => Ok(Study::default()),
            false => Err(Error::new(
                ErrorKind::BadOption,
                "a study is about multiplicative updates for squares on all cells",
            )
            .remedy(
                "give --solver nmf, without --rule, --loss and --missing, or leave out --study",
            )),
        }
    }

    /// The lines so far.
    pub fn lines(&self) -> &[StudyLine] {
        &self.lines
    }

    /// Adds the line of the iteration that led from `before` to `after`.
    ///
    /// # Errors
    /// If the ratings cannot be read, or one of the two identities does not hold.
    pub fn observe(
        &mut self,
        ratings: &dyn Ratings,
        before: &Parameters,
        after: &Parameters,
    ) -> Result<()> {
        let of_users = gram(&before.users);
        let of_items = ItemSums::gather(ratings, before, &after.items, &of_users)?;
        let of_new_items = gram(&after.items);
        let (user_change, user_step) = step_lengths(&before.users, &after.users, &of_new_items);
        let rank = before.users.rank();
        let (singular_users_min, singular_users_max) = extreme_eigenvalues(of_users, rank);
        let (singular_items_min, singular_items_max) =
            extreme_eigenvalues(gram(&before.items), rank);
        let last = self.lines.last();
        let theta = |change: f64, step: f64, last: Option<f64>| match step > 0.0 {
            true => Some(change / step),
            false => last,
        };
        let line = StudyLine {
            iteration: self.lines.len(),
            objective: of_items.objective(),
            descent_v: 0.5 * of_items.change,
            theta_v: theta(of_items.change, of_items.step, last.and_then(|l| l.theta_v)),
            theta_u: theta(user_change, user_step, last.and_then(|l| l.theta_u)),
            objective_drop_v: of_items.objective() - of_items.new_objective(),
            inner_product: of_items.inner_product,
            inner_product_pairs: of_items.by_pairs,
            singular_users_min,
            singular_users_max,
            singular_items_min,
            singular_items_max,
        };
        of_items.check(&line)?;
        self.lines.push(line);
        Ok(())
    }
}

/// `|E W|^2` and `|E|^2` for the change E from one matrix of rows to another, where `gram` is that of the other side's W.
fn step_lengths(before: &Factors, after: &Factors, gram: &[f64]) -> (f64, f64) {
    let mut change = before.clone();
    change.add_scaled(-1.0, after);
    let of_change = super::super::gram::gram(&change);
    let rank = change.rank();
    let step = (0..rank).map(|i| of_change[i * rank + i]).sum();
    (inner(&of_change, gram), step)
}

/// Sums over all items.
struct ItemSums {
    /// `|M|^2`
    ratings: f64,
    /// `<B, V>`
    cross: f64,
    /// `<G V, V>`
    product: f64,
    /// `<B, V'>`
    new_cross: f64,
    /// `<G V', V'>`
    new_product: f64,
    /// `<G D, D>`
    change: f64,
    /// `<D, D>`
    step: f64,
    inner_product: f64,
    by_pairs: f64,
    /// How much the two inner products differ if every new factor is off by itself.
    if_off: f64,
    /// How much they may differ because factors stop at the floor.
    at_floor: f64,
}

impl ItemSums {
    fn gather(
        ratings: &dyn Ratings,
        before: &Parameters,
        new_items: &Factors,
        gram: &[f64],
    ) -> Result<ItemSums> {
        let rank = new_items.rank();
        let sums = sum_rows(ratings, Side::Items, |item, row, _| {
            let mut b = vec![0.0; rank];
            let mut squares = 0.0;
            for (&user, &rating) in row.cols.iter().zip(row.values) {
                let rating = f64::from(rating);
                squares += rating * rating;
                for (b, &u) in b.iter_mut().zip(before.users.row(user as usize)) {
                    *b += rating * f64::from(u);
                }
            }
            let wide = |x: &[f32]| -> Vec<f64> { x.iter().map(|&x| x.into()).collect() };
            let (v, new) = (wide(before.items.row(item)), wide(new_items.row(item)));
            let d: Vec<f64> = v.iter().zip(&new).map(|(v, new)| v - new).collect();
            let times = |x: &[f64]| -> Vec<f64> {
                gram.chunks_exact(rank).map(|row| inner(row, x)).collect()
            };
            let (gv, gnew, gd) = (times(&v), times(&new), times(&d));
            let change = inner(&gd, &d);
            let (mut inner_product, mut by_pairs, mut if_off) = (0.0, -change, 0.0);
            for k in 0..rank {
                inner_product += (gnew[k] - b[k]) * d[k];
                if_off += b[k] * d[k].abs();
                // A factor that starts at zero is lifted to the floor, and takes no part.
                if v[k] > 0.0 {
                    by_pairs += d[k] * d[k] * gv[k] / v[k];
                }
            }
            [
                squares,
                inner(&b, &v),
                inner(&gv, &v),
                inner(&b, &new),
                inner(&gnew, &new),
                change,
                inner(&d, &d),
                inner_product,
                by_pairs,
                if_off,
                f64::from(FLOOR) * gv.iter().chain(&b).sum::<f64>(),
            ]
        })?;
        let [
            ratings,
            cross,
            product,
            new_cross,
            new_product,
            change,
            step,
            inner_product,
            by_pairs,
            if_off,
            at_floor,
        ] = sums;
        Ok(ItemSums {
            ratings,
            cross,
            product,
            new_cross,
            new_product,
            change,
            step,
            inner_product,
            by_pairs,
            if_off,
            at_floor,
        })
    }

    fn objective(&self) -> f64 {
        0.5 * (self.ratings - 2.0 * self.cross + self.product)
    }

    fn new_objective(&self) -> f64 {
        0.5 * (self.ratings - 2.0 * self.new_cross + self.new_product)
    }

    /// The two identities, to the rounding of f64 and of the f32 in which factors and their updates are computed.
    fn check(&self, line: &StudyLine) -> Result<()> {
        let failed = |what: String| {
            let what = format!(
                "self test of the study in iteration {}: {what}",
                line.iteration
            );
            Err(Error::new(ErrorKind::Diverged, what).remedy("train without --study"))
        };
        let sum = line.inner_product + line.descent_v;
        let terms = self.ratings + self.product + self.new_product;
        let off = (line.objective_drop_v - sum).abs();
        if off.is_nan() || off > 1e-11 * terms {
            return failed(format!(
                "the objective drops by {:.9e}, but inner product and descent term add up to {sum:.9e}",
                line.objective_drop_v
            ));
        }
        let apart = (line.inner_product - line.inner_product_pairs).abs();
        let allowed = 1e-4 * self.if_off + 2.0 * self.at_floor + 1e-11 * terms;
        if apart.is_nan() || apart > allowed {
            return failed(format!(
                "the inner product is {:.9e}, but {:.9e} by pairs",
                line.inner_product, line.inner_product_pairs
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums() -> (ItemSums, StudyLine) {
        let sums = ItemSums {
            ratings: 10.0,
            cross: 9.0,
            product: 9.0,
            new_cross: 9.5,
            new_product: 9.6,
            change: 0.2,
            step: 0.1,
            inner_product: 0.1,
            by_pairs: 0.1,
            if_off: 0.3,
            at_floor: 1e-9,
        };
        let line = StudyLine {
            iteration: 3,
            objective: sums.objective(),
            descent_v: 0.1,
            theta_v: Some(2.0),
            theta_u: None,
            objective_drop_v: sums.objective() - sums.new_objective(),
            inner_product: 0.1,
            inner_product_pairs: 0.1,
            singular_users_min: 1.0,
            singular_users_max: 1.0,
            singular_items_min: 1.0,
            singular_items_max: 1.0,
        };
        (sums, line)
    }

    #[test]
    fn a_broken_identity_is_told_by_its_name() {
        let (sums, line) = sums();
        sums.check(&line).unwrap();
        let said = |line: StudyLine| sums.check(&line).unwrap_err().to_string();
        let off = StudyLine {
            descent_v: 0.1001,
            ..line
        };
        assert!(said(off).contains("iteration 3: the objective drops"));
        let off = StudyLine {
            inner_product_pairs: 0.1001,
            ..line
        };
        assert!(said(off).contains("by pairs"));
        let nan = StudyLine {
            inner_product: f64::NAN,
            ..line
        };
        assert!(sums.check(&nan).is_err());
    }
}
