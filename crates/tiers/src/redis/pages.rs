//! Passing over keys, page by page (`SCAN`), never over all of them at once.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use larder_core::Result;
use larder_core::key::EncodedKey;
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisResult, Value};

use crate::redis::Inner;
use crate::redis::calls::{is_cut, start};
use crate::redis::keys::names::Named;
use crate::redis::keys::partition_epochs::{Belief, exchange};
use crate::redis::topology::shard::Shard;

/// Keys a page, about.
pub(in crate::redis) const PAGE: usize = 500;
/// Between two pages of a sweep or a renewal, so that it stays in the background.
pub(in crate::redis) const BREATH: Duration = Duration::from_millis(2);

/// How long keys of earlier builds stay once they are seen: 30 days.
const FORMER_MILLIS: u64 = 30 * 86_400_000;
/// What Redis answers for a key that does not expire.
const NO_EXPIRY: i64 = -1;

/// One page of keys, with the cursor of the next; zero at the end.
pub(in crate::redis) async fn page(
    connection: &mut MultiplexedConnection,
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
        self.fleet.check()?;
        // Redis may give a key twice, and two nodes may where a slot moves.
        let mut seen = HashSet::new();
        for shard in self.fleet.shards() {
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
        let mut connection = shard.link.connection()?;
        let (pattern, mut cursor) = (format!("{}*", self.names.prefix()), 0);
        loop {
            let read = page(&mut connection, cursor, &pattern, PAGE).await;
            let (next, keys) = read.map_err(|error| self.fleet.meant(error))?;
            let keys = self.current(keys, seen).await?;
            let heads = heads(&mut connection, &keys).await.map_err(|error| self.fleet.meant(error))?;
            heads.iter().for_each(|head| visit(head));
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    /// Those of the current generations that were not `seen`, digests of keys.
    async fn current(&self, keys: Vec<Vec<u8>>, seen: &mut HashSet<u128>) -> Result<Vec<Vec<u8>>> {
        let marks = self.marks.read_all(&self.names, &self.fleet).await?;
        let mut is_new = |key: &Vec<u8>| match self.names.read(key) {
            Some(Named::Entry { partition, generation, label, .. }) => {
                is_own(&marks[partition], generation, label)
                    && seen.insert(EncodedKey::new(key.as_slice()).digest())
            }
            _ => false,
        };
        Ok(keys.into_iter().filter(|key| is_new(key)).collect())
    }

    /// Unlinks what former generations left behind, unless that is under way.
    pub(in crate::redis) async fn sweep(self: Arc<Self>) {
        if self.sweeping.swap(true, Ordering::AcqRel) {
            return;
        }
        for shard in self.fleet.shards() {
            match self.sweep_shard(&shard).await {
                Ok(swept) => tracing::debug!(target: "larder", swept, "swept what a clear left behind"),
                Err(error) => tracing::debug!(target: "larder", error = %error, "a sweep was broken off"),
            }
        }
        self.sweeping.store(false, Ordering::Release);
    }

    /// Has what an earlier build left behind go by itself, unless it does already.
    async fn age(&self, keys: &[Vec<u8>], connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let former: Vec<_> = keys.iter().filter(|key| self.names.read(key) == Some(Named::Former)).collect();
        if former.is_empty() {
            return Ok(());
        }
        let (mut lives, mut expiries) = (Pipeline::new(), Pipeline::new());
        for key in &former {
            lives.cmd("PTTL").arg(*key);
        }
        for (key, life) in former.iter().zip(exchange(connection, &lives).await?) {
            if life == Value::Int(NO_EXPIRY) {
                expiries.cmd("PEXPIRE").arg(*key).arg(FORMER_MILLIS);
            }
        }
        if expiries.is_empty() {
            return Ok(());
        }
        exchange(connection, &expiries).await.map(drop)
    }

    /// A page is read before the marks are: an entry whose generation is not the
    /// mark's by then is of a former one, as generations never come back; and one whose
    /// label it does not list is of a version that was not used for long.
    async fn sweep_shard(&self, shard: &Shard) -> Result<u64> {
        let mut connection = shard.link.connection()?;
        let (pattern, mut cursor, mut swept) = (format!("{}*", self.names.prefix()), 0, 0);
        loop {
            let read = page(&mut connection, cursor, &pattern, PAGE).await;
            let (next, keys) = read.map_err(|error| self.fleet.meant(error))?;
            let marks = self.marks.read_all(&self.names, &self.fleet).await?;
            let is_dead = |key: &&Vec<u8>| match self.names.read(key) {
                Some(Named::Entry { partition, generation, label, .. }) => {
                    let is_read = |mark: &Belief| mark.generation == generation && mark.lists(label);
                    marks[partition].as_ref().is_some_and(|mark| !is_read(mark))
                }
                _ => false,
            };
            let mut pipe = Pipeline::new();
            for key in keys.iter().filter(is_dead) {
                pipe.cmd("UNLINK").arg(key);
            }
            swept += pipe.len() as u64;
            self.age(&keys, &mut connection).await.map_err(|error| self.fleet.meant(error))?;
            if !pipe.is_empty() {
                exchange(&mut connection, &pipe).await.map_err(|error| self.fleet.meant(error))?;
            }
            if next == 0 {
                return Ok(swept);
            }
            cursor = next;
            tokio::time::sleep(BREATH).await;
        }
    }
}

/// Whether an entry is one that this version reads.
pub(in crate::redis) fn is_own(mark: &Option<Belief>, generation: u64, label: u32) -> bool {
    mark.as_ref().is_some_and(|mark| mark.generation == generation && mark.label == label)
}

/// The heads of these entries; what is none is passed over.
async fn heads(connection: &mut MultiplexedConnection, keys: &[Vec<u8>]) -> RedisResult<Vec<Vec<u8>>> {
    let mut pipe = Pipeline::new();
    for key in keys {
        pipe.add_command(start(key));
    }
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let mut heads = Vec::with_capacity(keys.len());
    for (answer, key) in exchange(connection, &pipe).await?.into_iter().zip(keys) {
        match answer {
            Value::BulkString(start) if is_cut(&start) => {
                heads.push(redis::cmd("GET").arg(key).query_async(connection).await?);
            }
            Value::BulkString(start) if !start.is_empty() => heads.push(start),
            _ => {}
        }
    }
    Ok(heads)
}
