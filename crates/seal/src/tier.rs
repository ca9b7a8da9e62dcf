//! A tier that seals what another tier stores.

use std::sync::Arc;
use std::time::Duration;

use larder_core::clock::Time;
use larder_core::frame::Frame;
use larder_core::key::EncodedKey;
use larder_core::stats::ServerFacts;
use larder_core::stream::Stored;
use larder_core::tier::{
    BlockingTier, BoxFuture, Capability, ConditionalPut, EntryVersion, LoadLease, PartitionEpoch, PutOptions,
    RemovalCause, SharedTier, StreamingTier, Tier, TierKind, Upload, Usage, VersionedFrame, VersionedTier,
};
use larder_core::{Bytes, Error, ErrorKind, Result};

use crate::cache_keys::PlaceKeys;
use crate::frame::{self, Opened, too_long};
use crate::medium;
use crate::upload::SealedUpload;

/// A tier whose entries are sealed: names, heads and values.
///
/// Reads return the frames of the engine. One that is sealed by a key that the cache does not have is returned
/// as it is stored, which the engine refuses and leaves alone. One that does not authenticate is returned as
/// an empty frame, which the engine refuses and removes. So neither is ever served.
pub struct SealedTier {
    tier: Arc<dyn Tier>,
    keys: Arc<PlaceKeys>,
}

impl SealedTier {
    pub(crate) fn new(tier: Arc<dyn Tier>, keys: Arc<PlaceKeys>) -> Self {
        Self { tier, keys }
    }

    fn sealed(&self, key: &EncodedKey, frame: &Frame) -> Result<(EncodedKey, Frame)> {
        if frame.len() as u64 > self.capability().frame_bytes_max {
            return Err(too_long().in_tier(self.kind()));
        }
        let name = self.keys.name(key);
        let sealed = frame::seal(&self.keys.ring(), &name, frame, self.tier.shared().is_some());
        sealed.map(|sealed| (name, sealed)).map_err(|error| error.in_tier(self.kind()))
    }

    fn opened(&self, names: (&EncodedKey, &EncodedKey), bytes: Bytes) -> Bytes {
        match frame::open(&self.keys.ring(), &bytes, names) {
            Opened::Frame(plain) => plain,
            Opened::OtherKey => bytes,
            Opened::NotAuthentic => Bytes::new(),
        }
    }

    /// The head of the engine in bytes that begin with a sealed head.
    fn opened_head(&self, (key, name): (&EncodedKey, &EncodedKey), bytes: Bytes) -> Bytes {
        let opened = match frame::open_head(&self.keys.ring(), &bytes, Some(name)) {
            Opened::Frame(head) if head.is_of(key) => Some(head.plain.into()),
            Opened::OtherKey => None,
            _ => Some(Bytes::new()),
        };
        opened.unwrap_or(bytes)
    }

    fn shared_tier(&self) -> Result<&dyn SharedTier> {
        self.tier.shared().ok_or_else(|| self.lacks_ability("shared"))
    }

    fn streaming_tier(&self) -> Result<&dyn StreamingTier> {
        self.tier.streaming().ok_or_else(|| self.lacks_ability("streaming"))
    }

    fn blocking_tier(&self) -> Result<&dyn BlockingTier> {
        self.tier.blocking().ok_or_else(|| self.lacks_ability("blocking"))
    }

    fn lacks_ability(&self, what: &str) -> Error {
        Error::new(ErrorKind::Unsupported, format!("the tier is not {what}")).in_tier(self.kind())
    }

    fn opened_versioned(&self, names: (&EncodedKey, &EncodedKey), found: VersionedFrame) -> VersionedFrame {
        VersionedFrame { frame: found.frame.map(|bytes| self.opened(names, bytes)), ..found }
    }
}

/// Bytes that sealing adds to a frame at most, beside those in proportion to it: the name, the attributes.
const ADDED_MAX: u64 = 64 << 10;

impl Tier for SealedTier {
    fn kind(&self) -> TierKind {
        self.tier.kind()
    }

    fn capability(&self) -> Capability {
        let inner = self.tier.capability();
        let frame_bytes_max = inner.frame_bytes_max;
        let frame_bytes_max = match frame_bytes_max {
            u64::MAX => u64::MAX,
            max => max.saturating_sub(max / 2048 + ADDED_MAX),
        };
        Capability { frame_bytes_max, ..inner }
    }

    fn get<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(async move {
            let name = self.keys.name(key);
            Ok(self.tier.get(&name).await?.map(|bytes| self.opened((key, &name), bytes)))
        })
    }

    fn head<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(async move {
            let name = self.keys.name(key);
            Ok(self.tier.head(&name).await?.map(|bytes| self.opened_head((key, &name), bytes)))
        })
    }

    fn put<'a>(&'a self, key: &'a EncodedKey, frame: &'a Frame) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let (name, sealed) = self.sealed(key, frame)?;
            self.tier.put(&name, &sealed).await
        })
    }

    fn remove<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move { self.tier.remove(&self.keys.name(key)).await })
    }

    fn contains<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move { self.tier.contains(&self.keys.name(key)).await })
    }

    fn clear(&self) -> BoxFuture<'_, Result<()>> {
        self.tier.clear()
    }

    /// Visits the heads that authenticate.
    fn scan<'a>(&'a self, visit: &'a mut (dyn FnMut(&[u8]) + Send)) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let ring = self.keys.ring();
            let mut visit_opened = |bytes: &[u8]| {
                if let Opened::Frame(head) = frame::open_head(&ring, bytes, None) {
                    visit(&head.plain);
                }
            };
            self.tier.scan(&mut visit_opened).await
        })
    }

    fn usage(&self) -> Usage {
        self.tier.usage()
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        self.tier.flush()
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        self.tier.close()
    }

    fn destroy(&self) -> BoxFuture<'_, Result<()>> {
        self.tier.destroy()
    }

    fn get_many<'a>(&'a self, keys: &'a [EncodedKey]) -> BoxFuture<'a, Vec<Result<Option<Bytes>>>> {
        Box::pin(async move {
            let names = self.keys.names(keys);
            let found = self.tier.get_many(&names).await;
            let found = found.into_iter().zip(keys.iter().zip(&names));
            found.map(|(found, names)| Ok(found?.map(|bytes| self.opened(names, bytes)))).collect()
        })
    }

    fn put_many<'a>(&'a self, entries: &'a [(EncodedKey, Frame)]) -> BoxFuture<'a, Vec<Result<()>>> {
        Box::pin(async move {
            let sealed: Result<Vec<_>> = entries.iter().map(|(key, frame)| self.sealed(key, frame)).collect();
            match sealed {
                Ok(sealed) => self.tier.put_many(&sealed).await,
                Err(error) => entries.iter().map(|_| Err(again(&error))).collect(),
            }
        })
    }

    fn remove_many<'a>(&'a self, keys: &'a [EncodedKey]) -> BoxFuture<'a, Vec<Result<bool>>> {
        Box::pin(async move { self.tier.remove_many(&self.keys.names(keys)).await })
    }

    fn lacks(&self, key: &EncodedKey) -> bool {
        self.tier.lacks(&self.keys.name(key))
    }

    fn servers(&self) -> Vec<ServerFacts> {
        self.tier.servers()
    }

    fn trouble(&self) -> Option<Arc<str>> {
        self.tier.trouble()
    }

    fn healthy(&self) -> bool {
        self.tier.healthy()
    }

    fn streaming(&self) -> Option<&dyn StreamingTier> {
        // The room for the head of a stream has none for the offset of a shared clock.
        self.tier.streaming().filter(|_| self.tier.shared().is_none()).map(|_| self as &dyn StreamingTier)
    }

    fn blocking(&self) -> Option<&dyn BlockingTier> {
        self.tier.blocking().map(|_| self as &dyn BlockingTier)
    }

    fn versioned(&self) -> Option<&dyn VersionedTier> {
        self.tier.versioned().map(|_| self as &dyn VersionedTier)
    }

    fn shared(&self) -> Option<&dyn SharedTier> {
        self.tier.shared().map(|_| self as &dyn SharedTier)
    }
}

impl BlockingTier for SealedTier {
    fn get_blocking(&self, key: &EncodedKey) -> Result<Option<Bytes>> {
        let name = self.keys.name(key);
        let found = self.blocking_tier()?.get_blocking(&name)?;
        Ok(found.map(|bytes| self.opened((key, &name), bytes)))
    }

    fn put_blocking(&self, key: &EncodedKey, frame: &Frame) -> Result<()> {
        let (name, sealed) = self.sealed(key, frame)?;
        self.blocking_tier()?.put_blocking(&name, &sealed)
    }

    fn remove_blocking(&self, key: &EncodedKey) -> Result<bool> {
        self.blocking_tier()?.remove_blocking(&self.keys.name(key))
    }
}

impl StreamingTier for SealedTier {
    fn open<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Stored>>> {
        Box::pin(async move {
            let name = self.keys.name(key);
            match self.streaming_tier()?.open(&name).await? {
                Some(stored) => medium::open(&self.keys, stored, (key, &name)).map(Some),
                None => Ok(None),
            }
        })
    }

    fn begin_upload<'a>(&'a self, key: &'a EncodedKey, head_len: usize) -> BoxFuture<'a, Result<Upload>> {
        Box::pin(async move {
            let (tier, name) = (self.streaming_tier()?, self.keys.name(key));
            let limit = self.capability().frame_bytes_max;
            SealedUpload::begin(tier, self.keys.ring(), (name, head_len, limit)).await.map(Upload::new)
        })
    }

    fn append<'a>(&'a self, upload: &'a mut Upload, bytes: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { upload.state::<SealedUpload>()?.append(self.streaming_tier()?, bytes).await })
    }

    fn publish<'a>(&'a self, _: &'a EncodedKey, upload: Upload, head: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let tier = self.streaming_tier()?;
            let (name, upload, head) = upload.into_state::<SealedUpload>()?.finish(tier, head).await?;
            tier.publish(&name, upload, &head).await
        })
    }
}

impl VersionedTier for SealedTier {
    fn version(&self, key: &EncodedKey) -> Option<EntryVersion> {
        self.tier.versioned()?.version(&self.keys.name(key))
    }

    fn compare_and_set<'a>(
        &'a self,
        key: &'a EncodedKey,
        frame: &'a Frame,
        options: PutOptions,
    ) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            let tier = self.tier.versioned().ok_or_else(|| self.lacks_ability("versioned"))?;
            let (name, sealed) = self.sealed(key, frame)?;
            tier.compare_and_set(&name, &sealed, options).await
        })
    }
}

impl SharedTier for SealedTier {
    fn get_versioned<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<VersionedFrame>> {
        Box::pin(async move {
            let name = self.keys.name(key);
            let found = self.shared_tier()?.get_versioned(&name).await?;
            Ok(self.opened_versioned((key, &name), found))
        })
    }

    fn get_many_versioned<'a>(
        &'a self,
        keys: &'a [EncodedKey],
    ) -> BoxFuture<'a, Vec<Result<VersionedFrame>>> {
        Box::pin(async move {
            let names = self.keys.names(keys);
            let found = match self.shared_tier() {
                Ok(tier) => tier.get_many_versioned(&names).await,
                Err(error) => keys.iter().map(|_| Err(again(&error))).collect(),
            };
            let found = found.into_iter().zip(keys.iter().zip(&names));
            found.map(|(found, names)| Ok(self.opened_versioned(names, found?))).collect()
        })
    }

    fn compare_and_set<'a>(
        &'a self,
        key: &'a EncodedKey,
        frame: &'a Frame,
        options: PutOptions,
    ) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            let (name, sealed) = self.sealed(key, frame)?;
            self.shared_tier()?.compare_and_set(&name, &sealed, options).await
        })
    }

    fn compare_and_set_many<'a>(&'a self, puts: &'a [ConditionalPut]) -> BoxFuture<'a, Vec<Result<bool>>> {
        Box::pin(async move {
            let sealed = |put: &ConditionalPut| {
                let (key, frame) = self.sealed(&put.key, &put.frame)?;
                Ok(ConditionalPut { key, frame, options: put.options })
            };
            let sealed: Result<Vec<_>> = puts.iter().map(sealed).collect();
            match sealed.and_then(|sealed| Ok((sealed, self.shared_tier()?))) {
                Ok((sealed, tier)) => tier.compare_and_set_many(&sealed).await,
                Err(error) => puts.iter().map(|_| Err(again(&error))).collect(),
            }
        })
    }

    fn compare_and_remove<'a>(
        &'a self,
        key: &'a EncodedKey,
        if_version: EntryVersion,
        cause: RemovalCause,
    ) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            self.shared_tier()?.compare_and_remove(&self.keys.name(key), if_version, cause).await
        })
    }

    fn take<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(async move {
            let name = self.keys.name(key);
            let taken = self.shared_tier()?.take(&name).await?;
            Ok(taken.map(|bytes| self.opened((key, &name), bytes)))
        })
    }

    fn lease_load<'a>(
        &'a self,
        key: &'a EncodedKey,
        span: Duration,
    ) -> BoxFuture<'a, Result<Option<LoadLease>>> {
        Box::pin(async move { self.shared_tier()?.lease_load(&self.keys.name(key), span).await })
    }

    fn lease_loads<'a>(
        &'a self,
        keys: &'a [EncodedKey],
        span: Duration,
    ) -> BoxFuture<'a, Vec<Result<Option<LoadLease>>>> {
        Box::pin(async move {
            match self.shared_tier() {
                Ok(tier) => tier.lease_loads(&self.keys.names(keys), span).await,
                Err(error) => keys.iter().map(|_| Err(again(&error))).collect(),
            }
        })
    }

    fn release_loads(&self, leases: Vec<(EncodedKey, u64)>) {
        if let Some(tier) = self.tier.shared() {
            let named = leases.into_iter().map(|(key, number)| (self.keys.name(&key), number));
            tier.release_loads(named.collect());
        }
    }

    fn epoch(&self, key: &EncodedKey) -> PartitionEpoch {
        let tier = self.tier.shared();
        tier.map_or_else(PartitionEpoch::default, |tier| tier.epoch(&self.keys.name(key)))
    }

    fn server_time(&self, key: &EncodedKey) -> Option<Time> {
        self.tier.shared()?.server_time(&self.keys.name(key))
    }

    fn removals_remembered(&self) -> Duration {
        self.tier.shared().map_or(Duration::ZERO, SharedTier::removals_remembered)
    }
}

/// A failure once more, for another key of the batch.
fn again(error: &Error) -> Error {
    Error::new(error.kind(), error.to_string())
}
