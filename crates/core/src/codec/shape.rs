//! The fingerprint of a type, by what it asks of its decoder.
//!
//! bincode bytes do not say what they are: eight bytes of a `u64` decode as an
//! `f64`, or as two `u32`. So a frame carries a fingerprint of the type that
//! wrote it. It is found by decoding the type from a probe, a deserializer
//! that answers every question with a small value and writes down the
//! question: names of structs, fields and variants, and the primitive types.
//! The same walk sees whether a type asks "what comes next?", which bincode
//! cannot answer (untagged enums, `serde_json::Value`, flattened fields).
//!
//! The technique is that of serde-reflection (Novi Research, 2020), reduced to
//! a digest. Enums are walked once a variant, up to [`VARIANTS_MAX`]; recursive
//! types end at [`DEPTH_MAX`]; a type whose decoder refuses the small values
//! has a fingerprint of what it asked until then. The result depends on the
//! type's serde form alone: not on the compiler, the platform or the module path.

use std::fmt;

use serde::de::value::U32Deserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor};
use xxhash_rust::xxh3::xxh3_64;

/// Variants of enums that are walked into.
pub const VARIANTS_MAX: u32 = 32;
/// Nesting at which collections are answered empty.
pub const DEPTH_MAX: u8 = 8;
/// Questions answered in one walk; a wider type is fingerprinted by these.
const QUESTIONS_MAX: u32 = 4096;

/// What the walks over a type found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// XXH3 over all that was asked; never zero.
    pub fingerprint: u64,
    /// Whether it asks what comes next, so only a codec that describes itself
    /// can carry it.
    pub asks_what_comes: bool,
}

/// The shape of `T`. Costs microseconds, once a cache.
///
/// ```
/// use larder_core::codec::shape;
///
/// assert_ne!(shape::of::<u64>(), shape::of::<f64>());
/// assert_eq!(shape::of::<Vec<String>>(), shape::of::<Box<[String]>>());
/// assert!(!shape::of::<(u64, String)>().asks_what_comes);
/// ```
pub fn of<T: DeserializeOwned>() -> Shape {
    let mut notes = Notes::default();
    loop {
        notes.asked = 0;
        // A refusal ends the walk; what was asked until then counts.
        drop(T::deserialize(Probe { notes: &mut notes, depth: 0 }));
        notes.walk += 1;
        if notes.walk >= notes.variants.min(VARIANTS_MAX) {
            break;
        }
        notes.tell("next walk", &[]);
    }
    Shape { fingerprint: xxh3_64(&notes.said).max(1), asks_what_comes: notes.asks_what_comes }
}

#[derive(Default)]
struct Notes {
    said: Vec<u8>,
    walk: u32,
    /// The largest count of variants seen.
    variants: u32,
    asked: u32,
    asks_what_comes: bool,
}

impl Notes {
    fn tell(&mut self, question: &str, names: &[&str]) {
        for part in std::iter::once(&question).chain(names) {
            self.said.extend_from_slice(&(part.len() as u32).to_le_bytes());
            self.said.extend_from_slice(part.as_bytes());
        }
        self.said.extend_from_slice(&(names.len() as u32).to_le_bytes());
    }
}

struct Probe<'a> {
    notes: &'a mut Notes,
    depth: u8,
}

impl Probe<'_> {
    fn ask(&mut self, question: &str, names: &[&str]) -> Result<(), Stop> {
        self.notes.asked += 1;
        if self.notes.asked > QUESTIONS_MAX {
            return Err(Stop);
        }
        self.notes.tell(question, names);
        Ok(())
    }

    fn deeper(&mut self) -> Probe<'_> {
        Probe { notes: self.notes, depth: self.depth.saturating_add(1) }
    }

    fn is_deep(&self) -> bool {
        self.depth >= DEPTH_MAX
    }

    fn elements<'de, V: Visitor<'de>>(self, count: usize, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_seq(Elements { probe: self, left: count })
    }
}

/// Ends a walk.
#[derive(Debug)]
struct Stop;

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the walk over the type ended")
    }
}

impl std::error::Error for Stop {}

impl de::Error for Stop {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

macro_rules! primitives {
    ($($method:ident: $visit:ident($($value:expr)?)),+) => {$(
        fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
            self.ask(stringify!($method), &[])?;
            visitor.$visit($($value)?)
        }
    )+};
}

impl<'de> de::Deserializer<'de> for Probe<'_> {
    type Error = Stop;

    // One rather than zero: types that are never zero accept it.
    primitives!(
        deserialize_bool: visit_bool(false), deserialize_char: visit_char('a'),
        deserialize_i8: visit_i8(1), deserialize_i16: visit_i16(1), deserialize_i32: visit_i32(1),
        deserialize_i64: visit_i64(1), deserialize_i128: visit_i128(1),
        deserialize_u8: visit_u8(1), deserialize_u16: visit_u16(1), deserialize_u32: visit_u32(1),
        deserialize_u64: visit_u64(1), deserialize_u128: visit_u128(1),
        deserialize_f32: visit_f32(1.0), deserialize_f64: visit_f64(1.0),
        deserialize_bytes: visit_bytes(&[]), deserialize_unit: visit_unit()
    );

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        self.notes.asks_what_comes = true;
        Err(Stop)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_any(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        self.ask("str", &[])?;
        visitor.visit_str("")
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_str(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        self.ask("option", &[])?;
        if self.is_deep() { visitor.visit_none() } else { visitor.visit_some(self.deeper()) }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.ask("unit struct", &[name])?;
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.ask("newtype struct", &[name])?;
        visitor.visit_newtype_struct(self.deeper())
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        self.ask("seq", &[])?;
        let count = usize::from(!self.is_deep());
        self.elements(count, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(mut self, len: usize, visitor: V) -> Result<V::Value, Stop> {
        self.ask("tuple", &[&len.to_string()])?;
        self.elements(len, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.ask("tuple struct", &[name, &len.to_string()])?;
        self.elements(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        self.ask("map", &[])?;
        let left = usize::from(!self.is_deep());
        visitor.visit_map(Elements { probe: self, left })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.ask("struct", &[name])?;
        self.ask("fields", fields)?;
        self.elements(fields.len(), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.ask("enum", &[name])?;
        self.ask("variants", variants)?;
        let count = u32::try_from(variants.len()).unwrap_or(u32::MAX);
        if count == 0 {
            return Err(Stop);
        }
        self.notes.variants = self.notes.variants.max(count);
        let chosen = if self.is_deep() { 0 } else { self.notes.walk % count };
        visitor.visit_enum(Variant { probe: self, chosen })
    }
}

/// The elements of a sequence, or the pairs of a map.
struct Elements<'a> {
    probe: Probe<'a>,
    left: usize,
}

impl<'de> de::SeqAccess<'de> for Elements<'_> {
    type Error = Stop;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Stop> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(self.probe.deeper()).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'de> de::MapAccess<'de> for Elements<'_> {
    type Error = Stop;

    fn next_key_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Stop> {
        de::SeqAccess::next_element_seed(self, seed)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Stop> {
        seed.deserialize(self.probe.deeper())
    }
}

struct Variant<'a> {
    probe: Probe<'a>,
    chosen: u32,
}

impl<'de, 'a> de::EnumAccess<'de> for Variant<'a> {
    type Error = Stop;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), Stop> {
        let index: U32Deserializer<Stop> = self.chosen.into_deserializer();
        seed.deserialize(index).map(|value| (value, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_> {
    type Error = Stop;

    fn unit_variant(mut self) -> Result<(), Stop> {
        self.probe.ask("unit variant", &[])
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(mut self, seed: T) -> Result<T::Value, Stop> {
        self.probe.ask("newtype variant", &[])?;
        seed.deserialize(self.probe.deeper())
    }

    fn tuple_variant<V: Visitor<'de>>(mut self, len: usize, visitor: V) -> Result<V::Value, Stop> {
        self.probe.ask("tuple variant", &[&len.to_string()])?;
        self.probe.elements(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        mut self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.probe.ask("struct variant", fields)?;
        self.probe.elements(fields.len(), visitor)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use serde::Deserialize;

    use super::of;

    mod before {
        use serde::Deserialize;
        #[derive(Deserialize)]
        #[allow(dead_code, reason = "only its shape is looked at")]
        pub(super) struct Report {
            pub(super) total: u32,
            pub(super) count: u32,
        }
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
    struct Node {
        name: String,
        children: Vec<Node>,
        next: Option<Box<Node>>,
        table: HashMap<String, Vec<Node>>,
    }

    #[test]
    fn types_that_share_an_encoding_differ() {
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
            // A pair and an array of two are one thing to serde, with one meaning.
            let expect = if at == 3 || at == 4 { 2 } else { 1 };
            assert_eq!(same, expect, "type {at}");
        }
    }

    #[test]
    fn recursion_ends() {
        assert_eq!(of::<Node>(), of::<Node>());
        assert!(!of::<Node>().asks_what_comes);
    }

    #[test]
    fn who_asks_what_comes_is_known() {
        assert!(of::<Either>().asks_what_comes);
        assert!(of::<Vec<Option<Either>>>().asks_what_comes);
        assert!(of::<serde_json::Value>().asks_what_comes);
        assert!(!of::<before::Report>().asks_what_comes);
    }

    #[test]
    fn fingerprints_are_part_of_the_format() {
        assert_eq!(of::<u64>().fingerprint, 9157735317351907762);
        assert_eq!(of::<before::Report>().fingerprint, 18001375597460328815);
    }
}
