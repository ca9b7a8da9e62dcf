//! Redis, or Valkey: the tier that other processes and machines share.

mod connection;
mod keys;
mod server;
mod shared;
mod topology;

mod batch;
mod calls;
mod pages;
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

use connection::address::Target;
use connection::io_thread::Io;
use connection::supervisor::Patience;
use keys::names::Names;
use keys::partition_epochs::PartitionEpochs;
use shared::compare_and_set::Removals;
use shared::lease_renewal::Held;
use shared::notices::Notices;
use topology::Fleet;

/// From one sign of life of the server to the next.
const HEARTBEAT: Duration = Duration::from_millis(250);

/// What a [`RedisTier`] is opened with.
#[derive(Clone)]
pub struct RedisOptions {
    /// `redis://[user:password@]host[:port][/database]`,
    /// `redis+unix:///path[?db=n&user=..&pass=..]`,
    /// `redis+cluster://[user:password@]host[:port],…`, or
    /// `redis+sentinel://[user:password@]host[:port],…/master[/database]`; with
    /// `rediss` in place of `redis` over TLS.
    pub url: String,
    /// Keeps applications on one server apart. Any text.
    pub namespace: String,
    /// Keeps the caches of one application apart. Any text.
    pub cache: String,
    /// Which version of the program this is, as far as entries are concerned: versions
    /// that cannot read one another's entries differ in it. Each keeps entries of its
    /// own; a change by one removes what the others have of the entry. Default 0.
    pub version: u64,
    /// How long the server may be silent, while something is asked of it, until
    /// the connection counts as lost; also how long connecting may take.
    /// Default 750 ms. A call fails within this and 250 ms more, unless bytes
    /// of its answer still arrive.
    pub timeout: Duration,
    /// Whether the server is to tell what others change, for a
    /// [`Bus`] listener. Costs a message a change and node. Default no.
    pub notices: bool,
    /// Makes the keys this tier's own: each expires within this time, which is
    /// renewed while the tier lives, and all are unlinked when it is closed or
    /// dropped. For entries that nobody else shares, under a namespace that
    /// nobody else has. Costs a pass over the keys of the database four times in
    /// it, and two commands an entry. Default none: entries stay.
    pub tenancy: Option<Duration>,
    /// Where the time comes from that deadlines are compared with.
    pub clock: Arc<dyn Clock>,
}

impl RedisOptions {
    /// Options with the defaults, and the clock of the system.
    pub fn new(url: impl Into<String>, namespace: impl Into<String>, cache: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            namespace: namespace.into(),
            cache: cache.into(),
            version: 0,
            timeout: Duration::from_millis(750),
            notices: false,
            tenancy: None,
            clock: Arc::new(SystemClock),
        }
    }
}

/// What the URL of a server may have as parameters, beside what a cache says
/// by its own URL.
pub const URL_PARAMETERS: &[&str] =
    &["db", "user", "pass", "protocol", "ca", "sentinel_user", "sentinel_pass"];

/// Whether [`RedisTier::open`] would understand this URL; nothing is opened.
///
/// # Errors
/// `ErrorKind::Config`, without repeating a password in it.
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
            .field("tenancy", &self.tenancy)
            .finish_non_exhaustive()
    }
}

/// Keeps each entry as one value of Redis.
///
/// One connection a server, kept by a thread that all tiers of the process share. While
/// there is none every call fails in microseconds, with
/// `ErrorKind::Unavailable`; the tier connects again by itself.
///
/// `clear` gives each of 64 partitions a new generation, in one round trip, and
/// unlinks what it left behind in the background. It touches no key of others.
///
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
    /// Renews the keys of a tenancy.
    renewal: Option<AbortHandle>,
    /// Renews the rights to load.
    holding: AbortHandle,
    /// Last: the thread ends when nothing uses it any more. None once closed.
    io: Mutex<Option<Arc<Io>>>,
}

impl fmt::Debug for RedisTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisTier").field("up", &self.inner.fleet.is_up()).finish_non_exhaustive()
    }
}

struct Inner {
    names: Names,
    marks: PartitionEpochs,
    removals: Removals,
    fleet: Fleet,
    clock: Arc<dyn Clock>,
    sweeping: AtomicBool,
    notices: Option<Notices>,
    held: Held,
}

impl Inner {
    /// What the server that holds a partition shows as the time. A temporary context
    /// shares its entries with no one: there is none.
    fn time(&self, partition: usize) -> Option<Time> {
        if self.marks.tenancy_millis().is_some() {
            return None;
        }
        self.fleet.shard(partition).ok()?.link.time()
    }

    /// Tells who listens that anything may have changed.
    fn distrust(&self) {
        if let Some(notices) = &self.notices {
            notices.distrust();
        }
    }
}

impl RedisTier {
    /// Connects, or finds that it cannot now: that is no error, and
    /// [`healthy`](larder_core::tier::Tier::healthy) tells. Blocks for one attempt, at most twice
    /// [`timeout`](RedisOptions::timeout).
    ///
    /// # Errors
    /// `ErrorKind::Config` for a URL that is none, without repeating a password
    /// in it; `ErrorKind::Io` when no thread can be started.
    pub fn open(options: RedisOptions) -> Result<Self> {
        let target = Target::parse(&options.url)?;
        let patience = Patience {
            heartbeat: HEARTBEAT.min(options.timeout),
            answer: options.timeout,
            connect: options.timeout,
        };
        let io = Io::shared().map_err(|error| error.in_tier(TierKind::Redis).during("open"))?;
        let inner = Arc::new(Inner {
            names: Names::new(&options.namespace, &options.cache),
            marks: PartitionEpochs::new(options.version, options.tenancy),
            removals: Removals::new(),
            fleet: Fleet::new(target, patience),
            clock: options.clock,
            sweeping: AtomicBool::new(false),
            notices: options.notices.then(Notices::default),
            held: Held::default(),
        });
        inner.fleet.launch(&inner, io.handle());
        let renewal =
            options.tenancy.map(|tenancy| io.handle().spawn(Arc::clone(&inner).renew_forever(tenancy)));
        let holding = io.handle().spawn(Arc::clone(&inner).renew_loads()).abort_handle();
        inner.fleet.wait_for_first_attempt(options.timeout * 2);
        let renewal = renewal.map(|renewal| renewal.abort_handle());
        Ok(Self { inner, renewal, holding, io: Mutex::new(Some(io)) })
    }

    /// Why it cannot be used now, if it cannot.
    ///
    /// # Errors
    /// `Unsupported` where the server forbids a command that the tier needs, which is
    /// named; `Unavailable` with what the last attempt to connect came to; `Closed`
    /// after [`close`](larder_core::tier::Tier::close).
    pub fn check(&self) -> Result<()> {
        let lack = self.inner.fleet.trouble().filter(|why| connection::supervisor::is_lack(why));
        let error = match lack {
            Some(why) => Err(Error::new(ErrorKind::Unsupported, why.to_string())),
            None => self.inner.fleet.check(),
        };
        error.map_err(|error| error.in_tier(TierKind::Redis))
    }

    /// How many connections stood since it was opened.
    pub fn connections(&self) -> u64 {
        self.inner.fleet.connections()
    }
}

/// Tells where [`RedisOptions::notices`] says so.
impl Bus for RedisTier {
    fn listen(&self, listener: Arc<dyn Listener>) {
        if let Some(notices) = &self.inner.notices {
            notices.listen(listener);
        }
    }

    /// When the last sign of life was asked for that the server gave; in a
    /// cluster that of the master which gave none for longest. While connected
    /// that is little more than 250 ms ago.
    fn last_contact(&self) -> Option<Instant> {
        self.inner.fleet.contact()
    }
}

impl RedisTier {
    fn stop_renewing(&self) {
        self.renewal.iter().for_each(AbortHandle::abort);
    }

    /// Lets go of the connections, and of the thread where nobody else has it.
    fn end(&self) {
        self.inner.fleet.close();
        self.holding.abort();
        let io = self.io.lock().take();
        drop(io);
    }

    /// Runs a task on the thread, while it is there.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(io) = &*self.io.lock() {
            drop(io.handle().spawn(task));
        }
    }
}

impl Drop for RedisTier {
    fn drop(&mut self) {
        self.stop_renewing();
        let io = self.io.lock().clone();
        if let Some(io) = io {
            self.leave_unattended(&io);
        }
        self.end();
    }
}
