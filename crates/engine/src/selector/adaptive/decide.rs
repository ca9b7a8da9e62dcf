//! The decision: a pure function of facts, tiers and a view of what was learned.

use std::time::Duration;

use larder_core::place::{
    Access, Facts, Persistence, Placement, Reckoning, Selector, Sharing, SizeClass, TierFacts, TierList,
    Yield,
};
use larder_core::tier::TierKind;

use super::times::Cost;
use crate::selector::Table;

/// The numbers that were learned about entries like this one.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    /// Nanoseconds that the requests to come must save for each byte beyond memory.
    pub(super) stored: f64,
    /// Nanoseconds that a hit must save for each byte in memory, times the count of the key.
    pub(super) memory: f64,
    /// Further requests for the key that are expected beyond memory.
    pub(super) requests: f64,
    /// How often the key was requested lately, this request included.
    pub(super) count: f64,
    /// Whether enough requests are known.
    pub(super) is_known: bool,
}

/// Another tier than the first of the table, or than the one that has the entry, must take at most this share
/// of its time.
const BETTER: f64 = 0.8;
/// An entry moves to another tier if that saves so many times what the write takes.
const MOVE: f64 = 2.0;
/// Bytes that an entry has beside its payload: the head of a frame, and about as many in memory.
pub(super) const HEAD: f64 = 128.0;
/// Reserved bytes for the head of a frame, as in the table.
const HEAD_ROOM: u64 = 1 << 10;

const MUST_STORE: &str = "the fastest of the tiers that may be its home";
const PAYS: &str = "a tier beyond memory saves more than the price of its bytes";
const MEMORY_ALONE: &str = "it does not pay beyond memory: memory alone";
const NOWHERE: &str = "it pays neither beyond memory nor in memory";
const STAYS: &str = "the tier that has it";
const MOVES: &str = "a faster tier than the one that has it";

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
    match facts.found {
        Some(kind) => choice.of_read(kind, cost),
        None => choice.of_write(cost),
    }
}

/// Whether the entry is to be stored beyond memory, whatever that saves.
pub(super) fn must_store(facts: &Facts) -> bool {
    facts.persistence == Persistence::LongTerm
        || facts.sharing != Sharing::Threads
        || facts.load_cost.is_none()
}

/// Whether a tier saves more by the entry than the write takes, and than the price of its bytes. `None` for an
/// entry without a load cost.
pub(super) fn pays(facts: &Facts, view: &View, Cost { read, write }: Cost) -> Option<bool> {
    let load = facts.load_cost?.as_nanos() as f64;
    let is_worth_a_write = view.requests * (load - read) > write;
    Some(is_worth_a_write && saved_per_byte(load - read, facts.bytes) * view.requests >= view.stored)
}

/// Nanoseconds that a hit, which takes so much less time, saves for each byte of the entry.
pub(super) fn saved_per_byte(saved: f64, bytes: u64) -> f64 {
    saved.max(0.0) / (bytes as f64 + HEAD)
}

struct Choice<'a> {
    facts: &'a Facts,
    tiers: &'a [TierFacts],
    base: Placement,
    view: &'a View,
}

impl Choice<'_> {
    fn of_write(&self, cost: impl Fn(TierKind) -> Cost) -> Placement {
        let storage = self.fastest(&cost);
        let (home, rule) = self.home(storage.map(|kind| pays(self.facts, self.view, cost(kind))));
        let home = home.or(storage).unwrap_or(TierKind::Null);
        let alternatives = match rule {
            // An entry that does not pay beyond memory does not go there because memory refused it.
            MEMORY_ALONE | NOWHERE => TierList::default(),
            _ => self.order().filter(|kind| *kind != home).collect(),
        };
        let is_beyond = !matches!(home, TierKind::Memory | TierKind::Null);
        let at_home = if is_beyond { cost(home) } else { Cost::default() };
        let reckoning = self.reckoning(at_home, storage.map(cost));
        let copy_in_memory = is_beyond && self.copies(home, at_home.read);
        Placement { home, copy_in_memory, alternatives, rule, reckoning, ..self.base }
    }

    /// The placement of an entry that was read from this tier.
    fn of_read(&self, kind: TierKind, cost: impl Fn(TierKind) -> Cost) -> Placement {
        let here = cost(kind);
        let (home, rule) = match self.faster_than(kind, here, &cost) {
            Some(faster) => (faster, MOVES),
            None => (kind, STAYS),
        };
        let copy_in_memory = home == kind && self.copies(kind, here.read);
        let reckoning = self.reckoning(cost(home), Some(here));
        Placement { home, copy_in_memory, alternatives: TierList::default(), rule, reckoning, ..self.base }
    }

    /// The home and the rule, if the tier beyond memory pays or not; `None` for that tier.
    fn home(&self, pays: Option<Option<bool>>) -> (Option<TierKind>, &'static str) {
        let by_table = (Some(self.base.home), self.base.rule);
        let is_near = self.base.home == TierKind::Memory;
        if pays.is_some() && !is_near && must_store(self.facts) {
            return (None, MUST_STORE);
        }
        let stays_by_hint = is_near && self.facts.persistence != Persistence::Auto;
        let Some(load) = self.facts.load_cost.filter(|_| !stays_by_hint) else { return by_table };
        let load = load.as_nanos() as f64;
        let worth = |saved| self.is_worth_memory(saved).unwrap_or_else(|| self.copies_by_table());
        match pays.flatten() {
            // Nothing is known yet of what is requested again.
            _ if !self.view.is_known && is_near => by_table,
            Some(true) => (None, PAYS),
            None if !is_near || self.is_worth_memory(load) != Some(false) => by_table,
            Some(false) if self.memory_takes() && worth(load) => (Some(TierKind::Memory), MEMORY_ALONE),
            _ => (Some(TierKind::Null), NOWHERE),
        }
    }

    fn reckoning(&self, at_home: Cost, stored: Option<Cost>) -> Option<Reckoning> {
        let View { stored: price, memory, requests, count, .. } = *self.view;
        let load = self.facts.load_cost.map(|load| load.as_nanos() as f64);
        let per_kib = |saved: f64, price: f64| Yield {
            saved: (saved_per_byte(saved, self.facts.bytes) * 1024.0) as i64,
            price: (price * 1024.0) as i64,
        };
        let in_memory = Some(at_home.read).filter(|read| *read > 0.0).or(load);
        Some(Reckoning {
            load: self.facts.load_cost,
            read: time(at_home.read),
            write: time(at_home.write),
            requests_permille: (requests * 1000.0) as u32,
            per_kib: load.zip(stored).map(|(load, at)| per_kib((load - at.read) * requests, price)),
            memory_per_kib: in_memory.map(|saved| per_kib(saved * count, memory)),
        })
    }

    /// The tiers of the table, the best first.
    fn order(&self) -> impl Iterator<Item = TierKind> + '_ {
        std::iter::once(self.base.home).chain(self.base.alternatives.iter())
    }

    /// Those beyond memory.
    fn beyond(&self) -> impl Iterator<Item = TierKind> + '_ {
        self.order().filter(|kind| !matches!(kind, TierKind::Memory | TierKind::Null))
    }

    /// The tier beyond memory that takes the least time for a request. Where the entry is shared, the first.
    fn fastest(&self, cost: impl Fn(TierKind) -> Cost) -> Option<TierKind> {
        let first = self.beyond().next()?;
        if self.facts.sharing != Sharing::Threads {
            return Some(first);
        }
        let time = |kind| {
            let Cost { read, write } = cost(kind);
            self.view.requests * read + write
        };
        let others = self.beyond().skip(1).filter(|kind| self.may_have(*kind));
        let best = others.map(|kind| (kind, time(kind))).min_by(|one, other| one.1.total_cmp(&other.1));
        Some(best.filter(|(_, taken)| *taken < time(first) * BETTER).map_or(first, |(kind, _)| kind))
    }

    /// A tier that is so much faster than the one that has the entry that it is worth a write.
    fn faster_than(&self, kind: TierKind, here: Cost, cost: impl Fn(TierKind) -> Cost) -> Option<TierKind> {
        let is_shared = |kind| self.tiers.iter().any(|tier| tier.kind == kind && tier.capability.shared);
        if self.facts.sharing != Sharing::Threads || !self.view.is_known || is_shared(kind) {
            return None;
        }
        let may = |other: &TierKind| *other != kind && self.may_have(*other) && !is_shared(*other);
        let others = self.beyond().filter(may);
        let saves = |there: Cost| self.view.requests * (here.read * BETTER - there.read) > there.write * MOVE;
        let faster = others.map(|other| (other, cost(other))).filter(|(_, there)| saves(*there));
        faster.min_by(|one, other| one.1.read.total_cmp(&other.1.read)).map(|(other, _)| other)
    }

    fn may_have(&self, kind: TierKind) -> bool {
        let persists = |tier: &TierFacts| tier.kind == kind && tier.capability.persistent;
        self.facts.persistence != Persistence::LongTerm || self.tiers.iter().any(persists)
    }

    fn memory_takes(&self) -> bool {
        let room = self.facts.bytes.saturating_add(HEAD_ROOM);
        let takes = |tier: &TierFacts| {
            tier.kind == TierKind::Memory && tier.healthy && tier.capability.frame_bytes_max >= room
        };
        self.tiers.iter().any(takes)
    }

    /// Whether memory gets a copy of the entry, which takes this long to read from its home.
    fn copies(&self, home: TierKind, read: f64) -> bool {
        let is_coherent = self.tiers.iter().any(|tier| tier.kind == home && tier.coherent);
        if !is_coherent || !self.memory_takes() {
            return false;
        }
        match self.facts.access {
            Access::WriteHeavy => false,
            Access::Frequency if self.facts.found.is_none() => false,
            Access::ReadHeavy if self.copies_by_table() => true,
            _ => self.is_worth_memory(read).unwrap_or_else(|| self.copies_by_table()),
        }
    }

    /// Whether an entry in memory, of which a hit saves this much, is worth its bytes. `None` as long as memory
    /// has room for all.
    fn is_worth_memory(&self, saved: f64) -> Option<bool> {
        let View { memory, count, is_known, .. } = *self.view;
        let has_price = is_known && memory > 0.0;
        has_price.then(|| saved_per_byte(saved, self.facts.bytes) * count >= memory)
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

fn time(nanos: f64) -> Duration {
    // The conversion saturates.
    Duration::from_nanos(nanos as u64)
}

#[cfg(test)]
mod tests {
    use larder_core::place::Kind;
    use larder_core::tier::Capability;

    use super::*;
    use TierKind::{Disk, File, Memory, Null};

    fn tiers() -> [TierFacts; 3] {
        [Memory, Disk, File].map(|kind| TierFacts {
            kind,
            capability: Capability {
                stores: true,
                persistent: kind != Memory,
                shared: false,
                blocking: kind != Memory,
                frame_bytes_max: if kind == Memory { 16 << 20 } else { 1 << 30 },
            },
            coherent: true,
            healthy: true,
            position: None,
        })
    }

    /// Disk takes 10 µs and 1 ns a byte, files twice as long.
    fn cost(bytes: u64) -> impl Fn(TierKind) -> Cost {
        move |kind| {
            let time = (1e4 + bytes as f64) * if kind == File { 2.0 } else { 1.0 };
            Cost { read: time, write: time * 2.0 }
        }
    }

    fn loaded(bytes: u64, micros: u64) -> Facts {
        Facts { load_cost: Some(Duration::from_micros(micros)), ..Facts::new(bytes, Kind::Other) }
    }

    const VIEW: View = View { stored: 0.0, memory: 0.0, requests: 2.0, count: 2.0, is_known: true };

    fn place_by(facts: &Facts, view: View) -> Placement {
        decide(facts, &tiers(), &view, cost(facts.bytes))
    }

    /// The placement while a hit must save this many nanoseconds a byte.
    fn place(facts: &Facts, nanos: f64) -> Placement {
        place_by(facts, View { stored: nanos * 2.0, ..VIEW })
    }

    #[test]
    fn entry_goes_beyond_memory_if_it_saves_more_than_write_and_price() {
        for (bytes, micros, price, home, copy) in [
            (100, 30, 0.0, Disk, true),
            (100, 20, 0.0, Memory, false),
            (100, 30, 50.0, Disk, true),
            (100, 30, 200.0, Memory, false),
            (50_000, 100, 0.0, Memory, false),
            (50_000, 10_000, 0.0, Disk, true),
            (50_000, 10_000, 1000.0, Memory, false),
            (5 << 20, 1_000_000, 0.0, Disk, false),
            (5 << 20, 1_000_000, 1000.0, Null, false),
            (50 << 20, 1_000, 0.0, Null, false),
        ] {
            let placement = place(&loaded(bytes, micros), price);
            assert_eq!(
                (placement.home, placement.copy_in_memory),
                (home, copy),
                "{bytes} B, {micros} µs, price {price}: {placement}"
            );
        }
    }

    #[test]
    fn what_has_to_be_stored_is_stored_whatever_it_saves() {
        let dear = 1e9;
        assert_eq!(place(&Facts::new(50_000, Kind::Other), dear).home, Disk, "inserted");
        let long = Facts { persistence: Persistence::LongTerm, ..loaded(100, 1) };
        assert_eq!(place(&long, dear).home, Disk);
        let asked = Facts { home: Some(File), ..loaded(50_000, 1) };
        assert_eq!(place(&asked, dear).home, File);
        let shared = Facts { sharing: Sharing::Processes, ..loaded(50_000, 1) };
        assert_ne!(place(&shared, dear).home, Null);
    }

    #[test]
    fn session_stays_in_memory_and_write_heavy_gets_no_copy() {
        let session = Facts { persistence: Persistence::Session, ..loaded(100, 5_000) };
        assert_eq!(place(&session, 0.0).home, Memory);
        let written = Facts { access: Access::WriteHeavy, ..loaded(50_000, 10_000) };
        assert!(!place(&written, 0.0).copy_in_memory);
    }

    #[test]
    fn unknown_cache_keeps_in_memory_what_the_table_keeps_there() {
        let place = |facts: &Facts| place_by(facts, View { is_known: false, ..VIEW }).home;
        assert_eq!(place(&loaded(100, 500)), Memory);
        assert_eq!(place(&loaded(100, 5_000)), Disk, "the table stores it as well");
    }

    #[test]
    fn unhealthy_tier_is_no_home() {
        let mut tiers = tiers();
        tiers[1].healthy = false;
        let facts = loaded(50_000, 10_000);
        assert_eq!(decide(&facts, &tiers, &VIEW, cost(facts.bytes)).home, File);
    }

    #[test]
    fn placement_without_alternatives_is_refused_for_good() {
        let refused = place(&loaded(5 << 20, 1_000), 1e9);
        assert!(refused.home == Null && refused.alternatives.is_empty() && refused.reckoning.is_some());
    }

    #[test]
    fn copies_are_those_that_save_more_than_the_price_of_memory() {
        // A read of 50 kB takes 60 µs, so two save 2.4 ns a byte; one of 5 MiB takes 5.3 ms, so two save 2.0 ns.
        for (bytes, memory, copy) in [
            (50_000, 0.0, true),
            (5 << 20, 0.0, false),
            (50_000, 2.2, true),
            (50_000, 2.6, false),
            (5 << 20, 1.9, true),
        ] {
            let placement = place_by(&loaded(bytes, 1_000_000), View { memory, ..VIEW });
            assert_eq!(
                (placement.home, placement.copy_in_memory),
                (Disk, copy),
                "{bytes} B, {memory}: {placement}"
            );
        }
    }

    #[test]
    fn loaded_entry_that_is_not_worth_memory_is_nowhere() {
        let dear = View { stored: 1e9, memory: 1e4, ..VIEW };
        assert_eq!(place_by(&loaded(100, 5_000), dear).home, Memory, "two save 44 µs a byte");
        assert_eq!(place_by(&loaded(100, 500), dear).home, Null, "two save 4.4 µs a byte");
        let session = Facts { persistence: Persistence::Session, ..loaded(100, 500) };
        assert_eq!(place_by(&session, dear).home, Memory);
        assert_ne!(place_by(&Facts::new(100, Kind::Other), dear).home, Null, "inserted");
        let large = Facts { sharing: Sharing::Distributed, ..loaded(2 << 20, 10) };
        let memory_alone = &tiers()[..1];
        assert_eq!(decide(&large, memory_alone, &dear, cost(large.bytes)).home, Null);
        assert_eq!(decide(&large, memory_alone, &VIEW, cost(large.bytes)).home, Memory, "there is room");
    }

    #[test]
    fn entry_moves_to_a_faster_tier_if_that_saves_more_than_the_write() {
        let read_from = |kind| Facts { found: Some(kind), ..loaded(50_000, 10_000) };
        // Disk takes 60 µs and files 120 µs, and a write to disk 120 µs.
        for (kind, requests, home) in [(File, 6.0, File), (File, 10.0, Disk), (Disk, 1e3, Disk)] {
            let placement = place_by(&read_from(kind), View { requests, ..VIEW });
            assert_eq!(
                (placement.home, placement.copy_in_memory),
                (home, home == kind),
                "{requests}: {placement}"
            );
        }
        let unknown = View { requests: 10.0, is_known: false, ..VIEW };
        assert_eq!(place_by(&read_from(File), unknown).home, File);
        let shared = Facts { sharing: Sharing::Processes, ..read_from(File) };
        assert_eq!(place_by(&shared, View { requests: 10.0, ..VIEW }).home, File);
    }
}
