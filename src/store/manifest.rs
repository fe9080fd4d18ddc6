//! The manifest: what a store holds. The last file to be written, and the one that makes a directory a store.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::container::{MANIFEST_FILE, Seal};
use super::disk::DiskFile;
use super::fingerprint::Fingerprint;
use super::header::Kind;
use super::record::{read_record, write_record};
use super::shard::{Encoding, Part, ShardEntry};
use super::times::TimesSeals;
use crate::error::{AtPath, Error, ErrorKind, Result};
use crate::matrix::{Shape, Side};

/// What a store holds: sizes, summaries of the ratings, and the seal of every other file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The options that the store was made with, by name.
    pub options: Vec<(String, String)>,
    /// Number of users.
    pub users: u64,
    /// Number of items.
    pub items: u64,
    /// Number of ratings in the training part.
    pub ratings: u64,
    /// How ratings are written.
    pub encoding: Encoding,
    /// Smallest and largest rating of all parts; zeros if there are none.
    pub scale: (f32, f32),
    /// Mean of the training ratings; zero if there are none.
    pub mean: f64,
    /// Fingerprint of the training ratings.
    pub fingerprint: Fingerprint,
    /// The different training ratings in ascending order, each with how often it occurs, if they are at most 256.
    pub histogram: Option<Vec<(f32, u64)>>,
    /// What the import read.
    pub input: InputCounts,
    /// The users' dictionary.
    pub users_dictionary: Seal,
    /// The items' dictionary.
    pub items_dictionary: Seal,
    /// Shards of the training part by user.
    pub by_user: Vec<ShardEntry>,
    /// Shards of the training part by item.
    pub by_item: Vec<ShardEntry>,
    /// Shards of the validation part by user; none if there is no such part.
    pub validation: Vec<ShardEntry>,
    /// Shards of the test part by user; none if there is no such part.
    pub test: Vec<ShardEntry>,
    /// The files of times, if the store keeps times; a section of its own, which older stores have not.
    #[serde(skip)]
    pub times: Option<TimesSeals>,
}

/// The section of the seals of times.
const TIMES: &str = "times";

/// What an import read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct InputCounts {
    /// Lines or records.
    pub lines: u64,
    /// Lines left out because they could not be read.
    pub bad_lines: u64,
    /// Ratings left out or merged because their pair was rated before.
    pub duplicates: u64,
}

impl Manifest {
    /// Most different ratings that a histogram lists.
    pub const MAX_HISTOGRAM: usize = 256;

    /// Reads the manifest of the store at `store`, having checked every byte of it and that its counts add up.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] if it is altered or contradicts itself, [`ErrorKind::Incompatible`] if it is of a later
    /// version.
    pub fn read(store: &Path) -> Result<(Manifest, Seal)> {
        let path = store.join(MANIFEST_FILE);
        let (mut manifest, times, seal) =
            read_record::<Manifest, TimesSeals>(&path, Kind::Manifest, TIMES)?;
        manifest.times = times;
        manifest.check().map_err(|e| e.path(path))?;
        Ok((manifest, seal))
    }

    /// Writes the manifest into the directory of a store.
    ///
    /// # Errors
    /// If there is one already, or it cannot be written.
    pub fn write(&self, store: &Path) -> Result<Seal> {
        let path = store.join(MANIFEST_FILE);
        let file = DiskFile::create(&path).at(&path)?;
        let times = self.times.as_ref().map(|times| (TIMES, times));
        write_record(file, &path, Kind::Manifest, self, times)
    }

    /// Users, items and training ratings. Rows are numbered in 32 bits, so the counts fit.
    pub fn shape(&self) -> Shape {
        Shape {
            users: self.users as usize,
            items: self.items as usize,
            ratings: self.ratings,
        }
    }

    /// The shards of the training part, by one side.
    pub fn train(&self, side: Side) -> &[ShardEntry] {
        match side {
            Side::Users => &self.by_user,
            Side::Items => &self.by_item,
        }
    }

    /// The shards of one part, by user.
    pub fn part(&self, part: Part) -> &[ShardEntry] {
        match part {
            Part::Train => &self.by_user,
            Part::Validation => &self.validation,
            Part::Test => &self.test,
        }
    }

    /// How many ratings one part has.
    pub fn ratings_of(&self, part: Part) -> u64 {
        self.part(part).iter().map(|shard| shard.ratings).sum()
    }

    /// Counts a rating in, or out, in the histogram, which goes away when there are too many different ones.
    pub fn count(&mut self, value: f32, counted_in: bool) {
        let Some(bins) = &mut self.histogram else {
            return;
        };
        let at = bins.partition_point(|bin| bin.0 < value);
        if bins.get(at).is_none_or(|bin| bin.0 != value) {
            bins.insert(at, (value, 0));
        }
        let count = &mut bins[at].1;
        *count = match counted_in {
            true => *count + 1,
            false => count.saturating_sub(1),
        };
        if *count == 0 {
            bins.remove(at);
        }
        if bins.len() > Self::MAX_HISTOGRAM {
            self.histogram = None;
        }
    }

    /// The seal of one side's dictionary.
    pub fn dictionary(&self, side: Side) -> Seal {
        match side {
            Side::Users => self.users_dictionary,
            Side::Items => self.items_dictionary,
        }
    }

    /// Whether the counts add up: every row in one shard, every rating in both orientations.
    pub(super) fn check(&self) -> Result<()> {
        let damaged = |what: &str| {
            Err(Error::new(
                ErrorKind::Damaged,
                format!("the manifest contradicts itself: {what}"),
            ))
        };
        let most = u64::from(u32::MAX);
        if self.users > most || self.items > most {
            return damaged("too many rows");
        }
        if count(&self.by_user) != Some((self.users, self.ratings)) {
            return damaged("the shards by user do not add up");
        }
        if count(&self.by_item) != Some((self.items, self.ratings)) {
            return damaged("the shards by item do not add up");
        }
        for held_out in [&self.validation, &self.test] {
            let whole = count(held_out).is_some_and(|(users, _)| users == self.users);
            if !held_out.is_empty() && !whole {
                return damaged("the held-out shards do not add up");
            }
        }
        if let Some(times) = &self.times
            && [Part::Train, Part::Validation, Part::Test]
                .iter()
                .any(|&part| times.part(part).len() != self.part(part).len())
        {
            return damaged("not every shard by user has times");
        }
        if let Some(histogram) = &self.histogram {
            let counts = histogram
                .iter()
                .try_fold(0, |sum: u64, &(_, n)| sum.checked_add(n));
            let ascending = histogram.windows(2).all(|pair| pair[0].0 < pair[1].0);
            if counts != Some(self.ratings) || !ascending || histogram.len() > Self::MAX_HISTOGRAM {
                return damaged("the histogram does not add up");
            }
        }
        Ok(())
    }
}

/// Rows and ratings of shards that follow each other, or nothing if they do not.
fn count(shards: &[ShardEntry]) -> Option<(u64, u64)> {
    shards
        .iter()
        .try_fold((0_u64, 0_u64), |(rows, ratings), shard| {
            (shard.first_row == rows).then_some((
                rows.checked_add(shard.rows)?,
                ratings.checked_add(shard.ratings)?,
            ))
        })
}
