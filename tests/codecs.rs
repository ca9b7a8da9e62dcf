//! Codecs: values whose type changed, and values that cannot be read back.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Debug;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use larder::{Cache, Codec, ErrorKind, TierCounts, TierKind, bcache};
use larder_core::codec::{ValueCodec, Values};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use url::Url;
use uuid::Uuid;

fn open<V>(dir: &Path, codec: Codec) -> Cache<u64, V>
where
    V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    bcache("codecs").dir(dir).memory_bytes(0).codec(codec).build().unwrap()
}

fn counts<V: Clone + Send + Sync + 'static>(cache: &Cache<u64, V>) -> TierCounts {
    cache.stats().tier(TierKind::Disk).unwrap().counts
}

/// Encodes a value, and decodes it as the type of a later program version. No cache is involved,
/// because each value type of a cache takes seconds to compile.
#[track_caller]
fn is_refused_as<Old, New>(codec: Codec, old: Old)
where
    Old: Debug + PartialEq + Serialize + DeserializeOwned + 'static,
    New: Debug + Serialize + DeserializeOwned + 'static,
{
    let before = Values::<Old>::new(codec);
    let encoded = before.encode(&old).unwrap();
    assert_eq!(before.decode(encoded.clone()).unwrap(), old, "the same type finds it again");
    let error = Values::<New>::new(codec).decode(encoded).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{codec:?}: {error:?}");
}

/// The same through a cache: the entry is a counted miss.
#[track_caller]
fn is_a_miss<Old, New>(codec: Codec, old: Old)
where
    Old: Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static,
    New: Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let dir = tempfile::tempdir().unwrap();
    let before = open(dir.path(), codec);
    before.try_insert(1, old.clone()).unwrap();
    before.close().unwrap();
    let same = open::<Old>(dir.path(), codec);
    assert!(same.contains_key(&1));
    assert_eq!(same.try_get(&1).unwrap(), Some(old), "the same type finds it again");
    same.close().unwrap();
    let after = open::<New>(dir.path(), codec);
    assert!(!after.contains_key(&1), "`contains_key` agrees with `get`");
    assert_eq!((after.try_get(&1).unwrap(), counts(&after).refused), (None, 1));
    after.close().unwrap();
}

macro_rules! types {
    ($name:ident: $($item:item)*) => {
        mod $name {
            use super::*;
            $(
                #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
                #[allow(dead_code, reason = "not every variant is made")]
                $item
            )*
        }
    };
}

/// Text that a validation accepts only with a prefix that no probe sample has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Code(String);

impl TryFrom<String> for Code {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        if text.starts_with("larder:") { Ok(Self(text)) } else { Err("not a code") }
    }
}

impl From<Code> for String {
    fn from(code: Code) -> Self {
        code.0
    }
}

types!(first:
    pub(super) enum Status { Open, Paid, Refunded }
    pub(super) struct Size { pub(super) width: u32, pub(super) height: u32 }
    pub(super) struct Behind<I, T> { pub(super) id: I, pub(super) value: T }
    pub(super) struct Celsius(pub(super) f64);
    pub(super) struct Fahrenheit(pub(super) f64);
    pub(super) struct Reading(pub(super) Celsius, pub(super) Fahrenheit);
    pub(super) enum Narrow { One, Two(u32) }
    pub(super) enum Wide { A, B(Narrow), C { inside: Narrow }, D(Narrow, u8), E }
);
types!(second:
    pub(super) enum Status { Open, Cancelled, Paid, Refunded }
    pub(super) struct Size { pub(super) height: u32, pub(super) width: u32 }
    pub(super) struct Behind<I, T> { pub(super) id: I, pub(super) value: T }
    pub(super) struct Reading(pub(super) first::Fahrenheit, pub(super) first::Celsius);
    pub(super) enum Narrow { One, Two(f32) }
    pub(super) enum Wide { A, B(Narrow), C { inside: Narrow }, D(Narrow, u8), E }
);

/// Runs each change of a type behind a field of type `I`.
fn changes_behind<I>(codec: Codec, id: I)
where
    I: Clone + Debug + PartialEq + Serialize + DeserializeOwned + 'static,
{
    fn behind<I: Clone, T>(id: &I, value: T) -> first::Behind<I, T> {
        first::Behind { id: id.clone(), value }
    }
    is_refused_as::<_, second::Behind<I, second::Status>>(codec, behind(&id, first::Status::Paid));
    is_refused_as::<_, second::Behind<I, second::Size>>(
        codec,
        behind(&id, first::Size { width: 8, height: 6 }),
    );
    is_refused_as::<_, second::Behind<I, f64>>(codec, behind(&id, 1999_u64));
    is_refused_as::<_, second::Behind<I, f32>>(codec, behind(&id, 1999_u32));
    is_refused_as::<_, second::Behind<I, f32>>(codec, behind(&id, 0.1_f64));
    is_refused_as::<_, second::Behind<I, second::Narrow>>(codec, behind(&id, first::Narrow::Two(7)));
    is_refused_as::<_, second::Behind<I, second::Narrow>>(codec, behind(&id, 1_u32));
    let reading = || first::Reading(first::Celsius(10.0), first::Fahrenheit(50.0));
    is_refused_as::<_, second::Behind<I, second::Reading>>(codec, behind(&id, reading()));
    is_refused_as::<_, (I, second::Reading)>(codec, (id.clone(), reading()));
    is_refused_as::<_, Vec<(I, f32)>>(codec, vec![(id, 7_u32)]);
}

// The fault: a changed type was read as another value. The cause: the fingerprint stopped at a
// field whose type rejected the probe sample, and did not report that. Later fields could change
// without changing the fingerprint.
#[test]
fn type_changed_behind_a_validating_field_is_a_miss() {
    changes_behind(Codec::Auto, Uuid::from_u128(0x1234));
    changes_behind(Codec::Auto, chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap());
    changes_behind(Codec::Auto, Url::parse("https://example.org/a").unwrap());
    changes_behind(Codec::Auto, std::num::NonZeroU8::MIN);
    let id = Uuid::from_u128(1);
    is_a_miss::<_, second::Behind<Uuid, second::Status>>(
        Codec::Auto,
        first::Behind { id, value: first::Status::Paid },
    );
}

#[test]
fn type_changed_behind_a_field_that_rejects_samples_is_a_miss() {
    changes_behind(Codec::Auto, Code("larder:1".to_owned()));
    is_a_miss::<_, second::Behind<Code, f64>>(
        Codec::Auto,
        first::Behind { id: Code("larder:1".to_owned()), value: 1999_u64 },
    );
}

/// The fault: `contains_key`, `keys` and `explain` told of entries that no read returned. The cause:
/// they compared neither the schema version nor the type of a frame.
#[test]
fn entry_of_another_schema_version_is_neither_contained_nor_listed() {
    let dir = tempfile::tempdir().unwrap();
    let open = |version| {
        bcache::<u64, String>("versions").dir(dir.path()).memory_bytes(0).version(version).build().unwrap()
    };
    let before = open(1);
    before.insert(1, "one".to_owned());
    assert!(before.contains_key(&1));
    before.close().unwrap();
    let after = open(2);
    assert!(!after.contains_key(&1));
    assert!(after.keys().unwrap().is_empty());
    assert_eq!(after.explain(&1).unwrap().bytes, None);
    assert_eq!(after.get(&1), None);
    after.insert(2, "two".to_owned());
    assert!(after.contains_key(&2));
    after.close().unwrap();
    let again = open(1);
    assert!(!again.contains_key(&2));
    assert_eq!(again.get_with(2, || "new".to_owned()), "new");
    again.close().unwrap();
}

#[test]
fn type_changed_behind_a_json_document_is_a_miss() {
    changes_behind(Codec::Auto, serde_json::json!({"a": [1, 2.5, null]}));
}

#[test]
fn changed_value_type_of_a_map_is_a_miss() {
    let id = Uuid::from_u128(1);
    is_refused_as::<_, HashMap<Uuid, f32>>(Codec::Auto, HashMap::from([(id, 7_u32)]));
    is_refused_as::<_, HashMap<Uuid, (u32, f32)>>(Codec::Auto, HashMap::from([(id, (7_u32, 7_u32))]));
}

// The fault: a changed variant of a nested enum was not noticed. The cause: walk n over a type took
// variant n of each enum, so a narrow enum inside a wide one was not visited in all its variants.
#[test]
fn changed_variant_of_a_nested_enum_is_a_miss() {
    is_refused_as::<_, second::Wide>(Codec::Auto, first::Wide::D(first::Narrow::Two(7), 1));
    is_refused_as::<_, second::Wide>(Codec::Auto, first::Wide::C { inside: first::Narrow::Two(7) });
    is_refused_as::<_, second::Wide>(Codec::Auto, first::Wide::B(first::Narrow::Two(7)));
}

#[test]
fn integer_is_not_read_as_float_by_a_named_codec() {
    for codec in named_codecs() {
        is_refused_as::<_, second::Behind<Uuid, f64>>(
            codec,
            first::Behind { id: Uuid::from_u128(1), value: 1999_u64 },
        );
        is_refused_as::<_, (u8, second::Reading)>(
            codec,
            (1_u8, first::Reading(first::Celsius(10.0), first::Fahrenheit(50.0))),
        );
    }
}

fn named_codecs() -> Vec<Codec> {
    vec![
        Codec::MessagePack,
        #[cfg(feature = "json")]
        Codec::Json,
    ]
}

#[test]
fn sets_and_maps_round_trip_with_every_codec() {
    for codec in named_codecs().into_iter().chain([Codec::Auto]) {
        let value: HashMap<String, HashSet<u32>> =
            (0..40).map(|number| (number.to_string(), (0..number).collect())).collect();
        // Each set has its own iteration order.
        for _ in 0..5 {
            let encoded = Values::new(codec).encode(&value.clone()).unwrap();
            let found: HashMap<String, HashSet<u32>> = Values::new(codec).decode(encoded).unwrap();
            assert_eq!(found, value, "{codec:?}");
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Wei {
    wei: u128,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Balance {
    #[serde(flatten)]
    amounts: Option<Wei>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Of<T> {
    of: T,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flat<T> {
    #[serde(flatten)]
    of: Option<Of<T>>,
    size: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Either<T> {
    Size(u64),
    Of(Of<T>),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Address {
    Index(u64),
    Ip(std::net::Ipv4Addr),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct User {
    name: String,
    #[serde(skip_serializing)]
    #[allow(dead_code, reason = "not read back")]
    password: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Tree {
    under: Vec<Tree>,
}

fn tree(depth: usize) -> Tree {
    (0..depth).fold(Tree::default(), |tree, _| Tree { under: vec![tree] })
}

/// Asserts that `try_insert` refuses the value, that the refusal is counted, and that no entry is
/// left: neither the former value nor bytes that a later read would refuse.
#[track_caller]
fn is_refused<V>(codec: Codec, name: &str, fine: V, value: V)
where
    V: Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let dir = tempfile::tempdir().unwrap();
    let cache = bcache::<u64, V>("codecs").dir(dir.path()).codec(codec).build().unwrap();
    cache.try_insert(1, fine.clone()).unwrap();
    cache.try_insert(2, fine).unwrap();
    let error = cache.try_insert(1, value.clone()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Codec, "{error:?}");
    assert!(error.to_string().contains(name), "{error}");
    cache.insert(2, value.clone());
    assert_eq!(
        (cache.get(&1).is_some(), cache.get(&2).is_some()),
        (false, false),
        "the former value is gone"
    );
    cache.get_with(3, || value);
    let stats = cache.stats().cache;
    assert_eq!((stats.unencodable, stats.dropped), (3, 3));
    cache.close().unwrap();
    let cache = bcache::<u64, V>("codecs").dir(dir.path()).codec(codec).build().unwrap();
    assert!((1..4).all(|key| cache.get(&key).is_none()));
    assert_eq!((counts(&cache).refused, counts(&cache).undecodable), (0, 0));
    cache.close().unwrap();
}

// The fault: unreadable values were written, and later counted as damage on disk. The cause: only
// bincode was verified, and only with the first value.
#[test]
fn value_that_cannot_be_read_back_fails_to_write() {
    let balance = |wei| Balance { amounts: wei };
    is_refused(Codec::Auto, "MessagePack", balance(None), balance(Some(Wei { wei: u128::MAX })));
    is_refused(Codec::MessagePack, "MessagePack", balance(None), balance(Some(Wei { wei: u128::MAX })));
    is_refused(Codec::Auto, "nested deeper", tree(1), tree(2_000));
    is_refused(Codec::MessagePack, "nested deeper", tree(1), tree(2_000));
    let user = |name: &str| User { name: name.to_owned(), password: "secret".to_owned() };
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), Codec::Auto);
    let error = cache.try_insert(1, user("ada")).unwrap_err();
    assert!(error.to_string().contains("MessagePack") && error.to_string().contains("password"), "{error}");
    cache.close().unwrap();
}

/// Asserts that the value is found again by a later process.
fn is_found_again<V>(codec: Codec, value: V)
where
    V: Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), codec);
    cache.try_insert(1, value.clone()).unwrap();
    cache.close().unwrap();
    let cache = open::<V>(dir.path(), codec);
    assert!(cache.contains_key(&1));
    assert_eq!(cache.try_get(&1).unwrap(), Some(value));
    cache.close().unwrap();
}

/// Under `flatten` and in untagged enums, serde reads the binary form of a value as if it were the
/// form for people. Some types accept that, such as `Uuid`, and others do not, such as `IpAddr`.
#[test]
fn binary_form_under_flatten_is_read_back_or_refused() {
    let (id, host) = (Uuid::from_u128(7), std::net::IpAddr::from([127, 0, 0, 1]));
    for codec in [Codec::Auto, Codec::MessagePack] {
        is_found_again(codec, Flat { of: Some(Of { of: id }), size: 1 });
        is_found_again(codec, Either::Of(Of { of: id }));
        let flat = |of| Flat { of, size: 1 };
        is_refused(codec, "MessagePack", flat(None), flat(Some(Of { of: host })));
        is_refused(codec, "MessagePack", Either::Size(1), Either::Of(Of { of: host }));
        // No variant and no option distinguishes these: only the kinds of their data do.
        is_refused(codec, "MessagePack", Address::Index(1), Address::Ip([127, 0, 0, 1].into()));
    }
}

#[test]
#[cfg(feature = "json")]
fn value_that_json_cannot_read_back_fails_to_write() {
    #[derive(Clone, Debug, Serialize, Deserialize)]
    #[serde(tag = "type")]
    enum Tagged {
        Empty,
        Map { map: BTreeMap<i32, i32> },
    }
    is_refused(Codec::Json, "JSON", Tagged::Empty, Tagged::Map { map: BTreeMap::from([(1, 2)]) });
    is_refused(Codec::Json, "JSON", tree(1), tree(100));
    is_refused(Codec::Json, "JSON", tree(20), tree(64));
}

static IS_BROKEN: AtomicBool = AtomicBool::new(false);

/// A value that can be read back until its decoder starts to fail.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Fickle(#[serde(deserialize_with = "unless_broken")] u64);

fn unless_broken<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number = u64::deserialize(deserializer)?;
    if IS_BROKEN.load(Ordering::SeqCst) { Err(serde::de::Error::custom("broken")) } else { Ok(number) }
}

#[test]
fn intact_entry_that_fails_to_decode_counts_as_undecodable() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), Codec::Auto);
    cache.try_insert(1, Fickle(7)).unwrap();
    IS_BROKEN.store(true, Ordering::SeqCst);
    assert!(cache.get(&1).is_none());
    assert_eq!((counts(&cache).refused, counts(&cache).undecodable), (0, 1));
    assert!(!cache.contains_key(&1), "it is removed");
    cache.close().unwrap();
}
