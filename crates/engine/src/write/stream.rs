//! Values too large to hold in memory: written from a reader, and read through a reader.
//!
//! A stream is written to an upload that readers do not see, without the guard of its key, so a
//! slow source delays no other caller. The guard is taken at the end. The write counts from its
//! publication, and supersedes what began before that. A stream that fails earlier has changed
//! nothing.

use std::fmt;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::sync::{Arc, Weak};

use larder_core::clock::Time;
use larder_core::entry_meta::{EntryMeta, EntryOptions, Freshness};
use larder_core::erased::{AnyLookup, Key, Value};
use larder_core::events::Writer;
use larder_core::frame::{self, CodecId, Compression, Head, Header, Payload};
use larder_core::key::EncodedKey;
use larder_core::place::Placement;
use larder_core::stream::{self, Medium, Stored, Summing};
use larder_core::tier::{TierKind, Upload};
use larder_core::{Bytes, Error, ErrorKind, Result};

use crate::coherence::local_fallback::LocalWrite;
use crate::engine::Engine;
use crate::key_lock::WriteTurn;
use crate::read::refusal::{is_sealed, note_refusal};
use crate::read::walk::{Question, Walk};
use crate::tier_stack::TierStack;
use crate::tier_stack::tier_handle::TierHandle;
use crate::write::KeyInTiers;
use crate::write::precondition::Precondition;
use larder_exec::runtime::{Blocking, Runtime, block_on};

/// Smaller values are held whole, and written and read like any other.
const HELD_MAX: u64 = 4 << 20;
/// Bytes read from a source at a time, after the first [`HELD_MAX`].
const PART_LEN: usize = 256 << 10;

/// Converts a value to bytes.
pub type BytesOf = fn(Value) -> Bytes;

/// A reader, and the conversion of its bytes to a value.
pub struct StreamSource<R> {
    /// The reader.
    pub reader: R,
    /// Converts the bytes to a value.
    pub value_of: fn(Bytes) -> Value,
}

/// A reader that borrows nothing. It is a type of its own, because a trait object would have a
/// lifetime that the compiler does not carry into futures.
pub struct OwnedReader(Box<dyn Read + Send>);

impl OwnedReader {
    /// Wraps a reader.
    pub fn new(reader: impl Read + Send + 'static) -> Self {
        Self(Box::new(reader))
    }
}

impl Read for OwnedReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Engine {
    /// Stores the bytes of `source` under `key`. Returns the placement. Reads and writes on a
    /// thread that may block.
    ///
    /// # Errors
    /// The error of the source or of the tier; nothing has changed then. If publishing fails, the
    /// former entry is gone.
    pub(crate) async fn insert_from_owned<W: Runtime>(
        self: &Arc<Self>,
        key: Key,
        source: StreamSource<OwnedReader>,
    ) -> Result<Placement> {
        let (turn, _caller) = self.write_turn::<W>(self.key_locks.hash(&key));
        let engine = Arc::clone(self);
        W::section(true, async move { engine.insert_stream(turn, key, source).await }).await?
    }

    /// As [`insert_from_owned`](Self::insert_from_owned), for a thread that stays with the write:
    /// the source may borrow.
    pub(crate) async fn insert_from(
        self: &Arc<Self>,
        key: Key,
        source: StreamSource<&mut dyn Read>,
    ) -> Result<Placement> {
        let turn = WriteTurn::of_thread(self.key_locks.hash(&key));
        self.insert_stream(turn, key, source).await
    }

    async fn insert_stream<R: Read>(
        self: &Arc<Self>,
        turn: WriteTurn,
        key: Key,
        StreamSource { reader: mut source, value_of }: StreamSource<R>,
    ) -> Result<Placement> {
        self.check_open()?;
        let mut front = Vec::new();
        source.by_ref().take(HELD_MAX).read_to_end(&mut front).map_err(unreadable)?;
        if (front.len() as u64) < HELD_MAX {
            return self.insert_in::<Blocking>(turn, key, value_of(front.into()), EntryOptions::new()).await;
        }
        let Some((stack, handle)) = self.streaming() else {
            let message =
                format!("the value has {HELD_MAX} bytes or more, and no tier of this cache supports streams");
            let error = Error::new(ErrorKind::Unsupported, message).during("insert_from");
            return Err(self.refuse::<Blocking>(&key, error).await);
        };
        if self.expiry.said().ttl_by.is_some() {
            let message = "`ttl_by` needs the value, and a value of 4 MiB or more is not held in memory";
            let error = Error::new(ErrorKind::Unsupported, message).during("insert_from");
            return Err(self.refuse::<Blocking>(&key, error).await);
        }
        let encoded = stack.encode_key(&key)?;
        self.watch_encoding(stack, &key, &encoded)?;
        let terms = self.expiry.terms(&key, None, EntryOptions::new(), self.write_time());
        let poured = match Stream::begin(handle, &encoded, &terms).await {
            Ok(stream) => stream.pour(front, &mut source, terms).await,
            Err(error) => Err(error),
        };
        let poured = poured.inspect_err(|error| self.count_refused(&key, error))?;
        let _guard = self.lock_for_write(&turn).await?;
        if !self.lifecycle.is_on() {
            let error = Error::new(ErrorKind::Unavailable, "the cache is switched off");
            self.note_dropped(&key, &error);
            self.discard(&key);
            crate::write::forget(stack, &encoded, Precondition::None).await;
            return Err(error);
        }
        self.discard(&key);
        let stored = self.publish_stream(stack, handle, &encoded, poured).await;
        self.discard(&key);
        self.emit_stored(
            self.events.name(&key),
            stored.as_ref().map(|placement| Some(*placement)),
            Writer::Caller,
        );
        if stored.is_ok() {
            self.counters.insertions.increment();
        }
        stored.inspect_err(|_| self.counters.dropped.increment())
    }

    /// Counts a write that a tier refused. A failure of the source is not counted.
    fn count_refused(&self, key: &Key, error: &Error) {
        if error.tier().is_some() {
            self.note_dropped(key, error);
        }
    }

    /// Returns the nearest tier that takes streams.
    fn streaming(&self) -> Option<(&TierStack, &TierHandle)> {
        let stack = self.stack.as_ref()?;
        let takes =
            |handle: &&TierHandle| handle.streams() && handle.facts().healthy && !handle.is_read_only();
        stack.tiers.iter().find(takes).map(|handle| (stack, handle))
    }

    /// Publishes an upload as the entry. The caller holds the guard. The time to live begins now.
    /// The attributes in the head keep the length that was reserved for them.
    async fn publish_stream(
        &self,
        stack: &TierStack,
        handle: &TierHandle,
        key: &EncodedKey,
        Poured { upload, payload, terms }: Poured,
    ) -> Result<Placement> {
        let now = self.timeline.now();
        let deadline = terms.ttl.map_or(Time::NEVER, |ttl| now.after(ttl));
        let idle_deadline = terms.idle.map_or(Time::NEVER, |idle| now.after(idle));
        let terms = EntryMeta { deadline, idle_deadline, ..terms };
        let facts = self.facts(payload.len, None, &terms);
        let header = Header {
            codec: CodecId::Raw,
            compression: Compression::None,
            kind: facts.kind,
            schema: stack.schema,
            shape: 0,
            created: now,
            deadline: terms.until(),
            stale_deadline: terms.stale_until(),
            generation: self.invalidations.stamp(),
            value_len: payload.len,
            load_cost: None,
        };
        self.drop_conflicts(key).await;
        self.clear_homes(KeyInTiers { stack, key }, Precondition::None, handle.kind()).await;
        self.coherence.note_copy(key);
        let write =
            LocalWrite { stack, key, facts: &facts, home: handle.kind(), precondition: Precondition::None };
        let _noted = self.coherence.stay(self, write).get().await;
        let head = frame::head(&header, key, &handle.attributes(key, &terms), payload);
        handle.publish(key, upload, &head).await?;
        Ok(streamed(handle.kind(), self.place(stack, &facts)))
    }

    /// Opens a reader of the value of `key`. `None` if there is no value.
    ///
    /// # Errors
    /// The error of a tier, if no other tier had the entry.
    pub(crate) async fn open<W: Runtime>(
        self: &Arc<Self>,
        key: &dyn AnyLookup,
        bytes_of: BytesOf,
    ) -> Result<Option<EntryReader>> {
        if let Some(value) = self.find(key) {
            return Ok(Some(EntryReader::of(bytes_of(value))));
        }
        let opened = match self.encode_key(key)? {
            Some(encoded) if !self.is_closed() => {
                let (engine, hash) = (Arc::clone(self), self.key_locks.hash(key));
                W::section(
                    true,
                    async move { engine.walk((&encoded, hash), &mut OpenReader(bytes_of)).await },
                )
                .await?
            }
            _ => Ok(None),
        };
        if !matches!(opened, Ok(Some(_))) {
            self.counters.misses.increment();
        }
        opened
    }

    /// Opens a reader over a frame. `None` if the entry is not fresh or has no value.
    fn reader(
        self: &Arc<Self>,
        walk: &Walk<'_>,
        handle: &TierHandle,
        stored: Stored,
        bytes_of: BytesOf,
    ) -> Result<Option<EntryReader>> {
        let Walk { stack, key, hash, .. } = *walk;
        if stored.len <= HELD_MAX {
            let decoded = stack.open_in(handle, read_whole(stored)?, key)?;
            let fresh = self.freshness_of(handle, &decoded.header, &decoded.terms) == Freshness::Fresh;
            let value = decoded.value.filter(|_| fresh);
            return Ok(value.map(|value| EntryReader::of(bytes_of(value))));
        }
        let parts = self.opens(stack, stored, key)?;
        let fresh = self
            .head_freshness(handle, &parts.head, key)
            .is_some_and(|(freshness, codec)| freshness == Freshness::Fresh && codec != CodecId::Absent);
        if !fresh {
            return Ok(None);
        }
        let damage = Damage {
            engine: Arc::downgrade(self),
            tier: handle.kind(),
            key: key.clone(),
            hash,
            head: parts.head,
        };
        Ok(Some(EntryReader {
            len: parts.header.value_len,
            body: stream::unpack(&parts.header, parts.payload)?,
            damaged: Some(Box::new(move || damage.drop_entry())),
        }))
    }

    /// Opens a frame and verifies its head, without reading the payload.
    fn opens(&self, stack: &TierStack, stored: Stored, key: &EncodedKey) -> Result<stream::OpenedParts> {
        let parts = stream::open(stored, key)?;
        if parts.header.schema == stack.schema {
            return Ok(parts);
        }
        let message =
            format!("the entry has schema version {}; the cache has {}", parts.header.schema, stack.schema);
        Err(Error::new(ErrorKind::Corrupt, message))
    }

    /// Removes the entry of a tier if it still `is_bad` and no caller is storing it.
    async fn drop_if(
        self: &Arc<Self>,
        handle: &TierHandle,
        key: &EncodedKey,
        hash: u64,
        is_bad: impl FnOnce(Stored) -> bool,
    ) {
        let observation = self.key_locks.observe(hash);
        let Some(_guard) = observation.claim() else { return };
        if let Ok(Some(stored)) = handle.open(key).await
            && is_bad(stored)
        {
            // The layer counts a failure, and the handle quarantines the key.
            let _counted = handle.remove(key).await;
        }
    }
}

/// Asks for a reader of the value.
struct OpenReader(BytesOf);

impl Question for OpenReader {
    type Answer = EntryReader;

    fn begin(&mut self, walk: &Walk<'_>) -> Option<EntryReader> {
        let Walk { engine, stack, key, .. } = *walk;
        let version = engine.coherence.begin_copy(engine, key);
        let copy = engine.coherence.validated_copy(engine, stack, key, version)?;
        copy.into_fresh().map(|value| EntryReader::of((self.0)(value)))
    }

    async fn ask(&mut self, walk: &mut Walk<'_>, handle: &TierHandle) -> Result<Option<EntryReader>> {
        let Walk { engine, stack, key, hash, .. } = *walk;
        // Check the head first: other nodes may have changed the entry without this node knowing.
        if engine.coherence.confirms_heads(handle)
            && let Some(head) = handle.head(key).await?
        {
            let Some(unconfirmed_copy) = walk.is_unconfirmed(handle, &head).await else { return Ok(None) };
            engine.counters.unconfirmed.add(u64::from(unconfirmed_copy));
        }
        let Some(stored) = handle.open(key).await? else { return Ok(None) };
        match engine.reader(walk, handle, stored, self.0) {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                note_refusal(handle, key, &error);
                engine.emit_refusal(key, handle.kind(), &error);
                let is_bad = |stored| engine.opens(stack, stored, key).is_err_and(|error| !is_sealed(&error));
                engine.drop_if(handle, key, hash, is_bad).await;
                Ok(None)
            }
            opened => opened,
        }
    }

    fn fall_back(&mut self, walk: &Walk<'_>) -> Option<EntryReader> {
        walk.unconfirmed()?.into_fresh().map(|value| EntryReader::of((self.0)(value)))
    }
}

/// A stream that was written to an upload.
struct Poured {
    upload: Upload,
    payload: Payload,
    /// The metadata of its entry.
    terms: EntryMeta,
}

/// A stream that is being written to an upload.
struct Stream<'a> {
    handle: &'a TierHandle,
    upload: Upload,
    summing: Summing,
}

impl<'a> Stream<'a> {
    async fn begin(handle: &'a TierHandle, key: &EncodedKey, terms: &EntryMeta) -> Result<Self> {
        let head_len = frame::head_len(key, &handle.attributes(key, terms));
        let upload = handle.streaming()?.begin_upload(key, head_len).await?;
        Ok(Self { handle, upload, summing: Summing::default() })
    }

    /// Writes `front`, then the rest of `source`, then the checksums.
    async fn pour(mut self, mut front: Vec<u8>, source: &mut impl Read, terms: EntryMeta) -> Result<Poured> {
        let mut len = front.len();
        while len > 0 {
            self.summing.update(&front[..len]);
            self.handle.streaming()?.append(&mut self.upload, &front[..len]).await?;
            len = fill(source, &mut front[..PART_LEN]).map_err(unreadable)?;
        }
        let (payload, sums) = self.summing.finish();
        self.handle.streaming()?.append(&mut self.upload, &sums.to_bytes()).await?;
        Ok(Poured { upload: self.upload, payload, terms })
    }
}

/// Reads until `buffer` is full or the source ends.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn unreadable(error: io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("the reader failed: {error}")).during("insert_from").with_source(error)
}

fn read_whole(mut stored: Stored) -> Result<Bytes> {
    let mut whole = Vec::with_capacity(usize::try_from(stored.len).unwrap_or(0));
    match stored.medium.read_to_end(&mut whole) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(Error::new(ErrorKind::Corrupt, error.to_string()).with_source(error))
        }
        read => Ok(read.map(|_| whole.into())?),
    }
}

/// Returns the actual placement: a stream goes to the tier that takes streams.
fn streamed(home: TierKind, placement: Placement) -> Placement {
    if home == placement.home {
        return Placement { copy_in_memory: false, ..placement };
    }
    Placement {
        home,
        copy_in_memory: false,
        alternatives: std::iter::empty().collect(),
        rule: "a stream goes to the tier that takes one",
        warning: placement.warning,
        reckoning: None,
    }
}

/// A frame that was found damaged while it was read.
struct Damage {
    engine: Weak<Engine>,
    tier: TierKind,
    key: EncodedKey,
    hash: u64,
    head: Vec<u8>,
}

impl Damage {
    /// Counts the damage, and removes the entry unless it was replaced since.
    fn drop_entry(&self) {
        let Some(engine) = self.engine.upgrade() else { return };
        let Some(handle) = engine.tiers().iter().find(|handle| handle.kind() == self.tier) else { return };
        note_refusal(handle, &self.key, &Error::new(ErrorKind::Corrupt, "a part of the payload is damaged"));
        let is_same = |mut stored: Stored| {
            let mut head = vec![0; self.head.len()];
            stored.medium.read_exact(&mut head).is_ok() && head == self.head && Head::parse(&head).is_ok()
        };
        block_on(engine.drop_if(handle, &self.key, self.hash, is_same));
    }
}

type WhenDamaged = Box<dyn FnOnce() + Send>;

/// Reads the value of one entry, as it was when it was opened.
///
/// An open reader is not affected when the entry is replaced, removed or evicted. Reading blocks
/// its thread.
///
/// Every byte is verified before it is returned. If the stored data is damaged, `read` fails with
/// [`InvalidData`](io::ErrorKind::InvalidData), and the entry is removed.
///
/// Holds an open file and 256 KiB of memory; the whole value if it is smaller than 4 MiB. A seek
/// costs reading 256 KiB. In a value that an ordinary insert has compressed, it costs decompressing
/// from the beginning.
pub struct EntryReader {
    body: Box<dyn Medium>,
    len: u64,
    damaged: Option<WhenDamaged>,
}

impl EntryReader {
    /// Creates a reader of bytes in memory.
    pub fn of(bytes: Bytes) -> Self {
        Self { len: bytes.len() as u64, body: Box::new(Cursor::new(bytes)), damaged: None }
    }

    /// Returns the bytes of the value.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Returns whether the value is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Read for EntryReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.body.read(into).inspect_err(|error| {
            if error.kind() == io::ErrorKind::InvalidData
                && let Some(damaged) = self.damaged.take()
            {
                damaged();
            }
        })
    }
}

impl Seek for EntryReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.body.seek(to)
    }
}

impl fmt::Debug for EntryReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EntryReader").field("len", &self.len).finish_non_exhaustive()
    }
}
