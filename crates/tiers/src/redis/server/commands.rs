//! Which commands the tier depends on, and whether a server takes them.
//!
//! A server may forbid a command: by an ACL, by `rename-command`, or because it is a
//! service that offers less. What a script calls is forbidden too then, in the middle
//! of the script. So each command is tried after connecting, in a form that changes
//! nothing: with a key that does not exist, or with one of another type, which is made
//! for that and unlinked in the same round trip. Redis looks at permissions before it
//! looks at any of that.

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisError, RedisResult};

use crate::redis::keys::names::Names;
use crate::redis::keys::partition_epochs::{chance, exchange};

/// How the refusal of a server that lacks a command begins.
pub(in crate::redis) const LACKS: &str = "the server forbids";

/// Commands with arguments that change nothing where `{absent}` does not exist and
/// `{text}` is a string that is no number. The first one makes that, the last ones remove it.
const TRIALS: &[&[&str]] = &[
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

/// Tries every command that the tier depends on, in one round trip.
///
/// # Errors
/// That of the first one that the server refuses, by name. Troubles of the moment, such
/// as memory that is full, are found when they matter.
pub(in crate::redis) async fn check(
    names: &Names,
    connection: &mut MultiplexedConnection,
) -> RedisResult<()> {
    let mut pipe = Pipeline::new();
    let keys = [names.trial("absent", 0), names.trial("text", chance())];
    for trial in TRIALS {
        pipe.add_command(command(trial, &keys));
    }
    for (trial, answer) in TRIALS.iter().zip(exchange(connection, &pipe).await?) {
        answer.extract_error().map(drop).or_else(|error| permitted(trial[0], error))?;
    }
    Ok(())
}

fn command(trial: &[&str], [absent, text]: &[String; 2]) -> Cmd {
    let mut cmd = redis::cmd(trial[0]);
    for argument in &trial[1..] {
        match *argument {
            "{absent}" => cmd.arg(absent),
            "{text}" => cmd.arg(text),
            other => cmd.arg(other),
        };
    }
    cmd
}

/// Nothing, unless an error says that the command is forbidden.
fn permitted(command: &str, error: RedisError) -> RedisResult<()> {
    if is_forbidden(&error) { Err(named(command, &error)) } else { Ok(()) }
}

/// The error of a command that the greeting cannot do without, by its name where the
/// server forbids it.
pub(in crate::redis) fn needed(command: &str, error: RedisError) -> RedisError {
    if is_forbidden(&error) { named(command, &error) } else { error }
}

fn named(command: &str, error: &RedisError) -> RedisError {
    (redis::ErrorKind::InvalidClientConfig, LACKS, format!("{LACKS} {command}, which Larder needs: {error}"))
        .into()
}

/// What an error says to people.
pub(in crate::redis) fn said(error: &RedisError) -> String {
    match error.detail() {
        Some(detail) if detail.starts_with(LACKS) => detail.to_owned(),
        _ => error.to_string(),
    }
}

/// Whether a server refuses a command, or one of its keys, whatever the moment.
pub(in crate::redis) fn is_forbidden(error: &RedisError) -> bool {
    const SAID: [&str; 7] = [
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
            SAID.iter().any(|said| text.contains(said))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(code: &str, detail: &str) -> RedisError {
        redis::make_extension_error(code.to_owned(), Some(detail.to_owned()))
    }

    #[test]
    fn a_forbidden_command_is_told_from_a_trouble_of_the_moment() {
        for (code, detail) in [
            ("NOPERM", "User app has no permissions to run the 'eval' command"),
            ("NOPERM", "No permissions to access a key"),
            ("ERR", "unknown command 'EVAL', with args beginning with: "),
            ("ERR", "This command is not allowed on this service"),
        ] {
            assert!(is_forbidden(&told(code, detail)), "{code} {detail}");
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
            assert!(!is_forbidden(&told(code, detail)), "{code} {detail}");
        }
    }
}
