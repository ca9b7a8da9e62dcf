//! The option `selector`.

use std::fmt;
use std::sync::Arc;

use larder_core::place::Selector;
#[cfg(feature = "_codec")]
use larder_engine::selector::{Adaptive, Table};

/// The selector that a source names or gives.
#[derive(Clone, Default)]
pub(crate) enum SelectorChoice {
    /// The table.
    #[default]
    Table,
    /// A selector that learns, for each cache its own.
    Adaptive,
    /// A selector that the code gives.
    Given(
        #[cfg_attr(not(feature = "_codec"), allow(dead_code, reason = "no tiers to place in"))]
        Arc<dyn Selector>,
    ),
}

impl SelectorChoice {
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "table" => Some(Self::Table),
            "adaptive" => Some(Self::Adaptive),
            _ => None,
        }
    }

    /// Whether the selector learns.
    #[cfg(feature = "_codec")]
    pub(crate) fn learns(&self) -> bool {
        match self {
            Self::Table => false,
            Self::Adaptive => true,
            Self::Given(selector) => selector.learns(),
        }
    }

    /// The selector of one cache.
    #[cfg(feature = "_codec")]
    pub(crate) fn make(self) -> Arc<dyn Selector> {
        match self {
            Self::Table => Arc::new(Table),
            Self::Adaptive => Arc::new(Adaptive::default()),
            Self::Given(selector) => selector,
        }
    }
}

impl fmt::Display for SelectorChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Table => "table",
            Self::Adaptive => "adaptive",
            Self::Given(_) => "given",
        })
    }
}

impl fmt::Debug for SelectorChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
