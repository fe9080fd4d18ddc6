//! Every option that changes the result of training.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::method;
use crate::error::{Error, ErrorKind, Result};
use crate::loss::{PENALTIES, Penalty};

/// Which factors move on the other's newest values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Update {
    /// Both sides step from the same point.
    Simultaneous,
    /// The second side sees the first one's new values.
    Alternating,
}

/// Where a step of gradient descent goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Along the gradient.
    Steepest,
    /// Nonlinear conjugate gradient: along the gradient over curvatures, and on along the last direction.
    Conjugate,
}

/// How far a stochastic step goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// By the learning rate.
    Plain,
    /// By the learning rate over the root of the row's squared gradients so far.
    Adagrad,
}

/// How the losses of all ratings become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reduce {
    /// Their sum.
    Sum,
    /// Their mean.
    Mean,
}

/// What the cells are that have no rating.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// Unknown: only ratings count.
    Skip,
    /// Zeros, which count as ratings do.
    Zero,
}

/// How a non-negative factorization moves a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Every factor is multiplied by the ratio of the two parts of its gradient.
    Multiplicative,
    /// Hierarchical alternating least squares: one factor after another goes to its minimum.
    Hals,
}

/// How random factors are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// Gaussian, with rows about of length 1.
    Gaussian,
    /// Gaussian, every row scaled to length 1.
    UnitRows,
    /// Uniform from 0.1 to 0.9.
    Uniform,
}

/// Every option that changes the result of training. All of it is kept with the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Name of the solver in [`SOLVERS`](super::SOLVERS).
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
    /// How factors are drawn that are not given; the method's own way if none.
    pub init: Option<Init>,
    /// Sum or mean of the losses.
    pub reduce: Reduce,
    /// Whether cells without a rating count as zeros; as the method's own if none.
    pub missing: Option<Missing>,
    /// For a non-negative factorization: how a row moves.
    pub rule: Rule,
    /// For gradient descent: whether both sides step from the same point.
    pub update: Update,
    /// For gradient descent: where a step goes; if none, conjugate directions where the exact step is known and asked for.
    pub direction: Option<Direction>,
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
    /// For implicit feedback: the least rating that tells of a preference; every rating does if none.
    pub positive_at: Option<f32>,
    /// For implicit feedback: what a rating is multiplied by to be a weight; every weight is 1 if none.
    pub alpha: Option<f32>,
    /// For implicit feedback: the weight of a cell, beside those of ratings.
    pub unobserved_weight: f32,
    /// For implicit feedback: the power of a row's weight by which its ridge grows.
    pub regularization_exponent: f32,
    /// For sampled rankings: negatives that a batch shares, or that each positive is held against; the method's own number if none.
    pub negatives: Option<usize>,
    /// For sampled rankings: by how much a positive shall outdo negatives, or the cosine up to which these are let be; the
    /// method's own if none.
    pub margin: Option<f32>,
    /// For sampled rankings: what negatives weigh, taken together, beside a positive; the method's own if none.
    pub negative_weight: Option<f32>,
    /// For softmax: what cosines are divided by.
    pub temperature: f32,
    /// For sampled rankings: the share of a user's factors that are left out each time that the user is met.
    pub dropout: f32,
    /// For sampled rankings: users of a mini-batch; the method's own number if none.
    pub batch_size: Option<usize>,
    /// For item-kNN: how many of each item's nearest neighbours are kept.
    pub neighbours: usize,
    /// For item-kNN: what is added to the length that a similarity is divided by.
    pub shrinkage: f32,
    /// For iALS++: factors of a row that are solved for at a time.
    pub block: usize,
    /// Stop when the validation part has not been predicted better for so many epochs, and keep the best.
    pub early_stop: Option<usize>,
    /// What tells whether it is: `rmse`, or a metric of recommendations with its cut-off.
    pub early_stop_metric: String,
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
            init: None,
            reduce: Reduce::Sum,
            missing: None,
            rule: Rule::Multiplicative,
            update: Update::Simultaneous,
            direction: None,
            step: Step::Adagrad,
            learning_rates: Vec::new(),
            learning_rate_decay: 0.0,
            momentum: 0.0,
            cg_steps: 3,
            positive_at: None,
            alpha: None,
            unobserved_weight: 0.01,
            regularization_exponent: 1.0,
            negatives: None,
            margin: None,
            negative_weight: None,
            temperature: 0.1,
            dropout: 0.0,
            batch_size: None,
            neighbours: 20,
            shrinkage: 0.0,
            block: 32,
            early_stop: None,
            early_stop_metric: "rmse".into(),
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
        let weights = [
            ("regularization", self.regularization),
            ("regularization per row", Some(self.regularization_row)),
            ("bias regularization", self.bias_regularization),
            ("bias regularization per row", self.bias_regularization_row),
            (
                "exponent of the regularization",
                Some(self.regularization_exponent),
            ),
            ("alpha", self.alpha),
            ("weight of a cell", Some(self.unobserved_weight)),
            ("margin", self.margin),
            ("weight of negatives", self.negative_weight),
            ("shrinkage", Some(self.shrinkage)),
        ];
        for (name, value) in weights {
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
        if !(0.0..1.0).contains(&self.dropout) {
            return bad(format!(
                "the dropout is {}; it must be from 0 up to, not including, 1",
                self.dropout
            ));
        }
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            return bad(format!(
                "the temperature is {}; it must be a number above 0",
                self.temperature
            ));
        }
        if self.negatives == Some(0) || self.batch_size == Some(0) {
            return bad("batches have at least one user and one negative".into());
        }
        if self.neighbours == 0 {
            return bad("an item has at least one neighbour".into());
        }
        if self.block == 0 {
            return bad("a block has at least one factor".into());
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

    /// The options that have a value, by their names on the command line.
    pub fn named(&self) -> Map<String, Value> {
        // By way of text, in which an f32 keeps its few digits.
        let text = serde_json::to_string(self).expect("options are JSON");
        let all: Map<String, Value> = serde_json::from_str(&text).expect("a struct is an object");
        let empty = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        all.into_iter()
            .filter(|(_, value)| !empty(value))
            .map(|(name, value)| (name.replace('_', "-"), value))
            .collect()
    }

    /// These options, but for those that are named: as on the command line, `learning-rate` is a single one, and `biases` may
    /// be false.
    ///
    /// # Errors
    /// If there is no option of that name, or it cannot have that value.
    pub fn overlaid(&self, named: &Map<String, Value>) -> Result<Options> {
        let bad = |what: String| Error::new(ErrorKind::BadOption, what);
        let mut options = self.clone();
        for (name, value) in named {
            let all = serde_json::to_value(&options).map_err(|e| bad(e.to_string()))?;
            let Value::Object(mut all) = all else {
                unreachable!("a struct is an object")
            };
            let (field, value) = match name.as_str() {
                "learning-rate" => (
                    "learning_rates".to_owned(),
                    Value::from(vec![value.clone()]),
                ),
                name => (name.replace('-', "_"), value.clone()),
            };
            if all.insert(field, value.clone()).is_none() {
                return Err(bad(format!("there is no option named {name:?}"))
                    .remedy("name options as lowrank train --help does"));
            }
            options = serde_json::from_value(Value::Object(all))
                .map_err(|_| bad(format!("the option {name} cannot be {value}")))?;
        }
        Ok(options)
    }

    /// What a coordinate costs by its size.
    ///
    /// # Errors
    /// If the formula cannot be read, or is not finite.
    pub fn penalty(&self) -> Result<Penalty> {
        Penalty::named_or_formula(&self.regularizer)
    }

    /// The same options as training uses them: where no ridge on factors is given, it is the method's own default; there
    /// are no biases where the method has none, and no factors but one of zeros where it has no factors.
    #[must_use]
    pub fn resolved(mut self) -> Options {
        self.regularization = Some(self.regularization());
        if let Ok(method) = method(&self.solver) {
            self.biases &= method.biases;
            if !method.factors {
                self.rank = 1;
            }
        }
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

    /// The part of the biases alone.
    #[must_use]
    pub fn of_biases(self) -> Ridge {
        Ridge {
            factors: [0.0; 2],
            ..self
        }
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
