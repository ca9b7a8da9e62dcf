//! What a scope leaves behind, observed from outside: the scope runs in a child process, and the
//! test inspects its threads, files, locks and Redis keys.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use larder::{Cache, CacheContext, Error, ErrorKind, Loaded, with_context, with_context_async};
use larder_testkit::RedisServer;

use crate::tracing::lines_of;

/// The time after which nothing is left, on an idle machine.
const SOON: Duration = Duration::from_secs(1);
/// The time after which nothing is left, on any machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Prints a word to the parent, and waits for its answer.
fn pause(word: &str) {
    println!("\nat: {word}");
    let _heard = std::io::stdin().read(&mut [0; 1]).unwrap();
}

fn fill(context: &CacheContext) -> Cache<u64, String> {
    let cache = context.ucache("filled").build().unwrap();
    cache.insert(1, "for the server".to_owned());
    cache.insert(2, "x".repeat(2 << 20));
    let on_disk = context.bcache::<u64, String>("on disk").build().unwrap();
    on_disk.insert(1, "small".to_owned());
    context.mcache::<u64, u64>("in memory").build().unwrap().insert(1, 1);
    // This load starts the threads for loads.
    let loaded = cache.load(3, |_| Ok::<_, Error>(Loaded::Value("loaded".to_owned())));
    assert_eq!(loaded.unwrap().as_deref(), Some("loaded"));
    cache
}

type Outcome = Result<(), Error>;

fn returned(context: CacheContext) {
    let work = |cx: &CacheContext| -> Outcome {
        let _cache = fill(cx);
        pause("inside");
        Ok(())
    };
    with_context(context, work).unwrap();
    pause("ended");
}

fn failed(context: CacheContext) {
    let work = |cx: &CacheContext| -> Outcome {
        let _cache = fill(cx);
        pause("inside");
        Err(Error::new(ErrorKind::Unsupported, "of the closure"))
    };
    assert_eq!(with_context(context, work).unwrap_err().to_string(), "of the closure");
    pause("ended");
}

fn panicked(context: CacheContext) {
    let work = |cx: &CacheContext| -> Outcome {
        let _cache = fill(cx);
        pause("inside");
        panic!("inside")
    };
    let scope = std::panic::AssertUnwindSafe(|| with_context(context, work));
    assert!(std::panic::catch_unwind(scope).is_err());
    pause("ended");
}

fn aborted(context: CacheContext) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (begun, wait_for) = tokio::sync::oneshot::channel();
    let task = runtime.spawn(with_context_async(context, |cx| async move {
        let filled = tokio::task::spawn_blocking(move || fill(&cx)).await.unwrap();
        begun.send(filled).unwrap();
        std::future::pending::<Outcome>().await
    }));
    let _kept = runtime.block_on(wait_for).unwrap();
    pause("inside");
    task.abort();
    pause("ended");
}

fn nested(context: CacheContext) {
    let (inner, lasting) = (context.inner("inner").temporary(), context.inner("of one customer"));
    let _caches = (fill(&context), fill(&inner), fill(&lasting));
    pause("inside");
    context.close().unwrap();
    pause("ended");
}

fn used_after(context: CacheContext) {
    let cache = fill(&context);
    pause("inside");
    context.close().unwrap();
    assert_eq!(cache.get_with(1, || "loaded".to_owned()), "loaded");
    assert_eq!(cache.get(&1), None);
    cache.insert(3, "late".to_owned());
    pause("ended");
    assert_eq!(cache.get(&3), None);
}

fn dropped(context: CacheContext) {
    let cache = fill(&context);
    pause("inside");
    // The handle is dropped before the context, without `close`.
    drop(cache);
    drop(context);
    pause("ended");
}

fn killed(context: CacheContext) {
    let _kept = fill(&context);
    pause("inside");
    unreachable!("the parent kills this process");
}

/// The child process that the tests inspect.
#[test]
fn child_in_a_scope() {
    let Ok(scenario) = std::env::var("LARDER_TEST_SCOPE") else { return };
    let dir = std::env::var_os("LARDER_TEST_SCOPE_DIR").unwrap();
    let server = std::env::var("LARDER_TEST_SCOPE_SERVER").unwrap();
    let context = CacheContext::new("nightly").dir(dir).temporary().redis(server).namespace("shop");
    match scenario.as_str() {
        "returned" => returned(context),
        "failed" => failed(context),
        "panicked" => panicked(context),
        "aborted" => aborted(context),
        "nested" => nested(context),
        "used after" => used_after(context),
        "dropped" => dropped(context),
        "killed" => killed(context),
        other => panic!("no scenario {other}"),
    }
}

/// A child process with a scope, its folder and its server.
struct Outside {
    child: Child,
    answers: ChildStdin,
    words: BufReader<ChildStdout>,
    dir: tempfile::TempDir,
    server: RedisServer,
}

impl Outside {
    fn start(scenario: &str) -> Option<Self> {
        let server = RedisServer::start()?;
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "scopes::child_in_a_scope", "--nocapture"])
            .env("LARDER_TEST_SCOPE", scenario)
            .env("LARDER_TEST_SCOPE_DIR", dir.path())
            .env("LARDER_TEST_SCOPE_SERVER", server.url())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (answers, words) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Some(Self { child, answers, words, dir, server })
    }

    fn wait_for(&mut self, word: &str) {
        let line = format!("at: {word}");
        let found = self.words.by_ref().lines().map_while(Result::ok).any(|said| said.contains(&line));
        assert!(found, "the process ended before it said {word:?}");
    }

    fn go_on(&mut self) {
        self.answers.write_all(b"\n").unwrap();
    }

    /// What exists of the scope: threads, files, open files and locks, and Redis keys.
    fn left(&self) -> Vec<String> {
        let of_process = |name: &str| PathBuf::from(format!("/proc/{}/{name}", self.child.id()));
        // The main thread has the name of the program.
        let first = self.child.id().to_string();
        let mut threads = below(&of_process("task"));
        threads.retain(|task| !task.ends_with(&first));
        let names = threads.iter().filter_map(|task| std::fs::read_to_string(task.join("comm")).ok());
        let threads =
            names.filter(|name| name.starts_with("larder")).map(|name| format!("thread {}", name.trim()));
        let open = below(&of_process("fd"));
        let open = open.iter().filter_map(|fd| std::fs::read_link(fd).ok());
        let open = open.filter(|path| path.starts_with(self.dir.path()));
        let open = open.map(|path| format!("open or locked {}", path.display()));
        let files = files(self.dir.path()).into_iter().map(|file| format!("file {file}"));
        let keys = self.keys().into_iter().map(|key| format!("key {key}"));
        threads.chain(open).chain(files).chain(keys).collect()
    }

    fn keys(&self) -> Vec<String> {
        self.server.cli(&["--scan"]).lines().filter(|key| !key.is_empty()).map(str::to_owned).collect()
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _gone = self.child.kill().and_then(|()| self.child.wait());
    }
}

fn below(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// The paths in a folder, except the lock that all temporary contexts share.
fn files(dir: &Path) -> Vec<String> {
    let entries = walkdir::WalkDir::new(dir).min_depth(1).into_iter().flatten();
    let names = entries.map(|entry| entry.path().strip_prefix(dir).unwrap().display().to_string());
    names.filter(|name| name != "~temporary" && name != "~temporary/lock").collect()
}

/// Runs a scenario until it cleans up within [`SOON`], in at most five attempts. More than one is
/// only needed on a busy machine.
fn check(scenario: &str) {
    let is_soon = |_| leaves_nothing(scenario).is_none_or(|took| took < SOON);
    assert!((0..5).any(is_soon), "{scenario}: something is left for longer than {SOON:?} each time");
}

/// Runs a scenario. During its scope, something of each sort must exist; after its end, nothing.
/// Returns the time until then, or `None` without a server.
fn leaves_nothing(scenario: &str) -> Option<Duration> {
    let mut outside = Outside::start(scenario)?;
    outside.wait_for("inside");
    let inside = outside.left();
    for sort in ["file", "key", "open or locked", "thread larder-redis"] {
        assert!(inside.iter().any(|left| left.starts_with(sort)), "{scenario}: no {sort} in {inside:?}");
    }
    outside.go_on();
    outside.wait_for("ended");
    let ended = Instant::now();
    while !outside.left().is_empty() {
        assert!(ended.elapsed() < PATIENCE, "{scenario} leaves {:#?}", outside.left());
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let took = ended.elapsed();
    outside.go_on();
    assert!(outside.child.wait().unwrap().success(), "{scenario}");
    Some(took)
}

#[test]
fn scope_that_returns_leaves_nothing() {
    check("returned");
}

#[test]
fn scope_that_fails_leaves_nothing() {
    check("failed");
}

#[test]
fn scope_that_panics_leaves_nothing() {
    check("panicked");
}

#[test]
fn scope_of_an_aborted_task_leaves_nothing() {
    check("aborted");
}

#[test]
fn nested_scopes_leave_nothing() {
    check("nested");
}

#[test]
fn use_after_the_scope_creates_nothing() {
    check("used after");
}

#[test]
fn handles_dropped_before_their_scope_leave_nothing() {
    check("dropped");
}

#[test]
fn keys_and_files_of_a_killed_process_are_removed() {
    let Some(mut outside) = Outside::start("killed") else { return };
    outside.wait_for("inside");
    outside.child.kill().unwrap();
    outside.child.wait().unwrap();
    let keys = outside.keys();
    assert!(keys.len() > 64, "an entry and the marks: {keys:?}");
    for key in keys {
        let millis: i64 = outside.server.cli(&["PTTL", &key]).parse().unwrap();
        assert!((1..=120_000).contains(&millis), "{key} stays for {millis} ms");
    }
    assert!(!files(outside.dir.path()).is_empty());
    let next = CacheContext::new("next").dir(outside.dir.path()).temporary();
    next.bcache::<u8, u8>("any").build().unwrap();
    assert!(files(outside.dir.path()).iter().all(|name| name.starts_with("~temporary/next")));
    next.close().unwrap();
    assert_eq!(files(outside.dir.path()), [""; 0]);
}

#[test]
fn unreachable_server_at_the_end_of_a_scope_is_an_error() {
    let Some(mut server) = RedisServer::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let context = CacheContext::new("nightly").dir(dir.path()).temporary().redis(server.url());
    let _cache = fill(&context);
    server.kill();
    let error = context.close().unwrap_err();
    assert_eq!(error.tier(), Some(larder::TierKind::Redis), "{error:?}");
    assert_eq!(files(dir.path()), [""; 0], "the rest is cleaned up all the same");
}

#[test]
fn error_of_the_work_is_returned_and_cleanup_error_is_logged() {
    let Some(mut server) = RedisServer::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let context = || CacheContext::new("nightly").dir(dir.path()).temporary().redis(server.url());
    let (failing, dropped) = (context(), context());
    let _caches = (fill(&failing), fill(&dropped));
    server.kill();
    let lines = lines_of(|| {
        let work = |_: &CacheContext| Err::<(), _>(Error::new(ErrorKind::Unsupported, "of the closure"));
        assert_eq!(with_context(failing, work).unwrap_err().to_string(), "of the closure");
        drop(dropped);
    });
    let told = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
    assert_eq!(told("cannot clean up all data of a context"), 1, "{lines:#?}");
    assert_eq!(told("cannot clean up all data of a dropped context"), 1, "{lines:#?}");
    assert_eq!(files(dir.path()), [""; 0], "the rest is cleaned up all the same");
}

#[test]
fn scopes_and_caches_of_one_name_are_separate_in_redis() {
    let Some(server) = RedisServer::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let context = |name: &str| CacheContext::new(name).dir(dir.path()).redis(server.url()).namespace("shop");
    let (one, other) = (context("one"), context("other"));
    let inner = one.inner("inner");
    let cache = |context: &CacheContext| context.ucache::<u64, u64>("numbers").build().unwrap();
    let (first, second, third) = (cache(&one), cache(&other), cache(&inner));
    first.try_insert(1, 1).unwrap();
    assert_eq!((first.get(&1), second.get(&1), third.get(&1)), (Some(1), None, None));
    one.close().unwrap();
    let again = context("one");
    assert_eq!(cache(&again).get(&1), Some(1), "what is not temporary stays");
}
