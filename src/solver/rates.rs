//! Learning rates by epoch.

use super::Options;
use crate::error::{Error, ErrorKind, Result};

/// A rate for each epoch, or one that decays.
#[derive(Debug, Clone)]
pub struct Rates {
    given: Vec<f32>,
    decay: f32,
}

impl Rates {
    /// The rates that the options give, none perhaps.
    ///
    /// # Errors
    /// If they are several, but too few for all epochs.
    pub fn given(options: &Options) -> Result<Rates> {
        let given = &options.learning_rates;
        if given.len() > 1 && given.len() < options.epochs {
            let what = format!(
                "{} learning rates are too few for {} epochs",
                given.len(),
                options.epochs
            );
            return Err(Error::new(ErrorKind::BadOption, what)
                .remedy("give one for each epoch, or a single one for all"));
        }
        Ok(Rates {
            given: given.clone(),
            decay: options.learning_rate_decay,
        })
    }

    /// Whether none are given.
    pub fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    /// The rate of an epoch, from 1 on, or none if none are given.
    pub fn at(&self, epoch: usize) -> Option<f32> {
        self.given
            .get(epoch - 1)
            .or(self.given.last())
            .map(|&rate| self.decayed(rate, epoch))
    }

    /// A rate as it is in an epoch, from 1 on.
    pub fn decayed(&self, rate: f32, epoch: usize) -> f32 {
        rate / (1.0 + self.decay * (epoch - 1) as f32)
    }
}
