use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bincode::Options;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::*;

fn encoded<K: Serialize + DeserializeOwned + Hash + Eq + Debug + 'static>(key: &K) -> Vec<u8> {
    let encoded = NamedKeys.encode(key).unwrap_or_else(|error| panic!("{key:?}: {error}"));
    let decoded: K = NamedKeys.decode(encoded.as_bytes()).unwrap();
    assert_eq!(decoded, *key, "an encoding decodes to the key");
    encoded.as_bytes().to_vec()
}

/// Asserts that all of these keys are unequal and have different encodings.
fn apart<K: Serialize + DeserializeOwned + Hash + Eq + Debug + 'static>(keys: &[K]) {
    let mut seen = HashSet::new();
    for key in keys {
        assert!(seen.insert(encoded(key)), "{key:?} meets another key");
    }
}

/// Asserts that all of these keys are equal and share an encoding.
fn together<K: Serialize + DeserializeOwned + Hash + Eq + Debug + 'static>(keys: &[K]) {
    for key in keys {
        assert_eq!(*key, keys[0]);
        assert_eq!(encoded(key), encoded(&keys[0]), "{key:?} has an encoding of its own");
    }
}

/// Asserts that the encoding is the same as in earlier builds: the format is stored.
fn as_before<K: Serialize + DeserializeOwned + Hash + Eq + Debug + 'static>(key: K) {
    let mut names = Vec::new();
    rmp_serde::encode::write_named(&mut names, &key).unwrap();
    assert_eq!(encoded(&key), names, "{key:?}");
    let mut fixed = vec![BINCODE];
    bincode::DefaultOptions::new().with_fixint_encoding().serialize_into(&mut fixed, &key).unwrap();
    let written = canonical::write(&Native(&key), Form::Fixed, &Plan::default()).unwrap();
    assert_eq!(written.to_vec(), fixed, "{key:?} in bincode");
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
enum Role {
    Viewer,
    Admin,
    Member(u8),
    Owner { of: String, since: i64 },
    Pair(i8, char),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Everything {
    small: (u8, i8, u16, i16, u32, i32, u64, i64),
    large: (u128, i128),
    text: String,
    letter: char,
    yes: bool,
    nothing: (),
    unit: Unit,
    new: New,
    maybe: Option<u32>,
    list: Vec<String>,
    roles: BTreeSet<Role>,
    table: BTreeMap<String, Vec<i32>>,
    array: [u8; 20],
    span: Duration,
    since: SystemTime,
    host: std::net::IpAddr,
    shared: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Unit;

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct New(u64);

fn everything() -> Everything {
    Everything {
        small: (200, -100, 60_000, -300, 1 << 31, i32::MIN, u64::MAX, i64::MIN),
        large: (u128::MAX, i128::MIN),
        text: "A//b/ 1.0 2024-01-01T00:00:00+01:00".to_owned(),
        letter: 'Ä',
        yes: true,
        nothing: (),
        unit: Unit,
        new: New(7),
        maybe: Some(3),
        list: ["b/", "A", "1.50", ""].map(str::to_owned).to_vec(),
        roles: [Role::Viewer, Role::Admin, Role::Member(3), Role::Owner { of: "X".into(), since: -1 }].into(),
        table: [("b".to_owned(), vec![3, -1]), ("a".to_owned(), vec![])].into(),
        array: [9; 20],
        span: Duration::new(3, 4),
        since: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
        host: std::net::Ipv6Addr::LOCALHOST.into(),
        shared: "Shared".into(),
    }
}

#[test]
fn keys_with_derived_traits_keep_their_encoding() {
    as_before(everything());
    as_before(vec![Role::Pair(-3, 'x'), Role::Member(0)]);
    as_before((String::from("Mixed Case/"), 3_u32));
    as_before([Some("1.0".to_owned()), None]);
    as_before(7_i128);
    as_before("text".to_owned());
    as_before("x".repeat(70_000));
    as_before((vec![1_u8; 300], i64::MAX, u8::MAX));
}

#[test]
fn keys_with_derived_traits_need_no_canonical_form() {
    assert!(NamedKeys.encode(&everything()).unwrap().is_sure());
    assert!(NamedKeys.encode(&(1_u8, [3_u8; 4], String::new())).unwrap().is_sure());
    assert!(NamedKeys.encode(&(PathBuf::from("a"), 1)).unwrap().is_sure());
    assert!(!NamedKeys.encode(&Word::<false>("A".to_owned())).unwrap().is_sure());
}

#[test]
fn unequal_keys_have_unequal_encodings() {
    apart(&[None, Some(None), Some(Some(1_u8))]);
    apart(&[None, Some(())]);
    apart(&[(None, 1), (Some(None), 1), (Some(Some(())), 1)]);
    apart(&[vec![None], vec![Some(None)], vec![], vec![Some(Some(false))]]);
    apart(&[("a:", "b"), ("a", ":b")].map(|(a, b)| (a.to_owned(), b.to_owned())));
    apart(
        &["a//b", "a/b", "A/b", "1.0", "1", "2024-01-01T13:00:00+01:00", "2024-01-01T12:00:00Z"]
            .map(|text| (0, text.to_owned())),
    );
    apart(&["a/b", "./a/b", "/a/b", "../a/b", "A/b", "", ".", "/"].map(PathBuf::from));
    apart(&[vec![2, 1], vec![1, 2], vec![1, 2, 2]]);
}

#[test]
fn equal_paths_share_an_encoding() {
    together(&["a/b", "a//b", "a/./b", "a/b/", "a/b/.", "a///.//b//"].map(PathBuf::from));
    together(&["a/b", "a//b"].map(|path| Box::<Path>::from(Path::new(path))));
    together(&["a/b", "a//b"].map(|path| (1_u8, Some(PathBuf::from(path)), "a//b".to_owned())));
    together(&["a/b", "a//b"].map(|path| vec![PathBuf::from("c"), PathBuf::from(path)]));
    together(&["a/b", "a//b"].map(|path| BTreeMap::from([(PathBuf::from(path), Some(Some(3)))])));
    together(&["a/b", "a//b"].map(|path| (Some(Some(())), None::<Option<u8>>, PathBuf::from(path))));
    together(&["a/b", "a//b"].map(|path| Ok::<_, String>(Arc::new(PathBuf::from(path)))));
}

#[test]
fn text_beside_a_path_keeps_its_spelling() {
    let key = (PathBuf::from("A//b"), "A//b".to_owned(), "1.00".to_owned());
    let decoded: (PathBuf, String, String) = NamedKeys.decode(&encoded(&key)).unwrap();
    assert_eq!(decoded.0.to_str(), Some("A/b"));
    assert_eq!((decoded.1, decoded.2), (key.1, key.2));
}

/// Text that is compared case-insensitively, and hashed as `by` says.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Word<const UPPER: bool>(String);

impl<const UPPER: bool> PartialEq for Word<UPPER> {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_lowercase() == other.0.to_lowercase()
    }
}

impl<const UPPER: bool> Eq for Word<UPPER> {}

impl<const UPPER: bool> Hash for Word<UPPER> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        if UPPER { self.0.to_uppercase() } else { self.0.to_lowercase() }.hash(state);
    }
}

#[test]
fn text_compared_without_case_shares_an_encoding() {
    together(&["Larder", "larder", "LARDER"].map(|word| Word::<false>(word.to_owned())));
    together(&["Larder", "larder", "LARDER"].map(|word| Word::<true>(word.to_owned())));
    together(&["ÄRGER", "ärger"].map(|word| (Word::<false>(word.to_owned()), "ÄRGER".to_owned())));
    together(&["X", "x"].map(|word| vec![Word::<false>("Straße".to_owned()), Word(word.to_owned())]));
    together(
        &["X", "x"].map(|word| {
            HashMap::from([(word.to_owned(), 1)]).into_keys().map(Word::<true>).collect::<Vec<_>>()
        }),
    );
    apart(&["Straße", "Strasse", "a", "b"].map(|word| Word::<false>(word.to_owned())));
}

#[test]
fn parts_ignored_by_equality_are_left_out() {
    #[derive(Clone, Debug, Serialize, Deserialize)]
    struct Traced {
        id: u32,
        trace: String,
        attempt: u8,
        parent: Option<u64>,
        spans: Vec<u32>,
    }
    impl PartialEq for Traced {
        fn eq(&self, other: &Self) -> bool {
            self.id == other.id
        }
    }
    impl Eq for Traced {}
    impl Hash for Traced {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.id.hash(state);
        }
    }
    let key = |trace: &str, attempt, parent, spans: &[u32]| Traced {
        id: 7,
        trace: trace.to_owned(),
        attempt,
        parent,
        spans: spans.to_vec(),
    };
    together(&[key("", 0, None, &[]), key("a", 3, Some(9), &[2, 1]), key("b", 0, Some(0), &[0])]);
    apart(&[key("a", 1, None, &[]), Traced { id: 8, ..key("a", 1, None, &[]) }]);
}

/// A set that hashes its elements in no order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Set(HashSet<String>);

impl Hash for Set {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.iter().map(|word| word.len()).sum::<usize>().hash(state);
    }
}

#[test]
fn unordered_sets_share_an_encoding() {
    let words: Vec<String> = (0..9).map(|n| format!("word {n}")).collect();
    let sets: Vec<_> = (0..9)
        .map(|turn| {
            let turned = words[turn..].iter().chain(&words[..turn]);
            (Set(turned.cloned().collect()), vec![2, 1])
        })
        .collect();
    together(&sets);
    let other = Set(words[1..].iter().cloned().collect());
    apart(&[sets[0].clone(), (other, vec![2, 1]), (sets[0].0.clone(), vec![1, 2])]);
}

#[test]
fn numeric_moments_share_an_encoding() {
    /// Encoded as the crate `time` encodes a moment with an offset.
    #[derive(Clone, Debug)]
    struct Moment {
        ordinal: u16,
        hour: i64,
        offset: i8,
    }
    type Numbers = (i32, u16, u8, u8, u8, u32, i8, i8, i8);
    impl Moment {
        fn seconds(&self) -> i64 {
            i64::from(self.ordinal) * 24 + self.hour - i64::from(self.offset)
        }
    }
    impl PartialEq for Moment {
        fn eq(&self, other: &Self) -> bool {
            self.seconds() == other.seconds()
        }
    }
    impl Eq for Moment {}
    impl Hash for Moment {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.seconds().hash(state);
        }
    }
    impl Serialize for Moment {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            (2024, self.ordinal, self.hour as u8, 0, 0, 0, self.offset, 0, 0).serialize(serializer)
        }
    }
    impl<'de> Deserialize<'de> for Moment {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let (_, ordinal, hour, _, _, _, offset, _, _) = Numbers::deserialize(deserializer)?;
            Ok(Self { ordinal, hour: hour.into(), offset })
        }
    }
    let moment = |ordinal, hour, offset| Moment { ordinal, hour, offset };
    together(&[moment(2, 1, 2), moment(1, 23, 0), moment(1, 20, -3)]);
    apart(&[moment(2, 1, 2), moment(2, 1, 1)]);
    let numbers: Numbers = (2024, 2, 1, 0, 0, 0, 2, 0, 0);
    apart(&[numbers, (2024, 1, 23, 0, 0, 0, 0, 0, 0)]);
}

#[test]
fn equal_floats_share_an_encoding() {
    /// All NaN are equal, and zero has no sign.
    #[derive(Clone, Copy, Debug, Serialize, Deserialize)]
    struct Number(f64);
    impl PartialEq for Number {
        fn eq(&self, other: &Self) -> bool {
            self.0 == other.0 || self.0.is_nan() && other.0.is_nan()
        }
    }
    impl Eq for Number {}
    impl Hash for Number {
        fn hash<H: Hasher>(&self, state: &mut H) {
            if self.0.is_nan() { 1 } else { (self.0 + 0.0).to_bits() }.hash(state);
        }
    }
    together(&[Number(0.0), Number(-0.0)]);
    together(&[Number(f64::NAN), Number(-f64::NAN), Number(f64::from_bits(0x7ff8_0000_0000_1234))]);
    apart(&[Number(0.0), Number(1.0), Number(f64::NAN)]);
}

#[test]
fn key_normalized_by_its_decoder_is_encoded_in_that_form() {
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Tag(&'static str, u8);
    impl Hash for Tag {
        fn hash<H: Hasher>(&self, _: &mut H) {}
    }
    impl Serialize for Tag {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_str(if self.1 == 0 { self.0 } else { "x-tag" })
        }
    }
    impl<'de> Deserialize<'de> for Tag {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            String::deserialize(deserializer).map(|text| Self("tag", u8::from(text == "x-tag")))
        }
    }
    assert_eq!(encoded(&Tag("tag", 0)), b"\xa3tag");
    assert_eq!(encoded(&Tag("tag", 1)), b"\xa5x-tag");
}

#[test]
fn key_with_another_encoding_each_time_is_rejected() {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    #[derive(Debug, PartialEq, Eq, Deserialize)]
    struct Salted(#[serde(skip)] u8, #[allow(dead_code, reason = "it is told apart by nothing")] Salt);
    #[derive(Debug, Eq, Deserialize)]
    struct Salt(#[allow(dead_code, reason = "it is told apart by nothing")] Role);
    impl PartialEq for Salt {
        fn eq(&self, _: &Self) -> bool {
            true
        }
    }
    impl Hash for Salted {
        fn hash<H: Hasher>(&self, _: &mut H) {}
    }
    impl Serialize for Salted {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let salt = NEXT.fetch_add(1, Ordering::Relaxed);
            let role = if salt.is_multiple_of(2) { Role::Viewer } else { Role::Admin };
            (role,).serialize(serializer)
        }
    }
    let error = NamedKeys.encode(&Salted(0, Salt(Role::Viewer))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Codec);
    assert!(error.to_string().contains("key_with"), "{error}");
}

#[test]
fn key_with_a_skipped_field_is_rejected() {
    #[derive(Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    struct Half {
        seen: u8,
        #[serde(skip)]
        hidden: u8,
    }
    assert!(NamedKeys.encode(&Half { seen: 1, hidden: 0 }).is_ok());
    let error = NamedKeys.encode(&Half { seen: 1, hidden: 2 }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Codec);
}

#[test]
fn any_bytes_decode_or_fail() {
    for bytes in [&[][..], &[BINCODE], &[BINCODE, 1], &[BINCODE; 40], &[0xff; 40]] {
        let _key: Result<Option<String>> = NamedKeys.decode(bytes);
    }
}

#[test]
fn canonical_form_that_is_another_key_is_rejected() {
    let keys = crate::key::Canonical::new(Box::new(|key: &u8| key / 2), NamedKeys);
    assert!(KeyCodec::<u8>::encode(&keys, &0).is_ok());
    assert_eq!(KeyCodec::<u8>::encode(&keys, &2).unwrap_err().kind(), ErrorKind::Codec);
}
