//! Tiers over object storage that URLs name.

use larder_core::Result;
#[cfg(feature = "opendal")]
use larder_core::tier::Position;

use super::OwnTier;
#[cfg(feature = "opendal")]
use crate::locked_dir::path_segment;

/// Opens the storage of each URL, under a prefix of this cache. It is read after the other tiers, and takes what
/// they refuse and what a hint sends there.
#[cfg(feature = "opendal")]
pub(crate) fn tiers(urls: &[String], cache: &str) -> Result<Vec<OwnTier>> {
    let open = |url: &String| {
        let (place, query) = url.split_once('?').unwrap_or((url, ""));
        let place = format!("{}/{}", place.trim_end_matches('/'), path_segment(cache).replace('%', "%25"));
        let tier = larder_opendal::s3(&format!("{place}?{query}"))?.open()?;
        Ok(OwnTier { position: Position::Last, tier: std::sync::Arc::new(tier) })
    };
    urls.iter().map(open).collect()
}

/// There are no such URLs without the feature.
#[cfg(not(feature = "opendal"))]
pub(crate) fn tiers(_: &[String], _: &str) -> Result<Vec<OwnTier>> {
    Ok(Vec::new())
}
