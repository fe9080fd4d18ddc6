//! Lists of ids, one a line.

use super::chunks::{Batch, Chunks};
use super::input::Input;
use crate::error::{Error, ErrorKind, Result};
use crate::lines::longest_line;
use crate::memory::Bytes;

/// Text that is read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Hands on each line's id with the line's number, in order; blank lines are passed over, and blanks around an id. No line
/// may be longer than those of ratings within the same budget. The text may be compressed, as that of ratings.
///
/// # Errors
/// With file and line if a line is too long or not UTF-8; what `visit` returns.
pub fn read_ids(
    input: &Input,
    budget: Bytes,
    mut visit: impl FnMut(u64, &str) -> Result<()>,
) -> Result<()> {
    input.with_text(&[], |name, text| {
        let mut each = |number, line: &[u8]| {
            let id = std::str::from_utf8(line).map_err(|_| {
                let what = "the line is not UTF-8";
                Error::new(ErrorKind::BadInput, what).line(number)
            })?;
            match id.trim() {
                "" => Ok(()),
                id => visit(number, id),
            }
        };
        let read = || {
            let mut chunks = Chunks::new(text, CHUNK_BYTES, longest_line(budget));
            // A byte order mark is left out there.
            chunks.sample()?;
            let mut batch = Batch::default();
            loop {
                chunks.fill(&mut batch, 1);
                if batch.is_empty() {
                    return Ok(());
                }
                for chunk in batch.chunks() {
                    let lines = chunk.text.split(|&byte| byte == b'\n');
                    for (number, line) in (chunk.first_line..).zip(lines) {
                        each(number, line)?;
                    }
                }
                if let Some(failure) = batch.take_failure() {
                    return Err(failure);
                }
            }
        };
        read().map_err(|e: Error| e.path(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Position;

    fn ids(text: impl AsRef<[u8]>, budget: u64) -> Result<Vec<(u64, String)>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mut ids = Vec::new();
        read_ids(&Input::from(file.path()), Bytes(budget), |line, id| {
            ids.push((line, id.to_owned()));
            Ok(())
        })?;
        Ok(ids)
    }

    #[test]
    fn every_line_has_an_id() {
        let expected = [(1, "a".to_owned()), (3, "b c".to_owned())];
        for text in ["a\n\n b c \n", "\u{feff}a\r\n\r\nb c", "a\n \nb c\n\n"] {
            assert_eq!(ids(text, 1 << 20).unwrap(), expected, "{text:?}");
        }
        assert_eq!(ids("", 1 << 20).unwrap(), []);
        // More than one chunk.
        let many: String = (0..50_000).map(|id| format!("{id}\n")).collect();
        let all = ids(many, 1 << 20).unwrap();
        let right = (0..)
            .zip(&all)
            .all(|(at, id)| *id == (at + 1, at.to_string()));
        assert!(all.len() == 50_000 && right);
    }

    #[test]
    fn a_line_that_is_no_id_is_named() {
        let long = format!("a\n{}\n", "x".repeat(100_000));
        assert_eq!(ids(&long, 64 * 200_000).unwrap().len(), 2);
        let error = ids(&long, 64 * 50_000).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OverBudget);
        assert_eq!(error.position(), Some(Position::Line(2)), "{error}");
        let error = ids(b"a\nb\n\xff\n", 1 << 20).unwrap_err();
        assert_eq!(error.position(), Some(Position::Line(3)), "{error}");
        assert!(error.file().is_some());
    }
}
