//! A mapped file of ours: header, sections by name, checksums.

use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::header::{self, ALIGNMENT, HEADER_BYTES, Header, Kind, Section};
use super::map::{Element, Mapping};
use crate::error::{Error, ErrorKind, Result};

/// The name of the file that makes a directory a store.
pub const MANIFEST_FILE: &str = "manifest";

/// The name of the file that makes a directory a model.
pub const MODEL_FILE: &str = "model";

/// What tells one file of ours from another: its length, and its header's checksum, which covers all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Seal {
    /// Length of the file in bytes.
    pub bytes: u64,
    /// Checksum of its header.
    pub crc: u32,
}

/// A file of ours, mapped for reading.
#[derive(Debug)]
pub struct Container {
    mapping: Mapping,
    header: Header,
    sections: Vec<Section>,
}

impl Container {
    /// Opens a file and checks what is cheap to check: header, section table, lengths. Sections are left unread.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] if the file is cut short, altered or none of ours; [`ErrorKind::Incompatible`] if it is of
    /// another kind or a later version.
    pub fn open(path: impl Into<PathBuf>, kind: Kind) -> Result<Container> {
        let mapping = Mapping::open(path)?;
        let (header, sections) =
            read_start(mapping.bytes(), kind).map_err(|e| e.path(mapping.path()))?;
        Ok(Container {
            mapping,
            header,
            sections,
        })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        self.mapping.path()
    }

    /// The mapping, for advice on its memory.
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// The file's header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Length and checksum, to be compared with what a manifest says.
    pub fn seal(&self) -> Seal {
        Seal {
            bytes: self.header.length,
            crc: self.header.crc(),
        }
    }

    /// Whether there is a section of this name.
    pub fn has(&self, name: &str) -> bool {
        self.section(name).is_some()
    }

    /// A section's content as numbers. Sections of unknown names do no harm: nobody asks for them.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] if there is no such section or it does not hold whole numbers of this size.
    pub fn slice<T: Element>(&self, name: &str) -> Result<&[T]> {
        let section = self.expected(name)?;
        self.mapping
            .slice(section.offset..section.offset + section.length)
    }

    fn expected(&self, name: &str) -> Result<&Section> {
        self.section(name).ok_or_else(|| {
            let message = format!("the section \"{name}\" is missing");
            Error::damaged(self.path(), HEADER_BYTES as u64, message)
        })
    }

    /// Where a section's content lies in the file, if there is such a section.
    pub fn range(&self, name: &str) -> Option<Range<u64>> {
        self.section(name)
            .map(|section| section.offset..section.offset + section.length)
    }

    /// Reads the whole file and checks each section's checksum, and that its padding is zero.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`], naming the section and where it starts.
    pub fn verify(&self) -> Result<()> {
        self.verify_by(u64::MAX)
    }

    /// As [`verify`](Container::verify), without holding more than two [pieces](Container::PIECE) of the file at a time.
    ///
    /// # Errors
    /// As [`verify`](Container::verify).
    pub fn verify_in_passing(&self) -> Result<()> {
        self.verify_by(Self::PIECE)
    }

    fn verify_by(&self, piece: u64) -> Result<()> {
        self.mapping.check_length()?;
        let mut sections = self.sections.iter();
        sections.try_for_each(|section| self.pass(section, piece, |_| Ok(())))
    }

    /// Bytes of a file that are looked at together where it is read in passing.
    pub const PIECE: u64 = 512 << 10;

    /// Visits a section's content in order, in pieces of so many bytes of which two are in memory at a time, and compares
    /// its checksum at the end: what was made of the pieces counts only then.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] if there is no such section or it fails its checksum, and what `visit` returns.
    pub fn read(
        &self,
        name: &str,
        piece: u64,
        visit: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        self.mapping.check_length()?;
        self.pass(self.expected(name)?, piece, visit)
    }

    fn pass(
        &self,
        section: &Section,
        piece: u64,
        mut visit: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let end = section.offset + section.length;
        let mut crc = crc32fast::Hasher::new();
        self.mapping.stream(section.offset..end, piece, |bytes| {
            crc.update(bytes);
            visit(bytes)
        })?;
        let padding = section.length.next_multiple_of(ALIGNMENT) - section.length;
        let padding: &[u8] = self.mapping.slice(end..end + padding)?;
        crc.update(padding);
        if crc.finalize() == section.crc && padding.iter().all(|&byte| byte == 0) {
            return Ok(());
        }
        let name = String::from_utf8_lossy(&section.name);
        let message = format!(
            "the section \"{}\" fails its checksum",
            name.trim_end_matches('\0')
        );
        Err(Error::damaged(self.path(), section.offset, message)
            .remedy("restore the file from a copy, or write it again"))
    }

    fn section(&self, name: &str) -> Option<&Section> {
        let name = Section::name(name);
        self.sections.iter().find(|section| section.name == name)
    }
}

/// Header and section table of a file of this kind.
fn read_start(bytes: &[u8], kind: Kind) -> Result<(Header, Vec<Section>)> {
    let header = Header::decode(bytes)?;
    if header.kind != kind {
        return Err(Error::new(
            ErrorKind::Incompatible,
            format!("this is {}, not {}", header.kind.noun(), kind.noun()),
        ));
    }
    if header.length != bytes.len() as u64 {
        return Err(Error::new(
            ErrorKind::Damaged,
            format!(
                "the file has {} bytes where its header says {}",
                bytes.len(),
                header.length
            ),
        )
        .offset(bytes.len() as u64)
        .remedy("restore the file from a copy, or write it again"));
    }
    let table = usize::try_from(header::table_bytes(header.sections))
        .ok()
        .and_then(|length| bytes[HEADER_BYTES..].get(..length))
        .ok_or_else(|| {
            Error::new(ErrorKind::Damaged, "the section table leaves the file")
                .offset(HEADER_BYTES as u64)
        })?;
    let sections = header::decode_table(&header, table)?;
    Ok((header, sections))
}

/// What a path is, told by a header alone: a directory is what its `manifest` or `model` is, a file what it says itself.
/// `None` for anything that is not ours.
pub fn kind_of(path: &Path) -> Option<Kind> {
    if path.is_dir() {
        return [MANIFEST_FILE, MODEL_FILE]
            .iter()
            .find_map(|name| kind_of(&path.join(name)));
    }
    if !path.is_file() {
        return None;
    }
    let mut start = [0; HEADER_BYTES];
    std::fs::File::open(path)
        .ok()?
        .read_exact(&mut start)
        .ok()?;
    Some(Header::decode(&start).ok()?.kind)
}

/// Files too large to be written in a test: most of them are holes, and sections fail their checksums.
#[cfg(test)]
pub(super) mod sparse {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;

    /// A section that is zeros but for its last bytes.
    pub struct Hollow<'a> {
        pub name: &'static str,
        pub length: u64,
        pub end: &'a [u8],
    }

    /// Writes a file of such sections.
    pub fn write(path: &Path, kind: Kind, counts: [u64; 3], sections: &[Hollow<'_>]) {
        let mut end = HEADER_BYTES as u64 + header::table_bytes(sections.len() as u32);
        let file = File::create_new(path).unwrap();
        let place = |hollow: &Hollow<'_>| {
            let section = Section {
                name: Section::name(hollow.name),
                offset: end,
                length: hollow.length,
                crc: 0,
            };
            end = (end + hollow.length).next_multiple_of(ALIGNMENT);
            let last = section.offset + hollow.length - hollow.end.len() as u64;
            file.write_all_at(hollow.end, last).unwrap();
            section
        };
        let table = header::encode_table(&sections.iter().map(place).collect::<Vec<_>>());
        let header = Header {
            kind,
            sections: sections.len() as u32,
            length: end,
            counts,
            codes: [0; 2],
            table_crc: crc32fast::hash(&table),
        };
        file.write_all_at(&header.encode(), 0).unwrap();
        file.write_all_at(&table, HEADER_BYTES as u64).unwrap();
        file.set_len(end).unwrap();
    }
}
