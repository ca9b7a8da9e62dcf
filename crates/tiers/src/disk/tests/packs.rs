//! Packs: what they show of a row, whatever became of it, and what a process
//! that was killed between any two of their steps leaves.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::trust::{as_if_killed, copy_tree, damaged, open_as};
use super::*;
use crate::disk::db::database::Generation;
use crate::disk::layout::Layout;

/// Puts every name below `names` that `which` names, with a payload of `seed`.
fn fill(tier: &DiskTier, names: u64, seed: u64, which: impl Fn(u64) -> bool) {
    (0..names).filter(|name| which(*name)).for_each(|name| put(tier, name, noise(name + 1000 * seed, 150)));
}

fn of_seed(name: u64, seed: u64) -> Option<Bytes> {
    whole(name, noise(name + 1000 * seed, 150))
}

/// Three generations of values over one another: what is there after them.
fn layered(dir: &Path) -> (DiskTier, Vec<Option<Bytes>>) {
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

fn check_all(tier: &DiskTier, expected: &[Option<Bytes>], context: &str) {
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
fn the_newest_word_on_a_row_counts() {
    let dir = TempDir::new().unwrap();
    let (tier, expected) = layered(dir.path());
    check_all(&tier, &expected, "as written");
    for retire in [&[][..], &[(1, Carry::Named)], &[(2, Carry::Named), (3, Carry::Named)]] {
        put(&tier, 1, noise(1001, 150));
        rotate(&tier, retire);
        check_all(&tier, &expected, &format!("after {retire:?}"));
        check_all(&open(as_if_killed(dir.path()).path()), &expected, &format!("killed after {retire:?}"));
    }
    assert_eq!(packs(&tier), [4, 5]);
    drop(tier);
    check_all(&open(dir.path()), &expected, "reopened");
}

#[test]
fn a_removal_is_kept_as_long_as_a_pack_has_the_row() {
    let dir = TempDir::new().unwrap();
    let tier = open(dir.path());
    put(&tier, "k", noise(1, 100));
    put(&tier, "l", noise(1, 100));
    rotate(&tier, &[]);
    assert!(now(tier.remove(&key("k"))).unwrap());
    assert!(!now(tier.remove(&key("k"))).unwrap());
    rotate(&tier, &[]);
    assert_eq!(packs(&tier), [1, 2], "the second has the removal alone");
    rotate(&tier, &[(1, Carry::Read)]);
    assert_eq!((packs(&tier), usage(&tier)), (vec![2], (0, 1)));
    let killed = as_if_killed(dir.path());
    assert_eq!(get(&open(killed.path()), "k"), None);
    rotate(&tier, &[(2, Carry::Named)]);
    assert_eq!((packs(&tier), get(&tier, "k")), (vec![], None), "nothing is left to remove");
}

/// The older pack is not worth dropping, as pointers live on; the newer one is.
#[test]
fn an_eviction_never_shows_what_was_overwritten() {
    let dir = TempDir::new().unwrap();
    let tier = open_as(dir.path(), Durability::Flushed);
    (0..50).for_each(|name| put(&tier, name, noise(name, 9000)));
    rotate(&tier, &[]);
    (0..50).for_each(|name| put(&tier, name, noise(name, 100)));
    rotate(&tier, &[]);
    (0..10).for_each(|name| assert!(get(&tier, name).is_some()));
    for newest in [None, Some("more")] {
        newest.iter().for_each(|name| put(&tier, name, noise(1, 100)));
        rotate(&tier, &[(2, Carry::Read)]);
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
    assert_eq!(packs(&tier), [1, 3]);
}

/// Between the steps of a pack that takes the place of a database and of packs.
#[test]
fn a_process_killed_while_it_packs_leaves_what_was_there() {
    let dir = TempDir::new().unwrap();
    let (tier, mut expected) = layered(dir.path());
    let early = as_if_killed(dir.path());
    tier.freeze().unwrap();
    put(&tier, 3, noise(3003, 150));
    assert!(now(tier.remove(&key(9))).unwrap());
    (expected[3], expected[9]) = (of_seed(3, 3), None);
    *tier.upkeep.write() = tier.begin_repack(&[(1, Carry::Named), (2, Carry::Named)], u64::MAX).unwrap();
    let begun = as_if_killed(dir.path());
    while tier.upkeep.read().is_some() {
        tier.go_on(&mut tier.upkeep.write(), 7).unwrap();
    }
    tier.reaper.settle().unwrap();
    let done = as_if_killed(dir.path());
    check_all(&tier, &expected, "packed");
    for what in ["begun", "its pack is whole", "one of two packs is gone", "done"] {
        let copy = as_if_killed(if what == "done" { done.path() } else { begun.path() });
        if what.contains("pack") {
            copy_tree(&done.path().join("packs"), &copy.path().join("packs"));
        }
        if what.contains("gone") {
            fs::remove_file(pack(copy.path(), 1)).unwrap();
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
fn a_torn_pack_never_shows_what_was_overwritten() {
    let dir = TempDir::new().unwrap();
    let (tier, expected) = layered(dir.path());
    let killed = as_if_killed(dir.path());
    drop(tier);
    for dir in [killed.path(), dir.path()] {
        for number in ["00000000000000000001", "00000000000000000002"] {
            let pack = Path::new("packs").join(format!("{number}.pack"));
            for damage in damaged(&fs::read(dir.join(&pack)).unwrap()) {
                let copy = as_if_killed(dir);
                fs::write(copy.path().join(&pack), &damage).unwrap();
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
fn a_pack_that_is_damaged_while_open_shows_nothing_older() {
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

/// Random calls beside a map, while packs are written row by row.
#[test]
fn random_calls_agree_with_a_map() {
    (0..12).for_each(|seed| random_calls(seed, Carry::Named));
}

/// What is evicted is gone, and nothing else takes its place.
#[test]
fn random_calls_with_evictions_show_nothing_that_was_overwritten() {
    (20..40).for_each(|seed| random_calls(seed, Carry::Read));
}

fn random_calls(seed: u64, carry: Carry) {
    let keeps_all = carry == Carry::Named;
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
            900..985 => drop(tier.go_on(&mut tier.upkeep.write(), 20)),
            985..993 => begin(&tier, &mut rng, carry),
            993..996 => {
                let segments = tier.with_store(|store| Ok(store.segments.sealed())).unwrap();
                seal(&tier);
                segments.iter().for_each(|one| tier.drop_segment(one.number, Carry::Named).unwrap());
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

/// Begins a pack of what is there and of some packs, if none is under way.
fn begin(tier: &DiskTier, rng: &mut fastrand::Rng, carry: Carry) {
    let mut upkeep = tier.upkeep.write();
    if upkeep.is_some() {
        return;
    }
    if tier.with_store(|store| Ok(store.databases.frozen.is_none())).unwrap() {
        tier.freeze().unwrap();
    }
    let some = packs(tier).into_iter().filter(|_| rng.bool());
    let retire: Vec<_> = some.map(|pack| (pack, carry)).collect();
    *upkeep = tier.begin_repack(&retire, u64::MAX).unwrap();
}

#[test]
fn changes_while_a_pack_is_written_are_never_undone() {
    let dir = TempDir::new().unwrap();
    let tier = open(dir.path());
    for round in 0..12u64 {
        fill(&tier, 60, round, |_| true);
        begin(&tier, &mut fastrand::Rng::with_seed(round), Carry::Named);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    tier.go_on(&mut tier.upkeep.write(), 3).unwrap();
                    begin(&tier, &mut fastrand::Rng::with_seed(round), Carry::Named);
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
fn what_is_half_written_is_given_back() {
    let dir = TempDir::new().unwrap();
    let (tier, expected) = layered(dir.path());
    *tier.upkeep.write() = tier.begin_repack(&[(1, Carry::Named)], u64::MAX).unwrap();
    tier.go_on(&mut tier.upkeep.write(), 100).unwrap();
    *tier.upkeep.write() = None;
    assert_near(tier.usage().bytes, dir.path());
    assert_eq!(fs::read_dir(dir.path().join("packs")).unwrap().count(), 2);
    check_all(&tier, &expected, "given up");
    fs::write(dir.path().join("packs/00000000000000000009.new"), "half").unwrap();
    drop(tier);
    check_all(&open(dir.path()), &expected, "reopened");
    assert_eq!(fs::read_dir(dir.path().join("packs")).unwrap().count(), 2);
}

fn generation(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("db/{number:020}"))
}

fn pack(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("packs/{number:020}.pack"))
}

/// Puts a directory that is not empty in place of a file: deleting the file fails.
///
/// The file keeps a link meanwhile, so that it does not count as removed by others.
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
fn a_database_that_leaves_no_pack_is_gone_at_once() {
    let dir = TempDir::new().unwrap();
    let tier = open_as(dir.path(), Durability::Flushed);
    put(&tier, "k", noise(1, 100));
    tier.freeze().unwrap();
    put(&tier, "k", noise(2, 100));
    assert!(generation(dir.path(), 1).exists());
    *tier.upkeep.write() = tier.begin_repack(&[], u64::MAX).unwrap();
    tier.go_on(&mut tier.upkeep.write(), u64::MAX).unwrap();
    assert!(packs(&tier).is_empty());
    assert!(!generation(dir.path(), 1).exists(), "nothing would say that it is spent");
    assert!(now(tier.remove(&key("k"))).unwrap());
    now(tier.flush()).unwrap();
    assert_eq!(get(&open(as_if_killed(dir.path()).path()), "k"), None);
}

#[test]
fn what_cannot_be_deleted_stays_below_what_took_its_place() {
    let dir = TempDir::new().unwrap();
    let (tier, expected) = layered(dir.path());
    let stuck = Undeletable::make(pack(dir.path(), 1));
    tier.freeze().unwrap();
    *tier.upkeep.write() = tier.begin_repack(&[(1, Carry::Named), (2, Carry::Named)], u64::MAX).unwrap();
    assert!(tier.go_on(&mut tier.upkeep.write(), u64::MAX).is_err());
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
fn a_clear_that_could_not_delete_a_pack_is_one_all_the_same() {
    let dir = TempDir::new().unwrap();
    let (tier, _) = layered(dir.path());
    let stuck = Undeletable::make(pack(dir.path(), 1));
    assert!(now(tier.clear()).is_err());
    assert_eq!(usage(&tier).0, 0);
    assert!(now(tier.flush()).is_err(), "the journal would forget that the pack is void");
    assert!(!now(tier.remove(&key(1))).unwrap());
    stuck.restore();
    assert_eq!(usage(&open(as_if_killed(dir.path()).path())).0, 0);
    now(tier.flush()).unwrap();
    assert!(!pack(dir.path(), 1).exists());
    assert_eq!(usage(&open(as_if_killed(dir.path()).path())).0, 0);
}

#[test]
fn a_clear_that_was_not_written_down_did_not_happen() {
    let dir = TempDir::new().unwrap();
    let tier = open_as(dir.path(), Durability::Flushed);
    fill(&tier, 100, 1, |_| true);
    rotate(&tier, &[]);
    fill(&tier, 100, 2, |_| true);
    tier.freeze().unwrap();
    fill(&tier, 100, 3, |name| name < 50);
    now(tier.flush()).unwrap();
    let killed = as_if_killed(dir.path());
    let number = tier.with_store(|store| Ok(store.databases.newest.number)).unwrap();
    let layout = Layout::prepare(killed.path().to_owned()).unwrap();
    assert!(Generation::open(&layout, number + 1, MIB).is_ok());
    let expected: Vec<_> = (0..100).map(|name| of_seed(name, if name < 50 { 3 } else { 2 })).collect();
    for _ in 0..2 {
        check_all(&open(killed.path()), &expected, "killed while it cleared");
    }
}

#[test]
fn a_database_that_was_never_open_is_none() {
    let dir = TempDir::new().unwrap();
    let (tier, expected) = layered(dir.path());
    now(tier.flush()).unwrap();
    let killed = as_if_killed(dir.path());
    let number = tier.with_store(|store| Ok(store.databases.newest.number)).unwrap();
    let begun = generation(killed.path(), number + 1);
    fs::create_dir_all(begun.join("blobs")).unwrap();
    fs::write(begun.join("conf"), "segment_size: 524288\nuse_compression: false\nversion: 0.34\n").unwrap();
    check_all(&open(killed.path()), &expected, "killed while it made a database");
    assert!(!begun.exists());
}

#[test]
fn an_eviction_that_fails_gives_up_nothing() {
    let dir = TempDir::new().unwrap();
    let tier = open_as(dir.path(), Durability::Flushed);
    (0..20).for_each(|name| put(&tier, name, noise(name, 9000)));
    seal(&tier);
    rotate(&tier, &[]);
    let whole = fs::read(pack(dir.path(), 1)).unwrap();
    fs::write(pack(dir.path(), 1), noise(1, whole.len())).unwrap();
    for _ in 0..2 {
        assert!(tier.drop_segment(1, Carry::Read).is_err());
        assert_eq!(segment_files(dir.path()), 1);
    }
    fs::write(pack(dir.path(), 1), whole).unwrap();
    tier.drop_segment(1, Carry::Read).unwrap();
    assert_eq!((usage(&tier), segment_files(dir.path())), ((0, 20), 0));
}
