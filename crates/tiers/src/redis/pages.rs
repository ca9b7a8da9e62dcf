//! Scans keys page by page (`SCAN`), never all of them at once.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use larder_core::Result;
use larder_core::key::EncodedKey;
use redis::{Pipeline, RedisResult, Value};

use crate::redis::Inner;
use crate::redis::calls::{is_truncated, start};
use crate::redis::connection::channel::Channel;
use crate::redis::keys::names::KeyName;
use crate::redis::keys::partition_epochs::{EpochRecord, send_pipeline};
use crate::redis::topology::shard::Shard;

/// Approximate number of keys in a page.
pub(in crate::redis) const PAGE: usize = 500;
/// The pause between two pages of a sweep or a renewal, so that it stays in the background.
pub(in crate::redis) const PAGE_PAUSE: Duration = Duration::from_millis(2);

/// How long keys of earlier builds stay once they are seen: 30 days, in milliseconds.
const FORMER_MILLIS: u64 = 30 * 86_400_000;
/// The answer of Redis for a key that does not expire.
const NO_EXPIRY: i64 = -1;

/// Reads one page of keys, and the cursor of the next one; zero at the end.
pub(in crate::redis) async fn page(
    connection: &mut Channel,
    cursor: u64,
    pattern: &str,
    count: usize,
) -> RedisResult<(u64, Vec<Vec<u8>>)> {
    let mut scan = redis::cmd("SCAN");
    scan.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(count);
    scan.query_async(connection).await
}

impl Inner {
    pub(in crate::redis) async fn scan(&self, visit: &mut (dyn FnMut(&[u8]) + Send)) -> Result<()> {
        self.topology.check()?;
        // Redis may return a key twice, and so may two nodes while a slot migrates.
        let mut seen = HashSet::new();
        for shard in self.topology.shards() {
            self.scan_shard(&shard, &mut seen, visit).await?;
        }
        Ok(())
    }

    async fn scan_shard(
        &self,
        shard: &Shard,
        seen: &mut HashSet<u128>,
        visit: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<()> {
        let mut connection = shard.supervisor.connection()?;
        let (pattern, mut cursor) = (format!("{}*", self.names.prefix()), 0);
        loop {
            let read = page(&mut connection, cursor, &pattern, PAGE).await;
            let (next, keys) = read.map_err(|error| self.topology.to_error(error))?;
            let keys = self.new_current_keys(keys, seen).await?;
            let heads = heads(&mut connection, &keys).await.map_err(|error| self.topology.to_error(error))?;
            heads.iter().for_each(|head| visit(head));
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    /// The keys of current entries that are not in `seen`, a set of digests.
    async fn new_current_keys(&self, keys: Vec<Vec<u8>>, seen: &mut HashSet<u128>) -> Result<Vec<Vec<u8>>> {
        let records = self.epochs.read_all(&self.names, &self.topology).await?;
        let mut is_new = |key: &Vec<u8>| match self.names.read(key) {
            Some(KeyName::Entry { partition, epoch, label, .. }) => {
                is_own(&records[partition], epoch, label)
                    && seen.insert(EncodedKey::new(key.as_slice()).digest())
            }
            _ => false,
        };
        Ok(keys.into_iter().filter(|key| is_new(key)).collect())
    }

    /// Unlinks the entries of former epochs, unless a sweep is running.
    pub(in crate::redis) async fn sweep(self: Arc<Self>) {
        if self.sweeping.swap(true, Ordering::AcqRel) {
            return;
        }
        for shard in self.topology.shards() {
            match self.sweep_shard(&shard).await {
                Ok(swept) => {
                    tracing::debug!(target: "larder", swept, "unlinked the entries of earlier epochs")
                }
                Err(error) => {
                    tracing::debug!(target: "larder", error = %error, "cannot unlink all entries of earlier epochs")
                }
            }
        }
        self.sweeping.store(false, Ordering::Release);
    }

    /// Gives keys of earlier builds an expiry, unless they have one.
    async fn expire_former_keys(&self, keys: &[Vec<u8>], connection: &mut Channel) -> RedisResult<()> {
        let former: Vec<_> =
            keys.iter().filter(|key| self.names.read(key) == Some(KeyName::Former)).collect();
        if former.is_empty() {
            return Ok(());
        }
        let (mut lives, mut expiries) = (Pipeline::new(), Pipeline::new());
        for key in &former {
            lives.cmd("PTTL").arg(*key);
        }
        for (key, life) in former.iter().zip(send_pipeline(connection, &lives).await?) {
            if life == Value::Int(NO_EXPIRY) {
                expiries.cmd("PEXPIRE").arg(*key).arg(FORMER_MILLIS);
            }
        }
        if expiries.is_empty() {
            return Ok(());
        }
        send_pipeline(connection, &expiries).await.map(drop)
    }

    /// Sweeps one server. A page is read before the epoch records. An entry with another epoch than its
    /// record is obsolete, since epochs never come back; an entry with an unlisted label belongs to a version
    /// that was not used for a long time.
    async fn sweep_shard(&self, shard: &Shard) -> Result<u64> {
        let mut connection = shard.supervisor.connection()?;
        let (pattern, mut cursor, mut swept) = (format!("{}*", self.names.prefix()), 0, 0);
        loop {
            let read = page(&mut connection, cursor, &pattern, PAGE).await;
            let (next, keys) = read.map_err(|error| self.topology.to_error(error))?;
            let records = self.epochs.read_all(&self.names, &self.topology).await?;
            let is_dead = |key: &&Vec<u8>| match self.names.read(key) {
                Some(KeyName::Entry { partition, epoch, label, .. }) => {
                    let is_read = |record: &EpochRecord| record.epoch == epoch && record.lists(label);
                    records[partition].as_ref().is_some_and(|record| !is_read(record))
                }
                _ => false,
            };
            let mut pipe = Pipeline::new();
            for key in keys.iter().filter(is_dead) {
                pipe.cmd("UNLINK").arg(key);
            }
            swept += pipe.len() as u64;
            self.expire_former_keys(&keys, &mut connection)
                .await
                .map_err(|error| self.topology.to_error(error))?;
            if !pipe.is_empty() {
                send_pipeline(&mut connection, &pipe).await.map_err(|error| self.topology.to_error(error))?;
            }
            if next == 0 {
                return Ok(swept);
            }
            cursor = next;
            tokio::time::sleep(PAGE_PAUSE).await;
        }
    }
}

/// Whether an entry is one that this version reads.
pub(in crate::redis) fn is_own(record: &Option<EpochRecord>, epoch: u64, label: u32) -> bool {
    record.as_ref().is_some_and(|record| record.epoch == epoch && record.label == label)
}

/// The heads of these entries; missing entries are skipped.
async fn heads(connection: &mut Channel, keys: &[Vec<u8>]) -> RedisResult<Vec<Vec<u8>>> {
    let mut pipe = Pipeline::new();
    for key in keys {
        pipe.add_command(start(key));
    }
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let mut heads = Vec::with_capacity(keys.len());
    for (answer, key) in send_pipeline(connection, &pipe).await?.into_iter().zip(keys) {
        match answer {
            Value::BulkString(start) if is_truncated(&start) => {
                heads.push(redis::cmd("GET").arg(key).query_async(connection).await?);
            }
            Value::BulkString(start) if !start.is_empty() => heads.push(start),
            _ => {}
        }
    }
    Ok(heads)
}
