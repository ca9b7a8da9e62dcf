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
pub(in crate::redis) struct Session {
    pub(in crate::redis) connection: MultiplexedConnection,
    driver: Driver,
    moved: Arc<AtomicU64>,
    gone: Gone,
}

/// Closes when the task that drives a connection ends.
pub(in crate::redis) type Gone = watch::Receiver<()>;

/// A connection for requests without a time limit. A request that is sent while the driver ends may never be
/// answered; it fails when the driver has ended.
pub(in crate::redis) struct Line {
    connection: MultiplexedConnection,
    gone: Gone,
}

impl Line {
    pub(in crate::redis) fn new(connection: &MultiplexedConnection, gone: &Gone) -> Self {
        Self { connection: connection.clone(), gone: gone.clone() }
    }

    pub(in crate::redis) async fn send(mut self, cmd: &Cmd) -> RedisResult<Value> {
        answered(self.connection.send_packed_command(cmd), self.gone).await
    }

    /// Sends a pipeline; returns the answers to all its commands.
    pub(in crate::redis) async fn send_all(mut self, pipe: &Pipeline) -> RedisResult<Vec<Value>> {
        answered(self.connection.send_packed_commands(pipe, 0, pipe.len()), self.gone).await
    }
}

async fn answered<T>(request: impl Future<Output = RedisResult<T>>, mut gone: Gone) -> RedisResult<T> {
    let ended = async move { while gone.changed().await.is_ok() {} };
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

impl Session {
    /// Connects and authenticates, for requests only.
    pub(in crate::redis) async fn open(address: &Address) -> RedisResult<Self> {
        Self::open_with(address, config()).await
    }

    /// The same; push messages of the server go to `told`, in order with its replies.
    pub(in crate::redis) async fn listen(
        address: &Address,
        told: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> RedisResult<Self> {
        let told = move |push: PushInfo| -> std::result::Result<(), SendError> {
            told(push);
            Ok(())
        };
        Self::open_with(address, config().set_push_sender(told)).await
    }

    async fn open_with(address: &Address, config: AsyncConnectionConfig) -> RedisResult<Self> {
        let stream = address.connect().await?;
        let moved = stream.moved();
        let (connection, driver) =
            MultiplexedConnection::new_with_config(address.settings(), stream, config).await?;
        let (driven, gone) = watch::channel(());
        let driver = tokio::spawn(async move {
            driver.await;
            drop(driven);
        });
        Ok(Self { connection, driver: Driver(driver), moved, gone })
    }

    /// Signals the end of the connection.
    pub(in crate::redis) fn gone(&self) -> &Gone {
        &self.gone
    }

    /// The number of bytes transferred so far.
    pub(in crate::redis) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Waits until the connection ends.
    pub(in crate::redis) async fn ended(&mut self) {
        let _aborted = (&mut self.driver.0).await;
    }
}

/// No response timeout of the client: callers poll the connection on threads without a timer.
fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_response_timeout(None)
}
