//! Keys as text.

use serde_json::Value as Json;

use larder_core::hex;

use super::plain;
use crate::printer::needs_escape;

/// An encoded key as it is printed and typed.
///
/// Text that cannot be mistaken for anything else is bare: `index`. Other keys are in the notation of JSON:
/// `7`, `"7"`, `["page",7]`. A key that Larder did not encode is `0x` and its bytes in hexadecimal digits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct KeyText {
    pub(crate) text: String,
    pub(crate) value: Json,
    /// The quoted form of a key that is bare text.
    quoted: Option<String>,
}

impl KeyText {
    /// Decodes a key.
    pub(crate) fn of(encoded: &[u8]) -> Self {
        let Some(value) = plain::read(encoded).filter(|value| plain::is_encoded_as(value, encoded)) else {
            return Self { text: format!("0x{}", hex::encode(encoded)), value: Json::Null, quoted: None };
        };
        let text = plain::text(&value);
        match value.as_str().filter(|bare| is_unmistakable(bare)) {
            Some(bare) => Self { text: bare.to_owned(), value: plain::json(&value), quoted: Some(text) },
            None => Self { text, value: plain::json(&value), quoted: None },
        }
    }

    /// Whether a user who typed `text` means this key.
    pub(crate) fn is(&self, text: &str) -> bool {
        self.text == text || self.quoted.as_deref() == Some(text) || self.is_spelled(text)
    }

    /// Whether `text` is JSON for this key with other white space.
    fn is_spelled(&self, text: &str) -> bool {
        text.starts_with(['[', '{'])
            && serde_json::from_str::<Json>(text).is_ok_and(|json| json == self.value)
    }
}

/// Whether a string can be printed without quotes, and is no notation of another key.
fn is_unmistakable(string: &str) -> bool {
    let looks_like_notation = string.starts_with(['"', '[', '{', '-'])
        || ["0x", "h'", "ext("].iter().any(|start| string.starts_with(start))
        || ["NaN", "inf"].contains(&string);
    !string.is_empty()
        && !string.chars().any(|c| needs_escape(c) || c == '\\')
        && string.trim() == string
        && !looks_like_notation
        && serde_json::from_str::<Json>(string).is_err()
}

#[cfg(test)]
mod tests {
    use larder_core::key::{KeyCodec, NamedKeys};
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::*;

    fn of<K: Serialize + DeserializeOwned + std::hash::Hash + Eq + 'static>(key: &K) -> KeyText {
        KeyText::of(NamedKeys.encode(key).unwrap().as_bytes())
    }

    #[test]
    fn keys_are_printed_so_that_unequal_ones_differ() {
        for (text, expected) in [
            ("index", "index"),
            ("a b/ß", "a b/ß"),
            ("7", "\"7\""),
            ("", "\"\""),
            ("true", "\"true\""),
            (" a", "\" a\""),
            ("-x", "\"-x\""),
            ("0x00", "\"0x00\""),
            ("\u{1b}[2J", "\"\\u001b[2J\""),
        ] {
            assert_eq!(of(&text.to_owned()).text, expected);
        }
        assert_eq!(of(&7_u64).text, "7");
        assert_eq!(of(&("page".to_owned(), -7)).text, "[\"page\",-7]");
        assert_eq!(KeyText::of(&[0xc1]).text, "0xc1");
    }

    #[test]
    fn key_is_found_by_its_text_its_quoted_text_and_spaced_json() {
        assert!(of(&"index".to_owned()).is("index"));
        assert!(of(&"index".to_owned()).is("\"index\""));
        assert!(!of(&"7".to_owned()).is("7"));
        assert!(of(&("page".to_owned(), 7)).is("[ \"page\", 7 ]"));
        assert!(!of(&("page".to_owned(), 7)).is("[\"page\",8]"));
    }
}
