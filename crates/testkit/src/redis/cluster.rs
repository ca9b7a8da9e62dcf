//! A Redis Cluster for one test.

use crate::RedisServer;
use crate::redis::server::{free_port, is_installed, until_found};

const SLOTS: usize = 16384;

/// Masters that share the slots evenly, and replicas of the first masters, on free ports
/// of the loopback interface. Dropping this value stops them.
#[derive(Debug)]
pub struct RedisCluster {
    masters: Vec<RedisServer>,
    replicas: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts a cluster; `None` without `redis-server`, as for [`RedisServer::start`]. A
    /// master counts as failed after half a second.
    ///
    /// # Panics
    /// If the cluster does not form within 20 seconds.
    pub fn start(masters: usize, replicas: usize) -> Option<Self> {
        if !is_installed() {
            return None;
        }
        let nodes = |count| (0..count).map(|_| node()).collect();
        let cluster = Self { masters: nodes(masters), replicas: nodes(replicas) };
        cluster.form();
        Some(cluster)
    }

    /// Returns the URL of the masters.
    pub fn url(&self) -> String {
        let nodes: Vec<_> = self.masters.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("redis+cluster://{}", nodes.join(","))
    }

    /// Returns the servers that held the slots at the start.
    pub fn masters(&mut self) -> &mut [RedisServer] {
        &mut self.masters
    }

    /// Returns one of them.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn master(&self, index: usize) -> &RedisServer {
        &self.masters[index]
    }

    /// Returns the replicas, each at the index of its master.
    pub fn replicas(&mut self) -> &mut [RedisServer] {
        &mut self.replicas
    }

    /// Moves a slot with its keys to another master. With `halfway`, it moves only every
    /// other key, and leaves the slot in migration.
    ///
    /// # Panics
    /// If a node refuses.
    pub fn move_slot(&self, slot: u16, (from, to): (usize, usize), halfway: bool) {
        let (slot, source, target) = (slot.to_string(), &self.masters[from], &self.masters[to]);
        let id = |node: &RedisServer| node.cli(&["CLUSTER", "MYID"]);
        target.cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(source)]);
        source.cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(target)]);
        let keys = source.cli(&["CLUSTER", "GETKEYSINSLOT", &slot, "10000"]);
        let port = target.port().to_string();
        for key in keys.lines().step_by(1 + usize::from(halfway)) {
            source.cli(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
        }
        if !halfway {
            self.end_move(&slot, to);
        }
    }

    /// Completes a halfway move: moves the other keys, and assigns the slot to its new
    /// master.
    ///
    /// # Panics
    /// If a node refuses.
    pub fn finish_move(&self, slot: u16, (from, to): (usize, usize)) {
        let (slot, source) = (slot.to_string(), &self.masters[from]);
        let port = self.masters[to].port().to_string();
        for key in source.cli(&["CLUSTER", "GETKEYSINSLOT", &slot, "10000"]).lines() {
            source.cli(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
        }
        self.end_move(&slot, to);
    }

    fn end_move(&self, slot: &str, to: usize) {
        let id = self.masters[to].cli(&["CLUSTER", "MYID"]);
        // The new master first: until then the old one redirects every client there.
        self.masters[to].cli(&["CLUSTER", "SETSLOT", slot, "NODE", &id]);
        for node in &self.masters {
            node.cli(&["CLUSTER", "SETSLOT", slot, "NODE", &id]);
        }
    }

    fn form(&self) {
        let count = self.masters.len();
        for (index, node) in self.masters.iter().enumerate() {
            let (first, last) = (index * SLOTS / count, (index + 1) * SLOTS / count - 1);
            node.cli(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
            node.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
        }
        let first = self.masters[0].port().to_string();
        let bus = self.masters[0].cli(&["CONFIG", "GET", "cluster-port"]);
        let bus = bus.lines().last().expect("it has a bus");
        for node in self.masters.iter().chain(&self.replicas).skip(1) {
            node.cli(&["CLUSTER", "MEET", "127.0.0.1", &first, bus]);
        }
        let all = format!("cluster_known_nodes:{}", count + self.replicas.len());
        self.wait(|node| node.cli(&["CLUSTER", "INFO"]).contains(&all));
        for (replica, master) in self.replicas.iter().zip(&self.masters) {
            let id = master.cli(&["CLUSTER", "MYID"]);
            replica.cli(&["CLUSTER", "REPLICATE", &id]);
        }
        self.wait(|node| node.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok"));
        for master in self.masters.iter().take(self.replicas.len()) {
            until(|| master.cli(&["INFO", "replication"]).contains("state=online"));
        }
    }

    fn wait(&self, is_so: impl Fn(&RedisServer) -> bool) {
        for node in self.masters.iter().chain(&self.replicas) {
            until(|| is_so(node));
        }
    }
}

fn node() -> RedisServer {
    let (port, bus) = (free_port(), free_port());
    let line = format!(
        "--port {port} --cluster-port {bus} --bind 127.0.0.1 --appendonly no --daemonize no \
         --cluster-enabled yes --cluster-config-file nodes-{port}.conf --cluster-node-timeout 500 \
         --cluster-replica-validity-factor 0 --repl-diskless-sync-delay 0"
    );
    let mut arguments: Vec<String> = line.split_ascii_whitespace().map(str::to_owned).collect();
    arguments.extend(["--save".to_owned(), String::new()]);
    RedisServer::start_as(port, |_| arguments)
}

fn until(is_so: impl Fn() -> bool) {
    until_found("the cluster does not form", is_so);
}
