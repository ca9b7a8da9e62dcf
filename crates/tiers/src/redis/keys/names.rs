//! The names of keys in Redis.
//!
//! ```text
//! <namespace>:<cache>:{<partition>}:<generation>:<label>:s:<text>    a text key
//! <namespace>:<cache>:{<partition>}:<generation>:<label>:x:<hex>     any other key
//! <namespace>:<cache>:{<partition>}:<generation>:<label>:h:<digest>  a key above 200 bytes
//! <namespace>:<cache>:{<partition>}:<generation>:r:s:<text>          the tombstone of a removal
//! <namespace>:<cache>:{<partition>}:<generation>:l:s:<text>          the lease to load an entry
//! <namespace>:<cache>:{<partition>}:leases                           the counter of those leases
//! <namespace>:<cache>:{<partition>}:generation                       the epoch record of a partition
//! <namespace>:<cache>:{00}:invalidated                               invalidations, by sequence number
//! <namespace>:<cache>:{00}:invalidated:at                            their times
//! ```
//!
//! `<generation>` is the epoch of the partition. `<label>`, eight hex digits, belongs to one version of the
//! program. Tombstones and load leases apply to all versions. Entries of earlier builds have no label.
//!
//! Namespace and cache are percent-encoded, so they contain neither `:` nor pattern characters. The
//! partition, two hex digits, is the hash tag: in a Cluster an entry and its epoch record share a slot.

use std::borrow::Cow;

use crate::redis::keys::partition_epochs::EpochRecord;
use larder_core::key::EncodedKey;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

const INVALIDATED: &str = "invalidated";

/// The number of partitions of a cache. A clear writes to each once.
pub(in crate::redis) const PARTITIONS: usize = 64;

/// Keys whose encoding is longer are named by their digest.
const KEY_BYTES_MAX: usize = 200;

/// Length of partition and epoch in the name of an entry: `{2f}:` and 16 digits with a colon.
const ENTRY_HEAD: usize = 5 + 17;
/// Length of the label in the name of an entry: 8 digits with a colon.
const LABEL_LEN: usize = 9;

const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'/');

/// Builds the key names of one cache.
#[derive(Clone, Debug)]
pub(in crate::redis) struct KeyNames {
    prefix: String,
    records: Vec<String>,
}

/// A parsed key name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::redis) enum KeyName {
    /// The epoch record of a partition.
    EpochRecord(usize),
    /// An entry.
    Entry {
        /// The partition.
        partition: usize,
        /// The epoch that it was written in.
        epoch: u64,
        /// The label of the version that wrote it.
        label: u32,
        /// The encoded key; `None` if the name contains only its digest.
        key: Option<EncodedKey>,
        /// The digest of the key.
        digest: u128,
    },
    /// The tombstone of a removal; with the encoded key, if the name contains it.
    Tombstone(Option<EncodedKey>),
    /// The lease to load an entry.
    Lease,
    /// The log of invalidations.
    Invalidated,
    /// An entry of an earlier build.
    Former,
}

/// The key names of one entry.
#[derive(Clone, Debug)]
pub(in crate::redis) struct EntryNames {
    /// The name for this version of the program.
    pub(in crate::redis) name: String,
    /// The names for the other versions in use.
    pub(in crate::redis) others: Vec<String>,
}

impl KeyNames {
    pub(in crate::redis) fn new(namespace: &str, cache: &str) -> Self {
        let escaped = |part: &str| utf8_percent_encode(part, ESCAPED).to_string();
        let prefix = format!("{}:{}:", escaped(namespace), escaped(cache));
        let record = |partition| format!("{prefix}{{{}}}:generation", tag(partition));
        Self { records: (0..PARTITIONS).map(record).collect(), prefix }
    }

    /// The prefix of all key names of this cache, and of no other cache.
    pub(in crate::redis) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The pattern of one key of each cache in `namespace`, or in any: the epoch record of the first partition.
    pub(in crate::redis) fn caches_pattern(namespace: Option<&str>) -> String {
        let namespace =
            namespace.map_or_else(|| "*".to_owned(), |name| utf8_percent_encode(name, ESCAPED).to_string());
        format!("{namespace}:*:{{{}}}:generation", tag(0))
    }

    /// The namespace and the cache of a key name.
    pub(in crate::redis) fn cache_of(name: &[u8]) -> Option<(String, String)> {
        let mut parts = std::str::from_utf8(name).ok()?.split(':');
        let decoded = |part: &str| percent_decode_str(part).decode_utf8().ok().map(Cow::into_owned);
        let cache = (decoded(parts.next()?)?, decoded(parts.next()?)?);
        parts.next()?.starts_with('{').then_some(cache)
    }

    /// A key name to test commands with; no entry has such a name.
    pub(in crate::redis) fn probe_key(&self, what: &str, number: u64) -> String {
        format!("{}{{{}}}:trial:{what}:{number:016x}", self.prefix, tag(0))
    }

    pub(in crate::redis) fn partition(key: &EncodedKey) -> usize {
        key.digest() as usize % PARTITIONS
    }

    pub(in crate::redis) fn record(&self, partition: usize) -> &str {
        &self.records[partition % PARTITIONS]
    }

    /// The names of an entry, by the cached epoch record of its partition.
    pub(in crate::redis) fn entry_names(&self, record: &EpochRecord, key: &EncodedKey) -> EntryNames {
        let name = |label: &u32| self.labelled((record.epoch, *label), key);
        EntryNames { name: name(&record.label), others: record.others.iter().map(name).collect() }
    }

    /// The name of an entry for this version.
    pub(in crate::redis) fn entry(&self, record: &EpochRecord, key: &EncodedKey) -> String {
        self.labelled((record.epoch, record.label), key)
    }

    fn labelled(&self, (epoch, label): (u64, u32), key: &EncodedKey) -> String {
        let bytes = key.as_bytes();
        // Called once per request, so it builds the name without temporary strings.
        let mut name = Vec::with_capacity(self.prefix.len() + 38 + 2 * bytes.len().min(KEY_BYTES_MAX));
        name.extend_from_slice(self.prefix.as_bytes());
        name.push(b'{');
        push_hex(&mut name, &[u8::try_from(Self::partition(key)).unwrap_or(0)]);
        name.extend_from_slice(b"}:");
        name.extend_from_slice(hex(epoch.to_be_bytes()).as_flattened());
        name.push(b':');
        name.extend_from_slice(hex(label.to_be_bytes()).as_flattened());
        if bytes.len() > KEY_BYTES_MAX {
            name.extend_from_slice(b":h:");
            push_hex(&mut name, &key.digest().to_be_bytes());
        } else if let Some(text) = text(bytes) {
            name.extend_from_slice(b":s:");
            name.extend_from_slice(text.as_bytes());
        } else {
            name.extend_from_slice(b":x:");
            push_hex(&mut name, bytes);
        }
        // All parts are text.
        String::from_utf8(name).unwrap_or_default()
    }

    /// The name of the tombstone of an entry, common to all versions.
    pub(in crate::redis) fn tombstone(&self, entry: &str) -> String {
        self.sibling(entry, 'r')
    }

    /// The name of the load lease of an entry, held by one node at a time.
    pub(in crate::redis) fn lease(&self, entry: &str) -> String {
        self.sibling(entry, 'l')
    }

    fn sibling(&self, entry: &str, what: char) -> String {
        let (start, labelled) = entry.split_at((self.prefix.len() + ENTRY_HEAD).min(entry.len()));
        format!("{start}{what}:{}", &labelled[LABEL_LEN.min(labelled.len())..])
    }

    /// The name of the lease counter of a partition.
    pub(in crate::redis) fn leases(&self, partition: usize) -> String {
        format!("{}{{{}}}:leases", self.prefix, tag(partition % PARTITIONS))
    }

    /// The names of the invalidation times and of the invalidations; both in the first partition.
    pub(in crate::redis) fn invalidated(&self) -> [String; 2] {
        let name = format!("{}{{{}}}:{INVALIDATED}", self.prefix, tag(0));
        [format!("{name}:at"), name]
    }

    /// Parses a key name; `None` if it is not one of this cache.
    pub(in crate::redis) fn read(&self, name: &[u8]) -> Option<KeyName> {
        let rest = std::str::from_utf8(name).ok()?.strip_prefix(&self.prefix)?.strip_prefix('{')?;
        let (partition, rest) = rest.split_once("}:")?;
        let partition = usize::from_str_radix(partition, 16).ok().filter(|found| *found < PARTITIONS)?;
        if rest == "generation" {
            return Some(KeyName::EpochRecord(partition));
        }
        if rest == INVALIDATED {
            return Some(KeyName::Invalidated);
        }
        let (epoch, key) = rest.split_once(':')?;
        let epoch = read_epoch(epoch.as_bytes())?;
        if key.starts_with("l:") {
            return Some(KeyName::Lease);
        }
        if let Some(removed) = key.strip_prefix("r:") {
            return read_key(removed).map(|(key, _)| KeyName::Tombstone(key));
        }
        let labelled = key.split_once(':').and_then(|(label, key)| Some((read_label(label)?, key)));
        let Some((label, key)) = labelled else { return read_key(key).map(|_| KeyName::Former) };
        let (key, digest) = read_key(key)?;
        Some(KeyName::Entry { partition, epoch, label, key, digest })
    }
}

fn read_label(digits: &str) -> Option<u32> {
    u32::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 8)
}

/// Parses the key part of a name: the encoding, if the name contains it, and the digest.
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

/// The hash tag of a partition.
pub(in crate::redis) fn tag(partition: usize) -> String {
    format!("{partition:02x}")
}

/// Parses an epoch: 16 hex digits, never all zero.
pub(in crate::redis) fn read_epoch(digits: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok().filter(|epoch| *epoch != 0)
}

/// The text of a key that is one printable MessagePack string in its shortest form.
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

/// Encodes a short string in MessagePack.
fn packed(text: &str) -> Vec<u8> {
    let len = u8::try_from(text.len()).unwrap_or(u8::MAX);
    let mut packed = if len < 32 { vec![0xa0 | len] } else { vec![0xd9, len] };
    packed.extend_from_slice(text.as_bytes());
    packed
}

/// The hexadecimal digits of every byte.
const DIGITS: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let (mut all, mut byte) = ([[0; 2]; 256], 0);
    while byte < 256 {
        all[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    all
};

/// The digits of each byte.
fn hex<const N: usize>(bytes: [u8; N]) -> [[u8; 2]; N] {
    bytes.map(|byte| DIGITS[usize::from(byte)])
}

fn push_hex(name: &mut Vec<u8>, bytes: &[u8]) {
    let (chunks, rest) = bytes.as_chunks::<8>();
    chunks.iter().for_each(|chunk| name.extend_from_slice(hex(*chunk).as_flattened()));
    rest.iter().for_each(|byte| name.extend_from_slice(hex([*byte]).as_flattened()));
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
        let name = KeyNames::new("shop", "carts").entry(&record(0xabc), &EncodedKey::new(key));
        name.split_once("}:0000000000000abc:0000000c:").unwrap().1.to_owned()
    }

    fn record(epoch: u64) -> EpochRecord {
        EpochRecord { epoch, label: 12, others: vec![13], ..EpochRecord::default() }
    }

    #[test]
    fn short_text_key_is_named_by_its_text() {
        assert_eq!(named(b"\xa5alice"), "s:alice");
        assert_eq!(named("\u{a9}caf\u{e9} {x}".as_bytes()), "x:c2a9636166c3a9207b787d");
        let long = format!("\u{e9}{}", "a".repeat(40));
        assert_eq!(named(&packed(&long)), format!("s:{long}"));
    }

    #[test]
    fn binary_key_is_named_in_hex_and_long_key_by_digest() {
        assert_eq!(named(b"\x2a"), "x:2a");
        assert_eq!(named(b""), "x:");
        assert_eq!(named(b"\xa2a\n"), "x:a2610a");
        assert_eq!(named(b"\xd9\x05alice"), "x:d905616c696365", "a longer spelling is another key");
        assert!(named(&[7; 201]).starts_with("h:"));
    }

    #[test]
    fn parsed_names_equal_written_names() {
        let names = KeyNames::new("shop", "carts");
        for key in [&b"\xa5alice"[..], b"\x2a", b"", b"\xa4a:{b", b"\xa2a\n", &[0xff; 200]] {
            let key = EncodedKey::new(key);
            let name = names.entry(&record(77), &key);
            let (partition, digest) = (KeyNames::partition(&key), key.digest());
            let read = names.read(name.as_bytes());
            assert_eq!(
                read,
                Some(KeyName::Entry { partition, epoch: 77, label: 12, key: Some(key), digest })
            );
        }
        let long = EncodedKey::new([7; 201]);
        let (partition, digest) = (KeyNames::partition(&long), long.digest());
        let read = names.read(names.entry(&record(77), &long).as_bytes());
        assert_eq!(read, Some(KeyName::Entry { partition, epoch: 77, label: 12, key: None, digest }));
        assert_eq!(names.read(names.record(63).as_bytes()), Some(KeyName::EpochRecord(63)));
        let [at, invalidated] = names.invalidated();
        assert_eq!(names.read(invalidated.as_bytes()), Some(KeyName::Invalidated));
        assert_eq!(names.read(at.as_bytes()), None, "it changes with the other");
        let alice = EncodedKey::new(*b"\xa5alice");
        let removal = names.tombstone(&names.entry(&record(77), &alice));
        assert!(removal.ends_with("}:000000000000004d:r:s:alice"), "{removal}");
        assert_eq!(names.read(removal.as_bytes()), Some(KeyName::Tombstone(Some(alice.clone()))));
        let entry = names.entry_names(&record(77), &alice);
        assert_eq!(names.tombstone(&entry.name), names.tombstone(&entry.others[0]), "one for all versions");
        assert_eq!(names.lease(&entry.name), names.lease(&entry.others[0]));
        let removal = names.tombstone(&names.entry(&record(77), &long));
        assert_eq!(names.read(removal.as_bytes()), Some(KeyName::Tombstone(None)));
        let former = "shop:carts:{00}:000000000000004d:s:alice";
        assert_eq!(names.read(former.as_bytes()), Some(KeyName::Former));
        for foreign in ["shop:carts:", "shop:cart:{00}:generation", "shop:carts:{40}:generation", "x"] {
            assert_eq!(names.read(foreign.as_bytes()), None, "{foreign}");
        }
    }

    #[test]
    fn no_namespace_is_a_prefix_of_another() {
        let (one, other) = (KeyNames::new("a", "b:c"), KeyNames::new("a:b", "c"));
        assert_eq!((one.prefix(), other.prefix()), ("a:b%3Ac:", "a%3Ab:c:"));
        assert_eq!(KeyNames::new("*", "[x]").prefix(), "%2A:%5Bx%5D:");
    }
}
