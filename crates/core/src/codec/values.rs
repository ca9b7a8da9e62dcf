//! The codec for every type that serde can carry.

use std::io;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};

use bincode::Options;
use serde::Serialize;
use serde::de::DeserializeOwned;

#[cfg(feature = "json")]
use super::measure::JSON_DEPTH_MAX;
use super::measure::{Measure, measure};
use super::native::Native;
use super::shape::{self, Shape};
use super::{Codec, Encoded, ValueCodec};
use crate::frame::CodecId;
use crate::{Error, ErrorKind, Result};

/// Values of one type to bytes and back, by the best codec that carries them.
///
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
    /// bincode lost something of this type before: names from now on.
    needs_names: AtomicBool,
    /// An encoding was decoded back and came out whole.
    proven: AtomicBool,
    values: PhantomData<fn() -> V>,
}

impl<V: Serialize + DeserializeOwned + 'static> Values<V> {
    /// A codec for `V`. Walks over the type once, see [`shape`].
    pub fn new(choice: Codec) -> Self {
        let native = Native::of().filter(|native| choice == Codec::Auto || !native.yields);
        let shape = match native {
            Some(_) => Shape { fingerprint: 0, asks_what_comes: false },
            None => shape::of::<V>(),
        };
        Self {
            choice,
            native,
            needs_names: AtomicBool::new(shape.asks_what_comes),
            shape,
            proven: AtomicBool::new(false),
            values: PhantomData,
        }
    }

    /// bincode or MessagePack for this value, and its length by bincode.
    fn choose(&self, value: &V) -> Result<(CodecId, u64)> {
        if self.needs_names.load(Ordering::Relaxed) {
            return Ok((CodecId::MessagePack, 0));
        }
        let measured = measured(value)?;
        let codec = if measured.needs_names { CodecId::MessagePack } else { CodecId::Bincode };
        Ok((codec, measured.bytes))
    }

    fn auto(&self, value: &V) -> Result<Encoded> {
        let (codec, len) = self.choose(value)?;
        if codec == CodecId::MessagePack {
            return named(value);
        }
        let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
        let written = fixed_width().serialize_into(&mut bytes, value);
        if written.is_err() || !self.is_proven(&bytes) {
            self.needs_names.store(true, Ordering::Relaxed);
            return named(value);
        }
        Ok(Encoded { codec, shape: self.shape.fingerprint, bytes: bytes.into() })
    }

    /// Whether bincode carries this type: the first encoding is decoded back
    /// and must come out as long as it went in.
    fn is_proven(&self, bytes: &[u8]) -> bool {
        if self.proven.load(Ordering::Relaxed) {
            return true;
        }
        let back: Result<V> = from_bincode(bytes);
        let whole = back.is_ok_and(|value| {
            measure(&value).is_ok_and(|again| again.bytes == bytes.len() as u64 && !again.needs_names)
        });
        self.proven.store(whole, Ordering::Relaxed);
        whole
    }
}

impl<V: Serialize + DeserializeOwned + 'static> ValueCodec<V> for Values<V> {
    fn fingerprint(&self) -> u64 {
        match &self.native {
            // No fingerprint of a type is that small.
            Some(native) => (native.codec as u64) << 8 | native.shape,
            None => self.shape.fingerprint,
        }
    }

    fn measure(&self, value: &V) -> Result<u64> {
        if let Some(native) = &self.native {
            return (native.len)(value);
        }
        match self.choice {
            Codec::Auto => match self.choose(value)? {
                (CodecId::Bincode, len) => Ok(len),
                _ => bounded(value, |sink| rmp_serde::encode::write_named(sink, value)),
            },
            Codec::MessagePack => bounded(value, |sink| rmp_serde::encode::write_named(sink, value)),
            #[cfg(feature = "json")]
            Codec::Json => bounded(value, |sink| serde_json::to_writer(sink, value)),
        }
    }

    fn encode(&self, value: &V) -> Result<Encoded> {
        if let Some(native) = &self.native {
            return Ok(Encoded { codec: native.codec, shape: native.shape, bytes: (native.encode)(value)? });
        }
        match self.choice {
            Codec::Auto => self.auto(value),
            Codec::MessagePack => named(value),
            #[cfg(feature = "json")]
            Codec::Json => json(value),
        }
    }

    fn decode(&self, encoded: Encoded) -> Result<V> {
        let Encoded { codec, shape, bytes } = encoded;
        match (&self.native, codec) {
            (Some(native), _) if native.codec == codec && native.shape == shape => (native.decode)(bytes),
            // Written before the type had a form of its own, or by a choice.
            (Some(native), CodecId::MessagePack) if native.yields => from_message_pack(&bytes),
            (None, CodecId::Bincode) if shape == self.shape.fingerprint => {
                from_bincode(&bytes).inspect_err(|_| self.needs_names.store(true, Ordering::Relaxed))
            }
            (None, CodecId::MessagePack) => from_message_pack(&bytes),
            #[cfg(feature = "json")]
            (None, CodecId::Json) => {
                serde_json::from_slice(&bytes).map_err(|error| undecodable("JSON", error))
            }
            _ => Err(Error::new(ErrorKind::Corrupt, "the entry was written by another type or codec")),
        }
    }
}

fn fixed_width() -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding()
}

fn from_bincode<V: DeserializeOwned>(bytes: &[u8]) -> Result<V> {
    // A length inside the bytes may claim anything; the limit keeps it to what is there.
    fixed_width()
        .with_limit(bytes.len() as u64)
        .deserialize(bytes)
        .map_err(|error| undecodable("bincode", error))
}

fn from_message_pack<V: DeserializeOwned>(bytes: &[u8]) -> Result<V> {
    rmp_serde::from_slice(bytes).map_err(|error| undecodable("MessagePack", error))
}

fn named<V: Serialize>(value: &V) -> Result<Encoded> {
    if measured(value)?.some_of_nothing {
        return Err(lossy("MessagePack", "a `Some` of nothing reads back as `None`"));
    }
    let bytes = rmp_serde::to_vec_named(value).map_err(|error| failed("encoded", error))?;
    Ok(Encoded { codec: CodecId::MessagePack, shape: 0, bytes: bytes.into() })
}

#[cfg(feature = "json")]
fn json<V: Serialize>(value: &V) -> Result<Encoded> {
    let measured = measured(value)?;
    if measured.some_of_nothing || measured.not_finite {
        return Err(lossy("JSON", "a `Some` of nothing or a number that is not finite reads back as null"));
    }
    check_json_depth(&measured)?;
    let bytes = serde_json::to_vec(value).map_err(|error| failed("encoded", error))?;
    Ok(Encoded { codec: CodecId::Json, shape: 0, bytes: bytes.into() })
}

pub(super) fn measured<V: Serialize + ?Sized>(value: &V) -> Result<Measure> {
    measure(value).map_err(|error| failed("measured", error))
}

/// Counts what is written of `value`, which is not nested too deep for that.
fn bounded<V: Serialize, E: std::error::Error + Send + Sync + 'static>(
    value: &V,
    write: impl FnOnce(&mut Sink) -> Result<(), E>,
) -> Result<u64> {
    measured(value)?;
    count(write)
}

/// JSON that is nested deeper than it can be read.
#[cfg(feature = "json")]
pub(super) fn check_json_depth(measured: &Measure) -> Result<()> {
    if measured.json_depth <= JSON_DEPTH_MAX {
        return Ok(());
    }
    let message = format!(
        "the value cannot be encoded: its JSON is nested {} levels deep, and {JSON_DEPTH_MAX} can be read back",
        measured.json_depth
    );
    Err(Error::new(ErrorKind::Codec, message))
}

/// A value that its codec would bring back as another.
fn lossy(codec: &str, why: &str) -> Error {
    Error::new(ErrorKind::Codec, format!("the value cannot be encoded: {codec} would lose something, {why}"))
}

pub(super) fn count<E: std::error::Error + Send + Sync + 'static>(
    write: impl FnOnce(&mut Sink) -> Result<(), E>,
) -> Result<u64> {
    let mut sink = Sink::default();
    write(&mut sink).map_err(|error| failed("measured", error))?;
    Ok(sink.len())
}

/// Counts what is written, and keeps none of it.
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

pub(super) fn undecodable(codec: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Corrupt, format!("the payload is not the {codec} of this type")).with_source(error)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};
    use std::fmt::Debug;
    use std::sync::Arc;

    use bytes::Bytes;
    use serde::Deserialize;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Skips {
        #[serde(skip_serializing_if = "Option::is_none", default)]
        maybe: Option<u8>,
        always: u8,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Flat {
        id: u8,
        #[serde(flatten)]
        rest: BTreeMap<String, u8>,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u32),
        Text(String),
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Plain {
        id: u64,
        names: HashMap<String, Vec<f32>>,
        nested: Option<Box<Plain>>,
    }

    fn check<V>(value: V, expect: CodecId)
    where
        V: Serialize + DeserializeOwned + PartialEq + Debug + 'static,
    {
        let codec = Values::<V>::new(Codec::Auto);
        let measured = codec.measure(&value).unwrap();
        let encoded = codec.encode(&value).unwrap();
        assert_eq!(encoded.codec, expect, "{value:?}");
        assert_eq!(encoded.bytes.len() as u64, measured, "{value:?}");
        assert_eq!(codec.decode(encoded).unwrap(), value);
    }

    fn plain() -> Plain {
        let names = HashMap::from([("a".into(), vec![1.0]), ("b".into(), vec![])]);
        Plain { id: 1, names, nested: Some(Box::new(Plain { id: 2, names: HashMap::new(), nested: None })) }
    }

    #[test]
    fn each_value_finds_its_codec() {
        check((), CodecId::Bincode);
        check(7_u64, CodecId::Bincode);
        check(None::<String>, CodecId::Bincode);
        check(plain(), CodecId::Bincode);
        check(Arc::new(plain()), CodecId::Bincode);
        check(Skips { maybe: Some(1), always: 2 }, CodecId::Bincode);
        check(Skips { maybe: None, always: 2 }, CodecId::MessagePack);
        check(Flat { id: 1, rest: BTreeMap::from([("x".into(), 2)]) }, CodecId::MessagePack);
        check(Either::Text("x".into()), CodecId::MessagePack);
        check(vec![Either::Number(1)], CodecId::MessagePack);
        #[cfg(feature = "json")]
        check(serde_json::json!({"a": [1, 2.5, null, "x"]}), CodecId::Json);
        #[cfg(not(feature = "json"))]
        check(serde_json::json!({"a": [1, 2.5, null, "x"]}), CodecId::MessagePack);
        check(Vec::<u8>::new(), CodecId::Raw);
        check(Bytes::from_static(b"abc"), CodecId::Raw);
        check(Arc::<[u8]>::from(&b"abc"[..]), CodecId::Raw);
        check(String::from("text"), CodecId::Text);
        check(Arc::<str>::from("text"), CodecId::Text);
        check(vec![1.5_f64, -0.0, f64::INFINITY], CodecId::Numbers);
        check(vec![u16::MAX, 0], CodecId::Numbers);
    }

    #[test]
    fn what_a_codec_would_change_is_refused() {
        fn refused<V: Serialize + DeserializeOwned + 'static>(codec: Codec, value: V) {
            let error = Values::<V>::new(codec).encode(&value).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Codec);
        }
        check(Some(None::<u8>), CodecId::Bincode);
        refused(Codec::MessagePack, Some(None::<u8>));
        refused(Codec::MessagePack, vec![Some(())]);
        #[cfg(feature = "json")]
        {
            refused(Codec::Json, Some(None::<u8>));
            refused(Codec::Json, Some(f64::NAN));
            let close = Values::<(f64,)>::new(Codec::Json);
            let number = (0.1 + 0.2 + 1e-17 * 3.0_f64.sqrt(),);
            assert_eq!(close.decode(close.encode(&number).unwrap()).unwrap(), number);
        }
    }

    #[test]
    fn another_type_is_refused() {
        let number = Values::<u64>::new(Codec::Auto).encode(&7).unwrap();
        assert!(Values::<f64>::new(Codec::Auto).decode(number.clone()).is_err());
        assert!(Values::<(u32, u32)>::new(Codec::Auto).decode(number.clone()).is_err());
        assert!(Values::<Vec<u8>>::new(Codec::Auto).decode(number).is_err());
        let floats = Values::<Vec<f64>>::new(Codec::Auto).encode(&vec![1.0]).unwrap();
        assert!(Values::<Vec<u64>>::new(Codec::Auto).decode(floats).is_err());
        let bytes = Values::<Vec<u8>>::new(Codec::Auto).encode(&vec![0xff]).unwrap();
        assert!(Values::<String>::new(Codec::Auto).decode(bytes).is_err());
    }

    #[test]
    fn damaged_payloads_are_errors() {
        let codec = Values::<Plain>::new(Codec::Auto);
        let whole = codec.encode(&plain()).unwrap();
        for len in 0..whole.bytes.len() {
            let cut = Encoded { bytes: whole.bytes.slice(..len), ..whole.clone() };
            assert!(codec.decode(cut).is_err(), "length {len}");
        }
        let absurd = Encoded { bytes: Bytes::from_static(&[0xff; 64]), ..whole };
        assert!(codec.decode(absurd).is_err());
    }

    #[test]
    fn the_choice_is_followed() {
        let codec = Values::<Plain>::new(Codec::MessagePack);
        let encoded = codec.encode(&plain()).unwrap();
        assert_eq!(encoded.codec, CodecId::MessagePack);
        assert_eq!(codec.measure(&plain()).unwrap(), encoded.bytes.len() as u64);
        assert_eq!(codec.decode(encoded).unwrap(), plain());
    }
}
