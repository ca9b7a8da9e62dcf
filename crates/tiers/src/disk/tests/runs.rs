//! Sorted runs: the value of each row after compaction, eviction and damage, and after a process
//! was killed between two steps.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::recovery::{as_if_killed, copy_tree, damaged, journals, open_as};
use super::*;

/// Puts every name below `names` that `which` accepts, with a payload of `seed`.
fn fill(tier: &DiskTier, names: u64, seed: u64, which: impl Fn(u64) -> bool) {
    (0..names).filter(|name| which(*name)).for_each(|name| put(tier, name, noise(name + 1000 * seed, 150)));
}

fn of_seed(name: u64, seed: u64) -> Option<Bytes> {
    whole(name, noise(name + 1000 * seed, 150))
}

/// Fills three memtables that overwrite each other's rows. Returns the values that are valid
/// afterwards.
pub(super) fn layered(dir: &Path) -> (DiskTier, Vec<Option<Bytes>>) {
    let tier = open_as(dir, Durability::Flushed);
    fill(&tier, 300, 1, |_| true);
    rotate(&tier, &[]);
    fill(&tier, 300, 2, |name| name.is_multiple_of(2));
    (0..300u64)
        .filter(|name| name.is_multiple_of(5))
        .for_each(|name| assert!(now(tier.remove(&key(name))).unwrap()));
    rotate(&tier, &[]);
    fill(&tier, 300, 3, |name| name.is_multiple_of(7));
    (0..300u64)
        .filter(|name| name.is_multiple_of(11))
        .for_each(|name| assert!(now(tier.remove(&key(name))).is_ok()));
    let expected = |name: u64| match name {
        _ if name.is_multiple_of(11) => None,
        _ if name.is_multiple_of(7) => of_seed(name, 3),
        _ if name.is_multiple_of(5) => None,
        _ => of_seed(name, if name.is_multiple_of(2) { 2 } else { 1 }),
    };
    (tier, (0..300).map(expected).collect())
}

pub(super) fn check_all(tier: &DiskTier, expected: &[Option<Bytes>], context: &str) {
    for (name, expected) in expected.iter().enumerate() {
        assert_eq!(&get(tier, name), expected, "entry {name}, {context}");
        assert_eq!(now(tier.contains(&key(name))).unwrap(), expected.is_some(), "entry {name}, {context}");
    }
    let entries = expected.iter().flatten().count();
    assert_eq!(tier.usage().entries, entries as u64, "{context}");
    let mut seen = 0;
    now(tier.scan(&mut |_| seen += 1)).unwrap();
    assert_eq!(seen, entries, "{context}");
}

#[test]
fn newest_value_of_a_row_is_valid_after_compaction() {
    let dir = TempDir::new().unwrap();
    let (tier, expected) = layered(dir.path());
    check_all(&tier, &expected, "as written");
    for replaced in [&[][..], &[(1, Survivors::Live)], &[(2, Survivors::Live), (3, Survivors::Live)]] {
        put(&tier, 1, noise(1001, 150));
        rotate(&tier, replaced);
        check_all(&tier, &expected, &format!("after {replaced:?}"));
        check_all(&open(as_if_killed(dir.path()).path()), &expected, &format!("killed after {replaced:?}"));
    }
    assert_eq!(runs(&tier), [4, 5]);
    drop(tier);
    check_all(&open(dir.path()), &expected, "reopened");
}

#[test]
fn tombstone_is_kept_while_an_older_run_has_the_row() {
    let dir = TempDir::new().unwrap();
    let tier = open(dir.path());
    put(&tier, "k", noise(1, 100));
    put(&tier, "l", noise(1, 100));
    rotate(&tier, &[]);
    assert!(now(tier.remove(&key("k"))).unwrap());
    assert!(!now(tier.remove(&key("k"))).unwrap());
    rotate(&tier, &[]);
    assert_eq!(runs(&tier), [1, 2], "the second has the removal alone");
    rotate(&tier, &[(1, Survivors::Read)]);
    assert_eq!((runs(&tier), usage(&tier)), (vec![2], (0, 1)));
    let killed = as_if_killed(dir.path());
    assert_eq!(get(&open(killed.path()), "k"), None);
    rotate(&tier, &[(2, Survivors::Live)]);
    assert_eq!((runs(&tier), get(&tier, "k")), (vec![], None), "nothing is left to remove");
}

/// The older run has only pointers, so it is not worth evicting. The newer one is evicted.
#[test]
fn eviction_never_shows_overwritten_values() {
    let dir = TempDir::new().unwrap();
    let tier = open_as(dir.path(), Durability::Flushed);
    (0..50).for_each(|name| put(&tier, name, noise(name, 9000)));
    rotate(&tier, &[]);
    (0..50).for_each(|name| put(&tier, name, noise(name, 100)));
    rotate(&tier, &[]);
    (0..10).for_each(|name| assert!(get(&tier, name).is_some()));
    for newest in [None, Some("more")] {
        newest.iter().for_each(|name| put(&tier, name, noise(1, 100)));
        rotate(&tier, &[(2, Survivors::Read)]);
        let killed = as_if_killed(dir.path());
        for tier in [&tier, &open(killed.path())] {
            for name in 0..50 {
                let found = get(tier, name);
                let may_be_there = name < 10 && found == whole(name, noise(name, 100));
                assert!(found.is_none() || may_be_there, "entry {name}, {newest:?}");
            }
        }
        assert!(usage(&tier).1 >= 40, "what nobody read is gone");
    }
    assert_eq!(runs(&tier), [1, 3]);
}

/// Kills the process between the steps that put a sorted run in place of a memtable and two runs.
#[test]
fn process_killed_during_compaction_loses_no_entry() {
    let dir = TempDir::new().unwrap();
    let (tier, mut expected) = layered(dir.path());
    let early = as_if_killed(dir.path());
    tier.freeze().unwrap();
    put(&tier, 3, noise(3003, 150));
    assert!(now(tier.remove(&key(9))).unwrap());
    (expected[3], expected[9]) = (of_seed(3, 3), None);
    *tier.compaction.write() =
        tier.begin_compaction(&[(1, Survivors::Live), (2, Survivors::Live)], u64::MAX).unwrap();
    let begun = as_if_killed(dir.path());
    while tier.compaction.read().is_some() {
        tier.step_compaction(&mut tier.compaction.write(), 7).unwrap();
    }
    let done = as_if_killed(dir.path());
    check_all(&tier, &expected, "packed");
    for what in ["begun", "its pack is whole", "one of two packs is gone", "done"] {
        let copy = as_if_killed(if what == "done" { done.path() } else { begun.path() });
        if what.contains("pack") {
            copy_tree(&done.path().join("packs"), &copy.path().join("packs"));
        }
        if what.contains("gone") {
            fs::remove_file(run(copy.path(), 1)).unwrap();
        }
        for _ in 0..2 {
            check_all(&open(copy.path()), &expected, what);
        }
    }
    let (former, _) = layered(TempDir::new().unwrap().path());
    let expected: Vec<_> = (0..300).map(|name| get(&former, name)).collect();
    check_all(&open(early.path()), &expected, "before");
}

#[test]
fn damaged_run_never_shows_overwritten_values() {
    let dir = TempDir::new().unwrap();
    let (tier, expected) = layered(dir.path());
    let killed = as_if_killed(dir.path());
    drop(tier);
    for dir in [killed.path(), dir.path()] {
        for number in ["00000000000000000001", "00000000000000000002"] {
            let run = Path::new("packs").join(format!("{number}.pack"));
            for damage in damaged(&fs::read(dir.join(&run)).unwrap()) {
                let copy = as_if_killed(dir);
                fs::write(copy.path().join(&run), &damage).unwrap();
                let tier = open(copy.path());
                for (name, expected) in expected.iter().enumerate() {
                    let found = get(&tier, name);
                    assert!(
                        found.is_none() || found == *expected,
                        "{number}, {} bytes: {name}",
                        damage.len()
                    );
                }
                put(&tier, 1, noise(1, 100));
                assert_eq!(get(&tier, 1), whole(1, noise(1, 100)));
            }
        }
    }
}

#[test]
fn run_damaged_while_open_shows_no_older_values() {
    let dir = TempDir::new().unwrap();
    let (tier, expected) = layered(dir.path());
    let path = dir.path().join("packs/00000000000000000002.pack");
    let mut bytes = fs::read(&path).unwrap();
    bytes[40..].fill(0);
    fs::write(&path, bytes).unwrap();
    for (name, expected) in expected.iter().enumerate() {
        let found = now(tier.get(&key(name))).or(Ok::<_, larder_core::Error>(None));
        assert!(found.is_ok_and(|found| found.is_none() || found == *expected), "entry {name}");
    }
    put(&tier, "k", noise(1, 100));
    assert_eq!(get(&tier, "k"), whole("k", noise(1, 100)), "it was opened again");
    for (name, expected) in expected.iter().enumerate() {
        let found = get(&tier, name);
        assert!(found.is_none() || found == *expected, "entry {name}");
    }
}

/// Compares random calls with a map, while sorted runs are written row by row.
#[test]
fn random_calls_match_a_map() {
    (0..12).for_each(|seed| random_calls(seed, Survivors::Live));
}

/// An evicted entry is a miss, and no older value takes its place.
#[test]
fn random_calls_with_evictions_never_show_overwritten_values() {
    (20..40).for_each(|seed| random_calls(seed, Survivors::Read));
}

fn random_calls(seed: u64, survivors: Survivors) {
    let keeps_all = survivors == Survivors::Live;
    let dir = TempDir::new().unwrap();
    let mut tier = open(dir.path());
    let mut model = BTreeMap::new();
    let mut rng = fastrand::Rng::with_seed(seed);
    for step in 0..3000u64 {
        let name = rng.u64(0..120);
        match rng.u32(0..1000) {
            0..450 => {
                let payload = noise(step, if rng.u32(0..9) == 0 { 3000 } else { rng.usize(0..400) });
                put(&tier, name, payload.clone());
                model.insert(name, payload);
            }
            450..650 => {
                let (removed, known) = (now(tier.remove(&key(name))).unwrap(), model.remove(&name));
                assert!(removed == known.is_some() || !removed && !keeps_all, "seed {seed}, step {step}");
            }
            650..900 => {
                let expected = model.get(&name).and_then(|payload| whole(name, payload.clone()));
                let found = get(&tier, name);
                let is_evicted = found.is_none() && !keeps_all;
                assert!(found == expected || is_evicted, "entry {name}, seed {seed}, step {step}");
                if is_evicted {
                    model.remove(&name);
                }
            }
            900..985 => drop(tier.step_compaction(&mut tier.compaction.write(), 20)),
            985..993 => begin(&tier, &mut rng, survivors),
            993..996 => {
                let segments = tier.with_store(|store| Ok(store.segments.sealed())).unwrap();
                seal(&tier);
                segments.iter().for_each(|one| tier.drop_segment(one.number, Survivors::Live).unwrap());
            }
            996 => {
                now(tier.clear()).unwrap();
                model.clear();
            }
            _ => {
                drop(tier);
                tier = open(dir.path());
            }
        }
        let (entries, known) = (tier.usage().entries, model.len() as u64);
        assert!(entries == known || entries < known && !keeps_all, "seed {seed}, step {step}");
    }
}

/// Begins a compaction of the newest memtable and some sorted runs, if none is in progress.
fn begin(tier: &DiskTier, rng: &mut fastrand::Rng, survivors: Survivors) {
    let mut compaction = tier.compaction.write();
    if compaction.is_some() {
        return;
    }
    if tier.with_store(|store| Ok(store.tables.frozen.is_none())).unwrap() {
        tier.freeze().unwrap();
    }
    let some = runs(tier).into_iter().filter(|_| rng.bool());
    let replaced: Vec<_> = some.map(|run| (run, survivors)).collect();
    *compaction = tier.begin_compaction(&replaced, u64::MAX).unwrap();
}

#[test]
fn changes_during_compaction_are_never_undone() {
    let dir = TempDir::new().unwrap();
    let tier = open(dir.path());
    for round in 0..12u64 {
        fill(&tier, 60, round, |_| true);
        begin(&tier, &mut fastrand::Rng::with_seed(round), Survivors::Live);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    tier.step_compaction(&mut tier.compaction.write(), 3).unwrap();
                    begin(&tier, &mut fastrand::Rng::with_seed(round), Survivors::Live);
                }
            });
            for name in 0..60u64 {
                if name.is_multiple_of(2) {
                    assert!(now(tier.remove(&key(name))).unwrap(), "round {round}");
                    assert_eq!(get(&tier, name), None, "round {round}");
                } else {
                    put(&tier, name, noise(name + 1000 * (round + 1), 150));
                }
            }
            for name in 0..60u64 {
                let expected = if name.is_multiple_of(2) { None } else { of_seed(name, round + 1) };
                assert_eq!(get(&tier, name), expected, "round {round}");
            }
            done.store(true, Ordering::Relaxed);
        });
        assert_eq!(tier.usage().entries, 30, "round {round}");
    }
}

#[test]
fn usage_of_an_unfinished_run_is_released() {
    let dir = TempDir::new().unwrap();
    let (tier, expected) = layered(dir.path());
    *tier.compaction.write() = tier.begin_compaction(&[(1, Survivors::Live)], u64::MAX).unwrap();
    tier.step_compaction(&mut tier.compaction.write(), 100).unwrap();
    *tier.compaction.write() = None;
    assert_near(tier.usage().bytes, dir.path());
    assert_eq!(fs::read_dir(dir.path().join("packs")).unwrap().count(), 2);
    check_all(&tier, &expected, "given up");
    fs::write(dir.path().join("packs/00000000000000000009.new"), "half").unwrap();
    drop(tier);
    check_all(&open(dir.path()), &expected, "reopened");
    assert_eq!(fs::read_dir(dir.path().join("packs")).unwrap().count(), 2);
}

fn run(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("packs/{number:020}.pack"))
}

/// Replaces a file by a non-empty directory, so that deleting the file fails.
///
/// A hard link keeps the file, so that it does not count as removed by another program.
struct Undeletable {
    path: PathBuf,
    aside: PathBuf,
}

impl Undeletable {
    fn make(path: PathBuf) -> Self {
        let aside = path.with_extension("aside");
        fs::rename(&path, &aside).unwrap();
        fs::create_dir(&path).unwrap();
        fs::write(path.join("in the way"), "").unwrap();
        Self { path, aside }
    }

    fn restore(self) {
        fs::remove_dir_all(&self.path).unwrap();
        fs::rename(self.aside, self.path).unwrap();
    }
}

#[test]
fn memtable_without_valid_rows_leaves_neither_run_nor_journal() {
    let dir = TempDir::new().unwrap();
    let tier = open_as(dir.path(), Durability::Flushed);
    put(&tier, "k", noise(1, 100));
    tier.freeze().unwrap();
    put(&tier, "k", noise(2, 100));
    assert_eq!(journals(dir.path()).len(), 2);
    *tier.compaction.write() = tier.begin_compaction(&[], u64::MAX).unwrap();
    tier.step_compaction(&mut tier.compaction.write(), u64::MAX).unwrap();
    assert!(runs(&tier).is_empty());
    assert_eq!(journals(dir.path()).len(), 1);
    assert!(now(tier.remove(&key("k"))).unwrap());
    now(tier.flush()).unwrap();
    assert_eq!(get(&open(as_if_killed(dir.path()).path()), "k"), None);
}

#[test]
fn undeletable_run_stays_below_its_replacement() {
    let dir = TempDir::new().unwrap();
    let (tier, expected) = layered(dir.path());
    let stuck = Undeletable::make(run(dir.path(), 1));
    tier.freeze().unwrap();
    *tier.compaction.write() =
        tier.begin_compaction(&[(1, Survivors::Live), (2, Survivors::Live)], u64::MAX).unwrap();
    assert!(tier.step_compaction(&mut tier.compaction.write(), u64::MAX).is_err());
    let check_values = |tier: &DiskTier, context: &str| {
        for (name, expected) in expected.iter().enumerate() {
            assert_eq!(&get(tier, name), expected, "entry {name}, {context}");
        }
    };
    check_values(&tier, "after the failure");
    stuck.restore();
    check_values(&open(as_if_killed(dir.path()).path()), "killed");
    let closed = as_if_killed(dir.path());
    drop(open(closed.path()));
    check_values(&open(closed.path()), "closed");
    put(&tier, 1, noise(1001, 150));
    check_all(&tier, &expected, "opened again");
    drop(tier);
    check_all(&open(dir.path()), &expected, "reopened");
}

#[test]
fn clear_that_cannot_delete_a_run_still_removes_all_entries() {
    let dir = TempDir::new().unwrap();
    let (tier, _) = layered(dir.path());
    let stuck = Undeletable::make(run(dir.path(), 1));
    assert!(now(tier.clear()).is_err());
    assert_eq!(usage(&tier).0, 0);
    assert!(now(tier.flush()).is_err(), "the journal would forget that the pack is void");
    assert!(!now(tier.remove(&key(1))).unwrap());
    stuck.restore();
    assert_eq!(usage(&open(as_if_killed(dir.path()).path())).0, 0);
    now(tier.flush()).unwrap();
    assert!(!run(dir.path(), 1).exists());
    assert_eq!(usage(&open(as_if_killed(dir.path()).path())).0, 0);
}

#[test]
fn failed_eviction_loses_no_entry() {
    let dir = TempDir::new().unwrap();
    let tier = open_as(dir.path(), Durability::Flushed);
    (0..20).for_each(|name| put(&tier, name, noise(name, 9000)));
    seal(&tier);
    rotate(&tier, &[]);
    let whole = fs::read(run(dir.path(), 1)).unwrap();
    fs::write(run(dir.path(), 1), noise(1, whole.len())).unwrap();
    for _ in 0..2 {
        assert!(tier.drop_segment(1, Survivors::Read).is_err());
        assert_eq!(segment_files(dir.path()), 1);
    }
    fs::write(run(dir.path(), 1), whole).unwrap();
    tier.drop_segment(1, Survivors::Read).unwrap();
    assert_eq!((usage(&tier), segment_files(dir.path())), ((0, 20), 0));
}
