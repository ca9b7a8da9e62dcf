//! Counters and statistics.

pub mod latency;
mod striped;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::events::Signals;
use crate::latency::{Histogram, Latency, TierLatency, TierTimes};
use crate::memory::StoreFacts;
use crate::tier::{TierKind, Usage};

pub use self::striped::{HotCount, HotCounts};

macro_rules! counters {
    (
        $(#[$counters_doc:meta])* $counters:ident,
        $(#[$snapshot_doc:meta])* $snapshot:ident {
            $($(#[doc = $doc:literal])* $name:ident,)+
        }
        beside {
            $($(#[$beside_doc:meta])* $beside:ident: $beside_type:ty,)+
        }
    ) => {
        $(#[$counters_doc])*
        #[derive(Debug, Default)]
        pub struct $counters {
            $($(#[doc = $doc])* pub $name: Count,)+
            $($(#[$beside_doc])* pub $beside: $beside_type,)+
        }

        $(#[$snapshot_doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct $snapshot {
            $($(#[doc = $doc])* pub $name: u64,)+
        }

        impl $snapshot {
            /// Each count with its name, in the order of the fields.
            pub fn each(&self) -> impl Iterator<Item = Counted> + use<> {
                [$(Counted { name: stringify!($name), help: concat!($($doc),*).trim_ascii_start(), value: self.$name },)+].into_iter()
            }
        }

        impl $counters {
            /// A snapshot of the counts.
            pub fn snapshot(&self) -> $snapshot {
                $snapshot { $($name: self.$name.get(),)+ }
            }
        }
    };
}

/// A count with its name and description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counted {
    /// The name of its field.
    pub name: &'static str,
    /// The description of the count.
    pub help: &'static str,
    /// The count.
    pub value: u64,
}

/// A plain counter, for events that are rarer than hits in memory.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds one.
    #[inline]
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

counters! {
    /// Counters of a whole cache, apart from hits in memory.
    CacheCounters,
    /// What happened to a cache as a whole since it was built.
    CacheCounts {
        /// Look-ups that no tier answered.
        misses,
        /// Loaders that were run.
        loads,
        /// Loaders that failed or panicked, or whose caller went away.
        load_failures,
        /// Callers that waited for a load of another caller and used its outcome.
        joins,
        /// Callers that got a stale value, because the load failed, took long or had to pause.
        stale_serves,
        /// Loads that were started ahead of a deadline.
        refreshes,
        /// Loads that took longer than their callers wait.
        timeouts,
        /// Loads that a waiter began anew, because the future of the call that led was not polled.
        takeovers,
        /// Nanoseconds spent in loaders.
        load_nanos,
        /// Entries written by callers.
        insertions,
        /// Entries written by loads.
        published,
        /// Loaded or promoted values that were not stored because their entry changed meanwhile.
        superseded,
        /// Copies that served though other nodes could not be heard.
        unconfirmed,
        /// Writes that reached the tier that others share only after it was back.
        repaired,
        /// Writes that it never got: others had changed the entry by then, or the cache was closed.
        repairs_lost,
        /// Entries removed by callers.
        removals,
        /// Invalidations: of a key, of a tag, of everything.
        invalidations,
        /// Equal keys that were found to have different encodings; what was stored under either was removed.
        key_conflicts,
        /// Values whose home and its alternatives failed, and that only memory holds.
        fallbacks_to_memory,
        /// Entries that moved from one home to another.
        moves,
        /// Writes that no tier took; the value was returned or dropped, never half stored.
        dropped,
        /// Values that their codec refused or would not have read back; none was stored.
        unencodable,
        /// Events that were not kept for a listener that was too slow.
        events_missed,
        /// Panics of the listener.
        listener_panics,
    }
    beside {
        /// How long loaders ran.
        load_times: Histogram,
        /// What is counted once a call. Calls of a cache of memory alone count here what others count above.
        hot: HotCounts,
    }
}

impl CacheCounters {
    /// A snapshot of the counts, of all calls.
    pub fn totals(&self) -> CacheCounts {
        let mut counts = self.snapshot();
        counts.misses += self.hot.get(HotCount::Misses);
        counts.loads += self.hot.get(HotCount::Loads);
        counts.load_nanos += self.hot.get(HotCount::LoadNanos);
        counts.insertions += self.hot.get(HotCount::Insertions);
        counts.published += self.hot.get(HotCount::Published);
        counts.removals += self.hot.get(HotCount::Removals);
        counts
    }
}

counters! {
    /// Counters of one tier of bytes.
    TierCounters,
    /// What happened to one tier since it was opened.
    TierCounts {
        /// Reads that found an entry.
        hits,
        /// Reads that found none.
        misses,
        /// Writes that succeeded.
        puts,
        /// Bytes of frames written.
        bytes_written,
        /// Bytes of frames read.
        bytes_read,
        /// Entries removed.
        removes,
        /// Calls that failed.
        errors,
        /// Entries that were read and refused: torn, foreign, not authentic, of another
        /// schema or type. Each was removed and counted as a miss.
        refused,
        /// Entries that were read and are sealed by a key that the cache does not
        /// have. Each stays and was counted as a miss.
        unopened,
        /// Entries that were read and whose dictionary the tier has lost. Each was counted as
        /// a miss, and removed unless other processes share the tier.
        lost_dictionary,
        /// Entries that were intact and of this type, and that their codec did not
        /// read back. Each was removed and counted as a miss.
        undecodable,
        /// Entries that were read and had expired, or were invalidated. Each was
        /// removed and counted as a miss.
        expired,
        /// Values of another home that came here because that one failed.
        fallbacks,
        /// Times that a circuit of the breaker opened: the tier was left alone for a while.
        openings,
        /// Times that a circuit closed again.
        closings,
        /// Calls that were refused at once because a circuit was open.
        refusals,
        /// Calls that were given up because they took too long.
        timeouts,
    }
    beside {
        /// How long calls took that reached the tier.
        times: TierTimes,
        /// Reports failures and recoveries of the tier to the cache.
        signals: Signals,
    }
}

/// The statistics of one tier in [`Stats`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TierStats {
    /// The kind of storage.
    pub kind: TierKind,
    /// The counts of its operations.
    pub counts: TierCounts,
    /// How much it holds.
    pub usage: Usage,
    /// How long its operations took. Empty for memory, which is not timed.
    pub latency: TierLatency,
    /// The engine and policy, if the tier is memory.
    pub memory: Option<StoreFacts>,
    /// What its servers report about themselves, if it has any.
    pub servers: Vec<ServerFacts>,
    /// Why it cannot be used now, as far as it knows: an unreachable server, or a server that forbids a
    /// command, which is named.
    pub trouble: Option<Arc<str>>,
}

/// What a server reported about itself, up to a few seconds ago.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerFacts {
    /// Its version, such as `7.0.15`.
    pub version: String,
    /// Bytes that it holds, for all its users.
    pub memory_bytes: u64,
    /// The maximum number of bytes; zero for no limit.
    pub memory_bytes_max: u64,
}

impl ServerFacts {
    /// Creates the facts from their parts.
    pub fn new(version: impl Into<String>, memory_bytes: u64, memory_bytes_max: u64) -> Self {
        Self { version: version.into(), memory_bytes, memory_bytes_max }
    }
}

impl fmt::Display for ServerFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {}, {} bytes of memory", self.version, self.memory_bytes)?;
        match self.memory_bytes_max {
            0 => Ok(()),
            max => write!(f, " of {max}"),
        }
    }
}

impl TierStats {
    /// Creates statistics of a tier, without latencies, servers and trouble.
    pub fn new(kind: TierKind, counts: TierCounts, usage: Usage) -> Self {
        let latency = TierLatency::default();
        Self { kind, counts, usage, latency, memory: None, servers: Vec::new(), trouble: None }
    }

    /// Sets the engine and policy of memory.
    #[must_use]
    pub fn with_memory(self, memory: Option<StoreFacts>) -> Self {
        Self { memory, ..self }
    }

    /// Sets how long the operations took.
    #[must_use]
    pub fn with_latency(self, latency: TierLatency) -> Self {
        Self { latency, ..self }
    }

    /// Sets the servers' facts.
    #[must_use]
    pub fn with_servers(self, servers: Vec<ServerFacts>) -> Self {
        Self { servers, ..self }
    }

    /// Sets why the tier cannot be used now.
    #[must_use]
    pub fn with_trouble(self, trouble: Option<Arc<str>>) -> Self {
        Self { trouble, ..self }
    }
}

/// The statistics of one cache at one moment.
///
/// Counts are read one after another, so under load they may differ by the calls in progress. `Display`
/// prints a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Counts of the whole cache.
    pub cache: CacheCounts,
    /// Statistics of each tier, nearest first. Memory counts hits, but does not time them.
    pub tiers: Vec<TierStats>,
    /// How long loaders ran.
    pub load_latency: Latency,
    /// Whether the directory of the cache is a private one, which began empty and is deleted at the end,
    /// because another process uses the directory of this name.
    pub is_private: bool,
}

impl Stats {
    /// Creates statistics from their parts.
    pub fn new(cache: CacheCounts, tiers: Vec<TierStats>) -> Self {
        Self { cache, tiers, load_latency: Latency::default(), is_private: false }
    }

    /// Sets how long loaders ran.
    #[must_use]
    pub fn with_load_latency(self, load_latency: Latency) -> Self {
        Self { load_latency, ..self }
    }

    /// Sets whether the directory is a private one.
    #[must_use]
    pub fn with_private(self, is_private: bool) -> Self {
        Self { is_private, ..self }
    }

    /// The statistics of a tier; `None` if the cache does not have it.
    pub fn tier(&self, kind: TierKind) -> Option<&TierStats> {
        self.tiers.iter().find(|tier| tier.kind == kind)
    }

    /// The sum of the hits of all tiers.
    pub fn hits(&self) -> u64 {
        self.tiers.iter().map(|tier| tier.counts.hits).sum()
    }

    /// Hits divided by look-ups, from 0 to 1; `None` before the first look-up.
    pub fn hit_ratio(&self) -> Option<f64> {
        let lookups = self.hits() + self.cache.misses;
        (lookups > 0).then(|| self.hits() as f64 / lookups as f64)
    }
}

impl Stats {
    /// Counts of what went wrong or another way than usual, each with what it counts.
    fn troubles(&self) -> [(u64, &'static str); 20] {
        let c = &self.cache;
        let sum = |count: fn(&TierCounts) -> u64| self.tiers.iter().map(|tier| count(&tier.counts)).sum();
        [
            (c.load_failures, "loads failed"),
            (c.timeouts, "loads took longer than their callers wait"),
            (c.stale_serves, "answers were stale, because a load failed, took long or had to pause"),
            (c.superseded, "values not stored, because their entry changed meanwhile"),
            (sum(|tier| tier.fallbacks), "writes went to an alternative tier"),
            (c.fallbacks_to_memory, "values that only memory holds, because no other tier took them"),
            (c.unconfirmed, "answers were not confirmed, because other nodes could not be heard"),
            (c.repaired, "writes reached the shared tier after it was back"),
            (c.repairs_lost, "writes that the shared tier never got"),
            (c.dropped, "writes that no tier took"),
            (c.unencodable, "values that their codec would not have read back"),
            (sum(|tier| tier.undecodable), "intact entries that their codec did not read back"),
            (sum(|tier| tier.unopened), "entries that are sealed by an unknown key"),
            (sum(|tier| tier.lost_dictionary), "entries whose dictionary is lost"),
            (c.key_conflicts, "equal keys with different encodings"),
            (sum(|tier| tier.timeouts), "calls of tiers were given up, because they took too long"),
            (sum(|tier| tier.openings), "times a circuit breaker opened"),
            (sum(|tier| tier.refusals), "calls of tiers were refused by an open circuit breaker"),
            (c.events_missed, "events dropped because the listener was too slow"),
            (c.listener_panics, "panics of the listener"),
        ]
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = &self.cache;
        writeln!(f, "hits {}, misses {}, loads {}, joins {}", self.hits(), c.misses, c.loads, c.joins)?;
        if self.is_private {
            writeln!(f, "the directory is private, since another process uses that of this name")?;
        }
        for (count, what) in self.troubles() {
            if count > 0 {
                writeln!(f, "{count} {what}")?;
            }
        }
        writeln!(
            f,
            "{:<8}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>16}",
            "tier", "hits", "puts", "evicted", "refused", "errors", "entries", "bytes"
        )?;
        for TierStats { kind, counts, usage, .. } in &self.tiers {
            writeln!(
                f,
                "{:<8}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>16}",
                kind,
                counts.hits,
                counts.puts,
                usage.evictions,
                counts.refused,
                counts.errors,
                usage.entries,
                usage.bytes
            )?;
        }
        for tier in &self.tiers {
            if let Some(facts) = &tier.memory {
                writeln!(f, "{:<8}{facts}", tier.kind)?;
            }
            for server in &tier.servers {
                writeln!(f, "{:<8}{server}", tier.kind)?;
            }
            if let Some(trouble) = &tier.trouble {
                writeln!(f, "{:<8}cannot be used: {trouble}", tier.kind)?;
            }
        }
        let loads = [("loads".to_owned(), &self.load_latency)];
        let tiers = self.tiers.iter().flat_map(|tier| {
            tier.latency.each().map(|(operation, latency)| (format!("{} {operation}", tier.kind), latency))
        });
        for (what, latency) in loads.into_iter().chain(tiers).filter(|(_, latency)| latency.count() > 0) {
            writeln!(f, "{what:<14}{latency}")?;
        }
        Ok(())
    }
}
