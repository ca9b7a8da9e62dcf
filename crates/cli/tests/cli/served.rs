//! `larder serve`: the page and what it reads, by HTTP and in a browser.

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::fixtures::{command, larder};
use crate::observed::{EVIL, PATIENCE, Traffic, traffic, until};

const TOKEN: &str = "a token of the test, long enough";

/// A running `larder serve`.
struct Server {
    process: Child,
    address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _is_gone = self.process.kill();
        let _is_reaped = self.process.wait();
    }
}

/// The status and the text of an answer, headers included.
struct Answer {
    status: u16,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        let body = self.text.split_once("\r\n\r\n").unwrap().1;
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

impl Server {
    fn start(dir: &Path, options: &[&str]) -> Self {
        let arguments =
            ["--dir", dir.to_str().unwrap(), "serve", "--listen", "127.0.0.1:0", "--interval", "200ms"];
        let mut process =
            command(&[&arguments[..], options].concat()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").and_then(|line| line.strip_suffix('/'));
        Self { address: address.unwrap_or_else(|| panic!("{line:?}")).to_owned(), process }
    }

    fn with_token(traffic: &Traffic) -> Self {
        let file = traffic.dir().join("token");
        fs::write(&file, format!("{TOKEN}\n")).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        Self::start(traffic.dir(), &["--token-file", file.to_str().unwrap()])
    }

    fn connect(&self, head: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "{head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
            .unwrap();
        stream
    }

    fn request(&self, head: &str, body: &str) -> Answer {
        let mut bytes = Vec::new();
        self.connect(head, body).read_to_end(&mut bytes).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let status = text.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, text }
    }

    fn get(&self, path: &str) -> Answer {
        self.request(&format!("GET {path} HTTP/1.1\r\nHost: localhost"), "")
    }

    fn ask(&self, request: &Value, token: Option<&str>) -> Answer {
        let token = token.map_or_else(String::new, |token| format!("\r\nAuthorization: Bearer {token}"));
        let head =
            format!("POST /api/ask HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json{token}");
        self.request(&head, &json!({ "pid": std::process::id(), "request": request }).to_string())
    }

    /// The cache of this name.
    fn cache(&self, name: &str) -> Value {
        let look = self.get("/api/caches").json();
        let caches = look["processes"][0]["caches"].as_array().unwrap();
        caches.iter().find(|cache| cache["name"] == name).unwrap().clone()
    }
}

#[test]
fn page_is_whole_and_its_numbers_are_those_of_the_cache() {
    let traffic = traffic();
    let server = Server::start(traffic.dir(), &[]);
    for (path, part) in
        [("/", "<title>Larder</title>"), ("/page.js", "EventSource"), ("/page.css", "prefers-color-scheme")]
    {
        let answer = server.get(path);
        assert_eq!(answer.status, 200, "{path}");
        assert!(
            answer.text.contains(part) && answer.text.contains("content-security-policy: default-src 'none'")
        );
        assert!(!answer.text.contains("http://") || answer.text.contains("w3.org"), "another host: {path}");
    }
    let before = traffic.pages.stats().hits();
    let cache = server.cache("pages");
    let after = traffic.pages.stats().hits();
    let hits = cache["hits"].as_u64().unwrap();
    assert!((before..=after).contains(&hits), "{before} {hits} {after}");
    assert_eq!(cache["tiers"][1]["entries"], traffic.pages.stats().tiers[1].usage.entries);
    assert_eq!(server.get("/other").status, 404);
}

#[test]
fn stream_has_a_look_an_interval_with_the_keys_of_the_cache() {
    let traffic = traffic();
    let server = Server::start(traffic.dir(), &[]);
    let id = server.cache("pages")["id"].clone();
    let path = format!("/api/stream?pid={}&cache={id}", std::process::id());
    let stream = server.connect(&format!("GET {path} HTTP/1.1\r\nHost: localhost"), "");
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let mut look = || -> Value {
        let line = lines.find(|line| line.starts_with("data: ")).unwrap();
        serde_json::from_str(&line["data: ".len()..]).unwrap()
    };
    let hits = |look: &Value| {
        let caches = look["processes"][0]["caches"].as_array().unwrap().clone();
        caches.iter().find(|cache| cache["name"] == "pages").unwrap()["hits"].as_u64().unwrap()
    };
    let first = look();
    let later = until("the numbers move", || Some(look()).filter(|later| hits(later) > hits(&first)));
    assert_eq!(later["watched"]["hot"]["ok"]["keys"][0]["key"]["text"], "index");
    assert_eq!(server.get("/api/stream?pid=x").status, 400);
}

#[test]
fn foreign_host_and_foreign_form_are_refused() {
    let traffic = traffic();
    let server = Server::with_token(&traffic);
    for host in ["evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example"] {
        let answer = server.request(&format!("GET /api/caches HTTP/1.1\r\nHost: {host}"), "");
        assert_eq!((answer.status, answer.text.contains("pages")), (421, false), "{host}");
    }
    // What a form of another page can send without asking first.
    let head = format!(
        "POST /api/ask HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nAuthorization: Bearer {TOKEN}"
    );
    let body = json!({ "pid": std::process::id(), "request": { "op": "clear", "cache": server.cache("pages")["id"] } });
    assert_eq!(server.request(&head, &body.to_string()).status, 400);
    assert!(traffic.pages.get("index").is_some());
    let named = Server::start(traffic.dir(), &["--host", "admin.example"]);
    assert_eq!(named.request("GET / HTTP/1.1\r\nHost: Admin.example:1", "").status, 200);
}

#[test]
fn change_needs_a_token_and_the_option_of_the_cache() {
    let traffic = traffic();
    let server = Server::with_token(&traffic);
    let (pages, numbers) = (server.cache("pages")["id"].clone(), server.cache("numbers")["id"].clone());
    let explained = server.ask(&json!({ "op": "explain", "cache": pages, "key": "index" }), None);
    assert_eq!(explained.json()["ok"]["home"], "disk", "{}", explained.text);
    let invalidate = json!({ "op": "invalidate", "cache": pages, "key": "index" });
    for token in [None, Some("wrong"), Some("")] {
        assert_eq!(server.ask(&invalidate, token).status, 401, "{token:?}");
    }
    assert!(traffic.pages.get("index").is_some());
    assert_eq!(server.ask(&json!({ "op": "clear", "cache": numbers }), Some(TOKEN)).status, 403);
    assert_eq!(server.ask(&invalidate, Some(TOKEN)).status, 200);
    assert!(traffic.pages.get("index").is_none());
    assert_eq!(server.ask(&json!({ "op": "invalidate", "cache": 99, "all": true }), Some(TOKEN)).status, 400);

    let reading = Server::start(traffic.dir(), &[]);
    assert_eq!(reading.ask(&json!({ "op": "clear", "cache": pages }), Some(TOKEN)).status, 403);
}

#[test]
fn token_that_others_can_read_or_guess_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let serve =
        || larder(dir.path(), &["serve", "--listen", "127.0.0.1:0", "--token-file", file.to_str().unwrap()]);
    serve().exits(2).complains(&["--token-file", "readable"]);
    fs::write(&file, TOKEN).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    serve().exits(2).complains(&["--token-file", "0600"]);
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    fs::write(&file, "short").unwrap();
    serve().exits(2).complains(&["--token-file", "16 or more"]);
}

/// A browser without a window, by its debugging protocol over two pipes.
struct Browser {
    process: Child,
    commands: File,
    answers: BufReader<File>,
    session: Value,
    last: u64,
    _dir: tempfile::TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _is_gone = self.process.kill();
        let _is_reaped = self.process.wait();
    }
}

impl Browser {
    /// `None` if no Chromium is installed.
    fn open(url: &str) -> Option<Self> {
        let names = ["chromium", "chromium-browser", "google-chrome"];
        let runs =
            |name: &&&str| Command::new(name).arg("--version").output().is_ok_and(|ran| ran.status.success());
        let program = names.iter().find(runs)?;
        let dir = tempfile::tempdir().unwrap();
        let pipe = |name: &str| {
            let path = dir.path().join(name);
            assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
            path
        };
        let (into, from) = (pipe("in"), pipe("out"));
        // The browser reads from descriptor 3 and writes to 4.
        let script = "exec \"$0\" \"$@\" 3<\"$IN\" 4>\"$OUT\"";
        let process = Command::new("sh")
            .args([
                "-c",
                script,
                program,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--remote-debugging-pipe",
            ])
            .arg(format!("--user-data-dir={}", dir.path().join("profile").display()))
            .envs([("IN", &into), ("OUT", &from)])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let commands = File::options().write(true).open(into).unwrap();
        let answers = BufReader::new(File::open(from).unwrap());
        let mut browser = Self { process, commands, answers, session: Value::Null, last: 0, _dir: dir };
        let target = browser.call("Target.createTarget", json!({ "url": url }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        browser.session = browser.call("Target.attachToTarget", attach)["sessionId"].clone();
        Some(browser)
    }

    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let mut message = json!({ "id": self.last, "method": method, "params": parameters });
        if !self.session.is_null() {
            message["sessionId"] = self.session.clone();
        }
        write!(self.commands, "{message}\0").unwrap();
        loop {
            let mut bytes = Vec::new();
            self.answers.read_until(0, &mut bytes).unwrap();
            assert_eq!(bytes.pop(), Some(0), "the browser is gone");
            let answer: Value = serde_json::from_slice(&bytes).unwrap();
            if answer["id"] == self.last {
                return answer["result"].clone();
            }
        }
    }

    /// The value of an expression in the page.
    fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        self.call("Runtime.evaluate", parameters)["result"]["value"].clone()
    }
}

const HITS: &str = "document.querySelector('#tiers tbody tr')?.children[3].textContent.replaceAll(',', '')";

fn shown_hits(browser: &mut Browser) -> u64 {
    until("the hits in memory", || browser.value(HITS).as_str().and_then(|text| text.parse().ok()))
}

/// Named as not run where no Chromium is installed.
#[test]
fn page_in_a_browser_shows_numbers_that_move_and_refuses_to_invalidate() {
    let traffic = traffic();
    let server = Server::with_token(&traffic);
    let Some(mut browser) = Browser::open(&format!("http://{}/", server.address)) else {
        larder_testkit::not_run("no Chromium is installed");
        return;
    };
    let choose = "[...document.querySelectorAll('#caches tbody button')].find((b) => b.textContent === 'pages')?.click() === undefined";
    until("the cache", || {
        (browser.value("document.querySelectorAll('#caches tbody tr').length") == 2).then_some(())
    });
    browser.value(choose);
    until("its detail", || {
        let title = browser.value("document.getElementById('detail-title').textContent");
        title.as_str().is_some_and(|title| title.starts_with("pages, bcache")).then_some(())
    });
    let memory_hits = || traffic.pages.stats().tiers[0].counts.hits;
    let first = shown_hits(&mut browser);
    assert!(first <= memory_hits(), "{first}");
    let moved = until("the numbers move", || Some(shown_hits(&mut browser)).filter(|hits| *hits > first));
    assert!(moved <= memory_hits());
    let ratio = "[...document.querySelectorAll('#caches tbody tr')].find((r) => r.textContent.startsWith('pages')).querySelector('.ratio').textContent";
    assert_eq!(browser.value(ratio), "100.0 %");
    let keys = until("the keys", || {
        let keys =
            browser.value("[...document.querySelectorAll('#hot td.key')].map((cell) => cell.textContent)");
        Some(keys).filter(|keys| keys.as_array().is_some_and(|keys| keys.len() >= 2))
    });
    assert_eq!(keys, json!(["index", "\"evil\\u001b[2J\\u{202e}\""]));
    // The keyboard reaches the chosen cache, and every field has a label.
    assert_eq!(
        browser.value("[...document.querySelectorAll('input')].every((i) => i.labels.length === 1)"),
        true
    );

    let press = |browser: &mut Browser, token: &str| {
        browser.value(&format!("document.getElementById('token').value = {}", json!(token)));
        browser.value("document.getElementById('answer').textContent = ''");
        browser.value("document.querySelectorAll('#hot tbody tr')[1].lastChild.lastChild.click()");
        until("the answer", || {
            let said = browser.value("document.getElementById('answer').textContent");
            said.as_str().filter(|said| !said.is_empty()).map(str::to_owned)
        })
    };
    assert_eq!(press(&mut browser, ""), "Refused: a change needs the token");
    assert_eq!(traffic.pages.get(EVIL).as_deref(), Some("value"));
    assert!(press(&mut browser, TOKEN).starts_with("Done"));
    assert_eq!(traffic.pages.get(EVIL), None);
    if let Some(path) = std::env::var_os("LARDER_TEST_PICTURE") {
        let size = json!({ "width": 1100, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        browser.call("Emulation.setDeviceMetricsOverride", size);
        let picture = browser.call("Page.captureScreenshot", json!({ "format": "png" }));
        fs::write(path, picture["data"].as_str().unwrap()).unwrap();
    }
}
