//! A Redis master with sentinels for one test.

use std::fs;

use crate::RedisServer;
use crate::redis::server::{free_port, is_installed, until_found};

/// A master, a replica, and three sentinels, which promote the replica when the master
/// was silent for half a second. Dropping this value stops them.
#[derive(Debug)]
pub struct RedisSentinels {
    servers: [RedisServer; 2],
    sentinels: Vec<RedisServer>,
}

impl RedisSentinels {
    /// Starts the servers; `None` without `redis-server`, as for [`RedisServer::start`].
    ///
    /// # Panics
    /// If they do not find one another within 20 seconds.
    pub fn start() -> Option<Self> {
        if !is_installed() {
            return None;
        }
        let eager = ["--repl-diskless-sync-delay", "0"];
        let servers = [RedisServer::start_with(&eager)?, RedisServer::start_with(&eager)?];
        servers[1].cli(&["REPLICAOF", "127.0.0.1", &servers[0].port().to_string()]);
        until(|| servers[0].cli(&["INFO", "replication"]).contains("state=online"));
        let mut watch = Self { servers, sentinels: Vec::new() };
        watch.sentinels = (0..3).map(|_| watch.sentinel()).collect();
        let seen = ["num-slaves\n1", "num-other-sentinels\n2"];
        for sentinel in &watch.sentinels {
            until(|| {
                let told = sentinel.cli(&["SENTINEL", "MASTER", "larder"]);
                seen.iter().all(|seen| told.contains(seen))
            });
        }
        Some(watch)
    }

    /// Returns the URL of the sentinels.
    pub fn url(&self) -> String {
        let places: Vec<_> = self.sentinels.iter().map(|one| format!("127.0.0.1:{}", one.port())).collect();
        format!("redis+sentinel://{}/larder", places.join(","))
    }

    /// Returns the first master and the first replica.
    pub fn servers(&mut self) -> &mut [RedisServer; 2] {
        &mut self.servers
    }

    /// Returns the sentinels.
    pub fn sentinels(&mut self) -> &mut [RedisServer] {
        &mut self.sentinels
    }

    fn sentinel(&self) -> RedisServer {
        let port = free_port();
        let lines = format!(
            "port {port}\nbind 127.0.0.1\n\
             sentinel monitor larder 127.0.0.1 {} 2\n\
             sentinel down-after-milliseconds larder 500\n\
             sentinel failover-timeout larder 3000\n",
            self.servers[0].port()
        );
        RedisServer::start_as(port, |dir| {
            let config = dir.join("sentinel.conf");
            fs::write(&config, lines).expect("the configuration can be written");
            vec![config.display().to_string(), "--sentinel".to_owned()]
        })
    }
}

fn until(is_so: impl Fn() -> bool) {
    until_found("the sentinels do not find one another", is_so);
}
