//! Which options suit some ratings: trials, each a training that is measured on the validation part.
//!
//! What a trial tries is a function of the seed and its number, and a training is one of its options; so a search that was
//! interrupted goes on with the trials that are missing, to the same end. Successive halving gives all trials a few epochs,
//! the better ones more, and the best all of them (Jamieson, Talwalkar: Non-stochastic best arm identification and
//! hyperparameter optimization, AISTATS 2016). Every training stops early on the metric that decides.

mod convoy;
mod cross_validate;
mod side_by_side;
mod space;

use std::sync::Mutex;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::Map;

pub use cross_validate::{CrossValidation, Fold};
pub use space::{Choice, Space, Values};

use crate::error::{Error, ErrorKind, Result};
use crate::evaluate::{Target, Watch};
use crate::matrix::Ratings;
use crate::progress::Progress;
use crate::solver::Options;
use crate::store::{Part, Store, trim_heap};
use crate::threads::Threads;
use crate::train::Trainer;

/// In which order what is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Search {
    /// So many trials, drawn.
    Random(usize),
    /// Every combination.
    Grid,
    /// So many trials, drawn, of which one in `keep` goes on to `keep` times the epochs, and so on.
    Halving {
        /// Trials to begin with.
        trials: usize,
        /// One in how many goes on.
        keep: usize,
    },
}

/// A training and what it came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// Its number, from 0.
    pub trial: usize,
    /// How many epochs it was given.
    pub epochs: usize,
    /// What it tried, by the options' names on the command line.
    pub options: Choice,
    /// The metric on the validation part after the best epoch; nothing if training failed.
    pub value: Option<f64>,
    /// The best epoch.
    pub epoch: usize,
    /// Seconds that it took, those among them that others took who went side by side with it.
    pub seconds: f64,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// A search for the options that do best on the validation part of a store.
#[derive(Debug)]
pub struct Tuner<'a> {
    /// The ratings.
    pub store: &'a Store,
    /// What all trials have in common; its epochs are the most that a trial is given.
    pub base: Options,
    /// What is tried.
    pub space: Space,
    /// In which order.
    pub search: Search,
    /// What decides.
    pub target: Target,
    /// Epochs without a better value after which a trial stops.
    pub patience: usize,
    /// How many trials of a round go side by side at most, as [`plan`](Tuner::plan) tells. It changes no result.
    pub side_by_side: usize,
}

/// A trial that is to be run.
#[derive(Clone, Copy)]
struct Task<'a> {
    number: usize,
    choice: &'a Choice,
    epochs: usize,
}

impl Task<'_> {
    /// Whether this is what came of it.
    fn is_of(&self, trial: &Trial) -> bool {
        (trial.trial, trial.epochs, &trial.options) == (self.number, self.epochs, self.choice)
    }
}

/// What a trial goes over.
struct Over<'a> {
    ratings: &'a dyn Ratings,
    validation: &'a dyn Ratings,
    /// Held by whoever measures lists.
    measuring: &'a Mutex<()>,
}

impl Tuner<'_> {
    /// All options of a trial.
    ///
    /// # Errors
    /// If the space has an option that there is not, or a value that it cannot have.
    pub fn options(&self, choice: &Choice, epochs: usize) -> Result<Options> {
        let options = Options {
            early_stop: Some(self.patience),
            early_stop_metric: self.target.name(),
            epochs,
            ..self.base.overlaid(choice)?
        };
        Ok(options.resolved())
    }

    /// What is tried first, trial by trial.
    fn first(&self) -> Result<Vec<Choice>> {
        let drawn = |trials| {
            let draw = |trial| self.space.draw(self.base.seed, trial);
            (0..trials).map(draw).collect()
        };
        match self.search {
            Search::Random(trials) | Search::Halving { trials, .. } => Ok(drawn(trials)),
            Search::Grid => self.space.grid(),
        }
    }

    /// The epochs of each round.
    fn rounds(&self, trials: usize) -> Vec<usize> {
        let mut rounds = vec![self.base.epochs];
        if let Search::Halving { keep, .. } = self.search {
            let mut left = trials / keep;
            while left > 0 && rounds[0] / keep > 0 {
                rounds.insert(0, rounds[0] / keep);
                left /= keep;
            }
        }
        rounds
    }

    /// Runs all trials but those that are `done`; `after` is shown all that are, in order, and the one that was done last,
    /// after each. Gives all, in order.
    ///
    /// # Errors
    /// If the store has no validation part, the options do not fit together, or ratings cannot be read. A training that
    /// diverges is a trial that failed.
    pub fn run(
        &self,
        done: &[Trial],
        threads: &Threads,
        progress: &dyn Progress,
        mut after: impl FnMut(&[Trial], &Trial) -> Result<()>,
    ) -> Result<Vec<Trial>> {
        self.check()?;
        let mut trials: Vec<Trial> = Vec::new();
        let mut left: Vec<(usize, Choice)> = self.first()?.into_iter().enumerate().collect();
        let rounds = self.rounds(left.len());
        for (round, &epochs) in rounds.iter().enumerate() {
            let tasks: Vec<Task<'_>> = left
                .iter()
                .map(|(number, choice)| Task {
                    number: *number,
                    choice,
                    epochs,
                })
                .collect();
            let known = |task: &Task<'_>| done.iter().find(|trial| task.is_of(trial)).cloned();
            let mut of_round: Vec<Option<Trial>> = tasks.iter().map(known).collect();
            let missing: Vec<usize> = (0..tasks.len())
                .filter(|&at| of_round[at].is_none())
                .collect();
            for places in missing.chunks(self.side_by_side.max(1)) {
                let group: Vec<Task<'_>> = places.iter().map(|&at| tasks[at]).collect();
                self.run_group(&group, threads, progress, |at, trial| {
                    // Or the next trial would find room beside what this one has left behind.
                    trim_heap();
                    of_round[places[at]] = Some(trial.clone());
                    let so_far = trials.iter().chain(of_round.iter().flatten());
                    after(&so_far.cloned().collect::<Vec<_>>(), &trial)
                })?;
            }
            trials.extend(of_round.into_iter().flatten());
            if let (Search::Halving { keep, .. }, true) = (self.search, round + 1 < rounds.len()) {
                let mut of_round: Vec<&Trial> = trials
                    .iter()
                    .filter(|t| t.epochs == epochs && t.value.is_some())
                    .collect();
                of_round.sort_by(|a, b| self.order(a, b));
                of_round.truncate((left.len() / keep).max(1));
                let mut best: Vec<usize> = of_round.iter().map(|t| t.trial).collect();
                best.sort_unstable();
                left.retain(|(number, _)| best.binary_search(number).is_ok());
            }
        }
        Ok(trials)
    }

    /// Checks that there is something to search and to measure.
    ///
    /// # Errors
    /// If the store has no validation part, no trial is asked for, or the metric is of lists longer than the catalogue.
    pub fn check(&self) -> Result<()> {
        self.target.check(self.store.shape().items)?;
        let bad = |what: &str, remedy: &str| {
            Err(Error::new(ErrorKind::BadOption, what).remedy(remedy.to_owned()))
        };
        if self
            .store
            .part(Part::Validation)
            .is_none_or(|p| p.ratings() == 0)
        {
            return bad(
                "trials are measured on a validation part, and the store has none",
                "make one with lowrank split --validation-fraction 0.1",
            );
        }
        match self.search {
            Search::Random(0) | Search::Halving { trials: 0, .. } => {
                bad("a search has at least one trial", "give a higher --trials")
            }
            Search::Halving { keep: 0 | 1, .. } => bad(
                "halving leaves out some of the trials",
                "give --keep-one-in 2 or more",
            ),
            _ => Ok(()),
        }
    }

    fn trial(
        &self,
        task: &Task<'_>,
        over: Over<'_>,
        threads: &Threads,
        progress: &dyn Progress,
    ) -> Result<Trial> {
        let began = Instant::now();
        let options = self.options(task.choice, task.epochs)?;
        let watch = Watch::new(self.store, &options)?.map(|watch| watch.in_turn(over.measuring));
        let trainer = Trainer::new(over.ratings, options)
            .validation(Some(over.validation))
            .watch(watch.as_ref())
            .progress(progress);
        let mut trial = Trial {
            trial: task.number,
            epochs: task.epochs,
            options: task.choice.clone(),
            value: None,
            epoch: 0,
            seconds: 0.0,
            failure: None,
        };
        match trainer.run(threads) {
            Ok(state) => {
                trial.epoch = state.best_epoch().unwrap_or(0);
                let epoch = state.history[trial.epoch];
                trial.value = epoch.watched.or(epoch.validation_rmse);
            }
            Err(e) if matches!(e.kind(), ErrorKind::Diverged | ErrorKind::Singular) => {
                trial.failure = Some(e.to_string());
            }
            Err(e) => return Err(e),
        }
        trial.seconds = began.elapsed().as_secs_f64();
        Ok(trial)
    }

    /// The better trial first, the earlier one if both are as good.
    fn order(&self, a: &Trial, b: &Trial) -> std::cmp::Ordering {
        let badness = |trial: &Trial| match (trial.value, self.target.rises()) {
            (None, _) => f64::INFINITY,
            (Some(value), true) => -value,
            (Some(value), false) => value,
        };
        badness(a)
            .total_cmp(&badness(b))
            .then(a.trial.cmp(&b.trial))
    }

    /// All trials, those with more epochs and the better ones first.
    pub fn ranked<'t>(&self, trials: &'t [Trial]) -> Vec<&'t Trial> {
        let mut ranked: Vec<&Trial> = trials.iter().collect();
        ranked.sort_by(|a, b| b.epochs.cmp(&a.epochs).then_with(|| self.order(a, b)));
        ranked
    }

    /// The best of the trials that were given all epochs.
    pub fn best<'t>(&self, trials: &'t [Trial]) -> Option<&'t Trial> {
        trials
            .iter()
            .filter(|t| t.epochs == self.base.epochs && t.value.is_some())
            .min_by(|a, b| self.order(a, b))
    }

    /// The options of a trial for a training of its own: those that differ from a training without options, by their names,
    /// with as many epochs as did best.
    ///
    /// # Errors
    /// As [`options`](Tuner::options).
    pub fn found(&self, trial: &Trial) -> Result<Choice> {
        let usual = Options {
            solver: self.base.solver.clone(),
            ..Options::default()
        };
        let found = Options {
            epochs: trial.epoch.max(1),
            ..self.base.overlaid(&trial.options)?
        };
        let differs = |(name, value): &(String, serde_json::Value)| {
            name == "solver" || usual.named().get(name) != Some(value)
        };
        let found: Map<_, _> = found.named().into_iter().filter(differs).collect();
        Ok(found)
    }
}
