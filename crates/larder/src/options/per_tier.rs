//! The options of single tiers, from code and from text.

use std::fmt;

use larder_core::tier::{FailedWrites, TierKind, TierOptions};

use super::values;

const FAILED_WRITES: &[(&str, FailedWrites)] =
    &[("repair", FailedWrites::Repair), ("ignore", FailedWrites::Ignore), ("report", FailedWrites::Report)];

/// The options of each tier that has some. As text: `disk ttl=1h, file read_only`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PerTier(pub(crate) Vec<(TierKind, TierOptions)>);

impl PerTier {
    pub(super) fn parse(text: &str) -> Option<Self> {
        text.split(',').map(parse_tier).collect::<Option<_>>().map(Self)
    }
}

fn parse_tier(text: &str) -> Option<(TierKind, TierOptions)> {
    let mut words = text.split_whitespace();
    let kind = TierKind::by_name(&words.next()?.to_ascii_lowercase())?;
    let options = words.try_fold(TierOptions::new(), |options, word| {
        let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        match (&*name.to_ascii_lowercase().replace('-', "_"), value) {
            ("ttl", Some(span)) => Some(options.ttl(values::span(span)?)),
            ("failed_writes", Some(means)) => {
                Some(options.failed_writes(values::choice(FAILED_WRITES, means)?))
            }
            ("read_only", None) => Some(options.read_only()),
            _ => None,
        }
    })?;
    (options != TierOptions::new()).then_some((kind, options))
}

impl fmt::Display for PerTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (kind, options)) in self.0.iter().enumerate() {
            write!(f, "{}{kind}", if at == 0 { "" } else { ", " })?;
            if let Some(ttl) = &options.ttl {
                write!(f, " ttl={}", values::span_text(ttl).replace(' ', ""))?;
            }
            if options.read_only {
                f.write_str(" read_only")?;
            }
            if options.failed_writes != FailedWrites::default() {
                write!(f, " failed_writes={}", values::word(FAILED_WRITES, &options.failed_writes))?;
            }
        }
        Ok(())
    }
}
