//! Configuration outside of code: environment variables and the configuration file.

mod file;
#[cfg(feature = "_codec")]
pub(crate) mod url;

#[cfg(feature = "_codec")]
use std::path::PathBuf;

use larder_core::{Error, Result};

use crate::options::{Level, Source, options, parse};

/// The variable that names the configuration file.
const FILE: &str = "LARDER_CONFIG";
/// The section of the file for all caches.
#[cfg(any(feature = "config", feature = "_codec"))]
const ALL: &str = "all";

/// Reads an environment variable; an empty one counts as unset. Invalid Unicode becomes a replacement
/// character, which no option allows.
pub(crate) fn variable(name: &str) -> Option<String> {
    let text = std::env::var_os(name)?.to_string_lossy().into_owned();
    (!text.trim().is_empty()).then_some(text)
}

/// The options of the cache `name` from variables and the file, the highest precedence first.
pub(crate) fn of_process(name: &str) -> Result<Vec<Level>> {
    let names = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    check_names(name, names)?;
    levels(name, variable)
}

/// Returns an error for a variable of this cache that names no option. Unknown process-wide `LARDER_*`
/// variables are ignored, since another program may own them.
fn check_names(name: &str, variables: impl Iterator<Item = String>) -> Result<()> {
    let prefix = of_cache(name);
    for variable in variables {
        let Some(option) = variable.strip_prefix(&prefix) else { continue };
        let option = option.to_ascii_lowercase();
        // The variable may belong to a cache whose name starts with this one's: `a__b`, or `aé`, whose variables
        // begin with three underscores.
        let is_of_longer_name = option.contains("__") || option.starts_with('_');
        if !is_of_longer_name && options().iter().all(|row| row.name != option) {
            let names: Vec<_> = options().iter().map(|row| row.name).collect();
            return Err(Error::config(&option, format_args!("the variable {variable}"), names.join(", ")));
        }
    }
    Ok(())
}

/// The prefix of the variables of one cache.
fn of_cache(name: &str) -> String {
    format!("LARDER_{}__", in_capitals(name))
}

fn levels(name: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Vec<Level>> {
    let mut levels = variables(name, &variable)?;
    if let Some(path) = variable(FILE) {
        levels.extend(file::levels(path.as_ref(), name)?);
    }
    Ok(levels)
}

/// The folder for all caches of the process, from a variable or the file.
#[cfg(feature = "_codec")]
pub(crate) fn dir(variable: impl Fn(&str) -> Option<String>) -> Result<Option<PathBuf>> {
    if let Some(text) = variable("LARDER_DIR") {
        return Ok(parse("dir", &text, &Source::Variable("LARDER_DIR".to_owned()))?.dir);
    }
    let Some(path) = variable(FILE) else { return Ok(None) };
    let given = file::levels(path.as_ref(), ALL)?;
    Ok(given.into_iter().flatten().find_map(|(settings, _)| settings.dir))
}

/// The variables of this cache, then the variables for all caches.
fn variables(name: &str, variable: &impl Fn(&str) -> Option<String>) -> Result<Vec<Level>> {
    let mut levels = Vec::new();
    for prefix in [of_cache(name), "LARDER_".to_owned()] {
        let mut level = Level::new();
        for row in options() {
            let name = format!("{prefix}{}", row.name.to_ascii_uppercase());
            if let Some(text) = variable(&name) {
                let source = Source::Variable(name);
                level.push((parse(row.name, &text, &source)?, source));
            }
        }
        levels.push(level);
    }
    Ok(levels)
}

/// A cache name as part of a variable name.
fn in_capitals(name: &str) -> String {
    let capital = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    name.chars().map(capital).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::options::{Resolved, Settings};

    /// A value of each option that is not its default, as it is printed.
    const SAMPLES: [(&str, &str); 33] = [
        ("capacity", "500"),
        ("memory_bytes", "8 MiB"),
        ("policy", "lru"),
        ("memory_engine", "moka"),
        ("dir", "/tmp/somewhere"),
        ("disk_bytes", "64 MiB"),
        ("warm_restart", "700"),
        ("codec", "message_pack"),
        ("compress", "none"),
        ("version", "7"),
        ("kind", "image"),
        ("selector", "adaptive"),
        ("persistence", "long_term"),
        ("access", "read_heavy"),
        ("sharing", "processes"),
        ("thresholds", "1 KiB, 2 KiB, 3 KiB"),
        ("durability", "flushed"),
        ("url", "memory: sled:///tmp/somewhere?ttl=1h"),
        ("redis", "redis://127.0.0.1:6379/3"),
        ("namespace", "shop"),
        ("lease", "500ms"),
        ("coherence", "strict"),
        ("tier_options", "disk ttl=1h failed_writes=ignore, file read_only"),
        ("require", "memory, disk"),
        ("ttl", "1h 30m"),
        ("idle", "10m"),
        ("jitter", "0.25"),
        ("stale", "5m"),
        ("refresh_ahead", "0.8"),
        ("soft_timeout", "100ms"),
        ("hard_timeout", "2s"),
        ("observe", "true"),
        ("observe_control", "true"),
    ];

    /// The samples that this build can parse.
    pub(super) fn samples() -> impl Iterator<Item = (&'static str, &'static str)> {
        let has_server = cfg!(feature = "redis");
        let has_tiers = cfg!(feature = "_codec");
        let can_observe = cfg!(all(feature = "observe", unix));
        SAMPLES
            .into_iter()
            .filter(move |(name, _)| has_tiers || *name != "url")
            .filter(move |(name, _)| {
                has_server || !["redis", "namespace", "lease", "coherence"].contains(name)
            })
            .filter(move |(name, _)| can_observe || !name.starts_with("observe"))
    }

    /// An invalid value of each option. A path and a namespace allow any text but the empty one; URLs are
    /// parsed later, when their source is known.
    pub(super) fn wrong() -> impl Iterator<Item = (&'static str, &'static str)> {
        let of = |name| match name {
            "dir" | "namespace" | "url" => "",
            "ttl" | "idle" => "0s",
            "lease" => "2h",
            "jitter" | "refresh_ahead" => "1.5",
            _ => "w r o n g",
        };
        SAMPLES.into_iter().map(move |(name, _)| (name, of(name)))
    }

    fn told(levels: Result<Vec<Level>>, option: &str) -> (String, Source) {
        let explained = Resolved::from_levels(levels.unwrap()).explain();
        let row = explained.into_iter().find(|row| row.option == option).unwrap();
        (row.value, row.source)
    }

    fn with<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        let map: HashMap<&str, &str> = pairs.iter().copied().collect();
        move |name| map.get(name).map(|text| (*text).to_owned())
    }

    #[test]
    fn every_option_has_a_sample_and_is_read_from_its_variable() {
        let names: Vec<_> = SAMPLES.iter().map(|(name, _)| *name).collect();
        assert_eq!(options().iter().map(|row| row.name).collect::<Vec<_>>(), names);
        for (option, text) in samples() {
            let name = format!("LARDER_{}", option.to_ascii_uppercase());
            let expect = (text.to_owned(), Source::Variable(name.clone()));
            assert_eq!(told(levels("any", with(&[(&name, text)])), option), expect);
        }
    }

    #[test]
    fn error_of_invalid_value_names_option_variable_given_and_allowed_values() {
        // An empty variable counts as unset.
        for (option, wrong) in wrong().filter(|(_, wrong)| !wrong.is_empty()) {
            let row = options().iter().find(|row| row.name == option).unwrap();
            let name = format!("LARDER_{}", option.to_ascii_uppercase());
            let error = levels("any", with(&[(&name, wrong)])).unwrap_err().to_string();
            // Errors do not repeat the URL of a server.
            let given = if option == "redis" { "`not a URL`".to_owned() } else { format!("`{wrong}`") };
            for part in [option, &name, &given, row.allowed] {
                assert!(error.contains(part), "{part:?} is missing in {error:?}");
            }
        }
    }

    #[test]
    fn source_of_highest_precedence_sets_each_option() {
        for (option, text) in samples() {
            let file = Source::File { path: "larder.toml".into(), line: 1 };
            let sources = [
                Source::Code,
                Source::Url,
                Source::Preset("text"),
                Source::Context("outer".into()),
                Source::Variable("LARDER_X".into()),
                file,
            ];
            for weakest in 0..sources.len() {
                let layer = |source: &Source| (parse(option, text, source).unwrap(), source.clone());
                let levels = sources[weakest..].iter().map(|source| vec![layer(source)]).collect();
                assert_eq!(told(Ok(levels), option), (text.to_owned(), sources[weakest].clone()));
            }
            assert_eq!(told(Ok(Vec::new()), option).1, Source::Default);
        }
    }

    #[test]
    fn variable_of_one_cache_overrides_variable_of_all() {
        let variables = [("LARDER_MY_CACHE__DISK_BYTES", "32 MiB"), ("LARDER_DISK_BYTES", "64 MiB")];
        assert_eq!(told(levels("my-cache", with(&variables)), "disk_bytes").0, "32 MiB");
        assert_eq!(told(levels("other", with(&variables)), "disk_bytes").0, "64 MiB");
    }

    #[test]
    fn cache_variable_with_unknown_option_is_an_error() {
        let check = |variable: &str| check_names("my reports", std::iter::once(variable.to_owned()));
        let error = check("LARDER_MY_REPORTS__DISK_BITES").unwrap_err().to_string();
        for part in ["option `disk_bites`", "the variable LARDER_MY_REPORTS__DISK_BITES", "disk_bytes"] {
            assert!(error.contains(part), "{part:?} is missing in {error:?}");
        }
        for fine in ["LARDER_MY_REPORTS__TTL", "LARDER_MY_REPORTS__OLD__X", "LARDER_OTHER__X", "LARDER_X"] {
            check(fine).unwrap();
        }
    }

    #[test]
    fn variable_of_a_longer_name_is_no_error_of_a_cache() {
        let variables = [("LARDER_CAF___TTL", "1h")];
        assert_eq!(told(levels("café", with(&variables)), "ttl").0, "1h");
        assert_eq!(told(levels("caf", with(&variables)), "ttl").1, Source::Default);
        check_names("caf", std::iter::once("LARDER_CAF___TTL".to_owned())).unwrap();
    }

    #[test]
    fn variable_with_invalid_unicode_is_an_error() {
        let error = levels("any", with(&[("LARDER_DIR", "/caf\u{FFFD}")])).unwrap_err().to_string();
        assert!(error.contains("LARDER_DIR") && error.contains("UTF-8"), "{error}");
    }

    #[test]
    fn memory_bound_overrides_the_other_bound_of_a_weaker_source() {
        let variables = [("LARDER_MINE__CAPACITY", "5"), ("LARDER_MEMORY_BYTES", "1 MiB")];
        let resolved = Resolved::from_levels(levels("mine", with(&variables)).unwrap());
        assert_eq!((resolved.settings.capacity, resolved.settings.memory_bytes), (Some(5), None));
    }

    #[test]
    fn both_bounds_of_one_source_hold() {
        for variables in [
            [("LARDER_CAPACITY", "5"), ("LARDER_MEMORY_BYTES", "1 MiB")],
            [("LARDER_MINE__CAPACITY", "5"), ("LARDER_MINE__MEMORY_BYTES", "1 MiB")],
        ] {
            let resolved = Resolved::from_levels(levels("mine", with(&variables)).unwrap());
            let Settings { capacity, memory_bytes, .. } = resolved.settings;
            assert_eq!((capacity, memory_bytes), (Some(5), Some(1 << 20)), "{variables:?}");
        }
    }

    #[test]
    fn words_may_be_in_capitals_with_hyphens() {
        let mut words =
            vec![("access", "READ-HEAVY"), ("tier_options", "Disk READ-ONLY Failed-Writes=Ignore")];
        words.extend(cfg!(all(feature = "observe", unix)).then_some(("observe", "TRUE")));
        for (option, text) in words {
            assert!(parse(option, text, &Source::Code).is_ok(), "{option} = {text}");
        }
    }
}
