//! Kills a process while it writes, and checks what the next open finds.
//!
//! The child is this test binary, run for one test with a variable set. Its steps follow from a
//! seed. The child reports each step, so the parent knows which entries must be there.
//! `LARDER_KILLS` sets how many processes a test kills.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use super::*;
use crate::file::{FileOptions, FileTier};

const VARIABLE: &str = "LARDER_CRASH_CHILD";
const CHILD: &str = "disk::tests::crash::the_process_that_is_killed";
const KEYS: u64 = 120;
const LIMIT: u64 = 256 * MIB;

/// The instructions of a child.
#[derive(Clone, Debug)]
struct Task {
    is_file: bool,
    durability: Durability,
    threads: u64,
    seed: u64,
    dir: std::path::PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Put(u64),
    Remove(u64),
    Get(u64),
    Clear,
    Flush,
    /// Compacts the newest memtable together with a sorted run.
    Rotate,
    /// Drops a segment after copying all of its entries.
    Merge,
}

impl Task {
    fn to_line(&self) -> String {
        let dir = self.dir.display();
        format!("{} {} {} {} {dir}", self.is_file, self.durability, self.threads, self.seed)
    }

    fn from_line(line: &str) -> Self {
        let mut words = line.splitn(5, ' ');
        let mut word = || words.next().unwrap();
        Self {
            is_file: word() == "true",
            durability: match word() {
                "synced" => Durability::Synced,
                "flushed" => Durability::Flushed,
                _ => Durability::Buffered,
            },
            threads: 0,
            seed: 0,
            dir: std::path::PathBuf::new(),
        }
        .with(word().parse().unwrap(), word().parse().unwrap(), word().into())
    }

    fn with(self, threads: u64, seed: u64, dir: std::path::PathBuf) -> Self {
        Self { threads, seed, dir, ..self }
    }

    /// The step `number` of thread `thread`. Each thread has its own keys.
    fn step(&self, thread: u64, number: u64) -> Step {
        let dice = mix(self.seed, thread, number);
        let key = (dice >> 32) % KEYS * self.threads + thread;
        match dice % 1000 {
            0 if self.threads == 1 => Step::Clear,
            1..4 => Step::Flush,
            4..9 if self.threads == 1 => Step::Rotate,
            4..5 => Step::Rotate,
            5..12 => Step::Merge,
            12..80 => Step::Get(key),
            80..350 => Step::Remove(key),
            _ => Step::Put(key),
        }
    }

    /// The payload that a step puts. It differs for each step.
    fn payload(&self, thread: u64, number: u64) -> Vec<u8> {
        let dice = mix(self.seed, thread, number);
        let len = if dice & 0x10_0000 == 0 { 16 + dice % 2000 } else { 4000 + dice % 9000 };
        noise(dice, len as usize)
    }

    fn open(&self) -> Subject {
        let (dir, budget, durability) = (self.dir.clone(), DiskBudget::new(LIMIT).share(), self.durability);
        if self.is_file {
            Subject::File(Box::new(
                FileTier::open(FileOptions { dir, shared: false, budget, durability }).unwrap(),
            ))
        } else {
            let options = DiskOptions { dir, budget, crossover: CROSSOVER_BYTES, durability };
            Subject::Disk(Box::new(DiskTier::open(options).unwrap()))
        }
    }
}

fn mix(seed: u64, thread: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_mul(31).wrapping_add(thread).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = z.wrapping_add(number.wrapping_mul(0xbf58_476d_1ce4_e5b9));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

enum Subject {
    Disk(Box<DiskTier>),
    File(Box<FileTier>),
}

impl Subject {
    fn tier(&self) -> &dyn Tier {
        match self {
            Self::Disk(tier) => &**tier,
            Self::File(tier) => &**tier,
        }
    }

    fn take(&self, task: &Task, thread: u64, number: u64) {
        let tier = self.tier();
        match task.step(thread, number) {
            Step::Put(name) => {
                let key = key(name);
                now(tier.put(&key, &frame(&key, task.payload(thread, number)))).unwrap();
            }
            Step::Remove(name) => drop(now(tier.remove(&key(name))).unwrap()),
            Step::Get(name) => drop(now(tier.get(&key(name))).unwrap()),
            Step::Clear => now(tier.clear()).unwrap(),
            Step::Flush => now(tier.flush()).unwrap(),
            Step::Rotate => self.rotate(number),
            Step::Merge => self.merge(),
        }
    }

    /// Compacts the newest memtable together with an older sorted run.
    fn rotate(&self, number: u64) {
        let Self::Disk(tier) = self else { return };
        let some = |run: &u64| mix(*run, number, 5).is_multiple_of(3);
        let replaced = runs(tier).into_iter().filter(some).map(|run| (run, Survivors::Live));
        rotate(tier, &replaced.collect::<Vec<_>>());
    }

    fn merge(&self) {
        let Self::Disk(tier) = self else { return };
        let _alone = tier.compaction.write();
        seal(tier);
        let sealed = tier.with_store(|store| Ok(store.segments.sealed())).unwrap();
        if let Some(oldest) = sealed.first() {
            tier.drop_segment(oldest.number, Survivors::Live).unwrap();
        }
    }
}

/// The child process. Does nothing unless a parent sets the variable.
#[test]
fn the_process_that_is_killed() {
    let Ok(line) = std::env::var(VARIABLE) else { return };
    let task = Task::from_line(&line);
    let subject = task.open();
    println!();
    std::thread::scope(|scope| {
        for thread in 0..task.threads {
            let (task, subject) = (&task, &subject);
            scope.spawn(move || {
                for number in 0.. {
                    subject.take(task, thread, number);
                    let line = format!("ack {thread} {number}\n");
                    std::io::stdout().write_all(line.as_bytes()).unwrap();
                }
            });
        }
    });
}

/// A running child process. Dropping it kills the process.
struct Victim {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Victim {
    fn start(task: &Task) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", CHILD, "--nocapture", "--test-threads=1"])
            .env(VARIABLE, task.to_line())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Kills the child after `acks` steps. Returns how many steps of each thread it acknowledged.
    fn kill_after(mut self, acks: u64, threads: u64) -> Vec<u64> {
        let mut done = vec![0; threads as usize];
        let mut seen = 0;
        while let Some(Ok(line)) = self.lines.next() {
            let Some(rest) = line.strip_prefix("ack ") else { continue };
            let (thread, number) = rest.split_once(' ').unwrap();
            done[thread.parse::<usize>().unwrap()] = number.parse::<u64>().unwrap() + 1;
            seen += 1;
            if seen == acks {
                self.child.kill().unwrap();
            }
        }
        assert!(seen >= acks, "the child ended by itself after {seen} steps");
        done
    }
}

/// Kills a process while it opens the directory of an earlier one.
fn kill_while_it_opens(task: &Task, life: u64) {
    let mut victim = Victim::start(&Task { threads: 0, ..task.clone() });
    while victim.lines.next().unwrap().unwrap() != "running 1 test" {}
    let until = std::time::Instant::now() + std::time::Duration::from_micros(mix(life, 3, 3) % 40_000);
    while std::time::Instant::now() < until {
        std::hint::spin_loop();
    }
}

/// The payload each key should have.
type Model = BTreeMap<u64, Vec<u8>>;

fn apply(model: &mut Model, task: &Task, thread: u64, number: u64) {
    match task.step(thread, number) {
        Step::Put(key) => drop(model.insert(key, task.payload(thread, number))),
        Step::Remove(key) => drop(model.remove(&key)),
        Step::Clear => model.clear(),
        Step::Get(_) | Step::Flush | Step::Rotate | Step::Merge => {}
    }
}

/// Compares the entries with those before and after the step in progress. Returns the entries
/// found, which the next child begins with.
fn check(task: &Task, before: &Model, after: &Model, context: &str) -> (Model, usize) {
    let subject = task.open();
    let mut found = Model::new();
    let mut lost = 0;
    for name in 0..KEYS * task.threads {
        let allowed = [before.get(&name), after.get(&name)];
        let bytes = now(subject.tier().get(&key(name))).unwrap();
        let payload = bytes.map(|bytes| larder_core::frame::open(&bytes, &key(name)).unwrap().1.to_vec());
        let is_right = allowed.contains(&payload.as_ref());
        assert!(is_right || payload.is_none(), "key {name} is wrong or came back: {context}");
        lost += usize::from(!is_right);
        found.extend(payload.map(|payload| (name, payload)));
    }
    assert_eq!(subject.tier().usage().entries, found.len() as u64, "{context}");
    (found, lost)
}

fn kills() -> u64 {
    std::env::var("LARDER_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(6)
}

fn kill_repeatedly(is_file: bool, durability: Durability, threads: u64) {
    let dir = TempDir::new().unwrap();
    let mut model = Model::new();
    let mut lost = 0;
    for life in 0..kills() {
        let task =
            Task { is_file, durability, threads, seed: 1000 * threads + life, dir: dir.path().join("tier") };
        let most = if is_file || durability == Durability::Synced { 600 } else { 4000 };
        let acks = 1 + mix(life, 7, 7) % if life % 3 == 0 { 50 } else { most };
        let done = Victim::start(&task).kill_after(acks, threads);
        if life % 2 == 1 {
            kill_while_it_opens(&task, life);
        }
        for (thread, done) in (0..).zip(&done) {
            (0..*done).for_each(|number| apply(&mut model, &task, thread, number));
        }
        let mut after = model.clone();
        (0..).zip(&done).for_each(|(thread, done)| apply(&mut after, &task, thread, *done));
        let context = format!("life {life}, {done:?} steps, {task:?}");
        let (found, gone) = check(&task, &model, &after, &context);
        assert!(durability == Durability::Buffered || gone == 0, "{gone} lost: {context}");
        (model, lost) = (found, lost + gone);
    }
    println!("{} kills, {durability}, {threads} threads: {lost} lost", kills());
}

#[test]
fn killed_process_brings_back_no_removed_entry() {
    kill_repeatedly(false, Durability::Buffered, 1);
    kill_repeatedly(false, Durability::Buffered, 2);
}

#[test]
fn killed_process_loses_no_flushed_entry() {
    kill_repeatedly(false, Durability::Flushed, 1);
    kill_repeatedly(false, Durability::Flushed, 2);
}

#[test]
fn killed_process_loses_no_synced_entry() {
    kill_repeatedly(false, Durability::Synced, 1);
    kill_repeatedly(false, Durability::Synced, 2);
}

#[test]
fn killed_process_loses_no_entry_of_the_file_tier() {
    kill_repeatedly(true, Durability::Flushed, 1);
    kill_repeatedly(true, Durability::Synced, 2);
}
