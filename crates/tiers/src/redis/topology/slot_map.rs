//! The slot map of a cluster: which shard holds which partition, and its update from a view of the cluster.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::redis::connection::address::Address;
use crate::redis::connection::supervisor::{Source, Supervisor, TimeLimits};
use crate::redis::keys::names::PARTITIONS;
use crate::redis::topology::cluster_nodes::ClusterView;
use crate::redis::topology::shard::Shard;

/// How long a shard without a partition of this cache is kept after its last use.
const REDIRECT_SHARD_KEEP: Duration = Duration::from_secs(60);

/// The slot map: which shard holds which partition.
#[derive(Default)]
pub(in crate::redis) struct SlotMap {
    /// The owner of each partition, as far as one is known.
    owners: Vec<Option<Arc<Shard>>>,
    /// Shards that only a redirection named, since a slot migrates to or from them, and the time of their last
    /// use.
    redirect_shards: Vec<(Arc<Shard>, Instant)>,
    /// All known nodes, to ask if no other node answers.
    nodes: Vec<Address>,
    /// Owners and redirect shards, each once.
    shards: Vec<Arc<Shard>>,
}

impl SlotMap {
    /// A map without owners.
    pub(in crate::redis) fn empty() -> Self {
        Self { owners: vec![None; PARTITIONS], ..Self::default() }
    }

    pub(in crate::redis) fn owner(&self, partition: usize) -> Option<Arc<Shard>> {
        self.owners.get(partition).cloned().flatten()
    }

    /// The partitions that a shard holds.
    pub(in crate::redis) fn partitions_of(&self, shard: &Arc<Shard>) -> Vec<usize> {
        let holds =
            |owner: &Option<Arc<Shard>>| owner.as_ref().is_some_and(|owner| Arc::ptr_eq(owner, shard));
        (0..self.owners.len()).filter(|partition| holds(&self.owners[*partition])).collect()
    }

    /// The shard at an address.
    pub(in crate::redis) fn shard_at(&self, address: &Address) -> Option<Arc<Shard>> {
        self.shards.iter().find(|shard| shard.is_at(address)).cloned()
    }

    /// All known nodes, to ask if no shard answers.
    pub(in crate::redis) fn nodes(&self) -> &[Address] {
        &self.nodes
    }

    /// Whether a partition has another owner in `new`.
    pub(in crate::redis) fn moved_owners(&self, new: &Self) -> bool {
        self.owners.iter().zip(&new.owners).any(|(old, new)| match (old, new) {
            (Some(old), Some(new)) => !Arc::ptr_eq(old, new),
            _ => false,
        })
    }

    pub(in crate::redis) fn shards(&self) -> &[Arc<Shard>] {
        &self.shards
    }

    /// Completes the map with its list of shards.
    fn with_shards(mut self) -> Self {
        for shard in self.owners.iter().flatten().chain(self.redirect_shards.iter().map(|(shard, _)| shard)) {
            if !self.shards.iter().any(|known| Arc::ptr_eq(known, shard)) {
                self.shards.push(Arc::clone(shard));
            }
        }
        self
    }

    pub(in crate::redis) fn is_complete(&self) -> bool {
        self.owners.iter().all(Option::is_some)
    }

    pub(in crate::redis) fn is_up(&self) -> bool {
        // A redirect shard may be gone for good, and holds no partition.
        self.is_complete()
            && self
                .shards
                .iter()
                .all(|shard| shard.supervisor.is_up() || self.partitions_of(shard).is_empty())
    }

    /// The earliest of the shards' last contacts; redirect shards included, since they may hold a key.
    pub(in crate::redis) fn contact(&self) -> Option<Instant> {
        if !self.is_complete() {
            return None;
        }
        let contacts = self.shards.iter().map(|shard| shard.supervisor.contact());
        contacts.collect::<Option<Vec<_>>>()?.into_iter().min()
    }
}

/// Builds a slot map from a view. Shards of the old map are kept where the view still needs them.
pub(in crate::redis) struct SlotMapBuilder<'a> {
    old: &'a SlotMap,
    /// Gives the credentials of the addresses in the view.
    seed: &'a Address,
    limits: TimeLimits,
    /// Shards that the old map does not have.
    new_shards: Vec<Arc<Shard>>,
}

impl<'a> SlotMapBuilder<'a> {
    pub(in crate::redis) fn new(old: &'a SlotMap, seed: &'a Address, limits: TimeLimits) -> Self {
        Self { old, seed, limits, new_shards: Vec::new() }
    }

    /// Returns the map and its new shards, which are not connected yet. `redirect_targets` are the addresses
    /// that redirections named since the old map was built.
    pub(in crate::redis) fn build(
        mut self,
        view: ClusterView,
        redirect_targets: Vec<Address>,
    ) -> (SlotMap, Vec<Arc<Shard>>) {
        let nodes = view.nodes.iter().map(|(host, port)| self.seed.at(host, *port)).collect();
        let owners = view.claims.into_iter().enumerate().map(|(partition, claim)| match claim {
            Some(claim) => Some(self.shard_at(self.seed.at(&claim.host, claim.port))),
            None => self.old.owner(partition),
        });
        let owners = owners.collect();
        let redirect_shards = self.redirect_shards(redirect_targets);
        let map = SlotMap { owners, redirect_shards, nodes, shards: Vec::new() }.with_shards();
        (map, self.new_shards)
    }

    fn shard_at(&mut self, address: Address) -> Arc<Shard> {
        let new = || self.new_shards.iter().find(|shard| shard.is_at(&address)).cloned();
        if let Some(shard) = self.old.shard_at(&address).or_else(new) {
            return shard;
        }
        let supervisor = Supervisor::new(Source::Fixed(address.clone()), self.limits);
        let shard = Arc::new(Shard::new(supervisor, Some(address)));
        self.new_shards.push(Arc::clone(&shard));
        shard
    }

    fn redirect_shards(&mut self, targets: Vec<Address>) -> Vec<(Arc<Shard>, Instant)> {
        let mut shards: Vec<(Arc<Shard>, Instant)> = Vec::new();
        let named: Vec<_> =
            targets.into_iter().map(|address| (self.shard_at(address), Instant::now())).collect();
        let recent =
            self.old.redirect_shards.iter().filter(|(_, last_use)| last_use.elapsed() < REDIRECT_SHARD_KEEP);
        for (shard, last_use) in named.iter().chain(recent) {
            if !shards.iter().any(|(known, _)| Arc::ptr_eq(known, shard)) {
                shards.push((Arc::clone(shard), *last_use));
            }
        }
        shards
    }
}
