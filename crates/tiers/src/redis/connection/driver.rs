//! The task that writes the requests of a connection and reads their answers.
//!
//! A caller that finds the connection idle writes its request itself: to wake the task for it would cost more than
//! the write.
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
use std::task::{Context, Poll, Waker, ready};

use redis::{PushInfo, RedisResult, Value};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use crate::redis::connection::channel::{Channel, Queue, Slot, closed_connection};
use crate::redis::connection::in_flight::{InFlight, take_all};
use crate::redis::connection::outgoing::Outgoing;
use crate::redis::connection::reply_parser::{Parsed, ReplyParser};
use crate::redis::connection::stream::CountedStream;

/// How many bytes are read at once.
const READ_LEN: usize = 64 << 10;
/// From this length on, the rest of a string is read to where it stays.
const DIRECT_MIN: usize = 16 << 10;

/// What receives push messages.
pub(in crate::redis) type OnPush = Box<dyn Fn(PushInfo) + Send + Sync>;

/// The task. Dropping it ends the connection and fails all requests.
pub(in crate::redis) struct Driver {
    channel: Channel,
}

/// A stream and what is under way on it. The task and its callers take turns.
pub(in crate::redis) struct Exchange {
    stream: CountedStream,
    outgoing: Outgoing,
    in_flight: VecDeque<InFlight>,
    parser: ReplyParser,
    /// Read and not parsed are the bytes in `parsed..read`.
    input: Box<[u8]>,
    parsed: usize,
    read: usize,
    on_push: Option<OnPush>,
}

impl Driver {
    pub(in crate::redis) fn new(stream: CountedStream, channel: Channel, on_push: Option<OnPush>) -> Self {
        channel.set_exchange(Some(Exchange {
            stream,
            outgoing: Outgoing::default(),
            in_flight: VecDeque::new(),
            parser: ReplyParser::default(),
            input: vec![0; READ_LEN].into(),
            parsed: 0,
            read: 0,
            on_push,
        }));
        Self { channel }
    }

    /// Runs until the connection ends.
    pub(in crate::redis) async fn run(self) {
        let why = poll_fn(|context| match self.channel.exchange().as_mut() {
            Some(exchange) => exchange.poll(&self.channel, context),
            None => Poll::Ready(closed_connection()),
        })
        .await;
        tracing::trace!(target: "larder", %why, "the connection to Redis ended");
    }
}

impl Exchange {
    fn poll(&mut self, channel: &Channel, context: &mut Context<'_>) -> Poll<redis::RedisError> {
        loop {
            let took = self.outgoing.is_empty()
                && channel.take(context.waker(), |queue| self.take_requests(queue)).is_some();
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

    /// Writes the requests of the queue on the thread of a caller, if no answer is expected. What the stream does
    /// not take now is left to the task, whose waker is `driver`. Returns whether the task need not be woken.
    pub(in crate::redis) fn write_at_once(&mut self, channel: &Channel, driver: &Waker) -> bool {
        if !self.in_flight.is_empty() || !self.outgoing.is_empty() {
            return false;
        }
        channel.take_and_wait(driver, |queue| self.take_requests(queue));
        let written = self.outgoing.poll_write(&mut self.stream, &mut Context::from_waker(driver));
        !matches!(written, Poll::Ready(Err(_)))
    }

    fn take_requests(&mut self, queue: &mut Queue) {
        take_all(queue, &mut self.outgoing, &mut self.in_flight);
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

impl Drop for Driver {
    fn drop(&mut self) {
        self.channel.close();
        let ended = self.channel.set_exchange(None);
        let fail = |slot: &Slot| slot.complete(Err(closed_connection()));
        ended.iter().flat_map(|ended| &ended.in_flight).for_each(|in_flight| in_flight.each_slot(fail));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt;
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
    fn request_on_an_idle_connection_is_written_by_its_caller() {
        let (channel, driver, mut server) = connected(None);
        run(driver, async move {
            tokio::task::yield_now().await;
            let sent = "*3\r\n$4\r\nMGET\r\n$7\r\nrecord1\r\n$1\r\na\r\n";
            let first = begin(&channel, 1, &["a"], 0);
            let mut read = vec![0; sent.len()];
            assert!(server.read_exact(&mut read).now_or_never().is_some(), "before the task runs");
            let second = begin(&channel, 1, &["a"], 0);
            assert!(server.read_exact(&mut read).now_or_never().is_none(), "an answer is expected");
            server.write_all(b"*2\r\n$4\r\nsame\r\n$1\r\n1\r\n").await.unwrap();
            assert_eq!(values(first.await), [text("1"), Value::Nil]);
            converse(&mut server, sent, "*2\r\n$4\r\nsame\r\n$1\r\n2\r\n").await;
            assert_eq!(values(second.await), [text("2"), Value::Nil]);
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
