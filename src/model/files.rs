//! Factor files: the rows of one side, without their padding, and their biases.

use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::matrix::Factors;
use crate::store::{Container, ContainerWriter, Kind, Seal};

pub(super) const FACTORS: &str = "factors";
pub(super) const BIASES: &str = "biases";

/// Writes factors to a new file: header counts are rows, rank and whether there are biases.
pub(super) fn write(path: &Path, factors: &Factors) -> Result<Seal> {
    let sections = 1 + u32::from(factors.has_biases());
    let mut writer = ContainerWriter::create(path, Kind::Factors, sections)?;
    writer.section(FACTORS)?;
    let mut band = factors.empty_band();
    for rows in factors.bands(0..factors.rows()) {
        let (factors, _) = factors.load(rows, &mut band)?;
        for row in 0..factors.rows() {
            writer.write_numbers(factors.row(row))?;
        }
    }
    if factors.has_biases() {
        writer.section(BIASES)?;
        for rows in factors.bands(0..factors.rows()) {
            let (factors, _) = factors.load(rows, &mut band)?;
            writer.write_numbers(factors.biases())?;
        }
    }
    let counts = [
        factors.rows() as u64,
        factors.rank() as u64,
        u64::from(factors.has_biases()),
    ];
    writer.finish(counts, [0; 2])
}

/// Reads factors that must be those of the seal and of this size into new ones. Every byte is checked on the way; of the
/// file, two [pieces](Container::PIECE) are in memory at a time.
pub(super) fn read(
    path: &Path,
    seal: Seal,
    [rows, rank]: [usize; 2],
    biases: bool,
    new: impl FnOnce() -> Result<Factors>,
) -> Result<Factors> {
    let container = open(path, seal, [rows, rank], biases)?;
    // Memory is asked for only once so many numbers are known to be there.
    let mut factors = new()?;
    let of_row = (size_of::<f32>() * rank) as u64;
    let rows_at_once = (Container::PIECE / of_row).max(1);
    let (mut first, mut band) = (0, factors.empty_band());
    container.read(FACTORS, rows_at_once * of_row, |bytes| {
        let given = bytemuck::cast_slice(bytes);
        factors.set_rows(first, given, &mut band)?;
        first += given.len() / rank;
        Ok(())
    })?;
    if biases {
        let mut first = 0;
        container.read(BIASES, Container::PIECE, |bytes| {
            let given = bytemuck::cast_slice(bytes);
            factors.set_biases(first, given)?;
            first += given.len();
            Ok(())
        })?;
    }
    Ok(factors)
}

/// Checks that factors are those of the seal, of this size and finite, and says how many numbers they are.
pub(super) fn verify(
    path: &Path,
    seal: Seal,
    rows: usize,
    rank: usize,
    biases: bool,
) -> Result<u64> {
    let container = open(path, seal, [rows, rank], biases)?;
    container.verify()?;
    let mut counted = 0;
    for (section, count) in [(FACTORS, rows.saturating_mul(rank)), (BIASES, rows)] {
        if section == BIASES && !biases {
            continue;
        }
        let numbers = numbers(&container, section, count)?;
        if let Some(at) = numbers.iter().position(|number| !number.is_finite()) {
            let start = container.range(section).map_or(0, |range| range.start);
            let what = format!("{} is no finite number", numbers[at]);
            return Err(Error::damaged(path, start + 4 * at as u64, what).remedy("train again"));
        }
        counted += count as u64;
    }
    Ok(counted)
}

/// Opens a file of factors of this size, whose content is still to be checked.
pub(super) fn open(
    path: &Path,
    seal: Seal,
    [rows, rank]: [usize; 2],
    biases: bool,
) -> Result<Container> {
    let container = Container::open(path, Kind::Factors)?;
    let header = container.header();
    if container.seal() != seal || header.counts != [rows as u64, rank as u64, u64::from(biases)] {
        return Err(foreign(path));
    }
    numbers(&container, FACTORS, rows.saturating_mul(rank))?;
    if biases {
        numbers(&container, BIASES, rows)?;
    }
    Ok(container)
}

/// A section's numbers, which must be so many.
fn numbers<'a>(container: &'a Container, section: &str, count: usize) -> Result<&'a [f32]> {
    let numbers = container.slice::<f32>(section)?;
    if numbers.len() != count {
        let what = format!("{} {section} where there should be {count}", numbers.len());
        let start = container.range(section).map_or(0, |range| range.start);
        return Err(Error::damaged(container.path(), start, what));
    }
    Ok(numbers)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Position;

    #[test]
    fn what_is_written_is_read_and_what_is_not_finite_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let (good, bad) = (dir.path().join("good"), dir.path().join("bad"));
        let mut factors = Factors::zeros(3, 2, true);
        for row in 0..3 {
            factors.row_mut(row).copy_from_slice(&[row as f32, 0.5]);
            factors.biases_mut()[row] = -(row as f32);
        }
        let seal = write(&good, &factors).unwrap();
        let zeros = |rows, rank| move || Ok(Factors::zeros(rows, rank, true));
        let read_again = read(&good, seal, [3, 2], true, zeros(3, 2));
        assert_eq!(read_again.unwrap(), factors);
        assert_eq!(verify(&good, seal, 3, 2, true).unwrap(), 9);
        for (rows, rank, biases) in [(2, 3, true), (3, 2, false), (4, 2, true)] {
            let error = read(&good, seal, [rows, rank], biases, zeros(rows, rank)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Damaged);
        }
        factors.biases_mut()[1] = f32::NAN;
        let seal = write(&bad, &factors).unwrap();
        let error = verify(&bad, seal, 3, 2, true).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        let container = Container::open(&bad, Kind::Factors).unwrap();
        let at = container.range(BIASES).unwrap().start + 4;
        assert_eq!(error.position(), Some(Position::Offset(at)));
    }
}
