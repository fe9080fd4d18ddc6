//! Factor files: the rows of one side, without their padding, and their biases.

use std::fs::File;
use std::path::Path;

use crate::error::{AtPath, Error, ErrorKind, Result};
use crate::matrix::Factors;
use crate::store::{Container, ContainerWriter, Kind, Seal};

const FACTORS: &str = "factors";
const BIASES: &str = "biases";

/// Writes factors to a new file: header counts are rows, rank and whether there are biases.
pub(super) fn write(path: &Path, factors: &Factors) -> Result<Seal> {
    let sections = 1 + u32::from(factors.has_biases());
    let mut writer = ContainerWriter::create(path, Kind::Factors, sections)?;
    writer.section(FACTORS)?;
    for row in 0..factors.rows() {
        writer.write_f32s(factors.row(row))?;
    }
    if factors.has_biases() {
        writer.section(BIASES)?;
        writer.write_f32s(factors.biases())?;
    }
    let counts = [
        factors.rows() as u64,
        factors.rank() as u64,
        u64::from(factors.has_biases()),
    ];
    writer.finish(counts, [0; 2])
}

/// Reads factors that must be those of the seal and of this size. Every byte is checked.
pub(super) fn read(
    path: &Path,
    seal: Seal,
    rows: usize,
    rank: usize,
    biases: bool,
) -> Result<Factors> {
    let container = Container::open(path, Kind::Factors)?;
    let header = container.header();
    if container.seal() != seal || header.counts != [rows as u64, rank as u64, u64::from(biases)] {
        return Err(foreign(path));
    }
    container.verify()?;
    let numbers = container.slice::<f32>(FACTORS)?;
    if numbers.len() != rows * rank {
        return Err(Error::damaged(
            path,
            0,
            "the factors are not as many as they should be",
        ));
    }
    let mut factors = Factors::zeros(rows, rank, biases);
    for (row, numbers) in numbers.chunks_exact(rank).enumerate() {
        factors.row_mut(row).copy_from_slice(numbers);
    }
    if biases {
        let numbers = container.slice::<f32>(BIASES)?;
        if numbers.len() != rows {
            return Err(Error::damaged(
                path,
                0,
                "the biases are not as many as they should be",
            ));
        }
        factors.biases_mut().copy_from_slice(numbers);
    }
    Ok(factors)
}

/// Copies a file of ours and waits until the copy is on disk.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).at(to)?;
    File::open(to).and_then(|file| file.sync_all()).at(to)
}

/// The error for a file that is whole, but not this model's.
pub(super) fn foreign(path: &Path) -> Error {
    Error::new(
        ErrorKind::Damaged,
        "not the file that the model's record speaks of",
    )
    .path(path)
    .remedy("put the right file back, or train again")
}
