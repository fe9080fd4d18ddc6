//! How the cost is minimised: [`SOLVERS`], one file or folder each, on three drivers: row by row, over tiles, and over mini-batches.
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
mod bands;
mod block_rows;
mod cell_gradient;
mod cg;
mod chunks;
mod conjugate;
mod contributions;
mod coordinate;
mod few_ratings;
mod gradient;
mod gram;
mod implicit;
mod least_squares;
mod line_search;
mod losses;
mod minibatch;
mod neighbourhood;
mod newton;
mod nmf;
mod options;
mod orthonormal;
mod popularity;
mod ranking;
mod rates;
mod row_step;
mod scale;
mod sgd;
mod stochastic;
mod sums;
mod svd;
mod svd_plus_plus;
mod sweep;
mod whole;

use std::ops::Add;

use crate::error::{Error, ErrorKind, Result};
use crate::kernel::{self, Isa};
use crate::matrix::{Factors, Ratings, Row, Shape, Side, Traffic};

pub use alternating::{SUMMED_BYTES, half_epoch, sum_gathered_rows, sum_rows};
pub use chunks::{Chunking, Extent, Passing};
pub use gradient::Gradient;
pub use losses::{Errors, LOSS_BYTES, measure, sum_errors};
pub use neighbourhood::{Neighbourhood, histories};
pub use nmf::{Study, StudyLine};
pub use options::{Direction, Init, Missing, Options, Reduce, Ridge, Rule, Step, Update};
pub use row_step::{Cost, Fixed, Measure, Own, OwnMut, RowStep};
pub use sums::{RowSums, Summed};

/// Every solver by its name on the command line.
pub const SOLVERS: &[Method] = &[
    als::METHOD,
    cg::METHOD,
    coordinate::METHOD,
    newton::METHOD,
    gradient::METHOD,
    cell_gradient::METHOD,
    svd_plus_plus::METHOD,
    sgd::METHOD,
    nmf::METHOD,
    implicit::EXACT,
    implicit::STEPS,
    implicit::BLOCKS,
    svd::METHOD,
    ranking::SOFTMAX,
    ranking::CCL,
    ranking::BPR,
    ranking::WARP,
    ranking::LOGISTIC,
    neighbourhood::KNN,
    neighbourhood::EASE,
    popularity::METHOD,
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
    /// What its predictions tell.
    pub learns: Learns,
    /// Options that are worth searching beside rank and regularization, and between which ends.
    pub searched: &'static [(&'static str, f64, f64)],
    /// Whether it promises that the cost never rises, with the options that suit it.
    pub monotone: bool,
    /// Whether it takes any regularizer, not `l2` alone.
    pub any_regularizer: bool,
    /// Whether its model may have a mean and biases.
    pub biases: bool,
    /// Whether its model is made of factors; if not, of weights between items.
    pub factors: bool,
    /// Whether it can do with less memory than all factors take, by reading them in bands.
    pub spills: bool,
    /// Sets, beside what the caller cares for, the options that it learns well with where ratings are few and clean.
    pub suited: fn(Options) -> Options,
    /// Checks the options that concern this method alone and makes a solver of them; called by [`Method::solver`].
    pub build: fn(&Options) -> Result<Box<dyn Solver>>,
}

/// What a method's predictions tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learns {
    /// How a user would rate an item.
    Ratings,
    /// Which items a user would rather take: their order counts, not their values.
    Preferences,
    /// Which items are taken most, by whomever.
    Popularity,
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
        if options.positive_at.is_some() && self.learns == Learns::Ratings {
            let able = SOLVERS.iter().filter(|m| m.learns != Learns::Ratings);
            let able: Vec<_> = able.map(|m| m.name).collect();
            let what = format!("{} learns all ratings, high or low", self.name);
            return Err(Error::new(ErrorKind::BadOption, what).remedy(format!(
                "leave out --positive-at, or use --solver {}",
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

    /// Checks that these ratings are what the method learns from: where each is taken for a preference, none is below zero.
    /// Runs on the thread pool it is called in.
    ///
    /// # Errors
    /// If that is not so; the first such rating is named.
    pub fn check_ratings(&self, options: &Options, ratings: &dyn Ratings) -> Result<()> {
        if self.learns == Learns::Ratings || options.positive_at.is_some() {
            return Ok(());
        }
        let why = "what is rated below zero would count as liked";
        let remedy = "train with --positive-at X, the lowest rating that counts as liked, or leave out such ratings";
        scale::refuse_negative(ratings, why, remedy)
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
    /// What is predicted with in place of factors, once it is known, where the method has none.
    pub neighbourhood: Option<Neighbourhood>,
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
        if let (Some(user), Some(item), Some(known)) = (user, item, &self.neighbourhood) {
            let biases = self.items.bias(item) + self.users.bias(user);
            return self.mean + self.std * (biases + known.score(user, item));
        }
        self.predict_of(user.map(|user| Own::of(&self.users, user)), item)
    }

    /// As [`predict`](Parameters::predict) of factors, for a user whose row lies elsewhere.
    pub fn predict_of(&self, user: Option<Own<'_>>, item: Option<usize>) -> f32 {
        let of_user = user.map_or(0.0, |own| own.bias);
        let mut offset = item.map_or(0.0, |item| self.items.bias(item)) + of_user;
        if let (Some(own), Some(item)) = (user, item) {
            offset += kernel::dot(Isa::best(), own.factors, self.items.padded_row(item));
        }
        self.mean + self.std * offset
    }

    /// Whether it can predict for one user otherwise than for another: a model of popularity alone does not.
    pub fn tells_users_apart(&self) -> bool {
        self.neighbourhood.is_some() || self.items.flat().iter().any(|&x| x != 0.0)
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
    ///
    /// # Errors
    /// If spilled factors cannot be read.
    pub fn is_finite(&self) -> Result<bool> {
        let mut finite = self.mean.is_finite();
        if let Some(Neighbourhood { weights, .. }) = &self.neighbourhood {
            finite &= weights.values().iter().all(|x| x.is_finite());
        }
        for factors in [&self.users, &self.items] {
            let mut band = factors.empty_band();
            for rows in factors.bands(0..factors.rows()) {
                let (factors, _) = factors.load(rows, &mut band)?;
                let all = factors.flat().iter().chain(factors.biases());
                finite &= all.fold(true, |finite, x| finite & x.is_finite());
            }
        }
        Ok(finite)
    }

    /// Bytes of factors that lie in files.
    pub fn spilled_bytes(&self) -> u64 {
        let spilled = [&self.users, &self.items]
            .into_iter()
            .filter(|f| f.is_spilled());
        spilled
            .map(|f| Factors::bytes(f.rows(), f.rank(), f.has_biases()))
            .sum()
    }

    /// What has been read and written of spilled factors so far.
    pub fn traffic(&self) -> Traffic {
        self.users.traffic() + self.items.traffic()
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
    /// What the solver carries over to the next epoch: the last step of momentum, for one. Users' and items' in turn; users'
    /// may be the last.
    pub carried: Vec<Factors>,
}

impl Moving {
    /// Takes what the epoch before has carried: so many factors, by any of these counts, of users and of items in turn, of
    /// this rank and with or without biases. Nothing in the first epoch.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] if something else was carried: only a checkpoint that somebody has forged has that.
    pub fn take_carried(
        &mut self,
        counts: &[usize],
        rank: usize,
        biases: bool,
    ) -> Result<Vec<Factors>> {
        let carried = std::mem::take(&mut self.carried);
        let sides = [Side::Users, Side::Items].into_iter().cycle();
        let fits = carried.iter().zip(sides).all(|(factors, side)| {
            let rows = self.parameters.side(side).rows();
            (factors.rows(), factors.rank(), factors.has_biases()) == (rows, rank, biases)
        });
        if fits && (carried.is_empty() || counts.contains(&carried.len())) {
            return Ok(carried);
        }
        let what = "what the last epoch has carried is not what this method carries";
        Err(Error::new(ErrorKind::Damaged, what).remedy("train again without --resume"))
    }
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

    /// Solves the rows of `users`, which are zeros, for their ratings of the fixed items. Who was in training with the same
    /// ratings gets that row again. `trained` are the ratings of the training, where they are at hand.
    ///
    /// # Errors
    /// If the method does not solve rows, or lacks something.
    fn fold_in(
        &self,
        _ratings: &dyn Ratings,
        _trained: Option<&dyn Ratings>,
        _items: &Fixed<'_>,
        _users: &mut Factors,
    ) -> Result<()> {
        let what = "new users cannot be folded in: the model's solver does not solve for rows";
        Err(Error::new(ErrorKind::BadOption, what)
            .remedy("train with --solver als, or ials for implicit feedback"))
    }

    /// Memory that [`fold_in`](Solver::fold_in) takes for users of this shape beside their rows, twice, in bytes: by default
    /// what training takes, which solves such rows.
    fn fold_in_memory(&self, shape: Shape, threads: usize) -> u64 {
        self.memory(shape, threads)
    }

    /// Whether [`fold_in`](Solver::fold_in) solves the rows of items to fixed users just as well, if the sides change places.
    fn solves_either_side(&self) -> bool {
        false
    }

    /// What each rating of a user's row adds to the prediction for an item, beside what the item and the mean say by
    /// themselves, in units of the model; nothing where the row is no linear function of the ratings.
    fn contributions(&self, _row: Row<'_>, _items: &Fixed<'_>, _item: usize) -> Option<Vec<f64>> {
        None
    }

    /// Memory that training takes beyond the parameters themselves, in bytes.
    fn memory(&self, shape: Shape, threads: usize) -> u64;

    /// The same where both sides pass by in bands; by default, as much.
    fn memory_in_bands(&self, shape: Shape, threads: usize) -> u64 {
        self.memory(shape, threads)
    }

    /// Bytes that a row's sums take while the fixed side passes by in bands. None, the default, if the method needs the
    /// fixed side as a whole, and so all factors in memory.
    fn row_sums(&self) -> Option<u64> {
        None
    }

    /// An option that would make training less likely to diverge, beside a lower learning rate.
    fn steadier(&self) -> Option<&'static str> {
        None
    }

    /// Whether predictions and ratings may both be counted from the ratings' mean: not where the loss knows a zero.
    fn may_centre(&self) -> bool {
        true
    }

    /// Epochs after which nothing changes any more.
    fn most_epochs(&self) -> usize {
        usize::MAX
    }

    /// What an epoch reads; by default, either side once. Measuring is counted in.
    fn passes(&self, _epoch: usize) -> Passes {
        Passes::of(1, 1)
    }

    /// What is read before the first epoch, to [`check`](Solver::check) and to [`measure`](Solver::measure); by default,
    /// users for both, and items for their penalty.
    fn passes_before(&self) -> Passes {
        Passes::of(2, 1)
    }

    /// How often an epoch tells of each rating that it is done.
    fn ticks(&self) -> u64 {
        2
    }
}

/// How often all training ratings are gone over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Passes {
    /// By user. A pass that asks for the lengths of rows alone is one, too: blocks are read as a whole.
    pub users: u64,
    /// By item.
    pub items: u64,
    /// As [`Tiles`](crate::matrix::Tiles).
    pub tiles: u64,
}

impl Passes {
    /// So many by user, and by item.
    pub const fn of(users: u64, items: u64) -> Passes {
        Passes {
            users,
            items,
            tiles: 0,
        }
    }

    /// All of them.
    pub fn total(self) -> u64 {
        self.users + self.items + self.tiles
    }
}

impl Add for Passes {
    type Output = Passes;

    fn add(self, other: Passes) -> Passes {
        Passes {
            users: self.users + other.users,
            items: self.items + other.items,
            tiles: self.tiles + other.tiles,
        }
    }
}

/// Is told how many ratings have been gone over since the last call.
pub type Tick<'a> = &'a (dyn Fn(u64) + Sync);
