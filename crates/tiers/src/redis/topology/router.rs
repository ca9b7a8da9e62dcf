//! Routes commands to the servers that hold their partitions, in one round trip per server, and follows
//! cluster redirections.

use std::sync::Arc;

use futures_util::future::join_all;
use larder_core::{Error, ErrorKind, Result};
use redis::{Arg, Cmd, Pipeline, RedisError, RedisResult, ServerErrorKind, Value};

use crate::redis::connection::channel::{Answer, KeyRequest};
use crate::redis::connection::outgoing::Outgoing;
use crate::redis::connection::supervisor::{closed, to_error};
use crate::redis::server::commands::is_forbidden;
use crate::redis::topology::cluster::Cluster;
use crate::redis::topology::shard::Shard;
use crate::redis::topology::{Topology, copy_error, unavailable};

/// How many redirections a command follows.
const REDIRECTIONS_MAX: u32 = 5;

/// A command with the partition of its keys.
pub(in crate::redis) struct RoutedCmd {
    pub(in crate::redis) partition: usize,
    pub(in crate::redis) cmd: Cmd,
}

/// The redirection of a cluster node for a command that it does not serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::redis) enum Redirection {
    /// `MOVED`: the slot has another master.
    Moved(String),
    /// `ASK`: the slot is migrating, and the key is or would be on the other node.
    Ask(String),
    /// `TRYAGAIN`: some of the keys are on each of the two nodes.
    Split,
}

impl Redirection {
    pub(in crate::redis) fn of(error: &RedisError) -> Option<Self> {
        let place = || error.redirect_node().map(|(place, _)| place.to_owned());
        match error.kind() {
            redis::ErrorKind::Server(ServerErrorKind::Moved) => place().map(Self::Moved),
            redis::ErrorKind::Server(ServerErrorKind::Ask) => place().map(Self::Ask),
            redis::ErrorKind::Server(ServerErrorKind::TryAgain) => Some(Self::Split),
            _ => None,
        }
    }
}

/// The commands that go to one server together.
struct ServerBatch {
    shard: Arc<Shard>,
    /// Whether `ASKING` precedes each command.
    asking: bool,
    /// The positions of the orders, with their partitions.
    requests: Vec<(usize, usize)>,
    pipe: Pipeline,
}

/// An order that was redirected.
struct Redirected {
    position: usize,
    request: RoutedCmd,
    to: Redirection,
    from: Arc<Shard>,
}

/// The answer to a request about a key.
pub(in crate::redis) struct KeyReply {
    /// The answer to its last command, if it has any.
    pub(in crate::redis) command: Option<Result<Value>>,
    /// The values that were read.
    pub(in crate::redis) values: [Value; 2],
    /// The epoch record, unless its bytes are those of the cached one.
    pub(in crate::redis) record: Option<Value>,
}

/// The commands of a request about a key.
pub(in crate::redis) trait KeyCommands: Sync {
    /// Writes them; returns how many.
    fn encode(&self, out: &mut Outgoing) -> usize;

    /// Builds them.
    fn build(&self) -> Vec<Cmd>;
}

impl KeyCommands for [Cmd] {
    fn encode(&self, out: &mut Outgoing) -> usize {
        self.iter().for_each(|cmd| cmd.write_packed_command(out.tail()));
        self.len()
    }

    fn build(&self) -> Vec<Cmd> {
        self.to_vec()
    }
}

impl Topology {
    /// Sends a request about a key, and reads the epoch record of its partition after it.
    pub(in crate::redis) async fn send_for_key(
        &self,
        request: &KeyRequest<'_>,
        commands: &(impl KeyCommands + ?Sized),
    ) -> Result<KeyReply> {
        let Self::Single(shard) = self else {
            return Box::pin(self.send_for_key_of_cluster(request, commands.build())).await;
        };
        let sent = shard.supervisor.begin_for_key(request, |out| commands.encode(out))?;
        let answer = sent.await;
        let is_refused = match &answer {
            Ok(answer) => answer.last.iter().chain(&answer.earlier).any(is_refusal),
            Err(error) => is_forbidden(error),
        };
        if is_refused {
            shard.supervisor.request_command_check();
        }
        let Answer { last, values, record, .. } = answer.map_err(|error| self.to_error(error))?;
        let command = last.map(|last| last.extract_error().map_err(|error| self.to_error(error)));
        Ok(KeyReply { command, values, record })
    }

    async fn send_for_key_of_cluster(
        &self,
        request: &KeyRequest<'_>,
        commands: Vec<Cmd>,
    ) -> Result<KeyReply> {
        let partition = request.partition;
        let mut read = redis::cmd("MGET");
        read.arg(request.record_name).arg(request.entries);
        let requests = commands.into_iter().chain([read]).map(|cmd| RoutedCmd { partition, cmd }).collect();
        let mut answers = self.exchange(requests).await;
        let Value::Array(items) = answers.pop().unwrap_or_else(|| Err(missing_answer()))? else {
            return Err(missing_answer());
        };
        let mut items = items.into_iter();
        let record = Some(items.next().unwrap_or_default());
        let values = [items.next().unwrap_or_default(), items.next().unwrap_or_default()];
        Ok(KeyReply { command: answers.pop(), values, record })
    }

    /// Sends one command and returns its answer.
    pub(in crate::redis) async fn send(&self, request: RoutedCmd) -> Result<Value> {
        let Self::Single(shard) = self else {
            let mut answers = Box::pin(self.exchange(vec![request])).await;
            return answers.pop().unwrap_or_else(|| Err(missing_answer()));
        };
        let answer = shard.supervisor.connection()?.send(&request.cmd).await.and_then(Value::extract_error);
        if answer.as_ref().is_err_and(is_forbidden) {
            shard.supervisor.request_command_check();
        }
        answer.map_err(|error| self.to_error(error))
    }

    /// Sends commands and returns an answer to each, in their order. Commands of one partition are executed
    /// in order.
    pub(in crate::redis) async fn exchange(&self, requests: Vec<RoutedCmd>) -> Vec<Result<Value>> {
        match self {
            Self::Single(shard) => {
                let mut pipe = Pipeline::with_capacity(requests.len());
                let count = requests.len();
                for RoutedCmd { cmd, .. } in requests {
                    pipe.add_command(cmd);
                }
                self.answers(shard, &pipe, count).await
            }
            Self::Cluster(cluster) => Box::pin(self.exchange_by_server(cluster, requests)).await,
        }
    }

    async fn answers(&self, shard: &Shard, pipe: &Pipeline, count: usize) -> Vec<Result<Value>> {
        match self.send_pipeline(shard, pipe).await {
            Ok(mut answers) => {
                answers.resize_with(count, || {
                    Err((redis::ErrorKind::Parse, "the reply has too few items").into())
                });
                answers.into_iter().map(|answer| answer.map_err(|error| self.to_error(error))).collect()
            }
            Err(error) => (0..count).map(|_| Err(copy_error(&error))).collect(),
        }
    }

    async fn exchange_by_server(&self, cluster: &Cluster, requests: Vec<RoutedCmd>) -> Vec<Result<Value>> {
        let mut answers: Vec<Result<Value>> = requests.iter().map(|_| Err(missing_answer())).collect();
        let mut batches = Vec::new();
        for (position, request) in requests.into_iter().enumerate() {
            match self.shard(request.partition) {
                Ok(shard) => add_to_batch(&mut batches, shard, false, position, request),
                Err(error) => answers[position] = Err(error),
            }
        }
        for _ in 0..REDIRECTIONS_MAX {
            let replies =
                join_all(batches.iter().map(|batch| self.send_pipeline(&batch.shard, &batch.pipe))).await;
            let mut redirected = Vec::new();
            for (batch, replies) in batches.iter().zip(replies) {
                self.sort_replies(batch, replies, &mut answers, &mut redirected);
            }
            if redirected.is_empty() {
                break;
            }
            cluster.request_refresh();
            batches = self.regroup(cluster, redirected, &mut answers).await;
        }
        answers
    }

    /// Stores the answers, and collects the redirected orders.
    fn sort_replies(
        &self,
        batch: &ServerBatch,
        replies: Result<Vec<RedisResult<Value>>>,
        answers: &mut [Result<Value>],
        redirected: &mut Vec<Redirected>,
    ) {
        let replies = match replies {
            Ok(replies) => replies,
            Err(error) => {
                batch.requests.iter().for_each(|(position, _)| answers[*position] = Err(copy_error(&error)));
                return;
            }
        };
        let cmds = batch.pipe.cmd_iter().zip(replies).skip(usize::from(batch.asking));
        let cmds = cmds.step_by(1 + usize::from(batch.asking));
        for ((cmd, answer), (position, partition)) in cmds.zip(&batch.requests) {
            if let Some(to) = answer.as_ref().err().and_then(Redirection::of) {
                let request = RoutedCmd { partition: *partition, cmd: cmd.clone() };
                redirected.push(Redirected {
                    position: *position,
                    request,
                    to,
                    from: Arc::clone(&batch.shard),
                });
            }
            // The redirection is the answer if following it fails.
            answers[*position] = answer.map_err(|error| self.to_error(error));
        }
    }

    /// Groups redirected orders by their new servers.
    async fn regroup(
        &self,
        cluster: &Cluster,
        redirected: Vec<Redirected>,
        answers: &mut [Result<Value>],
    ) -> Vec<ServerBatch> {
        let mut batches = Vec::new();
        for Redirected { position, request, to, from } in redirected {
            let (place, asking) = match &to {
                Redirection::Moved(place) => (place, false),
                Redirection::Ask(place) => (place, true),
                Redirection::Split => {
                    answers[position] = Box::pin(self.split_mget(request)).await;
                    continue;
                }
            };
            if let Some(shard) = cluster.shard_at_redirect(place, &from).await {
                add_to_batch(&mut batches, shard, asking, position, request);
            }
        }
        batches
    }

    /// Splits an `MGET` into one `GET` per key. Other commands are not split.
    async fn split_mget(&self, RoutedCmd { partition, cmd }: RoutedCmd) -> Result<Value> {
        let mut args = cmd.args_iter().filter_map(|arg| match arg {
            Arg::Simple(arg) => Some(arg.to_vec()),
            _ => None,
        });
        if args.next().as_deref() != Some(b"MGET") {
            return Err(Error::new(ErrorKind::Unavailable, "the slot is being migrated to another node"));
        }
        let mut values = Vec::new();
        for key in args {
            let mut cmd = redis::cmd("GET");
            cmd.arg(key);
            values.push(self.send(RoutedCmd { partition, cmd }).await?);
        }
        Ok(Value::Array(values))
    }

    /// Sends a pipeline in one round trip; each answer is a value or its own error.
    async fn send_pipeline(&self, shard: &Shard, pipe: &Pipeline) -> Result<Vec<RedisResult<Value>>> {
        let in_cluster = |error: Error| match error.kind() {
            ErrorKind::Closed if !self.is_closed() => unavailable("the node has left the cluster"),
            _ => error,
        };
        let answers = shard.supervisor.connection().map_err(in_cluster)?.send_all(pipe).await;
        let answers = answers.map_err(|error| self.to_error(error))?;
        let answers: Vec<_> = answers.into_iter().map(Value::extract_error).collect();
        if answers.iter().any(|answer| answer.as_ref().is_err_and(is_forbidden)) {
            shard.supervisor.request_command_check();
        }
        Ok(answers)
    }

    pub(in crate::redis) fn to_error(&self, error: RedisError) -> Error {
        if self.is_closed() { closed() } else { to_error(error) }
    }
}

fn add_to_batch(
    batches: &mut Vec<ServerBatch>,
    shard: Arc<Shard>,
    asking: bool,
    position: usize,
    RoutedCmd { partition, cmd }: RoutedCmd,
) {
    let known = batches.iter().position(|batch| Arc::ptr_eq(&batch.shard, &shard) && batch.asking == asking);
    let index = known.unwrap_or_else(|| {
        batches.push(ServerBatch { shard, asking, requests: Vec::new(), pipe: Pipeline::new() });
        batches.len() - 1
    });
    let batch = &mut batches[index];
    batch.requests.push((position, partition));
    if asking {
        batch.pipe.cmd("ASKING");
    }
    batch.pipe.add_command(cmd);
}

fn is_refusal(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(error) if is_forbidden(&error.clone().into()))
}

fn missing_answer() -> Error {
    Error::new(ErrorKind::Io, "the reply of Redis has too few items")
}
