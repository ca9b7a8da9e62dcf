//! One connection and the task that drives it.

pub(in crate::redis) mod address;
pub(in crate::redis) mod io_thread;
pub(in crate::redis) mod lifecycle;
pub(in crate::redis) mod stream;
pub(in crate::redis) mod supervisor;
#[cfg(not(feature = "redis-tls"))]
#[path = "no_tls.rs"]
pub(in crate::redis) mod tls;
#[cfg(feature = "redis-tls")]
pub(in crate::redis) mod tls;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt;
use futures_util::future::{Either, select};
use redis::aio::{MultiplexedConnection, SendError};
use redis::{AsyncConnectionConfig, Cmd, Pipeline, PushInfo, RedisResult, Value};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::redis::connection::address::Address;

/// A connection with its driver task. Dropping it ends the task and every request in progress.
pub(in crate::redis) struct Connection {
    /// The handle that requests are sent through; clones share the connection.
    pub(in crate::redis) handle: MultiplexedConnection,
    driver: Driver,
    bytes_transferred: Arc<AtomicU64>,
    driver_end: DriverEnd,
}

/// Closes when the task that drives a connection ends.
pub(in crate::redis) type DriverEnd = watch::Receiver<()>;

/// A connection for requests without a time limit. A request that is sent while the driver ends may never be
/// answered; it fails when the driver has ended.
pub(in crate::redis) struct RequestChannel {
    handle: MultiplexedConnection,
    driver_end: DriverEnd,
}

impl RequestChannel {
    pub(in crate::redis) fn new(handle: &MultiplexedConnection, driver_end: &DriverEnd) -> Self {
        Self { handle: handle.clone(), driver_end: driver_end.clone() }
    }

    pub(in crate::redis) async fn send(mut self, cmd: &Cmd) -> RedisResult<Value> {
        answered(self.handle.send_packed_command(cmd), self.driver_end).await
    }

    /// Sends a pipeline; returns the answers to all its commands.
    pub(in crate::redis) async fn send_all(mut self, pipe: &Pipeline) -> RedisResult<Vec<Value>> {
        answered(self.handle.send_packed_commands(pipe, 0, pipe.len()), self.driver_end).await
    }
}

async fn answered<T>(
    request: impl Future<Output = RedisResult<T>>,
    mut driver_end: DriverEnd,
) -> RedisResult<T> {
    let ended = async move { while driver_end.changed().await.is_ok() {} };
    match select(pin!(request), pin!(ended)).await {
        Either::Left((answer, _)) => answer,
        // An answer that arrived before the end is still delivered.
        Either::Right(((), request)) => {
            request.now_or_never().unwrap_or_else(|| Err(io::Error::from(io::ErrorKind::BrokenPipe).into()))
        }
    }
}

struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connection {
    /// Connects and authenticates, for requests only.
    pub(in crate::redis) async fn open(address: &Address) -> RedisResult<Self> {
        Self::open_with(address, config()).await
    }

    /// The same; push messages of the server go to `on_push`, in order with its replies.
    pub(in crate::redis) async fn listen(
        address: &Address,
        on_push: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> RedisResult<Self> {
        let forward = move |push: PushInfo| -> std::result::Result<(), SendError> {
            on_push(push);
            Ok(())
        };
        Self::open_with(address, config().set_push_sender(forward)).await
    }

    async fn open_with(address: &Address, config: AsyncConnectionConfig) -> RedisResult<Self> {
        let stream = address.connect().await?;
        let bytes_transferred = stream.bytes_transferred();
        let (handle, driver) =
            MultiplexedConnection::new_with_config(address.settings(), stream, config).await?;
        let (running, driver_end) = watch::channel(());
        let driver = tokio::spawn(async move {
            driver.await;
            drop(running);
        });
        Ok(Self { handle, driver: Driver(driver), bytes_transferred, driver_end })
    }

    /// Signals the end of the connection.
    pub(in crate::redis) fn driver_end(&self) -> &DriverEnd {
        &self.driver_end
    }

    /// The number of bytes transferred so far.
    pub(in crate::redis) fn bytes_transferred(&self) -> u64 {
        self.bytes_transferred.load(Ordering::Relaxed)
    }

    /// Waits until the connection ends.
    pub(in crate::redis) async fn ended(&mut self) {
        let _aborted = (&mut self.driver.0).await;
    }
}

/// No response timeout of the client: callers poll the connection on threads without a timer.
fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_response_timeout(None).set_pipeline_buffer_size(1024)
}
