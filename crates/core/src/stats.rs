//! Counters, and what people see of them.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::tier::{TierKind, Usage};

/// A counter that many threads increment without sharing a cache line.
///
/// An increment costs one uncontended atomic addition, a read sums the stripes.
#[derive(Debug, Default)]
pub struct Striped {
    stripes: [Stripe; STRIPES],
}

const STRIPES: usize = 16;

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe(AtomicU64);

static NEXT_STRIPE: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static STRIPE: usize = NEXT_STRIPE.fetch_add(1, Ordering::Relaxed) % STRIPES;
}

impl Striped {
    /// Adds one.
    #[inline]
    pub fn increment(&self) {
        // A thread that is past its locals still counts, on the first stripe.
        let stripe = STRIPE.try_with(|stripe| *stripe).unwrap_or(0);
        self.stripes[stripe].0.fetch_add(1, Ordering::Relaxed);
    }

    /// The sum.
    pub fn get(&self) -> u64 {
        self.stripes.iter().map(|stripe| stripe.0.load(Ordering::Relaxed)).sum()
    }
}

macro_rules! counters {
    (
        $(#[$counters_doc:meta])* $counters:ident,
        $(#[$snapshot_doc:meta])* $snapshot:ident {
            $($(#[$doc:meta])* $name:ident,)+
        }
    ) => {
        $(#[$counters_doc])*
        #[derive(Debug, Default)]
        pub struct $counters {
            $($(#[$doc])* pub $name: Count,)+
        }

        $(#[$snapshot_doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct $snapshot {
            $($(#[$doc])* pub $name: u64,)+
        }

        impl $counters {
            /// The counts of this moment.
            pub fn snapshot(&self) -> $snapshot {
                $snapshot { $($name: self.$name.get(),)+ }
            }
        }
    };
}

/// A plain counter, for what happens less often than hits in memory.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `n`.
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
        /// Callers that waited for a load of somebody else and used its outcome.
        joins,
        /// Callers that got a stale value, because the load failed, took long or had to pause.
        stale_serves,
        /// Loads that were started ahead of a deadline.
        refreshes,
        /// Loads that took longer than their callers wait.
        timeouts,
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
        /// Writes that it never got, because others had changed the entry by then.
        repairs_lost,
        /// Entries removed by callers.
        removals,
        /// Invalidations: of a key, of a tag, of everything.
        invalidations,
        /// Values whose home and its alternatives failed, and that only memory holds.
        fallbacks_to_memory,
        /// Entries that moved from one home to another.
        moves,
        /// Writes that no tier took; the value was returned or dropped, never half stored.
        dropped,
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
        /// Entries that were read and refused: torn, foreign, of another schema
        /// or type. Each was removed and counted as a miss.
        refused,
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
}

/// One tier in [`Stats`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TierStats {
    /// Which tier.
    pub kind: TierKind,
    /// What happened to it.
    pub counts: TierCounts,
    /// What it holds.
    pub usage: Usage,
}

impl TierStats {
    /// A row from its parts.
    pub fn new(kind: TierKind, counts: TierCounts, usage: Usage) -> Self {
        Self { kind, counts, usage }
    }
}

/// The statistics of one cache at one moment.
///
/// Counts are read one after another, so under load they may differ by the
/// calls in progress. `Display` prints a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The cache as a whole.
    pub cache: CacheCounts,
    /// Tier by tier, nearest first. Memory counts hits, never times them.
    pub tiers: Vec<TierStats>,
}

impl Stats {
    /// Statistics from their parts.
    pub fn new(cache: CacheCounts, tiers: Vec<TierStats>) -> Self {
        Self { cache, tiers }
    }

    /// The row of a tier, when the cache has it.
    pub fn tier(&self, kind: TierKind) -> Option<&TierStats> {
        self.tiers.iter().find(|tier| tier.kind == kind)
    }

    /// Hits of all tiers.
    pub fn hits(&self) -> u64 {
        self.tiers.iter().map(|tier| tier.counts.hits).sum()
    }

    /// Hits over look-ups, from 0 to 1; `None` before the first look-up.
    pub fn hit_ratio(&self) -> Option<f64> {
        let lookups = self.hits() + self.cache.misses;
        (lookups > 0).then(|| self.hits() as f64 / lookups as f64)
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = &self.cache;
        writeln!(f, "hits {}, misses {}, loads {}, joins {}", self.hits(), c.misses, c.loads, c.joins)?;
        let fallbacks: u64 = self.tiers.iter().map(|tier| tier.counts.fallbacks).sum();
        for (count, what) in [
            (c.load_failures, "loads failed"),
            (c.superseded, "values not stored, because their entry changed meanwhile"),
            (fallbacks, "writes went to an alternative tier"),
            (c.dropped, "writes that no tier took"),
        ] {
            if count > 0 {
                writeln!(f, "{count} {what}")?;
            }
        }
        writeln!(
            f,
            "{:<8}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>16}",
            "tier", "hits", "puts", "evicted", "refused", "errors", "entries", "bytes"
        )?;
        for TierStats { kind, counts, usage } in &self.tiers {
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
        Ok(())
    }
}
