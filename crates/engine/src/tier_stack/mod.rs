//! Entries as tiers of bytes hold them: keys encoded, values in frames.

pub(crate) mod dirty_flag;
pub(crate) mod key_encodings;
pub mod layers;
pub(crate) mod quarantine;
mod retries;
pub(crate) mod tier_handle;

use std::sync::Arc;

use std::any::Any;

use larder_core::clock::{Offset, Time};
use larder_core::codec::{Encoded, ValueCodec};
use larder_core::compress::{Compress, unpack};
use larder_core::entry_meta::{self, EntryMeta};
use larder_core::erased::{AnyKeyCodec, AnyLookup, Key, Value};
use larder_core::frame::{self, CodecId, Compression, Frame, Header};
use larder_core::key::EncodedKey;
use larder_core::place::{Facts, Kind, Selector};
use larder_core::{Bytes, Error, ErrorKind, Result};

use crate::tier_stack::tier_handle::TierHandle;

/// The longest encoded key, in bytes.
const KEY_BYTES_MAX: usize = 64 << 20;

/// All that a cache needs beyond memory: its tiers, its codecs, its selector.
pub struct TierStack {
    /// Keys to bytes.
    pub keys: Box<dyn AnyKeyCodec>,
    /// Values to bytes.
    pub values: Box<dyn ValueCodec<Value>>,
    /// How payloads are compressed.
    pub compress: Compress,
    /// The schema version the user gave.
    pub schema: u32,
    /// Who decides where entries go.
    pub selector: Arc<dyn Selector>,
    /// The tiers of bytes, nearest first.
    pub tiers: Vec<TierHandle>,
}

/// What was read from a tier, with the facts of its frame.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The value; `None` for an entry that says there is none.
    pub value: Option<Value>,
    /// The facts of its frame.
    pub header: Header,
    /// Its terms.
    pub terms: EntryMeta,
    /// How far the shared clock was ahead of the one that its times are of, where
    /// the writer noted that.
    pub offset: Option<Offset>,
}

/// A value as bytes, ready to be framed.
#[derive(Clone)]
pub(crate) struct Payload {
    codec: CodecId,
    compression: Compression,
    shape: u64,
    value_len: u64,
    bytes: Bytes,
}

impl Payload {
    /// In bytes.
    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// What a frame says beside its payload.
pub(crate) struct FrameLabel<'a> {
    pub(crate) facts: &'a Facts,
    pub(crate) terms: &'a EntryMeta,
    pub(crate) stamp: u64,
    pub(crate) created: Time,
}

impl TierStack {
    /// The tier that this node shares with others that it hears.
    pub(crate) fn among_nodes(&self) -> Option<&TierHandle> {
        self.tiers.iter().find(|handle| handle.is_among_nodes())
    }

    /// The tiers that are this node's own, where it shares one.
    pub(crate) fn local(&self) -> impl Iterator<Item = &TierHandle> {
        self.tiers.iter().filter(|handle| !handle.is_among_nodes())
    }

    /// Whether the tier that nodes share lacks a change of this entry.
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

    /// As [`encode_key`](Self::encode_key), of a borrowed form.
    pub(crate) fn encode_lookup(&self, key: &dyn AnyLookup) -> Result<EncodedKey> {
        let mut encoded = Err(Error::new(ErrorKind::Codec, "the borrowed form lends no key"));
        key.lend(&mut |key| encoded = self.encode_any(key));
        encoded
    }

    /// The bytes of a value of this kind; of the knowledge that there is none.
    pub(crate) fn payload(&self, value: Option<&Value>, kind: Kind) -> Result<Payload> {
        let encoded = match value {
            Some(value) => self.values.encode(value)?,
            None => Encoded { codec: CodecId::Absent, shape: 0, bytes: Bytes::new() },
        };
        let value_len = encoded.bytes.len() as u64;
        let (compression, bytes) = self.compression(kind).apply(encoded.bytes)?;
        Ok(Payload { codec: encoded.codec, compression, shape: encoded.shape, value_len, bytes })
    }

    /// A frame around a payload.
    pub(crate) fn frame(&self, key: &EncodedKey, payload: Payload, label: &FrameLabel<'_>) -> Frame {
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

    /// The attributes of a frame with these terms, wherever it goes: from the tiers
    /// of this node it may go to the one that others share later.
    pub(crate) fn attributes(&self, key: &EncodedKey, terms: &EntryMeta) -> Vec<u8> {
        tier_handle::attributes(terms, || self.tiers.iter().find_map(|handle| handle.offset(key)))
    }

    /// Numbers are stored as they are unless a compression was asked for.
    fn compression(&self, kind: Kind) -> Compress {
        match (self.compress, kind) {
            (Compress::Auto, Kind::Array | Kind::Frame | Kind::Model) => Compress::None,
            (asked, _) => asked,
        }
    }

    /// As [`open`](Self::open), of a frame that lies in `handle`, with times by the
    /// clock of this cache.
    pub(crate) fn open_in(&self, handle: &TierHandle, bytes: Bytes, key: &EncodedKey) -> Result<Decoded> {
        let Decoded { value, header, terms, offset } = self.open(bytes, key)?;
        let (header, terms) = handle.by_own_time(key, (header, terms), offset);
        Ok(Decoded { value, header, terms, offset })
    }

    /// Verifies a frame and decodes its value. Takes the bytes, so that a value
    /// that is bytes can have their buffer.
    fn open(&self, bytes: Bytes, key: &EncodedKey) -> Result<Decoded> {
        let (header, attributes, payload) = frame::open_with_attributes(&bytes, key)
            .map_err(|error| Error::new(ErrorKind::Corrupt, error.to_string()).with_source(error))?;
        if header.schema != self.schema {
            let message =
                format!("the entry has schema version {}, the cache {}", header.schema, self.schema);
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        let terms = EntryMeta::read(&header, attributes)
            .ok_or_else(|| Error::new(ErrorKind::Corrupt, "the attributes of the frame are damaged"))?;
        let offset = entry_meta::read_offset(attributes);
        drop(bytes);
        if header.codec == CodecId::Absent {
            return Ok(Decoded { value: None, header, terms, offset });
        }
        let plain = unpack(header.compression, payload, header.value_len)?;
        let encoded = Encoded { codec: header.codec, shape: header.shape, bytes: plain };
        let value = Some(self.values.decode(encoded)?);
        Ok(Decoded { value, header, terms, offset })
    }
}
