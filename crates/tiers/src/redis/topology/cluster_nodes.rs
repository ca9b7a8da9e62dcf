//! Parses the answer to `CLUSTER NODES`: which node of a cluster holds which partition.

use crate::redis::keys::names::{PARTITIONS, tag};

/// The number of slots of a cluster.
const SLOTS: u16 = 16384;

/// A node that claims a partition, with the config epoch of its election.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::redis) struct Claim {
    pub(in crate::redis) host: String,
    pub(in crate::redis) port: u16,
    epoch: u64,
}

/// The state of the cluster as nodes report it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::redis) struct ClusterView {
    /// The claim of each partition.
    pub(in crate::redis) claims: Vec<Option<Claim>>,
    /// All nodes, replicas included.
    pub(in crate::redis) nodes: Vec<(String, u16)>,
}

impl ClusterView {
    pub(in crate::redis) fn empty() -> Self {
        Self { claims: vec![None; PARTITIONS], nodes: Vec::new() }
    }

    /// Parses the answer to `CLUSTER NODES` from the node at `asked`, which may not know its own host.
    /// `by_name` prefers host names to addresses.
    pub(in crate::redis) fn read(nodes: &str, asked: &str, by_name: bool) -> Self {
        let mut view = Self::empty();
        for node in nodes.lines().filter_map(|line| NodeLine::read(line, asked, by_name)) {
            for (partition, claim) in view.claims.iter_mut().enumerate() {
                if node.holds(slot(partition)) {
                    *claim = Some(node.claim.clone());
                }
            }
            view.nodes.push((node.claim.host, node.claim.port));
        }
        view
    }

    /// Takes over the claims of `other` with a later config epoch.
    pub(in crate::redis) fn merge(mut self, other: Self) -> Self {
        for (known, reported) in self.claims.iter_mut().zip(other.claims) {
            let epoch = |claim: &Option<Claim>| claim.as_ref().map(|claim| claim.epoch);
            if epoch(&reported) > epoch(known) {
                *known = reported;
            }
        }
        let new = other.nodes.into_iter().filter(|node| !self.nodes.contains(node)).collect::<Vec<_>>();
        self.nodes.extend(new);
        self
    }
}

/// A line of `CLUSTER NODES`:
/// `id host:port@bus[,name] flags master ping pong epoch link slot slot-slot …`.
struct NodeLine<'a> {
    claim: Claim,
    slots: Vec<&'a str>,
}

impl<'a> NodeLine<'a> {
    fn read(line: &'a str, asked: &str, by_name: bool) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (place, flags) = (fields.next()?, fields.next()?);
        let epoch = fields.nth(3)?.parse().ok()?;
        if flags.split(',').any(|flag| ["noaddr", "handshake"].contains(&flag)) {
            return None;
        }
        let (address, names) = place.split_once(',').unwrap_or((place, ""));
        let (host, port) = address.split('@').next()?.rsplit_once(':')?;
        let name = names.split(',').next().filter(|name| by_name && !name.is_empty());
        let host = name.unwrap_or(if host.is_empty() { asked } else { host }).to_owned();
        let claim = Claim { host, port: port.parse().ok()?, epoch };
        // The fields after the link state are slots, for masters only.
        Some(Self { claim, slots: fields.skip(1).collect() })
    }

    fn holds(&self, slot: u16) -> bool {
        let covers = |range: &&str| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            // `[slot->-node]` is migrating, and does not parse.
            matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(first), Ok(last)) if (first..=last).contains(&slot))
        };
        self.slots.iter().any(covers)
    }
}

/// The slot of a partition, computed from its hash tag.
fn slot(partition: usize) -> u16 {
    crc16(tag(partition).as_bytes()) % SLOTS
}

/// CRC-16/XMODEM, the hash by which a cluster maps keys to slots.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        let start = crc ^ (u16::from(*byte) << 8);
        (0..8).fold(start, |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_match_those_of_redis() {
        // The check value of the algorithm, and the answer of `CLUSTER KEYSLOT`.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(crc16(b"foo") % SLOTS, 12182);
        let slots: std::collections::HashSet<_> = (0..PARTITIONS).map(slot).collect();
        assert_eq!(slots.len(), PARTITIONS);
    }

    const NODES: &str = "\
        a1 127.0.0.1:7001@17001 myself,master - 0 0 1 connected 0-5460 [93->-b2]\n\
        b2 127.0.0.1:7002@17002,two.example,shard-id=x master - 0 1 2 connected 5461-10922\n\
        c3 ::1:7003@17003 master - 0 1 3 connected 10923-16382 16383\n\
        d4 127.0.0.1:7004@17004 slave a1 0 1 1 connected\n\
        e5 :0@0 master,noaddr - 0 1 9 disconnected 0-16383\n";

    fn places(view: &ClusterView) -> Vec<String> {
        let mut places: Vec<_> =
            view.claims.iter().flatten().map(|claim| format!("{}:{}", claim.host, claim.port)).collect();
        places.sort();
        places.dedup();
        places
    }

    #[test]
    fn every_partition_has_its_master() {
        let view = ClusterView::read(NODES, "asked", false);
        assert!(view.claims.iter().all(Option::is_some));
        assert_eq!(places(&view), ["127.0.0.1:7001", "127.0.0.1:7002", "::1:7003"]);
        assert_eq!(view.nodes.len(), 4);
        assert!(places(&ClusterView::read(NODES, "asked", true)).contains(&"two.example:7002".to_owned()));
    }

    #[test]
    fn node_without_own_host_is_at_the_asked_address() {
        let view = ClusterView::read("a1 :7001@17001 myself,master - 0 0 1 connected 0-16383", "here", false);
        assert_eq!(places(&view), ["here:7001"]);
    }

    #[test]
    fn claim_with_later_epoch_wins() {
        let view = |epoch: u64, port: u16| {
            let line = format!("a h:{port}@1 master - 0 0 {epoch} connected 0-16383");
            ClusterView::read(&line, "", false)
        };
        assert_eq!(places(&view(1, 1).merge(view(2, 2))), ["h:2"]);
        assert_eq!(places(&view(2, 2).merge(view(1, 1))), ["h:2"]);
        assert_eq!(places(&ClusterView::empty().merge(view(0, 1))), ["h:1"]);
    }

    #[test]
    fn malformed_lines_are_ignored() {
        for text in ["", "a", "a b c d e f g h", "a h:x@1 master - 0 0 1 connected 0-5", "\u{0}"] {
            assert_eq!(ClusterView::read(text, "", false), ClusterView::empty(), "{text:?}");
        }
    }
}
