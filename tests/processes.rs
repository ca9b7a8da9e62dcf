//! Several processes over one directory. Each child is this test binary, which runs the commands
//! that it reads from its standard input.
#![allow(clippy::print_stdout, reason = "that is how a process answers")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use larder::{Cache, ErrorKind, Sharing, TierKind};

/// Set in a child process: its directory, and the kind of cache.
const DIR: &str = "LARDER_TEST_PROCESS_DIR";
const HOW: &str = "LARDER_TEST_PROCESS_HOW";

/// A process with an open cache.
struct Peer {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// The line that the child printed after it opened its cache.
    greeting: String,
}

impl Peer {
    fn start(dir: &Path, how: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "processes::the_child", "--nocapture", "--include-ignored"])
            .env(DIR, dir)
            .env(HOW, how)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        let mut peer = Self { process, orders, answers, greeting: String::new() };
        peer.greeting = peer.answer();
        peer
    }

    fn order(&mut self, order: &str) {
        writeln!(self.orders, "{order}").unwrap();
        self.orders.flush().unwrap();
    }

    /// Returns the next line that starts with the prefix of answers.
    fn answer(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert!(self.answers.read_line(&mut line).unwrap() > 0, "the process is gone");
            // The test harness may have begun the line.
            if let Some((_, answer)) = line.trim_end().split_once("> ") {
                return answer.to_owned();
            }
        }
    }

    fn ask(&mut self, order: &str) -> String {
        self.order(order);
        self.answer()
    }

    /// Makes the child close its cache and exit.
    fn end(mut self) {
        assert_eq!(self.ask("end"), "closed");
        assert!(self.process.wait().unwrap().success());
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
#[ignore = "run by the tests of processes, as a process of its own"]
fn the_child() {
    let (Ok(dir), Ok(how)) = (std::env::var(DIR), std::env::var(HOW)) else { return };
    let cache = match open(Path::new(&dir), &how) {
        Ok(cache) => cache,
        Err(error) => return println!("\n> {:?}", error.kind()),
    };
    println!("\n> {}", cache.dir().unwrap().display());
    for order in std::io::stdin().lines() {
        let order = order.unwrap();
        let words: Vec<&str> = order.split(' ').collect();
        match words[..] {
            ["set", key, value] => println!("> {}", cache.try_insert(key.into(), value.into()).is_ok()),
            ["get", key] => println!("> {}", text(cache.get(key))),
            ["remove", key] => println!("> {}", cache.remove(key)),
            ["clear"] => println!("> {}", cache.clear().is_ok()),
            ["private"] => {
                let explained = cache.explain("absent").unwrap();
                let says = |text: String| text.contains("the directory is private");
                assert!(explained.is_private == says(explained.to_string()));
                let stats = says(cache.stats().to_string());
                println!(
                    "> {}; stats say it: {stats}; explain says it: {}",
                    cache.is_private(),
                    explained.is_private
                );
            }
            ["hits"] => println!("> {}", memory_hits(&cache)),
            ["stream", key] => stream(&cache, key),
            ["run", writer, rounds] => history::run(&cache, writer.parse().unwrap(), rounds.parse().unwrap()),
            _ => break,
        }
    }
    cache.close().unwrap();
    println!("> closed");
}

fn open(dir: &Path, how: &str) -> larder::Result<Cache<String, String>> {
    match how {
        "fcache" => larder::fcache("shared").dir(dir).sharing(Sharing::Processes).build(),
        "ucache" => larder::ucache("shared").dir(dir).sharing(Sharing::Processes).build(),
        "alone" => larder::bcache("shared").dir(dir).build(),
        other => panic!("no such way to open: {other}"),
    }
}

fn text(value: Option<String>) -> String {
    value.unwrap_or_else(|| "none".into())
}

fn memory_hits(cache: &Cache<String, String>) -> u64 {
    cache.stats().tier(TierKind::Memory).unwrap().counts.hits
}

/// Streams into the directory until the process is killed.
fn stream(cache: &Cache<String, String>, key: &str) {
    let films = larder::fcache::<String, larder::Bytes>("shared")
        .dir(cache.dir().unwrap().join("films"))
        .sharing(Sharing::Processes)
        .build()
        .unwrap();
    struct Tells(usize);
    impl std::io::Read for Tells {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            self.0 += into.len();
            if self.0 > 20 << 20 {
                println!("> streaming");
                std::thread::park();
            }
            Ok(into.len())
        }
    }
    let _ = films.insert_from(key.into(), Tells(0));
}

#[test]
fn four_processes_see_changes_of_each_other_at_once() {
    for how in ["fcache", "ucache"] {
        let dir = tempfile::tempdir().unwrap();
        let mut peers: Vec<Peer> = (0..4).map(|_| Peer::start(dir.path(), how)).collect();
        assert!(peers.iter().all(|peer| peer.greeting == peers[0].greeting), "one directory");
        let mut expected = vec!["none".to_owned(); 3];
        for round in 0..120_usize {
            let (who, key) = (round * 7 % 4, round * 5 % 3);
            match round % 11 {
                10 => {
                    assert_eq!(peers[who].ask("clear"), "true");
                    expected.fill("none".into());
                }
                3 | 7 => {
                    let was_there = expected[key] != "none";
                    assert_eq!(peers[who].ask(&format!("remove {key}")), was_there.to_string());
                    expected[key] = "none".into();
                }
                // New values have the same length as before, except sometimes.
                n => {
                    expected[key] = format!("{round:06}{}", "x".repeat(if n == 5 { 30_000 } else { 0 }));
                    assert_eq!(peers[who].ask(&format!("set {key} {}", expected[key])), "true");
                }
            }
            for peer in &mut peers {
                for (key, value) in expected.iter().enumerate() {
                    assert!(peer.ask(&format!("get {key}")) == *value, "round {round}, {how}");
                }
            }
        }
        for peer in &mut peers {
            assert_eq!(peer.ask("set 0 last"), "true");
            let hits: u64 = peer.ask("hits").parse().unwrap();
            (0..3).for_each(|_| assert_eq!(peer.ask("get 0"), "last"));
            assert_eq!(peer.ask("hits"), (hits + 2).to_string(), "memory answers while nothing changes");
        }
        peers.into_iter().for_each(Peer::end);
    }
}

#[test]
fn concurrent_reads_of_four_processes_are_explained() {
    let rounds = std::env::var("LARDER_TEST_ROUNDS").map_or(1_000, |rounds| rounds.parse().unwrap());
    for how in ["fcache", "ucache"] {
        let dir = tempfile::tempdir().unwrap();
        let mut peers: Vec<Peer> = (0..4).map(|_| Peer::start(dir.path(), how)).collect();
        for (writer, peer) in peers.iter_mut().enumerate() {
            peer.order(&format!("run {writer} {rounds}"));
        }
        let mut events = Vec::new();
        for (writer, peer) in peers.iter_mut().enumerate() {
            loop {
                match peer.answer().as_str() {
                    "done" => break,
                    line => events.push(history::Event::parse(writer, line)),
                }
            }
        }
        peers.into_iter().for_each(Peer::end);
        let (reads, hits) = history::check(&events);
        assert!(reads > rounds && hits > rounds / 2, "{reads} reads, {hits} with a value");
    }
}

/// The calls of four processes, and the check whether their reads can be explained.
mod history {
    use std::collections::HashMap;

    use larder::Cache;

    const KEYS: u64 = 5;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum What {
        Insert,
        Remove,
        Read,
        /// A loader ran, beginning at the time in `since`.
        Load,
    }

    /// One call with its begin and end, in nanoseconds of the clock that all processes of the
    /// machine share.
    #[derive(Clone, Debug)]
    pub(super) struct Event {
        writer: usize,
        what: What,
        key: u64,
        /// The value that was stored or found. Empty if there was none.
        value: String,
        began: u64,
        ended: u64,
        /// From this time on, another change of the entry wins over this one.
        since: u64,
    }

    impl Event {
        pub(super) fn parse(writer: usize, line: &str) -> Self {
            let words: Vec<&str> = line.split(' ').collect();
            let [what, key, value, began, ended, since] = words[..] else { panic!("no event: {line}") };
            let what = match what {
                "insert" => What::Insert,
                "remove" => What::Remove,
                "read" => What::Read,
                "load" => What::Load,
                other => panic!("no such event: {other}"),
            };
            let number = |word: &str| word.parse().unwrap();
            let value = if value == "none" { String::new() } else { value.to_owned() };
            Self {
                writer,
                what,
                key: number(key),
                value,
                began: number(began),
                ended: number(ended),
                since: number(since),
            }
        }
    }

    fn now() -> u64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
    }

    /// Runs `rounds` random calls, and prints them at the end.
    pub(super) fn run(cache: &Cache<String, String>, writer: u64, rounds: usize) {
        let mut state = (writer + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut told = Vec::new();
        for round in 0..rounds {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let key = state % KEYS;
            let name = format!("k{key}");
            let value = format!("k{key}/{writer}/{round}/{}", "x".repeat((state >> 20) as usize % 3 * 40));
            let began = now();
            let (what, value, since) = match state >> 32 & 15 {
                0..=3 => {
                    cache.try_insert(name, value.clone()).unwrap();
                    ("insert", value, 0)
                }
                4 => {
                    cache.remove(&*name);
                    ("remove", String::new(), 0)
                }
                5 | 6 => {
                    let mut since = 0;
                    let got = cache.get_with(name, || {
                        since = now();
                        value.clone()
                    });
                    (if since == 0 { "read" } else { "load" }, got, since)
                }
                _ => ("read", cache.get(&*name).unwrap_or_default(), 0),
            };
            let ended = now();
            let value = if value.is_empty() { "none".to_owned() } else { value };
            let since = if since == 0 { ended } else { since };
            told.push(format!("> {what} {key} {value} {began} {ended} {since}"));
        }
        println!("{}\n> done", told.join("\n"));
    }

    /// Panics at the first read that cannot be explained. Returns the number of reads, and the
    /// number of reads that found a value.
    pub(super) fn check(events: &[Event]) -> (usize, usize) {
        let (mut reads, mut hits) = (0, 0);
        for key in 0..KEYS {
            let mut of_key: Vec<&Event> = events.iter().filter(|event| event.key == key).collect();
            of_key.sort_by_key(|event| event.began);
            let writes: HashMap<&str, &Event> = of_key
                .iter()
                .filter(|event| matches!(event.what, What::Insert | What::Load))
                .map(|event| (event.value.as_str(), *event))
                .collect();
            let mut seen: Vec<(u64, &Event)> = Vec::new();
            for read in of_key.iter().filter(|event| event.what == What::Read) {
                reads += 1;
                match read.value.is_empty() {
                    true => explain_absence(read, &of_key),
                    false => {
                        hits += 1;
                        let write = writes.get(read.value.as_str());
                        let write = write.unwrap_or_else(|| panic!("nobody wrote it: {read:?}"));
                        explain_value(read, write, &of_key);
                        // A read must not return a value older than an earlier read returned.
                        let newer = seen
                            .iter()
                            .find(|(ended, known)| *ended < read.began && write.ended < known.began);
                        assert!(newer.is_none(), "{read:?} is older than {newer:?}");
                        seen.push((read.ended, write));
                    }
                }
            }
        }
        (reads, hits)
    }

    fn is_change(event: &Event) -> bool {
        matches!(event.what, What::Insert | What::Remove)
    }

    fn explain_value(read: &Event, write: &Event, of_key: &[&Event]) {
        assert!(write.began < read.ended, "{read:?} before it was written");
        let from = if write.what == What::Load { write.since } else { write.ended };
        let later =
            of_key.iter().find(|event| is_change(event) && event.began > from && event.ended < read.began);
        assert!(later.is_none(), "{read:?} of {write:?} after {later:?}");
    }

    fn explain_absence(read: &Event, of_key: &[&Event]) {
        let before = of_key.iter().filter(|event| event.what == What::Insert && event.ended < read.began);
        let last_began = before.map(|event| event.began).max();
        let mut removals =
            of_key.iter().filter(|event| event.what == What::Remove && event.began < read.ended);
        let explained = last_began.is_none_or(|began| removals.any(|event| event.ended >= began));
        assert!(explained, "nobody removed it: {read:?} by {}", read.writer);
    }
}

#[test]
fn upload_of_a_killed_process_is_removed_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let mut peer = Peer::start(dir.path(), "fcache");
    let films = PathBuf::from(&peer.greeting).join("films");
    assert_eq!(peer.ask("stream film"), "streaming");
    let open =
        || larder::fcache::<String, larder::Bytes>("shared").dir(&films).sharing(Sharing::Processes).build();
    let cache = open().unwrap();
    let drafts = || {
        let tmp = std::fs::read_dir(cache.dir().unwrap().join("files/tmp")).unwrap();
        let names = tmp.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".put")).count()
    };
    assert_eq!(drafts(), 1, "it lives: its draft is left alone");
    peer.kill();
    cache.close().unwrap();
    assert_eq!(drafts(), 1);
    let again = open().unwrap();
    assert_eq!(drafts(), 0);
    assert!(again.open("film").unwrap().is_none());
    again.close().unwrap();
}

#[test]
fn killed_process_leaves_the_others_consistent() {
    let dir = tempfile::tempdir().unwrap();
    let mut peers: Vec<Peer> = (0..2).map(|_| Peer::start(dir.path(), "fcache")).collect();
    for round in 0..10 {
        let mut victim = Peer::start(dir.path(), "fcache");
        victim.order("run 9 1000000");
        // The child is busy once its values are seen. How far it gets differs.
        let seen = (0..100_000).any(|_| peers[0].ask("get k1").starts_with("k1/9/"));
        assert!(seen, "it does nothing");
        (0..round * 7).for_each(|_| drop(peers[1].ask("get k2")));
        victim.kill();
        for key in ["k0", "k1", "k2", "k3", "k4"] {
            let value = format!("{key}-{round}");
            assert_eq!(peers[round % 2].ask(&format!("set {key} {value}")), "true");
            assert!(peers.iter_mut().all(|peer| peer.ask(&format!("get {key}")) == value), "{key}, {round}");
            assert_eq!(peers[1 - round % 2].ask(&format!("remove {key}")), "true");
            assert!(peers.iter_mut().all(|peer| peer.ask(&format!("get {key}")) == "none"), "{key}, {round}");
        }
    }
    peers.into_iter().for_each(Peer::end);
}

#[test]
fn second_process_gets_a_private_directory_until_it_closes() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), "alone").unwrap();
    cache.insert("mine".into(), "1".into());
    let mut peer = Peer::start(dir.path(), "alone");
    let private = PathBuf::from(&peer.greeting);
    assert!(private != cache.dir().unwrap() && private.parent() == cache.dir().unwrap().parent());
    assert!(!cache.is_private() && !cache.stats().is_private);
    assert_eq!(peer.ask("private"), "true; stats say it: true; explain says it: true");
    assert_eq!(peer.ask("get mine"), "none");
    assert_eq!(peer.ask("set theirs 2"), "true");
    assert_eq!(cache.get("theirs"), None);
    peer.end();
    assert!(!private.exists(), "deleted at its close");
    let killed = Peer::start(dir.path(), "alone");
    let left = PathBuf::from(&killed.greeting);
    let living = Peer::start(dir.path(), "alone");
    let lives = PathBuf::from(&living.greeting);
    killed.kill();
    assert!(left.exists(), "a killed process deletes nothing");
    let other = larder::bcache::<u8, u8>("other").dir(dir.path()).build().unwrap();
    assert!(!left.exists(), "swept by the next cache that opens here");
    assert!(lives.exists(), "the directory of a process that lives is left alone");
    other.close().unwrap();
    living.end();
    cache.close().unwrap();
}

#[test]
fn shared_and_unshared_caches_of_a_directory_are_separate() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), "alone").unwrap();
    assert_eq!(Peer::start(dir.path(), "fcache").greeting, "Busy");
    cache.close().unwrap();
    let shared = Peer::start(dir.path(), "fcache");
    let alone = open(dir.path(), "alone").unwrap();
    assert!(alone.dir().unwrap() != Path::new(&shared.greeting), "a private directory");
    alone.close().unwrap();
    shared.end();
}

#[test]
fn disk_cache_cannot_be_shared_by_processes() {
    let dir = tempfile::tempdir().unwrap();
    let built = larder::bcache::<u8, u8>("disk").dir(dir.path()).sharing(Sharing::Processes).build();
    let error = built.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("`sharing`") && error.to_string().contains("fcache"), "{error}");
}

#[test]
fn load_overtaken_by_another_process_is_not_stored() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), "fcache").unwrap();
    let mut peer = Peer::start(dir.path(), "fcache");
    let loaded = cache.get_with("key".into(), || {
        assert_eq!(peer.ask("set key theirs"), "true");
        "loaded".into()
    });
    assert_eq!(loaded, "loaded", "it was right when it was asked for");
    assert_eq!((cache.get("key"), peer.ask("get key")), (Some("theirs".into()), "theirs".into()));
    cache.remove("key");
    cache.get_with("key".into(), || {
        assert_eq!(peer.ask("set key theirs"), "true");
        assert_eq!(peer.ask("remove key"), "true");
        "loaded".into()
    });
    assert_eq!((cache.get("key"), peer.ask("get key")), (None, "none".into()));
    peer.end();
    cache.close().unwrap();
}

#[test]
fn tasks_see_changes_of_other_processes() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), "ucache").unwrap().to_async();
    let mut peer = Peer::start(dir.path(), "ucache");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        for round in 0..20 {
            assert_eq!(peer.ask(&format!("set key {round}")), "true");
            for _ in 0..2 {
                assert_eq!(cache.get("key").await, Some(round.to_string()));
            }
            assert!(cache.contains_key("key").await);
            assert_eq!(cache.inspect("key").await.unwrap().unwrap().home, TierKind::File);
        }
        assert_eq!(cache.take("key").await.unwrap(), Some("19".into()));
        assert_eq!(peer.ask("get key"), "none");
        assert!(!cache.contains_key("key").await && cache.keys().await.unwrap().is_empty());
        cache.close().await.unwrap();
    });
    peer.end();
}

/// The fault: a load after expiry was not stored. The cause: the read before the load took the
/// entry version that the store is conditioned on, and then removed the expired entry, which
/// changes the version.
#[test]
fn load_after_expiry_is_stored_in_shared_files() {
    use std::sync::atomic::{AtomicU64, Ordering};
    for memory_bytes in [0, 16 << 20] {
        let (dir, clock) = (tempfile::tempdir().unwrap(), larder_testkit::ManualClock::default());
        let cache = larder::fcache::<u64, u64>("shared")
            .dir(dir.path())
            .memory_bytes(memory_bytes)
            .sharing(Sharing::Processes)
            .ttl(Duration::from_secs(10))
            .clock(clock.clone())
            .build()
            .unwrap();
        let loads = AtomicU64::new(0);
        let load = || loads.fetch_add(1, Ordering::Relaxed);
        cache.insert_many([(1, 100), (2, 100)]);
        clock.advance(Duration::from_secs(11));
        for _ in 0..3 {
            assert_eq!(cache.get_with(1, load), 0, "{memory_bytes} bytes of memory");
        }
        let many = |missing: Vec<u64>| missing.into_iter().map(|key| (key, load())).collect::<Vec<_>>();
        for _ in 0..3 {
            assert_eq!(cache.get_many_with(vec![2, 3], many), [Some(1), Some(2)], "{memory_bytes} bytes");
        }
        cache.close().unwrap();
    }
}
