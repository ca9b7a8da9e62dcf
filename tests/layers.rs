//! Circuit breakers, time limits, and removals that a failing tier missed.

use std::future::pending;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use larder::{ErrorKind, TierKind};
use larder_core::frame::Frame;
use larder_core::key::EncodedKey;
use larder_core::tier::{BoxFuture, Capability, Tier, Usage};
use larder_core::{Bytes, Result};
use larder_exec::runtime::{Blocking, block_on};
use larder_testkit::{FaultyTier, HashMapTier, ManualClock, MapStorage, Operation, Times};

use crate::fixtures::{Plan, TestEngine, counts, get, insert, remove};
use crate::tracing::lines_of;

/// Longer than any backoff of a breaker.
const LONG: Duration = Duration::from_secs(60);

struct Bench {
    disk: FaultyTier<HashMapTier>,
    clock: ManualClock,
    engine: Arc<TestEngine>,
}

fn bench() -> Bench {
    let disk = FaultyTier::new(HashMapTier::on(&MapStorage::default()));
    let file = FaultyTier::new(HashMapTier::on(&MapStorage::default()).with_kind(TierKind::File));
    let plan = Plan::over(vec![Arc::new(disk.clone()) as Arc<dyn Tier>, Arc::new(file) as Arc<dyn Tier>]);
    let clock = plan.clock.clone();
    Bench { disk, clock, engine: plan.without_memory().build() }
}

fn try_get(engine: &Arc<TestEngine>, key: u64) -> Result<Option<String>> {
    block_on(engine.get::<Blocking>(&key))
}

fn keys(engine: &Arc<TestEngine>) -> Vec<u64> {
    let mut keys: Vec<u64> = engine.keys().unwrap().into_iter().map(|key| *key).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn failing_tier_is_skipped_until_a_probe_succeeds() {
    let Bench { disk, clock, engine } = bench();
    insert(&engine, 1, "one").unwrap();
    disk.fail(Operation::Get, Times::Forever, ErrorKind::Io);
    for _ in 0..100 {
        assert!(try_get(&engine, 1).is_err());
    }
    assert_eq!(disk.calls(Operation::Get), 5, "the rest was refused at once");
    assert_eq!(try_get(&engine, 1).unwrap_err().kind(), ErrorKind::Unavailable);
    let seen = counts(&engine, TierKind::Disk);
    assert_eq!((seen.openings, seen.closings, seen.refusals), (1, 0, 96));
    assert_eq!(seen.errors, 101);

    clock.advance(LONG);
    assert!(try_get(&engine, 1).is_err(), "the probe fails");
    assert_eq!(disk.calls(Operation::Get), 6);
    disk.heal();
    assert!(try_get(&engine, 1).is_err(), "the next pause is not over");
    clock.advance(LONG);
    assert_eq!(try_get(&engine, 1).unwrap().as_deref(), Some("one"));
    assert_eq!((counts(&engine, TierKind::Disk).openings, counts(&engine, TierKind::Disk).closings), (2, 1));
}

#[test]
fn breaker_openings_and_closings_are_logged_but_refusals_are_not() {
    let Bench { disk, clock, engine } = bench();
    insert(&engine, 1, "one").unwrap();
    disk.fail(Operation::Get, Times::Forever, ErrorKind::Io);
    let lines = lines_of(|| (0..100).for_each(|_| assert!(try_get(&engine, 1).is_err())));
    assert_eq!(lines.len(), 6, "five failures and the opening: {lines:#?}");
    assert!(lines[4].contains("breaker of a tier opened") && lines[4].contains("reads"), "{lines:#?}");
    disk.heal();
    clock.advance(LONG);
    let lines = lines_of(|| assert!(try_get(&engine, 1).is_ok()));
    assert!(lines.len() == 1 && lines[0].contains("breaker of a tier closed"), "{lines:#?}");
}

#[test]
fn full_disk_serves_reads_and_takes_writes_after_space_is_freed() {
    let Bench { disk, clock, engine } = bench();
    insert(&engine, 1, "kept").unwrap();
    let elsewhere = "x".repeat(2_000);
    disk.fail(Operation::Put, Times::Forever, ErrorKind::Full);
    for key in 2..20 {
        assert_eq!(insert(&engine, key, &elsewhere).unwrap().home, TierKind::File);
    }
    assert_eq!(disk.calls(Operation::Put), 6, "one before it was full, five that failed");
    assert_eq!(get(&engine, 1).as_deref(), Some("kept"), "reads go on");
    assert_eq!(get(&engine, 19), Some(elsewhere));
    assert_eq!(counts(&engine, TierKind::File).fallbacks, 5, "later ones were placed there at once");

    disk.heal();
    clock.advance(LONG);
    assert_eq!(insert(&engine, 30, "back").unwrap().home, TierKind::Disk);
    assert_eq!(insert(&engine, 31, "back").unwrap().home, TierKind::Disk);
}

#[test]
fn errors_of_single_entries_do_not_open_the_breaker() {
    let Bench { disk, engine, .. } = bench();
    insert(&engine, 1, "one").unwrap();
    for kind in [ErrorKind::Corrupt, ErrorKind::Codec, ErrorKind::TooLarge, ErrorKind::Full] {
        disk.fail(Operation::Get, Times::Next(20), kind);
        (0..20).for_each(|_| assert!(try_get(&engine, 1).is_err()));
    }
    assert_eq!(disk.calls(Operation::Get), 80);
    assert_eq!(get(&engine, 1).as_deref(), Some("one"));
}

#[test]
fn removals_refused_by_an_open_breaker_are_retried_when_it_closes() {
    let Bench { disk, clock, engine } = bench();
    (0..100).for_each(|key| assert_eq!(insert(&engine, key, "old").unwrap().home, TierKind::Disk));
    disk.fail_all(ErrorKind::Io);
    (0..50).for_each(|key| assert!(remove(&engine, key).is_err()));
    assert_eq!(disk.calls(Operation::Remove), 5, "forty-five were refused");
    disk.heal();
    for key in 0..50 {
        assert_eq!(try_get(&engine, key).unwrap(), None, "{key}");
        assert!(!block_on(engine.contains_key::<Blocking>(&key)).unwrap());
    }
    assert_eq!(keys(&engine), (50..100).collect::<Vec<_>>());
    assert_eq!(disk.inner().usage().entries, 100, "all of it is still there");

    clock.advance(LONG);
    assert_eq!(get(&engine, 99).as_deref(), Some("old"), "any look-up settles");
    assert_eq!(disk.inner().usage().entries, 50, "made up for");
    insert(&engine, 7, "new").unwrap();
    assert_eq!(get(&engine, 7).as_deref(), Some("new"));
}

#[test]
fn retried_removal_does_not_remove_a_newer_entry() {
    let Bench { disk, clock, engine } = bench();
    insert(&engine, 1, "old").unwrap();
    insert(&engine, 2, "old").unwrap();
    disk.fail(Operation::Remove, Times::Forever, ErrorKind::Io);
    assert!(remove(&engine, 1).is_err() && remove(&engine, 2).is_err());
    insert(&engine, 1, "new").unwrap();
    disk.heal();
    clock.advance(LONG);
    block_on(engine.flush::<Blocking>()).unwrap();
    assert_eq!(get(&engine, 1).as_deref(), Some("new"));
    assert_eq!(get(&engine, 2), None);
    assert_eq!(disk.inner().usage().entries, 1);
}

#[test]
fn tier_that_missed_too_many_removals_is_cleared_before_reuse() {
    let Bench { disk, clock, engine } = bench();
    insert(&engine, 20_000, "old").unwrap();
    disk.fail_all(ErrorKind::Io);
    (0..10_500).for_each(|key| assert!(remove(&engine, key).is_err()));
    disk.heal();
    assert_eq!(insert(&engine, 20_001, &"x".repeat(2_000)).unwrap().home, TierKind::File);
    assert_eq!(get(&engine, 20_000), None, "nothing in it is trusted");
    clock.advance(LONG);
    assert_eq!(insert(&engine, 20_002, "back").unwrap().home, TierKind::Disk);
    assert_eq!(get(&engine, 20_002).as_deref(), Some("back"));
    assert_eq!(get(&engine, 20_000), None);
}

#[test]
fn stale_copies_do_not_come_back_after_a_reopen() {
    let flags = tempfile::tempdir().unwrap();
    let storage = MapStorage::default();
    let reopen = || {
        let disk = FaultyTier::new(HashMapTier::on(&storage));
        let mut plan = Plan::over(vec![Arc::new(disk.clone()) as Arc<dyn Tier>]).without_memory();
        plan.dirty_flags = Some(flags.path().to_path_buf());
        (disk, plan.build())
    };
    let (disk, engine) = reopen();
    insert(&engine, 1, "old").unwrap();
    insert(&engine, 2, "kept").unwrap();
    block_on(engine.close::<Blocking>()).unwrap();
    drop((engine, disk));

    let (disk, engine) = reopen();
    assert_eq!(get(&engine, 2).as_deref(), Some("kept"), "a clean mark costs nothing");
    disk.fail(Operation::Remove, Times::Forever, ErrorKind::Io);
    assert!(remove(&engine, 1).is_err());
    block_on(engine.close::<Blocking>()).unwrap();
    drop((engine, disk));

    let (disk, engine) = reopen();
    disk.fail(Operation::Clear, Times::Next(1), ErrorKind::Io);
    assert_eq!(get(&engine, 1), None, "cleared, or not served while that fails");
    assert_eq!(keys(&engine), [0u64; 0]);
    block_on(engine.flush::<Blocking>()).unwrap();
    assert_eq!(disk.inner().usage().entries, 0);
    insert(&engine, 1, "new").unwrap();
    block_on(engine.close::<Blocking>()).unwrap();
    drop((engine, disk));
    assert_eq!(get(&reopen().1, 1).as_deref(), Some("new"));
}

/// Four writers, each with its own keys, while a tier fails and recovers. A read returns the value
/// that its writer wrote last, or nothing; never an older value.
#[test]
fn no_older_value_is_read_while_a_tier_fails_and_recovers() {
    const STEPS: u64 = 4_000;
    let Bench { disk, clock, engine } = bench();
    std::thread::scope(|scope| {
        for writer in 0..4_u64 {
            let (engine, disk, clock) = (&engine, &disk, &clock);
            scope.spawn(move || {
                for step in 0..STEPS {
                    match (writer, step % 80) {
                        (0, 0) => disk.fail_all(ErrorKind::Io),
                        (0, 40) => {
                            disk.heal();
                            clock.advance(LONG);
                        }
                        _ => {}
                    }
                    let key = writer * 8 + step % 8;
                    let value = format!("{writer} {step}");
                    let is_removal = step % 3 == 0;
                    if is_removal {
                        let _may_fail = remove(engine, key);
                    } else {
                        let _may_fail = insert(engine, key, &value);
                    }
                    let seen = try_get(engine, key).ok().flatten();
                    let is_right = seen.as_ref().is_none_or(|seen| !is_removal && *seen == value);
                    assert!(is_right, "{seen:?} after {value}, removed: {is_removal}");
                }
            });
        }
    });
    let seen = counts(&engine, TierKind::Disk);
    assert!(seen.errors > 0 && seen.puts > 0, "{seen:?}");
    disk.heal();
    clock.advance(LONG);
    block_on(engine.flush::<Blocking>()).unwrap();
    for key in 0..32 {
        let last = (STEPS - 8) + key % 8;
        let expect = format!("{} {last}", key / 8);
        let seen = try_get(&engine, key).unwrap();
        assert!(seen.is_none_or(|seen| !last.is_multiple_of(3) && seen == expect), "key {key}");
    }
}

/// A tier whose operations never complete and never block. On drop it reports the thread that drops
/// it, and waits there for an answer.
#[derive(Default)]
pub(crate) struct Silent {
    pub(crate) dropped: parking_lot::Mutex<Option<(Sender<ThreadId>, Receiver<()>)>>,
}

impl Drop for Silent {
    fn drop(&mut self) {
        if let Some((dropped, answer)) = self.dropped.get_mut().take() {
            dropped.send(std::thread::current().id()).unwrap();
            answer.recv_timeout(LONG).unwrap();
        }
    }
}

impl Silent {
    fn never<'a, T: Send + 'a>() -> BoxFuture<'a, Result<T>> {
        Box::pin(pending())
    }
}

impl Tier for Silent {
    fn kind(&self) -> TierKind {
        TierKind::Disk
    }
    fn capability(&self) -> Capability {
        let frame_bytes_max = u64::MAX;
        Capability { stores: true, persistent: true, shared: false, blocking: false, frame_bytes_max }
    }
    fn get<'a>(&'a self, _: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Self::never()
    }
    fn put<'a>(&'a self, _: &'a EncodedKey, _: &'a Frame) -> BoxFuture<'a, Result<()>> {
        Self::never()
    }
    fn remove<'a>(&'a self, _: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        Self::never()
    }
    fn contains<'a>(&'a self, _: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        Self::never()
    }
    fn clear(&self) -> BoxFuture<'_, Result<()>> {
        Self::never()
    }
    fn scan<'a>(&'a self, _: &'a mut (dyn FnMut(&[u8]) + Send)) -> BoxFuture<'a, Result<()>> {
        Self::never()
    }
    fn usage(&self) -> Usage {
        Usage::default()
    }
    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Self::never()
    }
    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Self::never()
    }
}

#[test]
fn tier_that_does_not_answer_times_out() {
    use larder_core::stats::TierCounters;
    use larder_engine::layers::Limit;

    let counters = Arc::new(TierCounters::default());
    let limit = Duration::from_millis(30);
    let tier = Limit::new(Silent::default(), Arc::clone(&counters), limit);
    let key = larder_testkit::sample::key(1);
    let began = Instant::now();
    assert_eq!(block_on(tier.get(&key)).unwrap_err().kind(), ErrorKind::Unavailable);
    let nested = block_on(async { block_on(tier.remove(&key)).and(block_on(tier.contains(&key))) });
    assert!(nested.is_err());
    assert!(began.elapsed() >= limit * 3 && began.elapsed() < LONG);
    assert_eq!(counters.snapshot().timeouts, 3);
    let batch = block_on(tier.get_many(&[key.clone(), key]));
    assert!(batch.iter().all(Result::is_err) && batch.len() == 2);
    assert_eq!(counters.snapshot().timeouts, 5, "each of a batch");
}

#[test]
fn failing_batch_opens_the_breaker_and_later_batches_are_refused() {
    use larder_core::clock::Clock;
    use larder_core::stats::TierCounters;
    use larder_engine::layers::Breaker;

    let counters = Arc::new(TierCounters::default());
    let clock = ManualClock::default();
    let disk = FaultyTier::new(HashMapTier::on(&MapStorage::default()));
    let tier =
        Breaker::new(disk.clone(), Arc::clone(&counters), &(Arc::new(clock.clone()) as Arc<dyn Clock>));
    let keys: Vec<EncodedKey> = (0..5).map(larder_testkit::sample::key).collect();
    disk.fail(Operation::Get, Times::Forever, ErrorKind::Io);
    assert!(block_on(tier.get_many(&keys)).iter().all(Result::is_err) && !tier.healthy());
    let refused = block_on(tier.get_many(&keys));
    assert!(refused.iter().all(Result::is_err) && refused.len() == 5);
    assert!(block_on(tier.head(&keys[0])).is_err());
    assert_eq!((disk.calls(Operation::Get), counters.snapshot().refusals), (5, 6));
    assert!(
        block_on(tier.remove_many(&keys)).iter().all(Result::is_ok),
        "removals have a circuit of their own"
    );
    disk.heal();
    clock.advance(LONG);
    assert!(block_on(tier.get_many(&[])).is_empty() && tier.healthy());
    assert!(block_on(tier.get_many(&keys)).iter().all(Result::is_ok));
    assert_eq!((counters.snapshot().openings, counters.snapshot().closings), (1, 1));
}
