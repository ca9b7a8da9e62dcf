//! Options of one entry, given when it is written.

use std::time::Duration;

use bytes::Bytes;

use super::Tag;
use crate::place::{Access, EntryHints, Persistence};
use crate::tier::TierKind;
use crate::{Error, Result};

/// The most tags of one entry.
const TAGS_MAX: usize = 64;
/// The longest tag, in bytes.
const TAG_LEN_MAX: usize = 1024;
/// The longest validator, in bytes.
const VALIDATOR_LEN_MAX: usize = 4096;

/// Options of one entry, given when it is written. The cache's own settings apply to options that are not
/// set.
///
/// ```
/// use std::time::Duration;
/// use larder_core::entry_meta::EntryOptions;
///
/// let options = EntryOptions::new().ttl(Duration::from_secs(60)).tag("user:7").tag("prices");
/// assert_eq!(options.tags.len(), 2);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EntryOptions {
    /// The time to live. `Duration::MAX` for an entry that does not expire.
    pub ttl: Option<Duration>,
    /// How long after its deadline the entry may be served as stale.
    pub stale: Option<Duration>,
    /// Tags to invalidate it by: at most 64, each of at most 1 KiB.
    pub tags: Vec<Tag>,
    /// A validator, such as an ETag, that a later load may send to its source: at most 4 KiB.
    pub validator: Option<Bytes>,
    /// Hints for the selector, in place of the cache's.
    pub hints: EntryHints,
}

impl EntryOptions {
    /// Options that leave everything to the settings of the cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing is set.
    pub fn is_unset(&self) -> bool {
        let Self { ttl, stale, tags, validator, hints } = self;
        ttl.is_none()
            && stale.is_none()
            && tags.is_empty()
            && validator.is_none()
            && *hints == EntryHints::NONE
    }

    /// Sets the time to live instead of the cache's.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Sets the stale window instead of the cache's.
    pub fn stale(mut self, window: Duration) -> Self {
        self.stale = Some(window);
        self
    }

    /// Adds a tag.
    pub fn tag(mut self, tag: impl Into<Tag>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Adds tags.
    pub fn tags<T: Into<Tag>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags.extend(tags.into_iter().map(Into::into));
        self
    }

    /// Sets the validator.
    pub fn validator(mut self, validator: impl Into<Bytes>) -> Self {
        self.validator = Some(validator.into());
        self
    }

    /// Sets how long the entry should outlive the process, instead of the cache's hint.
    pub fn persistence(mut self, persistence: Persistence) -> Self {
        self.hints.persistence = Some(persistence);
        self
    }

    /// Sets how the entry is used, instead of the cache's hint.
    pub fn access(mut self, access: Access) -> Self {
        self.hints.access = Some(access);
        self
    }

    /// Sets the tier that should be the home of the entry. It precedes every other hint. If the cache has no
    /// such tier, or the tier cannot take the entry, the entry is placed as without this hint, with a
    /// warning in its placement.
    pub fn home(mut self, home: TierKind) -> Self {
        self.hints.home = Some(home);
        self
    }

    /// Checks the limits.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), naming the option that is out of range.
    pub fn check(&self) -> Result<()> {
        if self.tags.len() > TAGS_MAX {
            return Err(Error::config("tags", format_args!("{} tags", self.tags.len()), "at most 64"));
        }
        if let Some(tag) = self.tags.iter().find(|tag| tag.as_str().len() > TAG_LEN_MAX) {
            let len = tag.as_str().len();
            return Err(Error::config(
                "tags",
                format_args!("a tag of {len} bytes"),
                "at most 1024 bytes each",
            ));
        }
        match &self.validator {
            Some(bytes) if bytes.len() > VALIDATOR_LEN_MAX => {
                Err(Error::config("validator", format_args!("{} bytes", bytes.len()), "at most 4096 bytes"))
            }
            _ => Ok(()),
        }
    }
}
