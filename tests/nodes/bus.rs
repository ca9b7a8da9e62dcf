//! Notices of the bus that are late, doubled, out of order, or lost.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use larder::{Clock, Coherence, SystemClock};
use larder_core::bus::{Bus, Listener, Notice};
use larder_core::invalidation::SharedInvalidations;
use larder_core::tier::Tier;
use larder_engine::CoherencePlan;
use larder_testkit::RedisServer;
use larder_tiers::redis::{RedisOptions, RedisTier};
use parking_lot::Mutex;

use crate::fixtures::{Plan, TestEngine, get, insert};

const LEASE: Duration = Duration::from_millis(400);
/// Time for a read to begin, and for the clock of the test.
const SLACK: Duration = Duration::from_millis(100);
const KEYS: u64 = 20;
const CHANGES: u64 = 10_000;

/// A bus that holds its notices until the test delivers them. `last_contact` does not go past a
/// notice that is held.
struct Post {
    tier: Arc<RedisTier>,
    held: Arc<Held>,
}

#[derive(Default)]
struct Held {
    listener: Mutex<Option<Arc<dyn Listener>>>,
    waiting: Mutex<(Vec<Notice>, Option<Instant>)>,
}

struct Letterbox {
    tier: Weak<RedisTier>,
    held: Arc<Held>,
}

impl Listener for Letterbox {
    fn told(&self, notice: Notice) {
        let mut waiting = self.held.waiting.lock();
        if waiting.0.is_empty() {
            waiting.1 = self.tier.upgrade().and_then(|tier| tier.last_contact());
        }
        waiting.0.push(notice);
    }
}

impl Bus for Post {
    fn listen(&self, listener: Arc<dyn Listener>) {
        *self.held.listener.lock() = Some(listener);
        let (tier, held) = (Arc::downgrade(&self.tier), Arc::clone(&self.held));
        self.tier.listen(Arc::new(Letterbox { tier, held }));
    }

    fn last_contact(&self) -> Option<Instant> {
        // Read contact before the queue: a notice received before that contact is in the queue by
        // then.
        let contact = self.tier.last_contact();
        let waiting = self.held.waiting.lock();
        if waiting.0.is_empty() { contact } else { waiting.1 }
    }
}

impl Held {
    /// Delivers the held notices: shuffled, some of them twice, and in some rounds one is lost,
    /// which is reported as a gap.
    fn deliver(&self, chance: &mut fastrand::Rng) {
        let Some(listener) = self.listener.lock().clone() else { return };
        // They stay in the queue until they are delivered, so that contact does not go past them.
        let mut notices = self.waiting.lock().0.clone();
        let count = notices.len();
        chance.shuffle(&mut notices);
        let lost = chance.u8(..4) == 0;
        for notice in notices.into_iter().skip(usize::from(lost)) {
            if chance.u8(..4) == 0 {
                listener.told(notice.clone());
            }
            listener.told(notice);
        }
        if lost {
            listener.told(Notice::Distrust);
        }
        self.waiting.lock().0.drain(..count);
    }
}

fn node(server: &RedisServer) -> (Arc<TestEngine>, Arc<Held>) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let options = RedisOptions { notices: true, clock, ..RedisOptions::new(server.url(), "bus", "changes") };
    let tier = Arc::new(RedisTier::open(options).unwrap());
    let held = Arc::new(Held::default());
    let bus = Arc::new(Post { tier: Arc::clone(&tier), held: Arc::clone(&held) });
    let marks = Arc::clone(&tier) as Arc<dyn SharedInvalidations>;
    let nodes = CoherencePlan { bus, invalidations: marks, lease: LEASE, coherence: Coherence::Available };
    let plan = Plan { nodes: Some(nodes), ..Plan::over(vec![tier as Arc<dyn Tier>]) };
    (plan.build(), held)
}

/// The times at which the changes were acknowledged, by number of the change.
type Acknowledged = Mutex<Vec<Instant>>;

#[test]
fn copy_is_not_served_past_its_lease_when_notices_are_lost_or_late() {
    let Some(server) = RedisServer::start() else { return };
    let ((writer, told), (reader, held)) = (node(&server), node(&server));
    let (done, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    let acknowledged: Acknowledged = Mutex::default();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut chance = fastrand::Rng::with_seed(7);
            while !done.load(Ordering::Acquire) {
                // Sometimes longer than the lease.
                let pause = if chance.u8(..20) == 0 { 600 } else { chance.u64(1..40) };
                thread::park_timeout(Duration::from_millis(pause));
                held.deliver(&mut chance);
                told.deliver(&mut chance);
            }
        });
        for seed in 0..2 {
            let (reader, acknowledged, done, reads) = (&reader, &acknowledged, &done, &reads);
            scope.spawn(move || {
                let mut chance = fastrand::Rng::with_seed(seed);
                while !done.load(Ordering::Acquire) {
                    check(reader, chance.u64(..KEYS), acknowledged);
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for number in 0..CHANGES {
            insert(&writer, number % KEYS, &number.to_string()).unwrap();
            acknowledged.lock().push(Instant::now());
        }
        done.store(true, Ordering::Release);
    });
    let hits = reader.stats().tiers[0].counts.hits;
    println!("{} reads beside {CHANGES} changes, {hits} of them from memory", reads.into_inner());
    assert!(hits > 100, "copies served at all: {hits}");
}

/// Reads a key. The result must not be older than the last change that was acknowledged a lease
/// before the read.
fn check(reader: &Arc<TestEngine>, key: u64, acknowledged: &Acknowledged) {
    let begun = Instant::now();
    let oldest = {
        let all = acknowledged.lock();
        let last = all.partition_point(|at| *at + LEASE + SLACK < begun);
        (0..last as u64).rev().find(|number| number % KEYS == key)
    };
    let value = get(reader, key).map(|value| value.parse::<u64>().unwrap());
    if let Some(oldest) = oldest {
        assert!(value >= Some(oldest), "key {key}: {value:?}, though {oldest} was acknowledged long before");
    }
}
