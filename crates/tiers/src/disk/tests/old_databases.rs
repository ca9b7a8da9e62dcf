//! Directories of builds that had sled databases: every entry is found, and no older value.

use std::sync::Arc;

use super::recovery::{as_if_killed, damaged, journals, open_as};
use super::runs::check_all;
use super::*;
use crate::boot_marker::Marker;
use crate::disk::journal::record::{self, Change, Record};
use crate::disk::journal::replay::Replay;
use crate::disk::journal::writer::header;
use crate::disk::layout::Layout;
use crate::disk::recovery::{self, OpenContext};
use crate::disk::store::Store;

/// Moves the rows in the journal of a directory to sled database `number`, as an earlier build had them. The
/// journal has the closing record, and the hash of each value if the process was killed.
fn move_rows(dir: &Path, number: u64, is_closed: bool) {
    let layout = Layout::prepare(dir.to_owned()).unwrap();
    let replay = Replay::read(&layout, false).unwrap().unwrap();
    let db = sled::Config::new().path(layout.database(number)).open().unwrap();
    journals(dir).iter().for_each(|journal| fs::remove_file(journal).unwrap());
    let mut journal = header(1).to_vec();
    let mut add = |record: Record<'_>| {
        let mut bytes = Vec::new();
        record.encode(1, &mut bytes);
        journal.extend_from_slice(&bytes);
    };
    for (row, value) in replay.values() {
        db.insert(row, value).unwrap();
        if !is_closed {
            add(Record::Row(row, Change::Hash(record::hash(value))));
        }
    }
    db.flush().unwrap();
    drop(db);
    if is_closed {
        add(Record::Tally(replay.tally.unwrap()));
    }
    fs::write(layout.journal(1), journal).unwrap();
}

fn payload(name: u64) -> Vec<u8> {
    noise(name, if name.is_multiple_of(7) { 5000 } else { 200 })
}

/// A directory with a sorted run and one database, and what it has.
fn old_directory(is_closed: bool) -> (TempDir, Vec<Option<Bytes>>) {
    let dir = TempDir::new().unwrap();
    let tier = open_as(dir.path(), Durability::Flushed);
    (0..100).for_each(|name| put(&tier, name, noise(name + 1, 200)));
    rotate(&tier, &[]);
    (50..200).for_each(|name| put(&tier, name, payload(name)));
    if is_closed {
        now(tier.close()).unwrap();
    }
    drop(tier);
    move_rows(dir.path(), 2, is_closed);
    let expected =
        (0..200).map(|name| whole(name, if name < 50 { noise(name + 1, 200) } else { payload(name) }));
    let expected = expected.collect();
    (dir, expected)
}

#[test]
fn rows_of_a_database_are_moved_to_a_sorted_run() {
    for is_closed in [true, false] {
        let (dir, mut expected) = old_directory(is_closed);
        let tier = open_as(dir.path(), Durability::Flushed);
        check_all(&tier, &expected, &format!("closed: {is_closed}"));
        assert_eq!(fs::read_dir(dir.path().join("db")).unwrap().count(), 0);
        assert_eq!((runs(&tier), journals(dir.path()).len()), (vec![1, 2], 0));
        put(&tier, 3, payload(3));
        expected[3] = whole(3, payload(3));
        check_all(&open(as_if_killed(dir.path()).path()), &expected, "killed");
        now(tier.close()).unwrap();
        check_all(&open(dir.path()), &expected, "reopened");
    }
}

/// Opens a directory as far as a tier that is killed before it moves the rows of databases.
fn recovered(dir: &Path) -> Store {
    let layout = Layout::prepare(dir.to_owned()).unwrap();
    let budget = Arc::new(DiskBudget::new(64 * MIB).share());
    let (marker, last_shutdown) = Marker::find(dir, Durability::Buffered);
    let context = OpenContext { layout: &layout, budget: &budget, marker: &Arc::new(marker) };
    recovery::open(&context, last_shutdown).unwrap()
}

#[test]
fn rows_of_a_database_are_read_again_if_they_were_not_moved() {
    let (dir, mut expected) = old_directory(false);
    let store = recovered(dir.path());
    assert_eq!(store.tables.live(), 200);
    let key = key(60);
    store.put(&RowKey::of(&key), &frame(&key, noise(9, 100)), CROSSOVER_BYTES).unwrap();
    expected[60] = whole(60, noise(9, 100));
    drop(store);
    assert_eq!(fs::read_dir(dir.path().join("db")).unwrap().count(), 1);
    check_all(&open(dir.path()), &expected, "killed");
    check_all(&open(dir.path()), &expected, "reopened");
}

#[test]
fn newer_of_two_databases_decides_and_an_empty_third_is_ignored() {
    for has_third in [false, true] {
        let dir = TempDir::new().unwrap();
        drop(open(dir.path()));
        journals(dir.path()).iter().for_each(|journal| fs::remove_file(journal).unwrap());
        let layout = Layout::prepare(dir.path().to_owned()).unwrap();
        let database = |number| sled::Config::new().path(layout.database(number)).open().unwrap();
        let insert = |number: u64, names: std::ops::Range<u64>, seed: u64| {
            let db = database(number);
            for name in names {
                let key = key(name);
                let row = RowKey::of(&key);
                let mut value = Vec::new();
                crate::disk::row::inline(row.as_ref(), &frame(&key, noise(name + seed, 100)), &mut value);
                db.insert(row.as_ref(), value).unwrap();
            }
            db.flush().unwrap();
        };
        insert(1, 0..100, 1);
        insert(2, 0..50, 2);
        if has_third {
            insert(3, 0..0, 0);
        }
        let begun = layout.database(4);
        fs::create_dir_all(begun.join("blobs")).unwrap();
        fs::write(begun.join("conf"), "segment_size: 524288\nuse_compression: false\nversion: 0.34\n")
            .unwrap();
        let expected: Vec<_> =
            (0..100).map(|name| whole(name, noise(name + if name < 50 { 2 } else { 1 }, 100))).collect();
        for _ in 0..2 {
            check_all(&open(dir.path()), &expected, &format!("third: {has_third}"));
        }
        assert!(!begun.exists());
    }
}

/// Truncates and overwrites every file of a database.
#[test]
fn damaged_database_never_shows_overwritten_values() {
    let (dir, expected) = old_directory(true);
    let number = format!("db/{:020}", 2);
    let mut cases = 0;
    for entry in fs::read_dir(dir.path().join(&number)).unwrap() {
        let entry = entry.unwrap();
        if !entry.file_type().unwrap().is_file() {
            continue;
        }
        for damage in damaged(&fs::read(entry.path()).unwrap()) {
            cases += 1;
            let copy = as_if_killed(dir.path());
            fs::write(copy.path().join(&number).join(entry.file_name()), &damage).unwrap();
            let tier = open(copy.path());
            for (name, expected) in expected.iter().enumerate() {
                let found = now(tier.get(&key(name)));
                let is_right = found.as_ref().is_ok_and(|found| found.is_none() || found == expected);
                assert!(is_right, "{:?}, {} bytes: {name}", entry.file_name(), damage.len());
            }
            put(&tier, "k", noise(1, 100));
            assert_eq!(get(&tier, "k"), whole("k", noise(1, 100)));
        }
    }
    assert!((10..100).contains(&cases), "{cases} cases");
}

#[test]
fn unreadable_database_is_set_aside_and_the_tier_starts_empty() {
    let (dir, _) = old_directory(true);
    for entry in fs::read_dir(dir.path().join("db")).unwrap() {
        let path = entry.unwrap().path();
        fs::write(path.join("conf"), noise(1, 100)).unwrap();
        fs::write(path.join("db"), noise(2, 100_000)).unwrap();
    }
    let tier = open(dir.path());
    assert_eq!((usage(&tier), segment_files(dir.path())), ((0, 0), 0));
    put(&tier, "k", noise(1, 100));
    drop(tier);
    let tier = open(dir.path());
    assert_eq!((usage(&tier), get(&tier, "k")), ((1, 0), whole("k", noise(1, 100))));
    let left = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 5, "db, packs, segments, journal, marker: what was set aside is gone");
}

#[test]
fn flipped_bytes_in_a_database_never_panic() {
    let (dir, expected) = old_directory(true);
    for seed in 0..12_u64 {
        let copy = as_if_killed(dir.path());
        let path = copy.path().join(format!("db/{:020}/db", 2));
        let mut bytes = fs::read(&path).unwrap();
        for round in 0..20 {
            let at = u64::from_le_bytes(noise(seed * 100 + round, 8).try_into().unwrap()) as usize;
            let len = bytes.len().min(150_000);
            bytes[at % len] ^= 0xff;
        }
        fs::write(&path, bytes).unwrap();
        let Ok(tier) = open_with(copy.path(), 64 * MIB, CROSSOVER_BYTES) else { continue };
        for (name, expected) in expected.iter().enumerate() {
            let found = now(tier.get(&key(name)));
            assert!(found.is_ok_and(|found| found.is_none() || found == *expected), "{name}, seed {seed}");
        }
    }
}

/// The process was killed before sled wrote the last value out, and the journal has only its hash.
#[test]
fn row_whose_value_has_another_hash_than_recorded_is_absent() {
    let (dir, mut expected) = old_directory(false);
    let layout = Layout::prepare(dir.path().to_owned()).unwrap();
    let row = RowKey::of(&key(60));
    let mut bytes = Vec::new();
    Record::Row(row.as_ref(), Change::Hash(7)).encode(1, &mut bytes);
    let mut journal = fs::read(layout.journal(1)).unwrap();
    journal.extend_from_slice(&bytes);
    fs::write(layout.journal(1), journal).unwrap();
    expected[60] = None;
    check_all(&open(dir.path()), &expected, "a row was lost");
    check_all(&open(dir.path()), &expected, "reopened");
}

/// The removal is in the journal alone, and the process was killed before the database was deleted.
#[test]
fn row_that_only_the_journal_removed_does_not_return_from_its_database() {
    let dir = TempDir::new().unwrap();
    let tier = open(dir.path());
    put(&tier, "k", noise(1, 100));
    drop(tier);
    move_rows(dir.path(), 1, false);
    let layout = Layout::prepare(dir.path().to_owned()).unwrap();
    let mut bytes = header(2).to_vec();
    let mut record = Vec::new();
    Record::Row(RowKey::of(&key("k")).as_ref(), Change::Removed).encode(2, &mut record);
    bytes.extend_from_slice(&record);
    fs::write(layout.journal(2), bytes).unwrap();
    drop(recovered(dir.path()));
    let tier = open(dir.path());
    assert_eq!((get(&tier, "k"), usage(&tier)), (None, (0, 0)));
    assert_eq!((layout.databases().unwrap().len(), journals(dir.path()).len()), (0, 0));
}
