//! The servers that hold the partitions: one, or the masters of a cluster.

pub(in crate::redis) mod cluster;
pub(in crate::redis) mod cluster_nodes;
pub(in crate::redis) mod router;
pub(in crate::redis) mod sentinel;
pub(in crate::redis) mod shard;
pub(in crate::redis) mod slot_map;

use std::sync::Arc;
use std::time::{Duration, Instant};

use larder_core::{Error, ErrorKind, Result};
use tokio::runtime::Handle;

use crate::redis::Inner;
use crate::redis::connection::address::Target;
use crate::redis::connection::lifecycle::ShardLifecycle;
use crate::redis::connection::supervisor::{Source, Supervisor, TimeLimits, closed};
use crate::redis::topology::cluster::{Cluster, refresh_forever};
use crate::redis::topology::shard::Shard;

/// The servers, and which of them holds which partition.
pub(in crate::redis) enum Topology {
    /// One server for all partitions, at a fixed address or found by sentinels.
    Single(Arc<Shard>),
    /// The masters of a cluster.
    Cluster(Box<Cluster>),
}

impl Topology {
    pub(in crate::redis) fn new(target: Target, limits: TimeLimits) -> Self {
        let one = |source| Self::Single(Arc::new(Shard::new(Supervisor::new(source, limits), None)));
        match target {
            Target::Server(address) => one(Source::Fixed(address)),
            Target::Sentinels(sentinels) => one(Source::Sentinels(sentinels)),
            Target::Cluster(seeds) => Self::Cluster(Box::new(Cluster::new(seeds, limits))),
        }
    }

    /// Starts the tasks that keep the connections, on the runtime of `io`.
    pub(in crate::redis) fn launch(&self, inner: &Arc<Inner>, io: &Handle) {
        match self {
            Self::Single(shard) => ShardLifecycle::launch(inner, shard, io),
            Self::Cluster(cluster) => {
                cluster.set_refresh_task(io.spawn(refresh_forever(Arc::clone(inner))).abort_handle())
            }
        }
    }

    /// Waits until the first attempts to connect are over, at most for `limit`.
    pub(in crate::redis) fn wait_for_first_attempt(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        if let Self::Cluster(cluster) = self {
            cluster.wait_for_first_refresh(deadline);
        }
        for shard in self.shards() {
            shard.supervisor.wait_for_first_attempt(deadline);
        }
    }

    /// All known servers.
    pub(in crate::redis) fn shards(&self) -> Vec<Arc<Shard>> {
        match self {
            Self::Single(shard) => vec![Arc::clone(shard)],
            Self::Cluster(cluster) => cluster.slot_map().shards().to_vec(),
        }
    }

    /// The server that holds a partition.
    ///
    /// # Errors
    /// `Unavailable` if none is known, `Closed` after close.
    pub(in crate::redis) fn shard(&self, partition: usize) -> Result<Arc<Shard>> {
        match self {
            Self::Single(shard) => Ok(Arc::clone(shard)),
            Self::Cluster(_) if self.is_closed() => Err(closed()),
            Self::Cluster(cluster) => cluster.slot_map().owner(partition).ok_or_else(|| cluster.no_owner()),
        }
    }

    /// Whether every partition can be used now.
    pub(in crate::redis) fn is_up(&self) -> bool {
        match self {
            Self::Single(shard) => shard.supervisor.is_up(),
            Self::Cluster(cluster) => cluster.slot_map().is_up(),
        }
    }

    /// Returns an error if a partition cannot be used.
    pub(in crate::redis) fn check(&self) -> Result<()> {
        match self {
            Self::Single(shard) => shard.supervisor.connection().map(drop),
            Self::Cluster(_) if self.is_closed() => Err(closed()),
            Self::Cluster(cluster) if !cluster.slot_map().is_complete() => Err(cluster.no_owner()),
            Self::Cluster(cluster) => cluster
                .slot_map()
                .shards()
                .iter()
                .try_for_each(|shard| shard.supervisor.connection().map(drop)),
        }
    }

    /// Why the first unusable server cannot be used.
    pub(in crate::redis) fn unavailable_reason(&self) -> Option<Arc<str>> {
        let of_shard = self.shards().iter().find_map(|shard| shard.supervisor.unavailable_reason());
        match self {
            Self::Cluster(cluster) if of_shard.is_none() && !self.is_up() => Some(cluster.failure().into()),
            _ => of_shard,
        }
    }

    /// The last time at which all servers were certainly connected.
    pub(in crate::redis) fn contact(&self) -> Option<Instant> {
        match self {
            Self::Single(shard) => shard.supervisor.contact(),
            Self::Cluster(cluster) => cluster.slot_map().contact(),
        }
    }

    /// The number of connections established since the tier was opened.
    pub(in crate::redis) fn connections(&self) -> u64 {
        match self {
            Self::Single(shard) => shard.supervisor.connections(),
            Self::Cluster(cluster) => cluster.connections(),
        }
    }

    pub(in crate::redis) fn is_closed(&self) -> bool {
        match self {
            Self::Single(shard) => shard.supervisor.is_closed(),
            Self::Cluster(cluster) => cluster.is_closed(),
        }
    }

    pub(in crate::redis) fn close(&self) {
        match self {
            Self::Single(shard) => shard.close(),
            Self::Cluster(cluster) => cluster.close(),
        }
    }
}

/// Copies an error, for another result that it applies to.
pub(in crate::redis) fn copy_error(error: &Error) -> Error {
    Error::new(error.kind(), error.to_string())
}

pub(in crate::redis) fn unavailable(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unavailable, why.into())
}
