//! Fuzzes the reader of export files: arbitrary bytes after the start, with and without a right checksum.
#![no_main]

#[allow(dead_code, unused_imports, reason = "the command uses the rest")]
#[path = "../../crates/cli/src/transfer/mod.rs"]
mod transfer;

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use transfer::ExportReader;
use xxhash_rust::xxh3::xxh3_64;

/// The start, these records, and the last record as a writer ends a file.
fn whole(records: &[(bool, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = b"LRDX\x01\0\0\0".to_vec();
    for (is_file, frame) in records {
        bytes.push(if *is_file { 2 } else { 1 });
        bytes.extend((frame.len() as u64).to_le_bytes());
        bytes.extend(frame);
    }
    bytes.push(0);
    bytes.extend((records.len() as u64).to_le_bytes());
    let sum = xxh3_64(&bytes);
    bytes.extend(sum.to_le_bytes());
    bytes
}

fuzz_target!(|input: (bool, Vec<(bool, Vec<u8>)>, Vec<u8>)| {
    let (is_whole, records, rest) = input;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("export");
    let mut bytes = whole(&records);
    if !is_whole {
        bytes.truncate(bytes.len() - 17);
        bytes.extend(rest);
    }
    std::fs::write(&path, &bytes).expect("a file");
    let verified = ExportReader::verify(&path);
    assert!(!is_whole || verified.is_ok(), "a whole export");
    let Ok(mut reader) = ExportReader::open(&path) else { return };
    let mut frames = 0;
    while let Ok(Some(frame)) = reader.next() {
        frames += 1;
        let Some(frame) = frame else { continue };
        assert!(frame.body <= bytes.len() as u64, "no body is longer than the file");
        let _ended = std::io::copy(&mut reader.body().take(frame.body), &mut std::io::sink());
    }
    assert!(!is_whole || frames == records.len(), "{frames} frames");
});
