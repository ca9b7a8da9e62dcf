//! An untyped tree of the data in MessagePack or JSON, for comparison.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Node {
    Nothing,
    Bool(bool),
    Signed(i128),
    Unsigned(u128),
    /// The bits of a 64-bit float: 1 and 1.0 are different here.
    Float(u64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Node>),
    Map(BTreeMap<Node, Node>),
}

impl Node {
    /// Whether this tree contains all data of `stored`. Maps may contain more, as with an added field with a
    /// default. Lists may have another order, because sets have none.
    pub(super) fn covers(&self, stored: &Self) -> bool {
        match (self, stored) {
            (Self::Map(here), Self::Map(stored)) => {
                stored.iter().all(|(key, value)| here.get(key).is_some_and(|here| here.covers(value)))
            }
            (Self::List(here), Self::List(stored)) if here.len() == stored.len() => {
                let covers = |(here, stored): (&Self, &Self)| here.covers(stored);
                here.iter().zip(stored).all(covers)
                    || sorted(here).into_iter().zip(sorted(stored)).all(covers)
            }
            _ => self == stored,
        }
    }
}

fn sorted(nodes: &[Node]) -> Vec<&Node> {
    let mut sorted: Vec<&Node> = nodes.iter().collect();
    sorted.sort_unstable();
    sorted
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

/// A number is the same in any width.
fn signed(number: i128) -> Node {
    u128::try_from(number).map_or(Node::Signed(number), Node::Unsigned)
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Node, E> {
        Ok(signed(number.into()))
    }

    fn visit_i128<E>(self, number: i128) -> Result<Node, E> {
        Ok(signed(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Node, E> {
        Ok(Node::Unsigned(number.into()))
    }

    fn visit_u128<E>(self, number: u128) -> Result<Node, E> {
        Ok(Node::Unsigned(number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Node, E> {
        Ok(Node::Float(number.to_bits()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Node, E> {
        Ok(Node::Bytes(bytes.to_owned()))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Nothing)
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Nothing)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Node, A::Error> {
        // Memory grows with the actual data, not with the claimed length.
        let mut list = Vec::new();
        while let Some(element) = elements.next_element()? {
            list.push(element);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = BTreeMap::new();
        while let Some((key, value)) = entries.next_entry()? {
            map.insert(key, value);
        }
        Ok(Node::Map(map))
    }
}
