//! From the numbers of one dictionary to those of another: a store may number its rows otherwise than a model does.

use super::dictionary::Dictionary;
use crate::error::Result;

/// From the rows of one dictionary to those of another that have the same ids.
#[derive(Debug)]
pub enum IdMap {
    /// The dictionaries are the same.
    Same,
    /// The row of each row, or one beyond all where the id is not known.
    Rows(Vec<u32>),
}

impl IdMap {
    const UNKNOWN: u32 = u32::MAX;

    /// Looks up every id of one dictionary in the other; at no cost where they are the same.
    ///
    /// # Errors
    /// If an id cannot be read.
    pub fn new(from: &Dictionary, to: &Dictionary) -> Result<IdMap> {
        if from.seal() == to.seal() {
            return Ok(IdMap::Same);
        }
        let row = |row| Ok(to.lookup(from.id(row)?)?.unwrap_or(Self::UNKNOWN));
        (0..from.len())
            .map(row)
            .collect::<Result<_>>()
            .map(IdMap::Rows)
    }

    /// The row that corresponds to a row, if there is one.
    ///
    /// # Panics
    /// If there is no such row to start from.
    pub fn get(&self, row: u32) -> Option<u32> {
        match self {
            IdMap::Same => Some(row),
            IdMap::Rows(rows) => Some(rows[row as usize]).filter(|&row| row != Self::UNKNOWN),
        }
    }
}
