//! Directories that are opened for reading while a cache has them open.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use larder::{
    Bytes, Cache, EntryOptions, ErrorKind, Persistence, Position, Sharing, TierKind, TierOptions,
    TieredBuilder, ucache,
};
use larder_testkit::HashMapTier;

fn builder(dir: &Path) -> TieredBuilder<String, Bytes> {
    ucache("pages").dir(dir).persistence(Persistence::LongTerm)
}

/// Values in rows, in segments, and in files.
const LENS: [usize; 4] = [10, 900, 50_000, 3 << 20];

fn value(number: usize) -> Bytes {
    let len = LENS[number % LENS.len()];
    (0..len).map(|at| (at * (number + 1) % 251) as u8).collect::<Vec<u8>>().into()
}

fn key(number: usize) -> String {
    format!("page {number}")
}

fn fill(cache: &Cache<String, Bytes>, numbers: std::ops::Range<usize>) {
    for number in numbers {
        cache.insert_with(key(number), value(number), EntryOptions::new().tag(format!("tag {}", number % 2)));
    }
}

/// Every file below `dir` with its content.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = walkdir::WalkDir::new(dir).into_iter().map(Result::unwrap);
    let files = files.filter(|entry| entry.file_type().is_file());
    files.map(|file| (file.path().to_path_buf(), std::fs::read(file.path()).unwrap())).collect()
}

#[test]
fn open_directory_is_read_as_far_as_it_was_flushed() {
    let dir = tempfile::tempdir().unwrap();
    let owner = builder(dir.path()).build().unwrap();
    fill(&owner, 0..40);
    owner.remove(&key(7));
    owner.invalidate_tag("tag 0").unwrap();
    fill(&owner, 40..60);
    owner.flush().unwrap();
    let look = builder(dir.path()).open_read_only().unwrap();
    for number in 0..60 {
        let is_there = number >= 40 || number % 2 == 1 && number != 7;
        assert!(look.get(&key(number)) == is_there.then(|| value(number)), "{number}");
    }
    assert_eq!(look.keys().unwrap().len(), 20 + 20 - 1);
    // The owner goes on, and the look stays as it is.
    fill(&owner, 60..80);
    owner.insert(key(1), value(2));
    assert!(look.get(&key(61)).is_none(), "not copied");
    let again = builder(dir.path()).open_read_only().unwrap();
    owner.close().unwrap();
    for look in [look, again] {
        look.close().unwrap();
    }
    let owner = builder(dir.path()).build().unwrap();
    assert!(owner.get(&key(1)) == Some(value(2)) && owner.get(&key(61)) == Some(value(61)));
    owner.close().unwrap();
}

#[test]
fn look_changes_nothing_in_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let owner = builder(dir.path()).build().unwrap();
    fill(&owner, 0..20);
    owner.close().unwrap();
    let before = contents(dir.path());
    let look = builder(dir.path())
        .tier_options(TierKind::Disk, TierOptions::new().ttl(Duration::from_secs(60)))
        .open_read_only()
        .unwrap();
    assert!(look.get(&key(3)) == Some(value(3)));
    look.insert(key(3), value(4));
    look.insert(key(100), value(0));
    assert!(look.get(&key(3)).is_none_or(|found| found == value(4)), "not the former one");
    assert!(look.remove(&key(5)));
    assert!(look.get(&key(5)).is_none(), "hidden from this cache");
    look.sweep();
    look.clear().unwrap();
    assert!(look.get(&key(6)).is_none());
    look.flush().unwrap();
    look.close().unwrap();
    assert!(contents(dir.path()) == before);
    let owner = builder(dir.path()).build().unwrap();
    assert!((0..20).all(|number| owner.get(&key(number)) == Some(value(number))));
    owner.close().unwrap();
}

/// Each value tells its key and how often that was written: none is torn, and none is older than a flush.
#[test]
fn looks_during_writes_find_whole_entries() {
    let dir = tempfile::tempdir().unwrap();
    let text = |key: usize, round: usize| format!("{key} {round} {}", "x".repeat(key * 37 % 3000));
    let build = || ucache::<u32, String>("busy").dir(dir.path()).persistence(Persistence::LongTerm);
    let owner = build().build().unwrap();
    (0..200).for_each(|key| owner.insert(key as u32, text(key, 0)));
    owner.remove(&13);
    owner.flush().unwrap();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1.. {
                for key in (0..200).filter(|key| key % 3 == 0) {
                    owner.insert(key as u32, text(key, round));
                }
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                thread::park_timeout(Duration::from_millis(1));
            }
        });
        let (mut looks, mut found) = (0, 0);
        for _ in 0..8 {
            let look = match build().open_read_only() {
                Ok(look) => look,
                Err(error) if error.kind() == ErrorKind::Busy => continue,
                Err(error) => panic!("{error}"),
            };
            looks += 1;
            for key in 0..200 {
                let Some(read) = look.get(&(key as u32)) else { continue };
                let round: usize = read.split(' ').nth(1).unwrap().parse().unwrap();
                assert_eq!(read, text(key, round));
                assert!(key % 3 == 0 || round == 0);
                assert_ne!(key, 13, "it was removed");
                found += 1;
            }
            for key in (0..200).filter(|key| key % 3 != 0 && *key != 13) {
                assert_eq!(look.get(&(key as u32)), Some(text(key, 0)), "flushed before");
            }
            look.close().unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
        println!("looks during writes: {looks} of 8, {found} entries");
        assert!(looks > 0);
    });
    owner.close().unwrap();
}

#[test]
fn files_that_processes_share_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let build = || larder::fcache::<u32, String>("shared").dir(dir.path()).sharing(Sharing::Processes);
    let owner = build().build().unwrap();
    owner.insert(1, "a".to_owned());
    let look = build().open_read_only().unwrap();
    assert_eq!(look.get(&1).as_deref(), Some("a"));
    owner.insert(1, "b".to_owned());
    assert_eq!(look.get(&1).as_deref(), Some("b"));
    look.close().unwrap();
    owner.close().unwrap();
}

#[test]
fn what_cannot_be_read_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let error = builder(dir.path()).open_read_only().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("pages"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was created");
    let own = builder(dir.path()).tier(Position::Last, HashMapTier::new()).open_read_only();
    assert_eq!(own.unwrap_err().kind(), ErrorKind::Config);
    let owner = builder(dir.path()).build().unwrap();
    fill(&owner, 0..4);
    owner.close().unwrap();
    std::fs::remove_file(dir.path().join("pages/marks")).unwrap();
    assert_eq!(builder(dir.path()).open_read_only().unwrap_err().kind(), ErrorKind::Unavailable);
}

#[cfg(feature = "encrypt")]
#[test]
fn sealed_directory_is_read_with_its_keys_alone() {
    let dir = tempfile::tempdir().unwrap();
    let keys = |number| larder::Keys::new(larder::SealingKey::new([number; 32]));
    let owner = builder(dir.path()).encrypt(keys(1)).build().unwrap();
    fill(&owner, 0..20);
    owner.invalidate_tag("tag 0").unwrap();
    owner.flush().unwrap();
    let look = builder(dir.path()).encrypt(keys(1)).open_read_only().unwrap();
    let wrong = builder(dir.path()).encrypt(keys(2)).open_read_only().unwrap();
    for number in 0..20 {
        assert!(look.get(&key(number)) == (number % 2 == 1).then(|| value(number)), "{number}");
        assert!(wrong.get(&key(number)).is_none());
    }
    for cache in [look, wrong, owner] {
        cache.close().unwrap();
    }
}
