//! Writing a file of ours: sections stream out, header and table come last.

use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bytemuck::NoUninit;

use super::container::Seal;
use super::disk::DiskFile;
use super::header::{self, ALIGNMENT, HEADER_BYTES, Header, Kind, Section};
use crate::error::{AtPath, Result};

/// Bytes of a file in the making that the page cache may have: a budget may be small beside it.
pub const CACHED: u64 = 4 << 20;

/// Bytes that the checksum and the file see at once.
const BUFFER: usize = 64 << 10;

/// Where bytes go: a file, or in tests something that fails when it is told to.
pub trait Sink: Write + Seek {
    /// Returns once what was written would survive a loss of power.
    fn sync(&mut self) -> io::Result<()>;
}

impl<S: Sink + ?Sized> Sink for &mut S {
    fn sync(&mut self) -> io::Result<()> {
        (**self).sync()
    }
}

/// Writes a container section by section.
///
/// The place of the header stays zero until [`finish`](ContainerWriter::finish), so that a file cut short by a crash is
/// never taken for a whole one.
#[derive(Debug)]
pub struct ContainerWriter<S: Sink> {
    out: S,
    path: PathBuf,
    kind: Kind,
    promised: u32,
    sections: Vec<Section>,
    position: u64,
    /// What has not been written yet.
    buffer: Vec<u8>,
    crc: crc32fast::Hasher,
}

impl ContainerWriter<DiskFile> {
    /// A container in a new file.
    ///
    /// # Errors
    /// If the file exists or cannot be written.
    pub fn create(path: &Path, kind: Kind, sections: u32) -> Result<ContainerWriter<DiskFile>> {
        let file = DiskFile::create(path).at(path)?.cached_within(CACHED);
        ContainerWriter::new(file, path, kind, sections)
    }
}

impl<S: Sink> ContainerWriter<S> {
    /// A container of so many sections at the start of an empty sink; `path` is what errors name.
    pub fn new(sink: S, path: &Path, kind: Kind, sections: u32) -> Result<ContainerWriter<S>> {
        let mut writer = ContainerWriter {
            out: sink,
            path: path.to_owned(),
            kind,
            promised: sections,
            sections: Vec::new(),
            position: 0,
            buffer: Vec::with_capacity(BUFFER),
            crc: crc32fast::Hasher::new(),
        };
        let start = HEADER_BYTES as u64 + header::table_bytes(sections);
        writer.write(&vec![0; start as usize])?;
        Ok(writer)
    }

    /// Begins the next section, and so ends the one before.
    pub fn section(&mut self, name: &str) -> Result<()> {
        self.end_section()?;
        self.crc = crc32fast::Hasher::new();
        self.sections.push(Section {
            name: Section::name(name),
            offset: self.position,
            length: 0,
            crc: 0,
        });
        Ok(())
    }

    /// Appends bytes to the section.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.position += bytes.len() as u64;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BUFFER - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            if self.buffer.len() == BUFFER {
                self.flush()?;
            }
            bytes = later;
        }
        Ok(())
    }

    /// Appends numbers to the section.
    pub fn write_numbers<T: NoUninit>(&mut self, numbers: &[T]) -> Result<()> {
        self.write(bytemuck::cast_slice(numbers))
    }

    fn flush(&mut self) -> Result<()> {
        self.crc.update(&self.buffer);
        self.out.write_all(&self.buffer).at(&self.path)?;
        self.buffer.clear();
        Ok(())
    }

    /// Ends the last section, writes table and header, and waits until all of it is on disk.
    ///
    /// # Panics
    /// If there were not as many sections as promised.
    pub fn finish(mut self, counts: [u64; 3], codes: [u32; 2]) -> Result<Seal> {
        self.end_section()?;
        assert_eq!(
            self.sections.len(),
            self.promised as usize,
            "sections promised"
        );
        let table = header::encode_table(&self.sections);
        let header = Header {
            kind: self.kind,
            sections: self.promised,
            length: self.position,
            counts,
            codes,
            table_crc: crc32fast::hash(&table),
        };
        let mut start = header.encode().to_vec();
        start.extend_from_slice(&table);
        let mut close = || {
            self.out.seek(SeekFrom::Start(0))?;
            self.out.write_all(&start)?;
            self.out.flush()?;
            self.out.sync()
        };
        close().at(&self.path)?;
        Ok(Seal {
            bytes: header.length,
            crc: header.crc(),
        })
    }

    fn end_section(&mut self) -> Result<()> {
        let Some(offset) = self.sections.last().map(|section| section.offset) else {
            return self.flush();
        };
        let length = self.position - offset;
        let padding = length.next_multiple_of(ALIGNMENT) - length;
        self.write(&[0; ALIGNMENT as usize][..padding as usize])?;
        self.flush()?;
        let crc = self.crc.clone().finalize();
        if let Some(section) = self.sections.last_mut() {
            (section.length, section.crc) = (length, crc);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::container::Container;
    use super::*;
    use crate::error::ErrorKind;

    /// A sink in memory that fails once it has taken so many bytes.
    struct Failing {
        inner: io::Cursor<Vec<u8>>,
        room: usize,
        synced: bool,
    }

    impl Write for Failing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.room = self
                .room
                .checked_sub(bytes.len())
                .ok_or(io::ErrorKind::StorageFull)?;
            self.inner.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seek for Failing {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.inner.seek(to)
        }
    }

    impl Sink for Failing {
        fn sync(&mut self) -> io::Result<()> {
            self.synced = true;
            Ok(())
        }
    }

    /// Numbers of a section that does not fit the buffer.
    const LONG: usize = BUFFER / 4 + 2000;

    fn write(sink: impl Sink) -> Result<Seal> {
        let mut writer = ContainerWriter::new(sink, Path::new("f"), Kind::Factors, 3)?;
        writer.section("first")?;
        writer.write_numbers(&[1.5_f32; LONG])?;
        writer.section("empty")?;
        writer.section("last")?;
        writer.write_numbers(&[0_u64, 1, 2])?;
        writer.write(b"tail")?;
        writer.finish([1, 2, 3], [4, 5])
    }

    #[test]
    fn sections_come_back_from_the_map() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let seal = write(DiskFile::create(&path).unwrap()).unwrap();
        let container = Container::open(&path, Kind::Factors).unwrap();
        container.verify().unwrap();
        assert_eq!(container.seal(), seal);
        assert_eq!(seal.bytes, 192 + 4 * LONG as u64 + 64);
        assert_eq!(container.header().counts, [1, 2, 3]);
        assert_eq!(container.header().codes, [4, 5]);
        assert_eq!(container.slice::<f32>("first").unwrap(), [1.5; LONG]);
        assert!(container.slice::<u32>("empty").unwrap().is_empty());
        assert_eq!(container.slice::<u8>("last").unwrap()[24..], *b"tail");
        let error = container.slice::<u64>("last").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        assert!(!container.has("other"));
        let error = container.slice::<u8>("other").unwrap_err();
        assert!(error.to_string().contains("\"other\" is missing"));
    }

    #[test]
    fn a_full_disk_is_an_error_at_whatever_byte() {
        let mut whole = Failing {
            inner: io::Cursor::default(),
            room: usize::MAX,
            synced: false,
        };
        let seal = write(&mut whole).unwrap();
        assert!(whole.synced);
        let taken = usize::MAX - whole.room;
        for room in (0..taken).step_by(61) {
            let mut sink = Failing {
                inner: io::Cursor::default(),
                room,
                synced: false,
            };
            let error = write(&mut sink).unwrap_err();
            assert!(error.to_string().contains("no space left"), "{error}");
            assert!(!sink.synced);
            assert_ne!(sink.inner.get_ref().len() as u64, seal.bytes + 1);
        }
    }
}
