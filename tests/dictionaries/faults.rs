//! Dictionaries that are lost, damaged, evicted or sealed.

use std::path::Path;

use larder::{Cache, Compress, Persistence, Position, Tier, TierKind, ucache};
use larder_core::compress::dictionary::{Dictionary, entry_key, index_key, is_entry, read_index};
use larder_core::frame::{Frame, Head};
use larder_core::key::EncodedKey;
use larder_testkit::{HashMapTier, MapStorage, block_on};

use super::{ENOUGH, counts, fill, other, record, until, writes_with_dictionary};

fn kind() -> TierKind {
    TierKind::own("map").unwrap()
}

/// A cache whose entries are at home in a map that outlives it.
fn open(dir: &Path, storage: &MapStorage, compress: Compress) -> Cache<u64, String> {
    let tier = HashMapTier::on(storage).with_kind(kind());
    let builder =
        ucache("records").dir(dir).memory_bytes(0).persistence(Persistence::LongTerm).compress(compress);
    builder.tier(Position::First, tier).build().unwrap()
}

/// The numbers of the dictionaries in the map.
fn numbers(storage: &MapStorage) -> Vec<u64> {
    let mut numbers = Vec::new();
    let mut visit = |head: &[u8]| {
        let key = Head::parse(head).unwrap().key;
        if is_entry(head) && key != index_key().as_bytes() {
            numbers.push(u64::from_le_bytes(*key.last_chunk().unwrap()));
        }
    };
    block_on(HashMapTier::on(storage).scan(&mut visit)).unwrap();
    numbers
}

/// Fills the map by a cache that was closed since. Returns the number of its dictionary.
fn filled(dir: &Path, storage: &MapStorage) -> u64 {
    let cache = open(dir, storage, Compress::dictionary());
    fill(&cache);
    cache.close().unwrap();
    let numbers = numbers(storage);
    assert_eq!(numbers.len(), 1);
    numbers[0]
}

fn remove(storage: &MapStorage, key: &EncodedKey) {
    assert!(block_on(HashMapTier::on(storage).remove(key)).unwrap());
}

fn is_lost(dir: &Path, storage: &MapStorage) {
    // A cache that does not write with dictionaries has no other one to put in its place.
    let cache = open(dir, storage, Compress::Auto);
    assert_eq!(cache.get(&ENOUGH), None);
    let counted = counts(&cache, kind());
    assert_eq!((counted.lost_dictionary, counted.refused), (1, 0));
    assert!(!cache.contains_key(&ENOUGH), "the entry was removed");
    // The first records were stored without a dictionary.
    assert_eq!(cache.get(&0), Some(record(0)));
    cache.insert(ENOUGH, record(7));
    assert_eq!(cache.get(&ENOUGH), Some(record(7)));
    cache.close().unwrap();
}

#[test]
fn entry_whose_dictionary_is_lost_is_a_counted_miss() {
    let (dir, storage) = (tempfile::tempdir().unwrap(), MapStorage::default());
    let number = filled(dir.path(), &storage);
    remove(&storage, &entry_key(number));
    is_lost(dir.path(), &storage);
}

#[test]
fn entry_whose_dictionary_is_damaged_is_a_counted_miss() {
    let (dir, storage) = (tempfile::tempdir().unwrap(), MapStorage::default());
    let number = filled(dir.path(), &storage);
    let (tier, key) = (HashMapTier::on(&storage), entry_key(number));
    let whole = block_on(tier.get(&key)).unwrap().unwrap();
    // With checksums that match: the bytes of another dictionary under this number.
    let (_, frame) =
        Dictionary::new(other(1).into_bytes().into(), 3).unwrap().entry(larder::Time::from_millis(7));
    let payload = frame.body().clone();
    let header = Head::parse(&whole).unwrap().header;
    let swapped = Frame::new(
        &larder_core::frame::Header { value_len: payload.len() as u64, ..header },
        &key,
        b"",
        payload,
    );
    let mut flipped = whole.to_vec();
    flipped[5000] ^= 1;
    let cut = whole[..9000].to_vec();
    for damaged in [flipped, cut, swapped.to_vec(), Vec::new()] {
        let (dir, copy) = (tempfile::tempdir().unwrap(), MapStorage::default());
        let entries = HashMapTier::on(&copy);
        filled(dir.path(), &copy);
        block_on(entries.put(&key, &Frame::from_parts(damaged, larder::Bytes::new()))).unwrap();
        is_lost(dir.path(), &copy);
    }
}

#[test]
fn dictionary_that_was_evicted_is_put_back_by_the_cache_that_knows_it() {
    let (dir, storage) = (tempfile::tempdir().unwrap(), MapStorage::default());
    let cache = open(dir.path(), &storage, Compress::dictionary());
    fill(&cache);
    remove(&storage, &entry_key(numbers(&storage)[0]));
    assert_eq!(cache.get(&ENOUGH), Some(record(ENOUGH)), "the dictionary is in memory");
    cache.close().unwrap();
    let cache = open(dir.path(), &storage, Compress::Auto);
    assert_eq!(cache.get(&ENOUGH), Some(record(ENOUGH)));
    cache.close().unwrap();
}

#[test]
fn dictionary_that_one_tier_lost_is_taken_from_another() {
    let (dir, storage) = (tempfile::tempdir().unwrap(), MapStorage::default());
    let number = filled(dir.path(), &storage);
    remove(&storage, &entry_key(number));
    let cache = open(dir.path(), &storage, Compress::dictionary());
    until("the dictionary writes", || writes_with_dictionary(&cache, 5000));
    assert_eq!(numbers(&storage), [number]);
    assert_eq!(cache.get(&ENOUGH), Some(record(ENOUGH)));
    cache.close().unwrap();
}

#[test]
fn damaged_index_is_written_again_from_that_of_another_tier() {
    let (dir, storage) = (tempfile::tempdir().unwrap(), MapStorage::default());
    let number = filled(dir.path(), &storage);
    let tier = HashMapTier::on(&storage);
    let torn = Frame::from_parts(vec![7; 50], larder::Bytes::new());
    block_on(tier.put(&index_key(), &torn)).unwrap();
    let cache = open(dir.path(), &storage, Compress::dictionary());
    assert_eq!(cache.get(&ENOUGH), Some(record(ENOUGH)));
    until("the dictionary writes", || writes_with_dictionary(&cache, 5000));
    let index = block_on(tier.get(&index_key())).unwrap().unwrap();
    assert_eq!(read_index(&index), Some(vec![number]));
    cache.close().unwrap();
}

#[test]
fn two_caches_do_not_share_a_dictionary() {
    let dir = tempfile::tempdir().unwrap();
    let storages = [MapStorage::default(), MapStorage::default()];
    let caches = [0, 1].map(|at| {
        let tier = HashMapTier::on(&storages[at]).with_kind(kind());
        let builder = ucache::<u64, String>(["first", "second"][at]).dir(dir.path()).memory_bytes(0);
        let builder = builder.persistence(Persistence::LongTerm);
        builder.compress(Compress::dictionary()).tier(Position::First, tier).build().unwrap()
    });
    fill(&caches[0]);
    assert!(!writes_with_dictionary(&caches[1], 0), "the second one has no dictionary yet");
    (20_000..20_000 + ENOUGH).for_each(|number| caches[1].insert(number, record(number)));
    until("a dictionary writes", || writes_with_dictionary(&caches[1], 5000));
    assert_ne!(numbers(&storages[0]), numbers(&storages[1]));
    caches.into_iter().for_each(|cache| cache.close().unwrap());
}

#[cfg(feature = "encrypt")]
#[test]
fn sealed_cache_seals_its_dictionary_too() {
    use larder::{Keys, SealingKey};
    let (dir, storage) = (tempfile::tempdir().unwrap(), MapStorage::default());
    let open = |compress| {
        let tier = HashMapTier::on(&storage).with_kind(kind());
        let builder = ucache::<u64, String>("records").dir(dir.path()).memory_bytes(0).compress(compress);
        let builder = builder.persistence(Persistence::LongTerm);
        let builder = builder.encrypt(Keys::new(SealingKey::new([7; 32])));
        builder.tier(Position::First, tier).build().unwrap()
    };
    let cache = open(Compress::dictionary());
    fill(&cache);
    assert_eq!(cache.len(), ENOUGH + 1);
    cache.close().unwrap();
    let mut frames = 0;
    let mut visit = |frame: &[u8]| {
        frames += 1;
        for text in [&b"first_name"[..], b"Lovelace", b"\xc1dict"] {
            assert!(!frame.windows(text.len()).any(|part| part == text), "{}", String::from_utf8_lossy(text));
        }
    };
    block_on(HashMapTier::on(&storage).scan(&mut visit)).unwrap();
    assert_eq!(frames, ENOUGH + 3, "the entries, a dictionary and an index");
    let cache = open(Compress::Auto);
    assert!((0..=ENOUGH).all(|number| cache.get(&number) == Some(record(number))));
    cache.close().unwrap();
}
