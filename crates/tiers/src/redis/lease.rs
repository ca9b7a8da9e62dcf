//! Keys that belong to one tier alone, and go with it.
//!
//! Each key expires by itself within a lease, which is renewed while the tier
//! lives: a process that is killed leaves nothing for longer. The tier unlinks
//! them all at its end.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use larder_core::Result;
use larder_core::frame::{FIXED_LEN, kept_until};
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisResult, Value};

use super::io::Io;
use super::marks::{exchange, read_all};
use super::names::{Named, PARTITIONS};
use super::survey::{BREATH, PAGE, page};
use super::{Inner, RedisTier};

/// How often keys are renewed within a lease.
const BEATS: u32 = 4;
/// The longest that the end of a tier nobody closed may take.
const DROP_MAX: Duration = Duration::from_secs(10);

impl Inner {
    /// The time that Redis gives a key which is to be kept for `wanted`
    /// milliseconds, or for ever.
    pub(super) fn leased(&self, wanted: Option<u64>) -> Option<u64> {
        let lease = self.marks.lease_millis();
        match (wanted, lease) {
            (Some(wanted), Some(lease)) => Some(wanted.min(lease)),
            (wanted, lease) => wanted.or(lease),
        }
    }

    /// Renews every key, again and again.
    pub(super) async fn keep(self: Arc<Self>, lease: Duration) {
        loop {
            tokio::time::sleep(lease / BEATS).await;
            let Ok(mut connection) = self.link.connection() else { continue };
            if let Err(error) = self.renew(&mut connection).await {
                tracing::debug!(target: "larder", error = %error, "the keys of a lease could not all be renewed");
            }
        }
    }

    /// One pass: the marks, then the entries, page by page.
    async fn renew(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let Some(lease) = self.marks.lease_millis() else { return Ok(()) };
        let mut pipe = Pipeline::new();
        for partition in 0..PARTITIONS {
            pipe.cmd("PEXPIRE").arg(self.names.mark(partition)).arg(lease);
        }
        exchange(connection, &pipe).await?;
        let pattern = format!("{}*", self.names.prefix());
        let mut cursor = 0;
        loop {
            let (next, keys) = page(connection, cursor, Some(&pattern), PAGE).await?;
            self.renew_entries(&keys, connection).await?;
            if next == 0 {
                return Ok(());
            }
            cursor = next;
            tokio::time::sleep(BREATH).await;
        }
    }

    /// Renews those entries of a page that can still be read, each no longer
    /// than it may serve.
    async fn renew_entries(
        &self,
        keys: &[Vec<u8>],
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<()> {
        let current = read_all(&self.names, connection).await?;
        let is_current = |key: &&Vec<u8>| match self.names.read(key) {
            Some(Named::Entry { partition, generation, .. }) => current[partition] == Some(generation),
            _ => false,
        };
        let entries: Vec<_> = keys.iter().filter(is_current).collect();
        if entries.is_empty() {
            return Ok(());
        }
        let mut pipe = Pipeline::new();
        for key in &entries {
            pipe.cmd("GETRANGE").arg(key).arg(0).arg(FIXED_LEN - 1);
        }
        let heads = exchange(connection, &pipe).await?;
        let mut pipe = Pipeline::new();
        for (key, head) in entries.iter().zip(&heads) {
            if let Value::BulkString(head) = head
                && let Some(until) = kept_until(head)
                && let Some(millis) = self.leased(self.millis_to(until))
            {
                pipe.cmd("PEXPIRE").arg(key).arg(millis);
            }
        }
        if pipe.is_empty() {
            return Ok(());
        }
        exchange(connection, &pipe).await.map(drop)
    }

    /// Unlinks every key of a tier that has a lease.
    pub(super) async fn leave(&self) -> Result<()> {
        if self.marks.lease_millis().is_none() || self.link.is_closed() {
            return Ok(());
        }
        self.unlink_all().await
    }

    /// Unlinks every key of the cache.
    pub(super) async fn unlink_all(&self) -> Result<()> {
        let mut connection = self.link.connection()?;
        self.unlink_pages(&mut connection).await.map_err(|error| self.meant(error))
    }

    async fn unlink_pages(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let pattern = format!("{}*", self.names.prefix());
        let mut cursor = 0;
        loop {
            let (next, keys) = page(connection, cursor, Some(&pattern), PAGE).await?;
            if !keys.is_empty() {
                redis::cmd("UNLINK").arg(keys).exec_async(connection).await?;
            }
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }
}

impl RedisTier {
    /// Unlinks what a lease has, for a tier that is dropped without a `close`.
    pub(super) fn leave_unattended(&self, io: &Io) {
        if self.inner.marks.lease_millis().is_none() || self.inner.link.is_closed() || io.is_current_thread()
        {
            return;
        }
        let (done, left) = mpsc::channel();
        let inner = Arc::clone(&self.inner);
        let leaving = async move {
            let outcome = tokio::time::timeout(DROP_MAX, inner.leave()).await;
            // Nobody listens any more where it took too long.
            let _unheard = done.send(outcome);
        };
        drop(io.handle().spawn(leaving));
        match left.recv_timeout(DROP_MAX + DROP_MAX / 10) {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => {
                tracing::warn!(target: "larder", error = %error, "keys of a lease stay in Redis until it ends");
            }
            Ok(Err(_)) | Err(_) => {
                tracing::warn!(target: "larder", "keys of a lease stay in Redis until it ends: there was no time");
            }
        }
    }
}
