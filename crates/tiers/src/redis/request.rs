//! Requests about keys, validated against the epoch records of their partitions.

use std::sync::Arc;

use larder_core::clock::Time;
use larder_core::entry_meta::read_offset;
use larder_core::frame::{Frame, Head};
use larder_core::key::EncodedKey;
use larder_core::{Bytes, Error, ErrorKind, Result};
use redis::{Cmd, RedisWrite, ToRedisArgs, Value};

use crate::redis::Inner;
use crate::redis::keys::names::{Names, Place};
use crate::redis::keys::partition_epochs::Belief;
use crate::redis::topology::router::Order;
use crate::redis::topology::{Fleet, again};

/// How many times a request is retried because its partition was cleared meanwhile.
const ATTEMPTS: u32 = 8;

/// Builds the commands for a key, from its position and its names.
pub(in crate::redis) type Fill<'a> = dyn Fn(usize, &Place) -> Vec<Cmd> + Sync + 'a;

/// The answer for one key.
#[derive(Default)]
pub(in crate::redis) struct Answer {
    /// The answer to its last command, if any was sent.
    pub(in crate::redis) command: Value,
    /// The value of the entry, if it was requested.
    pub(in crate::redis) value: Value,
    /// The epoch in the key name that was used.
    pub(in crate::redis) generation: u64,
}

/// The commands of a batch: keys without an answer yet, grouped by those that are read together.
struct Plan {
    /// Position, partition and names of each key, in order.
    keys: Vec<(usize, usize, Place)>,
    groups: Vec<Group>,
}

/// Epoch records, and the values of some keys, that one command reads.
#[derive(Default)]
struct Group {
    /// Partitions with the cached records that the names were built from.
    marks: Vec<(usize, Arc<Belief>)>,
    /// Indexes into the keys of the plan.
    members: Vec<usize>,
}

impl Group {
    /// The cached record of a partition in this group.
    fn known(&self, partition: usize) -> Option<&Arc<Belief>> {
        self.marks.iter().find(|(held, _)| *held == partition).map(|(_, belief)| belief)
    }
}

impl Inner {
    /// Sends a command about one key, followed by a read of the epoch record of its partition. If that
    /// differs from the cached record, the command is sent again with the new record; the first attempt only
    /// touched an obsolete entry.
    pub(in crate::redis) async fn one(&self, key: &EncodedKey, fill: impl Fn(&str) -> Cmd) -> Result<Value> {
        self.some(key, |place| vec![fill(&place.name)]).await
    }

    /// Like [`one`](Self::one), with several commands in order; returns the answer to the last one.
    pub(in crate::redis) async fn some(
        &self,
        key: &EncodedKey,
        fill: impl Fn(&Place) -> Vec<Cmd>,
    ) -> Result<Value> {
        let partition = Names::partition(key);
        for _ in 0..ATTEMPTS {
            let believed = self.marks.belief(partition);
            let mut mark = redis::cmd("MGET");
            mark.arg(self.names.mark(partition));
            let commands = fill(&self.names.place(&believed, key)).into_iter().chain([mark]);
            let orders = commands.map(|cmd| Order { partition, cmd }).collect();
            let mut answers = self.fleet.exchange(orders).await;
            let mark = answers.pop().unwrap_or_else(|| Err(too_short()));
            let answer = answers.pop().unwrap_or_else(|| Err(too_short()));
            let mark = self.marks.read(&mark?);
            if is(&mark, &believed) {
                return answer;
            }
            Box::pin(self.learn(partition, mark)).await?;
        }
        Err(cleared())
    }

    /// Reads the frame of a key together with the epoch record.
    pub(in crate::redis) async fn get(&self, key: &EncodedKey) -> Result<Option<Bytes>> {
        let partition = Names::partition(key);
        for _ in 0..ATTEMPTS {
            let believed = self.marks.belief(partition);
            let mut cmd = redis::cmd("MGET");
            cmd.arg(self.names.mark(partition)).arg(self.names.entry(&believed, key));
            let answer = self.fleet.send(Order { partition, cmd }).await?;
            let [mark, value] = list(answer).try_into().map_err(|_| too_short())?;
            let mark = self.marks.read(&mark);
            if is(&mark, &believed) {
                return Ok(frame(value));
            }
            Box::pin(self.learn(partition, mark)).await?;
        }
        Err(cleared())
    }

    /// Reads the frame of a key and its tombstone together with the epoch record; also returns the epoch.
    pub(in crate::redis) async fn get_with_removal(
        &self,
        key: &EncodedKey,
    ) -> Result<(Option<Bytes>, Value, u64)> {
        let partition = Names::partition(key);
        for _ in 0..ATTEMPTS {
            let believed = self.marks.belief(partition);
            let name = self.names.entry(&believed, key);
            let mut cmd = redis::cmd("MGET");
            cmd.arg(self.names.mark(partition)).arg(&name).arg(self.names.removal(&name));
            let answer = self.fleet.send(Order { partition, cmd }).await?;
            let [mark, value, removal] = list(answer).try_into().map_err(|_| too_short())?;
            let mark = self.marks.read(&mark);
            if is(&mark, &believed) {
                return Ok((frame(value), removal, believed.generation));
            }
            Box::pin(self.learn(partition, mark)).await?;
        }
        Err(cleared())
    }

    /// Sends the commands that `fill` builds for each key, followed by a read of the epoch records, and of
    /// the values if `values` is set: one round trip per server. Retries the keys whose epoch records differ
    /// from the cached ones.
    pub(in crate::redis) async fn many(
        &self,
        keys: &[&EncodedKey],
        values: bool,
        fill: Option<&Fill<'_>>,
    ) -> Vec<Result<Answer>> {
        let mut answers: Vec<Result<Answer>> = keys.iter().map(|_| Err(cleared())).collect();
        let mut open: Vec<usize> = (0..keys.len()).collect();
        for _ in 0..ATTEMPTS {
            let plan = self.plan(keys, &open);
            let (orders, counts) = plan.orders(&self.names, values, fill);
            let told = self.fleet.exchange(orders).await;
            open = self.sort_out(plan, (told, counts), &mut answers).await;
            if open.is_empty() {
                break;
            }
        }
        answers
    }

    fn plan(&self, keys: &[&EncodedKey], open: &[usize]) -> Plan {
        // In a cluster, one command cannot read keys of several slots.
        let apart = matches!(self.fleet, Fleet::Many(_));
        let mut plan = Plan { keys: Vec::with_capacity(open.len()), groups: Vec::new() };
        for (member, index) in open.iter().enumerate() {
            let partition = Names::partition(keys[*index]);
            let group = plan.group(partition, apart);
            let belief = group.known(partition).cloned().unwrap_or_else(|| {
                let belief = self.marks.belief(partition);
                group.marks.push((partition, Arc::clone(&belief)));
                belief
            });
            group.members.push(member);
            plan.keys.push((*index, partition, self.names.place(&belief, keys[*index])));
        }
        plan
    }

    /// Stores the valid answers; returns the keys to retry.
    async fn sort_out(
        &self,
        plan: Plan,
        (told, counts): (Vec<Result<Value>>, Vec<usize>),
        answers: &mut [Result<Answer>],
    ) -> Vec<usize> {
        let mut told = told.into_iter();
        let mut commands: Vec<_> = counts.iter().map(|count| told.by_ref().take(*count).last()).collect();
        let mut open = Vec::new();
        for (group, told) in plan.groups.iter().zip(told) {
            let held = match self.check(group, told).await {
                Ok(held) => held,
                Err(error) => {
                    group.members.iter().for_each(|at| answers[plan.keys[*at].0] = Err(again(&error)));
                    continue;
                }
            };
            let mut values = held.values.into_iter();
            for member in &group.members {
                let (index, partition, _) = &plan.keys[*member];
                let value = values.next().unwrap_or_default();
                if held.broken.contains(partition) {
                    open.push(*index);
                    continue;
                }
                let command = commands.get_mut(*member).and_then(Option::take).unwrap_or(Ok(Value::Nil));
                let generation = group.known(*partition).map_or(0, |belief| belief.generation);
                answers[*index] = command.map(|command| Answer { command, value, generation });
            }
        }
        open.sort_unstable();
        open
    }

    /// Compares the epoch records of a group with the cached ones.
    async fn check(&self, group: &Group, told: Result<Value>) -> Result<Held> {
        let mut marks = list(told?);
        if marks.len() < group.marks.len() {
            return Err(too_short());
        }
        let values = marks.split_off(group.marks.len());
        let mut broken = Vec::new();
        for ((partition, believed), mark) in group.marks.iter().zip(&marks) {
            let mark = self.marks.read(mark);
            if !is(&mark, believed) {
                Box::pin(self.learn(*partition, mark)).await?;
                broken.push(*partition);
            }
        }
        Ok(Held { values, broken })
    }

    async fn learn(&self, partition: usize, mark: Option<Belief>) -> Result<()> {
        match mark {
            Some(belief) => self.marks.set(partition, belief),
            None => self.marks.register(partition, &self.names, &self.fleet).await?,
        }
        Ok(())
    }

    /// The commands that store an entry and remove those of other program versions.
    pub(in crate::redis) fn replace(&self, place: &Place, frame: &Frame) -> Vec<Cmd> {
        let mut commands = self.unlink_others(place);
        commands.push(self.set(&place.name, frame));
        commands
    }

    /// A `SET` with the remaining time to live of the frame.
    pub(in crate::redis) fn set(&self, name: &str, frame: &Frame) -> Cmd {
        let mut cmd = Cmd::with_capacity(5, name.len() + frame.len() + 32);
        cmd.arg("SET").arg(name).arg(Whole(frame));
        if let Some(millis) = self.millis_left(frame.head()) {
            cmd.arg("PX").arg(millis);
        }
        cmd
    }

    /// How long Redis keeps the frame with this head, in milliseconds: to the end of its stale window, and at
    /// most for the lifetime of ephemeral keys. `None` for ever.
    pub(in crate::redis) fn millis_left(&self, head: &[u8]) -> Option<u64> {
        let Ok(head) = Head::parse(head) else { return self.kept_for(None) };
        let until = head.header.deadline.max(head.header.stale_deadline);
        let partition = Names::partition(&EncodedKey::new(head.key));
        let left = match (read_offset(head.tags), self.time(partition)) {
            (Some(offset), Some(now)) => millis_between(now, offset.forward(until)),
            _ => millis_between(self.clock.now(), until),
        };
        self.kept_for(left)
    }
}

/// Milliseconds from `now` to `until`; `None` if `until` is [`Time::NEVER`].
fn millis_between(now: Time, until: Time) -> Option<u64> {
    let left = until.as_millis().saturating_sub(now.as_millis());
    // Redis rejects zero, and times beyond its range.
    (until != Time::NEVER).then(|| left.clamp(1, 1 << 53))
}

/// The validated answer of a group.
struct Held {
    values: Vec<Value>,
    /// Partitions whose records differ from the cached ones.
    broken: Vec<usize>,
}

impl Plan {
    fn group(&mut self, partition: usize, apart: bool) -> &mut Group {
        let holds = |group: &Group| group.marks.iter().any(|(held, _)| *held == partition);
        let known = match apart {
            true => self.groups.iter().position(holds),
            false => (!self.groups.is_empty()).then_some(0),
        };
        let index = known.unwrap_or_else(|| {
            self.groups.push(Group::default());
            self.groups.len() - 1
        });
        &mut self.groups[index]
    }

    /// The commands, and their number for each key.
    fn orders(&self, names: &Names, values: bool, fill: Option<&Fill<'_>>) -> (Vec<Order>, Vec<usize>) {
        let mut counts = vec![0; self.keys.len()];
        let mut orders = Vec::new();
        for (count, (index, partition, place)) in counts.iter_mut().zip(&self.keys) {
            let commands = fill.map(|fill| fill(*index, place)).unwrap_or_default();
            *count = commands.len();
            orders.extend(commands.into_iter().map(|cmd| Order { partition: *partition, cmd }));
        }
        let reads = self.groups.iter().filter_map(|group| {
            let mut cmd = redis::cmd("MGET");
            for (partition, _) in &group.marks {
                cmd.arg(names.mark(*partition));
            }
            for member in group.members.iter().filter(|_| values) {
                cmd.arg(&self.keys[*member].2.name);
            }
            Some(Order { partition: group.marks.first()?.0, cmd })
        });
        orders.extend(reads);
        (orders, counts)
    }
}

/// Whether a record matches the cached one.
fn is(mark: &Option<Belief>, believed: &Belief) -> bool {
    mark.as_ref().is_some_and(|mark| mark.agrees_with(believed))
}

/// Writes a frame as one argument without joining its parts first.
pub(in crate::redis) struct Whole<'a>(pub(in crate::redis) &'a Frame);

impl ToRedisArgs for Whole<'_> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        use std::io::Write;
        out.reserve_space_for_args([self.0.len()]);
        let mut writer = out.writer_for_next_arg();
        // The writer appends to memory, so it does not fail.
        let _infallible = writer.write_all(self.0.head()).and_then(|()| writer.write_all(self.0.body()));
    }
}

/// The frame in an answer; `None` for a value of another type.
pub(in crate::redis) fn frame(answer: Value) -> Option<Bytes> {
    match answer {
        Value::BulkString(bytes) => Some(bytes.into()),
        _ => None,
    }
}

fn list(answer: Value) -> Vec<Value> {
    match answer {
        Value::Array(items) => items,
        _ => Vec::new(),
    }
}

fn too_short() -> Error {
    Error::new(ErrorKind::Io, "an answer of Redis is too short")
}

fn cleared() -> Error {
    Error::new(ErrorKind::Unavailable, "the tier is cleared again and again")
}
