//! What the tier does when the connection to a server is established, beats or is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::{Pipeline, PushInfo, RedisResult, Value};
use tokio::runtime::Handle;

use crate::redis::Inner;
use crate::redis::connection::channel::Channel;
use crate::redis::connection::supervisor::Lifecycle;
use crate::redis::keys::names::PARTITIONS;
use crate::redis::keys::partition_epochs::days;
use crate::redis::server::commands;
use crate::redis::topology::Topology;
use crate::redis::topology::cluster::Cluster;
use crate::redis::topology::router::Redirection;
use crate::redis::topology::shard::Shard;

/// The maximum age of a survey while entries are written.
const SURVEY_AGE: Duration = Duration::from_secs(5);

/// The callbacks for the connection to one server of the tier.
pub(in crate::redis) struct ShardLifecycle {
    inner: Arc<Inner>,
    shard: Arc<Shard>,
    /// The day on which this version was last registered in the epoch records.
    listed_on: AtomicU64,
}

impl ShardLifecycle {
    /// Starts the supervisor of the connection to `shard`.
    pub(in crate::redis) fn launch(inner: &Arc<Inner>, shard: &Arc<Shard>, io: &Handle) {
        let lifecycle = Arc::new(Self {
            inner: Arc::clone(inner),
            shard: Arc::clone(shard),
            listed_on: AtomicU64::new(0),
        });
        shard.set_task(io.spawn(Arc::clone(&shard.supervisor).supervise(lifecycle)).abort_handle());
    }

    /// Whether the answer about an epoch record shows that this server still holds its partition.
    fn confirms(&self, cluster: &Cluster, answer: Value) -> RedisResult<bool> {
        let Err(error) = answer.extract_error() else { return Ok(true) };
        match Redirection::of(&error) {
            // The target of the redirection gets heartbeats too, once it is known.
            Some(Redirection::Ask(place)) => Ok(cluster.add_redirect_target(&place, &self.shard)),
            Some(_) => {
                cluster.request_refresh();
                Ok(false)
            }
            None => Err(error),
        }
    }
}

impl Lifecycle for ShardLifecycle {
    async fn on_connect(&self, mut connection: Channel) -> RedisResult<()> {
        let inner = &self.inner;
        if let Some(notices) = &inner.notices {
            notices.begin(&inner.names, &mut connection).await?;
        }
        self.shard.with_survey(|survey| survey.at = None);
        let loaded = inner.epochs.load(&inner.names, self.shard.supervisor.time(), &mut connection).await;
        self.listed_on.store(days(self.shard.supervisor.time()), Ordering::Release);
        // Report a forbidden command before the errors that follow from it.
        commands::check(&inner.names, &mut connection).await?;
        loaded
    }

    /// In a cluster, a heartbeat must come from the node that holds the partitions: a master that was cut
    /// off, or that gave a slot away, would still answer for itself. With a listener, all partitions are
    /// queried. Without one, a single partition is enough to notice a cluster that is down.
    fn heartbeat_commands(&self) -> Pipeline {
        let mut pipe = Pipeline::new();
        if let Topology::Cluster(cluster) = &self.inner.topology {
            let most = if self.inner.notices.is_some() { PARTITIONS } else { 1 };
            for partition in cluster.slot_map().partitions_of(&self.shard).into_iter().take(most) {
                pipe.cmd("EXISTS").arg(self.inner.names.record(partition));
            }
        }
        pipe
    }

    fn on_heartbeat(&self, answers: Vec<Value>) -> RedisResult<bool> {
        let Topology::Cluster(cluster) = &self.inner.topology else { return Ok(true) };
        let mut content = true;
        for answer in answers {
            content &= self.confirms(cluster, answer)?;
        }
        Ok(content)
    }

    async fn after_heartbeat(self: &Arc<Self>, mut connection: Channel) {
        let (due, orphans) = self.shard.with_survey(|survey| {
            let due = survey.at.is_none_or(|at| survey.changed && at.elapsed() > SURVEY_AGE);
            (due, std::mem::take(&mut survey.orphans))
        });
        if orphans {
            // Left behind by a node that ended before its sweep was complete.
            drop(tokio::spawn(Arc::clone(&self.inner).sweep()));
        }
        let today = days(self.shard.supervisor.time());
        if self.listed_on.fetch_max(today, Ordering::AcqRel) < today
            && let Err(error) =
                self.inner.epochs.load(&self.inner.names, self.shard.supervisor.time(), &mut connection).await
        {
            tracing::debug!(target: "larder", error = %error, "cannot register this program version in the epoch records");
        }
        if due && let Err(error) = self.inner.survey(&self.shard, &mut connection).await {
            tracing::debug!(target: "larder", error = %error, "cannot count the entries in Redis");
        }
    }

    fn on_push(&self, push: PushInfo) {
        if let Some(notices) = &self.inner.notices {
            notices.on_push((&self.inner.names, &self.inner.epochs), &push);
        }
    }

    fn on_disconnect(&self) {
        self.inner.report_lost_notices();
        if let Topology::Cluster(cluster) = &self.inner.topology {
            cluster.request_refresh();
        }
    }
}
