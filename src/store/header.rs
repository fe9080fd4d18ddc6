//! The first bytes of every file of ours: a header of 64 bytes and a table of sections. Pure bytes, no I/O.
//!
//! `docs/format.md` draws the same layout. All numbers are little-endian.

use crate::error::{Error, ErrorKind, Result};

/// The version of the format that this crate writes, and the latest that it reads.
pub const VERSION: u16 = 1;

/// Bytes in a header.
pub const HEADER_BYTES: usize = CRC_AT + 4;

/// Sections start at multiples of this many bytes: a cache line.
pub const ALIGNMENT: u64 = 64;

/// In the manner of PNG: a byte above 127, a name, both line endings and the end-of-file of DOS, so that a transfer which
/// rewrites text is noticed at once.
const MAGIC: [u8; 8] = *b"\x89LRK\r\n\x1a\n";

const VERSION_AT: usize = MAGIC.len();
const KIND_AT: usize = VERSION_AT + 2;
const SECTIONS_AT: usize = KIND_AT + 2;
const LENGTH_AT: usize = SECTIONS_AT + 4;
const COUNTS_AT: usize = LENGTH_AT + 8;
const CODES_AT: usize = COUNTS_AT + 3 * 8;
const TABLE_CRC_AT: usize = CODES_AT + 2 * 4;
const CRC_AT: usize = TABLE_CRC_AT + 4;

/// Bytes in one entry of the section table.
const ENTRY_BYTES: usize = ENTRY_CRC_AT + 8;

const ENTRY_OFFSET_AT: usize = 8;
const ENTRY_LENGTH_AT: usize = ENTRY_OFFSET_AT + 8;
const ENTRY_CRC_AT: usize = ENTRY_LENGTH_AT + 8;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u16)]
pub enum Kind {
    /// A slab of consecutive rows of ratings.
    Shard = 1,
    /// The external ids of one side.
    Dictionary = 2,
    /// The manifest of a store.
    Manifest = 3,
    /// The factors of one side.
    Factors = 4,
    /// The record of a model, finished or under way.
    Model = 5,
    /// The tiles of a wave.
    Tiles = 6,
    /// What there is to know of all tiles.
    TilesIndex = 7,
    /// When the ratings of a shard were given.
    Times = 8,
}

impl Kind {
    const ALL: [Kind; 8] = [
        Kind::Shard,
        Kind::Dictionary,
        Kind::Manifest,
        Kind::Factors,
        Kind::Model,
        Kind::Tiles,
        Kind::TilesIndex,
        Kind::Times,
    ];

    /// What people call such a file; a manifest and a model's record stand for their whole directory.
    pub fn noun(self) -> &'static str {
        match self {
            Kind::Shard => "a shard of ratings",
            Kind::Dictionary => "a dictionary of ids",
            Kind::Manifest => "a store",
            Kind::Factors => "a file of factors",
            Kind::Model => "a model",
            Kind::Tiles => "a wave of tiles",
            Kind::TilesIndex => "an index of tiles",
            Kind::Times => "a file of times",
        }
    }
}

/// A header without its magic number, version and own checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the file is.
    pub kind: Kind,
    /// Number of sections.
    pub sections: u32,
    /// Length of the whole file in bytes.
    pub length: u64,
    /// Three counts whose meaning depends on the kind.
    pub counts: [u64; 3],
    /// Two codes whose meaning depends on the kind.
    pub codes: [u32; 2],
    /// Checksum of the section table with its padding.
    pub table_crc: u32,
}

impl Header {
    /// The header's bytes, its own checksum last.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        put(&mut bytes, 0, MAGIC);
        put(&mut bytes, VERSION_AT, VERSION.to_le_bytes());
        put(&mut bytes, KIND_AT, (self.kind as u16).to_le_bytes());
        put(&mut bytes, SECTIONS_AT, self.sections.to_le_bytes());
        put(&mut bytes, LENGTH_AT, self.length.to_le_bytes());
        for (i, count) in self.counts.iter().enumerate() {
            put(&mut bytes, COUNTS_AT + 8 * i, count.to_le_bytes());
        }
        for (i, code) in self.codes.iter().enumerate() {
            put(&mut bytes, CODES_AT + 4 * i, code.to_le_bytes());
        }
        put(&mut bytes, TABLE_CRC_AT, self.table_crc.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..CRC_AT]);
        put(&mut bytes, CRC_AT, crc.to_le_bytes());
        bytes
    }

    /// Reads the header at the start of a file. Errors name the offset, not the path.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] for a file that is too short, has another magic number or fails its checksum;
    /// [`ErrorKind::Incompatible`] for a later version or an unknown kind.
    pub fn decode(bytes: &[u8]) -> Result<Header> {
        if !bytes.starts_with(&MAGIC) {
            return Err(damaged(0, "not a file of lowrank"));
        }
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(damaged(bytes.len(), "the file ends within its header"));
        };
        // The checksum stays in its place in every version, so that a flipped bit never looks like a later version.
        if crc32fast::hash(&bytes[..CRC_AT]) != u32_at(bytes, CRC_AT) {
            return Err(damaged(CRC_AT, "the header fails its checksum"));
        }
        let version = u16_at(bytes, VERSION_AT);
        if version > VERSION {
            return Err(Error::new(
                ErrorKind::Incompatible,
                format!(
                    "written by a later version of lowrank (format {version}, this one reads {VERSION})"
                ),
            )
            .offset(VERSION_AT as u64)
            .remedy("upgrade lowrank, or write the file again with this one"));
        }
        let code = u16_at(bytes, KIND_AT);
        let Some(kind) = Kind::ALL.into_iter().find(|&kind| kind as u16 == code) else {
            return Err(Error::new(
                ErrorKind::Incompatible,
                format!("a kind of file that this version of lowrank does not know ({code})"),
            )
            .offset(KIND_AT as u64)
            .remedy("upgrade lowrank"));
        };
        Ok(Header {
            kind,
            sections: u32_at(bytes, SECTIONS_AT),
            length: u64_at(bytes, LENGTH_AT),
            counts: [0, 8, 16].map(|i| u64_at(bytes, COUNTS_AT + i)),
            codes: [0, 4].map(|i| u32_at(bytes, CODES_AT + i)),
            table_crc: u32_at(bytes, TABLE_CRC_AT),
        })
    }

    /// The header's own checksum. It covers the table's, which covers those of all sections: two files of equal length
    /// and equal checksum are the same file.
    pub fn crc(&self) -> u32 {
        u32_at(&self.encode(), CRC_AT)
    }
}

/// One entry of the section table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// Up to eight bytes of ASCII, padded with zeros.
    pub name: [u8; 8],
    /// Where the section starts, a multiple of [`ALIGNMENT`].
    pub offset: u64,
    /// Its length in bytes, without padding.
    pub length: u64,
    /// Checksum of the section and its padding.
    pub crc: u32,
}

impl Section {
    /// A section's name as the table holds it.
    ///
    /// # Panics
    /// If the name is longer than eight bytes.
    pub fn name(name: &str) -> [u8; 8] {
        let mut padded = [0; 8];
        padded[..name.len()].copy_from_slice(name.as_bytes());
        padded
    }
}

/// Bytes of a table of so many sections, padded. Never overflows: 2^32 entries take 2^37 bytes.
pub fn table_bytes(sections: u32) -> u64 {
    (u64::from(sections) * ENTRY_BYTES as u64).next_multiple_of(ALIGNMENT)
}

/// The section table's bytes, padded.
pub fn encode_table(sections: &[Section]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(table_bytes(sections.len() as u32) as usize);
    for section in sections {
        bytes.extend_from_slice(&section.name);
        bytes.extend_from_slice(&section.offset.to_le_bytes());
        bytes.extend_from_slice(&section.length.to_le_bytes());
        bytes.extend_from_slice(&section.crc.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
    }
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT as usize), 0);
    bytes
}

/// Reads the section table that follows a header, given its bytes with their padding.
///
/// Sections must follow each other in order without gaps and end where the file does: so each lies within the file, none
/// overlap, and every byte of the file is covered by one checksum.
///
/// # Errors
/// [`ErrorKind::Damaged`] if the checksum fails or the sections do not fill the file.
pub fn decode_table(header: &Header, table: &[u8]) -> Result<Vec<Section>> {
    if crc32fast::hash(table) != header.table_crc {
        return Err(damaged(
            HEADER_BYTES,
            "the section table fails its checksum",
        ));
    }
    let mut end = HEADER_BYTES as u64 + table.len() as u64;
    let mut sections = Vec::with_capacity(header.sections as usize);
    for (i, entry) in table
        .chunks_exact(ENTRY_BYTES)
        .take(header.sections as usize)
        .enumerate()
    {
        let section = Section {
            name: *entry.first_chunk().expect("an entry is longer"),
            offset: u64_at(entry, ENTRY_OFFSET_AT),
            length: u64_at(entry, ENTRY_LENGTH_AT),
            crc: u32_at(entry, ENTRY_CRC_AT),
        };
        let next = section
            .length
            .checked_next_multiple_of(ALIGNMENT)
            .and_then(|padded| padded.checked_add(end))
            .filter(|&next| section.offset == end && next <= header.length);
        let Some(next) = next else {
            return Err(damaged(
                HEADER_BYTES + i * ENTRY_BYTES,
                "a section lies where it must not",
            ));
        };
        end = next;
        sections.push(section);
    }
    if end != header.length {
        return Err(damaged(
            HEADER_BYTES,
            "the sections do not add up to the file",
        ));
    }
    Ok(sections)
}

fn damaged(offset: usize, message: &str) -> Error {
    Error::new(ErrorKind::Damaged, message)
        .offset(offset as u64)
        .remedy("restore the file from a copy, or write it again")
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, field: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&field);
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("the caller has checked")
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(field(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(field(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(field(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> Header {
        Header {
            kind: Kind::Shard,
            sections: 2,
            length: 320,
            counts: [1, 0x0203, u64::MAX],
            codes: [4, 5],
            table_crc: 6,
        }
    }

    /// Changes a field of an encoded header and makes its checksum right again.
    fn forge(at: usize, field: &[u8]) -> [u8; HEADER_BYTES] {
        let mut bytes = header().encode();
        bytes[at..at + field.len()].copy_from_slice(field);
        let crc = crc32fast::hash(&bytes[..CRC_AT]);
        put(&mut bytes, CRC_AT, crc.to_le_bytes());
        bytes
    }

    #[test]
    fn every_byte_is_where_the_drawing_says() {
        let bytes = header().encode();
        assert_eq!(bytes.len(), 64);
        assert_eq!(bytes[..16], *b"\x89LRK\r\n\x1a\n\x01\0\x01\0\x02\0\0\0");
        assert_eq!(bytes[16..24], [64, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[24..32], [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[32..40], [3, 2, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[40..48], [255; 8]);
        assert_eq!(bytes[48..60], [4, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0]);
        assert_eq!(Header::decode(&bytes).unwrap(), header());
        assert_eq!(header().crc().to_le_bytes(), bytes[60..]);
    }

    #[test]
    fn a_later_version_or_kind_is_told_apart_from_damage() {
        let error = Header::decode(&forge(VERSION_AT, &2_u16.to_le_bytes())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incompatible);
        assert!(
            error.to_string().contains("format 2, this one reads 1"),
            "{error}"
        );
        let error = Header::decode(&forge(KIND_AT, &99_u16.to_le_bytes())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incompatible);
        let mut flipped = header().encode();
        flipped[VERSION_AT] ^= 2;
        assert_eq!(
            Header::decode(&flipped).unwrap_err().kind(),
            ErrorKind::Damaged
        );
    }

    fn sections(lengths: &[u64]) -> (Header, Vec<Section>) {
        let mut end = HEADER_BYTES as u64 + table_bytes(lengths.len() as u32);
        let sections: Vec<Section> = lengths
            .iter()
            .map(|&length| {
                let offset = end;
                end += length.next_multiple_of(ALIGNMENT);
                Section {
                    name: Section::name("cols"),
                    offset,
                    length,
                    crc: 7,
                }
            })
            .collect();
        let header = Header {
            sections: lengths.len() as u32,
            length: end,
            table_crc: crc32fast::hash(&encode_table(&sections)),
            ..header()
        };
        (header, sections)
    }

    #[test]
    fn a_hostile_table_is_refused_without_overflow() {
        let (header, good) = sections(&[10, 64]);
        assert_eq!(decode_table(&header, &encode_table(&good)).unwrap(), good);
        for (offset, length) in [
            (u64::MAX, 10),
            (128, u64::MAX),
            (128, u64::MAX - 63),
            (128, 65),
            (192, 10),
            (64, 10),
            (129, 10),
        ] {
            let mut bad = good.clone();
            bad[0] = Section {
                offset,
                length,
                ..good[0]
            };
            let table = encode_table(&bad);
            let header = Header {
                table_crc: crc32fast::hash(&table),
                ..header
            };
            let error = decode_table(&header, &table).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Damaged, "{offset} {length}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Header::decode(&bytes);
            let mut bytes = bytes;
            bytes.splice(0..MAGIC.len().min(bytes.len()), MAGIC);
            if bytes.len() >= HEADER_BYTES {
                let crc = crc32fast::hash(&bytes[..CRC_AT]);
                put(&mut bytes, CRC_AT, crc.to_le_bytes());
            }
            if let Ok(header) = Header::decode(&bytes) {
                prop_assert_eq!(&header.encode()[KIND_AT..CRC_AT], &bytes[KIND_AT..CRC_AT]);
                let table = &bytes[HEADER_BYTES..];
                let header = Header { table_crc: crc32fast::hash(table), ..header };
                let _ = decode_table(&header, table);
            }
        }
    }
}
