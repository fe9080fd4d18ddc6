//! Shards: slabs of consecutive rows of one side, by user (CSR) or by item (CSC), in files of bounded size.
//!
//! A plain shard has three sections: `offsets`, one u64 more than there are rows, counting ratings from the start of the
//! part, so that more than 2^32 ratings are nothing special; `cols`, u32; `values`, f32. Rows of the map are rows of a
//! [`Block`], without a copy. The sections of a packed one are in `packing.rs`; its rows are decoded one by one.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::container::{Container, Seal};
use super::header::Kind;
use super::map::Access;
use super::packing;
use crate::error::{Error, ErrorKind, Result};
use crate::matrix::{Block, Side};

pub(super) const OFFSETS: &str = "offsets";
pub(super) const COLS: &str = "cols";
pub(super) const VALUES: &str = "values";

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Encoding {
    /// Columns as u32, values as f32: viewed where they lie.
    Plain,
    /// Columns as bit-packed gaps, values as codes: a quarter of the bytes, decoded row by row.
    #[default]
    Packed,
}

impl Encoding {
    const ALL: [Encoding; 2] = [Encoding::Plain, Encoding::Packed];
}

/// Lower case, as options and messages say it.
impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Encoding::Plain => "plain",
            Encoding::Packed => "packed",
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
    pub(super) fn codes(self) -> [u32; 2] {
        let bytes = [self.side as u8, self.encoding as u8, self.part as u8, 0];
        [u32::from_le_bytes(bytes), self.width]
    }

    pub(super) fn from_codes([code, width]: [u32; 2]) -> Option<Layout> {
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

/// A shard, mapped for reading.
#[derive(Debug)]
pub struct Shard {
    pub(super) container: Container,
    layout: Layout,
    entry: ShardEntry,
    checked: AtomicBool,
    kept: AtomicBool,
    /// Whether somebody has looked at its rows since they were last given back.
    in_use: AtomicBool,
    /// Bytes that looking at its rows has brought in.
    read: AtomicU64,
}

impl Shard {
    /// Opens a shard and checks what is cheap to check: its container, its lengths, its first and last offset or group.
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
            kept: AtomicBool::new(true),
            in_use: AtomicBool::new(false),
            read: AtomicU64::new(0),
        };
        let block = shard.view()?;
        let end = first_row.checked_add(rows);
        if block.rows() as u64 != rows
            || block.ratings() as u64 != ratings
            || end.is_none_or(|end| end > u64::from(u32::MAX))
        {
            return Err(shard.damaged("the counts do not match the sections"));
        }
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

    /// Says that there are so many columns, since columns were appended.
    pub(super) fn widen(&mut self, width: u32) {
        self.layout.width = width;
    }

    /// How many ratings of the part a plain shard's offsets say there are before it.
    pub(super) fn first_offset(&self) -> Result<u64> {
        let offsets: &[u64] = self.container.slice(OFFSETS)?;
        Ok(offsets[0])
    }

    /// Whether a row lies beyond this shard.
    pub(super) fn ends_before(&self, row: u64) -> bool {
        self.entry.first_row + self.entry.rows <= row
    }

    /// The rows. The first look at them in this process checks all of them, as [`verify`](Shard::verify) does: a few
    /// nanoseconds a rating, so that no damaged byte reaches a model.
    pub fn block(&self) -> Result<Block<'_>> {
        self.container.mapping().check_length()?;
        if !self.in_use.load(Ordering::Relaxed) && !self.in_use.swap(true, Ordering::Relaxed) {
            self.container.mapping().expect(Access::Scan);
            if !self.is_kept() {
                let bytes = self.entry.seal.bytes;
                self.read.fetch_add(bytes, Ordering::Relaxed);
            }
        }
        if !self.checked.load(Ordering::Acquire) {
            self.verify()?;
        }
        self.view()
    }

    /// The number of ratings of each row, by where rows start alone: neither checked nor anything else read. None is longer
    /// than the shard, whatever is there.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] if the shard has not the sections of its encoding.
    pub fn row_lengths(&self) -> Result<impl Iterator<Item = usize>> {
        let (block, most) = (self.view()?, self.entry.ratings as usize);
        let columns = match self.layout.encoding {
            Encoding::Plain => self.container.range(COLS),
            Encoding::Packed => packing::columns(&self.container),
        };
        if let Some(columns) = columns {
            self.container.mapping().will_need_range(0..columns.start);
        }
        Ok((0..block.rows()).map(move |i| block.row_len(i).min(most)))
    }

    /// Starts reading the shard into memory, without waiting for it.
    pub fn will_need(&self) {
        self.container.mapping().will_need();
    }

    /// Gives back the memory that the shard takes, unless there is room to keep it. What is given back is read from disk
    /// again when it is next looked at.
    pub fn done_with(&self) {
        if !self.is_kept() {
            self.in_use.store(false, Ordering::Relaxed);
            // What a look at the starts of rows would read ahead of them would stay behind.
            self.container.mapping().expect(Access::Sparse);
            self.container.mapping().release();
        }
    }

    /// Bytes that were to be read so far: the whole shard, each time that its rows were looked at after it had been given
    /// back. Of a shard that stays in memory, none.
    pub fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Says whether the shard may stay in memory after use. What has stayed there so far and may not any more is given back.
    pub(super) fn keep(&self, kept: bool) {
        self.kept.store(kept, Ordering::Relaxed);
        if self.in_use.load(Ordering::Relaxed) {
            self.done_with();
        }
    }

    /// Whether the shard may stay in memory after use.
    pub fn is_kept(&self) -> bool {
        self.kept.load(Ordering::Relaxed)
    }

    /// Checks every byte, and every row, column and value.
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
        let first_row = self.entry.first_row as usize;
        let width = self.layout.width as usize;
        if self.layout.encoding == Encoding::Packed {
            return Ok(Block::packed(
                first_row,
                width,
                packing::view(&self.container)?,
            ));
        }
        Block::plain(
            first_row,
            width,
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
