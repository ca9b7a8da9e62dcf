//! The right to load an entry, for one node at a time.

use std::sync::Arc;
use std::time::Duration;

use larder_core::key::EncodedKey;
use larder_core::tier::LoadLease;
use larder_core::{Error, ErrorKind, Result};
use redis::Value;

use crate::redis::Inner;
use crate::redis::keys::names::Names;
use crate::redis::shared::lease_renewal::{LIFE, millis};
use crate::redis::topology::router::Order;

/// Takes the right, numbered. Keys: lease, counter, entry. Arguments: the
/// milliseconds it lasts, and perhaps those that the counter stays. Answers the number, zero where somebody else has it,
/// and whether there is an entry.
const TAKE: &str = "\
    local present = redis.call('EXISTS', KEYS[3]) \
    if redis.call('EXISTS', KEYS[1]) == 1 then return {0, present} end \
    local number = redis.call('INCR', KEYS[2]) \
    if ARGV[2] then redis.call('PEXPIRE', KEYS[2], ARGV[2]) end \
    redis.call('SET', KEYS[1], number, 'PX', ARGV[1]) \
    return {number, present}";

/// Gives the right up, where it is still the one with this number.
const GIVE_UP: &str = "\
    if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

impl Inner {
    pub(in crate::redis) async fn lease_load(
        &self,
        key: &EncodedKey,
        span: Duration,
    ) -> Result<Option<LoadLease>> {
        self.taken((key, span), self.fleet.send(self.taking(key, span)).await?)
    }

    pub(in crate::redis) async fn lease_loads(
        &self,
        keys: &[EncodedKey],
        span: Duration,
    ) -> Vec<Result<Option<LoadLease>>> {
        let orders = keys.iter().map(|key| self.taking(key, span)).collect();
        let answers = self.fleet.exchange(orders).await.into_iter().zip(keys);
        answers.map(|(answer, key)| self.taken((key, span), answer?)).collect()
    }

    fn taking(&self, key: &EncodedKey, span: Duration) -> Order {
        let partition = Names::partition(key);
        let name = self.names.entry(&self.marks.belief(partition), key);
        let mut cmd = redis::cmd("EVAL");
        cmd.arg(TAKE).arg(3).arg(self.names.lease(&name)).arg(self.names.leases(partition)).arg(&name);
        cmd.arg(self.kept_for(Some(millis(span.min(LIFE)))));
        if let Some(tenancy) = self.marks.tenancy_millis() {
            cmd.arg(tenancy);
        }
        Order { partition, cmd }
    }

    /// What an answer says, and from here on what it gave is renewed.
    fn taken(&self, (key, span): (&EncodedKey, Duration), answer: Value) -> Result<Option<LoadLease>> {
        let Value::Array(parts) = answer else { return Err(unexpected()) };
        let [Value::Int(number), Value::Int(present)] = parts[..] else { return Err(unexpected()) };
        let number = u64::try_from(number).unwrap_or(0);
        if number > 0 {
            let partition = Names::partition(key);
            let name = self.names.entry(&self.marks.belief(partition), key);
            self.held.take((partition, number), self.names.lease(&name), span);
        }
        Ok((number > 0).then_some(LoadLease { number, present: present > 0 }))
    }

    /// What does not arrive ends by itself.
    pub(in crate::redis) async fn release_loads(self: Arc<Self>, leases: Vec<(EncodedKey, u64)>) {
        let orders = leases.iter().map(|(key, number)| {
            let partition = Names::partition(key);
            self.held.give_up(partition, *number);
            let name = self.names.entry(&self.marks.belief(partition), key);
            let mut cmd = redis::cmd("EVAL");
            cmd.arg(GIVE_UP).arg(1).arg(self.names.lease(&name)).arg(number);
            Order { partition, cmd }
        });
        for failed in self.fleet.exchange(orders.collect()).await.into_iter().filter_map(Result::err) {
            tracing::debug!(target: "larder", error = %failed, "a lease was not given up: it ends by itself");
        }
    }
}

fn unexpected() -> Error {
    Error::new(ErrorKind::Io, "an answer of Redis is none to a script")
}
