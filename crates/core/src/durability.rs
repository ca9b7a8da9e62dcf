//! Which acknowledged changes a crash may lose.

use std::fmt;

/// Which acknowledged changes of a tier a crash may lose.
///
/// In none of the three modes does a removed or overwritten entry come back, however the process ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// A killed process may lose changes that were not flushed; a crash of the machine loses everything. The
    /// default. No tier of this version makes use of it: each hands a change to the operating system at once.
    #[default]
    Buffered,
    /// A killed process loses nothing; a crash of the machine loses everything.
    Flushed,
    /// Neither loses anything. Each acknowledged change waits once or twice for the storage device, 0.1 to 20
    /// ms each time.
    Synced,
}

impl Durability {
    /// The lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Buffered => "buffered",
            Self::Flushed => "flushed",
            Self::Synced => "synced",
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
