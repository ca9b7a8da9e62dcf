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

/// The option of a builder with keys `K` that says how a key is printed.
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
            self.key_text = Some(crate::observation::KeyPrinter::new(text));
            self
        }
    };
}

pub(crate) use observe_keys_option;
pub(crate) use observe_options;
