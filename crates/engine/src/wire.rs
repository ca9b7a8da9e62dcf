//! Entries as tiers of bytes hold them: keys encoded, values in frames.

use std::sync::Arc;

use larder_core::clock::Time;
use larder_core::codec::{Encoded, ValueCodec};
use larder_core::compress::{Compress, unpack};
use larder_core::frame::{self, Frame, Header};
use larder_core::key::{EncodedKey, KeyCodec};
use larder_core::place::{Facts, Kind, Selector};
use larder_core::{Bytes, Error, ErrorKind, Result};

use crate::slot::Slot;

/// The longest encoded key, in bytes.
const KEY_BYTES_MAX: usize = 64 << 20;

/// All that a cache needs beyond memory: its tiers, its codecs, its selector.
pub struct Wire<K, V> {
    /// Keys to bytes.
    pub keys: Box<dyn KeyCodec<K>>,
    /// Values to bytes.
    pub values: Box<dyn ValueCodec<V>>,
    /// How payloads are compressed.
    pub compress: Compress,
    /// The schema version the user gave.
    pub schema: u32,
    /// Who decides where entries go.
    pub selector: Arc<dyn Selector>,
    /// The tiers of bytes, nearest first.
    pub slots: Vec<Slot>,
}

/// A value that was read from a tier, with the facts of its frame.
#[derive(Clone, Debug)]
pub struct Decoded<V> {
    /// The value.
    pub value: V,
    /// The facts of its frame.
    pub header: Header,
}

impl<K: 'static, V: 'static> Wire<K, V> {
    pub(crate) fn encode_key(&self, key: &K) -> Result<EncodedKey> {
        let encoded = self.keys.encode(key)?;
        if encoded.as_bytes().len() > KEY_BYTES_MAX {
            let message =
                format!("the key has {} bytes; at most 64 MiB are allowed", encoded.as_bytes().len());
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        Ok(encoded)
    }

    /// A frame around `value`, which is what these facts are about.
    pub(crate) fn frame(&self, key: &EncodedKey, value: &V, facts: &Facts, now: Time) -> Result<Frame> {
        let Encoded { codec, shape, bytes } = self.values.encode(value)?;
        let value_len = bytes.len() as u64;
        let (compression, payload) = self.compression(facts.kind).apply(bytes)?;
        let header = Header {
            codec,
            compression,
            kind: facts.kind,
            schema: self.schema,
            shape,
            created: now,
            deadline: Time::NEVER,
            stale_deadline: Time::NEVER,
            generation: 0,
            value_len,
            load_cost: facts.load_cost,
        };
        Ok(Frame::new(&header, key, b"", payload))
    }

    /// Numbers are stored as they are unless a compression was asked for.
    fn compression(&self, kind: Kind) -> Compress {
        match (self.compress, kind) {
            (Compress::Auto, Kind::Array | Kind::Frame | Kind::Model) => Compress::None,
            (asked, _) => asked,
        }
    }

    /// Verifies a frame and decodes its value. Takes the bytes, so that a value
    /// that is bytes can have their buffer.
    pub(crate) fn open(&self, bytes: Bytes, key: &EncodedKey) -> Result<Decoded<V>> {
        let (header, payload) = frame::open(&bytes, key)
            .map_err(|error| Error::new(ErrorKind::Corrupt, error.to_string()).with_source(error))?;
        if header.schema != self.schema {
            let message =
                format!("the entry has schema version {}, the cache {}", header.schema, self.schema);
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        drop(bytes);
        let plain = unpack(header.compression, payload, header.value_len)?;
        let encoded = Encoded { codec: header.codec, shape: header.shape, bytes: plain };
        let value = self.values.decode(encoded)?;
        Ok(Decoded { value, header })
    }
}
