//! The options that a builder was given, and their resolution.

use std::fmt;
use std::sync::Arc;

#[cfg(feature = "_codec")]
use larder_core::tier::TierKind;
use larder_core::{Error, Result};

use crate::config;
#[cfg(feature = "_codec")]
use crate::config::url::UrlConfig;
use crate::context::Scope;
#[cfg(feature = "_codec")]
use crate::options::values::Urls;
use crate::options::{Level, Resolved, Settings, Source};
use crate::presets::Preset;

/// The options of a builder from all sources, before they are resolved.
pub(crate) struct GivenOptions {
    pub(crate) name: String,
    /// Set by methods of the builder.
    pub(crate) code: Settings,
    pub(crate) preset: Option<Preset>,
    pub(crate) scope: Option<Arc<Scope>>,
}

impl fmt::Debug for GivenOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GivenOptions")
            .field("name", &self.name)
            .field("code", &self.code)
            .field("preset", &self.preset)
            .finish_non_exhaustive()
    }
}

impl GivenOptions {
    pub(crate) fn new(name: String) -> Self {
        Self { name, code: Settings::default(), preset: None, scope: None }
    }

    /// Resolves the options: code overrides variables, variables override the file. Code is the methods of
    /// the builder, then its preset, then the contexts around it from the inside out. Options in URLs have
    /// the lowest precedence among those of their source.
    ///
    /// With `any_tier`, URLs from variables, contexts and files apply as well. Without it they do not: a
    /// variable for all caches is not meant for those whose builder names a tier.
    #[cfg(feature = "_codec")]
    pub(crate) fn resolve(&self, any_tier: bool) -> Result<(Resolved, Option<UrlConfig>)> {
        let mut levels = self.levels(any_tier)?;
        let Some((settings, source)) = levels.iter().flatten().find(|(settings, _)| settings.url.is_some())
        else {
            return Ok((Resolved::from_levels(levels), None));
        };
        let urls = settings.url.as_ref().map_or("", Urls::secret);
        let url_config = config::url::parse_as(urls, source)?;
        let source = source.clone();
        let is_same = |other: &Source| std::mem::discriminant(other) == std::mem::discriminant(&source);
        let of_source = levels.iter_mut().rev().find(|level| level.iter().any(|(_, other)| is_same(other)));
        of_source.into_iter().for_each(|level| level.extend(url_config.layers.iter().cloned()));
        let mut resolved = Resolved::from_levels(levels);
        if !url_config.tiers.contains(TierKind::Memory) && resolved.settings.memory_bytes.is_none() {
            resolved.set_no_memory(if source == Source::Code { Source::Url } else { source });
        }
        Ok((resolved, Some(url_config)))
    }

    /// As `resolve`, for a builder that takes no URLs.
    pub(crate) fn resolve_without_urls(&self) -> Result<Resolved> {
        Ok(Resolved::from_levels(self.levels(false)?))
    }

    fn levels(&self, any_tier: bool) -> Result<Vec<Level>> {
        if self.name.is_empty() {
            return Err(Error::config("name", "an empty text", "a name of at least one character"));
        }
        let mut levels = vec![vec![(self.code.clone(), Source::Code)]];
        levels.extend(self.preset.map(|preset| vec![(preset.settings(), Source::Preset(preset.name()))]));
        if let Some(scope) = &self.scope {
            levels.extend(scope.levels()?);
        }
        levels.extend(config::of_process(&self.name)?);
        if !any_tier {
            levels.iter_mut().skip(1).flatten().for_each(|(settings, _)| settings.url = None);
        }
        Ok(levels)
    }
}
