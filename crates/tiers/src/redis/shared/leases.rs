//! Load leases: one node at a time may load an entry.

use std::sync::Arc;
use std::time::Duration;

use larder_core::key::EncodedKey;
use larder_core::tier::LoadLease;
use larder_core::{Error, ErrorKind, Result};
use redis::Value;

use crate::redis::Inner;
use crate::redis::keys::names::KeyNames;
use crate::redis::shared::lease_renewal::{LEASE_TTL, millis};
use crate::redis::topology::router::RoutedCmd;

/// Takes a numbered lease. Keys: lease, counter, entry. Arguments: the duration of the lease in milliseconds
/// and, for ephemeral keys, the lifetime of the counter. Returns the lease number, zero if another node holds
/// the lease, and whether the entry exists.
const TAKE: &str = "\
    local present = redis.call('EXISTS', KEYS[3]) \
    if redis.call('EXISTS', KEYS[1]) == 1 then return {0, present} end \
    local number = redis.call('INCR', KEYS[2]) \
    if ARGV[2] then redis.call('PEXPIRE', KEYS[2], ARGV[2]) end \
    redis.call('SET', KEYS[1], number, 'PX', ARGV[1]) \
    return {number, present}";

/// Releases a lease if it still has this number.
const RELEASE: &str = "\
    if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

impl Inner {
    pub(in crate::redis) async fn lease_load(
        &self,
        key: &EncodedKey,
        span: Duration,
    ) -> Result<Option<LoadLease>> {
        self.read_lease((key, span), self.topology.send(self.take_lease_command(key, span)).await?)
    }

    pub(in crate::redis) async fn lease_loads(
        &self,
        keys: &[EncodedKey],
        span: Duration,
    ) -> Vec<Result<Option<LoadLease>>> {
        let requests = keys.iter().map(|key| self.take_lease_command(key, span)).collect();
        let answers = self.topology.exchange(requests).await.into_iter().zip(keys);
        answers.map(|(answer, key)| self.read_lease((key, span), answer?)).collect()
    }

    fn take_lease_command(&self, key: &EncodedKey, span: Duration) -> RoutedCmd {
        let partition = KeyNames::partition(key);
        let name = self.names.entry(&self.epochs.record(partition), key);
        let mut cmd = redis::cmd("EVAL");
        cmd.arg(TAKE).arg(3).arg(self.names.lease(&name)).arg(self.names.leases(partition)).arg(&name);
        cmd.arg(self.ttl_millis(Some(millis(span.min(LEASE_TTL)))));
        if let Some(ephemeral_ttl) = self.epochs.ephemeral_ttl_millis() {
            cmd.arg(ephemeral_ttl);
        }
        RoutedCmd { partition, cmd }
    }

    /// Reads the answer of the script; a lease that was taken is renewed from now on.
    fn read_lease(&self, (key, span): (&EncodedKey, Duration), answer: Value) -> Result<Option<LoadLease>> {
        let Value::Array(parts) = answer else { return Err(invalid_reply()) };
        let [Value::Int(number), Value::Int(present)] = parts[..] else { return Err(invalid_reply()) };
        let number = u64::try_from(number).unwrap_or(0);
        if number > 0 {
            let partition = KeyNames::partition(key);
            let name = self.names.entry(&self.epochs.record(partition), key);
            self.held_leases.add((partition, number), self.names.lease(&name), span);
        }
        Ok((number > 0).then_some(LoadLease { number, present: present > 0 }))
    }

    /// Releases leases. A lease whose release is lost expires by itself.
    pub(in crate::redis) async fn release_loads(self: Arc<Self>, leases: Vec<(EncodedKey, u64)>) {
        let requests = leases.iter().map(|(key, number)| {
            let partition = KeyNames::partition(key);
            self.held_leases.remove(partition, *number);
            let name = self.names.entry(&self.epochs.record(partition), key);
            let mut cmd = redis::cmd("EVAL");
            cmd.arg(RELEASE).arg(1).arg(self.names.lease(&name)).arg(number);
            RoutedCmd { partition, cmd }
        });
        for failed in self.topology.exchange(requests.collect()).await.into_iter().filter_map(Result::err) {
            tracing::debug!(target: "larder", error = %failed, "cannot release a load lease; it expires by itself");
        }
    }
}

fn invalid_reply() -> Error {
    Error::new(ErrorKind::Io, "cannot parse the reply of Redis to a script")
}
