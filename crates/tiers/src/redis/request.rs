//! Requests about keys, validated against the epoch records of their partitions.

use std::sync::Arc;

use larder_core::clock::Time;
use larder_core::entry_meta::read_offset;
use larder_core::frame::{Frame, Head, kept_until};
use larder_core::key::EncodedKey;
use larder_core::{Bytes, Error, ErrorKind, Result};
use redis::{Cmd, RedisWrite, ToRedisArgs, Value};

use crate::redis::Inner;
use crate::redis::connection::channel::{KeyRequest, push_argument, push_command, push_length};
use crate::redis::connection::outgoing::Outgoing;
use crate::redis::keys::names::{EntryNames, KeyNames};
use crate::redis::keys::partition_epochs::EpochRecord;
use crate::redis::topology::router::{KeyCommands, KeyReply, RoutedCmd};
use crate::redis::topology::{Topology, copy_error};

/// How many times a request is retried because its partition was cleared meanwhile.
const ATTEMPTS: u32 = 8;

const NO_COMMANDS: &[Cmd] = &[];

/// Builds the commands for a key, from its position and its names.
pub(in crate::redis) type BuildCommands<'a> = dyn Fn(usize, &EntryNames) -> Vec<Cmd> + Sync + 'a;

/// The answer for one key.
#[derive(Default)]
pub(in crate::redis) struct Answer {
    /// The answer to its last command, if any was sent.
    pub(in crate::redis) command: Value,
    /// The value of the entry, if it was requested.
    pub(in crate::redis) value: Value,
    /// The epoch in the key name that was used.
    pub(in crate::redis) epoch: u64,
}

/// The commands of a batch: keys without an answer yet, grouped by those that are read together.
struct Plan {
    /// Position, partition and names of each key, in order.
    keys: Vec<(usize, usize, EntryNames)>,
    groups: Vec<Group>,
}

/// Epoch records, and the values of some keys, that one command reads.
#[derive(Default)]
struct Group {
    /// Partitions with the cached records that the names were built from.
    records: Vec<(usize, Arc<EpochRecord>)>,
    /// Indexes into the keys of the plan.
    members: Vec<usize>,
}

impl Group {
    /// The cached record of a partition in this group.
    fn known(&self, partition: usize) -> Option<&Arc<EpochRecord>> {
        self.records.iter().find(|(held, _)| *held == partition).map(|(_, record)| record)
    }
}

impl Inner {
    /// Sends a command about one key, followed by a read of the epoch record of its partition. If that
    /// differs from the cached record, the command is sent again with the new record; the first attempt only
    /// touched an obsolete entry.
    pub(in crate::redis) async fn send_for_key(
        &self,
        key: &EncodedKey,
        build: impl Fn(&str) -> Cmd,
    ) -> Result<Value> {
        self.send_all_for_key(key, |entry| vec![build(&entry.name)]).await
    }

    /// Like [`one`](Self::one), with several commands in order; returns the answer to the last one.
    pub(in crate::redis) async fn send_all_for_key(
        &self,
        key: &EncodedKey,
        build: impl Fn(&EntryNames) -> Vec<Cmd>,
    ) -> Result<Value> {
        let partition = KeyNames::partition(key);
        for _ in 0..ATTEMPTS {
            let cached = self.epochs.record(partition);
            let commands = build(&self.names.entry_names(&cached, key));
            let reply = self.send_about(partition, &cached, (&[], &commands[..])).await?;
            if self.is_current(partition, &cached, reply.record).await? {
                return reply.command.unwrap_or_else(|| Err(missing_answer()));
            }
        }
        Err(cleared())
    }

    /// Reads the frame of a key together with the epoch record.
    pub(in crate::redis) async fn get(&self, key: &EncodedKey) -> Result<Option<Bytes>> {
        let partition = KeyNames::partition(key);
        for _ in 0..ATTEMPTS {
            let cached = self.epochs.record(partition);
            let name = self.names.entry(&cached, key);
            let reply = self.send_about(partition, &cached, (&[&name], NO_COMMANDS)).await?;
            if self.is_current(partition, &cached, reply.record).await? {
                let [value, _] = reply.values;
                return Ok(frame(value));
            }
        }
        Err(cleared())
    }

    /// Reads the frame of a key and its tombstone together with the epoch record; also returns the epoch.
    pub(in crate::redis) async fn get_with_tombstone(
        &self,
        key: &EncodedKey,
    ) -> Result<(Option<Bytes>, Value, u64)> {
        let partition = KeyNames::partition(key);
        for _ in 0..ATTEMPTS {
            let cached = self.epochs.record(partition);
            let name = self.names.entry(&cached, key);
            let tombstone = self.names.tombstone(&name);
            let reply = self.send_about(partition, &cached, (&[&name, &tombstone], NO_COMMANDS)).await?;
            if self.is_current(partition, &cached, reply.record).await? {
                let [value, removal] = reply.values;
                return Ok((frame(value), removal, cached.epoch));
            }
        }
        Err(cleared())
    }

    /// Stores the frame of a key, and removes the entries of other program versions.
    pub(in crate::redis) async fn store(&self, key: &EncodedKey, frame: &Frame) -> Result<()> {
        let partition = KeyNames::partition(key);
        let millis = self.millis_left(frame.head());
        for _ in 0..ATTEMPTS {
            let cached = self.epochs.record(partition);
            let names = self.names.entry_names(&cached, key);
            let unlink = self.unlink_others(&names);
            let set = Set { unlink, name: &names.name, frame, millis };
            let reply = self.send_about(partition, &cached, (&[], &set)).await?;
            if self.is_current(partition, &cached, reply.record).await? {
                return reply.command.unwrap_or_else(|| Err(missing_answer())).map(drop);
            }
        }
        Err(cleared())
    }

    async fn send_about<C: KeyCommands + ?Sized>(
        &self,
        partition: usize,
        cached: &Arc<EpochRecord>,
        (entries, commands): (&[&str], &C),
    ) -> Result<KeyReply> {
        let record_name = self.names.record(partition);
        let request = KeyRequest { partition, record_name, cached, entries };
        self.topology.send_for_key(&request, commands).await
    }

    /// Whether a request was made with the present epoch record, given the one that was read after it if that
    /// is not the cached one. Otherwise the request is repeated with the new record.
    async fn is_current(&self, partition: usize, cached: &EpochRecord, read: Option<Value>) -> Result<bool> {
        let Some(read) = read else { return Ok(true) };
        match self.epochs.confirm(partition, cached, &read) {
            Ok(()) => Ok(true),
            Err(record) => Box::pin(self.update_record(partition, record)).await.map(|()| false),
        }
    }

    /// Sends the commands that `build` builds for each key, followed by a read of the epoch records, and of
    /// the values if `values` is set: one round trip per server. Retries the keys whose epoch records differ
    /// from the cached ones.
    pub(in crate::redis) async fn send_for_keys(
        &self,
        keys: &[&EncodedKey],
        values: bool,
        build: Option<&BuildCommands<'_>>,
    ) -> Vec<Result<Answer>> {
        let mut answers: Vec<Option<Result<Answer>>> = keys.iter().map(|_| None).collect();
        let mut pending: Vec<usize> = (0..keys.len()).collect();
        for _ in 0..ATTEMPTS {
            let plan = self.plan(keys, &pending);
            let (requests, counts) = plan.requests(&self.names, values, build);
            let replies = self.topology.exchange(requests).await;
            pending = self.collect_answers(plan, (replies, counts), &mut answers).await;
            if pending.is_empty() {
                break;
            }
        }
        answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(cleared()))).collect()
    }

    fn plan(&self, keys: &[&EncodedKey], pending: &[usize]) -> Plan {
        // In a cluster, one command cannot read keys of several slots.
        let by_partition = matches!(self.topology, Topology::Cluster(_));
        let mut plan = Plan { keys: Vec::with_capacity(pending.len()), groups: Vec::new() };
        for (member, index) in pending.iter().enumerate() {
            let partition = KeyNames::partition(keys[*index]);
            let group = plan.group(partition, by_partition);
            let record = group.known(partition).cloned().unwrap_or_else(|| {
                let record = self.epochs.record(partition);
                group.records.push((partition, Arc::clone(&record)));
                record
            });
            group.members.push(member);
            plan.keys.push((*index, partition, self.names.entry_names(&record, keys[*index])));
        }
        plan
    }

    /// Stores the valid answers; returns the keys to retry.
    async fn collect_answers(
        &self,
        plan: Plan,
        (replies, counts): (Vec<Result<Value>>, Vec<usize>),
        answers: &mut [Option<Result<Answer>>],
    ) -> Vec<usize> {
        let mut replies = replies.into_iter();
        let mut commands: Vec<_> = counts.iter().map(|count| replies.by_ref().take(*count).last()).collect();
        let mut pending = Vec::new();
        for (group, replies) in plan.groups.iter().zip(replies) {
            let answer = match self.check_records(group, replies).await {
                Ok(answer) => answer,
                Err(error) => {
                    group
                        .members
                        .iter()
                        .for_each(|at| answers[plan.keys[*at].0] = Some(Err(copy_error(&error))));
                    continue;
                }
            };
            let mut values = answer.values.into_iter();
            for member in &group.members {
                let (index, partition, _) = &plan.keys[*member];
                let value = values.next().unwrap_or_default();
                if answer.outdated.contains(partition) {
                    pending.push(*index);
                    continue;
                }
                let command = commands.get_mut(*member).and_then(Option::take).unwrap_or(Ok(Value::Nil));
                let epoch = group.known(*partition).map_or(0, |record| record.epoch);
                answers[*index] = Some(command.map(|command| Answer { command, value, epoch }));
            }
        }
        pending.sort_unstable();
        pending
    }

    /// Compares the epoch records of a group with the cached ones.
    async fn check_records(&self, group: &Group, replies: Result<Value>) -> Result<GroupAnswer> {
        let mut records = list(replies?);
        if records.len() < group.records.len() {
            return Err(missing_answer());
        }
        let values = records.split_off(group.records.len());
        let mut outdated = Vec::new();
        for ((partition, cached), record) in group.records.iter().zip(&records) {
            if let Err(record) = self.epochs.confirm(*partition, cached, record) {
                Box::pin(self.update_record(*partition, record)).await?;
                outdated.push(*partition);
            }
        }
        Ok(GroupAnswer { values, outdated })
    }

    async fn update_record(&self, partition: usize, record: Option<EpochRecord>) -> Result<()> {
        match record {
            Some(record) => self.epochs.set(partition, record),
            None => self.epochs.register(partition, &self.names, &self.topology).await?,
        }
        Ok(())
    }

    /// The commands that store an entry and remove those of other program versions.
    pub(in crate::redis) fn replace(&self, entry: &EntryNames, frame: &Frame) -> Vec<Cmd> {
        let mut commands = self.unlink_others(entry);
        commands.push(set(&entry.name, frame, self.millis_left(frame.head())));
        commands
    }

    /// How long Redis keeps the frame with this head, in milliseconds: to the end of its stale window, and at
    /// most for the lifetime of ephemeral keys. `None` for ever.
    pub(in crate::redis) fn millis_left(&self, head: &[u8]) -> Option<u64> {
        // Most frames have no deadline, and need not be parsed.
        let until = kept_until(head).filter(|until| *until != Time::NEVER);
        let parsed = until.and_then(|until| Some((until, Head::parse(head).ok()?)));
        let Some((until, head)) = parsed else { return self.ttl_millis(None) };
        let partition = KeyNames::partition(&EncodedKey::new(head.key));
        let left = match (read_offset(head.attributes), self.time(partition)) {
            (Some(offset), Some(now)) => millis_between(now, offset.forward(until)),
            _ => millis_between(self.clock.now(), until),
        };
        self.ttl_millis(left)
    }
}

/// Milliseconds from `now` to `until`; `None` if `until` is [`Time::NEVER`].
fn millis_between(now: Time, until: Time) -> Option<u64> {
    let left = until.as_millis().saturating_sub(now.as_millis());
    // Redis rejects zero, and times beyond its range.
    (until != Time::NEVER).then(|| left.clamp(1, 1 << 53))
}

/// The validated answer of a group.
struct GroupAnswer {
    values: Vec<Value>,
    /// Partitions whose records differ from the cached ones.
    outdated: Vec<usize>,
}

impl Plan {
    fn group(&mut self, partition: usize, by_partition: bool) -> &mut Group {
        let holds = |group: &Group| group.records.iter().any(|(held, _)| *held == partition);
        let known = match by_partition {
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
    fn requests(
        &self,
        names: &KeyNames,
        values: bool,
        build: Option<&BuildCommands<'_>>,
    ) -> (Vec<RoutedCmd>, Vec<usize>) {
        let mut counts = vec![0; self.keys.len()];
        let mut requests = Vec::new();
        for (count, (index, partition, entry)) in counts.iter_mut().zip(&self.keys) {
            let commands = build.map(|build| build(*index, entry)).unwrap_or_default();
            *count = commands.len();
            requests.extend(commands.into_iter().map(|cmd| RoutedCmd { partition: *partition, cmd }));
        }
        let reads = self.groups.iter().filter_map(|group| {
            let mut cmd = redis::cmd("MGET");
            for (partition, _) in &group.records {
                cmd.arg(names.record(*partition));
            }
            for member in group.members.iter().filter(|_| values) {
                cmd.arg(&self.keys[*member].2.name);
            }
            Some(RoutedCmd { partition: group.records.first()?.0, cmd })
        });
        requests.extend(reads);
        (requests, counts)
    }
}

/// Stores a frame under a name.
struct Set<'a> {
    /// What precedes it.
    unlink: Vec<Cmd>,
    name: &'a str,
    frame: &'a Frame,
    millis: Option<u64>,
}

impl KeyCommands for Set<'_> {
    /// The payload is not copied if it is long.
    fn encode(&self, out: &mut Outgoing) -> usize {
        let before = self.unlink.encode(out);
        let tail = out.tail();
        push_command(tail, if self.millis.is_some() { 5 } else { 3 });
        push_argument(tail, b"SET");
        push_argument(tail, self.name.as_bytes());
        push_length(tail, b'$', self.frame.len());
        tail.extend_from_slice(self.frame.head());
        out.push(self.frame.body());
        let tail = out.tail();
        tail.extend_from_slice(b"\r\n");
        if let Some(millis) = self.millis {
            push_argument(tail, b"PX");
            push_argument(tail, millis.to_string().as_bytes());
        }
        before + 1
    }

    fn build(&self) -> Vec<Cmd> {
        let mut commands = self.unlink.clone();
        commands.push(set(self.name, self.frame, self.millis));
        commands
    }
}

/// A `SET` of a frame, with its remaining time to live in milliseconds.
fn set(name: &str, frame: &Frame, millis: Option<u64>) -> Cmd {
    let mut cmd = Cmd::with_capacity(5, name.len() + frame.len() + 32);
    cmd.arg("SET").arg(name).arg(FrameArg(frame));
    if let Some(millis) = millis {
        cmd.arg("PX").arg(millis);
    }
    cmd
}

/// Writes a frame as one argument without joining its parts first.
pub(in crate::redis) struct FrameArg<'a>(pub(in crate::redis) &'a Frame);

impl ToRedisArgs for FrameArg<'_> {
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

fn missing_answer() -> Error {
    Error::new(ErrorKind::Io, "the reply of Redis has too few items")
}

fn cleared() -> Error {
    let message = format!("the partition of the key was cleared during each of {ATTEMPTS} attempts");
    Error::new(ErrorKind::Unavailable, message)
}
