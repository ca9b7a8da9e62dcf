//! Single flight under every schedule of a few tasks.
//!
//! Tasks switch where they wait: in a loader, for a flight, or for a key lock. In every order, no
//! task hangs and every read can be explained.

use std::cell::Cell;
use std::sync::Arc;

use larder::EntryOptions;
use larder_core::tier::Tier;
use larder_exec::runtime::Tokio;
use larder_testkit::HashMapTier;
use larder_testkit::history::{Act, Answer, Contract, History, Keeps, Recorder};
use larder_testkit::schedule::{Scene, Task, explore, turn};

use crate::fixtures::{Plan, TestEngine};

const KEY: u64 = 1;
/// An upper bound on schedules, more than any scene here has.
const MOST: usize = 2_000_000;

/// One run of a scene: a cache, its history, and the number of loaders that began.
struct Scenario {
    engine: Arc<TestEngine>,
    history: Arc<History>,
    loads: Cell<usize>,
    running: Cell<usize>,
}

/// Runs a scene over memory alone, memory with a tier, and a tier alone.
fn check(name: &str, scene: impl Fn(&mut Scene, &Scenario)) {
    let tier = || vec![Arc::new(HashMapTier::new()) as Arc<dyn Tier>];
    let plans: [(&str, &dyn Fn() -> Plan); 3] = [
        ("memory", &|| Plan::over(vec![])),
        ("memory and a tier", &|| Plan::over(tier())),
        ("a tier", &|| Plan::over(tier()).without_memory()),
    ];
    for (over, plan) in plans {
        let schedules = explore(MOST, |turns| {
            let (engine, history) = (plan().build(), History::new());
            let scenario = Scenario { engine, history, loads: Cell::new(0), running: Cell::new(0) };
            scene(turns, &scenario);
            let mut last = scenario.recorder();
            turns.play(vec![Task::new(async { scenario.get(&mut last).await })]);
            drop(last);
            let contract = Contract { keeps: Keeps::Nothing, failures_change: true };
            scenario.history.check(&contract).assert_sound(format_args!("{name}, {over}: {turns}"));
        });
        println!("{name} over {over}: {schedules} schedules");
        assert!(schedules > 1, "{name} over {over}: nothing to choose");
    }
}

impl Scenario {
    fn recorder(&self) -> Recorder {
        self.history.recorder()
    }

    async fn get(&self, recorder: &mut Recorder) {
        let call = recorder.begin(Act::Get(KEY));
        let found = match self.engine.hit(&KEY) {
            Some(value) => Some(value),
            None => self.engine.get::<Tokio>(&KEY).await.unwrap(),
        };
        recorder.end_with(call, found.as_ref().map(String::as_bytes));
    }

    /// Loads with a loader that waits `turns` times, and then fails if `fails`.
    async fn load(&self, turns: usize, fails: bool) {
        let mut recorder = self.recorder();
        let call = recorder.begin(Act::Load(KEY));
        let stamp = recorder.stamp(KEY);
        let mark = recorder.loader(call, stamp);
        let loader = || async move {
            mark.begins();
            self.loads.set(self.loads.get() + 1);
            let _running = Running::new(&self.running);
            for _ in 0..turns {
                turn().await;
            }
            if fails { Err(()) } else { Ok(stamp.text(20)) }
        };
        let loaded = self.engine.try_get_with::<Tokio, (), _, _>(KEY, loader).await;
        match loaded {
            Ok(value) => recorder.end_with(call, Some(value.as_bytes())),
            Err(_) => recorder.end(call, Answer::Failed),
        }
    }

    async fn insert(&self) {
        let mut recorder = self.recorder();
        let stamp = recorder.stamp(KEY);
        let call = recorder.begin(Act::Insert(stamp));
        let done = self.engine.insert::<Tokio>(KEY, stamp.text(20), EntryOptions::new()).await;
        recorder.end_done(call, &done);
    }

    async fn remove(&self) {
        let mut recorder = self.recorder();
        let call = recorder.begin(Act::Remove(KEY));
        recorder.end_done(call, &self.engine.remove::<Tokio>(&KEY).await);
    }

    async fn clear(&self) {
        let mut recorder = self.recorder();
        let call = recorder.begin(Act::Clear);
        recorder.end_done(call, &self.engine.clear::<Tokio>().await);
    }

    async fn read_twice(&self) {
        let mut recorder = self.recorder();
        self.get(&mut recorder).await;
        turn().await;
        self.get(&mut recorder).await;
    }
}

/// Counts running loaders. A dropped loader leaves the count.
struct Running<'a>(&'a Cell<usize>);

impl<'a> Running<'a> {
    fn new(count: &'a Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[test]
fn three_concurrent_loads_run_one_loader() {
    check("three loads", |scene, scenario| {
        scene.play((0..3).map(|_| Task::new(scenario.load(2, false))).collect());
        assert_eq!(scenario.loads.get(), 1, "{scene}");
    });
}

#[test]
fn change_during_two_loads_and_a_reader_is_sound() {
    type Change = (&'static str, for<'a> fn(&'a Scenario) -> Task<'a>);
    let changes: [Change; 3] = [
        ("insert", |scenario| Task::new(scenario.insert())),
        ("remove", |scenario| Task::new(scenario.remove())),
        ("clear", |scenario| Task::new(scenario.clear())),
    ];
    for (name, change) in changes {
        check(name, |scene, scenario| {
            let loads = || Task::new(scenario.load(2, false));
            scene.play(vec![loads(), loads(), change(scenario), Task::new(scenario.read_twice())]);
        });
    }
}

#[test]
fn two_changes_during_two_loads_are_sound() {
    check("insert, remove, two loads", |scene, scenario| {
        let loads = || Task::new(scenario.load(1, false));
        scene.play(vec![loads(), loads(), Task::new(scenario.insert()), Task::new(scenario.remove())]);
    });
}

#[test]
fn callers_cancelled_at_any_point_leave_no_running_loader() {
    check("cancelled", |scene, scenario| {
        let load = || scenario.load(1, false);
        scene.play(vec![Task::mortal(load()), Task::mortal(load()), Task::new(load())]);
        assert!(scenario.loads.get() >= 1 && scenario.running.get() == 0, "{scene}");
    });
}

#[test]
fn caller_cancelled_during_a_change_is_sound() {
    check("cancelled, and an insert", |scene, scenario| {
        let load = || scenario.load(2, false);
        scene.play(vec![Task::mortal(load()), Task::new(load()), Task::new(scenario.insert())]);
    });
}

#[test]
fn failing_loads_share_the_error_and_store_nothing() {
    check("failing", |scene, scenario| {
        let loads = vec![scenario.load(1, true), scenario.load(1, true), scenario.load(1, false)];
        scene.play(loads.into_iter().map(Task::new).collect());
        assert!(scenario.loads.get() <= 3, "{scene}");
    });
}

/// The loader of each key asks for the other key. The caller that would close the cycle loads
/// without waiting.
#[test]
fn loaders_of_two_keys_that_load_each_other_finish() {
    check("a cycle", |scene, scenario| {
        let load = async |one: u64, other: u64| {
            let value = scenario.engine.get_with::<Tokio, _, _>(one, || async move {
                turn().await;
                let inner = scenario.engine.get_with::<Tokio, _, _>(other, || async { "inner".to_owned() });
                Box::pin(inner).await
            });
            value.await;
        };
        scene.play(vec![Task::new(load(2, 3)), Task::new(load(3, 2))]);
    });
}
