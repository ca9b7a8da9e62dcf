//! The options that let others look into a cache while it runs.

/// Option methods for a type with a method `with` that changes `Settings`.
macro_rules! observe_options {
    () => {
        /// Lets the user of this process look into the cache while it runs, over a Unix socket: with
        /// `larder top`, `larder serve`, or the protocol of `docs/live.md`. Default: false.
        ///
        /// The socket is in the directory of the cache, or else in the runtime directory of the user, and has
        /// the mode 0600. A failure to create it is logged, and the cache works without it. The thread of the
        /// socket ends with the last observed cache.
        ///
        /// About 1000 look-ups a second are sampled. Writes and misses of a cache in memory alone take the general
        /// path, since they may have to be reported. While a client asks for events, each change names its key.
        ///
        /// # Errors
        /// `build()` refuses it on platforms other than Unix.
        #[cfg(feature = "observe")]
        pub fn observe(self, observe: bool) -> Self {
            self.with(|settings| settings.observe = Some(observe))
        }

        /// Whether those who look into the cache may invalidate entries and clear it, too. Default: false. Has no
        /// effect on a cache that is not observed.
        #[cfg(feature = "observe")]
        pub fn observe_control(self, control: bool) -> Self {
            self.with(|settings| settings.observe_control = Some(control))
        }
    };
}

/// The options of a builder with keys `K` that say how a key is printed, and where look-ups are recorded.
macro_rules! observe_keys_option {
    () => {
        /// How a key is printed for those who look into the cache. Default: as it is stored in tiers; for a cache
        /// in memory alone, text and numbers as they are, and other keys as a hash.
        ///
        /// ```
        /// let seats = larder::mcache::<(u16, char), String>("seats")
        ///     .observe_keys(|(row, seat)| format!("{row}{seat}"))
        ///     .build()?;
        /// # Ok::<(), larder::Error>(())
        /// ```
        #[cfg(feature = "observe")]
        pub fn observe_keys(mut self, text: impl Fn(&K) -> String + Send + Sync + 'static) -> Self
        where
            K: Clone,
        {
            self.key_options.text = Some(crate::observation::KeyPrinter::new(text));
            self
        }

        /// Records the look-ups of the cache in a file, so that `larder simulate` can replay them against other
        /// sizes and policies. Default: none. `path` is a file that does not exist, or an earlier trace, which is
        /// replaced; caches do not share a file. The name ends in `.trace`, so that the command knows its form.
        ///
        /// A look-up is recorded as a hash of its key that no other process can compute. The file is at most 32
        /// MiB: when it is full, the look-ups of half of the keys are dropped, and no more recorded. What is left
        /// still shows the hit ratios of a cache that is as much smaller. A look-up is in the file after at most a
        /// second; when the disk is slower than the cache, look-ups are left out, which is logged.
        ///
        /// Costs a hash of the key and a lock for each look-up, and a thread. Hits, misses and joined loads are
        /// look-ups; `insert`, `contains_key`, `explain` and `iter` are none.
        ///
        /// # Errors
        /// `build()` fails with [`ErrorKind::Config`](crate::ErrorKind::Config) if the file cannot be created, or
        /// is no trace.
        ///
        /// ```
        /// # let dir = tempfile::tempdir()?;
        /// let pages = larder::mcache::<String, String>("pages")
        ///     .record_trace(dir.path().join("pages.trace")) // larder simulate pages.trace --capacity 10000
        ///     .build()?;
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        #[cfg(feature = "observe")]
        pub fn record_trace(mut self, path: impl Into<std::path::PathBuf>) -> Self {
            self.key_options.trace = Some(path.into());
            self
        }
    };
}

pub(crate) use observe_keys_option;
pub(crate) use observe_options;
