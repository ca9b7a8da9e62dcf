//! The command `larder`, run as a program over directories that caches of this test wrote.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

mod changes;
mod damage;
mod explained;
mod exports;
mod fixtures;
mod golden;
mod in_use;
mod looks;
mod machine;
#[cfg(unix)]
mod observed;
#[cfg(unix)]
mod served;
mod servers;
mod simulations;
#[cfg(unix)]
mod terminals;
