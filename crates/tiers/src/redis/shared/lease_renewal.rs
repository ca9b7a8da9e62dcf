//! Renews the load leases of this process.
//!
//! In Redis a lease lasts [`LIFE`], so that other nodes soon take over the loads of a killed process. A task
//! renews all held leases, in one round trip per server, until they are released or their time is over.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::redis::Inner;
use crate::redis::topology::router::Order;

/// How long a lease lasts without renewal.
pub(in crate::redis) const LIFE: Duration = Duration::from_secs(2);
/// Time between two renewals: three may be missed.
const BEAT: Duration = Duration::from_millis(500);

/// Renews a lease if it still has this number.
const RENEW: &str = "\
    if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0";

/// The held leases, by partition and number.
#[derive(Default)]
pub(in crate::redis) struct Held {
    rights: Mutex<HashMap<(usize, u64), Right>>,
    some: Notify,
}

struct Right {
    name: String,
    until: Instant,
}

impl Held {
    /// Adds a lease that was taken for `span`.
    pub(in crate::redis) fn take(&self, (partition, number): (usize, u64), name: String, span: Duration) {
        // A lease that is no longer than `LIFE` needs no renewal.
        let Some(until) = Instant::now().checked_add(span).filter(|_| span > LIFE) else { return };
        self.rights.lock().insert((partition, number), Right { name, until });
        self.some.notify_one();
    }

    /// Removes a released lease.
    pub(in crate::redis) fn give_up(&self, partition: usize, number: u64) {
        self.rights.lock().remove(&(partition, number));
    }

    /// The commands that renew the held leases.
    fn renewals(&self) -> Vec<Order> {
        let (mut rights, now) = (self.rights.lock(), Instant::now());
        rights.retain(|_, right| right.until > now);
        let renewals = rights.iter().map(|((partition, number), right)| {
            let mut cmd = redis::cmd("EVAL");
            cmd.arg(RENEW).arg(1).arg(&right.name).arg(number);
            cmd.arg(millis(LIFE.min(right.until - now)));
            Order { partition: *partition, cmd }
        });
        renewals.collect()
    }
}

impl Inner {
    /// Renews the held leases, periodically.
    pub(in crate::redis) async fn renew_loads(self: Arc<Self>) {
        loop {
            let orders = self.held.renewals();
            if orders.is_empty() {
                self.held.some.notified().await;
            } else {
                for answer in self.fleet.exchange(orders).await {
                    if let Err(error) = answer {
                        tracing::debug!(target: "larder", error = %error, "a right to load was not renewed");
                    }
                }
            }
            tokio::time::sleep(BEAT).await;
        }
    }
}

/// A duration in milliseconds for Redis, at least 1, since Redis rejects zero.
pub(in crate::redis) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 53)
}
