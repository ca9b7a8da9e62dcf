//! Derives the plan of a cache with byte tiers from its options.

use std::hash::Hash;
#[cfg(feature = "redis")]
use std::time::Duration;

use larder_core::codec::{Codec, ValueCodec, Values};
use larder_core::compress::Compress;
use larder_core::erased::{AnyKeyCodec, TypedCodec, Value};
use larder_core::key::{Canonical, CanonicalForm, KeyCodec, NamedKeys};
use larder_core::place::{Kind, OWN_TIERS_MAX, Sharing, Thresholds, TierList};
use larder_core::tier::{TierKind, TierOptions};
use larder_core::{Error, Result};
use larder_engine::Hints;
use serde::Serialize;
use serde::de::DeserializeOwned;

#[cfg(feature = "redis")]
use super::LEASE;
use super::{DISK_BYTES, WARM_MAX, within};
use crate::assemble::OwnTier;
#[cfg(feature = "redis")]
use crate::assemble::SharedPlan;
use crate::config::url::UrlConfig;
#[cfg(feature = "redis")]
use crate::context::Scope;
use crate::options::Settings;

/// The disk budget, by default.
const DEFAULT_DISK_BYTES: u64 = 1 << 30;

/// The tiers beyond memory: those of the URLs, else the one that the builder is named after, else disk and
/// files. Adds Redis if a server is set.
pub(super) fn tiers(settings: &Settings, home: Option<TierKind>, url_config: Option<&UrlConfig>) -> TierList {
    let mut tiers: TierList = match (url_config, home) {
        (Some(url_config), _) => url_config.tiers,
        (None, Some(home)) => [home].into_iter().collect(),
        (None, None) => [TierKind::Disk, TierKind::File].into_iter().collect(),
    };
    if settings.redis.is_some() {
        tiers.push(TierKind::Redis);
    }
    tiers
}

/// The home tier of all entries; `None` if the selector decides.
pub(super) fn home(
    settings: &Settings,
    home: Option<TierKind>,
    url_config: Option<&UrlConfig>,
) -> Result<Option<TierKind>> {
    check_namespace(settings)?;
    match (settings.redis.is_some(), url_config, home) {
        (true, None, Some(home)) => Err(Error::config(
            "redis",
            format_args!("a server for a cache with the home {home}"),
            "a server for `ucache`",
        )),
        (true, Some(_), _) => Ok(None),
        (_, Some(url_config), _) => Ok(url_config.home()),
        (_, None, home) => Ok(home),
    }
}

/// Checks the tiers that the user brings.
pub(super) fn check_own(own: &[OwnTier]) -> Result<()> {
    if own.len() > OWN_TIERS_MAX {
        let given = format!("{} tiers of your own", own.len());
        return Err(Error::config("tier", given, "at most 8 for a cache"));
    }
    for (at, OwnTier { position, tier }) in own.iter().enumerate() {
        position.check()?;
        let kind = tier.kind();
        if !kind.is_own() {
            let given = format_args!("a tier of the kind {kind}");
            return Err(Error::config("tier", given, "a kind by `TierKind::own`"));
        }
        if own[..at].iter().any(|other| other.tier.kind() == kind) {
            let given = format_args!("two tiers with the name {kind}");
            return Err(Error::config("tier", given, "a name for each"));
        }
    }
    Ok(())
}

/// Checks that a directory that is opened for reading has no other tiers.
pub(super) fn check_read_only(is_read_only: bool, tiers: TierList, own: &[OwnTier]) -> Result<()> {
    if is_read_only && (tiers.contains(TierKind::Redis) || !own.is_empty()) {
        let given = "a cache with Redis or tiers of your own";
        return Err(Error::config("open_read_only", given, "a cache of disk and files"));
    }
    Ok(())
}

/// Returns the options of single tiers. A source for several caches may name tiers that this one lacks.
pub(super) fn tier_options(
    settings: &Settings,
    is_of_one_cache: bool,
    tiers: TierList,
    own: &[OwnTier],
) -> Result<Vec<(TierKind, TierOptions)>> {
    let is_here = |kind| tiers.contains(kind) || own.iter().any(|own| own.tier.kind() == kind);
    let mut all = settings.tier_options.clone().unwrap_or_default().0;
    all.retain(|(kind, _)| is_of_one_cache || is_here(*kind));
    for (kind, options) in &all {
        if !is_here(*kind) || matches!(kind, TierKind::Memory | TierKind::Null) {
            let given = format_args!("options of the tier {kind}");
            return Err(Error::config("tier_options", given, "the tiers beyond memory that the cache has"));
        }
        if options.read_only && *kind == TierKind::Redis {
            let given = "redis as read only, which holds what nodes agree on";
            return Err(Error::config(
                "tier_options",
                given,
                "read only for disk, file and tiers of your own",
            ));
        }
        options.check()?;
    }
    Ok(all)
}

fn check_namespace(settings: &Settings) -> Result<()> {
    match &settings.namespace {
        Some(given) if cfg!(not(feature = "redis")) => {
            Err(Error::config("namespace", given, "no namespace in a build without the feature `redis`"))
        }
        _ => Ok(()),
    }
}

pub(super) fn disk_bytes(settings: &Settings) -> Result<u64> {
    let disk_bytes = settings.disk_bytes.unwrap_or(DEFAULT_DISK_BYTES);
    within("disk_bytes", disk_bytes, DISK_BYTES, "bytes")?;
    Ok(disk_bytes)
}

/// How many of the hottest entries are read into memory again.
pub(super) fn warm_restart(settings: &Settings) -> Result<usize> {
    let entries = settings.warm_restart.unwrap_or_default();
    within("warm_restart", entries, 0..=WARM_MAX, "entries")?;
    Ok(usize::try_from(entries).unwrap_or(usize::MAX))
}

pub(super) fn compress(settings: &Settings) -> Result<Compress> {
    let compress = settings.compress.unwrap_or_default();
    compress.check()?;
    Ok(compress)
}

/// The lease of memory copies of shared entries, by default.
#[cfg(feature = "redis")]
const DEFAULT_LEASE: Duration = Duration::from_secs(1);

/// The plan of the shared tier: the server, the namespace of this cache and the coherence mode.
#[cfg(feature = "redis")]
pub(super) fn shared(settings: &Settings, scope: Option<&Scope>) -> Result<Option<SharedPlan>> {
    let lease = settings.lease.unwrap_or(DEFAULT_LEASE);
    if !LEASE.contains(&lease) {
        return Err(Error::config("lease", format_args!("{lease:?}"), "50 ms to 1 h"));
    }
    let Some(url) = settings.redis.clone() else { return Ok(None) };
    let given = settings.namespace.clone().unwrap_or_else(crate::locked_dir::executable);
    Ok(Some(SharedPlan {
        url: url.into_secret(),
        lease,
        coherence: settings.coherence.unwrap_or_default(),
        ephemeral_ttl: scope.and_then(Scope::ephemeral_ttl),
        namespace: match scope {
            Some(scope) => scope.namespace(given),
            None => given,
        },
    }))
}

/// The hints for the selector. Looks the kind up now, so that kinds registered before `build()` apply.
pub(super) fn hints(
    settings: &Settings,
    kind: fn() -> Kind,
    home: Option<TierKind>,
    (tiers, sharing_by): (TierList, &str),
) -> Result<Hints> {
    let by_server = if settings.redis.is_some() { Sharing::Distributed } else { Sharing::default() };
    let hints = Hints {
        kind: settings.kind.unwrap_or_else(kind),
        persistence: settings.persistence.unwrap_or_default(),
        access: settings.access.unwrap_or_default(),
        sharing: settings.sharing.unwrap_or(by_server),
        home,
        thresholds: settings.thresholds.unwrap_or_default(),
    };
    check_thresholds(hints.thresholds)?;
    check_sharing(&hints, tiers, sharing_by)?;
    Ok(hints)
}

fn check_sharing(hints: &Hints, tiers: TierList, by: &str) -> Result<()> {
    let has_files = cfg!(feature = "file") && tiers.contains(TierKind::File);
    if hints.sharing != Sharing::Processes || has_files {
        return Ok(());
    }
    let given = format_args!("Processes{by} for a cache without files");
    Err(Error::config("sharing", given, "Processes for `fcache` and `ucache`, with the feature `file`"))
}

fn check_thresholds(thresholds: Thresholds) -> Result<()> {
    let Thresholds { small, medium, large } = thresholds;
    if small <= medium && medium <= large {
        return Ok(());
    }
    Err(Error::config(
        "thresholds",
        format_args!("{small}, {medium}, {large} bytes"),
        "sizes in ascending order",
    ))
}

/// The codec of keys, by the canonical form that the user gave, if any.
pub(super) fn key_codec<K>(canonical: Option<CanonicalForm<K>>) -> Box<dyn AnyKeyCodec>
where
    K: Hash + Eq + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let codec: Box<dyn KeyCodec<K>> = match canonical {
        Some(form) => Box::new(Canonical::new(form, NamedKeys)),
        None => Box::new(NamedKeys),
    };
    Box::new(TypedCodec::<_, K>::new(codec))
}

/// The codec of values.
pub(super) fn value_codec<V>(codec: Codec) -> Box<dyn ValueCodec<Value>>
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let values: Box<dyn ValueCodec<V>> = Box::new(Values::<V>::new(codec));
    Box::new(TypedCodec::<_, V>::new(values))
}
