//! Parsing and printing of option values.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use larder_core::Durability;
use larder_core::bus::Coherence;
use larder_core::codec::Codec;
use larder_core::compress::Compress;
use larder_core::place::{Access, Kind, Persistence, Sharing, Thresholds, TierList};
use larder_core::tier::TierKind;
use larder_tiers::memory::{MemoryEngine, Policy};

/// The words of an option. If a value has several spellings, the first one is shown.
type Words<T> = &'static [(&'static str, T)];

pub(super) const POLICIES: Words<Policy> = &[
    ("auto", Policy::Auto),
    ("tiny_lfu", Policy::TinyLfu),
    ("lru", Policy::Lru),
    ("lfu", Policy::Lfu),
    ("s3_fifo", Policy::S3Fifo),
    ("sieve", Policy::Sieve),
    ("fifo", Policy::Fifo),
    ("random", Policy::Random),
    ("cost_aware", Policy::CostAware),
];
pub(super) const MEMORY_ENGINES: Words<MemoryEngine> = &[
    ("sharded", MemoryEngine::Sharded),
    #[cfg(feature = "moka")]
    ("moka", MemoryEngine::Moka),
];
pub(super) const CODECS: Words<Codec> = &[
    ("auto", Codec::Auto),
    ("message_pack", Codec::MessagePack),
    #[cfg(feature = "json")]
    ("json", Codec::Json),
];
pub(super) const PERSISTENCE: Words<Persistence> = Persistence::WORDS;
pub(super) const ACCESS: Words<Access> = Access::WORDS;
pub(super) const SHARING: Words<Sharing> = Sharing::WORDS;

pub(super) const DURABILITY: Words<Durability> =
    &[("buffered", Durability::Buffered), ("flushed", Durability::Flushed), ("synced", Durability::Synced)];
pub(super) const COHERENCE: Words<Coherence> =
    &[("available", Coherence::Available), ("strict", Coherence::Strict)];
/// Parses a word; ignores case, and accepts `-` for `_`.
pub(super) fn choice<T: Copy>(words: Words<T>, text: &str) -> Option<T> {
    let text = text.to_ascii_lowercase().replace('-', "_");
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value)
}

/// Returns the word for a value.
pub(super) fn word<T: PartialEq>(words: Words<T>, value: &T) -> String {
    words.iter().find(|(_, known)| known == value).map_or("?", |(word, _)| word).to_owned()
}

pub(super) fn kind(text: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(text))
}

pub(super) fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty() && !text.contains('\0')).then(|| PathBuf::from(text))
}

/// Parses the names of tiers, which may be tiers that the user brings.
pub(super) fn tiers(text: &str) -> Option<TierList> {
    let tier = |word: &str| TierKind::by_name(&word.trim().to_ascii_lowercase());
    text.split(',').map(|word| tier(word).filter(|kind| *kind != TierKind::Null)).collect()
}

pub(super) fn tiers_text(tiers: &TierList) -> String {
    let words: Vec<_> = tiers.iter().map(TierKind::name).collect();
    words.join(", ")
}

pub(super) fn namespace(text: &str) -> Option<String> {
    (cfg!(feature = "redis") && !text.is_empty()).then(|| text.to_owned())
}

/// Parses a duration: `1h 30m`, `250ms`.
pub(super) fn span(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok()
}

pub(super) fn span_text(span: &Duration) -> String {
    humantime::format_duration(*span).to_string()
}

/// Refused in builds without the feature `redis`, since only a server uses it.
pub(super) fn lease(text: &str) -> Option<Duration> {
    if cfg!(feature = "redis") { span(text) } else { None }
}

pub(super) fn coherence(text: &str) -> Option<Coherence> {
    if cfg!(feature = "redis") { choice(COHERENCE, text) } else { None }
}

/// True only where a process can be observed.
pub(super) fn observation(text: &str) -> Option<bool> {
    let can_observe = cfg!(all(feature = "observe", unix));
    text.to_ascii_lowercase().parse::<bool>().ok().filter(|wanted| can_observe || !*wanted)
}

pub(super) fn share(text: &str) -> Option<f64> {
    text.parse().ok()
}

/// The URL of a server. `Display` hides the password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ServerUrl(String);

impl ServerUrl {
    #[cfg(any(feature = "redis", test))]
    pub(crate) fn new(url: String) -> Self {
        Self(url)
    }

    /// Whether the URL is valid.
    pub(super) fn is_right(&self) -> bool {
        server(&self.0).is_some()
    }

    /// The URL with its password.
    #[cfg(feature = "redis")]
    pub(crate) fn into_secret(self) -> String {
        self.0
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_password(&self.0))
    }
}

/// URLs that describe a cache, separated by spaces. `Display` hides passwords.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Urls(String);

impl Urls {
    #[cfg(any(feature = "_codec", test))]
    pub(crate) fn new(urls: String) -> Self {
        Self(urls)
    }

    /// The URLs with their passwords.
    #[cfg(feature = "_codec")]
    pub(crate) fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Urls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<_> = self.0.split_whitespace().map(without_password).collect();
        f.write_str(&shown.join(" "))
    }
}

impl fmt::Debug for Urls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(feature = "_codec")]
pub(super) fn urls(text: &str) -> Option<Urls> {
    (!text.is_empty()).then(|| Urls::new(text.to_owned()))
}

#[cfg(not(feature = "_codec"))]
pub(super) fn urls(_: &str) -> Option<Urls> {
    None
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(feature = "redis")]
pub(super) fn server(url: &str) -> Option<ServerUrl> {
    larder_tiers::redis::check_url(url).ok().map(|()| ServerUrl::new(url.to_owned()))
}

#[cfg(not(feature = "redis"))]
pub(super) fn server(_: &str) -> Option<ServerUrl> {
    None
}

/// Parses a number; underscores and commas may separate its digits.
pub(super) fn count(text: &str) -> Option<u64> {
    text.replace(['_', ','], "").parse().ok()
}

/// The units, by powers of 1024 and of 1000.
const UNITS: [(&str, u64); 11] = [
    ("pib", 1 << 50),
    ("tib", 1 << 40),
    ("gib", 1 << 30),
    ("mib", 1 << 20),
    ("kib", 1 << 10),
    ("pb", 1_000_000_000_000_000),
    ("tb", 1_000_000_000_000),
    ("gb", 1_000_000_000),
    ("mb", 1_000_000),
    ("kb", 1_000),
    ("b", 1),
];

/// Parses a size: a whole number, and a unit by 1024 (`KiB` to `PiB`) or by 1000 (`kB` to `PB`).
pub(super) fn size(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let unit = UNITS.iter().find_map(|(name, factor)| Some((lower.strip_suffix(name)?, *factor)));
    let (number, factor) = unit.unwrap_or((&lower, 1));
    count(number.trim())?.checked_mul(factor)
}

/// Prints a size in the largest binary unit that divides it.
pub(crate) fn size_text(bytes: &u64) -> String {
    let units = [("PiB", 50), ("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let whole = units.into_iter().find(|(_, power)| *bytes > 0 && bytes.is_multiple_of(1 << power));
    whole.map_or_else(|| format!("{bytes} B"), |(unit, power)| format!("{} {unit}", bytes >> power))
}

pub(super) fn compress(text: &str) -> Option<Compress> {
    match text.to_ascii_lowercase().as_str() {
        "auto" => Some(Compress::Auto),
        "none" => Some(Compress::None),
        #[cfg(feature = "lz4")]
        "lz4" => Some(Compress::Lz4),
        #[cfg(feature = "zstd")]
        "zstd" => Some(Compress::zstd(3)),
        #[cfg(feature = "zstd")]
        "dictionary" => Some(Compress::dictionary()),
        #[cfg(feature = "zstd")]
        text => match text.split_once(':')? {
            ("zstd", level) => level.parse().ok().map(Compress::zstd),
            ("dictionary", level) => level.parse().ok().map(Compress::Dictionary),
            _ => None,
        },
        #[cfg(not(feature = "zstd"))]
        _ => None,
    }
}

pub(super) fn compress_text(compress: &Compress) -> String {
    match compress {
        Compress::Auto => "auto".to_owned(),
        Compress::None => "none".to_owned(),
        #[cfg(feature = "zstd")]
        Compress::Zstd(level) => format!("zstd:{level}"),
        #[cfg(feature = "zstd")]
        Compress::Dictionary(level) => format!("dictionary:{level}"),
        #[cfg(feature = "lz4")]
        Compress::Lz4 => "lz4".to_owned(),
        _ => "?".to_owned(),
    }
}

pub(super) fn thresholds(text: &str) -> Option<Thresholds> {
    let sizes = text.split(',').map(size).collect::<Option<Vec<_>>>()?;
    match sizes[..] {
        [small, medium, large] => Some(Thresholds { small, medium, large }),
        _ => None,
    }
}

pub(super) fn thresholds_text(thresholds: &Thresholds) -> String {
    let Thresholds { small, medium, large } = thresholds;
    [small, medium, large].map(size_text).join(", ")
}

/// Text with secrets replaced by `***`. In a URL the part before the last `@` is secret, and so are
/// parameters with the name of a secret. In doubt it hides more rather than less. `sled:///a@b` has no host,
/// so its path is shown.
pub(crate) fn without_password(text: &str) -> String {
    let (head, query) = text.split_once('?').map_or((text, None), |(head, query)| (head, Some(query)));
    let secret_query = query.is_some_and(|query| query.contains('@') && !head.contains('@'));
    let shown = match head.split_once("://") {
        Some((scheme, rest)) if secret_query && !rest.starts_with('/') => format!("{scheme}://***"),
        Some((scheme, rest)) if !rest.starts_with('/') => format!("{scheme}://{}", after_last_at(rest)),
        _ => head.to_owned(),
    };
    match query {
        Some(query) => {
            format!("{shown}?{}", query.split('&').map(parameter_shown).collect::<Vec<_>>().join("&"))
        }
        None => shown,
    }
}

fn after_last_at(text: &str) -> String {
    text.rfind('@').map_or_else(|| text.to_owned(), |at| format!("***{}", &text[at..]))
}

fn parameter_shown(pair: &str) -> String {
    match pair.split_once('=') {
        Some((name, _)) if is_secret(&name.to_ascii_lowercase()) => format!("{name}=***"),
        _ => after_last_at(pair),
    }
}

/// Whether the value of the parameter with this name is hidden.
fn is_secret(name: &str) -> bool {
    ["pass", "secret", "token", "key"].iter().any(|part| name.contains(part))
}

/// The scheme of an invalid server URL. The rest is hidden, since any part may be a password.
pub(crate) fn scheme_alone(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, _)) if scheme.len() <= 32 && scheme.bytes().all(is_of_scheme) => {
            format!("{scheme}://…")
        }
        _ => "not a URL".to_owned(),
    }
}

fn is_of_scheme(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_parsed_and_printed() {
        let check = |text: &str, bytes: Option<u64>| assert_eq!(size(text), bytes, "{text:?}");
        check("64 MiB", Some(64 << 20));
        check("64mib", Some(64 << 20));
        check("1 GB", Some(1_000_000_000));
        check("4_096", Some(4096));
        check("0", Some(0));
        check("1 PiB", Some(1 << 50));
        for wrong in ["", "MiB", "-1", "1.5 GiB", "1 XB", "99999999999999999999", "20000 PiB", "1 MiB MiB"] {
            check(wrong, None);
        }
        for bytes in [0, 1, 1023, 1 << 10, 3 << 20, 1 << 50, u64::MAX] {
            assert_eq!(size(&size_text(&bytes)), Some(bytes));
        }
    }

    #[test]
    fn passwords_are_hidden_in_printed_urls() {
        let check = |text: &str, shown: &str| assert_eq!(without_password(text), shown);
        check("redis://me:secret@host:1/0", "redis://***@host:1/0");
        check("redis://me:secr/et@host:1/0", "redis://***@host:1/0");
        check("redis://me:se@cret@host?x=1", "redis://***@host?x=1");
        check("redis://me:secr?et@host", "redis://***?***@host");
        check("redis+unix:///run/r.sock?db=1&pass=secret", "redis+unix:///run/r.sock?db=1&pass=***");
        check("sled:///a@b", "sled:///a@b");
        check("64 MiB", "64 MiB");
        assert_eq!(format!("{:?}", ServerUrl::new("redis://me:secret@host".into())), "redis://***@host");
        let urls = Urls::new("memory: redis://me:secret@host?ttl=1h sled:///a@b".into());
        assert_eq!(format!("{urls:?}"), "memory: redis://***@host?ttl=1h sled:///a@b");
        assert_eq!(scheme_alone("redis://me:secret@host"), "redis://…");
        assert_eq!(scheme_alone("me:secret://x"), "not a URL");
    }

    #[test]
    fn durations_are_parsed_and_printed() {
        for text in ["1h 30m", "250ms", "2days", "0s"] {
            assert_eq!(span(text).map(|span| span_text(&span)).as_deref(), Some(text));
        }
        for wrong in ["", "1", "1 parsec", "-1s", "99999999999999999999s"] {
            assert_eq!(span(wrong), None, "{wrong}");
        }
    }
}
