//! Changes and loads of a cache of memory alone, which take the short paths: a change that finds nothing in
//! progress for its key takes the lock of the store alone.

use std::sync::Arc;

use larder::{Cache, mcache};
use larder_testkit::history::{Act, Contract, History, Keeps};

use crate::director::{orders, thread};
use crate::scenario::KEY;

/// A cache with its history. Clones share one state.
#[derive(Clone)]
struct Scene {
    cache: Cache<u64, String>,
    history: Arc<History>,
}

impl Scene {
    fn new() -> Self {
        Self { cache: mcache("orders").capacity(8).build().unwrap(), history: History::new() }
    }

    fn get(&self) {
        let mut recorder = self.history.recorder();
        let call = recorder.begin(Act::Get(KEY));
        recorder.end_with(call, self.cache.get(&KEY).as_ref().map(String::as_bytes));
    }

    fn load(&self) {
        let mut recorder = self.history.recorder();
        let call = recorder.begin(Act::Load(KEY));
        let stamp = recorder.stamp(KEY);
        let mark = recorder.loader(call, stamp);
        let loaded = self.cache.get_with(KEY, || {
            mark.begins();
            shuttle::thread::yield_now();
            stamp.text(20)
        });
        recorder.end_with(call, Some(loaded.as_bytes()));
    }

    fn insert(&self) {
        let mut recorder = self.history.recorder();
        let stamp = recorder.stamp(KEY);
        let call = recorder.begin(Act::Insert(stamp));
        recorder.end_done(call, &self.cache.try_insert(KEY, stamp.text(20)));
    }

    fn remove(&self) {
        let mut recorder = self.history.recorder();
        let call = recorder.begin(Act::Remove(KEY));
        recorder.end_done(call, &self.cache.try_remove(&KEY));
    }

    fn clear(&self) {
        let mut recorder = self.history.recorder();
        let call = recorder.begin(Act::Clear);
        recorder.end_done(call, &self.cache.clear());
    }

    fn judge(self) {
        self.get();
        let contract = Contract { keeps: Keeps::Nothing, failures_change: true };
        self.history.check(&contract).assert_sound("an order of instructions");
    }
}

/// Runs two loads, a change, and reads, each in a thread.
fn change_among_loads(change: fn(&Scene)) {
    let scene = Scene::new();
    let (load, changed, reads) = (scene.clone(), scene.clone(), scene.clone());
    let load = thread(move || load.load());
    let changed = thread(move || change(&changed));
    let reads = thread(move || {
        reads.get();
        reads.get();
    });
    scene.load();
    load.join().unwrap();
    changed.join().unwrap();
    reads.join().unwrap();
    scene.judge();
}

#[test]
fn insert_at_once_during_loads_wins() {
    orders(|| change_among_loads(Scene::insert));
}

#[test]
fn remove_at_once_during_loads_wins() {
    orders(|| change_among_loads(Scene::remove));
}

#[test]
fn clear_during_loads_at_once_wins() {
    orders(|| change_among_loads(Scene::clear));
}

#[test]
fn changes_at_once_are_in_one_order() {
    orders(|| {
        let scene = Scene::new();
        let (insert, remove, clear) = (scene.clone(), scene.clone(), scene.clone());
        let insert = thread(move || {
            insert.insert();
            insert.get();
        });
        let remove = thread(move || {
            remove.remove();
            remove.get();
        });
        let clear = thread(move || clear.clear());
        scene.load();
        scene.insert();
        insert.join().unwrap();
        remove.join().unwrap();
        clear.join().unwrap();
        scene.judge();
    });
}

/// Nothing is stored after `close`, which empties memory.
#[test]
fn insert_at_once_during_close_leaves_nothing() {
    orders(|| {
        let cache = mcache::<u64, u64>("closed").capacity(8).build().unwrap();
        let (insert, load) = (cache.clone(), cache.clone());
        let insert = thread(move || insert.insert(KEY, 1));
        let load = thread(move || load.get_with(2, || 2));
        cache.close().unwrap();
        insert.join().unwrap();
        load.join().unwrap();
        assert_eq!((cache.get(&KEY), cache.get(&2)), (None, None));
    });
}
