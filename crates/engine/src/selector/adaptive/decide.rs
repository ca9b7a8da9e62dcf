//! The decision: a pure function of facts, tiers and a view of what was learned.

use std::time::Duration;

use larder_core::place::{
    Access, Facts, Persistence, Placement, Reckoning, Selector, Sharing, SizeClass, TierFacts, TierList,
    Yield,
};
use larder_core::tier::TierKind;

use super::price::Price;
use super::times::Cost;
use crate::selector::Table;

/// The numbers that were learned about entries like this one.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    /// What a byte must save.
    pub(super) price: Price,
}

/// Another tier than the first of the table must take at most this share of its time.
const BETTER: f64 = 0.8;
/// Bytes that a frame has beside the payload.
const FRAME_HEAD: f64 = 104.0;
/// Reserved bytes for the head of a frame, as in the table.
const HEAD_ROOM: u64 = 1 << 10;

/// What is assumed of the further requests for a key at least. At first nearly all keys are new, and memory
/// answers most of the others.
const REQUESTS_MIN: f64 = 1.0;

const MUST_STORE: &str = "the fastest of the tiers that may be its home";
const PAYS: &str = "a tier beyond memory saves more than the price of its bytes";
const MEMORY_ALONE: &str = "it does not pay beyond memory: memory alone";
const NOWHERE: &str = "it does not pay beyond memory, and is too large for memory";

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
        let reckoned = storage.and_then(|kind| self.reckon(cost(kind)));
        let (home, rule) = self.home(storage, reckoned.map(|(_, pays)| pays));
        let order = std::iter::once(self.base.home).chain(self.base.alternatives.iter());
        let alternatives = match rule {
            // An entry that does not pay beyond memory does not go there because memory refused it.
            MEMORY_ALONE | NOWHERE => TierList::default(),
            _ => order.filter(|kind| *kind != home).collect(),
        };
        let is_beyond = !matches!(home, TierKind::Memory | TierKind::Null);
        let at_home = if is_beyond { cost(home) } else { Cost::default() };
        let reckoning = Reckoning {
            load: self.facts.load_cost,
            read: time(at_home.read),
            write: time(at_home.write),
            requests_permille: (self.requests() * 1000.0) as u32,
            per_kib: reckoned.map(|(per_kib, _)| per_kib),
        };
        Placement {
            home,
            copy_in_memory: is_beyond && self.copies(home),
            alternatives,
            rule,
            reckoning: Some(reckoning),
            ..self.base
        }
    }

    /// What a tier saves by the entry, and whether that pays. `None` for an entry without a load cost.
    fn reckon(&self, Cost { read, write }: Cost) -> Option<(Yield, bool)> {
        let load = self.facts.load_cost?.as_nanos() as f64;
        let Price { nanos, .. } = self.view.price;
        let saved = saved_per_byte(load, read, self.facts.bytes);
        let per_kib = |per_byte: f64| (per_byte * 1024.0) as i64;
        let is_worth_a_write = self.requests() * (load - read) > write;
        Some((Yield { saved: per_kib(saved), price: per_kib(nanos) }, is_worth_a_write && saved >= nanos))
    }

    fn requests(&self) -> f64 {
        self.view.price.requests.max(REQUESTS_MIN)
    }

    fn home(&self, storage: Option<TierKind>, pays: Option<bool>) -> (TierKind, &'static str) {
        let by_table = (self.base.home, self.base.rule);
        let Some(storage) = storage else { return by_table };
        if self.base.home != TierKind::Memory && self.must_store() {
            return (storage, MUST_STORE);
        }
        if self.stays_in_memory() {
            return by_table;
        }
        match pays {
            None => by_table,
            // Nothing is known yet of what is requested again.
            Some(true) if !self.view.price.is_known && self.base.home == TierKind::Memory => by_table,
            Some(true) => (storage, PAYS),
            Some(false) if self.memory_takes() && self.copies_by_table() => (TierKind::Memory, MEMORY_ALONE),
            Some(false) => (TierKind::Null, NOWHERE),
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
        let requests = self.requests();
        let time = |kind| {
            let Cost { read, write } = cost(kind);
            requests * read + write
        };
        let persists =
            |kind: &TierKind| self.facts.persistence != Persistence::LongTerm || self.persists(*kind);
        let best = order
            .filter(persists)
            .map(|kind| (kind, time(kind)))
            .min_by(|one, other| one.1.total_cmp(&other.1));
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
            _ => self.copies_by_table(),
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

fn time(nanos: f64) -> Duration {
    // The conversion saturates.
    Duration::from_nanos(nanos as u64)
}

/// Nanoseconds that a hit saves for each byte of the entry.
pub(super) fn saved_per_byte(load: f64, read: f64, bytes: u64) -> f64 {
    (load - read).max(0.0) / (bytes as f64 + FRAME_HEAD)
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

    /// The placement while a byte must save this many nanoseconds.
    fn place(facts: &Facts, nanos: f64) -> Placement {
        let view = View { price: Price { nanos, requests: 2.0, is_known: true } };
        decide(facts, &tiers(), &view, cost(facts.bytes))
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
        let view = View { price: Price::default() };
        let place = |facts: &Facts| decide(facts, &tiers(), &view, cost(facts.bytes)).home;
        assert_eq!(place(&loaded(100, 500)), Memory);
        assert_eq!(place(&loaded(100, 5_000)), Disk, "the table stores it as well");
    }

    #[test]
    fn unhealthy_tier_is_no_home() {
        let mut tiers = tiers();
        tiers[1].healthy = false;
        let facts = loaded(50_000, 10_000);
        let view = View { price: Price::default() };
        assert_eq!(decide(&facts, &tiers, &view, cost(facts.bytes)).home, File);
    }

    #[test]
    fn placement_without_alternatives_is_refused_for_good() {
        let refused = place(&loaded(5 << 20, 1_000), 1e9);
        assert!(refused.home == Null && refused.alternatives.is_empty() && refused.reckoning.is_some());
    }
}
