//! Redis, or Valkey: the tier that other processes and machines share.

mod address;
mod batch;
mod io;
mod lease;
mod link;
mod marks;
mod names;
mod notices;
mod request;
mod survey;
mod tier;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use larder_core::bus::{Bus, Listener};
use larder_core::clock::{Clock, SystemClock};
use larder_core::frame::{Frame, FrameError, Head};
use larder_core::key::EncodedKey;
use larder_core::tier::{TierKind, Usage};
use larder_core::{Bytes, Error, ErrorKind, Result};
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{PushInfo, RedisResult, Value};
use tokio::task::AbortHandle;

use address::Address;
use io::Io;
use link::{Link, Owner, Patience};
use marks::{Marks, exchange, read_all};
use names::{Named, Names};
use notices::Notices;
use request::{Whole, frame};
use survey::{PAGE, page, survey, sweep};

/// The largest value that Redis takes.
const FRAME_BYTES_MAX: u64 = 512 << 20;
/// What is read of a frame to see its head, in bytes.
const HEAD_BYTES: usize = 4096;
/// How old a survey may become while entries are written.
const SURVEY_AGE: Duration = Duration::from_secs(5);
/// From one sign of life of the server to the next.
const HEARTBEAT: Duration = Duration::from_millis(250);

/// Stores over what is expected, in one step.
const REPLACE: &str = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end \
    if ARGV[3] then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) \
    else redis.call('SET', KEYS[1], ARGV[2]) end return 1";

/// What a [`RedisTier`] is opened with.
#[derive(Clone)]
pub struct RedisOptions {
    /// `redis://[user:password@]host[:port][/database]` or
    /// `redis+unix:///path[?db=n&user=..&pass=..]`.
    pub url: String,
    /// Keeps applications on one server apart. Any text.
    pub namespace: String,
    /// Keeps the caches of one application apart. Any text.
    pub cache: String,
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
    /// nobody else has. Costs a pass over the keys of the database four times a
    /// lease, and two commands an entry. Default none: entries stay.
    pub lease: Option<Duration>,
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
            timeout: Duration::from_millis(750),
            notices: false,
            lease: None,
            clock: Arc::new(SystemClock),
        }
    }
}

/// What the URL of a server may have as parameters, beside what a cache says
/// by its own URL.
pub const URL_PARAMETERS: &[&str] = &["db", "user", "pass", "protocol"];

/// Whether [`RedisTier::open`] would understand this URL; nothing is opened.
///
/// # Errors
/// `ErrorKind::Config`, without repeating a password in it.
pub fn check_url(url: &str) -> Result<()> {
    Address::parse(url).map(drop)
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.debug_struct("RedisOptions")
            .field("namespace", &self.namespace)
            .field("cache", &self.cache)
            .field("timeout", &self.timeout)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

/// What the server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerFacts {
    /// Its version, such as `7.0.15`.
    pub version: String,
    /// Bytes it holds, of all who use it.
    pub memory_bytes: u64,
    /// Bytes it may hold; zero for no bound.
    pub memory_bytes_max: u64,
}

/// Keeps each entry as one value of Redis.
///
/// One connection, kept by a thread that all tiers of the process share. While
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
    supervisor: AbortHandle,
    /// Renews the keys of a lease.
    keeper: Option<AbortHandle>,
    /// Last: the thread ends when nothing uses it any more. None once closed.
    io: Mutex<Option<Arc<Io>>>,
}

impl fmt::Debug for RedisTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisTier").field("link", &self.inner.link).finish_non_exhaustive()
    }
}

struct Inner {
    names: Names,
    marks: Marks,
    link: Arc<Link>,
    clock: Arc<dyn Clock>,
    counted: Mutex<Counted>,
    sweeping: AtomicBool,
    notices: Option<Notices>,
}

/// What was learnt of the server and of what we have there.
#[derive(Default)]
struct Counted {
    usage: Usage,
    server: Option<ServerFacts>,
    at: Option<Instant>,
    /// Entries were written since.
    changed: bool,
    /// Entries of former generations were seen.
    orphans: bool,
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
        let address = Address::parse(&options.url)?;
        let patience = Patience {
            heartbeat: HEARTBEAT.min(options.timeout),
            answer: options.timeout,
            connect: options.timeout,
        };
        let io = Io::shared().map_err(|error| error.in_tier(TierKind::Redis).during("open"))?;
        let inner = Arc::new(Inner {
            names: Names::new(&options.namespace, &options.cache),
            marks: Marks::new(options.lease),
            link: Arc::new(Link::new(address, patience)),
            clock: options.clock,
            counted: Mutex::default(),
            sweeping: AtomicBool::new(false),
            notices: options.notices.then(Notices::default),
        });
        let supervisor = io.handle().spawn(Arc::clone(&inner.link).supervise(Arc::clone(&inner)));
        let keeper = options.lease.map(|lease| io.handle().spawn(Arc::clone(&inner).keep(lease)));
        inner.link.wait_for_first_attempt();
        let keeper = keeper.map(|keeper| keeper.abort_handle());
        Ok(Self { inner, supervisor: supervisor.abort_handle(), keeper, io: Mutex::new(Some(io)) })
    }

    /// Why it cannot be used now, if it cannot.
    ///
    /// # Errors
    /// `Unavailable` with what the last attempt to connect came to, `Closed`
    /// after [`close`](larder_core::tier::Tier::close).
    pub fn check(&self) -> Result<()> {
        self.inner.link.connection().map(drop).map_err(|error| error.in_tier(TierKind::Redis))
    }

    /// What the server said of itself, a few seconds ago; `None` before the
    /// first connection.
    pub fn server(&self) -> Option<ServerFacts> {
        self.inner.counted.lock().server.clone()
    }

    /// How many connections stood since it was opened.
    pub fn connections(&self) -> u64 {
        self.inner.link.connections()
    }
}

/// Tells where [`RedisOptions::notices`] says so.
impl Bus for RedisTier {
    fn listen(&self, listener: Arc<dyn Listener>) {
        if let Some(notices) = &self.inner.notices {
            notices.listen(listener);
        }
    }

    /// When the last sign of life was asked for that the server gave. While
    /// connected that is little more than 250 ms ago.
    fn last_contact(&self) -> Option<Instant> {
        self.inner.link.contact()
    }
}

impl RedisTier {
    /// Lets go of the connection, and of the thread where nobody else has it.
    fn end(&self) {
        self.inner.link.close();
        self.supervisor.abort();
        let io = self.io.lock().take();
        drop(io);
    }
}

impl Drop for RedisTier {
    fn drop(&mut self) {
        self.keeper.iter().for_each(AbortHandle::abort);
        let io = self.io.lock().clone();
        if let Some(io) = io {
            self.leave_unattended(&io);
        }
        self.end();
    }
}

impl Owner for Inner {
    async fn greet(&self, mut connection: MultiplexedConnection) -> RedisResult<()> {
        if let Some(notices) = &self.notices {
            notices.begin(&self.names, &mut connection).await?;
        }
        self.marks.load(&self.names, &mut connection).await?;
        self.survey(&mut connection).await
    }

    async fn alive(self: &Arc<Self>, mut connection: MultiplexedConnection) {
        let (due, orphans) = {
            let mut counted = self.counted.lock();
            let due = counted.changed && counted.at.is_none_or(|at| at.elapsed() > SURVEY_AGE);
            (due, std::mem::take(&mut counted.orphans))
        };
        if orphans {
            // Left behind by a node that ended before it had swept.
            drop(tokio::spawn(Arc::clone(self).sweep()));
        }
        if due && let Err(error) = self.survey(&mut connection).await {
            tracing::debug!(target: "larder", error = %error, "a survey of Redis failed");
        }
    }

    fn told(&self, push: PushInfo) {
        if let Some(notices) = &self.notices {
            notices.told(&self.names, &push);
        }
    }

    fn lost(&self) {
        if let Some(notices) = &self.notices {
            notices.end();
        }
    }
}

impl Inner {
    async fn survey(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        self.counted.lock().changed = false;
        let found = survey(&self.names, &self.marks, connection).await?;
        let info: String = redis::cmd("INFO").query_async(connection).await?;
        let mut counted = self.counted.lock();
        counted.usage = found.usage;
        counted.orphans = found.orphans;
        counted.server = Some(facts(&info));
        counted.at = Some(Instant::now());
        drop(counted);
        Ok(())
    }

    /// Entries were written: the next survey is not for nothing.
    fn changed(&self) {
        self.counted.lock().changed = true;
    }

    /// Notes that `count` entries went; whether there were any.
    fn shrunk(&self, count: i64) -> bool {
        let mut counted = self.counted.lock();
        let usage = &mut counted.usage;
        // The survey may be behind what was written since.
        let known = u64::try_from(count).unwrap_or(0).min(usage.entries);
        usage.bytes -= (usage.bytes / usage.entries.max(1)) * known;
        usage.entries -= known;
        drop(counted);
        count > 0
    }

    async fn get(&self, key: &EncodedKey) -> Result<Option<Bytes>> {
        let mut answers = self.ask(std::iter::once(key), true, |_, _| ()).await?;
        Ok(frame(answers.values.pop()))
    }

    /// One command about one key, and its answer.
    async fn one(&self, key: &EncodedKey, fill: impl Fn(&mut redis::Pipeline, &str)) -> Result<Value> {
        let asked = self.ask(std::iter::once(key), false, |pipe, names| {
            names.iter().for_each(|name| fill(pipe, name));
        });
        let answer = asked.await?.commands.pop().unwrap_or(Value::Nil);
        answer.extract_error().map_err(|error| self.meant(error))
    }

    async fn put(&self, key: &EncodedKey, frame: &Frame) -> Result<()> {
        check_len(frame)?;
        self.one(key, |pipe, name| self.set(pipe, name, frame)).await?;
        self.changed();
        Ok(())
    }

    async fn remove(&self, key: &EncodedKey) -> Result<bool> {
        let answer = self.one(key, |pipe, name| {
            pipe.cmd("UNLINK").arg(name);
        });
        let answer = answer.await?;
        let count = count(answer).map_err(|error| self.meant(error))?;
        self.shrunk(count);
        Ok(count > 0)
    }

    async fn contains(&self, key: &EncodedKey) -> Result<bool> {
        let answer = self.one(key, |pipe, name| {
            pipe.cmd("STRLEN").arg(name);
        });
        match answer.await {
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(false),
            answer => Ok(matches!(answer?, Value::Int(len) if len > 0)),
        }
    }

    async fn head(&self, key: &EncodedKey) -> Result<Option<Bytes>> {
        let start = self.one(key, |pipe, name| {
            pipe.cmd("GETRANGE").arg(name).arg(0).arg(HEAD_BYTES - 1);
        });
        let start = match start.await {
            Err(error) if error.kind() == ErrorKind::Corrupt => None,
            answer => frame(Some(answer?)).filter(|start| !start.is_empty()),
        };
        match &start {
            Some(bytes) if is_cut(bytes) => self.get(key).await,
            _ => Ok(start),
        }
    }

    async fn insert_if_absent(&self, key: &EncodedKey, frame: &Frame) -> Result<bool> {
        check_len(frame)?;
        let answer = self.one(key, |pipe, name| {
            self.set(pipe, name, frame);
            pipe.arg("NX");
        });
        let stored = matches!(answer.await?, Value::Okay);
        self.changed();
        Ok(stored)
    }

    async fn replace(&self, key: &EncodedKey, expected: &Bytes, frame: &Frame) -> Result<bool> {
        check_len(frame)?;
        let answer = self.one(key, |pipe, name| {
            pipe.cmd("EVAL").arg(REPLACE).arg(1).arg(name).arg(&expected[..]).arg(Whole(frame));
            if let Some(millis) = self.millis_left(frame) {
                pipe.arg(millis);
            }
        });
        Ok(matches!(answer.await?, Value::Int(1)))
    }

    async fn take(&self, key: &EncodedKey) -> Result<Option<Bytes>> {
        let answer = self.one(key, |pipe, name| {
            pipe.cmd("GETDEL").arg(name);
        });
        let taken = frame(Some(answer.await?));
        self.shrunk(i64::from(taken.is_some()));
        Ok(taken)
    }

    async fn clear(&self) -> Result<()> {
        let mut connection = self.link.connection()?;
        self.marks.renew(&self.names, &mut connection).await.map_err(|error| self.meant(error))?;
        self.counted.lock().usage = Usage::default();
        Ok(())
    }

    async fn scan(&self, visit: &mut (dyn FnMut(&[u8]) + Send)) -> Result<()> {
        let mut connection = self.link.connection()?;
        let pattern = format!("{}*", self.names.prefix());
        let (mut cursor, mut seen) = (0, HashSet::new());
        loop {
            let heads = self.scan_page(&mut connection, &mut cursor, &pattern, &mut seen).await;
            heads.map_err(|error| self.meant(error))?.iter().for_each(|head| visit(head));
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    /// The heads of one page of keys. `seen` holds digests of the keys of the
    /// pages before: Redis may give a key twice.
    async fn scan_page(
        &self,
        connection: &mut MultiplexedConnection,
        cursor: &mut u64,
        pattern: &str,
        seen: &mut HashSet<u128>,
    ) -> RedisResult<Vec<Vec<u8>>> {
        let (next, keys) = page(connection, *cursor, Some(pattern), PAGE).await?;
        *cursor = next;
        let current = read_all(&self.names, connection).await?;
        let is_current = |key: &[u8]| match self.names.read(key) {
            Some(Named::Entry { partition, generation, .. }) => current[partition] == Some(generation),
            _ => false,
        };
        let keys = keys.into_iter().filter(|key| is_current(key));
        let keys: Vec<_> = keys.filter(|key| seen.insert(EncodedKey::new(key.as_slice()).digest())).collect();
        let mut pipe = redis::Pipeline::new();
        for key in &keys {
            pipe.cmd("GETRANGE").arg(key).arg(0).arg(HEAD_BYTES - 1);
        }
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut heads = Vec::with_capacity(keys.len());
        for (answer, key) in exchange(connection, &pipe).await?.into_iter().zip(&keys) {
            match answer {
                Value::BulkString(start) if is_cut(&start) => {
                    heads.push(redis::cmd("GET").arg(key).query_async(connection).await?);
                }
                Value::BulkString(start) if !start.is_empty() => heads.push(start),
                _ => {}
            }
        }
        Ok(heads)
    }

    /// Unlinks what former generations left behind, unless that is under way.
    async fn sweep(self: Arc<Self>) {
        let Ok(mut connection) = self.link.connection() else { return };
        if self.sweeping.swap(true, Ordering::AcqRel) {
            return;
        }
        match sweep(&self.names, &mut connection).await {
            Ok(swept) => tracing::debug!(target: "larder", swept, "swept what a clear left behind"),
            Err(error) => tracing::debug!(target: "larder", error = %error, "a sweep was broken off"),
        }
        self.sweeping.store(false, Ordering::Release);
    }
}

/// Whether a head goes on beyond these bytes.
fn is_cut(start: &[u8]) -> bool {
    start.len() == HEAD_BYTES && Head::parse(start) == Err(FrameError::Truncated)
}

fn check_len(frame: &Frame) -> Result<()> {
    if frame.len() as u64 <= FRAME_BYTES_MAX {
        return Ok(());
    }
    let message = format!("a frame of {} bytes, allowed {FRAME_BYTES_MAX}", frame.len());
    Err(Error::new(ErrorKind::TooLarge, message))
}

fn count(answer: Value) -> RedisResult<i64> {
    match answer.extract_error()? {
        Value::Int(count) => Ok(count),
        _ => Ok(0),
    }
}

fn facts(info: &str) -> ServerFacts {
    let field = |name: &str| {
        info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().trim()
    };
    let number = |name| field(name).parse().unwrap_or(0);
    ServerFacts {
        version: field("redis_version").to_owned(),
        memory_bytes: number("used_memory"),
        memory_bytes_max: number("maxmemory"),
    }
}
