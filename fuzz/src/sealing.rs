//! Bytes that belong together: checksums of our own files, and archives put together by hand.

/// Writes the right checksums into what looks like a file of ours: of sections, of the table, of the header. The length
/// is made the file's where it is only a little off, as after a cut.
pub fn seal(bytes: &mut [u8]) {
    const HEADER: usize = 64;
    const ENTRY: usize = 32;
    if bytes.len() < HEADER {
        return;
    }
    let number = |bytes: &[u8], at: usize| -> u64 {
        u64::from_le_bytes(*bytes[at..].first_chunk().expect("eight bytes"))
    };
    let length = bytes.len() as u64;
    if number(bytes, 16).abs_diff(length) < 512 {
        bytes[16..24].copy_from_slice(&length.to_le_bytes());
    }
    let sections = u32::from_le_bytes(*bytes[12..].first_chunk().expect("four bytes")) as usize;
    let table = sections.saturating_mul(ENTRY).next_multiple_of(HEADER);
    if let Some(end) = table.checked_add(HEADER).filter(|&end| end <= bytes.len()) {
        for entry in (HEADER..end).step_by(ENTRY).take(sections) {
            let (start, length) = (number(bytes, entry + 8), number(bytes, entry + 16));
            let stop = length
                .checked_next_multiple_of(HEADER as u64)
                .and_then(|padded| padded.checked_add(start))
                .filter(|&stop| stop <= bytes.len() as u64);
            if let Some(stop) = stop {
                let crc = crc32fast::hash(&bytes[start as usize..stop as usize]);
                bytes[entry + 24..entry + 28].copy_from_slice(&crc.to_le_bytes());
            }
        }
        let crc = crc32fast::hash(&bytes[HEADER..end]);
        bytes[56..60].copy_from_slice(&crc.to_le_bytes());
    }
    let crc = crc32fast::hash(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
}

/// A record that speaks of a file by its length and checksum, made to speak of another in its place.
pub fn relinked(record: &[u8], before: &[u8], after: &[u8]) -> Vec<u8> {
    let seal = |file: &[u8]| file.get(60..64).map(|crc| [&file[16..24], crc].concat());
    let mut record = record.to_vec();
    if let (Some(before), Some(after)) = (seal(before), seal(after))
        && let Some(at) = record.windows(12).position(|bytes| bytes == before)
    {
        record[at..at + 12].copy_from_slice(&after);
        self::seal(&mut record);
    }
    record
}

/// A zip archive of stored members.
pub fn archive(members: &[(&str, &str)]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in members {
        let content = content.as_bytes();
        let offset = out.len() as u32;
        let mut common = Vec::new();
        // Version, flags, method, time, date.
        for field in [20_u16, 0, 0, 0, 33] {
            common.extend_from_slice(&field.to_le_bytes());
        }
        for field in [
            crc32fast::hash(content),
            content.len() as u32,
            content.len() as u32,
        ] {
            common.extend_from_slice(&field.to_le_bytes());
        }
        common.extend_from_slice(&(name.len() as u16).to_le_bytes());
        common.extend_from_slice(&[0; 2]);
        out.extend_from_slice(b"PK\x03\x04");
        out.extend_from_slice(&common);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(content);
        directory.extend_from_slice(b"PK\x01\x02\x14\x00");
        directory.extend_from_slice(&common);
        directory.extend_from_slice(&[0; 10]);
        directory.extend_from_slice(&offset.to_le_bytes());
        directory.extend_from_slice(name.as_bytes());
    }
    let start = out.len() as u32;
    out.extend_from_slice(&directory);
    out.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    for _ in 0..2 {
        out.extend_from_slice(&(members.len() as u16).to_le_bytes());
    }
    out.extend_from_slice(&(directory.len() as u32).to_le_bytes());
    out.extend_from_slice(&start.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out
}
