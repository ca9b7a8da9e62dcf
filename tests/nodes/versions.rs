//! Two versions of a program over one Redis, as in a rolling deploy.
//!
//! The fault: neither version had hits. The cause: both used the same key names, so each found
//! entries of the other, could not read them, removed them and loaded again.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use larder::{Cache, Codec, EntryOptions, TierKind, ucache};
use larder_testkit::RedisServer;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Nodes, until, until_coherent};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Old {
    id: u64,
    name: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct New {
    id: u64,
    name: String,
    email: String,
}

fn old(id: u64) -> Old {
    Old { id, name: format!("u{id}") }
}

fn new(id: u64) -> New {
    New { id, name: format!("u{id}"), email: format!("u{id}@x") }
}

fn open<V>(nodes: &mut Nodes, version: u32) -> Cache<u64, V>
where
    V: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
{
    nodes.dirs.push(tempfile::tempdir().unwrap());
    let dir = nodes.dirs.last().unwrap().path();
    ucache("users").dir(dir).redis(nodes.server.url()).namespace("roll").version(version).build().unwrap()
}

/// Opens a cache that stores values by field names. Its frames have no type fingerprint.
fn open_named<V>(nodes: &mut Nodes) -> Cache<u64, V>
where
    V: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
{
    nodes.dirs.push(tempfile::tempdir().unwrap());
    let dir = nodes.dirs.last().unwrap().path();
    let builder = ucache("named").dir(dir).redis(nodes.server.url()).namespace("roll");
    builder.codec(Codec::MessagePack).build().unwrap()
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Renamed {
    id: u64,
    full_name: String,
}

#[test]
fn versions_keep_their_hits_when_values_are_stored_by_name() {
    let Some(mut nodes) = Nodes::start() else { return };
    let (one, other) = (open_named::<Old>(&mut nodes), open_named::<Renamed>(&mut nodes));
    let mut sums = [0; 2];
    for _ in 0..10 {
        sums[0] += loads(&one, old);
        sums[1] += loads(&other, |id| Renamed { id, full_name: format!("u{id}") });
    }
    assert_eq!(sums, [20, 20]);
    assert_eq!([refused(&one), refused(&other)], [0; 2]);
}

/// Looks up 20 keys, and returns the number that were loaded.
fn loads<V: Clone + Send + Sync + PartialEq + std::fmt::Debug + 'static>(
    cache: &Cache<u64, V>,
    make: impl Fn(u64) -> V,
) -> u64 {
    let mut loads = 0;
    for key in 0..20 {
        let value = cache.get_with(key, || {
            loads += 1;
            make(key)
        });
        assert_eq!(value, make(key));
    }
    loads
}

fn refused<V: Clone + Send + Sync + 'static>(cache: &Cache<u64, V>) -> u64 {
    cache.stats().tier(TierKind::Redis).unwrap().counts.refused
}

#[test]
fn versions_keep_their_hits_when_the_type_or_version_changes() {
    let Some(mut nodes) = Nodes::start() else { return };
    let (one, other) = (open::<Old>(&mut nodes, 0), open::<New>(&mut nodes, 0));
    let (raised, again) = (open::<New>(&mut nodes, 2), open::<Old>(&mut nodes, 0));
    let mut sums = [0; 4];
    for _ in 0..10 {
        sums[0] += loads(&one, old);
        sums[1] += loads(&other, new);
        sums[2] += loads(&raised, new);
        sums[3] += loads(&again, old);
    }
    assert_eq!(
        sums,
        [20, 20, 20, 0],
        "each version loads each key once; the last one has what the first loaded"
    );
    assert_eq!(
        [refused(&one), refused(&other), refused(&raised)],
        [0; 3],
        "no version sees entries of another"
    );
    assert_eq!(one.keys().unwrap().len(), 20);
}

type Change = fn(&Cache<u64, New>);

#[test]
fn change_by_one_version_removes_the_entry_of_the_other() {
    let Some(mut nodes) = Nodes::start() else { return };
    let (one, other) = (open::<Old>(&mut nodes, 0), open::<New>(&mut nodes, 0));
    let beside = open::<Old>(&mut nodes, 0);
    let changes: [(&str, Change); 10] = [
        ("insert", |cache| cache.insert(1, new(7))),
        ("remove", |cache| _ = cache.remove(&1)),
        ("take", |cache| drop(cache.take(&1).unwrap())),
        ("invalidate", |cache| cache.invalidate(&1).unwrap()),
        ("invalidate_tag", |cache| cache.invalidate_tag("users").unwrap()),
        ("invalidate_all", |cache| cache.invalidate_all().unwrap()),
        ("insert_many", |cache| cache.insert_many([(1, new(7)), (2, new(2))])),
        ("remove_many", |cache| _ = cache.remove_many(&[1, 2]).unwrap()),
        ("expire_in", |cache| {
            cache.insert_with(1, new(1), EntryOptions::new().ttl(Duration::from_secs(600)));
            assert!(cache.expire_in(&1, Duration::from_secs(60)).unwrap());
        }),
        ("clear", |cache| cache.clear().unwrap()),
    ];
    for (what, change) in changes {
        one.insert_with(1, old(1), EntryOptions::new().tag("users"));
        until_coherent("the insert of the other version removes it", &None, || other.get(&1));
        // The state that loads leave: each version has its own entry. A late notice keeps a load from being
        // stored.
        until("each version has its own entry", || {
            one.get_with(1, || old(1));
            other.get_with(1, || new(1));
            one.get(&1).is_some() && other.get(&1).is_some()
        });
        until("both nodes of a version have it", || beside.get(&1) == Some(old(1)));
        change(&other);
        for cache in [&one, &beside] {
            until_coherent(what, &None, || cache.get(&1));
        }
    }
}

#[test]
fn load_started_before_a_change_by_another_version_is_not_stored() {
    let Some(mut nodes) = Nodes::start() else { return };
    let (one, other) = (open::<Old>(&mut nodes, 0), open::<New>(&mut nodes, 0));
    let changes: [(&str, Change); 3] = [
        ("remove", |cache| _ = cache.remove(&1)),
        ("insert", |cache| cache.insert(1, new(7))),
        ("insert_many", |cache| cache.insert_many([(1, new(7)), (2, new(2))])),
    ];
    for (what, change) in changes {
        one.remove(&1);
        let (begun, changed) = (Barrier::new(2), Barrier::new(2));
        thread::scope(|scope| {
            scope.spawn(|| {
                one.get_with(1, || {
                    begun.wait();
                    changed.wait();
                    old(1)
                })
            });
            begun.wait();
            change(&other);
            changed.wait();
        });
        until_coherent(what, &None, || one.get(&1));
    }
}

#[test]
fn removal_reaches_a_version_that_has_just_started() {
    let Some(mut nodes) = Nodes::start() else { return };
    let one = open::<Old>(&mut nodes, 0);
    for version in 1..=20 {
        let newcomer = open::<New>(&mut nodes, version);
        newcomer.get_with(1, || new(1));
        // The first operation of this node after the other version started.
        one.remove(&1);
        until_coherent("removed", &None, || newcomer.get(&1));
    }
}

#[test]
fn counters_and_insert_if_absent_are_per_version() {
    let Some(mut nodes) = Nodes::start() else { return };
    let (one, other) = (open::<u64>(&mut nodes, 1), open::<u64>(&mut nodes, 2));
    let beside = open::<u64>(&mut nodes, 1);
    for step in 1..=5 {
        assert_eq!(one.increment(1, 1, 0).unwrap(), 2 * step - 1);
        assert_eq!(beside.increment(1, 1, 0).unwrap(), 2 * step);
        assert_eq!(other.increment(1, 1, 0).unwrap(), step);
    }
    assert!(one.insert_if_absent(2, 7).unwrap() && other.insert_if_absent(2, 8).unwrap());
    assert!(!beside.insert_if_absent(2, 9).unwrap());
    assert_eq!((one.get(&2), other.get(&2)), (Some(7), Some(8)));
    other.remove(&1);
    until_coherent("removed for all", &None, || one.get(&1));
}

#[test]
fn version_that_waited_for_a_load_of_another_loads_itself() {
    let Some(mut nodes) = Nodes::start() else { return };
    let (one, other) = (open::<Old>(&mut nodes, 0), open::<New>(&mut nodes, 0));
    let begun = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            one.get_with(1, || {
                begun.wait();
                old(1)
            })
        });
        begun.wait();
        assert_eq!(other.get_with(1, || new(1)), new(1));
    });
    assert_eq!((one.get(&1), other.get(&1)), (Some(old(1)), Some(new(1))), "both are there");
}

fn marks(server: &RedisServer) -> Vec<(String, String)> {
    let names = server.cli(&["--scan", "--pattern", "roll:users:*:generation"]);
    names.lines().map(|name| (name.to_owned(), server.cli(&["GET", name]))).collect()
}

fn entries(server: &RedisServer) -> usize {
    server
        .cli(&["--scan", "--pattern", "roll:users:*:x:*"])
        .lines()
        .filter(|name| !name.contains(":r:"))
        .count()
}

#[test]
fn unused_version_is_forgotten_and_its_entries_are_swept() {
    let Some(mut nodes) = Nodes::start() else { return };
    let former = open::<Old>(&mut nodes, 0);
    loads(&former, old);
    former.close().unwrap();
    assert_eq!(entries(&nodes.server), 20);
    let later = open::<New>(&mut nodes, 0);
    loads(&later, new);
    assert_eq!(entries(&nodes.server), 40, "for a while both are there");
    later.close().unwrap();
    // Sets the last use of both versions to 1970.
    for (name, mark) in marks(&nodes.server) {
        let mut parts: Vec<_> = mark.split(' ').map(str::to_owned).collect();
        assert_eq!(parts.len(), 3, "a generation and two versions: {mark}");
        let day = parts[1].rfind('@').unwrap();
        parts[1].replace_range(day + 1.., "1");
        let day = parts[2].rfind('@').unwrap();
        parts[2].replace_range(day + 1.., "1");
        nodes.server.cli(&["SET", &name, &parts.join(" ")]);
    }
    let later = open::<New>(&mut nodes, 0);
    assert!(marks(&nodes.server).iter().all(|(_, mark)| mark.split(' ').count() == 2), "one version is left");
    assert_eq!(loads(&later, new), 0, "its own entries are there");
    until("the others are swept", || {
        later.flush().unwrap();
        entries(&nodes.server) == 20
    });
    let back = open::<Old>(&mut nodes, 0);
    assert_eq!(loads(&back, old), 20, "what it had is gone: it may have missed removals");
}

#[test]
fn entries_of_an_earlier_build_are_misses_and_expire() {
    let Some(mut nodes) = Nodes::start() else { return };
    let cache = open::<Old>(&mut nodes, 0);
    loads(&cache, old);
    let (mark, text) = marks(&nodes.server).remove(0);
    let former = mark.replace("generation", &format!("{}:s:former", &text[..16]));
    nodes.server.cli(&["SET", &former, "a frame without a label"]);
    let other = open::<Old>(&mut nodes, 0);
    until("it expires", || {
        other.flush().unwrap();
        nodes.server.cli(&["PTTL", &former]).parse::<i64>().unwrap() > 0
    });
    assert_eq!(loads(&other, old), 0);
}
