//! Entries that were flushed or closed are present when the cache is built again.

use std::path::Path;

use larder::{Bytes, Cache, Codec, Compress, Durability, ErrorKind, Persistence, TierKind};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Report {
    title: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    figures: Vec<(u32, f64)>,
}

fn report(n: u32, figures: u32) -> Report {
    Report {
        title: format!("report {n}"),
        note: n.is_multiple_of(2).then(|| "noted".to_owned()),
        figures: (0..figures).map(|at| (at, f64::from(at) / f64::from(n + 1))).collect(),
    }
}

/// The numbers of figures give values from a few bytes to megabytes.
const FIGURES: [u32; 6] = [0, 3, 200, 2_000, 20_000, 200_000];

fn each_builder(check: impl Fn(&dyn Fn() -> Cache<String, Report>)) {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    check(&|| larder::bcache("reopened").dir(dir.join("b")).build().unwrap());
    check(&|| larder::fcache("reopened").dir(dir.join("f")).build().unwrap());
    check(&|| {
        larder::ucache("reopened").dir(dir.join("u")).persistence(Persistence::LongTerm).build().unwrap()
    });
    check(&|| larder::bcache("plain").dir(dir.join("b")).compress(Compress::None).build().unwrap());
    check(&|| larder::fcache("zstd").dir(dir.join("f")).compress(Compress::zstd(3)).build().unwrap());
    check(&|| larder::bcache("named").dir(dir.join("b")).codec(Codec::MessagePack).build().unwrap());
    check(&|| larder::bcache("no memory").dir(dir.join("b")).memory_bytes(0).build().unwrap());
}

fn fill(cache: &Cache<String, Report>) {
    for (n, figures) in FIGURES.into_iter().enumerate() {
        let n = u32::try_from(n).unwrap();
        cache.try_insert(format!("key {n}"), report(n, figures)).unwrap();
    }
}

fn check_filled(cache: &Cache<String, Report>) {
    for (n, figures) in FIGURES.into_iter().enumerate() {
        let n = u32::try_from(n).unwrap();
        assert_eq!(cache.get(format!("key {n}").as_str()), Some(report(n, figures)));
    }
    assert_eq!(cache.len(), FIGURES.len() as u64);
}

#[test]
fn entries_survive_close_and_rebuild() {
    each_builder(|build| {
        let cache = build();
        fill(&cache);
        cache.close().unwrap();
        let cache = build();
        check_filled(&cache);
        assert!(cache.remove("key 1"));
        cache.insert("key 2".into(), report(9, 9));
        cache.close().unwrap();
        let cache = build();
        assert_eq!(cache.get("key 1"), None);
        assert_eq!(cache.get("key 2"), Some(report(9, 9)));
        cache.clear().unwrap();
        cache.close().unwrap();
        let cache = build();
        assert!(cache.is_empty());
        cache.close().unwrap();
    });
}

#[test]
fn entries_survive_flush_and_drop() {
    each_builder(|build| {
        let cache = build();
        fill(&cache);
        cache.flush().unwrap();
        drop(cache);
        let cache = build();
        check_filled(&cache);
        cache.clear().unwrap();
        cache.close().unwrap();
    });
}

#[test]
fn cache_reopened_many_times_keeps_its_entries() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..20_u32 {
        let cache = larder::ucache::<u32, u32>("again")
            .dir(dir.path())
            .persistence(Persistence::LongTerm)
            .build()
            .unwrap();
        assert_eq!(cache.len(), u64::from(round));
        cache.insert(round, round);
        cache.close().unwrap();
    }
}

#[test]
fn entry_that_changed_size_has_one_copy_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let cache = larder::ucache::<u8, Bytes>("moves").dir(dir.path());
        cache.persistence(Persistence::LongTerm).build().unwrap()
    };
    let value = |len: usize| Bytes::from(vec![7; len]);
    for (len, home) in [(100, TierKind::Disk), (5 << 20, TierKind::File), (100, TierKind::Disk)] {
        let cache = open();
        cache.insert(1, value(len));
        cache.close().unwrap();
        let cache = open();
        assert_eq!(cache.get(&1), Some(value(len)));
        let entry = cache.inspect(&1).unwrap().unwrap();
        assert_eq!(entry.home, home);
        let stats = cache.stats();
        let entries: u64 = [TierKind::Disk, TierKind::File]
            .into_iter()
            .map(|kind| stats.tier(kind).unwrap().usage.entries)
            .sum();
        assert_eq!(entries, 1, "one home");
        cache.close().unwrap();
    }
}

#[test]
fn entry_of_another_schema_version_is_a_counted_miss() {
    let dir = tempfile::tempdir().unwrap();
    let open =
        |version| larder::bcache::<u8, String>("schema").dir(dir.path()).version(version).build().unwrap();
    let cache = open(1);
    cache.insert(1, "one".into());
    cache.close().unwrap();
    let cache = open(2);
    assert_eq!(cache.get(&1), None);
    assert_eq!(cache.stats().tier(TierKind::Disk).unwrap().counts.refused, 1);
    assert!(cache.is_empty(), "refused and removed");
    cache.close().unwrap();
}

#[test]
fn remove_of_an_entry_that_this_cache_cannot_serve_is_false() {
    type Open = fn(&Path) -> larder::TieredBuilder<u8, String>;
    let kinds: [(&str, Open); 3] = [
        ("disk", |dir| larder::bcache("kept").dir(dir)),
        ("files", |dir| larder::fcache("kept").dir(dir)),
        ("shared files", |dir| larder::fcache("kept").dir(dir).sharing(larder::Sharing::Processes)),
    ];
    for (kind, open) in kinds {
        let (dir, clock) = (tempfile::tempdir().unwrap(), larder_testkit::ManualClock::default());
        let open = || open(dir.path()).clock(clock.clone());
        let second = std::time::Duration::from_secs(1);
        let cache = open().build().unwrap();
        (0..6).for_each(|key| cache.insert(key, "kept".into()));
        cache.insert_with(6, "expires".into(), larder::EntryOptions::new().ttl(second));
        cache.close().unwrap();

        clock.advance(second);
        let cache = open().build().unwrap();
        assert!(!cache.try_remove(&6).unwrap(), "{kind}: expired");
        assert!(cache.try_remove(&0).unwrap(), "{kind}: of the same schema");
        cache.close().unwrap();

        let cache = open().version(2).build().unwrap();
        assert!(!cache.try_remove(&1).unwrap(), "{kind}: of another schema");
        assert_eq!(cache.take(&2).unwrap(), None, "{kind}");
        assert_eq!(cache.remove_many(&[3, 4]).unwrap(), 0, "{kind}: of another schema");
        assert_eq!(cache.stats().cache.removals, 0, "{kind}");
        assert!(!cache.contains_key(&5), "{kind}");
        cache.close().unwrap();
    }
}

#[test]
fn second_cache_of_a_directory_fails_as_busy() {
    let dir = tempfile::tempdir().unwrap();
    let open = |dir: &Path| larder::ucache::<u8, u8>("lonely").dir(dir).build();
    let cache = open(dir.path()).unwrap();
    let error = open(dir.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(error.to_string().contains("lonely"), "{error}");
    let other_name = larder::ucache::<u8, u8>("other").dir(dir.path()).build().unwrap();
    cache.close().unwrap();
    open(dir.path()).unwrap().close().unwrap();
    other_name.close().unwrap();
}

#[test]
fn disk_budget_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let budget = 32 << 20;
    let cache = larder::ucache::<u32, Bytes>("bounded")
        .dir(dir.path())
        .disk_bytes(budget)
        .memory_bytes(1 << 20)
        .compress(Compress::None)
        .persistence(Persistence::LongTerm)
        .build()
        .unwrap();
    for n in 0..600_u32 {
        let len = [300, 20_000, 100_000, 1_500_000][n as usize % 4];
        cache.insert(n, Bytes::from(vec![n as u8; len]));
    }
    for n in 0..600_u32 {
        if let Some(value) = cache.get(&n) {
            assert!(value.iter().all(|byte| *byte == n as u8), "entry {n}");
        }
    }
    let on_disk = allocated(dir.path());
    assert!(on_disk <= budget + budget / 4, "{on_disk} bytes on disk for a budget of {budget}");
    assert!(cache.stats().tiers.iter().any(|tier| tier.usage.evictions > 0));
    cache.close().unwrap();
}

/// The bytes that a path takes on disk, as `du` counts them.
fn allocated(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::symlink_metadata(path).unwrap();
    let own = metadata.blocks() * 512;
    if !metadata.is_dir() {
        return own;
    }
    own + std::fs::read_dir(path).unwrap().map(|entry| allocated(&entry.unwrap().path())).sum::<u64>()
}

/// Changes the marker of a tier, so that it names another boot.
fn pretend_reboot(tier: &Path) {
    let path = tier.join("marker");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8] ^= 1;
    let sum = xxhash_rust::xxh3::xxh3_64(&bytes[..24]);
    bytes[24..].copy_from_slice(&sum.to_le_bytes());
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn only_synced_entries_survive_a_reboot() {
    for durability in [Durability::Buffered, Durability::Flushed, Durability::Synced] {
        let dir = tempfile::tempdir().unwrap();
        let open = || {
            let disk = larder::bcache::<u64, String>("disk").dir(dir.path()).durability(durability);
            let file = larder::fcache::<u64, String>("file").dir(dir.path()).durability(durability);
            [disk.build().unwrap(), file.build().unwrap()]
        };
        let caches = open();
        let dirs = caches.each_ref().map(|cache| cache.dir().unwrap().to_path_buf());
        caches.iter().for_each(|cache| cache.insert(1, "kept".to_owned()));
        drop(caches);
        pretend_reboot(&dirs[0].join("disk"));
        pretend_reboot(&dirs[1].join("files"));
        let left = (durability == Durability::Synced).then(|| "kept".to_owned());
        assert_eq!(open().map(|cache| cache.get(&1)), [left.clone(), left], "{durability}");
    }
}
