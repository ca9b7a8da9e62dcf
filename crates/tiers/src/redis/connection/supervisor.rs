//! Supervises one connection to a server.
//!
//! One task keeps the connection. When it breaks or falls silent, calls fail at once until a new connection
//! is established. Only that task reconnects, with growing backoff between the attempts, so each attempt also
//! probes whether the server is back.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use larder_core::clock::{Latest, Time};
use larder_core::{Error, ErrorKind, Result};
use parking_lot::{Condvar, Mutex, RwLock};
use redis::{Pipeline, PushInfo, RedisError, RedisResult, Value};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::redis::connection::Connection;
use crate::redis::connection::address::Address;
use crate::redis::connection::channel::{Channel, KeyRequest, Pending};
use crate::redis::connection::outgoing::Outgoing;
use crate::redis::server::clock::ServerClock;
use crate::redis::server::commands::{FORBIDS, error_text, name_forbidden};
use crate::redis::topology::sentinel::Sentinels;

/// Time limits of a connection.
#[derive(Clone, Copy, Debug)]
pub(in crate::redis) struct TimeLimits {
    /// Time between two heartbeats.
    pub(in crate::redis) heartbeat: Duration,
    /// Limit for a heartbeat's answer, while no byte arrives.
    pub(in crate::redis) answer: Duration,
    /// Limit for connecting, with the checks of the new connection.
    pub(in crate::redis) connect: Duration,
}

/// The first backoff between two attempts to connect.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// The longest backoff between two attempts: nodes must agree within a second after a network partition ends.
const BACKOFF_MAX: Duration = Duration::from_millis(500);
/// After a connection of this length the first reconnect is immediate.
const STABLE_AFTER: Duration = Duration::from_secs(1);
/// How many times a late answer is tolerated while bytes still arrive.
const EXTENSIONS_MAX: u32 = 40;

/// Time between two checks with the sentinels whether the master is the same.
const MASTER_CHECK: Duration = Duration::from_secs(1);

/// How to find the server of a connection.
pub(in crate::redis) enum Source {
    /// At a fixed address.
    Fixed(Address),
    /// At the address that the sentinels report.
    Sentinels(Sentinels),
}

impl Source {
    async fn resolve(&self, limit: Duration) -> RedisResult<Address> {
        match self {
            Self::Fixed(address) => Ok(address.clone()),
            Self::Sentinels(sentinels) => sentinels.master(limit).await,
        }
    }

    /// Whether the master is now another server, as far as the sentinels report.
    async fn has_moved(&self, from: &Address, limit: Duration) -> bool {
        match self {
            Self::Fixed(_) => false,
            Self::Sentinels(sentinels) => {
                sentinels.master(limit).await.is_ok_and(|master| !master.is_at(from))
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(address) => address.fmt(f),
            Self::Sentinels(sentinels) => sentinels.fmt(f),
        }
    }
}

/// What the supervisor calls over the life of a connection.
pub(in crate::redis) trait Lifecycle: Send + Sync + 'static {
    /// Prepares a new connection; callers get it if this succeeds.
    fn on_connect(&self, connection: Channel) -> impl Future<Output = RedisResult<()>> + Send;

    /// The commands to send together with a heartbeat.
    fn heartbeat_commands(&self) -> Pipeline;

    /// Handles the answers to [`heartbeat_commands`](Self::heartbeat_commands). Returns whether the server
    /// still holds its partitions. An error closes the connection.
    fn on_heartbeat(&self, answers: Vec<Value>) -> RedisResult<bool>;

    /// Called after each answered heartbeat.
    fn after_heartbeat(self: &Arc<Self>, connection: Channel) -> impl Future<Output = ()> + Send;

    /// Handles a push message, in order with the replies. Must not block.
    fn on_push(&self, push: PushInfo);

    /// Called when the connection is lost; the push messages on it may be incomplete.
    fn on_disconnect(&self);
}

enum State {
    Up(Channel),
    Down(Arc<str>),
    Closed,
}

/// The state that callers and the supervisor share.
pub(in crate::redis) struct Supervisor {
    source: Source,
    limits: TimeLimits,
    state: RwLock<State>,
    /// Whether the first attempt is over, for threads and for tasks.
    first_attempt_over: (Mutex<bool>, Condvar, Notify),
    /// When the last answered heartbeat was sent.
    contact: Latest,
    clock: ServerClock,
    /// Set when the server refused a command: the next connection attempt checks all required commands again.
    check_commands: AtomicBool,
    /// The number of connections established.
    connections: AtomicU64,
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor")
            .field("server", &format_args!("{}", self.source))
            .field("up", &self.is_up())
            .finish_non_exhaustive()
    }
}

impl Supervisor {
    pub(in crate::redis) fn new(source: Source, limits: TimeLimits) -> Self {
        Self {
            source,
            limits,
            state: RwLock::new(State::Down("no connection attempt was made yet".into())),
            first_attempt_over: Default::default(),
            contact: Latest::default(),
            clock: ServerClock::default(),
            check_commands: AtomicBool::new(false),
            connections: AtomicU64::new(0),
        }
    }

    /// The connection, if established.
    ///
    /// # Errors
    /// `Unavailable` at once if there is none, `Closed` after close.
    pub(in crate::redis) fn connection(&self) -> Result<Channel> {
        match &*self.state.read() {
            State::Up(handle) => Ok(handle.clone()),
            other => Err(self.unavailable(other)),
        }
    }

    /// Sends a request about a key over the connection.
    ///
    /// # Errors
    /// The same as [`connection`](Self::connection).
    pub(in crate::redis) fn begin_for_key(
        &self,
        request: &KeyRequest<'_>,
        encode: impl FnOnce(&mut Outgoing) -> usize,
    ) -> Result<Pending> {
        match &*self.state.read() {
            State::Up(handle) => Ok(handle.begin_for_key(request, encode)),
            other => Err(self.unavailable(other)),
        }
    }

    fn unavailable(&self, state: &State) -> Error {
        match state {
            State::Down(why) => {
                Error::new(ErrorKind::Unavailable, format!("{} is unavailable: {why}", self.source))
            }
            _ => closed(),
        }
    }

    /// Why the server cannot be used; `None` while it can.
    pub(in crate::redis) fn unavailable_reason(&self) -> Option<Arc<str>> {
        match &*self.state.read() {
            State::Down(why) => Some(Arc::clone(why)),
            _ => None,
        }
    }

    /// Records that the server refused a command: the supervisor reconnects and checks all required commands.
    pub(in crate::redis) fn request_command_check(&self) {
        self.check_commands.store(true, Ordering::Release);
    }

    pub(in crate::redis) fn is_up(&self) -> bool {
        matches!(&*self.state.read(), State::Up(..))
    }

    pub(in crate::redis) fn is_closed(&self) -> bool {
        matches!(&*self.state.read(), State::Closed)
    }

    /// Closes the connection for good: calls fail with `Closed` from now on.
    pub(in crate::redis) fn close(&self) {
        *self.state.write() = State::Closed;
        self.end_first_attempt();
    }

    /// The last time at which the server was certainly connected.
    pub(in crate::redis) fn contact(&self) -> Option<Instant> {
        self.contact.get()
    }

    /// The present time of the server; `None` before the first answer.
    pub(in crate::redis) fn time(&self) -> Option<Time> {
        self.clock.now()
    }

    /// The number of connections established so far.
    pub(in crate::redis) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Waits until the first attempt to connect is over, at most until `deadline`.
    pub(in crate::redis) fn wait_for_first_attempt(&self, deadline: Instant) {
        let mut tried = self.first_attempt_over.0.lock();
        while !*tried && !self.first_attempt_over.1.wait_until(&mut tried, deadline).timed_out() {}
    }

    /// The same for a task.
    pub(in crate::redis) async fn first_attempt(&self) {
        let over = self.first_attempt_over.2.notified();
        let mut over = std::pin::pin!(over);
        over.as_mut().enable();
        if !*self.first_attempt_over.0.lock() {
            over.await;
        }
    }

    /// Keeps a connection until the task is aborted.
    pub(in crate::redis) async fn supervise(self: Arc<Self>, lifecycle: Arc<impl Lifecycle>) {
        let mut pause = BACKOFF_MIN;
        loop {
            let attempt = timeout(self.limits.connect, self.connect(&lifecycle)).await;
            let why = match attempt {
                Ok(Ok(mut connection)) => {
                    self.set_up(&connection.1);
                    let since = Instant::now();
                    let why = self.heartbeat_until_failure(&mut connection, &lifecycle).await;
                    lifecycle.on_disconnect();
                    pause = if since.elapsed() > STABLE_AFTER { Duration::ZERO } else { BACKOFF_MIN };
                    why
                }
                Ok(Err(error)) => error_text(&error),
                Err(_) => format!("no connection within {:?}", self.limits.connect),
            };
            self.set_down(&why);
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).clamp(BACKOFF_MIN, BACKOFF_MAX);
        }
    }

    async fn connect(&self, lifecycle: &Arc<impl Lifecycle>) -> RedisResult<(Address, Connection)> {
        let address = self.source.resolve(self.limits.connect / 3).await?;
        let callbacks = Arc::clone(lifecycle);
        let connection = Connection::listen(&address, move |push| callbacks.on_push(push)).await?;
        let asked = Instant::now();
        self.check_role_and_time(connection.handle.clone()).await?;
        lifecycle.on_connect(connection.handle.clone()).await?;
        // A master that was suspended during a failover still reports the role of a master.
        if self.source.has_moved(&address, self.limits.connect / 3).await {
            return Err(unusable_server("the server is no longer the master"));
        }
        self.contact.raise(asked);
        Ok((address, connection))
    }

    /// Asks the server for its role and its time.
    async fn check_role_and_time(&self, connection: Channel) -> RedisResult<()> {
        let mut pipe = Pipeline::new();
        pipe.cmd("TIME").cmd("ROLE");
        let asked = Instant::now();
        let mut answers = connection.send_all(&pipe).await?.into_iter();
        let (time, role) = (answers.next().unwrap_or_default(), answers.next().unwrap_or_default());
        check_role(&role)?;
        self.clock.record(asked, time.extract_error().map_err(|error| name_forbidden("TIME", error))?);
        Ok(())
    }

    /// Sends heartbeats until one fails; returns the reason.
    async fn heartbeat_until_failure(
        &self,
        (address, connection): &mut (Address, Connection),
        lifecycle: &Arc<impl Lifecycle>,
    ) -> String {
        let mut checked = Instant::now();
        loop {
            // The work of the callback has the same time limit as an answer.
            let work = lifecycle.after_heartbeat(connection.handle.clone());
            if timeout(self.limits.answer, work).await.is_err() {
                tracing::debug!(target: "larder", server = %self.source, "counting the entries in Redis took too long");
            }
            self.end_first_attempt();
            if timeout(self.limits.heartbeat, connection.ended()).await.is_ok() {
                return "the connection was closed".to_owned();
            }
            if self.check_commands.swap(false, Ordering::AcqRel) {
                return "the server refused a command".to_owned();
            }
            let asked = Instant::now();
            match self.heartbeat(connection, &**lifecycle).await {
                Ok(true) => self.contact.raise(asked),
                Ok(false) => {}
                Err(why) => return why,
            }
            if checked.elapsed() > MASTER_CHECK {
                checked = Instant::now();
                if self.source.has_moved(address, self.limits.answer / 3).await {
                    return "the sentinels name another master".to_owned();
                }
            }
        }
    }

    /// Sends one heartbeat; returns whether the callback accepts the answers. Replies come in order, so every
    /// earlier request is answered by then or fails with the connection.
    async fn heartbeat(
        &self,
        connection: &Connection,
        lifecycle: &impl Lifecycle,
    ) -> std::result::Result<bool, String> {
        let mut pipe = lifecycle.heartbeat_commands();
        pipe.cmd("TIME").cmd("ROLE");
        let asked = Instant::now();
        let mut answers = std::pin::pin!(connection.handle.send_all(&pipe));
        let mut transferred = connection.bytes_transferred();
        for _ in 0..EXTENSIONS_MAX {
            match timeout(self.limits.answer, &mut answers).await {
                Ok(Ok(answers)) => {
                    return self
                        .check_heartbeat(asked, answers, lifecycle)
                        .map_err(|error| error.to_string());
                }
                Ok(Err(error)) => return Err(error.to_string()),
                Err(_) => {}
            }
            let now = connection.bytes_transferred();
            if now == transferred {
                break;
            }
            transferred = now;
        }
        Err(format!("no answer within {:?}", self.limits.answer))
    }

    fn check_heartbeat(
        &self,
        asked: Instant,
        mut answers: Vec<Value>,
        lifecycle: &impl Lifecycle,
    ) -> RedisResult<bool> {
        let Some(role) = answers.pop() else { return Ok(false) };
        check_role(&role)?;
        if let Some(time) = answers.pop() {
            self.clock.record(asked, time);
        }
        lifecycle.on_heartbeat(answers)
    }

    fn set_up(&self, connection: &Connection) {
        let mut state = self.state.write();
        if !matches!(&*state, State::Closed) {
            *state = State::Up(connection.handle.clone());
            drop(state);
            self.connections.fetch_add(1, Ordering::Relaxed);
            tracing::info!(target: "larder", server = %self.source, "connected to Redis");
        }
    }

    fn set_down(&self, why: &str) {
        let mut state = self.state.write();
        let before = std::mem::replace(&mut *state, State::Down(why.into()));
        match before {
            State::Closed => *state = State::Closed,
            State::Up(..) => {
                tracing::warn!(target: "larder", server = %self.source, why, "lost the connection to Redis");
            }
            State::Down(before) if *before != *why && is_forbidden_command(why) => {
                tracing::error!(target: "larder", server = %self.source, why, "Redis cannot be used");
            }
            State::Down(_) => {}
        }
        drop(state);
        self.end_first_attempt();
    }

    fn end_first_attempt(&self) {
        *self.first_attempt_over.0.lock() = true;
        self.first_attempt_over.1.notify_all();
        self.first_attempt_over.2.notify_waiters();
    }
}

/// Whether the reason is that the server forbids a required command.
pub(in crate::redis) fn is_forbidden_command(why: &str) -> bool {
    why.starts_with(FORBIDS)
}

/// Rejects a server that is read-only or a sentinel. An answer without a role, such as a permission error,
/// still counts as a heartbeat.
fn check_role(answer: &Value) -> RedisResult<()> {
    let role = match answer {
        Value::Array(parts) => parts.first(),
        _ => None,
    };
    match role {
        Some(Value::BulkString(role)) if role == b"slave" => {
            Err(unusable_server("the server is a read-only replica"))
        }
        Some(Value::BulkString(role)) if role == b"sentinel" => {
            Err(unusable_server("the server is a sentinel"))
        }
        _ => Ok(()),
    }
}

fn unusable_server(why: &'static str) -> RedisError {
    (redis::ErrorKind::InvalidClientConfig, why).into()
}

/// A random duration from half of `pause` to all of it, so that nodes do not reconnect in step.
fn jittered(pause: Duration) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let share = RandomState::new().hash_one(pause) % 512;
    pause * (512 + u32::try_from(share).unwrap_or(0)) / 1024
}

pub(in crate::redis) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the tier is closed")
}

/// Maps an error of Redis to one of Larder.
pub(in crate::redis) fn to_error(error: RedisError) -> Error {
    use redis::ErrorKind as Told;
    let kind = match (error.kind(), error.code()) {
        (_, Some("OOM")) => ErrorKind::Full,
        (_, Some("WRONGTYPE")) => ErrorKind::Corrupt,
        (Told::Parse | Told::UnexpectedReturnType, _) => ErrorKind::Io,
        (Told::Server(redis::ServerErrorKind::ResponseError), _) => ErrorKind::Io,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, error.to_string()).with_source(error)
}
