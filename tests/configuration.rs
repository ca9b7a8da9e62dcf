//! Options from all sources, through the public interface.

use std::process::Command;

use larder::{ErrorKind, options, ucache};

/// Not a test by itself: run by the next one, with variables that are its own.
#[test]
fn child_with_variables() {
    if std::env::var_os("LARDER_TEST_VARIABLES").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let builder = || ucache::<u8, String>("my cache").dir(dir.path());
    match builder().version(9).explain_config() {
        Ok(rows) => rows.iter().for_each(|row| println!("told: {row}")),
        Err(error) => return println!("told: {error}"),
    }
    let cache = builder().build().unwrap();
    println!("told: home {}", cache.try_insert(1, "x".repeat(100)).unwrap().home);
    let numbers = larder::mcache::<u8, String>("heap").build().unwrap();
    numbers.insert(1, String::new());
    println!("told: mcache holds {}", numbers.len());
}

fn told(variables: &[(&str, &str)]) -> Vec<String> {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "configuration::child_with_variables", "--nocapture"])
        .env("LARDER_TEST_VARIABLES", "1")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split_once("told: ")).map(|(_, told)| told.to_owned()).collect()
}

#[test]
fn code_then_variables_then_file_then_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("larder.toml");
    let text = "[all]\naccess = \"read_heavy\"\n[\"my cache\"]\nversion = 1\npersistence = \"auto\"\ncompress = \"none\"\n";
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let told = told(&[
        ("LARDER_CONFIG", file),
        ("LARDER_MEMORY_BYTES", "1 MiB"),
        ("LARDER_VERSION", "2"),
        ("LARDER_MY_CACHE__PERSISTENCE", "long_term"),
        ("LARDER_DISK_BYTES", ""),
    ]);
    for expect in [
        "version = 9 (code)".to_owned(),
        "memory_bytes = 1 MiB (the variable LARDER_MEMORY_BYTES)".to_owned(),
        "persistence = long_term (the variable LARDER_MY_CACHE__PERSISTENCE)".to_owned(),
        format!("compress = none ({file}, line 6)"),
        format!("access = read_heavy ({file}, line 2)"),
        "disk_bytes = 1 GiB (default)".to_owned(),
        "home disk".to_owned(),
        "mcache holds 1".to_owned(),
    ] {
        assert!(told.contains(&expect), "{expect:?} is missing in {told:#?}");
    }
}

#[test]
fn a_wrong_variable_is_named() {
    let told = told(&[("LARDER_DISK_BYTES", "64 Mib.")]);
    assert_eq!(
        told,
        ["option `disk_bytes`: given `64 Mib.` by the variable LARDER_DISK_BYTES, allowed 16 MiB to 1 PiB"]
    );
}

#[test]
fn a_url_says_where_and_how() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}?disk_bytes=32+MiB&compress=none", dir.path().display());
    let cache = larder::ucache::<u8, String>("by url").url(&url).build().unwrap();
    assert_eq!(cache.try_insert(1, "x".to_owned()).unwrap().home, larder::TierKind::File);
    assert!(cache.dir().unwrap().starts_with(dir.path().canonicalize().unwrap()));
    assert_eq!(cache.stats().tiers.len(), 1, "no memory was asked for");
    let error = larder::ucache::<u8, u8>("wrong").url("redis://me:secret@host").build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(!error.to_string().contains("secret"));
}

/// The page is written by `LARDER_WRITE_DOCS=1 cargo nextest run options_page`.
#[test]
fn the_options_page_is_that_of_the_table() {
    let mut page = include_str!("options.head.md").to_owned();
    page.push_str("| option | what it does | takes | allowed | default | tiers | cost |\n|---|---|---|---|---|---|---|\n");
    for row in options() {
        let cells = [row.says, row.takes, row.allowed, row.default, row.tiers, row.cost];
        page.push_str(&format!("| `{}` | {} |\n", row.name, cells.join(" | ")));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/options.md");
    if std::env::var_os("LARDER_WRITE_DOCS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), page);
}

/// Every option has a method of the builder of its own name.
#[test]
fn every_option_has_its_method() {
    let builder = include_str!("../crates/larder/src/builder/tiered.rs");
    for row in options() {
        let method = format!("pub fn {}(mut self", row.name);
        assert!(builder.contains(&method), "{}", row.name);
    }
}
