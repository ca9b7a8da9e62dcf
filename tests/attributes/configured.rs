//! Caches of functions are process-wide. The configuration of the process applies where the
//! attribute sets nothing, and `close_all` closes them.
//!
//! The child processes are this test binary, with variables that select a step.

use std::path::{Path, PathBuf};
use std::process::Command;

use larder::{bcache, mcache, ucache};

use super::{Runs, empty, folder};

const STEP: &str = "LARDER_TEST_CONFIGURED_STEP";

static RUNS: Runs = Runs::new();

#[bcache]
fn by_path(n: u32) -> u32 {
    RUNS.count();
    n
}

#[ucache(name = "renamed", persistence = larder::Persistence::LongTerm)]
fn renamed(n: u32) -> u32 {
    RUNS.count();
    n
}

#[bcache(dir = folder("configured").join("code"), name = "said in code")]
fn in_code(n: u32) -> u32 {
    RUNS.count();
    n
}

#[mcache(capacity = 1000, name = "bounded")]
async fn bounded(n: u32) -> u32 {
    RUNS.count();
    n
}

/// Runs one step in a child process, and does nothing without the variable that selects it.
///
///
/// Each step has its own keys: whether the entries of an earlier step reached the disk before its
/// process ended depends on timing.
#[test]
fn step() {
    let Ok(step) = std::env::var(STEP) else { return };
    match step.as_str() {
        "configured" => configured(),
        "wrong" => wrong(),
        "closed" => closed(),
        other => panic!("no step {other}"),
    }
}

fn configured() {
    let root = folder("configured");
    let dir = |cache: larder::Result<larder::Cache<u32, u32>>| cache.unwrap().dir().unwrap().to_path_buf();
    assert!(dir(by_path::cache()).starts_with(root.join("variable")), "{:?}", dir(by_path::cache()));
    assert!(dir(renamed::cache()).starts_with(root.join("file")), "{:?}", dir(renamed::cache()));
    assert!(dir(in_code::cache()).starts_with(root.join("code")), "{:?}", dir(in_code::cache()));
    let calls = || (by_path(1), renamed(1), in_code(1));
    assert_eq!((calls(), calls(), RUNS.take()), ((1, 1, 1), (1, 1, 1), 3));
}

fn wrong() {
    assert_eq!((by_path(1), by_path(1), RUNS.take()), (1, 1, 2));
    let why = by_path::cache().unwrap_err();
    assert_eq!(why.kind(), larder::ErrorKind::Config);
    assert!(why.to_string().contains(&format!("given `morse` by the variable {OF_BY_PATH}CODEC")), "{why}");
    assert_eq!((in_code(4), in_code(4), RUNS.take()), (4, 4, 1), "what is said in code counts");
}

fn closed() {
    larder_testkit::block_on(async {
        assert_eq!((bounded(1).await, bounded(1).await, RUNS.take()), (1, 1, 1));
    });
    assert_eq!((in_code(2), in_code(2), RUNS.take()), (2, 2, 1));
    larder::close_all().unwrap();
    assert_eq!((in_code(2), in_code(2), in_code(3), RUNS.take()), (2, 2, 3, 3), "loads, and stores nothing");
    assert_eq!((in_code::get(2), in_code::contains(2), in_code::purge(2)), (None, false, false));
    larder_testkit::block_on(async {
        assert_eq!((bounded(1).await, RUNS.take()), (1, 1));
    });
    // A cache that was not used before is built, as after any `close_all`.
    assert_eq!((renamed(5), renamed(5), RUNS.take()), (5, 5, 1));
    larder::close_all().unwrap();
    assert_eq!((renamed(5), RUNS.take()), (5, 1));
    // Its directory is unlocked: another cache of the same name and directory opens.
    let cache = bcache::<u32, u32>("said in code").dir(folder("configured").join("code")).build().unwrap();
    assert_eq!(cache.get(&2), Some(2), "closing has flushed it");
}

fn run(step: &str, variables: &[(&str, &Path)]) -> bool {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "attributes::configured::step", "--nocapture"]).env(STEP, step);
    command.envs(variables.iter().copied());
    command.status().unwrap().success()
}

/// The prefix of the variables of `by_path`, which comes from its module path.
const OF_BY_PATH: &str = "LARDER_LARDER__ATTRIBUTES__CONFIGURED__BY_PATH__";

#[test]
fn variables_and_file_apply_where_the_attribute_sets_nothing() {
    let root = empty("configured");
    std::fs::create_dir_all(&root).unwrap();
    let file: PathBuf = root.join("larder.toml");
    let dir = |name: &str| root.join(name);
    let text = format!(
        "[all]\ndir = {:?}\n[renamed]\ndir = {:?}\n[\"said in code\"]\ndir = {:?}\n",
        dir("all"),
        dir("file"),
        dir("elsewhere")
    );
    std::fs::write(&file, text).unwrap();
    let of_dir = format!("{OF_BY_PATH}DIR");
    let variable = dir("variable");
    assert!(run("configured", &[("LARDER_CONFIG", &file), (&of_dir, &variable)]));
    let of_codec = format!("{OF_BY_PATH}CODEC");
    assert!(run("wrong", &[("LARDER_CONFIG", &file), (&of_codec, Path::new("morse"))]));
    assert!(run("closed", &[("LARDER_CONFIG", &file)]));
}
