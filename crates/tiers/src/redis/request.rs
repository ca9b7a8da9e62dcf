//! One round trip about some keys, checked against the marks of their partitions.

use larder_core::clock::Time;
use larder_core::frame::{Frame, Head};
use larder_core::key::EncodedKey;
use larder_core::{Bytes, Error, ErrorKind, Result};
use redis::{Pipeline, RedisWrite, ToRedisArgs, Value};

use super::Inner;
use super::link::{closed, meant};
use super::marks::{exchange, read};
use super::names::Names;

/// How often a request is made again because its partition was cleared meanwhile.
const ATTEMPTS: u32 = 8;

/// The answers to one request.
pub(super) struct Answers {
    /// Of each command, in order.
    pub(super) commands: Vec<Value>,
    /// Of each key that was to be read, in order.
    pub(super) values: Vec<Value>,
}

/// What a request is about: names, and the generations they were made from.
struct Plan {
    names: Vec<String>,
    marks: Vec<(usize, u64)>,
}

impl Inner {
    /// Sends what `fill` makes of the names of `keys`, and after it reads the
    /// marks, and the values too where `values` says so. Where a mark is not
    /// what it was believed to be, all of it is made again with the new one:
    /// what was done with the former names is done to entries that are gone.
    pub(super) async fn ask<'a>(
        &self,
        keys: impl Iterator<Item = &'a EncodedKey> + Clone,
        values: bool,
        fill: impl Fn(&mut Pipeline, &[String]),
    ) -> Result<Answers> {
        for _ in 0..ATTEMPTS {
            let mut connection = self.link.connection()?;
            let plan = self.plan(keys.clone());
            let mut pipe = Pipeline::with_capacity(plan.names.len() + 1);
            fill(&mut pipe, &plan.names);
            pipe.cmd("MGET");
            for (partition, _) in &plan.marks {
                pipe.arg(self.names.mark(*partition));
            }
            if values {
                pipe.arg(&plan.names);
            }
            let mut commands = exchange(&mut connection, &pipe).await.map_err(|error| self.meant(error))?;
            let mut marks = array(commands.pop()).map_err(|error| self.meant(error))?;
            if marks.len() < plan.marks.len() {
                return Err(Error::new(ErrorKind::Io, "an answer of Redis is too short"));
            }
            let values = marks.split_off(plan.marks.len());
            if plan.holds(&marks) {
                return Ok(Answers { commands, values });
            }
            self.learn(&plan, &marks, &mut connection).await.map_err(|error| self.meant(error))?;
        }
        Err(Error::new(ErrorKind::Unavailable, "the tier is cleared again and again"))
    }

    fn plan<'a>(&self, keys: impl Iterator<Item = &'a EncodedKey>) -> Plan {
        let mut plan = Plan { names: Vec::new(), marks: Vec::new() };
        for key in keys {
            let partition = Names::partition(key);
            let known = plan.marks.iter().find(|(held, _)| *held == partition).map(|(_, mark)| *mark);
            let generation = known.unwrap_or_else(|| {
                let generation = self.marks.generation(partition);
                plan.marks.push((partition, generation));
                generation
            });
            plan.names.push(self.names.entry(generation, key));
        }
        plan
    }

    async fn learn(
        &self,
        plan: &Plan,
        seen: &[Value],
        connection: &mut redis::aio::MultiplexedConnection,
    ) -> redis::RedisResult<()> {
        for ((partition, _), seen) in plan.marks.iter().zip(seen) {
            match read(seen) {
                Some(generation) => self.marks.set(*partition, generation),
                None => self.marks.make(*partition, &self.names, connection).await?,
            }
        }
        Ok(())
    }

    pub(super) fn meant(&self, error: redis::RedisError) -> Error {
        if self.link.is_closed() { closed() } else { meant(error) }
    }

    /// `SET`, with the time to live that the frame has left.
    pub(super) fn set(&self, pipe: &mut Pipeline, name: &str, frame: &Frame) {
        pipe.cmd("SET").arg(name).arg(Whole(frame));
        if let Some(millis) = self.millis_left(frame) {
            pipe.arg("PX").arg(millis);
        }
    }

    /// How long Redis is to keep a frame: to the end of its stale window, and no
    /// longer than a lease.
    pub(super) fn millis_left(&self, frame: &Frame) -> Option<u64> {
        let header = Head::parse(frame.head()).ok()?.header;
        self.leased(self.millis_to(header.deadline.max(header.stale_deadline)))
    }

    /// From now to `until`; `None` for the time that never comes.
    pub(super) fn millis_to(&self, until: Time) -> Option<u64> {
        let left = until.as_millis().saturating_sub(self.clock.now().as_millis());
        // Redis refuses zero, and times beyond what it can count.
        (until != Time::NEVER).then(|| left.clamp(1, 1 << 53))
    }
}

impl Plan {
    fn holds(&self, seen: &[Value]) -> bool {
        self.marks.iter().zip(seen).all(|((_, believed), seen)| read(seen) == Some(*believed))
    }
}

/// A frame as one argument, without putting its parts together first.
pub(super) struct Whole<'a>(pub(super) &'a Frame);

impl ToRedisArgs for Whole<'_> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        use std::io::Write;
        out.reserve_space_for_args([self.0.len()]);
        let mut writer = out.writer_for_next_arg();
        // The writer appends to memory.
        let _infallible = writer.write_all(self.0.head()).and_then(|()| writer.write_all(self.0.body()));
    }
}

fn array(answer: Option<Value>) -> redis::RedisResult<Vec<Value>> {
    match answer.unwrap_or(Value::Nil).extract_error()? {
        Value::Array(items) => Ok(items),
        _ => Ok(Vec::new()),
    }
}

/// A frame, or none. What is of another type than we write is none.
pub(super) fn frame(answer: Option<Value>) -> Option<Bytes> {
    match answer {
        Some(Value::BulkString(bytes)) => Some(bytes.into()),
        _ => None,
    }
}
