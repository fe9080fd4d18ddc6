//! Outputs that would take the place of what a command reads.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use lowrank::{Error, ErrorKind, Result};

/// Refuses, where outputs may be replaced, one that is an input, by whatever name: neither would be there afterwards. (Where
/// nothing may be replaced, an output that exists is refused anyway.)
///
/// # Errors
/// If there is such an output.
pub fn expect_apart(
    force: bool,
    outputs: &[Option<&Path>],
    inputs: &[Option<&Path>],
) -> Result<()> {
    let identity = |path: &Path| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    let inputs: Vec<_> = inputs.iter().copied().flatten().collect();
    for output in outputs.iter().copied().flatten().filter(|_| force) {
        let Some(found) = identity(output) else {
            continue;
        };
        if let Some(input) = inputs.iter().find(|input| identity(input) == Some(found)) {
            let what = format!(
                "this would take the place of {}, which is read",
                input.display()
            );
            return Err(Error::new(ErrorKind::BadOption, what)
                .path(output)
                .remedy("name another output"));
        }
    }
    Ok(())
}
