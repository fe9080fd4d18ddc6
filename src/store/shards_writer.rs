//! Writing shards: rows in order, cut into files of bounded size.

use std::path::{Path, PathBuf};

use super::container::Seal;
use super::disk;
use super::header::{ALIGNMENT, HEADER_BYTES, Kind, table_bytes};
use super::packing::Packing;
use super::shard::{COLS, Encoding, Layout, OFFSETS, Shard, ShardEntry, VALUES, shard_file};
use super::times::{Times, TimesPacking, times_file};
use super::writer::ContainerWriter;
use crate::error::{AtPath, Error, ErrorKind, Result};

/// Bytes of a plain shard's file.
fn plain_bytes(rows: u64, ratings: u64) -> u64 {
    let section = |bytes: u64| bytes.next_multiple_of(ALIGNMENT);
    HEADER_BYTES as u64
        + table_bytes(3)
        + section(8 * (rows + 1))
        + section(4 * ratings)
        + section(4 * ratings)
}

/// Writes the shards of one side of one part into a directory, from rows in order.
///
/// It holds the current shard in memory: about `shard_bytes`, twice that while it grows, or the longest row if that is
/// more. Import asks for smaller shards when its budget is small; a model does not depend on the size.
#[derive(Debug)]
pub struct ShardsWriter {
    dir: PathBuf,
    layout: Layout,
    shard_bytes: u64,
    shards: Vec<ShardEntry>,
    first_row: u64,
    rows: Rows,
    /// The times of those rows, if times are kept, and the seals of those that are written.
    times: Option<TimesPacking>,
    times_seals: Vec<Seal>,
}

/// The rows of the current shard.
#[derive(Debug)]
enum Rows {
    Plain {
        offsets: Vec<u64>,
        cols: Vec<u32>,
        values: Vec<f32>,
    },
    Packed(Packing),
}

impl Rows {
    /// Rows and ratings.
    fn counts(&self) -> (u64, u64) {
        match self {
            Rows::Plain { offsets, cols, .. } => (offsets.len() as u64 - 1, cols.len() as u64),
            Rows::Packed(rows) => (rows.rows() as u64, rows.ratings() as u64),
        }
    }

    /// Appends a row, unless there are some already and it would make a shard of more than `most` bytes. Says whether it
    /// did.
    fn push(&mut self, new_cols: &[u32], new_values: &[f32], most: u64) -> bool {
        let (rows, ratings) = self.counts();
        match self {
            Rows::Plain {
                offsets,
                cols,
                values,
            } => {
                let size = plain_bytes(rows + 1, ratings + new_cols.len() as u64);
                if rows > 0 && size > most {
                    return false;
                }
                cols.extend_from_slice(new_cols);
                values.extend_from_slice(new_values);
                offsets.push(offsets[0] + cols.len() as u64);
                true
            }
            Rows::Packed(packing) => packing.push_row(new_cols, new_values, most),
        }
    }
}

impl ShardsWriter {
    /// A writer of shards of at most `shard_bytes` bytes (but at least one row) into an existing directory.
    pub fn create(dir: impl Into<PathBuf>, layout: Layout, shard_bytes: u64) -> ShardsWriter {
        ShardsWriter {
            dir: dir.into(),
            layout,
            shard_bytes,
            shards: Vec::new(),
            first_row: 0,
            rows: match layout.encoding {
                Encoding::Plain => Rows::Plain {
                    offsets: vec![0],
                    cols: Vec::new(),
                    values: Vec::new(),
                },
                Encoding::Packed => Rows::Packed(Packing::new()),
            },
            times: None,
            times_seals: Vec::new(),
        }
    }

    /// Also writes a file of times beside each shard, if so; then rows come with their times.
    #[must_use]
    pub fn with_times(mut self, kept: bool) -> ShardsWriter {
        self.times = kept.then(TimesPacking::new);
        self
    }

    /// Appends the next row, which may be empty. Every row of the side comes once, in order.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] if columns are not ascending and below the width, one for each value, or a value is not
    /// finite; and whatever writing a full shard may fail with.
    pub fn push_row(&mut self, cols: &[u32], values: &[f32]) -> Result<()> {
        self.push_timed_row(cols, values, &[])
    }

    /// As [`push_row`](ShardsWriter::push_row), with the time of each rating where times are kept.
    ///
    /// # Errors
    /// As [`push_row`](ShardsWriter::push_row), or if there is not a time for each rating.
    pub fn push_timed_row(&mut self, cols: &[u32], values: &[f32], times: &[i64]) -> Result<()> {
        let row = self.first_row + self.rows.counts().0;
        let bad = |what: &str| {
            let side = self.layout.side.noun();
            Err(Error::new(
                ErrorKind::BadInput,
                format!("the row of {side} {row} {what}"),
            ))
        };
        if cols.len() != values.len() {
            return bad("has not as many columns as values");
        }
        if cols.windows(2).any(|pair| pair[0] >= pair[1]) {
            return bad("has columns out of order");
        }
        if cols.last().is_some_and(|&col| col >= self.layout.width) {
            return bad("has a column out of range");
        }
        if values.iter().any(|value| !value.is_finite()) {
            return bad("has a value that is not finite");
        }
        if self.times.is_some() && times.len() != cols.len() {
            return bad("has not as many times as ratings");
        }
        if row >= u64::from(u32::MAX) {
            return bad("is one too many: rows are numbered in 32 bits");
        }
        if !self.rows.push(cols, values, self.shard_bytes) {
            self.cut()?;
            let first = self.rows.push(cols, values, self.shard_bytes);
            debug_assert!(first, "the first row always fits");
        }
        if let Some(packing) = &mut self.times {
            packing.push_row(times);
        }
        Ok(())
    }

    /// Takes over a shard of another store, with its times where times are kept, as the next rows: its files get a second
    /// name. Says no, and does nothing, where the shard could not stay as it is: a plain one counts its ratings from the
    /// start of the part, and there are others before it now.
    ///
    /// # Errors
    /// If the rows before it, which have to be written first, or its names cannot be written.
    ///
    /// # Panics
    /// If the shard's rows are not the next.
    pub fn link(&mut self, shard: &Shard, times: Option<&Times>) -> Result<bool> {
        let entry = shard.entry();
        let (rows, ratings) = self.rows.counts();
        assert_eq!(entry.first_row, self.first_row + rows, "the next rows");
        let ratings = self.shards.iter().map(|e| e.ratings).sum::<u64>() + ratings;
        if self.layout.encoding == Encoding::Plain && shard.first_offset()? != ratings {
            return Ok(false);
        }
        if rows > 0 {
            self.cut()?;
        }
        let index = self.shards.len();
        let link = |from: &Path, name: String| {
            let to = self.dir.join(name);
            disk::link(from, &to).at(to)
        };
        link(shard.path(), shard_file(index))?;
        if let Some(times) = times {
            link(times.path(), times_file(index))?;
            self.times_seals.push(times.seal());
        }
        self.shards.push(entry);
        self.first_row += entry.rows;
        if let Rows::Plain { offsets, .. } = &mut self.rows {
            *offsets = vec![ratings + entry.ratings];
        }
        Ok(true)
    }

    /// Writes the last shard, and says what was written.
    pub fn finish(self) -> Result<Vec<ShardEntry>> {
        Ok(self.finish_timed()?.0)
    }

    /// As [`finish`](ShardsWriter::finish), with the seals of the files of times.
    pub fn finish_timed(mut self) -> Result<(Vec<ShardEntry>, Vec<Seal>)> {
        if self.rows.counts().0 > 0 {
            self.cut()?;
        }
        Ok((self.shards, self.times_seals))
    }

    /// Writes the current shard and begins the next.
    fn cut(&mut self) -> Result<()> {
        let path = self.dir.join(shard_file(self.shards.len()));
        let (rows, ratings) = self.rows.counts();
        let seal = match &mut self.rows {
            Rows::Packed(packing) => packing.write(&path, self.first_row, self.layout.codes())?,
            Rows::Plain {
                offsets,
                cols,
                values,
            } => {
                let mut file = ContainerWriter::create(&path, Kind::Shard, 3)?;
                file.section(OFFSETS)?;
                file.write_numbers(offsets)?;
                file.section(COLS)?;
                file.write_numbers(cols)?;
                file.section(VALUES)?;
                file.write_numbers(values)?;
                let seal = file.finish([self.first_row, rows, ratings], self.layout.codes())?;
                offsets.drain(..rows as usize);
                cols.clear();
                values.clear();
                seal
            }
        };
        let entry = ShardEntry {
            first_row: self.first_row,
            rows,
            ratings,
            seal,
        };
        if let Some(times) = &mut self.times {
            let path = self.dir.join(times_file(self.shards.len()));
            let seal = times.write(&path, &entry, self.layout.part)?;
            self.times_seals.push(seal);
        }
        self.shards.push(entry);
        self.first_row += rows;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::{RowScratch, Side};
    use crate::store::Part;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Rows = Vec<(Vec<u32>, Vec<f32>)>;

    const PLAIN: Layout = Layout {
        side: Side::Items,
        part: Part::Test,
        encoding: Encoding::Plain,
        width: 50,
    };
    const PACKED: Layout = Layout {
        encoding: Encoding::Packed,
        ..PLAIN
    };

    fn write(dir: &Path, layout: Layout, rows: &Rows, shard_bytes: u64) -> Vec<ShardEntry> {
        let mut writer = ShardsWriter::create(dir, layout, shard_bytes);
        for (cols, values) in rows {
            writer.push_row(cols, values).unwrap();
        }
        writer.finish().unwrap()
    }

    fn read(dir: &Path, shards: usize) -> Rows {
        let mut rows = Rows::new();
        for index in 0..shards {
            let shard = Shard::open(dir.join(shard_file(index))).unwrap();
            let block = shard.block().unwrap();
            assert_eq!(block.first_row(), rows.len());
            for i in 0..block.rows() {
                let scratch = &mut RowScratch::default();
                let row = block.row(i, scratch);
                rows.push((row.cols.to_vec(), row.values.to_vec()));
            }
        }
        rows
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn rows_come_back_whatever_the_shard_size(
            rows in proptest::collection::vec(proptest::collection::btree_map(0_u32..50, 0_u16..1000, 0..20), 0..100),
            values in prop_oneof![Just(3_u16), Just(30), Just(1000)],
            layout in prop_oneof![Just(PLAIN), Just(PACKED)],
            shard_bytes in 0_u64..5000,
        ) {
            let value = |draw: u16| f32::from(draw % values) / 8.0 - 3.0;
            let row = |row: BTreeMap<u32, u16>| row.into_iter().map(|(col, draw)| (col, value(draw))).unzip();
            let rows: Rows = rows.into_iter().map(row).collect();
            let dir = tempfile::tempdir().unwrap();
            let entries = write(dir.path(), layout, &rows, shard_bytes);
            prop_assert_eq!(read(dir.path(), entries.len()), rows);
            for (index, entry) in entries.iter().enumerate() {
                let path = dir.path().join(shard_file(index));
                prop_assert_eq!(path.metadata().unwrap().len(), entry.seal.bytes);
                if layout == PLAIN {
                    prop_assert_eq!(plain_bytes(entry.rows, entry.ratings), entry.seal.bytes);
                }
                prop_assert!(entry.rows == 1 || entry.seal.bytes <= shard_bytes);
                prop_assert_eq!(Shard::open(path).unwrap().entry(), *entry);
            }
        }
    }

    #[test]
    fn a_header_tells_side_part_encoding_and_width() {
        let dir = tempfile::tempdir().unwrap();
        for (layout, name) in [(PLAIN, "plain"), (PACKED, "packed")] {
            let dir = dir.path().join(name);
            std::fs::create_dir(&dir).unwrap();
            write(&dir, layout, &vec![(vec![49], vec![1.0])], 0);
            let shard = Shard::open(dir.join("00000.shard")).unwrap();
            assert_eq!(shard.layout(), layout);
            assert_eq!(Layout::from_codes(layout.codes()), Some(layout));
            assert_eq!(layout.encoding.to_string(), name);
        }
        assert_eq!(Layout::from_codes([3, 50]), None);
        assert_eq!(Layout::from_codes([1 << 24, 50]), None);
    }

    #[test]
    fn offsets_may_pass_four_billion() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = ShardsWriter::create(dir.path(), PLAIN, 0);
        writer.rows = super::Rows::Plain {
            offsets: vec![5_000_000_000],
            cols: Vec::new(),
            values: Vec::new(),
        };
        writer.push_row(&[1, 8], &[1.0, 2.0]).unwrap();
        writer.push_row(&[], &[]).unwrap();
        writer.push_row(&[0], &[3.0]).unwrap();
        assert_eq!(writer.finish().unwrap().len(), 3);
        let shard = Shard::open(dir.path().join("00002.shard")).unwrap();
        let offsets = shard.container.slice::<u64>(OFFSETS).unwrap();
        assert_eq!(offsets, [5_000_000_002, 5_000_000_003]);
        let block = shard.block().unwrap();
        let scratch = &mut RowScratch::default();
        let row = block.row(0, scratch);
        assert_eq!((row.cols, row.values), (&[0][..], &[3.0][..]));
    }

    #[test]
    fn a_mapped_block_is_a_sprs_matrix_without_a_copy() {
        let dir = tempfile::tempdir().unwrap();
        let rows = vec![
            (vec![1, 3], vec![1.0, 2.0]),
            (vec![], vec![]),
            (vec![0], vec![3.0]),
        ];
        write(dir.path(), PLAIN, &rows, 1 << 20);
        let shard = Shard::open(dir.path().join("00000.shard")).unwrap();
        let matrix = shard.block().unwrap().as_sprs().unwrap();
        assert_eq!((matrix.rows(), matrix.cols(), matrix.nnz()), (3, 50, 3));
        let map = shard.container.mapping().bytes().as_ptr_range();
        assert!(map.contains(&matrix.indices().as_ptr().cast()));
        assert!(map.contains(&matrix.data().as_ptr().cast()));
        assert!(map.contains(&matrix.indptr().raw_storage().as_ptr().cast()));
    }

    #[test]
    fn bad_rows_are_refused() {
        let layout = Layout { width: 3, ..PACKED };
        let mut writer = ShardsWriter::create("nowhere", layout, 0);
        for (cols, values) in [
            (&[0, 1][..], &[1.0][..]),
            (&[1, 1], &[1.0, 1.0]),
            (&[3], &[1.0]),
            (&[0], &[f32::INFINITY]),
        ] {
            let error = writer.push_row(cols, values).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadInput);
            assert!(error.to_string().starts_with("the row of item 0 has"));
        }
    }

    #[test]
    fn damage_is_found_at_the_first_look() {
        let dir = tempfile::tempdir().unwrap();
        // The first offset that is neither the first nor the last, and a column.
        for (layout, at, section) in [(PLAIN, 192 + 8, "offsets"), (PACKED, 256 + 128, "ids")] {
            let dir = dir.path().join(section);
            std::fs::create_dir(&dir).unwrap();
            write(&dir, layout, &vec![(vec![1], vec![1.0]); 9], 1 << 20);
            let path = dir.join("00000.shard");
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            let shard = Shard::open(&path).unwrap();
            let error = shard.block().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Damaged);
            assert!(
                error.to_string().contains(&format!("\"{section}\"")),
                "{error}"
            );
        }
    }
}
