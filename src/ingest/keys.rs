//! Keys of ids by number, to be looked up here and there.

use std::io::{BufWriter, Write};
use std::path::Path;

use super::numbering::NumberedIds;
use crate::error::{AtPath, Error, Result};
use crate::store::{CACHED, DiskFile, Mapping};

/// Keys that are read of the ids at once.
const AT_ONCE: usize = 8 << 10;

/// Keys of all ids: in memory, or mapped from a file where that is too little for them.
#[derive(Debug)]
pub enum KeyTable {
    /// They fit.
    Held(Vec<u64>),
    /// They do not.
    Mapped {
        /// The file, mapped.
        map: Mapping,
        /// The file, by which it is removed.
        file: DiskFile,
    },
}

impl KeyTable {
    /// The keys of these ids, within so much memory; a file of them would lie in `folder`.
    ///
    /// # Errors
    /// If the ids cannot be read, or the file not be written.
    pub fn new(ids: &NumberedIds, memory: u64, folder: &Path) -> Result<KeyTable> {
        let count = ids.len() as usize;
        let mut keys = ids.keys();
        if count as u64 * 8 <= memory {
            return Ok(KeyTable::Held(keys.next_keys(count)?));
        }
        let path = folder.join("keys");
        let file = DiskFile::create(&path).at(&path)?.cached_within(CACHED);
        let mut out = BufWriter::new(file);
        loop {
            let some = keys.next_keys(AT_ONCE)?;
            if some.is_empty() {
                break;
            }
            some.iter()
                .try_for_each(|key| out.write_all(&key.to_le_bytes()))
                .at(&path)?;
        }
        let written = out.into_inner().map_err(|e| Error::from(e.into_error()));
        let file = written?;
        file.leave_cache().at(&path)?;
        let map = Mapping::open(path)?;
        Ok(KeyTable::Mapped { map, file })
    }

    /// The keys by number.
    ///
    /// # Errors
    /// If their file is no longer what it was.
    pub fn get(&self) -> Result<&[u64]> {
        match self {
            KeyTable::Held(keys) => Ok(keys),
            KeyTable::Mapped { map, .. } => map.slice(0..map.bytes().len() as u64),
        }
    }

    /// Gives back the memory that looking up has taken, but for keys that are held.
    pub fn release(&self) {
        if let KeyTable::Mapped { map, .. } = self {
            map.release();
        }
    }

    /// Removes the file, if there is one.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(self) -> Result<()> {
        match self {
            KeyTable::Held(_) => Ok(()),
            KeyTable::Mapped { map, file } => file.remove().at(map.path()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::dictionary::Generations;
    use super::super::numbering::Numbering;
    use super::*;
    use std::fs;

    #[test]
    fn keys_that_do_not_fit_are_the_same_and_leave_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let mut generations = Generations::new(folder.path(), 0).unwrap();
        for id in 0..20_000 {
            generations.open.intern(id.to_string().as_bytes());
        }
        let runs = generations.into_runs().unwrap();
        let ids = Numbering::new(runs, 1 << 20, folder.path()).unwrap().ids;
        let table = |memory| KeyTable::new(&ids, memory, folder.path()).unwrap();
        let held = table(160_000);
        assert!(matches!(held, KeyTable::Held(_)));
        let mapped = table(159_999);
        assert!(matches!(mapped, KeyTable::Mapped { .. }));
        for _ in 0..2 {
            assert_eq!(held.get().unwrap(), mapped.get().unwrap());
            mapped.release();
        }
        mapped.remove().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
