use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use larder_core::tier::Tier;
use tempfile::TempDir;

use super::super::tests::{MIB, counted, fresh, has, key, now, open, open_shared, put};
use super::super::{BLOCK, FIXED, FileTier};
use super::*;

/// Not put: its file is placed into the directory while the tier is closed.
const PLANTED: u64 = 1_000;

/// A directory that was closed with the entries 0 to 9, and then got the file of [`PLANTED`]. An
/// open that lists the files finds that one too.
struct Closed {
    _dir: TempDir,
    files: PathBuf,
}

impl Closed {
    fn new() -> Self {
        let (dir, tier) = fresh(MIB);
        (0..10).for_each(|number| put(&tier, number, 7, 100));
        now(tier.close()).unwrap();
        let planted = tier.layout.path(key(PLANTED).digest());
        fs::create_dir_all(planted.parent().unwrap()).unwrap();
        fs::copy(tier.layout.path(key(0).digest()), planted).unwrap();
        let files = dir.path().join("files");
        Self { _dir: dir, files }
    }

    fn snapshot(&self) -> PathBuf {
        self.files.join(NAME)
    }

    /// Opens the tier. Returns whether its files were listed.
    fn lists_files(&self) -> bool {
        let tier = open(&self.files, MIB);
        assert!((0..10).all(|number| has(&tier, number, 7, 100)));
        assert!(!self.snapshot().exists(), "deleted while the directory is open");
        contains(&tier, PLANTED)
    }
}

fn contains(tier: &FileTier, number: u64) -> bool {
    now(tier.contains(&key(number))).unwrap()
}

#[test]
fn closed_directory_opens_from_its_snapshot() {
    assert!(!Closed::new().lists_files());
}

#[test]
fn directory_without_snapshot_is_listed() {
    let closed = Closed::new();
    fs::remove_file(closed.snapshot()).unwrap();
    assert!(closed.lists_files());
}

#[test]
fn damaged_or_truncated_snapshot_is_rejected() {
    let mut index = Index::default();
    for digest in 1..4 {
        index.insert(digest, 100);
    }
    let bytes = encode(&index, 9);
    assert_eq!(decode(&bytes, 9).unwrap().kept(), index.kept());
    assert!(decode(&bytes, 8).is_none(), "of another marker");
    for at in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[at / 8] ^= 1 << (at % 8);
        assert!(decode(&bytes, 9).is_none(), "bit {at}");
    }
    for len in 0..bytes.len() {
        assert!(decode(&bytes[..len], 9).is_none(), "{len} bytes");
    }
    assert!(decode(&[&bytes[..], &[0]].concat(), 9).is_none());
}

#[test]
fn directory_with_a_damaged_snapshot_is_listed() {
    let closed = Closed::new();
    let mut bytes = fs::read(closed.snapshot()).unwrap();
    bytes[HEAD_LEN] ^= 1;
    fs::write(closed.snapshot(), bytes).unwrap();
    assert!(closed.lists_files());
}

#[test]
fn snapshot_of_a_later_version_is_rejected() {
    let mut bytes = encode(&Index::default(), 9);
    bytes[4] += 1;
    let sum_at = bytes.len() - SUM_LEN;
    let sum = xxh3_64(&bytes[..sum_at]).to_le_bytes();
    bytes[sum_at..].copy_from_slice(&sum);
    assert!(decode(&bytes, 9).is_none());
}

/// An earlier build leaves the snapshot alone, and replaces the marker when it opens and closes the
/// directory.
#[test]
fn snapshot_is_outdated_once_an_earlier_build_closed_the_directory() {
    let closed = Closed::new();
    let (marker, draft) = (closed.files.join("marker"), closed.files.join("marker.new"));
    fs::copy(&marker, &draft).unwrap();
    fs::rename(&draft, &marker).unwrap();
    assert!(closed.lists_files());
}

#[test]
fn snapshot_is_outdated_once_the_marker_was_written_again() {
    let closed = Closed::new();
    let marker = fs::File::options().write(true).open(closed.files.join("marker")).unwrap();
    marker.set_modified(SystemTime::now() + Duration::from_secs(1)).unwrap();
    assert!(closed.lists_files());
}

#[test]
fn snapshot_is_not_used_after_a_process_was_killed() {
    let closed = Closed::new();
    let snapshot = fs::read(closed.snapshot()).unwrap();
    let tier = open(&closed.files, MIB);
    put(&tier, 0, 8, 100);
    now(tier.remove(&key(1))).unwrap();
    // Leaves the marker as a killed process does.
    drop(tier);
    fs::write(closed.snapshot(), snapshot).unwrap();
    let tier = open(&closed.files, MIB);
    assert!(contains(&tier, PLANTED), "its files were listed");
    assert!(has(&tier, 0, 8, 100) && !contains(&tier, 1));
}

#[test]
fn process_that_shares_the_directory_lists_the_files() {
    let closed = Closed::new();
    let tier = open_shared(&closed.files, MIB);
    assert!(!closed.snapshot().exists());
    assert_eq!(tier.usage().entries, 11);
    now(tier.close()).unwrap();
    assert!(!closed.snapshot().exists(), "another process may still have the directory");
}

#[test]
fn order_of_eviction_survives_a_close() {
    let (dir, tier) = fresh(MIB);
    (0..10).for_each(|number| put(&tier, number, 7, 100));
    for number in [3, 1] {
        assert!(has(&tier, number, 7, 100));
    }
    let kept = tier.index().unwrap().kept();
    now(tier.close()).unwrap();
    let tier = open(&dir.path().join("files"), MIB);
    assert_eq!(tier.index().unwrap().kept(), kept);
    assert_eq!(tier.budget.used(), tier.usage().bytes + FIXED);
}

#[test]
fn full_directory_has_room_for_its_snapshot() {
    let limit = 400 * BLOCK;
    let (dir, tier) = fresh(limit);
    (0..1_000).for_each(|number| put(&tier, number, 7, 100));
    assert!(tier.usage().evictions > 0 && tier.usage().entries > ENTRIES_MIN as u64);
    now(tier.close()).unwrap();
    let files = dir.path().join("files");
    assert!(files.join(NAME).exists());
    assert!(counted(&files) <= limit + FIXED);
}
