//! Assembles a cache with tiers beyond memory.

use std::path::{Path, PathBuf};
#[cfg(feature = "redis")]
use std::time::Duration;

#[cfg(feature = "redis")]
use larder_core::ErrorKind;
#[cfg(feature = "redis")]
use larder_core::bus::Coherence;
use larder_core::codec::ValueCodec;
use larder_core::compress::Compress;
use larder_core::erased::{AnyKeyCodec, Memory, Value};
use larder_core::invalidation::InvalidationLog;
use larder_core::place::{Selector, TierList};
use larder_core::tier::{Position, Tier, TierKind, TierOptions};
use larder_core::{Durability, Error, Result};
#[cfg(feature = "redis")]
use larder_engine::CoherencePlan;
use larder_engine::observation::Observer;
use larder_engine::{Dictionaries, DirtyFlag, EventSink, TierHandle, TierStack, WarmRestart};
use larder_tiers::memory::null_store;
use larder_tiers::{DiskBudget, FileInvalidationLog, FoundInvalidations, NullTier};

use super::{
    Arc, CacheKind, Clock, Engine, Expiry, Hints, KeptInvalidations, MemoryPlan, OpenStore, Parts, Sharing,
    Weigh, learned, read_only, register,
};
use crate::locked_dir::LockedDir;
#[cfg(feature = "observe")]
use crate::observation::{KeyNames, KeyOptions, ObservationPlan, ObserverParts};
use crate::seal::{GivenKeys, Seal};

/// The configuration of a cache with byte tiers.
pub(crate) struct TieredPlan {
    pub(crate) name: String,
    pub(crate) kind: CacheKind,
    /// `None` for no memory tier.
    pub(crate) memory: Option<MemoryPlan>,
    /// The tiers beyond memory.
    pub(crate) tiers: TierList,
    /// The tiers that the user brings.
    pub(crate) own: Vec<OwnTier>,
    pub(crate) tier_options: Vec<(TierKind, TierOptions)>,
    pub(crate) dir: Option<PathBuf>,
    pub(crate) is_read_only: bool,
    pub(crate) disk_bytes: u64,
    #[cfg(feature = "observe")]
    pub(crate) observation: ObservationPlan,
    pub(crate) durability: Durability,
    /// How many of the hottest entries are read into memory when the cache is opened.
    pub(crate) warm_restart: usize,
    #[cfg(feature = "redis")]
    pub(crate) shared: Option<SharedPlan>,
    /// The build fails if the cache lacks one of these tiers.
    pub(crate) required: TierList,
    /// The source of `require`, for error messages.
    pub(crate) required_by: String,
    /// What the tiers are sealed with.
    pub(crate) keys: GivenKeys,
    pub(crate) compress: Compress,
    pub(crate) schema: u32,
    pub(crate) hints: Hints,
    pub(crate) selector: Arc<dyn Selector>,
    pub(crate) expiry: Expiry,
    pub(crate) clock: Arc<dyn Clock>,
}

/// A tier that the user brings.
pub(crate) struct OwnTier {
    pub(crate) position: Position,
    pub(crate) tier: Arc<dyn Tier>,
}

impl OwnTier {
    /// Whether the entries outlive the process and belong to this cache alone. What tells which of them
    /// may be served then is in the directory of the cache.
    fn needs_directory(&self) -> bool {
        let capability = self.tier.capability();
        capability.persistent && !capability.shared
    }

    fn handle(self, dir: Option<&Path>, (clock, seal): (&Arc<dyn Clock>, &Seal)) -> Result<TierHandle> {
        let dir = dir.filter(|_| self.needs_directory());
        let flag = dir.map(|dir| DirtyFlag::open(&dir.join(format!("outdated-{}", self.tier.kind()))));
        let place = self.tier.kind().to_string();
        let handle = TierHandle::with(seal.tier(self.tier, &place), Arc::clone(clock), flag.transpose()?);
        Ok(handle.at(self.position))
    }
}

/// What of a cache with tiers of bytes depends on its types.
pub(crate) struct CodedParts {
    pub(crate) keys: Box<dyn AnyKeyCodec>,
    pub(crate) values: Box<dyn ValueCodec<Value>>,
    pub(crate) listener: Option<EventSink>,
    #[cfg(feature = "observe")]
    pub(crate) key_options: KeyOptions,
}

/// The same, with its memory.
struct ErasedParts {
    keys: Box<dyn AnyKeyCodec>,
    values: Box<dyn ValueCodec<Value>>,
    listener: Option<EventSink>,
    observer: Option<Arc<Observer>>,
    memory: Arc<dyn Memory>,
}

/// The shared server, and the namespace there.
#[cfg(feature = "redis")]
pub(crate) struct SharedPlan {
    pub(crate) url: String,
    pub(crate) namespace: String,
    pub(crate) lease: Duration,
    pub(crate) coherence: Coherence,
    /// How long keys outlive a killed process; `None` for keys that do not expire.
    pub(crate) ephemeral_ttl: Option<Duration>,
}

/// Builds a cache over memory and byte tiers.
pub(crate) fn tiered(
    plan: TieredPlan,
    parts: CodedParts,
    open_store: &mut OpenStore<'_>,
) -> Result<Arc<Engine>> {
    let CodedParts { keys, values, listener, .. } = parts;
    let on_departure = listener.as_ref().map(EventSink::on_departure);
    #[cfg(feature = "observe")]
    let (keys, observer) = observed(keys, parts.key_options, &plan)?;
    #[cfg(feature = "observe")]
    let on_departure = observer.on_departure(on_departure);
    let memory = match &plan.memory {
        Some(memory) => open_store(memory, on_departure),
        None => null_store(),
    };
    let parts = ErasedParts {
        keys,
        values,
        listener,
        #[cfg(feature = "observe")]
        observer: observer.observer.clone(),
        #[cfg(not(feature = "observe"))]
        observer: None,
        memory,
    };
    let (name, kind) = (plan.name.clone(), plan.kind);
    let engine = open(plan, parts)?;
    register(&engine, (&name, kind));
    #[cfg(feature = "observe")]
    observer.list(&engine, kind);
    Ok(engine)
}

/// The observer, and the codec of the keys, which both use it and the engine.
#[cfg(feature = "observe")]
fn observed(
    keys: Box<dyn AnyKeyCodec>,
    KeyOptions { text, trace }: KeyOptions,
    plan: &TieredPlan,
) -> Result<(Box<dyn AnyKeyCodec>, ObserverParts)> {
    let keys: Arc<dyn AnyKeyCodec> = Arc::from(keys);
    let names = KeyNames::of_codec(Arc::clone(&keys), text);
    let observation = plan.observation.with_disk_bytes(plan.disk_bytes);
    Ok((Box::new(keys), ObserverParts::new(observation, names, trace)?))
}

/// Opens the directory and the tiers in it, if the cache has any.
fn open_directory(plan: &mut TieredPlan, seal: &Seal) -> Result<(Option<Arc<LockedDir>>, Vec<TierHandle>)> {
    let needs_it = plan.tiers.iter().any(has_directory) || plan.own.iter().any(OwnTier::needs_directory);
    if !needs_it || plan.is_read_only {
        return Ok((None, Vec::new()));
    }
    let in_processes = plan.hints.sharing == Sharing::Processes;
    let locked_dir = Arc::new(LockedDir::open(plan.dir.take(), &plan.name, in_processes)?);
    let budget = DiskBudget::with_clock(plan.disk_bytes, Arc::clone(&plan.clock));
    budget.set_dir(&locked_dir);
    let handles = handles(plan, locked_dir.path(), &budget, seal)?;
    Ok((Some(locked_dir), handles))
}

/// Opens the tiers and makes an engine over them.
fn open(mut plan: TieredPlan, parts: ErasedParts) -> Result<Arc<Engine>> {
    let ErasedParts { keys, values, listener, observer, memory } = parts;
    let in_processes = plan.hints.sharing == Sharing::Processes;
    let seal = Seal::new(std::mem::take(&mut plan.keys), &plan.name);
    let (locked_dir, mut handles) = open_directory(&mut plan, &seal)?;
    let looked = read_only::look(&plan, &seal, &mut handles)?;
    let dir = locked_dir.as_ref().map(|dir| dir.path().to_path_buf()).filter(|_| !in_processes);
    let own_dir = dir.as_deref();
    for own in std::mem::take(&mut plan.own) {
        handles.push(own.handle(own_dir, (&plan.clock, &seal))?);
    }
    set_options(&mut handles, &plan.tier_options);
    let own_log = |dir: &Path| invalidations(dir, plan.durability, (&handles, &seal));
    // A process does not see those in the log of another process.
    let invalidations = own_dir.map_or(Ok(looked.invalidations), own_log)?;
    handles.extend(null_tier(&plan));
    // After the invalidation log: if that is lost, the tiers of the directory alone are emptied.
    #[cfg(feature = "redis")]
    let coherence = match plan.shared.take() {
        Some(shared) => {
            let version = seal.version(plan.schema, values.fingerprint());
            let (handle, coherence) = open_shared(&plan, shared, version, &seal)?;
            handles.insert(0, handle); // read before the local tiers
            coherence
        }
        None => None,
    };
    #[cfg(not(feature = "redis"))]
    let coherence = None;
    set_options(&mut handles, &plan.tier_options);
    let handles = in_order(handles);
    check_required((plan.required, &plan.required_by), |kind| match kind {
        TierKind::Memory => plan.memory.is_some(),
        _ => handles.iter().any(|handle| handle.has_kind(kind)),
    })?;
    let (compress, schema, selector) = (plan.compress, plan.schema, plan.selector);
    let dictionaries = Dictionaries::new(compress, Arc::clone(&plan.clock));
    let stack = TierStack { keys, values, compress, dictionaries, schema, selector, tiers: handles };
    Ok(Engine::new(Parts {
        memory,
        memory_weight_max: plan.memory.as_ref().map_or(0, MemoryPlan::weight_max),
        weigh: plan.memory.map_or(Weigh::Entry, MemoryPlan::weigh),
        stack: Some(stack),
        hints: plan.hints,
        expiry: plan.expiry,
        clock: plan.clock,
        coherence,
        invalidations,
        stall: Some(larder_engine::STALL),
        listener,
        observer,
        dir: locked_dir.as_ref().map(|locked_dir| locked_dir.opened()),
        warm_restart: warm_restart((own_dir, &seal), plan.warm_restart),
        learned: learned::learned(own_dir),
        rotation: seal.rotation(),
        held: looked.scratch.into_iter().chain(locked_dir.map(|dir| Box::new(dir) as _)).collect(),
    }))
}

/// The null tier, if the cache has it.
fn null_tier(plan: &TieredPlan) -> Option<TierHandle> {
    let null = || TierHandle::with(Arc::new(NullTier), Arc::clone(&plan.clock), None);
    plan.tiers.contains(TierKind::Null).then(null)
}

/// The tiers in the order in which they are read: those that the user brings, each at its position.
fn in_order(mut handles: Vec<TierHandle>) -> Vec<TierHandle> {
    let places: Vec<_> = handles.iter().map(TierHandle::place).collect();
    let built_in = places.iter().filter(|(_, position)| position.is_none());
    let own = places.iter().filter_map(|(kind, position)| Some((*kind, (*position)?)));
    let built_in: TierList = built_in.map(|(kind, _)| *kind).collect();
    let order = built_in.with_own(Some(TierKind::Memory), own);
    let place = |handle: &TierHandle| order.iter().position(|kind| handle.has_kind(kind));
    // An entry that replaces one in a tier that is only read is found first.
    handles.sort_by_key(|handle| (handle.is_read_only(), place(handle)));
    handles
}

fn set_options(handles: &mut [TierHandle], options: &[(TierKind, TierOptions)]) {
    for (kind, options) in options {
        handles
            .iter_mut()
            .filter(|handle| handle.has_kind(*kind))
            .for_each(|handle| handle.set_options(*options));
    }
}

/// The list of the hottest keys, if the cache has a directory of its own.
fn warm_restart((dir, seal): (Option<&Path>, &Seal), keys_max: usize) -> Option<WarmRestart> {
    let list = seal.hot_keys(dir.filter(|_| keys_max > 0)?)?;
    Some(WarmRestart { list, keys_max })
}

/// Opens the invalidation log of a directory. If the log may have lost an invalidation, empties the
/// tiers, since they may hold invalidated entries.
fn invalidations(
    dir: &Path,
    durability: Durability,
    (handles, seal): (&[TierHandle], &Seal),
) -> Result<KeptInvalidations> {
    let FoundInvalidations { log, invalidations } = FileInvalidationLog::open(dir, durability)?;
    if invalidations.is_none() {
        let is_ours = |handle: &&TierHandle| !handle.is_shared() && !handle.is_read_only();
        handles.iter().filter(is_ours).try_for_each(TierHandle::empty)?;
        log.rewrite(&[])?;
    }
    let (log, invalidations) = seal.log((Box::new(log), invalidations.unwrap_or_default()));
    Ok(KeptInvalidations { log: Some(log), invalidations })
}

/// Opens the shared tier, and the coherence plan if entries are distributed. An unreachable server is an
/// error only if Redis is required.
#[cfg(feature = "redis")]
fn open_shared(
    plan: &TieredPlan,
    shared: SharedPlan,
    version: u64,
    seal: &Seal,
) -> Result<(TierHandle, Option<CoherencePlan>)> {
    use larder_tiers::redis::{RedisOptions, RedisTier};
    let SharedPlan { url, namespace, lease, coherence, ephemeral_ttl } = shared;
    let is_distributed = plan.hints.sharing == Sharing::Distributed;
    let (name, place) = (plan.name.as_str(), format!("redis {namespace}"));
    let options = RedisOptions {
        clock: Arc::clone(&plan.clock),
        version,
        notices: is_distributed,
        ephemeral_ttl,
        ..RedisOptions::new(url, namespace, name)
    };
    let tier = Arc::new(RedisTier::open(options)?);
    match tier.check() {
        // The server is reachable but not usable. The statistics, `explain` and an event report the
        // reason.
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            tracing::error!(target: "larder", cache = name, error = %error, "Redis cannot be used; the cache works without it");
        }
        Err(error) if plan.required.contains(TierKind::Redis) => return Err(error.during("build")),
        Err(error) => {
            tracing::warn!(target: "larder", cache = name, error = %error, "Redis is unavailable; the cache works without it until it connects");
        }
        Ok(()) => {}
    }
    let sealed = seal.tier(Arc::clone(&tier) as Arc<dyn Tier>, &place);
    let (bus, invalidations) = seal.shared((Arc::clone(&tier) as _, tier));
    let coherence = is_distributed.then_some(CoherencePlan { bus, invalidations, lease, coherence });
    // No dirty flag: a local directory has no knowledge of the shared tier.
    Ok((TierHandle::with(sealed, Arc::clone(&plan.clock), None), coherence))
}

fn check_required((required, by): (TierList, &str), has: impl Fn(TierKind) -> bool) -> Result<()> {
    match required.iter().find(|kind| !has(*kind)) {
        Some(missing) => {
            let given = format_args!("{missing}{by}");
            Err(Error::config("require", given, "the tiers that the cache has"))
        }
        None => Ok(()),
    }
}

fn has_directory(tier: TierKind) -> bool {
    matches!(tier, TierKind::Disk | TierKind::File)
}

/// The tiers of a directory, nearest first. A directory that processes share has files only.
#[cfg_attr(
    not(any(feature = "disk", feature = "file")),
    allow(unused_mut, unused_variables, reason = "there are none with Redis alone")
)]
fn handles(plan: &TieredPlan, dir: &Path, budget: &Arc<DiskBudget>, seal: &Seal) -> Result<Vec<TierHandle>> {
    let TieredPlan { tiers, durability, ref clock, ref hints, .. } = *plan;
    let in_processes = hints.sharing == Sharing::Processes;
    let wants = |kind: TierKind| tiers.contains(kind) && (kind == TierKind::File || !in_processes);
    let mut handles = Vec::new();
    #[cfg(feature = "disk")]
    if wants(TierKind::Disk) {
        use larder_tiers::disk::{CROSSOVER_BYTES, DiskOptions, DiskTier};
        let options = DiskOptions {
            dir: dir.join("disk"),
            budget: budget.share(),
            crossover: CROSSOVER_BYTES,
            durability,
        };
        handles.push(handle(dir, seal.tier(Arc::new(DiskTier::open(options)?), "disk"), clock)?);
    }
    #[cfg(feature = "file")]
    if wants(TierKind::File) {
        use larder_tiers::file::{FileOptions, FileTier};
        let options =
            FileOptions { dir: dir.join("files"), shared: in_processes, budget: budget.share(), durability };
        let tier = seal.tier(Arc::new(FileTier::open(options)?), "file");
        // No dirty flag: it would make one process clear the entries of the others.
        handles.push(match in_processes {
            true => TierHandle::with(tier, Arc::clone(clock), None),
            false => handle(dir, tier, clock)?,
        });
    }
    Ok(handles)
}

/// The handle of a tier of this directory, with its dirty flag.
#[cfg(any(feature = "disk", feature = "file"))]
fn handle(dir: &Path, tier: Arc<dyn Tier>, clock: &Arc<dyn Clock>) -> Result<TierHandle> {
    let dirty_flag = DirtyFlag::open(&dir.join(format!("outdated-{}", tier.kind())))?;
    Ok(TierHandle::with(tier, Arc::clone(clock), Some(dirty_flag)))
}
