//! A graph of a type's questions: one node for each type it consists of, with edges to the types requested at
//! each place.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use xxhash_rust::xxh3::xxh3_64;

/// A visited type, numbered by its first visit.
pub(super) type NodeId = u32;

/// Where a question is asked: the variant of a node, and the position in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) node: NodeId,
    pub(super) variant: u32,
    pub(super) position: u32,
}

impl Place {
    /// The place of the type itself; no node has this number.
    pub(super) const ROOT: Self = Self { node: NodeId::MAX, variant: 0, position: 0 };
}

/// Encodes a question with its names for the fingerprint.
pub(super) fn note(question: &str, names: &[&str]) -> Vec<u8> {
    let mut note = Vec::new();
    for part in std::iter::once(&question).chain(names) {
        note.extend_from_slice(&(part.len() as u32).to_le_bytes());
        note.extend_from_slice(part.as_bytes());
    }
    note.extend_from_slice(&(names.len() as u32).to_le_bytes());
    note
}

#[derive(Debug)]
struct Node {
    note: Vec<u8>,
    /// For each variant, the number of questions of its last complete visit in this pass.
    visited: Vec<Option<u32>>,
    /// Whether an unvisited variant can be reached from this node.
    is_open: bool,
}

#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: Vec<Node>,
    by_key: HashMap<u64, NodeId>,
    edges: BTreeMap<Place, BTreeSet<NodeId>>,
}

impl Graph {
    /// The node of a question and the type of its visitor: equal pairs share a node. `visitor` is empty for a
    /// question without parts.
    pub(super) fn node(&mut self, visitor: &str, note: Vec<u8>, variants: usize) -> NodeId {
        let key = xxh3_64(&[note.as_slice(), visitor.as_bytes()].concat());
        let next = self.nodes.len() as NodeId;
        *self.by_key.entry(key).or_insert_with(|| {
            self.nodes.push(Node { note, visited: vec![None; variants], is_open: true });
            next
        })
    }

    /// Adds an edge from a place to a node; returns whether it is new.
    pub(super) fn connect(&mut self, place: Place, node: NodeId) -> bool {
        self.edges.entry(place).or_default().insert(node)
    }

    /// The number of nodes and edges.
    pub(super) fn size(&self) -> usize {
        self.nodes.len() + self.edges.values().map(BTreeSet::len).sum::<usize>()
    }

    /// Whether each place has one question, regardless of earlier answers.
    pub(super) fn is_unambiguous(&self) -> bool {
        self.edges.values().all(|nodes| nodes.len() == 1)
    }

    pub(super) fn edges(&self) -> impl Iterator<Item = (Place, NodeId)> {
        self.edges.iter().flat_map(|(place, nodes)| nodes.iter().map(|node| (*place, *node)))
    }

    /// All variants of all enums.
    pub(super) fn variants(&self) -> impl Iterator<Item = (NodeId, u32)> {
        let nodes = (0..).zip(&self.nodes);
        nodes.flat_map(|(id, node)| (0..node.visited.len() as u32).map(move |variant| (id, variant)))
    }

    fn of(&self, node: NodeId) -> Option<&Node> {
        self.nodes.get(node as usize)
    }

    pub(super) fn was_visited(&self, node: NodeId, variant: u32) -> bool {
        self.cost(node, variant).is_some()
    }

    fn cost(&self, node: NodeId, variant: u32) -> Option<u32> {
        *self.of(node)?.visited.get(variant as usize)?
    }

    /// The completely visited variant with the fewest questions.
    pub(super) fn cheapest(&self, node: NodeId) -> Option<u32> {
        let costs = self.of(node)?.visited.iter().zip(0..);
        costs.filter_map(|(cost, variant)| Some(((*cost)?, variant))).min().map(|(_, variant)| variant)
    }

    /// Records a complete visit of a variant; returns whether it is the first.
    pub(super) fn visit(&mut self, node: NodeId, variant: u32, cost: u32) -> bool {
        let slot = self.nodes.get_mut(node as usize).and_then(|node| node.visited.get_mut(variant as usize));
        slot.is_some_and(|slot| slot.replace(slot.map_or(cost, |before| before.min(cost))).is_none())
    }

    /// Marks every variant as unvisited.
    pub(super) fn forget_visits(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.visited.fill(None));
    }

    pub(super) fn is_open(&self, node: NodeId) -> bool {
        self.of(node).is_some_and(|node| node.is_open)
    }

    /// Whether this variant leads to an open node.
    pub(super) fn is_open_through(&self, node: NodeId, variant: u32) -> bool {
        let from = Place { node, variant, position: 0 };
        let to = Place { node, variant, position: u32::MAX };
        self.edges.range(from..=to).any(|(_, nodes)| nodes.iter().any(|node| self.is_open(*node)))
    }

    /// Recomputes which nodes are open; returns whether there are any.
    pub(super) fn find_open(&mut self) -> bool {
        for node in &mut self.nodes {
            node.is_open = node.visited.iter().any(Option::is_none);
        }
        let mut is_settled = false;
        while !is_settled {
            is_settled = true;
            for (place, children) in &self.edges {
                let is_open = children.iter().any(|child| self.nodes[*child as usize].is_open);
                if let Some(parent) = self.nodes.get_mut(place.node as usize)
                    && is_open
                    && !parent.is_open
                {
                    parent.is_open = true;
                    is_settled = false;
                }
            }
        }
        self.nodes.iter().any(|node| node.is_open)
    }

    /// Encodes the graph, in an order that depends only on the type.
    pub(super) fn write(&self) -> Vec<u8> {
        let mut written = Written { graph: self, seen: HashMap::new(), bytes: b"larder shape 2".to_vec() };
        written.place(Place::ROOT);
        written.bytes
    }
}

struct Written<'a> {
    graph: &'a Graph,
    seen: HashMap<NodeId, u32>,
    bytes: Vec<u8>,
}

impl Written<'_> {
    fn place(&mut self, place: Place) {
        let nodes = self.graph.edges.get(&place).into_iter().flatten();
        nodes.for_each(|node| self.node(*node));
    }

    fn node(&mut self, id: NodeId) {
        let next = self.seen.len() as u32;
        if let Some(number) = self.seen.get(&id) {
            let number = number.to_string();
            return self.bytes.extend(note("again", &[&number]));
        }
        let Some(node) = self.graph.of(id) else { return };
        self.bytes.extend_from_slice(&node.note);
        let from = Place { node: id, variant: 0, position: 0 };
        let to = Place { node: id, variant: u32::MAX, position: u32::MAX };
        let places: Vec<Place> = self.graph.edges.range(from..=to).map(|(place, _)| *place).collect();
        if places.is_empty() {
            return;
        }
        self.seen.insert(id, next);
        for place in places {
            let (variant, position) = (place.variant.to_string(), place.position.to_string());
            self.bytes.extend(note("at", &[&variant, &position]));
            self.place(place);
        }
        self.bytes.extend(note("end", &[]));
    }
}
