//! The only memory map: open, view, advise, release.
//!
//! # When a mapped file shrinks
//!
//! Files of ours are immutable: they are written under another name, never rewritten in place, and replaced only by
//! renaming, while a mapping keeps the old file alive. What other tools do to them is another matter: reading a mapped page
//! that its file no longer has raises SIGBUS. So the length is compared with the header when a file is opened, and
//! [looked at again](Mapping::check_length) before each shard is used, which turns nearly all of these into errors; what
//! is cut off between that look and the reading is not to be foreseen. A program may ask for such a signal to become a
//! message and exit status 1 ([`exit_on_lost_pages`]), as the command line does; a library must not take a signal from
//! its caller unasked.
//!
//! # Byte order
//!
//! Files are little-endian and arrays are used where they lie, so the host has to be little-endian too.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io::Write;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use memmap2::{Advice, Mmap, UncheckedAdvice};

use super::disk::drop_from_cache;
use crate::error::{AtPath, Error, Result};

#[cfg(target_endian = "big")]
compile_error!("mapped files are little-endian: lowrank needs a little-endian machine");

/// Numbers that may be viewed in a mapped file: any bits are a value of theirs.
pub trait Element: bytemuck::Pod {}
impl Element for u8 {}
impl Element for u16 {}
impl Element for u32 {}
impl Element for u64 {}
impl Element for f32 {}

/// How a mapping will be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Here and there, a little at a time: read no more than what is asked for.
    Sparse,
    /// From start to end: read well ahead.
    Scan,
}

/// A file mapped for reading.
///
/// It keeps no file open, since a store may have more shards than a process may have open files.
#[derive(Debug)]
pub struct Mapping {
    map: Mmap,
    path: PathBuf,
    /// The [`Access`] that the system was told of last.
    access: AtomicU8,
    /// Device and number of the file, which the path may no longer lead to.
    file: (u64, u64),
}

impl Mapping {
    /// Maps a whole file, for [`Access::Sparse`] at first: looking at a header must not read half a shard ahead.
    ///
    /// # Errors
    /// If the file cannot be opened or mapped; [`Damaged`](crate::ErrorKind::Damaged) if it is empty.
    pub fn open(path: impl Into<PathBuf>) -> Result<Mapping> {
        let path = path.into();
        let file = File::open(&path).at(&path)?;
        let metadata = file.metadata().at(&path)?;
        if metadata.is_file() && metadata.len() == 0 {
            return Err(Error::damaged(&path, 0, "the file is empty"));
        }
        // SAFETY: the mapping is read-only, and files of ours are never written in place (see the module's documentation).
        let map = unsafe { Mmap::map(&file) }.at(&path)?;
        mapped().push((address_range(&map), path.clone()));
        let file = (metadata.dev(), metadata.ino());
        let mapping = Mapping {
            map,
            path,
            access: AtomicU8::new(Access::Scan as u8),
            file,
        };
        mapping.expect(Access::Sparse);
        Ok(mapping)
    }

    /// Looks whether the file still has all the bytes that are mapped. One that has been replaced or removed meanwhile has.
    ///
    /// # Errors
    /// [`Damaged`](crate::ErrorKind::Damaged), naming the place where it was cut off.
    pub fn check_length(&self) -> Result<()> {
        match fs::metadata(&self.path) {
            Ok(now) if (now.dev(), now.ino()) == self.file && now.len() < self.map.len() as u64 => {
                let what = format!(
                    "the file was cut short while it was in use: it had {} bytes",
                    self.map.len()
                );
                Err(Error::damaged(&self.path, now.len(), what)
                    .remedy("restore the file from a copy, or write it again"))
            }
            _ => Ok(()),
        }
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// A range of bytes as numbers.
    ///
    /// # Errors
    /// [`Damaged`](crate::ErrorKind::Damaged) if the range leaves the file, is not aligned for such numbers or does not
    /// hold a whole number of them.
    pub fn slice<T: Element>(&self, range: Range<u64>) -> Result<&[T]> {
        let damaged = |what| Error::damaged(&self.path, range.start, what);
        let (Ok(start), Ok(end)) = (usize::try_from(range.start), usize::try_from(range.end))
        else {
            return Err(damaged("a range beyond what this machine can address"));
        };
        let bytes = self
            .map
            .get(start..end)
            .ok_or_else(|| damaged("a range beyond the end of the file"))?;
        bytemuck::try_cast_slice(bytes)
            .map_err(|_| damaged("a range that does not hold whole, aligned numbers"))
    }

    /// Says how the file will be read from now on.
    pub fn expect(&self, access: Access) {
        if self.access.swap(access as u8, Ordering::Relaxed) != access as u8 {
            self.advise(match access {
                Access::Sparse => Advice::Random,
                Access::Scan => Advice::Sequential,
            });
        }
    }

    /// Starts reading the whole file into memory, without waiting for it.
    pub fn will_need(&self) {
        self.advise(Advice::WillNeed);
    }

    /// Starts reading those bytes of a range that the file has, without waiting for them.
    pub fn will_need_range(&self, range: Range<u64>) {
        let length = self.map.len() as u64;
        let (start, end) = (range.start.min(length), range.end.min(length));
        if start < end {
            let (start, length) = (start as usize, (end - start) as usize);
            self.log_failure(self.map.advise_range(Advice::WillNeed, start, length));
        }
    }

    /// Visits a range of bytes in order, in pieces of so many bytes. The next piece is read ahead and the one before is
    /// given back, so that no more than two are in memory at a time. A range of no more than that stays there.
    ///
    /// # Errors
    /// As [`slice`](Mapping::slice), and what `visit` returns.
    pub fn stream(
        &self,
        range: Range<u64>,
        piece: u64,
        mut visit: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let bytes: &[u8] = self.slice(range.clone())?;
        let passing = bytes.len() as u64 > piece.saturating_mul(2);
        self.will_need_range(range.start..range.start.saturating_add(piece));
        let mut start = range.start;
        for bytes in bytes.chunks(piece as usize) {
            let end = start + bytes.len() as u64;
            self.will_need_range(end..range.end.min(end.saturating_add(piece)));
            visit(bytes)?;
            if passing {
                self.release_range(start..end);
            }
            start = end;
        }
        Ok(())
    }

    /// Gives back the memory that the file takes, both in this process and in the page cache. Its bytes stay readable;
    /// the next look at them reads them from disk again.
    pub fn release(&self) {
        self.release_range(0..self.map.len() as u64);
    }

    fn release_range(&self, range: Range<u64>) {
        let (start, length) = (range.start as usize, (range.end - range.start) as usize);
        let advice = UncheckedAdvice::DontNeed;
        // SAFETY: the pages of a read-only mapping of a file hold nothing that the file does not: after this call they are
        // filled from it again, so that borrowed slices stay valid and keep their contents.
        let dropped = unsafe { self.map.unchecked_advise_range(advice, start, length) };
        // Pages that are mapped anywhere stay in the cache, which is why this comes second.
        let drop = |()| drop_from_cache(&File::open(&self.path)?, range.end);
        if let Err(error) = dropped.and_then(drop) {
            log::debug!(
                "{}: memory was not given back: {error}",
                self.path.display()
            );
        }
    }

    fn advise(&self, advice: Advice) {
        self.log_failure(self.map.advise(advice));
    }

    /// Advice changes speed only, so that its failure is worth no more than a line in the log.
    fn log_failure(&self, advised: std::io::Result<()>) {
        if let Err(error) = advised {
            log::debug!("{}: advice not taken: {error}", self.path.display());
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let range = address_range(&self.map);
        mapped().retain(|(mapped, _)| *mapped != range);
    }
}

/// The addresses of all mappings and the files behind them, for whoever must tell what a signal is about.
static MAPPED: Mutex<Vec<(Range<usize>, PathBuf)>> = Mutex::new(Vec::new());

fn mapped() -> MutexGuard<'static, Vec<(Range<usize>, PathBuf)>> {
    MAPPED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn address_range(map: &Mmap) -> Range<usize> {
    let range = map.as_ptr_range();
    range.start.addr()..range.end.addr()
}

/// Gives back to the system what the allocator keeps for later: it keeps what was freed in pieces, and the next stage of a
/// work that lives within a budget asks for other pieces. Does nothing where the allocator is not that of glibc.
pub fn trim_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes no pointers, and the allocator locks what it looks at.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// From now on each thread's heap keeps so much of what was freed at its end, which it would give back to the system at once
/// and ask for again with the next piece of a work: page by page, cleared. [`trim_heap`] gives it back. Does nothing where
/// the allocator is not that of glibc.
pub fn keep_freed(bytes: u64) {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// Larger pieces lie outside of the heap: the most that glibc allows, half of a thread's heap.
        const LARGEST_PIECE: libc::c_int = 32 << 20;
        let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
        // SAFETY: it takes no pointers, and the allocator locks what it changes.
        unsafe {
            libc::mallopt(libc::M_TRIM_THRESHOLD, bytes);
            libc::mallopt(libc::M_MMAP_THRESHOLD, bytes.min(LARGEST_PIECE));
        }
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    let _ = bytes;
}

/// From now on, reading a page of a mapped file that cannot be had, since the file was cut short or its disk failed, ends
/// the process with a line that names file and offset on standard error, and exit status 1, rather than by SIGBUS.
///
/// It is for programs: the handler is the process's own. Signals that are not about a mapping of ours do what they did.
pub fn exit_on_lost_pages() {
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_bus_error;
    // SAFETY: all zeros are a valid `sigaction`, and the handler has the signature that SA_SIGINFO asks for. What it calls
    // is safe within a signal handler: it allocates nothing and waits for nobody.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut());
    }
}

extern "C" fn on_bus_error(
    _signal: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    /// Whether a thread has begun to tell: others that come to the same end leave it to that one.
    static TOLD: AtomicBool = AtomicBool::new(false);
    // SAFETY: the system hands over a valid `siginfo_t`, which for this signal holds an address.
    let address = unsafe { (*info).si_addr() }.addr();
    // Whoever holds the lock does not read maps meanwhile, so this thread does not, and another is soon done.
    let list = (0..1 << 20).find_map(|_| MAPPED.try_lock().ok());
    let found = list.as_ref().and_then(|list| {
        let found = list.iter().find(|(range, _)| range.contains(&address));
        found.map(|(range, path)| (address - range.start, path))
    });
    let Some((offset, path)) = found else {
        // SAFETY: no more than the default action is asked for, which the same fault meets as soon as this returns.
        unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
        return;
    };
    if TOLD.swap(true, Ordering::AcqRel) {
        loop {
            std::hint::spin_loop();
        }
    }
    let mut line = [0; 8192];
    let mut rest = &mut line[..];
    // A name that does not fit is cut off.
    let _ = rest
        .write_all(b"error: ")
        .and_then(|()| rest.write_all(path.as_os_str().as_bytes()))
        .and_then(|()| {
            let what = "the file was cut short while it was in use, or its disk fails";
            writeln!(
                rest,
                " at byte {offset}: {what}; restore the file from a copy, or write it again"
            )
        });
    let unused = rest.len();
    let length = line.len() - unused;
    // SAFETY: the buffer holds so many bytes; both calls are safe within a signal handler.
    unsafe {
        libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), length);
        libc::_exit(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn map_of(bytes: &[u8]) -> (tempfile::TempDir, Mapping) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, bytes).unwrap();
        let mapping = Mapping::open(path).unwrap();
        (dir, mapping)
    }

    #[test]
    fn slices_check_range_and_alignment() {
        let bytes: Vec<u8> = (0..64).collect();
        let (_dir, mapping) = map_of(&bytes);
        assert_eq!(
            mapping.slice::<u32>(4..12).unwrap(),
            [0x0706_0504, 0x0b0a_0908]
        );
        assert_eq!(
            mapping.slice::<u64>(8..16).unwrap(),
            [0x0f0e_0d0c_0b0a_0908]
        );
        assert!(mapping.slice::<f32>(64..64).unwrap().is_empty());
        let reversed = Range { start: 8, end: 4 };
        for range in [0..65, 2..6, 0..6, 65..65, u64::MAX..u64::MAX, reversed] {
            let error = mapping.slice::<u32>(range).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Damaged);
        }
    }

    #[test]
    fn released_pages_come_back_from_the_file() {
        let bytes: Vec<u8> = (0..1 << 20).map(|i: u32| (i % 251) as u8).collect();
        let (_dir, mapping) = map_of(&bytes);
        let view = mapping.bytes();
        mapping.expect(Access::Scan);
        for _ in 0..3 {
            mapping.will_need();
            assert!(view == bytes);
            mapping.release();
        }
        mapping.expect(Access::Sparse);
        assert!(view == bytes);
        for (range, piece) in [
            (0..1 << 20, 1 << 16),
            (5..1 << 20, 300_001),
            (4096..4096, 7),
            (9..20, u64::MAX),
        ] {
            let mut visited = Vec::new();
            let visit = |bytes: &[u8]| {
                assert!(bytes.len() as u64 <= piece);
                visited.extend_from_slice(bytes);
                Ok(())
            };
            mapping.stream(range.clone(), piece, visit).unwrap();
            assert!(visited == bytes[range.start as usize..range.end as usize]);
        }
        assert!(mapping.stream(7..1 << 21, 9, |_| Ok(())).is_err());
        mapping.will_need_range(1 << 19..u64::MAX);
        assert!(view == bytes);
    }

    #[test]
    fn a_file_that_is_cut_short_is_noticed_and_one_that_is_replaced_is_not_missed() {
        let (dir, mapping) = map_of(&[7; 10_000]);
        mapping.check_length().unwrap();
        let other = dir.path().join("other");
        fs::write(&other, [8; 10]).unwrap();
        let file = File::options().write(true).open(mapping.path()).unwrap();
        fs::rename(&other, mapping.path()).unwrap();
        mapping.check_length().unwrap();
        assert!(mapping.bytes() == [7; 10_000]);
        fs::remove_file(mapping.path()).unwrap();
        mapping.check_length().unwrap();
        drop(file);

        let (_dir, mapping) = map_of(&[7; 10_000]);
        let file = File::options().write(true).open(mapping.path()).unwrap();
        file.set_len(5_000).unwrap();
        let error = mapping.check_length().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        assert_eq!(
            error.position(),
            Some(crate::error::Position::Offset(5_000))
        );
    }

    #[test]
    fn empty_and_missing_files_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        assert_eq!(Mapping::open(&path).unwrap_err().kind(), ErrorKind::Io);
        fs::write(&path, b"").unwrap();
        assert_eq!(Mapping::open(&path).unwrap_err().kind(), ErrorKind::Damaged);
        assert_eq!(Mapping::open(dir.path()).unwrap_err().kind(), ErrorKind::Io);
    }
}
