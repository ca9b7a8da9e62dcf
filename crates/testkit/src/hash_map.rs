//! The smallest tier that keeps every promise.

use std::collections::HashMap;
use std::io::Cursor;
use std::sync::Arc;

use larder_core::frame::{FIXED_LEN, Frame};
use larder_core::key::EncodedKey;
use larder_core::stream::Stored;
use larder_core::tier::{BoxFuture, Capability, StreamingTier, Tier, TierKind, Upload, Usage};
use larder_core::{Bytes, Error, ErrorKind, Result};
use parking_lot::Mutex;

type Frames = HashMap<Box<[u8]>, Bytes>;

/// A storage in memory that outlives the tiers on it. Clones share one storage.
#[derive(Clone, Debug, Default)]
pub struct MapStorage(Arc<Mutex<Frames>>);

/// A tier that keeps frames in a hash map: the reference that other tiers are compared
/// with.
///
/// It has no bound and evicts nothing.
///
/// ```
/// use larder_core::tier::Tier;
/// use larder_testkit::{HashMapTier, block_on, sample};
///
/// let tier = HashMapTier::new();
/// let key = sample::key(1);
/// block_on(tier.put(&key, &sample::frame(&key, sample::payload(1, 100)))).unwrap();
/// assert!(block_on(tier.get(&key)).unwrap().is_some());
/// ```
#[derive(Debug)]
pub struct HashMapTier {
    kind: TierKind,
    capability: Capability,
    streams: bool,
    frames: Mutex<Option<MapStorage>>,
}

impl HashMapTier {
    /// Creates an empty tier of kind `Disk` with a storage of its own.
    pub fn new() -> Self {
        let tier = Self::on(&MapStorage::default());
        let capability = Capability { persistent: false, ..tier.capability };
        tier.with_capability(capability)
    }

    /// Opens a tier of kind `Disk` on `storage`, with the entries that earlier tiers left
    /// there.
    pub fn on(storage: &MapStorage) -> Self {
        let capability = Capability {
            stores: true,
            persistent: true,
            shared: false,
            blocking: false,
            frame_bytes_max: u64::MAX,
        };
        Self { kind: TierKind::Disk, capability, streams: true, frames: Mutex::new(Some(storage.clone())) }
    }

    /// Returns the tier with another kind.
    #[must_use]
    pub fn with_kind(self, kind: TierKind) -> Self {
        Self { kind, ..self }
    }

    /// Returns the tier with another capability. Only `frame_bytes_max` changes what the
    /// tier does; the rest is only reported.
    #[must_use]
    pub fn with_capability(self, capability: Capability) -> Self {
        Self { capability, ..self }
    }

    /// Returns the tier without [`StreamingTier`].
    #[must_use]
    pub fn without_streams(self) -> Self {
        Self { streams: false, ..self }
    }

    fn on_frames<T>(&self, operation: &'static str, work: impl FnOnce(&mut Frames) -> T) -> Result<T> {
        let storage = self.frames.lock().clone().ok_or_else(|| {
            Error::new(ErrorKind::Closed, "the tier is closed").in_tier(self.kind).during(operation)
        })?;
        let mut frames = storage.0.lock();
        Ok(work(&mut frames))
    }

    fn check_len(&self, len: usize, operation: &'static str) -> Result<()> {
        if len as u64 <= self.capability.frame_bytes_max {
            return Ok(());
        }
        let message = format!("{len} bytes, allowed {}", self.capability.frame_bytes_max);
        Err(Error::new(ErrorKind::TooLarge, message).in_tier(self.kind).during(operation))
    }

    /// Extends the state of an upload: the frame so far, with zeros in place of its head.
    fn append_now(&self, upload: &mut Upload, bytes: &[u8]) -> Result<()> {
        let frame: &mut Vec<u8> = upload.state()?;
        self.check_len(frame.len() + bytes.len(), "append")?;
        frame.extend_from_slice(bytes);
        Ok(())
    }

    fn publish_now(&self, key: &EncodedKey, upload: Upload, head: &[u8]) -> Result<()> {
        let mut frame: Vec<u8> = upload.into_state()?;
        frame[..head.len()].copy_from_slice(head);
        self.on_frames("publish", |frames| {
            frames.insert(key.as_bytes().into(), frame.into());
        })
    }

    fn put_now(&self, key: &EncodedKey, frame: &Frame) -> Result<()> {
        self.check_len(frame.len(), "put")?;
        self.on_frames("put", |frames| {
            frames.insert(key.as_bytes().into(), frame.to_vec().into());
        })
    }

    fn scan_now(&self, visit: &mut (dyn FnMut(&[u8]) + Send)) -> Result<()> {
        let frames: Vec<Bytes> = self.on_frames("scan", |frames| frames.values().cloned().collect())?;
        frames.iter().filter(|frame| frame.len() >= FIXED_LEN).for_each(|frame| visit(frame));
        Ok(())
    }
}

impl Default for HashMapTier {
    fn default() -> Self {
        Self::new()
    }
}

impl Tier for HashMapTier {
    fn kind(&self) -> TierKind {
        self.kind
    }

    fn capability(&self) -> Capability {
        self.capability
    }

    fn get<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(async move { self.on_frames("get", |frames| frames.get(key.as_bytes()).cloned()) })
    }

    fn put<'a>(&'a self, key: &'a EncodedKey, frame: &'a Frame) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.put_now(key, frame) })
    }

    fn remove<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move { self.on_frames("remove", |frames| frames.remove(key.as_bytes()).is_some()) })
    }

    fn contains<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move { self.on_frames("contains", |frames| frames.contains_key(key.as_bytes())) })
    }

    fn clear(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.on_frames("clear", |frames| frames.clear()) })
    }

    fn scan<'a>(&'a self, visit: &'a mut (dyn FnMut(&[u8]) + Send)) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.scan_now(visit) })
    }

    fn usage(&self) -> Usage {
        let count = |frames: &mut Frames| Usage {
            entries: frames.len() as u64,
            bytes: frames.values().map(|frame| frame.len() as u64).sum(),
            evictions: 0,
        };
        self.on_frames("usage", count).unwrap_or_default()
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.on_frames("flush", |_| ()) })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.frames.lock().take();
            Ok(())
        })
    }

    fn streaming(&self) -> Option<&dyn StreamingTier> {
        self.streams.then_some(self)
    }
}

impl StreamingTier for HashMapTier {
    fn open<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Stored>>> {
        Box::pin(async move {
            let frame = self.on_frames("open", |frames| frames.get(key.as_bytes()).cloned())?;
            let stored =
                |frame: Bytes| Stored { len: frame.len() as u64, medium: Box::new(Cursor::new(frame)) };
            Ok(frame.map(stored))
        })
    }

    fn begin_upload<'a>(&'a self, _: &'a EncodedKey, head_len: usize) -> BoxFuture<'a, Result<Upload>> {
        Box::pin(async move { self.on_frames("begin_upload", |_| Upload::new(vec![0_u8; head_len])) })
    }

    fn append<'a>(&'a self, upload: &'a mut Upload, bytes: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.append_now(upload, bytes) })
    }

    fn publish<'a>(
        &'a self,
        key: &'a EncodedKey,
        upload: Upload,
        head: &'a [u8],
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.publish_now(key, upload, head) })
    }
}
