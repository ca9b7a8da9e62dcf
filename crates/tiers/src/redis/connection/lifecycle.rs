//! What is done at the turns of a connection's life, for one server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, PushInfo, RedisResult, Value};
use tokio::runtime::Handle;

use crate::redis::Inner;
use crate::redis::connection::supervisor::Owner;
use crate::redis::keys::names::PARTITIONS;
use crate::redis::keys::partition_epochs::days;
use crate::redis::server::commands;
use crate::redis::topology::Fleet;
use crate::redis::topology::cluster::Cluster;
use crate::redis::topology::router::Redirection;
use crate::redis::topology::shard::Shard;

/// How old a survey may become while entries are written.
const SURVEY_AGE: Duration = Duration::from_secs(5);

/// Keeps one server for the tier.
pub(in crate::redis) struct Keeper {
    inner: Arc<Inner>,
    shard: Arc<Shard>,
    /// The day when the marks were last told that this version is in use.
    listed_on: AtomicU64,
}

impl Keeper {
    /// Begins to keep the connection to `shard`.
    pub(in crate::redis) fn launch(inner: &Arc<Inner>, shard: &Arc<Shard>, io: &Handle) {
        let keeper = Arc::new(Self {
            inner: Arc::clone(inner),
            shard: Arc::clone(shard),
            listed_on: AtomicU64::new(0),
        });
        shard.keep(io.spawn(Arc::clone(&shard.link).supervise(keeper)).abort_handle());
    }

    /// Whether an answer about a mark says that this server still answers for it.
    fn confirms(&self, cluster: &Cluster, answer: Value) -> RedisResult<bool> {
        let Err(error) = answer.extract_error() else { return Ok(true) };
        match Redirection::of(&error) {
            // The other one is asked for its signs of life too, once it is known.
            Some(Redirection::Ask(place)) => Ok(cluster.invite(&place, &self.shard)),
            Some(_) => {
                cluster.doubt();
                Ok(false)
            }
            None => Err(error),
        }
    }
}

impl Owner for Keeper {
    async fn greet(&self, mut connection: MultiplexedConnection) -> RedisResult<()> {
        let inner = &self.inner;
        if let Some(notices) = &inner.notices {
            notices.begin(&inner.names, &mut connection).await?;
        }
        self.shard.with_counted(|counted| counted.at = None);
        let loaded = inner.marks.load(&inner.names, self.shard.link.time(), &mut connection).await;
        self.listed_on.store(days(self.shard.link.time()), Ordering::Release);
        // A command that is forbidden is named before what came of it.
        commands::check(&inner.names, &mut connection).await?;
        loaded
    }

    /// A sign of life in a cluster has to come from who holds the partitions: a
    /// master that was cut off from the others, or that gave a slot away, would
    /// still answer for itself. All are asked for where somebody listens; one
    /// otherwise, for the sake of a cluster that is down.
    fn pulse(&self) -> Pipeline {
        let mut pipe = Pipeline::new();
        if let Fleet::Many(cluster) = &self.inner.fleet {
            let most = if self.inner.notices.is_some() { PARTITIONS } else { 1 };
            for partition in cluster.chart().holdings(&self.shard).into_iter().take(most) {
                pipe.cmd("EXISTS").arg(self.inner.names.mark(partition));
            }
        }
        pipe
    }

    fn felt(&self, answers: Vec<Value>) -> RedisResult<bool> {
        let Fleet::Many(cluster) = &self.inner.fleet else { return Ok(true) };
        let mut content = true;
        for answer in answers {
            content &= self.confirms(cluster, answer)?;
        }
        Ok(content)
    }

    async fn alive(self: &Arc<Self>, mut connection: MultiplexedConnection) {
        let (due, orphans) = self.shard.with_counted(|counted| {
            let due = counted.at.is_none_or(|at| counted.changed && at.elapsed() > SURVEY_AGE);
            (due, std::mem::take(&mut counted.orphans))
        });
        if orphans {
            // Left behind by a node that ended before it had swept.
            drop(tokio::spawn(Arc::clone(&self.inner).sweep()));
        }
        let today = days(self.shard.link.time());
        if self.listed_on.fetch_max(today, Ordering::AcqRel) < today
            && let Err(error) =
                self.inner.marks.load(&self.inner.names, self.shard.link.time(), &mut connection).await
        {
            tracing::debug!(target: "larder", error = %error, "this version could not be noted as used today");
        }
        if due && let Err(error) = self.inner.survey(&self.shard, &mut connection).await {
            tracing::debug!(target: "larder", error = %error, "a survey of Redis failed");
        }
    }

    fn told(&self, push: PushInfo) {
        if let Some(notices) = &self.inner.notices {
            notices.told((&self.inner.names, &self.inner.marks), &push);
        }
    }

    fn lost(&self) {
        self.inner.distrust();
        if let Fleet::Many(cluster) = &self.inner.fleet {
            cluster.doubt();
        }
    }
}
