//! The input and output of a selector: facts about entries and tiers, and placements.

mod hints;
pub mod kinds;
mod learning;

use std::fmt;
use std::time::Duration;

use crate::tier::{Capability, Position, TierKind};

pub use hints::{Access, EntryHints, Hint, HintSource, HintsUsed, Persistence, Sharing};
pub use learning::{LearnedFile, Lesson, Reckoning, Yield};

/// The kind of value that an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[non_exhaustive]
pub enum Kind {
    /// Anything else: records, enums, collections.
    Other = 0,
    /// One number, boolean or character.
    Scalar = 1,
    /// Text.
    Text = 2,
    /// A JSON document.
    Json = 3,
    /// Opaque bytes.
    Bytes = 4,
    /// An image, usually compressed already.
    Image = 5,
    /// Numbers of one width, one after another.
    Array = 6,
    /// A data frame: columns of arrays.
    Frame = 7,
    /// A trained model.
    Model = 8,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Other,
        Self::Scalar,
        Self::Text,
        Self::Json,
        Self::Bytes,
        Self::Image,
        Self::Array,
        Self::Frame,
        Self::Model,
    ];

    /// The kind in a frame; an unknown number reads as `Other`.
    pub(crate) fn from_byte(byte: u8) -> Self {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte).unwrap_or(Self::Other)
    }

    /// The lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Scalar => "scalar",
            Self::Text => "text",
            Self::Json => "json",
            Self::Bytes => "bytes",
            Self::Image => "image",
            Self::Array => "array",
            Self::Frame => "frame",
            Self::Model => "model",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Encoded sizes, in bytes, that separate the size classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Thresholds {
    /// Entries below this size are small. Default 10 KiB.
    pub small: u64,
    /// Entries below this size are medium. Default 1 MiB.
    pub medium: u64,
    /// Entries below this size are large, others very large. Default 100 MiB.
    pub large: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { small: 10 << 10, medium: 1 << 20, large: 100 << 20 }
    }
}

impl Thresholds {
    /// The size class of an encoding of `bytes` bytes.
    pub fn class(&self, bytes: u64) -> SizeClass {
        match bytes {
            _ if bytes < self.small => SizeClass::Small,
            _ if bytes < self.medium => SizeClass::Medium,
            _ if bytes < self.large => SizeClass::Large,
            _ => SizeClass::VeryLarge,
        }
    }
}

/// The size class of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SizeClass {
    /// Below 10 KiB by default.
    Small,
    /// Below 1 MiB by default.
    Medium,
    /// Below 100 MiB by default.
    Large,
    /// At least 100 MiB by default.
    VeryLarge,
}

impl SizeClass {
    /// The name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Medium => "medium",
            Self::Large => "large",
            Self::VeryLarge => "very large",
        }
    }
}

impl fmt::Display for SizeClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The facts about an entry that a selector decides by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Facts {
    /// Size of the encoding before compression, in bytes.
    pub bytes: u64,
    /// The kind of value.
    pub kind: Kind,
    /// The cost of the load, if it was measured.
    pub load_cost: Option<Duration>,
    /// The time to live, if one is set.
    pub ttl: Option<Duration>,
    /// How long it should outlive the process.
    pub persistence: Persistence,
    /// How it is used.
    pub access: Access,
    /// Who must see it.
    pub sharing: Sharing,
    /// The home that the entry, or else the cache, asks for.
    pub home: Option<TierKind>,
    /// The tier beyond memory that the entry was just read from: the placement decides only whether memory keeps
    /// a copy. `None` for a write.
    pub found: Option<TierKind>,
    /// A hash of the key, if it is known: the same for the same key as long as the cache lives.
    pub key: Option<u64>,
    /// The limits of the size classes.
    pub thresholds: Thresholds,
}

impl Facts {
    /// The facts of an entry of this size and kind, with defaults for the rest.
    pub fn new(bytes: u64, kind: Kind) -> Self {
        Self {
            bytes,
            kind,
            load_cost: None,
            ttl: None,
            persistence: Persistence::default(),
            access: Access::default(),
            sharing: Sharing::default(),
            home: None,
            found: None,
            key: None,
            thresholds: Thresholds::default(),
        }
    }

    /// The size class.
    pub fn class(&self) -> SizeClass {
        self.thresholds.class(self.bytes)
    }
}

/// The facts about a tier that a selector decides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TierFacts {
    /// The kind of storage.
    pub kind: TierKind,
    /// What the tier can do.
    pub capability: Capability,
    /// Whether copies of its entries in nearer tiers can be kept in step with it: no other process changes
    /// them, or this one learns of it.
    pub coherent: bool,
    /// Whether it works now.
    pub healthy: bool,
    /// Where a tier that the user brings stands; `None` for a built-in tier.
    pub position: Option<Position>,
}

impl TierFacts {
    /// The facts about memory that takes entries of up to `bytes_max`. It works.
    pub const fn of_memory(bytes_max: u64) -> Self {
        let capability = Capability {
            stores: true,
            persistent: false,
            shared: false,
            blocking: false,
            frame_bytes_max: bytes_max,
        };
        Self { kind: TierKind::Memory, capability, coherent: true, healthy: true, position: None }
    }
}

/// The most tiers of one cache that the user brings.
pub const OWN_TIERS_MAX: usize = 8;
/// The most tiers of one cache.
pub const TIERS_MAX: usize = TierKind::ALL.len() + OWN_TIERS_MAX;

/// A short list of tiers in order of preference, without an allocation.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct TierList {
    kinds: [Option<TierKind>; TIERS_MAX],
    len: u8,
}

impl TierList {
    /// Appends `kind`, unless the list holds it already or is full.
    pub fn push(&mut self, kind: TierKind) {
        if self.contains(kind) {
            return;
        }
        if let Some(slot) = self.kinds.get_mut(usize::from(self.len)) {
            *slot = Some(kind);
            self.len += 1;
        }
    }

    /// Whether the list holds `kind`.
    pub fn contains(&self, kind: TierKind) -> bool {
        self.iter().any(|held| held == kind)
    }

    /// The tiers, best first.
    pub fn iter(&self) -> impl Iterator<Item = TierKind> + '_ {
        self.kinds[..usize::from(self.len)].iter().filter_map(|slot| *slot)
    }

    /// The most preferred tier.
    pub fn first(&self) -> Option<TierKind> {
        self.kinds[0]
    }

    /// Adds tiers that the user brings to a list of built-in ones, each at its position. `lead` stays in front
    /// if it is the first of the list.
    #[must_use]
    pub fn with_own(
        self,
        lead: Option<TierKind>,
        own: impl Iterator<Item = (TierKind, Position)> + Clone,
    ) -> Self {
        let mut list = Self::default();
        let push_at = |list: &mut Self, wanted: Position| {
            let stands = |position: Position| position.among(|kind| self.contains(kind)) == wanted;
            own.clone().filter(|(_, position)| stands(*position)).for_each(|(kind, _)| list.push(kind));
        };
        let mut built_in = self.iter().peekable();
        built_in.next_if(|kind| lead == Some(*kind)).into_iter().for_each(|lead| list.push(lead));
        push_at(&mut list, Position::First);
        for kind in built_in {
            push_at(&mut list, Position::Before(kind));
            list.push(kind);
            push_at(&mut list, Position::After(kind));
        }
        push_at(&mut list, Position::Last);
        list
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.first().is_none()
    }
}

impl FromIterator<TierKind> for TierList {
    fn from_iter<I: IntoIterator<Item = TierKind>>(kinds: I) -> Self {
        let mut list = Self::default();
        kinds.into_iter().for_each(|kind| list.push(kind));
        list
    }
}

impl fmt::Debug for TierList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Where an entry is stored, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The tier that owns the entry; [`TierKind::Null`] if no tier accepts it.
    pub home: TierKind,
    /// Whether memory keeps a copy if it is not the home.
    pub copy_in_memory: bool,
    /// The tiers to use if the home fails, in order.
    pub alternatives: TierList,
    /// The rule that decided, as text for people.
    pub rule: &'static str,
    /// A warning for the user about this placement.
    pub warning: Option<&'static str>,
    /// The numbers that decided, of a selector that measures.
    pub reckoning: Option<Reckoning>,
}

impl Placement {
    /// The placement of an entry that memory cannot hold: there is no copy, and if memory is the home, the first
    /// alternative takes its place. Unchanged if there is none.
    #[must_use]
    pub fn beyond_memory(self) -> Self {
        let mut others = self.alternatives.iter().filter(|kind| *kind != TierKind::Memory);
        let home = match self.home {
            TierKind::Memory => others.next(),
            home => Some(home),
        };
        let Some(home) = home else { return self };
        let rule = if home == self.home {
            self.rule
        } else {
            "an alternative, because memory cannot hold the entry"
        };
        Self { home, copy_in_memory: false, alternatives: others.collect(), rule, ..self }
    }

    /// The placement of an entry that may only be in memory.
    pub const MEMORY_ONLY: Self = Self {
        home: TierKind::Memory,
        copy_in_memory: false,
        alternatives: TierList { kinds: [None; TIERS_MAX], len: 0 },
        rule: "memory is the only tier",
        warning: None,
        reckoning: None,
    };

    /// Whether memory holds the entry, as home or as a copy.
    pub fn in_memory(&self) -> bool {
        self.home == TierKind::Memory || self.copy_in_memory
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.home)?;
        if self.copy_in_memory {
            f.write_str(" (copy in memory)")?;
        }
        write!(f, ": {}", self.rule)?;
        if let Some(reckoning) = &self.reckoning {
            write!(f, " ({reckoning})")?;
        }
        match self.warning {
            Some(warning) => write!(f, "; {warning}"),
            None => Ok(()),
        }
    }
}

/// Decides where entries live.
///
/// # Behavior
/// - A pure function: the same facts and tiers give the same placement, until it [learns](Self::learn).
/// - Names as home only a tier of `tiers` that is healthy, or
///   [`TierKind::Null`] when no tier may hold the entry.
/// - Does no I/O, takes no lock, never panics. It runs once a write, and once a
///   hit beyond memory.
///
/// A selector that sends everything above 64 KiB to files:
///
/// ```
/// use larder_core::place::{Facts, Placement, Selector, TierFacts};
/// use larder_core::tier::TierKind;
///
/// struct FilesFirst;
///
/// impl Selector for FilesFirst {
///     fn place(&self, facts: &Facts, tiers: &[TierFacts]) -> Placement {
///         let wanted = if facts.bytes > 64 << 10 { TierKind::File } else { TierKind::Memory };
///         let found = tiers.iter().any(|tier| tier.kind == wanted && tier.healthy);
///         Placement {
///             home: if found { wanted } else { TierKind::Null },
///             copy_in_memory: false,
///             rule: "files above 64 KiB",
///             ..Placement::MEMORY_ONLY
///         }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a selector",
    label = "does not implement `larder::Selector`",
    note = "a selector is a type with the function `place`, not a closure; `larder::Table` is the default one"
)]
pub trait Selector: Send + Sync + 'static {
    /// Returns the placement of an entry with these facts among these tiers.
    fn place(&self, facts: &Facts, tiers: &[TierFacts]) -> Placement;

    /// Whether [`learn`](Self::learn) is to be called. Asked once a cache. Default: it is not.
    fn learns(&self) -> bool {
        false
    }

    /// Learns from what happened. Later placements may depend on it.
    ///
    /// # Behavior
    /// - Bounded in memory and in time, does no I/O, never panics. It runs after each read and write of a
    ///   tier, and may run for a hit in memory.
    fn learn(&self, lesson: Lesson<'_>) {
        let _unused = lesson;
    }

    /// What it has learned, as bytes for [`restore`](Self::restore); `None` if it learns nothing.
    fn snapshot(&self) -> Option<Vec<u8>> {
        None
    }

    /// Takes over what a former selector of this type had learned. Returns whether the bytes were a snapshot
    /// of this type and whole; if not, nothing changes.
    fn restore(&self, snapshot: &[u8]) -> bool {
        let _unused = snapshot;
        false
    }
}
