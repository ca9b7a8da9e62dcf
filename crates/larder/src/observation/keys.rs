//! The names of keys: from a key to text for people, and back.

use std::any::{Any, TypeId};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

#[cfg(feature = "_codec")]
use larder_core::erased::AnyKeyCodec;
use larder_core::erased::Key;
use larder_core::{Error, ErrorKind, Result, hex};
use larder_engine::Engine;
use larder_engine::observation::{KeyName, NameKey};
use serde_json::{Value as Json, json};

/// How a user prints the keys of a cache.
pub(crate) struct KeyPrinter {
    name: Box<NameKey>,
    share: fn(&dyn Any) -> Option<Key>,
}

impl KeyPrinter {
    pub(crate) fn new<K>(text: impl Fn(&K) -> String + Send + Sync + 'static) -> Self
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
    {
        let name = move |key: &(dyn Any + Send + Sync)| match key.downcast_ref() {
            Some(key) => KeyName::text(&text(key)),
            None => KeyName::text("?"),
        };
        Self { name: Box::new(name), share: share::<K> }
    }
}

fn share<K: Hash + Eq + Clone + Send + Sync + 'static>(key: &dyn Any) -> Option<Key> {
    key.downcast_ref::<K>().map(|key| Key::cloneable(key.clone()))
}

/// Finds the key of a cache by its name.
#[derive(Clone, Copy)]
pub(crate) enum Finder {
    /// The key is decoded.
    #[cfg_attr(not(feature = "_codec"), allow(dead_code, reason = "only tiers encode keys"))]
    Encoded,
    /// The key is read from its text.
    Parsed(fn(&str) -> Option<Key>),
    /// A pass over the keys in memory finds it.
    Scan(fn(&dyn Any) -> Option<Key>),
}

/// How the keys of a cache are named and found.
pub(crate) struct KeyNames {
    pub(super) name: Box<NameKey>,
    pub(super) finder: Finder,
}

impl KeyNames {
    /// For a cache that encodes no keys.
    pub(crate) fn of_memory<K: Hash + Eq + Send + Sync + 'static>(text: Option<KeyPrinter>) -> Self {
        match text {
            Some(text) => Self { name: text.name, finder: Finder::Scan(text.share) },
            None => Self { name: Box::new(known_or_hash::<K>), finder: Finder::Parsed(parsed::<K>) },
        }
    }

    /// For a cache whose keys this codec encodes.
    #[cfg(feature = "_codec")]
    pub(crate) fn of_codec(codec: Arc<dyn AnyKeyCodec>, text: Option<KeyPrinter>) -> Self {
        match text {
            Some(text) => Self { name: text.name, finder: Finder::Scan(text.share) },
            None => {
                let name = move |key: &(dyn Any + Send + Sync)| match codec.encode(key) {
                    Ok(encoded) => KeyName::encoded(encoded.as_bytes()),
                    Err(_) => KeyName::text("a key that cannot be encoded"),
                };
                Self { name: Box::new(name), finder: Finder::Encoded }
            }
        }
    }
}

/// The types of keys whose text is known, and reads back.
macro_rules! known_keys {
    ($($key:ty),+) => {
        fn known(key: &dyn Any) -> Option<String> {
            $(if let Some(key) = key.downcast_ref::<$key>() {
                return Some(key.to_string());
            })+
            key.downcast_ref::<&'static str>().map(|key| (*key).to_owned())
                .or_else(|| key.downcast_ref::<Box<str>>().map(|key| key.to_string()))
                .or_else(|| key.downcast_ref::<Arc<str>>().map(|key| key.to_string()))
        }

        /// Reads a key of the type `K`; `None` if its text is not known.
        fn parsed<K: 'static>(text: &str) -> Option<Key> {
            let wanted = TypeId::of::<K>();
            $(if wanted == TypeId::of::<$key>() {
                return text.parse::<$key>().ok().map(Key::cloneable);
            })+
            if wanted == TypeId::of::<Box<str>>() {
                return Some(Key::cloneable(Box::<str>::from(text)));
            }
            (wanted == TypeId::of::<Arc<str>>()).then(|| Key::cloneable(Arc::<str>::from(text)))
        }
    };
}

known_keys!(
    String,
    u8,
    u16,
    u32,
    u64,
    u128,
    usize,
    i8,
    i16,
    i32,
    i64,
    i128,
    isize,
    bool,
    char,
    std::net::IpAddr,
    std::net::Ipv4Addr,
    std::net::Ipv6Addr,
    std::net::SocketAddr
);

fn known_or_hash<K: Hash + 'static>(key: &(dyn Any + Send + Sync)) -> KeyName {
    if let Some(text) = known(key) {
        return KeyName::text(&text);
    }
    let mut hasher = DefaultHasher::new();
    if let Some(key) = key.downcast_ref::<K>() {
        key.hash(&mut hasher);
    }
    KeyName::text(&format!("#{:016x}", hasher.finish()))
}

/// The JSON of a name: its text, and its encoding if there is one.
pub(super) fn json_of(name: &KeyName) -> Json {
    match name {
        KeyName::Encoded(bytes) => json!({ "text": text_of(bytes), "hex": hex::encode(bytes) }),
        KeyName::Text(text) => json!({ "text": text }),
        KeyName::Long(digest, length) => json!({ "text": format!("#{digest:032x} ({length} bytes)") }),
    }
}

/// An encoded key as the command `larder` prints it: bare text if it cannot be mistaken for anything else, else
/// JSON, else `0x` and its bytes.
fn text_of(bytes: &[u8]) -> String {
    match rmp_serde::from_slice::<Json>(bytes) {
        Ok(Json::String(text)) if is_unmistakable(&text) => text,
        Ok(value) => value.to_string(),
        Err(_) => format!("0x{}", hex::encode(bytes)),
    }
}

fn is_unmistakable(text: &str) -> bool {
    !text.is_empty()
        && text.trim() == text
        && !text.starts_with(['"', '[', '{', '-'])
        && !text.starts_with("0x")
        && !text.chars().any(|c| c.is_control() || c == '\\')
        && serde_json::from_str::<Json>(text).is_err()
}

/// The encodings that a key may have which is printed so, the likeliest first.
fn encodings(text: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    found.extend(text.strip_prefix("0x").and_then(hex::decode));
    if let Ok(value) = serde_json::from_str::<Json>(text) {
        found.extend(rmp_serde::to_vec(&value));
    }
    found.extend(rmp_serde::to_vec(text));
    found
}

/// Finds a key by what a client gave: its encoding as hexadecimal digits, or its text.
///
/// # Errors
/// `ErrorKind::Config` if no key of this cache has this text.
pub(super) fn find(engine: &Engine, finder: Finder, given: &str, is_hex: bool) -> Result<Key> {
    let found = match finder {
        Finder::Encoded => {
            let candidates = if is_hex { hex::decode(given).into_iter().collect() } else { encodings(given) };
            candidates.iter().find_map(|bytes| engine.decode_key(bytes).ok().flatten())
        }
        Finder::Parsed(parse) if !is_hex => parse(given),
        Finder::Scan(share) if !is_hex => engine.find_key(&KeyName::text(given), share),
        Finder::Parsed(_) | Finder::Scan(_) => None,
    };
    found.ok_or_else(|| {
        let allowed = match finder {
            Finder::Encoded => "a key of the type of this cache",
            Finder::Parsed(_) => {
                "a key of this cache, if it is text or a number; else build it with `observe_keys`"
            }
            Finder::Scan(_) => "the text of a key that is in memory",
        };
        Error::new(ErrorKind::Config, format!("`key`: given {given:?}, allowed {allowed}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_an_encoded_key_leads_back_to_its_encoding() {
        for value in [
            json!("index"),
            json!("7"),
            json!(7),
            json!(-3),
            json!(["page", 7]),
            json!(""),
            json!("0x00"),
            json!("\u{1b}[2J"),
            json!({ "id": 9, "of": "x" }),
        ] {
            let encoded = rmp_serde::to_vec(&value).unwrap();
            let text = text_of(&encoded);
            assert_eq!(encodings(&text)[0], encoded, "{text}");
        }
        assert_eq!(text_of(&[0xc1]), "0xc1");
        assert_eq!(encodings("0xc1")[0], [0xc1]);
        assert_eq!(hex::decode("0"), None);
        assert_eq!(hex::decode("ß"), None);
    }

    #[test]
    fn keys_of_known_types_have_text_and_others_a_hash() {
        let name = |key: &(dyn Any + Send + Sync)| known_or_hash::<(u8, u8)>(key);
        assert_eq!(name(&7_u64), KeyName::text("7"));
        assert_eq!(name(&"a"), KeyName::text("a"));
        let KeyName::Text(text) = name(&(1_u8, 2_u8)) else { panic!("no text") };
        assert!(text.starts_with('#') && text.len() == 17, "{text}");
        assert_eq!(parsed::<u64>("7").unwrap().downcast_ref::<u64>(), Some(&7));
        assert!(parsed::<u64>("x").is_none() && parsed::<(u8, u8)>("x").is_none());
    }
}
