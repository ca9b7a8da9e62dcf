//! Checks whether a server accepts the commands that the tier needs.
//!
//! A server may forbid a command: by an ACL, by `rename-command`, or because it is a service that offers
//! fewer. Commands inside a script are forbidden too, and then fail in the middle of the script. So each
//! command is tried after connecting, in a form that changes nothing: with a key that does not exist, or with
//! one of another type, which is created for that and unlinked in the same round trip. Redis checks
//! permissions before types and existence.

use redis::{Cmd, Pipeline, RedisError, RedisResult};

use crate::redis::connection::channel::Channel;
use crate::redis::keys::names::KeyNames;
use crate::redis::keys::partition_epochs::{random, send_pipeline};

/// The prefix of the error for a server that forbids a command.
pub(in crate::redis) const FORBIDS: &str = "the server forbids";

/// Commands with arguments that change nothing if `{absent}` does not exist and `{text}` is a string that is
/// not a number. The first one creates that string, the last ones remove it.
const PROBES: &[&[&str]] = &[
    &["SET", "{text}", "", "PX", "1000"],
    &["INCR", "{text}"],
    &["HSET", "{text}", "field", ""],
    &["EVAL", "return 1", "1", "{absent}"],
    &["MGET", "{absent}"],
    &["GET", "{absent}"],
    &["GETRANGE", "{absent}", "0", "1"],
    &["STRLEN", "{absent}"],
    &["EXISTS", "{absent}"],
    &["TYPE", "{absent}"],
    &["GETDEL", "{absent}"],
    &["PEXPIRE", "{absent}", "1"],
    &["PTTL", "{absent}"],
    &["HGET", "{absent}", "field"],
    &["HDEL", "{absent}", "field"],
    &["ZADD", "{absent}", "XX", "1", "member"],
    &["ZREM", "{absent}", "member"],
    &["ZCARD", "{absent}"],
    &["ZSCORE", "{absent}", "member"],
    &["ZRANGE", "{absent}", "0", "0"],
    &["ZREVRANGE", "{absent}", "0", "0"],
    &["ZRANGEBYSCORE", "{absent}", "0", "1"],
    &["SCAN", "0", "MATCH", "{absent}", "COUNT", "1"],
    &["DBSIZE"],
    &["UNLINK", "{text}"],
    &["DEL", "{text}"],
];

/// Tries every command that the tier needs, in one round trip.
///
/// # Errors
/// The error of the first command that the server forbids, by name. Temporary errors, such as full memory,
/// are ignored here.
pub(in crate::redis) async fn check(names: &KeyNames, connection: &mut Channel) -> RedisResult<()> {
    let mut pipe = Pipeline::new();
    let keys = [names.probe_key("absent", 0), names.probe_key("text", random())];
    for probe in PROBES {
        pipe.add_command(command(probe, &keys));
    }
    for (probe, answer) in PROBES.iter().zip(send_pipeline(connection, &pipe).await?) {
        answer.extract_error().map(drop).or_else(|error| permitted(probe[0], error))?;
    }
    Ok(())
}

fn command(probe: &[&str], [absent, text]: &[String; 2]) -> Cmd {
    let mut cmd = redis::cmd(probe[0]);
    for argument in &probe[1..] {
        match *argument {
            "{absent}" => cmd.arg(absent),
            "{text}" => cmd.arg(text),
            other => cmd.arg(other),
        };
    }
    cmd
}

/// Returns an error only if it says that the command is forbidden.
fn permitted(command: &str, error: RedisError) -> RedisResult<()> {
    if is_forbidden(&error) { Err(named(command, &error)) } else { Ok(()) }
}

/// The error of a command that the greeting needs; names the command if the server forbids it.
pub(in crate::redis) fn name_forbidden(command: &str, error: RedisError) -> RedisError {
    if is_forbidden(&error) { named(command, &error) } else { error }
}

fn named(command: &str, error: &RedisError) -> RedisError {
    (
        redis::ErrorKind::InvalidClientConfig,
        FORBIDS,
        format!("{FORBIDS} {command}, which Larder needs: {error}"),
    )
        .into()
}

/// The text of an error, for people.
pub(in crate::redis) fn error_text(error: &RedisError) -> String {
    match error.detail() {
        Some(detail) if detail.starts_with(FORBIDS) => detail.to_owned(),
        _ => error.to_string(),
    }
}

/// Whether the error says that the server forbids a command, or one of its keys, permanently.
pub(in crate::redis) fn is_forbidden(error: &RedisError) -> bool {
    const FORBIDDEN_TEXTS: [&str; 7] = [
        "unknown command",
        "unknown subcommand",
        "no permissions",
        "not allowed",
        "not permitted",
        "not supported",
        "disabled",
    ];
    match error.code() {
        Some("NOPERM") => true,
        Some("ERR") => {
            let text = error.to_string().to_ascii_lowercase();
            FORBIDDEN_TEXTS.iter().any(|known| text.contains(known))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: &str, detail: &str) -> RedisError {
        redis::make_extension_error(code.to_owned(), Some(detail.to_owned()))
    }

    #[test]
    fn forbidden_command_is_distinguished_from_temporary_error() {
        for (code, detail) in [
            ("NOPERM", "User app has no permissions to run the 'eval' command"),
            ("NOPERM", "No permissions to access a key"),
            ("ERR", "unknown command 'EVAL', with args beginning with: "),
            ("ERR", "This command is not allowed on this service"),
        ] {
            assert!(is_forbidden(&error(code, detail)), "{code} {detail}");
        }
        for (code, detail) in [
            ("OOM", "command not allowed when used memory > 'maxmemory'."),
            ("LOADING", "Redis is loading the dataset in memory"),
            ("MISCONF", "Redis is configured to save RDB snapshots"),
            ("READONLY", "You can't write against a read only replica."),
            ("WRONGTYPE", "Operation against a key holding the wrong kind of value"),
            ("ERR", "value is not an integer or out of range"),
            ("MOVED", "1 127.0.0.1:1"),
        ] {
            assert!(!is_forbidden(&error(code, detail)), "{code} {detail}");
        }
    }
}
