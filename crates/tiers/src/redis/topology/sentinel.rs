//! Sentinels: they know which server is the master.
//!
//! All are asked, and the one that knows of the latest election is believed:
//! one that was cut off from the others would send us back to a former master.

use std::fmt;
use std::time::Duration;

use futures_util::future::join_all;
use redis::{RedisResult, Value};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::redis::connection::Session;
use crate::redis::connection::address::Address;
use crate::redis::server::commands::needed;

/// Some sentinels, and the name of what they watch.
pub(in crate::redis) struct Sentinels {
    watchers: Vec<Watcher>,
    name: String,
    /// How to introduce oneself to the master, wherever it is.
    master: Address,
}

/// A sentinel, and the connection to it while there is one.
struct Watcher {
    address: Address,
    session: Mutex<Option<Session>>,
}

impl Sentinels {
    /// `master` has the introduction; its place does not matter.
    pub(in crate::redis) fn new(sentinels: Vec<Address>, name: String, master: Address) -> Self {
        let watcher = |address| Watcher { address, session: Mutex::new(None) };
        Self { watchers: sentinels.into_iter().map(watcher).collect(), name, master }
    }

    /// Where the master is, by the latest election that a sentinel knows of
    /// and tells within `limit`.
    pub(in crate::redis) async fn master(&self, limit: Duration) -> RedisResult<Address> {
        let asked = self.watchers.iter().map(|watcher| async move {
            let answer = timeout(limit, watcher.ask(&self.name)).await;
            answer.unwrap_or_else(|_| Err(trouble("a sentinel does not answer")))
        });
        let mut failure = trouble("there are no sentinels");
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

impl Watcher {
    async fn ask(&self, name: &str) -> RedisResult<Election> {
        let mut held = self.session.lock().await;
        // Taken out while it is asked: what is given up halfway is not asked again.
        let mut session = match held.take() {
            Some(session) => session,
            None => Session::open(&self.address).await?,
        };
        let mut question = redis::cmd("SENTINEL");
        question.arg("MASTER").arg(name);
        let answer = session.connection.send_packed_command(&question).await?;
        *held = Some(session);
        drop(held);
        Election::read(answer.extract_error().map_err(|error| needed("SENTINEL MASTER", error))?)
            .ok_or_else(|| trouble("a sentinel tells no master"))
    }
}

/// Who is the master since which election.
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

fn trouble(what: &'static str) -> redis::RedisError {
    (redis::ErrorKind::Io, what).into()
}

impl fmt::Display for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places: Vec<_> = self.watchers.iter().map(|watcher| watcher.address.to_string()).collect();
        write!(f, "`{}` of {}", self.name, places.join(", "))
    }
}
