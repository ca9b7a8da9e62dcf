//! The probe: a deserializer that answers with samples.

use std::any::type_name;
use std::fmt;

use serde::de::value::U32Deserializer;
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};

use super::graph::{NodeId, Place};
use super::samples::{BOOLS, BYTES, CHARS, LENGTHS, NUMBERS, TEXTS};
use super::survey::Survey;

/// The depth from which on the walks of earlier builds answer collections as empty.
const FROZEN_DEPTH: u8 = 8;
/// The depth at which a walk ends, for a type with infinite recursion.
const DEPTH_MAX: u8 = 200;

/// The error that ends a walk.
#[derive(Debug)]
pub(super) struct Stop;

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

pub(super) struct Probe<'a> {
    survey: &'a mut Survey,
    place: Place,
    depth: u8,
}

impl<'a> Probe<'a> {
    pub(super) fn root(survey: &'a mut Survey) -> Self {
        Self { survey, place: Place::ROOT, depth: 0 }
    }

    fn is_deep(&self) -> bool {
        self.depth >= FROZEN_DEPTH
    }

    /// Asks a question without parts.
    fn ask_leaf(&mut self, question: &str, names: &[&str]) -> Result<(), Stop> {
        self.survey.ask(self.place, "", &[(question, names)], 0).map(drop)
    }

    /// Asks a question with parts. `V` distinguishes types with the same questions.
    fn ask<V>(&mut self, notes: &[(&str, &[&str])]) -> Result<NodeId, Stop> {
        self.survey.ask(self.place, type_name::<V>(), notes, 0)
    }

    /// Answers with a sample, and records a rejection.
    fn answer<T>(
        self,
        samples: usize,
        varies: bool,
        visit: impl FnOnce(usize) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        let sample = self.survey.sample(self.place, samples, varies);
        visit(sample).inspect_err(|_| self.survey.refuse(self.place, samples))
    }

    /// Visits the parts of a node.
    fn within<T>(
        self,
        (node, variant): (NodeId, u32),
        visit: impl FnOnce(Elements<'_>) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        let Self { survey, depth, .. } = self;
        if depth >= DEPTH_MAX {
            return Err(Stop);
        }
        let asked = survey.asked();
        survey.enter(node, variant);
        let place = Place { node, variant, position: 0 };
        let visited = visit(Elements { survey, place, depth: depth + 1, left: 0 });
        survey.leave((node, variant), asked, visited.is_ok());
        visited
    }

    fn elements<'de, V: Visitor<'de>>(self, node: NodeId, left: usize, visitor: V) -> Result<V::Value, Stop> {
        self.within((node, 0), |elements| visitor.visit_seq(Elements { left, ..elements }))
    }
}

macro_rules! numbers {
    ($($method:ident: $visit:ident($type:ty)),+) => {$(
        fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
            self.ask_leaf(stringify!($method), &[])?;
            self.answer(NUMBERS.len(), true, |sample| visitor.$visit(NUMBERS[sample] as $type))
        }
    )+};
}

impl<'de> de::Deserializer<'de> for Probe<'_> {
    type Error = Stop;

    numbers!(
        deserialize_i8: visit_i8(i8), deserialize_i16: visit_i16(i16), deserialize_i32: visit_i32(i32),
        deserialize_i64: visit_i64(i64), deserialize_i128: visit_i128(i128),
        deserialize_u8: visit_u8(u8), deserialize_u16: visit_u16(u16), deserialize_u32: visit_u32(u32),
        deserialize_u64: visit_u64(u64), deserialize_u128: visit_u128(u128),
        deserialize_f32: visit_f32(f32), deserialize_f64: visit_f64(f64)
    );

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        Err(self.survey.ask_what_comes())
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_any(visitor)
    }

    // Fields are given by position, so no type asks for an identifier; bincode has none.
    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_any(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        self.ask_leaf("deserialize_bool", &[])?;
        self.answer(BOOLS.len(), true, |sample| visitor.visit_bool(BOOLS[sample]))
    }

    fn deserialize_char<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        self.ask_leaf("deserialize_char", &[])?;
        self.answer(CHARS.len(), false, |sample| visitor.visit_char(CHARS[sample]))
    }

    fn deserialize_str<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        self.ask_leaf("str", &[])?;
        self.answer(TEXTS.len(), false, |sample| visitor.visit_str(TEXTS[sample]))
    }

    fn deserialize_string<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        self.ask_leaf("str", &[])?;
        self.answer(TEXTS.len(), false, |sample| visitor.visit_string(TEXTS[sample].to_owned()))
    }

    fn deserialize_bytes<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        self.ask_leaf("deserialize_bytes", &[])?;
        self.answer(LENGTHS.len(), false, |sample| visitor.visit_bytes(&BYTES[..LENGTHS[sample]]))
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        self.ask_leaf("deserialize_bytes", &[])?;
        self.answer(LENGTHS.len(), false, |sample| visitor.visit_byte_buf(BYTES[..LENGTHS[sample]].to_vec()))
    }

    fn deserialize_unit<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        self.ask_leaf("deserialize_unit", &[])?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.ask_leaf("unit struct", &[name])?;
        visitor.visit_unit()
    }

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        let node = self.ask::<V>(&[("option", &[])])?;
        if !self.survey.enters(node, self.is_deep()) {
            return visitor.visit_none();
        }
        self.within((node, 0), |mut inside| visitor.visit_some(inside.probe()))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        let node = self.ask::<V>(&[("newtype struct", &[name])])?;
        self.within((node, 0), |mut inside| visitor.visit_newtype_struct(inside.probe()))
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        let node = self.ask::<V>(&[("seq", &[])])?;
        let left = usize::from(self.survey.enters(node, self.is_deep()));
        self.elements(node, left, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(mut self, len: usize, visitor: V) -> Result<V::Value, Stop> {
        let node = self.ask::<V>(&[("tuple", &[&len.to_string()])])?;
        self.elements(node, len, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        let node = self.ask::<V>(&[("tuple struct", &[name, &len.to_string()])])?;
        self.elements(node, len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        let node = self.ask::<V>(&[("map", &[])])?;
        let left = usize::from(self.survey.enters(node, self.is_deep()));
        self.within((node, 0), |elements| visitor.visit_map(Elements { left, ..elements }))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        let node = self.ask::<V>(&[("struct", &[name]), ("fields", fields)])?;
        self.elements(node, fields.len(), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        let notes: &[(&str, &[&str])] = &[("enum", &[name]), ("variants", variants)];
        let node = self.survey.ask(self.place, type_name::<V>(), notes, variants.len())?;
        let is_deep = self.is_deep();
        let count = u32::try_from(variants.len()).unwrap_or(u32::MAX);
        let chosen = self.survey.choose(node, count, is_deep).filter(|_| count > 0).ok_or(Stop)?;
        self.within((node, chosen), |elements| visitor.visit_enum(Variant(elements)))
    }
}

/// The elements of a sequence, the pairs of a map, or the content of a variant.
struct Elements<'a> {
    survey: &'a mut Survey,
    place: Place,
    /// The depth of the elements.
    depth: u8,
    left: usize,
}

impl Elements<'_> {
    /// A probe for the next position.
    fn probe(&mut self) -> Probe<'_> {
        let place = self.place;
        self.place.position += 1;
        Probe { survey: self.survey, place, depth: self.depth }
    }

    fn ask(&mut self, question: &str, names: &[&str]) -> Result<(), Stop> {
        let place = self.place;
        self.place.position += 1;
        self.survey.ask(place, "", &[(question, names)], 0).map(drop)
    }
}

impl<'de> de::SeqAccess<'de> for Elements<'_> {
    type Error = Stop;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Stop> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(self.probe()).map(Some)
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
        seed.deserialize(self.probe())
    }
}

struct Variant<'a>(Elements<'a>);

impl<'de, 'a> de::EnumAccess<'de> for Variant<'a> {
    type Error = Stop;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), Stop> {
        let index: U32Deserializer<Stop> = self.0.place.variant.into_deserializer();
        seed.deserialize(index).map(|value| (value, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_> {
    type Error = Stop;

    fn unit_variant(mut self) -> Result<(), Stop> {
        self.0.ask("unit variant", &[])
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(mut self, seed: T) -> Result<T::Value, Stop> {
        self.0.ask("newtype variant", &[])?;
        seed.deserialize(self.0.probe())
    }

    fn tuple_variant<V: Visitor<'de>>(mut self, len: usize, visitor: V) -> Result<V::Value, Stop> {
        self.0.ask("tuple variant", &[&len.to_string()])?;
        visitor.visit_seq(Elements { left: len, ..self.0 })
    }

    fn struct_variant<V: Visitor<'de>>(
        mut self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.0.ask("struct variant", fields)?;
        visitor.visit_seq(Elements { left: fields.len(), ..self.0 })
    }
}
