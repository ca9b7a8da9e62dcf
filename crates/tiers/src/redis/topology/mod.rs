//! The servers that hold the partitions: one, or the masters of a cluster.

pub(in crate::redis) mod cluster;
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
use crate::redis::connection::lifecycle::Keeper;
use crate::redis::connection::supervisor::{Link, Patience, Source, closed};
use crate::redis::topology::cluster::{Cluster, fly};
use crate::redis::topology::shard::Shard;

/// Who answers for which partition.
pub(in crate::redis) enum Fleet {
    /// One server for all of them, wherever it is.
    One(Arc<Shard>),
    /// The masters of a cluster.
    Many(Box<Cluster>),
}

impl Fleet {
    pub(in crate::redis) fn new(target: Target, patience: Patience) -> Self {
        let one = |source| Self::One(Arc::new(Shard::new(Link::new(source, patience), None)));
        match target {
            Target::Server(address) => one(Source::Fixed(address)),
            Target::Sentinels(sentinels) => one(Source::Sentinels(sentinels)),
            Target::Cluster(seeds) => Self::Many(Box::new(Cluster::new(seeds, patience))),
        }
    }

    /// Begins to keep connections, on the thread of `io`.
    pub(in crate::redis) fn launch(&self, inner: &Arc<Inner>, io: &Handle) {
        match self {
            Self::One(shard) => Keeper::launch(inner, shard, io),
            Self::Many(cluster) => cluster.keep(io.spawn(fly(Arc::clone(inner))).abort_handle()),
        }
    }

    /// Waits until the first attempts to connect are over, or for `limit`.
    pub(in crate::redis) fn wait_for_first_attempt(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        if let Self::Many(cluster) = self {
            cluster.wait_for_first_chart(deadline);
        }
        for shard in self.shards() {
            shard.link.wait_for_first_attempt(deadline);
        }
    }

    /// Every server that is known to hold something.
    pub(in crate::redis) fn shards(&self) -> Vec<Arc<Shard>> {
        match self {
            Self::One(shard) => vec![Arc::clone(shard)],
            Self::Many(cluster) => cluster.chart().shards().to_vec(),
        }
    }

    /// The server that holds a partition, as far as is known.
    ///
    /// # Errors
    /// `Unavailable` where none is known, `Closed` after the end.
    pub(in crate::redis) fn shard(&self, partition: usize) -> Result<Arc<Shard>> {
        match self {
            Self::One(shard) => Ok(Arc::clone(shard)),
            Self::Many(_) if self.is_closed() => Err(closed()),
            Self::Many(cluster) => cluster.chart().owner(partition).ok_or_else(|| cluster.unknown()),
        }
    }

    /// Whether every partition can be used now.
    pub(in crate::redis) fn is_up(&self) -> bool {
        match self {
            Self::One(shard) => shard.link.is_up(),
            Self::Many(cluster) => cluster.chart().is_up(),
        }
    }

    /// Why not, where one cannot.
    pub(in crate::redis) fn check(&self) -> Result<()> {
        match self {
            Self::One(shard) => shard.link.connection().map(drop),
            Self::Many(_) if self.is_closed() => Err(closed()),
            Self::Many(cluster) if !cluster.chart().is_whole() => Err(cluster.unknown()),
            Self::Many(cluster) => {
                cluster.chart().shards().iter().try_for_each(|shard| shard.link.connection().map(drop))
            }
        }
    }

    /// Why the first server that cannot be used cannot be.
    pub(in crate::redis) fn trouble(&self) -> Option<Arc<str>> {
        let of_shard = self.shards().iter().find_map(|shard| shard.link.trouble());
        match self {
            Self::Many(cluster) if of_shard.is_none() && !self.is_up() => Some(cluster.failure().into()),
            _ => of_shard,
        }
    }

    /// When all that holds a partition surely was there last.
    pub(in crate::redis) fn contact(&self) -> Option<Instant> {
        match self {
            Self::One(shard) => shard.link.contact(),
            Self::Many(cluster) => cluster.chart().contact(),
        }
    }

    /// How many connections stood since the beginning.
    pub(in crate::redis) fn connections(&self) -> u64 {
        match self {
            Self::One(shard) => shard.link.connections(),
            Self::Many(cluster) => cluster.connections(),
        }
    }

    pub(in crate::redis) fn is_closed(&self) -> bool {
        match self {
            Self::One(shard) => shard.link.is_closed(),
            Self::Many(cluster) => cluster.is_closed(),
        }
    }

    pub(in crate::redis) fn close(&self) {
        match self {
            Self::One(shard) => shard.close(),
            Self::Many(cluster) => cluster.close(),
        }
    }
}

/// The same error for another of the results that it stands for.
pub(in crate::redis) fn again(error: &Error) -> Error {
    Error::new(error.kind(), error.to_string())
}

pub(in crate::redis) fn unavailable(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unavailable, why.into())
}
