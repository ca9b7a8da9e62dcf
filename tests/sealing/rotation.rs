//! Keys that change, that are missing, and that are wrong.

use std::sync::{Arc, Mutex};

use larder::{Event, Keys, TierKind, bcache, ucache};

use super::{built, key, keys};

#[test]
fn rotation_goes_on_without_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let cache = built(bcache("letters").dir(dir.path()), &keys(1));
    cache.insert("a".to_owned(), 1_u64);
    cache.rotate_keys(&keys(1).rotate(key(2))).unwrap();
    cache.insert("b".to_owned(), 2);
    assert_eq!((cache.get("a"), cache.get("b")), (Some(1), Some(2)));
    // The entry is replaced in its place: there is no second one under another name.
    cache.insert("a".to_owned(), 3);
    assert_eq!(cache.stats().tier(TierKind::Disk).unwrap().usage.entries, 2);
    cache.rotate_keys(&keys(1).rotate(key(2)).retire(key(1).id()).unwrap()).unwrap();
    assert_eq!((cache.get("a"), cache.get("b")), (Some(3), Some(2)));
    let error = cache.rotate_keys(&keys(2)).unwrap_err().to_string();
    assert!(error.contains(&key(2).id().to_string()) && error.contains(&key(1).id().to_string()), "{error}");
    cache.close().unwrap();

    let plain = bcache::<u8, u8>("plain").dir(dir.path()).build().unwrap();
    assert!(plain.rotate_keys(&keys(1)).is_err());
}

#[test]
fn entry_of_a_missing_key_is_an_unopened_miss_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let letters =
        || ucache::<String, u64>("letters").dir(dir.path()).url(format!("sled://{}", dir.path().display()));
    let written = keys(1).rotate(key(2));
    let first = built(letters(), &written);
    first.insert("a".to_owned(), 1);
    first.close().unwrap();

    // This one has the key that names entries, and not the one that wrote.
    let told = Arc::new(Mutex::new(Vec::new()));
    let events = Arc::clone(&told);
    let listening = letters().on_event(move |event: Event<String>| events.lock().unwrap().push(event));
    let second = built(listening, &keys(1));
    assert_eq!(second.get("a"), None);
    assert!(!second.contains_key("a"));
    second.sweep();
    assert_eq!(second.invalidate_if(|_, _| true).wait().unwrap(), 0);
    assert_eq!(second.keys().unwrap(), Vec::<Arc<String>>::new());
    let stats = second.stats();
    let disk = stats.tier(TierKind::Disk).unwrap();
    assert_eq!((disk.counts.unopened, disk.counts.refused, disk.usage.entries), (1, 0, 1));
    second.close().unwrap();
    let unopened = |event: &Event<String>| matches!(event, Event::Unopened { key, tier: TierKind::Disk } if key.as_str() == "a");
    assert_eq!(told.lock().unwrap().iter().filter(|event| unopened(event)).count(), 1);

    let third = built(letters(), &written);
    assert_eq!(third.get("a"), Some(1), "the entry of the others is undamaged");
    third.close().unwrap();
}

#[test]
fn wrong_keys_and_no_keys_find_nothing_and_damage_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let letters = || bcache::<String, u64>("letters").dir(dir.path());
    let sealed = built(letters(), &keys(1));
    sealed.insert("a".to_owned(), 1);
    sealed.insert_with("tagged".to_owned(), 2, larder::EntryOptions::new().tag("tag"));
    sealed.invalidate_tag("tag").unwrap();
    sealed.close().unwrap();

    let wrong = built(letters(), &keys(2));
    assert_eq!((wrong.get("a"), wrong.stats().cache.misses), (None, 1));
    wrong.insert("a".to_owned(), 10);
    wrong.invalidate_tag("other").unwrap();
    wrong.sweep();
    assert_eq!(wrong.keys().unwrap().len(), 1);
    wrong.close().unwrap();

    let plain = letters().memory_bytes(0).build().unwrap();
    assert_eq!((plain.get("a"), plain.stats().cache.misses), (None, 1));
    plain.insert("a".to_owned(), 100);
    plain.invalidate_tag("other").unwrap();
    plain.sweep();
    assert_eq!(plain.keys().unwrap().len(), 1);
    plain.close().unwrap();

    let sealed = built(letters(), &keys(1));
    assert_eq!(sealed.get("a"), Some(1));
    assert_eq!(sealed.get("tagged"), None, "its invalidation outlived the others");
    sealed.close().unwrap();
    let wrong = built(letters(), &keys(2));
    assert_eq!(wrong.get("a"), Some(10));
    wrong.close().unwrap();
}

#[test]
fn altered_entry_is_refused_reported_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let events = Arc::clone(&told);
    let letters = larder::fcache::<String, Vec<u8>>("letters")
        .dir(dir.path())
        .on_event(move |event: Event<String>| events.lock().unwrap().push(event.name()));
    let cache = built(letters, &keys(1));
    cache.insert("a".to_owned(), vec![7; 100_000]);
    let file = walkdir::WalkDir::new(dir.path().join("letters/files/entries"))
        .into_iter()
        .map(Result::unwrap)
        .find(|entry| entry.file_type().is_file())
        .unwrap();
    let mut bytes = std::fs::read(file.path()).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(file.path(), bytes).unwrap();
    assert_eq!(cache.get("a"), None);
    let counts = cache.stats().tier(TierKind::File).unwrap().counts;
    assert_eq!((counts.refused, counts.unopened), (1, 0));
    assert!(!file.path().exists());
    cache.close().unwrap();
    assert!(told.lock().unwrap().contains(&"evicted"));
}

#[test]
fn debug_of_builders_and_errors_show_no_key() {
    let dir = tempfile::tempdir().unwrap();
    let builder = bcache::<u8, u8>("letters").dir(dir.path()).encrypt(Keys::new(key(0xab)));
    let shown = format!("{builder:?} {:?}", builder.explain_config().unwrap());
    assert!(!shown.contains("abab") && !shown.contains("171, 171"), "{shown}");
}
