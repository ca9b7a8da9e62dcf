//! The codec of every type with serde support.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};

use bincode::Options;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::bounded::{from_bincode, is_too_deep};
use super::form;
#[cfg(feature = "json")]
use super::measure::{JSON_DEPTH_MAX, Measure};
use super::measure::{Refused, measure, measure_unproven};
use super::named::Named;
use super::native::Native;
use super::proof::{Measured, Proofs};
use super::shape::{self, Shape};
use super::{Codec, Encoded, Plain, ValueCodec};
use crate::frame::CodecId;
use crate::{Error, ErrorKind, Result};

/// Encodes the values of one type by the best codec that restores them.
///
/// A codec is verified before it is used alone: the first value, and the first one with each feature of the
/// type (a variant, a present option, an empty list, text in a field), is decoded back, and its form is
/// compared. `encode` fails for a value that is not restored. Such a write costs one more decoding. Up to 512
/// features of a type are remembered; a value with a further one is decoded back at each write.
/// ```
/// use larder_core::codec::{Codec, ValueCodec, Values};
/// use larder_core::frame::CodecId;
///
/// let codec = Values::<(u64, String)>::new(Codec::Auto);
/// let value = (7, "seven".to_owned());
/// let encoded = codec.encode(&value).unwrap();
/// assert_eq!(encoded.codec, CodecId::Bincode);
/// assert_eq!(encoded.bytes.len() as u64, codec.measure(&value).unwrap());
/// assert_eq!(codec.decode(encoded).unwrap(), value);
/// ```
pub struct Values<V> {
    choice: Codec,
    native: Option<Native<V>>,
    shape: Shape,
    /// Whether bincode has lost data of this type: use names from now on.
    needs_names: AtomicBool,
    /// Features that were restored correctly without names: by bincode, or by the natural format.
    proven: Proofs,
    /// Features that were restored correctly by names.
    proven_by_names: Proofs,
    values: PhantomData<fn() -> V>,
}

impl<V: Serialize + DeserializeOwned + 'static> Values<V> {
    /// Creates a codec for `V`. The first one of a type surveys it, see [`shape`].
    pub fn new(choice: Codec) -> Self {
        let native = Native::of().filter(|native| choice == Codec::Auto || !native.yields);
        let shape = match native {
            Some(_) => Shape::NONE,
            None => shape::remembered::<V>(),
        };
        Self {
            choice,
            native,
            needs_names: AtomicBool::new(!shape.is_complete),
            shape,
            proven: Proofs::default(),
            proven_by_names: Proofs::default(),
            values: PhantomData,
        }
    }

    /// The codec with names, if the type needs one.
    fn by_names(&self) -> Option<Named> {
        match self.choice {
            Codec::Auto => self.needs_names.load(Ordering::Relaxed).then_some(Named::MessagePack),
            Codec::MessagePack => Some(Named::MessagePack),
            #[cfg(feature = "json")]
            Codec::Json => Some(Named::Json),
        }
    }

    fn natural(&self, native: &Native<V>, value: &V) -> Result<Encoded> {
        let bytes = (native.encode)(value)?;
        let measured = Measured::default();
        if self.proven.lacks(&measured) {
            let back = (native.decode)(bytes.clone()).map_err(|error| lossy("its natural format", error))?;
            let again = (native.encode)(&back)?;
            // Arrow may lay out the same columns in another way.
            if again != bytes && native.codec != CodecId::Arrow {
                return Err(lossy("its natural format", CHANGED));
            }
            self.proven.add(&measured);
        }
        Ok(Encoded { codec: native.codec, shape: native.shape, bytes })
    }

    /// Encodes by bincode; `None` if the value needs names.
    fn by_position(&self, value: &V) -> Result<Option<Encoded>> {
        let measured = measure_unproven(value, &self.proven).map_err(unmeasured)?;
        if measured.measure.needs_names {
            return Ok(None);
        }
        let mut bytes = Vec::with_capacity(usize::try_from(measured.measure.bytes).unwrap_or(0));
        let written = fixed_width().serialize_into(&mut bytes, value);
        if written.is_err() || (self.proven.lacks(&measured) && !is_same(value, from_bincode(&bytes).ok())) {
            self.needs_names.store(true, Ordering::Relaxed);
            return Ok(None);
        }
        self.proven.add(&measured);
        Ok(Some(Encoded { codec: CodecId::Bincode, shape: self.shape.fingerprint, bytes: bytes.into() }))
    }

    fn named(&self, codec: Named, value: &V) -> Result<Encoded> {
        let measured = measure_unproven(value, &self.proven_by_names).map_err(unmeasured)?;
        if let Some(why) = codec.loses(&measured.measure) {
            return Err(lossy(codec.name(), why));
        }
        #[cfg(feature = "json")]
        if codec == Named::Json {
            check_json_depth(&measured.measure)?;
        }
        let bytes = codec.write(value)?;
        if self.proven_by_names.lacks(&measured) {
            let back = codec.read(&bytes).map_err(|error| lossy(codec.name(), error))?;
            if !is_same(value, Some(back)) {
                return Err(lossy(codec.name(), CHANGED));
            }
            self.proven_by_names.add(&measured);
        }
        // With a chosen codec a type may gain fields; with `Auto` any change is a miss.
        let form = if self.choice == Codec::Auto { form::whole(value) } else { form::positions(value) };
        let shape = form.map_err(|error| failed("measured", error))?;
        Ok(Encoded { codec: codec.codec(), shape, bytes: bytes.into() })
    }

    fn read_named(&self, codec: Named, shape: u64, bytes: &[u8]) -> Result<V> {
        let value = codec.read(bytes)?;
        let form = |form: Result<u64, _>| form.map_err(|error| failed("measured", error));
        let is_same = match shape {
            // Written by an earlier build, or by a cache with a chosen codec and a value without tuples.
            0 => codec.covers(bytes, &value)?,
            positions if positions.is_multiple_of(2) => {
                form(form::positions(&value))? == positions && codec.covers(bytes, &value)?
            }
            whole => form(form::whole(&value))? == whole,
        };
        if is_same { Ok(value) } else { Err(foreign()) }
    }
}

impl<V: Serialize + DeserializeOwned + 'static> ValueCodec<V> for Values<V> {
    fn fingerprint(&self) -> u64 {
        match &self.native {
            // No fingerprint of a type is this small.
            Some(native) => (native.codec as u64) << 8 | native.shape,
            None => self.shape.fingerprint,
        }
    }

    fn accepts(&self, codec: CodecId, shape: u64) -> Option<bool> {
        match (&self.native, codec) {
            (Some(native), _) if native.codec == codec => Some(native.shape == shape),
            (Some(native), CodecId::MessagePack) if native.yields => None,
            (None, CodecId::Bincode) => Some(self.shape.is_complete && shape == self.shape.fingerprint),
            // The form of the decoded value decides.
            (None, _) if Named::of(codec).is_some() => None,
            _ => Some(false),
        }
    }

    fn measure(&self, value: &V) -> Result<u64> {
        if let Some(native) = &self.native {
            return (native.len)(value);
        }
        let measured = measure(value).map_err(unmeasured)?;
        let codec = self.by_names().or(measured.needs_names.then_some(Named::MessagePack));
        codec.map_or(Ok(measured.bytes), |codec| codec.len(value))
    }

    fn encode(&self, value: &V) -> Result<Encoded> {
        if let Some(native) = &self.native {
            return self.natural(native, value);
        }
        if let Some(codec) = self.by_names() {
            return self.named(codec, value);
        }
        let encoded = self.by_position(value)?;
        encoded.map_or_else(|| self.named(Named::MessagePack, value), Ok)
    }

    fn plain(&self) -> Option<Plain<V>> {
        let Native { codec, shape, bytes, .. } = self.native.as_ref()?;
        Some(Plain { codec: *codec, shape: *shape, bytes: (*bytes)? })
    }

    fn decode(&self, encoded: Encoded) -> Result<V> {
        let Encoded { codec, shape, bytes } = encoded;
        match (&self.native, codec) {
            (Some(native), _) if native.codec == codec && native.shape == shape => (native.decode)(bytes),
            // Written before the type had a natural format, or with a chosen codec.
            (Some(native), CodecId::MessagePack) if native.yields => Named::MessagePack.read(&bytes),
            (None, CodecId::Bincode) if self.shape.is_complete && shape == self.shape.fingerprint => {
                from_bincode(&bytes).map_err(|error| {
                    // A deep value of an earlier build says nothing about other values.
                    self.needs_names.fetch_or(!is_too_deep(&error), Ordering::Relaxed);
                    unreadable("bincode", undecodable("bincode", error))
                })
            }
            (None, _) => {
                Named::of(codec).map_or_else(|| Err(foreign()), |codec| self.read_named(codec, shape, &bytes))
            }
            _ => Err(foreign()),
        }
    }
}

/// Whether a value was restored unchanged.
fn is_same<V: Serialize>(value: &V, back: Option<V>) -> bool {
    let back = back.and_then(|back| form::whole(&back).ok());
    back.is_some() && back == form::whole(value).ok()
}

fn fixed_width() -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding()
}

fn unmeasured(error: Refused) -> Error {
    failed("measured", error)
}

/// Fails if the JSON is nested deeper than it can be read back.
#[cfg(feature = "json")]
fn check_json_depth(measured: &Measure) -> Result<()> {
    if measured.json_depth <= JSON_DEPTH_MAX {
        return Ok(());
    }
    let message = format!(
        "the value cannot be encoded: its JSON is nested {} levels deep, and {JSON_DEPTH_MAX} can be read back",
        measured.json_depth
    );
    Err(Error::new(ErrorKind::Codec, message))
}

const CHANGED: &str = "it comes back as another value";

/// Error: the codec would not restore the value, or would restore another one.
fn lossy(codec: &str, why: impl fmt::Display) -> Error {
    let message = format!(
        "the value cannot be cached: {codec} would not read it back ({why}); choose another `codec`, or \
         give the type a form that serde reads back as it writes it"
    );
    Error::new(ErrorKind::Codec, message)
}

pub(super) fn count<E: std::error::Error + Send + Sync + 'static>(
    write: impl FnOnce(&mut Sink) -> Result<(), E>,
) -> Result<u64> {
    let mut sink = Sink::default();
    write(&mut sink).map_err(|error| failed("measured", error))?;
    Ok(sink.len())
}

/// Counts the bytes written, and discards them.
#[derive(Default)]
pub(crate) struct Sink(u64);

impl Sink {
    pub(crate) fn len(&self) -> u64 {
        self.0
    }
}

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn failed(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Codec, format!("the value cannot be {what}: {error}")).with_source(error)
}

/// Error: the stored bytes are not a value of this type, as far as is known.
pub(super) fn undecodable(codec: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Corrupt, format!("the payload is not the {codec} of this type: {error}"))
        .with_source(error)
}

/// Error: the stored bytes were written by this type and cannot be read; the fault is in the codec, not in
/// the medium.
fn unreadable(codec: &str, error: Error) -> Error {
    let message = format!("the entry is intact and of this type, but {codec} does not read it back");
    Error::new(ErrorKind::Codec, message).with_source(error)
}

fn foreign() -> Error {
    Error::new(ErrorKind::Corrupt, "the entry is intact, but was written by another type or codec")
}
