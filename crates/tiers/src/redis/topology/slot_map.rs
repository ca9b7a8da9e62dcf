//! Which node of a cluster holds which partition, as nodes tell it.

use crate::redis::keys::names::{PARTITIONS, tag};

/// How many slots a cluster has.
const SLOTS: u16 = 16384;

/// A node that holds a partition, and since which election.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::redis) struct Claim {
    pub(in crate::redis) host: String,
    pub(in crate::redis) port: u16,
    epoch: u64,
}

/// What nodes say of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::redis) struct View {
    /// Who holds each partition.
    pub(in crate::redis) claims: Vec<Option<Claim>>,
    /// Every node there is, replicas too.
    pub(in crate::redis) nodes: Vec<(String, u16)>,
}

impl View {
    pub(in crate::redis) fn nothing() -> Self {
        Self { claims: vec![None; PARTITIONS], nodes: Vec::new() }
    }

    /// Reads the answer to `CLUSTER NODES` of the node at `asked`, which may not
    /// know its own name. `by_name` prefers the host name of a node to its number.
    pub(in crate::redis) fn read(nodes: &str, asked: &str, by_name: bool) -> Self {
        let mut view = Self::nothing();
        for node in nodes.lines().filter_map(|line| Node::read(line, asked, by_name)) {
            for (partition, claim) in view.claims.iter_mut().enumerate() {
                if node.holds(slot(partition)) {
                    *claim = Some(node.claim.clone());
                }
            }
            view.nodes.push((node.claim.host, node.claim.port));
        }
        view
    }

    /// Takes over what `other` knows of later elections.
    pub(in crate::redis) fn merge(mut self, other: Self) -> Self {
        for (known, told) in self.claims.iter_mut().zip(other.claims) {
            let epoch = |claim: &Option<Claim>| claim.as_ref().map(|claim| claim.epoch);
            if epoch(&told) > epoch(known) {
                *known = told;
            }
        }
        let new = other.nodes.into_iter().filter(|node| !self.nodes.contains(node)).collect::<Vec<_>>();
        self.nodes.extend(new);
        self
    }
}

/// A line of `CLUSTER NODES`:
/// `id host:port@bus[,name] flags master ping pong epoch link slot slot-slot …`.
struct Node<'a> {
    claim: Claim,
    slots: Vec<&'a str>,
}

impl<'a> Node<'a> {
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
        // What follows the state of the link: slots, of masters alone.
        Some(Self { claim, slots: fields.skip(1).collect() })
    }

    fn holds(&self, slot: u16) -> bool {
        let covers = |range: &&str| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            // `[slot->-node]` is on its way to or from another one, and does not parse.
            matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(first), Ok(last)) if (first..=last).contains(&slot))
        };
        self.slots.iter().any(covers)
    }
}

/// The slot of a partition: that of its hash tag.
fn slot(partition: usize) -> u16 {
    crc16(tag(partition).as_bytes()) % SLOTS
}

/// CRC-16/XMODEM, by which a cluster maps keys to slots.
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
    fn slots_are_those_of_redis() {
        // The check value of the algorithm, and what `CLUSTER KEYSLOT` answers.
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

    fn places(view: &View) -> Vec<String> {
        let mut places: Vec<_> =
            view.claims.iter().flatten().map(|claim| format!("{}:{}", claim.host, claim.port)).collect();
        places.sort();
        places.dedup();
        places
    }

    #[test]
    fn every_partition_has_its_master() {
        let view = View::read(NODES, "asked", false);
        assert!(view.claims.iter().all(Option::is_some));
        assert_eq!(places(&view), ["127.0.0.1:7001", "127.0.0.1:7002", "::1:7003"]);
        assert_eq!(view.nodes.len(), 4);
        assert!(places(&View::read(NODES, "asked", true)).contains(&"two.example:7002".to_owned()));
    }

    #[test]
    fn a_node_that_does_not_know_its_name_is_where_it_was_asked() {
        let view = View::read("a1 :7001@17001 myself,master - 0 0 1 connected 0-16383", "here", false);
        assert_eq!(places(&view), ["here:7001"]);
    }

    #[test]
    fn the_later_election_counts() {
        let view = |epoch: u64, port: u16| {
            let line = format!("a h:{port}@1 master - 0 0 {epoch} connected 0-16383");
            View::read(&line, "", false)
        };
        assert_eq!(places(&view(1, 1).merge(view(2, 2))), ["h:2"]);
        assert_eq!(places(&view(2, 2).merge(view(1, 1))), ["h:2"]);
        assert_eq!(places(&View::nothing().merge(view(0, 1))), ["h:1"]);
    }

    #[test]
    fn nonsense_is_nothing() {
        for text in ["", "a", "a b c d e f g h", "a h:x@1 master - 0 0 1 connected 0-5", "\u{0}"] {
            assert_eq!(View::read(text, "", false), View::nothing(), "{text:?}");
        }
    }
}
