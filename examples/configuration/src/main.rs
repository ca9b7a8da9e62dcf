//! The same cache configured in code, by variables and a file, and by a URL: `cargo run --package
//! configuration`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::path::Path;
use std::process::Command;

use larder::ucache;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match std::env::var_os("EXAMPLE_DIR") {
        Some(dir) => explain(Path::new(&dir)),
        None => start(),
    }
}

/// Starts this program again with its own variables and configuration file.
fn start() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("larder.toml");
    std::fs::write(
        &file,
        "[all]\ndisk_bytes = \"2 GiB\"\n\n[reports]\ncompress = \"none\"\nversion = 7\nttl = \"1h 30m\"\n",
    )?;
    let run = |disk_bytes: &str| {
        Command::new(std::env::current_exe()?)
            .env("EXAMPLE_DIR", dir.path())
            .env("LARDER_CONFIG", &file)
            .env("LARDER_REPORTS__DISK_BYTES", disk_bytes)
            .output()
    };
    let good = run("64 MiB")?;
    print!("{}", String::from_utf8_lossy(&good.stdout));
    assert!(good.status.success());
    let told = String::from_utf8_lossy(&good.stdout).into_owned();
    assert!(told.contains("version = 9 (code)"));
    assert!(told.contains("disk_bytes = 64 MiB (the variable LARDER_REPORTS__DISK_BYTES)"));
    assert!(told.contains("larder.toml, line 5"));
    assert!(told.lines().any(|line| line.starts_with("ttl = 1h 30m (") && line.contains("line 7")));

    let wrong = run("sixty four")?;
    let told = String::from_utf8_lossy(&wrong.stderr);
    println!("\na wrong value: {}", told.trim());
    assert!(!wrong.status.success() && told.contains("allowed 16 MiB to 1 PiB"));
    Ok(())
}

fn explain(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let builder = ucache::<u32, String>("reports").dir(dir).version(9);
    for row in builder.explain_config()? {
        println!("{row}");
    }
    builder.build()?.destroy()?;

    let url = format!("memory: file://{}?compress=zstd:3", dir.display());
    let by_url = ucache::<u32, String>("by url").url(&url).build()?;
    println!("\n{url}: {}", by_url.try_insert(1, "a report".to_owned())?);
    by_url.destroy()?;

    let memory = ucache::<u32, String>("in memory").url("memory:?ttl=10m&memory_bytes=1+MiB").build()?;
    memory.insert(1, "a report".to_owned());
    let left = memory.inspect(&1)?.and_then(|entry| entry.left);
    println!("memory:?ttl=10m: it lives for {left:.0?}, in {} files", memory.dir().iter().count());
    assert!(left.is_some_and(|left| left.as_secs() <= 600));
    Ok(())
}
