//! Redis or Valkey: the tier that other processes and machines share.

mod connection;
mod keys;
mod server;
mod shared;
mod topology;

mod batch;
mod calls;
mod check;
mod pages;
mod reader;
mod request;
mod tier;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use larder_core::bus::{Bus, Listener};
use larder_core::clock::{Clock, SystemClock, Time};
use larder_core::tier::TierKind;
use larder_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use tokio::task::AbortHandle;

pub use check::DamagedEntry;
pub use keys::program_version::{program_version, program_version_of};
pub use reader::RedisReader;

use connection::address::Target;
use connection::io_thread::IoThread;
use connection::supervisor::TimeLimits;
use keys::names::KeyNames;
use keys::partition_epochs::PartitionEpochs;
use shared::compare_and_set::Tombstones;
use shared::lease_renewal::HeldLeases;
use shared::notices::Notices;
use topology::Topology;

/// Time between two heartbeats of a connection.
const HEARTBEAT: Duration = Duration::from_millis(250);

/// Options of a [`RedisTier`].
#[derive(Clone)]
pub struct RedisOptions {
    /// `redis://[user:password@]host[:port][/database]`,
    /// `redis+unix:///path[?db=n&user=..&pass=..]`,
    /// `redis+cluster://[user:password@]host[:port],…`, or
    /// `redis+sentinel://[user:password@]host[:port],…/master[/database]`; with
    /// `rediss` in place of `redis` over TLS.
    pub url: String,
    /// Separates applications that use the same server. Any text.
    pub namespace: String,
    /// Separates the caches of one application. Any text.
    pub cache: String,
    /// The version of the program, as far as entries are concerned. Versions that cannot read one
    /// another's entries need different numbers. Each version has its own entries; a change by one removes
    /// the entries of the others under the same key. Default 0.
    pub version: u64,
    /// How long the server may be silent during a request before the connection counts as lost; also the
    /// limit for connecting. Default 750 ms. A call fails within this time plus 250 ms, unless bytes of its
    /// reply still arrive.
    pub timeout: Duration,
    /// Whether the server notifies this node of changes by others, for a [`Bus`] listener. Costs one message
    /// per change and node. Default no.
    pub notices: bool,
    /// Makes the keys ephemeral: each expires within this time, which is renewed while the tier is open. All
    /// keys are unlinked when the tier is closed or dropped. For entries that no other process shares, in a
    /// namespace of their own. In each such time span the tier scans the keys of the database four times and
    /// sends two commands per entry. Default none: keys persist.
    pub ephemeral_ttl: Option<Duration>,
    /// The clock that deadlines are compared with.
    pub clock: Arc<dyn Clock>,
}

impl RedisOptions {
    /// Options with the defaults and the system clock.
    pub fn new(url: impl Into<String>, namespace: impl Into<String>, cache: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            namespace: namespace.into(),
            cache: cache.into(),
            version: 0,
            timeout: Duration::from_millis(750),
            notices: false,
            ephemeral_ttl: None,
            clock: Arc::new(SystemClock),
        }
    }
}

/// URL parameters of a server, apart from the parameters of a cache URL.
pub const URL_PARAMETERS: &[&str] =
    &["db", "user", "pass", "protocol", "ca", "sentinel_user", "sentinel_pass"];

/// Checks whether [`RedisTier::open`] accepts this URL; opens nothing.
///
/// # Errors
/// `ErrorKind::Config`; the message never contains a password.
pub fn check_url(url: &str) -> Result<()> {
    Target::parse(url).map(drop)
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.debug_struct("RedisOptions")
            .field("namespace", &self.namespace)
            .field("cache", &self.cache)
            .field("timeout", &self.timeout)
            .field("ephemeral_ttl", &self.ephemeral_ttl)
            .finish_non_exhaustive()
    }
}

/// A tier that stores each entry as one Redis value.
///
/// It has one connection per server, driven by a thread that all Redis tiers of the process share. Without a
/// connection every call fails within microseconds, with `ErrorKind::Unavailable`; the tier reconnects by
/// itself.
///
/// `clear` gives each of 64 partitions a new epoch in one round trip, and unlinks the old entries in the
/// background. It touches no keys of other caches.
/// ```no_run
/// use larder_core::tier::Tier;
/// use larder_tiers::redis::{RedisOptions, RedisTier};
///
/// # fn main() -> larder_core::Result<()> {
/// let tier = RedisTier::open(RedisOptions::new("redis://127.0.0.1:6379", "shop", "carts"))?;
/// if !tier.healthy() {
///     println!("no server; it is used when it comes up");
/// }
/// # Ok(())
/// # }
/// ```
pub struct RedisTier {
    inner: Arc<Inner>,
    /// The task that renews ephemeral keys.
    key_renewal: Option<AbortHandle>,
    /// The task that renews load leases.
    lease_renewal: AbortHandle,
    /// Declared last: the thread ends when its last user is dropped. `None` after close.
    io: Mutex<Option<Arc<IoThread>>>,
}

impl fmt::Debug for RedisTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisTier").field("up", &self.inner.topology.is_up()).finish_non_exhaustive()
    }
}

struct Inner {
    names: KeyNames,
    epochs: PartitionEpochs,
    tombstones: Tombstones,
    topology: Topology,
    clock: Arc<dyn Clock>,
    sweeping: AtomicBool,
    notices: Option<Notices>,
    held_leases: HeldLeases,
}

impl Inner {
    /// The present time of the server that holds a partition. `None` for a tier with ephemeral keys, which
    /// shares its entries with no other process.
    fn time(&self, partition: usize) -> Option<Time> {
        if self.epochs.ephemeral_ttl_millis().is_some() {
            return None;
        }
        self.topology.shard(partition).ok()?.supervisor.time()
    }

    /// Notifies the listener that any entry may have changed.
    fn report_lost_notices(&self) {
        if let Some(notices) = &self.notices {
            notices.report_lost_notices();
        }
    }
}

impl RedisTier {
    /// The longest frame that the tier accepts, in bytes.
    pub const FRAME_BYTES_MAX: u64 = calls::FRAME_BYTES_MAX;

    /// Connects. An unreachable server is not an error; [`healthy`](larder_core::tier::Tier::healthy) reports
    /// it. Blocks for one attempt, at most twice [`timeout`](RedisOptions::timeout).
    ///
    /// # Errors
    /// `ErrorKind::Config` for an invalid URL, without a password in the message; `ErrorKind::Io` if no
    /// thread can be started.
    pub fn open(options: RedisOptions) -> Result<Self> {
        let target = Target::parse(&options.url)?;
        let limits = TimeLimits {
            heartbeat: HEARTBEAT.min(options.timeout),
            answer: options.timeout,
            connect: options.timeout,
        };
        let io = IoThread::shared().map_err(|error| error.in_tier(TierKind::Redis).during("open"))?;
        let inner = Arc::new(Inner {
            names: KeyNames::new(&options.namespace, &options.cache),
            epochs: PartitionEpochs::new(options.version, options.ephemeral_ttl),
            tombstones: Tombstones::new(),
            topology: Topology::new(target, limits),
            clock: options.clock,
            sweeping: AtomicBool::new(false),
            notices: options.notices.then(Notices::default),
            held_leases: HeldLeases::default(),
        });
        inner.topology.launch(&inner, io.handle());
        let key_renewal = options
            .ephemeral_ttl
            .map(|ephemeral_ttl| io.handle().spawn(Arc::clone(&inner).renew_keys_forever(ephemeral_ttl)));
        let lease_renewal = io.handle().spawn(Arc::clone(&inner).renew_leases()).abort_handle();
        inner.topology.wait_for_first_attempt(options.timeout * 2);
        let key_renewal = key_renewal.map(|task| task.abort_handle());
        Ok(Self { inner, key_renewal, lease_renewal, io: Mutex::new(Some(io)) })
    }

    /// Returns an error that says why the tier cannot be used now.
    ///
    /// # Errors
    /// `Unsupported` if the server forbids a required command, which is named; `Unavailable` with the result
    /// of the last attempt to connect; `Closed` after [`close`](larder_core::tier::Tier::close).
    pub fn check(&self) -> Result<()> {
        let lack = self
            .inner
            .topology
            .unavailable_reason()
            .filter(|why| connection::supervisor::is_forbidden_command(why));
        let error = match lack {
            Some(why) => Err(Error::new(ErrorKind::Unsupported, why.to_string())),
            None => self.inner.topology.check(),
        };
        error.map_err(|error| error.in_tier(TierKind::Redis))
    }

    /// The number of connections established since the tier was opened.
    pub fn connections(&self) -> u64 {
        self.inner.topology.connections()
    }
}

/// Delivers notices if [`RedisOptions::notices`] is set.
impl Bus for RedisTier {
    fn listen(&self, listener: Arc<dyn Listener>) {
        if let Some(notices) = &self.inner.notices {
            notices.listen(listener);
        }
    }

    /// The time of the last heartbeat that the server answered; in a cluster, that of the master whose last
    /// answer is the oldest. While connected it is little more than 250 ms ago.
    fn last_contact(&self) -> Option<Instant> {
        self.inner.topology.contact()
    }
}

impl RedisTier {
    fn stop_renewal(&self) {
        self.key_renewal.iter().for_each(AbortHandle::abort);
    }

    /// Closes the connections, and releases the shared thread.
    fn end(&self) {
        self.inner.topology.close();
        self.lease_renewal.abort();
        let io = self.io.lock().take();
        drop(io);
    }

    /// Runs a task on the shared thread, unless the tier is closed.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(io) = &*self.io.lock() {
            drop(io.handle().spawn(task));
        }
    }
}

impl Drop for RedisTier {
    fn drop(&mut self) {
        self.stop_renewal();
        let io = self.io.lock().clone();
        if let Some(io) = io {
            self.unlink_on_drop(&io);
        }
        self.end();
    }
}
