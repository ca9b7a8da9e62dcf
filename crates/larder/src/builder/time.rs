//! The options about time, which every builder has, and contexts for those inside them.

use larder_core::{Error, Result};
use larder_engine::{Expiry, TtlBy};

use super::{SHARE, SPAN_MIN};
use crate::options::Settings;

/// The methods of what has a method `with` that changes `Settings`.
macro_rules! time_options {
    () => {
        /// How long an entry lives: 1 ms or more. Default: until it is replaced,
        /// removed or evicted. At exactly its deadline it is absent. Writing it
        /// again starts the time anew.
        pub fn ttl(self, ttl: std::time::Duration) -> Self {
            self.with(|settings| settings.ttl = Some(ttl))
        }

        /// How long an entry lives without being used: 1 ms or more. Default:
        /// unused entries live as long as used ones.
        ///
        /// A use in memory does not reach the copy beyond, which counts from
        /// when it was written or [touched](crate::Cache::touch).
        pub fn idle(self, idle: std::time::Duration) -> Self {
            self.with(|settings| settings.idle = Some(idle))
        }

        /// The share of a time to live, from 0 to 1, of which chance takes off
        /// a part, so that entries written together do not expire together. For
        /// the times of the cache, not for those that an entry is given.
        /// Default 0.
        pub fn jitter(self, share: f64) -> Self {
            self.with(|settings| settings.jitter = Some(share))
        }

        /// How long after its deadline an entry may serve as stale, where a
        /// [`load`](crate::Cache::load) fails or takes long. Default: not at all.
        ///
        /// The next attempt then waits a pause, of a second at first and of a
        /// minute at most, so that a failing source is asked once a pause.
        pub fn stale(self, window: std::time::Duration) -> Self {
            self.with(|settings| settings.stale = Some(window))
        }

        /// The share of a time to live, from 0 to 1, after which the first
        /// [`load`](crate::Cache::load) that hits starts a refresh in the
        /// background. Default: none does.
        pub fn refresh_ahead(self, share: f64) -> Self {
            self.with(|settings| settings.refresh_ahead = Some(share))
        }

        /// How long callers of [`load`](crate::Cache::load) wait while there is
        /// a stale value: 1 ms or more. Default: until the load ends.
        pub fn soft_timeout(self, limit: std::time::Duration) -> Self {
            self.with(|settings| settings.soft_timeout = Some(limit))
        }

        /// How long callers of [`load`](crate::Cache::load) wait at most: 1 ms
        /// or more. Default: until the load ends. What takes longer goes on in
        /// the background, and is stored unless the entry changed meanwhile.
        pub fn hard_timeout(self, limit: std::time::Duration) -> Self {
            self.with(|settings| settings.hard_timeout = Some(limit))
        }
    };
}

pub(crate) use time_options;

/// The method of a builder with the field `ttl_by`.
macro_rules! ttl_by_option {
    () => {
        /// How long an entry lives by its key and value; `None` for the
        /// [`ttl`](Self::ttl) of the cache.
        pub fn ttl_by(
            mut self,
            ttl: impl Fn(&K, &V) -> Option<std::time::Duration> + Send + Sync + 'static,
        ) -> Self {
            self.ttl_by = Some(Arc::new(crate::typed::of_entry(ttl)));
            self
        }
    };
}

pub(super) use ttl_by_option;

/// What a cache says about the time of its entries.
///
/// # Errors
/// Names the option that is out of its range.
pub(super) fn expiry(settings: &Settings, ttl_by: Option<TtlBy>) -> Result<Expiry> {
    let expiry = Expiry {
        ttl: settings.ttl,
        ttl_by,
        idle: settings.idle,
        jitter: settings.jitter.unwrap_or_default(),
        stale: settings.stale.unwrap_or_default(),
        refresh_ahead: settings.refresh_ahead,
        soft_timeout: settings.soft_timeout,
        hard_timeout: settings.hard_timeout,
    };
    check(&expiry)?;
    Ok(expiry)
}

/// Refuses options about time that are out of their ranges.
fn check(expiry: &Expiry) -> Result<()> {
    let spans = [
        ("ttl", expiry.ttl),
        ("idle", expiry.idle),
        ("soft_timeout", expiry.soft_timeout),
        ("hard_timeout", expiry.hard_timeout),
    ];
    for (option, span) in spans {
        if span.is_some_and(|span| span < SPAN_MIN) {
            return Err(Error::config(
                option,
                format_args!("{:?}", span.unwrap_or_default()),
                "1 ms or more",
            ));
        }
    }
    for (option, share) in [("jitter", Some(expiry.jitter)), ("refresh_ahead", expiry.refresh_ahead)] {
        if let Some(share) = share.filter(|share| !SHARE.contains(share)) {
            return Err(Error::config(option, share, "a share from 0 to 1"));
        }
    }
    Ok(())
}
