//! Sealed streams: written and read in parts, each of which is authenticated before it is returned.

use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use larder::{Bytes, Cache, fcache};
use tempfile::TempDir;

use super::{built, keys};

const MIB: usize = 1 << 20;

fn value(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 5 * 7 % 251) as u8).collect()
}

fn cache(dir: &TempDir) -> Cache<String, Bytes> {
    built(fcache("films").dir(dir.path()), &keys(1))
}

fn file(dir: &TempDir) -> PathBuf {
    let files = walkdir::WalkDir::new(dir.path().join("films/files/entries")).into_iter().map(Result::unwrap);
    files.map(walkdir::DirEntry::into_path).find(|path| path.is_file()).unwrap()
}

#[test]
fn streams_of_any_length_are_read_as_they_were_written() {
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(&dir);
    for len in [4 * MIB, 5 * MIB - 1, 6 * MIB + 65_536, 9 * MIB + 3] {
        let value = value(len);
        cache.insert_from("film".to_owned(), &value[..]).unwrap();
        let mut reader = cache.open("film").unwrap().unwrap();
        assert_eq!(reader.len(), len as u64);
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert!(read == value, "{len}");
        for at in [0, 65_535, 65_536, len - 1, len / 2] {
            reader.seek(SeekFrom::Start(at as u64)).unwrap();
            let mut byte = [0];
            reader.read_exact(&mut byte).unwrap();
            assert_eq!(byte[0], value[at], "{at} of {len}");
        }
        assert!(cache.get("film").unwrap() == value, "read whole");
    }
    // One that was written whole is read in parts too.
    cache.insert("whole".to_owned(), value(7 * MIB).into());
    let mut read = Vec::new();
    cache.open("whole").unwrap().unwrap().read_to_end(&mut read).unwrap();
    assert!(read == value(7 * MIB));
    cache.close().unwrap();
}

#[test]
fn altered_part_of_a_stream_is_never_returned() {
    let dir = tempfile::tempdir().unwrap();
    let cache = cache(&dir);
    let value = value(5 * MIB);
    cache.insert_from("film".to_owned(), &value[..]).unwrap();
    let path = file(&dir);
    let stored = std::fs::read(&path).unwrap();
    for at in [100, 150, 300, 1000, 70_000, stored.len() / 2, stored.len() - 1] {
        let mut altered = stored.clone();
        altered[at] ^= 4;
        std::fs::write(&path, altered).unwrap();
        let mut read = Vec::new();
        let whole = match cache.open("film").unwrap() {
            Some(mut reader) => reader.read_to_end(&mut read).is_ok(),
            None => false,
        };
        assert!(!whole, "byte {at}");
        assert!(value.starts_with(&read), "byte {at}: nothing else is returned");
        assert!(!path.exists(), "byte {at}: the entry was removed");
        cache.insert_from("film".to_owned(), &value[..]).unwrap();
        std::fs::write(&path, &stored).unwrap();
    }
    for len in [stored.len() - 1, stored.len() - 65_552, 1000, 50] {
        std::fs::write(&path, &stored[..len]).unwrap();
        let opened = cache.open("film").unwrap();
        assert!(opened.is_none_or(|mut reader| reader.read_to_end(&mut Vec::new()).is_err()), "{len} bytes");
        cache.insert_from("film".to_owned(), &value[..]).unwrap();
    }
    cache.close().unwrap();
}

#[test]
fn stream_of_a_missing_key_stays() {
    let dir = tempfile::tempdir().unwrap();
    let written = keys(1).rotate(super::key(2));
    let first = built(fcache::<String, Bytes>("films").dir(dir.path()), &written);
    first.insert_from("film".to_owned(), &value(5 * MIB)[..]).unwrap();
    first.close().unwrap();
    let second = cache(&dir);
    assert!(second.open("film").unwrap().is_none());
    assert!(second.get("film").is_none());
    second.close().unwrap();
    assert!(file(&dir).exists());
    let third = built(fcache::<String, Bytes>("films").dir(dir.path()), &written);
    assert!(third.get("film").unwrap() == value(5 * MIB));
    third.close().unwrap();
}
