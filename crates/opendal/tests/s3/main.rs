//! The tier over a real S3 server on loopback, which fails on command.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
#![allow(clippy::print_stdout, reason = "long tests say what they counted")]

mod conforming;
mod faults;
mod history;
mod sealed;
mod server;
mod troubles;
