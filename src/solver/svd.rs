//! A truncated singular value decomposition of the normalised matrix, by orthogonal iteration.
//!
//! Every rating counts as 1 and is divided by the roots of its user's and its item's number of ratings, so that `R_n =
//! D_u^-1/2 R D_i^-1/2`. Objective: `1/2 |R_n - R_n V V^T|^2` over all cells, for V with as many orthonormal columns as there are
//! factors: its lowest point is the best low-rank approximation (Eckart and Young). An epoch is a step of orthogonal
//! iteration from a random start, `V <- orthonormal columns of R_n^T R_n V` (Halko, Martinsson, Tropp: Finding structure with
//! randomness, SIAM Review 2011), and never raises it.
//!
//! A user's scores are those of an ideal low-pass filter, `R_n V V^T D_i^1/2` (Shen et al.: How powerful is graph convolution for
//! recommendation, CIKM 2021). Users' factors are rows of `D_u^-1/2 R_n V`, which leaves each user's order as it is and makes
//! the factors the mean over the user's items of what an item stands for; items' are those of `D_i^1/2 V`.
//! Cost: 2 n k flop a side, and m k^2 for m items. Reads: by-item and by-user ratings once each, by-user columns once more, and one
//! row of the other side for each rating.

use super::alternating::{half_epoch, sum_rows};
use super::gram;
use super::least_squares::LeastSquares;
use super::orthonormal::orthonormalize;
use super::row_step::{Cost, Fixed, Measure, Own, OwnMut, RowStep};
use super::sums::RowSums;
use super::{Learns, Measured, Method, Missing, Moving, Options, Parameters, Passes, Solver, Tick};
use crate::error::{Error, ErrorKind, Result};
use crate::kernel::{self, LANES};
use crate::matrix::{Factors, Ratings, Row, RowScratch, Shape, Side};

/// The decomposition in the table of solvers.
pub const METHOD: Method = Method {
    name: "svd",
    summary: "implicit feedback: truncated singular value decomposition of the matrix normalised by activity and popularity",
    regularization: 0.0,
    missing: &[Missing::Zero],
    monotone: true,
    any_regularizer: false,
    biases: false,
    factors: true,
    spills: false,
    learns: Learns::Preferences,
    searched: &[],
    suited: |options| Options {
        biases: false,
        positive_at: Some(4.0),
        regularization: None,
        ..options
    },
    build,
};

fn build(options: &Options) -> Result<Box<dyn Solver>> {
    LeastSquares::of("the singular value decomposition", options)?;
    let bad = |what: &str, remedy: &str| {
        Err(Error::new(ErrorKind::BadOption, what).remedy(remedy.to_owned()))
    };
    if options.biases {
        return bad(
            "a singular value decomposition has no biases",
            "give --no-biases",
        );
    }
    if options.normalize {
        return bad(
            "a singular value decomposition counts ratings, whatever they say",
            "leave out --normalize",
        );
    }
    if options.regularization.is_some_and(|ridge| ridge > 0.0) || options.regularization_row > 0.0 {
        return bad(
            "a singular value decomposition has no ridge",
            "leave out --regularization and --regularization-row",
        );
    }
    Ok(Box::new(Svd { rank: options.rank }))
}

struct Svd {
    rank: usize,
}

impl Svd {
    /// One over the number of ratings of each item; zero for those without any.
    fn shares(ratings: &dyn Ratings) -> Result<Vec<f32>> {
        let mut shares = Vec::with_capacity(ratings.shape().items);
        let mut scratch = RowScratch::default();
        for index in 0..ratings.blocks(Side::Items) {
            let block = ratings.block(Side::Items, index)?;
            for i in 0..block.rows() {
                shares.push(match block.row(i, &mut scratch).len() {
                    0 => 0.0,
                    len => 1.0 / len as f32,
                });
            }
            ratings.done_with(Side::Items, index);
        }
        Ok(shares)
    }

    /// The squared length of the normalised matrix.
    fn squares(ratings: &dyn Ratings, shares: &[f32]) -> Result<f64> {
        let sums = sum_rows(ratings, Side::Users, |_, row, _| {
            let items = row
                .cols
                .iter()
                .map(|&item| f64::from(shares[item as usize]));
            RowSums {
                loss: items.sum::<f64>() / row.len().max(1) as f64,
                ..RowSums::default()
            }
        })?;
        Ok(sums.loss)
    }
}

impl Solver for Svd {
    fn check(&self, _options: &Options, _ratings: &dyn Ratings, _start: &Parameters) -> Result<()> {
        Ok(())
    }

    fn epoch(
        &self,
        epoch: usize,
        ratings: &dyn Ratings,
        moving: &mut Moving,
        tick: Tick<'_>,
    ) -> Result<Measured> {
        let backwards = epoch % 2 == 1;
        let shares = Svd::shares(ratings)?;
        let Parameters {
            users,
            items,
            mean,
            std,
            ..
        } = &mut moving.parameters;
        // R_n^T U, for rows of users that are D_u^-1/2 U.
        let step = Projection {
            shares: None,
            rank: self.rank,
        };
        let fixed = Fixed::new(users, *mean, *std);
        let measure = Measure::Nothing;
        half_epoch(
            ratings,
            Side::Items,
            backwards,
            &step,
            items,
            &fixed,
            measure,
            tick,
        )?;
        orthonormalize(items);
        for (item, &share) in shares.iter().enumerate() {
            for x in items.row_mut(item) {
                *x /= share.sqrt().max(f32::MIN_POSITIVE);
            }
        }
        let step = Projection {
            shares: Some(&shares),
            rank: self.rank,
        };
        let fixed = Fixed::new(items, *mean, *std);
        let measure = Measure::All;
        let sums = half_epoch(
            ratings,
            Side::Users,
            backwards,
            &step,
            users,
            &fixed,
            measure,
            tick,
        )?;
        Ok(Measured {
            cost: 0.5 * Svd::squares(ratings, &shares)? + sums.penalty,
            rmse: (sums.squared_error / ratings.shape().ratings as f64).sqrt(),
        })
    }

    /// Before the first step there is no V, and so nothing is approximated.
    fn measure(&self, ratings: &dyn Ratings, _parameters: &Parameters) -> Result<Measured> {
        let squared = sum_rows(ratings, Side::Users, |_, row, _| RowSums {
            squared_error: row.values.iter().map(|&r| f64::from(r).powi(2)).sum(),
            ..RowSums::default()
        })?
        .squared_error;
        Ok(Measured {
            cost: 0.5 * Svd::squares(ratings, &Svd::shares(ratings)?)?,
            rmse: (squared / ratings.shape().ratings as f64).sqrt(),
        })
    }

    /// The projection of a user's row, as in an epoch; how popular items are is known from the training.
    fn fold_in(
        &self,
        ratings: &dyn Ratings,
        trained: Option<&dyn Ratings>,
        items: &Fixed<'_>,
        users: &mut Factors,
    ) -> Result<()> {
        let trained = trained.ok_or_else(|| {
            let what = "a singular value decomposition folds users in by how popular items are";
            Error::new(ErrorKind::BadOption, what)
                .remedy("name the store that the model was trained on, after the model")
        })?;
        let step = Projection {
            shares: Some(&Svd::shares(trained)?),
            rank: self.rank,
        };
        let measure = Measure::Nothing;
        half_epoch(
            ratings,
            Side::Users,
            false,
            &step,
            users,
            items,
            measure,
            &|_| (),
        )?;
        Ok(())
    }

    fn memory(&self, shape: Shape, threads: usize) -> u64 {
        let of_row = self.rank.next_multiple_of(LANES) + 2 * super::alternating::PART;
        (4 * shape.items + 4 * threads * of_row * 4) as u64 + gram::memory(self.rank, threads)
    }

    fn may_centre(&self) -> bool {
        false
    }

    /// How popular items are is counted before, and the squared length of the matrix summed after either side has moved.
    fn passes(&self, _epoch: usize) -> Passes {
        Passes::of(2, 2)
    }

    fn passes_before(&self) -> Passes {
        Passes::of(2, 1)
    }
}

/// Sums of the other side's rows: an item's over the root of its number of ratings, a user's over their number.
struct Projection<'a> {
    /// For users: what each item's row is multiplied by.
    shares: Option<&'a [f32]>,
    rank: usize,
}

struct Sums {
    row: Vec<f32>,
    scales: Vec<f32>,
}

impl RowStep for Projection<'_> {
    type Shared = ();
    type Sums = Sums;

    fn sums(&self) -> Sums {
        Sums {
            row: vec![0.0; self.rank.next_multiple_of(LANES)],
            scales: Vec::new(),
        }
    }

    fn shared(&self, _fixed: &Fixed<'_>) {}

    fn begin(&self, sums: &mut Sums) {
        sums.row.fill(0.0);
    }

    fn accumulate(&self, _own: Own<'_>, segment: Row<'_>, fixed: &Fixed<'_>, sums: &mut Sums) {
        let cols = segment.cols;
        sums.scales.clear();
        sums.scales
            .extend(cols.iter().map(|&col| match self.shares {
                Some(shares) => shares[col as usize],
                None => 1.0,
            }));
        let flat = fixed.factors.flat();
        kernel::add_scaled_rows(fixed.isa, &sums.scales, flat, cols, &mut sums.row);
    }

    fn merge(&self, next: &Sums, sums: &mut Sums) {
        for (x, y) in sums.row.iter_mut().zip(&next.row) {
            *x += y;
        }
    }

    fn finish(
        &self,
        own: OwnMut<'_>,
        ratings: usize,
        _fixed: &Fixed<'_>,
        _shared: &(),
        sums: &mut Sums,
    ) -> Result<()> {
        let count = ratings.max(1) as f32;
        let scale = match self.shares {
            Some(_) => 1.0 / count,
            None => 1.0 / count.sqrt(),
        };
        for (x, sum) in own.factors.iter_mut().zip(&sums.row) {
            *x = scale * sum;
        }
        Ok(())
    }

    fn cost(&self) -> &impl Cost {
        &Explained
    }
}

/// What the approximation takes off the objective.
struct Explained;

impl Cost for Explained {
    fn loss(&self, _prediction: f32, _target: f32) -> f64 {
        0.0
    }

    fn penalty(&self, own: Own<'_>, ratings: usize) -> f64 {
        let squares = own.factors.iter().map(|&x| f64::from(x) * f64::from(x));
        -0.5 * ratings as f64 * squares.sum::<f64>()
    }
}
