//! What was said about a cache, and what follows from it.

use std::fmt;
use std::sync::Arc;

use larder_core::Result;

use crate::config;
#[cfg(feature = "_codec")]
use crate::config::url::Described;
use crate::context::Scope;
use crate::options::{Layer, Resolved, Settings, Source};
use crate::presets::Preset;

/// All that a builder was told, by whichever way, before it is resolved.
pub(crate) struct Said {
    pub(crate) name: String,
    /// By methods of the builder.
    pub(crate) code: Settings,
    /// By a URL.
    #[cfg(feature = "_codec")]
    pub(crate) url: Option<String>,
    pub(crate) preset: Option<Preset>,
    pub(crate) scope: Option<Arc<Scope>>,
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Said")
            .field("name", &self.name)
            .field("code", &self.code)
            .field("preset", &self.preset)
            .finish_non_exhaustive()
    }
}

impl Said {
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            code: Settings::default(),
            #[cfg(feature = "_codec")]
            url: None,
            preset: None,
            scope: None,
        }
    }

    /// What its URLs say.
    #[cfg(feature = "_codec")]
    pub(crate) fn described(&self) -> Result<Option<Described>> {
        self.url.as_deref().map(config::url::read).transpose()
    }

    /// What counts: code, then variables, then the file. Code is the methods
    /// of the builder, then its URLs, its preset, and the contexts around it
    /// from the inside out.
    #[cfg(feature = "_codec")]
    pub(crate) fn resolve(&self, described: Option<&Described>) -> Result<Resolved> {
        self.resolve_with(described.map(|described| described.layers.clone()).unwrap_or_default())
    }

    /// The same for a builder that takes no URLs.
    pub(crate) fn resolve_with(&self, by_url: Vec<Layer>) -> Result<Resolved> {
        let mut layers = vec![(self.code.clone(), Source::Code)];
        layers.extend(by_url);
        layers.extend(self.preset.map(|preset| (preset.settings(), Source::Preset(preset.name()))));
        if let Some(scope) = &self.scope {
            layers.extend(scope.layers()?);
        }
        layers.extend(config::layers(&self.name, config::variable)?);
        Ok(Resolved::from_layers(layers))
    }
}
