//! Progress bars on standard error, for what takes longer than a second.

use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lowrank::progress::{Progress, Unit};

/// One bar at a time; none where standard error is no terminal.
pub struct Bars {
    shown: bool,
    current: Mutex<Option<Bar>>,
}

struct Bar {
    bar: ProgressBar,
    began: Instant,
    visible: bool,
}

const PATIENCE: Duration = Duration::from_secs(1);

impl Bars {
    /// No bars at all if `quiet`.
    pub fn new(quiet: bool) -> Bars {
        Bars {
            shown: !quiet && io::stderr().is_terminal(),
            current: Mutex::new(None),
        }
    }

    /// Prints a line above the bar.
    pub fn println(&self, line: &str) {
        match &*self.current.lock().expect("no holder panics") {
            Some(current) => current.bar.suspend(|| complain(line)),
            None => complain(line),
        }
    }
}

/// Writes a line to standard error. If nobody reads that, there is nobody to tell.
pub fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

impl Progress for Bars {
    fn begin(&self, stage: &str, total: Option<u64>, unit: Unit) {
        if !self.shown {
            return;
        }
        let (count, rate) = match unit {
            Unit::Bytes => ("{bytes}", "{binary_bytes_per_sec}"),
            Unit::Ratings => ("{human_pos} ratings", "{per_sec}"),
            Unit::Users => ("{human_pos} users", "{per_sec}"),
        };
        let template = match total {
            Some(_) => format!("{{msg:16}} {{wide_bar}} {{percent:>3}}%  {rate}  {{eta}} left"),
            None => format!("{{msg:16}} {count}  {rate}  {{elapsed}}"),
        };
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        let style = ProgressStyle::with_template(&template).expect("a template of ours");
        bar.set_style(style);
        bar.set_message(stage.to_owned());
        let began = Instant::now();
        *self.current.lock().expect("no holder panics") = Some(Bar {
            bar,
            began,
            visible: false,
        });
    }

    fn advance(&self, amount: u64) {
        if !self.shown {
            return;
        }
        if let Some(current) = &mut *self.current.lock().expect("no holder panics") {
            if !current.visible && current.began.elapsed() > PATIENCE {
                current.bar.set_draw_target(ProgressDrawTarget::stderr());
                current.visible = true;
            }
            current.bar.inc(amount);
        }
    }

    fn end(&self) {
        if let Some(current) = self.current.lock().expect("no holder panics").take() {
            current.bar.finish_and_clear();
        }
    }
}
