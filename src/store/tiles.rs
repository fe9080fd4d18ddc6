//! Tiles on disk: the training ratings in a third layout, made when a method first asks for it.
//!
//! `tiles/` has a file for each wave, and an index: the counts of every row, the codebook, the seal of each wave, and that
//! of the store's manifest. Tiles are made from immutable shards, so they cannot be stale; the seal tells those of another
//! store. A store that cannot be written to keeps them in files without a name, for as long as the process lives.

use std::env::temp_dir;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::atomic::AtomicDir;
use super::codec;
use super::container::{Container, MANIFEST_FILE, Seal};
use super::header::Kind;
use super::map::Access;
use super::streamed::take;
use super::writer::ContainerWriter;
use crate::error::{AtPath, Error, ErrorKind, Result};
use crate::matrix::{Census, Grid, HeldWave, Ratings, Shape, Side, Tiles, Values, Wave};

/// The directory within a store.
const DIR: &str = "tiles";

/// The file in it that makes it one of tiles.
const INDEX: &str = "index";

/// How ratings lie in waves, of which the index tells. Tiles are made anew rather than read in a layout of before: 0 had them by user.
const LAYOUT: u32 = 1;

const RECORD: &str = "record";
const CODEBOOK: &str = "codebook";

const STARTS: &str = "starts";
const USERS: &str = "users";
const ITEMS: &str = "items";
const CODES: &str = "codes";
const VALUES: &str = "values";

/// What the index says beside counts and codebook.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// The manifest of the store whose ratings these are.
    manifest: Seal,
    /// Whether ratings are places in the codebook.
    coded: bool,
    /// The files of all waves.
    waves: Vec<Seal>,
}

/// Tiles of a store, mapped for reading.
#[derive(Debug)]
pub struct StoredTiles {
    dir: PathBuf,
    grid: Grid,
    counts: [Vec<u32>; 2],
    codebook: Option<Vec<f32>>,
    index: Seal,
    waves: Vec<WaveFile>,
    /// Whether this process has written them: the numbers are right then if the checksums are.
    known: bool,
    /// Bytes of waves that were to be read so far.
    read: Arc<AtomicU64>,
}

#[derive(Debug)]
struct WaveFile {
    container: Container,
    checked: AtomicBool,
    kept: bool,
}

impl StoredTiles {
    /// Opens the tiles of a store, if they have been made.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] if a file is cut short, altered in what is checked here, or another store's.
    pub(super) fn open(store: &Path, manifest: Seal, shape: Shape) -> Result<Option<StoredTiles>> {
        let dir = store.join(DIR);
        match dir.symlink_metadata() {
            Ok(_) => StoredTiles::open_dir(&dir, manifest, shape).map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Makes the tiles of ratings, holding at most `room` bytes of them at a time, or one wave if that is more. They are
    /// kept in the store, or without a name if it cannot be written to.
    pub(super) fn make<R: Ratings>(
        store: &Path,
        manifest: Seal,
        ratings: &R,
        room: u64,
    ) -> Result<StoredTiles> {
        let dir = store.join(DIR);
        let made = AtomicDir::create(&dir, false);
        let made = match made.and_then(|made| expect_manifest(store, manifest).map(|()| made)) {
            Ok(made) => made,
            // Another process was faster.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return StoredTiles::open_dir(&dir, manifest, ratings.shape());
            }
            Err(error) => {
                log::info!("tiles are kept in temporary files: {error}");
                return StoredTiles::make_unnamed(manifest, ratings, room);
            }
        };
        let index = write_all(made.path(), manifest, ratings, room)?;
        match made.commit() {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => Ok(StoredTiles::open_dir(&dir, manifest, ratings.shape())?.written_with(index)),
        }
    }

    /// Where tiles of a store would be made.
    pub(super) fn folder(store: &Path) -> PathBuf {
        match rustix::fs::access(store, rustix::fs::Access::WRITE_OK) {
            Ok(()) => store.to_owned(),
            Err(_) => temp_dir(),
        }
    }

    /// Makes tiles in files that are gone when they are mapped no longer.
    fn make_unnamed<R: Ratings>(manifest: Seal, ratings: &R, room: u64) -> Result<StoredTiles> {
        let dir = tempfile::tempdir().at(temp_dir())?;
        let index = write_all(dir.path(), manifest, ratings, room)?;
        let tiles = StoredTiles::open_dir(dir.path(), manifest, ratings.shape())?;
        Ok(tiles.written_with(index))
    }

    /// The same, known to be those that were written with this index, if they are.
    fn written_with(self, index: Seal) -> StoredTiles {
        StoredTiles {
            known: self.index == index,
            ..self
        }
    }

    fn open_dir(dir: &Path, manifest: Seal, shape: Shape) -> Result<StoredTiles> {
        let tiles = StoredTiles::open_files(dir, manifest, shape);
        tiles.map_err(|error| match error.kind() {
            ErrorKind::Damaged | ErrorKind::Incompatible => error.remedy(REMEDY),
            _ => error,
        })
    }

    fn open_files(dir: &Path, manifest: Seal, shape: Shape) -> Result<StoredTiles> {
        let index = Container::open(dir.join(INDEX), Kind::TilesIndex)?;
        index.verify()?;
        if index.header().codes[0] != LAYOUT {
            let what = "tiles in the layout of another version of lowrank";
            return Err(Error::new(ErrorKind::Incompatible, what).path(index.path()));
        }
        let record: Record = codec::decode(index.slice(RECORD)?, index.path())?;
        let foreign =
            |path: &Path| Error::new(ErrorKind::Damaged, "tiles of another store").path(path);
        let grid = Grid::new(shape);
        let header = index.header().counts;
        let expected = [shape.users as u64, shape.items as u64, shape.ratings];
        if record.manifest != manifest || header != expected || record.waves.len() != grid.bands() {
            return Err(foreign(index.path()));
        }
        let counts = [USERS, ITEMS].map(|name| index.slice(name).map(<[u32]>::to_vec));
        let [users, items] = counts;
        let (users, items) = (users?, items?);
        if users.len() != shape.users || items.len() != shape.items {
            return Err(foreign(index.path()));
        }
        let codebook = match record.coded {
            true => Some(index.slice(CODEBOOK)?.to_vec()),
            false => None,
        };
        let open = |(number, seal): (usize, &Seal)| {
            let container = Container::open(dir.join(wave_file(number)), Kind::Tiles)?;
            if container.seal() != *seal || container.header().counts[0] != number as u64 {
                return Err(foreign(container.path()));
            }
            container.mapping().expect(Access::Scan);
            Ok(WaveFile {
                container,
                checked: AtomicBool::new(false),
                kept: true,
            })
        };
        Ok(StoredTiles {
            dir: dir.to_owned(),
            grid,
            counts: [users, items],
            codebook,
            index: index.seal(),
            waves: record
                .waves
                .iter()
                .enumerate()
                .map(open)
                .collect::<Result<_>>()?,
            known: false,
            read: Arc::default(),
        })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// How many files there are: the index, and one for each wave.
    pub fn files(&self) -> usize {
        1 + self.waves.len()
    }

    /// Bytes of all files together.
    pub fn bytes(&self) -> u64 {
        self.index.bytes + self.wave_bytes().sum::<u64>()
    }

    /// Bytes of each wave.
    pub(super) fn wave_bytes(&self) -> impl Iterator<Item = u64> {
        self.waves.iter().map(|wave| wave.container.seal().bytes)
    }

    /// The same, which adds to this count what is read of waves that do not stay in memory.
    pub(super) fn counted(self, read: &Arc<AtomicU64>) -> StoredTiles {
        StoredTiles {
            read: Arc::clone(read),
            ..self
        }
    }

    /// Whether ratings are one byte each, a place among at most 256 different ones.
    pub fn is_coded(&self) -> bool {
        self.codebook.is_some()
    }

    /// Lets as many waves stay in memory after use as there is room for, and gives what room is left.
    pub(super) fn keep_within(&mut self, mut room: u64) -> u64 {
        for wave in &mut self.waves {
            wave.kept = take(&mut room, wave.container.seal().bytes);
        }
        room
    }

    /// Checks every byte and every number, and shows each rating to `see`, wave by wave.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`], naming the file.
    pub(super) fn verify(&self, mut see: impl FnMut(u32, u32, f32)) -> Result<()> {
        let mut counts = [vec![0; self.counts[0].len()], vec![0; self.counts[1].len()]];
        for number in 0..self.waves.len() {
            self.check(number)?;
            let wave = self.view(number)?;
            wave.for_each_rating(self.grid, number, |user, item, value| {
                counts[0][user as usize] += 1;
                counts[1][item as usize] += 1;
                see(user, item, value);
            });
            self.done_with(number);
        }
        match counts == self.counts {
            true => Ok(()),
            false => {
                let what = "the tiles do not add up to the counts of the index";
                Err(Error::new(ErrorKind::Damaged, what)
                    .path(self.dir.join(INDEX))
                    .remedy(REMEDY))
            }
        }
    }

    /// Checks every byte of a wave, and every number unless they are known.
    fn check(&self, number: usize) -> Result<()> {
        let wave = &self.waves[number];
        let check = || {
            wave.container.verify()?;
            if self.known {
                return Ok(());
            }
            let view = self.view(number)?;
            view.check(self.grid, number)
                .map_err(|e| e.path(wave.container.path()))
        };
        check().map_err(|error| error.remedy(REMEDY))?;
        wave.checked.store(true, Ordering::Release);
        Ok(())
    }

    fn view(&self, number: usize) -> Result<Wave<'_>> {
        let container = &self.waves[number].container;
        container.mapping().check_length()?;
        Ok(Wave {
            starts: container.slice(STARTS)?,
            users: container.slice(USERS)?,
            items: container.slice(ITEMS)?,
            values: match &self.codebook {
                Some(codebook) => Values::Coded {
                    codes: container.slice(CODES)?,
                    codebook,
                },
                None => Values::Plain(container.slice(VALUES)?),
            },
        })
    }
}

/// What to do about tiles that are no good: everything in them is in the shards as well.
const REMEDY: &str = "remove the directory of tiles: it is made anew when it is needed";

impl Tiles for StoredTiles {
    fn grid(&self) -> Grid {
        self.grid
    }

    fn counts(&self, side: Side) -> &[u32] {
        match side {
            Side::Users => &self.counts[0],
            Side::Items => &self.counts[1],
        }
    }

    fn wave(&self, wave: usize) -> Result<Wave<'_>> {
        if !self.waves[wave].kept {
            let bytes = self.waves[wave].container.seal().bytes;
            self.read.fetch_add(bytes, Ordering::Relaxed);
        }
        if !self.waves[wave].checked.load(Ordering::Acquire) {
            self.check(wave)?;
        }
        self.view(wave)
    }

    fn will_need(&self, wave: usize) {
        self.waves[wave].container.mapping().will_need();
    }

    fn done_with(&self, wave: usize) {
        let wave = &self.waves[wave];
        if !wave.kept {
            wave.container.mapping().release();
        }
    }
}

/// Fails if another store has taken this one's place since it was opened.
fn expect_manifest(store: &Path, seal: Seal) -> Result<()> {
    let manifest = Container::open(store.join(MANIFEST_FILE), Kind::Manifest)?;
    match manifest.seal() == seal {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Incompatible, "the store was replaced").path(store)),
    }
}

/// The file of a wave by its number.
fn wave_file(number: usize) -> String {
    format!("{number:05}.tiles")
}

/// Writes the files of tiles into an empty directory, as many waves a scan as fit into `room` bytes, and gives the seal of the
/// index, which has those of the waves.
fn write_all<R: Ratings>(dir: &Path, manifest: Seal, ratings: &R, room: u64) -> Result<Seal> {
    let census = Census::of(ratings)?;
    let mut seals = Vec::new();
    for group in census.groups(room) {
        seals.extend(census.cut(ratings, group, |number, wave| {
            write_wave(&dir.join(wave_file(number)), number, &wave, &census)
        })?);
    }
    let record = Record {
        manifest,
        coded: census.codebook().is_some(),
        waves: seals,
    };
    let path = dir.join(INDEX);
    let mut file = ContainerWriter::create(&path, Kind::TilesIndex, 4)?;
    file.section(RECORD)?;
    file.write(&codec::encode(&record).map_err(|e| e.path(&path))?)?;
    for (name, side) in [(USERS, Side::Users), (ITEMS, Side::Items)] {
        file.section(name)?;
        file.write_numbers(census.counts(side))?;
    }
    file.section(CODEBOOK)?;
    file.write_numbers(census.codebook().unwrap_or_default())?;
    let shape = ratings.shape();
    let counts = [shape.users as u64, shape.items as u64, shape.ratings];
    file.finish(counts, [LAYOUT, 0])
}

fn write_wave(path: &Path, number: usize, wave: &HeldWave, census: &Census) -> Result<Seal> {
    let wave = wave.view(census.codebook());
    let mut file = ContainerWriter::create(path, Kind::Tiles, 4)?;
    file.section(STARTS)?;
    file.write_numbers(wave.starts)?;
    for (name, numbers) in [(USERS, wave.users), (ITEMS, wave.items)] {
        file.section(name)?;
        file.write_numbers(numbers)?;
    }
    match wave.values {
        Values::Plain(values) => {
            file.section(VALUES)?;
            file.write_numbers(values)?;
        }
        Values::Coded { codes, .. } => {
            file.section(CODES)?;
            file.write(codes)?;
        }
    }
    let counts = [number as u64, wave.items.len() as u64, 0];
    file.finish(counts, [census.grid().bands() as u32, 0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::{HeldTiles, InMemory};
    use crate::store::container::sparse::{self, Hollow};

    fn ratings(value: impl Fn(u32, u32) -> f32) -> InMemory {
        let triplets: Vec<_> = (0..50)
            .flat_map(|u| (0..u % 40).map(move |i| (u, i)))
            .map(|(u, i)| (u, i, value(u, i)))
            .collect();
        InMemory::from_triplets(50, 40, &triplets).unwrap()
    }

    fn all(tiles: &dyn Tiles) -> Vec<(u32, u32, f32)> {
        let mut all = Vec::new();
        for number in 0..tiles.grid().bands() {
            let wave = tiles.wave(number).unwrap();
            wave.for_each_rating(tiles.grid(), number, |u, i, r| all.push((u, i, r)));
        }
        all
    }

    #[test]
    fn files_without_a_name_hold_the_same_and_leave_nothing() {
        let few = |u, i| ((u + i) % 9) as f32;
        let many = |u, i| (u * 64 + i) as f32;
        for (coded, ratings) in [(true, ratings(few)), (false, ratings(many))] {
            let held = HeldTiles::new(&ratings).unwrap();
            for room in [0, u64::MAX] {
                let tiles = StoredTiles::make_unnamed(Seal::default(), &ratings, room).unwrap();
                assert!(!tiles.path().exists());
                assert_eq!(tiles.is_coded(), coded);
                assert_eq!(all(&tiles), all(&held));
                let mut seen = Vec::new();
                tiles.verify(|u, i, r| seen.push((u, i, r))).unwrap();
                assert_eq!(seen, all(&held));
            }
        }
    }

    #[test]
    fn as_many_waves_are_kept_as_there_is_room_for() {
        let ratings = ratings(|_, _| 1.0);
        let mut tiles = StoredTiles::make_unnamed(Seal::default(), &ratings, 0).unwrap();
        let waves = tiles.bytes() - tiles.index.bytes;
        assert_eq!(tiles.keep_within(waves + 7), 7);
        assert!(tiles.waves.iter().all(|wave| wave.kept));
        assert_eq!(tiles.keep_within(9), 9);
        assert!(tiles.waves.iter().all(|wave| !wave.kept));
    }

    #[test]
    fn tiles_appear_in_the_store_they_are_made_for_and_in_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let ratings = ratings(|_, _| 1.0);
        let seal = |content: &[u8]| {
            let path = dir.path().join(MANIFEST_FILE);
            let mut file = ContainerWriter::create(&path, Kind::Manifest, 1).unwrap();
            file.section(RECORD).unwrap();
            file.write(content).unwrap();
            file.finish([0; 3], [0; 2]).unwrap()
        };
        let one = seal(b"one");
        std::fs::remove_file(dir.path().join(MANIFEST_FILE)).unwrap();
        let two = seal(b"two");
        let make = |manifest| StoredTiles::make(dir.path(), manifest, &ratings, 0).unwrap();
        assert!(!make(one).path().exists());
        assert!(!dir.path().join(DIR).exists());
        assert_eq!(make(two).path(), dir.path().join(DIR));
        assert!(
            StoredTiles::open(dir.path(), two, ratings.shape())
                .unwrap()
                .is_some()
        );
        let error = StoredTiles::open(dir.path(), one, ratings.shape()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn another_layout_is_told_apart_and_what_to_do_is_said() {
        let store = tempfile::tempdir().unwrap();
        let dir = store.path().join(DIR);
        std::fs::create_dir(&dir).unwrap();
        let index = ContainerWriter::create(&dir.join(INDEX), Kind::TilesIndex, 0).unwrap();
        index.finish([1; 3], [0; 2]).unwrap();
        let shape = ratings(|_, _| 1.0).shape();
        let error = StoredTiles::open(store.path(), Seal::default(), shape).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incompatible);
        assert!(
            error.to_string().contains("remove the directory"),
            "{error}"
        );
    }

    /// A wave of which the first tile has more ratings than 32 bits count, and the last two.
    #[test]
    fn tiles_may_start_behind_four_billion_ratings() {
        const BEFORE: u64 = 5_000_000_000;
        let shape = Shape {
            users: 640,
            items: 640,
            ratings: BEFORE + 2,
        };
        let grid = Grid::new(shape);
        let last = grid.bands() - 1;
        let mut starts = vec![0; 1];
        for _ in 0..last {
            starts.extend([BEFORE, BEFORE]);
        }
        starts.extend([BEFORE, BEFORE + 2]);
        let starts: Vec<u8> = starts
            .iter()
            .flat_map(|start| start.to_le_bytes())
            .collect();
        let section = |name, length, end| Hollow { name, length, end };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(wave_file(0));
        sparse::write(
            &path,
            Kind::Tiles,
            [0; 3],
            &[
                section(STARTS, starts.len() as u64, &starts),
                section(USERS, 2 * (BEFORE + 2), &[3, 0, 4, 0]),
                section(ITEMS, 2 * (BEFORE + 2), &[5, 0, 9, 0]),
                section(CODES, BEFORE + 2, &[1, 0]),
            ],
        );
        let tiles = StoredTiles {
            dir: dir.path().to_owned(),
            grid,
            counts: [Vec::new(), Vec::new()],
            codebook: Some(vec![0.5, 4.0]),
            index: Seal::default(),
            waves: vec![WaveFile {
                container: Container::open(&path, Kind::Tiles).unwrap(),
                checked: AtomicBool::new(true),
                kept: false,
            }],
            known: false,
            read: Arc::default(),
        };
        let tile = tiles.wave(0).unwrap().tile(last);
        assert_eq!(
            (tile.users, tile.items, tile.in_turns),
            (&[3, 4][..], &[5, 9][..], 0)
        );
        let mut values = Vec::new();
        tile.values.map_into(|value| value, &mut values);
        assert_eq!(values, [4.0, 0.5]);
    }
}
