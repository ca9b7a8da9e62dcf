//! The snapshot of a clean close: when the next open uses it, and that it finds the same as a pass over
//! every row.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use larder_core::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::recovery::{copy_tree, open_as};
use super::runs::{check_all, layered};
use super::*;
use crate::disk::segment::files::Sealed;
use crate::disk::snapshot::{Draft, Snapshot};

/// A directory that was closed: a memtable in the journal, two sorted runs, large frames in segments.
struct Closed {
    dir: TempDir,
    expected: Vec<Option<Bytes>>,
}

impl Closed {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let (tier, mut expected) = layered(dir.path());
        for name in 0..10 {
            put(&tier, name, noise(name, 5000));
            expected[name as usize] = whole(name, noise(name, 5000));
        }
        now(tier.close()).unwrap();
        Self { dir, expected }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn file(&self) -> PathBuf {
        self.path().join("index")
    }

    /// Returns whether the next open uses the snapshot.
    fn is_valid(&self) -> bool {
        let layout = crate::disk::layout::Layout::prepare(self.path().to_owned()).unwrap();
        Snapshot::read(&layout).is_some()
    }

    /// Opens the directory and checks every entry.
    fn check(&self, context: &str) -> DiskTier {
        let tier = open_as(self.path(), Durability::Flushed);
        assert!(!self.file().exists(), "deleted while the directory is open, {context}");
        check_all(&tier, &self.expected, context);
        tier
    }

    fn only_file_in(&self, folder: &str) -> PathBuf {
        let mut found = fs::read_dir(self.path().join(folder)).unwrap();
        found.next().unwrap().unwrap().path()
    }
}

fn sealed(tier: &DiskTier) -> Vec<Sealed> {
    tier.with_store(|store| Ok(store.segments.sealed())).unwrap()
}

#[test]
fn snapshot_restores_what_a_pass_over_all_rows_finds() {
    let closed = Closed::new();
    // The marker of a copy is another file, so the copy is opened by a pass over all rows.
    let copy = TempDir::new().unwrap();
    copy_tree(closed.path(), copy.path());
    assert!(closed.is_valid());
    let (restored, passed) = (closed.check("restored"), open(copy.path()));
    check_all(&passed, &closed.expected, "passed over");
    assert_eq!((restored.usage().entries, sealed(&restored)), (passed.usage().entries, sealed(&passed)));
    assert_eq!(runs(&restored), runs(&passed));
    let next = |tier: &DiskTier| tier.with_store(|store| Ok(store.segments.next())).unwrap();
    assert_eq!(next(&restored), next(&passed));
}

#[test]
fn restored_tier_is_changed_compacted_and_closed_again() {
    let mut closed = Closed::new();
    for round in 0..3 {
        assert!(closed.is_valid(), "round {round}");
        let tier = closed.check(&format!("round {round}"));
        for name in 100..150 {
            put(&tier, name, noise(name + round, 200));
            closed.expected[name as usize] = whole(name, noise(name + round, 200));
        }
        let gone = 200 + round;
        now(tier.remove(&key(gone))).unwrap();
        closed.expected[gone as usize] = None;
        if round == 1 {
            rotate(&tier, &runs(&tier).into_iter().map(|run| (run, Survivors::Live)).collect::<Vec<_>>());
        }
        check_all(&tier, &closed.expected, &format!("changed in round {round}"));
        now(tier.close()).unwrap();
    }
    drop(closed.check("at the end"));
}

#[test]
fn damaged_or_truncated_snapshot_is_rejected() {
    let closed = Closed::new();
    let bytes = fs::read(closed.file()).unwrap();
    for at in (0..bytes.len()).step_by(bytes.len() / 500 + 1) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(closed.file(), bytes).unwrap();
        assert!(!closed.is_valid(), "byte {at}");
    }
    for len in (0..bytes.len()).step_by(bytes.len() / 500 + 1) {
        fs::write(closed.file(), &bytes[..len]).unwrap();
        assert!(!closed.is_valid(), "{len} bytes");
    }
    fs::write(closed.file(), &bytes).unwrap();
    assert!(closed.is_valid());
    fs::write(closed.file(), &bytes[..bytes.len() / 2]).unwrap();
    drop(closed.check("with half of a snapshot"));
}

/// A checksum shows damage, not what another build means by the same bytes.
#[test]
fn snapshot_of_another_build_is_rejected() {
    let closed = Closed::new();
    let bytes = fs::read(closed.file()).unwrap();
    let sum_at = bytes.len() - 8;
    for (what, at) in [("version", 4), ("reserved byte", 7), ("hash of rows", 16)] {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        let sum = xxh3_64(&bytes[..sum_at]).to_le_bytes();
        bytes[sum_at..].copy_from_slice(&sum);
        fs::write(closed.file(), bytes).unwrap();
        assert!(!closed.is_valid(), "{what}");
    }
    drop(closed.check("with the snapshot of another build"));
}

/// An earlier build leaves the snapshot alone, and replaces the marker when it opens and closes the
/// directory.
#[test]
fn snapshot_is_outdated_once_the_marker_was_written_again() {
    let closed = Closed::new();
    let (marker, draft) = (closed.path().join("marker"), closed.path().join("marker.new"));
    fs::copy(&marker, &draft).unwrap();
    fs::rename(&draft, &marker).unwrap();
    assert!(!closed.is_valid());
    drop(closed.check("after an earlier build"));
}

#[test]
fn snapshot_is_not_used_after_a_process_was_killed() {
    let mut closed = Closed::new();
    let snapshot = fs::read(closed.file()).unwrap();
    let tier = closed.check("closed");
    put(&tier, 150, noise(9, 100));
    closed.expected[150] = whole(150, noise(9, 100));
    now(tier.remove(&key(151))).unwrap();
    closed.expected[151] = None;
    let killed = super::recovery::as_if_killed(closed.path());
    drop(tier);
    fs::write(killed.path().join("index"), &snapshot).unwrap();
    fs::write(closed.file(), &snapshot).unwrap();
    check_all(&open_as(killed.path(), Durability::Flushed), &closed.expected, "killed");
    drop(closed.check("dropped"));
}

#[test]
fn snapshot_is_rejected_if_a_file_changed() {
    for folder in ["packs", "segments"] {
        let closed = Closed::new();
        let path = closed.only_file_in(folder);
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        let file = fs::File::options().write(true).open(&path).unwrap();
        std::io::Write::write_all(&mut &file, &bytes).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(1)).unwrap();
        assert!(!closed.is_valid(), "{folder}");
        // What was damaged is lost, and no older value takes its place.
        let tier = open_as(closed.path(), Durability::Flushed);
        for (name, expected) in closed.expected.iter().enumerate() {
            let found = get(&tier, name);
            let is_damaged_frame = name < 10 && folder == "segments";
            assert!(found.is_none() || found == *expected || is_damaged_frame, "entry {name}, {folder}");
        }
    }
}

#[test]
fn snapshot_is_rejected_if_a_file_is_missing_or_new() {
    for folder in ["packs", "segments"] {
        let closed = Closed::new();
        let path = closed.only_file_in(folder);
        let other = path.with_file_name(format!("{:020}.{}", 90, path.extension().unwrap().display()));
        fs::copy(&path, &other).unwrap();
        assert!(!closed.is_valid(), "a new file in {folder}");
        fs::remove_file(&other).unwrap();
        assert!(closed.is_valid());
        fs::remove_file(&path).unwrap();
        assert!(!closed.is_valid(), "a missing file in {folder}");
    }
}

#[test]
fn closed_directory_without_its_journal_starts_empty() {
    let closed = Closed::new();
    fs::remove_file(closed.only_file_in("journal")).unwrap();
    let tier = open_as(closed.path(), Durability::Flushed);
    assert_eq!(usage(&tier), (0, 0), "older values might appear");
}

#[test]
fn snapshot_without_room_in_the_budget_is_not_written() {
    let dir = TempDir::new().unwrap();
    let tier = open(dir.path());
    put(&tier, 1, noise(1, 100));
    let draft = tier.with_store(|store| Ok(Draft::of(store))).unwrap().unwrap();
    draft.write(&tier.layout, 0);
    assert!(!dir.path().join("index").exists());
    draft.write(&tier.layout, MIB);
    assert!(dir.path().join("index").exists());
}
