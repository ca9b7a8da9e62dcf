//! A Redis server for one test.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::not_run::not_run;

/// Time limit for a server to start or to stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// Time limit for several servers to find one another.
const PATIENCE_WITH_MANY: Duration = Duration::from_secs(20);

/// No snapshots, no append-only file, and only clients of this machine.
const FIXED: [&str; 8] = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no"];

/// Waits until several servers have found one another. `otherwise` gives the message of
/// the panic if they do not.
///
/// # Panics
/// If they do not within 20 seconds.
pub(crate) fn until_found(otherwise: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE_WITH_MANY;
    while !is_so() {
        assert!(Instant::now() < deadline, "{otherwise} within {PATIENCE_WITH_MANY:?}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// A `redis-server` on a free port of the loopback interface, with a temporary directory.
/// Dropping this value ends both.
#[derive(Debug)]
pub struct RedisServer {
    port: u16,
    options: Vec<String>,
    dir: TempDir,
    child: Option<Child>,
    /// Arguments that `redis-cli` needs to connect.
    introduction: Vec<String>,
}

impl RedisServer {
    /// Starts a server; `None`, with a line on standard error, if `redis-server` is not
    /// installed.
    ///
    /// # Panics
    /// If an installed server does not start.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// Starts a server with further options, such as `["--requirepass", "secret"]`.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_with(options: &[&str]) -> Option<Self> {
        if !is_installed() {
            return None;
        }
        let (port, mut arguments) = (free_port(), vec!["--port".to_owned()]);
        arguments.push(port.to_string());
        arguments.extend(FIXED.into_iter().chain(options.iter().copied()).map(str::to_owned));
        Some(Self::start_as(port, |_| arguments))
    }

    /// Starts a server that only speaks TLS, with a certificate of the authority in the
    /// file `ca`.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_tls(options: &[&str], ca: &str) -> Option<Self> {
        if !is_installed() {
            return None;
        }
        let (port, mut arguments) = (free_port(), vec!["--port".to_owned(), "0".to_owned()]);
        arguments.extend(["--tls-port".to_owned(), port.to_string()]);
        arguments.extend(FIXED.into_iter().chain(options.iter().copied()).map(str::to_owned));
        let server = Self::start_as(port, |_| arguments);
        Some(server.introduced_by(&["--tls", "--cacert", ca]))
    }

    /// Starts a server with the arguments that `arguments` returns for its directory.
    pub(crate) fn start_as(port: u16, arguments: impl FnOnce(&Path) -> Vec<String>) -> Self {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let arguments = arguments(dir.path());
        // A sentinel has its file first. What a test says of the directory counts.
        let says_dir = arguments.iter().any(|argument| argument == "--dir");
        let mut options = arguments;
        if !says_dir {
            options.extend(["--dir".to_owned(), dir.path().display().to_string()]);
        }
        let mut server = Self { port, options, dir, child: None, introduction: Vec::new() };
        server.restart();
        server
    }

    /// Adds arguments before every command of [`cli`](Self::cli), such as
    /// `["-a", "secret"]`.
    pub fn introduced_by(mut self, arguments: &[&str]) -> Self {
        self.introduction = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        self
    }

    /// Returns the URL of the server.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Returns the port of the server.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills the server at once, as `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("the server is ours to kill");
            child.wait().expect("a killed server ends");
        }
    }

    /// Restarts the server on its port, empty. Kills it first if it runs.
    ///
    /// # Panics
    /// If it does not answer within 10 seconds.
    pub fn restart(&mut self) {
        self.kill();
        // A replica stores the snapshot of its master there.
        let _there_is_none = fs::remove_file(self.dir.path().join("dump.rdb"));
        let child = Command::new("redis-server")
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

    /// Suspends the process, so that it is silent until [`resume`](Self::resume).
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Resumes the suspended process.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    /// Returns the output of `redis-cli` for a command. A server that changes its role
    /// drops its connections, so this retries for up to 10 seconds.
    ///
    /// # Panics
    /// If `redis-cli` is missing or fails.
    pub fn cli(&self, command: &[&str]) -> String {
        let (port, deadline) = (self.port.to_string(), Instant::now() + PATIENCE);
        loop {
            let mut cli = Command::new("redis-cli");
            let ran = cli.args(["-p", &port]).args(&self.introduction).args(command).output();
            let ran = ran.expect("redis-cli runs");
            if ran.status.success() {
                return String::from_utf8_lossy(&ran.stdout).trim().to_owned();
            }
            let error = String::from_utf8_lossy(&ran.stderr);
            let is_reset = error.contains("Connection reset") || error.contains("closed the connection");
            assert!(is_reset && Instant::now() < deadline, "redis-cli {command:?}: {error}");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Returns a number from `INFO`.
    ///
    /// # Panics
    /// If there is no such number.
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
        let answered = stream.set_read_timeout(Some(PATIENCE)).and_then(|()| {
            stream.write_all(b"PING\r\n")?;
            stream.read(&mut answer)
        });
        // A server that speaks TLS closes plain connections.
        answered.map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |_| true)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // A panic here would hide the one that ended the test.
            let _gone = child.kill().and_then(|()| child.wait());
        }
    }
}

/// Whether `redis-server` is installed; otherwise records the test as not run.
pub(crate) fn is_installed() -> bool {
    let found = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !found {
        not_run("redis-server is not installed");
    }
    found
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    listener.local_addr().expect("it has an address").port()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_directory_is_removed_with_the_server() {
        let Some(mut servers) = RedisServer::start().zip(RedisServer::start()) else { return };
        let dirs = [&servers.0, &servers.1].map(|server| server.cli(&["CONFIG", "GET", "dir"]));
        let dirs = dirs.map(|answer| answer.lines().last().map(std::path::PathBuf::from).unwrap());
        assert_ne!(dirs[0], dirs[1]);
        servers.0.cli(&["SET", "key", "value"]);
        servers.0.cli(&["SAVE"]);
        assert!(dirs[0].join("dump.rdb").exists());
        servers.0.restart();
        assert_eq!(servers.0.cli(&["DBSIZE"]), "0");
        drop(servers);
        assert!(dirs.iter().all(|dir| !dir.exists()));
    }
}
