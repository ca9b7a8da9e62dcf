//! What was said outside of code: variables and the configuration file.

mod file;
#[cfg(feature = "_codec")]
pub(crate) mod url;

use larder_core::Result;

use crate::options::{Layer, Source, options, parse};

/// The variable that names the configuration file.
const FILE: &str = "LARDER_CONFIG";

/// A variable of the environment; one that is empty counts as not there.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.trim().is_empty())
}

/// What variables and the file say about the cache `name`, the strongest first.
pub(crate) fn layers(name: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Vec<Layer>> {
    let mut layers = variables(name, &variable)?;
    if let Some(path) = variable(FILE) {
        layers.extend(file::layers(path.as_ref(), name)?);
    }
    Ok(layers)
}

/// For each option first the variable of this cache, then that of all caches.
fn variables(name: &str, variable: &impl Fn(&str) -> Option<String>) -> Result<Vec<Layer>> {
    let mut layers = Vec::new();
    for prefix in [format!("LARDER_{}__", in_capitals(name)), "LARDER_".to_owned()] {
        for row in options() {
            let name = format!("{prefix}{}", row.name.to_ascii_uppercase());
            if let Some(text) = variable(&name) {
                let source = Source::Variable(name);
                layers.push((parse(row.name, &text, &source)?, source));
            }
        }
    }
    Ok(layers)
}

/// A name as a part of the name of a variable.
fn in_capitals(name: &str) -> String {
    let capital = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    name.chars().map(capital).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::options::Resolved;

    /// A value of each option that is not its default, as it is shown.
    pub(super) const SAMPLES: [(&str, &str); 13] = [
        ("capacity", "500"),
        ("memory_bytes", "8 MiB"),
        ("policy", "lru"),
        ("dir", "/tmp/somewhere"),
        ("disk_bytes", "64 MiB"),
        ("codec", "message_pack"),
        ("compress", "none"),
        ("version", "7"),
        ("kind", "image"),
        ("persistence", "long_term"),
        ("access", "read_heavy"),
        ("sharing", "processes"),
        ("thresholds", "1 KiB, 2 KiB, 3 KiB"),
    ];

    fn told(layers: Result<Vec<Layer>>, option: &str) -> (String, Source) {
        let explained = Resolved::from_layers(layers.unwrap()).explain();
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
        for (option, text) in SAMPLES {
            let name = format!("LARDER_{}", option.to_ascii_uppercase());
            let expect = (text.to_owned(), Source::Variable(name.clone()));
            assert_eq!(told(layers("any", with(&[(&name, text)])), option), expect);
        }
    }

    #[test]
    fn a_wrong_value_names_option_variable_given_and_allowed() {
        for row in options().iter().filter(|row| row.name != "dir") {
            let name = format!("LARDER_{}", row.name.to_ascii_uppercase());
            let error = layers("any", with(&[(&name, "w r o n g")])).unwrap_err().to_string();
            for part in [row.name, &name, "`w r o n g`", row.allowed] {
                assert!(error.contains(part), "{part:?} is missing in {error:?}");
            }
        }
    }

    #[test]
    fn the_variable_of_one_cache_counts_more_than_that_of_all() {
        let variables = [("LARDER_MY_CACHE__DISK_BYTES", "32 MiB"), ("LARDER_DISK_BYTES", "64 MiB")];
        assert_eq!(told(layers("my-cache", with(&variables)), "disk_bytes").0, "32 MiB");
        assert_eq!(told(layers("other", with(&variables)), "disk_bytes").0, "64 MiB");
    }

    #[test]
    fn a_bound_of_memory_replaces_the_other_one_of_a_weaker_source() {
        let variables = [("LARDER_MINE__CAPACITY", "5"), ("LARDER_MEMORY_BYTES", "1 MiB")];
        let resolved = Resolved::from_layers(layers("mine", with(&variables)).unwrap());
        assert_eq!((resolved.settings.capacity, resolved.settings.memory_bytes), (Some(5), None));
    }
}
