//! Finds what a wrong option may have meant: another option, or a feature that this build lacks.

use syn::{Error, Ident};

use super::Tier;

/// Names that other crates and other parts of a configuration give to an option.
const SYNONYMS: [(&str, &str); 21] = [
    ("convert", "key"),
    ("directory", "dir"),
    ("disk", "disk_bytes"),
    ("disk_dir", "dir"),
    ("eviction", "policy"),
    ("expire", "ttl"),
    ("expiry", "ttl"),
    ("max_bytes", "memory_bytes"),
    ("max_capacity", "capacity"),
    ("max_entries", "capacity"),
    ("max_size", "capacity"),
    ("maxsize", "capacity"),
    ("memory", "memory_bytes"),
    ("option", "skip_none"),
    ("path", "dir"),
    ("size", "capacity"),
    ("tag", "tags"),
    ("time", "ttl"),
    ("time_to_idle", "idle"),
    ("time_to_live", "ttl"),
    ("tti", "idle"),
];

/// The most edits between a misspelt name and the one that was meant.
const EDITS_MAX: usize = 2;

/// The name among `known` that `given` is another word for, or a misspelling of.
pub(super) fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let synonym = SYNONYMS.iter().find(|(name, _)| *name == given).map(|(_, option)| *option);
    let meant = known.iter().find(|name| Some(**name) == synonym).copied();
    meant.or_else(|| {
        let distances = known.iter().map(|name| (strsim::damerau_levenshtein(given, name), *name));
        let is_near = |(edits, name): &(usize, &str)| *edits <= EDITS_MAX && *edits * 2 < name.len();
        distances.filter(is_near).min().map(|(_, name)| name)
    })
}

/// `: did you mean ..?`, or nothing.
pub(super) fn did_you_mean(given: &str, known: &[&str]) -> String {
    nearest(given, known).map_or_else(String::new, |name| format!(": did you mean `{name}`?"))
}

/// The features of the crate larder that this build has.
#[derive(Clone, Copy)]
pub(super) struct Features {
    disk: bool,
    file: bool,
    redis: bool,
}

/// Larder passes its features on to this crate.
pub(super) const BUILT: Features =
    Features { disk: cfg!(feature = "disk"), file: cfg!(feature = "file"), redis: cfg!(feature = "redis") };

impl Features {
    /// The feature that an attribute needs and this build lacks.
    fn lacks_for(self, tier: Tier) -> Option<&'static str> {
        match tier {
            Tier::Disk if !self.disk => Some("disk"),
            Tier::File if !self.file => Some("file"),
            Tier::Universal if !self.disk && !self.file && !self.redis => Some("disk"),
            _ => None,
        }
    }

    /// Fails if the attribute needs a feature that this build lacks.
    pub(super) fn check_attribute(self, tier: Tier) -> syn::Result<()> {
        match self.lacks_for(tier) {
            Some(feature) => {
                let what = format!("#[{}]", tier.name());
                Err(Error::new(proc_macro2::Span::call_site(), lacking(&what, feature)))
            }
            None => Ok(()),
        }
    }

    /// Fails if the option needs a feature that this build lacks.
    pub(super) fn check_option(self, tier: Tier, option: &Ident) -> syn::Result<()> {
        let is_of_redis = ["coherence", "lease", "namespace", "redis"].iter().any(|name| option == name);
        match is_of_redis && tier == Tier::Universal && !self.redis {
            true => Err(Error::new(option.span(), lacking(&format!("the option `{option}`"), "redis"))),
            false => Ok(()),
        }
    }
}

fn lacking(what: &str, feature: &str) -> String {
    format!(
        "{what} needs the feature `{feature}` of the crate larder: add `features = [\"{feature}\"]` to it in Cargo.toml"
    )
}

#[cfg(test)]
mod tests {
    use proc_macro2::Span;

    use super::*;

    #[test]
    fn nearest_finds_synonyms_and_misspellings_among_the_known_names() {
        let known = ["capacity", "ttl", "skip_none", "key", "idle"];
        let near = |given| nearest(given, &known);
        assert_eq!(near("size"), Some("capacity"));
        assert_eq!(near("time"), Some("ttl"));
        assert_eq!(near("capactiy"), Some("capacity"));
        assert_eq!(near("skipnone"), Some("skip_none"));
        // A synonym of an option that this attribute lacks, and words that are near to none.
        assert_eq!((near("directory"), near("banana"), near("kei2")), (None, None, None));
    }

    #[test]
    fn error_for_a_lacking_feature_names_it() {
        let none = Features { disk: false, file: false, redis: false };
        for (tier, feature) in [(Tier::Disk, "disk"), (Tier::File, "file"), (Tier::Universal, "disk")] {
            let message = none.check_attribute(tier).unwrap_err().to_string();
            assert!(message.contains(&format!("needs the feature `{feature}`")), "{message}");
        }
        assert!(none.check_attribute(Tier::Memory).is_ok());
        let file = Features { file: true, ..none };
        assert!(file.check_attribute(Tier::Universal).is_ok());
        let option = Ident::new("lease", Span::call_site());
        let message = file.check_option(Tier::Universal, &option).unwrap_err().to_string();
        assert!(message.contains("`lease` needs the feature `redis`"), "{message}");
        assert!(Features { redis: true, ..none }.check_option(Tier::Universal, &option).is_ok());
    }
}
