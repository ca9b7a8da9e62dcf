//! Reads during repairs and invalidations: entries that one pass over the tiers would miss.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use larder::{Cache, EntryOptions};
use larder_core::frame::Frame;
use larder_core::key::EncodedKey;
use larder_core::tier::{BoxFuture, Capability, Tier, TierKind, Usage};
use larder_core::{Bytes, Result};
use larder_exec::runtime::{Blocking, block_on};
use larder_testkit::{HashMapTier, MapStorage, Proxy, RedisServer};
use parking_lot::Mutex;

use super::{Nodes, shared_tier, until};
use crate::fixtures::{Plan, TestEngine};

type Hook = Box<dyn FnOnce() + Send>;

/// A local tier that runs a hook just before its next read.
struct Hooked {
    tier: HashMapTier,
    hook: Mutex<Option<Hook>>,
}

impl Hooked {
    fn new() -> Arc<Self> {
        let tier = HashMapTier::on(&MapStorage::default()).without_streams();
        Arc::new(Self { tier, hook: Mutex::default() })
    }
}

impl Tier for Hooked {
    fn kind(&self) -> TierKind {
        self.tier.kind()
    }

    fn capability(&self) -> Capability {
        self.tier.capability()
    }

    fn get<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        let hook = self.hook.lock().take();
        hook.into_iter().for_each(|hook| hook());
        self.tier.get(key)
    }

    fn put<'a>(&'a self, key: &'a EncodedKey, frame: &'a Frame) -> BoxFuture<'a, Result<()>> {
        self.tier.put(key, frame)
    }

    fn remove<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        self.tier.remove(key)
    }

    fn contains<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        self.tier.contains(key)
    }

    fn clear(&self) -> BoxFuture<'_, Result<()>> {
        self.tier.clear()
    }

    fn scan<'a>(&'a self, visit: &'a mut (dyn FnMut(&[u8]) + Send)) -> BoxFuture<'a, Result<()>> {
        self.tier.scan(visit)
    }

    fn usage(&self) -> Usage {
        self.tier.usage()
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        self.tier.flush()
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        self.tier.close()
    }
}

type Node = Arc<TestEngine<Vec<u8>>>;

/// A node behind the proxy, with one local tier and no memory.
fn node(line: &Proxy, own: &Arc<Hooked>) -> Node {
    let (tier, nodes) = shared_tier(line.url(), "reads");
    let tiers = vec![tier as Arc<dyn Tier>, Arc::clone(own) as Arc<dyn Tier>];
    Plan { nodes: Some(nodes), ..Plan::over(tiers).without_memory() }.build_for()
}

type Finds = fn(&Node) -> bool;

/// Every kind of read, each with a check whether it finds the entry.
const READS: [(&str, Finds); 7] = [
    ("get", |node| block_on(node.get::<Blocking>(&1)).unwrap().is_some()),
    ("contains_key", |node| block_on(node.contains_key::<Blocking>(&1)).unwrap()),
    ("inspect", |node| block_on(node.inspect::<Blocking>(&1)).unwrap().is_some()),
    ("open", |node| node.open(&1).unwrap().is_some()),
    ("explain", |node| block_on(node.explain::<Blocking>(&1)).unwrap().home.is_some()),
    ("get_many", |node| block_on(node.get_many::<Blocking>(&[1]))[0].is_some()),
    ("the look before a load", |node| {
        let loads = AtomicU64::new(0);
        let loader = || async {
            loads.fetch_add(1, Ordering::Relaxed);
            vec![9]
        };
        block_on(node.get_with::<Blocking, _, _>(1, loader)) == [2] && loads.into_inner() == 0
    }),
];

/// The fault: some reads missed an entry while a repair moved it to Redis. The cause: only one of
/// the walks over the tiers retried. The others read Redis before the repair stored the entry
/// there, and the local tier after the repair had removed it.
#[test]
fn every_read_finds_an_entry_that_a_concurrent_repair_moves() {
    for (name, finds) in READS {
        let Some(server) = RedisServer::start() else { return };
        let (line, own) = (Arc::new(Proxy::to(server.port())), Hooked::new());
        let node = node(&line, &own);
        let insert = |key| {
            let stored = block_on(node.insert::<Blocking>(key, vec![2], EntryOptions::new()));
            stored.unwrap().home
        };
        assert_eq!(insert(0), TierKind::Redis);
        line.swallow(true);
        until("the node notices", || insert(1) != TierKind::Redis);
        let (healed, repaired) = (Arc::clone(&line), Arc::downgrade(&node));
        *own.hook.lock() = Some(Box::new(move || {
            healed.swallow(false);
            healed.cut();
            let is_repaired = || repaired.upgrade().is_some_and(|node| node.stats().cache.repaired > 0);
            until("it is repaired", is_repaired);
        }));
        assert!(finds(&node), "{name}");
        assert!(own.hook.lock().is_none(), "{name} asked the tier of this node");
        block_on(node.close::<Blocking>()).unwrap();
    }
}

/// While Redis is away, every read is served from memory, unconfirmed.
#[test]
fn every_read_is_served_from_memory_unconfirmed_during_an_outage() {
    let Some(mut nodes) = Nodes::start() else { return };
    let line = Proxy::to(nodes.server.port());
    nodes.dirs.push(tempfile::tempdir().unwrap());
    let dir = nodes.dirs[0].path();
    let node: Cache<u64, larder::Bytes> =
        larder::ucache("reads").dir(dir).redis(line.url()).namespace("reads").build().unwrap();
    let value = larder::Bytes::from_static(b"value");
    node.insert(1, value.clone());
    assert_eq!(node.get(&1), Some(value.clone()));
    line.swallow(true);
    until("the node notices", || node.try_insert(2, value.clone()).unwrap().home != TierKind::Redis);
    assert_eq!(node.get(&1), Some(value.clone()));
    assert_eq!(node.get_many(&[1]), [Some(value.clone())]);
    assert!(node.contains_key(&1) && node.open(&1).unwrap().is_some());
    assert!(!node.inspect(&1).unwrap().unwrap().confirmed);
    assert_eq!(node.get_with(1, || unreachable!("it is there")), value);
}

type Invalidate = fn(&Cache<String, u64>);

/// Calls that make an entry stale without removing it from Redis.
const INVALIDATIONS: [(&str, Invalidate); 2] = [
    ("invalidate_all", |node| node.invalidate_all().unwrap()),
    ("invalidate_tag", |node| node.invalidate_tag("tag").unwrap()),
];

type Load = fn(&Cache<String, u64>, String, &AtomicU64) -> Option<u64>;

const LOADS: [(&str, Load); 3] = [
    ("get_with", |node, key, loads| Some(node.get_with(key, || loads.fetch_add(1, Ordering::Relaxed) + 100))),
    ("get_many_with", |node, key, loads| {
        let loader = |missing: Vec<String>| {
            loads.fetch_add(1, Ordering::Relaxed);
            missing.into_iter().map(|key| (key, 100)).collect::<Vec<_>>()
        };
        node.get_many_with(vec![key.clone(), format!("{key} beside")], loader)[0]
    }),
    ("async get_with", |node, key, loads| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let tasks = node.to_async();
        Some(runtime.block_on(tasks.get_with(key, async { loads.fetch_add(1, Ordering::Relaxed) + 100 })))
    }),
];

/// The fault: a load after an invalidation was not stored. The cause: the read before the load took
/// the entry version that the store is conditioned on, and then removed the invalidated entry,
/// which changes the version.
#[test]
fn load_after_an_invalidation_is_stored() {
    for memory_bytes in [0, 64 << 20] {
        let Some(mut nodes) = Nodes::start() else { return };
        let node = nodes.builder().memory_bytes(memory_bytes).build().unwrap();
        let other = nodes.node();
        for (what, invalidate) in INVALIDATIONS {
            for (how, load) in LOADS {
                // A key of its own: a late notice of a former load would keep this one from being stored.
                let (key, loads) = (format!("{how} after {what}"), AtomicU64::new(0));
                node.insert_with(key.clone(), 1, EntryOptions::new().tag("tag"));
                invalidate(&node);
                for _ in 0..3 {
                    let found = load(&node, key.clone(), &loads);
                    assert_eq!(found, Some(100), "{how} after {what}\n{}", node.stats());
                }
                assert_eq!(loads.into_inner(), 1, "{how} after {what}, {memory_bytes} bytes of memory");
                assert_eq!(other.get(&key), Some(100), "{how} after {what}: other nodes see it");
                node.remove_many(&[key.clone(), format!("{key} beside")]).unwrap();
            }
        }
    }
}
