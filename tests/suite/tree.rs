//! What lies below a folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Every file below `root` by its path from there, with its bytes. A folder without files counts as a file of its name.
pub fn tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        let name = |path: &Path| {
            path.strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        };
        if entries.is_empty() {
            files.insert(name(&folder), Vec::new());
        }
        for path in entries {
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(name(&path), fs::read(&path).unwrap());
            }
        }
    }
    files
}
