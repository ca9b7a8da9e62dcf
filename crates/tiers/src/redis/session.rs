//! One connection with the task that drives it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redis::aio::{MultiplexedConnection, SendError};
use redis::{AsyncConnectionConfig, PushInfo, RedisResult};
use tokio::task::JoinHandle;

use super::address::Address;

/// Ends the task when dropped, and with it every request in flight.
pub(super) struct Session {
    pub(super) connection: MultiplexedConnection,
    driver: Driver,
    moved: Arc<AtomicU64>,
}

struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Session {
    /// Connects and introduces itself, to ask and nothing more.
    pub(super) async fn open(address: &Address) -> RedisResult<Self> {
        Self::open_with(address, config()).await
    }

    /// The same; what the server says by itself goes to `told`, in order with
    /// its answers.
    pub(super) async fn listen(
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
        Ok(Self { connection, driver: Driver(tokio::spawn(driver)), moved })
    }

    /// The bytes moved so far.
    pub(super) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Waits until the connection ends.
    pub(super) async fn ended(&mut self) {
        let _aborted = (&mut self.driver.0).await;
    }
}

/// Time limits are ours: callers poll the connection on threads without a timer.
fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_response_timeout(None)
}
