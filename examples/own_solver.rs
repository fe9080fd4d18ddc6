//! A solver of your own: what happens to one row, while the other side is fixed. The driver has threads, files and order.
//!
//! This one fits nothing but biases, each the mean of what the others leave of its ratings, drawn towards zero: the
//! baseline that every model of factors has to beat.

use lowrank::matrix::{Factors, Ratings, Row, Shape, Side};
use lowrank::solver::{
    Cost, Fixed, Measure, Measured, Moving, Own, OwnMut, Parameters, RowStep, RowSums, Solver,
    Tick, half_epoch, measure,
};
use lowrank::{InMemory, Options, Result, Threads, Trainer};

struct Baseline {
    /// Ratings of zero that every row is given beside its own.
    damping: f32,
}

impl RowStep for Baseline {
    /// What all rows of a side share: nothing here; for other methods the Gram matrix of the fixed side.
    type Shared = ();
    /// What a row gathers: the sum of its residuals.
    type Sums = f32;

    fn sums(&self) -> f32 {
        0.0
    }

    fn shared(&self, _fixed: &Fixed<'_>) {}

    fn begin(&self, sum: &mut f32) {
        *sum = 0.0;
    }

    fn accumulate(&self, _own: Own<'_>, segment: Row<'_>, fixed: &Fixed<'_>, sum: &mut f32) {
        for (&col, &rating) in segment.cols.iter().zip(segment.values) {
            *sum += fixed.target(rating) - fixed.factors.bias(col as usize);
        }
    }

    fn merge(&self, next: &f32, sum: &mut f32) {
        *sum += next;
    }

    fn finish(
        &self,
        own: OwnMut<'_>,
        ratings: usize,
        _fixed: &Fixed<'_>,
        _shared: &(),
        sum: &mut f32,
    ) -> Result<()> {
        if let Some(bias) = own.bias {
            *bias = *sum / (ratings as f32 + self.damping);
        }
        Ok(())
    }

    fn cost(&self) -> &impl Cost {
        self
    }
}

impl Cost for Baseline {
    fn loss(&self, prediction: f32, target: f32) -> f64 {
        0.5 * f64::from(prediction - target).powi(2)
    }

    fn penalty(&self, own: Own<'_>, _ratings: usize) -> f64 {
        0.5 * f64::from(self.damping) * f64::from(own.bias).powi(2)
    }
}

impl Baseline {
    fn measured(&self, sums: RowSums, ratings: &dyn Ratings) -> Measured {
        Measured {
            cost: sums.loss + sums.penalty,
            rmse: (sums.squared_error / ratings.shape().ratings as f64).sqrt(),
        }
    }
}

impl Solver for Baseline {
    fn epoch(
        &self,
        _epoch: usize,
        ratings: &dyn Ratings,
        moving: &mut Moving,
        tick: Tick<'_>,
    ) -> Result<Measured> {
        let Parameters {
            users,
            items,
            mean,
            std,
            ..
        } = &mut moving.parameters;
        let fixed = Fixed::new(users, *mean, *std);
        let of_items = half_epoch(
            ratings,
            Side::Items,
            false,
            self,
            items,
            &fixed,
            Measure::Penalty,
            tick,
        )?;
        let fixed = Fixed::new(items, *mean, *std);
        let mut sums = half_epoch(
            ratings,
            Side::Users,
            false,
            self,
            users,
            &fixed,
            Measure::All,
            tick,
        )?;
        sums.penalty += of_items.penalty;
        Ok(self.measured(sums, ratings))
    }

    fn measure(&self, ratings: &dyn Ratings, parameters: &Parameters) -> Result<Measured> {
        let sums = measure(ratings, self, &parameters.users, &parameters.fixed_items())?;
        Ok(self.measured(sums, ratings))
    }

    fn memory(&self, _shape: Shape, _threads: usize) -> u64 {
        0
    }
}

fn main() -> Result<()> {
    // Some users are kinder than others, and some items better.
    let rate = |user: u32, item: u32| 1.0 + (user % 3) as f32 + 0.5 * (item % 4) as f32;
    let triplets: Vec<_> = (0..30)
        .flat_map(|user| (0..20).map(move |item| (user, item, rate(user, item))))
        .filter(|(user, item, _)| (user + item) % 3 != 0)
        .collect();
    let ratings = InMemory::from_triplets(30, 20, &triplets)?;

    let options = Options {
        epochs: 10,
        ..Options::default()
    };
    let state = Trainer::new(&ratings, options)
        .solver(Box::new(Baseline { damping: 0.01 }))
        .start_from(Factors::zeros(30, 1, true), Factors::zeros(20, 1, true))
        .run(&Threads::new(None)?)?;
    for line in &state.history {
        println!(
            "epoch {:2}  cost {:9.4}  rmse {:.6}",
            line.epoch, line.loss, line.train_rmse
        );
    }
    assert!(state.history[10].train_rmse < 0.01);
    Ok(())
}
