//! Files that hold one record: manifest, model, checkpoint.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::codec;
use super::container::{Container, Seal};
use super::header::Kind;
use super::writer::{ContainerWriter, Sink};
use crate::error::Result;

/// The only section of such a file.
const RECORD: &str = "record";

/// Writes a record into an empty sink; `path` is what errors name.
pub fn write_record<T: Serialize>(
    sink: impl Sink,
    path: &Path,
    kind: Kind,
    record: &T,
) -> Result<Seal> {
    let bytes = codec::encode(record).map_err(|e| e.path(path))?;
    let mut writer = ContainerWriter::new(sink, path, kind, 1)?;
    writer.section(RECORD)?;
    writer.write(&bytes)?;
    writer.finish([0; 3], [0; 2])
}

/// Reads a record, having checked every byte of its file.
///
/// # Errors
/// As [`Container::open`], and [`Damaged`](crate::ErrorKind::Damaged) if a byte is altered.
pub fn read_record<T: DeserializeOwned>(path: &Path, kind: Kind) -> Result<(T, Seal)> {
    let container = Container::open(path, kind)?;
    container.verify()?;
    let record = codec::decode(container.slice(RECORD)?, path)?;
    Ok((record, container.seal()))
}
