//! Files of floats without a name: what spilled factors lie in.
//!
//! The budget is for factors that somebody looks at, so the page cache keeps none of them: what has been read is dropped at
//! once, what has been written as soon as it is on disk. Disk space is taken when the file is made, not when it is needed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::disk::DiskFile;
use crate::error::{AtPath, Error, ErrorKind, Result};
use crate::matrix::{Scratch, Traffic};
use crate::memory::Bytes;

/// A file without a name, read and written by position.
#[derive(Debug)]
pub struct ScratchFile {
    file: DiskFile,
    folder: PathBuf,
    bytes: u64,
    counts: Arc<Counts>,
}

/// What went through a file and its copies.
#[derive(Debug, Default)]
struct Counts {
    read: AtomicU64,
    written: AtomicU64,
    nanoseconds: AtomicU64,
}

impl ScratchFile {
    /// Bytes that the page cache may hold of a file, on their way in and out.
    pub const CACHED: u64 = PIECE as u64 + DIRTY;

    /// A file of so many bytes, all zero, in `folder`.
    ///
    /// # Errors
    /// If it cannot be made, or the disk has no room for it.
    pub fn new(folder: &Path, bytes: u64) -> Result<ScratchFile> {
        ScratchFile::counted(folder, bytes, Arc::default())
    }

    /// Bytes a second that the disk of `folder` reads, by a short trial.
    ///
    /// # Errors
    /// If no file can be made there.
    pub fn speed(folder: &Path) -> Result<f64> {
        let trial = ScratchFile::new(folder, TRIAL)?;
        let mut piece = vec![0.0; PIECE / 4];
        let starts = || (0..TRIAL / 4).step_by(PIECE / 4);
        starts().try_for_each(|at| trial.write(at, &piece))?;
        let before = trial.traffic();
        starts().try_for_each(|at| trial.read(at, &mut piece))?;
        let read = trial.traffic() - before;
        Ok(read.read as f64 / read.waited.as_secs_f64())
    }

    fn counted(folder: &Path, bytes: u64, counts: Arc<Counts>) -> Result<ScratchFile> {
        let file = DiskFile::unnamed(folder).at(folder)?.cached_within(DIRTY);
        match reserve(file.file(), bytes) {
            // Where space cannot be taken beforehand, a full disk shows later.
            Err(e) if e.kind() == io::ErrorKind::Unsupported => {
                file.file().set_len(bytes).at(folder)?;
            }
            Err(e) if e.kind() == io::ErrorKind::StorageFull => {
                let what = format!("the disk has no room for {} of factors", Bytes(bytes));
                return Err(Error::new(ErrorKind::Io, what)
                    .path(folder)
                    .remedy("make room there, or give a higher --memory"));
            }
            taken => taken.at(folder)?,
        }
        Ok(ScratchFile {
            file,
            folder: folder.to_owned(),
            bytes,
            counts,
        })
    }

    /// Runs a transfer and counts its time.
    fn timed<T>(&self, transfer: impl FnOnce() -> io::Result<T>) -> Result<T> {
        let began = Instant::now();
        let done = transfer().at(&self.folder);
        let waited = began.elapsed().as_nanos() as u64;
        self.counts.nanoseconds.fetch_add(waited, Ordering::Relaxed);
        done
    }
}

/// Bytes of a trial of the disk.
const TRIAL: u64 = 4 << 20;

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

/// Bytes that are written before they are dropped from the cache, for which they have to be on disk.
const DIRTY: u64 = 1 << 20;

/// Takes disk space for an empty file.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    Ok(fallocate(file, FallocateFlags::empty(), 0, bytes.max(1))?)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn reserve(_file: &File, _bytes: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

impl Scratch for ScratchFile {
    fn read(&self, at: u64, into: &mut [f32]) -> Result<()> {
        let mut at = 4 * at;
        for piece in bytemuck::cast_slice_mut::<f32, u8>(into).chunks_mut(PIECE) {
            let bytes = piece.len() as u64;
            self.timed(|| self.file.read_in_passing(piece, at))?;
            self.counts.read.fetch_add(bytes, Ordering::Relaxed);
            at += bytes;
        }
        Ok(())
    }

    fn write(&self, at: u64, floats: &[f32]) -> Result<()> {
        let mut at = 4 * at;
        for piece in bytemuck::cast_slice::<f32, u8>(floats).chunks(DIRTY as usize) {
            self.timed(|| self.file.write_all_at(piece, at))?;
            let bytes = piece.len() as u64;
            self.counts.written.fetch_add(bytes, Ordering::Relaxed);
            at += bytes;
        }
        Ok(())
    }

    fn copy(&self) -> Result<Box<dyn Scratch>> {
        let copy = ScratchFile::counted(&self.folder, self.bytes, self.counts.clone())?;
        let mut piece = vec![0.0; PIECE / 4];
        let floats = self.bytes / 4;
        let mut at = 0;
        while at < floats {
            let count = (floats - at).min(piece.len() as u64);
            let piece = &mut piece[..count as usize];
            self.read(at, piece)?;
            copy.write(at, piece)?;
            at += count;
        }
        Ok(Box::new(copy))
    }

    fn traffic(&self) -> Traffic {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Traffic {
            read: count(&self.counts.read),
            written: count(&self.counts.written),
            waited: Duration::from_nanos(count(&self.counts.nanoseconds)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::{Factors, Room};

    #[test]
    fn what_is_written_is_read_in_any_pieces_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let floats: Vec<f32> = (0..1_000_000).map(|i| i as f32).collect();
        let file = ScratchFile::new(folder.path(), 4_000_000).unwrap();
        file.write(10, &floats[10..700_000]).unwrap();
        file.write(700_000, &floats[700_000..]).unwrap();
        let copy = file.copy().unwrap();
        let mut read = vec![1.0; 1_000_000];
        copy.read(0, &mut read).unwrap();
        assert!(read[..10] == [0.0; 10] && read[10..] == floats[10..]);
        let Traffic { read, written, .. } = copy.traffic();
        assert_eq!((read, written), (8_000_000, 7_999_960));
        assert!(file.read(1_000_000, &mut [0.0]).is_err());
    }

    #[test]
    fn spilled_factors_are_those_in_memory_and_a_copy_keeps_what_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let (rows, rank) = (23, 18);
        for biases in [true, false] {
            let mut held = Factors::zeros(rows, rank, biases);
            let bytes = Factors::bytes(rows, rank, biases);
            let file = Box::new(ScratchFile::new(folder.path(), bytes).unwrap());
            let room = Room {
                band: 5 * bytes / rows as u64,
                sums: 0,
            };
            let mut spilled = Factors::spilled(rows, rank, biases, file, room);
            let (mut band, before) = (held.empty_band(), spilled.clone());
            assert_eq!(before, spilled);
            let stride = held.stride();
            for factors in [&mut held, &mut spilled] {
                for rows in factors.bands(0..rows) {
                    let number = |flat: &mut [f32], biases: &mut [f32]| {
                        for (row, own) in rows.clone().zip(flat.chunks_exact_mut(stride)) {
                            (0..rank).for_each(|k| own[k] += (100 * row + k) as f32);
                        }
                        for (row, bias) in rows.clone().zip(biases) {
                            *bias -= row as f32;
                        }
                        Ok(())
                    };
                    factors.edit(rows.clone(), &mut band, number).unwrap();
                }
            }
            assert_eq!(spilled.bands(3..rows).next(), Some(3..8));
            for range in [0..5, 4..5, 5..23] {
                let (loaded, first) = spilled.load(range.clone(), &mut band).unwrap();
                assert_eq!((loaded.rows(), first), (range.len(), range.start));
                for row in range {
                    assert_eq!(loaded.padded_row(row - first), held.padded_row(row));
                    assert_eq!(loaded.bias(row - first), held.bias(row));
                }
            }
            let (zeros, _) = before.load(0..rows, &mut band).unwrap();
            assert!(zeros.flat().iter().chain(zeros.biases()).all(|&x| x == 0.0));
            assert_ne!(before, spilled);
        }
    }
}
