//! The server, the proxies in front of it, and the faults.

use larder_testkit::{Proxy, RedisServer};

use crate::{NODES, Outcome};

/// The server and the connections that can be broken.
pub(crate) struct Plugs {
    /// `None` for a server that was given.
    server: Option<RedisServer>,
    /// One proxy for each process.
    lines: Vec<Proxy>,
}

impl Plugs {
    /// Opens proxies to the server at this port, or to a new server.
    pub(crate) fn new(given: Option<u16>) -> Outcome<Self> {
        let server = match given {
            Some(_) => None,
            None => Some(RedisServer::start().ok_or("redis-server is not installed, and none was given")?),
        };
        let port = given.or(server.as_ref().map(RedisServer::port)).ok_or("no server")?;
        Ok(Self { server, lines: (0..NODES).map(|_| Proxy::to(port)).collect() })
    }

    /// Whether the server may be killed.
    pub(crate) fn has_own_server(&self) -> bool {
        self.server.is_some()
    }

    /// The URL of the server for each process.
    pub(crate) fn urls(&self) -> impl Iterator<Item = String> {
        self.lines.iter().map(Proxy::url)
    }

    pub(crate) fn kill(&mut self) {
        match &mut self.server {
            Some(server) => server.kill(),
            None => self.cut_off(0..self.lines.len()),
        }
    }

    pub(crate) fn restart(&mut self) {
        match &mut self.server {
            Some(server) => server.restart(),
            None => self.let_in(0..self.lines.len()),
        }
    }

    pub(crate) fn stop(&mut self) {
        match &self.server {
            Some(server) => server.pause(),
            None => self.lines.iter().for_each(|line| line.swallow(true)),
        }
    }

    pub(crate) fn go_on(&mut self) {
        match &self.server {
            Some(server) => server.resume(),
            None => self.let_in(0..self.lines.len()),
        }
    }

    /// Silently drops all bytes on these proxies.
    pub(crate) fn cut_off(&mut self, lines: std::ops::Range<usize>) {
        self.lines[lines].iter().for_each(|line| line.swallow(true));
    }

    /// Forwards again. Open connections have lost bytes, so they are closed.
    pub(crate) fn let_in(&mut self, lines: std::ops::Range<usize>) {
        for line in &self.lines[lines] {
            line.swallow(false);
            line.cut();
        }
    }
}
