//! Events of a cache, delivered to a listener.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::ErrorKind;
use crate::entry_meta::Tag;
use crate::tier::TierKind;

/// An event of a cache.
///
/// Keys are the native ones. An event is emitted after the change, and the entry may have changed again by
/// then. The events of one key come in the order of the changes. Evictions from memory are emitted when
/// memory makes room, which may be later.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<K> {
    /// An entry was stored.
    Inserted {
        /// Its key.
        key: Arc<K>,
        /// The tier that stores it; an alternative if its home refused it.
        home: TierKind,
        /// Whether a caller or a load stored it.
        by: Writer,
    },
    /// A tier evicted entries by itself.
    Evicted {
        /// The key; `None` if a byte tier evicted many entries at once.
        key: Option<Arc<K>>,
        /// The number of entries.
        count: u64,
        /// The tier that evicted them. A copy in memory is not the entry itself: see `home`.
        tier: TierKind,
        /// The tier that owns the entry. If it equals `tier`, the entry is lost.
        home: TierKind,
        /// The size of the entries in bytes, as the tier accounts for it. `None` if memory counts entries
        /// alone, and for a tier that evicted many entries at once.
        bytes: Option<u64>,
        /// The reason.
        cause: Cause,
    },
    /// A tier dropped an entry that was past its deadline or was invalidated with others. Emitted when the
    /// tier notices it: at a look-up, a write, a sweep.
    Expired {
        /// Its key.
        key: Arc<K>,
        /// The tier that held it.
        tier: TierKind,
    },
    /// An entry that was read from a lower tier was copied into memory.
    Promoted {
        /// Its key.
        key: Arc<K>,
        /// The tier that held it.
        from: TierKind,
    },
    /// A write moved an entry from one home to another.
    Moved {
        /// Its key.
        key: Arc<K>,
        /// The former home.
        from: TierKind,
        /// The new home.
        to: TierKind,
    },
    /// An entry that was read is sealed by a key that the cache does not have. It counts as a miss, and stays.
    Unopened {
        /// Its key.
        key: Arc<K>,
        /// The tier that has it.
        tier: TierKind,
    },
    /// A caller removed an entry.
    Removed {
        /// Its key.
        key: Arc<K>,
    },
    /// A caller invalidated one entry or many, or another node changed an entry of which memory held a copy.
    Invalidated(Extent<K>),
    /// A tier fails, and is not called for a while.
    TierDown {
        /// The tier.
        tier: TierKind,
        /// The operations that fail.
        line: Line,
    },
    /// A tier works again.
    TierUp {
        /// The tier.
        tier: TierKind,
        /// The operations that work again.
        line: Line,
    },
    /// A tier reports why it cannot be used: its server is unreachable, or forbids a required command, which
    /// is named. Emitted once, when the cache is built or at the next write that notices.
    TierUnusable {
        /// The tier.
        tier: TierKind,
        /// The reason, as a sentence.
        why: Arc<str>,
    },
    /// A removal or write that a tier had missed was applied later.
    Repaired {
        /// The key; `None` if the whole tier was emptied.
        key: Option<Arc<K>>,
        /// The tier.
        tier: TierKind,
    },
    /// A write was abandoned: no tier holds its value. For a write that was kept for a retry: other nodes had
    /// changed the entry by then, and their change stays.
    Dropped {
        /// Its key.
        key: Arc<K>,
        /// The kind of error that prevented it.
        why: ErrorKind,
    },
    /// The listener was too slow: this many events before the next one were discarded.
    Missed {
        /// The number of events.
        count: u64,
    },
}

// A derived `Clone` would require `K: Clone`.
impl<K> Clone for Event<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Inserted { key, home, by } => Self::Inserted { key: Arc::clone(key), home: *home, by: *by },
            Self::Evicted { key, count, tier, home, bytes, cause } => Self::Evicted {
                key: key.clone(),
                count: *count,
                tier: *tier,
                home: *home,
                bytes: *bytes,
                cause: *cause,
            },
            Self::Expired { key, tier } => Self::Expired { key: Arc::clone(key), tier: *tier },
            Self::Promoted { key, from } => Self::Promoted { key: Arc::clone(key), from: *from },
            Self::Moved { key, from, to } => Self::Moved { key: Arc::clone(key), from: *from, to: *to },
            Self::Unopened { key, tier } => Self::Unopened { key: Arc::clone(key), tier: *tier },
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
    /// Maps the keys of the event; `None` if a key has no counterpart.
    pub fn map_key<L>(self, map: impl Fn(Arc<K>) -> Option<Arc<L>>) -> Option<Event<L>> {
        Some(match self {
            Self::Inserted { key, home, by } => Event::Inserted { key: map(key)?, home, by },
            Self::Evicted { key, count, tier, home, bytes, cause } => {
                Event::Evicted { key: key.and_then(map), count, tier, home, bytes, cause }
            }
            Self::Expired { key, tier } => Event::Expired { key: map(key)?, tier },
            Self::Promoted { key, from } => Event::Promoted { key: map(key)?, from },
            Self::Moved { key, from, to } => Event::Moved { key: map(key)?, from, to },
            Self::Unopened { key, tier } => Event::Unopened { key: map(key)?, tier },
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

    /// The name of the event, in lower case.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Inserted { .. } => "inserted",
            Self::Evicted { .. } => "evicted",
            Self::Expired { .. } => "expired",
            Self::Promoted { .. } => "promoted",
            Self::Moved { .. } => "moved",
            Self::Unopened { .. } => "unopened",
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

    /// The key, if the event concerns one.
    pub fn key(&self) -> Option<&K> {
        match self {
            Self::Inserted { key, .. }
            | Self::Expired { key, .. }
            | Self::Promoted { key, .. }
            | Self::Moved { key, .. }
            | Self::Unopened { key, .. }
            | Self::Removed { key }
            | Self::Dropped { key, .. }
            | Self::Invalidated(Extent::Key(key)) => Some(key),
            Self::Evicted { key, .. } | Self::Repaired { key, .. } => key.as_deref(),
            _ => None,
        }
    }
}

/// The origin of a stored entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Writer {
    /// A caller stored it.
    Caller,
    /// A load stored it.
    Load,
}

/// Why a tier evicted an entry by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The tier made room within its budget, or did not admit the entry because others are used more often.
    Capacity,
    /// The entry was torn, foreign, not authentic, or of another schema or type.
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

/// The entries that were invalidated.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Extent<K> {
    /// One entry.
    Key(Arc<K>),
    /// All entries with this tag.
    Tag(Tag),
    /// All entries; they may still be served as stale.
    All,
    /// All entries, removed for good.
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

/// A group of operations of a tier that fails or works independently of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Line {
    /// Reading.
    Reads,
    /// Writing.
    Writes,
    /// Removing.
    Removals,
    /// Everything: the tier reports that it is disconnected. The next call to the tier notices both the loss
    /// and the return.
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

/// Called when a group of operations of a tier fails (false) or works again (true).
type OnTurn = Box<dyn Fn(Line, bool) + Send + Sync>;

/// The channel between a cache and the layers around one of its tiers: the layers report failures and
/// recoveries, the cache gives its name.
#[derive(Default)]
pub struct Signals {
    cache: OnceLock<Box<str>>,
    on_turn: OnceLock<OnTurn>,
    away: AtomicBool,
}

impl Signals {
    /// Sets the name of the cache; only the first call takes effect.
    pub fn set_cache(&self, name: &str) {
        let _first_counts = self.cache.set(name.into());
    }

    /// The name of the cache; empty before it is set.
    pub fn cache(&self) -> &str {
        self.cache.get().map_or("", |name| name)
    }

    /// Sets the callback for operations that fail (false) or work again (true); only the first call takes
    /// effect. It must not block.
    pub fn set_on_turn(&self, told: impl Fn(Line, bool) + Send + Sync + 'static) {
        let _first_counts = self.on_turn.set(Box::new(told));
    }

    /// Reports that a group of operations fails, or works again.
    pub fn turned(&self, line: Line, up: bool) {
        if let Some(told) = self.on_turn.get() {
            told(line, up);
        }
    }

    /// Reports whether a call found the tier disconnected. Costs one atomic load if nothing changed.
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
