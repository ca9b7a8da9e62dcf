//! Sentinels, which know the address of the master.
//!
//! All sentinels are asked, and the answer with the latest election wins: a sentinel that was cut off would
//! report a former master.

use std::fmt;
use std::time::Duration;

use futures_util::future::join_all;
use redis::{RedisResult, Value};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::redis::connection::Connection;
use crate::redis::connection::address::Address;
use crate::redis::server::commands::name_forbidden;

/// The sentinels of one master, with its name.
pub(in crate::redis) struct Sentinels {
    sentinels: Vec<Sentinel>,
    name: String,
    /// How to authenticate to the master, at any address.
    master: Address,
}

/// A sentinel, and the connection to it if there is one.
struct Sentinel {
    address: Address,
    connection: Mutex<Option<Connection>>,
}

impl Sentinels {
    /// `master` provides the credentials; its address is not used.
    pub(in crate::redis) fn new(sentinels: Vec<Address>, name: String, master: Address) -> Self {
        let sentinel = |address| Sentinel { address, connection: Mutex::new(None) };
        Self { sentinels: sentinels.into_iter().map(sentinel).collect(), name, master }
    }

    /// The address of the master, by the latest election that a sentinel reports within `limit`.
    pub(in crate::redis) async fn master(&self, limit: Duration) -> RedisResult<Address> {
        let asked = self.sentinels.iter().map(|sentinel| async move {
            let answer = timeout(limit, sentinel.ask(&self.name)).await;
            answer.unwrap_or_else(|_| Err(io_error("a sentinel does not answer")))
        });
        let mut failure = io_error("there are no sentinels");
        let mut latest: Option<Election> = None;
        for answer in join_all(asked).await {
            match answer {
                Ok(election) if latest.as_ref().is_none_or(|known| known.epoch < election.epoch) => {
                    latest = Some(election);
                }
                Ok(_) => {}
                Err(error) => failure = error,
            }
        }
        let Election { host, port, .. } = latest.ok_or(failure)?;
        Ok(self.master.at(&host, port))
    }
}

impl Sentinel {
    async fn ask(&self, name: &str) -> RedisResult<Election> {
        let mut held = self.connection.lock().await;
        // Taken out while it is in use: a connection whose request was cancelled is not used again.
        let connection = match held.take() {
            Some(connection) => connection,
            None => Connection::open(&self.address).await?,
        };
        let mut command = redis::cmd("SENTINEL");
        command.arg("MASTER").arg(name);
        let answer = connection.handle.send(&command).await?;
        *held = Some(connection);
        drop(held);
        Election::read(answer.extract_error().map_err(|error| name_forbidden("SENTINEL MASTER", error))?)
            .ok_or_else(|| io_error("a sentinel reports no master"))
    }
}

/// A master and the config epoch of its election.
#[derive(Debug, PartialEq, Eq)]
struct Election {
    host: String,
    port: u16,
    epoch: u64,
}

impl Election {
    fn read(answer: Value) -> Option<Self> {
        let fields: std::collections::HashMap<String, String> = redis::from_redis_value(answer).ok()?;
        let number = |name: &str| fields.get(name)?.parse::<u64>().ok();
        Some(Self {
            host: fields.get("ip")?.clone(),
            port: u16::try_from(number("port")?).ok()?,
            epoch: number("config-epoch").unwrap_or(0),
        })
    }
}

fn io_error(what: &'static str) -> redis::RedisError {
    (redis::ErrorKind::Io, what).into()
}

impl fmt::Display for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places: Vec<_> = self.sentinels.iter().map(|sentinel| sentinel.address.to_string()).collect();
        write!(f, "`{}` of {}", self.name, places.join(", "))
    }
}
