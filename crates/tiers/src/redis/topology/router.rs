//! Commands to the servers that hold their partitions, in one round trip a
//! server, and after those that have moved.

use std::sync::Arc;

use futures_util::future::join_all;
use larder_core::{Error, ErrorKind, Result};
use redis::{Arg, Cmd, Pipeline, RedisError, RedisResult, ServerErrorKind, Value};

use crate::redis::connection::supervisor::{closed, meant};
use crate::redis::server::commands::is_forbidden;
use crate::redis::topology::cluster::Cluster;
use crate::redis::topology::shard::Shard;
use crate::redis::topology::{Fleet, again, unavailable};

/// How often a command follows where it is sent.
const HOPS: u32 = 5;

/// A command, and the partition of its keys.
pub(in crate::redis) struct Order {
    pub(in crate::redis) partition: usize,
    pub(in crate::redis) cmd: Cmd,
}

/// Where a node of a cluster sends a command that is not for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::redis) enum Redirection {
    /// The slot has another master.
    Moved(String),
    /// The key is on its way there, or would be written there.
    Ask(String),
    /// Some of the keys are here and some are there.
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

/// What goes to one server together.
struct Parcel {
    shard: Arc<Shard>,
    /// Whether the server is asked for what is on its way to it.
    asking: bool,
    /// Which orders these are, and their partitions.
    orders: Vec<(usize, usize)>,
    pipe: Pipeline,
}

/// An order that was sent on.
struct Stray {
    position: usize,
    order: Order,
    to: Redirection,
    from: Arc<Shard>,
}

impl Fleet {
    /// The answer to one command.
    pub(in crate::redis) async fn send(&self, order: Order) -> Result<Value> {
        let Self::One(shard) = self else {
            let mut answers = Box::pin(self.exchange(vec![order])).await;
            return answers.pop().unwrap_or_else(|| Err(too_short()));
        };
        let answer = shard.link.line()?.send(&order.cmd).await.and_then(Value::extract_error);
        if answer.as_ref().is_err_and(is_forbidden) {
            shard.link.question();
        }
        answer.map_err(|error| self.meant(error))
    }

    /// An answer to each command, in their order. Commands of one partition are
    /// executed in their order.
    pub(in crate::redis) async fn exchange(&self, orders: Vec<Order>) -> Vec<Result<Value>> {
        match self {
            Self::One(shard) => {
                let mut pipe = Pipeline::with_capacity(orders.len());
                let count = orders.len();
                for Order { cmd, .. } in orders {
                    pipe.add_command(cmd);
                }
                self.answers(shard, &pipe, count).await
            }
            Self::Many(cluster) => Box::pin(self.scatter(cluster, orders)).await,
        }
    }

    async fn answers(&self, shard: &Shard, pipe: &Pipeline, count: usize) -> Vec<Result<Value>> {
        match self.carry(shard, pipe).await {
            Ok(mut answers) => {
                answers.resize_with(count, || Err((redis::ErrorKind::Parse, "an answer is missing").into()));
                answers.into_iter().map(|answer| answer.map_err(|error| self.meant(error))).collect()
            }
            Err(error) => (0..count).map(|_| Err(again(&error))).collect(),
        }
    }

    async fn scatter(&self, cluster: &Cluster, orders: Vec<Order>) -> Vec<Result<Value>> {
        let mut answers: Vec<Result<Value>> = orders.iter().map(|_| Err(too_short())).collect();
        let mut parcels = Vec::new();
        for (position, order) in orders.into_iter().enumerate() {
            match self.shard(order.partition) {
                Ok(shard) => pack(&mut parcels, (shard, false), (position, order)),
                Err(error) => answers[position] = Err(error),
            }
        }
        for _ in 0..HOPS {
            let told = join_all(parcels.iter().map(|parcel| self.carry(&parcel.shard, &parcel.pipe))).await;
            let mut strays = Vec::new();
            for (parcel, told) in parcels.iter().zip(told) {
                self.unpack(parcel, told, &mut answers, &mut strays);
            }
            if strays.is_empty() {
                break;
            }
            cluster.doubt();
            parcels = self.follow(cluster, strays, &mut answers).await;
        }
        answers
    }

    /// Keeps the answers, and finds what was sent on.
    fn unpack(
        &self,
        parcel: &Parcel,
        told: Result<Vec<RedisResult<Value>>>,
        answers: &mut [Result<Value>],
        strays: &mut Vec<Stray>,
    ) {
        let told = match told {
            Ok(told) => told,
            Err(error) => {
                parcel.orders.iter().for_each(|(position, _)| answers[*position] = Err(again(&error)));
                return;
            }
        };
        let cmds = parcel.pipe.cmd_iter().zip(told).skip(usize::from(parcel.asking));
        let cmds = cmds.step_by(1 + usize::from(parcel.asking));
        for ((cmd, answer), (position, partition)) in cmds.zip(&parcel.orders) {
            if let Some(to) = answer.as_ref().err().and_then(Redirection::of) {
                let order = Order { partition: *partition, cmd: cmd.clone() };
                strays.push(Stray { position: *position, order, to, from: Arc::clone(&parcel.shard) });
            }
            // That of a stray too: it counts where nothing comes of following it.
            answers[*position] = answer.map_err(|error| self.meant(error));
        }
    }

    /// Packs strays for where they were sent.
    async fn follow(
        &self,
        cluster: &Cluster,
        strays: Vec<Stray>,
        answers: &mut [Result<Value>],
    ) -> Vec<Parcel> {
        let mut parcels = Vec::new();
        for Stray { position, order, to, from } in strays {
            let (place, asking) = match &to {
                Redirection::Moved(place) => (place, false),
                Redirection::Ask(place) => (place, true),
                Redirection::Split => {
                    answers[position] = Box::pin(self.piecewise(order)).await;
                    continue;
                }
            };
            if let Some(shard) = cluster.visit(place, &from).await {
                pack(&mut parcels, (shard, asking), (position, order));
            }
        }
        parcels
    }

    /// An `MGET`, key by key. Anything else is not split.
    async fn piecewise(&self, Order { partition, cmd }: Order) -> Result<Value> {
        let mut args = cmd.args_iter().filter_map(|arg| match arg {
            Arg::Simple(arg) => Some(arg.to_vec()),
            _ => None,
        });
        if args.next().as_deref() != Some(b"MGET") {
            return Err(Error::new(ErrorKind::Unavailable, "the slot is on its way to another node"));
        }
        let mut values = Vec::new();
        for key in args {
            let mut cmd = redis::cmd("GET");
            cmd.arg(key);
            values.push(self.send(Order { partition, cmd }).await?);
        }
        Ok(Value::Array(values))
    }

    /// One round trip; each answer is a value or an error of its own.
    async fn carry(&self, shard: &Shard, pipe: &Pipeline) -> Result<Vec<RedisResult<Value>>> {
        let gone = |error: Error| match error.kind() {
            ErrorKind::Closed if !self.is_closed() => unavailable("the node has left the cluster"),
            _ => error,
        };
        let answers = shard.link.line().map_err(gone)?.send_all(pipe).await;
        let answers = answers.map_err(|error| self.meant(error))?;
        let answers: Vec<_> = answers.into_iter().map(Value::extract_error).collect();
        if answers.iter().any(|answer| answer.as_ref().is_err_and(is_forbidden)) {
            shard.link.question();
        }
        Ok(answers)
    }

    pub(in crate::redis) fn meant(&self, error: RedisError) -> Error {
        if self.is_closed() { closed() } else { meant(error) }
    }
}

fn pack(
    parcels: &mut Vec<Parcel>,
    (shard, asking): (Arc<Shard>, bool),
    (position, Order { partition, cmd }): (usize, Order),
) {
    let known =
        parcels.iter().position(|parcel| Arc::ptr_eq(&parcel.shard, &shard) && parcel.asking == asking);
    let index = known.unwrap_or_else(|| {
        parcels.push(Parcel { shard, asking, orders: Vec::new(), pipe: Pipeline::new() });
        parcels.len() - 1
    });
    let parcel = &mut parcels[index];
    parcel.orders.push((position, partition));
    if asking {
        parcel.pipe.cmd("ASKING");
    }
    parcel.pipe.add_command(cmd);
}

fn too_short() -> Error {
    Error::new(ErrorKind::Io, "an answer of Redis is too short")
}
