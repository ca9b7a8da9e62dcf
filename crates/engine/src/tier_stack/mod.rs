//! The stack of byte tiers: encodes keys, and frames values.

mod blocking;
mod dictionary_entries;
pub(crate) mod dirty_flag;
pub(crate) mod key_encodings;
pub mod layers;
pub(crate) mod quarantine;
mod reads;
mod repairs;
mod tier_clock;
pub(crate) mod tier_handle;
mod tier_options;

use std::sync::Arc;

use std::any::Any;

use larder_core::clock::{Offset, Time};
use larder_core::codec::{Encoded, ValueCodec};
use larder_core::compress::{Compress, unpack_with};
use larder_core::entry_meta::{self, EntryMeta};
use larder_core::erased::{AnyKeyCodec, AnyLookup, Key, Value};
use larder_core::frame::{self, CodecId, Compression, Frame, Header, VerifiedFrame};
use larder_core::key::EncodedKey;
use larder_core::place::{Facts, Kind, Selector};
use larder_core::tier::TierKind;
use larder_core::{Bytes, Error, ErrorKind, Result};

use crate::dictionary::Dictionaries;
use crate::tier_stack::tier_handle::TierHandle;

/// Maximum length of an encoded key, in bytes.
const KEY_BYTES_MAX: usize = 64 << 20;

/// Everything a cache needs beyond memory: tiers, codecs and selector.
pub struct TierStack {
    /// Encodes keys.
    pub keys: Box<dyn AnyKeyCodec>,
    /// Encodes values.
    pub values: Box<dyn ValueCodec<Value>>,
    /// How payloads are compressed.
    pub compress: Compress,
    /// The dictionaries that payloads are compressed with.
    pub dictionaries: Arc<Dictionaries>,
    /// The schema version the user gave.
    pub schema: u32,
    /// Decides where entries go.
    pub selector: Arc<dyn Selector>,
    /// The tiers of bytes, nearest first.
    pub tiers: Vec<TierHandle>,
}

/// An entry that was read from a tier, decoded.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The value; `None` for a cached absence.
    pub value: Option<Value>,
    /// The header of its frame.
    pub header: Header,
    /// Its metadata: deadlines, stale window, tags and validator.
    pub terms: EntryMeta,
    /// How far the shared clock was ahead of the writer's, if the writer noted that. The
    /// times of the frame are the writer's.
    pub offset: Option<Offset>,
}

/// An encoded and compressed value, ready for a frame.
#[derive(Clone)]
pub(crate) struct EncodedPayload {
    codec: CodecId,
    compression: Compression,
    shape: u64,
    value_len: u64,
    bytes: Bytes,
}

impl EncodedPayload {
    /// Length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Returns the payload, and leaves one without bytes. A clone would allocate.
    pub(crate) fn take(&mut self) -> Self {
        Self { bytes: std::mem::take(&mut self.bytes), ..*self }
    }

    /// Takes bytes back that [`take`](Self::take) gave away.
    pub(crate) fn give_back(&mut self, bytes: Bytes) {
        self.bytes = bytes;
    }
}

/// The parts of a frame beside its payload.
pub(crate) struct FrameLabel<'a> {
    pub(crate) facts: &'a Facts,
    pub(crate) terms: &'a EntryMeta,
    pub(crate) stamp: u64,
    pub(crate) created: Time,
}

impl TierStack {
    /// Returns the tier that this node shares with other nodes whose changes it hears.
    pub(crate) fn among_nodes(&self) -> Option<&TierHandle> {
        self.tiers.iter().find(|handle| handle.is_among_nodes())
    }

    /// Returns the tiers that are not shared with nodes that this one hears.
    pub(crate) fn local(&self) -> impl Iterator<Item = &TierHandle> {
        self.tiers.iter().filter(|handle| !handle.is_among_nodes())
    }

    /// Returns the tier of this kind.
    pub(crate) fn tier(&self, kind: TierKind) -> Option<&TierHandle> {
        self.tiers.iter().find(|handle| handle.kind() == kind)
    }

    /// Whether this tier is the one that nodes share.
    pub(crate) fn is_shared_home(&self, home: TierKind) -> bool {
        self.among_nodes().is_some_and(|handle| handle.kind() == home)
    }

    /// Whether a write of this entry to the shared tier is pending.
    pub(crate) fn is_pending(&self, key: &EncodedKey) -> bool {
        self.among_nodes().is_some_and(|handle| handle.quarantine().covers(key))
    }

    pub(crate) fn encode_key(&self, key: &Key) -> Result<EncodedKey> {
        self.encode_any(key.as_any())
    }

    fn encode_any(&self, key: &(dyn Any + Send + Sync)) -> Result<EncodedKey> {
        let encoded = self.keys.encode(key)?;
        if encoded.as_bytes().len() > KEY_BYTES_MAX {
            let message =
                format!("the key has {} bytes; at most 64 MiB are allowed", encoded.as_bytes().len());
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        Ok(encoded)
    }

    /// Encodes a key given in a borrowed form, as [`encode_key`](Self::encode_key) does.
    pub(crate) fn encode_lookup(&self, key: &dyn AnyLookup) -> Result<EncodedKey> {
        let mut encoded = None;
        key.lend(&mut |key| encoded = Some(self.encode_any(key)));
        encoded
            .unwrap_or_else(|| Err(Error::new(ErrorKind::Codec, "the borrowed form does not provide a key")))
    }

    /// Encodes and compresses a value of this kind; `None` encodes a cached absence.
    pub(crate) fn payload(&self, value: Option<&Value>, kind: Kind) -> Result<EncodedPayload> {
        let encoded = match value {
            Some(value) => self.values.encode(value)?,
            None => Encoded { codec: CodecId::Absent, shape: 0, bytes: Bytes::new() },
        };
        let value_len = encoded.bytes.len() as u64;
        let compress = self.compression(kind);
        let packed = compress.dictionary_level().and_then(|_| self.dictionaries.pack(&encoded.bytes));
        let (compression, bytes) = packed.map_or_else(|| compress.apply(encoded.bytes), Ok)?;
        Ok(EncodedPayload { codec: encoded.codec, compression, shape: encoded.shape, value_len, bytes })
    }

    /// Builds a frame around a payload.
    pub(crate) fn frame(&self, key: &EncodedKey, payload: EncodedPayload, label: &FrameLabel<'_>) -> Frame {
        let header = Header {
            codec: payload.codec,
            compression: payload.compression,
            kind: label.facts.kind,
            schema: self.schema,
            shape: payload.shape,
            created: label.created,
            deadline: label.terms.until(),
            stale_deadline: label.terms.stale_until(),
            generation: label.stamp,
            value_len: payload.value_len,
            load_cost: label.facts.load_cost,
        };
        Frame::new(&header, key, &self.attributes(key, label.terms), payload.bytes)
    }

    /// Returns the attributes of a frame with this metadata for any tier of the stack. A
    /// frame in a local tier may be moved to the shared tier later, so it has the clock
    /// offset too.
    pub(crate) fn attributes(&self, key: &EncodedKey, terms: &EntryMeta) -> Vec<u8> {
        tier_clock::attributes(terms, || self.tiers.iter().find_map(|handle| handle.offset(key)))
    }

    /// Returns the compression for this kind. Numeric data is not compressed by default.
    fn compression(&self, kind: Kind) -> Compress {
        match (self.compress, kind) {
            (Compress::Auto, Kind::Array | Kind::Frame | Kind::Model) => Compress::None,
            (asked, Kind::Array | Kind::Frame | Kind::Model) if asked.dictionary_level().is_some() => {
                Compress::None
            }
            (asked, _) => asked,
        }
    }

    /// Opens a frame that lies in `handle`, and converts its times to the clock of this
    /// cache.
    pub(crate) fn open_in(&self, handle: &TierHandle, bytes: Bytes, key: &EncodedKey) -> Result<Decoded> {
        let Decoded { value, header, terms, offset } = self.open(bytes, key)?;
        let (header, terms) = handle.by_own_time(key, (header, terms), offset);
        Ok(Decoded { value, header, terms, offset })
    }

    /// Whether a frame with this header can be decoded, unless it is damaged. `None` if only its
    /// payload can tell.
    pub(crate) fn accepts(&self, header: &Header) -> Option<bool> {
        match header.codec {
            _ if header.schema != self.schema => Some(false),
            CodecId::Absent => Some(true),
            codec => self.values.accepts(codec, header.shape),
        }
    }

    /// Verifies a frame and decodes its value. Takes the bytes by value, so that a value
    /// of type bytes can reuse their buffer.
    fn open(&self, bytes: Bytes, key: &EncodedKey) -> Result<Decoded> {
        let VerifiedFrame { header, attributes, payload } = frame::verify(&bytes, key)
            .map_err(|error| Error::new(ErrorKind::Corrupt, error.to_string()).with_source(error))?;
        if header.schema != self.schema {
            let message =
                format!("the entry has schema version {}; the cache has {}", header.schema, self.schema);
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        let terms = EntryMeta::read(&header, attributes)
            .ok_or_else(|| Error::new(ErrorKind::Corrupt, "the attributes of the frame are damaged"))?;
        let offset = entry_meta::read_offset(attributes);
        let payload = frame::cut(bytes, payload);
        if header.codec == CodecId::Absent {
            return Ok(Decoded { value: None, header, terms, offset });
        }
        let find = |number| self.dictionaries.find(number);
        let plain = unpack_with(header.compression, payload, header.value_len, &find)?;
        let encoded = Encoded { codec: header.codec, shape: header.shape, bytes: plain };
        let value = Some(self.values.decode(encoded)?);
        Ok(Decoded { value, header, terms, offset })
    }
}
