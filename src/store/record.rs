//! Files that hold a record: manifest, model, checkpoint.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::codec;
use super::container::{Container, Seal};
use super::header::Kind;
use super::writer::{ContainerWriter, Sink};
use crate::error::Result;

/// The section that all versions know.
const RECORD: &str = "record";

/// Writes a record into an empty sink; `path` is what errors name. What came to it later, where there is any, is another
/// record in a section of this name, which earlier versions pass over.
pub fn write_record<T: Serialize, M: Serialize>(
    sink: impl Sink,
    path: &Path,
    kind: Kind,
    record: &T,
    more: Option<(&str, &M)>,
) -> Result<Seal> {
    let mut writer = ContainerWriter::new(sink, path, kind, 1 + u32::from(more.is_some()))?;
    writer.section(RECORD)?;
    writer.write(&codec::encode(record).map_err(|e| e.path(path))?)?;
    if let Some((name, more)) = more {
        writer.section(name)?;
        writer.write(&codec::encode(more).map_err(|e| e.path(path))?)?;
    }
    writer.finish([0; 3], [0; 2])
}

/// Reads a record, and what the section of this name holds if there is one, having checked every byte of the file.
///
/// # Errors
/// As [`Container::open`], and [`Damaged`](crate::ErrorKind::Damaged) if a byte is altered.
pub fn read_record<T: DeserializeOwned, M: DeserializeOwned>(
    path: &Path,
    kind: Kind,
    more: &str,
) -> Result<(T, Option<M>, Seal)> {
    let container = Container::open(path, kind)?;
    container.verify()?;
    let record = codec::decode(container.slice(RECORD)?, path)?;
    let more = match container.has(more) {
        true => Some(codec::decode(container.slice(more)?, path)?),
        false => None,
    };
    Ok((record, more, container.seal()))
}
