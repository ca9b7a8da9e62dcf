//! Traces of block accesses of real systems.
//!
//! They come from Nimrod Megiddo and Dharmendra S. Modha, "ARC: A Self-Tuning, Low Overhead
//! Replacement Cache", USENIX FAST 03, and are not part of this repository. A file is named
//! `NAME.lis.zst`. Each line is `START COUNT IGNORED REQUEST` and asks for the blocks
//! `START` to `START + COUNT - 1` in turn.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use larder::Result;

use crate::unreadable;
use crate::workload::Workload;

pub(crate) const NAMES: [&str; 3] = ["OLTP", "P3", "P6"];

/// Returns whether the folder of the traces exists.
pub(crate) fn are_in(folder: &Path) -> bool {
    folder.is_dir()
}

/// Reads the trace of this name.
///
/// # Errors
/// A file that cannot be read, and a line that cannot be parsed, each with its file.
pub(crate) fn read(folder: &Path, name: &str) -> Result<Workload> {
    let path = folder.join(format!("{name}.lis.zst"));
    let file = File::open(&path).map_err(|error| unreadable(&path, error))?;
    let lines = zstd::Decoder::new(file).map_err(|error| unreadable(&path, error))?;
    let mut keys = Vec::new();
    for (number, line) in BufReader::new(lines).lines().enumerate() {
        let line = line.map_err(|error| unreadable(&path, error))?;
        let bad = || format!("line {}: `{line}` is not START COUNT IGNORED REQUEST", number + 1);
        keys.extend(blocks(&line).ok_or_else(|| unreadable(&path, bad()))?);
    }
    Ok(Workload::new(name, "a trace of block accesses".to_owned(), keys))
}

/// The blocks that a line asks for.
fn blocks(line: &str) -> Option<std::ops::Range<u64>> {
    let mut numbers = line.split_ascii_whitespace();
    let start: u64 = numbers.next()?.parse().ok()?;
    let count: u64 = numbers.next()?.parse().ok()?;
    Some(start..start.checked_add(count)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_asks_for_its_blocks_in_turn() {
        assert_eq!(blocks("10 3 0 1"), Some(10..13));
        assert_eq!(blocks("10 0 0 1"), Some(10..10));
        assert_eq!(blocks("10"), None);
        assert_eq!(blocks("a 3 0 1"), None);
    }

    #[test]
    fn trace_is_read_and_a_bad_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let bytes = zstd::encode_all(text.as_bytes(), 1).unwrap();
            std::fs::write(folder.path().join(format!("{name}.lis.zst")), bytes).unwrap();
        };
        write("good", "5 2 0 1\n6 2 0 2\n");
        write("bad", "5 2 0 1\nx\n");
        assert_eq!(read(folder.path(), "good").unwrap().requests, [0, 1, 1, 2]);
        let error = read(folder.path(), "bad").map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("bad.lis.zst: line 2: `x`"), "{error}");
        let error = read(folder.path(), "none").map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("none.lis.zst"), "{error}");
    }
}
