//! Options from code, variables, the configuration file and URLs, through the public interface.

use std::process::Command;

use std::time::Duration;

use larder::{
    Access, Codec, Compress, Durability, ErrorKind, Kind, Persistence, Policy, Sharing, Thresholds, TierKind,
    TieredBuilder, options, ucache,
};

/// A child process of the tests below, with its own environment variables.
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

/// A child process: caches and contexts that process-wide variables apply to.
#[test]
fn child_with_variables_for_all() {
    if std::env::var_os("LARDER_TEST_VARIABLES").is_none() {
        return;
    }
    let on_disk = larder::bcache::<u8, String>("on disk");
    let anywhere = ucache::<u8, String>("anywhere").url("memory:");
    for rows in [on_disk.explain_config(), anywhere.explain_config()] {
        rows.unwrap().iter().for_each(|row| println!("told: {row}"));
    }
    on_disk.build().unwrap().close().unwrap();
    let shared = ucache::<u8, String>("shared").explain_config().unwrap();
    shared.iter().for_each(|row| println!("told: of ucache: {row}"));
    let context = larder::CacheContext::new("scope");
    let cache = context.bcache::<u8, String>("inside").build().unwrap();
    println!("told: dir {}", cache.dir().unwrap().display());
    context.close().unwrap();
}

#[cfg(feature = "redis")]
#[test]
fn process_wide_variable_is_ignored_where_it_does_not_apply() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().canonicalize().unwrap();
    let told = told_by(
        "child_with_variables_for_all",
        &[("LARDER_REDIS", "redis://me:secret@127.0.0.1:1"), ("LARDER_DIR", folder.to_str().unwrap())],
    );
    let all = told.join("\n");
    assert!(!all.contains("secret"), "{all}");
    assert!(told.contains(&"redis = none (default)".to_owned()), "{all}");
    let of_ucache = "of ucache: redis = redis://***@127.0.0.1:1 (the variable LARDER_REDIS)";
    assert!(told.contains(&of_ucache.to_owned()), "{all}");
    let inside = format!("dir {}/~scope-scope/inside", folder.display());
    assert!(told.contains(&inside), "a context reads LARDER_DIR: {all}");
}

/// A child process: URLs from variables and the configuration file.
#[test]
fn child_with_urls() {
    if std::env::var_os("LARDER_TEST_VARIABLES").is_none() {
        return;
    }
    let placed = |builder: TieredBuilder<u8, String>| match builder.build() {
        Ok(cache) => {
            println!("told: {}: {}", cache.name(), cache.try_insert(1, "x".to_owned()).unwrap().home)
        }
        Err(error) => println!("told: {error}"),
    };
    for row in ucache::<u8, String>("by url").explain_config().into_iter().flatten() {
        println!("told: {row}");
    }
    placed(ucache("by url"));
    placed(ucache("by code").url("null:"));
    placed(larder::bcache("on disk"));
    larder::mcache::<u8, u8>("in memory").build().unwrap();
    larder::close_all().unwrap();
}

#[test]
fn url_of_a_variable_or_the_file_applies_to_caches_without_tiers() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().canonicalize().unwrap();
    let (folder, file) = (folder.to_str().unwrap(), dir.path().join("larder.toml"));
    let url = format!("file://{folder}?ttl=1h&version=3");
    let of = |variables: &[(&str, &str)]| told_by("child_with_urls", variables);
    let check = |told: Vec<String>, by: &str, version: &str| {
        for expected in [
            &format!("url = {url} ({by})"),
            &format!("dir = {folder} ({by})"),
            &format!("ttl = 1h ({by})"),
            version,
            "by url: file",
            "by code: null",
            "on disk: disk",
        ] {
            assert!(told.iter().any(|line| line == expected), "{expected} in {told:#?}");
        }
    };
    let base = ("LARDER_DIR", folder);
    let told = of(&[("LARDER_URL", &url), ("LARDER_BY_URL__VERSION", "4"), ("LARDER_ON_DISK__DIR", folder)]);
    check(told, "the variable LARDER_URL", "version = 4 (the variable LARDER_BY_URL__VERSION)");
    std::fs::write(&file, format!("[all]\nurl = \"{url}\"\n[\"on disk\"]\ndir = \"{folder}\"\n")).unwrap();
    let by = format!("{}, line 2", file.display());
    let told = of(&[("LARDER_CONFIG", file.to_str().unwrap())]);
    check(told, &by, &format!("version = 3 ({by})"));
    let told = of(&[("LARDER_URL", "memory: redis://me:secret@host:x"), base]).join("\n");
    assert!(told.contains("the variable LARDER_URL: option ") && !told.contains("secret"), "{told}");
    let told = of(&[("LARDER_URL", "memory:?ttl=long"), base]).join("\n");
    assert!(told.contains("the variable LARDER_URL: option `ttl`: given `long`"), "{told}");
}

/// A conflict that only shows for the whole cache also names its source.
#[test]
fn option_that_conflicts_with_the_cache_names_its_source() {
    let dir = tempfile::tempdir().unwrap();
    let check = |url: &str, expect: &str| {
        let url = format!("sled://{}?{url}", dir.path().display());
        let error = ucache::<u8, String>("does not fit").url(url).build().unwrap_err();
        assert_eq!(error.to_string(), expect);
    };
    check(
        "require=disk,file",
        "option `require`: given file by the URL, allowed the tiers that the cache has",
    );
    check(
        "sharing=processes",
        "option `sharing`: given Processes by the URL for a cache without files, allowed Processes for \
         `fcache` and `ucache`, with the feature `file`",
    );
}

fn told(variables: &[(&str, &str)]) -> Vec<String> {
    told_by("child_with_variables", variables)
}

fn told_by(child: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("configuration::{child}"), "--nocapture"])
        .env("LARDER_TEST_VARIABLES", "1")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split_once("told: ")).map(|(_, told)| told.to_owned()).collect()
}

#[test]
fn code_wins_over_variables_over_file_over_defaults() {
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
fn error_for_a_wrong_variable_names_it() {
    let told = told(&[("LARDER_DISK_BYTES", "64 Mib.")]);
    assert_eq!(
        told,
        [
            "option `disk_bytes`: given `64 Mib.` by the variable LARDER_DISK_BYTES, allowed 16 MiB to 1 PiB (a size, such as 4 GiB)"
        ]
    );
}

#[test]
fn variable_of_a_cache_with_an_unknown_option_is_an_error() {
    let told = told(&[("LARDER_MY_CACHE__DISK_BITES", "64 MiB")]).join("\n");
    let begins = "option `disk_bites`: given the variable LARDER_MY_CACHE__DISK_BITES, allowed capacity, ";
    assert!(told.starts_with(begins), "{told}");
}

#[test]
fn url_sets_tier_directory_and_options() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}?disk_bytes=32+MiB&compress=none", dir.path().display());
    let cache = larder::ucache::<u8, String>("by url").url(&url).build().unwrap();
    assert_eq!(cache.try_insert(1, "x".to_owned()).unwrap().home, larder::TierKind::File);
    assert!(cache.dir().unwrap().starts_with(dir.path().canonicalize().unwrap()));
    assert_eq!(cache.stats().tiers.len(), 1, "no memory was asked for");
    let error = larder::ucache::<u8, u8>("wrong").url("nowhere://me:secret@host").build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(!error.to_string().contains("secret"));
}

/// `LARDER_WRITE_DOCS=1 cargo nextest run options_page` writes the page.
#[test]
fn options_page_matches_the_table() {
    let mut page = include_str!("options.head.md").to_owned();
    page.push_str("| option | what it does | takes | allowed | default | tiers | cost |\n|---|---|---|---|---|---|---|\n");
    for row in options() {
        let cells = [row.says, row.takes, row.allowed, row.default, row.tiers, row.cost];
        // A name in angle brackets would be an HTML tag.
        let cells = cells.join(" | ").replace('<', "&lt;").replace('>', "&gt;");
        page.push_str(&format!("| `{}` | {cells} |\n", row.name));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/options.md");
    if std::env::var_os("LARDER_WRITE_DOCS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), page);
}

type Builder = TieredBuilder<u8, String>;

const HOUR: Duration = Duration::from_secs(3600);

/// Sets an option by the method of its name, which both builders and contexts have.
macro_rules! said {
    ($option:expr, $by:expr) => {
        match $option {
            "capacity" => $by.capacity(500),
            "memory_bytes" => $by.memory_bytes(1 << 20),
            "policy" => $by.policy(Policy::Lru),
            "memory_engine" => $by.memory_engine(larder::MemoryEngine::Moka),
            "dir" => $by.dir("/tmp/somewhere"),
            "disk_bytes" => $by.disk_bytes(64 << 20),
            "warm_restart" => $by.warm_restart(700),
            "codec" => $by.codec(Codec::MessagePack),
            "compress" => $by.compress(Compress::None),
            "version" => $by.version(7),
            "kind" => $by.kind(Kind::Image),
            "selector" => $by.selector(larder::Table),
            "persistence" => $by.persistence(Persistence::LongTerm),
            "access" => $by.access(Access::ReadHeavy),
            "sharing" => $by.sharing(Sharing::Processes),
            "thresholds" => $by.thresholds(Thresholds::default()),
            "durability" => $by.durability(Durability::Flushed),
            #[cfg(feature = "redis")]
            "redis" => $by.redis("redis://me:secret@127.0.0.1:1"),
            #[cfg(feature = "redis")]
            "lease" => $by.lease(HOUR),
            #[cfg(feature = "redis")]
            "coherence" => $by.coherence(larder::Coherence::Strict),
            "namespace" => $by.namespace("shop"),
            "require" => $by.require(TierKind::Memory),
            "tier_options" => $by.tier_options(TierKind::Disk, larder::TierOptions::new().ttl(HOUR)),
            "ttl" => $by.ttl(HOUR),
            "idle" => $by.idle(HOUR),
            "jitter" => $by.jitter(0.5),
            "stale" => $by.stale(HOUR),
            "refresh_ahead" => $by.refresh_ahead(0.5),
            "soft_timeout" => $by.soft_timeout(HOUR),
            "hard_timeout" => $by.hard_timeout(HOUR),
            #[cfg(feature = "observe")]
            "observe" => $by.observe(true),
            #[cfg(feature = "observe")]
            "observe_control" => $by.observe_control(true),
            other => panic!("this test says nothing of {other}"),
        }
    };
}

/// The options of this build.
fn known() -> impl Iterator<Item = &'static str> {
    let of_server = ["redis", "lease", "coherence"];
    let names = options().iter().map(|row| row.name);
    let names = names.filter(move |name| cfg!(feature = "redis") || !of_server.contains(name));
    names.filter(|name| cfg!(feature = "observe") || !name.starts_with("observe"))
}

/// The source line of an option, without secrets.
fn told_of(option: &str, builder: &Builder) -> String {
    let told = builder.explain_config().unwrap();
    let told = told.iter().find(|told| told.option == option).unwrap().to_string();
    assert!(!told.contains("secret") && !format!("{builder:?}").contains("secret"), "{builder:?}");
    told
}

/// Every option has a builder method of its own name.
#[test]
fn every_option_can_be_set_in_code() {
    for option in known() {
        let builder: Builder = ucache("said in code");
        let builder = match option {
            "url" => builder.url("memory: redis://me:secret@host"),
            _ => said!(option, builder),
        };
        let told = told_of(option, &builder);
        assert!(told.ends_with("(code)"), "{told}");
    }
}

/// Every option has a context method of its own name, which applies to caches of inner contexts. A
/// context owns its directory, so it takes no URL, which would name another one.
#[test]
fn every_option_can_be_set_on_a_context() {
    for option in known().filter(|option| *option != "url") {
        let outer = said!(option, larder::CacheContext::new("outer"));
        assert!(!format!("{outer:?}").contains("secret"), "{outer:?}");
        let inner = outer.inner("inner");
        let told = told_of(option, &inner.ucache("said of a context"));
        let by = if option == "dir" { "(the context inner)" } else { "(the context outer)" };
        assert!(told.ends_with(by), "{told}");
        let nearer = told_of(option, &said!(option, inner.ucache("said in code")));
        assert!(nearer.ends_with("(code)"), "{nearer}");
    }
}

#[test]
fn error_for_a_wrong_value_names_the_context() {
    let context = || larder::CacheContext::new("nightly").temporary();
    let check = |option: &str, context: larder::CacheContext| {
        let allowed = options().iter().find(|row| row.name == option).unwrap().allowed;
        let inner = context.inner("inner");
        for error in [inner.ucache::<u8, u8>("x").build(), inner.mcache("x").build()] {
            let error = error.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            let message = error.to_string();
            let begins = format!("option `{option}`: given `");
            let ends = format!("by the context nightly, allowed {allowed}");
            assert!(message.starts_with(&begins) && message.ends_with(&ends), "{message}");
            assert!(!message.contains("secret"), "{message}");
        }
    };
    let descending = Thresholds { small: 2, medium: 1, large: 3 };
    check("memory_bytes", context().memory_bytes(1));
    check("disk_bytes", context().disk_bytes(1));
    check("compress", context().compress(Compress::zstd(99)));
    check("thresholds", context().thresholds(descending));
    check("ttl", context().ttl(Duration::ZERO));
    check("idle", context().idle(Duration::ZERO));
    check("jitter", context().jitter(f64::NAN));
    check("refresh_ahead", context().refresh_ahead(1.1));
    check("soft_timeout", context().soft_timeout(Duration::ZERO));
    check("hard_timeout", context().hard_timeout(Duration::from_micros(1)));
    #[cfg(feature = "redis")]
    {
        check("lease", context().lease(Duration::from_millis(49)));
        check("redis", context().redis("http://me:secret@host"));
        check("redis", context().redis("redis//me:secret@host"));
    }
}

/// Values that the types do not rule out.
#[test]
fn error_for_a_wrong_value_in_code_names_the_option() {
    let dir = tempfile::tempdir().unwrap();
    let check = |option: &str, builder: Builder| {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        let message = error.to_string();
        assert!(message.contains(&format!("option `{option}`: given ")), "{message}");
        assert!(message.contains("allowed") && !message.contains("secret"), "{message}");
    };
    let builder = || ucache("wrong in code").dir(dir.path());
    let descending = Thresholds { small: 2, medium: 1, large: 3 };
    check("memory_bytes", builder().memory_bytes(1));
    check("disk_bytes", builder().disk_bytes(1));
    check("compress", builder().compress(Compress::zstd(99)));
    check("thresholds", builder().thresholds(descending));
    check("ttl", builder().ttl(Duration::ZERO));
    check("idle", builder().idle(Duration::ZERO));
    check("jitter", builder().jitter(f64::NAN));
    check("refresh_ahead", builder().refresh_ahead(1.1));
    check("soft_timeout", builder().soft_timeout(Duration::ZERO));
    check("hard_timeout", builder().hard_timeout(Duration::from_micros(1)));
    check("require", builder().memory_bytes(0).require(TierKind::Memory));
    #[cfg(feature = "redis")]
    {
        check("lease", builder().lease(Duration::from_millis(49)));
        check("redis", builder().redis("http://me:secret@host"));
        check("redis", larder::fcache("wrong in code").dir(dir.path()).redis("redis://host"));
    }
}

/// Options of time, given by a URL, tested by their effect.
#[test]
fn time_options_of_a_url_take_effect() {
    let clock = larder_testkit::ManualClock::default();
    let cache = ucache::<u8, String>("times").url("memory:?ttl=1h&stale=30m").clock(clock.clone());
    let cache = cache.build().unwrap();
    assert_eq!(cache.try_insert(1, "x".to_owned()).unwrap().home, TierKind::Memory);
    assert_eq!(cache.dir(), None, "memory needs no directory");
    clock.advance(HOUR);
    assert_eq!(cache.get(&1), None);
    assert!(cache.inspect(&1).unwrap().is_some_and(|entry| entry.stale));
    clock.advance(HOUR / 2);
    assert_eq!(cache.inspect(&1).unwrap(), None);
}

#[test]
fn null_url_stores_nothing() {
    let cache = ucache::<u8, String>("nowhere").url("null:").build().unwrap();
    assert_eq!(cache.try_insert(1, "x".to_owned()).unwrap().home, TierKind::Null);
    assert_eq!(cache.get_with(1, || "loaded".to_owned()), "loaded");
    assert_eq!((cache.get(&1), cache.len(), cache.dir()), (None, 0, None));
    cache.close().unwrap();
}

#[cfg(feature = "redis")]
#[test]
fn redis_url_sets_server_and_options() {
    let Some(server) = larder_testkit::RedisServer::start_with(&["--requirepass", "secret"]) else { return };
    let address = server.url().replace("redis://", "redis://:secret@");
    let url = format!("{address}?compress=zstd:3&ttl=1h&require=redis&namespace=by+url");
    let builder = || ucache::<u8, String>("carts").url(&url);
    let told: Vec<_> = builder().explain_config().unwrap().iter().map(ToString::to_string).collect();
    assert!(told.contains(&format!("redis = redis://***@127.0.0.1:{} (the URL)", server.port())), "{told:?}");
    assert!(told.contains(&"ttl = 1h (the URL)".to_owned()), "{told:?}");
    let cache = builder().build().unwrap();
    let placement = cache.try_insert(1, "x".repeat(5000)).unwrap();
    assert_eq!((placement.home, cache.dir()), (TierKind::Redis, None));
    assert_eq!(cache.stats().tiers.len(), 1, "neither memory nor a disk was asked for");
    let ttl = cache.inspect(&1).unwrap().unwrap().left.unwrap();
    assert!(ttl <= HOUR && ttl > HOUR / 2);
    let stored = cache.explain(&1).unwrap();
    assert!(stored.stored_bytes.unwrap() < 1000, "{stored:?}");
    cache.destroy().unwrap();
}
