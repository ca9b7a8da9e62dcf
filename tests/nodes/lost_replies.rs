//! The server applies the request of a node, but the answer is lost.
//!
//! The fault: a removed or overwritten value came back. The cause: a node took its own earlier
//! change, whose answer was lost, for a change of another node, and dropped its later change.

use std::collections::HashSet;
use std::thread;

use larder::{Cache, TierKind};
use larder_testkit::Proxy;

use super::{Nodes, key, until};

type Node = Cache<String, u64>;

/// A change of one entry: its name, the call, and the possible states of the entry afterwards, by
/// its state before.
struct Change {
    name: &'static str,
    make: fn(&Node, &String, u64),
    outcomes: fn(Option<u64>, u64) -> Vec<Option<u64>>,
}

/// Changes that a node reconciles later. They take effect whether or not they were answered.
static CHANGES: [Change; 7] = [
    Change { name: "insert", make: |node, key, value| node.insert(key.clone(), value), outcomes: written },
    Change {
        name: "insert_many",
        make: |node, key, value| node.insert_many([(key.clone(), value), (format!("{key} beside"), value)]),
        outcomes: written,
    },
    Change {
        name: "remove",
        make: |node, key, _| {
            node.remove(key);
        },
        outcomes: removed,
    },
    Change {
        name: "remove_many",
        make: |node, key, _| {
            // The call reports the failure of the tier. The removal still takes effect.
            let _told = node.remove_many(&[key.clone(), format!("{key} beside")]);
        },
        outcomes: removed,
    },
    Change {
        name: "invalidate",
        make: |node, key, _| {
            let _told = node.invalidate(key);
        },
        outcomes: removed,
    },
    Change {
        name: "get_with",
        make: |node, key, value| {
            node.get_with(key.clone(), || value);
        },
        // A load does not overwrite an existing entry.
        outcomes: |before, value| vec![before.or(Some(value)), None],
    },
    Change {
        name: "touch",
        make: |node, key, _| {
            let _told = node.touch(key);
        },
        outcomes: |before, _| vec![before],
    },
];

/// Atomic operations across nodes. After an error their effect is unknown.
static STEPS: [Change; 3] = [
    Change {
        name: "increment",
        make: |node, key, value| {
            let _told = node.increment(key.clone(), value, 0);
        },
        outcomes: |before, value| vec![before, Some(before.unwrap_or(0) + value)],
    },
    Change {
        name: "take",
        make: |node, key, _| {
            let _told = node.take(key);
        },
        outcomes: |before, _| vec![before, None],
    },
    Change {
        name: "insert_if_absent",
        make: |node, key, value| {
            let _told = node.insert_if_absent(key.clone(), value);
        },
        outcomes: |before, value| vec![before, before.or(Some(value))],
    },
];

fn written(_: Option<u64>, value: u64) -> Vec<Option<u64>> {
    vec![Some(value)]
}

fn removed(_: Option<u64>, _: u64) -> Vec<Option<u64>> {
    vec![None]
}

/// One key: its initial state, and two changes of it.
struct Case<'a> {
    key: String,
    before: Option<u64>,
    changes: [&'a Change; 2],
}

impl Case<'_> {
    fn all() -> Vec<Self> {
        let changes: Vec<&'static Change> = CHANGES.iter().chain(&STEPS).collect();
        let mut cases = Vec::new();
        for first in &changes {
            for second in &changes {
                for before in [None, Some(100)] {
                    cases.push(Case { key: key(cases.len() as u64), before, changes: [*first, *second] });
                }
            }
        }
        cases
    }

    fn make(&self, node: &Node, at: usize) {
        (self.changes[at].make)(node, &self.key, 1 + at as u64);
    }

    /// The possible states of the entry after both changes.
    fn outcomes(&self) -> HashSet<Option<u64>> {
        let first = (self.changes[0].outcomes)(self.before, 1);
        first.into_iter().flat_map(|between| (self.changes[1].outcomes)(between, 2)).collect()
    }

    fn name(&self) -> String {
        let [first, second] = self.changes;
        format!("{}, then {}, of an entry that was {:?}", first.name, second.name, self.before)
    }
}

/// How the server fails for the first and the second changes.
#[derive(Clone, Copy, Debug)]
enum Silence {
    /// It applies the first change, and does not receive the second.
    AnswersLost,
    /// It receives neither change during the outage.
    Deaf,
    /// It receives the first change when it resumes after a stop.
    Stopped,
}

fn the_last_change_stays(silence: Silence, memory_bytes: u64, cases: &[Case<'_>]) {
    let Some(mut nodes) = Nodes::start() else { return };
    let line = Proxy::to(nodes.server.port());
    let node = nodes.builder().redis(line.url()).memory_bytes(memory_bytes).build().unwrap();
    let other = nodes.node();
    for case in cases {
        if let Some(before) = case.before {
            node.insert(case.key.clone(), before);
            assert_eq!(node.get(&case.key), case.before);
        }
    }
    match silence {
        Silence::AnswersLost => line.swallow_answers(true),
        Silence::Deaf => line.swallow(true),
        Silence::Stopped => nodes.server.pause(),
    }
    // All at once, so that the server receives all first changes before the nodes notice the
    // outage.
    thread::scope(|scope| {
        for case in cases {
            let node = &node;
            scope.spawn(move || (0..2).for_each(|at| case.make(node, at)));
        }
    });
    until("the node notices", || node.try_insert(key(100_000), 1).unwrap().home != TierKind::Redis);
    match silence {
        Silence::AnswersLost => line.swallow_answers(false),
        Silence::Deaf => line.swallow(false),
        Silence::Stopped => nodes.server.resume(),
    }
    line.cut();
    let seen = |node: &Node, case: &Case<'_>| node.inspect(&case.key).ok().flatten();
    until("the nodes agree", || {
        cases.iter().all(|case| {
            let [one, two] = [&node, &other].map(|node| seen(node, case));
            one.as_ref().is_none_or(|entry| entry.confirmed)
                && one.map(|entry| entry.value) == two.map(|entry| entry.value)
        })
    });
    let wrong: Vec<String> = cases
        .iter()
        .filter(|case| !case.outcomes().contains(&other.get(&case.key)))
        .map(|case| format!("{}: {:?}", case.name(), other.get(&case.key)))
        .collect();
    assert!(wrong.is_empty(), "{silence:?}: {} of {}: {wrong:#?}", wrong.len(), cases.len());
}

#[test]
fn last_of_two_changes_stays_when_the_first_answer_is_lost() {
    the_last_change_stays(Silence::AnswersLost, 64 << 20, &Case::all());
}

#[test]
fn last_of_two_changes_stays_when_the_server_received_neither() {
    the_last_change_stays(Silence::Deaf, 64 << 20, &Case::all());
}

#[test]
fn last_of_two_changes_stays_when_the_server_was_stopped() {
    the_last_change_stays(Silence::Stopped, 64 << 20, &Case::all());
}

#[test]
fn last_of_two_changes_stays_without_memory() {
    // A load that finds the entry in no tier is a change like the others.
    let loads = |case: &Case<'_>| case.changes.iter().any(|change| change.name == "get_with");
    let mut cases = Case::all();
    cases.retain(|case| case.before.is_none() || !loads(case));
    the_last_change_stays(Silence::AnswersLost, 0, &cases);
}
