//! Invalid input gives a clear error or a counted miss; never a panic, never a wrong value.

use std::fs;
use std::path::{Path, PathBuf};

use larder::{Bytes, Cache, Compress, Error, ErrorKind, Persistence, Thresholds, TierKind};
use serde::{Deserialize, Serialize};

/// Asserts that the error names the option, the given value and the allowed values.
#[track_caller]
fn check(result: Result<Cache<u8, u8>, Error>, says: [&str; 3]) {
    let error = result.expect_err("the option is wrong");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    for part in says {
        assert!(error.to_string().contains(part), "`{error}` does not say `{part}`");
    }
}

#[test]
fn error_for_an_option_out_of_range_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let u = || larder::ucache::<u8, u8>("mistakes").dir(dir.path());
    let m = || larder::mcache::<u8, u8>("mistakes");
    check(larder::mcache::<u8, u8>("").build(), ["name", "an empty text", "at least one character"]);
    check(larder::ucache::<u8, u8>("").dir(dir.path()).build(), ["name", "an empty text", "one character"]);
    check(m().memory_bytes(1).build(), ["memory_bytes", "given 1 B", "64 KiB to 16 TiB"]);
    check(m().memory_bytes(u64::MAX).build(), ["memory_bytes", "18446744073709551615 B", "64 KiB to 16 TiB"]);
    let moka = || m().memory_engine(larder::MemoryEngine::Moka).capacity(1);
    check(moka().memory_bytes(1 << 20).build(), ["memory_engine", "`memory_bytes`", "one of the two"]);
    check(moka().policy(larder::Policy::Sieve).build(), ["memory_engine", "Sieve", "TinyLfu or Lru"]);
    check(u().memory_bytes(1).build(), ["memory_bytes", "given 1 B", "64 KiB to 16 TiB"]);
    check(u().disk_bytes(0).build(), ["disk_bytes", "given 0 B", "16 MiB to 1 PiB"]);
    check(u().disk_bytes(u64::MAX).build(), ["disk_bytes", "18446744073709551615 B", "16 MiB to 1 PiB"]);
    check(u().compress(Compress::zstd(99)).build(), ["compress", "zstd level 99", "1 to 22"]);
    let thresholds = Thresholds { small: 2, medium: 1, large: 3 };
    check(u().thresholds(thresholds).build(), ["thresholds", "2, 1, 3 bytes", "ascending"]);
}

#[test]
fn memory_bytes_for_values_of_unknown_size_requires_a_weigher() {
    let error = larder::mcache::<u8, String>("heap").memory_bytes(1 << 20).build().unwrap_err();
    assert!(error.to_string().contains("weigher"), "{error}");
    let cache = larder::mcache::<u8, String>("heap")
        .memory_bytes(1 << 20)
        .weigher(|_, text| u32::try_from(text.len()).unwrap_or(u32::MAX))
        .build()
        .unwrap();
    for n in 0..=255 {
        cache.insert(n, "x".repeat(100_000));
    }
    assert!(cache.stats().tiers[0].usage.bytes <= 1 << 20);
}

#[test]
fn error_for_an_unusable_directory_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a file");
    fs::write(&file, "not a folder").unwrap();
    for base in [file.clone(), file.join("below")] {
        let error = larder::ucache::<u8, u8>("mistakes").dir(&base).build().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Io), "{error:?}");
        assert!(error.to_string().contains("a file"), "{error}");
    }
    if Path::new("/proc/self").is_dir() {
        let error = larder::fcache::<u8, u8>("mistakes").dir("/proc/larder").build().unwrap_err();
        assert!(error.to_string().contains("/proc/larder"), "{error}");
    }
}

#[test]
fn read_only_directory_is_an_error() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o500)).unwrap();
    let built = larder::bcache::<u8, u8>("mistakes").dir(dir.path()).build();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    match built {
        Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}"),
        // The superuser may write everywhere. Then the cache must simply work.
        Ok(cache) => {
            cache.insert(1, 2);
            assert_eq!(cache.get(&1), Some(2));
            cache.close().unwrap();
        }
    }
}

#[test]
fn name_of_a_cache_cannot_escape_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    for name in ["../../x", "/etc", " ", ".", "a/b", "C:\\x", "nul", &"long".repeat(1000)] {
        let cache = larder::ucache::<u8, u8>(name)
            .dir(&base)
            .persistence(Persistence::LongTerm)
            .build()
            .unwrap_or_else(|error| panic!("{name:?}: {error}"));
        cache.insert(1, 2);
        cache.close().unwrap();
    }
    let beside: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(beside, ["base"], "nothing beside the directory");
    assert_eq!(fs::read_dir(&base).unwrap().count(), 8, "one folder a name");
}

#[test]
fn empty_keys_and_keys_of_a_mebibyte_work() {
    let dir = tempfile::tempdir().unwrap();
    for build in [larder::bcache::<String, u32>, larder::fcache, larder::ucache] {
        let cache = build("keys".to_owned()).dir(dir.path()).memory_bytes(0).build().unwrap();
        let long = "k".repeat(1 << 20);
        let longer = format!("{long}k");
        for (value, key) in ["", " ", "\0", long.as_str(), longer.as_str()].into_iter().enumerate() {
            cache.try_insert(key.to_owned(), u32::try_from(value).unwrap()).unwrap();
        }
        for (value, key) in ["", " ", "\0", long.as_str(), longer.as_str()].into_iter().enumerate() {
            assert_eq!(cache.get(key), Some(u32::try_from(value).unwrap()));
        }
        cache.clear().unwrap();
        cache.close().unwrap();
    }
    let unit = larder::bcache::<(), u8>("unit").dir(dir.path()).memory_bytes(0).build().unwrap();
    unit.insert((), 1);
    assert_eq!(unit.get(&()), Some(1));
    unit.close().unwrap();
}

#[test]
fn different_keys_have_different_encodings() {
    let dir = tempfile::tempdir().unwrap();
    #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    struct Skipping {
        #[serde(skip_serializing_if = "Option::is_none", default)]
        a: Option<u8>,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        b: Option<u8>,
    }
    let skipping =
        larder::bcache::<Skipping, u8>("skipping").dir(dir.path()).memory_bytes(0).build().unwrap();
    let (first, second) = (Skipping { a: Some(1), b: None }, Skipping { a: None, b: Some(1) });
    skipping.insert(first.clone(), 1);
    skipping.insert(second.clone(), 2);
    assert_eq!((skipping.get(&first), skipping.get(&second)), (Some(1), Some(2)));
    skipping.close().unwrap();
    let pairs =
        larder::bcache::<(String, String), u8>("pairs").dir(dir.path()).memory_bytes(0).build().unwrap();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    pairs.insert(pair("a:", "b"), 1);
    pairs.insert(pair("a", ":b"), 2);
    assert_eq!((pairs.get(&pair("a:", "b")), pairs.get(&pair("a", ":b"))), (Some(1), Some(2)));
    pairs.close().unwrap();
}

/// Every regular file below a folder.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// Builds a cache with one file per entry, damages each file, and reads.
fn damaged(damage: impl Fn(&Path)) -> (Option<Bytes>, Cache<u8, Bytes>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let open = || larder::fcache::<u8, Bytes>("damaged").dir(dir.path()).memory_bytes(0).build().unwrap();
    let cache = open();
    cache.try_insert(1, Bytes::from(vec![7; 5000])).unwrap();
    cache.close().unwrap();
    let entries = files(&dir.path().join("damaged/files/entries"));
    assert_eq!(entries.len(), 1);
    entries.iter().for_each(|path| damage(path));
    let cache = open();
    (cache.get(&1), cache, dir)
}

#[track_caller]
fn check_refused(damage: impl Fn(&Path)) {
    let (value, cache, _dir) = damaged(damage);
    assert_eq!(value, None);
    let file = cache.stats().tier(TierKind::File).unwrap().clone();
    assert_eq!((file.counts.refused, file.usage.entries), (1, 0), "counted and removed");
    cache.insert(1, Bytes::from_static(b"new"));
    assert_eq!(cache.get(&1), Some(Bytes::from_static(b"new")));
    cache.close().unwrap();
}

#[test]
fn flipped_bit_is_a_counted_miss() {
    for at in [0, 4, 5, 20, 60, 90, 96, 97, 98, 120] {
        check_refused(|path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[at] ^= 0x40;
            fs::write(path, bytes).unwrap();
        });
    }
}

#[test]
fn truncated_file_is_a_counted_miss() {
    for keep in [0, 1, 50, 96, 97, 100] {
        check_refused(|path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..keep]).unwrap();
        });
    }
    check_refused(|path| fs::write(path, "written by somebody else").unwrap());
    check_refused(|path| {
        let mut bytes = fs::read(path).unwrap();
        bytes.push(0);
        fs::write(path, bytes).unwrap();
    });
}

#[test]
fn file_of_another_key_is_a_counted_miss() {
    let dir = tempfile::tempdir().unwrap();
    let open = || larder::fcache::<u8, Bytes>("swapped").dir(dir.path()).memory_bytes(0).build().unwrap();
    let cache = open();
    cache.insert(1, Bytes::from_static(b"one"));
    cache.insert(2, Bytes::from_static(b"two"));
    cache.close().unwrap();
    let entries = files(&dir.path().join("swapped/files/entries"));
    let (one, two) = (fs::read(&entries[0]).unwrap(), fs::read(&entries[1]).unwrap());
    fs::write(&entries[0], two).unwrap();
    fs::write(&entries[1], one).unwrap();
    let cache = open();
    assert_eq!((cache.get(&1), cache.get(&2)), (None, None));
    assert_eq!(cache.stats().tier(TierKind::File).unwrap().counts.refused, 2);
    cache.close().unwrap();
}

#[test]
fn foreign_files_are_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let cache = larder::ucache::<u8, Bytes>("foreign").dir(dir.path());
        cache.persistence(Persistence::LongTerm).build().unwrap()
    };
    let cache = open();
    cache.insert(1, Bytes::from_static(b"small"));
    cache.insert(2, Bytes::from(vec![1; 2 << 20]));
    cache.close().unwrap();
    let root = dir.path().join("foreign");
    let foreign = ["notes.txt", "files/notes.txt", "disk/notes.txt", "files/entries/notes.txt"];
    for name in foreign {
        fs::write(root.join(name), "mine").unwrap();
    }
    let cache = open();
    assert_eq!(cache.len(), 2);
    assert_eq!(cache.get(&1), Some(Bytes::from_static(b"small")));
    assert_eq!(cache.get(&2).map(|value| value.len()), Some(2 << 20));
    cache.close().unwrap();
    for name in foreign {
        assert_eq!(fs::read_to_string(root.join(name)).unwrap(), "mine", "{name}");
    }
}

mod before {
    #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    pub(super) struct Report {
        pub(super) total: u32,
        pub(super) count: u32,
    }
}

mod after {
    #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    pub(super) struct Report {
        pub(super) total: u64,
    }
}

fn stored_as<V>(dir: &Path, value: V)
where
    V: Clone + Serialize + for<'a> Deserialize<'a> + Send + Sync + 'static,
{
    let cache = larder::bcache::<u8, V>("typed").dir(dir).build().unwrap();
    cache.try_insert(1, value).unwrap();
    cache.close().unwrap();
}

#[track_caller]
fn refused_as<V>(dir: &Path)
where
    V: Clone + Serialize + for<'a> Deserialize<'a> + Send + Sync + 'static,
{
    let cache = larder::bcache::<u8, V>("typed").dir(dir).build().unwrap();
    assert!(cache.get(&1).is_none(), "read as {}", std::any::type_name::<V>());
    assert_eq!(cache.stats().tier(TierKind::Disk).unwrap().counts.refused, 1);
    cache.close().unwrap();
}

#[test]
fn value_of_a_changed_type_is_a_counted_miss() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    stored_as(dir, 7_u64);
    refused_as::<f64>(dir);
    stored_as(dir, 7_u64);
    refused_as::<(u32, u32)>(dir);
    stored_as(dir, before::Report { total: 1, count: 0 });
    refused_as::<after::Report>(dir);
    stored_as(dir, vec![1_u8, 2, 3]);
    refused_as::<String>(dir);
    stored_as(dir, vec![1.0_f64]);
    refused_as::<Vec<i64>>(dir);
    stored_as(dir, "text".to_owned());
    refused_as::<u32>(dir);
}

#[test]
fn torn_journal_and_runs_are_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let open = || larder::bcache::<u32, String>("torn").dir(dir.path()).memory_bytes(0).build().unwrap();
    let cache = open();
    for n in 0..100 {
        cache.insert(n, format!("value {n}"));
    }
    cache.close().unwrap();
    let torn = ["journal", "packs"].map(|name| files(&dir.path().join("torn/disk").join(name))).concat();
    assert!(!torn.is_empty());
    for path in torn {
        let len = fs::metadata(&path).unwrap().len();
        fs::write(&path, vec![0xa5; usize::try_from(len).unwrap()]).unwrap();
    }
    let cache = open();
    for n in 0..100 {
        assert_eq!(cache.get(&n), None);
        cache.insert(n, format!("new {n}"));
        assert_eq!(cache.get(&n), Some(format!("new {n}")));
    }
    cache.close().unwrap();
}

#[test]
fn value_that_fails_to_encode_after_measuring_removes_the_former() {
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
    static PASSES: AtomicU32 = AtomicU32::new(0);
    /// Fails in the pass of this number, counted from now.
    static REFUSES: AtomicU32 = AtomicU32::new(u32::MAX);
    #[derive(Clone, Debug, PartialEq, Deserialize)]
    struct Fickle(u8);
    impl Serialize for Fickle {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            if PASSES.fetch_add(1, SeqCst) >= REFUSES.load(SeqCst) {
                return Err(serde::ser::Error::custom("refused"));
            }
            serializer.serialize_u8(self.0)
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let cache = larder::bcache::<u8, Fickle>("fickle").dir(dir.path()).memory_bytes(0).build().unwrap();
    cache.try_insert(1, Fickle(1)).unwrap();
    REFUSES.store(PASSES.load(SeqCst) + 1, SeqCst);
    assert!(cache.try_insert(1, Fickle(2)).is_err(), "measured, and not encoded");
    assert_eq!(cache.get(&1), None, "the former value is gone");
    cache.close().unwrap();
}

#[test]
fn value_that_cannot_be_encoded_is_an_error_and_removes_the_former() {
    #[derive(Clone, Debug, PartialEq, Deserialize)]
    struct Refuses(bool);
    impl Serialize for Refuses {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            if self.0 { Err(serde::ser::Error::custom("refused")) } else { serializer.serialize_bool(false) }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let cache = larder::bcache::<u8, Refuses>("refuses").dir(dir.path()).build().unwrap();
    cache.try_insert(1, Refuses(false)).unwrap();
    let error = cache.try_insert(1, Refuses(true)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Codec, "{error:?}");
    assert!(error.to_string().contains("refused"), "{error}");
    assert_eq!(cache.get(&1), None, "the former value is gone as well");
    assert_eq!(cache.get_with(2, || Refuses(true)), Refuses(true), "the caller has what it loaded");
    assert_eq!(cache.stats().cache.dropped, 2);
    cache.close().unwrap();
}
