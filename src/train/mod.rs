//! Training: epochs, validation, early stop, resume, history.

mod forecast;
mod placement;

use std::time::Instant;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::evaluate::{Watch, squared_errors};
use crate::loss;
use crate::matrix::{AtLeast, Factors, Ratings, RowScratch, Shape, Side, Traffic};
use crate::progress::{Progress, Unit};
use crate::rng::{Purpose, Stream, key};
use crate::solver::{self, Init, Moving, Options, Parameters, RowSums, Solver, sum_rows};
use crate::threads::Threads;
use crate::usage::Usage;

pub use forecast::{Forecast, Transfer};
pub use placement::Placement;

/// A line of the history: where training stood after an epoch. Epoch 0 is before the first step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Which epoch, from 0.
    pub epoch: usize,
    /// The total cost that is minimised. For stochastic methods losses are as their steps met them, each rating's before its
    /// own step, and so is the RMSE.
    pub loss: f64,
    /// Root mean squared error on the training ratings, in their own units, not clipped.
    pub train_rmse: f64,
    /// The same on the validation ratings, if there are any.
    pub validation_rmse: Option<f64>,
    /// The same on the test ratings, if there are any.
    pub test_rmse: Option<f64>,
    /// What early stopping watches, where that is not the RMSE on the validation ratings: the higher the better.
    pub watched: Option<f64>,
}

/// How long an epoch took: kept apart, because it is the one thing that differs from run to run.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Pace {
    /// Seconds to move the factors and to measure the training loss.
    pub seconds: f64,
    /// Training ratings divided by those seconds.
    pub ratings_per_second: f64,
    /// Bytes of ratings that did not stay in memory and were read again, held-out parts included.
    pub ratings_read: u64,
    /// Bytes of factors read from their files, held-out parts included.
    pub factors_read: u64,
    /// Of those, bytes that were read before in the same epoch.
    pub factors_reread: u64,
    /// Bytes of factors written to their files.
    pub factors_written: u64,
    /// Seconds that reading and writing factors took. What mapped ratings were waited for is within `seconds`: a thread waits
    /// for a page where it looks at it, which the system counts ([`page_faults`](Pace::page_faults)) and does not time.
    pub waited: f64,
    /// Bytes that the process had from a disk in all, ratings included.
    pub disk_read: u64,
    /// Pages that had to be read from a disk when they were looked at.
    pub page_faults: u64,
}

/// Ids that are in memory at a time while random starts are drawn, before any ratings are.
const IDS: usize = 1 << 14;

/// When an epoch began, and what had been counted by then.
struct Began {
    at: Instant,
    ratings_read: u64,
    traffic: Traffic,
    usage: Usage,
}

impl Began {
    fn now(ratings_read: u64, traffic: Traffic) -> Began {
        Began {
            at: Instant::now(),
            ratings_read,
            traffic,
            usage: Usage::now(),
        }
    }
}

/// Where training stands: enough to go on from.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// What moves, after the last epoch.
    pub moving: Moving,
    /// The parameters of the best epoch on the validation part, if early stopping watches it and it is not the last.
    pub best: Option<Parameters>,
    /// A line for each epoch so far, the start included.
    pub history: Vec<Epoch>,
    /// The pace of each line of the history.
    pub paces: Vec<Pace>,
}

impl State {
    /// The parameters to keep: the best ones where early stopping has watched, else the last.
    pub fn into_parameters(self) -> Parameters {
        self.best.unwrap_or(self.moving.parameters)
    }

    /// The parameters after the last epoch.
    pub fn parameters(&self) -> &Parameters {
        &self.moving.parameters
    }

    /// Epochs done.
    pub fn epochs(&self) -> usize {
        self.history.len() - 1
    }

    /// The epoch that did best on the validation ratings by what early stopping watches, or else by the RMSE; the earlier
    /// one if two are equal.
    pub fn best_epoch(&self) -> Option<usize> {
        let badness = |e: &Epoch| e.watched.map(|x| -x).or(e.validation_rmse);
        let validated = self
            .history
            .iter()
            .filter_map(|e| Some((e.epoch, badness(e)?)));
        let best = validated.min_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
        best.map(|(epoch, _)| epoch)
    }

    fn should_stop(&self, options: &Options, solver: &dyn Solver) -> bool {
        if self.epochs() >= options.epochs.min(solver.most_epochs()) {
            return true;
        }
        match (options.early_stop, self.best_epoch()) {
            (Some(patience), Some(best)) => self.epochs() - best >= patience,
            _ => false,
        }
    }
}

/// Is shown the state after every epoch.
type AfterEpoch<'a> = dyn FnMut(&State) -> Result<()> + Send + 'a;

/// Measures parameters on what is held out: the higher the better.
type Measure<'a> = dyn Fn(&Parameters) -> Result<f64> + Sync + Send + 'a;

/// Trains a model on ratings.
pub struct Trainer<'a> {
    ratings: &'a dyn Ratings,
    options: Options,
    /// The caller's own solver.
    solver: Option<Box<dyn Solver>>,
    validation: Option<&'a dyn Ratings>,
    test: Option<&'a dyn Ratings>,
    watch: Option<Box<Measure<'a>>>,
    start: Option<(Factors, Factors)>,
    placement: Placement,
    resume: Option<State>,
    progress: &'a dyn Progress,
    after_epoch: Box<AfterEpoch<'a>>,
}

impl<'a> Trainer<'a> {
    /// A trainer on the training part.
    pub fn new(ratings: &'a dyn Ratings, options: Options) -> Trainer<'a> {
        Trainer {
            ratings,
            options,
            solver: None,
            validation: None,
            test: None,
            watch: None,
            start: None,
            placement: Placement::default(),
            resume: None,
            progress: &(),
            after_epoch: Box::new(|_| Ok(())),
        }
    }

    /// Ratings, by user over the same numbers, whose RMSE is told after each epoch and on which early stopping decides.
    #[must_use]
    pub fn validation(mut self, ratings: Option<&'a dyn Ratings>) -> Trainer<'a> {
        self.validation = ratings.filter(|r| r.shape().ratings > 0);
        self
    }

    /// Ratings, by user over the same numbers, whose RMSE is told after each epoch. Nothing depends on them.
    #[must_use]
    pub fn test(mut self, ratings: Option<&'a dyn Ratings>) -> Trainer<'a> {
        self.test = ratings.filter(|r| r.shape().ratings > 0);
        self
    }

    /// What early stopping watches after each epoch, rather than the RMSE.
    #[must_use]
    pub fn watch(mut self, watch: Option<&'a Watch<'a>>) -> Trainer<'a> {
        self.watch = watch.map(|watch| {
            let measure = |parameters: &Parameters| watch.measure(parameters);
            Box::new(measure) as Box<Measure<'a>>
        });
        self
    }

    /// Starts from these factors of users and of items, whose rank counts.
    #[must_use]
    pub fn start_from(mut self, users: Factors, items: Factors) -> Trainer<'a> {
        self.options.rank = users.rank();
        self.start = Some((users, items));
        self
    }

    /// Where factors lie that are drawn at random: in memory, unless this says otherwise. A given start, or a state to go
    /// on from, stays where it is.
    #[must_use]
    pub fn placement(mut self, placement: Placement) -> Trainer<'a> {
        self.placement = placement;
        self
    }

    /// The options, with the rank of the given start.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Memory that training with these options holds, in bytes: parameters, the best ones if early stopping keeps them,
    /// scratch, and sums by row.
    ///
    /// # Errors
    /// If the options do not fit together.
    pub fn memory(shape: Shape, options: &Options, threads: usize) -> Result<u64> {
        let solver = solver::method(&options.solver)?.solver(options)?;
        let parameters = Parameters::bytes(shape, options.rank, options.biases);
        let copies = placement::copies(options);
        let longest = shape.users.max(shape.items);
        // What is rated highly enough is copied out of one row a thread.
        let kept = match options.positive_at {
            Some(_) => threads * RowScratch::BYTES * longest,
            None => 0,
        };
        let sums = size_of::<RowSums>() * longest + kept;
        Ok(parameters * copies + solver.memory(shape, threads) + sums as u64)
    }

    /// Trains with this solver, whichever the options name, on a loss that is its own business.
    #[must_use]
    pub fn solver(mut self, solver: Box<dyn Solver>) -> Trainer<'a> {
        self.solver = Some(solver);
        self
    }

    fn checked_solver(&mut self) -> Result<Box<dyn Solver>> {
        self.options.check()?;
        if self.options.early_stop.is_some() && self.validation.is_none() {
            return Err(Error::new(
                ErrorKind::BadOption,
                "early stopping needs validation ratings, and there are none",
            )
            .remedy("import or split with --validation-fraction 0.1"));
        }
        if self.options.early_stop.is_some()
            && self.options.early_stop_metric != "rmse"
            && self.watch.is_none()
        {
            let what = "early stopping is to watch a metric that nobody measures";
            return Err(Error::new(ErrorKind::BadOption, what)
                .remedy("hand it to Trainer::watch, or watch rmse"));
        }
        match self.solver.take() {
            Some(solver) => Ok(solver),
            None => solver::method(&self.options.solver)?.solver(&self.options),
        }
    }

    /// Goes on from where an earlier training with the same options stood, to the same bits as without interruption.
    #[must_use]
    pub fn resume(mut self, state: Option<State>) -> Trainer<'a> {
        self.resume = state;
        self
    }

    /// Tells this how far each epoch is.
    #[must_use]
    pub fn progress(mut self, progress: &'a dyn Progress) -> Trainer<'a> {
        self.progress = progress;
        self
    }

    /// Shows this the state after every epoch, the start included as epoch 0. An error stops training.
    #[must_use]
    pub fn after_epoch(
        mut self,
        show: impl FnMut(&State) -> Result<()> + Send + 'a,
    ) -> Trainer<'a> {
        self.after_epoch = Box::new(show);
        self
    }

    /// Trains.
    ///
    /// # Errors
    /// If the options do not fit, ratings cannot be read, the cost diverges, or what is shown each epoch says so.
    pub fn run(mut self, threads: &Threads) -> Result<State> {
        let began = Began::now(self.ratings_read(), Traffic::default());
        let named = self.solver.is_none();
        let solver = self.checked_solver()?;
        let Some(least) = self.options.positive_at else {
            if named {
                let method = solver::method(&self.options.solver)?;
                threads.run(|| method.check_ratings(&self.options, self.ratings))?;
            }
            return self.train(&*solver, began, threads);
        };
        let positive = AtLeast::new(self.ratings, least)?;
        if positive.shape().ratings == 0 {
            let what = format!("no rating is {least} or higher");
            return Err(Error::new(ErrorKind::BadOption, what).remedy("give a lower --positive-at"));
        }
        let trainer = Trainer {
            ratings: &positive,
            ..self
        };
        trainer.train(&*solver, began, threads)
    }

    fn train(mut self, solver: &dyn Solver, began: Began, threads: &Threads) -> Result<State> {
        threads.run(|| {
            let mut state = match self.resume.take() {
                Some(state) => {
                    self.expect_own(&state)?;
                    state
                }
                None => {
                    let state = self.begin(solver, began)?;
                    (self.after_epoch)(&state)?;
                    state
                }
            };
            while !state.should_stop(&self.options, solver) {
                self.epoch(solver, &mut state)?;
                (self.after_epoch)(&state)?;
            }
            Ok(state)
        })
    }

    /// Whether a state is one of a training on these ratings with these options, as far as its sizes tell.
    fn expect_own(&self, state: &State) -> Result<()> {
        let shape = self.ratings.shape();
        let Options { rank, biases, .. } = self.options;
        let all = std::iter::once(&state.moving.parameters).chain(&state.best);
        let own = all.flat_map(|parameters| {
            [Side::Users, Side::Items].map(|side| {
                let factors = parameters.side(side);
                let sizes = (factors.rows(), factors.rank(), factors.has_biases());
                sizes == (shape.rows(side), rank, biases)
            })
        });
        if own.fold(!state.history.is_empty(), |all, own| all && own) {
            return Ok(());
        }
        let what = "the state to go on from is of other ratings or another rank";
        Err(Error::new(ErrorKind::BadOption, what).remedy("train again from the start"))
    }

    fn begin(&mut self, solver: &dyn Solver, began: Began) -> Result<State> {
        let shape = self.ratings.shape();
        let (mean, std) = self.normalisation(shape.ratings as f64, solver)?;
        let (users, items) = match self.start.take() {
            Some(start) => start,
            None => {
                let init = self.options.init.unwrap_or(solver.init());
                (
                    self.random(Side::Users, init)?,
                    self.random(Side::Items, init)?,
                )
            }
        };
        let parameters = Parameters {
            users,
            items,
            mean: mean as f32,
            std: std as f32,
            neighbourhood: None,
        };
        solver.check(&self.options, self.ratings, &parameters)?;
        let measured = solver.measure(self.ratings, &parameters)?;
        let mut state = State {
            moving: Moving {
                parameters,
                carried: Vec::new(),
            },
            best: None,
            history: Vec::new(),
            paces: Vec::new(),
        };
        self.record(&mut state, measured, began)?;
        Ok(state)
    }

    /// Whether predictions start from the mean of the ratings: not by themselves where the loss that the options name knows a
    /// zero. One that only the solver knows is the solver's business.
    fn is_centred(options: &Options, solver: &dyn Solver) -> bool {
        let of_residual =
            || loss::named_or_formula(&options.loss).map_or(true, |loss| loss::of_residual(&*loss));
        options.normalize || options.biases && solver.may_centre() && of_residual()
    }

    /// How often ratings are read by user before training, to pick those that are high enough and to normalise them.
    fn passes_to_normalise(options: &Options, solver: &dyn Solver) -> u64 {
        let passes = [
            options.positive_at.is_some(),
            Self::is_centred(options, solver),
            options.normalize,
        ];
        passes.map(u64::from).iter().sum()
    }

    /// The mean that predictions start from, and their unit. A loss of signs or counts is given them as they are, unless
    /// they are normalised at the caller's will: its biases find the level.
    fn normalisation(&self, count: f64, solver: &dyn Solver) -> Result<(f64, f64)> {
        if count == 0.0 {
            let what = "there are no ratings to train on";
            return Err(Error::new(ErrorKind::BadInput, what));
        }
        let mean = match Self::is_centred(&self.options, solver) {
            true => self.sum_of(|r| r)? / count,
            false => 0.0,
        };
        let std = match self.options.normalize {
            true => (self.sum_of(|r| (r - mean) * (r - mean))? / count).sqrt(),
            false => 1.0,
        };
        if std == 0.0 {
            let what = "all ratings are equal: they cannot be normalised to variance 1";
            return Err(Error::new(ErrorKind::BadOption, what));
        }
        Ok((mean, std))
    }

    /// The sum of a term over all ratings.
    fn sum_of(&self, term: impl Fn(f64) -> f64 + Sync) -> Result<f64> {
        let sums = sum_rows(self.ratings, Side::Users, |_, row, _| RowSums {
            loss: row.values.iter().map(|&r| term(r.into())).sum(),
            ..RowSums::default()
        })?;
        Ok(sums.loss)
    }

    /// Random factors, each row keyed by its own id: a new rating that renumbers all rows leaves their starts as they were.
    fn random(&self, side: Side, init: Init) -> Result<Factors> {
        let Options {
            rank, biases, seed, ..
        } = self.options;
        let purpose = match side {
            Side::Users => Purpose::UserFactors,
            Side::Items => Purpose::ItemFactors,
        };
        let rows = self.ratings.shape().rows(side);
        let mut factors = self.placement.factors(side, rows, rank, biases)?;
        let scale = 1.0 / (rank as f64).sqrt();
        let draw = |row: usize, drawn: &mut [f32]| {
            let id = key(self.ratings.id(side, row).as_bytes());
            let mut stream = Stream::new(seed, purpose, 0, id);
            for x in &mut *drawn {
                *x = match init {
                    Init::Gaussian | Init::UnitRows => (scale * stream.normal()) as f32,
                    Init::Uniform => (0.1 + 0.8 * stream.uniform()) as f32,
                };
            }
            if init == Init::UnitRows {
                let squares = drawn.iter().map(|&x| f64::from(x) * f64::from(x));
                let length = squares.sum::<f64>().sqrt();
                for x in drawn {
                    *x = (f64::from(*x) / length) as f32;
                }
            }
        };
        let (stride, mut band) = (factors.stride(), factors.empty_band());
        for rows in factors.bands(0..rows) {
            factors.edit(rows.clone(), &mut band, |flat, _| {
                let drawn = flat.chunks_mut(IDS * stride);
                for (first, drawn) in rows.clone().step_by(IDS).zip(drawn) {
                    let rows = first..rows.end.min(first + IDS);
                    self.ratings.will_need_ids(side, rows.clone());
                    let drawn = drawn.par_chunks_exact_mut(stride).with_min_len(64);
                    let drawn = rows.into_par_iter().zip(drawn);
                    drawn.for_each(|(row, drawn)| draw(row, &mut drawn[..rank]));
                    self.ratings.done_with_ids(side);
                }
                Ok(())
            })?;
        }
        Ok(factors)
    }

    fn epoch(&self, solver: &dyn Solver, state: &mut State) -> Result<()> {
        let progress = self.progress;
        let epoch = state.epochs() + 1;
        if self.options.early_stop.is_some() && state.best_epoch() == Some(state.epochs()) {
            state.best = Some(state.moving.parameters.clone());
        }
        let work = self.ratings.shape().ratings * solver.ticks();
        progress.begin(&format!("epoch {epoch}"), Some(work), Unit::Ratings);
        let began = Began::now(self.ratings_read(), state.moving.parameters.traffic());
        let measured = solver.epoch(epoch, self.ratings, &mut state.moving, &|n| {
            progress.advance(n)
        })?;
        progress.end();
        let losses = || state.history.iter().map(|e| e.loss);
        let (first, before) = (state.history[0].loss, state.history[epoch - 1].loss);
        // Tenfold from the lowest, unless that is rounding noise beside what the loss was at first.
        let lowest = losses().fold(first, f64::min).max(1e-6 * first);
        if !measured.cost.is_finite() || measured.cost > 10.0 * lowest {
            return Err(self.diverged(solver, epoch, before, measured.cost));
        }
        self.record(state, measured, began)?;
        if self.options.early_stop.is_some() && state.best_epoch() == Some(epoch) {
            state.best = None;
        }
        Ok(())
    }

    fn record(&self, state: &mut State, measured: solver::Measured, began: Began) -> Result<()> {
        let seconds = began.at.elapsed().as_secs_f64();
        let count = self.ratings.shape().ratings as f64;
        let rmse = |part: Option<&dyn Ratings>| -> Result<Option<f64>> {
            let Some(part) = part else { return Ok(None) };
            let squares = squared_errors(part, &state.moving.parameters)?;
            Ok(Some((squares / part.shape().ratings as f64).sqrt()))
        };
        let line = Epoch {
            epoch: state.history.len(),
            loss: measured.cost,
            train_rmse: measured.rmse,
            validation_rmse: rmse(self.validation)?,
            test_rmse: rmse(self.test)?,
            watched: match &self.watch {
                Some(measure) => Some(measure(&state.moving.parameters)?),
                None => None,
            },
        };
        state.history.push(line);
        let parameters = &state.moving.parameters;
        let (traffic, usage) = (
            parameters.traffic() - began.traffic,
            Usage::now() - began.usage,
        );
        state.paces.push(Pace {
            seconds,
            ratings_per_second: count / seconds,
            ratings_read: self.ratings_read() - began.ratings_read,
            factors_read: traffic.read,
            factors_reread: traffic.read.saturating_sub(parameters.spilled_bytes()),
            factors_written: traffic.written,
            waited: traffic.waited.as_secs_f64(),
            disk_read: usage.disk_read,
            page_faults: usage.page_faults,
        });
        Ok(())
    }

    /// Bytes of ratings read so far, of all parts.
    fn ratings_read(&self) -> u64 {
        let held_out = [self.validation, self.test].into_iter().flatten();
        let parts = held_out.map(|part| part.bytes_read());
        self.ratings.bytes_read() + parts.sum::<u64>()
    }

    fn diverged(&self, solver: &dyn Solver, epoch: usize, before: f64, now: f64) -> Error {
        let what = format!(
            "training diverged in epoch {epoch}: the loss went from {before:.6e} to {now:.6e}"
        );
        let error = Error::new(ErrorKind::Diverged, what);
        let rates = &self.options.learning_rates;
        match rates.get(epoch - 1).or(rates.last()) {
            Some(rate) => {
                let remedy = format!(
                    "nothing was written; try a lower --learning-rate, such as {}",
                    rate / 4.0
                );
                error.remedy(match solver.steadier() {
                    Some(option) => format!("{remedy}, or {option}"),
                    None => remedy,
                })
            }
            None => error.remedy("nothing was written; try a higher --regularization"),
        }
    }
}
