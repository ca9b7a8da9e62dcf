//! Benchmarks of Larder and other caches: one process, interleaved rounds, ratios.
//!
//! `cargo run --release -p larder-compare` prints all rows; `-- memory`, `-- disk`, `-- lookaside` or
//! `-- reliability` prints one group; `-- soak`, which is not part of all rows, runs for minutes. Times depend on the machine and its
//! load; compare the ratios to the first contender of each row.
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

mod disk;
mod harness;
mod lookaside;
mod memory;
mod reliability;
#[cfg(unix)]
mod soak;

fn main() -> larder::Result<()> {
    if reliability::was_child() {
        return Ok(());
    }
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let wants = |row: &str| asked.is_empty() || asked.iter().any(|name| name == row);
    if let Some(unknown) = asked
        .iter()
        .find(|name| !["memory", "disk", "lookaside", "reliability", "soak"].contains(&name.as_str()))
    {
        return Err(larder::Error::config("row", unknown, "memory, disk, lookaside, reliability, soak"));
    }
    if wants("memory") {
        memory::run()?;
    }
    if wants("disk") {
        disk::run()?;
    }
    if wants("lookaside") {
        lookaside::run_all();
    }
    if wants("reliability") {
        reliability::run()?;
    }
    #[cfg(unix)]
    if asked.iter().any(|name| name == "soak") {
        soak::run()?;
    }
    Ok(())
}
