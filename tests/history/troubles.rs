//! A tier wrapped in every kind of failure.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use larder::ErrorKind;
use larder_core::tier::Tier;
use larder_testkit::history::Clock;
use larder_testkit::{FaultyTier, Operation, QuotaTier, Times, TornTier};

type Wrapped = FaultyTier<TornTier<QuotaTier<Arc<dyn Tier>>>>;

/// A tier that fails, stalls, fills up or tears frames on command.
pub(super) struct Troubled {
    whole: Wrapped,
    torn: TornTier<QuotaTier<Arc<dyn Tier>>>,
    quota: QuotaTier<Arc<dyn Tier>>,
}

impl Troubled {
    pub(super) fn new(tier: impl Tier) -> Self {
        let quota = QuotaTier::new(Arc::new(tier) as Arc<dyn Tier>);
        let torn = TornTier::new(quota.clone());
        Self { whole: FaultyTier::new(torn.clone()), torn, quota }
    }

    pub(super) fn tier(&self) -> Arc<dyn Tier> {
        Arc::new(self.whole.clone())
    }

    fn trouble(&self, rng: &mut Rng) {
        let operation = *rng.choice(&Operation::ALL[..7]).unwrap();
        let kind = *rng.choice(&[ErrorKind::Io, ErrorKind::Full, ErrorKind::Unavailable]).unwrap();
        match rng.u32(0..10) {
            8..10 => self.whole.lose_answers(operation, Times::Next(rng.usize(1..5)), kind),
            0..3 => self.whole.fail(operation, Times::Next(rng.usize(1..5)), kind),
            3 => self.whole.fail_all(kind),
            4 => self.whole.stall(operation),
            5 => self.torn.tear(rng.usize(1..5)),
            6 => self.quota.limit(0),
            _ => self.heal(),
        }
    }

    fn heal(&self) {
        self.whole.heal();
        self.whole.release();
        self.torn.tear(0);
        self.quota.lift();
    }
}

/// Causes random failures until the clock is past `ticks`, and then repairs all tiers.
pub(super) fn make(tiers: &[Troubled], clock: &Clock, rng: &mut Rng, ticks: u64) {
    while clock.ticks() < ticks {
        let tier = rng.choice(tiers).unwrap();
        tier.trouble(rng);
        wait(clock, clock.ticks() + rng.u64(1..30));
        if rng.bool() {
            tier.heal();
        }
    }
    tiers.iter().for_each(Troubled::heal);
}

/// Waits until the clock shows `ticks`, or for 5 ms if all callers stall.
fn wait(clock: &Clock, ticks: u64) {
    let deadline = Instant::now() + Duration::from_millis(5);
    while clock.ticks() < ticks && Instant::now() < deadline {
        thread::park_timeout(Duration::from_micros(100));
    }
}
