//! When ratings were given: a file beside each shard by user, read by whoever asks for times and by nobody else.
//!
//! Sections: `earliest` (u64, the bits of an i64), the first time of each row; `starts` (u64, one more than there are rows),
//! where each row starts in `later`; and `later`, how much later than that each rating was given, in row order, in the least
//! whole number of bytes that holds the row's largest. A row's number of ratings is known from its shard.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use super::container::{Container, Seal};
use super::header::Kind;
use super::shard::{Part, Shard, ShardEntry};
use super::writer::ContainerWriter;
use crate::error::{Error, Result};

const EARLIEST: &str = "earliest";
const STARTS: &str = "starts";
const LATER: &str = "later";

/// The seals of the files of times of each part: one for each shard by user.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TimesSeals {
    /// Of the training part.
    pub train: Vec<Seal>,
    /// Of the validation part.
    pub validation: Vec<Seal>,
    /// Of the test part.
    pub test: Vec<Seal>,
}

impl TimesSeals {
    /// Those of one part.
    pub fn part(&self, part: Part) -> &[Seal] {
        match part {
            Part::Train => &self.train,
            Part::Validation => &self.validation,
            Part::Test => &self.test,
        }
    }

    /// Of all parts.
    pub fn all(&self) -> impl Iterator<Item = &Seal> {
        [&self.train, &self.validation, &self.test]
            .into_iter()
            .flatten()
    }
}

/// The file of the times of a shard, by the shard's number.
pub fn times_file(index: usize) -> String {
    format!("{index:05}.times")
}

/// Times of rows that are packed as they come.
#[derive(Debug)]
pub struct TimesPacking {
    earliest: Vec<u64>,
    starts: Vec<u64>,
    later: Vec<u8>,
}

impl TimesPacking {
    /// No rows.
    pub fn new() -> TimesPacking {
        TimesPacking {
            earliest: Vec::new(),
            starts: vec![0],
            later: Vec::new(),
        }
    }

    /// Appends the times of a row.
    pub fn push_row(&mut self, times: &[i64]) {
        let earliest = times.iter().copied().min().unwrap_or(0);
        // The difference of any two times fits 64 bits without a sign.
        let later = |time: i64| time.wrapping_sub(earliest) as u64;
        let latest = times.iter().map(|&time| later(time)).max().unwrap_or(0);
        let width = 8 - latest.leading_zeros() as usize / 8;
        for &time in times {
            self.later
                .extend_from_slice(&later(time).to_le_bytes()[..width]);
        }
        self.earliest.push(earliest as u64);
        self.starts.push(self.later.len() as u64);
    }

    /// Writes the file of the times of this shard, and forgets them.
    pub fn write(&mut self, path: &Path, shard: &ShardEntry, part: Part) -> Result<Seal> {
        let mut file = ContainerWriter::create(path, Kind::Times, 3)?;
        file.section(EARLIEST)?;
        file.write_numbers(&self.earliest)?;
        file.section(STARTS)?;
        file.write_numbers(&self.starts)?;
        file.section(LATER)?;
        file.write(&self.later)?;
        let counts = [shard.first_row, shard.rows, shard.ratings];
        *self = TimesPacking::new();
        file.finish(counts, [part as u32, 0])
    }
}

/// The times of a shard, mapped for reading.
#[derive(Debug)]
pub struct Times {
    container: Container,
    checked: AtomicBool,
}

impl Times {
    /// Opens the times of a shard, which lie beside it, and checks that they are of as many rows.
    ///
    /// # Errors
    /// As [`Container::open`].
    pub fn open(path: &Path, shard: &Shard) -> Result<Times> {
        let container = Container::open(path, Kind::Times)?;
        let ShardEntry {
            first_row,
            rows,
            ratings,
            ..
        } = shard.entry();
        let header = *container.header();
        let times = Times {
            checked: AtomicBool::new(false),
            container,
        };
        let part = shard.layout().part as u32;
        if header.counts != [first_row, rows, ratings] || header.codes != [part, 0] {
            return Err(times.damaged("the times of another shard"));
        }
        let starts: &[u64] = times.container.slice(STARTS)?;
        let earliest: &[u64] = times.container.slice(EARLIEST)?;
        if starts.len() as u64 != rows + 1 || earliest.len() as u64 != rows {
            return Err(times.damaged("not one start for each row"));
        }
        Ok(times)
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        self.container.path()
    }

    /// Length and checksum of the file.
    pub fn seal(&self) -> Seal {
        self.container.seal()
    }

    /// Appends the times of row `row` of the shard, which has so many ratings. The first look at any row checks every byte.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`](crate::ErrorKind::Damaged) if a byte is altered, or the row has not so many times.
    pub fn of_row(&self, row: usize, ratings: usize, times: &mut Vec<i64>) -> Result<()> {
        self.container.mapping().check_length()?;
        if !self.checked.load(Ordering::Acquire) {
            self.container.verify()?;
            self.checked.store(true, Ordering::Release);
        }
        let starts: &[u64] = self.container.slice(STARTS)?;
        let later: &[u8] = self.container.slice(LATER)?;
        let earliest = self.container.slice::<u64>(EARLIEST)?[row] as i64;
        let later = later.get(starts[row] as usize..starts[row + 1] as usize);
        let width = later.map_or(0, <[u8]>::len) / ratings.max(1);
        let later = later.filter(|later| later.len() == width * ratings && width <= 8);
        let Some(later) = later else {
            return Err(self.damaged("a row has not as many times as ratings"));
        };
        if width == 0 {
            times.extend(std::iter::repeat_n(earliest, ratings));
            return Ok(());
        }
        times.extend(later.chunks_exact(width).map(|bytes| {
            let mut later = [0; 8];
            later[..width].copy_from_slice(bytes);
            earliest.wrapping_add(u64::from_le_bytes(later) as i64)
        }));
        Ok(())
    }

    /// Gives back the memory that the file takes. What is looked at again is read from disk again.
    pub fn done_with(&self) {
        self.container.mapping().release();
    }

    /// Checks every byte, and that each row of the shard has as many times as ratings.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`](crate::ErrorKind::Damaged) if that is not so.
    pub fn verify(&self, shard: &Shard) -> Result<()> {
        self.container.verify()?;
        let mut times = Vec::new();
        for (row, ratings) in shard.row_lengths()?.enumerate() {
            times.clear();
            self.of_row(row, ratings, &mut times)?;
        }
        Ok(())
    }

    fn damaged(&self, what: &str) -> Error {
        Error::damaged(self.path(), 0, what)
    }
}

#[cfg(test)]
mod tests {
    use super::super::shard::{Encoding, Layout, shard_file};
    use super::super::shards_writer::ShardsWriter;
    use super::*;
    use crate::error::ErrorKind;
    use crate::matrix::Side;
    use proptest::prelude::*;

    const LAYOUT: Layout = Layout {
        side: Side::Users,
        part: Part::Test,
        encoding: Encoding::Packed,
        width: 1000,
    };

    fn write(dir: &Path, rows: &[Vec<i64>], shard_bytes: u64) -> usize {
        let mut writer = ShardsWriter::create(dir, LAYOUT, shard_bytes).with_times(true);
        for times in rows {
            let cols: Vec<u32> = (0..times.len() as u32).collect();
            writer
                .push_timed_row(&cols, &vec![1.0; times.len()], times)
                .unwrap();
        }
        writer.finish_timed().unwrap().1.len()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn times_come_back_whatever_they_are(
            rows in proptest::collection::vec(proptest::collection::vec(
                prop_oneof![any::<i64>(), 1_000_000_000_i64..1_000_070_000, Just(7), Just(i64::MIN)], 0..9), 1..40),
            shard_bytes in 0_u64..3000,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let files = write(dir.path(), &rows, shard_bytes);
            let mut found = Vec::new();
            for index in 0..files {
                let shard = Shard::open(dir.path().join(shard_file(index))).unwrap();
                let times = Times::open(&dir.path().join(times_file(index)), &shard).unwrap();
                times.verify(&shard).unwrap();
                for (row, ratings) in shard.row_lengths().unwrap().enumerate() {
                    let mut of_row = Vec::new();
                    times.of_row(row, ratings, &mut of_row).unwrap();
                    found.push(of_row);
                }
            }
            prop_assert_eq!(found, rows);
        }
    }

    #[test]
    fn the_times_of_other_rows_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[vec![5, 300], vec![9]], 1 << 20);
        let shard = Shard::open(dir.path().join(shard_file(0))).unwrap();
        let path = dir.path().join(times_file(0));
        let times = Times::open(&path, &shard).unwrap();
        let error = times.of_row(0, 3, &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        let other = dir.path().join("other");
        std::fs::create_dir(&other).unwrap();
        write(&other, &[vec![5, 300, 2]], 1 << 20);
        let error = Times::open(&other.join(times_file(0)), &shard).unwrap_err();
        assert!(error.to_string().contains("another shard"), "{error}");
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let times = Times::open(&path, &shard).unwrap();
        let error = times.of_row(0, 2, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("checksum"), "{error}");
    }
}
