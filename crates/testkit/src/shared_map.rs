//! The smallest tier that nodes can share.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use larder_core::clock::{Clock, SystemClock, Time};
use larder_core::frame::{FIXED_LEN, Frame};
use larder_core::key::EncodedKey;
use larder_core::tier::{
    BoxFuture, Capability, EntryVersion, LastRemoval, LoadLease, PartitionEpoch, PutOptions, RemovalCause,
    SharedTier, Tier, TierKind, Usage, VersionedFrame,
};
use larder_core::{Bytes, Error, ErrorKind, Result};
use parking_lot::Mutex;

/// How long a removal is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Storage that several tiers share, as nodes share a server. Clones share one storage.
#[derive(Clone, Debug, Default)]
pub struct SharedMapStorage(Arc<Mutex<Contents>>);

#[derive(Debug, Default)]
struct Contents {
    entries: HashMap<Box<[u8]>, Entry>,
    leases: HashMap<Box<[u8]>, (u64, Instant)>,
    /// Rises with every change, and numbers versions, leases and clears.
    changes: u64,
    epoch: u64,
}

/// An entry, or the memory of its removal.
#[derive(Debug)]
struct Entry {
    frame: Option<Bytes>,
    version: u64,
    /// Who removed the entry, and when.
    removed: Option<(Remover, Instant)>,
}

#[derive(Clone, Copy, Debug)]
enum Remover {
    /// A caller of the tier with this number.
    Caller(u64),
    /// No caller asked for it: the entry with this identity was outdated.
    Upkeep(u32),
}

impl Contents {
    fn next(&mut self) -> u64 {
        self.changes += 1;
        self.changes
    }

    fn version(&self, key: &EncodedKey) -> Option<EntryVersion> {
        // An entry that never was has the version of the last clear.
        let version = self.entries.get(key.as_bytes()).map_or(self.epoch, |entry| entry.version);
        EntryVersion::new(version + 1)
    }

    fn set(&mut self, key: &EncodedKey, frame: Bytes) {
        let version = self.next();
        let removed = self.entries.remove(key.as_bytes()).and_then(|former| former.removed);
        self.entries.insert(key.as_bytes().into(), Entry { frame: Some(frame), version, removed });
    }

    fn take(&mut self, key: &EncodedKey, by: Remover) -> Option<Bytes> {
        let version = self.next();
        let entry = Entry { frame: None, version, removed: Some((by, Instant::now())) };
        self.entries.insert(key.as_bytes().into(), entry)?.frame
    }

    fn frames(&self) -> impl Iterator<Item = &Bytes> {
        self.entries.values().filter_map(|entry| entry.frame.as_ref())
    }
}

/// A shared tier in a hash map: the reference for [`SharedTier`]. It has no bound, evicts nothing, and never
/// forgets that there was a removal.
///
/// ```
/// use larder_core::tier::{PutOptions, SharedTier, Tier};
/// use larder_testkit::{SharedMapTier, block_on, sample};
///
/// let tier = SharedMapTier::default();
/// let (key, shared) = (sample::key(1), tier.shared().unwrap());
/// let frame = sample::frame(&key, sample::payload(1, 100));
/// let options = PutOptions::if_version(block_on(shared.get_versioned(&key)).unwrap().version.unwrap());
/// assert!(block_on(shared.compare_and_set(&key, &frame, options)).unwrap());
/// assert!(!block_on(shared.compare_and_set(&key, &frame, options)).unwrap(), "it has another version now");
/// ```
#[derive(Debug)]
pub struct SharedMapTier {
    /// Tells the removals of this tier from those of others.
    id: u64,
    storage: Mutex<Option<SharedMapStorage>>,
}

impl Default for SharedMapTier {
    fn default() -> Self {
        Self::on(&SharedMapStorage::default())
    }
}

impl SharedMapTier {
    /// Opens a tier on `storage`, beside those that are open there.
    pub fn on(storage: &SharedMapStorage) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(0);
        Self { id: IDS.fetch_add(1, Ordering::Relaxed), storage: Mutex::new(Some(storage.clone())) }
    }

    fn with<'a, T: Send + 'a>(
        &'a self,
        operation: &'static str,
        work: impl FnOnce(&mut Contents) -> T + Send + 'a,
    ) -> BoxFuture<'a, Result<T>> {
        Box::pin(async move {
            let storage = self.storage.lock().clone();
            let closed = || Error::new(ErrorKind::Closed, "the tier is closed").during(operation);
            let storage = storage.ok_or_else(closed)?;
            let mut contents = storage.0.lock();
            Ok(work(&mut contents))
        })
    }
}

impl Tier for SharedMapTier {
    fn kind(&self) -> TierKind {
        TierKind::Redis
    }

    fn capability(&self) -> Capability {
        Capability {
            stores: true,
            persistent: true,
            shared: true,
            blocking: false,
            frame_bytes_max: u64::MAX,
        }
    }

    fn get<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        self.with("get", |contents| contents.entries.get(key.as_bytes())?.frame.clone())
    }

    fn put<'a>(&'a self, key: &'a EncodedKey, frame: &'a Frame) -> BoxFuture<'a, Result<()>> {
        self.with("put", |contents| contents.set(key, frame.to_vec().into()))
    }

    fn remove<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        self.with("remove", |contents| contents.take(key, Remover::Caller(self.id)).is_some())
    }

    fn clear(&self) -> BoxFuture<'_, Result<()>> {
        self.with("clear", |contents| {
            contents.epoch = contents.next();
            contents.entries.clear();
        })
    }

    fn scan<'a>(&'a self, visit: &'a mut (dyn FnMut(&[u8]) + Send)) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let frames: Vec<Bytes> =
                self.with("scan", |contents| contents.frames().cloned().collect()).await?;
            frames.iter().filter(|frame| frame.len() >= FIXED_LEN).for_each(|frame| visit(frame));
            Ok(())
        })
    }

    fn usage(&self) -> Usage {
        let storage = self.storage.lock();
        let Some(storage) = &*storage else { return Usage::default() };
        let contents = storage.0.lock();
        let bytes = contents.frames().map(|frame| frame.len() as u64).sum();
        Usage { entries: contents.frames().count() as u64, bytes, evictions: 0 }
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        self.with("flush", |_| ())
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.storage.lock().take();
            Ok(())
        })
    }

    fn shared(&self) -> Option<&dyn SharedTier> {
        Some(self)
    }
}

impl SharedTier for SharedMapTier {
    fn get_versioned<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<VersionedFrame>> {
        self.with("get_versioned", |contents| {
            let entry = contents.entries.get(key.as_bytes());
            let last_removal = match entry.and_then(|entry| entry.removed) {
                Some((_, at)) if at.elapsed() > REMEMBERED => LastRemoval::None,
                Some((Remover::Caller(tier), _)) if tier == self.id => LastRemoval::Own,
                Some((Remover::Upkeep(identity), _)) => LastRemoval::Outdated(identity),
                Some(_) => LastRemoval::Other,
                None => LastRemoval::None,
            };
            let frame = entry.and_then(|entry| entry.frame.clone());
            VersionedFrame { frame, version: contents.version(key), last_removal }
        })
    }

    fn compare_and_set<'a>(
        &'a self,
        key: &'a EncodedKey,
        frame: &'a Frame,
        options: PutOptions,
    ) -> BoxFuture<'a, Result<bool>> {
        self.with("compare_and_set", move |contents| {
            let is_same = contents.version(key) == Some(options.if_version);
            if is_same {
                contents.set(key, frame.to_vec().into());
            }
            is_same
        })
    }

    fn compare_and_remove<'a>(
        &'a self,
        key: &'a EncodedKey,
        if_version: EntryVersion,
        cause: RemovalCause,
    ) -> BoxFuture<'a, Result<bool>> {
        self.with("compare_and_remove", move |contents| {
            let is_same = contents.version(key) == Some(if_version);
            if is_same {
                let by = match cause {
                    RemovalCause::Requested => Remover::Caller(self.id),
                    RemovalCause::Outdated(identity) => Remover::Upkeep(identity),
                };
                contents.take(key, by);
            }
            is_same
        })
    }

    fn take<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        self.with("take", |contents| contents.take(key, Remover::Caller(self.id)))
    }

    fn lease_load<'a>(
        &'a self,
        key: &'a EncodedKey,
        span: Duration,
    ) -> BoxFuture<'a, Result<Option<LoadLease>>> {
        self.with("lease_load", move |contents| {
            let now = Instant::now();
            if contents.leases.get(key.as_bytes()).is_some_and(|(_, until)| *until > now) {
                return None;
            }
            let number = contents.next();
            contents.leases.insert(key.as_bytes().into(), (number, now + span));
            let entry = contents.entries.get(key.as_bytes());
            Some(LoadLease { number, present: entry.is_some_and(|entry| entry.frame.is_some()) })
        })
    }

    fn release_loads(&self, leases: Vec<(EncodedKey, u64)>) {
        let storage = self.storage.lock();
        let Some(storage) = &*storage else { return };
        let mut contents = storage.0.lock();
        for (key, number) in leases {
            if contents.leases.get(key.as_bytes()).is_some_and(|(held, _)| *held == number) {
                contents.leases.remove(key.as_bytes());
            }
        }
    }

    fn epoch(&self, _: &EncodedKey) -> PartitionEpoch {
        let storage = self.storage.lock();
        PartitionEpoch(storage.as_ref().map_or(0, |storage| storage.0.lock().epoch))
    }

    fn server_time(&self, _: &EncodedKey) -> Option<Time> {
        Some(SystemClock.now())
    }

    fn removals_remembered(&self) -> Duration {
        REMEMBERED
    }
}
