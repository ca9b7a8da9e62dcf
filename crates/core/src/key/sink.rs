//! The formats that a key is written in.

use std::hash::Hasher;
use std::path::{Component, Path};

use smallvec::SmallVec;

/// The first byte of a key in bincode. MessagePack never uses this byte.
pub(super) const BINCODE: u8 = 0xc1;

/// A buffer on the stack for a short key; a longer one moves to the heap.
pub(super) type Buffer = SmallVec<[u8; 64]>;

/// An integer of any width.
#[derive(Clone, Copy)]
pub(super) struct Int {
    /// Its bits, sign-extended.
    pub(super) bits: u128,
    /// Width in bytes.
    pub(super) width: usize,
    pub(super) signed: bool,
}

/// One item of a serialized key.
#[derive(Clone, Copy)]
pub(super) enum Item<'t> {
    Bool(bool),
    Int(Int),
    F32(f32),
    F64(f64),
    Char(char),
    Text(&'t str),
    Bytes(&'t [u8]),
    None,
    Some,
    Unit,
    UnitStruct,
    UnitVariant(u32, &'t str),
    /// A variant; its content follows.
    Variant(u32, &'t str),
    /// A sequence; this many elements follow.
    Seq(usize),
    Map(usize),
    Tuple(usize),
    Struct(usize),
    Field(&'t str),
    /// Precedes each element, or pair, of a collection.
    Element,
    End,
}

/// The target that a key is written to.
pub(super) enum Sink<'a> {
    /// MessagePack with names.
    Names(Buffer),
    /// bincode with integers of fixed width.
    Fixed(Buffer),
    /// Bytes that compare like the values, if those derive `Ord`.
    Ordered(Buffer),
    /// Compares the key with the data that it feeds a hasher.
    Fed(Fed<'a>),
}

/// The two stored formats.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Names,
    Fixed,
}

impl<'a> Sink<'a> {
    pub(super) fn of(form: Form) -> Self {
        match form {
            Form::Names => Self::Names(Buffer::new()),
            Form::Fixed => Self::Fixed(Buffer::from_slice(&[BINCODE])),
        }
    }

    /// An empty sink of the same format, for a part of the key.
    pub(super) fn part(&self) -> Sink<'a> {
        match self {
            Self::Names(_) => Self::Names(Buffer::new()),
            Self::Fixed(_) => Self::Fixed(Buffer::new()),
            Self::Ordered(_) | Self::Fed(_) => Self::Ordered(Buffer::new()),
        }
    }

    pub(super) fn into_bytes(self) -> Buffer {
        match self {
            Self::Names(bytes) | Self::Fixed(bytes) | Self::Ordered(bytes) => bytes,
            Self::Fed(_) => Buffer::new(),
        }
    }

    /// Appends a part that was written separately.
    pub(super) fn append(&mut self, part: &[u8]) {
        match self {
            Self::Names(bytes) | Self::Fixed(bytes) | Self::Ordered(bytes) => bytes.extend_from_slice(part),
            Self::Fed(fed) => fed.differs(),
        }
    }

    // Inlined, since each caller writes one kind of item.
    #[inline(always)]
    pub(super) fn put(&mut self, item: Item<'_>) {
        match self {
            Self::Names(bytes) => names(bytes, item),
            Self::Fixed(bytes) => fixed(bytes, item),
            Self::Ordered(bytes) => ordered(bytes, item),
            Self::Fed(fed) => fed.expect(item),
        }
    }
}

/// Writes the same bytes as `rmp_serde::encode::write_named`: the format is stored.
#[inline(always)]
fn names(bytes: &mut Buffer, item: Item<'_>) {
    use rmp::encode as rmp;
    // Writing to memory does not fail.
    let _written = match item {
        Item::Bool(value) => rmp::write_bool(bytes, value).is_ok(),
        Item::Int(Int { bits, width: 16, .. }) => rmp::write_bin(bytes, &bits.to_be_bytes()).is_ok(),
        Item::Int(Int { bits, signed: true, .. }) => rmp::write_sint(bytes, bits as i64).is_ok(),
        Item::Int(Int { bits, .. }) => rmp::write_uint(bytes, bits as u64).is_ok(),
        Item::F32(value) => rmp::write_f32(bytes, value).is_ok(),
        Item::F64(value) => rmp::write_f64(bytes, value).is_ok(),
        Item::Char(value) => rmp::write_str(bytes, value.encode_utf8(&mut [0; 4])).is_ok(),
        Item::Text(text) | Item::UnitVariant(_, text) | Item::Field(text) => {
            rmp::write_str(bytes, text).is_ok()
        }
        Item::Bytes(value) => rmp::write_bin(bytes, value).is_ok(),
        Item::None | Item::Unit => rmp::write_nil(bytes).is_ok(),
        Item::UnitStruct => rmp::write_array_len(bytes, 0).is_ok(),
        Item::Variant(_, name) => rmp::write_map_len(bytes, 1).is_ok() && rmp::write_str(bytes, name).is_ok(),
        Item::Seq(len) | Item::Tuple(len) => rmp::write_array_len(bytes, len as u32).is_ok(),
        Item::Map(len) | Item::Struct(len) => rmp::write_map_len(bytes, len as u32).is_ok(),
        Item::Some | Item::Element | Item::End => true,
    };
}

/// Writes the same bytes as bincode with fixed-width integers.
#[inline]
fn fixed(bytes: &mut Buffer, item: Item<'_>) {
    let mut text = |text: &[u8]| {
        bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
        bytes.extend_from_slice(text);
    };
    match item {
        Item::Text(value) => text(value.as_bytes()),
        Item::Bytes(value) => text(value),
        Item::Bool(value) => bytes.push(u8::from(value)),
        Item::Int(Int { bits, width, .. }) => bytes.extend_from_slice(&bits.to_le_bytes()[..width]),
        Item::F32(value) => bytes.extend_from_slice(&value.to_le_bytes()),
        Item::F64(value) => bytes.extend_from_slice(&value.to_le_bytes()),
        Item::Char(value) => bytes.extend_from_slice(value.encode_utf8(&mut [0; 4]).as_bytes()),
        Item::None => bytes.push(0),
        Item::Some => bytes.push(1),
        Item::UnitVariant(index, _) | Item::Variant(index, _) => {
            bytes.extend_from_slice(&index.to_le_bytes());
        }
        Item::Seq(len) | Item::Map(len) => bytes.extend_from_slice(&(len as u64).to_le_bytes()),
        Item::Unit
        | Item::UnitStruct
        | Item::Tuple(_)
        | Item::Struct(_)
        | Item::Field(_)
        | Item::Element
        | Item::End => {}
    }
}

/// Writes bytes that compare like the values.
fn ordered(bytes: &mut Buffer, item: Item<'_>) {
    match item {
        Item::Bool(value) => bytes.push(u8::from(value)),
        Item::Int(Int { bits, signed, .. }) => {
            let flip = if signed { 1 << 127 } else { 0 };
            bytes.extend_from_slice(&(bits ^ flip).to_be_bytes());
        }
        Item::F32(value) => ordered_float(bytes, f64::from(value)),
        Item::F64(value) => ordered_float(bytes, value),
        Item::Char(value) => bytes.extend_from_slice(&u32::from(value).to_be_bytes()),
        Item::Text(text) => ordered_bytes(bytes, text.as_bytes()),
        Item::Bytes(value) => ordered_bytes(bytes, value),
        Item::None | Item::End => bytes.push(0),
        Item::Some | Item::Element => bytes.push(1),
        Item::UnitVariant(index, _) | Item::Variant(index, _) => {
            bytes.extend_from_slice(&index.to_be_bytes());
        }
        Item::Unit
        | Item::UnitStruct
        | Item::Seq(_)
        | Item::Map(_)
        | Item::Tuple(_)
        | Item::Struct(_)
        | Item::Field(_) => {}
    }
}

fn ordered_float(bytes: &mut Buffer, value: f64) {
    let bits = value.to_bits();
    let ordered = if value.is_sign_negative() { !bits } else { bits | 1 << 63 };
    bytes.extend_from_slice(&ordered.to_be_bytes());
}

/// Escapes zero bytes, so that two of them mark the end.
fn ordered_bytes(bytes: &mut Buffer, value: &[u8]) {
    for byte in value {
        bytes.push(*byte);
        if *byte == 0 {
            bytes.push(1);
        }
    }
    bytes.extend_from_slice(&[0, 0]);
}

/// A hasher that records its input.
pub(super) struct Feed(Vec<u8>);

impl Default for Feed {
    fn default() -> Self {
        Self(Vec::with_capacity(128))
    }
}

impl Hasher for Feed {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

/// Compares the data that a key feeds a hasher with the data of a derived `Hash`.
pub(super) struct Fed<'a> {
    left: &'a [u8],
    agrees: bool,
}

impl<'a> Fed<'a> {
    pub(super) fn new(feed: &'a Feed) -> Self {
        Self { left: &feed.0, agrees: true }
    }

    /// Whether all of the recorded data matched.
    pub(super) fn agrees(&self) -> bool {
        self.agrees && self.left.is_empty()
    }

    pub(super) fn differs(&mut self) {
        self.agrees = false;
    }

    /// Consumes this text from the recorded data if it was hashed as a path: its components, and a number
    /// made of their lengths. The standard library does this today; if it changes, paths are found like other
    /// types.
    pub(super) fn takes_path(&mut self, text: &str) -> bool {
        let (mut left, mut bits) = (self.left, 0_usize);
        for part in Path::new(text).components().filter(|part| !matches!(part, Component::RootDir)) {
            let part = part.as_os_str().as_encoded_bytes();
            let Some(rest) = left.strip_prefix(part) else { return false };
            (left, bits) = (rest, bits.wrapping_add(part.len()).rotate_right(2));
        }
        let left = left.strip_prefix(&bits.to_ne_bytes());
        left.inspect(|left| self.left = left).is_some()
    }

    /// Whether this text, in some case, can come next.
    pub(super) fn may_take(&self, text: &str) -> bool {
        match (text.as_bytes().first(), self.left.first()) {
            (Some(first), Some(fed)) => !first.is_ascii() || first.eq_ignore_ascii_case(fed),
            _ => false,
        }
    }

    /// Consumes this text if it comes next.
    pub(super) fn takes(&mut self, text: &str) -> bool {
        let left = self.left.strip_prefix(text.as_bytes()).and_then(|left| left.strip_prefix(&[0xff]));
        left.inspect(|left| self.left = left).is_some()
    }

    fn next(&mut self, bytes: &[u8]) {
        match self.left.strip_prefix(bytes) {
            Some(left) => self.left = left,
            None => self.differs(),
        }
    }

    #[inline(always)]
    fn expect(&mut self, item: Item<'_>) {
        if !self.agrees {
            return;
        }
        match item {
            Item::Bool(value) => self.next(&[u8::from(value)]),
            Item::Int(Int { bits, width, .. }) => {
                let native = bits.to_ne_bytes();
                let low =
                    if cfg!(target_endian = "little") { &native[..width] } else { &native[16 - width..] };
                self.next(low);
            }
            Item::F32(value) => self.next(&value.to_bits().to_ne_bytes()),
            Item::F64(value) => self.next(&value.to_bits().to_ne_bytes()),
            Item::Char(value) => self.next(&u32::from(value).to_ne_bytes()),
            Item::Text(text) if self.takes(text) => {}
            Item::Text(_) => self.differs(),
            Item::Bytes(value) => {
                self.next(&value.len().to_ne_bytes());
                self.next(value);
            }
            Item::None => self.next(&0_isize.to_ne_bytes()),
            Item::Some => self.next(&1_isize.to_ne_bytes()),
            Item::UnitVariant(index, _) | Item::Variant(index, _) => {
                self.next(&(index as isize).to_ne_bytes());
            }
            Item::Seq(len) | Item::Map(len) => self.next(&len.to_ne_bytes()),
            // An array, which is a tuple here, is hashed with its length.
            Item::Tuple(len) => self.left = self.left.strip_prefix(&len.to_ne_bytes()).unwrap_or(self.left),
            Item::Unit | Item::UnitStruct | Item::Struct(_) | Item::Field(_) | Item::Element | Item::End => {}
        }
    }
}
