//! The default selector: filters, then one table.

use std::time::Duration;

use larder_core::place::{
    Access, Facts, Kind, Persistence, Placement, Selector, Sharing, SizeClass, TierFacts, TierList,
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
        let filtered = Filtered::new(facts, tiers);
        let row = row(facts);
        let is_here = |kind: &TierKind| tiers.iter().any(|tier| tier.kind == *kind);
        let own = tiers.iter().filter_map(|tier| Some((tier.kind, tier.position?)));
        // Memory stays in front of own tiers where it leads the row, not where it is all that is left of it.
        let lead = row.order.first().copied().filter(|kind| *kind == TierKind::Memory);
        let order = row.order.iter().copied().filter(is_here).collect::<TierList>().with_own(lead, own);
        let homes: TierList = order.iter().filter(|kind| filtered.allowed.contains(*kind)).collect();
        let asked = facts.home.filter(|home| filtered.usable.contains(*home));
        let rule = if asked.is_some() { "a hint names this home" } else { row.rule };
        let mut homes = asked.into_iter().chain(homes.iter());
        let Some(home) = homes.next() else {
            return nowhere(&filtered);
        };
        Placement {
            home,
            copy_in_memory: home != TierKind::Memory
                && !filtered.mute.contains(home)
                && copies(facts, &filtered),
            alternatives: homes
                .chain(order.iter().filter(|kind| filtered.unshared.contains(*kind)))
                .filter(|kind| *kind != home)
                .collect(),
            rule,
            warning: if facts.home == asked { filtered.warning } else { Some(HOME_REFUSES) },
            reckoning: None,
        }
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

/// The tiers that are left after filtering.
struct Filtered {
    /// Tiers that work and are large enough.
    usable: TierList,
    /// Usable tiers that also fit the hints.
    allowed: TierList,
    /// Tiers that other processes change without a notice: memory could not tell that a
    /// copy is outdated.
    mute: TierList,
    /// Tiers that are not shared, for a distributed entry: if every shared tier refuses it, an entry that
    /// other nodes cannot see is better than none.
    unshared: TierList,
    warning: Option<&'static str>,
}

impl Filtered {
    fn new(facts: &Facts, tiers: &[TierFacts]) -> Self {
        let fits = |tier: &&TierFacts| {
            let room = tier.capability.frame_bytes_max >= facts.bytes.saturating_add(HEAD_ROOM);
            tier.healthy && tier.capability.stores && room
        };
        let usable: TierList = tiers.iter().filter(fits).map(|tier| tier.kind).collect();
        // Another process sees an entry only if it is in a file.
        let file_min = if facts.sharing == Sharing::Processes { 0 } else { FILE_BYTES_MIN };
        let fitting: TierList =
            usable.iter().filter(|kind| *kind != TierKind::File || facts.bytes >= file_min).collect();
        let by = |want: fn(&TierFacts) -> bool| -> TierList {
            tiers
                .iter()
                .filter(|tier| fitting.contains(tier.kind) && want(tier))
                .map(|tier| tier.kind)
                .collect()
        };
        let is_shared = tiers.iter().any(|tier| tier.capability.shared);
        let beyond_shared = facts.sharing == Sharing::Distributed && facts.class() > SizeClass::Medium;
        let (allowed, warning) = match (facts.sharing, facts.persistence) {
            _ if beyond_shared => {
                let (allowed, _) = or_all(by(|tier| tier.kind != TierKind::Redis), fitting, "");
                (allowed, Some("too large to be distributed: other machines do not see it"))
            }
            // In another tier it could not be told from a later write of another process.
            (Sharing::Processes, _) if is_shared => (by(|tier| tier.capability.shared), None),
            (Sharing::Processes | Sharing::Distributed, _) => or_all(
                by(|tier| tier.capability.shared),
                fitting,
                "no shared tier takes it: others do not see it",
            ),
            (_, Persistence::LongTerm) => {
                or_all(by(|tier| tier.capability.persistent), fitting, "no tier that persists takes it")
            }
            (_, Persistence::Ephemeral) => {
                let (allowed, _) = or_all(by(|tier| !tier.capability.persistent), fitting, "");
                (allowed, None)
            }
            _ => (fitting, None),
        };
        let unshared = match facts.sharing {
            Sharing::Distributed => by(|tier| !tier.capability.shared),
            _ => TierList::default(),
        };
        let mute = tiers.iter().filter(|tier| !tier.coherent).map(|tier| tier.kind).collect();
        Self { usable, allowed, mute, unshared, warning }
    }
}

/// Returns the preferred tiers, or all of them with a warning if there are none.
fn or_all(preferred: TierList, all: TierList, warning: &'static str) -> (TierList, Option<&'static str>) {
    if preferred.is_empty() { (all, Some(warning)) } else { (preferred, None) }
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
fn copies(facts: &Facts, filtered: &Filtered) -> bool {
    if !filtered.usable.contains(TierKind::Memory) {
        return false;
    }
    match facts.access {
        Access::WriteHeavy => false,
        Access::ReadHeavy => facts.class() <= SizeClass::Large,
        Access::Frequency => facts.is_read && facts.class() <= SizeClass::Medium,
        _ => facts.class() <= SizeClass::Medium,
    }
}
