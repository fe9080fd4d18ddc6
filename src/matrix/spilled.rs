//! Factors that lie in a file, of which bands of rows are in memory at a time.
//!
//! Reads and writes are explicit, by whole bands, so that their bytes can be planned and counted: what a memory map would
//! have written back, and when, could be neither.

use std::fmt;
use std::ops::{Add, Range, Sub};
use std::sync::Arc;
use std::time::Duration;

use super::Factors;
use crate::error::Result;

/// A file of floats that nobody else knows of, and that goes with its last user. It is made as large as it will be.
pub trait Scratch: fmt::Debug + Send + Sync {
    /// Reads the floats from number `at` on.
    ///
    /// # Errors
    /// If they cannot be read.
    fn read(&self, at: u64, into: &mut [f32]) -> Result<()>;

    /// Writes floats from number `at` on.
    ///
    /// # Errors
    /// If they cannot be written.
    fn write(&self, at: u64, floats: &[f32]) -> Result<()>;

    /// Another one, with the same content.
    ///
    /// # Errors
    /// If there is no room for it.
    fn copy(&self) -> Result<Box<dyn Scratch>>;

    /// What has gone in and out so far, through this one and its copies.
    fn traffic(&self) -> Traffic;
}

/// Bytes that went from a disk and to it, and how long that was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Bytes read.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
    /// Time that reads and writes took.
    pub waited: Duration,
}

impl Add for Traffic {
    type Output = Traffic;

    fn add(self, other: Traffic) -> Traffic {
        Traffic {
            read: self.read + other.read,
            written: self.written + other.written,
            waited: self.waited + other.waited,
        }
    }
}

impl Sub for Traffic {
    type Output = Traffic;

    fn sub(self, before: Traffic) -> Traffic {
        Traffic {
            read: self.read - before.read,
            written: self.written - before.written,
            waited: self.waited - before.waited,
        }
    }
}

/// What may be held in memory of a side's factors that lie in a file, and on their account, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// A band of its rows.
    pub band: u64,
    /// While this side is the fixed one and passes by in bands: a chunk of rows of the other side with all that they gather.
    pub sums: u64,
}

impl Room {
    /// Rows of a band, one at least.
    pub fn rows_of_band(&self, rank: usize, biases: bool) -> usize {
        (self.band / Factors::bytes(1, rank, biases)).max(1) as usize
    }
}

/// Where spilled factors lie: all rows with their padding, then all biases. Copies share the file until one is written to.
#[derive(Debug, Clone)]
pub(super) struct Spilled {
    file: Arc<dyn Scratch>,
    pub(super) room: Room,
    pub(super) biases: bool,
    rows: usize,
    stride: usize,
}

impl Spilled {
    pub(super) fn new(
        file: Box<dyn Scratch>,
        room: Room,
        [rows, stride]: [usize; 2],
        biases: bool,
    ) -> Spilled {
        Spilled {
            file: file.into(),
            room,
            biases,
            rows,
            stride,
        }
    }

    pub(super) fn traffic(&self) -> Traffic {
        self.file.traffic()
    }

    /// Reads rows, and biases if there are any.
    pub(super) fn read(
        &self,
        rows: Range<usize>,
        flat: &mut [f32],
        biases: &mut [f32],
    ) -> Result<()> {
        self.file.read(self.row(rows.start), flat)?;
        if self.biases {
            self.file.read(self.bias(rows.start), biases)?;
        }
        Ok(())
    }

    /// Writes rows from `first` on, and biases if any are given.
    pub(super) fn write(&mut self, first: usize, flat: &[f32], biases: &[f32]) -> Result<()> {
        if Arc::strong_count(&self.file) > 1 {
            self.file = self.file.copy()?.into();
        }
        self.file.write(self.row(first), flat)?;
        if !biases.is_empty() {
            self.file.write(self.bias(first), biases)?;
        }
        Ok(())
    }

    fn row(&self, row: usize) -> u64 {
        (row * self.stride) as u64
    }

    fn bias(&self, row: usize) -> u64 {
        self.row(self.rows) + row as u64
    }
}

/// Two are equal if they are the same file: contents are not compared.
impl PartialEq for Spilled {
    fn eq(&self, other: &Spilled) -> bool {
        Arc::ptr_eq(&self.file, &other.file)
    }
}
