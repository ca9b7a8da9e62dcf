//! A cache described by URLs: `memory: disk:///var/cache/app?compress=zstd:3`.

use std::borrow::Cow;

use larder_core::place::TierList;
use larder_core::tier::TierKind;
use larder_core::{Error, Result};
use percent_encoding::percent_decode_str;

use crate::options::{Layer, Level, Settings, Source, parse, values};

/// The parsed description of a cache by URLs.
#[derive(Clone, Debug, Default)]
pub(crate) struct UrlConfig {
    /// Options, the highest precedence first.
    pub(crate) layers: Level,
    /// The tiers, in the order in which they were named.
    pub(crate) tiers: TierList,
    /// The URLs of object storage, with their secrets.
    pub(crate) objects: Vec<String>,
}

impl UrlConfig {
    /// The home of all entries, if there is one tier on disk and no server. With a server the selector
    /// decides, since entries too large for it go elsewhere.
    pub(crate) fn home(&self) -> Option<TierKind> {
        let mut beyond = self.tiers.iter().filter(|tier| *tier != TierKind::Memory);
        let first = beyond.next().filter(|tier| matches!(tier, TierKind::Disk | TierKind::File));
        first.filter(|_| beyond.next().is_none())
    }

    fn add(&mut self, tier: TierKind, url: &str) -> Result<()> {
        if self.tiers.contains(tier) {
            return Err(invalid_url(url, "one URL per tier"));
        }
        self.tiers.push(tier);
        Ok(())
    }

    /// Sets the directory, which all tiers of a cache share.
    fn add_dir(&mut self, dir: &str, url: &str) -> Result<()> {
        let layer = option_layer("dir", dir)?;
        match self.layers.iter().find_map(|(given, _)| given.dir.as_ref()) {
            Some(first) if layer.0.dir.as_ref() != Some(first) => {
                let allowed = format!("one directory for all tiers, as {}", first.display());
                Err(invalid_url(url, &allowed))
            }
            Some(_) => Ok(()),
            None => {
                self.layers.push(layer);
                Ok(())
            }
        }
    }
}

/// The parts of one URL.
struct Parts<'a> {
    whole: &'a str,
    scheme: &'a str,
    /// From the colon to the parameters.
    rest: &'a str,
    parameters: Vec<&'a str>,
    /// The fragment, with its `#`.
    fragment: &'a str,
}

/// The place that a URL names.
enum UrlTarget<'a> {
    Memory,
    Directory(TierKind, &'a str),
    Server,
    Objects,
    Null,
}

const ALLOWED: &str = "`memory:`, `disk:///dir`, `file:///dir`, `redis://host`, `s3://bucket/prefix` with the \
     feature `opendal`, `null:`, separated by spaces";

/// As [`read`], but attributes the options and errors to `source`, unless that is code.
pub(crate) fn parse_as(urls: &str, source: &Source) -> Result<UrlConfig> {
    if *source == Source::Code {
        return read(urls);
    }
    let mut url_config = read(urls).map_err(|error| {
        let message = format!("{source}: {error}");
        Error::new(error.kind(), message).with_source(error)
    })?;
    url_config.layers.iter_mut().for_each(|(_, by)| *by = source.clone());
    Ok(url_config)
}

/// Parses URLs separated by spaces, one for each tier. Without `memory:` the cache has no memory tier.
pub(crate) fn read(urls: &str) -> Result<UrlConfig> {
    let mut url_config = UrlConfig::default();
    for url in urls.split_whitespace() {
        let parts = Parts::of(url)?;
        url_config.layers.extend(parts.options()?);
        url_config.add_url(&parts)?;
    }
    if url_config.tiers.is_empty() && url_config.objects.is_empty() {
        return Err(invalid_url(urls, ALLOWED));
    }
    Ok(url_config)
}

impl UrlConfig {
    fn add_url(&mut self, parts: &Parts<'_>) -> Result<()> {
        let tier = match parts.target() {
            Some(UrlTarget::Memory) => TierKind::Memory,
            Some(UrlTarget::Null) => TierKind::Null,
            Some(UrlTarget::Server) => {
                self.layers.push(option_layer("redis", &parts.server())?);
                TierKind::Redis
            }
            Some(UrlTarget::Objects) => {
                self.objects.push(parts.server());
                return Ok(());
            }
            Some(UrlTarget::Directory(tier, dir)) => {
                self.add_dir(&decoded(dir), parts.whole)?;
                tier
            }
            None => return Err(invalid_url(parts.whole, ALLOWED)),
        };
        self.add(tier, parts.whole)
    }
}

impl<'a> Parts<'a> {
    fn of(whole: &'a str) -> Result<Self> {
        let (url, fragment) = whole.split_at(whole.find('#').unwrap_or(whole.len()));
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        let (scheme, rest) = address.split_once(':').ok_or_else(|| invalid_url(whole, ALLOWED))?;
        let parameters = query.split('&').filter(|pair| !pair.is_empty()).collect();
        Ok(Self { whole, scheme, rest, parameters, fragment })
    }

    fn target(&self) -> Option<UrlTarget<'a>> {
        match (self.scheme, self.rest) {
            ("memory", "") => Some(UrlTarget::Memory),
            ("null", "") => Some(UrlTarget::Null),
            // `sled` is the former name.
            ("disk" | "sled", _) if cfg!(feature = "disk") => {
                Some(UrlTarget::Directory(TierKind::Disk, self.dir()?))
            }
            ("file", _) if cfg!(feature = "file") => Some(UrlTarget::Directory(TierKind::File, self.dir()?)),
            _ if self.is_objects() => Some(UrlTarget::Objects),
            _ => self.is_server().then_some(UrlTarget::Server),
        }
    }

    /// The path of a URL with an absolute path and no host.
    fn dir(&self) -> Option<&'a str> {
        self.rest.strip_prefix("//").filter(|dir| dir.starts_with('/') && dir.len() > 1)
    }

    fn is_server(&self) -> bool {
        let of_server = ["redis", "valkey"].iter().any(|name| self.scheme.starts_with(name));
        of_server && self.rest.starts_with("//")
    }

    fn is_objects(&self) -> bool {
        cfg!(feature = "opendal") && self.scheme == "s3" && self.rest.starts_with("//")
    }

    /// Whether a parameter is an option of the server connection, not of the cache.
    fn is_server_parameter(&self, pair: &str) -> bool {
        let name = pair.split_once('=').map_or(pair, |(name, _)| name);
        self.is_server() && server_parameters().contains(&name)
            || self.is_objects() && object_parameters().contains(&name)
    }

    /// The URL for the server connection: without the options of the cache.
    fn server(&self) -> String {
        let theirs: Vec<_> =
            self.parameters.iter().copied().filter(|pair| self.is_server_parameter(pair)).collect();
        let mark = if theirs.is_empty() { "" } else { "?" };
        format!("{}:{}{mark}{}{}", self.scheme, self.rest, theirs.join("&"), self.fragment)
    }

    /// The options of the cache in the parameters.
    fn options(&self) -> Result<Vec<Layer>> {
        let ours = self.parameters.iter().filter(|pair| !self.is_server_parameter(pair));
        let layer = |pair: &&str| {
            let (option, text) = pair.split_once('=').unwrap_or((pair, ""));
            if option == "url" {
                return Err(invalid_url(self.whole, "no URL within a URL"));
            }
            option_layer(option, &decoded(&text.replace('+', " ")))
        };
        ours.map(layer).collect()
    }
}

fn server_parameters() -> &'static [&'static str] {
    #[cfg(feature = "redis")]
    return larder_tiers::redis::URL_PARAMETERS;
    #[cfg(not(feature = "redis"))]
    &[]
}

fn object_parameters() -> &'static [&'static str] {
    #[cfg(feature = "opendal")]
    return larder_opendal::S3_PARAMETERS;
    #[cfg(not(feature = "opendal"))]
    &[]
}

/// Decodes percent-encoded text.
fn decoded(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8().unwrap_or(Cow::Borrowed(text))
}

fn option_layer(option: &str, text: &str) -> Result<(Settings, Source)> {
    Ok((parse(option, text, &Source::Url)?, Source::Url))
}

/// The error for an invalid URL. Shows only the scheme of a server URL, since the rest may hold a password.
fn invalid_url(given: &str, allowed: &str) -> Error {
    let ours = ["memory:", "disk:", "sled:", "file:", "null:"];
    let shown = |url: &str| match ours.iter().any(|scheme| url.starts_with(scheme)) {
        true => values::without_password(url),
        false => values::scheme_alone(url),
    };
    let shown: Vec<_> = given.split_whitespace().map(shown).collect();
    Error::config("url", format_args!("`{}`", shown.join(" ")), allowed)
}

#[cfg(test)]
mod tests {
    use super::super::tests::samples;
    use super::*;
    use crate::options::Resolved;

    fn parameters(url: &str) -> Result<Vec<Layer>> {
        Parts::of(url)?.options()
    }

    #[test]
    fn every_option_is_read_from_its_url_parameter() {
        for (option, text) in samples().filter(|(option, _)| *option != "url") {
            let url = format!("memory:?{option}={}", text.replace(' ', "%20"));
            let resolved = Resolved::from_levels([parameters(&url).unwrap()]);
            let row = resolved.explain().into_iter().find(|row| row.option == option).unwrap();
            assert_eq!((row.value.as_str(), row.source), (text, Source::Url));
        }
    }

    #[test]
    fn error_of_invalid_parameter_names_option_given_and_allowed_values() {
        for (option, wrong) in super::super::tests::wrong().filter(|(option, _)| *option != "url") {
            let error = parameters(&format!("memory:?{option}={}", wrong.replace(' ', "+"))).unwrap_err();
            let row = crate::options().iter().find(|row| row.name == option).unwrap();
            for part in [option, "the URL", row.allowed] {
                assert!(error.to_string().contains(part), "{part:?} is missing in {error}");
            }
        }
    }

    #[cfg(all(feature = "disk", feature = "file"))]
    #[test]
    fn urls_set_tiers_home_and_memory() {
        let check = |urls: &str, home: Option<TierKind>, memory_bytes: Option<&str>| {
            let url_config = read(urls).unwrap();
            assert_eq!(url_config.home(), home, "{urls}");
            let given = crate::ucache::<u8, u8>("urls").url(urls).explain_config().unwrap();
            let row = given.iter().find(|row| row.option == "memory_bytes" && row.source == Source::Url);
            assert_eq!(row.map(|row| row.value.as_str()), memory_bytes, "{urls}");
            let settings = Resolved::from_levels([url_config.layers]).settings;
            assert_eq!(settings.dir.as_deref(), Some(std::path::Path::new("/a/b c")), "{urls}");
        };
        check("sled:///a/b%20c", Some(TierKind::Disk), Some("0 B"));
        check("memory: file:///a/b%20c", Some(TierKind::File), None);
        check("memory:?memory_bytes=1+MiB sled:///a/b%20c file:///a/b%20c", None, Some("1 MiB"));
        check("memory:?memory_bytes=1+MiB&capacity=9 disk:///a/b%20c", Some(TierKind::Disk), Some("1 MiB"));
        check("null: sled:///a/b%20c", None, Some("0 B"));
        check("disk:///a/b%20c?capacity=9", Some(TierKind::Disk), Some("0 B"));
        check("disk:///a/b%20c file:///a/b%20c", None, Some("0 B"));
        let one_alone = read("null:").unwrap();
        assert_eq!((one_alone.home(), one_alone.tiers.first()), (None, Some(TierKind::Null)));
    }

    #[cfg(feature = "redis")]
    #[test]
    fn server_url_keeps_only_its_own_parameters() {
        let check = |url: &str, shown: &str, ttl: Option<u64>| {
            let url_config = read(url).unwrap();
            assert_eq!((url_config.home(), url_config.tiers.first()), (None, Some(TierKind::Redis)));
            let settings = Resolved::from_levels([url_config.layers]).settings;
            assert_eq!(settings.redis.map(|url| url.into_secret()).as_deref(), Some(shown), "{url}");
            assert_eq!(settings.ttl.map(|ttl| ttl.as_secs()), ttl, "{url}");
        };
        check("redis://me:p@host:1/2?compress=none&ttl=1h", "redis://me:p@host:1/2", Some(3600));
        check(
            "redis+unix:///run/r.sock?db=2&ttl=1m&pass=x",
            "redis+unix:///run/r.sock?db=2&pass=x",
            Some(60),
        );
        check("redis://host", "redis://host", None);
    }

    #[test]
    fn error_of_invalid_url_shows_it_without_secrets() {
        let wrong = [
            "",
            "sled://relative",
            "sled:///",
            "disk://relative",
            "nowhere:///a",
            "x",
            "memory: memory:",
            "memory:///a",
            "memory:?url=null:",
        ];
        for wrong in wrong.into_iter().chain(["redis:me:secret@host", "sled:///a nowhere://me:se cret@host"])
        {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains("option `url`") && error.contains("allowed"), "{error}");
            assert!(!error.contains("cret"), "{error}");
        }
        let error = read("redis://me:secret@host:port").unwrap_err().to_string();
        assert!(error.contains("option `redis`") && !error.contains("secret"), "{error}");
        let error = read("memory:?disk_bytes=1").unwrap_err().to_string();
        assert!(
            error.contains("disk_bytes") && error.contains("the URL") && error.contains("16 MiB"),
            "{error}"
        );
        for secret in ["memory:?capacity=redis://me:secret@host", "memory:?redis=me:secret@host"] {
            let error = read(secret).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[cfg(all(feature = "disk", feature = "file"))]
    #[test]
    fn urls_with_two_directories_are_an_error() {
        let error = read("sled:///a file:///b").unwrap_err().to_string();
        assert!(
            error.contains("`file:///b`") && error.contains("one directory for all tiers, as /a"),
            "{error}"
        );
    }
}
