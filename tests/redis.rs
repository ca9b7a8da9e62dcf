//! The Redis tier, against servers that each test starts for itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use larder::{ErrorKind, Tier, Time};
use larder_core::bus::{Bus, Listener, Notice};
use larder_core::clock::Clock;
use larder_core::frame::{Frame, Header};
use larder_core::key::EncodedKey;
use larder_core::stats::TierCounters;
use larder_engine::layers::{Breaker, Limit};
use larder_testkit::conformance::{self, Subject};
use larder_testkit::{FaultyTier, ManualClock, RedisServer, block_on, sample};
use larder_tiers::redis::{RedisOptions, RedisTier};

/// The limit for actions that take seconds on a busy machine, or that wait for a breaker.
const PATIENCE: Duration = Duration::from_secs(60);

fn open(server: &RedisServer) -> RedisTier {
    open_as(server, "test")
}

fn open_as(server: &RedisServer, namespace: &str) -> RedisTier {
    RedisTier::open(RedisOptions::new(server.url(), namespace, "cache")).unwrap()
}

/// Waits until `is_so`, and returns the time that it took.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
    start.elapsed()
}

fn put(tier: &RedisTier, number: u64, seed: u64) {
    let key = sample::key(number);
    block_on(tier.put(&key, &sample::frame(&key, sample::payload(seed, 100)))).unwrap();
}

fn has(tier: &RedisTier, number: u64) -> bool {
    block_on(tier.get(&sample::key(number))).unwrap().is_some()
}

#[test]
fn redis_tier_conforms() {
    let Some(server) = RedisServer::start() else { return };
    let (url, next) = (server.url(), AtomicU64::new(0));
    let subject = Subject::new("redis", move || {
        let namespace = format!("place {}", next.fetch_add(1, Ordering::Relaxed));
        let url = url.clone();
        move || RedisTier::open(RedisOptions::new(url.clone(), &namespace, "cache")).unwrap()
    });
    conformance::run(&subject).assert_all();
    conformance::run(&subject.through_arc()).assert_all();
    conformance::run(&subject.through_box()).assert_all();
    let layered = subject.wrapped("in all layers", |tier| Box::new(crate::conformance::layered(tier)));
    conformance::run(&layered).assert_all();
    let faulty = subject.wrapped("with faults", |tier| Box::new(FaultyTier::new(tier)));
    conformance::run(&faulty).assert_all();
}

/// The clock of the breaker stands still: a breaker that opened would stay open.
#[test]
fn breaker_does_not_delay_use_of_a_recovered_server() {
    let Some(mut server) = RedisServer::start() else { return };
    let (counters, clock) =
        (Arc::<TierCounters>::default(), Arc::new(ManualClock::default()) as Arc<dyn Clock>);
    let limited = Limit::new(open(&server), Arc::clone(&counters), Duration::from_secs(5));
    let tier = Breaker::new(limited, Arc::clone(&counters), &clock);
    let key = sample::key(1);
    server.kill();
    until("the loss is noticed", || !tier.healthy());
    for _ in 0..100 {
        assert_eq!(block_on(tier.get(&key)).unwrap_err().kind(), ErrorKind::Unavailable);
        let batch = block_on(tier.remove_many(std::slice::from_ref(&key)));
        assert!(batch.iter().all(Result::is_err) && !tier.takes_removals());
    }
    server.restart();
    until("the connection stands", || tier.healthy());
    assert_eq!(block_on(tier.get(&key)).unwrap(), None);
    assert_eq!((counters.openings.get(), counters.refusals.get()), (0, 0));
}

#[test]
fn short_text_keys_are_readable_in_redis() {
    let Some(server) = RedisServer::start() else { return };
    let tier = open(&server);
    let key = EncodedKey::new(*b"\xa5alice");
    block_on(tier.put(&key, &sample::frame(&key, sample::payload(1, 10)))).unwrap();
    let names = server.cli(&["--scan", "--pattern", "test:cache:*:s:alice"]);
    assert_eq!(names.lines().count(), 1, "{names}");
}

#[test]
fn deadline_is_set_as_expiry_in_redis() {
    let Some(server) = RedisServer::start() else { return };
    let tier = open(&server);
    let now = larder::Clock::now(&larder::SystemClock).as_millis();
    let key = sample::key(1);
    let in_a_minute = Time::from_millis(now + 60_000);
    let header =
        Header { deadline: Time::from_millis(now + 1), stale_deadline: in_a_minute, ..sample::header(3) };
    block_on(tier.put(&key, &Frame::new(&header, &key, b"", "abc".into()))).unwrap();
    let name = server.cli(&["--scan", "--pattern", "*:[sxh]:*"]);
    let left: i64 = server.cli(&["PTTL", &name]).parse().unwrap();
    assert!((50_000..=60_000).contains(&left), "PTTL {left}");
    let header =
        Header { deadline: Time::from_millis(now - 5), stale_deadline: Time::from_millis(now - 5), ..header };
    block_on(tier.put(&key, &Frame::new(&header, &key, b"", "abc".into()))).unwrap();
    until("an entry past its deadline goes", || !has(&tier, 1));
}

#[test]
fn clear_removes_older_entries_for_all_nodes() {
    let Some(server) = RedisServer::start() else { return };
    let (one, other, foreign) = (open(&server), open(&server), open_as(&server, "foreign"));
    (0..200).for_each(|number| put(&one, number, 1));
    put(&foreign, 1, 1);
    assert!((0..200).all(|number| has(&other, number)));
    block_on(one.clear()).unwrap();
    assert!((0..200).all(|number| !has(&other, number)), "an older entry after a clear");
    put(&other, 3, 2);
    assert!(has(&one, 3) && has(&foreign, 1));
    let left = || server.cli(&["--scan", "--pattern", "test:*:[sxh]:*"]).lines().count();
    until("what the clear left behind is unlinked", || left() == 1);
    assert!(has(&one, 3) && has(&other, 3) && has(&foreign, 1));
}

#[test]
fn lost_partition_epoch_invalidates_its_entries() {
    let Some(server) = RedisServer::start() else { return };
    let tier = open(&server);
    (0..100).for_each(|number| put(&tier, number, 1));
    for mark in server.cli(&["--scan", "--pattern", "*:generation"]).lines() {
        server.cli(&["DEL", mark]);
    }
    assert!((0..100).all(|number| !has(&tier, number)));
    put(&tier, 1, 2);
    assert!(has(&tier, 1));
    server.cli(&["FLUSHALL"]);
    assert!(!has(&tier, 1));
    put(&tier, 1, 3);
    assert!(has(&tier, 1));
}

#[test]
fn foreign_redis_values_are_misses_and_overwritten() {
    let Some(server) = RedisServer::start() else { return };
    let tier = open(&server);
    put(&tier, 1, 1);
    let name = server.cli(&["--scan", "--pattern", "*:[sxh]:*"]);
    server.cli(&["DEL", &name]);
    server.cli(&["LPUSH", &name, "a list"]);
    assert!(!has(&tier, 1));
    assert!(!block_on(tier.contains(&sample::key(1))).unwrap());
    assert_eq!(block_on(tier.head(&sample::key(1))).unwrap(), None);
    put(&tier, 1, 2);
    assert!(has(&tier, 1));
    let partition = name.split(':').nth(2).unwrap().to_owned();
    let mark = format!("test:cache:{partition}:generation");
    server.cli(&["DEL", &mark]);
    server.cli(&["LPUSH", &mark, "a list"]);
    assert!(!has(&tier, 1), "without a mark nothing counts");
    put(&tier, 1, 3);
    assert!(has(&tier, 1), "a mark is made over what was there");
}

#[test]
fn batch_of_100_is_one_command() {
    let Some(server) = RedisServer::start() else { return };
    let tier = crate::conformance::layered(open(&server));
    let keys: Vec<_> = (0..100).map(sample::key).collect();
    let entries: Vec<_> =
        keys.iter().map(|key| (key.clone(), sample::frame(key, sample::payload(1, 100)))).collect();
    assert!(block_on(tier.put_many(&entries)).into_iter().all(|stored| stored.is_ok()));
    let before = mgets(&server);
    let found = block_on(tier.get_many(&keys));
    assert!(found.into_iter().all(|found| found.unwrap().is_some()));
    assert_eq!(mgets(&server) - before, 1);
}

/// The number of `MGET` commands that the server has run.
fn mgets(server: &RedisServer) -> u64 {
    let stats = server.cli(&["INFO", "commandstats"]);
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_mget:calls="));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

#[test]
fn error_for_a_wrong_url_hides_the_password() {
    for url in [
        "",
        "localhost",
        "http://user:hunter2@host",
        "redis://:hunter2@host/x",
        "rediss://:hunter2@host?ca=/nowhere",
    ] {
        let error = RedisTier::open(RedisOptions::new(url, "test", "cache")).unwrap_err();
        let told = format!("{error} {error:?}");
        assert_eq!(error.kind(), ErrorKind::Config, "{told}");
        assert!(told.contains("option `redis`") && !told.contains("hunter2"), "{told}");
    }
}

#[test]
fn password_and_database_of_the_url_are_used() {
    let Some(server) = RedisServer::start_with(&["--requirepass", "hunter2"]) else { return };
    let host = format!("127.0.0.1:{}", server.port());
    let tier = |url: String| RedisTier::open(RedisOptions::new(url, "test", "cache")).unwrap();
    let wrong = tier(format!("redis://:wrong@{host}"));
    let error = wrong.check().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(!format!("{error:?}").contains("wrong@"), "{error:?}");
    let right = tier(format!("redis://:hunter2@{host}/3"));
    right.check().unwrap();
    put(&right, 1, 1);
    let entries = server.cli(&["-a", "hunter2", "--no-auth-warning", "-n", "3", "DBSIZE"]);
    assert!(entries.parse::<u64>().unwrap() > 0, "{entries}");
}

#[test]
fn calls_fail_at_once_during_an_outage_and_succeed_afterwards() {
    let Some(mut server) = RedisServer::start() else { return };
    let tier = open(&server);
    put(&tier, 1, 1);
    assert_eq!(tier.servers()[0].version.split('.').count(), 3);
    server.kill();
    until("the loss is noticed", || !tier.healthy());
    let start = Instant::now();
    for _ in 0..1000 {
        let error = block_on(tier.get(&sample::key(1))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
    let each = start.elapsed() / 1000;
    assert!(each < Duration::from_millis(5), "a call took {each:?} while the server was away");
    server.restart();
    let back = until("the server is back and used", || tier.healthy());
    put(&tier, 1, 2);
    assert!(has(&tier, 1));
    println!("while away {each:?} a call; back {back:?} after the restart");
}

#[test]
fn calls_to_a_silent_server_time_out() {
    let Some(server) = RedisServer::start() else { return };
    let tier = open(&server);
    put(&tier, 1, 1);
    server.pause();
    let start = Instant::now();
    let error = block_on(tier.get(&sample::key(1))).unwrap_err();
    let first = start.elapsed();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(first < Duration::from_secs(4), "the first call took {first:?}");
    let start = Instant::now();
    block_on(tier.get(&sample::key(1))).unwrap_err();
    let later = start.elapsed();
    assert!(later < Duration::from_millis(400), "a later call took {later:?}");
    server.resume();
    let back = until("the server is used again", || tier.healthy());
    assert!(has(&tier, 1));
    println!("silent: first call {first:?}, later {later:?}; back {back:?} after it went on");
}

#[test]
fn redis_thread_ends_with_the_last_tier() {
    let Some(server) = RedisServer::start() else { return };
    let threads = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|name| name.trim() == "larder-redis").count()
    };
    let (one, other) = (open(&server), open(&server));
    assert_eq!(threads(), 1);
    drop(one);
    put(&other, 1, 1);
    drop(other);
    assert_eq!(threads(), 0);
    put(&open(&server), 1, 1);
    assert_eq!(threads(), 0);
}

#[derive(Default)]
pub(crate) struct Heard(std::sync::Mutex<Vec<(Notice, Instant)>>);

impl Listener for Heard {
    fn told(&self, notice: Notice) {
        self.0.lock().unwrap().push((notice, Instant::now()));
    }
}

impl Heard {
    pub(crate) fn count(&self, notice: &Notice) -> usize {
        self.0.lock().unwrap().iter().filter(|(heard, _)| heard == notice).count()
    }
}

fn listening(server: &RedisServer) -> (RedisTier, Arc<Heard>) {
    let options = RedisOptions { notices: true, ..RedisOptions::new(server.url(), "test", "cache") };
    let (tier, heard) = (RedisTier::open(options).unwrap(), Arc::new(Heard::default()));
    tier.listen(Arc::clone(&heard) as Arc<dyn Listener>);
    (tier, heard)
}

#[test]
fn notices_report_changes_of_others_and_not_own_changes() {
    let Some(server) = RedisServer::start() else { return };
    let (one, heard) = listening(&server);
    let other = open(&server);
    put(&one, 1, 1);
    put(&other, 2, 1);
    let long = EncodedKey::new([7; 300]);
    block_on(other.put(&long, &sample::frame(&long, sample::payload(1, 10)))).unwrap();
    block_on(other.remove(&sample::key(2))).unwrap();
    until("two changes of a key", || heard.count(&Notice::Changed(sample::key(2))) >= 2);
    assert_eq!(heard.count(&Notice::ChangedDigest(long.digest())), 1);
    assert_eq!(heard.count(&Notice::Changed(sample::key(1))), 0);
    assert_eq!(heard.count(&Notice::Distrust), 0);
    block_on(other.clear()).unwrap();
    until("a clear", || heard.count(&Notice::Distrust) > 0);
}

#[test]
fn notice_of_a_change_arrives_within_a_few_round_trips() {
    let Some(server) = RedisServer::start() else { return };
    let (_one, heard) = listening(&server);
    let other = open(&server);
    let mut lags = Vec::new();
    for number in 0..1000 {
        let begun = Instant::now();
        put(&other, number, 1);
        let notice = Notice::Changed(sample::key(number));
        until("the change", || heard.count(&notice) == 1);
        let heard = heard.0.lock().unwrap();
        let at = heard.iter().find(|(told, _)| *told == notice).unwrap().1;
        lags.push(at.saturating_duration_since(begun));
    }
    lags.sort();
    println!("from its beginning a change is heard: p50 {:?}, p99 {:?}", lags[500], lags[990]);
    assert!(lags[500] < Duration::from_millis(250));
}

#[test]
fn connection_gap_is_reported_and_contact_is_dated() {
    let Some(mut server) = RedisServer::start() else { return };
    let (tier, heard) = listening(&server);
    let fresh = |tier: &RedisTier| tier.last_contact().unwrap().elapsed() < Duration::from_secs(1);
    until("contact", || fresh(&tier));
    server.pause();
    until("contact is older than a lease, and lost", || !fresh(&tier) && !tier.healthy());
    server.resume();
    until("contact is fresh again", || fresh(&tier));
    let before = heard.count(&Notice::Distrust);
    assert!(before > 0, "after a gap");
    server.restart();
    until("the next connection distrusts", || tier.healthy() && heard.count(&Notice::Distrust) > before);
    let other = open(&server);
    put(&other, 5, 1);
    until("notices come again", || heard.count(&Notice::Changed(sample::key(5))) == 1);
}

mod caches {
    //! Redis beneath a cache.

    use larder::{Cache, Placement, Sharing, TierKind, ucache};

    use super::*;

    struct Done<'a>(&'a AtomicU64);

    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(1, Ordering::Release);
        }
    }

    fn cache(url: &str, dir: &std::path::Path) -> Cache<u64, String> {
        ucache("shared").dir(dir).redis(url).namespace("test").build().unwrap()
    }

    fn home(cache: &Cache<u64, String>, key: u64, len: usize) -> Placement {
        cache.try_insert(key, "x".repeat(len)).unwrap()
    }

    #[test]
    fn get_many_of_a_cache_is_one_command() {
        let Some(server) = RedisServer::start() else { return };
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(&server.url(), dir.path());
        cache.insert_many((0..100).map(|key| (key, key.to_string())));
        let before = super::mgets(&server);
        let keys: Vec<u64> = (0..110).collect();
        let values = cache.get_many(&keys);
        let expect: Vec<_> = keys.iter().map(|key| (*key < 100).then(|| key.to_string())).collect();
        assert_eq!((values, super::mgets(&server) - before), (expect, 1));
    }

    #[test]
    fn stats_contain_version_and_memory_of_the_server() {
        let Some(server) = RedisServer::start_with(&["--maxmemory", "1gb"]) else { return };
        let dir = tempfile::tempdir().unwrap();
        let stats = cache(&server.url(), dir.path()).stats();
        let [facts] = &stats.tier(TierKind::Redis).unwrap().servers[..] else { panic!("{stats}") };
        let info = server.cli(&["INFO", "server"]);
        assert!(info.contains(&format!("redis_version:{}", facts.version)), "{facts}");
        assert!(facts.memory_bytes > 100_000 && facts.memory_bytes_max == 1 << 30, "{facts}");
        assert!(stats.to_string().contains(&format!("redis   version {}", facts.version)), "{stats}");
    }

    /// The URL of a port at which no server listens.
    fn nowhere() -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("redis://{}", listener.local_addr().unwrap())
    }

    #[test]
    fn caches_see_changes_of_each_other() {
        let Some(server) = RedisServer::start() else { return };
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [one, other] = dirs.each_ref().map(|dir| cache(&server.url(), dir.path()));
        assert_eq!(home(&one, 1, 10).home, TierKind::Redis);
        assert_eq!(other.get(&1).as_deref(), Some("xxxxxxxxxx"));
        other.insert(1, "changed".to_owned());
        until("it hears of the change", || one.get(&1).as_deref() == Some("changed"));
        assert!(other.remove(&1));
        until("it hears of the removal", || one.get(&1).is_none());
        one.insert(2, "two".to_owned());
        other.clear().unwrap();
        until("it hears of the clear", || one.get(&2).is_none());
        one.close().unwrap();
        other.close().unwrap();
    }

    /// A node alone numbers its own invalidations. These numbers must not apply to entries of other
    /// nodes once it shares a server with them.
    #[test]
    fn local_invalidations_do_not_apply_to_entries_of_other_nodes() {
        let Some(server) = RedisServer::start() else { return };
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let alone = ucache::<u64, String>("shared").dir(dirs[0].path()).build().unwrap();
        alone.insert(1, "before".to_owned());
        alone.invalidate_all().unwrap();
        alone.clear().unwrap();
        alone.close().unwrap();
        let [one, other] = dirs.each_ref().map(|dir| cache(&server.url(), dir.path()));
        assert_eq!(home(&other, 2, 3).home, TierKind::Redis);
        assert_eq!(one.get(&2).as_deref(), Some("xxx"));
        assert!(one.contains_key(&2));
        assert_eq!(one.explain(&2).unwrap().home, Some(TierKind::Redis));
        one.clear().unwrap();
        assert_eq!(home(&other, 2, 4).home, TierKind::Redis);
        assert_eq!(one.get(&2).as_deref(), Some("xxxx"));
    }

    /// The rights that a user in production may have: its own keys, no administration.
    #[cfg(unix)]
    #[test]
    fn unix_socket_restricted_user_and_database_are_enough() {
        let dirs = [0; 3].map(|_| tempfile::tempdir().unwrap());
        let socket = dirs[2].path().join("redis.sock").display().to_string();
        let options = ["--unixsocket", &socket, "--maxmemory-clients", "0"];
        let Some(server) = RedisServer::start_with(&options) else { return };
        let rights = ["~test:*", "+@all", "-@dangerous", "-@admin"];
        server.cli(&[&["ACL", "SETUSER", "app", "on", ">se:cr@t"], &rights[..]].concat());
        let urls = [
            format!("redis+unix://{socket}?db=3&user=app&pass=se%3Acr%40t"),
            format!("redis://app:se%3Acr%40t@127.0.0.1:{}/3", server.port()),
        ];
        let [one, other] = [0, 1].map(|at| cache(&urls[at], dirs[at].path()));
        assert_eq!(home(&one, 1, 10).home, TierKind::Redis);
        until("a copy serves", || {
            other.get(&1).is_some() && other.inspect(&1).unwrap().unwrap().tier == TierKind::Memory
        });
        one.insert(1, "changed".to_owned());
        until("the other hears of it", || other.get(&1).as_deref() == Some("changed"));
        assert!(other.insert_if_absent(2, "two".to_owned()).unwrap());
        assert!(!one.insert_if_absent(2, "2".to_owned()).unwrap());
        assert_eq!(one.get_with(3, || "three".to_owned()), "three");
        assert_eq!(other.take(&3).unwrap().as_deref(), Some("three"));
        other.invalidate_tag("none").unwrap();
        assert!(other.remove(&2));
        one.clear().unwrap();
        until("nothing is left", || (1..4).all(|key| other.get(&key).is_none()));
        for cache in [one, other] {
            let stats = cache.stats();
            assert_eq!(stats.tier(TierKind::Redis).unwrap().counts.errors, 0, "{stats}");
            cache.close().unwrap();
        }
        assert_eq!(server.cli(&["DBSIZE"]), "0", "the other databases are as they were");
        assert_ne!(server.cli(&["-n", "3", "DBSIZE"]), "0");
    }

    #[test]
    fn tasks_wait_without_blocking_their_executor() {
        let Some(server) = RedisServer::start() else { return };
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(&server.url(), dir.path()).to_async();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let tasks: Vec<_> = (0..50_u64)
                .map(|key| {
                    let cache = cache.clone();
                    tokio::spawn(async move {
                        cache.insert(key, key.to_string()).await;
                        cache.get(&key).await
                    })
                })
                .collect();
            for (key, task) in tasks.into_iter().enumerate() {
                assert_eq!(task.await.unwrap(), Some(key.to_string()));
            }
            let tier = open(&server);
            server.pause();
            let key = sample::key(1);
            let ticks = async {
                let mut ticks = 0;
                loop {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    ticks += 1;
                    if ticks == 20 {
                        return;
                    }
                }
            };
            tokio::select! {
                found = tier.get(&key) => panic!("a stopped server answers: {found:?}"),
                () = ticks => {}
            }
            server.resume();
            until("the connection stands", || tier.healthy());
            assert_eq!(tier.get(&key).await.unwrap(), None);
        });
    }

    #[test]
    fn value_too_large_for_redis_goes_to_a_file_with_a_warning() {
        let Some(server) = RedisServer::start() else { return };
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(&server.url(), dir.path());
        assert_eq!(home(&cache, 1, (1 << 20) - 2000).home, TierKind::Redis);
        let large = home(&cache, 2, 2 << 20);
        assert_eq!(large.home, TierKind::File);
        assert!(large.warning.is_some_and(|warning| warning.contains("too large to be distributed")));
        let local = ucache::<u64, String>("local").dir(dir.path()).redis(server.url());
        let local = local.sharing(Sharing::Threads).build().unwrap();
        assert_eq!(home(&local, 1, 10).home, TierKind::Memory);
    }

    #[test]
    fn build_without_the_server_fails_only_if_redis_is_required() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(&nowhere(), dir.path());
        let placed = home(&cache, 1, 10);
        assert!(placed.home != TierKind::Redis && placed.warning.is_some(), "{placed}");
        assert_eq!(cache.get(&1).as_deref(), Some("xxxxxxxxxx"));
        let required = ucache::<u64, String>("required").dir(dir.path()).redis(nowhere());
        let error = required.require(TierKind::Redis).build().unwrap_err();
        assert_eq!((error.kind(), error.tier()), (ErrorKind::Unavailable, Some(TierKind::Redis)));
        let missing = ucache::<u64, String>("missing").dir(dir.path()).require(TierKind::Redis);
        assert_eq!(missing.build().unwrap_err().kind(), ErrorKind::Config);
    }

    #[test]
    fn server_that_starts_after_the_build_is_used() {
        let Some(mut server) = RedisServer::start() else { return };
        server.kill();
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(&server.url(), dir.path());
        assert_ne!(home(&cache, 1, 10).home, TierKind::Redis);
        server.restart();
        until("entries go to Redis", || home(&cache, 1, 10).home == TierKind::Redis);
        assert_eq!(cache.get(&1).as_deref(), Some("xxxxxxxxxx"));
    }

    #[test]
    fn no_call_fails_or_stalls_while_the_server_is_killed_stopped_and_restarted() {
        let Some(mut server) = RedisServer::start() else { return };
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(&server.url(), dir.path());
        let (done, slowest, loads, wrong) =
            (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let calls = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..3_u64 {
                let (cache, done, slowest, loads, wrong, calls) =
                    (&cache, &done, &slowest, &loads, &wrong, &calls);
                scope.spawn(move || {
                    let mut round = 0;
                    while done.load(Ordering::Acquire) == 0 {
                        round += 1;
                        let key = thread * 1000 + round % 100;
                        let start = Instant::now();
                        match round % 5 {
                            0 => cache.insert(key, key.to_string()),
                            1 => drop(cache.remove(&key)),
                            2 => drop(cache.get(&key)),
                            _ => {
                                let value = cache.get_with(key, || {
                                    loads.fetch_add(1, Ordering::Relaxed);
                                    key.to_string()
                                });
                                wrong.fetch_add(u64::from(value != key.to_string()), Ordering::Relaxed);
                            }
                        }
                        let micros = u64::try_from(start.elapsed().as_micros()).unwrap();
                        slowest.fetch_max(micros, Ordering::Relaxed);
                        calls.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            // A panic below must not leave the threads running.
            let _done = Done(&done);
            let home_is_redis = || home(&cache, 9999, 10).home == TierKind::Redis;
            server.kill();
            until("the loss is noticed", || !home_is_redis());
            server.restart();
            let back_after_kill = until("it is used after a restart", home_is_redis);
            server.pause();
            until("the silence is noticed", || !home_is_redis());
            server.resume();
            let back_after_stop = until("it is used after it went on", home_is_redis);
            println!("back {back_after_kill:?} after a restart, {back_after_stop:?} after a stop");
        });
        let slowest = Duration::from_micros(slowest.into_inner());
        println!("{} calls, {} loads, the slowest {slowest:?}", calls.into_inner(), loads.into_inner());
        assert_eq!(wrong.into_inner(), 0);
        assert!(slowest < Duration::from_secs(10), "a call took {slowest:?}");
    }
}
