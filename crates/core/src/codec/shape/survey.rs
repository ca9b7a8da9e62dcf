//! The survey of a type: chooses the answers of its walks, and finds when they have covered it.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_64;

use super::Walk;
use super::frozen::Frozen;
use super::graph::{Graph, NodeId, Place, note};
use super::probe::Stop;

/// The maximum number of walks over one type.
const WALKS_MAX: u32 = 1_000;
/// The maximum number of questions in all walks over one type.
const QUESTIONS_MAX: u32 = 100_000;
/// The maximum number of questions in one walk.
const QUESTIONS_PER_WALK_MAX: u32 = 10_000;
/// From this number of questions on, a walk only enters nodes with unvisited parts.
const QUESTIONS_BEFORE_HASTE: u32 = 512;
/// The number of complete passes. Each uses other numbers, which detects a type whose questions depend on
/// them.
const PASSES: usize = 3;

/// The sample for a place.
#[derive(Clone, Copy, Debug, Default)]
struct Answer {
    sample: usize,
    /// The place rejected another sample, so all passes use this one.
    is_picky: bool,
}

/// The state of the survey of one type.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) graph: Graph,
    /// The state of the walks of earlier builds, while they are repeated.
    pub(super) frozen: Option<Frozen>,
    answers: HashMap<Place, Answer>,
    pass: usize,
    walks: u32,
    asked_before: u32,
    asked: u32,
    /// Counts new findings; a walk without any is the last one.
    progress: u32,
    asks_what_comes: bool,
    /// The nodes that are being visited.
    open: Vec<(NodeId, u32)>,
    /// Places of this walk that got a sample, with the number of samples.
    answered: Vec<(Place, usize)>,
    refused: bool,
    hopeless: bool,
}

impl Survey {
    /// Visits everything. Returns whether that succeeded; then the shape is complete.
    pub(super) fn explore(&mut self, walk: Walk<'_>) -> bool {
        let mut size = 0;
        for pass in 0..PASSES {
            self.pass = pass;
            self.graph.forget_visits();
            let whole = self.explore_once(walk);
            if self.asks_what_comes || (pass == 0 && !whole) {
                return false;
            }
            if pass == 0 {
                size = self.graph.size();
            }
        }
        self.graph.size() == size && self.graph.is_unambiguous()
    }

    fn explore_once(&mut self, walk: Walk<'_>) -> bool {
        loop {
            let before = self.progress;
            self.begin_walk();
            let whole = walk(self);
            if self.asks_what_comes || self.hopeless || self.is_spent() {
                return false;
            }
            let is_open = self.graph.find_open();
            if whole && !is_open {
                return true;
            }
            if !whole && !self.refused {
                self.blame();
            }
            if self.progress == before {
                return false;
            }
        }
    }

    fn is_spent(&self) -> bool {
        self.walks > WALKS_MAX || self.asked_before + self.asked > QUESTIONS_MAX
    }

    pub(super) fn begin_walk(&mut self) {
        self.walks += 1;
        self.asked_before += self.asked;
        self.asked = 0;
        self.refused = false;
        self.open.clear();
        self.answered.clear();
    }

    /// Handles a failed walk in which every visitor accepted its sample: a type made of several parts
    /// rejected them. Tries the next combination of samples, the last place first.
    fn blame(&mut self) {
        for (place, samples) in self.answered.iter().rev() {
            let answer = self.answers.entry(*place).or_default();
            if self.pass > 0 {
                if !answer.is_picky {
                    answer.is_picky = true;
                    self.progress += 1;
                    return;
                }
            } else if answer.sample + 1 < *samples {
                answer.sample += 1;
                answer.is_picky = true;
                self.progress += 1;
                return;
            } else {
                answer.sample = 0;
            }
        }
    }

    /// The index of the sample for a place. `varies` is set for interchangeable samples, of which each pass
    /// uses another one.
    pub(super) fn sample(&mut self, place: Place, samples: usize, varies: bool) -> usize {
        if self.frozen.is_some() {
            return 0;
        }
        let answer = *self.answers.entry(place).or_default();
        self.answered.push((place, samples));
        let turn = if varies && !answer.is_picky { self.pass } else { 0 };
        (answer.sample + turn) % samples
    }

    /// Records a rejected sample; the next walk tries another one.
    pub(super) fn refuse(&mut self, place: Place, samples: usize) {
        self.refused = true;
        let answer = self.answers.entry(place).or_default();
        if self.pass > 0 && !answer.is_picky {
            answer.is_picky = true;
        } else if answer.sample + 1 < samples {
            answer.sample += 1;
            answer.is_picky = true;
        } else {
            self.hopeless = true;
        }
        self.progress += 1;
    }

    /// Records a question: the request at `place` by a visitor of this type.
    ///
    /// # Errors
    /// If the walk must end.
    pub(super) fn ask(
        &mut self,
        place: Place,
        visitor: &str,
        notes: &[(&str, &[&str])],
        variants: usize,
    ) -> Result<NodeId, Stop> {
        let note: Vec<u8> = notes.iter().flat_map(|(question, names)| note(question, names)).collect();
        self.asked += 1;
        match &mut self.frozen {
            Some(frozen) => frozen.tell(&note, notes.len())?,
            None if self.asked > QUESTIONS_PER_WALK_MAX => return Err(Stop),
            None => {}
        }
        let node = self.graph.node(visitor, note, variants);
        match &mut self.frozen {
            Some(frozen) => frozen.connect(place, node),
            None => self.progress += u32::from(self.graph.connect(place, node)),
        }
        Ok(node)
    }

    /// Records a request for "any" value: the survey ends here.
    pub(super) fn ask_what_comes(&mut self) -> Stop {
        self.asks_what_comes = true;
        Stop
    }

    pub(super) fn asks_what_comes(&self) -> bool {
        self.asks_what_comes
    }

    /// Whether to answer an option with `Some`, and a collection with an element.
    pub(super) fn enters(&self, node: NodeId, is_deep: bool) -> bool {
        if self.frozen.is_some() {
            return !is_deep;
        }
        let is_worth_it = self.asked <= QUESTIONS_BEFORE_HASTE || self.graph.is_open(node);
        is_worth_it && !self.open.contains(&(node, 0))
    }

    /// The variant of an enum to visit next: an unvisited one, else one that leads to an unvisited one, else
    /// the cheapest one, else the one that was begun least.
    pub(super) fn choose(&mut self, node: NodeId, variants: u32, is_deep: bool) -> Option<u32> {
        if let Some(frozen) = &mut self.frozen {
            return Some(frozen.choose(node, variants, is_deep));
        }
        let begun = |variant: &u32| self.open.iter().filter(|open| **open == (node, *variant)).count();
        let mut others = (0..variants).filter(|variant| begun(variant) == 0);
        let mut new = others.clone().filter(|variant| !self.graph.was_visited(node, *variant));
        new.next()
            .or_else(|| others.find(|variant| self.graph.is_open_through(node, *variant)))
            .or_else(|| self.graph.cheapest(node))
            .or_else(|| (0..variants).min_by_key(begun))
    }

    /// Begins the visit of a node's parts.
    pub(super) fn enter(&mut self, node: NodeId, variant: u32) {
        self.open.push((node, variant));
    }

    /// Ends a visit; `whole` says whether it was complete.
    pub(super) fn leave(&mut self, (node, variant): (NodeId, u32), asked_before: u32, whole: bool) {
        self.open.pop();
        if self.frozen.is_none() && whole {
            let cost = self.asked - asked_before;
            self.progress += u32::from(self.graph.visit(node, variant, cost));
        }
    }

    pub(super) fn asked(&self) -> u32 {
        self.asked
    }

    /// The fingerprint of the visited graph.
    pub(super) fn fingerprint(&self) -> u64 {
        xxh3_64(&self.graph.write()).max(1)
    }
}
