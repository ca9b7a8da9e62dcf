//! The task that writes the requests of a connection and reads their answers.
//!
//! ```text
//! callers ──► queue ──► one write:  commands of all requests, then
//!                                   MGET records… entries…   of all requests about keys
//! server  ──► one read: answers in the same order ──► slots of the callers
//! ```

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use redis::{PushInfo, RedisResult, Value};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use crate::redis::connection::channel::{
    Channel, Expected, KeyRead, Queue, Reads, Slot, closed_connection, push_argument, push_command,
};
use crate::redis::connection::outgoing::Outgoing;
use crate::redis::connection::reply_parser::{Parsed, ReplyParser};
use crate::redis::connection::stream::CountedStream;
use crate::redis::keys::names::PARTITIONS;

/// How many bytes are read at once.
const READ_LEN: usize = 64 << 10;
/// From this length on, the rest of a string is read to where it stays.
const DIRECT_MIN: usize = 16 << 10;

/// What receives push messages.
pub(in crate::redis) type OnPush = Box<dyn Fn(PushInfo) + Send + Sync>;

/// The state of the task. Dropping it fails all requests.
pub(in crate::redis) struct Driver {
    stream: CountedStream,
    channel: Channel,
    outgoing: Outgoing,
    in_flight: VecDeque<InFlight>,
    parser: ReplyParser,
    /// Read and not parsed are the bytes in `parsed..read`.
    input: Box<[u8]>,
    parsed: usize,
    read: usize,
    on_push: Option<OnPush>,
}

/// Who gets the next answers.
enum InFlight {
    Commands(Expected),
    Reads(Box<ReadsInFlight>),
}

/// An `MGET` of records and entries whose answer is expected.
struct ReadsInFlight {
    /// Where the record of a partition is among them.
    positions: [u8; PARTITIONS],
    records_wanted: usize,
    /// The records that have arrived.
    records: Vec<Value>,
    waiting: VecDeque<KeyRead>,
    /// The first of two values of the request in front.
    first: Option<Value>,
    entries: usize,
    /// How many items have not arrived. `None` before the head of the array.
    left: Option<usize>,
}

impl Driver {
    pub(in crate::redis) fn new(stream: CountedStream, channel: Channel, on_push: Option<OnPush>) -> Self {
        Self {
            stream,
            channel,
            outgoing: Outgoing::default(),
            in_flight: VecDeque::new(),
            parser: ReplyParser::default(),
            input: vec![0; READ_LEN].into(),
            parsed: 0,
            read: 0,
            on_push,
        }
    }

    /// Runs until the connection ends.
    pub(in crate::redis) async fn run(mut self) {
        let why = poll_fn(|context| self.poll(context)).await;
        tracing::trace!(target: "larder", %why, "the connection to Redis ended");
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<redis::RedisError> {
        loop {
            let took = self.take_requests(context);
            if let Poll::Ready(Err(error)) = self.outgoing.poll_write(&mut self.stream, context) {
                return Poll::Ready(error.into());
            }
            match self.poll_read(context) {
                Poll::Ready(Err(error)) => return Poll::Ready(error),
                Poll::Ready(Ok(())) => {}
                Poll::Pending if took => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Takes the requests of the queue, if the former ones are written.
    fn take_requests(&mut self, context: &Context<'_>) -> bool {
        if !self.outgoing.is_empty() {
            return false;
        }
        let Self { outgoing, in_flight, .. } = self;
        let taken = self.channel.take(context.waker(), |queue| take_all(queue, outgoing, in_flight));
        taken.is_some()
    }

    /// Reads what has arrived, once.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<RedisResult<()>> {
        if self.parsed == self.read {
            (self.parsed, self.read) = (0, 0);
            if let Some((string, missing)) =
                self.parser.missing().filter(|(_, missing)| *missing >= DIRECT_MIN)
            {
                return Self::read_string(&mut self.stream, string, missing, context)
                    .map(|read| read.map_err(Into::into));
            }
        } else {
            // What is left is a part of a line, which is shorter than the buffer.
            self.input.copy_within(self.parsed..self.read, 0);
            (self.parsed, self.read) = (0, self.read - self.parsed);
        }
        let mut buffer = ReadBuf::new(&mut self.input[self.read..]);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
        let come = buffer.filled().len();
        if come == 0 {
            return Poll::Ready(Err(closed_connection()));
        }
        self.read += come;
        Poll::Ready(self.hand_over())
    }

    /// Reads the missing bytes of a string to where they stay.
    fn read_string(
        stream: &mut CountedStream,
        string: &mut Vec<u8>,
        missing: usize,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        string.reserve_exact(missing.min(DIRECT_MIN));
        let mut limited = AsyncReadExt::take(stream, missing as u64);
        let read = std::pin::pin!(limited.read_buf(string)).poll(context);
        match ready!(read)? {
            0 => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Hands the replies that have arrived to their callers.
    fn hand_over(&mut self) -> RedisResult<()> {
        loop {
            let before = &self.input[self.parsed..self.read];
            let mut input = before;
            let splits =
                matches!(self.in_flight.front(), Some(InFlight::Reads(reads)) if reads.left.is_none());
            let parsed = self.parser.parse(&mut input, splits)?;
            self.parsed = self.read - input.len();
            match parsed {
                None => return Ok(()),
                Some(Parsed::ArrayOf(items)) => self.begin_reads(items)?,
                Some(Parsed::Value(Value::Push { kind, data })) => {
                    if let Some(on_push) = &self.on_push {
                        on_push(PushInfo { kind, data });
                    }
                }
                Some(Parsed::Value(value)) => self.answer(value)?,
            }
        }
    }

    fn begin_reads(&mut self, items: usize) -> RedisResult<()> {
        let Some(InFlight::Reads(reads)) = self.in_flight.front_mut() else { return Ok(()) };
        if items != reads.records_wanted + reads.entries {
            return Err((redis::ErrorKind::Parse, "the reply has too few items").into());
        }
        reads.left = Some(items);
        Ok(())
    }

    /// Gives a reply to the request that expects it.
    fn answer(&mut self, value: Value) -> RedisResult<()> {
        let is_over = match self.in_flight.front_mut() {
            // What was not asked for is ignored.
            None => return Ok(()),
            Some(InFlight::Commands(expected)) => {
                expected.answer(value);
                expected.answers == 0
            }
            Some(InFlight::Reads(reads)) => reads.answer(value)?,
        };
        if is_over {
            self.in_flight.pop_front();
        }
        Ok(())
    }
}

/// Moves the requests of the queue to what is written, and to those who wait for answers.
fn take_all(queue: &mut Queue, outgoing: &mut Outgoing, in_flight: &mut VecDeque<InFlight>) {
    outgoing.append(&mut queue.commands);
    in_flight.extend(queue.expected.drain(..).map(InFlight::Commands));
    queue.full.drain(..).for_each(|mut full| take_reads(&mut full, outgoing, in_flight));
    take_reads(&mut queue.reads, outgoing, in_flight);
}

/// Moves requests to what is written as one command, and to those who wait for its answer.
fn take_reads(reads: &mut Reads, outgoing: &mut Outgoing, in_flight: &mut VecDeque<InFlight>) {
    if reads.waiting.is_empty() {
        return;
    }
    let entries = std::mem::take(&mut reads.entries);
    reads.named = 0;
    // About as many will wait next.
    let next = Vec::with_capacity(reads.waiting.len());
    let mut positions = [0; PARTITIONS];
    for (at, partition) in reads.partitions.iter().enumerate() {
        positions[partition % PARTITIONS] = at as u8;
    }
    let out = outgoing.tail();
    push_command(out, 1 + reads.partitions.len() + entries);
    push_argument(out, b"MGET");
    out.append(&mut reads.record_names);
    out.append(&mut reads.entry_names);
    in_flight.push_back(InFlight::Reads(Box::new(ReadsInFlight {
        records: Vec::with_capacity(reads.partitions.len()),
        positions,
        records_wanted: reads.partitions.len(),
        waiting: std::mem::replace(&mut reads.waiting, next).into(),
        first: None,
        entries,
        left: None,
    })));
    reads.partitions.clear();
}

impl Expected {
    fn answer(&mut self, value: Value) {
        self.slot.add(value);
        self.answers -= 1;
        if self.answers == 0 && !self.is_validated {
            self.slot.complete(Ok(()));
        }
    }
}

impl ReadsInFlight {
    /// Takes an item of the array, or an error in its place. Returns whether nothing more is expected.
    fn answer(&mut self, value: Value) -> RedisResult<bool> {
        let Some(left) = &mut self.left else {
            let failed = value.extract_error().map(drop);
            let failed = failed.and(Err((redis::ErrorKind::Parse, "the reply is no array").into()));
            self.waiting.drain(..).for_each(|read| read.slot.complete(failed.clone()));
            return Ok(true);
        };
        *left -= 1;
        let is_over = *left == 0;
        if self.records.len() < self.records_wanted {
            self.records.push(value);
            if self.records.len() == self.records_wanted {
                self.complete_validations();
            }
        } else {
            self.add(value);
        }
        Ok(is_over)
    }

    /// Adds a value to the request in front, and completes it if this was the last one.
    fn add(&mut self, value: Value) {
        let wants_two = self.waiting.front().is_some_and(|read| read.entries == 2);
        let values = match self.first.take() {
            None if wants_two => {
                self.first = Some(value);
                return;
            }
            None => [value, Value::Nil],
            Some(first) => [first, value],
        };
        if let Some(read) = self.waiting.pop_front() {
            self.complete(&read, values);
            self.complete_validations();
        }
    }

    /// Completes the next requests that read no entry.
    fn complete_validations(&mut self) {
        while self.waiting.front().is_some_and(|read| read.entries == 0)
            && let Some(read) = self.waiting.pop_front()
        {
            self.complete(&read, [Value::Nil, Value::Nil]);
        }
    }

    fn complete(&self, read: &KeyRead, values: [Value; 2]) {
        let record = self.records.get(usize::from(self.positions[read.partition % PARTITIONS]));
        let record = record.filter(|record| !read.cached.is_confirmed_by(record)).cloned();
        read.slot.complete_read(values, record);
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.channel.close();
        let fail = |slot: &Arc<Slot>| slot.complete(Err(closed_connection()));
        for in_flight in self.in_flight.drain(..) {
            match in_flight {
                InFlight::Commands(expected) => fail(&expected.slot),
                InFlight::Reads(reads) => reads.waiting.iter().for_each(|read| fail(&read.slot)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use redis::Pipeline;
    use tokio::io::{AsyncWriteExt, DuplexStream};

    use super::*;
    use crate::redis::connection::channel::{Answer, KeyRequest, Pending, READ_TOGETHER_MAX};
    use crate::redis::keys::partition_epochs::EpochRecord;

    /// A connection whose server is the test.
    fn connected(on_push: Option<OnPush>) -> (Channel, Driver, DuplexStream) {
        let (ours, server) = tokio::io::duplex(1 << 20);
        let channel = Channel::new();
        (channel.clone(), Driver::new(CountedStream::new(ours), channel, on_push), server)
    }

    /// Runs `test` beside the driver.
    fn run(driver: Driver, test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let driver = tokio::spawn(driver.run());
            test.await;
            driver.abort();
        });
    }

    fn cached(text: &[u8]) -> Arc<EpochRecord> {
        Arc::new(EpochRecord { text: text.into(), ..EpochRecord::default() })
    }

    fn begin(channel: &Channel, partition: usize, entries: &[&str], commands: usize) -> Pending {
        let (record_name, cached) = (&*format!("record{partition}"), &cached(b"same"));
        let request = KeyRequest { partition, record_name, cached, entries };
        channel.begin_for_key(&request, |out| {
            (0..commands).for_each(|_| out.tail().extend_from_slice(b"*1\r\n$3\r\nSET\r\n"));
            commands
        })
    }

    /// Waits for these bytes, and sends an answer.
    async fn converse(server: &mut DuplexStream, expected: &str, answer: &str) {
        let mut read = vec![0; expected.len()];
        server.read_exact(&mut read).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&read), expected);
        server.write_all(answer.as_bytes()).await.unwrap();
    }

    fn values(answer: RedisResult<Answer>) -> [Value; 2] {
        let answer = answer.unwrap();
        assert!(answer.record.is_none(), "the record is the cached one");
        answer.values
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    /// Each request would read its own record otherwise, with a command of its own.
    #[test]
    fn requests_about_keys_share_one_read_that_follows_their_commands() {
        let (channel, driver, mut server) = connected(None);
        run(driver, async move {
            let (one, set) = (begin(&channel, 1, &["a"], 0), begin(&channel, 2, &[], 1));
            let two = begin(&channel, 1, &["b", "c"], 0);
            let sent = "*1\r\n$3\r\nSET\r\n*6\r\n$4\r\nMGET\r\n$7\r\nrecord1\r\n$7\r\nrecord2\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n";
            let answer = "+OK\r\n*5\r\n$4\r\nsame\r\n$4\r\nsame\r\n$1\r\n1\r\n$1\r\n2\r\n$-1\r\n";
            converse(&mut server, sent, answer).await;
            assert_eq!(values(one.await), [text("1"), Value::Nil]);
            assert_eq!(values(two.await), [text("2"), Value::Nil]);
            assert_eq!(set.await.unwrap().last, Some(Value::Okay));
        });
    }

    #[test]
    fn one_command_reads_no_more_than_so_many_entries() {
        let (channel, driver, mut server) = connected(None);
        run(driver, async move {
            let sent: Vec<_> = (0..=READ_TOGETHER_MAX).map(|_| begin(&channel, 1, &["a"], 0)).collect();
            let names = "$1\r\na\r\n".repeat(READ_TOGETHER_MAX);
            let first = format!("*{}\r\n$4\r\nMGET\r\n$7\r\nrecord1\r\n{names}", READ_TOGETHER_MAX + 2);
            let items = "$1\r\n1\r\n".repeat(READ_TOGETHER_MAX);
            let answer = format!("*{}\r\n$4\r\nsame\r\n{items}", READ_TOGETHER_MAX + 1);
            converse(&mut server, &first, &answer).await;
            let second = "*3\r\n$4\r\nMGET\r\n$7\r\nrecord1\r\n$1\r\na\r\n";
            converse(&mut server, second, "*2\r\n$4\r\nsame\r\n$1\r\n2\r\n").await;
            for (number, sent) in sent.into_iter().enumerate() {
                let expected = if number < READ_TOGETHER_MAX { "1" } else { "2" };
                assert_eq!(values(sent.await), [text(expected), Value::Nil], "{number}");
            }
        });
    }

    #[test]
    fn record_that_differs_is_handed_to_the_requests_of_its_partition() {
        let (channel, driver, mut server) = connected(None);
        run(driver, async move {
            let (same, other) = (begin(&channel, 1, &["a"], 0), begin(&channel, 2, &["b"], 0));
            let sent = "*5\r\n$4\r\nMGET\r\n$7\r\nrecord1\r\n$7\r\nrecord2\r\n$1\r\na\r\n$1\r\nb\r\n";
            converse(&mut server, sent, "*4\r\n$4\r\nsame\r\n$5\r\nother\r\n$1\r\n1\r\n$1\r\n2\r\n").await;
            assert_eq!(values(same.await), [text("1"), Value::Nil]);
            assert_eq!(other.await.unwrap().record, Some(text("other")));
        });
    }

    #[test]
    fn refused_read_fails_all_its_requests_and_no_others() {
        let (channel, driver, mut server) = connected(None);
        run(driver, async move {
            let (get, set) = (begin(&channel, 1, &["a"], 0), begin(&channel, 1, &[], 1));
            let mut pipe = Pipeline::new();
            pipe.cmd("TIME").cmd("ROLE");
            let sent = "*1\r\n$3\r\nSET\r\n*1\r\n$4\r\nTIME\r\n*1\r\n$4\r\nROLE\r\n*3\r\n$4\r\nMGET\r\n$7\r\nrecord1\r\n$1\r\na\r\n";
            let talk = converse(&mut server, sent, "+OK\r\n:1\r\n*1\r\n:2\r\n-NOPERM no\r\n");
            let (plain, ()) = futures_util::future::join(channel.send_all(&pipe), talk).await;
            assert_eq!(get.await.unwrap_err().code(), Some("NOPERM"));
            assert_eq!(set.await.unwrap_err().code(), Some("NOPERM"));
            assert_eq!(plain.unwrap(), [Value::Int(1), Value::Array(vec![Value::Int(2)])]);
        });
    }

    #[test]
    fn long_values_arrive_whole_and_messages_between_replies() {
        let pushed = Arc::new(std::sync::Mutex::new(Vec::new()));
        let heard = Arc::clone(&pushed);
        let (channel, driver, mut server) =
            connected(Some(Box::new(move |push| heard.lock().unwrap().push(push.data))));
        let long = "x".repeat(3 << 20);
        run(driver, async move {
            let (one, two) = (begin(&channel, 1, &["a"], 0), begin(&channel, 1, &["b"], 0));
            let sent = "*4\r\n$4\r\nMGET\r\n$7\r\nrecord1\r\n$1\r\na\r\n$1\r\nb\r\n";
            let answer = format!(
                ">2\r\n+invalidate\r\n:7\r\n*3\r\n$4\r\nsame\r\n${}\r\n{long}\r\n$1\r\n2\r\n",
                long.len()
            );
            converse(&mut server, sent, &answer).await;
            assert!(values(one.await) == [text(&long), Value::Nil]);
            assert_eq!(values(two.await), [text("2"), Value::Nil]);
            assert_eq!(*pushed.lock().unwrap(), [vec![Value::Int(7)]]);
        });
    }

    #[test]
    fn requests_fail_when_the_connection_ends_and_afterwards() {
        let (channel, driver, mut server) = connected(None);
        run(driver, async move {
            let sent = begin(&channel, 1, &["a"], 1);
            converse(&mut server, "*1\r\n$3\r\nSET\r\n", "+OK\r\n").await;
            drop(server);
            assert!(sent.await.unwrap_err().is_io_error());
            assert!(begin(&channel, 1, &["a"], 0).await.unwrap_err().is_io_error());
        });
        // The task never ran.
        let (channel, driver, _server) = connected(None);
        let waiting = begin(&channel, 1, &["a"], 0);
        drop(driver);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert!(runtime.block_on(waiting).unwrap_err().is_io_error());
    }
}
