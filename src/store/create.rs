//! A store in the making: a directory that becomes a store when its manifest is written.

use std::path::{Path, PathBuf};

use super::atomic::AtomicDir;
use super::container::Seal;
use super::dictionary::{Dictionary, IdSource, write_dictionary};
use super::disk::DiskFile;
use super::manifest::Manifest;
use super::shard::{Layout, Part};
use super::shards_writer::ShardsWriter;
use super::writer::CACHED;
use crate::error::{AtPath, Result};
use crate::matrix::Side;

/// The file of one side's dictionary.
pub(super) fn dictionary_file(side: Side) -> &'static str {
    match side {
        Side::Users => "users.dict",
        Side::Items => "items.dict",
    }
}

/// The directory of the shards of one part; held-out parts are kept by user only.
pub(super) fn shards_dir(part: Part, side: Side) -> &'static str {
    match (part, side) {
        (Part::Train, Side::Users) => "by_user",
        (Part::Train, Side::Items) => "by_item",
        (Part::Validation, _) => "validation",
        (Part::Test, _) => "test",
    }
}

/// Writes a store, which appears on [`commit`](StoreWriter::commit) or not at all.
#[derive(Debug)]
pub struct StoreWriter {
    dir: AtomicDir,
}

impl StoreWriter {
    /// Starts a store that will be at `path`.
    ///
    /// # Errors
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) as [`AtomicDir::create`].
    pub fn create(path: impl AsRef<Path>, force: bool) -> Result<StoreWriter> {
        let dir = AtomicDir::create(path, force)?;
        Ok(StoreWriter { dir })
    }

    /// Where the store lies until it is committed: room for temporary files, too, that are removed before.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A writer of the shards of one part by one side. It stands on its own, so that both sides may be written at once.
    /// Held-out parts are written by user, the training part by both.
    ///
    /// # Errors
    /// If the shards' directory exists or cannot be made.
    pub fn shards(&self, layout: Layout, shard_bytes: u64) -> Result<ShardsWriter> {
        let dir = self.dir.create_dir(shards_dir(layout.part, layout.side))?;
        Ok(ShardsWriter::create(dir, layout, shard_bytes))
    }

    /// Writes the dictionary of one side, as [`write_dictionary`].
    ///
    /// # Errors
    /// What the source gives, or if it cannot be written.
    pub fn dictionary(&self, ids: impl IdSource) -> Result<Seal> {
        let path = self.path().join(dictionary_file(ids.side()));
        let file = DiskFile::create(&path).at(&path)?.cached_within(CACHED);
        write_dictionary(file, &path, ids)
    }

    /// Opens the dictionary of one side, once it is written.
    ///
    /// # Errors
    /// As [`Dictionary::open`].
    pub fn open_dictionary(&self, side: Side) -> Result<Dictionary> {
        Dictionary::open(self.path().join(dictionary_file(side)))
    }

    /// Copies the dictionary of another store, after every byte of it was checked.
    ///
    /// # Errors
    /// If it is damaged, or cannot be written.
    pub fn copy_dictionary(&self, dictionary: &Dictionary) -> Result<Seal> {
        let path: PathBuf = self.path().join(dictionary_file(dictionary.side()));
        let file = DiskFile::create(&path).at(&path)?.cached_within(CACHED);
        dictionary.copy_to(file, &path)
    }

    /// Writes the manifest and puts the store in its place.
    ///
    /// # Errors
    /// [`Damaged`](crate::ErrorKind::Damaged) if the manifest contradicts itself; and as [`AtomicDir::commit`].
    pub fn commit(self, manifest: &Manifest) -> Result<()> {
        self.write_manifest(manifest)?;
        self.put_in_place()
    }

    /// Writes the manifest: from now on the store may be opened, where it lies.
    ///
    /// # Errors
    /// [`Damaged`](crate::ErrorKind::Damaged) if the manifest contradicts itself; or if it cannot be written.
    pub fn write_manifest(&self, manifest: &Manifest) -> Result<()> {
        manifest.check()?;
        manifest.write(self.path()).map(drop)
    }

    /// Puts the store, whose manifest is written, in its place.
    ///
    /// # Errors
    /// As [`AtomicDir::commit`].
    pub fn put_in_place(self) -> Result<()> {
        self.dir.commit()
    }
}
