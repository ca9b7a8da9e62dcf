//! Requests about keys, checked against the marks of their partitions.

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

/// How often a request is made again because its partition was cleared meanwhile.
const ATTEMPTS: u32 = 8;

/// Makes the commands about a key: of its position, and its names.
pub(in crate::redis) type Fill<'a> = dyn Fn(usize, &Place) -> Vec<Cmd> + Sync + 'a;

/// What came back for one key.
#[derive(Default)]
pub(in crate::redis) struct Answer {
    /// Of its last command, where any was sent.
    pub(in crate::redis) command: Value,
    /// What lies there, where it was asked for.
    pub(in crate::redis) value: Value,
    /// That its name was made from.
    pub(in crate::redis) generation: u64,
}

/// What a request is about: keys that still need an answer, and those that are
/// read together.
struct Plan {
    /// Which keys, in order, and their partitions and names.
    keys: Vec<(usize, usize, Place)>,
    groups: Vec<Group>,
}

/// PartitionEpochs, and the values of some keys, that one command reads.
#[derive(Default)]
struct Group {
    /// Partitions with what was believed of them: the names were made from that.
    marks: Vec<(usize, Arc<Belief>)>,
    /// Which keys of the plan.
    members: Vec<usize>,
}

impl Group {
    /// What is believed of a partition that it has keys of.
    fn known(&self, partition: usize) -> Option<&Arc<Belief>> {
        self.marks.iter().find(|(held, _)| *held == partition).map(|(_, belief)| belief)
    }
}

impl Inner {
    /// Sends a command about one key, and after it reads the mark of its
    /// partition. Where that is not what it was believed to be, the command is
    /// sent again with the new one: what was done with the former name was done
    /// to an entry that is gone.
    pub(in crate::redis) async fn one(&self, key: &EncodedKey, fill: impl Fn(&str) -> Cmd) -> Result<Value> {
        self.some(key, |place| vec![fill(&place.name)]).await
    }

    /// As [`one`](Self::one), with several commands in order: the answer of the last.
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

    /// The frame of a key, read together with the mark.
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

    /// The frame of a key and what its last removal left behind, read together
    /// with the mark; and the generation that is.
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

    /// Sends what `fill` makes of each key, and after it reads the marks, and
    /// the values too where `values` says so: one round trip a server. Keys
    /// whose marks were not what they were believed to be are tried again.
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
        // Keys of several slots cannot be read by one command in a cluster.
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

    /// Keeps the answers that hold; which keys are to be tried again.
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

    /// Compares the marks of a group with what was believed of them.
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

    /// The commands that store an entry in place of what any version has.
    pub(in crate::redis) fn replace(&self, place: &Place, frame: &Frame) -> Vec<Cmd> {
        let mut commands = self.unlink_others(place);
        commands.push(self.set(&place.name, frame));
        commands
    }

    /// `SET`, with the time to live that the frame has left.
    pub(in crate::redis) fn set(&self, name: &str, frame: &Frame) -> Cmd {
        let mut cmd = Cmd::with_capacity(5, name.len() + frame.len() + 32);
        cmd.arg("SET").arg(name).arg(Whole(frame));
        if let Some(millis) = self.millis_left(frame.head()) {
            cmd.arg("PX").arg(millis);
        }
        cmd
    }

    /// How long Redis is to keep the frame with this head: to the end of its stale
    /// window, and no longer than a tenancy. Without a deadline, and without a
    /// tenancy, for ever.
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

/// From `now` to `until`; `None` for the time that never comes.
fn millis_between(now: Time, until: Time) -> Option<u64> {
    let left = until.as_millis().saturating_sub(now.as_millis());
    // Redis refuses zero, and times beyond what it can count.
    (until != Time::NEVER).then(|| left.clamp(1, 1 << 53))
}

/// The answer of a group.
struct Held {
    values: Vec<Value>,
    /// Partitions whose marks were not what they were believed to be.
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

    /// The commands, and how many there are for each key.
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

/// Whether a mark says what was believed.
fn is(mark: &Option<Belief>, believed: &Belief) -> bool {
    mark.as_ref().is_some_and(|mark| mark.agrees_with(believed))
}

/// A frame as one argument, without putting its parts together first.
pub(in crate::redis) struct Whole<'a>(pub(in crate::redis) &'a Frame);

impl ToRedisArgs for Whole<'_> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        use std::io::Write;
        out.reserve_space_for_args([self.0.len()]);
        let mut writer = out.writer_for_next_arg();
        // The writer appends to memory.
        let _infallible = writer.write_all(self.0.head()).and_then(|()| writer.write_all(self.0.body()));
    }
}

/// A frame, or none. What is of another type than we write is none.
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
