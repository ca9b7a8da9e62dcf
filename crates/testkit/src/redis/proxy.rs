//! A proxy that imitates a bad connection between a client and a server.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a pump waits for bytes before it checks whether it must end.
const LOOK: Duration = Duration::from_millis(10);

/// A port of the loopback interface that forwards to another one, slowly or not at all on
/// command. Dropping it ends it and its threads.
///
/// While it swallows, it accepts connections, reads from clients, forwards nothing in
/// either direction, and closes nothing. While it swallows only answers, the server gets
/// and applies every request, and no client learns of that. A connection that lost bytes forwards no more in that
/// direction, until it ends.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    state: Arc<ProxyState>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct ProxyState {
    server: u16,
    delay_micros: AtomicU64,
    swallows: AtomicBool,
    swallows_answers: AtomicBool,
    ended: AtomicBool,
    /// Raised to end the open connections.
    cut: AtomicU64,
}

impl Proxy {
    /// Starts forwarding to `server`, a port of the loopback interface.
    ///
    /// # Panics
    /// If no port is free.
    pub fn to(server: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let port = listener.local_addr().expect("it has an address").port();
        let state = Arc::new(ProxyState {
            server,
            delay_micros: AtomicU64::new(0),
            swallows: AtomicBool::new(false),
            swallows_answers: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            cut: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&state);
        let thread = thread::spawn(move || accept(&listener, &accepting));
        Self { port, state, thread: Some(thread) }
    }

    /// Returns the URL of the Redis server behind the proxy.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Returns the port that the proxy listens at.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Delays every piece of an answer by this time.
    pub fn delay(&self, delay: Duration) {
        let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.state.delay_micros.store(micros, Ordering::Release);
    }

    /// Sets whether the proxy swallows bytes in both directions.
    pub fn swallow(&self, swallows: bool) {
        self.state.swallows.store(swallows, Ordering::Release);
    }

    /// Sets whether the proxy swallows answers and forwards requests.
    pub fn swallow_answers(&self, swallows: bool) {
        self.state.swallows_answers.store(swallows, Ordering::Release);
    }

    /// Ends the open connections.
    pub fn cut(&self) {
        self.state.cut.fetch_add(1, Ordering::AcqRel);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::Release);
        // Wakes the thread that accepts connections.
        let _refused = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, state: &Arc<ProxyState>) {
    let mut pumps = Vec::new();
    while let Ok((client, _)) = listener.accept() {
        if state.ended.load(Ordering::Acquire) {
            break;
        }
        // If the server refuses, the connection of the client ends.
        if let Ok(pair) = join(client, state) {
            pumps.extend(pair);
        }
    }
    for pump in pumps {
        let _panicked = pump.join();
    }
}

fn join(client: TcpStream, state: &Arc<ProxyState>) -> io::Result<[JoinHandle<()>; 2]> {
    let server = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, state.server)))?;
    for end in [&client, &server] {
        end.set_nodelay(true)?;
        end.set_read_timeout(Some(LOOK))?;
    }
    let back = (server.try_clone()?, client.try_clone()?);
    let (asking, answering) = (Arc::clone(state), Arc::clone(state));
    Ok([
        thread::spawn(move || pump((client, server), &asking, false)),
        thread::spawn(move || pump(back, &answering, true)),
    ])
}

/// Forwards from one end to the other until one of them ends.
fn pump((mut from, mut to): (TcpStream, TcpStream), state: &ProxyState, is_answer: bool) {
    let (mut bytes, cut) = (vec![0; 64 << 10], state.cut.load(Ordering::Acquire));
    let mut is_broken = false;
    while !state.ended.load(Ordering::Acquire) && state.cut.load(Ordering::Acquire) == cut {
        let len = match from.read(&mut bytes) {
            Ok(0) => break,
            Ok(len) => len,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(_) => break,
        };
        if is_answer {
            wait(Duration::from_micros(state.delay_micros.load(Ordering::Acquire)));
        }
        // With bytes missing in the middle, an answer would be taken for that of a request that never arrived. A
        // network loses the end of a stream, and no part of it.
        is_broken |= state.swallows.load(Ordering::Acquire)
            || is_answer && state.swallows_answers.load(Ordering::Acquire);
        if !is_broken && to.write_all(&bytes[..len]).is_err() {
            break;
        }
    }
    for end in [from, to] {
        let _gone = end.shutdown(Shutdown::Both);
    }
}

fn wait(delay: Duration) {
    let until = Instant::now() + delay;
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        thread::park_timeout(left);
    }
}
