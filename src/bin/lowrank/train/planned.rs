//! The plan of a training: what it holds in memory, what it streams, and how long the disk will take.

use lowrank::matrix::Side;
use lowrank::memory::{Bytes, Plan};
use lowrank::store::{ScratchFile, Store};
use lowrank::train::{Forecast, Placement, Transfer};
use lowrank::{Error, Result};
use serde::Serialize;

use crate::session::{Session, aligned};

/// All that is told before work starts.
pub struct Planned<'a> {
    plan: &'a Plan,
    placement: &'a Placement,
    forecast: &'a Forecast,
    speeds: Speeds,
}

/// Bytes that a disk reads in a second, of what is read from it.
#[derive(Debug, Clone, Copy, Serialize)]
struct Speeds {
    ratings: Option<f64>,
    factors: Option<f64>,
}

impl Speeds {
    fn seconds(self, transfer: Transfer) -> f64 {
        let seconds = |bytes: u64, speed: Option<f64>| speed.map_or(0.0, |x| bytes as f64 / x);
        seconds(transfer.ratings_read, self.ratings) + seconds(transfer.factors(), self.factors)
    }
}

impl<'a> Planned<'a> {
    /// Measures how fast the disks are that anything is streamed from.
    ///
    /// # Errors
    /// If that cannot be measured.
    pub fn new(
        plan: &'a Plan,
        placement: &'a Placement,
        forecast: &'a Forecast,
        store: &Store,
    ) -> Result<Planned<'a>> {
        let measured = |streams: bool, speed: &dyn Fn() -> Result<f64>| match streams {
            true => speed().map(Some),
            false => Ok::<_, Error>(None),
        };
        let speeds = Speeds {
            ratings: measured(forecast.streams_ratings(), &|| store.speed())?,
            factors: measured(!placement.is_in_memory(), &|| {
                ScratchFile::speed(&placement.folder)
            })?,
        };
        Ok(Planned {
            plan,
            placement,
            forecast,
            speeds,
        })
    }

    /// Prints the plan on standard output.
    ///
    /// # Errors
    /// If standard output cannot be written to.
    pub fn print(&self, session: &Session) -> Result<()> {
        #[derive(Serialize)]
        struct Printed<'a> {
            budget_bytes: u64,
            total_bytes: u64,
            parts: &'a [(&'static str, u64)],
            streamed: Vec<&'static str>,
            forecast: &'a Forecast,
            disk_bytes_per_second: Speeds,
            disk_seconds: f64,
            disk_seconds_once: f64,
        }
        let printed = Printed {
            budget_bytes: self.plan.budget().0,
            total_bytes: self.plan.total().0,
            parts: self.plan.parts(),
            streamed: self.sides(),
            forecast: self.forecast,
            disk_bytes_per_second: self.speeds,
            disk_seconds: self.speeds.seconds(self.forecast.epoch),
            disk_seconds_once: self.speeds.seconds(self.forecast.all_once()),
        };
        let text = |(what, bytes): &(&'static str, u64)| (*what, Bytes(*bytes).to_string());
        let mut lines: Vec<_> = self.plan.parts().iter().map(text).collect();
        lines.push(("in all", self.plan.total().to_string()));
        lines.push(("budget", self.plan.budget().to_string()));
        lines.extend(self.streams());
        session.print(&printed, aligned(&lines))
    }

    /// For people: the part of the plan that is about the disk, or a line if everything stays in memory.
    pub fn text(&self) -> String {
        let (total, budget) = (self.plan.total(), self.plan.budget());
        match self.forecast.streams() {
            true => aligned(&self.streams()).trim_end().to_owned(),
            false => format!("all in memory: {total} and the ratings, within {budget}"),
        }
    }

    fn streams(&self) -> Vec<(&'static str, String)> {
        if !self.forecast.streams() {
            return vec![("streamed", "nothing".to_owned())];
        }
        let Forecast {
            passes,
            epoch,
            once,
            tiles_written,
            spilled,
        } = *self.forecast;
        let bytes = |bytes: u64| Bytes(bytes).to_string();
        let mut lines = vec![
            ("passes an epoch", passes.to_string()),
            ("ratings read", bytes(epoch.ratings_read)),
        ];
        if !self.placement.is_in_memory() {
            lines.extend([
                ("factors on disk", self.sides().join(" and ")),
                ("bytes spilled", bytes(spilled)),
                ("factors read", bytes(epoch.factors_read)),
                ("factors written", bytes(epoch.factors_written)),
            ]);
        }
        if tiles_written > 0 {
            lines.push(("tiles written", bytes(tiles_written)));
        }
        lines.push(("transferred once", bytes(once.total())));
        let (seconds, at_first) = (
            self.speeds.seconds(epoch),
            self.speeds.seconds(self.forecast.all_once()),
        );
        let speeds = [
            ("ratings", self.speeds.ratings),
            ("factors", self.speeds.factors),
        ];
        let told = speeds.iter().filter_map(|(what, speed)| {
            let speed = Bytes((*speed)? as u64);
            Some(format!("{what} at {speed}/s"))
        });
        let told: Vec<_> = told.collect();
        lines.push((
            "disk",
            format!(
                "{seconds:.1} s an epoch and {at_first:.1} s once, {}",
                told.join(" and ")
            ),
        ));
        lines
    }

    /// The sides whose factors are on disk.
    fn sides(&self) -> Vec<&'static str> {
        let sides = [(Side::Users, "users"), (Side::Items, "items")];
        let spilled = sides
            .into_iter()
            .filter(|(side, _)| self.placement.room(*side).is_some());
        spilled.map(|(_, name)| name).collect()
    }
}
