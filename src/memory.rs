//! The memory budget: what is available, what a piece of work will hold, and the refusal before it starts.

use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// A number of bytes, written and read as people do: `512MiB`, `1.5GiB`, `64M`.
///
/// `K`, `M`, `G`, `T` alone and with `iB` are powers of 1024, with `B` powers of 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = Error;

    fn from_str(text: &str) -> Result<Bytes> {
        let bad = || {
            Error::new(ErrorKind::BadOption, format!("{text:?} is not a size"))
                .remedy("write it like 512MiB or 2GiB")
        };
        let text = text.trim();
        let digits = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let number: f64 = text[..digits].parse().map_err(|_| bad())?;
        let unit = match text[digits..].trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1.0,
            "k" | "kib" => 1024.0,
            "m" | "mib" => 1024.0 * 1024.0,
            "g" | "gib" => 1024.0 * 1024.0 * 1024.0,
            "t" | "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
            "kb" => 1e3,
            "mb" => 1e6,
            "gb" => 1e9,
            "tb" => 1e12,
            _ => return Err(bad()),
        };
        let bytes = number * unit;
        if bytes >= 1.0 && bytes < u64::MAX as f64 {
            Ok(Bytes(bytes as u64))
        } else {
            Err(bad())
        }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0 as f64;
        let mut unit = "B";
        for next in ["KiB", "MiB", "GiB", "TiB"] {
            if value < 1024.0 {
                break;
            }
            value /= 1024.0;
            unit = next;
        }
        if unit == "B" || value.fract() == 0.0 {
            write!(f, "{value} {unit}")
        } else {
            write!(f, "{value:.1} {unit}")
        }
    }
}

/// How much memory the process may use: what the machine has available, or less where a container says so.
pub fn available() -> Bytes {
    let machine = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| parse_meminfo(&text));
    let container = fs::read_to_string("/proc/self/cgroup")
        .ok()
        .and_then(|text| cgroup_limit(&text, Path::new("/sys/fs/cgroup")));
    // Where neither can be told, assume a small machine rather than a large one.
    let bytes = machine.into_iter().chain(container).min();
    Bytes(bytes.unwrap_or(2 << 30))
}

fn parse_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find(|l| l.starts_with("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// The lowest limit on the way from the process's group to the root, for cgroup v1 and v2.
fn cgroup_limit(groups: &str, root: &Path) -> Option<u64> {
    let mut lowest = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (top, file) = if controllers.is_empty() {
            (root.to_owned(), "memory.max")
        } else if controllers.split(',').any(|c| c == "memory") {
            (root.join("memory"), "memory.limit_in_bytes")
        } else {
            continue;
        };
        let mut at = top.join(group.trim_start_matches('/'));
        while at.starts_with(&top) {
            let limit = fs::read_to_string(at.join(file))
                .ok()
                .and_then(|text| text.trim().parse::<u64>().ok());
            lowest = lowest.into_iter().chain(limit).min();
            at.pop();
        }
    }
    lowest
}

const MIB: u64 = 1 << 20;

/// What a piece of work will hold in memory, held against its budget before it starts.
#[derive(Debug, Clone)]
pub struct Plan {
    budget: Bytes,
    parts: Vec<(&'static str, u64)>,
}

impl Plan {
    /// The program, its stacks and the buffers of its libraries.
    pub(crate) const PROGRAM: u64 = 12 << 20;

    /// An empty plan.
    pub fn new(budget: Bytes) -> Plan {
        Plan {
            budget,
            parts: vec![("the program", Self::PROGRAM)],
        }
    }

    /// The budget for `memory`, or half of what is available.
    pub fn within(memory: Option<Bytes>) -> Plan {
        Plan::new(memory.unwrap_or_else(|| Bytes(available().0 / 2)))
    }

    /// Adds something that stays in memory all along.
    pub fn hold(&mut self, what: &'static str, bytes: u64) {
        self.parts.push((what, bytes));
    }

    /// What is held, by name.
    pub fn parts(&self) -> &[(&'static str, u64)] {
        &self.parts
    }

    /// The budget that the plan is held against.
    pub fn budget(&self) -> Bytes {
        self.budget
    }

    /// The sum of what is held.
    pub fn total(&self) -> Bytes {
        let parts = self.parts.iter().map(|(_, bytes)| *bytes);
        Bytes(parts.fold(0, u64::saturating_add))
    }

    /// What the budget leaves beyond what is held.
    ///
    /// # Errors
    /// If what is held and `at_least` so much more does not fit; the error names the smallest budget that would do.
    pub fn rest(&self, at_least: u64) -> Result<u64> {
        let needed = self.total().0.saturating_add(at_least);
        if needed <= self.budget.0 {
            return Ok(self.budget.0 - self.total().0);
        }
        let mut parts: Vec<_> = self.parts.iter().filter(|(_, b)| *b > 0).collect();
        parts.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        let parts: Vec<_> = parts
            .iter()
            .map(|(what, bytes)| format!("{what} {}", Bytes(*bytes)))
            .collect();
        let enough = Bytes(needed.div_ceil(MIB).saturating_mul(MIB));
        Err(Error::new(
            ErrorKind::OverBudget,
            format!(
                "this takes {enough} of memory ({}), and the budget is {}",
                parts.join(", "),
                self.budget
            ),
        )
        .remedy(would_do(needed)))
    }
}

/// The advice to allow so many bytes: in whole MiB, since a number of GiB would be rounded, and down as often as up.
pub(crate) fn would_do(bytes: u64) -> String {
    format!("--memory {}MiB would do", bytes.div_ceil(MIB))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written_as_people_do() {
        for (text, bytes) in [
            ("512MiB", 512 << 20),
            ("1.5 GiB", 3 << 29),
            ("64M", 64 << 20),
            ("2kb", 2000),
            ("100", 100),
        ] {
            assert_eq!(text.parse::<Bytes>().unwrap().0, bytes, "{text}");
        }
        for text in ["", "MiB", "-1", "12 parsecs", "0", "1e3", "99999999999TiB"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
        assert_eq!(Bytes(512 << 20).to_string(), "512 MiB");
        assert_eq!(Bytes(1_500_000).to_string(), "1.4 MiB");
        assert_eq!(Bytes(17).to_string(), "17 B");
    }

    #[test]
    fn the_container_with_the_lowest_limit_counts() {
        let root = tempfile::tempdir().unwrap();
        let v1 = root.path().join("memory/outer/inner");
        fs::create_dir_all(&v1).unwrap();
        fs::write(v1.join("memory.limit_in_bytes"), "9223372036854771712\n").unwrap();
        fs::write(v1.join("../memory.limit_in_bytes"), "1000\n").unwrap();
        let v2 = root.path().join("group");
        fs::create_dir_all(&v2).unwrap();
        fs::write(v2.join("memory.max"), "max\n").unwrap();
        let groups = "4:cpu,memory:/outer/inner\n1:name=systemd:/\n0::/group\n";
        assert_eq!(cgroup_limit(groups, root.path()), Some(1000));
        fs::write(v2.join("memory.max"), "500\n").unwrap();
        assert_eq!(cgroup_limit(groups, root.path()), Some(500));
        assert_eq!(cgroup_limit("", root.path()), None);
        assert_eq!(
            parse_meminfo("MemFree: 1 kB\nMemAvailable:  3 kB\n"),
            Some(3072)
        );
    }

    #[test]
    fn a_plan_that_does_not_fit_names_the_budget_that_would() {
        let mut plan = Plan::new(Bytes(100 << 20));
        plan.hold("user factors", 80 << 20);
        assert_eq!(plan.rest(8 << 20).unwrap(), 8 << 20);
        plan.hold("item factors", 30 << 20);
        let error = plan.rest(0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OverBudget);
        assert!(
            error.to_string().ends_with("--memory 122MiB would do"),
            "{error}"
        );
        let enough = Plan {
            budget: Bytes(122 << 20),
            ..plan
        };
        assert_eq!(enough.rest(0).unwrap(), 0);
    }

    #[test]
    fn the_budget_that_is_named_is_not_rounded_down() {
        for bytes in [1_u64 << 20, (1540 << 20) - 7, (1540 << 20) + 7, 5 << 40] {
            let advice = would_do(bytes);
            let named = advice.strip_prefix("--memory ").unwrap();
            let named: Bytes = named.strip_suffix(" would do").unwrap().parse().unwrap();
            assert!((bytes..bytes + (1 << 20)).contains(&named.0), "{advice}");
        }
    }
}
