//! Which classes of entries are worth their room.

use super::pool::{CLASSES, COLUMNS, Cell, DISTANCES, Judgement, Judgements, NEVER};

/// The recorded requests that a class needs to be judged.
const KNOWN: f32 = 12.0;
/// By this share the saving must exceed that of all classes.
const DOUBT: f64 = 0.02;
/// A yield is of a MiB that is held during a thousand requests.
const UNIT: f64 = 1_048_576_000.0;

/// How much a class holds, hits and misses if its entries stay for a time.
#[derive(Clone, Copy, Default)]
struct Stay {
    held: f64,
    hits: f64,
    misses: f64,
}

/// A class, for each of the times that its entries may stay.
#[derive(Clone, Copy)]
struct Class {
    stays: [Stay; DISTANCES],
    /// What a hit saves and what a miss costs, in nanoseconds.
    value: (f64, f64),
    is_known: bool,
}

/// Some classes.
#[derive(Clone, Copy)]
struct Set {
    classes: [u8; CLASSES],
    len: usize,
}

impl Set {
    fn of(classes: impl Iterator<Item = usize>) -> Self {
        let mut set = Self { classes: [0; CLASSES], len: 0 };
        classes.for_each(|class| set.push(class));
        set
    }

    fn push(&mut self, class: usize) {
        self.classes[self.len] = class as u8;
        self.len += 1;
    }

    fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.classes[..self.len].iter().map(|class| usize::from(*class))
    }
}

/// Judges the classes by their requests and the room that they compete for. `value` returns from the mean
/// bytes and load of a class what a hit saves and what a miss costs beside the load, in nanoseconds.
pub(super) fn judge(
    cells: &[[Cell; COLUMNS]],
    capacity: f64,
    value: impl Fn(f32, f32) -> (f64, f64),
) -> Judgements {
    Judge::new(cells, capacity, value).judge()
}

struct Judge {
    classes: [Class; CLASSES],
    capacity: f64,
    requests: f64,
}

impl Judge {
    fn new(cells: &[[Cell; COLUMNS]], capacity: f64, value: impl Fn(f32, f32) -> (f64, f64)) -> Self {
        let none = Class { stays: [Stay::default(); DISTANCES], value: (0.0, 0.0), is_known: false };
        let mut judge = Self { classes: [none; CLASSES], capacity, requests: 1.0 };
        let requests: f32 = cells.iter().flatten().map(|cell| cell.count).sum();
        judge.requests = f64::from(requests.max(1.0));
        for (class, cells) in judge.classes.iter_mut().zip(cells) {
            let sum = |of: fn(&Cell) -> f32| cells.iter().map(of).sum::<f32>();
            let count = sum(|cell| cell.count);
            if count > 0.0 {
                class.value = value(sum(|cell| cell.bytes) / count, sum(|cell| cell.load) / count);
                class.is_known = sum(|cell| cell.samples) >= KNOWN;
                class.stays = stays(cells, judge.requests);
            }
        }
        judge
    }

    /// How long entries stay if these classes are admitted, as a position among the times.
    fn time(&self, held: &[f64; DISTANCES]) -> f64 {
        let Some(over) = held.iter().position(|held| *held > self.capacity) else {
            return (DISTANCES - 1) as f64;
        };
        let Some(under) = over.checked_sub(1) else { return 0.0 };
        under as f64 + (self.capacity - held[under]) / (held[over] - held[under]).max(1e-9)
    }

    fn time_of(&self, set: &Set) -> f64 {
        let mut held = [0.0; DISTANCES];
        set.iter().for_each(|class| self.add(&mut held, class));
        self.time(&held)
    }

    fn add(&self, held: &mut [f64; DISTANCES], class: usize) {
        held.iter_mut().zip(&self.classes[class].stays).for_each(|(held, stay)| *held += stay.held);
    }

    fn stay(&self, class: usize, time: f64) -> Stay {
        let stays = &self.classes[class].stays;
        let under = (time as usize).min(DISTANCES - 1);
        let (one, other) = (stays[under], stays[(under + 1).min(DISTANCES - 1)]);
        let share = time - under as f64;
        let between = |one: f64, other: f64| one + (other - one) * share;
        Stay {
            held: between(one.held, other.held),
            hits: between(one.hits, other.hits),
            misses: between(one.misses, other.misses),
        }
    }

    fn saved(&self, class: usize, time: f64) -> f64 {
        let (stay, (hit, miss)) = (self.stay(class, time), self.classes[class].value);
        stay.hits * hit - stay.misses * miss
    }

    fn yield_of(&self, class: usize, time: f64) -> f64 {
        self.saved(class, time) / (self.stay(class, time).held * self.requests).max(1e-9) * UNIT
    }

    fn judge(&self) -> Judgements {
        let known = Set::of((0..CLASSES).filter(|class| self.classes[*class].is_known));
        let (mut time, mut admitted) = (self.time_of(&known), known);
        for _ in 0..2 {
            admitted = self.best(&known, time);
            time = self.time_of(&admitted);
        }
        let mut classes = [Judgement::NONE; CLASSES];
        for class in known.iter() {
            let stay = self.stay(class, time);
            let reuse = (stay.hits / (stay.hits + stay.misses).max(1e-9)) as f32;
            classes[class] = Judgement { saved: self.yield_of(class, time) as f32, reuse, is_known: true };
        }
        let is_in = |class: &usize| admitted.iter().any(|admitted| admitted == *class);
        let yields = |is_wanted: bool| {
            let wanted = known.iter().filter(move |class| is_in(class) == is_wanted);
            wanted.map(|class| classes[class].saved)
        };
        let (highest_out, lowest_in) =
            (yields(false).fold(0.0, f32::max), yields(true).fold(f32::INFINITY, f32::min));
        let price = if highest_out > 0.0 && lowest_in.is_finite() { lowest_in.max(0.0) } else { 0.0 };
        Judgements { classes, price }
    }

    /// Adds classes, the highest yield first, and returns the set that saves most. Classes that are not known
    /// well are in it.
    fn best(&self, known: &Set, time: f64) -> Set {
        let mut yields = [(0, 0.0); CLASSES];
        for (at, class) in known.iter().enumerate() {
            yields[at] = (class, self.yield_of(class, time));
        }
        let yields = &mut yields[..known.len];
        yields.sort_unstable_by(|one, other| other.1.total_cmp(&one.1));
        let mut set = Set::of((0..CLASSES).filter(|class| !self.classes[*class].is_known));
        let mut held = [0.0; DISTANCES];
        set.iter().for_each(|class| self.add(&mut held, class));
        let (mut best, mut all) = ((0.0, set.len), 0.0);
        for (class, _) in yields.iter().filter(|(_, saved)| *saved > 0.0) {
            set.push(*class);
            self.add(&mut held, *class);
            let time = self.time(&held);
            let saved = set.iter().map(|class| self.saved(class, time)).sum::<f64>();
            if saved > best.0 {
                best = (saved, set.len);
            }
            all = saved;
        }
        // Admitting all that saves time is what the table does, about. Little more is not worth a doubt.
        if best.0 > all * (1.0 + DOUBT) {
            set.len = best.1;
        }
        set
    }
}

/// What a class holds, hits and misses for each time.
fn stays(cells: &[Cell; COLUMNS], requests: f64) -> [Stay; DISTANCES] {
    let all: f64 = cells.iter().map(|cell| f64::from(cell.count)).sum();
    let all_bytes: f64 = cells.iter().map(|cell| f64::from(cell.bytes)).sum();
    let (mut hits, mut hit_bytes, mut passed) = (0.0, 0.0, 0.0);
    let mut stays = [Stay::default(); DISTANCES];
    for (column, cell) in cells[..NEVER].iter().enumerate() {
        hits += f64::from(cell.count);
        hit_bytes += f64::from(cell.bytes);
        passed += f64::from(cell.bytes) * middle_of(column);
        let held = passed + (all_bytes - hit_bytes).max(0.0) * end_of(column);
        stays[column] = Stay { held: held / requests, hits, misses: (all - hits).max(0.0) };
    }
    stays
}

/// The distance at the end of a column.
fn end_of(column: usize) -> f64 {
    let power = ((column / 2) as f64).exp2();
    if column.is_multiple_of(2) { power * 1.5 } else { power * 2.0 }
}

/// The distance in the middle of a column.
fn middle_of(column: usize) -> f64 {
    let power = ((column / 2) as f64).exp2();
    if column.is_multiple_of(2) { power * 1.25 } else { power * 1.75 }
}
