//! Files of sparse rows, which a model of weights between items has in place of factors.

use std::path::Path;

use super::files::foreign;
use crate::error::{AtPath, Error, Result};
use crate::matrix::SparseRows;
use crate::store::{Container, ContainerWriter, DiskFile, Kind, Seal};

const OFFSETS: &str = "offsets";
const COLUMNS: &str = "cols";
const VALUES: &str = "values";

/// What the header's third count says of sparse rows, where it says of factors whether there are biases.
const SPARSE: u64 = 2;

/// Writes rows to a new file: header counts are rows, columns and the mark of sparse rows.
pub(super) fn write(path: &Path, rows: &SparseRows) -> Result<Seal> {
    let file = DiskFile::create(path).at(path)?;
    let mut writer = ContainerWriter::new(file, path, Kind::Factors, 3)?;
    writer.section(OFFSETS)?;
    writer.write_numbers(rows.offsets())?;
    writer.section(COLUMNS)?;
    writer.write_numbers(rows.cols())?;
    writer.section(VALUES)?;
    writer.write_numbers(rows.values())?;
    writer.finish([rows.rows() as u64, rows.columns() as u64, SPARSE], [0; 2])
}

/// Reads rows that must be those of the seal and of this size. Every byte is checked, and every column.
pub(super) fn read(path: &Path, seal: Seal, [rows, columns]: [usize; 2]) -> Result<SparseRows> {
    let container = Container::open(path, Kind::Factors)?;
    let expected = [rows as u64, columns as u64, SPARSE];
    if container.seal() != seal || container.header().counts != expected {
        return Err(foreign(path));
    }
    container.verify()?;
    let offsets = container.slice::<u64>(OFFSETS)?.to_vec();
    let cols = container.slice::<u32>(COLUMNS)?.to_vec();
    let values = container.slice::<f32>(VALUES)?.to_vec();
    let start = container.range(OFFSETS).map_or(0, |range| range.start);
    let finite = values.iter().all(|value| value.is_finite());
    SparseRows::from_parts(columns, offsets, cols, values)
        .filter(|sparse| finite && sparse.rows() == rows)
        .ok_or_else(|| {
            let what = "the sparse rows contradict themselves";
            Error::damaged(path, start, what).remedy("train again")
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn what_is_written_is_read_and_what_does_not_fit_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows");
        let mut rows = SparseRows::new(4);
        rows.push([(0, 0.5), (3, -1.0)]);
        rows.push([]);
        let seal = write(&path, &rows).unwrap();
        assert_eq!(read(&path, seal, [2, 4]).unwrap(), rows);
        for size in [[1, 4], [2, 5]] {
            let error = read(&path, seal, size).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Damaged);
        }
        let mut bad = SparseRows::new(4);
        bad.push([(1, f32::NAN)]);
        let path = dir.path().join("bad");
        let seal = write(&path, &bad).unwrap();
        let error = read(&path, seal, [1, 4]).unwrap_err();
        assert!(error.to_string().contains("contradict"), "{error}");
    }
}
