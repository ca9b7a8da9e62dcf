//! The option that registers a listener for events.

macro_rules! listener_option {
    () => {
        /// Registers a listener that receives each [`Event`](crate::Event) of the cache once, in the order of
        /// the changes of its key. Default: no listener.
        ///
        /// The listener runs on one thread of the cache, never in a caller, and may be slow: up to 4096
        /// events are queued for it. Further events are dropped and counted in [`Stats`](crate::Stats), and
        /// the listener receives the number that it [missed](crate::Event::Missed). A panic is caught and
        /// counted. The thread ends a second after the last event, and with the cache;
        /// [`close`](crate::Cache::close) waits up to a second until the listener has received all events. A
        /// listener that holds a handle of its own cache keeps the cache alive until it is closed.
        ///
        /// A listener adds no cost to a hit in memory. It adds to a write a clone of the key, a short lock,
        /// and one more lock of the memory store.
        ///
        /// ```
        /// use std::sync::mpsc;
        ///
        /// let (sender, events) = mpsc::channel();
        /// let ages = larder::mcache::<&str, u8>("ages")
        ///     .on_event(move |event| _ = sender.send(event.name()))
        ///     .build()?;
        /// ages.insert("Ada", 36);
        /// ages.remove(&"Ada");
        /// ages.close()?;
        /// assert_eq!(events.iter().collect::<Vec<_>>(), ["inserted", "removed"]);
        /// # Ok::<(), larder::Error>(())
        /// ```
        #[doc(alias = "eviction_listener")]
        #[doc(alias = "removal_listener")]
        pub fn on_event(self, listener: impl FnMut(crate::Event<K>) + Send + 'static) -> Self
        where
            K: Clone,
        {
            self.with_listener(larder_engine::EventSink::new(listener))
        }
    };
}

pub(super) use listener_option;
