//! The first commands of a connection: protocol, credentials, database.

use redis::{ErrorKind, Pipeline, ProtocolVersion, RedisConnectionInfo, RedisError, RedisResult};

use crate::redis::connection::channel::Channel;

/// Chooses the protocol, authenticates and selects the database, in one round trip.
pub(in crate::redis) async fn greet(channel: &Channel, settings: &RedisConnectionInfo) -> RedisResult<()> {
    let mut pipe = Pipeline::new();
    let user = settings.username();
    match (settings.protocol(), settings.password()) {
        (ProtocolVersion::RESP2, None) => {}
        (ProtocolVersion::RESP2, Some(password)) => {
            pipe.cmd("AUTH").arg(user).arg(password);
        }
        (_, None) => {
            pipe.cmd("HELLO").arg("3");
        }
        (_, Some(password)) => {
            pipe.cmd("HELLO").arg("3").arg("AUTH").arg(user.unwrap_or("default")).arg(password);
        }
    }
    if settings.db() != 0 {
        pipe.cmd("SELECT").arg(settings.db());
    }
    for answer in channel.send_all(&pipe).await? {
        answer.extract_error().map_err(explained)?;
    }
    Ok(())
}

/// A server that does not know `HELLO` is too old.
fn explained(error: RedisError) -> RedisError {
    match error.detail() {
        Some(detail) if detail.starts_with("unknown command `HELLO`") => {
            (ErrorKind::RESP3NotSupported, "the server does not support HELLO, and so not RESP3").into()
        }
        _ => error,
    }
}
