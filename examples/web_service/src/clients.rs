//! Clients that send requests as fast as the service answers them.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Outcome;

const CLIENTS: u32 = 20;
const ARTICLES: u32 = 50;

/// The responses that the clients received.
#[derive(Default)]
pub(crate) struct Load {
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    slowest: Duration,
}

impl Load {
    /// Runs the clients for the given time, or forever if that is `Duration::MAX`.
    pub(crate) async fn run(mut self, address: SocketAddr, time: Duration) -> Self {
        let until = Instant::now().checked_add(time);
        let clients: Vec<_> = (0..CLIENTS).map(|client| tokio::spawn(ask(address, client, until))).collect();
        for client in clients {
            let Ok(Ok(load)) = client.await else {
                self.failed += 1;
                continue;
            };
            self.answered += load.answered;
            self.failed += load.failed;
            self.slowest = self.slowest.max(load.slowest);
        }
        self
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answered, {} failed, the slowest in {:.1?}", self.answered, self.failed, self.slowest)
    }
}

/// One client, on one connection.
async fn ask(address: SocketAddr, client: u32, until: Option<Instant>) -> Outcome<Load> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut load = Load::default();
    let mut buffer = vec![0; 64 << 10];
    let mut articles = fastrand::Rng::with_seed(client.into());
    loop {
        let asked = Instant::now();
        if until.is_some_and(|until| asked >= until) {
            break;
        }
        let request =
            format!("GET /articles/{} HTTP/1.1\r\nhost: localhost\r\n\r\n", articles.u32(..ARTICLES));
        stream.write_all(request.as_bytes()).await?;
        match status(&mut stream, &mut buffer).await? {
            200 => load.answered += 1,
            _ => load.failed += 1,
        }
        load.slowest = load.slowest.max(asked.elapsed());
    }
    Ok(load)
}

/// Reads one response to its end and returns its status.
async fn status(stream: &mut TcpStream, buffer: &mut [u8]) -> Outcome<u16> {
    let mut len = 0;
    loop {
        let read = stream.read(&mut buffer[len..]).await?;
        if read == 0 {
            return Err("the connection was closed".into());
        }
        len += read;
        let text = std::str::from_utf8(&buffer[..len])?;
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
        if body.len() >= length.parse()? {
            return Ok(head.get(9..12).unwrap_or("0").parse()?);
        }
    }
}
