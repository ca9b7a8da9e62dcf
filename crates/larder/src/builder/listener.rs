//! The option that says who is told what happens.

macro_rules! listener_option {
    () => {
        /// Tells `listener` what happens to the cache: each
        /// [`Event`](crate::Event), once, in the order of the changes of its key.
        /// Default: nobody is told.
        ///
        /// It runs on one thread of the cache, never in a caller, and may take
        /// its time: up to 4096 events wait for it. What finds no room is dropped
        /// and counted in [`Stats`](crate::Stats), and the listener is told how
        /// many it [missed](crate::Event::Missed). A panic is caught and counted.
        /// The thread ends a second after the last event, and with the cache;
        /// [`close`](crate::Cache::close) waits up to a second until everything
        /// was heard. A listener that holds a handle of its own cache keeps that
        /// alive until it is closed.
        ///
        /// A hit in memory costs what it costs without; a write costs a clone of
        /// the key and a short lock, and a lock of the memory store more.
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
        pub fn on_event(mut self, listener: impl FnMut(crate::Event<K>) + Send + 'static) -> Self
        where
            K: Clone,
        {
            self.listening = Some(crate::assemble::Listening::new(listener));
            self
        }
    };
}

pub(super) use listener_option;
