//! The decision: a pure function of facts, tiers and a view of what was learned.

use std::time::Duration;

use larder_core::place::{
    Access, Facts, Persistence, Placement, Reckoning, Selector, Sharing, SizeClass, TierFacts, TierList, Yield,
};
use larder_core::tier::TierKind;

use super::times::Cost;
use crate::selector::Table;

/// The numbers that were learned about entries like this one.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    /// Whether the cache has learned anything yet about what tiers beyond memory, or memory, save.
    pub(super) stored: Yield,
    pub(super) in_memory: Yield,
    /// The share of requests beyond memory that a tier which admits the entry would answer.
    pub(super) reuse: f64,
}

/// Another tier than the first of the table must take at most this share of its time.
const BETTER: f64 = 0.8;
/// Reserved bytes for the head of a frame, as in the table.
const HEAD_ROOM: u64 = 1 << 10;

const BY_TABLE: &str = "too little known: as the table says";
const MUST_STORE: &str = "the fastest of the tiers that may be its home";
const PAYS: &str = "a tier beyond memory saves more than its price";
const MEMORY_PAYS: &str = "only memory saves more than its price";
const PAYS_NOWHERE: &str = "it saves less than the price of its bytes anywhere";
const NO_TIER: &str = "storing it beyond memory does not pay";

/// Places an entry. `cost` returns the times of a tier for the entry.
pub(super) fn decide(
    facts: &Facts,
    tiers: &[TierFacts],
    view: &View,
    cost: impl Fn(TierKind) -> Cost,
) -> Placement {
    let base = Table.place(facts, tiers);
    let is_by_hint = facts.home.is_some_and(|home| home == base.home);
    if base.home == TierKind::Null || is_by_hint {
        return Placement { reckoning: None, ..base };
    }
    let choice = Choice { facts, tiers, base, view };
    choice.placement(cost)
}

struct Choice<'a> {
    facts: &'a Facts,
    tiers: &'a [TierFacts],
    base: Placement,
    view: &'a View,
}

impl Choice<'_> {
    fn placement(&self, cost: impl Fn(TierKind) -> Cost) -> Placement {
        let storage = self.fastest(&cost);
        let (home, rule) = self.home(storage);
        let at_home = match home {
            TierKind::Memory | TierKind::Null => Cost::default(),
            kind => cost(kind),
        };
        let time = |nanos: f64| Duration::from_nanos(nanos as u64);
        let reckoning = Reckoning {
            load: self.facts.load_cost,
            read: time(at_home.read),
            write: time(at_home.write),
            reuse_permille: (self.view.reuse * 1000.0) as u16,
            stored: self.view.stored,
            in_memory: self.view.in_memory,
        };
        let order = std::iter::once(self.base.home).chain(self.base.alternatives.iter());
        // An entry that does not pay beyond memory does not go there because memory refused it.
        let alternatives = match home {
            TierKind::Null => TierList::default(),
            TierKind::Memory if self.base.home != TierKind::Memory => TierList::default(),
            _ => order.filter(|kind| *kind != home).collect(),
        };
        let copy_in_memory = home != TierKind::Memory && home != TierKind::Null && self.copies(home);
        Placement { home, copy_in_memory, alternatives, rule, reckoning: Some(reckoning), ..self.base }
    }

    fn home(&self, storage: Option<TierKind>) -> (TierKind, &'static str) {
        let Some(storage) = storage else { return (self.base.home, self.base.rule) };
        if self.base.home != TierKind::Memory && self.must_store() {
            return (storage, MUST_STORE);
        }
        if self.facts.load_cost.is_none() || self.stays_in_memory() {
            return (self.base.home, self.base.rule);
        }
        let keeps = self.memory_takes();
        match self.view.stored.pays() {
            Some(true) => (storage, PAYS),
            None if self.base.home == TierKind::Memory => (TierKind::Memory, BY_TABLE),
            None => (storage, BY_TABLE),
            Some(false) if !keeps => (TierKind::Null, NO_TIER),
            Some(false) if self.view.in_memory.pays().unwrap_or(self.copies_by_table()) => {
                (TierKind::Memory, MEMORY_PAYS)
            }
            Some(false) => (TierKind::Null, PAYS_NOWHERE),
        }
    }

    /// Whether the entry is to be stored beyond memory, whatever that saves.
    fn must_store(&self) -> bool {
        self.facts.persistence == Persistence::LongTerm
            || self.facts.sharing != Sharing::Threads
            || self.facts.load_cost.is_none()
    }

    /// Whether a hint keeps a small entry in memory.
    fn stays_in_memory(&self) -> bool {
        let is_session = matches!(self.facts.persistence, Persistence::Session | Persistence::Ephemeral);
        self.base.home == TierKind::Memory && is_session
    }

    /// The tier beyond memory that takes the least time for a request. Where the entry is shared, the first.
    fn fastest(&self, cost: impl Fn(TierKind) -> Cost) -> Option<TierKind> {
        let order = std::iter::once(self.base.home).chain(self.base.alternatives.iter());
        let mut order = order.filter(|kind| !matches!(kind, TierKind::Memory | TierKind::Null));
        let first = order.next()?;
        if self.facts.sharing != Sharing::Threads {
            return Some(first);
        }
        let reuse = self.view.reuse;
        let time = |kind| {
            let Cost { read, write } = cost(kind);
            reuse * read + (1.0 - reuse) * write
        };
        let persists = |kind: &TierKind| self.facts.persistence != Persistence::LongTerm || self.persists(*kind);
        let best = order.filter(persists).map(|kind| (kind, time(kind))).min_by(|one, other| one.1.total_cmp(&other.1));
        Some(best.filter(|(_, taken)| *taken < time(first) * BETTER).map_or(first, |(kind, _)| kind))
    }

    fn persists(&self, kind: TierKind) -> bool {
        self.tiers.iter().any(|tier| tier.kind == kind && tier.capability.persistent)
    }

    fn memory_takes(&self) -> bool {
        let room = self.facts.bytes.saturating_add(HEAD_ROOM);
        let takes = |tier: &TierFacts| {
            tier.kind == TierKind::Memory && tier.healthy && tier.capability.frame_bytes_max >= room
        };
        self.tiers.iter().any(takes)
    }

    fn copies(&self, home: TierKind) -> bool {
        let is_coherent = self.tiers.iter().any(|tier| tier.kind == home && tier.coherent);
        if !is_coherent || !self.memory_takes() {
            return false;
        }
        match self.facts.access {
            Access::WriteHeavy => false,
            Access::Frequency if !self.facts.is_read => false,
            _ => self.view.in_memory.pays().unwrap_or(self.copies_by_table()),
        }
    }

    /// Whether the table copies entries of this size into memory.
    fn copies_by_table(&self) -> bool {
        let largest = match self.facts.access {
            Access::ReadHeavy => SizeClass::Large,
            _ => SizeClass::Medium,
        };
        self.facts.class() <= largest
    }
}
