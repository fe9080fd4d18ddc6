//! How the cost is minimised: [`SOLVERS`], one file each, on two drivers.
//!
//! Every solver minimises
//!
//! ```text
//! reduce(loss(prediction, rating)) + 1/2 sum over rows of (regularization * n_row + regularization_row) * |row|^2
//! ```
//!
//! (or, with another `regularizer` than `l2`, its sum over the row in place of `1/2 |row|^2`), where n_row is the row's number of ratings, `reduce` is the sum or the mean over all ratings, and biases have a pair of
//! regularizations of their own. A prediction is `mean + b_user + b_item + <p_user, q_item>`, in units of `std`.

mod als;
mod alternating;
mod cell_gradient;
mod cg;
mod coordinate;
mod gradient;
mod gram;
mod line_search;
mod newton;
mod nmf;
mod rates;
mod scale;
mod sgd;
mod stochastic;
mod sums;
mod sweep;
mod whole;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::kernel::{self, Isa};
use crate::loss::{PENALTIES, Penalty};
use crate::matrix::{Factors, Ratings, Shape, Side};

pub use alternating::{Cost, Fixed, Measure, Own, OwnMut, RowStep, half_epoch, measure, sum_rows};
pub use gradient::Gradient;
pub use nmf::{Study, StudyLine};
pub use sums::{RowSums, Summed};

/// Every solver by its name on the command line.
pub const SOLVERS: &[Method] = &[
    als::METHOD,
    cg::METHOD,
    coordinate::METHOD,
    newton::METHOD,
    gradient::METHOD,
    cell_gradient::METHOD,
    sgd::METHOD,
    nmf::METHOD,
];

/// A line of the table of solvers.
#[derive(Debug)]
pub struct Method {
    /// The field's short name.
    pub name: &'static str,
    /// One line for the help.
    pub summary: &'static str,
    /// Its ridge on factors, multiplied by the row's number of ratings, where none is given.
    pub regularization: f32,
    /// What cells without a rating may count as; the first is the default.
    pub missing: &'static [Missing],
    /// Whether it promises that the cost never rises, with the options that suit it.
    pub monotone: bool,
    /// Whether it takes any regularizer, not `l2` alone.
    pub any_regularizer: bool,
    /// Sets, beside what the caller cares for, the options that it learns well with where ratings are few and clean.
    pub suited: fn(Options) -> Options,
    /// Checks the options that concern this method alone and makes a solver of them; called by [`Method::solver`].
    pub build: fn(&Options) -> Result<Box<dyn Solver>>,
}

impl Method {
    /// Checks all options and makes a solver of them.
    ///
    /// # Errors
    /// If an option is out of range, or this method cannot do what it asks for.
    pub fn solver(&self, options: &Options) -> Result<Box<dyn Solver>> {
        options.check()?;
        if !self.any_regularizer && !options.penalty()?.is_l2() {
            let able = SOLVERS.iter().filter(|method| method.any_regularizer);
            let able: Vec<_> = able.map(|method| method.name).collect();
            let name = self.name;
            let what = format!("{name} takes no other regularizer than l2");
            return Err(Error::new(ErrorKind::BadOption, what).remedy(format!(
                "leave out --regularizer, or use --solver {}",
                able.join(" or ")
            )));
        }
        if let Some(missing) = options.missing
            && !self.missing.contains(&missing)
        {
            let able = SOLVERS.iter().filter(|m| m.missing.contains(&missing));
            let able: Vec<_> = able.map(|m| m.name).collect();
            let what = match missing {
                Missing::Skip => "needs every cell: it cannot leave out what is missing",
                Missing::Zero => {
                    "goes over what is rated alone: missing cells cannot count as zero"
                }
            };
            let what = format!("the solver {} {what}", self.name);
            return Err(Error::new(ErrorKind::BadOption, what).remedy(format!(
                "leave out --missing, or use --solver {}",
                able.join(" or ")
            )));
        }
        (self.build)(options)
    }
}

/// Finds a method by name.
///
/// # Errors
/// If there is none of this name; the message lists those that there are.
pub fn method(name: &str) -> Result<&'static Method> {
    SOLVERS.iter().find(|m| m.name == name).ok_or_else(|| {
        let known: Vec<_> = SOLVERS.iter().map(|m| m.name).collect();
        Error::new(ErrorKind::BadOption, format!("no solver named {name:?}"))
            .remedy(format!("there are {}", known.join(", ")))
    })
}

/// Which factors move on the other's newest values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Update {
    /// Both sides step from the same point.
    Simultaneous,
    /// The second side sees the first one's new values.
    Alternating,
}

/// How far a stochastic step goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// By the learning rate.
    Plain,
    /// By the learning rate over the root of the row's squared gradients so far.
    Adagrad,
}

/// How the losses of all ratings become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reduce {
    /// Their sum.
    Sum,
    /// Their mean.
    Mean,
}

/// What the cells are that have no rating.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Missing {
    /// Unknown: only ratings count.
    Skip,
    /// Zeros, which count as ratings do.
    Zero,
}

/// How a non-negative factorization moves a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rule {
    /// Every factor is multiplied by the ratio of the two parts of its gradient.
    Multiplicative,
    /// Hierarchical alternating least squares: one factor after another goes to its minimum.
    Hals,
}

/// How random factors are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// Gaussian, with rows about of length 1.
    Gaussian,
    /// Uniform from 0.1 to 0.9.
    Uniform,
}

/// Every option that changes the result of training. All of it is kept with the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Name of the solver in [`SOLVERS`].
    pub solver: String,
    /// The loss: a name of [`LOSSES`](crate::loss::LOSSES), or a formula in `p` and `r`.
    pub loss: String,
    /// What a coordinate costs by its size: a name of [`PENALTIES`], or a formula in `x`.
    pub regularizer: String,
    /// Number of factors.
    pub rank: usize,
    /// Passes over both sides.
    pub epochs: usize,
    /// Seed of the random start.
    pub seed: u64,
    /// Ridge on factors, multiplied by the row's number of ratings; the method's own default if none.
    pub regularization: Option<f32>,
    /// Ridge on factors, once a row.
    pub regularization_row: f32,
    /// Ridge on biases, multiplied by the row's number of ratings; as the factors' if none.
    pub bias_regularization: Option<f32>,
    /// Ridge on biases, once a row; as the factors' if none.
    pub bias_regularization_row: Option<f32>,
    /// Whether the model has a mean and biases.
    pub biases: bool,
    /// Whether ratings are brought to mean 0 and variance 1 first.
    pub normalize: bool,
    /// Sum or mean of the losses.
    pub reduce: Reduce,
    /// Whether cells without a rating count as zeros; as the method's own if none.
    pub missing: Option<Missing>,
    /// For a non-negative factorization: how a row moves.
    pub rule: Rule,
    /// For gradient descent: whether both sides step from the same point.
    pub update: Update,
    /// For stochastic gradient descent: how far a step goes.
    pub step: Step,
    /// For gradient descent: one rate, or one for each epoch.
    pub learning_rates: Vec<f32>,
    /// For gradient descent: the rate of epoch t is divided by `1 + decay (t - 1)`.
    pub learning_rate_decay: f32,
    /// For gradient descent: the share of the last step that is added to the next direction.
    pub momentum: f32,
    /// For conjugate gradient: steps for each row.
    pub cg_steps: usize,
    /// Stop when the validation RMSE has not fallen for so many epochs, and keep the best.
    pub early_stop: Option<usize>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            solver: "als".into(),
            loss: "squared".into(),
            regularizer: PENALTIES[0].name.into(),
            rank: 32,
            epochs: 15,
            seed: 0,
            regularization: None,
            regularization_row: 0.0,
            bias_regularization: None,
            bias_regularization_row: None,
            biases: true,
            normalize: false,
            reduce: Reduce::Sum,
            missing: None,
            rule: Rule::Multiplicative,
            update: Update::Simultaneous,
            step: Step::Adagrad,
            learning_rates: Vec::new(),
            learning_rate_decay: 0.0,
            momentum: 0.0,
            cg_steps: 3,
            early_stop: None,
        }
    }
}

impl Options {
    /// The largest rank that a model can have.
    pub const MAX_RANK: usize = 4096;

    /// Checks what no solver can work with.
    pub fn check(&self) -> Result<()> {
        self.penalty()?;
        let bad = |message: String| Err(Error::new(ErrorKind::BadOption, message));
        if self.rank == 0 || self.rank > Self::MAX_RANK {
            return bad(format!(
                "the rank is {}; it must be from 1 to {}",
                self.rank,
                Self::MAX_RANK
            ));
        }
        let ridges = [
            ("regularization", self.regularization),
            ("regularization per row", Some(self.regularization_row)),
            ("bias regularization", self.bias_regularization),
            ("bias regularization per row", self.bias_regularization_row),
        ];
        for (name, value) in ridges {
            if value.is_some_and(|x| !(x.is_finite() && x >= 0.0)) {
                return bad(format!(
                    "the {name} is {}; it must be a number from 0 up",
                    value.unwrap_or_default()
                ));
            }
        }
        if !(self.learning_rate_decay >= 0.0 && self.learning_rate_decay.is_finite()) {
            return bad(format!(
                "the decay of the learning rate is {}; it must be a number from 0 up",
                self.learning_rate_decay
            ));
        }
        if !(0.0..1.0).contains(&self.momentum) {
            return bad(format!(
                "the momentum is {}; it must be from 0 up to, not including, 1",
                self.momentum
            ));
        }
        if self.cg_steps == 0 {
            return bad("conjugate gradient takes at least one step for each row".into());
        }
        let rates = self.learning_rates.len();
        if rates > 1 && rates < self.epochs {
            let what = format!(
                "{rates} learning rates are too few for {} epochs",
                self.epochs
            );
            return Err(Error::new(ErrorKind::BadOption, what)
                .remedy("give one for each epoch, or a single one for all"));
        }
        if let Some(rate) = self
            .learning_rates
            .iter()
            .find(|x| !(x.is_finite() && **x > 0.0))
        {
            return bad(format!(
                "a learning rate is {rate}; it must be a number above 0"
            ));
        }
        Ok(())
    }

    /// What a coordinate costs by its size.
    ///
    /// # Errors
    /// If the formula cannot be read, or is not finite.
    pub fn penalty(&self) -> Result<Penalty> {
        Penalty::named_or_formula(&self.regularizer)
    }

    /// The same options with the ridge on factors that training uses: where none is given, the method's own default.
    #[must_use]
    pub fn resolved(mut self) -> Options {
        self.regularization = Some(self.regularization());
        self
    }

    fn regularization(&self) -> f32 {
        let default = || method(&self.solver).map_or(0.0, |method| method.regularization);
        self.regularization.unwrap_or_else(default)
    }

    /// The ridges of this cost: what penalties are weighed by.
    pub fn ridge(&self) -> Ridge {
        let regularization = self.regularization();
        Ridge {
            factors: [regularization, self.regularization_row],
            biases: [
                self.bias_regularization.unwrap_or(regularization),
                self.bias_regularization_row
                    .unwrap_or(self.regularization_row),
            ],
        }
    }
}

/// The squared-length penalty: for factors and for biases, a part per rating and a part per row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ridge {
    factors: [f32; 2],
    biases: [f32; 2],
}

impl Ridge {
    /// The weight on the squared factors of a row with so many ratings.
    pub fn on_factors(&self, ratings: usize) -> f32 {
        self.factors[0] * ratings as f32 + self.factors[1]
    }

    /// The weight on the squared bias of a row with so many ratings.
    pub fn on_bias(&self, ratings: usize) -> f32 {
        self.biases[0] * ratings as f32 + self.biases[1]
    }

    /// The parts per rating and per row, of factors and of biases.
    pub fn parts(&self) -> [[f32; 2]; 2] {
        [self.factors, self.biases]
    }

    /// What a row adds to the cost.
    pub fn penalty(&self, row: &[f32], bias: f32, ratings: usize) -> f64 {
        let length: f64 = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        0.5 * (f64::from(self.on_factors(ratings)) * length
            + f64::from(self.on_bias(ratings)) * f64::from(bias) * f64::from(bias))
    }
}

/// All numbers that a model predicts with.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameters {
    /// Factors and biases of users.
    pub users: Factors,
    /// Factors and biases of items.
    pub items: Factors,
    /// What a prediction starts from.
    pub mean: f32,
    /// The unit of biases and products: 1, or the ratings' standard deviation if they were normalised.
    pub std: f32,
}

impl Parameters {
    /// One side's factors.
    pub fn side(&self, side: Side) -> &Factors {
        match side {
            Side::Users => &self.users,
            Side::Items => &self.items,
        }
    }

    /// The prediction for a user and an item by their rows, not clipped. What is not known counts as nothing: without a
    /// user it is the mean and the item's bias, without either the mean.
    pub fn predict(&self, user: Option<usize>, item: Option<usize>) -> f32 {
        let bias = |factors: &Factors, row: Option<usize>| row.map_or(0.0, |row| factors.bias(row));
        let mut offset = bias(&self.items, item) + bias(&self.users, user);
        if let (Some(user), Some(item)) = (user, item) {
            let (p, q) = (self.users.padded_row(user), self.items.padded_row(item));
            offset += kernel::dot(Isa::best(), p, q);
        }
        self.mean + self.std * offset
    }

    /// The items as the fixed side.
    pub fn fixed_items(&self) -> Fixed<'_> {
        Fixed::new(&self.items, self.mean, self.std)
    }

    /// Memory that parameters of this size take, in bytes.
    pub fn bytes(shape: Shape, rank: usize, biases: bool) -> u64 {
        Factors::bytes(shape.users, rank, biases) + Factors::bytes(shape.items, rank, biases)
    }

    /// Whether every number is finite.
    pub fn is_finite(&self) -> bool {
        let finite = |factors: &Factors| {
            let all = factors.flat().iter().chain(factors.biases());
            all.fold(true, |finite, x| finite & x.is_finite())
        };
        self.mean.is_finite() && finite(&self.users) && finite(&self.items)
    }
}

/// What a pass over the training ratings has measured.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Measured {
    /// The total cost: reduced losses and penalties.
    pub cost: f64,
    /// Root mean squared error in the ratings' own units, never clipped.
    pub rmse: f64,
}

/// All that changes from epoch to epoch: enough to go on from.
#[derive(Debug, Clone, PartialEq)]
pub struct Moving {
    /// What the model predicts with.
    pub parameters: Parameters,
    /// What the solver carries over to the next epoch: the last step of momentum, for one.
    pub carried: Vec<Factors>,
}

/// A method of training. It keeps nothing from epoch to epoch itself.
pub trait Solver: Send + Sync {
    /// Checks, before the first step, that the method can work with these ratings from this start: by default, that the
    /// loss is finite on their scale.
    fn check(&self, options: &Options, ratings: &dyn Ratings, start: &Parameters) -> Result<()> {
        scale::check_loss(options, ratings, start)
    }

    /// How factors are drawn that the caller does not give.
    fn init(&self) -> Init {
        Init::Gaussian
    }

    /// Moves all parameters once, and tells the cost after it. `epoch` counts from 1; `tick` is told of ratings done.
    fn epoch(
        &self,
        epoch: usize,
        ratings: &dyn Ratings,
        moving: &mut Moving,
        tick: Tick<'_>,
    ) -> Result<Measured>;

    /// Tells the cost where the parameters stand.
    fn measure(&self, ratings: &dyn Ratings, parameters: &Parameters) -> Result<Measured>;

    /// Memory that training takes beyond the parameters themselves, in bytes.
    fn memory(&self, shape: Shape, threads: usize) -> u64;

    /// An option that would make training less likely to diverge, beside a lower learning rate.
    fn steadier(&self) -> Option<&'static str> {
        None
    }

    /// Whether predictions and ratings may both be counted from the ratings' mean: not where the loss knows a zero.
    fn may_centre(&self) -> bool {
        true
    }

    /// How many times an epoch goes over the ratings, for rates.
    fn passes(&self) -> u64 {
        2
    }
}

/// Is told how many ratings have been gone over since the last call.
pub type Tick<'a> = &'a (dyn Fn(u64) + Sync);
