//! Dictionaries: what small values share is stored once, and what is lost is a miss.

mod faults;
#[cfg(feature = "redis")]
mod nodes;

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use larder::{Cache, Compress, TierCounts, TierKind, TieredBuilder, bcache, fcache};
use larder_core::frame::{Compression, FIXED_LEN};

/// The time limit of each wait here.
const PATIENCE: Duration = Duration::from_secs(60);
/// Records that are enough for a dictionary.
const ENOUGH: u64 = 1100;

fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^= mixed >> 27;
    mixed = mixed.wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// A JSON record of about 300 bytes.
fn record(number: u64) -> String {
    let pick =
        |from: &[&'static str], salt: u64| from[(mixed(number ^ salt << 32) % from.len() as u64) as usize];
    let (first, last) = (
        pick(&["Ada", "Grace", "Alan", "Edsger", "Barbara", "Donald", "Leslie", "Radia"], 1),
        pick(&["Lovelace", "Hopper", "Turing", "Dijkstra", "Liskov", "Knuth", "Lamport", "Perlman"], 2),
    );
    let noise = mixed(number);
    format!(
        "{{\"id\":{number},\"uuid\":\"{:08x}-{:04x}\",\"first_name\":\"{first}\",\"last_name\":\"{last}\",\
         \"email\":\"{}.{}{}@example.com\",\"status\":\"{}\",\"created_at\":\"2026-{:02}-{:02}T{:02}:{:02}:{:02}Z\",\
         \"address\":{{\"city\":\"{}\",\"zip\":\"{:05}\"}},\"balance\":{}.{:02},\"roles\":[\"{}\",\"reader\"],\
         \"newsletter\":{}}}",
        noise >> 32,
        noise & 0xffff,
        first.to_lowercase(),
        last.to_lowercase(),
        noise % 1000,
        pick(&["active", "suspended", "invited", "deleted"], 3),
        noise % 12 + 1,
        noise % 28 + 1,
        noise % 24,
        noise % 60,
        noise / 60 % 60,
        pick(&["Berlin", "Paris", "Lisbon", "Oslo", "Vienna", "Prague"], 4),
        noise / 7 % 100_000,
        noise / 11 % 10_000,
        noise / 13 % 100,
        pick(&["admin", "writer", "guest"], 5),
        noise.is_multiple_of(2),
    )
}

/// Text of other words than a record.
fn other(number: u64) -> String {
    let noise = mixed(number);
    format!(
        "<measurement station='N-{}' sensor='thermometer' unit='kelvin'><reading moment='{}' value='{}.{}'/>\
         <quality level='{}' calibrated='yes'/><operator initials='{}' shift='night'/></measurement>",
        noise % 100,
        noise >> 20 & 0xffff_ffff,
        noise % 300,
        noise / 300 % 100,
        noise / 17 % 5,
        noise / 19 % 30,
    )
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

fn builder(dir: &Path) -> TieredBuilder<u64, String> {
    bcache("records").dir(dir).memory_bytes(0).compress(Compress::dictionary())
}

/// Whether an entry that is stored now is compressed with a dictionary.
fn writes_with_dictionary(cache: &Cache<u64, String>, number: u64) -> bool {
    cache.insert(number, record(number));
    cache.explain(&number).unwrap().compression == Some(Compression::Dictionary)
}

/// Fills a cache until it writes with a dictionary.
fn fill(cache: &Cache<u64, String>) {
    (0..ENOUGH).for_each(|number| cache.insert(number, record(number)));
    until("a dictionary writes", || writes_with_dictionary(cache, ENOUGH));
}

/// The stored bytes of key and value of an entry, and the bytes of the value alone.
fn lens(cache: &Cache<u64, String>, number: u64) -> (u64, u64) {
    let explained = cache.explain(&number).unwrap();
    (explained.stored_bytes.unwrap() - FIXED_LEN as u64, explained.bytes.unwrap())
}

fn counts(cache: &Cache<u64, String>, kind: TierKind) -> TierCounts {
    cache.stats().tiers.iter().find(|tier| tier.kind == kind).unwrap().counts
}

#[test]
fn json_records_are_stored_in_four_tenths_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    for cache in [
        builder(dir.path()).build().unwrap(),
        fcache("files").dir(dir.path()).memory_bytes(0).compress(Compress::dictionary()).build().unwrap(),
    ] {
        fill(&cache);
        for number in 2000..2500 {
            cache.insert(number, record(number));
            assert_eq!(cache.get(&number), Some(record(number)));
        }
        assert!((0..ENOUGH).all(|number| cache.get(&number) == Some(record(number))));
        assert_eq!(cache.len(), ENOUGH + 501, "dictionaries are not counted");
        assert_eq!(cache.keys().unwrap().len() as u64, ENOUGH + 501);
        cache.close().unwrap();
    }
}

#[test]
fn stored_bytes_of_records_are_at_most_four_tenths() {
    let dir = tempfile::tempdir().unwrap();
    let cache = builder(dir.path()).build().unwrap();
    fill(&cache);
    let (mut stored, mut plain) = (0, 0);
    for number in 2000..2500 {
        cache.insert(number, record(number));
        let (of_entry, of_value) = lens(&cache, number);
        (stored, plain) = (stored + of_entry, plain + of_value);
    }
    assert!(stored * 10 <= plain * 4, "{stored} of {plain} bytes");
    cache.close().unwrap();
}

#[test]
fn reopened_cache_reads_and_writes_with_its_dictionary() {
    let dir = tempfile::tempdir().unwrap();
    let cache = builder(dir.path()).build().unwrap();
    fill(&cache);
    cache.close().unwrap();
    let cache = builder(dir.path()).build().unwrap();
    assert_eq!(cache.get(&ENOUGH), Some(record(ENOUGH)));
    until("the dictionary writes again, without new samples", || writes_with_dictionary(&cache, 2000));
    cache.close().unwrap();
    // A cache without the option reads what is there.
    let cache = builder(dir.path()).compress(Compress::Auto).build().unwrap();
    assert_eq!(cache.get(&ENOUGH), Some(record(ENOUGH)));
    assert_eq!(cache.get(&2000), Some(record(2000)));
    cache.close().unwrap();
}

#[test]
fn cleared_cache_stores_its_dictionary_again() {
    let dir = tempfile::tempdir().unwrap();
    let cache = builder(dir.path()).build().unwrap();
    fill(&cache);
    cache.clear().unwrap();
    assert!(cache.is_empty());
    until("the dictionary writes", || writes_with_dictionary(&cache, 7));
    assert_eq!(cache.len(), 1);
    cache.close().unwrap();
    let cache = builder(dir.path()).build().unwrap();
    assert_eq!(cache.get(&7), Some(record(7)));
    assert_eq!(counts(&cache, TierKind::Disk).lost_dictionary, 0);
    cache.close().unwrap();
}

#[test]
fn dictionary_is_renewed_when_the_values_change() {
    let dir = tempfile::tempdir().unwrap();
    let cache = builder(dir.path()).build().unwrap();
    fill(&cache);
    // The first window of payloads is the measure.
    (3000..5100).for_each(|number| cache.insert(number, record(number)));
    cache.insert(1, other(1));
    let before = lens(&cache, 1).0;
    let mut number = 10_000;
    until("other values are stored in half of that", || {
        (0..500).for_each(|_| {
            number += 1;
            cache.insert(number, other(number));
        });
        cache.insert(1, other(1));
        lens(&cache, 1).0 * 2 <= before
    });
    assert_eq!(cache.get(&3000), Some(record(3000)), "the former dictionary reads");
    cache.close().unwrap();
    let cache = builder(dir.path()).build().unwrap();
    assert_eq!(cache.get(&3000), Some(record(3000)));
    assert_eq!(cache.get(&number), Some(other(number)));
    cache.close().unwrap();
}

#[test]
fn values_that_share_nothing_are_stored_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let cache =
        bcache::<u64, Vec<u8>>("noise").dir(dir.path()).memory_bytes(0).compress(Compress::dictionary());
    let cache = cache.build().unwrap();
    let noise = |number: u64| -> Vec<u8> {
        (0..40).flat_map(|part| mixed(number * 41 + part).to_le_bytes()).collect()
    };
    for number in 0..2000 {
        cache.insert(number, noise(number));
    }
    assert_eq!(cache.explain(&1999).unwrap().compression, Some(Compression::None));
    assert!((0..2000).all(|number| cache.get(&number) == Some(noise(number))));
    cache.close().unwrap();
}
