//! Cache contexts: however a scope ends, it leaves no files, threads or entries.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use larder::{Cache, CacheContext, Error, ErrorKind, Persistence, with_context, with_context_async};

use crate::tracing::lines_of;

/// The paths in a folder, except the lock of all temporary contexts.
fn left(dir: &Path) -> Vec<String> {
    // Skips paths that are removed during the walk.
    let files = walkdir::WalkDir::new(dir).min_depth(1).into_iter().flatten();
    let names = files.map(|entry| entry.path().strip_prefix(dir).unwrap().display().to_string());
    names.filter(|name| name != "~temporary" && name != "~temporary/lock").collect()
}

fn temporary(dir: &Path) -> CacheContext {
    CacheContext::new("night/ly").dir(dir).temporary()
}

fn fill(context: &CacheContext) -> Cache<u64, String> {
    let cache = context.ucache("filled").persistence(Persistence::LongTerm).build().unwrap();
    cache.insert(1, "small".to_owned());
    cache.insert(2, "x".repeat(2 << 20));
    cache
}

fn wait_until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
}

#[test]
fn temporary_scope_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let kept = with_context(temporary(dir.path()), |context| -> Result<_, Error> {
        let cache = fill(context);
        assert!(cache.dir().unwrap().starts_with(dir.path().canonicalize().unwrap()));
        assert!(!left(dir.path()).is_empty());
        context.mcache::<u8, u8>("of this scope alone").build()?;
        Ok(cache)
    });
    assert_eq!(left(dir.path()), [""; 0]);
    let kept = kept.unwrap();
    assert_eq!(kept.get(&1), None);
    assert_eq!(kept.get_with(1, || "loaded".to_owned()), "loaded");
    assert_eq!(kept.get(&1), None, "nothing is cached after the scope");
    assert!(larder::all_stats().iter().all(|row| row.name != "of this scope alone"));
}

#[test]
fn use_after_the_scope_is_logged_once() {
    let context = CacheContext::new("short");
    let cache = context.mcache::<u64, u64>("late").build().unwrap();
    context.close().unwrap();
    let lines = lines_of(|| (0..10).for_each(|key| assert_eq!(cache.get_with(key, || key), key)));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("late") && lines[0].contains("loads run without caching"), "{lines:?}");
}

#[test]
fn scope_ended_by_error_or_panic_is_cleaned_up_and_propagates_it() {
    let dir = tempfile::tempdir().unwrap();
    let failed = with_context(temporary(dir.path()), |context| -> Result<(), Error> {
        let _cache = fill(context);
        Err(Error::new(ErrorKind::Unsupported, "of the closure"))
    });
    assert_eq!(failed.unwrap_err().to_string(), "of the closure");
    assert_eq!(left(dir.path()), [""; 0]);

    let panicked = std::panic::catch_unwind(|| {
        with_context(temporary(dir.path()), |context| -> Result<(), Error> {
            let _cache = fill(context);
            panic!("inside");
        })
    });
    assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"inside"));
    assert_eq!(left(dir.path()), [""; 0]);
}

#[test]
fn persistent_scope_keeps_its_entries_separate() {
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &str| CacheContext::new(name).dir(dir.path());
    let first = open("a");
    fill(&first);
    first.close().unwrap();
    let (first, other) = (open("a"), open("b"));
    let get = |context: &CacheContext| context.ucache::<u64, String>("filled").build().unwrap().get(&1);
    assert_eq!(get(&first).as_deref(), Some("small"));
    assert_eq!(get(&other), None);
    let outside = larder::ucache::<u64, String>("filled").dir(dir.path()).build().unwrap();
    assert_eq!(outside.get(&1), None);
}

#[test]
fn inner_context_inherits_options_and_closes_with_the_outer() {
    let dir = tempfile::tempdir().unwrap();
    let outer = temporary(dir.path()).disk_bytes(32 << 20).memory_bytes(1 << 20);
    let inner = outer.inner("inner").memory_bytes(2 << 20);
    let explained = inner.ucache::<u64, String>("explained").explain_config().unwrap();
    let of = |option: &str| explained.iter().find(|row| row.option == option).unwrap().to_string();
    assert_eq!(of("disk_bytes"), "disk_bytes = 32 MiB (the context night/ly)");
    assert_eq!(of("memory_bytes"), "memory_bytes = 2 MiB (the context inner)");
    let (inside, around) = (fill(&inner), outer.mcache::<u64, u64>("around").build().unwrap());
    around.insert(1, 1);
    outer.close().unwrap();
    assert_eq!(left(dir.path()), [""; 0]);
    assert_eq!((inside.get(&1), around.get(&1)), (None, None));
    assert_eq!(inside.try_insert(1, String::new()).unwrap_err().kind(), ErrorKind::Closed);
    let late = inner.ucache::<u64, String>("late").build().unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Closed);
    assert_eq!(inner.inner("later").mcache::<u8, u8>("late").build().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(left(dir.path()), [""; 0]);
}

/// Every option that a context can set, with its expected value.
#[test]
fn options_of_a_context_apply_to_caches_of_inner_contexts() {
    let dir = tempfile::tempdir().unwrap();
    let outer = CacheContext::new("outer")
        .dir(dir.path())
        .memory_bytes(1 << 20)
        .disk_bytes(32 << 20)
        .compress(larder::Compress::None)
        .persistence(Persistence::LongTerm)
        .durability(larder::Durability::Flushed)
        .ttl(Duration::from_secs(60))
        .preset(larder::presets::images());
    #[cfg(feature = "redis")]
    let outer = outer.redis("redis://127.0.0.1:1").namespace("shop");
    let told = outer.inner("inner").ucache::<u64, String>("explained").explain_config().unwrap();
    let told: Vec<_> = told.iter().map(ToString::to_string).collect();
    let by_context = [
        "memory_bytes = 1 MiB",
        "disk_bytes = 32 MiB",
        "compress = none",
        "persistence = long_term",
        "durability = flushed",
        "ttl = 1m",
        #[cfg(feature = "redis")]
        "redis = redis://127.0.0.1:1",
        #[cfg(feature = "redis")]
        "namespace = shop",
    ];
    for expected in by_context {
        assert!(told.contains(&format!("{expected} (the context outer)")), "{expected} in {told:#?}");
    }
    assert!(told.contains(&"kind = image (the preset images)".to_owned()), "{told:#?}");
}

#[test]
fn async_scope_is_cleaned_up_on_return_and_on_cancellation() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let path = dir.path().to_path_buf();
    let value = runtime.block_on(runtime.spawn({
        let context = temporary(&path);
        with_context_async(context, |context| async move {
            let cache = tokio::task::spawn_blocking(move || fill(&context)).await.unwrap().to_async();
            Ok::<_, Error>(cache.get(&1).await)
        })
    }));
    assert_eq!(value.unwrap().unwrap().as_deref(), Some("small"));
    assert_eq!(left(dir.path()), [""; 0]);

    let (begun, wait_for) = tokio::sync::oneshot::channel();
    let leaked = Arc::new(parking_lot::Mutex::new(None));
    let task = runtime.spawn({
        let (context, leaked) = (temporary(&path), Arc::clone(&leaked));
        with_context_async(context, |context| async move {
            let _cache = fill(&context);
            *leaked.lock() = Some(Arc::clone(&context));
            begun.send(()).unwrap();
            std::future::pending::<Result<(), Error>>().await
        })
    });
    runtime.block_on(wait_for).unwrap();
    assert!(!left(dir.path()).is_empty());
    task.abort();
    wait_until(|| left(dir.path()).is_empty());
    let context = leaked.lock().take().unwrap();
    assert!(context.mcache::<u8, u8>("late").build().is_err(), "whoever still has it");
}

#[test]
fn context_dropped_inside_a_runtime_is_cleaned_up() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let context = temporary(dir.path());
        let _cache = fill(&context);
        drop(context);
        let context = temporary(dir.path());
        let _cache = fill(&context);
        context.close_async().await.unwrap();
    });
    drop(runtime);
    assert_eq!(left(dir.path()), [""; 0]);
}

/// A child process that the next test kills.
#[test]
fn child_that_is_killed_in_a_scope() {
    let Some(dir) = std::env::var_os("LARDER_TEST_KILLED_SCOPE") else { return };
    let context = temporary(Path::new(&dir));
    let _cache = fill(&context);
    println!("filled");
    loop {
        std::thread::park();
    }
}

#[test]
fn files_of_a_killed_process_are_removed_by_the_next() {
    use std::io::{BufRead, BufReader};

    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "contexts::child_that_is_killed_in_a_scope", "--nocapture"])
        .env("LARDER_TEST_KILLED_SCOPE", dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("filled")));

    let live = temporary(dir.path());
    let held = fill(&live);
    let of_child = || left(&dir.path().join("~temporary")).iter().filter(|name| !name.contains('/')).count();
    assert_eq!(of_child(), 3, "two directories and the lock; the child lives, and keeps its own");
    child.kill().unwrap();
    child.wait().unwrap();
    let next = temporary(dir.path());
    fill(&next);
    assert_eq!(of_child(), 3, "that of the child is gone, ours is not");
    assert_eq!(held.get(&1).as_deref(), Some("small"));
    next.close().unwrap();
    live.close().unwrap();
    assert_eq!(left(dir.path()), [""; 0]);
}

#[test]
#[cfg(unix)]
fn directories_of_a_temporary_scope_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;

    fn check(dir: &std::path::Path) -> usize {
        let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let inside = entries.filter(|path| path.is_dir()).map(|path| {
            let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o700, "{}", path.display());
            1 + check(&path)
        });
        inside.sum()
    }

    let base = tempfile::tempdir().unwrap();
    let scope = larder::CacheContext::new("modes").dir(base.path()).temporary();
    let cache = scope.fcache::<u32, String>("files").build().unwrap();
    cache.insert(1, "one".to_owned());
    assert!(check(base.path()) >= 3, "the root, the scope and the cache");
}
