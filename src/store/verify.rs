//! Checking a store whole: every byte, every index, and that its files agree with each other.

use super::fingerprint::Fingerprint;
use super::open::Store;
use super::shard::{Part, Shard};
use crate::error::{Error, ErrorKind, Result};
use crate::matrix::{Row, RowScratch, Side};
use crate::rng::{key, mix};

/// What a verification has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verified {
    /// Number of files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Ratings in all parts, each counted once.
    pub ratings: u64,
}

impl Store {
    /// Checks every byte and every index: all checksums, that ids are text and all different, that all layouts
    /// hold the same ratings, and that the manifest's scale, histogram and fingerprint are those of the ratings.
    ///
    /// `progress` is told after each file how many of the store's [`bytes`](Store::bytes) are done. Takes 8 bytes of
    /// memory an item, and where there are tiles 8 for each user and item.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`], naming the first file that is wrong.
    pub fn verify(&self, progress: &mut dyn FnMut(u64)) -> Result<Verified> {
        let mut verified = Verified::default();
        let mut done_files = |files: usize, bytes: u64| {
            verified.files += files;
            verified.bytes += bytes;
            progress(verified.bytes);
        };
        let mut done = |bytes: u64| done_files(1, bytes);
        // Opening has read and checked the whole manifest.
        done(self.manifest_seal().bytes);
        for dictionary in [self.users(), self.items()] {
            dictionary.verify()?;
            dictionary.release();
            done(dictionary.seal().bytes);
        }

        let mut tally = Tally::new(self)?;
        let (mut by_user, mut by_item) = (0_u64, 0_u64);
        for shard in self.shards(Side::Users) {
            self.verify_shard(shard, |user, row| {
                tally.add(user, row)?;
                by_user = by_user.wrapping_add(row_sum(row, |item| (user, item)));
                Ok(())
            })?;
            shard.done_with();
            self.users().release();
            done(shard.entry().seal.bytes);
        }
        tally.compare()?;
        for shard in self.shards(Side::Items) {
            self.verify_shard(shard, |item, row| {
                by_item = by_item.wrapping_add(row_sum(row, |user| (user, item)));
                Ok(())
            })?;
            shard.done_with();
            done(shard.entry().seal.bytes);
        }
        if by_user != by_item {
            return Err(self.damaged("the shards by user and by item hold different ratings"));
        }
        for part in [Part::Validation, Part::Test] {
            for shard in self.part(part).iter().flat_map(|rows| rows.shards()) {
                self.verify_shard(shard, |_, _| Ok(()))?;
                shard.done_with();
                done(shard.entry().seal.bytes);
            }
        }
        for part in [Part::Train, Part::Validation, Part::Test] {
            let Some(rows) = self.part(part) else {
                continue;
            };
            for (times, shard) in rows.times().iter().zip(rows.shards()) {
                times.verify(shard)?;
                times.done_with();
                shard.done_with();
                done(times.seal().bytes);
            }
        }
        if let Some(tiles) = self.stored_tiles()? {
            let mut by_tile = 0_u64;
            tiles.verify(|user, item, value| {
                by_tile = by_tile.wrapping_add(rating_hash(user, item, value));
            })?;
            if by_tile != by_user {
                let message = "the tiles hold other ratings than the shards";
                return Err(self.damaged(message).path(tiles.path()));
            }
            done_files(tiles.files(), tiles.bytes());
        }

        verified.ratings = [Part::Train, Part::Validation, Part::Test]
            .map(|part| self.manifest().ratings_of(part))
            .iter()
            .sum();
        Ok(verified)
    }

    /// Checks a shard by itself and against the manifest's scale, then shows each of its rows to `visit`.
    fn verify_shard(
        &self,
        shard: &Shard,
        mut visit: impl FnMut(u32, Row<'_>) -> Result<()>,
    ) -> Result<()> {
        shard.verify()?;
        let (min, max) = self.manifest().scale;
        let block = shard.block()?;
        let scratch = &mut RowScratch::default();
        for i in 0..block.rows() {
            let row = block.row(i, scratch);
            if row.values.iter().any(|&value| value < min || value > max) {
                let message = "a rating outside the manifest's scale";
                return Err(self.damaged(message).path(shard.path()));
            }
            visit((block.first_row() + i) as u32, row)?;
        }
        Ok(())
    }

    fn damaged(&self, what: &str) -> Error {
        Error::new(ErrorKind::Damaged, what).remedy("import again")
    }
}

/// Sum of a hash of (user, item, value) by dense numbers over a row: over all rows the same for both orientations.
fn row_sum(row: Row<'_>, pair: impl Fn(u32) -> (u32, u32)) -> u64 {
    row.cols
        .iter()
        .zip(row.values)
        .fold(0, |sum, (&col, value)| {
            let (user, item) = pair(col);
            sum.wrapping_add(rating_hash(user, item, *value))
        })
}

fn rating_hash(user: u32, item: u32, value: f32) -> u64 {
    let pair = u64::from(user) << 32 | u64::from(item);
    mix(pair, u64::from(value.to_bits()))
}

/// What the manifest says of the training ratings, gathered anew.
struct Tally<'a> {
    store: &'a Store,
    item_keys: Vec<u64>,
    fingerprint: Fingerprint,
    /// The values that the manifest lists, if it does, each with how often it was seen.
    histogram: Option<Vec<(f32, u64)>>,
}

impl<'a> Tally<'a> {
    fn new(store: &'a Store) -> Result<Tally<'a>> {
        let items = store.items();
        let item_keys = (0..items.len())
            .map(|item| Ok(key(items.id(item)?.as_bytes())))
            .collect::<Result<_>>()?;
        items.release();
        let mut histogram = store.manifest().histogram.clone();
        for bin in histogram.iter_mut().flatten() {
            bin.1 = 0;
        }
        Ok(Tally {
            store,
            item_keys,
            fingerprint: Fingerprint::default(),
            histogram,
        })
    }

    fn add(&mut self, user: u32, row: Row<'_>) -> Result<()> {
        let user_key = key(self.store.users().id(user as usize)?.as_bytes());
        for (&item, &value) in row.cols.iter().zip(row.values) {
            let item_key = self.item_keys[item as usize];
            self.fingerprint.add(user_key, item_key, value);
            if let Some(histogram) = &mut self.histogram {
                let at = histogram.partition_point(|bin| bin.0 < value);
                if let Some(bin) = histogram.get_mut(at).filter(|bin| bin.0 == value) {
                    bin.1 += 1;
                }
            }
        }
        Ok(())
    }

    fn compare(&self) -> Result<()> {
        let manifest = self.store.manifest();
        let differ = |what| {
            let message = format!("the ratings do not have the manifest's {what}");
            Err(self.store.damaged(&message).path(self.store.path()))
        };
        if self.fingerprint != manifest.fingerprint {
            return differ("fingerprint");
        }
        if self.histogram != manifest.histogram {
            return differ("histogram");
        }
        Ok(())
    }
}
