//! Three caches of the service that have something wrong with them: `web_service faults`.
//!
//! One is too small, one has a slow loader, and one has a tier that is down. On platforms other than Unix there is
//! nothing to look into from outside.

use std::path::Path;
use std::time::Duration;

use larder::{AsyncCache, mcache, ucache};
use tokio::time::sleep;

use crate::Outcome;

/// How long the loaders of thumbnails and of exchange rates take.
const THUMBNAIL: Duration = Duration::from_micros(200);
const RATE: Duration = Duration::from_millis(40);

/// What a reader of an article gets beside its text.
#[derive(Clone)]
pub(crate) struct Extras {
    /// Too small: readers look at more articles than it holds.
    thumbnails: AsyncCache<u32, Vec<u8>>,
    /// Each exchange rate takes 40 ms to fetch.
    rates: AsyncCache<&'static str, f64>,
    /// Its server does not run.
    baskets: AsyncCache<u8, Vec<u32>>,
}

impl Extras {
    pub(crate) fn open(dir: &Path) -> Outcome<Self> {
        let can_observe = cfg!(unix);
        let thumbnails = mcache("thumbnails").capacity(20).observe(can_observe).build()?;
        let rates = mcache("rates").ttl(Duration::from_millis(500)).observe(can_observe).build()?;
        let baskets = ucache("baskets").dir(dir).redis("redis://127.0.0.1:1").observe(can_observe).build()?;
        Ok(Self { thumbnails: thumbnails.to_async(), rates: rates.to_async(), baskets: baskets.to_async() })
    }

    /// A reader sees the picture of an article, asks for its price, and puts it into the basket.
    pub(crate) async fn visit(&self, article: u32) {
        let thumbnail = async {
            sleep(THUMBNAIL).await;
            vec![0; 100]
        };
        self.thumbnails.get_with(article, thumbnail).await;
        let rate = async {
            sleep(RATE).await;
            1.0
        };
        self.rates.get_with(["EUR", "USD", "JPY", "CHF"][fastrand::usize(..4)], rate).await;
        let reader = fastrand::u8(..50);
        let mut basket = self.baskets.get(&reader).await.unwrap_or_default();
        basket.truncate(9);
        basket.push(article);
        self.baskets.insert(reader, basket).await;
    }

    /// The share of look-ups of thumbnails that hit, in percent.
    pub(crate) fn thumbnail_hits(&self) -> f64 {
        100.0 * self.thumbnails.stats().hit_ratio().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use larder::TierKind;

    use super::*;

    #[tokio::test]
    async fn each_cache_shows_its_fault() {
        let dir = tempfile::tempdir().unwrap();
        let extras = Extras::open(dir.path()).unwrap();
        for article in (0..50).cycle().take(200) {
            extras.visit(article).await;
        }
        let thumbnails = extras.thumbnails.stats();
        assert!(thumbnails.hit_ratio().unwrap() < 0.5, "too small: {thumbnails}");
        assert!(extras.thumbnails.len() <= 20);
        let rates = extras.rates.stats();
        assert!(rates.load_latency.mean() >= RATE, "a slow loader: {rates}");
        let baskets = extras.baskets.stats();
        assert!(baskets.tier(TierKind::Redis).unwrap().counts.errors > 0, "a tier that is down: {baskets}");
        assert_eq!(baskets.cache.dropped, 0, "the other tiers keep the baskets");
    }
}
