//! Hits and puts on disk: sled by itself, files by themselves.
//!
//! Larder runs here without memory, so that every hit is one on disk. The raw
//! rivals verify nothing and keep no budget; what they store is the payload.

use std::fs;
use std::hint::black_box;
use std::path::PathBuf;

use larder::{Bytes, Compress, Result};
use xxhash_rust::xxh3::xxh3_64;

use crate::harness::{Row, shuffled};

fn payload(bytes: usize, seed: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at.wrapping_mul(31) ^ seed) as u8).collect()
}

/// Prints the rows of disk.
pub(crate) fn run() -> Result<()> {
    for (bytes, entries) in [(100, 20_000), (1 << 10, 10_000), (16 << 10, 2_000)] {
        sled_row(bytes, entries)?;
    }
    for (bytes, entries) in [(64 << 10, 500), (1 << 20, 60), (16 << 20, 6)] {
        file_row(bytes, entries)?;
    }
    Ok(())
}

fn io(error: impl std::fmt::Display) -> larder::Error {
    larder::Error::new(larder::ErrorKind::Io, error.to_string())
}

fn scratch() -> Result<tempfile::TempDir> {
    tempfile::tempdir().map_err(io)
}

fn sled_row(bytes: usize, entries: usize) -> Result<()> {
    let (here, there) = (scratch()?, scratch()?);
    let raw =
        sled::Config::new().path(here.path().join("raw")).flush_every_ms(Some(500)).open().map_err(io)?;
    let cache = larder::bcache::<u64, Vec<u8>>("compare")
        .dir(there.path())
        .memory_bytes(0)
        .compress(Compress::None)
        .build()?;
    let fronted = larder::bcache::<u64, Vec<u8>>("fronted")
        .dir(there.path())
        .memory_bytes(64 << 10)
        .compress(Compress::None)
        .build()?;
    let value = payload(bytes, 0);
    for key in 0..entries as u64 {
        raw.insert(key.to_be_bytes(), &value[..]).map_err(io)?;
        cache.try_insert(key, value.clone())?;
        fronted.try_insert(key, value.clone())?;
    }
    let order = shuffled(entries);
    let key = |n: usize| order[n % entries] as u64;
    Row::new(format!("disk hit, {bytes} bytes ({entries} entries)"), entries)
        .with("sled", |n| drop(black_box(raw.get(key(n).to_be_bytes()).map(|v| v.map(|v| v.to_vec())))))
        .with("larder bcache, no memory", |n| drop(black_box(cache.get(&key(n)))))
        .with("larder bcache, 64 KiB front", |n| drop(black_box(fronted.get(&key(n)))))
        .run();
    Row::new(format!("disk put, {bytes} bytes ({entries} entries)"), entries / 4)
        .with("sled", |n| drop(black_box(raw.insert(key(n).to_be_bytes(), &value[..]))))
        .with("larder bcache, no memory", |n| cache.insert(key(n), value.clone()))
        .run();
    cache.close()?;
    fronted.close()
}

fn file_row(bytes: usize, entries: usize) -> Result<()> {
    let (here, there) = (scratch()?, scratch()?);
    let path = |key: u64| -> PathBuf { here.path().join(format!("{key:032x}")) };
    let write = |key: u64, value: &[u8]| -> std::io::Result<()> {
        let temporary = here.path().join("temporary");
        fs::write(&temporary, value)?;
        fs::rename(&temporary, path(key))
    };
    let builder = larder::fcache::<u64, Bytes>("compare");
    let cache = builder.dir(there.path()).memory_bytes(0).compress(Compress::None).build()?;
    let value = Bytes::from(payload(bytes, 0));
    for key in 0..entries as u64 {
        write(key, &value).map_err(io)?;
        cache.try_insert(key, value.clone())?;
    }
    let order = shuffled(entries);
    let key = |n: usize| order[n % entries] as u64;
    Row::new(format!("file hit, {bytes} bytes ({entries} entries)"), entries)
        .with("file read, and xxh3 of it", |n| {
            let whole = fs::read(path(key(n))).unwrap_or_default();
            black_box(xxh3_64(&whole));
        })
        .with("file read", |n| drop(black_box(fs::read(path(key(n))))))
        .with("larder fcache, no memory", |n| drop(black_box(cache.get(&key(n)))))
        .run();
    Row::new(format!("file put, {bytes} bytes ({entries} entries)"), entries / 2)
        .with("file write and rename", |n| drop(black_box(write(key(n), &value))))
        .with("larder fcache, no memory", |n| cache.insert(key(n), value.clone()))
        .run();
    cache.close()
}
