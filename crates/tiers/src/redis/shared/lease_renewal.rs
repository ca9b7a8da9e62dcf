//! Renews the load leases of this process.
//!
//! In Redis a lease lasts [`LEASE_TTL`], so that other nodes soon take over the loads of a killed process. A
//! task renews all held leases, in one round trip per server, until they are released or their time is over.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::redis::Inner;
use crate::redis::topology::router::RoutedCmd;

/// How long a lease lasts without renewal.
pub(in crate::redis) const LEASE_TTL: Duration = Duration::from_secs(2);
/// Time between two renewals: three may be missed.
const RENEWAL_INTERVAL: Duration = Duration::from_millis(500);

/// Renews a lease if it still has this number.
const RENEW: &str = "\
    if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0";

/// The held leases, by partition and number.
#[derive(Default)]
pub(in crate::redis) struct HeldLeases {
    leases: Mutex<HashMap<(usize, u64), HeldLease>>,
    added: Notify,
}

struct HeldLease {
    name: String,
    until: Instant,
}

impl HeldLeases {
    /// Adds a lease that was taken for `span`.
    pub(in crate::redis) fn add(&self, (partition, number): (usize, u64), name: String, span: Duration) {
        // A lease that is no longer than `LEASE_TTL` needs no renewal.
        let Some(until) = Instant::now().checked_add(span).filter(|_| span > LEASE_TTL) else { return };
        self.leases.lock().insert((partition, number), HeldLease { name, until });
        self.added.notify_one();
    }

    /// Removes a released lease.
    pub(in crate::redis) fn remove(&self, partition: usize, number: u64) {
        self.leases.lock().remove(&(partition, number));
    }

    /// The commands that renew the held leases.
    fn renewals(&self) -> Vec<RoutedCmd> {
        let (mut leases, now) = (self.leases.lock(), Instant::now());
        leases.retain(|_, lease| lease.until > now);
        let renewals = leases.iter().map(|((partition, number), lease)| {
            let mut cmd = redis::cmd("EVAL");
            cmd.arg(RENEW).arg(1).arg(&lease.name).arg(number);
            cmd.arg(millis(LEASE_TTL.min(lease.until - now)));
            RoutedCmd { partition: *partition, cmd }
        });
        renewals.collect()
    }
}

impl Inner {
    /// Renews the held leases, periodically.
    pub(in crate::redis) async fn renew_leases(self: Arc<Self>) {
        loop {
            let requests = self.held_leases.renewals();
            if requests.is_empty() {
                self.held_leases.added.notified().await;
            } else {
                for answer in self.topology.exchange(requests).await {
                    if let Err(error) = answer {
                        tracing::debug!(target: "larder", error = %error, "cannot renew a load lease");
                    }
                }
            }
            tokio::time::sleep(RENEWAL_INTERVAL).await;
        }
    }
}

/// A duration in milliseconds for Redis, at least 1, since Redis rejects zero.
pub(in crate::redis) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 53)
}
