//! Shards: slabs of consecutive rows of one side, by user (CSR) or by item (CSC), in files of bounded size.
//!
//! A plain shard has three sections: `offsets`, one u64 more than there are rows, counting ratings from the start of the
//! part, so that more than 2^32 ratings are nothing special; `cols`, u32; `values`, f32. Rows of the map are rows of a
//! [`Block`], without a copy.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use super::container::{Container, Seal};
use super::header::{ALIGNMENT, HEADER_BYTES, Kind, table_bytes};
use super::map::Access;
use super::writer::ContainerWriter;
use crate::error::{Error, ErrorKind, Result};
use crate::matrix::{Block, Side};

const OFFSETS: &str = "offsets";
const COLS: &str = "cols";
const VALUES: &str = "values";

/// The part of the ratings that a shard belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Part {
    /// What is learned from.
    Train,
    /// What early stopping looks at.
    Validation,
    /// What is looked at last.
    Test,
}

impl Part {
    const ALL: [Part; 3] = [Part::Train, Part::Validation, Part::Test];
}

/// Lower case, as options and messages say it.
impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Train => "train",
            Part::Validation => "validation",
            Part::Test => "test",
        })
    }
}

/// How a shard's ratings are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Encoding {
    /// Columns as u32, values as f32.
    Plain,
}

impl Encoding {
    const ALL: [Encoding; 1] = [Encoding::Plain];
}

/// Lower case, as options and messages say it.
impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Encoding::Plain => "plain",
        })
    }
}

/// What a shard holds, as its header tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Which side its rows are.
    pub side: Side,
    /// Which part its ratings belong to.
    pub part: Part,
    /// How they are written.
    pub encoding: Encoding,
    /// Number of columns: rows of the other side.
    pub width: u32,
}

impl Layout {
    fn codes(self) -> [u32; 2] {
        let bytes = [self.side as u8, self.encoding as u8, self.part as u8, 0];
        [u32::from_le_bytes(bytes), self.width]
    }

    fn from_codes([code, width]: [u32; 2]) -> Option<Layout> {
        let [side, encoding, part, 0] = code.to_le_bytes() else {
            return None;
        };
        Some(Layout {
            side: *[Side::Users, Side::Items].get(usize::from(side))?,
            part: *Part::ALL.get(usize::from(part))?,
            encoding: *Encoding::ALL.get(usize::from(encoding))?,
            width,
        })
    }
}

/// What a manifest says of a shard. Shards are named by their number, so that no name is taken on trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardEntry {
    /// Number of its first row.
    pub first_row: u64,
    /// How many rows.
    pub rows: u64,
    /// How many ratings.
    pub ratings: u64,
    /// Which file it is.
    pub seal: Seal,
}

/// The file name of a shard by its number.
pub fn shard_file(index: usize) -> String {
    format!("{index:05}.shard")
}

/// Bytes of a plain shard's file.
pub fn plain_bytes(rows: u64, ratings: u64) -> u64 {
    let section = |bytes: u64| bytes.next_multiple_of(ALIGNMENT);
    HEADER_BYTES as u64
        + table_bytes(3)
        + section(8 * (rows + 1))
        + section(4 * ratings)
        + section(4 * ratings)
}

/// A shard, mapped for reading.
#[derive(Debug)]
pub struct Shard {
    container: Container,
    layout: Layout,
    entry: ShardEntry,
    checked: AtomicBool,
    kept: bool,
}

impl Shard {
    /// Opens a shard and checks what is cheap to check: its container, its lengths, its first and last offset.
    ///
    /// # Errors
    /// As [`Container::open`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Shard> {
        let container = Container::open(path, Kind::Shard)?;
        let header = *container.header();
        let Some(layout) = Layout::from_codes(header.codes) else {
            let message = "an encoding that this version of lowrank does not know";
            return Err(Error::new(ErrorKind::Incompatible, message)
                .path(container.path())
                .remedy("upgrade lowrank, or import again with this one"));
        };
        let [first_row, rows, ratings] = header.counts;
        let shard = Shard {
            layout,
            entry: ShardEntry {
                first_row,
                rows,
                ratings,
                seal: container.seal(),
            },
            container,
            checked: AtomicBool::new(false),
            kept: true,
        };
        let block = shard.view()?;
        let end = first_row.checked_add(rows);
        if block.rows() as u64 != rows
            || block.ratings() as u64 != ratings
            || end.is_none_or(|end| end > u64::from(u32::MAX))
        {
            return Err(shard.damaged("the counts do not match the sections"));
        }
        shard.container.mapping().expect(Access::Scan);
        Ok(shard)
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        self.container.path()
    }

    /// Side, part, encoding and width.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Rows, ratings and seal, as the manifest has them.
    pub fn entry(&self) -> ShardEntry {
        self.entry
    }

    /// Whether a row lies beyond this shard.
    pub(super) fn ends_before(&self, row: u64) -> bool {
        self.entry.first_row + self.entry.rows <= row
    }

    /// The rows. The first look at them in this process checks all of them, as [`verify`](Shard::verify) does: a few
    /// nanoseconds a rating, so that no damaged byte reaches a model.
    pub fn block(&self) -> Result<Block<'_>> {
        self.container.mapping().check_length()?;
        if !self.checked.load(Ordering::Acquire) {
            self.verify()?;
        }
        self.view()
    }

    /// The number of ratings of each row, by the offsets alone: neither checked nor anything else read.
    pub(super) fn row_lengths(&self) -> Result<impl Iterator<Item = u64>> {
        let offsets: &[u64] = self.container.slice(OFFSETS)?;
        let lengths = offsets.windows(2).map(|row| row[1].saturating_sub(row[0]));
        Ok(lengths)
    }

    /// Starts reading the shard into memory, without waiting for it.
    pub fn will_need(&self) {
        self.container.mapping().will_need();
    }

    /// Gives back the memory that the shard takes, unless there is room to keep it. What is given back is read from disk
    /// again when it is next looked at.
    pub fn done_with(&self) {
        if !self.kept {
            self.container.mapping().release();
        }
    }

    /// Says whether the shard may stay in memory after use.
    pub(super) fn keep(&mut self, kept: bool) {
        self.kept = kept;
    }

    /// Whether the shard may stay in memory after use.
    #[cfg(test)]
    pub(super) fn is_kept(&self) -> bool {
        self.kept
    }

    /// Checks every byte, and every offset, column and value.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`], naming the section or row.
    pub fn verify(&self) -> Result<()> {
        self.container.verify()?;
        self.view()?.check().map_err(|e| e.path(self.path()))?;
        self.checked.store(true, Ordering::Release);
        Ok(())
    }

    fn view(&self) -> Result<Block<'_>> {
        Block::plain(
            self.entry.first_row as usize,
            self.layout.width as usize,
            self.container.slice(OFFSETS)?,
            self.container.slice(COLS)?,
            self.container.slice(VALUES)?,
        )
        .map_err(|e| {
            let offsets = self.container.range(OFFSETS);
            e.path(self.path())
                .offset(offsets.map_or(0, |range| range.start))
        })
    }

    fn damaged(&self, message: &str) -> Error {
        Error::damaged(self.path(), 0, message)
    }
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
    offsets: Vec<u64>,
    cols: Vec<u32>,
    values: Vec<f32>,
}

impl ShardsWriter {
    /// A writer of plain shards of at most `shard_bytes` bytes (but at least one row) into an existing directory.
    pub fn create(
        dir: impl Into<PathBuf>,
        side: Side,
        part: Part,
        width: u32,
        shard_bytes: u64,
    ) -> ShardsWriter {
        ShardsWriter {
            dir: dir.into(),
            layout: Layout {
                side,
                part,
                encoding: Encoding::Plain,
                width,
            },
            shard_bytes,
            shards: Vec::new(),
            first_row: 0,
            offsets: vec![0],
            cols: Vec::new(),
            values: Vec::new(),
        }
    }

    /// Appends the next row, which may be empty. Every row of the side comes once, in order.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] if columns are not ascending and below the width, one for each value, or a value is not
    /// finite; and whatever writing a full shard may fail with.
    pub fn push_row(&mut self, cols: &[u32], values: &[f32]) -> Result<()> {
        let row = self.first_row + self.rows();
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
        if row >= u64::from(u32::MAX) {
            return bad("is one too many: rows are numbered in 32 bits");
        }
        let ratings = (self.cols.len() + cols.len()) as u64;
        if self.rows() > 0 && plain_bytes(self.rows() + 1, ratings) > self.shard_bytes {
            self.cut()?;
        }
        self.cols.extend_from_slice(cols);
        self.values.extend_from_slice(values);
        self.offsets.push(self.offsets[0] + self.cols.len() as u64);
        Ok(())
    }

    /// Writes the last shard, and says what was written.
    pub fn finish(mut self) -> Result<Vec<ShardEntry>> {
        if self.rows() > 0 {
            self.cut()?;
        }
        Ok(self.shards)
    }

    /// Rows in the current shard.
    fn rows(&self) -> u64 {
        self.offsets.len() as u64 - 1
    }

    /// Writes the current shard and begins the next.
    fn cut(&mut self) -> Result<()> {
        let path = self.dir.join(shard_file(self.shards.len()));
        let mut file = ContainerWriter::create(&path, Kind::Shard, 3)?;
        file.section(OFFSETS)?;
        file.write_u64s(self.offsets.iter().copied())?;
        file.section(COLS)?;
        file.write_u32s(self.cols.iter().copied())?;
        file.section(VALUES)?;
        file.write_f32s(&self.values)?;
        let (rows, ratings) = (self.rows(), self.cols.len() as u64);
        let seal = file.finish([self.first_row, rows, ratings], self.layout.codes())?;
        self.shards.push(ShardEntry {
            first_row: self.first_row,
            rows,
            ratings,
            seal,
        });
        self.first_row += rows;
        let end = self.offsets[0] + ratings;
        self.offsets.clear();
        self.offsets.push(end);
        self.cols.clear();
        self.values.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::RowScratch;
    use proptest::prelude::*;

    type Rows = Vec<(Vec<u32>, Vec<f32>)>;

    fn write(dir: &Path, rows: &Rows, shard_bytes: u64) -> Vec<ShardEntry> {
        let mut writer = ShardsWriter::create(dir, Side::Items, Part::Test, 50, shard_bytes);
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
            rows in proptest::collection::vec(proptest::collection::btree_map(0_u32..50, -9.0_f32..9.0, 0..20), 0..30),
            shard_bytes in 0_u64..3000,
        ) {
            let rows: Rows = rows.into_iter().map(|row| row.into_iter().unzip()).collect();
            let dir = tempfile::tempdir().unwrap();
            let entries = write(dir.path(), &rows, shard_bytes);
            prop_assert_eq!(read(dir.path(), entries.len()), rows);
            for (index, entry) in entries.iter().enumerate() {
                let path = dir.path().join(shard_file(index));
                prop_assert_eq!(path.metadata().unwrap().len(), entry.seal.bytes);
                prop_assert_eq!(plain_bytes(entry.rows, entry.ratings), entry.seal.bytes);
                prop_assert!(entry.rows == 1 || entry.seal.bytes <= shard_bytes);
                prop_assert_eq!(Shard::open(path).unwrap().entry(), *entry);
            }
        }
    }

    #[test]
    fn a_header_tells_side_part_encoding_and_width() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &vec![(vec![49], vec![1.0])], 0);
        let layout = Shard::open(dir.path().join("00000.shard"))
            .unwrap()
            .layout();
        assert_eq!((layout.side, layout.part), (Side::Items, Part::Test));
        assert_eq!((layout.encoding, layout.width), (Encoding::Plain, 50));
        assert_eq!(Layout::from_codes(layout.codes()), Some(layout));
        assert_eq!(Layout::from_codes([3, 50]), None);
        assert_eq!(Layout::from_codes([1 << 24, 50]), None);
    }

    #[test]
    fn offsets_may_pass_four_billion() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = ShardsWriter::create(dir.path(), Side::Users, Part::Train, 9, 0);
        writer.offsets = vec![5_000_000_000];
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
        write(dir.path(), &rows, 1 << 20);
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
        let mut writer = ShardsWriter::create("nowhere", Side::Users, Part::Train, 3, 0);
        for (cols, values) in [
            (&[0, 1][..], &[1.0][..]),
            (&[1, 1], &[1.0, 1.0]),
            (&[3], &[1.0]),
            (&[0], &[f32::INFINITY]),
        ] {
            let error = writer.push_row(cols, values).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadInput);
            assert!(error.to_string().starts_with("the row of user 0 has"));
        }
    }

    #[test]
    fn damage_is_found_at_the_first_look() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &vec![(vec![1], vec![1.0]); 9], 1 << 20);
        let path = dir.path().join("00000.shard");
        let mut bytes = std::fs::read(&path).unwrap();
        // The first offset that is neither the first nor the last.
        bytes[192 + 8] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let shard = Shard::open(&path).unwrap();
        let error = shard.block().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        assert!(error.to_string().contains("\"offsets\""), "{error}");
    }
}
