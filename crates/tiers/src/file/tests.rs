use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::thread;

use larder_core::clock::Time;
use larder_core::frame::{CodecId, Compression, Head, Header};
use larder_core::place::Kind;
use tempfile::TempDir;

use super::*;
use crate::DiskBudget;

pub(super) const MIB: u64 = 1 << 20;

/// Disk usage of a small entry that is alone in its directories.
const ALONE: u64 = 3 * BLOCK;

/// Polls once: a blocking tier is ready in the first poll.
pub(super) fn now<T>(future: BoxFuture<'_, T>) -> T {
    match pin!(future).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the file tier does its work in the first poll"),
    }
}

pub(super) fn open_shared(dir: &Path, limit: u64) -> FileTier {
    let budget = DiskBudget::new(limit + FIXED + peers::BYTES).share();
    FileTier::open(FileOptions {
        dir: dir.to_path_buf(),
        shared: true,
        budget,
        durability: Durability::Buffered,
    })
    .unwrap()
}

/// Opens a tier with room for `limit` bytes beyond the directories that always exist.
pub(super) fn open(dir: &Path, limit: u64) -> FileTier {
    try_open(dir, limit).unwrap()
}

fn try_open(dir: &Path, limit: u64) -> Result<FileTier> {
    FileTier::open(FileOptions {
        dir: dir.to_path_buf(),
        shared: false,
        budget: DiskBudget::new(limit + FIXED).share(),
        durability: Durability::Buffered,
    })
}

pub(super) fn fresh(limit: u64) -> (TempDir, FileTier) {
    let dir = tempfile::tempdir().unwrap();
    let tier = open(&dir.path().join("files"), limit);
    (dir, tier)
}

pub(super) fn key(number: u64) -> EncodedKey {
    EncodedKey::new(number.to_le_bytes())
}

pub(super) fn frame(number: u64, fill: u8, len: usize) -> Frame {
    let header = Header {
        codec: CodecId::Raw,
        compression: Compression::None,
        kind: Kind::Bytes,
        schema: 0,
        shape: 0,
        created: Time::from_millis(0),
        deadline: Time::NEVER,
        stale_deadline: Time::NEVER,
        generation: 0,
        value_len: len as u64,
        load_cost: None,
    };
    Frame::new(&header, &key(number), b"", vec![fill; len].into())
}

pub(super) fn put(tier: &FileTier, number: u64, fill: u8, len: usize) {
    now(tier.put(&key(number), &frame(number, fill, len))).unwrap();
}

pub(super) fn has(tier: &FileTier, number: u64, fill: u8, len: usize) -> bool {
    now(tier.get(&key(number))).unwrap().is_some_and(|whole| whole == frame(number, fill, len).to_vec())
}

fn id(tier: &FileTier, numbers: impl IntoIterator<Item = u64>) -> Vec<u64> {
    numbers.into_iter().filter(|number| now(tier.contains(&key(*number))).unwrap()).collect()
}

pub(super) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

/// Bytes of `dir` and everything in it, as `du` counts them.
pub(super) fn counted(dir: &Path) -> u64 {
    let children = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let below = children.map(|entry| match entry.metadata().unwrap() {
        metadata if metadata.is_dir() => counted(&entry.path()),
        metadata => rounded(metadata.len()),
    });
    BLOCK + below.sum::<u64>()
}

#[test]
fn put_entry_is_found_until_it_is_removed() {
    let (_dir, tier) = fresh(64 * MIB);
    for len in [0, 1, 4000, 4096, 70_000, 3 << 20, 10] {
        put(&tier, 1, 7, len);
        assert!(has(&tier, 1, 7, len), "{len} bytes");
        assert_eq!(tier.usage().bytes, rounded(frame(1, 7, len).len() as u64) + ABOVE);
    }
    assert!(now(tier.remove(&key(1))).unwrap());
    assert!(!now(tier.remove(&key(1))).unwrap());
    assert_eq!(now(tier.get(&key(1))).unwrap(), None);
    assert_eq!((tier.usage(), tier.budget.used()), (Usage::default(), FIXED));
}

#[test]
fn removed_entry_leaves_no_file_and_no_directories() {
    let (_dir, tier) = fresh(MIB);
    put(&tier, 1, 7, 10);
    assert!(tier.layout.path(key(1).digest()).exists());
    now(tier.remove(&key(1))).unwrap();
    assert_eq!(fs::read_dir(tier.layout.entries()).unwrap().count(), 0);
}

#[test]
fn entries_survive_reopening() {
    let (dir, tier) = fresh(64 * MIB);
    (0..100).for_each(|number| put(&tier, number, number as u8, 100 * number as usize));
    for number in 0..50 {
        assert!(now(tier.remove(&key(number))).unwrap());
    }
    let usage = tier.usage();
    drop(tier);
    let tier = open(&dir.path().join("files"), 64 * MIB);
    assert_eq!((tier.usage(), tier.budget.used()), (usage, usage.bytes + FIXED));
    assert_eq!(id(&tier, 0..100), (50..100).collect::<Vec<_>>());
    assert!((50..100).all(|number| has(&tier, number, number as u8, 100 * number as usize)));
}

#[test]
fn reopening_with_a_smaller_budget_deletes_the_oldest_entries() {
    let (dir, tier) = fresh(MIB);
    let path = |number| tier.layout.path(key(number).digest());
    for number in 0..10 {
        put(&tier, number, 7, 100);
        let written = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000 + number);
        fs::File::options().write(true).open(path(number)).unwrap().set_modified(written).unwrap();
    }
    drop(tier);
    let tier = open(&dir.path().join("files"), 3 * ALONE);
    assert_eq!(id(&tier, 0..10), [7, 8, 9]);
    assert_eq!((tier.usage().bytes, tier.usage().evictions), (3 * ALONE, 7));
}

#[test]
fn half_written_files_are_deleted_on_open() {
    let (dir, tier) = fresh(MIB);
    let tmp = dir.path().join("files/tmp");
    drop(tier);
    fs::write(tmp.join("3.put"), b"half a frame").unwrap();
    fs::create_dir_all(tmp.join("4.clear/ab/cd")).unwrap();
    fs::write(tmp.join("4.clear/ab/cd/ef"), b"frame").unwrap();
    fs::write(tmp.join("notes.txt"), b"of another").unwrap();
    let tier = open(&dir.path().join("files"), MIB);
    assert_eq!(files(&tmp), [tmp.join("notes.txt")]);
    assert_eq!(tier.usage(), Usage::default());
}

#[test]
fn foreign_files_are_kept_and_not_counted() {
    let (dir, tier) = fresh(MIB);
    put(&tier, 1, 7, 10);
    let entries = dir.path().join("files/entries");
    drop(tier);
    let foreign = ["README", "ab/notes", "ab/cd/short", "AB/cd/0123456789012345678901234567", "ab/cd/x"];
    for name in foreign {
        let path = entries.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"of another").unwrap();
    }
    fs::create_dir_all(entries.join("ab/cd/0123456789abcdef0123456789ab")).unwrap();
    let tier = open(&dir.path().join("files"), MIB);
    assert_eq!((tier.usage().entries, tier.usage().bytes), (1, ALONE));
    assert!(foreign.iter().all(|name| entries.join(name).exists()));
    assert!(has(&tier, 1, 7, 10));
}

#[test]
fn never_read_entries_are_evicted_first_then_the_least_recently_used() {
    let (_dir, tier) = fresh(5 * ALONE);
    (0..5).for_each(|number| put(&tier, number, 7, 100));
    assert!(has(&tier, 0, 7, 100) && has(&tier, 3, 7, 100) && has(&tier, 0, 7, 100));
    put(&tier, 5, 7, 100);
    assert_eq!(id(&tier, 0..6), [0, 2, 3, 4, 5]);
    (6..8).for_each(|number| put(&tier, number, 7, 100));
    assert_eq!(id(&tier, 0..8), [0, 3, 5, 6, 7]);
    (5..8).for_each(|number| assert!(has(&tier, number, 7, 100)));
    put(&tier, 8, 7, 100);
    assert_eq!(id(&tier, 0..9), [0, 5, 6, 7, 8]);
    assert_eq!(tier.usage().evictions, 4);
}

#[test]
fn put_without_room_fails_and_keeps_the_former_frame() {
    let budget = DiskBudget::new(10 * BLOCK + FIXED);
    let other = budget.share();
    let dir = tempfile::tempdir().unwrap();
    let tier = FileTier::open(FileOptions {
        dir: dir.path().into(),
        shared: false,
        budget: budget.share(),
        durability: Durability::Buffered,
    })
    .unwrap();
    put(&tier, 1, 7, 100);
    other.grow(7 * BLOCK);
    let error = now(tier.put(&key(1), &frame(1, 8, 12_000))).unwrap_err();
    assert_eq!((error.kind(), error.tier()), (ErrorKind::Full, Some(TierKind::File)));
    assert_eq!(error.operation(), Some("put"));
    assert!(has(&tier, 1, 7, 100));
    assert_eq!((tier.usage().bytes, files(&dir.path().join("tmp")).len()), (ALONE, 0));
    assert_eq!(tier.budget.used(), ALONE + FIXED);
}

#[test]
fn frame_above_the_budget_is_too_large_and_one_of_its_size_is_full() {
    let (_dir, tier) = fresh(10 * BLOCK);
    put(&tier, 1, 7, 100);
    let refused = |len: u64| now(tier.put(&key(2), &frame(2, 8, len as usize))).unwrap_err().kind();
    assert_eq!(refused(10 * BLOCK + FIXED), ErrorKind::TooLarge);
    assert_eq!(refused(10 * BLOCK - 200), ErrorKind::Full);
    assert!(has(&tier, 1, 7, 100));
    put(&tier, 2, 8, (8 * BLOCK - 200) as usize);
    assert_eq!(id(&tier, 1..3), [2]);
}

#[test]
fn the_budget_holds_under_four_threads() {
    let (dir, tier) = fresh(60 * BLOCK);
    let files_dir = dir.path().join("files");
    thread::scope(|scope| {
        for thread in 0..4_u64 {
            let tier = &tier;
            scope.spawn(move || {
                for round in 0..300 {
                    let number = thread * 40 + round % 40;
                    put(tier, number, round as u8, (round as usize * 97) % 20_000);
                    assert!(tier.usage().bytes <= 60 * BLOCK);
                    now(tier.get(&key(number * 7 % 160))).unwrap();
                    if round % 5 == 0 {
                        now(tier.remove(&key(number))).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(tier.usage().bytes + FIXED, counted(&files_dir));
    assert_eq!(tier.budget.used(), counted(&files_dir));
    assert!(counted(&files_dir) <= 60 * BLOCK + FIXED && tier.usage().evictions > 0);
    assert_eq!(files(&dir.path().join("files/tmp")).len(), 0);
}

#[test]
fn vanished_file_is_a_miss_and_no_longer_counted() {
    let (_dir, tier) = fresh(MIB);
    put(&tier, 1, 7, 10);
    fs::remove_file(tier.layout.path(key(1).digest())).unwrap();
    assert!(now(tier.contains(&key(1))).unwrap());
    assert_eq!(now(tier.get(&key(1))).unwrap(), None);
    assert!(!now(tier.contains(&key(1))).unwrap());
    assert_eq!((tier.usage(), tier.budget.used()), (Usage::default(), FIXED));
    put(&tier, 1, 8, 10);
    fs::remove_file(tier.layout.path(key(1).digest())).unwrap();
    assert!(!now(tier.remove(&key(1))).unwrap());
}

#[test]
fn delete_of_an_older_version_keeps_the_newer_entry() {
    let (_dir, tier) = fresh(MIB);
    put(&tier, 1, 7, 10);
    let old = tier.index().unwrap().find(key(1).digest()).unwrap();
    put(&tier, 1, 8, 10);
    assert!(!tier.delete(old).unwrap());
    assert!(has(&tier, 1, 8, 10));
}

#[test]
fn gets_during_overwrites_see_whole_frames() {
    let (_dir, tier) = fresh(64 * MIB);
    put(&tier, 1, 0, 5000);
    thread::scope(|scope| {
        let writer = scope.spawn(|| (1..200).for_each(|round| put(&tier, 1, round, 5000 * round as usize)));
        while !writer.is_finished() {
            let whole = now(tier.get(&key(1))).unwrap().unwrap();
            larder_core::frame::open(&whole, &key(1)).unwrap();
        }
    });
}

#[test]
fn cleared_tier_is_empty_and_accepts_puts() {
    let (dir, tier) = fresh(64 * MIB);
    (0..50).for_each(|number| put(&tier, number, 7, 100));
    now(tier.clear()).unwrap();
    assert_eq!((tier.usage(), tier.budget.used()), (Usage::default(), FIXED));
    assert_eq!(files(&dir.path().join("files")), [dir.path().join("files/marker")]);
    now(tier.clear()).unwrap();
    put(&tier, 1, 8, 100);
    assert!(has(&tier, 1, 8, 100));
    now(tier.clear()).unwrap();
    drop(tier);
    assert_eq!(open(&dir.path().join("files"), MIB).usage(), Usage::default());
}

#[test]
fn concurrent_clears_and_puts_keep_the_usage_exact() {
    let (dir, tier) = fresh(64 * MIB);
    thread::scope(|scope| {
        for thread in 0..3_u64 {
            let tier = &tier;
            scope.spawn(move || (0..200).for_each(|round| put(tier, thread * 50 + round % 50, 7, 100)));
        }
        scope.spawn(|| (0..20).for_each(|_| now(tier.clear()).unwrap()));
    });
    put(&tier, 1, 7, 100);
    assert_eq!(tier.budget.used(), counted(&dir.path().join("files")));
    assert_eq!(tier.usage().bytes + FIXED, tier.budget.used());
}

#[test]
fn scan_visits_each_head_once() {
    let (_dir, tier) = fresh(64 * MIB);
    (0..50).for_each(|number| put(&tier, number, 7, 200 * number as usize));
    let long = EncodedKey::new(vec![9; 100_000]);
    now(tier.put(&long, &Frame::new(&header_of(0), &long, b"tags", Bytes::new()))).unwrap();
    fs::write(tier.layout.path(key(7).digest()), b"torn").unwrap();
    let mut seen = Vec::new();
    now(tier.scan(&mut |head| seen.push(Head::parse(head).unwrap().key.to_vec()))).unwrap();
    let mut expected: Vec<_> =
        (0..50).filter(|number| *number != 7).map(|number| key(number).as_bytes().to_vec()).collect();
    expected.push(long.as_bytes().to_vec());
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
}

fn header_of(number: u64) -> Header {
    Head::parse(frame(number, 7, 0).head()).unwrap().header
}

#[test]
fn closed_tier_fails_every_call() {
    let (dir, tier) = fresh(MIB);
    put(&tier, 1, 7, 100);
    now(tier.close()).unwrap();
    let closed = |result: Result<()>| assert_eq!(result.unwrap_err().kind(), ErrorKind::Closed);
    closed(now(tier.get(&key(1))).map(drop));
    closed(now(tier.put(&key(1), &frame(1, 8, 100))));
    closed(now(tier.remove(&key(1))).map(drop));
    closed(now(tier.contains(&key(1))).map(drop));
    closed(now(tier.clear()));
    closed(now(tier.scan(&mut |_| ())));
    closed(now(tier.flush()));
    now(tier.close()).unwrap();
    assert_eq!((tier.usage(), tier.budget.used()), (Usage::default(), 0));
    assert!(has(&open(&dir.path().join("files"), MIB), 1, 7, 100));
}

#[test]
fn regular_file_in_place_of_the_directory_is_unavailable_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("regular");
    fs::write(&file, b"").unwrap();
    for path in [file.clone(), file.join("below"), file.join("far/below")] {
        let error = try_open(&path, MIB).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains(&*file.to_string_lossy()), "{error}");
        assert_eq!((error.tier(), error.operation()), (Some(TierKind::File), Some("open")));
    }
}

#[cfg(unix)]
#[test]
fn directories_and_files_are_private_to_their_owner() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, tier) = fresh(MIB);
    put(&tier, 1, 7, 100);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let file = tier.layout.path(key(1).digest());
    assert_eq!(mode(&file), 0o600);
    let folders = file.ancestors().skip(1).take_while(|path| *path != dir.path());
    assert!(folders.map(mode).all(|mode| mode == 0o700));
}

#[test]
fn only_closed_or_synced_entries_survive_a_reboot() {
    for durability in [Durability::Buffered, Durability::Flushed, Durability::Synced] {
        for is_closed in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let open = || {
                let budget = DiskBudget::new(64 * MIB).share();
                FileTier::open(FileOptions {
                    dir: dir.path().join("files"),
                    shared: false,
                    budget,
                    durability,
                })
                .unwrap()
            };
            let tier = open();
            (0..5).for_each(|number| put(&tier, number, 7, 5000));
            if is_closed {
                now(tier.close()).unwrap();
            }
            drop(tier);
            assert_eq!(id(&open(), 0..5), [0, 1, 2, 3, 4], "the same boot");
            let tier = open();
            if is_closed {
                now(tier.close()).unwrap();
            }
            drop(tier);
            crate::boot_marker::pretend_reboot(&dir.path().join("files"));
            let is_there = is_closed || durability == Durability::Synced;
            let tier = open();
            assert_eq!(tier.usage().entries, if is_there { 5 } else { 0 }, "{durability}, {is_closed}");
            put(&tier, 9, 8, 10);
            drop(tier);
            assert!(has(&open(), 9, 8, 10));
        }
    }
}

#[test]
fn entries_without_a_marker_are_not_trusted() {
    let (dir, tier) = fresh(64 * MIB);
    (0..5).for_each(|number| put(&tier, number, 7, 10));
    drop(tier);
    let files_dir = dir.path().join("files");
    fs::remove_file(files_dir.join("marker")).unwrap();
    let tier = open(&files_dir, 64 * MIB);
    assert_eq!(tier.usage(), Usage::default());
    assert_eq!(files(&files_dir), [files_dir.join("marker")]);
}
