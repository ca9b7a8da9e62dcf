//! A Redis server of the test's own.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// A `redis-server` on a free port of the loopback interface, that keeps
/// nothing on disk and ends with this value.
#[derive(Debug)]
pub struct RedisServer {
    port: u16,
    options: Vec<String>,
    child: Option<Child>,
}

impl RedisServer {
    /// Starts a server; `None`, with a line on standard error, where
    /// `redis-server` is not installed.
    ///
    /// # Panics
    /// When a server that is installed does not start.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// The same with further options, such as `["--requirepass", "secret"]`.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_with(options: &[&str]) -> Option<Self> {
        if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_err() {
            say("not run: redis-server is not installed");
            return None;
        }
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut server = Self { port: free_port(), options, child: None };
        server.restart();
        Some(server)
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends the server at once, as `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("the server is ours to kill");
            child.wait().expect("a killed server ends");
        }
    }

    /// Starts it on the port it had, empty, after ending it where it runs.
    ///
    /// # Panics
    /// When it does not answer within 10 seconds.
    pub fn restart(&mut self) {
        self.kill();
        let port = self.port.to_string();
        let fixed = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
        let child = Command::new("redis-server")
            .args(fixed)
            .args(["--dir", "/tmp", "--daemonize", "no"])
            .args(&self.options)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server starts");
        self.child = Some(child);
        let deadline = Instant::now() + PATIENCE;
        while !self.answers() {
            assert!(Instant::now() < deadline, "the server does not answer within {PATIENCE:?}");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Stops the process without ending it: it stays silent until
    /// [`resume`](Self::resume).
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    /// What `redis-cli` prints for a command.
    ///
    /// # Panics
    /// When `redis-cli` is missing or fails.
    pub fn cli(&self, command: &[&str]) -> String {
        let port = self.port.to_string();
        let ran =
            Command::new("redis-cli").args(["-p", &port]).args(command).output().expect("redis-cli runs");
        assert!(ran.status.success(), "redis-cli {command:?}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8_lossy(&ran.stdout).trim().to_owned()
    }

    /// A number out of `INFO`.
    ///
    /// # Panics
    /// When there is no such number.
    pub fn info(&self, name: &str) -> u64 {
        let info = self.cli(&["INFO", "everything"]);
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|line| line.trim().parse().ok()).unwrap_or_else(|| panic!("INFO has no number {name}"))
    }

    fn signal(&self, signal: &str) {
        let child = self.child.as_ref().expect("the server runs");
        let sent = Command::new("kill").args([signal, &child.id().to_string()]).status();
        assert!(sent.expect("kill runs").success(), "the server gets {signal}");
    }

    fn answers(&self) -> bool {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let Ok(mut stream) = TcpStream::connect_timeout(&address, PATIENCE) else { return false };
        let mut answer = [0; 1];
        stream.set_read_timeout(Some(PATIENCE)).is_ok()
            && stream.write_all(b"PING\r\n").is_ok()
            && stream.read_exact(&mut answer).is_ok()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // A panic here would hide the one that ends the test.
            let _gone = child.kill().and_then(|()| child.wait());
        }
    }
}

#[expect(clippy::print_stderr, reason = "who runs the tests is to know")]
fn say(what: &str) {
    eprintln!("{what}");
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    listener.local_addr().expect("it has an address").port()
}
