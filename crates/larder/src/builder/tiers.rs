//! The options about tiers, placement and encoding, shared by the builders of tiered caches and by contexts.

/// Option methods for a type with a method `with` that changes `Settings`.
macro_rules! tier_options {
    () => {
        /// Maximum number of bytes on disk, as `du` counts them, for all tiers of a cache together: 16 MiB to
        /// 1 PiB. Default 1 GiB.
        pub fn disk_bytes(self, bytes: u64) -> Self {
            self.with(|settings| settings.disk_bytes = Some(bytes))
        }

        /// The acknowledged writes that a crash may lose. Default
        /// [`Durability::Buffered`](crate::Durability::Buffered).
        ///
        /// At every level a removed or overwritten entry does not come back. Without `Synced`, disk and files
        /// start empty if the machine crashes before the cache was closed; a dropped cache does not count as
        /// closed. Without a machine crash, dropping loses nothing.
        pub fn durability(self, durability: crate::Durability) -> Self {
            self.with(|settings| settings.durability = Some(durability))
        }

        /// Sets the options of one tier beyond memory: its own time to live, whether it is only read, and what a
        /// write means that it failed. The last call for a tier counts. See [`TierOptions`](crate::TierOptions).
        /// A context skips tiers that a cache lacks.
        ///
        /// ```
        /// # let dir = tempfile::tempdir()?;
        /// use std::time::Duration;
        /// use larder::{TierKind, TierOptions, ucache};
        ///
        /// let an_hour = TierOptions::new().ttl(Duration::from_secs(3600));
        /// let pages = ucache::<u32, String>("pages").dir(dir.path()).tier_options(TierKind::Disk, an_hour).build()?;
        /// # pages.close()?;
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        pub fn tier_options(self, tier: crate::TierKind, options: crate::TierOptions) -> Self {
            self.with(|settings| settings.tier_options.get_or_insert_default().0.push((tier, options)))
        }

        /// How many of the hottest entries are read into memory again when the cache is opened: 0 to
        /// 1,000,000. Default 0.
        ///
        /// Their keys are written into the directory when the cache is closed, and by
        /// [`snapshot`](crate::Cache::snapshot); at most 16 MiB of them. A thread reads the entries from their
        /// home tiers until memory is about full, so nothing outdated is served. An entry that is at home in
        /// memory is moved to disk or files first, unless it is
        /// [`Ephemeral`](crate::Persistence::Ephemeral) or [`Session`](crate::Persistence::Session), its home is
        /// set to memory, or nodes share the cache. Ignored without a directory of the cache's own, and by the
        /// engine moka.
        pub fn warm_restart(self, entries: u64) -> Self {
            self.with(|settings| settings.warm_restart = Some(entries))
        }

        /// The codec that encodes values; bytes, text and vectors of numbers are stored as they are. Default
        /// [`Codec::Auto`](crate::Codec::Auto). `try_insert` returns an error for a value that its codec
        /// could not decode again; `docs/values.md` lists what each codec supports.
        pub fn codec(self, codec: crate::Codec) -> Self {
            self.with(|settings| settings.codec = Some(codec))
        }

        /// The compression of payloads. Default [`Compress::Auto`](crate::Compress::Auto).
        pub fn compress(self, compress: crate::Compress) -> Self {
            self.with(|settings| settings.compress = Some(compress))
        }

        /// The schema version of the values. Entries of another version are misses. Raise it if the meaning
        /// of a value changes and its type does not, for instance from seconds to milliseconds. Default 0.
        pub fn version(self, version: u32) -> Self {
            self.with(|settings| settings.version = Some(version))
        }

        /// The kind of the values, for the selector. Default: by the type `V`, see [`kinds`](crate::kinds).
        pub fn kind(self, kind: crate::Kind) -> Self {
            self.with(|settings| settings.kind = Some(kind))
        }

        /// The selector, which decides the tier of each entry. Default [`Table`](crate::Table).
        /// [`Adaptive`](crate::Adaptive) measures the tiers and learns from the requests. Caches that are
        /// given one by a context share it; by text (`adaptive`), each cache has its own.
        pub fn selector(self, selector: impl crate::Selector) -> Self {
            let selector = crate::options::SelectorChoice::Given(std::sync::Arc::new(selector));
            self.with(|settings| settings.selector = Some(selector))
        }

        /// How long entries should outlive the process. Default
        /// [`Persistence::Auto`](crate::Persistence::Auto).
        pub fn persistence(self, persistence: crate::Persistence) -> Self {
            self.with(|settings| settings.persistence = Some(persistence))
        }

        /// The expected access pattern. Default [`Access::Balanced`](crate::Access::Balanced).
        pub fn access(self, access: crate::Access) -> Self {
            self.with(|settings| settings.access = Some(access))
        }

        /// The scope in which the entries are shared. Default [`Sharing::Threads`](crate::Sharing::Threads);
        /// with Redis [`Sharing::Distributed`](crate::Sharing::Distributed).
        ///
        /// With [`Sharing::Processes`](crate::Sharing::Processes) several processes may open the directory at
        /// once. Each sees the writes and removals of the others as soon as their calls have returned. All
        /// entries, small ones too, are then files. Memory holds copies, which are checked at each hit, at
        /// the cost of a system call or two. All processes must set this option. For `fcache` and `ucache`;
        /// The disk tier cannot be shared. See [files that processes share][page].
        ///
        /// [page]: https://github.com/larder-rs/larder/blob/main/docs/tiers.md#processes-that-share-a-directory
        pub fn sharing(self, sharing: crate::Sharing) -> Self {
            self.with(|settings| settings.sharing = Some(sharing))
        }

        /// The Redis or Valkey server of the shared tier: `redis://[user:password@]host[:port][/database]`,
        /// `redis+unix:///path[?db=n&user=..&pass=..]`, `redis+cluster://host,..`,
        /// `redis+sentinel://host,../master`, each over TLS with `rediss` in place of `redis` (feature
        /// `redis-tls`). For `ucache`. Default: none.
        ///
        /// An unreachable server does not fail the build, unless it is [required](Self::require): other tiers
        /// store its entries until it is reachable. Building then takes up to 1.5 s. See [the page on
        /// Redis][page].
        ///
        /// [page]: https://github.com/larder-rs/larder/blob/main/docs/redis.md
        #[cfg(feature = "redis")]
        pub fn redis(self, url: impl Into<String>) -> Self {
            self.with(|settings| settings.redis = Some(crate::options::values::ServerUrl::new(url.into())))
        }

        /// How long a memory copy of a Redis entry may be served after the last contact with the server. This
        /// bounds how long a change by another node stays unseen. 50 ms to 1 h; default 1 s. The node
        /// contacts the server every 250 ms, so with a lease below about 300 ms most hits ask the server.
        /// Only used with [`redis`](Self::redis).
        #[cfg(feature = "redis")]
        pub fn lease(self, lease: std::time::Duration) -> Self {
            self.with(|settings| settings.lease = Some(lease))
        }

        /// Whether memory copies of Redis entries are served while the server is unreachable. Default: they
        /// are. See [the page on coherence][page].
        ///
        /// [page]: https://github.com/larder-rs/larder/blob/main/docs/coherence.md
        #[cfg(feature = "redis")]
        pub fn coherence(self, coherence: crate::Coherence) -> Self {
            self.with(|settings| settings.coherence = Some(coherence))
        }

        /// Separates applications that share a server. Any text; default the name of the executable.
        /// Applications that share entries need the same namespace.
        pub fn namespace(self, namespace: impl Into<String>) -> Self {
            self.with(|settings| settings.namespace = Some(namespace.into()))
        }

        /// Fails the build if the cache does not have this tier, or if the tier is Redis and cannot be
        /// reached. May be called for several tiers.
        pub fn require(self, tier: crate::TierKind) -> Self {
            self.with(|settings| settings.require.get_or_insert_default().push(tier))
        }

        /// The lower bounds of the size classes. Default 10 KiB, 1 MiB, 100 MiB.
        pub fn thresholds(self, thresholds: crate::Thresholds) -> Self {
            self.with(|settings| settings.thresholds = Some(thresholds))
        }
    };
}

pub(crate) use tier_options;
