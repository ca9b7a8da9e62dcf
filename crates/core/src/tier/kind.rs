//! Kinds of tiers, and the names of tiers that users bring.

use std::fmt;

use once_cell::sync::Lazy;
use parking_lot::RwLock;

use crate::{Error, Result};

/// The identity of a tier in a cache, which has at most one of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TierKind {
    /// Typed values in the memory of this process.
    Memory,
    /// An embedded database with segment files for large values.
    Disk,
    /// One file per entry.
    File,
    /// Redis or Valkey.
    Redis,
    /// Stores nothing.
    Null,
    /// A tier that the user brings, by its name. [`TierKind::own`] makes it.
    Own(TierName),
}

/// The name of a tier that a user brings. Takes one byte: names are kept in a table of the process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TierName(u8);

/// The most names in a process.
const NAMES_MAX: usize = 200;
/// The longest name, in bytes.
const NAME_LEN_MAX: usize = 32;

static NAMES: Lazy<RwLock<Vec<&'static str>>> = Lazy::new(RwLock::default);

impl TierName {
    fn find(names: &[&'static str], name: &str) -> Option<Self> {
        let position = names.iter().position(|known| *known == name)?;
        u8::try_from(position).ok().map(Self)
    }

    /// The text of the name.
    pub fn as_str(self) -> &'static str {
        // A name is made only by `TierKind::own`, which enters it.
        NAMES.read().get(usize::from(self.0)).copied().unwrap_or("?")
    }
}

impl fmt::Debug for TierName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl TierKind {
    /// Every built-in kind, nearest first.
    pub const ALL: [Self; 5] = [Self::Memory, Self::Disk, Self::File, Self::Redis, Self::Null];

    /// The kind of a tier that the user brings. Statistics, events, errors, options and selectors name the
    /// tier by `name`. The same name gives the same kind, everywhere in the process.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a name that is not 1 to 32 of `a` to `z`, `0` to
    /// `9`, `-` and `_`, for the name of a built-in tier, and for the 201st name of the process.
    ///
    /// ```
    /// use larder_core::tier::TierKind;
    ///
    /// let kind = TierKind::own("s3-eu")?;
    /// assert_eq!((kind.name(), TierKind::own("s3-eu")?), ("s3-eu", kind));
    /// assert!(TierKind::own("disk").is_err());
    /// # Ok::<(), larder_core::Error>(())
    /// ```
    pub fn own(name: &str) -> Result<Self> {
        let is_allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        let is_built_in = Self::ALL.iter().any(|kind| kind.name() == name);
        if name.is_empty() || name.len() > NAME_LEN_MAX || is_built_in || !name.bytes().all(is_allowed) {
            let allowed = "1 to 32 of a-z, 0-9, - and _, but not the name of a built-in tier";
            return Err(Error::config("name of a tier", format_args!("{name:?}"), allowed));
        }
        let mut names = NAMES.write();
        if let Some(known) = TierName::find(&names, name) {
            return Ok(Self::Own(known));
        }
        if names.len() >= NAMES_MAX {
            let allowed = "at most 200 names of tiers in a process";
            return Err(Error::config("name of a tier", format_args!("{name:?}"), allowed));
        }
        // Never freed: the number of names is bounded.
        let next = TierName(u8::try_from(names.len()).unwrap_or(u8::MAX));
        names.push(Box::leak(name.into()));
        Ok(Self::Own(next))
    }

    /// The kind of this name; `None` if no tier of the process has it.
    pub fn by_name(name: &str) -> Option<Self> {
        let built_in = Self::ALL.into_iter().find(|kind| kind.name() == name);
        built_in.or_else(|| TierName::find(&NAMES.read(), name).map(Self::Own))
    }

    /// The lower-case name, as statistics and messages spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::File => "file",
            Self::Redis => "redis",
            Self::Null => "null",
            Self::Own(name) => name.as_str(),
        }
    }

    /// Whether the user brings the tier.
    pub fn is_own(self) -> bool {
        matches!(self, Self::Own(_))
    }
}

impl fmt::Display for TierKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Where a tier that the user brings stands: in the order in which the tiers are read, and in each row of the
/// default selector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Position {
    /// Before every other tier beyond memory.
    First,
    /// Just before the tier of this kind; like `First` if the cache has none.
    Before(TierKind),
    /// Just after the tier of this kind; like `Last` if the cache has none.
    After(TierKind),
    /// After every other tier: it takes what they refuse, and what a hint sends there.
    #[default]
    Last,
}

impl Position {
    /// The position in a cache that has the tiers that `has` tells.
    pub(crate) fn among(self, has: impl Fn(TierKind) -> bool) -> Self {
        match self {
            Self::Before(kind) if !has(kind) => Self::First,
            Self::After(kind) if !has(kind) => Self::Last,
            position => position,
        }
    }

    /// Checks that a tier that is named is a built-in one beyond memory.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config).
    pub fn check(self) -> Result<()> {
        match self {
            Self::Before(kind) | Self::After(kind)
                if !matches!(kind, TierKind::Disk | TierKind::File | TierKind::Redis) =>
            {
                Err(Error::config(
                    "position of a tier",
                    format_args!("{self:?}"),
                    "beside Disk, File or Redis",
                ))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_takes_two_bytes() {
        assert_eq!(size_of::<Option<TierKind>>(), 2);
    }

    #[test]
    fn names_of_another_form_are_refused() {
        for name in ["", "Disk", "disk", "a b", "ß", "name/path", &"n".repeat(33)] {
            assert!(TierKind::own(name).is_err(), "{name:?}");
        }
        assert_eq!(TierKind::own(&"n".repeat(32)).unwrap().name().len(), 32);
    }

    #[test]
    fn kind_is_found_by_the_name_that_it_was_made_with() {
        assert_eq!(TierKind::by_name("found-by-name"), None);
        let kind = TierKind::own("found-by-name").unwrap();
        assert_eq!(TierKind::by_name("found-by-name"), Some(kind));
        assert_eq!(TierKind::by_name("disk"), Some(TierKind::Disk));
        assert_eq!(format!("{kind:?}"), "Own(\"found-by-name\")");
    }
}
