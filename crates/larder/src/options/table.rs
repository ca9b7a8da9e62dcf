//! The table of options.

use std::path::PathBuf;

use larder_core::codec::Codec;
use larder_core::compress::Compress;
use larder_core::place::{Access, Kind, Persistence, Sharing, Thresholds};
use larder_tiers::memory::Policy;

use super::{Explained, Source, values};
use crate::builder::{CAPACITY, DISK_BYTES, MEMORY_BYTES};

/// An option of a cache, as the documentation has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OptionRow {
    /// Its name: that of the builder's method, of the key in a file and of the
    /// parameter in a URL. The variable is `LARDER_` and the name in capitals.
    pub name: &'static str,
    /// What it does.
    pub says: &'static str,
    /// What a value looks like, with its unit.
    pub takes: &'static str,
    /// What is allowed.
    pub allowed: &'static str,
    /// What holds where nothing is said.
    pub default: &'static str,
    /// The tiers it is about.
    pub tiers: &'static str,
    /// What it costs.
    pub cost: &'static str,
}

macro_rules! table {
    ($($name:ident: $type:ty {
        says: $says:literal, takes: $takes:literal, allowed: $allowed:literal, default: $default:literal,
        tiers: $tiers:literal, cost: $cost:literal,
        parse: $parse:expr, valid: $valid:expr, show: $show:expr,
    })+) => {
        /// What was set, of each option.
        #[derive(Clone, Debug, Default)]
        pub(crate) struct Settings {
            $(pub(crate) $name: Option<$type>,)+
        }

        const ROWS: &[OptionRow] = &[$(OptionRow {
            name: stringify!($name), says: $says, takes: $takes, allowed: $allowed,
            default: $default, tiers: $tiers, cost: $cost,
        },)+];

        impl Settings {
            /// Sets an option from text; whether the text is allowed.
            pub(super) fn set(&mut self, option: &str, text: &str) -> bool {
                match option {
                    $(stringify!($name) => {
                        let parse: fn(&str) -> Option<$type> = $parse;
                        let valid: fn(&$type) -> bool = $valid;
                        self.$name = parse(text).filter(valid);
                        self.$name.is_some()
                    })+
                    _ => false,
                }
            }

            /// Takes over what is not set here, and notes what was taken.
            pub(super) fn fill(&mut self, weaker: Self, source: &Source, explained: &mut Vec<Explained>) {
                $(if let (None, Some(value)) = (&self.$name, weaker.$name) {
                    let show: fn(&$type) -> String = $show;
                    explained.push(Explained {
                        option: stringify!($name),
                        value: show(&value),
                        source: source.clone(),
                    });
                    self.$name = Some(value);
                })+
            }
        }
    };
}

table! {
    capacity: u64 {
        says: "the most entries to hold in memory", takes: "entries",
        allowed: "1 to 4294967295 entries", default: "10,000 for mcache, else memory_bytes counts",
        tiers: "memory", cost: "memory, by the size of the entries",
        parse: values::count, valid: |entries| CAPACITY.contains(entries), show: u64::to_string,
    }
    memory_bytes: u64 {
        says: "the most bytes to hold in memory, in place of `capacity`", takes: "a size, as 64 MiB",
        allowed: "64 KiB to 16 TiB; 0 for no memory, where there is another tier",
        default: "64 MiB for ucache, 16 MiB for bcache and fcache",
        tiers: "memory", cost: "that much memory, and 128 bytes an entry are counted",
        parse: values::size, valid: |bytes| *bytes == 0 || MEMORY_BYTES.contains(bytes), show: values::size_text,
    }
    policy: Policy {
        says: "which entries leave memory first", takes: "a word",
        allowed: "tiny_lfu, lru", default: "tiny_lfu",
        tiers: "memory", cost: "nothing; the hit ratio depends on it",
        parse: |text| values::choice(values::POLICIES, text), valid: |_| true,
        show: |policy| values::word(values::POLICIES, policy),
    }
    dir: PathBuf {
        says: "the folder in which the cache makes its own", takes: "a path",
        allowed: "a path", default: "the platform's cache folder, then larder/<executable>",
        tiers: "disk, file", cost: "nothing",
        parse: values::path, valid: |_| true, show: |dir| dir.display().to_string(),
    }
    disk_bytes: u64 {
        says: "the most bytes to take on disk, for all tiers together", takes: "a size, as 4 GiB",
        allowed: "16 MiB to 1 PiB", default: "1 GiB",
        tiers: "disk, file", cost: "that much space",
        parse: values::size, valid: |bytes| DISK_BYTES.contains(bytes), show: values::size_text,
    }
    codec: Codec {
        says: "how values become bytes", takes: "a word",
        allowed: "auto, message_pack; json with the feature of that name", default: "auto",
        tiers: "disk, file", cost: "encoding and decoding, see the page on performance",
        parse: |text| values::choice(values::CODECS, text), valid: |_| true,
        show: |codec| values::word(values::CODECS, codec),
    }
    compress: Compress {
        says: "how payloads are compressed", takes: "a word, a level after a colon",
        allowed: "auto, none; zstd, zstd:1 to zstd:22 and lz4 with the features of those names", default: "auto",
        tiers: "disk, file", cost: "time for space; from 1 KiB up",
        parse: values::compress, valid: |compress| compress.check().is_ok(), show: values::compress_text,
    }
    version: u32 {
        says: "the schema version of the values: entries of another are misses", takes: "a number",
        allowed: "0 to 4294967295", default: "0",
        tiers: "disk, file", cost: "nothing",
        parse: |text| text.parse().ok(), valid: |_| true, show: u32::to_string,
    }
    kind: Kind {
        says: "the kind of the values, for the selector", takes: "a word",
        allowed: "other, scalar, text, json, bytes, image, array, frame, model", default: "by the type",
        tiers: "all", cost: "nothing",
        parse: values::kind, valid: |_| true, show: Kind::to_string,
    }
    persistence: Persistence {
        says: "how long entries should outlive the process", takes: "a word",
        allowed: "auto, ephemeral, session, long_term", default: "auto",
        tiers: "all", cost: "long_term writes every entry to disk",
        parse: |text| values::choice(values::PERSISTENCE, text), valid: |_| true,
        show: |persistence| values::word(values::PERSISTENCE, persistence),
    }
    access: Access {
        says: "how entries are used", takes: "a word",
        allowed: "balanced, read_heavy, write_heavy, frequency", default: "balanced",
        tiers: "all", cost: "read_heavy keeps copies of larger entries in memory",
        parse: |text| values::choice(values::ACCESS, text), valid: |_| true,
        show: |access| values::word(values::ACCESS, access),
    }
    sharing: Sharing {
        says: "who needs to see the entries", takes: "a word",
        allowed: "thread, threads, processes, distributed", default: "threads; distributed with a Redis server",
        tiers: "all", cost: "what the tiers cost that it asks for",
        parse: |text| values::choice(values::SHARING, text), valid: |_| true,
        show: |sharing| values::word(values::SHARING, sharing),
    }
    thresholds: Thresholds {
        says: "where the size classes begin", takes: "three sizes, as 10 KiB, 1 MiB, 100 MiB",
        allowed: "sizes that do not descend", default: "10 KiB, 1 MiB, 100 MiB",
        tiers: "all", cost: "nothing",
        parse: values::thresholds, valid: |t| t.small <= t.medium && t.medium <= t.large,
        show: values::thresholds_text,
    }
}

/// Every option of a cache: the table that the builders, the variables, the
/// files, the URLs and `docs/options.md` go by.
///
/// ```
/// let row = larder::options().iter().find(|row| row.name == "disk_bytes").unwrap();
/// assert_eq!((row.allowed, row.default), ("16 MiB to 1 PiB", "1 GiB"));
/// ```
pub fn options() -> &'static [OptionRow] {
    ROWS
}
