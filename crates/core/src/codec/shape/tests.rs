//! Tests of type surveys: their shapes, completeness and fingerprints.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::marker::PhantomData;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use xxhash_rust::xxh3::xxh3_64;

use super::graph::note;
use super::of;

mod before {
    use serde::Deserialize;
    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only its shape is looked at")]
    pub(super) struct Report {
        pub(super) total: u32,
        pub(super) count: u32,
    }
    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only its shape is looked at")]
    pub(super) struct Wrapper<T>(T);
    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only its shape is looked at")]
    pub(super) struct Pair<A, B>(A, B);
}

mod after {
    use serde::Deserialize;
    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only its shape is looked at")]
    pub(super) struct Report {
        pub(super) total: u64,
    }
    #[derive(Deserialize)]
    #[allow(dead_code, reason = "only its shape is looked at")]
    pub(super) enum Answer {
        Yes(u32),
        No(u32),
    }
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only its shape is looked at")]
enum Answer {
    Yes(u32),
    No(i32),
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only its shape is looked at")]
#[serde(untagged)]
enum Either {
    Number(u32),
    Text(String),
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only its shape is looked at")]
#[serde(tag = "kind", content = "of")]
enum Adjacent {
    Number(u32),
    Text(String),
}

/// Text in a validated format.
#[derive(PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String", bound = "F: Format")]
struct Checked<F>(String, PhantomData<F>);

trait Format {
    fn accepts(text: &str) -> bool;
}

impl<F: Format> TryFrom<String> for Checked<F> {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        if F::accepts(&text) { Ok(Self(text, PhantomData)) } else { Err("not of this format") }
    }
}

#[derive(PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Id;
#[derive(PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Date;
#[derive(PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Secret;

impl Format for Id {
    fn accepts(text: &str) -> bool {
        text.len() == 36 && text.split('-').map(str::len).eq([8, 4, 4, 4, 12])
    }
}

impl Format for Date {
    fn accepts(text: &str) -> bool {
        text.ends_with('Z')
    }
}

impl Format for Secret {
    fn accepts(text: &str) -> bool {
        text == "known to nobody else"
    }
}

/// Decodes from sixteen bytes only.
struct Sized16;

impl<'de> Deserialize<'de> for Sized16 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Wanted;
        impl Visitor<'_> for Wanted {
            type Value = Sized16;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("16 bytes")
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Sized16, E> {
                if bytes.len() == 16 { Ok(Sized16) } else { Err(E::invalid_length(bytes.len(), &self)) }
            }
        }
        deserializer.deserialize_bytes(Wanted)
    }
}

/// Two numbers that are validated together.
#[derive(Deserialize)]
#[serde(try_from = "(u16, u16)")]
struct Ordered;

impl TryFrom<(u16, u16)> for Ordered {
    type Error = &'static str;

    fn try_from((low, high): (u16, u16)) -> Result<Self, &'static str> {
        if low < high { Ok(Self) } else { Err("not in order") }
    }
}

/// The first number decides about the fields after it.
struct ByVersion;

impl<'de> Deserialize<'de> for ByVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Wanted;
        impl<'de> Visitor<'de> for Wanted {
            type Value = ByVersion;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a version and what it says")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<ByVersion, A::Error> {
                match parts.next_element::<u8>()? {
                    Some(1) => drop(parts.next_element::<u64>()?),
                    _ => drop(parts.next_element::<String>()?),
                }
                Ok(ByVersion)
            }
        }
        deserializer.deserialize_tuple(2, Wanted)
    }
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only its shape is looked at")]
enum Wide<T> {
    A,
    B(T),
    C { inside: T },
    D(u8, T),
    E,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only its shape is looked at")]
enum Narrow<T> {
    One(u8),
    Two,
    Three(T),
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only its shape is looked at")]
enum Expression {
    Sum(Box<Expression>, Box<Expression>),
    Call { name: String, of: Vec<Argument> },
    Not(Box<Argument>),
    Literal(i64),
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only its shape is looked at")]
enum Argument {
    Plain(Box<Expression>),
    Named(String, Box<Expression>),
    Missing,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only its shape is looked at")]
enum Never {}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only its shape is looked at")]
struct Endless(Box<Endless>);

#[derive(Deserialize)]
#[allow(dead_code, reason = "only its shape is looked at")]
#[rustfmt::skip]
enum Forty<T> {
    V0, V1, V2, V3, V4, V5, V6, V7, V8, V9, V10, V11, V12, V13, V14, V15, V16, V17, V18, V19,
    V20, V21, V22, V23, V24, V25, V26, V27, V28, V29, V30, V31, V32, V33, V34, V35, V36, V37, V38, V39(T),
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only its shape is looked at")]
struct Lenient {
    #[serde(skip)]
    skipped: u8,
    #[serde(default)]
    or_default: u16,
    #[serde(deserialize_with = "or_nothing")]
    number: Option<u64>,
    borrowed: std::borrow::Cow<'static, str>,
    shared: std::sync::Arc<[u8; 4]>,
    when: std::time::SystemTime,
    at: std::net::SocketAddr,
    positive: std::num::NonZeroI64,
    result: Result<(), String>,
    path: std::path::PathBuf,
}

fn or_nothing<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(String::deserialize(deserializer)?.parse().ok())
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only its shape is looked at")]
struct Node {
    name: String,
    children: Vec<Node>,
    next: Option<Box<Node>>,
    table: HashMap<String, Vec<Node>>,
}

#[test]
fn types_with_equal_encodings_have_different_fingerprints() {
    let all = [
        of::<u64>(),
        of::<i64>(),
        of::<f64>(),
        of::<(u32, u32)>(),
        of::<[u32; 2]>(),
        of::<before::Report>(),
        of::<after::Report>(),
        of::<Answer>(),
        of::<after::Answer>(),
        of::<BTreeMap<String, u8>>(),
        of::<Vec<(String, u8)>>(),
        of::<Option<u8>>(),
        of::<Vec<u8>>(),
    ];
    for (at, one) in all.iter().enumerate() {
        let same = all.iter().filter(|other| *other == one).count();
        // To serde a pair and an array of two are the same, with the same meaning.
        let expect = if at == 3 || at == 4 { 2 } else { 1 };
        assert_eq!(same, expect, "type {at}");
    }
}

#[test]
fn recursion_ends() {
    assert_eq!(of::<Node>(), of::<Node>());
    assert!(of::<Node>().is_complete);
}

#[test]
fn types_that_request_any_value_are_detected() {
    for shape in [of::<Either>(), of::<Vec<Option<Either>>>(), of::<serde_json::Value>(), of::<Adjacent>()] {
        assert!(shape.asks_what_comes && !shape.is_complete);
    }
    assert!(!of::<before::Report>().asks_what_comes);
}

// A fault of earlier builds: a survey stopped at the first rejected sample, so changes of the type behind it
// were not detected.
#[test]
fn type_with_validated_text_is_surveyed_completely() {
    let types = [
        of::<(Checked<Id>, u64)>(),
        of::<(Checked<Id>, f64)>(),
        of::<(Checked<Date>, u64)>(),
        of::<HashMap<Checked<Id>, u32>>(),
        of::<HashMap<Checked<Id>, f32>>(),
        of::<(Sized16, u64)>(),
        of::<(Sized16, f64)>(),
        of::<(Ordered, u8)>(),
        of::<(Ordered, i8)>(),
    ];
    assert!(types.iter().all(|shape| shape.is_complete), "{types:?}");
    let distinct: std::collections::HashSet<u64> = types.iter().map(|shape| shape.fingerprint).collect();
    // To serde both validated texts are text.
    assert_eq!(distinct.len(), types.len() - 1);
}

#[test]
fn type_that_accepts_no_sample_is_not_complete() {
    for shape in [
        of::<Checked<Secret>>(),
        of::<(u8, Checked<Secret>, u64)>(),
        of::<Option<Checked<Secret>>>(),
        of::<BTreeMap<Checked<Secret>, u8>>(),
        of::<Never>(),
        of::<Endless>(),
        of::<ByVersion>(),
    ] {
        assert!(!shape.is_complete && !shape.asks_what_comes);
    }
}

// A fault of earlier builds: walk n took variant n modulo the number of variants, and never reached most of
// these pairs.
#[test]
fn all_variants_of_nested_enums_of_different_widths_are_visited() {
    assert!(of::<Wide<Narrow<u32>>>().is_complete);
    assert_ne!(of::<Wide<Narrow<u32>>>(), of::<Wide<Narrow<f32>>>());
    assert_ne!(of::<(Wide<u8>, Narrow<u32>)>(), of::<(Wide<u8>, Narrow<f32>)>());
    assert_ne!(of::<Narrow<Wide<Narrow<u32>>>>(), of::<Narrow<Wide<Narrow<f32>>>>());
    assert!(of::<Expression>().is_complete);
}

#[test]
fn types_behind_many_levels_or_variants_are_visited() {
    type Deep<T> = Vec<Vec<Vec<Vec<Vec<Vec<Vec<Vec<Vec<Vec<Option<T>>>>>>>>>>>;
    assert!(of::<Deep<u32>>().is_complete);
    assert_ne!(of::<Deep<u32>>(), of::<Deep<f32>>());
    assert!(of::<Forty<u32>>().is_complete);
    assert_ne!(of::<Forty<u32>>(), of::<Forty<f32>>());
}

#[test]
fn same_name_with_other_parameters_is_another_type() {
    type Outer<A, B> = before::Pair<before::Wrapper<A>, before::Wrapper<B>>;
    assert_ne!(of::<Outer<u32, u32>>(), of::<Outer<u32, f32>>());
    assert_ne!(of::<Outer<u32, f32>>(), of::<Outer<f32, u32>>());
}

#[test]
fn skipped_and_defaulted_fields_leave_a_type_complete() {
    assert!(of::<Lenient>().is_complete);
}

#[test]
fn fingerprints_of_complete_types_are_part_of_the_format() {
    let earlier = [of::<u64>().fingerprint, of::<before::Report>().fingerprint];
    assert_eq!(earlier, [9157735317351907762, 18001375597460328815]);
    // The types that earlier builds did not survey completely.
    let later = [of::<(Checked<Id>, u64)>().fingerprint, of::<Wide<Narrow<u32>>>().fingerprint];
    assert_eq!(later, [17163692069915197209, 3623079102718472514]);
}

#[test]
fn fingerprint_left_incomplete_by_earlier_builds_is_another_now() {
    let notes = [note("tuple", &["2"]), note("str", &[])].concat();
    assert_ne!(of::<(Checked<Id>, u64)>().fingerprint, xxh3_64(&notes));
    // Types that they surveyed completely keep their fingerprints.
    let notes = [note("tuple", &["2"]), note("str", &[]), note("deserialize_u64", &[])].concat();
    assert_eq!(of::<(String, u64)>().fingerprint, xxh3_64(&notes));
}
