//! The placement table of the default selector, row by row, and its effect in a real cache.

use std::time::Duration;

use larder::{
    Access, Capability, EntryOptions, Facts, HintSource, Kind, Loaded, Persistence, Selector, Sharing,
    SizeClass, Table, Thresholds, TierFacts, TierKind, kinds,
};

use TierKind::{Disk, File, Memory, Null, Redis};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

fn tier(kind: TierKind) -> TierFacts {
    let capability = Capability {
        stores: true,
        persistent: matches!(kind, Disk | File),
        shared: kind == Redis,
        blocking: matches!(kind, Disk | File),
        frame_bytes_max: match kind {
            Memory => 16 * MIB,
            Disk => 256 * MIB,
            Redis => MIB,
            _ => u64::MAX,
        },
    };
    TierFacts { kind, capability, coherent: !capability.shared, healthy: true, position: None }
}

fn all() -> Vec<TierFacts> {
    vec![tier(Memory), tier(Disk), tier(File)]
}

/// The expected home, whether memory has a copy, and the alternatives.
type Expect<'a> = (TierKind, bool, &'a [TierKind]);

#[track_caller]
fn check(facts: Facts, tiers: &[TierFacts], (home, copy, alternatives): Expect<'_>) {
    let placement = Table.place(&facts, tiers);
    assert_eq!(placement.home, home, "{facts:?}: {placement}");
    assert_eq!(placement.copy_in_memory, copy, "{facts:?}: {placement}");
    assert_eq!(placement.alternatives.iter().collect::<Vec<_>>(), alternatives, "{facts:?}: {placement}");
    assert_eq!(placement, Table.place(&facts, tiers), "the same facts, another placement");
}

#[test]
fn size_decides_the_tier_by_default() {
    for (bytes, expect) in [
        (0, (Memory, false, &[Disk][..])),
        (1, (Memory, false, &[Disk])),
        (KIB - 1, (Memory, false, &[Disk])),
        (KIB, (Memory, false, &[Disk, File])),
        (10 * KIB - 1, (Memory, false, &[Disk, File])),
        (10 * KIB, (Disk, true, &[File, Memory])),
        (MIB - 1, (Disk, true, &[File, Memory])),
        (MIB, (File, false, &[Disk, Memory])),
        (50 * MIB, (File, false, &[Disk])),
        (100 * MIB, (File, false, &[Disk])),
        (4096 * MIB, (File, false, &[])),
    ] {
        check(Facts::new(bytes, Kind::Other), &all(), expect);
    }
}

#[test]
fn kind_shifts_the_size_limits() {
    for (kind, bytes, home) in [
        (Kind::Scalar, 8, Memory),
        (Kind::Scalar, 20 * KIB, Memory),
        (Kind::Text, 30 * KIB, Memory),
        (Kind::Text, 40 * KIB, Disk),
        (Kind::Json, 100, Disk),
        (Kind::Json, 100 * KIB, Disk),
        (Kind::Image, 2 * KIB, Memory),
        (Kind::Image, 20 * KIB, Disk),
        (Kind::Image, 64 * KIB, File),
        (Kind::Bytes, 64 * KIB, File),
        (Kind::Array, 20 * KIB, File),
        (Kind::Frame, 20 * KIB, File),
        (Kind::Model, 20 * KIB, File),
        (Kind::Other, 64 * KIB, Disk),
    ] {
        assert_eq!(Table.place(&Facts::new(bytes, kind), &all()).home, home, "{kind} of {bytes} bytes");
    }
}

#[test]
fn cost_and_persistence_move_small_entries_to_disk() {
    let small = Facts::new(100, Kind::Other);
    let costly = Facts { load_cost: Some(Duration::from_millis(2)), ..small };
    check(costly, &all(), (Disk, true, &[Memory]));
    let cheap = Facts { load_cost: Some(Duration::from_micros(900)), ..small };
    check(cheap, &all(), (Memory, false, &[Disk]));
    let long_term = Facts { persistence: Persistence::LongTerm, ..small };
    check(long_term, &all(), (Disk, true, &[]));
    let ephemeral = Facts { persistence: Persistence::Ephemeral, bytes: 5 * MIB, ..costly };
    check(ephemeral, &all(), (Memory, false, &[]));
    let too_large_for_memory = Facts { bytes: 50 * MIB, ..ephemeral };
    check(too_large_for_memory, &all(), (File, false, &[Disk]));
}

#[test]
fn small_entry_of_a_session_stays_in_memory_whatever_it_cost() {
    let costly = Facts { load_cost: Some(Duration::from_millis(2)), ..Facts::new(100, Kind::Json) };
    check(costly, &all(), (Disk, true, &[Memory]));
    let session = Facts { persistence: Persistence::Session, ..costly };
    check(session, &all(), (Memory, false, &[Disk]));
    check(Facts { bytes: 20 * KIB, ..session }, &all(), (Disk, true, &[File, Memory]));
}

#[test]
fn frequency_copies_an_entry_into_memory_only_when_it_is_read() {
    let written = Facts { access: Access::Frequency, ..Facts::new(100 * KIB, Kind::Other) };
    check(written, &all(), (Disk, false, &[File, Memory]));
    let read = Facts { found: Some(Disk), ..written };
    check(read, &all(), (Disk, true, &[File, Memory]));
    check(Facts { bytes: 2 * MIB, ..read }, &all(), (File, false, &[Disk, Memory]));
}

#[test]
fn access_decides_whether_memory_has_a_copy() {
    let medium = Facts::new(100 * KIB, Kind::Other);
    let large = Facts::new(2 * MIB, Kind::Other);
    for (facts, access, copy) in [
        (medium, Access::Balanced, true),
        (medium, Access::Frequency, false),
        (medium, Access::WriteHeavy, false),
        (large, Access::Balanced, false),
        (large, Access::ReadHeavy, true),
    ] {
        let placement = Table.place(&Facts { access, ..facts }, &all());
        assert_eq!(placement.copy_in_memory, copy, "{access:?}: {placement}");
    }
    let beyond_memory = Facts { access: Access::ReadHeavy, bytes: 20 * MIB, ..large };
    assert!(!Table.place(&beyond_memory, &all()).copy_in_memory);
}

#[test]
fn missing_or_broken_tiers_are_skipped() {
    let medium = Facts::new(100 * KIB, Kind::Other);
    check(medium, &[tier(Memory), tier(File)], (File, true, &[Memory]));
    check(medium, &[tier(Memory)], (Memory, false, &[]));
    check(medium, &[tier(Disk)], (Disk, false, &[]));
    check(medium, &[], (Null, false, &[]));
    let broken = TierFacts { healthy: false, ..tier(Disk) };
    check(medium, &[tier(Memory), broken, tier(File)], (File, true, &[Memory]));
    let small = Facts { persistence: Persistence::LongTerm, ..Facts::new(100, Kind::Other) };
    let placement = Table.place(&small, &[tier(Memory), broken, tier(File)]);
    assert_eq!(placement.home, Memory, "a few bytes never get a file of their own");
    assert_eq!(placement.warning, Some("no tier that persists takes it"));
}

#[test]
fn requested_home_is_used_while_it_is_healthy() {
    let tiny = Facts { home: Some(File), ..Facts::new(10, Kind::Other) };
    check(tiny, &all(), (File, true, &[Memory, Disk]));
    let broken = TierFacts { healthy: false, ..tier(File) };
    let without = [tier(Memory), tier(Disk), broken];
    check(tiny, &without, (Memory, false, &[Disk]));
    let warning = Table.place(&tiny, &without).warning;
    assert_eq!(warning, Some("the home that a hint names cannot take it"));
}

#[test]
fn entries_shared_by_processes_go_to_shared_files_or_nowhere() {
    let file = tier(File);
    let capability = Capability { shared: true, frame_bytes_max: 64 * MIB, ..file.capability };
    let tiers = [tier(Memory), TierFacts { capability, ..file }];
    for (bytes, expect) in [
        (1, (File, true, &[][..])),
        (20 * KIB, (File, true, &[])),
        (5 * MIB, (File, false, &[])),
        (65 * MIB, (Null, false, &[])),
    ] {
        let facts = Facts { sharing: Sharing::Processes, ..Facts::new(bytes, Kind::Other) };
        check(facts, &tiers, expect);
    }
}

#[test]
fn distributed_entries_go_to_the_shared_tier() {
    let distributed = |bytes| Facts { sharing: Sharing::Distributed, ..Facts::new(bytes, Kind::Other) };
    let with_redis = [tier(Memory), tier(Disk), tier(File), tier(Redis)];
    check(distributed(100), &with_redis, (Redis, false, &[Disk, Memory]));
    let mut told = with_redis;
    told[3].coherent = true;
    check(distributed(100), &told, (Redis, true, &[Disk, Memory]));
    let large = Table.place(&distributed(5 * MIB), &with_redis);
    assert_eq!((large.home, large.warning.is_some()), (File, true));
    let alone = Table.place(&distributed(100), &all());
    assert!(alone.warning.is_some(), "nobody else sees it, and that is said");
}

#[test]
fn thresholds_move_the_size_classes() {
    let thresholds = Thresholds { small: 100, medium: 200, large: 300 };
    for (bytes, class) in [
        (99, SizeClass::Small),
        (100, SizeClass::Medium),
        (200, SizeClass::Large),
        (300, SizeClass::VeryLarge),
    ] {
        assert_eq!(thresholds.class(bytes), class);
    }
}

#[test]
fn known_types_have_kinds() {
    for (kind, expect) in [
        (kinds::of::<u64>(), Kind::Scalar),
        (kinds::of::<Option<bool>>(), Kind::Scalar),
        (kinds::of::<String>(), Kind::Text),
        (kinds::of::<Vec<u8>>(), Kind::Bytes),
        (kinds::of::<larder::Bytes>(), Kind::Bytes),
        (kinds::of::<Vec<f32>>(), Kind::Array),
        (kinds::of::<Vec<String>>(), Kind::Other),
    ] {
        assert_eq!(kind, expect);
    }
}

#[test]
fn cache_places_entries_by_the_table() {
    let dir = tempfile::tempdir().unwrap();
    let cache = larder::ucache::<u32, Vec<f64>>("routing").dir(dir.path()).build().unwrap();
    for (key, numbers, home) in [(1, 10, Memory), (2, 10_000, File), (3, 400_000, File)] {
        let value = vec![f64::from(key); numbers];
        let placement = cache.try_insert(key, value.clone()).unwrap();
        assert_eq!(placement.home, home, "{numbers} numbers");
        let explanation = cache.explain(&key).unwrap();
        assert_eq!(explanation.home, Some(home));
        assert_eq!(explanation.bytes, Some(numbers as u64 * 8));
        assert_eq!(cache.get(&key), Some(value));
    }
    assert_eq!(cache.len(), 3);
    let mut keys: Vec<u32> = cache.keys().unwrap().into_iter().map(|key| *key).collect();
    keys.sort_unstable();
    assert_eq!(keys, [1, 2, 3]);
    cache.close().unwrap();
}

#[test]
fn result_of_a_costly_load_is_kept_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let open = || larder::ucache::<u32, u64>("costly").dir(dir.path()).build().unwrap();
    let cache = open();
    cache.get_with(1, || {
        let until = std::time::Instant::now() + Duration::from_millis(3);
        while std::time::Instant::now() < until {
            std::hint::spin_loop();
        }
        7
    });
    // Any load may take a millisecond on a busy machine.
    let home = |key: &u32| {
        cache.get_with(*key, || 8);
        cache.explain(key).unwrap().home
    };
    let cheap = (2..100).find(|key| home(key) == Some(Memory)).unwrap();
    assert_eq!(cache.explain(&1).unwrap().home, Some(Disk));
    cache.close().unwrap();
    let cache = open();
    assert_eq!((cache.get(&1), cache.get(&cheap)), (Some(7), None));
    cache.close().unwrap();
}

#[test]
fn custom_selector_decides_the_placement() {
    struct Everything(TierKind);
    impl Selector for Everything {
        fn place(&self, _: &Facts, _: &[TierFacts]) -> larder::Placement {
            larder::Placement {
                home: self.0,
                rule: "everything in one place",
                ..larder::Placement::MEMORY_ONLY
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let cache =
        larder::ucache::<u32, String>("own").dir(dir.path()).selector(Everything(File)).build().unwrap();
    let placement = cache.try_insert(1, "tiny".into()).unwrap();
    assert_eq!((placement.home, placement.rule), (File, "everything in one place"));
    assert_eq!(cache.get("1".parse::<u32>().as_ref().unwrap()).as_deref(), Some("tiny"));
    cache.close().unwrap();
}

fn tier_of(cache: &larder::Cache<u32, Vec<u8>>, key: u32) -> TierKind {
    cache.inspect(&key).unwrap().unwrap().tier
}

#[test]
fn hints_of_an_entry_precede_those_of_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let cache = larder::ucache::<u32, Vec<u8>>("hints").dir(dir.path());
    let cache = cache.persistence(Persistence::LongTerm).access(Access::WriteHeavy).build().unwrap();
    let (small, medium) = (vec![1; 100], vec![2; 20 << 10]);
    for (key, value, options, expect) in [
        (1, &small, EntryOptions::new(), (Disk, false)),
        (2, &small, EntryOptions::new().persistence(Persistence::Ephemeral), (Memory, false)),
        (3, &medium, EntryOptions::new().access(Access::ReadHeavy), (Disk, true)),
        (4, &small, EntryOptions::new().home(File), (File, false)),
        (5, &medium, EntryOptions::new().home(Memory).access(Access::ReadHeavy), (Memory, false)),
    ] {
        cache.insert_with(key, value.clone(), options);
        let explanation = cache.explain(&key).unwrap();
        let in_memory = explanation.tiers.contains(&Memory) && explanation.home != Some(Memory);
        assert_eq!((explanation.home, in_memory), (Some(expect.0), expect.1), "{key}: {explanation}");
        assert_eq!(cache.get(&key).as_ref(), Some(value));
    }
    let loaded = cache.load(6, move |_| {
        let options = EntryOptions::new().persistence(Persistence::Session);
        Ok::<_, std::io::Error>(Loaded::ValueWith(vec![6], options))
    });
    assert_eq!(loaded.unwrap(), Some(vec![6]));
    assert_eq!(cache.explain(&6).unwrap().home, Some(Memory));
    cache.close().unwrap();
}

#[test]
fn explain_tells_hints_of_the_entry_from_those_of_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let cache = larder::ucache::<u32, Vec<u8>>("hints").dir(dir.path());
    let cache = cache.persistence(Persistence::LongTerm).build().unwrap();
    cache.insert(1, vec![1; 100]);
    cache.insert_with(2, vec![2; 100], EntryOptions::new().access(Access::WriteHeavy).home(File));
    let plain = cache.explain(&1).unwrap();
    assert!(plain.to_string().contains("; hints: persistence long_term (cache)"), "{plain}");
    let explanation = cache.explain(&2).unwrap();
    let hints = explanation.hints.unwrap();
    assert_eq!(
        (hints.persistence.value, hints.persistence.source),
        (Persistence::LongTerm, HintSource::Cache)
    );
    assert_eq!((hints.access.value, hints.access.source), (Access::WriteHeavy, HintSource::Entry));
    assert_eq!((hints.home.value, hints.home.source), (Some(File), HintSource::Entry));
    let says = "hints: persistence long_term (cache), access write_heavy (entry), home file (entry)";
    assert!(explanation.to_string().contains(says), "{explanation}");
    cache.close().unwrap();
}

#[test]
fn hints_of_an_entry_hold_after_a_restart_and_a_touch_and_end_with_the_next_insert() {
    let dir = tempfile::tempdir().unwrap();
    let open = || larder::ucache::<u32, Vec<u8>>("kept").dir(dir.path()).build().unwrap();
    let cache = open();
    cache.insert_with(1, vec![1; 20 << 10], EntryOptions::new().access(Access::WriteHeavy));
    cache.insert_with(2, vec![2; 20 << 10], EntryOptions::new().access(Access::Frequency));
    cache.insert(3, vec![3; 20 << 10]);
    assert_eq!([1, 2, 3].map(|key| tier_of(&cache, key)), [Disk, Disk, Memory]);
    cache.close().unwrap();
    let cache = open();
    for key in [1, 2, 3] {
        assert_eq!(tier_of(&cache, key), Disk, "read from the tier");
    }
    assert_eq!([1, 2, 3].map(|key| tier_of(&cache, key)), [Disk, Memory, Memory]);
    assert!(cache.touch(&1).unwrap());
    for _ in 0..2 {
        assert_eq!(tier_of(&cache, 1), Disk, "a touch keeps the hint");
    }
    cache.insert(1, vec![1; 20 << 10]);
    assert_eq!(tier_of(&cache, 1), Memory, "an insert without hints");
    assert_eq!(cache.explain(&1).unwrap().hints.unwrap().given().count(), 0);
    cache.close().unwrap();
}

#[test]
fn increment_keeps_the_home_that_the_entry_asks_for() {
    let dir = tempfile::tempdir().unwrap();
    let open = || larder::ucache::<u32, u64>("counted").dir(dir.path()).build().unwrap();
    let cache = open();
    cache.insert_with(1, 5, EntryOptions::new().home(Disk));
    assert_eq!(cache.increment(1, 2, 0).unwrap(), 7);
    assert_eq!(cache.explain(&1).unwrap().home, Some(Disk));
    cache.close().unwrap();
    let cache = open();
    assert_eq!(cache.increment(1, 2, 0).unwrap(), 9);
    assert_eq!(cache.explain(&1).unwrap().home, Some(Disk));
    cache.close().unwrap();
}

#[test]
fn hint_that_names_a_missing_tier_is_ignored_with_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let cache = larder::ucache::<u32, Vec<u8>>("lacking").dir(dir.path()).build().unwrap();
    let placement = cache.try_insert_with(1, vec![1], EntryOptions::new().home(Redis)).unwrap();
    assert_eq!(placement.home, Memory);
    assert_eq!(placement.warning, Some("the home that a hint names cannot take it"));
    cache.close().unwrap();
}

/// Memory for 64 entries over 4,096 on disk.
#[test]
#[cfg(feature = "disk")]
fn reads_from_disk_are_copied_into_memory_while_copies_are_used() {
    const KEYS: u64 = 4096;
    let dir = tempfile::tempdir().unwrap();
    let cache = larder::bcache::<u64, u64>("copies").dir(dir.path()).capacity(64).build().unwrap();
    (0..KEYS).for_each(|key| cache.insert(key, key));
    let copied = |reads: &mut dyn Iterator<Item = u64>| {
        let before = cache.stats().tier(Memory).unwrap().counts.puts;
        reads.for_each(|key| assert_eq!(cache.get(&key), Some(key)));
        cache.stats().tier(Memory).unwrap().counts.puts - before
    };
    // Random, so that no policy finds an order.
    let mut random = fastrand::Rng::with_seed(7);
    let mut far_apart = || random.u64(..KEYS);
    let at_first = copied(&mut (0..1024).map(|_| far_apart()));
    assert!((900..=1024).contains(&at_first), "{at_first} copies of 1024 reads");
    let unused = copied(&mut (0..8192).map(|_| far_apart()));
    assert!(unused < 8192 / 4, "{unused} copies of 8192 reads, which are not used");
    let mut hot = (0..8192).map(|read| read % 32);
    let of_hot = copied(&mut hot);
    // Some of them may be in memory already.
    assert!((16..1024).contains(&of_hot), "{of_hot} copies of 32 keys");
    let hits = cache.stats().tier(Memory).unwrap().counts.hits;
    (0..32).for_each(|key| assert_eq!(cache.get(&key), Some(key)));
    assert_eq!(cache.stats().tier(Memory).unwrap().counts.hits - hits, 32, "keys in demand are in memory");
}
