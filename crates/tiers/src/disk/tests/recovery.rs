//! Which data is trusted on open: after a crash of the machine, after damage, and after a failed
//! write of the journal.

use std::path::PathBuf;

use super::*;
use crate::EntryCheck;
use crate::boot_marker::pretend_reboot;
use crate::disk::copy_to_read;

pub(super) fn open_as(dir: &Path, durability: Durability) -> DiskTier {
    let budget = DiskBudget::new(64 * MIB).share();
    DiskTier::open(DiskOptions { dir: dir.to_owned(), budget, crossover: CROSSOVER_BYTES, durability })
        .unwrap()
}

fn fill(tier: &DiskTier) {
    (0..20).for_each(|name| put(tier, name, noise(name, if name % 2 == 0 { 100 } else { 9000 })));
}

fn is_filled(tier: &DiskTier) -> bool {
    (0..20).all(|name| get(tier, name) == whole(name, noise(name, if name % 2 == 0 { 100 } else { 9000 })))
}

/// Copies the directory as a process that is killed now would leave it.
pub(super) fn as_if_killed(dir: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    copy_tree(dir, copy.path());
    copy
}

pub(super) fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

pub(super) fn journals(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> =
        fs::read_dir(dir.join("journal")).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

#[test]
fn only_closed_or_synced_entries_survive_a_reboot() {
    for durability in [Durability::Buffered, Durability::Flushed, Durability::Synced] {
        for is_closed in [true, false] {
            let dir = TempDir::new().unwrap();
            let tier = open_as(dir.path(), durability);
            fill(&tier);
            if is_closed {
                now(tier.close()).unwrap();
            }
            drop(tier);
            pretend_reboot(dir.path());
            let is_there = is_closed || durability == Durability::Synced;
            let tier = open_as(dir.path(), durability);
            assert_eq!(usage(&tier).0, if is_there { 20 } else { 0 }, "{durability}, closed: {is_closed}");
            assert_eq!(is_filled(&tier), is_there);
            put(&tier, "k", noise(1, 9000));
            drop(tier);
            assert_eq!(get(&open_as(dir.path(), durability), "k"), whole("k", noise(1, 9000)));
        }
    }
}

#[test]
fn directory_without_a_marker_starts_empty() {
    let dir = TempDir::new().unwrap();
    fill(&open(dir.path()));
    assert!(is_filled(&open(dir.path())));
    fs::remove_file(dir.path().join("marker")).unwrap();
    let tier = open(dir.path());
    assert_eq!((usage(&tier), segment_files(dir.path())), ((0, 0), 0));
}

#[test]
fn crashed_machine_loses_no_synced_entry() {
    let dir = TempDir::new().unwrap();
    let tier = open_as(dir.path(), Durability::Synced);
    fill(&tier);
    (20..40).for_each(|name| put(&tier, name, noise(1, 50)));
    rotate(&tier, &[]);
    fill(&tier);
    (20..30).for_each(|name| assert!(now(tier.remove(&key(name))).unwrap()));
    (30..40).for_each(|name| put(&tier, name, noise(2, 9000)));
    for tail in [&[][..], &[0; 40], &[7; 3]] {
        let lost = as_if_killed(dir.path());
        let journal = journals(lost.path()).pop().unwrap();
        let mut bytes = fs::read(&journal).unwrap();
        bytes.extend_from_slice(tail);
        fs::write(&journal, bytes).unwrap();
        pretend_reboot(lost.path());
        let tier = open_as(lost.path(), Durability::Synced);
        assert!(is_filled(&tier));
        (20..30).for_each(|name| assert_eq!(get(&tier, name), None));
        (30..40).for_each(|name| assert_eq!(get(&tier, name), whole(name, noise(2, 9000))));
        assert_eq!(usage(&tier), (30, 0));
    }
}

#[test]
fn damaged_journal_starts_empty() {
    let dir = TempDir::new().unwrap();
    let tier = open_as(dir.path(), Durability::Flushed);
    fill(&tier);
    let len = fs::metadata(&journals(dir.path())[0]).unwrap().len() as usize;
    for at in [0, 4, 8, 16, 20, 24, 31, 32, 33, 40, len / 2, len - 1] {
        let copy = as_if_killed(dir.path());
        assert!(is_filled(&open_as(as_if_killed(copy.path()).path(), Durability::Flushed)));
        let journal = journals(copy.path()).pop().unwrap();
        let mut bytes = fs::read(&journal).unwrap();
        bytes[at] ^= 1;
        fs::write(&journal, bytes).unwrap();
        assert_eq!(usage(&open_as(copy.path(), Durability::Flushed)).0, 0, "byte {at}");
    }
}

#[test]
fn truncated_journal_is_replayed_up_to_its_end() {
    let dir = TempDir::new().unwrap();
    let tier = open_as(dir.path(), Durability::Flushed);
    (0..9).for_each(|name| put(&tier, name, noise(name, 100)));
    let len = fs::metadata(&journals(dir.path())[0]).unwrap().len();
    for cut in [1, 10, 50, 100, 150, len - 17, len - 16, len - 1, len] {
        let copy = as_if_killed(dir.path());
        let journal = journals(copy.path()).pop().unwrap();
        fs::OpenOptions::new().write(true).open(&journal).unwrap().set_len(len - cut).unwrap();
        let tier = open_as(copy.path(), Durability::Flushed);
        for name in 0..9 {
            let found = get(&tier, name);
            assert!(found.is_none() || found == whole(name, noise(name, 100)), "{cut} bytes fewer");
        }
        put(&tier, 1, noise(2, 9000));
        assert_eq!(get(&tier, 1), whole(1, noise(2, 9000)));
    }
}

#[test]
fn removal_that_cannot_be_journaled_withdraws_the_marker_until_a_flush() {
    let dir = TempDir::new().unwrap();
    let tier = open_as(dir.path(), Durability::Flushed);
    fill(&tier);
    rotate(&tier, &[]);
    assert_eq!(journals(dir.path()), Vec::<PathBuf>::new(), "the rows are in a sorted run");
    fs::rename(dir.path().join("journal"), dir.path().join("away")).unwrap();
    let key = key(1);
    assert!(now(tier.put(&key, &frame(&key, noise(7, 100)))).is_err());
    assert_eq!(get(&tier, 1), whole(1, noise(1, 9000)), "a put that fails changes nothing");
    assert!(now(tier.remove(&key)).unwrap());
    assert_eq!(get(&tier, 1), None);
    let killed = as_if_killed(dir.path());
    assert_eq!(usage(&open_as(killed.path(), Durability::Flushed)), (0, 0), "nothing is trusted");
    fs::rename(dir.path().join("away"), dir.path().join("journal")).unwrap();
    now(tier.flush()).unwrap();
    put(&tier, 2, noise(2, 100));
    let killed = as_if_killed(dir.path());
    let reopened = open_as(killed.path(), Durability::Flushed);
    assert_eq!((get(&reopened, 1), usage(&reopened)), (None, (19, 0)), "trusted again after a flush");
}

#[test]
fn clear_is_effective_from_its_journal_record_on() {
    let dir = TempDir::new().unwrap();
    let tier = open_as(dir.path(), Durability::Flushed);
    fill(&tier);
    let before = as_if_killed(dir.path());
    tier.with_store(|store| store.journal.clear(store.tables.newest.number + 1)).unwrap();
    put(&tier, "after", noise(1, 100));
    let after = as_if_killed(dir.path());
    assert!(is_filled(&open_as(before.path(), Durability::Flushed)));
    let tier = open_as(after.path(), Durability::Flushed);
    assert_eq!((usage(&tier), segment_files(after.path())), ((1, 0), 0));
    assert_eq!(get(&tier, "after"), whole("after", noise(1, 100)));
}

#[test]
fn size_of_the_journal_is_bounded() {
    let dir = TempDir::new().unwrap();
    let tier = open_as(dir.path(), Durability::Flushed);
    let mut most = 0;
    for round in 0..30_000 {
        put(&tier, round % 10, noise(round, 900));
        if round % 100 == 0 {
            most = most.max(super::super::layout::bytes_in(&dir.path().join("journal")));
        }
    }
    assert!((4 * MIB..=9 * MIB).contains(&most), "{most} bytes of journals");
    assert_near(tier.usage().bytes, dir.path());
}

pub(super) fn damaged(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut damaged: Vec<Vec<u8>> = Vec::new();
    for part in [0, 1, 10, 33, 50, 67, 90, 99] {
        damaged.push(bytes[..bytes.len() * part / 100].to_vec());
    }
    for from in [0, bytes.len() / 3, bytes.len() / 2, bytes.len() * 9 / 10] {
        let to = (from + 5000).min(bytes.len());
        for fill in [noise(3, to - from), vec![0; to - from]] {
            let mut bytes = bytes.to_vec();
            bytes[from..to].copy_from_slice(&fill);
            damaged.push(bytes);
        }
    }
    damaged
}

/// A flush restores the marker for removals before it, but not for one during it.
#[test]
fn removal_during_a_flush_that_cannot_be_journaled_keeps_the_marker_withdrawn() {
    let dir = TempDir::new().unwrap();
    let tier = open(dir.path());
    put(&tier, "k", noise(1, 100));
    now(tier.flush()).unwrap();
    let (journal, aside) = (dir.path().join("journal"), dir.path().join("aside"));
    tier.with_store(|store| {
        let withdrawals = store.journal.withdrawals();
        let number = store.journal.rotate()?;
        fs::rename(&journal, &aside).unwrap();
        assert!(now(tier.remove(&key("k"))).unwrap());
        fs::rename(&aside, &journal).unwrap();
        store.journal.drop_before(number, withdrawals)
    })
    .unwrap();
    assert_eq!(get(&open(as_if_killed(dir.path()).path()), "k"), None);
    now(tier.flush()).unwrap();
    put(&tier, "l", noise(1, 100));
    let killed = as_if_killed(dir.path());
    assert!(killed.path().join("marker").exists(), "the next one does make up for it");
    assert_eq!(get(&open(killed.path()), "k"), None);
}

#[test]
fn close_fails_if_the_tier_could_not_be_reopened() {
    let dir = TempDir::new().unwrap();
    let tier = open(dir.path());
    put(&tier, "k", noise(1, 100));
    fs::remove_dir(dir.path().join("segments")).unwrap();
    fs::write(dir.path().join("segments"), "in the way").unwrap();
    tier.needs_reopen.store(true, Ordering::Release);
    let key = key("l");
    assert!(now(tier.put(&key, &frame(&key, noise(1, 100)))).is_err());
    assert!(now(tier.close()).is_err());
    assert!(now(tier.close()).is_ok(), "it is closed by now");
}

/// The names and lengths of all files below `dir`.
fn listing(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(listing(&entry.path())),
            false => found.push((entry.path(), entry.metadata().unwrap().len())),
        }
    }
    found.sort();
    found
}

#[test]
fn copy_to_read_has_all_entries_and_leaves_the_original_unchanged() {
    for is_closed in [true, false] {
        let dir = TempDir::new().unwrap();
        let tier = open_as(dir.path(), Durability::Flushed);
        fill(&tier);
        if is_closed {
            now(tier.close()).unwrap();
        }
        drop(tier);
        let before = listing(dir.path());
        let scratch = TempDir::new().unwrap();
        copy_to_read(dir.path(), scratch.path()).unwrap();
        let copy = open_as(scratch.path(), Durability::Buffered);
        assert!(is_filled(&copy), "closed: {is_closed}");
        now(copy.clear()).unwrap();
        drop(copy);
        assert_eq!(listing(dir.path()), before, "closed: {is_closed}");
        assert!(is_filled(&open_as(dir.path(), Durability::Buffered)));
    }
}

#[test]
fn damaged_frames_are_counted_and_removed_and_whole_ones_stay() {
    let dir = TempDir::new().unwrap();
    let tier = open_as(dir.path(), Durability::Buffered);
    fill(&tier);
    now(tier.close()).unwrap();
    let segments = dir.path().join("segments");
    let segment = fs::read_dir(segments).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&segment).unwrap();
    // The payload of the first large frame, and the head of the last one.
    bytes[5000] ^= 1;
    let last = bytes.len() - 9000 - 50;
    bytes[last] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let tier = open_as(dir.path(), Durability::Buffered);
    assert_eq!(tier.remove_damaged().unwrap(), EntryCheck { whole: 18, damaged: 2 });
    assert_eq!(tier.remove_damaged().unwrap(), EntryCheck { whole: 18, damaged: 0 });
    assert_eq!(tier.usage().entries, 18);
    assert_eq!(get(&tier, 0), whole(0, noise(0, 100)));
}

/// Cuts `bytes` from the end of a file.
fn cut(path: &Path, bytes: u64) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() - bytes).unwrap();
}

/// The closing record is the last of the journal. Without it, the record before it may be missing too.
#[test]
fn closed_directory_whose_journal_was_cut_starts_empty() {
    for (is_removed, has_later_file) in [(false, false), (true, false), (false, true), (true, true)] {
        let dir = TempDir::new().unwrap();
        let change = |tier: &DiskTier| match is_removed {
            true => assert!(now(tier.remove(&key("k"))).unwrap()),
            false => put(tier, "k", noise(2, 100)),
        };
        let tier = open(dir.path());
        put(&tier, "k", noise(1, 100));
        change(&tier);
        if has_later_file {
            drop(tier);
            let tier = open(dir.path());
            put(&tier, "other", noise(1, 100));
            now(tier.close()).unwrap();
            cut(&journals(dir.path())[0], 3);
        } else {
            now(tier.close()).unwrap();
            cut(&journals(dir.path())[0], 40);
        }
        let tier = open(dir.path());
        assert_eq!((get(&tier, "k"), usage(&tier)), (None, (0, 0)), "{is_removed}, {has_later_file}");
    }
}

/// The process was killed between a sorted run and the deletion of its journal file. The run is evicted, and the
/// removal of the row is recorded although no run has it.
#[test]
fn row_of_an_evicted_run_does_not_return_from_its_journal() {
    let dir = TempDir::new().unwrap();
    let tier = open(dir.path());
    put(&tier, "k", noise(1, 100));
    let journal = fs::read(&journals(dir.path())[0]).unwrap();
    let path = journals(dir.path())[0].clone();
    rotate(&tier, &[]);
    let killed = as_if_killed(dir.path());
    fs::write(killed.path().join(path.strip_prefix(dir.path()).unwrap()), journal).unwrap();
    let tier = open(killed.path());
    assert_eq!(get(&tier, "k"), whole("k", noise(1, 100)));
    let mut compaction = tier.compaction.write();
    *compaction = tier.begin_compaction(&[(1, Survivors::Read)], 0).unwrap();
    tier.step_compaction(&mut compaction, u64::MAX).unwrap();
    drop(compaction);
    now(tier.remove(&key("k"))).unwrap();
    assert_eq!(get(&tier, "k"), None);
    assert_eq!(get(&open(as_if_killed(killed.path()).path()), "k"), None);
}

#[test]
fn close_fails_while_a_removal_is_in_no_journal_and_no_run() {
    let dir = TempDir::new().unwrap();
    let tier = open(dir.path());
    put(&tier, "k", noise(1, 100));
    drop(tier);
    let tier = open(dir.path());
    let (journal, aside) = (dir.path().join("journal"), dir.path().join("aside"));
    fs::rename(&journal, &aside).unwrap();
    assert!(now(tier.remove(&key("k"))).unwrap());
    fs::rename(&aside, &journal).unwrap();
    // No sorted run can be written.
    let draft = dir.path().join(format!("packs/{:020}.new", 1));
    fs::create_dir(&draft).unwrap();
    assert!(now(tier.close()).is_err());
    fs::remove_dir(&draft).unwrap();
    assert_eq!(get(&open(dir.path()), "k"), None);
}

#[test]
fn many_processes_that_change_little_leave_few_journal_files() {
    let dir = TempDir::new().unwrap();
    let mut most = 0;
    for round in 0..40 {
        let tier = open(dir.path());
        put(&tier, round % 5, noise(round, 100));
        most = most.max(journals(dir.path()).len());
    }
    assert!(most <= super::super::JOURNALS_MAX + 2, "{most} files");
    assert_eq!(usage(&open(dir.path())).0, 5);
    let before = journals(dir.path()).len();
    (0..5).for_each(|_| drop(open(dir.path())));
    assert_eq!(journals(dir.path()).len(), before, "an open alone leaves no file");
}

#[test]
fn memtable_does_not_grow_without_limit_while_runs_cannot_be_written() {
    let dir = TempDir::new().unwrap();
    let limit = 16 * MIB;
    let tier = open_with(dir.path(), limit, CROSSOVER_BYTES).unwrap();
    let in_the_way = |number: u64| dir.path().join(format!("packs/{number:020}.new"));
    (1..99).for_each(|number| fs::create_dir(in_the_way(number)).unwrap());
    let all = (0..30_000).map(|name| now(tier.put(&key(name), &frame(&key(name), noise(name, 500)))));
    assert!(all.filter(Result::is_err).count() > 0);
    let bytes = tier.with_store(|store| Ok(store.tables.newest.bytes())).unwrap();
    assert!(bytes <= 5 * limit / 16, "{bytes} bytes in memory");
    (1..99).for_each(|number| fs::remove_dir(in_the_way(number)).unwrap());
    put(&tier, "k", noise(1, 100));
    assert_eq!(get(&tier, "k"), whole("k", noise(1, 100)));
}
