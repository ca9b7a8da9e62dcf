//! The options that a builder was given, and their resolution.

use std::fmt;
use std::sync::Arc;

use larder_core::{Error, Result};

use crate::config;
#[cfg(feature = "_codec")]
use crate::config::url::UrlConfig;
use crate::context::Scope;
#[cfg(feature = "_codec")]
use crate::options::values::Urls;
use crate::options::{Layer, Resolved, Settings, Source};
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
        let mut layers = self.layers(any_tier)?;
        let Some(at) = layers.iter().position(|(settings, _)| settings.url.is_some()) else {
            return Ok((Resolved::from_layers(layers), None));
        };
        let (settings, source) = &layers[at];
        let urls = settings.url.as_ref().map_or("", Urls::secret);
        let url_config = config::url::parse_as(urls, source)?;
        let is_same = |(_, other): &Layer| std::mem::discriminant(other) == std::mem::discriminant(source);
        let after = layers.iter().rposition(is_same).map_or(at, |last| last + 1);
        layers.splice(after..after, url_config.layers.clone());
        Ok((Resolved::from_layers(layers), Some(url_config)))
    }

    /// As `resolve`, for a builder that takes no URLs.
    pub(crate) fn resolve_without_urls(&self) -> Result<Resolved> {
        Ok(Resolved::from_layers(self.layers(false)?))
    }

    fn layers(&self, any_tier: bool) -> Result<Vec<Layer>> {
        if self.name.is_empty() {
            return Err(Error::config("name", "an empty text", "a name of at least one character"));
        }
        let mut layers = vec![(self.code.clone(), Source::Code)];
        layers.extend(self.preset.map(|preset| (preset.settings(), Source::Preset(preset.name()))));
        if let Some(scope) = &self.scope {
            layers.extend(scope.layers()?);
        }
        layers.extend(config::of_process(&self.name)?);
        if !any_tier {
            layers.iter_mut().skip(1).for_each(|(settings, _)| settings.url = None);
        }
        Ok(layers)
    }
}
