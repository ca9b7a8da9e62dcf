//! Faults of Redis beneath a cache that can fall back to files.
//!
//! Every fault is real: of a server that the test started, or of a connection to it. Each scene
//! runs the same calls before, during and after the fault, with the same promises: no caller sees
//! an error, no call exceeds its limit, no miss runs its loader twice, and the tier is used again
//! without a restart.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use larder::{Cache, Placement, TierCounts, TierKind, ucache};
use larder_testkit::{Proxy, RedisServer};
use tempfile::TempDir;

use crate::redis::until;

/// The longest time of one call to a silent server. The limit is 1 s; the rest is for a busy
/// machine and its disk. Without the limit it would be 5 s.
const SILENCE: Duration = Duration::from_secs(4);
/// The longest time of one call to a server that refuses at once.
const PROMPT: Duration = Duration::from_millis(2500);
const PATIENCE: Duration = Duration::from_secs(60);

/// A cache over Redis and files, with the observations of its callers.
struct Scene {
    cache: Cache<u64, String>,
    limit: Duration,
    next: Cell<u64>,
    slowest: RefCell<(Duration, &'static str)>,
    _dir: TempDir,
}

impl Scene {
    fn new(url: &str, limit: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cache = ucache("scene").dir(dir.path()).redis(url).namespace("test").build().unwrap();
        Self { cache, limit, next: Cell::new(0), slowest: RefCell::default(), _dir: dir }
    }

    /// Makes a call, and asserts that it ends within the limit.
    fn call<T>(&self, what: &'static str, call: impl FnOnce(&Cache<u64, String>) -> T) -> T {
        let start = Instant::now();
        let outcome = call(&self.cache);
        let took = start.elapsed();
        assert!(took < self.limit, "{what} took {took:?}, allowed {:?}", self.limit);
        let mut slowest = self.slowest.borrow_mut();
        if took > slowest.0 {
            *slowest = (took, what);
        }
        outcome
    }

    /// Writes, reads, loads and removes ten new keys. Returns the placement of the last one.
    fn play(&self) -> Placement {
        self.play_with(10)
    }

    fn play_with(&self, keys: u64) -> Placement {
        let from = self.next.replace(self.next.get() + 100);
        let mut last = None;
        for key in from..from + keys {
            let placed = self.call("insert", |cache| cache.try_insert(key, key.to_string()));
            last = Some(placed.unwrap());
            assert_eq!(self.call("get", |cache| cache.get(&key)), Some(key.to_string()));
            self.load_once(key + 50);
            self.call("remove", |cache| cache.remove(&key));
            assert_eq!(self.call("get", |cache| cache.get(&key)), None, "{key} was removed");
        }
        last.unwrap()
    }

    /// Asserts that a miss runs its loader once, and that the value is cached afterwards.
    fn load_once(&self, key: u64) {
        for expect in [1, 0, 0] {
            let mut loads = 0;
            let value = self.call("get_with", |cache| {
                cache.get_with(key, || {
                    loads += 1;
                    key.to_string()
                })
            });
            assert_eq!((value, loads), (key.to_string(), expect), "of {key}");
        }
    }

    /// Asserts that entries stored before the fault are right or absent. Returns the number found.
    fn look_back(&self, keys: std::ops::Range<u64>) -> usize {
        let found = keys.map(|key| {
            let value = self.call("get", |cache| cache.get(&key));
            assert!(value.as_ref().is_none_or(|value| *value == key.to_string()), "{key}: {value:?}");
            usize::from(value.is_some())
        });
        found.sum()
    }

    fn is_home(&self, tier: TierKind) -> bool {
        let key = self.next.replace(self.next.get() + 1);
        self.call("insert", |cache| cache.try_insert(key, key.to_string())).unwrap().home == tier
    }

    /// Waits until entries go to Redis again, and returns the time that it took.
    fn recovers(&self) -> Duration {
        let start = Instant::now();
        while !self.is_home(TierKind::Redis) {
            assert!(start.elapsed() < PATIENCE, "Redis is not used again within {PATIENCE:?}");
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let took = start.elapsed();
        // By then, or soon after, the quarantined entries are reconciled.
        self.goes_to_redis();
        took
    }

    /// Runs the calls until entries go to Redis. A machine that stands still for a second may lose
    /// the connection at any time.
    fn goes_to_redis(&self) {
        until("entries go to Redis", || self.play().home == TierKind::Redis);
    }

    fn redis(&self) -> TierCounts {
        self.cache.stats().tier(TierKind::Redis).unwrap().counts
    }

    /// The number of writes that went to another tier because Redis refused them.
    fn fallbacks(&self) -> u64 {
        self.cache.stats().tiers.iter().map(|tier| tier.counts.fallbacks).sum()
    }

    /// Whether calls of every kind reach Redis: none is refused, and no circuit opens.
    ///
    /// The number of openings tells nothing: each probe that fails while the fault lasts is one more, and
    /// only the last one is followed by a closing.
    fn is_closed(&self) -> bool {
        let before = self.redis();
        let home = self.play_with(1).home;
        let after = self.redis();
        home == TierKind::Redis && (after.refusals, after.openings) == (before.refusals, before.openings)
    }

    /// Asserts that no write was lost and no loader failed, and prints a summary.
    fn end(&self, fault: &str, back: Duration) {
        until("every circuit is closed", || self.is_closed());
        let (stats, redis) = (self.cache.stats(), self.redis());
        assert_eq!((stats.cache.dropped, stats.cache.load_failures), (0, 0), "{stats}");
        let (slowest, what) = *self.slowest.borrow();
        println!(
            "{fault}: slowest {what} {slowest:?}, back after {back:?}, errors {}, refusals {}, openings {}, \
             fallbacks {}, refused {}",
            redis.errors,
            redis.refusals,
            redis.openings,
            self.fallbacks(),
            redis.refused
        );
    }
}

#[test]
fn calls_succeed_when_the_server_is_killed_and_restarted_empty() {
    let Some(mut server) = RedisServer::start() else { return };
    let scene = Scene::new(&server.url(), PROMPT);
    scene.goes_to_redis();
    server.kill();
    assert_ne!(scene.play().home, TierKind::Redis);
    scene.look_back(50..60);
    assert!(scene.redis().errors > 0);
    server.restart();
    let back = scene.recovers();
    scene.end("killed", back);
}

#[test]
fn calls_succeed_when_the_server_is_stopped() {
    let Some(server) = RedisServer::start() else { return };
    let scene = Scene::new(&server.url(), SILENCE);
    scene.play();
    server.pause();
    assert_ne!(scene.play().home, TierKind::Redis);
    scene.look_back(50..60);
    assert!(scene.redis().errors > 0);
    server.resume();
    let back = scene.recovers();
    assert_eq!(scene.look_back(50..60), 10, "what Redis had is there again");
    scene.end("stopped", back);
}

#[test]
fn calls_succeed_when_the_connection_swallows_data() {
    let Some(server) = RedisServer::start() else { return };
    let proxy = Proxy::to(server.port());
    let scene = Scene::new(&proxy.url(), SILENCE);
    scene.play();
    proxy.swallow(true);
    assert_ne!(scene.play().home, TierKind::Redis);
    assert!(scene.redis().errors > 0);
    proxy.swallow(false);
    // The swallowed bytes are missing in the stream of every connection.
    proxy.cut();
    let back = scene.recovers();
    assert_eq!(scene.look_back(50..60), 10);
    scene.end("swallowed", back);
}

#[test]
fn cache_builds_over_a_connection_that_swallows_data() {
    let Some(server) = RedisServer::start() else { return };
    let proxy = Proxy::to(server.port());
    proxy.swallow(true);
    let start = Instant::now();
    let scene = Scene::new(&proxy.url(), PROMPT);
    assert!(start.elapsed() < Duration::from_secs(5), "a build took {:?}", start.elapsed());
    assert_ne!(scene.play().home, TierKind::Redis);
    proxy.swallow(false);
    proxy.cut();
    let back = scene.recovers();
    scene.end("swallowed from the beginning", back);
}

#[test]
fn slow_server_is_waited_for() {
    let Some(server) = RedisServer::start() else { return };
    let proxy = Proxy::to(server.port());
    let scene = Scene::new(&proxy.url(), SILENCE);
    scene.play();
    proxy.delay(Duration::from_millis(100));
    // A slow server is not a lost one: callers wait for it.
    assert_eq!(scene.play_with(2).home, TierKind::Redis);
    assert_eq!(scene.look_back(50..55), 5);
    assert_eq!(scene.redis().errors, 0);
    proxy.delay(Duration::ZERO);
    let back = scene.recovers();
    assert_eq!(scene.fallbacks(), 0);
    scene.end("slow", back);
}

#[test]
fn server_that_is_slow_from_the_beginning_is_used() {
    let Some(server) = RedisServer::start() else { return };
    let proxy = Proxy::to(server.port());
    proxy.delay(Duration::from_millis(100));
    let scene = Scene::new(&proxy.url(), SILENCE);
    assert_eq!(scene.play_with(2).home, TierKind::Redis);
    proxy.delay(Duration::ZERO);
    let back = scene.recovers();
    scene.end("slow from the beginning", back);
}

#[test]
fn calls_succeed_when_the_server_is_out_of_memory() {
    let Some(server) = RedisServer::start_with(&["--maxmemory-policy", "noeviction"]) else { return };
    let scene = Scene::new(&server.url(), PROMPT);
    scene.play();
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_ne!(scene.play().home, TierKind::Redis);
    assert_eq!(scene.look_back(50..60), 10, "what is there is read on");
    assert!(scene.redis().errors > 0 && scene.fallbacks() > 0);
    assert!(scene.redis().openings > 0, "writes are left alone for a while");
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    let back = scene.recovers();
    scene.end("out of memory", back);
}

#[test]
fn calls_succeed_when_the_server_becomes_a_read_only_replica() {
    let Some(server) = RedisServer::start() else { return };
    let Some(master) = RedisServer::start() else { return };
    let scene = Scene::new(&server.url(), PROMPT);
    scene.play();
    server.cli(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    assert_ne!(scene.play().home, TierKind::Redis);
    scene.look_back(50..60);
    assert!(scene.redis().errors > 0);
    server.cli(&["REPLICAOF", "NO", "ONE"]);
    let back = scene.recovers();
    scene.end("demoted", back);
}

#[test]
fn replica_is_used_once_it_becomes_a_master() {
    let Some(server) = RedisServer::start() else { return };
    let Some(master) = RedisServer::start() else { return };
    server.cli(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    let scene = Scene::new(&server.url(), PROMPT);
    assert_ne!(scene.play().home, TierKind::Redis);
    assert!(scene.redis().errors > 0);
    server.cli(&["REPLICAOF", "NO", "ONE"]);
    let back = scene.recovers();
    scene.end("a replica", back);
}

#[test]
fn server_is_used_once_the_password_is_right() {
    let Some(server) = RedisServer::start_with(&["--requirepass", "right"]) else { return };
    let url = format!("redis://:wrong@127.0.0.1:{}", server.port());
    let scene = Scene::new(&url, PROMPT);
    assert_ne!(scene.play().home, TierKind::Redis);
    assert!(scene.redis().errors > 0);
    server.cli(&["-a", "right", "--no-auth-warning", "CONFIG", "SET", "requirepass", "wrong"]);
    let back = scene.recovers();
    scene.end("wrong password", back);
}

#[test]
fn redis_values_of_another_type_are_misses_and_overwritten() {
    let Some(server) = RedisServer::start() else { return };
    let scene = Scene::new(&server.url(), PROMPT);
    scene.play();
    let names = entries(&server);
    assert_eq!(names.len(), 10);
    for name in &names {
        server.cli(&["DEL", name]);
        server.cli(&["LPUSH", name, "a list"]);
    }
    for key in 50..60 {
        assert!(scene.call("get", |cache| cache.get(&key)).is_none_or(|value| value == key.to_string()));
        assert!(!scene.call("contains_key", |cache| cache.contains_key(&(key + 1000))));
    }
    let back = scene.recovers();
    for key in 50..60 {
        scene.call("remove", |cache| cache.remove(&key));
        scene.load_once(key);
    }
    assert_eq!(scene.look_back(50..60), 10, "our write takes the place");
    assert_eq!(scene.redis().errors, 0);
    scene.end("another type", back);
}

#[test]
fn foreign_values_are_misses_and_overwritten() {
    let Some(server) = RedisServer::start() else { return };
    let scene = Scene::new(&server.url(), PROMPT);
    scene.play();
    for name in entries(&server) {
        server.cli(&["SET", &name, "what somebody else put here"]);
    }
    for key in 50..60 {
        assert!(scene.call("get", |cache| cache.get(&key)).is_none_or(|value| value == key.to_string()));
    }
    let back = scene.recovers();
    for key in 50..60 {
        scene.call("remove", |cache| cache.remove(&key));
        scene.load_once(key);
    }
    assert!(scene.redis().refused > 0, "{:?}", scene.redis());
    assert_eq!(scene.redis().errors, 0);
    scene.end("a foreign value", back);
}

#[test]
fn flushall_removes_copies_and_writes_continue() {
    let Some(server) = RedisServer::start() else { return };
    let scene = Scene::new(&server.url(), PROMPT);
    scene.play();
    server.cli(&["FLUSHALL"]);
    until("copies in memory go as well", || scene.look_back(50..60) == 0);
    assert!(scene.cache.stats().cache.misses >= 10);
    scene.goes_to_redis();
    let back = scene.recovers();
    assert_eq!(scene.redis().errors, 0);
    scene.end("flushed", back);
}

#[test]
fn killed_connections_are_reopened() {
    let Some(server) = RedisServer::start() else { return };
    let scene = Scene::new(&server.url(), PROMPT);
    let mut back = Duration::ZERO;
    for _ in 0..5 {
        scene.play();
        server.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        scene.play();
        back = back.max(scene.recovers());
    }
    assert!(back < Duration::from_secs(10), "back after {back:?}");
    scene.end("connections killed", back);
}

#[test]
fn tasks_succeed_when_the_server_is_killed() {
    let Some(mut server) = RedisServer::start() else { return };
    let scene = Scene::new(&server.url(), PROMPT);
    let cache = scene.cache.to_async();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let round = |from: u64| {
        runtime.block_on(async {
            let tasks: Vec<_> = (from..from + 50)
                .map(|key| {
                    let cache = cache.clone();
                    tokio::spawn(async move {
                        let start = Instant::now();
                        let placed = cache.try_insert(key, key.to_string()).await.unwrap();
                        let value = cache.get_with(key, async { "loaded".to_owned() }).await;
                        assert_eq!(value, key.to_string());
                        (placed.home, start.elapsed())
                    })
                })
                .collect();
            let mut homes = Vec::new();
            for task in tasks {
                let (home, took) = task.await.unwrap();
                assert!(took < SILENCE, "two calls took {took:?}");
                homes.push(home);
            }
            homes
        })
    };
    assert!(round(1000).iter().all(|home| *home == TierKind::Redis));
    server.kill();
    assert!(round(2000).iter().all(|home| *home != TierKind::Redis));
    server.restart();
    let back = scene.recovers();
    assert!(round(3000).iter().all(|home| *home == TierKind::Redis));
    scene.end("killed under tasks", back);
}

/// The names of the entries on a server.
fn entries(server: &RedisServer) -> Vec<String> {
    server
        .cli(&["--scan", "--pattern", "test:scene:*:[sxh]:*"])
        .lines()
        .filter(|name| !name.contains(":r:") && !name.contains(":l:"))
        .map(str::to_owned)
        .collect()
}
