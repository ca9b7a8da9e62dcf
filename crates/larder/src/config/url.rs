//! A cache described by URLs: `memory: sled:///var/cache/app?compress=zstd:3`.

use larder_core::tier::TierKind;
use larder_core::{Error, Result};

use crate::options::{Layer, Settings, Source, parse, values};

/// What URLs say about a cache.
#[derive(Clone, Debug, Default)]
pub(crate) struct Described {
    /// Options, the strongest first.
    pub(crate) layers: Vec<Layer>,
    /// The tiers, nearest first.
    pub(crate) tiers: Vec<TierKind>,
}

impl Described {
    /// The one tier of bytes, where there is one only.
    pub(crate) fn home(&self) -> Option<TierKind> {
        let mut beyond = self.tiers.iter().filter(|tier| **tier != TierKind::Memory);
        let first = beyond.next().copied();
        first.filter(|_| beyond.next().is_none())
    }
}

/// Reads URLs that are parted by spaces, one a tier. Where `memory:` is not
/// among them, the cache has no memory.
pub(crate) fn read(urls: &str) -> Result<Described> {
    let mut described = Described::default();
    for url in urls.split_whitespace() {
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        described.layers.extend(parameters(query)?);
        let (tier, dir) = tier_of(url, address)?;
        if let Some(dir) = dir {
            described.layers.push(one("dir", dir)?);
        }
        described.tiers.push(tier);
    }
    if described.home().is_none() && !described.tiers.contains(&TierKind::Disk) {
        return Err(wrong(urls));
    }
    if !described.tiers.contains(&TierKind::Memory) {
        described.layers.push(one("memory_bytes", "0")?);
    }
    Ok(described)
}

fn tier_of<'a>(url: &str, address: &'a str) -> Result<(TierKind, Option<&'a str>)> {
    let (scheme, rest) = address.split_once(':').ok_or_else(|| wrong(url))?;
    let dir = rest.strip_prefix("//").filter(|dir| dir.starts_with('/') && dir.len() > 1);
    match (scheme, dir) {
        ("memory", None) if rest.is_empty() => Ok((TierKind::Memory, None)),
        #[cfg(feature = "disk")]
        ("sled", Some(dir)) => Ok((TierKind::Disk, Some(dir))),
        #[cfg(feature = "file")]
        ("file", Some(dir)) => Ok((TierKind::File, Some(dir))),
        _ => Err(wrong(url)),
    }
}

fn wrong(url: &str) -> Error {
    let given = values::without_password(url);
    Error::config("url", format_args!("`{given}`"), "`memory:` beside `sled:///dir`, `file:///dir`, or both")
}

fn one(option: &str, text: &str) -> Result<(Settings, Source)> {
    Ok((parse(option, text, &Source::Url)?, Source::Url))
}

/// What a URL says by its parameters.
fn parameters(query: &str) -> Result<Vec<Layer>> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let layer = |pair: &str| {
        let (option, text) = pair.split_once('=').unwrap_or((pair, ""));
        one(option, &text.replace("%20", " ").replace('+', " "))
    };
    pairs.map(layer).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::SAMPLES;
    use super::*;
    use crate::options::Resolved;

    #[test]
    fn every_option_is_a_parameter() {
        for (option, text) in SAMPLES {
            let resolved =
                Resolved::from_layers(parameters(&format!("{option}={}", text.replace(' ', "%20"))).unwrap());
            let row = resolved.explain().into_iter().find(|row| row.option == option).unwrap();
            assert_eq!((row.value.as_str(), row.source), (text, Source::Url));
        }
    }

    #[cfg(all(feature = "disk", feature = "file"))]
    #[test]
    fn urls_name_tiers_and_their_directory() {
        let check = |urls: &str, home: Option<TierKind>, memory_bytes: Option<u64>| {
            let described = read(urls).unwrap();
            assert_eq!(described.home(), home, "{urls}");
            let settings = Resolved::from_layers(described.layers).settings;
            assert_eq!(settings.memory_bytes, memory_bytes, "{urls}");
            assert_eq!(settings.dir.as_deref(), Some(std::path::Path::new("/a/b")), "{urls}");
        };
        check("sled:///a/b", Some(TierKind::Disk), Some(0));
        check("memory: file:///a/b", Some(TierKind::File), None);
        check("memory:?memory_bytes=1+MiB sled:///a/b file:///a/b", None, Some(1 << 20));
    }

    #[test]
    fn mistakes_name_the_url_and_hide_its_secrets() {
        for wrong in
            ["", "memory:", "sled://relative", "sled:///", "nowhere:///a", "redis://me:secret@host", "x"]
        {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains("option `url`") && error.contains("sled:///dir"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        let error = read("sled:///a?disk_bytes=1").unwrap_err().to_string();
        assert!(
            error.contains("disk_bytes") && error.contains("the URL") && error.contains("16 MiB"),
            "{error}"
        );
        let error = read("memory:?capacity=redis://me:secret@host").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
