//! Small records as bytes: bincode 2, and only here.
//!
//! The bytes are bincode's fixed-width little-endian encoding, which `docs/format.md` describes and other crates read.
//! A limit keeps a hostile length from allocating; checksums are the container's business.

use std::path::Path;

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};

/// The longest record in bytes: 64 MiB, a manifest of more than a million shards.
const LIMIT: usize = 64 << 20;

const CONFIG: Configuration<LittleEndian, Fixint, Limit<LIMIT>> =
    bincode::config::legacy().with_limit::<LIMIT>();

/// A record's bytes.
///
/// # Errors
/// [`ErrorKind::BadOption`] if the record is too long.
pub fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>> {
    let refused = |why: String| Error::new(ErrorKind::BadOption, why);
    let bytes = bincode::serde::encode_to_vec(record, CONFIG)
        .map_err(|e| refused(format!("a record cannot be written: {e}")))?;
    if bytes.len() > LIMIT {
        return Err(
            refused("a record is longer than 64 MiB".into()).remedy("use fewer, larger shards")
        );
    }
    Ok(bytes)
}

/// The record that these bytes of the file at `path` hold, all of them.
///
/// # Errors
/// [`ErrorKind::Damaged`] if they hold no such record or something more.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], path: &Path) -> Result<T> {
    // The checksum has been checked: the bytes are as they were written, by a program that meant something else by them.
    let foreign = || {
        Error::new(
            ErrorKind::Damaged,
            "its record is not one that this version writes",
        )
        .path(path)
        .remedy("make the store or model anew")
    };
    let decoded = bincode::serde::decode_from_slice(bytes, CONFIG);
    match decoded {
        Ok((record, read)) if read == bytes.len() => Ok(record),
        _ => Err(foreign()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_fixed_width_and_little_endian() {
        let record = (7_u16, "ab".to_owned(), Some(1.0_f32), vec![(1_u64, true)]);
        let bytes = encode(&record).unwrap();
        let mut expected = vec![7, 0];
        expected.extend([2, 0, 0, 0, 0, 0, 0, 0, b'a', b'b']);
        expected.extend([1, 0, 0, 0x80, 0x3f]);
        expected.extend([1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(bytes, expected);
        let back: (u16, String, Option<f32>, Vec<(u64, bool)>) =
            decode(&bytes, Path::new("r")).unwrap();
        assert_eq!(back, record);
    }

    #[test]
    fn short_long_and_hostile_records_are_damage() {
        let bytes = encode(&vec![1_u64, 2, 3]).unwrap();
        let mut longer = bytes.clone();
        longer.push(0);
        let mut hostile = bytes.clone();
        hostile[..8].fill(0xff);
        for bad in [&bytes[..bytes.len() - 1], &longer, &hostile, &[]] {
            let error = decode::<Vec<u64>>(bad, Path::new("r")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Damaged);
        }
    }
}
