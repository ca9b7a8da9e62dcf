//! What nodes tell one another about sealed entries.

use std::sync::Arc;
use std::time::Instant;

use larder_core::Result;
use larder_core::bus::{Bus, Listener, Notice};
use larder_core::clock::Time;
use larder_core::invalidation::{Invalidation, InvalidationRecord, Known, SharedInvalidations};
use larder_core::key::EncodedKey;
use larder_core::tier::BoxFuture;

use crate::cache_keys::{CacheKeys, PlaceKeys};
use crate::log::Tags;

/// A bus whose notices name entries of the tier that was sealed last. A name tells no key, so each notice has
/// its digest.
pub struct SealedBus {
    bus: Arc<dyn Bus>,
    place: Option<Arc<PlaceKeys>>,
}

impl SealedBus {
    /// Reads the notices of `bus`, about the tier that was sealed last.
    pub fn new(bus: Arc<dyn Bus>, keys: &CacheKeys) -> Self {
        Self { bus, place: keys.last_place() }
    }
}

impl Bus for SealedBus {
    fn listen(&self, listener: Arc<dyn Listener>) {
        self.bus.listen(Arc::new(ByDigest(listener)));
    }

    fn last_contact(&self) -> Option<Instant> {
        self.bus.last_contact()
    }

    fn digest_in_notices(&self, key: &EncodedKey) -> Option<u128> {
        self.place.as_ref().map(|place| place.name(key).digest())
    }
}

/// Passes notices on, with the digest of the name in place of the name.
struct ByDigest(Arc<dyn Listener>);

impl Listener for ByDigest {
    fn told(&self, notice: Notice) {
        self.0.told(match notice {
            Notice::Changed(name) => Notice::ChangedDigest(name.digest()),
            other => other,
        });
    }
}

/// The invalidations that nodes share, with sealed tags.
pub struct SealedInvalidations {
    invalidations: Arc<dyn SharedInvalidations>,
    tags: Tags,
}

impl SealedInvalidations {
    /// Seals the tags of `invalidations`.
    pub fn new(invalidations: Arc<dyn SharedInvalidations>, keys: &CacheKeys) -> Self {
        Self { invalidations, tags: Tags::new(keys) }
    }
}

impl SharedInvalidations for SealedInvalidations {
    fn time(&self) -> Option<Time> {
        self.invalidations.time()
    }

    fn exchange<'a>(
        &'a self,
        made: &'a [(Invalidation, Time)],
        known: Known,
    ) -> BoxFuture<'a, Result<Vec<InvalidationRecord>>> {
        Box::pin(async move {
            let sealed: Vec<_> = made.iter().map(|(made, at)| (self.tags.seal(made), *at)).collect();
            let records = self.invalidations.exchange(&sealed, known).await?;
            Ok(self.tags.opened(records))
        })
    }
}
