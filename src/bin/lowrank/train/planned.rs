//! The plan of a training: what it holds in memory, what it streams, and how long the disk will take.

use lowrank::Result;
use lowrank::matrix::Side;
use lowrank::memory::{Bytes, Plan};
use lowrank::store::ScratchFile;
use lowrank::train::{Forecast, Placement};
use serde::Serialize;

use crate::session::{Session, aligned};

/// Prints the plan on standard output.
///
/// # Errors
/// If the disk's speed cannot be measured, or standard output cannot be written to.
pub fn print(
    plan: &Plan,
    placement: &Placement,
    forecast: &Forecast,
    session: &Session,
) -> Result<()> {
    #[derive(Serialize)]
    struct Planned<'a> {
        budget_bytes: u64,
        total_bytes: u64,
        parts: &'a [(&'static str, u64)],
        streamed: Vec<&'static str>,
        forecast: &'a Forecast,
        disk_bytes_per_second: Option<f64>,
        disk_seconds: Option<f64>,
    }
    let speed = speed(placement)?;
    let planned = Planned {
        budget_bytes: plan.budget().0,
        total_bytes: plan.total().0,
        parts: plan.parts(),
        streamed: streamed(placement),
        forecast,
        disk_bytes_per_second: speed,
        disk_seconds: speed.map(|speed| forecast.transferred() as f64 / speed),
    };
    let text = |(what, bytes): &(&'static str, u64)| (*what, Bytes(*bytes).to_string());
    let mut lines: Vec<_> = plan.parts().iter().map(text).collect();
    lines.push(("in all", plan.total().to_string()));
    lines.push(("budget", plan.budget().to_string()));
    lines.extend(streams(placement, forecast, speed));
    session.print(&planned, aligned(&lines))
}

/// The part of the plan that is about the disk, for people.
///
/// # Errors
/// If the disk's speed cannot be measured.
pub fn text(placement: &Placement, forecast: &Forecast) -> Result<String> {
    let lines = streams(placement, forecast, speed(placement)?);
    Ok(aligned(&lines).trim_end().to_owned())
}

fn streams(
    placement: &Placement,
    forecast: &Forecast,
    speed: Option<f64>,
) -> Vec<(&'static str, String)> {
    let streamed = match streamed(placement).as_slice() {
        [] => "nothing".to_owned(),
        sides => sides.join(" and "),
    };
    let mut lines = vec![
        ("factors on disk", streamed),
        ("bytes spilled", Bytes(forecast.spilled).to_string()),
        ("passes an epoch", forecast.passes.to_string()),
        ("ratings read", Bytes(forecast.ratings_read).to_string()),
        ("factors read", Bytes(forecast.factors_read).to_string()),
        (
            "factors written",
            Bytes(forecast.factors_written).to_string(),
        ),
    ];
    if let Some(speed) = speed {
        let seconds = forecast.transferred() as f64 / speed;
        let rate = Bytes(speed as u64);
        lines.push(("disk", format!("{seconds:.1} s an epoch at {rate}/s")));
    }
    lines
}

fn streamed(placement: &Placement) -> Vec<&'static str> {
    let sides = [(Side::Users, "users"), (Side::Items, "items")];
    let spilled = sides
        .into_iter()
        .filter(|(side, _)| placement.room(*side).is_some());
    spilled.map(|(_, name)| name).collect()
}

/// Bytes that the disk reads in a second, if any factors lie there.
fn speed(placement: &Placement) -> Result<Option<f64>> {
    match placement.is_in_memory() {
        true => Ok(None),
        false => ScratchFile::speed(&placement.folder).map(Some),
    }
}
