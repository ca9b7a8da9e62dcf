//! The table of options.

use std::path::PathBuf;
use std::time::Duration;

use larder_core::bus::Coherence;
use larder_core::codec::Codec;
use larder_core::compress::Compress;
use larder_core::place::{Access, Kind, Persistence, Sharing, Thresholds, TierList};
use larder_core::{Durability, Result};
use larder_tiers::memory::{MemoryEngine, Policy};

use super::per_tier::PerTier;
use super::selector::SelectorChoice;
use super::values::{self, ServerUrl, Urls};
use super::{Explained, Source, given, refused};
use crate::builder::{DISK_BYTES, LEASE, MEMORY_BYTES, SHARE, SPAN_MIN, WARM_MAX};

/// An option of a cache, as the documentation describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OptionRow {
    /// Its name: that of the builder's method, of the key in a file and of the parameter in a URL. The
    /// variable is `LARDER_` and the name in upper case.
    pub name: &'static str,
    /// The effect of the option.
    pub says: &'static str,
    /// The form of a value, with its unit.
    pub takes: &'static str,
    /// The allowed values.
    pub allowed: &'static str,
    /// The default.
    pub default: &'static str,
    /// The tiers that it applies to.
    pub tiers: &'static str,
    /// The cost of the option.
    pub cost: &'static str,
}

macro_rules! table {
    ($($name:ident: $type:ty {
        says: $says:literal, takes: $takes:literal, allowed: $allowed:literal, default: $default:literal,
        tiers: $tiers:literal, cost: $cost:literal,
        parse: $parse:expr, valid: $valid:expr, show: $show:expr,
    })+) => {
        /// The value of each option that one source set.
        #[derive(Clone, Debug, Default)]
        pub(crate) struct Settings {
            $(pub(crate) $name: Option<$type>,)+
        }

        const ROWS: &[OptionRow] = &[$(OptionRow {
            name: stringify!($name), says: $says, takes: $takes, allowed: $allowed,
            default: $default, tiers: $tiers, cost: $cost,
        },)+];

        impl Settings {
            /// Sets an option from text; returns whether the text is allowed.
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

            /// Checks values that come from code and not from text.
            ///
            /// # Errors
            /// Names the option, the source, the given value and the allowed values.
            pub(crate) fn check(&self, source: &Source) -> Result<()> {
                $(if let Some(value) = &self.$name {
                    let valid: fn(&$type) -> bool = $valid;
                    let show: fn(&$type) -> String = $show;
                    if !valid(value) {
                        let shown = given(stringify!($name), &show(value));
                        return Err(refused(stringify!($name), &shown, source, $allowed));
                    }
                })+
                Ok(())
            }

            /// Takes over the options that are not set here, and records them in `explained`.
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
        allowed: "any number: 0 keeps nothing, above 4294967295 counts as that", default: "10,000 for mcache, else memory_bytes counts",
        tiers: "memory", cost: "memory, by the size of the entries",
        parse: values::count, valid: |_| true, show: u64::to_string,
    }
    memory_bytes: u64 {
        says: "the most bytes to hold in memory, beside or in place of `capacity`", takes: "a size, such as 64 MiB",
        allowed: "64 KiB to 16 TiB; 0 for no memory, if there is another tier",
        default: "64 MiB for ucache, 16 MiB for bcache and fcache",
        tiers: "memory", cost: "that much memory; each entry counts 128 bytes more",
        parse: values::size, valid: |bytes| *bytes == 0 || MEMORY_BYTES.contains(bytes), show: values::size_text,
    }
    policy: Policy {
        says: "which entries leave memory first", takes: "a word",
        allowed: "auto, tiny_lfu, lru, lfu, s3_fifo, sieve, fifo, random, cost_aware", default: "auto; cost_aware with the selector adaptive",
        tiers: "memory", cost: "nothing; the hit ratio depends on it",
        parse: |text| values::choice(values::POLICIES, text), valid: |_| true,
        show: |policy| values::word(values::POLICIES, policy),
    }
    memory_engine: MemoryEngine {
        says: "the engine that holds entries in memory", takes: "a word",
        allowed: "sharded; moka with the feature of that name", default: "sharded",
        tiers: "memory", cost: "with moka, an entry takes 250 bytes more and a call many times as long",
        parse: |text| values::choice(values::MEMORY_ENGINES, text), valid: |_| true,
        show: |engine| values::word(values::MEMORY_ENGINES, engine),
    }
    dir: PathBuf {
        says: "the directory in which the cache creates its own", takes: "a path",
        allowed: "a path, in UTF-8", default: "larder/<executable> in the platform's cache directory",
        tiers: "disk, file", cost: "nothing",
        parse: values::path, valid: |_| true, show: |dir| dir.display().to_string(),
    }
    disk_bytes: u64 {
        says: "the most bytes to take on disk, for all tiers together", takes: "a size, such as 4 GiB",
        allowed: "16 MiB to 1 PiB", default: "1 GiB",
        tiers: "disk, file", cost: "that much space",
        parse: values::size, valid: |bytes| DISK_BYTES.contains(bytes), show: values::size_text,
    }
    warm_restart: u64 {
        says: "how many of the hottest entries are read into memory when the cache is opened again",
        takes: "entries", allowed: "0 to 1000000 entries", default: "0",
        tiers: "memory, disk, file",
        cost: "a read per entry after opening, on a thread; at closing a write per entry at home in memory",
        parse: values::count, valid: |entries| *entries <= WARM_MAX, show: u64::to_string,
    }
    codec: Codec {
        says: "how values are encoded", takes: "a word",
        allowed: "auto, message_pack; json with the feature of that name", default: "auto",
        tiers: "disk, file, redis", cost: "encoding and decoding time, see the page on performance",
        parse: |text| values::choice(values::CODECS, text), valid: |_| true,
        show: |codec| values::word(values::CODECS, codec),
    }
    compress: Compress {
        says: "how payloads are compressed", takes: "a word, a level after a colon",
        allowed: "auto, none; zstd, zstd:1 to zstd:22, dictionary, dictionary:1 to dictionary:22 and lz4 with the features zstd and lz4",
        default: "auto", tiers: "disk, file, redis",
        cost: "time, for less space; from 1 KiB on, with a dictionary from 64 bytes on",
        parse: values::compress, valid: |compress| compress.check().is_ok(), show: values::compress_text,
    }
    version: u32 {
        says: "the schema version of the values; entries of another version are misses", takes: "a number",
        allowed: "0 to 4294967295", default: "0",
        tiers: "disk, file, redis", cost: "nothing",
        parse: |text| text.parse().ok(), valid: |_| true, show: u32::to_string,
    }
    kind: Kind {
        says: "the kind of the values, for the selector", takes: "a word",
        allowed: "other, scalar, text, json, bytes, image, array, frame, model", default: "by the type",
        tiers: "all", cost: "nothing",
        parse: values::kind, valid: |_| true, show: Kind::to_string,
    }
    selector: SelectorChoice {
        says: "what decides the tier of each entry", takes: "a word",
        allowed: "table, adaptive", default: "table",
        tiers: "all", cost: "adaptive takes 160 KiB",
        parse: SelectorChoice::parse, valid: |_| true, show: SelectorChoice::to_string,
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
        says: "which threads, processes or machines share the entries", takes: "a word",
        allowed: "threads, processes, distributed", default: "threads; distributed with a Redis server",
        tiers: "all", cost: "the cost of the tiers that it requires",
        parse: |text| values::choice(values::SHARING, text), valid: |_| true,
        show: |sharing| values::word(values::SHARING, sharing),
    }
    thresholds: Thresholds {
        says: "where the size classes begin", takes: "three sizes, such as 10 KiB, 1 MiB, 100 MiB",
        allowed: "sizes in ascending order", default: "10 KiB, 1 MiB, 100 MiB",
        tiers: "all", cost: "nothing",
        parse: values::thresholds, valid: |t| t.small <= t.medium && t.medium <= t.large,
        show: values::thresholds_text,
    }
    durability: Durability {
        says: "which acknowledged writes a crash may lose", takes: "a word",
        allowed: "buffered, flushed, synced", default: "buffered",
        tiers: "disk, file", cost: "synced waits 0.1 to 20 ms for the disk",
        parse: |text| values::choice(values::DURABILITY, text), valid: |_| true,
        show: |durability| values::word(values::DURABILITY, durability),
    }
    url: Urls {
        says: "the tiers, and options as parameters, in place of `dir` and `redis`; outside of code for ucache",
        takes: "URLs separated by spaces, such as memory: disk:///dir",
        allowed: "memory:, disk:///dir, file:///dir, redis://host, s3://bucket/prefix, null:, with the features of \
            these tiers",
        default: "none", tiers: "all", cost: "a memory tier only if `memory:` is among them",
        parse: values::urls, valid: |_| true, show: Urls::to_string,
    }
    redis: ServerUrl {
        says: "the server of the shared tier, for ucache", takes: "a URL, such as redis://host:6379",
        allowed: "redis:// and the other URLs of the page on Redis, with the feature `redis`", default: "none",
        tiers: "redis", cost: "up to 1.5 s at build, then a round trip per read",
        parse: values::server, valid: ServerUrl::is_right, show: ServerUrl::to_string,
    }
    namespace: String {
        says: "separates the applications on one server", takes: "text",
        allowed: "any text that is not empty, with the feature `redis`", default: "the name of the executable",
        tiers: "redis", cost: "nothing",
        parse: values::namespace, valid: |_| true, show: String::clone,
    }
    lease: Duration {
        says: "how long a copy in memory of an entry in Redis is served after the last contact",
        takes: "a time, such as 500ms", allowed: "50ms to 1h, with the feature `redis`", default: "1s",
        tiers: "redis", cost: "below about 300ms most hits query the server",
        parse: values::lease, valid: |lease| LEASE.contains(lease), show: values::span_text,
    }
    coherence: Coherence {
        says: "whether such copies are served while the server is unavailable", takes: "a word",
        allowed: "available, strict; with the feature `redis`", default: "available",
        tiers: "redis", cost: "with strict, they are misses meanwhile",
        parse: values::coherence, valid: |_| true,
        show: |coherence| values::word(values::COHERENCE, coherence),
    }
    tier_options: PerTier {
        says: "options of single tiers: a time to live of its own, whether it is only read, what a failed write means",
        takes: "tiers with their options, such as disk ttl=1h failed_writes=ignore, file read_only",
        allowed: "ttl of 1ms or more; read_only, not for redis; failed_writes=repair, ignore or report; for tiers beyond memory",
        default: "none: the options of the cache hold", tiers: "disk, file, redis, own", cost: "nothing",
        parse: PerTier::parse, valid: |_| true, show: PerTier::to_string,
    }
    require: TierList {
        says: "the tiers without which the cache is not built", takes: "words, such as disk, redis",
        allowed: "memory, disk, file, redis, and the names of tiers of your own", default: "none",
        tiers: "all", cost: "the build fails if the server cannot be reached",
        parse: values::tiers, valid: |_| true, show: values::tiers_text,
    }
    ttl: Duration {
        says: "how long an entry lives", takes: "a time, such as 1h 30m",
        allowed: "1ms or more", default: "until it is replaced, removed or evicted",
        tiers: "all", cost: "a read of the clock per hit, and a timer per entry in memory",
        parse: values::span, valid: |span| *span >= SPAN_MIN, show: values::span_text,
    }
    idle: Duration {
        says: "how long an entry lives without being used", takes: "a time, such as 10m",
        allowed: "1ms or more", default: "no limit",
        tiers: "all", cost: "as ttl, and each hit records its time",
        parse: values::span, valid: |span| *span >= SPAN_MIN, show: values::span_text,
    }
    jitter: f64 {
        says: "the largest share of a time to live that is subtracted at random", takes: "a share, such as 0.1",
        allowed: "0 to 1", default: "0",
        tiers: "all", cost: "nothing",
        parse: values::share, valid: |share| SHARE.contains(share), show: f64::to_string,
    }
    stale: Duration {
        says: "how long after its deadline an entry may be served if a load fails", takes: "a time, such as 5m",
        allowed: "0s or more", default: "0s",
        tiers: "all", cost: "entries are kept that much longer",
        parse: values::span, valid: |_| true, show: values::span_text,
    }
    refresh_ahead: f64 {
        says: "the share of a time to live after which a loading call that hits starts a refresh", takes: "a share, such as 0.8",
        allowed: "0 to 1", default: "no refresh",
        tiers: "all", cost: "a load in the background",
        parse: values::share, valid: |share| SHARE.contains(share), show: f64::to_string,
    }
    soft_timeout: Duration {
        says: "how long callers of a load wait if there is a stale value", takes: "a time, such as 100ms",
        allowed: "1ms or more", default: "until the load ends",
        tiers: "all", cost: "nothing",
        parse: values::span, valid: |span| *span >= SPAN_MIN, show: values::span_text,
    }
    hard_timeout: Duration {
        says: "how long callers of a load wait at most", takes: "a time, such as 2s",
        allowed: "1ms or more", default: "until the load ends",
        tiers: "all", cost: "nothing",
        parse: values::span, valid: |span| *span >= SPAN_MIN, show: values::span_text,
    }
    observe: bool {
        says: "whether the user of the process may look into the cache over a Unix socket", takes: "true or false",
        allowed: "false; true with the feature `observe`, on Unix", default: "false, or true after larder::observe()",
        tiers: "all", cost: "samples of about 1000 look-ups a second; in memory alone, writes and misses take the general path",
        parse: values::observation, valid: |_| true, show: bool::to_string,
    }
    observe_control: bool {
        says: "whether those who look into it may invalidate and clear, too", takes: "true or false",
        allowed: "false; true with the feature `observe`, on Unix", default: "false",
        tiers: "all", cost: "nothing",
        parse: values::observation, valid: |_| true, show: bool::to_string,
    }
}

/// Returns every option of a cache. The builders, variables, configuration files, URLs and `docs/options.md`
/// all use this table.
///
/// ```
/// let row = larder::options().iter().find(|row| row.name == "disk_bytes").unwrap();
/// assert_eq!((row.allowed, row.default), ("16 MiB to 1 PiB", "1 GiB"));
/// ```
pub fn options() -> &'static [OptionRow] {
    ROWS
}
