//! The default selector: filters, then one table.

use std::time::Duration;

use larder_core::place::{
    Access, Facts, Kind, Persistence, Placement, Selector, Sharing, SizeClass, TIERS_MAX, TierFacts, TierList,
};
use larder_core::tier::TierKind;

/// The selector of every cache that sets none.
///
/// First it filters the tiers by a requested home, sharing, persistence, health and hard
/// size limits. Then one table of kind by size orders the rest. The first tier is the
/// home; the others are the alternatives. [The page on routing][page] shows the table.
///
/// [page]: https://github.com/larder-rs/larder/blob/main/docs/routing.md
#[derive(Clone, Copy, Debug, Default)]
pub struct Table;

/// An entry whose load took longer belongs in a tier that survives the process.
const COSTLY: Duration = Duration::from_millis(1);
/// Smaller entries get no file of their own, unless the cache asks for it.
const FILE_BYTES_MIN: u64 = 1 << 10;
/// Images and other opaque bytes of at least this size go to files.
const OPAQUE_TO_FILE: u64 = 64 << 10;
/// Text counts as small up to this many times the small size.
const TEXT_STRETCH: u64 = 4;
const HOME_REFUSES: &str = "the home that a hint names cannot take it";
/// Reserved bytes for the head of a frame in a tier with a hard size limit.
const HEAD_ROOM: u64 = 1 << 10;

impl Selector for Table {
    fn place(&self, facts: &Facts, tiers: &[TierFacts]) -> Placement {
        let sets = Sets::new(facts, tiers);
        let filtered = Filtered::new(facts, &sets);
        let row = row(facts);
        let asked =
            facts.home.and_then(|home| Set::of_kind(tiers, home)).filter(|home| home.meets(filtered.usable));
        let rule = if asked.is_some() { "a hint names this home" } else { row.rule };
        // Most writes have one tier to go to.
        let order = match filtered.usable.is_one() {
            true => Order::of(std::iter::once(filtered.usable)),
            false => Order::new(&row, &sets, tiers),
        };
        let Some(home) = asked.or_else(|| order.iter().find(|tier| tier.meets(filtered.allowed))) else {
            return nowhere(&filtered);
        };
        let mut alternatives = TierList::default();
        for set in [filtered.allowed, filtered.unshared] {
            let others = order.iter().filter(|tier| tier.meets(set) && !tier.meets(home));
            others.for_each(|tier| alternatives.push(tiers[tier.first()].kind));
        }
        let home_kind = tiers[home.first()].kind;
        Placement {
            home: home_kind,
            copy_in_memory: home_kind != TierKind::Memory
                && !home.meets(filtered.mute)
                && sets.memory.meets(filtered.usable)
                && copies(facts),
            alternatives,
            rule,
            warning: if facts.home.is_none() || asked.is_some() {
                filtered.warning
            } else {
                Some(HOME_REFUSES)
            },
            reckoning: None,
        }
    }
}

/// The tiers of a cache in the order of a row, with those that the user brings.
struct Order {
    tiers: [Set; TIERS_MAX],
    len: usize,
}

impl Order {
    fn new(row: &Row, sets: &Sets, tiers: &[TierFacts]) -> Self {
        let built_in = row.order.iter().map(|kind| sets.of_kind(*kind)).filter(|set| *set != Set::EMPTY);
        if sets.own == Set::EMPTY {
            return Self::of(built_in);
        }
        // Memory stays in front of own tiers where it leads the row, not where it is all that is left of it.
        let lead = row.order.first().copied().filter(|kind| *kind == TierKind::Memory);
        let built_in: TierList = built_in.map(|tier| tiers[tier.first()].kind).collect();
        let list = built_in.with_own(lead, tiers.iter().filter_map(|tier| Some((tier.kind, tier.position?))));
        Self::of(list.iter().filter_map(|kind| Set::of_kind(tiers, kind)))
    }

    fn of(sets: impl Iterator<Item = Set>) -> Self {
        let mut order = Self { tiers: [Set::EMPTY; TIERS_MAX], len: 0 };
        for (slot, set) in order.tiers.iter_mut().zip(sets) {
            *slot = set;
            order.len += 1;
        }
        order
    }

    /// The tiers, each as a set of one.
    fn iter(&self) -> impl Iterator<Item = Set> + '_ {
        self.tiers[..self.len].iter().copied()
    }
}

fn nowhere(filtered: &Filtered) -> Placement {
    Placement {
        home: TierKind::Null,
        copy_in_memory: false,
        alternatives: TierList::default(),
        rule: "no tier may hold an entry of this size and these hints",
        warning: filtered.warning,
        reckoning: None,
    }
}

/// A set of the tiers of a cache: a bit for each position in their list.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Set(u32);

const _: () = assert!(TIERS_MAX < u32::BITS as usize);

impl Set {
    const EMPTY: Self = Self(0);

    /// Adds the tier at this position, if it is in the set.
    fn add_if(&mut self, is_in: bool, at: usize) {
        self.0 |= u32::from(is_in) << at;
    }

    /// Whether the set has exactly one tier.
    fn is_one(self) -> bool {
        self.0.is_power_of_two()
    }

    /// The set of the tier of this kind.
    fn of_kind(tiers: &[TierFacts], kind: TierKind) -> Option<Self> {
        tiers.iter().position(|tier| tier.kind == kind).map(|at| Self(1 << at))
    }

    /// Whether both have a tier in common.
    fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The position of the first tier of a set that is not empty.
    fn first(self) -> usize {
        self.0.trailing_zeros() as usize
    }

    fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// What the tiers are, found in one pass over them.
#[derive(Default)]
struct Sets {
    usable: Set,
    persistent: Set,
    shared: Set,
    mute: Set,
    memory: Set,
    disk: Set,
    files: Set,
    redis: Set,
    /// Those that the user brings.
    own: Set,
}

impl Sets {
    fn new(facts: &Facts, tiers: &[TierFacts]) -> Self {
        let (mut sets, bytes) = (Self::default(), facts.bytes.saturating_add(HEAD_ROOM));
        for (at, TierFacts { kind, capability, coherent, healthy, position }) in tiers.iter().enumerate() {
            let has_room = capability.frame_bytes_max >= bytes;
            sets.usable.add_if(*healthy && capability.stores && has_room, at);
            sets.persistent.add_if(capability.persistent, at);
            sets.shared.add_if(capability.shared, at);
            sets.mute.add_if(!coherent, at);
            sets.own.add_if(position.is_some(), at);
            match kind {
                TierKind::Memory => sets.memory.add_if(true, at),
                TierKind::Disk => sets.disk.add_if(true, at),
                TierKind::File => sets.files.add_if(true, at),
                TierKind::Redis => sets.redis.add_if(true, at),
                _ => {}
            }
        }
        sets
    }

    /// The tier of this built-in kind.
    fn of_kind(&self, kind: TierKind) -> Set {
        match kind {
            TierKind::Memory => self.memory,
            TierKind::Disk => self.disk,
            TierKind::File => self.files,
            TierKind::Redis => self.redis,
            _ => Set::EMPTY,
        }
    }
}

/// The tiers that are left after filtering.
struct Filtered {
    /// Tiers that work and are large enough.
    usable: Set,
    /// Usable tiers that also fit the hints.
    allowed: Set,
    /// Tiers that other processes change without a notice: memory could not tell that a
    /// copy is outdated.
    mute: Set,
    /// Tiers that are not shared, for a distributed entry: if every shared tier refuses it, an entry that
    /// other nodes cannot see is better than none.
    unshared: Set,
    warning: Option<&'static str>,
}

impl Filtered {
    fn new(facts: &Facts, sets: &Sets) -> Self {
        let Sets { usable, persistent, shared, mute, files, redis, .. } = *sets;
        // Another process sees an entry only if it is in a file.
        let file_min = if facts.sharing == Sharing::Processes { 0 } else { FILE_BYTES_MIN };
        let fitting = if facts.bytes >= file_min { usable } else { usable.without(files) };
        let beyond_shared = facts.sharing == Sharing::Distributed && facts.class() > SizeClass::Medium;
        let (allowed, warning) = match (facts.sharing, facts.persistence) {
            _ if beyond_shared => {
                let (allowed, _) = or_all(fitting.without(redis), fitting, "");
                (allowed, Some("too large to be distributed: other machines do not see it"))
            }
            // In another tier it could not be told from a later write of another process.
            (Sharing::Processes, _) if shared != Set::EMPTY => (fitting.and(shared), None),
            (Sharing::Processes | Sharing::Distributed, _) => {
                or_all(fitting.and(shared), fitting, "no shared tier takes it: others do not see it")
            }
            (_, Persistence::LongTerm) => {
                or_all(fitting.and(persistent), fitting, "no tier that persists takes it")
            }
            (_, Persistence::Ephemeral) => {
                let (allowed, _) = or_all(fitting.without(persistent), fitting, "");
                (allowed, None)
            }
            _ => (fitting, None),
        };
        let unshared = match facts.sharing {
            Sharing::Distributed => fitting.without(shared),
            _ => Set::EMPTY,
        };
        Self { usable, allowed, mute, unshared, warning }
    }
}

/// Returns the preferred tiers, or all of them with a warning if there are none.
fn or_all(preferred: Set, all: Set, warning: &'static str) -> (Set, Option<&'static str>) {
    if preferred == Set::EMPTY { (all, Some(warning)) } else { (preferred, None) }
}

/// A row of the table: the tiers in order, and the name of the rule.
struct Row {
    order: &'static [TierKind],
    rule: &'static str,
}

const fn row_of(order: &'static [TierKind], rule: &'static str) -> Row {
    Row { order, rule }
}

use TierKind::{Disk, File, Memory, Redis};

const NEAR: &[TierKind] = &[Memory, Disk, File, Redis];
const ON_DISK: &[TierKind] = &[Disk, File, Redis, Memory];
const IN_FILE: &[TierKind] = &[File, Disk, Redis, Memory];
const SHARED: &[TierKind] = &[Redis, File, Disk, Memory];

fn row(facts: &Facts) -> Row {
    if facts.sharing == Sharing::Distributed && facts.class() <= SizeClass::Medium {
        return row_of(SHARED, "distributed and below the large size: shared tier");
    }
    match facts.class() {
        SizeClass::Small => small(facts),
        SizeClass::Medium => medium(facts),
        SizeClass::Large => row_of(IN_FILE, "large: file"),
        SizeClass::VeryLarge => row_of(IN_FILE, "very large: file"),
    }
}

fn small(facts: &Facts) -> Row {
    if facts.persistence == Persistence::LongTerm {
        return row_of(ON_DISK, "small and to persist: disk");
    }
    if matches!(facts.persistence, Persistence::Ephemeral | Persistence::Session) {
        return row_of(NEAR, "small and not to outlive the process: memory");
    }
    if facts.load_cost.is_some_and(|cost| cost > COSTLY) {
        return row_of(ON_DISK, "small, and cost more than 1 ms to load: disk");
    }
    match facts.kind {
        Kind::Json => row_of(ON_DISK, "JSON: disk"),
        _ => row_of(NEAR, "small: memory"),
    }
}

fn medium(facts: &Facts) -> Row {
    match facts.kind {
        Kind::Scalar => small(facts),
        Kind::Text if facts.bytes < facts.thresholds.small.saturating_mul(TEXT_STRETCH) => small(facts),
        Kind::Image | Kind::Bytes if facts.bytes >= OPAQUE_TO_FILE => {
            row_of(IN_FILE, "opaque bytes from 64 KiB on: file")
        }
        Kind::Array | Kind::Frame | Kind::Model => row_of(IN_FILE, "numbers of medium size: file"),
        _ => row_of(ON_DISK, "medium: disk"),
    }
}

/// Whether memory keeps a copy of an entry with another home.
fn copies(facts: &Facts) -> bool {
    match facts.access {
        Access::WriteHeavy => false,
        Access::ReadHeavy => facts.class() <= SizeClass::Large,
        Access::Frequency => facts.found.is_some() && facts.class() <= SizeClass::Medium,
        _ => facts.class() <= SizeClass::Medium,
    }
}
