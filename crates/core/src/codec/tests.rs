//! Encodes and decodes values of many types by the codec that is chosen for each.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Codec, Encoded, ValueCodec, Values};
use crate::ErrorKind;
use crate::frame::CodecId;

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
fn codec_is_chosen_by_type() {
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
fn value_that_its_codec_would_change_is_rejected() {
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
fn payload_of_another_type_is_rejected() {
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
fn chosen_codec_is_used() {
    let codec = Values::<Plain>::new(Codec::MessagePack);
    let encoded = codec.encode(&plain()).unwrap();
    assert_eq!(encoded.codec, CodecId::MessagePack);
    assert_eq!(codec.measure(&plain()).unwrap(), encoded.bytes.len() as u64);
    assert_eq!(codec.decode(encoded).unwrap(), plain());
}

mod old {
    use super::*;
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    pub(super) enum Amount {
        Number(u32),
        Text(String),
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct Celsius(pub(super) f64);
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct Fahrenheit(pub(super) f64);
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct Reading(pub(super) Celsius, pub(super) Fahrenheit);
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct Item {
        pub(super) price: u64,
        pub(super) discount: Option<u32>,
        pub(super) readings: Vec<Reading>,
    }
}

mod new {
    use super::*;
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    pub(super) enum Amount {
        Number(f64),
        Text(String),
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct Reading(pub(super) old::Fahrenheit, pub(super) old::Celsius);
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct Float {
        pub(super) price: f64,
        pub(super) discount: Option<u32>,
        pub(super) readings: Vec<old::Reading>,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct Renamed {
        pub(super) price: u64,
        pub(super) rebate: Option<u32>,
        pub(super) readings: Vec<old::Reading>,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct Swapped {
        pub(super) price: u64,
        pub(super) discount: Option<u32>,
        pub(super) readings: Vec<Reading>,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct Added {
        pub(super) readings: Vec<old::Reading>,
        pub(super) price: u64,
        pub(super) discount: Option<u32>,
        #[serde(default)]
        pub(super) note: String,
    }
}

fn item() -> old::Item {
    let reading = old::Reading(old::Celsius(10.0), old::Fahrenheit(50.0));
    old::Item { price: 1999, discount: Some(5), readings: vec![reading] }
}

fn upgraded<Old, New>(codec: Codec, value: Old) -> Option<New>
where
    Old: Serialize + DeserializeOwned + 'static,
    New: Serialize + DeserializeOwned + 'static,
{
    let encoded = Values::<Old>::new(codec).encode(&value).unwrap();
    Values::<New>::new(codec).decode(encoded).ok()
}

// A fault of an earlier build, which compared only names: a whole number became a float, a renamed option was
// lost, and swapped newtypes in a tuple changed places.
#[test]
fn named_entries_are_rejected_after_a_change_of_the_type() {
    #[cfg(feature = "json")]
    let codecs = [Codec::Auto, Codec::MessagePack, Codec::Json];
    #[cfg(not(feature = "json"))]
    let codecs = [Codec::Auto, Codec::MessagePack];
    for codec in codecs {
        assert_eq!(upgraded::<_, old::Item>(codec, item()), Some(item()));
        assert_eq!(upgraded::<_, new::Float>(codec, item()), None, "{codec:?}");
        assert_eq!(upgraded::<_, new::Renamed>(codec, item()), None, "{codec:?}");
        assert_eq!(upgraded::<_, new::Swapped>(codec, item()), None, "{codec:?}");
        assert_eq!(upgraded::<_, new::Amount>(codec, old::Amount::Number(7)), None, "{codec:?}");
        assert!(upgraded::<_, new::Amount>(codec, old::Amount::Text("7".into())).is_some(), "{codec:?}");
    }
}

#[test]
fn entries_of_a_named_codec_survive_an_added_field_with_a_default() {
    let added: new::Added = upgraded(Codec::MessagePack, item()).unwrap();
    assert_eq!((added.price, added.discount, added.note), (1999, Some(5), String::new()));
    assert!(upgraded::<_, new::Added>(Codec::Auto, item()).is_none());
}

#[test]
fn entries_of_earlier_builds_by_names_are_read() {
    let map: HashMap<u32, String> = (0..50).map(|number| (number, number.to_string())).collect();
    let bytes = rmp_serde::to_vec_named(&(map.clone(), item())).unwrap();
    let encoded = Encoded { codec: CodecId::MessagePack, shape: 0, bytes: bytes.into() };
    for codec in [Codec::Auto, Codec::MessagePack] {
        let values = Values::<(HashMap<u32, String>, old::Item)>::new(codec);
        assert_eq!(values.decode(encoded.clone()).unwrap(), (map.clone(), item()));
    }
}

// A fault of an earlier build, which verified only the first value: values of another variant were written
// and never read back.
#[test]
fn first_value_of_each_variant_is_verified() {
    #[derive(Serialize, Deserialize)]
    enum Event {
        Good(u8),
        Bad {
            #[serde(skip_serializing)]
            #[allow(dead_code, reason = "lost on purpose")]
            lost: u8,
        },
    }
    let values = Values::<Event>::new(Codec::Auto);
    assert_eq!(values.encode(&Event::Good(1)).unwrap().codec, CodecId::Bincode);
    let error = values.encode(&Event::Bad { lost: 1 }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Codec);
    assert!(error.to_string().contains("MessagePack"), "{error}");
    assert!(values.encode(&Event::Good(2)).is_ok());
}

#[test]
fn value_changed_by_a_round_trip_is_rejected() {
    #[derive(Serialize, Deserialize)]
    struct Shouted(#[serde(serialize_with = "shout")] String);
    fn shout<S: serde::Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{text}!"))
    }
    for codec in [Codec::Auto, Codec::MessagePack] {
        assert!(Values::<Shouted>::new(codec).encode(&Shouted("a".into())).is_err());
    }
}

#[test]
fn deep_value_is_read_back_or_rejected() {
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Tree {
        under: Vec<Tree>,
    }
    let tree = |depth: usize| (0..depth).fold(Tree::default(), |tree, _| Tree { under: vec![tree] });
    #[cfg(feature = "json")]
    let codecs = [Codec::Auto, Codec::MessagePack, Codec::Json];
    #[cfg(not(feature = "json"))]
    let codecs = [Codec::Auto, Codec::MessagePack];
    for codec in codecs {
        let values = Values::<Tree>::new(codec);
        values.encode(&tree(1)).unwrap();
        for depth in [30, 60, 63, 64, 65, 100, 200, 254, 255, 256, 257, 2_000] {
            match values.encode(&tree(depth)) {
                Ok(encoded) => assert_eq!(values.decode(encoded).unwrap(), tree(depth), "{codec:?}"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Codec),
            }
        }
    }
}
