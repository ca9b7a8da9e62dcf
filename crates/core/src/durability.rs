//! What a crash may take of what was acknowledged.

use std::fmt;

/// What a crash may take of what a tier acknowledged.
///
/// In none of the three does an entry come back that was removed or
/// overwritten, however the process ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// A killed process may lose what was acknowledged within the last 500 ms
    /// before it; a machine that goes down loses everything.
    #[default]
    Buffered,
    /// A killed process loses nothing; a machine that goes down loses
    /// everything. Costs a second writing of each small frame.
    Flushed,
    /// Neither loses anything. Costs a wait for the medium, one or two an
    /// acknowledged change, which is 0.1 to 20 ms each.
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
