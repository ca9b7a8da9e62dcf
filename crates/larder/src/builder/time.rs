//! The options about time, shared by all builders and by contexts.

use larder_core::{Error, Result};
use larder_engine::{Expiry, TtlBy};

use super::{SHARE, SPAN_MIN};
use crate::options::Settings;

/// Option methods for a type with a method `with` that changes `Settings`.
macro_rules! time_options {
    () => {
        /// The time to live of an entry: 1 ms or more. Default: no expiry; an entry lives until it is
        /// replaced, removed or evicted. At exactly its deadline it is absent. A write restarts the time.
        #[doc(alias = "time_to_live")]
        #[doc(alias = "expire_after_write")]
        pub fn ttl(self, ttl: std::time::Duration) -> Self {
            self.with(|settings| settings.ttl = Some(ttl))
        }

        /// The time after which an unused entry expires: 1 ms or more. Default: none.
        ///
        /// Uses count in memory. The idle time of a copy in another tier starts when the entry is written or
        /// [touched](crate::Cache::touch), and no read restarts it.
        #[doc(alias = "time_to_idle")]
        #[doc(alias = "expire_after_access")]
        pub fn idle(self, idle: std::time::Duration) -> Self {
            self.with(|settings| settings.idle = Some(idle))
        }

        /// Shortens each time to live by a random part of at most this share, from 0 to 1, so that entries
        /// written together do not expire together. Applies to the times of the cache, not to a time set for
        /// one entry. Default 0.
        pub fn jitter(self, share: f64) -> Self {
            self.with(|settings| settings.jitter = Some(share))
        }

        /// The time after its deadline during which an entry may serve as stale if a
        /// [`load`](crate::Cache::load) fails or takes long. Default: none.
        ///
        /// After a failed load the next attempt waits, a second at first and a minute at most. A failing
        /// source is called once in each such interval.
        #[doc(alias = "stale_while_revalidate")]
        #[doc(alias = "stale_if_error")]
        pub fn stale(self, window: std::time::Duration) -> Self {
            self.with(|settings| settings.stale = Some(window))
        }

        /// The share of a time to live, from 0 to 1, after which the first [`load`](crate::Cache::load) that
        /// hits starts a refresh in the background. Default: no refresh ahead.
        pub fn refresh_ahead(self, share: f64) -> Self {
            self.with(|settings| settings.refresh_ahead = Some(share))
        }

        /// How long callers of [`load`](crate::Cache::load) wait if there is a stale value: 1 ms or more.
        /// Default: until the load ends.
        pub fn soft_timeout(self, limit: std::time::Duration) -> Self {
            self.with(|settings| settings.soft_timeout = Some(limit))
        }

        /// The longest time that callers of [`load`](crate::Cache::load) wait: 1 ms or more. Default: until
        /// the load ends. A load that takes longer continues in the background, and its value is stored
        /// unless the entry changed meanwhile.
        pub fn hard_timeout(self, limit: std::time::Duration) -> Self {
            self.with(|settings| settings.hard_timeout = Some(limit))
        }
    };
}

pub(crate) use time_options;

/// The option method for a builder with the field `ttl_by`.
macro_rules! ttl_by_option {
    () => {
        /// Sets the function that returns the time to live of an entry by its key and value; `None` means the
        /// [`ttl`](Self::ttl) of the cache.
        #[doc(alias = "expire_after")]
        #[doc(alias = "Expiry")]
        pub fn ttl_by(
            self,
            ttl: impl Fn(&K, &V) -> Option<std::time::Duration> + Send + Sync + 'static,
        ) -> Self {
            self.with_ttl_by(Arc::new(crate::typed::of_entry(ttl)))
        }
    };
}

pub(super) use ttl_by_option;

/// The expiry settings of a cache.
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

/// Returns an error for an option about time that is out of its range.
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
