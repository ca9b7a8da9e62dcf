//! Hints: what the user expects of entries, for the selector.

use std::fmt;

use crate::tier::TierKind;

/// Defines an enum of words with its list of variants, its names and its `Display`.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$says:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$says])* $variant,)+
        }

        impl $name {
            /// Every variant, with the word that options and messages use.
            pub const WORDS: &[(&str, Self)] = &[$(($word, Self::$variant)),+];

            /// The word that options and messages use.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }
    };
}

words! {
    /// How long entries should outlive their process.
    Persistence {
        /// Not specified: decided by size, kind and load cost.
        #[default]
        Auto = "auto",
        /// Not at all: kept out of persistent tiers while another tier can hold it.
        Ephemeral = "ephemeral",
        /// As long as the process lives: a small entry stays in memory, whatever its kind and load cost. A
        /// larger one is placed like `Auto`.
        Session = "session",
        /// Beyond the process: memory alone is not enough.
        LongTerm = "long_term",
    }
}

words! {
    /// How entries are used.
    Access {
        /// Reads and writes are about equally frequent.
        #[default]
        Balanced = "balanced",
        /// Mostly reads: entries up to the large size keep a copy in memory.
        ReadHeavy = "read_heavy",
        /// Mostly writes: entries whose home is another tier keep no copy in memory.
        WriteHeavy = "write_heavy",
        /// A few entries are read often, most hardly ever: memory gets its copy of an entry when the entry is
        /// read, not when it is written.
        Frequency = "frequency",
    }
}

words! {
    /// Who must see the entries.
    Sharing {
        /// The threads of this process.
        #[default]
        Threads = "threads",
        /// The processes of this machine.
        Processes = "processes",
        /// Other machines too.
        Distributed = "distributed",
    }
}

/// The hints of one entry. `None` stands for the hint of the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryHints {
    /// How long it should outlive the process.
    pub persistence: Option<Persistence>,
    /// How it is used.
    pub access: Option<Access>,
    /// The tier that should be its home.
    pub home: Option<TierKind>,
}

impl EntryHints {
    /// No hint: those of the cache apply.
    pub const NONE: Self = Self { persistence: None, access: None, home: None };

    /// Encodes the hints: persistence and access in one byte each, then the name of the home. Zero bytes and
    /// an empty name stand for no hint.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let mut bytes =
            vec![number(Persistence::WORDS, self.persistence), number(Access::WORDS, self.access)];
        bytes.extend_from_slice(self.home.map_or("", TierKind::name).as_bytes());
        bytes
    }

    /// Decodes hints; `None` if there are fewer than two bytes. A hint that this build does not know is left
    /// out.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let ([persistence, access], home) = bytes.split_first_chunk::<2>()?;
        Some(Self {
            persistence: numbered(Persistence::WORDS, *persistence),
            access: numbered(Access::WORDS, *access),
            home: std::str::from_utf8(home).ok().and_then(TierKind::by_name),
        })
    }
}

/// The number of a variant in a frame, from 1 on; 0 for none.
fn number<T: PartialEq>(words: &[(&str, T)], hint: Option<T>) -> u8 {
    let position = hint.and_then(|hint| words.iter().position(|(_, one)| *one == hint));
    position.and_then(|position| u8::try_from(position + 1).ok()).unwrap_or(0)
}

fn numbered<T: Copy>(words: &[(&str, T)], number: u8) -> Option<T> {
    usize::from(number).checked_sub(1).and_then(|position| words.get(position)).map(|(_, hint)| *hint)
}

/// Where a hint came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HintSource {
    /// Nothing: the default of the option applies.
    Default,
    /// The cache, by an option of its builder, a preset, or the kind of builder.
    Cache,
    /// The entry, by its [`EntryOptions`](crate::entry_meta::EntryOptions).
    Entry,
}

impl fmt::Display for HintSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Default => "default",
            Self::Cache => "cache",
            Self::Entry => "entry",
        })
    }
}

/// A hint and where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hint<T> {
    /// The hint.
    pub value: T,
    /// Where it came from.
    pub source: HintSource,
}

impl<T: Default + PartialEq> Hint<T> {
    /// The hint of the entry, or else of the cache. A hint of the cache that equals the default counts as
    /// not given.
    pub fn of(entry: Option<T>, cache: T) -> Self {
        match entry {
            Some(value) => Self { value, source: HintSource::Entry },
            None if cache == T::default() => Self { value: cache, source: HintSource::Default },
            None => Self { value: cache, source: HintSource::Cache },
        }
    }
}

/// The hints that a placement was decided by, each with its source. `Display` prints those that were given,
/// for example `persistence long_term (entry), access read_heavy (cache)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HintsUsed {
    /// How long the entry should outlive the process.
    pub persistence: Hint<Persistence>,
    /// How it is used.
    pub access: Hint<Access>,
    /// The tier that should be its home.
    pub home: Hint<Option<TierKind>>,
}

impl HintsUsed {
    /// The hints that were given, as name, value and source.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, &'static str, HintSource)> {
        let Self { persistence, access, home } = *self;
        let home_name = home.value.map_or("none", TierKind::name);
        let all = [
            ("persistence", persistence.value.name(), persistence.source),
            ("access", access.value.name(), access.source),
            ("home", home_name, home.source),
        ];
        all.into_iter().filter(|(_, _, source)| *source != HintSource::Default)
    }
}

impl fmt::Display for HintsUsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, (name, value, source)) in self.given().enumerate() {
            let comma = if nth == 0 { "" } else { ", " };
            write!(f, "{comma}{name} {value} ({source})")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoded_hints_equal_encoded_ones() {
        let homes = TierKind::ALL.into_iter().map(Some).chain([None]);
        for home in homes {
            for (persistence, access) in [
                (None, None),
                (Some(Persistence::LongTerm), None),
                (None, Some(Access::Frequency)),
                (Some(Persistence::Auto), Some(Access::Balanced)),
            ] {
                let hints = EntryHints { persistence, access, home };
                assert_eq!(EntryHints::from_bytes(&hints.to_bytes()), Some(hints));
            }
        }
    }

    #[test]
    fn unknown_hints_are_left_out() {
        assert_eq!(EntryHints::from_bytes(b"\xff\xfeelsewhere"), Some(EntryHints::NONE));
        assert_eq!(EntryHints::from_bytes(b"\x01"), None);
    }
}
