//! Ratings on disk; knows nothing of solvers.
//!
//! A store is a directory of immutable files: a [`Manifest`], a [`Dictionary`] of ids for either side, and the ratings in
//! [`Shard`]s of bounded size, the training part twice (by user and by item), what is held out by user only. All files
//! share one form, the [`Container`]: a header of 64 bytes, a table of named sections, and sections aligned so that they
//! are used straight off the memory map. Methods that go rating by rating add the training part once more, as
//! [`StoredTiles`]. `docs/format.md` draws every byte.
//!
//! * Opening is cheap: headers, lengths, first and last offsets, and the dictionaries' checksums. A shard's bytes are
//!   checked when they are first looked at, everything by [`Store::verify`].
//! * Writing never changes what exists: a [`StoreWriter`] fills a directory beside its target, writes the manifest last,
//!   and renames. [`AtomicFile`] does the same for single files.
//! * Only `map.rs` maps memory, only `codec.rs` knows the encoding of records.

mod atomic;
mod claim;
mod codec;
mod container;
mod create;
mod dictionary;
mod disk;
#[cfg(test)]
pub(crate) mod faults;
mod fingerprint;
mod header;
mod id_map;
mod manifest;
mod map;
mod open;
mod packing;
mod record;
mod scratch;
mod shard;
mod shards_writer;
mod space;
mod sparse;
mod streamed;
mod tiles;
mod times;
mod verify;
mod writer;

pub use atomic::{AtomicDir, AtomicFile, retry_if_replaced};
pub use container::{Container, MANIFEST_FILE, MODEL_FILE, Seal, kind_of};
pub use create::StoreWriter;
pub use dictionary::{Dictionary, HeldIds, IdSource, prefix, sorted_ids, write_dictionary};
pub use disk::DiskFile;
pub use fingerprint::Fingerprint;
pub use header::{Header, Kind};
pub use id_map::IdMap;
pub use manifest::{InputCounts, Manifest};
pub use map::{Access, Element, Mapping, exit_on_lost_pages, keep_freed, trim_heap};
pub use open::{Store, UserRows};
pub use record::{read_record, write_record};
pub use scratch::ScratchFile;
pub use shard::{Encoding, Layout, Part, Shard, ShardEntry, shard_file};
pub use shards_writer::ShardsWriter;
pub use space::{DiskPlan, share_disk};
pub use sparse::SparseFile;
pub use streamed::{Streamed, TilesAhead};
pub use tiles::StoredTiles;
pub use times::{Times, TimesSeals};
pub use verify::Verified;
pub use writer::{CACHED, ContainerWriter, Sink};
