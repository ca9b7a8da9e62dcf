//! The requests that wait for one connection, and their answers.
//!
//! A caller encodes its commands into the buffer that the driver of the connection writes next, and waits for
//! its slot to be filled. So the requests of many callers are written together, and there is one allocation
//! a request. A request about a key does not read the epoch record of its partition by itself: the driver
//! ends what it writes with one `MGET` of all records that these requests need, and of the entries they read
//! (one for each 256 entries).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::{Mutex, MutexGuard};
use redis::aio::ConnectionLike;
use redis::{Cmd, Pipeline, RedisError, RedisFuture, RedisResult, Value};

use crate::redis::connection::driver::Exchange;
use crate::redis::connection::outgoing::Outgoing;
use crate::redis::keys::names::PARTITIONS;
use crate::redis::keys::partition_epochs::EpochRecord;

/// How many entries one `MGET` reads. The server answers no one else while it carries one out.
pub(in crate::redis) const READ_TOGETHER_MAX: usize = 256;

/// Longer requests are left to the driver, so that no caller spends long on them.
const AT_ONCE_MAX: usize = 16 << 10;

/// The handle that requests are sent through. Clones share the connection.
#[derive(Clone)]
pub(in crate::redis) struct Channel(Arc<Shared>);

/// What callers and the driver share.
struct Shared {
    queue: Mutex<Queue>,
    /// `None` after the connection has ended. Locked before the queue.
    exchange: Mutex<Option<Exchange>>,
}

/// The requests that the driver has not taken yet.
#[derive(Default)]
pub(in crate::redis) struct Queue {
    /// The commands of all requests, in order.
    pub(in crate::redis) commands: Outgoing,
    /// Who gets the answers to them, in the same order.
    pub(in crate::redis) expected: Vec<Expected>,
    /// What is read about keys after them.
    pub(in crate::redis) reads: Reads,
    /// What is read before that, by commands of their own: each names as many entries as one may.
    pub(in crate::redis) full: Vec<Reads>,
    /// Set while the driver waits for requests.
    driver: Option<Waker>,
    is_closed: bool,
}

/// The answers to consecutive commands of one request.
pub(in crate::redis) struct Expected {
    pub(in crate::redis) slot: Arc<Slot>,
    pub(in crate::redis) answers: usize,
    /// Whether the request also waits for the epoch record of its partition.
    pub(in crate::redis) is_validated: bool,
}

/// Epoch records and entries that are read together.
#[derive(Default)]
pub(in crate::redis) struct Reads {
    /// The names of the records, encoded as arguments.
    pub(in crate::redis) record_names: Vec<u8>,
    /// The names of the entries, encoded as arguments.
    pub(in crate::redis) entry_names: Vec<u8>,
    /// How many entries are named.
    pub(in crate::redis) entries: usize,
    /// The partitions of the records, in order.
    pub(in crate::redis) partitions: Vec<usize>,
    /// The same as bits.
    pub(in crate::redis) named: u64,
    /// Who waits for them, in the order of the entries.
    pub(in crate::redis) waiting: Vec<KeyRead>,
}

/// A request that waits for an epoch record, and for the value of an entry if it reads one.
pub(in crate::redis) struct KeyRead {
    pub(in crate::redis) slot: Arc<Slot>,
    pub(in crate::redis) partition: usize,
    pub(in crate::redis) cached: Arc<EpochRecord>,
    /// How many entries it reads.
    pub(in crate::redis) entries: usize,
}

/// A request about a key, whose answer is validated by the epoch record of its partition.
pub(in crate::redis) struct KeyRequest<'a> {
    pub(in crate::redis) partition: usize,
    /// The name of the epoch record.
    pub(in crate::redis) record_name: &'a str,
    /// The cached record that the names in the request were built from.
    pub(in crate::redis) cached: &'a Arc<EpochRecord>,
    /// The values to read, two at most.
    pub(in crate::redis) entries: &'a [&'a str],
}

/// The answer to a request.
#[derive(Debug, Default)]
pub(in crate::redis) struct Answer {
    /// The answer to its last command.
    pub(in crate::redis) last: Option<Value>,
    /// The answers to its earlier commands.
    pub(in crate::redis) earlier: Vec<Value>,
    /// The values that were read.
    pub(in crate::redis) values: [Value; 2],
    /// The epoch record, if it differs from the cached one.
    pub(in crate::redis) record: Option<Value>,
}

/// Where the answer to a request arrives.
#[derive(Default)]
pub(in crate::redis) struct Slot {
    state: Mutex<SlotState>,
}

#[derive(Default)]
struct SlotState {
    answer: Answer,
    outcome: Option<RedisResult<()>>,
    waker: Option<Waker>,
}

impl Slot {
    /// Adds the answer to a command.
    pub(in crate::redis) fn add(&self, answer: Value) {
        let Answer { last, earlier, .. } = &mut self.state.lock().answer;
        earlier.extend(last.replace(answer));
    }

    /// Completes the request with what was read for it.
    pub(in crate::redis) fn complete_read(&self, values: [Value; 2], record: Option<Value>) {
        let mut state = self.state.lock();
        (state.answer.values, state.answer.record) = (values, record);
        drop(state);
        self.complete(Ok(()));
    }

    /// Completes the request, and wakes its caller. Only the first outcome counts.
    pub(in crate::redis) fn complete(&self, outcome: RedisResult<()>) {
        let mut state = self.state.lock();
        if state.outcome.is_none() {
            state.outcome = Some(outcome);
        }
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A request that was sent. Dropping it gives up the answer; the request is carried out all the same.
pub(in crate::redis) struct Pending(Arc<Slot>);

impl Future for Pending {
    type Output = RedisResult<Answer>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.0.state.lock();
        match state.outcome.take() {
            Some(outcome) => Poll::Ready(outcome.map(|()| std::mem::take(&mut state.answer))),
            None => {
                match &mut state.waker {
                    Some(waker) => waker.clone_from(context.waker()),
                    None => state.waker = Some(context.waker().clone()),
                }
                Poll::Pending
            }
        }
    }
}

impl Channel {
    pub(in crate::redis) fn new() -> Self {
        Self(Arc::new(Shared { queue: Mutex::default(), exchange: Mutex::new(None) }))
    }

    /// Gives the channel its stream, or takes it away.
    pub(in crate::redis) fn set_exchange(&self, exchange: Option<Exchange>) -> Option<Exchange> {
        std::mem::replace(&mut *self.exchange(), exchange)
    }

    /// Locks the stream.
    pub(in crate::redis) fn exchange(&self) -> MutexGuard<'_, Option<Exchange>> {
        self.0.exchange.lock()
    }

    /// Sends one command.
    pub(in crate::redis) async fn send(&self, cmd: &Cmd) -> RedisResult<Value> {
        let sent = self.begin(1, |out| cmd.write_packed_command(out.tail()));
        Ok(sent.await?.last.unwrap_or_default())
    }

    /// Sends a pipeline; returns the answers to all its commands.
    pub(in crate::redis) async fn send_all(&self, pipe: &Pipeline) -> RedisResult<Vec<Value>> {
        let sent = self
            .begin(pipe.len(), |out| pipe.cmd_iter().for_each(|cmd| cmd.write_packed_command(out.tail())));
        let Answer { last, mut earlier, .. } = sent.await?;
        earlier.extend(last);
        Ok(earlier)
    }

    fn begin(&self, answers: usize, encode: impl FnOnce(&mut Outgoing)) -> Pending {
        self.submit(|queue, slot| {
            if answers == 0 {
                return slot.complete(Ok(()));
            }
            encode(&mut queue.commands);
            queue.expected.push(Expected { slot: Arc::clone(slot), answers, is_validated: false });
        })
    }

    /// Sends a request about a key. `encode` writes its commands, and returns how many.
    pub(in crate::redis) fn begin_for_key(
        &self,
        request: &KeyRequest<'_>,
        encode: impl FnOnce(&mut Outgoing) -> usize,
    ) -> Pending {
        self.submit(|queue, slot| {
            let answers = encode(&mut queue.commands);
            if answers > 0 {
                queue.expected.push(Expected { slot: Arc::clone(slot), answers, is_validated: true });
            }
            if queue.reads.entries >= READ_TOGETHER_MAX {
                let full = std::mem::take(&mut queue.reads);
                queue.full.push(full);
            }
            queue.reads.add(request, Arc::clone(slot));
        })
    }

    fn submit(&self, add: impl FnOnce(&mut Queue, &Arc<Slot>)) -> Pending {
        let slot = Arc::new(Slot::default());
        let mut queue = self.0.queue.lock();
        if queue.is_closed {
            drop(queue);
            slot.complete(Err(closed_connection()));
            return Pending(slot);
        }
        add(&mut queue, &slot);
        let driver = queue.driver.take();
        let is_short = queue.commands.len() < AT_ONCE_MAX;
        drop(queue);
        if let Some(driver) = driver
            && !(is_short && self.write_at_once(&driver))
        {
            driver.wake();
        }
        Pending(slot)
    }

    /// Writes the queue on this thread if the connection is idle. Returns whether the driver need not be woken.
    fn write_at_once(&self, driver: &Waker) -> bool {
        let exchange = self.0.exchange.try_lock();
        exchange.is_some_and(|mut exchange| {
            exchange.as_mut().is_some_and(|exchange| exchange.write_at_once(self, driver))
        })
    }

    /// Gives the queue to a caller that writes it. The next request wakes `driver`.
    pub(in crate::redis) fn take_and_wait(&self, driver: &Waker, take: impl FnOnce(&mut Queue)) {
        let mut queue = self.0.queue.lock();
        take(&mut queue);
        if queue.driver.is_none() {
            queue.driver = Some(driver.clone());
        }
    }

    /// Gives the queue to the driver. If it is empty, `waker` is woken by the next request.
    pub(in crate::redis) fn take<R>(&self, waker: &Waker, take: impl FnOnce(&mut Queue) -> R) -> Option<R> {
        let mut queue = self.0.queue.lock();
        if queue.expected.is_empty() && queue.reads.waiting.is_empty() {
            queue.driver = Some(waker.clone());
            return None;
        }
        Some(take(&mut queue))
    }

    /// Refuses requests from now on, and fails those that the driver has not taken.
    pub(in crate::redis) fn close(&self) {
        let mut queue = self.0.queue.lock();
        queue.is_closed = true;
        let Queue { expected, reads, full, .. } = std::mem::take(&mut *queue);
        queue.is_closed = true;
        drop(queue);
        let slots = expected.into_iter().map(|expected| expected.slot);
        let waiting = full.into_iter().chain([reads]).flat_map(|reads| reads.waiting);
        let slots = slots.chain(waiting.map(|read| read.slot));
        slots.for_each(|slot| slot.complete(Err(closed_connection())));
    }
}

impl Reads {
    fn add(&mut self, request: &KeyRequest<'_>, slot: Arc<Slot>) {
        let KeyRequest { partition, record_name, cached, entries } = *request;
        let bit = 1 << (partition % PARTITIONS);
        if self.named & bit == 0 {
            self.named |= bit;
            self.partitions.push(partition);
            push_argument(&mut self.record_names, record_name.as_bytes());
        }
        entries.iter().for_each(|entry| push_argument(&mut self.entry_names, entry.as_bytes()));
        self.entries += entries.len();
        let (cached, entries) = (Arc::clone(cached), entries.len());
        self.waiting.push(KeyRead { slot, partition, cached, entries });
    }
}

/// Appends the head of a command with this many arguments, its name among them.
pub(in crate::redis) fn push_command(out: &mut Vec<u8>, arguments: usize) {
    push_length(out, b'*', arguments);
}

/// Appends an argument of a command.
pub(in crate::redis) fn push_argument(out: &mut Vec<u8>, argument: &[u8]) {
    push_length(out, b'$', argument.len());
    out.extend_from_slice(argument);
    out.extend_from_slice(b"\r\n");
}

/// Appends the head of a command or an argument.
pub(in crate::redis) fn push_length(out: &mut Vec<u8>, kind: u8, length: usize) {
    out.push(kind);
    push_number(out, length as u64);
    out.extend_from_slice(b"\r\n");
}

/// Appends a number in decimal digits.
pub(in crate::redis) fn push_number(out: &mut Vec<u8>, mut number: u64) {
    let (mut digits, mut at) = ([0; 20], 20);
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

pub(in crate::redis) fn closed_connection() -> RedisError {
    io::Error::from(io::ErrorKind::BrokenPipe).into()
}

/// Lets commands of the client library be sent through the channel.
impl ConnectionLike for Channel {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(self.send(cmd))
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipe: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            let answers = self.send_all(pipe).await?;
            Ok(answers.into_iter().skip(offset).take(count).collect())
        })
    }

    fn get_db(&self) -> i64 {
        0
    }
}
