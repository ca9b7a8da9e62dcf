//! The masters of a cluster. A refresh task asks the nodes which node holds which slot, whenever a caller
//! finds the slot map wrong, and every few seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::{join_all, select_ok};
use larder_core::Error;
use parking_lot::{Condvar, Mutex, RwLock};
use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::redis::Inner;
use crate::redis::connection::Session;
use crate::redis::connection::address::Address;
use crate::redis::connection::lifecycle::Keeper;
use crate::redis::connection::supervisor::{Link, Patience, Source};
use crate::redis::keys::names::PARTITIONS;
use crate::redis::server::commands::{needed, said};
use crate::redis::topology::shard::Shard;
use crate::redis::topology::slot_map::View;
use crate::redis::topology::{Fleet, unavailable};

/// Time between two refreshes while all nodes are connected.
const CALM: Duration = Duration::from_secs(5);
/// The same while a partition has no connected node.
const ALARM: Duration = Duration::from_millis(100);
/// The shortest time between two refreshes.
const BREATH: Duration = Duration::from_millis(10);
/// How long a node that left the slot map is kept, for calls in progress.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long a node without a partition of this cache is kept after its last use.
const GUEST_STAY: Duration = Duration::from_secs(60);

/// The known state of a cluster.
pub(in crate::redis) struct Cluster {
    seeds: Vec<Address>,
    patience: Patience,
    chart: RwLock<Arc<Chart>>,
    /// Nodes from redirections that the slot map does not contain yet.
    invited: Mutex<Vec<Address>>,
    /// A caller found the slot map wrong.
    wanted: Notify,
    /// A refresh is over, successful or not.
    drawn: Notify,
    /// The reason why the last refresh failed; `None` after a success.
    failure: Mutex<Option<String>>,
    tried: (Mutex<bool>, Condvar),
    closed: AtomicBool,
    /// Connections of removed shards.
    former: AtomicU64,
    /// Shards that have left the slot map, while calls to them are in progress.
    leaving: Mutex<Vec<Arc<Shard>>>,
    pilot: Mutex<Option<AbortHandle>>,
}

/// The slot map: which shard holds which partition.
#[derive(Default)]
pub(in crate::redis) struct Chart {
    owners: Vec<Option<Arc<Shard>>>,
    /// Nodes that take part in the migration of a slot, and when each was last used.
    guests: Vec<(Arc<Shard>, Instant)>,
    /// All known nodes, to ask if no other node answers.
    nodes: Vec<Address>,
    /// Owners and guests, each once.
    shards: Vec<Arc<Shard>>,
}

impl Chart {
    pub(in crate::redis) fn owner(&self, partition: usize) -> Option<Arc<Shard>> {
        self.owners.get(partition).cloned().flatten()
    }

    /// The partitions that a shard holds.
    pub(in crate::redis) fn holdings(&self, shard: &Arc<Shard>) -> Vec<usize> {
        let holds =
            |owner: &Option<Arc<Shard>>| owner.as_ref().is_some_and(|owner| Arc::ptr_eq(owner, shard));
        (0..self.owners.len()).filter(|partition| holds(&self.owners[*partition])).collect()
    }

    /// The shard at an address.
    pub(in crate::redis) fn at(&self, address: &Address) -> Option<Arc<Shard>> {
        self.shards.iter().find(|shard| shard.is_at(address)).cloned()
    }

    pub(in crate::redis) fn shards(&self) -> &[Arc<Shard>] {
        &self.shards
    }

    /// Completes the map with its list of shards.
    fn listed(mut self) -> Self {
        for shard in self.owners.iter().flatten().chain(self.guests.iter().map(|(guest, _)| guest)) {
            if !self.shards.iter().any(|known| Arc::ptr_eq(known, shard)) {
                self.shards.push(Arc::clone(shard));
            }
        }
        self
    }

    pub(in crate::redis) fn is_whole(&self) -> bool {
        self.owners.iter().all(Option::is_some)
    }

    pub(in crate::redis) fn is_up(&self) -> bool {
        // A guest may be gone for good, and holds no partition.
        self.is_whole()
            && self.shards.iter().all(|shard| shard.link.is_up() || self.holdings(shard).is_empty())
    }

    /// The earliest of the shards' last contacts; guests included, since they may hold a key.
    pub(in crate::redis) fn contact(&self) -> Option<Instant> {
        if !self.is_whole() {
            return None;
        }
        let contacts = self.shards.iter().map(|shard| shard.link.contact());
        contacts.collect::<Option<Vec<_>>>()?.into_iter().min()
    }
}

impl Cluster {
    pub(in crate::redis) fn new(seeds: Vec<Address>, patience: Patience) -> Self {
        let nowhere = Chart { owners: vec![None; PARTITIONS], ..Chart::default() };
        Self {
            seeds,
            patience,
            chart: RwLock::new(Arc::new(nowhere)),
            invited: Mutex::default(),
            wanted: Notify::new(),
            drawn: Notify::new(),
            failure: Mutex::default(),
            tried: Default::default(),
            closed: AtomicBool::new(false),
            former: AtomicU64::new(0),
            leaving: Mutex::default(),
            pilot: Mutex::new(None),
        }
    }

    pub(in crate::redis) fn keep(&self, pilot: AbortHandle) {
        *self.pilot.lock() = Some(pilot);
    }

    pub(in crate::redis) fn chart(&self) -> Arc<Chart> {
        Arc::clone(&self.chart.read())
    }

    pub(in crate::redis) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(in crate::redis) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        if let Some(pilot) = self.pilot.lock().take() {
            pilot.abort();
        }
        self.chart().shards().iter().for_each(|shard| shard.close());
        self.leaving.lock().drain(..).for_each(|shard| shard.close());
        self.announce();
    }

    pub(in crate::redis) fn connections(&self) -> u64 {
        let now: u64 = self.chart().shards().iter().map(|shard| shard.link.connections()).sum();
        now + self.former.load(Ordering::Relaxed)
    }

    /// Error: no known server owns this partition.
    pub(in crate::redis) fn unknown(&self) -> Error {
        unavailable(self.failure())
    }

    /// Why no node is known to hold something.
    pub(in crate::redis) fn failure(&self) -> String {
        let why = self.failure.lock().clone();
        why.unwrap_or_else(|| "no node of the cluster is known to hold this".to_owned())
    }

    pub(in crate::redis) fn wait_for_first_chart(&self, deadline: Instant) {
        let mut tried = self.tried.0.lock();
        while !*tried && !self.tried.1.wait_until(&mut tried, deadline).timed_out() {}
    }

    /// Requests a refresh of the slot map soon.
    pub(in crate::redis) fn doubt(&self) {
        self.wanted.notify_one();
    }

    /// The shard at the address of a redirection, added if it is new. `None` if it cannot be reached.
    pub(in crate::redis) async fn visit(&self, place: &str, from: &Shard) -> Option<Arc<Shard>> {
        let address = self.place(place, from)?;
        if self.chart().at(&address).is_none() {
            self.invited.lock().push(address.clone());
            self.redraw().await;
        }
        let shard = self.chart().at(&address)?;
        shard.link.first_attempt().await;
        Some(shard)
    }

    /// Adds the node of a redirection to the guests; returns whether it was known already.
    pub(in crate::redis) fn invite(&self, place: &str, from: &Shard) -> bool {
        let Some(address) = self.place(place, from) else { return false };
        let known = self.chart().at(&address).is_some();
        self.invited.lock().push(address);
        self.doubt();
        known
    }

    /// Parses `host:port`; an empty host is that of the node that sent the redirection.
    fn place(&self, place: &str, from: &Shard) -> Option<Address> {
        let (host, port) = place.rsplit_once(':')?;
        let speaker = from.address.as_ref()?;
        let host = if host.is_empty() { speaker.host() } else { host };
        Some(speaker.at(host, port.parse().ok()?))
    }

    /// Requests a refresh and waits until it is over, in bounded time.
    async fn redraw(&self) {
        let drawn = self.drawn.notified();
        let mut drawn = std::pin::pin!(drawn);
        drawn.as_mut().enable();
        self.doubt();
        if !self.is_closed() {
            drawn.await;
        }
    }

    fn announce(&self) {
        *self.tried.0.lock() = true;
        self.tried.1.notify_all();
        self.drawn.notify_waiters();
    }

    /// Asks the connected nodes for the slot map, or any other node if none answers.
    async fn ask(&self) -> RedisResult<View> {
        let limit = self.patience.answer / 3;
        let chart = self.chart();
        let asked = chart.shards().iter().filter_map(|shard| {
            let (connection, address) = (shard.link.connection().ok()?, shard.address.clone()?);
            Some(async move { timeout(limit, nodes(connection, &address)).await.ok()?.ok() })
        });
        let views: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
        match views.into_iter().reduce(View::merge) {
            Some(view) => Ok(view),
            None => self.ask_anybody(&chart).await,
        }
    }

    async fn ask_anybody(&self, chart: &Chart) -> RedisResult<View> {
        let asked = self.seeds.iter().chain(&chart.nodes).map(|address| {
            Box::pin(async move {
                let view = timeout(self.patience.connect, meet(address)).await;
                view.unwrap_or_else(|_| Err((redis::ErrorKind::Io, "no node of the cluster answers").into()))
            })
        });
        select_ok(asked).await.map(|(view, _)| view)
    }
}

async fn meet(address: &Address) -> RedisResult<View> {
    let session = Session::open(address).await?;
    nodes(session.connection.clone(), address).await
}

async fn nodes(mut connection: MultiplexedConnection, address: &Address) -> RedisResult<View> {
    let told: String = redis::cmd("CLUSTER")
        .arg("NODES")
        .query_async(&mut connection)
        .await
        .map_err(|error| needed("CLUSTER NODES", error))?;
    // Over TLS use host names, since a certificate names a host.
    Ok(View::read(&told, address.host(), address.is_secure()))
}

/// Keeps the slot map of a cluster up to date until the task is aborted.
pub(in crate::redis) async fn fly(inner: Arc<Inner>) {
    let Fleet::Many(cluster) = &inner.fleet else { return };
    loop {
        match cluster.ask().await {
            Ok(view) => draw(&inner, cluster, view),
            Err(error) => {
                tracing::debug!(target: "larder", error = %error, "nobody tells of the cluster");
                *cluster.failure.lock() = Some(said(&error));
            }
        }
        cluster.announce();
        tokio::time::sleep(BREATH).await;
        let pause = if cluster.chart().is_up() { CALM } else { ALARM };
        let _in_doubt = timeout(pause, cluster.wanted.notified()).await;
    }
}

/// Builds a slot map from a view: known shards stay, new ones are launched, and shards that are no longer
/// needed are closed.
fn draw(inner: &Arc<Inner>, cluster: &Cluster, view: View) {
    let Some(speaker) = cluster.seeds.first() else { return };
    let mut drawing = Drawing { old: cluster.chart(), launched: Vec::new(), patience: cluster.patience };
    let nodes = view.nodes.iter().map(|(host, port)| speaker.at(host, *port)).collect();
    let owners = view.claims.into_iter().enumerate().map(|(partition, claim)| match claim {
        Some(claim) => Some(drawing.shard_at(speaker.at(&claim.host, claim.port))),
        None => drawing.old.owner(partition),
    });
    let owners = owners.collect();
    let guests = drawing.guests(std::mem::take(&mut *cluster.invited.lock()));
    let chart = Chart { owners, guests, nodes, shards: Vec::new() }.listed();
    *cluster.failure.lock() = None;
    replace(inner, cluster, &drawing.old, chart);
    drawing.launched.iter().for_each(|shard| Keeper::launch(inner, shard, &Handle::current()));
}

/// Closes a shard after the calls in progress have ended.
async fn see_off(inner: Arc<Inner>, shard: Arc<Shard>) {
    tokio::time::sleep(FAREWELL).await;
    shard.close();
    if let Fleet::Many(cluster) = &inner.fleet {
        cluster.leaving.lock().retain(|leaving| !Arc::ptr_eq(leaving, &shard));
    }
}

/// A slot map under construction.
struct Drawing {
    old: Arc<Chart>,
    launched: Vec<Arc<Shard>>,
    patience: Patience,
}

impl Drawing {
    fn shard_at(&mut self, address: Address) -> Arc<Shard> {
        let launched = || self.launched.iter().find(|shard| shard.is_at(&address)).cloned();
        if let Some(shard) = self.old.at(&address).or_else(launched) {
            return shard;
        }
        let link = Link::new(Source::Fixed(address.clone()), self.patience);
        let shard = Arc::new(Shard::new(link, Some(address)));
        self.launched.push(Arc::clone(&shard));
        shard
    }

    fn guests(&mut self, invited: Vec<Address>) -> Vec<(Arc<Shard>, Instant)> {
        let mut guests: Vec<(Arc<Shard>, Instant)> = Vec::new();
        let invited: Vec<_> =
            invited.into_iter().map(|address| (self.shard_at(address), Instant::now())).collect();
        let stay = self.old.guests.iter().filter(|(_, needed)| needed.elapsed() < GUEST_STAY);
        for (guest, needed) in invited.iter().chain(stay) {
            if !guests.iter().any(|(known, _)| Arc::ptr_eq(known, guest)) {
                guests.push((Arc::clone(guest), *needed));
            }
        }
        guests
    }
}

fn replace(inner: &Arc<Inner>, cluster: &Cluster, old: &Chart, new: Chart) {
    let moved = old.owners.iter().zip(&new.owners).any(|(old, new)| match (old, new) {
        (Some(old), Some(new)) => !Arc::ptr_eq(old, new),
        _ => false,
    });
    let new = Arc::new(new);
    *cluster.chart.write() = Arc::clone(&new);
    let is_kept = |shard: &&Arc<Shard>| new.shards.iter().any(|kept| Arc::ptr_eq(kept, shard));
    for gone in old.shards.iter().filter(|shard| !is_kept(shard)) {
        cluster.former.fetch_add(gone.link.connections(), Ordering::Relaxed);
        cluster.leaving.lock().push(Arc::clone(gone));
        drop(tokio::spawn(see_off(Arc::clone(inner), Arc::clone(gone))));
    }
    // The notices of a former master about a partition may be incomplete.
    if moved {
        tracing::info!(target: "larder", "partitions have another master");
        inner.distrust();
    }
    if cluster.is_closed() {
        new.shards.iter().for_each(|shard| shard.close());
    }
}
