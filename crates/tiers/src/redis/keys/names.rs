//! The names of keys in Redis.
//!
//! ```text
//! <namespace>:<cache>:{<partition>}:<generation>:<label>:s:<text>     a text key
//! <namespace>:<cache>:{<partition>}:<generation>:<label>:x:<hex>      any other key
//! <namespace>:<cache>:{<partition>}:<generation>:<label>:h:<digest>   a key above 200 bytes
//! <namespace>:<cache>:{<partition>}:<generation>:r:s:<text>           what a removal leaves for a while
//! <namespace>:<cache>:{<partition>}:<generation>:l:s:<text>           the right to load an entry
//! <namespace>:<cache>:{<partition>}:leases                            counts those rights
//! <namespace>:<cache>:{<partition>}:generation                        the mark of a partition
//! <namespace>:<cache>:{00}:invalidated                                what was invalidated, by stamp
//! <namespace>:<cache>:{00}:invalidated:at                             when
//! ```
//!
//! A label, eight hex digits, is of one version of the program; what a removal leaves
//! is for all of them, and so is the right to load. Entries of earlier builds have no label.
//!
//! Namespace and cache are percent-encoded, so they hold neither `:` nor what
//! means something in a pattern. The partition, two hex digits, is the hash tag:
//! in a Cluster an entry and its mark share a slot.

use crate::redis::keys::partition_epochs::Belief;
use larder_core::key::EncodedKey;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

const INVALIDATED: &str = "invalidated";

/// How many partitions a cache has. Clearing touches each once.
pub(in crate::redis) const PARTITIONS: usize = 64;

/// Keys whose encoding is longer are named by their digest.
const KEY_BYTES_MAX: usize = 200;

/// The partition and the generation in the name of an entry, `{2f}:` and 16
/// digits with a colon.
const ENTRY_HEAD: usize = 5 + 17;
/// The label in the name of an entry, 8 digits with a colon.
const LABEL_LEN: usize = 9;

const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'/');

/// What a key of this cache is called.
#[derive(Clone, Debug)]
pub(in crate::redis) struct Names {
    prefix: String,
    marks: Vec<String>,
}

/// A name that was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::redis) enum Named {
    /// The mark of a partition.
    Mark(usize),
    /// An entry.
    Entry {
        /// Where it lies.
        partition: usize,
        /// The generation it was written in.
        generation: u64,
        /// The label of the version that wrote it.
        label: u32,
        /// The encoded key; `None` where the name has its digest alone.
        key: Option<EncodedKey>,
        /// The digest of the key.
        digest: u128,
    },
    /// What a removal leaves behind for a while; the encoded key, where the
    /// name has it.
    Removal(Option<EncodedKey>),
    /// The right to load an entry.
    Lease,
    /// What was invalidated by marks.
    Invalidated,
    /// An entry of an earlier build.
    Former,
}

/// The names of one entry.
#[derive(Clone, Debug)]
pub(in crate::redis) struct Place {
    /// That of this version.
    pub(in crate::redis) name: String,
    /// Those of the other versions in use.
    pub(in crate::redis) others: Vec<String>,
}

impl Names {
    pub(in crate::redis) fn new(namespace: &str, cache: &str) -> Self {
        let escaped = |part: &str| utf8_percent_encode(part, ESCAPED).to_string();
        let prefix = format!("{}:{}:", escaped(namespace), escaped(cache));
        let mark = |partition| format!("{prefix}{{{}}}:generation", tag(partition));
        Self { marks: (0..PARTITIONS).map(mark).collect(), prefix }
    }

    /// What the names of this cache, and of no other, begin with.
    pub(in crate::redis) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The name of a key to try commands with, which is none of those above.
    pub(in crate::redis) fn trial(&self, what: &str, number: u64) -> String {
        format!("{}{{{}}}:trial:{what}:{number:016x}", self.prefix, tag(0))
    }

    pub(in crate::redis) fn partition(key: &EncodedKey) -> usize {
        key.digest() as usize % PARTITIONS
    }

    pub(in crate::redis) fn mark(&self, partition: usize) -> &str {
        &self.marks[partition % PARTITIONS]
    }

    /// The names of an entry, by what is believed of its partition.
    pub(in crate::redis) fn place(&self, belief: &Belief, key: &EncodedKey) -> Place {
        let name = |label: &u32| self.labelled((belief.generation, *label), key);
        Place { name: name(&belief.label), others: belief.others.iter().map(name).collect() }
    }

    /// The name of an entry of this version.
    pub(in crate::redis) fn entry(&self, belief: &Belief, key: &EncodedKey) -> String {
        self.labelled((belief.generation, belief.label), key)
    }

    fn labelled(&self, (generation, label): (u64, u32), key: &EncodedKey) -> String {
        let bytes = key.as_bytes();
        // Written once a key of a batch: no part is put together by itself.
        let mut name = String::with_capacity(self.prefix.len() + 34 + 2 * bytes.len().min(KEY_BYTES_MAX));
        name += &self.prefix;
        name += "{";
        push_hex(&mut name, &[u8::try_from(Self::partition(key)).unwrap_or(0)]);
        name += "}:";
        push_hex(&mut name, &generation.to_be_bytes());
        name += ":";
        push_hex(&mut name, &label.to_be_bytes());
        if bytes.len() > KEY_BYTES_MAX {
            name += ":h:";
            push_hex(&mut name, &key.digest().to_be_bytes());
            return name;
        }
        match text(bytes) {
            Some(text) => {
                name += ":s:";
                name += text;
            }
            None => {
                name += ":x:";
                push_hex(&mut name, bytes);
            }
        }
        name
    }

    /// What a removal of the entry with this name leaves behind, for all versions.
    pub(in crate::redis) fn removal(&self, entry: &str) -> String {
        self.beside(entry, 'r')
    }

    /// The right to load the entry with this name, for one node at a time.
    pub(in crate::redis) fn lease(&self, entry: &str) -> String {
        self.beside(entry, 'l')
    }

    fn beside(&self, entry: &str, what: char) -> String {
        let (start, labelled) = entry.split_at((self.prefix.len() + ENTRY_HEAD).min(entry.len()));
        format!("{start}{what}:{}", &labelled[LABEL_LEN.min(labelled.len())..])
    }

    /// What counts the leases of a partition.
    pub(in crate::redis) fn leases(&self, partition: usize) -> String {
        format!("{}{{{}}}:leases", self.prefix, tag(partition % PARTITIONS))
    }

    /// What was invalidated by marks, and the times of that; both in the first
    /// partition.
    pub(in crate::redis) fn invalidated(&self) -> [String; 2] {
        let name = format!("{}{{{}}}:{INVALIDATED}", self.prefix, tag(0));
        [format!("{name}:at"), name]
    }

    /// Reads a name of this cache back; `None` for what is not ours.
    pub(in crate::redis) fn read(&self, name: &[u8]) -> Option<Named> {
        let rest = std::str::from_utf8(name).ok()?.strip_prefix(&self.prefix)?.strip_prefix('{')?;
        let (partition, rest) = rest.split_once("}:")?;
        let partition = usize::from_str_radix(partition, 16).ok().filter(|found| *found < PARTITIONS)?;
        if rest == "generation" {
            return Some(Named::Mark(partition));
        }
        if rest == INVALIDATED {
            return Some(Named::Invalidated);
        }
        let (generation, key) = rest.split_once(':')?;
        let generation = read_generation(generation.as_bytes())?;
        if key.starts_with("l:") {
            return Some(Named::Lease);
        }
        if let Some(removed) = key.strip_prefix("r:") {
            return read_key(removed).map(|(key, _)| Named::Removal(key));
        }
        let labelled = key.split_once(':').and_then(|(label, key)| Some((read_label(label)?, key)));
        let Some((label, key)) = labelled else { return read_key(key).map(|_| Named::Former) };
        let (key, digest) = read_key(key)?;
        Some(Named::Entry { partition, generation, label, key, digest })
    }
}

fn read_label(digits: &str) -> Option<u32> {
    u32::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 8)
}

/// A key as a name spells it: its encoding, where the name has it, and its digest.
fn read_key(name: &str) -> Option<(Option<EncodedKey>, u128)> {
    let key = match name.split_once(':')? {
        ("s", text) => EncodedKey::new(packed(text)),
        ("x", digits) => EncodedKey::new(bytes(digits)?),
        ("h", digest) => return Some((None, u128::from_str_radix(digest, 16).ok()?)),
        _ => return None,
    };
    let digest = key.digest();
    Some((Some(key), digest))
}

/// What names a partition in keys: their hash tag.
pub(in crate::redis) fn tag(partition: usize) -> String {
    format!("{partition:02x}")
}

/// A generation as a mark and a name spell it: 16 hex digits, never all zero.
pub(in crate::redis) fn read_generation(digits: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok().filter(|generation| *generation != 0)
}

/// The text of a key that is one MessagePack string, spelled the only way we
/// spell it, and that a terminal can show.
fn text(key: &[u8]) -> Option<&str> {
    let start = match key.first()? {
        0xa0..=0xbf => 1,
        0xd9 => 2,
        _ => return None,
    };
    let text = std::str::from_utf8(key.get(start..)?).ok()?;
    let shown = !text.chars().any(char::is_control);
    (shown && packed(text) == key).then_some(text)
}

/// A short string in MessagePack.
fn packed(text: &str) -> Vec<u8> {
    let len = u8::try_from(text.len()).unwrap_or(u8::MAX);
    let mut packed = if len < 32 { vec![0xa0 | len] } else { vec![0xd9, len] };
    packed.extend_from_slice(text.as_bytes());
    packed
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.len().is_multiple_of(2).then(|| digits.chunks(2).map(byte).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(key: &[u8]) -> String {
        let name = Names::new("shop", "carts").entry(&belief(0xabc), &EncodedKey::new(key));
        name.split_once("}:0000000000000abc:0000000c:").unwrap().1.to_owned()
    }

    fn belief(generation: u64) -> Belief {
        Belief { generation, label: 12, others: vec![13], ..Belief::default() }
    }

    #[test]
    fn a_short_text_key_shows_as_text() {
        assert_eq!(named(b"\xa5alice"), "s:alice");
        assert_eq!(named("\u{a9}caf\u{e9} {x}".as_bytes()), "x:c2a9636166c3a9207b787d");
        let long = format!("\u{e9}{}", "a".repeat(40));
        assert_eq!(named(&packed(&long)), format!("s:{long}"));
    }

    #[test]
    fn what_is_no_text_shows_as_hex_and_what_is_long_as_a_digest() {
        assert_eq!(named(b"\x2a"), "x:2a");
        assert_eq!(named(b""), "x:");
        assert_eq!(named(b"\xa2a\n"), "x:a2610a");
        assert_eq!(named(b"\xd9\x05alice"), "x:d905616c696365", "a longer spelling is another key");
        assert!(named(&[7; 201]).starts_with("h:"));
    }

    #[test]
    fn names_are_read_back() {
        let names = Names::new("shop", "carts");
        for key in [&b"\xa5alice"[..], b"\x2a", b"", b"\xa4a:{b", b"\xa2a\n", &[0xff; 200]] {
            let key = EncodedKey::new(key);
            let name = names.entry(&belief(77), &key);
            let (partition, digest) = (Names::partition(&key), key.digest());
            let read = names.read(name.as_bytes());
            assert_eq!(
                read,
                Some(Named::Entry { partition, generation: 77, label: 12, key: Some(key), digest })
            );
        }
        let long = EncodedKey::new([7; 201]);
        let (partition, digest) = (Names::partition(&long), long.digest());
        let read = names.read(names.entry(&belief(77), &long).as_bytes());
        assert_eq!(read, Some(Named::Entry { partition, generation: 77, label: 12, key: None, digest }));
        assert_eq!(names.read(names.mark(63).as_bytes()), Some(Named::Mark(63)));
        let [at, invalidated] = names.invalidated();
        assert_eq!(names.read(invalidated.as_bytes()), Some(Named::Invalidated));
        assert_eq!(names.read(at.as_bytes()), None, "it changes with the other");
        let alice = EncodedKey::new(*b"\xa5alice");
        let removal = names.removal(&names.entry(&belief(77), &alice));
        assert!(removal.ends_with("}:000000000000004d:r:s:alice"), "{removal}");
        assert_eq!(names.read(removal.as_bytes()), Some(Named::Removal(Some(alice.clone()))));
        let place = names.place(&belief(77), &alice);
        assert_eq!(names.removal(&place.name), names.removal(&place.others[0]), "one for all versions");
        assert_eq!(names.lease(&place.name), names.lease(&place.others[0]));
        let removal = names.removal(&names.entry(&belief(77), &long));
        assert_eq!(names.read(removal.as_bytes()), Some(Named::Removal(None)));
        let former = "shop:carts:{00}:000000000000004d:s:alice";
        assert_eq!(names.read(former.as_bytes()), Some(Named::Former));
        for foreign in ["shop:carts:", "shop:cart:{00}:generation", "shop:carts:{40}:generation", "x"] {
            assert_eq!(names.read(foreign.as_bytes()), None, "{foreign}");
        }
    }

    #[test]
    fn no_namespace_is_the_prefix_of_another() {
        let (one, other) = (Names::new("a", "b:c"), Names::new("a:b", "c"));
        assert_eq!((one.prefix(), other.prefix()), ("a:b%3Ac:", "a%3Ab:c:"));
        assert_eq!(Names::new("*", "[x]").prefix(), "%2A:%5Bx%5D:");
    }
}
