//! The masters of a cluster. A task refreshes the slot map every few seconds, and whenever a caller finds it
//! wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::{join_all, select_ok};
use larder_core::Error;
use parking_lot::{Condvar, Mutex, RwLock};
use redis::RedisResult;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::redis::Inner;
use crate::redis::connection::Connection;
use crate::redis::connection::address::Address;
use crate::redis::connection::channel::Channel;
use crate::redis::connection::lifecycle::ShardLifecycle;
use crate::redis::connection::supervisor::TimeLimits;
use crate::redis::server::commands::{error_text, name_forbidden};
use crate::redis::topology::cluster_nodes::ClusterView;
use crate::redis::topology::shard::Shard;
use crate::redis::topology::slot_map::{SlotMap, SlotMapBuilder};
use crate::redis::topology::{Topology, unavailable};

/// Time between two refreshes while all nodes are connected.
const REFRESH_INTERVAL: Duration = Duration::from_secs(5);
/// The same while a partition has no connected node.
const REFRESH_INTERVAL_DOWN: Duration = Duration::from_millis(100);
/// The shortest time between two refreshes.
const REFRESH_INTERVAL_MIN: Duration = Duration::from_millis(10);
/// How long a node that left the slot map is kept, for calls in progress.
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// The known state of a cluster.
pub(in crate::redis) struct Cluster {
    seeds: Vec<Address>,
    limits: TimeLimits,
    slot_map: RwLock<Arc<SlotMap>>,
    /// Nodes from redirections that the slot map does not contain yet.
    redirect_targets: Mutex<Vec<Address>>,
    /// A caller found the slot map wrong.
    refresh_requested: Notify,
    /// A refresh is over, successful or not.
    refreshed: Notify,
    /// The reason why the last refresh failed; `None` after a success.
    failure: Mutex<Option<String>>,
    first_refresh_over: (Mutex<bool>, Condvar),
    closed: AtomicBool,
    /// Connections of removed shards.
    closed_connections: AtomicU64,
    /// Shards that have left the slot map, while calls to them are in progress.
    draining: Mutex<Vec<Arc<Shard>>>,
    refresh_task: Mutex<Option<AbortHandle>>,
}

impl Cluster {
    pub(in crate::redis) fn new(seeds: Vec<Address>, limits: TimeLimits) -> Self {
        Self {
            seeds,
            limits,
            slot_map: RwLock::new(Arc::new(SlotMap::empty())),
            redirect_targets: Mutex::default(),
            refresh_requested: Notify::new(),
            refreshed: Notify::new(),
            failure: Mutex::default(),
            first_refresh_over: Default::default(),
            closed: AtomicBool::new(false),
            closed_connections: AtomicU64::new(0),
            draining: Mutex::default(),
            refresh_task: Mutex::new(None),
        }
    }

    pub(in crate::redis) fn set_refresh_task(&self, task: AbortHandle) {
        *self.refresh_task.lock() = Some(task);
    }

    pub(in crate::redis) fn slot_map(&self) -> Arc<SlotMap> {
        Arc::clone(&self.slot_map.read())
    }

    pub(in crate::redis) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(in crate::redis) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        if let Some(task) = self.refresh_task.lock().take() {
            task.abort();
        }
        self.slot_map().shards().iter().for_each(|shard| shard.close());
        self.draining.lock().drain(..).for_each(|shard| shard.close());
        self.notify_refreshed();
    }

    pub(in crate::redis) fn connections(&self) -> u64 {
        let now: u64 = self.slot_map().shards().iter().map(|shard| shard.supervisor.connections()).sum();
        now + self.closed_connections.load(Ordering::Relaxed)
    }

    /// The error for a partition that no known node holds.
    pub(in crate::redis) fn no_owner(&self) -> Error {
        unavailable(self.failure())
    }

    /// Why no known node holds a partition.
    pub(in crate::redis) fn failure(&self) -> String {
        let why = self.failure.lock().clone();
        why.unwrap_or_else(|| "no known node of the cluster holds this partition".to_owned())
    }

    pub(in crate::redis) fn wait_for_first_refresh(&self, deadline: Instant) {
        let mut is_over = self.first_refresh_over.0.lock();
        while !*is_over && !self.first_refresh_over.1.wait_until(&mut is_over, deadline).timed_out() {}
    }

    /// Requests a refresh of the slot map soon.
    pub(in crate::redis) fn request_refresh(&self) {
        self.refresh_requested.notify_one();
    }

    /// The shard at the address of a redirection, added if it is new. `None` if it cannot be reached.
    pub(in crate::redis) async fn shard_at_redirect(&self, place: &str, from: &Shard) -> Option<Arc<Shard>> {
        let address = self.parse_redirect(place, from)?;
        if self.slot_map().shard_at(&address).is_none() {
            self.redirect_targets.lock().push(address.clone());
            self.refresh().await;
        }
        let shard = self.slot_map().shard_at(&address)?;
        shard.supervisor.first_attempt().await;
        Some(shard)
    }

    /// Adds the node of a redirection to the slot map; returns whether it was known already.
    pub(in crate::redis) fn add_redirect_target(&self, place: &str, from: &Shard) -> bool {
        let Some(address) = self.parse_redirect(place, from) else { return false };
        let known = self.slot_map().shard_at(&address).is_some();
        self.redirect_targets.lock().push(address);
        self.request_refresh();
        known
    }

    /// Parses `host:port`; an empty host is that of the node that sent the redirection.
    fn parse_redirect(&self, place: &str, from: &Shard) -> Option<Address> {
        let (host, port) = place.rsplit_once(':')?;
        let sender = from.address.as_ref()?;
        let host = if host.is_empty() { sender.host() } else { host };
        Some(sender.at(host, port.parse().ok()?))
    }

    /// Requests a refresh and waits until it is over, in bounded time.
    async fn refresh(&self) {
        let refreshed = self.refreshed.notified();
        let mut refreshed = std::pin::pin!(refreshed);
        refreshed.as_mut().enable();
        self.request_refresh();
        if !self.is_closed() {
            refreshed.await;
        }
    }

    fn notify_refreshed(&self) {
        *self.first_refresh_over.0.lock() = true;
        self.first_refresh_over.1.notify_all();
        self.refreshed.notify_waiters();
    }

    /// Asks the connected nodes for the slot map, or any other node if none answers.
    async fn current_view(&self) -> RedisResult<ClusterView> {
        let limit = self.limits.answer / 3;
        let slot_map = self.slot_map();
        let asked = slot_map.shards().iter().filter_map(|shard| {
            let (connection, address) = (shard.supervisor.connection().ok()?, shard.address.clone()?);
            Some(async move { timeout(limit, view_of_node(connection, &address)).await.ok()?.ok() })
        });
        let views: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
        match views.into_iter().reduce(ClusterView::merge) {
            Some(view) => Ok(view),
            None => self.view_of_any_node(&slot_map).await,
        }
    }

    async fn view_of_any_node(&self, slot_map: &SlotMap) -> RedisResult<ClusterView> {
        let asked = self.seeds.iter().chain(slot_map.nodes()).map(|address| {
            Box::pin(async move {
                let view = timeout(self.limits.connect, connect_and_ask(address)).await;
                view.unwrap_or_else(|_| {
                    Err((redis::ErrorKind::Io, "the nodes of the cluster do not answer").into())
                })
            })
        });
        select_ok(asked).await.map(|(view, _)| view)
    }
}

async fn connect_and_ask(address: &Address) -> RedisResult<ClusterView> {
    let connection = Connection::open(address).await?;
    view_of_node(connection.handle.clone(), address).await
}

async fn view_of_node(mut connection: Channel, address: &Address) -> RedisResult<ClusterView> {
    let reply: String = redis::cmd("CLUSTER")
        .arg("NODES")
        .query_async(&mut connection)
        .await
        .map_err(|error| name_forbidden("CLUSTER NODES", error))?;
    // Over TLS use host names, since a certificate names a host.
    Ok(ClusterView::read(&reply, address.host(), address.is_secure()))
}

/// Keeps the slot map of a cluster up to date until the task is aborted.
pub(in crate::redis) async fn refresh_forever(inner: Arc<Inner>) {
    let Topology::Cluster(cluster) = &inner.topology else { return };
    loop {
        match cluster.current_view().await {
            Ok(view) => update(&inner, cluster, view),
            Err(error) => {
                tracing::debug!(target: "larder", error = %error, "the nodes of the Redis cluster do not report the slots");
                *cluster.failure.lock() = Some(error_text(&error));
            }
        }
        cluster.notify_refreshed();
        tokio::time::sleep(REFRESH_INTERVAL_MIN).await;
        let pause = if cluster.slot_map().is_up() { REFRESH_INTERVAL } else { REFRESH_INTERVAL_DOWN };
        let _requested = timeout(pause, cluster.refresh_requested.notified()).await;
    }
}

/// Installs the slot map of a view, connects new shards, and closes those that are no longer needed.
fn update(inner: &Arc<Inner>, cluster: &Cluster, view: ClusterView) {
    let Some(seed) = cluster.seeds.first() else { return };
    let old = cluster.slot_map();
    let redirect_targets = std::mem::take(&mut *cluster.redirect_targets.lock());
    let (new, new_shards) = SlotMapBuilder::new(&old, seed, cluster.limits).build(view, redirect_targets);
    *cluster.failure.lock() = None;
    install(inner, cluster, &old, new);
    new_shards.iter().for_each(|shard| ShardLifecycle::launch(inner, shard, &Handle::current()));
}

/// Closes a shard after the calls in progress have ended.
async fn close_after_drain(inner: Arc<Inner>, shard: Arc<Shard>) {
    tokio::time::sleep(DRAIN_TIME).await;
    shard.close();
    if let Topology::Cluster(cluster) = &inner.topology {
        cluster.draining.lock().retain(|draining| !Arc::ptr_eq(draining, &shard));
    }
}

fn install(inner: &Arc<Inner>, cluster: &Cluster, old: &SlotMap, new: SlotMap) {
    let moved = old.moved_owners(&new);
    let new = Arc::new(new);
    *cluster.slot_map.write() = Arc::clone(&new);
    let is_kept = |shard: &&Arc<Shard>| new.shards().iter().any(|kept| Arc::ptr_eq(kept, shard));
    for removed in old.shards().iter().filter(|shard| !is_kept(shard)) {
        cluster.closed_connections.fetch_add(removed.supervisor.connections(), Ordering::Relaxed);
        cluster.draining.lock().push(Arc::clone(removed));
        drop(tokio::spawn(close_after_drain(Arc::clone(inner), Arc::clone(removed))));
    }
    // The notices of a former master about a partition may be incomplete.
    if moved {
        tracing::info!(target: "larder", "partitions of the Redis cluster have moved to another master");
        inner.report_lost_notices();
    }
    if cluster.is_closed() {
        new.shards().iter().for_each(|shard| shard.close());
    }
}
