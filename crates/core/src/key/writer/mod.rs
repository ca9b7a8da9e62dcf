//! A serde serializer for keys.

mod compound;

use std::fmt;

use serde::ser::{self, Serialize};

use self::compound::{Compound, Kind, MOMENT};
use super::rewrites::{Notes, Place, Plan, Rewrite, Step};
use super::sink::{Buffer, Int, Item, Sink};

/// The maximum nesting depth. Also that of values, see [`DEPTH_MAX`](crate::codec::measure::DEPTH_MAX).
const DEPTH_MAX: u16 = 256;

/// Writes a key into a sink with the rewrites of a plan, and notes other possible rewrites.
pub(super) struct Writer<'a> {
    sink: Sink<'a>,
    plan: &'a Plan,
    notes: Option<Notes>,
    place: Place,
    depth: u16,
    /// The last integer that was written.
    last: Option<Int>,
    /// The spellings in which texts were hashed.
    spelling: Plan,
}

impl<'a> Writer<'a> {
    pub(super) fn new(sink: Sink<'a>, plan: &'a Plan) -> Self {
        Self { sink, plan, notes: None, place: Place::ROOT, depth: 0, last: None, spelling: Plan::default() }
    }

    /// A writer that notes possible rewrites.
    pub(super) fn noting(sink: Sink<'a>, plan: &'a Plan) -> Self {
        Self { notes: Some(Notes::default()), ..Self::new(sink, plan) }
    }

    pub(super) fn into_notes(self) -> Notes {
        self.notes.unwrap_or_default()
    }

    pub(super) fn into_bytes(self) -> Buffer {
        self.sink.into_bytes()
    }

    /// The spellings in which texts were hashed, if the recorded data matched.
    pub(super) fn into_spelling(self) -> Option<Plan> {
        matches!(self.sink, Sink::Fed(fed) if fed.agrees()).then_some(self.spelling)
    }

    /// Compares a text, in any spelling, with the data that the hasher was fed.
    fn spell(&mut self, text: &str) {
        let Sink::Fed(fed) = &mut self.sink else { return };
        if fed.takes(text) {
            return;
        }
        if fed.takes_path(text) {
            if Rewrite::Path.text(text).is_some() && !self.spelling.has(self.place, Rewrite::Path) {
                self.spelling.0.push((self.place, Rewrite::Path));
            }
            return;
        }
        let may_be_cased = fed.may_take(text);
        let is_tried = |rewrite: &Rewrite| may_be_cased || !rewrite.keeps_the_first_letter();
        let fits = |rewrite: &Rewrite| rewrite.text(text).is_some_and(|text| fed.takes(&text));
        match Rewrite::OF_TEXT.into_iter().filter(is_tried).find(fits) {
            Some(rewrite) if self.spelling.has(self.place, rewrite) => {}
            Some(rewrite) => self.spelling.0.push((self.place, rewrite)),
            None => fed.differs(),
        }
    }

    fn note(&mut self, rewrite: Rewrite) {
        if let Some(notes) = &mut self.notes {
            notes.note(self.place, rewrite);
        }
    }

    fn plans(&self, rewrite: Rewrite) -> bool {
        !self.plan.0.is_empty() && self.plan.has(self.place, rewrite)
    }

    /// Notes that the part may be blanked; returns whether the plan blanks it.
    fn is_blank(&mut self) -> bool {
        self.note(Rewrite::Blank);
        self.plans(Rewrite::Blank)
    }

    fn put(&mut self, item: Item<'_>) -> Result<(), Refusal> {
        self.sink.put(item);
        Ok(())
    }

    fn int(&mut self, bits: u128, width: usize, signed: bool) -> Result<(), Refusal> {
        let bits = if self.is_blank() { 0 } else { bits };
        let int = Int { bits, width, signed };
        self.last = Some(int);
        self.put(Item::Int(int))
    }

    fn float(&mut self, value: f64, item: impl FnOnce(f64) -> Item<'static>) -> Result<(), Refusal> {
        let canonical = if value.is_nan() { f64::NAN } else { value + 0.0 };
        if canonical.to_bits() != value.to_bits() {
            self.note(Rewrite::Float);
        }
        let value = if self.plans(Rewrite::Float) { canonical } else { value };
        let value = if self.is_blank() { 0.0 } else { value };
        self.put(item(value))
    }

    /// Writes the part that `step` leads to.
    fn part<T: Serialize + ?Sized>(&mut self, step: Step, value: &T) -> Result<(), Refusal> {
        if self.depth == DEPTH_MAX {
            return Err(Refusal(format!("it is nested more than {DEPTH_MAX} times")));
        }
        let outer = self.place;
        self.place = outer.step(step);
        self.depth += 1;
        let written = value.serialize(&mut *self);
        self.depth -= 1;
        self.place = outer;
        written
    }

    /// Writes a part into its own buffer.
    fn apart<T: Serialize + ?Sized>(
        &mut self,
        sink: Sink<'a>,
        step: Step,
        value: &T,
    ) -> Result<Buffer, Refusal> {
        let outer = std::mem::replace(&mut self.sink, sink);
        let written = self.part(step, value);
        let bytes = std::mem::replace(&mut self.sink, outer).into_bytes();
        written.map(|()| bytes)
    }

    fn parts(&mut self, kind: Kind) -> Compound<'_, 'a> {
        Compound::new(self, kind)
    }

    /// Begins a collection. Its elements are buffered until the end if they are to be sorted, or if serde
    /// does not give the length.
    fn collection(&mut self, len: Option<usize>, is_map: bool) -> Compound<'_, 'a> {
        if self.is_blank() {
            self.sink.put(if is_map { Item::Map(0) } else { Item::Seq(0) });
            return self.parts(Kind::LeftOut);
        }
        if len.is_none_or(|len| len > 1) {
            self.note(Rewrite::Sort);
        }
        // The order in which a hasher was fed must not change.
        let sorts = self.plans(Rewrite::Sort) && !matches!(self.sink, Sink::Fed(_));
        match len {
            Some(len) if !sorts => {
                self.sink.put(if is_map { Item::Map(len) } else { Item::Seq(len) });
                self.parts(Kind::Listed)
            }
            _ => self.parts(Kind::Held { parts: Vec::new(), is_map, sorts }),
        }
    }
}

/// Why a key cannot be written.
#[derive(Debug)]
pub(super) struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

impl ser::Error for Refusal {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

macro_rules! integers {
    ($($method:ident($int:ty, $signed:literal)),+) => {$(
        fn $method(self, value: $int) -> Result<(), Refusal> {
            self.int(value as i128 as u128, size_of::<$int>(), $signed)
        }
    )+};
}

impl<'w, 'a> ser::Serializer for &'w mut Writer<'a> {
    type Ok = ();
    type Error = Refusal;
    type SerializeSeq = Compound<'w, 'a>;
    type SerializeTuple = Compound<'w, 'a>;
    type SerializeTupleStruct = Compound<'w, 'a>;
    type SerializeTupleVariant = Compound<'w, 'a>;
    type SerializeMap = Compound<'w, 'a>;
    type SerializeStruct = Compound<'w, 'a>;
    type SerializeStructVariant = Compound<'w, 'a>;

    integers!(
        serialize_i8(i8, true),
        serialize_i16(i16, true),
        serialize_i32(i32, true),
        serialize_i64(i64, true),
        serialize_i128(i128, true),
        serialize_u8(u8, false),
        serialize_u16(u16, false),
        serialize_u32(u32, false),
        serialize_u64(u64, false)
    );

    fn serialize_u128(self, value: u128) -> Result<(), Refusal> {
        self.int(value, 16, false)
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_bool(self, value: bool) -> Result<(), Refusal> {
        let value = !self.is_blank() && value;
        self.put(Item::Bool(value))
    }

    fn serialize_f32(self, value: f32) -> Result<(), Refusal> {
        self.float(f64::from(value), |value| Item::F32(value as f32))
    }

    fn serialize_f64(self, value: f64) -> Result<(), Refusal> {
        self.float(value, Item::F64)
    }

    fn serialize_char(self, value: char) -> Result<(), Refusal> {
        let value = if self.is_blank() { '\0' } else { value };
        self.put(Item::Char(value))
    }

    fn serialize_str(self, text: &str) -> Result<(), Refusal> {
        if let Some(notes) = &mut self.notes {
            notes.note_text(self.place, text);
        }
        if matches!(self.sink, Sink::Fed(_)) {
            self.spell(text);
            return Ok(());
        }
        if self.plan.0.is_empty() {
            return self.put(Item::Text(text));
        }
        let text = self.plan.text(self.place, text);
        self.put(Item::Text(&text))
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Refusal> {
        let value = if self.is_blank() { &[] } else { value };
        self.put(Item::Bytes(value))
    }

    fn serialize_none(self) -> Result<(), Refusal> {
        self.put(Item::None)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Refusal> {
        if self.is_blank() {
            return self.put(Item::None);
        }
        self.sink.put(Item::Some);
        self.part(Step::Some, value)
    }

    fn serialize_unit(self) -> Result<(), Refusal> {
        self.put(Item::Unit)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Refusal> {
        self.put(Item::UnitStruct)
    }

    fn serialize_unit_variant(self, _: &str, index: u32, name: &'static str) -> Result<(), Refusal> {
        self.put(Item::UnitVariant(index, name))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &str, value: &T) -> Result<(), Refusal> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &str,
        index: u32,
        name: &'static str,
        value: &T,
    ) -> Result<(), Refusal> {
        self.sink.put(Item::Variant(index, name));
        self.part(Step::Variant(index), value)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Compound<'w, 'a>, Refusal> {
        Ok(self.collection(len, false))
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Compound<'w, 'a>, Refusal> {
        Ok(self.collection(len, true))
    }

    fn serialize_tuple(self, len: usize) -> Result<Compound<'w, 'a>, Refusal> {
        if len == MOMENT && (self.notes.is_some() || self.plans(Rewrite::Moment)) {
            return Ok(self.parts(Kind::Moment(Vec::with_capacity(MOMENT))));
        }
        self.sink.put(Item::Tuple(len));
        Ok(self.parts(Kind::Fields))
    }

    fn serialize_tuple_struct(self, _: &str, len: usize) -> Result<Compound<'w, 'a>, Refusal> {
        self.sink.put(Item::Tuple(len));
        Ok(self.parts(Kind::Fields))
    }

    fn serialize_tuple_variant(
        self,
        _: &str,
        index: u32,
        name: &'static str,
        len: usize,
    ) -> Result<Compound<'w, 'a>, Refusal> {
        self.sink.put(Item::Variant(index, name));
        self.sink.put(Item::Tuple(len));
        Ok(self.parts(Kind::FieldsOf(index)))
    }

    fn serialize_struct(self, _: &str, len: usize) -> Result<Compound<'w, 'a>, Refusal> {
        self.sink.put(Item::Struct(len));
        Ok(self.parts(Kind::Fields))
    }

    fn serialize_struct_variant(
        self,
        _: &str,
        index: u32,
        name: &'static str,
        len: usize,
    ) -> Result<Compound<'w, 'a>, Refusal> {
        self.sink.put(Item::Variant(index, name));
        self.sink.put(Item::Struct(len));
        Ok(self.parts(Kind::FieldsOf(index)))
    }
}
