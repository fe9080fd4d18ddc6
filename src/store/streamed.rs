//! What of a store stays in memory between uses, and what is read again each time: told before anything is read.

use std::fs::File;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use super::disk::drop_from_cache;
use super::header::{ALIGNMENT, HEADER_BYTES, table_bytes};
use super::open::Store;
use super::shard::Shard;
use crate::error::{AtPath, Result};
use crate::matrix::{Grid, Side};

/// Bytes of a trial of the disk.
const TRIAL: u64 = 4 << 20;

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

/// Bytes of a store that do not stay in memory: what a pass over all of them reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Streamed {
    /// Of the training ratings by user.
    pub by_user: u64,
    /// Of the training ratings by item.
    pub by_item: u64,
    /// Of the validation ratings.
    pub validation: u64,
    /// Of the test ratings.
    pub test: u64,
    /// Of the training ratings as tiles.
    pub tiles: u64,
}

/// What a method that goes by tiles will find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TilesAhead {
    /// Bytes of shards that are read to make them; none if they are there.
    pub read: u64,
    /// Bytes of the files that are written then.
    pub written: u64,
    /// What does not stay in memory once they are there.
    pub streamed: Streamed,
}

impl Store {
    /// What does not stay in memory as long as nobody asks for tiles.
    pub fn streamed(&self) -> Streamed {
        self.streamed_within(self.room())
    }

    /// What is ahead of a method that asks for tiles. What is not made yet is estimated from the lengths of the rows: a user
    /// with n ratings is met in about `B - B (1 - 1/B)^n` of B tiles.
    ///
    /// # Errors
    /// If tiles or shards are damaged in what is looked at here.
    pub fn tiles_ahead(&self) -> Result<TilesAhead> {
        let stored = self.stored_tiles()?;
        let (waves, mut ahead) = match &stored {
            Some(tiles) => (tiles.wave_bytes().collect(), TilesAhead::default()),
            None => self.tiles_to_be_made()?,
        };
        let mut room = self.room();
        let mut streamed = 0;
        for bytes in waves {
            if !take(&mut room, bytes) {
                streamed += bytes;
            }
        }
        ahead.streamed = Streamed {
            tiles: streamed,
            ..self.streamed_within(room)
        };
        Ok(ahead)
    }

    /// Bytes a second that the disk of the store reads, by a short trial on shards that are not in memory then.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn speed(&self) -> Result<f64> {
        let mut piece = vec![0; PIECE];
        let (mut read, mut waited) = (0, Duration::ZERO);
        for shard in self.all_shards() {
            if read >= TRIAL {
                break;
            }
            let mut trial = || -> io::Result<()> {
                let mut file = File::open(shard.path())?;
                drop_from_cache(&file, u64::MAX)?;
                let began = Instant::now();
                // Of a large shard its first pieces are enough.
                let mut bytes = 1;
                while bytes > 0 && read < TRIAL {
                    bytes = file.read(&mut piece)?;
                    read += bytes as u64;
                }
                waited += began.elapsed();
                drop_from_cache(&file, u64::MAX)
            };
            trial().at(shard.path())?;
        }
        Ok(read as f64 / waited.as_secs_f64())
    }

    /// Bytes of each wave of tiles, and what making them takes: a scan that counts, and one for as many waves as there is
    /// room for at a time.
    fn tiles_to_be_made(&self) -> Result<(Vec<u64>, TilesAhead)> {
        let shape = self.manifest().shape();
        let bands = Grid::new(shape).bands();
        let ratings = shape.ratings / bands as u64;
        let (value, codebook) = match &self.manifest().histogram {
            Some(histogram) => (1, 4 * histogram.len()),
            None => (4, 0),
        };
        let starts = (8 * (2 * bands + 1)) as u64;
        let sections = [starts, 2 * ratings, 2 * ratings, value * ratings];
        let padded = |bytes: u64| bytes.next_multiple_of(ALIGNMENT);
        let wave = HEADER_BYTES as u64 + table_bytes(4) + sections.map(padded).iter().sum::<u64>();
        let held = (4 + value) * ratings;
        let scans = 1 + bands.div_ceil((self.room() / held.max(1)).max(1) as usize);
        let shards = self.shards(Side::Users).iter();
        let by_user: u64 = shards.map(|shard| shard.entry().seal.bytes).sum();
        let index = 4 * (shape.users + shape.items) + codebook;
        let ahead = TilesAhead {
            read: scans as u64 * by_user,
            written: bands as u64 * wave + index as u64,
            streamed: Streamed::default(),
        };
        Ok((vec![wave; bands], ahead))
    }

    /// What would not stay in memory if so many bytes were left for shards.
    pub fn streamed_within(&self, room: u64) -> Streamed {
        let mut bytes = [0; 4];
        choose(room, self.shard_lists(), |list, shard, kept| {
            if !kept {
                bytes[list] += shard.entry().seal.bytes;
            }
        });
        let [by_user, by_item, validation, test] = bytes;
        Streamed {
            by_user,
            by_item,
            validation,
            test,
            tiles: 0,
        }
    }
}

/// Chooses the shards that may stay in memory after use: as many as there is room for, of each list in turns.
pub(super) fn choose(
    mut room: u64,
    lists: [&[Shard]; 4],
    mut tell: impl FnMut(usize, &Shard, bool),
) {
    let longest = lists.iter().map(|shards| shards.len()).max();
    for index in 0..longest.unwrap_or(0) {
        for (list, shards) in lists.iter().enumerate() {
            if let Some(shard) = shards.get(index) {
                let kept = take(&mut room, shard.entry().seal.bytes);
                tell(list, shard, kept);
            }
        }
    }
}

/// Takes bytes from what room there is, if there are so many.
pub(super) fn take(room: &mut u64, bytes: u64) -> bool {
    let rest = room.checked_sub(bytes);
    *room = rest.unwrap_or(*room);
    rest.is_some()
}

#[cfg(test)]
mod tests {
    use super::super::shard::{Encoding, Layout, Part, shard_file};
    use super::super::shards_writer::ShardsWriter;
    use super::*;

    #[test]
    fn as_many_shards_are_kept_as_there_is_room_for() {
        let dir = tempfile::tempdir().unwrap();
        let lists = [3, 2, 0, 1].map(|rows| {
            let dir = dir.path().join(rows.to_string());
            std::fs::create_dir(&dir).unwrap();
            let layout = Layout {
                side: Side::Users,
                part: Part::Train,
                encoding: Encoding::Packed,
                width: 1,
            };
            let mut writer = ShardsWriter::create(&dir, layout, 0);
            for _ in 0..rows {
                writer.push_row(&[0], &[1.0]).unwrap();
            }
            let shards = writer.finish().unwrap();
            (0..shards.len())
                .map(|index| Shard::open(dir.join(shard_file(index))).unwrap())
                .collect::<Vec<_>>()
        });
        let bytes = lists[0][0].entry().seal.bytes;
        for (room, kept) in [
            (0, [0, 0, 0, 0]),
            (bytes - 1, [0, 0, 0, 0]),
            (bytes, [1, 0, 0, 0]),
            (4 * bytes, [2, 1, 0, 1]),
            (6 * bytes, [3, 2, 0, 1]),
        ] {
            choose(
                room,
                lists.each_ref().map(Vec::as_slice),
                |_, shard, kept| {
                    shard.keep(kept);
                },
            );
            let counts = lists
                .each_ref()
                .map(|shards| shards.iter().filter(|shard| shard.is_kept()).count());
            assert_eq!(counts, kept, "{room}");
        }
    }
}
