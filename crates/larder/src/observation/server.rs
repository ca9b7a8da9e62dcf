//! The threads that serve the sockets of an observed process.
//!
//! One thread waits for clients at every socket; each client has a thread of its own, which answers one request
//! after another. The last token ends them: it marks the server as stopped, closes the connections, and wakes the
//! thread that waits. It waits for none of them, so it can be dropped on an executor.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use larder_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, poll};

use super::answer;
use super::socket::{self, Socket};

/// The most clients at a time.
const CLIENTS_MAX: usize = 8;
/// The longest request, in bytes.
const REQUEST_MAX: usize = 64 << 10;
/// How long a client may take for a request.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);
/// How long a client may take to read an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

static SERVER: Mutex<Option<Arc<Server>>> = Mutex::new(None);

/// The server of this process, while there is an observed cache.
struct Server {
    state: Mutex<State>,
    /// Wakes the thread that waits for clients.
    waker: UnixStream,
    process: u32,
}

struct State {
    /// The number of caches that hold the server.
    tokens: usize,
    sockets: Vec<Arc<Socket>>,
    clients: Vec<(u64, UnixStream)>,
    next_client: u64,
    is_stopped: bool,
}

/// Keeps the server of the process alive, and a socket in the directory of a cache.
pub(super) struct Token {
    server: Arc<Server>,
    /// The socket of this cache alone. Caches without one share a socket, which ends with the server.
    socket: Option<PathBuf>,
}

/// The paths of the sockets.
pub(super) fn sockets() -> Vec<PathBuf> {
    let server = SERVER.lock().clone();
    let paths = |server: Arc<Server>| -> Vec<PathBuf> {
        server.state.lock().sockets.iter().map(|socket| socket.path().to_path_buf()).collect()
    };
    server.map(paths).unwrap_or_default()
}

impl Token {
    /// Opens a socket for a cache with this directory, and starts the server if it does not run.
    pub(super) fn take(dir: Option<&Path>) -> Result<Self> {
        let failed = |error: io::Error| Error::from(error).during("observe");
        let path = socket::place(dir).map_err(failed)?;
        let mut server = SERVER.lock();
        let running = match &*server {
            // A forked child has the value of its parent, and none of its threads.
            Some(running) if running.process == std::process::id() => Arc::clone(running),
            _ => Server::start().map_err(failed)?,
        };
        let mut state = running.state.lock();
        if state.sockets.iter().all(|socket| socket.path() != path) {
            match Socket::open(path.clone()) {
                Ok(socket) => state.sockets.push(Arc::new(socket)),
                Err(error) => {
                    let is_first = state.tokens == 0;
                    drop(state);
                    if is_first {
                        running.stop();
                    }
                    return Err(failed(error));
                }
            }
        }
        state.tokens += 1;
        drop(state);
        running.wake();
        *server = Some(Arc::clone(&running));
        let socket = Some(path).filter(|path| dir.is_some_and(|dir| path.starts_with(dir)));
        Ok(Self { server: running, socket })
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if self.server.process != std::process::id() {
            return;
        }
        let mut server = SERVER.lock();
        let mut state = self.server.state.lock();
        state.tokens -= 1;
        if let Some(path) = &self.socket {
            state.sockets.retain(|socket| socket.path() != path);
        }
        let is_last = state.tokens == 0;
        drop(state);
        if is_last {
            *server = None;
            self.server.stop();
        }
        drop(server);
        self.server.wake();
    }
}

impl Server {
    fn start() -> io::Result<Arc<Self>> {
        let (waker, woken) = UnixStream::pair()?;
        waker.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let (sockets, clients) = (Vec::new(), Vec::new());
        let state = State { tokens: 0, sockets, clients, next_client: 0, is_stopped: false };
        let server = Arc::new(Self { state: Mutex::new(state), waker, process: std::process::id() });
        let waiting = Arc::clone(&server);
        thread::Builder::new().name("larder-observe".into()).spawn(move || waiting.accept_clients(&woken))?;
        Ok(server)
    }

    /// Wakes the thread that waits for clients. If it has not seen the last wake-up yet, that one suffices.
    fn wake(&self) {
        let _is_full = (&self.waker).write(&[0]);
    }

    /// Ends the threads: that which waits, and those of the clients once they have answered.
    fn stop(&self) {
        let mut state = self.state.lock();
        state.is_stopped = true;
        state.sockets.clear();
        for (_, client) in &state.clients {
            let _is_closed = client.shutdown(Shutdown::Both);
        }
        drop(state);
        self.wake();
    }

    fn accept_clients(self: &Arc<Self>, mut woken: &UnixStream) {
        loop {
            let state = self.state.lock();
            if state.is_stopped {
                return;
            }
            let sockets = state.sockets.clone();
            drop(state);
            let mut waits: Vec<PollFd<'_>> =
                sockets.iter().map(|socket| PollFd::new(&socket.listener, PollFlags::IN)).collect();
            waits.push(PollFd::new(woken, PollFlags::IN));
            if poll(&mut waits, None).is_err() {
                // Interrupted, or short of memory for a moment.
                thread::park_timeout(Duration::from_millis(10));
                continue;
            }
            drop(waits);
            while woken.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
            for socket in &sockets {
                while let Ok((client, _)) = socket.listener.accept() {
                    self.admit(client);
                }
            }
        }
    }

    /// Starts the thread of a client. Refuses it if there are too many.
    fn admit(self: &Arc<Self>, client: UnixStream) {
        let mut state = self.state.lock();
        if state.is_stopped {
            return;
        }
        if state.clients.len() >= CLIENTS_MAX {
            drop(state);
            let message = format!("too many clients: {CLIENTS_MAX} are connected");
            let line = answer::failure(ErrorKind::Busy, &message).to_string() + "\n";
            let _is_closed = client.set_nonblocking(true).and_then(|()| (&client).write(line.as_bytes()));
            return;
        }
        let Ok(copy) = client.try_clone() else { return };
        state.next_client += 1;
        let number = state.next_client;
        state.clients.push((number, copy));
        drop(state);
        let server = Arc::clone(self);
        let serve = move || {
            // A client that goes away is no failure of the process.
            let _client_is_gone = client.set_nonblocking(false).and_then(|()| converse(&client));
            server.state.lock().clients.retain(|(other, _)| *other != number);
        };
        if thread::Builder::new().name("larder-observe".into()).spawn(serve).is_err() {
            self.state.lock().clients.retain(|(other, _)| *other != number);
        }
    }
}

/// Answers the requests of a client until it goes away, is too slow, or sends a line that is too long.
fn converse(client: &UnixStream) -> io::Result<()> {
    send(client, &answer::hello().to_string())?;
    let mut received = Vec::new();
    while let Some(line) = next_line(client, &mut received)? {
        match String::from_utf8(line) {
            Ok(line) if line.trim().is_empty() => {}
            Ok(line) => send(client, &answer::line(&line))?,
            Err(_) => {
                send(client, &answer::failure(ErrorKind::Config, "the request is not UTF-8").to_string())?;
            }
        }
    }
    Ok(())
}

/// Reads the next line; `None` if there is none any more. `received` has what came after the last line.
fn next_line(mut client: &UnixStream, received: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    let until = Instant::now() + REQUEST_LIMIT;
    let mut searched = 0;
    loop {
        if let Some(end) = received[searched..].iter().position(|byte| *byte == b'\n') {
            let rest = received.split_off(searched + end + 1);
            let mut line = std::mem::replace(received, rest);
            line.pop();
            return Ok(Some(line));
        }
        searched = received.len();
        if searched > REQUEST_MAX {
            let message = format!("the request is longer than {REQUEST_MAX} bytes");
            send(client, &answer::failure(ErrorKind::TooLarge, &message).to_string())?;
            return Ok(None);
        }
        client.set_read_timeout(Some(left(until)?))?;
        let mut chunk = [0; 4096];
        match client.read(&mut chunk) {
            Ok(0) => return Ok(None),
            Ok(read) => received.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn send(mut client: &UnixStream, line: &str) -> io::Result<()> {
    let until = Instant::now() + ANSWER_LIMIT;
    let text = format!("{line}\n");
    let mut bytes = text.as_bytes();
    while !bytes.is_empty() {
        client.set_write_timeout(Some(left(until)?))?;
        match client.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The time until then.
fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}
