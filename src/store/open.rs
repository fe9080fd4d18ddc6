//! A store, opened: every file mapped and matched with the manifest.

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::atomic::retry_if_replaced;
use super::container::{MANIFEST_FILE, Seal, kind_of};
use super::create::{dictionary_file, shards_dir};
use super::dictionary::Dictionary;
use super::header::Kind;
use super::manifest::Manifest;
use super::shard::{Encoding, Part, Shard, ShardEntry, shard_file};
use super::streamed::choose;
use super::tiles::StoredTiles;
use super::times::{Times, times_file};
use crate::error::{AtPath, Error, ErrorKind, Result};
use crate::matrix::{Block, Ratings, Row, RowScratch, Shape, Side, Tiles};

/// Ratings on disk.
///
/// As [`Ratings`] it gives the training part, one block a shard.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    manifest: Manifest,
    manifest_seal: Seal,
    users: Dictionary,
    items: Dictionary,
    by_user: Vec<Shard>,
    by_item: Vec<Shard>,
    validation: Vec<Shard>,
    test: Vec<Shard>,
    /// The times of the training, validation and test part, a file for each shard by user; none if times are not kept.
    times: [Vec<Times>; 3],
    /// Bytes that may stay in memory between uses.
    room: u64,
    /// Bytes of tiles that were to be read so far.
    tiles_read: Arc<AtomicU64>,
}

impl Store {
    /// Opens a store that fits in memory: what was read once stays there as long as the system likes.
    ///
    /// # Errors
    /// As [`open_within`](Store::open_within).
    pub fn open(path: impl AsRef<Path>) -> Result<Store> {
        Store::open_within(path, u64::MAX)
    }

    /// Opens a store of whose shards at most `cache_bytes` may stay in memory between uses; those in use come on top.
    ///
    /// If the shards are more than that, some of each side and part are kept, always the same, and the rest are given
    /// back after each use: of a scan that comes round again, no other choice finds more in memory.
    ///
    /// # Errors
    /// [`ErrorKind::Incompatible`] if there is something else than a store, or one of a later version;
    /// [`ErrorKind::Damaged`] if a file is cut short, altered in what is checked here, or another store's.
    pub fn open_within(path: impl AsRef<Path>, cache_bytes: u64) -> Result<Store> {
        let path = path.as_ref();
        let mut store = retry_if_replaced(path, || Store::open_all(path))?;
        store.keep_within(cache_bytes);
        Ok(store)
    }

    fn open_all(path: &Path) -> Result<Store> {
        expect_store(path)?;
        let (manifest, manifest_seal) = Manifest::read(path)?;
        let dictionary = |side: Side| open_dictionary(path, &manifest, side);
        let shards = |part, side, entries| open_shards(path, &manifest, part, side, entries);
        let by_user = shards(Part::Train, Side::Users, &manifest.by_user)?;
        let validation = shards(Part::Validation, Side::Users, &manifest.validation)?;
        let test = shards(Part::Test, Side::Users, &manifest.test)?;
        let times = |part, shards: &[Shard]| open_times(path, &manifest, part, shards);
        Ok(Store {
            path: path.to_owned(),
            manifest_seal,
            users: dictionary(Side::Users)?,
            items: dictionary(Side::Items)?,
            by_item: shards(Part::Train, Side::Items, &manifest.by_item)?,
            times: [
                times(Part::Train, &by_user)?,
                times(Part::Validation, &validation)?,
                times(Part::Test, &test)?,
            ],
            by_user,
            validation,
            test,
            manifest,
            room: u64::MAX,
            tiles_read: Arc::default(),
        })
    }

    /// Changes how much of the store may stay in memory between uses.
    pub fn keep_within(&mut self, cache_bytes: u64) {
        self.room = cache_bytes;
        self.keep_shards_within(cache_bytes);
    }

    fn keep_shards_within(&self, room: u64) {
        choose(room, self.shard_lists(), |_, shard, kept| shard.keep(kept));
    }

    /// The shards by user and by item, and those of the validation and the test part.
    pub(super) fn shard_lists(&self) -> [&[Shard]; 4] {
        [&self.by_user, &self.by_item, &self.validation, &self.test].map(Vec::as_slice)
    }

    /// Bytes that may stay in memory between uses.
    pub(super) fn room(&self) -> u64 {
        self.room
    }

    /// Where the store is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the store holds.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The users' ids.
    pub fn users(&self) -> &Dictionary {
        &self.users
    }

    /// The items' ids and titles.
    pub fn items(&self) -> &Dictionary {
        &self.items
    }

    /// The ids of one side.
    pub fn dictionary(&self, side: Side) -> &Dictionary {
        match side {
            Side::Users => &self.users,
            Side::Items => &self.items,
        }
    }

    /// The shards of the training part by one side.
    pub fn shards(&self, side: Side) -> &[Shard] {
        match side {
            Side::Users => &self.by_user,
            Side::Items => &self.by_item,
        }
    }

    /// How many training ratings each row of a side has. Reads no ratings, and checks none.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] if a shard has not the sections of its encoding.
    pub fn rating_counts(&self, side: Side) -> Result<Vec<u32>> {
        rating_counts(self.shards(side))
    }

    /// Bytes of the longest training row of either side where rows are decoded, none where they are viewed: what each
    /// thread that looks at rows may need.
    ///
    /// # Errors
    /// As [`rating_counts`](Store::rating_counts).
    pub fn row_memory(&self) -> Result<u64> {
        if self.manifest.encoding == Encoding::Plain {
            return Ok(0);
        }
        let mut longest = 0;
        for shard in self.by_user.iter().chain(&self.by_item) {
            longest = shard.row_lengths()?.fold(longest, usize::max);
            shard.done_with();
        }
        Ok((longest * RowScratch::BYTES) as u64)
    }

    /// Bytes of the largest shard: what is in memory while it is looked at.
    pub fn largest_shard(&self) -> u64 {
        let shards = self.all_shards().map(|shard| shard.entry().seal.bytes);
        shards.max().unwrap_or(0)
    }

    /// One part's ratings by user, if the store has this part.
    pub fn part(&self, part: Part) -> Option<UserRows<'_>> {
        let shards = match part {
            Part::Train => &self.by_user,
            Part::Validation => &self.validation,
            Part::Test => &self.test,
        };
        let shape = self.shape();
        (part == Part::Train || !shards.is_empty()).then_some(UserRows {
            shards,
            times: &self.times[part as usize],
            users: shape.users,
            items: shape.items,
        })
    }

    /// The training ratings as tiles, if some training has made them. Opens their files.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] if a file is cut short, altered in what is checked here, or another store's.
    pub fn stored_tiles(&self) -> Result<Option<StoredTiles>> {
        let mut tiles = StoredTiles::open(&self.path, self.manifest_seal, self.shape())?;
        if let Some(tiles) = &mut tiles {
            tiles.keep_within(self.room);
        }
        Ok(tiles)
    }

    /// Where tiles that are not there yet would be made: in the store, or, if it cannot be written to, in files without a
    /// name among the system's temporary ones.
    pub fn tiles_folder(&self) -> PathBuf {
        StoredTiles::folder(&self.path)
    }

    /// Bytes of all files together, tiles included where there are sound ones.
    pub fn bytes(&self) -> u64 {
        let tiles = self.stored_tiles().ok().flatten();
        self.bytes_without_tiles() + tiles.map_or(0, |tiles| tiles.bytes())
    }

    /// Bytes of all files but tiles.
    pub fn bytes_without_tiles(&self) -> u64 {
        let shards = self.all_shards().map(|shard| shard.entry().seal.bytes);
        let times = self.manifest.times.iter().flat_map(|times| times.all());
        self.manifest_seal.bytes
            + times.map(|seal| seal.bytes).sum::<u64>()
            + self.users.seal().bytes
            + self.items.seal().bytes
            + shards.sum::<u64>()
    }

    /// Every shard of every part.
    pub(super) fn all_shards(&self) -> impl Iterator<Item = &Shard> {
        self.shard_lists().into_iter().flatten()
    }

    /// Length and checksum of the manifest.
    pub(super) fn manifest_seal(&self) -> Seal {
        self.manifest_seal
    }
}

impl Ratings for Store {
    fn shape(&self) -> Shape {
        self.manifest.shape()
    }

    fn blocks(&self, side: Side) -> usize {
        self.shards(side).len()
    }

    fn block(&self, side: Side, index: usize) -> Result<Block<'_>> {
        self.shards(side)[index].block()
    }

    fn row_lengths(&self, side: Side, index: usize, tell: &mut dyn FnMut(usize)) -> Result<()> {
        tell_lengths(&self.shards(side)[index], tell)
    }

    fn least_rating(&self) -> Option<f32> {
        Some(self.manifest.scale.0)
    }

    fn will_need(&self, side: Side, index: usize) {
        self.shards(side)[index].will_need();
    }

    fn done_with(&self, side: Side, index: usize) {
        self.shards(side)[index].done_with();
    }

    fn bytes_read(&self) -> u64 {
        let tiles = self.tiles_read.load(Ordering::Relaxed);
        bytes_read(&self.by_user) + bytes_read(&self.by_item) + tiles
    }

    fn will_need_ids(&self, side: Side, rows: Range<usize>) {
        self.dictionary(side).will_need(rows);
    }

    fn done_with_ids(&self, side: Side) {
        self.dictionary(side).release();
    }

    /// Maps the tiles, having made them if there are none. From then on they are what stays in memory between uses,
    /// before any shard.
    fn tiles(&self) -> Result<Box<dyn Tiles>> {
        let mut tiles = match self.stored_tiles()? {
            Some(tiles) => tiles,
            None => {
                // All room is for the tiles in the making.
                self.keep_shards_within(0);
                StoredTiles::make(&self.path, self.manifest_seal, self, self.room)?
            }
        };
        self.keep_shards_within(tiles.keep_within(self.room));
        Ok(Box::new(tiles.counted(&self.tiles_read)))
    }

    fn id(&self, side: Side, row: usize) -> Cow<'_, str> {
        match self.dictionary(side).id(row) {
            Ok(id) => Cow::Borrowed(id),
            Err(_) => Cow::Owned(format!("#{row}")),
        }
    }
}

/// The ratings of one part by user: in blocks, or one user at a time. As [`Ratings`] it has rows of users only.
#[derive(Debug, Clone, Copy)]
pub struct UserRows<'a> {
    shards: &'a [Shard],
    times: &'a [Times],
    users: usize,
    items: usize,
}

impl<'a> UserRows<'a> {
    /// The shards, one a block.
    pub fn shards(&self) -> &'a [Shard] {
        self.shards
    }

    /// The files of times, one for each shard; none if the store keeps no times.
    pub fn times(&self) -> &'a [Times] {
        self.times
    }

    /// Appends the times of a user's so many ratings, in order of the row; nothing if the store keeps no times.
    ///
    /// # Errors
    /// As [`Times::of_row`].
    pub fn times_of(&self, user: usize, ratings: usize, times: &mut Vec<i64>) -> Result<()> {
        let index = self.index_of(user);
        match (self.times.get(index), self.shards.get(index)) {
            (Some(file), Some(shard)) => {
                file.of_row(user - shard.entry().first_row as usize, ratings, times)
            }
            _ => Ok(()),
        }
    }

    /// How many ratings.
    pub fn ratings(&self) -> u64 {
        self.shards.iter().map(|shard| shard.entry().ratings).sum()
    }

    /// Memory that going over users in order takes, in bytes: a few of them may lie in two shards.
    pub fn memory(&self) -> u64 {
        let bytes = self.shards.iter().map(|shard| shard.entry().seal.bytes);
        2 * bytes.max().unwrap_or(0)
    }

    /// How many ratings each user has in this part. Reads no ratings, and checks none.
    ///
    /// # Errors
    /// As [`Store::rating_counts`].
    pub fn rating_counts(&self) -> Result<Vec<u32>> {
        rating_counts(self.shards)
    }

    /// The block that holds a user's row, and the row's number within the block.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownId`] if there is no such user, and as [`Shard::block`].
    pub fn find(&self, user: usize) -> Result<(Block<'a>, usize)> {
        let index = self.index_of(user);
        let shard = self.shards.get(index).ok_or_else(|| {
            Error::new(
                ErrorKind::UnknownId,
                format!("there is no row of user {user}"),
            )
        })?;
        let block = shard.block()?;
        Ok((block, user - block.first_row()))
    }

    /// Visits the rows of these users, with their places among them. Of users who come one after the other, a shard is looked
    /// at once.
    ///
    /// # Errors
    /// As [`find`](UserRows::find).
    pub fn visit(&self, users: &[u32], mut visit: impl FnMut(usize, Row<'_>)) -> Result<()> {
        let mut scratch = RowScratch::default();
        let mut last: Option<Block<'_>> = None;
        for (at, &user) in users.iter().enumerate() {
            let user = user as usize;
            let has = |block: &Block<'_>| {
                let first = block.first_row();
                (first..first + block.rows()).contains(&user)
            };
            let block = match last.take().filter(has) {
                Some(block) => block,
                None => self.find(user)?.0,
            };
            visit(at, block.row(user - block.first_row(), &mut scratch));
            last = Some(block);
        }
        Ok(())
    }

    /// Gives back the memory of the shards from that of the first of these users on, as far as they end before the last.
    ///
    /// # Panics
    /// If the range starts after its end.
    pub fn release(&self, users: Range<usize>) {
        let done = self.index_of(users.start)..self.index_of(users.end);
        self.shards[done.clone()].iter().for_each(Shard::done_with);
        if !self.times.is_empty() {
            self.times[done].iter().for_each(Times::done_with);
        }
    }

    /// The shard that a user's row lies in.
    fn index_of(&self, user: usize) -> usize {
        self.shards
            .partition_point(|shard| shard.ends_before(user as u64))
    }
}

impl Ratings for UserRows<'_> {
    fn shape(&self) -> Shape {
        Shape {
            users: self.users,
            items: self.items,
            ratings: self.ratings(),
        }
    }

    fn blocks(&self, side: Side) -> usize {
        match side {
            Side::Users => self.shards.len(),
            Side::Items => 0,
        }
    }

    fn block(&self, _side: Side, index: usize) -> Result<Block<'_>> {
        self.shards[index].block()
    }

    fn row_lengths(&self, _side: Side, index: usize, tell: &mut dyn FnMut(usize)) -> Result<()> {
        tell_lengths(&self.shards[index], tell)
    }

    fn will_need(&self, _side: Side, index: usize) {
        self.shards[index].will_need();
    }

    fn done_with(&self, _side: Side, index: usize) {
        self.shards[index].done_with();
    }

    fn bytes_read(&self) -> u64 {
        bytes_read(self.shards)
    }
}

fn bytes_read(shards: &[Shard]) -> u64 {
    shards.iter().map(Shard::bytes_read).sum()
}

fn tell_lengths(shard: &Shard, tell: &mut dyn FnMut(usize)) -> Result<()> {
    shard.row_lengths()?.for_each(tell);
    shard.done_with();
    Ok(())
}

/// How many ratings each row of these shards has.
fn rating_counts(shards: &[Shard]) -> Result<Vec<u32>> {
    let mut counts = Vec::new();
    for shard in shards {
        counts.extend(shard.row_lengths()?.map(|length| length as u32));
        shard.done_with();
    }
    Ok(counts)
}

/// Says what is there instead of a store.
fn expect_store(path: &Path) -> Result<()> {
    let metadata = std::fs::metadata(path).at(path)?;
    let message = match kind_of(path) {
        Some(Kind::Manifest) if metadata.is_dir() => return Ok(()),
        Some(kind) if kind != Kind::Manifest => format!("this is {}, not a store", kind.noun()),
        // A damaged manifest is reported as such, by whoever reads it.
        _ if path.join(MANIFEST_FILE).is_file() => return Ok(()),
        _ => "this is not a store".to_owned(),
    };
    Err(Error::new(ErrorKind::Incompatible, message)
        .path(path)
        .remedy("name the directory that lowrank import wrote"))
}

fn open_dictionary(store: &Path, manifest: &Manifest, side: Side) -> Result<Dictionary> {
    let dictionary = Dictionary::open(store.join(dictionary_file(side)))?;
    let whole = dictionary.side() == side && dictionary.len() == manifest.shape().rows(side);
    match whole && dictionary.seal() == manifest.dictionary(side) {
        true => Ok(dictionary),
        false => Err(foreign(dictionary.path())),
    }
}

fn open_shards(
    store: &Path,
    manifest: &Manifest,
    part: Part,
    side: Side,
    entries: &[ShardEntry],
) -> Result<Vec<Shard>> {
    let dir = store.join(shards_dir(part, side));
    let width = manifest.shape().rows(side.other()) as u64;
    let open = |(index, entry): (usize, &ShardEntry)| {
        let mut shard = Shard::open(dir.join(shard_file(index)))?;
        let layout = shard.layout();
        // A shard that an update has taken over is as wide as the store was before.
        let fits = layout.side == side && layout.part == part && u64::from(layout.width) <= width;
        if !fits || shard.entry() != *entry {
            return Err(foreign(shard.path()));
        }
        shard.widen(width as u32);
        Ok(shard)
    };
    entries.iter().enumerate().map(open).collect()
}

fn open_times(
    store: &Path,
    manifest: &Manifest,
    part: Part,
    shards: &[Shard],
) -> Result<Vec<Times>> {
    let Some(seals) = &manifest.times else {
        return Ok(Vec::new());
    };
    let dir = store.join(shards_dir(part, Side::Users));
    let open = |((index, shard), seal): ((usize, &Shard), &Seal)| {
        let times = Times::open(&dir.join(times_file(index)), shard)?;
        match times.seal() == *seal {
            true => Ok(times),
            false => Err(foreign(times.path())),
        }
    };
    let shards = shards.iter().enumerate();
    shards.zip(seals.part(part)).map(open).collect()
}

/// The error for a file that is whole, but not the one that the manifest speaks of.
fn foreign(path: &Path) -> Error {
    Error::new(
        ErrorKind::Damaged,
        "not the file that the manifest speaks of",
    )
    .path(path)
    .remedy("put the right file back, or import again")
}
