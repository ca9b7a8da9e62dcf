//! Hits, puts and reopening on disk, by the size of the values: raw files, sled, foyer, Larder.
//!
//! Raw files and sled verify nothing and have no budget. Larder runs without memory, so that every hit reads
//! the disk, and once with a memory tier that nearly always misses.

mod stores;

use std::cell::Cell;
use std::path::PathBuf;

use larder::Result;
use tempfile::TempDir;

use self::stores::{Open, Store};
use crate::harness::{Row, shuffled};

/// The sizes of values, their number, and the number of puts in a round.
const SIZES: [(usize, usize, usize); 6] = [
    (100, 20_000, 5_000),
    (1 << 10, 10_000, 2_500),
    (16 << 10, 2_000, 500),
    (64 << 10, 500, 250),
    (1 << 20, 60, 30),
    (16 << 20, 6, 3),
];

/// From this size on raw files are the baseline, and not sled.
const FILES_FROM: usize = 64 << 10;

/// How many bytes are put before the benchmark waits for background writes.
const SETTLED_BYTES: usize = 1 << 20;

const SLED: (&str, Open) = ("sled", stores::sled);
const SUMMED: (&str, Open) = ("file, and xxh3 of what is read", stores::summed_files);
const FILES: (&str, Open) = ("file", stores::files);
const FOYER: (&str, Open) = ("foyer, its disk", stores::foyer);
const BCACHE: (&str, Open) = ("larder bcache, no memory", stores::bcache);
const FRONTED: (&str, Open) = ("larder bcache, 64 KiB front", stores::fronted_bcache);
const FCACHE: (&str, Open) = ("larder fcache, no memory", stores::fcache);
const OF_BYTES: (&str, Open) = ("larder fcache of Bytes", stores::fcache_of_bytes);

const SMALL: [(&str, Open); 7] = [SLED, FILES, SUMMED, FOYER, BCACHE, FRONTED, FCACHE];
const LARGE: [(&str, Open); 7] = [SUMMED, FILES, SLED, FOYER, BCACHE, FCACHE, OF_BYTES];

/// A contender, and how often it did not have a value that was put.
struct Contender {
    name: &'static str,
    open: Open,
    dir: PathBuf,
    store: Option<Box<dyn Store>>,
    missed: Cell<usize>,
}

impl Contender {
    /// Whether no other contender writes and opens in the same way.
    fn is_one_of_a_kind(&self) -> bool {
        ![SUMMED.0, FRONTED.0, OF_BYTES.0].contains(&self.name)
    }

    fn get(&self, key: u64) {
        let found = self.store.as_ref().is_some_and(|store| store.get(key));
        self.missed.set(self.missed.get() + usize::from(!found));
    }
}

/// Prints the rows of the disk comparison.
pub(crate) fn run() -> Result<()> {
    // Kept until the end: ext4 is slow to create files after many deletions.
    let mut dirs = Vec::new();
    for (bytes, entries, puts) in SIZES {
        dirs.push(rows(bytes, entries, puts)?);
    }
    Ok(())
}

fn rows(bytes: usize, entries: usize, puts: usize) -> Result<TempDir> {
    let dir = tempfile::tempdir()?;
    let known: &[(&'static str, Open)] = if bytes < FILES_FROM { &SMALL } else { &LARGE };
    let at = |(at, &(name, open)): (usize, &(&'static str, Open))| {
        let dir = dir.path().join(at.to_string());
        Contender { name, open, store: Some(open(&dir)), dir, missed: Cell::new(0) }
    };
    let mut contenders: Vec<Contender> = known.iter().enumerate().map(at).collect();
    let value = &payload(bytes);
    for store in contenders.iter().filter_map(|contender| contender.store.as_ref()) {
        for key in 0..entries {
            store.put(key as u64, value);
            if key.is_multiple_of((SETTLED_BYTES / bytes).max(1)) {
                store.settle();
            }
        }
        store.settle();
    }
    let order = shuffled(entries);
    let key = |n: usize| order[n % entries] as u64;
    let mut row = Row::new(format!("hit, {bytes} bytes ({entries} entries)"), entries);
    for contender in &contenders {
        row = row.with(contender.name, move |n| contender.get(key(n)));
    }
    row.run();
    let mut row = Row::new(format!("put, {bytes} bytes ({entries} entries)"), puts);
    for contender in contenders.iter().filter(|contender| contender.is_one_of_a_kind()) {
        let Some(store) = &contender.store else { continue };
        row = row.with(contender.name, move |n| {
            store.put(key(n), value);
            if (n + 1) % puts == 0 {
                store.settle();
            }
        });
    }
    row.run();
    contenders.iter_mut().filter_map(|contender| contender.store.take()).for_each(Store::close);
    let mut row = Row::new(format!("opened, a hit, closed, {bytes} bytes ({entries} entries)"), 1);
    for contender in contenders.iter_mut().filter(|contender| contender.is_one_of_a_kind()) {
        row = row.with(contender.name, move |n| {
            contender.store = Some((contender.open)(&contender.dir));
            contender.get(key(n));
            contender.store.take().into_iter().for_each(Store::close);
        });
    }
    row.run();
    for Contender { name, missed, .. } in contenders.iter().filter(|contender| contender.missed.get() > 0) {
        println!("  {name}: {} reads found nothing", missed.get());
    }
    Ok(dir)
}

fn payload(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| at.wrapping_mul(31) as u8).collect()
}
