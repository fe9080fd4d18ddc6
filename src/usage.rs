//! What the system has counted of this process.

use std::fs;
use std::ops::Sub;

/// Counts since the process began. What the system does not tell counts as nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Pages that were looked at and had to be read from a disk: mapped files, that is.
    pub page_faults: u64,
    /// Bytes that were read from a disk, be they asked for or mapped.
    pub disk_read: u64,
}

impl Usage {
    /// The counts by now.
    pub fn now() -> Usage {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Usage {
            page_faults: major_faults(&read("/proc/self/stat")).unwrap_or(0),
            disk_read: read_bytes(&read("/proc/self/io")).unwrap_or(0),
        }
    }
}

impl Sub for Usage {
    type Output = Usage;

    fn sub(self, before: Usage) -> Usage {
        Usage {
            page_faults: self.page_faults.saturating_sub(before.page_faults),
            disk_read: self.disk_read.saturating_sub(before.disk_read),
        }
    }
}

/// The twelfth field; the second is a name in parentheses, which may hold anything.
fn major_faults(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(9)?.parse().ok()
}

fn read_bytes(io: &str) -> Option<u64> {
    let line = io.lines().find_map(|line| line.strip_prefix("read_bytes:"));
    line?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_found_among_others() {
        let stat = "12 (a) b) R 1 2 3 4 5 6 777 8 99 10 11";
        assert_eq!(major_faults(stat), Some(99));
        let io = "rchar: 5\nread_bytes: 4096\nwrite_bytes: 1\n";
        assert_eq!(read_bytes(io), Some(4096));
        assert_eq!((major_faults(""), read_bytes("")), (None, None));
    }
}
