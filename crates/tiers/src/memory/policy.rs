//! Eviction policies of the memory tier.

/// The eviction policy: which entries leave first when memory is full.
///
/// The default is [`Auto`](Policy::Auto). No other policy is the best one for every access pattern;
/// `docs/policies.md` compares them over traces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Policy {
    /// Adapts to the access pattern, between frequency and recency.
    #[default]
    Auto,
    /// W-TinyLFU (Einziger, Friedman and Manes, "TinyLFU: A Highly Efficient
    /// Cache Admission Policy", ACM Transactions on Storage 13(4), 2017): a new
    /// entry must be used more often than the one that it would replace. For stable
    /// popularity, loops and scans.
    TinyLfu,
    /// Least recently used, in exact order: for accesses that repeat soon. A hit takes the exclusive lock of
    /// a shard.
    Lru,
    /// Least frequently used, with ageing: for popularity that changes slowly.
    Lfu,
    /// S3-FIFO (Yang, Zhang, Qiu, Yue and Rashmi, "FIFO Queues are All You Need for
    /// Cache Eviction", SOSP 2023): new entries must be used twice soon. For
    /// many keys that are used once.
    S3Fifo,
    /// SIEVE (Zhang, Yang, Yue, Vigfusson and Rashmi, "SIEVE is Simpler than LRU: an
    /// Efficient Turn-Key Eviction Algorithm for Web Caches", NSDI 2024): for the
    /// skewed popularity of web objects. Weak against scans.
    Sieve,
    /// First in, first out, in exact order: uses do not count.
    Fifo,
    /// Evicts a random entry: for loops slightly larger than the cache, and as a baseline.
    Random,
    /// GreedyDual-Size-Frequency (Cherkasova, "Improving WWW Proxies Performance with
    /// Greedy-Dual-Size-Frequency Caching Policy", HP Laboratories 1998): the entry leaves first that saves
    /// the least load time a byte. For loads whose times differ widely. The load time of an entry is measured;
    /// an entry that a caller inserts has none. An insert costs a logarithm of the number of entries.
    CostAware,
}

impl Policy {
    /// The name, as the option `policy` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::TinyLfu => "tiny_lfu",
            Self::Lru => "lru",
            Self::Lfu => "lfu",
            Self::S3Fifo => "s3_fifo",
            Self::Sieve => "sieve",
            Self::Fifo => "fifo",
            Self::Random => "random",
            Self::CostAware => "cost_aware",
        }
    }
}
