//! The options about where entries lie and what they are stored as, which
//! builders with tiers have, and contexts for those inside them.

/// The methods of what has a method `with` that changes `Settings`.
macro_rules! tier_options {
    () => {
        /// The most bytes to take on disk, as `du` counts them, for all tiers of
        /// a cache together: 16 MiB to 1 PiB. Default 1 GiB.
        pub fn disk_bytes(self, bytes: u64) -> Self {
            self.with(|settings| settings.disk_bytes = Some(bytes))
        }

        /// What a crash may take of what was acknowledged. Default
        /// [`Durability::Buffered`](crate::Durability::Buffered).
        ///
        /// Whatever is chosen, an entry that was removed or overwritten does not
        /// come back. Without `Synced`, disk and files start empty when the machine
        /// goes down before the cache was closed; one that was dropped counts as not
        /// closed. While the machine runs on, dropping loses nothing.
        pub fn durability(self, durability: crate::Durability) -> Self {
            self.with(|settings| settings.durability = Some(durability))
        }

        /// How values become bytes, apart from bytes, text and vectors of numbers,
        /// which stay as they are. Default [`Codec::Auto`](crate::Codec::Auto). A
        /// value that its codec would not read back is an error of `try_insert`;
        /// `docs/values.md` says what each codec carries.
        pub fn codec(self, codec: crate::Codec) -> Self {
            self.with(|settings| settings.codec = Some(codec))
        }

        /// How payloads are compressed. Default
        /// [`Compress::Auto`](crate::Compress::Auto).
        pub fn compress(self, compress: crate::Compress) -> Self {
            self.with(|settings| settings.compress = Some(compress))
        }

        /// The schema version of the values. Entries of another version are
        /// misses. Raise it when the meaning of a value changes and its type does
        /// not: seconds that become milliseconds. Default 0.
        pub fn version(self, version: u32) -> Self {
            self.with(|settings| settings.version = Some(version))
        }

        /// The kind of the values, for the selector. Default by the type `V`,
        /// see [`kinds`](crate::kinds).
        pub fn kind(self, kind: crate::Kind) -> Self {
            self.with(|settings| settings.kind = Some(kind))
        }

        /// How long entries should outlive the process. Default
        /// [`Persistence::Auto`](crate::Persistence::Auto).
        pub fn persistence(self, persistence: crate::Persistence) -> Self {
            self.with(|settings| settings.persistence = Some(persistence))
        }

        /// How entries are used. Default [`Access::Balanced`](crate::Access::Balanced).
        pub fn access(self, access: crate::Access) -> Self {
            self.with(|settings| settings.access = Some(access))
        }

        /// Who needs to see the entries. Default
        /// [`Sharing::Threads`](crate::Sharing::Threads); with Redis
        /// [`Sharing::Distributed`](crate::Sharing::Distributed).
        ///
        /// With [`Sharing::Processes`](crate::Sharing::Processes) several processes
        /// may open the directory at once, and each sees what the others store and
        /// remove as soon as that call has returned. All entries are files then,
        /// also small ones; memory holds copies, which are checked at each hit, at
        /// the cost of a system call or two. All processes must say so. For `fcache`
        /// and `ucache`; sled cannot be shared. See [files that processes share][page].
        ///
        /// [page]: https://github.com/larder-rs/larder/blob/main/docs/tiers.md#processes-that-share-a-directory
        pub fn sharing(self, sharing: crate::Sharing) -> Self {
            self.with(|settings| settings.sharing = Some(sharing))
        }

        /// A Redis or Valkey server that holds what is shared:
        /// `redis://[user:password@]host[:port][/database]`,
        /// `redis+unix:///path[?db=n&user=..&pass=..]`, `redis+cluster://host,..`,
        /// `redis+sentinel://host,../master`, each over TLS with `rediss` in place of
        /// `redis` (feature `redis-tls`). For `ucache`. Default: none.
        ///
        /// A server that cannot be reached does not fail the build, unless it is
        /// [required](Self::require): other tiers take its entries until it is
        /// there. Building then takes up to 1.5 s. See [the page on Redis][page].
        ///
        /// [page]: https://github.com/larder-rs/larder/blob/main/docs/redis.md
        #[cfg(feature = "redis")]
        pub fn redis(self, url: impl Into<String>) -> Self {
            self.with(|settings| settings.redis = Some(crate::options::values::ServerUrl::new(url.into())))
        }

        /// How long a copy in memory of an entry of Redis may serve after the last
        /// contact with the server: what another node changed is not served for
        /// longer. 50 ms to 1 h; default 1 s. Contact is made every 250 ms, so with
        /// less than about 300 ms most hits ask the server. Has a meaning with
        /// [`redis`](Self::redis) alone.
        #[cfg(feature = "redis")]
        pub fn lease(self, lease: std::time::Duration) -> Self {
            self.with(|settings| settings.lease = Some(lease))
        }

        /// What such copies do while the server is away: serve on, the default, or
        /// not. See [the page on coherence][page].
        ///
        /// [page]: https://github.com/larder-rs/larder/blob/main/docs/coherence.md
        #[cfg(feature = "redis")]
        pub fn coherence(self, coherence: crate::Coherence) -> Self {
            self.with(|settings| settings.coherence = Some(coherence))
        }

        /// Keeps applications apart that share a server. Any text; default the name
        /// of the executable. Those that are to share entries need the same one.
        pub fn namespace(self, namespace: impl Into<String>) -> Self {
            self.with(|settings| settings.namespace = Some(namespace.into()))
        }

        /// Fails the build where a cache has no such tier, or where it is Redis
        /// and cannot be reached. May be said of several tiers.
        pub fn require(self, tier: crate::TierKind) -> Self {
            self.with(|settings| settings.require.get_or_insert_default().push(tier))
        }

        /// Where the size classes begin. Default 10 KiB, 1 MiB, 100 MiB.
        pub fn thresholds(self, thresholds: crate::Thresholds) -> Self {
            self.with(|settings| settings.thresholds = Some(thresholds))
        }
    };
}

pub(crate) use tier_options;
