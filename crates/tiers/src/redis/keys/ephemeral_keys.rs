//! Ephemeral keys: keys that belong to one tier and are removed with it.
//!
//! Each key has a time to live that is renewed while the tier is open, so the keys of a killed process
//! expire. The tier unlinks all of them when it is closed.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use larder_core::Result;
use redis::{Cmd, Pipeline, RedisResult, Value};

use crate::redis::calls::start;
use crate::redis::connection::channel::Channel;
use crate::redis::connection::io_thread::IoThread;
use crate::redis::keys::names::{KeyName, PARTITIONS};
use crate::redis::keys::partition_epochs::send_pipeline;
use crate::redis::pages::{PAGE, PAGE_PAUSE, is_own, page};
use crate::redis::topology::router::RoutedCmd;
use crate::redis::topology::shard::Shard;
use crate::redis::{Inner, RedisTier};

/// How many times keys are renewed within their lifetime.
const RENEWALS_PER_TTL: u32 = 4;
/// The longest time that dropping an open tier may take.
const DROP_MAX: Duration = Duration::from_secs(10);

impl Inner {
    /// The time to live, in milliseconds, of a key that should live for `wanted`; `None` for ever. Limited by
    /// the lifetime of ephemeral keys.
    pub(in crate::redis) fn ttl_millis(&self, wanted: Option<u64>) -> Option<u64> {
        match (wanted, self.epochs.ephemeral_ttl_millis()) {
            (Some(wanted), Some(ephemeral_ttl)) => Some(wanted.min(ephemeral_ttl)),
            (wanted, ephemeral_ttl) => wanted.or(ephemeral_ttl),
        }
    }

    /// Renews every key, periodically.
    pub(in crate::redis) async fn renew_keys_forever(self: Arc<Self>, ephemeral_ttl: Duration) {
        loop {
            tokio::time::sleep(ephemeral_ttl / RENEWALS_PER_TTL).await;
            if let Err(error) = self.renew().await {
                tracing::debug!(target: "larder", error = %error, "cannot renew all ephemeral keys");
            }
        }
    }

    /// Renews all keys once: the epoch records, lease counters and invalidations, then the entries, server by
    /// server and page by page.
    async fn renew(&self) -> Result<()> {
        let Some(ephemeral_ttl) = self.epochs.ephemeral_ttl_millis() else { return Ok(()) };
        let own_keys = |partition| [self.names.record(partition).to_owned(), self.names.leases(partition)];
        let request =
            |(partition, name): (usize, String)| RoutedCmd { partition, cmd: expire(name, ephemeral_ttl) };
        let names = (0..PARTITIONS).flat_map(|partition| own_keys(partition).map(|name| (partition, name)));
        let names = names.chain(self.names.invalidated().map(|name| (0, name)));
        let answers = self.topology.exchange(names.map(request).collect()).await;
        answers.into_iter().try_for_each(|answer| answer.map(drop))?;
        for shard in self.topology.shards() {
            self.renew_shard(&shard).await?;
        }
        Ok(())
    }

    async fn renew_shard(&self, shard: &Shard) -> Result<()> {
        let mut connection = shard.supervisor.connection()?;
        let (pattern, mut cursor) = (format!("{}*", self.names.prefix()), 0);
        loop {
            let read = page(&mut connection, cursor, &pattern, PAGE).await;
            let (next, keys) = read.map_err(|error| self.topology.to_error(error))?;
            let current = self.current_keys(keys).await?;
            let renewed = self.renew_entries(&current, &mut connection).await;
            renewed.map_err(|error| self.topology.to_error(error))?;
            if next == 0 {
                return Ok(());
            }
            cursor = next;
            tokio::time::sleep(PAGE_PAUSE).await;
        }
    }

    /// The keys of a page whose entries can still be read.
    async fn current_keys(&self, mut keys: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>> {
        let records = self.epochs.read_all(&self.names, &self.topology).await?;
        keys.retain(|key| match self.names.read(key) {
            Some(KeyName::Entry { partition, epoch, label, .. }) => is_own(&records[partition], epoch, label),
            _ => false,
        });
        Ok(keys)
    }

    /// Renews each entry, but not beyond the time until which it may be served.
    async fn renew_entries(&self, entries: &[Vec<u8>], connection: &mut Channel) -> RedisResult<()> {
        let mut heads = Pipeline::new();
        for key in entries {
            heads.add_command(start(key));
        }
        if entries.is_empty() {
            return Ok(());
        }
        let mut renewals = Pipeline::new();
        for (key, head) in entries.iter().zip(send_pipeline(connection, &heads).await?) {
            if let Value::BulkString(head) = head
                && let Some(millis) = self.millis_left(&head)
            {
                renewals.add_command(expire(key, millis));
            }
        }
        if renewals.is_empty() {
            return Ok(());
        }
        send_pipeline(connection, &renewals).await.map(drop)
    }

    /// Unlinks every key of a tier with ephemeral keys.
    pub(in crate::redis) async fn unlink_ephemeral(&self) -> Result<()> {
        if self.epochs.ephemeral_ttl_millis().is_none() || self.topology.is_closed() {
            return Ok(());
        }
        self.unlink_all().await
    }

    /// Unlinks every key of the cache, on every server.
    pub(in crate::redis) async fn unlink_all(&self) -> Result<()> {
        self.topology.check()?;
        for shard in self.topology.shards() {
            let mut connection = shard.supervisor.connection()?;
            let unlinked = self.unlink_pages(&mut connection).await;
            unlinked.map_err(|error| self.topology.to_error(error))?;
        }
        Ok(())
    }

    async fn unlink_pages(&self, connection: &mut Channel) -> RedisResult<()> {
        let (pattern, mut cursor) = (format!("{}*", self.names.prefix()), 0);
        loop {
            let (next, keys) = page(connection, cursor, &pattern, PAGE).await?;
            let mut pipe = Pipeline::new();
            for key in &keys {
                pipe.cmd("UNLINK").arg(key);
            }
            if !pipe.is_empty() {
                send_pipeline(connection, &pipe).await?;
            }
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }
}

fn expire(name: impl redis::ToRedisArgs, millis: u64) -> Cmd {
    let mut cmd = redis::cmd("PEXPIRE");
    cmd.arg(name).arg(millis);
    cmd
}

impl RedisTier {
    /// Unlinks the ephemeral keys of a tier that is dropped without `close`.
    pub(in crate::redis) fn unlink_on_drop(&self, io: &IoThread) {
        let has_none = self.inner.epochs.ephemeral_ttl_millis().is_none() || self.inner.topology.is_closed();
        if has_none || io.is_current_thread() {
            return;
        }
        let (done, left) = mpsc::channel();
        let inner = Arc::clone(&self.inner);
        let leaving = async move {
            let outcome = tokio::time::timeout(DROP_MAX, inner.unlink_ephemeral()).await;
            // The receiver is gone if this took too long.
            let _unheard = done.send(outcome);
        };
        drop(io.handle().spawn(leaving));
        match left.recv_timeout(DROP_MAX + DROP_MAX / 10) {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => {
                tracing::warn!(target: "larder", error = %error, "cannot unlink the ephemeral keys; they expire by themselves");
            }
            Ok(Err(_)) | Err(_) => {
                tracing::warn!(target: "larder", "unlinking the ephemeral keys took too long; they expire by themselves");
            }
        }
    }
}
