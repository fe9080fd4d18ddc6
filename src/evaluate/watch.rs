//! What early stopping and tuning look at: one metric on the validation part, epoch by epoch.

use std::sync::{Mutex, PoisonError};

use super::{Measure, Metric, Protocol, metric, ranking_of_parameters};
use crate::error::{Error, ErrorKind, Result};
use crate::matrix::Shape;
use crate::solver::{Learns, Options, Parameters};
use crate::store::{Part, Store};

/// A metric that decides, such as `rmse` or `ndcg@20`.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    metric: &'static Metric,
    cut_off: usize,
}

impl Target {
    /// The recommendations that count where nothing is said.
    const CUT_OFF: usize = 10;

    /// What decides where nothing is said, by what a method's predictions tell.
    pub fn usual(learns: Learns) -> Target {
        let name = match learns {
            Learns::Ratings => "rmse",
            Learns::Preferences | Learns::Popularity => "ndcg",
        };
        Target::parse(name).expect("it is a metric that decides")
    }

    /// By its name, with its cut-off after an @.
    ///
    /// # Errors
    /// If there is no such metric, or it is not one that tells which model is better.
    pub fn parse(name: &str) -> Result<Target> {
        let bad = |what: String, remedy: &str| {
            Err(Error::new(ErrorKind::BadOption, what).remedy(remedy.to_owned()))
        };
        let (of, cut_off) = match name.split_once('@') {
            None => (name, None),
            Some((of, cut_off)) => (of, Some(cut_off)),
        };
        let metric = metric(of)?;
        let cut_off = match (metric.measure, cut_off.map(str::parse)) {
            (Measure::Ratings(_), None) if of == "rmse" => 0,
            (Measure::Ratings(_), None) => {
                return bad(
                    format!("{of} does not decide which epoch is best"),
                    "choose rmse, or a metric of recommendations such as ndcg@20",
                );
            }
            (Measure::Lists(_), None) => Self::CUT_OFF,
            (Measure::Lists(_), Some(Ok(cut_off @ 1..))) => cut_off,
            (Measure::Coverage, _) => {
                return bad(
                    "coverage alone does not tell which model is better".to_owned(),
                    "choose a metric such as ndcg@20",
                );
            }
            _ => {
                return bad(
                    format!("{name:?} is no metric with a cut-off"),
                    "write it as in ndcg@20, or rmse without one",
                );
            }
        };
        Ok(Target { metric, cut_off })
    }

    /// As it is written on the command line.
    pub fn name(&self) -> String {
        match self.cut_off {
            0 => self.metric.name.to_owned(),
            cut_off => format!("{}@{cut_off}", self.metric.name),
        }
    }

    /// Whether more is better.
    pub fn rises(&self) -> bool {
        self.cut_off > 0
    }

    /// Checks that there are lists to measure, of so many items.
    ///
    /// # Errors
    /// If its cut-off is longer than a list can be.
    pub fn check(&self, items: usize) -> Result<()> {
        match self.rises() {
            true => self.protocol(None).check(items),
            false => Ok(()),
        }
    }

    /// Memory that measuring takes beside the parameters, in bytes.
    pub fn memory(&self, shape: Shape, rank: usize, threads: usize) -> u64 {
        match self.rises() {
            true => self
                .protocol(None)
                .memory(shape, shape.items, rank, threads),
            false => 0,
        }
    }

    fn protocol(&self, positive_at: Option<f32>) -> Protocol<'_> {
        Protocol {
            metrics: std::slice::from_ref(&self.metric),
            cut_offs: std::slice::from_ref(&self.cut_off),
            part: Part::Validation,
            positive_at,
            sample: None,
        }
    }
}

/// Measures what early stopping looks at, where that is not the RMSE, which training measures by itself.
#[derive(Debug)]
pub struct Watch<'a> {
    store: &'a Store,
    target: Target,
    positive_at: Option<f32>,
    /// Held by the one that measures, of those that take turns.
    turn: Option<&'a Mutex<()>>,
}

impl<'a> Watch<'a> {
    /// What these options ask for.
    ///
    /// # Errors
    /// If there is no such metric.
    pub fn new(store: &'a Store, options: &Options) -> Result<Option<Watch<'a>>> {
        let target = Target::parse(&options.early_stop_metric)?;
        let watch = Watch {
            store,
            target,
            positive_at: options.positive_at,
            turn: None,
        };
        Ok((options.early_stop.is_some() && target.rises()).then_some(watch))
    }

    /// The same, which waits while another measures that was given the same to take turns by: so that the shards of one pass
    /// alone are in memory.
    #[must_use]
    pub fn in_turn(self, turn: &'a Mutex<()>) -> Watch<'a> {
        Watch {
            turn: Some(turn),
            ..self
        }
    }

    /// The metric of these parameters, which number rows as the store does. Runs on the thread pool it is called in.
    ///
    /// # Errors
    /// As [`ranking`](super::ranking).
    pub fn measure(&self, parameters: &Parameters) -> Result<f64> {
        // Nothing is guarded that a panic could have left half-done.
        let _turn = self
            .turn
            .map(|turn| turn.lock().unwrap_or_else(PoisonError::into_inner));
        let protocol = self.target.protocol(self.positive_at);
        let ranking = ranking_of_parameters(parameters, self.store, &protocol)?;
        Ok(ranking.figures[0].value)
    }
}
