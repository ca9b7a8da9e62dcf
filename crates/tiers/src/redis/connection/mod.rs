//! One connection and the task that drives it.

pub(in crate::redis) mod address;
pub(in crate::redis) mod channel;
mod driver;
mod handshake;
mod in_flight;
pub(in crate::redis) mod io_thread;
pub(in crate::redis) mod lifecycle;
pub(in crate::redis) mod outgoing;
mod reply_parser;
pub(in crate::redis) mod stream;
pub(in crate::redis) mod supervisor;
#[cfg(not(feature = "redis-tls"))]
#[path = "no_tls.rs"]
pub(in crate::redis) mod tls;
#[cfg(feature = "redis-tls")]
pub(in crate::redis) mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redis::{PushInfo, RedisResult};
use tokio::task::JoinHandle;

use crate::redis::connection::address::Address;
use crate::redis::connection::channel::Channel;
use crate::redis::connection::driver::{Driver, OnPush};
use crate::redis::connection::handshake::greet;

/// A connection with its driver task. Dropping it ends the task and every request in progress.
pub(in crate::redis) struct Connection {
    /// The handle that requests are sent through; clones share the connection.
    pub(in crate::redis) handle: Channel,
    task: DriverTask,
    bytes_transferred: Arc<AtomicU64>,
}

struct DriverTask(JoinHandle<()>);

impl Drop for DriverTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connection {
    /// Connects and authenticates, for requests only.
    pub(in crate::redis) async fn open(address: &Address) -> RedisResult<Self> {
        Self::open_with(address, None).await
    }

    /// The same; push messages of the server go to `on_push`, in order with its replies.
    pub(in crate::redis) async fn listen(
        address: &Address,
        on_push: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> RedisResult<Self> {
        Self::open_with(address, Some(Box::new(on_push))).await
    }

    async fn open_with(address: &Address, on_push: Option<OnPush>) -> RedisResult<Self> {
        let stream = address.connect().await?;
        let bytes_transferred = stream.bytes_transferred();
        let handle = Channel::new();
        let driver = Driver::new(stream, handle.clone(), on_push);
        let task = DriverTask(tokio::spawn(driver.run()));
        greet(&handle, address.settings()).await?;
        Ok(Self { handle, task, bytes_transferred })
    }

    /// The number of bytes transferred so far.
    pub(in crate::redis) fn bytes_transferred(&self) -> u64 {
        self.bytes_transferred.load(Ordering::Relaxed)
    }

    /// Waits until the connection ends.
    pub(in crate::redis) async fn ended(&mut self) {
        let _aborted = (&mut self.task.0).await;
    }
}
