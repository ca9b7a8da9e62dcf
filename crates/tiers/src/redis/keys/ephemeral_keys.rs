//! Keys that belong to one tier alone, and go with it.
//!
//! Each key expires by itself within the tenancy, which is renewed while the
//! tier lives: a process that is killed leaves nothing for longer. The tier
//! unlinks them all at its end.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use larder_core::Result;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisResult, Value};

use crate::redis::calls::start;
use crate::redis::connection::io_thread::Io;
use crate::redis::keys::names::{Named, PARTITIONS};
use crate::redis::keys::partition_epochs::exchange;
use crate::redis::pages::{BREATH, PAGE, is_own, page};
use crate::redis::topology::router::Order;
use crate::redis::topology::shard::Shard;
use crate::redis::{Inner, RedisTier};

/// How often keys are renewed within a tenancy.
const BEATS: u32 = 4;
/// The longest that the end of a tier nobody closed may take.
const DROP_MAX: Duration = Duration::from_secs(10);

impl Inner {
    /// The time that Redis gives a key which is to be kept for `wanted`
    /// milliseconds, or for ever.
    pub(in crate::redis) fn kept_for(&self, wanted: Option<u64>) -> Option<u64> {
        match (wanted, self.marks.tenancy_millis()) {
            (Some(wanted), Some(tenancy)) => Some(wanted.min(tenancy)),
            (wanted, tenancy) => wanted.or(tenancy),
        }
    }

    /// Renews every key, again and again.
    pub(in crate::redis) async fn renew_forever(self: Arc<Self>, tenancy: Duration) {
        loop {
            tokio::time::sleep(tenancy / BEATS).await;
            if let Err(error) = self.renew().await {
                tracing::debug!(target: "larder", error = %error, "the keys of a tenancy could not all be renewed");
            }
        }
    }

    /// One pass: the marks and what counts beside them, then the entries, server
    /// by server and page by page.
    async fn renew(&self) -> Result<()> {
        let Some(tenancy) = self.marks.tenancy_millis() else { return Ok(()) };
        let beside = |partition| [self.names.mark(partition).to_owned(), self.names.leases(partition)];
        let order = |(partition, name): (usize, String)| Order { partition, cmd: expire(name, tenancy) };
        let names = (0..PARTITIONS).flat_map(|partition| beside(partition).map(|name| (partition, name)));
        let names = names.chain(self.names.invalidated().map(|name| (0, name)));
        let answers = self.fleet.exchange(names.map(order).collect()).await;
        answers.into_iter().try_for_each(|answer| answer.map(drop))?;
        for shard in self.fleet.shards() {
            self.renew_shard(&shard).await?;
        }
        Ok(())
    }

    async fn renew_shard(&self, shard: &Shard) -> Result<()> {
        let mut connection = shard.link.connection()?;
        let (pattern, mut cursor) = (format!("{}*", self.names.prefix()), 0);
        loop {
            let read = page(&mut connection, cursor, &pattern, PAGE).await;
            let (next, keys) = read.map_err(|error| self.fleet.meant(error))?;
            let current = self.current_of(keys).await?;
            let renewed = self.renew_entries(&current, &mut connection).await;
            renewed.map_err(|error| self.fleet.meant(error))?;
            if next == 0 {
                return Ok(());
            }
            cursor = next;
            tokio::time::sleep(BREATH).await;
        }
    }

    /// Those of a page that can still be read.
    async fn current_of(&self, mut keys: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>> {
        let marks = self.marks.read_all(&self.names, &self.fleet).await?;
        keys.retain(|key| match self.names.read(key) {
            Some(Named::Entry { partition, generation, label, .. }) => {
                is_own(&marks[partition], generation, label)
            }
            _ => false,
        });
        Ok(keys)
    }

    /// Renews each entry, no longer than it may serve.
    async fn renew_entries(
        &self,
        entries: &[Vec<u8>],
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<()> {
        let mut heads = Pipeline::new();
        for key in entries {
            heads.add_command(start(key));
        }
        if entries.is_empty() {
            return Ok(());
        }
        let mut renewals = Pipeline::new();
        for (key, head) in entries.iter().zip(exchange(connection, &heads).await?) {
            if let Value::BulkString(head) = head
                && let Some(millis) = self.millis_left(&head)
            {
                renewals.add_command(expire(key, millis));
            }
        }
        if renewals.is_empty() {
            return Ok(());
        }
        exchange(connection, &renewals).await.map(drop)
    }

    /// Unlinks every key of a tier that has a tenancy.
    pub(in crate::redis) async fn leave(&self) -> Result<()> {
        if self.marks.tenancy_millis().is_none() || self.fleet.is_closed() {
            return Ok(());
        }
        self.unlink_all().await
    }

    /// Unlinks every key of the cache, on every server.
    pub(in crate::redis) async fn unlink_all(&self) -> Result<()> {
        self.fleet.check()?;
        for shard in self.fleet.shards() {
            let mut connection = shard.link.connection()?;
            let unlinked = self.unlink_pages(&mut connection).await;
            unlinked.map_err(|error| self.fleet.meant(error))?;
        }
        Ok(())
    }

    async fn unlink_pages(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let (pattern, mut cursor) = (format!("{}*", self.names.prefix()), 0);
        loop {
            let (next, keys) = page(connection, cursor, &pattern, PAGE).await?;
            let mut pipe = Pipeline::new();
            for key in &keys {
                pipe.cmd("UNLINK").arg(key);
            }
            if !pipe.is_empty() {
                exchange(connection, &pipe).await?;
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
    /// Unlinks what a tenancy has, for a tier that is dropped without a `close`.
    pub(in crate::redis) fn leave_unattended(&self, io: &Io) {
        let has_none = self.inner.marks.tenancy_millis().is_none() || self.inner.fleet.is_closed();
        if has_none || io.is_current_thread() {
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
                tracing::warn!(target: "larder", error = %error, "keys of a tenancy stay in Redis until it ends");
            }
            Ok(Err(_)) | Err(_) => {
                tracing::warn!(target: "larder", "keys of a tenancy stay in Redis until it ends: there was no time");
            }
        }
    }
}
