//! Values as text, by their codec.

use larder_core::Bytes;
use larder_core::compress::dictionary::needed_by;
use larder_core::compress::unpack_with;
use larder_core::frame::{CodecId, open};
use larder_core::key::EncodedKey;
use serde_json::{Value as Json, json};

use super::{EntryRecord, frame, plain};
use crate::exit::{Exit, Failure, Outcome};
use crate::printer::{escaped_lines, needs_escape};
use crate::source::OpenCache;

/// The value of an entry, decompressed.
pub(crate) struct StoredValue {
    codec: CodecId,
    shape: u64,
    pub(crate) bytes: Bytes,
}

impl StoredValue {
    /// Verifies a frame and unpacks its value.
    ///
    /// # Errors
    /// A frame that is damaged, or whose dictionary is lost.
    pub(crate) fn of(entry: &EntryRecord, frame: &Bytes, cache: &OpenCache) -> Outcome<Self> {
        let damaged = |why: &dyn std::fmt::Display| {
            Failure::new(
                Exit::Problems,
                format!("the entry is damaged: {why}; `larder check --fix` removes it"),
            )
        };
        let (header, payload) =
            open(frame, &EncodedKey::new(entry.key.as_slice())).map_err(|error| damaged(&error))?;
        let dictionary = needed_by(frame).map_or(Ok(None), |number| cache.dictionary(entry.tier, number))?;
        let find = |_| dictionary.clone();
        let bytes = unpack_with(header.compression, payload, header.value_len, &find)
            .map_err(|error| damaged(&error))?;
        Ok(Self { codec: header.codec, shape: header.shape, bytes })
    }

    /// The value as text, from its first `limit` bytes. Ends without a line break.
    pub(crate) fn text(&self, limit: usize) -> String {
        let shown = self.bytes.get(..limit).unwrap_or(&self.bytes);
        let text = match self.codec {
            CodecId::Absent => "no value: the entry says that there is none".to_owned(),
            CodecId::Sealed => "sealed: only a program that has the keys can read it".to_owned(),
            CodecId::Text | CodecId::Json => lossy(shown),
            CodecId::Raw => readable(shown).unwrap_or_else(|| dump(shown)),
            CodecId::MessagePack => match plain::read(&self.bytes) {
                Some(value) => cut(plain::text(&value), limit),
                None => dump(shown),
            },
            CodecId::Numbers => {
                Numbers::of(self.shape).map_or_else(|| dump(shown), |numbers| numbers.list(shown))
            }
            CodecId::Array => array(shown, self.shape).unwrap_or_else(|| dump(shown)),
            CodecId::Arrow => frame::text(&self.bytes).map_or_else(|| dump(shown), |text| cut(text, limit)),
            CodecId::Pixels => format!("{}\n{}", picture(&self.bytes), dump(shown)),
            CodecId::Bincode => {
                format!("bincode, which does not describe its type; the bytes:\n{}", dump(shown))
            }
            _ => dump(shown),
        };
        let is_cut = shown.len() < self.bytes.len();
        if is_cut {
            format!("{text}\n… the first {} of {} bytes", shown.len(), self.bytes.len())
        } else {
            text
        }
    }

    /// The value as JSON: decoded where the codec allows, and its bytes as hexadecimal digits otherwise.
    pub(crate) fn json(&self, limit: usize) -> Json {
        let shown = self.bytes.get(..limit).unwrap_or(&self.bytes);
        let is_cut = shown.len() < self.bytes.len();
        let decoded = match self.codec {
            _ if is_cut => None,
            CodecId::Absent => Some(Json::Null),
            CodecId::Text => std::str::from_utf8(shown).ok().map(Json::from),
            CodecId::Json => serde_json::from_slice(shown).ok(),
            CodecId::MessagePack => plain::read(shown).map(|value| plain::json(&value)),
            CodecId::Numbers => Numbers::of(self.shape).map(|numbers| numbers.json(shown)),
            CodecId::Arrow => frame::json(&self.bytes),
            _ => None,
        };
        match decoded {
            Some(value) => json!({ "decoded": value, "is_cut": false }),
            None => json!({ "hex": larder_core::hex::encode(shown), "is_cut": is_cut }),
        }
    }
}

/// Text without control codes, with a replacement for what is no UTF-8.
fn lossy(bytes: &[u8]) -> String {
    escaped_lines(&String::from_utf8_lossy(bytes))
}

/// Bytes that are text, as text.
fn readable(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let is_text =
        !text.is_empty() && !text.chars().any(|c| needs_escape(c) && !matches!(c, '\n' | '\t' | '\r'));
    is_text.then(|| escaped_lines(text))
}

fn cut(text: String, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Bytes in hexadecimal digits, sixteen a line, with the characters of ASCII beside them.
fn dump(bytes: &[u8]) -> String {
    let line = |(number, part): (usize, &[u8])| {
        let digits: Vec<String> = part.iter().map(|byte| format!("{byte:02x}")).collect();
        let ascii = part.iter().map(|byte| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '.' });
        format!("{:08x}  {:<47}  {}", number * 16, digits.join(" "), ascii.collect::<String>())
    };
    let lines: Vec<String> = bytes.chunks(16).enumerate().map(line).collect();
    lines.join("\n")
}

/// A type of number, by its code in the field `shape` of a frame.
#[derive(Clone, Copy)]
struct Numbers {
    name: &'static str,
    width: usize,
    print: fn(&[u8]) -> String,
}

macro_rules! numbers {
    ($($shape:literal $number:ident),+) => {
        impl Numbers {
            fn of(shape: u64) -> Option<Self> {
                match shape {
                    $($shape => Some(Self {
                        name: stringify!($number),
                        width: size_of::<$number>(),
                        print: |bytes| <[u8; size_of::<$number>()]>::try_from(bytes)
                            .map_or_else(|_| "?".to_owned(), |bytes| $number::from_le_bytes(bytes).to_string()),
                    }),)+
                    _ => None,
                }
            }
        }
    };
}

numbers!(1 i8, 2 u16, 3 i16, 4 u32, 5 i32, 6 u64, 7 i64, 8 u128, 9 i128, 10 f32, 11 f64, 12 u8, 13 u8);

impl Numbers {
    fn texts(self, bytes: &[u8]) -> Vec<String> {
        bytes.chunks_exact(self.width).map(self.print).collect()
    }

    fn list(self, bytes: &[u8]) -> String {
        format!("{}: [{}]", self.name, self.texts(bytes).join(", "))
    }

    /// The numbers as JSON; those that JSON does not have as text.
    fn json(self, bytes: &[u8]) -> Json {
        let number = |text: String| serde_json::from_str(&text).unwrap_or(Json::String(text));
        self.texts(bytes).into_iter().map(number).collect()
    }
}

/// The axes and the elements of an array.
fn array(bytes: &[u8], shape: u64) -> Option<String> {
    let numbers = Numbers::of(shape)?;
    let (count, rest) = bytes.split_first_chunk::<4>()?;
    let (axes, elements) =
        rest.split_at_checked(usize::try_from(u32::from_le_bytes(*count)).ok()?.checked_mul(8)?)?;
    let axes: Vec<String> =
        axes.as_chunks::<8>().0.iter().map(|axis| u64::from_le_bytes(*axis).to_string()).collect();
    Some(format!(
        "an array of {} with the axes {}\n{}",
        numbers.name,
        axes.join(" × "),
        numbers.list(elements)
    ))
}

/// What a picture is, by its first bytes.
fn picture(bytes: &[u8]) -> String {
    const LAYOUTS: [&str; 10] = [
        "gray u8",
        "gray and alpha u8",
        "RGB u8",
        "RGBA u8",
        "gray u16",
        "gray and alpha u16",
        "RGB u16",
        "RGBA u16",
        "RGB f32",
        "RGBA f32",
    ];
    let word = |at: usize| {
        let bytes = bytes.get(at..at + 4)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes))
    };
    let layout = word(0).and_then(|number| LAYOUTS.get(number as usize)).unwrap_or(&"an unknown layout");
    format!("a picture, {layout}, {} × {}", word(4).unwrap_or(0), word(8).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(codec: CodecId, shape: u64, bytes: &[u8]) -> StoredValue {
        StoredValue { codec, shape, bytes: Bytes::copy_from_slice(bytes) }
    }

    #[test]
    fn each_codec_is_printed_as_far_as_it_describes_itself() {
        let text = |codec, shape, bytes: &[u8]| value(codec, shape, bytes).text(100);
        assert_eq!(text(CodecId::Text, 0, b"a\x1b[0m\nb"), "a\\u{1b}[0m\nb");
        assert_eq!(text(CodecId::Json, 0, br#"{"a":1}"#), r#"{"a":1}"#);
        assert_eq!(text(CodecId::MessagePack, 0, b"\x81\xa1a\x01"), r#"{"a":1}"#);
        assert_eq!(text(CodecId::Numbers, 3, &[1, 0, 255, 255]), "i16: [1, -1]");
        assert_eq!(text(CodecId::Raw, 0, b"plain"), "plain");
        assert_eq!(text(CodecId::Raw, 0, b"\x00A"), format!("00000000  {:<47}  .A", "00 41"));
        assert!(text(CodecId::Bincode, 1, &[7]).starts_with("bincode"));
        let array = [&[2, 0, 0, 0][..], &1_u64.to_le_bytes(), &2_u64.to_le_bytes(), &[8, 9]].concat();
        assert_eq!(text(CodecId::Array, 12, &array), "an array of u8 with the axes 1 × 2\nu8: [8, 9]");
    }

    #[test]
    fn long_values_are_cut_and_say_so() {
        let text = value(CodecId::Text, 0, &[b'x'; 50]).text(10);
        assert_eq!(text, "xxxxxxxxxx\n… the first 10 of 50 bytes");
        assert_eq!(value(CodecId::Text, 0, &[b'x'; 50]).json(2), json!({ "hex": "7878", "is_cut": true }));
    }

    #[test]
    fn hostile_values_print_without_panic() {
        let codecs = [CodecId::Numbers, CodecId::Array, CodecId::Pixels, CodecId::MessagePack, CodecId::Json];
        for codec in codecs.into_iter().chain([CodecId::Arrow]) {
            for bytes in [&b""[..], &[255; 5], &[0xdd; 40], &[4, 0, 0, 0, 1]] {
                for shape in 0..15 {
                    let value = value(codec, shape, bytes);
                    assert!(!value.text(100).chars().any(|c| needs_escape(c) && c != '\n'));
                    assert!(value.json(100).is_object());
                }
            }
        }
    }
}
