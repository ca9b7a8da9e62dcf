//! A server that hears and applies what a node asks, while the answer is lost.
//!
//! The fault: a node took its own earlier change, whose answer was lost, for a
//! change of another node, and gave its later change up for it. A removed value
//! came back, and an overwritten one too.

use std::collections::HashSet;
use std::thread;

use larder::{Cache, TierKind};
use larder_testkit::Proxy;

use super::{Nodes, key, until};

type Node = Cache<String, u64>;

/// A change of one entry: its name, what it does, and what the entry may be
/// afterwards, by what it was before.
struct Change {
    name: &'static str,
    make: fn(&Node, &String, u64),
    outcomes: fn(Option<u64>, u64) -> Vec<Option<u64>>,
}

/// Changes that a node makes up for: they count whether they were answered or not.
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
            // The failure of the tier is told; the removal counts all the same.
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
        // A load stores nothing over an entry that is there.
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

/// Steps among all nodes: an error says that it is not known what became of them.
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

/// One key: what is there before, and two changes of it.
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

    /// What the entry may be after both.
    fn outcomes(&self) -> HashSet<Option<u64>> {
        let first = (self.changes[0].outcomes)(self.before, 1);
        first.into_iter().flat_map(|between| (self.changes[1].outcomes)(between, 2)).collect()
    }

    fn name(&self) -> String {
        let [first, second] = self.changes;
        format!("{}, then {}, of an entry that was {:?}", first.name, second.name, self.before)
    }
}

/// How the server is silent to the first changes and to the second ones.
#[derive(Clone, Copy, Debug)]
enum Silence {
    /// It applies the first, and does not hear the second.
    AnswersLost,
    /// It hears neither before it is itself again.
    Deaf,
    /// It hears the first when it goes on after it was stopped.
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
    // At once, so that the server hears all of the first ones before its silence is noticed.
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
fn last_of_two_changes_stays_where_the_answer_to_the_first_was_lost() {
    the_last_change_stays(Silence::AnswersLost, 64 << 20, &Case::all());
}

#[test]
fn last_of_two_changes_stays_where_the_server_heard_neither() {
    the_last_change_stays(Silence::Deaf, 64 << 20, &Case::all());
}

#[test]
fn last_of_two_changes_stays_where_the_server_was_stopped() {
    the_last_change_stays(Silence::Stopped, 64 << 20, &Case::all());
}

#[test]
fn last_of_two_changes_stays_without_memory() {
    // A load that can look nowhere for the entry is a change like others.
    let loads = |case: &Case<'_>| case.changes.iter().any(|change| change.name == "get_with");
    let mut cases = Case::all();
    cases.retain(|case| case.before.is_none() || !loads(case));
    the_last_change_stays(Silence::AnswersLost, 0, &cases);
}
