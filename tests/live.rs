//! A look into a process that runs, over its Unix socket, by clients that keep to the protocol and by others.
#![allow(clippy::print_stdout, reason = "that is how a process answers")]
#![allow(clippy::disallowed_methods, reason = "another process keeps to the wall clock")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use larder::{EntryOptions, bcache, mcache, observation, ucache};
use serde_json::{Value, json};

/// The directory of a child process.
const DIR: &str = "LARDER_TEST_LIVE_DIR";
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection that keeps to the protocol.
struct Client {
    requests: UnixStream,
    answers: BufReader<UnixStream>,
    hello: Value,
}

impl Client {
    fn connect(path: &Path) -> Self {
        let requests = UnixStream::connect(path).unwrap();
        requests.set_read_timeout(Some(PATIENCE)).unwrap();
        let answers = BufReader::new(requests.try_clone().unwrap());
        let mut client = Self { requests, answers, hello: Value::Null };
        client.hello = client.read().unwrap();
        client
    }

    /// The next line; `None` if the server closed the connection.
    fn read(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.answers.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).unwrap()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.requests.write_all(bytes).unwrap();
    }

    fn ask(&mut self, request: &Value) -> Value {
        self.send(format!("{request}\n").as_bytes());
        self.read().expect("the server closed the connection")
    }

    #[track_caller]
    fn ok(&mut self, request: &Value) -> Value {
        let answer = self.ask(request);
        assert!(answer.get("ok").is_some(), "{request}: {answer}");
        answer["ok"].clone()
    }

    #[track_caller]
    fn refused(&mut self, request: &Value, kind: &str, part: &str) {
        let error = self.ask(request)["error"].clone();
        assert_eq!(error["kind"], kind, "{request}: {error}");
        assert!(error["message"].as_str().unwrap().contains(part), "{request}: {error}");
    }

    /// The cache of this name.
    fn cache(&mut self, name: &str) -> Value {
        let caches = self.ok(&json!({ "op": "caches" }))["caches"].clone();
        let caches = caches.as_array().unwrap();
        caches.iter().find(|cache| cache["name"] == name).unwrap_or_else(|| panic!("{caches:?}")).clone()
    }
}

/// A process with observed caches, ended when dropped.
struct Observed {
    process: Child,
    dir: PathBuf,
}

impl Drop for Observed {
    fn drop(&mut self) {
        let _is_gone = self.process.kill();
        let _is_reaped = self.process.wait();
    }
}

impl Observed {
    fn start(dir: &Path, variables: &[(&str, &str)]) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "live::the_child", "--nocapture", "--include-ignored"])
            .env(DIR, dir)
            .env("XDG_RUNTIME_DIR", dir)
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().ends_with("> open")), "the process is gone");
        Self { process, dir: dir.to_owned() }
    }

    fn socket(&self) -> PathBuf {
        self.dir.join(format!("pages/observe-{}.sock", self.process.id()))
    }

    fn connect(&self) -> Client {
        Client::connect(&self.socket())
    }
}

/// The child process: it serves hits until its standard input is closed.
#[test]
#[ignore = "a child process of the tests below"]
fn the_child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let pages = bcache::<String, String>("pages").dir(dir).build().unwrap();
    let numbers = mcache::<u64, u64>("numbers").capacity(1000).build().unwrap();
    pages.insert_with("index".to_owned(), "text".to_owned(), EntryOptions::new().tag("red"));
    std::thread::spawn(move || {
        for n in 0_u64.. {
            pages.get("index");
            pages.get_with(format!("page {}", n % 7), || "page".to_owned());
            numbers.get_with(n % 100, || n);
            std::thread::sleep(Duration::from_micros(100));
        }
    });
    println!("> open");
    let _end = std::io::stdin().read(&mut [0]);
}

const ON: [(&str, &str); 2] = [("LARDER_OBSERVE", "true"), ("LARDER_PAGES__OBSERVE_CONTROL", "true")];

#[test]
fn another_process_sees_statistics_hot_keys_events_and_explanations() {
    let dir = tempfile::tempdir().unwrap();
    let observed = Observed::start(dir.path(), &ON);
    let mode = std::fs::metadata(observed.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut client = observed.connect();
    assert_eq!((&client.hello["larder"], &client.hello["pid"]), (&json!(1), &json!(observed.process.id())));

    let (before, numbers) = (client.cache("pages"), client.cache("numbers"));
    assert_eq!((&before["kind"], &numbers["kind"]), (&json!("bcache"), &json!("mcache")));
    let id = &before["id"];
    client.ok(&json!({ "op": "events", "cache": id }));
    std::thread::sleep(Duration::from_millis(300));
    let after = client.cache("pages");
    assert!(after["hits"].as_u64() > before["hits"].as_u64(), "{before} {after}");
    assert_eq!(after["tiers"][1]["tier"], "disk");
    assert_eq!(after["tiers"][1]["bytes_max"], 1 << 30);

    let hot = client.ok(&json!({ "op": "hot", "cache": id, "limit": 3 }));
    assert_eq!(hot["keys"][0]["key"]["text"], "index");
    assert!(hot["keys"][0]["share"].as_f64().unwrap() > 0.4, "{hot}");
    let dear = client.ok(&json!({ "op": "hot", "cache": numbers["id"], "by": "load_time" }));
    assert!(dear["keys"][0]["weight"].as_u64().unwrap() > 0, "{dear}");

    let explained = client.ok(&json!({ "op": "explain", "cache": id, "key": "index" }));
    assert_eq!(explained["tiers"], json!(["memory", "disk"]), "{explained}");
    let by_hex = json!({ "op": "explain", "cache": id, "key_hex": hot["keys"][0]["key"]["hex"] });
    assert_eq!(client.ok(&by_hex), explained);
    let number = json!({ "op": "explain", "cache": numbers["id"], "key": "7" });
    assert_eq!(client.ok(&number)["home"], "memory");

    let invalidation = json!({ "op": "invalidate", "cache": id, "key": "page 3" });
    assert_eq!(client.ok(&invalidation), json!({ "invalidated": { "key": "page 3" } }));
    let events = client.ok(&json!({ "op": "events", "cache": id, "limit": 100 }));
    let of_key = |event: &&Value| event["key"]["text"] == "page 3";
    let names: Vec<_> = events["events"].as_array().unwrap().iter().filter(of_key).collect();
    assert!(names.iter().any(|event| event["event"] == "invalidated"), "{events}");

    let other = json!({ "op": "clear", "cache": numbers["id"] });
    client.refused(&other, "unsupported", "observe_control");
}

#[test]
fn without_the_option_there_is_no_socket() {
    let dir = tempfile::tempdir().unwrap();
    let observed = Observed::start(dir.path(), &[]);
    assert!(!observed.socket().exists() && !dir.path().join("larder").exists());
}

#[test]
fn client_that_sends_garbage_gets_errors_and_harms_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let observed = Observed::start(dir.path(), &ON);
    let (mut bad, mut good) = (observed.connect(), observed.connect());
    for (garbage, part) in [
        (&b"\xff\xfe\0\n"[..], "not UTF-8"),
        (b"{\n", "not JSON"),
        (b"[[[[\n", "not JSON"),
        (b"7\n", "`op`"),
        (b"{\"op\":7}\n", "allowed text"),
        (b"{\"op\":\"\x1b[2J\"}\n", "not JSON"),
        (b"{\"op\":\"reboot\"}\n", "\"reboot\""),
        (b"{\"op\":\"explain\",\"cache\":1e99}\n", "whole number"),
        (b"{\"op\":\"hot\",\"cache\":77}\n", "observed and open"),
        (b"{\"op\":\"hot\",\"cache\":1,\"by\":\"luck\"}\n", "load_time"),
        (b"{\"op\":\"explain\",\"cache\":1}\n", "`key`"),
        (b"{\"op\":\"explain\",\"cache\":1,\"key_hex\":\"c1\"}\n", "`key`"),
    ] {
        bad.send(garbage);
        let error = bad.read().unwrap()["error"]["message"].clone();
        assert!(error.as_str().unwrap().contains(part), "{part}: {error}");
    }
    let deep = format!("{}\n", "[".repeat(60_000));
    bad.send(deep.as_bytes());
    assert!(bad.read().unwrap()["error"].is_object());
    // A line without an end.
    let mut endless = &bad.requests;
    while endless.write(&[b'x'; 4096]).is_ok() {}
    assert_eq!(bad.read().unwrap()["error"]["kind"], "toolarge");
    assert_eq!(bad.read(), None);
    // The process may not have read yet.
    let given_up = Instant::now() + Duration::from_secs(30);
    while good.cache("pages")["hits"].as_u64() == Some(0) {
        assert!(Instant::now() < given_up, "no reads");
        std::thread::park_timeout(Duration::from_millis(10));
    }
    assert_eq!(good.ask(&json!({ "op": "hello", "id": 9 }))["id"], 9);
}

#[test]
fn client_that_never_reads_is_cut_off_and_others_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let observed = Observed::start(dir.path(), &ON);
    let mut good = observed.connect();
    let deaf = UnixStream::connect(observed.socket()).unwrap();
    let started = Instant::now();
    while (&deaf).write_all(b"{\"op\":\"caches\"}\n").is_ok() {
        assert!(started.elapsed() < PATIENCE, "the server still waits");
    }
    assert!(started.elapsed() > Duration::from_secs(4), "{:?}", started.elapsed());
    assert!(good.cache("pages")["hits"].as_u64() > Some(0));
}

#[test]
fn client_that_goes_away_leaves_its_place_to_another() {
    let dir = tempfile::tempdir().unwrap();
    let observed = Observed::start(dir.path(), &ON);
    for _ in 0..50 {
        let gone = observed.connect();
        // A client that came before the threads of eight others had noticed their end is refused, and closed.
        if gone.hello["larder"] == 1 {
            (&gone.requests).write_all(b"{\"op\":\"caches\"}\n{\"op\":\"ca").unwrap();
        }
    }
    let started = Instant::now();
    // Their threads notice it after their answers.
    let mut clients = Vec::new();
    while clients.len() < 8 {
        assert!(started.elapsed() < PATIENCE);
        let client = observed.connect();
        if client.hello["larder"] == 1 {
            clients.push(client)
        } else {
            std::thread::sleep(Duration::from_millis(20))
        }
    }
    let mut ninth = observed.connect();
    assert_eq!(ninth.hello["error"]["kind"], "busy");
    assert_eq!(ninth.read(), None);
    assert!(clients.iter_mut().all(|client| client.ask(&json!({ "op": "hello" }))["ok"].is_object()));
}

fn observing_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.trim() == "larder-observe").count()
}

#[cfg(target_os = "linux")]
#[test]
fn no_thread_and_no_socket_is_left_after_the_last_handle() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for _ in 0..3 {
        let pages = bcache::<u64, u64>("pages").dir(dir.path()).observe(true).build().unwrap();
        let numbers = mcache::<u64, u64>("numbers").observe(true).build().unwrap();
        let [of_pages, of_numbers] = &observation::sockets()[..] else { panic!("two sockets") };
        let (mut one, mut other) = (Client::connect(of_pages), Client::connect(of_numbers));
        assert_eq!(one.cache("numbers"), other.cache("numbers"));
        drop(pages);
        let started = Instant::now();
        while of_pages.exists() {
            assert!(started.elapsed() < PATIENCE);
        }
        assert!(other.ok(&json!({ "op": "caches" }))["caches"].as_array().unwrap().len() == 1);
        // On an executor, which must not wait for a thread.
        let took = runtime.block_on(async {
            let started = Instant::now();
            drop(numbers);
            started.elapsed()
        });
        assert!(took < Duration::from_secs(1), "{took:?}");
        assert_eq!((one.read(), other.read()), (None, None));
        while observing_threads() > 0 {
            assert!(started.elapsed() < PATIENCE, "{} threads", observing_threads());
        }
        assert!(!of_numbers.exists() && observation::sockets().is_empty());
    }
}

#[test]
fn process_is_observed_with_caches_from_before() {
    let former = mcache::<u64, u64>("former").build().unwrap();
    former.insert(1, 1);
    larder::observe().unwrap();
    let later = mcache::<(u8, u8), u64>("later").observe_control(true).build().unwrap();
    later.insert((1, 2), 3);
    let mut client = Client::connect(&observation::sockets()[0]);
    let id = client.cache("former")["id"].clone();
    client.refused(&json!({ "op": "hot", "cache": id }), "unsupported", "before");
    assert_eq!(client.ok(&json!({ "op": "explain", "cache": id, "key": "1" }))["home"], "memory");
    let id = client.cache("later")["id"].clone();
    assert_eq!(later.get(&(1, 2)), Some(3));
    let hot = client.ok(&json!({ "op": "hot", "cache": id }));
    let text = hot["keys"][0]["key"]["text"].as_str().unwrap();
    assert!(text.starts_with('#'), "{hot}");
    client.refused(&json!({ "op": "explain", "cache": id, "key": text }), "config", "observe_keys");
    client.ok(&json!({ "op": "clear", "cache": id }));
    assert!(later.is_empty());
}

#[test]
fn keys_are_printed_and_found_as_the_user_wants() {
    let seats = mcache::<(u16, char), u8>("seats")
        .observe(true)
        .observe_control(true)
        .observe_keys(|(row, seat)| format!("{row}{seat}"))
        .build()
        .unwrap();
    seats.insert((12, 'C'), 1);
    assert_eq!(seats.get(&(12, 'C')), Some(1));
    let mut client = Client::connect(&observation::sockets()[0]);
    let id = client.cache("seats")["id"].clone();
    let hot = client.ok(&json!({ "op": "hot", "cache": id }));
    assert_eq!(hot["keys"][0]["key"], json!({ "text": "12C" }));
    client.ok(&json!({ "op": "invalidate", "cache": id, "key": "12C" }));
    assert_eq!(seats.get(&(12, 'C')), None);
    client.refused(&json!({ "op": "invalidate", "cache": id, "key": "12C" }), "config", "in memory");
}

/// The key of a request is decoded, so the engine cannot clone it: memory must be changed all the same.
#[test]
fn entry_within_its_stale_window_is_invalidated_in_memory_and_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let hour = Duration::from_secs(3600);
    let pages = ucache::<String, u64>("pages").dir(dir.path()).ttl(hour).stale(hour).observe(true);
    let pages = pages.observe_control(true).build().unwrap();
    pages.insert("a".to_owned(), 1);
    pages.insert_with("b".to_owned(), 1, EntryOptions::new().tag("red"));
    let mut client = Client::connect(&observation::sockets()[0]);
    let id = client.cache("pages")["id"].clone();
    client.ok(&json!({ "op": "invalidate", "cache": id, "key": "a" }));
    assert_eq!((pages.get("a"), pages.get("b")), (None, Some(1)));
    assert_eq!(pages.inspect("a").unwrap().map(|entry| entry.stale), Some(true));
    client.ok(&json!({ "op": "invalidate", "cache": id, "tag": "red" }));
    assert_eq!(pages.get("b"), None);
    pages.insert("c".to_owned(), 1);
    client.ok(&json!({ "op": "invalidate", "cache": id, "all": true }));
    assert_eq!(pages.get("c"), None);
}

#[test]
fn socket_of_an_ended_process_is_swept() {
    let dir = tempfile::tempdir().unwrap();
    let observed = Observed::start(dir.path(), &ON);
    let left_behind = observed.socket();
    drop(observed);
    assert!(left_behind.exists(), "it was killed");
    let observed = Observed::start(dir.path(), &ON);
    assert!(!left_behind.exists() && observed.socket().exists());
}

/// The hashes in a trace that the cache has closed.
fn recorded(path: &Path) -> Vec<u64> {
    let bytes = std::fs::read(path).unwrap();
    bytes[16..].chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect()
}

#[test]
fn each_look_up_is_recorded_once_by_a_hash_of_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.trace");
    let memory = || mcache::<String, u64>("traced").record_trace(&path).build().unwrap();
    let tiered = || bcache::<String, u64>("traced").dir(dir.path()).record_trace(&path).build().unwrap();
    for build in [&memory as &dyn Fn() -> larder::Cache<String, u64>, &tiered] {
        let cache = build();
        let key = || "key".to_owned();
        assert_eq!(cache.get("key"), None);
        cache.insert(key(), 1);
        assert_eq!((cache.get("key"), cache.get(&key()), cache.get_with(key(), || 2)), (Some(1), Some(1), 1));
        assert_eq!(cache.load(key(), |_| Ok::<_, ()>(3)).unwrap(), 1);
        assert_eq!(cache.get_with("other".to_owned(), || 4), 4);
        assert_eq!(cache.get_many(&[key(), "third".to_owned()]), [Some(1), None]);
        assert!(cache.contains_key("other") && cache.remove("other"));
        let threads = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(threads.block_on(cache.to_async().get("key")), Some(1));
        cache.close().unwrap();
        drop(cache);
        let hashes = recorded(&path);
        let key = hashes[0];
        let is_key: Vec<bool> = hashes.iter().map(|hash| *hash == key).collect();
        assert_eq!(is_key, [true, true, true, true, true, false, true, false, true]);
        assert_ne!(hashes[5], hashes[7]);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let text = mcache::<u8, u8>("untraceable").record_trace(dir.path()).build().unwrap_err();
    assert_eq!(text.kind(), larder::ErrorKind::Config);
}
