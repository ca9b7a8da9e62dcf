//! What happens to a cache, told to a listener.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::ErrorKind;
use crate::entry_meta::Tag;
use crate::tier::TierKind;

/// Something that happened to a cache.
///
/// Keys are the native ones. An event is told after the fact: what it tells of
/// may have changed again. Those of one key come in the order of the changes;
/// evictions from memory come when memory makes room, which may be later.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<K> {
    /// An entry was stored.
    Inserted {
        /// Its key.
        key: Arc<K>,
        /// Where it went; an alternative where its home refused it.
        home: TierKind,
        /// Who stored it.
        by: Writer,
    },
    /// A tier let go of entries by itself.
    Evicted {
        /// Which one; `None` where a tier of bytes let go of many at once.
        key: Option<Arc<K>>,
        /// How many.
        count: u64,
        /// Out of which tier. A copy in memory is not the entry: see `home`.
        tier: TierKind,
        /// The tier that answers for the entry, which is `tier` where it is lost.
        home: TierKind,
        /// Why.
        cause: Cause,
    },
    /// An entry was past its time, or was invalidated together with others, and
    /// a tier let go of it. Told when that is noticed: at a look-up, a write, a
    /// sweep.
    Expired {
        /// Its key.
        key: Arc<K>,
        /// Where it lay.
        tier: TierKind,
    },
    /// An entry that was read beyond memory was copied into it.
    Promoted {
        /// Its key.
        key: Arc<K>,
        /// The tier that had it.
        from: TierKind,
    },
    /// A write took an entry from one home to another.
    Moved {
        /// Its key.
        key: Arc<K>,
        /// Where the former one lay.
        from: TierKind,
        /// Where the new one is to go.
        to: TierKind,
    },
    /// A caller removed an entry.
    Removed {
        /// Its key.
        key: Arc<K>,
    },
    /// A caller invalidated one entry, or many; or another node changed an entry
    /// that memory had a copy of.
    Invalidated(Extent<K>),
    /// A tier fails and is left alone for a while.
    TierDown {
        /// Which one.
        tier: TierKind,
        /// What fails there.
        line: Line,
    },
    /// A tier works again.
    TierUp {
        /// Which one.
        tier: TierKind,
        /// What works there again.
        line: Line,
    },
    /// A tier says why it cannot be used: its server is away, or forbids a command that
    /// it needs, which is named. Told once, when the cache is built or at the next write
    /// that notices.
    TierUnusable {
        /// Which one.
        tier: TierKind,
        /// Why, in a sentence.
        why: Arc<str>,
    },
    /// What a tier had missed was made up for: a removal, or a write.
    Repaired {
        /// The entry; `None` where the whole tier was emptied.
        key: Option<Arc<K>>,
        /// Which tier.
        tier: TierKind,
    },
    /// A write was given up: no tier holds its value. Of one that was to be made
    /// up for: others had changed the entry by then, and theirs stays.
    Dropped {
        /// Its key.
        key: Arc<K>,
        /// What stood in its way.
        why: ErrorKind,
    },
    /// The listener was too slow: this many events before the next one were
    /// not kept for it.
    Missed {
        /// How many.
        count: u64,
    },
}

// Derived, it would ask keys to be `Clone`.
impl<K> Clone for Event<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Inserted { key, home, by } => Self::Inserted { key: Arc::clone(key), home: *home, by: *by },
            Self::Evicted { key, count, tier, home, cause } => {
                Self::Evicted { key: key.clone(), count: *count, tier: *tier, home: *home, cause: *cause }
            }
            Self::Expired { key, tier } => Self::Expired { key: Arc::clone(key), tier: *tier },
            Self::Promoted { key, from } => Self::Promoted { key: Arc::clone(key), from: *from },
            Self::Moved { key, from, to } => Self::Moved { key: Arc::clone(key), from: *from, to: *to },
            Self::Removed { key } => Self::Removed { key: Arc::clone(key) },
            Self::Invalidated(extent) => Self::Invalidated(extent.clone()),
            Self::TierDown { tier, line } => Self::TierDown { tier: *tier, line: *line },
            Self::TierUp { tier, line } => Self::TierUp { tier: *tier, line: *line },
            Self::TierUnusable { tier, why } => Self::TierUnusable { tier: *tier, why: Arc::clone(why) },
            Self::Repaired { key, tier } => Self::Repaired { key: key.clone(), tier: *tier },
            Self::Dropped { key, why } => Self::Dropped { key: Arc::clone(key), why: *why },
            Self::Missed { count } => Self::Missed { count: *count },
        }
    }
}

impl<K> Event<K> {
    /// The same event of other keys; `None` where one has no counterpart.
    pub fn map_key<L>(self, map: impl Fn(Arc<K>) -> Option<Arc<L>>) -> Option<Event<L>> {
        Some(match self {
            Self::Inserted { key, home, by } => Event::Inserted { key: map(key)?, home, by },
            Self::Evicted { key, count, tier, home, cause } => {
                Event::Evicted { key: key.and_then(map), count, tier, home, cause }
            }
            Self::Expired { key, tier } => Event::Expired { key: map(key)?, tier },
            Self::Promoted { key, from } => Event::Promoted { key: map(key)?, from },
            Self::Moved { key, from, to } => Event::Moved { key: map(key)?, from, to },
            Self::Removed { key } => Event::Removed { key: map(key)? },
            Self::Invalidated(extent) => Event::Invalidated(match extent {
                Extent::Key(key) => Extent::Key(map(key)?),
                Extent::Tag(tag) => Extent::Tag(tag),
                Extent::All => Extent::All,
                Extent::Cleared => Extent::Cleared,
            }),
            Self::TierDown { tier, line } => Event::TierDown { tier, line },
            Self::TierUp { tier, line } => Event::TierUp { tier, line },
            Self::TierUnusable { tier, why } => Event::TierUnusable { tier, why },
            Self::Repaired { key, tier } => Event::Repaired { key: key.and_then(map), tier },
            Self::Dropped { key, why } => Event::Dropped { key: map(key)?, why },
            Self::Missed { count } => Event::Missed { count },
        })
    }

    /// The name of the kind of event, in lower case.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Inserted { .. } => "inserted",
            Self::Evicted { .. } => "evicted",
            Self::Expired { .. } => "expired",
            Self::Promoted { .. } => "promoted",
            Self::Moved { .. } => "moved",
            Self::Removed { .. } => "removed",
            Self::Invalidated(_) => "invalidated",
            Self::TierDown { .. } => "tier down",
            Self::TierUp { .. } => "tier up",
            Self::TierUnusable { .. } => "tier unusable",
            Self::Repaired { .. } => "repaired",
            Self::Dropped { .. } => "dropped",
            Self::Missed { .. } => "missed",
        }
    }

    /// The key, where the event is about one.
    pub fn key(&self) -> Option<&K> {
        match self {
            Self::Inserted { key, .. }
            | Self::Expired { key, .. }
            | Self::Promoted { key, .. }
            | Self::Moved { key, .. }
            | Self::Removed { key }
            | Self::Dropped { key, .. }
            | Self::Invalidated(Extent::Key(key)) => Some(key),
            Self::Evicted { key, .. } | Self::Repaired { key, .. } => key.as_deref(),
            _ => None,
        }
    }
}

/// Who stored an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Writer {
    /// A caller.
    Caller,
    /// A load.
    Load,
}

/// Why a tier let go of an entry by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The tier makes room within its budget, or did not take the entry in:
    /// others are asked for more often.
    Capacity,
    /// The entry was torn, foreign, of another schema or type.
    Refused,
}

impl Cause {
    /// The name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Capacity => "capacity",
            Self::Refused => "refused",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What was invalidated.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Extent<K> {
    /// One entry.
    Key(Arc<K>),
    /// All entries with this tag.
    Tag(Tag),
    /// All entries; they may still serve as stale.
    All,
    /// All entries, and nothing is left of them.
    Cleared,
}

impl<K> Clone for Extent<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Key(key) => Self::Key(Arc::clone(key)),
            Self::Tag(tag) => Self::Tag(tag.clone()),
            Self::All => Self::All,
            Self::Cleared => Self::Cleared,
        }
    }
}

/// What fails of a tier, apart from the rest of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Line {
    /// Reading.
    Reads,
    /// Writing.
    Writes,
    /// Removing.
    Removals,
    /// Everything: the tier itself says that it is away. Noticed, both ways, by
    /// the next call that goes there.
    Connection,
}

impl Line {
    /// The name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reads => "reads",
            Self::Writes => "writes",
            Self::Removals => "removals",
            Self::Connection => "connection",
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Who is told when a line of a tier fails, or works again.
type OnTurn = Box<dyn Fn(Line, bool) + Send + Sync>;

/// What the layers around a tier tell of it, and what they are told of the
/// cache that it is part of.
#[derive(Default)]
pub struct Signals {
    cache: OnceLock<Box<str>>,
    on_turn: OnceLock<OnTurn>,
    away: AtomicBool,
}

impl Signals {
    /// Says the name of the cache; the first one counts.
    pub fn set_cache(&self, name: &str) {
        let _first_counts = self.cache.set(name.into());
    }

    /// The name of the cache, empty before it is said.
    pub fn cache(&self) -> &str {
        self.cache.get().map_or("", |name| name)
    }

    /// Says who is told which line fails (false) and which works again (true);
    /// the first one counts. It must not block.
    pub fn set_on_turn(&self, told: impl Fn(Line, bool) + Send + Sync + 'static) {
        let _first_counts = self.on_turn.set(Box::new(told));
    }

    /// A line fails, or works again.
    pub fn turned(&self, line: Line, up: bool) {
        if let Some(told) = self.on_turn.get() {
            told(line, up);
        }
    }

    /// A call found the tier away, or there. Costs one load where nothing changed.
    pub fn seen(&self, away: bool) {
        if self.away.load(Ordering::Relaxed) != away && self.away.swap(away, Ordering::AcqRel) != away {
            self.turned(Line::Connection, !away);
        }
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals")
            .field("cache", &self.cache())
            .field("away", &self.away)
            .finish_non_exhaustive()
    }
}
