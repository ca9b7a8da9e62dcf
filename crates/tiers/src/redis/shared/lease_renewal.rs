//! Keeps the rights to load that this process has, as long as it lives.
//!
//! In Redis a right lasts [`LIFE`], so that the loads of a process that was killed
//! are done by others soon; a task renews those that are held, all of them in
//! one round trip a server, until they are given up or their time is over.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::redis::Inner;
use crate::redis::topology::router::Order;

/// How long a right outlives who has it.
pub(in crate::redis) const LIFE: Duration = Duration::from_secs(2);
/// Between two renewals: three may be missed.
const BEAT: Duration = Duration::from_millis(500);

/// Renews a right, where it is still the one with this number.
const RENEW: &str = "\
    if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0";

/// The rights that are held, by their numbers and partitions.
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
    /// A right was taken, for `span`.
    pub(in crate::redis) fn take(&self, (partition, number): (usize, u64), name: String, span: Duration) {
        // What lasts no longer by itself needs no renewal.
        let Some(until) = Instant::now().checked_add(span).filter(|_| span > LIFE) else { return };
        self.rights.lock().insert((partition, number), Right { name, until });
        self.some.notify_one();
    }

    /// A right is given up.
    pub(in crate::redis) fn give_up(&self, partition: usize, number: u64) {
        self.rights.lock().remove(&(partition, number));
    }

    /// The commands that renew what is held.
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
    /// Renews what is held, again and again.
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

/// Milliseconds as Redis takes them, which refuses zero.
pub(in crate::redis) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 53)
}
