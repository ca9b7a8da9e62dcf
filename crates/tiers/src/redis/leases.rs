//! The right to load an entry, for one node at a time.

use std::sync::Arc;
use std::time::Duration;

use larder_core::key::EncodedKey;
use larder_core::tier::LoadLease;
use larder_core::{Error, ErrorKind, Result};
use redis::Value;

use super::Inner;
use super::names::Names;
use super::renewals::{LIFE, millis};
use super::scatter::Order;

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
    pub(super) async fn lease_load(&self, key: &EncodedKey, span: Duration) -> Result<Option<LoadLease>> {
        let partition = Names::partition(key);
        let name = self.names.entry(self.marks.generation(partition), key);
        let mut script = redis::cmd("EVAL");
        script.arg(TAKE).arg(3).arg(self.names.lease(&name)).arg(self.names.leases(partition)).arg(&name);
        script.arg(self.kept_for(Some(millis(span.min(LIFE)))));
        if let Some(tenancy) = self.marks.tenancy_millis() {
            script.arg(tenancy);
        }
        match self.fleet.send(Order { partition, cmd: script }).await? {
            Value::Array(parts) => match parts[..] {
                [Value::Int(number), Value::Int(present)] => {
                    let number = u64::try_from(number).unwrap_or(0);
                    if number > 0 {
                        self.held.take((partition, number), self.names.lease(&name), span);
                    }
                    Ok((number > 0).then_some(LoadLease { number, present: present > 0 }))
                }
                _ => Err(unexpected()),
            },
            _ => Err(unexpected()),
        }
    }

    /// Where it does not arrive, the right ends by itself.
    pub(super) async fn release_load(self: Arc<Self>, key: EncodedKey, number: u64) {
        let partition = Names::partition(&key);
        self.held.give_up(partition, number);
        let name = self.names.entry(self.marks.generation(partition), &key);
        let mut script = redis::cmd("EVAL");
        script.arg(GIVE_UP).arg(1).arg(self.names.lease(&name)).arg(number);
        if let Err(error) = self.fleet.send(Order { partition, cmd: script }).await {
            tracing::debug!(target: "larder", error = %error, "a lease was not given up: it ends by itself");
        }
    }
}

fn unexpected() -> Error {
    Error::new(ErrorKind::Io, "an answer of Redis is none to a script")
}
